"""Layers that normalise: over the features of a sample, or over the samples of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import minigrad as mg
from minigrad import ArgumentError, ShapeError, Tensor
from minigrad.contract import is_real
from minigrad.errors import describe
from minigrad.nn.layers import positive
from minigrad.nn.module import Module, Parameter, float_dtype
from minigrad.ops.normalization import batch_statistics
from minigrad.recompute import is_second_run
from minigrad.tensor import TensorLike, plain

__all__ = ["BatchNorm1d", "BatchNorm2d", "LayerNorm", "RMSNorm"]


class LayerNorm(Module):
    """out = (x - mean) / sqrt(var + eps) * weight + bias, over the last axes of each sample

    normalized_shape: the lengths of those axes, or of the last one. elementwise_affine: False for no weight and bias.
    Raises ShapeError for an x whose last axes are others. Source: Ba et al. (2016).

    >>> LayerNorm(2, dtype="float32")(np.array([[1.0, 3.0]], "float32"))
    Tensor([[-0.999995, 0.999995]], dtype=float32, requires_grad=True, op=layer_norm(...))
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.normalized_shape = _shape(self, normalized_shape)
        self.eps = _eps(self, eps)
        wanted = float_dtype("LayerNorm", dtype)
        self.weight = Parameter(np.ones(self.normalized_shape), wanted) if elementwise_affine else None
        self.bias = Parameter(np.zeros(self.normalized_shape), wanted) if elementwise_affine and bias else None

    def forward(self, x: TensorLike) -> Tensor:
        """minigrad.layer_norm"""
        return mg.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The lengths of the axes."""
        return f"{self.normalized_shape}"


class RMSNorm(Module):
    """out = x / sqrt(mean(x**2) + eps) * weight, over the last axes of each sample

    normalized_shape, elementwise_affine: as in LayerNorm. eps: None for the smallest step of x's dtype.
    Raises ShapeError for an x whose last axes are others. Source: Zhang and Sennrich (2019).

    >>> RMSNorm(2)(np.array([[3.0, 3.0]])).data
    array([[1., 1.]])
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.normalized_shape = _shape(self, normalized_shape)
        self.eps = eps if eps is None else _eps(self, eps)
        wanted = float_dtype("RMSNorm", dtype)
        self.weight = Parameter(np.ones(self.normalized_shape), wanted) if elementwise_affine else None

    def forward(self, x: TensorLike) -> Tensor:
        """minigrad.rms_norm"""
        return mg.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    extra_repr = LayerNorm.extra_repr


class _BatchNorm(Module):
    """What BatchNorm1d and BatchNorm2d share; `ndims` are the numbers of axes that x may have."""

    ndims: tuple[int, ...]
    layout: str
    running_mean: np.ndarray[Any, np.dtype[Any]] | None = None
    running_var: np.ndarray[Any, np.dtype[Any]] | None = None
    num_batches_tracked: np.ndarray[Any, np.dtype[Any]]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        positive(self, num_features=num_features)
        if momentum is not None and not (is_real(momentum) and 0 <= momentum <= 1):
            raise ArgumentError(
                f"{type(self).__name__}: momentum",
                describe(momentum),
                "a number from 0 to 1, or None for the mean over all batches",
                "pass momentum=0.1: the part of the newest batch, 1 minus what other frameworks call momentum",
            )
        self.num_features, self.eps, self.momentum = num_features, _eps(self, eps), momentum
        wanted = float_dtype(type(self).__name__, dtype)
        self.weight = Parameter(np.ones(num_features), wanted) if affine else None
        self.bias = Parameter(np.zeros(num_features), wanted) if affine else None
        if track_running_stats:
            self.register_buffer("running_mean", np.zeros(num_features, wanted))
            self.register_buffer("running_var", np.ones(num_features, wanted))
            self.register_buffer("num_batches_tracked", np.array(0))

    def forward(self, x: TensorLike) -> Tensor:
        """x normalised by the batch in training, by what was seen in training in evaluation."""
        shape = np.shape(plain(x))
        if len(shape) not in self.ndims or shape[1] != self.num_features:
            raise ShapeError(
                type(self).__name__,
                f"x is {describe(plain(x))}",
                f"{self.layout} with {self.num_features} channels",
                f"build it with num_features={shape[1]}" if len(shape) in self.ndims else "add or drop axes of x",
            )
        if not self.training and self.running_mean is not None:
            return self._by_running_statistics(x, (1, -1, *(1,) * (len(shape) - 2)))
        out = mg.batch_norm(x, self.weight, self.bias, self.eps)
        if self.training and self.running_mean is not None and not is_second_run():
            self._track(*batch_statistics(plain(x), out), int(np.prod(shape)) // self.num_features)
        return out

    def _by_running_statistics(self, x: TensorLike, shape: tuple[int, ...]) -> Tensor:
        mean, var = self.running_mean, self.running_var
        assert mean is not None  # forward has looked
        assert var is not None
        scale = (1 / np.sqrt(var + self.eps)).astype(var.dtype)
        out = mg.multiply(mg.subtract(x, mean.reshape(shape)), scale.reshape(shape))
        if self.weight is not None:
            out = out * mg.reshape(self.weight, shape)
        return out if self.bias is None else out + mg.reshape(self.bias, shape)

    def _track(self, mean: Any, var: Any, count: int) -> None:
        """running = (1 - momentum) * running + momentum * batch, with the unbiased variance."""
        assert self.running_mean is not None  # forward has looked
        assert self.running_var is not None
        self.num_batches_tracked += 1
        momentum = 1 / self.num_batches_tracked if self.momentum is None else np.asarray(self.momentum, np.float64)
        for running, batch in ((self.running_mean, mean), (self.running_var, var * (count / (count - 1)))):
            running *= (1 - momentum).astype(running.dtype)
            running += momentum.astype(batch.dtype) * batch

    def extra_repr(self) -> str:
        """The number of channels."""
        return f"{self.num_features}"


class BatchNorm1d(_BatchNorm):
    """out = (x - mean) / sqrt(var + eps) * weight + bias, for each channel over the batch

    x: (N, C) or (N, C, L). In training mean and var are those of the batch, and running_mean and running_var follow
    them: running = (1 - momentum) * running + momentum * batch, with the unbiased variance; in evaluation they are
    used. momentum: None for the mean over all batches. track_running_stats: False for the batch's own always.
    Raises ShapeError for other shapes, ArgumentError for one value per channel in training.
    Source: Ioffe and Szegedy (2015); Deep Learning from Scratch, section 6.3.

    >>> norm = BatchNorm1d(2)
    >>> norm(np.array([[1.0, 5.0], [3.0, 5.0]])).data.round(3)
    array([[-1.,  0.], [ 1.,  0.]])
    >>> norm.running_mean
    array([0.2, 0.5])
    """

    ndims = (2, 3)
    layout = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """out = (x - mean) / sqrt(var + eps) * weight + bias, for each channel over the batch and its pixels

    x: (N, C, H, W). All else as in BatchNorm1d.

    >>> BatchNorm2d(3)(np.arange(24.0).reshape(2, 3, 2, 2)).shape
    (2, 3, 2, 2)
    """

    ndims = (4,)
    layout = "(N, C, H, W)"


def _shape(layer: Module, shape: int | tuple[int, ...]) -> tuple[int, ...]:
    lengths = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    positive(layer, **{f"normalized_shape[{i}]": n for i, n in enumerate(lengths)})
    return tuple(map(int, lengths))


def _eps(layer: Module, eps: float) -> float:
    if not is_real(eps) or not eps >= 0:
        raise ArgumentError(f"{type(layer).__name__}: eps", describe(eps), "0 or more", "pass eps=1e-5")
    return float(eps)
