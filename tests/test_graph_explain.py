"""A graph in words: formulas, steps and whole explanations, in both languages and all forms."""

from __future__ import annotations

import ast
import math
import re
import sys
from string import Formatter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, unfused
from minigrad.graph import Graph, record, trace
from minigrad.graph.data import GraphNode, number
from minigrad.graph.depth_first import counterexample, depth_first, example
from minigrad.graph.equations import SMALL, forward_formula
from minigrad.graph.explaining import FORMATS, explain
from minigrad.graph.formula import computes, gradient, latex, local, names, parse, substitute, text
from minigrad.graph.latex import latex_escaped
from minigrad.graph.particles import final_sound, particle
from minigrad.graph.prose import COLUMNS, Code, Table, columns, to_latex, to_markdown, to_text
from minigrad.graph.rules import declared, local_derivatives
from minigrad.graph.steps import Narrator, Step
from minigrad.graph.words import LANGUAGES, SENTENCES, say
from minigrad.graph.words_ops import DOES, NODES, RULES
from minigrad.op import Op, Unary, registry
from minigrad.sums import unbroadcast
from minigrad.testing.calls import calls
from minigrad.watch import Watcher, watching

OPS = list(registry())
every_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
both = pytest.mark.parametrize("lang", LANGUAGES)
every_format = pytest.mark.parametrize("form", FORMATS)
NUMPY = {**vars(np), "unbroadcast": unbroadcast}
few = settings(max_examples=2, suppress_health_check=[HealthCheck.too_slow])
HOSTILE = "\\end{document} 50% & $x$ #_{~}^ <script>alert(1)</script> `` ` **b** [x](y) | \x1b[31m\nnew {n}"


def leaf(value: Any, name: str | None = None) -> mg.Tensor:
    return mg.Tensor(value, dtype=float, requires_grad=True, name=name)


def apple_shop() -> Graph:
    """The book's figure 5-17."""
    apple, apples, tax = leaf(100, "apple"), leaf(2, "apples"), leaf(1.1, "tax")
    orange, oranges = leaf(150, "orange"), leaf(3, "oranges")
    return trace((apple * apples + orange * oranges) * tax)


def sigmoid_of_5() -> Graph:
    """Figure 5-19."""
    x = leaf(5, "x")
    return trace(1 / (1 + mg.exp(-x)))


def two_layers() -> Graph:
    rng = np.random.default_rng(0)
    shapes = {"W1": (4, 3), "b1": 3, "W2": (3, 2), "b2": 2}
    p = {name: leaf(rng.normal(size=shape), name) for name, shape in shapes.items()}
    with record():
        hidden = mg.sigmoid(rng.normal(size=(5, 4)) @ p["W1"] + p["b1"])
        loss = mg.softmax_cross_entropy(hidden @ p["W2"] + p["b2"], np.array([0, 1, 0, 1, 1]))
    return trace(loss)


def traced(call: Any) -> Graph:
    """The graph of a drawn call."""
    with record():
        out = call(*[leaf(a) if a.dtype.kind == "f" else a for a in call.arrays])
    return trace(out)


def steps(graph: Graph, lang: str = "en") -> list[Step]:
    return Narrator(graph, lang).steps()


def numbers_in(said: str) -> set[str]:
    return set(re.findall(r"-?\d[\d.]*(?:e-?\d+)?(?<!\.)", said))


# Words


@pytest.mark.parametrize("key", SENTENCES)
def test_both_languages_have_every_sentence_with_the_same_placeholders(key: str) -> None:
    en, ko = ({name for _, name, _, _ in Formatter().parse(said) if name is not None} for said in SENTENCES[key])
    assert en == ko
    assert all(SENTENCES[key])
    assert not re.search("[가-힣]", SENTENCES[key][0])
    if re.search("[a-z]{4}", re.sub(r"\{\w+\}", "", SENTENCES[key][0])):
        assert re.search("[가-힣]", SENTENCES[key][1])


@pytest.mark.parametrize("table", [DOES, RULES, NODES], ids=["does", "rules", "nodes"])
def test_both_languages_have_the_words_of_every_op_that_is_listed(table: dict[str, tuple[str, str]]) -> None:
    known = {op.name for op in OPS}
    for name, (en, ko) in table.items():
        assert name in known
        assert en
        assert re.search("[가-힣]", ko)
        assert not re.search("[가-힣]", en)
        assert "은(는)" not in ko


def test_korean_sentences_end_politely() -> None:
    for key, (_, ko) in [*SENTENCES.items(), *RULES.items()]:
        for sentence in re.split(r"(?<=\.)\s+", ko):
            if sentence.endswith(".") and re.search("[가-힣]{5}", sentence) and "{" not in sentence[-12:]:
                assert re.search(r"(니다|exp)\.$", sentence), (key, sentence)


@pytest.mark.parametrize(
    ("said", "topic", "subject", "to"),
    [
        ("노드", "는", "가", "로"),
        ("값", "은", "이", "으로"),
        ("길", "은", "이", "로"),
        ("x", "는", "가", "로"),
        ("n", "은", "이", "으로"),
        ("W1", "은", "이", "로"),
        ("b2", "는", "가", "로"),
        ("3", "은", "이", "으로"),
        ("10", "은", "이", "으로"),
        ("-0.98666", "은", "이", "으로"),
        ("2.2", "는", "가", "로"),
        ("1e-18", "은", "이", "로"),
        ("out", "은", "이", "으로"),
        ("apple", "은", "이", "로"),
        ("loss", "는", "가", "로"),
        ("sum", "은", "이", "으로"),
        ("[1, 3]", "은", "이", "으로"),
        ("3번 노드(exp)", "는", "가", "로"),
        ("(2, 3)", "은", "이", "으로"),
        ("", "는", "가", "로"),
        ("»", "는", "가", "로"),
    ],
)
def test_particles_follow_the_last_sound(said: str, topic: str, subject: str, to: str) -> None:
    assert [particle(said, p) for p in ("은(는)", "이(가)", "(으)로")] == [topic, subject, to]
    assert final_sound(said) in ("", "n", "l")


def test_no_particle_is_left_open() -> None:
    for graph in (apple_shop(), sigmoid_of_5(), two_layers(), example()):
        said = explain(graph, "ko")
        assert not re.search(r"은\(는\)|이\(가\)|을\(를\)|과\(와\)|\(으\)로", said)


# Formulas


@every_op
def test_every_declared_gradient_is_read_and_printed_without_loss(op: type[Op]) -> None:
    for declared_text in filter(None, op.gradients):
        tree = parse(declared_text)
        assert tree is not None
        shown = text(tree).replace("×", "*").replace("not ", "~")
        again = parse(shown)
        assert again is not None
        assert ast.dump(again) == ast.dump(tree)
        assert_latex(f"${latex(tree)}$")


@every_op
@few
@given(data=st.data())
def test_local_derivatives_are_the_rules_own(op: type[Op], data: st.DataObject) -> None:
    if not op.elementwise:
        return
    graph = traced(data.draw(calls(op, empty=False)))
    for node in graph.nodes:
        if node.op is None or type(node.op) is not op:
            continue
        found = local_derivatives(graph, node)
        assert found is not None
        edges = [edge for edge in graph.edges if edge.target == node.number]
        for k, (edge, derivative) in enumerate(zip(edges, found, strict=True)):
            tree, refused = declared(graph, node, k, edge.gradient)
            if edge.gradient is None or tree is None:
                continue
            assert not refused
            values = {x: graph.nodes[i].value for x, i in zip(node.arguments, node.inputs, strict=True)}
            space = {**vars(np), **{n: plain_of(n) for n in ("sigmoid", "erfc")}, **vars(node.op), **values}
            code = compile(ast.fix_missing_locations(ast.Expression(local(tree))), "local", "eval")
            got = np.broadcast_to(eval(code, {**space, "out": node.value}), node.shape)
            np.testing.assert_allclose(got, np.broadcast_to(derivative, node.shape), rtol=1e-6, atol=1e-12)


def plain_of(name: str) -> Any:
    return lambda x: getattr(mg, name)(x).data


@every_op
@few
@given(data=st.data())
def test_what_an_op_computes_is_what_its_formula_says(op: type[Op], data: st.DataObject) -> None:
    graph = traced(data.draw(calls(op, empty=False)))
    for node in graph.nodes:
        if node.op is None or isinstance(tree := computes(node.op, node.parameters), ast.Call):
            continue
        values = {x: graph.nodes[i].value for x, i in zip(node.arguments, node.inputs, strict=True)}
        ours = {n: plain_of(n) for n in ("sigmoid", "erf", "softmax")}
        space = {**vars(np), **ours, "max": np.maximum, "min": np.minimum, **vars(node.op), **values}
        got = eval(compile(ast.fix_missing_locations(ast.Expression(tree)), "formula", "eval"), space)
        np.testing.assert_allclose(got, node.value, rtol=1e-6, atol=1e-9)


# Ops of which a call is long, or whose parameters are not those of the public function
LONG = {
    *("avg_pool2d", "max_pool2d", "conv2d", "conv2d_weight", "conv_transpose2d", "concatenate", "einsum", "pad"),
    *("scaled_dot_product_attention", "take_along_axis", "scatter", "setitem", "softmax_cross_entropy"),
}


def evaluated(shown: str, node: GraphNode, values: dict[str, Any]) -> Any:
    """A printed side of a formula as NumPy and minigrad compute it."""
    fields = {key: value for key, value in vars(node.op).items() if key != "dtype"}
    space = {**vars(np), **{op.name: op.function for op in OPS}, **values, **fields}
    code = re.sub(r"\b(max|min)(?=\(x, [0y]\))", r"\1imum", shown.replace("×", "*"))
    got = eval(code, space)
    return got.data if isinstance(got, mg.Tensor) else got


@every_op
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_printed_of_a_node_computes_its_value(op: type[Op], data: st.DataObject) -> None:
    graph = traced(data.draw(calls(op, empty=False)))
    for node in graph.nodes:
        if node.op is None or type(node.op) is not op:
            continue
        symbols = text(forward_formula(graph, node).sides[1])
        if symbols.endswith(", ...)"):
            assert op.name in LONG
            continue
        inputs: list[Any] = [graph.nodes[i].value for i in node.inputs]
        values = {node.op.args[0]: inputs} if node.op.variadic else dict(zip(node.op.args, inputs, strict=True))
        np.testing.assert_allclose(evaluated(symbols, node, values), node.value, rtol=1e-6, atol=1e-9)


@every_op
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_rule_that_is_printed_gives_the_gradient_of_the_right_shape(op: type[Op], data: st.DataObject) -> None:
    graph = traced(data.draw(calls(op, empty=False)))
    for node in graph.nodes:
        if node.op is None or type(node.op) is not op or op.elementwise or op.variadic:
            continue
        for k, edge in enumerate(graph.incoming[node.number]):
            tree, _ = declared(graph, node, k, edge.gradient)
            if tree is None or edge.gradient is None or "one_hot" in text(tree):
                continue
            values = {x: graph.nodes[i].value for x, i in zip(node.arguments, node.inputs, strict=True)}
            with np.errstate(all="ignore"):
                got = evaluated(text(tree), node, {**NUMPY, **values, "out": node.value, "dout": node.gradient})
            assert np.shape(got) == edge.gradient.shape
            np.testing.assert_allclose(got, edge.gradient, rtol=1e-6, atol=1e-9)


def test_options_stand_in_the_equation() -> None:
    x = leaf([[1, 2], [3, 4]], "x")
    told = steps(trace(mg.sum(x, axis=1)))
    assert told[0].formula == "out = sum(x, axis=1) = sum([[1, 2], [3, 4]], axis=1) = [3, 7]"
    assert told[1].formula == "dx = broadcast_to(expand_dims(dout, axis), x.shape) = [[1, 1], [1, 1]]"
    assert "Options: axis=1." in told[0].sentence
    assert "옵션: axis=1." in steps(trace(mg.sum(x, axis=1)), "ko")[0].sentence
    assert "transpose(dout, argsort(axes))" in steps(trace(mg.transpose(x, (1, 0))))[1].formula
    assert "transpose(dout) =" in steps(trace(x.T))[1].formula
    assert steps(trace(x[0, :1]))[0].formula == "out = x[0, :1] = [[1, 2], [3, 4]][0, :1] = [1]"
    assert "Options: index=[0, :1]." in steps(trace(x[0, :1]))[0].sentence
    assert steps(trace(mg.max_pool2d(leaf(np.arange(16.0).reshape(1, 1, 4, 4)), 2)))[0].formula.startswith(
        "out = max_pool2d(x, ...) ="
    )


def test_an_argument_that_was_not_given_is_not_told() -> None:
    logits = leaf([[0.5, 1.0]], "logits")
    step = steps(trace(mg.softmax_cross_entropy(logits, np.array([0]))))[0]
    assert step.formula.startswith("out = softmax_cross_entropy(logits, labels, axis=1) =")
    assert "weight" not in step.sentence
    step = steps(trace(mg.linear(logits, leaf(np.ones((3, 2)), "W"))))[0]
    assert "x @ W.T + b" in step.formula
    assert "b = 0" in step.sentence


def test_a_rule_for_matrices_is_not_said_of_more_axes() -> None:
    with record():
        out = mg.linear(leaf(np.ones((4, 5, 3)), "x"), leaf(np.ones((8, 3)), "W"), leaf(np.ones(8), "b"))
    assert steps(trace(out))[1].formula.splitlines()[1:] == ["dW: (8, 3)", "db: (8,)"]
    assert r"\frac{\partial L}{\partial W}: \quad \mathrm{(8, 3)}" in explain(out, format="latex")


def test_a_gradient_that_rounding_made_keeps_its_rule() -> None:
    told = steps(trace(mg.softmax(leaf([[0.3, 2.9, 4.0]]))))
    assert told[1].formula.startswith("dx = out × (dout - sum(dout × out, axis, keepdims=True))")


@pytest.mark.parametrize(
    "declared_text",
    [
        "open('/nowhere')",
        "dout.tofile('/nowhere/at/all')",
        "().__class__",
        "1 / 0",
        "(" * 500,
        "load('/nowhere')",
        "x" * 9,
    ],
)
def test_a_users_formula_is_never_run_beyond_what_is_known(declared_text: str) -> None:
    class Own(Op):
        gradients = (declared_text,)

        def forward(self, x: Any) -> Any:
            return x * 2

        def backward(self, dout: Any) -> Any:
            return dout * 2

    shown = steps(trace(Own()(leaf(1, "x"))))[1].formula
    assert shown == ("dx = xxxxxxxxx = 2" if declared_text[0] == "x" else "dx = 2")


def test_a_loop_is_no_formula() -> None:
    step = steps(trace(mg.pad(leaf([1.0, 2.0], "x"), 1)))[1]
    assert step.formula == "dx = [1, 1]"
    assert "The margin is cut off dout again." in step.sentence


def test_numbers_take_the_place_of_names_in_brackets_where_it_matters() -> None:
    def put(expression: str, **values: Any) -> str:
        tree = parse(expression)
        assert tree is not None
        return text(substitute(tree, values))

    assert put("x * y", x=-2.0, y=-3.0) == "-2 × (-3)"
    assert put("x - y", x=1, y=-3.0) == "1 - (-3)"
    assert put("-x", x=-3.0) == "-(-3)"
    assert put("x ** 2", x=-3.0) == "(-3) ** 2"
    assert put("exp(x) + sum", exp=1.0, x=2.0, sum=3.0) == "exp(2) + 3"
    assert put("x / (y * x)", x=1.0, y=2.0) == "1 / (2 × 1)"
    assert put("x @ y.T", x=np.array([[1.0, 2.0]]), y=np.array([[3.0, 4.0]])) == "[[1, 2]] @ [[3, 4]].T"


@pytest.mark.parametrize(
    ("declared_text", "shown"),
    [
        ("dout", "1"),
        ("-dout", "-1"),
        ("dout * y", "y"),
        ("y * dout", "y"),
        ("dout / x", "1 / x"),
        ("-dout * out / y", "-out / y"),
        ("dout * 2 * x", "2 × x"),
        ("dout * out * (1 - out)", "out × (1 - out)"),
        ("dout * (x > 0)", "x > 0"),
        ("-dout * np.sin(x)", "-sin(x)"),
    ],
)
def test_with_dout_1_a_gradient_is_the_local_derivative(declared_text: str, shown: str) -> None:
    tree = parse(declared_text)
    assert tree is not None
    assert text(local(tree)) == shown
    assert names(tree) >= {"dout"}


def test_latex_has_fractions_partial_derivatives_and_powers_of_ten() -> None:
    def shown(expression: str, **values: Any) -> str:
        tree = parse(expression)
        assert tree is not None
        return latex(substitute(tree, values))

    assert shown("dout / x") == r"\frac{\frac{\partial L}{\partial \mathrm{out}}}{x}"
    assert shown("x * y", x=4.2e-18, y=math.inf) == r"4.2 \times 10^{-18} \times \infty"
    assert shown("sqrt(x) ** 2") == r"{\sqrt{x}}^{2}"
    assert shown("x @ W_ih.T") == r"x \, {W_{\mathrm{ih}}}^{\top}"
    assert shown("x > y_1") == r"x > y_{\mathrm{1}}"
    assert shown("x", x=np.array([[1.0, -2.0]])) == r"\left[\begin{array}{rr}1 & -2\end{array}\right]"


def test_what_is_no_expression_has_no_formula() -> None:
    assert parse("x with y at index") is None
    assert gradient(mg.ops.elementwise.Where(), 0) is None


# Steps


def test_the_apple_shop_step_by_step() -> None:
    graph = apple_shop()
    told = steps(graph)
    assert [step.formula for step in told[:4]] == [
        "out = x × y = 100 × 2 = 200",
        "out = x × y = 150 × 3 = 450",
        "out = x + y = 200 + 450 = 650",
        "out = x × y = 650 × 1.1 = 715",
    ]
    assert told[-1].formula == "dx = dout × y = 1.1 × 2 = 2.2\ndy = dout × x = 1.1 × 100 = 110"
    assert [step.direction for step in told] == ["forward"] * 4 + ["backward"] * 4
    assert "x = apple = 100" in told[0].sentence
    assert "Upstream 1.1 times the local derivative y = 2 gives 2.2, which flows down to apple." in told[-1].sentence
    assert told[4].title == "Backward 1 of 4: node 8, multiply (×)"


@every_op
@few
@given(data=st.data())
def test_steps_have_the_graphs_order_edges_and_numbers(op: type[Op], data: st.DataObject) -> None:
    graph = traced(data.draw(calls(op)))
    told = steps(graph, data.draw(st.sampled_from(LANGUAGES)))
    n = sum(node.kind == "op" for node in graph.nodes)
    assert [step.node for step in told[n:]] == list(graph.order)
    assert [step.node for step in told[:n]] == sorted(step.node for step in told[:n])
    for step in told[n:]:
        node = graph.nodes[step.node]
        assert step.upstream is node.gradient
        assert len(step.formula.splitlines()) == len(step.terms)
        for term in step.terms:
            edge = graph.edges[term.edge]
            assert (edge.target, edge.source, edge.argument) == (step.node, term.source, term.argument)
            assert term.gradient is edge.gradient
            assert term.edge in step.edges
            if term.local is not None:
                assert node.gradient is not None
                product = node.gradient * term.local
                np.testing.assert_allclose(
                    unbroadcast(product, term.gradient.shape), term.gradient, rtol=1e-9, atol=1e-12
                )
            if term.gradient.ndim == 0:
                assert number(term.gradient) in numbers_in(term.formula)
                assert number(term.gradient) in numbers_in(step.sentence)
    assert all(step.sentence and step.title for step in told)


def test_gradients_of_several_uses_are_added_with_their_numbers() -> None:
    x = leaf(2, "x")
    said = " ".join(step.sentence for step in steps(trace(x * x + x)))
    assert "Now all 3 gradients of x have arrived, and they are added: 1 + 2 + 2 = 5." in said
    said = steps(trace(x * x))[-1].sentence
    assert "Now both gradients of x have arrived, and they are added: 2 + 2 = 4." in said
    assert "x에 두 개의 미분이 모두 도착했으며, 이를 더합니다: 2 + 2 = 4." in steps(trace(x * x), "ko")[-1].sentence
    told = steps(example())
    assert (
        "Its output was used 2 times, so that the upstream gradient is a sum: 1 + 2.7183 = 3.7183." in told[-1].sentence
    )


def test_a_stretched_argument_is_summed() -> None:
    x, b = leaf([[1, 2], [3, 4]], "x"), leaf([10, 20], "b")
    told = steps(trace((x * b).sum()))
    assert told[-1].formula.splitlines()[1] == "dy = sum(dout × x) = sum([[1, 1], [1, 1]] × [[1, 2], [3, 4]]) = [4, 6]"
    assert "Forward had stretched y from (2,) to (2, 2)" in told[-1].sentence


def test_large_arrays_are_told_by_shape_least_mean_and_largest() -> None:
    x, W = leaf(np.arange(12.0).reshape(3, 4), "x"), leaf(np.ones((4, 5)), "W")
    y = x @ W
    told = steps(trace(y.sum()))
    assert told[0].formula == "out = x @ y,  (3, 4) @ (4, 5) → (3, 5)"
    assert told[-1].formula == "dx = dout @ y.T,  (3, 5) @ (5, 4) → (3, 4)\ndy = x.T @ dout,  (4, 3) @ (3, 5) → (4, 5)"
    assert "x = an array (3, 4) (min 0, mean 5.5, max 11)" in told[0].sentence
    assert "형상이 (3, 4)인 배열(최솟값 0, 평균 5.5, 최댓값 11)" in steps(trace(y.sum()), "ko")[0].sentence


def test_a_formula_that_does_not_hold_here_is_not_shown() -> None:
    x, t = leaf([[0.5, 1.0, 2.0]], "x"), np.array([2])
    mean, weighted = (
        mg.softmax_cross_entropy(x, t, **k) for k in ({}, {"weight": np.array([1.0, 2.0, 3.0]), "reduction": "sum"})
    )
    assert "softmax(logits)" in steps(trace(mean))[-1].formula
    assert "y - t" in steps(trace(mean))[-1].sentence
    assert "softmax(logits)" not in steps(trace(weighted))[-1].formula
    assert "y - t" not in steps(trace(weighted))[-1].sentence
    wide = mg.gelu(leaf(1.0), approximate="tanh")
    assert "erfc" not in steps(trace(wide))[-1].formula
    batched = leaf(np.ones((2, 3, 4))) @ leaf(np.ones((2, 4, 3)))
    assert ".T" not in steps(trace(batched.sum()))[-1].formula


def test_sigmoid_in_the_tail_shows_the_rules_number_and_not_the_formulas() -> None:
    told = steps(trace(mg.sigmoid(leaf(40))))
    assert told[-1].formula == "dx = dout × (out × (1 - out)) = 1 × 4.2484e-18 = 4.2484e-18"


def test_a_users_own_op_is_not_taken_for_ours() -> None:
    class Add(Unary):
        """out = x + x + x"""

        gradients = ("dout * 3",)

        def forward(self, x: Any) -> Any:
            return x + x + x

        def backward(self, dout: Any) -> Any:
            return dout * 3

    x = leaf(2, "x")
    graph = trace(Add()(x))
    told = steps(graph)
    assert told[0].formula == "out = x + x + x = 2 + 2 + 2 = 6"
    assert "adds x and y" not in told[0].sentence
    assert "덧셈" not in steps(graph, "ko")[0].sentence
    assert told[1].formula == "dx = dout × 3 = 1 × 3 = 3"


def test_a_users_formula_may_name_what_only_a_reader_knows() -> None:
    class Half(Unary):
        """half of x"""

        gradients = ("dout * half_of_one",)

        def forward(self, x: Any) -> Any:
            return x / 2

        def backward(self, dout: Any) -> Any:
            return dout / 2

    x = leaf(3, "x")
    told = steps(trace(Half()(x)), "ko")
    assert told[0].formula == "out = half(x) = half(3) = 1.5"
    assert told[1].formula == "dx = dout × half_of_one = 1 × 0.5 = 0.5"
    assert "half(x)의 값을 계산합니다" in told[0].sentence


class Sinc(Op):  # no docstring, no symbol, no formulas
    def forward(self, x: Any) -> Any:
        return np.sinc(x)

    def backward(self, dout: Any, x: Any) -> Any:
        return dout * (np.cos(np.pi * x) - np.sinc(x)) / x


class Product(Op):
    """out = x * y"""

    elementwise = True
    symbol = "⊙"
    gradients = ("dout * y", "dout * x")

    def forward(self, x: Any, y: Any) -> Any:
        return x * y

    def backward(self, dout: Any, x: Any, y: Any) -> Any:
        return dout * y, dout * x


@pytest.mark.parametrize("outside", [True, False], ids=["a user's", "ours"])
def test_an_op_that_no_table_lists_is_explained_by_what_it_declares(
    outside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = leaf(2, "x"), leaf(3, "y")
    for op in (Sinc, Product):
        assert op.name not in {*DOES, *RULES, *NODES}
        monkeypatch.setattr(op, "outside", outside)
    en, ko = explain(Product()(x, y)), explain(Product()(x, y), "ko")
    for said in (en, ko):
        assert "product (⊙)\n\n    out = x × y = 2 × 3 = 6\n" in said
        assert "    dx = dout × y = 1 × 3 = 3\n    dy = dout × x = 1 × 2 = 2\n" in said
    en, ko = " ".join(en.split()), " ".join(ko.split())
    assert "The product node computes x × y. With x = 2, y = 3 the output is 6." in en
    assert "product 노드: x × y의 값을 계산합니다. x = 2, y = 3일 때 출력은 6입니다." in ko
    assert "product keeps x and y, since the derivative is written in them: ∂out/∂x = y, ∂out/∂y = x." in en
    assert "product: x, y를 저장합니다. 미분의 식에 나타나기 때문입니다(∂out/∂x = y, ∂out/∂y = x)." in ko
    en, ko = (" ".join(explain(Sinc()(x * 0.25), lang).split()) for lang in LANGUAGES)
    assert "The sinc node computes sinc(x). With x = node 2 (×) = 0.5 the output is 0.63662." in en
    assert "sinc 노드: sinc(x)의 값을 계산합니다. x = 2번 노드(×) = 0.5일 때 출력은 0.63662입니다." in ko
    assert "What flows down to node 2 (×) is -1.2732." in en
    assert "하류의 2번 노드(×)로 흘러가는 값은 -1.2732입니다." in ko
    assert "sinc keeps x, which its rule uses." in en
    assert "sinc: x를 저장합니다. 역전파의 규칙이 사용하기 때문입니다." in ko


def test_one_input_and_several_without_a_gradient() -> None:
    logits = leaf([[0.5, 1.0]])
    with record():
        plain = trace(mg.softmax_cross_entropy(logits, np.array([0])))
        weighted = trace(mg.softmax_cross_entropy(logits, np.array([0]), weight=np.array([1.0, 2.0])))
    assert "for its input labels." in steps(plain)[-1].sentence
    assert "for its inputs labels and weight." in steps(weighted)[-1].sentence


def test_values_that_nobody_kept_are_said_to_be_unknown() -> None:
    x = leaf([1.0, 2.0], "x")
    graph = trace((x + np.array([5.0, 6.0])).sum())
    assert "Nobody kept the values of y and out: within graph.record() they would be known." in steps(graph)[0].sentence
    assert "y, out의 값은 저장되지 않았습니다" in steps(graph, "ko")[0].sentence
    assert steps(graph)[0].formula == "out = x + y"


def test_an_entry_that_was_not_selected_gets_0_and_the_step_says_why() -> None:
    x = leaf([0.0, 4.0], "x")
    with np.errstate(all="ignore"):
        graph = trace(mg.where([False, True], mg.sqrt(x), 0.0).sum())
        all_selected = trace(mg.sqrt(leaf(0.0)) * 2)
    step = steps(graph)[-1]
    assert step.formula == "dx = dout × (1 / (2 × out)) = [0, 1] × [inf, 0.25] = [0, 0.25]"
    assert "exactly 0 flows to them" in step.sentence
    assert "정확히 0이 흘러갑니다" in steps(graph, "ko")[-1].sentence
    assert "exactly 0" not in steps(all_selected)[-1].sentence


def test_nobody_is_told_of_what_an_explanation_computes_and_no_grad_does_not_hinder_it() -> None:
    class Told(Watcher):
        def called(self, op: Any, *_: Any) -> None:
            pytest.fail(f"told of {op}")

        def before_rule(self, node: Any, dout: Any) -> None:
            pytest.fail(f"told of {node.op}")

    y = mg.sigmoid(leaf(5, "x"))
    said = explain(y)
    with watching(Told()), mg.no_grad(), np.errstate(all="raise"):
        assert explain(y) == said
        assert len(steps(trace(y))) == 2


# Whole explanations


def assert_latex(said: str) -> None:
    """Braces, environments and mathematics are closed, and nothing special stands open."""
    said = re.sub(r"(?m)^%.*$", "", said)
    bare = re.sub(r"\\[\\{}%&#$_]", "", said)
    depth = 0
    for c in bare:
        depth += (c == "{") - (c == "}")
        assert depth >= 0
    assert depth == 0
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", said):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    assert bare.count("$") % 2 == 0
    assert said.count(r"\[ ") == said.count(r" \]")
    outside = re.sub(r"\$[^$]*\$|\\\[ .*? \\\]", "", bare)
    outside = re.sub(r"(?s)\\begin\{tabular\}.*?\\end\{tabular\}", "", outside)
    assert not re.search(r"[_^&%#~<>|\"]", outside), outside
    assert len(re.findall(r"\\left(?![a-z])", said)) == len(re.findall(r"\\right(?![a-z])", said))


@every_op
@settings(max_examples=1, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_op_is_explained_in_every_language_and_form(op: type[Op], data: st.DataObject) -> None:
    graph = traced(data.draw(calls(op, empty=False)))
    words = {word for node in graph.nodes if node.kind == "op" for word in (node.name, *node.keeps)}
    for lang in LANGUAGES:
        for form in FORMATS:
            said = explain(graph, lang, form)
            assert all((latex_escaped(word) if form == "latex" else word) in said for word in words)
            if form == "latex":
                assert_latex(said)
                assert said.isascii() or lang == "ko"


@both
@every_format
@pytest.mark.parametrize("graph", [apple_shop, sigmoid_of_5, two_layers, example], ids=lambda f: f.__name__)
def test_explanations_have_the_graphs_numbers(graph: Any, form: str, lang: str) -> None:
    graph = graph()
    said = explain(graph, lang, form)
    found = numbers_in(said)
    for node in graph.nodes:
        for array in (node.value, node.gradient):
            if array is not None and array.ndim == 0:
                assert number(array) in found
            elif array is not None and array.size > SMALL:
                assert {number(array.min()), number(array.mean()), number(array.max())} <= found
    if form == "latex":
        assert_latex(said)
    if form == "text":
        assert all(columns(line) <= COLUMNS for line in said.splitlines())


def test_every_number_of_an_explanation_is_one_of_the_graphs() -> None:
    graph = apple_shop()
    said = explain(graph).split("Why in this order")[0]
    values = [a for node in graph.nodes for a in (node.value, node.gradient) if a is not None]
    values += [edge.gradient for edge in graph.edges if edge.gradient is not None]
    known = {number(v) for v in values} | {str(i) for i in range(10)}
    assert numbers_in(said) <= known


@both
def test_the_sections_come_in_order(lang: str) -> None:
    said = explain(two_layers(), lang)
    keys = ("forward", "backward", "gradients", "order", "kept", "fused")
    places = [said.index(f"\n{SENTENCES[key][LANGUAGES.index(lang)]}\n---") for key in keys]
    assert places == sorted(places)


def test_what_is_kept_and_why() -> None:
    said = " ".join(explain(trace(mg.log(mg.exp(leaf(1)) * leaf(2)) + 3)).split())
    assert "exp keeps its output, out, since the derivative is written in the output: ∂out/∂x = out." in said
    assert "multiply keeps x and y, since the derivative is written in them: ∂out/∂x = y, ∂out/∂y = x." in said
    assert "log keeps x, since the derivative is written in it: ∂out/∂x = 1 / x." in said
    assert "add keeps nothing: its derivative contains neither its inputs nor its output." in said
    assert "sum keeps only the shape of x" in explain(trace(leaf([1, 2]).sum()))
    said = " ".join(explain(trace(mg.sigmoid(leaf(5)))).split())
    assert (
        "For sigmoid the book keeps the output, in which the derivative can be written: ∂out/∂x = out × (1 - out)."
        in said
    )
    assert "so slope is kept here" in said


def kept(output: mg.Tensor) -> str:
    """What an explanation says that a graph of one op keeps."""
    said = " ".join(explain(output).split("What is kept, and why")[1].split())
    return said.split(" What is kept is released")[0].lstrip("- ")


def test_a_reason_names_what_is_kept_and_nothing_else() -> None:
    x = leaf([[0.5, 1.0, 2.0]], "x")
    assert kept(mg.log_softmax(x)) == "log_softmax keeps x, which its rule uses."
    assert kept(mg.prod(x)) == "prod keeps x, which its rule uses."
    assert kept(mg.relu(x)) == "relu keeps out, which its rule uses."
    assert kept(mg.tanh(x)).startswith("For tanh the book keeps the output")
    assert kept(mg.softplus(x)).startswith("softplus keeps slope, the local derivative itself")
    y = leaf(np.ones(3), "y")
    y_back = (
        "setitem keeps only the shape of y, to which its rule brings dout back: dy = unbroadcast(dout[index], y.shape)."
    )
    assert kept(mg.ops.setitem(x, y, (0, slice(None)))) == y_back


@pytest.mark.parametrize(("op", "nothing"), [("softmax", True), ("sigmoid", False), ("softmax_cross_entropy", False)])
def test_that_nothing_in_between_is_kept_is_said_where_it_is_so(op: str, nothing: bool) -> None:
    arrays = [leaf([[0.5, 1.0, 2.0]]), *([np.array([1])] if "loss" in op or "entropy" in op else [])]
    output = getattr(mg, op)(*arrays)
    assert ("needs nothing of what that graph has in between" in " ".join(explain(output).split())) == nothing
    assert ("그 중간 값들은 저장할 필요가 없습니다" in " ".join(explain(output, "ko").split())) == nothing


def test_a_fused_op_names_the_nodes_that_it_stands_for() -> None:
    said = " ".join(explain(trace(mg.sigmoid(leaf(5)))).split())
    inner = [n for n in trace(unfused.sigmoid(leaf(5))).nodes if n.kind == "op"]
    assert f"Written out it has {len(inner)} nodes: {', '.join(n.symbol for n in inner)}." in said
    assert "minigrad.unfused.sigmoid" in said
    assert "One node for several" not in explain(sigmoid_of_5())


# Depth-first


def test_depth_first_is_wrong_by_the_numbers_that_are_said() -> None:
    x = leaf(2, "x")
    a = x * x
    graph = trace(a + mg.exp(a))
    said = " ".join(explain(graph).split())
    right, wrong = 2 * 2 * (1 + math.exp(4)), 2 * 2 * 1  # a is visited when only the addition has sent its gradient
    assert f"runs the rule of node 1 (×) when only 1 of its gradient {number(1 + math.exp(4))} has arrived" in said
    assert f"the gradient of x comes out as {number(wrong)} in place of {number(right)}" in said
    (a + mg.exp(a)).backward()
    assert x.grad == pytest.approx(right)


def recursive(graph: Graph, order: str) -> dict[int, Any]:
    """Depth-first as it is usually written, with recursion: the gradients of all leaves."""
    rules = {
        "add": lambda g, x, y: (g, g),
        "multiply": lambda g, x, y: (g * y, g * x),
        "exp": lambda g, x: (g * math.exp(x),),
    }
    found: dict[int, Any] = {graph.output: 1.0}
    seen: set[int] = set()

    def visit(n: int) -> None:
        node = graph.nodes[n]
        if node.kind != "op" or n in seen:
            return
        seen.add(n)
        values = [float(graph.nodes[i].value) for i in node.inputs]  # type: ignore[arg-type]  # known in these graphs
        for i, g in zip(node.inputs, rules[node.name](found[n], *values), strict=True):
            found[i] = found.get(i, 0.0) + g
        for i in node.inputs[:: 1 if order == "first" else -1]:
            visit(i)

    visit(graph.output)
    return {n: g for n, g in found.items() if graph.nodes[n].kind == "leaf"}


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("swapped", [False, True])
def test_depth_first_is_what_recursion_would_do(order: str, swapped: bool) -> None:
    x, y = leaf(0.5), leaf(2)
    a = x * y
    b = mg.exp(a) * a if swapped else a * mg.exp(a)
    graph = trace(b + a * x)
    walked = depth_first(graph, last_first=order == "last")
    assert walked is not None
    for n, g in recursive(graph, order).items():
        assert walked[1][n] == pytest.approx(g)


def test_where_one_depth_first_order_is_right_the_other_is_shown() -> None:
    a = leaf(0.5) * 3.0
    graph = trace(mg.exp(a) * a)  # first input first: exp sends its part before a is visited
    found = counterexample(graph)
    assert found is not None
    assert graph.nodes[found.leaf].gradient != pytest.approx(found.wrong)


def test_without_a_meeting_the_small_example_is_told() -> None:
    assert counterexample(apple_shop()) is None
    x = leaf(3, "x")
    assert counterexample(trace(x * x)) is None  # both uses in one op: nothing can be too early
    said = " ".join(explain(apple_shop()).split())
    assert "y = a + exp(a) with a = x × x, here at x = 1" in said
    assert f"comes out as 2 in place of {number(2 * (1 + math.e))}" in said


def test_a_graph_with_nan_is_no_counterexample() -> None:
    x = leaf(-1.0)
    with np.errstate(invalid="ignore"):
        a = mg.log(x)
        graph = trace(a + mg.exp(a))
    assert counterexample(graph) is None


# Forms


@both
@every_format
def test_hostile_names_stay_text(form: str, lang: str) -> None:
    x = leaf([1.0, 2.0], HOSTILE)
    braces = leaf(3.0, "{n}{0}")
    y = x * braces + 1.0
    graph = trace(y.sum(), {HOSTILE: y, "`": x})
    said = explain(trace((x * 2.0).sum()), lang, form) + explain(graph, lang, form)
    assert "\x1b" not in said
    assert "{n}{0}" in said or form == "latex"
    if form == "latex":
        assert_latex(said)
        assert r"\textbackslash{}end\{document\} 50\% \& \$x\$" in said
    if form == "markdown":
        markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
        shown = markdown.render(said)
        assert "<script" not in shown
        assert "<strong>" not in shown
        assert "<a " not in shown
        assert "&lt;script&gt;" in shown


def test_code_in_markdown_is_fenced_by_more_backticks_than_it_has() -> None:
    assert to_markdown([(Code("a``b"),)]).strip() == "```a``b```"
    assert to_markdown([(Code("`a"),)]).strip() == "`` `a ``"
    assert to_markdown([("1 * 2 <b>",)]).strip() == r"1 \* 2 \<b\>"


def test_a_table_is_aligned_and_its_bars_are_escaped() -> None:
    table = Table([[("이름",), ("x",)], [(Code("|a|"),), ("2",)]])
    lines = to_text([table]).splitlines()
    assert lines[0] == "이름  x"
    assert lines[2] == "|a|   2"
    assert r"| `\|a\|` | 2 |" in to_markdown([table])
    assert r"\texttt{\textbar{}a\textbar{}} & 2 \\" in to_latex([table], ())


def test_lines_are_at_most_as_wide_as_promised_also_with_wide_letters() -> None:
    said = to_text([("역전파는 상류에서 흘러온 미분에 국소적 미분을 곱합니다. " * 9,), ("words " * 60,)])
    assert max(map(columns, said.splitlines())) <= COLUMNS


@both
def test_no_line_breaks_within_an_equation_or_a_nodes_name(lang: str) -> None:
    for graph in (apple_shop(), sigmoid_of_5(), two_layers()):
        for line in explain(graph, lang).splitlines():
            assert not re.search(r"\w [=/×]$|\bnode$|\d번$", line), line
            assert not re.match(r" *([=/×] |\(\W\)|노드\()", line), line


def test_where_ties_make_a_line_too_long_it_breaks_all_the_same() -> None:
    x, y = leaf(np.arange(4.0) * np.pi, "a name that is long, though not too long"), leaf(np.full(4, np.e), "b" * 40)
    assert max(map(columns, explain(x * y + 1).splitlines())) <= COLUMNS
    assert max(map(columns, to_text([(" = ".join(["x" * 9] * 30),)]).splitlines())) <= COLUMNS


def test_one_op_is_no_order() -> None:
    x = leaf(5, "x")
    assert "here there is only 1 (sigmoid). So" in " ".join(explain(mg.sigmoid(x)).split())
    assert "여기서는 1 (sigmoid) 하나뿐입니다. 따라서" in " ".join(explain(mg.sigmoid(x), "ko").split())


def test_latex_says_what_it_needs() -> None:
    assert "kotex" in explain(apple_shop(), "ko", "latex").splitlines()[0]
    assert "kotex" not in explain(apple_shop(), "en", "latex")


# Bad input and odd graphs


@pytest.mark.parametrize("lang", ["de", "", "EN", None, 3])
def test_another_language_is_refused(lang: Any) -> None:
    with pytest.raises(mg.ArgumentError, match='"en" or "ko"'):
        explain(apple_shop(), lang)


@pytest.mark.parametrize("form", ["html", "", None, "LaTeX"])
def test_another_format_is_refused(form: Any) -> None:
    with pytest.raises(mg.ArgumentError, match='"text", "markdown" or "latex"'):
        explain(apple_shop(), format=form)


def test_no_graph_is_refused() -> None:
    with pytest.raises(mg.DTypeError, match=r"^graph\.explain: "):
        explain(3.0)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(mg.GraphError, match=r"^graph\.explain: "):
        explain(mg.Tensor(1.0))


@both
def test_a_leaf_alone_has_nothing_to_step_through(lang: str) -> None:
    assert steps(trace(leaf(3, "x")), lang) == []
    assert "3" in explain(leaf(3, "x"), lang)


@both
@every_format
def test_nan_and_inf_are_named_and_where_they_come_from(form: str, lang: str) -> None:
    x = leaf([1.0, -1.0, 0.0], "x")
    with np.errstate(all="ignore"):
        said = explain(mg.log(x).sum(), lang, form)
        assert "nan" in said
        assert "inf" in said or r"\infty" in said
        large = explain((mg.log(leaf(np.linspace(-1, 1, 50))) * 2).sum(), lang, form)
    assert "nan" in large
    if form == "text":
        first = SENTENCES["not finite"][LANGUAGES.index(lang)].split("{node}")[0].strip()
        assert first in " ".join(large.split())


def test_a_gradient_that_is_not_finite_is_traced_to_its_rule() -> None:
    with np.errstate(all="ignore"):
        said = " ".join(explain(mg.sqrt(leaf(0.0, "x")) * 2).split())
    assert "the first gradient that is not finite (nan or inf) comes out of the rule of node 1 (√)" in said


@both
def test_odd_arrays(lang: str) -> None:
    for value in (np.zeros((0, 3)), np.float16(2), np.ones((2, 0))):
        x = mg.Tensor(value, requires_grad=True, name="x")
        for form in FORMATS:
            assert explain((x * x).sum(), lang, form)
    condition = np.arange(20) > 3
    with record():
        y = mg.where(condition, leaf(np.ones(20)), 0.0)
    assert "(20,)" in explain(y, lang)
    assert ("all 1" if lang == "en" else "모든 원소가 1인") in explain(y, lang)


def test_several_values_are_said_to_be_seeded_with_ones() -> None:
    assert "several values" in explain(leaf([1, 2]) * 2)
    assert "several values" not in explain(leaf(1) * 2)


def test_a_graph_without_gradients_is_explained_forward() -> None:
    said = explain(trace(leaf(2, "x") * 3, gradients=False))
    assert "out = x × y = 2 × 3 = 6" in said
    assert "only forward can be explained" in said


def test_recorded_lines_and_parameters_are_told() -> None:
    with record():
        y = leaf(np.ones((2, 3))).sum(axis=1).sum()
    said = " ".join(explain(y).split())
    assert "Options: axis=1." in said
    assert "of test_graph_explain.py" in said


def test_a_long_graph_is_told_in_part_and_says_so() -> None:
    y = leaf(1, "x")
    for _ in range(61):
        y = y * 1.0
    for lang, words in (
        ("en", "Only the first 20 of 61 steps are told."),
        ("ko", "전체 61단계 가운데 처음 20단계만 설명합니다."),
    ):
        said = explain(y, lang)
        assert words in said
        assert "41" in said
    y = leaf(1, "x")
    for _ in range(60):
        y = y * 1.0
    assert "Only the first" not in explain(y)


def test_a_very_long_graph_needs_no_recursion() -> None:
    y = leaf(1.0)
    for i in range(5_000):
        y = y * 1.0 if i % 3 else y + mg.exp(-y)
    limit = sys.getrecursionlimit()
    graph = trace(y)
    sys.setrecursionlimit(300)
    try:
        said = explain(graph)
    finally:
        sys.setrecursionlimit(limit)
    assert len(said) < 20_000
    assert "best on a small graph" in said


def test_a_model_is_explained_by_its_parameters_names() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with record():
        loss = mg.mean(model(np.ones((4, 2))))
    said = explain(trace(loss, model))
    assert "0.weight" in said
    assert "2.bias" in said
    assert "It belongs to the module Sequential > 1: ReLU." in " ".join(said.split())


def test_explaining_changes_nothing() -> None:
    x = leaf([1.0, 2.0], "x")
    y = mg.exp(x).sum()
    for form in FORMATS:
        explain(y, "ko", form)
    assert x.grad is None
    y.backward()
    np.testing.assert_allclose(x.grad, np.exp([1.0, 2.0]))


def test_sentences_are_filled_with_pieces() -> None:
    assert say("node", "en", n=3, symbol="×") == ("node ", "3", " (", Code("×"), ")")
