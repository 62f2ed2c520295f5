"""Scene: the shapes and arrows of a graph, placed, in rows if it is wide, and as the elements of an SVG."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, pairwise

from minigrad.graph.collapse import Fold
from minigrad.graph.data import Graph, summary
from minigrad.graph.export import title
from minigrad.graph.layout import Link, Placed, place
from minigrad.graph.shapes import APART, CORNER, LINE, RADIUS, UNDER, Arrow, Lines, Shapes, lines
from minigrad.graph.svg import element, escape, ranges, width

__all__ = ["MARGIN", "Scene"]

Point = tuple[float, float, float]  # x, y and the angle at which a line passes

MARGIN = 16.0
_HEAD, _HALF_HEAD = 8.0, 3.4  # of an arrow
_WIDEST = 1100.0  # a wider picture is broken into rows of at most about so much
_STUB, _BETWEEN_ROWS = 16.0, 36.0
_GRAPHVIZ_FROM = 150  # nodes: below, our own order is as good


@dataclass
class Row:
    """A stretch of the layout, from x = start on, and where it is drawn: moved by (dx, dy), within these bounds."""

    start: float
    dx: float
    dy: float
    left: float
    top: float
    right: float
    bottom: float


class Scene(Shapes):
    """The shapes of one graph, placed: `parts` are its elements, `bounds` its left, top, right and bottom.

    first: numbers of nodes that stand at the left. framed: numbers of ops that get a frame, and room for it.
    reach: how wide it is to be, if it would be narrower.
    rows: whether a wide graph is broken into rows, as text is into lines.
    """

    def __init__(
        self,
        graph: Graph,
        found: Sequence[Fold] = (),
        *,
        values: bool = True,
        gradients: bool = True,
        first: Iterable[int] = (),
        framed: Iterable[int] = (),
        reach: float = 0.0,
        rows: bool = False,
    ) -> None:
        pinned = list(first)
        super().__init__(graph, found, pinned, values=values, gradients=gradients)
        self.index = {edge: i for i, edge in enumerate(graph.edges)}
        self.boxes = [shape.box for shape in self.shapes]
        inside = {self.at[i] for i in framed}
        self.links: list[Link] = []
        for arrow in self.arrows:
            # Into a frame and out of it there is a rank between, for what leads to the op behind.
            between = arrow.weight == 3 and (arrow.source in inside) != (arrow.target in inside)
            span = 2 if between and self.shapes[arrow.target].kind != "end" else 1
            self.links.append(Link(arrow.source, arrow.target, arrow.label, 10**arrow.weight, span))
        self.placed: Placed = place(
            self.boxes,
            self.links,
            first=[self.at[i] for i in pinned],
            reach=reach,
            graphviz=len(self.shapes) > _GRAPHVIZ_FROM and find_spec("pygraphviz") is not None,
        )
        self.circles: dict[float, float] = {}  # how far from the left of its column the circles of it are
        for (left, _), shape, box in zip(self.placed.columns, self.shapes, self.boxes, strict=True):
            if shape.kind == "circle":
                self.circles[left] = max(self.circles.get(left, 0.0), box.width / 2)
        self.rows = self._rows(rows)
        left, right = min(row.left for row in self.rows), max(row.right for row in self.rows)
        self.bounds = (left, self.rows[0].top, right, self.rows[-1].bottom)

    def _rows(self, several: bool) -> list[Row]:
        """The layout in rows. A row ends after labels, where the least goes on, and the next one begins there."""
        placed, grid = self.placed, self.placed.grid
        extents: dict[float, list[tuple[float, float]]] = {left: [] for left, _ in grid}
        for (left, _), y, box in zip(placed.columns, placed.ys, self.boxes, strict=True):
            extents[left].append((y - box.up, y + box.down))
        torn: dict[float, int] = dict.fromkeys(extents, 0)  # what a row would tear if it ended here
        for arrow, way in zip(self.arrows, placed.ways, strict=True):
            extents[way[0][0]].append((way[0][2] - arrow.label.up, way[0][2] + arrow.label.down))
            torn[way[0][0]] += 2 if self.shapes[arrow.source].kind == "leaf" else 1
            for left, _, y in way[1:]:
                extents[left].append((y - 4, y + 4))
                torn[left] += 1
        wide = placed.right
        if several and wide > _WIDEST:
            wide = 1.1 * wide / math.ceil(wide / _WIDEST)
        rows: list[Row] = []
        k = 0
        while k < len(grid):
            start = grid[k - 1][1] - _STUB if rows else grid[k][0]
            ends = [n for n in range(k, len(grid) - 1) if n % 2]
            fit = [n for n in ends if grid[n][1] - start <= wide] or ends[:1]
            good = [n for n in fit if 0.75 * wide < grid[n][1] - start] or fit[-1:]
            last = min(good, key=lambda n: (torn[grid[n][0]], -n), default=len(grid) - 1)
            if placed.right - start <= 1.1 * wide:
                last = len(grid) - 1
            shown = range(max(k - 1, 0), last + 1)  # with the column whose links go on
            spans = [span for n in shown for span in extents[grid[n][0]]] or [(0.0, 0.0)]
            top, bottom = min(span[0] for span in spans), max(span[1] for span in spans)
            dy = rows[-1].bottom + _BETWEEN_ROWS - top if rows else 0.0
            # What goes on is drawn to the end of this row, and from the beginning of the next.
            right = grid[last][1] + (_STUB if last < len(grid) - 1 else 0.0) - start
            rows.append(Row(grid[k][0] - 1.0, -start, dy, 0.0, top + dy, right, bottom + dy))
            k = last + 1
        return rows

    def row(self, x: float) -> Row:
        """The row that something at x is drawn in."""
        return self.rows[bisect_right(self.rows, x, key=lambda row: row.start) - 1]

    def _pieces(self, points: Sequence[Point]) -> list[list[Point]]:
        """The points of an arrow as they are drawn, row by row."""
        pieces: list[list[Point]] = []
        before = None
        for x, y, angle in points:
            row = self.row(x)
            if row is not before:
                if before is not None:
                    x0, y0, _ = points[points.index((x, y, angle)) - 1]
                    pieces[-1].append((x0 + _STUB + before.dx, y0 + before.dy, 0.0))
                    pieces.append([(x0 - _STUB + row.dx, y0 + row.dy, 0.0), (x0 + row.dx, y0 + row.dy, 0.0)])
                else:
                    pieces.append([])
                before = row
            pieces[-1].append((x + row.dx, y + row.dy, angle))
        return pieces

    def center(self, i: int) -> tuple[float, float]:
        """The middle of a shape; of a leaf and of the end, where their arrow begins or ends."""
        (left, right), kind = self.placed.columns[i], self.shapes[i].kind
        half = self.circles[left] if kind == "circle" else self.boxes[i].width / 2
        return {"leaf": right, "end": left}.get(kind, left + half), self.placed.ys[i]

    def parts(self) -> list[str]:
        """The elements: arrows with their labels, then nodes."""
        starts, self.ends = self._ports(outgoing=True), self._ports(outgoing=False)
        parts = []
        for k, arrow in enumerate(self.arrows):
            way = self.placed.ways[k]
            points = [starts[k]]
            edge_of_column = self.placed.columns[arrow.source][1]
            if edge_of_column > starts[k][0] + 8:  # to the edge of its column on its own ground
                points.append(_at_the_edge(starts[k], edge_of_column, way[0][0], way[0][2]))
            for left, right, y in way:
                points += [(left, y, 0.0), (right, y, 0.0)]
            edge_of_column = self.placed.columns[arrow.target][0]
            if edge_of_column < self.ends[k][0] - 8:
                points.append(_at_the_edge(self.ends[k], edge_of_column, way[-1][1], way[-1][2]))
            points.append(self.ends[k])
            parts.append(self._draw_arrow(arrow, points, way[0]))
        return parts + [self._draw_shape(i) for i in range(len(self.shapes))]

    def _ports(self, outgoing: bool) -> list[Point]:
        """For each arrow where it begins or ends: x, y and the angle at which it does."""
        ports: list[Point] = [(0.0, 0.0, 0.0)] * len(self.arrows)
        mine: dict[int, list[int]] = {}
        for k, arrow in enumerate(self.arrows):
            mine.setdefault(arrow.source if outgoing else arrow.target, []).append(k)
        sign = 1 if outgoing else -1
        for i, arrows in mine.items():
            shape, (x, y) = self.shapes[i], self.center(i)
            far = [self.placed.ways[k][0 if outgoing else -1] for k in arrows]
            order = sorted(range(len(arrows)), key=lambda n: far[n][2])
            if shape.kind in ("leaf", "end"):
                for k in arrows:
                    ports[k] = (x + 3 * sign, y, 0.0)
                continue
            rooms = [self.arrows[arrows[n]].room for n in order]
            if shape.kind == "circle":
                ground = x - self.placed.columns[i][0] if not outgoing else self.placed.columns[i][1] - x
                steepest = math.atan((RADIUS + 2) / ground)  # or it would leave its own ground
                steps = [math.atan2(far[n][2] - y, abs(far[n][0 if outgoing else 1] - x)) for n in order]
                steps = _spread(steps, [room / RADIUS for room in rooms], -steepest, steepest)
                for n, angle in zip(order, steps, strict=True):
                    dx, dy = RADIUS * math.cos(angle), RADIUS * math.sin(angle)
                    ports[arrows[n]] = (x + sign * dx, y + dy, sign * angle)
            else:
                half = self.boxes[i].width / 2
                wanted = [far[n][2] - y for n in order]
                places = _spread(wanted, rooms, rooms[0] + CORNER - shape.up, shape.down - CORNER - rooms[-1])
                for n, dy in zip(order, places, strict=True):
                    ports[arrows[n]] = (x + sign * half, y + dy, 0.0)
        return ports

    def _draw_arrow(self, arrow: Arrow, points: list[Point], label: tuple[float, float, float]) -> str:
        apart = APART if arrow.back else 0.0
        parts = [element("title", escape(self._words(arrow)))]
        pieces = self._pieces(points)
        curves = [_curve(piece, apart, head=-1 if piece is pieces[-1] else None) for piece in pieces]
        parts.append(element("g", *chain.from_iterable(curves), class_="forward"))
        if arrow.back:
            curves = [_curve(piece, -apart, head=0 if piece is pieces[0] else None) for piece in pieces]
            parts.append(element("g", *chain.from_iterable(curves), class_="backward"))
        row = self.row(label[0])
        x, y = (label[0] + label[1]) / 2 + row.dx, label[2] + row.dy
        n = len(arrow.above.lines)
        parts += _text(arrow.above, x, y - apart - 6 - LINE * (n - 1), "value")
        parts += _text(arrow.below, x, y + apart + LINE, "gradient")
        if arrow.argument and self.shapes[arrow.target].kind == "circle":
            tip_x, tip_y, angle = pieces[-1][-1]
            below = self.shapes[arrow.target].below or self.shapes[arrow.target].total.lines
            side = 1 if angle >= -0.05 or below else -1  # of the line, away from the others
            along, aside = 13.0, side * (7.0 + apart)
            ax = tip_x - along * math.cos(angle) + aside * math.sin(angle)
            ay = tip_y - along * math.sin(angle) - aside * math.cos(angle) + 4
            parts.append(element("text", escape(arrow.argument), x=_n(ax), y=_n(ay), **_middle("argument")))
        data: dict[str, object] = {"data_edge": ranges(self.index[edge] for edge in arrow.edges) or "output"}
        if len(arrow.edges) == 1:
            edge = arrow.edges[0]
            data |= {"data_source": edge.source, "data_target": edge.target, "data_argument": edge.argument}
        elif not arrow.edges:
            data["data_source"] = self.graph.output
        return element("g", *parts, class_="edge", **data)

    def _words(self, arrow: Arrow) -> str:
        if not arrow.edges:
            node = self.graph.nodes[self.graph.output]
            value, gradient, name = node.value, node.gradient, "the result"
        else:
            node = self.graph.nodes[arrow.edges[0].source]
            value, name = node.value, f"{title(node)} to {title(self.graph.nodes[arrow.edges[0].target])}"
            gradient = arrow.edges[0].gradient
        if len(arrow.edges) > 1:
            return f"{len(arrow.edges)} edges, the first: {name}"
        known = "unknown" if value is None else f"{value.dtype} {summary(value)}"
        return f"{name}: {known}" + ("" if gradient is None else f"; gradient {summary(gradient)}")

    def _draw_shape(self, i: int) -> str:
        shape, (x, y) = self.shapes[i], self.center(i)
        row = self.row(self.placed.columns[i][0])
        x, y = x + row.dx, y + row.dy
        parts = []
        if shape.node is not None:
            node = shape.node
            told = title(node) + ("" if node.line is None else f", {node.line.short}")
            parts.append(element("title", escape(told)))
        members = shape.fold.members if shape.fold else () if shape.node is None else (shape.node.number,)
        data = {"data_node": ranges(members)} if members else {}
        if shape.kind in ("leaf", "end"):
            anchor = "end" if shape.kind == "leaf" else "start"
            bad = shape.node is not None and not shape.node.name and lines(shape.node.value).bad
            if shape.text:
                at = x - 2 if anchor == "end" else x + 6
                text = Lines((shape.text,), bad)
                parts += _text(text, at, y + 5, "name", anchor, 15)
            parts += _text(shape.total, x - 2, y + 10 + LINE, "gradient", "end")
            return element("g", *parts, class_=f"node {shape.node.kind if shape.node else 'end'}", **data)
        below = y + shape.down + UNDER
        if shape.kind == "circle":
            parts.append(element("circle", cx=_n(x), cy=_n(y), r=_n(RADIUS), class_="shape"))
            text_x = x
        else:
            wide, high = self.boxes[i].width, shape.up + shape.down
            frame = {"x": _n(x - wide / 2), "y": _n(y - shape.up), "width": _n(wide), "height": _n(high)}
            parts.append(element("rect", **frame, rx=8 if shape.kind == "fold" else 16, class_="shape"))
            text_x = x + shape.arguments / 2
            for k, arrow in enumerate(self.arrows):
                if arrow.target == i and arrow.argument:
                    left, line = _n(x - wide / 2 + 6), _n(self.ends[k][1] + row.dy + 3.5)
                    parts.append(element("text", escape(arrow.argument), x=left, y=line, class_="argument"))
        two = shape.kind == "fold" and bool(shape.below)
        middle = y + (shape.down - shape.up) / 2 + (-1 if two else 5.5)
        parts.append(element("text", escape(shape.text), x=_n(text_x), y=_n(middle), **_middle("symbol")))
        if shape.below:
            below_y = middle + 15 if two else below
            parts.append(element("text", escape(shape.below), x=_n(x), y=_n(below_y), **_middle("small")))
            below += LINE
        if shape.kind != "fold":
            parts += _text(shape.total, x, below, "gradient")
        return element("g", *parts, class_=f"node {'fold' if shape.fold else 'op'}", **data)


def _at_the_edge(port: Point, edge: float, x: float, y: float) -> Point:
    """Where a link between port and (x, y) passes the edge of the column of port: not steeper from there on."""
    rise, whole = (edge - port[0]) * math.tan(port[2]), y - port[1]
    if abs(rise) >= abs(whole):
        return edge, y, 0.0
    on = math.atan(abs(whole - rise) / max(abs(x - edge), 1.0))
    return edge, port[1] + rise, math.copysign(min(on, abs(port[2])), port[2])


def _spread(wanted: Sequence[float], rooms: Sequence[float], least: float, most: float) -> list[float]:
    """Places near those wanted, in their order, with room for each, if there is any; the one nearest 0 stays."""
    fit = min(1.0, (most - least) / max(2 * sum(rooms) - rooms[0] - rooms[-1], 1e-9))
    rooms = [room * fit for room in rooms]
    k = min(range(len(wanted)), key=lambda n: abs(wanted[n]))
    places = [min(max(w, least), most) for w in wanted]
    for n in range(k + 1, len(places)):
        places[n] = max(places[n], places[n - 1] + rooms[n - 1] + rooms[n])
    for n in reversed(range(k)):
        places[n] = min(places[n], places[n + 1] - rooms[n] - rooms[n + 1])
    places[-1] = min(places[-1], most)
    for n in reversed(range(len(places) - 1)):
        places[n] = min(places[n], places[n + 1] - rooms[n] - rooms[n + 1])
    places[0] = max(places[0], least)
    for n in range(1, len(places)):
        places[n] = max(places[n], places[n - 1] + rooms[n - 1] + rooms[n])
    return places


def _curve(points: Sequence[Point], aside: float, head: int | None) -> list[str]:
    """A line through points, `aside` above them. head: -1 for one at the end, 0 for one at the beginning."""
    at = [(x + aside * math.sin(a), y - aside * math.cos(a), a) for x, y, a in points]
    heads = []
    if head is not None:
        x, y, a = at[head]
        turn = -1 if head == 0 else 1
        ux, uy = turn * math.cos(a), turn * math.sin(a)
        tail_x, tail_y = x - _HEAD * ux, y - _HEAD * uy
        side_x, side_y = -uy * _HALF_HEAD, ux * _HALF_HEAD
        one, other = (tail_x + side_x, tail_y + side_y), (tail_x - side_x, tail_y - side_y)
        corners = "L".join(f"{_n(px)} {_n(py)}" for px, py in ((x, y), one, other))
        heads = [element("path", d=f"M{corners}Z", class_="head")]
        at[head] = (x - 0.8 * _HEAD * ux, y - 0.8 * _HEAD * uy, a)
    path = f"M{_n(at[0][0])} {_n(at[0][1])}"
    for (x0, y0, a0), (x1, y1, a1) in pairwise(at):
        if abs(y1 - y0) < 0.05 and not a0 and not a1:
            path += f"H{_n(x1)}"
        else:
            k = 0.5 * abs(x1 - x0)
            c0, c1 = (x0 + k * math.cos(a0), y0 + k * math.sin(a0)), (x1 - k * math.cos(a1), y1 - k * math.sin(a1))
            path += f"C{_n(c0[0])} {_n(c0[1])} {_n(c1[0])} {_n(c1[1])} {_n(x1)} {_n(y1)}"
    return [element("path", d=path), *heads]


def _text(text: Lines, x: float, y: float, kind: str, anchor: str = "middle", size: float = 13) -> list[str]:
    """Lines below each other, the first at y; on a ground of their own where they tell of nan or inf."""
    if not text.lines:
        return []
    parts = [
        element("text", escape(line), x=_n(x), y=_n(y + LINE * k), text_anchor=anchor, class_=kind)
        for k, line in enumerate(text.lines)
    ]
    if not text.bad:
        return parts
    wide = max(width(line, size) for line in text.lines) + 6
    left = x - {"middle": wide / 2, "end": wide - 3, "start": 3}[anchor]
    frame = {"x": _n(left), "y": _n(y - 12), "width": _n(wide), "height": _n(LINE * len(text.lines) + 1), "rx": 3}
    return [element("g", element("rect", **frame), *parts, class_="bad")]


def _middle(kind: str) -> dict[str, str]:
    return {"text_anchor": "middle", "class_": kind}


def _n(value: float) -> str:
    """A coordinate, to a tenth."""
    text = f"{value:.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"
