"""Softmax and what is built on it, row by row: float64 inside, so that float32 results are rounded once.

Rows are worked on in blocks that stay in the cache, on several threads where there are many; they record nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad.ops.kernels import either, floats, masked
from minigrad.standin import whole
from minigrad.sums import ones
from minigrad.threads import spread

__all__ = [
    "BLOCK",
    "ONE",
    "by_blocks",
    "dots",
    "log_softmax_gradient",
    "log_softmax_values",
    "of_rows",
    "row_sums",
    "shifted_exp",
    "silent",
    "softmax_gradient",
    "softmax_of",
    "softmax_values",
    "times",
    "totals",
    "without_winner",
]

# Underflow to 0 is the right answer, and inf - inf is nan, as it should be. As a decorator: entered anew at each call,
# once around all of what follows, since each time costs as much as an operation on 1000 numbers.
silent = np.errstate(under="ignore", invalid="ignore")

ONE = np.ones(())  # r + ONE is r + 1 without 0.3 us for the conversion of 1, of 0.7 for 100 numbers

BLOCK = 65536  # Entries worked on at a time, 512 KB of float64: half of a second-level cache
_THREADS = 2**18  # entries from which on several threads pay


def by_blocks(
    task: Callable[[Iterator[slice]], Any], n: int, size: int, block: int = BLOCK, row: int | None = None
) -> None:
    """task on n things of this size, in blocks of about so many entries, as in threads.spread.

    row: how many entries in one row have the same number broadcast to them, `size` by default. What is broadcast to
    rows that are shorter than its buffer NumPy copies, which takes as long as the operation itself; longer rows it
    works on one by one. So the buffer is made small while they are under way.
    """
    with np.errstate():
        row = size if row is None else row
        if row > 256:
            np.setbufsize(512 if row > 512 else 256)
        size = max(size, 1)
        spread(task, n, max(1, block // size), least=-(-_THREADS // size))


_FEW = 8192  # BLAS would put several threads to work on more entries, and the last bits depend on how many


def totals(x: Any) -> Any:
    """The sum of each row of x, (N, C), as a product with ones: 2 to 5 times as fast as a sum."""
    classes = x.shape[1]
    if classes > _FEW:
        return np.add.reduce(x, axis=1)
    one = ones(classes, x.itemsize)
    return x @ one if x.size <= _FEW else np.vecdot(x, one)


def dots(x: Any, y: Any) -> Any:
    """The sum of each row of x * y."""
    return np.vecdot(x, y) if x.shape[1] <= _FEW else np.add.reduce(x * y, axis=1)


def _winners(x: Any) -> Any:
    """Where in x.reshape(-1) the first of the largest entries of each row is."""
    return np.arange(0, x.size, x.shape[1]) + x.argmax(axis=1)


def shifted_exp(x: Any, top: Any, *, over: bool = False) -> tuple[Any, Any]:
    """(x - top, exp(x - top)) for top >= x, both in float64 and C-contiguous. over: the first may be lost.

    The difference of two float64 is rounded, by up to |x - top| / 2 units in the last place of its exponential;
    what the rounding left out is known exactly (Knuth, The Art of Computer Programming, 4.2.2) and put back. The
    difference of two float32 has no such error in float64.
    """
    if x.itemsize < 8:
        z = x.astype(np.float64, order="C")
        z -= top
        return z, np.exp(z, out=z) if over else np.exp(z)
    z = np.subtract(x, top, order="C")
    b = z - x
    lost = (x - (z - b)) - (top + b)
    e = np.exp(z)
    e += e * masked(lost, np.isfinite(lost))
    return z, e


def without_winner(x: Any, *, over: bool = False) -> tuple[Any, Any, Any, Any]:
    """(x - max, exp(x - max) with 0 at the winner, r = its sum, where the winner is) of rows x, in float64.

    The winner, the first of the largest entries, is left out of the sum: 1 + r is the softmax's denominator, and
    log1p(r), r / (1 + r) keep all digits when r is far below 1. Where: an index into the flat array. over: as above.
    """
    at_top = _winners(x)
    z, e = shifted_exp(x, x.reshape(-1)[at_top][:, None], over=over)
    e.reshape(-1)[at_top] = 0
    return z, e, totals(e) if x.itemsize < 8 else np.add.reduce(e, axis=1), at_top


def row_sums(p: Any) -> Any:
    """The sum of each row of p, (N, C) without negative entries, rounded once.

    Each entry is split at a power of two relative to the row's sum: the high parts add up without error, and
    the low parts are too small for theirs to be seen. NumPy's own sum is off by 2 to 3 units in the last place.
    """
    roughly = np.add.reduce(p, axis=1)
    split = np.ldexp(1.0, np.minimum(np.frexp(roughly)[1] + 24, 1023))[:, None]
    high = p + split
    high -= split
    return np.add.reduce(high, axis=1) + np.add.reduce(p - high, axis=1)


@silent
def of_rows(block: Callable[..., Any], axis: int, *arrays: Any) -> Any:
    """block on the rows of arrays along axis, all of one shape: block(*rows, out), out being None or to be filled."""
    x = arrays[0]
    last = x.ndim - 1
    if not ~last <= axis <= last:
        raise np.exceptions.AxisError(axis, x.ndim)
    axis %= x.ndim
    if axis != last:
        arrays = tuple(np.moveaxis(a, axis, -1) for a in arrays)
    shape = arrays[0].shape
    if len(shape) != 2:
        arrays = tuple(a.reshape(x.size // max(shape[-1], 1), shape[-1]) for a in arrays)
    out = block(*arrays, None) if x.size <= BLOCK else whole(_of_blocks, block, *arrays)
    out = out if len(shape) == 2 else out.reshape(shape)
    return out if axis == last else np.moveaxis(out, -1, axis).copy()


def _of_blocks(block: Callable[..., Any], *arrays: Any) -> Any:
    out = np.empty(arrays[0].shape, arrays[-1].dtype)

    def task(parts: Iterator[slice]) -> None:
        for part in parts:
            block(*[a[part] for a in arrays], out[part])

    by_blocks(task, *out.shape)
    return out


def times(e: Any, factor: Any, dtype: Any, out: Any) -> Any:
    """e * factor, a number for each row, in dtype; e is used up."""
    if out is not None:
        return np.multiply(e, factor[:, None], out=out, casting="same_kind")
    e *= factor[:, None]
    return e.astype(dtype, copy=False)


def _softmax_block(x: Any, out: Any) -> Any:
    _, e, r, at_top = without_winner(x, over=True)
    e.reshape(-1)[at_top] = 1
    r += 1
    if x.itemsize < 8:
        return times(e, np.divide(1, r, out=r), x.dtype, out)
    return np.divide(e, r[:, None], out=e if out is None else out)


def softmax_values(x: Any, axis: int) -> Any:
    """exp(x) / sum(exp(x)) over axis."""
    return of_rows(_softmax_block, axis, floats(x))


def _log_softmax_block(x: Any, out: Any) -> Any:
    z, _, r, _ = without_winner(x)
    r = np.log1p(r)[:, None]
    if out is not None:
        return np.subtract(z, r, out=out, casting="same_kind")
    z -= r
    return z.astype(x.dtype, copy=False)


def log_softmax_values(x: Any, axis: int) -> Any:
    """x - log(sum(exp(x))) over axis."""
    return of_rows(_log_softmax_block, axis, floats(x))


def _softmax_gradient_block(p: Any, dout: Any, out: Any) -> Any:
    at_top = _winners(p)
    rest = p.copy(order="C")
    p_top, dout_top = p.reshape(-1)[at_top], dout.reshape(-1)[at_top]
    rest.reshape(-1)[at_top] = 0
    q = totals(rest)  # 1 - p of the winner, which alone can be near 1
    s = dots(rest, dout)
    out = np.subtract(dout, (s + p_top * dout_top)[:, None], out=out, order="C")  # reshape(-1) below is to be a view
    out *= p
    out.reshape(-1)[at_top] = p_top * (dout_top * q - s)
    return out


def softmax_gradient(dout: Any, out: Any, axis: int) -> Any:
    """out * (dout - sum(dout * out)), with the winner's terms apart so that none is lost beside them."""
    return of_rows(_softmax_gradient_block, axis, out, dout)


def _log_softmax_gradient_block(x: Any, dout: Any, out: Any) -> Any:
    _, e, r, at_top = without_winner(x, over=True)
    rest = dout.copy(order="C")
    dout_top = dout.reshape(-1)[at_top]
    rest.reshape(-1)[at_top] = 0
    others = totals(rest)
    d = r + 1
    out = times(e, (others + dout_top) / d, x.dtype, out)
    np.subtract(dout, out, out=out)
    out.reshape(-1)[at_top] = dout_top * (r / d) - others / d  # dout's own term is in the sum once, as dout * (1 - p)
    return out


def log_softmax_gradient(dout: Any, x: Any, axis: int) -> Any:
    """dout - softmax(x) * sum(dout), with the winner's terms apart so that none is lost beside them."""
    return of_rows(_log_softmax_gradient_block, axis, floats(x), dout)


softmax_of = either("softmax", softmax_values)
