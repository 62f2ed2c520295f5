"""Sigmoid, softmax, their logarithms and losses as the graphs that the book draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import ops
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = [
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "sigmoid",
    "sigmoid_binary_cross_entropy",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "tanh",
]


def sigmoid(x: TensorLike) -> Tensor:
    """out = 1 / (1 + exp(-x)): multiply by -1, exp, add 1, divide; the four nodes of the book's figure 5-19.

    >>> sigmoid(Tensor(5.0)).item()
    0.9933071490757153
    """
    x = ops.multiply(x, -1)
    x = ops.exp(x)
    x = ops.add(x, 1)
    return ops.divide(1, x)


def log_sigmoid(x: TensorLike) -> Tensor:
    """out = log(sigmoid(x)).

    >>> log_sigmoid(Tensor(0.0)).item()
    -0.6931471805599453
    """
    return ops.log(sigmoid(x))


def softplus(x: TensorLike) -> Tensor:
    """out = log(1 + exp(x)).

    >>> softplus(Tensor(0.0)).item()
    0.6931471805599453
    """
    return ops.log(ops.add(ops.exp(x), 1))


def tanh(x: TensorLike) -> Tensor:
    """out = (exp(x) - exp(-x)) / (exp(x) + exp(-x)).

    >>> tanh(Tensor(0.5)).item()
    0.4621171572600098
    """
    up, down = ops.exp(x), ops.exp(ops.multiply(x, -1))
    return ops.divide(ops.subtract(up, down), ops.add(up, down))


def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """out_i = exp(x_i - max) / sum_j exp(x_j - max), over axis.

    >>> softmax(Tensor([0.0, 0.0]))
    Tensor([0.5, 0.5], dtype=float64)
    """
    e = ops.exp(ops.subtract(x, np.max(plain(x), axis=axis, keepdims=True)))
    return ops.divide(e, ops.sum(e, axis, keepdims=True))


def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """out = log(softmax(x)), over axis.

    >>> log_softmax(Tensor([0.0, 0.0]))
    Tensor([-0.69314718, -0.69314718], dtype=float64)
    """
    return ops.log(softmax(x, axis))


def logsumexp(x: TensorLike, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """out = log(sum(exp(x))) over axis.

    >>> logsumexp(Tensor([0.0, 0.0])).item()
    0.6931471805599453
    """
    return ops.log(ops.sum(ops.exp(x), axis, keepdims=keepdims))


def softmax_cross_entropy(
    logits: TensorLike,
    labels: TensorLike,
    *,
    axis: int = -1,
    reduction: str = "mean",
    weight: TensorLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """loss = -sum_c w_c t_c log(softmax(x)_c), averaged over the samples: the graph of the book's appendix A.

    Arguments as for minigrad.softmax_cross_entropy.

    >>> softmax_cross_entropy(Tensor([[0.0, 0.0]]), [0]).item()
    0.6931471805599453
    """
    x = logits if isinstance(logits, Tensor) else Tensor(logits)
    t = np.asarray(plain(labels))
    if x.ndim == 1:
        x, axis, t = ops.reshape(x, (1, -1)), 1, t[None] if t.ndim == 0 or t.shape == x.shape else t
    classes = x.shape[axis]
    counts = np.ones(x.shape[:axis] + x.shape[axis:][1:])
    if t.shape != x.shape:
        if ignore_index is not None:
            counts = (t != ignore_index).astype(float)
        t = np.eye(classes)[np.where(counts > 0, t, 0)]
        t = np.moveaxis(t, -1, axis)
    shape = [1] * x.ndim
    shape[axis] = classes
    w = (np.ones(classes) if weight is None else np.asarray(plain(weight), float)).reshape(shape)
    counts = np.expand_dims(counts, axis % x.ndim)
    total = (t * w * counts).sum() or 1.0
    s = (t * (1 - label_smoothing) + label_smoothing / classes) * w * counts
    loss = ops.multiply(ops.sum(ops.multiply(log_softmax(x, axis), s.astype(x.dtype)), axis), -1)
    if reduction == "none":
        return loss
    loss = ops.sum(loss)
    return ops.divide(loss, float(total)) if reduction == "mean" else loss


def sigmoid_binary_cross_entropy(
    logits: TensorLike,
    targets: TensorLike,
    *,
    reduction: str = "mean",
    weight: TensorLike | None = None,
    pos_weight: TensorLike | None = None,
) -> Tensor:
    """loss = -t log(y) - (1 - t) log(1 - y) with y = sigmoid(x), averaged over all values.

    Arguments as for minigrad.sigmoid_binary_cross_entropy.

    >>> sigmoid_binary_cross_entropy(Tensor([0.0]), [1.0]).item()
    0.6931471805599453
    """
    y, t = sigmoid(logits), np.asarray(plain(targets))
    on = ops.multiply(ops.log(y), t * (1.0 if pos_weight is None else plain(pos_weight)))
    off = ops.multiply(ops.log(ops.subtract(1, y)), 1 - t)
    loss = ops.multiply(ops.multiply(ops.add(on, off), -1), 1.0 if weight is None else weight)
    if reduction == "none":
        return loss
    return ops.sum(loss) if reduction == "sum" else ops.mean(loss)
