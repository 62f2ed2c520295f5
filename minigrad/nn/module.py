"""Module: a model or a part of one, with its parameters and its state.

In order: what it consists of, its state, what is done to all of it, how it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from minigrad import ArgumentError, DTypeError, LabelError, MinigradError, Tensor, no_grad
from minigrad.contract import numbers
from minigrad.errors import describe
from minigrad.standin import as_array
from minigrad.tape import Leaf
from minigrad.tensor import plain
from minigrad.watch import watched, within

__all__ = ["Loaded", "Module", "Parameter"]

Array = NDArray[Any]
M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A Tensor that is learned: a leaf that requires a gradient, found by the Module whose attribute it is.

    data: numbers of any shape, copied. dtype: a float dtype; None keeps that of the data.
    requires_grad: False for a parameter that is kept as it is, but belongs to the state.
    Raises DTypeError for data that are no floats.

    >>> Parameter([1.0, 2.0])
    Tensor([1., 2.], dtype=float64, requires_grad=True)
    """

    __slots__ = ()

    def __init__(
        self,
        data: ArrayLike | Tensor,
        dtype: DTypeLike | None = None,
        requires_grad: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(data, dtype, requires_grad, name)


class Loaded(NamedTuple):
    """What load_state_dict(strict=False) passed over: names that the state lacks, and that the model lacks."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A function with parameters: subclass it, make parameters and other modules its attributes, write forward.

    model(x) calls forward(x). Parameters, modules and buffers are those that are attributes, in the order in which they
    were assigned; they are named by the path to them, "layers.0.weight". An error that is raised within forward
    names the layer by its path.
    training: True after train(), False after eval(); Dropout and BatchNorm behave accordingly.

    >>> class Affine(Module):
    ...     def __init__(self, n, m):
    ...         self.W = Parameter(np.zeros((n, m)))
    ...         self.b = Parameter(np.zeros(m))
    ...     def forward(self, x):
    ...         return x @ self.W + self.b
    >>> affine = Affine(2, 3)
    >>> affine(np.ones((4, 2))).shape
    (4, 3)
    >>> affine
    Affine()  W (2, 3), b (3,): 9 parameters
    """

    training: bool = True
    _buffers: tuple[str, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes. To be written by the subclass."""
        raise DTypeError(
            f"{type(self).__name__}.forward", "a module without forward", "a forward", "write def forward(self, x)"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """forward; an error within it is given the path of the module that it was raised in."""
        try:
            if watched:
                with within(self):
                    return self.forward(*args, **kwargs)
            return self.forward(*args, **kwargs)
        except MinigradError as error:
            self._locate(error)
            raise

    def _locate(self, error: Any) -> None:
        """Puts the path of the innermost module in front of the error; each module on the way out makes it longer."""
        if not hasattr(error, "module"):
            error.module, error.inner = self, error.function
        try:
            found = next((name for name, module in self.named_modules() if module is error.module), None)
        except MinigradError:  # attributes that are no good, and would hide what is wrong here
            return
        if found is not None:
            path = ".".join(filter(None, [type(self).__name__, found]))
            where = f"{path}, {_heading(error.module)}" if found else path
            inner, name = error.inner, type(error.module).__name__
            inner = "" if inner == name else inner.removeprefix(f"{name}: ")
            error.function = f"{where}: {inner}" if inner else where
            error.args = (error.function, *error.args[1:])

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        if isinstance(old, Parameter) and value is not None and not isinstance(value, Parameter):
            raise DTypeError(
                f"{type(self).__name__}.{name}",
                f"{describe(value)} in place of a Parameter, which would be learned and saved no more",
                "a Parameter, or None",
                f"write nn.Parameter(...), or into it: with no_grad(): self.{name}[...] = value",
            )
        if callable(getattr(type(self), name, None)) and isinstance(value, (Module, Tensor, np.ndarray, list, dict)):
            raise ArgumentError(
                f"{type(self).__name__}.{name}",
                f"{describe(value)} by the name of a method",
                "a name that no method has",
                f"rename it: self.{name}_ = ...",
            )
        super().__setattr__(name, value)

    def register_buffer(self, name: str, array: ArrayLike) -> None:
        """Makes a copy of array the attribute `name`: no parameter, but part of the state, such as a running mean.

        Raises ArgumentError for a name that is taken.

        >>> module = Module()
        >>> module.register_buffer("running_mean", np.zeros(2))
        >>> module.state_dict()
        {'running_mean': array([0., 0.])}
        """
        value = numbers("register_buffer: array", plain(array), None, copy=True)
        taken = name not in self._buffers and (name in vars(self) or callable(getattr(type(self), name, None)))
        if not name.isidentifier() or taken:
            raise ArgumentError(
                "register_buffer: name",
                f"{name!r}{', which is taken' if taken else ''}",
                "a name that an attribute can have, and none has",
                "rename it",
            )
        setattr(self, name, value)
        if name not in self._buffers:
            self._buffers = (*self._buffers, name)

    def _own(self, kind: type[M] | type[Parameter]) -> Iterator[tuple[str, Any]]:
        """The module's own attributes of a kind; an error for what looks like one and would be passed over."""
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield name, value
            elif isinstance(value, (list, tuple, dict, set)):
                inside = _parts_in(value)
                if inside is not None:
                    kinds = "modules" if isinstance(inside, Module) else "parameters"
                    raise DTypeError(
                        f"{type(self).__name__}.{name}",
                        f"a {type(value).__name__} with {kinds} in it",
                        "a ModuleList of modules, or attributes of their own: they would be passed over",
                        f"write self.{name} = nn.ModuleList([...])"
                        if isinstance(inside, Module)
                        else f"write self.{name}_0 = nn.Parameter(...) for each",
                    )
            elif isinstance(value, Tensor) and not isinstance(value, Parameter) and isinstance(value._node, Leaf):
                raise DTypeError(
                    f"{type(self).__name__}.{name}",
                    f"{describe(value)}, a Tensor that requires a gradient, and no Parameter",
                    "a Parameter: it would not be learned",
                    f"write self.{name} = nn.Parameter(...)",
                )

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for each module that is an attribute of this one.

        >>> from minigrad.nn import ReLU, Sequential
        >>> list(Sequential(ReLU()).named_children())
        [('0', ReLU())]
        """
        return self._own(Module)

    def children(self) -> Iterator[Module]:
        """The modules that are attributes of this one.

        >>> from minigrad.nn import ReLU, Sequential
        >>> list(Sequential(ReLU()).children())
        [ReLU()]
        """
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", *, remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(path, module) for this module, whose path is "", and all within it, each module once.

        remove_duplicate: False for every path to a module that is in several places.

        >>> from minigrad.nn import ReLU, Sequential
        >>> [name for name, _ in Sequential(Sequential(ReLU()), ReLU()).named_modules()]
        ['', '0', '0.0', '1']
        """
        seen: set[int] = set()
        # Paths still to visit, the next one last; `above` are the modules on the way there, to stop at a circle.
        queue: list[tuple[str, Module, frozenset[int]]] = [(prefix, self, frozenset())]
        while queue:
            path, module, above = queue.pop()
            if id(module) in above or (remove_duplicate and id(module) in seen):
                continue
            seen.add(id(module))
            yield path, module
            inside = [(".".join(filter(None, [path, name])), child) for name, child in module.named_children()]
            queue += [(name, child, above | {id(module)}) for name, child in reversed(inside)]

    def modules(self) -> Iterator[Module]:
        """This module and all within it, each once.

        >>> from minigrad.nn import ReLU, Sequential
        >>> [type(module).__name__ for module in Sequential(ReLU()).modules()]
        ['Sequential', 'ReLU']
        """
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "", *, remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) for all parameters of this module and of those within it, each once.

        Raises DTypeError for parameters or modules in a list, and for a Tensor that should be a Parameter.

        >>> from minigrad.nn import Linear, Sequential
        >>> [name for name, _ in Sequential(Linear(2, 2), Linear(2, 1)).named_parameters()]
        ['0.weight', '0.bias', '1.weight', '1.bias']
        """
        seen: set[int] = set()
        for path, module in self.named_modules(prefix, remove_duplicate=remove_duplicate):
            for name, p in module._own(Parameter):
                if not (remove_duplicate and id(p) in seen):
                    seen.add(id(p))
                    yield ".".join(filter(None, [path, name])), p

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once: what an optimiser is given.

        >>> from minigrad.nn import Linear
        >>> [p.shape for p in Linear(3, 2).parameters()]
        [(2, 3), (2,)]
        """
        return (p for _, p in self.named_parameters())

    def named_buffers(self, prefix: str = "", *, remove_duplicate: bool = True) -> Iterator[tuple[str, Array]]:
        """(path, array) for all buffers: what is kept with the model and not learned.

        >>> from minigrad.nn import BatchNorm1d
        >>> [name for name, _ in BatchNorm1d(2).named_buffers()]
        ['running_mean', 'running_var', 'num_batches_tracked']
        """
        for path, module in self.named_modules(prefix, remove_duplicate=remove_duplicate):
            for name in module._buffers:
                if getattr(module, name) is not None:
                    yield ".".join(filter(None, [path, name])), as_array(getattr(module, name))

    def buffers(self) -> Iterator[Array]:
        """All buffers.

        >>> from minigrad.nn import BatchNorm1d
        >>> [array.shape for array in BatchNorm1d(2).buffers()]
        [(2,), (2,), ()]
        """
        return (array for _, array in self.named_buffers())

    def get_submodule(self, path: str) -> Module:
        """The module at a path such as "layers.0". Raises LabelError where there is none.

        >>> from minigrad.nn import ReLU, Sequential
        >>> Sequential(ReLU()).get_submodule("0")
        ReLU()
        """
        found = dict(self.named_modules(remove_duplicate=False))
        if path not in found:
            near = get_close_matches(path, found, 1)
            raise LabelError(
                f"{type(self).__name__}.get_submodule",
                repr(path),
                f"one of its {len(found)} modules",
                f"write {near[0]!r}" if near else "look at named_modules()",
            )
        return found[path]

    def state_dict(self) -> dict[str, Array]:
        """{path: array} with a copy of every parameter and buffer, in order: what save() keeps.

        >>> module = Module()
        >>> module.w = Parameter([1.0, 2.0])
        >>> module.state_dict()
        {'w': array([1., 2.])}
        """
        return {path: np.copy(plain(getattr(module, name))) for path, (module, name) in self._state().items()}

    def _state(self) -> dict[str, tuple[Module, str]]:
        """Where every parameter and buffer is, module and name, by all of its paths."""
        state: dict[str, tuple[Module, str]] = {}
        for path, module in self.named_modules(remove_duplicate=False):
            names = [name for name, _ in module._own(Parameter)]
            names += [name for name in module._buffers if getattr(module, name) is not None]
            state |= {".".join(filter(None, [path, name])): (module, name) for name in names}
        return state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Loaded:
        """Writes the arrays of state into the parameters and buffers of the same path; gradients stay.

        state: what state_dict() gave, or load(); arrays of the same shapes. The model keeps its own dtype.
        strict: False passes over names that only one side has, and returns them; shapes have to fit all the same.
        Raises ArgumentError, which lists what is missing, unexpected or of another shape with the nearest names, and
        then nothing has been written.

        >>> module = Module()
        >>> module.w = Parameter([1.0, 2.0])
        >>> module.load_state_dict({"w": np.array([3.0, 4.0])})
        Loaded(missing_keys=[], unexpected_keys=[])
        >>> module.w
        Tensor([3., 4.], dtype=float64, requires_grad=True)
        """
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise DTypeError(where, describe(state), "a dict of arrays by name", "pass what state_dict() gave")
        places = self._state()
        own: dict[str, Array] = {path: np.asarray(plain(getattr(*place))) for path, place in places.items()}
        missing = [name for name in own if name not in state]
        unexpected = [str(name) for name in state if name not in own]
        nested = next((name for name, value in state.items() if isinstance(value, Mapping)), None)
        if nested is not None:
            raise DTypeError(
                where, f"a dict at {nested!r}", "a dict of arrays by name", f"pass the model's part: state[{nested!r}]"
            )
        arrays = {n: numbers(f"{where}: {n}", plain(state[n]), None, copy=False) for n in own if n in state}
        wrong = []
        if strict:
            wrong += [_named("missing", name, unexpected, "the state has") for name in missing]
            wrong += [_named("unexpected", name, missing, "the model has") for name in unexpected]
        for name in own:
            if name in arrays and arrays[name].shape != own[name].shape:
                wrong.append(f"{name} has shape {arrays[name].shape} in the state and {own[name].shape} in the model")
            elif name in arrays and not np.can_cast(arrays[name].dtype, own[name].dtype, "same_kind"):
                wrong.append(f"{name} is {arrays[name].dtype} in the state and {own[name].dtype} in the model")
        if not strict and own and state and not arrays:
            wrong = ["no name in common"]
            wrong += [_named("unexpected", name, missing, "the model has") for name in unexpected]
        if wrong:
            more = f"; and {len(wrong) - 12} more" if len(wrong) > 12 else ""
            raise ArgumentError(
                where,
                "; ".join(wrong[:12]) + more,
                f"the {len(own)} names and shapes of this model's state_dict()",
                _way_out(own, arrays, unexpected),
            )
        with no_grad():
            for path, array in arrays.items():
                module, name = places[path]
                target = getattr(module, name)
                if isinstance(target, (Parameter, np.ndarray)):
                    target[...] = array
                else:  # a buffer that has become a number: n + 1 of an array without axes is none
                    setattr(module, name, array.astype(own[path].dtype))
        return Loaded(missing, unexpected)

    def train(self, mode: bool = True) -> Self:
        """Sets `training` for this module and all within it: Dropout drops, BatchNorm uses the batch. Returns self.

        >>> Module().train(False).training
        False
        """
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """train(False): Dropout does nothing, BatchNorm uses what it has seen in training. Returns self.

        >>> Module().eval().training
        False
        """
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients: `.grad` of every parameter becomes None, or with set_to_none=False zeros.

        >>> from minigrad.nn import Linear
        >>> model = Linear(2, 1)
        >>> model(np.ones((1, 2))).sum().backward()
        >>> model.zero_grad()
        >>> model.weight.grad is None
        True
        """
        for p in self.parameters():
            if set_to_none or p.grad is None:
                p.zero_grad()
            else:
                p.grad[...] = 0

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Sets requires_grad of every parameter: False freezes them. Returns self.

        >>> from minigrad.nn import Linear
        >>> Linear(2, 1).requires_grad_(False)(np.ones((1, 2))).requires_grad
        False
        """
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def astype(self, dtype: DTypeLike) -> Self:
        """Turns the parameters and float buffers of this very module into another float dtype; gradients are dropped.

        To be called before an optimiser is made, whose state has the dtype of the parameters. Returns self.
        Raises DTypeError for a dtype that is no float.

        >>> class Net(Module):
        ...     def __init__(self):
        ...         self.w = Parameter([1.0])
        >>> Net().astype("float32").w.dtype
        dtype('float32')
        """
        wanted = float_dtype(f"{type(self).__name__}.astype", dtype)
        for p in self.parameters():
            if p.dtype != wanted:
                p.data = p.data.astype(wanted)
        for module in self.modules():
            for name in module._buffers:
                array = getattr(module, name)
                if array is not None and array.dtype.kind == "f":
                    setattr(module, name, array.astype(wanted))
        return self

    def apply(self, f: Callable[[Module], Any]) -> Self:
        """Calls f on every module, the inner ones first, as for initialising. Returns self.

        >>> from minigrad.nn import Linear, init
        >>> Linear(2, 1).apply(lambda module: init.zeros_(module.weight)).weight
        Tensor([[0., 0.]], dtype=float64, requires_grad=True)
        """
        for module in reversed(list(self.modules())):
            f(module)
        return self

    def extra_repr(self) -> str:
        """What repr shows between the parentheses: the sizes."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for path, module in self.named_modules(remove_duplicate=False):
            depth, name = (path.count(".") + 1, path.rpartition(".")[2]) if path else (0, "")
            own = [f"{key} {p.shape}" for key, p in module._own(Parameter)]
            count = sum(p.size for p in module.parameters())
            parts = f"{', '.join(own)}: " if own else ""
            total = f"  {parts}{count:,} parameters" if own or (count and not path) else ""
            lines.append("  " * depth + (f"{name}: " if name else "") + _title(module) + total)
        return "\n".join(lines)


def float_dtype(where: str, dtype: DTypeLike | None) -> np.dtype[Any]:
    """dtype as a float one, float64 for None. Raises DTypeError for any other."""
    try:
        wanted = np.dtype(np.float64 if dtype is None else dtype)
    except TypeError:
        wanted = np.dtype(object)
    if wanted.kind != "f":
        raise DTypeError(f"{where}: dtype", repr(dtype), "a float dtype", 'write dtype="float32"')
    return wanted


def _parts_in(value: Any) -> Module | Parameter | None:
    """The first module or parameter in lists, tuples, sets and dicts within each other; of each the first thousand."""
    queue = [value]
    for thing in queue:
        if isinstance(thing, (Module, Parameter)):
            return thing
        if isinstance(thing, (list, tuple, set, dict)) and len(queue) < 10_000:
            queue += islice(thing.values() if isinstance(thing, dict) else thing, 1000)
    return None


def _way_out(own: Mapping[str, Array], arrays: Mapping[str, Array], unexpected: list[str]) -> str:
    """What to do about a state that does not fit."""
    if any(array.shape != own[name].shape for name, array in arrays.items()):
        return "build the model with the sizes it was saved with"
    for name in unexpected:
        prefix, dot, _ = name.partition(".")
        if dot and name.removeprefix(prefix + dot) in own:
            return f"take the prefix away: {{k.removeprefix({prefix + dot!r}): v for k, v in state.items()}}"
    return "build the model that was saved, or pass strict=False for the names that both have"


def _title(module: Module) -> str:
    return f"{type(module).__name__}({module.extra_repr()})"


def _heading(module: Module) -> str:
    title = _title(module)
    return f"{'an' if title[0] in 'AEIOU' else 'a'} {title}"


def _named(how: str, name: str, others: list[str], side: str) -> str:
    """A name that one side lacks, with the nearest that the other has in addition."""
    near = get_close_matches(name, others, 1)
    return f"{how} {name}" + (f" ({side} {near[0]})" if near else "")
