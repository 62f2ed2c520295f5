"""Which nodes are drawn as one box: the ops of an nn module, what repeats itself, the middle of a huge graph.

The nodes of a box must not be left and entered again, or the picture would have a cycle. Ops that follow each other in
forward order never are, since every way between two of them lies between them in that order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.graph.data import Graph, GraphNode

__all__ = ["LIMIT", "MOST", "Fold", "folds"]

LIMIT = 80  # nodes drawn one by one, unless more are asked for: three screens
MOST = 2000  # and no more than these at all: 3 s, 2.5 MB of SVG and 60 screens, if they are tangled
_FEW, _TOO_FEW = 60, 6  # what is to be left of a larger graph
_LONGEST = 200  # ops that may repeat themselves as one
_KEPT, _WORTH = 3, 6  # ops at least that are left on both sides of a repetition, and that make a box
_ENDS = 15  # ops that are left at both ends of a huge graph
_INPUTS = 24
# What ops call arguments that no module has as parameters. Ops do not declare it: only here does it matter.
_DATA = {"x", "xs", "logits", "query", "indices", "labels", "targets"}


@dataclass(frozen=True)
class Fold:
    """Nodes that are one box: their numbers, and what it says."""

    members: tuple[int, ...]
    title: str
    subtitle: str = ""


def folds(graph: Graph, collapse: Any = None) -> list[Fold]:
    """The boxes that `collapse` asks for; see draw.

    Raises DTypeError and ArgumentError for any other collapse, ArgumentError for modules that were not recorded, and
    for too many nodes.
    """
    n = len(graph.nodes)
    if collapse is None:
        return _few(graph) if n > LIMIT else []
    expected = "None, True, False, or how many levels of modules are opened, from 1 on"
    fix = f"leave it out: a graph of more than {LIMIT} nodes is folded then"
    if not isinstance(collapse, (bool, np.bool_, int, np.integer)):
        raise DTypeError("graph.draw: collapse", describe(collapse), expected, fix)
    level = bool(collapse) if isinstance(collapse, (bool, np.bool_)) else int(collapse)
    if level is not False and level < 1:
        raise ArgumentError("graph.draw: collapse", describe(collapse), expected, fix)
    found = _modules(graph, level) if level else []
    if _shown(graph, found) > MOST:
        raise ArgumentError(
            "graph.draw: collapse",
            f"{_shown(graph, found)} nodes to be drawn one by one",
            f"at most {MOST}",
            "leave collapse out, and what does not fit is folded",
        )
    return found


def _few(graph: Graph) -> list[Fold]:
    """The boxes of a large graph: modules, opened as deep as that leaves few, or what repeats itself, or the middle."""
    depth = max(len(node.modules) for node in graph.nodes)
    levels = [_modules(graph, level) for level in (True, *range(depth, 0, -1))] if depth else []
    for found in levels:
        if _TOO_FEW <= _shown(graph, found) <= _FEW:
            return found
    for found in (*levels, []):
        repeated = _repeated(graph, found)
        if _shown(graph, repeated) <= LIMIT:
            return repeated
    return _middle(graph)


def _shown(graph: Graph, found: Iterable[Fold]) -> int:
    return len(graph.nodes) - sum(len(fold.members) - 1 for fold in found)


def _with_own(graph: Graph, ops: Sequence[GraphNode], data: bool) -> list[GraphNode]:
    """ops, and the leaves and constants that only they use; data: also those that are what a module is called on."""
    inside = {node.number for node in ops}
    names: dict[int, set[str]] = {}
    for node in ops:
        for number, argument in zip(node.inputs, node.arguments, strict=True):
            names.setdefault(number, set()).add(argument.split("[")[0])
    own = []
    for number in sorted(names.keys() - inside):
        node = graph.nodes[number]
        outside = node.kind == "op" or not inside.issuperset(edge.target for edge in graph.outgoing[number])
        if not outside and (data or node.shape == () or not names[number] & _DATA):
            own.append(node)
    return [*own, *ops]


def _modules(graph: Graph, level: int) -> list[Fold]:
    """A box for each module: the innermost for True, else those of so many levels."""
    paths = {node.modules for node in graph.nodes if node.modules}
    if not paths:
        raise ArgumentError(
            "graph.draw: collapse",
            f"collapse={level} for a graph without modules",
            "a graph that was computed by nn modules within graph.record()",
            "write with graph.record(): out = model(x)",
        )
    opened = {path[:k] for path in paths for k in range(len(path))}
    runs: list[tuple[tuple[str, ...] | None, list[GraphNode]]] = []
    for node in graph.nodes:
        if node.kind == "op":
            path = node.modules if level is True else node.modules[:level]
            innermost = bool(path) and path not in opened
            key = path if innermost or (level is not True and len(path) == level) else None
            if key is None or not runs or runs[-1][0] != key:
                runs.append((key, []))
            runs[-1][1].append(node)
    found = []
    for key, ops in runs:
        if key is not None:
            members = _with_own(graph, ops, data=False)
            found.append(Fold(tuple(node.number for node in members), key[-1], _parameters(members)))
    return found


def _parameters(members: Sequence[GraphNode]) -> str:
    count = sum(prod(node.shape) for node in members if node.kind == "leaf" and node.shape is not None)
    return f"{count:,} parameter{'s' if count != 1 else ''}" if count else ""


def _repeated(graph: Graph, found: Sequence[Fold]) -> list[Fold]:
    """found, and what repeats itself in one box: ops and boxes that follow each other again and again."""
    box = {number: fold for fold in found for number in fold.members}
    items: list[Fold | GraphNode] = []  # in forward order
    for node in graph.nodes:
        item = box.get(node.number, node)
        if node.kind == "op" and not (items and items[-1] is item):
            items.append(item)
    names = [item.title.split(": ")[-1] if isinstance(item, Fold) else item.symbol for item in items]
    left: list[Fold] = []
    inside: set[int] = set()
    spans = [(0, len(items))]
    while spans:
        start, stop = spans.pop()
        run = _longest_run(names[start:stop], max(_WORTH, len(items) // 100))
        if run is None:
            continue
        period, first, times = run
        kept = -(-_KEPT // period)  # repetitions that are left on either side
        times -= 2 * kept
        first += start + kept * period
        last = first + times * period
        numbers = [n for item in items[first:last] for n in (item.members if isinstance(item, Fold) else [item.number])]
        ops = [graph.nodes[n] for n in sorted(numbers) if graph.nodes[n].kind == "op"]
        left.append(_box(graph, ops, times, names[first : first + period]))
        inside.update(left[-1].members)
        spans += [(start, first - kept * period), (last + kept * period, stop)]
    return [fold for fold in found if fold.members[-1] not in inside] + left


def _longest_run(names: Sequence[str], least: int) -> tuple[int, int, int] | None:
    """What repeats itself over the longest stretch: its length, where it begins, and how many times it comes.

    least: what is left in one box is to be longer than this.
    """
    numbers = {name: k for k, name in enumerate(dict.fromkeys(names))}
    codes = np.array([numbers[name] for name in names])
    best, longest = None, least
    for period in range(1, min(_LONGEST, len(names) // 3) + 1):
        breaks = np.flatnonzero(np.concatenate([[True], codes[period:] != codes[:-period], [True]]))
        k = int(np.diff(breaks).argmax())
        first, times = int(breaks[k]), (int(breaks[k + 1] - breaks[k]) - 1 + period) // period
        folded = (times - 2 * -(-_KEPT // period)) * period
        if folded > max(longest, period):
            best, longest = (period, first, times), folded
    return best


def _middle(graph: Graph) -> list[Fold]:
    """All but the first and the last ops, and the inputs of an op that takes very many."""
    ops = [node for node in graph.nodes if node.kind == "op"]
    found = []
    if len(ops) > 2 * _ENDS + 1:
        found.append(_box(graph, ops[_ENDS:-_ENDS]))
        ops = [*ops[:_ENDS], *ops[-_ENDS:]]
    for op in ops:
        own = [
            i
            for i in dict.fromkeys(op.inputs)
            if graph.nodes[i].kind != "op" and {edge.target for edge in graph.outgoing[i]} == {op.number}
        ]
        if len(own) > _INPUTS:
            found.append(Fold(tuple(own[3:-3]), f"… {len(own) - 6:,} inputs …"))
    return found


def _box(graph: Graph, ops: Sequence[GraphNode], times: int = 0, names: Sequence[str] = ()) -> Fold:
    """ops that follow each other, and what only they use, as one box. times: how often names come in it."""
    members = _with_own(graph, ops, data=True)
    if times:
        what = f"{times:,} times " + (", ".join(names) if len(names) <= 3 else f"the same {len(names)}")
    else:
        counts = Counter(node.symbol for node in ops)
        what = ", ".join(f"{count:,} {name}" for name, count in counts.most_common(2))
    return Fold(tuple(node.number for node in members), f"… {len(ops):,} nodes …", what)
