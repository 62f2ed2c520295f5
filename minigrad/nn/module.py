"""Module: a model or a part of one, with its parameters and its state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, Self, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from minigrad import ArgumentError, DTypeError, LabelError, MinigradError, Tensor, no_grad
from minigrad.contract import numbers
from minigrad.errors import describe
from minigrad.tape import Leaf
from minigrad.tensor import plain

__all__ = ["Loaded", "Module", "ModuleList", "Parameter", "Sequential"]

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
            return self.forward(*args, **kwargs)
        except MinigradError as error:
            self._locate(error)
            raise

    def _locate(self, error: Any) -> None:
        """Puts the path of the innermost module in front of the error; each module on the way out makes it longer."""
        if not hasattr(error, "module"):
            error.module, error.inner = self, error.function
        found = next((name for name, module in self.named_modules() if module is error.module), None)
        if found is not None:
            path = ".".join(filter(None, [type(self).__name__, found]))
            where = f"{path}, {_heading(error.module)}" if found else path
            inner = error.inner.removeprefix(type(error.module).__name__).removeprefix(": ")
            error.function = f"{where}: {inner}" if inner else where
            error.args = (error.function, *error.args[1:])

    # What it consists of

    def register_buffer(self, name: str, array: ArrayLike) -> None:
        """Makes a copy of array the attribute `name`: no parameter, but part of the state, such as a running mean.

        >>> module = Module()
        >>> module.register_buffer("running_mean", np.zeros(2))
        >>> module.state_dict()
        {'running_mean': array([0., 0.])}
        """
        value = numbers("register_buffer: array", plain(array), None, copy=True)
        if not name.isidentifier():
            raise ArgumentError("register_buffer: name", repr(name), "a name that an attribute can have", "rename it")
        setattr(self, name, value)
        if name not in self._buffers:
            self._buffers = (*self._buffers, name)

    def _own(self, kind: type[M] | type[Parameter]) -> Iterator[tuple[str, Any]]:
        """The module's own attributes of a kind; an error for what looks like one and would be passed over."""
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield name, value
            elif isinstance(value, (list, tuple, dict)):
                inside = value.values() if isinstance(value, dict) else value
                if any(isinstance(x, (Module, Parameter)) for x in inside):
                    raise DTypeError(
                        f"{type(self).__name__}.{name}",
                        f"a {type(value).__name__} with modules or parameters in it",
                        "a ModuleList, or attributes of their own: they would be passed over",
                        f"write self.{name} = nn.ModuleList([...])",
                    )
            elif isinstance(value, Tensor) and not isinstance(value, Parameter) and isinstance(value._node, Leaf):
                raise DTypeError(
                    f"{type(self).__name__}.{name}",
                    f"{describe(value)}, a Tensor that requires a gradient, and no Parameter",
                    "a Parameter: it would not be learned",
                    f"write self.{name} = nn.Parameter(...)",
                )

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for each module that is an attribute of this one."""
        return self._own(Module)

    def children(self) -> Iterator[Module]:
        """The modules that are attributes of this one."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", *, remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(path, module) for this module, whose path is "", and all within it, each module once.

        remove_duplicate: False for every path to a module that is in several places.

        >>> [name for name, _ in Sequential(Sequential(Module()), Module()).named_modules()]
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
        """This module and all within it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "", *, remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) for all parameters of this module and of those within it, each once.

        Raises DTypeError for parameters or modules in a list, and for a Tensor that should be a Parameter.

        >>> [name for name, _ in Sequential(Module(), Module()).named_parameters()]
        []
        """
        seen: set[int] = set()
        for path, module in self.named_modules(prefix, remove_duplicate=remove_duplicate):
            for name, p in module._own(Parameter):
                if not (remove_duplicate and id(p) in seen):
                    seen.add(id(p))
                    yield ".".join(filter(None, [path, name])), p

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once: what an optimiser is given."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self, prefix: str = "", *, remove_duplicate: bool = True) -> Iterator[tuple[str, Array]]:
        """(path, array) for all buffers: what is kept with the model and not learned."""
        for path, module in self.named_modules(prefix, remove_duplicate=remove_duplicate):
            for name in module._buffers:
                yield ".".join(filter(None, [path, name])), getattr(module, name)

    def buffers(self) -> Iterator[Array]:
        """All buffers."""
        return (array for _, array in self.named_buffers())

    def get_submodule(self, path: str) -> Module:
        """The module at a path such as "layers.0". Raises LabelError where there is none.

        >>> Sequential(Module()).get_submodule("0")
        Module()
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

    # Its state

    def state_dict(self) -> dict[str, Array]:
        """{path: array} with a copy of every parameter and buffer, in order: what save() keeps.

        >>> Sequential(Module()).state_dict()
        {}
        """
        return {name: np.array(plain(x)) for name, x in self._state().items()}

    def _state(self) -> dict[str, Parameter | Array]:
        """Every parameter and buffer itself, by all of its paths."""
        state: dict[str, Parameter | Array] = {}
        for path, module in self.named_modules(remove_duplicate=False):
            own = [*module._own(Parameter), *((name, getattr(module, name)) for name in module._buffers)]
            state |= {".".join(filter(None, [path, name])): x for name, x in own}
        return state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Loaded:
        """Writes the arrays of state into the parameters and buffers of the same path; gradients stay.

        state: what state_dict() gave, or load(); arrays of the same shapes. The model keeps its own dtype.
        strict: False passes over names that only one side has, and returns them; shapes have to fit all the same.
        Raises ArgumentError, which lists what is missing, unexpected or of another shape with the nearest names, and
        then nothing has been written.

        >>> model = Sequential(Module())
        >>> model.load_state_dict({})
        Loaded(missing_keys=[], unexpected_keys=[])
        """
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise DTypeError(where, describe(state), "a dict of arrays by name", "pass what state_dict() gave")
        own = self._state()
        missing = [name for name in own if name not in state]
        unexpected = [str(name) for name in state if name not in own]
        arrays = {
            name: numbers(f"{where}: {name}", plain(state[name]), None, copy=False) for name in own.keys() & state
        }
        wrong = []
        if strict:
            wrong += [_named("missing", name, unexpected, "the state has") for name in missing]
            wrong += [_named("unexpected", name, missing, "the model has") for name in unexpected]
        for name in own:
            if name in arrays and arrays[name].shape != own[name].shape:
                wrong.append(f"{name} has shape {arrays[name].shape} in the state and {own[name].shape} in the model")
            elif name in arrays and not np.can_cast(arrays[name].dtype, own[name].dtype, "same_kind"):
                wrong.append(f"{name} is {arrays[name].dtype} in the state and {own[name].dtype} in the model")
        if wrong:
            more = f"; and {len(wrong) - 12} more" if len(wrong) > 12 else ""
            raise ArgumentError(
                where,
                "; ".join(wrong[:12]) + more,
                f"the {len(own)} names and shapes of this model's state_dict()",
                "build the model with the sizes it was saved with, or pass strict=False for part of the names",
            )
        with no_grad():
            for name, array in arrays.items():
                own[name][...] = array
        return Loaded(missing, unexpected)

    # What is done to all of it

    def train(self, mode: bool = True) -> Self:
        """Sets `training` for this module and all within it: Dropout drops, BatchNorm uses the batch. Returns self."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """train(False): Dropout does nothing, BatchNorm uses what it has seen in training."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forgets the gradients: `.grad` of every parameter becomes None."""
        for p in self.parameters():
            p.zero_grad()

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Sets requires_grad of every parameter: False freezes them. Returns self."""
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
                if array.dtype.kind == "f":
                    setattr(module, name, array.astype(wanted))
        return self

    def apply(self, f: Callable[[Module], Any]) -> Self:
        """Calls f on every module, the inner ones first, as for initialising. Returns self."""
        for module in reversed(list(self.modules())):
            f(module)
        return self

    # How it is shown

    def extra_repr(self) -> str:
        """What repr shows between the parentheses: the sizes."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for path, module in self.named_modules():
            depth, name = (path.count(".") + 1, path.rpartition(".")[2]) if path else (0, "")
            own = [f"{key} {p.shape}" for key, p in module._own(Parameter)]
            count = sum(p.size for p in module.parameters())
            parts = f"{', '.join(own)}: " if own else ""
            total = f"  {parts}{count:,} parameters" if own or (count and not path) else ""
            lines.append("  " * depth + (f"{name}: " if name else "") + _title(module) + total)
        return "\n".join(lines)


class _Numbered(Module):
    """Modules that are named by their place."""

    def __init__(self, modules: Iterable[tuple[str, Module]]) -> None:
        for name, module in modules:
            self._add(name, module)

    def _add(self, name: str, module: Module) -> None:
        where = type(self).__name__
        if not isinstance(module, Module):
            given = "a class" if isinstance(module, type) else describe(module)
            raise DTypeError(
                f"{where}: {name}",
                f"{given}{f' {module.__name__}' if isinstance(module, type) else ''}",
                "modules",
                "write the call too, such as nn.ReLU()",
            )
        if not name or "." in name or hasattr(type(self), name):
            raise ArgumentError(
                f"{where}: {name}", f"the name {name!r}", "a name without dots that no method has", "rename it"
            )
        setattr(self, name, module)

    def append(self, module: Module) -> Self:
        """Adds a module at the end. Returns self."""
        self._add(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Adds modules at the end. Returns self."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Module | Self:
        inside = list(self.children())
        if isinstance(index, slice):
            return type(self)(*inside[index]) if isinstance(self, Sequential) else type(self)(inside[index])  # type: ignore[arg-type]  # a ModuleList here
        if not -len(inside) <= index < len(inside):
            raise LabelError(
                f"{type(self).__name__}[{index}]",
                f"index {index} of {len(inside)} modules",
                f"an index from {-len(inside)} to {len(inside) - 1}",
                "count from 0",
            )
        return inside[index]


class Sequential(_Numbered):
    """out = the modules one after the other, each on what the one before gave.

    modules: modules, named "0", "1", ...; or one dict of modules by name.

    >>> Sequential(Module(), Module())
    Sequential()
      0: Module()
      1: Module()
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            super().__init__(modules[0].items())
        else:
            super().__init__((str(i), module) for i, module in enumerate(modules))  # type: ignore[misc]  # _add refuses what is no Module

    def forward(self, x: Any) -> Any:
        """The last module's result."""
        for module in self.children():
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules that belong to the module whose attribute it is; forward is for that one to write.

    >>> len(ModuleList([Module(), Module()]))
    2
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__((str(i), module) for i, module in enumerate(modules))


def float_dtype(where: str, dtype: DTypeLike | None) -> np.dtype[Any]:
    """dtype as a float one, float64 for None. Raises DTypeError for any other."""
    try:
        wanted = np.dtype(np.float64 if dtype is None else dtype)
    except TypeError:
        wanted = np.dtype(object)
    if wanted.kind != "f":
        raise DTypeError(f"{where}: dtype", repr(dtype), "a float dtype", 'write dtype="float32"')
    return wanted


def _title(module: Module) -> str:
    return f"{type(module).__name__}({module.extra_repr()})"


def _heading(module: Module) -> str:
    title = _title(module)
    return f"{'an' if title[0] in 'AEIOU' else 'a'} {title}"


def _named(how: str, name: str, others: list[str], side: str) -> str:
    """A name that one side lacks, with the nearest that the other has in addition."""
    near = get_close_matches(name, others, 1)
    return f"{how} {name}" + (f" ({side} {near[0]})" if near else "")
