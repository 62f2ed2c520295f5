"""profile: time and bytes by op, forward and backward, as a table and as a trace for a browser."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minigrad.debug.report import Step
from minigrad.errors import CheckpointError, DTypeError, describe
from minigrad.io.atomic import replacing
from minigrad.op import Op
from minigrad.tape import Node
from minigrad.watch import Line, Watcher, modules, now, user_line, watching

__all__ = ["Event", "Profile", "Row", "profile"]


class Event(NamedTuple):
    """A call of an op ("forward") or of its rule ("backward"). start, seconds: in seconds since the block began."""

    op: Op
    direction: str
    start: float
    seconds: float
    thread: int
    shapes: tuple[tuple[int, ...], ...]
    line: Line | None
    modules: tuple[str, ...]


@dataclass
class Row:
    """What an op has cost: calls and seconds forward, calls of its rule and seconds backward, bytes.

    allocated: bytes of results, but for views. saved: bytes of the arrays that the tape keeps for rules, each array
    counted once, for the op that kept it first.
    """

    op: str
    calls: int = 0
    forward: float = 0.0
    rules: int = 0
    backward: float = 0.0
    allocated: int = 0
    saved: int = 0

    @property
    def seconds(self) -> float:
        """forward + backward."""
        return self.forward + self.backward


class Profile(Watcher):
    """What `profile` gives: rows by op, events, a table (print it), a trace.

    An op that calls others is not counted twice: seconds are an op's own, without those of ops called within it.

    >>> import minigrad as mg
    >>> with profile() as p:
    ...     _ = mg.exp(np.ones(4))
    >>> [row.op for row in p.rows], p.total.calls
    (['exp'], 1)
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._rows: dict[str, Row] = {}
        self._began = self._ended = now()
        self._done: dict[int, list[tuple[float, float]]] = {}  # by thread: start and seconds of what has been
        self._kept: dict[int, weakref.ref[Any]] = {}
        self._words: dict[tuple[int, int], tuple[Any, Any, str]] = {}

    @property
    def rows(self) -> tuple[Row, ...]:
        """A Row for each op, the one that took longest first."""
        return tuple(sorted(self._rows.values(), key=lambda row: -row.seconds))

    @property
    def total(self) -> Row:
        """The sum of all rows."""
        rows = self._rows.values()
        return Row(
            "total",
            sum(r.calls for r in rows),
            sum(r.forward for r in rows),
            sum(r.rules for r in rows),
            sum(r.backward for r in rows),
            sum(r.allocated for r in rows),
            sum(r.saved for r in rows),
        )

    # While it runs

    def called(self, op: Any, args: Sequence[Any], arrays: Sequence[Any], t: Any, began: float, ended: float) -> None:
        shapes = (*(np.shape(a) for a in arrays), t._data.shape)
        row = self._note(op, "forward", began, ended, shapes)
        row.calls += 1
        out = t._data
        if out.base is None or not any(isinstance(a, np.ndarray) and np.may_share_memory(out, a) for a in arrays):
            row.allocated += out.nbytes
        if t._node is not None:
            row.saved += sum(map(self._keep, (*(t._node.saved or ()), *(getattr(t._node, "inputs", None) or ()))))

    def after_rule(self, node: Node, dout: Any, grads: Sequence[Any], began: float, ended: float) -> None:
        self._note(node.op, "backward", began, ended, (node.shape,)).rules += 1

    def _note(self, op: Op, direction: str, start: float, end: float, shapes: tuple[tuple[int, ...], ...]) -> Row:
        """Writes an event down, and its own seconds into its row."""
        thread, seconds = threading.get_ident(), end - start
        done = self._done.setdefault(thread, [])
        own = seconds
        while done and done[-1][0] >= start:
            own -= done.pop()[1]
        self.events.append(
            Event(op, direction, start - self._began, seconds, thread, shapes, user_line(), self._running())
        )
        row = self._rows.setdefault(op.name, Row(op.name))
        if direction == "forward":
            row.forward += max(own, 0.0)
        else:
            row.backward += max(own, 0.0)
        if len(done) > 10_000:  # those before can hardly be parts of an op that still runs
            del done[:5_000]
        done.append((start, now() - start))  # with the time of this method, which is no op's either
        return row

    def _keep(self, value: Any) -> int:
        """The bytes of an array that is kept now and was not before."""
        if isinstance(value, tuple):
            return sum(map(self._keep, value))
        if not isinstance(value, np.ndarray):
            return 0
        root = value
        while isinstance(root.base, np.ndarray):
            root = root.base
        key = id(root)
        known = self._kept.get(key)
        if known is not None and known() is root:
            return 0
        self._kept[key] = weakref.ref(root, lambda ref: self._kept.get(key) is ref and self._kept.pop(key))
        return value.nbytes

    def _running(self) -> tuple[str, ...]:
        """The modules that run, outermost first: "Sequential", "0: Linear"."""
        running = modules.get()
        words = [type(module).__name__ for module in running]
        for i in range(1, len(running)):
            key = id(running[i - 1]), id(running[i])
            if key not in self._words:
                found = (name for name, child in running[i - 1].named_modules() if child is running[i])
                name = next(found, "")
                # With the modules, so that their ids stay theirs.
                self._words[key] = running[i - 1], running[i], f"{name}: {words[i]}" if name else words[i]
            words[i] = self._words[key][2]
        return tuple(words)

    # Afterwards

    def __str__(self) -> str:
        total = self.total
        table = [("op", "calls", "forward", "rules", "backward", "total", "share", "allocated", "saved")]
        for r in (*self.rows, total):
            share = f"{r.seconds / total.seconds:.0%}" if total.seconds else ""
            times = (_seconds(r.forward), str(r.rules), _seconds(r.backward), _seconds(r.seconds))
            table.append((r.op, str(r.calls), *times, share, _bytes(r.allocated), _bytes(r.saved)))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in table]
        return "\n".join([*lines, f"{_seconds(self._ended - self._began)} in all, with what is done between ops"])

    def to_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Writes the events as JSON for chrome://tracing or https://ui.perfetto.dev, whole or not at all.

        path: of the file. Raises DTypeError for what is no path, CheckpointError for one that cannot be written to.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise DTypeError(
                "Profile.to_chrome_trace: path", describe(path), "a path", 'write "trace.json", for example'
            )
        pid = os.getpid()
        threads = {thread: i for i, thread in enumerate(dict.fromkeys(event.thread for event in self.events))}
        events: list[dict[str, Any]] = [
            {"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": {"name": "minigrad"}}
        ]
        for e in sorted(self.events, key=lambda e: (e.thread, e.start, -e.seconds)):
            events.append(
                {
                    "name": e.op.name if e.direction == "forward" else f"{e.op.name}.backward",
                    "cat": e.direction,
                    "ph": "X",
                    "ts": round(e.start * 1e6, 3),
                    "dur": round(e.seconds * 1e6, 3),
                    "pid": pid,
                    "tid": threads[e.thread],
                    "args": {
                        "op": Step.of(e.op, (), None).text,
                        "shapes": " ".join(map(str, e.shapes)),
                        "line": "" if e.line is None else str(e.line),
                        "module": " > ".join(e.modules),
                    },
                }
            )
        text = json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, allow_nan=False)
        try:
            with replacing(os.fspath(path)) as file:
                file.write(text.encode())
        except CheckpointError as error:
            where = f"Profile.to_chrome_trace: {os.fspath(path)}"
            raise CheckpointError(where, error.got, error.expected, error.fix) from error


@contextmanager
def profile() -> Iterator[Profile]:
    """Within, the time and the bytes of every op and rule are written down: `with profile() as p`, then print(p).

    For this thread or asyncio task alone. Each call costs some 10 us, which are not counted as an op's (a step of the
    book's network on 100 digits takes 1.3 times as long), and some hundred bytes until p is dropped.

    >>> import minigrad as mg
    >>> x = mg.Tensor(np.ones((100, 100)), requires_grad=True)
    >>> with profile() as p:
    ...     mg.exp(x).sum().backward()
    >>> [(row.op, row.calls, row.rules, row.allocated) for row in sorted(p.rows, key=lambda row: row.op)]
    [('exp', 1, 1, 80000), ('sum', 1, 1, 8)]
    """
    p = Profile()
    try:
        with watching(p):
            yield p
    finally:
        p._ended = now()


def _seconds(value: float) -> str:
    """A time in a unit in which it has few digits."""
    for unit, size in ("s", 1.0), ("ms", 1e-3):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} us"


def _bytes(n: int) -> str:
    for unit, size in ("GB", 10**9), ("MB", 10**6), ("kB", 10**3):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} B"
