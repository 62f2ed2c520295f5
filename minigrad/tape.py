"""The graph and the only walk over it.

A node is one application of an op: the op, the nodes it came from, the arrays its rule asked for, and
its birth number. A node is born after its parents, so births are a topological order, and a walk is:
collect what is reachable with a loop, sort by birth, visit the youngest first. Nothing here knows Tensor.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from minigrad.errors import GradientError, GraphError, InPlaceError, MinigradError, describe
from minigrad.selection import choose, of_chosen, selects
from minigrad.standin import Standin, holds
from minigrad.sums import unbroadcast
from minigrad.watch import Call, here, now

__all__ = [
    "FOREIGN",
    "KeepingNode",
    "Leaf",
    "Node",
    "Version",
    "accumulate",
    "ancestors",
    "is_recording",
    "own",
    "recording",
    "run",
    "tick",
    "walk",
]

# Whether operations are recorded. A context variable, so that threads and asyncio tasks each have their own.
recording: ContextVar[bool] = ContextVar("minigrad_recording", default=True)
is_recording = recording.get

# Which run of its function a checkpoint is in: 0 outside all checkpoints, 1 in forward, 2 in backward.
run: ContextVar[int] = ContextVar("minigrad_run", default=0)

# One clock for births of nodes and for writes into leaves: a node born before a write saw the old value.
tick = itertools.count(1).__next__
_birth = attrgetter("birth")


class Version:
    """When an array was last written in place; shared by all tensors that look at the same memory."""

    __slots__ = ("by", "written")

    latest: ClassVar[int] = 0  # of all writes: a node born later need not be looked at

    def __init__(self) -> None:
        self.written = 0
        self.by: tuple[Any, ...] = ()

    def touch(self, how: str, name: str | None, array: np.ndarray[Any, Any]) -> None:
        """Note that array, that of the tensor of this name, has been written, and how."""
        self.written = Version.latest = tick()
        self.by = (name or "a tensor", array.dtype, array.shape, how)

    @property
    def what(self) -> str:
        """The last write in the words of an error message."""
        return "{} ({} {}) was written by {}".format(*self.by)


# The version of memory that a recorded result owns, in the hands of a tensor outside the graph: such a tensor
# writes into a copy, since the rules that saved this memory could not see the write.
FOREIGN = Version()


class Node:
    """One application of an op.

    op: the op, whose `backward` is the rule.
    parents: a node for each argument of forward, None for an argument that needs no gradient.
    saved: the values the rule asked for, in the rule's order; None once they have been released.
    birth: a number that grows from node to node.
    shape, dtype: those of the op's result, and so of its gradient.
    guards: Versions of the saved arguments that can be written in place, or None.
    given: plain numbers among the arguments that the rule did not ask for; set where there are any.
    call: how the op was called, a watch.Call; set where somebody watched and wrote it down.
    """

    __slots__ = ("birth", "call", "dtype", "given", "guards", "op", "parents", "saved", "shape")

    op: Any
    parents: tuple[Node | None, ...]
    saved: tuple[Any, ...] | None
    birth: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    guards: tuple[Version | None, ...] | None
    given: tuple[Any, ...]
    call: Call


class KeepingNode(Node):
    """A node of an op that keeps something of forward for its rule, and its inputs for the second order."""

    __slots__ = ("inputs",)

    inputs: tuple[Any, ...] | None


class Leaf(Node):
    """Where a graph begins: a tensor of the user's that requires a gradient. Holds `.grad`, and knows its tensor."""

    __slots__ = ("grad", "tensor")

    grad: np.ndarray[Any, Any] | None
    tensor: weakref.ref[Any]

    def __init__(self, tensor: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.tensor = weakref.ref(tensor)
        self.op = None
        self.parents = ()
        self.saved = ()
        self.birth = tick()
        self.shape = shape
        self.dtype = dtype
        self.guards = None
        self.grad = None


def ancestors(roots: Iterable[Node]) -> list[Node]:
    """Every node reachable from roots, roots included, youngest first.

    Raises GraphError where a node has already been released by an earlier walk.
    """
    order = list(dict.fromkeys(roots))
    seen: set[Node | None] = {None, *order}
    see: Callable[[Any], None] = seen.add
    push: Callable[[Any], None] = order.append
    for node in order:  # grows while it is read
        if node.saved is None:
            if node.parents:  # not released but spoiled by a write
                for guard in filter(None, node.guards or ()):
                    raise _overwritten(node.op, guard)
            raise GraphError(
                "backward",
                f"a graph that an earlier backward, finished or failed, has already walked and released (at {node.op})",
                "a graph that is walked once",
                "run the forward computation again, or call backward(retain_graph=True) the first time",
            )
        for parent in node.parents:
            if parent not in seen:
                see(parent)
                push(parent)
    order.sort(key=_birth, reverse=True)
    return order


@np.errstate(under="ignore")
def walk(
    roots: Sequence[Node],
    douts: Sequence[Any],
    targets: Iterable[Node] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    chosen: dict[Node, Any] | None = None,
) -> tuple[dict[Node, Any], set[Node]]:
    """Back-propagate douts from roots; returns the gradient of every leaf, or of every target reached.

    targets: only what lies between roots and these nodes is computed. None: all leaves.
    create_graph: rules get Tensors instead of arrays, so that the gradients have a graph of their own.
    retain_graph: keep saved arrays for another walk; otherwise they go as soon as they have been used.
    chosen: which entries of the roots have a part in a result further down; those of the targets are filled in.
    The second result holds the nodes whose gradient is an array that this walk made for itself.
    A product of small gradients that underflows is as near as a float can come, and no error under
    np.errstate. Nothing but the graph is changed; an exception from a rule leaves every `.grad` as it was.
    """
    order: list[Any] = ancestors(roots)
    wanted: set[Node] | None = None
    useful: set[Node] = set()
    if targets is not None:
        wanted, useful = set(targets), set(targets)
        for node in reversed(order):
            if not useful.isdisjoint(node.parents):
                useful.add(node)
        order = [node for node in order if node in useful]
    if chosen is not None:
        return _visit(order, roots, douts, wanted, useful, chosen, create_graph, not retain_graph)
    if not selects(order):
        return _visit(order, roots, douts, wanted, useful, None, create_graph, not retain_graph)
    try:
        # What is not selected matters only where something is not finite: a look at the gradients costs next to
        # nothing, and to carry booleans up a chain of 10 products of 1000 values would take twice as long.
        if not create_graph and not here():
            with np.errstate(all="ignore"):
                found, owned = _visit(order, roots, douts, wanted, useful, None, create_graph, False)
                if all(holds(np.isfinite(np.add.reduce(g, None))) for g in found.values()):
                    return found, owned
        return _visit(order, roots, douts, wanted, useful, {}, create_graph, False)
    finally:
        if not retain_graph:
            for node in order:
                _release(node)


def _release(node: Any) -> None:
    """Let go of what a node holds: its rule has run."""
    if node.op is not None:
        node.saved, node.parents = None, ()
        if type(node) is KeepingNode:
            node.inputs = None


def _visit(
    order: Sequence[Any],
    roots: Sequence[Node],
    douts: Sequence[Any],
    wanted: set[Node] | None,
    useful: set[Node],
    chosen: dict[Node, Any] | None,
    create_graph: bool,
    release: bool,
) -> tuple[dict[Node, Any], set[Node]]:
    """Run the rules of the nodes, in their order.

    wanted: the nodes whose gradient is asked for, None for all leaves; useful: those on the way to them.
    chosen: filled with the entries of nodes that have a part in the result; None carries nothing.
    """
    found: dict[Node, Any] = {}
    pending: dict[Node, Any] = {}
    for root, dout in zip(roots, douts, strict=True):
        pending[root] = pending[root] + dout if root in pending else dout
    owned: set[Node] = set()
    looking_on = here()
    for watcher in looking_on:
        watcher.begins(roots)
    special = bool(looking_on) or chosen is not None
    reached = None  # which entries of the parents have a part, where that is carried
    take = pending.pop
    last_write = Version.latest

    for node in order:
        dout = take(node, None)
        if dout is None:
            continue
        if dout.dtype is not node.dtype and dout.dtype != node.dtype:
            dout = dout.astype(node.dtype)
        op = node.op
        if wanted is not None and node in wanted:
            found[node] = dout
            owned.discard(node)  # the same array may go on to the node's own rule
        if op is None:
            if wanted is None:
                found[node] = dout
            for watcher in looking_on:
                watcher.at_leaf(node, dout)
            continue
        parents, saved = node.parents, node.saved
        if node.birth < last_write and node.guards is not None and (create_graph or not op.spares):
            for guard in node.guards:
                if guard is not None and guard.written > node.birth:
                    raise _overwritten(op, guard)
        if wanted is not None:
            kept = tuple([parent if parent in useful else None for parent in parents])
            saved = tuple([kept if value is parents else value for value in saved])
            parents = kept
        if create_graph:
            saved = op.wire(node, saved)
        try:
            if special:
                for watcher in looking_on:
                    watcher.before_rule(node, dout)
                reached = None
                if chosen is not None and (op.selects or node in chosen):
                    reached = op.carry(chosen.pop(node, None), dout, saved, parents)
                began = now()
            n = len(saved)
            if reached is not None:
                grads = of_chosen(op.backward, reached, dout, saved, create_graph)
            # Spelled out, since `backward(dout, *saved)` costs 80 ns more a node: a tenth of the walk's overhead.
            elif n == 3:
                grads = op.backward(dout, saved[0], saved[1], saved[2])
            elif n == 0:
                grads = op.backward(dout)
            elif n == 1:
                grads = op.backward(dout, saved[0])
            elif n == 2:
                grads = op.backward(dout, saved[0], saved[1])
            else:
                grads = op.backward(dout, *saved)
        except Exception as error:
            if not isinstance(error, MinigradError):
                error.add_note(f"in backward of {op}, with dout {describe(dout)}")
            raise
        if type(grads) is not tuple:
            grads = (grads,)
        if len(grads) != len(parents):
            raise _wrong_count(op, grads, len(parents))
        if special:
            ended = now()
            for watcher in looking_on:
                watcher.after_rule(node, dout, grads, began, ended)
        if release:  # as in _release, without a call
            node.saved = None
            node.parents = ()
            if type(node) is KeepingNode:
                node.inputs = None
        i = 0
        for parent in parents:
            if parent is not None:
                g = grads[i]
                try:
                    if g.shape != parent.shape:
                        g = _fit(op, i, g, parent.shape)
                except AttributeError:
                    if g is None:
                        i += 1
                        continue
                    raise _not_an_array(op, i, g, parent.shape) from None
                if chosen is not None:
                    choose(chosen, parent, reached and reached[i], parent not in pending)
                if parent not in pending:
                    pending[parent] = g
                elif parent in owned:
                    total = pending[parent]
                    total += g  # into an array that this walk made two lines below, so nobody else sees it
                else:
                    pending[parent] = total = pending[parent] + g
                    if total.shape and not create_graph and total.dtype == parent.dtype:  # no number: += makes another
                        owned.add(parent)
            i += 1
    return found, owned


def _references_of_a_local() -> int:
    g = np.empty(0)
    return sys.getrefcount(g)


_ALONE = _references_of_a_local()  # 2 on CPython 3.11: the variable and the call's own argument


def own(found: dict[Node, Any], owned: set[Node]) -> dict[Node, Any]:
    """The gradients of a walk, each in an array that nobody else refers to. Empties `found`."""
    result = {}
    while found:
        node, g = found.popitem()
        # Copied unless the walk made it, or nothing else refers to it.
        if not isinstance(g, (np.ndarray, Standin)) or (
            node not in owned and (g.base is not None or sys.getrefcount(g) > _ALONE)
        ):
            g = np.copy(g)
        result[node] = g
    return result


def accumulate(roots: Sequence[Node], douts: Sequence[Any], *, retain_graph: bool = False) -> None:
    """Walk from roots and add what arrives at each leaf to its `.grad`, all of them or, after an error, none."""
    if run.get():
        raise GraphError(
            "backward",
            "a call in a function that checkpoint runs, and will run again",
            "a function that computes, and leaves every .grad as it is: the second run would add to it once more",
            "call backward() outside, or use minigrad.grad, which returns the gradients",
        )
    found, owned = walk(roots, douts, retain_graph=retain_graph)
    fresh = own(found, owned)
    with _accumulating:
        for leaf, g in fresh.items():
            assert isinstance(leaf, Leaf)
            if leaf.grad is None:
                leaf.grad = g
            else:
                leaf.grad += g


# Two threads may reach the same leaf; a child forked while the lock was held must not wait for it.
_accumulating = threading.Lock()


def _new_lock() -> None:
    global _accumulating
    _accumulating = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def _fit(op: Any, i: int, g: Any, shape: tuple[int, ...]) -> Any:
    """g summed to `shape` for an elementwise op; GradientError for any other rule, or where that cannot be."""
    try:
        if op.elementwise:
            return unbroadcast(g, shape)
    except ValueError:
        pass
    raise GradientError(
        f"{op}.backward",
        f"the gradient of argument {op.argument(i)} has shape {g.shape}",
        f"{shape}, the shape of {op.argument(i)} itself",
        f"reshape or sum the gradient of {op.argument(i)} in the rule",
    )


def _wrong_count(op: Any, grads: tuple[Any, ...], n: int) -> GradientError:
    return GradientError(
        f"{op}.backward",
        f"{len(grads)} gradient{'s' if len(grads) != 1 else ''}",
        f"{n}, one for each argument of forward",
        "return a tuple with one array per argument, None for one that has no gradient",
    )


def _not_an_array(op: Any, i: int, g: Any, shape: tuple[int, ...]) -> GradientError:
    return GradientError(
        f"{op}.backward",
        f"the gradient of argument {op.argument(i)} is a {type(g).__name__}",
        f"an array of shape {shape}",
        "return dout times the local derivative",
    )


def _overwritten(op: Any, guard: Version) -> InPlaceError:
    return InPlaceError(
        f"{op}.backward",
        f"{guard.what}, and {op} needs it as it was in forward",
        "arrays that stay as they are between forward and backward",
        "call backward() before the write, or run forward again after it",
    )
