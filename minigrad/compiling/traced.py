"""What the recorded function sees in place of arrays and numbers."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from minigrad.compiling.program import Number, Value, leaves
from minigrad.standin import Standin

__all__ = ["Traced", "TracedGenerator", "TracedNumber"]

# What they say depends on shapes, dtypes and memory alone, and so holds for every replay.
_STATIC = {np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.may_share_memory, np.iscomplexobj, np.isrealobj}
# These fill or change their first argument.
_FILLS = {np.copyto, np.put_along_axis, np.put, np.putmask, np.fill_diagonal}
# These compute arrays from arrays, of shapes that follow from shapes. Any other may do more, or give a shape by values.
_COMPUTE = _FILLS | {
    getattr(np, name)
    for name in (
        "all", "any", "amax", "amin", "argmax", "argmin", "argpartition", "argsort", "around", "array_split",
        "astype", "atleast_1d", "atleast_2d", "atleast_3d", "average", "block", "broadcast_arrays", "broadcast_to",
        "choose", "clip", "column_stack", "concatenate", "convolve", "copy", "corrcoef", "correlate", "cov", "cross",
        "cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "diag", "diagflat", "diagonal", "diff", "digitize",
        "dot", "dsplit", "dstack", "ediff1d", "einsum", "empty_like", "expand_dims", "fix", "flip", "fliplr",
        "flipud", "full_like", "gradient", "hsplit", "hstack", "imag", "inner", "interp", "isclose", "isin",
        "isneginf", "isposinf", "kron", "lexsort", "linspace", "matrix_transpose", "max", "mean", "median",
        "meshgrid", "min", "moveaxis", "nan_to_num", "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax",
        "nanmean", "nanmedian", "nanmin", "nanpercentile", "nanprod", "nanquantile", "nanstd", "nansum", "nanvar",
        "ones_like", "outer", "pad", "partition", "percentile", "polyval", "prod", "ptp", "quantile", "ravel", "real",
        "repeat", "reshape", "roll", "rollaxis", "rot90", "round", "searchsorted", "select", "sinc", "sort", "split",
        "squeeze", "stack", "std", "sum", "swapaxes", "take", "take_along_axis", "tensordot", "tile", "trace",
        "transpose", "trapezoid", "tril", "triu", "unstack", "unwrap", "vander", "var", "vdot", "vsplit", "vstack",
        "where", "zeros_like", "ascontiguousarray", "asfortranarray",
    )
    if hasattr(np, name)
} | {
    getattr(np.linalg, name)
    for name in (
        "cholesky", "cond", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul", "matrix_norm",
        "matrix_power", "matrix_rank", "matrix_transpose", "multi_dot", "norm", "outer", "pinv", "qr", "slogdet",
        "solve", "svd", "svdvals", "tensordot", "tensorinv", "tensorsolve", "trace", "vecdot", "vector_norm",
    )
    if hasattr(np.linalg, name)
} | {np.lib.stride_tricks.sliding_window_view}  # fmt: skip
# These return as much as the values say: what a mask does in their place.
_BY_VALUE = {
    np.where, np.nonzero, np.flatnonzero, np.argwhere, np.unique, np.compress, np.extract, np.delete, np.bincount,
}  # fmt: skip
# Arguments that are no data: with a value there, a shape would depend on it.
_STATIC_ARGUMENTS = {
    "shape", "repeats", "reps", "indices_or_sections", "pad_width", "num", "N", "k", "axis", "axes", "axis1", "axis2",
    "source", "destination", "n", "start", "window_shape", "weights_shape", "kth",
}  # fmt: skip

# Methods, and how many arguments after the array itself may be arrays: what comes next is an axis, or an array to fill.
_METHODS = {
    **dict.fromkeys((
        "all", "any", "argmax", "argmin", "argpartition", "argsort", "astype", "copy", "cumprod", "cumsum", "diagonal",
        "flatten", "max", "mean", "min", "prod", "ravel", "repeat", "reshape", "round", "squeeze", "std", "sum",
        "swapaxes", "trace", "transpose", "var", "view",
    ), 0),
    "dot": 1, "take": 1, "searchsorted": 1, "clip": 2,
}  # fmt: skip


class Traced(Standin, NDArrayOperatorsMixin):
    """An array while a program is recorded: it has its value within, computes with it, and does not give it away."""

    __slots__ = ("__weakref__", "array", "recorder", "scalar", "value", "weak")

    def __init__(self, recorder: Any, array: Any, value: Value) -> None:
        self.recorder, self.array, self.value = recorder, array, value
        self.scalar = False  # whether NumPy gave a number, which `x += 1` leaves as it is and binds x to another
        self.weak = False  # whether it was a number of Python's, which takes on the dtype of what it is added to

    # What every replay has in common

    @property  # type: ignore[misc]  # for isinstance(x, np.ndarray), on which a function may branch
    def __class__(self) -> type:
        return np.ndarray

    def __getattr__(self, name: str) -> Any:
        if hasattr(np.ndarray, name) and not name.startswith("__array_"):
            self.recorder.refuse(
                f"x.{name}", "what an array has and a recorded one has not", "keep to NumPy's functions: np.exp(x)"
            )
        raise AttributeError(name)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def size(self) -> int:
        return int(self.array.size)

    @property
    def itemsize(self) -> int:
        return int(self.value.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        return self.value.nbytes

    @property
    def strides(self) -> tuple[int, ...]:
        return self.value.strides

    @property
    def flags(self) -> Any:
        return self.array.flags

    @property
    def base(self) -> Any:
        """None for an array that has its memory to itself."""
        return None if self.value.root is self.value and self.value.kind == "temporary" else self.value.root

    @property
    def T(self) -> Any:
        return self.transpose()

    def __len__(self) -> int:
        if not self.value.shape:
            raise TypeError("len() of unsized object")
        return int(self.value.shape[0])

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    # What is recorded

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self.recorder.ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        recorder = self.recorder
        if any(recorder.is_foreign(t) for t in types):
            return NotImplemented
        if func in _STATIC:
            return func(*recorder.arrays(args), **recorder.arrays(kwargs))
        named = dict(_bound(func, args, kwargs))
        static = [name for name in named.keys() & _STATIC_ARGUMENTS if _has_traced(named[name])]
        own_copy = bool(named.get("overwrite_input")) or (func is np.nan_to_num and named.get("copy", True) is not True)
        if func not in _COMPUTE or (func is np.where and len(args) == 1) or static or own_copy:
            masks = "use a mask of the array's own shape: np.where(mask, x, 0)"
            recorder.refuse(
                f"numpy.{func.__name__}",
                f"a value for {static[0]}, on which the shape depends"
                if static
                else "a function whose result, or its shape, Python may look at, or that writes",
                masks if static or func in _BY_VALUE else "return the array, and do this outside the compiled function",
            )
        out = named.get("out")
        found = recorder.call(func, args, kwargs, writes=args[:1] if func in _FILLS else () if out is None else (out,))
        return found if out is None else out

    def __getitem__(self, index: Any) -> Any:
        if any(isinstance(part, Traced) and part.dtype.kind == "b" for part in leaves(index)):
            self.recorder.refuse(
                "x[mask]", "a part whose shape depends on values", "use np.where(mask, x, 0), of x's own shape"
            )
        return self.recorder.call(operator.getitem, (self, index))

    def __setitem__(self, index: Any, value: Any) -> None:
        masked = any(isinstance(part, Traced) and part.dtype.kind == "b" for part in leaves(index))
        if masked and np.ndim(value):
            self.recorder.refuse(
                "x[mask] = values", "as many values as the mask has entries", "use x[...] = np.where(mask, values, x)"
            )
        self.recorder.call(operator.setitem, (self, index, value), writes=(self,))

    def sort(self, *args: Any, **kwargs: Any) -> None:
        """As numpy.ndarray.sort, in place."""
        self.recorder.call(np.ndarray.sort, (self, *args), kwargs, writes=(self,))

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._left("pickle")

    def __contains__(self, value: Any) -> bool:
        return bool(self._left("in"))

    def fill(self, value: Any) -> None:
        """All entries become value."""
        self[...] = value

    # What is not: values that leave the program

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        fix = "keep to NumPy's functions: np.exp(x), and Tensor(table)[x] for table[x]"
        self.recorder.refuse("numpy.asarray", "an array made of a recorded one", fix)

    def __bool__(self) -> bool:
        return bool(self._left("bool"))

    def __float__(self) -> float:
        return float(self._left("float"))

    def __int__(self) -> int:
        return int(self._left("int"))

    def __index__(self) -> int:
        return int(self._left("index"))

    def item(self, *args: Any) -> Any:
        """Refused: a Python number would stay what it is now."""
        return self._left("item")

    def tolist(self) -> Any:
        """Refused as well."""
        return self._left("tolist")

    def tobytes(self, order: Any = "C") -> Any:
        """Refused as well."""
        return self._left("tobytes")

    def __format__(self, spec: str) -> str:
        return str(self._left("format"))

    def __repr__(self) -> str:
        return f"<{self.dtype} {self.shape}, while minigrad.compile records>"

    __hash__ = object.__hash__

    def _left(self, how: str) -> Any:
        if how == "bool":
            fix = "use np.where(condition, x, y), or compile what lies on each side of the branch"
        else:
            fix = "return the tensor, and read its value outside the compiled function"
        return self.recorder.refuse(
            how, "a value that Python looks at, and that would be the same in every replay", fix
        )

    def assumed(self, always: bool) -> bool:
        return bool(self.recorder.guard(self, always))

    def whole(self, function: Callable[..., Any], args: Sequence[Any], changed: Sequence[Any]) -> Any:
        return self.recorder.call(function, tuple(args), writes=tuple(changed), opaque=True, effect=bool(changed))


def _bound(func: Callable[..., Any], args: Any, kwargs: Any) -> Iterator[tuple[str, Any]]:
    """The arguments of a NumPy function by name."""
    try:
        names = [p.name for p in inspect.signature(func).parameters.values() if p.kind is not p.VAR_POSITIONAL]
        several = len(names) < len(inspect.signature(func).parameters)  # as operands of einsum
    except (TypeError, ValueError):
        names, several = [], False
    if not several:
        yield from zip(names, args, strict=False)
    yield from kwargs.items()


def _has_traced(tree: Any) -> bool:
    return any(isinstance(x, Traced) for x in leaves(tree))


def _method(name: str, most: int) -> Callable[..., Any]:
    unbound = getattr(np.ndarray, name)

    def method(self: Traced, *args: Any, **kwargs: Any) -> Any:
        out = kwargs.get("out")
        if _has_traced(args[most:]):
            self.recorder.refuse(
                f"x.{name}",
                "a value where NumPy wants a shape, an axis or an array to fill",
                f"write numpy.{name}(x, ...)",
            )
        found = self.recorder.call(unbound, (self, *args), kwargs, writes=() if out is None else (out,))
        return found if out is None else out

    method.__name__, method.__doc__ = name, f"As numpy.ndarray.{name}, recorded."
    return method


def _in_place(name: str) -> Callable[..., Any]:
    changing, making = getattr(NDArrayOperatorsMixin, f"__i{name}__"), getattr(NDArrayOperatorsMixin, f"__{name}__")
    return lambda self, other: making(self, other) if self.scalar else changing(self, other)


for _name, _most in _METHODS.items():
    setattr(Traced, _name, _method(_name, _most))
_SIGNS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
for _name in _SIGNS:
    setattr(Traced, f"__i{_name}__", _in_place(_name))


class TracedNumber(Standin):
    """A learning rate or a count of steps: a number that each replay reads anew."""

    __slots__ = ("number", "recorder", "value")

    def __init__(self, recorder: Any, value: Any, number: Number) -> None:
        self.recorder, self.value, self.number = recorder, value, number

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self.recorder.ufunc(ufunc, method, inputs, kwargs)

    def _compute(self, f: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
        known = (int, float, TracedNumber)
        return self.recorder.compute(f, x, y) if isinstance(x, known) and isinstance(y, known) else NotImplemented

    def __bool__(self) -> bool:
        return bool(self.recorder.settle(self))

    def __float__(self) -> float:
        return float(self.recorder.settle(self))

    def __int__(self) -> int:
        return int(self.recorder.settle(self))

    __index__ = __int__
    __hash__ = object.__hash__

    def __neg__(self) -> Any:
        return self.recorder.compute(operator.mul, -1, self)

    def __eq__(self, other: object) -> Any:
        return self._compute(operator.eq, self, other)

    def __ne__(self, other: object) -> Any:
        return self._compute(operator.ne, self, other)


def _operator(f: Callable[[Any, Any], Any], swapped: bool) -> Callable[..., Any]:
    if swapped:
        return lambda self, other: self._compute(f, other, self)
    return lambda self, other: self._compute(f, self, other)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(TracedNumber, f"__{_name}__", _operator(getattr(operator, _name), False))
    setattr(TracedNumber, f"__r{_name}__", _operator(getattr(operator, _name), True))
for _name in ("lt", "le", "gt", "ge"):
    setattr(TracedNumber, f"__{_name}__", _operator(getattr(operator, _name), False))


class TracedGenerator:
    """Stands for a generator: its methods are recorded."""

    def __init__(self, recorder: Any, generator: np.random.Generator) -> None:
        self._recorder, self._generator = recorder, generator
        self._state = generator.bit_generator.state

    @property  # type: ignore[misc]  # for isinstance(generator, np.random.Generator)
    def __class__(self) -> type:
        return np.random.Generator

    def check(self) -> None:
        """CompileError where somebody has drawn from the generator itself."""
        if str(self._generator.bit_generator.state) != str(self._state):
            self._recorder.refuse(
                "a draw",
                "random numbers of a generator that were drawn past the recorder",
                "draw from minigrad.default_generator(), or pass the generator as an argument",
            )

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._generator, name)
        if not callable(found) or name == "spawn":
            self._recorder.refuse(f"generator.{name}", "a generator that is set or looked into", "seed it outside")

        def draw(*args: Any, **kwargs: Any) -> Any:
            self.check()
            changed = args[:1] if name == "shuffle" else () if kwargs.get("out") is None else (kwargs["out"],)
            drawn = self._recorder.call(found, args, kwargs, writes=changed, effect=True)
            self._state = self._generator.bit_generator.state
            return drawn

        return draw
