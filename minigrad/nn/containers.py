"""Modules in a row: Sequential, and ModuleList for a forward of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Self

import numpy as np

from minigrad import ArgumentError, DTypeError, LabelError, MinigradError
from minigrad.errors import describe
from minigrad.nn.module import Module

__all__ = ["ModuleList", "Sequential"]


class _Numbered(Module):
    """Modules that are named by their place."""

    def __init__(self, modules: Iterable[tuple[str, Any]]) -> None:
        for name, module in modules:
            self._add(name, module)

    def _add(self, name: str, module: Any) -> None:
        """module as the attribute `name`, which is not yet taken."""
        self._check(name, module)
        if not name or "." in name or hasattr(self, name):
            raise ArgumentError(
                f"{type(self).__name__}: {name}",
                f"the name {name!r}{', which is taken' if name in vars(self) else ''}",
                "a name without dots that neither a module nor a method has",
                "rename it",
            )
        setattr(self, name, module)

    def _check(self, name: str, module: Any) -> None:
        if isinstance(module, Module):
            return
        got, fix = describe(module), "pass modules, such as nn.Linear(3, 2), nn.ReLU()"
        if isinstance(module, type):
            got, fix = f"the class {module.__name__}", f"write the call too: nn.{module.__name__}()"
        elif isinstance(module, (list, tuple)):
            fix = f"write nn.{type(self).__name__}(*modules)" if isinstance(self, Sequential) else "add them one by one"
        elif callable(module):
            got, fix = (
                f"the function {getattr(module, '__name__', module)}",
                "pass the module for it, such as nn.ReLU()",
            )
        raise DTypeError(f"{type(self).__name__}: {name}", got, "modules", fix)

    def append(self, module: Module) -> Self:
        """Adds a module at the end, under the next number. Returns self.

        >>> len(ModuleList().append(Module()))
        1
        """
        self._add(next(name for name in map(str, count(len(self))) if name not in vars(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Adds modules at the end. Returns self.

        >>> len(ModuleList().extend([Module(), Module()]))
        2
        """
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: Any) -> Any:
        inside = list(self.named_children())
        return self._part(inside[index]) if isinstance(index, slice) else inside[self._place(index)][1]

    def __setitem__(self, index: int, module: Module) -> None:
        self._check(f"[{index}]", module)
        setattr(self, list(self.named_children())[self._place(index)][0], module)

    def _place(self, index: Any) -> int:
        n = len(self)
        if not isinstance(index, (int, np.integer)) or not -n <= index < n:
            raise LabelError(
                f"{type(self).__name__}[...]",
                f"index {index!r} of {n} modules",
                f"an index from {-n} to {n - 1}, or a slice",
                "count from 0; a name is an attribute, or get_submodule(name)",
            )
        return int(index)

    def _part(self, modules: list[tuple[str, Module]]) -> Module:
        """A container of the same kind for some of the modules."""
        raise NotImplementedError


class Sequential(_Numbered):
    """out = the modules one after the other, each on what the one before gave.

    modules: modules, named "0", "1", ...; or one dict of modules by name. A slice keeps the names.
    Raises DTypeError for what is no module, ArgumentError for a name that is taken.

    >>> from minigrad.nn import Linear, ReLU
    >>> model = Sequential(Linear(3, 2), ReLU())
    >>> model(np.ones((4, 3))).shape
    (4, 2)
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else None
        super().__init__(((str(i), m) for i, m in enumerate(modules)) if named is None else named.items())

    def forward(self, x: Any) -> Any:
        """The last module's result."""
        for module in self.children():
            try:
                x = module(x)
            except MinigradError as error:
                if isinstance(x, tuple) and getattr(error, "module", None) is module:
                    raise DTypeError(
                        type(module).__name__,
                        f"a tuple of {len(x)}, which the layer before gave",
                        "one tensor: a recurrent layer gives (out, state), attention (out, weights)",
                        "write a Module whose forward takes the part that is wanted: out, _ = self.lstm(x)",
                    ) from error
                raise
        return x

    def _part(self, modules: list[tuple[str, Module]]) -> Module:
        return Sequential(dict(modules))


class ModuleList(_Numbered):
    """A list of modules that belong to the module whose attribute it is; forward is for that one to write.

    Raises DTypeError for what is no module, or no list of them.

    >>> len(ModuleList([Module(), Module()]))
    2
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        if isinstance(modules, Module) and not isinstance(modules, _Numbered):
            raise DTypeError(
                "ModuleList: modules", describe(modules), "a list of modules", "write ModuleList([module])"
            )
        super().__init__((str(i), module) for i, module in enumerate(modules))

    def _part(self, modules: list[tuple[str, Module]]) -> Module:
        return ModuleList(module for _, module in modules)
