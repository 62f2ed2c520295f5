"""What works on rows in blocks: the same on many blocks as on one, for any layout and for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from minigrad.ops import rows
from minigrad.sums import add_up, unbroadcast

RNG = np.random.default_rng(5)
N, C = 150, 1000  # three blocks, the last of them shorter
CALLS = {
    "softmax": lambda x: mg.softmax(x),
    "log_softmax": lambda x: mg.log_softmax(x),
    "softmax_cross_entropy": lambda x: mg.softmax_cross_entropy(x, np.arange(len(x)) % C, reduction="none"),
    "one-hot": lambda x: mg.softmax_cross_entropy(x, np.eye(C)[np.arange(len(x)) % C], reduction="none"),
    "layer_norm": lambda x: mg.layer_norm(x, C, np.linspace(-1, 2, C, dtype=x.dtype), np.ones(C, x.dtype)),
    "rms_norm": lambda x: mg.rms_norm(x, C, np.linspace(-1, 2, C, dtype=x.dtype)),
}


def value_and_gradient(call: Any, x: Any, dout: Any = None) -> tuple[Any, Any]:
    leaf = Tensor(x, requires_grad=True)
    out = call(leaf)
    out.backward(dout)
    return out.numpy(), leaf.grad


@pytest.fixture
def threads() -> Iterator[None]:
    before = mg.get_num_threads()
    yield
    mg.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CALLS)
def test_many_blocks_give_what_single_rows_do(name: str, dtype: str) -> None:
    x = (RNG.normal(size=(N, C)) * 5).astype(dtype)
    out = CALLS[name](Tensor(x)).numpy()
    dout = RNG.normal(size=out.shape).astype(dtype)
    out, grad = value_and_gradient(CALLS[name], x, dout)
    for part in (slice(0, 40), slice(40, 80), slice(80, 120), slice(120, 150)):
        # Arrays that small are worked on in one piece; their class numbers begin anew.
        one = x[part]
        if name in ("softmax_cross_entropy", "one-hot"):
            t = np.arange(N)[part] % C
            labels = np.eye(C)[t] if name == "one-hot" else t

            def call(y: Any, labels: Any = labels) -> Any:
                return mg.softmax_cross_entropy(y, labels, reduction="none")

        else:
            call = CALLS[name]
        each, slope = value_and_gradient(call, one, dout[part])
        np.testing.assert_allclose(out[part], each, rtol=4 * np.finfo(dtype).eps, atol=1e-30)
        np.testing.assert_allclose(grad[part], slope, rtol=1e3 * np.finfo(dtype).eps, atol=1e2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", [*CALLS, "batch_norm"])
def test_the_same_bits_for_any_number_of_threads(name: str, threads: None) -> None:
    x = RNG.normal(size=(400, C)).astype(np.float32)
    call = CALLS.get(name)
    if call is None:
        x = RNG.normal(size=(40, 60, 900)).astype(np.float32)
        call = mg.batch_norm
    dout = RNG.normal(size=call(Tensor(x)).shape).astype(np.float32)
    results = []
    for n in (1, 2, 3):
        mg.set_num_threads(n)
        results.append(value_and_gradient(call, x, dout))
    for out, grad in results[1:]:
        assert np.array_equal(out.view(np.int32), results[0][0].view(np.int32))
        assert np.array_equal(grad.view(np.int32), results[0][1].view(np.int32))


@pytest.mark.parametrize("shape", [(6, 5), (150, 1000)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_any_axis_and_layout(name: str, shape: tuple[int, ...]) -> None:
    x, dout = RNG.normal(size=(2, *shape))
    x *= 20  # confident: 1 - p of the winner has no digits left
    function = getattr(mg, name)
    expected = value_and_gradient(function, x, dout)
    for y, g in ((np.asfortranarray(x), dout), (x, np.asfortranarray(dout)), (np.repeat(x, 2, axis=1)[:, ::2], dout)):
        for found, right in zip(value_and_gradient(function, y, g), expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-9, atol=1e-30)
    turned = value_and_gradient(lambda t: function(t, axis=0), x.T.copy(), dout.T.copy())
    for found, right in zip(turned, expected, strict=True):
        np.testing.assert_allclose(found, right.T, rtol=1e-9, atol=1e-30)


def test_numpys_buffer_is_as_it_was() -> None:
    np.setbufsize(8192)
    mg.softmax(RNG.normal(size=(N, C)))
    assert np.getbufsize() == 8192
    with pytest.raises(ZeroDivisionError):
        rows.by_blocks(lambda parts: 1 / 0, 10, C)
    assert np.getbufsize() == 8192


@pytest.mark.parametrize("shape", [(4, 3), (200, 1000)])
def test_the_gradient_of_a_loss_belongs_to_the_leaf(shape: tuple[int, int]) -> None:
    # backward() of the loss itself multiplies by 1, and so hands on what forward kept.
    x = Tensor(RNG.normal(size=shape), requires_grad=True)
    loss = mg.softmax_cross_entropy(x, np.zeros(shape[0], int))
    loss.backward(retain_graph=True)
    first = x.grad.copy()
    x.grad *= 0
    loss.backward(retain_graph=True)
    np.testing.assert_array_equal(x.grad, first)
    loss.backward(3.0)
    np.testing.assert_allclose(x.grad, 4 * first, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("n", "width"), [(1, 3), (2, 1), (100, 50), (128, 100), (129, 64), (1000, 50), (4096, 9), (70, 120)]
)
def test_sums_of_rows_as_products(n: int, width: int, dtype: str) -> None:
    x = (RNG.random((n, width)) + 0.5).astype(dtype)
    exact = x.astype(np.longdouble).sum(axis=0)
    for found in (unbroadcast(x, (width,)), add_up(x, 0), add_up(x, (0,)), unbroadcast(np.asfortranarray(x), (width,))):
        assert found.dtype == dtype
        assert found.shape == (width,)
        np.testing.assert_allclose(found.astype(np.longdouble), exact, rtol=float(8 * np.finfo(dtype).eps))
    infinite = x.copy()
    infinite[0, 0] = np.inf
    assert unbroadcast(infinite, (width,))[0] == np.inf


@pytest.mark.parametrize("name", ["layer_norm", "batch_norm"])
def test_gradients_keep_their_digits_beside_large_means_and_a_first_value_far_off(name: str) -> None:
    # The gradient in float32 against the same in float64, of the same numbers.
    x = RNG.normal(size=(40, 500)) + RNG.choice([0, 30, 1e4], size=(40, 1))
    x[::4, 0] += 300
    dout = RNG.normal(size=x.shape)
    x, dout = x.astype(np.float32), dout.astype(np.float32)

    def call(t: Any) -> Any:
        return mg.layer_norm(t, 500) if name == "layer_norm" else mg.batch_norm(t.T).T

    got = value_and_gradient(call, x, dout)
    exact = value_and_gradient(call, x.astype(np.float64), dout.astype(np.float64))
    for found, right in zip(got, exact, strict=True):
        scale = np.abs(right).max(axis=1, keepdims=True)
        assert np.max(np.abs(found - right) / scale) < 2e-6


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("keywords", [{}, {"ignore_index": -100}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("labels", [np.zeros(0, int), np.zeros((0, 0))], ids=["numbers", "one-hot"])
@pytest.mark.filterwarnings("ignore:.*no sample counts")
def test_a_loss_of_no_samples_and_no_classes(labels: Any, keywords: Any, reduction: Any) -> None:
    if labels.ndim == 2 and "ignore_index" in keywords:
        return
    x = Tensor(np.zeros((0, 0)), requires_grad=True)
    loss = mg.softmax_cross_entropy(x, labels, reduction=reduction, **keywords)
    np.testing.assert_array_equal(loss.numpy(), np.zeros(0) if reduction == "none" else 0.0)
    loss.backward(np.ones(loss.shape))
    assert x.grad is not None
    assert x.grad.shape == (0, 0)


@pytest.mark.filterwarnings("ignore:.*no sample counts")
def test_a_loss_layer_of_no_samples_and_no_classes() -> None:
    assert mg.nn.CrossEntropyLoss()(Tensor(np.zeros((0, 0))), np.zeros(0, int)).item() == 0


@pytest.mark.parametrize("rows_of_it", [1, 20_000])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_where_the_squares_of_a_row_overflow_its_gradient_is_zero(name: str, rows_of_it: int) -> None:
    row, of_row = np.array([[3e37, -6e37, 6e4, 1]], np.float32), np.array([[30, -30, 1, 1]], np.float32)
    x = Tensor(np.tile(row, (rows_of_it, 1)), requires_grad=True)
    w = Tensor(np.ones(4, np.float32), requires_grad=True)
    with np.errstate(over="ignore"):
        out = getattr(mg, name)(x, 4, w)
        out.backward(np.tile(of_row, (rows_of_it, 1)))
    assert (out.numpy() == 0).all()
    assert x.grad is not None
    assert w.grad is not None
    assert (x.grad == 0).all()
    assert (w.grad == 0).all()
