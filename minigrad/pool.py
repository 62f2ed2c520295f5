"""Memory that stays with the process, for the next training step.

What is freed would otherwise go back to the system, which hands it out again page by page, filled with zeros: a chain
of 50 ops on 2 MB each takes 2 times as long, an LSTM of 64 1.6 times.
"""

from __future__ import annotations

import os
import sys
import threading
from math import prod
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, describe

__all__ = ["empty", "keep_freed_memory"]

_LARGE = 2**25  # bytes from which on glibc asks the system for each block, whatever it is told


def _kept() -> int:
    """How many bytes stay with the process: MINIGRAD_KEEP_MB, else 256 MB or a sixteenth of the machine's memory."""
    own = os.environ.get("MINIGRAD_KEEP_MB", "").strip()
    if own:
        if not own.isdecimal() or len(own) > 9:
            raise ArgumentError(
                "the environment variable MINIGRAD_KEEP_MB",
                describe(own),
                "how many MB of freed memory to keep, a whole number",
                "set it to 0 to keep nothing, or leave it out for 256",
            )
        return int(own) << 20
    try:
        pages = os.sysconf("SC_PHYS_PAGES")  # -1 where the system does not say
        return min(2**28, pages * os.sysconf("SC_PAGE_SIZE") // 16) if pages > 0 else 2**28
    except (AttributeError, OSError, ValueError):
        return 2**28


# What glibc keeps of smaller blocks, and what is kept here: together that much. The chain above takes 120 MB, sigmoid
# of 10**7 values in float32 80.
_KEPT = _kept()
_MOST = _KEPT * 3 // 8

_blocks: list[np.ndarray[Any, Any]] = []
_taking = threading.Lock()


def _new_lock() -> None:
    global _taking
    _taking = threading.Lock()


if hasattr(os, "register_at_fork"):  # a child that is forked while the lock is held would never get it
    os.register_at_fork(after_in_child=_new_lock)


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """numpy.empty, for arrays that are made anew at each step; large ones in memory that no array uses any more.

    A block is free when only the list of blocks refers to it, since every view of an array does. Sigmoid of 10**7
    values takes 0.7 of the time, forward and backward, with its value and its slope from here.

    >>> a = empty((2**23,), np.float32)
    >>> where = a.ctypes.data
    >>> del a
    >>> empty((2**11, 2**12), np.float32).ctypes.data == where
    True
    """
    n = prod(shape) * np.dtype(dtype).itemsize
    # The lock's holder may be this very thread, where a signal's handler or a __del__ has come between.
    if n < _LARGE or n > _MOST or not _taking.acquire(blocking=False):
        return np.empty(shape, dtype)
    try:
        for i in range(len(_blocks)):
            if _blocks[i].nbytes == n and sys.getrefcount(_blocks[i]) == _ALONE:
                _blocks.append(_blocks.pop(i))
                break
        else:
            _blocks.append(np.empty(n, np.uint8))
            while sum(block.nbytes for block in _blocks) > _MOST:
                del _blocks[0]  # the one that was asked for longest ago; whoever looks at it keeps it alive
        return _blocks[-1].view(dtype).reshape(shape)
    finally:
        _taking.release()


def _references() -> int:
    blocks = [np.empty(0)]
    return sys.getrefcount(blocks[0])


_ALONE = _references()  # the list's own, and the call's


def keep_freed_memory() -> None:
    """Tell glibc to keep up to 160 MB that have been freed, or 5/8 of MINIGRAD_KEEP_MB.

    It would keep 64 MB. Large arrays, of 32 MB or more, still go back at once. The environment variable
    MALLOC_TRIM_THRESHOLD_, which glibc reads, or its GLIBC_TUNABLES have precedence; elsewhere nothing is done.

    >>> keep_freed_memory()
    """
    if not _KEPT:
        return
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    try:
        import ctypes  # NumPy has loaded it

        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, _LARGE)  # M_MMAP_THRESHOLD, which glibc would otherwise leave where it is from now on
        mallopt(-1, min(_KEPT - _MOST, 2**31 - 1))  # M_TRIM_THRESHOLD, an int
    except (ImportError, OSError, AttributeError, TypeError, ValueError):
        return  # another allocator, which has its own ways
