"""Picture: what draw and diff return, an SVG that notebooks show and that can be saved."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.io.atomic import replacing

__all__ = ["Picture"]


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
        if not isinstance(path, (str, os.PathLike)):
            raise DTypeError("Picture.save: path", describe(path), "a path", 'write save("graph.svg")')
        name = os.fsdecode(path)
        if not name.lower().endswith(".svg"):
            raise ArgumentError(
                "Picture.save: path",
                f"{name!r}",
                "a name that ends in .svg, which every browser, notebook and editor of pictures opens",
                f'write save("{os.path.splitext(name)[0]}.svg")',
            )
        with replacing(name) as file:
            file.write(self.svg.encode())

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        # Not scaled to the page, or a wide graph could not be read.
        return f'<div style="overflow-x:auto">{self.svg}</div>'

    def __repr__(self) -> str:
        return f"Picture({self.title!r}, {len(self.svg.encode())} bytes of SVG)"
