"""The fused ops of minigrad.ops.activation, written out."""

from __future__ import annotations

import math

from minigrad import ops
from minigrad.tensor import Tensor, TensorLike
from minigrad.unfused.basic import sigmoid, tanh

__all__ = ["gelu", "leaky_relu", "silu"]


def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    """out = x/2 * (1 + erf(x / sqrt(2))), or x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x**3))).

    >>> gelu(Tensor(1.0)).item()
    0.8413447460685429
    """
    if approximate == "tanh":
        cubed = ops.multiply(ops.multiply(x, x), x)
        inner = tanh(ops.multiply(ops.add(x, ops.multiply(cubed, 0.044715)), math.sqrt(2 / math.pi)))
    else:
        inner = ops.erf(ops.divide(x, math.sqrt(2)))
    return ops.multiply(ops.multiply(x, 0.5), ops.add(inner, 1))


def silu(x: TensorLike) -> Tensor:
    """out = x * sigmoid(x).

    >>> silu(Tensor(1.0)).item()
    0.7310585786300049
    """
    return ops.multiply(x, sigmoid(x))


def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    """out = max(x, 0) + negative_slope * min(x, 0).

    >>> leaky_relu(Tensor(-1.0)).item()
    -0.01
    """
    return ops.add(ops.maximum(x, 0.0), ops.multiply(ops.minimum(x, 0.0), negative_slope))
