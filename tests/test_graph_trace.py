"""The graph as data: values, gradients, names, lines, modules, and its forms as text."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.graph import Graph, record, trace
from minigrad.graph.data import number, numbers, summary
from minigrad.op import registry
from minigrad.testing.calls import calls


def leaf(value: Any, name: str | None = None) -> mg.Tensor:
    return mg.Tensor(value, dtype=float, requires_grad=True, name=name)


def apple_shop() -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """The book's figure 5-17."""
    prices = {"apple": leaf(100), "apples": leaf(2), "orange": leaf(150), "oranges": leaf(3), "tax": leaf(1.1)}
    apple, apples, orange, oranges, tax = prices.values()
    return (apple * apples + orange * oranges) * tax, prices


def by_name(graph: Graph) -> dict[str, Any]:
    return {node.name: node for node in graph.nodes}


def test_the_apple_shop_has_the_books_values_and_gradients() -> None:
    total, prices = apple_shop()
    nodes = by_name(trace(total, prices))
    gradients = {name: float(nodes[name].gradient) for name in prices}
    assert gradients == pytest.approx({"apple": 2.2, "apples": 110, "orange": 3.3, "oranges": 165, "tax": 650})
    assert nodes["add"].value == 650
    assert nodes["add"].gradient == 1.1
    assert all(t.grad is None for t in prices.values())
    total.backward()  # the graph is still there
    assert prices["apple"].grad == pytest.approx(2.2)


def test_every_edge_has_the_gradient_that_flows_along_it() -> None:
    x = leaf(3.0, "x")
    graph = trace(x * x * 2.0)
    along = [(edge.source, edge.target, float(edge.gradient)) for edge in graph.edges if edge.gradient is not None]
    assert along == [(0, 1, 6.0), (0, 1, 6.0), (1, 3, 2.0)]
    assert graph.nodes[0].gradient == 12.0
    assert graph.order == (3, 1)


def test_an_edge_has_the_shape_of_its_source_where_the_op_broadcasts() -> None:
    x, b = leaf(np.ones((4, 3)), "x"), leaf(np.ones(3), "b")
    graph = trace((x + b).sum())
    for edge in graph.edges:
        assert edge.gradient.shape == graph.nodes[edge.source].shape
    assert by_name(graph)["b"].gradient.tolist() == [4, 4, 4]


def test_numbers_are_known_without_recording_and_array_constants_where_a_rule_keeps_them() -> None:
    x = leaf([1.0, 2.0])
    graph = trace(((1 - x) * np.array([3.0, 4.0]) + np.array([5.0, 6.0])).sum())
    constants = [node.value for node in graph.nodes if node.kind == "constant"]
    assert constants[0] == 1
    assert constants[1].tolist() == [3, 4]
    assert constants[2] is None
    assert graph.nodes[-1].value == 7.0
    sums = [node for node in graph.nodes if node.name == "add"]
    assert sums[0].value is None  # nobody remembers what was added


def test_recording_knows_all_of_it() -> None:
    x, c = leaf([1.0, 2.0]), mg.Tensor([5.0, 6.0], name="c")
    with record():
        y = ((1 - x) + c).sum()
    graph = trace(y)
    assert all(node.value is not None for node in graph.nodes)
    assert by_name(graph)["c"].value.tolist() == [5, 6]
    line = graph.nodes[-1].line
    assert line is not None
    assert Path(line.file).name == "test_graph_trace.py"
    assert line.function == "test_recording_knows_all_of_it"
    assert "y = ((1 - x) + c).sum()" in Path(line.file).read_text(encoding="utf-8").splitlines()[line.number - 1]


def test_recorded_values_are_those_of_the_call() -> None:
    x, c = leaf([1.0, 2.0], "x"), mg.Tensor([5.0, 6.0], name="c")
    with record():
        y = (x + c).sum() + (x + c).sum()
    with mg.no_grad():
        x += 10.0
        c += 10.0
    nodes = by_name(trace(y))
    assert nodes["x"].value.tolist() == [1, 2]
    assert nodes["c"].value.tolist() == [5, 6]
    assert sum(node.name == "c" for node in trace(y).nodes) == 1


def test_a_leaf_written_since_is_unknown_rather_than_wrong() -> None:
    x = leaf([1.0, 2.0], "x")
    y = (x + 1.0).sum()
    with mg.no_grad():
        x += 10.0
    graph = trace(y)
    assert graph.nodes[0].value is None
    assert graph.nodes[-1].value == 5.0


def test_recording_knows_leaves_that_nobody_else_remembers() -> None:
    def shop() -> mg.Tensor:
        return leaf(2.0, "apples") + leaf(3.0, "oranges")

    with record():
        y = shop()
    assert [(node.name, node.value) for node in trace(y).nodes[:2]] == [("apples", 2.0), ("oranges", 3.0)]
    assert [node.value for node in trace(shop()).nodes[:2]] == [None, None]


def test_recording_an_in_place_result_makes_no_circle() -> None:
    import gc
    import weakref

    gc.disable()
    try:
        x = leaf([1.0, 2.0])
        with record():
            y = x * 2.0
            y += 1.0
            y[0] = 5.0
        node = y._node
        assert node is not None
        alive = weakref.ref(node.op), weakref.ref(y)
        del y, node
        assert alive[1]() is None
    finally:
        gc.enable()


def test_modules_are_named_by_their_path() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.body = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
            self.head = nn.Linear(2, 1)

        def forward(self, x: mg.Tensor) -> mg.Tensor:
            return self.head(self.body(x)) * 2.0

    net = Net()
    with record():
        y = net(mg.Tensor([[1.0, 2.0]])).sum()
    graph = trace(y, net)
    found = {node.name: node.modules for node in graph.nodes if node.kind == "op"}
    assert found["relu"] == ("Net", "body: Sequential", "1: ReLU")
    assert found["multiply"] == ("Net",)
    assert found["sum"] == ()
    assert {"body.0.weight", "head.bias"} <= by_name(graph).keys()


def test_names_of_results_and_constants() -> None:
    x, c = leaf([1.0]), mg.Tensor([2.0])
    y = x * c
    z = y.sum()
    graph = trace(z, {"x": x, "c": c, "y": y})
    assert [node.name for node in graph.nodes] == ["x", "c", "multiply", "sum"]
    assert graph.nodes[2].label == "y"
    assert "y = multiply" in str(graph)


@pytest.mark.parametrize("names", ["x", {"x": 3}, [mg.Tensor(1.0)], {1: mg.Tensor(1.0)}], ids=str)
def test_names_that_are_none_are_refused(names: Any) -> None:
    with pytest.raises(mg.ArgumentError, match="names="):
        trace(leaf(1.0) * 2, names)


def test_several_values_are_seeded_with_ones_and_it_says_so() -> None:
    x = leaf([1.0, 2.0])
    graph = trace(x * 3.0)
    assert graph.seeded
    assert graph.nodes[0].gradient.tolist() == [3, 3]
    assert not trace((x * 3.0).sum()).seeded


@pytest.mark.parametrize("op", list(registry()), ids=lambda op: op.name)
@given(data=st.data())
@settings(max_examples=3)
def test_the_trace_of_every_op_has_the_values_and_gradients_of_backward(op: Any, data: st.DataObject) -> None:
    call = data.draw(calls(op))
    arguments = [mg.Tensor(a, requires_grad=a.dtype.kind == "f", name=f"x{i}") for i, a in enumerate(call.arrays)]
    with record():
        out = call(*arguments)
    assume(out.requires_grad)
    nodes = by_name(trace(out))
    np.testing.assert_array_equal(trace(out).nodes[-1].value, out.numpy())
    out.backward(np.ones(out.shape, out.dtype))
    for argument in arguments:
        if argument.grad is not None:
            np.testing.assert_array_equal(nodes[argument.name].value, argument.numpy())
            np.testing.assert_array_equal(nodes[argument.name].gradient, argument.grad)


@pytest.mark.parametrize("write", ["data", "in place", "view"])
@pytest.mark.parametrize("f", [mg.exp, mg.sigmoid, lambda x: x * x, lambda x: x + 1.0], ids=["exp", "keeps", "x", "+"])
def test_what_was_written_since_is_unknown_and_never_wrong(f: Any, write: str) -> None:
    x = leaf([1.0, 2.0], "x")
    y = f(x.reshape(2) if write == "view" else x).sum()
    before = y.item()
    if write == "data":
        x.data = np.array([10.0, 20.0])
    else:
        with mg.no_grad():
            x += 10.0
    graph = trace(y, gradients=False)
    for node in graph.nodes:
        if node.value is not None and node.kind == "op" and node.name not in ("reshape", "sum"):
            np.testing.assert_array_equal(node.value, f(mg.Tensor([1.0, 2.0])).numpy())
    assert graph.nodes[0].value is None or graph.nodes[0].value.tolist() == [1, 2]
    assert graph.nodes[-1].value == before


def test_a_leaf_written_between_two_recorded_ops_is_unknown() -> None:
    x = leaf([1.0], "x")
    with record():
        a = x + 1.0
        with mg.no_grad():
            x += 10.0
        y = (a + x).sum()
    graph = trace(y)
    assert by_name(graph)["x"].value is None
    assert graph.nodes[-1].value == 13.0


def test_a_graph_is_a_picture_of_now() -> None:
    x, c = leaf([1.0, 2.0], "x"), np.array([3.0, 4.0])
    graph = trace((x.reshape(2, 1) * c).sum())
    c += 100
    with mg.no_grad():
        x += 100.0
    values = {node.name or node.kind: node.value for node in graph.nodes}
    assert values["constant"].tolist() == [3, 4]
    assert values["x"].tolist() == [1, 2]
    assert values["reshape"].tolist() == [[1], [2]]


def test_a_users_op_is_not_called_again_for_its_value() -> None:
    rng = np.random.default_rng(0)

    class Noise(mg.Op):
        """out = x + noise"""

        def forward(self, x: Any) -> Any:
            return x + rng.normal(size=x.shape)

        def backward(self, dout: Any) -> Any:
            return dout

    x = leaf([1.0, 2.0])
    y = (Noise()(x) + 1.0).sum()
    assert trace(y).nodes[1].value is None


def test_constants_of_equal_values_keep_their_own_names() -> None:
    x, a, m = leaf([1.0, 2.0]), mg.Tensor([1.0, 1.0]), mg.Tensor([1.0, 1.0], name="mask")
    with record():
        y = (x * a * m).sum()
    names = [node.name for node in trace(y, {"ones": a}).nodes if node.kind == "constant"]
    assert names == ["ones", "mask"]


def test_a_wrong_rule_is_the_error_that_backward_gives() -> None:
    class Wrong(mg.Op):
        """out = x"""

        grads: Any

        def forward(self, x: Any) -> Any:
            return x + 0.0

        def backward(self, dout: Any) -> Any:
            return self.grads

    for grads in (2.0, np.zeros(3), (1, 2)):
        x = leaf([1.0, 2.0])
        with pytest.raises(mg.GradientError):
            trace(Wrong(grads)(x).sum())


def test_a_graph_is_its_own_trace_and_a_spoiled_one_says_so() -> None:
    x = leaf([1.0])
    h = x * 2.0
    y = (h * h).sum()
    graph = trace(y)
    assert trace(graph) is graph
    with pytest.raises(mg.InPlaceError):
        h.data -= 1.0
    with pytest.raises(mg.InPlaceError, match="written by an assignment"):
        trace(y)


def test_recording_lets_go_of_what_nobody_needs() -> None:
    import weakref

    x, c = leaf([1.0]), np.array([2.0])
    with record():
        y = (x * c).sum()
        node = y._node
        assert node is not None
        copy = weakref.ref(node.parents[0].call.arrays[1])  # type: ignore[union-attr]  # a node of multiply
        assert copy() is not c
        del node
        y.backward()
        del y
        assert copy() is None


def test_lines_and_colours_in_a_name_do_not_break_the_table() -> None:
    x = leaf(1.0, "a\n0  b\x1b[31m\ud800")
    graph = trace(x * 2.0)
    assert len(str(graph).splitlines()) == 3
    assert "\x1b" not in str(graph)
    graph.to_json().encode("utf-8")
    assert "#45;" in trace(x - 1.0).to_mermaid()


def test_the_mean_of_large_numbers() -> None:
    assert summary(np.full(10, 1e308)).endswith("mean 1e308, max 1e308")


# Forms as text


def test_json_has_everything_and_is_standard() -> None:
    x = leaf([1.0, np.inf, np.nan], 'a"</script>')
    data = json.loads(trace((x * 2.0).sum()).to_json(), parse_constant=lambda name: pytest.fail(name))
    assert data["nodes"][0]["value"] == [1.0, "inf", "nan"]
    assert data["nodes"][0]["name"] == 'a"</script>'
    assert data["edges"][0] == {"source": 0, "target": 2, "argument": "x", "gradient": [2.0, 2.0, 2.0]}
    assert data["order"] == [3, 2]
    many = leaf(np.arange(200.0))
    large = json.loads(trace(many.sum()).to_json())
    assert large["nodes"][0]["value"] == {"min": 0.0, "mean": 99.5, "max": 199.0}


def test_dot_is_understood_by_graphviz(tmp_path: Path) -> None:
    x = leaf(2.0, 'x" -> y\\ \n<b>')
    graph = trace(x * 3.0)
    text = graph.to_dot()
    assert text.count("->") == 2 + 2  # two edges, and the name in label and tooltip
    assert '\\"' in text
    assert "\n<b>" not in text
    if shutil.which("dot") is None:
        return
    subprocess.run(["dot", "-Tsvg", "-o", tmp_path / "x.svg"], input=text, text=True, check=True)


def test_mermaid_codes_what_it_could_misread() -> None:
    x = leaf(2.0, 'x"]; click me')
    text = trace(x * 3.0).to_mermaid()
    assert text.splitlines()[1] == '  n0["x#34;#93;#59; click me = 2"]'
    assert '((""' not in text


def test_text_is_a_table() -> None:
    total, prices = apple_shop()
    lines = str(trace(total, prices)).splitlines()
    assert lines[0].split() == ["0", "apple", "=", "100", "gradient", "2.2"]
    assert len({line.index("=") for line in lines}) == 1


def test_numbers_are_the_books() -> None:
    assert [number(v) for v in (650, 1.1, 0.0066929, 1e-20, -0.0, 715.0000000000001, 123456.0, 1e300)] == [
        "650",
        "1.1",
        "0.0066929",
        "1e-20",
        "0",
        "715",
        "123456",
        "1e300",
    ]
    assert numbers(np.array([[1.0, 2.5]])) == "[[1, 2.5]]"
    assert summary(np.zeros((0, 3))) == "(0, 3) empty"
    assert summary(np.array([np.nan] * 3 + [np.inf] * 2 + [1.0, 7.0])) == "(7,) 3 nan, 2 inf, others 1 to 7"


# Bad input


def test_no_tensor_no_graph_and_a_released_graph_are_errors() -> None:
    with pytest.raises(mg.DTypeError, match=r"pass the result of a computation"):
        trace(3.0)  # type: ignore[arg-type]
    with pytest.raises(mg.GraphError, match="which has no graph"):
        trace(mg.Tensor(1.0))
    y = leaf(1.0) * 2
    y.backward()
    with pytest.raises(mg.GraphError, match=r"before backward\(\)"):
        trace(y)


def test_a_write_that_spoils_the_graph_is_an_error_here_too() -> None:
    x = leaf([1.0], "x")
    y = (x * x).sum()
    with mg.no_grad():
        x += 1.0
    with pytest.raises(mg.InPlaceError, match="x "):
        trace(y)
    assert trace(y, gradients=False).nodes[-1].value == 1.0


def test_a_leaf_alone_and_zero_size() -> None:
    x = leaf(3.0, "x")
    graph = trace(x)
    assert [node.kind for node in graph.nodes] == ["leaf"]
    assert graph.nodes[0].gradient == 1
    x = leaf(np.zeros((0, 3)))
    empty = trace(x.sum())
    assert empty.nodes[0].gradient.shape == (0, 3)
    assert "(0, 3) empty" in str(empty)


def test_a_long_chain_needs_no_recursion() -> None:
    limit = sys.getrecursionlimit()
    y = leaf(1.0)
    for _ in range(20_000):
        y = y * 1.0
    sys.setrecursionlimit(200)
    try:
        graph = trace(y)
        assert len(graph.nodes) == 40_001
        assert graph.nodes[0].gradient == 1.0
        assert len(graph.to_text().splitlines()) == 40_001
    finally:
        sys.setrecursionlimit(limit)


def test_a_parameter_of_the_default_value_is_not_shown() -> None:
    x = leaf([[1.0, 2.0]])
    node = trace(mg.softmax_cross_entropy(x, [0], label_smoothing=0.0)).nodes[-1]
    assert node.parameters.keys() <= {"axis"}


def test_edges_by_node() -> None:
    x = leaf(3.0)
    graph = trace(x * x + 1)
    assert [[edge.target for edge in edges] for edges in graph.outgoing] == [[1, 1], [3], [3], []]
    assert [[edge.source for edge in edges] for edges in graph.incoming] == [[], [0, 0], [], [1, 2]]


def test_gradients_that_are_no_tuple_are_refused() -> None:
    with pytest.raises(mg.DTypeError, match=r"Slip.gradients"):
        type("Slip", (mg.Op,), {"gradients": "dout * y", "forward": lambda self, x: x, "backward": lambda self, d: d})
