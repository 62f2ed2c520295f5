"""The generator that everything random draws from, unless it is given one of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minigrad.contract import whole
from minigrad.errors import ArgumentError, describe

__all__ = ["chosen", "default_generator", "get_rng_state", "manual_seed", "set_rng_state"]

_default: np.random.Generator | None = None  # made when it is first wanted: NumPy loads its random part only then


def default_generator() -> np.random.Generator:
    """The generator of initial weights, dropout, shuffling: the same object as long as the process lives.

    >>> isinstance(default_generator(), np.random.Generator)
    True
    """
    global _default
    if _default is None:
        _default = np.random.default_rng()
    return _default


def manual_seed(seed: int) -> np.random.Generator:
    """Sets the default generator to the start of the sequence that belongs to seed, and returns it.

    seed: a whole number, 0 or more. Raises ArgumentError for anything else.

    >>> manual_seed(0).integers(10, size=3)
    array([8, 6, 5])
    """
    seed = whole("manual_seed: seed", seed, 0, "pass 0, for example")
    generator = default_generator()
    generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return generator


def get_rng_state() -> dict[str, Any]:
    """Where the default generator stands, as a dict of strings and numbers that can be saved.

    >>> state = get_rng_state()
    >>> first = default_generator().random()
    >>> set_rng_state(state)
    >>> default_generator().random() == first
    True
    """
    return dict(default_generator().bit_generator.state)


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Puts the default generator where it stood at get_rng_state(). Raises ArgumentError for any other state.

    >>> set_rng_state(get_rng_state())
    """
    put_state(default_generator(), state, "set_rng_state: state")


def put_state(generator: np.random.Generator, state: Mapping[str, Any], where: str) -> None:
    """Puts a generator where state says; ArgumentError, and the generator as it was, for a state that is not its."""
    before = generator.bit_generator.state
    try:
        generator.bit_generator.state = dict(state)
        _within(generator.bit_generator.state)
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        generator.bit_generator.state = before
        raise ArgumentError(
            where,
            f"{describe(state)}, which NumPy refuses ({error})",
            f"the state of a {type(generator.bit_generator).__name__}",
            "pass what get_rng_state() returned",
        ) from None


def _within(state: Mapping[str, Any]) -> None:
    """ValueError for a position outside the generator's buffer, which NumPy would take and read there."""
    for key, place, most in (("pos", state.get("state"), 624), ("buffer_pos", state, 4)):
        if isinstance(place, Mapping) and key in place and not 0 <= place[key] <= most:
            raise ValueError(f"{key} is {place[key]}, and its buffer has {most}")


def chosen(generator: Any, where: str) -> np.random.Generator:
    """generator, or the default one for None. Raises ArgumentError for what is no generator.

    >>> chosen(None, "here") is default_generator()
    True
    """
    if generator is None:
        return default_generator()
    if not isinstance(generator, np.random.Generator):
        raise ArgumentError(
            f"{where}: generator",
            describe(generator),
            "a numpy.random.Generator, or None for the default one",
            "pass np.random.default_rng(0), for example",
        )
    return generator
