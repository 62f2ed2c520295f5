"""The book's BatchNormalization of chapter 6, which `layers` has among the others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import ops
from minigrad.book.base import Layer, floats, rows
from minigrad.errors import ArgumentError, ShapeError, describe
from minigrad.op import Op
from minigrad.sums import unbroadcast
from minigrad.tensor import Tensor, plain

__all__ = ["BatchNormalization"]

Array = NDArray[Any]


class BatchNormalization(Layer):
    """out = gamma * (x - mean) / sqrt(var + 10e-7) + beta. Source: Deep Learning from Scratch, section 6.3.

    x: (N, D), or (N, C, H, W), whose C * H * W values are then D channels of one value a sample each.
    gamma, beta: (D,), or one number for all. Mean and variance (divided by N) are those of the batch in training, and
        running_mean and running_var otherwise.
    running_mean, running_var: 0 at first, and r = momentum * r + (1 - momentum) * r_of_the_batch at each forward in
        training. dgamma, dbeta: the gradients that the latest backward found; None before it.
    Where PyTorch differs: its eps is 1e-5 and this one's 10e-7 = 1e-6; its running variance starts from 1 and is
    divided by N - 1; its momentum is this one's 1 - momentum; its BatchNorm2d has one mean for each of C channels.
    A batch of one gives beta whatever x is, and gradients of 0.
    backward is the derivative of the latest forward, also of one with train_flg=False.
    Raises ShapeError for an x of one axis, an empty batch, or a D that gamma, beta or the running values do not
    have, ArgumentError for one running value without the other, and as Affine.

    >>> layer = BatchNormalization(np.ones(1), np.zeros(1))
    >>> layer.forward(np.array([[1.0], [3.0]])).round(3)
    array([[-1.], [ 1.]])
    >>> layer.running_mean, layer.running_var
    (array([0.2]), array([0.1]))
    """

    def __init__(
        self, gamma: Any, beta: Any, momentum: float = 0.9, running_mean: Any = None, running_var: Any = None
    ) -> None:
        super().__init__()
        if (running_mean is None) != (running_var is None):
            raise ArgumentError(
                "BatchNormalization: running_mean, running_var",
                f"{describe(running_mean)} and {describe(running_var)}",
                "both or neither",
                "pass the two that belong together, or leave both out",
            )
        self.gamma, self.beta, self.momentum = gamma, beta, momentum
        self.running_mean, self.running_var = running_mean, running_var
        self.input_shape: Any = None
        self.batch_size: Any = None
        self.xc: Any = None
        self.xn: Any = None
        self.std: Any = None
        self.dgamma: Any = None
        self.dbeta: Any = None

    def forward(self, x: Any, train_flg: bool = True) -> Any:
        """out = gamma * xn + beta, xn = xc / std, xc = x - mean, std = sqrt(var + 10e-7)"""
        n, d = self._sizes(np.shape(plain(x)))
        if not train_flg:
            if self.running_mean is None:
                self.running_mean, self.running_var = np.zeros(d), np.zeros(d)
            out = self._record(self._with_running_values, x, self.gamma, self.beta)
            self.input_shape = out.shape
            return out
        x = floats(self._name, x)
        mu, var, xc, std, xn = _parts(x.reshape(n, d))
        out = self._record(lambda x, gamma, beta: _ScaleAndShift()(x, gamma, beta, xn, std), x, self.gamma, self.beta)
        self.input_shape, self.batch_size = out.shape, n
        self.xc, self.std, self.xn = xc, std, xn
        if self.running_mean is None:
            self.running_mean, self.running_var = np.zeros_like(mu), np.zeros_like(var)
        self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mu
        self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        return out

    def backward(self, dout: Any) -> Any:
        """dx; dgamma = sum(xn * dout), dbeta = sum(dout) over the samples"""
        dx, self.dgamma, self.dbeta = self._pull(dout)
        return dx

    def _with_running_values(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        xn = ops.divide(ops.subtract(rows(x), self.running_mean), ops.sqrt(ops.add(self.running_var, 10e-7)))
        return ops.reshape(ops.add(ops.multiply(gamma, xn), beta), x.shape)

    def _sizes(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """N and D, checked."""
        where = f"{self._name}.forward"
        if len(shape) < 2 or not shape[0]:
            raise ShapeError(
                f"{where}: x", f"x has shape {shape}", "(N, D) or (N, C, H, W) with a sample at least", "pass a batch"
            )
        d = math.prod(shape[1:])
        for name in "gamma", "beta", "running_mean", "running_var":
            value = getattr(self, name)
            if value is not None and np.shape(plain(value)) not in ((d,), (1,), ()):
                raise ShapeError(
                    where,
                    f"x has shape {shape}, {name} is {describe(value)}",
                    f"{name} of shape {(d,)}",
                    f"make {name} of C * H * W entries: the book normalizes each of them by itself"
                    if len(shape) > 2
                    else f"make {name} as long as a row of x",
                )
        return shape[0], d


def _parts(x: Array) -> tuple[Array, Array, Array, Array, Array]:
    """mu, var, xc, std and xn of a batch (N, D), by the book's formula."""
    mu = x.mean(axis=0)
    xc = x - mu
    var = np.square(xc).mean(axis=0)
    std = np.sqrt(var + 10e-7)
    xn = xc / std
    for part in xc, std, xn:  # the layer shows them, and backward needs them as they are
        part.flags.writeable = False
    return mu, var, xc, std, xn


class _ScaleAndShift(Op):
    """out = gamma * xn + beta, where xn = (x - mean(x)) / std is made of x; the rule is first order alone."""

    def forward(self, x: Any, gamma: Any, beta: Any, xn: Any, std: Any) -> Any:
        return (gamma * xn + beta).reshape(x.shape)

    def backward(self, dout: Any, x_shape: Any, gamma: Any, beta_shape: Any, xn: Any, std: Any) -> Any:
        dout = dout.reshape(xn.shape)
        dgamma = dout * xn
        dxn = gamma * dout
        n = len(xn)
        dx = dxn - dxn.sum(axis=0) / n - xn * ((dxn * xn).sum(axis=0) / n)
        dx /= std
        return dx.reshape(x_shape), unbroadcast(dgamma, gamma.shape), unbroadcast(dout, beta_shape), None, None
