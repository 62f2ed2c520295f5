"""Exact values and derivatives of a function: arithmetic at a hundred digits and more in NumPy object arrays.

NumPy hands the arithmetic of an object array to its elements. With elements that know `+`, `exp` and the others at any
number of digits, a function made of NumPy functions or of minigrad's ops runs as it is, and a plain difference over
a step of 1e-25 has more digits than a float64 can hold. Needs mpmath.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import ops, unfused
from minigrad.autograd import no_grad
from minigrad.contract import objects_pass
from minigrad.errors import ArgumentError, MinigradError, describe
from minigrad.tensor import Tensor, plain, wrap

__all__ = ["Exact", "Kink", "Precise", "Unsupported", "along", "derivative", "evaluate", "exact_twin", "precise"]

Array = NDArray[Any]
Key = Hashable  # of a direction: (i, index) for one entry of arrays[i], or a name given to Exact.aim

DIGITS = 90  # for arguments near 0: two steps of 1e-25, and forty digits left
MOST = 2000
_STEP = 25  # the step is 10**-25: a one-sided difference is then right to about 25 digits
_STEEP = 1e7  # a slope beyond it may be that of a jump or of a root at 0, which grows as the step shrinks
_RELATIVE, _LEAST = 1e-20, 1e-345  # an error bar is small enough at this part of the value, or where float64 has 0


class Unsupported(Exception):
    """f cannot be followed at high precision here; says why."""


class Kink(Unsupported):
    """The one-sided derivatives differ. left, right: both, one number for each entry of the outputs, in one row."""

    def __init__(self, left: Array, right: Array) -> None:
        super().__init__("the function has a kink here: its one-sided derivatives differ")
        self.left, self.right = left, right


@cache
def _context(digits: int) -> Any:
    """An mpmath context of our own at so many digits: the one that everybody shares is left alone."""
    try:
        mpmath = import_module("mpmath")
    except ImportError as error:
        raise ImportError("arithmetic at high precision needs mpmath: pip install mpmath") from error
    context = mpmath.MPContext()
    context.dps = digits
    return context


# mpmath's name for what NumPy calls a method by, where they differ
_NAMES = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "rint": "nint",
}  # fmt: skip
_LARGEST = 10_000  # bits of an exponent: exp(exp(exp(x))) would fill the memory


@lru_cache(maxsize=1 << 16)  # a difference moves one entry and asks for all the others once more
def _function(name: str, digits: int, number: Any) -> Any:
    context = _context(digits)
    x = context.make_mpf(number)
    if context.isfinite(x) and x and context.mag(x) > _LARGEST:
        raise Unsupported(f"{name} of a number beyond 2**{_LARGEST}")
    if name == "log2":
        return context.log(x) / context.log(2)
    if name == "exp2":
        return context.power(2, x)
    if name == "cbrt":
        return context.sign(x) * context.cbrt(abs(x))
    return getattr(context, _NAMES.get(name, name))(x)


def _unary(name: str) -> Any:
    def method(self: Precise) -> Precise:
        value = self.value
        try:
            return _wrapped(_function(name, value.context.dps, value._mpf_), value.context)
        except (ZeroDivisionError, ValueError):  # a pole, such as arctanh(1)
            return _wrapped(value.context.nan, value.context)

    return method


def _binary(apply: Callable[[Any, Any], Any], *, swapped: bool = False) -> Any:
    def method(self: Precise, other: Any) -> Any:
        x, y = self.value, _number(other)
        if y is NotImplemented:
            return y
        if swapped:
            x, y = y, x
        try:
            return _wrapped(apply(x, y), self.value.context)
        except ZeroDivisionError:
            return _wrapped(_by_zero(apply, x, y, self.value.context), self.value.context)

    return method


def _compare(apply: Callable[[Any, Any], Any]) -> Any:
    def method(self: Precise, other: Any) -> Any:
        y = _number(other)
        return y if y is NotImplemented else bool(apply(self.value, y))

    return method


def _by_zero(apply: Callable[[Any, Any], Any], x: Any, y: Any, context: Any) -> Any:
    """What NumPy has for a division by 0: inf or nan."""
    if apply is operator.truediv:
        return context.nan if x == 0 or x != x else context.inf * context.sign(x)
    return context.inf if apply is operator.pow else context.nan


def _number(value: Any) -> Any:
    """value as what an mpmath number can be combined with."""
    if isinstance(value, Precise):
        return value.value
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (float, int)) else NotImplemented


def _wrapped(value: Any, context: Any) -> Precise:
    made: Precise = object.__new__(Precise)
    made.value = value if hasattr(value, "_mpf_") else context.nan  # a complex number is none of NumPy's reals
    return made


class Precise:
    """A number of many digits that NumPy can compute with as the element of an object array.

    value: an mpmath number, whose context says how many digits there are. It becomes a float by float(), but not
    while a function is evaluated: a function that rounds its argument on the way is thereby found out.

    >>> from minigrad.testing.precise import precise
    >>> float(np.sum(np.exp(-precise([1000.0, 1001.0], 50))) * 1e300 * 1e134)
    0.6943299820189162
    """

    __slots__ = ("value",)
    value: Any

    __add__ = _binary(operator.add)
    __radd__ = _binary(operator.add, swapped=True)
    __sub__ = _binary(operator.sub)
    __rsub__ = _binary(operator.sub, swapped=True)
    __mul__ = _binary(operator.mul)
    __rmul__ = _binary(operator.mul, swapped=True)
    __truediv__ = _binary(operator.truediv)
    __rtruediv__ = _binary(operator.truediv, swapped=True)
    __mod__ = _binary(operator.mod)
    __rmod__ = _binary(operator.mod, swapped=True)
    __pow__ = _binary(operator.pow)
    __rpow__ = _binary(operator.pow, swapped=True)

    __eq__ = _compare(operator.eq)
    __ne__ = _compare(operator.ne)
    __lt__ = _compare(operator.lt)
    __le__ = _compare(operator.le)
    __gt__ = _compare(operator.gt)
    __ge__ = _compare(operator.ge)

    exp, expm1, exp2 = _unary("exp"), _unary("expm1"), _unary("exp2")
    log, log1p, log2, log10 = _unary("log"), _unary("log1p"), _unary("log2"), _unary("log10")
    sqrt, cbrt = _unary("sqrt"), _unary("cbrt")
    sin, cos, tan = _unary("sin"), _unary("cos"), _unary("tan")
    arcsin, arccos, arctan = _unary("arcsin"), _unary("arccos"), _unary("arctan")
    sinh, cosh, tanh = _unary("sinh"), _unary("cosh"), _unary("tanh")
    arcsinh, arccosh, arctanh = _unary("arcsinh"), _unary("arccosh"), _unary("arctanh")
    rint, __floor__, __ceil__ = _unary("rint"), _unary("floor"), _unary("ceil")

    def __hash__(self) -> int:
        return hash(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __neg__(self) -> Precise:
        return _wrapped(-self.value, self.value.context)

    def __pos__(self) -> Precise:
        return self

    def __abs__(self) -> Precise:
        return _wrapped(abs(self.value), self.value.context)

    def __trunc__(self) -> Precise:
        whole: Precise = self.__floor__() if self.value >= 0 else self.__ceil__()
        return whole

    def conjugate(self) -> Precise:
        """Itself: it is real. np.var asks."""
        return self

    def hypot(self, other: Any) -> Precise:
        """sqrt(self**2 + other**2)."""
        root: Precise = (self * self + other * other).sqrt()
        return root

    def arctan2(self, other: Any) -> Precise:
        """The angle of the point (other, self)."""
        return _wrapped(self.value.context.atan2(self.value, _number(other)), self.value.context)

    def __float__(self) -> float:
        if objects_pass.get():
            raise TypeError("a number of many digits was to be rounded to a float on the way")
        return float(self.value)

    def __repr__(self) -> str:
        return f"Precise({self.value.context.nstr(self.value, 20)})"

    @property
    def finite(self) -> bool:
        """Whether it is neither infinite nor nan."""
        return bool(self.value.context.isfinite(self.value))


def precise(array: Any, digits: int = DIGITS) -> Array:
    """array as an object array of Precise numbers, each exactly what it was.

    array: floats, integers or Precise numbers, any shape. digits: how many the arithmetic with them keeps.
    Raises ImportError without mpmath.

    >>> precise(0.1, 30) * 3
    Precise(0.30000000000000001665)
    """
    context = _context(digits)
    array = np.asarray(array)
    out = np.empty(array.size, object)
    for i, x in enumerate(array.reshape(-1).tolist()):
        x = x.item() if isinstance(x, np.ndarray) else x  # NumPy may put an array without axes in an object's place
        out[i] = _wrapped(context.mpf(x.value if isinstance(x, Precise) else x), context)
    return out.reshape(array.shape)


@contextmanager
def _evaluation() -> Iterator[None]:
    """Within, nothing is recorded, no digit is rounded away, and ops take Precise numbers."""
    before = objects_pass.set(True)
    try:
        with no_grad(), np.errstate(all="ignore"):
            yield
    finally:
        objects_pass.reset(before)


def evaluate(f: Callable[..., Any], arrays: Sequence[Any], *, digits: int = 60, tensors: bool = False) -> list[Array]:
    """f(*arrays) at many digits: its outputs as object arrays of Precise numbers.

    f: a function of arrays made of NumPy functions; with tensors=True one of Tensors, made of ops that object arrays
        pass through. arrays: floats become Precise numbers, all else (labels, options) is handed on as it is.
    Raises Unsupported where f or an op in it takes no objects, or rounds them; ImportError without mpmath.

    >>> evaluate(lambda x: 1 / (1 + np.exp(-x)), [np.array(-1000.0)])
    [array(Precise(5.0759588975494567653e-435), dtype=object)]
    """
    return _run(f, [precise(a, digits) if _floats(a) else a for a in arrays], digits, tensors)


def _floats(value: Any) -> bool:
    """Whether value is to be followed: floats, not a Tensor (which is held fixed)."""
    return isinstance(value, float) or (isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f")


def _run(f: Callable[..., Any], values: Sequence[Any], digits: int, tensors: bool) -> list[Array]:
    """f's outputs, as arrays of Precise numbers, for arrays of them."""
    arguments = [wrap(v) if tensors and isinstance(v, np.ndarray) and v.dtype == object else v for v in values]
    try:
        with _evaluation():
            result = f(*arguments)
    except (TypeError, AttributeError, ValueError, ArithmeticError, LookupError) as error:
        reason = str(error.args[1] if isinstance(error, MinigradError) else error)
        raise Unsupported(f"it does not take numbers of many digits ({reason})") from error
    outs = [np.asarray(plain(out)) for out in (result if isinstance(result, (tuple, list)) else [result])]
    return [precise(out, digits) for out in outs]


def digits_for(arrays: Sequence[Any]) -> int:
    """How many digits to begin with: exp(-2|x|) is to be seen beside 1, down to where float64 has 0."""
    largest = max((float(np.max(np.abs(a[np.isfinite(a)]), initial=0)) for a in arrays), default=0.0)
    return DIGITS + math.ceil(min(2 * largest / math.log(10), 350))


class Exact:
    """f at one point and its derivatives there, at enough digits; each evaluation is made once.

    f, arrays, tensors: as for `evaluate`; derivatives are for the floats among the arrays. Outputs count as one row,
    the entries of all of them in order: `shapes` has their shapes once value() was asked for.
    A derivative is a plain difference over steps of 1e-25. Its error bar comes from evaluating f once more with
    twenty digits more; where the bar is too wide, refine() doubles the digits.

    >>> at = Exact(lambda x: np.exp(-x), [np.array([1.0, 100.0])])
    >>> [float(slope) for slope in at.slope((0, (1,)))]
    [0.0, -3.720075976020836e-44]
    """

    def __init__(
        self, f: Callable[..., Any], arrays: Sequence[Any], *, tensors: bool = False, digits: int | None = None
    ) -> None:
        self.f, self.tensors = f, tensors
        self.arrays = [np.array(a) if _floats(a) else a for a in arrays]
        self.moving = [i for i, a in enumerate(self.arrays) if _floats(a)]
        self.digits = digits or digits_for([self.arrays[i] for i in self.moving])
        self.shapes: list[tuple[int, ...]] = []
        self._aims: dict[Key, dict[int, Array]] = {}
        self._seen: dict[Any, Array] = {}

    def aim(self, name: Key, direction: dict[int, Array]) -> None:
        """Give a direction a name: for each array that moves, by its number, an array of its shape."""
        self._aims[name] = direction

    def refine(self) -> bool:
        """Twice the digits from here on; False if there are as many as allowed."""
        if self.digits >= MOST:
            return False
        self.digits = min(2 * self.digits, MOST)
        self._seen.clear()
        return True

    def value(self) -> Array:
        """f at the point."""
        return self._at(())

    def difference(self, *keys: Key, step: float = 1.0) -> Array:
        """The derivative along all these directions in turn, one-sided: its order is how many there are."""
        keys = tuple(sorted(keys, key=repr))
        known = (keys, step)
        if known not in self._seen:
            h = step * self._ten(-_STEP)
            total = self._at(keys, step, h)
            for k in range(len(keys)):
                for moves in itertools.combinations(keys, k):
                    y = self._at(moves, step, h)
                    total = total - y if (len(keys) - k) % 2 else total + y
            self._seen[known] = total / h ** len(keys)
        return self._seen[known]

    def bar(self, order: int, step: float = 1.0) -> Array:
        """How far a difference of this order may be off by rounding, as Precise numbers."""
        if "noise" not in self._seen:
            more = self._evaluate({}, self.digits + 20)
            self._seen["noise"] = 4 * abs(self.value() - more) + abs(more) * self._ten(-self.digits)
        known = ("bar", order, step)
        if known not in self._seen:
            self._seen[known] = self._seen["noise"] * (2 * self._ten(_STEP) / abs(step)) ** order
        return self._seen[known]

    def _ten(self, exponent: int) -> Precise:
        power: Precise = precise(10, self.digits).item() ** exponent
        return power

    def slope(self, key: Key) -> Array:
        """The derivative along one direction.

        Raises Kink where the one-sided ones differ, Unsupported where the difference does not stand still.
        """
        up, down = self.difference(key), self.difference(key, step=-1.0)
        slope, gap, noise = (up + down) / 2, abs(up - down), self.bar(1, 0.5)
        beside = [a.finite and b.finite for a, b in zip(up, down, strict=True)]
        if not all(ok or not y.finite for ok, y in zip(beside, self.value(), strict=True)):
            raise Unsupported("it is not finite beside this point")
        unsure = [j for j, ok in enumerate(beside)
                  if ok and (gap[j] > 1e-12 * abs(slope[j]) + 4 * noise[j] or abs(slope[j]) > _STEEP)]  # fmt: skip
        if not unsure:
            return np.asarray(slope)
        up_half, down_half = self.difference(key, step=0.5), self.difference(key, step=-0.5)
        for j in unsure:
            # A smooth function's two sides come half as close for half the step; those of a kink stay apart.
            gap_half, half = abs(up_half[j] - down_half[j]), (up_half[j] + down_half[j]) / 2
            if gap_half > 4 * noise[j] and gap_half > 0.75 * gap[j]:
                raise Kink(down, up)
            if abs(slope[j] - half) > 1e-8 * abs(slope[j]) + 4 * noise[j]:
                raise Unsupported("its differences do not stand still as the step is halved")
        return np.asarray(slope)

    def split(self, row: Array) -> list[Array]:
        """A row of all outputs' entries as the arrays that they belong to."""
        ends = np.cumsum([math.prod(s) for s in self.shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(row, ends), self.shapes, strict=True)]

    def _at(self, moves: tuple[Key, ...], step: float = 1.0, h: Any = 0) -> Array:
        key = ("at", moves, step if moves else 1.0)
        if key not in self._seen:
            shifts: dict[int, Any] = {}
            for move in moves:
                for i, d in self.direction(move).items():
                    shifts[i] = shifts.get(i, 0) + d * h
            self._seen[key] = self._evaluate(shifts, self.digits)
        return self._seen[key]

    def direction(self, key: Key) -> dict[int, Array]:
        """What a key stands for: for each array that moves, by its number, an array of its shape."""
        if key in self._aims:
            return self._aims[key]
        assert isinstance(key, tuple)  # of one entry
        i, index = key
        d = np.zeros(self.arrays[i].shape, object)
        d[index] = 1
        return {i: d}

    def _evaluate(self, shifts: dict[int, Any], digits: int) -> Array:
        values = [precise(x, digits) if i in self.moving else x for i, x in enumerate(self.arrays)]
        for i, shift in shifts.items():
            values[i] = np.asarray(values[i] + shift, object)
        outs = _run(self.f, values, digits, self.tensors)
        self.shapes = [out.shape for out in outs]
        return _row([x for out in outs for x in out.reshape(-1).tolist()])


def _row(numbers: list[Any]) -> Array:
    row = np.empty(len(numbers), object)
    row[:] = numbers
    return row


def along(
    f: Callable[..., Any],
    arrays: Sequence[Any],
    directions: Sequence[Any],
    *,
    tensors: bool = False,
    digits: int | None = None,
) -> tuple[list[Array], list[Array]]:
    """The derivative of every output of f along a direction, and how far it may be off: float64 arrays, one an output.

    f, arrays, tensors: as for `evaluate`. directions: for each array one of its shape, or None where it stays.
    digits: how many to begin with; by default by the size of the arrays, and in any case more where needed.
    Raises Unsupported where f cannot be followed, or has no derivative here: Kink where the two sides differ.

    >>> along(lambda x: 1 / (1 + np.exp(-x)), [np.array(700.0)], [1.0])[0]
    [array(9.85967654e-305)]
    """
    at = Exact(f, arrays, tensors=tensors, digits=digits)
    if len(directions) != len(arrays):
        raise ArgumentError(
            "along: directions",
            f"{len(directions)} directions for {len(arrays)} arrays",
            "one for each array, None where it stays",
            "pass a list as long as arrays",
        )
    at.aim("d", {i: np.asarray(d) for i, d in enumerate(directions) if d is not None})
    return _settled(at, "d")


def derivative(
    f: Callable[..., Any],
    arrays: Sequence[Any],
    i: int,
    index: tuple[int, ...],
    *,
    tensors: bool = False,
    digits: int | None = None,
) -> tuple[list[Array], list[Array]]:
    """d(outputs)/d(arrays[i][index]) for every entry of every output of f, and how far it may be off, as `along`.

    >>> derivative(np.square, [np.array([3.0, 4.0])], 0, (1,))[0]
    [array([0., 8.])]
    """
    at = Exact(f, arrays, tensors=tensors, digits=digits)
    if i not in at.moving:
        raise ArgumentError("derivative: i", f"arrays[{i}] is {describe(arrays[i])}", "floats", "pass i of an array")
    return _settled(at, (i, tuple(index)))


def _settled(at: Exact, key: Key) -> tuple[list[Array], list[Array]]:
    """The slope along key at as many digits as its error bar asks for, and the bar."""
    while True:
        slope, bar = at.slope(key), at.bar(1)
        small = all(b <= max(_RELATIVE * abs(s), _LEAST) for s, b in zip(slope, bar, strict=True) if s.finite)
        if small or not at.refine():
            return at.split(_rounded(slope)), at.split(_rounded(bar))


def _rounded(row: Array) -> Array:
    return np.array([float(x) for x in row], np.float64)


def exact_twin(f: Callable[..., Any], arrays: Sequence[Any], *, tensors: bool = True) -> Callable[..., Any] | None:
    """The function that `evaluate` can follow in f's place: f itself, the unfused graph of a public op, or None.

    arrays: where to try; the result has been seen to give f's own values there, to about half of their digits.
    """
    names = [name for name in unfused.__all__ if getattr(ops, name) is f]
    candidates: list[Callable[..., Any]] = [f, *(getattr(unfused, name) for name in names)]
    for candidate in candidates:
        try:
            if agrees(candidate, f, arrays, tensors=tensors):
                return candidate
        except Unsupported:
            continue
    return None


def agrees(candidate: Callable[..., Any], f: Callable[..., Any], arrays: Sequence[Any], *, tensors: bool) -> bool:
    """Whether candidate at high precision has f's values in floats, where these are finite."""
    values = [np.array(a) if _floats(a) else a for a in arrays]
    with no_grad(), np.errstate(all="ignore"):
        result = f(*[Tensor(a) if tensors and _floats(a) else a for a in values])
    outs = [np.asarray(plain(out)) for out in (result if isinstance(result, (tuple, list)) else [result])]
    found = evaluate(candidate, values, digits=digits_for([a for a in values if _floats(a)]), tensors=tensors)
    if [out.shape for out in outs] != [out.shape for out in found]:
        return False
    for out, exact in zip(outs, found, strict=True):
        seen = np.isfinite(out)
        tolerance = np.sqrt(np.finfo(out.dtype).eps if out.dtype.kind == "f" else 1e-12)
        y, e = out[seen].astype(np.float64), _rounded(exact[seen].reshape(-1))
        scale = np.max(np.abs(y), initial=1e-6)
        if not np.all(np.abs(y - e) <= tolerance * (np.abs(e) + scale)):
            return False
    return True
