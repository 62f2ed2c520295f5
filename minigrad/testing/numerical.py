"""Numerical derivatives: of a number, of every entry of an array, of an array in an array.

In order: Ridders' extrapolation on which the default method rests, the four methods along one line, and the
functions that call them for a number, a gradient and a Jacobian.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.contract import numbers
from minigrad.errors import ArgumentError, DTypeError, MinigradError, ShapeError, describe
from minigrad.tensor import Tensor, plain

__all__ = [
    "FINE",
    "MAIN",
    "WIDE",
    "Analytic",
    "Method",
    "central_differences",
    "extrapolate",
    "numerical_diff",
    "numerical_gradient",
    "numerical_jacobian",
    "result_of",
]

Array = NDArray[Any]
Method: TypeAlias = Literal["central", "forward", "ridders", "complex"]
METHODS = ("central", "forward", "ridders", "complex")

# Ladders of steps, powers of two so that x + h is exact for most x. MAIN spans four and a half decades in twelve
# evaluations: the long steps for smooth functions, the short ones for functions with kinks nearby. WIDE is for
# tails, where f changes by less than a rounding over short steps; FINE for kinks very near.
MAIN = tuple(2.0**-k for k in range(3, 19, 3))
WIDE = tuple(2.0**-k for k in np.arange(-3, 6.5, 0.5).tolist())
FINE = tuple(2.0**-k for k in range(21, 36, 3))

# How many roundings of f's size a value of f is taken to carry.
ROUNDINGS = 4
# Below it a value of f is 0, and what was lost shows in no rounding.
SMALLEST = float(np.finfo(np.float64).smallest_subnormal)


def extrapolate(differences: Sequence[Array], steps: Sequence[float], noise: Sequence[Any]) -> tuple[Array, Array]:
    """(derivative, error bar) from central differences over falling steps: the best entry of Ridders' table.

    differences: D(h) = (f(x + h) - f(x - h)) / (2 h) for each h in steps, numbers or arrays of one shape; entries
        that are not finite are left out. noise: what rounding does to each D(h).
    An entry of the table is off by no more than it differs from the two that it was made of, and by the
    roundings that reach it; where nothing is finite the derivative is nan and the bar infinite.
    Source: Ridders, Accurate computation of F'(x) and F'(x) F''(x), Adv. Eng. Softw. 4 (1982).

    >>> steps = [0.5, 0.25, 0.125]
    >>> value, bar = extrapolate([np.sinh(h) / h for h in steps], steps, [1e-16 / h for h in steps])
    >>> bool(abs(value - 1) < 1e-7 < bar < 1e-3)
    True
    """
    best = np.full(np.shape(differences[0]), np.nan)
    bar = np.full(np.shape(differences[0]), np.inf)
    before: list[tuple[Array, Any]] = []
    with np.errstate(all="ignore"):
        for k, (value, rounding) in enumerate(zip(differences, noise, strict=True)):
            row: list[tuple[Array, Any]] = [(np.asarray(value, float), rounding)]
            for j in range(1, k + 1):
                ratio = (steps[k - j] / steps[k]) ** 2
                (left, left_noise), (above, above_noise) = row[-1], before[j - 1]
                entry = left + (left - above) / (ratio - 1)
                carried = (ratio * left_noise + above_noise) / (ratio - 1)
                error = np.maximum(abs(entry - left), abs(entry - above)) + carried
                better = error < bar
                best, bar = np.where(better, entry, best), np.where(better, error, bar)
                row.append((entry, carried))
            before = row
    return best, bar


def numerical_diff(
    f: Callable[[Any], Any], x: Any, h: float | None = None, *, method: Method | None = None, error: bool = False
) -> Any:
    """df/dx at the number x, numerically.

    f: from a number to a number. x: one number, also an integer or a Tensor with one value.
    method: "ridders" extrapolates central differences over many steps, at some 80 evaluations, and finds out by
        itself how far it is off; "central" is (f(x + h) - f(x - h)) / (2 h), the book's; "forward" is
        (f(x + h) - f(x)) / h; "complex" is the imaginary part of f(x + ih) / h, exact where f takes complex numbers.
        By default ridders, or central where a step h is given.
    h: the step, for ridders the longest one; by default chosen from x, and such that x + h is exact.
    error: return (derivative, error estimate) instead.
    Raises ShapeError for an x of several values, DTypeError where x or f(x) is no number, ArgumentError for
    an h that is not positive, or so small that x + h is x.
    Source: Deep Learning from Scratch, section 4.3.1.

    >>> numerical_diff(lambda x: 0.01 * x**2 + 0.1 * x, 5, 1e-4)
    0.1999999999990898
    >>> value, bar = numerical_diff(lambda x: 0.01 * x**2 + 0.1 * x, 5, error=True)
    >>> abs(value - 0.2) <= bar < 1e-13
    True
    """
    name = "numerical_diff"
    array = numbers(f"{name}: x", plain(x), None, copy=False)
    if array.size != 1:
        raise ShapeError(
            f"{name}: x",
            f"x is {describe(array)}",
            "one number",
            "write numerical_gradient(f, x), which differentiates for each entry",
        )
    at = float(array.item())
    method = _checked(name, method, h, np.asarray(at))
    if method == "complex":
        value, bar = _complex_step(name, lambda step: f(np.asarray(complex(at, step)).view(Analytic)), h)
    else:
        value, bar = _along(
            lambda step: (np.float64(result_of(name, f(at + step))), (at + step) - at), at, method, h, np.float64
        )
    return (float(value), float(bar)) if error else float(value)


def numerical_gradient(
    f: Callable[[Any], Any],
    x: ArrayLike | Tensor,
    h: float | None = None,
    *,
    method: Method | None = None,
    error: bool = False,
) -> Any:
    """gradient[i] = df/dx[i] for each entry of x, numerically.

    f: from an array of x's shape to a number. x: floats of any shape. An array is changed in place, an entry at
        a time, and put back whatever happens: that is what lets `lambda W: net.loss(x, t)` see the change in
        net.params["W1"] although it ignores W. For a Tensor the same holds of its `.data`, and f gets the
        Tensor. A number or a list, of integers too, becomes a float64 array of its own first. Only for
        method="complex" f gets a complex copy.
    method, h, error: as for numerical_diff.
    Returns an array of x's shape and dtype, with error=True and a second one of error estimates. The error of
        "central" is of the order of h**2 + eps * abs(f(x)) / h, eps being 1e-16 where f computes in float64, but
        1e-7 in float32.
    Raises DTypeError for an array of integers, where the step would be lost, or where f(x) is no number,
    ArgumentError for a read-only array, and for an h that is not positive or too small to change an entry.
    Source: Deep Learning from Scratch, section 4.4.

    >>> numerical_gradient(lambda x: x[0] ** 2 + x[1] ** 2, np.array([3.0, 4.0]), 1e-4)
    array([6., 8.])
    >>> x = np.array([3.0, 4.0])
    >>> dx, bar = numerical_gradient(lambda x: np.exp(x).sum(), x, error=True)
    >>> bool(np.all(abs(dx - np.exp(x)) <= bar))
    True
    """
    name = "numerical_gradient"
    array, x = _perturbable(name, x)
    method = _checked(name, method, h, array)
    if method == "central" and h is not None and not error:
        return central_differences(name, f, x, array, h)
    gradient, bars = np.zeros_like(array), np.zeros_like(array)
    for i, (value, bar) in _entries(name, lambda a: np.float64(result_of(name, f(a))), x, array, method, h, f):
        gradient[i], bars[i] = result_of(name, value), result_of(name, bar)
    return (gradient, bars) if error else gradient


def numerical_jacobian(
    f: Callable[[Any], Any],
    x: ArrayLike | Tensor,
    h: float | None = None,
    *,
    method: Method | None = None,
    error: bool = False,
) -> Any:
    """jacobian[i, j] = df[i]/dx[j] for each entry of f(x) and each of x, numerically.

    f: from an array of x's shape to an array, always of one shape. x, method, h, error: as for
        numerical_gradient; x is changed in place and put back.
    Returns an array of shape f(x).shape + x.shape in float64, with error=True and a second one of error estimates.
    Raises ShapeError where f changes the shape of its result, and what numerical_gradient raises.

    >>> numerical_jacobian(lambda x: x[:2] * x[2], np.array([3.0, 4.0, 5.0]), method="complex")
    array([[5., 0., 3.],
           [0., 5., 4.]])
    """
    name = "numerical_jacobian"
    array, x = _perturbable(name, x)
    method = _checked(name, method, h, array)
    shape = _values(name, f(x)).shape
    jacobian, bars = np.zeros((*shape, *array.shape)), np.zeros((*shape, *array.shape))

    def g(a: Any) -> Array:
        out = _values(name, f(a))
        if out.shape != shape:
            raise ShapeError(
                f"{name}: f",
                f"f returned {describe(out)}, and {shape} the first time",
                "results of one shape",
                "make the shape of the result independent of the values in x",
            )
        return out

    for i, (value, bar) in _entries(name, g, x, array, method, h, f):
        entry: Any = (..., *i)
        jacobian[entry], bars[entry] = value, bar
    return (jacobian, bars) if error else jacobian


def central_differences(name: str, f: Callable[[Any], Any], x: Any, array: Array, h: float) -> Array:
    """The book's loop: f(x) while each entry of `array`, x's memory, is moved up and down by h."""
    gradient = np.zeros_like(array)
    exact = array.dtype == np.float64
    for i in np.ndindex(array.shape):
        before = array[i]
        try:
            array[i] = before + h
            above, f_above = array[i], result_of(name, f(x))
            array[i] = before - h
            below, f_below = array[i], result_of(name, f(x))
        finally:
            array[i] = before
        # Narrow floats round x + h: at 1 in float32 by up to 0.06 % of h = 1e-4, so the step made is measured.
        step = 2 * h if exact else float(above) - float(below)
        gradient[i] = (f_above - f_below) / step
    return gradient


def _entries(
    name: str, g: Callable[[Any], Any], x: Any, array: Array, method: str, h: float | None, f: Callable[[Any], Any]
) -> Iterator[tuple[tuple[int, ...], tuple[Array, Array]]]:
    """The derivative of g with respect to each entry of array, x's memory, and its error estimate."""
    for i in np.ndindex(array.shape):
        if method == "complex":

            def imaginary(step: float, i: tuple[int, ...] = i) -> Any:
                moved = array.astype(np.complex128)
                moved[i] += 1j * step
                return f(moved.view(Analytic))

            yield i, _complex_step(name, imaginary, h)
            continue
        before = array[i]

        def at(step: float, i: tuple[int, ...] = i, before: Any = before) -> tuple[Any, float]:
            try:
                array[i] = before + step
                return g(x), float(array[i]) - float(before)
            finally:
                array[i] = before

        yield i, _along(at, float(before), method, h, array.dtype)


def _along(
    at: Callable[[float], tuple[Any, float]], x: float, method: str, h: float | None, dtype: Any
) -> tuple[Array, Array]:
    """(derivative, error estimate) at x of what `at` gives for a step, with the step that it really made."""
    eps = float(np.finfo(dtype).eps)
    size = max(1.0, abs(x)) if np.isfinite(x) else 1.0
    if method == "ridders":
        ladders = [[h / 2.0**k for k in range(10)]] if h is not None else _ladders(x, eps)
        found, outside = [], None
        for ladder in ladders:
            try:
                found.append(_ridders(at, ladder, eps))
            except MinigradError:
                raise
            except (ArithmeticError, ValueError) as error:
                outside = error
        if not found:
            assert outside is not None
            raise outside
        value, bar = found[0]
        for other, its_bar in found[1:]:
            # Long steps may agree on a slope that is not there, across a pole for example: nearer ones know better.
            apart = (abs(other - value) > bar + its_bar) & (its_bar <= 0.1 * abs(other))
            take = (its_bar < bar) | apart
            value, bar = np.where(take, other, value), np.where(take, its_bar, bar)
        return value, bar
    given = h is not None and dtype == np.float64
    if h is None:
        h = float(2.0 ** np.round(np.log2((np.cbrt(eps) if method == "central" else np.sqrt(eps)) * size)))
    f0, _ = at(0.0)
    tried: list[tuple[Any, Any, float]] = []
    for step in (h, 2 * h):  # the longer one tells how far the shorter is off
        above, up = at(step)
        below, down = at(-step) if method == "central" else (f0, 0.0)
        # A step that was asked for is divided by as the book does, to the bit; another by what it came to.
        moved = (2 * step if method == "central" else step) if given else up - down
        tried.append(((above - below) / moved, abs(above) + abs(below), moved))
    (value, size_of_f, moved), (longer, _, _) = tried
    truncation = abs(longer - value) / (3 if method == "central" else 1)
    unseen = eps * abs(x * value) if given else 0.0  # by what x + h was rounded
    bar = truncation + (ROUNDINGS * (eps * size_of_f + SMALLEST) + unseen) / moved
    return value, np.where(np.isnan(bar), np.inf, bar)


def _ladders(x: float, eps: float) -> list[list[float]]:
    """The steps to try at x, the nearest last: two absolute ladders, and one relative to x where x is far from 1."""
    shift = float(np.sqrt(eps / np.finfo(np.float64).eps)) if eps > 1e-15 else 1.0
    ladders = [[h * min(shift, 2.0**6) for h in MAIN], list(WIDE)]
    if x and np.isfinite(x) and not 1e-2 < abs(x) < 1e2:
        size = 2.0 ** np.round(np.log2(abs(x)))
        ladders.append([float(h * size) for h in MAIN])
    return sorted(ladders, key=min, reverse=True)


def _ridders(at: Callable[[float], tuple[Any, float]], ladder: Sequence[float], eps: float) -> tuple[Array, Array]:
    differences, steps, noise = [], [], []
    outside: Exception | None = None
    for step in ladder:
        with np.errstate(all="ignore"):  # long steps may leave the domain of f
            try:
                (above, up), (below, down) = at(step), at(-step)
            except MinigradError:
                raise
            except (ArithmeticError, ValueError) as error:
                outside = error
                continue
            if up > 0 > down:
                differences.append((above - below) / (up - down))
                noise.append(ROUNDINGS * (eps * np.maximum(abs(above), abs(below)) + SMALLEST) / (up - down))
                steps.append((up - down) / 2)
    if outside and not steps:
        raise outside
    if not steps:
        return np.asarray(np.nan), np.asarray(np.inf)
    return extrapolate(differences, steps, noise)


class Analytic(np.ndarray[Any, Any]):
    """An array of complex numbers that refuses what has no complex derivative: abs, real, conj and the like.

    They give real numbers, or turn the imaginary part round, and a complex step through them is silently wrong.

    >>> abs(np.array([1j]).view(Analytic))
    Traceback (most recent call last):
    TypeError: absolute has no complex derivative
    """

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if ufunc in (np.absolute, np.conjugate, np.sign) and any(np.iscomplexobj(_bare(x)) for x in inputs):
            raise TypeError(f"{ufunc.__name__} has no complex derivative")
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = tuple(map(_bare, out))
        result = getattr(ufunc, method)(*map(_bare, inputs), **kwargs)
        if out is not None:
            return out[0] if len(out) == 1 else out
        return tuple(map(_dressed, result)) if isinstance(result, tuple) else _dressed(result)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in (np.vdot, np.linalg.norm, np.linalg.svd, np.linalg.eigh, np.linalg.eigvalsh):
            raise TypeError(f"{func.__name__} has no complex derivative")
        result = super().__array_function__(func, types, args, kwargs)
        return _dressed(result) if isinstance(result, (np.ndarray, np.generic)) else result

    def __getitem__(self, index: Any) -> Any:
        return _dressed(super().__getitem__(index))

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getattribute__(self, name: str) -> Any:
        if name in ("real", "imag", "conj", "conjugate"):
            raise TypeError(f"{name} has no complex derivative")
        return super().__getattribute__(name)


def _bare(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Analytic) else value


def _dressed(value: Any) -> Any:
    return np.asarray(value).view(Analytic) if np.iscomplexobj(value) else value


def _complex_step(name: str, f: Callable[[float], Any], h: float | None) -> tuple[Array, Array]:
    """f(ih) = f + ih f' + ..., without a difference of near numbers; Squire and Trapp, SIAM Review 40 (1998)."""
    step = 2.0**-100 if h is None else h
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)  # float(z) drops the derivative
            out = np.asarray(_bare(f(step)))
    except (TypeError, np.exceptions.ComplexWarning) as error:
        raise _not_complex(name, str(error)) from error
    if out.dtype.kind != "c":
        raise _not_complex(name, f"f returned {describe(out)}")
    value = out.imag / step
    return value, 8 * np.finfo(np.float64).eps * abs(value) + ROUNDINGS * SMALLEST / step


def _not_complex(name: str, got: str) -> DTypeError:
    return DTypeError(
        f"{name}: f",
        f"{got} for a complex argument",
        'for method="complex" an f that computes with complex numbers all through: no abs, no Tensor',
        'pass method="ridders"',
    )


def result_of(function: str, value: Any) -> float:
    """f's result as a number."""
    array = _values(function, value)
    if array.size != 1:
        raise ShapeError(
            f"{function}: f", f"f returned {describe(array)}", "one number", "return np.sum(...) of it, for example"
        )
    return float(array.item())


def _values(function: str, value: Any) -> Array:
    """f's result as an array of real numbers, in memory of its own."""
    try:
        array = np.asarray(plain(value))
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{function}: f", f"f returned {describe(value)}", "a number", "end f with return")
    return array.astype(np.float64)


def _checked(name: str, method: str | None, h: Any, x: Array) -> Any:
    """The method to use; ArgumentError for one that is none, and for a step that is none or that x does not show."""
    if method is None:
        method = "ridders" if h is None else "central"
    if method not in METHODS:
        raise ArgumentError(
            f"{name}: method", f"method={method!r}", f"one of {', '.join(METHODS)}", 'pass method="ridders"'
        )
    if h is not None and (not isinstance(h, (int, float)) or not 0 < h < np.inf):
        raise ArgumentError(f"{name}: h", describe(h), "a positive step", "pass h=1e-4, for example")
    if h is not None and method != "complex":
        for i in np.ndindex(x.shape):
            _check_seen(name, f"x{list(i)}" if i else "x", x[i], h)
    return method


def _check_seen(function: str, what: str, value: Any, h: float) -> None:
    if np.isfinite(value) and (value + h == value or value - h == value):
        raise ArgumentError(
            f"{function}: h",
            f"h = {h} does not change {what} = {value:g} in {value.dtype}, so the difference would be 0",
            "a step that x + h shows",
            f"pass h={float(np.cbrt(np.finfo(value.dtype).eps)) * max(1.0, abs(float(value))):.0e}",
        )


def _perturbable(function: str, x: Any) -> tuple[Array, Any]:
    """(the array to change in place, what f gets): x's own memory, or a new array for a number or list."""
    array = plain(x)
    if not isinstance(array, np.ndarray):
        array = numbers(f"{function}: x", array, None, copy=True).astype(np.float64)
        return array, array
    if array.dtype.kind != "f":
        raise DTypeError(
            f"{function}: x",
            f"x is {describe(array)}",
            "floats: in an array of integers x + h is cut back to x",
            "write x = np.array(x, dtype=float)",
        )
    if not array.flags.writeable:
        raise ArgumentError(
            f"{function}: x",
            f"x is a read-only array, {describe(array)}",
            "one that can be changed in place for a moment",
            "pass x.copy(), or the Tensor that it is a view of",
        )
    return array, x
