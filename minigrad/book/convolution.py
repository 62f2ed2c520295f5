"""The book's chapter 7 layers, Convolution and Pooling, which `layers` has among the others."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.book.base import Layer
from minigrad.book.util import im2col
from minigrad.tensor import Tensor

__all__ = ["Convolution", "Pooling"]


class Convolution(Layer):
    """out[n, f, i, j] = sum(W[f] * the window of x[n] at (i, j)) + b[f].

    W: (FN, C, FH, FW). b: (FN,), or one number for all. The layer refers to both, and reads them at each forward.
    x: (N, C, H, W), with pad zeros around; windows start every stride entries. out: (N, FN, out_h, out_w).
    dW, db: the gradients that the latest backward found, None before it. x, col, col_W: the latest x, and the two
        matrices of the book's form, out = col @ col_W + b; made when they are asked for.
    Raises ShapeError where x does not fit W or the window is larger than the image, and as Affine.
    Source: Deep Learning from Scratch, section 7.4.

    >>> import numpy as np
    >>> conv = Convolution(np.ones((1, 1, 2, 2)), np.zeros(1))
    >>> conv.forward(np.arange(9.0).reshape(1, 1, 3, 3))
    array([[[[ 8., 12.], [20., 24.]]]])
    >>> conv.backward(np.ones((1, 1, 2, 2)))
    array([[[[1., 2., 1.], [2., 4., 2.], [1., 2., 1.]]]])
    """

    def __init__(self, W: Any, b: Any, stride: int = 1, pad: int = 0) -> None:
        super().__init__()
        self.W, self.b, self.stride, self.pad = W, b, stride, pad
        self.dW: Any = None
        self.db: Any = None

    @property
    def x(self) -> Any:
        """The latest x, read-only; None before it."""
        return self._input()

    @property
    def col(self) -> Any:
        """im2col of the latest x, or None."""
        if not self._inputs:
            return None
        filter_h, filter_w = self._inputs[1].shape[2:]
        return im2col(self.x, filter_h, filter_w, self.stride, self.pad)

    @property
    def col_W(self) -> Any:
        """The latest W as (C * FH * FW, FN), read-only; None before it."""
        return self._input(1).reshape(len(self._inputs[1]), -1).T if self._inputs else None

    def forward(self, x: Any) -> Any:
        """out = col @ col_W + b, as images"""
        return self._record(self._convolve, x, self.W, self.b)

    def backward(self, dout: Any) -> Any:
        """dx = col2im(dout @ col_W.T), dW = col.T @ dout, db = dout summed over samples and places"""
        dx, self.dW, self.db = self._pull(dout)
        return dx

    def _convolve(self, x: Tensor, W: Tensor, b: Tensor) -> Tensor:
        if not b.ndim and W.ndim:
            b = ops.broadcast_to(b, (len(W),))
        return ops.conv2d(x, W, b, self.stride, self.pad)


class Pooling(Layer):
    """out[n, c, i, j] = max of the window of x[n, c] at (i, j). Source: Deep Learning from Scratch, section 7.4.4.

    pool_h, pool_w: the window. x: (N, C, H, W), with pad zeros around, which count as values, as im2col's do; PyTorch
        pads with -inf. Windows start every stride entries; the book's layer leaves pad out of the output's size and
        fails for any other than 0.
    Equal maxima of a window share dout equally, as minigrad.max_pool2d has it; the book gives the first one all of it.
    x, arg_max: the latest x, and where in its window each maximum is, the first of equal ones, flat in the order
        (n, i, j, c). Raises ShapeError for other than four axes and a window larger than the image, and as Relu.

    >>> import numpy as np
    >>> pool = Pooling(2, 2, stride=2)
    >>> pool.forward(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.], [13., 15.]]]])
    >>> pool.backward(np.ones((1, 1, 2, 2)))[0, 0, 1]
    array([0., 1., 0., 1.])
    """

    def __init__(self, pool_h: int, pool_w: int, stride: int = 1, pad: int = 0) -> None:
        super().__init__()
        self.pool_h, self.pool_w, self.stride, self.pad = pool_h, pool_w, stride, pad

    @property
    def x(self) -> Any:
        """The latest x, read-only; None before it."""
        return self._input()

    @property
    def arg_max(self) -> Any:
        """The place of each maximum in its window, flat; None before a forward."""
        if not self._inputs:
            return None
        col = im2col(self.x, self.pool_h, self.pool_w, self.stride, self.pad)
        return col.reshape(-1, self.pool_h * self.pool_w).argmax(axis=1)

    def forward(self, x: Any) -> Any:
        """out = the maximum of each window"""
        return self._record(self._pool, x)

    def backward(self, dout: Any) -> Any:
        """dx = dout at each maximum, shared where there are several, else 0"""
        return self._pull(dout)[0]

    def _pool(self, x: Tensor) -> Tensor:
        if self.pad and x.ndim == 4:
            x = ops.pad(x, [(0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad)])
        return ops.max_pool2d(x, (self.pool_h, self.pool_w), self.stride)
