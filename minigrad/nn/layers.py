"""Layers with weights, pooling, and what stands between layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import minigrad as mg
from minigrad import ArgumentError, ShapeError, Tensor, from_numpy
from minigrad.contract import is_real, is_whole, numbers, whole
from minigrad.errors import describe
from minigrad.nn import init
from minigrad.nn.init import Generator
from minigrad.nn.module import Module, Parameter, float_dtype
from minigrad.random import chosen
from minigrad.tensor import TensorLike, plain

__all__ = ["AvgPool2d", "Conv1d", "Conv2d", "Dropout", "Embedding", "Flatten", "Linear", "MaxPool2d"]

Pair = int | tuple[int, int]


class Linear(Module):
    """out = x @ weight.T + bias: the book's Affine

    x: (..., in_features); out: (..., out_features). weight: (out_features, in_features), bias: (out_features,) or None.
    Initially both are drawn evenly from ±1/sqrt(in_features), as in PyTorch; see nn.init for Xavier and He.
    Raises ArgumentError for a size that is no positive integer, ShapeError for an x that does not fit.
    Source: Deep Learning from Scratch, section 5.6.

    >>> layer = Linear(3, 2)
    >>> layer
    Linear(3, 2)  weight (2, 3), bias (2,): 8 parameters
    >>> layer(np.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike | None = None,
        generator: Generator = None,
    ) -> None:
        positive(self, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight, self.bias = uniform_parameters(
            self, (out_features, in_features), in_features, bias, dtype, generator
        )

    def forward(self, x: TensorLike) -> Tensor:
        """x @ weight.T + bias"""
        try:
            return mg.linear(x, self.weight, self.bias)
        except ShapeError:
            _explain(self, x, -1, "features", "in_features", f"(..., {self.in_features})")
            raise

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_features}, {self.out_features}"


class _Conv(Module):
    """What the convolutions share; `axes` is how many axes the kernel has."""

    axes: int
    layout: str
    function: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: DTypeLike | None = None,
        generator: Generator = None,
    ) -> None:
        kernel = tuple(kernel_size) if isinstance(kernel_size, (tuple, list)) else (kernel_size,) * self.axes
        positive(self, in_channels=in_channels, out_channels=out_channels, groups=groups)
        positive(self, **{f"kernel_size[{i}]": k for i, k in enumerate(kernel)})
        if in_channels % groups or out_channels % groups or len(kernel) != self.axes:
            raise ArgumentError(
                f"{type(self).__name__}: groups, kernel_size",
                f"in_channels={in_channels}, out_channels={out_channels}, groups={groups}, kernel_size={kernel_size}",
                f"groups that divide both numbers of channels, and a kernel of {self.axes} axes",
                "pass groups=1 and kernel_size=3, for example",
            )
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        for name, value in (("stride", stride), ("dilation", dilation)):
            positive(self, **{name: min(value) if isinstance(value, (tuple, list)) else value})
        fan_in = in_channels // groups * math.prod(kernel)
        shape = (out_channels, in_channels // groups, *kernel)
        self.weight, self.bias = uniform_parameters(self, shape, fan_in, bias, dtype, generator)

    def forward(self, x: TensorLike) -> Tensor:
        """The convolution of x."""
        try:
            return self.function(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        except ShapeError:
            _explain(self, x, -1 - self.axes, "channels", "in_channels", self.layout.format(self.in_channels))
            raise

    def extra_repr(self) -> str:
        """The sizes, and what is not as by default."""
        rest = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        changed = [f", {key}={getattr(self, key)!r}" for key, value in rest.items() if getattr(self, key) != value]
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}{''.join(changed)}"


class Conv1d(_Conv):
    """out[n, o, i] = sum over c, k of x[n, c, i*stride + k*dilation] * weight[o, c, k] + bias[o]

    x: (N, in_channels, L). weight: (out_channels, in_channels / groups, kernel_size). The arguments are PyTorch's;
    initially weight and bias are drawn evenly from ±1/sqrt(in_channels / groups * kernel_size).
    Raises ArgumentError for sizes that are no positive integers, ShapeError for an x that does not fit.

    >>> Conv1d(2, 4, 3, padding=1)(np.ones((5, 2, 8))).shape
    (5, 4, 8)
    """

    axes = 1
    layout = "(N, {0}, L)"
    function = staticmethod(mg.conv1d)


class Conv2d(_Conv):
    """out[n, o, i, j] = sum over c, k, l of x[n, c, i*stride + k, j*stride + l] * weight[o, c, k, l] + bias[o]

    x: (N, in_channels, H, W). weight: (out_channels, in_channels / groups, *kernel_size). The arguments are PyTorch's;
    initially weight and bias are drawn evenly from ±1/sqrt(in_channels / groups * kernel height * kernel width).
    Raises ArgumentError for sizes that are no positive integers, ShapeError for an x that does not fit.
    Source: Deep Learning from Scratch, section 7.2.

    >>> Conv2d(1, 4, 3, padding=1)
    Conv2d(1, 4, kernel_size=(3, 3), padding=1)  weight (4, 1, 3, 3), bias (4,): 40 parameters
    >>> Conv2d(1, 4, 3, padding=1)(np.ones((5, 1, 8, 8))).shape
    (5, 4, 8, 8)
    """

    axes = 2
    layout = "(N, {0}, H, W)"
    function = staticmethod(mg.conv2d)


class MaxPool2d(Module):
    """out = the largest x of each window; a tie divides the gradient equally

    x: (N, C, H, W). kernel_size, stride (the kernel's size by default), padding, dilation, ceil_mode: as in PyTorch.
    Raises ArgumentError and ShapeError for windows that do not fit. Source: Deep Learning from Scratch, section 7.3.

    >>> MaxPool2d(2)(np.arange(4.0).reshape(1, 1, 2, 2))
    Tensor([[[[3.]]]], dtype=float64)
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def forward(self, x: TensorLike) -> Tensor:
        """The largest of each window."""
        return mg.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        """The window."""
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """out = the mean of x over each window

    x: (N, C, H, W). kernel_size, stride (the kernel's size by default), padding, ceil_mode, count_include_pad: as in
    PyTorch. Raises ArgumentError and ShapeError for windows that do not fit.

    >>> AvgPool2d(2)(np.arange(4.0).reshape(1, 1, 2, 2))
    Tensor([[[[1.5]]]], dtype=float64)
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad

    def forward(self, x: TensorLike) -> Tensor:
        """The mean of each window."""
        return mg.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    extra_repr = MaxPool2d.extra_repr


class Embedding(Module):
    """out = weight[indices]: a row of numbers, learned, for each of num_embeddings words

    indices: integers from 0 to num_embeddings - 1, of any shape; out has one axis more, of length embedding_dim.
    padding_idx: a word whose row is 0 at first and gets no gradient.
    Raises LabelError for an index out of range, negative ones too; DTypeError for indices that are no integers.

    >>> Embedding(10, 3)(np.array([[1, 2], [9, 9]])).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: DTypeLike | None = None,
        generator: Generator = None,
    ) -> None:
        positive(self, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not (is_whole(padding_idx, -num_embeddings) and padding_idx < num_embeddings):
            raise ArgumentError(
                "Embedding: padding_idx",
                describe(padding_idx),
                f"an index from 0 to {num_embeddings - 1}",
                "pass padding_idx=0, for example",
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        wanted = float_dtype("Embedding", dtype)
        values = chosen(generator, "Embedding").standard_normal((num_embeddings, embedding_dim))
        if self.padding_idx is not None:
            values[self.padding_idx] = 0
        self.weight = Parameter(values, wanted)

    def forward(self, indices: TensorLike) -> Tensor:
        """The rows of the indices."""
        return mg.embedding(self.weight, indices, self.padding_idx)

    def extra_repr(self) -> str:
        """The sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Flatten(Module):
    """out = x with the axes from start_dim to end_dim as one

    Raises ShapeError for an x without those axes.

    >>> Flatten()(np.ones((5, 2, 3))).shape
    (5, 6)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: TensorLike) -> Tensor:
        """x in its new shape."""
        shape = np.shape(plain(x))
        first, last = (axis + len(shape) if axis < 0 else axis for axis in (self.start_dim, self.end_dim))
        if not 0 <= first <= last < len(shape):
            raise ShapeError(
                "Flatten: x",
                f"x is {describe(plain(x))}, start_dim={self.start_dim}, end_dim={self.end_dim}",
                "an x with both axes, in this order",
                "pass a batch: x[None] for one sample",
            )
        return mg.reshape(x, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))

    def extra_repr(self) -> str:
        """The axes, where they are not all but the first."""
        return "" if (self.start_dim, self.end_dim) == (1, -1) else f"{self.start_dim}, {self.end_dim}"


class Dropout(Module):
    """out = x * mask / (1 - p) in training, each entry of the mask 0 with probability p; out = x in evaluation

    p: from 0 to 1. generator: where the masks are drawn from, the default one if it is left out.
    Unlike the book's layer it scales in training, so that evaluation has nothing to do.
    Raises ArgumentError for a p out of range.
    Source: Srivastava et al. (2014); Deep Learning from Scratch, section 6.4.3.

    >>> Dropout(0.5).eval()(Tensor([1.0, 2.0]))
    Tensor([1., 2.], dtype=float64)
    """

    def __init__(self, p: float = 0.5, *, generator: Generator = None) -> None:
        self.p, self.generator = probability("Dropout: p", p), generator
        chosen(generator, "Dropout")

    def forward(self, x: TensorLike) -> Tensor:
        """x with some of its entries 0."""
        values = numbers("Dropout: x", plain(x), None, copy=False)
        if not self.training or self.p == 0:
            return x if isinstance(x, Tensor) else from_numpy(values)
        draws = chosen(self.generator, "Dropout").random(values.shape, np.float32)
        scale = 0.0 if self.p == 1 else 1 / (1 - self.p)
        mask = (draws >= self.p) * np.asarray(scale, values.dtype if values.dtype.kind == "f" else np.float64)
        return mg.multiply(x, mask)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p:g}"


def positive(layer: Module, **sizes: Any) -> None:
    """ArgumentError for a size that is no whole number, 1 or more."""
    for name, size in sizes.items():
        whole(f"{type(layer).__name__}: {name}", size, fix=f"pass {name.partition('[')[0]}=3, for example")


def probability(where: str, p: Any) -> float:
    """p as a float from 0 to 1. Raises ArgumentError for anything else."""
    if not is_real(p) or not 0 <= p <= 1:
        raise ArgumentError(where, describe(p), "a probability from 0 to 1", f"pass {where.split(': ')[1]}=0.5, say")
    return float(p)


def _explain(layer: Module, x: TensorLike, axis: int, what: str, argument: str, layout: str) -> None:
    """The ShapeError of a layer whose x is of another width, in the layer's own words; nothing if that fits."""
    shape, wanted = np.shape(plain(x)), getattr(layer, argument)
    if len(shape) >= -axis and shape[axis] == wanted:
        return
    raise ShapeError(
        type(layer).__name__,
        f"x is {describe(plain(x))}",
        f"{layout}, with {wanted} {what}",
        f"build it with {argument}={shape[axis]}, or bring x into that layout"
        if len(shape) >= -axis
        else "add the missing axes of x, such as x[None]",
    ) from None


def uniform_parameters(
    layer: Module, shape: tuple[int, ...], fan_in: int, bias: bool, dtype: DTypeLike | None, generator: Generator
) -> tuple[Parameter, Parameter | None]:
    """weight and bias as PyTorch draws them for linear layers and convolutions: evenly from ±1/sqrt(fan_in)."""
    wanted = float_dtype(type(layer).__name__, dtype)
    rng, bound = chosen(generator, type(layer).__name__), 1 / math.sqrt(fan_in)
    weight = init.uniform_(Parameter(np.empty(shape, wanted)), -bound, bound, rng)
    return weight, init.uniform_(Parameter(np.empty(shape[:1], wanted)), -bound, bound, rng) if bias else None
