"""What the build of the site does beside what Sphinx and myst-nb do: run blocks, write the reference, link names, look.

In the order of a build: `begin` writes the reference, `run_blocks` runs the blocks of each page as it is read,
`merge_streams` puts together what a code cell printed, `KoreanAddresses` gives headings addresses, `LinkNames` makes
names in code links into the reference, `speak` says which pages are Korean, and `end` looks for addresses that a page
would fetch something from.
"""

from __future__ import annotations

import os
import re
from logging import getLogger
from pathlib import Path
from typing import Any, cast

import blocks
import offline
import reference
import streams
from docutils import nodes
from myst_nb.core import render
from myst_nb.core.render import coalesce_streams
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.search.en import SearchEnglish
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

logger = logging.getLogger(__name__)

# Modules whose names, where they stand alone, mean another module's.
SECOND = ("minigrad.unfused", "minigrad.book", "minigrad.testing.strategies")
HANGUL = re.compile("[가-힣]{3,}")


class SearchEnglishAndKorean(SearchEnglish):
    """English words by their stems; Korean ones by all their beginnings, since particles are written onto a word."""

    lang = "en-ko"
    language_name = "English"  # a name in the script that the browser runs: English's stemmer

    def split(self, input: str) -> list[str]:
        """The words of a text: 그래프를 is found as 그래프를, 그래프 and 그래."""
        words = super().split(input)
        return words + [word[:n] for word in words if HANGUL.fullmatch(word) for n in range(2, len(word))]


class KoreanAddresses(SphinxTransform):
    """Gives a Korean heading its own words as its address; docutils, which reads Latin letters alone, counts: #id7."""

    default_priority = 710  # after MyST has added the words, behind the count

    def apply(self, **kwargs: Any) -> None:
        """Put the words before the count, which stays an address too."""
        for section in self.document.findall(nodes.section):
            ids = section["ids"]
            if len(ids) > 1 and re.fullmatch(r"id\d+", ids[0]):
                ids.insert(0, ids.pop())


class LinkNames(SphinxPostTransform):
    """Makes `nn.Linear` or `check_layer`, where it stands in a text as code, a link into the reference."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Link every name on the page for which there is exactly one entry in the reference."""
        domain = self.env.domains.python_domain
        short: dict[str, list[str]] = {}
        for full, entry in domain.objects.items():
            module, _, name = full.rpartition(".")
            if entry.objtype in ("function", "class", "exception", "data") and module not in SECOND:
                short.setdefault(name, []).append(full)
        for literal in list(self.document.findall(nodes.literal)):
            name = re.sub(r"^(mg|minigrad)\.|\(\)$", "", literal.astext())
            found = [f"minigrad.{name}"] if "." in literal.astext() else short.get(name, [])
            entry = domain.objects.get(found[0]) if len(found) == 1 else None
            if entry is None or entry.docname == self.env.docname or self.inside_a_link(literal):
                continue
            code = literal.deepcopy()
            link = make_refnode(self.app.builder, self.env.docname, entry.docname, entry.node_id, code, found[0])
            literal.replace_self(link)

    def inside_a_link(self, node: nodes.Node) -> bool:
        """Whether it is part of a link or of a heading."""
        while node.parent is not None:
            node = node.parent
            if isinstance(node, (nodes.reference, nodes.title)):
                return True
        return False


def begin(app: Sphinx) -> None:
    """Write the reference; a public name that is not documented is a warning, and so an error."""
    # Code cells run with no IPython settings of whoever builds, and the kernel says only what is an error.
    profile = Path(app.doctreedir, "ipython", "profile_default")
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(
        'get_config().IPKernelApp.log_level = "ERROR"\n', encoding="utf-8"
    )
    os.environ["IPYTHONDIR"] = str(profile.parent)
    getLogger("traitlets").setLevel("WARNING")
    for flaw in reference.flaws():
        logger.warning("%s", flaw)
    reference.write()
    blocks.repeatable()


def merge_streams(outputs: list[Any]) -> list[Any]:
    """What a cell printed as one output, whatever pieces the kernel sent it in.

    coalesce_streams alone ends every piece with a new line, so that a page would depend on when the kernel sent one.
    """
    return coalesce_streams(streams.joined(outputs))


def run_blocks(app: Sphinx, docname: str, content: list[str]) -> None:
    """Run the Python blocks of a page that is read; a difference from what it shows is a warning, and so an error."""
    if docname == "reference":
        content[0] = reference.page(linked=True)
    if docname.startswith("reference"):  # pytest runs the examples of docstrings
        return
    for block in blocks.blocks(content[0]):
        if block.language != "python" or block.wants:
            continue
        try:
            shown = blocks.printed(block, f"{docname}:{block.line}")
        except Exception as error:
            logger.warning("a block raises %r", error, location=(docname, block.line))
            continue
        if shown != block.shown:
            logger.warning("a block prints\n%sand shows\n%s", shown, block.shown, location=(docname, block.line))


def speak(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document) -> None:
    """Say in which language a page is, for voices, hyphens and fonts; and lead on to a page in the same language."""
    korean = pagename.startswith("ko/")
    context["language"] = "ko" if korean else "en"
    builder = cast(StandaloneHTMLBuilder, app.builder)
    for place, key in ((1, "prev"), (2, "next")):
        other: Any = pagename
        while other and (other == pagename or other.startswith("ko/") != korean):
            other = builder.relations.get(other, [None] * 3)[place]
        title = other and builder.render_partial(app.env.titles[other])["title"]
        context[key] = other and {"link": builder.get_relative_uri(pagename, other), "title": title}


def end(app: Sphinx, exception: Exception | None) -> None:
    """Look whether the site needs nothing but its own files."""
    if exception is not None or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css", ".svg"):
            for tag in offline.fetched(path.read_text(encoding="utf-8")):
                logger.warning("%s would fetch something: %s", os.path.relpath(path, app.outdir), tag)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx what to call, and when."""
    render.coalesce_streams = merge_streams
    app.add_search_language(SearchEnglishAndKorean)
    app.add_transform(KoreanAddresses)
    app.add_post_transform(LinkNames)
    app.connect("builder-inited", begin)
    app.connect("source-read", run_blocks)
    app.connect("html-page-context", speak)
    app.connect("build-finished", end, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
