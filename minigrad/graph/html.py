"""The page: a graph step by step, forward and backward, in one HTML file that needs no network.

The file is a picture and a list of steps, each with its sentence and its numbers, and can be read as such. A script
shows one step at a time, lights up its part of the picture, and hides what is not known yet. All text is escaped, and
the policy of the page lets no script run but that one, so that a name can never be taken for a program.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import sys
import tempfile
import webbrowser
from collections.abc import Iterable
from contextlib import suppress
from importlib.resources import files
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, CheckpointError, DTypeError, GraphError, describe
from minigrad.graph.data import Graph, GraphNode, number
from minigrad.graph.drawing import draw
from minigrad.graph.prose import plain
from minigrad.graph.steps import Narrator, Step, language
from minigrad.graph.svg import clean, escape, ranges
from minigrad.graph.tracing import as_graph
from minigrad.graph.words_page import WORDS
from minigrad.io.atomic import replacing
from minigrad.tape import ancestors
from minigrad.tensor import Tensor

__all__ = ["show", "to_html"]

_ONE_BY_ONE = 400  # nodes that the picture of a page shows unfolded: each step lights up its own
MOST_STEPS = 2000  # nodes of a graph: 4000 steps, which nobody takes one by one
_IN_FULL = 36  # values of an array that are written out, row by row
_GLANCE = 60  # characters of a formula that still is one at a glance


def to_html(output: Any, path: Any = None, lang: str = "en") -> str:
    """A page that steps through the graph of output, upstream gradient × local derivative = downstream gradient.

    output: a Tensor with a graph, or a Graph. path: an .html file to write the page to, as well. lang: "en" or "ko".
    Returns the page: one text, with everything in it that it needs. Keys, buttons and a slider step through it;
    page.html#3 opens it at that step. Of more than 400 nodes the picture is folded as by `draw`; every op has its steps
    all the same.

    Raises as trace does; ArgumentError for another language, another suffix and more than 2000 nodes, DTypeError for
    what is no path, CheckpointError for what cannot be written; a file that was there is then as it was.

    >>> import minigrad as mg
    >>> x = mg.Tensor(3.0, requires_grad=True, name="x")
    >>> page = to_html(x * x + 1)
    >>> page.count("<li "), "<title>Step by step: add (+)</title>" in page
    (6, True)
    """
    function = "graph.to_html"
    language(function, lang)
    name = None if path is None else _checked(path)
    page = _page(_small(output, function), lang)
    if name is not None:
        try:
            with replacing(name) as file:
                file.write(page.encode())
        except CheckpointError as error:
            raise CheckpointError(f"{function}: path", f"{name!r}: {error.got}", error.expected, error.fix) from error
    return page


def show(output: Any, lang: str = "en") -> str | None:
    """Opens the page of `to_html` in the browser; in a notebook, displays it below the cell.

    Outside a notebook the page is written to a temporary file that stays, its path is printed, and returned. In a
    notebook nothing is returned: the page stands in a frame of its own, which shares nothing with the notebook.
    Raises as to_html does.

    >>> import minigrad as mg
    >>> x = mg.Tensor(3.0, requires_grad=True, name="x")
    >>> path = show(x * x)  # doctest: +SKIP
    The page is in /tmp/minigrad-k3jxw8a1.html.
    """
    language("graph.show", lang)
    page = _page(_small(output, "graph.show"), lang)
    display = _notebook()
    if display is not None:
        display(_Frame(page))
        return None
    with tempfile.NamedTemporaryFile("wb", prefix="minigrad-", suffix=".html", delete=False) as file:
        file.write(page.encode())
    opened = _has_screen() and webbrowser.open("file://" + file.name.replace(os.sep, "/"))
    print(_word("shown" if opened else "not shown", lang, path=file.name))
    return file.name


def _checked(path: Any) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise DTypeError("graph.to_html: path", describe(path), "a path", 'write path="graph.html"')
    name = os.fsdecode(path)
    if not name.lower().endswith((".html", ".htm")):
        raise ArgumentError(
            "graph.to_html: path",
            f"{name!r}",
            "a name that ends in .html, which browsers open",
            f'write path="{os.path.splitext(name)[0]}.html"',
        )
    return name


class _Frame:
    """A page in a notebook: an iframe, so that neither's style and script reaches the other."""

    def __init__(self, page: str) -> None:
        self.page = page

    def _repr_html_(self) -> str:
        title = re.search("<title>(.*?)</title>", self.page)
        return (
            f'<iframe sandbox="allow-scripts" title="{title[1] if title else ""}" srcdoc="{html.escape(self.page)}" '
            'style="width:100%;height:680px;border:0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"a page of {len(self.page.encode())} bytes"


def _notebook() -> Any:
    """IPython's display where the code runs in a notebook, which has a kernel; None elsewhere."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return display


def _has_screen() -> bool:
    """Whether a browser has a screen: without one webbrowser would start one for the terminal, and wait for it."""
    if sys.platform in ("win32", "darwin", "cygwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _word(key: str, lang: str, **values: Any) -> str:
    return WORDS[key][lang == "ko"].format(**values)


# The page


def _small(output: Any, function: str) -> Graph:
    """The graph of output, for function, if it is one that can be stepped through."""
    with suppress(GraphError):  # of a released graph, which trace tells of; most nodes are counted before it works
        _check_size(len(ancestors([output._node])) if isinstance(output, Tensor) and output._node else 0, function)
    graph = as_graph(output, function)
    _check_size(len(graph.nodes), function)
    return graph


def _check_size(n: int, function: str) -> None:
    if n > MOST_STEPS:
        raise ArgumentError(
            function,
            f"a graph of {n:,} nodes",
            f"at most {MOST_STEPS:,}, to step through",
            "draw(output) folds it into one picture; for steps, pass the result of one layer or of a short run",
        )


def _page(graph: Graph, lang: str) -> str:
    last = graph.nodes[graph.output]
    title = _word("title", lang, output=clean(_name(last)))
    items = _Items(graph, lang).all()
    script = _file("page.js")
    hashed = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    texts = {key: _word(key, lang) for key in WORDS if "{" not in WORDS[key][0]}
    texts |= {"lang": lang, "title": title, "picture": _word("picture", lang, n=len(graph.nodes))}
    texts["policy"] = (
        f"default-src 'none'; script-src 'sha256-{hashed}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    texts["count"] = str(len(items) - 1)
    # A step is to light up its own node, not a box of many.
    picture = draw(graph, collapse=False if len(graph.nodes) <= _ONE_BY_ONE else None)
    markup = {"css": _file("page.css"), "js": script, "svg": picture.svg, "steps": "\n".join(items)}
    filled = {key: escape(text) for key, text in texts.items()} | markup
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], _file("page.html"))


def _file(name: str) -> str:
    return files("minigrad.graph").joinpath(name).read_text(encoding="utf-8")


class _Items:
    """The steps of a graph as items of a list.

    An item says in data attributes what a step lights up (node, edges), which nodes' values it brings (values, of the
    edges that leave them), and which edges' and nodes' gradients (gradients, totals).
    """

    def __init__(self, graph: Graph, lang: str) -> None:
        self.graph, self.lang = graph, lang
        self.narrator = Narrator(graph, lang)
        self.totals: dict[int, list[int]] = {}  # number of an op -> the nodes whose gradient is complete after its step
        for node in graph.nodes:
            for edge in self.narrator.arriving(node)[-1:]:
                self.totals.setdefault(edge.target, []).append(node.number)

    def all(self) -> list[str]:
        """Every item, from the values that are given to the gradients of the leaves."""
        steps = self.narrator.steps()
        self.n = len(steps) + 1
        told = [self.forward(step) if step.direction == "forward" else self.backward(step) for step in steps]
        return [self.start(), *told, self.end()]

    def leaving(self, node: GraphNode) -> list[Any]:
        """The edges that a node's value is on, by their indices, and "output"."""
        edges: list[Any] = [self.narrator.index[edge] for edge in self.graph.outgoing[node.number]]
        return [*edges, "output"] if node.number == self.graph.output else edges

    def item(self, i: int, direction: str, title: str, sentence: str, numbers: str, **data: Any) -> str:
        """A step: its place, title and sentence, its numbers as markup, and its data attributes."""
        attributes = "".join(f' data-{key}="{value}"' for key, value in data.items() if value != "")
        place = self.say("place", i=i, n=self.n) if i else self.say("begin")
        return (
            f'<li id="step-{i}" data-direction="{direction}"{attributes}>\n'
            f'<p class="place">{escape(place)}</p>\n<h2><a href="#step-{i}">{escape(title)}</a></h2>\n'
            f'<p class="sentence">{escape(sentence)}</p>\n<div class="numbers">{numbers}</div>\n</li>'
        )

    def start(self) -> str:
        given = [node for node in self.graph.nodes if node.kind != "op"]
        shown = [node for node in given if node.kind == "leaf" or node.name]
        cards = [self.card(self.name(node), node.value) for node in shown]
        brought = [edge for node in given for edge in self.leaving(node)]
        return self.item(
            0,
            "start",
            self.say("begin"),
            self.say("start"),
            _row(cards),
            node=ranges(node.number for node in given),
            values=_words(brought),
        )

    def forward(self, step: Step) -> str:
        node = self.graph.nodes[step.node]
        inputs = [self.graph.nodes[i] for i in node.inputs]
        cards = [self.card(_named(x, self.name(i)), i.value) for x, i in zip(node.arguments, inputs, strict=True)]
        cards.append(_after("→", self.card(_named("out", node.label), node.value, "result")))
        return self.item(
            self.narrator.place[step.node],
            "forward",
            step.title,
            step.sentence,
            _formula(step.formula) + _row(cards),
            node=step.node,
            edges=_words(step.edges),
            values=_words(self.leaving(node)),
        )

    def backward(self, step: Step) -> str:
        rows = []
        for term in step.terms:
            source = self.graph.nodes[term.source]
            row = [self.card(f"dout: {self.say('upstream')}", step.upstream)]
            sign = "→"
            if term.local is not None:
                symbol = f"{term.symbol}: " if term.symbol and not term.is_number else ""
                row.append(_after("×", self.card(symbol + self.say("local"), term.local)))
                sign = "=" if source.shape == self.graph.nodes[step.node].shape else self.say("summed")
            to = self.say("downstream", source=plain(self.narrator.name(source)))
            row.append(_after(sign, self.card(f"d{term.argument}: {to}", term.gradient, "result")))
            rows.append(_formula(term.formula) + _row(row))
        first = step.node == self.graph.order[0]
        return self.item(
            len(self.narrator.ops) + self.narrator.turn[step.node],
            "backward",
            step.title,
            step.sentence,
            "".join(rows),
            node=step.node,
            edges=_words(step.edges),
            gradients=_words([*step.edges, *(["output"] if first else [])]),
            totals=_words(self.totals.get(step.node, [])),
        )

    def end(self) -> str:
        leaves = [node for node in self.graph.nodes if node.kind == "leaf"]
        backward = any(node.gradient is not None for node in leaves)
        rows = []
        for node in leaves if backward else ():
            name = self.name(node)
            gradient = self.card(self.say("gradient of", name=name), node.gradient, "result")
            rows.append(_row([self.card(name, node.value), gradient]))
        words = self.say("done words" if backward else "done no gradients")
        return self.item(
            self.n, "end", self.say("done"), words, "".join(rows), node=ranges(node.number for node in leaves)
        )

    def say(self, key: str, **values: Any) -> str:
        return _word(key, self.lang, **values)

    def name(self, node: GraphNode) -> str:
        """A node's name; none for a constant that has no name, whose value says it all."""
        return "" if node.kind == "constant" and not node.name else plain(self.narrator.name(node))

    def card(self, label: str, array: Any, kind: str = "") -> str:
        """A number or an array, with a word about it above."""
        exact = f' value="{array.item()!r}"' if array is not None and array.size == 1 else ""
        told = (array is not None and _rows(array)) or plain(self.narrator.value(array))
        classes = " ".join(["card", *([] if exact else ["array"]), *([kind] if kind else [])])
        return (
            f'<div class="{classes}"><span class="label">{escape(label)}</span>'
            f"<data{exact}>{'<br>'.join(escape(row) for row in told.splitlines())}</data></div>"
        )


def _name(node: GraphNode) -> str:
    """What a page is about: the output's name, or its op with the symbol that is drawn."""
    if node.label or node.kind != "op" or node.symbol in ("", node.name):
        return node.label or node.name or "leaf"
    return f"{node.name} ({node.symbol})"


def _named(argument: str, name: str) -> str:
    """x = apple, of an argument and of what it is given."""
    return argument if name in ("", argument) else f"{argument} = {name}"


def _words(numbers: Iterable[Any]) -> str:
    return " ".join(map(str, numbers))


def _row(parts: Iterable[str]) -> str:
    return f'<div class="product">{"".join(parts)}</div>'


def _after(sign: str, card: str) -> str:
    """A card with the sign in front of it, which a line is not broken between."""
    return f'<div class="after"><span class="sign">{sign}</span>{card}</div>'


def _formula(text: str) -> str:
    """Formulas, one a line; of a long one only what it says in symbols, since its numbers are on the cards."""
    lines = [line if len(line) <= _GLANCE else " = ".join(line.split(" = ")[:2]) for line in text.splitlines()]
    return "".join(f'<p class="formula" translate="no">{escape(line)}</p>' for line in lines)


def _rows(array: Any) -> str:
    """A small array as a reader checks it, row by row; "" for any other."""
    if not 0 < array.size <= _IN_FULL or array.ndim > 2:
        return ""
    if not array.ndim:
        return number(array)
    return "\n".join(f"[{', '.join(map(number, row))}]" for row in np.atleast_2d(array))
