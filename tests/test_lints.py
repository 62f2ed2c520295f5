"""Lints: each mistake is named once, each can be silenced, and right training gets none."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim, train
from minigrad.data import DataLoader, TensorDataset, load_digits, split
from minigrad.errors import ArgumentError, DTypeError
from minigrad.train import LINTS, Lints, LintWarning

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 6))
T = (X[:, 0] > 0).astype(int)
BATCHES = [(X[i : i + 16], T[i : i + 16]) for i in range(0, 64, 16)]
REAL = [(x, x[:, :1] - x[:, 1:2]) for x, _ in BATCHES]


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def net(*more: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8, generator=rng()), nn.ReLU(), nn.Linear(8, 2, generator=rng()), *more)


def said(model: Any, loss: Any = None, loader: Any = BATCHES, optimizer: Any = None, epochs: int = 6,
         lr: float = 0.05, **options: Any) -> dict[str, str]:  # fmt: skip
    """{code: text} of the lints of a training; each is said once, where the test calls fit."""
    optimizer = optimizer or optim.SGD(model.parameters(), lr=lr)
    options = {"progress": False, "epochs": epochs} | options
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train.fit(model, loss or nn.CrossEntropyLoss(), optimizer, loader, **options)
    assert all(w.category is LintWarning for w in caught), [str(w.message) for w in caught]
    assert all(w.filename == __file__ for w in caught)
    codes = [w.message.code for w in caught]  # type: ignore[union-attr]  # LintWarnings have one
    assert len(codes) == len(set(codes))
    return {w.message.code: str(w.message) for w in caught}  # type: ignore[union-attr]  # as above


# One training for each mistake


def softmaxed() -> dict[str, str]:
    return said(net(nn.Softmax(1)))


def eval_mode() -> dict[str, str]:
    return said(net(nn.Dropout(0.1)).eval())


def not_stepped() -> dict[str, str]:
    model = net()
    return said(model, optimizer=optim.SGD([model[0].weight, model[0].bias], lr=0.1))


def not_the_models() -> dict[str, str]:
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    setattr(model, "2", nn.Linear(8, 2))  # a new layer after the optimiser was made
    return said(model, optimizer=optimizer, ignore=["parameters-not-in-optimizer"])


def broadcast() -> dict[str, str]:
    batches = [(x, t[:, 0]) for x, t in REAL]
    return said(nn.Linear(6, 1, generator=rng()), lambda out, t: ((out - t) ** 2).mean(), batches)


def dead() -> dict[str, str]:
    model = net()
    model[0].bias.data -= np.array([50.0] * 6 + [0.0] * 2)
    return said(model)


def exploding() -> dict[str, str]:
    batches = [(x * 1e5, t * 1e9) for x, t in REAL]
    return said(nn.Linear(6, 1, generator=rng()), nn.MSELoss(), batches, lr=1e-13)


def zero() -> dict[str, str]:
    model = nn.Sequential(nn.Linear(6, 1, generator=rng()), nn.Softmax(1))  # of one class: always 1
    return said(model, nn.MSELoss(), [(x, np.abs(t)) for x, t in REAL])


def unused() -> dict[str, str]:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.used, self.spare = nn.Linear(6, 2, generator=rng()), nn.Linear(6, 2)

        def forward(self, x: Any) -> Any:
            return self.used(x)

    return said(Net())


def constant() -> dict[str, str]:
    return said(nn.Linear(6, 2, generator=rng()), loader=BATCHES[:1], epochs=20, lr=1e-20)


def no_rate() -> dict[str, str]:
    return said(net(), loader=BATCHES[:1], epochs=20, lr=0.0)


def single() -> dict[str, str]:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    loader = DataLoader(TensorDataset(X[:33], T[:33]), 16)
    for right in DataLoader(TensorDataset(X[:33], T[:33]), 16, drop_last=True), DataLoader(TensorDataset(X, T), 16):
        assert said(model, loader=right) == {}

    class Once(train.Callback):
        def on_batch_end(self, state: Any) -> None:
            state.stop("the next batch would be an error")

    return said(model, loader=loader, callbacks=[Once()])


def not_zeroed() -> dict[str, str]:
    model = net()

    def loss(out: Any, t: Any) -> Any:
        value = mg.softmax_cross_entropy(out, t)
        value.backward(retain_graph=True)
        return value

    return said(model, loss)


MISTAKES: dict[str, tuple[Any, str]] = {
    "softmax-before-cross-entropy": (softmaxed, "softmax_cross_entropy is given the result of softmax"),
    "eval-mode": (eval_mode, "model.training is False"),
    "parameters-not-in-optimizer": (not_stepped, "2.weight, 2.bias of the model are not in the optimiser"),
    "optimizer-parameters-not-in-model": (not_the_models, r"params[2], params[3] of the optimiser are no part"),
    "broadcast-labels": (broadcast, "output (16, 1) and the labels (16,) are broadcast to (16, 16) by subtract"),
    "dead-relu": (dead, "75% of the units of relu number 1 of 1 were 0 for all 128 samples of 8 batches"),
    "exploding-gradients": (exploding, "long in the fifth batch in a row"),
    "zero-gradients": (zero, "the gradient of 0.weight, 0.bias was exactly 0 in 10 batches"),
    "unused-parameters": (unused, "spare.weight, spare.bias have had no gradient in 10 batches"),
    "constant-loss": (constant, "the loss was "),
    "zero-learning-rate": (no_rate, "the learning rate is 0"),
    "batchnorm-single-sample": (
        single,
        "the last of 33 samples is a batch of its own, and layer 1, a BatchNorm1d, has nothing to",
    ),
    "gradients-not-zeroed": (not_zeroed, "0.weight, 0.bias, 2.weight, 2.bias have a gradient already"),
}


def test_every_lint_has_a_test() -> None:
    assert MISTAKES.keys() == LINTS.keys()


@pytest.mark.parametrize("code", LINTS)
def test_a_mistake_is_named(code: str) -> None:
    make, text = MISTAKES[code]
    found = make()
    assert text in found.pop(code)
    allowed = {"constant-loss": {"zero-gradients"}, "zero-gradients": {"constant-loss"}}
    assert found.keys() <= allowed.get(code, set())


@pytest.mark.parametrize("code", LINTS)
def test_a_lint_can_be_silenced(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = train.fit

    def silent(*args: Any, ignore: Any = (), **options: Any) -> Any:
        return real(*args, ignore=[*ignore, code], **options)

    monkeypatch.setattr(train, "fit", silent)
    assert code not in MISTAKES[code][0]()


@pytest.mark.parametrize(
    ("make", "loss"),
    [
        (lambda: net(nn.Softmax(1)), nn.CrossEntropyLoss()),
        (lambda: net(nn.Sigmoid()), nn.CrossEntropyLoss()),
        (lambda: net(nn.Sigmoid()), lambda out, t: mg.sigmoid_binary_cross_entropy(out[:, 0], t.astype(float))),
        (lambda: net(nn.Softmax(1)), lambda out, t: mg.softmax_cross_entropy(out.reshape(2, -1, 2), t.reshape(2, -1))),
        (lambda: net(), lambda out, t: mg.softmax_cross_entropy(mg.log_softmax(out).astype("float32"), t)),
    ],
)
def test_softmax_is_seen_through_views(make: Any, loss: Any) -> None:
    assert said(make(), loss).keys() == {"softmax-before-cross-entropy"}


def test_softmax_elsewhere_is_no_mistake() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            self.a, self.b = nn.Linear(6, 8, generator=rng()), nn.Linear(8, 2, generator=rng())

        def forward(self, x: Any) -> Any:
            h = self.a(x)
            return self.b(h * mg.softmax(h) * mg.sigmoid(h))

    assert said(Gate()) == {}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"^ignore: 'dead-relus'; expected one of softmax-.*; write 'dead-relu'"):
        said(net(), ignore=["dead-relus"])
    with pytest.raises(DTypeError, match=r"^ignore: str 'eval-mode'; expected a list"):
        said(net(), ignore="eval-mode")


def test_a_frozen_layer_and_a_warm_up_are_no_mistakes() -> None:
    model = net()
    model[0].requires_grad_(False)
    assert said(model, optimizer=optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)) == {}
    model = net(nn.Dropout(0.5).eval())  # one layer in eval mode is a choice
    assert said(model) == {}


# A loop of one's own


def loop(zero: str, steps: int = 6, accumulate: int = 1) -> list[str]:
    """The codes said in a loop that zeroes its gradients before forward, before backward, after the step, or never."""
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    lints = Lints(model, optimizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(steps):
            x, t = BATCHES[k % 4]
            if zero == "first":
                optimizer.zero_grad()
            out = model(x)
            value = loss(out, t)
            if zero == "before":
                optimizer.zero_grad()
            lints.backward(value, out, t)
            if (k + 1) % accumulate == 0:
                optimizer.step()
                if zero == "after":
                    optimizer.zero_grad()
                elif zero == "in place":
                    for p in model.parameters():
                        p.grad[...] = 0
    return [w.message.code for w in caught]  # type: ignore[union-attr]  # LintWarnings have one


@pytest.mark.parametrize("zero", ["first", "before", "after", "in place"])
def test_a_loop_that_zeroes_its_gradients_is_right(zero: str) -> None:
    assert loop(zero) == []


def test_a_loop_that_never_zeroes_is_told_once() -> None:
    assert loop("never") == ["gradients-not-zeroed"]


def test_gradients_of_several_batches_may_be_added_up() -> None:
    assert loop("after", steps=12, accumulate=3) == []
    assert loop("never", steps=12, accumulate=3) == ["gradients-not-zeroed"]


def test_lints_change_nothing() -> None:
    def run(watched: bool) -> list[bytes]:
        model = net()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        lints = Lints(model, optimizer)
        for x, t in BATCHES * 6:
            optimizer.zero_grad()
            out = model(x)
            value = mg.softmax_cross_entropy(out, t)
            lints.backward(value, out, t) if watched else value.backward()
            optimizer.step()
        return [a.tobytes() for a in model.state_dict().values()]

    assert run(True) == run(False)


# No false alarms: what the book and its readers train


def digits(dtype: Any) -> tuple[Any, Any]:
    (x, t), (x_test, t_test) = split(*load_digits(), seed=0)
    return (x.astype(dtype), t), (x_test.astype(dtype), t_test)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["relu", "sigmoid", "batchnorm", "dropout", "conv", "deep"])
def test_the_digits_are_learned_without_a_lint(kind: str, dtype: Any, optimizer: str) -> None:
    g = rng()
    (x, t), _ = digits(dtype)
    layers: dict[str, list[nn.Module]] = {
        "relu": [nn.Linear(64, 50, generator=g), nn.ReLU(), nn.Linear(50, 10, generator=g)],
        "sigmoid": [nn.Linear(64, 50, generator=g), nn.Sigmoid(), nn.Linear(50, 10, generator=g)],
        "batchnorm": [nn.Linear(64, 50, generator=g), nn.BatchNorm1d(50), nn.ReLU(), nn.Linear(50, 10, generator=g)],
        "dropout": [nn.Linear(64, 50, generator=g), nn.ReLU(), nn.Dropout(0.5, generator=g), nn.Linear(50, 10)],
        "conv": [nn.Conv2d(1, 6, 3, generator=g), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                 nn.Linear(54, 10, generator=g)],
        "deep": [nn.Linear(64, 40, generator=g), nn.ReLU(), *(m for _ in range(4) for m in
                 (nn.Linear(40, 40, generator=g), nn.ReLU())), nn.Linear(40, 10, generator=g)],
    }  # fmt: skip
    if kind == "conv":
        x = x.reshape(-1, 1, 8, 8)
    model = nn.Sequential(*layers[kind]).astype(dtype)
    chosen = {"SGD": lambda: optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
              "Adam": lambda: optim.Adam(model.parameters(), lr=0.01)}  # fmt: skip
    loader = DataLoader(TensorDataset(x, t), 100, shuffle=True, generator=g)
    assert said(model, loader=loader, optimizer=chosen[optimizer](), epochs=12) == {}


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer"])
def test_sequences_are_learned_without_a_lint(kind: str) -> None:
    g = rng()
    x = g.integers(0, 4, (96, 7))
    t = (x.sum(axis=1) % 2).astype(int)

    class Net(nn.Module):
        def __init__(self) -> None:
            self.embed = nn.Embedding(4, 8, generator=g)
            self.body = {
                "lstm": lambda: nn.LSTM(8, 12, batch_first=True, generator=g),
                "gru": lambda: nn.GRU(8, 12, batch_first=True, generator=g),
                "transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, generator=g),
            }[kind]()
            self.head = nn.Linear(8 if kind == "transformer" else 12, 2, generator=g)

        def forward(self, x: Any) -> Any:
            out = self.body(self.embed(x))
            out = out if kind == "transformer" else out[0]
            return self.head(out[:, -1])

    model = Net()
    loader = DataLoader(TensorDataset(x, t), 16, shuffle=True, generator=g)
    assert said(model, loader=loader, optimizer=optim.Adam(model.parameters(), lr=0.01), epochs=6) == {}


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_hinge_that_has_reached_0_is_no_mistake(shape: tuple[int, ...]) -> None:
    t = np.where(X[:, 0] > 0, 1.0, -1.0).reshape(shape)

    def loss(out: Any, t: Any) -> Any:
        return mg.relu(0.01 - out.reshape(shape) * t).mean()

    model = nn.Linear(6, 1, generator=rng())
    history = train.History()
    assert said(model, loss, [(X, t)], epochs=600, lr=1.0, callbacks=[Keep(history)]) == {}
    assert history["loss"][-50:] == [0.0] * 50


class Keep(train.Callback):
    """The history of a training, for who cannot get at it."""

    def __init__(self, history: train.History) -> None:
        self.history = history

    def on_epoch_end(self, state: Any) -> None:
        self.history.add_epoch(state.logs)


def test_units_that_die_later_are_seen_too() -> None:
    class Kill(train.Callback):
        def on_batch_end(self, state: Any) -> None:
            if state.step == 40:
                state.model[0].bias.data -= 50.0

    model = net()
    assert said(model, epochs=20) == {}
    assert "dead-relu" in said(model, epochs=100, callbacks=[Kill()], ignore=["zero-gradients"])


def test_a_regression_to_its_end_is_no_mistake() -> None:
    x, t = X, X @ np.arange(6.0)[:, None]
    assert said(nn.Linear(6, 1), nn.MSELoss(), [(x, t)], epochs=1500, lr=0.2) == {}  # the loss no longer changes
    t32 = t.astype(np.float32)
    model = nn.Linear(6, 1).astype(np.float32)
    assert said(model, nn.MSELoss(), [(x.astype(np.float32), t32)], epochs=800, lr=0.2) == {}


def test_a_warm_up_from_0_is_no_mistake() -> None:
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    warm_up = optim.LambdaLR(optimizer, lambda k: min(1.0, k / 10))
    warm_up.interval = "batch"
    assert optimizer.param_groups[0]["lr"] == 0
    assert not said(model, optimizer=optimizer, scheduler=warm_up)


def test_several_layers_that_a_last_sample_stops() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2), nn.BatchNorm1d(2))
    lints = Lints(model, optim.SGD(model.parameters(), lr=0.1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lints.look_at_loader(DataLoader(TensorDataset(X[:33], T[:33]), 16))
    assert "and the layers 1, 3, each a BatchNorm1d, have nothing to normalise it by" in str(caught[0].message)
