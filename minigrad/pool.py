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

__all__ = ["empty", "keep_freed_memory"]

_LARGE = 2**25  # bytes from which on glibc asks the system for each block, whatever it is told
_MOST = 2**28  # bytes that are kept in such blocks, at most
_KEPT = 2**30  # bytes of smaller ones that glibc is told to keep, or an eighth of the machine's memory

_blocks: list[np.ndarray[Any, Any]] = []
_taking = threading.Lock()


def _new_lock() -> None:
    global _taking
    _taking = threading.Lock()


if hasattr(os, "register_at_fork"):  # a child that is forked while the lock is held must not wait for it
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
    if n < _LARGE or n > _MOST:
        return np.empty(shape, dtype)
    with _taking:
        for i in range(len(_blocks)):
            if _blocks[i].nbytes == n and sys.getrefcount(_blocks[i]) == _ALONE:
                _blocks.append(_blocks.pop(i))
                break
        else:
            _blocks.append(np.empty(n, np.uint8))
            while sum(block.nbytes for block in _blocks) > _MOST:
                del _blocks[0]  # the one that was asked for longest ago; whoever looks at it keeps it alive
        return _blocks[-1].view(dtype).reshape(shape)


def _references() -> int:
    blocks = [np.empty(0)]
    return sys.getrefcount(blocks[0])


_ALONE = _references()  # the list's own, and the call's


def keep_freed_memory() -> None:
    """Tell glibc to keep up to 1 GB that has been freed, or an eighth of the machine's memory if that is less.

    It would keep 64 MB. Large arrays, of 32 MB or more, still go back at once. The environment variable
    MALLOC_TRIM_THRESHOLD_, which glibc reads, or its GLIBC_TUNABLES have precedence; elsewhere nothing is done.

    >>> keep_freed_memory()
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    try:
        import ctypes  # NumPy has loaded it

        mallopt = ctypes.CDLL(None).mallopt
        most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8
        mallopt(-3, _LARGE)  # M_MMAP_THRESHOLD, which glibc would otherwise leave where it is from now on
        mallopt(-1, min(_KEPT, most))  # M_TRIM_THRESHOLD
    except (ImportError, OSError, AttributeError, TypeError, ValueError):
        return  # another allocator, which has its own ways
