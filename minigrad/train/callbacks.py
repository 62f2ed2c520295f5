"""Callbacks: what happens beside the training, from stopping early to writing logs."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from minigrad.contract import whole
from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.train.arguments import an, real
from minigrad.train.history import direction, known
from minigrad.train.state import Callback, State

__all__ = ["CSVLogger", "Checkpoint", "EarlyStopping", "TensorBoardLogger", "in_order"]


class EarlyStopping(Callback):
    """Stops when `monitor` has not become better for `patience` epochs.

    monitor: a name in history, such as "val_loss". min_delta: how much better counts as better.
    mode: "min" or "max"; may be left out for losses and the metrics that fit knows.
    restore_best: put the model's parameters and buffers back to those of the best epoch as the training ends, after
        Ctrl-C too. best, best_epoch: the best value and its epoch. nan is never better.
    A resumed training goes on counting where monitor and mode are those of the checkpoint; others begin anew.
    Raises ArgumentError for a patience below 1, a negative min_delta, and, in fit, for a name that is not recorded.
    Source: Prechelt, Early Stopping - But When? (1998).

    >>> EarlyStopping("val_accuracy", patience=3).patience
    3
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = False,
    ) -> None:
        self.patience = whole("EarlyStopping: patience", patience, fix="pass patience=5")
        self.min_delta = real("EarlyStopping: min_delta", min_delta, "0 or more", "pass min_delta=0.0")
        self.sign = direction("EarlyStopping", monitor, mode)
        self.monitor = monitor
        self.restore_best = restore_best
        self._reset()

    def _reset(self) -> None:
        self.best, self.best_epoch, self.waited = math.nan, 0, 0
        self._weights: dict[str, Any] | None = None

    def check(self, state: State) -> None:
        """Looks whether the name is one of those recorded."""
        known("EarlyStopping: monitor", self.monitor, state.names)
        if self.restore_best:
            _has_state("EarlyStopping: restore_best", state.model)

    def on_fit_start(self, state: State) -> None:
        """Begins anew, or looks whether patience had ended before a resume."""
        if self not in state.restored:
            self._reset()
        self._judge(state)

    def on_epoch_end(self, state: State) -> None:
        """Compares."""
        value = state.logs[self.monitor]
        better = not self.best_epoch or self.sign * (self.best - value) > self.min_delta
        if better and not math.isnan(value):
            self.best, self.best_epoch, self.waited = value, state.epoch, 0
            if self.restore_best:
                self._weights = state.model.state_dict()
            return
        self.waited += 1
        self._judge(state)

    def _judge(self, state: State) -> None:
        if self.waited >= self.patience:
            best = f"; its best was {self.best:.4g} in epoch {self.best_epoch}" if self.best_epoch else ""
            state.stop(f"{self.monitor} has not become better for {self.waited} epochs{best}")

    def on_fit_end(self, state: State) -> None:
        """Puts the best weights back."""
        if self._weights is not None:
            state.model.load_state_dict(self._weights)

    def identity(self) -> str:
        """What it watches, and which way is better."""
        return f"{self.monitor} {_mode(self.sign)}"

    def state_dict(self) -> dict[str, Any]:
        """The best value, the epochs waited, the best weights."""
        state = {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}
        return state | ({"weights": self._weights} if self._weights is not None else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on counting."""
        self.best, self.best_epoch, self.waited = float(state["best"]), int(state["best_epoch"]), int(state["waited"])
        weights = state.get("weights")
        self._weights = None if weights is None else {name: np.array(array) for name, array in weights.items()}


class Checkpoint(Callback):
    """Writes a checkpoint to `path`, in place of the one before: fit(..., resume=path) continues from it, bit for bit.

    every_epochs: after every so many epochs; None for never. every_batches: also after every so many batches in all.
    monitor: write only after epochs in which this number was the best so far; mode as for EarlyStopping. Such a file
        keeps the best model; pass a second Checkpoint with a path of its own to resume from.
    After Ctrl-C one more is written, unless there is a monitor: of the batch that was under way, or, where it came in a
    validation, of the moment before that. Whatever happens, the file at path is a whole one, the old or the new.
    fit calls Checkpoints after all other callbacks, those with a monitor first, so that a checkpoint has what these
    have counted. A resumed training goes on from the best number where the file's name, monitor and mode are those of
    the checkpoint; others begin anew.
    Raises ArgumentError for numbers below 1, for what would never write, and, in fit, for a monitor that is not
    recorded, a folder that is not there and two Checkpoints with one path; CheckpointError where the file cannot be
    written.

    >>> Checkpoint("digits.npz", every_batches=100).path.name
    'digits.npz'
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        every_epochs: int | None = 1,
        every_batches: int | None = None,
        monitor: str | None = None,
        mode: str | None = None,
    ) -> None:
        self.every_epochs, self.every_batches = (
            None if value is None else whole(f"Checkpoint: {name}", value, fix=f"pass {name}=5")
            for name, value in (("every_epochs", every_epochs), ("every_batches", every_batches))
        )
        if not isinstance(path, (str, PathLike)) or Path(path).suffix != ".npz":
            raise ArgumentError("Checkpoint: path", describe(path), "a path that ends in .npz", 'pass "run.npz"')
        if monitor is not None and every_batches is not None:
            raise ArgumentError(
                "Checkpoint: every_batches",
                f"every_batches={every_batches} and monitor={monitor!r}",
                "one of the two: the number belongs to whole epochs",
                "pass two Checkpoints with different paths",
            )
        if every_epochs is None and every_batches is None and monitor is None:
            raise ArgumentError(
                "Checkpoint: every_epochs", "None, without every_batches or monitor", "a time to write at",
                "pass every_epochs=1, or every_batches=100",
            )  # fmt: skip
        self.path, self.monitor = Path(path), monitor
        self.sign = 1 if monitor is None else direction("Checkpoint", monitor, mode)
        self.best = math.nan

    def check(self, state: State) -> None:
        """Looks whether the name is one of those recorded, what there is to save, and where."""
        if self.monitor is not None:
            known("Checkpoint: monitor", self.monitor, state.names)
        _has_state("Checkpoint", state.model)
        _check_folder("Checkpoint: path", self.path)

    def on_fit_start(self, state: State) -> None:
        """Begins anew, unless it was put back."""
        if self not in state.restored:
            self.best = math.nan

    def on_batch_end(self, state: State) -> None:
        """Writes after every so many batches."""
        if self.every_batches and state.step % self.every_batches == 0:
            state.save(self.path)

    def on_epoch_end(self, state: State) -> None:
        """Writes after every so many epochs, or after a best one."""
        if self.monitor is not None:
            value = state.logs[self.monitor]
            if math.isnan(value) or self.sign * (self.best - value) <= 0:
                return
            self.best = value
        elif not self.every_epochs or state.epoch % self.every_epochs:
            return
        state.save(self.path)

    def on_interrupt(self, state: State) -> None:
        """Writes what there is, so that nothing is lost."""
        if self.monitor is None and state.whole:
            state.save(self.path)

    def identity(self) -> str:
        """The name of the file, and what decides about it."""
        return self.path.name if self.monitor is None else f"{self.path.name} {self.monitor} {_mode(self.sign)}"

    def state_dict(self) -> dict[str, Any]:
        """The best value."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on comparing."""
        self.best = float(state["best"])


class CSVLogger(Callback):
    """Writes a row for each epoch: a header, then what history has, as numbers that read back exactly.

    A new training begins the file anew. A resumed one goes on with it: rows of epochs that are trained again, and a
    line that was cut off, are taken out first. Rows are written whole and at once.
    Raises ArgumentError in fit, before anything is changed, for a file of other columns, a folder that is not there and
    a path that is a folder.

    >>> CSVLogger("log.csv").path.name
    'log.csv'
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._file: TextIO | None = None

    def check(self, state: State) -> None:
        """Looks whether the file can be there, and whether one to go on with has the columns of this training."""
        _check_folder("CSVLogger: path", self.path)
        names = ["epoch", *state.names]
        rows = self._rows() if state.resumed else []
        if rows and rows[0] != names:
            raise ArgumentError(
                "CSVLogger: path",
                f"{self.path.name} with the columns {', '.join(rows[0])}",
                f"those of this training: {', '.join(names)}",
                "pass another path, or the metrics that it was begun with",
            )

    def on_fit_start(self, state: State) -> None:
        """Opens the file."""
        self._names = ["epoch", *state.names]
        rows = self._rows()[1:] if state.resumed else []
        kept = [row for row in rows if row and row[0].isdigit() and int(row[0]) < state.epoch]
        beside = self.path.with_name(f"{self.path.name}.new")
        try:
            with open(beside, "w", encoding="utf-8", newline="") as file:
                file.write(_csv([self._names, *kept]))
            os.replace(beside, self.path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        self._file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115  # until the training ends

    def _rows(self) -> list[list[str]]:
        """The whole lines of the file."""
        if not self.path.exists():
            return []
        with open(self.path, encoding="utf-8", newline="") as file:
            return list(csv.reader([line for line in file if line.endswith("\n")]))

    def on_epoch_end(self, state: State) -> None:
        """Writes a row."""
        if self._file is not None:
            row = [state.epoch, *(repr(state.logs.get(name, math.nan)) for name in self._names[1:])]
            self._file.write(_csv([row]))
            self._file.flush()

    def on_fit_end(self, state: State) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoardLogger(Callback):
    """Writes what history has, epoch by epoch, for TensorBoard to show.

    directory: where the event files go. every_batches: also the loss and the norm of the gradient of every so many
    batches, in directory/batches. PyTorch and TensorFlow are not needed.
    Raises ImportError in fit, before the first batch, without tensorboardX: pip install tensorboardX.

    >>> TensorBoardLogger("runs").directory
    'runs'
    """

    def __init__(self, directory: str | PathLike[str], every_batches: int | None = None) -> None:
        if every_batches is not None:
            every_batches = whole("TensorBoardLogger: every_batches", every_batches, fix="pass every_batches=5")
        self.directory, self.every_batches = os.fspath(directory), every_batches or 0
        self._epochs: Any = None
        self._batches: Any = None

    def check(self, state: State) -> None:
        """Looks for the package."""
        try:
            import_module("tensorboardX")
        except ImportError as error:
            raise ImportError("TensorBoardLogger wants tensorboardX: pip install tensorboardX") from error

    def on_fit_start(self, state: State) -> None:
        """Opens the files; what an interrupted training has written from here on is to be passed over."""
        make, resumed = import_module("tensorboardX").SummaryWriter, state.resumed
        self._epochs = make(self.directory, purge_step=state.epoch if resumed else None)
        if self.every_batches:  # counted otherwise, and so a run of its own
            folder = os.path.join(self.directory, "batches")
            self._batches = make(folder, purge_step=state.step + 1 if resumed else None)

    def on_batch_end(self, state: State) -> None:
        """Writes the loss and the norm of the gradient."""
        if self._batches is not None and state.step % self.every_batches == 0:
            for name, value in state.logs.items():
                self._batches.add_scalar(name, value, state.step)

    def on_epoch_end(self, state: State) -> None:
        """Writes what history has for the epoch."""
        for name, value in state.logs.items():
            self._epochs.add_scalar(name, value, state.epoch)
        self._epochs.flush()

    def on_fit_end(self, state: State) -> None:
        """Closes the files."""
        for writer in filter(None, (self._epochs, self._batches)):
            writer.close()
        self._epochs = self._batches = None


def in_order(callbacks: Any) -> list[Callback]:
    """The callbacks as fit calls them, Checkpoints last, and those that watch nothing after those that do."""
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        got = an(type(callbacks).__name__) if isinstance(callbacks, Callback) else describe(callbacks)
        raise DTypeError("fit: callbacks", got, "a list of callbacks", "write callbacks=[callback]")
    found = list(callbacks)
    paths: dict[Path, int] = {}
    for i, callback in enumerate(found):
        if not isinstance(callback, Callback):
            got = f"the class {callback.__name__}" if isinstance(callback, type) else describe(callback)
            fix = "write the call too, such as EarlyStopping(patience=5)"
            if hasattr(callback, "get_last_lr"):
                fix = "pass a schedule of the learning rate as scheduler="
            raise DTypeError(f"fit: callbacks[{i}]", got, "a Callback", fix)
        if isinstance(callback, Checkpoint):
            first = paths.setdefault(callback.path.resolve(), i)
            if first != i:
                raise ArgumentError(
                    f"fit: callbacks[{i}]", f"a Checkpoint with the path {str(callback.path)!r} of callbacks[{first}]",
                    "a path of its own for each Checkpoint", "pass another path",
                )  # fmt: skip
    return sorted(found, key=lambda c: isinstance(c, Checkpoint) and 1 + (c.monitor is None))


def _mode(sign: int) -> str:
    return "min" if sign > 0 else "max"


def _has_state(where: str, model: Any) -> None:
    if not hasattr(model, "state_dict"):
        raise DTypeError(where, f"model is {describe(model)}", "a model with state_dict()", "make it an nn.Module")


def _check_folder(where: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise ArgumentError(where, f"{str(path)!r}, whose folder is not there", "a folder", "make it first")
    if path.is_dir():
        raise ArgumentError(where, f"{str(path)!r}, which is a folder", "a file", "write the file's name too")


def _csv(rows: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
