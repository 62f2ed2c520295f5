"""Formulas on arrays that stay accurate where the textbook's lose everything. They record nothing.

With e = exp(-|x|), which is never more than 1, nothing below overflows or cancels. Underflow to 0, or to
a subnormal number, is the right answer here and therefore silent, whatever numpy.errstate says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from minigrad.contract import native
from minigrad.dispatch import TABLE
from minigrad.sums import add_up
from minigrad.tensor import Tensor

__all__ = [
    "ZERO",
    "either",
    "floats",
    "log_sigmoid_and_slope",
    "log_softmax_values",
    "masked",
    "quiet",
    "row_sums",
    "shifted_exp",
    "sigmoid_and_slope",
    "sigmoid_of",
    "softmax_of",
    "softmax_values",
    "softplus_and_slope",
    "sum_of",
    "tanh_slope",
    "tanh_values",
    "without_winner",
]

# np.maximum(x, ZERO.get(x.dtype, 0)) is np.maximum(x, 0) without 0.3 us for the conversion of 0: relu of 100 numbers
# takes 0.65 of the time.
ZERO = {np.dtype(t): np.zeros((), t) for t in (np.float16, np.float32, np.float64)}

quiet = np.errstate(under="ignore")  # as a decorator: entered anew at each call

# glibc hands freed memory back to the system, and a training step gets it anew, page by page: 1400 page faults, and 1.6
# times as long, for an LSTM of 64. Once a block of nearly 32 MB has been freed it keeps up to 64 MB. This one is
# never written to, and so never there. With another allocator it does nothing.
with suppress(MemoryError):
    np.empty(2**25 - 2**16, np.uint8)


def floats(x: Any) -> Any:
    """x as an array of floats; integers become float64."""
    x = np.asarray(x)
    return native(x) if x.dtype.kind == "f" else x.astype(np.float64)


_INTEGERS: dict[int, Any] = {2: np.int16, 4: np.int32, 8: np.int64}  # of the same width as a float of so many bytes
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


# Entries worked on at a time, so that the passes run in the cache. Smaller blocks lose more to calls than they gain:
# 10**5 float32 take 1.5, 1.2 and 1.0 times as long as the unfused graph in blocks of 8192, 32768 and 131072.
BLOCK = 131072


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


def _half(e: Any, d: Any, spare: Any) -> None:
    """e becomes sigmoid(-|x|) = e / (1+e), d becomes 1 + e. spare: a buffer to work in."""
    np.add(e, 1, out=d)
    if e.itemsize < 8:
        e /= d
        return
    # Dividing by the rounded 1 + e is off by up to 2.4 units in the last place; e - e * (e / d) by less than 2.
    np.divide(e, d, out=spare)
    spare *= e
    e -= spare


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
        _half(e, d, outs)
        if slopes is not None:
            np.divide(e, d, out=slopes)
        _choose(xs, e, out=outs)
    return out, kept


@quiet
def tanh_values(x: Any) -> Any:
    """tanh(x) as NumPy has it: its portable code signals an underflow near 0, where the value is x itself."""
    return np.tanh(x)


@np.errstate(under="ignore", over="ignore")
def tanh_slope(x: Any) -> Any:
    """1 - tanh(x)**2, as 4e / (1+e)**2 with e = exp(-2|x|), and as (2 exp(-|x|))**2 where e is subnormal."""
    x = floats(x)
    slope = np.empty(x.shape, x.dtype)
    least = -0.5 * np.log(np.finfo(x.dtype).tiny)
    for xs, slopes, e, d in _blocks(x, slope):
        _exp_minus_abs(xs + xs, out=e)
        _half(e, d, slopes)
        np.divide(e, d, out=slopes)
        slopes *= 4
        np.absolute(xs, out=d)
        tail = d > least
        np.negative(d, out=d, where=tail)
        np.exp(d, out=d, where=tail)
        np.add(d, d, out=d, where=tail)
        np.multiply(d, d, out=slopes, where=tail)
    return slope


@quiet
def softplus_and_slope(x: Any, *, slope: bool = True) -> tuple[Any, Any]:
    """log(1 + exp(x)) and its slope sigmoid(x)."""
    x = floats(x)
    out, kept = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype) if slope else None
    for xs, outs, slopes, e, d in _blocks(x, out, kept):
        _exp_minus_abs(xs, out=e)
        np.log1p(e, out=d)
        np.maximum(xs, ZERO.get(xs.dtype, 0), out=outs)
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


@np.errstate(under="ignore", invalid="ignore")
def shifted_exp(x: Any, top: Any) -> tuple[Any, Any]:
    """(x - top, exp(x - top)) for top >= x, both in float64.

    The difference of two float64 is rounded, by up to |x - top| / 2 units in the last place of its exponential;
    what the rounding left out is known exactly (Knuth, The Art of Computer Programming, 4.2.2) and put back. The
    difference of two float32 has no such error in float64.
    """
    if x.dtype.itemsize < 8:
        z = np.subtract(x, top, dtype=np.float64)
        return z, np.exp(z)
    z = x - top
    b = z - x
    lost = (x - (z - b)) - (top + b)
    e = np.exp(z)
    e += e * masked(lost, np.isfinite(lost))
    return z, e


@quiet
def without_winner(x: Any, axis: int) -> tuple[Any, Any, Any, Any]:
    """(x - max, exp(x - max) with 0 at the winner, r = its sum, where the winner is), in float64.

    The winner, the first of the largest entries, is left out of the sum: 1 + r is the softmax's
    denominator, and log1p(r), r / (1 + r) keep all digits when r is far below 1.
    """
    where = np.expand_dims(np.argmax(x, axis=axis), axis)
    z, e = shifted_exp(x, np.take_along_axis(x, where, axis))
    np.put_along_axis(e, where, 0, axis)
    return z, e, e.sum(axis=axis, keepdims=True), where


@quiet
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


@quiet
def softmax_values(x: Any, axis: int) -> Any:
    """exp(x) / sum(exp(x)) over axis."""
    x = floats(x)
    _, e, r, where = without_winner(x, axis)
    np.put_along_axis(e, where, 1, axis)
    e /= r + 1
    return e.astype(x.dtype, copy=False)


@quiet
def log_softmax_values(x: Any, axis: int) -> Any:
    """x - log(sum(exp(x))) over axis."""
    x = floats(x)
    z, _, r, _ = without_winner(x, axis)
    z -= np.log1p(r)
    return z.astype(x.dtype, copy=False)


def either(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """kernel for arrays, the op of that name for Tensors: for rules, which see the one or the other."""

    def apply(x: Any, *args: Any, **how: Any) -> Any:
        """The op of this name on an array or a Tensor: for rules, which see the one or the other."""
        return TABLE[name](x, *args, **how) if isinstance(x, Tensor) else kernel(x, *args, **how)

    return apply


sigmoid_of = either("sigmoid", lambda x: sigmoid_and_slope(x, slope=False)[0])
softmax_of = either("softmax", softmax_values)
sum_of = either("sum", add_up)
