"""History: what a training run has recorded, epoch by epoch and batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, KeysView, Mapping
from difflib import get_close_matches
from os import PathLike
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, describe

__all__ = ["History", "direction", "known", "show", "usual_mode"]

# Which way is better, for what fit records by itself; of a function of the user's only the user knows.
_DIRECTIONS = {"loss": "min", "accuracy": "max", "binary_accuracy": "max", "mae": "min", "mse": "min"}


class History:
    """Lists of numbers by name: history["loss"] has one for each epoch that has ended.

    epochs: {"epoch": [1, 2, ...], "loss": [...], ...}: means over the samples of an epoch; "lr" as the epoch ended.
    batches: {"epoch": [...], "loss": [...], "grad_norm": [...]}, one number for each step of the optimiser.
    Raises ArgumentError for a name that nothing was recorded under, with the nearest one.

    >>> history = History()
    >>> history.add_epoch({"loss": 0.5, "accuracy": 0.75})
    >>> history.add_epoch({"loss": 0.25, "accuracy": 1.0})
    >>> history["loss"]
    [0.5, 0.25]
    >>> history
    epoch    loss  accuracy
        1  0.5000    0.7500
        2  0.2500    1.0000
    """

    def __init__(self) -> None:
        self.epochs: dict[str, list[Any]] = {"epoch": []}
        self.batches: dict[str, list[Any]] = {"epoch": [], "loss": [], "grad_norm": []}

    def add_epoch(self, values: Mapping[str, float]) -> None:
        """Appends the numbers of one more epoch. A name that is new, or missing now, has nan where it has no number.

        >>> history = History()
        >>> history.add_epoch({"loss": 0.5})
        >>> history["epoch"], history["loss"]
        ([1], [0.5])
        """
        n = len(self)
        for name in values:
            self.epochs.setdefault(name, [math.nan] * n)
        for name, numbers in self.epochs.items():
            numbers.append(n + 1 if name == "epoch" else float(values.get(name, math.nan)))

    def __getitem__(self, name: str) -> list[Any]:
        known("History", name, self.epochs)
        return self.epochs[name]

    def keys(self) -> KeysView[str]:
        """The names of what was recorded for each epoch: dict(history) holds all of it.

        >>> history = History()
        >>> history.add_epoch({"loss": 0.5})
        >>> dict(history)
        {'epoch': [1], 'loss': [0.5]}
        """
        return self.epochs.keys()

    def __contains__(self, name: object) -> bool:
        return name in self.epochs

    def __iter__(self) -> Iterator[str]:
        return iter(self.epochs)

    def __len__(self) -> int:
        """The number of epochs."""
        return len(self.epochs["epoch"])

    def best(self, monitor: str, mode: str | None = None) -> dict[str, Any]:
        """All numbers of the epoch in which `monitor` was best, the earliest of several; nan is never best.

        mode: "min" or "max"; may be left out for losses and the metrics that fit knows.
        Raises ArgumentError for a name without a single number.

        >>> history = History()
        >>> for loss in 0.5, 0.25, 0.375:
        ...     history.add_epoch({"loss": loss})
        >>> history.best("loss")
        {'epoch': 2, 'loss': 0.25}
        """
        sign = direction("History.best", monitor, mode)
        numbers = self[monitor]
        candidates = [(sign * value, i) for i, value in enumerate(numbers) if not math.isnan(value)]
        if not candidates:
            raise ArgumentError(
                "History.best: monitor",
                f"{monitor!r} with {len(numbers)} epochs, none of them with a number",
                "a name with a number in some epoch",
                "train for an epoch first",
            )
        i = min(candidates)[1]
        return {name: values[i] for name, values in self.epochs.items()}

    def __repr__(self) -> str:
        n = len(self)
        if not n:
            return "History of no epochs"
        shown = [*range(n)] if n <= 20 else [*range(10), None, *range(n - 10, n)]
        columns = []
        for name, values in self.epochs.items():
            cells = ["..." if i is None else show(name, values[i]) for i in shown]
            width = max(map(len, [name, *cells]))
            columns.append([text.rjust(width) for text in [name, *cells]])
        return "\n".join("  ".join(row) for row in zip(*columns, strict=True))

    # To and from files

    def state_dict(self) -> dict[str, Any]:
        """Everything, as arrays that minigrad.save can keep.

        >>> sorted(History().state_dict())
        ['batches', 'epochs']
        """
        return {
            "epochs": {name: np.array(values, np.float64) for name, values in self.epochs.items()},
            "batches": {name: np.array(values, np.float64) for name, values in self.batches.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the place of what was recorded. Raises ArgumentError for anything but what state_dict() gives.

        >>> history = History()
        >>> history.load_state_dict(History().state_dict())
        """
        tables = [state.get(key) if isinstance(state, Mapping) else None for key in ("epochs", "batches")]
        for table in tables:
            lengths = {len(values) for values in table.values()} if isinstance(table, Mapping) else {0, 1}
            if len(lengths) != 1 or not isinstance(table, Mapping) or "epoch" not in table:
                raise ArgumentError(
                    "History.load_state_dict", describe(state), 'a dict with "epochs" and "batches", columns of one '
                    "length each", "pass what state_dict() returned",
                )  # fmt: skip
        self.epochs, self.batches = (
            {name: _plain(name, values) for name, values in table.items()} for table in tables if table is not None
        )

    # Pictures

    def plot(self, path: str | PathLike[str] | None = None) -> Any:
        """Draws losses on the left and everything else on the right over the epochs, with Matplotlib.

        Returns the figure, saved at path where one is given. Raises ImportError without Matplotlib:
        pip install matplotlib; ArgumentError where no epoch has ended.
        """
        try:
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise ImportError("History.plot draws with Matplotlib: pip install matplotlib") from error
        if not len(self):
            raise ArgumentError("History.plot", "a history of no epochs", "one epoch at least", "train first")
        losses = [name for name in self.epochs if name.endswith("loss")]
        others = [name for name in self.epochs if name not in losses and name not in ("epoch", "lr")]
        figure = Figure(figsize=(5 * (1 + bool(others)), 3.5), layout="constrained")
        for k, names in enumerate(filter(None, [losses, others])):
            axes = figure.add_subplot(1, 1 + bool(others), k + 1)
            for name in names:
                dashed = name.startswith("val_") and name.removeprefix("val_") in names
                axes.plot(self["epoch"], self[name], marker=".", linestyle="--" if dashed else "-", label=name)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
        if path is not None:
            figure.savefig(path)
        return figure


def show(name: str, value: float) -> str:
    """A number as the table and the progress lines show it."""
    if name == "epoch":
        return str(int(value))
    if name == "lr" or (value and not 1e-3 <= abs(value) < 1e5):
        return f"{value:.3g}"
    return f"{value:.4f}"


def known(where: str, name: Any, names: Iterable[str]) -> None:
    """ArgumentError with the nearest name for one that is not among names."""
    names = list(names)
    if name not in names:
        near = get_close_matches(str(name), names, 1)
        fix = f"write {near[0] if near else (names or ['loss'])[0]!r}"
        if str(name).startswith("val_") and "loss" in names and "val_loss" not in names:
            fix = "pass validation= to fit: names with val_ come from there"
        raise ArgumentError(
            where,
            repr(name),
            f"one of {', '.join(names)}" if names else "a name that is recorded, and nothing is",
            fix,
        )


def usual_mode(monitor: Any) -> str | None:
    """ "min" or "max", None for a name that fit does not know."""
    return _DIRECTIONS.get(str(monitor).removeprefix("val_"))


def direction(where: str, monitor: str, mode: Any) -> int:
    """1 if the smaller is the better, -1 if the larger is; ArgumentError where that cannot be known."""
    mode = usual_mode(monitor) if mode is None else mode
    if mode not in ("min", "max"):
        raise ArgumentError(
            f"{where}: mode",
            f"mode={mode!r} for {monitor!r}",
            '"min" where a smaller value is better, "max" where a larger one is',
            'pass mode="max", for example',
        )
    return 1 if mode == "min" else -1


def _plain(name: str, values: Any) -> list[Any]:
    return [int(value) if name == "epoch" else float(value) for value in values]
