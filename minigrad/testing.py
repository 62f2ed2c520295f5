"""Numerical differentiation, and backward compared with it.

In order: the book's central difference at a number, the same for every entry of an array, gradcheck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.autograd import enable_grad, grad
from minigrad.contract import numbers
from minigrad.errors import ArgumentError, DTypeError, GradientError, ShapeError, describe
from minigrad.tensor import Tensor, plain

__all__ = ["Comparison", "GradcheckReport", "gradcheck", "numerical_diff", "numerical_gradient"]

Array = NDArray[Any]

_EPS = float(np.finfo(np.float64).eps)
# Inputs of at most this many values are also compared entry by entry: two evaluations of f an entry.
_SMALL = 64
# How many roundings of f's size a value of f is taken to carry.
_ROUNDINGS = 16


def numerical_diff(f: Callable[[float], Any], x: float, h: float = 1e-4) -> float:
    """df/dx = (f(x + h) - f(x - h)) / (2 * h), the central difference at the number x.

    f: from a number to a number. x: one number, also an integer or a Tensor with one value.
    Raises ShapeError for an x of several values, DTypeError where x or f(x) is no number, ArgumentError for
    an h that is not positive, or so small that x + h is x.
    Source: Deep Learning from Scratch, section 4.3.1.

    >>> numerical_diff(lambda x: 0.01 * x**2 + 0.1 * x, 5)
    0.1999999999990898
    """
    name = "numerical_diff"
    value = numbers(f"{name}: x", plain(x), None, copy=False)
    if value.size != 1:
        raise ShapeError(
            f"{name}: x",
            f"x is {describe(value)}",
            "one number",
            "write numerical_gradient(f, x), which differentiates for each entry",
        )
    at = float(value.item())
    _check_step(name, h)
    _check_seen(name, "x", np.float64(at), h)
    return (_number(name, f(at + h)) - _number(name, f(at - h))) / (2 * h)


def numerical_gradient(f: Callable[[Any], Any], x: ArrayLike | Tensor, h: float = 1e-4) -> Array:
    """gradient[i] = (f(x with x[i] + h) - f(x with x[i] - h)) / (2 * h), the central difference for each entry.

    f: from an array of x's shape to a number. x: floats of any shape. An array is changed in place, an entry at
        a time, and put back whatever happens: that is what lets `lambda W: net.loss(x, t)` see the change in
        net.params["W1"] although it ignores W. For a Tensor the same holds of its `.data`, and f gets the
        Tensor. A number or a list, of integers too, becomes a float64 array of its own first.
    Returns an array of x's shape and dtype. The error is of the order of h**2 + eps * abs(f(x)) / h, eps being
        1e-16 where f computes in float64, but 1e-7 in float32.
    Raises DTypeError for an array of integers, where the step would be lost, or where f(x) is no number,
    ArgumentError for a read-only array, and for an h that is not positive or too small to change an entry.
    Source: Deep Learning from Scratch, section 4.4.

    >>> numerical_gradient(lambda x: x[0] ** 2 + x[1] ** 2, np.array([3.0, 4.0]))
    array([6., 8.])
    """
    name = "numerical_gradient"
    array = plain(x)
    if isinstance(array, np.ndarray):
        _check_perturbable(name, array)
    else:
        array = x = numbers(f"{name}: x", array, None, copy=True).astype(np.float64)
    _check_step(name, h)
    for i in np.ndindex(array.shape):
        _check_seen(name, f"x{list(i)}" if i else "x", array[i], h)
    return central_differences(name, f, x, array, h)


def central_differences(name: str, f: Callable[[Any], Any], x: Any, array: Array, h: float) -> Array:
    """The loop of numerical_gradient: f(x) while each entry of `array`, x's memory, is moved up and down."""
    gradient = np.zeros_like(array)
    exact = array.dtype == np.float64
    for i in np.ndindex(array.shape):
        before = array[i]
        try:
            array[i] = before + h
            above, f_above = array[i], _number(name, f(x))
            array[i] = before - h
            below, f_below = array[i], _number(name, f(x))
        finally:
            array[i] = before
        # Narrow floats round x + h: at 1 in float32 by up to 0.06 % of h = 1e-4, so the step made is measured.
        step = 2 * h if exact else float(above) - float(below)
        gradient[i] = (f_above - f_below) / step
    return gradient


@dataclass(frozen=True)
class Comparison:
    """One derivative, found both ways: right if abs(backward - numerical) <= allowed.

    >>> Comparison("inputs[0][1]", backward=0.0, numerical=2.0, allowed=1e-3).ok
    False
    """

    what: str
    backward: float
    numerical: float
    allowed: float

    @property
    def ok(self) -> bool:
        """Whether the two agree; never so where one of them is nan or infinite."""
        return abs(self.backward - self.numerical) <= self.allowed < np.inf

    def __str__(self) -> str:
        difference = abs(self.backward - self.numerical)
        return (
            f"{self.what}: backward {self.backward:.10g}, numerical {self.numerical:.10g}, "
            f"difference {difference:.2g} where {self.allowed:.2g} is allowed"
        )


@dataclass(frozen=True)
class GradcheckReport:
    """What gradcheck found: true if every comparison is right; as text, the verdict and what is wrong.

    >>> print(GradcheckReport((Comparison("inputs[0]", 2.0, 2.0, 1e-3),)))
    gradcheck: backward is right in all of 1 comparison
    """

    comparisons: tuple[Comparison, ...]

    @property
    def wrong(self) -> tuple[Comparison, ...]:
        """The comparisons in which backward and the numerical derivative disagree."""
        return tuple(c for c in self.comparisons if not c.ok)

    def __bool__(self) -> bool:
        return not self.wrong

    def __str__(self) -> str:
        n, wrong = len(self.comparisons), self.wrong
        of = f"{n} comparison{'s' if n != 1 else ''}"
        if not wrong:
            return f"gradcheck: backward is right in all of {of}"
        shown = [f"  {c}" for c in wrong[:8]]
        if len(wrong) > 8:
            shown.append(f"  and {len(wrong) - 8} more")
        return "\n".join([f"gradcheck: backward is wrong in {len(wrong)} of {of}", *shown])


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    seed: int = 0,
    directions: int = 3,
    raise_exception: bool = True,
) -> GradcheckReport:
    """Compares backward with numerical differentiation of f, in random directions and, for small inputs, by entry.

    f: from Tensors to a Tensor of any shape, or to several; its derivatives are taken in a random direction of
        the result, since a sum of all entries hides errors that cancel.
    inputs: an array or Tensor, or a sequence of them. Float arrays, and Tensors that require a gradient, are
        differentiated, in float64 and in memory of their own; anything else reaches f as it is.
    eps: the step, times abs(x) where that is larger than 1. seed: fixes the directions.
    rtol: how far backward may be off, as a part of the derivative itself: below the 0.1 % of a subtle mistake.
    atol: the same as a part of the input's largest derivative, so that no size of f lets a zero pass. What
        float64 rounds off in f is allowed on top.
    raise_exception: raise GradientError for a wrong gradient; otherwise only the report says so.
    Raises also ArgumentError where no input can be differentiated or eps is not positive, DTypeError where f
    returns no Tensor or leaves float64.

    >>> from minigrad import exp
    >>> print(gradcheck(lambda x, y: x * exp(y), [np.array([1.0, 2.0]), np.array([[0.5]])]))
    gradcheck: backward is right in all of 9 comparisons
    >>> report = gradcheck(lambda x: x * x.detach(), np.array([1.0]), raise_exception=False)
    >>> bool(report)
    False
    """
    _check_step("gradcheck", eps, "eps")
    single = isinstance(inputs, (Tensor, np.ndarray)) or not isinstance(inputs, Sequence)
    values = [inputs] if single else list(inputs)
    arrays = {i: np.array(plain(v), np.float64) for i, v in enumerate(values) if _is_checked(v)}
    if not arrays:
        raise ArgumentError(
            "gradcheck: inputs",
            ", ".join(map(describe, values)) or "no input",
            "a float array, or a Tensor with requires_grad=True, among them",
            "pass np.array(x, dtype=float)",
        )
    rng = np.random.default_rng(seed)

    def run(changed: dict[int, Array]) -> tuple[list[Tensor], list[Tensor]]:
        leaves = {i: Tensor(a, requires_grad=True) for i, a in changed.items()}
        with enable_grad():
            return list(leaves.values()), _outputs(f(*[leaves.get(i, v) for i, v in enumerate(values)]))

    leaves, outs = run(arrays)
    douts = [rng.standard_normal(out.shape) for out in outs]

    def phi(changed: dict[int, Array]) -> float:
        return sum(float(np.sum(out.data * u)) for out, u in zip(run(changed)[1], douts, strict=True))

    noise = _ROUNDINGS * _EPS * sum(float(np.sum(abs(out.data * u))) for out, u in zip(outs, douts, strict=True))
    found = dict(zip(arrays, _backward(leaves, outs, douts), strict=True))
    comparisons: list[Comparison] = []
    for i, x in arrays.items():

        def numerical(step: Array, i: int = i, x: Array = x) -> tuple[float, Array]:
            above, below = x + step, x - step
            return phi({**arrays, i: above}) - phi({**arrays, i: below}), above - below

        steps = eps * np.maximum(1, abs(x))
        for k in range(directions):
            change, moved = numerical(steps * rng.standard_normal(x.shape))
            terms = found[i] * moved
            allowed = rtol * abs(change) + atol * _norm(terms) + 2 * noise
            what = f"inputs[{i}] in random direction {k}"
            comparisons.append(_per_step(what, float(np.sum(terms)), change, allowed, eps))
        if x.size <= _SMALL:
            comparisons += _by_entry(f"inputs[{i}]", found[i], steps, numerical, atol, rtol, noise)
    report = GradcheckReport(tuple(comparisons))
    if raise_exception and not report:
        raise GradientError(
            "gradcheck",
            "; ".join(map(str, report.wrong[:3])),
            f"backward and the numerical derivative to agree in {len(comparisons)} comparisons",
            "look at backward of the ops that lie between this input and the result",
        )
    return report


def _by_entry(
    name: str,
    dx: Array,
    steps: Array,
    numerical: Callable[[Array], tuple[float, Array]],
    atol: float,
    rtol: float,
    noise: float,
) -> Iterator[Comparison]:
    changes, moves = np.zeros(dx.shape), np.zeros(dx.shape)
    for j in np.ndindex(dx.shape):
        step = np.zeros(dx.shape)
        step[j] = steps[j]
        change, moved = numerical(step)
        changes[j], moves[j] = change, moved[j]
    slopes = changes / moves
    largest = float(np.max(abs(slopes), initial=0.0))
    for j in np.ndindex(dx.shape):
        allowed = rtol * abs(slopes[j]) + atol * largest + 2 * noise / moves[j]
        yield Comparison(f"{name}{list(j) if j else ''}", float(dx[j]), float(slopes[j]), float(allowed))


def _norm(terms: Array) -> float:
    """sqrt(sum(terms**2)), also where a square would overflow or vanish."""
    largest = float(np.max(abs(terms), initial=0.0))
    return largest * float(np.sqrt(np.sum((terms / largest) ** 2))) if 0 < largest < np.inf else largest


def _per_step(what: str, backward: float, numerical: float, allowed: float, eps: float) -> Comparison:
    """A comparison of changes over a step of 2 * eps, as derivatives."""
    return Comparison(what, backward / (2 * eps), numerical / (2 * eps), allowed / (2 * eps))


def _backward(leaves: list[Tensor], outs: list[Tensor], douts: list[Array]) -> list[Array]:
    """Backward's gradients; zeros where there is no graph, since that is what backward then stands for."""
    recorded = [(out, dout) for out, dout in zip(outs, douts, strict=True) if out.requires_grad]
    if not recorded:
        return [np.zeros(leaf.shape) for leaf in leaves]
    dxs = grad([out for out, _ in recorded], leaves, [dout for _, dout in recorded], allow_unused=True)
    return [np.zeros(leaf.shape) if dx is None else dx.data for leaf, dx in zip(leaves, dxs, strict=True)]


def _is_checked(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, float) or (isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f")


def _outputs(result: Any) -> list[Tensor]:
    outs = list(result) if isinstance(result, (tuple, list)) else [result]
    for out in outs:
        if not isinstance(out, Tensor):
            raise DTypeError("gradcheck: f", f"f returned {describe(out)}", "a Tensor, or several", "return a Tensor")
        if out.dtype != np.float64:
            raise DTypeError(
                "gradcheck: f",
                f"f returned {describe(out)} for float64 inputs",
                "float64 throughout: narrower floats hide the derivative in their rounding",
                "leave astype out of f",
            )
    return outs


def _number(function: str, value: Any) -> float:
    """f's result as a number."""
    array = np.asarray(plain(value))
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{function}: f", f"f returned {describe(value)}", "a number", "end f with return")
    if array.size != 1:
        raise ShapeError(
            f"{function}: f", f"f returned {describe(array)}", "one number", "return np.sum(...) of it, for example"
        )
    return float(array.item())


def _check_step(function: str, h: Any, argument: str = "h") -> None:
    if not isinstance(h, (int, float)) or not 0 < h < np.inf:
        raise ArgumentError(
            f"{function}: {argument}", describe(h), "a positive step", f"pass {argument}=1e-4, for example"
        )


def _check_seen(function: str, what: str, value: Any, h: float) -> None:
    if np.isfinite(value) and (value + h == value or value - h == value):
        raise ArgumentError(
            f"{function}: h",
            f"h = {h} does not change {what} = {value:g} in {value.dtype}, so the difference would be 0",
            "a step that x + h shows",
            f"pass h={float(np.cbrt(np.finfo(value.dtype).eps)) * max(1.0, abs(float(value))):.0e}",
        )


def _check_perturbable(function: str, array: Array) -> None:
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
