"""Tensor as a user meets it: data and grad, operators, indexing, NumPy functions, conversions, modes, grad()."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import GraphError, InPlaceError, Tensor, enable_grad, from_numpy, grad, is_grad_enabled, no_grad


def leaf(values: Any, **kwargs: Any) -> Tensor:
    return Tensor(values, requires_grad=True, **kwargs)


# Making one


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1, "int64"),
        (1.0, "float64"),
        (True, "bool"),
        ([1, 2.5], "float64"),
        ([[1], [2]], "int64"),
        (np.float32(1.0), "float32"),
        (np.ones((2, 0), np.float16), "float16"),
        (range(3), "int64"),
        ((), "float64"),
        (Tensor([1.0], dtype="float32"), "float32"),
        ([Tensor(1.0), Tensor(2.0)], "float64"),
    ],
)
def test_data_keeps_numpys_dtype_and_shape(data: Any, dtype: str) -> None:
    t = Tensor(data)
    expected = np.array(data)
    assert t.dtype == dtype
    assert t.shape == expected.shape
    np.testing.assert_array_equal(t.data, expected)
    assert (t.ndim, t.size, t.requires_grad, t.grad, t.name) == (expected.ndim, expected.size, False, None, None)


def test_tensor_copies_what_it_is_given() -> None:
    a = np.zeros(3)
    t, from_tensor = Tensor(a), Tensor(from_numpy(a))
    a[0] = 1
    assert t.tolist() == from_tensor.tolist() == [0.0, 0.0, 0.0]
    assert not np.shares_memory(t.data, a)


def test_tensor_of_a_tensor_has_its_values_and_nothing_else() -> None:
    x = leaf([1.0, 2.0], name="x")
    t = Tensor(x * x)
    assert t.tolist() == [1.0, 4.0]
    assert not t.requires_grad
    assert t.name is None


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_dtype_and_requires_grad(dtype: str) -> None:
    t = Tensor([1, 2], dtype=dtype, requires_grad=True, name="w")
    assert t.dtype == np.dtype(dtype)
    assert t.requires_grad
    assert t.name == "w"
    (t * 2).backward(np.array([1.0, 3.0]))
    assert t.grad.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(t.grad, [2.0, 6.0])


def test_from_numpy_shares_memory_both_ways() -> None:
    a = np.zeros(3)
    t = from_numpy(a)
    a[0] = 1
    t.data[1] = 2
    t[2] = 3
    np.testing.assert_array_equal(a, [1, 2, 3])
    assert t.data is a


def test_from_numpy_never_writes_into_a_read_only_array() -> None:
    a = np.zeros(3)
    a.flags.writeable = False
    t = from_numpy(a)
    t += 1.0
    assert a.tolist() == [0.0, 0.0, 0.0]
    assert t.tolist() == [1.0, 1.0, 1.0]


# .data and .grad


def test_data_is_the_array_itself_and_can_be_replaced() -> None:
    x = leaf([1.0, 2.0])
    assert x.data is x.data
    new = np.array([3.0, 4.0])
    x.data = new
    assert x.data.tolist() == [3.0, 4.0]
    assert x.requires_grad


def test_two_tensors_given_the_same_data_do_not_share_it() -> None:
    x, y = leaf([1.0, 2.0]), leaf([5.0, 5.0])
    y.data = x.data
    loss = (x * x).sum()
    with mg.no_grad():
        y += 1.0
    loss.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_graph_of_the_gradient_is_recorded_under_no_grad_too() -> None:
    x = leaf([2.0])
    y = (x * x * x).sum()
    with mg.no_grad():
        (dx,) = mg.grad(y, x, create_graph=True)
    assert mg.grad(dx.sum(), x)[0].tolist() == [12.0]


def test_data_of_another_shape_makes_a_new_leaf() -> None:
    x = leaf([1.0, 2.0])
    (x * x).backward(np.array([1.0, 1.0]))
    x.data = np.array([[1.0, 2.0, 3.0]])
    assert x.grad is None
    assert x.requires_grad
    (x * x).backward(np.array([[1.0, -1.0, 1.0]]))
    np.testing.assert_array_equal(x.grad, [[2.0, -4.0, 6.0]])


def test_data_taken_from_a_tensor_is_copied() -> None:
    x, other = leaf([1.0, 2.0]), Tensor([3.0, 4.0])
    x.data = other
    x.data -= 1.0
    assert x.tolist() == [2.0, 3.0]
    assert other.tolist() == [3.0, 4.0]


def test_data_can_be_written_after_a_read_only_array_was_assigned() -> None:
    x = leaf([1.0, 2.0])
    x.data = np.broadcast_to(3.0, (2,))
    x.data -= 1.0
    assert x.tolist() == [2.0, 2.0]


def test_grad_accumulates_until_it_is_reset() -> None:
    x = leaf([1.0, 2.0])
    for k in range(1, 4):
        (x * x).backward(np.array([1.0, -1.0]))
        np.testing.assert_array_equal(x.grad, [2.0 * k, -4.0 * k])
    x.zero_grad()
    assert x.grad is None
    (x * x).backward(np.array([1.0, -1.0]))
    x.grad = None
    assert x.grad is None


def test_grad_assigned_is_copied_and_takes_the_tensors_dtype() -> None:
    x = leaf([1.0, 2.0], dtype="float32")
    given_grad = np.array([5, 6])
    x.grad = given_grad
    assert x.grad.dtype == np.float32
    x.grad *= 2
    assert given_grad.tolist() == [5, 6]
    same = np.array([5.0, 6.0], np.float32)
    x.grad = same
    assert not np.shares_memory(x.grad, same)
    x.grad *= 2
    assert x.grad.tolist() == [10.0, 12.0]
    x.grad = Tensor([1.0, 1.0])
    assert type(x.grad) is np.ndarray


def test_grad_of_a_single_value_is_an_array() -> None:
    x = leaf(3.0)
    for _ in range(3):
        (x * x + x).backward()
        assert type(x.grad) is np.ndarray
    assert x.grad.shape == ()
    assert x.grad == 21.0


def test_zero_grad_and_grad_of_what_collects_none() -> None:
    x = leaf([1.0])
    y, constant = x * x, Tensor([1.0])
    y.zero_grad()
    constant.zero_grad()
    assert y.grad is None
    assert constant.grad is None


def test_requires_grad_can_be_switched_on_a_leaf() -> None:
    x = Tensor([1.0, 2.0])
    x.requires_grad = True
    (x * x).backward(np.array([1.0, 1.0]))
    x.requires_grad = True
    assert x.grad.tolist() == [2.0, 4.0]
    x.requires_grad = False
    assert x.grad is None
    assert not (x * x).requires_grad


def test_backward_of_a_single_value_of_any_shape_needs_no_gradient() -> None:
    for shape in (), (1,), (1, 1):
        x = leaf(np.full(shape, 3.0))
        (x * x).backward()
        np.testing.assert_array_equal(x.grad, np.full(shape, 6.0))


def test_backward_takes_a_list_or_a_tensor_and_brings_it_to_the_dtype() -> None:
    x = leaf([1.0, 2.0], dtype="float32")
    (x * x).backward([1, -1])
    (x * x).backward(gradient=Tensor([1.0, -1.0]))
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [4.0, -8.0]


def test_detach_has_the_values_and_no_graph() -> None:
    x = leaf([1.0, 2.0])
    d = (x * x).detach()
    assert not d.requires_grad
    assert d.tolist() == [1.0, 4.0]
    (x * x * d).backward(np.array([1.0, 1.0]))
    assert x.grad.tolist() == [2.0, 16.0]


def test_detach_of_a_leaf_shares_its_memory() -> None:
    x = leaf([1.0, 2.0])
    d = x.detach()
    d[0] = 9.0
    assert x.tolist() == [9.0, 2.0]


def test_numpy_is_a_read_only_view() -> None:
    x = leaf([1.0, 2.0])
    view = x.numpy()
    assert np.shares_memory(view, x.data)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    assert x.data.flags.writeable


# In place


OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}
IN_PLACE = {
    "+": operator.iadd,
    "-": operator.isub,
    "*": operator.imul,
    "/": operator.itruediv,
    "**": operator.ipow,
    "@": operator.imatmul,
}


@pytest.mark.parametrize("sign", IN_PLACE)
def test_in_place_on_a_plain_tensor_keeps_object_memory_and_dtype(sign: str) -> None:
    values, other = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[2.0, 1.0], [1.0, 3.0]])
    t = Tensor(values)
    kept, memory = t, t.data
    t = IN_PLACE[sign](t, other)
    assert t is kept
    assert t.data is memory
    assert t.dtype == np.float32
    plain = {"@": operator.matmul, **OPERATORS}[sign](values, other)
    np.testing.assert_allclose(t.data, plain, rtol=1e-6)


@pytest.mark.parametrize("sign", IN_PLACE)
def test_in_place_on_a_result_is_recorded(sign: str) -> None:
    x, w = leaf([[1.0, 2.0], [3.0, 4.0]]), leaf([[2.0, 1.0], [1.0, 3.0]])
    dout = np.array([[1.0, -1.0], [0.5, 2.0]])
    y = x * 1.0
    kept = y
    y = IN_PLACE[sign](y, w)
    assert y is kept
    y.backward(dout)
    inplace = x.grad, w.grad
    x.zero_grad()
    w.zero_grad()
    {"@": operator.matmul, **OPERATORS}[sign](x, w).backward(dout)
    np.testing.assert_array_equal(x.grad, inplace[0])
    np.testing.assert_array_equal(w.grad, inplace[1])


@pytest.mark.parametrize("sign", IN_PLACE)
def test_in_place_on_a_leaf_wants_no_grad(sign: str) -> None:
    x = leaf([[1.0, 2.0], [3.0, 4.0]], name="W")
    before, memory = x.tolist(), x.data
    with pytest.raises(InPlaceError, match=r"W .*no_grad"):
        IN_PLACE[sign](x, np.eye(2))
    assert x.tolist() == before
    with no_grad():
        result = IN_PLACE[sign](x, np.full((2, 2), 2.0))
    assert result is x
    assert x.data is memory
    assert x.requires_grad
    assert x.tolist() != before


def test_an_optimiser_step_in_three_spellings() -> None:
    a, b, c = leaf([1.0, 2.0]), leaf([1.0, 2.0]), leaf([1.0, 2.0])
    for p in a, b, c:
        (p * p).backward(np.array([1.0, 1.0]))
    a.data -= 0.1 * a.grad
    with no_grad():
        b -= 0.1 * b.grad
    with no_grad():
        c[...] = c - 0.1 * c.grad
    assert a.tolist() == b.tolist() == c.tolist() == [0.8, 1.6]
    assert all(p.requires_grad for p in (a, b, c))


def test_in_place_with_itself() -> None:
    t = Tensor([1.0, 2.0, 3.0])
    t += t
    t[1:] = t[:-1]
    assert t.tolist() == [2.0, 2.0, 4.0]


# Indexing


@st.composite
def indices(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    basic = hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
    integers = hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(min_dims=1, max_dims=2, max_side=3))
    masks = hnp.arrays(bool, shape)
    return shape, draw(st.one_of(basic, integers, masks))


@given(indices())
def test_reading_with_every_index(case: tuple[tuple[int, ...], Any]) -> None:
    shape, index = case
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    x = leaf(values)
    y = x[index]
    np.testing.assert_array_equal(y.data, values[index])
    dout = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(dout)
    expected = np.zeros(shape)
    np.add.at(expected, index, dout)
    np.testing.assert_allclose(x.grad, expected, rtol=1e-14)


@given(indices(), st.booleans())
def test_writing_with_every_index(case: tuple[tuple[int, ...], Any], recorded: bool) -> None:
    shape, index = case
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    x, expected = leaf(values), values.copy()
    y = x * 1.0 if recorded else Tensor(values)
    y[index] = -7.0
    expected[index] = -7.0
    np.testing.assert_array_equal(y.data, expected)
    np.testing.assert_array_equal(x.data, values)
    if recorded:
        dout = np.random.default_rng(0).standard_normal(shape)
        y.backward(dout)
        np.testing.assert_array_equal(x.grad, np.where(expected == -7.0, 0, dout))


def test_indices_may_be_tensors() -> None:
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    assert x[Tensor([1, 0])].tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert x[Tensor([1, 0]), Tensor([0, 1])].tolist() == [3.0, 2.0]
    assert x[x > 2.5].tolist() == [3.0, 4.0]
    assert x[Tensor(1)].tolist() == [3.0, 4.0]
    assert x[Tensor([True, False])].tolist() == [[1.0, 2.0]]


def test_an_index_array_may_change_after_its_use() -> None:
    x, index = leaf([1.0, 2.0, 3.0]), np.array([0, 2])
    y = x[index]
    index[...] = 1
    y.backward(np.array([5.0, 7.0]))
    assert x.grad.tolist() == [5.0, 0.0, 7.0]


def test_writing_what_needs_a_gradient_at_a_repeated_index() -> None:
    x, v = leaf([1.0, 2.0, 3.0]), leaf([10.0, 20.0])
    y = x * 1.0
    y[[1, 1]] = v
    assert y.tolist() == [1.0, 20.0, 3.0]
    y.backward(np.array([5.0, 7.0, 9.0]))
    assert x.grad.tolist() == [5.0, 0.0, 9.0]
    assert v.grad.tolist() == [0.0, 7.0]


def test_a_chained_index_writes_through_as_in_numpy() -> None:
    t = Tensor(np.zeros((2, 2)))
    t[0][1] = 5.0
    sums = Tensor(np.ones((2, 2))) + 1.0
    sums[0][1] = 5.0
    assert t.tolist() == [[0.0, 5.0], [0.0, 0.0]]
    assert sums.tolist() == [[2.0, 5.0], [2.0, 2.0]]


def test_iteration_length_and_membership() -> None:
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    first, second = x
    assert (len(x), first.tolist(), second.tolist()) == (2, [1.0, 2.0], [3.0, 4.0])
    (first * second).backward(np.array([1.0, -1.0]))
    assert x.grad.tolist() == [[3.0, -4.0], [1.0, -2.0]]
    assert 3.0 in x
    assert 5.0 not in x


# Operators


def operand(kind: str) -> Any:
    return {
        "tensor": Tensor([4.0, 0.5]),
        "leaf": leaf([4.0, 0.5]),
        "array": np.array([4.0, 0.5]),
        "list": [4.0, 0.5],
        "float": 4.0,
        "int": 3,
        "numpy scalar": np.float64(4.0),
        "0-d array": np.array(4.0),
        "bool": True,
    }[kind]


KINDS = ["tensor", "leaf", "array", "list", "float", "int", "numpy scalar", "0-d array", "bool"]


@pytest.mark.parametrize("reflected", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", OPERATORS)
def test_operators_with_every_kind_of_operand(sign: str, kind: str, reflected: bool) -> None:
    f, x, other = OPERATORS[sign], leaf([2.0, 3.0]), operand(kind)
    plain = np.array(other.data if isinstance(other, Tensor) else other)
    out = f(other, x) if reflected else f(x, other)
    expected = f(plain, x.data) if reflected else f(x.data, plain)
    assert type(out) is Tensor
    np.testing.assert_array_equal(out.data, expected)
    dout = np.array([1.0, -2.0])
    out.backward(dout)
    h = 1e-6
    up, down = (f(plain, x.data + s) if reflected else f(x.data + s, plain) for s in (h, -h))
    np.testing.assert_allclose(x.grad, dout * (up - down) / (2 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("reflected", [False, True])
@pytest.mark.parametrize("kind", ["tensor", "leaf", "array", "list"])
def test_matmul_with_every_kind_of_operand(kind: str, reflected: bool) -> None:
    x, other = leaf([[2.0, 3.0], [5.0, 7.0]]), operand(kind)
    plain = np.array(other.data if isinstance(other, Tensor) else other)
    out = other @ x if reflected else x @ other
    np.testing.assert_array_equal(out.data, plain @ x.data if reflected else x.data @ plain)
    out.backward(np.array([1.0, -2.0]))
    expected = np.outer(plain, [1.0, -2.0]) if reflected else np.outer([1.0, -2.0], plain)
    np.testing.assert_array_equal(x.grad, expected)


def test_unary_operators() -> None:
    x = leaf([-2.0, 3.0])
    assert (-x).tolist() == [2.0, -3.0]
    assert abs(x).tolist() == [2.0, 3.0]
    positive = +x
    assert positive is not x
    assert positive.tolist() == x.tolist()
    (-x + abs(x) + positive * 3.0).backward(np.array([1.0, 2.0]))
    assert x.grad.tolist() == [1.0, 6.0]


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("scalar", [2, 2.5, True])
def test_python_scalars_leave_float32_alone(sign: str, scalar: Any) -> None:
    x = leaf([2.0, 3.0], dtype="float32")
    for out in OPERATORS[sign](x, scalar), OPERATORS[sign](scalar, x):
        assert out.dtype == np.float32
        out.backward(np.array([1.0, 2.0]))
        assert x.grad.dtype == np.float32


def test_numpys_promotion_of_dtypes() -> None:
    x = leaf([2.0], dtype="float32")
    assert (x * np.array([1.0])).dtype == np.float64
    assert (x * np.float64(1.0)).dtype == np.float64
    assert (x * np.array([1], np.int64)).dtype == np.float64
    (x * np.array([3.0])).backward()
    assert x.grad.dtype == np.float32


COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("kind", KINDS)
def test_comparisons_give_plain_arrays(compare: Callable[[Any, Any], Any], kind: str) -> None:
    x, other = leaf([4.0, 3.0]), operand(kind)
    plain = np.array(other.data if isinstance(other, Tensor) else other)
    for out, expected in [(compare(x, other), compare(x.data, plain)), (compare(other, x), compare(plain, x.data))]:
        assert type(out) is np.ndarray
        np.testing.assert_array_equal(out, expected)


def test_equality_with_what_is_no_number_is_false_as_in_numpy() -> None:
    x = Tensor([1.0, 2.0])
    assert (x == None).tolist() == [False, False]  # noqa: E711
    assert (x != "a").tolist() == [True, True]


def test_tensors_are_hashed_by_identity() -> None:
    x, y = Tensor([1.0]), Tensor([1.0])
    assert len({x, y, x}) == 2
    assert {x: 1}[x] == 1


# NumPy's functions


def test_numpy_functions_and_arrays_on_the_left_record() -> None:
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    out = np.exp(x) + np.ones(2) * x - np.sum(x, axis=0, keepdims=True) / np.float32(2) + np.mean(x)
    assert type(out) is Tensor
    expected = np.exp(x.data) + x.data - x.data.sum(0, keepdims=True) / 2 + x.data.mean()
    np.testing.assert_allclose(out.data, expected, rtol=1e-15)
    dout = np.array([[1.0, -1.0], [2.0, 0.5]])
    out.backward(dout)
    slope = dout * np.exp(x.data) + dout - dout.sum(0) / 2 + dout.sum() / 4
    np.testing.assert_allclose(x.grad, slope, rtol=1e-14)


def test_numpy_functions_of_lists_of_tensors() -> None:
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    out = np.concatenate([x, np.array([5.0]), y]) @ np.arange(5.0)
    out.backward()
    assert x.grad.tolist() == [0.0, 1.0]
    assert y.grad.tolist() == [3.0, 4.0]
    assert np.stack([x, y], axis=1).shape == (2, 2)


def test_numpy_functions_that_ask_about_a_tensor() -> None:
    x = leaf([[1.0, 2.0, 3.0]])
    assert np.shape(x) == (1, 3)
    assert np.ndim(x) == 2
    assert np.size(x) == 3
    assert np.argmax(x) == 2
    assert type(np.sign(x)) is np.ndarray
    assert type(np.isnan(x)) is np.ndarray
    assert np.allclose(x, [[1.0, 2.0, 3.0]])
    assert np.array_equal(x, x)
    assert type(np.zeros_like(x)) is np.ndarray


def test_asarray_of_a_tensor_without_graph() -> None:
    t = Tensor([1.0, 2.0])
    view, copied = np.asarray(t), np.array(t)
    assert not view.flags.writeable
    assert np.shares_memory(view, t.data)
    assert not np.shares_memory(copied, t.data)
    assert np.asarray(t, dtype="float32").dtype == np.float32


# Methods


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (lambda t: t.sum(0), lambda a: a.sum(0)),
        (lambda t: t.mean((0, 1), keepdims=True), lambda a: a.mean((0, 1), keepdims=True)),
        (lambda t: t.var(1, ddof=1), lambda a: a.var(1, ddof=1)),
        (lambda t: t.std(), lambda a: a.std()),
        (lambda t: t.prod(-1), lambda a: a.prod(-1)),
        (lambda t: t.max(1), lambda a: a.max(1)),
        (lambda t: t.min(), lambda a: a.min()),
        (lambda t: t.cumsum(1), lambda a: a.cumsum(1)),
        (lambda t: t.clip(2.0, 4.0), lambda a: a.clip(2.0, 4.0)),
        (lambda t: t.reshape(3, 2), lambda a: a.reshape(3, 2)),
        (lambda t: t.reshape((-1,)), lambda a: a.reshape(-1)),
        (lambda t: t.flatten(), lambda a: a.flatten()),
        (lambda t: t.T, lambda a: a.T),
        (lambda t: t.transpose(1, 0), lambda a: a.transpose(1, 0)),
        (lambda t: t.transpose((1, 0)), lambda a: a.transpose(1, 0)),
        (lambda t: t.swapaxes(0, 1), lambda a: a.swapaxes(0, 1)),
        (lambda t: t[None].squeeze(0), lambda a: a),
        (lambda t: t.repeat(2, axis=1), lambda a: a.repeat(2, axis=1)),
        (lambda t: t.dot([1.0, 2.0, 3.0]), lambda a: a.dot([1.0, 2.0, 3.0])),
        (lambda t: t.copy(), lambda a: a),
    ],
)
def test_methods_are_ndarrays(method: Callable[[Any], Any], expected: Callable[[Any], Any]) -> None:
    values = np.array([[1.0, 5.0, 2.0], [4.0, 3.0, 6.0]])
    x = leaf(values)
    out = method(x)
    assert type(out) is Tensor
    assert out.requires_grad
    np.testing.assert_allclose(out.data, expected(values), rtol=1e-15)


def test_argmax_and_argmin_are_plain() -> None:
    x = leaf([[1.0, 5.0], [4.0, 3.0]])
    assert x.argmax() == 1
    assert x.argmin(axis=1).tolist() == [0, 1]
    assert type(x.argmax(axis=0)) is np.ndarray


def test_astype_brings_the_gradient_back_in_the_old_dtype() -> None:
    x = leaf([1.0, 2.0], dtype="float32")
    y = x.astype("float64")
    assert y.dtype == np.float64
    (y * y).backward(np.array([1.0, -1.0]))
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [2.0, -4.0]
    assert not x.astype(int).requires_grad
    assert x.astype(int).dtype == np.dtype(int)


# Conversions and text


def test_single_values_convert() -> None:
    x = leaf([[2.5]])
    assert (float(x), int(x), bool(x), x.item()) == (2.5, 2, True, 2.5)
    assert type(x.item()) is float
    assert Tensor(7).item() == 7
    assert [10, 20, 30][Tensor(1)] == 20
    assert f"{x:.3f}" == "2.500"
    assert f"{Tensor([1.0])}" == "Tensor([1.], dtype=float64)"


def test_tolist() -> None:
    assert Tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Tensor(1.5), "Tensor(1.5, dtype=float64)"),
        (lambda: Tensor([1, 2]), "Tensor([1, 2], dtype=int64)"),
        (lambda: leaf([1.0], dtype="float32"), "Tensor([1.], dtype=float32, requires_grad=True)"),
        (lambda: leaf([1.0]) * 2, "Tensor([2.], dtype=float64, requires_grad=True, op=multiply)"),
        (
            lambda: mg.sum(leaf([[1.0, 2.0]]), axis=0),
            "Tensor([1., 2.], dtype=float64, requires_grad=True, op=sum(axis=0))",
        ),
        (lambda: leaf([1.0], name="W1"), "Tensor([1.], dtype=float64, requires_grad=True, name='W1')"),
        (lambda: Tensor([[1.0], [2.0]]), "Tensor([[1.],\n        [2.]], dtype=float64)"),
        (lambda: Tensor(np.zeros((0, 2))), "Tensor([], dtype=float64)"),
    ],
)
def test_repr(make: Callable[[], Tensor], text: str) -> None:
    assert repr(make()) == text


def test_repr_of_a_large_tensor_is_short() -> None:
    assert len(repr(Tensor(np.zeros((1000, 1000))))) < 300


# Copies


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t)), Tensor])
def test_copies_are_apart(duplicate: Callable[[Tensor], Tensor]) -> None:
    x = leaf([1.0, 2.0], dtype="float32", name="W")
    x.grad = np.array([5.0, 5.0])
    y = x * x
    t = duplicate(x)
    assert t.tolist() == [1.0, 2.0]
    assert t.dtype == np.float32
    if duplicate is not Tensor:
        assert t.requires_grad
        assert t.name == "W"
    with no_grad():
        t += 1.0
    assert x.tolist() == [1.0, 2.0]
    y.backward(np.array([1.0, 1.0]))
    assert x.grad.tolist() == [7.0, 9.0]


def test_a_graph_is_neither_copied_nor_pickled() -> None:
    y = leaf([1.0]) * 2.0
    for duplicate in copy.copy, copy.deepcopy, pickle.dumps:
        with pytest.raises(GraphError, match="detach"):
            duplicate(y)


# Modes


def test_no_grad_and_enable_grad_nest_and_restore() -> None:
    x = leaf([1.0])
    assert is_grad_enabled()
    with no_grad():
        assert not is_grad_enabled()
        assert not (x * x).requires_grad
        with enable_grad():
            assert (x * x).requires_grad
            with no_grad():
                assert not is_grad_enabled()
            assert is_grad_enabled()
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_modes_are_restored_after_an_exception() -> None:
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_grad_enabled()


def test_modes_as_decorators() -> None:
    x = leaf([1.0])

    @no_grad()
    def silent(t: Tensor, depth: int = 0) -> list[bool]:
        """Says whether it recorded, also from within itself."""
        return [(t * t).requires_grad, *(silent(t, depth - 1) if depth else [])]

    @enable_grad()
    def loud(t: Tensor) -> bool:
        return (t * t).requires_grad

    assert silent(x, depth=2) == [False, False, False]
    assert silent.__name__ == "silent"
    assert silent.__doc__.startswith("Says")
    with no_grad():
        assert loud(x)
    assert is_grad_enabled()


def test_one_mode_object_can_be_entered_again() -> None:
    mode = no_grad()
    with mode:
        with mode:
            assert not is_grad_enabled()
        assert not is_grad_enabled()
    assert is_grad_enabled()
    with mode:
        with enable_grad(), mode:
            assert not is_grad_enabled()
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_a_leaf_made_under_no_grad_still_requires_one() -> None:
    with no_grad():
        x = leaf([1.0, 2.0])
    (x * x).backward(np.array([1.0, 1.0]))
    assert x.grad.tolist() == [2.0, 4.0]


def test_backward_works_under_no_grad() -> None:
    x = leaf([1.0, 2.0])
    y = x * x
    with no_grad():
        y.backward(np.array([1.0, -1.0]))
    assert x.grad.tolist() == [2.0, -4.0]


def test_grad_works_under_no_grad() -> None:
    x = leaf([1.0, 2.0])
    y = x * x * x
    with no_grad():
        (dx,) = grad(y, x, np.array([1.0, 1.0]))
    assert dx.tolist() == [3.0, 12.0]
    assert not dx.requires_grad


# grad()


def test_grad_returns_tensors_and_touches_no_grad() -> None:
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    x.grad = np.array([9.0, 9.0])
    result = grad(x * w, [x, w], np.array([1.0, -1.0]))
    assert isinstance(result, tuple)
    assert [type(g) for g in result] == [Tensor, Tensor]
    assert [g.tolist() for g in result] == [[3.0, -4.0], [1.0, -2.0]]
    assert x.grad.tolist() == [9.0, 9.0]
    assert w.grad is None


def test_grad_with_respect_to_a_result() -> None:
    x = leaf([1.0, 2.0])
    y = mg.exp(x)
    z = y * y * y
    dy, dx = grad(z, [y, x], np.array([1.0, -1.0]))
    e = np.exp([1.0, 2.0])
    np.testing.assert_allclose(dy.data, 3 * e**2 * [1, -1], rtol=1e-14)
    np.testing.assert_allclose(dx.data, 3 * e**3 * [1, -1], rtol=1e-14)


def test_grad_of_several_outputs_adds_up() -> None:
    x = leaf([1.0, 2.0])
    (dx,) = grad([mg.sum(x * x), x * 3.0, mg.sum(x)], x, [None, np.array([1.0, 2.0]), 10.0])
    assert dx.tolist() == [2.0 + 3.0 + 10.0, 4.0 + 6.0 + 10.0]


def test_grad_of_one_output_twice_adds_up() -> None:
    x = leaf([1.0, 2.0])
    y = x * x
    (dx,) = grad([y, y], x, [np.array([1.0, 2.0]), np.array([10.0, 20.0])])
    assert dx.tolist() == [22.0, 88.0]


def test_grad_of_an_output_by_itself_is_its_seed() -> None:
    x = leaf([1.0, 2.0])
    y = x * x
    seed = np.array([3.0, 4.0])
    (dy,) = grad(y, y, seed)
    assert dy.tolist() == [3.0, 4.0]
    assert not np.shares_memory(dy.data, seed)


def test_grad_allow_unused() -> None:
    x, unused = leaf([1.0, 2.0]), leaf([1.0])
    dx, none = grad(mg.sum(x), [x, unused], allow_unused=True)
    assert dx.tolist() == [1.0, 1.0]
    assert none is None


@pytest.mark.parametrize("order", [2, 3, 4])
def test_grad_of_grad(order: int) -> None:
    x = leaf([0.5, -1.5])
    y = mg.sin(x) * 2.0
    for _ in range(order):
        (y,) = grad(y, x, np.array([1.0, 1.0]), create_graph=True)
    expected = 2 * np.sin(x.data + order * np.pi / 2)
    np.testing.assert_allclose(y.data, expected, rtol=1e-12)


def test_create_graph_differentiates_the_seed_too() -> None:
    x, v = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (dx,) = grad(x * x * x, x, v, create_graph=True)
    dv, ddx = grad(dx, [v, x], np.array([1.0, -1.0]))
    assert dv.tolist() == [3.0, -12.0]
    assert ddx.tolist() == [18.0, -48.0]


def test_create_graph_keeps_the_graph_and_retain_graph_overrides() -> None:
    x = leaf([1.0, 2.0])
    y = x * x
    grad(y, x, np.ones(2), create_graph=True)
    grad(y, x, np.ones(2), retain_graph=True)
    grad(y, x, np.ones(2))
    with pytest.raises(GraphError, match="released"):
        grad(y, x, np.ones(2))
    y = x * x
    grad(y, x, np.ones(2), create_graph=True, retain_graph=False)
    with pytest.raises(GraphError, match="released"):
        grad(y, x, np.ones(2))


def test_second_order_backward_collects_in_grad() -> None:
    x = leaf([1.0, 2.0])
    (dx,) = grad(x * x * x, x, np.array([1.0, 1.0]), create_graph=True)
    (dx * dx).backward(np.array([1.0, -1.0]))
    np.testing.assert_array_equal(x.grad, 36 * x.data**3 * [1.0, -1.0])
