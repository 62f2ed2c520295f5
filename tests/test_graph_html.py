"""The page that steps through a graph: its text, and what it does in a real browser, where there is one."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import sys
import types
import webbrowser
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import Any

import chromium
import numpy as np
import pytest
from chromium import Chromium, Page

import minigrad as mg
from minigrad import graph
from minigrad.errors import ArgumentError, CheckpointError, DTypeError, GraphError, MinigradError
from minigrad.graph.html import show, to_html
from minigrad.graph.steps import Narrator, Step
from minigrad.graph.words_page import WORDS

needs_browser = pytest.mark.skipif(bool(chromium.missing()), reason=chromium.missing() or "a browser is there")


def leaf(value: Any, name: str) -> mg.Tensor:
    return mg.Tensor(value, requires_grad=True, name=name)


def sigmoid() -> graph.Graph:
    x = leaf(5.0, "x")
    return graph.trace(1 / (1 + mg.exp(-x)))


def shop() -> graph.Graph:
    prices = {"apple": 100.0, "apple_num": 2.0, "orange": 150.0, "orange_num": 3.0, "tax": 1.1}
    apple, apple_num, orange, orange_num, tax = (leaf(value, name) for name, value in prices.items())
    return graph.trace((apple * apple_num + orange * orange_num) * tax)


def twice() -> graph.Graph:
    x = leaf(3.0, "x")
    return graph.trace(x * x + mg.exp(x))


def arrays() -> graph.Graph:
    x, w, b = leaf([[1.0, -2.0, 0.5]], "x"), leaf(np.arange(6.0).reshape(3, 2) / 7, "W"), leaf([0.25, -1.0], "b")
    return graph.trace(mg.sum(mg.exp(x @ w + b)))


def deep(ops: int) -> mg.Tensor:
    y = leaf(0.5, "x")
    for _ in range(ops):
        y = mg.sin(y)
    return y


def long(ops: int) -> graph.Graph:
    return graph.trace(deep(ops))


GRAPHS = [sigmoid, shop, twice, arrays]

HOSTILE = [
    "</script><script>hacked=1</script>",
    '"><img src=x onerror="hacked=1">',
    "' onmouseover='hacked=1",
    "<!--<script>hacked=1//",
    "]]><svg onload=hacked=1>",
    "{{js}}{{title}}",
    "javascript:hacked=1//&lt;script&gt;",
    "a\u2028\u2029hacked=1\x00\x1b[31m\n</title><script>hacked=1</script>",  # the output's: in the title
]


def steps(g: graph.Graph, lang: str = "en") -> list[Step]:
    return Narrator(g, lang).steps()


def hostile() -> graph.Graph:
    leaves = [leaf(2.0, name) for name in HOSTILE]
    total = leaves[0]
    names: dict[str, mg.Tensor] = {}
    for factor in leaves[1:]:
        total = total * factor
        names[f"{factor.name} "] = total
    return graph.trace(total, names)


class Elements(HTMLParser):
    """Every element of a page, with its attributes and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"title": [], "script": [], "style": []}
        self.open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.open = tag

    def handle_data(self, data: str) -> None:
        if self.open in self.texts:
            self.texts[self.open].append(data)

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


# The text of the page, which needs no browser


@pytest.mark.parametrize("lang", ["en", "ko"])
@pytest.mark.parametrize("make", [*GRAPHS, hostile])
def test_one_file_without_network(make: Callable[[], graph.Graph], lang: str) -> None:
    elements = Elements(to_html(make(), lang=lang))
    for tag, attributes in elements.found:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form"), tag
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action")]
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#") or (tag, attributes["href"]) == ("link", "data:,")
    assert len(elements.all("script")) == 1
    assert "url(" not in "".join(elements.texts["style"])
    assert "@import" not in "".join(elements.texts["style"])
    assert elements.all("html") == [{"lang": lang}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in elements.all("meta")
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_policy_allows_its_own_script_and_nothing_else() -> None:
    elements = Elements(to_html(shop()))
    (script,) = elements.texts["script"]
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [m["content"] for m in elements.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in str(policy).split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{hashed}'"


@pytest.mark.parametrize("make", GRAPHS)
def test_every_step_is_there_with_its_sentence(make: Callable[[], graph.Graph]) -> None:
    g = make()
    for lang in ("en", "ko"):
        page = to_html(g, lang=lang)
        told = steps(g, lang)
        items = page.split("<li ")[1:]
        assert len(items) == len(told) + 2  # and the beginning and the end
        for step, item in zip(told, items[1:-1], strict=True):
            text = html.unescape(re.sub("<[^>]*>", "", item))
            assert f'data-direction="{step.direction}"' in item
            assert f'data-node="{step.node}"' in item
            assert step.title in text
            assert step.sentence in text


def test_names_are_text() -> None:
    page = to_html(hostile())
    assert page.count("<script") == page.count("</script") == 1
    assert not any((ord(c) < 32 and c != "\n") or c in "\u2028\u2029" for c in page)
    for name in HOSTILE[:4]:
        assert name not in page
        assert html.escape(name).replace("&#x27;", "&#39;") in page
    assert page.count('"use strict"') == 1  # {{js}} in a name is not filled in


def test_languages_say_the_same() -> None:
    for key, (english, korean) in WORDS.items():
        fields = [sorted(name for _, name, _, _ in Formatter().parse(text) if name) for text in (english, korean)]
        assert fields[0] == fields[1], key
        assert re.search("[가-힣]", korean), key
        assert not re.search("[가-힣]", english), key


def test_every_button_has_a_name() -> None:
    page = to_html(shop(), lang="ko")
    buttons = re.findall(r"<button ([^>]*)>(.*?)</button>", page, re.S)
    assert len(buttons) == 9
    for attributes, inside in buttons:
        name = re.search('title="(.*?)"', attributes)
        assert re.search("[가-힣]", name[1] if name else re.sub("<.*?>", "", inside))


def brightness(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    low, high = sorted([brightness(a), brightness(b)])
    return (high + 0.05) / (low + 0.05)


def test_contrast_in_light_and_dark() -> None:
    roots = re.findall(r":root \{(.*?)\}", to_html(shop()), re.S)
    assert len(roots) == 2
    for root in roots:
        c = dict(re.findall(r"--([\w-]+): (#\w{6})", root))
        for ground in ("paper", "panel"):
            for text in ("ink", "soft", "forward", "backward"):
                assert contrast(c[text], c[ground]) >= 4.5, (text, ground)
            assert contrast(c["line"], c[ground]) >= 3, ground
        assert contrast(c["on-main"], c["forward"]) >= 4.5


# Bad input, files, and where it is shown


def released() -> mg.Tensor:
    y = mg.exp(leaf(1.0, "x"))
    y.backward()
    return y


BAD: list[tuple[Callable[[], Any], type[MinigradError], str]] = [
    (lambda: to_html(mg.Tensor(1.0)), GraphError, "no graph"),
    (lambda: to_html(released()), GraphError, "released"),
    (lambda: to_html(1.0), DTypeError, "graph.to_html: float 1.0"),
    (
        lambda: to_html(shop(), path="/no/such/graph.html"),
        CheckpointError,
        "graph.to_html: path: '/no/such/graph.html'",
    ),
    (lambda: to_html(shop(), lang="de"), ArgumentError, "'de'"),
    (lambda: to_html(shop(), path=7), DTypeError, "int 7"),
    (lambda: to_html(shop(), path="graph.svg"), ArgumentError, 'path="graph.html"'),
    (lambda: to_html(long(2001)), ArgumentError, "a graph of 2,002 nodes"),
    (lambda: to_html(deep(100_000)), ArgumentError, "a graph of 100,001 nodes"),
    (lambda: show(shop(), lang="de"), ArgumentError, "graph.show: lang: 'de'"),
    (lambda: show(1.0), DTypeError, "graph.show: float 1.0"),
    (lambda: show(mg.Tensor(1.0)), GraphError, "graph.show: "),
    (lambda: show(long(2001)), ArgumentError, "graph.show: a graph of 2,002 nodes"),
]


@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_bad_input(call: Callable[[], Any], error: type[MinigradError], text: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)
    assert all((caught.value.function, caught.value.got, caught.value.expected, caught.value.fix))


def test_file_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "graph.html"
    page = to_html(shop(), path)
    assert path.read_text(encoding="utf-8") == page
    with pytest.raises(CheckpointError, match="directory does not exist"):
        to_html(shop(), tmp_path / "none" / "graph.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(CheckpointError, match="there is a directory"):
        to_html(shop(), tmp_path / "folder.html")

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(CheckpointError, match="disk is full"):
        to_html(sigmoid(), path)
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.html", "graph.html"]


def test_show_opens_a_browser(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def opens(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", opens)
    monkeypatch.setenv("DISPLAY", ":0")
    g = shop()
    path = show(g)
    assert path is not None
    assert Path(path).read_text(encoding="utf-8") == to_html(g)
    assert opened == [Path(path).as_uri()]
    assert capsys.readouterr().out == f"The page is in {path}.\n"


def test_show_without_a_screen(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(webbrowser, "open", lambda address: pytest.fail("it opened a browser"))
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    path = show(shop())
    assert path is not None
    assert Path(path).exists()
    assert f"{path}. No browser can be opened from here" in capsys.readouterr().out
    show(shop(), "ko")
    assert "브라우저를 열 수 없으니" in capsys.readouterr().out


def test_show_in_a_notebook(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    shown: list[Any] = []
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=1)  # type: ignore[attr-defined]  # a stand-in
    ipython.display = types.ModuleType("IPython.display")  # type: ignore[attr-defined]  # likewise
    ipython.display.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    g = hostile()
    assert show(g) is None
    (frame,) = shown
    ((tag, attributes),) = Elements(frame._repr_html_()).found
    assert tag == "iframe"
    assert attributes["sandbox"] == "allow-scripts"
    assert attributes["srcdoc"] == to_html(g)
    assert capsys.readouterr().out == ""


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    try:
        started = Chromium()
    except RuntimeError as error:  # a stub, as Ubuntu has where snap is missing
        pytest.skip(str(error))
    with started:
        yield started


Opens = Callable[..., Page]


@pytest.fixture
def opens(browser: Chromium, tmp_path: Path) -> Iterator[Opens]:
    pages: list[Page] = []

    def opened(g: graph.Graph, lang: str = "en", fragment: str = "", **options: Any) -> Page:
        path = tmp_path / f"{len(pages)}.html"
        to_html(g, path, lang)
        page = browser.page(**options)
        pages.append(page)
        page.open(path.as_uri() + fragment)
        return page

    yield opened
    for page in pages:
        assert page.messages == []
        assert page.requests == []
        assert page.dialogs == []
        page.close()


SEEN = """({
  title: title.textContent, sentence: sentence.textContent, place: place.textContent, slider: slider.value,
  numbers: [...numbers.querySelectorAll("data")].map((n) => n.value || n.textContent),
  lit: [...document.querySelectorAll(".lit")].map((g) => g.dataset.node || g.dataset.edge),
  labels: [...picture.querySelectorAll(".edge")].map((g) => [g.dataset.edge,
    [...g.querySelectorAll("text.value")].filter((t) => getComputedStyle(t).visibility === "visible").length > 0,
    [...g.querySelectorAll("text.gradient")].filter((t) => getComputedStyle(t).visibility === "visible").length > 0,
  ]),
})"""


def seen(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(SEEN)
    return found


def walked(page: Page, forward: Callable[[], None]) -> list[dict[str, Any]]:
    """What is seen at each step, up to the last."""
    found = [seen(page)]
    for _ in range(page.evaluate("steps.length") - 1):
        forward()
        found.append(seen(page))
    return found


def expected(g: graph.Graph) -> list[list[float]]:
    """The numbers of each step, computed here: inputs and output forward; upstream, local, downstream backward."""

    def number(a: Any) -> float:
        return float(a)

    found = [[number(n.value) for n in g.nodes if n.kind == "leaf"]]
    found += [[number(g.nodes[i].value) for i in (*n.inputs, n.number)] for n in g.nodes if n.kind == "op"]
    for i in g.order:
        node, row = g.nodes[i], []
        for edge in g.edges:
            if edge.target == i and edge.gradient is not None:
                upstream, downstream = number(node.gradient), number(edge.gradient)
                row += [upstream, downstream / upstream, downstream]
        found.append(row)
    return [*found, [number(a) for n in g.nodes if n.kind == "leaf" for a in (n.value, n.gradient)]]


@needs_browser
@pytest.mark.parametrize("make", [sigmoid, shop, twice])
def test_numbers_step_by_step(make: Callable[[], graph.Graph], opens: Opens) -> None:
    g = make()
    page = opens(g)
    at = walked(page, lambda: page.press("ArrowRight"))
    assert len(at) == 2 * len(g.order) + 2
    for k, (step, numbers) in enumerate(zip(at, expected(g), strict=True)):
        assert [float(n) for n in step["numbers"]] == pytest.approx(numbers, rel=1e-12), step["title"]
        assert step["slider"] == str(k)
    for told, step in zip(steps(g), at[1:-1], strict=True):
        assert (step["title"], step["sentence"]) == (told.title, told.sentence)
        assert str(told.node) in step["lit"]
        assert {str(e) for e in told.edges if g.nodes[g.edges[e].source].value != 1} <= {*step["lit"]}


@needs_browser
def test_apple_shop_has_the_books_numbers(opens: Opens) -> None:
    page = opens(shop())
    at = walked(page, lambda: page.click("#next"))
    numbers = [[float(n) for n in step["numbers"]] for step in at]
    assert [row[-1] for row in numbers[1:5]] == pytest.approx([200, 450, 650, 715])
    assert numbers[5] == pytest.approx([1, 1.1, 1.1, 1, 650, 650])
    assert numbers[-1] == pytest.approx([100, 2.2, 2, 110, 150, 3.3, 3, 165, 1.1, 650])


@needs_browser
@pytest.mark.parametrize("make", [shop, arrays])
def test_back_again(make: Callable[[], graph.Graph], opens: Opens) -> None:
    page = opens(make())
    there = walked(page, lambda: page.press(" "))
    back = walked_back = [seen(page)]
    for _ in there[1:]:
        page.press("ArrowLeft")
        walked_back.append(seen(page))
    assert back[::-1] == there
    page.press("ArrowLeft")
    assert seen(page) == there[0]
    page.press("End")
    assert seen(page) == there[-1]
    page.press("Home")
    assert seen(page) == there[0]


@needs_browser
@pytest.mark.parametrize("make", GRAPHS)
def test_the_picture_fills_step_by_step(make: Callable[[], graph.Graph], opens: Opens) -> None:
    """A value stands at an edge from the step of its source on, a gradient from the step of its target on."""
    g = make()
    page = opens(g)
    at = walked(page, lambda: page.press("ArrowRight"))
    ops = [node.number for node in g.nodes if node.kind == "op"]
    when_value = {n: k for k, n in enumerate(ops, 1)}
    when_gradient = {n: k for k, n in enumerate(g.order, len(ops) + 1)}
    for k, step in enumerate(at):
        for edge, value, gradient in step["labels"]:
            source = g.output if edge == "output" else g.edges[int(edge)].source
            target = g.output if edge == "output" else g.edges[int(edge)].target
            flows = edge == "output" or g.edges[int(edge)].gradient is not None
            named = g.nodes[source].kind == "op" or bool(g.nodes[source].name)  # else the value is its name
            assert value == (named and k >= when_value.get(source, 0)), (k, edge)
            assert gradient == (flows and k >= when_gradient[target]), (k, edge)
    page.press("Home")
    page.click("#all")
    assert all(value or gradient or True for _, value, gradient in seen(page)["labels"])
    assert seen(page)["labels"] == at[-1]["labels"]
    page.click("#all")
    assert seen(page)["labels"] == at[0]["labels"]


@needs_browser
def test_buttons_slider_nodes_and_links(opens: Opens) -> None:
    page = opens(shop(), fragment="#3", reduced_motion=True)
    assert page.text("#place") == "Step 3 of 9"
    for button, place in [("#next", "4"), ("#last", "9"), ("#next", "9"), ("#back", "8"), ("#first", "Beginning")]:
        page.click(button)
        assert place in page.text("#place")
    page.evaluate("slider.focus()")
    page.press("ArrowRight")
    assert page.text("#place") == "Step 1 of 9"
    page.press("End")
    page.press(" ")
    assert page.text("#place") == "Step 9 of 9"
    page.click("#back")
    page.click('g[data-node="7"] circle')  # the addition
    assert page.text("#title").startswith("Backward 2 of 4: node 7")
    page.press("Home")
    page.click('g[data-node="7"] circle')
    assert page.text("#title").startswith("Forward 3 of 4: node 7")
    page.evaluate("new Promise((done) => { addEventListener('hashchange', done); location.hash = '#8'; })")
    assert page.text("#place") == "Step 8 of 9"
    page.click("summary")
    page.click("#step-2 a")
    assert page.text("#place") == "Step 2 of 9"
    assert page.evaluate("[document.activeElement.id, scrollY]") == ["next", 0]


@needs_browser
def test_play_goes_to_the_end_and_stops(opens: Opens) -> None:
    page = opens(twice())
    page.evaluate("setInterval = (tick) => { window.tick = tick; return 1; }")
    page.click("#play")
    assert page.evaluate("play.getAttribute('aria-pressed')") == "true"
    for k in range(1, page.evaluate("steps.length")):
        page.evaluate("tick()")
        assert seen(page)["slider"] == str(k)
    assert page.evaluate("play.getAttribute('aria-pressed')") == "false"
    page.click("#play")
    assert (seen(page)["slider"], page.evaluate("play.getAttribute('aria-pressed')")) == ("0", "true")
    page.press("ArrowRight")  # a step by hand stops it
    assert page.evaluate("play.getAttribute('aria-pressed')") == "false"


@needs_browser
def test_keyboard_alone(opens: Opens) -> None:
    page = opens(shop())
    order = []
    for _ in range(12):
        page.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.localName"))
        style = page.evaluate(
            "(() => { const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]; })()"
        )
        assert style == ["solid", "3px"] or order[-1] == "body"
    assert order[:11] == ["all", "out", "fit", "in", "picture", "play", "slider", "first", "back", "next", "last"]
    assert order[11] == "summary"
    page.evaluate("document.getElementById('next').focus()")
    for k in range(1, 11):  # the focus stays on the button, also at the end
        page.press(" " if k % 2 else "Enter")
        assert page.evaluate("document.activeElement.id") == "next"
        assert seen(page)["slider"] == str(min(k, 9))
    assert page.evaluate("document.activeElement.getAttribute('aria-disabled')") == "true"
    page.evaluate("document.getElementById('back').focus()")
    page.press(" ")  # what it does to a button, and not the next step
    assert seen(page)["slider"] == "8"


@needs_browser
def test_screen_reader(opens: Opens) -> None:
    page = opens(shop())
    page.press("ArrowRight")
    tree = page.accessibility()
    named: dict[str, list[str]] = {}
    for node in tree:
        named.setdefault(node["role"], []).append(node["name"])
    assert len(named["button"]) == 9
    assert all(named["button"])
    assert len(set(named["button"])) == 9
    assert named["slider"] == ["Step"]
    assert page.evaluate("slider.getAttribute('aria-valuetext')") == "Step 1 of 9"
    assert named["image"] == [WORDS["picture"][0].format(n=9)]
    assert named["heading"][:2] == ["Step by step: multiply (×)", steps(shop())[0].title]
    assert named["main"] == [""]
    live = [node for node in tree if node.get("live") == "polite"]
    assert {node["role"] for node in live} >= {"heading", "paragraph"}
    assert not [node for node in tree if node.get("focusable") and not node["name"] and node["role"] != "main"]
    assert (
        page.evaluate("document.querySelector('[aria-live=polite]#sentence').textContent") == steps(shop())[0].sentence
    )


@needs_browser
def test_korean(opens: Opens) -> None:
    g = shop()
    page = opens(g, "ko")
    assert page.evaluate("document.documentElement.lang") == "ko"
    at = walked(page, lambda: page.press("ArrowRight"))
    for told, step in zip(steps(g, "ko"), at[1:-1], strict=True):
        assert (step["title"], step["sentence"]) == (told.title, told.sentence)
    ours = [node for node in page.accessibility() if node["role"] in ("button", "slider", "image", "region", "group")]
    assert len(ours) > 12
    unnamed = [node["role"] for node in ours if not re.search("[가-힣]", node["name"])]
    assert unnamed == ["group"]  # the <details>, whose summary has the name
    shown = page.evaluate("document.body.innerText").replace(page.text("#picture"), "")
    assert not set(re.findall("[A-Za-z]{2,}", shown)) - {"dout", "out", "Home", "End", "multiply", *names(g)}


def names(g: graph.Graph) -> set[str]:
    whole = {node.name for node in g.nodes if node.name}
    return whole | {part for name in whole for part in name.split("_")}


@needs_browser
@pytest.mark.parametrize(("make", "lang"), [(arrays, "en"), (hostile, "en"), (shop, "ko")])
def test_phone(make: Callable[[], graph.Graph], lang: str, opens: Opens) -> None:
    page = opens(make(), lang, width=360, height=640, phone=True)
    for _ in range(page.evaluate("steps.length")):
        assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
        controls = page.evaluate("document.getElementById('controls').getBoundingClientRect().bottom")
        assert controls == pytest.approx(640, abs=1)  # always at the same place, under the thumb
        page.press("ArrowRight")
    small = page.evaluate(
        "[...document.querySelectorAll('button, input, summary')].filter((e) => { const r = e.getBoundingClientRect();"
        "return r.width < 44 || r.height < 44; }).map((e) => e.id)"
    )
    assert small == []
    page.evaluate("list.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@needs_browser
def test_picture_scrolls_and_zooms(opens: Opens) -> None:
    page = opens(long(30), width=360, height=640, phone=True, reduced_motion=True)
    assert page.evaluate("[picture.scrollWidth > 2 * innerWidth, picture.scrollLeft]") == [True, 0]
    inside = (
        "(() => { const n = document.querySelector('.lit.node').getBoundingClientRect(),"
        " f = picture.getBoundingClientRect(); return n.left >= f.left && n.right <= f.right; })()"
    )
    for _ in range(30):
        page.press("ArrowRight")
        assert page.evaluate(inside)
    width = page.evaluate("drawing.getBoundingClientRect().width")
    page.click("#in")
    assert page.evaluate("drawing.getBoundingClientRect().width") == pytest.approx(1.25 * width, rel=1e-3)
    assert page.evaluate(inside)
    page.click("#out")
    assert page.evaluate("drawing.getBoundingClientRect().width") == pytest.approx(width, rel=1e-3)
    page.click("#fit")
    assert page.evaluate("picture.scrollWidth - picture.clientWidth") == 0


@needs_browser
def test_reduced_motion(opens: Opens) -> None:
    durations = "[...picture.querySelectorAll('.node *')].map((e) => getComputedStyle(e).transitionDuration)"
    assert set(opens(shop(), reduced_motion=True).evaluate(durations)) == {"0s"}
    page = opens(long(60), reduced_motion=True)
    page.evaluate("picture.scrollBy = (options) => { window.asked = options.behavior; }")
    page.press("ArrowRight")
    assert page.evaluate("asked") == "instant"


@needs_browser
def test_dark(opens: Opens) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    colours = "[...picture.querySelectorAll('text')].map((t) => getComputedStyle(t).fill)"
    light, dark = opens(shop()), opens(shop(), dark=True)
    assert light.evaluate(ground) == "rgb(255, 255, 255)"
    assert dark.evaluate(ground) == "rgb(20, 23, 28)"
    for page, paper in ((light, "#ffffff"), (dark, "#14171c")):
        for colour in set(page.evaluate(colours)):
            assert contrast(as_hex(colour), paper) >= 4.5, colour


def as_hex(colour: str) -> str:
    """rgb(27, 31, 36) and color(srgb 0.1 0.2 0.3) as #1b1f24."""
    parts = [float(p) for p in re.findall(r"[\d.]+", colour)]
    scale = 255 if colour.startswith("color") else 1
    return "#" + "".join(f"{round(p * scale):02x}" for p in parts[:3])


@needs_browser
def test_injection(opens: Opens) -> None:
    page = opens(hostile())
    at = walked(page, lambda: page.press("ArrowRight"))
    page.click("summary")
    assert page.evaluate("[document.scripts.length, typeof hacked, document.images.length]") == [1, "undefined", 0]
    assert not page.evaluate(
        "[...document.querySelectorAll('*')].some((e) => [...e.attributes].some((a) => a.name.startsWith('on')))"
    )
    assert any(HOSTILE[1] in step["sentence"] for step in at)  # it is there, as text


@needs_browser
def test_policy_stops_any_other_script(browser: Chromium, tmp_path: Path) -> None:
    page = browser.page()
    to_html(shop(), tmp_path / "graph.html")
    page.open(tmp_path / "graph.html")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=hacked=1>')")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), { text: 'hacked=1' }))")
    page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 0)")
    assert page.evaluate("typeof hacked") == "undefined"
    assert sum("Content Security Policy" in message for message in page.messages) >= 2
    page.close()


@needs_browser
def test_in_a_frame(browser: Chromium, tmp_path: Path) -> None:
    """As in a notebook: the page runs, and reaches nothing around it."""
    from minigrad.graph.html import _Frame

    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><title>n</title>{_Frame(to_html(twice()))._repr_html_()}", encoding="utf-8")
    page = browser.page()
    page.open(path)
    frame = page.frame()
    for _ in range(3):
        frame.evaluate("document.getElementById('next').click()")
    assert frame.text("#place") == "Step 3 of 7"
    around = "(() => { try { return parent.document.title; } catch (error) { return error.name; } })()"
    assert frame.evaluate(around) == "SecurityError"
    assert page.evaluate("[document.scripts.length, document.body.dataset.direction]") == [0, None]
    assert page.messages == frame.messages == []
    page.close()


@needs_browser
def test_without_script(browser: Chromium, tmp_path: Path) -> None:
    to_html(shop(), tmp_path / "graph.html")
    page = browser.page()
    page.send("Emulation.setScriptExecutionDisabled", {"value": True})
    page.open(tmp_path / "graph.html")
    shown = page.evaluate("document.body.innerText")
    for step in steps(shop()):
        assert step.sentence in shown
    assert "Without JavaScript" in shown
    assert "Next" not in shown
    page.close()


@needs_browser
def test_many_nodes(opens: Opens) -> None:
    page = opens(long(398), fragment="#200")
    assert page.text("#title").startswith("Forward 200 of ")
    assert page.evaluate("picture.querySelectorAll('.node.op').length") == 398
    page.press("ArrowRight")
    assert page.evaluate("document.querySelector('.lit.node').dataset.node") == "201"
    folded = opens(long(600), fragment="#300")
    assert folded.text("#title").startswith("Forward 300 of 600")
    assert folded.evaluate("document.querySelector('.lit.node').classList.contains('fold')")
    folded.press("End")
    folded.press("ArrowLeft")
    assert folded.text("#title").startswith("Backward 600 of 600")


@needs_browser
def test_browser_leaves_nothing(browser: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Chromium() as started:
        assert started.page().evaluate("1 + 1") == 2
        group = started._pid
    assert list(tmp_path.iterdir()) == []
    living = [p for p in Path("/proc").glob("[0-9]*/stat") if _group(p) == group] if Path("/proc").exists() else []
    assert living == []


def _group(stat: Path) -> int:
    """The process group of a process that lives; -1 of one that has ended."""
    try:
        state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return -1
    return -1 if state in "ZX" else int(group)
