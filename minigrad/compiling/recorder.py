"""Recording: a function runs as it always does, and every array operation on the way is written down.

While a context records, a few attributes of the package's classes are exchanged (see exchange): what a Tensor holds is
then seen as a Traced (see places), and what an op does with it becomes instructions (see calls). Here is what begins
and ends a recording, and what it refuses.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.compiling.calls import Unsettled
from minigrad.compiling.exchange import recorder_here, recording_by
from minigrad.compiling.places import DATA, GRAD, Places
from minigrad.compiling.program import Program, Returned, leaves, rebuilt
from minigrad.compiling.traced import Traced
from minigrad.compiling.world import World
from minigrad.errors import CompileError
from minigrad.tape import Leaf, Version
from minigrad.tensor import Tensor, wrap

__all__ = ["Recorder", "Unsettled", "recorder_here"]


class Recorder(Places):
    """One recording. name: that of the function, for error messages."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._arguments: list[tuple[Tensor, Any]] = []  # the function's own Tensors for those given, and their arrays
        self._leaf_arguments: set[int] = set()
        self._containers: list[tuple[Any, list[Any]]] = []  # its own lists and dicts, and what was in them

    def recorded(self, function: Callable[..., Any], args: Any, kwargs: Any, graph: bool) -> tuple[Any, Program]:
        """What function(*args, **kwargs) returns, and the program; what goes wrong leaves everything as it was.

        graph: whether operations are recorded for backward(), so that leaves among the arguments are themselves.
        """
        self.world = world = World(function, leaves((tuple(args), kwargs)))
        self.undo.append(world.restore)
        try:
            with recording_by(self):
                for module in world.modules:
                    self.show_buffers(module)
                held = [self._stood_in(args, graph), self._stood_in(kwargs, graph)]
                result = function(*held[0], **held[1])
                if self.refusal is not None:
                    raise self.refusal
                program = self.finish(result)
                self._check_arguments()
                del held
            result = rebuilt(result, self._given)
        except BaseException as error:  # the function's own too: a failed call leaves all as it was, as elsewhere
            self.undone()
            self.forget()
            if self.refusal is not None and error is not self.refusal and isinstance(error, Exception):
                raise self.refusal from error  # NumPy, say, has made another error of it
            raise
        known = {id(cell.first) for cell in self.cells.values()}
        lent = {id(generator) for generator in self._generators}
        self.forget()
        self._refuse_traces(world, known, lent)
        self.begins.insert(0, world.guard())
        return result, program

    def _check_arguments(self) -> None:
        """CompileError for an argument that the function has changed in a way that a replay would not."""
        for t, array in self._arguments:
            leaf = t._node if isinstance(t._node, Leaf) else None
            own_node = leaf if id(t) in self._leaf_arguments else None
            if DATA.__get__(t) is not array or t._node is not own_node or (leaf and GRAD.__get__(leaf) is not None):
                self.refuse(
                    "an argument",
                    f"{t.name or 'a tensor'} {t.dtype} {t.shape} gets other values, a graph or a gradient",
                    "compute on x = x.copy() or Tensor(x, requires_grad=True), and return what is wanted",
                )
        for made, parts in self._containers:
            if list(made.items() if isinstance(made, dict) else made) != parts:
                self.refuse("an argument", f"a {type(made).__name__} of the caller's is changed", "return what is new")
        written = {t.root for i in self.instructions for t in i.writes if t.root.kind != "temporary"}
        for v, array in self._outer:
            if v in written and any(np.may_share_memory(array, other) for w, other in self._outer if w is not v):
                raise Unsettled  # one memory under two names: it runs as it was written
        for draws in self._generators.values():
            draws.check()
        for value in self.constants:
            self._check_constant(value)

    def _refuse_traces(self, world: World, known: set[int], lent: set[int]) -> None:
        """CompileError for what the function has left behind, other than in Tensors, which is put back."""
        kept = self.survivors()
        if kept:
            more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
            what, fix = f"{kept[0]}{more} is kept outside the function", "return it, and keep what the call returns"
        else:
            what, fix = next(world.changes(known, lent), ""), "do that outside the compiled function"
        if what:
            self.undone()
            raise CompileError(
                f"compile({self.name})",
                what,
                "a function that does no more than compute: a replay would not do it",
                fix,
            )

    def _stood_in(self, x: Any, graph: bool) -> Any:
        """The arguments with stand-ins for arrays, and Tensors of the function's own for Tensors that are no leaves."""
        if isinstance(x, Tensor):
            if x._node is not None and graph:
                return x
            if x._version is None:
                x._version = Version()  # a write into it is to be seen
            array: Any = self.input(DATA.__get__(x).view())
            t = wrap(array, None, x._version)
            t.name = x.name
            if x._node is not None:  # without effect, as long as the function does not switch recording on
                t._node = Leaf(t, x._node.shape, x._node.dtype)
                self._leaf_arguments.add(id(t))
            self._arguments.append((t, DATA.__get__(t)))
            return t
        if isinstance(x, np.ndarray):
            return self.input(x.view(np.ndarray))
        if isinstance(x, np.random.Generator):
            return self.generator(x)
        if isinstance(x, (tuple, list)):
            parts = [self._stood_in(part, graph) for part in x]
            made = type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
            self._containers.append((made, parts))
            return made
        if isinstance(x, dict):
            named = {name: self._stood_in(part, graph) for name, part in x.items()}
            self._containers.append((named, list(named.items())))
            return named
        return x

    def _given(self, x: Any) -> Any:
        """What the recorded call itself returns for a value: without stand-ins and without a graph."""
        if isinstance(x, Traced):
            return x.array.copy("K")
        if isinstance(x, np.ndarray):
            return x.copy("K")
        if isinstance(x, Tensor) and id(x) in self._born:
            t = wrap(DATA.__get__(x).copy("K"))
            t.name = x.name
            return t
        return x

    # The end

    def finish(self, result: Any) -> Program:
        """The program, and what the recorded call itself returns."""
        returned = rebuilt(result, self._returned)
        self.close_cells()
        return Program(
            inputs=self.inputs,
            cells=list(self.cells.values()),
            constants=self.constants,
            instructions=self.instructions,
            numbers=self.numbers,
            sources=self.sources,
            conditions=self.conditions,
            modules=list(self.modules.items()),
            result=returned,
            begins=self.begins,
            ends=self.ends,
        )

    def _returned(self, x: Any) -> Any:
        if isinstance(x, Traced):
            return x.value
        if isinstance(x, np.ndarray):
            return self.value(x)
        if not isinstance(x, Tensor):
            return x
        if id(x) not in self._born:
            return x
        node = x._node
        if node is not None and not (node.op is not None and node.saved is None):
            self.refuse(
                "return",
                f"a tensor {x.dtype} {x.shape} that requires a gradient: a replay has no graph for it",
                "call backward() inside, return t.detach(), or compute under no_grad()",
            )
        return Returned(self.value(x._data), x.name)

    def undone(self) -> None:
        """Put everything outside back as it was before the recording."""
        for back in reversed(self.undo):
            back()

    def forget(self) -> None:
        """Let go of all arrays."""
        for close in self.closing:
            close()
        for table in (self._known, self._fixed, self._own_leaves, self._generators, self.cells, self.modules):
            table.clear()
        self._shown.clear()
        self._outer.clear()
        self._arguments.clear()
        self._containers.clear()

    def survivors(self) -> list[str]:
        """What the function has kept of its arrays and tensors, in words, after `forget`."""
        if not self._left_over():
            return []
        gc.collect()
        return self._left_over()

    def _left_over(self) -> list[str]:
        kept = [f"an array {t.dtype} {t.shape}" for t in self._alive]
        for ref in self._born.values():
            t = ref()
            if t is not None:
                kept.append(f"{t.name or 'a tensor'} {t.dtype} {t.shape}")
        return kept
