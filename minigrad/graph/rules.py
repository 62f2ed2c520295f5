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
from minigrad.graph.formula import gradient, names
from minigrad.op import Op, registry, sealed
from minigrad.ops.reduce import Reduction
from minigrad.sums import unbroadcast
from minigrad.tensor import plain
from minigrad.watch import unwatched

__all__ = ["aside", "declared", "local_derivatives", "not_selected", "run_rule", "to_source"]


@contextmanager
def aside() -> Iterator[None]:
    """Within, ops are recorded and nobody is told: what an explanation computes is not the user's computation."""
    with unwatched(), enable_grad(), np.errstate(all="ignore"):
        yield


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
    return g if g is None or source.shape is None else unbroadcast(g, source.shape)


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


# What a declared formula may call and read, besides NumPy's functions of entries: nothing that opens a file
_CALLED = (
    *("all", "any", "argsort", "broadcast_to", "cumsum", "expand_dims", "eye", "flip", "max", "mean", "min"),
    *("moveaxis", "ndim", "ones_like", "outer", "prod", "ravel", "reshape", "shape", "size", "split", "squeeze"),
    *("std", "sum", "swapaxes", "transpose", "var", "where", "zeros_like"),
)
_READ = {"T", "astype", "dtype", "max", "mean", "min", "ndim", "outer", "prod", "reshape", "shape", "size", "sum"}


@cache
def _known() -> dict[str, Any]:
    """What the names of a declared formula stand for, those of values left out; no builtins."""

    def on_arrays(function: Any) -> Any:
        return lambda *args, **kwargs: plain(function(*args, **kwargs))

    ours = {op.name: on_arrays(getattr(ops, op.name)) for op in registry() if hasattr(ops, op.name)}
    entries = {name: f for name, f in vars(np).items() if isinstance(f, np.ufunc)}
    own = {f.__name__: f for f in (unbroadcast, len, slice, tuple, zip)}
    return {"__builtins__": {}, "pi": np.pi, **ours, **entries, **{name: getattr(np, name) for name in _CALLED}, **own}


class _AsItIs(ast.NodeTransformer):
    """A declared formula as it is for one node: of what reduces, dout and out with their axes back."""

    def __init__(self, op: Op, node: GraphNode, shape: tuple[int, ...]) -> None:
        self.fields = vars(op)
        reduced = isinstance(op, Reduction) and op.axis is not None and len(shape) > len(node.shape or ())
        self.lacks_axes = {"dout", "out"} if reduced else set()

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.lacks_axes:
            return node
        return ast.Call(ast.Name("expand_dims", ast.Load()), [node, ast.Name("axis", ast.Load())], [])

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if node.attr == "size":  # is the same with the axes and without them
            return node
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """transpose(dout, axes and argsort(axes)) with the option axes or without it."""
        node.args = [arg for arg in map(self._chosen, node.args) if arg is not None]
        self.generic_visit(node)
        return node

    def _chosen(self, arg: ast.expr) -> ast.expr | None:
        if not isinstance(arg, ast.BoolOp) or not isinstance(arg.op, ast.And) or len(arg.values) > 2:
            return arg
        option, then = arg.values
        if not isinstance(option, ast.Name) or option.id not in self.fields:
            return arg
        return None if self.fields[option.id] is None else then


def declared(graph: Graph, node: GraphNode, k: int, along: Any) -> tuple[ast.expr | None, bool]:
    """The formula that an op declares for its argument k, None where it has none, or does not say what flowed along.

    Declared is what the usual call does: a loss's mean, a product of matrices. The second result is whether a formula
    was refused, because it gives other numbers, or another shape.
    """
    op = node.op
    assert op is not None
    tree = gradient(op, k)
    source = graph.nodes[node.inputs[k]]
    if tree is None:
        return None, False
    tree = _AsItIs(op, node, source.shape or ()).visit(tree)
    if along is None or node.gradient is None:
        return tree, False
    inputs: list[Any] = [graph.nodes[i].value for i in node.inputs]
    given: dict[str, Any] = {op.args[0]: inputs} if op.variadic else dict(zip(op.args, inputs, strict=True))
    given |= vars(op) | {"out": node.value, "dout": node.gradient}
    given = {name: sealed(value) for name, value in given.items()}

    def one_hot(labels: Any) -> Any:
        return labels if labels.ndim == 2 else np.eye(inputs[0].shape[1])[labels]

    parts = list(ast.walk(tree))
    used = {part.id for part in parts if isinstance(part, ast.Name)}
    if any(given[x] is None for x in used & set(given) - set(vars(op))):
        return tree, False  # nobody can tell
    try:
        if any(isinstance(part, ast.Attribute) and part.attr not in _READ for part in parts):
            raise AttributeError
        code = compile(ast.fix_missing_locations(ast.Expression(tree)), f"<{op.name}>", "eval")
        with aside():
            got = np.asarray(eval(code, {**_known(), "one_hot": one_hot, **given}))
            got = to_source(got, source) if op.elementwise else got  # the sum is told beside the formula
    except NameError as error:  # a value of which only a reader knows; a function could be anything
        return (tree, False) if error.name in names(tree) else (None, True)
    except Exception:  # shapes it was not written for; of a user's op, whatever was declared
        return None, True
    # A formula may be off where the gradient is as small as dout's last digits.
    sizes = [np.abs(array) for array in (along, node.gradient)]
    scale = max(float(np.max(size, initial=0.0, where=np.isfinite(size))) for size in sizes)
    tolerance = _TOLERANCE.get(along.dtype.itemsize, 1e-7)
    if got.shape == along.shape:
        got = np.where((along == 0) & ~np.isfinite(got), 0, got)  # entries that were not selected: see not_selected
        if np.allclose(got, along, tolerance, tolerance * scale, equal_nan=True):
            return tree, False
    return None, True


_TOLERANCE = {2: 2e-2, 4: 1e-4}  # by the bytes of a float
