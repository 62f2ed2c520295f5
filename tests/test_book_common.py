"""minigrad.book: gates, util, optimizer and trainer against the book's formulae, written out once more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import book
from minigrad.errors import ArgumentError, ShapeError

# Gates


@pytest.mark.parametrize(
    ("gate", "wanted"),
    [(book.AND, [0, 0, 0, 1]), (book.NAND, [1, 1, 1, 0]), (book.OR, [0, 1, 1, 1]), (book.XOR, [0, 1, 1, 0])],
)
def test_gates(gate: Any, wanted: list[int]) -> None:
    assert [gate(x1, x2) for x1, x2 in ((0, 0), (1, 0), (0, 1), (1, 1))] == wanted


# util


def windows(x: Any, fh: int, fw: int, stride: int, pad: int) -> Any:
    """im2col as five loops."""
    n, c, h, w = x.shape
    rows = []
    for k in range(n):
        for i in range((h + 2 * pad - fh) // stride + 1):
            for j in range((w + 2 * pad - fw) // stride + 1):
                row = np.zeros((c, fh, fw), x.dtype)
                for y in range(fh):
                    for z in range(fw):
                        a, b = i * stride + y - pad, j * stride + z - pad
                        if 0 <= a < h and 0 <= b < w:
                            row[:, y, z] = x[k, :, a, b]
                rows.append(row.ravel())
    return np.array(rows)


CASES = st.tuples(
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(3, 5), st.integers(3, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2)),
    st.sampled_from([np.float64, np.float32, np.float16, np.int64]),
)


@given(CASES)
def test_im2col_is_what_loops_make_of_it(case: Any) -> None:
    shape, how, dtype = case
    x = np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype)
    col = book.im2col(x, *how)
    assert col.dtype == dtype  # T33: the book's is float64
    assert np.array_equal(col, windows(x, *how))


@given(CASES)
def test_col2im_is_the_adjoint_of_im2col(case: Any) -> None:
    shape, how, dtype = case
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, shape).astype(dtype)
    col = rng.integers(-9, 9, book.im2col(x, *how).shape).astype(dtype)
    image = book.col2im(col, shape, *how)
    assert image.dtype == dtype
    assert image.shape == shape
    assert np.sum(image * x, dtype=float) == np.sum(col * book.im2col(x, *how), dtype=float)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: book.im2col(np.ones((2, 3, 3)), 2, 2), ShapeError),
        (lambda: book.im2col(np.ones((1, 1, 2, 2)), 3, 2), ShapeError),
        (lambda: book.im2col(np.ones((1, 1, 2, 2)), 2, 2, stride=0), ArgumentError),
        (lambda: book.im2col(np.ones((1, 1, 2, 2)), 2, 2, pad=-1), ArgumentError),
        (lambda: book.im2col(np.ones((1, 1, 2, 2)), 1.5, 2), ArgumentError),  # type: ignore[arg-type]
        (lambda: book.col2im(np.ones((4, 5)), (1, 1, 3, 3), 2, 2), ShapeError),
        (lambda: book.shuffle_dataset(np.ones((3, 2)), np.ones(2)), ShapeError),
        (lambda: book.smooth_curve(np.ones((3, 2))), ShapeError),  # type: ignore[arg-type]
    ],
)
def test_util_refuses(call: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="; expected "):
        call()


def test_conv_output_size_keeps_its_fraction() -> None:
    assert book.conv_output_size(28, 5) == 24.0
    assert book.conv_output_size(7, 3, stride=3, pad=1) == 3.0
    assert book.conv_output_size(8, 3, stride=2) == 3.5


@pytest.mark.parametrize("n", [0, 1, 2, 5, 10, 11, 12, 200])
def test_smooth_curve_has_as_many_points(n: int) -> None:
    x = np.random.default_rng(n).normal(size=n)
    y = book.smooth_curve(list(x))
    assert y.shape == (n,)
    assert np.allclose(book.smooth_curve(np.full(n, 3.0)), 3)
    if n >= 11:
        s = np.r_[x[10:0:-1], x, x[-1:-11:-1]]
        w = np.kaiser(11, 2)
        assert np.array_equal(y, np.convolve(w / w.sum(), s, mode="valid")[5:-5])


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 1, 4, 4)])
def test_shuffle_dataset_keeps_samples_and_labels_together(shape: tuple[int, ...]) -> None:
    t = np.arange(7)
    x = np.broadcast_to(t.reshape(7, *[1] * (len(shape) - 1)), shape)
    np.random.seed(3)
    shuffled, labels = book.shuffle_dataset(x, t)
    np.random.seed(3)
    order = np.random.permutation(7)
    assert np.array_equal(labels, t[order])
    assert np.array_equal(shuffled, x[order])
    assert np.array_equal(book.shuffle_dataset(x, t, seed=3)[1], labels)


# Optimisers: the book's formulae, each as a function of (params, grads, state, step)


def sgd(p: Any, g: Any, s: Any, n: int) -> Any:
    return p - 0.1 * g


def momentum(p: Any, g: Any, s: Any, n: int) -> Any:
    s["v"] = 0.9 * s.get("v", 0.0 * p) - 0.1 * g
    return p + s["v"]


def nesterov(p: Any, g: Any, s: Any, n: int) -> Any:
    s["v"] = s.get("v", 0.0 * p) * 0.9 - 0.1 * g
    return p + 0.9 * 0.9 * s["v"] - (1 + 0.9) * 0.1 * g


def adagrad(p: Any, g: Any, s: Any, n: int) -> Any:
    s["h"] = s.get("h", 0.0 * p) + g * g
    return p - 0.1 * g / (np.sqrt(s["h"]) + 1e-7)


def rmsprop(p: Any, g: Any, s: Any, n: int) -> Any:
    s["h"] = s.get("h", 0.0 * p) * 0.97 + (1 - 0.97) * g * g
    return p - 0.1 * g / (np.sqrt(s["h"]) + 1e-7)


def adam(p: Any, g: Any, s: Any, n: int) -> Any:
    lr_t = 0.1 * np.sqrt(1.0 - 0.999**n) / (1.0 - 0.9**n)
    s["m"] = s.get("m", 0.0 * p) + (1 - 0.9) * (g - s.get("m", 0.0 * p))
    s["v"] = s.get("v", 0.0 * p) + (1 - 0.999) * (g**2 - s.get("v", 0.0 * p))
    return p - lr_t * s["m"] / (np.sqrt(s["v"]) + 1e-7)


OPTIMIZERS: dict[str, tuple[Any, Any]] = {
    "SGD": (lambda: book.SGD(lr=0.1), sgd),
    "Momentum": (lambda: book.Momentum(lr=0.1, momentum=0.9), momentum),
    "Nesterov": (lambda: book.Nesterov(lr=0.1, momentum=0.9), nesterov),
    "AdaGrad": (lambda: book.AdaGrad(lr=0.1), adagrad),
    "RMSprop": (lambda: book.RMSprop(lr=0.1, decay_rate=0.97), rmsprop),
    "Adam": (lambda: book.Adam(lr=0.1, beta1=0.9, beta2=0.999), adam),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["arrays", "numbers", "whole numbers"])
def test_optimisers_are_the_books_bit_for_bit(name: str, kind: str) -> None:
    make, formula = OPTIMIZERS[name]
    optimizer, rng = make(), np.random.default_rng(0)
    params: dict[str, Any] = {"W": rng.normal(size=(3, 4)), "b": rng.normal(size=4)}
    if kind != "arrays":
        params = {"x": -7.0, "y": 2.0} if kind == "numbers" else {"x": -7, "y": 2}
    wanted = {key: np.array(p, dtype=float) for key, p in params.items()}
    same = dict(params)
    state: dict[str, Any] = {key: {} for key in params}
    for n in range(1, 51):
        grads = {key: rng.normal(size=np.shape(p)) for key, p in params.items()}
        optimizer.update(params, grads)
        wanted = {key: formula(p, grads[key], state[key], n) for key, p in wanted.items()}
        assert all(np.array_equal(params[key], wanted[key]) for key in params)
    if kind == "arrays":
        assert all(params[key] is same[key] for key in params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_keep_float32(name: str) -> None:
    make, formula = OPTIMIZERS[name]
    optimizer, rng = make(), np.random.default_rng(1)
    params = {"W": rng.normal(size=(3, 4)).astype(np.float32)}
    wanted, state = params["W"].astype(np.float64), {}
    for n in range(1, 6):
        grads = {"W": rng.normal(size=(3, 4)).astype(np.float32)}
        optimizer.update(params, grads)
        wanted = formula(wanted, grads["W"].astype(np.float64), state, n)
    assert params["W"].dtype == np.float32
    np.testing.assert_allclose(params["W"], wanted, rtol=1e-5, atol=1e-6)
    number = {"x": np.float32(1)}
    make().update(number, {"x": np.float32(2)})
    assert number["x"].dtype == np.float32
    for attribute in ("v", "h", "m"):
        assert all(s.dtype == np.float32 for s in getattr(optimizer, attribute, {}).values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_failed_update_changes_nothing(name: str) -> None:
    optimizer = OPTIMIZERS[name][0]()
    params = {"W": np.ones((2, 3)), "b": np.ones(3)}
    with pytest.raises(ArgumentError, match=r"no 'b'; expected a gradient for each"):
        optimizer.update(params, {"W": np.ones((2, 3))})
    with pytest.raises(ShapeError, match=r"grads\['b'\]: it is float64 \(1,\), params\['b'\] is float64 \(3,\)"):
        optimizer.update(params, {"W": np.ones((2, 3)), "b": np.ones(1)})
    assert all((p == 1).all() for p in params.values())
    optimizer.update(params, {"W": np.ones((2, 3)), "b": np.ones(3), "more": 1})
    other = {"W": np.ones((4, 3)), "b": np.ones(3)}
    if name == "SGD":
        optimizer.update(other, other)
        return
    with pytest.raises(ShapeError, match="state from earlier updates knows nothing"):
        optimizer.update(other, other)
    with pytest.raises(ShapeError, match="state from earlier updates knows nothing"):
        optimizer.update({"V": np.ones(2)}, {"V": np.ones(2)})
    assert (other["b"] == 1).all()


@pytest.mark.parametrize("lr", [-0.1, float("nan"), float("inf"), "0.1", None, True])
@pytest.mark.parametrize("make", [book.SGD, book.Momentum, book.Nesterov, book.AdaGrad, book.RMSprop, book.Adam])
def test_a_learning_rate_is_a_number_from_zero_on(make: Any, lr: Any) -> None:
    with pytest.raises(ArgumentError, match=r"lr: .*; expected a finite number, 0 or more; pass lr="):
        make(lr=lr)


def test_betas_are_below_one() -> None:
    with pytest.raises(ArgumentError, match=r"beta1: float 1[.]0; expected a number from 0 on, below 1"):
        book.Adam(beta1=1.0)


# Trainer


class Counting:
    """A net of which only the calls are looked at."""

    def __init__(self) -> None:
        self.params = {"W": np.zeros(1)}
        self.calls: list[tuple[str, int]] = []

    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        self.calls.append(("gradient", len(x)))
        return {"W": np.ones(1)}

    def loss(self, x: Any, t: Any) -> float:
        self.calls.append(("loss", len(x)))
        return float(self.params["W"][0])

    def accuracy(self, x: Any, t: Any) -> float:
        self.calls.append(("accuracy", len(x)))
        return 0.5


@pytest.mark.parametrize(
    ("n", "batch", "epochs", "steps"),
    [(30, 10, 4, 12), (30, 7, 3, 12), (30, 29, 5, 5), (11, 10, 10, 11), (30, 64, 3, 3), (7, 2, 1, 3)],
)
def test_the_trainer_evaluates_every_epoch(n: int, batch: int, epochs: int, steps: int) -> None:  # T32
    net, x, t = Counting(), np.zeros((n, 2)), np.zeros(n, int)
    trainer = book.Trainer(net, x, t, x[:5], t[:5], epochs=epochs, mini_batch_size=batch, verbose=False)
    trainer.train()
    assert trainer.max_iter == trainer.current_iter == len(trainer.train_loss_list) == steps
    assert len(trainer.train_acc_list) == len(trainer.test_acc_list) == trainer.current_epoch == epochs
    assert {size for what, size in net.calls if what in ("gradient", "loss")} == {batch}
    np.testing.assert_allclose(trainer.train_loss_list, -0.01 * np.arange(1, steps + 1))  # after each step


def test_the_trainer_prints_what_the_book_prints(capsys: pytest.CaptureFixture[str]) -> None:
    net, x, t = Counting(), np.zeros((4, 2)), np.zeros(4, int)
    trainer = book.Trainer(net, x, t, x, t, epochs=2, mini_batch_size=2, optimizer_param={"lr": 1})
    trainer.train()
    assert capsys.readouterr().out.splitlines() == [
        "train loss:-1.0",
        "=== epoch:1, train acc:0.5, test acc:0.5 ===",
        "train loss:-2.0",
        "train loss:-3.0",
        "=== epoch:2, train acc:0.5, test acc:0.5 ===",
        "train loss:-4.0",
        "=============== Final Test Accuracy ===============",
        "test acc:0.5",
    ]


def test_the_trainer_evaluates_as_many_samples_as_it_is_told() -> None:
    net, x, t = Counting(), np.zeros((40, 2)), np.zeros(40, int)
    book.Trainer(net, x, t, x[:9], t[:9], 1, 10, evaluate_sample_num_per_epoch=6, verbose=False).train()
    assert {size for what, size in net.calls if what == "accuracy"} == {6}


@pytest.mark.parametrize("name", ["sgd", "SGD", "Momentum", "nesterov", "AdaGrad", "rmsprop", "Adam"])
def test_the_trainer_makes_the_optimizer_that_is_named(name: str) -> None:
    x, t, param = np.zeros((4, 2)), np.zeros(4, int), {"lr": 0.5}
    trainer = book.Trainer(Counting(), x, t, x, t, optimizer=name, optimizer_param=param)
    assert type(trainer.optimizer).__name__.lower() == name.lower()
    assert trainer.optimizer.lr == 0.5
    assert book.Trainer(Counting(), x, t, x, t).optimizer.lr == 0.01  # the book's default dict is one for all


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"optimizer": "adamw"}, ArgumentError),
        ({"epochs": 0}, ArgumentError),
        ({"mini_batch_size": 2.5}, ArgumentError),
        ({"evaluate_sample_num_per_epoch": -1}, ArgumentError),
        ({"t_train": np.zeros(3, int)}, ShapeError),
        ({"x_test": np.zeros((0, 2)), "t_test": np.zeros(0, int)}, ShapeError),
        ({"seed": "x"}, ArgumentError),
    ],
)
def test_the_trainer_refuses(change: dict[str, Any], error: type[Exception]) -> None:
    x, t = np.zeros((4, 2)), np.zeros(4, int)
    with pytest.raises(error, match=r"^Trainer: .*; expected "):
        book.Trainer(**{"network": Counting(), "x_train": x, "t_train": t, "x_test": x, "t_test": t, **change})


def test_mini_batches_are_the_books(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    class Net(Counting):
        def gradient(self, x: Any, t: Any) -> dict[str, Any]:
            seen.append(x[:, 0].tolist())
            return super().gradient(x, t)

    x, t = np.arange(12.0).reshape(12, 1), np.zeros(12, int)
    for seed in (None, 4):
        np.random.seed(4)
        book.Trainer(Net(), x, t, x, t, 1, 4, verbose=False, seed=seed).train()
    np.random.seed(4)
    wanted = [np.random.choice(12, 4).tolist() for _ in range(3)]
    assert seen == [*wanted, *wanted]
