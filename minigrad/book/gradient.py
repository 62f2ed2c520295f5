"""Numerical differentiation and gradient descent of the book's chapter 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.book.base import without_graphs
from minigrad.contract import numbers, whole
from minigrad.tensor import Tensor, plain
from minigrad.testing import numerical

__all__ = [
    "gradient_descent",
    "np",
    "numerical_diff",
    "numerical_gradient",
    "numerical_gradient_2d",
]  # np: as in the book


def numerical_diff(f: Callable[[Any], Any], x: float | Tensor, h: float = 1e-4) -> float:
    """df/dx = (f(x + h) - f(x - h)) / (2 * h), the central difference at the number x, with the book's step.

    minigrad.testing.numerical_diff finds its step by itself, and is more accurate. Raises what that one raises.
    Source: Deep Learning from Scratch, section 4.3.1.

    >>> numerical_diff(lambda x: 0.01 * x**2 + 0.1 * x, 5)
    0.1999999999990898
    """
    result: float = numerical.numerical_diff(f, x, h, method="central")
    return result


def numerical_gradient(f: Callable[[Any], Any], x: ArrayLike | Tensor, h: float = 1e-4) -> NDArray[Any]:
    """gradient[i] = (f(x with x[i] + h) - f(x with x[i] - h)) / (2 * h), for each entry of x, with the book's step.

    x is changed in place and put back, as minigrad.testing.numerical_gradient does. Raises what that one raises.
    Source: Deep Learning from Scratch, section 4.4.

    >>> numerical_gradient(lambda x: x[0] ** 2 + x[1] ** 2, np.array([3.0, 4.0]))
    array([6., 8.])
    """
    with without_graphs():
        result: NDArray[Any] = numerical.numerical_gradient(f, x, h, method="central")
    return result


def numerical_gradient_2d(f: Callable[[Any], Any], X: ArrayLike | Tensor) -> NDArray[Any]:
    """gradient[i] = numerical_gradient(f, X[i]) for each row of X; of X itself where it has one axis.

    Raises what numerical_gradient raises. Source: Deep Learning from Scratch, common/gradient.py.

    >>> numerical_gradient_2d(lambda x: x[0] ** 2 + x[1] ** 2, np.array([[3.0, 4.0], [0.0, 1.0]])).round(6)
    array([[6., 8.],
           [0., 2.]])
    """
    array = numbers("numerical_gradient_2d: X", plain(X), None, copy=False)
    if array.ndim < 2 or not len(array):
        return numerical_gradient(f, X)
    return np.stack([numerical_gradient(f, x) for x in array])


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
    step_num = whole("gradient_descent: step_num", step_num, 0, "pass step_num=100")
    x = numbers("gradient_descent: init_x", plain(init_x), None, copy=False).astype(np.float64)
    for _ in range(step_num):
        x -= lr * numerical.central_differences("gradient_descent", f, x, x, 1e-4)
    return x
