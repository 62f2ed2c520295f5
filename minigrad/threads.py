"""Threads: large arrays are worked on block by block, on several cores where that pays.

NumPy lets go of the interpreter lock inside its loops, so blocks of one array can be worked on at the same time.
The blocks are the same however many threads take them, and each is the work of one: results are too, to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from threading import Lock, Semaphore
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, describe

__all__ = ["get_num_threads", "set_num_threads", "spread"]

_limit: int | None = None  # None: nobody has asked yet
_pool: Any = None  # a ThreadPoolExecutor from the first task that is spread; concurrent.futures is imported only then


def set_num_threads(n: int) -> None:
    """From now on at most n threads, the calling one among them, share the work on one large array.

    n: a whole number, 1 or more, for the whole process; 1 means that no other thread works. At first it is the
    number in the environment variable MINIGRAD_NUM_THREADS, else in OMP_NUM_THREADS, else that of the cores which the
    process may use. Results are the same bits for any n. Matrix products are not meant: their threads are
    BLAS's own, and the last bits may depend on how many they are; OPENBLAS_NUM_THREADS or MKL_NUM_THREADS in the
    environment sets that, or the package threadpoolctl. Raises ArgumentError for anything but such a number.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    global _limit, _pool
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1:
        raise _no_number("set_num_threads: n", n)
    _limit, _pool = int(n), None  # the threads of a pool that nobody holds end when they have nothing left to do


def get_num_threads() -> int:
    """How many threads at most share the work on one large array.

    Raises ArgumentError where it is to be read from MINIGRAD_NUM_THREADS, and that is not a whole number from 1 on.

    >>> get_num_threads() >= 1
    True
    """
    global _limit
    if _limit is None:
        _limit = _at_first()
    return _limit


def _at_first() -> int:
    """The number that holds before anybody sets one."""
    own = os.environ.get("MINIGRAD_NUM_THREADS", "").strip()
    if own:
        if not own.isdecimal() or int(own) < 1:
            raise _no_number("the environment variable MINIGRAD_NUM_THREADS", own)
        return int(own)
    others = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # "4,2": of outer loops, then of inner ones
    if others.isdecimal() and int(others):
        return int(others)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _no_number(where: str, n: Any) -> ArgumentError:
    got = n.item() if isinstance(n, np.generic) else n
    return ArgumentError(
        where, describe(got), "a number of threads, whole and 1 or more", "set it to 1 for no thread beside your own"
    )


def spread(task: Callable[[Iterator[slice]], object], n: int, block: int, *, least: int) -> None:
    """Have task work on range(n) in blocks of `block`, on several threads if n is `least` or more.

    task is called once on each thread that takes part, with the blocks that this thread is to work on, as slices:
    what it makes before its loop, such as buffers, serves them all. Which thread takes which block is left to chance,
    so what comes of a block must not depend on others. NumPy's error state, like every context variable, is the
    caller's. Where task raises, blocks that are not begun stay undone, and the exception is raised here.

    >>> x, out = list(range(10)), [0] * 10
    >>> def square(parts):
    ...     for part in parts:
    ...         out[part] = [i * i for i in x[part]]
    >>> spread(square, 10, 4, least=5)
    >>> out
    [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
    """
    todo = [slice(start, min(start + block, n)) for start in range(0, n, block)]
    limit = get_num_threads() if n >= least else 1
    helpers = min(limit, len(todo)) - 1
    if helpers < 1:
        task(iter(todo))
        return
    todo.reverse()
    shared = _Shared(task, todo)
    with suppress(RuntimeError, ImportError):  # no new threads while the interpreter ends, or none left in the system
        pool = _threads(limit - 1)
        for _ in range(helpers):
            pool.submit(copy_context().run, shared.help)
    try:
        _take_part(task, todo)
    finally:
        shared.close()
    if shared.errors:
        raise shared.errors[0]


class _Shared:
    """A task and the threads that help with it.

    The futures of a pool do not tell who they are: where no thread can be started, submit raises, and has queued its
    work all the same, which a thread that becomes idle then takes up.
    """

    __slots__ = ("begun", "ended", "errors", "lock", "work")

    def __init__(self, task: Callable[[Iterator[slice]], object], todo: list[slice]) -> None:
        self.work: Any = (task, todo)  # None: closed
        self.lock, self.begun, self.ended = Lock(), 0, Semaphore(0)
        self.errors: list[BaseException] = []

    def help(self) -> None:
        """Take part, unless that is too late."""
        with self.lock:
            work = self.work
            if work is None:
                return
            self.begun += 1
        try:
            _take_part(*work)
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.ended.release()

    def close(self) -> None:
        """Wait for those that have begun, and for no others: all threads may be waiting like this one."""
        with self.lock:
            self.work = None
        for _ in range(self.begun):
            self.ended.acquire()


def _take_part(task: Callable[[Iterator[slice]], object], todo: list[slice]) -> None:
    """Runs task on blocks of todo, the last first, as long as there are any; several threads do so at once."""
    try:
        task(_taken(todo))
    finally:
        todo.clear()  # after an exception the others stop too


def _taken(todo: list[slice]) -> Iterator[slice]:
    while True:
        try:
            part = todo.pop()
        except IndexError:
            return
        yield part


def _threads(n: int) -> Any:
    """The pool, of n threads if it is made now. A thread starts with the first work that no idle one is there for."""
    global _pool
    pool = _pool
    if pool is None:
        from concurrent.futures import ThreadPoolExecutor

        _pool = pool = ThreadPoolExecutor(n, "minigrad")
    return pool


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
