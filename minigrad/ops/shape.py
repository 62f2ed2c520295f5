"""Ops that move, copy and join values without changing them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minigrad.contract import Case, numbers
from minigrad.dispatch import ANSWERS, TABLE
from minigrad.errors import ArgumentError, DTypeError, LabelError, ShapeError, describe
from minigrad.op import Op
from minigrad.ops.index import scatter_of
from minigrad.ops.kernels import sum_of
from minigrad.ops.reduce import fixed_axis
from minigrad.standin import as_array
from minigrad.sums import unbroadcast
from minigrad.tensor import Axis, Tensor, TensorLike, plain

__all__ = [
    "astype", "broadcast_to", "concatenate", "copy", "expand_dims", "flip", "moveaxis", "pad", "ravel", "repeat",
    "reshape", "split", "squeeze", "stack", "swapaxes", "tile", "transpose",
]  # fmt: skip

Shape = int | Sequence[int]


def _lengths(where: str, value: Any) -> int | tuple[int, ...]:
    """value as a whole number or a tuple of them."""
    try:
        return index(value) if np.ndim(value) == 0 else tuple(index(n) for n in value)
    except TypeError:
        raise DTypeError(
            where, describe(value), "a whole number, or a list of them", f"write {where.split(': ')[1]}=(2, 3)"
        ) from None


class Copy(Op):
    """out = x, in memory of its own

    >>> copy(Tensor([1.0, 2.0]))
    Tensor([1., 2.], dtype=float64)
    """

    gradients = ("dout",)
    moves = True
    cases = (Case(()), Case((2, 3)), Case((0,)))

    def forward(self, x: Any) -> Any:
        return np.array(x) if type(x) is np.ndarray else np.copy(x)

    def backward(self, dout: Any) -> Any:
        return dout


@Copy.public(np.copy)
def copy(x: TensorLike) -> Tensor:
    return Copy()(x)


class Astype(Op):
    """out = x in another dtype; the gradient comes back in x's own

    dtype: a real NumPy dtype; an integer one ends the graph. Raises DTypeError for any other.

    >>> astype(Tensor([1.5]), np.float32)
    Tensor([1.5], dtype=float32)
    """

    dtype: Any
    gradients = ("dout.astype(x.dtype)",)
    moves = True
    cases = (Case((3,), dtype="float64"),)

    @staticmethod
    def reference(x: Any, dtype: Any) -> Any:
        return np.array(x.tolist(), dtype)

    def forward(self, x: Any) -> Any:
        return as_array(x).astype(self.dtype)

    def backward(self, dout: Any) -> Any:
        return dout  # the walk brings every gradient to its node's dtype


@Astype.public()
def astype(x: TensorLike, dtype: DTypeLike) -> Tensor:
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        wanted = np.dtype(object)
    if wanted.kind not in "fiub":
        raise DTypeError("astype: dtype", repr(dtype), "a dtype of real numbers", 'write "float32", for example')
    if wanted.kind != "f":
        return Tensor(as_array(plain(x)).astype(wanted))
    return Astype(wanted)(x)


class Reshaping(Op):
    """The same values in the same order, in another shape."""

    gradients = ("reshape(dout, x.shape)",)
    moves = True
    view = True

    def backward(self, dout: Any, x_shape: Any) -> Any:
        return np.reshape(dout, x_shape)


class Reshape(Reshaping):
    """out = x in another shape; one length may be -1

    Raises ArgumentError for a shape that does not hold x's values.

    >>> reshape(Tensor([[1.0, 2.0], [3.0, 4.0]]), -1)
    Tensor([1., 2., 3., 4.], dtype=float64)
    """

    shape: Any
    cases = (
        Case((2, 3), shape=(3, 2)),
        Case((2, 3), shape=-1),
        Case((), shape=(1, 1)),
        Case((0, 3), shape=(3, 0)),
    )

    def forward(self, x: Any) -> Any:
        return np.reshape(x, self.shape)

    def explain(self, error: Exception, *arrays: Any) -> Exception:
        if type(error) is ValueError:
            n = np.size(arrays[0])
            return ArgumentError(
                "reshape: shape",
                f"x is {describe(arrays[0])} with {n} values, shape is {self.shape}",
                f"lengths whose product is {n}",
                "pass -1 for the length that follows from the others, such as x.reshape(-1)",
            )
        return super().explain(error, *arrays)


@Reshape.public(np.reshape)
def reshape(x: TensorLike, shape: Shape) -> Tensor:
    return Reshape(_lengths("reshape: shape", shape))(x)


def ravel(x: TensorLike) -> Tensor:
    """out = x in one row

    >>> ravel(Tensor([[1.0], [2.0]]))
    Tensor([1., 2.], dtype=float64)
    """
    return reshape(x, -1)


ANSWERS[np.ravel] = ravel


class ExpandDims(Reshaping):
    """out = x with a new axis of length 1 at `axis`

    >>> expand_dims(Tensor([1.0, 2.0]), 0)
    Tensor([[1., 2.]], dtype=float64)
    """

    axis: int | tuple[int, ...]
    cases = (Case((3,), axis=0), Case((2, 3), axis=-1), Case((2,), axis=(0, 2)))

    def forward(self, x: Any) -> Any:
        return np.expand_dims(x, self.axis)


@ExpandDims.public(np.expand_dims)
def expand_dims(x: TensorLike, axis: int | tuple[int, ...]) -> Tensor:
    return ExpandDims(axis)(x)


class Squeeze(Reshaping):
    """out = x without its axes of length 1, all of them or those in `axis`

    >>> squeeze(Tensor([[1.0, 2.0]]))
    Tensor([1., 2.], dtype=float64)
    """

    axis: Axis = None
    cases = (Case((1, 3)), Case((2, 1, 1), axis=1), Case((1, 2, 1), axis=(0, 2)))

    def forward(self, x: Any) -> Any:
        return np.squeeze(x, axis=self.axis)


@Squeeze.public(np.squeeze)
def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    return Squeeze(axis)(x)


class Transpose(Op):
    """out = x with its axes in another order, reversed by default

    axes: the old axes in their new order.

    >>> transpose(Tensor([[1.0, 2.0]])).shape
    (2, 1)
    """

    axes: tuple[int, ...] | None = None
    symbol = "T"
    gradients = ("transpose(dout, axes and argsort(axes))",)
    moves = True
    view = True
    cases = (Case((2, 3)), Case((2, 3, 4), axes=(1, 2, 0)), Case(()))

    def forward(self, x: Any) -> Any:
        return np.transpose(x, self.axes)

    def backward(self, dout: Any) -> Any:
        return np.transpose(
            dout, None if self.axes is None else np.argsort([a % dout.ndim for a in self.axes]).tolist()
        )


@Transpose.public(np.transpose)
def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    return Transpose(None if axes is None else tuple(axes))(x)


class Moveaxis(Op):
    """out = x with axis `source` at place `destination`, the others in order

    >>> moveaxis(Tensor(np.zeros((2, 3, 4))), 0, -1).shape
    (3, 4, 2)
    """

    source: Any
    destination: Any
    gradients = ("moveaxis(dout, destination, source)",)
    moves = True
    view = True
    cases = (Case((2, 3, 4), source=0, destination=-1), Case((2, 3, 4), source=(0, 1), destination=(2, 0)))

    def forward(self, x: Any) -> Any:
        return np.moveaxis(x, self.source, self.destination)

    def backward(self, dout: Any) -> Any:
        return np.moveaxis(dout, self.destination, self.source)


@Moveaxis.public(np.moveaxis)
def moveaxis(x: TensorLike, source: Shape, destination: Shape) -> Tensor:
    return Moveaxis(_lengths("moveaxis: source", source), _lengths("moveaxis: destination", destination))(x)


class Swapaxes(Op):
    """out = x with two axes exchanged

    >>> swapaxes(Tensor(np.zeros((2, 3, 4))), 0, 2).shape
    (4, 3, 2)
    """

    axis1: int
    axis2: int
    gradients = ("swapaxes(dout, axis1, axis2)",)
    moves = True
    view = True
    cases = (Case((2, 3, 4), axis1=0, axis2=-1),)

    def forward(self, x: Any) -> Any:
        return np.swapaxes(x, self.axis1, self.axis2)

    def backward(self, dout: Any) -> Any:
        return np.swapaxes(dout, self.axis1, self.axis2)


@Swapaxes.public(np.swapaxes)
def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    return Swapaxes(axis1, axis2)(x)


class BroadcastTo(Op):
    """out = x stretched to shape by NumPy's rules

    >>> broadcast_to(Tensor([1.0, 2.0]), (2, 2))
    Tensor([[1., 2.],
            [1., 2.]], dtype=float64)
    """

    shape: Any
    gradients = ("unbroadcast(dout, x.shape)",)
    moves = True
    view = True
    cases = (Case((3,), shape=(2, 3)), Case((2, 1), shape=(2, 4)), Case((), shape=(2, 2)))

    def forward(self, x: Any) -> Any:
        return np.broadcast_to(x, self.shape)

    def backward(self, dout: Any, x_shape: Any) -> Any:
        return unbroadcast(dout, x_shape)


@BroadcastTo.public(np.broadcast_to)
def broadcast_to(x: TensorLike, shape: Shape) -> Tensor:
    return BroadcastTo(_lengths("broadcast_to: shape", shape))(x)


class Flip(Op):
    """out = x reversed along axis, along all of them by default

    >>> flip(Tensor([1.0, 2.0, 3.0]))
    Tensor([3., 2., 1.], dtype=float64)
    """

    axis: Axis = None
    gradients = ("flip(dout, axis)",)
    moves = True
    view = True
    cases = (Case((2, 3)), Case((2, 3), axis=1), Case((2, 3, 2), axis=(0, 2)))

    def forward(self, x: Any) -> Any:
        return np.flip(x, self.axis)

    def backward(self, dout: Any) -> Any:
        return np.flip(dout, self.axis)


@Flip.public(np.flip)
def flip(x: TensorLike, axis: Axis = None) -> Tensor:
    return Flip(fixed_axis(axis))(x)


class Concatenate(Op):
    """out = the tensors xs, one behind the other along axis

    xs: tensors of the same shape but for that axis. Raises ArgumentError for any others.

    >>> concatenate([Tensor([1.0]), Tensor([2.0, 3.0])])
    Tensor([1., 2., 3.], dtype=float64)
    """

    axis: int = 0
    lengths: tuple[int, ...]
    gradients = ("split(dout, cumsum(lengths)[:-1], axis)",)
    moves = True
    cases = (Case((2, 3), (1, 3)), Case((2, 3), (2, 1), (2, 0), axis=1), Case((2,), axis=-1))

    def explain(self, error: Exception, *arrays: Any) -> Exception:
        if type(error) is ValueError:
            return ShapeError(
                "concatenate: xs",
                ", ".join([*(f"xs[{i}] is {describe(a)}" for i, a in enumerate(arrays)), f"axis={self.axis}"]),
                f"equal lengths of all axes but axis {self.axis}",
                "reshape or broadcast them first; stack joins along a new axis",
            )
        return super().explain(error, *arrays)

    def forward(self, *xs: Any) -> Any:
        return np.concatenate(xs, axis=self.axis)

    def backward(self, dout: Any) -> Any:
        return tuple(np.split(dout, np.cumsum(self.lengths)[:-1].tolist(), axis=self.axis))


@Concatenate.public(np.concatenate)
def concatenate(xs: Sequence[TensorLike], axis: int = 0) -> Tensor:
    shapes = _sequence("concatenate", xs)
    lengths = tuple(s[axis] if -len(s) <= axis < len(s) else 0 for s in shapes)
    return Concatenate(axis, lengths)(*xs)


class Stack(Op):
    """out = the tensors xs, of one shape, along a new axis

    >>> stack([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])]).shape
    (2, 2)
    """

    axis: int = 0
    gradients = ("moveaxis(dout, axis, 0)",)
    moves = True
    cases = (Case((2, 3), (2, 3)), Case((2,), (2,), (2,), axis=-1), Case((), ()))

    def forward(self, *xs: Any) -> Any:
        return np.stack(xs, axis=self.axis)

    def backward(self, dout: Any) -> Any:
        return tuple(np.moveaxis(dout, self.axis, 0))


@Stack.public(np.stack)
def stack(xs: Sequence[TensorLike], axis: int = 0) -> Tensor:
    _sequence("stack", xs)
    return Stack(axis)(*xs)


def _sequence(function: str, xs: Any) -> list[tuple[int, ...]]:
    if np.ndim(xs) == 0 if isinstance(xs, (np.ndarray, Tensor)) else not isinstance(xs, (list, tuple)) or not xs:
        raise ArgumentError(
            f"{function}: xs", f"xs is {describe(xs)}", "a list of at least one tensor", f"write {function}([x, y])"
        )
    return [numbers(f"{function}: xs[{i}]", plain(x), None, copy=False).shape for i, x in enumerate(xs)]


def split(x: TensorLike, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """out = x cut along axis, into equal sections or before the given indices: a list of tensors

    Raises ArgumentError for a number of sections that does not divide the axis.

    >>> split(Tensor([1.0, 2.0, 3.0]), [1])
    [Tensor([1.], dtype=float64), Tensor([2., 3.], dtype=float64)]
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    if not -x.ndim <= axis < x.ndim:
        raise LabelError(
            "split: axis",
            f"axis={axis}, x is {describe(x)}",
            f"axes from {-x.ndim} to {x.ndim - 1}" if x.ndim else "an x with an axis",
            "count axes from 0, or from the end with -1",
        )
    n = x.shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        sections = int(indices_or_sections)
        if sections < 1 or n % sections:
            raise ArgumentError(
                "split: indices_or_sections",
                f"{sections} sections of axis {axis} of {describe(x)}",
                "a number that divides the length of that axis",
                "pass the indices to cut at, such as [2, 4]",
            )
        cuts = [n // sections * i for i in range(1, sections)]
    else:
        cuts = [int(i) for i in indices_or_sections]
    before = (slice(None),) * (axis % x.ndim)
    return [x[(*before, slice(a, b))] for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


ANSWERS[np.split] = split


class Pad(Op):
    """out = x with constant_values around it

    pad_width: how many before and after each axis, as in NumPy: 1, (1, 2) or ((0, 0), (1, 2)).
    mode: "constant", or any mode of numpy.pad that repeats values of x: "edge", "reflect", "symmetric", "wrap".
    Raises ArgumentError for any other mode.

    >>> pad(Tensor([1.0, 2.0]), (1, 0))
    Tensor([0., 1., 2.], dtype=float64)
    """

    widths: tuple[tuple[int, int], ...]
    constant_values: Any = 0
    gradients = ("dout[tuple(slice(a, a + n) for (a, _), n in zip(widths, x.shape))]",)
    moves = True
    cases = (
        Case((3,), pad_width=1),
        Case((2, 3), pad_width=((0, 1), (2, 0)), constant_values=1.5),
        Case((2, 3), pad_width=1, mode="reflect"),
    )

    def forward(self, x: Any) -> Any:
        return np.pad(x, self.widths, constant_values=self.constant_values)

    def backward(self, dout: Any) -> Any:
        return dout[tuple(slice(a, n - b) for (a, b), n in zip(self.widths, dout.shape, strict=True))]


@Pad.public(np.pad)
def pad(x: TensorLike, pad_width: Any, mode: str = "constant", *, constant_values: float = 0) -> Tensor:
    shape = numbers("pad: x", plain(x), None, copy=False).shape
    try:
        widths = tuple((int(a), int(b)) for a, b in np.broadcast_to(pad_width, (len(shape), 2)).tolist())
        if any(w < 0 for pair in widths for w in pair):
            raise ValueError
    except (ValueError, TypeError):
        raise ArgumentError(
            "pad: pad_width",
            f"{pad_width!r} for {describe(x)}",
            "a count of at least 0 before and after each axis",
            "write ((before, after), ...) with a pair for each axis",
        ) from None
    if mode == "constant":
        return Pad(widths, constant_values)(x)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ArgumentError(
            "pad: mode",
            repr(mode),
            '"constant", "edge", "reflect", "symmetric" or "wrap"',
            'write mode="constant"',
        )
    options: dict[str, Any] = {"mode": mode}
    rows = [np.pad(np.arange(n), width, **options) for n, width in zip(shape, widths, strict=True)]
    out: Tensor = TABLE["getitem"](x, np.ix_(*rows))
    return out


class Tile(Op):
    """out = x laid out reps times along each axis

    reps: a count, or one for each axis, as in NumPy.

    >>> tile(Tensor([1.0, 2.0]), 2)
    Tensor([1., 2., 1., 2.], dtype=float64)
    """

    reps: Any
    moves = True
    cases = (
        Case((2,), reps=3),
        Case((2, 3), reps=(2, 2)),
        Case((3,), reps=(2, 1)),
        Case((2, 3), reps=2),
        Case((2,), reps=0),
    )

    def forward(self, x: Any) -> Any:
        return np.tile(x, self.reps)

    def backward(self, dout: Any, x_shape: Any) -> Any:
        reps = (self.reps,) if isinstance(self.reps, int) else self.reps
        n = max(len(reps), len(x_shape))
        reps, shape = (1,) * (n - len(reps)) + reps, (1,) * (n - len(x_shape)) + x_shape
        parts = np.reshape(dout, tuple(length for pair in zip(reps, shape, strict=True) for length in pair))
        return np.reshape(sum_of(parts, tuple(range(0, 2 * n, 2))), x_shape)


@Tile.public(np.tile)
def tile(x: TensorLike, reps: Shape) -> Tensor:
    return Tile(_lengths("tile: reps", reps))(x)


class Repeat(Op):
    """out = each value of x, repeated along axis; axis None flattens first

    repeats: a count, or one for each position along axis.

    >>> repeat(Tensor([1.0, 2.0]), 2)
    Tensor([1., 1., 2., 2.], dtype=float64)
    """

    repeats: Any
    axis: int | None = None
    moves = True
    cases = (
        Case((3,), repeats=2),
        Case((2, 3), repeats=2, axis=0),
        Case((2, 3), repeats=(1, 0, 2), axis=1),
        Case((2, 2), repeats=3),
    )

    def forward(self, x: Any) -> Any:
        return np.repeat(x, self.repeats, self.axis)

    def backward(self, dout: Any, x_shape: Any) -> Any:
        axis = 0 if self.axis is None else self.axis % len(x_shape)
        shape = (math.prod(x_shape),) if self.axis is None else x_shape
        if isinstance(self.repeats, int):
            parts = np.reshape(dout, (*shape[: axis + 1], self.repeats, *shape[axis + 1 :]))
            return np.reshape(sum_of(parts, axis + 1), x_shape)
        source = np.repeat(np.arange(shape[axis]), self.repeats)
        return np.reshape(scatter_of(dout, (*[slice(None)] * axis, source), shape), x_shape)


@Repeat.public(np.repeat)
def repeat(x: TensorLike, repeats: Shape, axis: int | None = None) -> Tensor:
    return Repeat(_lengths("repeat: repeats", repeats), axis)(x)
