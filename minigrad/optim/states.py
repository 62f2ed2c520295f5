"""Saved states of optimisers, checked before any of one is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import ArgumentError, ShapeError, describe

__all__ = ["saved_array", "saved_parts"]

Array = NDArray[Any]


def saved_parts(where: str, state_dict: Any, here: list[int]) -> tuple[list[Any], dict[int, Any]]:
    """The groups, and by each parameter's place its state; ArgumentError for what is no state of such groups.

    here: how many parameters each group of the optimiser has.
    """
    fix = "pass what state_dict() returned"
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
        raise ArgumentError(where, describe(state_dict), 'a dict with "state" and "param_groups"', fix)
    groups, states = state_dict["param_groups"], state_dict["state"]
    if not isinstance(groups, (list, tuple)) or not all(_is_group(group) for group in groups):
        raise ArgumentError(where, describe(groups), 'a list of dicts, each with a list "params"', fix)
    saved = [len(group["params"]) for group in groups]
    if saved != here:
        raise ArgumentError(
            where,
            f"groups of {_words(saved)} parameters",
            f"groups of {_words(here)} parameters, as in this optimiser",
            "make the optimiser with the groups it was saved with",
        )
    numbers = [number for group in groups for number in group["params"]]
    place = {str(number): i for i, number in enumerate(numbers)}
    if not isinstance(states, Mapping) or len(place) != len(numbers):
        raise ArgumentError(where, describe(states), "a dict by each parameter's number", fix)
    for number, state in states.items():
        if str(number) not in place or not isinstance(state, Mapping):
            raise ArgumentError(
                f"{where}: state",
                f"{describe(state)} for parameter {number!r}",
                f"dicts for the parameters {', '.join(place) if len(place) < 8 else f'0 to {len(place) - 1}'}",
                fix,
            )
    return list(groups), {place[str(number)]: state for number, state in states.items()}


def saved_array(where: str, name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A copy of a saved array in dtype; ShapeError for another shape or for what holds no floats."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.shape != shape:
        raise ShapeError(
            f"{where}: {name}",
            describe(value),
            f"floats of shape {shape}, as the parameter has it",
            "load the state of a model of the same shapes",
        )
    return np.array(value, dtype, order="C")


def _is_group(group: Any) -> bool:
    return isinstance(group, Mapping) and isinstance(group.get("params"), (list, tuple))


def _words(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "no"
