"""Randomness held still: what f draws during a check is the same in every call, and nobody notices afterwards."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np

from minigrad.random import default_generator, manual_seed
from minigrad.tensor import Tensor

__all__ = ["Frozen", "frozen_rng"]

_MOST_OBJECTS = 2000


class Frozen:
    """The random states that a function can draw from, saved, to be put back for every call and in the end.

    Those are NumPy's, Python's and minigrad's global ones, PyTorch's where it has been imported, and every generator
    that can be reached from `roots`: from a function's closure, defaults and globals that it names, and from
    attributes, lists and dicts of objects.

    >>> rng = np.random.default_rng(0)
    >>> frozen = Frozen([lambda: rng.normal()])
    >>> first = rng.normal()
    >>> frozen.reset()
    >>> rng.normal() == first
    True
    """

    def __init__(self, roots: list[Any], seed: int | None = None) -> None:
        self._states: list[tuple[Callable[[], Any], Callable[[Any], Any], Any]] = []
        self._save(_numpy_state, np.random.set_state)
        self._save(random.getstate, random.setstate)
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "get_rng_state"):
            self._save(torch.get_rng_state, torch.set_rng_state)
        for generator in _generators([*roots, default_generator()]):
            if isinstance(generator, random.Random):
                self._save(generator.getstate, generator.setstate)
            elif isinstance(generator, np.random.RandomState):
                self._save(functools.partial(generator.get_state, legacy=False), generator.set_state)
            else:
                bits = generator if isinstance(generator, np.random.BitGenerator) else generator.bit_generator
                self._save(functools.partial(getattr, bits, "state"), functools.partial(setattr, bits, "state"))
        self._before = list(self._states)
        if seed is not None:
            np.random.seed(seed)  # noqa: NPY002  # the global state is what f may draw from
            random.seed(seed)
            manual_seed(seed)
            if torch is not None:
                torch.manual_seed(seed)
            self._states = [(get, put, get()) for get, put, _ in self._states]

    def _save(self, get: Callable[[], Any], put: Callable[[Any], Any]) -> None:
        self._states.append((get, put, get()))

    def reset(self) -> None:
        """Every state as it was when this was made, after the seed was set."""
        for _, put, state in self._states:
            put(state)

    def used(self) -> bool:
        """Whether anything has been drawn since then."""
        return any(repr(get()) != repr(state) for get, _, state in self._states)

    def restore(self) -> None:
        """Every state as it was before the seed was set."""
        for _, put, state in self._before:
            put(state)

    def __enter__(self) -> Frozen:
        return self

    def __exit__(self, *exc: object) -> None:
        self.restore()


@contextmanager
def frozen_rng(seed: int = 0, *roots: Any) -> Iterator[Frozen]:
    """Within: the global random numbers start from seed; afterwards they go on as before.

    Those of NumPy, Python, minigrad and PyTorch.

    roots: functions and objects whose own generators are put back too. Call `.reset()` on what it yields to draw
    the same numbers once more.

    >>> with frozen_rng(0):
    ...     first = np.random.rand()
    >>> with frozen_rng(0) as frozen:
    ...     again = np.random.rand()
    ...     frozen.reset()
    ...     first == again == np.random.rand()
    True
    """
    with Frozen(list(roots), seed) as frozen:
        yield frozen


def _numpy_state() -> Any:
    return np.random.get_state(legacy=False)  # noqa: NPY002  # the global state is what f may draw from


def _generators(roots: list[Any]) -> Iterator[Any]:
    """The random generators that can be reached from roots."""
    queue, seen = list(roots), {id(root) for root in roots}
    for thing in queue:  # grows while it is read
        if isinstance(thing, (np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random)):
            yield thing
            continue
        for part in _parts(thing):
            if id(part) not in seen and len(queue) < _MOST_OBJECTS:
                seen.add(id(part))
                queue.append(part)


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
        names = [thing.__globals__[name] for name in thing.__code__.co_names if name in thing.__globals__]
        named = [value for value in names if not isinstance(value, (ModuleType, type))]
        wrapped = [thing.__wrapped__] if hasattr(thing, "__wrapped__") else []
        return [*cells, *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values(), *named, *wrapped]
    if isinstance(thing, dict):
        return list(thing.values())
    if isinstance(thing, (list, tuple, set)):
        return list(thing)
    if isinstance(thing, (np.ndarray, Tensor, ModuleType, type, str, bytes, int, float)):
        return []
    own = getattr(thing, "__dict__", None)
    members = [name for cls in type(thing).__mro__ for name in _slots(cls) if hasattr(thing, name)]
    return [*(getattr(thing, name) for name in members), *(own.values() if isinstance(own, dict) else ())]


def _slots(cls: type) -> list[str]:
    """The attributes that a class keeps in slots; none of a built-in one, whose members may be anything."""
    declared = "__slots__" in vars(cls)
    return [name for name, value in vars(cls).items() if declared and isinstance(value, MemberDescriptorType)]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # reading it is the question: an empty cell raises
    except ValueError:
        return False
    return True
