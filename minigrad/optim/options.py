"""What the options of optimisers and schedules may be, from single numbers to lists of parameters."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import GeneratorType
from typing import Any

import numpy as np

from minigrad import contract
from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.tensor import Tensor

__all__ = [
    "Option",
    "check_option",
    "choice",
    "count",
    "flag",
    "fraction",
    "listed",
    "name_of",
    "pair",
    "positive",
    "real",
    "share",
    "share_above_0",
    "whole",
]


class Option:
    """A kind of option: what is expected, in words; an example; a function that converts, or says NotImplemented.

    nearest: gives the example for a value that is refused, where it is not the same for all.
    """

    def __init__(
        self, expected: str, example: str, convert: Callable[[Any], Any], nearest: Callable[[Any], str] | None = None
    ) -> None:
        self.expected, self.example, self.convert = expected, example, convert
        self.nearest = nearest or (lambda value: example)


def _number(value: Any) -> float:
    """value as a Python float, which leaves float32 arrays float32; nan for what is no number."""
    if not contract.is_real(value):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # of an int with more than 308 digits
        return math.nan


def _within(low: float, below: float) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        number = _number(value)
        return number if low <= number < below else NotImplemented

    return convert


def _pair(value: Any) -> Any:
    numbers = tuple(map(_number, value)) if isinstance(value, (tuple, list)) else ()
    return numbers if len(numbers) == 2 and all(0 <= x < 1 for x in numbers) else NotImplemented


def _whole(least: int) -> Callable[[Any], Any]:
    return lambda value: int(value) if contract.is_whole(value, least) else NotImplemented


real = Option("a finite number, 0 or more", "0.01", _within(0, math.inf))
positive = Option("a finite number above 0", "0.1", _within(math.ulp(0), math.inf))
share = Option("a number from 0 to 1", "0.5", _within(0, math.nextafter(1, 2)))
share_above_0 = Option("a number above 0, up to 1", "0.5", _within(math.ulp(0), math.nextafter(1, 2)))
fraction = Option("a number of at least 0 and below 1", "0.9", _within(0, 1))
pair = Option("two numbers of at least 0 and below 1", "(0.9, 0.999)", _pair)
count = Option("a whole number, 1 or more", "10", _whole(1))
whole = Option("a whole number, 0 or more", "10", _whole(0))
flag = Option(
    "True or False", "True", lambda value: bool(value) if isinstance(value, (bool, np.bool_)) else NotImplemented
)


def choice(*values: Any) -> Option:
    """An option that is one of these values: the nearest to what is refused is the one to write, else the first."""
    shown = [f'"{value}"' if isinstance(value, str) else repr(value) for value in values]

    def nearest(value: Any) -> str:
        names = {value: text for value, text in zip(values, shown, strict=True) if value is not None}
        near = difflib.get_close_matches(value.lower(), names, 1, cutoff=0.4) if isinstance(value, str) else []
        return names[near[0]] if near else shown[0]

    return Option(
        " or ".join(shown),
        shown[0],
        lambda value: value if (value is None or isinstance(value, str)) and value in values else NotImplemented,
        nearest,
    )


def check_option(where: str, name: str, value: Any, kind: Option) -> Any:
    """value in the type that updates work with; ArgumentError for one that is not of this kind."""
    converted = kind.convert(value)
    if converted is NotImplemented:
        got = repr(value) if isinstance(value, (tuple, list)) and len(value) < 5 else describe(value)
        raise ArgumentError(f"{where}: {name}", got, kind.expected, f"write {name}={kind.nearest(value)}, for example")
    return converted


def name_of(p: Tensor, position: int) -> str:
    """A parameter in the words of an error message: its place, counted through all groups, and its name."""
    return f"parameter {position}" + (f" ({p.name!r})" if p.name else "")


def listed(where: str, parameters: Any) -> list[Any]:
    """The parameters, or the dicts of groups, as a list; an error for what is neither."""
    expected = "tensors, or dicts of groups, in a list or from a generator"
    if isinstance(parameters, Tensor):
        raise DTypeError(where, f"one tensor, {describe(parameters)}", expected, "write a list: [t]")
    if callable(getattr(parameters, "parameters", None)):
        raise DTypeError(where, f"a model ({type(parameters).__name__})", expected, "write model.parameters()")
    if isinstance(parameters, Mapping):
        fix = "write a list: [{'params': ...}]" if "params" in parameters else "write list(d.values())"
        raise DTypeError(where, describe(parameters), expected, fix)
    if callable(parameters):
        raise DTypeError(where, describe(parameters), expected, "call it: write model.parameters()")
    if isinstance(parameters, (set, frozenset)):
        raise DTypeError(where, describe(parameters), f"{expected}: a set has no order", "write a list")
    if isinstance(parameters, (str, bytes, np.ndarray)) or not isinstance(parameters, Iterable):
        raise DTypeError(where, describe(parameters), expected, "write model.parameters()")
    why, fix = _why_empty(parameters)
    found = list(parameters)
    if not found:
        raise ArgumentError(where, f"an empty parameter list{why}", "at least one parameter", fix)
    for i, p in enumerate(found):
        if isinstance(p, tuple) and len(p) == 2 and isinstance(p[1], Tensor):
            raise DTypeError(where, f"a pair of a name and a tensor at {i}", expected, "write model.parameters()")
        if not isinstance(p, (Tensor, Mapping)):
            raise DTypeError(where, f"{describe(p)} at {i}", expected, "pass tensors with requires_grad=True")
    return found


def _why_empty(parameters: Any) -> tuple[str, str]:
    """What to say, and to do, if these are no parameters; asked before they are counted, which uses a generator up."""
    anew = "call model.parameters() anew, or keep list(model.parameters())"
    none = "pass a model that has some: layers are its attributes, a list of layers is an nn.ModuleList"
    if isinstance(parameters, GeneratorType):
        if parameters.gi_frame is None or parameters.gi_suspended:
            return ": the generator has been used up before", anew
        return ": the generator yields nothing, its model has no parameters", none
    if isinstance(parameters, Iterator):
        return ": the iterator has been used up before, or its model has no parameters", anew
    return "", "put at least one in, as list(model.parameters()) does for a model that has some"
