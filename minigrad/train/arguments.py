"""What fit and evaluate take: each argument is looked at before anything is changed."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.contract import is_real
from minigrad.data import Dataset
from minigrad.errors import ArgumentError, DTypeError, MinigradError, describe
from minigrad.tensor import Tensor
from minigrad.train.history import known, usual_mode

__all__ = [
    "an",
    "check_functions",
    "check_loader",
    "check_optimizer",
    "check_resume",
    "check_scheduler",
    "empty",
    "length",
    "real",
]


def check_functions(function: str, model: Any, loss: Any) -> None:
    """DTypeError for a model or a loss that cannot be called, and for a class in place of an instance."""
    for name, value in ("model", model), ("loss", loss):
        if isinstance(value, type) or not callable(value):
            got = f"the class {value.__name__}" if isinstance(value, type) else describe(value)
            expected = "an nn.Module, or a function" if name == "model" else "a function of out and t"
            raise DTypeError(f"{function}: {name}", got, expected, "pass an instance, such as nn.CrossEntropyLoss()")


def check_loader(where: str, value: Any, epochs: int = 1) -> None:
    """An error for what gives no batches, or not as often as it is looped over."""
    fix = "pass DataLoader(dataset, batch_size=32)"
    arrays = [value] if hasattr(value, "dtype") else list(value) if isinstance(value, (tuple, list)) else []
    if arrays and all(isinstance(item, (np.ndarray, Tensor)) for item in arrays):
        got = describe(value) if hasattr(value, "dtype") else f"a {type(value).__name__} of arrays"
        raise DTypeError(
            where,
            got,
            "batches to loop over, each a tuple (x, t)",
            "pass DataLoader(TensorDataset(x, t), batch_size=32)",
        )
    if isinstance(value, Dataset) or not hasattr(value, "__iter__"):
        raise DTypeError(where, describe(value), "batches to loop over", fix)
    if length(value) == 0:
        raise empty(where, value)
    if epochs > 1 and hasattr(value, "__next__"):
        raise ArgumentError(
            where, f"{describe(value)}, which can be looped over once", f"batches for {epochs} epochs",
            "pass a DataLoader or a list",
        )  # fmt: skip


def empty(where: str, loader: Any) -> MinigradError:
    """The error for a loader that gives no batches."""
    fix = "put a batch (x, t) into it"
    if hasattr(loader, "drop_last"):
        fix = "look at len(loader): drop_last=True leaves out all of a small data set"
    elif hasattr(loader, "__next__"):
        fix = "pass a DataLoader or a list: an iterator is used up after one epoch"
    expected = "one batch at least, every time it is looped over"
    return ArgumentError(where, f"{describe(loader)} that gave no batches", expected, fix)


def length(loader: Any) -> int | None:
    """How many batches an epoch has, None where that is not known."""
    return len(loader) if hasattr(loader, "__len__") else None


def check_optimizer(model: Any, optimizer: Any) -> None:
    """An error for what is no optimiser, or that of another model."""
    groups = getattr(optimizer, "param_groups", None)
    if groups is None or not callable(getattr(optimizer, "step", None)):
        raise DTypeError(
            "fit: optimizer", describe(optimizer), "an optimiser", "pass optim.Adam(model.parameters()), for example"
        )
    own = [p for _, p in model.named_parameters()] if hasattr(model, "named_parameters") else []
    stepped = {id(p) for group in groups for p in group["params"]}
    if own and stepped.isdisjoint(map(id, own)):
        raise ArgumentError(
            "fit: optimizer",
            f"an optimiser of {len(stepped)} parameters, none of which is the model's",
            f"the model's {len(own)} parameters",
            "make it with model.parameters()",
        )


def check_scheduler(scheduler: Any, optimizer: Any, monitor: Any, names: list[str]) -> str:
    """The name of the number that the schedule is given; an error for what is no schedule of this optimiser."""
    usual = "val_loss" if "val_loss" in names else "loss"
    takes_one = getattr(scheduler, "wants_metric", False)
    if monitor is not None and not takes_one:
        got = "no scheduler" if scheduler is None else f"a {type(scheduler).__name__}, which looks at no number"
        raise ArgumentError("fit: monitor", got, "a schedule that looks at one", "leave out monitor=")
    if scheduler is None:
        return usual
    steps = callable(getattr(scheduler, "step", None))
    if not steps or getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ArgumentError(
            "fit: scheduler", f"{describe(scheduler)}{' of another optimiser' if steps else ''}",
            "a schedule of this optimizer", "pass optim.StepLR(optimizer, 10), for example",
        )  # fmt: skip
    interval = getattr(scheduler, "interval", "epoch")
    if interval not in ("epoch", "batch"):
        raise ArgumentError(
            "fit: scheduler", f"interval={interval!r}", '"epoch" or "batch"', 'write scheduler.interval = "batch"'
        )
    if not takes_one:
        return usual
    if monitor is not None:
        known("fit: monitor", monitor, names)
    if interval == "batch":
        usual = "loss"
        if monitor not in (None, "loss"):
            raise ArgumentError(
                "fit: monitor", f"{monitor!r} for a schedule that is stepped after each batch", '"loss"',
                'write scheduler.interval = "epoch"',
            )  # fmt: skip
    name: str = monitor or usual
    mode, better = getattr(scheduler, "mode", None), usual_mode(name)
    if mode is not None and better is not None and mode != better:
        raise ArgumentError(
            "fit: scheduler",
            f"mode={mode!r} for {name!r}",
            f"mode={better!r}, which is better there",
            f"pass mode={better!r} to it" + (', or monitor="val_accuracy", for example, to fit' if not monitor else ""),
        )
    return name


def check_resume(resume: Any, automatic: Path | None) -> Any:
    """The checkpoint to go on from, None to begin anew. automatic: the file that "auto" stands for."""
    if resume is None:
        return None
    if resume == "auto":
        if automatic is None:
            raise ArgumentError(
                "fit: resume",
                '"auto" without a Checkpoint among callbacks',
                "a Checkpoint whose file is continued from",
                "pass callbacks=[Checkpoint(path)]",
            )
        return automatic if automatic.exists() else None
    if not isinstance(resume, (str, PathLike)):
        raise DTypeError("fit: resume", describe(resume), 'a path, or "auto"', 'pass resume="auto"')
    if not Path(resume).exists():
        raise ArgumentError(
            "fit: resume",
            f"{str(resume)!r}, which is not there",
            "a file that a Checkpoint has written",
            'pass resume="auto" to begin anew where there is none',
        )
    return resume


def real(where: str, value: Any, expected: str, fix: str, above: float = -math.ulp(0.0)) -> float:
    """value as a float; ArgumentError for what is no finite number, Python's or NumPy's, larger than `above`."""
    if not is_real(value) or not above < float(value) < math.inf:
        raise ArgumentError(where, describe(value.item() if isinstance(value, np.generic) else value), expected, fix)
    return float(value)


def an(noun: str) -> str:
    """The noun with its article, as it is read aloud: an Adam, a StepLR, an SGD."""
    spelled = noun[:2].isupper() and noun[0] in "FHLMNRSX"  # read letter by letter
    return f"an {noun}" if spelled or noun[0] in "aeiouAEIO" else f"a {noun}"
