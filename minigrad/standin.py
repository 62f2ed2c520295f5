"""What stands for an array, or a number, while `minigrad.compile` records.

It has a shape and a dtype and answers to NumPy's functions, but it is no ndarray, and its values are out of reach: what
a program does must not depend on them. Only this much has to be known below the recorder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

__all__ = ["Standin", "as_array", "holds", "likely", "whole"]


class Standin:
    """Stands for an array; the recorder's own class does the work."""

    __slots__ = ()

    if TYPE_CHECKING:  # whatever an array has

        def __getattr__(self, name: str) -> Any: ...

    def assumed(self, always: bool) -> bool:
        """This one truth value, which every replay checks before it goes on. always: also where it is false."""
        raise NotImplementedError

    def whole(self, function: Callable[..., Any], args: Sequence[Any], changed: Sequence[Any]) -> Any:
        """function(*args) as one step of the program, which writes into `changed`."""
        raise NotImplementedError


def as_array(x: Any) -> Any:
    """x as an array; what stands for one is left as it is.

    >>> as_array([1, 2])
    array([1, 2])
    """
    return x if isinstance(x, Standin) else np.asarray(x)


def holds(x: Any) -> bool:
    """Whether a single truth value is true; a program takes it for granted, and checks it.

    >>> holds(np.isfinite(1.0))
    True
    """
    return x.assumed(True) if isinstance(x, Standin) else bool(x)


def likely(x: Any) -> bool:
    """The same for a condition of a shorter way: a program that finds it false takes the longer, and checks nothing.

    >>> likely(np.isfinite(1.0))
    True
    """
    return x.assumed(False) if isinstance(x, Standin) else bool(x)


def whole(function: Callable[..., Any], *args: Any, changed: Sequence[Any] = ()) -> Any:
    """function(*args); for a program one step, with branches on values that it does not look into.

    changed: the arrays among args that function writes into.

    >>> whole(max, 1, 2)
    2
    """
    for x in (*args, *changed):
        for part in x if isinstance(x, (list, tuple)) else (x,):
            if isinstance(part, Standin):
                return part.whole(function, args, changed)
    return function(*args)
