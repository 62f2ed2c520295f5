"""Sums of arrays, of many rows in blocks, and the gradient of broadcasting."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.standin import Standin

__all__ = ["add_up", "ones", "unbroadcast"]

# NumPy adds row to row, and the rounding grows with their number: 2 * 10**6 times 0.1 is 1.5 % off in float32. Blocks
# of 64 rows stay within 1e-6. Of 10 to 1000 columns 1000 rows take 0.7 to 1.15 times as long, 10**5 rows 0.1 to 1.1.
_FEW, _BLOCK = 128, 64
_FEW_WIDE = 4096  # of float64, which has digits to spare: 1000 rows of 1000 would take 1.3 times as long
_WIDE = 1024  # Entries that are added in one go, of several short rows
# A product with ones adds several rows at a time: 100 rows of 50 take 0.4 times as long, with a smaller error. Not for
# more entries: BLAS would put several threads to work on them, and the last bits depend on how many.
_PRODUCT = 8192
_add: Any = np.add.reduce  # np.sum's own core, at half its overhead; Any, for its overloads know no `bool`


@lru_cache(64)
def ones(n: int, size: int) -> Any:
    """n ones, floats of so many bytes, that nobody may write into."""
    array = np.ones(n, f"f{size}")
    array.flags.writeable = False
    return array


def add_up(x: Any, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False, dtype: Any = None) -> Any:
    """The sum of an array over axis, the rows in blocks; float16 is added in float32 and rounded once.

    dtype: of the result. The same bits for the same shape and layout.

    >>> x = np.full((3000, 2), 0.1, np.float16)
    >>> add_up(x, 0), np.sum(x, axis=0)
    (array([300., 300.], dtype=float16), array([256., 256.], dtype=float16))
    """
    half = x.itemsize == 2
    if x.dtype.kind != "f" or (axis is None and x.flags.forc and not half):  # NumPy adds neighbours pairwise
        return _add(x, axis, dtype, None, keepdims)
    shape, n = x.shape, 1
    if len(shape) == 2 and axis in (0, (0,)) and not half and dtype is None and not keepdims:
        out = _rows(x, *shape)
        if out is not None:
            return out
    axes = axis if isinstance(axis, tuple) else range(x.ndim) if axis is None else (axis,)
    try:
        for i in axes:
            n *= shape[i]
    except (IndexError, TypeError):
        n = 0  # no axes of x: NumPy says so below
    if n > (_FEW if x.itemsize < 8 else _FEW_WIDE) and x.size and not (len(axes) == x.ndim and x.flags.forc):
        out = _by_blocks(x, tuple(i % x.ndim for i in axes), keepdims, np.float32 if half else None)
    else:
        out = _add(x, axis, np.float32 if half else None, None, keepdims)
    if half or dtype is not None:
        out = out.astype(x.dtype if dtype is None else dtype, copy=False)
    return out


def _rows(x: Any, n: int, width: int) -> Any:
    """The sum of the rows of a matrix of float32 or float64, as products with ones; None where that does not pay."""
    if not x.flags.forc or not 2 <= n <= _PRODUCT // 2 or not 1 <= width <= _PRODUCT // _BLOCK or x.itemsize > 8:
        return None
    if n <= _FEW and n * width <= _PRODUCT:
        return ones(n, x.itemsize) @ x
    if n < _BLOCK:
        return None
    whole = n - n % _BLOCK
    parts = ones(_BLOCK, x.itemsize) @ x[:whole].reshape(-1, _BLOCK, width)
    out = _add(parts, 0)
    if whole < n:
        out += ones(n - whole, x.itemsize) @ x[whole:]
    return out


def _by_blocks(x: Any, axes: tuple[int, ...], keepdims: bool, dtype: Any) -> Any:
    """x summed over axes; dtype: to add in."""
    tails: list[Any] = []
    while True:
        # Axes which lie close together in memory are added at once, up to the axis with which they become too many.
        inner: list[int] = []
        r, width = 1, x.itemsize
        for i in sorted([i for i in axes if x.shape[i] > 1], key=lambda i: abs(x.strides[i])):
            n = x.shape[i]
            if abs(x.strides[i]) != width:  # neighbours: pairwise, however many they are
                if r * n > _FEW:
                    break
                r *= n
            inner.append(i)
        else:
            out = _add(x, axis=axes, keepdims=keepdims, dtype=dtype)
            return sum(tails, out)
        # Axis i as (p, b, q): p blocks of b lines that are added, a line being q rows.
        b, q = max(1, _BLOCK // r), 1
        if not inner:
            q = n // b
            q //= -(-q // max(1, _WIDE * n // x.size))
        whole = n - n % (b * q)
        before, shape = (slice(None),) * i, x.shape
        if whole < n:
            tails.append(_by_blocks(x[(*before, slice(whole, None))], axes, keepdims, dtype))
        blocks = x[(*before, slice(whole))].reshape(*shape[:i], -1, b, q, *shape[i + 1 :])
        blocks = _add(blocks, axis=(i + 1, *(j + 2 * (j > i) for j in inner)), keepdims=True, dtype=dtype)
        x = blocks.reshape([-1 if j == i else 1 if j in inner else n for j, n in enumerate(shape)])


def _is_array(g: Any) -> bool:
    return isinstance(g, (np.ndarray, Standin))


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of broadcasting to g.shape: g summed over the stretched axes, to `shape`; g itself if there is none.

    Raises ValueError for a shape that does not broadcast to g.shape.

    >>> unbroadcast(np.ones((4, 3)), (3,))
    array([4., 4., 4.])
    """
    wide: tuple[int, ...] = g.shape
    if wide == shape:
        return g
    if len(wide) == 2 and wide[1:] == shape and g.dtype.char in "fd" and _is_array(g):
        out = _rows(g, *wide)
        if out is not None:
            return out
    extra = len(wide) - len(shape)
    axes = tuple(range(extra))
    if wide[extra:] != shape:  # not a bias, with its one axis or more
        for i, n in enumerate(shape, extra):
            if i < 0 or n not in (1, wide[i]):
                raise ValueError(f"an array of shape {shape} does not broadcast to {wide}")
            if n != wide[i]:
                axes += (i,)
    g = add_up(g, axes) if _is_array(g) else g.sum(axis=axes)
    return g if g.shape == shape else np.reshape(g, shape)
