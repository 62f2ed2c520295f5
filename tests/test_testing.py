"""minigrad.testing: numerical derivatives, and a gradcheck that wrong rules do not pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, GradientError, ShapeError
from minigrad.testing import Comparison, gradcheck, numerical_diff, numerical_gradient


def squares(x: Any) -> Any:
    return np.sum(x**2)


# numerical_diff


def test_numerical_diff_is_the_central_difference() -> None:
    assert numerical_diff(lambda x: 0.01 * (x * x) + 0.1 * x, 10) == 0.2999999999986347
    assert numerical_diff(lambda x: x * x * x, mg.Tensor(2.0), h=0.5) == (2.5**3 - 1.5**3) / 1.0


@pytest.mark.parametrize(
    ("x", "h", "error"),
    [
        (np.array([1.0, 2.0]), 1e-4, ShapeError),
        ("5", 1e-4, DTypeError),
        (5.0, 0.0, ArgumentError),
        (5.0, -1e-4, ArgumentError),
        (5.0, float("nan"), ArgumentError),
        (5.0, 1e-50, ArgumentError),  # 5 + 1e-50 is 5: the difference, and the book's derivative, would be 0
    ],
)
def test_numerical_diff_refuses(x: Any, h: float, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^numerical_diff: .*; expected "):
        numerical_diff(lambda x: x * x, x, h)


# numerical_gradient


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 2), (0, 2)])
def test_numerical_gradient_has_the_shape_of_x(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    dx = numerical_gradient(squares, x)
    assert dx.shape == shape
    np.testing.assert_allclose(dx, 2 * x, rtol=1e-8)


def test_a_view_is_perturbed_where_it_lies() -> None:
    base = np.arange(12.0).reshape(3, 4)
    dx = numerical_gradient(lambda _: squares(base), base[::-2, ::2])
    np.testing.assert_allclose(dx, 2 * base[::-2, ::2], rtol=1e-8)
    assert np.array_equal(base, np.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("x", [np.array([3, 4]), np.array([True, False]), mg.Tensor([3, 4])])
def test_an_array_of_integers_is_an_error_and_stays(x: Any) -> None:
    before = x.tolist()
    with pytest.raises(DTypeError, match=r"np.array\(x, dtype=float\)"):
        numerical_gradient(squares, x)
    assert x.tolist() == before


def test_a_list_of_integers_is_converted() -> None:
    assert numerical_gradient(squares, [3, 4]).tolist() == [6.00000000000378, 7.999999999999119]
    assert numerical_gradient(squares, 3).shape == ()


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_the_array_is_put_back_whatever_happens(stop: type[BaseException], call: int) -> None:
    x = np.array([0.1, 0.3])
    calls = []

    def f(x: Any) -> Any:
        calls.append(x.copy())
        if len(calls) == call:
            raise stop
        return squares(x)

    with pytest.raises(stop):
        numerical_gradient(f, x)
    assert not np.array_equal(calls[-1], [0.1, 0.3])  # it was perturbed at that moment
    assert x.tolist() == [0.1, 0.3]


def test_a_function_that_ignores_its_argument_sees_the_change() -> None:
    W = np.array([[1.0, -2.0]])
    assert np.allclose(numerical_gradient(lambda _: squares(W), W), 2 * W)
    t = mg.Tensor([1.0, -2.0], requires_grad=True)
    assert np.allclose(numerical_gradient(lambda _: (t * t).sum(), t), [2.0, -4.0])


def test_a_tensor_reaches_f_and_its_graph_stays_whole() -> None:
    x = mg.Tensor([1.0, -2.0], requires_grad=True)
    y = mg.sum(mg.square(x))
    seen = []

    def f(x: Any) -> Any:
        seen.append(type(x))
        return mg.sum(mg.square(x))

    dx = numerical_gradient(f, x)
    assert type(dx) is np.ndarray
    assert set(seen) == {mg.Tensor}
    y.backward()
    assert x.grad is not None
    assert np.allclose(dx, x.grad)


def test_float32_is_divided_by_the_step_it_made() -> None:
    x = np.full(5, 1.1, np.float32)  # 1.1 + 1e-4 in float32 is 4e-8 from where it should be: 0.04 % of the step
    dx = numerical_gradient(lambda x: float(x.astype(np.float64).sum()), x)
    assert dx.dtype == np.float32
    np.testing.assert_allclose(dx, 1.0, rtol=1e-6)


def test_a_step_that_x_does_not_show_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"x\[1\] = 1e\+14 in float64.*pass h=6e\+08"):
        numerical_gradient(squares, np.array([1.0, 1e14]))
    assert np.isnan(numerical_gradient(squares, np.array([1.0, np.inf]))[1])


def test_a_read_only_array_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="read-only"):
        numerical_gradient(squares, mg.Tensor([1.0]).numpy())


@pytest.mark.parametrize(
    ("f", "error"),
    [(lambda x: None, DTypeError), (lambda x: "1", DTypeError), (lambda x: x, ShapeError)],
)
def test_f_has_to_return_a_number(f: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="numerical_gradient: f: f returned"):
        numerical_gradient(f, np.array([1.0, 2.0]))


# gradcheck


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
def test_gradcheck_passes_the_right_rule_at_any_scale(scale: float, shape: tuple[int, ...]) -> None:
    report = gradcheck(Product(scale), pair(shape))
    assert report
    assert str(report).startswith("gradcheck: backward is right in all of ")


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e9, 1e200])
@pytest.mark.parametrize("shape", [(), (4,), (20, 20)])
@pytest.mark.parametrize("bend", ["x 1.001", "zero", "negated", "swapped", "stale", "None"])
def test_gradcheck_catches_a_bent_rule_at_any_scale(scale: float, shape: tuple[int, ...], bend: str) -> None:
    report = gradcheck(Product(scale, bend), pair(shape), raise_exception=False)
    assert not report
    assert "backward is wrong in" in str(report)
    side = "inputs[0]" if bend in ("x 1.001", "negated") else "inputs[1]"
    assert any(c.what.startswith(side) for c in report.wrong)
    with pytest.raises(GradientError, match=r"gradcheck: inputs\[[01]\].*backward .*, numerical "):
        gradcheck(Product(scale, bend), pair(shape))


def test_gradcheck_catches_one_wrong_entry_of_a_small_input() -> None:
    def f(x: mg.Tensor) -> mg.Tensor:
        return mg.stack([x[0], x[1].detach() * 1e-3])

    report = gradcheck(f, np.array([1.0, 1.0]), directions=0, raise_exception=False)
    assert [c.what for c in report.wrong] == ["inputs[0][1]"]


def test_gradcheck_checks_every_result() -> None:
    assert not gradcheck(lambda x: (x * 2, x * x.detach()), np.array([1.0]), raise_exception=False)


def test_gradcheck_uses_cotangents_that_do_not_cancel() -> None:
    class Softmax(mg.Op):
        """softmax whose rule is 0: right for the sum of its result, which is always 1"""

        def forward(self, x: Any) -> Any:
            return np.exp(x) / np.exp(x).sum()

        def backward(self, dout: Any, x: Any) -> Any:
            return 0 * x

    assert not gradcheck(Softmax(), np.array([0.5, 1.0, 2.0]), raise_exception=False)


@pytest.mark.parametrize(
    "f",
    [mg.sigmoid, mg.tanh, lambda x: x / 3, lambda x: x - x, lambda x: mg.softmax(x * x), lambda x: (x, mg.exp(x[0]))],
)
def test_gradcheck_passes_ops(f: Any) -> None:
    assert gradcheck(f, np.linspace(-30, 30, 7))


@pytest.mark.parametrize("f", [lambda x: mg.sum(mg.softmax(x)), lambda x: mg.sin(x) + 1e6])
def test_gradcheck_allows_what_float64_rounds_off(f: Any) -> None:
    assert gradcheck(f, np.array([0.5, 1.0, 2.0]))


def test_an_input_that_f_does_not_use_has_the_gradient_zero() -> None:
    report = gradcheck(lambda x, y: x * x, [np.array([1.0, 2.0]), np.array([1.0, 2.0])])
    assert {c.backward for c in report.comparisons if c.what.startswith("inputs[1]")} == {0.0}


def test_gradcheck_leaves_its_inputs_alone_and_checks_in_float64() -> None:
    seen = []

    def f(x: Any, y: Any, t: Any, c: Any) -> mg.Tensor:
        seen.append((x.dtype, type(t), c.requires_grad))
        return mg.softmax_cross_entropy(x * y * c, t)

    x, y = mg.Tensor(np.ones((2, 3)), dtype=np.float32, requires_grad=True), np.arange(3, dtype=np.float32)
    t, c = np.array([0, 2]), mg.Tensor(2.0)
    assert gradcheck(f, [x, y, t, c])
    assert set(seen) == {(np.dtype(np.float64), np.ndarray, False)}
    assert x.grad is None
    assert x.dtype == np.float32
    assert y.tolist() == [0.0, 1.0, 2.0]


def test_gradcheck_is_the_same_every_time_and_another_for_another_seed() -> None:
    first, again, other = [gradcheck(mg.exp, np.array([0.5, 1.0]), seed=seed) for seed in (0, 0, 1)]
    assert first == again
    assert first != other


def test_gradcheck_records_also_under_no_grad() -> None:
    with mg.no_grad():
        assert gradcheck(mg.exp, np.array([0.5]))


@pytest.mark.parametrize(
    ("f", "inputs", "error"),
    [
        (mg.exp, np.array([1, 2]), ArgumentError),
        (mg.exp, [], ArgumentError),
        (mg.exp, mg.Tensor([1.0]), ArgumentError),
        (lambda x: x.data, np.array([1.0]), DTypeError),
        (lambda x: x.astype(np.float32), np.array([1.0]), DTypeError),
    ],
)
def test_gradcheck_refuses(f: Any, inputs: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^gradcheck: .*; expected "):
        gradcheck(f, inputs)


def test_nan_is_never_right() -> None:
    assert not Comparison("x", float("nan"), 1.0, 1.0).ok
    assert not Comparison("x", 1.0, 1.0, float("inf")).ok
    with np.errstate(invalid="ignore"):
        assert not gradcheck(mg.log, np.array([-1.0]), raise_exception=False)
