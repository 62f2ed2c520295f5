"""Graph: a computation graph as plain data, of which pictures, pages and explanations are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from minigrad.op import Op
from minigrad.watch import Line

__all__ = [
    "FORMS",
    "Edge",
    "Graph",
    "GraphNode",
    "Statistics",
    "index_text",
    "not_given",
    "number",
    "numbers",
    "parameters_text",
    "statistics",
    "summary",
]

Array = np.ndarray[Any, Any]

# What a Graph can be turned into. The modules that do it put themselves here, so that this one needs none of them.
FORMS: dict[str, Callable[..., Any]] = {}


@dataclass(frozen=True, eq=False)
class GraphNode:
    """An op's application, a leaf (a tensor that requires a gradient), or a constant.

    number: its place in Graph.nodes, which come in forward order: a node stands after all its inputs.
    kind: "op", "leaf" or "constant".
    name: the op's name; the name of a leaf's or constant's tensor, "" where it has none.
    symbol: what the book draws in the circle, such as "×"; "" for what is no op.
    label: the name of the op's result, where names= gave it one.
    parameters: those of the op that are not their default.
    shape, dtype: those of the value; None for a constant that nobody remembers.
    inputs, arguments: the numbers of the nodes that the op was called on, and what it calls them.
    value: the array; None where it cannot be known any more. Not to be written into.
    gradient: d(output)/d(this), over all paths; None where none flows or none was asked for.
    keeps: what the tape keeps for the rule, such as "out".
    line: the user's line, and modules: the nn modules, that called the op, where recording was on.

    >>> import minigrad as mg
    >>> node = mg.graph.trace(mg.exp(mg.Tensor(0.0, requires_grad=True, name="x"))).nodes[1]
    >>> node.name, node.inputs, node.value.item(), node.keeps
    ('exp', (0,), 1.0, ('out',))
    """

    number: int
    kind: str
    name: str = ""
    symbol: str = ""
    label: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    inputs: tuple[int, ...] = ()
    arguments: tuple[str, ...] = ()
    value: Array | None = None
    gradient: Array | None = None
    keeps: tuple[str, ...] = ()
    line: Line | None = None
    modules: tuple[str, ...] = ()
    op: Op | None = None


@dataclass(frozen=True, eq=False)
class Edge:
    """An arrow from the node `source` to the node `target`, which calls it `argument`.

    gradient: what flows back along this edge alone, of the source's shape; None where nothing does.

    >>> import minigrad as mg
    >>> x = mg.Tensor(3.0, requires_grad=True)
    >>> [(edge.source, edge.target, edge.argument, edge.gradient.item()) for edge in mg.graph.trace(x * x).edges]
    [(0, 1, 'x', 3.0), (0, 1, 'y', 3.0)]
    """

    source: int
    target: int
    argument: str
    gradient: Array | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """A computation graph: what `trace` makes, and everything else in `minigrad.graph` takes.

    nodes: in forward order. edges: by target, then by argument. output: the number of the last node.
    seeded: the output has several values, and each was given the gradient 1.
    order: the numbers of the ops, in the order in which backward visits them.

    >>> import minigrad as mg
    >>> x = mg.Tensor(3.0, requires_grad=True, name="x")
    >>> graph = mg.graph.trace(x * x + 1)
    >>> print(graph)
    0  x         = 3   gradient 6
    1  multiply  = 9   gradient 1   of 0, 0
    2  constant  = 1
    3  add       = 10  gradient 1   of 1, 2
    """

    nodes: tuple[GraphNode, ...]
    edges: tuple[Edge, ...]
    output: int
    seeded: bool = False
    order: tuple[int, ...] = ()

    @cached_property
    def incoming(self) -> list[list[Edge]]:
        """The edges into each node, by its number, in the order of its arguments."""
        found: list[list[Edge]] = [[] for _ in self.nodes]
        for edge in self.edges:
            found[edge.target].append(edge)
        return found

    @cached_property
    def outgoing(self) -> list[list[Edge]]:
        """The edges out of each node, by its number."""
        found: list[list[Edge]] = [[] for _ in self.nodes]
        for edge in self.edges:
            found[edge.source].append(edge)
        return found

    def to_json(self, limit: int = 100) -> str:
        """The graph as a JSON text. limit: larger arrays are given by their least, mean and largest value.

        nan, inf and -inf, which JSON has no numbers for, are strings.
        """
        return str(FORMS["json"](self, limit))

    def to_dot(self) -> str:
        """The graph in Graphviz's language."""
        return str(FORMS["dot"](self))

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart, which GitHub and many editors draw."""
        return str(FORMS["mermaid"](self))

    def to_text(self) -> str:
        """The graph as a table, one node a line; str(graph) and print(graph) give the same."""
        return str(FORMS["text"](self))

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"Graph({len(self.nodes)} nodes, {len(self.edges)} edges)"

    def _repr_svg_(self) -> str:
        return str(FORMS["picture"](self)._repr_svg_())

    def _repr_html_(self) -> str:
        return str(FORMS["picture"](self)._repr_html_())

    def _ipython_display_(self) -> None:
        FORMS["picture"](self)._ipython_display_()


def number(value: Any, digits: int = 5) -> str:
    """A number as the book prints it: `digits` significant digits, no trailing zeros.

    >>> number(650.0), number(0.00669285), number(1e-12), number(float("nan"))
    ('650', '0.0066929', '1e-12', 'nan')
    """
    value = value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    if isinstance(value, bool):
        return str(value)
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        if 0 <= int(exponent) < 7:  # 1234567 in full
            return f"{value:.0f}"
        return f"{mantissa}e{int(exponent)}"
    return "0" if text == "-0" else text


def numbers(array: Any, digits: int = 5) -> str:
    """All values of a small array, in brackets: [[1, 2], [3, 4]]."""
    array = np.asarray(array)
    if not array.ndim:
        return number(array, digits)
    return f"[{', '.join(numbers(part, digits) for part in array)}]"


class Statistics(NamedTuple):
    """The least, mean and largest of the finite values, None where there are none, and how many are nan, inf, -inf."""

    least: Any
    mean: float | None
    largest: Any
    bad: dict[str, int]


def statistics(array: Any) -> Statistics:
    """What an array is like.

    >>> statistics(np.array([1.0, 2.0, np.inf]))
    Statistics(least=1.0, mean=1.5, largest=2.0, bad={'inf': 1})
    """
    array = np.asarray(array)
    is_finite = np.isfinite(array)
    bad = {}
    if not is_finite.all():
        counts = {"nan": np.isnan(array).sum(), "inf": np.isposinf(array).sum(), "-inf": np.isneginf(array).sum()}
        bad = {word: int(n) for word, n in counts.items() if n}
        array = array[is_finite]
    if not array.size:
        return Statistics(None, None, None, bad)
    with np.errstate(all="ignore"):
        mean = float((array / np.float64(array.size)).sum())  # the sum of large values could overflow
    least, largest = array.min().item(), array.max().item()
    if abs(mean) <= 1e-12 * max(abs(least), abs(largest)):
        mean = 0.0  # what rounding has left
    return Statistics(least, mean, largest, bad)


def summary(array: Any, most: int = 6) -> str:
    """An array in few words: in full up to `most` values, else by shape, least, mean and largest value.

    >>> summary(np.array([1.0, 2.5])), summary(np.arange(12.0).reshape(3, 4))
    ('[1, 2.5]', '(3, 4) min 0, mean 5.5, max 11')
    """
    array = np.asarray(array)
    if not array.size:
        return f"{array.shape} empty"
    if array.size <= most:
        return numbers(array)
    found = statistics(array)
    if found.bad:
        counts = ", ".join(f"{n} {word}" for word, n in found.bad.items())
        rest = "" if found.least is None else f", others {number(found.least)} to {number(found.largest)}"
        return f"{array.shape} {counts}{rest}"
    return f"{array.shape} min {number(found.least)}, mean {number(found.mean)}, max {number(found.largest)}"


# Plain numbers that the package's functions pass for an argument that was not given: 1 to multiply by, 0 to add.
_NEUTRAL = {"weight": 1, "pos_weight": 1, "bias": 0, "b": 0, "b_ih": 0, "b_hh": 0, "mask": 0, "a_min": -np.inf}
_NEUTRAL["a_max"] = np.inf


def not_given(graph: Graph, edge: Edge) -> bool:
    """Whether an edge is an argument that was not given; of an op that is not the package's own, nobody knows.

    >>> import minigrad as mg
    >>> loss = mg.softmax_cross_entropy(mg.Tensor([[1.0, 2.0]], requires_grad=True), np.array([0]))
    >>> graph = mg.graph.trace(loss)
    >>> [edge.argument for edge in graph.edges if not_given(graph, edge)]
    ['weight']
    """
    source, op = graph.nodes[edge.source], graph.nodes[edge.target].op
    if op is None or op.outside or source.kind != "constant" or source.name or source.shape != ():
        return False
    neutral = _NEUTRAL.get(edge.argument)
    return neutral is not None and source.value is not None and bool(source.value == neutral)


def index_text(index: Any) -> str:
    """An index as one writes it, with its brackets; larger arrays in it by their shape.

    >>> index_text((slice(None), slice(8, 12))), index_text(-1), index_text((..., None, slice(None, None, 2)))
    ('[:, 8:12]', '[-1]', '[..., None, ::2]')
    >>> index_text(np.array([0, 2])), index_text(np.ones(20, bool)), index_text(())
    ('[[0, 2]]', '[bool (20,)]', '[()]')
    """
    parts = index if isinstance(index, tuple) else (index,)
    return f"[{', '.join(map(_part, parts)) or '()'}]"


def _part(part: Any) -> str:
    if isinstance(part, slice):
        start, stop, step = ("" if x is None else str(x) for x in (part.start, part.stop, part.step))
        return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"
    return "..." if part is ... else _short(part)


def parameters_text(node: GraphNode) -> str:
    """The parameters of an op as a call has them; larger arrays by their shape.

    >>> import minigrad as mg
    >>> x = mg.Tensor([[1.0, 2.0]], requires_grad=True)
    >>> parameters_text(mg.graph.trace(mg.sum(x, axis=1, keepdims=True)).nodes[1])
    'axis=1, keepdims=True'
    """
    return ", ".join(f"{key}={_short(value)}" for key, value in node.parameters.items())


def _short(value: Any) -> str:
    if isinstance(value, (np.ndarray, list)):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            return numbers(array) if array.size <= 6 else f"{array.dtype} {array.shape}"
    parts = value if isinstance(value, tuple) else (value,)
    return index_text(value) if any(isinstance(part, slice) or part is ... for part in parts) else repr(value)
