"""README and docs: every block runs, and prints what is shown; tables and reference are what the package declares."""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import inspect
import io
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import minigrad
from minigrad import cli

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@cache
def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


blocks = load(DOCS / "blocks.py")
reference = load(DOCS / "reference.py")
offline = load(DOCS / "offline.py")
streams = load(DOCS / "streams.py")

# The site's reference in docs/reference/ is written when the site is built.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += [page for page in sorted(DOCS.rglob("*.md")) if page.parent != reference.FOLDER]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def all_blocks() -> list[Any]:
    """(page and line, block) of every block but the shown outputs and the cells of notebooks."""
    found = []
    for page in PAGES:
        for block in blocks.blocks(page.read_text(encoding="utf-8")):
            where = f"{name_of(page)}:{block.line}"
            found.append(pytest.param(where, block, id=where))
    return found


@pytest.mark.parametrize(("where", "block"), all_blocks())
def test_block_does_what_it_shows(where: str, block: Any) -> None:
    assert block.language in ("python", "sh"), f"{where}: a block in a language that no test runs"
    if block.wants:
        pytest.skip(f"wants {' and '.join(block.wants)}, for comparison only")
    if block.language == "python":
        assert blocks.printed(block, where) == block.shown
        return
    for line in block.code.splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["python3", "run.py"]:  # the set-up itself is what runs this test
            job, rest = load(ROOT / "run.py").route(words[2:])
            assert job in ("train", "book", "gradcheck", "test", "lint", "docs")
            words = ["minigrad", job, *rest] if job in ("train", "book", "gradcheck") else []
        if words[:1] == ["minigrad"]:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                assert cli.main(words[1:]) == 0
        elif words[:1] == ["python"]:
            assert (ROOT / words[1]).exists()
        else:
            assert words[:1] in ([], ["git"], ["uv"], ["pip"]), f"{where}: {line}"  # they want a network


def test_a_block_that_prints_something_else_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n")
    assert blocks.main([str(page)]) == 0
    page.write_text(page.read_text().replace("2\n", "3\n"))
    assert blocks.main([str(page)]) == 1
    assert capsys.readouterr().out == f"{page}:3: prints\n2\nand shows\n3\n\n"


def test_a_block_of_another_framework_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks.blocks("```python\nimport torch\n```\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert block.wants == ["torch"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert block.wants == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_cells_are_on_pages_that_the_build_of_the_site_runs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    cells = any(fence.group(2).startswith("{code-cell}") for fence in blocks.FENCE.finditer(text))
    assert cells == blocks.is_notebook(text)
    if cells:
        assert DOCS in page.parents
        assert not re.search(r"raises-exception|skip-execution|execution_mode", text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = blocks.FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("https://"):  # others' pages want a network
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("script", ["op_table", "reference"])
def test_a_page_of_names_is_what_the_package_declares(script: str) -> None:
    page = load(DOCS / f"{script}.py")
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), f"run python docs/{script}.py"


def test_every_public_name_is_documented() -> None:
    assert reference.flaws() == []


@pytest.mark.parametrize(
    ("doc", "flaw"),
    [
        (None, "no docstring"),
        ("out = x\n\nx: any shape.", "no example"),
        ("out = x,\nor so\n\n>>> 1\n1", "first line"),
        ("out = x\n\n>>> 1\n1", ""),
    ],
)
def test_a_name_that_is_not_documented_is_a_flaw(doc: str | None, flaw: str) -> None:
    def f(x: float) -> float:
        return x

    f.__doc__ = doc
    found = reference.flaw_of(f)
    assert flaw in found
    assert bool(found) == bool(flaw)


def test_every_public_name_has_one_place_in_the_reference() -> None:
    there = [thing for part in reference.PARTS for _, group in part.groups() for _, thing in group]
    modules = [minigrad, *{importlib.import_module(part.module) for part in reference.PARTS}]
    for module in modules:
        for name in module.__all__:
            thing = getattr(module, name)
            places = sum(thing is other for other in there)
            assert inspect.ismodule(thing) or places == 1, f"{module.__name__}.{name}"


def test_every_part_of_the_package_has_a_page_in_the_reference() -> None:
    assert {f"minigrad.{part}" for part in minigrad._PARTS} <= {part.module for part in reference.PARTS}


def test_the_reference_has_signature_docstring_and_methods() -> None:
    part = next(part for part in reference.PARTS if part.module == "minigrad.nn")
    text = reference.whole_page(part)
    assert "{py:class} Linear(in_features, out_features, bias=True, *, dtype=None, generator=None)\n" in text
    assert ">>> layer(np.ones((5, 3))).shape\n(5, 2)\n" in text
    assert "{py:method} Module.load_state_dict(state, strict=True)\n" in text


@pytest.mark.parametrize("module", [reference, offline, streams])
def test_examples_in_the_scripts_of_the_site(module: ModuleType) -> None:
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    "text",
    [
        '<script async src="https://a.org/x.js"></script>',
        '<link rel="stylesheet" type="text/css" href="//a.org/x.css" />',
        "<img alt='' src='http://a.org/x.png'>",
        '@import "https://a.org/x.css";',
        "src: url(https://a.org/x.woff2)",
        '<image href="https://a.org/x.png"/>',
    ],
)
def test_what_a_page_would_fetch_is_seen(text: str) -> None:
    assert len(offline.fetched(f"<p>{text}</p>")) == 1


@pytest.mark.parametrize("cut", range(1, 12))
def test_what_a_cell_printed_does_not_depend_on_where_the_kernel_cut_it(cut: int) -> None:
    said = "3.75 150.0\n  True"
    pieces = [{"output_type": "stream", "name": "stdout", "text": text} for text in (said[:cut], said[cut:])]
    assert streams.joined(pieces) == [{"output_type": "stream", "name": "stdout", "text": said}]
    assert pieces[0]["text"] == said[:cut]


def test_only_neighbouring_pieces_of_one_stream_are_joined() -> None:
    def said(text: str, name: str = "stdout") -> dict[str, str]:
        return {"output_type": "stream", "name": name, "text": text}

    picture = {"output_type": "display_data"}
    assert streams.joined([]) == []
    outputs = [said("a"), said("b", "stderr"), picture, picture, said("c"), said("d")]
    assert streams.joined(outputs) == [*outputs[:4], said("cd")]


def test_the_build_of_the_site_joins_what_a_cell_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("myst_nb.core.render", reason="wants what builds the site")
    monkeypatch.syspath_prepend(DOCS)
    pages = load(DOCS / "pages.py")
    pieces = [{"output_type": "stream", "name": "stdout", "text": text} for text in ("3.75", " 150.0", "\nTrue\n")]
    assert [output["text"] for output in pages.merge_streams(pieces)] == ["3.75 150.0\nTrue\n"]


def test_links_and_own_files_are_not_fetched() -> None:
    page = '<a href="https://a.org">a</a> <svg xmlns="http://www.w3.org/2000/svg"><use href="#b"/></svg>'
    assert offline.fetched(page + '<script src="_static/x.js"></script><img src="_images/x.png">') == []
