"""Writes docs/reference.md, the names of nn, optim, data, train and their kin: python docs/reference.py."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("reference.md")

HEAD = """# Names

Made from the docstrings by `python docs/reference.py`; a test compares. `help(name)` shows shapes, what is raised,
sources and an example. [The ops](ops.md), all of them functions of `minigrad` itself, have a page of their own, and
so has [the book](book.md).
"""

PARTS = {
    "minigrad.nn": "Models: modules, layers, activation functions, losses",
    "minigrad.nn.init": "Initial values",
    "minigrad.optim": "Optimisers, schedules of the learning rate, clipping",
    "minigrad.data": "Data sets and loaders",
    "minigrad.train": "Training",
    "minigrad.func": "Derivatives of functions",
    "minigrad.testing": "Gradient testing",
}

FILES = """
## Files and random numbers

| name | what it is |
|---|---|
"""


def row(name: str, thing: Any) -> str:
    """The line of the table for one name: how it is called, and the first line of its docstring."""
    first = (inspect.getdoc(thing) or "").splitlines()[0].replace("|", "\\|")
    return f"| `{name}{arguments(thing)}` | {first} |\n"


def arguments(thing: Any) -> str:
    """The names of a callable's arguments; nothing for what takes none, or is not called by users."""
    if not callable(thing) or (inspect.isclass(thing) and issubclass(thing, BaseException)):
        return ""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return ""
    prefixes = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return f"({', '.join(prefixes.get(p.kind, '') + p.name for p in parameters)})"


def page() -> str:
    """The whole page."""
    text = HEAD
    for part, title in PARTS.items():
        module = import_module(part)
        text += f"\n## {title}: `{part}`\n\n| name | what it is |\n|---|---|\n"
        names = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
        text += "".join(row(name, getattr(module, name)) for name in sorted(names, key=str.lower))
    minigrad = import_module("minigrad")
    named = ("save", "load", "manual_seed", "default_generator", "get_rng_state", "set_rng_state")
    return text + FILES + "".join(row(name, getattr(minigrad, name)) for name in named)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
