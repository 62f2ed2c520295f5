"""Activation functions beside relu, sigmoid and tanh: the error function and what is made of it, silu, leaky_relu."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.contract import AWAY_FROM_ZERO, Case
from minigrad.dispatch import TABLE
from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.op import Unary
from minigrad.ops.erf import erf_and_slope, erfc_and_slope, gelu_and_slope
from minigrad.ops.kernels import (
    ONE,
    TOP,
    ZERO,
    computed,
    entrywise,
    floats,
    masked,
    positive,
    put,
    sigmoid_by_parts,
    sigmoid_formula,
    sigmoid_of,
)
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["erf", "erfc", "gelu", "leaky_relu", "silu"]


class Erf(Unary):
    """out = 2 / sqrt(pi) * the integral of exp(-t*t) from 0 to x, the error function

    Accurate to 2 units in the last place in float64. Source: Shepherd and Laframboise, Mathematics of
    Computation 36 (1981), as told in minigrad.ops.erf.

    >>> erf(Tensor([0.0, 1.0]))
    Tensor([0.        , 0.84270079], dtype=float64)
    """

    gradients = ("dout * 2 / sqrt(pi) * exp(-x ** 2)",)
    reference = math.erf
    keeps = "slope"

    def forward(self, x: Any) -> Any:
        return erf_and_slope(x, slope=False)[0]

    def forward_and_keep(self, x: Any) -> Any:
        return erf_and_slope(x)

    def slope(self, x: Any) -> Any:
        """d(out)/dx = 2 / sqrt(pi) * exp(-x*x)."""
        return 2 / math.sqrt(math.pi) * np.exp(-(x * x))

    def backward(self, dout: Any, slope: Any) -> Any:
        return dout * slope


erf = Erf.simple()


class Erfc(Unary):
    """out = 1 - erf(x), with all its digits where erf(x) rounds to 1

    Accurate to 3 units in the last place in float64. Source: as for erf.

    >>> erfc(Tensor([0.0, 10.0]))
    Tensor([1.00000000e+00, 2.08848758e-45], dtype=float64)
    """

    gradients = ("-dout * 2 / sqrt(pi) * exp(-x ** 2)",)
    reference = math.erfc
    keeps = "slope"

    def forward(self, x: Any) -> Any:
        return erfc_and_slope(x, slope=False)[0]

    def forward_and_keep(self, x: Any) -> Any:
        return erfc_and_slope(x)

    def slope(self, x: Any) -> Any:
        """d(out)/dx = -2 / sqrt(pi) * exp(-x*x)."""
        return -2 / math.sqrt(math.pi) * np.exp(-(x * x))

    def backward(self, dout: Any, slope: Any) -> Any:
        return dout * slope


erfc = Erfc.simple()

_TANH_SCALE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715
_SATURATED = 64.0  # the sigmoid in gelu's approximation is 0 or 1 from 24 on, in every dtype


class Gelu(Unary):
    """out = x * Phi(x), Phi being the normal distribution function

    approximate: "none", or "tanh" for x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x**3))) in place of it.
    Raises ArgumentError for any other. Phi(x) = erfc(-x / sqrt(2)) / 2 keeps value and gradient accurate for
    negative x, where 1 + erf is 0 from x = -8.3 on; the value at -inf is 0.
    Source: Hendrycks and Gimpel, Gaussian error linear units, 2016.

    >>> gelu(Tensor([1.0, -10.0]))
    Tensor([ 8.41344746e-01, -7.61985302e-23], dtype=float64)
    """

    approximate: str = "none"
    gradients = ("dout * (erfc(-x / sqrt(2)) / 2 + x * exp(-x ** 2 / 2) / sqrt(2 * pi))",)
    keeps = "slope"
    cases = (Case((3,)), Case(()), Case((2, 3)), Case((2, 2), approximate="tanh"), Case((), approximate="tanh"))

    @staticmethod
    def reference(x: float, approximate: str = "none") -> float:
        if approximate == "tanh":
            return x / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return x * 0.5 * math.erfc(-x / math.sqrt(2))

    def forward(self, x: Any) -> Any:
        return self._with_slope(x, False)[0]

    def forward_and_keep(self, x: Any) -> Any:
        return self._with_slope(x, True)

    def _with_slope(self, x: Any, slope: bool) -> tuple[Any, Any]:
        if self.approximate == "none":
            return gelu_and_slope(x, slope=slope)
        return computed(_gelu_by_tanh, x, slope, _quick_gelu_by_tanh, (4, 8))

    def slope(self, x: Any) -> Any:
        """d(out)/dx = Phi(x) + x * exp(-x*x/2) / sqrt(2 pi); that of x * sigmoid(u) for the approximation."""
        if self.approximate == "none":
            phi = erfc_of(x * -math.sqrt(0.5)) * 0.5
            return phi + x * np.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        u, du = _logit(x)
        s = sigmoid_of(u)
        return s * (1 + _bounded(x) * du * sigmoid_of(-u))

    def backward(self, dout: Any, slope: Any) -> Any:
        return dout * slope


def _gelu_by_tanh(x: Any, slope: bool, out: Any, kept: Any) -> tuple[Any, Any]:
    u, du = _logit(x)
    out, kept = sigmoid_formula(u, slope, out, kept)
    if slope:
        np.multiply(kept, du, kept)
        np.multiply(kept, _bounded(x), kept)
        np.add(kept, out, kept)
    return np.multiply(out, np.maximum(x, _ENDS[x.dtype][0]), out), kept


def _quick_gelu_by_tanh(x: Any, slope: bool, out: Any, kept: Any) -> Any:
    squared = np.square(x)
    u = np.multiply(squared, 2 * _TANH_SCALE * _TANH_CUBE)
    np.add(u, 2 * _TANH_SCALE, u)
    np.multiply(u, x, u)
    s, other = sigmoid_by_parts(u, out, kept)
    if slope:  # s * (1 + x * du * other)
        np.multiply(squared, 6 * _TANH_SCALE * _TANH_CUBE, squared)
        np.add(squared, 2 * _TANH_SCALE, squared)
        np.multiply(squared, x, squared)
        np.multiply(other, squared, other)
        np.add(other, ONE[x.dtype], other)
        np.multiply(other, s, other)
    np.multiply(s, x, out)
    np.absolute(u, u)
    return np.greater(u, TOP[x.dtype])


def erfc_of(x: Any) -> Any:
    """erfc for a rule, which sees an array or a Tensor."""
    return erfc(x) if isinstance(x, Tensor) else erfc_and_slope(x, slope=False)[0]


def _bounded(x: Any) -> Any:
    """x between bounds beyond which nothing changes, so that no inf * 0 comes up."""
    return TABLE["clip"](x, -_SATURATED, _SATURATED) if isinstance(x, Tensor) else np.clip(x, -_SATURATED, _SATURATED)


def _logit(x: Any) -> tuple[Any, Any]:
    """u and du/dx of the approximation, where 1/2 * (1 + tanh(u/2)) = sigmoid(u)."""
    x = _bounded(x)
    squared = x * x
    return (
        2 * _TANH_SCALE * (x + _TANH_CUBE * squared * x),
        2 * _TANH_SCALE * (1 + 3 * _TANH_CUBE * squared),
    )


def _finite(x: Any) -> Any:
    """x with 0 for inf and -inf: it is multiplied by what goes to 0 faster."""
    return masked(x, ~np.isinf(plain(x)))


# The smallest and the largest number.
_ENDS = {dtype: (np.array(np.finfo(dtype).min, dtype), np.array(np.finfo(dtype).max, dtype)) for dtype in ONE}


@Gelu.public()
def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    op = _GELU.get(approximate) if isinstance(approximate, str) else None
    if op is None:
        raise ArgumentError(
            "gelu: approximate", describe(approximate), '"none" or "tanh"', 'write approximate="none", or leave it out'
        )
    return op(x)


_GELU = {name: Gelu(name) for name in ("none", "tanh")}


class Silu(Unary):
    """out = x * sigmoid(x), also called swish

    The slope is sigmoid(x) * (1 + x * sigmoid(-x)), accurate in both tails; the value at -inf is 0.
    Source: Elfwing, Uchibe and Doya, Sigmoid-weighted linear units, Neural Networks 107 (2018).

    >>> silu(Tensor([1.0, -100.0]))
    Tensor([ 7.31058579e-01, -3.72007598e-42], dtype=float64)
    """

    gradients = ("dout * (out + sigmoid(x) * (1 - out))",)
    keeps = "slope"

    @staticmethod
    def reference(x: float) -> float:
        return x / (1 + math.exp(-x))

    def forward(self, x: Any) -> Any:
        return computed(_silu, x, False, _quick_silu, (4, 8))[0]

    def forward_and_keep(self, x: Any) -> Any:
        return computed(_silu, x, True, _quick_silu, (4, 8))

    def slope(self, x: Any) -> Any:
        """d(out)/dx = sigmoid(x) + x * sigmoid(x) * sigmoid(-x)."""
        s = sigmoid_of(x)
        return s + _finite(x) * s * sigmoid_of(-x)

    def backward(self, dout: Any, slope: Any) -> Any:
        return dout * slope


silu = Silu.simple()


def _silu(x: Any, slope: bool, out: Any, kept: Any) -> tuple[Any, Any]:
    out, kept = sigmoid_formula(x, slope, out, kept)
    low, high = _ENDS[x.dtype]
    above = np.maximum(x, low)  # -inf * 0 would be nan
    if slope:
        np.multiply(kept, np.minimum(above, high), kept)
        np.add(kept, out, kept)
    return np.multiply(out, above, out), kept


def _quick_silu(x: Any, slope: bool, out: Any, kept: Any) -> Any:
    s, other = sigmoid_by_parts(x, out, kept)
    if slope:  # s * (1 + x * other)
        np.multiply(other, x, other)
        np.add(other, ONE[x.dtype], other)
        np.multiply(other, s, other)
    np.multiply(s, x, out)
    return np.greater(np.absolute(x), TOP[x.dtype])


class LeakyRelu(Unary):
    """out = x where x > 0, negative_slope * x elsewhere; the gradient at 0 is negative_slope, as in PyTorch

    negative_slope: a number. Raises DTypeError for anything else. Source: Maas, Hannun and Ng, Rectifier
    nonlinearities improve neural network acoustic models, 2013.

    >>> leaky_relu(Tensor([-1.0, 2.0]))
    Tensor([-0.01,  2.  ], dtype=float64)
    """

    negative_slope: float = 0.01
    gradients = ("dout * where(x > 0, 1, negative_slope)",)
    domain = AWAY_FROM_ZERO
    cases = (Case((3,)), Case(()), Case((2, 3), negative_slope=0.25), Case((2, 2), negative_slope=1.5), Case((0, 2)))

    @staticmethod
    def reference(x: float, negative_slope: float = 0.01) -> float:
        return x if x > 0 else negative_slope * x

    def forward(self, x: Any) -> Any:
        x = floats(x)
        return positive(x) if self.negative_slope == 0 else entrywise(self._fill_out, x)

    def _fill_out(self, x: Any, out: Any) -> None:
        np.multiply(x, self.negative_slope, out)
        (np.maximum if self.negative_slope <= 1 else np.minimum)(x, out, out=out)

    def backward(self, dout: Any, x: Any) -> Any:
        if isinstance(dout, Tensor):
            return np.where(plain(x) > 0, dout, dout * self.negative_slope)
        return entrywise(self._fill_dx, dout, x)

    def _fill_dx(self, dout: Any, x: Any, out: Any) -> None:
        np.multiply(dout, self.negative_slope, out)
        put(np.greater(x, ZERO[x.dtype]), dout, out)


@LeakyRelu.public()
def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    if not isinstance(negative_slope, (int, float, np.floating, np.integer)) or isinstance(negative_slope, bool):
        raise DTypeError(
            "leaky_relu: negative_slope", describe(negative_slope), "a number", "write negative_slope=0.01, for example"
        )
    return LeakyRelu(float(negative_slope))(x)
