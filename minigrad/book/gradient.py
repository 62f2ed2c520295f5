"""Numerical differentiation and gradient descent of the book's chapter 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.contract import numbers
from minigrad.errors import ArgumentError, describe
from minigrad.tensor import Tensor, plain
from minigrad.testing import central_differences, numerical_diff, numerical_gradient

__all__ = ["gradient_descent", "numerical_diff", "numerical_gradient"]


def gradient_descent(
    f: Callable[[NDArray[Any]], Any], init_x: ArrayLike | Tensor, lr: float = 0.01, step_num: int = 100
) -> NDArray[Any]:
    """x = x - lr * df/dx, step_num times from init_x, with the numerical gradient.

    f: from an array to a number. init_x: numbers of any shape, integers too; it stays as it is, where the book's
        function moves it. The result is a float64 array of its own.
    With a rate so large that x runs away, the step of the difference ends up too small to change x, and x
    stands still from there on: the book's own end at -2.58983747e+13 for lr=10.
    Raises ArgumentError for a step_num that is no count, and what numerical_gradient raises for f.
    Source: Deep Learning from Scratch, section 4.4.1.

    >>> gradient_descent(lambda x: x[0] ** 2 + x[1] ** 2, np.array([-3.0, 4.0]), lr=0.1, step_num=100)
    array([-6.11110793e-10,  8.14814391e-10])
    """
    if not isinstance(step_num, (int, np.integer)) or step_num < 0:
        raise ArgumentError(
            "gradient_descent: step_num", describe(step_num), "a count of steps, 0 or more", "pass step_num=100"
        )
    x = numbers("gradient_descent: init_x", plain(init_x), None, copy=False).astype(np.float64)
    for _ in range(step_num):
        x -= lr * central_differences("gradient_descent", f, x, x, 1e-4)
    return x
