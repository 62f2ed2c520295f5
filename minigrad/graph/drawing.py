"""A graph as the book draws it, values above the arrows and gradients below."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.errors import DTypeError, describe
from minigrad.graph.collapse import folds
from minigrad.graph.data import FORMS, Graph, summary
from minigrad.graph.export import to_text
from minigrad.graph.picture import Picture, checked, write
from minigrad.graph.scene import MARGIN, Scene
from minigrad.graph.shapes import SMALL_LINE
from minigrad.graph.svg import document, element, escape, width
from minigrad.graph.tracing import as_graph

__all__ = ["draw"]


def draw(
    output: Any, path: Any = None, *, values: bool = True, gradients: bool = True, collapse: Any = None
) -> Picture:
    """The computation graph of output as a picture: forward arrows with the values above, backward with the gradients.

    output: a Tensor with a graph, or a Graph. path: an .svg file to write the picture to, as well.
    values, gradients: False leaves them out.
    collapse: None draws up to 80 nodes one by one. Of a larger graph it makes a picture of at most about 60 boxes:
        of nn modules, opened as deep as that allows; or else what repeats itself is one box between its first and its
        last time, and where nothing does, all between the first and the last 15 ops is. False never folds. True makes
        a box of each innermost module, a whole number n of each module n levels deep: 1 of the outermost. Modules are
        known where graph.record() was on.
    Small arrays are shown in full, others as shape and min | mean | max. Where a value goes several ways, the total is
    the sum of the gradients that come back. 1 / x is the book's "/" with one argument. A parameter that is used again
    and again is drawn at each use. A wide graph is broken into rows, as text is into lines.
    Raises as trace and Picture.save do; DTypeError and ArgumentError for another collapse, ArgumentError for modules
    that were not recorded, and for more than 2000 nodes that must not be folded. Where pygraphviz is installed,
    Graphviz untangles pictures of more than 150 nodes, which look different then.

    >>> import minigrad as mg
    >>> apple = mg.Tensor(100.0, requires_grad=True, name="apple")
    >>> picture = mg.graph.draw(apple * 2 * 1.1)
    >>> picture
    Picture('×, a graph of 5 nodes', ... bytes of SVG)
    """
    for key, value in (("values", values), ("gradients", gradients)):
        if not isinstance(value, (bool, np.bool_)):
            raise DTypeError(f"graph.draw: {key}", describe(value), "True or False", f"write {key}=False")
    name = None if path is None else checked("graph.draw", path)
    graph = as_graph(output, "graph.draw", gradients=bool(gradients))
    scene = Scene(graph, folds(graph, collapse), values=bool(values), gradients=bool(gradients), rows=True)
    parts = scene.parts()
    left, top, right, bottom = scene.bounds
    if scene.summarised:
        note = "arrays: shape, then min | mean | max"
        bottom += 2 * SMALL_LINE
        right = max(right, left + width(note, 11))
        parts.append(element("text", escape(note), x=f"{left:g}", y=f"{bottom:g}", class_="small"))
    box = (left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, bottom - top + 2 * MARGIN)
    title, description = _texts(graph)
    picture = Picture(document(parts, box, title, description), title)
    if name is not None:
        write("graph.draw", name, picture.svg)
    return picture


def _texts(graph: Graph) -> tuple[str, str]:
    """Title and description of a picture, for who cannot see it."""
    last, n = graph.nodes[graph.output], len(graph.nodes)
    name = f"{last.label or last.symbol or last.name or 'a leaf'}, a graph of {n} node{'s' if n != 1 else ''}"
    if n > 60:
        counts = f"{sum(node.kind == 'op' for node in graph.nodes)} ops, from left to right"
        return name, f"{counts}; the result is {'unknown' if last.value is None else summary(last.value)}"
    return name, "; ".join(" ".join(line.split()) for line in to_text(graph, lines=False).splitlines())


FORMS["picture"] = draw
