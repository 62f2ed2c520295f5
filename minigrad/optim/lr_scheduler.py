"""Learning rates that change as training goes on, by increasing complexity.

A schedule says how a group's learning rate follows from the one before it, as in PyTorch: schedules of one optimiser
can so be combined, and a rate changed by hand stays changed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.options import (
    check_option,
    choice,
    count,
    flag,
    fraction,
    positive,
    real,
    share,
    share_above_0,
)
from minigrad.optim.plateau import ReduceLROnPlateau
from minigrad.optim.schedule import LRScheduler, checked_optimizer, checked_steps, for_each

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


class ExponentialLR(LRScheduler):
    """lr = gamma * lr at every step: lr0 * gamma^step

    gamma: a number above 0. Raises ArgumentError for any other.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = ExponentialLR(optimizer, gamma=0.5)
    >>> [(schedule.step(), *schedule.get_last_lr())[1] for _ in range(3)]
    [0.5, 0.25, 0.125]
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = check_option("ExponentialLR", "gamma", gamma, positive)
        super().__init__(optimizer)

    def _next(self, i: int, lr: float) -> float:
        return lr * self.gamma if self.last_epoch else lr


class StepLR(LRScheduler):
    """lr = gamma * lr at every step_size-th step: lr0 * gamma^(step // step_size)

    step_size: 1 or more. gamma: a number above 0. Raises ArgumentError for any other.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> [(schedule.step(), *schedule.get_last_lr())[1] for _ in range(4)]
    [1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = check_option("StepLR", "step_size", step_size, count)
        self.gamma = check_option("StepLR", "gamma", gamma, positive)
        super().__init__(optimizer)

    def _next(self, i: int, lr: float) -> float:
        return lr * self.gamma if self.last_epoch and self.last_epoch % self.step_size == 0 else lr


class MultiStepLR(LRScheduler):
    """lr = gamma * lr at each of the steps in milestones

    milestones: whole numbers, 1 or more. gamma: a number above 0. Raises ArgumentError for any other.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = MultiStepLR(optimizer, milestones=[2, 3], gamma=0.5)
    >>> [(schedule.step(), *schedule.get_last_lr())[1] for _ in range(4)]
    [1.0, 0.5, 0.25, 0.25]
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1) -> None:
        self.milestones = checked_steps("MultiStepLR", milestones)
        self.gamma = check_option("MultiStepLR", "gamma", gamma, positive)
        super().__init__(optimizer)

    def _next(self, i: int, lr: float) -> float:
        times = self.milestones.count(self.last_epoch)
        return float(lr * self.gamma**times) if times else lr


class LambdaLR(LRScheduler):
    """lr = lr0 * lr_lambda(step)

    lr_lambda: a function of the number of the step, or a list with one for each group. It is not part of the state.
    Raises DTypeError for what is no function, ArgumentError for a list of another length, and at a step for which the
    function returns no finite number, 0 or more.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    >>> [(schedule.step(), *schedule.get_last_lr())[1] for _ in range(3)]
    [0.5, 0.3333333333333333, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        groups = len(checked_optimizer("LambdaLR", optimizer).param_groups)
        lambdas = [lr_lambda] * groups if callable(lr_lambda) else lr_lambda
        if not isinstance(lambdas, (list, tuple)) or not all(callable(f) for f in lambdas):
            raise DTypeError(
                "LambdaLR: lr_lambda", describe(lr_lambda), "a function, or a list of them", "write lambda step: ..."
            )
        if len(lambdas) != groups:
            raise ArgumentError(
                "LambdaLR: lr_lambda",
                f"{len(lambdas)} functions",
                f"one for each of {groups} groups",
                "pass one function, which is then that of every group",
            )
        self.lr_lambdas = tuple(lambdas)
        super().__init__(optimizer)

    def _next(self, i: int, lr: float) -> float:
        factor = self.lr_lambdas[i](self.last_epoch)
        if real.convert(factor) is NotImplemented:
            raise ArgumentError(
                "LambdaLR: lr_lambda",
                f"the factor {factor!r} for group {i} at step {self.last_epoch}",
                "a finite number, 0 or more, at every step",
                "write lambda step: max(0.0, 1 - step / 100), for example",
            )
        return float(self.base_lrs[i] * factor)


class LinearLR(LRScheduler):
    """lr = lr0 * (start_factor + (end_factor - start_factor) * step / total_iters), and then stays: a warm-up

    total_iters: 1 or more. start_factor: above 0, up to 1. end_factor: from 0 to 1. Raises ArgumentError for any other.
    SequentialLR goes on with another schedule after it.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = LinearLR(optimizer, start_factor=0.25, total_iters=3)
    >>> schedule.get_last_lr()
    [0.25]
    >>> [(schedule.step(), *schedule.get_last_lr())[1] for _ in range(4)]
    [0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor = check_option("LinearLR", "start_factor", start_factor, share_above_0)
        self.end_factor = check_option("LinearLR", "end_factor", end_factor, share)
        self.total_iters = check_option("LinearLR", "total_iters", total_iters, count)
        super().__init__(optimizer)

    def _next(self, i: int, lr: float) -> float:
        t, start, rise = self.last_epoch, self.start_factor, self.end_factor - self.start_factor
        if t == 0:
            return float(lr * start)
        return lr if t > self.total_iters else lr * (1 + rise / (self.total_iters * start + (t - 1) * rise))


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (lr0 - eta_min) * (1 + cos(pi * step / T_max)) / 2

    T_max: 1 or more. eta_min: 0 or more. Raises ArgumentError for any other. After T_max the rate rises again.
    Loshchilov and Hutter, SGDR, 2017, without restarts.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = CosineAnnealingLR(optimizer, T_max=2)
    >>> [(schedule.step(), round(*schedule.get_last_lr(), 6))[1] for _ in range(2)]
    [0.5, 0.0]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = check_option("CosineAnnealingLR", "T_max", T_max, count)
        self.eta_min = check_option("CosineAnnealingLR", "eta_min", eta_min, real)
        super().__init__(optimizer)

    def _next(self, i: int, lr: float) -> float:
        t, low = self.last_epoch, self.eta_min
        if t == 0:
            return lr
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:  # the rate is eta_min: a factor would keep it there
            return float(lr + (self.base_lrs[i] - low) * (1 - math.cos(math.pi / self.T_max)) / 2)
        now, before = (1 + math.cos(math.pi * n / self.T_max) for n in (t, t - 1))
        return float(now / before * (lr - low) + low)


class OneCycleLR(LRScheduler):
    """lr from max_lr / div_factor up to max_lr, and down to max_lr / div_factor / final_div_factor

    total_steps: of the whole cycle, or epochs and steps_per_epoch in its place. pct_start: the share of the steps in
    which the rate rises. anneal_strategy: "cos" or "linear". three_phase: back to where it began in as many steps as
    it rose in, and only then further down. cycle_momentum: the momentum, or beta1, goes from max_momentum to
    base_momentum and back meanwhile. max_lr, base_momentum, max_momentum: a number, or a list with one for each group.
    Steps a batch, not an epoch. After total_steps the last rate stays; one step more is an ArgumentError, as are
    options out of range. Smith and Topin, Super-convergence, 2018.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = OneCycleLR(optimizer, max_lr=1.0, total_steps=5, pct_start=0.4, anneal_strategy="linear")
    >>> [round(*(schedule.step(), *schedule.get_last_lr())[1:], 6) for _ in range(4)]
    [1.0, 0.666668, 0.333336, 4e-06]
    """

    interval = "batch"

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        name = "OneCycleLR"
        groups = checked_optimizer(name, optimizer).param_groups
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise ArgumentError(
                f"{name}: total_steps",
                "neither total_steps nor both epochs and steps_per_epoch",
                "the length of the cycle",
                "write epochs=10, steps_per_epoch=len(loader)",
            )
        if total_steps is None:
            epochs = check_option(name, "epochs", epochs, count)
            total_steps = epochs * check_option(name, "steps_per_epoch", steps_per_epoch, count)
        self.total_steps = check_option(name, "total_steps", total_steps, count)
        self.pct_start = check_option(name, "pct_start", pct_start, share)
        self.anneal_strategy = check_option(name, "anneal_strategy", anneal_strategy, choice("cos", "linear"))
        self.cycle_momentum = check_option(name, "cycle_momentum", cycle_momentum, flag)
        self.div_factor = check_option(name, "div_factor", div_factor, positive)
        self.final_div_factor = check_option(name, "final_div_factor", final_div_factor, positive)
        self.three_phase = check_option(name, "three_phase", three_phase, flag)
        self.max_lrs = for_each(name, "max_lr", max_lr, groups, real)
        self.base_momentums = for_each(name, "base_momentum", base_momentum, groups, fraction)
        self.max_momentums = for_each(name, "max_momentum", max_momentum, groups, fraction)
        self._momentum = next((key for key in ("betas", "momentum") if key in optimizer.defaults), "")
        if self.cycle_momentum and not self._momentum:
            raise ArgumentError(
                f"{name}: cycle_momentum",
                f"True for {type(optimizer).__name__}",
                "an optimiser with momentum or betas",
                "write cycle_momentum=False",
            )
        for group, top in zip(groups, self.max_lrs, strict=True):
            group["initial_lr"] = top / self.div_factor
        super().__init__(optimizer)

    def _next(self, i: int, lr: float) -> float:
        if self.last_epoch > self.total_steps:
            raise ArgumentError(
                "OneCycleLR.step",
                f"step {self.last_epoch}",
                f"at most total_steps={self.total_steps} steps",
                "make the schedule with epochs * len(loader) steps",
            )
        top = self.max_lrs[i]
        first = top / self.div_factor
        last = first / self.final_div_factor
        slow, fast = self.base_momentums[i], self.max_momentums[i]
        rising = self.pct_start * self.total_steps - 1
        # Where a phase ends, and the rate and the momentum there.
        phases = [(0.0, first, fast), (rising, top, slow), (self.total_steps - 1.0, last, fast)]
        if self.three_phase:
            phases.insert(2, (2 * self.pct_start * self.total_steps - 2, first, fast))
        k = next((k for k in range(1, len(phases) - 1) if self.last_epoch <= phases[k][0]), len(phases) - 1)
        (begin, lr0, momentum0), (end, lr1, momentum1) = phases[k - 1], phases[k]
        part = min((self.last_epoch - begin) / (end - begin), 1.0) if end != begin else 1.0
        if self.cycle_momentum:
            momentum = self._between(momentum0, momentum1, part)
            group = self.optimizer.param_groups[i]
            group[self._momentum] = (momentum, group["betas"][1]) if self._momentum == "betas" else momentum
        return self._between(lr0, lr1, part)

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2 * (math.cos(math.pi * part) + 1)
        return (end - start) * part + start

    def _load(self, state: Mapping[str, Any]) -> None:
        super()._load(state)
        for i, lr in enumerate(self._last_lr):
            self._next(i, lr)  # sets the momentum


class SequentialLR(LRScheduler):
    """The first schedule up to milestones[0], from there on the second from its beginning, and so on

    schedulers: schedules of this same optimiser, made one after the other; this one then steps them.
    milestones: the steps at which the next takes over: one fewer than schedulers, each above the one before.
    Raises ArgumentError for other numbers, for a ReduceLROnPlateau, for schedules of another optimiser and for a
    mixture of intervals.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
    >>> warm_up = LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> schedule = SequentialLR(optimizer, [warm_up, ExponentialLR(optimizer, gamma=0.5)], milestones=[2])
    >>> [(schedule.step(), *schedule.get_last_lr())[1] for _ in range(4)]
    [0.75, 1.0, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        name = "SequentialLR"
        self.optimizer = checked_optimizer(name, optimizer)
        if not isinstance(schedulers, (list, tuple)):
            raise DTypeError(
                f"{name}: schedulers", describe(schedulers), "a list of schedules", "write [first, second]"
            )
        for i, schedule in enumerate(schedulers):
            if not isinstance(schedule, LRScheduler) or schedule.wants_metric or schedule.optimizer is not optimizer:
                raise ArgumentError(
                    f"{name}: schedulers",
                    f"a {type(schedule).__name__} at {i}",
                    "schedules of the same optimiser, none of which wants a metric",
                    "make each with the optimizer that is passed here",
                )
        self.milestones = checked_steps(name, milestones)
        rising = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
        if not schedulers or len(self.milestones) != len(schedulers) - 1 or not rising:
            raise ArgumentError(
                f"{name}: milestones",
                f"milestones={self.milestones} with {len(schedulers)} schedules",
                "one fewer than schedules, each above the one before",
                "write the steps at which the next schedule takes over",
            )
        if len({schedule.interval for schedule in schedulers}) > 1:
            raise ArgumentError(
                f"{name}: schedulers",
                f"intervals {', '.join(schedule.interval for schedule in schedulers)}",
                "the same interval for all",
                'write schedule.interval = "batch" for each',
            )
        self.schedulers = list(schedulers)
        self.interval = schedulers[0].interval
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self._restart()

    def step(self) -> None:
        """Steps the schedule whose turn it is.

        >>> import minigrad as mg
        >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
        >>> parts = [StepLR(optimizer, step_size=9), ExponentialLR(optimizer, gamma=0.5)]
        >>> schedule = SequentialLR(optimizer, parts, milestones=[1])
        >>> for epoch in range(2):
        ...     schedule.step()
        >>> optimizer.param_groups[0]["lr"]
        0.5
        """
        self._check_groups()
        now = bisect_right(self.milestones, self.last_epoch + 1)
        if now > bisect_right(self.milestones, self.last_epoch):
            self.schedulers[now]._restart()
        else:
            self.schedulers[now].step()
        self.last_epoch += 1
        self._last_lr = self.schedulers[now].get_last_lr()

    def _restart(self) -> None:
        self.last_epoch = 0
        self.schedulers[0]._restart()
        self._last_lr = self.schedulers[0].get_last_lr()

    def _load(self, state: Mapping[str, Any]) -> None:
        super()._load(state)
        now = self.schedulers[bisect_right(self.milestones, self.last_epoch)]
        now._load(now.state_dict())  # the others have set their own rates and momenta
