"""A Graph as text: a table, JSON, Graphviz's DOT and Mermaid."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from minigrad.graph.data import FORMS, Graph, GraphNode, number, parameters_text, statistics, summary
from minigrad.graph.svg import clean

__all__ = ["title", "to_dot", "to_json", "to_mermaid", "to_text"]


def title(node: GraphNode) -> str:
    """What a node is called: a leaf's or constant's name, an op's with its parameters."""
    if node.kind != "op":
        return node.name or node.kind
    parameters = parameters_text(node)
    name = f"{node.name}({parameters})" if parameters else node.name
    return f"{node.label} = {name}" if node.label else name


def to_text(graph: Graph, *, lines: bool = True) -> str:
    """One node a line: number, what it is, value, gradient, inputs, and, with lines, the user's line."""
    rows = []
    for node in graph.nodes:
        rows.append(
            [
                str(node.number),
                clean(title(node)),
                "= ?" if node.value is None else f"= {summary(node.value)}",
                "" if node.gradient is None else f"gradient {summary(node.gradient)}",
                f"of {', '.join(map(str, node.inputs))}" if node.inputs else "",
                str(node.line) if lines and node.line is not None else "",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def to_json(graph: Graph, limit: int = 100) -> str:
    """The graph as a JSON text; arrays of more than `limit` values by their least, mean and largest."""
    nodes = [
        {
            "number": node.number,
            "kind": node.kind,
            "name": node.name,
            "symbol": node.symbol,
            "label": node.label,
            "parameters": {key: repr(value) for key, value in node.parameters.items()},
            "shape": None if node.shape is None else list(node.shape),
            "dtype": None if node.dtype is None else str(node.dtype),
            "inputs": list(node.inputs),
            "arguments": list(node.arguments),
            "value": _plain(node.value, limit),
            "gradient": _plain(node.gradient, limit),
            "keeps": list(node.keeps),
            "line": None if node.line is None else node.line._asdict(),
            "modules": list(node.modules),
        }
        for node in graph.nodes
    ]
    edges = [
        {
            "source": edge.source,
            "target": edge.target,
            "argument": edge.argument,
            "gradient": _plain(edge.gradient, limit),
        }
        for edge in graph.edges
    ]
    whole = {
        "nodes": nodes,
        "edges": edges,
        "output": graph.output,
        "seeded": graph.seeded,
        "order": list(graph.order),
    }
    return json.dumps(whole, allow_nan=False)


def _plain(array: Any, limit: int) -> Any:
    """An array as JSON has it: nested lists, or its least, mean and largest finite value, and counts of the others."""
    if array is None:
        return None
    array = np.asarray(array)
    if array.size <= limit:
        return _finite(array.tolist())
    found = statistics(array)
    return {"min": _finite(found.least), "mean": found.mean, "max": _finite(found.largest), **found.bad}


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(part) for part in value]
    if isinstance(value, np.longdouble):
        value = float(value)
    return value if not isinstance(value, float) or math.isfinite(value) else number(value)


def _quoted(text: str) -> str:
    """A string of DOT: quotes and backslashes escaped, no control characters."""
    text = clean(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def to_dot(graph: Graph) -> str:
    """The graph in Graphviz's language: `dot -Tsvg`."""
    lines = ["digraph {", "  rankdir=LR;"]
    for node in graph.nodes:
        shape = "circle" if node.kind == "op" else "plaintext"
        text = node.symbol if node.kind == "op" else _leaf_text(node)
        lines.append(f"  n{node.number} [shape={shape}, label={_quoted(text)}, tooltip={_quoted(title(node))}];")
    for edge in graph.edges:
        lines.append(f"  n{edge.source} -> n{edge.target} [label={_quoted(_edge_text(graph, edge))}];")
    return "\n".join([*lines, "}"]) + "\n"


def to_mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart."""
    lines = ["flowchart LR"]
    for node in graph.nodes:
        left, right = ('(("', '"))') if node.kind == "op" else ('["', '"]')
        text = node.symbol if node.kind == "op" else _leaf_text(node)
        lines.append(f"  n{node.number}{left}{_coded(text)}{right}")
    for edge in graph.edges:
        lines.append(f'  n{edge.source} -->|"{_coded(_edge_text(graph, edge))}"| n{edge.target}')
    return "\n".join(lines) + "\n"


def _coded(text: str) -> str:
    """Text that Mermaid takes for text: what is no letter, digit or harmless sign as #code;."""
    text = clean(text) or " "
    # A title "-" or "+" alone would begin a list.
    return "".join(c if c.isalnum() or (c in " .,=:+-×" and len(text) > 1) else f"#{ord(c)};" for c in text)


def _leaf_text(node: GraphNode) -> str:
    value = "?" if node.value is None else summary(node.value)
    return f"{node.name} = {value}" if node.name else value


def _edge_text(graph: Graph, edge: Any) -> str:
    """Value forward and gradient back, of one edge."""
    value = graph.nodes[edge.source].value
    forward = "?" if value is None else summary(value)
    return forward if edge.gradient is None else f"{forward}, gradient {summary(edge.gradient)}"


FORMS.update(json=to_json, dot=to_dot, mermaid=to_mermaid, text=to_text)
