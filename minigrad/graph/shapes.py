"""Shapes and arrows: what of a graph is drawn, with which words on it, before anything has a place.

Circles are ops with a short symbol, boxes those with a long one or many arguments, or folded nodes; leaves and
constants stand as text at the tail of their arrow. Every link is an arrow forward and, where a gradient flows, one back
below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minigrad.graph.collapse import Fold
from minigrad.graph.data import Edge, Graph, GraphNode, index_text, not_given, number, parameters_text, statistics
from minigrad.graph.layout import Box
from minigrad.graph.svg import shorten, width
from minigrad.ops.elementwise import Divide

__all__ = ["APART", "CORNER", "LINE", "RADIUS", "SMALL_LINE", "UNDER", "Arrow", "Lines", "Shape", "Shapes", "lines"]

RADIUS = 19.0
APART = 3.5  # of an arrow forward, and of one back, from the line in the middle of both
LINE, SMALL_LINE = 15.0, 13.0
UNDER = 19.0  # from a node to the first line below it, which no arrow of the node reaches
CORNER = 6.0  # of a box, from the top and the bottom, in which no arrow ends
_MANY = 6  # links between the same two boxes that are drawn one by one
_FAR = 5  # steps between the first and the last use, from which on a leaf is drawn at each use


@dataclass(frozen=True)
class Lines:
    """What stands above or below an arrow, line by line. bad: something is nan or infinite."""

    lines: tuple[str, ...] = ()
    bad: bool = False
    summarised: bool = False

    @property
    def width(self) -> float:
        return max((width(line) for line in self.lines), default=0.0)


def lines(array: Any, name: str = "") -> Lines:
    """An array as it stands at an arrow: a number, a small array row by row, else shape and min | mean | max.

    >>> lines(np.array([[1.0, -2.5], [0.25, 4.0]])).lines
    ('[1, −2.5]', '[0.25, 4]')
    >>> lines(np.arange(12.0)).lines
    ('(12,)', '0 | 5.5 | 11')
    """
    if array is None:
        return Lines((f"{name} = ?" if name else "?",))
    array = np.asarray(array)
    found = statistics(array)
    rows: tuple[str, ...] = ()
    summarised = False
    if not array.size:
        rows = (f"{array.shape}", "empty")
    elif not array.ndim:
        rows = (number(array),)
    elif array.size <= 6 and array.ndim <= 2:
        rows = tuple(f"[{', '.join(number(x, 4) for x in row)}]" for row in np.atleast_2d(array))
    if not rows or max(map(len, rows)) > 30:
        if found.bad:
            rows = (f"{array.shape}", ", ".join(f"{count} {word}" for word, count in found.bad.items()))
        else:
            rows = (f"{array.shape}", " | ".join(number(x, 2) for x in found[:3]))
            summarised = True
    if name:
        rows = (f"{name} = {rows[0]}",) if len(rows) == 1 else (name, *rows)
    return Lines(tuple(row.replace("-", "−") for row in rows), bool(found.bad), summarised)


@dataclass
class Shape:
    """A node, a fold, or the end of the output's arrow, as it is drawn.

    kind: "circle", "box", "fold", "leaf" or "end". total: the gradient where it is the sum of several.
    """

    kind: str
    text: str
    below: str = ""
    firm: int = 3
    node: GraphNode | None = None
    fold: Fold | None = None
    total: Lines = Lines()
    up: float = RADIUS  # how far it reaches above its main line, and below
    down: float = RADIUS
    arguments: float = 0.0  # the room, inside a box, for the names of its arguments

    @property
    def box(self) -> Box:
        """Its room in the layout."""
        if self.kind == "end":
            return Box(width(self.text, 15), 10, 10)
        if self.kind == "leaf":
            below = LINE * len(self.total.lines)
            return Box(max(width(self.text, 15), self.total.width) + 2, 10, 10 + below, self.firm)
        below = 0.0
        if self.kind != "fold":
            below = LINE * (bool(self.below) + len(self.total.lines))
        wide = max(2 * RADIUS, width(self.below, 11), self.total.width)
        if self.kind != "circle":
            wide = max(width(self.text, 16) + self.arguments + 22, width(self.below, 11) + 16, self.total.width)
        return Box(wide, self.up, self.down + (below and below + UNDER - 10))


@dataclass
class Arrow:
    """A link as it is drawn: the edges that it stands for, what is above it and what below."""

    source: int
    target: int
    edges: tuple[Edge, ...]
    above: Lines
    below: Lines
    back: bool
    argument: str
    weight: int

    @property
    def room(self) -> float:
        """Half of what it needs where it arrives, beside others."""
        return 7.5 if self.back else 6.5 if self.argument else 5.0

    @property
    def label(self) -> Box:
        """Its room in the layout."""
        above, below = len(self.above.lines), len(self.below.lines)
        wide = max(self.above.width, self.below.width)
        up = APART + 5 + LINE * above if above else 6
        down = APART + 5 + LINE * below if below else 6
        return Box(max(wide + 8, 26), up, down, self.weight)


class Shapes:
    """The shapes and arrows of one graph. at: the shape of each node that has one of its own.

    found: nodes that are folded. pinned: numbers of leaves and constants that have one shape for all their uses.
    """

    def __init__(
        self, graph: Graph, found: Sequence[Fold] = (), pinned: Iterable[int] = (), *, values: bool, gradients: bool
    ) -> None:
        self.graph, self.values, self.gradients = graph, values, gradients
        self.shapes: list[Shape] = []
        self.arrows: list[Arrow] = []
        self.at: dict[int, int] = {}
        self.left_out: set[tuple[int, str]] = set()  # arguments that are not drawn
        self._make(found, set(pinned))
        self.summarised = any(x.summarised for arrow in self.arrows for x in (arrow.above, arrow.below))

    def _make(self, found: Sequence[Fold], pinned: set[int]) -> None:
        graph = self.graph
        for fold in found:
            self.shapes.append(
                Shape("fold", shorten(fold.title, 32), shorten(fold.subtitle, 40), fold=fold, up=22, down=22)
            )
            self.at.update((i, len(self.shapes) - 1) for i in fold.members)
        self.folded = set(self.at)
        incoming: list[list[Edge]] = []
        for node in graph.nodes:
            drawn = [edge for edge in graph.incoming[node.number] if not _neutral(graph, edge)]
            self.left_out |= {(node.number, edge.argument) for edge in graph.incoming[node.number]}
            self.left_out -= {(node.number, edge.argument) for edge in drawn}
            incoming.append(drawn)
        # How far each node is from the beginning and from the end.
        early, late = [0] * len(graph.nodes), [0] * len(graph.nodes)
        for node in graph.nodes:
            early[node.number] = 1 + max((early[i] for i in node.inputs), default=0)
        for node in reversed(graph.nodes):
            late[node.number] = 1 + max((late[edge.target] for edge in graph.outgoing[node.number]), default=0)
        for node in graph.nodes:
            if node.number not in self.at and (node.kind == "op" or node.number in pinned):
                self.at[node.number] = self._add(node)
        copies: dict[tuple[int, int], int] = {}  # the shape of a leaf for the shape that uses it
        for node in graph.nodes:
            if node.kind != "op" and node.number not in self.folded:
                continue
            end = self.at[node.number]
            for edge in _from_the_top(graph, node, incoming[node.number]):
                start = self.at.get(edge.source, copies.get((edge.source, end)))
                if start is None:
                    source, uses = graph.nodes[edge.source], [e.target for e in graph.outgoing[edge.source]]
                    apart = max(max(d[i] for i in uses) - min(d[i] for i in uses) for d in (early, late))
                    again = len({self.at[i] for i in uses}) > 1 and apart > _FAR
                    if again and source.kind == "constant" and source.shape and not source.name:
                        source = replace(source, name=f"constant {source.number}")
                    start = copies[edge.source, end] = self._add(source)
                    if (source.kind == "leaf" or source.shape) and apart <= _FAR:
                        self.at[edge.source] = start
                if start != end:
                    self._connect(start, end, edge)
        self._merge()
        last = graph.nodes[graph.output]
        if last.number not in self.at:  # a leaf alone
            self.at[last.number] = self._add(last)
        self.shapes.append(Shape("end", shorten(last.label, 24)))
        self._arrow(self.at[last.number], len(self.shapes) - 1, (), last.value, last.gradient, "", 3)
        self._grow()

    def _grow(self) -> None:
        """Makes boxes high enough for their arrows: the firmest arrives in the middle, the others above and below."""
        mine: dict[int, list[Arrow]] = {}
        for arrow in self.arrows:
            mine.setdefault(arrow.target, []).append(arrow)
            if self.shapes[arrow.source].kind == "leaf":
                self.shapes[arrow.source].firm = min(self.shapes[arrow.source].firm, arrow.weight)
        for i, arrows in mine.items():
            shape = self.shapes[i]
            if shape.kind in ("box", "fold"):
                main = max(range(len(arrows)), key=lambda k: (arrows[k].weight, -k))
                rooms = [arrow.room for arrow in arrows]
                shape.up = max(shape.up, sum(rooms[:main]) * 2 + rooms[main] + CORNER + 4)
                shape.down = max(shape.down, sum(rooms[main + 1 :]) * 2 + rooms[main] + CORNER + 4)
                shape.arguments = max(width(arrow.argument, 11) for arrow in arrows)

    def _add(self, node: GraphNode) -> int:
        """The number of a new shape for node."""
        total = self._total(node)
        if node.kind != "op":
            text = shorten(node.name, 24)
            if not text:
                value = lines(node.value)
                text = value.lines[0] if len(value.lines) == 1 else node.kind
            shape = Shape("leaf", text, node=node, total=total)
        else:
            symbol, parameters = _symbol(node)
            below = shorten(parameters, 24) if len(parameters) <= 60 else ""
            shape = Shape("circle", "−" if symbol == "-" else symbol, below, node=node, total=total)
            arguments = self._arguments(node)
            drawn = len([x for x in node.arguments if (node.number, x) not in self.left_out])
            crowded = len(arguments) > 2 or drawn > 3 or max(map(len, arguments), default=0) > 2
            if crowded or width(symbol, 16) > 2 * RADIUS - 3:
                shape.kind, shape.up, shape.down = "box", 16.0, 16.0
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def _arguments(self, node: GraphNode) -> list[str]:
        """The names of its arguments that are written at its arrows: of several that are not all the same."""
        if (node.op is not None and node.op.variadic) or _commutes(node):
            return []
        drawn = [x for x in node.arguments if (node.number, x) not in self.left_out]
        return drawn if len(drawn) > 1 else []

    def _total(self, node: GraphNode) -> Lines:
        """The gradient of a node to which several arrows bring one."""
        flows: set[tuple[Any, ...]] = set()
        for edge in self.graph.outgoing[node.number]:
            if edge.gradient is not None:  # into a folded box goes one arrow, with the sum of its edges on it
                folded = edge.target in self.folded
                flows.add((self.at[edge.target],) if folded else (edge.target, edge.argument))
        if not self.gradients or len(flows) < 2:
            return Lines()
        total = lines(node.gradient)
        return Lines((f"total {total.lines[0]}", *total.lines[1:]), total.bad, total.summarised)

    def _connect(self, start: int, end: int, edge: Edge) -> None:
        """An arrow for an edge: how firm it is, and whether its argument is named."""
        source, target = self.graph.nodes[edge.source], self.graph.nodes[edge.target]
        arguments = self._arguments(target) if self.shapes[end].fold is None else []
        if self.shapes[start].kind != "leaf":
            weight = 3
        elif arguments and edge.argument == arguments[0] and source.shape:
            weight = 2  # data come before what they are multiplied by
        else:
            weight = 1 if source.kind == "leaf" else 0
        argument = shorten(edge.argument, 12) if arguments else ""
        self._arrow(start, end, (edge,), source.value, edge.gradient, argument, weight)

    def _arrow(
        self, start: int, end: int, edges: tuple[Edge, ...], value: Any, gradient: Any, argument: str, weight: int
    ) -> None:
        shape = self.shapes[start]
        above = below = Lines()
        if self.values:
            name = shape.node.label if shape.node is not None and edges else ""
            above = lines(value, shorten(name, 16))
            if shape.kind == "leaf" and above.lines == (shape.text,):
                above = Lines((), above.bad)
        back = self.gradients and gradient is not None
        if back:
            below = lines(gradient)
        self.arrows.append(Arrow(start, end, edges, above, below, back, argument, weight))

    def _merge(self) -> None:
        """Of arrows that stand for the same value between the same shapes, or for too many, makes one."""
        between: dict[tuple[int, int], list[Arrow]] = {}
        for arrow in self.arrows:
            between.setdefault((arrow.source, arrow.target), []).append(arrow)
        self.arrows = []
        for arrows in between.values():
            first = arrows[0]
            folded = self.shapes[first.source].kind == "fold" or self.shapes[first.target].kind == "fold"
            if len(arrows) == 1 or not (folded or len(arrows) > _MANY):
                self.arrows += arrows
                continue
            by_source: dict[int, list[Arrow]] = {}
            for arrow in arrows:
                by_source.setdefault(arrow.edges[0].source, []).append(arrow)
            if len(by_source) > _MANY:
                edges = tuple(edge for arrow in arrows for edge in arrow.edges)
                many = Lines((f"{len(by_source):,} values",)) if self.values else Lines()
                back = any(arrow.back for arrow in arrows)
                self.arrows.append(Arrow(first.source, first.target, edges, many, Lines(), back, "", first.weight))
                continue
            for same in by_source.values():
                flowing = [edge.gradient for arrow in same for edge in arrow.edges if edge.gradient is not None]
                same[0].edges = tuple(edge for arrow in same for edge in arrow.edges)
                if flowing and self.gradients:
                    with np.errstate(all="ignore"):
                        same[0].below, same[0].back = lines(sum(flowing[1:], flowing[0])), True
                self.arrows.append(same[0])


def _neutral(graph: Graph, edge: Edge) -> bool:
    """Whether an argument is not drawn: one that was not given, or the 1 of 1 / x, which the book does not draw."""
    source, op = graph.nodes[edge.source], graph.nodes[edge.target].op
    if isinstance(op, Divide) and edge.argument == "x" and source.kind == "constant" and not source.name:
        return source.shape == () and source.value is not None and bool(source.value == 1)
    return not_given(graph, edge)


def _commutes(node: GraphNode) -> bool:
    """Whether the two arguments of an op can change places: then its declared gradients do so, too."""
    op = node.op
    if op is None or len(op.args) != 2 or len(op.gradients) != 2 or not op.elementwise:
        return False
    places = dict(zip(op.args, reversed(op.args), strict=True))
    return re.sub(r"\w+", lambda word: places.get(word[0], word[0]), op.gradients[0]) == op.gradients[1]


def _symbol(node: GraphNode) -> tuple[str, str]:
    """What is in the shape of an op, and its parameters below it: x[:, 1] has its index in it."""
    symbol = node.symbol or node.name
    if "[i]" in symbol and "index" in node.parameters:
        symbol = symbol.replace("[i]", index_text(node.parameters["index"]))
        node = replace(node, parameters={k: v for k, v in node.parameters.items() if k != "index"})
    return shorten(symbol, 28), parameters_text(node)


def _from_the_top(graph: Graph, node: GraphNode, edges: Sequence[Edge]) -> list[Edge]:
    """The edges of an op in the order in which they are drawn: as given, or, where that is all the same, ops first."""
    if not _commutes(node):
        return list(edges)
    kinds = ["op", "leaf", "constant"]
    return sorted(edges, key=lambda edge: kinds.index(graph.nodes[edge.source].kind))
