"""detect_anomaly and trace_nonfinite: the first op that makes a nan or an infinity, and nothing else, is blamed."""

from __future__ import annotations

import asyncio
import pickle
import re
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_selected import REPORTED

import minigrad as mg
from minigrad import Tensor, func, graph, nn, no_grad, optim
from minigrad.debug import AnomalyError, NonfiniteReport, detect_anomaly, guard_saved, trace_nonfinite
from minigrad.debug.report import all_finite, fresh
from minigrad.errors import ArgumentError, DTypeError, GraphError, InPlaceError, MinigradError
from minigrad.op import Op, registry
from minigrad.ops.elementwise import Add
from minigrad.testing.calls import calls
from minigrad.watch import watched, watchers

RNG = np.random.default_rng(0)
ALIVE: list[Tensor] = []  # leaves, as a program keeps them: their values are known to their tensors alone


def leaf(*values: Any, name: str | None = None, dtype: Any = float) -> Tensor:
    ALIVE.append(Tensor(np.array(values, dtype), requires_grad=True, name=name))
    return ALIVE[-1]


def anomaly(f: Callable[[], Any], **options: Any) -> AnomalyError:
    with pytest.raises(AnomalyError) as caught, detect_anomaly(**options):
        f()
    return caught.value


@pytest.fixture(autouse=True)
def nobody_watches_afterwards() -> Iterator[None]:
    modes = np.geterr()
    yield
    ALIVE.clear()
    assert watched == []
    assert watchers.get() == ()
    assert np.geterr() == modes


# Forward: each case makes one anomaly: (computation, op, index, value, words of the fix)


def log_of_softmax() -> Any:
    return mg.log(mg.softmax(leaf([1000.0, 0.0, 0.0])))


FORWARD: list[tuple[Callable[[], Any], str, tuple[int, ...], float, str]] = [
    (log_of_softmax, "log", (0, 1), -np.inf, "use log_softmax(x) in place of log(softmax(x))"),
    (lambda: mg.log(mg.sigmoid(leaf(0.0, -1000.0))), "log", (1,), -np.inf, "log_sigmoid"),
    (lambda: mg.log(leaf(1.0, 0.0)), "log", (1,), -np.inf, "clip(x, 1e-12)"),
    (lambda: mg.log(leaf(1.0, -1.0)), "log", (1,), np.nan, "clip(x, 1e-12)"),
    (lambda: mg.log1p(leaf(-1.0)), "log1p", (0,), -np.inf, "above -1"),
    (lambda: mg.sqrt(leaf(4.0, -4.0)), "sqrt", (1,), np.nan, "sqrt(clip(x, 0) + 1e-12)"),
    (lambda: leaf(1.0, 0.0) / leaf(0.0, 0.0), "divide", (0,), np.inf, "keep y away from 0"),
    (lambda: leaf(0.0) / leaf(0.0), "divide", (0,), np.nan, "keep y away from 0"),
    (lambda: leaf(1e300) / leaf(1e-300), "divide", (0,), np.inf, "scale the operands down"),
    (lambda: leaf(0.0) ** -1.0, "power", (0,), np.inf, "keep x above 0"),
    (lambda: leaf(-1.0) ** 0.5, "power", (0,), np.nan, "keep x above 0"),
    (lambda: mg.exp(leaf(1.0, 800.0)), "exp", (1,), np.inf, "logsumexp"),
    (lambda: mg.arcsin(leaf(2.0)), "arcsin", (0,), np.nan, "clip(x, -1 + 1e-12, 1 - 1e-12)"),
    (lambda: leaf(1e200) * leaf(1e200), "multiply", (0,), np.inf, "scale the operands down"),
    (lambda: leaf(3e38, dtype=np.float32) * 2, "multiply", (0,), np.inf, "compute in float64"),
    (lambda: leaf([1e200, 1e200]) @ leaf([1e200], [1e200]), "matmul", (0, 0), np.inf, "scale the operands down"),
    (lambda: leaf(1e300).astype(np.float32), "astype", (0,), np.inf, "wider dtype"),
    (lambda: leaf(1e308, 1e308).sum(), "sum", (), np.inf, "scale the operands down"),
    (lambda: mg.softmax(leaf([0.0, 1.0]) + np.array([-np.inf, -np.inf])), "softmax", (0, 0), np.nan, "above -inf"),
    (lambda: leaf(np.inf) - leaf(np.inf), "subtract", (0,), np.nan, "infinity among the operands"),
    (lambda: leaf(0.0) * leaf(np.inf), "multiply", (0,), np.nan, "infinity among the operands"),
    (lambda: mg.log(leaf(np.nan, 1.0, 0.0)), "log", (2,), -np.inf, "clip(x, 1e-12)"),
]


@pytest.mark.parametrize(("f", "op", "index", "value", "fix"), FORWARD)
def test_a_forward_op_is_named_with_index_value_and_fix(
    f: Callable[[], Any], op: str, index: tuple[int, ...], value: float, fix: str
) -> None:
    for context in no_grad, mg.enable_grad:
        with context():
            error = anomaly(f)
        report = error.report
        assert error.function == report.origin.name or error.function.startswith(f"{op}(")
        assert (report.origin.name, report.direction, report.index) == (op, "forward", index)
        assert report.value == value or (np.isnan(report.value) and np.isnan(value))
        assert fix in error.fix
        assert report.origin.line.file == __file__


FIXED: list[Callable[[], Any]] = [
    lambda: mg.log_softmax(leaf([1000.0, 0.0, 0.0])),
    lambda: mg.log_sigmoid(leaf(0.0, -1000.0)),
    lambda: mg.log(mg.clip(leaf(1.0, 0.0, -1.0), 1e-12)),
    lambda: mg.log1p(mg.clip(leaf(-1.0), -1 + 1e-12)),
    lambda: mg.sqrt(mg.clip(leaf(4.0, -4.0), 0) + 1e-12),
    lambda: mg.norm(leaf(0.0, 0.0)),
    lambda: leaf(1.0, 0.0) / (leaf(0.0, 0.0) + 1e-12),
    lambda: mg.where((y := leaf(0.0, 2.0)) != 0, leaf(1.0, 1.0) / mg.where(y != 0, y, 1), 0),
    lambda: mg.clip(leaf(0.0, -1.0), 1e-12) ** 0.5,
    lambda: mg.logsumexp(leaf(1.0, 800.0)),
    lambda: mg.exp((x := leaf(1.0, 800.0)) - mg.max(x)),
    lambda: mg.arcsin(mg.clip(leaf(2.0, -1.0), -1 + 1e-12, 1 - 1e-12)),
    lambda: mg.arccos(mg.clip(leaf(2.0, -1.0), -1 + 1e-12, 1 - 1e-12)),
    lambda: (leaf(0.0, 4.0) + 1e-12) ** 0.5,
    lambda: mg.sqrt(leaf(0.0, 4.0) + 1e-12),
    lambda: leaf(3e38, dtype=np.float32).astype(np.float64) * 2,
    lambda: mg.softmax(leaf([0.0, 1.0]) + np.array([-np.inf, 0.0])),
]


@pytest.mark.parametrize("f", FIXED)
def test_what_the_fixes_say_makes_no_anomaly_forward_or_backward(f: Callable[[], Any]) -> None:
    with detect_anomaly():
        f().sum().backward()


EDGES: list[tuple[str, str, Any]] = [  # op, its call, values at which it or its rule has none
    ("log", "log(x)", [0.0, 1.0]),
    ("log1p", "log1p(x)", [-1.0, 0.0]),
    ("sqrt", "sqrt(x)", [-1.0, 0.0, 4.0]),
    ("sqrt", "sqrt(x)", [0.0, 4.0]),
    ("divide", "1 / x", [0.0, 1.0]),
    ("power", "x ** -1", [0.0, 1.0]),
    ("power", "x ** -3.5", [0.0, 1.0]),
    ("power", "x ** -20.0", [0.0, 1.0]),
    ("power", "x ** 0.5", [0.0, 1.0]),
    ("arcsin", "arcsin(x)", [1.0, -1.0]),
    ("arcsin", "arcsin(x)", [2.0, -2.0]),
    ("arccos", "arccos(x)", [1.0, -1.0]),
    ("arccos", "arccos(x)", [2.0, -2.0]),
]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("op", "call", "values"), EDGES)
def test_the_code_in_a_fix_is_one_in_every_dtype(op: str, call: str, values: Any, dtype: Any) -> None:
    names = {name: getattr(mg, name) for name in ("log", "log1p", "sqrt", "arcsin", "arccos", "clip", "where", "norm")}

    def run(code: str, **variables: Any) -> None:
        eval(code, names | variables).sum().backward()

    x = leaf(*values, dtype=dtype)
    error = anomaly(lambda: run(call, x=x))
    assert error.report.origin.name == op
    codes = re.findall(
        r"log\(clip.+?\)\)|\w+\(clip\(x.*?\)(?: \+ [^)]*)?\)|sqrt\(x \+ .*?\)|clip.* y|.x \+.* y|x / .*?\)|where.*",
        error.fix,
    )
    assert codes, error.fix
    for code in codes:
        with detect_anomaly():
            exponent = call.partition("**")[2]
            if op == "divide":
                run(code, x=Tensor(np.ones(2, dtype)), y=leaf(*values, dtype=dtype))
            else:
                run(code, x=leaf(*values, dtype=dtype), y=float(exponent or 1))


PROBABILITIES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda x: mg.log(mg.softmax(x)[np.arange(1), [1]]), "softmax_cross_entropy(x, t)"),
    (lambda x: mg.log(mg.sum(mg.softmax(x) * np.array([0, 1, 0]), axis=1)), "softmax_cross_entropy(x, t)"),
    (lambda x: mg.log(mg.softmax(x).reshape(3)), "softmax_cross_entropy(x, t)"),
    (lambda x: mg.log(1 - mg.sigmoid(x)), "sigmoid_binary_cross_entropy(x, t)"),
    (lambda x: mg.log(mg.exp(x - 1000.0) / mg.sum(mg.exp(x - 1000.0))), "use log_softmax(x)"),
]


@pytest.mark.parametrize(("f", "fix"), PROBABILITIES)
def test_the_logarithm_of_a_probability_is_never_clipped(f: Callable[[Any], Any], fix: str) -> None:
    x = leaf([1000.0, 0.0, 0.0])
    for context in no_grad, mg.enable_grad:
        with context():
            error = anomaly(lambda: f(x))
        assert error.function == "log"
        assert fix in error.fix
        assert "clip" not in error.fix
    assert fix in trace_nonfinite(quietly(lambda: f(x).sum())).fix


def test_a_probability_in_a_hidden_layer_is_not_what_the_logarithm_is_of() -> None:
    W = leaf(*np.zeros((3, 2)))
    assert "clip(x, 1e-12)" in anomaly(lambda: mg.log(mg.softmax(leaf([1.0, 2.0, 3.0])) @ W)).fix


def test_an_op_of_the_users_own_with_the_name_of_one_of_the_packages() -> None:
    class Log(Op):
        """out = log(x)"""

        elementwise = True

        def forward(self, x: Any) -> Any:
            return np.log(x)

        def backward(self, dout: Any, x: Any) -> Any:
            return dout / x

    for function in anomaly(lambda: Log()(leaf(0.0))), anomaly(lambda: Log()(leaf(0.0)), allow=["log"]):
        assert function.fix == "look at what forward of Log does with such values"
    assert anomaly(lambda: mg.log(leaf(0.0)), allow=[Log]).function == "log"
    with detect_anomaly(allow=[Log]):
        Log()(leaf(0.0))

    class Softmax(Op):
        """out = x"""

        def forward(self, x: Any) -> Any:
            return x * 1

        def backward(self, dout: Any) -> Any:
            return dout

    assert "log_softmax" not in anomaly(lambda: mg.log(Softmax()(leaf(0.0)))).fix


def test_a_fix_for_weights_that_have_become_too_large() -> None:
    W = leaf([1e200, 1e200], name="W")
    for f in lambda: ((np.ones((1, 2)) @ W.T) ** 2).sum(), lambda: mg.exp(W * 1).sum():
        for report in anomaly(f).report, trace_nonfinite(quietly(f)):
            assert "W reaches 1e200" in report.fix
            assert "smaller learning rate" in report.fix
    assert "; a leaf of shape (1,) reaches 1e200" in anomaly(lambda: leaf(1e200) * 1e200).fix
    assert "learning rate" not in anomaly(lambda: mg.exp(leaf(800.0))).fix


def test_the_message_says_line_ranges_and_what_led_there() -> None:
    z = leaf([1000.0, 0.0, 0.0], name="z")

    def loss() -> Any:
        p = mg.softmax(z * 1)
        return -mg.log(p).sum()

    text = str(anomaly(loss))
    line = loss.__code__.co_firstlineno
    assert text.split("\n")[1:] == [
        f"  called at {__file__}:{line + 2}, in loss: return -mg.log(p).sum()",
        "  out: float64 (1, 3), 0, of 3 values 2 infinite",
        "  x: float64 (1, 3), 0 to 1, all finite",
        "  which came from",
        f"    softmax -> (1, 3), {__file__}:{line + 1}, in loss: p = mg.softmax(z * 1)",
        f"    multiply -> (1, 3), {__file__}:{line + 1}, in loss: p = mg.softmax(z * 1)",
    ]
    assert text.startswith(
        "log: it made -inf of finite values: out[0, 1], where x = 0; expected finite values; use log_"
    )


def test_the_tracebacks_last_line_of_the_user_is_the_one_that_called_the_op() -> None:
    def bad(x: Any) -> Any:
        return np.log(x)  # NumPy's own function, which answers for Tensors

    error = anomaly(lambda: nn.Sequential(nn.ReLU(), bad if isinstance(bad, nn.Module) else nn.ReLU())(bad(leaf(0.0))))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == __file__]
    assert (frames[-1].name, frames[-1].lineno) == ("bad", bad.__code__.co_firstlineno + 1)
    assert error.report.origin.line[1:] == (frames[-1].lineno, "bad")


def test_the_chain_is_of_the_operand_that_is_to_blame() -> None:
    x, y = leaf(1.0), leaf(1.0)
    error = anomaly(lambda: mg.exp(x) / mg.square(y - 1))
    assert [step.name for step in error.report.chain] == ["square", "subtract"]
    assert error.report.at == {"x": np.e, "y": 0.0}


def test_a_long_chain_is_cut_and_does_not_grow_without_recording() -> None:
    for context in no_grad, mg.enable_grad:
        with context(), detect_anomaly():
            x = leaf(1.0)
            for _ in range(50):
                x = x * 1
            with pytest.raises(AnomalyError) as caught:
                mg.log(x - 1)
        assert [step.name for step in caught.value.report.chain] == ["subtract", *["multiply"] * 5]


def test_what_is_noted_goes_with_tensors_and_walks() -> None:
    x, y = leaf(1.0), leaf(2.0)
    with detect_anomaly():
        (detector,) = watchers.get()
        with no_grad():
            z = x
            for _ in range(50):
                z = z * 1
        assert [len(chain) for _, chain in detector.made.values()] == [6]
        del z
        assert detector.made == {}
        for _ in range(5):
            mg.grad((x * 1) + (y * 1), x)  # the walk does not go on to y
        assert len(detector.reached) <= 3


def test_a_write_in_place_is_part_of_the_chain_and_does_not_happen_where_it_fails() -> None:
    def computed() -> None:
        x = leaf(1.0) * 1
        x -= 1
        1 / x

    assert [step.name for step in anomaly(computed).report.chain] == ["subtract", "multiply"]
    x = Tensor([1e300])
    with pytest.raises(AnomalyError), detect_anomaly():
        x *= 1e300
    assert x.tolist() == [1e300]


def test_names_of_tensors_and_parameters_of_ops_are_told() -> None:
    error = anomaly(lambda: mg.sum(leaf([1e308, 1e308], name="weights"), axis=1))
    assert error.function == "sum(axis=1)"
    assert error.report.operands[0].name == "x (weights)"


def test_an_op_with_a_large_parameter_is_told_of_briefly() -> None:
    index = np.arange(1000)
    error = anomaly(lambda: mg.log(leaf(*np.zeros(1000))[index]))
    assert len(error.report.chain[0].text) <= 60


class LogLayer(nn.Module):
    def forward(self, x: Any) -> Any:
        return mg.log(x)


def test_a_module_is_named_by_its_path() -> None:
    error = anomaly(lambda: nn.Sequential(nn.ReLU(), LogLayer())(leaf(-1.0)))
    assert error.function.startswith("Sequential.1, a LogLayer")
    assert error.report.origin.line.function == "forward"
    assert [step.name for step in error.report.chain] == ["relu"]


# Backward


BACKWARD: list[tuple[Callable[[], Any], str, tuple[int, ...], str]] = [
    (lambda: mg.sqrt(leaf(4.0, 0.0)), "sqrt", (1,), "norm"),
    (lambda: leaf(0.0, 4.0) ** 0.5, "power", (0,), "(x + 1e-12) ** y"),
    (lambda: mg.arcsin(leaf(0.5, 1.0)), "arcsin", (1,), "1 - 1e-12"),
    (lambda: leaf(1e-200) / leaf(1e-200), "divide", (0,), "scale the operands down"),
    (lambda: leaf(1e-300) * 1e200 * 1e150, "multiply", (0,), "scale the operands down"),
]


@pytest.mark.parametrize(("f", "op", "index", "fix"), BACKWARD)
def test_a_rule_is_named_with_the_line_that_recorded_the_op(
    f: Callable[[], Any], op: str, index: tuple[int, ...], fix: str
) -> None:
    def backward() -> None:
        f().sum().backward()

    if f is BACKWARD[3][0]:  # the first gradient, 1e200, is finite; the second, -1e200, too: dout makes it more

        def backward() -> None:
            (f() * 1e200).sum().backward()

    error = anomaly(backward)
    assert error.function == f"{op}.backward"
    assert (error.report.direction, error.report.index) == ("backward", index)
    assert fix in error.fix
    assert error.report.origin.line == (__file__, f.__code__.co_firstlineno, "<lambda>")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
    assert frames[-1].name == "backward"


def test_the_gradients_way_is_told_and_no_grad_is_touched() -> None:
    x, w = leaf(4.0, 0.0), leaf(1.0, 1.0)
    w.grad = [5.0, 5.0]
    error = anomaly(lambda: mg.mean(mg.sqrt(x) * w).backward())
    assert [step.name for step in error.report.chain] == ["multiply", "mean"]
    assert error.report.at == {"dout": 0.5, "out": 0.0}
    assert x.grad is None
    assert w.grad is not None
    assert w.grad.tolist() == [5.0, 5.0]


def test_the_gradients_of_several_uses_that_add_up_to_an_infinity() -> None:
    x = leaf(1.0, dtype=np.float16) * 1
    error = anomaly(lambda: (x + x * 1).backward(np.array([6e4], np.float16)))
    assert error.function == "multiply.backward"
    assert "the sum of dout[0]" in error.got


def test_gradients_that_add_up_to_an_infinity_at_a_leaf() -> None:
    b, W = leaf(0.0, 0.0, name="b", dtype=np.float16), leaf(1.0, dtype=np.float32)
    large = np.full((200, 2), 1000, np.float16)
    error = anomaly(lambda: (Tensor(np.ones((200, 2), np.float16)) + b).backward(large))
    assert (error.function, error.report.index) == ("gradient of b", (0,))
    assert error.got == "the sum of dout[0] is inf, and what was added up is finite"
    assert [step.name for step in error.report.chain] == ["add"]
    assert "called at" not in str(error)
    assert b.grad is None
    two_uses = anomaly(lambda: mg.concatenate([W * np.float32(3e38), W * np.float32(3e38)]).backward(np.ones(2)))
    assert two_uses.function == "gradient of a leaf"
    assert [step.name for step in two_uses.report.chain] == ["multiply", "concatenate"]
    with np.errstate(over="ignore"):
        loss = mg.concatenate([W * np.float32(3e38), W * np.float32(3e38)])
        assert trace_nonfinite(loss).function == "gradient of a leaf"
    with detect_anomaly(), np.errstate(over="ignore"):
        W.backward(np.full(1, np.inf, np.float32))  # as it was given


def test_a_walk_that_failed_leaves_nothing_behind() -> None:
    class Raises(Op):
        """out = x, with a rule that raises"""

        def forward(self, x: Any) -> Any:
            return x * 1

        def backward(self, dout: Any) -> Any:
            raise RuntimeError("no rule")

    x = leaf(1.0)
    with detect_anomaly():
        a = x * 1.0
        r = Raises()(x * 1.0)
        root = a * 2.0 + r  # whose rule comes after that of a * 2.0
        with pytest.raises(RuntimeError):
            root.backward(retain_graph=True)
        a.backward(np.array([np.inf]))
    assert x.grad.tolist() == [np.inf]


def test_a_walk_within_a_rule_does_not_forget_the_outer_one() -> None:
    class Walks(Op):
        """out = x, with a rule that walks itself"""

        def forward(self, x: Any) -> Any:
            return x * 1

        def backward(self, dout: Any) -> Any:
            (leaf(1.0) * 2).backward()
            return dout

    x = leaf(1.0, dtype=np.float16)
    error = anomaly(lambda: mg.concatenate([Walks()(x * 1), x * 1]).backward(np.array([6e4, 6e4], np.float16)))
    assert error.function == "gradient of a leaf"


def test_a_gradient_that_the_user_gives_is_no_anomaly() -> None:
    x = leaf(1.0, 2.0)
    with detect_anomaly():
        (x * 2).backward(np.array([np.nan, np.inf]))
    assert np.isnan(x.grad).tolist() == [True, False]


def test_create_graph_and_func_grad_name_the_rule() -> None:
    def wanted() -> Any:
        x = leaf(0.0, 1.0)
        return mg.grad(mg.sqrt(x).sum(), x, create_graph=True)

    assert anomaly(wanted).function == "sqrt.backward"
    assert anomaly(lambda: func.grad(mg.sqrt)(0.0)).function == "sqrt.backward"
    assert anomaly(lambda: func.grad(func.grad(lambda x: x**1.5))(0.0)).function.startswith("power")


def test_the_second_walk_has_lines_of_the_users_file() -> None:
    def wanted() -> Any:
        x = leaf(1e-220)
        (dx,) = mg.grad(mg.sqrt(x), x, create_graph=True)
        return dx.backward()

    error = anomaly(wanted)
    assert error.report.direction == "backward"
    assert {step.line.file for step in (error.report.origin, *error.report.chain)} == {__file__}


def test_after_a_failed_walk_the_detector_goes_on() -> None:
    class Raises(Op):
        """out = x, with a rule that raises"""

        def forward(self, x: Any) -> Any:
            return x * 1

        def backward(self, dout: Any) -> Any:
            raise RuntimeError("no rule")

    with detect_anomaly():
        with pytest.raises(RuntimeError, match="no rule"):
            Raises()(leaf(1.0)).backward()
        (leaf(1.0) * 2).backward()
        with pytest.raises(AnomalyError):
            mg.log(leaf(0.0))


# What is none


def attention(scores: Any) -> Any:
    mask = np.tril(np.ones((3, 3), bool))
    return mg.softmax(mg.where(mask, scores, -np.inf)) @ leaf([1.0], [2.0], [3.0])


def additive(scores: Any) -> Any:
    return mg.softmax(scores + np.where(np.tril(np.ones((3, 3), bool)), 0, -np.inf))


FINE: list[Callable[[], Any]] = [
    lambda: attention(leaf(*RNG.standard_normal((3, 3)))),
    lambda: additive(leaf(*RNG.standard_normal((3, 3)))),
    lambda: mg.max(mg.where(np.array([True, False]), leaf(1.0, 2.0), -np.inf)),
    lambda: mg.logsumexp(mg.where(np.array([True, False]), leaf(1.0, 2.0), np.full(2, -np.inf))),
    lambda: mg.clip(leaf(1.0, 2.0), None, 1.5),
    lambda: mg.exp(leaf(1.0, np.nan)),
    lambda: leaf(1.0, np.inf) * 2,
    lambda: leaf([1.0, np.nan]) @ leaf([1.0], [2.0]),
    lambda: mg.where(np.array([True, False]), leaf(1.0, 2.0), np.nan)[:1],
    lambda: mg.sum(leaf(*np.zeros((0, 3)))),
    lambda: mg.norm(leaf(0.0, 0.0)),
    lambda: leaf(1e300, 1e300) * leaf(1.0, 1e-10),
]


@pytest.mark.parametrize("f", FINE)
def test_infinities_and_nans_that_the_user_put_in_are_no_anomaly(f: Callable[[], Any]) -> None:
    with detect_anomaly(), warnings.catch_warnings():
        out = f()
        out.backward(np.ones(out.shape))


def test_integers_booleans_and_empty_arrays_pass() -> None:
    with detect_anomaly():
        assert mg.add(Tensor([1, 2]), Tensor([3, 4])).tolist() == [4, 6]
        assert mg.multiply(Tensor(np.zeros((0, 2))), 2.0).shape == (0, 2)
        assert (Tensor([True]) * Tensor([2])).tolist() == [2]


@pytest.mark.parametrize("op", list(registry()), ids=lambda op: op.name)
@settings(max_examples=4)
@given(data=st.data())
def test_no_op_raises_a_false_alarm(op: type[Op], data: st.DataObject) -> None:
    call = data.draw(calls(op))
    with detect_anomaly(inputs=True):
        out = call(*[Tensor(a, requires_grad=a.dtype.kind == "f") for a in call.arrays])
        if out.requires_grad:
            out.backward(np.ones(out.shape))


def test_what_where_does_not_select_can_be_allowed() -> None:
    x = leaf(-1.0, 4.0)

    def f() -> None:
        mg.where(x > 0, mg.sqrt(x), 0).sum().backward()

    assert anomaly(f).function == "sqrt"
    with detect_anomaly(allow=["sqrt"]):
        f()
    assert x.grad.tolist() == [0.0, 0.25]
    assert anomaly(lambda: mg.sqrt(leaf(0.0)).backward(), allow=["sqrt"]).function == "sqrt.backward"


def test_inputs_stops_at_nan_in_the_data_and_says_whose() -> None:
    data, W = Tensor([1.0, np.nan], name="data"), leaf(1.0, 2.0)
    error = anomaly(lambda: data * 2 * W, inputs=True)
    assert (error.function, error.report.direction, error.report.index) == ("multiply", "data", (1,))
    assert error.got == "x (data)[1] is nan already, and no op made it"
    with detect_anomaly(inputs=True), no_grad():  # infinities may be masks; what ops have made is not data
        attention(leaf(*RNG.standard_normal((3, 3))))
    for context in no_grad, mg.enable_grad:
        with context(), detect_anomaly(inputs=True, allow=["log"]):
            mg.log(leaf(-1.0)) * 2
    with detect_anomaly():
        assert np.isnan((data * W).tolist()[1])
    W.data[0] = np.nan
    error = anomaly(lambda: W * 2, inputs=True)
    assert "smaller learning rate" in error.fix
    assert error.fix == trace_nonfinite((W * 2).sum()).fix


# Within programs


def test_a_training_loop_runs_as_without() -> None:
    def trained(manager: Any) -> list[Any]:
        generator = np.random.default_rng(3)
        model = nn.Sequential(
            nn.Linear(4, 8, generator=generator), nn.BatchNorm1d(8), nn.Linear(8, 3, generator=generator)
        )
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        x, t = generator.standard_normal((16, 4)), generator.integers(3, size=16)
        with manager:
            for _ in range(5):
                optimizer.zero_grad()
                mg.softmax_cross_entropy(model(x), t).backward()
                optimizer.step()
        return [p.tolist() for p in model.parameters()]

    assert trained(detect_anomaly()) == trained(no_manager())


class no_manager:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...


def test_an_exploding_step_is_found_in_the_next_forward() -> None:
    W = leaf([1e200, 1e200])

    def train() -> None:
        optimizer = optim.SGD([W], lr=1e200)
        for _ in range(3):
            optimizer.zero_grad()
            (W @ np.array([[1.0], [1.0]])).sum().backward()
            optimizer.step()
            (W * W).sum()

    error = anomaly(train)
    assert error.function == "multiply"
    assert error.report.origin.line.function == "train"


def test_numpys_warning_does_not_come_before_the_report_and_stays_elsewhere() -> None:
    events: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anomaly(lambda: mg.log(leaf(0.0)))
        anomaly(lambda: mg.exp(leaf(1000.0)))
        anomaly(lambda: mg.concatenate([leaf(0.0), leaf(1.0)]) / 0)
        with np.errstate(all="raise"):
            anomaly(lambda: mg.sqrt(leaf(-1.0)))
            with pytest.raises(FloatingPointError, match="divide by zero"), detect_anomaly():
                np.log(np.zeros(1))
        with pytest.warns(RuntimeWarning, match="divide by zero") as caught, detect_anomaly(), detect_anomaly():
            np.log(np.zeros(1))
        assert [w.filename for w in caught] == [__file__]
        with np.errstate(divide="ignore"), detect_anomaly(), detect_anomaly():
            np.log(np.zeros(1))
        with np.errstate(divide="call", call=lambda *event: events.append(event)), detect_anomaly(), detect_anomaly():
            np.log(np.zeros(1))
        assert [kind for kind, _ in events] == ["divide by zero"]


def test_an_op_of_the_users_own_with_a_numpy_warning_inside() -> None:
    class OwnLog(Op):
        """out = log(x)"""

        elementwise = True

        def forward(self, x: Any) -> Any:
            return np.log(x)

        def backward(self, dout: Any, x: Any) -> Any:
            return dout / x

    error = anomaly(lambda: OwnLog()(leaf(1.0, 0.0)))
    assert (error.function, error.fix) == ("own_log", "look at what forward of OwnLog does with such values")


def test_an_infinity_that_is_a_parameter_of_an_op_is_a_reason_for_its_results() -> None:
    class Padded(Op):
        """out = x between two fills"""

        fill: float = 0.0

        def forward(self, x: Any) -> Any:
            return np.pad(x, 1, constant_values=self.fill)

        def backward(self, dout: Any) -> Any:
            return dout[1:-1]

    with detect_anomaly():
        out = mg.max(Padded(-np.inf)(leaf(1.0, 2.0)))
        out.backward()
    assert out.item() == 2.0
    with np.errstate(over="ignore"):
        assert fresh(np.array([np.nan]), [np.array([1.0])], Padded(-np.inf)) is not None


def test_a_parameter_is_a_reason_for_entries_equal_to_it_alone() -> None:
    class Filled(Op):
        """out = x"""

        fill: Any = None

        def forward(self, x: Any) -> Any:
            return x * 1

        def backward(self, dout: Any) -> Any:
            return dout

    out = np.array([np.inf, -np.inf, np.nan, 1.0])
    assert fresh(out, [], Filled(np.inf)).tolist() == [False, True, True, False]
    assert fresh(out, [], Filled(np.nan)).tolist() == [True, True, False, False]
    assert fresh(out, [], Filled(np.array([-np.inf, 3.0, np.nan]))).tolist() == [True, False, False, False]
    assert fresh(out, [], Filled(1.0)).tolist() == [True, True, True, False]


def test_decorated_functions_generators_and_coroutines() -> None:
    @detect_anomaly
    def plain(x: Any) -> Any:
        """log"""
        return mg.log(x)

    @detect_anomaly(allow=["log"])
    def allowed(x: Any) -> Any:
        return mg.log(x)

    @detect_anomaly()
    async def later(x: Any) -> Any:
        return mg.log(x)

    assert plain.__doc__ == "log"
    assert plain(leaf(1.0)).tolist() == [0.0]
    assert allowed(Tensor([0.0])).tolist() == [-np.inf]
    for call in lambda: plain(leaf(0.0)), lambda: asyncio.run(later(leaf(0.0))):
        with pytest.raises(AnomalyError):
            call()
    with pytest.raises(DTypeError, match="generator function"):
        detect_anomaly()(lambda: (yield))

    def values() -> Iterator[Any]:
        with detect_anomaly():
            yield leaf(0.0)

    generator = values()
    next(generator)
    generator.close()


def test_other_threads_and_tasks_are_not_watched() -> None:
    results: list[Any] = []

    def quiet() -> None:
        with np.errstate(divide="ignore"):
            results.append(mg.log(leaf(0.0)).tolist())

    async def watching_one(ready: asyncio.Event, done: asyncio.Event) -> None:
        with detect_anomaly():
            ready.set()
            await done.wait()
            with pytest.raises(AnomalyError):
                mg.log(leaf(0.0))

    async def main() -> None:
        ready, done = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(watching_one(ready, done))
        await ready.wait()
        quiet()
        done.set()
        await task

    with detect_anomaly():
        thread = threading.Thread(target=quiet)
        thread.start()
        thread.join()
    asyncio.run(main())
    assert results == [[-np.inf], [-np.inf]]


def test_a_task_that_is_begun_within_is_watched_until_the_block_ends() -> None:
    async def child(go: asyncio.Event) -> str:
        await go.wait()
        try:
            with np.errstate(divide="ignore"):
                mg.log(leaf(0.0))
        except AnomalyError:
            return "watched"
        return "not watched"

    async def main() -> tuple[str, str]:
        now, later = asyncio.Event(), asyncio.Event()
        with detect_anomaly():
            within, outliving = asyncio.create_task(child(now)), asyncio.create_task(child(later))
            now.set()
            first = await within
        later.set()
        return first, await outliving

    assert asyncio.run(main()) == ("watched", "not watched")


def test_blocks_may_end_in_any_order() -> None:
    first, second = detect_anomaly(), detect_anomaly(allow=["log"])
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.log(leaf(0.0))  # allowed, and the other one is over
        with pytest.raises(AnomalyError):
            mg.sqrt(leaf(-1.0))
    second.__exit__(None, None, None)

    def block() -> Iterator[None]:
        with detect_anomaly():
            yield

    generator = block()
    next(generator)
    x = leaf(3.0)
    with guard_saved():
        generator.close()
        y = x * x
        x.data[...] = 1.0
        with pytest.raises(InPlaceError):
            y.backward()


def test_modes_of_numpy_that_stop_nothing_are_left_alone() -> None:
    class Written:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def write(self, message: str) -> None:
            self.lines.append(message)

    log, events = Written(), []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with np.errstate(all="log", call=log), detect_anomaly(allow=["log"]), detect_anomaly(allow=["log"]):
            np.exp(np.array([-1e4]))
            np.log(np.zeros(1))
            mg.log(leaf(0.0))
        assert [line.split()[1] for line in log.lines] == ["underflow", "divide", "divide"]
        with np.errstate(under="call", call=lambda *event: events.append(event)), detect_anomaly():
            np.exp(np.array([-1e4]))
        assert [kind for kind, _ in events] == ["underflow"]
        with np.errstate(under="log", over="warn", call=log), detect_anomaly():
            np.exp(np.array([-1e4]))
        assert len(log.lines) == 4


def test_nested_use_and_one_manager_used_twice() -> None:
    manager = detect_anomaly()
    with manager, manager, pytest.raises(AnomalyError):
        mg.log(leaf(0.0))
    with pytest.raises(ZeroDivisionError), manager:
        1 / 0  # noqa: B018  # raised on purpose
    with detect_anomaly(allow=["log"]), pytest.raises(AnomalyError), detect_anomaly():
        mg.log(leaf(0.0))


def test_an_error_can_be_pickled_and_is_what_numpy_users_catch() -> None:
    error = anomaly(lambda: mg.log(leaf(0.0)))
    assert isinstance(error, (MinigradError, ArithmeticError))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.report.origin == error.report.origin


@pytest.mark.parametrize(
    "call",
    [
        lambda: detect_anomaly(allow="log"),
        lambda: detect_anomaly(allow=[1]),
        lambda: detect_anomaly(allow=None),
        lambda: detect_anomaly(inputs=1),
        lambda: detect_anomaly(True),
        lambda: detect_anomaly("log"),
        lambda: guard_saved(3),
    ],
)
def test_bad_options(call: Callable[[], Any]) -> None:
    with pytest.raises(DTypeError, match=r"^(debug.)?(detect_anomaly|guard_saved): "):
        call()


def test_options_that_are_misspelt_or_without_a_name() -> None:
    for name, near in ("lgo", "'log'"), ("Sqrt", "'sqrt'"), ("softmax_crossentropy", "'softmax_cross_entropy'"):
        with pytest.raises(ArgumentError) as caught:
            detect_anomaly(allow=["log", name])
        assert caught.value.fix == f"write {near}"
    for value, fix in (True, "inputs=True"), ("log", "allow=['log']"):
        with pytest.raises(DTypeError) as wrong:
            detect_anomaly(value)
        assert wrong.value.fix == f"write detect_anomaly({fix})"
    with pytest.raises(TypeError, match="inputs"):
        guard_saved(inputs=True)


def test_an_op_is_put_into_words_only_when_it_is_told_of() -> None:
    class Label:
        def __repr__(self) -> str:
            raise AssertionError("nobody has asked")

    class Labelled(Op):
        """out = x"""

        label: Any = None

        def forward(self, x: Any) -> Any:
            return x * 1

        def backward(self, dout: Any) -> Any:
            return dout

    with detect_anomaly():
        (Labelled(Label())(leaf(1.0)) * 2).backward()
        with no_grad():
            Labelled(Label())(leaf(1.0)) * 2


def test_the_chain_of_an_unrecorded_result_goes_by_the_argument_with_a_history() -> None:
    with no_grad():
        error = anomaly(lambda: mg.log(Tensor([1.0]) - mg.exp(Tensor([0.0]))))
    assert [step.name for step in error.report.chain] == ["subtract", "exp"]


# trace_nonfinite


def quietly(f: Callable[[], Any]) -> Any:
    with np.errstate(all="ignore"):
        return f()


@pytest.mark.parametrize(("f", "op", "index", "value", "fix"), FORWARD)
def test_trace_finds_the_same_as_watching_would_have(  # but for what an op does not keep: softmax keeps out alone
    f: Callable[[], Any], op: str, index: tuple[int, ...], value: float, fix: str
) -> None:
    out = quietly(lambda: f().sum())
    report = trace_nonfinite(out)
    assert report
    assert (report.origin.name, report.direction, report.index) == (op, "forward", index)
    assert (fix if op != "softmax" else "run it again within detect_anomaly(): an operand of it is not") in report.fix


@pytest.mark.parametrize(("f", "op", "index", "fix"), [case for case in BACKWARD if case[1] != "divide"])
def test_trace_finds_rules_and_touches_nothing(f: Callable[[], Any], op: str, index: tuple[int, ...], fix: str) -> None:
    x = leaf(1.0)
    out = (f() * x).sum()
    for _ in range(2):
        report = trace_nonfinite(out)
        assert report.function == f"{op}.backward"
        assert (report.direction, report.index) == ("backward", index)
        assert fix in report.fix
        assert x.grad is None
    quietly(out.backward)
    assert x.grad is not None


def test_trace_of_what_is_finite_says_so() -> None:
    report = trace_nonfinite((leaf(1.0, 2.0) * 2).sum())
    assert not report
    assert report.origin is None
    assert str(report) == repr(report) == "everything is finite, the values and the gradients"


def test_trace_names_data_that_were_not_finite() -> None:
    W = leaf(1.0, 2.0, name="W")
    with graph.record():
        loss = (Tensor([1.0, np.nan], name="data") * W).sum()
    report = trace_nonfinite(loss)
    assert (report.origin.name, report.direction, report.index) == ("data", "data", (1,))
    report = trace_nonfinite((leaf(1.0, np.inf, name="V") * 2).sum())
    assert (report.origin.name, report.direction) == ("V", "data")
    assert "step" in report.fix


def test_trace_does_not_blame_what_has_no_part_in_the_loss() -> None:
    x = leaf(-1.0, 0.0, 4.0)
    assert not trace_nonfinite(quietly(lambda: mg.where(x > 0, mg.sqrt(x), 0).sum()))
    report = trace_nonfinite(quietly(lambda: mg.where(x < 0, mg.sqrt(-x), mg.log(x)).sum()))
    assert (report.origin.name, report.index) == ("log", (1,))
    assert report.value == -np.inf


@pytest.mark.parametrize("case", REPORTED)
def test_what_users_of_others_report_is_blamed_only_where_it_counts(case: str) -> None:
    f, value, _ = REPORTED[case]
    out = quietly(lambda: f(leaf_of(value)).sum())
    assert bool(trace_nonfinite(out)) != np.isfinite(out.numpy())
    with detect_anomaly(allow=[op.name for op in registry()]):
        f(leaf_of(value)).sum().backward()


def leaf_of(value: Any) -> Tensor:
    return Tensor(value, dtype=float, requires_grad=True)


def test_trace_takes_a_graph_and_lines_where_they_are_known() -> None:
    with graph.record():
        out = mg.sqrt(leaf(0.0)).sum()
    report = trace_nonfinite(out)
    assert report.origin.line.file == __file__
    assert str(trace_nonfinite(quietly(lambda: graph.trace(out)))) == str(report)
    with detect_anomaly(allow=["sqrt"]):
        out = mg.sqrt(leaf(0.0)).sum()
    assert trace_nonfinite(out).origin.line.file == __file__


def test_trace_says_where_it_cannot_know() -> None:
    with np.errstate(over="ignore"):
        out = Tensor([1e300], requires_grad=True).astype(np.float32).sum()
    report = trace_nonfinite(out)
    assert report.origin.name == "sum"
    assert "within detect_anomaly()" in report.fix


def test_trace_says_where_something_unknown_lies_before() -> None:
    class Double(Op):
        """out = 2 x"""

        def forward(self, x: Any) -> Any:
            return 2 * x

        def backward(self, dout: Any) -> Any:
            return 2 * dout

    e = quietly(lambda: mg.exp(Double()(leaf(1000.0, 1.0))))
    report = trace_nonfinite(quietly(lambda: (e / mg.sum(e)).sum()))
    assert report.function == "exp"
    assert report.got == "out[0] is inf"
    assert "within detect_anomaly()" in report.fix


def test_trace_within_detect_anomaly_stops_at_nothing() -> None:
    out = mg.sqrt(leaf(0.0)).sum()
    with detect_anomaly():
        assert trace_nonfinite(out)


def test_trace_of_what_cannot_be_traced() -> None:
    walked = leaf(2.0) * 2
    walked.backward()
    for bad, error in (Tensor([1.0]), GraphError), (3.0, DTypeError), (walked, GraphError):
        with pytest.raises(error, match=r"^debug.trace_nonfinite: loss: "):
            trace_nonfinite(bad)


def test_trace_of_several_values_and_of_none() -> None:
    assert trace_nonfinite(mg.sqrt(leaf(4.0, 0.0))).index == (1,)
    assert not trace_nonfinite(mg.sqrt(leaf(*np.zeros((0, 2)))))


def test_a_thousand_ops_are_traced() -> None:
    x = leaf(0.0)
    y = x * 1
    for _ in range(1000):
        y = y * 1
    report = trace_nonfinite(mg.sqrt(y))
    assert report.function == "sqrt.backward"


# The parts


def test_all_finite_is_exact() -> None:
    large = np.full(10_000, 1e308)
    assert all_finite(large)
    for bad in np.nan, np.inf, -np.inf:
        large[77] = bad
        assert not all_finite(large)
    assert not all_finite(np.array([np.inf, -np.inf] * 5000))
    assert all_finite(3)
    assert not all_finite(np.float16(np.inf))


def test_fresh_is_entry_by_entry_where_the_op_is() -> None:
    out = np.array([np.nan, np.nan, np.inf, 1.0])
    x = np.array([np.nan, np.inf, 1.0, np.nan])
    assert fresh(out, [x], Add()).tolist() == [False, True, True, False]
    assert fresh(out, [x], mg.ops.reduce.Sum()) is None
    assert fresh(out, [np.float64(np.inf)], mg.ops.reduce.Sum()).tolist() == [True, True, False, False]
    assert NonfiniteReport().function == "all ops"
