"""Losses as modules: loss(out, target), a single value unless reduction is "none".

In the order of the book: squared error first, then cross-entropy, then their kin. No target is ever broadcast.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from minigrad import (
    ArgumentError,
    DTypeError,
    ShapeError,
    Tensor,
    absolute,
    exp,
    log,
    mean,
    minimum,
    moveaxis,
    multiply,
    sigmoid_binary_cross_entropy,
    softmax_cross_entropy,
    square,
    subtract,
    sum,
    take_along_axis,
    where,
)
from minigrad.contract import check_labels, is_real, numbers
from minigrad.errors import describe
from minigrad.nn.module import Module
from minigrad.standin import Standin, holds, likely, whole
from minigrad.tensor import TensorLike, plain

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
]


class Loss(Module):
    """A function of what the model gives and of what it should give.

    reduction: "mean" over all values or samples, "sum", or "none" for each one's own.
    """

    def __init__(self, reduction: str = "mean") -> None:
        allowed = ("mean", "sum", "none", "batchmean") if isinstance(self, KLDivLoss) else ("mean", "sum", "none")
        if reduction not in allowed:
            raise ArgumentError(
                f"{type(self).__name__}: reduction", repr(reduction), " or ".join(map(repr, allowed)), 'write "mean"'
            )
        self.reduction = reduction

    def reduced(self, loss: Tensor) -> Tensor:
        """Mean or sum of the single losses, or they themselves."""
        return loss if self.reduction == "none" else sum(loss) if self.reduction == "sum" else mean(loss)

    def same_shape(self, x: TensorLike, t: TensorLike) -> None:
        """ShapeError for shapes that are not equal: (N, 1) and (N,) would be compared each with each."""
        if np.shape(plain(x)) != np.shape(plain(t)):
            raise ShapeError(
                f"{type(self).__name__}: target",
                f"input is {describe(plain(x))}, target is {describe(plain(t))}",
                "a target of exactly the input's shape",
                "reshape one of them, for example input.reshape(-1) or target[:, None]",
            )

    def extra_repr(self) -> str:
        """The reduction, where it is not the mean."""
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class _Difference(Loss):
    """A loss of x - t: `of` says which."""

    def forward(self, x: TensorLike, t: TensorLike) -> Tensor:
        """The losses of all values, reduced."""
        self.same_shape(x, t)
        name = type(self).__name__
        arrays = [numbers(f"{name}: {key}", plain(y), None, copy=False) for key, y in (("input", x), ("target", t))]
        if all(array.dtype.kind == "u" for array in arrays):
            t = arrays[1].astype(np.float64)  # the difference of unsigned numbers would wrap around
        return self.reduced(self.of(subtract(x, t)))

    def of(self, d: Tensor) -> Tensor:
        """The loss of each difference."""
        raise NotImplementedError


class MSELoss(_Difference):
    """loss = mean((x - t)**2)

    x, t: of one shape. Raises ShapeError for any others. Source: Deep Learning from Scratch, section 4.2.1.

    >>> MSELoss()(Tensor([1.0, 2.0]), [1.0, 4.0])
    Tensor(2., dtype=float64)
    """

    def of(self, d: Tensor) -> Tensor:
        """d**2"""
        return square(d)


class L1Loss(_Difference):
    """loss = mean(|x - t|); the gradient where x = t is 0

    x, t: of one shape. Raises ShapeError for any others.

    >>> L1Loss()(Tensor([1.0, 2.0]), [1.0, 4.0])
    Tensor(1., dtype=float64)
    """

    def of(self, d: Tensor) -> Tensor:
        """|d|"""
        return absolute(d)


class HuberLoss(_Difference):
    """loss = mean(d**2 / 2 where d = |x - t| <= delta, delta * (d - delta / 2) elsewhere)

    x, t: of one shape. delta: positive. Raises ShapeError, ArgumentError for any others. Source: Huber (1964).

    >>> HuberLoss(reduction="none")(Tensor([1.0, 2.0]), [1.5, 4.0])
    Tensor([0.125, 1.5  ], dtype=float64)
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        if not is_real(delta) or not delta > 0:
            raise ArgumentError("HuberLoss: delta", describe(delta), "a positive number", "pass delta=1.0")
        self.delta = float(delta)

    def of(self, d: Tensor) -> Tensor:
        """c * (d - c / 2), c = min(d, delta): one formula for both pieces."""
        d = absolute(d)
        c = minimum(d, self.delta)
        return c * (d - 0.5 * c)


class CrossEntropyLoss(Loss):
    """loss = -sum_c t_c log(softmax(x)_c), averaged over the samples

    x: scores (N, C), or (N, C, ...), before softmax. t: class numbers (N, ...), or one-hot or soft labels of x's shape.
    weight: (C,) a factor for each class; the mean is then over the weights of the labels, whichever form they have
        (PyTorch divides one-hot and soft labels by the number of samples).
    ignore_index: a class number whose samples do not count. label_smoothing: from 0 to 1.
    Raises what minigrad.softmax_cross_entropy raises.
    Source: Deep Learning from Scratch, section 5.6.3.

    >>> CrossEntropyLoss()(Tensor([[0.0, 0.0]]), [1])
    Tensor(0.69314718, dtype=float64)
    """

    def __init__(
        self,
        weight: TensorLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        _check_index("CrossEntropyLoss", ignore_index)
        if not isinstance(label_smoothing, (int, float)) or not 0 <= label_smoothing <= 1:
            raise ArgumentError(
                "CrossEntropyLoss: label_smoothing",
                describe(label_smoothing),
                "a number from 0 to 1",
                "pass label_smoothing=0.1, for example",
            )
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self.weight = weight if weight is None else numbers("CrossEntropyLoss: weight", plain(weight), None, copy=True)

    def forward(self, x: Tensor, t: TensorLike) -> Tensor:
        """softmax_cross_entropy with the classes on axis 1."""
        x = _tensor("CrossEntropyLoss", x)
        labels = plain(t)
        ignored = np.shape(labels) != x.shape
        if ignored and isinstance(labels, (np.ndarray, Standin)) and labels.dtype.kind in "iu":
            others: Any = labels != self.ignore_index
            ignored = not likely(others.all())  # if none is, 32 rows take 0.6 of the time
        return softmax_cross_entropy(
            x,
            t,
            axis=1 if x.ndim > 2 else -1,
            reduction=self.reduction,  # type: ignore[arg-type]  # one of the three: __init__ has looked
            weight=self.weight,
            ignore_index=self.ignore_index if ignored else None,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(Loss):
    """loss = -x[n, t[n]], averaged over the samples: the cross-entropy of log-probabilities, as from log_softmax

    x: (N, C), or (N, C, ...), or (C,) for one sample. t: class numbers (N, ...). weight: (C,) a factor for each class.
    ignore_index: a class number whose samples do not count. With all of them ignored the loss is 0, and a warning.
    Raises ShapeError, DTypeError and LabelError for class numbers that do not fit; warns of x above 0, which are no
    logarithms of probabilities.

    >>> NLLLoss()(Tensor([[-0.5, -1.0]]), [1])
    Tensor(1., dtype=float64)
    """

    def __init__(self, weight: TensorLike | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        _check_index("NLLLoss", ignore_index)
        self.ignore_index = ignore_index
        self.weight = weight if weight is None else numbers("NLLLoss: weight", plain(weight), None, copy=True)

    def forward(self, x: Tensor, t: TensorLike) -> Tensor:
        """x at the labels, weighted and reduced."""
        x = _tensor("NLLLoss", x)
        t = numbers("NLLLoss: target", plain(t), None, copy=False)
        classes = x.shape[1] if x.ndim > 1 else x.size
        if t.shape != x.shape[:1] * (x.ndim > 1) + x.shape[2:]:
            raise ShapeError(
                "NLLLoss: target",
                f"input is {describe(x)}, target is {describe(t)}",
                f"class numbers of shape {x.shape[:1] * (x.ndim > 1) + x.shape[2:]}",
                "pass one label for each row of the input; CrossEntropyLoss takes one-hot labels too",
            )
        check_labels(
            "NLLLoss: target", t, classes, self.ignore_index, "count classes from 0, or set ignore_index for them"
        )
        if x.size and not holds(np.logical_not(np.max(plain(x)) > 1e-3)):
            warnings.warn(
                "NLLLoss: input has values above 0, and logarithms of probabilities have none: pass log_softmax(x), "
                "or use CrossEntropyLoss",
                stacklevel=3,
            )
        rows = moveaxis(x, 1, -1) if x.ndim > 2 else x
        counts = t != self.ignore_index
        index = np.where(counts, t, 0)
        weights = counts.astype(x.dtype)
        if self.weight is not None:
            weights = counts * whole(np.take, self.weight.astype(x.dtype), index)
        loss = -take_along_axis(rows, index[..., None], -1).reshape(t.shape) * weights
        if self.reduction != "mean":
            return self.reduced(loss)
        total = np.sum(weights)
        if not holds(total != 0):
            warnings.warn("NLLLoss: no sample counts, so the mean is 0", stacklevel=3)
            return sum(loss)
        mean_of_those: Tensor = sum(loss) / total
        return mean_of_those


class BCEWithLogitsLoss(Loss):
    """loss = -t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), averaged over all values

    x, t: of one shape, t from 0 to 1. weight: factors that broadcast to it. pos_weight: a factor for the part of t.
    Raises what minigrad.sigmoid_binary_cross_entropy raises.

    >>> BCEWithLogitsLoss()(Tensor([0.0]), [1.0])
    Tensor(0.69314718, dtype=float64)
    """

    def __init__(
        self, weight: TensorLike | None = None, *, reduction: str = "mean", pos_weight: TensorLike | None = None
    ) -> None:
        super().__init__(reduction)
        self.weight, self.pos_weight = weight, pos_weight

    def forward(self, x: Tensor, t: TensorLike) -> Tensor:
        """sigmoid_binary_cross_entropy."""
        return sigmoid_binary_cross_entropy(
            x,
            t,
            reduction=self.reduction,  # type: ignore[arg-type]  # one of the three: __init__ has looked
            weight=self.weight,
            pos_weight=self.pos_weight,
        )


def _tensor(loss: str, x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(numbers(f"{loss}: input", x, None, copy=False))


def _check_index(loss: str, ignore_index: Any) -> None:
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise DTypeError(f"{loss}: ignore_index", describe(ignore_index), "a class number", "write ignore_index=-100")


class KLDivLoss(Loss):
    """loss = t * (log(t) - x), averaged over all values; x is a log-probability, and 0 * log(0) is 0

    x, t: of one shape. reduction: also "batchmean", the sum over the number of samples, which is the divergence itself.
    log_target: t is a log-probability too. Raises ShapeError for other shapes, ArgumentError for t below 0.

    >>> KLDivLoss("batchmean")(Tensor([[-0.6931471805599453, -0.6931471805599453]]), [[1.0, 0.0]])
    Tensor(0.69314718, dtype=float64)
    """

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, x: Tensor, t: TensorLike) -> Tensor:
        """The products, reduced."""
        self.same_shape(x, t)
        if self.log_target:
            loss = exp(t) * subtract(t, x)
        else:
            values = numbers("KLDivLoss: target", plain(t), None, copy=False)
            if not holds(np.logical_not(np.min(values, initial=0) < 0)):
                at = tuple(map(int, np.argwhere(values < 0)[0]))
                raise ArgumentError(
                    "KLDivLoss: target",
                    f"target{list(at)} = {values[at]}",
                    "probabilities, none of them negative",
                    "pass log_target=True for logarithms",
                )
            loss = multiply(t, log(where(values > 0, t, 1)) - x)
        if self.reduction == "batchmean":
            return sum(loss) / (len(loss) if loss.ndim else 1)
        return self.reduced(loss)
