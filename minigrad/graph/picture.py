"""Picture: what draw and diff return, an SVG that notebooks show and that can be saved."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from minigrad.errors import ArgumentError, CheckpointError, DTypeError, describe
from minigrad.io.atomic import replacing

__all__ = ["Picture", "checked", "write"]


@dataclass(frozen=True)
class Picture:
    """A picture of a graph: `svg` is its text, `save` writes it, and a notebook shows it.

    >>> import minigrad as mg
    >>> x = mg.Tensor(5.0, requires_grad=True, name="x")
    >>> mg.graph.draw(mg.exp(x))
    Picture('exp, a graph of 2 nodes', ... bytes of SVG)
    """

    svg: str
    title: str

    def save(self, path: Any) -> None:
        """Writes the picture to path, an .svg file, whole or not at all.

        Raises DTypeError for what is no path, ArgumentError for another suffix, CheckpointError for what cannot be
        written.
        """
        write("Picture.save", checked("Picture.save", path), self.svg)

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        # Not scaled to the page, or a wide graph could not be read.
        return f'<div style="overflow-x:auto">{self.svg}</div>'

    def _ipython_display_(self) -> None:
        # IPython asks for every form there is, and a notebook would keep the picture twice. As HTML it has the page's
        # colours, as an image it would not. Only IPython calls this.
        display: Any = import_module("IPython.display").display
        display({"text/html": self._repr_html_(), "text/plain": repr(self)}, raw=True)

    def __repr__(self) -> str:
        return f"Picture({self.title!r}, {len(self.svg.encode())} bytes of SVG)"


def checked(function: str, path: Any) -> str:
    """The name of the .svg file that path is; errors are those of function."""
    if not isinstance(path, (str, os.PathLike)):
        raise DTypeError(f"{function}: path", describe(path), "a path", 'write "graph.svg"')
    name = os.fsdecode(path)
    if not name.lower().endswith(".svg"):
        raise ArgumentError(
            f"{function}: path",
            f"{name!r}",
            "a name that ends in .svg, which every browser, notebook and editor of pictures opens",
            f'write "{os.path.splitext(name)[0]}.svg"',
        )
    return name


def write(function: str, name: str, text: str) -> None:
    """Writes text to the file of this name, whole or not at all; errors are those of function."""
    try:
        with replacing(name) as file:
            file.write(text.encode())
    except CheckpointError as error:
        raise CheckpointError(f"{function}: path", f"{name!r}: {error.got}", error.expected, error.fix) from error
