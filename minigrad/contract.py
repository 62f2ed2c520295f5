"""What an op declares about its arguments, and the words for an argument that breaks it."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minigrad.errors import ArgumentError, DTypeError, LabelError, ShapeError, describe
from minigrad.standin import Standin

__all__ = [
    "AWAY_FROM_ZERO",
    "CONDITION",
    "POSITIVE",
    "REAL",
    "UNIT",
    "Case",
    "Domain",
    "broadcast_clash",
    "check_labels",
    "contract_clash",
    "is_real",
    "is_whole",
    "native",
    "numbers",
    "objects_pass",
    "whole",
    "write",
]

Array = NDArray[Any]

# Whether arrays of objects pass for numbers: while a check computes with more digits than a float has.
objects_pass: ContextVar[bool] = ContextVar("minigrad_objects_pass", default=False)


@dataclass(frozen=True)
class Domain:
    """Where an argument may be drawn from: low <= x <= high, at least `gap` away from every point in `away`.

    dtype: "float64", or "bool" for an argument that is true or false.
    """

    low: float
    high: float
    away: tuple[float, ...] = ()
    gap: float = 0.0
    dtype: str = "float64"


REAL = Domain(-4.0, 4.0)
POSITIVE = Domain(0.25, 4.0)
AWAY_FROM_ZERO = Domain(-4.0, 4.0, away=(0.0,), gap=0.25)
UNIT = Domain(-0.9, 0.9)
CONDITION = Domain(0, 1, dtype="bool")


class Case:
    """A sample call: arrays of these shapes, and the keyword arguments of the public function."""

    def __init__(self, *shapes: tuple[int, ...], **kwargs: Any) -> None:
        self.shapes, self.kwargs = shapes, kwargs

    def __repr__(self) -> str:
        return f"Case({', '.join(map(repr, self.shapes))}, {self.kwargs})"


def numbers(function: str, data: Any, dtype: DTypeLike | None, *, copy: bool) -> Array:
    """data as an array of real numbers; DTypeError for objects, strings, complex numbers, ragged lists."""
    if dtype is not None and not _is_real(dtype):
        raise DTypeError(f"{function}: dtype", f"dtype={dtype!r}", "a dtype of real numbers", 'write dtype="float32"')
    if isinstance(data, Standin):
        stood: Array = data.copy() if copy and dtype is None else data.astype(dtype or data.dtype, copy=copy)
        return stood
    try:
        array = np.array(data, dtype=dtype) if copy else np.asarray(data, dtype=dtype)
        if array.dtype.kind == "O" and objects_pass.get():
            return array
    except DTypeError:
        raise
    except (ValueError, TypeError, OverflowError):
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiub":
        raise DTypeError(
            function,
            f"data is {describe(data)}{_first_bad(data, dtype)}",
            "real numbers: floats, integers or booleans in a regular shape",
            "convert them first, for example np.array(data, dtype=float)",
        )
    return native(array)


def whole(where: str, value: Any, least: int = 1, fix: str = "") -> int:
    """value as an int; ArgumentError for what is no whole number of at least `least`: True and 2.0 are none.

    where: function and argument, "Linear: out_features". fix: one that gives the argument a value, if none is given.
    """
    if not is_whole(value, least):
        got = describe(value.item() if isinstance(value, np.generic) else value)
        example = f"write {where.split(': ')[-1]}={max(least, 1)}, for example"
        raise ArgumentError(where, got, f"a whole number, {least} or more", fix or example)
    return int(value)


def is_real(value: Any) -> bool:
    """Whether value is a number that is real, Python's or NumPy's: True is none, an array neither."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def is_whole(value: Any, least: int) -> bool:
    """Whether value is an integer, Python's or NumPy's, of at least `least`."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)


def check_labels(
    where: str, labels: Array, classes: int, ignore_index: int | None = None, fix: str = "count classes from 0"
) -> None:
    """That labels are class numbers from 0 to classes - 1, or ignore_index; where: function and argument.

    Raises DTypeError for what are no integers, LabelError that lists the first bad positions.
    """
    if isinstance(labels, Standin):
        labels.whole(_check_labels, (where, labels, classes, ignore_index, fix), ())
    else:
        _check_labels(where, labels, classes, ignore_index, fix)


def _check_labels(where: str, labels: Array, classes: int, ignore_index: int | None, fix: str) -> None:
    if labels.dtype.kind not in "iu":
        raise DTypeError(where, f"class numbers of dtype {labels.dtype}", "integers", "write labels.astype(int)")
    # Read as unsigned, a negative number is a large one: one pass in place of two.
    if np.maximum.reduce(labels.astype(np.uint64), axis=None, initial=0) < classes:
        return
    bad = (labels < 0) | (labels >= classes)
    if ignore_index is not None:
        bad &= labels != ignore_index
    if bad.any():
        at = np.argwhere(bad)
        name = where.split(": ")[-1]
        shown = ", ".join(f"{name}{i.tolist() if i.size else ''} = {labels[tuple(i)]}" for i in at[:3])
        raise LabelError(
            where,
            f"{shown}{f' and {len(at) - 3} more' if len(at) > 3 else ''} for {classes} classes",
            f"class numbers from 0 to {classes - 1}",
            fix,
        )


def native(array: Array) -> Array:
    """array in this machine's byte order, which the kernels that work on bits rely on."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _is_real(dtype: Any) -> bool:
    try:
        return np.dtype(dtype).kind in "fiub"
    except TypeError:
        return False


def _first_bad(data: Any, dtype: Any) -> str:
    """The first entry of data that is no real number, in the words of an error message."""
    try:
        entries = np.ndenumerate(np.array(data, dtype=object))
    except ValueError:
        return ", with rows of different lengths"
    for index, entry in entries:
        if isinstance(entry, (list, tuple)):
            return ", with rows of different lengths"
        if np.asarray(entry).dtype.kind not in "fiub":
            text = repr(entry)
            where = f"data{list(index)}" if index else "it"
            return "" if isinstance(data, str) else f", and {where} = {text if len(text) <= 40 else text[:37] + '...'}"
    return f", and dtype={dtype!r}"


def write(array: Array, index: Any, value: Any) -> None:
    """array[index] = value, with errors that say what does not fit."""
    value = numbers("x[index] = value", value, None, copy=False)  # before any of it is written
    try:
        array[index] = value
    except (IndexError, ValueError, TypeError) as error:
        kind = {IndexError: LabelError, TypeError: DTypeError}.get(type(error), ShapeError)
        raise kind(
            "x[index] = value",
            f"x is {describe(array)}, index is {index!r}, value is {describe(value)}",
            f"an index within {array.shape} and a value that broadcasts to what it selects",
            f"look at x[index].shape first; NumPy's reason: {error}",
        ) from None


def broadcast_clash(names: list[str], shapes: list[tuple[int, ...]]) -> str:
    """Where shapes do not broadcast, in words; empty where they do."""
    for axis in range(-1, -max(map(len, shapes), default=0) - 1, -1):
        sizes = {name: shape[axis] for name, shape in zip(names, shapes, strict=True) if len(shape) >= -axis}
        if len({n for n in sizes.values() if n != 1}) > 1:
            return f"axis {axis} is " + " and ".join(f"{n} in {name}" for name, n in sizes.items() if n != 1)
    return ""


def contract_clash(signature: str, names: list[str], shapes: list[tuple[int, ...]]) -> str:
    """Where shapes break a gufunc signature, in words; empty where they do not."""
    known: dict[str, tuple[int, str]] = {}
    inputs = re.findall(r"\(([^)]*)\)", signature.split("->")[0])
    for name, core, shape in zip(names, inputs, shapes, strict=False):
        dims = [d.rstrip("?") for d in core.split(",") if d]
        optional = core.count("?")
        if len(shape) < len(dims) - optional:
            return f"{name} has {len(shape)} axes and wants {len(dims) - optional} at least"
        if len(shape) < len(dims):
            dims = [d for d in core.split(",") if not d.endswith("?")]
        for dim, n in zip(reversed(dims), reversed(shape), strict=False):
            if dim in known and known[dim][0] != n:
                return f"{dim} is {known[dim][0]} in {known[dim][1]} and {n} in {name}"
            known.setdefault(dim, (n, name))
    batches = [s[: len(s) - len([d for d in c.split(",") if d])] for c, s in zip(inputs, shapes, strict=False)]
    clash = broadcast_clash(names, batches)
    return f"in front of the core axes, {clash}" if clash else ""
