"""A graph step by step, forward and backward: what each node does, in numbers, in a formula and in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError
from minigrad.graph.data import Edge, Graph, GraphNode, number, parameters_text, statistics, summary
from minigrad.graph.equations import (
    SMALL,
    Equation,
    backward_equation,
    forward_formula,
    left_out,
    number_formula,
    sum_formula,
)
from minigrad.graph.formula import computes, text
from minigrad.graph.prose import Formula, Pieces, plain
from minigrad.graph.rules import local_derivatives, not_selected
from minigrad.graph.words import LANGUAGES, fill, joined, say
from minigrad.graph.words_ops import DOES, NODES, RULES

__all__ = ["Narrator", "Step", "Term", "language"]

Array = np.ndarray[Any, Any]
_OPTIONS_TOLD = 160  # characters of an op's options that are told
_CARRIED = 40  # characters of a formula that a sentence can still carry


@dataclass(frozen=True, eq=False)
class Term:
    """What a backward step hands down along one edge: upstream gradient × local derivative = downstream gradient.

    argument: what the op calls it. edge: its index in graph.edges. source: the number of the node that it goes to.
    symbol: the local derivative as a formula, "" where there is no short one or the op does not work entry by entry.
    local: its value, in the shape of the op's result; None likewise.
    gradient: what flows down, in the source's shape: local times upstream, summed where forward had stretched.
    formula: all of this in a line.
    """

    argument: str
    edge: int
    source: int
    symbol: str
    local: Array | None
    gradient: Array
    formula: str

    @property
    def is_number(self) -> bool:
        """Whether the symbol is a plain number, such as -1."""
        return self.symbol.lstrip("-").isdigit()


@dataclass(frozen=True, eq=False)
class Step:
    """One node of a graph, on the way forward or on the way back.

    direction: "forward" or "backward". node: its number. edges: indices in graph.edges of the edges that it uses: all
    inputs forward, those along which a gradient flows backward.
    title, sentence: plain text. formula: plain text, a line for each argument backward.
    upstream: the gradient that reaches the node, and terms: what it hands down; None and () forward.
    """

    direction: str
    node: int
    edges: tuple[int, ...]
    title: str
    sentence: str
    formula: str
    upstream: Array | None = None
    terms: tuple[Term, ...] = ()


def language(function: str, lang: str) -> str:
    """lang, if it is a language that explanations are written in; ArgumentError for any other."""
    if lang not in LANGUAGES:
        raise ArgumentError(
            f"{function}: lang", repr(lang), 'a language: "en" or "ko"', 'pass lang="en", or lang="ko" for Korean'
        )
    return lang


class Narrator:
    """Tells of the nodes of one graph in one language."""

    def __init__(self, graph: Graph, lang: str) -> None:
        self.graph, self.lang = graph, lang
        self.ops = [node for node in graph.nodes if node.kind == "op"]

    @cached_property
    def place(self) -> dict[int, int]:
        """The number, from 1, of each op in forward order."""
        return {node.number: i for i, node in enumerate(self.ops, 1)}

    @cached_property
    def turn(self) -> dict[int, int]:
        """The number, from 1, of each op in the order of backward."""
        return {n: i for i, n in enumerate(self.graph.order, 1)}

    @cached_property
    def index(self) -> dict[Edge, int]:
        """The place of each edge in graph.edges."""
        return {edge: i for i, edge in enumerate(self.graph.edges)}

    def arriving(self, node: GraphNode) -> list[Edge]:
        """The edges along which a gradient comes back to a node, in the order in which they come."""
        edges = self.graph.outgoing[node.number]
        coming = [edge for edge in edges if edge.gradient is not None and edge.target in self.turn]
        return sorted(coming, key=lambda edge: self.turn[edge.target])

    def steps(self) -> list[Step]:
        """The steps through the graph: forward from the inputs to the output, then backward in the order of the walk.

        >>> import minigrad as mg
        >>> x, y = (mg.Tensor(v, requires_grad=True, name=n) for n, v in (("x", 3.0), ("y", 2.0)))
        >>> for step in Narrator(mg.graph.trace(x * y), "en").steps():
        ...     print(step.formula)
        out = x × y = 3 × 2 = 6
        dx = dout × y = 1 × 2 = 2
        dy = dout × x = 1 × 3 = 3
        """
        backward = [self.backward(self.graph.nodes[i]) for i in self.graph.order]
        return [*map(self.forward, self.ops), *backward]

    def say(self, key: str, **values: Any) -> Pieces:
        """The sentence of this key in the narrator's language."""
        return say(key, self.lang, **values)

    def listing(self, parts: list[Pieces]) -> Pieces:
        """x, y and out."""
        return joined(parts, last=plain(self.say("and")))

    def _of(self, table: dict[str, tuple[str, str]], node: GraphNode) -> str:
        return table[node.name][LANGUAGES.index(self.lang)] if self.listed(table, node) else ""

    def listed(self, table: dict[str, tuple[str, str]], node: GraphNode) -> bool:
        """Whether a table of words has this op: a user's own op may have the name of one of ours."""
        return node.name in table and (node.op is None or not node.op.outside)

    # What things are called

    def name(self, node: GraphNode) -> Pieces:
        """What a sentence calls a node: its name, a plain constant by its value, else its number."""
        name = node.label if node.kind == "op" else node.name
        if name:
            return fill("{name}", name=name)
        if node.kind == "op":
            return self.say("node", n=node.number, symbol=node.symbol or node.name)
        if node.kind == "leaf":
            return self.say("leaf", n=node.number)
        return self.say("constant")

    def op_node(self, node: GraphNode) -> Pieces:
        """The addition node, the exp node."""
        known = self._of(NODES, node)
        return (known,) if known else self.say("op node", op=node.name)

    def op_title(self, node: GraphNode) -> Pieces:
        """The op's name and the symbol that is drawn for it."""
        if node.symbol in ("", node.name):
            return fill("{op}", op=node.name)
        return self.say("op and symbol", op=node.name, symbol=node.symbol)

    def value(self, array: Array | None) -> Pieces:
        """A number or a small array as it is, a large one in a few words."""
        if array is None:
            return self.say("unknown")
        array = np.asarray(array)
        if not array.size:
            return self.say("array empty", shape=str(array.shape))
        if array.ndim == 0:
            return (number_formula(array),)
        if array.size <= SMALL:
            return fill("{value}", value=summary(array, SMALL))
        found = statistics(array)
        if found.bad:
            return self.say("array not finite", summary=summary(array))
        if found.least == found.largest:
            return self.say("array of one value", shape=str(array.shape), value=number(found.least))
        low, mean, high = (number(n) for n in (found.least, found.mean, found.largest))
        return self.say("array", shape=str(array.shape), low=low, mean=mean, high=high)

    # Forward

    def forward_pieces(self, node: GraphNode) -> Pieces:
        """What a node does on the way forward, in sentences."""
        does = self._of(DOES, node)
        if does:
            said = self.say("forward does", node=self.op_node(node), does=(does,))
        else:
            formula = Formula((computes(node.op, node.parameters),)) if node.op is not None else node.name
            said = self.say("forward computes", node=self.op_node(node), formula=formula)
        sentences = [said]
        if node.parameters:
            shown = parameters_text(node)
            shown = shown if len(shown) <= _OPTIONS_TOLD else f"{shown[: _OPTIONS_TOLD - 3]}..."
            sentences.append(self.say("options", options=shown))
        return joined([*sentences, *self._numbers(node)], " ")

    def given(self, node: GraphNode) -> list[Edge]:
        """The edges into a node, those left out that stand for arguments that were not given."""
        missing = left_out(self.graph, node) if node.op is not None else []
        return [edge for edge in self.graph.incoming[node.number] if edge not in missing]

    def _numbers(self, node: GraphNode) -> Iterator[Pieces]:
        """The inputs and the output, as far as anybody knows them."""
        known, unknown = [], []
        for edge in self.given(node):
            x, source = edge.argument, self.graph.nodes[edge.source]
            named = source.kind == "op" or source.name not in ("", x)
            # A large result has been told where it was computed.
            brief = source.kind == "op" and (source.value is None or source.value.size > SMALL)
            if source.value is None and not brief:
                unknown.append(fill("{x}", x=x))
            else:
                name, value = self.name(source), self.value(source.value)
                key = "is named" if named and not brief else "is"
                known.append(self.say(key, x=x, name=name, value=name if brief else value))
        inputs = joined([*known[:SMALL], ("...",)] if len(known) > SMALL else known)
        if node.value is None:
            unknown.append(fill("{x}", x="out"))
            if known:
                yield self.say("forward inputs", inputs=inputs)
        else:
            value = self.value(node.value)
            yield self.say("forward numbers" if known else "forward output", inputs=inputs, value=value)
        if unknown:
            key = "not kept" if len(unknown) == 1 else "several not kept"
            yield self.say(key, names=self.listing(unknown))

    def forward(self, node: GraphNode) -> Step:
        """The forward step of a node."""
        i, n = self.place[node.number], len(self.ops)
        title = self.say("forward title", i=i, n=n, node=node.number, op=self.op_title(node))
        edges = tuple(self.index[edge] for edge in self.graph.incoming[node.number])
        sentence = plain(self.forward_pieces(node))
        return Step("forward", node.number, edges, plain(title), sentence, str(forward_formula(self.graph, node)))

    # Backward

    def terms(self, node: GraphNode) -> list[tuple[Term, Equation]]:
        """What a node hands down, along each edge that a gradient flows along."""
        assert node.op is not None
        locals_ = local_derivatives(self.graph, node)
        found = []
        for k, edge in enumerate(self.graph.incoming[node.number]):
            if edge.gradient is None:
                continue
            derivative = None if locals_ is None else locals_[k]
            if derivative is not None and node.shape is not None:
                derivative = np.broadcast_to(derivative, node.shape)
            equation = backward_equation(self.graph, node, k, edge, derivative)
            symbol = "" if equation.symbol is None else text(equation.symbol)
            shown = str(equation.formula)
            i = self.index[edge]
            found.append((Term(edge.argument, i, edge.source, symbol, derivative, edge.gradient, shown), equation))
        return found

    def backward_pieces(self, node: GraphNode, terms: list[tuple[Term, Equation]]) -> Pieces:
        """What a node does on the way back, in sentences."""
        said = [self.upstream(node)]
        rule = self._of(RULES, node)
        if rule and not any(equation.refused for _, equation in terms):
            said.append((rule,))
        for term, equation in terms:
            said += self._term(node, term, equation)
        still = [fill("{x}", x=edge.argument) for edge in self.given(node) if edge.gradient is None]
        if still and terms:
            key = "nothing flows" if len(still) == 1 else "nothing flows to several"
            said.append(self.say(key, arguments=self.listing(still)))
        for source in dict.fromkeys(term.source for term, _ in terms):
            said += self._meeting(node, source)
        return joined(said, " ")

    def backward(self, node: GraphNode) -> Step:
        """The backward step of a node."""
        terms = self.terms(node)
        i, n = self.turn[node.number], len(self.graph.order)
        title = self.say("backward title", i=i, n=n, node=node.number, op=self.op_title(node))
        return Step(
            "backward",
            node.number,
            tuple(term.edge for term, _ in terms),
            plain(title),
            plain(self.backward_pieces(node, terms)),
            "\n".join(term.formula for term, _ in terms),
            node.gradient,
            tuple(term for term, _ in terms),
        )

    def upstream(self, node: GraphNode) -> Pieces:
        """Where the gradient of a node comes from."""
        if node.number == self.graph.output:
            return self.say("starts with ones" if self.graph.seeded else "starts")
        arriving = self.arriving(node)
        upstream = self.value(node.gradient)
        if len(arriving) < 2:
            return self.say("upstream", upstream=upstream)
        total = self.sum_of(arriving, node)
        if total is not None:
            return self.say("upstream sum", n=len(arriving), sum=total)
        return self.say("upstream sum large", n=len(arriving), upstream=upstream)

    def sum_of(self, arriving: list[Edge], node: GraphNode) -> Formula | None:
        """2.2 + 1 = 3.2, for few small gradients."""
        if node.gradient is None or node.gradient.size > SMALL or len(arriving) > SMALL:
            return None
        return sum_formula([edge.gradient for edge in arriving], node.gradient)

    def _term(self, node: GraphNode, term: Term, equation: Equation) -> Iterator[Pieces]:
        """The sentences about one argument."""
        source = self.graph.nodes[term.source]
        values: dict[str, Any] = {"source": self.name(source), "downstream": self.value(term.gradient)}
        if term.local is None:
            rule = None if equation.rule is None else Formula((equation.formula.sides[0], equation.rule))
            if rule is None or len(str(rule)) > _CARRIED:  # it stands in the step's formula anyway
                yield self.say("term words", **values)
            else:
                yield self.say("term rule", formula=rule, **values)
            return
        small = term.local.size <= SMALL
        if small:
            values |= {"upstream": self.value(node.gradient), "local": self.value(term.local)}
        if small and (equation.symbol is None or term.is_number):
            yield self.say("term number", **values)
        elif equation.symbol is not None and not term.is_number:
            yield self.say("term" if small else "term large", symbol=Formula((equation.symbol,)), **values)
        elif term.is_number and self.listed(RULES, node):  # the rule's own sentence has said it
            yield self.say("term words", **values)
        else:
            yield self.say("term large number", **values)
        if not_selected(node.gradient, term.local, term.gradient):
            yield self.say("not selected")
        if source.shape != node.shape:
            yield self.say("stretched", argument=term.argument, small=str(source.shape), large=str(node.shape))

    def _meeting(self, node: GraphNode, source: int) -> Iterator[Pieces]:
        """That a leaf's gradients have all arrived, at the last node that they come from."""
        leaf = self.graph.nodes[source]
        arriving = self.arriving(leaf) if leaf.kind == "leaf" else []
        if len(arriving) < 2 or arriving[-1].target != node.number:
            return
        total = self.sum_of(arriving, leaf)
        key = "both meet" if len(arriving) == 2 else "meet"
        values = {"n": len(arriving), "source": self.name(leaf)}
        if total is not None:
            yield self.say(key, sum=total, **values)
        else:
            yield self.say(f"{key} large", total=self.value(leaf.gradient), **values)
