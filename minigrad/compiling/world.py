"""What a function finds outside: names, attributes and lists that it may read, arrays and generators behind them.

A program holds for as long as all this is as it was when it was recorded; and a function that changes any of it, other
than through Tensors, cannot be replayed.
"""

from __future__ import annotations

import builtins
import dis
import functools
import random
import sys
import types
import zlib
from collections import UserDict, UserList, deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad.compiling.held import (
    MANY,
    MISSING,
    SCALARS,
    Lines,
    alike,
    content,
    put_back,
    put_state,
    same_state,
    state_of,
)
from minigrad.compiling.outside import is_installed, is_users, own_vars
from minigrad.nn.module import Module
from minigrad.op import Op
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.schedule import LRScheduler
from minigrad.tensor import Tensor

__all__ = ["World", "checksum"]

_LONG = 1 << 14  # entries of a list or dict that is taken to stay as it is
_MANY_PARTS = 1024  # entries of a list or dict in which lists and dicts are looked at
_MOST = 4096  # objects
_INSIDE = (list, tuple, dict, set, frozenset, deque, bytearray, types.MappingProxyType)
# Functions and attributes by which a text becomes the name of an attribute.
_BY_TEXT = {"getattr", "hasattr", "setattr", "delattr", "vars", "__dict__", "attrgetter", "__getattribute__"}
_EXCHANGED = (Op, LRScheduler)  # classes whose methods are others while one records: see exchange
# Where NumPy keeps what it does about overflow and the like; another object at each call if it is not there.
_TROUBLE = getattr(getattr(sys.modules.get("numpy._core.umath"), "_extobj_contextvar", None), "get", object)
_UNSAID = {"forward", "__call__"}  # methods that are called without their names


Part = tuple[str, Any, str | None]  # words, an object, and the name of the attribute that has to be named to read it


def checksum(array: Any) -> int:
    """A number that nearly always differs for arrays of other values."""
    return zlib.crc32(array if array.flags.c_contiguous and array.dtype.kind in "fiub" else array.tobytes())


class World:
    """What is outside a function, as it is now."""

    def __init__(self, function: Any, arguments: Any) -> None:
        self.places: list[tuple[str, Any, Any, Any]] = []  # (kind, container, key, what is there): see held
        self.arrays: list[tuple[str, Any, int, Any]] = []  # (words, array, checksum, copy of a small one)
        self.generators: list[tuple[str, Any, Any]] = []
        self.modules: list[Module] = []
        self.iterators: list[tuple[str, Any]] = []
        self.tensors: list[tuple[Any, Any]] = []  # those that the function has met, and their nodes
        self._words: dict[int, str] = {}
        self._seen: dict[int, Any] = {}
        self._by_name: list[tuple[str, Any, Any, set[str]]] = []  # modules, classes, ...: read by names in the code
        self._parts: dict[int, list[Part]] = {}  # what is in an object
        self._options: set[int] = set()  # the groups of optimisers, whose numbers each replay reads anew
        self._large: list[tuple[str, Any]] = []  # lists and dicts whose parts are looked at last
        self._names: set[str] = set()
        self._texts: set[str] = set()
        self._named: set[int] = {id(function)}
        self._roots = [function, *(x for x in arguments if not isinstance(x, np.ndarray))]
        self._look([("the function" if x is function else "an argument", x, None) for x in self._roots])
        self._trouble, self._held = np.geterr(), _TROUBLE()
        self._random = random.getstate()
        self._legacy = np.random.get_state()  # noqa: NPY002  # the old ones are what a function may use

    # What there is

    def _look(self, queue: list[Part]) -> None:
        while queue:
            for words, x, _ in queue:  # grows while it is read
                if isinstance(x, (SCALARS, Tensor)) or id(x) in self._seen or len(self._seen) > _MOST:
                    continue
                self._seen[id(x)] = x
                self._words[id(x)] = words
                self._parts[id(x)] = found = [*self._within(words, x)]
                queue.extend(found)
            # Code that has been read since may have more names.
            if self._names & _BY_TEXT:
                self._names |= self._texts
            queue = [part for held in self._by_name for part in self._newly_named(*held)]
            if not queue and self._large:
                words, x = self._large.pop()
                queue = [(f"{words}[{key!r}]", part, None) for key, part in _items(x) if isinstance(part, _INSIDE)]
                self._parts[id(x)] += queue[:]

    def _newly_named(self, words: str, x: Any, held: Any, done: set[str]) -> list[Part]:
        """What a module, a class or an object of a library has under names in the code that were not looked up yet."""
        keys, installed = set(held), isinstance(x, type) and is_installed(x.__module__)
        if isinstance(x, type):  # may get one that stands before what it inherits
            keys = {name for cls in x.__mro__ if is_users(cls.__module__) for name in vars(cls)}
        names = (keys & (self._names | _UNSAID)) - done
        done |= names
        parts: list[Part] = []
        for name in sorted(names):
            part = held.get(name, MISSING)
            if not isinstance(x, type):
                self.places.append(("name", held, name, part))
            elif not installed and not (issubclass(x, _EXCHANGED) and (callable(part) or part is MISSING)):
                self.places.append(("class", x, name, part))
            parts += [(f"{words}.{name}", inner, None) for inner in _behind(part)]
        if isinstance(x, type) and "__dict__" not in done:  # operators and the like, which are called without names
            done.add("__dict__")
            special = [name for name in held if name.startswith("__") and name not in ("__init__", "__new__")]
            found = [(f"{words}.{name}", inner) for name in special for inner in _behind(held[name])]
            parts += [(method, f, None) for method, f in found if isinstance(f, types.FunctionType)]
        self._parts[id(x)] += parts
        return parts

    def _within(self, words: str, x: Any) -> Iterator[Part]:
        """What is in x; and what is to be compared is noted."""
        kind = type(x)
        users = is_users(kind.__module__)
        if isinstance(x, np.ndarray):
            self.arrays.append((words, x, checksum(x), x.copy() if x.nbytes < 1 << 16 else None))
        elif isinstance(x, (np.random.Generator, np.random.RandomState, random.Random)):
            self.generators.append((words, x, state_of(x)))
        elif isinstance(x, Iterator):
            self.iterators.append((words, x))
        elif isinstance(x, types.FunctionType):
            yield from self._of_function(words, x)
        elif isinstance(x, types.MethodType):
            yield words, x.__func__, None
            yield words, x.__self__, None
        elif isinstance(x, functools.partial):
            yield from ((words, part, None) for part in (x.func, x.args, x.keywords))
        elif isinstance(x, Optimizer):
            groups = x.param_groups
            self._options.update(map(id, (groups, *groups)))
            self.places.append(("list", groups, None, list(groups)))
            self.places.extend(("dict", group, None, dict(group)) for group in groups)
            self._words.update((id(group), f"{words}.param_groups[{i}]") for i, group in enumerate(groups))
            yield from ((f"the class of {words}", cls, None) for cls in kind.__mro__)
        elif isinstance(x, types.ModuleType):
            if is_users(str(vars(x).get("__name__"))):
                self._by_name.append((words, x, vars(x), set()))
        elif isinstance(x, type):
            if is_users(x.__module__):
                self._by_name.append((words, x, vars(x), set()))
                yield from ((f"the class of {words}", cls, None) for cls in x.__mro__[1:])
        elif kind.__module__ == "minigrad.compiling.compiled":
            yield words, x.function, None
        else:
            if isinstance(x, _INSIDE):
                yield from self._of_container(words, x)
            held = own_vars(x)
            if users or _has_open_attributes(x):
                yield from self._of_object(words, x, held)
            elif held:
                self._by_name.append((words, x, held, set()))
                yield words, held.get("__wrapped__"), None

    def _of_container(self, words: str, x: Any) -> Iterator[Part]:
        if not isinstance(x, (tuple, frozenset)):
            kinds = (list, dict, set, deque, bytearray)
            kind = next((cls.__name__ for cls in kinds if isinstance(x, cls)), "proxy")
            if len(x) < _LONG:
                self.places.append((kind, x, None, dict(x) if kind in ("dict", "proxy") else list(x)))
        if len(x) <= MANY:
            yield from ((f"{words}[{key!r}]", part, None) for key, part in _items(x))
        elif len(x) <= _MANY_PARTS and not isinstance(x, bytearray):
            self._large.append((words, x))

    def _of_object(self, words: str, x: Any, held: dict[str, Any] | None) -> Iterator[Part]:
        """Its attributes. A Module's and the contents of a UserDict are read by code that is not looked at."""
        buffers = set()
        if isinstance(x, Module):
            buffers = set(x._buffers)
            self.modules.append(x)
        if held is not None:
            own = {name: part for name, part in held.items() if name not in buffers}
            self.places.append(("attributes", x, buffers, own))
            named = _is_read_by_name(x)
            yield from ((f"{words}.{name}", part, name if named else None) for name, part in own.items())
        slots = {
            name: slot
            for cls in type(x).__mro__
            if is_users(cls.__module__)
            for name, slot in vars(cls).items()
            if isinstance(slot, types.MemberDescriptorType)
        }
        if slots:
            there = content(("slots", x, slots, None))
            self.places.append(("slots", x, slots, there))
            yield from ((f"{words}.{name}", part, name) for name, part in there.items())
        yield from ((f"the class of {words}", cls, None) for cls in type(x).__mro__)

    def _of_function(self, words: str, f: types.FunctionType) -> Iterator[Part]:
        named = id(f) in self._named  # by the function that is compiled: see outside
        yield words, vars(f).get("__wrapped__"), None
        if not is_users(str(f.__globals__.get("__name__", ""))):
            return
        names: set[str] = set()
        codes = [f.__code__]
        for code in codes:  # grows while it is read
            for instruction in dis.get_instructions(code):
                if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
                    names.add(instruction.argval)
            self._names.update(code.co_names)
            constants = list(code.co_consts)
            for constant in constants:  # grows while it is read
                if isinstance(constant, types.CodeType):
                    codes.append(constant)
                elif isinstance(constant, (tuple, frozenset)):
                    constants.extend(constant)
                elif isinstance(constant, str) and constant.isidentifier():
                    self._texts.add(constant)
        if not is_installed(f.__globals__.get("__name__")):
            self.places.append(("code", f, None, [f.__code__, f.__defaults__, f.__kwdefaults__]))
            self.places.append(("named", vars(f), None, dict(vars(f))))
            self._words[id(vars(f))] = words
            yield from ((f"{words}.{name}", part, name) for name, part in vars(f).items())
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            found = content(("cell", cell, name, None))
            self.places.append(("cell" if named else "variable", cell, name, found))
            self._named.update([id(found)] if named else [])
            yield name, found, None
        for name in sorted(names):
            if name in f.__globals__ or not hasattr(builtins, name):
                found = f.__globals__.get(name, MISSING)
                self.places.append(("global" if named else "name", f.__globals__, name, found))
                self._named.update([id(found)] if named else [])
                yield name, found, None
        defaults = *(f.__defaults__ or ()), f.__kwdefaults__
        yield from (("a default", part, None) for part in defaults)

    # Whether it is still so

    def changes(self, known: Any, lent: Any) -> Iterator[str]:
        """What has changed since, in words. known, lent: ids of arrays and generators that a program takes care of."""
        for place in self.places:
            now = content(place)
            if not alike(place, now):
                yield self._what(*place, now)
        for words, x in self.iterators:
            yield f"{words}, a {type(x).__name__}, may be read from: a replay would not go on to what comes next"
        for words, array, before, _ in self.arrays:
            if id(array) not in known and checksum(array) != before:
                yield f"{words}, an array {array.dtype} {array.shape}, is written into"
        for words, generator, before in self.generators:
            if id(generator) not in lent and not same_state(state_of(generator), before):
                yield f"{words} is drawn from, a generator that the program does not know of"
        if random.getstate() != self._random:
            yield "Python's own random numbers are drawn"
        if not same_state(np.random.get_state(), self._legacy):  # noqa: NPY002  # as above
            yield "NumPy's global random numbers are drawn"
        for t, node in self.tensors:
            if t._node is not node:
                yield f"{t.name or 'a tensor'} {t.dtype} {t.shape} has got another requires_grad, or another shape"

    def _what(self, kind: str, container: Any, key: Any, before: Any, now: Any) -> str:
        if kind in ("cell", "variable", "global", "name"):
            return f"{key} is given another value"
        if kind == "class":
            return f"{container.__name__}.{key} is given another value"
        words = self._words.get(id(container), "a list or dict outside")
        if kind == "code":
            return f"{words}, a function, is changed"
        if type(before) is list:
            return f"{words}, a {kind}, is changed"
        changed = [k for k in {**before, **now} if before.get(k, MISSING) is not now.get(k, MISSING)]
        if not changed:
            return f"{words}, a dict, gets another order"
        attribute = kind in ("attributes", "slots", "named")
        name = f"{type(container).__name__}" if kind in ("attributes", "slots") else words
        mark = f".{changed[0]}" if attribute else f"[{changed[0]!r}]"
        return f"{name}{mark} is given another value"

    def restore(self) -> None:
        """Put back what can be put back."""
        for place in self.places:
            if not alike(place, content(place)):
                put_back(place)
        for _, array, before, copy in self.arrays:
            if copy is not None and array.flags.writeable and checksum(array) != before:
                np.copyto(array, copy)
        for _, generator, before in self.generators:
            if not same_state(state_of(generator), before):
                put_state(generator, before)
        random.setstate(self._random)
        np.random.set_state(self._legacy)  # noqa: NPY002  # as above

    def _read(self) -> set[int]:
        """The ids of the objects that the function can come to by the names in it, and not only as parts of others."""
        found = {key for key, x in self._seen.items() if isinstance(x, types.FunctionType)} | set(map(id, self._roots))
        queue = list(found)
        for x in queue:  # grows while it is read
            for _, part, name in self._parts.get(x, ()):
                if id(part) not in found and (name is None or name in self._names or isinstance(part, type)):
                    found.add(id(part))
                    queue.append(id(part))
        return found

    def guard(self) -> Callable[[], None]:
        """A function that raises Stale where attributes or lists hold something else than now; names: see outside."""
        lines = Lines()
        lines.bound.update(geterr=np.geterr, trouble=self._trouble, held=_TROUBLE, first=self._held)
        lines.lines.append("def begin():")
        # What an op quietens is noted only where it was not quiet before. To ask for the object that NumPy keeps this
        # in takes a fiftieth of the time that geterr() takes.
        lines.stale_if("held() is not first and geterr() != trouble")
        read = self._read()
        if "param_groups" in self._names:
            read |= self._options
        for place in self.places:
            kind, container, *_ = place
            kept = id(container) in self._seen or id(container) in self._options
            if kind in ("cell", "variable", "global", "name", "class", "named") or not kept or id(container) in read:
                by_name = kind == "named" or (kind in ("attributes", "slots") and _is_read_by_name(container))
                lines.add(place, self._names if by_name else None)
        for t, node in self.tensors:
            lines.stale_if(f"{lines.name(t)}._node is not {lines.name(node)}")
        lines.lines.append("    return")
        exec(compile("\n".join(lines.lines), "<minigrad compile: what is outside>", "exec"), lines.bound)
        begin: Callable[[], None] = lines.bound["begin"]
        return begin


def _is_read_by_name(x: Any) -> bool:
    return not isinstance(x, (Module, UserDict, UserList))


def _has_open_attributes(x: Any) -> bool:
    """Whether x is an object of a library whose attributes are the user's."""
    named = (type(x).__module__, type(x).__name__) == ("argparse", "Namespace")
    return named or isinstance(x, (Module, LRScheduler, types.SimpleNamespace, UserDict, UserList))


def _behind(x: Any) -> tuple[Any, ...]:
    """What an attribute of a class runs, or x itself."""
    if isinstance(x, (staticmethod, classmethod)):
        return (x.__func__,)
    if isinstance(x, property):
        return x.fget, x.fset
    return (x.func,) if isinstance(x, functools.cached_property) else (x,)


def _items(x: Any) -> Any:
    return x.items() if isinstance(x, (dict, types.MappingProxyType)) else enumerate(x)
