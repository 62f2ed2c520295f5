"""f and its rule on the bench: evaluated and watched, at the inputs and along lines through them.

Nothing is compared here. What is noticed on the way, such as a write into an input, goes to `findings` at once.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import DTypeError, GradientError, InPlaceError, MinigradError, ShapeError, describe
from minigrad.testing.frozen import Frozen
from minigrad.testing.line import Slope, look
from minigrad.testing.numerical import MAIN, Analytic
from minigrad.testing.problem import Options, Problem
from minigrad.testing.report import Finding

__all__ = ["NEAR", "NEGLIGIBLE", "RESOLVED", "Bench", "Stop", "cast", "refereed_bar", "same", "total", "unit"]

Array = NDArray[Any]

NEAR = "a kink lies within the longer steps, which were left out"

# How often that is tried out: a cancellation may come out even once or twice.
_NOISES = 6
# Steps that no stair divides evenly.
_UNEVEN = (1.0, 1.7, 2.9, 4.3, 6.1, 7.7)
# A derivative is resolved if the bar is below this part of it...
RESOLVED = 0.1
# ...or, being nearly 0, below this part of the largest derivative of the same entry of the result.
NEGLIGIBLE = 1e-6
# A referee computes with numbers of Python, some 1000 times slower: no more values than this.
_PRECISE = 256


class Stop(Exception):
    """A finding after which there is nothing left to compare."""


class Bench:
    """A problem, evaluated for float64 differences and for its rule in its own dtypes.

    f0: f's results at the inputs, in one row. noise: what they vary by for the last digits of the inputs.
    findings: what was noticed so far. calls: how often f was evaluated.
    """

    f0: Array
    noise: Array

    def __init__(self, problem: Problem, options: Options, frozen: Frozen) -> None:
        self.problem, self.options, self.frozen = problem, options, frozen
        self.rng = np.random.default_rng(options.seed)
        self.findings: list[Finding] = []
        self.calls = 0
        self.writes = False
        self.draws = True  # until f has shown that it draws no random numbers
        self.wide = [x.astype(np.float64) for x in problem.inputs]
        self.shapes: list[tuple[int, ...]] = []
        self.eps = float(np.finfo(np.float64).eps)
        self.ladder = MAIN if options.eps is None else (4 * options.eps, 2 * options.eps, options.eps)
        self.narrow = max((float(np.finfo(x.dtype).eps) for x in problem.inputs), default=self.eps)
        # Half of the digits: far above what a stable rule loses, far below what a mistake changes.
        self.rtol = math.sqrt(self.narrow) if options.rtol is None else options.rtol
        self.complex_works: bool | None = None

    def forward(self, arrays: list[Array], *, first: bool = False) -> Array:
        """f's results in one row of float64; nan where a perturbed input is none that f can take."""
        if self.draws:
            self.frozen.reset()
        self.calls += 1
        # Two calls show whether f writes into its inputs; copies of a million parameters cost more than f.
        copies = [x.copy() for x in arrays] if self.calls <= 2 or self.writes else arrays
        try:
            outs = self.problem.forward(copies)
        except Exception as error:
            if first:
                error.add_note(
                    f"raised by f, which {self.problem.title} called with {', '.join(map(describe, arrays))}"
                )
            if first or isinstance(error, MinigradError) or not isinstance(error, (ArithmeticError, ValueError)):
                raise
            return np.full(self.f0.size, np.nan)
        if any(not same(x, c) for x, c in zip(arrays, copies, strict=True)):
            self.writes = True
            self.aliasing("f", "f wrote into its input: work on a copy, x = x.copy()")
        shapes = [out.shape for out in outs]
        if first and not shapes:
            raise DTypeError(
                f"{self.problem.title}: f", "f returned an empty sequence", "one result or more", "end f with return"
            )
        if first:
            self.shapes = shapes
            eps = [float(np.finfo(out.dtype).eps) for out in outs if out.dtype.kind == "f"]
            self.eps = max([self.eps, *eps])
        elif shapes != self.shapes:
            raise ShapeError(
                f"{self.problem.title}: f",
                f"f returned results of shape {', '.join(map(str, shapes))} this time, "
                f"and {', '.join(map(str, self.shapes))} the first time",
                "results of one shape, whatever the values of the inputs",
                "make the shape independent of the values",
            )
        return np.concatenate([np.ravel(out).astype(np.float64) for out in outs]) if outs else np.empty(0)

    def pull(self, u: Array, arrays: list[Array] | None = None) -> list[Array]:
        """The rule's gradients for the cotangent u, a row as long as the results, in float64."""
        if self.draws:
            self.frozen.reset()
        inputs = self.problem.inputs if arrays is None else arrays
        copies = [x.copy() for x in inputs]
        douts = self.split(u)
        given = [dout.copy() for dout in douts]
        try:
            outs, grads = self.problem.pull(copies, douts)
        except InPlaceError as error:
            self.aliasing("backward", str(error))
            raise Stop from error
        except GradientError as error:
            self.findings.append(Finding("wrong", "backward", reason=str(error)))
            raise Stop from error
        if arrays is None:
            self.compare_values(outs)
        if any(not same(x, c) for x, c in zip(inputs, copies, strict=True)):
            self.aliasing("backward", "the rule wrote into an input of f: work on a copy of it")
        if any(not same(x.astype(c.dtype), c) for x, c in zip(given, douts, strict=True)):
            self.aliasing(
                "backward", "the rule wrote into dout, the gradient that came in: write dx = dout.copy() first"
            )
        for name, x, g in zip(self.problem.names, inputs, grads, strict=True):
            if g.shape != x.shape:
                reason = f"the gradient has shape {g.shape}, and {name} {x.shape}{_reshaped(g.shape, x.shape)}"
                self.add_once(Finding("wrong", name, reason=reason))
                raise Stop
            if g.dtype != x.dtype:
                reason = f"the gradient of {name} is {g.dtype}, and {name} is {x.dtype}"
                if self.options.rtol is None and g.dtype.kind == "f":  # right as far as its dtype goes
                    self.rtol = max(self.rtol, math.sqrt(float(np.finfo(g.dtype).eps)))
                self.add_once(Finding("dtype", name, reason=reason))
        return [g.astype(np.float64) for g in grads]

    def compare_values(self, outs: list[Array]) -> None:
        """What is differentiated is what f computes otherwise, but for the roundings of narrow inputs."""
        if self.narrow > self.eps:
            return
        row = np.concatenate([np.ravel(out).astype(np.float64) for out in outs]) if outs else np.empty(0)
        if row.shape == self.f0.shape and not np.allclose(row, self.f0, rtol=self.rtol, atol=0, equal_nan=True):
            k = int(np.argmax(abs(row - self.f0)))
            reason = f"differentiated, f has another value: {row[k]:.6g}, not {self.f0[k]:.6g}"
            self.add_once(Finding("wrong", self.result_names()[k], reason=reason))

    def split(self, u: Array) -> list[Array]:
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        return [part.reshape(shape).copy() for part, shape in zip(np.split(u, ends), self.shapes, strict=True)]

    def result_names(self) -> list[str]:
        names = []
        for k, shape in enumerate(self.shapes):
            head = "f" if len(self.shapes) == 1 else f"f[{k}]"
            names += [f"{head}{list(index) if index else ''}" for index in np.ndindex(shape)]
        return names

    def aliasing(self, where: str, reason: str) -> None:
        self.add_once(Finding("aliasing", where, reason=reason))

    def found(self, *verdicts: str) -> bool:
        return any(f.verdict in verdicts for f in self.findings)

    def add_once(self, finding: Finding) -> None:
        if not any(f.verdict == finding.verdict and f.reason == finding.reason for f in self.findings):
            self.findings.append(finding)

    def compare_runs(self, where: str, a: Array, b: Array, reason: str = "") -> None:
        """A nondeterministic finding, unless both rows have the same bits or are as near as the caller allows."""
        if same(a, b):
            return
        worst = float(np.nanmax(abs(a - b), initial=0.0))
        if not worst <= self.options.nondet_tol:
            found = f"called twice with the same arguments and random state, {where} gave results {worst:.1g} apart"
            self.add_once(Finding("nondeterministic", where, reason=f"{found}{reason}"))

    def measured_noise(self) -> Array:
        """What each entry of the result varies by for no other reason than roundings.

        Seen where every input moves by a few units in the last place; and over somewhat longer steps, where an f
        that is made of coarser numbers, such as log(1 + s) for a small s, goes in stairs beside a straight line.
        """
        noise = np.zeros(self.f0.size)
        most = 1 + float(np.max(abs(self.f0), initial=0.0, where=np.isfinite(self.f0)))
        for _ in range(_NOISES):
            signs = [self.rng.choice([-1, 1], x.shape) for x in self.wide]
            near = abs(self.moved(signs, 4 * float(np.finfo(float).eps)) - self.f0)
            noise = np.maximum(noise, np.where(near <= 1e-6 * most, near, 0))
        signs = [self.rng.choice([-1, 1], x.shape) for x in self.wide]
        steps = np.array([sign * t * 2.0**-28 for t in _UNEVEN for sign in (1, -1)])
        rise = np.array([self.moved(signs, step) - self.f0 for step in steps])
        stairs = abs(rise - np.outer(steps, steps @ rise / (steps @ steps))).max(axis=0)
        # More than that is a kink, or curvature.
        return np.maximum(noise, np.where(stairs <= 64 * self.eps * most, stairs, 0))

    def moved(self, signs: list[Array], part: float) -> Array:
        """f with every entry of the inputs moved by a part of it, up or down."""
        return self.forward([np.asarray(x * (1 + part * sign)) for x, sign in zip(self.wide, signs, strict=True)])

    def cotangent(self, *, weighted: bool = False) -> Array:
        """A drawn cotangent, of short numbers away from 0; weighted: so that small results count as much as large."""
        n = self.f0.size
        u = self.rng.integers(32, 96, n) / 64 * self.rng.choice([-1.0, 1.0], n)
        if weighted:
            size = abs(np.where(np.isfinite(self.f0), self.f0, 0))
            largest = float(size.max(initial=0.0))
            if largest > 0:
                # No weight that overflows in a narrow dtype.
                least = 1 / math.sqrt(min(float(np.finfo(x.dtype).max) for x in self.problem.inputs))
                u = u * np.exp2(np.round(np.log2(largest / np.clip(size, largest * max(1e-30, least), None))))
        return np.where(np.isfinite(self.f0), u, 0)

    def drawn_direction(self, i: int) -> Array:
        """A direction of short numbers, about as long as input i."""
        x = self.wide[i]
        return np.asarray(self.spread_of(x) * self.rng.integers(-128, 129, x.shape) / 64)

    @staticmethod
    def spread_of(x: Array) -> float:
        """A power of two near the size of x's entries: the length of a step that is long for x."""
        largest = float(np.max(abs(x.astype(float)), initial=0.0))  # divided by: squares of 1e-200 are 0
        size = largest * float(np.sqrt(np.mean(np.square(x.astype(float) / largest)))) if largest > 0 else 0.0
        return 2.0 ** round(math.log2(size)) if 0 < size < math.inf else 1.0

    def slope(self, i: int, d: Array, ladders: Sequence[Sequence[float]]) -> Slope:
        """The slope of all results along d, a direction of input i."""
        return self.slope_along({i: d}, ladders)

    def slope_along(self, directions: dict[int, Array], ladders: Sequence[Sequence[float]]) -> Slope:
        """The same along directions of several inputs at once."""

        def at(t: float) -> Array:
            arrays = list(self.wide)
            for i, d in directions.items():
                arrays[i] = np.asarray(arrays[i] + t * d)
            return self.forward(arrays)

        return look(at, self.f0, self.noise, self.eps, ladders)

    def allowed(self, a: Any, n: Any, bar: Any) -> Any:
        """How far a and n may be apart: what both lose, twice the bar, and what is below the smallest number."""
        least = max(float(np.finfo(x.dtype).smallest_subnormal) for x in self.problem.inputs)
        return 2 * bar + self.rtol * np.maximum(abs(a), abs(n)) + 4 * least + (self.options.atol or 0.0)

    def wobble(self, i: int, d: Array | None, u: Array, dx: Array) -> Any:
        """What the rule's own roundings do: how much its gradient varies with the last digits of inputs and dout."""
        most = 0.0 if d is not None else np.zeros(dx.shape)
        for _ in range(3):
            arrays = [
                cast(x.astype(float) * (1 + 2 * np.finfo(x.dtype).eps * self.rng.choice([-1, 1], x.shape)), x.dtype)
                for x in self.problem.inputs
            ]
            near = self.pull(u * (1 + 2 * self.narrow * self.rng.choice([-1, 1], u.shape)), arrays)[i] - dx
            most = np.maximum(most, abs(total(near * d)) if d is not None else abs(near))
        return 4 * most

    def rough(
        self, slope: Slope, k: int, where: str, analytic: float, low: float, high: float, numeric: float
    ) -> Finding:
        """The finding at a kink, a jump or an edge."""
        if slope.outside[k]:
            reason = "f is not finite beside this input; move it inside the domain, further from the edge"
            return Finding("domain", where, analytic, numeric, math.inf, math.inf, reason)
        if slope.jump[k]:
            return Finding("discontinuous", where, analytic, numeric, math.inf, math.inf)
        slack = self.rtol * max(abs(analytic), abs(low), abs(high)) if math.isfinite(low) else 0.0
        most = max(abs(low), abs(high))
        shown = [0.0 if abs(v) < 1e-6 * most else v for v in (low, high)]
        slopes = "the slopes on the two sides are {:.4g} and {:.4g}".format(*shown)
        if low - slack <= analytic <= high + slack:
            return Finding("kink", where, analytic, numeric, (high - low) / 2, high - low, f"{slopes}")
        reason = f"f has a kink here: {slopes}, and {analytic:.6g} is not between them"
        return Finding("wrong", where, analytic, numeric, (high - low) / 2, high - low, reason)

    def refereed(self, i: int, d: Array, slope: Slope) -> Array | None:
        """The derivative along d by the complex step, or by the high-precision referee; None where neither can tell.

        slope: the one by differences. Where the complex step lies outside its bar, f is not what it seems.
        """
        directions = [np.zeros(x.shape) for x in self.wide]
        directions[i] = d
        if self.complex_works is not False:
            value = self.complex_step(directions)
            if value is not None:
                apart = abs(value - slope.value) > 2 * slope.bar + self.rtol * abs(value)
                if not np.any(apart & ~slope.bad):
                    return value
                self.complex_works = False
        if sum(x.size for x in self.wide) + self.f0.size > _PRECISE:
            return None
        try:
            return self.problem.exact([x.copy() for x in self.wide], directions)
        except Exception:  # f need not know the referee's numbers either
            return None

    def complex_step(self, directions: list[Array]) -> Array | None:
        step = 2.0**-100
        arrays: list[Array] = [
            np.asarray(x + 1j * step * d).view(Analytic) for x, d in zip(self.wide, directions, strict=True)
        ]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)  # float(z) drops the derivative
                outs = self.problem.imaginary(arrays)
        except Exception:  # f need not know complex numbers, and may say so as it likes
            outs = None
        if outs is None or any(out.dtype.kind != "c" for out in outs):
            self.complex_works = False
            return None
        row = np.concatenate([np.ravel(out) for out in outs])
        # An f that takes abs or compares is not what it was: believed only where it still computes f.
        if row.shape != self.f0.shape or not np.allclose(row.real, self.f0, rtol=1e-12, atol=0, equal_nan=True):
            self.complex_works = False
            return None
        value: Array = row.imag / step
        return value

    def advice(self) -> str:
        size = float(np.nanmax(abs(self.f0), initial=0.0))
        return (
            f"f is about {size:.2g}, and its roundings hide a derivative this small; "
            "check inputs where f changes more, or give f to check_fused with a referee"
        )

    def sizes(self) -> set[int]:
        """Lengths by which a gradient may have been divided or not: of axes, of some of them together, of arrays."""
        shapes = [*self.shapes, *(x.shape for x in self.problem.inputs)]
        parts = [part for s in shapes for k in range(1, min(len(s), 4) + 1) for part in itertools.combinations(s, k)]
        return {n for part in parts for n in (math.prod(part),) if n > 1}


def refereed_bar(value: Array, reach: Array) -> Array:
    """How far a refereed derivative may be off: by its last digit, and by steps of 1e-25 where f has steep secants."""
    bar: Array = 1e-15 * abs(value) + 1e-20 * reach
    return bar


def unit(x: Array, index: Any) -> Array:
    """The direction that moves one entry of x."""
    d = np.zeros(x.shape)
    d[index] = 1.0
    return d


def _reshaped(got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if got == wanted[::-1]:
        return ": it is transposed"
    try:
        if np.broadcast_shapes(got, wanted) == got:
            return ": it is not summed over the axes that were broadcast"
    except ValueError:
        pass
    return ""


def total(x: Array) -> float:
    """The sum of x, without roundings where that is cheap."""
    return math.fsum(x.ravel()) if x.size <= 4096 and np.isfinite(x).all() else float(np.sum(x))


def cast(x: Any, dtype: Any) -> Array:
    """x as an array of this dtype, of its own."""
    return np.asarray(x).astype(dtype)


def same(a: Array, b: Array) -> bool:
    """Whether two arrays have the same bits."""
    if a is b:
        return True
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return (
        bool(np.array_equal(a, b)) and bool(np.array_equal(np.signbit(a), np.signbit(b)))
    ) or a.tobytes() == b.tobytes()
