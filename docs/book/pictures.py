"""What the examples of this directory share: their options, the digits, and the picture they write."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from minigrad.data import load_digits, split


def options(file: str, doc: str | None, **counts: int) -> argparse.Namespace:
    """The command line: where the picture goes, and how many steps, epochs or trials there are."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    default = Path(file).with_suffix(".png")
    parser.add_argument("out", nargs="?", type=Path, default=default, help=f"default: {default.name} beside this file")
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"default: {count}")
    return parser.parse_args()


def digits() -> Any:
    """(x_train, t_train), (x_test, t_test): the package's digits, 64 grey values each."""
    return split(*load_digits())


def panels(rows: int, columns: int, width: float, height: float, **kwargs: Any) -> tuple[Figure, list[Any]]:
    """A figure of so many inches and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **kwargs).flat)


def write(figure: Figure, out: Path) -> None:
    """The figure as a file, and a line that says where."""
    figure.savefig(out, dpi=80)
    print(f"picture: {out}")
