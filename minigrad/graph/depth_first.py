"""Why backward goes by birth: what a depth-first walk would give on the same graph, really computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.graph.data import Graph
from minigrad.graph.rules import run_rule, to_source
from minigrad.graph.tracing import trace
from minigrad.tensor import Tensor

__all__ = ["MOST_OPS", "Counterexample", "counterexample", "depth_first", "example", "shares"]

MOST_OPS = 300  # ops: in a larger graph nobody could follow the example
_VISIBLE = 1e-3  # an error that shows in the digits that are printed


@dataclass(frozen=True, eq=False)
class Counterexample:
    """Where depth-first goes wrong.

    order: the ops as it visits them. node: the first one that it visits too early, when partial of its gradient has
    arrived. leaf: one whose gradient becomes wrong.
    """

    order: tuple[int, ...]
    node: int
    partial: Any
    leaf: int
    wrong: Any


def shares(graph: Graph) -> bool:
    """Whether the output of an op goes to two ops that gradients come back from."""
    for node in graph.nodes:
        users = {edge.target for edge in graph.outgoing[node.number] if edge.gradient is not None}
        if node.kind == "op" and len(users) > 1:
            return True
    return False


def depth_first(graph: Graph, *, last_first: bool = False) -> tuple[dict[int, Any], dict[int, Any]] | None:
    """The walk that visits each op once, each path to its end first; None where a rule cannot be run again.

    last_first: of several inputs the last is followed first. Returns the gradients that the ops had when they were
    visited, in this order, and those that all nodes have in the end.
    """
    output = graph.nodes[graph.output]
    pending: dict[int, Any] = {graph.output: np.ones(output.shape or (), output.dtype)}
    visited: dict[int, Any] = {}
    stack = [graph.output]
    while stack:
        node = graph.nodes[stack.pop()]
        if node.kind != "op" or node.number in visited or node.number not in pending:
            continue
        dout = visited[node.number] = pending[node.number]
        grads = run_rule(graph, node, dout)
        if grads is None:
            return None
        for i, g in zip(node.inputs, grads, strict=True):
            if g is not None and graph.nodes[i].kind != "constant":
                g = to_source(g, graph.nodes[i])
                pending[i] = pending[i] + g if i in pending else g
        stack.extend(node.inputs if last_first else node.inputs[::-1])
    return visited, pending


def counterexample(graph: Graph) -> Counterexample | None:
    """Where depth-first goes wrong on this graph; None where it does not, or where that cannot be computed."""
    if len(graph.order) > MOST_OPS or not shares(graph):
        return None
    for last_first in (False, True):
        walked = depth_first(graph, last_first=last_first)
        if walked is None:
            return None
        visited, found = walked
        if not all(np.isfinite(g).all() for g in found.values()):
            return None  # then the numbers may be wrong for another reason than the order
        early = [n for n, dout in visited.items() if _error(dout, graph.nodes[n].gradient) > _VISIBLE]
        errors = {n.number: _error(found.get(n.number), n.gradient) for n in graph.nodes if n.kind == "leaf"}
        worst = max(errors, key=lambda n: errors[n], default=0)
        if early and errors[worst] > _VISIBLE:
            return Counterexample(tuple(visited), early[0], visited[early[0]], worst, found[worst])
    return None


def example(x: float = 1.0) -> Graph:
    """The graph of y = a + exp(a), a = x * x.

    >>> found = counterexample(example())
    >>> float(found.wrong), float(example().nodes[found.leaf].gradient)
    (2.0, 7.43656365691809)
    """
    a = ops.multiply(leaf := Tensor(x, requires_grad=True, name="x"), leaf)
    return trace(ops.add(a, ops.exp(a)), {"a": a})


def _error(got: Any, right: Any) -> float:
    """The largest difference, relative to the largest value."""
    if got is None or right is None or not right.size:
        return 0.0
    scale = float(np.max(np.abs(right))) or 1.0
    return float(np.max(np.abs(got - right))) / scale
