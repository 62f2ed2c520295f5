"""Activation functions as modules, to stand in a Sequential."""

from __future__ import annotations

from typing import Literal

import minigrad as mg
from minigrad import Tensor
from minigrad.nn.module import Module
from minigrad.tensor import TensorLike

__all__ = ["GELU", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Softmax", "Tanh"]


class ReLU(Module):
    """out = max(x, 0); the gradient at 0 is 0. Source: Deep Learning from Scratch, section 5.5.1.

    >>> ReLU()(Tensor([-1.0, 2.0]))
    Tensor([0., 2.], dtype=float64)
    """

    def forward(self, x: TensorLike) -> Tensor:
        """minigrad.relu"""
        return mg.relu(x)


class LeakyReLU(Module):
    """out = x where x > 0, negative_slope * x elsewhere. Source: Maas et al. (2013).

    >>> LeakyReLU(0.1)(Tensor([-1.0, 2.0]))
    Tensor([-0.1, 2. ], dtype=float64)
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: TensorLike) -> Tensor:
        """minigrad.leaky_relu"""
        return mg.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """The slope."""
        return f"{self.negative_slope:g}"


class GELU(Module):
    """out = x * Phi(x), Phi the normal distribution. Source: Hendrycks and Gimpel (2016).

    approximate: "tanh" for the formula with tanh in place of the error function.

    >>> GELU()(Tensor([0.0, 1.0]))
    Tensor([0.        , 0.84134475], dtype=float64)
    """

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        self.approximate = approximate

    def forward(self, x: TensorLike) -> Tensor:
        """minigrad.gelu"""
        return mg.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """The approximation, where there is one."""
        return "" if self.approximate == "none" else f"approximate={self.approximate!r}"


class SiLU(Module):
    """out = x * sigmoid(x). Source: Elfwing et al. (2017).

    >>> SiLU()(Tensor([0.0, 1.0]))
    Tensor([0.        , 0.73105858], dtype=float64)
    """

    def forward(self, x: TensorLike) -> Tensor:
        """minigrad.silu"""
        return mg.silu(x)


class Sigmoid(Module):
    """out = 1 / (1 + exp(-x)). Source: Deep Learning from Scratch, section 5.5.2.

    >>> Sigmoid()(Tensor([0.0]))
    Tensor([0.5], dtype=float64)
    """

    def forward(self, x: TensorLike) -> Tensor:
        """minigrad.sigmoid"""
        return mg.sigmoid(x)


class Tanh(Module):
    """out = tanh(x)

    >>> Tanh()(Tensor([0.0]))
    Tensor([0.], dtype=float64)
    """

    def forward(self, x: TensorLike) -> Tensor:
        """minigrad.tanh"""
        return mg.tanh(x)


class Softmax(Module):
    """out_i = exp(x_i) / sum_j exp(x_j) over axis dim, the last one by default

    Not before CrossEntropyLoss, which takes the scores themselves. Source: Deep Learning from Scratch, section 3.5.

    >>> Softmax()(Tensor([[0.0, 0.0]]))
    Tensor([[0.5, 0.5]], dtype=float64)
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: TensorLike) -> Tensor:
        """minigrad.softmax"""
        return mg.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"
