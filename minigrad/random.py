"""The generator that everything random draws from, unless it is given one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from minigrad.contract import whole
from minigrad.errors import ArgumentError, describe

__all__ = ["chosen", "default_generator", "get_rng_state", "lending", "manual_seed", "repeatable", "set_rng_state"]

_default: np.random.Generator | None = None  # made when it is first wanted: NumPy loads its random part only then
_standing_in: ContextVar[_StandIn | None] = ContextVar("minigrad_standing_in", default=None)

# Makes what is handed out in place of a generator, while somebody records what is drawn.
lending: ContextVar[Callable[[np.random.Generator], Any] | None] = ContextVar("minigrad_lending", default=None)


def _lent(generator: np.random.Generator) -> np.random.Generator:
    lend = lending.get()
    lent: np.random.Generator = generator if lend is None else lend(generator)
    return lent


def default_generator() -> np.random.Generator:
    """The generator of initial weights, dropout, shuffling: the same object as long as the process lives.

    >>> isinstance(default_generator(), np.random.Generator)
    True
    """
    return _stood_in_for(_standing_in.get())


def _stood_in_for(stand_in: _StandIn | None) -> np.random.Generator:
    global _default
    if stand_in is not None:
        return stand_in.generator()
    if _default is None:
        _default = np.random.default_rng()
    return _lent(_default)


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


class _StandIn:
    """A generator in place of the default one, made at the first draw and started from state, or from where that is."""

    def __init__(self, state: Mapping[str, Any] | None, outer: _StandIn | None) -> None:
        self.state = state
        self._outer = outer
        self._own: np.random.Generator | None = None

    def generator(self) -> np.random.Generator:
        if self._own is None:
            if self.state is None:
                self.state = _stood_in_for(self._outer).bit_generator.state
            self._own = np.random.Generator(np.random.PCG64(0))
            self._own.bit_generator.state = self.state
        return self._own

    def hand_back(self) -> None:
        """Leave the generator that this one stood in for where this one has come to."""
        if self._own is not None:
            outer = _stood_in_for(self._outer).bit_generator
            if outer.state == self.state:  # else another thread has drawn meanwhile
                outer.state = self._own.bit_generator.state


@contextmanager
def repeatable(state: Mapping[str, Any] | None = None) -> Iterator[_StandIn]:
    """Within, draws from the default generator can be repeated: the value's `.state` is where they began, or None.

    state: such a state; the draws of that time are then repeated, and the generator stays where it is.
    Holds for the current thread or asyncio task alone, whatever others draw.

    >>> with repeatable() as draws:
    ...     first = default_generator().random()
    >>> with repeatable(draws.state):
    ...     default_generator().random() == first
    True
    """
    stand_in = _StandIn(state, _standing_in.get())
    before = _standing_in.set(stand_in)
    try:
        yield stand_in
    finally:
        _standing_in.reset(before)
        if state is None:
            stand_in.hand_back()


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
    return _lent(generator)
