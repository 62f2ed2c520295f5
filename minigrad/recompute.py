"""checkpoint: memory for time. What a function computes on its way is not kept, but computed again in backward.

The function runs once with its operations recorded. What that graph was computed from (arguments, parameters that the
function reads, results of earlier ops) become the parents of one node, and the graph itself is dropped. The node's
rule runs the function again and walks the new graph, which is cut off where it meets those parents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from itertools import compress
from typing import Any

import numpy as np

from minigrad.autograd import enable_grad
from minigrad.errors import DTypeError, GraphError, InPlaceError, describe
from minigrad.op import Op
from minigrad.random import lending, repeatable
from minigrad.tape import Leaf, Node, Version, is_recording, run, tick, walk
from minigrad.tensor import Tensor, plain, wrap
from minigrad.watch import unwatched

__all__ = ["checkpoint", "is_second_run"]

# Two runs may differ in their last bits: so do products of BLAS with the number of its threads. By more than so many
# units of rounding of the largest value they differ only if they were computed from something else.
_ROUNDING = 1000


def checkpoint(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """f(*args, **kwargs), without keeping what it computes on its way: backward runs f again, for the same gradients.

    f: a function or module that gives a Tensor, or a tuple, list or dict with Tensors in it; anything else in its
    result is passed on as it is. Gradients flow to the arguments and to all that f reads besides: parameters, and
    Tensors of the code around it. They are those of f(*args, **kwargs) to the last bit, except that three or more
    gradients of one tensor, from within and from without, may be added up in another order.

    The second run repeats the draws from the default generator, and leaves that where it is; BatchNorm follows a batch
    once. It repeats whatever else f does: what is to be done once, such as counting or printing, can be left to the
    first run by asking minigrad.recompute.is_second_run(). Checkpoints may be nested, and under no_grad() the call is
    a plain one. For derivatives of derivatives the graph keeps what the second run computed. Of a network of n equal
    layers in sqrt(n) blocks, the results of about 2 sqrt(n) layers are in memory at once; the forward pass is paid
    twice.

    Raises DTypeError for an f that cannot be called, InPlaceError where f writes into a tensor that it reads, and, in
    backward, where such a tensor has been written since. In backward, GraphError where the second run reads or gives
    something else than the first, as with a generator of f's own, or a loop's variable that has moved on.

    >>> import minigrad as mg
    >>> x, w = Tensor([1.0, 2.0], requires_grad=True), Tensor(3.0, requires_grad=True)
    >>> y = checkpoint(lambda x: mg.exp(mg.sin(w * x)), x)
    >>> y.sum().backward()
    >>> x.grad, w.grad
    (array([-3.4201157 ,  2.17831613]), array(0.31217219))
    """
    if not callable(f):
        raise DTypeError("checkpoint: f", describe(f), "a function", "write checkpoint(f, x), which calls f(x) itself")
    if not is_recording() or lending.get() is not None:  # a program that is compiled lays out its memory itself
        return f(*args, **kwargs)
    again = _Again(f, args, kwargs)
    began = tick()
    before = run.set(max(run.get(), 1))
    try:
        with repeatable() as draws:
            result = f(*args, **kwargs)
    finally:
        run.reset(before)
    again.state = draws.state
    outs = list(_tensors(result))
    again.places = [i for i, t in enumerate(outs) if t._node is not None and t._node.op and t._node.birth > began]
    if again.places:
        again.replaces([outs[i] for i in again.places], began)
    return result


def is_second_run() -> bool:
    """Whether the code that asks is being run again, by a checkpoint in backward.

    >>> is_second_run()
    False
    """
    return run.get() == 2


class Checkpoint(Op):
    """out = f(*args), computed again for its gradient"""

    f: str

    def forward(self, *x: Any) -> Any:
        raise GraphError(
            str(self), "its arguments alone", "the function, which the node does not keep", "call the function itself"
        )

    def backward(self, dout: Any, *x: Any) -> Any:
        again, needs = x
        carried = _carried.get()
        if carried is not None and carried[0] is again:
            _carried.set(None)
            return carried[1]
        return again.gradients(dout, needs)[0]

    def wire(self, node: Node, saved: tuple[Any, ...]) -> tuple[Any, ...]:
        return saved

    def carry(self, chosen: Any, dout: Any, saved: tuple[Any, ...], parents: tuple[Node | None, ...]) -> Any:
        again, needs = saved
        grads, entries = again.gradients(dout, needs, chosen)
        _carried.set((again, grads))  # for backward, whose turn is next, and which would run f once more
        return entries


# For those who look at nodes: it has saved none of its parents' arrays, and its forward is not theirs to call.
Checkpoint.asks, Checkpoint.outside = (), True

_carried: ContextVar[tuple[Any, Any] | None] = ContextVar("minigrad_carried", default=None)


class Part(Op):
    """out = one of the results of a checkpoint, whose node stands for all of them in a row"""

    i: int
    shapes: tuple[tuple[int, ...], ...]
    dtype: np.dtype[Any]
    moves = True

    def forward(self, x: Any) -> Any:
        return _apart(x, self.shapes)[self.i]

    def backward(self, dout: Any) -> Any:
        """dout in its place in the row; -0.0 elsewhere, as x + -0.0 is x to the last bit; then which part it is."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        which = np.where(np.arange(len(sizes)) == self.i, 1.0, -0.0)
        row = np.full(sum(sizes[: self.i]), -0.0), np.reshape(dout, (-1,)), np.full(sum(sizes[self.i + 1 :]), -0.0)
        return np.concatenate([part.astype(self.dtype) for part in (*row, which)])


def _apart(row: Any, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """The parts of a row, each in its own shape."""
    parts, start = [], 0
    for shape in shapes:
        stop = start + int(np.prod(shape))
        parts.append(np.reshape(row[start:stop], shape))
        start = stop
    return parts


class Same(Op):
    """out = x, as the end of a graph that goes on outside it"""

    moves = True

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, dout: Any) -> Any:
        return dout


class _Again:
    """What it takes to run f again, and to see that it does the same."""

    __slots__ = ("args", "began", "f", "kwargs", "nodes", "outs", "places", "read", "seen", "state", "versions")

    nodes: tuple[Node, ...]  # what f has computed its results from
    read: list[tuple[Leaf, Any]]  # the leaves among them, with the array that f met there
    outs: list[Any]  # arrays of the results; alive anyway where the next op has asked for them
    places: list[int]  # which Tensors in f's result these are: those that f has computed
    state: Mapping[str, Any] | None  # of the default generator at the first draw; None: there was none
    versions: list[Version]  # of the Tensors among the arguments, and of the leaves
    began: int  # when f began to run,
    seen: int  # and since when nobody may write into what it has read

    def __init__(self, f: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.f, self.args, self.kwargs = f, _copied(args), _copied(kwargs)  # f may do x += 1, the caller xs.append(x)

    def replaces(self, outs: Sequence[Tensor], began: int) -> None:
        """Put one node in place of the graph that f has recorded for outs since began."""
        self.began = self.seen = began
        self.outs = [t._data for t in outs]
        self.nodes = _between([t._node for t in outs], began)[1]
        self.read = []
        versions = {t._version for t in _tensors((self.args, self.kwargs))}
        for node in self.nodes:
            if isinstance(node, Leaf) and (t := node.tensor()) is not None:
                self.read.append((node, t._data))
                if node.birth < began:  # else made by f when it first ran, which may have filled it afterwards
                    versions.add(t._version)
        self.versions = [version for version in versions if version is not None]
        self._compare_versions(" while f ran")
        self.seen = tick()
        op, saved = Checkpoint(_name(self.f)), (self, self.nodes)
        if len(outs) == 1:
            (t,) = outs
            t._node = _node(op, self.nodes, saved, t.shape, t.dtype)
            return
        shapes, dtype = tuple(t.shape for t in outs), np.result_type(*self.outs)
        row = _node(op, self.nodes, saved, (sum(t.size for t in outs) + len(outs),), dtype)
        for i, t in enumerate(outs):
            t._node = _node(Part(i, shapes, dtype), (row,), (), t.shape, t.dtype)

    def _compare_versions(self, when: str) -> None:
        for version in self.versions:
            if version.written > self.seen:
                raise _written(self.f, version.what + when)

    def gradients(self, dout: Any, needs: Sequence[Any], chosen: Any = None) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """dout times f's derivative by each of the nodes, None where it is not needed, and which entries have a part.

        chosen: which entries of out have a part in the result, as in Op.carry; None for all.
        """
        began, differentiable = tick(), isinstance(dout, Tensor)
        roots = self._run(began)
        # The new graph is cut off where it meets the nodes: the walk finds an end in place of each, and goes no
        # further. Where gradients are to be differentiated, the end leads on to the node, for a walk over them.
        ends: dict[Node | None, Node] = {}
        for node in self.nodes:
            op, parents = (Same(), (node,)) if differentiable else (None, ())
            ends[node] = _node(op, parents, (), node.shape, node.dtype, began)
        for node in _between(roots, began)[0]:
            before, saved = node.parents, node.saved
            if saved is not None:  # None: f has walked it itself, and the walk below says so
                node.parents = after = tuple([ends.get(parent, parent) for parent in before])
                node.saved = tuple([after if value is before else value for value in saved])
        douts, parts = [dout], None if chosen is None else [chosen]
        if len(roots) > 1:
            shapes = [out.shape for out in self.outs]
            there = plain(dout)[-len(roots) :] > 0
            douts = [g.astype(out.dtype) for g, out in zip(_apart(dout, shapes), self.outs, strict=True)]
            douts = list(compress(douts, there))
            parts = None if chosen is None else list(compress(_apart(chosen, shapes), there))
            roots = list(compress(roots, there))
        entries = None if parts is None else dict(zip(roots, parts, strict=True))
        targets = [ends[node] for node, need in zip(self.nodes, needs, strict=True) if need]
        with unwatched(), enable_grad():
            found, _ = walk(
                roots, douts, targets, create_graph=differentiable, retain_graph=differentiable, chosen=entries
            )
        found_at = [ends[node] for node in self.nodes]
        return tuple(map(found.get, found_at)), tuple(map((entries or {}).get, found_at))

    def _run(self, began: int) -> list[Node]:
        """Run f again; the nodes of its results, or an error where it has not done the same as at first."""
        self._compare_versions(", and f is to run again")
        for leaf, array in self.read:
            t = leaf.tensor()
            if t is not None and t._data is not array:
                name = f"{t.name or 'a tensor'} ({describe(array)})"
                raise _written(self.f, f"{name} was given other values by an assignment to .data")
        draws = nullcontext() if self.state is None else repeatable(self.state)
        before = run.set(2)
        try:
            with enable_grad(), unwatched(), draws, np.errstate(all="ignore"):  # an overflow has been reported before
                result = self.f(*_copied(self.args), **_copied(self.kwargs))
        finally:
            run.reset(before)
        outs = list(_tensors(result))
        if len(outs) <= self.places[-1]:
            raise self._differs(f"{len(outs)} Tensors in its second result, {self.places[-1] + 1} or more in its first")
        roots: list[Node] = []
        for i, first in zip(self.places, self.outs, strict=True):
            out, node = outs[i]._data, outs[i]._node
            if node is None or node.birth < began:
                raise self._differs("a result that it did not compute in its second run")
            if not _alike(first, out):
                raise self._differs(f"other values ({describe(first)} first, then {describe(out)})")
            roots.append(node)
        met = {node for node in _between(roots, began)[1] if node.birth < began}
        if unknown := met.difference(self.nodes):
            raise self._differs(f"in its second run {_what(unknown)} that it did not read in its first")
        if left_out := {node for node in self.nodes if node.birth < self.began} - met:
            raise self._differs(f"in its second run nothing of {_what(left_out)}, which it read in its first")
        return roots

    def _differs(self, got: str) -> GraphError:
        return GraphError(
            f"checkpoint: f={_name(self.f)}",
            f"an f that gives or reads {got}",
            "the same in both runs, forward and backward",
            "pass what changes as an argument, as in checkpoint(layer, x), and draw from the default generator",
        )


def _written(f: Any, got: str) -> InPlaceError:
    return InPlaceError(
        f"checkpoint: f={_name(f)}",
        got,
        "tensors that stay as they are until backward() has run f again",
        "write before checkpoint(...) or after backward(), or compute a new tensor",
    )


def _what(nodes: Iterable[Node]) -> str:
    """One of these nodes, in the words of an error message."""
    node = max(nodes, key=lambda node: node.birth)
    t = node.tensor() if isinstance(node, Leaf) else None
    name = f"a result of {node.op}" if node.op is not None else (t.name if t is not None else None) or "a leaf"
    return f"{name} ({node.dtype} {node.shape})"


def _name(f: Any) -> str:
    return getattr(f, "__qualname__", None) or type(f).__name__


def _node(op: Any, parents: Any, saved: Any, shape: Any, dtype: Any, birth: int | None = None) -> Node:
    node = object.__new__(Node)
    node.op, node.parents, node.saved, node.shape, node.dtype = op, parents, saved, shape, dtype
    node.birth, node.guards = tick() if birth is None else birth, None
    return node


def _between(roots: Iterable[Node | None], began: int) -> tuple[list[Node], tuple[Node, ...]]:
    """The nodes that were born since began, from roots on; and those which they meet there: older ones, and leaves."""
    order = [node for node in dict.fromkeys(roots) if node is not None]
    seen: set[Node | None] = {None, *order}
    older: list[Node] = []
    for node in order:  # grows while it is read
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                (older if parent.op is None or parent.birth < began else order).append(parent)
    return order, tuple(older)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The Tensors in value, also inside tuples, lists and dicts; each once."""
    seen: dict[int, Tensor] = {}
    queue = [value]
    for item in queue:  # grows while it is read
        if isinstance(item, Tensor):
            seen.setdefault(id(item), item)
        elif isinstance(item, (tuple, list)):
            queue.extend(item)
        elif isinstance(item, dict):
            queue.extend(item.values())
    return iter(seen.values())


def _copied(value: Any) -> Any:
    """value with a Tensor of its own for each Tensor, on the same memory and in the same graph."""
    if isinstance(value, Tensor):
        if value._version is None and value._node is None:
            value._version = Version()  # so that a write into it is seen
        t = wrap(value._data, value._node, value._version)
        t.name = value.name
        return t
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)([_copied(item) for item in value])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_copied(item) for item in value])
    return value


def _alike(x: Any, y: Any) -> bool:
    """Whether x and y are the same up to rounding."""
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    if np.array_equal(x, y, equal_nan=True):
        return True
    with np.errstate(all="ignore"):
        finite = np.isfinite(x)
        if not np.array_equal(finite, np.isfinite(y)) or not np.array_equal(x[~finite], y[~finite], equal_nan=True):
            return False
        most = _ROUNDING * np.finfo(x.dtype).eps * np.max(np.abs(x), initial=0, where=finite)
        return bool(np.all(np.abs(x - y)[finite] <= most))
