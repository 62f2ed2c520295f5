"""The fused op of minigrad.ops.attention, written out: where a layer puts its dropout between the products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.tensor import Tensor, TensorLike, plain
from minigrad.unfused.basic import softmax

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    attn_mask: TensorLike | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """out = softmax(query @ key.T * scale + mask) @ value.

    Arguments as for minigrad.scaled_dot_product_attention. Only masks of booleans may leave a query without keys.

    >>> scaled_dot_product_attention(Tensor([[0.0]]), Tensor([[1.0], [2.0]]), Tensor([[1.0], [0.0]]))
    Tensor([[0.5]], dtype=float64)
    """
    factor = 1 / math.sqrt(np.shape(plain(query))[-1]) if scale is None else scale
    scores = ops.multiply(ops.matmul(query, ops.swapaxes(key, -1, -2)), factor)
    mask: Any = np.tri(scores.shape[-2], scores.shape[-1]) > 0 if is_causal else attn_mask
    if mask is None:
        return ops.matmul(softmax(scores), value)
    if np.asarray(plain(mask)).dtype.kind == "f":
        return ops.matmul(softmax(ops.add(scores, mask)), value)
    mask = np.asarray(plain(mask))
    left = mask.any(axis=-1, keepdims=True)
    e = ops.where(mask | ~left, scores, -np.inf)
    return ops.matmul(ops.multiply(softmax(e), left.astype(scores.dtype)), value)
