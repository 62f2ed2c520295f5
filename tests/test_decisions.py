"""Values fixed by decision, row by row of the design's table, and the traps of the seeds' code, one test each."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import minigrad as mg
from minigrad import DTypeError, GraphError, LabelError, ShapeError, Tensor, grad, unfused
from minigrad.book import Relu, SoftmaxWithLoss, TwoLayerNet
from minigrad.testing import gradcheck, numerical_gradient

CE = mg.softmax_cross_entropy


def gradient(f: Callable[[Tensor], Tensor], x: Any, dout: Any = None, dtype: Any = float) -> np.ndarray:
    t = Tensor(np.array(x, dtype), requires_grad=True)
    f(t).backward(dout)
    assert t.grad is not None
    return t.grad


# The table of values

DOUT = np.array([3.0, -2.0, 0.5])


@pytest.mark.parametrize("f", [mg.relu, mg.absolute, lambda x: mg.stack([mg.norm(v) for v in x])])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_relu_abs_and_norm_have_gradient_0_at_0(f: Any, zero: float) -> None:
    np.testing.assert_array_equal(gradient(f, [zero] * 3, DOUT), [0.0, 0.0, 0.0])


def test_norm_of_a_zero_vector_has_gradient_0() -> None:
    np.testing.assert_array_equal(gradient(mg.norm, np.zeros((2, 3)), 3.0), np.zeros((2, 3)))
    np.testing.assert_array_equal(
        gradient(lambda x: mg.norm(x, axis=1), [[0.0, 0.0], [3.0, 4.0]], [2.0, 5.0]), [[0.0, 0.0], [3.0, 4.0]]
    )


def test_clip_has_gradient_1_at_the_bound() -> None:
    x = [-2.0, -1.0, 0.0, 1.0, 2.0]
    np.testing.assert_array_equal(gradient(lambda t: mg.clip(t, -1.0, 1.0), x, [3.0] * 5), [0.0, 3.0, 3.0, 3.0, 0.0])


@pytest.mark.parametrize("f", [mg.maximum, mg.minimum])
def test_a_tie_of_two_gives_half_to_each(f: Any) -> None:
    x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor([1.0, 5.0], requires_grad=True)
    f(x, y).backward(np.array([3.0, 4.0]))
    assert x.grad[0] == y.grad[0] == 1.5
    assert sorted([x.grad[1], y.grad[1]]) == [0.0, 4.0]


@pytest.mark.parametrize("f", [mg.maximum, mg.minimum])
def test_a_tie_with_itself_gives_everything(f: Any) -> None:
    np.testing.assert_array_equal(gradient(lambda x: f(x, x), [1.0, 2.0, 3.0], DOUT), DOUT)


TIES = np.array([[2.0, 5.0, 5.0, 5.0], [1.0, 0.0, 1.0, 0.0]])


@pytest.mark.parametrize(("f", "x"), [(mg.max, TIES), (mg.min, -TIES)])
def test_a_tie_along_an_axis_is_divided_equally(f: Any, x: Any) -> None:
    got = gradient(lambda t: f(t, axis=1), x, [6.0, -4.0])
    np.testing.assert_array_equal(got, [[0.0, 2.0, 2.0, 2.0], [-2.0, 0.0, -2.0, 0.0]])
    assert gradient(lambda t: f(t), x, 6.0).sum() == 6.0


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([2.0, 3.0, 4.0], [12.0, 8.0, 6.0]),
        ([2.0, 0.0, 4.0], [0.0, 8.0, 0.0]),
        ([0.0, 0.0, 4.0], [0.0, 0.0, 0.0]),
        ([-0.0, 3.0, 4.0], [12.0, 0.0, 0.0]),
        ([1e-200, 1e-200, 1e250], [1e50, 1e50, 0.0]),
    ],
)
def test_the_gradient_of_prod_is_exact_beside_zeros(x: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(gradient(mg.prod, x, 2.0), 2 * np.array(expected), rtol=1e-15)


def test_the_second_derivative_of_prod_is_exact_beside_zeros() -> None:
    x = Tensor([2.0, 0.0, 4.0], requires_grad=True)
    (dx,) = grad(mg.prod(x), x, create_graph=True)
    dx.backward(np.array([1.0, 10.0, 100.0]))
    np.testing.assert_array_equal(x.grad, [40.0 + 0.0, 4.0 + 200.0, 20.0])


@pytest.mark.parametrize("x", [32.0, -32.0, 37.0, 40.0, -40.0, 300.0, -300.0, 700.0, -700.0])
def test_both_tails_of_the_sigmoid_family(x: float) -> None:
    with mpmath.workdps(700):
        e = mpmath.exp(-mpmath.mpf(x))
        rising, falling = 1 / (1 + e), e / (1 + e)
        tanh_slope = 1 - mpmath.tanh(mpmath.mpf(x)) ** 2
        expected = {
            mg.sigmoid: (rising, rising * falling),
            mg.log_sigmoid: (mpmath.log(rising), falling),
            mg.softplus: (-mpmath.log(falling), rising),
            mg.tanh: (mpmath.tanh(mpmath.mpf(x)), tanh_slope),
        }
        expected = {f: (float(value), float(slope)) for f, (value, slope) in expected.items()}
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        for f, (value, slope) in expected.items():
            assert f(x).item() == pytest.approx(value, rel=5e-16, abs=0)
            assert gradient(f, x, 2.0) == pytest.approx(2 * slope, rel=9e-16, abs=0)


@pytest.mark.parametrize("f", [mg.sigmoid, mg.tanh, mg.log_sigmoid, mg.softplus])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_no_warning_for_any_finite_input(f: Any, dtype: str) -> None:
    info = np.finfo(dtype)
    small = [info.tiny, -info.tiny, info.smallest_subnormal, 0.0, -0.0]
    x = np.array([info.max, info.min, *small, 710, -710, 88, -88, 17, -17], dtype)
    with np.errstate(all="raise"):
        assert np.isfinite(gradient(f, x, np.ones(13), dtype)).all()
    with np.errstate(all="raise", under="ignore"):  # half of the smallest number is 0
        assert np.isfinite(gradient(f, x, np.full(13, 0.5), dtype)).all()


def test_the_slope_in_float32_where_frameworks_return_0() -> None:
    assert gradient(mg.sigmoid, 24.0, 1.0, np.float32) == pytest.approx(3.7751345e-11, rel=3e-7, abs=0)


def test_a_confident_cross_entropy() -> None:
    logits = Tensor([[40.0, 0.0]], requires_grad=True)
    loss = CE(logits, [0])
    assert loss.item() == 4.2483542552915889e-18
    loss.backward()
    np.testing.assert_allclose(logits.grad, [[-4.2483542552915889e-18, 4.2483542552915889e-18]], rtol=4e-16)


def test_cross_entropy_with_everything_ignored_is_0_and_warns() -> None:
    logits = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    with pytest.warns(UserWarning, match="no sample counts"):
        loss = CE(logits, [-1, -1], ignore_index=-1)
    assert loss.item() == 0.0
    loss.backward()
    np.testing.assert_array_equal(logits.grad, np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("loss", "logits", "labels"),
    [
        (CE, (3, 2), (2,)),
        (CE, (3, 2), (3, 1)),
        (CE, (3, 2), (1, 3)),
        (CE, (2, 3, 4), (2, 4)),
        (mg.sigmoid_binary_cross_entropy, (3, 1), (3,)),
        (mg.sigmoid_binary_cross_entropy, (3,), ()),
        (mg.sigmoid_binary_cross_entropy, (2, 3), (1, 3)),
    ],
)
def test_shapes_that_would_broadcast_are_an_error_that_shows_both(loss: Any, logits: Any, labels: Any) -> None:
    with pytest.raises(ShapeError) as caught:
        loss(np.ones(logits), np.zeros(labels, int))
    assert f" {logits}" in str(caught.value)
    assert f" {labels}" in str(caught.value)


def test_softmax_runs_over_the_last_axis() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_allclose(mg.softmax(x).data.sum(axis=-1), np.ones((2, 3)), rtol=1e-15)
    np.testing.assert_array_equal(mg.softmax(x).data, mg.softmax(x, axis=2).data)
    np.testing.assert_array_equal(mg.log_softmax(x).data, mg.log_softmax(x, axis=-1).data)


def test_logits_in_one_row_are_a_batch_of_one() -> None:
    x = [0.3, 2.9, 4.0]
    for labels in 2, [2], [0, 0, 1]:
        got = gradient(lambda t, labels=labels: CE(t, labels), x, 3.0)
        assert got.shape == (3,)
        np.testing.assert_array_equal(got, gradient(lambda t: CE(t, [2]), [x], 3.0)[0])


# The traps of the book's code and of the articles on it. 3.0 or 5.0 as dout: a rule that ignores it fails.


def by_hand(logits: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss and its gradient for distributions t, in plain loops."""
    total, slope = 0.0, np.zeros_like(logits)
    for i, (row, wanted) in enumerate(zip(logits, t, strict=True)):
        p = np.exp(row - row.max())
        p = p / p.sum()
        total -= float(np.sum(wanted * np.log(p)))
        slope[i] = p * wanted.sum() - wanted
    return total / len(logits), slope / len(logits)


LOGITS = np.array([[0.3, 2.9, 4.0], [1.0, -1.0, 0.5]])


@pytest.mark.parametrize(
    ("labels", "t"),
    [
        ([2, 0], np.eye(3)[[2, 0]]),
        (np.eye(3)[[2, 0]], np.eye(3)[[2, 0]]),
        (np.eye(3, dtype=int)[[2, 0]], np.eye(3)[[2, 0]]),
        ([[0.2, 0.3, 0.5], [0.7, 0.1, 0.2]], np.array([[0.2, 0.3, 0.5], [0.7, 0.1, 0.2]])),
    ],
    ids=["index", "one-hot", "one-hot integers", "soft"],
)
@pytest.mark.parametrize("dout", [1.0, 5.0])
def test_loss_and_gradient_belong_together(labels: Any, t: np.ndarray, dout: float) -> None:
    """T2, T4, T9: one reduction for both, soft labels in both, dout multiplied in."""
    loss, slope = by_hand(LOGITS, t)
    assert CE(LOGITS, labels).item() == pytest.approx(loss, rel=1e-14, abs=0)
    np.testing.assert_allclose(gradient(lambda x: CE(x, labels), LOGITS, dout), dout * slope, rtol=1e-13)
    for reduction in "sum", "mean":
        assert gradcheck(lambda x, r=reduction: CE(x, labels, reduction=r), [LOGITS.copy()])


def test_t3_a_single_sample_is_not_divided_by_its_classes() -> None:
    t = np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(gradient(lambda x: CE(x, t), LOGITS[0], 1.0), by_hand(LOGITS[:1], t[None])[1][0])
    layer = SoftmaxWithLoss()
    layer.forward(LOGITS[0], t)
    np.testing.assert_allclose(np.ravel(layer.backward(1.0)), by_hand(LOGITS[:1], t[None])[1][0])


def test_t6_no_epsilon_a_perfect_prediction_costs_nothing() -> None:
    assert CE([[800.0, 0.0]], [0]).item() == 0.0
    assert 0.0 < CE([[600.0, 0.0]], [0]).item() == pytest.approx(np.exp(-600.0), rel=1e-12, abs=0)
    assert mg.sigmoid_binary_cross_entropy([600.0], [1.0]).item() == pytest.approx(np.exp(-600.0), rel=1e-12, abs=0)


def test_t7_t8_no_clip_a_hopeless_prediction_costs_what_it_costs() -> None:
    logits = Tensor([[1000.0, 0.0]], requires_grad=True)
    loss = CE(logits, [1])
    assert loss.item() == 1000.0
    loss.backward(3.0)
    np.testing.assert_array_equal(logits.grad, [[3.0, -3.0]])
    assert CE(np.array([[200.0, 0.0]], np.float32), [1]).item() == 200.0


def test_t9_softmax_with_loss_multiplies_dout() -> None:
    layer = SoftmaxWithLoss()
    layer.forward(LOGITS, np.array([2, 0]))
    np.testing.assert_allclose(5 * layer.backward(1.0), layer.backward(5.0), rtol=1e-15)


def test_t10_softmax_of_three_axes_normalises_each_row() -> None:
    p = mg.softmax(np.arange(8.0).reshape(2, 2, 2)).data
    np.testing.assert_allclose(p.sum(axis=2), np.ones((2, 2)), rtol=1e-15)


@pytest.mark.parametrize("label", [-1, -2, 3])
def test_t12_a_label_out_of_range_takes_no_class(label: int) -> None:
    with pytest.raises(LabelError, match=rf"labels\[1\] = {label}"):
        CE(LOGITS, [0, label])


def test_t12_ignore_index_is_explicit() -> None:
    assert CE(LOGITS, [2, -1], ignore_index=-1).item() == CE(LOGITS[:1], [2]).item()
    np.testing.assert_array_equal(gradient(lambda x: CE(x, [2, -1], ignore_index=-1), LOGITS, 1.0)[1], [0.0, 0.0, 0.0])


def test_t13_a_numerical_gradient_at_integers_is_not_truncated() -> None:
    def f(x: Any) -> Any:
        return x[0] ** 2 + x[1] ** 2

    np.testing.assert_allclose(numerical_gradient(f, [3, 4]), [6.0, 8.0], rtol=1e-9)
    with pytest.raises(DTypeError, match="int64"):
        numerical_gradient(f, np.array([3, 4]))


def test_t14_the_callers_array_is_restored_whatever_happens() -> None:
    x, calls = np.array([3.0, 4.0]), []

    def fails(x: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyError
        return np.sum(x * x)

    with pytest.raises(KeyError):
        numerical_gradient(fails, x)
    np.testing.assert_array_equal(x, [3.0, 4.0])


def test_t17_the_unfused_sigmoid_keeps_its_nan_and_the_fused_one_has_none() -> None:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isnan(gradient(unfused.sigmoid, -1000.0, 1.0))
    assert gradient(mg.sigmoid, -1000.0, 1.0) == 0.0
    assert mg.sigmoid(-1000.0).item() == 0.0


def test_t19_one_layer_called_twice() -> None:
    x, y = Tensor([1.0, -2.0], requires_grad=True), Tensor([3.0, 0.5], requires_grad=True)
    first, second = mg.tanh(x), mg.tanh(y)
    first.backward(np.array([1.0, 1.0]))
    second.backward(np.array([1.0, 1.0]))
    np.testing.assert_allclose(x.grad, 1 / np.cosh([1.0, -2.0]) ** 2, rtol=1e-14)
    np.testing.assert_allclose(y.grad, 1 / np.cosh([3.0, 0.5]) ** 2, rtol=1e-14)


def test_t20_accuracy_returns_a_number() -> None:
    net = TwoLayerNet(4, 5, 3, seed=0)
    x = np.random.default_rng(0).standard_normal((6, 4))
    right = net.predict(x).argmax(axis=1)
    assert net.accuracy(x, right) == 1.0
    assert net.accuracy(x, (right + 1) % 3) == 0.0
    assert net.accuracy(x, np.eye(3)[right]) == 1.0


def test_t21_a_rebound_parameter_is_no_leaf_any_more() -> None:
    p = Tensor([1.0, 2.0], requires_grad=True)
    (p * p).backward(np.array([1.0, 1.0]))
    q = p - 0.1 * p.grad
    assert q.requires_grad
    assert q.grad is None
    with pytest.raises(GraphError, match="leaf"):
        q.grad = np.ones(2)


def test_t26_relu_leaves_dout_alone() -> None:
    dout = np.array([1.0, 2.0, 3.0])
    dout.flags.writeable = False
    np.testing.assert_array_equal(gradient(mg.relu, [-1.0, 2.0, 0.0], dout), [0.0, 2.0, 0.0])
    layer = Relu()
    layer.forward(np.array([-1.0, 2.0, 0.0]))
    np.testing.assert_array_equal(layer.backward(dout), [0.0, 2.0, 0.0])


def test_t28_a_batch_of_one_that_hides_every_mistake_is_not_enough() -> None:
    """Normalised over a batch of one, out is beta: a check of any rule must be told wrong rules from right ones."""

    def normalised(x: Any) -> Any:
        return (x - np.mean(x, axis=0)) / np.sqrt(np.var(x, axis=0) + 1e-6)

    class Sabotaged(mg.Op):
        def forward(self, x: Any) -> Any:
            return normalised(x)

        def backward(self, dout: Any) -> Any:
            return dout * 123

    batch = np.random.default_rng(0).standard_normal((8, 3))
    assert gradcheck(normalised, [batch])
    assert np.abs(numerical_gradient(lambda x: np.sum(normalised(x)[0]), batch[:1].copy())).max() < 1e-6
    assert not gradcheck(Sabotaged(), [batch], raise_exception=False)
