"""Fused ops: one node, with a rule of its own, in place of a whole piece of graph.

Each has a readable twin in minigrad.unfused, built from exp, add, mul, div, log, and is more accurate.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.contract import Case
from minigrad.errors import ArgumentError, describe
from minigrad.op import Op, Unary
from minigrad.ops.kernels import (
    floats,
    log_sigmoid_and_slope,
    sigmoid_and_slope,
    sigmoid_of,
    softplus_and_slope,
)
from minigrad.ops.rows import (
    log_softmax_gradient,
    log_softmax_values,
    softmax_gradient,
    softmax_of,
    softmax_values,
)
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["log_sigmoid", "log_softmax", "sigmoid", "softmax", "softplus"]


class Sigmoid(Unary):
    """out = 1 / (1 + exp(-x))

    Value and slope e / (1+e)**2, e = exp(-|x|), are accurate on the whole line; the book's dout * (1 - out) * out
    loses everything where out rounds to 1. Source: Deep Learning from Scratch, section 5.5.2, figure 5-19.

    >>> sigmoid(Tensor([0.0, 5.0]))
    Tensor([0.5       , 0.99330715], dtype=float64)
    """

    gradients = ("dout * out * (1 - out)",)
    keeps = "slope"

    @staticmethod
    def reference(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    def forward(self, x: Any) -> Any:
        return sigmoid_and_slope(x, slope=False)[0]

    def forward_and_keep(self, x: Any) -> Any:
        return sigmoid_and_slope(x)

    def slope(self, x: Any) -> Any:
        """d(out)/dx = sigmoid(x) * sigmoid(-x)."""
        return sigmoid_of(x) * sigmoid_of(-x)

    def backward(self, dout: Any, slope: Any) -> Any:
        return dout * slope


sigmoid = Sigmoid.simple()


class LogSigmoid(Unary):
    """out = log(1 / (1 + exp(-x))) = min(x, 0) - log1p(exp(-|x|))

    >>> log_sigmoid(Tensor([0.0, -800.0]))
    Tensor([-6.93147181e-01, -8.00000000e+02], dtype=float64)
    """

    gradients = ("dout * sigmoid(-x)",)
    keeps = "slope"

    @staticmethod
    def reference(x: float) -> float:
        return -math.log1p(math.exp(-x))

    def forward(self, x: Any) -> Any:
        return log_sigmoid_and_slope(x, slope=False)[0]

    def forward_and_keep(self, x: Any) -> Any:
        return log_sigmoid_and_slope(x)

    def slope(self, x: Any) -> Any:
        """d(out)/dx = sigmoid(-x)."""
        return sigmoid_of(-x)

    def backward(self, dout: Any, slope: Any) -> Any:
        return dout * slope


log_sigmoid = LogSigmoid.simple()


class Softplus(Unary):
    """out = log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))

    >>> softplus(Tensor([0.0, 800.0]))
    Tensor([6.93147181e-01, 8.00000000e+02], dtype=float64)
    """

    gradients = ("dout * sigmoid(x)",)
    keeps = "slope"

    @staticmethod
    def reference(x: float) -> float:
        return math.log1p(math.exp(x))

    def forward(self, x: Any) -> Any:
        return softplus_and_slope(x, slope=False)[0]

    def forward_and_keep(self, x: Any) -> Any:
        return softplus_and_slope(x)

    def slope(self, x: Any) -> Any:
        """d(out)/dx = sigmoid(x)."""
        return sigmoid_of(x)

    def backward(self, dout: Any, slope: Any) -> Any:
        return dout * slope


softplus = Softplus.simple()


def complement(p: Any, x: Any, axis: int) -> tuple[Any, Any, Any]:
    """(1 at each row's winner, p without the winner, 1 - p), the last with all its digits at the winner.

    1 - p cancels where p is near 1, and only the winner's can be; there it is the sum of the other entries.
    """
    x = plain(x)
    top = np.zeros_like(x, floats(x).dtype, order="C")
    np.put_along_axis(top, np.expand_dims(np.argmax(x, axis=axis), axis), 1, axis)
    rest = p * (1 - top)
    return top, rest, (1 - p) * (1 - top) + top * np.sum(rest, axis=axis, keepdims=True)


class OverAxis(Op):
    """An op on each row along axis: an entry of out depends on the whole row, and on no other."""

    axis: int = -1

    def carry(self, chosen: Any, dout: Any, saved: tuple[Any, ...], parents: tuple[Any, ...]) -> Any:
        return (np.broadcast_to(chosen.any(axis=self.axis, keepdims=True), chosen.shape),)


class Softmax(OverAxis):
    """out_i = exp(x_i) / sum_j exp(x_j), over axis

    axis: the axis of the classes, the last one by default. Source: Deep Learning from Scratch, section 3.5.

    >>> softmax(Tensor([1010.0, 1000.0, 990.0]))
    Tensor([9.99954600e-01, 4.53978686e-05, 2.06106005e-09], dtype=float64)
    """

    gradients = ("out * (dout - sum(dout * out, axis, keepdims=True))",)
    cases = (Case((5,)), Case((2, 3)), Case((3, 2, 2), axis=1), Case((4, 1)), Case((0, 3)))

    @staticmethod
    def reference(x: Any, axis: int = -1) -> Any:
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)

    def check(self, x: Any) -> None:
        """That there is a class to choose."""
        if 0 in np.shape(x)[self.axis :][:1]:
            raise ArgumentError(
                f"{self.name}: x",
                f"x is {describe(x)}, axis={self.axis}",
                "at least one class along that axis",
                "check what x was selected with",
            )

    def forward(self, x: Any) -> Any:
        return softmax_values(x, self.axis)

    def backward(self, dout: Any, out: Any) -> Any:
        if not isinstance(dout, Tensor):
            return softmax_gradient(dout, out, self.axis)
        top, rest, _ = complement(out, out, self.axis)
        s = np.sum(dout * rest, axis=self.axis, keepdims=True)
        s_top = np.sum(dout * out * top, axis=self.axis, keepdims=True)
        q_top = np.sum(rest, axis=self.axis, keepdims=True)
        return out * ((dout - s_top) * (1 - top) + dout * q_top * top - s)


@Softmax.public()
def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    return Softmax(axis)(x)


class LogSoftmax(OverAxis):
    """out_i = x_i - log(sum_j exp(x_j)), over axis

    axis: the axis of the classes, the last one by default.

    >>> log_softmax(Tensor([100.0, 0.0]))
    Tensor([-3.72007598e-44, -1.00000000e+02], dtype=float64)
    """

    gradients = ("dout - exp(out) * sum(dout, axis, keepdims=True)",)
    cases = Softmax.cases

    @staticmethod
    def reference(x: Any, axis: int = -1) -> Any:
        return np.log(Softmax.reference(x, axis))

    check = Softmax.check

    def forward(self, x: Any) -> Any:
        return log_softmax_values(x, self.axis)

    def backward(self, dout: Any, x: Any) -> Any:
        if not isinstance(dout, Tensor):
            return log_softmax_gradient(dout, x, self.axis)
        p = softmax_of(x, self.axis)
        top, _, q = complement(p, x, self.axis)
        others = np.sum(dout, axis=self.axis, keepdims=True) * (1 - top)
        others = others + top * np.sum(dout * (1 - top), axis=self.axis, keepdims=True)
        # dout - p * sum(dout); the winner's own dout is in the sum once, as dout * (1 - p)
        return dout * ((1 - top) + q * top) - p * others


@LogSoftmax.public()
def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    return LogSoftmax(axis)(x)
