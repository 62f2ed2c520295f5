"""Tensor: an array, and how it was made.

The arithmetic is not here: operators and methods find their op in the tables of dispatch.py. What NumPy's arrays have
is here by the same names, which makes the file longer than its ideas.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from minigrad.contract import numbers, write
from minigrad.dispatch import ANSWERS, OPERATORS, TABLE, answer_function, answer_ufunc
from minigrad.errors import (
    ArgumentError,
    DTypeError,
    GraphError,
    InPlaceError,
    ShapeError,
    describe,
)
from minigrad.standin import Standin
from minigrad.tape import FOREIGN, Leaf, Node, Version, accumulate, is_recording

__all__ = ["Axis", "Tensor", "TensorLike", "from_numpy", "plain", "publish", "seed", "wrap"]

Axis = int | tuple[int, ...] | None
Array = NDArray[Any]

_new = object.__new__


class Tensor:
    """An array that remembers how it was made.

    data: numbers of any shape, as for numpy.array; copied. Another Tensor gives its values.
    dtype: a real NumPy dtype; None keeps data's own (float64 for Python floats).
    requires_grad: collect a gradient in `.grad` when backward() comes by; needs a float dtype.
    name: a word for error messages and pictures.
    Raises DTypeError for data that is not real numbers, and for integers with requires_grad.

    >>> x = Tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([6., 8.])
    """

    __slots__ = ("__weakref__", "_data", "_node", "_version", "name")

    _data: Array
    _node: Node | None
    _version: Version | None  # None: memory that is not ours to write, or that nobody else can see
    name: str | None

    def __init__(
        self,
        data: ArrayLike | Tensor,
        dtype: DTypeLike | None = None,
        requires_grad: bool = False,
        name: str | None = None,
    ) -> None:
        if isinstance(data, Tensor):
            data = data._data
        self._own(numbers("Tensor", data, dtype, copy=True), requires_grad, name)

    def _own(self, array: Array, requires_grad: bool, name: str | None) -> None:
        self._node = _leaf("Tensor", self, array) if requires_grad else None
        self._data = array
        self._version = Version()
        self.name = name

    # What it is

    @property
    def data(self) -> Array:
        """The array itself, writable. Writes through it are not seen by the tape; `t.data -= ...` is."""
        if self._version is FOREIGN:
            self._data, self._version = self._data.copy(), Version()
        return self._data

    @data.setter
    def data(self, array: ArrayLike | Tensor) -> None:
        written = array is self._data
        if self._node is not None and not isinstance(self._node, Leaf):
            if written:
                self._spoil(self._node)
            raise InPlaceError(
                "Tensor.data",
                f"a new value for a result of {self._node.op}",
                "a leaf: a tensor that no op has made",
                "write t = t.detach() first, or compute a new tensor",
            )
        if written:
            self._touch("an assignment to .data")
            return
        array = numbers("Tensor.data", plain(array), None, copy=True)  # another's memory could change unseen
        if self._node is not None and (array.shape, array.dtype) != (self._node.shape, self._node.dtype):
            self._node = _leaf("Tensor.data", self, array)
        self._data, self._version = array, Version()
        self._touch("an assignment to .data")

    def _spoil(self, node: Node | None) -> None:
        """After a write into a result: neither its rule nor any that saved this memory may be used any more."""
        self._touch("an assignment to .data")
        while node is not None and not isinstance(node, Leaf):
            node.saved, node.guards = None, (self._version,)
            node = node.parents[0] if node.op.view and node.parents else None

    @property
    def grad(self) -> Array | None:
        """What backward() has collected: an array of this tensor's shape and dtype, or None. It accumulates."""
        return self._node.grad if isinstance(self._node, Leaf) else None

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if not isinstance(self._node, Leaf):
            raise GraphError(
                "Tensor.grad",
                f"a gradient for {self._what()}",
                "a leaf with requires_grad=True: others collect none",
                "use grad(output, [t]) for the gradient of a result",
            )
        if value is not None:
            value = numbers("Tensor.grad", plain(value), None, copy=False).astype(self.dtype)
            if value.shape != self.shape:
                raise ShapeError(
                    "Tensor.grad",
                    f"a gradient of shape {value.shape}",
                    f"shape {self.shape}, the tensor's own",
                    "reshape it, or assign None to reset it",
                )
        self._node.grad = value

    def zero_grad(self) -> None:
        """Forget the gradient: `.grad` becomes None."""
        if isinstance(self._node, Leaf):
            self._node.grad = None

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows to or through this tensor. Can be set on leaves."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value == self.requires_grad:
            return
        if not value and not isinstance(self._node, Leaf):
            raise GraphError(
                "Tensor.requires_grad",
                f"False for {self._what()}",
                "a leaf: a tensor that no op has made",
                "use t.detach() for the value without its graph",
            )
        self._node = _leaf("Tensor.requires_grad", self, self._data) if value else None
        if self._version is None:
            self._version = Version()

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """The number of values."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the values, and of the gradient."""
        return self._data.dtype

    @property
    def T(self) -> Tensor:
        """The tensor with its axes reversed."""
        return self.transpose()

    def __repr__(self) -> str:
        text = np.array2string(self._data, separator=", ", prefix="Tensor(", threshold=100, edgeitems=3)
        text = f"Tensor({text}, dtype={self.dtype}"
        if self._node is not None:
            text += ", requires_grad=True"
            if self._node.op is not None:
                text += f", op={self._node.op}"
        return text + (f", name={self.name!r})" if self.name else ")")

    def _what(self) -> str:
        """The tensor in the words of an error message."""
        made = f", a result of {self._node.op}" if self._node is not None and self._node.op else ""
        return f"{self.name or 'a tensor'} ({describe(self._data)}{made})"

    # Differentiating

    def backward(self, gradient: ArrayLike | Tensor | None = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) * gradient to `.grad` of every leaf this tensor was computed from.

        gradient: array of this tensor's shape; may be left out for a single value, and is then 1.
        retain_graph: keep the graph for another backward; otherwise its memory is freed on the way.
        Raises GraphError without a graph, for a second walk over a released graph, and without
        `gradient` for more than one value; InPlaceError if a needed leaf has been written since.

        >>> x = Tensor(2.0, requires_grad=True)
        >>> (x * x).backward()
        >>> x.grad
        array(4.)
        """
        node, dout = seed("backward", self, gradient)
        accumulate([node], [plain(dout)], retain_graph=retain_graph)

    def detach(self) -> Tensor:
        """The same values without the graph, in the same memory until one of the two is written.

        A leaf and its detached tensor stay together: what is written into one is seen in the other.
        """
        if self._version is None and self._node is None:
            self._version = Version()
        return wrap(self._data, None, self._version or FOREIGN)

    def numpy(self) -> Array:
        """The values as a read-only view. Use `.numpy().copy()` for an array of your own."""
        view = self._data.view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """The one value as a Python number. Raises ArgumentError for more than one."""
        if self._data.size != 1:
            raise ArgumentError(
                "Tensor.item",
                f"{self._data.size} values of shape {self.shape}",
                "exactly one value",
                "use t.sum(), t.mean() or an index such as t[0] first",
            )
        return self._data.item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self._data.tolist()

    # Conversions: those that would drop the graph without being asked to are errors

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self._node is not None:
            raise DTypeError(
                "numpy.asarray",
                f"{self._what()}, which requires a gradient",
                "a tensor without a graph: the conversion would drop it",
                "use t.numpy() for the values, or minigrad.stack for a list of tensors",
            )
        return np.array(self._data, dtype=dtype) if copy else np.asarray(self.numpy(), dtype=dtype)

    def __float__(self) -> float:
        return float(self._single("float"))

    def __int__(self) -> int:
        return int(self._single("int"))

    def __bool__(self) -> bool:
        return bool(self._single("bool"))

    def __index__(self) -> int:
        if self._data.dtype.kind not in "iu":
            raise DTypeError("index", self._what(), "an integer tensor", "use int(t)")
        return int(self._single("index"))

    def __format__(self, spec: str) -> str:
        return format(self._single("format"), spec) if spec else str(self)

    def _single(self, function: str) -> Any:
        if self._data.size != 1:
            raise ArgumentError(
                f"{function}(t)",
                f"t has {self._data.size} values of shape {self.shape}",
                "exactly one value",
                "use (t > 0).any(), (t > 0).all() or an index such as t[0]"
                if function == "bool"
                else "use t.sum(), t.mean() or an index such as t[0] first",
            )
        return self._data.item()

    def __len__(self) -> int:
        if not self._data.ndim:
            raise DTypeError("len(t)", f"t is {describe(self)}", "at least one axis", "use t.size or t.item()")
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._node is not None and not isinstance(self._node, Leaf):
            raise GraphError(
                "pickle",
                self._what(),
                "a leaf: a graph is not copied or pickled",
                "use t.detach() for the values",
            )
        return _unpickle, (type(self), self._data, self.requires_grad, self.name)

    # Reading and writing parts

    def __getitem__(self, index: Any) -> Tensor:
        return _OPS["getitem"](self, index)

    def __setitem__(self, index: Any, value: TensorLike) -> None:
        """x[index] = value, recorded where a gradient flows.

        x then becomes a new result, and tensors that were computed or taken from it before keep the old values.
        Raises InPlaceError for a leaf that requires a gradient, unless under no_grad().
        """
        if self._write_is_recorded("x[index] = value", value):
            if self.dtype.kind != "f":
                raise DTypeError(
                    "x[index] = value",
                    f"x is {describe(self)}, value requires a gradient",
                    "a float x: others would cut the value short",
                    "write x = x.astype(float) first",
                )
            self._become(_OPS["setitem"](self, value, index))
            return
        array = self._writable()
        write(array, plain(index), plain(value))
        self._touch("x[index] = value")

    def _inplace(self, name: str, sign: str, other: TensorLike) -> Tensor:
        recorded = self._write_is_recorded(f"x {sign} y", other)
        result = TABLE[name](self if recorded else self._data, other if recorded else plain(other))
        if result.shape != self.shape:
            raise ShapeError(
                f"x {sign} y",
                f"x is {describe(self)}, the result would be {result.shape}",
                "a result of x's own shape",
                f"write x = x {sign[:-1]} y",
            )
        if result.dtype != self.dtype:
            if not np.can_cast(result.dtype, self.dtype, "same_kind"):
                raise DTypeError(
                    f"x {sign} y",
                    f"x is {describe(self)}, the result would be {result.dtype}",
                    "a result that fits x's own dtype",
                    f"write x = x {sign[:-1]} y",
                )
            result = result.astype(self.dtype)
        if recorded:
            self._become(result)
        else:
            self._writable()[...] = result._data
            self._touch(f"x {sign} y")
        return self

    def _write_is_recorded(self, what: str, value: Any) -> bool:
        if not is_recording():
            return False
        if isinstance(self._node, Leaf):
            raise InPlaceError(
                what,
                f"x is {self._what()}, a leaf that requires a gradient, while operations are recorded",
                "a write outside the graph, or a tensor that is not a leaf",
                "write under `with no_grad():`, or on a copy: x = x.copy()",
            )
        return self._node is not None or (isinstance(value, Tensor) and value._node is not None)

    def _become(self, result: Tensor) -> None:
        self._data, self._node, self._version = result._data, result._node, result._version

    def _writable(self) -> Array:
        """The array to write into: our own memory, or a fresh copy where recorded results may look at it."""
        if self._version is None or self._version is FOREIGN or not self._data.flags.writeable:
            self._data, self._version = self._data.copy(), Version()
        return self._data

    def _touch(self, how: str) -> None:
        if self._version is None:
            self._version = Version()
        self._version.touch(how, self.name, self._data)

    # Operators. The op classes put their functions here as they are defined (see OPERATORS): `x * y` is then one
    # Python call and not two, which is 60 ns of about 800.

    if TYPE_CHECKING:

        def __add__(self, other: TensorLike) -> Tensor: ...
        def __sub__(self, other: TensorLike) -> Tensor: ...
        def __mul__(self, other: TensorLike) -> Tensor: ...
        def __truediv__(self, other: TensorLike) -> Tensor: ...
        def __pow__(self, other: TensorLike) -> Tensor: ...
        def __matmul__(self, other: TensorLike) -> Tensor: ...
        def __radd__(self, other: TensorLike) -> Tensor: ...
        def __rsub__(self, other: TensorLike) -> Tensor: ...
        def __rmul__(self, other: TensorLike) -> Tensor: ...
        def __rtruediv__(self, other: TensorLike) -> Tensor: ...
        def __rpow__(self, other: TensorLike) -> Tensor: ...
        def __rmatmul__(self, other: TensorLike) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...

    def __iadd__(self, other: TensorLike) -> Tensor:
        return self._inplace("add", "+=", other)

    def __isub__(self, other: TensorLike) -> Tensor:
        return self._inplace("subtract", "-=", other)

    def __imul__(self, other: TensorLike) -> Tensor:
        return self._inplace("multiply", "*=", other)

    def __itruediv__(self, other: TensorLike) -> Tensor:
        return self._inplace("divide", "/=", other)

    def __ipow__(self, other: TensorLike) -> Tensor:
        return self._inplace("power", "**=", other)

    def __imatmul__(self, other: TensorLike) -> Tensor:
        return self._inplace("matmul", "@=", other)

    def __pos__(self) -> Tensor:
        return self.copy()

    # Comparisons give plain arrays: they have no derivative

    def _compared(self, compare: Callable[[Any, Any], Any], sign: str, other: Any) -> Any:
        try:
            return compare(self._data, plain(other))
        except (ValueError, TypeError):
            y = numbers(f"x {sign} y: y", plain(other), None, copy=False)
            raise ShapeError(
                f"x {sign} y",
                f"x is {describe(self)}, y is {describe(y)}",
                "shapes that broadcast",
                "make them equal, or insert an axis of length 1, such as x[:, None]",
            ) from None

    def __eq__(self, other: object) -> Any:
        return self._compared(operator.eq, "==", other)

    def __ne__(self, other: object) -> Any:
        return self._compared(operator.ne, "!=", other)

    def __lt__(self, other: TensorLike) -> Any:
        return self._compared(operator.lt, "<", other)

    def __le__(self, other: TensorLike) -> Any:
        return self._compared(operator.le, "<=", other)

    def __gt__(self, other: TensorLike) -> Any:
        return self._compared(operator.gt, ">", other)

    def __ge__(self, other: TensorLike) -> Any:
        return self._compared(operator.ge, ">=", other)

    def __contains__(self, value: TensorLike) -> bool:
        return bool(np.any(self == value))

    __hash__ = object.__hash__

    # Methods, as far as ndarray has them

    def astype(self, dtype: DTypeLike) -> Tensor:
        """The values in another dtype; the gradient comes back in this one's."""
        return _OPS["astype"](self, dtype)

    def copy(self) -> Tensor:
        """The same values in memory of their own, recorded: the gradient flows through."""
        return _OPS["copy"](self)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The sum over axis; see minigrad.sum."""
        return _OPS["sum"](self, axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The mean over axis; see minigrad.mean."""
        return _OPS["mean"](self, axis, keepdims=keepdims)

    def var(self, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """The variance over axis; see minigrad.var."""
        return _OPS["var"](self, axis, ddof=ddof, keepdims=keepdims)

    def std(self, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """The standard deviation over axis; see minigrad.std."""
        return _OPS["std"](self, axis, ddof=ddof, keepdims=keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The product over axis; see minigrad.prod."""
        return _OPS["prod"](self, axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The largest value over axis; see minigrad.max."""
        return _OPS["max"](self, axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The smallest value over axis; see minigrad.min."""
        return _OPS["min"](self, axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None) -> Any:
        """Where the largest value is: a plain integer array."""
        return _OPS["argmax"](self, axis=axis)

    def argmin(self, axis: int | None = None) -> Any:
        """Where the smallest value is: a plain integer array."""
        return _OPS["argmin"](self, axis=axis)

    def cumsum(self, axis: int | None = None) -> Tensor:
        """The running sum; see minigrad.cumsum."""
        return _OPS["cumsum"](self, axis)

    def clip(self, a_min: TensorLike | None = None, a_max: TensorLike | None = None) -> Tensor:
        """The values held between a_min and a_max; see minigrad.clip."""
        return _OPS["clip"](self, a_min, a_max)

    def reshape(self, *shape: Any) -> Tensor:
        """The values in another shape: t.reshape(2, 3), t.reshape((2, -1))."""
        return _OPS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def flatten(self) -> Tensor:
        """The values in one row."""
        return self.reshape(-1)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order, reversed by default: t.transpose(1, 0, 2)."""
        if len(axes) == 1 and not isinstance(axes[0], int):
            axes = axes[0]
        return _OPS["transpose"](self, axes or None)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Two axes exchanged."""
        return _OPS["swapaxes"](self, axis1, axis2)

    def squeeze(self, axis: Axis = None) -> Tensor:
        """Without its axes of length 1."""
        return _OPS["squeeze"](self, axis)

    def repeat(self, repeats: int, axis: int | None = None) -> Tensor:
        """Each value repeated; see minigrad.repeat."""
        return _OPS["repeat"](self, repeats, axis)

    def dot(self, other: TensorLike) -> Tensor:
        """The dot product; see minigrad.dot."""
        return _OPS["dot"](self, other)

    # NumPy's protocols: np.exp(t), ndarray * t, np.sum(t, axis=0)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return answer_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        return answer_function(func, args, kwargs)


TensorLike = Tensor | ArrayLike
_OPS: dict[str, Callable[..., Tensor]] = TABLE


def publish(name: str, function: Callable[..., Tensor], answers: Iterable[Callable[..., Any]]) -> None:
    """Make function the public one of the op of that name: in TABLE, as an operator, and for NumPy's functions."""
    TABLE[name] = function
    ANSWERS.update(dict.fromkeys(answers, function))
    if name in OPERATORS:
        setattr(Tensor, f"__{OPERATORS[name]}__", function)
        if function.__code__.co_argcount == 2:
            setattr(Tensor, f"__r{OPERATORS[name]}__", lambda self, other: function(other, self))


def wrap(array: Array, node: Node | None = None, version: Version | None = None) -> Tensor:
    """A Tensor around an array as it is, for code that knows what it does: nothing copied or checked."""
    t: Tensor = _new(Tensor)
    t._data, t._node, t._version, t.name = array, node, version, None
    return t


def from_numpy(array: Array) -> Tensor:
    """A Tensor that shares memory with array: a write into one is seen by the other, but not by the tape.

    array: numpy.ndarray of real numbers, any shape. Raises DTypeError for anything else.

    >>> a = np.zeros(2)
    >>> t = from_numpy(a)
    >>> a[0] = 1
    >>> t
    Tensor([1., 0.], dtype=float64)
    """
    if not isinstance(array, (np.ndarray, Standin)):
        raise DTypeError(
            "from_numpy", f"array is {describe(array)}", "a numpy.ndarray", "use Tensor(data), which copies"
        )
    if not array.dtype.isnative:
        raise DTypeError(
            "from_numpy",
            f"array is {describe(array)}",
            "the machine's own byte order",
            "use Tensor(array), which copies",
        )
    return wrap(numbers("from_numpy", array, None, copy=False), None, Version())


def plain(value: Any) -> Any:
    """value with every Tensor in it, also inside tuples and lists, replaced by its array."""
    if isinstance(value, Tensor):
        return value._data
    if isinstance(value, (tuple, list)):
        return type(value)([plain(item) for item in value])
    return value


def _leaf(function: str, t: Tensor, array: Array) -> Leaf:
    if array.dtype.kind != "f":
        raise DTypeError(
            function,
            f"requires_grad=True for {describe(array)}",
            "a float dtype: only floats have gradients",
            "write Tensor(data, dtype=float, requires_grad=True)",
        )
    return Leaf(t, array.shape, array.dtype)


def _unpickle(cls: type[Tensor], array: Array, requires_grad: bool, name: str | None) -> Tensor:
    t: Tensor = _new(cls)
    t._own(array.copy(), requires_grad, name)  # copy.copy passes the array itself
    return t


def seed(function: str, output: Tensor, gradient: Any, argument: str = "gradient") -> tuple[Node, Any]:
    """The node to start from and the gradient that comes in there, checked."""
    node = output._node
    if node is None:
        raise GraphError(
            function,
            f"{output._what()}, which has no graph",
            "a tensor computed from one with requires_grad=True, outside no_grad()",
            "write x = Tensor(..., requires_grad=True) before the computation",
        )
    if gradient is None:
        if output._data.size != 1:
            raise GraphError(
                function,
                f"{output._what()} and no gradient",
                "a single value, such as a loss",
                f"write t.sum() in its place, or pass {argument}= with an array of that shape",
            )
        return node, np.array(1.0, node.dtype, ndmin=len(node.shape))  # a quarter of the time of np.ones
    if isinstance(gradient, Tensor):
        value: Any = gradient
    else:
        value = numbers(f"{function}: {argument}", gradient, None, copy=False)
    if value.shape != node.shape:
        raise ShapeError(
            f"{function}: {argument}",
            f"{argument} is {describe(value)} for a tensor of shape {node.shape}",
            f"shape {node.shape}",
            "pass an array of exactly the tensor's shape",
        )
    if value.dtype != node.dtype:
        value = value.astype(node.dtype)
    return node, value
