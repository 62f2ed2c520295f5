"""Formulas on arrays that stay accurate where the textbook's lose everything. They record nothing.

With e = exp(-|x|), which is never more than 1, nothing below overflows or cancels. Underflow to 0, or to
a subnormal number, is the right answer here and therefore silent, whatever numpy.errstate says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad.tensor import TABLE, Tensor

__all__ = [
    "floats",
    "log_sigmoid_and_slope",
    "log_softmax_values",
    "masked",
    "quiet",
    "sigmoid_and_slope",
    "sigmoid_of",
    "softmax_of",
    "softmax_values",
    "softplus_and_slope",
    "tanh_slope",
    "without_winner",
]

quiet = np.errstate(under="ignore")  # as a decorator: entered anew at each call


def floats(x: Any) -> Any:
    """x as an array of floats; integers become float64."""
    x = np.asarray(x)
    return x if x.dtype.char in "efdg" else x.astype(np.float64)


_INTEGERS = {2: np.int16, 4: np.int32, 8: np.int64}  # of the same width as a float of so many bytes
_SIGN = {size: np.iinfo(integer).min for size, integer in _INTEGERS.items()}


def masked(dout: Any, mask: Any) -> Any:
    """dout where mask holds and 0 elsewhere, also for an infinite dout, which dout * mask would turn into nan.

    dout: array or Tensor. mask: plain booleans that broadcast with it.
    """
    if isinstance(dout, Tensor) or dout.dtype.itemsize not in _INTEGERS:
        return np.where(mask, dout, 0)
    # On the bits: -True is all ones. where() mispredicts its branches on random signs, 17 times slower at 10**6.
    bits = dout.view(_INTEGERS[dout.dtype.itemsize]) & -np.asarray(mask).view(np.int8)
    return bits.view(dout.dtype)


BLOCK = 32768  # entries worked on at a time: a few buffers of that length stay in a core's second-level cache


def _blocks(*arrays: Any) -> Iterator[tuple[Any, ...]]:
    """The same stretch of each array (None stays None) and of two scratch buffers, block by block."""
    x = arrays[0]
    n = x.size
    if n <= BLOCK:
        yield *arrays, np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
        return
    flat = [None if a is None else a.reshape(-1) for a in arrays]
    scratch = np.empty((2, BLOCK), x.dtype)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        e, d = scratch[:, : stop - start]
        yield *[None if a is None else a[start:stop] for a in flat], e, d


def _exp_minus_abs(x: Any, out: Any) -> None:
    """out = exp(-|x|) of a block."""
    if x.itemsize in _INTEGERS:  # -|x| in one pass: the sign bit set
        integer = _INTEGERS[x.itemsize]
        np.bitwise_or(x.view(integer), _SIGN[x.itemsize], out=out.view(integer))
    else:
        np.negative(np.absolute(x), out=out)
    np.exp(out, out=out)


def _choose(x: Any, s: Any, out: Any) -> None:
    """out = 1 - s where x >= 0, else s: as |1 - s| and |0 - s|, since where() mispredicts on random signs."""
    np.copyto(out, np.greater_equal(x, 0))
    out -= s
    np.absolute(out, out=out)


@quiet
def sigmoid_and_slope(x: Any, *, slope: bool = True) -> tuple[Any, Any]:
    """1 / (1 + exp(-x)) and its slope e / (1+e)**2."""
    x = floats(x)
    out, kept = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype) if slope else None
    for xs, outs, slopes, e, d in _blocks(x, out, kept):
        _exp_minus_abs(xs, out=e)
        np.add(e, 1, out=d)
        e /= d  # sigmoid(-|x|)
        if slopes is not None:
            np.divide(e, d, out=slopes)
        _choose(xs, e, out=outs)
    return out, kept


@quiet
def tanh_slope(x: Any) -> Any:
    """1 - tanh(x)**2 as (2e / (1 + e*e))**2."""
    x = floats(x)
    slope = np.empty(x.shape, x.dtype)
    for xs, slopes, e, d in _blocks(x, slope):
        _exp_minus_abs(xs, out=e)
        np.multiply(e, e, out=d)
        d += 1
        e += e
        e /= d
        np.multiply(e, e, out=slopes)
    return slope


@quiet
def softplus_and_slope(x: Any, *, slope: bool = True) -> tuple[Any, Any]:
    """log(1 + exp(x)) and its slope sigmoid(x)."""
    x = floats(x)
    out, kept = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype) if slope else None
    for xs, outs, slopes, e, d in _blocks(x, out, kept):
        _exp_minus_abs(xs, out=e)
        np.log1p(e, out=d)
        np.maximum(xs, 0, out=outs)
        outs += d
        if slopes is not None:
            np.add(e, 1, out=d)
            e /= d
            _choose(xs, e, out=slopes)
    return out, kept


def log_sigmoid_and_slope(x: Any, *, slope: bool = True) -> tuple[Any, Any]:
    """log(sigmoid(x)) = -softplus(-x) and its slope sigmoid(-x)."""
    out, s = softplus_and_slope(-floats(x), slope=slope)
    return -out, s


@quiet
def without_winner(x: Any, axis: int) -> tuple[Any, Any, Any, Any]:
    """(x - max, exp(x - max) with 0 at the winner, r = its sum, where the winner is), in float64.

    The winner, the first of the largest entries, is left out of the sum: 1 + r is the softmax's
    denominator, and log1p(r), r / (1 + r) keep all digits when r is far below 1.
    """
    x = np.asarray(x, dtype=np.float64 if np.asarray(x).dtype.itemsize <= 8 else None)
    where = np.expand_dims(np.argmax(x, axis=axis), axis)
    z = x - np.take_along_axis(x, where, axis)
    e = np.exp(z)
    np.put_along_axis(e, where, 0, axis)
    return z, e, e.sum(axis=axis, keepdims=True), where


@quiet
def softmax_values(x: Any, axis: int) -> Any:
    """exp(x) / sum(exp(x)) over axis."""
    x = floats(x)
    _, e, r, where = without_winner(x, axis)
    np.put_along_axis(e, where, 1, axis)
    e /= r + 1
    return e.astype(x.dtype, copy=False)


def log_softmax_values(x: Any, axis: int) -> Any:
    """x - log(sum(exp(x))) over axis."""
    x = floats(x)
    z, _, r, _ = without_winner(x, axis)
    z -= np.log1p(r)
    return z.astype(x.dtype, copy=False)


def _either(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """kernel for arrays, the op of that name for Tensors: for rules, which see the one or the other."""

    def apply(x: Any, *args: Any) -> Any:
        return TABLE[name](x, *args) if isinstance(x, Tensor) else kernel(x, *args)

    return apply


sigmoid_of = _either("sigmoid", lambda x: sigmoid_and_slope(x, slope=False)[0])
softmax_of = _either("softmax", softmax_values)
