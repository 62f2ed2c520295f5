"""What a name, an attribute, a list or a dict holds: reading it, comparing it with what was there, putting that back.

A place is (kind, container, key, before), by kind: "cell" and "variable", a cell of a closure; "global" and "name", an
entry of a dict; "class", an attribute of a class; "list", "set" and others, everything in a container; "dict", with
its order; "proxy", a dict that is only looked at; "named", a dict of attributes, and "attributes", those of an object,
without the names in key; "slots", by the descriptors in key; "code", what a function consists of.
"""

from __future__ import annotations

import operator
import random
from typing import Any

import numpy as np

from minigrad.compiling.optimisers import Stale

__all__ = ["MANY", "MISSING", "SCALARS", "Lines", "alike", "content", "put_back", "put_state", "same_state", "state_of"]

SCALARS = (int, float, complex, str, bytes, bool, type(None))
MISSING = object()
MANY = 256  # entries of a list or dict that are compared one by one, numbers by their values

_SINGLE = ("cell", "variable", "global", "name", "class")  # places of one object
Place = tuple[str, Any, Any, Any]


def content(place: Place) -> Any:
    """What is there now."""
    kind, container, key, _ = place
    if kind in ("cell", "variable"):
        try:
            return container.cell_contents
        except ValueError:
            return MISSING
    if kind in ("global", "name"):
        return container.get(key, MISSING)
    if kind == "class":
        return vars(container).get(key, MISSING)
    if kind in ("dict", "named", "proxy"):
        return dict(container)
    if kind == "attributes":
        return {k: x for k, x in vars(container).items() if k not in key}
    if kind == "slots":
        return {name: _slot(slot, container) for name, slot in key.items()}
    if kind == "code":
        return [container.__code__, container.__defaults__, container.__kwdefaults__]
    return list(container)


def _slot(slot: Any, x: Any) -> Any:
    try:
        return slot.__get__(x)
    except AttributeError:
        return MISSING


def alike(place: Place, now: Any) -> bool:
    """Whether what is in a place now is what was there before."""
    kind, *_, before = place
    if kind in _SINGLE:
        return _equal(now, before)
    if isinstance(before, dict):
        return [*now] == [*before] and all(map(_equal, now.values(), before.values()))
    return len(now) == len(before) and all(map(_equal, now, before))


def _equal(x: Any, y: Any) -> bool:
    return x is y or (isinstance(x, SCALARS) and type(x) is type(y) and x == y)


def put_back(place: Place) -> None:
    """Leave there what was there before."""
    kind, container, key, before = place
    if kind in ("cell", "variable"):
        if before is MISSING:
            del container.cell_contents
        else:
            container.cell_contents = before
    elif kind in ("global", "name"):
        if before is MISSING:
            container.pop(key, None)
        else:
            container[key] = before
    elif kind == "class":
        if before is MISSING:
            type.__delattr__(container, key)
        else:
            type.__setattr__(container, key, before)
    elif kind in ("dict", "named", "attributes"):
        held: Any = vars(container) if kind == "attributes" else container
        others = {k: held[k] for k in (key or ()) if k in held}
        if [k for k in held if k not in others] != [*before]:
            held.clear()
        held.update({**before, **others})
    elif kind == "slots":
        for name, slot in key.items():
            if before[name] is not MISSING:
                slot.__set__(container, before[name])
            elif _slot(slot, container) is not MISSING:
                slot.__delete__(container)
    elif kind == "code":
        container.__code__, container.__defaults__, container.__kwdefaults__ = before
    elif kind in ("list", "bytearray"):
        container[:] = before
    elif kind != "proxy":
        container.clear()
        (container.update if kind == "set" else container.extend)(before)


class Lines:
    """The lines of a function that raises Stale where something is not as it was; bound: the names in it."""

    def __init__(self) -> None:
        self.bound: dict[str, Any] = {"Stale": Stale, "missing": MISSING, "same": operator.is_, "slot": _slot}
        self.lines: list[str] = []

    def name(self, x: Any) -> str:
        """A name for an object."""
        name = f"k{len(self.bound)}"
        self.bound[name] = x
        return name

    def stale_if(self, text: str) -> None:
        """Stale where this is true."""
        self.lines.append(f"    if {text}: raise Stale")

    def expect(self, read: str, before: Any) -> None:
        """Stale where something else is read; numbers and texts count by their value."""
        k = self.name(before)
        if not isinstance(before, SCALARS) or before is None:
            self.stale_if(f"{read} is not {k}")
            return
        self.lines.append(f"    x = {read}")
        # 0.0 is not -0.0
        zero = f" or str(x) != {str(before)!r}" if isinstance(before, (float, complex)) else ""
        self.stale_if(f"x is not {k} and (type(x) is not {self.name(type(before))} or x != {k}{zero})")

    def expect_all(self, values: str, before: list[Any]) -> None:
        """Stale where one of as many values is another."""
        if len(before) > MANY:
            self.stale_if(f"not all(map(same, {values}, {self.name(before)}))")
        elif before:
            self.lines.append(f"    {''.join(f'x{i}, ' for i in range(len(before)))}= {values}")
            for i, x in enumerate(before):
                self.expect(f"x{i}", x)

    def add(self, place: Place, names: set[str] | None) -> None:
        """What is to be checked for a place; names: the attributes that matter, None for all."""
        kind, container, key, before = place
        if kind == "variable":
            if before is not MISSING:
                self.expect(f"{self.name(container)}.cell_contents", before)
        elif kind in ("name", "class"):
            self.expect(f"{self.name(vars(container) if kind == 'class' else container)}.get({key!r}, missing)", before)
        elif kind == "code":
            f = self.name(container)
            self.stale_if(f"{f}.__code__ is not {self.name(before[0])}")
            for name, x in zip(("__defaults__", "__kwdefaults__"), before[1:], strict=True):
                if x is not None:
                    self.stale_if(f"{f}.{name} is not {self.name(x)}")
        elif kind == "slots":
            for name in key.keys() & (names or set()):
                self.expect(f"slot({self.name(key[name])}, {self.name(container)})", before[name])
        elif kind in ("named", "attributes") and names is not None:
            held = self.name(vars(container) if kind == "attributes" else container)
            for name in before.keys() & names:
                self.expect(f"{held}.get({name!r}, missing)", before[name])
            if before or kind == "attributes":
                self.stale_if(f"not {self.name(frozenset(names - before.keys()))}.isdisjoint({held})")
            else:
                self.stale_if(held)
        elif kind in ("dict", "proxy", "attributes"):
            there: Any = vars(container) if kind == "attributes" else container
            keys, values = (there.keys(), there.values()) if kind == "proxy" else (dict.keys(there), dict.values(there))
            self.stale_if(f"[*{self.name(keys)}] != {self.name([*keys])}")
            if len(before) == len(there):
                self.expect_all(self.name(values), [*before.values()])
            else:  # others are seen to elsewhere
                for name, x in before.items():
                    self.expect(f"{self.name(there)}.get({name!r}, missing)", x)
        elif kind not in ("cell", "global"):
            held = self.name(container)
            self.stale_if(f"len({held}) != {len(before)}")
            if kind == "bytearray":
                self.stale_if(f"{held} != {self.name(bytes(before))}")
            else:
                self.expect_all(held, before)


def state_of(generator: Any) -> Any:
    """The state of a generator of NumPy's or Python's."""
    if isinstance(generator, random.Random):
        return None if isinstance(generator, random.SystemRandom) else generator.getstate()
    return generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.get_state()


def put_state(generator: Any, state: Any) -> None:
    """Put a generator into a state."""
    if isinstance(generator, random.Random):
        generator.setstate(state)  # never that of a SystemRandom, which is the same
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def same_state(x: Any, y: Any) -> bool:
    """Whether two states of a generator are the same: dicts or tuples of numbers and arrays."""
    if isinstance(x, dict):
        return isinstance(y, dict) and x.keys() == y.keys() and all(same_state(x[k], y[k]) for k in x)
    if isinstance(x, tuple):
        return isinstance(y, tuple) and len(x) == len(y) and all(map(same_state, x, y))
    return bool(np.array_equal(x, y))
