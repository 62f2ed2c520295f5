"""State and Callback: where a training stands, and what may be done beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from minigrad.train.checkpoint import moving_parts, write_checkpoint
from minigrad.train.history import History

__all__ = ["Callback", "State"]


@dataclass(eq=False)
class State:
    """Where a training stands: what every callback is given.

    model, loss, optimizer, scheduler, loader, validation, history: those of fit.
    names: what is recorded for each epoch: "loss", the metrics, the same with "val_", "lr".
    epoch: the current one, from 1, out of epochs. batch: batches done in it. step: batches done in all.
    logs: the newest numbers: of the batch in on_batch_end, of the epoch in on_epoch_end.
    stopped: why the training is to end, None to go on; set by stop().
    resumed: whether it goes on from a checkpoint. restored: the callbacks whose own state was in that checkpoint.
    whole: True where a checkpoint written after Ctrl-C can be continued from: between batches, and in a validation.

    >>> import numpy as np
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
    resumed: bool = False
    restored: list[Callback] = field(default_factory=list)
    trained: dict[str, Any] | None = None  # while the validation runs: loaders and generators as they were before it

    def stop(self, reason: str) -> None:
        """Ends the training after the batch, or the epoch, that is under way."""
        self.stopped = reason

    def parts(self) -> dict[str, Any]:
        """All that a checkpoint is of, by the names that save_checkpoint and load_checkpoint have for it."""
        names = ("model", "optimizer", "scheduler", "loader", "validation", "history", "callbacks")
        return {name: getattr(self, name) for name in names}

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a checkpoint that fit(..., resume=path) continues from, bit for bit.

        In a validation it is one of the moment before it, when the epoch's last batch was done.
        """
        progress = {
            "epoch": self.epoch + self.ended,
            "batch": 0 if self.ended else self.batch,
            "step": self.step,
            "sums": self.sums.state_dict(),
            "trained": self.trained is not None,
        }
        write_checkpoint(path, self.parts(), progress, self.trained)

    def begin_validation(self) -> None:
        """Notes what the validation, or whoever breaks it off, may move."""
        self.trained = moving_parts(self.model, self.loader, self.validation)
        self.whole = True

    def end_validation(self) -> None:
        """From here on the loaders are in step with the rest again."""
        self.trained, self.whole = None, False


class Callback:
    """Something to do during fit: subclass it and write the methods that are wanted.

    A callback that decides from what it has seen has state_dict() and load_state_dict() too, so that a resumed training
    decides alike. Each is given the state of the callback of its class and identity() in the checkpoint; one that has
    none there begins anew. An exception in a callback ends the training.

    >>> class Largest(Callback):
    ...     norm = 0.0
    ...     def on_batch_end(self, state):
    ...         self.norm = max(self.norm, state.logs["grad_norm"])
    """

    def check(self, state: State) -> None:
        """Before anything is changed, read or written, a checkpoint too: raise what makes the training impossible."""

    def on_fit_start(self, state: State) -> None:
        """Before the first batch, after all checks and the loading of a checkpoint: open files here."""

    def on_batch_end(self, state: State) -> None:
        """After a step of the optimiser; the gradients are still there. logs: loss, grad_norm."""

    def on_epoch_end(self, state: State) -> None:
        """After the validation and the schedule. logs: what history has for this epoch."""

    def on_interrupt(self, state: State) -> None:
        """After Ctrl-C, before on_fit_end. The batch that was under way is done, unless state.whole is False."""

    def on_fit_end(self, state: State) -> None:
        """In the end, also after an exception: close files here."""

    def identity(self) -> str:
        """What tells it from others of its class, such as the number it watches: their states are not for it."""
        return ""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to know."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from state."""
