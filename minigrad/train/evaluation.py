"""Metrics, and the evaluation of a model on data that it does not learn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.autograd import no_grad
from minigrad.errors import ArgumentError, DTypeError, MinigradError, ShapeError, describe
from minigrad.tensor import Tensor
from minigrad.train.history import known

__all__ = ["METRICS", "NonFiniteError", "Sums", "close", "evaluate", "evaluation_mode", "parts", "seen"]

Array = NDArray[Any]
Metric = Callable[[Any, Any], float]


class NonFiniteError(MinigradError, FloatingPointError):
    """A nan or an infinity in the data, the loss or a gradient: training cannot go on from there.

    >>> evaluate(lambda x: x, np.mean, [(np.array([1.0, np.nan]), np.ones(2))])
    Traceback (most recent call last):
    minigrad.train.evaluation.NonFiniteError: evaluate: batch 1: x[1] is nan in x, float64 (2,); expected finite ...
    """


def accuracy(out: Array, t: Array) -> float:
    """The share of samples whose highest score is that of their class: t is class numbers, or one-hot rows."""
    if out.ndim and t.shape == out.shape[:-1]:
        return float(np.mean(out.argmax(axis=-1) == t))
    if out.ndim > 2 and t.shape == out.shape[:1] + out.shape[2:]:
        return float(np.mean(out.argmax(axis=1) == t))
    if out.ndim > 1 and t.shape == out.shape and out.shape[-1] > 1:
        return float(np.mean(out.argmax(axis=-1) == t.argmax(axis=-1)))
    raise ShapeError(
        "accuracy",
        f"out is {describe(out)}, t is {describe(t)}",
        f"scores (N, C), and class numbers {out.shape[:-1]} or one-hot rows {out.shape}",
        'use "binary_accuracy" for one score a sample, or pass a function of your own: {"name": f}',
    )


def _alike(name: str, out: Array, t: Array) -> None:
    if out.shape != t.shape:
        raise ShapeError(
            name, f"out is {describe(out)}, t is {describe(t)}", "equal shapes", "reshape one of them in the data set"
        )


def binary_accuracy(out: Array, t: Array) -> float:
    """The share of scores that are above 0, as a probability of a half is, where t is 1, and not where it is 0."""
    _alike("binary_accuracy", out, t)
    return float(np.mean((out > 0) == (t > 0.5)))


def mae(out: Array, t: Array) -> float:
    """The mean absolute error."""
    _alike("mae", out, t)
    return float(np.mean(np.abs(out - t)))


def mse(out: Array, t: Array) -> float:
    """The mean squared error."""
    _alike("mse", out, t)
    return float(np.mean(np.square(out - t)))


METRICS: dict[str, Metric] = {"accuracy": accuracy, "binary_accuracy": binary_accuracy, "mae": mae, "mse": mse}


def chosen_metrics(where: str, metrics: Any) -> dict[str, Metric]:
    """{name: function} from a name, a list of names, or a dict of functions."""
    if metrics is None:
        return {}
    if isinstance(metrics, str):
        metrics = [metrics]
    if not isinstance(metrics, Mapping):
        if not isinstance(metrics, Iterable):
            raise DTypeError(where, describe(metrics), "names, or a dict {name: f(out, t)}", 'pass ["accuracy"]')
        metrics = {name: name for name in metrics}
    found = {}
    for name, f in metrics.items():
        if isinstance(f, str) or not callable(f):
            known(where, f, METRICS)
            f = METRICS[f]
        if name in ("epoch", "loss", "lr") or str(name).startswith("val_"):
            raise ArgumentError(where, f"the name {name!r}", "a name that fit does not use itself", "rename the metric")
        found[str(name)] = f
    return found


class Sums:
    """Loss and metrics of the batches so far, each times its samples: the mean is over samples, not over batches."""

    def __init__(self, metrics: Mapping[str, Metric], prefix: str = "") -> None:
        self.metrics, self.prefix = metrics, prefix
        self.samples = 0
        self.totals = dict.fromkeys(["loss", *metrics], 0.0)

    def add(self, loss: float, out: Any, t: Any) -> None:
        """Counts one more batch."""
        n = _samples(t)
        self.samples += n
        totals = self.totals
        totals["loss"] += loss * n
        if self.metrics:
            out, t = seen(out), seen(t)
            for name, f in self.metrics.items():
                value = f(out, t)
                try:
                    totals[name] += float(value) * n
                except TypeError:
                    raise DTypeError(
                        f"fit: metrics: {name}",
                        f"it returned {describe(value)}",
                        "one number",
                        "return float(...), the mean over the batch",
                    ) from None

    def means(self) -> dict[str, float]:
        """{name: mean}, nan without a sample."""
        n = self.samples
        return {self.prefix + name: total / n if n else math.nan for name, total in self.totals.items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums, for a checkpoint in the middle of an epoch."""
        return {"samples": self.samples, "totals": dict(self.totals)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from state; a metric that is new counts from here."""
        self.samples = int(state["samples"])
        self.totals.update({name: float(x) for name, x in state["totals"].items() if name in self.totals})


def _samples(t: Any) -> int:
    """How many samples the targets of a batch are for: the length of the first array among them."""
    if isinstance(t, (tuple, list)) and t and np.ndim(seen(t[0])):
        return _samples(t[0])
    return len(t) if np.ndim(seen(t)) else 1


def seen(value: Any) -> Any:
    """value as a metric sees it: plain arrays for Tensors, also in a tuple, that cannot be written."""
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, (tuple, list)):
        return type(value)([seen(item) for item in value])
    return value


def parts(where: str, batch: Any) -> tuple[Any, Any]:
    """(inputs, t) of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        got = f"a {type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else describe(batch)
        raise DTypeError(
            where,
            got,
            "a tuple of at least two arrays, the inputs and then the targets",
            "make the loader of (x, t), as from TensorDataset(x, t)",
        )
    return batch[:-1], batch[-1]


def _no_samples(where: str, values: Array) -> ArgumentError:
    return ArgumentError(
        where, f"a batch with {describe(values)} in it", "one sample at least", "leave empty batches out of the loader"
    )


def check_finite(where: str, batch: Any, state: Any) -> None:
    """NonFiniteError that names the first nan or infinity in a batch: which part of it, and where."""
    for i, part in enumerate(batch):
        values = part.numpy() if isinstance(part, Tensor) else part
        if type(values) is not np.ndarray or values.dtype.kind != "f":
            continue
        if not values.size:
            raise _no_samples(f"{where}: {_place(state)}", values)
        v = values.ravel("K")
        if math.isfinite(v.dot(v)):  # only if v is: one call of BLAS, a quarter of the time of isfinite, no temporary
            continue
        good = np.isfinite(values)
        if good.all():
            continue  # the squares overflowed
        at = tuple(map(int, np.argwhere(~good)[0]))
        name = "t" if i == len(batch) - 1 else "x" if len(batch) == 2 else f"x[{i}]"
        more = good.size - int(good.sum()) - 1
        raise NonFiniteError(
            f"{where}: {_place(state)}",
            f"{name}{list(at)} is {values[at]} in {name}, {describe(values)}{f', and {more} more' if more else ''}",
            "finite numbers",
            "remove or replace such samples: np.isfinite(data) finds them",
        )


def _place(state: Any) -> str:
    """The batch, from its number or from the state of a training."""
    return f"batch {state}" if isinstance(state, int) else f"epoch {state.epoch}, batch {state.batch + 1}"


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """The model in eval mode and no_grad; afterwards each module is in the mode it had."""
    modules = list(model.modules()) if hasattr(model, "modules") else []
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        with no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def close(batches: Any) -> None:
    """Ends a loop over a loader that was left early: threads that prepare batches go, files are closed."""
    end = getattr(batches, "close", None)
    if callable(end):
        end()


def number(where: str, loss: Any) -> float:
    """The loss as a number; an error for anything but a single value."""
    if not isinstance(loss, (Tensor, np.ndarray, np.generic, float, int)) or np.size(seen(loss)) != 1:
        raise ShapeError(
            where,
            f"it returned {describe(loss)}",
            "one value",
            'take the mean over the samples: reduction="mean", or .mean()',
        )
    return float(seen(loss))


def evaluate(model: Any, loss: Any, loader: Any, *, metrics: Any = None) -> dict[str, float]:
    """{"loss": mean, metric: mean, ...} over the samples of loader, in eval mode, without a graph.

    A batch counts as many samples as its t has, so that a smaller last batch counts less. The model's modes are put
    back. model, loss, loader, metrics: as for fit. Raises ArgumentError for a loader without a batch, NonFiniteError
    for data with a nan.

    >>> import minigrad as mg
    >>> x, t = np.eye(3), np.array([0, 1, 1])
    >>> evaluate(lambda x: mg.Tensor(x), mg.softmax_cross_entropy, [(x[:2], t[:2]), (x[2:], t[2:])], metrics="accuracy")
    {'loss': 0.8847780472653843, 'accuracy': 0.6666666666666666}
    """
    return run(model, loss, loader, chosen_metrics("evaluate: metrics", metrics), "evaluate", "")


def run(model: Any, loss: Any, loader: Any, metrics: Mapping[str, Metric], where: str, prefix: str) -> dict[str, float]:
    """evaluate, in the words of whom it is done for."""
    sums = Sums(metrics, prefix)
    batches = iter(loader)
    count = 0
    try:
        with evaluation_mode(model):
            for count, batch in enumerate(batches, 1):
                inputs, t = parts(f"{where}: batch {count}", batch)
                check_finite(where, batch, count)
                out = model(*inputs)
                sums.add(number(f"{where}: loss", loss(out, t)), out, t)
    finally:
        close(batches)
    if not count:
        raise empty(where, loader)
    return sums.means()


def empty(where: str, loader: Any) -> MinigradError:
    """The error for a loader that gives no batches."""
    once = hasattr(loader, "__next__")
    return ArgumentError(
        where,
        f"{describe(loader)} that gave no batches",
        "one batch at least, every time it is looped over",
        "pass a DataLoader or a list: an iterator is used up after one epoch"
        if once
        else "look at len(loader): drop_last=True leaves out all of a small data set",
    )
