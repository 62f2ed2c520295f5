"""The referee: exact values at 50 digits, and how far a computed number is from them in units in the last place.

It knows mpmath and NumPy alone. Functions of one value and their derivatives take a float; softmax and its
relatives take a row of floats. Exact results are mpmath numbers, never rounded to a dtype on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

__all__ = [
    "ELEMENTWISE",
    "Softmax",
    "points",
    "regions",
    "row_sum_error",
    "rows",
    "ulp_error",
    "wrong",
]

mpmath.mp.dps = 50

Exact = Callable[[float], Any]


@cache
def _format(dtype: np.dtype[Any]) -> tuple[int, int, Any]:
    """(digits of the significand in bits, exponent of the smallest normal number, the largest number)."""
    info = np.finfo(dtype)
    return info.nmant + 1, int(info.minexp), mpf(float(info.max))


def ulp(exact: Any, dtype: Any) -> Any:
    """The distance between neighbouring numbers of dtype at |exact|; for 0 and subnormals the smallest there is."""
    bits, low, _ = _format(np.dtype(dtype))
    exponent = low if exact == 0 else max(low, mpmath.frexp(exact)[1] - 1)
    return mpmath.ldexp(1, exponent - bits + 1)


def ulp_error(got: Any, exact: Any, dtype: Any) -> float:
    """|got - exact| in units in the last place that dtype has at exact; inf where no distance can be told.

    A number beyond the largest one is to be inf, and then, like a nan for a nan, has error 0.
    """
    got = float(got)
    if mpmath.isnan(exact) or math.isnan(got):
        return 0.0 if mpmath.isnan(exact) and math.isnan(got) else math.inf
    bits, _, largest = _format(np.dtype(dtype))
    half_over = largest + mpmath.ldexp(largest, -bits - 1)
    if mpmath.isinf(exact) or abs(exact) > half_over:
        return 0.0 if math.isinf(got) and (got > 0) == (exact > 0) else math.inf
    if math.isinf(got):
        return math.inf
    return float(mpmath.fdiv(abs(mpf(got) - exact), ulp(exact, dtype), prec=53))


def wrong(got: Any, exact: Any, dtype: Any) -> str:
    """The word "0", "nan" or "inf" where got is that and the exact value is another number that dtype has; else ""."""
    got = float(got)
    if math.isnan(got):
        return "" if mpmath.isnan(exact) else "nan"
    if math.isinf(got):
        return "" if ulp_error(got, exact, dtype) == 0 else "inf"
    if got == 0 and exact != 0 and abs(exact) > ulp(0, dtype) / 2:
        return "0"
    return ""


# Functions of one value. Everything is put together from e = exp(-|x|) without a difference of near numbers.


def _e(x: float) -> Any:
    return mpmath.exp(-abs(mpf(x)))


@cache
def sigmoid(x: float) -> Any:
    """1 / (1 + exp(-x))."""
    return (1 if x >= 0 else _e(x)) / (1 + _e(x))


@cache
def sigmoid_slope(x: float) -> Any:
    """exp(-x) / (1 + exp(-x))**2."""
    return _e(x) / (1 + _e(x)) ** 2


@cache
def softplus(x: float) -> Any:
    """log(1 + exp(x))."""
    return max(mpf(x), mpf(0)) + mpmath.log1p(_e(x))


def log_sigmoid(x: float) -> Any:
    """log(sigmoid(x))."""
    return -softplus(-x)


def log_sigmoid_slope(x: float) -> Any:
    """sigmoid(-x)."""
    return sigmoid(-x)


@cache
def tanh(x: float) -> Any:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return mpmath.sign(x) if abs(x) > 400 else mpmath.tanh(mpf(x))


@cache
def tanh_slope(x: float) -> Any:
    """1 - tanh(x)**2."""
    return (2 * _e(x) / (1 + _e(x) ** 2)) ** 2


# Points that a search among millions found to be the worst for formulas that look well elsewhere.
HARD = {
    "float64": [3.4362277132169865, 2.693537710669319, 9.364479767223308, 2.067193752572683],
    "float32": [2.7527825832366943, 4.836368560791016, 2.422248601913452, 2.042401075363159],
}

# name -> (value, derivative)
ELEMENTWISE: dict[str, tuple[Exact, Exact]] = {
    "sigmoid": (sigmoid, sigmoid_slope),
    "log_sigmoid": (log_sigmoid, log_sigmoid_slope),
    "softplus": (softplus, sigmoid),
    "tanh": (tanh, tanh_slope),
}


def regions(dtype: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Points of dtype over the whole line, by region: both signs of each, a few hundred a region, always the same."""
    dtype = np.dtype(dtype)
    info = np.finfo(dtype)
    rng = np.random.default_rng(5)
    over = -math.log(float(info.smallest_subnormal))  # exp(-over) is the smallest subnormal number: 744.4, 103.3
    under = -math.log(float(info.tiny))  # exp(-under) is the smallest normal one: 708.4, 87.3
    edge = -math.log(float(info.eps) / 2)  # from here on 1 + exp(-x) is 1: 36.7, 16.6
    smallest = math.log10(float(info.tiny))
    largest = math.log10(float(info.max))
    magnitudes = {
        "near 0": 10.0 ** np.concatenate([np.arange(math.ceil(smallest), 0), rng.uniform(-20, 0, 100)]),
        "middle": np.concatenate([np.arange(0.25, edge, 0.25), rng.uniform(0, edge, 600), HARD[dtype.name]]),
        "tails": np.concatenate([np.arange(math.ceil(edge), under, edge / 10), rng.uniform(edge, under, 150)]),
        "subnormal results": np.concatenate(  # of exp(-x), and of exp(-2x) in the slope of tanh
            [rng.uniform(low, low + (over - under) + 3, 150) for low in (under - 1, under / 2 - 1)]
        ),
        "subnormal inputs": float(info.smallest_subnormal) * 2.0 ** np.arange(info.nmant + 1) * 1.5,
        "huge": np.append(10.0 ** np.arange(3, math.floor(largest) + 1), float(info.max)),
        "0 and inf": np.array([0.0, math.inf]),
    }
    with np.errstate(under="ignore"):
        found = {name: np.unique(values.astype(dtype)) for name, values in magnitudes.items()}
    return {name: np.concatenate([-values, values]) for name, values in found.items()}


def points(dtype: Any) -> np.ndarray[Any, Any]:
    """The points of all regions in one array, in a mixed order, so that vector lanes see all kinds at once."""
    return np.random.default_rng(6).permutation(np.concatenate(list(regions(dtype).values())))


class Softmax:
    """The softmax family of one row of logits, exactly."""

    def __init__(self, x: Iterable[Any]) -> None:
        self.x = [mpf(float(v)) for v in x]
        self.top = max(self.x)
        self.winner = self.x.index(self.top)
        self.e = [mpmath.exp(v - self.top) for v in self.x]
        self.rest = mpmath.fsum(e for i, e in enumerate(self.e) if i != self.winner)  # all but the winner's 1
        self.total = 1 + self.rest

        self.p = [e / self.total for e in self.e]
        self.log = mpmath.log1p(self.rest)

    def softmax(self) -> list[Any]:
        """exp(x_i) / sum_j exp(x_j)."""
        return self.p

    def log_softmax(self) -> list[Any]:
        """x_i - log(sum_j exp(x_j))."""
        return [(v - self.top) - self.log for v in self.x]

    def others(self, k: int) -> Any:
        """1 - softmax_k, as the sum of the other classes."""
        if k == self.winner:
            return self.rest / self.total
        return (1 + self.rest - self.e[k]) / self.total

    def softmax_gradient(self, k: int) -> list[Any]:
        """d(softmax_k)/dx."""
        return [self.p[k] * (self.others(k) if i == k else -v) for i, v in enumerate(self.p)]

    def log_softmax_gradient(self, k: int) -> list[Any]:
        """d(log_softmax_k)/dx."""
        return [self.others(k) if i == k else -v for i, v in enumerate(self.p)]

    def loss(self, k: int) -> Any:
        """The cross-entropy with class k as the right one."""
        return (self.top - self.x[k]) + self.log

    def loss_gradient(self, k: int) -> list[Any]:
        """d(loss)/dx."""
        return [-v for v in self.log_softmax_gradient(k)]


def rows(dtype: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Rows of logits by kind, each an array of shape (rows, classes), always the same."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(7)
    wide = -math.log(float(np.finfo(dtype).tiny)) * 0.98  # 694: losses down to 1e-301
    gaps = np.concatenate([np.linspace(0, 40, 21), np.linspace(45, wide, 12)])
    confident = rng.normal(size=(12, 10))
    confident[np.arange(12), rng.integers(0, 10, 12)] += np.linspace(10, wide - 10, 12)
    found = {
        "2 classes, a gap of 0 to 700": np.stack([gaps, np.zeros_like(gaps)], axis=1),
        "2 classes, not round": rng.normal(size=(12, 2)) * 100,
        "3 classes": rng.normal(size=(8, 3)) * np.array([[0.1], [1.0], [5.0], [20.0]] * 2),
        "10 classes": rng.normal(size=(8, 10)) * 3,
        "10 classes, one confident": confident,
        "ties": np.repeat(rng.normal(size=(3, 2)), 3, axis=1) * 10,
        "far from 0": rng.normal(size=(4, 4)) + np.array([[1e3], [-1e3], [1e4], [-1e4]]),
        "100 classes": rng.normal(size=(3, 100)) * 10,
        "1000 classes": rng.normal(size=(2, 1000)) * np.array([[1.0], [30.0]]),
    }
    return {name: values.astype(dtype) for name, values in found.items()}


def row_sum_error(row: Sequence[Any], dtype: Any) -> float:
    """|sum of a row that is to sum to 0|, in units in the last place of its largest entry."""
    values = [float(v) for v in row]
    return float(abs(mpmath.fsum(values)) / ulp(mpf(max(map(abs, values))), dtype))
