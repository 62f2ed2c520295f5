"""The base of the optimisers, from making groups to stepping through blocks of memory to states."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from minigrad.autograd import enable_grad
from minigrad.errors import ArgumentError, DTypeError, MinigradError, ShapeError, describe
from minigrad.optim.options import Option, check_option, count, flag, listed, name_of, real
from minigrad.optim.states import saved_array, saved_parts
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
        by parameter. Everything stays in the parameter's dtype.
    Parameters without a gradient are left out of a step, and so are frozen ones, with requires_grad=False: they have
    no state, and take part once requires_grad is True.
    A subclass declares `options`, and the names of the arrays it keeps in `_slots`, and writes `_update`.
    Raises DTypeError for what is no tensor, ArgumentError for no parameters, for one that is there twice or is not a
    leaf, where none at all requires a gradient, and for options out of range.

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
        self._known: list[tuple[Group, float]] = []  # of each group: options that have been checked, and their floor
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
        parameters = list(self._parameters())
        if not any(p.requires_grad for p in parameters):
            others = f", nor does any other of the {len(parameters)}" if len(parameters) > 1 else ""
            raise ArgumentError(
                f"{self._name}: params",
                f"{name_of(parameters[0], 0)}, {describe(parameters[0])}, requires no gradient{others}",
                "tensors that backward() collects a gradient for",
                "set requires_grad = True for those that are to be trained",
            )

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        groups = []
        for group in self.param_groups:
            options = ", ".join(f"{name}={group[name]}" for name in self.options)
            groups.append(f"{len(group['params'])} parameters, {options}")
        return f"{self._name}({'; '.join(groups)})"

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Takes more parameters in: a dict with "params" and the options that differ from the defaults.

        All of them may be frozen. Otherwise raises what making an optimiser raises, and changes nothing then.

        >>> import minigrad as mg
        >>> optimizer = mg.optim.SGD([Tensor([1.0], requires_grad=True)], lr=0.1)
        >>> optimizer.add_param_group({"params": [Tensor([2.0], requires_grad=True)], "lr": 0.01})
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.1, 0.01]
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
        options = self._checked(options)
        self._check_floor(options, self._floor(options), params)
        self.param_groups.append({"params": params, **options})

    @staticmethod
    def _check_parameter(where: str, p: Tensor, i: int) -> None:
        if p.requires_grad and p._node is not None and p._node.op is not None:
            raise ArgumentError(
                where,
                f"{name_of(p, i)}, {describe(p)}, is a result of {p._node.op}",
                "a leaf: a tensor that no op has made",
                "pass the tensors it was computed from, or t.detach() with requires_grad=True",
            )
        if p.dtype.kind != "f":
            raise ArgumentError(
                where,
                f"{name_of(p, i)}, {describe(p)}, which can never have a gradient",
                "tensors of floats",
                "leave it out: write [p for p in model.parameters() if p.requires_grad]",
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

    def _floor(self, option: Mapping[str, Any]) -> float:
        """The least that an update adds to a root to divide by it; 0 where it adds nothing."""
        return 0.0

    def _check_floor(self, option: Mapping[str, Any], floor: float, params: Iterable[Tensor]) -> None:
        """ArgumentError where eps vanishes in a parameter's dtype: a gradient of 0 would make it 0 / 0."""
        for p in params:
            if floor and p.requires_grad and not p.dtype.type(floor):
                raise ArgumentError(
                    f"{self._name}: eps",
                    f"eps={option['eps']} for a parameter{f' ({p.name!r})' if p.name else ''}, {describe(p)}",
                    f"an eps that {p.dtype} can tell from 0: it keeps 0 / 0 away",
                    "make the parameters float32, or write eps=1e-4",
                )

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters: `.grad` becomes None, or with set_to_none=False 0 in place.

        Parameters whose gradient is 0 take part in a step, which weight_decay and momentum still move them in.
        Raises ArgumentError for a set_to_none that is neither True nor False.

        >>> import minigrad as mg
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = mg.optim.SGD([x])
        >>> x.grad = [3.0, 4.0]
        >>> optimizer.zero_grad(set_to_none=False)
        >>> x.grad
        array([0., 0.])
        >>> optimizer.zero_grad()
        >>> x.grad is None
        True
        """
        forget = check_option(f"{self._name}.zero_grad", "set_to_none", set_to_none, flag)
        for p in self._parameters():
            if forget:
                p.zero_grad()
            elif p.grad is not None:
                p.grad[...] = 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient, in place; returns what closure returned, or None.

        closure: computes the loss and the gradients anew: zero_grad(), loss.backward(), return loss.
        Raises ArgumentError for an option in param_groups that has since been set out of range, ShapeError for a
        parameter that has got another shape or dtype than the state kept for it; nothing has been changed then.

        >>> import minigrad as mg
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = mg.optim.SGD([x], lr=0.5)
        >>> (x * x).sum().backward()
        >>> optimizer.step()
        >>> x.numpy()
        array([0., 0.])
        """
        loss = None if closure is None else self._evaluate(closure)
        written = f"{self._name}.step"
        for _, option, slots, p, g, kept in self._plans():
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

    def _plans(self) -> list[tuple[int, Group, tuple[str, ...], Tensor, Array, list[Array]]]:
        """For each parameter with a gradient: its group and options, slots, gradient, what is kept; checked."""
        plans, known = [], []
        for i, group in enumerate(self.param_groups):
            option, floor = self._current(i)
            changed = i >= len(self._known) or floor != self._known[i][1]
            slots = self._slots(option)
            for p in group["params"]:
                g = p.grad
                if g is not None:
                    kept = self._kept(p, slots)
                    if floor and (changed or not kept):
                        self._check_floor(option, floor, [p])
                    plans.append((i, option, slots, p, g, kept))
            known.append((option, floor))
        self._known = known
        return plans

    def _current(self, i: int) -> tuple[Group, float]:
        """The options of a group, converted, and their floor; those are checked that differ from the last step's."""
        group = self.param_groups[i]
        given = {name: group.get(name) for name in self.options}
        known = self._known[i][0] if i < len(self._known) else {}
        try:
            if i < len(self._known) and given == known:
                return self._known[i]
        except Exception:  # of arrays, say, that are neither equal nor different: the check has the words for them
            pass
        option = {}
        try:
            for name, value in given.items():
                same = name in known and value is known[name]
                option[name] = value if same else check_option(self._name, name, value, self.options[name])
            self._check_together(option)
        except MinigradError as error:
            got = f"{error.got} in param_groups[{i}]"
            raise type(error)(error.function, got, error.expected, error.fix) from None
        return option, self._floor(option)

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

    def state_dict(self) -> dict[str, Any]:
        """What a later run needs to continue: copies, with the parameters numbered through all groups.

        {"state": {number: {name: array or number}}, "param_groups": [{option: value, "params": [number, ...]}]}

        >>> import minigrad as mg
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = mg.optim.SGD([x], lr=0.5, momentum=0.9)
        >>> x.grad = [3.0, 4.0]
        >>> optimizer.step()
        >>> optimizer.state_dict()["state"]
        {0: {'momentum_buffer': array([3., 4.]), 'step': 1}}
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

        >>> import minigrad as mg
        >>> first, second = (mg.optim.SGD([Tensor([1.0], requires_grad=True)], lr=lr) for lr in (0.5, 0.1))
        >>> second.load_state_dict(first.state_dict())
        >>> second.param_groups[0]["lr"]
        0.5
        """
        where = f"{self._name}.load_state_dict"
        here = [len(group["params"]) for group in self.param_groups]
        groups, states = saved_parts(where, state_dict, here)
        options = [self._saved_options(where, group) for group in groups]
        for option, group in zip(options, self.param_groups, strict=True):
            self._check_floor(option, self._floor(option), group["params"])
        parameters = list(self._parameters())
        by_parameter = [option for option, n in zip(options, here, strict=True) for _ in range(n)]
        loaded = {}
        for i, state in states.items():
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
                number = value.item() if hasattr(value, "item") else value
                if isinstance(number, float) and number.is_integer():  # as PyTorch has it
                    number = int(number)
                loaded[name] = check_option(where, name, number, count)
            else:
                loaded[name] = saved_array(where, name, value, p.shape, p.dtype)
        return loaded
