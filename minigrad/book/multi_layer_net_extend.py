"""MultiLayerNetExtend of the book's chapter 6: MultiLayerNet with batch normalization and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.book.base import draws
from minigrad.book.layers import Dropout
from minigrad.book.multi_layer_net import MultiLayerNet
from minigrad.book.nets import BatchNormalizationOf

__all__ = ["MultiLayerNetExtend"]


class MultiLayerNetExtend(MultiLayerNet):
    """MultiLayerNet with BatchNormalization before and Dropout after each activation.

    The arguments of MultiLayerNet, and
    use_dropout, dropout_ration: whether there is Dropout, and its ratio (the book's spelling).
    use_batchnorm: whether there is BatchNormalization; its gamma1, beta1, ... are among the params.
    predict, loss: with train_flg=True as in training; the default is False. gradient and numerical_gradient are
    those of the training loss.
    Raises as MultiLayerNet. Source: Deep Learning from Scratch, common/multi_layer_net_extend.py.

    >>> net = MultiLayerNetExtend(4, [5], 3, use_dropout=True, dropout_ration=0.2, use_batchnorm=True, seed=0)
    >>> list(net.layers)
    ['Affine1', 'BatchNorm1', 'Activation_function1', 'Dropout1', 'Affine2']
    >>> sorted(net.gradient(np.eye(4), np.array([0, 1, 2, 0])))
    ['W1', 'W2', 'b1', 'b2', 'beta1', 'gamma1']
    """

    _asks_for_training = True

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: float | str = "relu",
        weight_decay_lambda: float = 0,
        use_dropout: bool = False,
        dropout_ration: float = 0.5,
        use_batchnorm: bool = False,
        *,
        seed: Any = None,
    ) -> None:
        self.use_dropout, self.use_batchnorm = use_dropout, use_batchnorm
        self._ratio = dropout_ration
        self._seed = None if seed is None else draws(seed, type(self).__name__)
        super().__init__(
            input_size,
            hidden_size_list,
            output_size,
            activation,
            weight_init_std,
            weight_decay_lambda,
            seed=self._seed,
        )

    def _add_between(self, i: int) -> None:
        if self.use_batchnorm:
            size, name = self.hidden_size_list[i - 1], f"BatchNorm{i}"
            self._params[f"gamma{i}"], self._params[f"beta{i}"] = np.ones(size), np.zeros(size)
            self.layers[name] = BatchNormalizationOf(name, self._params, f"gamma{i}", f"beta{i}")

    def _add_after(self, i: int) -> None:
        if self.use_dropout:
            self.layers[f"Dropout{i}"] = Dropout(self._ratio, seed=self._seed)
