"""The Korean tutorial says what the English one says: the same cells, headings, formulae, tables and links."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
ENGLISH, KOREAN = DOCS / "tutorial", DOCS / "ko" / "tutorial"
PAGES = sorted({page.name for folder in (ENGLISH, KOREAN) for page in folder.glob("*.md")})

HEADING = re.compile(r"^(#+) (.+)$", re.M)
SECTION = re.compile(r"\d+(?:\.\d+)+")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HANGUL = re.compile("[가-힣]")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FENCE = load(DOCS / "blocks.py").FENCE


class NoLanguage(ast.NodeTransformer):
    """Leaves out what code on a Korean page may say differently: lang="ko" in a call, and docstrings of functions."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """The function without its docstring."""
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """The call without it."""
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "lang"]
        self.generic_visit(node)
        return node


def blocks(text: str) -> list[tuple[str, str]]:
    """(kind, content) of each fenced block; of a cell the options and the code without comments; of a note nothing."""
    found = []
    for fence in FENCE.finditer(text):
        kind, content = fence.group(2).strip(), fence.group(3)
        if kind.startswith("{code-cell}"):
            options = re.match(r"(?::.*\n)*", content)
            assert options is not None
            code = ast.unparse(NoLanguage().visit(ast.parse(content[options.end() :])))
            found.append((kind, options.group() + code))
        elif kind == "{note}" or (kind.startswith("{admonition}") and content.startswith(":class: note\n")):
            found.append(("{note}", ""))  # a note of its own title, since the theme's is in the language of the site
        else:
            found.append((kind, content))
    return found


def prose(text: str) -> str:
    """The page without its fenced blocks."""
    return str(FENCE.sub("", text))


def headings(text: str) -> list[tuple[int, list[str]]]:
    """(level, sections of the book that it names) of each heading."""
    return [(len(mark), SECTION.findall(title)) for mark, title in HEADING.findall(prose(text))]


def formulae(text: str) -> list[str]:
    """The lines that show a formula alone."""
    return re.findall(r"^(?:> .*|\$\$.*\$\$)$", prose(text), re.M)


def numbers_of_tables(text: str) -> list[list[str]]:
    """The numbers in each row of the tables."""
    return [re.findall(r"-?\d[\d.]*", row) for row in re.findall(r"^\|.*\|$", prose(text), re.M)]


def images(text: str) -> list[str]:
    """The files of the pictures."""
    return [Path(path).name for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", prose(text))]


def links(page: Path) -> list[str]:
    """The pages to which it leads, as a path in docs/; the order is that of the language."""
    found = []
    for target in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            found.append(target)
            continue
        path, _, anchor = target.partition("#")
        path = os.path.relpath(page.parent / path if path else page, DOCS)
        if not (KOREAN.parent.parent / path).exists():
            path = f"missing {path}"
        korean = path.startswith("ko/") or (page.parent == ENGLISH and path.startswith("tutorial/"))
        found.append(path.removeprefix("ko/") + ("" if korean else f"#{anchor}"))
    return sorted(found)


def pair(name: str) -> tuple[str, str]:
    """The text of a page, English and Korean."""
    return (ENGLISH / name).read_text(encoding="utf-8"), (KOREAN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_code_is_the_same(name: str) -> None:
    english, korean = map(blocks, pair(name))
    assert korean == english


@pytest.mark.parametrize("name", PAGES)
def test_headings_name_the_same_sections_of_the_book(name: str) -> None:
    english, korean = map(headings, pair(name))
    assert korean == english


@pytest.mark.parametrize("name", PAGES)
def test_formulae_tables_and_pictures_are_the_same(name: str) -> None:
    english, korean = pair(name)
    assert formulae(korean) == formulae(english)
    assert numbers_of_tables(korean) == numbers_of_tables(english)
    assert images(korean) == images(english)


@pytest.mark.parametrize("name", PAGES)
def test_exercises_and_notes_are_there(name: str) -> None:
    english, korean = map(prose, pair(name))
    for mark in ("<details>", "</details>", "\n**1.** ", "\n**2.** ", "\n**3.** ", "\n**4.** ", "\n- "):
        assert korean.count(mark) == english.count(mark), mark


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_the_same_pages(name: str) -> None:
    assert links(KOREAN / name) == links(ENGLISH / name)


@pytest.mark.parametrize("name", PAGES)
def test_every_paragraph_is_korean(name: str) -> None:
    text = re.sub(r"\A---\n.*?^---$", "", pair(name)[1], flags=re.M | re.S)
    for paragraph in re.split(r"\n\s*\n", prose(text)):
        said = re.sub(r"`[^`]*`|</?details>|^(?:>|\||:::|\().*$", "", paragraph, flags=re.M).strip()
        assert HANGUL.search(said) or not re.search(r"[a-z]{3}", said), paragraph


def test_a_difference_in_code_is_seen() -> None:
    cell = "```{{code-cell}}\n:tags: [{}]\n\n{}\n```\n"
    english = blocks(cell.format("hide-input", "x = f(y)  # so"))
    assert blocks(cell.format("hide-input", 'x = f(y, lang="ko")  # 이렇게')) == english
    assert blocks(cell.format("hide-input", "x = f(z)")) != english
    assert blocks(cell.format("hide-cell", "x = f(y)")) != english
