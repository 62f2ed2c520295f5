"""A fused op and the graph that it stands for, one above the other, and whether they agree where they meet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError
from minigrad.graph.data import Graph, number
from minigrad.graph.export import title
from minigrad.graph.picture import Picture, checked, write
from minigrad.graph.scene import MARGIN, Scene
from minigrad.graph.svg import document, element, escape, shorten, width
from minigrad.graph.tracing import as_graph

__all__ = ["diff"]

_MOST = 400  # nodes of each graph
_PAD = 12.0  # between a node and the dashed box around it


def diff(fused: Any, unfused: Any, path: Any = None) -> Picture:
    """Two graphs of the same function in one picture, with = or ≠ where values and gradients meet.

    fused, unfused: Tensors with graphs, or Graphs, computed from the same inputs. path: an .svg file to write to.
    The ops of unfused that fused does not have are in a dashed box. Inputs are paired by their names, or else in their
    order; values and gradients are equal that differ by no more than rounding: by sqrt(eps) of the largest entry.
    Wide graphs are broken into rows, as by draw.
    Raises as draw does; ArgumentError for graphs whose inputs or outputs have other shapes, or of more than 400 nodes.

    >>> import minigrad as mg
    >>> x = mg.Tensor(5.0, requires_grad=True, name="x")
    >>> mg.graph.diff(mg.sigmoid(x), 1 / (1 + mg.exp(-x)))
    Picture('sigmoid and /: values and gradients agree', ... bytes of SVG)
    """
    file = None if path is None else checked("graph.diff", path)
    few, many = as_graph(fused, "graph.diff"), as_graph(unfused, "graph.diff")
    for graph, name in ((few, "fused"), (many, "unfused")):
        if len(graph.nodes) > _MOST:
            raise ArgumentError(
                f"graph.diff: {name}",
                f"a graph of {len(graph.nodes)} nodes",
                f"at most {_MOST}",
                "compare one layer, or draw both graphs",
            )
    inputs = _paired(few, many)
    few, many = _named(few, many, inputs)
    replaced = _only(many, few, inputs)
    upper = Scene(many, first=[j for _, j in inputs], framed=replaced, rows=True)
    lower = Scene(few, first=[i for i, _ in inputs], rows=True)
    aside = upper.center(upper.at[inputs[0][1]])[0] - lower.center(lower.at[inputs[0][0]])[0]
    if len(upper.rows) == len(lower.rows) == 1:
        # The shorter one is stretched, such that the inputs are above each other and the results too.
        lower = Scene(few, first=[i for i, _ in inputs], reach=upper.bounds[2] - aside)
        if lower.bounds[2] + aside > upper.bounds[2]:
            upper = Scene(many, first=[j for _, j in inputs], framed=replaced, reach=lower.bounds[2] + aside)
    parts, (_, top, _, bottom) = upper.parts(), upper.bounds
    for x0, y0, x1, y1 in _frames(upper, replaced):
        parts.append(element("rect", x=x0, y=y0, width=x1 - x0, height=y1 - y0, rx=10, class_="note dashed"))
        top, bottom = min(top, y0), max(bottom, y1)
    seams = [_Seam(few, many, i, j) for i, j in inputs] + [_Seam(few, many, few.output, many.output)]
    several = len(inputs) > 1
    wide = [seam.draw(0.0, 0.0, several and seam is not seams[-1])[1] for seam in seams]
    left, end = min(0.0, aside) + 2, max(upper.bounds[2], lower.bounds[2] + aside) + 8
    # What is said of the result stands at the right, on a line of its own where there is no room beside the rest.
    level = (len(inputs) - 1) / 2 if left + max(wide[:-1]) + 24 + wide[-1] < end else len(inputs)
    down = round(bottom - lower.bounds[1] + 44 + 20 * max(level, len(inputs) - 1), 1)
    parts.append(element("g", *lower.parts(), transform=f"translate({aside:g} {down:g})"))
    for k, seam in enumerate(seams[:-1]):
        (xa, ya), (xb, yb) = _tail(upper, upper.at[seam.j]), _tail(lower, lower.at[seam.i])
        parts.append(_bracket(xa, ya, left - 8 - 10 * k, xb + aside, yb + down))
        parts += seam.draw(left, bottom + 22 + 20 * k, several)[0]
    parts += seams[-1].draw(end - wide[-1], bottom + 22 + 20 * level, False)[0]
    (xa, ya), (xb, yb) = _end(upper), _end(lower)
    parts.append(_bracket(xa + 4, ya, end + 6, xb + aside + 4, yb + down))
    left, right = min(left - 10 * len(inputs), end - wide[-1]), max(end + 6, left + max(wide[:-1]))
    low = lower.bounds[3] + down
    agree = all(seam.agrees for seam in seams)
    name = f"{_last(few)} and {_last(many)}: values and gradients {'agree' if agree else 'differ'}"
    told = "; ".join(f"{seam.name}: {', '.join(seam.words)}" for seam in seams)
    box = (left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, low - top + 2 * MARGIN)
    picture = Picture(document(parts, box, name, told), name)
    if file is not None:
        write("graph.diff", file, picture.svg)
    return picture


def _tail(scene: Scene, i: int) -> tuple[float, float]:
    """Left of the name of a leaf."""
    return scene.center(i)[0] - scene.boxes[i].width - 4, scene.placed.ys[i]


def _end(scene: Scene) -> tuple[float, float]:
    """Where the arrow of the result ends, with its name."""
    row = scene.row(scene.placed.columns[-1][0])
    return scene.placed.right + row.dx, scene.placed.ys[-1] + row.dy


def _bracket(xa: float, ya: float, x: float, xb: float, yb: float) -> str:
    """A dotted line from (xa, ya) sideways to x, up or down, and back to (xb, yb)."""
    return element("path", d=f"M{xa:.1f} {ya:.1f}H{x:.1f}V{yb:.1f}H{xb:.1f}", class_="note dotted")


def _named(few: Graph, many: Graph, pairs: list[tuple[int, int]]) -> tuple[Graph, Graph]:
    """Both graphs, in which an input has the name that it has in one of them."""
    graphs = []
    for graph, other, here, there in ((few, many, 0, 1), (many, few, 1, 0)):
        nodes = list(graph.nodes)
        for pair in pairs:
            i = pair[here]
            nodes[i] = replace(nodes[i], name=nodes[i].name or other.nodes[pair[there]].name)
        graphs.append(replace(graph, nodes=tuple(nodes)))
    return graphs[0], graphs[1]


def _last(graph: Graph) -> str:
    node = graph.nodes[graph.output]
    return node.symbol or node.name


def _inputs(graph: Graph) -> list[int]:
    """The numbers of what a graph is computed from: its leaves, and constants that have a name or are arrays."""
    return [
        node.number
        for node in graph.nodes
        if node.kind == "leaf" or (node.kind == "constant" and node.value is not None and (node.name or node.shape))
    ]


def _paired(few: Graph, many: Graph) -> list[tuple[int, int]]:
    """The inputs of both graphs that belong together; leaves must, constants may."""
    mine, other = _inputs(few), _inputs(many)
    pairs = []
    for leaf in (True, False):
        ours = [i for i in mine if (few.nodes[i].kind == "leaf") == leaf]
        theirs = [j for j in other if (many.nodes[j].kind == "leaf") == leaf]
        if leaf and len(ours) != len(theirs):
            raise _unlike(f"{len(ours)} leaves and {len(theirs)}")
        named = {many.nodes[j].name: j for j in theirs if many.nodes[j].name}
        names = {few.nodes[i].name for i in ours} - {""}
        rest = [j for j in theirs if many.nodes[j].name not in names]
        for i in ours:
            a = few.nodes[i]
            j = named.get(a.name)
            if j is None:
                j = next((j for j in rest if leaf or _same(a.value, many.nodes[j].value)), None)
                if j is None:
                    if leaf:
                        raise _unlike(f"a leaf {title(a)} that the other does not have")
                    continue
                rest.remove(j)
            if a.shape != many.nodes[j].shape:
                raise _unlike(f"{title(a)} {a.shape} and {title(many.nodes[j])} {many.nodes[j].shape}")
            pairs.append((i, j))
    a, b = few.nodes[few.output], many.nodes[many.output]
    if a.shape != b.shape:
        raise _unlike(f"results of shape {a.shape} and {b.shape}")
    return pairs


def _same(a: Any, b: Any) -> bool:
    return a is not None and b is not None and a.shape == b.shape and bool(np.array_equal(a, b))


def _unlike(what: str) -> ArgumentError:
    return ArgumentError(
        "graph.diff",
        what,
        "two graphs of the same function, computed from the same inputs",
        "compute both from the same Tensors: diff(mg.sigmoid(x), 1 / (1 + mg.exp(-x)))",
    )


def _only(many: Graph, few: Graph, pairs: list[tuple[int, int]]) -> list[int]:
    """The ops of `many` that `few` does not have: what is left when both are followed from either side."""
    known = {j: i for i, j in pairs}

    def key(graph: Graph, number: int, inputs: tuple[Any, ...]) -> Any:
        node = graph.nodes[number]
        return node.name, repr(node.parameters), inputs

    theirs: dict[Any, int] = {}
    for node in few.nodes:
        if node.kind == "op":
            theirs.setdefault(key(few, node.number, node.inputs), node.number)
    for node in many.nodes:
        if node.kind == "op" and all(i in known for i in node.inputs):
            found = theirs.get(key(many, node.number, tuple(known[i] for i in node.inputs)))
            if found is not None:
                known[node.number] = found
    ends = [(many.output, few.output)]
    while ends:
        a, b = ends.pop()
        one, other = many.nodes[a], few.nodes[b]
        alike = one.name == other.name and repr(one.parameters) == repr(other.parameters)
        if alike and one.kind == other.kind == "op" and a not in known and b not in known.values():
            known[a] = b
            ends += zip(one.inputs, other.inputs, strict=False)
    return [node.number for node in many.nodes if node.kind == "op" and node.number not in known]


def _frames(scene: Scene, ops: list[int]) -> list[tuple[float, float, float, float]]:
    """Boxes around these ops, what only they use and the labels between them, one a row: left, top, right, bottom."""
    inside = {scene.at[number] for number in ops}
    inside |= {a.source for a in scene.arrows if scene.shapes[a.source].kind == "leaf" and a.target in inside} - {
        i for i in scene.at.values() if scene.shapes[i].kind == "leaf" and scene.placed.columns[i][0] <= 0.0
    }
    boxes = []
    for i in inside:
        left, right = scene.placed.columns[i]
        x, _ = scene.center(i)
        half = scene.boxes[i].width / 2
        left, right = (x - 2 * half, right) if scene.shapes[i].kind == "leaf" else (x - half, x + half)
        y, box = scene.placed.ys[i], scene.boxes[i]
        boxes.append((left, y - box.up, right, y + box.down))
    for arrow, way in zip(scene.arrows, scene.placed.ways, strict=True):
        if arrow.target in inside:  # its label, unless it comes from outside, and the way that it takes between boxes
            if arrow.source in inside:
                boxes.append((way[0][0], way[0][2] - arrow.label.up, way[0][1], way[0][2] + arrow.label.down))
            boxes += [(left, y - 4, right, y + 4) for left, right, y in way[1:]]
    rows: dict[tuple[float, float], list[tuple[float, float, float, float]]] = {}
    for left, up, right, low in boxes:
        row = scene.row(left)
        rows.setdefault((row.dx, row.dy), []).append((left, up, right, low))
    frames = []
    for (dx, dy), inside_row in rows.items():
        lefts, tops, rights, bottoms = zip(*inside_row, strict=True)
        frames.append(
            (min(lefts) + dx - _PAD, min(tops) + dy - _PAD, max(rights) + dx + _PAD, max(bottoms) + dy + _PAD)
        )
    return frames


@dataclass
class _Seam:
    """Where both graphs meet: node i of fused, node j of unfused."""

    few: Graph
    many: Graph
    i: int
    j: int

    @property
    def name(self) -> str:
        if self.i == self.few.output:
            return "result"
        return title(self.few.nodes[self.i])

    @property
    def words(self) -> list[str]:
        """What is to be said of the value and of the gradient."""
        a, b = self.few.nodes[self.i], self.many.nodes[self.j]
        pairs = [("value", a.value, b.value)]
        if a.gradient is not None or b.gradient is not None:
            pairs.append(("gradient", a.gradient, b.gradient))
        return [_compared(what, x, y) for what, x, y in pairs]

    @property
    def agrees(self) -> bool:
        return not any("≠" in words for words in self.words)

    def draw(self, x: float, y: float, named: bool) -> tuple[list[str], float]:
        """Its words on one line from (x, y) on, and how wide they are."""
        parts, start = [], x
        for k, words in enumerate(([f"{shorten(self.name, 16)}:"] if named else []) + self.words):
            text = words.replace("-", "−")
            at = {"x": f"{x:.1f}", "y": f"{y:.1f}"}
            line = element("text", escape(text), **at, class_="gradient" if k == named + 1 else "value")
            if "≠" in text:
                box = {"x": f"{x - 4:.1f}", "y": f"{y - 13:.1f}", "height": 17, "rx": 3}
                line = element("g", element("rect", **box, width=f"{width(text) + 6:.1f}"), line, class_="bad")
            parts.append(line)
            x += width(text) + 14
        return parts, x - start - 14


def _compared(what: str, a: Any, b: Any) -> str:
    """Whether a and b agree: "= value", or "≠ value: 1 and 2"."""
    if a is None or b is None:
        return (
            f"= no {what}"
            if a is b
            else f"≠ {what}: {'none' if a is None else 'one'} and {'none' if b is None else 'one'}"
        )
    a, b = np.asarray(a), np.asarray(b)
    k = _worst(a, b)
    return f"= {what}" if k is None else f"≠ {what}: {number(a.flat[k], 8)} and {number(b.flat[k], 8)}"


def _worst(a: Any, b: Any) -> int | None:
    """Where a and b are the furthest apart, as an index of a.flat; None where rounding explains it."""
    eps = max((np.finfo(x.dtype).eps for x in (a, b) if x.dtype.kind == "f"), default=0.0)
    with np.errstate(all="ignore"):
        a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
        finite = np.isfinite(a) & np.isfinite(b)
        off = np.where(finite, np.abs(a - b), np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.inf))
        largest = max(np.abs(x[finite]).max(initial=0.0) for x in (a, b))
    return int(off.argmax()) if off.size and off.max() > np.sqrt(eps) * largest else None
