"""The fused ops of minigrad.ops.normalization, written out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad import ops
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["batch_norm", "layer_norm", "rms_norm"]


def _normalized(x: TensorLike, axes: tuple[int, ...], eps: float) -> Tensor:
    """(x - mean) / sqrt(var + eps), over axes."""
    centred = ops.subtract(x, ops.mean(x, axes, keepdims=True))
    var = ops.mean(ops.square(centred), axes, keepdims=True)
    return ops.divide(centred, ops.sqrt(ops.add(var, eps)))


def _axes(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(range(-np.size(normalized_shape), 0))


def _scaled(x: Tensor, weight: TensorLike | None, bias: TensorLike | None) -> Tensor:
    x = x if weight is None else ops.multiply(x, weight)
    return x if bias is None else ops.add(x, bias)


def layer_norm(
    x: TensorLike,
    normalized_shape: int | Sequence[int],
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """out = (x - mean) / sqrt(var + eps) * weight + bias, over the last axes.

    >>> layer_norm(Tensor([1.0, 2.0, 3.0]), 3)
    Tensor([-1.22473569,  0.        ,  1.22473569], dtype=float64)
    """
    return _scaled(_normalized(x, _axes(normalized_shape), eps), weight, bias)


def rms_norm(
    x: TensorLike, normalized_shape: int | Sequence[int], weight: TensorLike | None = None, eps: float | None = None
) -> Tensor:
    """out = x / sqrt(mean(x*x) + eps) * weight, over the last axes.

    >>> rms_norm(Tensor([3.0, 3.0]), 2)
    Tensor([1., 1.], dtype=float64)
    """
    eps = float(np.finfo(np.asarray(plain(x)).dtype).eps) if eps is None else eps
    square = ops.mean(ops.square(x), _axes(normalized_shape), keepdims=True)
    return _scaled(ops.divide(x, ops.sqrt(ops.add(square, eps))), weight, None)


def batch_norm(
    x: TensorLike, weight: TensorLike | None = None, bias: TensorLike | None = None, eps: float = 1e-5
) -> Tensor:
    """out = (x - mean) / sqrt(var + eps) * weight + bias, over all axes but 1.

    >>> batch_norm(Tensor([[1.0], [3.0]]), eps=0.0)
    Tensor([[-1.],
            [ 1.]], dtype=float64)
    """
    ndim = np.ndim(plain(x))
    column = (-1,) + (1,) * (ndim - 2)  # broadcasts along the channels
    factors = [None if factor is None else ops.reshape(factor, column) for factor in (weight, bias)]
    return _scaled(_normalized(x, (0, *range(2, ndim)), eps), *factors)
