"""MultiLayerNet of the book's chapter 6."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from minigrad.book.base import Layer, draws
from minigrad.book.layers import Relu, Sigmoid
from minigrad.book.nets import AffineOf, Net, he_or_xavier
from minigrad.contract import whole
from minigrad.errors import ArgumentError, describe

__all__ = ["MultiLayerNet"]

ACTIVATIONS: dict[str, type[Layer]] = {"sigmoid": Sigmoid, "relu": Relu}


class MultiLayerNet(Net):
    """Affine and an activation for each hidden layer, Affine, SoftmaxWithLoss.

    hidden_size_list: the hidden layers' sizes. activation: "relu" or "sigmoid".
    weight_init_std: the standard deviation of the first weights; "relu" or "he": sqrt(2 / n), n being the number of
        inputs; "sigmoid" or "xavier": sqrt(1 / n).
    weight_decay_lambda: the loss has 0.5 * weight_decay_lambda * sum(W**2) added for each W, the gradient its
        derivative.
    seed: as for TwoLayerNet.
    params: W1, b1, ... layers: Affine1, Activation_function1, ... in order.
    Raises ArgumentError for a size that is no positive integer and for an unknown name, and as TwoLayerNet.
    Source: Deep Learning from Scratch, common/multi_layer_net.py.

    >>> net = MultiLayerNet(4, [5, 6], 3, seed=0)
    >>> list(net.params), list(net.layers)[:3]
    (['W1', 'b1', 'W2', 'b2', 'W3', 'b3'], ['Affine1', 'Activation_function1', 'Affine2'])
    >>> x, t = np.eye(4), np.array([0, 1, 2, 0])
    >>> dW, wanted = net.gradient(x, t)["W2"], net.numerical_gradient(x, t)["W2"]
    >>> np.allclose(dW, wanted)
    True
    """

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: float | str = "relu",
        weight_decay_lambda: float = 0,
        *,
        seed: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.input_size = whole(f"{name}: input_size", input_size)
        self.output_size = whole(f"{name}: output_size", output_size)
        self.hidden_size_list = [
            whole(f"{name}: hidden_size_list", size, fix="pass hidden_size_list=[100, 50], say")
            for size in hidden_size_list
        ]
        self.hidden_layer_num = len(self.hidden_size_list)
        self.weight_decay_lambda = weight_decay_lambda
        if str(activation).lower() not in ACTIVATIONS:
            raise ArgumentError(
                f"{name}: activation", describe(activation), " or ".join(ACTIVATIONS), "pass activation='relu'"
            )
        random, params = draws(seed, name), self._params
        sizes = [self.input_size, *self.hidden_size_list, self.output_size]
        for i, (n, m) in enumerate(pairwise(sizes), 1):
            params[f"W{i}"] = he_or_xavier(name, weight_init_std, n) * random.randn(n, m)
            params[f"b{i}"] = np.zeros(m)
        self.layers = OrderedDict[str, Layer]()
        for i in range(1, len(sizes)):
            self.layers[f"Affine{i}"] = AffineOf(f"Affine{i}", params, f"W{i}", f"b{i}")
            if i <= self.hidden_layer_num:
                self._add_between(i)
                self.layers[f"Activation_function{i}"] = ACTIVATIONS[str(activation).lower()]()
                self._add_after(i)

    def _add_between(self, i: int) -> None:
        """What stands between Affine and the activation of hidden layer i: nothing."""

    def _add_after(self, i: int) -> None:
        """What stands after the activation of hidden layer i: nothing."""
