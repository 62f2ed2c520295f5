"""What a function finds outside: names, attributes and lists that it may read, arrays and generators behind them.

A program holds for as long as all this is as it was when it was recorded; and a function that changes any of it, other
than through Tensors, cannot be replayed.
"""

from __future__ import annotations

import builtins
import dis
import functools
import operator
import random
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad.compiling.optimisers import Stale
from minigrad.nn.module import Module
from minigrad.optim.optimizer import Optimizer
from minigrad.tensor import Tensor

__all__ = ["World", "checksum"]

_SCALARS = (int, float, complex, str, bytes, bool, type(None))
_MANY = 256  # entries of a list or dict whose own parts are looked at
_LONG = 1 << 14  # entries of a list or dict that is taken to stay as it is
_MOST = 4096  # objects
_MISSING = object()
_KNOWN = {"minigrad", "numpy", *sys.stdlib_module_names} - {"__main__"}


def checksum(array: Any) -> int:
    """A number that nearly always differs for arrays of other values."""
    return zlib.crc32(array if array.flags.c_contiguous and array.dtype.kind in "fiub" else array.tobytes())


class World:
    """What is outside a function, as it is now."""

    def __init__(self, function: Any, arguments: Any) -> None:
        self.places: list[tuple[str, Any, Any, Any]] = []  # (kind, container, key, what is there)
        self.arrays: list[tuple[str, Any, int, Any]] = []  # (words, array, checksum, copy of a small one)
        self.generators: list[tuple[str, Any, Any]] = []
        self.modules: list[Module] = []
        self.iterators: list[tuple[str, Any]] = []
        self.tensors: list[tuple[Any, Any]] = []  # those that the function has met, and their nodes
        self._words: dict[int, str] = {}
        self._seen: dict[int, Any] = {}
        self._classes: list[type] = []
        self._parts: dict[int, list[tuple[str, Any]]] = {}  # what is in an object, with its words
        self._names: set[str] = set()
        self._named: set[int] = {id(function)}
        self._roots = [function, *(x for x in arguments if not isinstance(x, np.ndarray))]
        for x in self._roots:
            self._look("the function" if x is function else "an argument", x)
        self._trouble = np.geterr()
        self._random = random.getstate()
        self._legacy = np.random.get_state()  # noqa: NPY002  # the old ones are what a function may use

    # What there is

    def _look(self, words: str, x: Any) -> None:
        queue = [(words, x)]
        for done, (words, x) in enumerate(queue, start=1):  # grows while it is read
            known = isinstance(x, (_SCALARS, Tensor)) or id(x) in self._seen or len(self._seen) > _MOST
            if not known:
                self._seen[id(x)] = x
                self._words[id(x)] = words
                self._parts[id(x)] = [*self._within(words, x)]
                queue.extend(self._parts[id(x)])
            if done == len(queue):
                queue.extend(self._methods())

    def _methods(self) -> list[tuple[str, Any]]:
        """Methods of the classes met so far, by names in the code met so far, that have not been looked at."""
        found = []
        for cls in self._classes:
            for name, part in vars(cls).items():
                method = getattr(part, "__func__", getattr(part, "fget", part))
                called = name == "forward" or (name.startswith("__") and name not in ("__init__", "__new__"))
                named = called or name in self._names
                if named and isinstance(method, types.FunctionType) and id(method) not in self._seen:
                    found.append(("a method", method))
        return found

    def _within(self, words: str, x: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(x, np.ndarray):
            self.arrays.append((words, x, checksum(x), x.copy() if x.nbytes < 1 << 16 else None))
        elif isinstance(x, Iterator):
            self.iterators.append((words, x))
        elif isinstance(x, (np.random.Generator, np.random.RandomState)):
            self.generators.append((words, x, _state(x)))
        elif isinstance(x, types.FunctionType):
            yield from self._of_function(x)
        elif isinstance(x, types.MethodType):
            yield words, x.__func__
            yield words, x.__self__
        elif isinstance(x, functools.partial):
            yield from ((words, part) for part in (x.func, x.args, x.keywords))
        elif isinstance(x, (list, tuple)):
            if isinstance(x, list) and len(x) < _LONG:
                self.places.append(("list", x, None, list(x)))
            if len(x) <= _MANY:
                yield from ((f"{words}[{i}]", part) for i, part in enumerate(x))
        elif isinstance(x, dict):
            if len(x) < _LONG:
                self.places.append(("dict", x, None, dict(x)))
            if len(x) <= _MANY:
                yield from ((f"{words}[{key!r}]", part) for key, part in x.items())
        elif isinstance(x, Optimizer):
            if "param_groups" in self._names:  # else each replay reads its options anew
                yield from ((f"{words}.param_groups", {**group, "params": None}) for group in x.param_groups)
                for group in x.param_groups:
                    self.places.append(("dict", group, None, dict(group)))
        elif isinstance(x, (types.ModuleType, type)):
            if _is_users(x.__name__) and _is_users(getattr(x, "__module__", "")):
                for name in sorted(self._names & vars(x).keys()):
                    yield from self._name("name", vars(x), name, f"{words}.{name}")
                if isinstance(x, type):
                    self._classes.append(x)
        elif type(x).__module__ == "minigrad.compiling.compiled":
            yield words, x.function
        elif isinstance(x, Module) or (hasattr(x, "__dict__") and _is_users(type(x).__module__)):
            buffers = set()
            if isinstance(x, Module):
                buffers = set(x._buffers)
                self.modules.append(x)
            held = {name: part for name, part in vars(x).items() if name not in buffers}
            self.places.append(("attributes", x, buffers, held))
            yield from ((f"{words}.{name}", part) for name, part in held.items())
            yield from ((f"the class of {words}", cls) for cls in type(x).__mro__)

    def _of_function(self, f: types.FunctionType) -> Iterator[tuple[str, Any]]:
        if not _is_users(f.__module__ or ""):
            return
        names: set[str] = set()
        codes = [f.__code__]
        for code in codes:  # grows while it is read
            for instruction in dis.get_instructions(code):
                if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
                    names.add(instruction.argval)
            self._names.update(code.co_names)
            codes.extend(part for part in code.co_consts if isinstance(part, types.CodeType))
        named = id(f) in self._named  # by the function that is compiled: see outside
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            try:
                found = cell.cell_contents
            except ValueError:
                found = _MISSING
            self.places.append(("cell" if named else "variable", cell, name, found))
            self._named.update([id(found)] if named else [])
            yield name, found
        for name in sorted(names):
            if name in f.__globals__ or not hasattr(builtins, name):
                self._named.update([id(f.__globals__.get(name))] if named else [])
                yield from self._name("global" if named else "name", f.__globals__, name, name)
        yield from (("a default", part) for part in (*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()))

    def _name(self, kind: str, held: Any, name: str, words: str) -> Iterator[tuple[str, Any]]:
        found = held.get(name, _MISSING)
        self.places.append((kind, held, name, found))
        yield words, found

    # Whether it is still so

    def changes(self, known: Any, lent: Any) -> Iterator[str]:
        """What has changed since, in words. known, lent: ids of arrays and generators that a program takes care of."""
        for kind, container, key, before in self.places:
            now = _content(kind, container, key)
            if not _same(kind, now, before):
                yield self._what(kind, container, key, before, now)
        for words, x in self.iterators:
            yield f"{words}, a {type(x).__name__}, may be read from: a replay would not go on to what comes next"
        for words, array, before, _ in self.arrays:
            if id(array) not in known and checksum(array) != before:
                yield f"{words}, an array {array.dtype} {array.shape}, is written into"
        for words, generator, before in self.generators:
            if id(generator) not in lent and not _same_state(_state(generator), before):
                yield f"{words} is drawn from, a generator that the program does not know of"
        if random.getstate() != self._random:
            yield "Python's own random numbers are drawn"
        if not _same_state(np.random.get_state(), self._legacy):  # noqa: NPY002  # as above
            yield "NumPy's global random numbers are drawn"
        for t, node in self.tensors:
            if t._node is not node:
                yield f"{t.name or 'a tensor'} {t.dtype} {t.shape} has got another requires_grad, or another shape"

    def _what(self, kind: str, container: Any, key: Any, before: Any, now: Any) -> str:
        if kind in ("cell", "variable", "global", "name"):
            return f"{key} is given another value"
        words = self._words.get(id(container), "a list or dict outside")
        if kind == "list":
            return f"{words}, a list, is changed"
        changed = [k for k in {**before, **now} if before.get(k, _MISSING) is not now.get(k, _MISSING)]
        name = f"{type(container).__name__}" if kind == "attributes" else words
        mark = f".{changed[0]}" if kind == "attributes" else f"[{changed[0]!r}]"
        return f"{name}{mark} is given another value"

    def restore(self) -> None:
        """Put back what can be put back."""
        for kind, container, key, before in self.places:
            if _same(kind, _content(kind, container, key), before):
                continue
            if kind in ("cell", "variable"):
                if before is _MISSING:
                    del container.cell_contents
                else:
                    container.cell_contents = before
            elif kind in ("global", "name"):
                if before is _MISSING:
                    container.pop(key, None)
                elif isinstance(container, dict):
                    container[key] = before
            elif kind == "list":
                container[:] = before
            else:
                held = container if kind == "dict" else vars(container)
                for name in [k for k in held if k not in before and not (kind == "attributes" and k in key)]:
                    del held[name]
                held.update(before)
        for _, array, before, copy in self.arrays:
            if copy is not None and array.flags.writeable and checksum(array) != before:
                np.copyto(array, copy)
        for _, generator, before in self.generators:
            if not _same_state(_state(generator), before):
                _put(generator, before)
        random.setstate(self._random)
        np.random.set_state(self._legacy)  # noqa: NPY002  # as above

    def _read(self) -> set[int]:
        """The ids of the objects that the function can come to by the names in it, and not only as parts of others."""
        found = {key for key, x in self._seen.items() if isinstance(x, types.FunctionType)} | set(map(id, self._roots))
        queue = list(found)
        for x in queue:  # grows while it is read
            for words, part in self._parts.get(x, ()):
                named = not self._is_plain(self._seen[x]) or words.rpartition(".")[2] in self._names
                if id(part) not in found and (named or isinstance(part, type)):
                    found.add(id(part))
                    queue.append(id(part))
        return found

    @staticmethod
    def _is_plain(x: Any) -> bool:
        """Whether x is an object of the user's; of a module, code that is not looked at may read any attribute."""
        return not isinstance(x, (Module, list, tuple, dict, type)) and _is_users(type(x).__module__)

    def guard(self) -> Callable[[], None]:
        """A function that raises Stale where attributes or lists hold something else than now; names: see outside."""
        bound: dict[str, Any] = {"Stale": Stale, "missing": _MISSING, "same": operator.is_}
        bound.update(geterr=np.geterr, trouble=self._trouble)
        # What an op quietens is noted only where it was not quiet before.
        lines = ["def begin():", "    if geterr() != trouble: raise Stale"]

        def name(x: Any) -> str:
            bound[f"k{len(bound)}"] = x
            return f"k{len(bound) - 1}"

        def expect(read: str, x: Any) -> None:
            k = name(x)
            lenient = isinstance(x, _SCALARS) and x is not None
            zero = f" or str(x) != {str(x)!r}" if isinstance(x, float) else ""  # 0.0 is not -0.0
            other = f" and (type(x) is not {name(type(x))} or x != {k}{zero})" if lenient else ""
            lines.append(f"    x = {read}")
            lines.append(f"    if x is not {k}{other}: raise Stale")

        read = self._read()
        for kind, container, key, before in self.places:
            if kind in ("list", "dict", "attributes") and id(container) not in read and id(container) in self._seen:
                continue
            if kind == "attributes" and self._is_plain(container):
                held = name(vars(container))
                for k in before.keys() & self._names:
                    expect(f"{held}.get({k!r}, missing)", before[k])
                continue
            if kind == "variable":
                if before is not _MISSING:
                    expect(f"{name(container)}.cell_contents", before)
            elif kind == "name":
                expect(f"{name(container)}.get({key!r}, missing)", before)
            elif kind == "list":
                held = name(container)
                lines.append(f"    if len({held}) != {len(before)}: raise Stale")
                if len(before) > _MANY:
                    lines.append(f"    if not all(map(same, {held}, {name(before)})): raise Stale")
                    continue
                for i, x in enumerate(before):
                    expect(f"{held}[{i}]", x)
            elif kind in ("dict", "attributes"):
                there = container if kind == "dict" else vars(container)
                held = name(there)
                lines.append(f"    if len({held}) != {len(there)}: raise Stale")
                if len(before) > _MANY:
                    lines.append(f"    if not all(map(same, {held}.values(), {name([*before.values()])})): raise Stale")
                    continue
                for k, x in before.items():
                    expect(f"{held}.get({repr(k) if isinstance(k, str) else name(k)}, missing)", x)
        for t, node in self.tensors:
            lines.append(f"    if {name(t)}._node is not {name(node)}: raise Stale")
        lines.append("    return")
        exec(compile("\n".join(lines), "<minigrad compile: what is outside>", "exec"), bound)
        begin: Callable[[], None] = bound["begin"]
        return begin


def _is_users(module: str) -> bool:
    return module.partition(".")[0] not in _KNOWN or module.startswith("minigrad.book")


def _content(kind: str, container: Any, key: Any) -> Any:
    if kind in ("cell", "variable"):
        try:
            return container.cell_contents
        except ValueError:
            return _MISSING
    if kind in ("global", "name"):
        return container.get(key, _MISSING)
    if kind == "list":
        return list(container)
    return dict(container) if kind == "dict" else {k: x for k, x in vars(container).items() if k not in key}


def _same(kind: str, now: Any, before: Any) -> bool:
    if kind == "list":
        return len(now) == len(before) and all(map(_alike, now, before))
    if kind in ("dict", "attributes"):
        return now.keys() == before.keys() and all(_alike(now[k], before[k]) for k in before)
    return _alike(now, before)


def _alike(x: Any, y: Any) -> bool:
    return x is y or (isinstance(x, _SCALARS) and type(x) is type(y) and x == y)


def _state(generator: Any) -> Any:
    return generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.get_state()


def _put(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def _same_state(x: Any, y: Any) -> bool:
    """Whether two states of a generator are the same: dicts or tuples of numbers and arrays."""
    if isinstance(x, dict):
        return isinstance(y, dict) and x.keys() == y.keys() and all(_same_state(x[k], y[k]) for k in x)
    if isinstance(x, tuple):
        return isinstance(y, tuple) and len(x) == len(y) and all(map(_same_state, x, y))
    return bool(np.array_equal(x, y))
