"""A node's rule run again, with ones for the local derivative; and whether the formula that its op declares holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.autograd import enable_grad
from minigrad.graph.data import Graph, GraphNode
from minigrad.graph.formula import gradient
from minigrad.op import registry
from minigrad.ops.reduce import Reduction
from minigrad.sums import unbroadcast
from minigrad.tensor import plain
from minigrad.watch import watchers

__all__ = ["aside", "declared", "local_derivatives", "not_selected", "run_rule", "to_source"]


@contextmanager
def aside() -> Iterator[None]:
    """Within, ops are recorded and nobody is told: what an explanation computes is not the user's computation."""
    before = watchers.set(())
    try:
        with enable_grad(), np.errstate(all="ignore"):
            yield
    finally:
        watchers.reset(before)


def run_rule(graph: Graph, node: GraphNode, dout: Any) -> tuple[Any, ...] | None:
    """What the rule of node gives for dout, one gradient an argument; None where a value that it needs is unknown."""
    op = node.op
    assert op is not None
    inputs = [graph.nodes[i] for i in node.inputs]
    values = [_value(i) for i in inputs]
    asked: list[Any] = []
    if op.variadic:
        asked = values if op.asks else []
    with aside():
        for ask in () if op.variadic else op.asks:
            if ask == op.keeps:
                asked.append(getattr(op, ask)(*values))
            elif ask == "out":
                asked.append(node.value)
            elif ask == "needs":
                asked.append(tuple(i.kind != "constant" for i in inputs))
            elif ask.endswith("_shape"):
                asked.append(inputs[op.args.index(ask.removesuffix("_shape"))].shape or ())
            else:
                asked.append(values[op.args.index(ask)])
            if asked[-1] is None:
                return None
        grads = op.backward(dout, *asked)
    return grads if isinstance(grads, tuple) else (grads,)


def local_derivatives(graph: Graph, node: GraphNode) -> tuple[Any, ...] | None:
    """d(out)/d(argument) of an op that works entry by entry, in out's shape; None where it is unknown."""
    if node.op is None or not node.op.elementwise or node.shape is None:
        return None
    return run_rule(graph, node, np.ones(node.shape, node.dtype))


def to_source(g: Any, source: GraphNode) -> Any:
    """A gradient summed over the axes along which forward had stretched its argument."""
    return g if g is None or source.shape is None or g.shape == source.shape else unbroadcast(g, source.shape)


def _value(node: GraphNode) -> Any:
    """A node's value; a plain number as such, so that it leaves float32 alone."""
    value = node.value
    is_number = node.kind == "constant" and value is not None and value.ndim == 0 and value.dtype.kind != "b"
    return value.item() if is_number and value is not None else value


def not_selected(upstream: Any, local: Any, along: Any) -> bool:
    """Whether nothing flows at an entry whose product would be nan or inf, since where or its kin did not select it."""
    if upstream is None or local is None or np.isfinite(local).all() or not np.isfinite(along).all():
        return False
    return bool((~np.isfinite(local) & (upstream == 0)).any())


@cache
def _functions() -> dict[str, Any]:
    """What a declared formula may call: NumPy's functions, and ours where NumPy has none."""

    def on_arrays(function: Any) -> Any:
        return lambda *args, **kwargs: plain(function(*args, **kwargs))

    ours = {op.name: on_arrays(getattr(ops, op.name)) for op in registry() if hasattr(ops, op.name)}
    return {**ours, **vars(np), "unbroadcast": unbroadcast}


def declared(graph: Graph, node: GraphNode, k: int, along: Any) -> tuple[ast.expr | None, bool]:
    """The formula that an op declares for its argument k, None where it has none, or does not say what flowed along.

    Declared is what the usual call does: a loss's mean, a product of matrices. The second result is whether a formula
    was refused, because it gives other numbers.
    """
    op = node.op
    assert op is not None
    tree = gradient(op, k)
    if tree is None or along is None or node.gradient is None:
        return tree, False
    inputs: list[Any] = [graph.nodes[i].value for i in node.inputs]
    given: dict[str, Any] = {op.args[0]: inputs} if op.variadic else dict(zip(op.args, inputs, strict=True))
    given |= vars(op) | {"out": node.value, "dout": node.gradient}
    if isinstance(op, Reduction):  # such a formula leaves the axes that are reduced in, of length 1
        shape = graph.nodes[node.inputs[0]].shape or ()
        given |= {x: given[x] if given[x] is None else op.spread(given[x], shape) for x in ("out", "dout")}

    def one_hot(labels: Any) -> Any:
        return labels if labels.ndim == 2 else np.eye(inputs[0].shape[1])[labels]

    used = {part.id for part in ast.walk(tree) if isinstance(part, ast.Name)}
    if any(given[x] is None for x in used & set(given) - set(vars(op))):
        return tree, False  # nobody can tell
    code = compile(ast.fix_missing_locations(ast.Expression(tree)), f"<{op.name}>", "eval")
    try:
        with aside():
            got = eval(code, {**_functions(), "one_hot": one_hot, **given})
            got = to_source(np.asarray(got), graph.nodes[node.inputs[k]])
    except NameError:  # of a user's op, whose formula is for reading only
        return tree, False
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError):  # shapes it was not written for
        return None, True
    # Of an op that works entry by entry a formula may be off where the gradient is as small as dout's last digits.
    size = np.abs(node.gradient if op.elementwise else along)
    scale = float(np.max(size, initial=0.0, where=np.isfinite(size)))
    tolerance = _TOLERANCE.get(along.dtype.itemsize, 1e-7)
    if got.shape == along.shape:
        got = np.where((along == 0) & ~np.isfinite(got), 0, got)  # entries that were not selected: see not_selected
        if np.allclose(got, along, tolerance, tolerance * scale, equal_nan=True):
            return tree, False
    return None, True


_TOLERANCE = {2: 2e-2, 4: 1e-4}  # by the bytes of a float
