"""fit: what it computes, records, shows, writes, stops for and refuses."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import os
import re
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim, train
from minigrad.data import DataLoader, TensorDataset
from minigrad.errors import ArgumentError, DTypeError, GraphError, LabelError, MinigradError, ShapeError
from minigrad.train import Callback, Checkpoint, CSVLogger, EarlyStopping, History, NonFiniteError, TensorBoardLogger

X = np.random.default_rng(0).standard_normal((20, 3))
T = (X[:, 0] > 0).astype(int)
BATCHES = [(X[i : i + 8], T[i : i + 8]) for i in (0, 8, 16)]  # 8, 8 and 4 samples
REAL = [(x, x @ np.array([1.0, -2.0, 0.5])[:, None]) for x, _ in BATCHES]


def classifier(seed: int = 0) -> nn.Module:
    rng = np.random.default_rng(seed)
    return nn.Sequential(nn.Linear(3, 4, generator=rng), nn.Tanh(), nn.Linear(4, 2, generator=rng))


def sgd(model: Any, lr: float = 0.1) -> Any:
    return optim.SGD(model.parameters(), lr=lr)


def fit(model: Any = None, loader: Any = BATCHES, loss: Any = None, lr: float = 0.1, **options: Any) -> History:
    model = classifier() if model is None else model
    options = {"epochs": 2, "progress": False, "optimizer": None} | options
    optimizer = options.pop("optimizer") or sgd(model, lr)
    return train.fit(model, loss or nn.CrossEntropyLoss(), optimizer, loader, **options)


def weights(model: Any) -> list[bytes]:
    return [array.tobytes() for array in model.state_dict().values()]


# What it computes


@pytest.mark.parametrize("clip", [None, 0.05])
def test_it_is_the_loop_written_by_hand(clip: float | None) -> None:
    model, loss = classifier(), nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    scheduler = optim.ExponentialLR(optimizer, 0.5)
    losses, norms, means = [], [], []
    for _ in range(3):
        for x, t in BATCHES:
            value = loss(model(x), t)
            optimizer.zero_grad()
            value.backward()
            norms.append(optim.clip_grad_norm_(model.parameters(), clip or math.inf))
            optimizer.step()
            losses.append(float(value))
        means.append(np.dot(losses[-3:], [8, 8, 4]) / 20)
        scheduler.step()
    again = classifier()
    optimizer = optim.Adam(again.parameters(), lr=0.05)
    scheduler = optim.ExponentialLR(optimizer, 0.5)
    history = train.fit(again, loss, optimizer, BATCHES, epochs=3, scheduler=scheduler, clip_grad_norm=clip,
                        progress=False)  # fmt: skip
    assert weights(again) == weights(model)
    assert history.batches["loss"] == losses
    assert history.batches["epoch"] == [1] * 3 + [2] * 3 + [3] * 3
    np.testing.assert_allclose(history.batches["grad_norm"], norms, rtol=1e-12)
    np.testing.assert_allclose(history["loss"], means, rtol=1e-12)
    assert history["lr"] == [0.05, 0.025, 0.0125]
    assert all(p.grad is None for p in again.parameters())


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_means_are_over_samples_whatever_the_batches(sizes: list[int]) -> None:
    n = sum(sizes)
    ends = np.cumsum(sizes)
    batches = [(X[end - size : end], T[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
    found = train.evaluate(classifier(), nn.CrossEntropyLoss(), batches, metrics="accuracy")
    whole = train.evaluate(classifier(), nn.CrossEntropyLoss(), [(X[:n], T[:n])], metrics="accuracy")
    assert found["accuracy"] == pytest.approx(whole["accuracy"], abs=1e-15)
    assert found["loss"] == pytest.approx(whole["loss"], rel=1e-12)


def test_validation_is_in_eval_mode_without_a_graph_and_puts_modes_back() -> None:
    seen = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(3, 2, generator=np.random.default_rng(0))
            self.frozen = nn.Dropout(0.5).eval()

        def forward(self, x: Any) -> Any:
            seen.append((self.training, self.frozen.training, mg.is_grad_enabled(), len(x)))
            return self.layer(x)

    model = Spy()
    history = fit(model, validation=BATCHES[1:], metrics=["accuracy"], epochs=1)
    assert seen == [(True, False, True, n) for n in (8, 8, 4)] + [(False, False, False, n) for n in (8, 4)]
    assert (model.training, model.frozen.training) == (True, False)
    assert list(history) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr"]
    expected = train.evaluate(model, nn.CrossEntropyLoss(), BATCHES[1:], metrics="accuracy")
    assert [history["val_loss"], history["val_accuracy"]] == [[expected["loss"]], [expected["accuracy"]]]


def test_modes_come_back_when_validation_fails() -> None:
    model = classifier()

    def loss(out: Any, t: Any) -> Any:
        if not model.training:
            raise KeyboardInterrupt
        return mg.softmax_cross_entropy(out, t)

    with pytest.raises(KeyboardInterrupt):
        fit(model, loss=loss, validation=BATCHES)
    assert all(module.training for module in model.modules())
    assert mg.is_grad_enabled()


@pytest.mark.parametrize(
    ("name", "out", "t", "value"),
    [
        ("accuracy", [[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]], [1, 1, 1], 2 / 3),
        ("accuracy", [[1.0, 2.0], [3.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]], 0.5),
        ("accuracy", np.eye(3)[None], [[0, 1, 1]], 2 / 3),  # a sequence: classes last
        ("accuracy", np.eye(3)[None, :, :2], [[0, 1]], 1.0),  # classes on axis 1, as CrossEntropyLoss has them
        ("binary_accuracy", [0.5, -0.5, 2.0], [1, 1, 1.0], 2 / 3),
        ("mae", [1.0, 2.0], [2.0, 4.0], 1.5),
        ("mse", [1.0, 2.0], [2.0, 4.0], 2.5),
    ],
)
def test_metrics(name: str, out: Any, t: Any, value: float) -> None:
    batch = [(np.asarray(out), np.asarray(t))]
    found = train.evaluate(lambda x: mg.Tensor(x), lambda out, t: out.sum(), batch, metrics=name)
    assert found[name] == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("name", ["accuracy", "binary_accuracy", "mae", "mse"])
def test_a_metric_does_not_broadcast(name: str) -> None:
    batch = [(np.ones((4, 1)), np.ones(4))] if name != "accuracy" else [(np.ones((4, 1)), np.ones((4, 1)))]
    with pytest.raises(ShapeError, match=rf"^{name}: out is float64 \(4, 1\)"):
        train.evaluate(lambda x: mg.Tensor(x), lambda out, t: out.sum(), batch, metrics=name)


def test_a_metric_of_ones_own_sees_plain_arrays() -> None:
    def share(out: Any, t: Any) -> float:
        assert type(out) is type(t) is np.ndarray
        assert not out.flags.writeable
        return float(np.mean(out[:, 0] > out[:, 1]))

    history = fit(metrics={"share": share})
    assert all(0 <= value <= 1 for value in history["share"])
    with pytest.raises(DTypeError, match=r"^fit: metrics: bad: it returned a list; "):
        fit(metrics={"bad": lambda out, t: [1]})


def test_several_inputs_and_any_function() -> None:
    W = mg.Tensor(np.zeros((3, 1)), requires_grad=True, name="W")

    def model(x: Any, scale: Any) -> Any:
        return mg.matmul(x * scale, W)

    batches = [(x, np.full((1, 3), 2.0), t) for x, t in REAL]
    fit(model, batches, nn.MSELoss(), optimizer=optim.SGD([W], lr=0.05), epochs=60)
    np.testing.assert_allclose(W.numpy()[:, 0] * 2, [1.0, -2.0, 0.5], atol=1e-3)


def test_lbfgs() -> None:
    model = nn.Linear(3, 1, generator=np.random.default_rng(0))
    x, t = np.concatenate([x for x, _ in REAL]), np.concatenate([t for _, t in REAL])
    history = fit(model, [(x, t)], nn.MSELoss(), optimizer=optim.LBFGS(model.parameters(), lr=1.0), epochs=3)
    assert history["loss"][-1] < 1e-8


@pytest.mark.parametrize("interval", ["epoch", "batch"])
def test_the_scheduler_is_stepped_when_it_says(interval: str) -> None:
    model = classifier()
    optimizer = sgd(model, 1.0)
    scheduler = optim.ExponentialLR(optimizer, 0.5)
    scheduler.interval = interval
    history = fit(model, optimizer=optimizer, scheduler=scheduler, epochs=2)
    assert scheduler.last_epoch == {"epoch": 2, "batch": 6}[interval]
    assert history["lr"] == {"epoch": [1.0, 0.5], "batch": [0.125, 0.015625]}[interval]


@pytest.mark.parametrize("validation", [None, BATCHES[:1]])
def test_plateau_is_given_the_validation_loss_where_there_is_one(validation: Any) -> None:
    model = classifier()
    optimizer = sgd(model)
    seen = []

    class Watch(optim.ReduceLROnPlateau):
        def step(self, metrics: Any = None) -> None:
            seen.append(metrics)
            super().step(metrics)

    history = fit(model, optimizer=optimizer, scheduler=Watch(optimizer), validation=validation)
    assert seen == history["val_loss" if validation else "loss"]


# What it records


def test_history_is_lists_and_a_table() -> None:
    history = fit(validation=BATCHES[2:], metrics="accuracy", epochs=25)
    lines = repr(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr"]
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 22  # a header, ten, dots, ten
    assert lines[11].split() == ["..."] * 6
    assert lines[-1].split()[0] == "25"
    assert type(history["loss"]) is list
    assert type(history["loss"][0]) is float
    assert repr(History()) == "History of no epochs"
    again = History()
    again.load_state_dict(history.state_dict())
    assert again.epochs == history.epochs
    assert again.batches == history.batches
    assert dict(history) == history.epochs
    with pytest.raises(ArgumentError, match=r"^History: 'val_los'; expected one of .*; write 'val_loss'"):
        history["val_los"]
    for state in ({}, {"epochs": {"epoch": [1]}, "batches": {"epoch": [], "loss": [1]}}, None):
        with pytest.raises(ArgumentError, match=r"^History\.load_state_dict"):
            again.load_state_dict(state)  # type: ignore[arg-type]  # wrong on purpose
    assert again.epochs == history.epochs


def test_the_best_epoch() -> None:
    history = History()
    for loss, accuracy in (0.5, 0.5), (math.nan, 0.75), (0.25, 0.75), (0.25, 0.625):
        history.add_epoch({"val_loss": loss, "val_accuracy": accuracy, "mine": loss})
    assert history.best("val_loss")["epoch"] == 3
    assert history.best("val_accuracy")["epoch"] == 2
    assert history.best("mine", "max")["epoch"] == 1
    with pytest.raises(ArgumentError, match=r"History\.best: mode: mode=None for 'mine'"):
        history.best("mine")
    history.add_epoch({"late": 1.0})
    assert math.isnan(history["late"][0])
    empty = History()
    empty.add_epoch({"loss": math.nan})
    with pytest.raises(ArgumentError, match=r"^History\.best: monitor"):
        empty.best("loss")


def test_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    history = fit(validation=BATCHES, metrics="accuracy")
    figure = history.plot(tmp_path / "h.png")
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")
    drawn = [[line.get_label() for line in axes.lines] for axes in figure.axes]
    assert drawn == [["loss", "val_loss"], ["accuracy", "val_accuracy"]]
    assert list(figure.axes[0].lines[1].get_ydata()) == history["val_loss"]
    with pytest.raises(ArgumentError, match="no epochs"):
        History().plot()
    without(monkeypatch, "matplotlib")
    with pytest.raises(ImportError, match=r"pip install matplotlib$"):
        history.plot()


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Makes the package one that is not installed."""
    for name in [package, *sys.modules]:
        if name.partition(".")[0] == package:
            monkeypatch.setitem(sys.modules, name, None)


# What it shows


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_line_for_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    history = fit(progress=True, epochs=10, metrics="accuracy", validation=BATCHES)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith(f"epoch  1/10  loss {history['loss'][0]:.4f}  accuracy ")
    assert "val_accuracy" in lines[9]
    fit(progress=False)
    assert capsys.readouterr().out == ""


def screen(text: str, columns: int = 80) -> list[str]:
    """What a terminal shows in the end: lines are wrapped, and written over after a carriage return."""
    rows, at = [""], 0
    for c in text:
        if c == "\n":
            rows, at = [*rows, ""], 0
        elif c == "\r":
            at = 0
        else:
            if at == columns:
                rows, at = [*rows, ""], 0
            rows[-1] = rows[-1][:at].ljust(at) + c + rows[-1][at + 1 :]
            at += 1
    return [row.rstrip() for row in rows]


def shown(monkeypatch: pytest.MonkeyPatch, columns: int = 80, **options: Any) -> str:
    """What fit writes on a terminal, stderr too."""
    out = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr("minigrad.train.progress._INTERVAL", 0.0)
    fit(progress=True, **options)
    return out.getvalue()


@pytest.mark.parametrize("columns", [80, 20])
def test_a_terminal_without_tqdm_gets_one_changing_line(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "tqdm")
    text = shown(monkeypatch, columns, epochs=3, validation=BATCHES, metrics="accuracy")
    assert "\repoch 2/3   33%  l" in text
    current = [part for part in re.split("[\r\n]", text) if "%" in part]
    assert max(len(part) for part in current) <= columns - 1
    rows = screen(text, 200)
    assert len(rows) == 4  # an epoch each, and an empty one to go on from
    for k, row in enumerate(rows[:3], 1):
        assert re.fullmatch(rf"epoch {k}/3  loss \S+  accuracy \S+  val_loss \S+  val_accuracy \S+", row)


def test_a_broken_off_epoch_stays_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "tqdm")
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    with pytest.raises(RuntimeError, match="no more"):
        fit(progress=True, loader=Failing())
    assert out.getvalue().endswith("\n")
    assert screen(out.getvalue())[0].startswith("epoch 1/2  batch ")


@pytest.mark.parametrize("bar", [True, False])
def test_a_lint_has_a_line_of_its_own(bar: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not bar:
        without(monkeypatch, "tqdm")
    elif not importlib.util.find_spec("tqdm"):
        pytest.skip("tqdm is not installed")

    def show(message: Any, *rest: Any) -> None:
        sys.stderr.write(f"LINT {message.code}\n")

    def half(out: Any, t: Any) -> Any:
        return mg.softmax_cross_entropy(mg.softmax(out), t) if seen.append(1) or len(seen) > 2 else first(out, t)

    seen: list[int] = []
    first = nn.CrossEntropyLoss()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr("warnings.showwarning", show)
        text = shown(monkeypatch, epochs=2, loss=half)
    assert "LINT softmax-before-cross-entropy" in [row.strip() for row in screen(text)]


def test_a_terminal_with_tqdm_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    text = shown(monkeypatch, epochs=3, validation=BATCHES, metrics="accuracy")
    assert "epoch 3/3: 100%" in text
    assert "9/9" in text
    rows = screen(text)
    for k in 1, 2, 3:
        pattern = rf"epoch {k}/3  loss \S+  accuracy \S+  val_loss \S+  val_accuracy \S+"
        assert sum(bool(re.fullmatch(pattern, row)) for row in rows) == 1
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    with pytest.raises(RuntimeError):
        fit(progress=True, loader=iter(Failing()), epochs=1)
    assert "epoch 1/1" in out.getvalue()


class Unknown:
    """Batches without a length."""

    def __iter__(self) -> Any:
        return iter(BATCHES)


@pytest.mark.parametrize("bar", [True, False])
def test_a_loader_without_a_length_is_shown_too(bar: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not bar:
        without(monkeypatch, "tqdm")
    elif not importlib.util.find_spec("tqdm"):
        pytest.skip("tqdm is not installed")
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    assert fit(progress=True, epochs=3, loader=Unknown()).epochs == fit(epochs=3).epochs
    assert ("9batch" if bar else "epoch 1/3  batch 1  loss ") in out.getvalue()


def test_why_it_stopped_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def train_on() -> None:
        fit(progress=True, epochs=9, callbacks=[Script([3, 1, 2, 2]), EarlyStopping("loss", 2)])

    said = "stopped: loss has not become better for 2 epochs; its best was 1 in epoch 2\n"
    train_on()
    assert capsys.readouterr().out.endswith(said)
    for _ in range(2):  # with a bar, where there is one, and without
        monkeypatch.setattr(sys, "stdout", out := Terminal())
        train_on()
        assert out.getvalue().endswith("\n" + said)
        without(monkeypatch, "tqdm")


class Failing:
    """Two batches and an error; knows whether its loop was closed."""

    closed = False

    def __iter__(self) -> Any:
        try:
            yield from BATCHES[:2]
            raise RuntimeError("no more")
        finally:
            self.closed = True


# Callbacks


class Log(Callback):
    """What was called, and what was seen then."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_fit_start(self, state: Any) -> None:
        self.calls.append("start")

    def on_batch_end(self, state: Any) -> None:
        assert all(p.grad is not None for p in state.model.parameters())
        self.calls.append((state.epoch, state.batch, state.step, sorted(state.logs)))

    def on_epoch_end(self, state: Any) -> None:
        self.calls.append((state.epoch, state.batch, sorted(state.logs)))

    def on_interrupt(self, state: Any) -> None:
        self.calls.append("interrupt")

    def on_fit_end(self, state: Any) -> None:
        self.calls.append("end")


def test_callbacks_are_called_in_turn() -> None:
    log = Log()
    fit(callbacks=[log])
    batch = ["grad_norm", "loss"]
    one = [(1, 1, 1, batch), (1, 2, 2, batch), (1, 3, 3, batch), (1, 3, ["loss", "lr"])]
    two = [(2, 1, 4, batch), (2, 2, 5, batch), (2, 3, 6, batch), (2, 3, ["loss", "lr"])]
    assert log.calls == ["start", *one, *two, "end"]


def test_callbacks_end_after_an_error_too() -> None:
    first, failing = Log(), Failing()

    class Breaks(Callback):
        def on_fit_end(self, state: Any) -> None:
            raise ValueError("in the end")

    with pytest.raises(ValueError, match="in the end"):
        fit(loader=failing, callbacks=[first, Breaks()])
    assert first.calls[-1] == "end"
    assert failing.closed


def test_a_callback_stops_at_once_or_after_the_epoch() -> None:
    class Stops(Callback):
        def __init__(self, step: int) -> None:
            self.step = step

        def on_batch_end(self, state: Any) -> None:
            if state.step == self.step:
                state.stop("enough")

    history = fit(callbacks=[Stops(5)], epochs=9)
    assert len(history.batches["loss"]) == 5
    assert len(history) == 1
    assert len(fit(callbacks=[Stops(6)], epochs=9)) == 2


class Script(Callback):
    """Puts given numbers in the place of what was recorded."""

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers

    def on_epoch_end(self, state: Any) -> None:
        state.logs["loss"] = self.numbers[state.epoch - 1]


@pytest.mark.parametrize(
    ("numbers", "options", "epochs", "best"),
    [
        ([5, 4, 3, 3, 3, 3, 3], {"patience": 2}, 5, 3),
        ([5, 4, 6, 3, 3.5, 4, 4], {"patience": 2}, 6, 4),
        ([5, 4.95, 4.8, 4.75, 4, 4, 4], {"patience": 2, "min_delta": 0.1}, 7, 5),  # measured from the best
        ([5, 4.99, 4.98, 1, 1, 1, 1], {"patience": 2, "min_delta": 0.1}, 3, 1),
        ([1, 2, 3, 3, 3, 3, 3], {"patience": 3, "mode": "max"}, 6, 3),
        ([math.nan, math.nan, 1, 1, 1, 1, 1], {"patience": 2}, 2, 0),
        ([7, 6, 5, 4, 3, 2, 1], {"patience": 1}, 7, 7),
    ],
)
def test_early_stopping(numbers: list[float], options: Any, epochs: int, best: int) -> None:
    stopping = EarlyStopping("loss", **options)
    assert len(fit(epochs=7, callbacks=[Script(numbers), stopping])) == epochs
    assert stopping.best_epoch == best


def test_early_stopping_puts_the_best_weights_back() -> None:
    model, best = classifier(), classifier()
    fit(best, epochs=2)
    callbacks = [Script([3, 1, 2, 2, 2]), EarlyStopping("loss", 3, restore_best=True)]
    assert len(fit(model, epochs=9, callbacks=callbacks)) == 5
    assert weights(model) == weights(best)
    assert len(fit(model, epochs=4, callbacks=[Script([3, 2, 1, 0]), callbacks[1]])) == 4  # counts anew


def test_checkpoint_keeps_the_best(tmp_path: Path) -> None:
    best = classifier()
    fit(best, epochs=2)
    keeper = Checkpoint(tmp_path / "best.npz", monitor="loss")
    fit(epochs=5, callbacks=[keeper, Script([3, 1, 2, math.nan, 2])])
    model = classifier(9)
    train.load_checkpoint(tmp_path / "best.npz", model=model)
    assert weights(model) == weights(best)
    state = mg.load(tmp_path / "best.npz")
    assert (state["minigrad"], state["numpy"]) == (mg.__version__, np.__version__)


def test_checkpoint_every_so_many_epochs(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    found = []

    class Look(Checkpoint):
        def on_epoch_end(self, state: Any) -> None:
            super().on_epoch_end(state)
            found.append(train.load_checkpoint(path, model=classifier())["epoch"] if path.exists() else None)

    fit(epochs=5, callbacks=[Look(path, every_epochs=2)])
    assert found == [None, 3, 3, 5, 5]


def test_csv_is_appended_to_after_a_resume(tmp_path: Path) -> None:
    log, path = tmp_path / "log.csv", tmp_path / "c.npz"
    history = fit(epochs=2, callbacks=[CSVLogger(log), Checkpoint(path)])
    lines = log.read_text().splitlines()
    assert lines[0] == "epoch,loss,lr"
    assert [float(line.split(",")[1]) for line in lines[1:]] == history["loss"]  # every digit
    log.write_text(log.read_text() + "3,0.5,0.1\n2,0.")  # an epoch that is trained again, and half a line
    fit(epochs=4, callbacks=[CSVLogger(log)], resume=path)
    assert [line.split(",")[0] for line in log.read_text().splitlines()] == ["epoch", "1", "2", "3", "4"]
    assert log.read_text().splitlines()[:3] == lines
    with pytest.raises(ArgumentError, match=r"^CSVLogger: path: log.csv with the columns epoch, loss, lr"):
        fit(epochs=4, callbacks=[CSVLogger(log)], resume=path, metrics="accuracy")
    assert len(log.read_text().splitlines()) == 5
    fit(epochs=1, callbacks=[CSVLogger(log)])
    assert len(log.read_text().splitlines()) == 2  # a new training begins anew


def test_tensorboard_has_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto import event_pb2

    history = fit(callbacks=[TensorBoardLogger(tmp_path / "tb", every_batches=2)])

    def read(folder: Path) -> list[tuple[str, int, float]]:
        found = []
        for file in sorted(folder.glob("events*")):
            data = file.read_bytes()
            while data:
                length = int.from_bytes(data[:8], "little")
                event = event_pb2.Event.FromString(data[12 : 12 + length])
                found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
                data = data[16 + length :]
        return found

    expected = [(name, k + 1, history[name][k]) for k in range(2) for name in ("loss", "lr")]
    found = read(tmp_path / "tb")
    assert [item[:2] for item in found] == [item[:2] for item in expected]
    np.testing.assert_allclose([item[2] for item in found], [item[2] for item in expected], rtol=1e-6)
    assert [item[:2] for item in read(tmp_path / "tb" / "batches")] == [
        (name, step) for step in (2, 4, 6) for name in ("loss", "grad_norm")
    ]
    without(monkeypatch, "tensorboardX")
    model = classifier()
    before = weights(model)
    with pytest.raises(ImportError, match=r"pip install tensorboardX$"):
        fit(model, callbacks=[TensorBoardLogger(tmp_path)])
    assert weights(model) == before


# Ctrl-C


def test_ctrl_c_ends_after_the_batch() -> None:
    log, model, other = Log(), classifier(), classifier()
    handler = signal.getsignal(signal.SIGINT)

    def loss(out: Any, t: Any) -> Any:
        if len(log.calls) == 2:  # in the middle of the second batch
            os.kill(os.getpid(), signal.SIGINT)
        return mg.softmax_cross_entropy(out, t)

    with pytest.raises(KeyboardInterrupt) as caught:
        fit(model, loss=loss, epochs=9, callbacks=[log])
    assert log.calls[2][:3] == (1, 2, 2)
    assert log.calls[3:] == ["interrupt", "end"]
    assert len(caught.value.history.batches["loss"]) == 2
    with pytest.raises(RuntimeError):
        fit(other, epochs=9, callbacks=[_Raise(2)])
    assert weights(model) == weights(other)  # whole steps
    assert signal.getsignal(signal.SIGINT) is handler
    assert all(p.grad is None for p in model.parameters())


class _Raise(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, state: Any) -> None:
        if state.step == self.step:
            raise RuntimeError


def test_ctrl_c_twice_ends_at_once() -> None:
    def loss(out: Any, t: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        fit(loss=loss)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_handler_and_other_threads_are_left_alone() -> None:
    found = []

    def look(out: Any, t: Any) -> Any:
        found.append(signal.getsignal(signal.SIGINT))
        return mg.softmax_cross_entropy(out, t)

    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        fit(loss=look)
    finally:
        signal.signal(signal.SIGINT, old)
    assert set(found) == {signal.SIG_IGN}
    histories: list[History] = []
    thread = threading.Thread(target=lambda: histories.append(fit()))
    thread.start()
    thread.join()
    assert histories[0].epochs == fit().epochs


# nan


def poisoned(value: float, part: int) -> Any:
    batches = [(x.copy(), t.astype(float)[:, None]) for x, t in BATCHES]
    batches[1][part][5, 0] = value
    return batches


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", [0, 1])
def test_nan_in_the_data_is_named(value: float, part: int) -> None:
    model = nn.Linear(3, 1, generator=np.random.default_rng(0))
    one = nn.Linear(3, 1, generator=np.random.default_rng(0))
    fit(one, poisoned(value, part)[:1], nn.MSELoss(), epochs=1)
    name, shape = [("x", r"float64 \(8, 3\)"), ("t", r"float64 \(8, 1\)")][part]
    with pytest.raises(NonFiniteError, match=rf"^fit: loader: epoch 1, batch 2: {name}\[5, 0\] is {value} in {name}, "
                       rf"{shape}; expected finite numbers; ") as caught:  # fmt: skip
        fit(model, poisoned(value, part), nn.MSELoss())
    assert weights(model) == weights(one)  # the step before it is the last one
    assert caught.value.history.batches["epoch"] == [1]
    assert isinstance(caught.value, FloatingPointError)
    with pytest.raises(NonFiniteError, match=rf"^fit: validation: epoch 1: batch 2: {name}\[5, 0\]"):
        fit(model, [(x, t[:, None] * 1.0) for x, t in BATCHES], nn.MSELoss(), validation=poisoned(value, part))


def test_nan_in_the_first_epoch_does_not_reach_running_means() -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2, generator=np.random.default_rng(0)))

    batches = [(X.copy(), T) for _ in range(19)]
    one, other = model(), model()
    fit(one, batches[:17], epochs=1)
    batches[17][0][2, 1] = math.nan
    with pytest.raises(NonFiniteError, match=r"^fit: loader: epoch 1, batch 18: x\[2, 1\] is nan"):
        fit(other, batches)
    assert weights(one) == weights(other)


def test_nan_that_comes_later_is_named_too() -> None:
    class Later:
        epoch = 0

        def __iter__(self) -> Any:
            self.epoch += 1
            yield from poisoned(math.nan, 0) if self.epoch == 7 else [(x, t[:, None] * 1.0) for x, t in BATCHES]

    with pytest.raises(NonFiniteError, match=r"^fit: loader: epoch 7, batch 2: x\[5, 0\] is nan"):
        fit(nn.Linear(3, 1), Later(), nn.MSELoss(), epochs=9)


def test_data_that_do_no_harm_are_left_alone() -> None:
    x, t = REAL[0]
    t = t.copy()
    t[3] = math.nan  # no target
    mask = np.zeros((8, 2))
    mask[:, 1] = -math.inf

    def masked(out: Any, t: Any) -> Any:
        known = ~np.isnan(t)
        return mg.square(out[known] - t[known]).mean()

    model, own = nn.Linear(3, 1, generator=np.random.default_rng(0)), nn.Linear(3, 2)
    for validation in None, [(x, t)]:
        history = fit(model, [(x, t)], masked, validation=validation, lr=0.05, epochs=3)
        assert history["loss"] == sorted(history["loss"], reverse=True)
    optimizer = optim.SGD(own.parameters(), lr=0.1)
    fit(lambda x, mask: own(x) + mask, [(x, mask, np.zeros(8, int))], optimizer=optimizer)
    with pytest.raises(NonFiniteError, match=r"^fit: loader: epoch 1, batch 1: t\[3, 0\] is nan"):
        fit(model, [(x, t)], nn.MSELoss())
    with pytest.raises(NonFiniteError, match=r"^evaluate: batch 1: t\[3, 0\] is nan"):
        train.evaluate(model, nn.MSELoss(), [(x, t)])


def test_large_numbers_are_no_infinities() -> None:
    huge = [(np.full((4, 3), 1e30, np.float32), np.zeros(4, int))]  # its squares overflow
    W = mg.Tensor(np.zeros((3, 2)), requires_grad=True)
    fit(lambda x: mg.matmul(x * 1e-30, W), huge, optimizer=optim.SGD([W], lr=1.0), epochs=1)
    assert W.numpy().any()


def test_a_loss_that_runs_away_is_said_so() -> None:
    model = nn.Linear(3, 1, generator=np.random.default_rng(0))
    with pytest.raises(NonFiniteError) as caught:
        fit(model, REAL, nn.MSELoss(), lr=1e9, epochs=99, ignore=train.LINTS)
    text = str(caught.value)
    assert re.match(r"fit: epoch \d+, batch \d: the (loss is (inf|nan)|gradient of weight is -?(inf|nan) at )", text)
    assert "the largest gradient was " in text
    assert "the parameters are those from before this batch;" in text
    assert text.endswith("pass a smaller learning rate than 1e+09, or clip_grad_norm=1.0")
    assert all(np.isfinite(p.numpy()).all() for p in model.parameters())


def test_a_nan_of_the_loss_or_the_model_is_told_apart() -> None:
    with pytest.raises(NonFiniteError, match=r"^fit: epoch 1, batch 1: the loss is nan; .* look in the loss"):
        fit(loss=lambda out, t: mg.log(mg.sum(out * 0.0)) * 0.0)
    W = mg.Tensor(-np.ones((3, 2)), requires_grad=True, name="W")
    with pytest.raises(NonFiniteError, match="look in the model for a log"):
        fit(lambda x: mg.log(mg.matmul(abs(x), W)), optimizer=optim.SGD([W], lr=0.1))


def test_numpys_own_errors_stay_errors() -> None:
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
        fit(loss=lambda out, t: mg.log(mg.sum(out * 0.0)) * 0.0)


def test_a_gradient_that_is_not_finite_makes_no_step() -> None:
    W = mg.Tensor(np.zeros((3, 2)), requires_grad=True, name="W")
    with pytest.raises(NonFiniteError, match=r"the gradient of W is (nan|inf) at \[0, 0\]"):
        fit(lambda x: mg.sqrt(mg.matmul(abs(x), W)), loss=lambda out, t: out.mean(), optimizer=optim.SGD([W], lr=0.1))
    assert not W.numpy().any()


# What it refuses

M = nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"epochs": 0}, ArgumentError, "epochs: int 0"),
        ({"epochs": -1}, ArgumentError, "epochs: int -1"),
        ({"epochs": True}, ArgumentError, "epochs: bool True"),
        ({"epochs": 2.0}, ArgumentError, "epochs: float 2.0"),
        ({"model": 3}, DTypeError, "model: int 3"),
        ({"model": nn.ReLU}, DTypeError, "model: the class ReLU"),
        ({"loss": nn.MSELoss}, DTypeError, "loss: the class MSELoss"),
        ({"loss": "mse"}, DTypeError, "loss: str 'mse'"),
        ({"optimizer": nn.MSELoss()}, DTypeError, "optimizer: a MSELoss"),
        ({"optimizer": sgd(nn.Linear(3, 2))}, ArgumentError, "optimizer: an optimiser of 2 parameters, none"),
        ({"loader": []}, ArgumentError, "loader: a list that gave no batches"),
        ({"loader": [(X[:0], T[:0])]}, ArgumentError, r"loader: epoch 1, batch 1: a batch with t of int64 \(0,\)"),
        ({"loader": TensorDataset(X, T)}, DTypeError, "loader: a TensorDataset"),
        ({"loss": lambda out, t: out.detach().sum()}, GraphError, "loss: a loss that depends on no parameter"),
        ({"loader": 5}, DTypeError, "loader: int 5"),
        ({"loader": iter(BATCHES)}, ArgumentError, "loader: a list_iterator, which can be looped over once"),
        ({"loader": [X]}, DTypeError, "loader: a list of arrays"),
        ({"loader": X}, DTypeError, "loader: float64 (20, 3)"),
        ({"loader": (X, T)}, DTypeError, "loader: a tuple of arrays"),
        ({"loader": [1.0]}, DTypeError, "loader: batch 1: float 1.0"),
        ({"loader": [(X,)]}, DTypeError, "loader: batch 1: a tuple of 1"),
        ({"loader": [*BATCHES, (X,)]}, DTypeError, "loader: batch 4: a tuple of 1"),
        ({"validation": []}, ArgumentError, "validation: a list that gave no batches"),
        ({"validation": (X, T)}, DTypeError, "validation: a tuple of arrays"),
        ({"validation": [1.0]}, DTypeError, "validation: epoch 1: batch 1: float 1.0"),
        ({"metrics": "acuracy"}, ArgumentError, "metrics: 'acuracy'"),
        ({"metrics": 3}, DTypeError, "metrics: int 3"),
        ({"metrics": {"loss": len}}, ArgumentError, "metrics: the name 'loss'"),
        ({"callbacks": EarlyStopping()}, DTypeError, "callbacks: an EarlyStopping"),
        ({"callbacks": [optim.StepLR(sgd(M), 1)]}, DTypeError, r"callbacks\[0\]: a StepLR"),
        ({"callbacks": [Checkpoint("c.npz"), Checkpoint("./c.npz")]}, ArgumentError, r"callbacks\[1\]: a Checkpoint"),
        ({"metrics": lambda out, t: 1.0}, ArgumentError, "metrics: a lambda, which has no name"),
        ({"metrics": [np.mean, lambda out, t: 1.0]}, ArgumentError, "metrics: a lambda, which has no name"),
        ({"monitor": "loss"}, ArgumentError, "monitor: no scheduler"),
        ({"callbacks": [EarlyStopping]}, DTypeError, r"callbacks\[0\]: the class EarlyStopping"),
        ({"scheduler": optim.StepLR(sgd(nn.Linear(3, 2)), 1)}, ArgumentError, "scheduler: a StepLR of another"),
        ({"scheduler": 0.1}, ArgumentError, "scheduler: float 0.1"),
        ({"clip_grad_norm": 0.0}, ArgumentError, "clip_grad_norm: float 0.0"),
        ({"clip_grad_norm": math.nan}, ArgumentError, "clip_grad_norm: float nan"),
        ({"resume": 3}, DTypeError, "resume: int 3"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, ShapeError, r"loss: it returned float64 \(8,\)"),
        ({"loss": lambda out, t: 1.0}, ShapeError, "loss: it returned float 1.0"),
    ],
)
def test_what_makes_no_sense_is_refused(options: Any, error: type[MinigradError], named: str) -> None:
    before = weights(M)
    named = named.replace("(20, 3)", r"\(20, 3\)")
    optimizer = options.get("optimizer") or sgd(M)
    known = {"model": M, "loss": nn.CrossEntropyLoss(), "loader": BATCHES, "epochs": 2, "progress": False}
    options = known | options | {"optimizer": optimizer}
    with pytest.raises(error, match=rf"^fit: {named}.*; expected .*; "):
        train.fit(**options)
    if "batch 4" not in named and "validation: epoch" not in named:  # those are seen after steps
        assert weights(M) == before


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"callbacks": [optim.StepLR(sgd(M), 1)]}, "pass a schedule of the learning rate as scheduler="),
        ({"metrics": lambda out, t: 1.0}, "pass {name: f}"),
        ({"loader": (X, T)}, "pass DataLoader(TensorDataset(x, t), batch_size=32)"),
        ({"validation": [X, T]}, "pass DataLoader(TensorDataset(x, t), batch_size=32)"),
        ({"loader": []}, "put a batch (x, t) into it"),
        (
            {"loader": DataLoader(TensorDataset(X, T), 32, drop_last=True)},
            "look at len(loader): drop_last=True leaves out all of a small data set",
        ),
    ],
)
def test_the_fix_is_one_that_helps(options: Any, fix: str) -> None:
    with pytest.raises(MinigradError) as caught:
        fit(**options)
    assert caught.value.fix == fix


def test_numbers_of_numpy_are_numbers() -> None:
    stopping = EarlyStopping("loss", patience=np.int64(3), min_delta=np.float32(0.5))  # type: ignore[arg-type]  # both do
    assert len(fit(epochs=np.int64(2), clip_grad_norm=np.float32(1), callbacks=[stopping])) == 2
    assert Checkpoint("c.npz", every_batches=np.int32(3)).every_batches == 3  # type: ignore[arg-type]  # as above


def test_an_error_in_a_batch_has_its_number() -> None:
    bad = [*BATCHES[:2], (X[:3], np.array([0, 7, 1]))]
    for name, place in ("loader", "in fit: epoch 1, batch 3"), ("validation", "in fit: validation: epoch 1: batch 3"):
        with pytest.raises(LabelError, match=r"^CrossEntropyLoss: .*labels\[1\] = 7 for 2 classes") as caught:
            fit(**{name: bad})
        assert caught.value.__notes__ == [place]
    with pytest.raises(LabelError) as caught:
        train.evaluate(classifier(), nn.CrossEntropyLoss(), bad)
    assert caught.value.__notes__ == ["in evaluate: batch 3"]


class Returns(nn.Module):
    """Gives back what is no scores."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.layer, self.make = nn.Linear(3, 2, generator=np.random.default_rng(0)), make

    def forward(self, x: Any) -> Any:
        return self.make(self.layer(x))


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda out: None, "it returned None; expected what the loss takes; write return in forward"),
        (
            lambda out: (out, out),
            r"it returned a tuple of 2, and loss\(out, t\) failed with it: .*; expected what the ",
        ),
    ],
)
def test_a_model_that_returns_something_else(make: Any, got: str) -> None:
    def own(out: Any, t: Any) -> Any:
        return (out - 1.0).mean()

    for loss in nn.CrossEntropyLoss(), own:
        with pytest.raises(DTypeError, match=f"^fit: model: {got}"):
            fit(Returns(make), loss=loss)
    with pytest.raises(DTypeError, match=f"^evaluate: model: {got}"):
        train.evaluate(Returns(make), own, BATCHES)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((nn.Linear, nn.MSELoss(), BATCHES), "model: the class Linear"),
        ((M, nn.CrossEntropyLoss, BATCHES), "loss: the class CrossEntropyLoss"),
        ((M, nn.CrossEntropyLoss(), None), "loader: NoneType None"),
        ((M, nn.CrossEntropyLoss(), TensorDataset(X, T)), "loader: a TensorDataset"),
        ((M, nn.CrossEntropyLoss(), (X, T)), "loader: a tuple of arrays"),
    ],
)
def test_evaluate_refuses(arguments: Any, named: str) -> None:
    with pytest.raises(DTypeError, match=f"^evaluate: {named}"):
        train.evaluate(*arguments)


def test_a_refused_metric_makes_no_step() -> None:
    model = classifier()
    before = weights(model)
    for metrics in "binary_accuracy", {"bad": lambda out, t: [1]}:
        with pytest.raises((ShapeError, DTypeError)) as caught:
            fit(model, metrics=metrics)
        assert caught.value.__notes__ == ["in fit: epoch 1, batch 1"]
        assert weights(model) == before


def test_batches_of_lists() -> None:
    lists = [(x.tolist(), t.tolist()) for x, t in BATCHES]
    assert fit(loader=lists, metrics="accuracy").epochs == fit(metrics="accuracy").epochs


def test_scores_are_not_probabilities() -> None:
    batches = [(x, t[:, None].astype(float)) for x, t in BATCHES]
    scores = nn.Linear(3, 1, generator=np.random.default_rng(0))
    model = nn.Sequential(scores, nn.Sigmoid(), nn.Flatten())
    before = weights(model)
    with pytest.raises(ArgumentError, match=r"^binary_accuracy: probabilities: out is the result of a sigmoid"):
        fit(model, batches, nn.MSELoss(), metrics="binary_accuracy")
    assert weights(model) == before
    history = fit(scores, batches, nn.BCEWithLogitsLoss(), metrics=train.binary_accuracy, lr=1.0, epochs=20)
    assert history["binary_accuracy"][-1] > 0.8


def test_a_metric_is_recorded_under_its_name() -> None:
    def share(out: Any, t: Any) -> float:
        return 0.5

    for metrics in share, [share], ["accuracy", share]:
        assert fit(metrics=metrics)["share"] == [0.5, 0.5]

    def other(out: Any, t: Any) -> float:
        return 0.0

    other.__name__ = "share"
    with pytest.raises(ArgumentError, match="two metrics with the name 'share'"):
        fit(metrics=[share, other])


def test_clipping_reaches_lbfgs() -> None:
    W = mg.Tensor(np.zeros((3, 1)), requires_grad=True)
    optimizer = optim.LBFGS([W], lr=1.0, max_iter=1)
    fit(lambda x: mg.matmul(x, W), REAL[:1], nn.MSELoss(), optimizer=optimizer, epochs=1, clip_grad_norm=1e-3)
    np.testing.assert_allclose(np.linalg.norm(W.numpy()), 1e-3, rtol=1e-2)


def test_plateau_watches_what_it_is_told() -> None:
    seen: list[float] = []

    class Watch(optim.ReduceLROnPlateau):
        def step(self, metrics: Any = None) -> None:
            seen.append(metrics)
            super().step(metrics)

    def run(mode: str, **options: Any) -> History:
        model = classifier()
        optimizer = sgd(model, 0.5)
        schedule = Watch(optimizer, mode=mode)
        return fit(model, optimizer=optimizer, scheduler=schedule, validation=BATCHES, metrics="accuracy", **options)

    assert run("max", monitor="val_accuracy")["val_accuracy"] == seen
    with pytest.raises(ArgumentError, match=r"^fit: scheduler: mode='max' for 'val_loss'; .*monitor=\"val_accuracy\""):
        run("max")
    with pytest.raises(ArgumentError, match=r"^fit: scheduler: mode='min' for 'accuracy'; expected mode='max'"):
        run("min", monitor="accuracy")
    with pytest.raises(ArgumentError, match=r"^fit: monitor: 'val_acc'; .*; write 'val_accuracy'"):
        run("max", monitor="val_acc")


def test_another_word_for_the_interval_is_refused() -> None:
    model = classifier()
    optimizer = sgd(model)
    schedule = optim.StepLR(optimizer, 1)
    schedule.interval = "step"
    with pytest.raises(ArgumentError, match=r'^fit: scheduler: interval=\'step\'; expected "epoch" or "batch"'):
        fit(model, optimizer=optimizer, scheduler=schedule)


def test_a_log_survives_a_training_that_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    fit(callbacks=[CSVLogger(log)])
    before = log.read_bytes()
    for later in EarlyStopping("val_loss"), Checkpoint(tmp_path / "none" / "c.npz"):
        with pytest.raises(ArgumentError):
            fit(callbacks=[CSVLogger(log), later])
        assert log.read_bytes() == before


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"^CSVLogger: path: .*, whose folder is not there"):
        fit(callbacks=[CSVLogger(tmp_path / "none" / "x.csv")])
    with pytest.raises(ArgumentError, match=r"^CSVLogger: path: .*, which is a folder"):
        fit(callbacks=[CSVLogger(tmp_path)])
    assert not list(tmp_path.iterdir())
    assert not tmp_path.with_name(f"{tmp_path.name}.new").exists()


def test_the_name_of_a_validation_that_there_was_not() -> None:
    with pytest.raises(ArgumentError, match=r"^History: 'val_loss'; .*; pass validation= to fit"):
        fit()["val_loss"]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: EarlyStopping(patience=0), "EarlyStopping: patience: int 0"),
        (lambda: EarlyStopping(min_delta=-1.0), "EarlyStopping: min_delta"),
        (lambda: EarlyStopping("mine"), "EarlyStopping: mode: mode=None for 'mine'"),
        (lambda: EarlyStopping(mode="least"), "EarlyStopping: mode: mode='least'"),
        (lambda: Checkpoint("c.npz", every_epochs=0), "Checkpoint: every_epochs"),
        (lambda: Checkpoint("c.npz", every_batches=2.5), "Checkpoint: every_batches"),
        (lambda: Checkpoint("c.npz", every_epochs=None), "Checkpoint: every_epochs: None, without"),
        (lambda: Checkpoint("c.npz", every_batches=2, monitor="loss"), "Checkpoint: every_batches=2|Checkpoint: every"),
        (lambda: Checkpoint("c.pkl"), "Checkpoint: path: str 'c.pkl'"),
        (lambda: TensorBoardLogger("x", every_batches=0), "TensorBoardLogger: every_batches"),
    ],
)
def test_callbacks_refuse(make: Any, named: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{named}"):
        make()


@pytest.mark.parametrize("callback", [EarlyStopping("val_loss"), Checkpoint("c.npz", monitor="val_loss")])
def test_a_name_that_is_not_recorded_is_refused_before_training(callback: Any) -> None:
    model = classifier()
    before = weights(model)
    with pytest.raises(ArgumentError, match="monitor: 'val_loss'; expected one of loss, lr; pass validation= to fit"):
        fit(model, callbacks=[callback])
    assert weights(model) == before


def test_what_has_no_state_cannot_be_saved(tmp_path: Path) -> None:
    W = mg.Tensor(np.zeros((3, 2)), requires_grad=True)
    options = {"model": lambda x: mg.matmul(x, W), "optimizer": optim.SGD([W], lr=0.1)}
    for callback in Checkpoint(tmp_path / "c.npz"), EarlyStopping("loss", restore_best=True):
        with pytest.raises(DTypeError, match=r"model is a function; expected a model with state_dict\(\)"):
            fit(**options, callbacks=[callback])
    with pytest.raises(ArgumentError, match="whose folder is not there"):
        fit(callbacks=[Checkpoint(tmp_path / "none" / "c.npz")])
    assert not W.numpy().any()


def test_targets_of_several_arrays_count_as_samples() -> None:
    model = nn.Linear(3, 2, generator=np.random.default_rng(0))
    loss = nn.MSELoss()

    def both(out: Any, t: Any) -> Any:
        return loss(out[:, :1], t[0]) + loss(out[:, 1:], t[1])

    batches = [(x, (t, -t)) for x, t in REAL]
    x, t = (np.concatenate([batch[i] for batch in REAL]) for i in (0, 1))
    whole = train.evaluate(model, both, [(x, (t, -t))])
    assert train.evaluate(model, both, batches)["loss"] == pytest.approx(whole["loss"], rel=1e-12)
    fit(model, batches, both)


def test_loaders_are_closed_and_errors_carry_the_history() -> None:
    failing = Failing()
    with pytest.raises(RuntimeError, match="no more") as caught:
        fit(loader=failing)
    assert failing.closed
    assert len(caught.value.history.batches["loss"]) == 2

    class Breaks(Callback):
        def on_batch_end(self, state: Any) -> None:
            raise RuntimeError("broken")

    failing = Failing()
    with pytest.raises(RuntimeError, match="broken") as caught:  # whose traceback knows the loop
        fit(loader=failing, callbacks=[Breaks()])
    assert failing.closed
    prefetching = DataLoader(TensorDataset(X, T), 2, prefetch=2)
    with contextlib.suppress(RuntimeError):
        fit(loader=prefetching, callbacks=[Breaks()])
    assert not [t for t in threading.enumerate() if t.name == "minigrad-prefetch"]
