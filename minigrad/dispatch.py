"""The tables through which operators, methods and NumPy's functions find their op, and NumPy's two protocols.

The op classes fill the tables as they are defined, so that nothing below them has to import them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.errors import DTypeError

__all__ = ["ANSWERS", "OPERATORS", "TABLE", "answer_function", "answer_ufunc"]

# name of an op -> its public function; NumPy function or ufunc -> the function that answers to it
TABLE: dict[str, Callable[..., Any]] = {}
ANSWERS: dict[Callable[..., Any], Callable[..., Any]] = {}

# name of an op -> the operator of Python that it is
OPERATORS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "truediv",
    "power": "pow",
    "matmul": "matmul",
    "negative": "neg",
    "absolute": "abs",
}


def answer_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What np.exp(t), or ndarray * t, gives: the op's result. DTypeError where there is no rule."""
    answer = ANSWERS.get(ufunc)
    if answer is None or method != "__call__":
        raise _no_rule(ufunc, "" if method == "__call__" else f".{method}")
    if kwargs:
        raise _no_keyword(f"numpy.{ufunc.__name__}", kwargs)
    return answer(*inputs)


def answer_function(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What np.sum(t, axis=0) gives: the op's result. DTypeError where there is no rule, or none for an argument."""
    answer = ANSWERS.get(func)
    if answer is None:
        raise _no_rule(func)
    code = getattr(answer, "__code__", None)
    if code is not None and not code.co_flags & 0x08:  # takes no **kwargs
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        unknown = {key: value for key, value in kwargs.items() if key not in names}
        if unknown:
            raise _no_keyword(_numpy_name(func), unknown)
        places, defaults = names[: code.co_argcount], len(answer.__defaults__ or ())
        missing = [x for x in places[len(args) : len(places) - defaults] if x not in kwargs]
        if missing or (len(args) > len(places) and not code.co_flags & 0x04):
            raise DTypeError(
                _numpy_name(func),
                f"{len(args)} arguments by place" + (f" and no {missing[0]}" if missing else ""),
                f"the arguments that the rule knows: {', '.join(names)}",
                f"pass {missing[0]} too" if missing else f"leave out what comes after {places[-1]}, or name it",
            )
    return answer(*args, **kwargs)


def _numpy_name(f: Callable[..., Any]) -> str:
    return f"{getattr(f, '__module__', None) or 'numpy'}.{f.__name__}"


def _no_rule(f: Callable[..., Any], method: str = "") -> DTypeError:
    from difflib import get_close_matches

    known = {g.__name__: g for g in ANSWERS}
    nearest = get_close_matches(f.__name__ + method, sorted(known), 1, 0.6)
    return DTypeError(
        _numpy_name(f) + method,
        "a Tensor",
        "a function that has a rule here, since anything else would drop the graph",
        f"the nearest one is {_numpy_name(known[nearest[0]])}; for the values alone use t.numpy()"
        if nearest
        else "use t.numpy() for the values alone",
    )


def _no_keyword(function: str, kwargs: dict[str, Any]) -> DTypeError:
    key = next(iter(kwargs))
    return DTypeError(
        function,
        f"{key}= for a Tensor",
        "arguments that the rule knows",
        f"use the result, t = {function}(...), and t = t + x in place of t += x"
        if key == "out"
        else f"leave {key}= out",
    )
