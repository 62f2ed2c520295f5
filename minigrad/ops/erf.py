"""The error function and its relatives on arrays, to two or three units in the last place. They record nothing.

erfc(y) for y >= 0 is exp(-y*y) * w(y), and (1 + 2y) w(y) lies between 1 and 1.3 on the whole half line. For that
stands 1 + (1 + t) p(t), with one polynomial p in t = (y - c) / (y + c): no branches. Source: Shepherd and Laframboise,
Chebyshev approximation of (1 + 2x) exp(x**2) erfc(x), Mathematics of Computation 36 (1981). The coefficients are those
of Chebyshev interpolation for y up to 28 in float64 and 10.5 in float32, beyond which erfc is 0; erf near 0 has a
polynomial of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad.ops.kernels import floats, silently
from minigrad.threads import spread

__all__ = ["erf_and_slope", "erfc_and_slope", "gelu_and_slope"]

# Highest power first. The error of each is below a quarter of a unit in the last place.
_TAIL64 = (
    -1.7668021904964841e-09, -1.1762564876724487e-08, 3.997746924327231e-09, 1.1095088442630022e-07,
    -4.8363670003736364e-08, -7.86315280142419e-07, 1.0879260682743122e-06, 4.629637558415284e-06,
    -1.5854646313504835e-05, -8.548390685449698e-06, 0.00015917073743026416, -0.0003584262790465427,
    -0.0003993470912311982, 0.005431316852663483, -0.021629050906905783, 0.0587965664688443, -0.1251269322808439,
    0.21885976727767018, -0.3198988333139993, 0.3879958875687357, -0.3726162354661154, 0.2329951186255525,
)  # fmt: skip
_TAIL32 = (
    -0.0004056067345251397, -0.0008284345820438272, 0.0021495053431535996, 0.006487774955302051,
    -0.014551240978430493, -0.039655238324112205, 0.20371123357241155, -0.3697424037872526, 0.2769783889049897,
)  # fmt: skip
_NEAR64 = (
    5.958930743134941e-11, -1.1373902296430911e-09, 1.4660051998394848e-08, -1.6350354461959655e-07,
    1.6461004480962034e-06, -1.4925595519506043e-05, 0.00012055331122299266, -0.0008548326981129666,
    0.005223977624823223, -0.026866170645077334, 0.11283791670954882, -0.3761263890318375, 1.1283791670955126,
)  # fmt: skip
_NEAR32 = (
    7.882497110086663e-05, -0.0008018854992786387, 0.005189311942686617, -0.026854328796067244, 0.11283597463488053,
    -0.3761262690358044, 1.1283791658815026,
)  # fmt: skip

# Bytes of x worked on at a time: there are fifty passes over eight buffers, and smaller blocks lose more to calls.
_BLOCK = 2**18

_FAR = 40.0  # exp(-x*x/2), and so exp(-x*x), is 0 from here on

# dtype -> (an integer of its width, a mask of the upper half of its digits)
_UPPER: dict[int, Any] = {4: (np.int32, np.int32(-(1 << 12))), 8: (np.int64, np.int64(-(1 << 27)))}


def _horner(coefficients: tuple[float, ...], t: Any, out: Any) -> None:
    """out = the polynomial at t."""
    np.multiply(t, coefficients[0], out=out)
    for c in coefficients[1:-1]:
        out += c
        out *= t
    out += coefficients[-1]


def _exp_minus_square(a: Any, divisor: int, out: Any, s: Any, r: Any) -> None:
    """out = exp(-a*a / divisor) for 0 <= a <= 40, with what a*a rounds off put back; s, r: buffers to work in.

    The rounding of a*a alone would cost a*a/2 units in the last place: 50 at 10. (Dekker, A floating-point technique
    for extending the available precision, 1971.)
    """
    integer, upper = _UPPER[a.itemsize]
    np.bitwise_and(a.view(integer), upper, out=r.view(integer))  # r*r is exact, and so is a - r
    np.subtract(a, r, out=s)
    np.add(a, r, out=out)
    s *= out
    np.multiply(a, a, out=out)
    r *= r
    r -= out
    s += r  # a*a is out + s
    out *= -1 / divisor
    np.exp(out, out=out)
    s *= -1 / divisor
    s *= out
    out += s


def _upper_tail(a: Any, divisor: int, out: Any, e: Any, s: Any, r: Any) -> None:
    """out = erfc(a * sqrt(1 / divisor)) and e = exp(-a*a / divisor) for 0 <= a <= 40."""
    _exp_minus_square(a, divisor, e, s, r)
    double = a.itemsize == 8
    c = (4 if double else 2) * math.sqrt(divisor)  # t of a with this c is t of y with the other
    np.add(a, c, out=r)
    np.subtract(a, c, out=s)
    s /= r
    _horner(_TAIL64 if double else _TAIL32, s, out)
    s += 1
    out *= s
    out += 1
    np.multiply(a, 2 * math.sqrt(1 / divisor), out=r)
    r += 1
    out /= r
    out *= e


def _task(compute: Callable[..., None], x: Any, *outs: Any) -> Callable[[Iterator[slice]], None]:
    """What calls compute on stretches: of x, |x| up to 40, five buffers, and those of outs (None stays None)."""
    flat: list[Any] = [None if a is None else a.reshape(-1) for a in (x, *outs)]
    longest = min(x.size, _BLOCK // x.itemsize)

    def task(parts: Iterator[slice]) -> None:
        far = np.full(longest, _FAR, x.dtype)  # minimum with a number is not vectorised, and 3 times slower
        scratch = np.empty((6, longest), x.dtype)
        for part in parts:
            pieces: list[Any] = [None if b is None else b[part] for b in flat]
            xs, *targets = pieces
            a, *buffers = scratch[:, : xs.size]
            np.absolute(xs, out=a)
            np.minimum(a, far[: xs.size], out=a)
            compute(xs, a, *buffers, *targets)

    return task


def _wide(x: Any) -> Any:
    """x in a dtype that the polynomials are made for, and in one piece."""
    dtype = x.dtype if x.itemsize in _UPPER else np.float32 if x.itemsize < 4 else np.float64
    return np.asarray(x, dtype, order="C")


@silently  # a subnormal result, and bits of an infinity among the upper halves
def _computed(x: Any, slope: bool, compute: Callable[..., None]) -> tuple[Any, Any]:
    """(out, slope or None) in x's dtype, which compute has filled block by block."""
    wide = _wide(x)
    out, kept = np.empty_like(wide), np.empty_like(wide) if slope else None
    block = _BLOCK // wide.itemsize
    spread(_task(compute, wide, out, kept), wide.size, block, least=2 * block)
    return out.astype(x.dtype, copy=False), None if kept is None else kept.astype(x.dtype, copy=False)


def _erf_block(x: Any, a: Any, tail: Any, e: Any, s: Any, r: Any, _: Any, out: Any, slope: Any) -> None:
    _upper_tail(a, 1, tail, e, s, r)
    if slope is not None:
        np.multiply(e, 2 / math.sqrt(math.pi), out=slope)
    np.subtract(1, tail, out=out)
    np.copysign(out, x, out=out)
    near = a < 1
    _near(a, near, s, r)
    np.multiply(r, x, out=out, where=near)


def _erfc_block(x: Any, a: Any, tail: Any, e: Any, s: Any, r: Any, _: Any, out: Any, slope: Any) -> None:
    _upper_tail(a, 1, tail, e, s, r)
    if slope is not None:
        np.multiply(e, -2 / math.sqrt(math.pi), out=slope)
    np.subtract(2, tail, out=out)
    np.copyto(out, tail, where=x >= 0)
    near = a < 0.5
    _near(a, near, s, r)
    np.multiply(r, x, out=r, where=near)
    np.subtract(1, r, out=out, where=near)


def _near(a: Any, near: Any, square: Any, out: Any) -> None:
    """out = erf(a) / a where near holds, and anything elsewhere."""
    square.fill(0)
    np.multiply(a, a, out=square, where=near)
    _horner(_NEAR64 if a.itemsize == 8 else _NEAR32, square, out)


def _gelu_block(x: Any, a: Any, tail: Any, e: Any, s: Any, r: Any, zero: Any, out: Any, slope: Any) -> None:
    _upper_tail(a, 2, tail, e, s, r)
    tail *= 0.5
    zero.fill(0)
    np.multiply(a, tail, out=r)
    np.maximum(x, zero, out=out)
    out -= r  # x * Phi(x) = max(x, 0) - |x| Phi(-|x|)
    if slope is not None:
        integer, _ = _UPPER[x.itemsize]
        e *= 1 / math.sqrt(2 * math.pi)
        e *= a
        tail -= e  # the slope at -|x|; at |x| it is 1 less that
        np.copyto(s, np.logical_not(np.signbit(x)))
        np.subtract(s, tail, out=slope)
        np.bitwise_and(x.view(integer), np.iinfo(integer).min, out=s.view(integer))
        np.bitwise_xor(slope.view(integer), s.view(integer), out=slope.view(integer))


def erf_and_slope(x: Any, *, slope: bool = True) -> tuple[Any, Any]:
    """erf(x) and its slope 2 / sqrt(pi) * exp(-x*x)."""
    return _computed(floats(x), slope, _erf_block)


def erfc_and_slope(x: Any, *, slope: bool = True) -> tuple[Any, Any]:
    """1 - erf(x), with all its digits for large x, and its slope."""
    return _computed(floats(x), slope, _erfc_block)


def gelu_and_slope(x: Any, *, slope: bool = True) -> tuple[Any, Any]:
    """x * Phi(x) and its slope Phi(x) + x * exp(-x*x/2) / sqrt(2 pi), Phi(x) = erfc(-x / sqrt(2)) / 2."""
    return _computed(floats(x), slope, _gelu_block)
