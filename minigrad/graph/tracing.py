"""From a Tensor to a Graph: what the tape keeps, what can be computed from it, and the gradients on the side."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, DTypeError, GraphError, InPlaceError, describe
from minigrad.graph.data import Edge, Graph, GraphNode
from minigrad.sums import unbroadcast
from minigrad.tape import Leaf, Node, ancestors, walk
from minigrad.tensor import Tensor
from minigrad.watch import Call, Watcher, in_words, modules, unwatched, user_line, watching

__all__ = ["as_graph", "record", "trace"]


class _Recorder(Watcher):
    """Writes down how every node is made: `node.call`."""

    def __init__(self) -> None:
        # The array and its copy, by the array's id; both live no longer than somebody else needs them.
        self.copies: dict[int, tuple[weakref.ref[Any], weakref.ref[Any]]] = {}

    def called(self, op: Any, args: Sequence[Any], arrays: Sequence[Any], t: Any, began: float, ended: float) -> None:
        node = t._node
        if node is None or isinstance(node, Leaf):
            return
        values = tuple(
            array if parent is not None and parent.op is not None else self.copy(array)
            for array, parent in zip(arrays, node.parents, strict=True)
        )
        names = tuple(arg.name if isinstance(arg, Tensor) else None for arg in args)
        node.call = Call(user_line(), values, names, in_words(modules.get()))

    def copy(self, array: Any) -> Any:
        """The array as it is now, since it may be written later; the same copy while it stays as it is."""
        if not isinstance(array, np.ndarray):
            return array
        known = self.copies.get(id(array))
        if known is not None and known[0]() is array:
            copy = known[1]()
            if copy is not None and _same(copy, array):
                return copy
        copy = array.copy()
        self.copies[id(array)] = weakref.ref(array), weakref.ref(copy)
        return copy


def _same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.array_equal(a, b, equal_nan=True))


@contextmanager
def record() -> Iterator[None]:
    """Within, every op notes its arguments, the user's line and the nn modules: pictures then show all of it.

    Without it plain numbers, leaves and what the tape keeps for its rules are known, array constants and lines are not.
    Arguments that are no results are copied, and live as long as the graph.

    >>> import minigrad as mg
    >>> x = mg.Tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> with mg.graph.record():
    ...     y = mg.sum(x + np.array([10.0, 20.0]))
    >>> print(mg.graph.trace(y).nodes[1].value)
    [10. 20.]
    """
    with watching(_Recorder()):
        yield


def trace(output: Tensor | Graph, names: Any = None, *, gradients: bool = True) -> Graph:
    """The graph that output was computed by, as data: ops, values, and gradients that no `.grad` is touched for.

    output: a Tensor with a graph. Has it several values, each is given the gradient 1. A Graph is returned as it is.
    names: a module, a dict of names to Tensors, or a list of Tensors with names: leaves, constants or results.
    gradients: False leaves them out.
    Values that nobody kept are computed anew from those that are known, by minigrad's own ops alone: a user's op might
    draw random numbers. The graph stays as it is and can be walked afterwards.
    Raises DTypeError for what is no Tensor, GraphError for a Tensor without a graph or with a released one,
    InPlaceError where a saved array has been written since.

    >>> import minigrad as mg
    >>> apple, tax = mg.Tensor(100.0, requires_grad=True), mg.Tensor(1.1, requires_grad=True)
    >>> graph = mg.graph.trace(apple * 2 * tax, {"apple": apple, "tax": tax})
    >>> [(node.name, float(node.value), node.gradient) for node in graph.nodes][0]
    ('apple', 100.0, array(2.2))
    """
    return as_graph(output, "graph.trace", names=names, gradients=gradients)


def as_graph(
    output: Tensor | Graph, function: str = "graph.trace", *, names: Any = None, gradients: bool = True
) -> Graph:
    """output itself if it is a Graph, else its trace; errors are those of the function that wants it."""
    if isinstance(output, Graph):
        return output
    root = _root(function, output)
    try:
        order = ancestors([root])
    except InPlaceError:
        raise
    except GraphError:
        raise GraphError(
            function,
            f"{output._what()}, whose graph an earlier backward has walked and released",
            "a graph that is still there",
            "trace or draw it before backward(), or call backward(retain_graph=True)",
        ) from None
    order.reverse()
    called = _Names(names)
    values = _values(order, root, output)
    flows = _Flows()
    if gradients:
        flows.run(root, output)
    return _graph(order, values, flows, called, seeded=output.size != 1)


def _root(function: str, output: Any) -> Node:
    if not isinstance(output, Tensor):
        raise DTypeError(
            function,
            describe(output),
            "a Tensor that was computed from others, or a Graph",
            "pass the result of a computation with Tensors, such as loss",
        )
    if output._node is None:
        raise GraphError(
            function,
            f"{output._what()}, which has no graph",
            "a Tensor computed from one that requires a gradient",
            "write x = Tensor(..., requires_grad=True) before the computation, and leave no_grad() out",
        )
    return output._node


class _Names:
    """What the user calls leaves and results, by node, and constants, by their values."""

    def __init__(self, names: Any) -> None:
        self.nodes: dict[Node, str] = {}
        self.constants: list[tuple[Any, str]] = []  # of these, some may be known by a copy alone
        for name, t in _pairs(names):
            if not isinstance(t, Tensor) or not isinstance(name, str):
                raise ArgumentError(
                    "graph.trace: names",
                    f"{name!r} for {describe(t)}",
                    "a module, a dict of names to Tensors, or a list of Tensors that have names",
                    'write names={"x": x, "W": W}',
                )
            if t._node is not None:
                self.nodes[t._node] = name
            else:
                self.constants.append((t._data, name))

    def constant(self, array: Any, own: str | None) -> str:
        """The name of a constant: of the same array, its tensor's own, or of the one equal array that has a name."""
        if isinstance(array, np.ndarray):
            for known, name in self.constants:
                if known is array:
                    return name
            equal = [name for known, name in self.constants if _same(known, array)]
            if own is None and len(equal) == 1:
                return equal[0]
        return own or ""


def _pairs(names: Any) -> list[tuple[Any, Any]]:
    """Names and what they are for, of any form that names= may have."""
    if names is None:
        return []
    if hasattr(names, "named_parameters"):
        return list(names.named_parameters())
    if isinstance(names, Mapping):
        return list(names.items())
    return [(getattr(t, "name", None), t) for t in (names if isinstance(names, (list, tuple)) else [names])]


def _known(node: Node) -> list[Any]:
    """The arguments of a node as far as anybody remembers them, None for the others and for those written since."""
    arrays = _remembered(node)
    call = getattr(node, "call", None)
    if node.guards is not None and not (call is not None and call.arrays):
        guarded = [i for i, x in enumerate(node.op.args) if x in node.op.asks or node.op.keeps]
        for i, guard in zip(range(len(arrays)) if node.op.variadic else guarded, node.guards, strict=True):
            if guard is not None and guard.written > node.birth:
                arrays[i] = None
    return arrays


def _remembered(node: Node) -> list[Any]:
    op = node.op
    call, inputs = getattr(node, "call", None), getattr(node, "inputs", None)
    if call is not None and call.arrays:
        return list(call.arrays)
    if inputs is not None:
        return list(inputs)
    n = len(node.parents)
    if op.variadic:
        return list(node.saved or (None,) * n) if op.asks else [None] * n
    given = getattr(node, "given", None) or (None,) * n
    saved = dict(zip(op.asks, node.saved or (), strict=False))
    return [saved.get(name, number) for name, number in zip(op.args, given, strict=True)]


def _values(order: Sequence[Node], root: Node, output: Tensor) -> dict[Node, Any]:
    """The value of every node that is known or can be computed from what is known."""
    values: dict[Node, Any] = {root: output._data}
    written: set[Node] = set()
    for node in order:
        if node.op is None:
            continue
        for parent, array in zip(node.parents, _known(node), strict=True):
            if parent is not None and array is not None:
                known = values.setdefault(parent, array)
                if known is not array and isinstance(parent, Leaf) and not _same(np.asarray(known), np.asarray(array)):
                    written.add(parent)  # between two ops, of which each saw another value
        saved = dict(zip(node.op.asks, node.saved or (), strict=False))
        if "out" in saved and not node.op.variadic:
            values.setdefault(node, saved["out"])
    for node in order:
        if isinstance(node, Leaf):
            t = node.tensor()
            if node not in values and t is not None and t._node is node and _unwritten(t, order):
                values[node] = t._data
            if node in written:
                values.pop(node, None)
    with np.errstate(all="ignore"):
        for node in order:
            if node not in values and node.op is not None and not node.op.outside:
                known = zip(node.parents, _known(node), strict=True)
                arrays = [array if p is None else values.get(p) for p, array in known]
                if all(array is not None for array in arrays):
                    values[node] = np.asarray(node.op.forward(*arrays))
    # A picture of now: leaves, and what looks at their memory, may be written in place later.
    return {node: np.array(v) if node.op is None or node.op.view else v for node, v in values.items()}


def _unwritten(t: Tensor, order: Sequence[Node]) -> bool:
    """Whether a leaf is as it was when the first op of the graph saw it."""
    first = next((node.birth for node in order if node.op is not None), None)
    return first is None or t._version is None or t._version.written < first


class _Flows(Watcher):
    """What flows back: into each node altogether, and along each edge."""

    def __init__(self) -> None:
        self.totals: dict[Node, Any] = {}
        self.along: dict[Node, list[Any]] = {}
        self.order: list[Node] = []

    def run(self, root: Node, output: Tensor) -> None:
        with unwatched(), watching(self):
            found, _ = walk([root], [np.ones(output.shape, output.dtype)], retain_graph=True)
        self.totals.update((node, np.asarray(g)) for node, g in found.items())

    def before_rule(self, node: Node, dout: Any) -> None:
        self.totals[node] = np.asarray(dout)
        self.order.append(node)

    def after_rule(self, node: Node, dout: Any, grads: Sequence[Any], began: float, ended: float) -> None:
        # Of a wrong rule the walk itself says what is wrong with it.
        with suppress(AttributeError, TypeError, ValueError):
            self.along[node] = [
                None if parent is None or g is None else np.asarray(unbroadcast(g, parent.shape))
                for parent, g in zip(node.parents, grads, strict=True)
            ]


def _default(value: Any, default: Any) -> bool:
    """Whether a parameter is as it is declared, by its value."""
    if value is default:
        return True
    return type(value) is type(default) and not isinstance(value, np.ndarray) and bool(value == default)


def _graph(order: Sequence[Node], values: dict[Node, Any], flows: _Flows, called: _Names, *, seeded: bool) -> Graph:
    """Nodes in forward order, each constant just before the op that first uses it."""
    nodes: list[GraphNode] = []
    edges: list[Edge] = []
    places: dict[Node, int] = {}
    constants: dict[int, int] = {}  # id of an array -> its node: one constant, however often it is used

    def constant(array: Any, name: str | None) -> int:
        if isinstance(array, np.ndarray) and id(array) in constants:
            return constants[id(array)]
        value = None if array is None else np.array(array)
        constants[id(array)] = len(nodes)
        nodes.append(
            GraphNode(
                len(nodes),
                "constant",
                called.constant(array, name),
                shape=None if value is None else value.shape,
                dtype=None if value is None else value.dtype,
                value=value,
            )
        )
        return len(nodes) - 1

    remembered: dict[Node, str] = {}  # names of leaves whose tensors may be gone
    for node in order:
        call = getattr(node, "call", None)
        if call is not None:
            pairs = zip(node.parents, call.names, strict=False)
            remembered.update((parent, name) for parent, name in pairs if parent is not None and name)
    for node in order:
        op, value = node.op, values.get(node)
        gradient = flows.totals.get(node)
        if isinstance(node, Leaf):
            t = node.tensor()
            places[node] = len(nodes)
            name = called.nodes.get(node) or (t.name if t is not None else None) or remembered.get(node, "")
            nodes.append(
                GraphNode(len(nodes), "leaf", name, shape=node.shape, dtype=node.dtype, value=value, gradient=gradient)
            )
            continue
        call = getattr(node, "call", None) or Call(None)
        names = call.names or (None,) * len(node.parents)
        inputs = []
        for parent, array, name in zip(node.parents, _known(node), names, strict=True):
            inputs.append(constant(array, name) if parent is None else places[parent])
        arguments = tuple(op.argument(i) for i in range(len(inputs)))
        places[node] = len(nodes)
        along = flows.along.get(node, [None] * len(inputs))
        edges += [Edge(i, len(nodes), x, g) for i, x, g in zip(inputs, arguments, along, strict=True)]
        nodes.append(
            GraphNode(
                len(nodes),
                "op",
                op.name,
                op.symbol or op.name,
                called.nodes.get(node, ""),
                {k: v for k, v in vars(op).items() if not _default(v, op.fields.get(k))},
                node.shape,
                node.dtype,
                tuple(inputs),
                arguments,
                value,
                gradient,
                tuple(ask for ask in op.asks if ask != "needs" and not ask.endswith("_shape")),
                call.line,
                call.modules,
                op,
            )
        )
    return Graph(
        tuple(nodes), tuple(edges), len(nodes) - 1, seeded, tuple(places[node] for node in flows.order if node.op)
    )
