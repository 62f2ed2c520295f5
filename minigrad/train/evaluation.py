"""Metrics, and the evaluation of a model on data that it does not learn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.autograd import no_grad
from minigrad.contract import numbers
from minigrad.errors import ArgumentError, DTypeError, MinigradError, ShapeError, describe
from minigrad.tensor import Tensor
from minigrad.train.arguments import check_functions, check_loader, empty
from minigrad.train.history import known
from minigrad.train.lints import source

__all__ = [
    "METRICS",
    "NonFiniteError",
    "Sums",
    "accuracy",
    "binary_accuracy",
    "check_finite",
    "chosen_metrics",
    "close",
    "evaluate",
    "evaluation_mode",
    "mae",
    "mse",
    "no_loss",
    "no_samples",
    "outcome",
    "parts",
    "run",
    "samples",
    "seen",
]

Array = NDArray[Any]
Metric = Callable[[Any, Any], float]


class NonFiniteError(MinigradError, FloatingPointError):
    """A nan or an infinity in the data, the loss or a gradient: training cannot go on from there.

    >>> evaluate(lambda x: x, lambda out, t: np.mean(out - t), [(np.array([1.0, np.nan]), np.ones(2))])
    Traceback (most recent call last):
    minigrad.train.evaluation.NonFiniteError: evaluate: batch 1: x[1] is nan in x, float64 (2,); expected finite ...
    """


def accuracy(out: Any, t: Any) -> float:
    """mean(argmax(out) == t): the share of samples whose highest score is that of their class

    out: scores (N, C), (N, ..., C) or (N, C, ...); t: class numbers of that shape without C, or one-hot rows like out.
    Arrays or tensors. Raises ShapeError for other shapes, DTypeError for what is not numbers.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    out, t = _arrays("accuracy", out, t)
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


def binary_accuracy(out: Any, t: Any) -> float:
    """mean((out > 0) == (t > 0.5)): the share of scores that are above 0 where t is 1, and not where it is 0

    out: scores as BCEWithLogitsLoss wants them, where 0 stands for a probability of a half; probabilities are all
    above 0, and would count as 1 throughout. t: 0 or 1, of the same shape. Arrays or tensors.
    Raises ShapeError for shapes that differ, ArgumentError for a tensor that a sigmoid has given, DTypeError for what
    is not numbers.

    >>> binary_accuracy(np.array([-1.5, 2.0, 0.5]), np.array([0, 1, 0]))
    0.6666666666666666
    """
    node = source(out._node) if isinstance(out, Tensor) else None
    if node is not None and node.op is not None and node.op.name == "sigmoid":
        raise ArgumentError(
            "binary_accuracy",
            "probabilities: out is the result of a sigmoid",
            "scores, of which those above 0 count as 1",
            'leave the sigmoid to nn.BCEWithLogitsLoss, or pass {"share": lambda out, t: np.mean((out > 0.5) == t)}',
        )
    out, t = _alike("binary_accuracy", out, t)
    return float(np.mean((out > 0) == (t > 0.5)))


def mae(out: Any, t: Any) -> float:
    """mean(|out - t|): the mean absolute error

    out and t: arrays or tensors of one shape. Raises ShapeError for shapes that differ, DTypeError for what is not
    numbers.

    >>> mae(np.array([1.0, 2.0]), np.array([1.0, 5.0]))
    1.5
    """
    out, t = _alike("mae", out, t)
    return float(np.mean(np.abs(out - t)))


def mse(out: Any, t: Any) -> float:
    """mean((out - t)^2): the mean squared error

    out and t: arrays or tensors of one shape. Raises ShapeError for shapes that differ, DTypeError for what is not
    numbers.

    >>> mse(np.array([1.0, 2.0]), np.array([1.0, 5.0]))
    4.5
    """
    out, t = _alike("mse", out, t)
    return float(np.mean(np.square(out - t)))


def _arrays(name: str, out: Any, t: Any) -> tuple[Array, Array]:
    out, t = seen(out), seen(t)
    if type(out) is not np.ndarray:
        out = numbers(f"{name}: out", out, None, copy=False)
    if type(t) is not np.ndarray:
        t = numbers(f"{name}: t", t, None, copy=False)
    return out, t


def _alike(name: str, out: Any, t: Any) -> tuple[Array, Array]:
    out, t = _arrays(name, out, t)
    if out.shape != t.shape:
        raise ShapeError(
            name, f"out is {describe(out)}, t is {describe(t)}", "equal shapes", "reshape one of them in the data set"
        )
    return out, t


METRICS: dict[str, Metric] = {"accuracy": accuracy, "binary_accuracy": binary_accuracy, "mae": mae, "mse": mse}


def chosen_metrics(where: str, metrics: Any) -> dict[str, Metric]:
    """{name: function} from a name, a function, a list of these, or a dict of functions."""
    if metrics is None:
        return {}
    if isinstance(metrics, str) or (callable(metrics) and not isinstance(metrics, Iterable)):
        metrics = [metrics]
    if not isinstance(metrics, Iterable):
        raise DTypeError(where, describe(metrics), "names, or a dict {name: f(out, t)}", 'pass ["accuracy"]')
    pairs = metrics.items() if isinstance(metrics, Mapping) else [(_name_of(where, item), item) for item in metrics]
    found: dict[str, Metric] = {}
    for name, item in pairs:
        if isinstance(item, str) or not callable(item):
            known(where, item, METRICS)
        f: Metric = METRICS[item] if isinstance(item, str) else item
        if name in ("epoch", "loss", "lr") or str(name).startswith("val_"):
            raise ArgumentError(where, f"the name {name!r}", "a name that fit does not use itself", "rename the metric")
        if found.get(str(name), f) is not f:
            raise ArgumentError(where, f"two metrics with the name {name!r}", "a name for each", "pass {name: f}")
        found[str(name)] = f
    return found


def _name_of(where: str, metric: Any) -> Any:
    """The name under which a metric in a list is recorded: that of the function."""
    if isinstance(metric, str) or not callable(metric):
        return metric
    name = getattr(metric, "__name__", "<lambda>")
    if name == "<lambda>":
        got = "a lambda" if hasattr(metric, "__name__") else describe(metric)
        raise ArgumentError(where, f"{got}, which has no name", "a name to record it under", "pass {name: f}")
    return name


class Sums:
    """Loss and metrics of the batches so far, each times its samples: the mean is over samples, not over batches."""

    def __init__(self, metrics: Mapping[str, Metric], prefix: str = "") -> None:
        self.metrics, self.prefix = metrics, prefix
        self.samples = 0
        self.totals = dict.fromkeys(["loss", *metrics], 0.0)

    def add(self, loss: float, out: Any, t: Any, n: int) -> None:
        """Counts one more batch, of n samples; after an error in a metric nothing of it."""
        totals = self.totals
        if not self.metrics:
            totals["loss"] += loss * n
            self.samples += n
            return
        values = {"loss": loss}
        arrays = seen(out), seen(t)
        for name, f in self.metrics.items():
            value = f(out, t) if f is binary_accuracy else f(*arrays)  # which looks where its scores come from
            try:
                values[name] = float(value)
            except (TypeError, ValueError):
                raise DTypeError(
                    f"fit: metrics: {name}",
                    f"it returned {describe(value)}",
                    "one number",
                    "return float(...), the mean over the batch",
                ) from None
        for name, number in values.items():
            totals[name] += number * n
        self.samples += n

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


def samples(t: Any) -> int:
    """How many samples the targets of a batch are for: the length of the first array among them."""
    if isinstance(t, (tuple, list)) and t and np.ndim(seen(t[0])):
        return samples(t[0])
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


def no_samples(where: str, t: Any) -> ArgumentError:
    """The error for a batch whose targets are for nothing."""
    return ArgumentError(
        where, f"a batch with t of {describe(t)}", "one sample at least", "leave empty batches out of the loader"
    )


def is_finite(batch: Any) -> bool:
    """Whether all of a batch surely is: one call of BLAS, a quarter of the time of isfinite, no temporary."""
    for part in batch:
        values = part._data if isinstance(part, Tensor) else part
        if type(values) is np.ndarray and values.dtype.kind == "f":
            v = values.ravel("K")
            if not math.isfinite(v.dot(v)):
                return False
    return True


def check_finite(where: str, batch: Any) -> None:
    """NonFiniteError that names the first nan or infinity in a batch: which part of it, and where."""
    for i, part in enumerate(batch):
        values = part.numpy() if isinstance(part, Tensor) else part
        if type(values) is not np.ndarray or values.dtype.kind != "f":
            continue
        good = np.isfinite(values)
        if good.all():
            continue
        at = tuple(map(int, np.argwhere(~good)[0]))
        name = "t" if i == len(batch) - 1 else "x" if len(batch) == 2 else f"x[{i}]"
        more = good.size - int(good.sum()) - 1
        raise NonFiniteError(
            where,
            f"{name}{list(at)} is {values[at]} in {name}, {describe(values)}{f', and {more} more' if more else ''}",
            "finite numbers",
            "remove or replace such samples: np.isfinite(data) finds them",
        )


def outcome(function: str, model: Any, loss: Any, inputs: Any, t: Any) -> tuple[Any, Any]:
    """(out, loss(out, t)); an error that names the model where it returned what the loss cannot take."""
    out = model(*inputs)
    if out is None:
        raise DTypeError(f"{function}: model", "it returned None", "what the loss takes", "write return in forward")
    try:
        return out, loss(out, t)
    except (TypeError, AttributeError) as error:
        if not isinstance(out, (tuple, list)):
            raise
        kind = type(out).__name__
        raise DTypeError(
            f"{function}: model", f"it returned a {kind} of {len(out)}, and loss(out, t) failed with it: {error}",
            "what the loss takes", "return one tensor from forward, such as out of out, h = layer(x)",
        ) from error  # fmt: skip


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


def no_loss(function: str, value: Any) -> ShapeError:
    """The error for a loss that is not a single value."""
    return ShapeError(
        f"{function}: loss",
        f"it returned {describe(value)}",
        "a Tensor of one value",
        'take the mean over the samples with minigrad\'s functions: reduction="mean", or .mean()',
    )


def _number(function: str, loss: Any) -> float:
    if not isinstance(loss, (Tensor, np.ndarray, np.generic, float, int)) or np.size(seen(loss)) != 1:
        raise no_loss(function, loss)
    return float(np.asarray(seen(loss)).item())


def evaluate(model: Any, loss: Any, loader: Any, *, metrics: Any = None) -> dict[str, float]:
    """{"loss": mean, metric: mean, ...} over the samples of loader, in eval mode, without a graph.

    A batch counts as many samples as its t has, so that a smaller last batch counts less. The model's modes are put
    back. model, loss, loader, metrics: as for fit. Raises DTypeError for arguments of another kind, ArgumentError for a
    loader without a batch, NonFiniteError for a nan in the data that reaches the loss.

    >>> import minigrad as mg
    >>> x, t = np.eye(3), np.array([0, 1, 1])
    >>> evaluate(lambda x: mg.Tensor(x), mg.softmax_cross_entropy, [(x[:2], t[:2]), (x[2:], t[2:])], metrics="accuracy")
    {'loss': 0.8847780472653843, 'accuracy': 0.6666666666666666}
    """
    check_functions("evaluate", model, loss)
    check_loader("evaluate: loader", loader)
    return run(model, loss, loader, chosen_metrics("evaluate: metrics", metrics), "evaluate")


def run(
    model: Any, loss: Any, loader: Any, metrics: Mapping[str, Metric], where: str, prefix: str = ""
) -> dict[str, float]:
    """evaluate, in the words of whom it is done for."""
    function = where.partition(":")[0]
    sums = Sums(metrics, prefix)
    batches = iter(loader)
    count = 0
    try:
        with evaluation_mode(model):
            for count, batch in enumerate(batches, 1):
                place = f"{where}: batch {count}"
                inputs, t = parts(place, batch)
                n = samples(t)
                if not n:
                    raise no_samples(place, t)
                with noted(f"in {place}"):
                    out, value = outcome(function, model, loss, inputs, t)
                    number = _number(function, value)
                    if not math.isfinite(number):
                        check_finite(place, batch)
                    sums.add(number, out, t, n)
    finally:
        close(batches)
    if not count:
        raise empty(where, loader)
    return sums.means()


@contextmanager
def noted(place: str) -> Iterator[None]:
    """Adds the place to an error that does not say it."""
    try:
        yield
    except MinigradError as error:
        if not isinstance(error, NonFiniteError):
            error.add_note(place)
        raise
