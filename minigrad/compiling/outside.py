"""What a function finds outside by name: a program holds for as long as these are what they were."""

from __future__ import annotations

import builtins
import dis
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Outside"]

_SIMPLE = (bool, int, float, complex, str, bytes, type(None))
_MOST = 200  # names, among those of functions that functions call
_MISSING = object()


class Outside:
    """The global names and free variables of a function, and of the functions of the user's that it finds there.

    names: as the function has them, in the order in which they were found. Attributes of objects, and what is in lists
    and dicts, are not looked at.
    """

    def __init__(self, function: Any) -> None:
        self.names: list[str] = []
        self._places: list[tuple[Any, str]] = []  # cells of closures, and tables of globals with a name
        self._known: set[tuple[int, str]] = set()
        self._ids: tuple[int, ...] = ()
        self._state: tuple[Any, ...] = ()
        self._values: list[Any] = []
        self._held: dict[int, Any] = {}
        self._function = function
        self.look_again()

    def look_again(self) -> None:
        """Add names that have come up: a function that is called may have been defined in the meantime."""
        seen: set[Any] = set()
        todo = [self._function]
        for f in todo:  # grows while it is read
            f = getattr(f, "__wrapped__", f)
            f = getattr(f, "__func__", f)
            if not isinstance(f, types.FunctionType):
                f = inspect.getattr_static(type(f), "__call__", None)
            if not isinstance(f, types.FunctionType) or f in seen or _is_a_packages(f):
                continue
            seen.add(f)
            table = f.__globals__
            places: list[tuple[Any, str]] = list(zip(f.__closure__ or (), f.__code__.co_freevars, strict=True))
            names = dict.fromkeys(_globals(f.__code__))
            places += [(table, name) for name in names if name in table or not hasattr(builtins, name)]
            for holder, name in places:
                if (id(holder), name) not in self._known and len(self.names) < _MOST:
                    self._known.add((id(holder), name))
                    self._places.append((holder, name))
                    self.names.append(name)
                todo.append(_content(holder, name))

    def state(self) -> tuple[Any, ...]:
        """What stands there now: numbers and texts by their value, other objects by which one they are."""
        values = [_content(holder, name) for holder, name in self._places]
        ids = tuple(map(id, values))
        if ids != self._ids:
            self._state = tuple((type(v), v, str(v)) if type(v) in _SIMPLE else id(v) for v in values)
            self._ids, self._values = ids, values
        return self._state

    def hold(self) -> tuple[Any, ...]:
        """The state, of which everything is kept alive: a program goes by which object it is."""
        state = self.state()
        self._held.update(zip(self._ids, self._values, strict=True))
        return state

    def differing(self, before: tuple[Any, ...]) -> list[str]:
        """The names of what is something else now than it was then."""
        return [name for name, old, new in zip(self.names, before, self.state(), strict=False) if old != new]


def _content(holder: Any, name: str) -> Any:
    if type(holder) is dict:
        return holder.get(name, _MISSING)
    try:
        return holder.cell_contents
    except ValueError:  # a variable that has not been given a value yet
        return _MISSING


def _globals(code: types.CodeType) -> Iterator[str]:
    """The names that code, and the code within it, looks up as global ones."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals(constant)


def _is_a_packages(f: Callable[..., Any]) -> bool:
    return (getattr(f, "__module__", None) or "").partition(".")[0] in ("minigrad", "numpy")
