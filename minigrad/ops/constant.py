"""NumPy functions without a derivative: they take Tensors and give plain arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from minigrad.dispatch import ANSWERS, TABLE
from minigrad.errors import ArgumentError, DTypeError, LabelError, describe
from minigrad.tensor import plain

__all__ = ["argmax", "argmin", "argsort", "ceil", "floor", "rint", "sign", "trunc"]


def _constant(f: Callable[..., Any], example: str = "") -> Callable[..., Any]:
    """f on the values of its arguments; the result is an array, outside any graph. example: for its docstring."""

    def function(*args: Any, **kwargs: Any) -> Any:
        values = [plain(a) for a in args]
        try:
            return f(*values, **{key: plain(value) for key, value in kwargs.items()})
        except (ValueError, TypeError, IndexError) as error:
            kind = (
                DTypeError
                if isinstance(error, TypeError)
                else LabelError
                if isinstance(error, IndexError)
                else ArgumentError
            )
            given = [describe(value) for value in values] + [f"{key}={describe(v)}" for key, v in kwargs.items()]
            raise kind(
                f.__name__,
                f"{', '.join(given)}, which NumPy refuses ({error})",
                f"arguments as for numpy.{f.__name__}",
                f"compare with help(numpy.{f.__name__}), and look at the shapes first",
            ) from None

    if isinstance(f, np.ufunc):
        function.__name__ = f.__name__
    else:
        function = wraps(f)(function)
        function.__module__ = __name__
    result = "array" if isinstance(f, np.ufunc) else "result"
    function.__doc__ = f"numpy.{f.__name__} of the values: a plain {result}. It has no derivative.\n\n{example}"
    ANSWERS[f] = TABLE[function.__name__] = function
    CONSTANT.append(f)
    return function


CONSTANT: list[Callable[..., Any]] = []

sign = _constant(np.sign, ">>> sign([-2.0, 0.0, 3.0])\narray([-1.,  0.,  1.])")
floor = _constant(np.floor, ">>> floor([-1.5, 1.5])\narray([-2.,  1.])")
ceil = _constant(np.ceil, ">>> ceil([-1.5, 1.5])\narray([-1.,  2.])")
rint = _constant(np.rint, ">>> rint([0.5, 1.5, 1.7])\narray([0., 2., 2.])")
trunc = _constant(np.trunc, ">>> trunc([-1.5, 1.5])\narray([-1.,  1.])")
argmax = _constant(np.argmax, ">>> argmax([[0.1, 0.7], [0.8, 0.2]], axis=1)\narray([1, 0])")
argmin = _constant(np.argmin, ">>> argmin([0.3, 0.1, 0.6]).item()\n1")
argsort = _constant(np.argsort, ">>> argsort([0.3, 0.1, 0.6])\narray([1, 0, 2])")

for _f in (
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.logical_and, np.logical_or, np.logical_not, np.logical_xor,
    np.isfinite, np.isinf, np.isnan, np.signbit, np.spacing,
    np.round, np.searchsorted, np.nonzero, np.flatnonzero, np.argwhere, np.count_nonzero, np.unique,
    np.all, np.any, np.allclose, np.array_equal, np.isclose,
    np.shape, np.ndim, np.size, np.zeros_like, np.ones_like, np.empty_like, np.full_like,
    np.result_type, np.can_cast, np.shares_memory, np.may_share_memory, np.array2string, np.array_repr, np.array_str,
):  # fmt: skip
    _constant(_f)
