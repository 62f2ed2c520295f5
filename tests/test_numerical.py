"""Numerical derivatives: four methods, steps, and error bars that the true derivative lies within."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.testing import numerical_diff, numerical_gradient, numerical_jacobian

METHODS = ("central", "forward", "ridders", "complex")

# f, df and an interval that f is smooth in.
SMOOTH: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float, float]] = {
    "square": (lambda x: x * x, lambda x: 2 * x, -1e3, 1e3),
    "cube, far": (lambda x: x * x * x, lambda x: 3 * x * x, 1e5, 1e9),
    "sin": (np.sin, np.cos, -20, 20),
    "sin, steep": (lambda x: np.sin(40 * x), lambda x: 40 * np.cos(40 * x), -2, 2),
    "exp": (np.exp, np.exp, -30, 30),
    "log": (np.log, lambda x: 1 / x, 1e-2, 1e6),
    "1/x": (lambda x: 1 / x, lambda x: -1 / x**2, 1e-2, 1e4),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x), 1e-2, 1e5),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2, -6, 6),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2, -20, 20),
    "sine on 1e6": (lambda x: np.sin(x) + 1e6, np.cos, -20, 20),
    "tiny": (lambda x: 1e-200 * np.sin(x), lambda x: 1e-200 * np.cos(x), -20, 20),
    "huge": (lambda x: 1e200 * np.sin(x), lambda x: 1e200 * np.cos(x), -20, 20),
}


def squares(x: Any) -> Any:
    return np.sum(x**2)


# The error bar


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SMOOTH)
@settings(max_examples=40)
@given(data=st.data())
def test_the_true_derivative_lies_within_the_error_bar(name: str, method: Any, data: st.DataObject) -> None:
    f, df, low, high = SMOOTH[name]
    x = data.draw(st.floats(low, high))
    value, bar = numerical_diff(f, x, method=method, error=True)
    true = float(df(np.float64(x)))
    # df is off by roundings too, and x + h by half a unit in the last place of x.
    assert abs(value - true) <= bar + 4e-16 * abs(true) * (1 + abs(x)) + 1e-307
    assert math.isfinite(bar)


@pytest.mark.parametrize("name", SMOOTH)
def test_ridders_has_ten_digits_and_says_so(name: str) -> None:
    f, df, low, high = SMOOTH[name]
    x = low + 0.6 * (high - low)
    value, bar = numerical_diff(f, x, error=True)
    digits = 1e-7 if name in ("sigmoid", "sine on 1e6") else 1e-10
    assert abs(value - df(np.float64(x))) <= digits * abs(df(np.float64(x)))
    assert bar <= 30 * digits * abs(df(np.float64(x)))


def test_ridders_is_better_than_a_step_of_1e_6() -> None:
    f, df, *_ = SMOOTH["sigmoid"]
    true = math.exp(-20) / (1 + math.exp(-20)) ** 2
    assert abs(numerical_diff(f, -2.0) / df(-2.0) - 1) < 1e-12
    assert abs(numerical_diff(f, 20.0) / true - 1) < 1e-6
    assert abs(numerical_diff(f, 20.0, 1e-6) / true - 1) > 1e-2


def test_the_bar_of_a_step_that_was_given_shows_how_bad_it_is() -> None:
    for h in (0.5, 1e-3, 1e-8, 1e-12):
        for method in ("central", "forward"):
            value, bar = numerical_diff(math.exp, 1.0, h, method=method, error=True)
            assert abs(value - math.e) <= bar
            assert bar <= 30 * abs(value - math.e) + 1e-6


@pytest.mark.parametrize(
    "f",
    [np.log, math.log, np.sqrt, math.sqrt, lambda x: 1 / x],
    ids=["np.log", "math.log", "np.sqrt", "math.sqrt", "1/x"],
)
@pytest.mark.parametrize("x", [1e-12, 1e-6, 0.125, 1.0, 8.0])
def test_long_steps_may_leave_the_domain(f: Any, x: float) -> None:
    true = {np.log: 1 / x, math.log: 1 / x, np.sqrt: 0.5 * x**-0.5, math.sqrt: 0.5 * x**-0.5}.get(f, -1 / x**2)
    value, bar = numerical_diff(f, x, error=True)
    assert abs(value - true) <= bar <= 1e-9 * abs(true)


def test_outside_the_domain_the_error_goes_through() -> None:
    with pytest.raises(ValueError, match=r"."):
        numerical_diff(math.log, -1.0)


@pytest.mark.parametrize("method", ["central", "forward"])
def test_at_a_jump_the_bar_is_wide(method: Any) -> None:
    value, bar = numerical_diff(np.floor, 1.0 - 2**-30, method=method, error=True)
    assert bar >= 0.1 * abs(value)


@np.errstate(invalid="ignore")
def test_where_f_is_not_finite_the_derivative_is_nan() -> None:
    value, bar = numerical_diff(np.log, -1.0, error=True)
    assert math.isnan(value)
    assert bar == math.inf


# Methods and steps


@pytest.mark.parametrize("method", METHODS)
def test_every_method_differentiates_numbers_arrays_and_arrays_of_arrays(method: Any) -> None:
    x = np.array([[0.5, -1.0], [2.0, 0.25]])
    digits = {"forward": 1e-6, "central": 1e-8}.get(method, 1e-12)
    assert numerical_diff(lambda x: x**3, 2, method=method) == pytest.approx(12, rel=digits)
    np.testing.assert_allclose(numerical_gradient(squares, x, method=method), 2 * x, rtol=digits)
    jacobian, bar = numerical_jacobian(lambda x: x @ x[0], x, method=method, error=True)
    assert jacobian.shape == bar.shape == (2, 2, 2)
    true = np.array([[[1.0, -2.0], [0, 0]], [[2.0, 0.25], [0.5, -1.0]]])
    np.testing.assert_allclose(jacobian, true, rtol=digits, atol=digits)
    assert np.all(abs(jacobian - true) <= bar + 1e-15)


def test_the_default_is_ridders_and_central_with_a_step() -> None:
    for call in (numerical_diff, numerical_gradient, numerical_jacobian):
        assert call(np.sin, 1.0) == call(np.sin, 1.0, method="ridders")
        assert call(np.sin, 1.0, 1e-2) == call(np.sin, 1.0, 1e-2, method="central")
        assert call(np.sin, 1.0, 1e-2, method="forward") != call(np.sin, 1.0, 1e-2)
        assert call(np.sin, 1.0, 1e-2, method="ridders") == pytest.approx(math.cos(1), rel=1e-12)


def test_numerical_diff_is_the_book_s_central_difference_to_the_bit() -> None:
    def f(x: Any) -> Any:
        return 0.01 * (x * x) + 0.1 * x

    assert numerical_diff(f, 5, 1e-4) == 0.1999999999990898
    assert numerical_diff(f, 10, 1e-4) == 0.2999999999986347
    assert numerical_diff(lambda x: x * x * x, mg.Tensor(2.0), h=0.5) == (2.5**3 - 1.5**3) / 1.0
    assert numerical_diff(math.exp, 1.0, 1e-5, method="forward") == (math.exp(1 + 1e-5) - math.e) / 1e-5
    assert numerical_gradient(squares, [3, 4], 1e-4).tolist() == [6.00000000000378, 7.999999999999119]


def test_the_automatic_step_is_exact_and_fits_dtype_and_size() -> None:
    for dtype in (np.float64, np.float32):
        for x in (0.0, 1.0, 3.7e6, -0.5):
            seen: list[Any] = []

            def f(a: Any, seen: list[Any] = seen) -> Any:
                seen.append(a.copy())
                return float(a[0])

            at = np.array([x], dtype)
            assert numerical_gradient(f, at, method="central") == 1.0
            steps = {abs(float(a[0]) - float(at[0])) for a in seen} - {0.0}
            assert all(math.log2(h).is_integer() for h in steps)
            assert np.cbrt(np.finfo(dtype).eps) / 2 <= min(steps) / max(1, abs(x)) <= 2 * np.cbrt(np.finfo(dtype).eps)


def test_the_complex_step_is_exact() -> None:
    value, bar = numerical_diff(lambda x: np.exp(x) / np.sqrt(x), 1.5, method="complex", error=True)
    true = math.exp(1.5) * (1.5**-0.5 - 0.5 * 1.5**-1.5)
    assert abs(value / true - 1) < 4e-16
    assert abs(value - true) <= bar
    assert numerical_diff(np.tanh, 30.0, method="complex") == pytest.approx(4 * math.exp(-60), rel=1e-14)


NOT_COMPLEX: dict[str, Callable[[Any], Any]] = {
    "abs": lambda x: abs(x) * x,
    "np.abs": lambda x: np.abs(x) + x,
    "real": lambda x: x.real * x,
    "np.real": lambda x: np.real(x) * x,
    "imag": lambda x: x.imag + x,
    "conj": lambda x: x * x.conj(),
    "np.conj": lambda x: x * np.conj(x),
    "sign": lambda x: np.sign(x) * x,
    "norm": lambda x: np.linalg.norm(np.atleast_1d(x)) * x,
    "vdot": lambda x: np.vdot(x, x),
    "var": lambda x: np.var(np.stack([x, 2 * x])) * x,
    "float": lambda x: float(x),
    "math": lambda x: math.exp(x),
    "astype": lambda x: x.astype(np.float64),
    "floor": lambda x: np.floor(x),
    "constant": lambda x: 1.0,
    "Tensor": lambda x: mg.exp(mg.Tensor(x)),
}


@pytest.mark.parametrize("name", NOT_COMPLEX)
def test_the_complex_step_is_refused_where_it_would_be_silently_wrong(name: str) -> None:
    f = NOT_COMPLEX[name]
    with pytest.raises(DTypeError, match=r'numerical_diff: f: .*; expected for method="complex".*ridders'):
        numerical_diff(f, 1.5, method="complex")
    with pytest.raises(DTypeError, match=r"numerical_gradient: f: "):
        numerical_gradient(lambda x: f(x[0]), np.array([1.5, 2.0]), method="complex")


# Bad arguments

BAD_STEPS = [0.0, -1e-4, float("nan"), float("inf"), "1e-4", 1j]


@pytest.mark.parametrize("h", BAD_STEPS)
@pytest.mark.parametrize("call", [numerical_diff, numerical_gradient, numerical_jacobian])
def test_a_step_is_a_positive_number(call: Any, h: Any) -> None:
    with pytest.raises(ArgumentError, match=rf"^{call.__name__}: h: .*; expected a positive step; pass h="):
        call(squares, 5.0, h)


@pytest.mark.parametrize("call", [numerical_diff, numerical_gradient, numerical_jacobian])
def test_a_method_is_one_of_four(call: Any) -> None:
    with pytest.raises(ArgumentError, match=f"^{call.__name__}: method: .*central, forward, ridders, complex; pass"):
        call(squares, 5.0, method="newton")


@pytest.mark.parametrize(
    ("call", "x", "h", "what"),
    [
        # 5 + 1e-50 is 5: the difference, and the derivative of the book's page on h = 1e-50, would be 0.
        (numerical_diff, 5.0, 1e-50, "x = 5 in float64"),
        (numerical_gradient, np.array([1.0, 1e14]), 1e-4, r"x\[1\] = 1e\+14 in float64.*pass h=6e\+08"),
        (numerical_jacobian, np.array([1.0, 1e14]), 1e-4, r"x\[1\] = 1e\+14 in float64"),
        (numerical_gradient, np.float32([[1.0]]), 1e-8, r"x\[0, 0\] = 1 in float32"),
    ],
)
def test_a_step_that_x_does_not_show_is_an_error(call: Any, x: Any, h: float, what: str) -> None:
    with pytest.raises(ArgumentError, match=f"does not change {what}"):
        call(squares, x, h)


def test_an_infinite_entry_has_no_derivative() -> None:
    with np.errstate(invalid="ignore"):
        assert np.isnan(numerical_gradient(squares, np.array([1.0, np.inf]), 1e-4)[1])
        assert np.isnan(numerical_gradient(squares, np.array([1.0, np.inf]))[1])


def test_numerical_diff_takes_one_number() -> None:
    with pytest.raises(ShapeError, match=r"numerical_gradient\(f, x\)"):
        numerical_diff(squares, np.array([1.0, 2.0]))
    with pytest.raises(DTypeError, match=r"^numerical_diff: x: "):
        numerical_diff(squares, "5")
    assert numerical_diff(lambda x: x * x, np.array([[3]])) == pytest.approx(6)


@pytest.mark.parametrize("call", [numerical_gradient, numerical_jacobian])
@pytest.mark.parametrize("x", [np.array([3, 4]), np.array([True, False]), mg.Tensor([3, 4])])
def test_an_array_of_integers_is_an_error_and_stays(call: Any, x: Any) -> None:
    before = x.tolist()
    with pytest.raises(DTypeError, match=r"np.array\(x, dtype=float\)"):
        call(squares, x)
    assert x.tolist() == before


def test_a_read_only_array_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"read-only"):
        numerical_gradient(squares, mg.Tensor([1.0]).numpy())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("result", [None, "1", object()])
def test_f_has_to_return_numbers(result: Any, method: Any) -> None:
    for call in (numerical_diff, numerical_gradient, numerical_jacobian):
        with pytest.raises(DTypeError, match=f"^{call.__name__}: f: "):
            call(lambda x: result, 1.5, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_is_that_of_one_number(method: Any) -> None:
    with pytest.raises(ShapeError, match=r"numerical_gradient: f: f returned .*one number"):
        numerical_gradient(lambda x: x, np.array([1.0, 2.0]), method=method)


def test_a_jacobian_has_one_shape() -> None:
    with pytest.raises(ShapeError, match=r"numerical_jacobian: f: .*results of one shape"):
        numerical_jacobian(lambda x: x[x > 1], np.array([1.0, 2.0]))


# What becomes of x


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 2), (0, 2)])
def test_the_gradient_has_the_shape_and_dtype_of_x(shape: tuple[int, ...], method: Any) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    dx = numerical_gradient(squares, x, method=method)
    assert dx.shape == shape
    np.testing.assert_allclose(dx, 2 * x, rtol=1e-5)
    assert numerical_gradient(squares, x.astype(np.float32), method=method).dtype == np.float32
    assert numerical_jacobian(lambda x: x[..., None] * np.ones(2), x, method=method).shape == (*shape, 2, *shape)


def test_a_view_is_perturbed_where_it_lies() -> None:
    base = np.arange(12.0).reshape(3, 4)
    dx = numerical_gradient(lambda _: squares(base), base[::-2, ::2])
    np.testing.assert_allclose(dx, 2 * base[::-2, ::2], rtol=1e-8)
    assert np.array_equal(base, np.arange(12.0).reshape(3, 4))


def test_a_list_of_integers_is_converted() -> None:
    x = [3, 4]
    np.testing.assert_allclose(numerical_gradient(squares, x), [6.0, 8.0], rtol=1e-12)
    assert x == [3, 4]
    assert numerical_gradient(squares, 3).shape == ()


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("h", [None, 1e-4])
@pytest.mark.parametrize("derivative", [numerical_gradient, numerical_jacobian])
def test_the_array_is_put_back_whatever_happens(
    derivative: Any, stop: type[BaseException], call: int, h: float | None
) -> None:
    x = np.array([0.1, -0.0, 0.3, 1.0, 2.0])
    before = x.tobytes()
    calls: list[Any] = []

    def f(x: Any) -> Any:
        calls.append(x.copy())
        if len(calls) == call:
            raise stop
        return squares(x)

    with pytest.raises(stop):
        derivative(f, x, h)
    assert len(calls) == call
    if (derivative, h) == (numerical_gradient, 1e-4) or call > 2:
        assert calls[-1].tobytes() != before  # it was perturbed at that moment
    assert x.tobytes() == before


def test_a_function_that_ignores_its_argument_sees_the_change() -> None:
    W = np.array([[1.0, -2.0]])
    np.testing.assert_allclose(numerical_gradient(lambda _: squares(W), W), 2 * W)
    t = mg.Tensor([1.0, -2.0], requires_grad=True)
    np.testing.assert_allclose(numerical_gradient(lambda _: (t * t).sum(), t), [2.0, -4.0])


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
    np.testing.assert_allclose(dx, x.grad)


@pytest.mark.parametrize("h", [None, 1e-4])
def test_float32_is_divided_by_the_step_it_made(h: float | None) -> None:
    x = np.full(5, 1.1, np.float32)  # 1.1 + 1e-4 in float32 is 4e-8 from where it should be: 0.04 % of the step
    dx = numerical_gradient(lambda x: float(x.astype(np.float64).sum()), x, h)
    assert dx.dtype == np.float32
    np.testing.assert_allclose(dx, 1.0, rtol=1e-6)
