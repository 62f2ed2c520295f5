"""A layered layout, of boxes and links alone: the column, the place in it and the height of every box.

The usual four steps (Sugiyama, Tagawa and Toda 1981): columns by the longest path; a box for each label and a dummy in
each column that a link only passes; an order with few crossings; heights that keep what is straight straight. Nodes
stand in even columns, labels in odd ones, so that by construction no box and no link lies on another box.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Box", "Link", "Placed", "crossings", "place"]

SEPARATION = 12.0  # between two boxes of a column
GAP, WIDEST_GAP = 24.0, 90.0  # between two columns
_ROUNDS, _PATIENCE = 24, 6
_TANGLED = 50  # crossings from which on Graphviz is asked
_FIRM = 1e4  # how much less a box gives way than one that is a level less firm


@dataclass
class Box:
    """What takes room: `width`, and how far it reaches above and below the line that its links lie on.

    firm: the higher, the straighter its line stays where something has to give way.
    """

    width: float
    up: float
    down: float
    firm: int = 3


@dataclass
class Link:
    """From the box `source` to the box `target`; `label` is to stand on it, behind its source.

    weight: of the links of a box, those with the largest weight decide how high it stands.
    span: how many ranks it leads on, at least.
    """

    source: int
    target: int
    label: Box = field(default_factory=lambda: Box(0, 0, 0))
    weight: int = 1
    span: int = 1


@dataclass
class Placed:
    """Where everything is: left and right edge of the column of each box, its y, and the way of each link.

    grid: the edges of all columns, those of labels too.
    ways: for each link its horizontal stretches (left, right, y), that of its label first.
    """

    grid: list[tuple[float, float]]
    columns: list[tuple[float, float]]
    ys: list[float]
    ways: list[list[tuple[float, float, float]]]
    right: float
    top: float
    bottom: float


@dataclass
class _Items:
    """Boxes, labels and dummies, each in its column: column 2 * rank for boxes, the odd ones for labels."""

    columns: list[list[int]] = field(default_factory=list)
    column: list[int] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    ins: list[list[tuple[int, int]]] = field(default_factory=list)  # (item, weight)
    outs: list[list[tuple[int, int]]] = field(default_factory=list)

    def add(self, box: Box, column: int) -> int:
        self.column.append(column)
        self.boxes.append(box)
        self.ins.append([])
        self.outs.append([])
        return len(self.boxes) - 1

    def join(self, a: int, b: int, weight: int) -> None:
        self.outs[a].append((b, weight))
        self.ins[b].append((a, weight))


def place(
    boxes: Sequence[Box],
    links: Sequence[Link],
    *,
    first: Iterable[int] = (),
    reach: float = 0.0,
    graphviz: bool = False,
) -> Placed:
    """Where boxes and links go, from left to right; the links of a target are given in their order from the top.

    first: boxes that stand in the leftmost column, alone; nothing comes into them.
    reach: how wide it is to be at least. graphviz: where many links cross, pygraphviz finds the order.

    >>> placed = place([Box(10, 5, 5), Box(10, 5, 5)], [Link(0, 1)])
    >>> placed.ys, placed.columns
    ([0.0, 0.0], [(0.0, 10.0), (58.0, 68.0)])
    """
    ranks = _ranks(len(boxes), links, set(first))
    items = _Items()
    for box, rank in zip(boxes, ranks, strict=True):
        items.add(box, 2 * rank)
    passed = []
    for link in links:
        before = link.source
        chain: list[int] = []
        for column in range(2 * ranks[link.source] + 1, 2 * ranks[link.target]):
            box = Box(0, 4, 4, link.label.firm) if chain else link.label
            chain.append(items.add(box, column))
            items.join(before, chain[-1], link.weight)
            before = chain[-1]
        items.join(before, link.target, link.weight)
        passed.append(chain)
    _order(items)
    if graphviz and crossings(items) > _TANGLED:
        _order_by_graphviz(items)
    ys = _heights(items, len(boxes))
    xs = _columns(items, ys, reach)
    ways = [[(*xs[items.column[i]], ys[i]) for i in chain] for chain in passed]
    return Placed(
        xs,
        [xs[items.column[i]] for i in range(len(boxes))],
        ys[: len(boxes)],
        ways,
        max((x for _, x in xs), default=0.0),
        min((y - box.up for y, box in zip(ys, items.boxes, strict=True)), default=0.0),
        max((y + box.down for y, box in zip(ys, items.boxes, strict=True)), default=0.0),
    )


def _ranks(n: int, links: Sequence[Link], first: set[int]) -> list[int]:
    """The rank of each box: after all it comes from, and as far right as that makes links shorter."""
    ins: list[list[int]] = [[] for _ in range(n)]
    outs: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for link in links:
        ins[link.target].append(link.source)
        outs[link.source].append((link.target, link.span))
    waiting = [len(sources) for sources in ins]
    order = deque(i for i in range(n) if not waiting[i])
    ranks = [int(bool(first) and i not in first) for i in range(n)]
    done = []
    while order:
        i = order.popleft()
        done.append(i)
        for j, span in outs[i]:
            ranks[j] = max(ranks[j], ranks[i] + span)
            waiting[j] -= 1
            if not waiting[j]:
                order.append(j)
    for i in reversed(done):
        # A box that nothing comes into, or leaves only, takes them along: they are not held by what is on the left.
        held = sum(1 for j in ins[i] if ins[j] or j in first)
        if outs[i] and i not in first and len(outs[i]) > held:
            ranks[i] = min(ranks[j] - span for j, span in outs[i])
    return ranks


def crossings(items: _Items) -> int:
    """How many pairs of links cross."""
    total = 0
    for column in items.columns[:-1]:
        place_of = {i: k for k, i in enumerate(items.columns[items.column[column[0]] + 1])} if column else {}
        seen: list[int] = []
        for i in column:
            ends = sorted(place_of[j] for j, _ in items.outs[i])
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _order(items: _Items) -> None:
    """Fills items.columns, each from the top, with few crossings: barycentres, back and forth; the best is kept."""
    items.columns = [[] for _ in range(max(items.column, default=0) + 1)]
    seen = [False] * len(items.boxes)
    for sink in reversed(range(len(items.boxes))):
        stack = [] if items.outs[sink] else [sink]
        while stack:  # depth first from the end: a tree comes out without crossings
            i = stack.pop()
            if not seen[i]:
                seen[i] = True
                items.columns[items.column[i]].append(i)
                stack += [j for j, _ in reversed(items.ins[i])]
    best, fewest, stale = [list(column) for column in items.columns], crossings(items), 0
    place_of = [0.0] * len(items.boxes)
    for column in items.columns:
        for k, i in enumerate(column):
            place_of[i] = k
    for k in range(_ROUNDS):
        if not fewest or stale >= _PATIENCE:
            break
        sides, columns = (items.ins, items.columns) if k % 2 else (items.outs, items.columns[::-1])
        for column in columns:
            keys = {i: _mean([place_of[j] for j, _ in sides[i]], place_of[i]) for i in column}
            column.sort(key=keys.__getitem__)
            for place, i in enumerate(column):
                place_of[i] = place
        _exchange(items, place_of)
        count = crossings(items)
        stale += 1
        if count < fewest:
            best, fewest, stale = [list(column) for column in items.columns], count, 0
    items.columns = best


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _exchange(items: _Items, place_of: list[float]) -> None:
    """Exchanges neighbours in a column where that saves crossings."""
    for column in items.columns:
        for k in range(len(column) - 1):
            a, b = column[k], column[k + 1]
            saved = 0
            for side in (items.ins, items.outs):
                one = [place_of[j] for j, _ in side[a]]
                other = sorted(place_of[j] for j, _ in side[b])
                for x in one:
                    less = bisect_right(other, x)
                    equal = less - bisect_right(other, x - 0.5)
                    saved += (less - equal) - (len(other) - less)
            if saved > 0:
                column[k], column[k + 1] = b, a
                place_of[a], place_of[b] = place_of[b], place_of[a]


def _heights(items: _Items, nodes: int) -> list[float]:
    """y of every item: the weighted median of its neighbours, as far as there is room. nodes: how many are nodes."""
    ys = [0.0] * len(items.boxes)
    for column in items.columns:
        _stack(items, column, ys, [0.0] * len(column))
    for k in range(8):
        ahead = k % 2 == 1
        near, far = (items.ins, items.outs) if ahead else (items.outs, items.ins)
        for column in items.columns if ahead else items.columns[::-1]:
            _stack(items, column, ys, [_median(near[i] or far[i], ys, ys[i]) for i in column])
    # Main lines have found their place: what only leads to them follows, first to them and then in itself.
    follows = [not links for links in items.ins]
    for column in items.columns:
        for i in column:
            follows[i] |= i >= nodes and follows[items.ins[i][0][0]]
    for side, columns in ((items.outs, items.columns[::-1]), (items.ins, items.columns)):
        for column in columns:
            _stack(items, column, ys, [_median(side[i], ys, ys[i]) if follows[i] else ys[i] for i in column])
    low = min(ys, default=0.0)
    return [round(y - low, 1) for y in ys]


def _median(neighbours: Sequence[tuple[int, int]], ys: Sequence[float], otherwise: float) -> float:
    """The weighted median of the neighbours' y, the middle of two where they weigh the same."""
    if not neighbours:
        return otherwise
    ranked = sorted((ys[j], weight) for j, weight in neighbours)
    half, total = sum(weight for _, weight in ranked) / 2, 0
    for k, (y, weight) in enumerate(ranked):
        total += weight
        if total == half:
            return (y + ranked[k + 1][0]) / 2
        if total > half:
            return y
    return otherwise


def _stack(items: _Items, column: Sequence[int], ys: list[float], wanted: Sequence[float]) -> None:
    """Puts a column where it wants to be, least squares, without overlap: pools of neighbours that push each other."""
    offset, before = 0.0, None
    pools: list[list[float]] = []  # sum of weight * wanted, weight, members
    offsets = []
    for i, y in zip(column, wanted, strict=True):
        box = items.boxes[i]
        if before is not None:
            offset += before.down + SEPARATION + box.up
        before = box
        offsets.append(offset)
        weight = _FIRM**box.firm
        pools.append([weight * (y - offset), weight, 1])
        while len(pools) > 1 and pools[-2][0] * pools[-1][1] >= pools[-1][0] * pools[-2][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    k = 0
    for total, weight, members in pools:
        for _ in range(int(members)):
            ys[column[k]] = total / weight + offsets[k]
            k += 1


def _columns(items: _Items, ys: Sequence[float], reach: float) -> list[tuple[float, float]]:
    """Left and right edge of every column; the steeper the links between two, the further they are apart."""
    edges: list[tuple[float, float]] = []
    if reach:
        narrow = _columns(items, ys, 0.0)
        missing = max(0.0, reach - narrow[-1][1]) / max(1, len(narrow) - 1)
        return [(left + k * missing, right + k * missing) for k, (left, right) in enumerate(narrow)]
    x = 0.0
    for column in items.columns:
        width = max((items.boxes[i].width for i in column), default=0.0)
        edges.append((round(x, 1), round(x + width, 1)))
        steep = max((abs(ys[j] - ys[i]) for i in column for j, _ in items.outs[i]), default=0.0)
        x += width + min(GAP + 0.25 * steep, WIDEST_GAP)
    return edges


def _order_by_graphviz(items: _Items) -> None:
    """The same by Graphviz's dot, which pygraphviz >= 2 brings along."""
    from pygraphviz import AGraph  # type: ignore[import-not-found,unused-ignore]  # no types, and perhaps not there

    columns: list[list[int]] = [[] for _ in range(max(items.column, default=0) + 1)]
    for i, column in enumerate(items.column):
        columns[column].append(i)
    # Only the order is taken: no splines, and 0.01 n steps for the heights, which would be most of dot's time.
    lines = ["digraph {", "rankdir=LR; splines=none; nslimit=0.01; node [shape=point];"]
    lines += [f"{i} -> {j};" for i, links in enumerate(items.outs) for j, _ in links]
    lines += [f"{{rank=same; {'; '.join(map(str, group))}}}" for group in columns]
    graph = AGraph(string="\n".join([*lines, "}"]))
    graph.layout("dot")
    ys = [-float(graph.get_node(i).attr["pos"].split(",")[1]) for i in range(len(items.boxes))]
    items.columns = [sorted(group, key=ys.__getitem__) for group in columns]
