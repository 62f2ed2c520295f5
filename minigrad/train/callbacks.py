"""Callbacks: what happens beside the training, from stopping early to writing logs."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.train.checkpoint import save_checkpoint
from minigrad.train.history import History, direction, known

__all__ = ["CSVLogger", "Callback", "Checkpoint", "EarlyStopping", "State", "TensorBoardLogger"]


@dataclass(eq=False)
class State:
    """Where a training stands: what every callback is given.

    model, loss, optimizer, scheduler, loader, validation, history: those of fit.
    names: what is recorded for each epoch: "loss", the metrics, the same with "val_", "lr".
    epoch: the current one, from 1, out of epochs. batch: batches done in it. step: batches done in all.
    logs: the newest numbers: of the batch in on_batch_end, of the epoch in on_epoch_end.
    stopped: why the training is to end, None to go on; set by stop().
    whole: True where a checkpoint written after Ctrl-C can be continued from, which is between batches.

    >>> from minigrad import nn, optim, train
    >>> class Show(Callback):
    ...     def on_epoch_end(self, state):
    ...         print(f"epoch {state.epoch} of {state.epochs}, {state.step} steps, {', '.join(state.logs)}")
    >>> model, batches = nn.Linear(2, 1), [(np.ones((3, 2)), np.ones((3, 1)))] * 5
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> _ = train.fit(model, nn.MSELoss(), optimizer, batches, epochs=2, callbacks=[Show()], progress=False)
    epoch 1 of 2, 5 steps, loss, lr
    epoch 2 of 2, 10 steps, loss, lr
    """

    model: Any
    loss: Any
    optimizer: Any
    scheduler: Any
    loader: Any
    validation: Any
    history: History
    callbacks: list[Callback]
    names: list[str]
    epochs: int
    epoch: int = 1
    batch: int = 0
    step: int = 0
    logs: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None
    whole: bool = False
    sums: Any = None  # of the epoch's batches so far
    ended: bool = False  # the epoch is over: a checkpoint is one of the beginning of the next

    def stop(self, reason: str) -> None:
        """Ends the training after the batch, or the epoch, that is under way."""
        self.stopped = reason

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a checkpoint that fit(..., resume=path) continues from, bit for bit."""
        save_checkpoint(
            path,
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            loader=self.loader,
            validation=self.validation,
            history=self.history,
            callbacks=self.callbacks,
            progress={
                "epoch": self.epoch + self.ended,
                "batch": 0 if self.ended else self.batch,
                "step": self.step,
                "sums": self.sums.state_dict(),
            },
        )


class Callback:
    """Something to do during fit: subclass it and write the methods that are wanted.

    A callback that decides from what it has seen has state_dict() and load_state_dict() too, so that a resumed training
    decides alike. An exception in a callback ends the training.

    >>> class Largest(Callback):
    ...     norm = 0.0
    ...     def on_batch_end(self, state):
    ...         self.norm = max(self.norm, state.logs["grad_norm"])
    """

    def on_fit_start(self, state: State) -> None:
        """Before the first batch, after a checkpoint has been loaded."""

    def on_batch_end(self, state: State) -> None:
        """After a step of the optimiser; the gradients are still there. logs: loss, grad_norm."""

    def on_epoch_end(self, state: State) -> None:
        """After the validation and the schedule. logs: what history has for this epoch."""

    def on_interrupt(self, state: State) -> None:
        """After Ctrl-C, before on_fit_end. The batch that was under way is done, unless state.whole is False."""

    def on_fit_end(self, state: State) -> None:
        """In the end, also after an exception: close files here."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to know."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from state."""


class EarlyStopping(Callback):
    """Stops when `monitor` has not become better for `patience` epochs.

    monitor: a name in history, such as "val_loss". min_delta: how much better counts as better.
    mode: "min" or "max"; may be left out for losses and the metrics that fit knows.
    restore_best: put the model's parameters and buffers back to those of the best epoch as the training ends, after
        Ctrl-C too. best, best_epoch: the best value and its epoch. nan is never better.
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
        _count("EarlyStopping: patience", patience)
        if isinstance(min_delta, bool) or not isinstance(min_delta, (int, float)) or not 0 <= min_delta < math.inf:
            raise ArgumentError("EarlyStopping: min_delta", describe(min_delta), "0 or more", "pass min_delta=0.0")
        self.sign = direction("EarlyStopping", monitor, mode)
        self.monitor, self.patience, self.min_delta = monitor, patience, float(min_delta)
        self.restore_best = restore_best
        self._reset()

    def _reset(self) -> None:
        self.best, self.best_epoch, self.waited = math.nan, 0, 0
        self._weights: dict[str, Any] | None = None

    def on_fit_start(self, state: State) -> None:
        """Looks whether the name is one of those recorded, and whether patience had ended before a resume."""
        known("EarlyStopping: monitor", self.monitor, state.names)
        if self.restore_best:
            _has_state("EarlyStopping: restore_best", state.model)
        if not state.step:
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
    After Ctrl-C one more is written. Whatever happens, the file at path is a whole one, the old or the new.
    fit calls Checkpoints after all other callbacks, so that a checkpoint has what these have counted.
    Raises ArgumentError for numbers below 1, CheckpointError where the file cannot be written.

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
        for name, value in ("every_epochs", every_epochs), ("every_batches", every_batches):
            if value is not None:
                _count(f"Checkpoint: {name}", value)
        if not isinstance(path, (str, PathLike)) or Path(path).suffix != ".npz":
            raise ArgumentError("Checkpoint: path", describe(path), "a path that ends in .npz", 'pass "run.npz"')
        if monitor is not None and every_batches is not None:
            raise ArgumentError(
                "Checkpoint: every_batches",
                f"every_batches={every_batches} and monitor={monitor!r}",
                "one of the two: the number belongs to whole epochs",
                "pass two Checkpoints with different paths",
            )
        self.path, self.monitor = Path(path), monitor
        self.every_epochs, self.every_batches = every_epochs, every_batches
        self.sign = 1 if monitor is None else direction("Checkpoint", monitor, mode)
        self.best = math.nan

    def on_fit_start(self, state: State) -> None:
        """Looks whether the name is one of those recorded, what there is to save, and where."""
        if self.monitor is not None:
            known("Checkpoint: monitor", self.monitor, state.names)
        _has_state("Checkpoint", state.model)
        if not self.path.parent.is_dir():
            raise ArgumentError(
                "Checkpoint: path", f"{str(self.path)!r}, whose folder is not there", "a folder", "make it first"
            )
        if not state.step:
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
    Raises ArgumentError in fit for a file of other columns.

    >>> CSVLogger("log.csv").path.name
    'log.csv'
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._file: TextIO | None = None

    def on_fit_start(self, state: State) -> None:
        """Opens the file and looks at what is in it."""
        names = ["epoch", *state.names]
        kept = []
        if state.step and self.path.exists():
            with open(self.path, encoding="utf-8", newline="") as file:
                lines = [line for line in file if line.endswith("\n")]
            rows = list(csv.reader(lines))
            if rows and rows[0] != names:
                raise ArgumentError(
                    "CSVLogger: path",
                    f"{self.path.name} with the columns {', '.join(rows[0])}",
                    f"those of this training: {', '.join(names)}",
                    "pass another path, or the metrics that it was begun with",
                )
            kept = [row for row in rows[1:] if row[0].isdigit() and int(row[0]) < state.epoch]
        self._names = names
        beside = self.path.with_name(f"{self.path.name}.new")
        with open(beside, "w", encoding="utf-8", newline="") as file:
            file.write(_csv([names, *kept]))
        os.replace(beside, self.path)
        self._file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115  # until the training ends

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
    Raises ImportError in fit, before the first batch, without tensorboardX: pip install minigrad[tensorboard].

    >>> TensorBoardLogger("runs").directory
    'runs'
    """

    def __init__(self, directory: str | PathLike[str], every_batches: int | None = None) -> None:
        if every_batches is not None:
            _count("TensorBoardLogger: every_batches", every_batches)
        self.directory, self.every_batches = os.fspath(directory), every_batches or 0
        self._epochs: Any = None
        self._batches: Any = None

    def on_fit_start(self, state: State) -> None:
        """Opens the files; what an interrupted training has written from here on is to be passed over."""
        try:
            make = import_module("tensorboardX").SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoardLogger wants tensorboardX: pip install minigrad[tensorboard]") from error
        resumed = bool(state.step)
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
    """The callbacks as fit calls them, Checkpoints last; an error for what is none."""
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise DTypeError("fit: callbacks", describe(callbacks), "a list of callbacks", "write callbacks=[callback]")
    found = list(callbacks)
    for i, callback in enumerate(found):
        if not isinstance(callback, Callback):
            got = f"the class {callback.__name__}" if isinstance(callback, type) else describe(callback)
            raise DTypeError(
                f"fit: callbacks[{i}]", got, "a Callback", "write the call too, such as EarlyStopping(patience=5)"
            )
    return sorted(found, key=lambda callback: isinstance(callback, Checkpoint))


def _has_state(where: str, model: Any) -> None:
    if not hasattr(model, "state_dict"):
        raise DTypeError(where, f"model is {describe(model)}", "a model with state_dict()", "make it an nn.Module")


def _count(where: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(where, describe(value), "a whole number, 1 or more", f"pass {where.split(': ')[1]}=5")


def _csv(rows: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
