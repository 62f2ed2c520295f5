"""The base of the optimisers, from making groups to stepping through blocks of memory to states."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from minigrad.autograd import enable_grad
from minigrad.errors import ArgumentError, DTypeError, MinigradError, ShapeError, describe
from minigrad.optim.options import Option, check_option, count, listed, name_of, real
from minigrad.tensor import Tensor

__all__ = ["Optimizer"]

Array = NDArray[Any]
Group = dict[str, Any]

# Larger parameters are updated in blocks of this many bytes, which stay in the cache through the passes of an update
# and bound the scratch. Measured on 784-1024-1024-10 in float32: 0.95 x the time of whole arrays, while blocks of
# 512 KB take 1.15 x and of 64 KB 1.6 x, since each pass then costs its call.
_BLOCK = 1 << 21

# What schedules note in a group.
_NOTES = {"initial_lr": real}


class Optimizer:
    """What all optimisers share: groups of parameters with their options, and a state for each parameter.

    params: tensors with requires_grad=True, or dicts, each with "params" and options for these alone.
    defaults: the options of parameters whose group says nothing else.
    param_groups: the groups as dicts; options in it can be changed between steps. state: what is kept between steps,
        by parameter. Parameters without a gradient are left out of a step. Everything stays in the parameter's dtype.
    A subclass declares `options`, and the names of the arrays it keeps in `_slots`, and writes `_update`.
    Raises DTypeError for what is no tensor, ArgumentError for no parameters, one that is there twice, is not a leaf
    or requires no gradient, and for options out of range.

    >>> class Descent(Optimizer):
    ...     options = {"lr": real}
    ...     def _update(self, option, step, p, g, a, b):
    ...         np.subtract(p, np.multiply(g, option["lr"], out=a), out=p)
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> Descent([x], {"lr": 0.5}).step()
    >>> x.numpy()
    array([0., 0.])
    """

    options: ClassVar[dict[str, Option]] = {}
    _arrays: ClassVar[tuple[str, ...]] = ()  # every array that any choice of options keeps

    def __init__(self, params: Iterable[Tensor] | Iterable[Mapping[str, Any]], defaults: Mapping[str, Any]) -> None:
        self.defaults = self._checked(dict(defaults))
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._scratch: dict[np.dtype[Any], Array] = {}
        self._views: dict[tuple[np.dtype[Any], tuple[int, ...]], tuple[Array, Array]] = {}
        found = listed(f"{self._name}: params", params)
        grouped = [isinstance(item, Mapping) for item in found]
        if any(grouped) and not all(grouped):
            raise DTypeError(
                f"{self._name}: params",
                f"a mixture: dicts of groups and tensors, the first tensor at {grouped.index(False)}",
                "either tensors or dicts of groups",
                "put the tensors into a group of their own: {'params': [t]}",
            )
        for group in found if any(grouped) else [{"params": found}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        groups = []
        for group in self.param_groups:
            options = ", ".join(f"{name}={group[name]}" for name in self.options)
            groups.append(f"{len(group['params'])} parameters, {options}")
        return f"{self._name}({'; '.join(groups)})"

    # Groups

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Takes more parameters in: a dict with "params" and the options that differ from the defaults.

        Raises what making an optimiser raises, and changes nothing then.
        """
        where = f"{self._name}: params"
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise DTypeError(where, describe(param_group), 'a dict with "params"', "write {'params': [t], 'lr': 0.1}")
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else listed(where, params)
        seen = {id(p): i for i, p in enumerate(self._parameters())}
        for i, p in enumerate(params, start=len(seen)):
            if not isinstance(p, Tensor):
                raise DTypeError(where, f"{describe(p)} at {i}", "a tensor", "write one dict for each group")
            self._check_parameter(where, p, i)
            if id(p) in seen:
                raise ArgumentError(
                    where,
                    f"{name_of(p, i)} is there twice: {name_of(p, seen[id(p)])} is the same tensor",
                    "each parameter once, within and across the groups",
                    "leave one out; dict.fromkeys(parameters) keeps each once",
                )
            seen[id(p)] = i
        options = {**self.defaults, **{key: value for key, value in param_group.items() if key != "params"}}
        self.param_groups.append({"params": params, **self._checked(options)})

    @staticmethod
    def _check_parameter(where: str, p: Tensor, i: int) -> None:
        if p.requires_grad and p._node is not None and p._node.op is not None:
            raise ArgumentError(
                where,
                f"{name_of(p, i)}, {describe(p)}, is a result of {p._node.op}",
                "a leaf: a tensor that no op has made",
                "pass the tensors it was computed from, or t.detach() with requires_grad=True",
            )
        if not p.requires_grad:
            raise ArgumentError(
                where,
                f"{name_of(p, i)}, {describe(p)}, requires no gradient",
                "tensors that backward() collects a gradient for",
                "write [p for p in model.parameters() if p.requires_grad]",
            )

    def _checked(self, options: Mapping[str, Any]) -> Group:
        """The options of one group, converted; ArgumentError for one that is unknown or out of range."""
        checked = {}
        for name, value in options.items():
            kind = self.options.get(name) or _NOTES.get(name)
            if kind is None:
                near = difflib.get_close_matches(name, self.options, 1) or list(self.options)
                raise ArgumentError(
                    f"{self._name}: {name}",
                    f"an option that {self._name} does not have",
                    f"one of {', '.join(self.options)}",
                    f"write {near[0]}={self.options[near[0]].example}, for example",
                )
            checked[name] = check_option(self._name, name, value, kind)
        self._check_together(checked)
        return checked

    def _check_together(self, options: Group) -> None:
        """Raises for options that do not go together."""

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    # Stepping

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters: `.grad` becomes None."""
        for p in self._parameters():
            p.zero_grad()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient, in place; returns what closure returned, or None.

        closure: computes the loss and the gradients anew: zero_grad(), loss.backward(), return loss.
        Raises ArgumentError for a learning rate that has become negative or nan, ShapeError for a parameter that has
        got another shape or dtype than the state kept for it; no parameter has been changed then.
        """
        loss = None if closure is None else self._evaluate(closure)
        plans = []
        for group in self.param_groups:
            option = {name: _weak(group[name]) for name in self.options}
            if not option["lr"] >= 0:
                check_option(self._name, "lr", group["lr"], real)
            slots = self._slots(option)
            for p in group["params"]:
                g = p.grad
                if g is not None:
                    plans.append((option, slots, p, g, self._kept(p, slots)))
        written = f"{self._name}.step"
        for option, slots, p, g, kept in plans:
            step = 0
            if slots:
                kept = kept or self._begin(option, slots, p)
                state = self.state[p]
                state["step"] = step = state.get("step", 0) + 1
            x = p._writable()
            p._touch(written)
            if x.nbytes <= _BLOCK:
                self._update(option, step, x, g, *self._scratch_like(x), *kept)
            else:
                for arrays in self._blocks(x, g, kept):
                    self._update(option, step, *arrays)
        return loss

    def _evaluate(self, closure: Any) -> Any:
        if not callable(closure):
            raise DTypeError(
                f"{self._name}.step: closure",
                describe(closure),
                "a function that computes the loss and its gradients, and returns the loss",
                "write def closure(): optimizer.zero_grad(); loss = ...; loss.backward(); return loss",
            )
        with enable_grad():
            return closure()

    def _slots(self, option: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the arrays of a parameter's shape that are kept between steps under these options."""
        return self._arrays

    def _first_value(self, option: Mapping[str, Any]) -> float:
        return 0.0

    def _update(
        self, option: Mapping[str, Any], step: int, p: Array, g: Array, a: Array, b: Array, *kept: Array
    ) -> None:
        """One step for (a block of) a parameter, written into p and what is kept.

        step: the how manieth it is, from 1. g: the gradient, not to be written. a, b: scratch of the same shape.
        """
        raise NotImplementedError

    def _scratch_like(self, x: Array) -> tuple[Array, Array]:
        """Two arrays of x's shape and dtype to compute in: the same memory for every x that is asked for."""
        found = self._views.get((x.dtype, x.shape))
        if found is None:
            scratch = self._scratch.get(x.dtype)
            if scratch is None or scratch.shape[1] < x.size:
                self._views = {key: views for key, views in self._views.items() if key[0] != x.dtype}
                scratch = self._scratch[x.dtype] = np.empty((2, x.size), x.dtype)
            a, b = (s[: x.size].reshape(x.shape) for s in scratch)
            found = self._views[x.dtype, x.shape] = a, b
        return found

    def _blocks(self, x: Array, g: Array, kept: list[Array]) -> Iterator[tuple[Array, ...]]:
        """x, g, scratch and what is kept in pieces that the cache holds; whole where memory is in another order."""
        arrays = [x, g, *kept]
        if not all(array.flags.c_contiguous for array in arrays):
            yield x, g, *self._scratch_like(x), *kept
            return
        flat = [array.reshape(-1) for array in arrays]
        length = _BLOCK // x.itemsize
        for i in range(0, x.size, length):
            x, g, *kept = [array[i : i + length] for array in flat]
            yield x, g, *self._scratch_like(x), *kept

    def _kept(self, p: Tensor, slots: tuple[str, ...]) -> list[Array]:
        """The arrays that are kept for p, or none where some are still missing; ShapeError if p has changed since."""
        state = self.state.get(p) if slots else None
        if state is None:
            return []
        arrays = [state[name] for name in slots if name in state]
        for array in arrays:
            if array.shape != p.shape or array.dtype != p.dtype:
                name = next(name for name in slots if state.get(name) is array)
                raise ShapeError(
                    f"{self._name}.step",
                    f"{name_of(p, self._position(p))} is {describe(p)} and its {name} {describe(array)}",
                    "the shape and dtype that the parameter had at the earlier steps",
                    f"make a new {self._name} after changing a model's dtype or shapes",
                )
        return arrays if len(arrays) == len(slots) else []

    def _begin(self, option: Mapping[str, Any], slots: tuple[str, ...], p: Tensor) -> list[Array]:
        """Makes the arrays to be kept for p, where they are not there yet."""
        state = self.state.setdefault(p, {})
        for name in slots:
            if name not in state:
                state[name] = np.full(p.shape, self._first_value(option), p.dtype)
        return [state[name] for name in slots]

    def _position(self, p: Tensor) -> int:
        return next(i for i, q in enumerate(self._parameters()) if q is p)

    # States

    def state_dict(self) -> dict[str, Any]:
        """What a later run needs to continue: copies, with the parameters numbered through all groups.

        {"state": {number: {name: array or number}}, "param_groups": [{option: value, "params": [number, ...]}]}
        """
        groups: list[Group] = []
        start = 0
        for group in self.param_groups:
            numbers = list(range(start, start + len(group["params"])))
            groups.append({**{key: value for key, value in group.items() if key != "params"}, "params": numbers})
            start += len(numbers)
        states = ((i, self.state.get(p)) for i, p in enumerate(self._parameters()))
        return {"state": {i: self._packed(state) for i, state in states if state}, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continues where state_dict() was taken: options and states become those of state_dict, in copies.

        Numbers of parameters may be strings, as in files. Arrays are converted to their parameter's dtype.
        Raises ArgumentError or ShapeError for a state of other groups, parameters, options or shapes than this
        optimiser's, which is then as it was.
        """
        where = f"{self._name}.load_state_dict"
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
            raise ArgumentError(
                where, describe(state_dict), 'a dict with "state" and "param_groups"', "pass what state_dict() returned"
            )
        groups, states = state_dict["param_groups"], state_dict["state"]
        if not isinstance(groups, (list, tuple)) or not all(_is_group(group) for group in groups):
            raise ArgumentError(
                where, describe(groups), 'a list of dicts, each with a list "params"', "pass what state_dict() returned"
            )
        saved, here = ([len(group["params"]) for group in all_] for all_ in (groups, self.param_groups))
        if saved != here:
            raise ArgumentError(
                where,
                f"groups of {_words(saved)} parameters",
                f"groups of {_words(here)} parameters, as in this optimiser",
                "make the optimiser with the groups it was saved with",
            )
        options = [self._saved_options(where, group) for group in groups]
        parameters = list(self._parameters())
        numbers = [number for group in groups for number in group["params"]]
        place = {str(number): i for i, number in enumerate(numbers)}
        if not isinstance(states, Mapping) or len(place) != len(parameters):
            raise ArgumentError(
                where, describe(states), "a dict by each parameter's number", "pass what state_dict() returned"
            )
        loaded = {}
        by_parameter = [option for option, n in zip(options, here, strict=True) for _ in range(n)]
        for number, state in states.items():
            i = place.get(str(number))
            if i is None or not isinstance(state, Mapping):
                raise ArgumentError(
                    f"{where}: state",
                    f"{describe(state)} for parameter {number!r}",
                    f"dicts for the parameters {', '.join(place) if len(place) < 8 else f'0 to {len(place) - 1}'}",
                    "pass what state_dict() returned",
                )
            p = parameters[i]
            loaded[p] = self._unpacked(f"{where}: {name_of(p, i)}", p, by_parameter[i], state)
        self.state = loaded
        for group, option in zip(self.param_groups, options, strict=True):
            params = group["params"]
            group.clear()
            group.update(option, params=params)

    def _saved_options(self, where: str, group: Mapping[str, Any]) -> Group:
        options = {key: value for key, value in group.items() if key != "params"}
        missing = [name for name in self.options if name not in options]
        unknown = [name for name in options if name not in self.options and name not in _NOTES]
        if missing or unknown:
            words = [f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(unknown)}"] * bool(unknown)
            raise ArgumentError(
                where,
                f"a group {' and '.join(words)}",
                f"the options of {self._name}: {', '.join(self.options)}",
                "make the optimiser that the state was saved from",
            )
        try:
            return self._checked(options)
        except MinigradError as error:
            raise ArgumentError(where, f"{error.function}: {error.got}", error.expected, error.fix) from None

    def _packed(self, state: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in state.items()}

    def _unpacked(self, where: str, p: Tensor, option: Group, state: Mapping[str, Any]) -> dict[str, Any]:
        """The checked copy of a parameter's saved state."""
        wanted = {"step", *self._slots(option)}
        if not wanted <= state.keys() <= {"step", *self._arrays}:
            raise ArgumentError(
                where,
                f"a state of {', '.join(map(str, state))}",
                f"one of {', '.join(sorted(wanted))}",
                "load the state into the optimiser that it was saved from, with the same options",
            )
        loaded: dict[str, Any] = {}
        for name, value in state.items():
            if name == "step":
                loaded[name] = check_option(where, name, value.item() if hasattr(value, "item") else value, count)
            else:
                loaded[name] = self._array(where, name, value, p.shape, p.dtype)
        return loaded

    @staticmethod
    def _array(where: str, name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A copy of a saved array in dtype; ShapeError for another shape or for what holds no floats."""
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.shape != shape:
            raise ShapeError(
                f"{where}: {name}",
                describe(value),
                f"floats of shape {shape}, as the parameter has it",
                "load the state of a model of the same shapes",
            )
        return np.array(value, dtype, order="C")


def _weak(option: Any) -> Any:
    """An option as a Python number: NumPy's scalars would make float32 arrays float64."""
    return option.item() if isinstance(option, np.generic) else option


def _is_group(group: Any) -> bool:
    return isinstance(group, Mapping) and isinstance(group.get("params"), (list, tuple))


def _words(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "no"
