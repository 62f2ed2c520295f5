"""profile: time and bytes by op, forward and backward, as a table and as a trace for a browser."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minigrad.debug.report import brief, noted
from minigrad.errors import CheckpointError, DTypeError, GraphError, describe
from minigrad.io.atomic import replacing
from minigrad.op import Op, registry
from minigrad.tape import Node
from minigrad.tensor import plain
from minigrad.watch import Call, Line, Watcher, in_words, modules, now, user_line, watching

__all__ = ["Event", "Profile", "Row", "profile"]


class Event(NamedTuple):
    """A call of an op ("forward") or of its rule ("backward").

    start, seconds: in seconds since the block began. line, modules: those that called the op, also for its rule.
    """

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

    allocated: bytes that forward made, results and what is kept for the rule, but for views. gradients: bytes that the
    rule made. saved: bytes that the tape keeps alive for rules, each array, with all views of it, counted once, for the
    op that kept it first.
    """

    op: str
    calls: int = 0
    forward: float = 0.0
    rules: int = 0
    backward: float = 0.0
    allocated: int = 0
    gradients: int = 0
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
        self._rows: dict[type[Op], Row] = {}
        self._began: float | None = None
        self._ended: float | None = None
        self._done: dict[int, list[tuple[float, float]]] = {}  # by thread: start and seconds of what has been
        self._kept: dict[int, weakref.ref[Any]] = {}

    def __enter__(self) -> Profile:
        if self._began is not None:
            raise GraphError(
                "debug.profile",
                "a profile that has been used already",
                "one for each block",
                "write `with profile() as p:` again",
            )
        self._watching = watching(self)
        self._watching.__enter__()
        self._began = now()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._ended = now()
        self._watching.__exit__(*exc)

    @property
    def elapsed(self) -> float:
        """The seconds that the block has taken, so far."""
        return 0.0 if self._began is None else (self._ended or now()) - self._began

    @property
    def rows(self) -> tuple[Row, ...]:
        """A Row for each op, the one that took longest first."""
        return tuple(sorted(self._rows.values(), key=lambda row: -row.seconds))

    @property
    def total(self) -> Row:
        """The sum of all rows."""
        total = Row("total")
        for row in self._rows.values():
            for key in vars(total).keys() - {"op"}:
                setattr(total, key, getattr(total, key) + getattr(row, key))
        return total

    # While it runs

    def called(self, op: Any, args: Sequence[Any], arrays: Sequence[Any], t: Any, began: float, ended: float) -> None:
        out, node = t._data, t._node
        call = Call(user_line(), modules=in_words(modules.get())) if node is None else noted(node)
        row = self._note(op, "forward", began, ended, (*map(np.shape, arrays), out.shape), call)
        row.calls += 1
        made = [out]
        if node is not None:
            row.saved += sum(map(self._keep, (*_arrays(node.saved), *_arrays(getattr(node, "inputs", None)))))
            if op.keeps in op.asks:
                made += _arrays(node.saved[op.asks.index(op.keeps)])
        row.allocated += _made(made, arrays)

    def after_rule(self, node: Node, dout: Any, grads: Sequence[Any], began: float, ended: float) -> None:
        call = getattr(node, "call", None) or Call(None)
        row = self._note(node.op, "backward", began, ended, (node.shape,), call)
        row.rules += 1
        made = [plain(g) for g, parent in zip(grads, node.parents, strict=True) if g is not None and parent is not None]
        row.gradients += _made(made, (plain(dout), *_arrays(node.saved)))

    def _note(
        self, op: Op, direction: str, began: float, ended: float, shapes: tuple[tuple[int, ...], ...], call: Call
    ) -> Row:
        """Writes an event down, and its own seconds into its row."""
        thread, seconds = threading.get_ident(), ended - began
        done = self._done.setdefault(thread, [])
        own = seconds
        while done and done[-1][0] >= began:
            own -= done.pop()[1]
        self.events.append(
            Event(op, direction, began - (self._began or 0.0), seconds, thread, shapes, call.line, call.modules)
        )
        row = self._rows.setdefault(type(op), Row(_name(op)))
        if direction == "forward":
            row.forward += max(own, 0.0)
        else:
            row.backward += max(own, 0.0)
        if len(done) > 10_000:  # those before can hardly be parts of an op that still runs
            del done[:5_000]
        done.append((began, now() - began))  # with the time of those who look on, which is no op's either
        return row

    def _keep(self, value: np.ndarray[Any, Any]) -> int:
        """The bytes of an array that is kept now and was not before, by itself or as a view."""
        root = _root(value)
        key = id(root)
        known = self._kept.get(key)
        if known is not None and known() is root:
            return 0
        self._kept[key] = weakref.ref(root, lambda ref: self._kept.get(key) is ref and self._kept.pop(key))
        return root.nbytes

    # Afterwards

    def __str__(self) -> str:
        total = self.total
        table: list[tuple[str, ...]] = [
            ("op", "calls", "forward", "rules", "backward", "total", "share", "allocated", "gradients", "saved")
        ]
        for r in (*self.rows, total):
            share = f"{r.seconds / total.seconds:.0%}" if total.seconds else ""
            times = (_seconds(r.forward), str(r.rules), _seconds(r.backward), _seconds(r.seconds))
            table.append((r.op, str(r.calls), *times, share, *map(_bytes, (r.allocated, r.gradients, r.saved))))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in table]
        return "\n".join([*lines, f"{_seconds(self.elapsed)} in all, with what is done between ops"])

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
                    "name": _name(e.op) + (".backward" if e.direction == "backward" else ""),
                    "cat": e.direction,
                    "ph": "X",
                    "ts": round(e.start * 1e6, 3),
                    "dur": round(e.seconds * 1e6, 3),
                    "pid": pid,
                    "tid": threads[e.thread],
                    "args": {
                        "op": brief(e.op),
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


def profile() -> Profile:
    """Within, the time and the bytes of every op and rule are written down: `with profile() as p`, then print(p).

    For this thread or asyncio task, and tasks that are begun within, as long as the block runs. Each call costs some
    10 us, which are not counted as an op's (a step of the book's network on 100 digits takes 1.4 times as long), and
    some hundred bytes until p is dropped. GraphError for a second block with the same p.

    >>> import minigrad as mg
    >>> x = mg.Tensor(np.ones((100, 100)), requires_grad=True)
    >>> with profile() as p:
    ...     mg.exp(x).sum().backward()
    >>> [(row.op, row.calls, row.rules, row.allocated) for row in sorted(p.rows, key=lambda row: row.op)]
    [('exp', 1, 1, 80000), ('sum', 1, 1, 8)]
    """
    return Profile()


def _name(op: Op) -> str:
    """The op's name; for a user's own that has the name of one of the package's, its class."""
    cls = type(op)
    return f"{cls.__module__}.{cls.__qualname__}" if op.outside and op.name in _names() else op.name


@cache
def _names() -> frozenset[str]:
    return frozenset(cls.name for cls in registry())


def _arrays(values: Any) -> list[np.ndarray[Any, Any]]:
    """The arrays among values, which may be in tuples."""
    if isinstance(values, tuple):
        return [array for value in values for array in _arrays(value)]
    return [values] if isinstance(values, np.ndarray) else []


def _root(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array whose memory this one looks at; a stretched one may look at it through a dummy of NumPy's."""
    while array.base is not None:
        base = array.base if isinstance(array.base, np.ndarray) else getattr(array.base, "base", None)
        if not isinstance(base, np.ndarray):
            break
        array = base
    return array


def _made(made: Sequence[Any], given: Sequence[Any]) -> int:
    """The bytes of the arrays that look at no memory of those given, each once."""
    known = {id(_root(a)) for a in given if isinstance(a, np.ndarray)}
    new = {id(root): root.nbytes for root in map(_root, made) if id(root) not in known}
    return sum(new.values())


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
