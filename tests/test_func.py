"""Derivatives of plain functions: grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp, and all of them nested."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import minigrad as mg
from minigrad import Tensor, enable_grad, is_grad_enabled, no_grad
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.func import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

vectors = arrays(np.float64, 3, elements=st.floats(-2, 2, width=16))


def f(x: Any) -> Any:
    """A function of a user's who knows NumPy alone, with a loop, a branch on the shape, and an index."""
    y = np.sin(x) * x[::-1]
    for k in range(3):
        y = y + np.exp(-0.1 * k * x) / (1.0 + np.sum(x * x))
    return y if x.shape == (3,) else None


def scalar(x: Any) -> Any:
    return np.sum(f(x) * f(x)) + x[0] * x[1] * x[2]


def numerical(g: Callable[[np.ndarray], Any], x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """The Jacobian of g at x by central differences."""
    columns = []
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        columns.append((np.asarray(g(x + step)) - np.asarray(g(x - step))) / (2 * h))
    return np.moveaxis(np.array(columns), 0, -1).reshape(*np.shape(g(x)), *x.shape)


def close(got: Any, expected: Any) -> None:
    assert type(got) is Tensor
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-7)


@given(vectors)
def test_grad_of_a_function_that_calls_numpy(x: np.ndarray) -> None:
    close(grad(scalar)(x), numerical(scalar, x))


@given(vectors)
def test_value_and_grad(x: np.ndarray) -> None:
    value, slope = value_and_grad(scalar)(x)
    assert value.item() == pytest.approx(scalar(x), rel=1e-14)
    assert not value.requires_grad
    close(slope, numerical(scalar, x))


@given(vectors, vectors)
def test_vjp_is_dout_times_the_jacobian_and_can_be_pulled_twice(x: np.ndarray, dout: np.ndarray) -> None:
    out, pull = vjp(f, x)
    np.testing.assert_allclose(out.numpy(), f(x), rtol=1e-14)
    for factor in 1.0, -2.0:
        (dx,) = pull(factor * dout)
        close(dx, factor * dout @ numerical(f, x))


@given(vectors, vectors)
def test_jvp_is_the_jacobian_times_a_tangent(x: np.ndarray, v: np.ndarray) -> None:
    out, change = jvp(f, [x], [v])
    np.testing.assert_allclose(out.numpy(), f(x), rtol=1e-14)
    close(change, numerical(f, x) @ v)


@given(vectors)
def test_jacobian(x: np.ndarray) -> None:
    close(jacobian(f)(x), numerical(f, x))


@given(vectors)
def test_hessian_is_symmetric_and_right(x: np.ndarray) -> None:
    whole = hessian(scalar)(x)
    close(whole, numerical(lambda x: grad(scalar)(x).numpy(), x))
    np.testing.assert_allclose(whole.numpy(), whole.numpy().T, rtol=1e-9, atol=1e-9)


@given(vectors, vectors)
def test_hvp_is_the_hessian_times_a_vector(x: np.ndarray, v: np.ndarray) -> None:
    close(hvp(scalar, x, v), hessian(scalar)(x).numpy() @ v)


# Arguments


def weighted(w: Any, x: Any, *, power: int = 1) -> Any:
    return np.sum((w @ x) ** power)


W, X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([0.5, -1.0, 2.0])


def test_argnums_and_keywords() -> None:
    close(grad(weighted)(W, X, power=2), np.outer(2 * (W @ X), X))
    close(grad(weighted, argnums=1)(W, X, power=2), 2 * (W @ X) @ W)
    close(grad(weighted, argnums=-1)(W, X), W.sum(axis=0))
    dx, dw = grad(weighted, argnums=[1, 0])(W, X)
    close(dx, W.sum(axis=0))
    close(dw, np.outer(np.ones(2), X))
    value, pair = value_and_grad(weighted, argnums=(0, 1))(W, X)
    assert value.item() == weighted(W, X)
    assert len(pair) == 2


def test_jacobian_of_several_arguments() -> None:
    dw, dx = jacobian(lambda w, x: w @ x, argnums=[0, 1])(W, X)
    close(dx, W)
    assert dw.shape == (2, 2, 3)
    close(dw[0], [X, 0 * X])


def test_vjp_and_jvp_of_several_arguments() -> None:
    _, pull = vjp(lambda w, x: w @ x, W, X)
    dw, dx = pull(np.array([1.0, -1.0]))
    close(dw, np.outer([1.0, -1.0], X))
    close(dx, W[0] - W[1])
    _, change = jvp(lambda w, x: w @ x, [W, X], [np.ones((2, 3)), np.array([0.0, 1.0, 0.0])])
    close(change, np.ones((2, 3)) @ X + W[:, 1])


@pytest.mark.parametrize("kind", [np.asarray, Tensor, lambda x: Tensor(x, requires_grad=True)])
def test_arrays_tensors_and_leaves_are_taken_and_left_alone(kind: Any) -> None:
    x = kind(X.copy())
    close(grad(lambda x: np.sum(x**3))(x), 3 * X**2)
    np.testing.assert_array_equal(np.asarray(x.data), X)
    if isinstance(x, Tensor):
        assert x.grad is None


def test_a_python_float_is_a_point_too() -> None:
    assert grad(lambda x: x**3)(2.0).item() == 12.0
    assert hessian(lambda x: x**3)(2.0).item() == 12.0


def test_dtype_is_kept() -> None:
    x = X.astype(np.float32)
    assert grad(lambda x: np.sum(x**3))(x).dtype == np.float32
    assert jacobian(lambda x: x**3)(x).dtype == np.float32
    assert hvp(lambda x: np.sum(x**3), x, x).dtype == np.float32


def test_the_functions_own_arrays_are_not_written() -> None:
    x = X.copy()
    x.flags.writeable = False
    close(jacobian(f)(x), numerical(f, X))


def test_a_function_that_does_not_depend_on_its_argument() -> None:
    close(grad(lambda x: Tensor(5.0))(X), np.zeros(3))
    close(jacobian(lambda x: Tensor(np.ones(2)))(X), np.zeros((2, 3)))
    close(hessian(lambda x: np.sum(x))(X), np.zeros((3, 3)))
    close(jvp(lambda x: Tensor(np.ones(2)), [X], [X])[1], np.zeros(2))
    close(hvp(lambda x: np.sum(x), X, X), np.zeros(3))
    close(grad(lambda x, y: mg.sum(x), argnums=1)(X, X), np.zeros(3))


@pytest.mark.parametrize(
    "f", [lambda x: float(x[0]) ** 2, lambda x: math.sin(x[0]), lambda x: x.numpy().sum(), lambda x: x[0].item()]
)
@pytest.mark.parametrize("transform", [grad, jacobian, hessian])
def test_a_function_that_loses_the_graph_is_an_error_and_not_zero(transform: Any, f: Any) -> None:
    with pytest.raises(mg.DTypeError, match="has no graph"):
        transform(f)(X)


def test_the_identity_and_empty_results() -> None:
    close(jacobian(lambda x: x)(X), np.eye(3))
    close(jvp(lambda x: x, [X], [2 * X])[1], 2 * X)
    assert jacobian(lambda x: x[:0])(X).shape == (0, 3)
    assert jacobian(lambda x: x)(np.zeros((0,))).shape == (0, 0)


# Nested


def test_grad_of_grad_to_the_fourth_order() -> None:
    g: Any = lambda x: np.sin(x) * x  # noqa: E731
    expected = [
        lambda x: np.cos(x) * x + np.sin(x),
        lambda x: 2 * np.cos(x) - x * np.sin(x),
        lambda x: -3 * np.sin(x) - x * np.cos(x),
        lambda x: -4 * np.cos(x) + x * np.sin(x),
    ]
    for derivative in expected:
        g = grad(g)
        assert g(0.7).item() == pytest.approx(derivative(0.7), rel=1e-13)


def test_nested_derivatives_do_not_mix() -> None:
    # d/dx (x * d/dy (x + y)) is 1: a mix of the two levels gives 2.
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0).item() == 1.0
    # d/dx (x * d/dy (x * y)) is 2x
    assert grad(lambda x: x * grad(lambda y: x * y)(1.0))(3.0).item() == 6.0
    # the same with the value of the outer variable as the inner point
    assert grad(lambda x: grad(lambda y: y * y * x)(x))(3.0).item() == 12.0


def test_a_leaf_of_the_callers_sees_through_an_inner_derivative() -> None:
    w = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    slope = grad(lambda x: np.sum(w * x**3))(X)
    slope.backward(np.array([1.0, -1.0, 2.0]))
    np.testing.assert_allclose(w.grad, 3 * X**2 * [1, -1, 2], rtol=1e-15)


@pytest.mark.parametrize("outer", [jacobian, lambda g: lambda x: jvp(g, [x], [np.eye(3)[0]])[1]])
@pytest.mark.parametrize(
    "inner",
    [
        grad,
        lambda g: lambda x: hvp(g, x, x),
        lambda g: lambda x: jvp(grad(g), [x], [x])[1],
        lambda g: lambda x: vjp(grad(g), x)[1](x)[0],
        lambda g: lambda x: hessian(g)(x) @ x,
    ],
)
def test_any_derivative_of_any_other(inner: Any, outer: Any) -> None:
    g = inner(scalar)
    expected = numerical(lambda x: g(x).numpy(), X)
    got = outer(g)(X).numpy()
    np.testing.assert_allclose(got, expected if got.ndim == 2 else expected[:, 0], rtol=1e-6, atol=1e-6)


def test_a_derivative_inside_a_training_step() -> None:
    """A penalty on the input's gradient: backward through grad."""
    w = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    penalty = np.sum(grad(lambda x: np.sum(np.tanh(w * x)))(X) ** 2)
    penalty.backward()
    inner = lambda w: np.sum((w / np.cosh(w * X) ** 2) ** 2)  # noqa: E731
    np.testing.assert_allclose(w.grad, numerical(inner, w.numpy().copy()), rtol=1e-6, atol=1e-10)


# Modes and errors


def test_derivatives_work_under_no_grad_and_leave_the_mode() -> None:
    with no_grad():
        close(grad(scalar)(X), numerical(scalar, X))
        close(jacobian(f)(X), numerical(f, X))
        close(jvp(f, [X], [X])[1], numerical(f, X) @ X)
        close(hvp(scalar, X, X), hessian(scalar)(X).numpy() @ X)
        assert not is_grad_enabled()
        with enable_grad():
            assert is_grad_enabled()
    assert is_grad_enabled()


def test_the_mode_is_restored_when_the_function_fails() -> None:
    def fails(x: Any) -> Any:
        raise KeyError("in the user's function")

    with no_grad():
        for derivative in grad(fails), jacobian(fails), hessian(fails):
            with pytest.raises(KeyError):
                derivative(X)
        assert not is_grad_enabled()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: grad(f)(X), ShapeError, ["float64 (3,)", "jacobian"]),
        (lambda: hessian(f)(X), ShapeError, ["float64 (3,)", "np.sum"]),
        (lambda: grad(scalar)(np.array([1, 2, 3])), DTypeError, ["argument 0", "int64 (3,)", "dtype=float"]),
        (lambda: grad(scalar)(["a"]), DTypeError, ["argument 0"]),
        (lambda: grad(weighted, argnums=1)(W, 3), DTypeError, ["argument 1", "int 3"]),
        (lambda: grad(weighted, argnums=2)(W, X), ArgumentError, ["argnums", "2 for 2 arguments"]),
        (lambda: grad(lambda x: None)(X), DTypeError, ["NoneType", "return"]),
        (lambda: grad(lambda x: "a")(X), DTypeError, ["str", "return"]),
        (lambda: jacobian(lambda x: [x, x])(X), DTypeError, ["list", "np.stack"]),
        (lambda: vjp(f, X)[1](np.ones(2)), ShapeError, ["dout", "(2,)", "(3,)"]),
        (lambda: jvp(f, [X], [np.ones(2)]), ShapeError, ["tangents", "(2,)", "(3,)"]),
        (lambda: jvp(f, [X], [X, X]), ShapeError, ["tangents"]),
        (lambda: jvp(f, X, X), DTypeError, ["args is float64 (3,)", "[x], [v]"]),
        (lambda: hvp(scalar, X, np.ones(2)), ShapeError, ["(2,)", "(3,)"]),
    ],
)
def test_bad_input_is_explained(call: Callable[[], Any], error: type[mg.MinigradError], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    parts = caught.value.function, caught.value.got, caught.value.expected, caught.value.fix
    assert all(part.strip() for part in parts)
    for word in words:
        assert word in str(caught.value)
