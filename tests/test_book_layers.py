"""minigrad.book: Dropout, BatchNormalization, Convolution, Pooling, and the attributes that layers keep."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import book
from minigrad.errors import ArgumentError, GraphError, ShapeError
from minigrad.testing import check_layer, numerical_gradient

RNG = np.random.default_rng(0)
X4 = RNG.normal(size=(3, 2, 5, 4))
X2 = RNG.normal(size=(6, 3))

# The book's formulae on plain arrays


def book_batch_norm(x: Any, gamma: Any, beta: Any) -> tuple[Any, Any, Any]:
    """out, mean, var of a training forward."""
    rows = x.reshape(len(x), -1)
    mu = rows.mean(axis=0)
    xc = rows - mu
    var = np.mean(xc**2, axis=0)
    return (gamma * (xc / np.sqrt(var + 10e-7)) + beta).reshape(x.shape), mu, var


def book_convolution(x: Any, W: Any, b: Any, stride: int, pad: int) -> Any:
    n, _, h, w = x.shape
    fn, _, fh, fw = W.shape
    out_h, out_w = 1 + (h + 2 * pad - fh) // stride, 1 + (w + 2 * pad - fw) // stride
    out = book.im2col(x, fh, fw, stride, pad) @ W.reshape(fn, -1).T + b
    return out.reshape(n, out_h, out_w, -1).transpose(0, 3, 1, 2)


def norm(d: int, **kwargs: Any) -> Any:
    rng = np.random.default_rng(d)
    return book.BatchNormalization(rng.normal(size=d), rng.normal(size=d), **kwargs)


def trained(layer: Any, x: Any) -> Any:
    layer.forward(x)
    return layer


NORM = {"gamma": "dgamma", "beta": "dbeta"}
LAYERS: dict[str, tuple[Any, tuple[Any, ...], dict[str, str]]] = {
    "Dropout": (lambda: book.Dropout(0.4), (X2,), {}),
    "Dropout of images": (lambda: book.Dropout(0.4), (X4, True), {}),
    "Dropout, testing": (lambda: book.Dropout(0.4), (X2, False), {}),
    "BatchNormalization": (lambda: norm(3), (X2, True), NORM),
    "BatchNormalization of images": (lambda: norm(40), (X4, True), NORM),
    "BatchNormalization, one gamma": (lambda: book.BatchNormalization(np.ones(1), np.zeros(1)), (X2, True), NORM),
    "BatchNormalization, testing": (lambda: trained(norm(3), X2), (X2 + 1, False), NORM),
    "Convolution": (lambda: book.Convolution(RNG.normal(size=(3, 2, 3, 2)), RNG.normal(size=3)), (X4,), {}),
    "Convolution, stride, pad": (lambda: book.Convolution(RNG.normal(size=(2, 2, 3, 3)), np.ones(2), 2, 2), (X4,), {}),
    "Convolution, one b": (lambda: book.Convolution(RNG.normal(size=(2, 2, 2, 2)), np.array(0.5)), (X4,), {}),
    "Pooling": (lambda: book.Pooling(2, 2, stride=2), (X4,), {}),
    "Pooling, overlapping": (lambda: book.Pooling(3, 2), (X4,), {}),
    "Pooling, pad": (lambda: book.Pooling(2, 3, stride=2, pad=1), (X4,), {}),
    "Affine of images": (lambda: book.Affine(RNG.normal(size=(40, 3)), np.ones(3)), (X4,), {}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_backward_is_the_derivative_of_forward(name: str) -> None:
    make, inputs, params = LAYERS[name]
    report = check_layer(make(), *inputs, **({"params": params} if params else {}))
    assert report.verdict == "ok", report


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_given_is_written_to_and_nothing_is_shared(name: str) -> None:  # T26
    make, (x, *rest), _ = LAYERS[name]
    layer, given = make(), x.copy()
    given.flags.writeable = False
    out = layer.forward(given, *rest)
    dout = np.random.default_rng(1).normal(size=out.shape)
    dout.flags.writeable = False
    dx = layer.backward(dout)
    kept = dx.copy()
    out[...] = dx[...] = 0
    assert np.array_equal(layer.backward(dout), kept)
    assert type(dx) is np.ndarray
    assert dx.shape == x.shape


@pytest.mark.parametrize("name", LAYERS)
def test_float32_stays(name: str) -> None:
    make, (x, *rest), _ = LAYERS[name]
    layer = make()
    for attribute in ("W", "b", "gamma", "beta", "running_mean", "running_var"):
        if getattr(layer, attribute, None) is not None:
            setattr(layer, attribute, getattr(layer, attribute).astype(np.float32))
    out = layer.forward(x.astype(np.float32), *rest)
    assert out.dtype == layer.backward(out).dtype == np.float32
    for attribute in ("dW", "db", "dgamma", "dbeta", "running_mean", "running_var"):
        value = getattr(layer, attribute, None)
        assert value is None or isinstance(value, float) or value.dtype == np.float32


@pytest.mark.parametrize("name", LAYERS)
def test_backward_wants_a_forward(name: str) -> None:
    layer = copy.deepcopy(LAYERS[name][0]())
    with pytest.raises(GraphError, match=r"\.backward: a layer without a forward; expected .*; call"):
        layer.backward(1)


# Dropout


def test_dropout_masks_as_the_book_does() -> None:  # T31
    x = np.ones((50, 40)) * 3
    np.random.seed(5)
    layer = book.Dropout(0.3)
    out = layer.forward(x)
    np.random.seed(5)
    mask = np.random.rand(50, 40) > 0.3
    assert np.array_equal(layer.mask, mask)
    assert np.array_equal(out, x * mask)  # not divided by 0.7
    assert np.array_equal(layer.backward(2 * x), 2 * x * mask)
    assert np.array_equal(layer.forward(x, train_flg=False), x * (1.0 - 0.3))
    assert np.array_equal(layer.mask, mask)
    assert np.array_equal(book.Dropout(0.3, seed=5).forward(x), out)


@pytest.mark.parametrize(("ratio", "kept"), [(0, 1.0), (1, 0.0)])
def test_dropout_at_its_ends(ratio: float, kept: float) -> None:
    assert (book.Dropout(ratio).forward(np.ones((9, 9))) == kept).all()


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan"), "0.5", None])
def test_a_ratio_is_from_zero_to_one(ratio: Any) -> None:
    with pytest.raises(ArgumentError, match=r"Dropout: dropout_ratio: .*; expected a number from 0 to 1; pass"):
        book.Dropout(ratio)


# BatchNormalization


@pytest.mark.parametrize("x", [X2, X4, RNG.normal(size=(300, 3))], ids=["rows", "images", "many rows"])
def test_batch_normalization_has_the_books_bits(x: Any) -> None:  # T30
    layer = norm(x[0].size)
    mean, var = np.zeros(x[0].size), np.zeros(x[0].size)
    for k in range(1, 5):
        out = layer.forward(k * x)
        wanted, mu, v = book_batch_norm(k * x, layer.gamma, layer.beta)
        mean, var = 0.9 * mean + (1 - 0.9) * mu, 0.9 * var + (1 - 0.9) * v
        assert np.array_equal(out, wanted)
        assert np.array_equal(layer.running_mean, mean)
        assert np.array_equal(layer.running_var, var)
    assert (layer.batch_size, layer.input_shape) == (len(x), x.shape)
    rows = 4 * x.reshape(len(x), -1)
    assert np.array_equal(layer.xc, rows - rows.mean(axis=0))
    assert np.array_equal(layer.xn, layer.xc / layer.std)
    out = layer.forward(x, train_flg=False)
    rows = x.reshape(len(x), -1)
    wanted = layer.gamma * ((rows - mean) / np.sqrt(var + 10e-7)) + layer.beta
    assert np.array_equal(out, wanted.reshape(x.shape))
    with pytest.raises(ValueError, match="read-only"):
        layer.xn[...] = 0  # backward needs it
    assert np.array_equal(layer.running_mean, mean)


def test_batch_normalization_beside_pytorchs_conventions() -> None:
    layer = book.BatchNormalization(np.ones(40), np.zeros(40))
    out = layer.forward(X4)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-12)  # each (C, H, W) by itself, not each channel
    assert not np.allclose(layer.running_var, 0.9 + 0.1 * X4.reshape(3, -1).var(axis=0, ddof=1))


def test_running_values_that_were_given() -> None:
    layer = norm(3, momentum=0.5, running_mean=np.full(3, 2.0), running_var=np.ones(3))
    layer.forward(X2)
    assert np.array_equal(layer.running_mean, 0.5 * np.full(3, 2.0) + 0.5 * X2.mean(axis=0))
    fresh = norm(3)
    fresh.forward(X2, train_flg=False)
    assert not fresh.running_mean.any()
    with pytest.raises(ArgumentError, match="expected both or neither"):
        norm(3, running_mean=np.zeros(3))


@pytest.mark.parametrize(
    ("layer", "x", "got"),
    [
        (norm(3), np.ones(3), r"x has shape \(3,\)"),
        (norm(3), np.ones((0, 3)), r"x has shape \(0, 3\)"),
        (norm(3), np.ones((2, 4)), r"x has shape \(2, 4\), gamma is float64 \(3,\)"),
        (norm(2), X4, r"gamma of shape \(40,\); make gamma of C \* H \* W entries"),
        (norm(3, running_mean=np.ones(2), running_var=np.ones(2)), X2, r"running_mean is float64 \(2,\)"),
    ],
)
def test_batch_normalization_refuses(layer: Any, x: Any, got: str) -> None:
    before = layer.running_mean
    with pytest.raises(ShapeError, match=rf"^BatchNormalization.forward.*{got}"):
        layer.forward(x)
    assert layer.running_mean is before


# Convolution, Pooling


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 1), (2, 0), (2, 2), (3, 1)])
def test_convolution_is_the_books(stride: int, pad: int) -> None:
    W, b = RNG.normal(size=(3, 2, 3, 2)), RNG.normal(size=3)
    layer = book.Convolution(W, b, stride, pad)
    assert layer.x is layer.col is layer.col_W is None
    out = layer.forward(X4)
    np.testing.assert_allclose(out, book_convolution(X4, W, b, stride, pad), rtol=1e-12, atol=1e-14)
    dout = RNG.normal(size=out.shape)
    dx = layer.backward(dout)
    d = dout.transpose(0, 2, 3, 1).reshape(-1, 3)
    assert np.array_equal(layer.x, X4)
    np.testing.assert_allclose(layer.db, d.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(layer.dW, (layer.col.T @ d).T.reshape(W.shape), rtol=1e-11, atol=1e-13)
    wanted = book.col2im(d @ layer.col_W.T, X4.shape, 3, 2, stride, pad)
    np.testing.assert_allclose(dx, wanted, rtol=1e-11, atol=1e-13)


def test_convolution_takes_one_number_for_b() -> None:  # chapter 7 shows filters with b = 0
    layer = book.Convolution(np.ones((2, 2, 2, 2)), 0)
    assert np.array_equal(layer.forward(X4), book.Convolution(np.ones((2, 2, 2, 2)), np.zeros(2)).forward(X4))
    layer.backward(1)
    assert layer.db == 3 * 2 * 4 * 3


@pytest.mark.parametrize("case", [(2, 2, 2, 0), (3, 2, 1, 0), (2, 2, 2, 1), (3, 3, 2, 2)])
def test_pooling_is_the_books_and_honours_pad(case: tuple[int, int, int, int]) -> None:  # T33
    h, w, stride, pad = case
    layer = book.Pooling(*case)
    assert layer.arg_max is None
    out = layer.forward(X4)
    n, c, height, width = X4.shape
    size = (height + 2 * pad - h) // stride + 1, (width + 2 * pad - w) // stride + 1
    col = book.im2col(X4, h, w, stride, pad).reshape(-1, h * w)
    assert np.array_equal(out, col.max(axis=1).reshape(n, *size, c).transpose(0, 3, 1, 2))
    assert np.array_equal(layer.arg_max, col.argmax(axis=1))


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (book.Convolution(np.ones((1, 1, 3, 3)), np.zeros(1)), X4),
        (book.Convolution(np.ones((1, 2, 6, 6)), np.zeros(1)), X4),
        (book.Convolution(np.ones((1, 2, 2, 2)), np.zeros(3)), X4),
        (book.Convolution(np.ones((1, 2, 2, 2)), np.zeros(1)), X2),
        (book.Pooling(6, 2), X4),
        (book.Pooling(2, 2), X2),
        (book.Pooling(2, 2, pad=1), X2),
    ],
)
def test_images_that_do_not_fit(layer: Any, x: Any) -> None:
    with pytest.raises(ShapeError, match="; expected "):
        layer.forward(x)


# What is kept


def test_layers_keep_what_the_books_keep() -> None:
    relu, sigmoid, affine = book.Relu(), book.Sigmoid(), book.Affine(np.ones((40, 2)), np.zeros(2))
    assert relu.mask is sigmoid.out is affine.x is affine.original_x_shape is book.MulLayer().x is None
    relu.forward(X4)
    assert np.array_equal(relu.mask, X4 <= 0)
    out = sigmoid.forward(X4)
    assert np.array_equal(sigmoid.out, out)
    affine.forward(X4)
    assert np.array_equal(affine.x, X4.reshape(3, -1))
    assert affine.original_x_shape == X4.shape
    mul = book.MulLayer()
    mul.forward(2.0, 3.0)
    assert (mul.x, mul.y) == (2.0, 3.0)
    for kept in (sigmoid.out, affine.x):
        with pytest.raises(ValueError, match="read-only"):
            kept[...] = 0


def test_a_batch_of_one_takes_its_label_in_two_axes() -> None:  # the gradient check of chapter 7
    one, plain = book.SoftmaxWithLoss(), book.SoftmaxWithLoss()
    scores = np.array([[0.3, 2.9, 4.0]])
    assert one.forward(scores, np.array([[1]])) == plain.forward(scores, np.array([1]))
    assert np.array_equal(one.backward(), plain.backward())
    with pytest.raises(ShapeError):
        one.forward(np.ones((2, 3)), np.array([[1], [2]]))


@pytest.mark.parametrize("dtype", [float, np.float32, int])
def test_one_hot_rows_are_read_as_class_numbers(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def seen(x: Any, t: Any, own: Any = mg.ops.softmax_cross_entropy) -> Any:
        given.append(t)
        return own(x, t)

    monkeypatch.setattr(mg.ops, "softmax_cross_entropy", seen)
    layer, t = book.SoftmaxWithLoss(), np.eye(3, dtype=dtype)[[2, 0, 1, 1, 0, 2]]
    loss = layer.forward(X2, t)
    dx = layer.backward()
    assert given[0].tolist() == [2, 0, 1, 1, 0, 2]
    assert layer.t is t
    soft = t.astype(float)
    soft[0] = 0.25, 0.25, 0.5
    layer.forward(X2, soft)
    assert given[1] is soft
    assert (loss, dx.tolist()) == (layer.forward(X2, t.tolist()), layer.backward().tolist())


@pytest.mark.parametrize(
    ("t", "error"),
    [
        (np.eye(4)[[2, 0, 1, 1, 0, 2]], ShapeError),
        (np.eye(2)[[1, 0, 1, 1, 0, 1]], ShapeError),
        (2 * np.eye(3)[[2, 0, 1, 1, 0, 2]], ArgumentError),
        (np.array([[1, 1, 0], [0, 0, 0], *np.eye(3)[[0, 1, 2, 0]]]), ArgumentError),
        (np.full((6, 3), -1.0), ArgumentError),
    ],
)
def test_rows_that_are_not_one_hot_are_refused(t: Any, error: Any) -> None:
    with pytest.raises(error, match=r"softmax_cross_entropy: labels: .*; expected "):
        book.SoftmaxWithLoss().forward(X2, t)


def test_gradients_are_arrays_of_their_own() -> None:
    add, dout = book.AddLayer(), np.ones((6, 3))
    add.forward(X2, X2)
    dx, dy = add.backward(dout)
    dx[...] = 5
    assert (dy == 1).all()
    assert (dout == 1).all()


def test_layers_take_tensors_and_lists() -> None:
    assert np.array_equal(book.Dropout(0.5).forward(mg.Tensor(X2), False), X2 * 0.5)
    assert book.BatchNormalization(1.0, 0.0).forward([[1.0], [3.0]]).shape == (2, 1)


def test_a_wrong_rule_would_be_seen() -> None:
    class Inverted(book.Dropout):
        def backward(self, dout: Any) -> Any:
            return super().backward(dout) / (1 - self.dropout_ratio)

    assert check_layer(Inverted(0.4), X2).verdict == "wrong"
    layer = norm(3)
    wanted = numerical_gradient(lambda x: np.sum(norm(3).forward(x) ** 2), X2.copy())
    out = layer.forward(X2)
    np.testing.assert_allclose(layer.backward(2 * out), wanted, rtol=1e-5, atol=1e-8)
