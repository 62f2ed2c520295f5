"""Entries that an op did not select have no part in the result, and get the gradient 0, whatever lies behind them.

The cases are those that users of PyTorch, JAX, TensorFlow and tinygrad report, by the number of their thread.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.op import Op, registry
from minigrad.sums import unbroadcast
from minigrad.testing.calls import calls

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the values behind are invalid on purpose

inf, nan = np.inf, np.nan


def leaf(value: Any) -> mg.Tensor:
    return mg.Tensor(value, dtype=float, requires_grad=True)


def masked_write(x: mg.Tensor) -> mg.Tensor:
    y = mg.log(x)
    y[x.data <= 0] = 0.0
    return y


def rows(x: mg.Tensor) -> mg.Tensor:
    length = mg.sqrt(mg.sum(x**2, axis=1))
    return mg.where(length.data > 0.5, length, 1.0)


# thread: (function, x, the gradient of its sum)
REPORTED: dict[str, tuple[Callable[[mg.Tensor], Any], Any, Any]] = {
    "pytorch#18287": (lambda x: mg.where(x.data < 1, mg.cos(x), 0.0), [0.0, inf], [0.0, 0.0]),
    "pytorch#23395": (lambda x: mg.where(x.data == 0, x / 2, mg.sqrt(x) + 1), [16.0, 0.0], [0.125, 0.5]),
    "pytorch#36923": (lambda x: mg.where(x.data >= 0, x, 0 * (x / 0)), 1.0, 1.0),
    "pytorch#68425": (lambda x: mg.where(x.data <= 0, mg.exp(x * 100), 1 + x), 100.0, 1.0),
    "pytorch#108618": (
        lambda x: mg.where(x.data > 2, mg.log(x), 2 * x),
        [0.0, 2.0, 3.0],
        [2.0, 2.0, 1 / 3],
    ),
    "pytorch#156212": (
        lambda x: mg.where(x.data <= 10, mg.exp(x), 1.0),
        [1.0, nan, 1e10],
        [np.e, 0.0, 0.0],
    ),
    "pytorch#187297": (lambda x: mg.where(x.data > 0, mg.sqrt(x), x), [-1.0, -4.0], [1.0, 1.0]),
    "jax#347": (rows, [[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]], [[1 / 5**0.5, 2 / 5**0.5], [0.6, 0.8], [0.0, 0.0]]),
    "jax#1052": (
        lambda x: mg.where(np.array([0.0, 1.0, 0.0]) > 0.5, 0.0, mg.arctan2(x, x)),
        [3.0, 0.0, -5.0],
        [0.0, 0.0, 0.0],
    ),
    "jax#2630": (lambda x: mg.where(x.data > 0, 0.0, x * inf), 1.0, 0.0),
    "jax#20601": (lambda x: mg.where(False, x * nan, 1.0), 2.3, 0.0),
    "tensorflow#20355": (
        lambda x: mg.where(x.data < 0, 1 / (1 - x), mg.log(x + 1)),
        [1.0, -1.0, 0.0],
        [0.5, 0.25, 1.0],
    ),
    "tensorflow#27684": (lambda a: mg.where([True, False], a * mg.log(np.array([1.0, -1.0])), 0.0), 1.0, 0.0),
    "tensorflow#38349": (lambda x: mg.where(x.data < 15, x, 10.0 ** mg.exp(x)), 10.0, 1.0),
    "tinygrad#12409": (lambda x: mg.where(x.data == 0, 0.0, x * mg.sqrt(x)), [0.0], [0.0]),
    "the issue": (lambda x: mg.where(x.data > 0, mg.sqrt(x), 0.0), [-1.0, 0.0, 4.0], [0.0, 0.0, 0.25]),
    "clip": (lambda x: mg.clip(1 / x, -2.0, 2.0), [0.0, 1.0], [0.0, -1.0]),
    "maximum": (lambda x: mg.maximum(x / 1e300 / 1e300, 1.0), [1.0], [0.0]),
    "minimum": (lambda x: mg.minimum(1 / x, 2.0), [0.0, 1.0], [0.0, -1.0]),
    "x[i] = v": (masked_write, [-1.0, 0.0, 4.0], [0.0, 0.0, 0.25]),
    "x[mask]": (lambda x: mg.log(x)[x.data > 0], [-1.0, 0.0, 4.0], [0.0, 0.0, 0.25]),
    "x[slice]": (lambda x: mg.log(x)[2:], [-1.0, 0.0, 4.0], [0.0, 0.0, 0.25]),
    "x[i, i]": (lambda x: mg.log(x)[[2, 2]], [-1.0, 0.0, 4.0], [0.0, 0.0, 0.5]),
    "take": (lambda x: mg.take_along_axis(mg.sqrt(x), np.array([1])), [0.0, 4.0], [0.0, 0.25]),
    "through shapes": (
        lambda x: mg.where([[True, False]], mg.log(x).reshape(2, 1).T, 0.0),
        [4.0, 0.0],
        [0.25, 0.0],
    ),
    "through concatenate": (
        lambda x: mg.where([True, False] * 2, mg.concatenate([mg.log(x), mg.sqrt(x)]), 0.0),
        [4.0, 0.0],
        [0.5, 0.0],
    ),
    "through sum": (lambda x: mg.where([True, False], mg.sum(mg.sqrt(x), axis=1), 0.0), [[4.0], [0.0]], [[0.25], [0]]),
    "through mean": (lambda x: mg.where(False, mg.mean(mg.sqrt(x)), 0.0), [0.0, 4.0], [0.0, 0.0]),
    "through a reduction": (
        lambda x: mg.where([True, False], mg.logsumexp(mg.log(x), axis=1), 0.0),
        [[1.0, 1.0], [0.0, 1.0]],
        [[0.5, 0.5], [0.0, 0.0]],
    ),
    "through rows of softmax": (
        lambda x: mg.where([[True], [False]], mg.softmax(x + np.array([[0.0], [-inf]])), 0.0) * [1.0, 0.0],
        [[0.0, 0.0], [1.0, 2.0]],
        [[0.25, -0.25], [0.0, 0.0]],
    ),
    "through cumsum": (lambda x: mg.cumsum(mg.log(x))[:1], [1.0, 0.0], [1.0, 0.0]),
    "nothing of a product": (lambda x: mg.where(False, mg.log(x) @ np.ones(2), 0.0), [0.0, 1.0], [0.0, 0.0]),
    "broadcast": (lambda x: mg.where([[True], [False]], mg.sqrt(x) * [[1.0], [inf]], 0.0), [4.0], [0.25]),
    "two wheres": (
        lambda x: mg.where(x.data > 1, mg.log(x), mg.where(x.data > 0, mg.sqrt(x), 0.0)),
        [0.0, 0.25, 4.0],
        [0.0, 1.0, 0.25],
    ),
}


@pytest.mark.parametrize("case", REPORTED)
def test_what_users_of_others_report(case: str) -> None:
    f, value, expected = REPORTED[case]
    x = leaf(value)
    f(x).sum().backward()
    np.testing.assert_allclose(x.grad, expected, rtol=1e-15)


@pytest.mark.parametrize("case", REPORTED)
def test_the_same_by_rules_on_tensors_and_their_second_order_is_no_nan(case: str) -> None:
    f, value, expected = REPORTED[case]
    x = leaf(value)
    (dx,) = mg.grad(f(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(dx.numpy(), expected, rtol=1e-15)
    if dx.requires_grad:
        (ddx,) = mg.grad(dx.sum(), x, allow_unused=True)
        assert ddx is None or np.isfinite(ddx.numpy()).all()


def test_second_order_at_the_entries_selected() -> None:
    x = leaf([0.0, 4.0])
    (dx,) = mg.grad(mg.where(x.data > 0, mg.sqrt(x), 0.0).sum(), x, create_graph=True)
    (ddx,) = mg.grad(dx.sum(), x)
    assert ddx.tolist() == [0.0, -0.25 * 4.0**-1.5]


def test_nothing_is_hidden_that_is_selected() -> None:
    """0 * inf is nan where the entry has a part: no rule calls it 0."""
    for f, value in [
        (lambda x: mg.where([True, False], mg.sqrt(x) * 0.0, 0.0), [0.0, 0.0]),
        (lambda x: mg.where(True, mg.sqrt(x) * 0.0, 0.0), [0.0]),
        (lambda x: (mg.sqrt(x) * 0.0)[:1], [0.0, 1.0]),
        (lambda x: mg.sqrt(x) * np.array([0.0, 1.0]), [0.0, 1.0]),
    ]:
        x = leaf(value)
        f(x).sum().backward()
        assert x.grad is not None
        assert np.isnan(x.grad[0])


def test_an_entry_with_a_part_by_another_path_keeps_its_gradient() -> None:
    x = leaf([0.0, 4.0])
    root = mg.sqrt(x)
    (mg.where(x.data > 0, root, 0.0) + root).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [inf, 0.5]

    x = leaf([0.0, 0.0, 4.0])
    root = mg.sqrt(x)
    (mg.where([False, False, True], root, 0.0) + mg.where([True, False, False], root, 0.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [inf, 0.0, 0.25]


def test_a_gradient_from_outside_at_an_unselected_entry() -> None:
    x = leaf([0.0, 4.0])
    mg.where(x.data > 0, mg.sqrt(x), 0.0).backward([nan, 1.0])
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.25]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_stay(dtype: Any) -> None:
    x = mg.Tensor(np.array([0.0, 4.0], dtype), requires_grad=True)
    mg.where(x.data > 0, mg.sqrt(x), 0).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert x.grad.tolist() == [0.0, 0.25]


def test_a_users_own_elementwise_op_and_any_other() -> None:
    class Root(Op):
        elementwise = True

        def forward(self, x: Any) -> Any:
            return np.sqrt(x)

        def backward(self, dout: Any, out: Any) -> Any:
            return dout / 2 / out

    class Roots(Root):
        elementwise = False

    for op, part in [(Root(), True), (Roots(), False)]:
        x = leaf([0.0, 4.0])
        mg.where(x.data > 0, op(x), 0.0).sum().backward()
        assert x.grad is not None
        assert bool(np.isfinite(x.grad).all()) is part  # an op that does not say so may mix its entries
        x = leaf([0.0, 4.0])
        mg.where(False, op(x), 0.0).sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [0.0, 0.0]


def test_silent_under_errstate_where_nothing_is_selected() -> None:
    x = leaf([0.0, 4.0])
    y = mg.where(x.data > 0, mg.sqrt(x), 0.0).sum()
    with np.errstate(all="raise"):
        y.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.25]


def test_the_last_output_of_a_recurrent_layer_is_as_before() -> None:
    """Indexing what no rule passes entry by entry carries nothing."""
    layer = nn.LSTM(3, 4, batch_first=True)
    x = mg.Tensor(np.linspace(-1, 1, 30).reshape(2, 5, 3), requires_grad=True)
    out, _ = layer(x)
    out[:, -1].sum().backward()
    assert x.grad is not None
    assert np.isfinite(x.grad).all()


@pytest.mark.parametrize("op", [op for op in registry() if op.moves], ids=lambda op: op.name)
@given(data=st.data())
@settings(max_examples=20)
def test_an_op_that_says_it_moves_entries_does_nothing_else(op: Any, data: st.DataObject) -> None:
    """Its rule is linear, without negative coefficients, and says at 1 where a gradient of any size arrives."""
    call = data.draw(calls(op))
    arguments = [mg.Tensor(a, requires_grad=a.dtype.kind == "f") for a in call.arrays]
    out = call(*arguments)
    dout = data.draw(st.integers(0, 9).map(lambda seed: np.random.default_rng(seed).uniform(1, 2, out.shape)))
    dout *= np.random.default_rng(1).random(out.shape) < 0.7
    node = out._node
    assert node is not None
    grads = node.op.backward(dout, *node.saved)
    grads = grads if isinstance(grads, tuple) else (grads,)
    for g, entries in zip(grads, node.op.carry(dout != 0, dout, node.saved, node.parents), strict=True):
        if g is not None:
            np.testing.assert_array_equal(np.asarray(entries), np.asarray(g) != 0)
    assert node.op.selects <= node.op.moves


class Product(Op):
    """x * y, whose rule sums the gradient of y to its shape by itself."""

    elementwise = True

    def forward(self, x: Any, y: Any) -> Any:
        return x * y

    def backward(self, dout: Any, x: Any, y: Any) -> Any:
        return dout * y, unbroadcast(dout * x, y.shape)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_rule_that_sums_by_itself_is_not_summed_again(create_graph: bool) -> None:
    x, b = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), leaf([1.0, 1.0])
    (db,) = mg.grad(mg.where(x.data > 2, Product()(x, b), 0).sum(), b, create_graph=create_graph)
    assert db.tolist() == [8.0, 10.0]


@pytest.mark.parametrize("f", [mg.maximum, mg.minimum, mg.clip])
def test_a_nan_that_wins_has_a_part(f: Any) -> None:
    x = leaf([-1.0, 4.0])
    f(mg.sqrt(x), 0.5).sum().backward()
    assert x.grad is not None
    assert np.isnan(x.grad[0])


@pytest.mark.parametrize("index", [0, slice(1), [True, False], [0]], ids=str)
@pytest.mark.parametrize("f", [mg.max, mg.var, mg.std, mg.logsumexp, mg.prod, mg.norm, mg.softmax, mg.log_softmax])
def test_indexing_a_row_says_nothing_of_the_others(f: Any, index: Any) -> None:
    x = leaf([[1.0, 4.0], [0.0, 4.0]])
    f(mg.sqrt(x) * [1.0, 2.0], axis=1)[index].sum().backward()
    assert x.grad is not None
    assert np.isfinite(x.grad[0]).all()
    assert x.grad[1].tolist() == [0.0, 0.0]


def test_nothing_indexed_is_nothing() -> None:
    x = leaf([[0.0, 1.0]])
    ((mg.sqrt(x) @ np.ones((2, 1)))[:0].sum() + x.sum()).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 1.0]]


def test_what_has_a_part_is_heard_of() -> None:
    x = leaf([0.0, 4.0])
    y = mg.where([True, False], mg.sqrt(x), 0.0).sum()
    with np.errstate(all="raise"), pytest.raises(FloatingPointError) as caught:
        y.backward()
    assert "in backward of sqrt" in caught.value.__notes__[0]


@pytest.mark.parametrize("grads", [(1.0, 2.0), "text", 2.0, (np.zeros(3),)], ids=str)
def test_a_wrong_rule_behind_a_selection_is_the_error_that_it_is_elsewhere(grads: Any) -> None:
    class Wrong(Op):
        elementwise = True

        def forward(self, x: Any) -> Any:
            return x / 0

        def backward(self, dout: Any) -> Any:
            return grads

    x = leaf([1.0, 2.0])
    for y in (Wrong()(x).sum(), mg.where(x.data > 5, Wrong()(x), 0.0).sum()):
        with pytest.raises(mg.GradientError, match="wrong"):
            y.backward()


def test_several_threads_that_select_do_not_disturb_each_other() -> None:
    def work(found: list[Any]) -> None:
        for _ in range(300):
            x = leaf([0.0, 4.0])
            mg.where(x.data > 0, mg.sqrt(x), 0.0).sum().backward()
            found.append(x.grad.tolist() if x.grad is not None else None)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        found: list[Any] = []
        threads = [threading.Thread(target=work, args=(found,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert found == [[0.0, 0.25]] * 1200


def test_to_select_is_to_move() -> None:
    with pytest.raises(mg.DTypeError, match="moves = selects = True"):
        type("Pick", (Product,), {"selects": True})


def test_a_finite_gradient_is_the_same_to_the_bit_however_it_was_found() -> None:
    rng = np.random.default_rng(0)
    x = leaf(rng.normal(size=(5, 4)))

    def f() -> mg.Tensor:
        y = mg.where(x.data > 0, mg.exp(x), x * x)
        return (mg.clip(y, -1.0, 2.0)[1:] * mg.maximum(x, 0.3)[:-1] + y[:, [0, 0, 1, 3]][:4]).sum()

    f().backward()
    (with_booleans,) = mg.grad(f(), x, create_graph=True)
    assert x.grad is not None
    assert x.grad.tobytes() == with_booleans.numpy().tobytes()


def test_the_graph_is_released_and_stays_as_elsewhere() -> None:
    x = leaf([0.0, 4.0])
    y = mg.where(x.data > 0, mg.sqrt(x), 0.0).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.5]
    with pytest.raises(mg.GraphError, match="released"):
        y.backward()
