"""trace_nonfinite: where a nan or an infinity comes from, in a graph that is there already."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.debug.report import CHAIN, NonfiniteReport, Step, all_finite, blamed, fresh, report_on, values_at
from minigrad.errors import DTypeError, GraphError
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
    try:
        with np.errstate(all="ignore"):
            graph = as_graph(loss)
    except (GraphError, DTypeError) as error:
        raise type(error)("debug.trace_nonfinite: loss", error.got, error.expected, error.fix) from None
    output = graph.nodes[graph.output]
    if output.value is not None and not all_finite(output.value):
        return _forward(graph)
    return _backward(graph)


def _forward(graph: Graph) -> NonfiniteReport:
    """The first op that made what the output is not finite by; else the data."""
    nodes = graph.nodes
    # Of each node the entries that the output's depend on; where it is not finite at these, it is on the way.
    parts: dict[int, Any] = {graph.output: True}
    origin: tuple[GraphNode, Any, dict[str, Any]] | None = None
    unsure: GraphNode | None = None  # an op with an operand that is not known any more
    data: tuple[GraphNode, bool] | None = None
    for node in reversed(nodes):
        if node.number not in parts:
            continue
        part = parts[node.number]
        if node.kind != "op":
            if node.value is not None and np.isnan(node.value).any() >= (data is not None and data[1]):
                data = node, bool(np.isnan(node.value).any())
            continue
        bad: Any = True
        if node.value is not None:
            bad = ~np.isfinite(node.value) & part
            operands = _operands(graph, node)
            made = fresh(node.value, operands.values(), node.op)
            if made is not None and (made & bad).any():
                if all(nodes[i].value is not None for i in node.inputs):
                    origin = node, made & bad, operands
                else:
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
    if origin is not None:
        node, bad, operands = origin
        assert node.op is not None
        index = tuple(np.argwhere(bad)[0])
        at = values_at(index, node.shape or (), operands) if node.op.elementwise else {}
        known = [i for i in node.inputs if nodes[i].value is not None]
        chain: tuple[Step, ...] = ()
        if known and len(at) in (0, len(known)):
            chain = _chain(graph, known[blamed(node.op, [nodes[i].value for i in known], list(at.values()))])
        return report_on(_step(node), node.op, bad, ("out", node.value), operands, chain)
    if unsure is not None and data is None:
        out = np.asarray(unsure.value)
        fix = "run it again within detect_anomaly(): an operand of it is not known any more"
        return report_on(
            _step(unsure), unsure.op, ~np.isfinite(out), ("out", out), _operands(graph, unsure), (), fix=fix
        )
    node = data[0] if data is not None else nodes[graph.output]
    name = node.name or ("a tensor that requires a gradient" if node.kind == "leaf" else "a constant")
    step = Step(name, name, node.shape or (), node.line)
    value = np.asarray(node.value)
    fix = "remove or replace such values: np.isnan(data) and np.isinf(data) find them"
    if node.kind == "leaf":
        fix = "look at the last step that wrote into it: a smaller learning rate, or optim.clip_grad_norm_"
    return report_on(step, None, ~np.isfinite(value), (node.name or "value", value), {}, (), "data", fix)


def _backward(graph: Graph) -> NonfiniteReport:
    """The first rule, in the order of the walk, that makes gradients that are not finite; false if none does."""
    into: dict[int, list[Any]] = {}
    out_of: dict[int, list[Any]] = {}
    for edge in graph.edges:
        into.setdefault(edge.target, []).append(edge)
        out_of.setdefault(edge.source, []).append(edge)
    through: dict[int, tuple[Step, ...]] = {}  # the ops that a node's gradient came through
    explained = None
    leaves = [node.number for node in graph.nodes if node.kind == "leaf"]
    for number in (*graph.order, *leaves):
        node = graph.nodes[number]
        chain = through.get(number, ())
        g = node.gradient
        if g is not None and not all_finite(g) and all(_fine(edge.gradient) for edge in out_of.get(number, ())):
            fix = "scale the loss down, or compute in float64: the gradients of its uses are finite"
            return report_on(_step(node), None, ~np.isfinite(g), ("the sum of dout", g), {}, chain, "backward", fix)
        for edge in into.get(number, ()):
            if not _fine(edge.gradient):
                operands = _operands_of_rule(graph, node)
                bad = fresh(edge.gradient, operands.values(), node.op)
                told = _step(node), node.op, bad, (f"d{edge.argument}", edge.gradient), operands, chain, "backward"
                if bad is not None:
                    return report_on(*told)
                explained = explained or (*told[:2], ~np.isfinite(edge.gradient), *told[3:])
            through.setdefault(edge.source, (_step(node), *chain)[:CHAIN])
    return report_on(*explained) if explained is not None else NonfiniteReport()


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


def _step(node: GraphNode) -> Step:
    if node.op is not None:
        return Step.of(node.op, node.shape or (), node.line)
    name = node.name or "a leaf"
    return Step(name, name, node.shape or (), node.line)


def _chain(graph: Graph, number: int) -> tuple[Step, ...]:
    """The ops by which a node came, the latest first."""
    steps: list[Step] = []
    node: GraphNode | None = graph.nodes[number]
    while node is not None and node.op is not None and len(steps) < CHAIN:
        steps.append(_step(node))
        node = next((graph.nodes[i] for i in node.inputs if graph.nodes[i].kind == "op"), None)
    return tuple(steps)
