"""Places outside a program: what Tensors, gradients, modules and generators hold, while one records."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.compiling.calls import Calls
from minigrad.compiling.optimisers import Stale
from minigrad.compiling.program import Cell, Value
from minigrad.compiling.traced import Traced, TracedGenerator
from minigrad.compiling.world import World
from minigrad.nn.module import Module
from minigrad.tape import Leaf
from minigrad.tensor import Tensor

__all__ = ["DATA", "GRAD", "Places", "made_elsewhere"]

# The slots themselves, under the properties that stand there while one records: what goes through them is not noted.
DATA: Any = vars(Tensor)["_data"]
GRAD: Any = vars(Leaf)["grad"]


# Tensors that other threads and contexts have made, or given an array, while one records.
made_elsewhere: dict[int, weakref.ref[Tensor]] = {}


class Places(Calls):
    """The part of a recording that knows the cells of its program."""

    world: World

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.cells: dict[Any, Cell] = {}  # by what they belong to
        self.modules: dict[Module, bool] = {}
        self.optimisers: dict[int, Any] = {}
        self.closing: list[Callable[[], None]] = []
        self.begins: list[Callable[[], None]] = []
        self.ends: list[Callable[[], None]] = []
        self.own_objects: weakref.WeakSet[Any] = weakref.WeakSet()  # modules and optimisers that the function makes
        self._fixed: dict[int, Any] = {}  # plain arrays that tensors of the function's own hold
        self._born: dict[int, weakref.ref[Tensor]] = {}
        self._own_leaves: dict[int, Leaf] = {}
        self._shown: weakref.WeakSet[Module] = weakref.WeakSet()
        self._buffers: list[tuple[dict[str, Any], str]] = []  # where they are
        self._shared: set[tuple[Cell, Cell | None]] = set()  # whose arrays are one
        self._generators: dict[np.random.Generator, TracedGenerator] = {}

    def cell(self, key: tuple[Any, ...], owner: Any, words: str, read: Callable[[], Any], write: Any) -> Cell:
        """The cell of that key, made when it is first met; owner is kept alive, since the key may hold its id."""
        found = self.cells.get(key)
        if found is None:
            found = self.cells[key] = Cell(words, owner, read, write)
            first = found.first = read()
            self.undo.append(lambda: write(first))
        return found

    def look(self, cell: Cell) -> Any:
        """What a cell holds now, as a stand-in; None for none."""
        array = cell.read()
        if array is None:
            cell.looked = cell.looked or not cell.assigned
            return array
        if id(array) in self._fixed:
            if not cell.assigned:
                self._share(cell, None, array)
            return array
        known = self._known.get(id(array))
        if known is None:
            known = self._known[id(array)] = self.traced(array, "cell")
            known.value.cell, cell.before = cell, known.value
        elif not cell.assigned and known.value is not cell.before:
            self._share(cell, known.value.cell, array)
        return known

    def _share(self, cell: Cell, other: Cell | None, array: Any) -> None:
        """The program holds for as long as a cell has the array that another has; None: that very array."""
        if (cell, other) in self._shared:
            return
        self._shared.add((cell, other))

        def same() -> None:
            if cell.read() is not (array if other is None else other.read()):
                raise Stale

        self.begins.append(same)

    def _constant(self, array: Any) -> Value:
        value = super()._constant(array)
        if value.cell is not None:  # an array that the function has by another name too
            self._share(value.cell, None, array)
        return value

    def _put(self, write: Callable[[Any], None], array: Any) -> None:
        """Leave an array in a place that may be looked at again."""
        if isinstance(array, Traced):
            self._known[id(array.array)] = array
            array = array.array
        elif array is not None:
            known = self._known.get(id(array))
            if known is None:
                self._fixed[id(array)] = array
            elif known.value.cell is not None:
                self._share(known.value.cell, None, array)
        write(array)

    def own(self, t: Tensor) -> None:
        """A Tensor has been made with memory of its own: that is the program's too, so that it can be written into."""
        array = DATA.__get__(t)
        if id(array) not in self._known:
            self.set_tensor(t, self.call(np.copy, (array,)))

    def _cell_of_tensor(self, t: Tensor) -> Cell:
        cell = self.cell(("data", id(t)), t, "{}", lambda: DATA.__get__(t), lambda new: DATA.__set__(t, new))
        if cell.tensor is None:
            other = made_elsewhere.get(id(t))
            if other is not None and other() is t:
                self.refuse(
                    "a tensor",
                    f"{t.name or 'a tensor'} that another thread has made or changed meanwhile",
                    "compute in the thread that calls the function",
                )
            cell.tensor = cell.about = t
            self.world.tensors.append((t, t._node))
        return cell

    def of_tensor(self, t: Tensor) -> Any:
        """What a tensor holds: a stand-in, or the plain array of a tensor that the function made from one."""
        array = DATA.__get__(t)
        if id(t) not in self._born:
            return self.look(self._cell_of_tensor(t))
        return self._known.get(id(array), array)

    def set_tensor(self, t: Tensor, array: Any) -> None:
        """A tensor is given an array."""
        try:
            DATA.__get__(t)
        except AttributeError:  # it is being made
            self._born[id(t)] = weakref.ref(t)
        else:
            if id(t) not in self._born:
                self._cell_of_tensor(t).assigned = True
        self._put(lambda new: DATA.__set__(t, new), array)

    def _cell_of_leaf(self, leaf: Leaf) -> Cell:
        t = leaf.tensor()
        cell = self.cell(
            ("grad", id(leaf)),
            leaf,
            "the gradient of {}",
            lambda: GRAD.__get__(leaf),
            lambda new: GRAD.__set__(leaf, new),
        )
        cell.about = t
        return cell

    def of_leaf(self, leaf: Leaf) -> Any:
        """A leaf's gradient."""
        if id(leaf) in self._own_leaves:
            g = GRAD.__get__(leaf)
            return self._known.get(id(g), g)
        return self.look(self._cell_of_leaf(leaf))

    def set_leaf(self, leaf: Leaf, g: Any) -> None:
        """A leaf is given a gradient, or None."""
        try:
            GRAD.__get__(leaf)
        except AttributeError:  # it is being made
            self._own_leaves[id(leaf)] = leaf
        else:
            if id(leaf) not in self._own_leaves:
                self._cell_of_leaf(leaf).assigned = True
        self._put(lambda new: GRAD.__set__(leaf, new), g)

    def enter(self, module: Module) -> None:
        """A module runs: its buffers are seen as stand-ins, and its mode is one that the program holds for."""
        if module in self.modules:
            return
        if self._is_own(module):
            self._own_buffers(module)
        else:
            self.modules[module] = module.training
            self.show_buffers(module)

    def _is_own(self, module: Module) -> bool:
        """Whether the function has made a module, or copied it with all that is in it."""
        parts = vars(module).values()
        return (
            module in self.own_objects
            or any(isinstance(p, Tensor) and id(p) in self._born for p in parts)
            or any(isinstance(p, Module) and self._is_own(p) for p in parts)
        )

    def _own_buffers(self, module: Module) -> None:
        """The buffers of a module that the function has made are the program's own arrays."""
        if module not in self._shown:
            self._shown.add(module)
            places = vars(module)
            for name in module._buffers:
                if type(places.get(name)) is np.ndarray:
                    places[name] = self.call(np.copy, (places[name],))

    def show_buffers(self, module: Module) -> None:
        """A module's buffers are seen as stand-ins from now on."""
        if module in self._shown:
            return
        self._shown.add(module)
        places = vars(module)
        for name in module._buffers:
            held = places.get(name)
            if isinstance(held, np.generic):  # `self.n = self.n + 1` has made a number of an array ()
                places[name] = held = np.asarray(held)
            if held is None or isinstance(held, np.ndarray):
                self._show(module, places, name)

    def _show(self, module: Module, places: dict[str, Any], name: str) -> None:
        cell = self.cell(
            ("buffer", id(module), name),
            module,
            f"{type(module).__name__}.{name}",
            lambda: self.arrays(places.get(name)),
            lambda new: places.__setitem__(name, new),
        )
        places[name] = self.look(cell)
        self._buffers.append((places, name))
        self.closing.append(lambda: cell.write(cell.read()))

    def close_cells(self) -> None:
        """What the cells hold at the end."""
        for places, name in self._buffers:
            held = places.get(name)
            if isinstance(held, Traced):  # one that was assigned is not known by its array
                self._known[id(held.array)] = held
            elif isinstance(held, np.generic):
                places[name] = np.asarray(held)
        for cell in self.cells.values():
            last = cell.read()
            unseen = cell.assigned and cell.before is None and not cell.looked  # a replay may find another array there
            cell.changed = unseen or last is not cell.first
            if cell.changed:
                known = self._known.get(id(last))
                if known is None or known.value.kind == "constant":
                    last = None if last is None else last.copy("K")  # the place's own, which may be written into
                    cell.write(last)
                    cell.after = last if last is None else last.copy("K")
                else:
                    cell.after = known.value

    def generator(self, generator: Any) -> Any:
        """The stand-in for a generator, whose draws every replay makes anew."""
        if type(generator) is TracedGenerator:
            return generator
        if generator not in self._generators:
            state = generator.bit_generator.state
            self.undo.append(lambda: setattr(generator.bit_generator, "state", state))
            self._generators[generator] = TracedGenerator(self, generator)
        return self._generators[generator]
