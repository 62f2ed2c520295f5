"""Ops that select: x[index], its transpose, x[index] = value, take_along_axis, embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.contract import Case, numbers, write
from minigrad.errors import ArgumentError, DTypeError, LabelError, ShapeError, describe
from minigrad.op import Op
from minigrad.ops.kernels import masked
from minigrad.standin import Standin, as_array, whole
from minigrad.sums import unbroadcast
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["embedding", "getitem", "scatter", "setitem", "take_along_axis"]


def _is_basic(index: Any) -> bool:
    """Whether index picks each entry at most once and gives a view: integers, slices, None, ... alone."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or (isinstance(part, (int, np.integer, slice)) and not isinstance(part, bool))
        for part in parts
    )


class Getitem(Op):
    """out = x[index], for every index that NumPy knows

    Raises LabelError for an index out of range, or of more axes than x has.

    >>> getitem(Tensor([1.0, 2.0, 3.0]), slice(1, None))
    Tensor([2., 3.], dtype=float64)
    """

    index: Any
    symbol = "x[i]"
    gradients = ("scatter(dout, index, x.shape)",)
    view = True
    moves = selects = True
    cases = (
        Case((4,), index=1),
        Case((4, 3), index=(slice(None, None, -2), 1)),
        Case((4, 3), index=(Ellipsis, None, 0)),
        Case((4, 3), index=[0, 0, 3]),
        Case((4, 3), index=(np.array([[0, 1], [1, 1]]), np.array([2, -1]))),
        Case((2, 3), index=np.array([[True, False, True], [False, True, False]])),
        Case((3, 2, 4), index=(slice(1, None), np.array([1, 0, 1]), slice(None, 2))),
    )

    @staticmethod
    def reference(x: Any, index: Any) -> Any:
        places = np.arange(x.size).reshape(x.shape)[index]
        return np.array([x.reshape(-1)[i] for i in places.reshape(-1).tolist()]).reshape(places.shape)

    def forward(self, x: Any) -> Any:
        return x[self.index]

    def backward(self, dout: Any, x_shape: Any) -> Any:
        return scatter_of(dout, self.index, x_shape)

    def explain(self, error: Exception, *arrays: Any) -> Exception:
        if isinstance(error, IndexError):
            return LabelError(
                "x[index]",
                f"x is {describe(arrays[0])}, index is {self.index!r}",
                f"indices within {np.shape(arrays[0])}",
                f"count from 0, or from the end with -1; NumPy's reason: {error}",
            )
        return super().explain(error, *arrays)


@Getitem.public()
def getitem(x: TensorLike, index: Any) -> Tensor:
    return Getitem(_fixed(index))(x)


def _fixed(index: Any) -> Any:
    """index without Tensors, and with arrays of its own, which nobody can change before backward."""
    if isinstance(index, tuple):
        return tuple(_fixed(part) for part in index)
    index = plain(index)
    if isinstance(index, list) and not index:
        return np.zeros(0, np.intp)
    if isinstance(index, Standin):
        return index.copy()
    return np.array(index) if isinstance(index, (np.ndarray, list)) else index


class Scatter(Op):
    """out = zeros of `shape`, with x added at index: the transpose of x[index]

    shape: of the result. Entries that index names twice get both values.

    >>> scatter(Tensor([1.0, 2.0]), [0, 0], (3,))
    Tensor([3., 0., 0.], dtype=float64)
    """

    index: Any
    shape: tuple[int, ...]
    gradients = ("dout[index]",)
    moves = True
    cases = (
        Case((3, 3), index=[0, 0, 3], shape=(4, 3)),
        Case((2,), index=slice(1, 3), shape=(4,)),
        Case((), index=(0, 1), shape=(2, 2)),
    )

    @staticmethod
    def reference(x: Any, index: Any, shape: tuple[int, ...]) -> Any:
        out = np.zeros(int(np.prod(shape)))
        places = np.arange(out.size).reshape(shape)[index]
        for place, value in zip(places.reshape(-1).tolist(), x.reshape(-1).tolist(), strict=True):
            out[place] += value
        return out.reshape(shape)

    def forward(self, x: Any) -> Any:
        x = as_array(x)
        out = np.zeros(self.shape, x.dtype) if type(x) is np.ndarray else np.zeros_like(x, shape=self.shape, order="C")
        if _is_basic(self.index):
            out[self.index] = x
        elif isinstance(self.index, np.ndarray) and self.index.dtype.kind in "iu" and out.ndim > 1:
            _add_rows(out, self.index, x)
        else:
            np.add.at(out, self.index, x)
        return out

    def backward(self, dout: Any) -> Any:
        return dout[self.index]


@Scatter.public()
def scatter(x: TensorLike, index: Any, shape: tuple[int, ...]) -> Tensor:
    return Scatter(_fixed(index), tuple(shape))(x)


def _add_rows(out: Any, index: Any, rows: Any) -> None:
    """out[index] += rows, where index may name a row several times.

    add.at has a fast path for one axis alone: 4 times faster for 2048 rows of 64 than along the first of two, and as
    fast as sorting the rows and adding up stretches of them, or faster.
    """
    width = int(np.prod(out.shape[1:]))
    starts = index.reshape(-1, 1).astype(np.int64) * width  # of a negative index, counted from the end as well
    np.add.at(out.reshape(-1), (starts + np.arange(width)).reshape(-1), rows.reshape(-1))


def scatter_of(dout: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """scatter for a rule, which sees an array or a Tensor."""
    op = Scatter(index, shape)
    return op(dout) if isinstance(dout, Tensor) else op.forward(dout)


class Setitem(Op):
    """out = x, with y at index

    y: a value that broadcasts to x[index].

    >>> setitem(Tensor([1.0, 2.0]), 9.0, 0)
    Tensor([9., 2.], dtype=float64)
    """

    index: Any
    symbol = "x[i]=y"
    gradients = ("setitem(dout, 0, index)", "unbroadcast(dout[index], y.shape)")
    moves = selects = True
    cases = (
        Case((4, 3), (3,), index=slice(1, 3)),
        Case((4,), (), index=-1),
        Case((4, 3), (2, 3), index=np.array([True, False, True, False])),
        Case((2, 3), (2,), index=(np.array([0, 1]), np.array([2, 0]))),
    )

    @staticmethod
    def reference(x: Any, y: Any, index: Any) -> Any:
        out = x.reshape(-1).tolist()
        places = np.arange(x.size).reshape(x.shape)[index]
        for place, value in zip(
            places.reshape(-1).tolist(), np.broadcast_to(y, places.shape).reshape(-1).tolist(), strict=True
        ):
            out[place] = value
        return np.array(out).reshape(x.shape)

    def forward(self, x: Any, y: Any) -> Any:
        out = np.array(x) if type(x) is np.ndarray else np.copy(x)
        write(out, self.index, y)
        return out

    def backward(self, dout: Any, y_shape: Any, needs: Any) -> Any:
        kept, stays = whole(_kept_and_staying, dout.shape, self.index)
        dy = None
        if needs[1]:
            dy = np.where(stays, dout[self.index], 0)
            if dy.shape != y_shape:
                extra = len(y_shape) - len(dy.shape)
                dy = np.reshape(unbroadcast(dy, y_shape[extra:] if extra > 0 else y_shape), y_shape)
        return np.where(kept, dout, 0), dy


def _kept_and_staying(shape: tuple[int, ...], index: Any) -> tuple[Any, Any]:
    """(True where index names no place of this shape, True at those values of x[index] = y that stay).

    Where the index names a place twice, the last value is the one that stays.
    """
    kept, owner = np.ones(shape, bool), np.full(shape, -1)
    kept[index] = False
    of_values = kept[index].shape
    numbered = np.arange(kept[index].size).reshape(of_values)
    owner[index] = numbered
    return kept, np.asarray(owner[index] == numbered)


@Setitem.public()
def setitem(x: TensorLike, y: TensorLike, index: Any) -> Tensor:
    return Setitem(_fixed(index))(x, y)


class TakeAlongAxis(Op):
    """out = x at indices along axis, as from numpy.argsort or argmax

    indices: integers, of x's shape but for axis. Raises LabelError for an index out of range.

    >>> take_along_axis(Tensor([[3.0, 1.0, 2.0]]), np.array([[1, 2, 0]]), 1)
    Tensor([[1., 2., 3.]], dtype=float64)
    """

    indices: Any
    axis: int | None = -1
    moves = selects = True
    cases = (
        Case((2, 3), indices=np.array([[0, 2, 2], [1, 1, 0]]), axis=1),
        Case((2, 3), indices=np.array([[1, 0, 1]]), axis=0),
        Case((2, 2), indices=np.array([3, 0, 3]), axis=None),
    )

    @staticmethod
    def reference(x: Any, indices: Any, axis: int | None = -1) -> Any:
        if axis is None:
            return np.array([x.reshape(-1).tolist()[i] for i in indices])
        out = np.empty(indices.shape)
        for place in np.ndindex(indices.shape):
            source = list(place)
            source[axis] = indices[place]
            out[place] = x[tuple(source)]
        return out

    def forward(self, x: Any) -> Any:
        return np.take_along_axis(x, self.indices, self.axis)

    def backward(self, dout: Any, x_shape: Any) -> Any:
        if self.axis is None:
            flat = scatter_of(dout, self.indices, (int(np.prod(x_shape)),))
            return np.reshape(flat, x_shape)
        index: list[Any] = list(np.ogrid[tuple(slice(n) for n in dout.shape)])
        for k, n in enumerate(x_shape):
            if n == 1:  # x was stretched along this axis
                index[k] = index[k] * 0
        index[self.axis] = self.indices
        return scatter_of(dout, tuple(index), x_shape)

    def explain(self, error: Exception, *arrays: Any) -> Exception:
        if isinstance(error, IndexError):
            indices = as_array(self.indices)
            return LabelError(
                "take_along_axis: indices",
                f"x is {describe(arrays[0])}, indices go from {indices.min()} to {indices.max()}, axis={self.axis}",
                f"indices within {np.shape(arrays[0])}",
                "count from 0; indices come from np.argsort(x, axis), for example",
            )
        return super().explain(error, *arrays)


@TakeAlongAxis.public(np.take_along_axis)
def take_along_axis(x: TensorLike, indices: Any, axis: int | None = -1) -> Tensor:
    places = as_array(plain(indices))
    if places.dtype.kind not in "iu":
        raise DTypeError(
            "take_along_axis: indices", describe(places), "integers", "write indices.astype(int), or use np.argsort"
        )
    return TakeAlongAxis(_fixed(places), axis)(x)


class Embedding(Op):
    """out = weight[indices], a row for each index

    weight: (n, d) floats. indices: integers of any shape, from 0 to n - 1; out: (*indices.shape, d).
    padding_idx: a row whose gradient is 0. Rows that are named several times get the sum of their gradients.
    Raises LabelError for indices out of range, also negative ones, DTypeError for indices that are no integers.

    >>> embedding(Tensor([[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]]), [2, 0])
    Tensor([[2. , 2.5],
            [0. , 0.5]], dtype=float64)
    """

    padding_idx: int | None = None
    gradients = ("scatter(dout, indices, weight.shape)", "")
    cases = (
        Case((4, 2), indices=np.array([3, 0, 3])),
        Case((3, 2), indices=np.array([[0, 1], [1, 1]])),
        Case((3, 2), indices=np.array([0, 2, 2]), padding_idx=1),
        Case((2, 3), indices=np.array(1)),
        Case((2, 3), indices=np.zeros((0, 2), int)),
    )

    @staticmethod
    def reference(x: Any, indices: Any, padding_idx: int | None = None) -> Any:
        rows = x.tolist()
        return np.array([rows[i] for i in indices.reshape(-1).tolist()]).reshape(*indices.shape, x.shape[1])

    def check(self, weight: Any, indices: Any) -> None:
        """The indices: within the rows."""
        n = len(weight)
        # Read as unsigned, a negative number is a large one: one pass in place of two.
        if np.maximum.reduce(indices.astype(np.uint64), axis=None, initial=0) < max(n, 1) and (n or not indices.size):
            return
        bad = np.argwhere((indices < 0) | (indices >= n)).tolist()
        shown = ", ".join(f"indices{i} = {indices[tuple(i)]}" for i in bad[:3])
        raise LabelError(
            f"{self.name}: indices",
            f"{shown}{f' and {len(bad) - 3} more' if len(bad) > 3 else ''} for {n} rows",
            f"row numbers from 0 to {n - 1}",
            f"make weight of {max(int(indices.max()) + 1, n + 1)} rows, or look at what numbers the indices"
            if indices.min() >= 0
            else "count rows from 0, and give padding a row of its own: padding_idx=",
        )

    def forward(self, weight: Any, indices: Any) -> Any:
        return np.take(weight, indices, axis=0)

    def backward(self, dout: Any, indices: Any, weight_shape: Any) -> Any:
        if self.padding_idx is not None:
            dout = masked(dout, (indices != self.padding_idx)[..., None])
        return scatter_of(dout, indices, weight_shape), None


@Embedding.public()
def embedding(weight: TensorLike, indices: Any, padding_idx: int | None = None) -> Tensor:
    table = weight if isinstance(weight, Tensor) else numbers("embedding: weight", weight, None, copy=False)
    if table.ndim != 2:
        raise ShapeError("embedding: weight", f"weight is {describe(table)}", "(rows, width)", "give it two axes")
    places = numbers("embedding: indices", plain(indices), None, copy=True)  # the caller may change them
    if places.dtype.kind not in "iu" and places.size:
        raise DTypeError(
            "embedding: indices", describe(places), "integers", "write indices.astype(int), or swap the arguments"
        )
    if padding_idx is not None:
        if not isinstance(padding_idx, (int, np.integer)) or not -len(table) <= padding_idx < len(table):
            raise ArgumentError(
                "embedding: padding_idx",
                f"padding_idx={padding_idx!r} for {len(table)} rows",
                "the number of one of them",
                "leave it out if no row is padding",
            )
        padding_idx = int(padding_idx) % len(table)
    return Embedding(padding_idx)(weight, places.astype(np.int64, copy=False))
