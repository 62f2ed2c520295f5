"""trace_nonfinite: where a nan or an infinity comes from, in a graph that is there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad.debug.fixes import IN_DATA, IN_LEARNED, OF_SUM
from minigrad.debug.report import CHAIN, Made, NonfiniteReport, all_finite, fresh, report_on, way
from minigrad.graph.data import Graph, GraphNode
from minigrad.graph.tracing import as_graph
from minigrad.tensor import Tensor

__all__ = ["trace_nonfinite"]


def trace_nonfinite(loss: Tensor | Graph) -> NonfiniteReport:
    """Where the first nan or infinity in loss comes from, or else the first in its gradients; a report, to be printed.

    loss: a Tensor whose graph has not been walked yet (or was kept with retain_graph=True), or a Graph. The graph and
    every `.grad` stay as they are. Values that have no part in loss, because `where` did not select them, are not
    blamed. What the tape does not keep is computed from what it keeps; lines of files are known for ops that ran within
    detect_anomaly() or graph.record().
    The report is false, and says so, if loss and all its gradients are finite. Its origin is an op, or, where the data
    were not finite to begin with, the leaf or constant. Raises GraphError for a loss without a graph or with a released
    one, DTypeError for anything else.

    >>> import minigrad as mg
    >>> x = mg.Tensor([4.0, 0.0], requires_grad=True, name="x")
    >>> print(trace_nonfinite(mg.sqrt(x).sum()))
    sqrt.backward: it made inf of finite values: dx[1], where dout = 1, out = 0
      dx: float64 (2,), 0.25, of 2 values 1 infinite
      dout: float64 (2,), 1, all finite
      out: float64 (2,), 0 to 2, all finite
      whose gradient came through
        sum -> ()
      lines are noted for ops that run within detect_anomaly() or graph.record()
      fix: use norm, whose gradient at 0 is 0, or sqrt(x + 1e-12)
    >>> bool(trace_nonfinite(mg.sqrt(x + 1).sum()))
    False
    """
    with np.errstate(all="ignore"):
        graph = as_graph(loss, "debug.trace_nonfinite: loss")
    output = graph.nodes[graph.output]
    if output.value is not None and not all_finite(output.value):
        return _forward(graph)
    return _backward(graph)


def _forward(graph: Graph) -> NonfiniteReport:
    """The first op that made what the output is not finite by; else the data."""
    nodes = graph.nodes
    # Of each node the entries that the output's depend on; where it is not finite at these, it is on the way.
    parts: dict[int, Any] = {graph.output: True}
    # The first of each kind, since the last one comes first here: an op that made bad entries, with these; one that is
    # not finite, with an operand that is not known any more; data with a nan, and with an infinity.
    origin: tuple[GraphNode, Any] | None = None
    unsure = with_nan = with_inf = None
    for node in reversed(nodes):
        if node.number not in parts:
            continue
        part = parts[node.number]
        if node.kind != "op":
            if node.value is not None:
                with_inf = node
                with_nan = node if np.isnan(node.value).any() else with_nan
            continue
        bad: Any = True
        if node.value is not None:
            bad = ~np.isfinite(node.value) & part
            made = fresh(node.value, _operands(graph, node).values(), node.op)
            if made is not None and (made & bad).any():
                unknown = [nodes[i].kind for i in node.inputs if nodes[i].value is None]
                if not unknown:
                    origin = node, made & bad
                elif origin is None or set(unknown) != {"constant"}:  # which may be a mask of -inf: origin made more
                    unsure = node
        for i in node.inputs:
            x = nodes[i].value
            if x is not None and all_finite(x):
                continue
            entries: Any = True
            if x is not None and node.op is not None and node.op.elementwise and bad is not True:
                entries = _where_used(bad, x.shape)
                if not (entries & ~np.isfinite(x)).any():
                    continue
            parts[i] = parts[i] | entries if i in parts else entries
    data = with_nan or with_inf
    if unsure is not None and data is None and (origin is None or unsure.number < origin[0].number):
        out = np.asarray(unsure.value)
        fix = "run it again within detect_anomaly(): an operand of it is not known any more"
        return report_on(_made(unsure), ~np.isfinite(out), ("out", out), {}, fix=fix)
    if origin is not None:
        node, bad = origin
        return report_on(
            _made(node),
            bad,
            ("out", node.value),
            _operands(graph, node),
            lambda i: way(nodes[node.inputs[i]], _before(graph)),
            leaves=_leaves(graph),
        )
    node = data or nodes[graph.output]
    value = np.asarray(node.value)
    name = node.name or ("a tensor that requires a gradient" if node.kind == "leaf" else "a constant")
    fix = IN_LEARNED if node.kind == "leaf" else IN_DATA
    data_made = Made(None, node.shape or (), node.line, name)
    return report_on(data_made, ~np.isfinite(value), (node.name or "value", value), {}, (), "data", fix=fix)


def _backward(graph: Graph) -> NonfiniteReport:
    """The first rule, in the order of the walk, that makes gradients that are not finite; false if none does."""
    through: dict[int, tuple[Made, ...]] = {}  # what a node's gradient came through
    explained: NonfiniteReport | None = None  # a rule whose operands are a reason for what it made
    leaves = [node.number for node in graph.nodes if node.kind == "leaf"]
    for number in (*graph.order, *leaves):
        node, chain = graph.nodes[number], through.get(number, ())
        g = node.gradient
        if not _fine(g) and all(_fine(edge.gradient) for edge in graph.outgoing[number]):
            out = "the sum of dout", g
            return report_on(_made(node), ~np.isfinite(g), out, {}, chain, "backward", fix=OF_SUM)  # type: ignore[arg-type]  # not fine: not None
        for edge in graph.incoming[number]:
            if not _fine(edge.gradient):
                operands, out = _operands_of_rule(graph, node), (f"d{edge.argument}", edge.gradient)
                bad = fresh(edge.gradient, operands.values(), node.op)
                if bad is not None or explained is None:
                    report = report_on(
                        _made(node),
                        ~np.isfinite(edge.gradient) if bad is None else bad,  # type: ignore[arg-type]  # not None
                        out,
                        operands,
                        chain,
                        "backward",
                        history=way(node, _before(graph))[1:],
                        leaves=_leaves(graph),
                    )
                    if bad is not None:
                        return report
                    explained = report
            through.setdefault(edge.source, (_made(node), *chain)[:CHAIN])
    return explained or NonfiniteReport()


def _fine(g: Any) -> bool:
    return g is None or all_finite(g)


def _operands(graph: Graph, node: GraphNode) -> dict[str, Any]:
    """The arguments of an op that are known, by name."""
    found = {}
    for argument, i in zip(node.arguments, node.inputs, strict=True):
        x = graph.nodes[i]
        if x.value is not None:
            found[f"{argument} ({x.name})" if x.kind != "op" and x.name else argument] = x.value
    return found


def _operands_of_rule(graph: Graph, node: GraphNode) -> dict[str, Any]:
    """What a rule is given, as far as it is known, by name."""
    assert node.op is not None
    known = {x: graph.nodes[i].value for x, i in zip(node.arguments, node.inputs, strict=True)}
    asked = set(node.op.asks) if not node.op.keeps and not node.op.variadic else {*node.op.asks, *node.arguments}
    values = {"dout": node.gradient, **known, "out": node.value}
    return {x: a for x, a in values.items() if a is not None and (x == "dout" or x in asked)}


def _where_used(bad: Any, shape: tuple[int, ...]) -> Any:
    """bad, of the shape of an elementwise op's result, as booleans that fit an operand of this shape."""
    bad = np.asarray(bad)
    extra = bad.ndim - len(shape)
    bad = bad.any(axis=tuple(range(extra)))
    return bad.any(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


def _made(node: GraphNode) -> Made:
    return Made.by(node, node.name or "a leaf")


def _before(graph: Graph) -> Callable[[GraphNode], Iterator[GraphNode]]:
    return lambda node: (graph.nodes[i] for i in node.inputs)


def _leaves(graph: Graph) -> Iterator[tuple[str, Any]]:
    return ((node.name, node.value) for node in graph.nodes if node.kind == "leaf" and node.value is not None)
