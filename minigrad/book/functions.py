"""The functions of the book's chapters 3 and 4: activations first, then losses.

Arrays and numbers give arrays and numbers, as in the book; a Tensor gives a Tensor with its graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import ops
from minigrad.autograd import enable_grad, grad
from minigrad.book.base import distributions
from minigrad.contract import numbers
from minigrad.errors import ArgumentError, ShapeError
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = [
    "cross_entropy_error",
    "identity_function",
    "mean_squared_error",
    "np",  # the book's chapter 4 takes np from here
    "relu",
    "relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "softmax_loss",
    "squared_error",
    "step_function",
    "sum_squared_error",
]


def identity_function(x: Any) -> Any:
    """out = x. Source: Deep Learning from Scratch, section 3.4.3.

    >>> identity_function(3.0)
    3.0
    """
    return x


def step_function(x: TensorLike) -> Any:
    """out = 1 where x > 0, else 0: integers, without a derivative.

    x: numbers of any shape. Source: Deep Learning from Scratch, section 3.2.2.

    >>> step_function(np.array([-1.0, 0.0, 2.0]))
    array([0, 0, 1])
    """
    return np.array(numbers("step_function: x", plain(x), None, copy=False) > 0, dtype=int)


def sigmoid(x: TensorLike) -> Any:
    """out = 1 / (1 + exp(-x)), entry by entry, without overflow.

    x: numbers of any shape; integers give float64. Source: Deep Learning from Scratch, section 3.2.4.

    >>> sigmoid(np.array([-1.0, 1.0, 2.0]))
    array([0.26894142, 0.73105858, 0.88079708])
    """
    return _like(ops.sigmoid(x), x)


def sigmoid_grad(x: TensorLike) -> Any:
    """d(sigmoid)/dx, entry by entry, by backward of the op.

    The book writes (1 - sigmoid(x)) * sigmoid(x), which is 0 from x = 37 on; this one keeps its digits.
    x: numbers of any shape. Source: Deep Learning from Scratch, common/functions.py.

    >>> sigmoid_grad(np.array([0.0, 40.0]))
    array([2.50000000e-01, 4.24835426e-18])
    """
    return _slope("sigmoid_grad", ops.sigmoid, x)


def relu(x: TensorLike) -> Any:
    """out = max(x, 0), entry by entry.

    x: numbers of any shape. Source: Deep Learning from Scratch, section 3.2.7.

    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return _like(ops.relu(x), x)


def relu_grad(x: TensorLike) -> Any:
    """d(relu)/dx: 1 where x > 0, else 0; at 0 it is 0, as for the layer Relu.

    The book's relu_grad gives 1 at 0, and its layer 0. Source: Deep Learning from Scratch, common/functions.py.

    >>> relu_grad(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 1.])
    """
    return _slope("relu_grad", ops.relu, x)


def softmax(x: TensorLike) -> Any:
    """out_i = exp(x_i) / sum_j exp(x_j), over the last axis, without overflow.

    x: numbers, one axis at least. The book's function normalises an array of three axes over all of them.
    Source: Deep Learning from Scratch, section 3.5.

    >>> softmax(np.array([0.3, 2.9, 4.0]))
    array([0.01821127, 0.24519181, 0.73659691])
    """
    return _like(ops.softmax(x), x)


def sum_squared_error(y: TensorLike, t: TensorLike) -> Any:
    """E = 0.5 * sum((y - t)**2).

    y, t: numbers of one and the same shape. Raises ShapeError where the shapes differ.
    Source: Deep Learning from Scratch, section 4.2.1.

    >>> y, t = [0.1, 0.05, 0.6, 0, 0.05, 0.1, 0, 0.1, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    >>> print(f"{sum_squared_error(y, t):.4f}")
    0.0975
    """
    if np.shape(plain(y)) != np.shape(plain(t)):
        raise ShapeError(
            "sum_squared_error",
            f"y has shape {np.shape(plain(y))}, t has shape {np.shape(plain(t))}",
            "equal shapes",
            "reshape one of them, for example t.reshape(y.shape)",
        )
    return _like(ops.multiply(ops.sum(ops.square(ops.subtract(y, t))), 0.5), y, t)


def mean_squared_error(y: TensorLike, t: TensorLike) -> Any:
    """E = 0.5 * sum((y - t)**2): what the first edition calls sum_squared_error. It is no mean.

    The revised Korean edition has sum((y - t)**2) / len(y) under this name. Arguments and errors as
    sum_squared_error. Source: Deep Learning from Scratch, section 4.2.1.

    >>> float(mean_squared_error([1.0, 2.0], [0.0, 4.0]))
    2.5
    """
    return sum_squared_error(y, t)


def squared_error(y: TensorLike, t: TensorLike) -> Any:
    """E = 0.5 * sum((y - t)**2): sum_squared_error, as the Korean edition's code calls it.

    Arguments and errors as sum_squared_error.

    >>> float(squared_error([1.0, 2.0], [0.0, 4.0]))
    2.5
    """
    return sum_squared_error(y, t)


def cross_entropy_error(y: TensorLike, t: TensorLike) -> Any:
    """E = -sum(t * log(y + 1e-7)) / N, the book's mean over N samples.

    The 1e-7 keeps the log finite and costs the rest: a perfect y gives -1e-7, the loss ends at 16.1, and
    gradients are off by 1e-7 / y. To train, use minigrad.softmax_cross_entropy, which needs no such thing.
    y: probabilities (N, C), or (C,) for a batch of one. t: class numbers (N,), or one-hot or soft labels of
        y's shape; class numbers and one-hot rows give the same bits.
    Raises ShapeError for labels that fit neither way, LabelError for class numbers out of range, ArgumentError
    for a negative y, DTypeError for class numbers that are not integers.
    Source: Deep Learning from Scratch, section 4.2.2.

    >>> float(cross_entropy_error([0.1, 0.05, 0.6, 0, 0.5, 0, 0.1, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]))
    0.510825457099...
    """
    name = "cross_entropy_error"
    p = numbers(f"{name}: y", plain(y), None, copy=False)
    rows = distributions(name, p.shape, t)
    if not (p >= 0).all():
        at = tuple(int(i) for i in np.argwhere(~(p >= 0))[0])
        raise ArgumentError(f"{name}: y", f"y{list(at)} = {p[at]}", "probabilities", "pass softmax(x)")
    n = len(p) if p.ndim == 2 else 1
    log = ops.log(ops.add(y if isinstance(y, Tensor) else p, 1e-7))
    return _like(ops.divide(ops.sum(ops.multiply(log, -rows.astype(log.dtype))), n), y)


def softmax_loss(x: TensorLike, t: TensorLike) -> Any:
    """E = -sum(t * log(softmax(x))) / N, by the fused op: right down to 1e-300, without the book's 1e-7.

    x: scores (N, C), or (C,) for a batch of one. t and errors as in minigrad.softmax_cross_entropy.
    Source: Deep Learning from Scratch, common/functions.py.

    >>> float(softmax_loss(np.array([[40.0, 0.0]]), np.array([0])))
    4.2483542552915...e-18
    """
    return _like(ops.softmax_cross_entropy(_floats("softmax_loss", x), t), x)


def _like(out: Tensor, *given: Any) -> Any:
    """out as what was given: a Tensor for a Tensor, else an array or number."""
    return out if any(isinstance(x, Tensor) for x in given) else out.data[()]


def _floats(function: str, x: Any) -> Any:
    """x itself where it is a Tensor, else as an array of floats."""
    if isinstance(x, Tensor):
        return x
    array: NDArray[Any] = numbers(f"{function}: x", x, None, copy=False)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _slope(function: str, f: Callable[[TensorLike], Tensor], x: TensorLike) -> Any:
    """df/dx, entry by entry, as backward gives it."""
    leaf = Tensor(_floats(function, plain(x)), requires_grad=True)
    with enable_grad():
        return grad(f(leaf), leaf, np.ones(leaf.shape))[0].data[()]
