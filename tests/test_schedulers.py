"""Learning-rate schedules: PyTorch's sequences, the closed forms, states, and what goes wrong."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import optim_figures as figures
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.optim import (
    SGD,
    Adagrad,
    Adam,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

EVERY = pytest.mark.parametrize(
    ("name", "options"), figures.SCHEDULES, ids=[figures.key(*case) for case in figures.SCHEDULES]
)


def optimizer(lr: float = 1.0, groups: int = 1, momentum: float = 0.0) -> SGD:
    return SGD([{"params": [mg.Tensor(0.0, requires_grad=True)]} for _ in range(groups)], lr=lr, momentum=momentum)


def rates(schedule: LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found += schedule.get_last_lr()
        assert found[-1] == schedule.optimizer.param_groups[0]["lr"]
        schedule.step()
    return found


@EVERY
def test_rates_are_those_of_pytorch(name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    ours = figures.rates(figures.Framework(), name, options)
    np.testing.assert_allclose(ours, figures.rates(figures.PyTorch(torch), name, options), rtol=1e-12, atol=1e-18)


@EVERY
def test_rates_are_those_stored_from_pytorch(name: str, options: dict[str, Any]) -> None:
    ours = figures.rates(figures.Framework(), name, options)
    stored = figures.stored()["schedules"][figures.key(name, options)]
    np.testing.assert_allclose(ours, stored, rtol=1e-12, atol=1e-18)
    assert len({tuple(row) for row in ours}) > 1, "a schedule that changes nothing tests nothing"


CLOSED: list[tuple[Any, dict[str, Any], Any]] = [
    (StepLR, {"step_size": 3, "gamma": 0.5}, lambda t: 0.5 ** (t // 3)),
    (ExponentialLR, {"gamma": 0.9}, lambda t: 0.9**t),
    (MultiStepLR, {"milestones": [2, 5], "gamma": 0.5}, lambda t: 0.5 ** ((t >= 2) + (t >= 5))),
    (LinearLR, {"start_factor": 0.2, "total_iters": 8}, lambda t: 0.2 + 0.8 * min(t, 8) / 8),
    (CosineAnnealingLR, {"T_max": 6, "eta_min": 0.1}, lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * t / 6)) / 2),
    (LambdaLR, {"lr_lambda": lambda t: 1 / (1 + t)}, lambda t: 1 / (1 + t)),
]


@pytest.mark.parametrize(("cls", "options", "closed"), CLOSED, ids=[case[0].__name__ for case in CLOSED])
def test_rates_follow_the_closed_form(cls: Any, options: dict[str, Any], closed: Any) -> None:
    found = rates(cls(optimizer(), **options), 30)
    np.testing.assert_allclose(found, [closed(t) for t in range(30)], rtol=1e-12, atol=1e-15)


def test_schedules_of_one_optimiser_multiply() -> None:
    o = optimizer()
    warm_up, decay = LinearLR(o, start_factor=0.5, total_iters=2), ExponentialLR(o, gamma=0.5)
    found = []
    for _ in range(4):
        found.append(o.param_groups[0]["lr"])
        warm_up.step()
        decay.step()
    np.testing.assert_allclose(found, [0.5, 0.375, 0.25, 0.125])


def test_a_rate_changed_by_hand_stays_changed() -> None:
    o = optimizer()
    schedule = StepLR(o, step_size=2, gamma=0.5)
    o.param_groups[0]["lr"] = 8.0
    schedule.step()
    schedule.step()
    assert schedule.get_last_lr() == [4.0]


def test_one_cycle_turns_beta1_and_ends_where_it_says() -> None:
    o = Adam([mg.Tensor(0.0, requires_grad=True)], betas=(0.7, 0.99))
    schedule = OneCycleLR(o, max_lr=1.0, total_steps=10, anneal_strategy="linear")
    seen = []
    for _ in range(10):
        seen.append((o.param_groups[0]["lr"], o.param_groups[0]["betas"]))
        schedule.step()  # after the last batch too, as a loop over batches does
    assert seen[0] == (pytest.approx(0.04), (0.95, 0.99))
    assert seen[2] == (1.0, (pytest.approx(0.85), 0.99))
    assert seen[9] == (pytest.approx(4e-6), (0.95, 0.99))
    assert schedule.get_last_lr() == [pytest.approx(4e-6)]
    before = copy.deepcopy(schedule.state_dict())
    with pytest.raises(ArgumentError, match="step 11; expected at most total_steps=10"):
        schedule.step()
    assert schedule.state_dict() == before


def test_intervals() -> None:
    o = optimizer(momentum=0.9)
    assert StepLR(o, 1).interval == "epoch"
    assert OneCycleLR(o, 1.0, 10).interval == "batch"
    assert ReduceLROnPlateau(o).wants_metric
    assert not StepLR(o, 1).wants_metric
    a, b = LinearLR(o), ExponentialLR(o, 0.5)
    a.interval = "batch"
    with pytest.raises(ArgumentError, match="intervals batch, epoch"):
        SequentialLR(o, [a, b], [3])
    b.interval = "batch"
    assert SequentialLR(o, [a, b], [3]).interval == "batch"


@EVERY
@pytest.mark.parametrize("steps", [0, 3, 11])
@pytest.mark.parametrize("by_file", [False, True])
def test_a_loaded_schedule_continues_bit_for_bit(name: str, options: dict[str, Any], steps: int, by_file: bool) -> None:
    frame = figures.Framework()

    def start() -> tuple[SGD, Any]:
        o = optimizer(0.1, groups=2, momentum=0.9)
        o.param_groups[1]["lr"] = 0.02
        return o, figures.make(frame, o, name, options)

    def go(schedule: Any, t: int) -> None:
        schedule.step(*[figures.metric(t)] * schedule.wants_metric)

    o, schedule = start()
    for t in range(steps):
        go(schedule, t)
    fresh_o, fresh = start()
    state = schedule.state_dict()
    fresh.load_state_dict(json.loads(json.dumps(state)) if by_file else state)
    assert fresh.get_last_lr() == schedule.get_last_lr()
    for t in range(steps, steps + 20):
        assert [group["lr"] for group in o.param_groups] == [group["lr"] for group in fresh_o.param_groups]
        assert [group["momentum"] for group in o.param_groups] == [group["momentum"] for group in fresh_o.param_groups]
        go(schedule, t)
        go(fresh, t)
    assert fresh.state_dict() == schedule.state_dict()


def test_a_state_is_a_copy() -> None:
    schedule = MultiStepLR(optimizer(), [2])
    state = schedule.state_dict()
    before = copy.deepcopy(state)
    schedule.step()
    assert state == before
    fresh = MultiStepLR(optimizer(), [2])
    fresh.load_state_dict(state)
    state["milestones"].append(3)
    assert fresh.milestones == [2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, "None"),
        ({"extra": 1}, "a state of .*extra"),
        ({"gamma": "x"}, "gamma"),
        ({"last_epoch": 1.5}, "last_epoch"),
        ({"base_lrs": [1.0, 2.0]}, "base_lrs"),
        ({"_last_lr": [None]}, "_last_lr"),
    ],
)
def test_a_bad_state_is_refused_and_changes_nothing(change: Any, words: str) -> None:
    schedule = StepLR(optimizer(), 2)
    schedule.step()
    before = schedule.state_dict()
    with pytest.raises(ArgumentError, match=f"StepLR.load_state_dict.*{words}"):
        schedule.load_state_dict(None if change is None else {**before, **change})  # type: ignore[arg-type] # on purpose
    assert schedule.state_dict() == before
    o = optimizer()
    both = SequentialLR(o, [LinearLR(o), StepLR(o, 2)], [3])
    state = both.state_dict()
    state["schedulers"] = state["schedulers"][::-1]
    with pytest.raises(ArgumentError, match=r"SequentialLR.load_state_dict: schedulers"):
        both.load_state_dict(state)


def bad_calls() -> list[tuple[Any, Any, str]]:
    o, momentum = optimizer(), optimizer(momentum=0.9)
    ready = [LinearLR(o), StepLR(o, 2)]
    return [
        (lambda: StepLR(mg, 3), DTypeError, "StepLR: optimizer: a module"),
        (lambda: StepLR(o, 0), ArgumentError, "step_size"),
        (lambda: StepLR(o, 2.5), ArgumentError, "step_size"),
        (lambda: StepLR(o, 2, gamma=-1), ArgumentError, "gamma"),
        (lambda: ExponentialLR(o, math.nan), ArgumentError, "gamma"),
        (lambda: MultiStepLR(o, 3), ArgumentError, "milestones"),
        (lambda: MultiStepLR(o, np.array(3)), ArgumentError, r"milestones: int64 \(\)"),
        (lambda: MultiStepLR(o, [0]), ArgumentError, r"milestones\[0\]: int 0; .*; write milestones=\[30, 60\]"),
        (lambda: MultiStepLR(o, [5, "a"]), ArgumentError, r"milestones\[1\]: str 'a'; .*; write milestones=\[30, 60\]"),
        (lambda: LinearLR(o, start_factor=0), ArgumentError, "start_factor"),
        (lambda: LinearLR(o, start_factor=1.5), ArgumentError, "start_factor"),
        (lambda: LinearLR(o, end_factor=1.5), ArgumentError, "end_factor"),
        (lambda: LinearLR(o, total_iters=0), ArgumentError, "total_iters"),
        (lambda: CosineAnnealingLR(o, 0), ArgumentError, "T_max"),
        (lambda: CosineAnnealingLR(o, 5, eta_min=-1), ArgumentError, "eta_min"),
        (lambda: LambdaLR(o, 3), DTypeError, "lr_lambda"),
        (
            lambda: LambdaLR(o, [abs, abs]),
            ArgumentError,
            "2 functions; expected one for each of 1 groups; pass one function",
        ),
        (
            lambda: LambdaLR(o, lambda t: None),
            ArgumentError,
            "LambdaLR: lr_lambda: the factor None for group 0 at step 0",
        ),
        (lambda: OneCycleLR(momentum, 1.0), ArgumentError, "total_steps"),
        (lambda: OneCycleLR(momentum, 1.0, 0), ArgumentError, "total_steps"),
        (lambda: OneCycleLR(momentum, -1.0, 10), ArgumentError, "max_lr"),
        (lambda: OneCycleLR(momentum, [1.0, 1.0], 10), ArgumentError, "max_lr: 2 numbers"),
        (lambda: OneCycleLR(momentum, 1.0, 10, pct_start=2), ArgumentError, "pct_start"),
        (lambda: OneCycleLR(momentum, 1.0, 10, anneal_strategy="sin"), ArgumentError, "anneal_strategy"),
        (lambda: OneCycleLR(momentum, 1.0, 10, max_momentum=1), ArgumentError, "max_momentum"),
        (lambda: OneCycleLR(Adagrad(o._parameters()), 1.0, 10), ArgumentError, "cycle_momentum"),
        (lambda: SequentialLR(o, [], []), ArgumentError, "milestones"),
        (lambda: SequentialLR(o, ready[0], []), DTypeError, "SequentialLR: schedulers: a LinearLR"),
        (lambda: SequentialLR(o, ready, []), ArgumentError, "one fewer"),
        (lambda: SequentialLR(o, [*ready, ready[0]], [4, 4]), ArgumentError, "above the one before"),
        (lambda: SequentialLR(momentum, ready, [4]), ArgumentError, "a LinearLR at 0; expected schedules of the same"),
        (lambda: SequentialLR(o, [ready[0], ReduceLROnPlateau(o)], [4]), ArgumentError, "ReduceLROnPlateau at 1"),
        (lambda: ReduceLROnPlateau(o, mode="best"), ArgumentError, "mode"),
        (lambda: ReduceLROnPlateau(o, factor=1.0), ArgumentError, "factor"),
        (lambda: ReduceLROnPlateau(o, patience=-1), ArgumentError, "patience"),
        (lambda: ReduceLROnPlateau(o, threshold_mode="x"), ArgumentError, "threshold_mode"),
        (lambda: ReduceLROnPlateau(o, min_lr=[0.1, 0.1]), ArgumentError, "min_lr"),
        (lambda: ReduceLROnPlateau(o).step(), ArgumentError, "metrics"),
        (lambda: ReduceLROnPlateau(o).step("a"), DTypeError, "ReduceLROnPlateau.step: metrics: data is str 'a'"),
        (lambda: ReduceLROnPlateau(o).step({"loss": 1.0}), DTypeError, "metrics: data is a dict"),
        (lambda: ReduceLROnPlateau(o).step([1.0, 2.0]), ShapeError, r"metrics: float64 \(2,\); expected one number"),
    ]


@pytest.mark.parametrize("i", range(len(bad_calls())))
def test_bad_input_is_refused(i: int) -> None:
    call, error, words = bad_calls()[i]
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        (lambda o: ReduceLROnPlateau(o, "minimum"), 'mode="min"'),
        (lambda o: ReduceLROnPlateau(o, "Min"), 'mode="min"'),
        (lambda o: ReduceLROnPlateau(o, "maximize"), 'mode="max"'),
        (lambda o: ReduceLROnPlateau(o, "best"), 'mode="min"'),
        (lambda o: ReduceLROnPlateau(o, threshold_mode="absolute"), 'threshold_mode="abs"'),
        (lambda o: OneCycleLR(o, 1.0, 10, anneal_strategy="cosine"), 'anneal_strategy="cos"'),
        (lambda o: OneCycleLR(o, 1.0, 10, anneal_strategy=3), 'anneal_strategy="cos"'),
    ],
)
def test_a_wrong_choice_is_answered_with_the_nearest(call: Any, fix: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call(optimizer(momentum=0.9))
    assert caught.value.fix == f"write {fix}, for example"


@pytest.mark.parametrize("bad", [-0.5, math.nan, math.inf, "x"])
def test_a_schedule_that_goes_wrong_is_named_and_changes_nothing(bad: Any) -> None:
    o = optimizer(groups=2)
    schedule = LambdaLR(o, [lambda t: 1 / (1 + t), lambda t: bad if t == 2 else 1.0])
    schedule.step()
    before = schedule.state_dict()
    for _ in range(2):
        with pytest.raises(ArgumentError, match=r"^LambdaLR: lr_lambda: the factor .* for group 1 at step 2; "):
            schedule.step()
        assert schedule.state_dict() == before
        assert [group["lr"] for group in o.param_groups] == [0.5, 1.0]

    class Falling(LRScheduler):
        def _next(self, i: int, lr: float) -> float:
            return lr - 0.75

    falling = Falling(optimizer())
    with pytest.raises(ArgumentError, match=r"^Falling: a learning rate of -0.5 for group 0 at step 1; "):
        falling.step()
    assert falling.get_last_lr() == [falling.optimizer.param_groups[0]["lr"]] == [0.25]
    assert falling.last_epoch == 0


def test_a_group_added_later_is_refused() -> None:
    o = optimizer()
    schedule = StepLR(o, 2)
    o.add_param_group({"params": [mg.Tensor(1.0, requires_grad=True)]})
    with pytest.raises(ArgumentError, match="an optimiser with 2 groups; expected 1"):
        schedule.step()
    assert schedule.last_epoch == 0


def test_a_metric_that_is_nan_is_not_better() -> None:
    schedule = ReduceLROnPlateau(optimizer(), patience=1, factor=0.5)
    for value in (1.0, math.nan, mg.Tensor([math.nan])):
        schedule.step(value)  # type: ignore[arg-type] # a tensor with one number will do
    assert schedule.get_last_lr() == [0.5]
    assert schedule.best == 1


def test_states_of_optimisers_hold_what_schedules_note() -> None:
    o = optimizer()
    LinearLR(o)
    fresh = optimizer()
    fresh.load_state_dict(o.state_dict())
    assert fresh.param_groups[0]["initial_lr"] == 1
    assert fresh.param_groups[0]["lr"] == pytest.approx(1 / 3)
