"""Prose with formulas in it, and its three forms: plain text, Markdown and LaTeX.

A sentence is a sequence of pieces: words of ours, names and numbers from outside (Code), and formulas. Only when it is
printed does a form decide how each looks, so that a name can never be taken for markup.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minigrad.graph.formula import latex, text
from minigrad.graph.latex import latex_escaped
from minigrad.graph.svg import clean

__all__ = [
    "COLUMNS",
    "Block",
    "Code",
    "Formula",
    "Heading",
    "Items",
    "Pieces",
    "Shown",
    "Table",
    "columns",
    "plain",
    "table_width",
    "to_latex",
    "to_markdown",
    "to_text",
]

COLUMNS = 96
_TIED = "\u00a0"  # a blank at which no line is broken
_UNBROKEN = 40  # columns: code and formulas up to here are kept on one line
# Blanks of ours that hold together what is one thing: x = 200, 1 / y, node 4 (×), 4번 노드
_HOLDS = re.compile(r" (?=[=/×+-] )|(?<= [=/×+-]) | (?=\($)|(?<=^node) $|(?<=^번) (?=노드|리프)")


class Code(str):
    """A name, a number or an array from outside, shown as it is."""

    __slots__ = ()


@dataclass(frozen=True)
class Formula:
    """Sides that are equal: dx = dout × y = 1.1 × 2 = 2.2.

    shapes: of what was computed from and of the result, (2, 3) @ (3, 4) → (2, 4), or of the result alone.
    """

    sides: tuple[ast.expr, ...]
    shapes: tuple[ast.expr, ...] = ()

    def __str__(self) -> str:
        said = " = ".join(map(text, self.sides))
        shapes = " → ".join(map(text, self.shapes))
        return said if not shapes else f"{said}: {shapes}" if len(self.sides) == 1 else f"{said},  {shapes}"

    def to_latex(self) -> str:
        """The same for mathematics mode."""
        said = " = ".join(map(latex, self.sides))
        shapes = r" \to ".join(map(latex, self.shapes))
        return said if not shapes else rf"{said}{':' if len(self.sides) == 1 else ','} \quad {shapes}"


Pieces = tuple[Any, ...]  # of str, Code and Formula


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    said: Pieces


@dataclass(frozen=True)
class Shown:
    """Formulas on lines of their own."""

    formulas: Sequence[Formula]


@dataclass(frozen=True)
class Items:
    """A list."""

    items: Sequence[Pieces]


@dataclass(frozen=True)
class Table:
    """A table: the first row names the columns."""

    rows: Sequence[Sequence[Pieces]]


Block = Heading | Shown | Items | Table | tuple[Any, ...]  # Pieces: a paragraph


def plain(said: Pieces) -> str:
    """The pieces as plain text."""
    return "".join(clean(p) if isinstance(p, Code) else str(p) for p in said).replace(_TIED, " ")


def columns(said: str) -> int:
    """How many columns a terminal uses for it: two for each Korean syllable.

    >>> columns("dx = 2"), columns("역전파")
    (6, 6)
    """
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in said)


def table_width(rows: Sequence[Sequence[Pieces]]) -> int:
    """How many columns a table takes as plain text."""
    widths = _column_widths([[plain(cell) for cell in row] for row in rows])
    return sum(widths) + 2 * (len(widths) - 1)


def _column_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(columns, column)) for column in zip(*rows, strict=True)]


def _padded(said: str, wide: int) -> str:
    return said + " " * (wide - columns(said))


def _wrapped(said: str, first: str = "", rest: str = "") -> list[str]:
    """The lines of a paragraph, broken at blanks."""
    lines, line = [], first
    words: list[str] = []
    for word in said.split(" "):
        words += [word] if columns(rest + word) <= COLUMNS else word.split(_TIED)
    for word in words:
        fresh = line in (first, rest) and not line.strip(" -")
        if not fresh and columns(line) + 1 + columns(word) > COLUMNS:
            lines.append(line)
            line, fresh = rest, True
        line += word if fresh else f" {word}"
    return [*lines, line]


def to_text(blocks: Sequence[Block]) -> str:
    """The blocks as plain text in at most 96 columns, but for a formula that has no place to break."""
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            said = plain(block.said)
            lines += [said, ("=" if block.level == 1 else "-") * columns(said)] if block.level < 3 else [said]
        elif isinstance(block, Shown):
            lines += [line for formula in block.formulas for line in _formula_lines(formula)]
        elif isinstance(block, Items):
            for item in block.items:
                lines += _wrapped(_tied(item), "- ", "  ")
        elif isinstance(block, Table):
            rows = [[plain(cell) for cell in row] for row in block.rows]
            widths = _column_widths(rows)
            rows.insert(1, ["-" * w for w in widths])
            lines += ["  ".join(map(_padded, row, widths)).rstrip() for row in rows]
        else:
            lines += _wrapped(_tied(block))
        lines.append("")
    return "\n".join(lines).replace(_TIED, " ")


def _tied(said: Pieces) -> str:
    """Pieces as text in which short formulas, and what belongs to them, have no blank that a line could break at."""
    shown = ""
    for p in said:
        if not isinstance(p, (Code, Formula)):
            shown += _HOLDS.sub(_TIED, p)
            continue
        one = plain((p,))
        shown += one.replace(" ", _TIED) if columns(one) <= _UNBROKEN else _HOLDS.sub(_TIED, one)
    return shown


def _formula_lines(formula: Formula) -> list[str]:
    """A formula on one line, or on one for each of its sides."""
    line = f"    {formula}"
    if columns(line) <= COLUMNS or len(formula.sides) < 3:
        return [line]
    first, *others = map(text, formula.sides)
    return [f"    {first} = {others[0]}", *(f"        = {side}" for side in others[1:])]


def to_markdown(blocks: Sequence[Block]) -> str:
    """The blocks as Markdown (CommonMark, with GitHub's tables)."""
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            lines.append(f"{'#' * block.level} {_markdown(block.said)}")
        elif isinstance(block, Shown):
            shown = [line[4:] for formula in block.formulas for line in _formula_lines(formula)]
            lines += ["```text", *shown, "```"]
        elif isinstance(block, Items):
            lines += [f"- {_markdown(item)}" for item in block.items]
        elif isinstance(block, Table):
            rows = [" | ".join(_cell(cell) for cell in row).join(("| ", " |")) for row in block.rows]
            lines += [rows[0], f"|{' --- |' * len(block.rows[0])}", *rows[1:]]
        else:
            lines.append(_markdown(block))
        lines.append("")
    return "\n".join(lines)


def _markdown(said: Pieces) -> str:
    return "".join(_fenced(str(p)) if isinstance(p, (Code, Formula)) else _escaped(p) for p in said)


def _cell(said: Pieces) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", _markdown(said))


def _fenced(said: str) -> str:
    """Code: between more backticks than it has in a row, so that none of them ends it."""
    said = clean(said)
    if not said.strip():
        return ""
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", said)), default=0))
    pad = " " if said[0] in "` " or said[-1] in "` " else ""
    return f"{ticks}{pad}{said}{pad}{ticks}"


def _escaped(said: str) -> str:
    return re.sub(r"([\\`*_\[\]<>&#|])", r"\\\1", said).replace(_TIED, " ")


def to_latex(blocks: Sequence[Block], preamble: Sequence[str]) -> str:
    """The blocks as a fragment for \\input, with no packages of its own; preamble: its comments on the first lines."""
    lines = [f"% {said}" for said in preamble]
    for block in blocks:
        if isinstance(block, Heading):
            name = ("section", "subsection", "subsubsection")[block.level - 1]
            lines.append(rf"\{name}*{{{_latex(block.said)}}}")
        elif isinstance(block, Shown):
            lines += [rf"\[ {formula.to_latex()} \]" for formula in block.formulas]
        elif isinstance(block, Items):
            lines += [r"\begin{itemize}", *[rf"\item {_latex(item)}" for item in block.items], r"\end{itemize}"]
        elif isinstance(block, Table):
            rows = [" & ".join(map(_latex, row)) + r" \\" for row in block.rows]
            lines.append(rf"\begin{{center}}\begin{{tabular}}{{{'l' * len(block.rows[0])}}}")
            lines += [rows[0], r"\hline", *rows[1:], r"\end{tabular}\end{center}"]
        else:
            lines.append(_latex(block))
        lines.append("")
    return "\n".join(lines)


def _latex(said: Pieces) -> str:
    shown = ""
    for p in said:
        if isinstance(p, Formula):
            shown += f"${p.to_latex()}$"
        elif isinstance(p, Code):
            shown += rf"\texttt{{{latex_escaped(p)}}}" if p else ""
        else:
            shown += latex_escaped(p)
    return shown
