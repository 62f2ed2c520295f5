"""SimpleConvNet of the book's chapter 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigrad.book.base import draws
from minigrad.book.layers import Pooling, Relu
from minigrad.book.nets import AffineOf, ConvolutionOf, Net, filters
from minigrad.contract import whole

__all__ = ["SimpleConvNet"]


class SimpleConvNet(Net):
    """Convolution, Relu, Pooling, Affine, Relu, Affine, SoftmaxWithLoss.

    input_dim: (C, H, W) of the images. conv_param: filter_num, filter_size, pad and stride of the convolution; by
        default 30, 5, 0 and 1. The pooling is 2 x 2 with stride 2.
    weight_init_std: the standard deviation of the first weights. seed: as for TwoLayerNet.
    params: W1, b1 of the convolution, W2, b2, W3, b3. layers: a list.
    accuracy counts every sample; the book's leaves out the last ones where batch_size does not divide their number.
    Raises ArgumentError for sizes that are no positive integers or that leave no image, and as TwoLayerNet.
    Source: Deep Learning from Scratch, section 7.5.

    >>> param = {"filter_num": 3, "filter_size": 3, "pad": 0, "stride": 1}
    >>> net = SimpleConvNet((1, 8, 8), param, hidden_size=5, seed=0)
    >>> {key: p.shape for key, p in net.params.items() if key[0] == "W"}
    {'W1': (3, 1, 3, 3), 'W2': (27, 5), 'W3': (5, 10)}
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (1, 28, 28),
        conv_param: Mapping[str, int] | None = None,
        hidden_size: int = 100,
        output_size: int = 10,
        weight_init_std: float = 0.01,
        *,
        seed: Any = None,
    ) -> None:
        super().__init__()
        if conv_param is None:
            conv_param = {"filter_num": 30, "filter_size": 5, "pad": 0, "stride": 1}
        shape, W1 = filters("SimpleConvNet: conv_param", input_dim, conv_param)
        pooled = shape[0] * (shape[1] // 2) * (shape[2] // 2)
        hidden_size = whole("SimpleConvNet: hidden_size", hidden_size)
        output_size = whole("SimpleConvNet: output_size", output_size)
        random, params = draws(seed, "SimpleConvNet"), self._params
        for i, size in enumerate([W1, (pooled, hidden_size), (hidden_size, output_size)], 1):
            params[f"W{i}"] = weight_init_std * random.randn(*size)
            params[f"b{i}"] = np.zeros(size[0] if i == 1 else size[1])
        self.layers = [
            ConvolutionOf("layers[0]", params, "W1", "b1", conv_param["stride"], conv_param["pad"]),
            Relu(),
            Pooling(pool_h=2, pool_w=2, stride=2),
            AffineOf("layers[3]", params, "W2", "b2"),
            Relu(),
            AffineOf("layers[5]", params, "W3", "b3"),
        ]
