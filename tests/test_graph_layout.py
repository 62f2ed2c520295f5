"""The layout of pictures: columns, few crossings, straight lines, and nothing on top of anything else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import graph, nn
from minigrad.graph import Edge, Graph, GraphNode
from minigrad.graph.collapse import folds
from minigrad.graph.layout import Box, Link, Placed, place
from minigrad.graph.scene import Scene
from minigrad.graph.svg import width
from minigrad.graph.tracing import as_graph
from minigrad.op import registry
from minigrad.testing.calls import calls

Rect = tuple[float, float, float, float]


def box(size: float = 20.0) -> Box:
    return Box(size, size / 2, size / 2)


def laid_out(n: int, pairs: list[tuple[int, int]], **kwargs: Any) -> Placed:
    return place([box() for _ in range(n)], [Link(a, b, box(10.0)) for a, b in pairs], **kwargs)


def crossings(placed: Placed, pairs: list[tuple[int, int]]) -> int:
    """Pairs of links of which one begins above the other and ends below it, between any two columns."""
    steps: dict[float, list[tuple[float, float]]] = {}
    for (a, b), way in zip(pairs, placed.ways, strict=True):
        stops = [(placed.columns[a][0], placed.ys[a]), *((left, y) for left, _, y in way)]
        stops.append((placed.columns[b][0], placed.ys[b]))
        for (x, y0), (_, y1) in pairwise(stops):
            steps.setdefault(x, []).append((y0, y1))
    return sum((p[0] - q[0]) * (p[1] - q[1]) < 0 for step in steps.values() for p, q in combinations(step, 2))


def test_a_chain_is_straight() -> None:
    placed = laid_out(5, [(i, i + 1) for i in range(4)])
    assert len(set(placed.ys)) == 1
    lefts = [left for left, _ in placed.columns]
    assert lefts == sorted(lefts)


def test_a_chain_stays_straight_beside_what_leads_to_it() -> None:
    light = Box(20, 10, 10, firm=0)
    pairs = [(0, 2), (1, 2), (2, 4), (3, 4), (4, 5)]
    boxes = [box(), light, box(), light, box(), box()]
    links = [Link(a, b, Box(10, 15, 15, boxes[a].firm), 1000 if boxes[a].firm else 1) for a, b in pairs]
    placed = place(boxes, links)
    assert len({placed.ys[i] for i in (0, 2, 4, 5)}) == 1
    assert placed.ys[1] > placed.ys[0]
    assert placed.ys[3] > placed.ys[0]


@pytest.mark.parametrize(
    ("n", "pairs", "most"),
    [
        (7, [(0, 4), (1, 4), (2, 5), (3, 5), (4, 6), (5, 6)], 0),  # a tree
        (7, [(3, 4), (0, 4), (2, 5), (1, 5), (5, 6), (4, 6)], 0),
        (6, [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5), (1, 4)], 0),  # a diamond, doubled
        (5, [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (1, 3), (0, 2)], 1),  # past one another
        (9, [(0, 3), (0, 4), (1, 4), (1, 5), (2, 5), (2, 3), (3, 6), (4, 7), (5, 8)], 2),  # a ring, cut open
    ],
)
def test_few_links_cross(n: int, pairs: list[tuple[int, int]], most: int) -> None:
    assert crossings(laid_out(n, pairs), pairs) <= most


def test_links_that_are_given_tangled_are_untangled() -> None:
    pairs = [(i, 10 + (7 * i) % 10) for i in range(10)] + [(10 + i, 20) for i in range(10)]
    assert crossings(laid_out(21, pairs), pairs) == 0


def test_what_stands_first_stands_alone() -> None:
    placed = laid_out(4, [(0, 2), (1, 2), (0, 3), (2, 3)], first=[0])
    assert placed.columns[0] < placed.columns[1]
    wide = laid_out(4, [(0, 2), (1, 2), (0, 3), (2, 3)], first=[0], reach=1000.0)
    assert wide.right == pytest.approx(1000.0)
    assert wide.columns[0] == placed.columns[0]


def test_nothing_at_all_and_one_box() -> None:
    assert place([], []).ys == []
    assert place([box()], []).ys == [0.0]


def test_a_long_chain_needs_no_recursion() -> None:
    n = 3000
    placed = laid_out(n, [(i, i + 1) for i in range(n - 1)])
    assert len(set(placed.ys)) == 1


def test_graphviz_orders_where_it_is_installed() -> None:
    pytest.importorskip("pygraphviz")
    rng = np.random.default_rng(0)
    pairs = [(int(a), 40 + int(b)) for a, b in rng.integers(0, 40, (120, 2))]
    ours, theirs = laid_out(80, pairs), laid_out(80, pairs, graphviz=True)
    assert theirs.columns[0] < theirs.columns[40]
    assert crossings(theirs, pairs) < 1.5 * crossings(ours, pairs)


# Drawn: no two boxes on one another, and no line through a box that it does not belong to


def rectangles(scene: Scene) -> dict[tuple[str, int], Rect]:
    """The room of every shape and of every label, as drawn."""
    found: dict[tuple[str, int], Rect] = {}
    for i, shape in enumerate(scene.shapes):
        (x, y), size = scene.center(i), scene.boxes[i]
        left = {"leaf": x - size.width, "end": x + 6}.get(shape.kind, x - size.width / 2)
        row = scene.row(scene.placed.columns[i][0])
        left, y = left + row.dx, y + row.dy
        found["shape", i] = (left, y - size.up, left + size.width, y + size.down)
    for k, arrow in enumerate(scene.arrows):
        left, right, y = scene.placed.ways[k][0]
        row, size = scene.row(left), arrow.label
        left, y = (left + right) / 2 - size.width / 2 + 4 + row.dx, y + row.dy
        found["label", k] = (left, y - size.up, left + size.width - 8, y + size.down)
    return found


def overlaps(scene: Scene) -> list[Any]:
    """Pairs of rectangles that share more than half a pixel both ways."""

    def shared(a: Rect, b: Rect, axis: int) -> float:
        return min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis])

    rects = rectangles(scene)
    return [(a, b) for a, b in combinations(rects, 2) if min(shared(rects[a], rects[b], axis) for axis in (0, 1)) > 0.5]


def points(path: str) -> Iterator[tuple[float, float]]:
    """Points on a path of M, H and C."""
    x = y = 0.0
    for letter, numbers in re.findall(r"([MHC])([^MHC]*)", path):
        v = [float(number) for number in numbers.split()]
        if letter == "M":
            x, y = v
        elif letter == "H":
            yield from ((x + (v[0] - x) * k / 8, y) for k in range(9))
            x = v[0]
        else:
            for t in np.linspace(0, 1, 13):
                w = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3]
                xs, ys = (x, *v[0::2]), (y, *v[1::2])
                yield sum(a * b for a, b in zip(w, xs, strict=True)), sum(a * b for a, b in zip(w, ys, strict=True))
            x, y = v[4:]


def crossed(scene: Scene) -> set[Any]:
    """Rectangles that an arrow goes through, other than those of its own ends and label."""
    rects, found = rectangles(scene), set()
    for k, (arrow, part) in enumerate(zip(scene.arrows, scene.parts(), strict=False)):
        own = {("label", k), ("shape", arrow.source), ("shape", arrow.target)}
        for path in re.findall(r'<path d="(M[^"LZ]*)"', part):
            for x, y in points(path):
                for name, (left, top, right, bottom) in rects.items():
                    if name not in own and left + 1 < x < right - 1 and top + 1 < y < bottom - 1:
                        found.add((k, name))
    return found


def a_net(depth: int) -> Any:
    x = mg.Tensor(np.ones((4, 3)), name="x")
    model = nn.Sequential(*(part for _ in range(depth) for part in (nn.Linear(3, 3), nn.ReLU())))
    with graph.record():
        loss = mg.softmax_cross_entropy(model(x), np.array([0, 1, 2, 0]))
    return graph.trace(loss, model)


def a_recurrent_net(steps: int) -> Any:
    W, U, b = (
        mg.Tensor(np.ones(shape), requires_grad=True, name=n) for n, shape in (("W", (3, 3)), ("U", (3, 3)), ("b", 3))
    )
    h: Any = np.zeros((1, 3))
    with graph.record():
        for k in range(steps):
            h = mg.tanh(mg.Tensor(np.ones((1, 3)), name=f"x{k}") @ W + h @ U + b)
        return mg.sum(h * h)


def some_graph(n: int) -> Any:
    rng = np.random.default_rng(0)
    ts = [mg.Tensor(0.1 * k, requires_grad=True, name=f"x{k}") for k in range(6)]
    for _ in range(n):
        a, b = (ts[int(i)] for i in rng.integers(max(0, len(ts) - 8), len(ts), 2))
        ts.append([a + b, a * b, mg.sin(a), a - b, mg.tanh(a + b)][rng.integers(5)])
    return ts[-1] + ts[-2] + ts[-3]


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("made", [lambda: a_net(7), lambda: a_recurrent_net(6), lambda: some_graph(30)])
def test_boxes_labels_and_lines_keep_clear_of_each_other(made: Any, rows: bool) -> None:
    scene = Scene(as_graph(made()), rows=rows)
    assert overlaps(scene) == []
    assert crossed(scene) == set()
    assert (len(scene.rows) > 1) == rows


@pytest.mark.parametrize("collapse", [False, True])
@pytest.mark.parametrize("made", [lambda: a_net(7), lambda: a_net(30), lambda: a_recurrent_net(6)])
def test_no_row_is_much_wider_than_a_page(made: Any, collapse: bool) -> None:
    traced = as_graph(made())
    found = folds(traced, collapse) if collapse and any(node.modules for node in traced.nodes) else []
    assert Scene(traced, found, rows=True).bounds[2] < 1250


def test_boxes_wider_than_half_a_row_are_broken_into_rows_too() -> None:
    names = [f"{name}{'_' * 20}" for name in "abcdefgh"]
    nodes = [GraphNode(0, "leaf", "x", shape=(), value=np.array(1.0))]
    for k, name in enumerate(names, 1):
        nodes.append(GraphNode(k, "op", name, name, shape=(3, 30), inputs=(k - 1,), arguments=("x",)))
    wide = np.full((300, 300), -1.2345e-100)
    nodes = [replace(node, value=wide) for node in nodes]
    edges = tuple(Edge(k - 1, k, "x", wide) for k in range(1, len(nodes)))
    scene = Scene(Graph(tuple(nodes), edges, len(nodes) - 1), rows=True)
    assert scene.bounds[2] < 1250
    assert len(scene.rows) > 3


def test_so_do_those_of_400_nodes() -> None:
    scene = Scene(a_net(95), rows=True)
    assert len(scene.graph.nodes) > 380
    assert overlaps(scene) == []
    left, top, right, bottom = scene.bounds
    for x0, y0, x1, y1 in rectangles(scene).values():
        assert left - 1 <= x0 <= x1 <= right + 8
        assert top - 1 <= y0 <= y1 <= bottom + 1


def covered(scene: Scene) -> list[str]:
    """Words below a node, or inside a box, that an arrow goes through, its own arrows among them."""
    root = ET.fromstring(f"<svg>{''.join(scene.parts())}</svg>")
    lines = [list(points(path.get("d") or "")) for path in root.iter("path") if "Z" not in (path.get("d") or "")]
    dots = [dot for line in lines for dot in line]
    found = []
    for group in root.iter("g"):
        if not (group.get("class") or "").startswith("node"):
            continue
        for text in group.iter("text"):
            kind, words = text.get("class") or "", text.text or ""
            size = {"gradient": 13.0, "small": 11.0, "argument": 11.0}.get(kind)
            if size is not None:
                wide, x, y = width(words, size) / 1.15, float(text.get("x") or 0), float(text.get("y") or 0)
                x -= {"middle": wide / 2, "end": wide}.get(text.get("text-anchor") or "", 0)
                if any(x < a < x + wide and y - 0.74 * size < b < y + 1 for a, b in dots):
                    found.append(words)
    return found


def a_residual_net(depth: int) -> Any:
    h: Any = mg.Tensor(np.array([[1.0, -2.0], [0.5, 3.0]]), requires_grad=True, name="x")
    for k in range(depth):
        h = h + mg.relu(h @ mg.Tensor(np.array([[3.0, -7.0], [8.0, 5.0]]) - k, requires_grad=True, name="W"))
    return mg.sum(h * -123.0)


@pytest.mark.parametrize(
    "made", [lambda: a_residual_net(8), lambda: a_recurrent_net(6), lambda: some_graph(30), lambda: a_net(4)]
)
def test_no_arrow_covers_a_sum_of_gradients_or_a_parameter(made: Any) -> None:
    assert covered(Scene(as_graph(made()), rows=True)) == []
    assert covered(Scene(as_graph(made()))) == []


@pytest.mark.parametrize("op", list(registry()), ids=lambda op: op.name)
@given(data=st.data())
@settings(max_examples=2)
def test_every_op_is_drawn_without_overlap(op: Any, data: st.DataObject) -> None:
    call = data.draw(calls(op))
    with graph.record():
        out = call(*(mg.Tensor(a, requires_grad=a.dtype.kind == "f", name=f"x{i}") for i, a in enumerate(call.arrays)))
    assume(out.requires_grad)
    scene = Scene(as_graph(out))
    assert overlaps(scene) == []
    assert crossed(scene) == set()
    assert covered(scene) == []
