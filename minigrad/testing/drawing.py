"""How values are drawn: short numbers from intervals, no two alike where that is wanted, and bounds that make sense."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minigrad.contract import REAL, Domain

try:
    from hypothesis import strategies as st
    from hypothesis.errors import InvalidArgument
    from hypothesis.extra import numpy as hnp
except ImportError as error:
    raise ImportError(
        "minigrad.testing.strategies draws through hypothesis, which is not installed; "
        "install it with: pip install hypothesis"
    ) from error

# hypothesis is imported here alone, where its absence is explained.
__all__ = [
    "FLAG",
    "GAP",
    "InvalidArgument",
    "Values",
    "check_count",
    "check_range",
    "check_room",
    "check_shape",
    "check_sides",
    "draw_array",
    "draw_distinct",
    "drawn_arrays",
    "hnp",
    "inward",
    "st",
    "values_of_kind",
]

Array = NDArray[Any]
Shape = tuple[int, ...]

GAP = 0.25
# Values are multiples of this: few digits, and none so small that its square or its difference vanishes.
_STEP = 2.0**-10
# The number of points that values with no two alike are picked from, at least: so many, and so many for each value.
_POINTS, _POINTS_EACH = 128, 4
# Arrays of more values repeat one of them: hypothesis's own limit for an example is about ten times this.
_DRAWN = 100


@dataclass(frozen=True)
class Values:
    """Where values come from: closed intervals, the simplest first; dtype; whether no two are alike."""

    intervals: tuple[tuple[float, float], ...]
    dtype: Any
    distinct: bool


@lru_cache(maxsize=512)
def elements(values: Values) -> st.SearchStrategy[Any]:
    """One value of an array."""
    if values.dtype == bool:
        return st.booleans()
    return st.one_of([between(low, high, values.dtype) for low, high in values.intervals])


def between(low: float, high: float, dtype: Any) -> st.SearchStrategy[Any]:
    step = _STEP  # finer in a narrow interval, and down to 0, no rounding, in the narrowest
    while 0 < step > (high - low) / 4096:
        step /= 2
    return st.floats(low, high).map(lambda x: dtype.type(_rounded(x, step, low, high)))


def _rounded(x: float, step: float, low: float, high: float) -> float:
    """x as a multiple of step within the bounds; beyond 2**40 steps floats have no finer digits to lose."""
    return min(max(round(x / step) * step, low), high) if abs(x) < 2**40 * step else x


def values_of_kind(
    function: str,
    dtype: DTypeLike = "float64",
    domain: Domain = REAL,
    min_value: float | None = None,
    max_value: float | None = None,
    away: Sequence[float] = (),
    gap: float | None = None,
    distinct: bool = False,
) -> Values:
    """The values that these options of `arrays` stand for; InvalidArgument where there are none."""
    if not isinstance(domain, Domain):
        raise InvalidArgument(f"{function}: domain={domain!r} is no Domain; pass domain=minigrad.contract.POSITIVE")
    if domain.dtype == "bool":
        if distinct or gap is not None or min_value is not None or max_value is not None or away != ():
            raise InvalidArgument(f"{function}: booleans have no bounds and repeat; pass domain={domain!r} alone")
        return Values(((0.0, 1.0),), np.dtype(bool), False)
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
    gap = gap or (domain.gap if domain.away else GAP)
    intervals = [(float(low), float(high))]
    for p in points:
        beside = [((a, min(b, p - gap)), (max(a, p + gap), b)) for a, b in intervals]
        intervals = [(a, b) for pair in beside for a, b in pair if a <= b]
    inner = [(inward(a, kind, np.inf), inward(b, kind, -np.inf)) for a, b in intervals]
    inner = [(a, b) for a, b in inner if a <= b]
    if not inner:
        raise InvalidArgument(
            f"{function}: no {kind} from {low} to {high}" + (f" is {gap} away from {list(points)}" if points else "")
            + "; pass a smaller gap, or wider min_value and max_value"
        )  # fmt: skip
    inner.sort(key=lambda ends: (not ends[0] <= 0 <= ends[1], ends[0] < 0, min(map(abs, ends))))
    return Values(tuple(inner), kind, distinct)


def inward(bound: float, dtype: Any, towards: float) -> float:
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


def check_room(function: str, values: Values, n: int) -> None:
    """InvalidArgument where there are not n values with no two alike."""
    if not values.distinct or n == 0:
        return
    width = sum(b - a for a, b in values.intervals)
    largest = max(abs(end) for ends in values.intervals for end in ends)
    if not float(np.spacing(values.dtype.type(largest))) * max(_POINTS, _POINTS_EACH * n) * 4 <= width < math.inf:
        raise InvalidArgument(
            f"{function}: distinct=True wants up to {n} values that {values.dtype} tells apart between "
            f"{values.intervals}; pass wider min_value and max_value, fewer or shorter sides, or distinct=False"
        )


def draw_distinct(draw: st.DrawFn, shapes: Sequence[Shape], values: Sequence[Values]) -> list[Array]:
    """An array of each shape from each of values, no two floats alike in all of them."""
    sizes = [math.prod(shape) for shape in shapes]
    floats = tuple(v.intervals for v in values if v.dtype != bool)
    grids = iter(_grids(floats, sum(sizes)) if floats and any(sizes) else ())
    taken: set[float] = set()
    found = []
    for shape, size, v in zip(shapes, sizes, values, strict=True):
        grid = None if v.dtype == bool else next(grids, None)
        entries = [grid.draw(draw, taken) if grid else draw(FLAG) for _ in range(size)]
        found.append(np.array(entries, dtype=v.dtype).reshape(shape))
    return found


FLAG = st.booleans()


@st.composite
def drawn_arrays(draw: st.DrawFn, shape: st.SearchStrategy[Shape], values: Values) -> Array:
    """An array of a drawn shape."""
    return draw_array(draw, draw(shape), values)


def draw_array(draw: st.DrawFn, shape: Shape, values: Values) -> Array:
    """An array of this shape."""
    size = math.prod(shape)
    if values.distinct:
        check_room("arrays", values, size)
        return draw_distinct(draw, [shape], [values])[0]
    entries = elements(values)
    fill = st.nothing() if size <= _DRAWN else entries
    return draw(hnp.arrays(values.dtype, shape, elements=entries, fill=fill))


def check_sides(function: str, min_dims: int, max_dims: int, min_side: int, max_side: int) -> None:
    """The bounds of a shape make sense; otherwise InvalidArgument."""
    check_range(function, "dims", min_dims, max_dims)
    check_range(function, "side", min_side, max_side)


def check_range(function: str, what: str, low: Any, high: Any, least: int = 0) -> None:
    """min_what and max_what are integers from least on, in order; otherwise InvalidArgument."""
    for name, value in (f"min_{what}", low), (f"max_{what}", high):
        check_count(function, name, value, least)
    if low > high:
        raise InvalidArgument(
            f"{function}: min_{what}={low} is above max_{what}={high}; pass max_{what}={low}, or a smaller min_{what}"
        )


def check_count(function: str, name: str, value: Any, least: int) -> None:
    """value is an integer from least on; otherwise InvalidArgument."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidArgument(f"{function}: {name}={value!r} is no integer from {least} on; pass {name}={least + 1}")


def check_shape(function: str, shape: Any) -> None:
    """shape is one; otherwise InvalidArgument."""
    if not isinstance(shape, tuple) or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in shape):
        raise InvalidArgument(f"{function}: shape={shape!r} is no shape; pass a tuple of integers, such as (2, 3)")
