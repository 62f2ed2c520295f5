"""The learning rate that falls when a metric no longer becomes better."""

from __future__ import annotations

import math
from collections.abc import Sequence

from minigrad.contract import numbers
from minigrad.errors import ArgumentError, ShapeError, describe
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.options import check_option, choice, fraction, real, whole
from minigrad.optim.schedule import LRScheduler, checked_optimizer, for_each
from minigrad.tensor import plain

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """lr = max(factor * lr, min_lr) after more than patience steps without a better metric

    mode: "min" or "max", which is better. threshold: how much better counts, as a part of the best ("rel") or itself
    ("abs": threshold_mode). cooldown: steps after a reduction that do not count. min_lr: a number or a list with one
    for each group. eps: smaller changes of the rate are not made. A metric that is nan is not better.
    Raises ArgumentError for options out of range.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [0.5]
    """

    wants_metric = True

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceLROnPlateau"
        groups = checked_optimizer(name, optimizer).param_groups
        self.mode = check_option(name, "mode", mode, choice("min", "max"))
        self.factor = check_option(name, "factor", factor, fraction)
        self.patience = check_option(name, "patience", patience, whole)
        self.threshold = check_option(name, "threshold", threshold, real)
        self.threshold_mode = check_option(name, "threshold_mode", threshold_mode, choice("rel", "abs"))
        self.cooldown = check_option(name, "cooldown", cooldown, whole)
        self.min_lrs = for_each(name, "min_lr", min_lr, groups, real)
        self.eps = check_option(name, "eps", eps, real)
        self.best = math.inf if self.mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0
        super().__init__(optimizer)

    def _next(self, i: int, lr: float) -> float:
        if self.num_bad_epochs <= self.patience:
            return lr
        new = max(lr * self.factor, self.min_lrs[i])
        return new if lr - new > self.eps else lr

    def step(self, metrics: float | None = None) -> None:
        """Takes note of the metric, and reduces the learning rates if it has not become better for long enough.

        metrics: a number, or a tensor with one. Raises ArgumentError without it, DTypeError for what is no number,
        ShapeError for several.

        >>> import minigrad as mg
        >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
        >>> schedule = ReduceLROnPlateau(optimizer, patience=0)
        >>> schedule.step(2.0)
        >>> schedule.step(3.0)
        >>> schedule.get_last_lr()
        [0.1]
        """
        if metrics is None:
            raise ArgumentError(
                "ReduceLROnPlateau.step: metrics", "none", "the metric that is watched", "write schedule.step(loss)"
            )
        found = numbers("ReduceLROnPlateau.step: metrics", plain(metrics), None, copy=False)
        if found.size != 1:
            raise ShapeError(
                "ReduceLROnPlateau.step: metrics", describe(found), "one number", "write schedule.step(losses.mean())"
            )
        current = float(found.item())
        self._check_groups()
        if self._better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        super().step()
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _better(self, current: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            bound = self.best * (1 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return bool(current > bound if self.mode == "max" else current < bound)
