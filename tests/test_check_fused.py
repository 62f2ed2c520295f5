"""check_fused and the exact arithmetic under it: the right passes, the wrong is found and the side named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as hnp
import mpmath
import numpy as np
import pytest
from hypothesis import strategies as st

import minigrad as mg
from minigrad import Op, Tensor, unfused
from minigrad.testing import precise as precise_module
from minigrad.testing.fused import FusedReport, check_fused
from minigrad.testing.precise import (
    Exact,
    Kink,
    Precise,
    Unsupported,
    along,
    derivative,
    evaluate,
    exact_twin,
    precise,
)

X = np.array([[-2.5, 0.3, 1.0, 4.0], [0.7, -0.2, 3.0, -6.0]])
TARGETS = Tensor(np.array([[1.0, 0.0, 0.25, 1.0], [0.0, 0.5, 1.0, 0.9]]))
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "softmax_cross_entropy": (np.array([3, 0]),),
    "sigmoid_binary_cross_entropy": (TARGETS,),
}


class BookSigmoid(Op):
    """The book's sigmoid: right on the left, and without a gradient where out rounds to 1."""

    def forward(self, x: Any) -> Any:
        return mg.sigmoid(x).numpy().copy()

    def backward(self, dout: Any, out: Any) -> Any:
        return dout * (1 - out) * out


class Square(Op):
    """x * x, with a gradient times `factor` and, at second order, another one times `again`."""

    factor: float = 1.0
    again: float = 1.0

    def forward(self, x: Any) -> Any:
        return x * x

    def backward(self, dout: Any, x: Any) -> Any:
        if isinstance(x, Tensor):  # wired into the graph: its own derivative is wanted
            return dout * (self.again * 2 * x + (1 - self.again) * 2 * x.detach())
        return dout * 2 * x * self.factor


def square(x: Any) -> Any:
    return mg.multiply(x, x)


# All pairs of one argument and its labels, with tails


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", unfused.basic.__all__)
def test_the_fused_ops_pass_with_tails(name: str, dtype: str) -> None:
    rest = [Tensor(a.numpy().astype(dtype)) if isinstance(a, Tensor) else a for a in ARGUMENTS.get(name, ())]
    report = check_fused(getattr(mg, name), getattr(unfused, name), X.astype(dtype), *rest)
    assert report, str(report)
    assert report.verdict == "ok"
    # The unfused graphs lose their tails: a check that never notices has not been there.
    assert any("the reference is the broken side" in note for note in report.notes)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("softmax", {"axis": 0}),
        ("logsumexp", {"axis": 1, "keepdims": True}),
        ("softmax_cross_entropy", {"reduction": "none", "label_smoothing": 0.1, "weight": [1.0, 2.0, 0.5, 3.0]}),
        ("sigmoid_binary_cross_entropy", {"reduction": "sum", "pos_weight": 2.0}),
    ],
)
def test_the_fused_ops_pass_with_options(name: str, options: dict[str, Any]) -> None:
    def call(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: function(*args, **options)

    report = check_fused(call(getattr(mg, name)), call(getattr(unfused, name)), X, *ARGUMENTS.get(name, ()))
    assert report, str(report)


def test_one_number_and_a_tensor_are_inputs_too() -> None:
    for x in (0.5, np.array(0.5), [0.5, -1.0], Tensor([0.5], requires_grad=True), np.zeros((0, 3))):
        assert check_fused(mg.sigmoid, unfused.sigmoid, x)


# What is wrong is found, and the side named


def test_the_books_sigmoid_is_wrong_at_40_and_the_fused_side_is_named() -> None:
    report = check_fused(BookSigmoid(), unfused.sigmoid, np.array([1.0, -3.0, 0.5, 40.0]), tails=False)
    assert not report
    assert report.verdict == "wrong"
    gradient, second = report.wrong
    assert gradient.where == "gradient at inputs[0][3] = 40"
    assert gradient.reason.startswith("fused is off by 5.7e+15 ULP")
    assert "ULP at inputs[0][3] = 40: " in gradient.reason
    assert gradient.reason.endswith("; unfused is right")
    assert gradient.analytic == 0
    assert abs(gradient.numeric) == pytest.approx(4.25e-18, rel=0.6, abs=0)
    assert second.where.startswith("second order at inputs[0][3]")
    assert "fused is off by" in str(report)
    assert "broken side" not in str(report)


def test_the_books_sigmoid_is_found_by_the_tails_alone() -> None:
    assert check_fused(BookSigmoid(), unfused.sigmoid, X / 10, tails=False)
    assert check_fused(BookSigmoid(), unfused.sigmoid, X / 10).verdict == "wrong"


def test_a_broken_reference_is_named_and_the_fused_side_is_ok() -> None:
    report = check_fused(mg.sigmoid, unfused.sigmoid, np.array([-1000.0, 0.5]), tails=False)
    assert report
    named = [f for f in report.findings if f.reason]
    assert {f.where for f in named} == {"gradient at inputs[0][0] = -1000", "second order at inputs[0][0] = -1000"}
    assert all(f.reason.startswith("the reference is the broken side: unfused is nan at inputs[0][0]") for f in named)
    assert "the reference is the broken side in 2 comparisons: unfused is nan at inputs[0][0] = -1000" in str(report)
    assert report.to_dict()["notes"] == list(report.notes)


def test_an_error_that_both_sides_share_is_found_where_they_have_nothing_left() -> None:
    report = check_fused(unfused.log_sigmoid, unfused.log_sigmoid, np.array([1.0, 40.0]), tails=False)
    assert report.verdict == "wrong"
    assert report.wrong[0].where == "value[1] at inputs[0][1] = 40"
    assert report.wrong[0].reason.endswith("ULP too")


@pytest.mark.parametrize("factor", [1.001, 1 + 1e-12, -1.0, 0.0])
def test_a_gradient_that_is_a_little_off_is_wrong(factor: float) -> None:
    assert check_fused(Square(), square, X)
    report = check_fused(Square(factor=factor), square, X, tails=False)
    assert report.verdict == "wrong"
    assert {f.where.split(" at ")[0] for f in report.wrong} == {"gradient"}
    assert len(report.wrong) == X.size


@pytest.mark.parametrize("again", [0.0, 1.001])
def test_a_rule_that_is_wrong_at_second_order_only_is_wrong(again: float) -> None:
    op = Square(again=again)
    assert check_fused(op, square, X, order=1)
    report = check_fused(op, square, X, tails=False)
    assert report.verdict == "wrong"
    assert {f.where.split(" at ")[0] for f in report.wrong} == {"second order"}


def test_a_value_that_is_a_little_off_is_wrong() -> None:
    report = check_fused(lambda x: mg.sigmoid(x) * 1.001, unfused.sigmoid, X, order=0, tails=False)
    assert len(report.wrong) == X.size
    assert report.wrong[0].where == "value[0, 0] at inputs[0][0, 0] = -2.5"


def test_a_gradient_that_is_right_for_ones_alone_is_wrong() -> None:
    class Fixed(Op):
        def forward(self, x: Any) -> Any:
            return np.exp(x)

        def backward(self, dout: Any, out: Any) -> Any:
            return out * 1.0

    assert check_fused(Fixed(), mg.exp, X, order=1, tails=False).verdict == "wrong"


def test_max_ulp_is_the_line() -> None:
    def off(x: Any) -> Any:
        return mg.sigmoid(x) * (1 + 40 * np.finfo(float).eps)

    assert check_fused(off, unfused.sigmoid, X, order=0, tails=False).verdict == "wrong"
    assert check_fused(off, unfused.sigmoid, X, order=0, tails=False, max_ulp=100.0)


def test_between_the_sides_of_a_kink_is_no_error() -> None:
    def rectified(x: Any) -> Any:
        return mg.maximum(x, 0.0)

    report = check_fused(mg.relu, rectified, np.array([0.0, 1.0]), order=1, tails=False)
    assert report.verdict == "kink"
    assert report

    class Outside(Op):
        def forward(self, x: Any) -> Any:
            return np.maximum(x, 0)

        def backward(self, dout: Any, x: Any) -> Any:
            return dout * np.where(x == 0, 2.0, x > 0)

    report = check_fused(Outside(), rectified, np.array([0.0, 1.0]), order=1, tails=False)
    assert [f.where for f in report.wrong] == ["gradient at inputs[0][0] = 0"]


# Strategies


def test_a_strategy_is_drawn_from_and_the_failure_is_small() -> None:
    arrays = hnp.arrays(np.float64, hnp.array_shapes(max_dims=2, max_side=3), elements=st.floats(-50, 50, width=32))
    assert check_fused(mg.sigmoid, unfused.sigmoid, arrays, max_examples=10)
    report = check_fused(BookSigmoid(), unfused.sigmoid, arrays, max_examples=50)
    assert report.verdict == "wrong"
    (x,) = report.example
    assert x.size == 1
    assert 2 < abs(x.item()) < 10
    assert float(x.item()).is_integer()
    again = check_fused(BookSigmoid(), unfused.sigmoid, arrays, max_examples=50)
    assert again.example[0].tolist() == x.tolist()


def test_a_strategy_beside_a_fixed_input() -> None:
    logits = hnp.arrays(np.float64, (2, 3), elements=st.floats(-30, 30))
    labels = np.array([0, 2])
    assert check_fused(mg.softmax_cross_entropy, unfused.softmax_cross_entropy, logits, labels, max_examples=5)


# What it leaves alone, and what it refuses


def test_inputs_and_the_users_digits_are_left_alone() -> None:
    x, leaf = X.copy(), Tensor(X, requires_grad=True)
    precise_module._context.cache_clear()
    with mpmath.workdps(33):
        assert check_fused(lambda a, b: mg.sigmoid(a * b), lambda a, b: unfused.sigmoid(a * b), x, leaf, tails=False)
        assert mpmath.mp.dps == 33
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(leaf.numpy(), X)
    assert leaf.grad is None


def test_a_function_that_writes_into_its_argument_does_not_reach_the_inputs() -> None:
    def careless(labels: Any) -> Any:
        labels[:] = 0
        return labels

    labels = np.array([1, 2])
    x = np.zeros((2, 3))
    check_fused(
        lambda x, t: mg.softmax_cross_entropy(x, careless(t)),
        lambda x, t: unfused.softmax_cross_entropy(x, careless(t)),
        x,
        labels,
        order=0,
        tails=False,
    )
    assert labels.tolist() == [1, 2]


def test_ops_still_refuse_objects_afterwards() -> None:
    assert check_fused(mg.sigmoid, unfused.sigmoid, X, tails=False)
    with pytest.raises(mg.DTypeError, match="real numbers"):
        mg.multiply(Tensor([1.0]), precise([1.0]))
    with pytest.raises(mg.DTypeError):
        mg.multiply(Tensor([1.0]), np.array([object()]))


def test_the_same_seed_gives_the_same_report() -> None:
    first, again, other = (
        check_fused(Square(factor=1.1), square, X, tails=False, seed=s).wrong[0].analytic for s in (0, 0, 1)
    )
    assert first == again != other


def test_errors() -> None:
    with pytest.raises(mg.DTypeError, match=r"check_fused: fused: fused is float64 \(2, 4\); expected a function"):
        check_fused(mg.sigmoid(Tensor(X)), unfused.sigmoid, X)  # type: ignore[arg-type]
    with pytest.raises(mg.DTypeError, match=r"check_fused: unfused: unfused is float 1\.0"):
        check_fused(mg.sigmoid, 1.0, X)  # type: ignore[arg-type]
    with pytest.raises(mg.ShapeError, match=r"fused returned \(2, 4\), unfused returned \(\)"):
        check_fused(mg.sigmoid, lambda x: mg.sum(unfused.sigmoid(x)), X)
    with pytest.raises(mg.ArgumentError, match="inputs"):
        check_fused(mg.sigmoid, unfused.sigmoid, np.array([1, 2]))
    with pytest.raises(mg.ArgumentError, match="inputs"):
        check_fused(mg.sigmoid, unfused.sigmoid)
    with pytest.raises(mg.ArgumentError, match="order"):
        check_fused(mg.sigmoid, unfused.sigmoid, X, order=3)
    with pytest.raises(mg.ArgumentError, match="max_ulp"):
        check_fused(mg.sigmoid, unfused.sigmoid, X, max_ulp=0)
    with pytest.raises(mg.ArgumentError, match="allow"):
        check_fused(mg.sigmoid, unfused.sigmoid, X, allow=("wrong",))
    with pytest.raises(mg.DTypeError, match="fused returned float64"):
        check_fused(lambda x: x.numpy(), unfused.sigmoid, X)


def test_a_reference_that_depends_on_rounding_is_refused() -> None:
    def branching(x: Any) -> Any:
        return mg.multiply(x, 2.0 if x.numpy().dtype == object else 1.0)

    with pytest.raises(mg.ArgumentError, match="check_fused: unfused"):
        check_fused(lambda x: mg.multiply(x, 1.0), branching, X)


def test_a_reference_that_cannot_be_followed_leaves_a_difference_undecided() -> None:
    report = check_fused(lambda x: mg.sigmoid(x) * 1.001, mg.sigmoid, X, tails=False)
    assert report.verdict == "inconclusive"
    assert "unfused cannot be the referee: it does not take numbers of many digits" in report.refused[0].reason
    assert check_fused(mg.sigmoid, mg.sigmoid, X, tails=False)


def test_without_mpmath_a_difference_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpmath", None)
    precise_module._context.cache_clear()
    try:
        report = check_fused(mg.sigmoid, unfused.sigmoid, np.array([-1000.0, 0.5]), tails=False)
        assert report.verdict == "inconclusive"
        assert "install mpmath" in report.refused[0].reason
        assert check_fused(mg.sigmoid, unfused.sigmoid, np.array([-10.0, 0.5]), tails=False)
        with pytest.raises(ImportError, match="pip install mpmath"):
            precise([1.0])
    finally:
        precise_module._context.cache_clear()


def test_report_is_a_gradcheck_report() -> None:
    report = check_fused(mg.sigmoid, unfused.sigmoid, X, tails=False)
    assert isinstance(report, FusedReport)
    assert str(report).startswith("check_fused: ok (")
    report.raise_if_refused()
    with pytest.raises(mg.GradientError, match="check_fused: gradient at inputs"):
        check_fused(Square(factor=2.0), square, X).raise_if_refused()


# Exact arithmetic


UNARY = {
    "exp": 0.3, "expm1": 0.3, "exp2": 0.3, "log": 0.3, "log1p": 0.3, "log2": 0.3, "log10": 0.3, "sqrt": 0.3,
    "cbrt": -0.3, "sin": 0.3, "cos": 0.3, "tan": 0.3, "arcsin": 0.3, "arccos": 0.3, "arctan": 0.3, "sinh": 0.3,
    "cosh": 0.3, "tanh": 0.3, "arcsinh": 0.3, "arccosh": 1.3, "arctanh": 0.3, "rint": 1.7, "floor": -1.5,
    "ceil": -1.5, "trunc": -1.5, "absolute": -1.5, "negative": 1.5, "square": 1.5, "reciprocal": 1.5, "sign": -2.0,
    "positive": 1.5, "conjugate": 1.5,
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_numpy_functions_of_one_number(name: str) -> None:
    x, function = np.array([UNARY[name]]), getattr(np, name)
    found = function(precise(x, 60))
    assert float(found[0]) == pytest.approx(function(x)[0], rel=1e-15, abs=0)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "hypot",
                                  "arctan2", "remainder"])  # fmt: skip
def test_numpy_functions_of_two_numbers(name: str) -> None:
    x, y, function = np.array([1.7]), np.array([0.6]), getattr(np, name)
    pairs: list[tuple[Any, Any, Any, Any]] = [(precise(x), precise(y), x, y), (precise(x), y, x, y)]
    if name not in ("hypot", "arctan2"):  # NumPy asks the left one for these, and a float has no such method
        pairs += [(x, precise(y), x, y), (2, precise(y), 2, y)]
        pairs += [(precise(x), np.float32(0.6), x, float(np.float32(0.6)))]
    for a, b, x, y in pairs:
        found = function(a, b)[0]
        assert isinstance(found, Precise) or name in ("maximum", "minimum")
        assert float(found) == pytest.approx(np.ravel(function(x, y))[0], rel=1e-15, abs=0)


def test_reductions_products_and_comparisons() -> None:
    x = np.arange(-4.0, 5.0).reshape(3, 3) + 0.25
    y = x.T - 0.5
    p, q = precise(x), precise(y)
    for f in (lambda a, b: a @ b, lambda a, b: np.einsum("ij,jk->ki", a, b), lambda a, b: np.where(a > b, a, b),
              lambda a, b: np.sum(a, axis=0) + np.max(b), lambda a, b: np.var(a, axis=1) + np.mean(b),
              lambda a, b: np.cumsum(a) * np.prod(b), lambda a, b: np.clip(a, -1, 1) + np.argmax(b)):  # fmt: skip
        np.testing.assert_allclose(np.asarray(f(p, q)).astype(float), f(x, y), rtol=1e-13)


def test_what_numpy_makes_of_what_has_no_value() -> None:
    one, zero = precise(1.0).item(), precise(0.0).item()
    assert float(one / zero) == np.inf
    assert float(-one / zero) == -np.inf
    assert np.isnan(float(zero / zero))
    assert float(zero**-1) == np.inf
    assert float(zero.log()) == -np.inf
    assert np.isnan(float((-one).log()))
    assert np.isnan(float((-one) ** 0.5))
    assert np.isnan(float((-one).sqrt()))
    assert not (zero / zero).finite
    with pytest.raises(Unsupported, match="2\\*\\*"):
        (one * 1000).exp().exp().exp()


def test_values_and_derivatives_in_the_tails() -> None:
    for x, value, slope in ((700.0, 1.0, 9.8596765437597708e-305), (40.0, 1.0, 4.2483542552915889e-18),
                            (-1000.0, 0.0, 0.0), (-3.0, 0.047425873177566781, 0.045176659730912137)):  # fmt: skip
        (out,) = evaluate(unfused.sigmoid, [np.array(x)], tensors=True)
        (dx,), (bar,) = derivative(unfused.sigmoid, [np.array(x)], 0, (), tensors=True)
        assert float(out.item()) == pytest.approx(value, rel=1e-15, abs=0)
        assert dx == pytest.approx(slope, rel=1e-15, abs=0)
        assert bar <= 1e-20 * slope


def test_along_a_direction_over_several_arrays_and_outputs() -> None:
    x, y = np.array([1.0, 2.0]), np.array(3.0)
    (a, b), bars = along(lambda x, y: (x * y, np.sum(x * x)), [x, y], [np.array([1.0, 0.0]), 2.0])
    np.testing.assert_array_equal(a, [3 + 2, 4])
    np.testing.assert_array_equal(b, 2)
    assert all(bar.max() < 1e-30 for bar in bars)
    (a, b), _ = along(lambda x, y: (x * y, np.sum(x * x)), [x, y], [None, 1.0])
    np.testing.assert_array_equal(a, x)
    assert b == 0
    with pytest.raises(mg.ArgumentError, match="directions"):
        along(lambda x, y: x * y, [x, y], [x])
    with pytest.raises(mg.ArgumentError, match="derivative: i"):
        derivative(lambda x, y: x * y[0], [x, np.array([1])], 1, (0,))


def test_more_digits_are_taken_where_they_are_needed() -> None:
    at = Exact(lambda x: 1 - np.exp(-x * x), [np.array([30.0])], digits=60)
    assert float(at.slope((0, (0,)))[0]) == 0  # at 60 digits nothing is left, and the bar says so
    assert at.bar(1)[0] > 1e-60
    (dx,), _ = derivative(lambda x: 1 - np.exp(-x * x), [np.array([17.0])], 0, (0,), digits=60)
    assert dx[0] == pytest.approx(34 * np.exp(-289.0), rel=1e-13, abs=0)


def test_no_derivative_is_made_up() -> None:
    with pytest.raises(Kink) as kink:
        derivative(np.abs, [np.array([0.0, 1.0])], 0, (0,))
    assert [float(x) for x in (*kink.value.left, *kink.value.right)] == [-1, 0, 1, 0]
    for f in (np.cbrt, np.sign, np.sqrt):
        with pytest.raises(Unsupported):
            derivative(f, [np.array([0.0])], 0, (0,))
    for f in (lambda x: np.asarray(x, float) * x, lambda x: x * float(x[0]), lambda x: np.logaddexp(x, 0)):
        with pytest.raises(Unsupported):
            evaluate(f, [np.array([0.5])])
    assert derivative(np.square, [np.array([0.0])], 0, (0,))[0][0] == 0


def test_exact_twin() -> None:
    x = [np.array([0.5, -1.0])]
    assert exact_twin(mg.exp, x) is mg.exp
    assert exact_twin(mg.sigmoid, x) is unfused.sigmoid
    assert exact_twin(mg.tanh, x) is mg.tanh
    assert exact_twin(lambda t: mg.sum(mg.sigmoid(t)), x) is None
    assert exact_twin(np.exp, x, tensors=False) is np.exp
    for name in unfused.basic.__all__:
        rest = [Tensor([1.0, 0.0])] if "binary" in name else [np.array(1)] if "cross" in name else []
        assert exact_twin(getattr(mg, name), [*x, *rest]) is not None


def test_ops_that_look_at_their_arguments_first_take_precise_numbers_too() -> None:
    def f(x: Any) -> Any:
        both = mg.concatenate([mg.clip(x, -1.0, 2.0), mg.where(X > 0, x, 0.0)], axis=1)
        return mg.sum(mg.stack([both, both * np.max(x.numpy())])) + mg.tensordot(mg.pad(x, 1), np.ones((4, 6)), 2)

    (out,) = evaluate(f, [X], tensors=True)
    assert out.shape == ()
    assert float(out.item()) == pytest.approx(f(Tensor(X)).item(), rel=1e-14, abs=0)
    with pytest.raises(mg.DTypeError):
        mg.stack([precise(X)])
