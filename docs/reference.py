"""Writes docs/reference.md, all public names in tables: python docs/reference.py. For the site, whole docstrings too.

The build of the site calls `write`, which makes a page for each part in docs/reference/: every name with its
arguments and its docstring. Docstrings are plain text with lines `name: meaning` and examples; `markdown` turns one
into what MyST reads. A name without one line and an example is a flaw, which ends the build, and fails a test.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import minigrad
from minigrad import errors, ops

PAGE = Path(__file__).with_name("reference.md")
FOLDER = Path(__file__).with_name("reference")

HEAD = """# Names

Made from the docstrings by `python docs/reference.py`; a test compares. `help(name)` shows shapes, what is raised,
sources and an example, and so does the site that `python3 run.py docs` builds. [The ops](ops.md), all of them functions
of `minigrad` itself, have a page of their own, and so has [the book](book.md).
"""

FILES = ("save", "load", "manual_seed", "default_generator", "get_rng_state", "set_rng_state")


@dataclass(frozen=True)
class Part:
    """A page of the reference: its file, its title, and the module under whose name users find what is on it."""

    page: str
    title: str
    module: str
    only: tuple[str, ...] = ()
    tabled: bool = True  # in docs/reference.md as well

    def groups(self) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
        """(heading, its names and what they stand for), one group for most parts; modules are left out."""
        module = import_module(self.module)
        if self.page == "ops":
            for family in filter(inspect.ismodule, vars(ops).values()):
                names = sorted(set(getattr(family, "__all__", ())).intersection(ops.__all__))
                if names:
                    yield first_line(family), [(name, getattr(family, name)) for name in names]
            return
        pairs = [(name, getattr(module, name)) for name in self.only or module.__all__]
        yield "", sorted((pair for pair in pairs if not inspect.ismodule(pair[1])), key=lambda pair: pair[0].lower())


def core() -> tuple[str, ...]:
    """The names of minigrad itself that are neither an op nor an error, and have no part of their own."""
    taken = {*ops.__all__, *errors.__all__, *FILES, "compile"}
    return (*(name for name in minigrad.__all__ if name not in taken), "compile")


PARTS = [
    Part("tensor", "Tensors and their graph", "minigrad", core()),
    Part("ops", "Ops", "minigrad", tabled=False),
    Part("nn", "Models: modules, layers, activation functions, losses", "minigrad.nn"),
    Part("nn_init", "Initial values", "minigrad.nn.init"),
    Part("optim", "Optimisers, schedules of the learning rate, clipping", "minigrad.optim"),
    Part("data", "Data sets and loaders", "minigrad.data"),
    Part("train", "Training", "minigrad.train"),
    Part("func", "Derivatives of functions", "minigrad.func"),
    Part("compiling", "Compiled functions", "minigrad.compiling", ("Compiled", "Stats")),
    Part("testing", "Gradient testing", "minigrad.testing"),
    Part("strategies", "What to draw in tests with hypothesis", "minigrad.testing.strategies", tabled=False),
    Part("graph", "Pictures and explanations of a graph", "minigrad.graph"),
    Part("debug", "Finding nan, forbidden writes and lost time", "minigrad.debug"),
    Part("files", "Files and random numbers", "minigrad", FILES),
    Part("errors", "Errors", "minigrad.errors"),
    Part("unfused", "The fused ops as graphs of small ones", "minigrad.unfused", tabled=False),
    Part("book", "The book's names", "minigrad.book", tabled=False),
]


def page(*, linked: bool = False) -> str:
    """The whole page of tables. linked: its names are links into the reference, as the site has it."""
    text = HEAD
    for part in PARTS:
        if part.tabled:
            text += f"\n## {part.title}: `{part.module}`\n\n| name | what it is |\n|---|---|\n"
            text += "".join(
                row(name, thing, part.module * linked) for _, group in part.groups() for name, thing in group
            )
    if linked:
        text += "\n```{toctree}\n:hidden:\n\n" + "".join(f"reference/{part.page}\n" for part in PARTS) + "```\n"
    return text


def row(name: str, thing: Any, module: str = "") -> str:
    """The line of the table for one name: how it is called, and the first line of its docstring."""
    first = first_line(thing).replace("|", "\\|")
    if module:
        return f"| {{py:obj}}`{name} <{module}.{name}>` `{arguments(thing)}` | {escaped(first)} |\n".replace(
            " `` ", " "
        )
    return f"| `{name}{arguments(thing)}` | {first} |\n"


def first_line(thing: Any) -> str:
    """The first line of a docstring; of a table of words, which has none, the words."""
    if isinstance(thing, dict):
        return ", ".join(map(str, thing))
    return (inspect.getdoc(thing) or "-").splitlines()[0]


def arguments(thing: Any) -> str:
    """The names of a callable's arguments; nothing for what takes none, or is not called by users."""
    prefixes: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = signature(thing)
    if parameters is None:
        return ""
    return f"({', '.join(prefixes.get(p.kind, '') + p.name for p in parameters.parameters.values())})"


def signature(thing: Any) -> inspect.Signature | None:
    """How users call it; None where they do not."""
    if not callable(thing) or (inspect.isclass(thing) and issubclass(thing, BaseException)):
        return None
    try:
        return inspect.signature(thing)
    except (TypeError, ValueError):
        return None


def whole_page(part: Part) -> str:
    """The page of one part: each name with its arguments, its docstring, and for a class its methods."""
    text = f"# {part.title}\n\n`{part.module}`\n"
    for heading, group in part.groups():
        text += f"\n## {escaped(heading)}\n" if heading else ""
        for name, thing in group:
            text += "\n" + entry(part.module, name, thing)
    return text


def entry(module: str, name: str, thing: Any) -> str:
    """What the reference says about one name, as a directive of Sphinx, so that search and links find it."""
    if inspect.isclass(thing):
        kind = "exception" if issubclass(thing, BaseException) else "class"
        body = bases(thing) + markdown((thing.__doc__ and inspect.getdoc(thing)) or "", signature(thing))
        body += "".join("\n" + member(module, f"{name}.{key}", value) for key, value in members(thing))
        return directive(kind, module, name + called(thing), body, ticks=5)
    if callable(thing):
        return directive(
            "function", module, name + called(thing), markdown(inspect.getdoc(thing) or "", signature(thing))
        )
    lines = [f"- `{key}`: {escaped(str(value))}" for key, value in thing.items()] if isinstance(thing, dict) else []
    return directive("data", module, name, "\n".join(lines))


def bases(thing: type) -> str:
    """The line that names the classes of minigrad that it is one of."""
    names = [base.__name__ for base in thing.__bases__ if base.__module__.startswith("minigrad.")]
    names = [name for name in names if not name.startswith("_")]
    return f"Is a {' and a '.join(f'`{name}`' for name in names)}.\n\n" if names else ""


def members(thing: type) -> Iterator[tuple[str, Any]]:
    """The documented public methods and properties that a class defines, but for those that its base class explains."""
    known = {name for base in thing.__mro__[1:] if base.__module__.startswith("minigrad.") for name in vars(base)}
    for name, value in vars(thing).items():
        is_one = inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod))
        if is_one and not name.startswith("_") and name not in known and inspect.getdoc(value):
            yield name, value


def member(module: str, name: str, thing: Any) -> str:
    """A method or a property of a class."""
    if isinstance(thing, property):
        return directive("property", module, name, markdown(inspect.getdoc(thing) or ""))
    kind = (
        "classmethod" if isinstance(thing, classmethod) else "staticmethod" if isinstance(thing, staticmethod) else ""
    )
    function = getattr(thing, "__func__", thing)
    own = inspect.signature(function)
    first = 0 if kind == "staticmethod" else 1
    own = own.replace(parameters=list(own.parameters.values())[first:])
    return directive(kind or "method", module, name + plain(own), markdown(inspect.getdoc(function) or "", own))


def directive(kind: str, module: str, name: str, body: str, ticks: int = 4) -> str:
    """A directive of Sphinx's Python domain; ticks: more than those of the directives within it."""
    fence = "`" * ticks
    return f"{fence}{{py:{kind}}} {name}\n:module: {module}\n\n{body.strip()}\n{fence}\n"


def called(thing: Any) -> str:
    """The arguments with their defaults, as the reference shows them; for an error nothing."""
    own = signature(thing)
    return "" if own is None else plain(own)


class Shown:
    """A default value as the reference shows it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        text = repr(self.value)
        return text if re.fullmatch(r"[\w.'\"(){}\[\], :+-]*", text) else "..."


def plain(own: inspect.Signature) -> str:
    """A signature without its types: the docstring says which shapes and dtypes the arguments have."""
    empty = inspect.Parameter.empty
    parameters = [
        p.replace(annotation=empty, default=p.default if p.default is empty else Shown(p.default))
        for p in own.parameters.values()
    ]
    return str(inspect.Signature(parameters))


# `name: meaning`, or `name, name: meaning`, at the beginning of a line.
ITEM = re.compile(r"(\*{0,2}[A-Za-z_]\w*(?:, \*{0,2}[A-Za-z_]\w*)*): ")


def markdown(doc: str, own: inspect.Signature | None = None) -> str:
    """A docstring as Markdown: lines `name: meaning` become a list, examples blocks, the rest paragraphs.

    own: the signature, whose parameters are also recognised within a line.

    >>> print(markdown("out = x * y\\n\\nx, y: any shape.\\nz: not used.\\nRaises ShapeError."))
    out = x \\* y
    <BLANKLINE>
    - `x, y`: any shape.
    - `z`: not used.
    <BLANKLINE>
    Raises ShapeError.
    """
    known = set(own.parameters) if own else set()
    parts = []
    for paragraph in re.split(r"\n\s*\n", doc.strip()):
        lines = paragraph.splitlines()
        if lines[0].lstrip().startswith(">>>"):
            parts.append(f"```pycon\n{inspect.cleandoc(paragraph)}\n```")
        elif all(line.startswith("    ") for line in lines):
            parts.append(f"```text\n{inspect.cleandoc(paragraph)}\n```")
        else:
            parts += [said(sentence, known) for sentence in sentences(lines)]
    text = "\n\n".join(parts)
    return re.sub(r"(?m)^(- .*)\n\n(?=- )", r"\1\n", text)


def sentences(lines: list[str]) -> list[str]:
    """The lines of a paragraph, joined to what is said about one argument each, and to what stands between."""
    found: list[str] = []
    item = False
    for line in lines:
        whole = not found or found[-1].endswith((".", ";", ":"))
        starts_item = whole and ITEM.match(line) is not None and not line.startswith(("Source", "Raises"))
        if not found or starts_item or (whole and not line.startswith(" ") and (item or line.startswith("Raises "))):
            found.append(line.strip())
            item = starts_item
        else:
            found[-1] += " " + line.strip()
    return found


def said(sentence: str, known: set[str]) -> str:
    """One paragraph, or one line of a list where it begins with `name: `."""
    first = ITEM.match(sentence)
    if first and not sentence.startswith("Source"):
        names, rest = first.group(1), sentence[first.end() :]
        return f"- `{names}`: {inner(rest, known)}"
    return inner(sentence, known)


def inner(text: str, known: set[str]) -> str:
    """Text with its Markdown escaped, and the arguments that are explained on the way as code."""
    pieces = re.split(r"((?<=[.;] )[A-Za-z_]\w*(?:, [A-Za-z_]\w*)*(?=: ))", text)
    return "".join(
        f"`{piece}`" if i % 2 and set(piece.split(", ")) <= known else escaped(piece) for i, piece in enumerate(pieces)
    )


def escaped(text: str) -> str:
    """Text as Markdown shows it, character by character; what stands in backticks stays code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return re.sub(r"([\\`*_{}\[\]<>|~#$^])", r"\\\1", text)
    outside = [re.sub(r"([\\*_{}\[\]<>|~#$^])", r"\\\1", piece) for piece in pieces[::2]]
    outside[0] = re.sub(r"^([-+=]|\d+[.)])(?=\s)", r"\\\1", outside[0])
    return "`".join(
        piece for pair in zip(outside, [*pieces[1::2], None], strict=True) for piece in pair if piece is not None
    )


def flaws() -> list[str]:
    """The public names that do not have one line and an example in their docstring."""
    found = []
    for part in PARTS:
        for _, group in part.groups():
            found += [f"{part.module}.{name} {flaw}" for name, thing in group if (flaw := flaw_of(thing))]
    return found


def flaw_of(thing: Any) -> str:
    """What is missing in a docstring, or nothing."""
    if isinstance(thing, dict):
        return ""  # a table of words explains itself
    if not callable(thing):
        return "is neither a function nor a class nor a table of words"
    lines = (thing.__doc__ or "").strip().splitlines()
    if not lines:
        return "has no docstring"
    if lines[1:] and lines[1].strip():
        return "has a docstring whose first line does not stand alone"
    if ">>> " not in (thing.__doc__ or ""):
        return "has no example in its docstring"
    return ""


def write() -> None:
    """Write the pages of the site's reference, where they have changed."""
    FOLDER.mkdir(exist_ok=True)
    texts = {FOLDER / f"{part.page}.md": whole_page(part) for part in PARTS}
    for path in set(FOLDER.glob("*.md")) - set(texts):
        path.unlink()
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
