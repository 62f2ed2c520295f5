"""explain: a graph in words, forward and backward, why in this order, and what is kept for it."""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigrad import unfused
from minigrad.errors import ArgumentError, MinigradError
from minigrad.graph.data import Graph, GraphNode
from minigrad.graph.depth_first import MOST_OPS, counterexample, example, shares
from minigrad.graph.equations import SMALL, forward_formula
from minigrad.graph.formula import local, names, values_in
from minigrad.graph.prose import (
    COLUMNS,
    Block,
    Formula,
    Heading,
    Items,
    Pieces,
    Shown,
    Table,
    table_width,
    to_latex,
    to_markdown,
    to_text,
)
from minigrad.graph.rules import aside, declared
from minigrad.graph.steps import Narrator, language
from minigrad.graph.tracing import as_graph, trace
from minigrad.graph.words import SENTENCES, fill, joined
from minigrad.tensor import Tensor

__all__ = ["explain"]

FORMATS = ("text", "markdown", "latex")
_MOST_TOLD, FIRST = 60, 20  # ops: of a longer graph the first steps are told
_LISTED = 12  # nodes in a row
_LARGE = 1000  # values: a fused op on more is not run again in small nodes

_PREAMBLE = {
    "en": (
        r"A fragment for \input, in UTF-8. With pdflatex it needs \usepackage[T1]{fontenc};",
        r"names in other scripts than Latin want xelatex or lualatex, and a font that has them.",
    ),
    "ko": (r"A fragment for \input, in UTF-8. Korean text needs \usepackage{kotex}, and xelatex or lualatex.",),
}


def explain(output: Tensor | Graph, lang: str = "en", format: str = "text") -> str:
    """A graph in words: what each node computes, its local derivative, what flows back, in which order, what is kept.

    output: a Tensor with a graph, or a Graph. lang: "en" or "ko". format: "text" (at most 96 columns), "markdown", or
    "latex", a fragment for `\\input`. Of a graph of more than 60 ops the first 20 steps of each way are told.
    Raises ArgumentError for another language or format, and what `trace` raises.

    >>> import minigrad as mg
    >>> x = mg.Tensor(5.0, requires_grad=True, name="x")
    >>> for line in explain(mg.exp(x) + x).splitlines()[:2]:
    ...     print(line)
    How the output is computed and differentiated
    =============================================
    """
    language("graph.explain", lang)
    if format not in FORMATS:
        raise ArgumentError(
            "graph.explain: format", repr(format), 'a format: "text", "markdown" or "latex"', 'pass format="markdown"'
        )
    graph = as_graph(output, "graph.explain")
    with aside():
        blocks = list(_Explanation(graph, lang).blocks())
    if format == "latex":
        return to_latex(blocks, _PREAMBLE[lang])
    return to_markdown(blocks) if format == "markdown" else to_text(blocks)


class _Explanation(Narrator):
    """The blocks of an explanation, in the order in which they are read."""

    def __init__(self, graph: Graph, lang: str) -> None:
        super().__init__(graph, lang)
        self.first = len(self.ops) if len(self.ops) <= _MOST_TOLD else FIRST
        self.last = graph.nodes[graph.output]

    def heading(self, level: int, key: str, **values: Any) -> Heading:
        return Heading(level, self.say(key, **values))

    def blocks(self) -> Iterator[Block]:
        label = self.last.label if self.last.kind == "op" else self.last.name
        yield self.heading(1, "title", output=label or self.say("the output"))
        yield from self.overview()
        if not self.ops:
            return
        yield self.heading(2, "forward")
        for node in self.ops[: self.first]:
            yield self.heading(3, "heading", n=node.number, op=self.op_title(node))
            yield Shown([forward_formula(self.graph, node)])
            yield joined([self.forward_pieces(node), *self.place_in_code(node)], " ")
        yield from self.rest([node.number for node in self.ops])
        if not self.graph.order:
            yield self.say("no gradients")
            return
        yield self.heading(2, "backward")
        for number in self.graph.order[: self.first]:
            node = self.graph.nodes[number]
            terms = self.terms(node)
            yield self.heading(3, "heading", n=number, op=self.op_title(node))
            yield Shown([equation.formula for _, equation in terms])
            yield self.backward_pieces(node, terms)
        yield from self.rest(self.graph.order)
        yield from self.gradients()
        yield from self.why_this_order()
        yield from self.what_is_kept()
        yield from self.fused()

    def overview(self) -> Iterator[Block]:
        kinds = Counter(node.kind for node in self.graph.nodes)
        yield self.say(
            "counts",
            n=len(self.graph.nodes),
            ops=kinds["op"],
            leaves=kinds["leaf"],
            constants=kinds["constant"],
            value=self.value(self.last.value),
        )
        if not self.ops:
            yield self.say("a leaf")
            return
        yield self.say("chain rule")
        yield self.say("numbers", n=SMALL)
        if self.graph.seeded:
            yield self.say("seeded")
        bad = next((n for n in self.graph.nodes if _not_finite(n.value)), None)
        if bad is not None:
            yield self.say("not finite", node=self.name(bad))
        for number in self.graph.order if bad is None else ():
            if any(_not_finite(edge.gradient) for edge in self.graph.incoming[number]):
                yield self.say("gradient not finite", node=self.name(self.graph.nodes[number]))
                break

    def place_in_code(self, node: GraphNode) -> Iterator[Pieces]:
        if node.line is not None:
            file = node.line.file.replace("\\", "/").rsplit("/", 1)[-1]
            yield self.say("made in", line=node.line.number, file=file)
        if node.modules:
            yield self.say("made by", modules=" > ".join(node.modules))

    def rest(self, numbers: Sequence[int]) -> Iterator[Block]:
        """Of a long graph, what has been left out."""
        left = numbers[self.first :]
        if left:
            counts = Counter(self.graph.nodes[n].name for n in left).most_common()
            said = [self.say("times", n=n, op=op) for op, n in counts[:_LISTED]]
            if len(counts) > _LISTED:
                said.append(self.say("more", n=sum(n for _, n in counts[_LISTED:])))
            yield self.say("first of many", shown=self.first, n=len(numbers), rest=joined(said))

    def gradients(self) -> Iterator[Block]:
        """The table of leaves."""
        leaves = [node for node in self.graph.nodes if node.kind == "leaf"]
        yield self.heading(2, "gradients")
        rows = [[self.say(f"column {key}") for key in ("name", "value", "gradient", "uses")]]
        for leaf in leaves[: 2 * FIRST]:
            uses = len(self.arriving(leaf))
            rows.append([self.name(leaf), self.value(leaf.value), self.value(leaf.gradient), fill("{n}", n=uses)])
        if table_width(rows) <= COLUMNS:
            yield Table(rows)
        else:
            said = [dict(zip(("leaf", "value", "gradient"), row[:3], strict=True)) for row in rows[1:]]
            yield Items([self.say("leaf's gradient", **values) for values in said])
        if len(leaves) > 2 * FIRST:
            yield self.say("more", n=len(leaves) - 2 * FIRST)

    def in_a_row(self, numbers: Sequence[int]) -> Pieces:
        """Nodes in an order: 6 (/), 4 (+), 2 (exp)."""
        nodes = [self.graph.nodes[n] for n in numbers[:_LISTED]]
        said = [fill("{n} ({op})", n=node.number, op=node.symbol or node.name) for node in nodes]
        return joined([*said, ("...",)] if len(numbers) > _LISTED else said)

    def why_this_order(self) -> Iterator[Block]:
        yield self.heading(2, "order")
        order = self.in_a_row(self.graph.order)
        yield self.say(
            "births", here=self.say("here alone" if len(self.graph.order) == 1 else "here in order", order=order)
        )
        found = counterexample(self.graph)
        if found is not None:
            yield self.say("wrong here", order=self.in_a_row(found.order))
            yield self.too_early(found)
            return
        large = len(self.graph.order) > MOST_OPS or shares(self.graph)
        small = example()
        there = _Explanation(small, self.lang)
        yield self.say("small example" if large else "no meeting", x=there.value(small.nodes[0].value))
        yield self.say("example order")
        yield there.too_early(counterexample(small))

    def too_early(self, found: Any) -> Pieces:
        """The numbers that depth-first would give, and the right ones."""
        node, leaf = self.graph.nodes[found.node], self.graph.nodes[found.leaf]
        return self.say(
            "too early",
            node=self.name(node),
            partial=self.value(found.partial),
            whole=self.value(node.gradient),
            leaf=self.name(leaf),
            wrong=self.value(found.wrong),
            right=self.value(leaf.gradient),
        )

    def what_is_kept(self) -> Iterator[Block]:
        yield self.heading(2, "kept")
        ops = {node.name: node for node in self.ops if node.op is not None}
        yield Items([self.kept(node) for node in list(ops.values())[: 2 * FIRST]])
        yield self.say("released")

    def kept(self, node: GraphNode) -> Pieces:
        """What the op of a node keeps, and why, if the formulas that it declares are written in just that."""
        op = node.op
        assert op is not None
        formulas = self.derivatives(node)
        values = self.listing([fill("{x}", x=x) for x in node.keeps])
        if not node.keeps:
            shapes = [ask.removesuffix("_shape") for ask in op.asks if ask.endswith("_shape")]
            if not shapes:
                return self.say("keeps nothing", op=op.name)
            x = self.listing([fill("{x}", x=x) for x in shapes])
            back = joined([fill("{f}", f=f) for f in formulas if names(f.sides[1]) & set(shapes)])
            return self.say("keeps shape" if back else "keeps shape only", op=op.name, x=x, formula=back)
        formula = joined([fill("{f}", f=f) for f in formulas])
        used = set().union(*(values_in(f.sides[1]) for f in formulas)) & {*op.args, "out"}
        if op.keeps is not None and op.keeps in node.keeps:
            if op.keeps == "slope" and formulas:
                key = "keeps slope not out" if used == {"out"} else "keeps slope"
                return self.say(key, op=op.name, slope=op.keeps, formula=formula)
            what = self.say(f"what {op.keeps}" if f"what {op.keeps}" in SENTENCES else "what is not listed")
            key = "keeps along" if len(node.keeps) == 1 else "keeps along too"
            return self.say(key, op=op.name, values=values, along=op.keeps, what=what)
        if used != set(node.keeps):
            return self.say("keeps for rule", op=op.name, values=values)
        if node.keeps == ("out",):
            return self.say("keeps out", op=op.name, out="out", formula=formula)
        key = "keeps values" if len(node.keeps) > 1 else "keeps value"
        return self.say(key, op=op.name, values=values, formula=formula)

    def derivatives(self, node: GraphNode) -> list[Formula]:
        """The local derivatives of an op that works entry by entry, the gradients of another."""
        assert node.op is not None
        found = []
        for k, edge in enumerate(() if node.op.variadic else self.graph.incoming[node.number]):
            tree, _ = declared(self.graph, node, k, edge.gradient)
            if tree is not None and node.op.elementwise:
                found.append(Formula((ast.Name(f"∂out/∂{edge.argument}"), local(tree))))
            elif tree is not None:
                found.append(Formula((ast.Name(f"d{edge.argument}"), tree)))
        return found

    def fused(self) -> Iterator[Block]:
        """That a fused op stands for a graph, which one, and what its rule comes to."""
        ops = {n.name: n for n in self.ops if n.op is not None and not n.op.outside and hasattr(unfused, n.name)}
        if not ops:
            return
        yield self.heading(2, "fused")
        for node in ops.values():
            said = [self.say("fused op", op=node.name, path=f"minigrad.unfused.{node.name}")]
            if node.op is not None and node.op.keeps is None:
                said.append(self.say("fused keeps nothing between"))
            twin = _written_out(self.graph, node)
            if twin is not None:
                inner = [n for n in twin.nodes if n.kind == "op"]
                row = joined([fill("{op}", op=n.symbol or n.name) for n in inner[:_LISTED]])
                row += (", ...",) if len(inner) > _LISTED else ()
                said.append(self.say("fused nodes", n=len(inner), ops=row))
            tree, _ = declared(self.graph, node, 0, self.graph.incoming[node.number][0].gradient)
            if tree is not None:
                formula = Formula((ast.Name(f"d{node.arguments[0]}"), tree))
                said.append(self.say("fused rule", formula=formula))
            yield joined(said, " ")


def _not_finite(array: Any) -> bool:
    return array is not None and array.dtype.kind == "f" and not np.isfinite(array).all()


def _written_out(graph: Graph, node: GraphNode) -> Graph | None:
    """The graph of small nodes that a fused op stands for, on the node's own inputs; None where it cannot be made."""
    function = getattr(unfused, node.name)
    inputs = dict(zip(node.arguments, (graph.nodes[i] for i in node.inputs), strict=True))
    wanted = inspect.signature(function).parameters
    needed = [name for name, p in wanted.items() if p.default is p.empty]
    left = [n for x, n in inputs.items() if x not in needed]
    values: list[Any] = [inputs[x].value for x in needed if x in inputs]
    if len(values) < len(needed) or any(v is None or v.size > _LARGE for v in values):
        return None
    if any(n.kind != "constant" for n in left):
        return None
    wants = [inputs[x].kind != "constant" for x in needed]
    values = [Tensor(v, requires_grad=True) if want else v for v, want in zip(values, wants, strict=True)]
    try:
        with np.errstate(all="ignore"):
            return trace(
                function(*values, **{k: v for k, v in node.parameters.items() if k in wanted}), gradients=False
            )
    except MinigradError:
        return None
