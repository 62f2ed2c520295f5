"""README and docs: every block runs, and prints what is shown; the op table is what the ops declare."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path

import pytest

from minigrad import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks() -> list[tuple[str, str, str, str]]:
    """(page and line, language, text, what is shown after it) of every block but the shown outputs."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        matches = list(BLOCK.finditer(text))
        for i, match in enumerate(matches):
            after = matches[i + 1] if i + 1 < len(matches) else None
            shown = after.group(2) if after and after.group(1) == "text" else ""
            line = text.count("\n", 0, match.start()) + 1
            found.append((f"{page.name}:{line}", match.group(1), match.group(2), shown))
    return [block for block in found if block[1] != "text"]


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("where", "language", "text", "shown"), blocks(), ids=[block[0] for block in blocks()])
def test_block_does_what_it_shows(
    where: str, language: str, text: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert language in ("python", "sh"), f"{where}: a block in a language that no test runs"
    if language == "python":
        monkeypatch.chdir(tmp_path)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, where, "exec"), {"__name__": "__main__"})
        assert printed.getvalue() == shown
        return
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["python3", "run.py"]:  # the set-up itself is what runs this test
            job, rest = load(ROOT / "run.py").route(words[2:])
            assert job in ("train", "book", "gradcheck", "test", "lint")
            words = ["minigrad", job, *rest] if job in ("train", "book", "gradcheck") else []
        if words[:1] == ["minigrad"]:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                assert cli.main(words[1:]) == 0
        elif words[:1] == ["python"]:
            assert (ROOT / words[1]).exists()
        else:
            assert words[:1] in ([], ["git"], ["uv"], ["pip"]), f"{where}: {line}"  # they want a network


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("https://"):  # others' pages want a network
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("script", ["op_table", "reference"])
def test_a_page_of_names_is_what_the_package_declares(script: str) -> None:
    page = load(ROOT / "docs" / f"{script}.py")
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), f"run python docs/{script}.py"
