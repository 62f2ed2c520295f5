"""The losses: fused with the softmax or sigmoid before them, so that nothing is lost for a confident class."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from minigrad.contract import Case, check_labels, numbers
from minigrad.dispatch import TABLE
from minigrad.errors import ArgumentError, DTypeError, ShapeError, describe
from minigrad.op import Op
from minigrad.ops.fused import LogSoftmax, complement
from minigrad.ops.kernels import floats, sigmoid_of, softplus_and_slope
from minigrad.ops.rows import (
    BLOCK,
    ONE,
    by_blocks,
    row_sums,
    shifted_exp,
    silent,
    softmax_of,
    totals,
    without_winner,
)
from minigrad.standin import holds, whole
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["sigmoid_binary_cross_entropy", "softmax_cross_entropy"]

Reduction = Literal["mean", "sum", "none"]


class SoftmaxCrossEntropy(Op):
    """loss = sum_c w_c t_c (log(sum_j exp(x_j)) - x_c), averaged over the samples

    logits: (..., C, ...) floats, C classes along axis; one axis alone is a batch of one.
    labels: class numbers, integers of the logits' shape without axis; or one-hot or soft labels, of the
        logits' shape, whose rows sum to 1. Both forms of the same labels give the same bits.
    reduction: "mean", over the weights of the labels: as in PyTorch for class numbers; for one-hot and soft labels
        PyTorch divides by the number of samples. "sum", or "none": the shape of class numbers, (1,) for one sample.
    weight: (C,) a factor for each class. ignore_index: a class number whose samples do not count.
    label_smoothing: from 0 to 1, how much of each label is spread evenly over the classes.
    Raises ShapeError for shapes that do not match exactly, LabelError for class numbers out of range,
    DTypeError for class numbers that are not integers, ArgumentError for rows that are no distribution.
    There is no clip and no epsilon: the loss keeps its digits down to 1e-300.
    Source: Deep Learning from Scratch, section 5.6.3 and appendix A.

    >>> softmax_cross_entropy(Tensor([[40.0, 0.0]]), [0]).item()
    4.248354255291589e-18
    """

    axis: int = -1
    reduction: str = "mean"
    ignore_index: int | None = None
    label_smoothing: float = 0.0
    symbol = "softmax-with-loss"
    gradients = ("dout * (softmax(logits) - one_hot(labels)) / len(logits)", "", "")
    keeps = "residual"
    cases = (
        Case((4, 3), labels=np.array([0, 2, 1, 1])),
        Case((3,), labels=np.array(1)),
        Case((2, 3), labels=np.array([[0, 1, 0], [1, 0, 0]]), reduction="sum"),
        Case((2, 2), labels=np.array([[0.25, 0.75], [0.5, 0.5]]), reduction="none"),
        Case((3, 4), labels=np.array([1, 0, 3]), weight=np.array([1.0, 2.0, 0.5, 3.0]), label_smoothing=0.1),
        Case((2, 3, 2), labels=np.array([[0, 1], [2, -1]]), axis=1, ignore_index=-1),
    )

    @staticmethod
    def reference(x: Any, labels: Any, axis: int = -1, reduction: str = "mean", weight: Any = None,
                  ignore_index: int | None = None, label_smoothing: float = 0.0) -> Any:  # fmt: skip
        logp = np.moveaxis(LogSoftmax.reference(np.atleast_2d(x), axis), axis, -1)
        classes = logp.shape[-1]
        if labels.ndim == x.ndim:
            t, counts = np.moveaxis(np.atleast_2d(labels), axis, -1), np.ones(logp.shape[:-1])
        else:
            labels = labels.reshape(logp.shape[:-1])
            counts = (labels != ignore_index).astype(float)
            t = np.eye(classes)[np.where(labels == ignore_index, 0, labels)]
        w = np.ones(classes) if weight is None else weight
        total = ((t * w).sum(-1) * counts).sum()
        loss = -((t * (1 - label_smoothing) + label_smoothing / classes) * w * logp).sum(-1) * counts
        return {
            "mean": lambda: loss.sum() / total,
            "sum": loss.sum,
            "none": lambda: loss.reshape(labels.shape[:-1]),
        }[reduction]()

    # The op itself sees logits (N, C), labels (N,) or (N, C), and weight (C,) or 1.

    def check(self, logits: Any, labels: Any, weight: Any) -> None:
        """The values of the labels: class numbers within range, rows that are distributions."""
        where = f"{self.name}: labels"
        classes = logits.shape[1]
        if labels.ndim == 1:
            # Read as unsigned, a negative number is a large one.
            if labels.size and np.maximum.reduce(labels.astype(np.uint64)) < classes:
                return
            fix = "count classes from 0, or pass ignore_index= for samples that do not count"
            check_labels(where, labels, classes, self.ignore_index, fix)
            return
        tolerance = 1e-3 if labels.dtype.itemsize < 8 else 1e-6
        sums = labels.sum(axis=1)
        bad = ~(np.abs(sums - 1) <= tolerance) | (labels < 0).any(axis=1)
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            raise ArgumentError(
                where,
                f"labels[{i}] = {labels[i].tolist()}, which sums to {sums[i]}",
                "rows without negative entries that sum to 1, like the logits in shape",
                "pass class numbers, or divide the rows: labels / labels.sum(axis=1, keepdims=True)",
            )

    def _targets(self, logits: Any, labels: Any, weight: Any) -> tuple[Any, float]:
        """s: what each class counts in each row, (N, C) in float64, and the divisor of the reduction."""
        n, classes = logits.shape
        counts = self._counts(labels)
        if labels.ndim == 1:
            t = np.zeros((n, classes))
            t[np.arange(n), np.where(counts > 0, labels, 0)] = counts
        else:
            t = labels.astype(np.float64)
        s = t * weight
        divisor = self._divisor(s.sum(axis=1))
        if self.label_smoothing:
            spread = self.label_smoothing / max(classes, 1) * counts[:, None]
            s = (t * (1 - self.label_smoothing) + spread) * weight
        return s, divisor

    def _counts(self, labels: Any) -> Any:
        """1 for each row, 0 for an ignored one."""
        if self.ignore_index is None:
            return np.ones(len(labels))
        return (labels != self.ignore_index).astype(np.float64)

    def _divisor(self, counts: Any) -> float:
        """What the sum of the losses is divided by, counts being what each row counts."""
        if self.reduction != "mean":
            return 1.0
        total = float(counts.sum())
        if total == 0:
            warnings.warn(f"{self.name}: no sample counts, so the mean is 0", stacklevel=_callers_level())
        return total or 1.0

    def forward(self, logits: Any, labels: Any, weight: Any) -> Any:
        return self._compute(logits, labels, weight, keep=False)[0]

    def forward_and_keep(self, logits: Any, labels: Any, weight: Any) -> Any:
        return self._compute(logits, labels, weight, keep=True)

    @silent
    def _compute(self, logits: Any, labels: Any, weight: Any, *, keep: bool) -> tuple[Any, Any]:
        """The loss and, to be kept, d(loss)/d(logits).

        float64 inside: float32 results are then within half a unit in the last place.
        """
        if logits.dtype.kind != "f":
            logits = floats(logits)
        n, classes = logits.shape
        block: Callable[..., tuple[Any, Any]] = _class_block
        targets, counts = labels, None
        if labels.ndim == 1 and not self.label_smoothing:
            if self.ignore_index is not None or type(weight) is not float or not n:
                counts = self._counts(labels)
                targets = np.where(counts > 0, labels, 0)
                counts *= np.broadcast_to(weight, (classes,))[targets]
            divisor = (float(n) if self.reduction == "mean" else 1.0) if counts is None else self._divisor(counts)
        else:
            block = _dense_block
            targets, divisor = self._targets(logits, labels, weight)
        losses: Any
        residual: Any
        if not n:  # nothing to be taken from a row, perhaps not even a class
            losses, residual = np.zeros(0), np.zeros_like(logits)
        elif logits.size <= BLOCK:
            losses, residual = block(logits, targets, counts, divisor, keep, None)
        else:
            losses, residual = whole(_in_blocks, block, logits, targets, counts, divisor, keep)
        loss = losses if self.reduction == "none" else np.add.reduce(losses) / divisor
        return loss.astype(logits.dtype), residual

    def _shares(self, logits: Any, labels: Any, weight: Any) -> Any:
        """s over the divisor: what each class counts in the loss."""
        s, divisor = self._targets(logits, labels, weight)
        return (s / divisor).astype(logits.dtype)

    def residual(self, logits: Any, labels: Any, weight: Any) -> Any:
        """d(loss)/d(logits) = p * (sum(s) - s) - s * (1 - p), s being what each class counts."""
        s = whole(self._shares, plain(logits), plain(labels), plain(weight))
        p = softmax_of(logits, 1)
        _, _, q = complement(p, logits, 1)
        return p * (s.sum(axis=1, keepdims=True) - s) - s * q

    def backward(self, dout: Any, residual: Any) -> Any:
        if self.reduction == "none":
            dout = np.expand_dims(dout, 1)
        elif not isinstance(dout, Tensor) and holds(dout == 1):  # as backward() of the loss itself has it: no pass
            return residual, None, None
        return dout * residual, None, None


def _class_block(x: Any, t: Any, counts: Any, divisor: float, keep: bool, out: Any) -> tuple[Any, Any]:
    """Losses and d(loss)/dx of rows x with class numbers t, each row times counts. out: to be filled, or None."""
    n, classes = x.shape
    first = np.arange(0, n * classes, classes)  # where rows begin: x.reshape(-1)[first + t] is cheaper than x[rows, t]
    at, at_top = first + t, first + x.argmax(axis=1)
    if x.itemsize < 8:
        e = x.astype(np.float64, order="C")
        flat = e.reshape(-1)
        top = flat[at_top]
        behind = top - flat[at]
        e -= top[:, None]
        np.exp(e, out=e)
    else:
        top, flat = x.reshape(-1)[at_top], x.reshape(-1)
        behind = top - flat[at]
        _, e = shifted_exp(x, top[:, None])
        flat = e.reshape(-1)
    flat[at_top] = 0  # the winner is left out of the sum: see without_winner
    r = totals(e) if x.itemsize < 8 else np.add.reduce(e, axis=1)
    losses = np.log1p(r)
    losses += behind
    if counts is not None:  # a row that does not count stays out whatever is in it, inf and nan too
        losses = np.multiply(losses, counts, where=counts != 0, out=np.zeros_like(losses))
    if not keep:
        return losses, None
    flat[at_top] = 1
    scale: Any = 1 / divisor if counts is None else counts / divisor
    if x.itemsize < 8:
        of_target = flat[at]
        of_target -= ONE
        of_target -= r  # less what the others add up to
        r += ONE
        np.divide(scale, r, out=r)
        of_target *= r
        scale = r[:, None]
    else:
        r += ONE
        e /= r[:, None]
        flat[at] = 0
        # 1 - p of the target, as the sum of the others: the row then sums to 0. float32 needs no care for that.
        of_target = row_sums(e)
        of_target *= -scale
        scale = scale if counts is None else scale[:, None]
    if out is None:
        e *= scale
        flat[at] = of_target
        dx = e.astype(x.dtype, copy=False)
    else:
        dx = np.multiply(e, scale, out=out, casting="same_kind")
        dx.reshape(-1)[at] = of_target
    if counts is not None:
        dx[counts == 0] = 0
    return losses, dx


def _dense_block(x: Any, s: Any, counts: None, divisor: float, keep: bool, out: Any) -> tuple[Any, Any]:
    """Losses and d(loss)/dx of rows x, of which each class counts s. The steps are those of _class_block.

    So one-hot labels give the bits of class numbers.
    """
    z, e, r, at_top = without_winner(x)
    losses = np.multiply(np.log1p(r)[:, None] - z, s, where=s != 0, out=np.zeros_like(z)).sum(axis=1)
    if not keep:
        return losses, None
    e.reshape(-1)[at_top] = 1
    q = 1 - e
    q += r[:, None]
    total = s.sum(axis=1, keepdims=True)
    if x.itemsize < 8:
        dx = (total - s) / divisor / (r + 1)[:, None] * e - s / divisor / (r + 1)[:, None] * q
    else:
        q /= (r + 1)[:, None]
        e /= (r + 1)[:, None]
        at = np.arange(0, x.size, x.shape[1]) + s.argmax(axis=1)
        rest = e.copy()
        rest.reshape(-1)[at] = 0
        q.reshape(-1)[at] = row_sums(rest)
        dx = (total - s) / divisor * e - s / divisor * q
    if out is None:
        return losses, dx.astype(x.dtype, copy=False)
    out[...] = dx
    return losses, out


def _in_blocks(
    block: Callable[..., Any], x: Any, targets: Any, counts: Any, divisor: float, keep: bool
) -> tuple[Any, Any]:
    losses, residual = np.empty(len(x)), np.empty(x.shape, x.dtype) if keep else None

    def task(parts: Iterator[slice]) -> None:
        for part in parts:
            of_part = None if counts is None else counts[part]
            out = None if residual is None else residual[part]
            losses[part], _ = block(x[part], targets[part], of_part, divisor, keep, out)

    by_blocks(task, *x.shape)
    return losses, residual


_MEAN = SoftmaxCrossEntropy(1, "mean", None, 0.0)
_AS_THEY_ARE = (int, -1, "mean", float, 0.0)


@SoftmaxCrossEntropy.public()
def softmax_cross_entropy(
    logits: TensorLike,
    labels: TensorLike,
    *,
    axis: int = -1,
    reduction: Reduction = "mean",
    weight: TensorLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    if type(logits) is Tensor and type(labels) is np.ndarray and weight is None and ignore_index is None:
        array = logits._data
        if (
            (type(axis), axis, reduction, type(label_smoothing), label_smoothing) == _AS_THEY_ARE
            and array.ndim == 2
            and array.dtype.kind == "f"
            and labels.shape == array.shape[:1]
            and labels.dtype.kind == "i"
        ):
            return _MEAN(logits, labels, 1.0)  # nothing to be checked: a tenth of the time for 100 rows of 10
    name = "softmax_cross_entropy"
    x, t = logits if isinstance(logits, Tensor) else Tensor(logits), _labels(name, "labels", labels)
    _check_reduction(name, reduction)
    _check_number(f"{name}: axis", axis, int, "an axis, such as -1")
    _check_number(f"{name}: label_smoothing", label_smoothing, (int, float), "a number from 0 to 1, such as 0.1")
    if x.dtype.kind != "f" or not x.ndim or not -x.ndim <= axis < x.ndim:
        raise ShapeError(
            f"{name}: logits",
            f"logits is {describe(x)}, axis={axis}",
            "floats with an axis of classes, (batch, classes)",
            "pass the scores before softmax, one row a sample",
        )
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(
            f"{name}: label_smoothing", f"{label_smoothing}", "a number from 0 to 1", "pass 0.1, for example"
        )
    if x.ndim == 1:
        x, axis = TABLE["reshape"](x, (1, -1)), 1
        t = t[None] if t.shape in ((), (x.shape[1],)) else t
    batch = x.shape[:axis] + x.shape[axis:][1:]
    dense = t.shape == x.shape and t.ndim == x.ndim
    if not dense and t.shape != batch:
        raise ShapeError(
            f"{name}: labels",
            f"logits is {describe(logits if isinstance(logits, Tensor) else x)}, labels is {describe(t)}",
            f"class numbers of shape {batch}, or one-hot or soft labels of shape {x.shape}",
            "write labels.reshape(-1)" if t.shape == (*batch, 1) else "pass one label for each row of logits",
        )
    if not dense and t.dtype.kind not in "iu":
        raise DTypeError(
            f"{name}: labels",
            f"class numbers of dtype {t.dtype}",
            "integers",
            "write labels.astype(int), or pass one-hot labels of the logits' shape",
        )
    if ignore_index is not None and dense:
        raise ArgumentError(
            f"{name}: ignore_index",
            f"ignore_index={ignore_index} with labels of the logits' shape",
            "class numbers, where an index can be ignored",
            "pass class numbers: labels.argmax(axis)",
        )
    classes = x.shape[axis]
    w: Any = 1.0 if weight is None else _labels(name, "weight", weight).astype(np.float64)
    if weight is not None and (w.shape != (classes,) or not holds((w >= 0).all())):
        raise ShapeError(
            f"{name}: weight",
            f"weight is {describe(w)}, {w.tolist() if w.size <= 8 else 'with negative entries or of that shape'}",
            f"a factor, not negative, for each of the {classes} classes",
            f"pass weight=np.ones({classes}) to begin with",
        )
    last = axis % x.ndim == x.ndim - 1
    if not last:
        x = TABLE["moveaxis"](x, axis, -1)
        t = np.moveaxis(t, axis, -1) if dense else t
    if x.ndim != 2:
        x = TABLE["reshape"](x, (-1, classes) if x.size else (int(np.prod(batch)), classes))
    t = t.reshape(x.shape if dense else -1)
    loss = SoftmaxCrossEntropy(1, reduction, ignore_index, float(label_smoothing))(x, t, w)
    return TABLE["reshape"](loss, batch) if reduction == "none" and loss.shape != batch else loss


class SigmoidBinaryCrossEntropy(Op):
    """loss = -t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), averaged over all values

    logits: floats of any shape, the scores before sigmoid. targets: from 0 to 1, of exactly that shape.
    reduction: "mean", "sum" or "none". weight: a factor for each value, pos_weight: one for the term with
        t alone; both broadcast to the logits' shape.
    Raises ShapeError where the shapes differ, ArgumentError for targets outside 0 to 1.

    >>> sigmoid_binary_cross_entropy(Tensor([40.0]), [1.0]).item()
    4.248354255291589e-18
    """

    reduction: str = "mean"
    symbol = "sigmoid-with-loss"
    gradients = ("dout * (sigmoid(logits) - targets) / logits.size", "", "", "")
    keeps = "residual"
    cases = (
        Case((3,), targets=np.array([0.0, 1.0, 0.25])),
        Case((2, 2), targets=np.array([[0, 1], [1, 0]]), reduction="sum"),
        Case((2,), targets=np.array([0.5, 1.0]), reduction="none", weight=2.0, pos_weight=np.array([1.0, 3.0])),
        Case((), targets=np.array(1.0)),
    )  # fmt: skip

    @staticmethod
    def reference(x: Any, targets: Any, reduction: str = "mean", weight: Any = 1.0, pos_weight: Any = 1.0) -> Any:
        p = 1 / (1 + np.exp(-x))
        loss = weight * -(pos_weight * targets * np.log(p) + (1 - targets) * np.log(1 - p))
        if reduction == "none":
            return np.asarray(loss)
        return loss.sum() / loss.size if reduction == "mean" else loss.sum()

    def check(self, logits: Any, targets: Any, weight: Any, pos_weight: Any) -> None:
        """The values of the targets: from 0 to 1."""
        bad = ~((targets >= 0) & (targets <= 1))
        if bad.any():
            i = tuple(int(k) for k in np.argwhere(bad)[0])
            raise ArgumentError(
                f"{self.name}: targets",
                f"targets{list(i)} = {targets[i]}",
                "values from 0 to 1",
                "pass probabilities; labels of -1 and 1 become (labels + 1) / 2",
            )

    def forward(self, logits: Any, targets: Any, weight: Any, pos_weight: Any) -> Any:
        logits = floats(logits)
        on = softplus_and_slope(-logits, slope=False)[0]
        off = softplus_and_slope(logits, slope=False)[0]
        loss = (pos_weight * targets * on + (1 - targets) * off) * weight
        return loss if self.reduction == "none" else loss.mean() if self.reduction == "mean" else loss.sum()

    def forward_and_keep(self, logits: Any, targets: Any, weight: Any, pos_weight: Any) -> Any:
        return self.forward(logits, targets, weight, pos_weight), self.residual(logits, targets, weight, pos_weight)

    def residual(self, logits: Any, targets: Any, weight: Any, pos_weight: Any) -> Any:
        """d(loss)/d(logits) = (1 - t) * sigmoid(x) - t * sigmoid(-x), with the weights."""
        divisor = max(logits.size, 1) if self.reduction == "mean" else 1
        on, off = pos_weight * targets * weight / divisor, (1 - targets) * weight / divisor
        return off * sigmoid_of(logits) - on * sigmoid_of(-logits)

    def backward(self, dout: Any, residual: Any) -> Any:
        return dout * residual, None, None, None


@SigmoidBinaryCrossEntropy.public()
def sigmoid_binary_cross_entropy(
    logits: TensorLike,
    targets: TensorLike,
    *,
    reduction: Reduction = "mean",
    weight: TensorLike | None = None,
    pos_weight: TensorLike | None = None,
) -> Tensor:
    name = "sigmoid_binary_cross_entropy"
    x, t = logits if isinstance(logits, Tensor) else Tensor(logits), _labels(name, "targets", targets)
    _check_reduction(name, reduction)
    if x.shape != t.shape or x.dtype.kind != "f":
        raise ShapeError(
            f"{name}: targets",
            f"logits is {describe(x)}, targets is {describe(t)}",
            "float logits, and targets of exactly their shape",
            "reshape one of them, for example logits.reshape(-1) or targets[:, None]",
        )
    factors = []
    for key, value in (("weight", weight), ("pos_weight", pos_weight)):
        array = _labels(name, key, 1.0 if value is None else value).astype(x.dtype)
        try:
            fits = np.broadcast_shapes(array.shape, x.shape) == x.shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"{name}: {key}",
                f"{key} is {describe(array)}, logits is {describe(x)}",
                "factors that broadcast to the logits' shape",
                f"pass {key}=np.ones({x.shape}) to begin with",
            )
        factors.append(array)
    return SigmoidBinaryCrossEntropy(reduction)(x, t.astype(x.dtype, copy=False), *factors)


def _labels(function: str, argument: str, labels: Any) -> Any:
    if isinstance(labels, Tensor) and labels.requires_grad:
        raise DTypeError(
            f"{function}: {argument}",
            "a tensor that requires a gradient",
            "fixed numbers: the loss is differentiated with respect to the logits alone",
            f"pass {argument}.detach()",
        )
    array = numbers(f"{function}: {argument}", plain(labels), None, copy=False)
    return array.astype(np.int64) if array.dtype.kind in "bu" else array


def _check_reduction(function: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(
            f"{function}: reduction", repr(reduction), '"mean", "sum" or "none"', 'write reduction="mean"'
        )


def _check_number(where: str, value: Any, kind: Any, expected: str) -> None:
    if not isinstance(value, kind):
        raise DTypeError(where, describe(value), expected, f"write {where.split(': ')[1]}={expected.split()[-1]}")


def _callers_level() -> int:
    """The stacklevel of the first frame outside the package: where the user called."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "minigrad").startswith(("minigrad", "numpy", "contextlib")):
        level, frame = level + 1, frame.f_back
    return level
