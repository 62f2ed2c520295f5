"""What a function finds outside by name: a program holds for as long as these are what they were."""

from __future__ import annotations

import builtins
import dis
import inspect
import operator
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Outside", "is_installed", "is_users", "own_vars"]

_SIMPLE = (bool, int, float, complex, str, bytes, type(None))
_MISSING = object()
_PYTHONS = os.path.dirname(os.__file__) + os.sep  # the folder of the standard library


def is_users(module: Any) -> bool:
    """Whether a module, by its name, is neither Python's nor NumPy's nor of this package: by where its file lies."""
    top = str(module).partition(".")[0]
    if top in ("minigrad", "numpy"):
        return str(module).startswith("minigrad.book")
    if top not in sys.stdlib_module_names or top == "__main__":
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    return file is not None and not os.path.abspath(file).startswith(_PYTHONS)


def is_installed(module: Any) -> bool:
    """Whether a module is of an installed package: its classes and functions are taken to stay as they are."""
    file = getattr(sys.modules.get(str(module)), "__file__", None) or ""
    return f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file


def own_vars(x: Any) -> dict[str, Any] | None:
    """The attributes of x itself, found without code of the user's; None for an object that has no place for any."""
    try:
        held = object.__getattribute__(x, "__dict__")
    except AttributeError:
        return None
    return held if isinstance(held, dict) else None


class Outside:
    """The global names and free variables of a function, and of the functions of the user's that it finds there.

    names: as the function has them, in the order in which they were found. Attributes of objects, and what is in lists
    and dicts, are not looked at.
    """

    def __init__(self, function: Any) -> None:
        self.names: list[str] = []
        self._places: list[tuple[Any, str]] = []  # cells of closures, and tables of globals with a name
        self._known: set[tuple[int, str]] = set()
        self._state: tuple[Any, ...] = ()
        self._values: tuple[Any, ...] = ()
        self._held: dict[int, Any] = {}
        self._function = function
        self.look_again()

    def look_again(self) -> None:
        """Add names that have come up: a function that is called may have been defined in the meantime."""
        seen: set[Any] = set()
        todo = [self._function]
        for f in todo:  # grows while it is read
            wrapped = (own_vars(f) or {}).get("__wrapped__")
            if wrapped is not None:  # by a decorator, whose own code runs too
                todo.append(wrapped)
            if isinstance(f, (types.MethodType, staticmethod, classmethod)):
                f = f.__func__
            if not isinstance(f, types.FunctionType):
                f = inspect.getattr_static(type(f), "__call__", None)
            if not isinstance(f, types.FunctionType) or f in seen or not is_users(f.__globals__.get("__name__", "")):
                continue
            seen.add(f)
            table = f.__globals__
            places: list[tuple[Any, str]] = list(zip(f.__closure__ or (), f.__code__.co_freevars, strict=True))
            names = dict.fromkeys(_globals(f.__code__))
            places += [(table, name) for name in names if name in table or not hasattr(builtins, name)]
            for holder, name in places:
                if (id(holder), name) not in self._known:
                    self._known.add((id(holder), name))
                    self._places.append((holder, name))
                    self.names.append(name)
                todo.append(_content(holder, name))
        self._read = self._reader()
        self._values = ()

    def _reader(self) -> Callable[[], tuple[Any, ...]]:
        """A function that gives what stands in all places, written out: it runs before each replay."""
        bound: dict[str, Any] = {"missing": _MISSING}
        parts = []
        for i, (holder, name) in enumerate(self._places):
            bound[f"h{i}"] = holder
            parts.append(f"h{i}.get({name!r}, missing)" if type(holder) is dict else f"h{i}.cell_contents")
        read: Callable[[], tuple[Any, ...]] = eval(f"lambda: ({''.join(f'{part}, ' for part in parts)})", bound)
        return read

    def state(self) -> tuple[Any, ...]:
        """What stands there now: numbers and texts by their value, other objects by which one they are."""
        try:
            values = self._read()
        except ValueError:  # a variable that has no value yet
            values = tuple(_content(holder, name) for holder, name in self._places)
        if len(values) != len(self._values) or not all(map(operator.is_, values, self._values)):
            self._state = tuple((type(v), v, str(v)) if type(v) in _SIMPLE else id(v) for v in values)
            self._values = values
        return self._state

    def hold(self) -> tuple[Any, ...]:
        """The state, of which everything is kept alive: a program goes by which object it is."""
        state = self.state()
        self._held.update((id(value), value) for value in self._values)
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
