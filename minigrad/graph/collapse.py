"""Which nodes are drawn as one box: the ops of an nn module, the middle of a long chain, the middle of a huge graph.

The nodes of a box must not be left and entered again, or the picture would have a cycle. Ops that follow each other in
forward order never are, since every way between two of them lies between them in that order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from minigrad.errors import ArgumentError, describe
from minigrad.graph.data import Graph, GraphNode

__all__ = ["LIMIT", "MOST", "Fold", "folds"]

LIMIT = 400  # nodes drawn one by one, unless more are asked for
MOST = 2000  # and no more than these at all: 3 s, 2.5 MB of SVG and 60 screens, if they are tangled
_ENDS = 25  # ops that are left at both ends of a huge graph
_CHAIN, _CHAIN_ENDS = 12, 3
_INPUTS = 24
_DATA = {"x", "xs", "logits", "query", "indices", "labels", "targets"}  # what ops call arguments that are no parameters


@dataclass(frozen=True)
class Fold:
    """Nodes that are one box: their numbers, and what it says."""

    members: tuple[int, ...]
    title: str
    subtitle: str = ""


def folds(graph: Graph, collapse: Any = None) -> list[Fold]:
    """The boxes that `collapse` asks for; see draw.

    Raises ArgumentError for any other collapse, for modules that were not recorded, and for too many nodes.
    """
    if collapse is not None and not isinstance(collapse, bool) and not (isinstance(collapse, int) and collapse > 0):
        raise ArgumentError(
            "draw: collapse",
            describe(collapse),
            "None, True, False, or how many levels of modules are opened, from 1 on",
            "leave it out: a graph of more than 400 nodes is folded then",
        )
    n = len(graph.nodes)
    users = _users(graph)
    if collapse is None and n > LIMIT:
        levels = max(len(node.modules) for node in graph.nodes)
        for level in (True, *range(levels, 0, -1)) if levels else ():
            found = _modules(graph, users, level)
            if _shown(n, found) <= LIMIT:
                return found
        found = _chains(graph, users)
        return found if _shown(n, found) <= LIMIT else _middle(graph, users)
    found = _modules(graph, users, collapse) if collapse else []
    if _shown(n, found) > MOST:
        raise ArgumentError(
            "draw: collapse",
            f"{_shown(n, found)} nodes to be drawn one by one",
            f"at most {MOST}",
            "leave collapse out, and what does not fit is folded",
        )
    return found


def _shown(n: int, found: Iterable[Fold]) -> int:
    return n - sum(len(fold.members) - 1 for fold in found)


def _users(graph: Graph) -> list[list[int]]:
    """For each node the ops that take it."""
    users: list[list[int]] = [[] for _ in graph.nodes]
    for edge in graph.edges:
        users[edge.source].append(edge.target)
    return users


def _with_own(graph: Graph, users: list[list[int]], ops: Sequence[GraphNode], data: bool) -> list[GraphNode]:
    """ops, and the leaves and constants that only they use; data: also those that are what a module is called on."""
    inside = {node.number for node in ops}
    names: dict[int, set[str]] = {}
    for node in ops:
        for number, argument in zip(node.inputs, node.arguments, strict=True):
            names.setdefault(number, set()).add(argument.split("[")[0])
    own = []
    for number in sorted(names.keys() - inside):
        node = graph.nodes[number]
        outside = node.kind == "op" or not inside.issuperset(users[number])
        if not outside and (data or node.shape == () or not names[number] & _DATA):
            own.append(node)
    return [*own, *ops]


def _modules(graph: Graph, users: list[list[int]], level: int) -> list[Fold]:
    """A box for each module: the innermost for True, else those of so many levels."""
    paths = {node.modules for node in graph.nodes if node.modules}
    if not paths:
        raise ArgumentError(
            "draw: collapse",
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
            members = _with_own(graph, users, ops, data=False)
            found.append(Fold(tuple(node.number for node in members), key[-1], _parameters(members)))
    return found


def _parameters(members: Sequence[GraphNode]) -> str:
    count = 0
    for node in members:
        if node.kind == "leaf" and node.shape is not None:
            size = 1
            for n in node.shape:
                size *= n
            count += size
    return f"{count:,} parameter{'s' if count != 1 else ''}" if count else ""


def _chains(graph: Graph, users: list[list[int]]) -> list[Fold]:
    """The middle of every long chain of ops."""
    found = []
    chained: set[int] = set()

    op_inputs = [sum(graph.nodes[i].kind == "op" for i in node.inputs) for node in graph.nodes]

    def after(node: GraphNode) -> GraphNode | None:
        targets = users[node.number]
        if len(targets) != 1:
            return None
        target = graph.nodes[targets[0]]
        return target if op_inputs[target.number] == 1 else None

    for node in graph.nodes:
        if node.kind != "op" or node.number in chained:
            continue
        chain = [node]
        following = after(node)
        while following is not None:
            chained.add(following.number)
            chain.append(following)
            following = after(following)
        if len(chain) > _CHAIN:
            found.append(_run(graph, users, chain[_CHAIN_ENDS:-_CHAIN_ENDS]))
    return found


def _middle(graph: Graph, users: list[list[int]]) -> list[Fold]:
    """All but the first and the last ops, and the inputs of an op that takes very many."""
    ops = [node for node in graph.nodes if node.kind == "op"]
    found = []
    if len(ops) > 2 * _ENDS + 1:
        found.append(_run(graph, users, ops[_ENDS:-_ENDS]))
        ops = [*ops[:_ENDS], *ops[-_ENDS:]]
    for op in ops:
        own = [i for i in dict.fromkeys(op.inputs) if graph.nodes[i].kind != "op" and set(users[i]) == {op.number}]
        if len(own) > _INPUTS:
            found.append(Fold(tuple(own[3:-3]), f"… {len(own) - 6:,} inputs …"))
    return found


def _run(graph: Graph, users: list[list[int]], ops: Sequence[GraphNode]) -> Fold:
    members = _with_own(graph, users, ops, data=True)
    names = [node.symbol for node in ops]
    period = next((p for p in range(1, min(200, len(ops) // 2)) if names[p:] == names[:-p]), 0)
    if period and period <= 3:
        what = f"{len(ops) // period:,} times {', '.join(names[:period])}"
    elif period:
        what = f"{len(ops) // period:,} times the same {period}"
    else:
        what = ", ".join(f"{count:,} {name}" for name, count in Counter(names).most_common(2))
    return Fold(tuple(node.number for node in members), f"… {len(ops):,} nodes …", what)
