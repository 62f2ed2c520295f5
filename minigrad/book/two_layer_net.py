"""TwoLayerNet of the book's chapter 5."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

from minigrad.book.base import draws
from minigrad.book.layers import Relu, SoftmaxWithLoss
from minigrad.book.nets import AffineOf, Net
from minigrad.contract import whole

__all__ = ["TwoLayerNet"]


class TwoLayerNet(Net):
    """Affine, Relu, Affine, SoftmaxWithLoss. Source: Deep Learning from Scratch, section 5.7.

    params: W1 (input_size, hidden_size), b1, W2 (hidden_size, output_size), b2; W from normal numbers times
        weight_init_std, b zero.
    seed: what W is drawn from: None for NumPy's global state, as in the book, so that np.random.seed(0) before it
        gives the book's own weights; or a whole number, or a numpy Generator.
    layers: Affine1, Relu1, Affine2 in order. last_layer, also as lastLayer: the SoftmaxWithLoss.
    The layers look params up at each use, so `net.params["W1"] -= lr * dW` and
    `net.params["W1"] = net.params["W1"] - lr * dW` both reach them; the book's lose the second.
    x: (N, input_size), or one sample. t: class numbers, or one-hot or soft labels. predict gives scores; that of the
        class of this name in chapter 4 gives their softmax.
    Raises ArgumentError for a size that is no positive integer, ShapeError and LabelError for an x or t that does
    not fit.

    >>> net = TwoLayerNet(4, 5, 3, seed=0)
    >>> x, t = np.eye(4), np.array([0, 1, 2, 0])
    >>> for _ in range(200):
    ...     for key, dW in net.gradient(x, t).items():
    ...         net.params[key] -= 1.0 * dW
    >>> net.accuracy(x, t)
    1.0
    """

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, weight_init_std: float = 0.01, *, seed: Any = None
    ) -> None:
        super().__init__()
        for name, size in (("input", input_size), ("hidden", hidden_size), ("output", output_size)):
            whole(f"TwoLayerNet: {name}_size", size)
        random, params = draws(seed, "TwoLayerNet"), self._params
        params["W1"] = weight_init_std * random.randn(input_size, hidden_size)
        params["b1"] = np.zeros(hidden_size)
        params["W2"] = weight_init_std * random.randn(hidden_size, output_size)
        params["b2"] = np.zeros(output_size)
        self.layers = OrderedDict(
            Affine1=AffineOf("Affine1", params, "W1", "b1"),
            Relu1=Relu(),
            Affine2=AffineOf("Affine2", params, "W2", "b2"),
        )

    @property
    def lastLayer(self) -> SoftmaxWithLoss:
        """last_layer, as the book's first edition spells it."""
        return self.last_layer
