"""Hypothesis strategies for gradients: arrays, operands that fit each other, labels, geometry, layouts, calls of an op.

    @given(x=arrays(domain=POSITIVE, distinct=True), data=st.data())
    def test_log(x, data): ...

Bounds are keyword-only. A request that cannot be met raises InvalidArgument, with the remedy, when the strategy is
made and not when it is drawn from. What is drawn shrinks to few dimensions, short sides and simple values (0, 1, 0.5),
and all of it is drawn through hypothesis, so that a failing example is repeated and minimised.

In order: shapes and values, operands, axes and indices, labels, convolution, layouts and cotangents, calls.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import DTypeLike, NDArray

from minigrad.contract import REAL, Case, Domain
from minigrad.errors import MinigradError
from minigrad.op import Op
from minigrad.ops.reduce import Reduction
from minigrad.tensor import Tensor

try:
    from hypothesis import strategies as st
    from hypothesis.errors import InvalidArgument
    from hypothesis.extra import numpy as hnp
except ImportError as error:
    raise ImportError(
        "minigrad.testing.strategies draws through hypothesis, which is not installed; "
        "install it with: pip install minigrad[testing]"
    ) from error

__all__ = [
    "Call",
    "ConvGeometry",
    "arrays",
    "away_from",
    "axes",
    "broadcastable",
    "calls",
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

_GAP = 0.25
# Values are multiples of this: few digits, and none so small that its square or its difference vanishes.
_STEP = 2.0**-10
# The number of points that values with no two alike are picked from, at least: so many, and so many for each value.
_POINTS, _POINTS_EACH = 128, 4
# Arrays of more values repeat one of them: hypothesis's own limit for an example is about ten times this.
_DRAWN = 100
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
    _check_sides("shapes", min_dims, max_dims, min_side, max_side)
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
    values = _values("arrays", dtype, domain, min_value, max_value, away, gap, distinct)
    if shape is not None and sides:
        raise InvalidArgument(
            f"arrays: shape={shape} was given and {', '.join(sides)} too; leave one of them out, "
            "or pass shape=shapes(...) with these bounds"
        )
    if isinstance(shape, int):
        shape = (shape,)
    if shape is not None and not isinstance(shape, st.SearchStrategy):
        _check_shape("arrays", shape)
        _check_room("arrays", values, math.prod(shape))
        return _arrays(st.just(shape), values)
    if shape is None:
        shape = shapes(**sides)
        largest = max(sides.get("max_side", 3), 0) ** sides.get("max_dims", 3)
        _check_room("arrays", values, largest)
    return _arrays(shape, values)


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


def away_from(*points: float, gap: float = _GAP, **options: Unpack[FarOptions]) -> st.SearchStrategy[Array]:
    """Arrays whose values are at least gap away from every one of points: beside the kinks, on both sides of each.

    options: those of `arrays`. Raises InvalidArgument where no point is named, or nothing is left between them.

    >>> from hypothesis import find
    >>> find(away_from(0.0, 1.0), lambda x: x.ndim == 0)
    array(0.5)
    """
    if not points:
        raise InvalidArgument("away_from: no point was named; write away_from(0.0), or use arrays()")
    return arrays(away=points, gap=gap, **options)


@dataclass(frozen=True)
class _Values:
    """Where values come from: closed intervals, the simplest first; dtype; whether no two are alike."""

    intervals: tuple[tuple[float, float], ...]
    dtype: Any
    distinct: bool


@lru_cache(maxsize=512)
def _elements(values: _Values) -> st.SearchStrategy[Any]:
    """One value of an array."""
    if values.dtype == bool:
        return st.booleans()
    return st.one_of([_between(low, high, values.dtype) for low, high in values.intervals])


def _between(low: float, high: float, dtype: Any) -> st.SearchStrategy[Any]:
    step = _STEP  # finer in a narrow interval, and down to 0, no rounding, in the narrowest
    while 0 < step > (high - low) / 4096:
        step /= 2
    return st.floats(low, high).map(lambda x: dtype.type(_rounded(x, step, low, high)))


def _rounded(x: float, step: float, low: float, high: float) -> float:
    """x as a multiple of step within the bounds; beyond 2**40 steps floats have no finer digits to lose."""
    return min(max(round(x / step) * step, low), high) if abs(x) < 2**40 * step else x


def _values(
    function: str,
    dtype: DTypeLike = "float64",
    domain: Domain = REAL,
    min_value: float | None = None,
    max_value: float | None = None,
    away: Sequence[float] = (),
    gap: float | None = None,
    distinct: bool = False,
) -> _Values:
    """The values that these options of `arrays` stand for; InvalidArgument where there are none."""
    if not isinstance(domain, Domain):
        raise InvalidArgument(f"{function}: domain={domain!r} is no Domain; pass domain=minigrad.contract.POSITIVE")
    if domain.dtype == "bool":
        if distinct or gap is not None or min_value is not None or max_value is not None or away != ():
            raise InvalidArgument(f"{function}: booleans have no bounds and repeat; pass domain={domain!r} alone")
        return _Values(((0.0, 1.0),), np.dtype(bool), False)
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.float16, np.float32, np.float64):
        raise InvalidArgument(f'{function}: dtype={dtype!r} is no float; pass dtype="float32", or "float16", "float64"')
    low = domain.low if min_value is None else min_value
    high = domain.high if max_value is None else max_value
    for name, value in ("min_value", low), ("max_value", high):
        if not isinstance(value, (int, float, np.number)) or not abs(value) <= float(np.finfo(kind).max):
            raise InvalidArgument(f"{function}: {name}={value!r} is not finite in {kind}; pass {name}=4.0, for example")
    if not low <= high:
        raise InvalidArgument(
            f"{function}: min_value={low} is above max_value={high}"
            + ("; pass min_value below max_value" if min_value is not None and max_value is not None else
               f", the domain's own; pass {'min' if min_value is None else 'max'}_value too")
        )  # fmt: skip
    if not isinstance(away, Iterable):
        raise InvalidArgument(f"{function}: away={away!r} is no sequence of points; pass away=[{away!r}]")
    points = (*domain.away, *away)
    if not all(math.isfinite(p) for p in points):
        raise InvalidArgument(f"{function}: away={list(points)} holds points that are not finite; leave them out")
    if gap is not None and (not 0 < gap < math.inf or not points):
        raise InvalidArgument(
            f"{function}: gap={gap} "
            + ("has no point to keep from; pass away=[0.0] too" if gap and gap > 0 else
               "is no distance; pass gap=0.25, for example")
        )  # fmt: skip
    gap = gap or (domain.gap if domain.away else _GAP)
    intervals = [(float(low), float(high))]
    for p in points:
        beside = [((a, min(b, p - gap)), (max(a, p + gap), b)) for a, b in intervals]
        intervals = [(a, b) for pair in beside for a, b in pair if a <= b]
    inner = [(_inward(a, kind, np.inf), _inward(b, kind, -np.inf)) for a, b in intervals]
    inner = [(a, b) for a, b in inner if a <= b]
    if not inner:
        raise InvalidArgument(
            f"{function}: no {kind} from {low} to {high}" + (f" is {gap} away from {list(points)}" if points else "")
            + "; pass a smaller gap, or wider min_value and max_value"
        )  # fmt: skip
    inner.sort(key=lambda ends: (not ends[0] <= 0 <= ends[1], ends[0] < 0, min(map(abs, ends))))
    return _Values(tuple(inner), kind, distinct)


def _inward(bound: float, dtype: Any, towards: float) -> float:
    """bound in dtype, and where it rounds outward the next value within."""
    value = dtype.type(bound)
    outward = float(value) < bound if towards > 0 else float(value) > bound
    return float(np.nextafter(value, dtype.type(towards)) if outward else value)


@dataclass(frozen=True)
class _Grid:
    """The multiples of a step within some intervals, in the order in which they shrink."""

    step: float
    points: list[float]
    place: dict[float, int]
    floats: st.SearchStrategy[float]

    def draw(self, draw: st.DrawFn, taken: set[float]) -> float:
        """A point that is not taken, and now is: the nearest to a drawn float, or the next that is free."""
        x = round(draw(self.floats) / self.step) * self.step
        if x in taken:
            i = self.place[x]
            while x in taken:
                i = (i + 1) % len(self.points)
                x = self.points[i]
        taken.add(x)
        return x


@lru_cache(maxsize=512)
def _grids(ranges: tuple[tuple[tuple[float, float], ...], ...], n: int) -> tuple[_Grid, ...]:
    """A grid for each range, with one step for all, that has room for n values in each."""
    wanted = max(_POINTS, _POINTS_EACH * n)
    step = 2.0 ** math.floor(math.log2(min(sum(b - a for a, b in intervals) for intervals in ranges)))
    while min(sum(len(_multiples(a, b, step)) for a, b in intervals) for intervals in ranges) < wanted:
        step /= 2
    grids = []
    for intervals in ranges:
        whole = [multiples for multiples in (_multiples(a, b, step) for a, b in intervals) if multiples]
        points = sorted((k * step for multiples in whole for k in multiples), key=_plainness)
        floats = st.one_of([st.floats(multiples[0] * step, multiples[-1] * step) for multiples in whole])
        grids.append(_Grid(step, points, {x: i for i, x in enumerate(points)}, floats))
    return tuple(grids)


def _multiples(a: float, b: float, step: float) -> range:
    return range(math.ceil(a / step), math.floor(b / step) + 1)


def _plainness(x: float) -> tuple[bool, int, float]:
    """The order in which values shrink, as hypothesis's floats do: positive, whole and small ones first."""
    return x < 0, x.as_integer_ratio()[1], abs(x)


def _check_room(function: str, values: _Values, n: int) -> None:
    if not values.distinct or n == 0:
        return
    width = sum(b - a for a, b in values.intervals)
    largest = max(abs(end) for ends in values.intervals for end in ends)
    if not float(np.spacing(values.dtype.type(largest))) * max(_POINTS, _POINTS_EACH * n) * 4 <= width < math.inf:
        raise InvalidArgument(
            f"{function}: distinct=True wants up to {n} values that {values.dtype} tells apart between "
            f"{values.intervals}; pass wider min_value and max_value, fewer or shorter sides, or distinct=False"
        )


def _draw_distinct(draw: st.DrawFn, shapes: Sequence[Shape], values: Sequence[_Values]) -> list[Array]:
    """An array of each shape from each of values, no two floats alike in all of them."""
    sizes = [math.prod(shape) for shape in shapes]
    floats = tuple(v.intervals for v in values if v.dtype != bool)
    grids = iter(_grids(floats, sum(sizes)) if floats and any(sizes) else ())
    taken: set[float] = set()
    found = []
    for shape, size, v in zip(shapes, sizes, values, strict=True):
        grid = None if v.dtype == bool else next(grids, None)
        entries = [grid.draw(draw, taken) if grid else draw(_FLAG) for _ in range(size)]
        found.append(np.array(entries, dtype=v.dtype).reshape(shape))
    return found


_FLAG = st.booleans()


@st.composite
def _arrays(draw: st.DrawFn, shape: st.SearchStrategy[Shape], values: _Values) -> Array:
    return _draw_array(draw, draw(shape), values)


def _draw_array(draw: st.DrawFn, shape: Shape, values: _Values) -> Array:
    size = math.prod(shape)
    if values.distinct:
        _check_room("arrays", values, size)
        return _draw_distinct(draw, [shape], [values])[0]
    elements = _elements(values)
    fill = st.nothing() if size <= _DRAWN else elements
    return draw(hnp.arrays(values.dtype, shape, elements=elements, fill=fill))


def _check_sides(function: str, min_dims: int, max_dims: int, min_side: int, max_side: int) -> None:
    _check_range(function, "dims", min_dims, max_dims)
    _check_range(function, "side", min_side, max_side)


def _check_range(function: str, what: str, low: Any, high: Any, least: int = 0) -> None:
    """min_what and max_what are integers from least on, in order; otherwise InvalidArgument."""
    for name, value in (f"min_{what}", low), (f"max_{what}", high):
        _check_count(function, name, value, least)
    if low > high:
        raise InvalidArgument(
            f"{function}: min_{what}={low} is above max_{what}={high}; pass max_{what}={low}, or a smaller min_{what}"
        )


def _check_count(function: str, name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidArgument(f"{function}: {name}={value!r} is no integer from {least} on; pass {name}={least + 1}")


def _check_shape(function: str, shape: Any) -> None:
    if not isinstance(shape, tuple) or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in shape):
        raise InvalidArgument(f"{function}: shape={shape!r} is no shape; pass a tuple of integers, such as (2, 3)")


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
    _check_count("broadcastable", "n", n, 1)
    _check_sides("broadcastable", min_dims, max_dims, min_side, max_side)
    values = _values("broadcastable", **options)
    _check_room("broadcastable", values, n * max_side**max_dims)
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
    >>> find(matmul_operands(), lambda xs: xs[0] @ xs[1] > 1 if xs[0].ndim == xs[1].ndim == 1 else False)
    (array([1.]), array([2.]))
    """
    _check_count("matmul_operands", "max_batch_dims", max_batch_dims, 0)
    _check_range("matmul_operands", "side", min_side, max_side)
    values = _values("matmul_operands", **options)
    _check_room("matmul_operands", values, 2 * max_side ** (max_batch_dims + 2))
    drawn = hnp.mutually_broadcastable_shapes(
        signature="(m?,k),(k,n?)->(m?,n?)" if vectors else "(m,k),(k,n)->(m,n)",
        max_dims=max_batch_dims,
        min_side=min_side,
        max_side=max_side,
    )
    return _operands(drawn, values)


@st.composite
def _operands(draw: st.DrawFn, drawn: st.SearchStrategy[Any], values: _Values) -> tuple[Array, ...]:
    shapes = draw(drawn).input_shapes
    if values.distinct:
        return tuple(_draw_distinct(draw, shapes, [values] * len(shapes)))
    return tuple(_draw_array(draw, shape, values) for shape in shapes)


def axes(shape: int | tuple[int, ...], *, none: bool = True, several: bool = True) -> st.SearchStrategy[Any]:
    """What `axis=` may be for an array of this shape, or of so many axes: None, an axis, or a tuple of them.

    Axes count from either end. none: whether None, all axes, is among them. several: whether tuples are.
    Raises InvalidArgument where nothing is left, for a shape without axes.

    >>> from hypothesis import find
    >>> find(axes((2, 3)), lambda axis: axis is not None)
    0
    """
    if isinstance(shape, int):
        _check_count("axes", "shape", shape, 0)
    else:
        _check_shape("axes", shape)
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
    _check_shape("indices", shape)
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
    _check_range(name, "samples", min_samples, max_samples, 1)
    _check_range(name, "classes", min_classes, max_classes, 1)
    if labels not in ("index", "one-hot", "soft"):
        raise InvalidArgument(f'{name}: labels={labels!r} is unknown; pass labels="index", "one-hot" or "soft"')
    if ignore_index is not None and labels != "index":
        raise InvalidArgument(f'{name}: ignore_index goes with class numbers; pass labels="index", or leave it out')
    if ignore_index == 0 and min_classes == 1:
        raise InvalidArgument(f"{name}: ignore_index=0 is the only class there is; pass min_classes=2")
    near = _values(name, dtype)
    values = _Values(near.intervals, near.dtype, not ties)
    _check_room(name, values, max_classes)

    def batch(classes: int) -> st.SearchStrategy[tuple[Array, Array]]:
        sample = _sample(classes, values, labels, ties, tails, ignore_index)
        samples = st.lists(sample, min_size=min_samples, max_size=max_samples)
        return samples.map(partial(_batch, classes, near.dtype, labels, ignore_index))

    return st.integers(min_classes, max_classes).flatmap(batch)


@st.composite
def _sample(
    draw: st.DrawFn, classes: int, values: _Values, kind: str, ties: bool, tails: bool, ignore_index: int | None
) -> tuple[Array, Any]:
    """A row of logits, and its label: a class number, or how much counts for each class."""
    number = st.integers(0, classes - 1)
    row = _draw_array(draw, (classes,), values)
    if tails and draw(_FLAG):
        # The largest moves up, or the smallest down: the order of the row stays as it is.
        move = _TAIL - float(np.ptp(row)) - draw(st.integers(0, 600))
        if draw(_FLAG):
            row[np.argmin(row)] -= move
        else:
            row[np.argmax(row)] += move
    if ties and draw(_FLAG):
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
        _check_count("conv_geometry", name, value, 1)
    _check_count("conv_geometry", "max_padding", max_padding, 0)
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
        other = _inward(high, dout.dtype, -np.inf) if size < (low + high) / 2 else _inward(low, dout.dtype, np.inf)
        dout.flat[-1] = np.copysign(other, dout.flat[-1])
    return dout


@dataclass(repr=False)
class Call:
    """A call of an op: its class or an instance, arrays for it, and keyword arguments.

    Called with arrays it makes the call on those, and not on its own: Tensors, say, or values moved a little.

    >>> from minigrad.ops.elementwise import Multiply
    >>> call = Call(Multiply, [np.array([1.0, 2.0]), np.array(3.0)], {})
    >>> call(*call.arrays)
    Tensor([3., 6.], dtype=float64)
    """

    op: type[Op] | Op
    arrays: list[Array]
    kwargs: dict[str, Any]

    def __call__(self, *arrays: Any, function: Any = None) -> Tensor:
        """The op's public function, or the op itself, on arrays; function: another of the same signature."""
        if isinstance(self.op, Op) or (self.op.function is None and function is None):
            op = self.op if isinstance(self.op, Op) else self.op(**self.kwargs)
            result: Tensor = (function or op)(*arrays)
            return result
        public = self.op.function or function
        parameters = inspect.signature(public).parameters
        kinds = [p.kind for p in parameters.values()]
        kwargs = dict(self.kwargs)
        args: list[Any] = list(arrays)
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            before = list(parameters)[: kinds.index(inspect.Parameter.VAR_POSITIONAL)]
            args = [kwargs.pop(name) for name in before] + args
        elif self.op.variadic:
            args = [args]  # a sequence of arrays, as concatenate wants it
        for name in list(parameters)[len(args) :]:  # by place, since NumPy's own names differ from ours
            if name not in kwargs or parameters[name].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
                break
            args.append(kwargs.pop(name))
        result = (function or public)(*args, **kwargs)
        return result

    def __repr__(self) -> str:
        name = repr(self.op) if isinstance(self.op, Op) else self.op.name
        return f"{name}({', '.join([*map(repr, self.arrays), *[f'{k}={v!r}' for k, v in self.kwargs.items()]])})"


def calls(op: type[Op] | Op, *, empty: bool = True) -> st.SearchStrategy[Call]:
    """Calls of an op, float64 throughout, drawn from what it declares: cases, elementwise, signature, domain.

    op: an op's class, yours or minigrad's, or an instance. A class is called through its public function, or
        with the parameters of a case; an instance has its own, so that only shapes are taken from its cases.
    empty: whether arrays without entries are drawn too.
    No two floats of a call are alike, so that max and its kin are drawn beside their kinks.
    Raises InvalidArgument for an op that declares nothing to draw from, or not a domain for each argument, and
    for a class that wants parameters which no case names.

    >>> from hypothesis import find
    >>> class Cube(Op):
    ...     '''out = x**3'''
    ...     elementwise = True
    ...     def forward(self, x):
    ...         return x * x * x
    ...     def backward(self, dout, x):
    ...         return dout * 3 * x * x
    >>> find(calls(Cube), lambda call: call.arrays[0].size > 1)
    cube(array([0., 1.]))
    """
    cls = op if inspect.isclass(op) else type(op)
    if not issubclass(cls, Op) or not (hasattr(cls, "forward") and hasattr(cls, "backward")):
        raise InvalidArgument(f"calls: {op!r} is no op; pass a subclass of minigrad.Op with forward and backward")
    cases = [case for case in cls.cases if empty or 0 not in [n for shape in case.shapes for n in shape]]
    if cls.cases:
        if not cases:
            raise InvalidArgument(f"calls: every case of {cls.name} is empty; declare one more, or pass empty=True")
        for case in cases:
            _domains(cls, len(case.shapes))
            _check_parameters(op, case)
        return _calls(op, st.sampled_from(cases))
    _check_parameters(op, Case())
    least = 0 if empty else 1
    if cls.elementwise:
        fixed = None if cls.variadic else len(cls.args)
        _domains(cls, fixed or 1)
        together = partial(hnp.mutually_broadcastable_shapes, max_dims=3, min_side=least, max_side=3)
        if fixed == 1:
            return _calls(op, shapes(min_side=least).map(Case))
        several = st.integers(1, 3).flatmap(lambda n: together(num_shapes=n))
        return _calls(op, (together(num_shapes=fixed) if fixed else several).map(_case))
    if cls.signature:
        try:
            drawn = hnp.mutually_broadcastable_shapes(signature=cls.signature, max_dims=2, min_side=least, max_side=3)
            drawn.validate()
        except InvalidArgument as error:
            raise InvalidArgument(
                f'calls: {cls.name} declares signature {cls.signature!r}: {error}; write it as in "(m,k),(k,n)->(m,n)"'
            ) from error
        n = cls.signature.split("->")[0].count("(")
        if n != len(cls.args) and not cls.variadic:
            raise InvalidArgument(
                f"calls: signature {cls.signature!r} of {cls.name} has {n} arguments, and forward has {len(cls.args)}; "
                "write a core shape for each, () for a number"
            )
        _domains(cls, n)
        return _calls(op, drawn.map(_case))
    if issubclass(cls, Reduction):
        return _calls(op, _reductions(op))
    raise InvalidArgument(
        f"calls: {cls.name} declares nothing to draw from; declare cases = (Case((2, 3)),), elementwise = True, "
        'or a signature such as "(m,k),(k,n)->(m,n)"'
    )


def _case(drawn: Any) -> Case:
    return Case(*drawn.input_shapes)


def _domains(op: type[Op], n: int) -> list[_Values]:
    """The values of each of n arguments, by their domains."""
    domains = list(op.domain) if isinstance(op.domain, tuple) else [op.domain] * n
    if len(domains) != n:
        raise InvalidArgument(
            f"calls: {op.name} declares {len(domains)} domains for {n} arguments; declare one for each, or one for all"
        )
    return [_values_of(domain) for domain in domains]


@lru_cache(maxsize=128)
def _values_of(domain: Domain) -> _Values:
    values = _values("calls", domain=domain, distinct=domain.dtype != "bool")
    _check_room("calls", values, 1)
    return values


def _check_parameters(op: type[Op] | Op, case: Case) -> None:
    """The parameters of a call are those that the op wants."""
    if isinstance(op, Op):
        unknown = case.kwargs.keys() - op.fields.keys()
        if unknown:
            raise InvalidArgument(
                f"calls: {case} of {op.name} names {', '.join(sorted(unknown))}, which an instance does not take; "
                "pass the class"
            )
    elif op.function is None:
        try:
            op(**case.kwargs)
        except MinigradError as error:
            raise InvalidArgument(
                f"calls: {op.__name__} cannot be made with {case.kwargs}: {error}; "
                f"declare cases that name its fields, or pass an instance, {op.__name__}(...)"
            ) from error


def _reductions(op: type[Op] | Op) -> st.SearchStrategy[Case]:
    """Shapes, and parameters where op has none yet, for an op of the Reduction family."""
    drawn = shapes()
    if isinstance(op, Reduction):
        return drawn.filter(partial(_has_axes, op.axis)).map(Case)
    choices = {ndim: axes(ndim) for ndim in range(4)}

    @st.composite
    def reductions(draw: st.DrawFn) -> Case:
        shape = draw(drawn)
        return Case(shape, axis=draw(choices[len(shape)]), keepdims=draw(_FLAG))

    return reductions()


def _has_axes(axis: Any, shape: Shape) -> bool:
    try:
        normalize_axis_tuple(() if axis is None else axis, len(shape))
    except ValueError:
        return False
    return True


@st.composite
def _calls(draw: st.DrawFn, op: type[Op] | Op, cases: st.SearchStrategy[Case]) -> Call:
    case = draw(cases)
    cls = op if inspect.isclass(op) else type(op)
    values = _domains(cls, len(case.shapes))
    return Call(op, _draw_distinct(draw, case.shapes, values), {} if isinstance(op, Op) else dict(case.kwargs))
