"""Pictures of graphs: what they show, what they escape, how they fold, and docs/figures as they are committed."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import graph, nn
from minigrad.errors import ArgumentError, CheckpointError, DTypeError, GradientError, GraphError
from minigrad.graph import Edge, Graph, GraphNode
from minigrad.graph.shapes import lines
from minigrad.graph.svg import width

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
SVG = "{http://www.w3.org/2000/svg}"


def leaf(value: Any, name: str | None = "x") -> mg.Tensor:
    return mg.Tensor(value, requires_grad=True, name=name)


def tree(picture: graph.Picture) -> ET.Element:
    return ET.fromstring(picture.svg)


def texts(picture: graph.Picture, kind: str = "") -> list[str]:
    """What is written in a picture, in elements of this class."""
    return [
        t.text or "" for t in tree(picture).iter(f"{SVG}text") if kind in (t.get("class") or "").split() or not kind
    ]


def groups(picture: graph.Picture, kind: str) -> list[ET.Element]:
    return [g for g in tree(picture).iter(f"{SVG}g") if kind in (g.get("class") or "").split()]


def script() -> Any:
    spec = spec_from_file_location("figures", FOLDER / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FIGURES = script().FIGURES


# docs/figures


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_as_committed(name: str) -> None:
    assert FIGURES[name]().svg == (FOLDER / f"{name}.svg").read_text(encoding="utf-8")


def test_every_committed_figure_has_a_script() -> None:
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(FIGURES)


def test_sigmoid_has_the_numbers_of_the_book() -> None:
    y = 1 / (1 + np.exp(-5.0))
    picture = FIGURES["sigmoid"]()
    assert texts(picture, "symbol") == ["×", "exp", "+", "/"]
    assert texts(picture, "name") == ["x", "−1", "1"]
    assert texts(picture, "value") == ["5", "−5", "0.0067379", "1.0067", "0.99331"]
    # The book's steps back: 1, -y**2, -y**2, -y**2 exp(-x), y**2 exp(-x) = y (1 - y).
    back = [1.0, -(y**2), -(y**2), -(y**2) * np.exp(-5.0), y * (1 - y)]
    assert sorted(texts(picture, "gradient")) == sorted(f"{g:.5g}".replace("-", "−") for g in back)
    assert not texts(FIGURES["sigmoid_forward"](), "gradient")


def test_the_apple_shop_has_the_numbers_of_the_book() -> None:
    picture = FIGURES["apple_shop"]()
    assert sorted(texts(picture, "value")) == sorted(["2", "100", "3", "150", "200", "450", "650", "1.1", "715"])
    assert sorted(texts(picture, "gradient")) == sorted(["110", "2.2", "165", "3.3", "1.1", "1.1", "1.1", "650", "1"])


def test_softmax_with_loss_has_the_numbers_of_the_book() -> None:
    picture = FIGURES["softmax_with_loss"]()
    values, back = texts(picture, "value"), texts(picture, "gradient")
    assert {"S = 10", "1/S = 0.1", "y1 = 0.3", "y2 = 0.2", "y3 = 0.5", "1.6094"} <= set(values)
    assert {"0.3", "−0.8", "0.5"} <= set(back)  # y - t
    simplified = FIGURES["softmax_with_loss_simplified"]()
    assert texts(simplified, "gradient").count("[0.3, −0.8, 0.5]") == 2
    assert simplified.title.endswith("values and gradients agree")


def test_two_layers_folded() -> None:
    picture = FIGURES["two_layer_net_folded"]()
    assert texts(picture, "symbol") == ["0: Linear", "1: Sigmoid", "2: Linear", "softmax-with-loss"]
    assert {"20 parameters", "12 parameters"} <= set(texts(picture, "small"))
    assert len(texts(FIGURES["two_layer_net"](), "symbol")) == 6


# What is shown


def test_without_values_or_gradients() -> None:
    y = mg.exp(leaf(2.0)) * 3
    assert texts(graph.draw(y, values=False), "value") == []
    assert texts(graph.draw(y, values=False), "gradient")
    assert texts(graph.draw(y, gradients=False), "gradient") == []
    assert "backward" not in graph.draw(y, gradients=False).svg.split("</style>")[1]


def test_two_arguments_that_are_one_tensor_have_two_arrows_and_a_sum() -> None:
    x = leaf(3.0)
    picture = graph.draw(x * x)
    assert len(groups(picture, "edge")) == 3
    assert texts(picture, "gradient").count("3") == 2
    assert "total 6" in texts(picture, "gradient")


def test_arguments_are_named_where_they_differ() -> None:
    a, b = leaf(3.0, "a"), leaf(2.0, "b")
    assert texts(graph.draw(a - b), "argument") == ["x", "y"]
    assert texts(graph.draw(a + b), "argument") == []
    assert texts(graph.draw(1 / a), "argument") == []
    assert texts(graph.draw(2 / a), "argument") == ["x", "y"]


class Line(mg.Op):
    """out = x * w + b"""

    def forward(self, x: Any, w: Any, b: Any) -> Any:
        return x * w + b

    def backward(self, dout: Any, x: Any, w: Any) -> Any:
        return dout * w, dout * x, dout


class Divide(mg.Op):
    """out = x / y, as the package's own has it."""

    def forward(self, x: Any, y: Any) -> Any:
        return x / y

    def backward(self, dout: Any, x: Any, y: Any) -> Any:
        return dout / y, -dout * x / y**2


def test_of_an_op_of_the_user_every_argument_is_drawn() -> None:
    assert texts(graph.draw(Line()(leaf(5.0), 3.0, 0.0)), "name") == ["x", "3", "0"]
    assert texts(graph.draw(Divide()(1.0, leaf(5.0))), "name") == ["1", "x"]


def test_what_was_not_given_to_an_op_is_not_drawn() -> None:
    q = leaf(np.ones((2, 3)))
    assert texts(graph.draw(mg.scaled_dot_product_attention(q, q, q)), "argument") == ["query", "key", "value"]
    x, W = leaf(np.ones((2, 3))), leaf(np.ones((2, 3)), "W")
    assert texts(graph.draw(mg.linear(x, W)), "name") == ["x", "W"]
    assert texts(graph.draw(mg.clip(leaf(1.0), 0.0)), "name") == ["x", "0"]
    assert texts(graph.draw(1 / leaf(2.0)), "name") == ["x"]


def test_an_op_of_three_named_arguments_is_a_box() -> None:
    picture = graph.draw(mg.clip(leaf(0.5), 0.0, 1.0))
    assert texts(picture, "argument") == ["x", "a_min", "a_max"]
    assert [*tree(picture).iter(f"{SVG}circle")] == []


def test_an_index_is_written_as_in_python() -> None:
    x = leaf(np.ones((2, 16)))
    assert texts(graph.draw(x[:, 8:12]), "symbol") == ["x[:, 8:12]"]
    assert texts(graph.draw(x[-1]), "symbol") == ["x[-1]"]
    assert texts(graph.draw(x[np.ones((2, 16), bool)]), "symbol") == ["x[bool (2, 16)]"]
    assert texts(graph.draw(x[:, 8:12]), "small") == ["arrays: shape, then min | mean | max"]


def test_a_large_array_as_a_parameter_is_told_by_its_shape() -> None:
    class Times(mg.Op):
        by: Any

        def forward(self, x: Any) -> Any:
            return x * self.by

        def backward(self, dout: Any) -> Any:
            return dout * self.by

    picture = graph.draw(Times(np.ones((3, 4)))(leaf(np.ones((3, 4)))))
    assert "by=float64 (3, 4)" in texts(picture, "small")
    assert "array(" not in picture.svg


def test_a_constant_that_is_used_twice_is_seen_to_be_one() -> None:
    c = np.arange(12.0)
    with graph.record():
        near = graph.draw(mg.sin(leaf(np.ones(12)) * c) + c)
        y = leaf(np.ones(12)) * c
        for _ in range(9):
            y = mg.sin(y)
        far = graph.draw(y * c)
    assert texts(near, "name").count("constant") == 1
    assert texts(far, "name").count("constant 1") == 2


def test_huge_values_have_a_mean() -> None:
    assert lines(np.full(10, 1.5e308)).lines == ("(10,)", "1.5e308 | 1.5e308 | 1.5e308")


def test_without_gradients_nothing_is_walked() -> None:
    class Wrong(mg.Op):
        def forward(self, x: Any) -> Any:
            return x * 2

        def backward(self, dout: Any) -> Any:
            return np.ones(7)

    y = Wrong()(leaf([1.0, 2.0]))
    with pytest.raises(GradientError):
        graph.draw(y)
    assert "backward" not in graph.draw(y, gradients=False).svg.split("</style>")[1]


@pytest.mark.parametrize(
    ("array", "shown"),
    [
        (650.0, ("650",)),
        (-1.1, ("−1.1",)),
        (np.float32(0.1), ("0.1",)),
        (1 / 3, ("0.33333",)),
        (1e-30, ("1e−30",)),
        ([1.0, 2.5], ("[1, 2.5]",)),
        (np.zeros((0, 3)), ("(0, 3)", "empty")),
        (np.ones((4, 5)), ("(4, 5)", "1 | 1 | 1")),
        (np.full(6, 1 / 7), ("(6,)", "0.14 | 0.14 | 0.14")),
        ([True, False], ("[True, False]",)),
        (np.array([[1, 2, 3], [4, 5, 6]]), ("[1, 2, 3]", "[4, 5, 6]")),
    ],
)
def test_how_an_array_is_written(array: Any, shown: tuple[str, ...]) -> None:
    assert lines(array).lines == shown
    assert not lines(array).bad


def test_nan_and_inf_are_said_and_stand_out() -> None:
    assert lines(np.nan) == lines(np.array(np.nan))
    assert lines(np.nan).bad
    assert lines(-np.inf).lines == ("−inf",)
    many = np.ones(20)
    many[[1, 2]], many[3] = np.nan, np.inf
    assert lines(many).lines == ("(20,)", "2 nan, 1 inf")
    with np.errstate(all="ignore"):
        picture = graph.draw(mg.log(leaf([-1.0, 1.0])))
    bad = [t.text for g in groups(picture, "bad") for t in g.iter(f"{SVG}text")]
    assert "[nan, 0]" in bad
    assert groups(graph.draw(mg.log(leaf(1.0))), "bad") == []


def test_arrays_without_entries_are_drawn() -> None:
    picture = graph.draw(mg.sum(leaf(np.zeros((0, 3))) * 2))
    assert "(0, 3)" in texts(picture, "value")
    assert "empty" in texts(picture, "value")


def test_a_value_that_nobody_knows_is_a_question_mark() -> None:
    nodes = (
        GraphNode(0, "constant", "c"),
        GraphNode(1, "op", "add", "+", shape=(2,), inputs=(0, 0), arguments=("x", "y")),
    )
    picture = graph.draw(Graph(nodes, (Edge(0, 1, "x"), Edge(0, 1, "y")), 1))
    assert texts(picture, "value") == ["?", "?", "?"]
    assert texts(picture, "gradient") == []


def test_a_leaf_alone_is_drawn() -> None:
    assert texts(graph.draw(leaf(2.0)), "name") == ["x"]


def test_nodes_and_edges_say_which_they_are() -> None:
    y = mg.exp(leaf(2.0)) * 3
    traced = graph.trace(y)
    picture = graph.draw(traced)
    assert sorted(g.get("data-node") or "" for g in groups(picture, "node")) == ["", "0", "1", "2", "3"]
    assert sorted(g.get("data-edge") or "" for g in groups(picture, "edge")) == ["0", "1", "2", "output"]
    assert groups(picture, "edge")[0].get("data-source") == "0"


def test_a_leaf_used_far_apart_is_drawn_at_each_use() -> None:
    w, y = leaf(1.5, "w"), leaf(0.5)
    for _ in range(8):
        y = mg.sin(y * w)
    assert texts(graph.draw(y), "name").count("w") == 8
    y = leaf(0.5)
    for _ in range(2):
        y = mg.sin(y * w)
    assert texts(graph.draw(y), "name").count("w") == 1


# Any text, any page

NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "]]>",
    "&amp;<![CDATA[",
    "a\x00b\x1b[31m\ud800\u202e\ufffe",
    "</title></svg>",
    "가중치 W₁ ∂L/∂x",
    "x" * 500,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_text_whatever_is_in_it(name: str) -> None:
    x = leaf([1.0, 2.0], name)
    y = mg.exp(x)
    traced = graph.trace(mg.sum(y * 2), {name: x, f"{name}!": y})
    for picture in (graph.draw(traced), graph.diff(traced, traced)):
        kinds = {element.tag.removeprefix(SVG) for element in tree(picture).iter()}
        assert kinds <= {"svg", "title", "desc", "style", "rect", "g", "text", "path", "circle"}
        for element in tree(picture).iter():
            assert not [key for key in element.attrib if key.startswith("on") or "href" in key]
        picture.svg.encode()  # a lone surrogate could not be saved
    if name.isprintable() and len(name) < 20:
        assert name in texts(graph.draw(traced), "name")


def test_names_of_modules_and_parameters_of_ops_are_text_too() -> None:
    class Odd(nn.Module):
        def forward(self, x: Any) -> Any:
            return mg.exp(x)

    Odd.__name__ = "<b>&"
    with graph.record():
        y = mg.sum(Odd()(leaf([1.0, 2.0])))
    assert texts(graph.draw(y, collapse=True), "symbol") == ["<b>&", "Σ"]
    nodes = (
        GraphNode(0, "leaf", "x", shape=(), value=np.array(1.0)),
        GraphNode(1, "op", "<i>", "<i>", parameters={"<u>": "<u>"}, shape=(), inputs=(0,), arguments=("<s>",)),
    )
    picture = graph.draw(Graph(nodes, (Edge(0, 1, "<s>"),), 1))
    assert texts(picture, "symbol") == ["<i>"]
    assert texts(picture, "small") == ["<u>='<u>'"]


def test_pictures_share_a_page() -> None:
    one, other = graph.draw(mg.exp(leaf(1.0))), graph.draw(mg.log(leaf(1.0)))
    page = ET.fromstring(f"<div>{one._repr_html_()}{other._repr_html_()}{one._repr_svg_()}</div>")
    assert [element.get("id") for element in page.iter() if element.get("id")] == []
    assert "url(" not in one.svg
    assert "http" not in one.svg.replace(SVG.strip("{}"), "")


def test_a_picture_is_described_for_who_cannot_see_it() -> None:
    x = leaf(2.0)
    svg = tree(graph.draw(mg.exp(x)))
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "exp, a graph of 2 nodes"
    assert [child.tag.removeprefix(SVG) for child in svg][:2] == ["title", "desc"]
    assert "0 x = 2 gradient 7.3891; 1 exp = 7.3891" in (svg[1].text or "")


def test_the_same_graph_gives_the_same_picture() -> None:
    def made() -> str:
        x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0], "y")
        return graph.draw(mg.sum(mg.exp(x) * y - x / y)).svg

    assert made() == made()


def test_a_graph_shows_itself() -> None:
    traced = graph.trace(mg.exp(leaf(2.0)))
    assert traced._repr_svg_() == graph.draw(traced).svg
    assert traced._repr_html_() == graph.draw(traced)._repr_html_()


def test_a_notebook_keeps_a_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    formatter = pytest.importorskip("IPython.core.formatters").DisplayFormatter()
    kept: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: kept.append(data))
    traced = graph.trace(mg.exp(leaf(2.0)))
    for shown in (traced, graph.draw(traced)):
        assert formatter.format(shown) == ({}, {})  # nothing beside what it displays itself
        assert sorted(kept.pop()) == ["text/html", "text/plain"]


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [("0123456789", 5560), ("−+=<>×", 3504), ("WMmw%@", 5236), ("GOQHND", 4500), ("iljt.,:", 1778), ("abcdegho", 4393)],
)
def test_no_text_is_wider_than_its_room(text: str, thousandths: int) -> None:
    """The widths are Arial's, in thousandths of the size."""
    assert thousandths / 1000 <= width(text, 1.0) <= 1.6 * thousandths / 1000
    assert width("가중치", 10.0) == 30.0


# Folding


def net(depth: int, width: int = 3) -> mg.Tensor:
    model = nn.Sequential(*(part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())))
    with graph.record():
        return mg.sum(model(mg.Tensor(np.ones((4, width)), name="x")))


def a_long_chain(n: int) -> mg.Tensor:
    x = leaf(0.5)
    for _ in range(n):
        x = mg.sin(x * 1.01)
    return x


def test_modules_are_folded_by_level() -> None:
    y = net(2)
    assert texts(graph.draw(y, collapse=True), "symbol") == ["0: Linear", "1: ReLU", "2: Linear", "3: ReLU", "Σ"]
    assert texts(graph.draw(y, collapse=1), "symbol") == ["Sequential", "Σ"]
    assert "24 parameters" in texts(graph.draw(y, collapse=1), "small")
    assert len(texts(graph.draw(y, collapse=2), "symbol")) == 5
    assert texts(graph.draw(y), "symbol") == texts(graph.draw(y, collapse=False), "symbol")


def test_a_module_with_fewer_levels_than_asked_for_is_a_box_too() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), nn.ReLU())))
    with graph.record():
        y = mg.sum(model(leaf(np.ones((2, 3)))))
    assert texts(graph.draw(y, collapse=2), "symbol") == ["0: Linear", "1: Sequential", "Σ"]
    assert texts(graph.draw(y, collapse=3), "symbol") == ["0: Linear", "0: Linear", "1: Sequential", "Σ"]
    assert texts(graph.draw(y, collapse=9), "symbol") == ["0: Linear", "0: Linear", "0: ReLU", "1: ReLU", "Σ"]


def test_edges_into_a_box_are_one_arrow_with_their_sum() -> None:
    class Twice(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * x

    x = leaf(3.0)
    with graph.record():
        y = Twice()(mg.exp(x))
    assert texts(graph.draw(y, collapse=True), "gradient")[1] == f"{2 * np.exp(3.0):.5g}"
    assert not [text for text in texts(graph.draw(y, collapse=True)) if "total" in text]
    assert [text for text in texts(graph.draw(y)) if "total" in text]


def test_what_a_module_is_called_on_stays_outside() -> None:
    x = leaf(np.ones((4, 3)))
    with graph.record():
        y = mg.sum(nn.Linear(3, 2)(x))
    assert texts(graph.draw(y, collapse=True), "name") == ["x"]


def a_residual_net(depth: int) -> mg.Tensor:
    h = mg.Tensor(np.ones((2, 4)), name="x")
    with graph.record():
        for k in range(depth):
            h = h + mg.relu(h @ leaf(np.eye(4), f"W{k}"))
        return mg.sum(h)


def test_beyond_80_nodes_modules_are_opened_as_deep_as_few_boxes_are_left() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            return x + self.two(mg.relu(self.one(x)))

    model = nn.Sequential(*(Block() for _ in range(30)))
    with graph.record():
        y = mg.sum(model(mg.Tensor(np.ones((4, 3)), name="x")))
    assert texts(graph.draw(y), "symbol") == [*(f"{k}: Block" for k in range(30)), "Σ"]
    assert len(texts(graph.draw(net(24)), "symbol")) == 49  # 98 nodes: each Linear and ReLU is a box


def test_what_repeats_itself_is_one_box_between_its_first_and_last_time() -> None:
    picture = graph.draw(a_residual_net(80))  # 322 nodes
    assert sorted(texts(picture, "symbol")) == sorted(["dot", "relu", "+", "… 234 nodes …", "dot", "relu", "+", "Σ"])
    assert "78 times dot, relu, +" in texts(picture, "small")
    assert {"W0", "W79"} <= set(texts(picture, "name"))
    deep = graph.draw(net(110))
    assert "… 212 nodes …" in texts(deep, "symbol")
    assert "106 times Linear, ReLU" in texts(deep, "small")
    chain = graph.draw(a_long_chain(300))
    assert "… 592 nodes …" in texts(chain, "symbol")
    assert "296 times ×, sin" in texts(chain, "small")
    assert len(groups(chain, "node")) < 20


def test_each_repetition_is_a_box_of_its_own() -> None:
    y = a_long_chain(40)
    for _ in range(50):
        y = mg.tanh(mg.exp(mg.negative(y)))
    assert {"36 times ×, sin", "48 times -, exp, tanh"} <= set(texts(graph.draw(y), "small"))


def test_of_what_does_not_repeat_itself_the_middle_is_a_box() -> None:
    rng = np.random.default_rng(0)
    y = leaf(0.5)
    for k in rng.integers(0, 5, 400):
        y = [mg.sin, mg.tanh, mg.cos, mg.arctan, mg.sigmoid][k](y)
    picture = graph.draw(y)
    assert "… 370 nodes …" in texts(picture, "symbol")
    assert len(groups(picture, "node")) < 40


@pytest.mark.parametrize("made", [lambda: net(210), lambda: a_residual_net(130), lambda: a_long_chain(130)])
def test_400_nodes_are_a_picture_of_two_screens_at_most(made: Any) -> None:
    _, _, w, h = (float(x) for x in (tree(graph.draw(made())).get("viewBox") or "").split())
    assert w <= 1300
    assert h <= 1600


def test_very_many_inputs_are_folded() -> None:
    picture = graph.draw(mg.stack([leaf(float(k), f"x{k}") for k in range(500)]))
    assert "… 494 inputs …" in texts(picture, "symbol")
    assert "494 values" in texts(picture, "value")


def test_a_graph_of_many_thousand_nodes_is_drawn() -> None:
    picture = graph.draw(a_long_chain(10_000))
    assert "… 19,992 nodes …" in texts(picture, "symbol")
    assert "30001 nodes" in picture.title
    fold = groups(picture, "fold")[0].get("data-node") or ""
    assert len(fold) < 100


def test_a_fold_never_makes_a_circle() -> None:
    x = leaf(np.ones((2, 3)))
    inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with graph.record():
        h = inner(x)
        y = mg.sum(inner(mg.exp(h)) + h)
    for collapse in (True, 1, 2):
        assert graph.draw(y, collapse=collapse).svg.endswith("</svg>")


@pytest.mark.parametrize("collapse", [0, -1, np.int64(0)])
def test_another_collapse_is_refused(collapse: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^graph\.draw: collapse: .*None, True, False"):
        graph.draw(net(1), collapse=collapse)


@pytest.mark.parametrize("collapse", ["modules", 1.5, [1]])
def test_what_is_no_collapse_is_refused(collapse: Any) -> None:
    with pytest.raises(DTypeError, match=r"^graph\.draw: collapse: .*None, True, False"):
        graph.draw(net(1), collapse=collapse)


def test_numbers_of_numpy_collapse_too() -> None:
    y = net(2)
    assert graph.draw(y, collapse=np.int64(1)).svg == graph.draw(y, collapse=1).svg
    assert graph.draw(y, collapse=np.True_).svg == graph.draw(y, collapse=True).svg


def test_modules_that_were_not_recorded_and_nodes_that_are_too_many_are_errors() -> None:
    with pytest.raises(ArgumentError, match=r"without modules.*graph\.record"):
        graph.draw(mg.exp(leaf(1.0)), collapse=True)
    with pytest.raises(ArgumentError, match=r"3001 nodes.*at most 2000"):
        graph.draw(a_long_chain(1000), collapse=False)


# Files and bad input


def test_save_writes_svg_and_nothing_else(tmp_path: Path) -> None:
    y = mg.exp(leaf(1.0))
    picture = graph.draw(y, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == picture.svg
    picture.save(str(tmp_path / "b.SVG"))
    for path in ("a.png", "a", "a.svg.html"):
        with pytest.raises(ArgumentError, match=r"ends in \.svg"):
            graph.draw(y, tmp_path / path)
    with pytest.raises(DTypeError, match=r"^Picture\.save: path"):
        picture.save(3)
    with pytest.raises(ArgumentError, match=r"^graph\.draw: path"):
        graph.draw(y, tmp_path / "a.png")
    with pytest.raises(ArgumentError, match=r"^graph\.diff: path"):
        graph.diff(y, y, tmp_path / "a.png")
    assert sorted(os.listdir(tmp_path)) == ["a.svg", "b.SVG"]


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_what_is_there(tmp_path: Path) -> None:
    picture = graph.draw(mg.exp(leaf(1.0)))
    with pytest.raises(CheckpointError, match=r"^Picture\.save: path: .*directory does not exist"):
        picture.save(tmp_path / "no" / "a.svg")
    with pytest.raises(CheckpointError, match=r"^graph\.draw: path: .*directory does not exist"):
        graph.draw(mg.exp(leaf(1.0)), tmp_path / "no" / "a.svg")
    (tmp_path / "d.svg").mkdir()
    with pytest.raises(CheckpointError, match="a directory"):
        picture.save(tmp_path / "d.svg")
    assert os.listdir(tmp_path) == ["d.svg"]


def test_tensors_without_a_graph_are_errors() -> None:
    y = mg.exp(leaf(1.0))
    y.backward()
    with pytest.raises(GraphError, match="released"):
        graph.draw(y)
    with pytest.raises(GraphError, match="no graph"):
        graph.draw(mg.Tensor(1.0))
    with pytest.raises(DTypeError, match=r"^graph\.draw: .*a Tensor"):
        graph.draw(np.ones(3))
    with pytest.raises(DTypeError, match=r"^graph\.diff: .*a Tensor"):
        graph.diff(np.ones(3), mg.exp(leaf(1.0)))
    with pytest.raises(DTypeError, match=r"graph\.draw: values"):
        graph.draw(mg.exp(leaf(1.0)), values="no")  # type: ignore[arg-type]  # the mistake that is tested


def test_drawing_leaves_the_graph_as_it_was() -> None:
    x = leaf(2.0)
    y = mg.exp(x)
    graph.draw(y)
    assert x.grad is None
    y.backward()
    assert x.grad is not None


# diff


def test_diff_marks_what_agrees_and_frames_what_is_fused() -> None:
    x = leaf(5.0)
    picture = graph.diff(mg.sigmoid(x), 1 / (1 + mg.exp(x * -1)))
    assert picture.title == "sigmoid and /: values and gradients agree"
    assert texts(picture, "value").count("= value") == 2
    assert texts(picture, "gradient").count("= gradient") == 2
    assert len(re.findall('class="note dashed"', picture.svg)) == 1
    assert groups(picture, "bad") == []


def test_diff_says_where_and_by_how_much_two_graphs_differ() -> None:
    x = leaf(-800.0)
    with np.errstate(all="ignore"):
        picture = graph.diff(mg.softplus(x), mg.log(1 + mg.exp(x)))
        assert picture.title.endswith("agree")  # 0 and 0
        x = leaf(2.0)
        wrong = graph.diff(mg.sigmoid(x), mg.sigmoid(x * 1.1))
    assert wrong.title.endswith("differ")
    said = [t.text or "" for g in groups(wrong, "bad") for t in g.iter(f"{SVG}text")]
    assert "≠ value: 0.88079708 and 0.90024951" in said
    assert any(text.startswith("≠ gradient: 0.10499359 and ") for text in said)


def test_diff_sees_what_a_naive_graph_loses() -> None:
    with np.errstate(all="ignore"):
        x = leaf([40.0, 0.0])
        loss = mg.log(mg.sum(mg.exp(x))) - mg.sum(x * np.array([1.0, 0.0]))
        picture = graph.diff(mg.softmax_cross_entropy(x.reshape(1, 2), np.array([0])), loss)
    assert "≠ value: 4.2483543e−18 and 0" in texts(picture)


def test_diff_frames_only_what_differs() -> None:
    a, b = leaf(0.5, "a"), leaf(0.25, "b")
    fused, unfused = mg.exp(mg.sigmoid(a * b)), mg.exp(1 / (1 + mg.exp(a * b * -1)))
    picture = graph.diff(fused, unfused)
    frames = [r for r in tree(picture).iter(f"{SVG}rect") if r.get("class") == "note dashed"]

    def framed(circle: ET.Element) -> bool:
        sides = (("cx", "x", "width"), ("cy", "y", "height"))
        return any(
            all(
                0 < float(circle.get(c) or 0) - float(r.get(start) or 0) < float(r.get(size) or 0)
                for c, start, size in sides
            )
            for r in frames
        )

    ops = [g for g in groups(picture, "op") if g.get("data-node")][:6]
    inside = [framed(next(g.iter(f"{SVG}circle"))) for g in ops]
    assert inside == [False, True, True, True, True, False]
    same = graph.diff(fused, fused)
    assert "note dashed" not in same.svg


def test_diff_refuses_graphs_of_other_inputs(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"graph\.diff: 1 leaves and 2"):
        graph.diff(mg.exp(leaf(1.0)), leaf(1.0) * leaf(2.0, "y"))
    x, y = leaf(1.0), leaf([1.0, 2.0])
    with pytest.raises(ArgumentError, match=r"graph\.diff: x \(\) and x \(2,\)"):
        graph.diff(mg.exp(x), mg.exp(y))
    with pytest.raises(ArgumentError, match="results of shape"):
        graph.diff(mg.exp(leaf([1.0, 2.0])), mg.sum(leaf([1.0, 2.0])))
    with pytest.raises(ArgumentError, match=r"graph\.diff: unfused: a graph of"):
        graph.diff(mg.exp(leaf(1.0)), a_long_chain(300))
    graph.diff(mg.exp(leaf(1.0, "a")), mg.exp(leaf(1.0, "b")), tmp_path / "d.svg")
    assert (tmp_path / "d.svg").exists()


def test_a_wide_diff_is_broken_into_rows_each_with_its_frame() -> None:
    x = leaf([[1.0, 3.0, 2.0]])
    with graph.record():
        y = mg.exp(x) / mg.sum(mg.exp(x), axis=1, keepdims=True)
        parts = -mg.sum(np.array([[0.0, 0.0, 1.0]]) * mg.log(y))
        fused = mg.softmax_cross_entropy(x, np.array([2]))
    picture = graph.diff(fused, parts)
    left, _, wide, _ = (float(number) for number in (tree(picture).get("viewBox") or "").split())
    assert wide < 1300
    frames = [r for r in tree(picture).iter(f"{SVG}rect") if r.get("class") == "note dashed"]
    assert len(frames) == 2
    for frame in frames:
        assert left < float(frame.get("x") or 0) < left + wide - float(frame.get("width") or 0)
    assert texts(picture, "value").count("= value") == 2
