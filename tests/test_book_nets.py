"""minigrad.book: the networks of chapters 6 to 8, their gradients, their files."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import book
from minigrad.book import base
from minigrad.book.nets import AffineOf
from minigrad.book.parameters import read_params
from minigrad.errors import ArgumentError, CheckpointError, GraphError, LabelError, ShapeError
from minigrad.testing import check_model

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(7, 6)), RNG.integers(0, 4, 7)
IMAGES, DIGITS = RNG.normal(size=(5, 1, 8, 8)), RNG.integers(0, 10, 5)
SMALL = {"filter_num": 2, "filter_size": 3, "pad": 1, "stride": 1}


def extended(seed: Any = 1, **kwargs: Any) -> book.MultiLayerNetExtend:
    return book.MultiLayerNetExtend(6, [5, 4], 4, seed=seed, **kwargs)


def simple(seed: Any = 1, **kwargs: Any) -> book.SimpleConvNet:
    return book.SimpleConvNet((1, 8, 8), SMALL, hidden_size=4, weight_init_std=0.3, seed=seed, **kwargs)


def deep(seed: Any = 1) -> book.DeepConvNet:
    return book.DeepConvNet((1, 8, 8), *[SMALL] * 6, hidden_size=4, seed=seed)


def shifted(net: Any) -> Any:
    """net with biases that are not 0, where what is dropped or padded would meet the kink of relu."""
    rng = np.random.default_rng(3)
    for key in net.params:
        if key[0] == "b":
            net.params[key] += 0.3 * rng.normal(size=net.params[key].shape)
    return net


NETS: dict[str, tuple[Any, Any, Any]] = {
    "TwoLayerNet": (lambda seed=1: book.TwoLayerNet(6, 5, 4, 0.5, seed=seed), X, T),
    "MultiLayerNet": (lambda seed=1: book.MultiLayerNet(6, [5, 4], 4, seed=seed), X, T),
    "sigmoid, weight decay": (
        lambda seed=1: book.MultiLayerNet(6, [5], 4, "sigmoid", "xavier", weight_decay_lambda=0.1, seed=seed),
        X,
        T,
    ),
    "batch normalization": (lambda seed=1: extended(seed, use_batchnorm=True), X, T),
    "dropout": (lambda seed=1: extended(seed, use_dropout=True, dropout_ration=0.2), X, T),
    "all of it": (
        lambda seed=1: extended(
            seed, use_batchnorm=True, use_dropout=True, weight_decay_lambda=0.1, activation="sigmoid"
        ),
        X,
        np.eye(4)[T],
    ),
    "SimpleConvNet": (simple, IMAGES, DIGITS),
    "SimpleConvNet, one sample": (simple, IMAGES[:1], DIGITS[:1].reshape(1, 1)),
    "DeepConvNet": (deep, IMAGES, DIGITS),
}


@pytest.mark.parametrize("name", NETS)
def test_gradient_agrees_with_numerical_gradient(name: str) -> None:
    make, x, t = NETS[name]
    net, other = shifted(make()), shifted(make())  # both draw the same masks
    gradients, numerical = net.gradient(x, t), other.numerical_gradient(x, t)
    assert list(gradients) == list(numerical) == list(net.params)
    for key in gradients:
        assert gradients[key].shape == net.params[key].shape
        np.testing.assert_allclose(gradients[key], numerical[key], rtol=1e-4, atol=2e-6, err_msg=key)
    assert any(abs(g).max() > 1e-2 for g in gradients.values())
    assert all(np.array_equal(net.params[key], other.params[key]) for key in net.params)


class Training:
    """A net as check_model wants one: its loss is that of its gradient."""

    def __init__(self, net: Any) -> None:
        self.net, self.params, self.gradient = net, net.params, net.gradient

    def loss(self, x: Any, t: Any) -> float:
        value: float = self.net.loss(x, t, True)
        return value


@pytest.mark.parametrize("name", ["MultiLayerNet", "sigmoid, weight decay", "batch normalization", "SimpleConvNet"])
def test_check_model_finds_nothing(name: str) -> None:
    make, x, t = NETS[name]
    report = check_model(Training(shifted(make())), None, x, t, directions=2)
    hidden = {"b1", "b2"} if name == "batch normalization" else set()  # the mean takes them away again
    assert {row.verdict for row in report.rows if row.name not in hidden} == {"ok"}, report


def test_check_model_finds_a_gradient_without_the_weight_decay() -> None:
    net = book.MultiLayerNet(6, [5], 4, weight_decay_lambda=0.1, seed=1)
    wrong = Training(net)
    wrong.gradient = lambda x, t: {
        key: g - (0.1 * net.params[key] if key[0] == "W" else 0) for key, g in net.gradient(x, t).items()
    }
    assert check_model(wrong, None, X, T).verdict == "wrong"


def test_numerical_gradient_leaves_everything_as_it_was() -> None:
    net = extended(use_batchnorm=True, use_dropout=True)
    net.gradient(X, T)
    before = copy.deepcopy(net)
    net.numerical_gradient(X, T)
    with pytest.raises(LabelError):
        net.numerical_gradient(X, T + 10)
    assert all(np.array_equal(net.params[key], before.params[key]) for key in net.params)
    for name in ("BatchNorm1", "BatchNorm2"):
        assert np.array_equal(net.layers[name].running_mean, before.layers[name].running_mean)
        assert np.array_equal(net.layers[name].running_var, before.layers[name].running_var)
    assert net.loss(X, T, True) == before.loss(X, T, True)  # the same masks are drawn next


@pytest.mark.parametrize("name", NETS)
def test_numerical_gradient_copies_and_records_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, x, t = NETS[name]
    net = make()
    seen = []

    def loss(x: Any, t: Any, train_flg: Any = None, own: Any = net.loss) -> float:
        value: float = own(x, t, train_flg)
        first = next(iter(net._in_order()))
        seen.append(first._out._node is None and np.shares_memory(first._input(1), net.params["W1"]))
        return value

    monkeypatch.setattr(net, "loss", loss)
    net.numerical_gradient(x, t)
    assert all(seen)
    assert len(seen) == 2 * sum(p.size for p in net.params.values())
    seen.clear()
    net.gradient(x, t)
    assert seen == [False]


def test_layers_go_back_after_a_numerical_gradient_and_within_one() -> None:
    W = RNG.normal(size=(6, 4))
    affine, last = book.Affine(W, np.zeros(4)), book.SoftmaxWithLoss()

    def squared_slope(_: Any) -> float:  # needs backward in each of its forwards
        last.forward(affine.forward(X), T)
        affine.backward(last.backward())
        return float(np.sum(affine.dW**2))

    def by_hand(_: Any) -> float:
        dx = (book.softmax(X @ W) - np.eye(4)[T]) / len(X)
        return float(np.sum((X.T @ dx) ** 2))

    wanted = book.numerical_gradient(by_hand, W)
    np.testing.assert_allclose(book.numerical_gradient(squared_slope, W), wanted, atol=1e-10)
    assert abs(wanted).max() > 1e-3

    book.numerical_gradient(lambda _: last.forward(affine.forward(X), T), W)
    dx = last.backward()
    W[...] = 0  # later than the forward: seen by nobody
    assert abs(affine.backward(dx)).max() > 1e-3
    np.testing.assert_allclose(affine.dW, X.T @ dx)
    assert pickle.loads(pickle.dumps(affine)).W.shape == (6, 4)


def test_numerical_gradient_of_the_book_records_nothing_either() -> None:
    affine = book.Affine(RNG.normal(size=(6, 2)), np.zeros(2))
    copies, seen = [], []

    def f(W: Any) -> float:
        out = affine.forward(X)
        seen.append(np.shares_memory(affine._input(1), W))
        copies.append((copy.deepcopy(affine), pickle.loads(pickle.dumps(affine))))
        return float(out.sum())

    slope = book.numerical_gradient(f, affine.W)
    assert seen == [True] * 24
    np.testing.assert_allclose(slope, X.sum(axis=0)[:, None] * np.ones((6, 2)), rtol=1e-6)
    for other in copies[-1]:  # parameters of its own, and no forward
        assert not np.shares_memory(other.W, affine.W)
        assert other.x is None
    assert np.array_equal(affine.x, X)
    assert not np.shares_memory(affine._input(1), affine.W)


def test_a_layer_that_ignores_an_input_is_told_so() -> None:
    class First(base.Layer):
        def forward(self, x: Any, y: Any) -> Any:
            return self._record(lambda x, y: x * x, x, y)

        def backward(self, dout: Any) -> Any:
            return self._pull(dout)

    layer = First()
    layer.forward(2.0, 3.0)
    with pytest.raises(GraphError, match="which the outputs do not depend on"):
        layer.backward(1)


def test_an_error_within_a_numerical_gradient_ends_it() -> None:
    net = book.MultiLayerNet(6, [5], 4, seed=1)
    with pytest.raises(LabelError):
        net.numerical_gradient(X, T + 10)
    with pytest.raises(LabelError):
        book.numerical_gradient(lambda _: net.loss(X, T + 10), net.params["W1"])
    affine, W = net.layers["Affine1"], net.params["W1"].copy()
    affine.forward(X)
    net.params["W1"][...] = 0
    assert np.array_equal(affine.backward(np.ones((7, 5))), np.ones((7, 5)) @ W.T)


@pytest.mark.parametrize("name", ["MultiLayerNet", "SimpleConvNet"])
def test_gradient_leaves_out_the_slope_by_the_samples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, x, t = NETS[name]
    net, asked = make(), []

    def counted(out: Any, inputs: Any, *args: Any, own: Any = base.grad, **kwargs: Any) -> Any:
        asked.append(len(inputs))
        return own(out, inputs, *args, **kwargs)

    monkeypatch.setattr(base, "grad", counted)
    net.gradient(x, t)
    assert asked[-1] == 2
    first = next(iter(net._in_order()))
    dout = np.ones(first._out.shape)
    assert first.backward(dout).shape == x.shape  # which its own backward still gives
    assert asked[-1] == 3


def test_a_first_layer_of_ones_own_gets_its_backward() -> None:
    called = []

    class Own(AffineOf):
        def backward(self, dout: Any) -> Any:
            called.append(dout.shape)
            return super().backward(dout)

    net = book.MultiLayerNet(6, [5], 4, seed=1)
    wanted = net.gradient(X, T)
    net.layers["Affine1"] = Own("Affine1", net.params, "W1", "b1")
    found = net.gradient(X, T)
    assert called == [(7, 5)]
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)


# The book's parts


def book_step(params: dict[str, Any], x: Any, t: Any, lr: float) -> float:
    """One step of the book's MultiLayerNet with one hidden layer and SGD, written out; returns the loss before it."""
    z = x @ params["W1"] + params["b1"]
    h = np.maximum(z, 0)
    scores = h @ params["W2"] + params["b2"]
    y = np.exp(scores - scores.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    loss = -np.log(y[np.arange(len(t)), t]).sum() / len(t)  # without the book's 1e-7
    dy = y.copy()
    dy[np.arange(len(t)), t] -= 1
    dy /= len(t)
    dz = (dy @ params["W2"].T) * (z > 0)
    for key, g in {"W1": x.T @ dz, "b1": dz.sum(axis=0), "W2": h.T @ dy, "b2": dy.sum(axis=0)}.items():
        params[key] -= lr * g
    return float(loss)


def test_a_seeded_run_is_the_books_own() -> None:
    np.random.seed(2)
    net = book.MultiLayerNet(6, [5], 4)
    trainer = book.Trainer(net, X, T, X, T, epochs=30, mini_batch_size=4, optimizer_param={"lr": 0.5}, verbose=False)
    trainer.train()
    np.random.seed(2)
    params = {"W1": np.sqrt(2.0 / 6) * np.random.randn(6, 5), "b1": np.zeros(5)}
    params |= {"W2": np.sqrt(2.0 / 5) * np.random.randn(5, 4), "b2": np.zeros(4)}
    for step in range(trainer.max_iter):
        batch = np.random.choice(7, 4)
        book_step(params, X[batch], T[batch], 0.5)
        after = book_step({key: p.copy() for key, p in params.items()}, X[batch], T[batch], 0.5)
        assert trainer.train_loss_list[step] == pytest.approx(after, rel=1e-10)
    for key, p in params.items():
        np.testing.assert_allclose(net.params[key], p, rtol=1e-10, atol=1e-12)


def test_multi_layer_net_has_the_books_parts() -> None:
    net = book.MultiLayerNet(784, [100, 50], 10, seed=0)
    assert (net.input_size, net.hidden_size_list, net.output_size, net.hidden_layer_num) == (784, [100, 50], 10, 2)
    assert isinstance(net.layers, OrderedDict)
    assert list(net.layers) == ["Affine1", "Activation_function1", "Affine2", "Activation_function2", "Affine3"]
    assert isinstance(net.last_layer, book.SoftmaxWithLoss)
    assert net.layers["Affine2"].W is net.params["W2"]
    extra = extended(use_batchnorm=True, use_dropout=True, dropout_ration=0.2)
    assert list(extra.layers)[:4] == ["Affine1", "BatchNorm1", "Activation_function1", "Dropout1"]
    assert list(extra.layers)[-2:] == ["Dropout2", "Affine3"]
    assert extra.layers["Dropout1"].dropout_ratio == 0.2
    assert extra.layers["BatchNorm2"].gamma is extra.params["gamma2"]
    assert isinstance(extra.layers["BatchNorm1"], book.BatchNormalization)


@pytest.mark.parametrize(
    ("std", "scale"), [("relu", 2.0), ("He", 2.0), ("sigmoid", 1.0), ("XAVIER", 1.0), (0.01, None), (1, None)]
)
def test_first_weights_are_the_books(std: Any, scale: float | None) -> None:
    for make in (book.MultiLayerNet, book.MultiLayerNetExtend):
        np.random.seed(7)
        net = make(6, [5, 4], 3, weight_init_std=std)
        np.random.seed(7)
        for key, (n, m) in {"W1": (6, 5), "W2": (5, 4), "W3": (4, 3)}.items():
            wanted = (std if scale is None else np.sqrt(scale / n)) * np.random.randn(n, m)
            assert np.array_equal(net.params[key], wanted)
            assert not net.params["b" + key[1]].any()


def test_convnets_have_the_books_parts() -> None:
    np.random.seed(7)
    net = book.SimpleConvNet()
    np.random.seed(7)
    for key, shape in {"W1": (30, 1, 5, 5), "W2": (30 * 12 * 12, 100), "W3": (100, 10)}.items():
        assert np.array_equal(net.params[key], 0.01 * np.random.randn(*shape))
    assert [type(layer).__mro__[2 if "Of" in type(layer).__name__ else 0].__name__ for layer in net.layers] == [
        "Convolution", "Relu", "Pooling", "Affine", "Relu", "Affine",
    ]  # fmt: skip
    np.random.seed(7)
    big = book.DeepConvNet()
    np.random.seed(7)
    fans = [9, 16 * 9, 16 * 9, 32 * 9, 32 * 9, 64 * 9, 64 * 16, 50]
    shapes = [(16, 1), (16, 16), (32, 16), (32, 32), (64, 32), (64, 64)]
    for i, fan in enumerate(fans):
        shape = (*shapes[i], 3, 3) if i < 6 else [(64 * 16, 50), (50, 10)][i - 6]
        assert np.array_equal(big.params[f"W{i + 1}"], np.sqrt(2.0 / fan) * np.random.randn(*shape))
    assert len(big.layers) == 20
    for k, i in enumerate((0, 2, 5, 7, 10, 12, 15, 18), 1):
        assert big.layers[i].W is big.params[f"W{k}"]
    assert isinstance(big.layers[19], book.Dropout)
    assert big.predict(np.zeros((1, 1, 28, 28))).shape == (1, 10)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dim", [(1, 8, 8), (2, 9, 11), (3, 7, 6)])
def test_the_convnet_fits_images_of_any_size(dim: tuple[int, int, int], stride: int) -> None:
    net = book.SimpleConvNet(dim, {**SMALL, "stride": stride}, hidden_size=3, seed=0)
    assert net.predict(np.ones((2, *dim))).shape == (2, 10)


def test_train_flg() -> None:
    net = extended(use_dropout=True)
    assert net.loss(X, T) == net.loss(X, T, train_flg=False) == net.loss(X, T)
    assert net.loss(X, T, train_flg=True) != net.loss(X, T)
    convnet = deep()
    assert len({convnet.loss(IMAGES, DIGITS) for _ in range(5)}) > 1  # that of training by default, as in the book
    assert np.array_equal(convnet.predict(IMAGES), convnet.predict(IMAGES, train_flg=False))


@pytest.mark.parametrize("kind", [book.TwoLayerNet, book.MultiLayerNet, book.SimpleConvNet])
def test_a_network_of_ones_own_needs_no_train_flg(kind: Any) -> None:
    class Own(kind):  # type: ignore[misc]
        def predict(self, x: Any) -> Any:
            return super().predict(x)

        def loss(self, x: Any, t: Any) -> Any:
            return self.last_layer.forward(self.predict(x), t)

    if kind is book.SimpleConvNet:
        net, x, t = Own((1, 8, 8), SMALL, hidden_size=4), IMAGES[:2], DIGITS[:2]
    else:
        net, x, t = Own(6, 5 if kind is book.TwoLayerNet else [5], 4), X, T
    assert net.gradient(x, t).keys() == net.numerical_gradient(x, t).keys()
    assert 0 <= net.accuracy(x, t) <= 1


def test_half_precision_samples() -> None:  # half_float_network.py of chapter 8
    net = deep()
    for p in net.params.values():
        p[...] = p.astype(np.float16)
    np.testing.assert_allclose(net.predict(IMAGES.astype(np.float16)), net.predict(IMAGES), rtol=0.05, atol=0.01)
    assert simple().accuracy(IMAGES.astype(np.float16), DIGITS.astype(np.uint8)) <= 1


def test_weight_decay_is_in_the_loss() -> None:
    net, plain = (book.MultiLayerNet(6, [5], 4, weight_decay_lambda=decay, seed=1) for decay in (0.1, 0))
    decay = 0.5 * 0.1 * (np.sum(net.params["W1"] ** 2) + np.sum(net.params["W2"] ** 2))
    assert net.loss(X, T) == pytest.approx(plain.loss(X, T) + decay, rel=1e-14)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_accuracy_counts_every_sample(batch_size: int) -> None:  # T32
    net = simple()
    right = net.predict(IMAGES).argmax(axis=1)
    assert net.accuracy(IMAGES, right, batch_size) == 1.0
    assert net.accuracy(IMAGES, np.eye(10)[right], batch_size) == 1.0
    right[-1] = (right[-1] + 1) % 10
    assert net.accuracy(IMAGES, right, batch_size) == 0.8


@pytest.mark.parametrize(
    ("x", "t", "error"),
    [
        (IMAGES, DIGITS[:4], ShapeError),
        (IMAGES[:0], DIGITS[:0], ShapeError),
        (IMAGES, DIGITS + 10, LabelError),
        (IMAGES, np.array(3), ShapeError),
    ],
)
def test_accuracy_refuses(x: Any, t: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="; expected "):
        simple().accuracy(x, t)


def test_an_error_names_the_layer_of_the_net() -> None:
    with pytest.raises(ShapeError, match=r"x is float64 \(5, 3\)"):
        book.MultiLayerNet(6, [5], 4).predict(np.ones((5, 3)))
    net = extended(use_batchnorm=True)
    net.params["gamma1"] = np.ones(3)
    with pytest.raises(ShapeError, match=r"^BatchNorm1\.forward: "):
        net.predict(X)


@pytest.mark.parametrize(
    "call",
    [
        lambda: book.MultiLayerNet(0, [5], 4),
        lambda: book.MultiLayerNet(6, [5.0], 4),  # type: ignore[list-item]
        lambda: book.MultiLayerNet(6, [5], 4, activation="tanh"),
        lambda: book.MultiLayerNet(6, [5], 4, weight_init_std="lecun"),
        lambda: book.MultiLayerNet(6, [5], 4, weight_init_std=None),  # type: ignore[arg-type]
        lambda: book.SimpleConvNet((28, 28)),
        lambda: book.SimpleConvNet((1, 4, 4)),
        lambda: book.SimpleConvNet(conv_param={"filter_num": 3, "filter_size": 3}),
        lambda: book.SimpleConvNet(conv_param={**SMALL, "stride": 0}),
        lambda: book.SimpleConvNet((1, 5, 9), {**SMALL, "filter_size": 6, "pad": 0}),
        lambda: book.SimpleConvNet(hidden_size=0),
        lambda: book.DeepConvNet((1, 4, 4), *[SMALL] * 6),
        lambda: book.DeepConvNet(output_size=0),
        lambda: book.MultiLayerNetExtend(6, [5], 4, use_dropout=True, dropout_ration=2),
    ],
)
def test_sizes_and_names_are_checked(call: Any) -> None:
    with pytest.raises(ArgumentError, match=r"; expected .*; (pass|take|write)"):
        call()


def test_nets_start_with_a_default_of_their_own() -> None:
    param = dict(SMALL)
    book.SimpleConvNet((1, 8, 8), param)
    assert param == SMALL
    assert book.SimpleConvNet().params["W1"].shape == (30, 1, 5, 5)


def test_a_copy_of_a_net_is_a_net_of_its_own() -> None:
    net = extended(use_batchnorm=True)
    other = copy.deepcopy(net)
    other.params["W1"][...] = 0
    assert net.params["W1"].any()
    assert not other.layers["Affine1"].W.any()


# Files


@pytest.mark.parametrize("name", ["MultiLayerNet", "batch normalization", "SimpleConvNet", "DeepConvNet"])
def test_params_come_back(name: str, tmp_path: Path) -> None:
    make, x, t = NETS[name]
    net, other = make(), make(2)
    net.gradient(x, t)
    for path in (tmp_path / "params.pkl", str(tmp_path / "params.npz")):
        net.save_params(path)
        assert Path(path).read_bytes()[:2] == b"PK"  # T35: no pickle, whatever the name
        other.load_params(path)
        assert all(np.array_equal(net.params[key], other.params[key]) for key in net.params)
        assert np.array_equal(net.predict(x), other.predict(x))
    layer = other.layers[0] if isinstance(other.layers, list) else other.layers["Affine1"]
    assert layer.W is other.params["W1"]


def test_a_net_that_was_never_trained_has_no_running_values_to_save(tmp_path: Path) -> None:
    net, other = extended(use_batchnorm=True), extended(2, use_batchnorm=True)
    net.save_params(tmp_path / "p.pkl")
    other.load_params(tmp_path / "p.pkl")
    assert other.layers["BatchNorm1"].running_mean is None


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f8", "<f2"])
def test_the_books_own_pickles_are_read(protocol: int, dtype: str, tmp_path: Path) -> None:
    net, other = simple(), simple(2)
    params = {key: p.astype(dtype) for key, p in net.params.items()}
    params["W2"] = np.asfortranarray(params["W2"])
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps(params, protocol))
    other.load_params(path)
    for key, p in params.items():
        assert np.array_equal(other.params[key], p)
        assert other.params[key].dtype == np.dtype(dtype).newbyteorder("=")


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("was_here"),)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil(), 2),
        pickle.dumps({"W1": Evil()}, 4),
        pickle.dumps([1, 2], 2),
        pickle.dumps({"W1": 3.0}, 2),
        pickle.dumps({}, 2),
        pickle.dumps({"W1": np.array([None])}, 2),
        pickle.dumps({"W1": np.array([1j])}, 2),
        pickle.dumps({1: np.ones(2)}, 2),
        pickle.dumps({"W1": np.ones(2)}, 2)[:-20],
        pickle.dumps({"W1": np.ones(2)}, 2).replace(b"K\x02", b"K\x09"),
        b"\x80\x02" + b"(" * 9000 + b".",
        b"\x80\x02]r\xff\xff\xff\x7f.",
        b"\x80",
    ],
    ids=range(13),
)
def test_any_other_pickle_is_refused(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = simple()
    before = {key: p.copy() for key, p in net.params.items()}
    (tmp_path / "params.pkl").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^load_params: params.pkl is a pickle, and .*; expected .*; convert it"):
        net.load_params("params.pkl")
    assert not (tmp_path / "was_here").exists()
    assert all(np.array_equal(net.params[key], p) for key, p in before.items())


def test_cut_and_flipped_pickles_raise_one_error_or_give_arrays(tmp_path: Path) -> None:
    whole = pickle.dumps({"W1": np.arange(3.0), "b1": np.ones(2, np.float32)}, 3)
    path, rng = tmp_path / "p.pkl", np.random.default_rng(0)
    refused = 0
    for i in range(400):
        content = bytearray(whole)
        if i % 4 == 0:
            del content[rng.integers(1, len(content)) :]
        else:
            content[rng.integers(1, len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            found = read_params(path)
        except CheckpointError:
            refused += 1
        else:
            assert all(isinstance(p, np.ndarray) and p.dtype.kind in "fiu" for p in found.values())
    assert refused > 200


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (lambda: book.MultiLayerNet(6, [5], 4), "expected W1, b1, W2, b2; build the net"),
        (lambda: book.MultiLayerNet(6, [5, 3], 4), r"has W2 of shape \(5, 4\); expected \(5, 3\)"),
    ],
)
def test_params_of_another_net_are_refused(other: Any, match: str, tmp_path: Path) -> None:
    book.MultiLayerNet(6, [5, 4], 4, seed=1).save_params(tmp_path / "p.pkl")
    net = other()
    before = {key: p.copy() for key, p in net.params.items()}
    with pytest.raises(CheckpointError, match=match):
        net.load_params(tmp_path / "p.pkl")
    assert all(np.array_equal(net.params[key], p) for key, p in before.items())


def test_a_file_that_is_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing.pkl: No such file"):
        simple().load_params(tmp_path / "missing.pkl")
    with pytest.raises(CheckpointError, match=r"is no regular file; expected a file"):
        simple().load_params(tmp_path)
    (tmp_path / "bad.pkl").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(CheckpointError, match="; expected "):
        simple().load_params(tmp_path / "bad.pkl")
    with pytest.raises(CheckpointError, match="; expected "):
        simple().save_params(tmp_path / "nowhere" / "params.pkl")
