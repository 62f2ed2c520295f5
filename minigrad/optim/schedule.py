"""What learning-rate schedules share: the base class, and the checks of what they are made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from minigrad import contract
from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.options import Option, check_option

__all__ = ["LRScheduler", "checked_optimizer", "checked_steps", "for_each"]

# What is not part of a schedule's state.
_LEFT_OUT = ("optimizer", "interval", "lr_lambdas")


class LRScheduler:
    """lr = _next(group, lr): what all schedules share; made before the first step, stepped after the optimiser.

    interval: "epoch" or "batch", how often fit calls step(). It can be assigned.
    wants_metric: whether step wants the metric that is watched. last_epoch: how many times step() has been called.
    Raises DTypeError for what is no optimiser, ArgumentError for options out of range.

    >>> class Halved(LRScheduler):
    ...     def _next(self, i, lr):
    ...         return lr / 2 if self.last_epoch else lr
    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=0.5)
    >>> schedule = Halved(optimizer)
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    interval: str = "epoch"
    wants_metric: ClassVar[bool] = False

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = checked_optimizer(type(self).__name__, optimizer)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._go_to(0, [float(group["lr"]) for group in optimizer.param_groups])

    def step(self) -> None:
        """Sets the next learning rate of every group.

        Raises ArgumentError if the optimiser has got more groups, or if a rate would be negative or not finite;
        nothing has been changed then.

        >>> import minigrad as mg
        >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
        >>> schedule = mg.optim.ExponentialLR(optimizer, gamma=0.5)
        >>> for epoch in range(3):
        ...     optimizer.step()
        ...     schedule.step()
        >>> optimizer.param_groups[0]["lr"]
        0.125
        """
        self._check_groups()
        self._go_to(self.last_epoch + 1, [float(group["lr"]) for group in self.optimizer.param_groups])

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group, as this schedule has set it last.

        >>> import minigrad as mg
        >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=0.3)
        >>> mg.optim.StepLR(optimizer, step_size=10).get_last_lr()
        [0.3]
        """
        return list(self._last_lr)

    def _next(self, i: int, lr: float) -> float:
        """The learning rate of group i at self.last_epoch, which follows lr; at 0 from the one it begins with."""
        raise NotImplementedError

    def _restart(self) -> None:
        """Begins anew, from the rates that the groups began with."""
        self._go_to(0, self.base_lrs)

    def _go_to(self, epoch: int, before: Sequence[float]) -> None:
        """Sets the rates of this step, which follow those before it; where that fails, all is as it was."""
        last, self.last_epoch = self.last_epoch, epoch
        try:
            rates = [self._next(i, lr) for i, lr in enumerate(before)]
            for i, lr in enumerate(rates):
                if not 0 <= lr < math.inf:
                    raise ArgumentError(
                        type(self).__name__,
                        f"a learning rate of {lr} for group {i} at step {epoch}",
                        "a finite number, 0 or more, from every step",
                        "choose numbers that keep it in that range",
                    )
        except BaseException:
            self.last_epoch = last
            raise
        self._set(rates)

    def _set(self, rates: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = rates

    def _check_groups(self) -> None:
        here, now = len(self.base_lrs), len(self.optimizer.param_groups)
        if here != now:
            raise ArgumentError(
                f"{type(self).__name__}.step",
                f"an optimiser with {now} groups",
                f"{here}, as when this schedule was made",
                "call add_param_group first, then make the schedule",
            )

    def state_dict(self) -> dict[str, Any]:
        """What a later run needs to continue: everything but the optimiser and functions.

        >>> import minigrad as mg
        >>> optimizer = mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0)
        >>> schedule = mg.optim.ExponentialLR(optimizer, gamma=0.5)
        >>> schedule.step()
        >>> schedule.state_dict()
        {'gamma': 0.5, 'base_lrs': [1.0], 'last_epoch': 1, '_last_lr': [0.5]}
        """
        return {key: _packed(value) for key, value in vars(self).items() if key not in _LEFT_OUT}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continues where state_dict() was taken, and sets the learning rates that were in force then.

        Raises ArgumentError for a state of another kind of schedule or of another number of groups, and changes
        nothing then.

        >>> import minigrad as mg
        >>> optimizers = [mg.optim.SGD([mg.Tensor(0.0, requires_grad=True)], lr=1.0) for _ in range(2)]
        >>> first, second = (mg.optim.ExponentialLR(optimizer, gamma=0.5) for optimizer in optimizers)
        >>> first.step()
        >>> second.load_state_dict(first.state_dict())
        >>> optimizers[1].param_groups[0]["lr"]
        0.5
        """
        self._check_loaded(f"{type(self).__name__}.load_state_dict", state_dict)
        self._load(state_dict)

    def _check_loaded(self, where: str, state: Any) -> None:
        mine = {key: value for key, value in vars(self).items() if key not in _LEFT_OUT}
        if not isinstance(state, Mapping) or set(state) != set(mine):
            got = ", ".join(map(str, state)) if isinstance(state, Mapping) else describe(state)
            raise ArgumentError(
                where, f"a state of {got}", f"one of {', '.join(mine)}", "load it into the schedule it was saved from"
            )
        for key, value in mine.items():
            loaded = state[key]
            if isinstance(value, list) and value and isinstance(value[0], LRScheduler):
                fits = isinstance(loaded, (list, tuple)) and len(loaded) == len(value)
                if fits:
                    for part, partial in zip(value, loaded, strict=True):
                        part._check_loaded(f"{where}: {key}", partial)
            elif isinstance(value, list):
                numbers = isinstance(loaded, (list, tuple)) and all(isinstance(x, (int, float)) for x in loaded)
                fits = numbers and len(loaded) == len(value)
            else:
                fits = isinstance(loaded, (int, float)) if type(value) is float else type(loaded) is type(value)
            if not fits:
                raise ArgumentError(
                    f"{where}: {key}",
                    repr(loaded)[:80],
                    f"a value like {_packed(value)!r}",
                    "load it into the schedule it was saved from, with as many groups",
                )

    def _load(self, state: Mapping[str, Any]) -> None:
        for key, value in state.items():
            mine = getattr(self, key)
            if isinstance(mine, list) and mine and isinstance(mine[0], LRScheduler):
                for part, partial in zip(mine, value, strict=True):
                    part._load(partial)
            else:
                setattr(self, key, list(value) if isinstance(value, (list, tuple)) else value)
        self._set(self._last_lr)


def checked_optimizer(name: str, optimizer: Any) -> Optimizer:
    """optimizer; DTypeError for anything else."""
    if not isinstance(optimizer, Optimizer):
        raise DTypeError(
            f"{name}: optimizer", describe(optimizer), "an optimiser", "write minigrad.optim.SGD(model.parameters())"
        )
    return optimizer


def for_each(name: str, key: str, value: Any, groups: Sequence[Any], kind: Option) -> list[float]:
    """value for each group: itself, or the entries of a list of as many."""
    values = value if isinstance(value, (list, tuple)) else [value] * len(groups)
    if len(values) != len(groups):
        raise ArgumentError(
            f"{name}: {key}", f"{len(values)} numbers", f"one for each of {len(groups)} groups", "pass one number"
        )
    return [check_option(name, key, number, kind) for number in values]


def checked_steps(name: str, milestones: Any) -> list[int]:
    """The steps at which something happens, as a list; ArgumentError for what is none."""
    single = isinstance(milestones, (str, bytes)) or getattr(milestones, "shape", None) == ()
    if single or not isinstance(milestones, Iterable):
        raise ArgumentError(
            f"{name}: milestones", describe(milestones), "a list of steps, 1 or more", "write milestones=[30, 60]"
        )
    example = "write milestones=[30, 60], for example"
    return [contract.whole(f"{name}: milestones[{i}]", step, 1, example) for i, step in enumerate(milestones)]


def _packed(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [item.state_dict() if isinstance(item, LRScheduler) else item for item in value]
