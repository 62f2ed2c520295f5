"""The layers of the book's chapters 5 to 7: forward and backward on plain arrays, by minigrad's ops.

As in the book, a layer remembers its latest forward, and backward belongs to that one. A layer that is used twice
in one net needs two objects; with Tensors and loss.backward() there is no such rule. What a layer remembers has the
book's names: x, mask, out, y, t, col, arg_max, ...; where it is computed from the forward, it can be read only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import ops
from minigrad.book.base import Layer, draws, rows
from minigrad.book.convolution import Convolution, Pooling
from minigrad.book.functions import (
    cross_entropy_error,
    identity_function,
    mean_squared_error,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    softmax,
    softmax_loss,
    squared_error,
    step_function,
    sum_squared_error,
)
from minigrad.book.normalization import BatchNormalization
from minigrad.book.util import col2im, im2col
from minigrad.errors import ArgumentError, describe
from minigrad.tensor import plain

# As `from common.layers import *` gives: the layers, np, the functions and the two of util that the book's file uses.
__all__ = [
    "AddLayer",
    "Affine",
    "BatchNormalization",
    "Convolution",
    "Dropout",
    "Layer",
    "MulLayer",
    "Pooling",
    "Relu",
    "Sigmoid",
    "SoftmaxWithLoss",
    "col2im",
    "cross_entropy_error",
    "identity_function",
    "im2col",
    "mean_squared_error",
    "np",
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


class MulLayer(Layer):
    """out = x * y. Source: Deep Learning from Scratch, section 5.4.1.

    x, y: numbers, or arrays that broadcast. dout: of the result's shape, or one number for all entries.
    Raises ShapeError for shapes that do not broadcast, GraphError for a backward without a forward.

    >>> mul = MulLayer()
    >>> mul.forward(100, 2), mul.backward(1.1)
    (200.0, (2.2, 110.00000000000001))
    """

    @property
    def x(self) -> Any:
        """The latest x, read-only; None before it."""
        return self._input(0)

    @property
    def y(self) -> Any:
        """The latest y, read-only; None before it."""
        return self._input(1)

    def forward(self, x: Any, y: Any) -> Any:
        """out = x * y"""
        return self._record(ops.multiply, x, y)

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """dx = dout * y, dy = dout * x"""
        dx, dy = self._pull(dout)
        return dx, dy


class AddLayer(Layer):
    """out = x + y. Source: Deep Learning from Scratch, section 5.4.2.

    x, y: numbers, or arrays that broadcast. dout: of the result's shape, or one number for all entries.
    Raises ShapeError for shapes that do not broadcast, GraphError for a backward without a forward.

    >>> add = AddLayer()
    >>> add.forward(200, 450), add.backward(1.1)
    (650.0, (1.1, 1.1))
    """

    def forward(self, x: Any, y: Any) -> Any:
        """out = x + y"""
        return self._record(ops.add, x, y)

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """dx = dout, dy = dout"""
        dx, dy = self._pull(dout)
        return dx, dy


class Relu(Layer):
    """out = max(x, 0). Source: Deep Learning from Scratch, section 5.5.1.

    x: numbers of any shape. dout: of x's shape; it is not written into, as the book's layer does.
    Raises ShapeError for a dout of another shape, GraphError for a backward without a forward.

    >>> relu = Relu()
    >>> relu.forward(np.array([[1.0, -0.5], [-2.0, 3.0]]))
    array([[1., 0.], [0., 3.]])
    >>> relu.backward(np.full((2, 2), 5.0))
    array([[5., 0.], [0., 5.]])
    """

    @property
    def mask(self) -> Any:
        """x <= 0 of the latest forward, or None."""
        return self._input() <= 0 if self._inputs else None

    def forward(self, x: Any) -> Any:
        """out = max(x, 0)"""
        return self._record(ops.relu, x)

    def backward(self, dout: Any) -> Any:
        """dx = dout where x > 0, else 0"""
        return self._pull(dout)[0]


class Sigmoid(Layer):
    """out = 1 / (1 + exp(-x)). Source: Deep Learning from Scratch, section 5.5.2.

    x: numbers of any shape. dout: of x's shape. The book's dout * (1 - out) * out is 0 from x = 37 on; the op's
    slope keeps its digits. Raises ShapeError for a dout of another shape, GraphError for a backward without a
    forward.

    >>> sigmoid = Sigmoid()
    >>> sigmoid.forward(5.0), sigmoid.backward(1.0)
    (0.9933071490757..., 0.006648056670790...)
    """

    @property
    def out(self) -> Any:
        """The latest result, read-only; None before it."""
        return None if self._out is None else self._out.numpy()

    def forward(self, x: Any) -> Any:
        """out = 1 / (1 + exp(-x))"""
        return self._record(ops.sigmoid, x)

    def backward(self, dout: Any) -> Any:
        """dx = dout * exp(-x) / (1 + exp(-x))**2"""
        return self._pull(dout)[0]


class Affine(Layer):
    """out = x @ W + b. Source: Deep Learning from Scratch, section 5.6.

    W: (D, M). b: (M,). The layer refers to both, and reads them at each forward.
    x: (N, D), or (D,) for one sample; of more axes, such as (N, C, H, W), all but the first become one. The
        attribute x is the matrix, original_x_shape the shape before.
    dW, db: the gradients that the latest backward found, None before it. dx has x's own shape.
    Raises ShapeError where x does not fit W or dout the result, GraphError for a backward without a forward.

    >>> affine = Affine(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 1.0]))
    >>> affine.forward(np.array([[1.0, 1.0]]))
    array([[5., 7.]])
    >>> affine.backward(np.array([[1.0, 0.0]]))
    array([[1., 3.]])
    >>> affine.db
    array([1., 0.])
    """

    def __init__(self, W: Any, b: Any) -> None:
        super().__init__()
        self.W, self.b = W, b
        self.dW: Any = None
        self.db: Any = None

    @property
    def x(self) -> Any:
        """The latest x as a matrix, read-only; None before it."""
        return rows(self._inputs[0].detach()).numpy() if self._inputs else None

    @property
    def original_x_shape(self) -> Any:
        """The latest x's own shape, or None."""
        return self._inputs[0].shape if self._inputs else None

    def forward(self, x: Any) -> Any:
        """out = x @ W + b"""
        return self._record(lambda x, W, b: ops.add(ops.matmul(rows(x), W), b), x, self.W, self.b)

    def backward(self, dout: Any) -> Any:
        """dx = dout @ W.T, dW = x.T @ dout, db = dout summed over the samples"""
        dx, self.dW, self.db = self._pull(dout)
        return dx


class SoftmaxWithLoss(Layer):
    """loss = -sum(t * log(softmax(x))) / N. Source: Deep Learning from Scratch, section 5.6.3.

    x: scores (N, C), or (C,) for a batch of one. t: class numbers (N,), or one-hot or soft labels of x's shape;
        class numbers and one-hot rows give the same bits. The loss has no 1e-7 in its log. For a batch of one, t may
        be (1, 1), as the book's gradient check of chapter 7 has it.
    loss, y, t: the latest forward's loss, softmax(x) and labels; None before it.
    Raises as minigrad.softmax_cross_entropy: ShapeError, LabelError, DTypeError, ArgumentError for labels that do
    not fit; GraphError for a backward without a forward.

    >>> layer = SoftmaxWithLoss()
    >>> layer.forward(np.array([[0.0, 0.0]]), np.array([1]))
    0.693147180559...
    >>> layer.backward()
    array([[ 0.5, -0.5]])
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss: float | None = None
        self.t: Any = None

    @property
    def y(self) -> Any:
        """softmax(x) of the latest forward, or None."""
        return ops.softmax(self._inputs[0].detach()).data if self._inputs else None

    def forward(self, x: Any, t: Any) -> float:
        """loss = the cross-entropy of softmax(x) and t, averaged over the samples"""
        labels = _numbers_of(t, np.shape(x))
        loss: float = self._record(lambda x: ops.softmax_cross_entropy(x, labels), x)
        self.loss, self.t = loss, t
        return loss

    def backward(self, dout: Any = 1) -> Any:
        """dx = (softmax(x) - t) / N * dout"""
        return self._pull(dout)[0]


class Dropout(Layer):
    """out = x * mask in training, x * (1 - dropout_ratio) otherwise. Source: Deep Learning from Scratch, section 6.4.3.

    This is the form of https://arxiv.org/abs/1207.0580, which scales at test time; PyTorch's, and minigrad.nn's,
    scales in training.
    dropout_ratio: the share of entries put to 0, from 0 to 1. mask: True where the latest training forward kept x.
    seed: what the mask is drawn from: None for NumPy's global state, as in the book, a whole number or a Generator.
    backward is the derivative of the latest forward, also of one with train_flg=False, where the book's takes the
    mask of the forward before. Raises ArgumentError for another ratio or seed, and as Relu.

    >>> dropout = Dropout(0.5, seed=1)
    >>> dropout.forward(np.ones(6))
    array([0., 1., 0., 0., 0., 0.])
    >>> dropout.backward(2.0)
    array([0., 2., 0., 0., 0., 0.])
    >>> dropout.forward(np.ones(3), train_flg=False)
    array([0.5, 0.5, 0.5])
    """

    def __init__(self, dropout_ratio: float = 0.5, *, seed: Any = None) -> None:
        super().__init__()
        if not isinstance(dropout_ratio, (int, float, np.number)) or not 0 <= dropout_ratio <= 1:
            raise ArgumentError(
                "Dropout: dropout_ratio", describe(dropout_ratio), "a number from 0 to 1", "pass 0.5, for example"
            )
        self.dropout_ratio = dropout_ratio
        self.mask: Any = None
        self._random = None if seed is None else draws(seed, "Dropout")

    def forward(self, x: Any, train_flg: bool = True) -> Any:
        """out = x * mask, or x * (1 - dropout_ratio) where train_flg is false"""
        if not train_flg:
            return self._record(lambda x: ops.multiply(x, 1.0 - float(self.dropout_ratio)), x)
        mask = draws(self._random, "Dropout").rand(*np.shape(plain(x))) > self.dropout_ratio
        out = self._record(lambda x: ops.multiply(x, mask), x)
        self.mask = mask
        return out

    def backward(self, dout: Any) -> Any:
        """dx = dout * mask, or dout * (1 - dropout_ratio)"""
        return self._pull(dout)[0]


def _numbers_of(t: Any, shape: tuple[int, ...]) -> Any:
    """Labels for scores of that shape: one-hot rows as class numbers, which give the same bits in half the time."""
    if np.shape(t) == (1, 1) and shape[1:] != (1,):
        return np.reshape(t, 1)
    if not isinstance(t, np.ndarray) or t.shape != shape or t.ndim != 2 or np.count_nonzero(t) != len(t):
        return t
    labels = t.argmax(axis=1)
    return labels if np.count_nonzero(t[np.arange(len(t)), labels] == 1) == len(t) else t
