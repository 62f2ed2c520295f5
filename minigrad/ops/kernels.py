"""Formulas on arrays that stay accurate where the textbook's lose everything. They record nothing.

With e = exp(-|x|), which is never more than 1, nothing below overflows or cancels. Underflow to 0, or to
a subnormal number, is the right answer here and therefore silent, whatever numpy.errstate says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context
from functools import wraps
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from minigrad.contract import native
from minigrad.dispatch import TABLE
from minigrad.pool import empty, keep_freed_memory
from minigrad.standin import Standin
from minigrad.sums import add_up
from minigrad.tensor import Tensor
from minigrad.threads import spread

__all__ = [
    "FOUR",
    "ONE",
    "TOP",
    "ZERO",
    "computed",
    "either",
    "entrywise",
    "floats",
    "log_sigmoid_and_slope",
    "masked",
    "positive",
    "put",
    "sigmoid_and_slope",
    "sigmoid_by_parts",
    "sigmoid_formula",
    "sigmoid_of",
    "silently",
    "softplus_and_slope",
    "sum_of",
    "tanh_and_slope",
    "tanh_values",
]

F = TypeVar("F", bound=Callable[..., Any])
Formula: TypeAlias = Callable[[Any, bool, Any, Any], tuple[Any, Any]]
Quick: TypeAlias = Callable[[Any, bool, Any, Any], Any]

# np.maximum(x, ZERO.get(x.dtype, 0)) is np.maximum(x, 0) without 0.3 us for the conversion of 0: relu of 100 numbers
# takes 0.65 of the time.
_FLOATS: list[Any] = [np.dtype(t) for t in (np.float16, np.float32, np.float64, np.longdouble)]
ZERO, ONE, FOUR = ({dtype: np.array(n, dtype) for dtype in _FLOATS} for n in (0, 1, 4))

keep_freed_memory()


def floats(x: Any) -> Any:
    """x as an array of floats; integers become float64."""
    x = x if isinstance(x, Standin) else np.asarray(x)
    return native(x) if x.dtype.kind == "f" else x.astype(np.float64)


_INTEGERS: dict[int, Any] = {2: np.int16, 4: np.int32, 8: np.int64}  # of the same width as a float of so many bytes
_SIGN = {size: np.array(np.iinfo(integer).min, integer) for size, integer in _INTEGERS.items()}


# Entries up to which an array is worked on in one piece, by plain calls that `compile` can merge with others.
_FEW = 16384

# Entries worked on at a time, so that the passes run in the cache. Smaller blocks lose more to calls than they gain:
# sigmoid of 10**6 float32 takes 1.3, 1.1 and 1.0 times as long in blocks of 16384, 65536 and 131072.
BLOCK = 131072

# Entries from which on several threads pay, for about ten passes and for one or two: 10**6 take 0.6 to 0.8 of the time.
_SHARED, _SHARED_LIGHT = 2 * BLOCK, 16 * BLOCK


def entrywise(fill: Callable[..., Any], *arrays: Any) -> Any:
    """The result of fill(*arrays, out), which fills out, of the first array's shape and dtype, entry by entry."""
    x = arrays[0]
    out = np.empty_like(x)
    if x.size <= _FEW or not all(type(a) is np.ndarray and a.shape == x.shape and a.flags.c_contiguous for a in arrays):
        fill(*arrays, out)
        return out
    *flat, whole = [a.reshape(-1) for a in (*arrays, out)]

    def task(parts: Iterator[slice]) -> None:
        for part in parts:
            fill(*[a[part] for a in flat], whole[part])

    spread(task, x.size, BLOCK, least=_SHARED_LIGHT)
    return out


def masked(dout: Any, mask: Any) -> Any:
    """dout where mask holds and 0 elsewhere, also for an infinite dout, which dout * mask would turn into nan.

    dout: array or Tensor. mask: plain booleans that broadcast with it.
    """
    if isinstance(dout, Tensor) or dout.dtype.itemsize not in _INTEGERS:
        return np.where(mask, dout, 0)
    if dout.shape == mask.shape:
        return entrywise(_fill_masked, dout, mask)
    integer = _INTEGERS[dout.dtype.itemsize]
    return (dout.view(integer) & -mask.view(np.int8)).view(dout.dtype)


def _fill_masked(dout: Any, mask: Any, out: Any) -> None:
    # On the bits: -True is all ones. where() mispredicts its branches on random signs, 17 times slower at 10**6.
    integer = _INTEGERS[dout.itemsize]
    bits = out.view(integer)
    np.negative(mask.view(np.int8), bits)
    np.bitwise_and(bits, dout.view(integer), bits)


def put(mask: Any, values: Any, out: Any) -> None:
    """out becomes values, of its dtype, where mask holds."""
    if out.itemsize not in _INTEGERS:
        np.copyto(out, values, where=mask)
        return
    integer = _INTEGERS[out.itemsize]
    bits = out.view(integer)
    change, chosen = np.empty_like(bits), np.empty_like(bits)
    np.bitwise_xor(values.view(integer), bits, change)
    np.negative(mask.view(np.int8), chosen)
    np.bitwise_and(change, chosen, change)
    np.bitwise_xor(bits, change, bits)


def positive(x: Any) -> Any:
    """max(x, 0) of an array or a number."""
    if getattr(x, "size", 0) > _FEW and x.dtype.char in "fd":
        return entrywise(_fill_positive, x) if type(x) is np.ndarray else np.clip(x, 0, np.inf) + ZERO[x.dtype]
    return np.maximum(x, ZERO.get(getattr(x, "dtype", None), 0))


def _fill_positive(x: Any, out: Any) -> None:
    # Half of the time of maximum with a number, for which NumPy has no vector code. clip leaves -0.0, where that gives
    # 0.0 as this sum does.
    np.clip(x, 0, np.inf, out)
    np.add(out, ZERO[x.dtype], out)


def silently(kernel: F) -> F:
    """Decorator: NumPy signals nothing while kernel runs, whatever numpy.errstate says around it.

    kernel runs in a context that is kept for that: 0.1 us, where np.errstate, entered anew, takes 0.5 or more. It
    sees no other context variable of the caller's either, and gets arrays of floats.
    """
    spare: list[Context] = []

    @wraps(kernel)
    def run(*args: Any) -> Any:
        try:
            context = spare.pop()  # no two threads run in one
        except IndexError:
            context = Context()
            context.run(np.errstate(all="ignore").__enter__)
        try:
            return context.run(kernel, *args)
        finally:
            spare.append(context)

    return cast(F, run)


def computed(
    careful: Formula, x: Any, slope: bool, quick: Quick | None = None, sizes: tuple[int, ...] = (4,)
) -> tuple[Any, Any]:
    """(out, slope or None) of x by a formula: careful(x, slope, out, kept) fills out and kept and returns them.

    Where they are None, it makes them. A large array is worked on block by block, by quick if there is one and the
    size of a float is among sizes: it takes the same arguments, and returns where it fails. There careful's results
    take the place of its own.
    """
    return _computed(careful, floats(x), slope, quick, sizes)


@silently
def _computed(careful: Formula, x: Any, slope: bool, quick: Quick | None, sizes: tuple[int, ...]) -> tuple[Any, Any]:
    if x.size <= _FEW:
        if x.ndim:
            return careful(x, slope, None, None)
        out, kept = careful(x.reshape(1), slope, None, None)
        return out.reshape(()), None if kept is None else kept.reshape(())
    x = np.asarray(x)  # refused by what stands for an array in a program, which then has all this as one step
    out, kept = empty(x.shape, x.dtype), empty(x.shape, x.dtype) if slope else None
    flat, outs, slopes = x.reshape(-1), out.reshape(-1), None if kept is None else kept.reshape(-1)

    def task(parts: Iterator[slice]) -> None:
        for part in parts:
            xs, os, ks = flat[part], outs[part], None if slopes is None else slopes[part]
            if quick is None or x.itemsize not in sizes:
                careful(xs, slope, os, ks)
                continue
            beyond = np.flatnonzero(quick(xs, slope, os, ks))
            os[beyond], found = careful(xs[beyond], slope, None, None)
            if ks is not None:
                ks[beyond] = found

    spread(task, x.size, BLOCK, least=_SHARED)
    return out, kept


def _exp_minus_abs(x: Any, out: Any) -> Any:
    """exp(-|x|), in out if that is not None."""
    if out is None or x.itemsize not in _INTEGERS:
        out = np.absolute(x, out)
        np.negative(out, out)
    else:  # in one pass: the sign bit set
        integer = _INTEGERS[x.itemsize]
        np.bitwise_or(x.view(integer), _SIGN[x.itemsize], out.view(integer))
    return np.exp(out, out)


def _half(e: Any, d: Any) -> Any:
    """e becomes sigmoid(-|x|) = e / d; d: 1 + e."""
    if e.itemsize < 8:
        return np.divide(e, d, e)
    # Dividing by the rounded 1 + e is off by up to 2.4 units in the last place; e - e * (e / d) by less than 2.
    lost = np.divide(e, d)
    np.multiply(lost, e, lost)
    return np.subtract(e, lost, e)


def _reflected(x: Any, s: Any) -> Any:
    """s becomes 1 - s where x >= 0: as |1 - s| and |0 - s|, since where() mispredicts on random signs."""
    np.subtract(np.greater_equal(x, ZERO[x.dtype]).astype(x.dtype), s, s)
    return np.absolute(s, s)


def sigmoid_formula(x: Any, slope: bool, out: Any, kept: Any) -> tuple[Any, Any]:
    """sigmoid(x) and its slope e / (1+e)**2, as `computed` asks for them."""
    out = _exp_minus_abs(x, out)
    kept = np.add(out, ONE[x.dtype], kept)
    out = _half(out, kept)
    kept = np.divide(out, kept, kept) if slope else None
    return _reflected(x, out), kept


# The quick formulas stand on e = exp(x), which needs no choice between the signs, in 0.6 to 0.7 of the time. They are
# as accurate but for sigmoid in float64: 2.4 units in the last place. From here on, where exp overflows, they fail.
TOP = {dtype: np.array(np.log(np.finfo(dtype).max) - 0.5, dtype) for dtype in _FLOATS}


def _quick_sigmoid(x: Any, slope: bool, out: Any, kept: Any) -> Any:
    np.exp(x, out)
    d = np.add(out, ONE[x.dtype], kept)
    np.divide(out, d, out)
    if slope:
        np.divide(out, d, d)
    return np.greater(x, TOP[x.dtype])


def sigmoid_by_parts(x: Any, out: Any, other: Any) -> tuple[Any, Any]:
    """(sigmoid(x), sigmoid(-x)) in these two arrays, by the quick formula: for x not beyond TOP."""
    np.exp(x, out)
    other = np.add(out, ONE[x.dtype], other)
    return np.divide(out, other, out), np.divide(ONE[x.dtype], other, other)


def sigmoid_and_slope(x: Any, *, slope: bool = True) -> tuple[Any, Any]:
    """1 / (1 + exp(-x)) and its slope e / (1+e)**2."""
    return computed(sigmoid_formula, x, slope, _quick_sigmoid)


def _softplus(x: Any, slope: bool, out: Any, kept: Any) -> tuple[Any, Any]:
    e = _exp_minus_abs(x, kept)
    out = np.log1p(e, out)
    np.add(out, np.maximum(x, ZERO[x.dtype]), out)
    if not slope:
        return out, None
    np.divide(e, np.add(e, ONE[x.dtype]), e)
    return out, _reflected(x, e)


def _quick_softplus(x: Any, slope: bool, out: Any, kept: Any) -> Any:
    e = np.exp(x, kept)
    np.log1p(e, out)
    if slope:
        np.divide(e, np.add(e, ONE[x.dtype]), e)
    return np.greater(x, TOP[x.dtype])


def softplus_and_slope(x: Any, *, slope: bool = True) -> tuple[Any, Any]:
    """log(1 + exp(x)) and its slope sigmoid(x)."""
    return computed(_softplus, x, slope, _quick_softplus, (4, 8))


def _log_sigmoid(x: Any, slope: bool, out: Any, kept: Any) -> tuple[Any, Any]:
    out, kept = _softplus(np.negative(x), slope, out, kept)
    return np.negative(out, out), kept


def _quick_log_sigmoid(x: Any, slope: bool, out: Any, kept: Any) -> Any:
    beyond = _quick_softplus(np.negative(x), slope, out, kept)
    np.negative(out, out)
    return beyond


def log_sigmoid_and_slope(x: Any, *, slope: bool = True) -> tuple[Any, Any]:
    """log(sigmoid(x)) = -softplus(-x) and its slope sigmoid(-x)."""
    return computed(_log_sigmoid, x, slope, _quick_log_sigmoid, (4, 8))


# exp(-2|x|) is subnormal from here on, and has lost digits.
_SUBNORMAL = {dtype: -0.5 * np.log(np.ldexp(ONE[dtype], np.finfo(dtype).minexp)) for dtype in _FLOATS}


def _tanh(x: Any, slope: bool, out: Any, kept: Any) -> tuple[Any, Any]:
    out = np.tanh(x, out)
    kept = _exp_minus_abs(np.add(x, x), kept)
    d = np.add(kept, ONE[x.dtype])
    _half(kept, d)
    np.divide(kept, d, kept)
    np.multiply(kept, FOUR[x.dtype], kept)
    np.absolute(x, d)
    tail = np.greater(d, _SUBNORMAL[x.dtype])
    np.negative(d, d, where=tail)
    np.exp(d, d, where=tail)
    np.add(d, d, d, where=tail)
    np.multiply(d, d, kept, where=tail)
    return out, kept


def _quick_tanh(x: Any, slope: bool, out: Any, kept: Any) -> Any:
    np.tanh(x, out)
    np.add(x, x, kept)
    np.exp(kept, kept)
    d = np.add(kept, ONE[x.dtype])
    np.divide(kept, d, kept)
    np.divide(kept, d, kept)
    np.multiply(kept, FOUR[x.dtype], kept)
    np.absolute(x, d)
    return np.greater(d, _SUBNORMAL[x.dtype])


@np.errstate(under="ignore")
def tanh_values(x: Any) -> Any:
    """tanh(x) as NumPy has it: its portable code signals an underflow near 0, where the value is x itself."""
    return np.tanh(x)


def tanh_and_slope(x: Any) -> tuple[Any, Any]:
    """tanh(x) and 1 - tanh(x)**2, as 4e / (1+e)**2 with e = exp(-2|x|), and (2 exp(-|x|))**2 where e is subnormal."""
    return computed(_tanh, x, True, _quick_tanh)


def either(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """kernel for arrays, the op of that name for Tensors: for rules, which see the one or the other."""

    def apply(x: Any, *args: Any, **how: Any) -> Any:
        """The op of this name on an array or a Tensor: for rules, which see the one or the other."""
        return TABLE[name](x, *args, **how) if isinstance(x, Tensor) else kernel(x, *args, **how)

    return apply


sigmoid_of = either("sigmoid", lambda x: sigmoid_and_slope(x, slope=False)[0])
sum_of = either("sum", add_up)
