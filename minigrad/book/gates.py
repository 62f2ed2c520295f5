"""The logic gates of the book's chapter 2: a perceptron each, and XOR out of three of them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["AND", "NAND", "OR", "XOR", "np"]  # the book's scripts take np from here


def AND(x1: float, x2: float) -> int:
    """y = 1 where 0.5 * x1 + 0.5 * x2 - 0.7 > 0, else 0. Source: Deep Learning from Scratch, section 2.3.3.

    >>> [AND(x1, x2) for x1, x2 in ((0, 0), (1, 0), (0, 1), (1, 1))]
    [0, 0, 0, 1]
    """
    return _fires(x1, x2, np.array([0.5, 0.5]), -0.7)


def NAND(x1: float, x2: float) -> int:
    """y = 1 where -0.5 * x1 - 0.5 * x2 + 0.7 > 0, else 0. Source: Deep Learning from Scratch, section 2.3.3.

    >>> [NAND(x1, x2) for x1, x2 in ((0, 0), (1, 0), (0, 1), (1, 1))]
    [1, 1, 1, 0]
    """
    return _fires(x1, x2, np.array([-0.5, -0.5]), 0.7)


def OR(x1: float, x2: float) -> int:
    """y = 1 where 0.5 * x1 + 0.5 * x2 - 0.2 > 0, else 0. Source: Deep Learning from Scratch, section 2.3.3.

    >>> [OR(x1, x2) for x1, x2 in ((0, 0), (1, 0), (0, 1), (1, 1))]
    [0, 1, 1, 1]
    """
    return _fires(x1, x2, np.array([0.5, 0.5]), -0.2)


def XOR(x1: float, x2: float) -> int:
    """y = AND(NAND(x1, x2), OR(x1, x2)), which one perceptron cannot do. Source: section 2.5.2.

    >>> [XOR(x1, x2) for x1, x2 in ((0, 0), (1, 0), (0, 1), (1, 1))]
    [0, 1, 1, 0]
    """
    return AND(NAND(x1, x2), OR(x1, x2))


def _fires(x1: float, x2: float, w: Any, b: float) -> int:
    return int(np.sum(w * np.array([x1, x2])) + b > 0)
