"""A step of an optimiser, recorded: its update is a list of NumPy calls, its options and counts are read anew."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.optim.optimizer import Optimizer
from minigrad.tensor import Tensor

__all__ = ["Stale", "record_step"]


class Stale(Exception):
    """The world is not as the program takes it to be: it has to be recorded anew."""


def record_step(recorder: Any, optimizer: Optimizer, closure: Callable[[], Any] | None) -> Any:
    """optimizer.step(closure), done and recorded."""
    loss = None if closure is None else optimizer._evaluate(closure)
    written = f"{optimizer._name}.step"
    if optimizer in recorder.own_objects:
        _own_step(recorder, optimizer, written)
        return loss
    steps = _Steps.of(recorder, optimizer)
    for i, option, slots, p, g, kept in optimizer._plans():
        step: Any = 0
        if slots:
            steps.keep(p)
            kept = kept or optimizer._begin(option, slots, p)
            step = steps.count(p)
            kept = [recorder.look(steps.cell(p, name)) for name in slots]
        x = p._writable()
        p._touch(written)
        optimizer._update(steps.options(i, option), step, x, g, np.empty_like(x), np.empty_like(x), *kept)
    return loss


def _own_step(recorder: Any, optimizer: Optimizer, written: str) -> None:
    """A step of an optimiser that the function has made: its options and counts are constants, its state is new."""
    for _, option, slots, p, g, kept in optimizer._plans():
        step = 0
        if slots:
            optimizer._begin(option, slots, p)
            state = optimizer.state[p]
            for name in slots:
                if type(state[name]) is np.ndarray:
                    state[name] = recorder.call(np.copy, (state[name],))
            kept = [state[name] for name in slots]
            state["step"] = step = state.get("step", 0) + 1
        x = p._writable()
        p._touch(written)
        optimizer._update(option, step, x, g, np.empty_like(x), np.empty_like(x), *kept)


class _Steps:
    """What a program reads of an optimiser: options of its groups, and at which step its parameters are."""

    def __init__(self, recorder: Any, optimizer: Optimizer) -> None:
        self.recorder, self.optimizer = recorder, optimizer
        self.now: dict[int, dict[str, Any]] = {}  # the options of each group, as of this replay
        self.fixed: dict[int, dict[str, Any]] = {}  # those that are no numbers
        self.read: dict[int, dict[str, Any]] = {}  # their stand-ins
        self.slots: dict[int, tuple[str, ...]] = {}  # which arrays are kept under these options
        self.counted: dict[int, list[Tensor]] = {}  # by how many steps a parameter had made
        self.counts: dict[int, Any] = {}
        self.made: dict[Tensor, int] = {}  # in this program
        self.floors: dict[int, float] = {}  # what each group's update adds to a root, which was checked for its dtypes
        self.params = [list(group["params"]) for group in optimizer.param_groups]

    @classmethod
    def of(cls, recorder: Any, optimizer: Optimizer) -> _Steps:
        """The one of this recording."""
        found: _Steps | None = recorder.optimisers.get(id(optimizer))
        if found is None:
            found = recorder.optimisers[id(optimizer)] = cls(recorder, optimizer)
            recorder.begins.append(found.begin)
            recorder.ends.append(found.end)
        return found

    def options(self, i: int, option: dict[str, Any]) -> dict[str, Any]:
        """The options of group i, with stand-ins for numbers."""
        if i not in self.read:
            self.floors[i], self.slots[i] = self.optimizer._floor(option), self.optimizer._slots(option)
            self.now[i], self.fixed[i] = option, {k: v for k, v in option.items() if not _is_number(v)}
            self.read[i] = {name: self._option(i, name, value) for name, value in option.items()}
        return self.read[i]

    def _option(self, i: int, name: str, value: Any) -> Any:
        text = f"{{}}[{i}][{name!r}]"
        if isinstance(value, tuple):
            return tuple(self.recorder.read(part, f"{text}[{k}]", self.now) for k, part in enumerate(value))
        return self.recorder.read(value, text, self.now) if _is_number(value) else value

    def keep(self, p: Tensor) -> None:
        """See to it that p's state can be put back."""
        state = self.optimizer.state
        if p not in self.made:
            before = dict(state[p]) if p in state else None

            def back() -> None:
                if before is None:
                    state.pop(p, None)
                else:
                    state[p] = before

            self.recorder.undo.append(back)
            self.made[p] = 0

    def cell(self, p: Tensor, name: str) -> Any:
        """The place of one array of p's state."""
        optimizer = self.optimizer  # whose state load_state_dict replaces
        cell = self.recorder.cell(
            ("state", id(optimizer), id(p), name),
            optimizer,
            f"{name} of {{}}",
            lambda: optimizer.state[p][name],
            lambda new: optimizer.state[p].__setitem__(name, new),
        )
        cell.about = p
        return cell

    def count(self, p: Tensor) -> Any:
        """The how manieth step of p this is."""
        state = self.optimizer.state[p]
        first = state.get("step", 0) - self.made[p]
        self.made[p] += 1
        state["step"] = first + self.made[p]
        members = self.counted.setdefault(first, [])
        if self.made[p] == 1:
            members.append(p)
        key = state["step"]
        if key not in self.counts:
            text = f"{{}}.state[{{}}]['step'] + {self.made[p]}"
            self.counts[key] = self.recorder.read(key, text, self.optimizer, p)
        return self.counts[key]

    def begin(self) -> None:
        """Before a replay: Stale where options or states are not what they were."""
        optimizer = self.optimizer
        if len(optimizer.param_groups) != len(self.params):
            raise Stale
        for group, params in zip(optimizer.param_groups, self.params, strict=True):
            if len(group["params"]) != len(params) or not all(map(operator.is_, group["params"], params)):
                raise Stale
        for i, fixed in self.fixed.items():
            option, floor = optimizer._current(i)
            if option is not self.now[i]:
                other = floor != self.floors[i] or optimizer._slots(option) != self.slots[i]
                if other or any(option[name] != value for name, value in fixed.items()):
                    raise Stale
                self.now[i] = option
        state = optimizer.state
        for members in self.counted.values():
            first = None
            for p in members:
                kept = state.get(p)
                if kept is None or "step" not in kept:
                    raise Stale
                if first is None:
                    first = kept["step"]
                elif kept["step"] != first:
                    raise Stale

    def end(self) -> None:
        """After it: the parameters have made their steps."""
        state = self.optimizer.state
        for p, number in self.made.items():
            state[p]["step"] += number


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
