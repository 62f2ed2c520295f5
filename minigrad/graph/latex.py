"""Names, numbers and any text as LaTeX writes them."""

from __future__ import annotations

import re
from typing import Any

from minigrad.graph.data import number
from minigrad.graph.svg import clean

__all__ = ["latex_escaped", "latex_name", "latex_number"]

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "×": r"\ensuremath{\times}",
    "÷": r"\ensuremath{\div}",
    "`": r"\textasciigrave{}",
    "Σ": r"\ensuremath{\Sigma}",
    "Π": r"\ensuremath{\Pi}",
    "σ": r"\ensuremath{\sigma}",
    "√": r"\ensuremath{\surd}",
    "∂": r"\ensuremath{\partial}",
    "²": r"\textsuperscript{2}",
    **{c: f"\\{c}" for c in "_%&#$"},
}


def latex_escaped(said: str) -> str:
    r"""Text that LaTeX prints as it is; signs that cannot be printed become blanks.

    >>> print(latex_escaped("50% of x_1 {~}"))
    50\% of x\_1 \{\textasciitilde{}\}
    """
    return "".join(_ESCAPES.get(c, c) for c in clean(said))


def latex_number(value: Any) -> str:
    r"""A number for mathematics mode.

    >>> print(latex_number(4.2e-18), latex_number(float("-inf")))
    4.2 \times 10^{-18} -\infty
    """
    shown = number(value)
    mantissa, e, exponent = shown.partition("e")
    if e:
        return rf"{mantissa} \times 10^{{{exponent}}}"
    return {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{nan}"}.get(shown, shown)


def latex_name(name: str) -> str:
    r"""A name of a formula: dout as a partial derivative, W_ih with an index, a word upright.

    >>> print(latex_name("dout"), latex_name("dx"), latex_name("W_ih"), latex_name("out"))
    \frac{\partial L}{\partial \mathrm{out}} \frac{\partial L}{\partial x} W_{\mathrm{ih}} \mathrm{out}
    """
    derivative = re.fullmatch(r"∂(\S+)/∂(\S+)", name)
    if derivative:
        return rf"\frac{{\partial {latex_name(derivative[1])}}}{{\partial {latex_name(derivative[2])}}}"
    if re.fullmatch(r"d[A-Za-z]\w*", name):
        return rf"\frac{{\partial L}}{{\partial {latex_name(name[1:])}}}"
    if re.fullmatch("[A-Za-z]", name):
        return name
    indexed = re.fullmatch(r"([A-Za-z])_?([A-Za-z]{2}|\d+)", name)
    if indexed and ("_" in name or indexed[2].isdigit()):
        return rf"{indexed[1]}_{{\mathrm{{{indexed[2]}}}}}"
    return rf"\mathrm{{{latex_escaped(name)}}}"
