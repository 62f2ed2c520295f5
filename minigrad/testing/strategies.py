"""Hypothesis strategies for gradients: arrays, operands that fit each other, labels, geometry, layouts.

    @given(x=arrays(domain=POSITIVE, distinct=True), data=st.data())
    def test_log(x, data): ...

Bounds are keyword-only. A request that cannot be met raises InvalidArgument, with the remedy, when the strategy is
made and not when it is drawn from. What is drawn shrinks to few dimensions, short sides and simple values (0, 1, 0.5),
and all of it is drawn through hypothesis, so that a failing example is repeated and minimised.

In order: shapes and values, operands, axes and indices, labels, convolution, layouts and cotangents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minigrad.contract import REAL, Domain
from minigrad.tensor import Tensor
from minigrad.testing.drawing import (
    FLAG,
    GAP,
    InvalidArgument,
    Values,
    check_count,
    check_range,
    check_room,
    check_shape,
    check_sides,
    draw_array,
    draw_distinct,
    drawn_arrays,
    hnp,
    inward,
    st,
    values_of_kind,
)

__all__ = [
    "ConvGeometry",
    "arrays",
    "away_from",
    "axes",
    "broadcastable",
    "conv_geometry",
    "cotangents",
    "indices",
    "layouts",
    "logits_and_labels",
    "matmul_operands",
    "shapes",
    "tensors",
]

Array = NDArray[Any]
Shape = tuple[int, ...]

# exp(-700) is about 1e-304, the last that float64 holds with all digits.
_TAIL = 700.0


class Sides(TypedDict, total=False):
    """Bounds of a shape."""

    min_dims: int
    max_dims: int
    min_side: int
    max_side: int


class ValueOptions(TypedDict, total=False):
    """What values an array has."""

    dtype: DTypeLike
    domain: Domain
    min_value: float | None
    max_value: float | None
    away: Sequence[float]
    gap: float | None
    distinct: bool


class ArrayOptions(ValueOptions, Sides, total=False):
    """What values and what shape an array has."""


class FarOptions(Sides, total=False):
    """The same without the points and their distance."""

    dtype: DTypeLike
    domain: Domain
    min_value: float | None
    max_value: float | None
    distinct: bool


def shapes(
    *, min_dims: int = 0, max_dims: int = 3, min_side: int = 1, max_side: int = 3
) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of min_dims to max_dims axes, with sides from min_side to max_side; min_side=0 for empty arrays too.

    Shrinks to (). Raises InvalidArgument for a bound that is no integer, negative, or above its partner.

    >>> from hypothesis import find
    >>> find(shapes(), lambda shape: len(shape) > 1)
    (1, 1)
    """
    check_sides("shapes", min_dims, max_dims, min_side, max_side)
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def arrays(
    shape: int | tuple[int, ...] | st.SearchStrategy[tuple[int, ...]] | None = None,
    *,
    dtype: DTypeLike = "float64",
    domain: Domain = REAL,
    min_value: float | None = None,
    max_value: float | None = None,
    away: Sequence[float] = (),
    gap: float | None = None,
    distinct: bool = False,
    **sides: Unpack[Sides],
) -> st.SearchStrategy[Array]:
    """Arrays of finite floats, drawn entry by entry and fit for differences: from -4 to 4, none tiny.

    shape: a shape or a strategy for one; by default it is drawn within min_dims, max_dims, min_side, max_side.
    dtype: float16, float32 or float64. domain: a Domain of minigrad.contract, such as POSITIVE.
    min_value, max_value: bounds in place of the domain's.
    away, gap: points, such as kinks, that values keep at least gap (0.25) away from, beside the domain's.
    distinct: no two values alike, on an even grid as wide as the bounds allow: away from the kinks of max and sort.
    Raises InvalidArgument for bounds that no value meets, and for distinct values that dtype cannot tell apart.

    >>> from hypothesis import find
    >>> find(arrays(), lambda x: x.size > 2 and x.max() > 1)
    array([0., 0., 2.])
    >>> find(arrays(3, away=[0], distinct=True), lambda x: True)
    array([1., 2., 3.])
    """
    values = values_of_kind("arrays", dtype, domain, min_value, max_value, away, gap, distinct)
    if shape is not None and sides:
        raise InvalidArgument(
            f"arrays: shape={shape} was given and {', '.join(sides)} too; leave one of them out, "
            "or pass shape=shapes(...) with these bounds"
        )
    if isinstance(shape, int):
        shape = (shape,)
    if shape is not None and not isinstance(shape, st.SearchStrategy):
        check_shape("arrays", shape)
        check_room("arrays", values, math.prod(shape))
        return drawn_arrays(st.just(shape), values)
    if shape is None:
        shape = shapes(**sides)
        largest = max(sides.get("max_side", 3), 0) ** sides.get("max_dims", 3)
        check_room("arrays", values, largest)
    return drawn_arrays(shape, values)


def tensors(
    shape: int | tuple[int, ...] | st.SearchStrategy[tuple[int, ...]] | None = None,
    *,
    requires_grad: bool = True,
    **options: Unpack[ArrayOptions],
) -> st.SearchStrategy[Tensor]:
    """Tensors, leaves of a graph to come; shape, options and InvalidArgument are those of `arrays`.

    >>> from hypothesis import find
    >>> find(tensors(min_dims=1), lambda x: x.data.any())
    Tensor([1.], dtype=float64, requires_grad=True)
    """
    return arrays(shape, **options).map(partial(Tensor, requires_grad=requires_grad))


def away_from(*points: float, gap: float = GAP, **options: Unpack[FarOptions]) -> st.SearchStrategy[Array]:
    """Arrays whose values are at least gap away from every one of points: beside the kinks, on both sides of each.

    options: those of `arrays`. Raises InvalidArgument where no point is named, or nothing is left between them.

    >>> from hypothesis import find
    >>> find(away_from(0.0, 1.0), lambda x: x.ndim == 0)
    array(0.5)
    """
    if not points:
        raise InvalidArgument("away_from: no point was named; write away_from(0.0), or use arrays()")
    return arrays(away=points, gap=gap, **options)


def broadcastable(
    n: int = 2,
    *,
    min_dims: int = 0,
    max_dims: int = 3,
    min_side: int = 1,
    max_side: int = 3,
    **options: Unpack[ValueOptions],
) -> st.SearchStrategy[tuple[Array, ...]]:
    """n arrays whose shapes broadcast against each other; with distinct=True no two values alike in any of them.

    options: the values, as in `arrays`. Raises InvalidArgument as `arrays` does, and for an n below 1.

    >>> from hypothesis import find
    >>> x, y = find(broadcastable(2), lambda xs: xs[0].shape != xs[1].shape and xs[0].ndim > 1)
    >>> x, y
    (array([[0.]]), array(0.))
    """
    check_count("broadcastable", "n", n, 1)
    check_sides("broadcastable", min_dims, max_dims, min_side, max_side)
    values = values_of_kind("broadcastable", **options)
    check_room("broadcastable", values, n * max_side**max_dims)
    drawn = hnp.mutually_broadcastable_shapes(
        num_shapes=n, min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )
    return _operands(drawn, values)


def matmul_operands(
    *,
    max_batch_dims: int = 2,
    min_side: int = 1,
    max_side: int = 3,
    vectors: bool = True,
    **options: Unpack[ValueOptions],
) -> st.SearchStrategy[tuple[Array, ...]]:
    """x and y for x @ y: (..., m, k) and (..., k, n), or vectors, with axes in front that broadcast.

    vectors: whether one or both may have a single axis. options: the values, as in `arrays`.
    Raises InvalidArgument as `arrays` does.

    >>> from hypothesis import find
    >>> x, y = find(matmul_operands(vectors=False), lambda xs: xs[0].shape[-1] > 1)
    >>> x.shape[-1] == y.shape[-2] > 1
    True
    """
    check_count("matmul_operands", "max_batch_dims", max_batch_dims, 0)
    check_range("matmul_operands", "side", min_side, max_side)
    values = values_of_kind("matmul_operands", **options)
    check_room("matmul_operands", values, 2 * max_side ** (max_batch_dims + 2))
    drawn = hnp.mutually_broadcastable_shapes(
        signature="(m?,k),(k,n?)->(m?,n?)" if vectors else "(m,k),(k,n)->(m,n)",
        max_dims=max_batch_dims,
        min_side=min_side,
        max_side=max_side,
    )
    return _operands(drawn, values)


@st.composite
def _operands(draw: st.DrawFn, drawn: st.SearchStrategy[Any], values: Values) -> tuple[Array, ...]:
    shapes = draw(drawn).input_shapes
    if values.distinct:
        return tuple(draw_distinct(draw, shapes, [values] * len(shapes)))
    return tuple(draw_array(draw, shape, values) for shape in shapes)


def axes(shape: int | tuple[int, ...], *, none: bool = True, several: bool = True) -> st.SearchStrategy[Any]:
    """What `axis=` may be for an array of this shape, or of so many axes: None, an axis, or a tuple of them.

    Axes count from either end. none: whether None, all axes, is among them. several: whether tuples are.
    Raises InvalidArgument where nothing is left, for a shape without axes.

    >>> from hypothesis import find
    >>> find(axes((2, 3)), lambda axis: axis is not None)
    0
    """
    if isinstance(shape, int):
        check_count("axes", "shape", shape, 0)
    else:
        check_shape("axes", shape)
    ndim = shape if isinstance(shape, int) else len(shape)
    if not (ndim or none):
        raise InvalidArgument("axes: an array of shape () has no axis; pass none=True, or draw shapes(min_dims=1)")
    found: list[st.SearchStrategy[Any]] = [st.none()] if none else []
    if ndim:
        found.append(st.integers(0, ndim - 1) | st.integers(-ndim, -1))
    if ndim and several:
        found.append(hnp.valid_tuple_axes(ndim, min_size=1))
    return st.one_of(found)


def indices(
    shape: tuple[int, ...], *, kinds: Sequence[str] = ("basic", "advanced", "boolean")
) -> st.SearchStrategy[Any]:
    """What x[...] takes for an x of this shape: integers, slices, None and ...; arrays of integers; a mask.

    kinds: any of "basic", "advanced" (integer arrays, repeated entries included) and "boolean".
    Raises InvalidArgument for another kind, and where only "advanced" is asked of a shape that has no entry.

    >>> from hypothesis import find
    >>> find(indices((3,), kinds=["boolean"]), lambda mask: mask.sum() > 1)
    array([False,  True,  True])
    """
    check_shape("indices", shape)
    for kind in kinds:
        if kind not in ("basic", "advanced", "boolean"):
            raise InvalidArgument(f'indices: kind {kind!r} is unknown; pass kinds=["basic", "advanced", "boolean"]')
    found: list[st.SearchStrategy[Any]] = []
    if "basic" in kinds:
        found.append(hnp.basic_indices(shape, allow_newaxis=True))
    if "advanced" in kinds and shape and 0 not in shape:
        found.append(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)))
    if "boolean" in kinds:
        found.append(hnp.arrays(bool, shape, fill=st.nothing()))
    if not found:
        raise InvalidArgument(
            f'indices: no index of kinds {list(kinds)} for shape {shape}; pass kinds=["basic"], or a shape with entries'
        )
    return st.one_of(found)


def logits_and_labels(
    *,
    min_samples: int = 1,
    max_samples: int = 4,
    min_classes: int = 2,
    max_classes: int = 4,
    labels: Literal["index", "one-hot", "soft"] = "index",
    ties: bool = True,
    tails: bool = True,
    ignore_index: int | None = None,
    dtype: DTypeLike = "float64",
) -> st.SearchStrategy[tuple[Array, Array]]:
    """(logits, labels) for softmax_cross_entropy: (N, C) floats, and class numbers or rows that sum to 1.

    labels: "index" for (N,) integers; "one-hot" or "soft" for rows of the logits' shape and dtype.
    ties: whether classes of a row may have equal logits. tails: whether logits of a row may differ by up to 700.
    ignore_index: a number that labels may also be; at least one sample counts.
    Raises InvalidArgument for bounds below 1 or out of order, for ignore_index with rows, and where every
    class would be ignored.

    >>> from hypothesis import find
    >>> logits, labels = find(logits_and_labels(), lambda pair: pair[1].max() > 0)
    >>> logits, labels
    (array([[0., 0.]]), array([1]))
    """
    name = "logits_and_labels"
    check_range(name, "samples", min_samples, max_samples, 1)
    check_range(name, "classes", min_classes, max_classes, 1)
    if labels not in ("index", "one-hot", "soft"):
        raise InvalidArgument(f'{name}: labels={labels!r} is unknown; pass labels="index", "one-hot" or "soft"')
    if ignore_index is not None and labels != "index":
        raise InvalidArgument(f'{name}: ignore_index goes with class numbers; pass labels="index", or leave it out')
    if ignore_index == 0 and min_classes == 1:
        raise InvalidArgument(f"{name}: ignore_index=0 is the only class there is; pass min_classes=2")
    near = values_of_kind(name, dtype)
    values = Values(near.intervals, near.dtype, not ties)
    check_room(name, values, max_classes)

    def batch(classes: int) -> st.SearchStrategy[tuple[Array, Array]]:
        sample = _sample(classes, values, labels, ties, tails, ignore_index)
        samples = st.lists(sample, min_size=min_samples, max_size=max_samples)
        return samples.map(partial(_batch, classes, near.dtype, labels, ignore_index))

    return st.integers(min_classes, max_classes).flatmap(batch)


@st.composite
def _sample(
    draw: st.DrawFn, classes: int, values: Values, kind: str, ties: bool, tails: bool, ignore_index: int | None
) -> tuple[Array, Any]:
    """A row of logits, and its label: a class number, or how much counts for each class."""
    number = st.integers(0, classes - 1)
    row = draw_array(draw, (classes,), values)
    if tails and draw(FLAG):
        # The largest moves up, or the smallest down: the order of the row stays as it is.
        move = _TAIL - float(np.ptp(row)) - draw(st.integers(0, 600))
        if draw(FLAG):
            row[np.argmin(row)] -= move
        else:
            row[np.argmax(row)] += move
    if ties and draw(FLAG):
        row[draw(number)] = row[draw(number)]
    if kind == "soft":
        return row, [draw(st.integers(0, 8)) for _ in range(classes)]
    return row, draw(number if ignore_index is None else number | st.just(ignore_index))


def _batch(
    classes: int, dtype: Any, kind: str, ignore_index: int | None, samples: list[tuple[Array, Any]]
) -> tuple[Array, Array]:
    logits = np.array([row for row, _ in samples])
    labels = np.array([label for _, label in samples])
    if kind == "soft":
        labels[labels.sum(axis=1) == 0, 0] = 1
        return logits, (labels / labels.sum(axis=1, keepdims=True)).astype(dtype)
    if (labels == ignore_index).all():
        labels[0] = 1 if ignore_index == 0 else 0
    return logits, np.eye(classes, dtype=dtype)[labels] if kind == "one-hot" else labels


@dataclass(frozen=True)
class ConvGeometry:
    """Shapes and parameters of a convolution that fit each other.

    x_shape: (N, C, side, ...). W_shape: (O, C / groups, kernel, ...). out_shape: (N, O, side, ...), where
    a side is floor((side + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1.

    >>> ConvGeometry((1, 2, 5), (4, 1, 3), (2,), (1,), (1,), groups=2).out_shape
    (1, 4, 3)
    """

    x_shape: tuple[int, ...]
    W_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        sides = zip(self.x_shape[2:], self.W_shape[2:], self.stride, self.padding, self.dilation, strict=True)
        return (self.x_shape[0], self.W_shape[0], *[(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides])


def conv_geometry(
    *,
    dims: int = 2,
    max_batch: int = 2,
    max_channels: int = 2,
    max_side: int = 5,
    max_kernel: int = 3,
    max_stride: int = 2,
    max_padding: int = 2,
    max_dilation: int = 2,
    max_groups: int = 2,
) -> st.SearchStrategy[ConvGeometry]:
    """Geometries of a convolution over dims axes, each valid: every side of the result is at least 1.

    max_channels: of the input and of the result, in each group. Sides, kernel, stride, padding and dilation are
    drawn for each axis on its own; a side may be one that the stride does not divide.
    Raises InvalidArgument for a bound below 1, or a padding below 0.

    >>> from hypothesis import find
    >>> find(conv_geometry(dims=1), lambda g: g.groups == 2 and g.out_shape[-1] > 1)
    ConvGeometry(x_shape=(1, 2, 2), W_shape=(2, 1, 1), stride=(1,), padding=(0,), dilation=(1,), groups=2)
    """
    bounds = {
        "dims": dims,
        "max_batch": max_batch,
        "max_channels": max_channels,
        "max_side": max_side,
        "max_kernel": max_kernel,
        "max_stride": max_stride,
        "max_dilation": max_dilation,
        "max_groups": max_groups,
    }
    for name, value in bounds.items():
        check_count("conv_geometry", name, value, 1)
    check_count("conv_geometry", "max_padding", max_padding, 0)
    return _conv_geometry(max_padding=max_padding, **bounds)


@st.composite
def _conv_geometry(
    draw: st.DrawFn,
    dims: int,
    max_batch: int,
    max_channels: int,
    max_side: int,
    max_kernel: int,
    max_stride: int,
    max_padding: int,
    max_dilation: int,
    max_groups: int,
) -> ConvGeometry:
    groups = draw(st.integers(1, max_groups))
    batch = draw(st.integers(1, max_batch))
    c_in, c_out = draw(st.integers(1, max_channels)), draw(st.integers(1, max_channels))
    per_axis = []
    for _ in range(dims):
        padding = draw(st.integers(0, max_padding))
        room = max_side + 2 * padding
        kernel = draw(st.integers(1, min(max_kernel, room)))
        dilation = draw(st.integers(1, min(max_dilation, (room - 1) // (kernel - 1)) if kernel > 1 else max_dilation))
        least = max(1, dilation * (kernel - 1) + 1 - 2 * padding)
        per_axis.append(
            (draw(st.integers(least, max_side)), kernel, draw(st.integers(1, max_stride)), padding, dilation)
        )
    sides, kernels, stride, padding_, dilation_ = zip(*per_axis, strict=True)
    return ConvGeometry(
        (batch, groups * c_in, *sides), (groups * c_out, c_in, *kernels), stride, padding_, dilation_, groups
    )


def layouts(
    array: Any, *, kinds: Iterable[str] = ("plain", "fortran", "strided", "reversed", "read-only")
) -> st.SearchStrategy[Any]:
    """The same values, laid out in memory in another way; of a tuple of arrays each in its own way.

    array: an array, a tuple of arrays, or a strategy for either. Arrays without axes or entries stay what they are.
    kinds: "plain" (C order), "fortran", "strided" (every other entry), "reversed" (negative strides), "read-only".
    Raises InvalidArgument for another kind, and for what is no array.

    >>> from hypothesis import find
    >>> find(layouts(np.zeros((2, 3))), lambda x: not x.flags.c_contiguous).strides
    (8, 16)
    """
    chosen = tuple(kinds)
    for kind in chosen or ("",):
        if kind not in LAYOUTS:
            raise InvalidArgument(f"layouts: kind {kind!r} is unknown; pass kinds={list(LAYOUTS)}, or some of them")
    if isinstance(array, st.SearchStrategy):
        source = array
    elif isinstance(array, np.ndarray) or (isinstance(array, tuple) and all(isinstance(a, np.ndarray) for a in array)):
        source = st.just(array)
    else:
        raise InvalidArgument(f"layouts: {array!r} is no array; pass an array or a strategy, such as arrays()")
    return _layouts(source, st.sampled_from(chosen))


@st.composite
def _layouts(draw: st.DrawFn, source: st.SearchStrategy[Any], kind: st.SearchStrategy[str]) -> Any:
    found = draw(source)
    if isinstance(found, tuple):
        return tuple(LAYOUTS[draw(kind)](array) for array in found)
    return LAYOUTS[draw(kind)](found)


def _strided(array: Array) -> Array:
    if not array.ndim:
        return array.copy()
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _reversed(array: Array) -> Array:
    return np.flip(np.flip(array).copy()) if array.ndim else array.copy()


def _read_only(array: Array) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "plain": lambda array: array.copy(order="C"),
    "fortran": lambda array: array.copy(order="F"),
    "strided": _strided,
    "reversed": _reversed,
    "read-only": _read_only,
}


def cotangents(
    shape: int | tuple[int, ...] | st.SearchStrategy[tuple[int, ...]],
    *,
    dtype: DTypeLike = "float64",
    min_value: float = 0.5,
    max_value: float = 2.0,
) -> st.SearchStrategy[Array]:
    """Values for dout: of either sign, min_value to max_value in size, and not all alike where there are several.

    A dout of ones hides a rule that ignores dout, or that sums where it should weigh; a 0 hides what it meets.
    shape: that of the result, or a strategy for it.
    Raises InvalidArgument unless 0 < min_value < max_value.

    >>> from hypothesis import find
    >>> find(cotangents((3,)), lambda dout: True)
    array([1., 1., 2.])
    """
    if not 0 < min_value < max_value < math.inf:
        raise InvalidArgument(
            f"cotangents: min_value={min_value} and max_value={max_value} are sizes, from above 0 to a larger one; "
            "pass min_value=0.5, max_value=2.0"
        )
    drawn = arrays(shape, dtype=dtype, min_value=-max_value, max_value=max_value, away=[0.0], gap=min_value)
    return drawn.map(partial(_uneven, min_value, max_value))


def _uneven(low: float, high: float, dout: Array) -> Array:
    """dout, and if all of it is alike its last entry at the bound that is further off."""
    if dout.size > 1 and (dout == dout.flat[0]).all():
        size = abs(dout.flat[-1])
        other = inward(high, dout.dtype, -np.inf) if size < (low + high) / 2 else inward(low, dout.dtype, np.inf)
        dout.flat[-1] = np.copysign(other, dout.flat[-1])
    return dout
