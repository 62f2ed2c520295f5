"""Formulas of an op, what it computes, its gradients and its local derivatives, as text and as LaTeX.

An op declares its gradients as Python expressions in dout: Multiply has "dout * y" and "dout * x". With dout = 1,
and the ones tidied away, such an expression is the local derivative; with numbers in place of names it is what a
reader can check. Here a formula is a syntax tree, and a number in it is an ast.Constant.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from minigrad.graph.data import index_text, number, numbers
from minigrad.graph.latex import latex_escaped, latex_name, latex_number
from minigrad.op import Op

__all__ = ["computes", "constant", "gradient", "latex", "local", "names", "parse", "substitute", "text", "values_in"]

_OPTIONS = 40  # characters of parameters that a formula can still carry

FUNCTIONS = {
    *("abs", "arccos", "arcsin", "arctan", "arctan2", "cos", "cosh", "exp", "expm1", "hypot", "log", "log1p", "max"),
    *("maximum", "min", "minimum", "mean", "prod", "sign", "sin", "sinh", "sqrt", "square", "sum", "tan", "tanh"),
    *("sigmoid", "softmax", "where", "broadcast_to", "reshape", "swapaxes", "transpose", "zeros_like", "erf", "len"),
}


def parse(expression: str) -> ast.expr | None:
    """The tree of an expression, with `np.` left out; None for what is no Python expression."""
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two of brackets within brackets
        return None
    plain: ast.expr = _WithoutNumpy().visit(tree)
    return plain


class _WithoutNumpy(ast.NodeTransformer):
    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if isinstance(node.value, ast.Name) and node.value.id in ("np", "numpy", "math"):
            return ast.Name(node.attr, ast.Load())
        self.generic_visit(node)
        return node


def constant(value: Any) -> ast.expr:
    """A number, an array or a shape as part of a formula."""
    return ast.Constant(value)


def names(tree: ast.expr) -> set[str]:
    """The names of values in a formula: not those of the functions that it calls."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called}


def values_in(tree: ast.expr) -> set[str]:
    """The names whose values a formula wants, not only their shapes."""
    asked = (n.value for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in ("shape", "size", "dtype"))
    shapes = set(map(id, asked))
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in shapes} & names(tree)


def _functions(tree: ast.expr) -> set[str]:
    return {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}


def computes(op: Op, parameters: Collection[str] = (), left_out: Collection[str] = ()) -> ast.expr:
    """What op computes, from the first line of its docstring; where that is no expression, a call by its name.

    parameters: those that a formula has to contain, if it is to say what is computed here. left_out: arguments that
    were not given.

    >>> from minigrad.ops import elementwise, reduce
    >>> text(computes(elementwise.Multiply())), text(computes(reduce.Sum(axis=1), ["axis"]))
    ('x × y', 'sum(x, axis=1)')
    """
    line = (type(op).__doc__ or "").strip().splitlines()[:1]
    if line and line[0].startswith("out = ") and not op.variadic:
        said = line[0].removeprefix("out = ")
        ends = [len(said), *sorted((m.start() for m in re.finditer(r"[,;:]| =", said)), reverse=True)]
        for end in ends:
            tree = parse(said[:end])
            if tree is not None and not isinstance(tree, ast.Tuple):
                used = names(tree)
                set_fields = {key for key, value in vars(op).items() if value is not None}
                whole = {*op.args, *parameters} <= used <= {*op.args, *set_fields}
                if whole and _functions(tree) <= FUNCTIONS | {op.name}:
                    return tree
    return _call(op, parameters, [x for x in op.args if x not in left_out])


def _call(op: Op, parameters: Collection[str], given: Sequence[str]) -> ast.expr:
    """sum(x, axis=1); ... stands for parameters that are long, or that op's public function names otherwise."""
    args: list[ast.expr] = [ast.Name(x) for x in given]
    public = {} if op.function is None else inspect.signature(op.function).parameters
    told = {key: vars(op)[key] for key in parameters}
    large = any(getattr(value, "size", 0) > _OPTIONS for value in told.values())
    options = [] if large else [ast.keyword(key, constant(value)) for key, value in told.items()]
    if large or sum(len(text(k.value)) for k in options) > _OPTIONS or (public and {*given, *told} - {*public}):
        return ast.Call(ast.Name(op.name), [*args, constant(...)], [])
    places = [key for key, p in public.items() if p.kind is not p.KEYWORD_ONLY] if public else given
    first = list(takewhile(lambda pair: pair[0] == pair[1], zip(given, places, strict=False)))
    n = len(first)  # of the arguments stand where the public function has them; the others are called by name
    return ast.Call(ast.Name(op.name), args[:n], [*map(ast.keyword, given[n:], args[n:]), *options])


def gradient(op: Op, argument: int) -> ast.expr | None:
    """The gradient for an argument, as op declares it; None where no short formula says it."""
    declared = op.gradients
    if op.variadic and declared:  # one formula for all of them together
        return parse(f"{declared[0]}[{argument}]")
    tree = parse(declared[argument]) if argument < len(declared) else None
    a_loop = tree is not None and any(isinstance(part, ast.comprehension) for part in ast.walk(tree))
    return None if a_loop else tree  # a loop is a program, and no formula


def local(tree: ast.expr) -> ast.expr:
    """The local derivative that a gradient's formula has: dout = 1, tidied.

    >>> [text(local(parse(e))) for e in ("dout * y", "dout / x", "-dout * out / y", "dout * 2 * x", "-dout")]
    ['y', '1 / x', '-out / y', '2 × x', '-1']
    """
    tidied: ast.expr = _tidy(substitute(tree, {"dout": 1}))
    return tidied


def _tidy(tree: Any) -> Any:
    """1 * x as x, x / 1 as x, -1 * x as -x, - -x as x, everywhere in tree."""
    for key, value in ast.iter_fields(tree):
        if isinstance(value, ast.expr):
            setattr(tree, key, _tidy(value))
        elif isinstance(value, list):
            setattr(tree, key, [_tidy(v) if isinstance(v, ast.expr) else v for v in value])
    if isinstance(tree, ast.BinOp):
        a, b = tree.left, tree.right
        if isinstance(tree.op, ast.Mult):
            for x, y in ((a, b), (b, a)):
                if _is(x, 1):
                    return y
                if isinstance(x, ast.UnaryOp) and isinstance(x.op, ast.USub) and _is(x.operand, 1):
                    return _tidy(ast.UnaryOp(ast.USub(), y))
        if isinstance(tree.op, ast.Div) and _is(b, 1):
            return a
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        inner = tree.operand
        if isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.USub):
            return inner.operand
    return tree


def _is(tree: ast.expr, value: float) -> bool:
    return isinstance(tree, ast.Constant) and type(tree.value) in (int, float) and tree.value == value


def substitute(tree: ast.expr, values: Mapping[str, Any]) -> ast.expr:
    """The formula with values, numbers or small arrays, in place of names; a tree of its own.

    >>> text(substitute(parse("dout * y"), {"dout": 1.1, "y": -2}))
    '1.1 × (-2)'
    """
    put: ast.expr = _Put(values).visit(copy.deepcopy(tree))
    return put


class _Put(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return constant(self.values[node.id]) if node.id in self.values else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if not isinstance(node.func, ast.Name):  # x.sum(0): x is a value, a function's name is none
            node.func = self.visit(node.func)
        node.args = [self.visit(a) for a in node.args]
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        return node


# How tightly each kind of expression binds, the loosest first
_IF, _OR, _AND, _NOT, _COMPARE, _BITOR, _BITAND, _SUM, _PRODUCT, _MINUS, _POWER, _ATOM = range(12)

_BINARY: dict[type[ast.operator], tuple[int, str, str]] = {  # binding, as text, as LaTeX
    ast.Add: (_SUM, "+", "+"),
    ast.Sub: (_SUM, "-", "-"),
    ast.Mult: (_PRODUCT, "×", r"\times"),
    ast.MatMult: (_PRODUCT, "@", r"\,"),
    ast.Div: (_PRODUCT, "/", "/"),
    ast.Mod: (_PRODUCT, "%", r"\bmod"),
    ast.FloorDiv: (_PRODUCT, "//", "/"),
    ast.BitOr: (_BITOR, "|", r"\lor"),
    ast.BitAnd: (_BITAND, "&", r"\land"),
}
_COMPARED: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Gt: (">", ">"),
    ast.Lt: ("<", "<"),
    ast.GtE: (">=", r"\geq"),
    ast.LtE: ("<=", r"\leq"),
    ast.Eq: ("==", "="),
    ast.NotEq: ("!=", r"\neq"),
}


def text(tree: ast.expr) -> str:
    """The formula in one line, as the book prints it.

    >>> text(parse("np.exp(-x) * (y + 1) / x ** 2"))
    'exp(-x) × (y + 1) / x ** 2'
    """
    return _text(tree)[0]


def latex(tree: ast.expr) -> str:
    r"""The formula for LaTeX's mathematics mode: divisions as fractions, dout as the partial derivative that it is.

    >>> print(latex(parse("dout * y / x")))
    \frac{\frac{\partial L}{\partial \mathrm{out}} \times y}{x}
    """
    return _latex(tree)[0]


def _text(tree: ast.expr) -> tuple[str, int]:
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Pow):
        return f"{_in(_text, tree.left, _ATOM)} ** {_in(_text, tree.right, _MINUS)}", _POWER
    if isinstance(tree, ast.IfExp):
        body, test, other = (_in(_text, part, _OR) for part in (tree.body, tree.test, tree.orelse))
        return f"{body} if {test} else {other}", _IF
    if isinstance(tree, ast.Attribute):
        return f"{_in(_text, tree.value, _ATOM)}.{tree.attr}", _ATOM
    if isinstance(tree, ast.Subscript):
        return _in(_text, tree.value, _ATOM) + _index(tree.slice), _ATOM
    if isinstance(tree, ast.Call):
        args = [_text(a)[0] for a in tree.args] + [f"{k.arg}={_text(k.value)[0]}" for k in tree.keywords]
        return f"{_in(_text, tree.func, _ATOM)}({', '.join(args)})", _ATOM
    if isinstance(tree, ast.Constant):
        return _constant(tree.value)
    return _common(_text, tree, 0) or (ast.unparse(tree), _IF)


def _index(tree: ast.expr) -> str:
    return index_text(tree.value) if isinstance(tree, ast.Constant) else f"[{_text(tree)[0]}]"


def _latex(tree: ast.expr) -> tuple[str, int]:
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Pow):
        return f"{{{_in(_latex, tree.left, _ATOM)}}}^{{{latex(tree.right)}}}", _POWER
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Div):
        return rf"\frac{{{latex(tree.left)}}}{{{latex(tree.right)}}}", _POWER
    if isinstance(tree, ast.IfExp):
        return _cases(tree.test, tree.body, tree.orelse)
    if isinstance(tree, ast.Attribute):
        if tree.attr == "T":
            return rf"{{{_in(_latex, tree.value, _ATOM)}}}^{{\top}}", _POWER
        return rf"{_in(_latex, tree.value, _ATOM)}\mathrm{{.{latex_escaped(tree.attr)}}}", _ATOM
    if isinstance(tree, ast.Subscript):
        index = rf"\mathtt{{{latex_escaped(_index(tree.slice))}}}" if isinstance(tree.slice, ast.Constant) else ""
        return _in(_latex, tree.value, _ATOM) + (index or f"[{latex(tree.slice)}]"), _ATOM
    if isinstance(tree, ast.Call):
        return _latex_call(tree)
    if isinstance(tree, ast.Name):
        return latex_name(tree.id), _POWER if tree.id == "dout" else _ATOM
    if isinstance(tree, ast.Constant):
        return _latex_constant(tree.value)
    return _common(_latex, tree, 1) or (rf"\mathtt{{{latex_escaped(ast.unparse(tree))}}}", _IF)


def _common(show: Callable[[ast.expr], tuple[str, int]], tree: ast.expr, column: int) -> tuple[str, int] | None:
    """What text and LaTeX have in common but for the signs; column: 0 for text, 1 for LaTeX."""
    if isinstance(tree, ast.Name):
        return tree.id, _ATOM
    if isinstance(tree, ast.BinOp) and type(tree.op) in _BINARY:
        binding, *signs = _BINARY[type(tree.op)]
        left = show(tree.left)[0] if _begins_with_minus(tree.left) else _in(show, tree.left, binding)
        right = _in(show, tree.right, binding + 1)
        return f"{left} {signs[column]} {right}", binding
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, (ast.USub, ast.Invert, ast.Not)):
        if isinstance(tree.op, ast.USub):
            return f"-{_in(show, tree.operand, _MINUS)}", _SUM  # in brackets behind another sign: y × (-2)
        sign = ("not ", r"\lnot ")[column]
        return f"{sign}{_in(show, tree.operand, _POWER)}", _NOT
    if isinstance(tree, ast.Compare) and all(type(op) in _COMPARED for op in tree.ops):
        sides = [_in(show, side, _BITOR) for side in (tree.left, *tree.comparators)]
        between = [_COMPARED[type(op)][column] for op in tree.ops]
        return " ".join(p for pair in zip(sides, [*between, ""], strict=True) for p in pair if p), _COMPARE
    if isinstance(tree, (ast.Tuple, ast.List)):
        parts = ", ".join(show(part)[0] for part in tree.elts)
        one = "," if isinstance(tree, ast.Tuple) and len(tree.elts) == 1 else ""
        return (f"[{parts}]" if isinstance(tree, ast.List) else f"({parts}{one})"), _ATOM
    return None


def _begins_with_minus(tree: ast.expr) -> bool:
    """A negative number, or -x: neither wants brackets at the left end of a product."""
    if isinstance(tree, ast.Constant):
        return isinstance(tree.value, (int, float, np.number, np.ndarray)) and np.ndim(tree.value) == 0
    return isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub)


def _in(show: Callable[[ast.expr], tuple[str, int]], tree: ast.expr, least: int) -> str:
    """A part of a formula, in brackets if it binds less than its surroundings want."""
    shown, binding = show(tree)
    if binding >= least:
        return shown
    return rf"\left({shown}\right)" if show is _latex else f"({shown})"


def _constant(value: Any) -> tuple[str, int]:
    if value is ...:
        return "...", _ATOM
    if not isinstance(value, (int, float, np.number, np.ndarray)) or isinstance(value, bool):
        return repr(value), _ATOM  # a word or a shape
    shown = numbers(value)
    return shown, _SUM if shown.startswith("-") else _ATOM


def _latex_constant(value: Any) -> tuple[str, int]:
    if value is ...:
        return r"\ldots", _ATOM
    if not isinstance(value, (int, float, np.number, np.ndarray)) or isinstance(value, bool):
        return rf"\mathrm{{{latex_escaped(_constant(value)[0])}}}", _ATOM
    array = np.asarray(value)
    if array.ndim == 0:
        return latex_number(array), _SUM if number(array).startswith("-") else _ATOM
    if array.ndim > 2:
        return rf"\mathtt{{{latex_escaped(numbers(array))}}}", _ATOM
    rows = [" & ".join(latex_number(x) for x in row) for row in np.atleast_2d(array)]
    columns = "r" * max(1, np.atleast_2d(array).shape[1])
    return rf"\left[\begin{{array}}{{{columns}}}" + r" \\ ".join(rows) + r"\end{array}\right]", _ATOM


_LATEX_FUNCTIONS = {name: rf"\{name}" for name in ("exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "max")}


def _latex_call(tree: ast.Call) -> tuple[str, int]:
    function = text(tree.func)
    args = [latex(a) for a in tree.args] + [
        rf"\mathrm{{{latex_escaped(k.arg or '')}}}={latex(k.value)}" for k in tree.keywords
    ]
    if function == "where" and len(args) == 3:
        return _cases(*tree.args)
    if function == "sqrt" and len(args) == 1:
        return rf"\sqrt{{{args[0]}}}", _ATOM
    if function == "abs" and len(args) == 1:
        return rf"\left|{args[0]}\right|", _ATOM
    if function == "sum" and len(args) == 1:
        return rf"\sum \left({args[0]}\right)", _PRODUCT
    shown = _LATEX_FUNCTIONS.get(function) or rf"\mathrm{{{latex_escaped(function)}}}"
    return rf"{shown}\left({', '.join(args)}\right)", _POWER


def _cases(test: ast.expr, body: ast.expr, other: ast.expr) -> tuple[str, int]:
    rows = (
        rf"{latex(body)} & \left({latex(test)}\right) \\ {latex(other)} & \left(\lnot\left({latex(test)}\right)\right)"
    )
    return rf"\left\{{\begin{{array}}{{ll}}{rows}\end{{array}}\right.", _PRODUCT
