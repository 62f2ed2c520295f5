"""Runs that test_optim.py and test_schedulers.py compare with PyTorch's: with PyTorch itself, or its stored figures.

    python tests/optim_figures.py     writes optim_figures.json anew; needs PyTorch

A run is written once, for both packages: Framework is all that differs between them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_suffix(".json")

STEPS = 100
STORED = (1, 2, 10, 100)  # the steps whose values are stored
SHAPES = [(2, 3), (4,), (), (1, 2, 1)]

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.01, "momentum": 0.5, "dampening": 0.3, "weight_decay": 0.1, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
    ("Adagrad", {"lr": 0.1, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.8, "eps": 1e-4, "weight_decay": 0.1}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"momentum": 0.8}),
    ("RMSprop", {"momentum": 0.8, "centered": True, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": 0.3, "amsgrad": True}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3, "maximize": True}),
]

SEARCHES: list[dict[str, Any]] = [
    {"lr": 0.1},
    {"lr": 0.5, "max_iter": 4, "history_size": 3},
    {"line_search_fn": "strong_wolfe", "max_iter": 3},
    {"line_search_fn": "strong_wolfe", "max_iter": 4, "history_size": 2},
    {"line_search_fn": "strong_wolfe", "lr": 20.0, "max_iter": 3, "max_eval": 20},
    {"line_search_fn": "strong_wolfe", "lr": 0.01, "max_iter": 6, "max_eval": 9},
    {"line_search_fn": "strong_wolfe", "lr": 300.0, "max_iter": 2, "max_eval": 40},
    {"line_search_fn": "strong_wolfe", "lr": 1000.0, "max_iter": 4, "max_eval": 40},
]

RATES = [0.1, 0.02]

SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 4}),
    ("StepLR", {"step_size": 1, "gamma": 0.9}),
    ("MultiStepLR", {"milestones": [3, 10, 10, 17], "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.6, "total_iters": 12}),
    ("CosineAnnealingLR", {"T_max": 7}),
    ("CosineAnnealingLR", {"T_max": 50, "eta_min": 0.001}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 41}),
    ("OneCycleLR", {"max_lr": [0.5, 0.1], "epochs": 10, "steps_per_epoch": 5, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 60, "three_phase": True, "pct_start": 0.25, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 45, "cycle_momentum": False, "final_div_factor": 10.0}),
    ("ReduceLROnPlateau", {"patience": 2}),
    ("ReduceLROnPlateau", {"mode": "max", "factor": 0.5, "patience": 0, "cooldown": 3, "min_lr": [0.01, 0.001]}),
    ("ReduceLROnPlateau", {"threshold": 0.1, "threshold_mode": "abs", "patience": 1, "eps": 0.001}),
    ("ReduceLROnPlateau", {"mode": "max", "threshold": 0.1, "threshold_mode": "abs", "patience": 1}),
    ("LambdaLR", {}),
    ("SequentialLR", {"milestones": [5], "of": [["LinearLR", {}], ["CosineAnnealingLR", {"T_max": 20}]]}),
    (
        "SequentialLR",
        {
            "milestones": [4, 12],
            "of": [
                ["LinearLR", {"start_factor": 0.5}],
                ["StepLR", {"step_size": 3}],
                ["MultiStepLR", {"milestones": [2]}],
            ],
        },
    ),
    ("SequentialLR", {"milestones": [3], "of": [["ExponentialLR", {"gamma": 0.5}], ["LambdaLR", {}]]}),
]


def key(name: str, options: dict[str, Any]) -> str:
    """The name of a run."""
    return f"{name}({', '.join(f'{option}={value}' for option, value in options.items())})"


class Framework:
    """minigrad as the runs use it; a subclass makes it PyTorch."""

    def __init__(self) -> None:
        import minigrad

        self.optim = minigrad.optim
        self.tensor = minigrad.Tensor

    def leaf(self, values: Any) -> Any:
        return self.tensor(values, requires_grad=True)

    def values(self, p: Any) -> Any:
        return p.numpy().copy()

    def put(self, p: Any, g: Any) -> None:
        p.grad = g

    def schedule(self, name: str) -> Any:
        return getattr(self.optim.lr_scheduler, name)


class PyTorch(Framework):
    """PyTorch by the same names."""

    def __init__(self, torch: Any) -> None:
        self.optim = torch.optim
        self.tensor = torch.tensor

    def values(self, p: Any) -> Any:
        return p.detach().numpy().copy()

    def put(self, p: Any, g: Any) -> None:
        p.grad = None if g is None else self.tensor(g)


def wave(shape: tuple[int, ...], phase: float) -> Any:
    """Numbers of both signs that are the same everywhere."""
    return np.sin(0.3 + phase + 1.3 * np.arange(np.prod(shape, dtype=int)) ** 1.5).reshape(shape)


def trajectory(frame: Framework, name: str, options: dict[str, Any]) -> list[Any]:
    """The parameters as one vector after each of the steps: two groups, and gradients that are missing at times."""
    ps = [frame.leaf(wave(shape, 0.5 * i)) for i, shape in enumerate(SHAPES)]
    lr = options.get("lr", 0.01)
    groups = [{"params": ps[:2]}, {"params": ps[2:], "lr": lr / 3, "weight_decay": 0.05}]
    optimizer = getattr(frame.optim, name)(groups, **options)
    found = []
    for t in range(STEPS):
        for i, p in enumerate(ps):
            x = frame.values(p)
            g = wave(x.shape, 0.7 * t * (i + 1)) + np.sign(0.5 - options.get("maximize", False)) * 0.5 * x
            frame.put(p, None if i and (t + i) % 5 == 3 else np.asarray(g))
        optimizer.step()
        found.append(np.concatenate([frame.values(p).reshape(-1) for p in ps]))
    return found


def search(frame: Framework, options: dict[str, Any]) -> list[Any]:
    """Losses and parameters after each of 3 steps of L-BFGS down a valley that bends.

    Few, because near the end rounding decides whether a search goes on.
    """
    x, y = frame.leaf(wave((3,), 0.0)), frame.leaf(np.asarray(-0.5))
    optimizer = frame.optim.LBFGS([x, y], **options)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = ((x - y * y) ** 2).sum() * 2 + (1 - x).sum() ** 2 + (y - 0.3) ** 2 + (x**4).sum() * 0.1
        loss.backward()
        return loss

    found = []
    for _ in range(3):
        loss = optimizer.step(closure).item()
        found.append(np.array([loss, *frame.values(x), frame.values(y).item()]))
    return found


def rates(frame: Framework, name: str, options: dict[str, Any], steps: int = 40) -> list[list[float]]:
    """The learning rates, and the momenta, of two groups from step to step."""
    ps = [frame.leaf(np.zeros(2)) for _ in RATES]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(ps, RATES, strict=True)]
    optimizer = frame.optim.SGD(groups, momentum=0.9)
    schedule = make(frame, optimizer, name, options)
    found = []
    for t in range(steps):
        found.append([group[option] for group in optimizer.param_groups for option in ("lr", "momentum")])
        optimizer.step()
        schedule.step(*[metric(t)] * (name == "ReduceLROnPlateau"))
    return found


def make(frame: Framework, optimizer: Any, name: str, options: dict[str, Any]) -> Any:
    """A schedule of that name."""
    if name == "SequentialLR":
        of = [make(frame, optimizer, *part) for part in options["of"]]
        return frame.schedule(name)(optimizer, of, milestones=options["milestones"])
    if name == "LambdaLR":
        return frame.schedule(name)(optimizer, [lambda t: 1 / (1 + t), lambda t: 0.9**t])
    return frame.schedule(name)(optimizer, **options)


def metric(t: int) -> float:
    """A metric that falls, rises and stands still."""
    return [1.0, 0.8, 0.9, 0.8, 0.8, 0.95, 0.7, 0.7, 0.7, 0.7, 0.65, 0.7, 0.8, 0.9, 1.2, 1.3, 1.3, 1.25][t % 18]


def figures(frame: Framework) -> dict[str, dict[str, Any]]:
    """What is stored."""

    def each(table: list[Any], run: Callable[[Any], Any], name: Callable[[Any], str]) -> dict[str, Any]:
        return {name(case): np.asarray(run(case)).tolist() for case in table}

    return {
        "optimizers": each(
            OPTIMIZERS, lambda case: [trajectory(frame, *case)[t - 1] for t in STORED], lambda case: key(*case)
        ),
        "searches": each(SEARCHES, lambda case: search(frame, case), lambda case: key("LBFGS", case)),
        "schedules": each(SCHEDULES, lambda case: rates(frame, *case), lambda case: key(*case)),
    }


def stored() -> dict[str, dict[str, Any]]:
    """The figures that PyTorch gave when the file was written."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def main() -> None:
    """Writes the file."""
    import torch

    lines = []
    for part, table in figures(PyTorch(torch)).items():
        entries = [f"  {json.dumps(name)}: {json.dumps(rows)}" for name, rows in table.items()]
        lines.append(f" {json.dumps(part)}: {{\n" + ",\n".join(entries) + "\n }")
    lines.insert(0, f' "from": {json.dumps({"PyTorch": torch.__version__})}')
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
