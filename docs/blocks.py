"""Runs the Python blocks of a page and compares what they print with what is shown below: python docs/blocks.py PAGE.

The tests and the build of the site both come here. A block that imports another framework is run where that is
installed, and left out elsewhere.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1$", re.M | re.S)
OTHERS = ("torch", "jax", "autograd", "tensorflow")


class Block(NamedTuple):
    """A block of code: the line where it begins, its language, the code, and what is shown below as its output."""

    line: int
    language: str
    code: str
    shown: str

    @property
    def wants(self) -> list[str]:
        """The other frameworks that it imports and that are not installed."""
        used = re.findall(r"^\s*(?:import|from) (\w+)", self.code, re.M)
        return [name for name in OTHERS if name in used and importlib.util.find_spec(name) is None]


def blocks(page: str) -> list[Block]:
    """The blocks of a page of Markdown, but for shown outputs and for directives, which the build runs itself."""
    found = []
    fences = list(FENCE.finditer(page))
    for i, fence in enumerate(fences):
        language = fence.group(2).strip()
        if language == "text" or language.startswith("{"):
            continue
        after = fences[i + 1] if i + 1 < len(fences) else None
        shown = after.group(3) if after and after.group(2).strip() == "text" else ""
        found.append(Block(page.count("\n", 0, fence.start()) + 1, language, fence.group(3), shown))
    return found


def printed(block: Block, where: str) -> str:
    """What a block of Python prints, run on its own in an empty folder, with warnings as errors."""
    out, before = io.StringIO(), Path.cwd()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(out):
        warnings.simplefilter("error")
        os.chdir(folder)
        try:
            exec(compile(block.code, where, "exec"), {"__name__": "__main__"})
        finally:
            os.chdir(before)
    return out.getvalue()


def repeatable() -> None:
    """Let hypothesis draw the same examples at each run, however long they take; the tests draw more of them."""
    if importlib.util.find_spec("hypothesis"):
        from hypothesis import settings

        settings.register_profile("pages", derandomize=True, deadline=None, max_examples=20)
        settings.load_profile("pages")


def is_notebook(page: str) -> bool:
    """Whether the build runs the page's code cells: its first lines say so."""
    head = re.match(r"---\n(.*?)^---$", page, re.M | re.S)
    return head is not None and "file_format: mystnb" in head.group(1) and "kernelspec:" in head.group(1)


def main(paths: list[str]) -> int:
    """Run the blocks of these pages; 1 if one of them prints something else than is shown."""
    wrong = 0
    for path in paths:
        for block in blocks(Path(path).read_text(encoding="utf-8")):
            where = f"{path}:{block.line}"
            if block.language != "python" or block.wants:
                print(f"{where}: not run {' '.join(block.wants)}")
            elif (now := printed(block, where)) != block.shown:
                wrong += 1
                print(f"{where}: prints\n{now}and shows\n{block.shown}")
    return min(wrong, 1)


if __name__ == "__main__":
    repeatable()
    sys.exit(main(sys.argv[1:]))
