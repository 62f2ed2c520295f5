"""Graph shapes, the walk, writes between forward and backward, who owns which memory, and when it is freed."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import minigrad as mg
from minigrad import GraphError, InPlaceError, Op, Tensor, func, grad, no_grad
from minigrad.tape import Node

# Seeds of backward are drawn: with ones alone, a rule that ignores dout would pass.
vectors = arrays(np.float64, 3, elements=st.floats(-2, 2, width=16))


def leaf(*values: float, name: str | None = None) -> Tensor:
    return Tensor(np.array(values), requires_grad=True, name=name)


def gradient(f: Callable[[Tensor], Tensor], x: np.ndarray, dout: np.ndarray) -> np.ndarray:
    """What backward leaves in x.grad, with a seed that nobody can write into."""
    dout = dout.copy()
    dout.flags.writeable = False
    t = Tensor(x, requires_grad=True)
    f(t).backward(dout)
    assert t.grad is not None
    return t.grad


# Shapes of graphs


def diamond(x: Tensor) -> Tensor:
    left, right = mg.sin(x), mg.exp(x)
    return left * right


def reuse(x: Tensor) -> Tensor:
    y = x * x
    return y * y * y + y


def dead_branch(x: Tensor) -> Tensor:
    y = x * x
    mg.exp(y)
    return y + mg.where([False, False, False], mg.exp(x), 0.0)


def skip(x: Tensor) -> Tensor:
    y = x
    for _ in range(4):
        y = y + x * y
    return y


def itself(x: Tensor) -> Tensor:
    return x


def x_and_x(x: Tensor) -> Tensor:
    return x + x


def parts(x: Tensor) -> Tensor:
    a, b, c = mg.split(x, 3)
    return mg.concatenate([b * a, a, c * b * a])


SHAPES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Any, Any], Any]]] = {
    "x": (itself, lambda x, d: d),
    "x + x": (x_and_x, lambda x, d: 2 * d),
    "x * x": (lambda x: x * x, lambda x, d: 2 * x * d),
    "x - x": (lambda x: x - x, lambda x, d: 0 * d),
    "diamond": (diamond, lambda x, d: d * np.exp(x) * (np.sin(x) + np.cos(x))),
    "reuse": (reuse, lambda x, d: d * (6 * x**5 + 2 * x)),
    "dead branch": (dead_branch, lambda x, d: d * 2 * x),
    "skip connections": (skip, lambda x, d: d * ((1 + x) ** 4 + 4 * x * (1 + x) ** 3)),
    "parts": (
        parts,
        lambda x, d: np.array(
            [
                d[0] * x[1] + d[1] + d[2] * x[2] * x[1],
                d[0] * x[0] + d[2] * x[2] * x[0],
                d[2] * x[1] * x[0],
            ]
        ),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@given(x=vectors, dout=vectors)
def test_gradient_of_a_shape(shape: str, x: np.ndarray, dout: np.ndarray) -> None:
    f, expected = SHAPES[shape]
    np.testing.assert_allclose(gradient(f, x, dout), expected(x, dout), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@given(x=vectors, dout=vectors)
def test_grad_gives_what_backward_collects(shape: str, x: np.ndarray, dout: np.ndarray) -> None:
    f, _ = SHAPES[shape]
    t = Tensor(x, requires_grad=True)
    for create_graph in False, True:
        (dx,) = grad(f(t), t, dout, create_graph=create_graph)
        np.testing.assert_array_equal(dx.numpy(), gradient(f, x, dout))
    assert t.grad is None


def test_a_rule_runs_once_however_many_paths_lead_to_its_node() -> None:
    runs = []

    class Counted(Op):
        def forward(self, x: Any) -> Any:
            return x * 2

        def backward(self, dout: Any) -> Any:
            runs.append(1)
            return dout * 2

    x = leaf(1.0, 2.0, 3.0)
    y = Counted()(x)
    z = (y + y) * y - y
    z.backward(np.array([1.0, -2.0, 0.5]))
    assert len(runs) == 1
    np.testing.assert_array_equal(x.grad, (4 * y.numpy() - 1) * 2 * [1.0, -2.0, 0.5])


def test_a_thousand_stacked_diamonds() -> None:
    x = leaf(1.5, -2.0, 0.25)
    y = x
    for _ in range(1000):
        y = y * 0.5 + y * 0.5  # 2**1000 paths from end to beginning
    dout = np.array([3.0, -1.0, 0.125])
    y.backward(dout)
    np.testing.assert_array_equal(x.grad, dout)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_sum_of_a_hundred_thousand_terms(side: str) -> None:
    x, w = leaf(1.0, 2.0, 3.0), leaf(0.5, 0.5, 0.5)
    total: Any = 0.0
    for _ in range(50_000):
        total = total + x if side == "left" else x + total
        total = total + w if side == "left" else w + total
    dout = np.array([1.0, -2.0, 0.5])
    total.backward(dout)
    np.testing.assert_array_equal(x.grad, 50_000 * dout)
    np.testing.assert_array_equal(w.grad, 50_000 * dout)


def test_a_stack_of_a_hundred_thousand_terms() -> None:
    x = leaf(2.0, 3.0, 4.0)
    dout = np.array([1.0, -2.0, 0.5])
    mg.sum(mg.stack([x] * 100_000), axis=0).backward(dout)
    np.testing.assert_array_equal(x.grad, 100_000 * dout)


# Several walks


def test_two_losses_of_one_leaf_add_up() -> None:
    x = leaf(1.0, 2.0, 3.0)
    (x * x).backward(np.array([1.0, 0.0, -1.0]))
    mg.exp(x).backward(np.array([2.0, 1.0, 0.0]))
    np.testing.assert_allclose(x.grad, [2 + 2 * np.e, np.exp(2), -6], rtol=1e-15)


def test_two_losses_with_a_common_trunk_want_retain_graph() -> None:
    x = leaf(1.0, 2.0, 3.0)
    trunk = mg.exp(x)
    first, second = trunk * 2, trunk * trunk
    first.backward(np.array([1.0, 1.0, 2.0]), retain_graph=True)
    second.backward(np.array([1.0, -1.0, 1.0]))
    e = np.exp([1.0, 2.0, 3.0])
    np.testing.assert_allclose(x.grad, 2 * e * [1, 1, 2] + 2 * e * e * [1, -1, 1], rtol=1e-15)


def test_two_losses_with_a_common_trunk_are_an_error_without_it() -> None:
    x = leaf(1.0, 2.0, 3.0)
    trunk = mg.exp(x)
    first, second = trunk * 2, trunk * trunk
    first.backward(np.array([1.0, 1.0, 2.0]))
    before = x.grad.copy()
    with pytest.raises(GraphError, match="retain_graph=True"):
        second.backward(np.array([1.0, -1.0, 1.0]))
    np.testing.assert_array_equal(x.grad, before)


def test_two_outputs_in_one_walk() -> None:
    x = leaf(1.0, 2.0, 3.0)
    trunk = mg.exp(x)
    (dx,) = grad([trunk * 2, trunk], x, [np.array([1.0, 0.0, 0.0]), np.array([0.0, 3.0, 0.0])])
    np.testing.assert_allclose(dx.numpy(), [2 * np.e, 3 * np.exp(2), 0], rtol=1e-15)


def test_backward_twice_is_an_error_that_says_so() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * x
    y.backward(np.array([1.0, 2.0, 3.0]))
    with pytest.raises(GraphError, match="already walked"):
        y.backward(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(x.grad, [2.0, 8.0, 18.0])


def test_backward_twice_with_retain_graph_accumulates() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * x
    y.backward(np.array([1.0, 2.0, 3.0]), retain_graph=True)
    y.backward(np.array([0.0, -1.0, 1.0]))
    np.testing.assert_array_equal(x.grad, [2.0, 4.0, 24.0])


def test_a_graph_grows_on_after_a_retained_walk() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * x
    y.backward(np.array([1.0, 2.0, 3.0]), retain_graph=True)
    (y * y).backward(np.array([1.0, 0.0, 0.0]))
    np.testing.assert_array_equal(x.grad, [2.0 + 4.0, 8.0, 18.0])


def test_an_unused_argument_costs_and_collects_nothing() -> None:
    x, unused, constant = leaf(1.0, 2.0, 3.0), leaf(1.0, 1.0, 1.0), Tensor([1.0, 2.0, 3.0])
    (x * constant).backward(np.array([1.0, 2.0, 3.0]))
    assert unused.grad is None
    assert constant.grad is None


# Exceptions in the middle


class Broken(Op):
    """An op whose rule fails."""

    def forward(self, x: Any) -> Any:
        return x * 1

    def backward(self, dout: Any) -> Any:
        raise ZeroDivisionError("in a rule")


@pytest.mark.parametrize("early", [True, False])
def test_an_exception_in_the_middle_of_a_walk_leaves_every_grad(early: bool) -> None:
    x, w = leaf(1.0, 2.0, 3.0), leaf(4.0, 5.0, 6.0)
    (x * w).backward(np.array([1.0, -1.0, 2.0]))
    held = x.grad, w.grad
    before = x.grad.copy(), w.grad.copy()
    y = Broken()(x) * w + w if early else mg.exp(w) * Broken()(mg.exp(x) * w)
    with pytest.raises(ZeroDivisionError):
        y.backward(np.array([1.0, 2.0, 3.0]))
    assert x.grad is held[0]
    assert w.grad is held[1]
    np.testing.assert_array_equal(x.grad, before[0])
    np.testing.assert_array_equal(w.grad, before[1])
    (x * w).backward(np.array([1.0, -1.0, 2.0]))
    np.testing.assert_array_equal(x.grad, 2 * before[0])


def test_a_broken_walk_is_not_taken_up_again() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = Broken()(mg.exp(x)) * x
    with pytest.raises(ZeroDivisionError):
        y.backward(np.ones(3))
    with pytest.raises(GraphError):
        y.backward(np.ones(3))
    assert x.grad is None


# Writes between forward and backward


def minus_data(p: Tensor) -> None:
    p.data -= 0.5


def minus_under_no_grad(p: Tensor) -> None:
    with no_grad():
        p -= 0.5


def index_under_no_grad(p: Tensor) -> None:
    with no_grad():
        p[1] = 9.0


def mask_under_no_grad(p: Tensor) -> None:
    with no_grad():
        p[p > 1.5] = 9.0


def view_under_no_grad(p: Tensor) -> None:
    with no_grad():
        view = p[1:]
        view *= 3.0


def transposed_view_under_no_grad(p: Tensor) -> None:
    with no_grad():
        p.reshape(3, 1).T[0, 1] = 9.0


def detached(p: Tensor) -> None:
    d = p.detach()
    d += 1.0


def detached_data(p: Tensor) -> None:
    p.detach().data += 1.0


def view_of_detached(p: Tensor) -> None:
    p.detach()[1:].data += 1.0


def recorded_view_data(p: Tensor) -> None:
    view = p[1:]
    with pytest.raises(InPlaceError):
        view.data -= 1.0


WRITES = [
    minus_data,
    minus_under_no_grad,
    index_under_no_grad,
    mask_under_no_grad,
    view_under_no_grad,
    transposed_view_under_no_grad,
    detached,
    detached_data,
    view_of_detached,
    recorded_view_data,
]

READERS: dict[str, Callable[[Tensor], Tensor]] = {
    "multiply": lambda p: p * p,
    "log": mg.log,
    "sin": mg.sin,
    "power": lambda p: p**3,
    "matmul": lambda p: mg.reshape(p, (3, 1)) @ mg.reshape(p, (1, 3)),
    "einsum": lambda p: mg.einsum("i,i->i", p, p),
    "multiply of a view": lambda p: p[::-1] * 2.0 * p[::-1],
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_backward_cannot_bear_names_op_and_tensor(write: Any, reader: str) -> None:
    p = leaf(1.0, 2.0, 3.0, name="weights")
    p.grad = np.array([1.0, 2.0, 3.0])
    y = READERS[reader](p)
    write(p)
    with pytest.raises(InPlaceError) as caught:
        y.backward(np.ones(y.shape))
    assert caught.value.function.startswith(reader.split()[0])
    assert caught.value.function.endswith(".backward")
    if "view" not in write.__name__ and "detached" not in write.__name__:
        assert "weights" in str(caught.value)
    assert "float64" in caught.value.got
    np.testing.assert_array_equal(p.grad, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "f", [lambda p: p + 1.0, lambda p: -p, lambda p: p.reshape(3, 1).T, mg.exp, mg.sigmoid, mg.sum]
)
def test_a_write_that_the_rule_does_not_mind_is_allowed(write: Any, f: Any) -> None:
    p = leaf(1.0, 2.0, 3.0)
    y = f(p)
    dout = np.reshape(np.array([1.0, -2.0, 3.0])[: y.size], y.shape)
    expected = gradient(f, np.array([1.0, 2.0, 3.0]), dout)
    write(p)
    y.backward(dout)
    np.testing.assert_array_equal(p.grad, expected)


@pytest.mark.parametrize("write", WRITES[:-1])
@pytest.mark.parametrize("f", [mg.sigmoid, mg.tanh, mg.softplus, mg.logsumexp])
def test_a_kept_slope_does_not_serve_the_second_order_after_a_write(write: Any, f: Any) -> None:
    p = leaf(1.0, 2.0, 3.0, name="weights")
    y = f(p)
    write(p)
    with pytest.raises(InPlaceError):
        grad(y, p, np.ones(y.shape), create_graph=True)


@pytest.mark.parametrize("write", WRITES)
def test_a_write_before_forward_is_no_matter(write: Any) -> None:
    p = leaf(1.0, 2.0, 3.0)
    write(p)
    (p * p).backward(np.array([1.0, -1.0, 2.0]))
    np.testing.assert_array_equal(p.grad, 2 * p.numpy() * [1.0, -1.0, 2.0])


@pytest.mark.parametrize("write", WRITES)
def test_writes_after_backward_make_a_training_loop(write: Any) -> None:
    p = leaf(1.0, 2.0, 3.0)
    for _ in range(3):
        p.zero_grad()
        before = p.numpy().copy()
        (p * p).backward(np.array([1.0, -1.0, 2.0]))
        np.testing.assert_array_equal(p.grad, 2 * before * [1.0, -1.0, 2.0])
        write(p)


def test_replaced_data_leaves_the_graph_with_the_old_values() -> None:
    p = leaf(1.0, 2.0, 3.0)
    y = p * p
    p.data = np.array([7.0, 8.0, 9.0])
    y.backward(np.array([1.0, -1.0, 2.0]))
    np.testing.assert_array_equal(p.grad, [2.0, -4.0, 12.0])
    np.testing.assert_array_equal(p.numpy(), [7.0, 8.0, 9.0])


def test_a_write_into_replaced_data_is_no_matter_to_the_old_graph() -> None:
    p = leaf(1.0, 2.0, 3.0)
    y = p * p
    p.data = np.array([7.0, 8.0, 9.0])
    p.data -= 1.0
    y.backward(np.array([1.0, -1.0, 2.0]))
    np.testing.assert_array_equal(p.grad, [2.0, -4.0, 12.0])


def spoil_detached_result(y: Tensor) -> None:
    d = y.detach()
    assert (d * leaf(1.0, 1.0, 1.0)).shape == (3,)  # an op has seen it
    d += 1.0


def spoil_detached_data(y: Tensor) -> None:
    y.detach().data -= 1.0


def spoil_view(y: Tensor) -> None:
    with no_grad():
        view = y[1:]
        assert (view * view).shape == (2,)
        view += 1.0


def spoil_result(y: Tensor) -> None:
    with no_grad():
        y *= 2.0


def spoil_leaf_made_of_result(y: Tensor) -> None:
    d = y.detach()
    d.requires_grad = True
    assert (d * d).requires_grad
    d.data -= 1.0


@pytest.mark.parametrize(
    "spoil", [spoil_detached_result, spoil_detached_data, spoil_view, spoil_result, spoil_leaf_made_of_result]
)
@pytest.mark.parametrize("f", [mg.exp, mg.sqrt, mg.tanh, lambda x: mg.exp(x)[::-1], lambda x: x[::-1] * x])
def test_writes_near_a_result_do_not_reach_what_its_rule_saved(spoil: Any, f: Any) -> None:
    dout = np.array([1.0, -2.0, 0.5])
    x = leaf(1.0, 2.0, 3.0)
    y = f(x)
    z = y * y
    spoil(y)
    z.backward(dout)
    expected = gradient(lambda x: f(x) * f(x), np.array([1.0, 2.0, 3.0]), dout)
    np.testing.assert_allclose(x.grad, expected, rtol=1e-14)


@pytest.mark.parametrize("through_view", [True, False])
def test_a_write_into_a_results_data_is_refused_and_spoils_its_graph(through_view: bool) -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = mg.exp(x)
    z = y * 2.0
    target = y[1:] if through_view else y
    with pytest.raises(InPlaceError, match=r"Tensor\.data"):
        target.data -= 1.0
    for result in y, z, y * y:
        with pytest.raises(InPlaceError):
            result.backward(np.ones(3))
    assert x.grad is None


def test_a_leaf_made_of_a_result_is_watched_like_any_other() -> None:
    p = Tensor([1.0, 2.0]) * 0.5
    p.requires_grad = True
    y = p * p
    p.data -= 1.0
    with pytest.raises(InPlaceError):
        y.backward(np.ones(2))


def test_an_op_that_returns_its_argument_does_not_hide_writes() -> None:
    class Same(Op):
        def forward(self, x: Any) -> Any:
            return x

        def backward(self, dout: Any) -> Any:
            return dout

    class Flipped(Same):
        def forward(self, x: Any) -> Any:
            return x[::-1]

        def backward(self, dout: Any) -> Any:
            return dout[::-1]

    dout = np.array([1.0, -1.0, 2.0])
    for op, order in (Same(), slice(None)), (Flipped(), slice(None, None, -1)):
        x = leaf(1.0, 2.0, 3.0)
        same = op(x)
        y = same * same
        before = same.numpy().copy()
        minus_data(x)
        y.backward(dout)
        np.testing.assert_array_equal(x.grad, (2 * before * dout)[order])


def test_recorded_writes_into_a_result() -> None:
    x, v = leaf(1.0, 2.0, 3.0), leaf(5.0)
    y = x * 2.0
    before = y * y
    y[1] = v[0]
    y += x
    after = y * y
    np.testing.assert_array_equal(before.numpy(), [4.0, 16.0, 36.0])
    np.testing.assert_array_equal(after.numpy(), [9.0, 49.0, 81.0])
    after.backward(np.array([1.0, 2.0, 3.0]), retain_graph=True)
    np.testing.assert_array_equal(x.grad, [18.0, 28.0, 162.0])  # 2y * (3, 1, 3) * dout
    np.testing.assert_array_equal(v.grad, [28.0])
    x.zero_grad()
    before.backward(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(x.grad, [8.0, 32.0, 72.0])


def test_a_gradient_flows_into_what_is_written_into_a_plain_tensor() -> None:
    w = leaf(1.0, 2.0, 3.0)
    canvas = Tensor(np.zeros((2, 3)))
    canvas[0] = w
    canvas[1] = w * w
    canvas.backward(np.array([[1.0, 2.0, 3.0], [1.0, 0.0, -1.0]]))
    np.testing.assert_array_equal(w.grad, [3.0, 2.0, -3.0])


# Who owns what


def views(x: Tensor, y: Tensor) -> Tensor:
    return mg.transpose(mg.reshape(x, (1, 3))) + mg.reshape(y, (3, 1))


OWNERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x + y": lambda x, y: x + y,
    "x - y": lambda x, y: x - y,
    "x * y": lambda x, y: x * y,
    "x twice": lambda x, y: x + x + y,
    "copies": lambda x, y: mg.copy(mg.copy(x)) + y,
    "views": views,
    "flip": lambda x, y: mg.flip(x) + y[::-1],
    "concatenate": lambda x, y: mg.concatenate([x, y, x]),
    "stack": lambda x, y: mg.stack([x, y], axis=1),
    "broadcast": lambda x, y: mg.broadcast_to(x, (2, 3)) + y,
    "where": lambda x, y: mg.where([True, False, True], x, y),
    "astype": lambda x, y: x.astype("float64") + y.astype("float32"),
    "sum": lambda x, y: mg.sum(x) + mg.sum(y),
    "getitem": lambda x, y: x[:] + y[...],
    "setitem": lambda x, y: mg.setitem(x, y, slice(None)) + x,
    "matmul": lambda x, y: mg.reshape(x, (3, 1)) @ mg.reshape(y, (1, 3)),
    "maximum": mg.maximum,
    "clip": lambda x, y: mg.clip(x, y, 10.0),
}


@pytest.mark.parametrize("function", OWNERS)
def test_grad_shares_memory_with_nothing(function: str) -> None:
    x, y = leaf(1.0, 2.0, 3.0), leaf(4.0, 1.0, 3.0)
    out = OWNERS[function](x, y)
    dout = np.random.default_rng(1).standard_normal(out.shape).astype(out.dtype)
    seed = dout.copy()
    out.backward(dout, retain_graph=True)
    everything = [x.data, y.data, out.data, dout, x.grad, y.grad]
    for owned in x.grad, y.grad:
        assert type(owned) is np.ndarray
        assert owned.base is None
        assert owned.flags.writeable
        assert owned.dtype == np.float64
        assert sum(np.shares_memory(owned, other) for other in everything) == 1  # itself
    first = x.grad.copy(), y.grad.copy()
    x.grad[...] = 100.0
    y.grad[...] = 100.0
    np.testing.assert_array_equal(dout, seed)
    x.zero_grad()
    y.zero_grad()
    out.backward(dout)
    np.testing.assert_array_equal(x.grad, first[0])
    np.testing.assert_array_equal(y.grad, first[1])


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("function", OWNERS)
def test_what_grad_returns_shares_memory_with_nothing(function: str, create_graph: bool) -> None:
    x, y = leaf(1.0, 2.0, 3.0), leaf(4.0, 1.0, 3.0)
    out = OWNERS[function](x, y)
    dout = np.random.default_rng(1).standard_normal(out.shape).astype(out.dtype)
    dx, dy = grad(out, [x, y], dout, create_graph=create_graph)
    everything = [x.data, y.data, out.data, dout, dx.data, dy.data]
    for owned in [t.data for t in (dx, dy) if not t.requires_grad]:  # the rest is part of a graph, like any result
        assert sum(np.shares_memory(owned, other) for other in everything) == 1


def test_grad_of_a_leaf_by_itself_is_not_the_seed() -> None:
    x = leaf(1.0, 2.0, 3.0)
    dout = np.array([1.0, -1.0, 2.0])
    x.backward(dout)
    x.backward(dout)
    np.testing.assert_array_equal(x.grad, [2.0, -2.0, 4.0])
    np.testing.assert_array_equal(dout, [1.0, -1.0, 2.0])


def test_one_input_twice_gives_two_gradients_of_the_same_value() -> None:
    x = leaf(1.0, 2.0, 3.0)
    first, second = grad(x * x, [x, x], np.ones(3))
    np.testing.assert_array_equal(first.numpy(), second.numpy())


class WritesDout(Op):
    """The book's Relu, which writes zeros into the caller's gradient."""

    def forward(self, x: Any) -> Any:
        return np.maximum(x, 0)

    def backward(self, dout: Any, x: Any) -> Any:
        dout[x <= 0] = 0
        return dout


class WritesSaved(Op):
    """A rule that works in what it asked for."""

    def forward(self, x: Any) -> Any:
        return x * x

    def backward(self, dout: Any, x: Any) -> Any:
        x *= 2
        return dout * x


class WritesArgument(Op):
    """A forward that works in the caller's array."""

    def forward(self, x: Any) -> Any:
        x[x <= 0] = 0
        return x

    def backward(self, dout: Any) -> Any:
        return dout


@pytest.mark.parametrize("op", [WritesDout(), WritesSaved()])
def test_a_rule_cannot_write_into_what_others_need(op: Op) -> None:
    x, w = leaf(-1.0, 2.0, 3.0), leaf(1.0, 1.0, 1.0)
    out = op(x) + w  # add hands one and the same array to both sides
    dout = np.array([1.0, -1.0, 2.0])
    with pytest.raises(InPlaceError, match="copy") as caught:
        out.backward(dout)
    assert caught.value.function == f"{op}.backward"
    assert x.grad is None
    assert w.grad is None
    np.testing.assert_array_equal(dout, [1.0, -1.0, 2.0])
    np.testing.assert_array_equal(x.numpy(), [-1.0, 2.0, 3.0])


def test_a_rule_cannot_write_into_what_others_need_at_second_order() -> None:
    class Scales(Op):
        def forward(self, x: Any) -> Any:
            return x * 2

        def backward(self, dout: Any) -> Any:
            dout *= 2
            return dout

    x, w = leaf(-1.0, 2.0, 3.0), leaf(1.0, 1.0, 1.0)
    dout = Tensor([1.0, -1.0, 2.0])
    dx, dw = grad(Scales()(x) + w, [x, w], dout, create_graph=True)
    np.testing.assert_array_equal(dx.numpy(), [2.0, -2.0, 4.0])
    np.testing.assert_array_equal(dw.numpy(), [1.0, -1.0, 2.0])
    np.testing.assert_array_equal(dout.numpy(), [1.0, -1.0, 2.0])


def test_a_forward_cannot_write_into_its_argument() -> None:
    x = leaf(-1.0, 2.0, 3.0)
    with pytest.raises(InPlaceError, match=r"writes_argument\.forward"):
        WritesArgument()(x)
    np.testing.assert_array_equal(x.numpy(), [-1.0, 2.0, 3.0])


# Memory: with the garbage collector off, what is dropped is gone at once


@pytest.fixture
def without_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def nodes() -> int:
    return sum(isinstance(o, Node) for o in gc.get_objects())


def forward_only(x: Tensor) -> list[Any]:
    return [mg.sum(diamond(x) * x)]


def after_backward(x: Tensor) -> list[Any]:
    y = mg.sum(diamond(x))
    y.backward()
    return [y]


def after_retained_backward(x: Tensor) -> list[Any]:
    y = mg.sum(diamond(x))
    y.backward(retain_graph=True)
    return [y]


def after_second_order(x: Tensor) -> list[Any]:
    y = mg.sum(diamond(x))
    (dx,) = grad(y, x, create_graph=True)
    (ddx,) = grad(mg.sum(dx), x)
    return [y, dx, ddx]


def after_error(x: Tensor) -> list[Any]:
    y = Broken()(diamond(x))
    with pytest.raises(ZeroDivisionError):
        y.backward(np.ones(3))
    return [y]


def after_writes(x: Tensor) -> list[Any]:
    y = x * 2.0
    y[0] = x[1]
    y += x
    return [y]


def variadic(x: Tensor) -> list[Any]:
    return [mg.concatenate([x, x * 2.0]), mg.stack([x, x]), mg.einsum("i,i->", x, x)]


def with_func(x: Tensor) -> list[Any]:
    return [func.hessian(lambda t: mg.sum(t**3))(x.numpy()), func.vjp(diamond, x.numpy())]


@pytest.mark.usefixtures("without_gc")
@pytest.mark.parametrize(
    "make",
    [
        forward_only,
        after_backward,
        after_retained_backward,
        after_second_order,
        after_error,
        after_writes,
        variadic,
        with_func,
    ],
)
def test_nothing_is_left_over_after_del(make: Callable[[Tensor], list[Any]]) -> None:
    make(leaf(1.0, 2.0, 3.0))  # whatever is made once and kept, such as caches
    before = nodes()
    x = leaf(1.0, 2.0, 3.0)
    results = make(x)
    watched = [weakref.ref(x), weakref.ref(x.data)]
    for result in results:
        if isinstance(result, Tensor):
            watched += [weakref.ref(result), weakref.ref(result.data)]
    del result, results, x
    assert [ref() for ref in watched] == [None] * len(watched)
    assert nodes() == before


@pytest.mark.usefixtures("without_gc")
@pytest.mark.parametrize("retain_graph", [False, True])
def test_saved_arrays_go_as_the_walk_passes(retain_graph: bool) -> None:
    x = leaf(1.0, 2.0, 3.0)
    middle = mg.exp(x)
    saved = weakref.ref(middle.data)
    loss = mg.sum(middle * middle)
    del middle
    assert saved() is not None
    loss.backward(retain_graph=retain_graph)
    assert (saved() is not None) == retain_graph


@pytest.mark.usefixtures("without_gc")
def test_arrays_that_no_rule_asks_for_are_not_kept() -> None:
    x = leaf(1.0, 2.0, 3.0)
    middle = x * 2.0
    unsaved = weakref.ref(middle.data)
    y = middle + 1.0
    del middle
    assert unsaved() is None
    y.backward(np.ones(3))


@pytest.mark.usefixtures("without_gc")
def test_gradients_on_the_way_are_dropped_once_used() -> None:
    passed: list[Any] = []
    most = []

    class Watched(Op):
        def forward(self, x: Any) -> Any:
            return x * 2

        def backward(self, dout: Any) -> Any:
            most.append(sum(ref() is not None for ref in passed))
            passed.append(weakref.ref(dout.base))  # dout itself is a view made for this rule
            return dout * 0.5

    y: Tensor = leaf(1.0, 2.0, 3.0)
    for _ in range(50):
        y = Watched()(y)
    y.backward(np.ones(3))
    assert len(most) == 50
    assert max(most) <= 1  # the seed alone, which the caller holds


CHAIN = """
import gc, sys, weakref
import numpy as np
import minigrad as mg
from minigrad.tape import Node

def count():
    return sum(isinstance(o, Node) for o in gc.get_objects())

sys.setrecursionlimit(200)
gc.collect()
gc.disable()
x, a = mg.Tensor([2.0, 3.0], requires_grad=True), mg.Tensor([1.0, -1.0])
before = count()

def chain(n):
    y = x
    for _ in range(n // 2):
        y = y * a + a
    return y

y = chain(1_000_000)
assert count() == before + 1_000_000, count()
y.backward(np.array([3.0, 5.0]))
assert x.grad.tolist() == [3.0, 5.0], x.grad  # a**500000 is 1, 1
assert count() == before + 1, count()         # the last node alone
del y
assert count() == before

y = chain(1_000_000)                          # freed without having been walked
array = weakref.ref(y.data)
del y
assert array() is None
assert count() == before

y = chain(1_000_000)
y.backward(np.array([1.0, 2.0]), retain_graph=True)
(dx,) = mg.grad(y, x, np.array([1.0, 2.0]))
assert dx.tolist() == [1.0, 2.0]
assert x.grad.tolist() == [4.0, 7.0]
del y, dx
assert count() == before
print("a million nodes")
"""


def test_a_chain_of_a_million_nodes_without_recursion_or_garbage_collector() -> None:
    run = subprocess.run([sys.executable, "-c", CHAIN], capture_output=True, text=True, check=False)
    assert run.stdout == "a million nodes\n", run.stderr
