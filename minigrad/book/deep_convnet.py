"""DeepConvNet of the book's chapter 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigrad.book.base import Layer, draws
from minigrad.book.layers import Dropout, Pooling, Relu
from minigrad.book.nets import AffineOf, ConvolutionOf, Net, filters
from minigrad.contract import whole

__all__ = ["DeepConvNet"]

_PADS_AND_NUMBERS = ((1, 16), (1, 16), (1, 32), (2, 32), (1, 64), (1, 64))


class DeepConvNet(Net):
    """Convolution, Relu, Convolution, Relu, Pooling, three times over; Affine, Relu, Dropout, Affine, Dropout.

    input_dim: (C, H, W) of the images. conv_param_1 to conv_param_6: as for SimpleConvNet; by default filters of
        3 x 3 with stride 1, 16, 16, 32, 32, 64 and 64 of them, padded with 1, the fourth with 2.
    Weights are normal numbers times sqrt(2 / n), n being the inputs of one output: for the default sizes the numbers
    that the book writes out, and right for others too.
    predict: with train_flg=True as in training; the default is False. loss is that of training, as in the book.
    The last Dropout acts on the scores, as the book has it: in training each score is 0 with probability 0.5.
    seed: as for TwoLayerNet. layers: a list of 20. params: W1, b1 to W8, b8. accuracy counts every sample.
    Raises as SimpleConvNet. Source: Deep Learning from Scratch, section 8.1.

    >>> small = {"filter_num": 2, "filter_size": 3, "pad": 1, "stride": 1}
    >>> net = DeepConvNet((1, 8, 8), small, small, small, small, small, small, hidden_size=5, seed=0)
    >>> net.params["W7"].shape, len(net.layers)
    ((2, 5), 20)
    """

    _trains_by_default = True

    def __init__(
        self,
        input_dim: Sequence[int] = (1, 28, 28),
        conv_param_1: Mapping[str, int] | None = None,
        conv_param_2: Mapping[str, int] | None = None,
        conv_param_3: Mapping[str, int] | None = None,
        conv_param_4: Mapping[str, int] | None = None,
        conv_param_5: Mapping[str, int] | None = None,
        conv_param_6: Mapping[str, int] | None = None,
        hidden_size: int = 50,
        output_size: int = 10,
        *,
        seed: Any = None,
    ) -> None:
        super().__init__()
        hidden_size = whole("DeepConvNet: hidden_size", hidden_size)
        output_size = whole("DeepConvNet: output_size", output_size)
        given = [conv_param_1, conv_param_2, conv_param_3, conv_param_4, conv_param_5, conv_param_6]
        random, params = draws(seed, "DeepConvNet"), self._params
        layers: list[Layer] = []

        def weights(i: int, size: tuple[int, ...], fan_in: int, outputs: int) -> tuple[str, str]:
            params[f"W{i}"] = np.sqrt(2.0 / fan_in) * random.randn(*size)
            params[f"b{i}"] = np.zeros(outputs)
            return f"W{i}", f"b{i}"

        shape = tuple(input_dim)
        for i, (param, (pad, number)) in enumerate(zip(given, _PADS_AND_NUMBERS, strict=True), 1):
            if param is None:
                param = {"filter_num": number, "filter_size": 3, "pad": pad, "stride": 1}
            shape, size = filters(f"DeepConvNet: conv_param_{i}", shape, param)
            W, b = weights(i, size, int(np.prod(size[1:])), size[0])
            layers += [ConvolutionOf(f"layers[{len(layers)}]", params, W, b, param["stride"], param["pad"]), Relu()]
            if i % 2 == 0:
                layers.append(Pooling(pool_h=2, pool_w=2, stride=2))
                shape = (shape[0], shape[1] // 2, shape[2] // 2)
        flat = whole(
            "DeepConvNet: input_dim: entries that are left after pooling",
            int(np.prod(shape)),
            fix="take larger images, or more padding",
        )
        W, b = weights(7, (flat, hidden_size), flat, hidden_size)
        layers += [AffineOf("layers[15]", params, W, b), Relu(), Dropout(0.5, seed=None if seed is None else random)]
        W, b = weights(8, (hidden_size, output_size), hidden_size, output_size)
        layers += [AffineOf("layers[18]", params, W, b), Dropout(0.5, seed=None if seed is None else random)]
        self.layers = layers
