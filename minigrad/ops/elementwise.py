"""Ops that work entry by entry, the simplest first. Each is out = f(x) or f(x, y), broadcast as in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.contract import AWAY_FROM_ZERO, CONDITION, POSITIVE, REAL, UNIT, Domain, numbers
from minigrad.op import Binary, Op, Unary
from minigrad.ops.kernels import masked, positive, sigmoid_of, tanh_and_slope, tanh_values
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = [
    "absolute", "add", "arccos", "arcsin", "arctan", "arctan2", "clip", "cos", "cosh", "divide", "exp", "expm1",
    "hypot", "log", "log1p", "maximum", "minimum", "multiply", "negative", "power", "relu", "sin", "sinh", "sqrt",
    "square", "subtract", "tan", "tanh", "where",
]  # fmt: skip


class Add(Binary):
    """out = x + y

    >>> add(Tensor([1.0, 2.0]), 10.0)
    Tensor([11., 12.], dtype=float64)
    """

    symbol = "+"
    gradients = ("dout", "dout")
    reference = float.__add__
    forward = np.add

    def backward(self, dout: Any) -> Any:
        return dout, dout


add = Add.simple(np.add)


class Subtract(Binary):
    """out = x - y

    >>> subtract(Tensor([1.0, 2.0]), 10.0)
    Tensor([-9., -8.], dtype=float64)
    """

    symbol = "-"
    gradients = ("dout", "-dout")
    reference = float.__sub__
    forward = np.subtract

    def backward(self, dout: Any, needs: Any) -> Any:
        return dout, -dout if needs[1] else None


subtract = Subtract.simple(np.subtract)


class Multiply(Binary):
    """out = x * y

    >>> multiply(Tensor([1.0, 2.0]), 10.0)
    Tensor([10., 20.], dtype=float64)
    """

    symbol = "×"
    gradients = ("dout * y", "dout * x")
    reference = float.__mul__
    forward = np.multiply

    def backward(self, dout: Any, x: Any, y: Any, needs: Any) -> Any:
        return dout * y if needs[0] else None, dout * x if needs[1] else None


multiply = Multiply.simple(np.multiply)


class Divide(Binary):
    """out = x / y

    >>> divide(Tensor([1.0, 2.0]), 10.0)
    Tensor([0.1, 0.2], dtype=float64)
    """

    symbol = "/"
    gradients = ("dout / y", "-dout * out / y")
    domain = (REAL, AWAY_FROM_ZERO)
    reference = float.__truediv__
    forward = np.divide

    def backward(self, dout: Any, y: Any, out: Any, needs: Any) -> Any:
        dx = dout / y
        return dx, -dx * out if needs[1] else None


divide = Divide.simple(np.divide)


class Negative(Unary):
    """out = -x

    >>> negative(Tensor([1.0, -2.0]))
    Tensor([-1.,  2.], dtype=float64)
    """

    symbol = "-"
    gradients = ("-dout",)
    reference = float.__neg__
    forward = np.negative

    def backward(self, dout: Any) -> Any:
        return -dout


negative = Negative.simple(np.negative)


class Power(Binary):
    """out = x ** y

    The gradient for y wants x > 0; at x = 0 it is 0. An exponent of 0 has gradient 0 for x.

    >>> power(Tensor([1.0, 2.0]), 3)
    Tensor([1., 8.], dtype=float64)
    """

    symbol = "^"
    gradients = ("dout * y * x ** (y - 1)", "dout * out * log(x)")
    domain = (POSITIVE, REAL)
    reference = math.pow
    forward = np.power

    def backward(self, dout: Any, x: Any, y: Any, out: Any, needs: Any) -> Any:
        dx = dy = None
        if needs[0]:
            # Where y = 0 the exponent stays 0, so that 0 * 0**-1 does not come up; for y that is differentiated too
            # only where x = 0 as well, since elsewhere d/dy of y * x**(y-1) is wanted.
            less = plain(y) != 0
            if not isinstance(y, (int, float)):
                less = (less | (plain(x) != 0)).astype(x.dtype)
            dx = dout * (y * x ** (y - less))
        if needs[1]:
            dy = dout * (out * np.log(np.where(plain(x) == 0, 1, x)))
        return dx, dy


power = Power.simple(np.power)


class Exp(Unary):
    """out = exp(x)

    >>> exp(Tensor([0.0, 1.0]))
    Tensor([1.        , 2.71828183], dtype=float64)
    """

    gradients = ("dout * out",)
    reference = math.exp
    forward = np.exp

    def backward(self, dout: Any, out: Any) -> Any:
        return dout * out


exp = Exp.simple(np.exp)


class Expm1(Unary):
    """out = exp(x) - 1, accurate near 0

    >>> expm1(Tensor([0.0, 1e-10]))
    Tensor([0.e+00, 1.e-10], dtype=float64)
    """

    gradients = ("dout * exp(x)",)
    reference = math.expm1
    forward = np.expm1

    def backward(self, dout: Any, x: Any) -> Any:
        return dout * np.exp(x)  # not out + 1, which is 0 from x = -37 on


expm1 = Expm1.simple(np.expm1)


class Log(Unary):
    """out = log(x), the natural logarithm

    >>> log(Tensor([1.0, 10.0]))
    Tensor([0.        , 2.30258509], dtype=float64)
    """

    gradients = ("dout / x",)
    domain = POSITIVE
    reference = math.log
    forward = np.log

    def backward(self, dout: Any, x: Any) -> Any:
        return dout / x


log = Log.simple(np.log)


class Log1p(Unary):
    """out = log(1 + x), accurate near 0

    >>> log1p(Tensor([0.0, 1e-10]))
    Tensor([0.e+00, 1.e-10], dtype=float64)
    """

    gradients = ("dout / (1 + x)",)
    domain = POSITIVE
    reference = math.log1p
    forward = np.log1p

    def backward(self, dout: Any, x: Any) -> Any:
        return dout / (1 + x)


log1p = Log1p.simple(np.log1p)


class Sqrt(Unary):
    """out = sqrt(x)

    The gradient at 0 is inf; `norm` has gradient 0 there.

    >>> sqrt(Tensor([4.0, 9.0]))
    Tensor([2., 3.], dtype=float64)
    """

    symbol = "√"
    gradients = ("dout / (2 * out)",)
    domain = POSITIVE
    reference = math.sqrt
    forward = np.sqrt

    def backward(self, dout: Any, out: Any) -> Any:
        return dout * 0.5 / out


sqrt = Sqrt.simple(np.sqrt)


def _squared(x: float) -> float:
    return x * x


class Square(Unary):
    """out = x * x

    >>> square(Tensor([3.0, -4.0]))
    Tensor([ 9., 16.], dtype=float64)
    """

    symbol = "^2"
    gradients = ("dout * 2 * x",)
    reference = _squared
    forward = np.square

    def backward(self, dout: Any, x: Any) -> Any:
        return dout * 2 * x


square = Square.simple(np.square)


class Absolute(Unary):
    """out = |x|; the gradient at 0 is 0

    >>> absolute(Tensor([3.0, -4.0]))
    Tensor([3., 4.], dtype=float64)
    """

    symbol = "|x|"
    gradients = ("dout * sign(x)",)
    domain = AWAY_FROM_ZERO
    reference = math.fabs
    forward = np.absolute

    def backward(self, dout: Any, x: Any) -> Any:
        return dout * np.sign(x)


absolute = Absolute.simple(np.absolute, np.fabs)


class Sin(Unary):
    """out = sin(x), x in radians

    >>> sin(Tensor([0.0, 1.0]))
    Tensor([0.        , 0.84147098], dtype=float64)
    """

    gradients = ("dout * cos(x)",)
    reference = math.sin
    forward = np.sin

    def backward(self, dout: Any, x: Any) -> Any:
        return dout * np.cos(x)


sin = Sin.simple(np.sin)


class Cos(Unary):
    """out = cos(x), x in radians

    >>> cos(Tensor([0.0, 1.0]))
    Tensor([1.        , 0.54030231], dtype=float64)
    """

    gradients = ("-dout * sin(x)",)
    reference = math.cos
    forward = np.cos

    def backward(self, dout: Any, x: Any) -> Any:
        return -dout * np.sin(x)


cos = Cos.simple(np.cos)


class Tan(Unary):
    """out = tan(x), x in radians

    >>> tan(Tensor([0.0, 1.0]))
    Tensor([0.        , 1.55740772], dtype=float64)
    """

    gradients = ("dout * (1 + out ** 2)",)
    domain = UNIT
    reference = math.tan
    forward = np.tan

    def backward(self, dout: Any, out: Any) -> Any:
        return dout * (1 + out * out)


tan = Tan.simple(np.tan)


class Sinh(Unary):
    """out = sinh(x)

    >>> sinh(Tensor([0.0, 1.0]))
    Tensor([0.        , 1.17520119], dtype=float64)
    """

    gradients = ("dout * cosh(x)",)
    reference = math.sinh
    forward = np.sinh

    def backward(self, dout: Any, x: Any) -> Any:
        return dout * np.cosh(x)


sinh = Sinh.simple(np.sinh)


class Cosh(Unary):
    """out = cosh(x)

    >>> cosh(Tensor([0.0, 1.0]))
    Tensor([1.        , 1.54308063], dtype=float64)
    """

    gradients = ("dout * sinh(x)",)
    reference = math.cosh
    forward = np.cosh

    def backward(self, dout: Any, x: Any) -> Any:
        return dout * np.sinh(x)


cosh = Cosh.simple(np.cosh)


class Tanh(Unary):
    """out = tanh(x)

    The slope is (2e / (1 + e*e))**2 with e = exp(-|x|): right in the tails, where 1 - out*out is 0.

    >>> tanh(Tensor([0.0, 1.0]))
    Tensor([0.        , 0.76159416], dtype=float64)
    """

    gradients = ("dout * (1 - out ** 2)",)
    reference = math.tanh
    keeps = "slope"

    def forward(self, x: Any) -> Any:
        return tanh_values(x)

    def forward_and_keep(self, x: Any) -> Any:
        return tanh_and_slope(x)

    def slope(self, x: Any) -> Any:
        """d(out)/dx = 4 * sigmoid(2x) * sigmoid(-2x)."""
        return 4 * sigmoid_of(2 * x) * sigmoid_of(-2 * x)

    def backward(self, dout: Any, slope: Any) -> Any:
        return dout * slope


tanh = Tanh.simple(np.tanh)


class Arcsin(Unary):
    """out = arcsin(x), -1 <= x <= 1, in radians

    >>> arcsin(Tensor([0.0, 1.0]))
    Tensor([0.        , 1.57079633], dtype=float64)
    """

    gradients = ("dout / sqrt(1 - x ** 2)",)
    domain = UNIT
    reference = math.asin
    forward = np.arcsin

    def backward(self, dout: Any, x: Any) -> Any:
        return dout / np.sqrt((1 - x) * (1 + x))  # 1 - x*x cancels near 1


arcsin = Arcsin.simple(np.arcsin)


class Arccos(Unary):
    """out = arccos(x), -1 <= x <= 1, in radians

    >>> arccos(Tensor([0.0, 1.0]))
    Tensor([1.57079633, 0.        ], dtype=float64)
    """

    gradients = ("-dout / sqrt(1 - x ** 2)",)
    domain = UNIT
    reference = math.acos
    forward = np.arccos

    def backward(self, dout: Any, x: Any) -> Any:
        return -dout / np.sqrt((1 - x) * (1 + x))


arccos = Arccos.simple(np.arccos)


class Arctan(Unary):
    """out = arctan(x), in radians

    >>> arctan(Tensor([0.0, 1.0]))
    Tensor([0.        , 0.78539816], dtype=float64)
    """

    gradients = ("dout / (1 + x ** 2)",)
    reference = math.atan
    forward = np.arctan

    def backward(self, dout: Any, x: Any) -> Any:
        h = np.hypot(x, 1.0)  # x*x would overflow from 1e154 on
        return dout / h / h


arctan = Arctan.simple(np.arctan)


class Arctan2(Binary):
    """out = arctan2(x, y), the angle of the point (y, x) in radians

    >>> arctan2(Tensor([1.0]), Tensor([-1.0]))
    Tensor([2.35619449], dtype=float64)
    """

    gradients = ("dout * y / (x ** 2 + y ** 2)", "-dout * x / (x ** 2 + y ** 2)")
    domain = (AWAY_FROM_ZERO, AWAY_FROM_ZERO)
    reference = math.atan2
    forward = np.arctan2

    def backward(self, dout: Any, x: Any, y: Any) -> Any:
        h = np.hypot(x, y)
        return dout * (y / h) / h, -dout * (x / h) / h


arctan2 = Arctan2.simple(np.arctan2)


class Hypot(Binary):
    """out = sqrt(x*x + y*y), without overflow; the gradient at (0, 0) is 0

    >>> hypot(Tensor([3.0]), Tensor([4.0]))
    Tensor([5.], dtype=float64)
    """

    gradients = ("dout * x / out", "dout * y / out")
    domain = (AWAY_FROM_ZERO, AWAY_FROM_ZERO)
    reference = math.hypot
    forward = np.hypot

    def backward(self, dout: Any, x: Any, y: Any, out: Any) -> Any:
        h = np.where(plain(out) == 0, 1, out)
        return dout * (x / h), dout * (y / h)


hypot = Hypot.simple(np.hypot)


def _larger(x: float, y: float) -> float:
    return x if x > y else y


def _smaller(x: float, y: float) -> float:
    return x if x < y else y


class Maximum(Binary):
    """out = max(x, y); a tie gives half of the gradient to each

    >>> maximum(Tensor([1.0, 5.0]), 3.0)
    Tensor([3., 5.], dtype=float64)
    """

    symbol = "max"
    gradients = ("dout * ((x > y) + (x == y) / 2)", "dout * ((y > x) + (x == y) / 2)")
    moves = selects = True
    reference = _larger
    forward = np.maximum

    def backward(self, dout: Any, x: Any, y: Any) -> Any:
        return _share(dout, x, y, np.greater)


maximum = Maximum.simple(np.maximum)


class Minimum(Binary):
    """out = min(x, y); a tie gives half of the gradient to each

    >>> minimum(Tensor([1.0, 5.0]), 3.0)
    Tensor([1., 3.], dtype=float64)
    """

    symbol = "min"
    gradients = ("dout * ((x < y) + (x == y) / 2)", "dout * ((y < x) + (x == y) / 2)")
    moves = selects = True
    reference = _smaller
    forward = np.minimum

    def backward(self, dout: Any, x: Any, y: Any) -> Any:
        return _share(dout, x, y, np.less)


minimum = Minimum.simple(np.minimum)


def _share(dout: Any, x: Any, y: Any, wins: Any) -> Any:
    """dout to the one that wins; to a nan, which makes out nan, in any case."""
    x, y = plain(x), plain(y)
    half = masked(0.5 * dout, x == y)
    return masked(dout, wins(x, y) | np.isnan(x)) + half, masked(dout, wins(y, x) | np.isnan(y)) + half


class Relu(Unary):
    """out = max(x, 0); the gradient at 0 is 0

    It does not say which entries it selects, as where and maximum do.

    >>> relu(Tensor([-1.0, 2.0]))
    Tensor([0., 2.], dtype=float64)
    """

    gradients = ("dout * (x > 0)",)
    domain = AWAY_FROM_ZERO

    @staticmethod
    def reference(x: float) -> float:
        return x if x > 0 else 0.0

    def forward(self, x: Any) -> Any:
        return positive(x)

    # Without `selects`: a step of the book's network would take 1.2 times as long, relu of 10**6 values 2.3 times.
    def backward(self, dout: Any, out: Any) -> Any:
        return masked(dout, plain(out) > 0)


relu = Relu.simple()


class Where(Op):
    """out = x where condition holds, y elsewhere

    condition: booleans; x, y: values that broadcast with it.

    >>> where([True, False], Tensor([1.0, 2.0]), 0.0)
    Tensor([1., 0.], dtype=float64)
    """

    gradients = ("", "dout * condition", "dout * ~condition")
    elementwise = True
    domain = (CONDITION, REAL, REAL)
    moves = selects = True

    @staticmethod
    def reference(condition: float, x: float, y: float) -> float:
        return x if condition else y

    def forward(self, condition: Any, x: Any, y: Any) -> Any:
        return np.where(condition, x, y)

    def backward(self, dout: Any, condition: Any, needs: Any) -> Any:
        dx = masked(dout, condition) if needs[1] else None
        return None, dx, masked(dout, ~condition) if needs[2] else None


@Where.public(np.where)
def where(condition: TensorLike, x: TensorLike, y: TensorLike) -> Tensor:
    return Where()(numbers("where: condition", plain(condition), None, copy=False) != 0, x, y)


class Clip(Op):
    """out = x held between a_min and a_max; the gradient at a bound is 1

    a_min, a_max: values that broadcast with x, or None for no bound. They get the gradient where they cut.

    >>> clip(Tensor([-3.0, 0.5, 3.0]), -1.0, 1.0)
    Tensor([-1. ,  0.5,  1. ], dtype=float64)
    """

    gradients = ("dout * ((a_min <= x) & (x <= a_max))", "dout * (x < a_min)", "dout * (x > a_max)")
    elementwise = True
    domain = (REAL, Domain(-4.0, 0.0), Domain(0.0, 4.0))  # a_min <= a_max, and both cut
    moves = selects = True

    @staticmethod
    def reference(x: float, a_min: float, a_max: float) -> float:
        return min(max(x, a_min), a_max)

    def forward(self, x: Any, a_min: Any, a_max: Any) -> Any:
        return np.minimum(np.maximum(x, a_min), a_max)

    def backward(self, dout: Any, x: Any, a_min: Any, a_max: Any) -> Any:
        x, low, high = plain(x), plain(a_min), plain(a_max)
        over = np.maximum(x, low) > high
        under = (x < low) & ~over
        return masked(dout, ~(over | under)), masked(dout, under), masked(dout, over)


@Clip.public(np.clip)
def clip(x: TensorLike, a_min: TensorLike | None = None, a_max: TensorLike | None = None) -> Tensor:
    dtype = numbers("clip: x", plain(x), None, copy=False).dtype
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (-np.inf, np.inf)
    return Clip()(x, low if a_min is None else a_min, high if a_max is None else a_max)
