"""Looking on while operations run: what recording, pictures and the tools of `debug` stand on.

A watcher is told of every call of an op and of every rule that a walk runs, in the context (thread or asyncio task)
that it watches and in no other. While nobody watches anywhere, that costs a call of an op one look at an empty list.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from os.path import basename, dirname, sep
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "Call",
    "Line",
    "Watcher",
    "here",
    "in_words",
    "modules",
    "now",
    "tell",
    "unwatched",
    "user_line",
    "watched",
    "watchers",
    "watching",
    "within",
]

# Everybody who watches, in any context: while it is empty, nobody has to be asked.
watched: list[Watcher] = []
watchers: ContextVar[tuple[Watcher, ...]] = ContextVar("minigrad_watchers", default=())

# The modules whose forward is running, outermost first, as they are noted while somebody watches.
modules: ContextVar[tuple[Any, ...]] = ContextVar("minigrad_modules", default=())

now = perf_counter


class Watcher:
    """Somebody who looks on; each method does nothing here, and is called in the watched context.

    always: told also of the walks that graph.trace makes for itself, which touch no gradient.
    """

    always = False

    def called(self, op: Any, args: Sequence[Any], arrays: Sequence[Any], t: Any, began: float, ended: float) -> None:
        """After forward: args as the user gave them, their arrays, the result t (a Tensor), and forward's time.

        t._node is the new node, None where nothing was recorded. began, ended: seconds on the clock of `now`.
        """

    def begins(self, roots: Sequence[Any]) -> None:
        """Before a walk from these nodes."""

    def before_rule(self, node: Any, dout: Any) -> None:
        """Before a walk runs the rule of node on dout."""

    def after_rule(self, node: Any, dout: Any, grads: Sequence[Any], began: float, ended: float) -> None:
        """After it: the gradients as the rule gave them, one an argument, not yet summed to the argument's shape."""

    def at_leaf(self, node: Any, g: Any) -> None:
        """When all that flows back to a leaf has been added up to g."""


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Within, watcher is told what happens in this context, and in tasks that are begun within."""
    watchers.set((*watchers.get(), watcher))
    watched.append(watcher)
    try:
        yield
    finally:
        watched.remove(watcher)
        watchers.set(tuple(other for other in watchers.get() if other is not watcher))


def here() -> tuple[Watcher, ...]:
    """Who watches this context. A task that was begun within `watching` may outlive it, and is then watched no more."""
    return tuple(watcher for watcher in watchers.get() if watcher in watched) if watched else ()


@contextmanager
def unwatched() -> Iterator[None]:
    """Within, nobody is told but those who always are: what a tool computes is not the user's computation."""
    before = watchers.set(tuple(watcher for watcher in here() if watcher.always))
    try:
        yield
    finally:
        watchers.reset(before)


def tell(op: Any, began: Any, args: Sequence[Any], arrays: Sequence[Any], t: Any) -> None:
    """What a call of an op says when it ends and somebody, somewhere, watches. began: `now()` before forward."""
    ended = now()
    for watcher in here():
        watcher.called(op, args, arrays, t, began, ended)


@contextmanager
def within(module: Any) -> Iterator[None]:
    """Within, ops are called by this module."""
    before = modules.set((*modules.get(), module))
    try:
        yield
    finally:
        modules.reset(before)


def in_words(running: Sequence[Any]) -> tuple[str, ...]:
    """The modules that are running, outermost first: "Sequential", then "0: Linear"."""
    words = []
    for i, module in enumerate(running):
        kind = type(module).__name__
        if i:
            name = next((name for name, child in running[i - 1].named_modules() if child is module), "")
            kind = f"{name}: {kind}" if name else kind
        words.append(kind)
    return tuple(words)


class Line(NamedTuple):
    """A line of the user's own code."""

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}, in {self.function}"

    @property
    def short(self) -> str:
        """The line without its folders, for pictures that others will see."""
        return f"{basename(self.file)}:{self.number}, in {self.function}"


class Call(NamedTuple):
    """How a node was made, as `node.call` where somebody wrote it down.

    line: the user's. arrays: the values of the arguments, names: those of their tensors; both may be empty.
    modules: the modules that were running, outermost first, in words. No Tensor or Module is among all this: it may
    come to hold the node, and a circle would be freed by the collector alone.
    """

    line: Line | None
    arrays: tuple[Any, ...] = ()
    names: tuple[str | None, ...] = ()
    modules: tuple[str, ...] = ()


# NumPy's own frames, as of the error state that a walk sets, are no more the user's than this package's.
_NOT_THE_USERS = (dirname(__file__) + sep, dirname(np.__file__) + sep, "<minigrad ")


def user_line() -> Line | None:
    """The innermost line that runs now and is not of this package or of NumPy; None where there is none.

    >>> user_line().function
    '<module>'
    """
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_NOT_THE_USERS):
            return Line(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return None
