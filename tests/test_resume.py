"""Checkpoints: a training that was stopped anywhere goes on to the very bits of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim, train
from minigrad.data import DataLoader, TensorDataset
from minigrad.errors import ArgumentError, CheckpointError
from minigrad.train import Callback, Checkpoint, EarlyStopping


class Crash(Checkpoint):
    """Writes a checkpoint after every batch, and ends the training with an exception after so many."""

    def __init__(self, path: Path, after: int) -> None:
        super().__init__(path, every_batches=1)
        self.after = after

    def on_batch_end(self, state: Any) -> None:
        super().on_batch_end(state)
        if state.step == self.after:
            raise RuntimeError("crash")


def samples(n: int = 50) -> TensorDataset:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 6)).astype(np.float32)
    return TensorDataset(x, (x[:, :3].sum(axis=1) > 0).astype(int))


def set_up(kind: str = "default", seed: int = 1) -> dict[str, Any]:
    """What fit needs, made anew as a second process would make it; kind: where the random numbers come from."""
    mg.manual_seed(seed)
    own = [None] * 3 if kind == "default" else [np.random.default_rng(seed + i) for i in range(3)]
    if kind == "shared":
        own = own[:1] * 3
    model = nn.Sequential(
        nn.Linear(6, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.3, generator=own[0]),
        nn.Linear(16, 8),
        nn.Dropout(0.3, generator=own[1]),
        nn.Linear(8, 2),
    ).astype(np.float32)
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    schedules = {
        "default": lambda: optim.StepLR(optimizer, 2, 0.5),
        "own": lambda: optim.OneCycleLR(optimizer, max_lr=0.05, total_steps=3 * 7),
        "shared": lambda: optim.ReduceLROnPlateau(optimizer, patience=0),
    }
    loader: Any = DataLoader(samples(), 8, shuffle=True, generator=own[2], prefetch=2 if kind == "own" else 0)
    if kind == "list":
        loader = list(DataLoader(samples(), 8))
    return {
        "model": model,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "loader": loader,
        "validation": DataLoader(samples(20), 7, shuffle=kind == "own", generator=own[2]),
        "scheduler": schedules.get(kind, schedules["default"])(),
        "metrics": "accuracy",
        "epochs": 3,
        "progress": False,
        "clip_grad_norm": 1.0,
    }


def bits(parts: dict[str, Any], history: Any) -> list[bytes]:
    """All that a training leaves behind."""
    model, optimizer = parts["model"], parts["optimizer"]
    arrays = [*model.state_dict().values()]
    for state in optimizer.state_dict()["state"].values():
        arrays += [np.asarray(value) for value in state.values()]
    recorded = [*history.epochs.values(), *history.batches.values()]
    numbers = [np.array(values).tobytes() for values in recorded]
    return [*(a.tobytes() for a in arrays), *numbers, repr(mg.get_rng_state()).encode()]


@pytest.mark.parametrize("kind", ["default", "own", "shared", "list"])
@pytest.mark.parametrize("after", [1, 5, 7, 8, 13, 14, 20, 21])  # 7 batches are an epoch
def test_a_resumed_training_is_the_uninterrupted_one(kind: str, after: int, tmp_path: Path) -> None:
    def stopping() -> EarlyStopping:
        return EarlyStopping("val_loss", patience=2, restore_best=True)

    parts = set_up(kind)
    whole = bits(parts, train.fit(**parts, callbacks=[stopping()]))
    path = tmp_path / "c.npz"
    parts = set_up(kind)
    with pytest.raises(RuntimeError, match="crash") as caught:
        train.fit(**parts, callbacks=[Crash(path, after), stopping()])
    assert len(caught.value.history.batches["loss"]) == after
    parts = set_up(kind, seed=99)  # other weights and other generators: all of them have to come from the file
    assert bits(parts, train.fit(**parts, callbacks=[Checkpoint(path), stopping()], resume="auto")) == whole


@pytest.mark.parametrize("kind", ["default", "list"])
def test_resuming_what_is_done_does_nothing(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    parts = set_up(kind)
    history = train.fit(**parts, callbacks=[Checkpoint(path)])
    whole = bits(parts, history)
    parts = set_up(kind, seed=9)
    assert bits(parts, train.fit(**parts, resume=path)) == whole
    parts = set_up(kind) | {"epochs": 5}
    whole = bits(parts, train.fit(**parts))
    parts = set_up(kind, seed=9) | {"epochs": 5}  # more epochs: what is left of them
    assert bits(parts, train.fit(**parts, resume=path)) == whole


def test_a_training_that_was_stopped_early_stays_stopped(tmp_path: Path) -> None:
    def calls() -> list[Callback]:
        return [Checkpoint(tmp_path / "c.npz"), EarlyStopping("lr", 1, mode="max")]  # the rate never becomes better

    first = train.fit(**set_up("list"), callbacks=calls())
    assert len(first) == 2
    assert len(train.fit(**set_up("list"), callbacks=calls(), resume="auto")) == 2


def test_resume_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"^fit: resume: .*none.npz'?, which is not there; .*resume=\"auto\""):
        train.fit(**set_up(), resume=tmp_path / "none.npz")
    with pytest.raises(ArgumentError, match="without a Checkpoint"):
        train.fit(**set_up(), resume="auto")
    assert len(train.fit(**set_up(), callbacks=[Checkpoint(tmp_path / "c.npz")], resume="auto")) == 3  # begins anew


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    mg.save({"W": np.zeros(3)}, tmp_path / "w.npz")
    (tmp_path / "x.npz").write_bytes(b"no archive")
    mg.save({"format": "minigrad checkpoint"}, tmp_path / "y.npz")
    for name in ("w.npz", "x.npz", "y.npz"):
        with pytest.raises(CheckpointError):
            train.fit(**set_up(), resume=tmp_path / name)


def another(what: str) -> dict[str, Any]:
    """set_up with one part of it different."""
    parts = set_up(seed=3)
    model = parts["model"]
    if what == "model":
        parts["model"] = nn.Sequential(nn.Linear(6, 2))
        parts["optimizer"] = optim.Adam(parts["model"].parameters())
        parts["scheduler"] = optim.StepLR(parts["optimizer"], 2)
    elif what == "optimizer":
        parts["optimizer"] = optim.SGD(model.parameters(), lr=0.1)
        parts["scheduler"] = optim.StepLR(parts["optimizer"], 2)
    elif what == "groups":
        own = list(model.parameters())
        parts["optimizer"] = optim.Adam([{"params": own[:2]}, {"params": own[2:]}])
        parts["scheduler"] = optim.StepLR(parts["optimizer"], 2)
    elif what == "scheduler":
        parts["scheduler"] = optim.ExponentialLR(parts["optimizer"], 0.9)
    elif what == "no scheduler":
        parts["scheduler"] = None
    elif what == "loader":
        parts["loader"] = DataLoader(samples(64), 8, shuffle=True)
    elif what == "order":
        parts["loader"] = DataLoader(samples(), 8)
    elif what == "generators":
        model[3].generator = np.random.default_rng(0)
    return parts


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("model", "model: unexpected 1.weight.*0.weight has shape .*; make the model as it was"),
        ("optimizer", "optimizer: the state of an Adam for an? SGD"),
        ("groups", "optimizer: groups of"),
        ("scheduler", "scheduler: the state of a StepLR for an ExponentialLR"),
        (
            "no scheduler",
            "scheduler: no scheduler, where the training had a StepLR; expected a StepLR; pass scheduler=",
        ),
        ("loader", "loader: the state of a loader of 7 batches and 50 samples; expected one of 8 batches and 64"),
        ("order", "loader: "),
        ("generators", "random: no state for the generator 3.generator"),
    ],
)
def test_a_checkpoint_of_something_else_changes_nothing(what: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    with pytest.raises(RuntimeError):
        train.fit(**set_up(), callbacks=[Crash(path, 10)])
    parts = another(what)
    before = bits(parts, train.History())
    with pytest.raises(ArgumentError, match=rf"^load_checkpoint: c\.npz: {named}"):
        train.fit(**parts, resume=path)
    assert bits(parts, train.History()) == before
    train.fit(**parts | {"epochs": 1}, ignore=train.LINTS)  # and nothing is left half done


def test_checkpoints_in_a_loop_of_ones_own(tmp_path: Path) -> None:
    kept = ("model", "optimizer", "loader")

    def loop(parts: dict[str, Any], save_at: int) -> None:
        for k, (x, t) in enumerate(parts["loader"], 1):
            parts["optimizer"].zero_grad()
            parts["loss"](parts["model"](x), t).backward()
            parts["optimizer"].step()
            if k == save_at:
                own = {name: parts[name] for name in kept}
                train.save_checkpoint(tmp_path / "c.npz", **own, progress={"epoch": 5})

    parts = set_up()
    loop(parts, 3)
    whole = bits(parts, train.History())
    parts = set_up(seed=7)
    assert train.load_checkpoint(tmp_path / "c.npz", **{name: parts[name] for name in kept}) == {"epoch": 5}
    loop(parts, 0)
    assert bits(parts, train.History()) == whole
    parts = set_up(seed=6)
    before = bits(parts, train.History())
    whole = {name: parts[name] for name in (*kept, "scheduler", "validation")} | {"history": train.History()}
    train.save_checkpoint(tmp_path / "d.npz", **whole, progress={"epoch": 5})
    with pytest.raises(
        ArgumentError, match=r"^load_checkpoint: d.npz: progress: the checkpoint of a loop that was not"
    ):
        train.fit(**parts, resume=tmp_path / "d.npz")
    assert bits(parts, train.History()) == before
    model = set_up(seed=8)["model"]
    state = mg.get_rng_state()
    train.load_checkpoint(tmp_path / "c.npz", model=model)  # a trained model for use: the generators stay
    assert mg.get_rng_state() == state
    with pytest.raises(ArgumentError, match="history: no state for a History"):
        train.load_checkpoint(tmp_path / "c.npz", history=train.History())


def test_ctrl_c_writes_a_checkpoint_that_is_continued_from(tmp_path: Path) -> None:
    class Press(Callback):
        def on_batch_end(self, state: Any) -> None:
            if state.step == 10:
                os.kill(os.getpid(), signal.SIGINT)

    whole_parts = set_up()
    whole = bits(whole_parts, train.fit(**whole_parts))
    path = tmp_path / "c.npz"
    with pytest.raises(KeyboardInterrupt) as caught:
        train.fit(**set_up(), callbacks=[Checkpoint(path), Press()])
    assert len(caught.value.history) == 1
    assert len(caught.value.history.batches["loss"]) == 10  # the batch that was under way is done
    assert train.load_checkpoint(path)["step"] == 10
    parts = set_up(seed=5)
    assert bits(parts, train.fit(**parts, resume=path)) == whole


class Pressing:
    """A validation in which Ctrl-C is pressed, at one batch of one epoch."""

    def __init__(self, loader: Any, epoch: int, batch: int) -> None:
        self.loader, self.left, self.batch = loader, epoch, batch

    def __iter__(self) -> Any:
        self.left -= 1
        for k, batch in enumerate(self.loader, 1):
            if self.left == 0 and k == self.batch:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loader"], name)

    def __len__(self) -> int:
        return len(self.loader)


@pytest.mark.parametrize("kind", ["default", "own", "shared", "list"])
@pytest.mark.parametrize(("epoch", "batch"), [(1, 1), (2, 2), (3, 3)])
def test_ctrl_c_in_a_validation_loses_nothing(kind: str, epoch: int, batch: int, tmp_path: Path) -> None:
    def calls() -> list[Callback]:
        return [Checkpoint(tmp_path / "c.npz", every_epochs=9), EarlyStopping(patience=2)]

    parts = set_up(kind)
    whole = bits(parts, train.fit(**parts, callbacks=calls()[1:]))
    parts = set_up(kind)
    parts["validation"] = Pressing(parts["validation"], epoch, batch)
    with pytest.raises(KeyboardInterrupt) as caught:
        train.fit(**parts, callbacks=calls())
    assert (len(caught.value.history), len(caught.value.history.batches["loss"])) == (epoch - 1, 7 * epoch)
    if kind != "shared":  # whose schedule looks at it
        assert len(train.fit(**set_up(kind) | {"validation": None}, resume=tmp_path / "c.npz")) == 3
    parts = set_up(kind, seed=9)
    assert bits(parts, train.fit(**parts, callbacks=calls(), resume="auto")) == whole


def test_each_callback_gets_its_own_state_back(tmp_path: Path) -> None:
    class Script(Callback):
        def on_epoch_end(self, state: Any) -> None:
            state.logs["val_loss"] = [3.0, 1.0, 2.0, 2.5, 0.5][state.epoch - 1]

    def calls(swapped: bool) -> list[Callback]:
        own: list[Callback] = [
            Checkpoint(tmp_path / "run.npz"),
            Checkpoint(tmp_path / "best.npz", monitor="val_loss"),
            Checkpoint(tmp_path / "last.npz", monitor="val_accuracy"),
        ]
        return [Script(), *(own[::-1] if swapped else own)]

    for epochs, found in (2, 2), (4, 2), (5, 5):
        train.fit(**set_up() | {"epochs": epochs}, callbacks=calls(epochs == 4), resume="auto")
        assert train.load_checkpoint(tmp_path / "best.npz")["epoch"] - 1 == found


def test_a_callback_that_watches_something_else_begins_anew(tmp_path: Path) -> None:
    class Script(Callback):
        def on_epoch_end(self, state: Any) -> None:
            state.logs |= {"val_loss": 1.0 / state.epoch, "val_accuracy": 0.25}

    path = tmp_path / "c.npz"
    train.fit(**set_up(), callbacks=[Script(), EarlyStopping("val_loss"), Checkpoint(path)])
    others = EarlyStopping("val_accuracy"), EarlyStopping("val_loss", mode="max")
    for stopping in others:
        stopping.best, stopping.best_epoch, stopping.waited = 9.0, 1, 4  # of an earlier training
        train.fit(**set_up() | {"epochs": 4}, callbacks=[Script(), stopping], resume=path)
        assert (stopping.best, stopping.best_epoch, stopping.waited) == (0.25, 4, 0)
    same = EarlyStopping("val_loss", patience=7, min_delta=0.5)  # the same number: 1/4 is not enough below 1/3
    train.fit(**set_up() | {"epochs": 4}, callbacks=[Script(), same], resume=path)
    assert (same.best_epoch, same.waited) == (3, 1)


def test_a_refused_resume_changes_nothing(tmp_path: Path) -> None:
    log, path = tmp_path / "log.csv", tmp_path / "c.npz"
    train.fit(**set_up(), callbacks=[train.CSVLogger(log), Checkpoint(path)])
    before = log.read_bytes()
    refusals: list[tuple[dict[str, Any], list[Callback]]] = [
        ({"metrics": None}, [train.CSVLogger(log)]),
        ({}, [train.CSVLogger(log), Checkpoint(tmp_path / "none" / "c.npz")]),
        ({}, [train.CSVLogger(log), EarlyStopping("mine", mode="min")]),
    ]
    for options, callbacks in refusals:
        parts = set_up(seed=4) | {"epochs": 5} | options
        old = bits(parts, train.History()), parts["loader"].state_dict()
        with pytest.raises(ArgumentError):
            train.fit(**parts, callbacks=callbacks, resume=path)
        assert (bits(parts, train.History()), parts["loader"].state_dict()) == old
        assert log.read_bytes() == before


# A real process, killed

CHILD = """
import sys
import minigrad as mg
import test_resume
from minigrad import train

class Report(train.Callback):
    def on_batch_end(self, state):
        print(state.step, flush=True)

parts = test_resume.set_up("default") | {"epochs": 6}
calls = [Report(), train.CSVLogger("log.csv"), train.Checkpoint("c.npz", every_batches=3)]
history = train.fit(**parts, callbacks=calls, resume="auto")
mg.save({"model": parts["model"].state_dict(), "history": history.state_dict()}, "done.npz")
"""


def child(folder: Path) -> subprocess.Popen[str]:
    paths = [str(Path(__file__).parent), str(Path(mg.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_killed_process_resumes_to_the_same_bits(tmp_path: Path) -> None:
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
    with child(folders[0]) as process:
        assert process.stdout is not None
        assert process.stdout.read().split() == [str(i) for i in range(1, 43)]
    rng = np.random.default_rng(0)
    kills, reached = 0, []
    while not (folders[1] / "done.npz").exists():
        assert kills < 40
        with child(folders[1]) as process:
            assert process.stdout is not None
            for _ in range(int(rng.integers(1, 12))):
                line = process.stdout.readline()
                if not line:
                    break
            else:
                reached.append(int(line))
                process.send_signal(signal.SIGKILL)  # wherever it is by now: in a step, in a file
                kills += 1
        assert process.returncode in (0, -signal.SIGKILL)
    assert kills > 4
    assert len(set(reached)) > 4
    one, other = (mg.load(folder / "done.npz") for folder in folders)
    assert one["model"].keys() == other["model"].keys()
    for name, array in one["model"].items():
        assert array.tobytes() == other["model"][name].tobytes(), name
    for table in ("epochs", "batches"):
        for name, array in one["history"][table].items():
            assert array.tobytes() == other["history"][table][name].tobytes(), name
    assert (folders[0] / "log.csv").read_bytes() == (folders[1] / "log.csv").read_bytes()
