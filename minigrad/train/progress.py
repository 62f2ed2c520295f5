"""What fit shows while it trains: a line for each epoch, and on a terminal a bar or a changing line below them."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping
from importlib import import_module
from time import perf_counter
from typing import Any, TextIO

from minigrad.train.history import show

__all__ = ["Progress", "progress_for"]

_INTERVAL = 0.1  # seconds between changes: more than an eye can follow costs time for nothing


class Progress:
    """Shows nothing; the others are made of it.

    epochs: how many there will be. batches: how many in each, where that is known. out: where to write.
    """

    due = math.inf  # when batch() is to be called again, in seconds of perf_counter

    def __init__(self, epochs: int, batches: int | None, out: TextIO) -> None:
        self.epochs, self.batches, self.out = epochs, batches, out

    def batch(self, state: Any, loss: float) -> None:
        """After a batch, when it is due."""

    def epoch(self, state: Any, logs: Mapping[str, float]) -> None:
        """After an epoch."""

    def stopped(self, reason: str) -> None:
        """After a training that was stopped early."""

    def clear(self) -> None:
        """Before something else is written in between."""

    def close(self) -> None:
        """In the end, so that what follows begins a line."""

    def say(self, text: str) -> None:
        """Writes at once, also into a pipe."""
        self.out.write(text)
        self.out.flush()

    def _title(self, state: Any) -> str:
        return f"epoch {state.epoch:{len(str(self.epochs))}}/{self.epochs}"


class Lines(Progress):
    """A line for each epoch."""

    def epoch(self, state: Any, logs: Mapping[str, float]) -> None:
        """Writes the line."""
        self.say(f"{self._title(state)}  {_words(logs)}\n")

    def stopped(self, reason: str) -> None:
        """Says why."""
        self.close()
        self.say(f"stopped: {reason}\n")


class ChangingLine(Lines):
    """A line for each epoch that has ended, and below them one that is written over.

    It is never as wide as the screen, where it would be wrapped and could not be taken back.
    """

    due, width = 0.0, 0

    def batch(self, state: Any, loss: float) -> None:
        """How far the epoch is."""
        far = f"{state.batch / self.batches:4.0%}" if self.batches else f"batch {state.batch}"
        line = f"{self._title(state)}  {far}  loss {show('loss', loss)}"[: shutil.get_terminal_size().columns - 1]
        self.say("\r" + line.ljust(self.width))
        self.width = len(line)
        self.due = perf_counter() + _INTERVAL

    def epoch(self, state: Any, logs: Mapping[str, float]) -> None:
        """The epoch's numbers, which stay."""
        self.clear()
        super().epoch(state, logs)

    def clear(self) -> None:
        """Takes the line away."""
        if self.width:
            self.say("\r" + " " * self.width + "\r")
            self.width = 0

    def close(self) -> None:
        """Ends the line."""
        if self.width:
            self.say("\n")
            self.width = 0


class Bar(Lines):
    """A line for each epoch that has ended, and below them a bar of tqdm over all epochs."""

    due = 0.0

    def __init__(self, epochs: int, batches: int | None, out: TextIO, tqdm: Any, done: int) -> None:
        super().__init__(epochs, batches, out)
        total = epochs * batches if batches else None
        self.bar = tqdm(total=total, initial=done, unit="batch", file=out, dynamic_ncols=True, mininterval=0)

    def batch(self, state: Any, loss: float) -> None:
        """Moves the bar."""
        self.bar.set_description_str(self._title(state), refresh=False)
        self.bar.set_postfix_str(f"loss {show('loss', loss)}", refresh=False)
        self._move(state)
        self.due = perf_counter() + _INTERVAL

    def epoch(self, state: Any, logs: Mapping[str, float]) -> None:
        """The epoch's numbers, which stay; the bar is at its end."""
        self.bar.set_description_str(self._title(state), refresh=False)
        self.bar.write(f"{self._title(state)}  {_words(logs)}", file=self.out)
        self._move(state)

    def _move(self, state: Any) -> None:
        self.bar.update(state.step - self.bar.n)
        self.bar.refresh()

    def clear(self) -> None:
        """Takes the bar away until it moves again."""
        self.bar.clear()

    def close(self) -> None:
        """Leaves the bar as it is."""
        self.bar.close()


def progress_for(wanted: bool, epochs: int, batches: int | None, done: int) -> Progress:
    """What there is to show with: a terminal and tqdm, a terminal alone, or a pipe. done: batches before a resume."""
    out = sys.stdout
    if not wanted:
        return Progress(epochs, batches, out)
    if not out.isatty():
        return Lines(epochs, batches, out)
    try:
        tqdm = import_module("tqdm").tqdm
    except ImportError:
        return ChangingLine(epochs, batches, out)
    return Bar(epochs, batches, out, tqdm, done)


def _words(logs: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {show(name, value)}" for name, value in logs.items())
