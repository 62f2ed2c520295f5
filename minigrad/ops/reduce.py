"""Ops that take an axis away, or run along one: sum first, the rest by its example."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from minigrad.contract import POSITIVE, Case, Domain
from minigrad.errors import ArgumentError, describe
from minigrad.op import Op
from minigrad.ops.kernels import either, floats, masked
from minigrad.ops.rows import silent, softmax_of, without_winner
from minigrad.sums import add_up
from minigrad.tensor import Axis, Tensor, TensorLike, plain

__all__ = ["cumsum", "logsumexp", "max", "mean", "min", "prod", "std", "sum", "var"]


class Reduction(Op):
    """An op over axis: one axis, several, or all of them (None); keepdims leaves axes of length 1 behind."""

    axis: Axis = None
    keepdims: bool = False
    # In the gradients of all of them, dout and out have the reduced axes back, of length 1: see spread.

    def spread(self, dout: Any, x_shape: tuple[int, ...]) -> Any:
        """dout with the reduced axes back, of length 1, so that it broadcasts against x."""
        if self.keepdims or not x_shape or dout.shape == x_shape:
            return dout
        axes = _axes(self.axis, len(x_shape))
        return np.reshape(dout, tuple(1 if i in axes else n for i, n in enumerate(x_shape)))

    def count(self, x_shape: tuple[int, ...]) -> int:
        """How many entries of x go into one of out."""
        return math.prod(x_shape[i] for i in _axes(self.axis, len(x_shape)))

    def carry(self, chosen: Any, dout: Any, saved: tuple[Any, ...], parents: tuple[Any, ...]) -> Any:
        if self.moves or parents[0] is None:
            return super().carry(chosen, dout, saved, parents)
        shape = parents[0].shape
        return (np.broadcast_to(self.spread(chosen, shape), shape),)

    def flat(self, x: Any) -> tuple[Any, Any, tuple[int, ...]]:
        """x with the reduced axes joined into a last one, the order that did it, and the shape before joining."""
        n = len(x.shape)
        axes = _axes(self.axis, n)
        order = [i for i in range(n) if i not in axes] + list(axes)
        moved = np.transpose(x, order)
        return (
            np.reshape(moved, (*moved.shape[: n - len(axes)], self.count(x.shape))),
            np.argsort(order).tolist(),
            moved.shape,
        )


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim)) if axis is None else normalize_axis_tuple(axis, ndim)


def fixed_axis(axis: Any) -> Axis:
    """axis as a hashable parameter: a list becomes a tuple."""
    return tuple(axis) if isinstance(axis, list) else axis


class Sum(Reduction):
    """out = sum of x over axis

    axis: an axis, a tuple of them, or None for all. keepdims: leave axes of length 1 behind.
    Many rows are added in blocks, where NumPy adds one by one: 2 * 10**6 times 0.1 in float32 is right to 1e-6, not to
    1.5 %. float16 is added in float32 and rounded once. Raises LabelError for an axis that x does not have.

    >>> sum(Tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    Tensor([4., 6.], dtype=float64)
    """

    symbol = "Σ"
    gradients = ("broadcast_to(dout, x.shape)",)
    moves = True
    reference = math.fsum

    def forward(self, x: Any) -> Any:
        return add_up(x, self.axis, keepdims=self.keepdims)

    def backward(self, dout: Any, x_shape: Any) -> Any:
        return np.broadcast_to(self.spread(dout, x_shape), x_shape)


@Sum.public(np.sum)
def sum(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return Sum(fixed_axis(axis), keepdims)(x)


def _mean(x: Any, axis: Axis, keepdims: bool = False) -> Any:
    """The mean of an array as np.mean has it, of a sum that adds up rows in blocks."""
    if x.dtype.kind != "f":
        return np.mean(x, axis=axis, keepdims=keepdims)
    n = math.prod(x.shape[i] for i in _axes(axis, x.ndim))
    return _like(add_up(x, axis, keepdims=keepdims, dtype=np.float32 if x.itemsize == 2 else None) / n, x)


def _like(out: Any, x: Any) -> Any:
    """out in float16 where x is: it has been computed in float32."""
    return out.astype(x.dtype) if x.dtype == np.float16 else out


mean_of = either("mean", _mean)


class Mean(Reduction):
    """out = mean of x over axis

    axis: an axis, a tuple of them, or None for all. keepdims: leave axes of length 1 behind.
    Raises ArgumentError for no values, LabelError for an axis that x does not have.

    >>> mean(Tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    Tensor([2., 3.], dtype=float64)
    """

    gradients = ("broadcast_to(dout * out.size / x.size, x.shape)",)
    moves = True

    @staticmethod
    def reference(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    def check(self, x: Any) -> None:
        """That there is something to take the mean of."""
        _not_empty(self, x)

    def forward(self, x: Any) -> Any:
        return _mean(x, self.axis, self.keepdims)

    def backward(self, dout: Any, x_shape: Any) -> Any:
        n = self.count(x_shape)
        share = dout * (1 / n) if dout.dtype.itemsize == 2 else dout / n  # float16 ends at 65504, before many an n
        return np.broadcast_to(self.spread(share, x_shape), x_shape)


@Mean.public(np.mean)
def mean(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return Mean(fixed_axis(axis), keepdims)(x)


class Var(Reduction):
    """out = sum((x - mean(x))**2) / (n - ddof), over axis

    ddof: 0 for the variance of the values, 1 for the estimate from a sample.
    axis: an axis, a tuple of them, or None for all. keepdims: leave axes of length 1 behind.
    Raises ArgumentError for no values, LabelError for an axis that x does not have.

    >>> var(Tensor([1.0, 2.0, 3.0]))
    Tensor(0.66666667, dtype=float64)
    """

    ddof: float = 0
    gradients = ("dout * 2 * (x - mean(x, axis, keepdims=True)) / (x.size / out.size - ddof)",)

    @staticmethod
    def reference(values: list[float]) -> float:
        m = math.fsum(values) / len(values)
        return math.fsum((v - m) ** 2 for v in values) / len(values)

    def check(self, x: Any) -> None:
        """That there is something to take the variance of."""
        _not_empty(self, x)
        _enough(self, x, self.ddof)

    def forward(self, x: Any) -> Any:
        return _like(_variance(self, x), x)

    def backward(self, dout: Any, x: Any) -> Any:
        centred = x - mean_of(x, self.axis, keepdims=True)
        return self.spread(dout, x.shape) * (2 / (self.count(x.shape) - self.ddof)) * centred


@Var.public(np.var)
def var(x: TensorLike, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    return Var(fixed_axis(axis), keepdims, ddof)(x)


def _variance(op: Any, x: Any) -> Any:
    """The variance that the op is about, float16's in float32."""
    if x.dtype.kind != "f":
        return np.var(x, axis=op.axis, ddof=op.ddof, keepdims=op.keepdims)
    x = x.astype(np.float32) if x.itemsize == 2 else x
    x = x - _mean(x, op.axis, keepdims=True)
    return add_up(x * x, op.axis, keepdims=op.keepdims) / (op.count(x.shape) - op.ddof)


class Std(Reduction):
    """out = sqrt(sum((x - mean(x))**2) / (n - ddof)), over axis; the gradient where it is 0 is 0

    ddof: 0 for the deviation of the values, 1 for the estimate from a sample.
    axis: an axis, a tuple of them, or None for all. keepdims: leave axes of length 1 behind.
    Raises ArgumentError for no values, LabelError for an axis that x does not have.

    >>> std(Tensor([1.0, 3.0]))
    Tensor(1., dtype=float64)
    """

    ddof: float = 0
    gradients = ("dout * (x - mean(x, axis, keepdims=True)) / (x.size / out.size - ddof) / out",)
    cases = (Case((2, 3), axis=1), Case((4,), ddof=1), Case((2, 3, 2), axis=(0, 2), keepdims=True))

    @staticmethod
    def reference(x: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Any:
        m = x.mean(axis=axis, keepdims=True)
        n = x.size // m.size
        return np.sqrt(((x - m) ** 2).sum(axis=axis, keepdims=keepdims) / (n - ddof))

    def check(self, x: Any) -> None:
        """That there is something to take the deviation of."""
        _not_empty(self, x)
        _enough(self, x, self.ddof)

    def forward(self, x: Any) -> Any:
        return _like(np.sqrt(_variance(self, x)), x)

    def backward(self, dout: Any, x: Any, out: Any) -> Any:
        centred = x - mean_of(x, self.axis, keepdims=True)
        centred = centred - mean_of(centred, self.axis, keepdims=True)  # equal values: 0, not the mean's rounding
        safe = np.where(plain(out) == 0, 1, out)
        return self.spread(dout / safe, x.shape) * (1 / (self.count(x.shape) - self.ddof)) * centred


@Std.public(np.std)
def std(x: TensorLike, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    return Std(fixed_axis(axis), keepdims, ddof)(x)


class Prod(Reduction):
    """out = product of x over axis; the gradient, the product of the others, is exact also beside zeros

    axis: an axis, a tuple of them, or None for all. keepdims: leave axes of length 1 behind.
    Raises LabelError for an axis that x does not have.

    >>> x = Tensor([2.0, 0.0, 3.0], requires_grad=True)
    >>> prod(x).backward()
    >>> x.grad
    array([0., 6., 0.])
    """

    symbol = "Π"
    gradients = ("dout * out / x",)
    domain = Domain(-1.25, 1.25, away=(0.0,), gap=0.25)  # narrow, so that 27 factors stay within float16
    reference = math.prod

    def forward(self, x: Any) -> Any:
        return np.prod(x, axis=self.axis, keepdims=self.keepdims)

    def backward(self, dout: Any, x: Any) -> Any:
        flat, back, shape = self.flat(x)
        others = np.transpose(np.reshape(_product_of_others(flat), shape), back)
        return self.spread(dout, x.shape) * others


def _product_of_others(x: Any) -> Any:
    """For each entry along the last axis the product of all the others, by halving: no division."""
    n = x.shape[-1]
    if n < 2:
        return np.ones(x.shape, x.dtype)
    if n % 2:
        one = np.ones((*x.shape[:-1], 1), x.dtype)
        return _product_of_others(np.concatenate([x, one], -1))[..., :n]
    even, odd = x[..., 0::2], x[..., 1::2]
    outside = _product_of_others(even * odd)
    return np.reshape(np.stack([outside * odd, outside * even], -1), x.shape)


@Prod.public(np.prod)
def prod(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return Prod(fixed_axis(axis), keepdims)(x)


class Extreme(Reduction):
    """max and min: a tie divides the gradient equally."""

    gradients = ("dout * (x == out) / sum(x == out, axis, keepdims=True)",)

    def backward(self, dout: Any, x: Any, out: Any) -> Any:
        x, out = plain(x), plain(out)
        chosen = (x == self.spread(out, x.shape)) | (x != x)  # a NaN is what made out NaN
        share = np.sum(chosen, axis=self.axis, keepdims=True).astype(x.dtype)
        return masked(self.spread(dout, x.shape) / share, chosen)

    def check(self, x: Any) -> None:
        """That there is something to choose from."""
        _not_empty(self, x)


class Max(Extreme):
    """out = largest x over axis; a tie divides the gradient equally

    axis: an axis, a tuple of them, or None for all. keepdims: leave axes of length 1 behind.
    Raises ArgumentError for no values, LabelError for an axis that x does not have.

    >>> max(Tensor([[1.0, 5.0], [3.0, 4.0]]), axis=1)
    Tensor([5., 4.], dtype=float64)
    """

    @staticmethod
    def reference(values: list[float]) -> float:
        return sorted(values)[-1]

    def forward(self, x: Any) -> Any:
        return np.max(x, axis=self.axis, keepdims=self.keepdims)


@Max.public(np.max, np.amax)
def max(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return Max(fixed_axis(axis), keepdims)(x)


class Min(Extreme):
    """out = smallest x over axis; a tie divides the gradient equally

    axis: an axis, a tuple of them, or None for all. keepdims: leave axes of length 1 behind.
    Raises ArgumentError for no values, LabelError for an axis that x does not have.

    >>> min(Tensor([[1.0, 5.0], [3.0, 4.0]]), axis=1)
    Tensor([1., 3.], dtype=float64)
    """

    @staticmethod
    def reference(values: list[float]) -> float:
        return sorted(values)[0]

    def forward(self, x: Any) -> Any:
        return np.min(x, axis=self.axis, keepdims=self.keepdims)


@Min.public(np.min, np.amin)
def min(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return Min(fixed_axis(axis), keepdims)(x)


class Cumsum(Op):
    """out_i = x_0 + ... + x_i along axis; axis None flattens first

    >>> cumsum(Tensor([1.0, 2.0, 3.0]))
    Tensor([1., 3., 6.], dtype=float64)
    """

    axis: int | None = None
    moves = True
    gradients = ("reshape(flip(cumsum(flip(dout, axis), axis), axis), x.shape)",)
    cases = (Case((4,)), Case((2, 3)), Case((2, 3), axis=0), Case((2, 3), axis=-1), Case((0,)))

    @staticmethod
    def reference(x: Any, axis: int | None = None) -> Any:
        if axis is None:
            x, axis = x.reshape(-1), 0
        n = x.shape[axis]
        return np.moveaxis(np.tensordot(np.tri(n), x, (1, axis)), 0, axis)

    def forward(self, x: Any) -> Any:
        return np.cumsum(x, axis=self.axis)

    def backward(self, dout: Any, x_shape: Any) -> Any:
        axis = 0 if self.axis is None else self.axis
        return np.reshape(np.flip(np.cumsum(np.flip(dout, axis), axis=axis), axis), x_shape)


@Cumsum.public(np.cumsum)
def cumsum(x: TensorLike, axis: int | None = None) -> Tensor:
    return Cumsum(axis)(x)


class Logsumexp(Reduction):
    """out = log(sum(exp(x))) over axis, without overflow

    axis: an axis, a tuple of them, or None for all. keepdims: leave axes of length 1 behind.
    Where the result is near 0 it has only the absolute accuracy of its terms, as everywhere: max + log1p(r)
    cancels. Raises ArgumentError for no values, LabelError for an axis that x does not have.

    >>> logsumexp(Tensor([1000.0, 1000.0]))
    Tensor(1000.69314718, dtype=float64)
    """

    gradients = ("dout * exp(x - out)",)
    domain = POSITIVE
    keeps = "softmax"

    @staticmethod
    def reference(values: list[float]) -> float:
        return math.log(math.fsum(map(math.exp, values)))

    def check(self, x: Any) -> None:
        """That there is something to sum."""
        _not_empty(self, x)

    @silent
    def forward(self, x: Any) -> Any:
        x = floats(x)
        flat, _, _ = self.flat(x)
        top = flat.max(axis=-1)
        _, _, r, _ = without_winner(flat.reshape(top.size, flat.shape[-1]), over=True)
        out = np.where(np.isinf(top), top, top + np.log1p(r).reshape(top.shape)).astype(x.dtype)
        if not self.keepdims:
            return out
        axes = _axes(self.axis, x.ndim)
        return out.reshape([1 if i in axes else n for i, n in enumerate(x.shape)])

    def forward_and_keep(self, x: Any) -> Any:
        return self.forward(x), self.softmax(x)

    def softmax(self, x: Any) -> Any:
        """d(out)/dx."""
        flat, back, shape = self.flat(x)
        return np.transpose(np.reshape(softmax_of(flat, -1), shape), back)

    def backward(self, dout: Any, softmax: Any) -> Any:
        return self.spread(dout, softmax.shape) * softmax


@Logsumexp.public()
def logsumexp(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return Logsumexp(fixed_axis(axis), keepdims)(x)


def _not_empty(op: Reduction, x: Any) -> None:
    shape = np.shape(x)
    if 0 in shape and 0 in [shape[i] for i in _axes(op.axis, len(shape))]:
        raise ArgumentError(
            f"{op.name}: x",
            f"x is {describe(x)}, with nothing along axis={op.axis}",
            "at least one value to reduce",
            "check the batch or the mask that x was selected with",
        )


def _enough(op: Reduction, x: Any, ddof: float) -> None:
    if op.count(np.shape(x)) <= ddof:
        raise ArgumentError(
            f"{op.name}: ddof",
            f"ddof={ddof}, x is {describe(x)}, axis={op.axis}",
            "more values than ddof, since n - ddof divides",
            "pass ddof=0, or more values",
        )
