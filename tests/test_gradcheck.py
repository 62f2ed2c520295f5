"""gradcheck: every verdict, planted mistakes caught, right functions passed, nothing left behind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, GradientError, MinigradError, ShapeError
from minigrad.testing import Finding, GradcheckReport, frozen_rng, gradcheck
from minigrad.testing.report import VERDICTS

X = np.array([0.5, -1.0, 2.0])  # exact in binary, of both signs, at no kink


def sigmoid(x: Any) -> Any:
    e = np.exp(-abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def slope(x: Any) -> Any:
    e = np.exp(-abs(x))
    return e / (1 + e) ** 2


def right(dout: Any, x: Any) -> Any:
    return dout * slope(x)


def zero(dout: Any, x: Any) -> Any:
    return 0 * x


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max())
    return e / e.sum()


def refused(report: GradcheckReport, verdict: str, words: str) -> bool:
    """Whether the report is false with this verdict, for a reason with these words."""
    return not report and report.verdict == verdict and any(words in f.reason for f in report.refused)


# Verdicts


def drawn(x: Any) -> Any:
    return x * np.random.default_rng().random()


def writes(x: Any) -> Any:
    x += 1
    return x


def spoils_input(dout: Any, x: Any) -> Any:
    dx = right(dout, x)
    x *= 2
    return dx


def spoils_dout(dout: Any, x: Any) -> Any:
    dout *= slope(x)
    return dout


def cusp_rule(dout: Any, x: Any) -> Any:
    return dout * np.sign(x) / 2 / np.sqrt(np.maximum(abs(x), 1e-9))


def drifting(amount: float) -> Callable[..., Any]:
    calls = [0]

    def vjp(dout: Any, x: Any) -> Any:
        calls[0] += 1
        return right(dout, x) + amount * calls[0]

    return vjp


VERDICT_CASES: dict[str, tuple[Any, Any, Any, str, str]] = {
    # f, inputs, vjp, the verdict, words of the reason
    "right": (sigmoid, X, right, "ok", ""),
    "zero": (sigmoid, X, zero, "wrong", "the gradient is 0"),
    "sign": (sigmoid, X, lambda dout, x: -right(dout, x), "wrong", "the sign is wrong"),
    "factor": (sigmoid, X, lambda dout, x: 1.5 * right(dout, x), "wrong", "it is 1.5 times what it should be"),
    "1/N": (np.mean, X, lambda dout, x: dout * np.ones(3), "wrong", "a division by 3 is missing"),
    "nan": (sigmoid, X, lambda dout, x: np.nan * x, "wrong", "not finite"),
    "shape": (sigmoid, X, lambda dout, x: dout[None] * slope(x), "wrong", "shape (1, 3), and inputs[0] (3,)"),
    "kink": (relu, np.array([0.0, 1.0]), lambda dout, x: dout * (x > 0), "kink", "slopes on the two sides are 0 and 1"),
    "kink, outside": (relu, np.array([0.0]), lambda dout, x: dout * 2.0, "wrong", "2 is not between them"),
    "cusp": (lambda x: np.sqrt(abs(x)), np.zeros(1), cusp_rule, "kink", "-inf and inf"),
    "jump": (np.floor, np.array([1.0]), zero, "discontinuous", ""),
    "jump, passed on": (np.floor, np.array([1.0, 2.5]), lambda dout, x: dout, "wrong", ""),
    "hidden": (lambda x: 1 + 1e-20 * float(x[0]), np.ones(1), lambda dout, x: dout * np.full(1, 1e-20), "inconclusive",
               "its roundings hide a derivative this small"),
    "hidden, 0": (lambda x: 1 + 1e-20 * float(x[0]), np.ones(1), zero, "vacuous", ""),
    "constant": (lambda x: 0 * x + 1, X, zero, "vacuous", "any rule that gives 0 passes"),
    "empty": (np.exp, np.zeros((0, 2)), lambda dout, x: dout * np.exp(x), "vacuous", "an array is empty"),
    "batch of 1": (lambda x: (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-7), X[None], zero, "vacuous", "batch of 1"),
    "drawn": (drawn, X, right, "nondeterministic", "f gave results"),
    "drifts": (sigmoid, X, drifting(1e-9), "nondeterministic", "backward of inputs[0] gave results"),
    "edge": (np.sqrt, np.zeros(1), lambda dout, x: dout / 2 / np.sqrt(np.maximum(x, 1e-9)), "domain",
             "move it inside the domain"),
    "nan as input": (np.exp, np.array([1.0, np.nan]), lambda dout, x: dout * np.exp(x), "domain",
                     "the input is nan there"),
    "outside": (np.log, np.array([-1.0]), lambda dout, x: dout / x, "domain", "not finite at the inputs themselves"),
    "dtype": (sigmoid, np.float32(X), lambda dout, x: right(dout, x).astype(float), "dtype",
              "float64, and inputs[0] is"),
    "f writes": (writes, X, lambda dout, x: dout, "aliasing", "f wrote into its input"),
    "rule writes": (sigmoid, X, spoils_input, "aliasing", "the rule wrote into an input"),
    "dout written": (sigmoid, X, spoils_dout, "aliasing", "dout.copy()"),
    "dout ignored": (sigmoid, X, lambda dout, x: slope(x), "wrong", "dout is ignored"),
    "dout squared": (sigmoid, X, lambda dout, x: dout * dout * slope(x), "wrong", "not linear in dout"),
    "transposed": (lambda x: x @ x, np.arange(4.0).reshape(2, 2), lambda dout, x: (dout @ x.T + x.T @ dout).T, "wrong",
                   "it is transposed"),
    "elementwise": (softmax, X, lambda dout, x: dout * softmax(x) * (1 - softmax(x)), "wrong",
                    "treats it as elementwise"),
}  # fmt: skip


@pytest.mark.parametrize("name", VERDICT_CASES)
def test_every_verdict(name: str) -> None:
    f, x, vjp, verdict, words = VERDICT_CASES[name]
    before = x.tobytes()
    report = gradcheck(f, x, vjp=vjp)
    assert report.verdict == verdict, report
    assert bool(report) == (verdict in ("ok", "kink"))
    assert any(words in f.reason for f in report.findings if f.verdict == verdict), report
    assert x.tobytes() == before
    assert words in str(report)
    if not report:
        with pytest.raises(GradientError, match=f"^gradcheck: .*{verdict}"):
            gradcheck(f, x, vjp=vjp if name != "drifts" else drifting(1e-9), raise_exception=True)
    if verdict not in ("ok", "wrong"):
        again = vjp if name != "drifts" else drifting(1e-9)
        assert gradcheck(f, x, vjp=again, allow=verdict) or name == "jump, passed on"


def test_every_verdict_is_reached() -> None:
    assert {verdict for *_, verdict, _ in VERDICT_CASES.values()} == set(VERDICTS)


def test_a_wrong_entry_comes_with_both_sides_and_an_error_bar() -> None:
    (finding,) = gradcheck(np.sin, np.array([0.5]), vjp=zero).refused
    assert (finding.verdict, finding.where, finding.analytic) == ("wrong", "inputs[0][0]", 0.0)
    assert abs(finding.numeric - np.cos(0.5)) <= finding.error < 1e-10
    assert finding.error < finding.allowed < 1e-6


# Mistakes that other checkers pass

TIED = np.array([2.0, 1.0, 2.0, 2.0])


def entry(i: int, factor: float) -> Callable[..., Any]:
    return lambda dout, x: right(dout, x) * np.where(np.arange(x.size) == i, factor, 1)


def between(low: float, high: float, factor: float) -> Callable[..., Any]:
    return lambda dout, x: right(dout, x) * np.where((x >= low) & (x <= high), factor, 1)


TAIL = np.array([-3.0, 0.5, 2.0, 12.5, 15.0, 19.5])
LONG = np.linspace(-6, 6, 1000)
MISTAKES: dict[str, tuple[Any, Any, Any]] = {
    "relative 5e-4": (sigmoid, X, lambda dout, x: right(dout, x) * (1 + 5e-4)),
    "relative 1e-5": (sigmoid, X, lambda dout, x: right(dout, x) * (1 + 1e-5)),
    "relative 1e-7": (sigmoid, X, lambda dout, x: right(dout, x) * (1 + 1e-7)),
    "zero in the tail": (sigmoid, TAIL, between(12, 20, 0)),
    "doubled in the tail": (sigmoid, TAIL, between(12, 20, 2)),
    "one of 1000, 1 %": (sigmoid, LONG, entry(617, 1.01)),
    "one of 1000, 0.1 %": (sigmoid, LONG, entry(617, 1.001)),
    "dout overwritten": (sigmoid, X, spoils_dout),
    "input overwritten": (sigmoid, X, spoils_input),
    "1e-9 from run to run": (sigmoid, X, drifting(1e-9)),
    "dout ignored": (sigmoid, X, lambda dout, x: slope(x)),
    "sigmoid far out, 0": (sigmoid, np.array([24.0, 32.0, 20.0]), zero),
    "tanh, 1 - y": (np.tanh, np.array([10.0, 12.0]), lambda dout, x: dout * (1 - np.tanh(x))),
    "a small loss, 0": (lambda x: 1e-6 * np.sum(x * x), X, zero),
    "confident softmax, 0": (softmax, np.array([30.0, 0.0, 0.0]), zero),
    "batch norm, batch of 1": (lambda x: (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-7), X[None], lambda d, x: 123 * d),
    "sum of a normalisation": (lambda x: np.sum((x - x.mean()) / x.std()), X, zero),
    "max, 1 to each tie": (np.max, TIED, lambda dout, x: dout * (x == x.max())),
    "vdot, 0": (lambda x: np.vdot(x, x), X, zero),
    "huber, 0 outside": (lambda x: np.where(abs(x) > 1, abs(x) - 0.5, x * x / 2), 2 * X,
                         lambda dout, x: np.where(abs(x) > 1, 0, dout * x)),
    "x * conj(x), 0": (lambda x: x * np.conj(x), X, zero),
    "x + real(x), 1": (lambda x: x + np.real(x), X, lambda dout, x: dout),
    "1/x near 0, 0": (lambda x: 1 / x, np.array([1e-6, 2.0]), zero),
    "x^2 of 1e-20": (lambda x: x * x * 1e20, X * 1e-20, lambda dout, x: dout * x * 1e20),
    "x^2 of 1e20": (lambda x: x * x * 1e-20, X * 1e20, lambda dout, x: dout * x * 1e-20),
    "a mask of its own": (lambda x: x * (np.random.rand(*x.shape) > 0.5), np.ones((4, 4)),
                          lambda dout, x: dout * (np.random.rand(*x.shape) > 0.5)),
    "float32, 0.1 %": (sigmoid, np.float32(X), lambda dout, x: right(dout, x) * np.float32(1.001)),
    "exp(-x^2), no 2": (lambda x: np.exp(-x * x), np.array([5.0, 5.5]), lambda d, x: -d * x * np.exp(-x * x)),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_does_not_pass(name: str) -> None:
    f, x, vjp = MISTAKES[name]
    report = gradcheck(f, x, vjp=vjp)
    assert not report, report
    # Of a sum that is 0 but for roundings nothing can be known.
    undecided = {"batch norm, batch of 1": "vacuous", "sum of a normalisation": "inconclusive"}
    assert report.verdict in ("wrong", "aliasing", "nondeterministic", undecided.get(name)), report


class Product(mg.Op):
    """out = scale * x * y, with a rule that can be bent"""

    scale: float = 1.0
    bend: str = ""

    def forward(self, x: Any, y: Any) -> Any:
        return self.scale * x * y

    def backward(self, dout: Any, x: Any, y: Any) -> Any:
        dx, dy = self.scale * dout * y, self.scale * dout * x
        return {
            "": lambda: (dx, dy),
            "x 1.001": lambda: (1.001 * dx, dy),
            "zero": lambda: (dx, 0 * dy),
            "negated": lambda: (-dx, dy),
            "swapped": lambda: (dy, dx),
            "stale": lambda: (dx, dy * 0 + self.scale * x),  # as if dout were still 1
            "None": lambda: (dx, None),
        }[self.bend]()


def pair(shape: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape), rng.standard_normal(shape)]


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e9, 1e200])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (20, 20)])
def test_the_right_rule_passes_at_any_scale(scale: float, shape: tuple[int, ...]) -> None:
    assert gradcheck(Product(scale), pair(shape)).verdict == "ok"


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e9, 1e200])
@pytest.mark.parametrize("shape", [(), (4,), (20, 20)])
@pytest.mark.parametrize("bend", ["x 1.001", "zero", "negated", "swapped", "stale", "None"])
def test_a_bent_rule_is_caught_at_any_scale(scale: float, shape: tuple[int, ...], bend: str) -> None:
    report = gradcheck(Product(scale, bend), pair(shape))
    assert report.verdict == "wrong"
    side = "inputs[0]" if bend in ("x 1.001", "negated") else "inputs[1]"
    assert any(side in f.where for f in report.wrong)


@pytest.mark.parametrize("scale", [1e-200, 1e-100, 1e-20, 1e-9, 1.0, 1e9, 1e20, 1e100, 1e200])
@pytest.mark.parametrize("size", [3, 100])
def test_inputs_of_any_scale(scale: float, size: int) -> None:
    x = np.resize(X, size) * scale
    assert gradcheck(lambda x: mg.sin(x / scale), x).verdict == "ok"
    assert gradcheck(lambda x: mg.sin(x / scale) * 1.0, x, order=2 if size == 3 and 1e-9 <= scale <= 1e9 else 1)
    assert gradcheck(lambda x: mg.sin((x / scale).detach()) + x / scale, x).verdict == "wrong"


def test_one_wrong_entry_of_a_small_input() -> None:
    report = gradcheck(lambda x: mg.stack([x[0], x[1].detach() * 1e-3]), np.array([1.0, 1.0]), directions=0)
    assert [f.where for f in report.wrong] == ["inputs[0][1] -> f[1]"]


def test_every_result_is_checked() -> None:
    report = gradcheck(lambda x: (x * 2, x * x.detach()), np.array([1.0]))
    assert [f.where for f in report.wrong] == ["inputs[0][0] -> f[1][0]"]


class Cube(mg.Op):
    """out = x**3, its second derivative bent"""

    def forward(self, x: Any) -> Any:
        return x * x * x

    def backward(self, dout: Any, x: Any) -> Any:
        return 3 * dout * x * (x.detach() if isinstance(x, mg.Tensor) else x)


def test_a_mistake_of_the_second_order_only() -> None:
    assert gradcheck(Cube(), X)
    report = gradcheck(Cube(), X, order=2)
    assert refused(report, "wrong", "it is 0.5 times what it should be")
    assert all(f.where.startswith("order 2: inputs[0]") for f in report.wrong)
    assert gradcheck(lambda x: x**3, X, order=3).verdict == "ok"
    assert gradcheck(lambda x: 2 * x, X, order=2).verdict == "ok"  # its second derivative is 0, and right


# Large inputs


@pytest.mark.parametrize("n", [1000, 100_000])
@pytest.mark.parametrize("loss", ["sum", "mean", "none"])
def test_one_wrong_entry_of_many_is_found_and_named(n: int, loss: str) -> None:
    x = np.random.default_rng(0).standard_normal(n)
    f, share = {"sum": (lambda x: np.sum(sigmoid(x)), 1), "mean": (lambda x: np.mean(sigmoid(x)), n)}.get(
        loss, (sigmoid, 1)
    )
    for i, factor in ((0, 1.01), (n // 3, 0.0), (n - 1, -1.0)):
        rule = entry(i, factor)
        report = gradcheck(f, x, vjp=lambda dout, x, rule=rule: rule(dout, x) / share)
        assert [f.where for f in report.wrong] == [f"inputs[0][{i}]"], report
        assert report.findings[0].analytic == pytest.approx(factor * report.findings[0].numeric, rel=1e-5, abs=1e-12)
    report = gradcheck(f, x, vjp=lambda dout, x: right(dout, x) / share)
    assert report.verdict == "ok", report
    assert report.calls <= 40 + 12 * (len(report.findings) + 2)  # and a look at other inputs


def test_twelve_evaluations_a_direction() -> None:
    calls = [0]

    def f(x: Any) -> Any:
        calls[0] += 1
        return np.sum(np.sin(x))

    def vjp(dout: Any, x: Any) -> Any:
        return dout * np.cos(x)

    few, more = [gradcheck(f, LONG, vjp=vjp, directions=n) for n in (1, 6)]
    assert more.calls - few.calls <= 5 * 12
    assert len(more.findings) - len(few.findings) == 5


def test_fast_mode_is_what_it_is_asked_to_be() -> None:
    small, large = X, LONG[:80]
    assert len(gradcheck(sigmoid, small, vjp=right).findings) == 9
    assert all("direction" in f.where for f in gradcheck(sigmoid, small, vjp=right, fast_mode=True).findings[:3])
    whole = gradcheck(sigmoid, large, vjp=right, fast_mode=False)
    assert not any("direction" in f.where for f in whole.findings)
    assert {f.where.split(" ")[0] for f in whole.findings} == {f"inputs[0][{i}]" for i in range(80)}


# Right functions that other checkers fail


class Dropout:
    """With a generator in a slot, in an attribute and of Python."""

    __slots__ = ("rng", "state")

    def __init__(self) -> None:
        self.rng = np.random.default_rng(1)
        self.state = {"python": [random.Random(0)]}

    def __call__(self, x: Any) -> Any:
        return x * (self.rng.random(x.shape) > 0.3) * self.state["python"][0].random()

    def method(self, x: Any) -> Any:
        return self(x)


def in_closure() -> Callable[..., Any]:
    rng = np.random.default_rng(0)

    def mask(x: Any) -> Any:
        return rng.random(x.shape) > 0.5

    return lambda x: x * mask(x) * 2


STATE = np.random.RandomState(3)
RIGHT: dict[str, tuple[Any, Any]] = {
    "relu at 0": (mg.relu, np.array([0.0, 1.0, -1.0])),
    "relu near 0": (mg.relu, np.array([1e-7, -1e-5, 1e-3])),
    "abs at 0": (abs, np.array([0.0, 2.0, -3.0])),
    "max, ties": (mg.max, TIED),
    "maximum, ties": (lambda x: mg.maximum(x, 1.0), np.array([1.0, 2.0])),
    "clip at the bound": (lambda x: mg.clip(x, -1, 1), np.array([1.0, 0.5, 3.0, -1.0])),
    "sum of relu at 0": (lambda x: mg.sum(mg.relu(x)), np.array([0.0, 0.0, -1.0])),
    "float32 sigmoid": (mg.sigmoid, np.float32([-30, -3, 0, 2, 12])),
    "float16 exp": (mg.exp, np.float16([-3, 0, 2])),
    "float16, many": (lambda x: mg.max(x, axis=-1, keepdims=True) - x,
                      np.float16(np.linspace(-2, 2, 100).reshape(5, 20))),
    "a number": (mg.exp, 1.0),
    "0-d": (mg.exp, np.array(1.0)),
    "tails": (mg.sigmoid, np.linspace(-300, 300, 7)),
    "tanh": (mg.tanh, np.linspace(-30, 30, 7)),
    "confident softmax": (mg.softmax, np.array([30.0, 0.0, 0.0])),
    "x - x": (lambda x: x - x + x[0], X),
    "beside 1e6": (lambda x: mg.sin(x) + 1e6, X),
    "float32 loss": (lambda x: mg.softmax_cross_entropy(x, np.array([0, 2])), np.float32([[3, 1, -2], [0, 20, 1]])),
    "several results": (lambda x: (x, mg.exp(x[0])), X),
    "many results": (lambda x: mg.exp(x) * np.linspace(-1, 1, 300)[:, None], X),
    "global dropout": (lambda x: x * (np.random.rand(*x.shape) > 0.5) * 2, np.ones((3, 4))),
    "Python's dropout": (lambda x: x * random.random(), np.ones((3, 4))),
    "dropout in a closure": (in_closure(), np.ones((3, 4))),
    "dropout of an object": (Dropout(), np.ones((3, 4))),
    "dropout of a method": (Dropout().method, np.ones((3, 4))),
    "dropout by default": (lambda x, rng=STATE: x * rng.rand(*x.shape), np.ones((3, 4))),
    "dropout of 100": (lambda x: x * (np.random.rand(*x.shape) > 0.5) * 2, np.ones((10, 10))),
    "a tail among many": (mg.softplus, np.linspace(-700, 50, 90)),
    "saturated among many": (lambda x: mg.clip(x, -1, 1), np.linspace(-9, 9, 91)),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_function_passes(name: str) -> None:
    f, x = RIGHT[name]
    report = gradcheck(f, x)
    assert report, report


def test_a_generator_may_be_an_argument() -> None:
    assert gradcheck(lambda x, rng: x * rng.random(x.shape), [np.ones(3), np.random.default_rng(0)])


UNARY = [mg.sin, mg.exp, mg.tanh, mg.sigmoid, mg.softplus, mg.square, mg.relu, abs, mg.softmax]


@settings(max_examples=150)
@given(
    ops=st.lists(st.sampled_from(UNARY), min_size=1, max_size=4),
    x=st.lists(st.integers(-24, 24).map(lambda n: n / 8), min_size=1, max_size=5),
    dtype=st.sampled_from([np.float64, np.float32]),
)
def test_no_false_alarm_on_compositions(ops: list[Any], x: list[float], dtype: Any) -> None:
    def f(x: Any) -> Any:
        for op in ops:
            x = op(x)
        return x

    report = gradcheck(f, np.array(x, dtype), allow=("vacuous", "inconclusive"))
    assert report, report


@settings(max_examples=150)
@given(
    ops=st.lists(st.sampled_from([mg.sin, mg.tanh, mg.sigmoid, mg.softplus]), min_size=1, max_size=3),
    x=st.lists(st.integers(-24, 24).map(lambda n: n / 8), min_size=1, max_size=5),
    factor=st.sampled_from([0.0, -1.0, 0.5, 1 + 1e-6, 1 - 1e-4]),
)
def test_no_wrong_composition_passes(ops: list[Any], x: list[float], factor: float) -> None:
    def f(x: Any) -> Any:
        for op in ops:
            x = op(x)
        return x * factor + (x * (1 - factor)).detach()

    assert not gradcheck(f, np.array(x))


# Rules of plain functions


def test_vjp_of_several_inputs_and_results() -> None:
    def f(x: Any, n: Any, y: Any) -> Any:
        return x @ y, n * np.sum(x)

    def vjp(dout: Any, x: Any, n: Any, y: Any) -> Any:
        return dout[0] @ y.T + dout[1] * n, x.T @ dout[0]

    x, y = np.arange(6.0).reshape(2, 3), np.ones((3, 2))
    report = gradcheck(f, [x, 3, y], vjp=vjp)
    assert report.verdict == "ok"
    assert {f.where.split("[")[1][0] for f in report.findings} == {"0", "2"}
    assert gradcheck(f, [x, 3, y], vjp=lambda dout, *a: (vjp(dout, *a)[0], None, vjp(dout, *a)[1]))
    for wrong in (
        lambda dout, *a: vjp(dout, *a)[::-1],
        lambda dout, *a: (vjp(dout, *a)[0], None),
        lambda dout, *a: vjp((dout[0], 0 * dout[1]), *a),
    ):
        assert gradcheck(f, [x, 3, y], vjp=wrong).verdict == "wrong"


def test_vjp_sees_arrays_of_their_own_dtype_and_f_float64() -> None:
    seen = set()

    def vjp(dout: Any, x: Any) -> Any:
        seen.add((dout.dtype.name, x.dtype.name))
        return right(dout, x)

    assert gradcheck(sigmoid, np.float32(X), vjp=vjp)
    assert seen == {("float32", "float32")}


@pytest.mark.parametrize(
    ("gradients", "error", "words"),
    [
        (lambda dx: (dx, dx), ArgumentError, "vjp returned 2 gradients; expected 1"),
        (lambda dx: (), ArgumentError, "vjp returned 0 gradients"),
        (lambda dx: "dx", DTypeError, "vjp returned str 'dx'"),
        (lambda dx: [object()], DTypeError, "expected arrays"),
    ],
)
def test_a_vjp_that_returns_something_else(gradients: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^gradcheck: vjp: .*{words}"):
        gradcheck(sigmoid, X, vjp=lambda dout, x: gradients(right(dout, x)))


# Options


def test_pytorch_s_keywords() -> None:
    options: dict[str, Any] = {"eps": 1e-4, "atol": 1e-6, "rtol": 1e-3, "raise_exception": True, "nondet_tol": 1e-9}
    assert gradcheck(mg.exp, X, fast_mode=False, **options)
    assert gradcheck(mg.exp, X, fast_mode=True, **options)


def test_tolerances_are_what_they_say() -> None:
    def off(by: float) -> Callable[..., Any]:
        return lambda dout, x: right(dout, x) * (1 + by)

    assert not gradcheck(sigmoid, X, vjp=off(1e-4))
    assert gradcheck(sigmoid, X, vjp=off(1e-4), rtol=2e-4)
    assert not gradcheck(sigmoid, X, vjp=off(1e-4), rtol=0.5e-4)
    assert gradcheck(sigmoid, X, vjp=off(1e-4), atol=1e-4)
    assert not gradcheck(sigmoid, X, vjp=off(1e-4), atol=1e-6)
    assert not gradcheck(sigmoid, X, vjp=drifting(1e-12))
    assert gradcheck(sigmoid, X, vjp=drifting(1e-14), nondet_tol=1e-10)
    steps: set[float] = set()

    def f(x: Any) -> Any:
        steps.update(abs(x - X)[abs(x - X) > 1e-7])  # but for the tries of the roundings
        return sigmoid(x)

    assert gradcheck(f, X, vjp=right, eps=1e-3)
    assert min(h for h in steps if h > 1e-12) == pytest.approx(1e-3, rel=1e-9)


def test_the_seed_chooses_what_is_drawn() -> None:
    first, again, other = [gradcheck(np.sin, LONG, vjp=lambda d, x: d * np.cos(x), seed=s) for s in (0, 0, 1)]
    assert first == again
    assert first != other


def test_cotangents_are_not_ones() -> None:
    seen: list[Any] = []

    def vjp(dout: Any, x: Any) -> Any:
        seen.append(dout.copy())
        return right(dout, x)

    assert gradcheck(sigmoid, X, vjp=vjp)
    assert np.ptp(abs(seen[0])) > 0
    assert np.all(seen[0] != 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eps": 0}, "eps: .*a positive step"),
        ({"eps": -1e-3}, "eps: .*a positive step"),
        ({"eps": np.inf}, "eps: "),
        ({"atol": -1.0}, "atol: .*0 or more"),
        ({"atol": "small"}, "atol: str 'small'"),
        ({"rtol": float("nan")}, "rtol: "),
        ({"nondet_tol": -1e-9}, "nondet_tol: "),
        ({"directions": -1}, "directions: "),
        ({"directions": 1.5}, "directions: "),
        ({"seed": "0"}, "seed: "),
        ({"seed": -1}, "seed: "),
        ({"order": 0}, "order: .*1 or more"),
        ({"order": 1.5}, "order: "),
        ({"order": True}, "order: "),
        ({"fast_mode": "yes"}, "fast_mode: .*True, False or None"),
        ({"allow": "wrong"}, "allow: allow='wrong'; expected any of .*; write allow="),
        ({"allow": "ok"}, "allow: "),
        ({"allow": ("vacuous", "fine")}, "allow: allow='fine'"),
        ({"allow": (1,)}, "allow: allow=1"),
        ({"order": 2, "vjp": lambda dout, x: dout}, "order: order=2 with vjp="),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=f"^gradcheck: {words}"):
        gradcheck(mg.exp, X, **options)


# Bad input


def changing() -> Callable[..., Any]:
    calls = [0]

    def f(x: Any) -> Any:
        calls[0] += 1
        return x[: 1 + calls[0] % 2]

    return f


BAD: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "integers": (mg.exp, np.array([1, 2]), ArgumentError, r"inputs: int64 \(2,\); .*pass np.array\(x, dtype=float\)"),
    "complex": (mg.exp, np.array([1j]), ArgumentError, "inputs: complex128"),
    "booleans": (mg.exp, np.array([True]), ArgumentError, "inputs: bool"),
    "nothing": (mg.exp, [], ArgumentError, "inputs: no input"),
    "None": (mg.exp, None, ArgumentError, "inputs: NoneType None"),
    "a word": (mg.exp, "abc", ArgumentError, "inputs: str"),
    "no gradient": (mg.exp, mg.Tensor([1.0]), ArgumentError, "inputs: .*requires_grad=True"),
    "returns None": (lambda x: None, X, DTypeError, "f: f returned NoneType None; expected a Tensor"),
    "returns a word": (lambda x: "x", X, DTypeError, "f: f returned str 'x'"),
    "returns an array": (lambda x: x.data, X, DTypeError, "f: f returned float64.*pass vjp="),
    "returns arrays": (lambda x: [x.data], X, DTypeError, "f: f returned float64"),
    "returns an empty list": (lambda x: [], X, DTypeError, "f: f returned an empty sequence"),
    "returns integers": (lambda x: x > 0, X, DTypeError, "f: f returned "),
    "f is none": (3, X, DTypeError, "f: f is int 3; expected a function"),
    "shapes change": (changing(), X, ShapeError, "f: .*one shape"),
    "shapes by value": (lambda x: x[x.data > 1.99], X, ShapeError, "f: .*one shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_error(name: str) -> None:
    f, x, error, words = BAD[name]
    with pytest.raises(error, match=f"^gradcheck: {words}") as caught:
        gradcheck(f, x)
    assert isinstance(caught.value, MinigradError)
    assert "; expected " in str(caught.value)


@pytest.mark.parametrize("result", [None, "x", [], [object()], object(), np.array([1j]), np.array(["x"])])
def test_a_plain_f_that_returns_something_else(result: Any) -> None:
    with pytest.raises(DTypeError, match=r"^gradcheck: f: f returned "):
        gradcheck(lambda x: result, X, vjp=right)


def test_a_vjp_is_a_function() -> None:
    with pytest.raises(DTypeError, match=r"^gradcheck: vjp: vjp is int 3"):
        gradcheck(sigmoid, X, vjp=3)  # type: ignore[arg-type]


# What is left behind: nothing


class Mine(Exception):
    """Not one that gradcheck knows."""


def raising(call: int, error: type[BaseException]) -> Callable[..., Any]:
    calls = [0]

    def f(x: Any) -> Any:
        calls[0] += 1
        np.random.rand()
        random.random()
        if calls[0] == call:
            raise error("mine")
        return mg.exp(x)

    return f


@pytest.mark.parametrize("error", [Mine, KeyboardInterrupt, KeyError])
@pytest.mark.parametrize("call", [1, 2, 3, 5, 8, 15])
def test_an_exception_inside_f_goes_through(call: int, error: type[BaseException]) -> None:
    x = X.copy()
    states = np.random.get_state(legacy=False), random.getstate()
    with pytest.raises(error, match=r"mine"):
        gradcheck(raising(call, error), x)
    assert repr(np.random.get_state(legacy=False)) == repr(states[0])
    assert random.getstate() == states[1]
    assert x.tobytes() == X.tobytes()


def test_an_exception_inside_vjp_goes_through() -> None:
    with pytest.raises(Mine):
        gradcheck(sigmoid, X, vjp=lambda dout, x: (_ for _ in ()).throw(Mine()).__next__())


def test_what_f_says_of_complex_numbers_is_no_error() -> None:
    def strict(x: Any) -> Any:
        if x.dtype.kind != "f":
            raise Mine
        return np.tanh(x)

    assert refused(gradcheck(strict, np.array([10.0, 12.0]), vjp=zero), "wrong", "the gradient is 0")
    assert gradcheck(lambda x: float(x[0]) ** 2, X, vjp=lambda dout, x: 0 * x).verdict == "wrong"  # no ComplexWarning


@pytest.mark.parametrize("name", VERDICT_CASES)
def test_random_states_are_restored_after_every_verdict(name: str) -> None:
    f, x, vjp, *_ = VERDICT_CASES[name]
    generator = np.random.default_rng(7)

    def g(*args: Any) -> Any:
        generator.random(), np.random.rand(), random.random()
        return f(*args)

    states = repr(np.random.get_state(legacy=False)), random.getstate(), repr(generator.bit_generator.state)
    gradcheck(g, x, vjp=vjp)
    assert states == (repr(np.random.get_state(legacy=False)), random.getstate(), repr(generator.bit_generator.state))


def test_tensors_are_left_as_they_were() -> None:
    seen = []

    def f(x: Any, y: Any, t: Any, c: Any) -> mg.Tensor:
        seen.append((x.dtype, y.dtype, type(t), c.requires_grad))
        return mg.softmax_cross_entropy(x * y * c, t)

    x = mg.Tensor(np.linspace(-1, 1, 6).reshape(2, 3), dtype=np.float32, requires_grad=True)
    x.grad = np.full((2, 3), 7, np.float32)
    y, t, c = np.arange(3, dtype=np.float32), np.array([0, 2]), mg.Tensor(2.0)
    assert gradcheck(f, [x, y, t, c])
    narrow, wide = (np.dtype(np.float32),) * 2, (np.dtype(np.float64),) * 2
    assert set(seen) == {(*narrow, np.ndarray, False), (*wide, np.ndarray, False)}  # the rule, and the difference
    assert np.all(x.grad == 7)
    assert x.dtype == np.float32
    assert y.tolist() == [0.0, 1.0, 2.0]


def test_read_only_and_strided_inputs() -> None:
    base = np.arange(24.0).reshape(4, 6) / 8
    base.flags.writeable = False
    assert gradcheck(mg.sin, base[::-2, ::3])
    assert gradcheck(sigmoid, base.T[1:3], vjp=right)


def test_gradcheck_records_also_under_no_grad() -> None:
    with mg.no_grad():
        assert gradcheck(mg.exp, np.array([0.5])).verdict == "ok"


# frozen_rng


def test_frozen_rng_sets_and_restores() -> None:
    np.random.seed(5)
    random.seed(5)
    states = repr(np.random.get_state(legacy=False)), random.getstate()
    own = np.random.default_rng(3)
    before = repr(own.bit_generator.state)

    def draws() -> list[float]:
        return [np.random.rand(), random.random(), own.random()]

    with frozen_rng(1, own) as frozen:
        first = draws()
        second = draws()
        frozen.reset()
        assert draws() == first != second
    with frozen_rng(1, lambda: own) as frozen:
        assert not frozen.used()
        assert draws() == first
        assert frozen.used()
    with frozen_rng(2):
        assert np.random.rand() != first[0]
    with pytest.raises(Mine), frozen_rng(0, own):
        raise Mine(draws())
    assert states == (repr(np.random.get_state(legacy=False)), random.getstate())
    assert repr(own.bit_generator.state) == before


# Reports


def finding(verdict: str, reason: str = "", analytic: float = 1.0) -> Finding:
    return Finding(verdict, f"inputs[0] {verdict}", analytic, 2.0, 1e-9, 3e-8, reason)


def test_a_report_is_true_if_nothing_is_refused() -> None:
    assert GradcheckReport((finding("ok"), finding("kink")))
    for verdict in VERDICTS:
        report = GradcheckReport((finding("ok"), finding(verdict)))
        assert bool(report) == (verdict in ("ok", "kink"))
        assert report.verdict == verdict
        assert report.counts == ({verdict: 1, "ok": 1} if verdict != "ok" else {"ok": 2})
        if verdict != "wrong":
            allowed = GradcheckReport(report.findings, allow=frozenset({verdict}))
            assert allowed
            assert allowed.refused == ()


def test_the_worst_comes_first() -> None:
    findings = tuple(finding(verdict) for verdict in reversed(VERDICTS))
    report = GradcheckReport(findings)
    assert [f.verdict for f in report.refused] == [v for v in VERDICTS if v not in ("ok", "kink")]
    assert list(report.counts) == list(VERDICTS)
    assert report.wrong == (findings[-1],)


def test_a_report_prints_a_table_and_the_reason() -> None:
    report = GradcheckReport((finding("ok"), finding("wrong", "the sign is wrong", -2.0)), title="check")
    assert str(report).splitlines() == [
        "check: wrong (1 wrong, 1 ok)",
        "  verdict  where            analytic  numeric",
        "  wrong    inputs[0] wrong  -2        2",
        "wrong: the sign is wrong",
    ]
    assert repr(report) == str(report)
    assert str(GradcheckReport((finding("dtype"),))).endswith("dtype: " + VERDICTS["dtype"])
    many = str(GradcheckReport(tuple(finding("wrong") for _ in range(50))))
    assert "and 42 more" in many
    assert len(many.splitlines()) < 15


@pytest.mark.parametrize("name", ["right", "zero", "kink", "jump", "cusp", "nan", "outside", "dtype", "drawn"])
def test_a_report_is_json(name: str) -> None:
    f, x, vjp, verdict, _ = VERDICT_CASES[name]
    report = gradcheck(f, x, vjp=vjp)
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["passed"] is bool(report)
    assert (found["verdict"], found["check"], found["calls"]) == (verdict, "gradcheck", report.calls)
    assert found["counts"] == report.counts
    assert [(f["verdict"], f["where"], f["reason"]) for f in found["findings"]] == [
        (f.verdict, f.where, f.reason) for f in report.findings
    ]


def test_raise_if_refused() -> None:
    GradcheckReport((finding("ok"), finding("kink"))).raise_if_refused()
    GradcheckReport((finding("vacuous"),), allow=frozenset({"vacuous"})).raise_if_refused()
    with pytest.raises(GradientError, match=r"^gradcheck: inputs.*wrong.*numeric 2.*; expected .*; look at backward"):
        GradcheckReport((finding("vacuous"), finding("wrong"))).raise_if_refused()
    with pytest.raises(GradientError, match=r"choose other inputs, or pass allow=\(\"vacuous\",\)"):
        GradcheckReport((finding("vacuous"),)).raise_if_refused()


def test_nan_is_never_right() -> None:
    for value in (np.nan, np.inf, -np.inf):
        assert not gradcheck(np.sin, X, vjp=lambda dout, x, value=value: dout * value)
    with np.errstate(invalid="ignore"):
        assert not gradcheck(mg.log, np.array([-1.0]))


def test_an_exception_inside_f_says_what_f_was_called_with() -> None:
    with pytest.raises(Mine) as failure:
        gradcheck(raising(1, Mine), X)
    assert failure.value.__notes__ == ["raised by f, which gradcheck called with float64 (3,)"]


def test_a_function_that_goes_in_stairs_is_no_mistake() -> None:
    def loss(x: Any) -> Any:
        z = x - x.max()
        return -(z - np.log(np.exp(z).sum()))[2]

    def rule(dout: Any, x: Any) -> Any:
        p = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
        p[2] -= 1
        return dout * p

    for v in np.linspace(10, 20, 11):
        assert gradcheck(loss, np.array([0.0, 0.0, v]), vjp=rule), v


def test_kinks_of_many_results_are_looked_at() -> None:
    x = np.r_[np.zeros(80), np.ones(20)]
    assert gradcheck(lambda x: np.maximum(x, 0), x, vjp=lambda dout, x: dout * (x > 0))
    report = gradcheck(lambda x: np.maximum(x, 0), x, vjp=lambda dout, x: dout * np.where(x == 0, 7, x > 0))
    assert report.verdict == "wrong"
