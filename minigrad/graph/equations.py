"""The equations of a node: its formulas with its own numbers, or shapes, in them."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minigrad.graph.data import Edge, Graph, GraphNode, not_given
from minigrad.graph.formula import computes, constant, local, names, substitute, text
from minigrad.graph.prose import Formula
from minigrad.graph.rules import declared

__all__ = ["SMALL", "Equation", "backward_equation", "forward_formula", "left_out", "number_formula", "sum_formula"]

_WIDEST = 80  # columns of a side with numbers in it: a longer one tells nobody anything
SMALL = 6  # values that are written out; more are given by their least, mean and largest


def forward_formula(graph: Graph, node: GraphNode) -> Formula:
    """out = x × y = 100 × 2 = 200, for what is small and known; with shapes for what is large."""
    assert node.op is not None
    tree = computes(node.op, node.parameters, [edge.argument for edge in left_out(graph, node)])
    given = {x: graph.nodes[i] for x, i in zip(node.arguments, node.inputs, strict=True)}
    out = ast.Name(node.label if node.label.isidentifier() else "out")
    fields = {k: v for k, v in vars(node.op).items() if k in names(tree)}
    if isinstance(tree, ast.Subscript):  # x[0, :2] says more than x[index]
        tree = substitute(tree, fields)
    return _formula(out, tree, given, node.shape, node.value, fields)


def left_out(graph: Graph, node: GraphNode) -> list[Edge]:
    """The arguments that were not given and that a node's formula does not name: x @ W.T + b has a b all the same."""
    assert node.op is not None
    missing = [edge for edge in graph.incoming[node.number] if not_given(graph, edge)]
    return missing if missing and isinstance(computes(node.op, node.parameters), ast.Call) else []


@dataclass(frozen=True)
class Equation:
    """What flows back to one argument.

    formula: dx = dout × y = 1.1 × 2 = 2.2. symbol: the local derivative, y, of an op that works entry by entry. rule:
    the whole gradient, dout × y; both None where the op declares none. refused: what it declares is not what flowed.
    """

    formula: Formula
    symbol: ast.expr | None
    rule: ast.expr | None
    refused: bool


def backward_equation(graph: Graph, node: GraphNode, k: int, edge: Edge, derivative: Any) -> Equation:
    """The equation of argument k, along the edge to it; derivative: the local one, None where there is none."""
    rule, refused = declared(graph, node, k, edge.gradient)
    source = graph.nodes[edge.source]
    dx: ast.expr = ast.Name(f"d{edge.argument}")
    if derivative is not None:
        symbol = None if rule is None else local(rule)
        formula = _product(dx, ast.Name(f"∂out/∂{edge.argument}") if symbol is None else symbol, node, edge, derivative)
        return Equation(formula, symbol, rule, refused)
    if rule is None:
        written = _written_out(edge.gradient)
        return Equation(Formula((dx, *written), () if written else (constant(source.shape),)), None, None, refused)
    given = {x: graph.nodes[i] for x, i in zip(node.arguments, node.inputs, strict=True)}
    given |= {"dout": GraphNode(-1, "op", shape=node.shape, value=node.gradient), "out": node}
    return Equation(_formula(dx, rule, given, source.shape, edge.gradient, None), None, rule, refused)


def _product(dx: ast.expr, symbol: ast.expr, node: GraphNode, edge: Edge, derivative: Any) -> Formula:
    """dx = dout × symbol, with numbers or shapes; summed where forward had stretched the argument."""
    assert edge.gradient is not None
    product = _times(ast.Name("dout"), symbol)
    factors = _times(_shown(node.gradient), symbol if not names(symbol) else _shown(derivative))
    if edge.gradient.shape != node.shape:
        product, factors = _sum(product), _sum(factors)
    if node.gradient is None or not 0 < node.gradient.size <= SMALL:
        return Formula((dx, product, *_written_out(edge.gradient)), (factors, constant(edge.gradient.shape)))
    return Formula((dx, product, factors, *_written_out(edge.gradient)))


def number_formula(array: Any) -> Formula:
    """A number alone."""
    return Formula((constant(array),))


def sum_formula(parts: Sequence[Any], total: Any) -> Formula:
    """2.2 + 1 = 3.2"""
    tree = _shown(parts[0])
    for part in parts[1:]:
        tree = ast.BinOp(tree, ast.Add(), _shown(part))
    return Formula((tree, _shown(total)))


def _times(a: ast.expr, b: ast.expr) -> ast.expr:
    return ast.BinOp(a, ast.Mult(), b)


def _sum(tree: ast.expr) -> ast.expr:
    return ast.Call(ast.Name("sum"), [tree], [])


def _shown(array: Any) -> ast.expr:
    """A small array as it is, a large one as its shape."""
    return constant(array if array is None or 0 < array.size <= SMALL else array.shape)


def _written_out(array: Any) -> tuple[ast.expr, ...]:
    """The side of a formula that is an array's values; none for a large or unknown one."""
    return (constant(array),) if array is not None and 0 < array.size <= SMALL else ()


def _formula(
    left: ast.expr, tree: ast.expr, given: dict[str, GraphNode], shape: Any, value: Any, fields: dict[str, Any] | None
) -> Formula:
    """left = tree, then with numbers where all are known and small, or with shapes where the formula is a product.

    fields: parameters of the op in the formula; None for a rule, in which only matrix products are worked out.
    """
    used = names(tree)
    known = {x: node for x, node in given.items() if x in used}
    matrices = _is_product_of_matrices(tree)
    if fields is None and any(node.shape is None or len(node.shape) != 2 for node in known.values()):
        matrices = False  # a rule's formula is written for matrices: of vectors y.T says nothing
    if not used - {*known, *(fields or {})} and (matrices or fields is not None):
        if all(n.value is not None and 0 < n.value.size <= SMALL for n in known.values()) and _written_out(value):
            numbers: dict[str, Any] = {x: n.value for x, n in known.items()}
            put = substitute(tree, numbers | (fields or {}))
            result = _written_out(value)
            worked_out = _says_something(tree) and text(put) != text(result[0]) and len(text(put)) <= _WIDEST
            return Formula((left, tree, *([put] if worked_out else []), *result))
        flat = all(n.shape is not None and len(n.shape) <= 2 for n in known.values()) and math.prod(shape) > 1
        if flat and _is_made_of(tree, ast.BinOp, ast.operator, ast.Name, ast.Attribute, ast.expr_context):
            shapes = {x: n.shape if n.value is None or n.shape else n.value for x, n in known.items()}
            transposed = _Transposed(shapes).visit(substitute(tree, {}))
            return Formula((left, tree), (substitute(transposed, shapes | (fields or {})), constant(shape)))
    return Formula((left, tree, *_written_out(value)))


def _says_something(tree: ast.expr) -> bool:
    """Whether a formula says more with numbers in it: exp(5) does, softmax_cross_entropy([[1, 2]], [0], 1) hardly."""
    return not isinstance(tree, ast.Call) or len(names(tree)) <= 2


def _is_product_of_matrices(tree: ast.expr) -> bool:
    """A formula of nothing but names, @, .T and +."""
    made = _is_made_of(tree, ast.BinOp, ast.MatMult, ast.Add, ast.Name, ast.Attribute, ast.expr_context)
    return made and any(isinstance(p, ast.MatMult) for p in ast.walk(tree))


def _is_made_of(tree: ast.expr, *kinds: type[ast.AST]) -> bool:
    """Whether a formula has nothing but parts of these kinds, no attribute but .T and one operator at least."""
    parts = list(ast.walk(tree))
    transposed = all(p.attr == "T" for p in parts if isinstance(p, ast.Attribute))
    return isinstance(tree, ast.BinOp) and transposed and all(isinstance(p, kinds) for p in parts)


class _Transposed(ast.NodeTransformer):
    """The shape of x.T in place of x.T."""

    def __init__(self, shapes: dict[str, Any]) -> None:
        self.shapes = shapes

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        shape = self.shapes.get(node.value.id) if isinstance(node.value, ast.Name) else None
        return constant(shape[::-1]) if isinstance(shape, tuple) and node.attr == "T" else node
