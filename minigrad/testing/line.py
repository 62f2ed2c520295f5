"""A function along a line, looked at from many distances: its slope, kinks, jumps, edges and flat stretches.

Everything is done for all entries of the result at once, each judged by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.testing.numerical import ROUNDINGS, extrapolate

__all__ = ["Slope", "look"]

Array = NDArray[Any]

# A gap between the one-sided slopes at h goes like h**p: 1 where f is smooth, 0 at a kink, -1/2 at a cusp, -1 at
# a jump, less where a step leads across a pole. Halved: ratio 1/2, 1, sqrt 2, 2.
_SMOOTH, _CUSP, _JUMP, _POLE = 0.5, -0.25, -0.75, -1.25
# Gaps below this part of the steepest secant are taken for roundings, and added to the bar.
_SLIGHT = 1e-5
# A slope with a bar below this part of it is sharp: neither of its two sides is far from it.
_SHARP = 1e-3


@dataclass
class Slope:
    """What is known of each entry's derivative along a line; arrays of the size of f's result.

    value, bar: the derivative and how far it may be off; nan and inf where there is none.
    kink: the one-sided slopes `low` and `high` differ however near one looks; at a cusp they are infinite.
    jump: f itself differs on the two sides. outside: f is not finite on a side, however near.
    still: f did not change by a single bit over any step.
    reach: the steepest secant over the first ladder: what is far below it is 0 beside it.
    near: a kink or jump lies within the longer steps, which were left out.
    convex: at a kink, whether the slope grows there.
    """

    value: Array
    bar: Array
    kink: Array
    low: Array
    high: Array
    jump: Array
    outside: Array
    still: Array
    reach: Array
    near: Array
    convex: Array

    @property
    def bad(self) -> Array:
        """Where there is no derivative."""
        bad: Array = self.kink | self.jump | self.outside
        return bad


def look(
    at: Callable[[float], Array], f0: Array, noise: Array, eps: float, ladders: Iterable[Sequence[float]]
) -> Slope:
    """The slope of `at`, a function of the step, at 0, from the ladders of steps, the nearest one deciding.

    at: f at a signed step along the line. f0: at(0). noise: what f's entries vary by when nothing but roundings
    of the inputs changes. eps: the machine epsilon of f's results.
    """
    slope: Slope | None = None
    for ladder in ladders:
        new = _one_ladder(at, f0, noise, eps, ladder)
        slope = new if slope is None else _merged(slope, new)
    assert slope is not None
    return slope


def _merged(a: Slope, b: Slope) -> Slope:
    """Of two looks the surer one for each entry; b is the later one, with steps that a did not try."""
    # A kink seen from afar is none if a nearer look finds a slope there; and the slope seen from afar is then wrong.
    # A jump shows at any step that moves x: only where the nearer slope is a sharp one was it a steep stretch.
    sure = np.isfinite(b.bar) & (~a.jump | (b.bar <= _SHARP * np.maximum(abs(b.value), a.reach)))
    # So is a kink only where the nearer slope tells its two sides apart.
    sure &= ~a.kink | ~(b.bar > 0.1 * (a.high - a.low))
    gone: Array = np.asarray((a.kink | a.jump) & ~b.bad & sure)
    take = gone | (~a.bad & ~b.bad & (b.bar < a.bar)) | (a.outside & ~b.outside) | (~a.bad & (b.kink | b.jump))

    def pick(x: Array, y: Array) -> Array:
        return np.where(take, y, x)

    fields = {name: pick(getattr(a, name), getattr(b, name)) for name in Slope.__dataclass_fields__}
    fields["still"], fields["reach"] = a.still & b.still, a.reach
    fields["near"] = a.near | gone
    return Slope(**fields)


def _steady(up: Array, down: Array, f0: Array, k: int) -> Array:
    """Whether both sides are about where they were for the two longer steps, as at a jump; roundings are not."""
    allowed = 0.25 * (abs(up[k] - f0) + abs(down[k] - f0))
    steady = np.ones(f0.size, bool)
    for j in range(max(k - 2, 0), k):
        steady &= (abs(up[k] - up[j]) <= allowed) & (abs(down[k] - down[j]) <= allowed)
    return steady


@np.errstate(all="ignore")
def _one_ladder(at: Callable[[float], Array], f0: Array, noise: Array, eps: float, ladder: Sequence[float]) -> Slope:
    n = len(ladder)
    up, down = np.empty((n, f0.size)), np.empty((n, f0.size))
    for k, step in enumerate(ladder):
        up[k], down[k] = at(step), at(-step)
    h = np.asarray(ladder)[:, None]
    finite = np.isfinite(up) & np.isfinite(down)
    central = (up - down) / (2 * h)
    # Of the largest values too: where f passes through 0 it was made of larger ones.
    size = np.where(finite, np.maximum(np.maximum(abs(up), abs(down)), abs(f0)), 0)
    size = np.maximum(size, 0.01 * size.max(axis=0))
    rounding = (ROUNDINGS * eps * size + noise) / h
    right, left = (up - f0) / h, (f0 - down) / h
    gap = np.where(finite, abs(right - left), np.nan)

    secants = np.where(finite, np.maximum(abs(right), abs(left)), 0)
    steepest = secants.max(axis=0)

    kink, jump = np.zeros(f0.size, bool), np.zeros(f0.size, bool)
    low, high = np.full(f0.size, np.nan), np.full(f0.size, np.nan)
    first = np.zeros(f0.size, int)  # levels before this one saw something that is not there from nearby
    convex = np.zeros(f0.size, bool)
    decided, doubt = np.zeros(f0.size, bool), np.zeros(f0.size)
    for k in range(n - 1, 0, -1):
        # What the longer step saw would show at this one too, above the roundings, were it a kink.
        able = (gap[k - 1] > 8 * rounding[k]) & np.isfinite(gap[k])
        power = np.log(np.maximum(gap[k], rounding[k] / 8) / gap[k - 1]) / np.log(ladder[k] / ladder[k - 1])
        rough = able & (power < _SMOOTH)
        first = np.where(rough & (first == 0), k + 1, first)
        news = able & ~decided
        decided |= able
        jump |= news & (power < _JUMP) & (power > _POLE)
        sharp = news & rough & ~(power < _JUMP)
        # Where roundings are larger than they were taken for, they too look like a small kink or jump.
        slight = news & rough & ~(gap[k] > _SLIGHT * steepest)
        noisy = jump & news & ~_steady(up, down, f0, k)
        slight |= noisy
        first = np.where(noisy, 0, first)
        doubt = np.where(slight, gap[k], doubt)
        jump &= ~slight
        sharp &= ~slight
        kink |= sharp
        convex |= sharp & (right[k] > left[k])
        infinite = sharp & (power < _CUSP)
        drift = abs(gap[k] - gap[k - 1]) + 4 * rounding[k]
        low = np.where(sharp, np.where(infinite, -np.inf, np.minimum(left[k], right[k]) - drift), low)
        high = np.where(sharp, np.where(infinite, np.inf, np.maximum(left[k], right[k]) + drift), high)
    used = finite & ((np.arange(n)[:, None] >= first) | kink | jump)
    value, bar = extrapolate(list(np.where(used, central, np.nan)), list(ladder), list(rounding / 2))
    bar = bar + doubt
    alone = np.isinf(bar) & used.any(axis=0)  # a single level left: nothing to compare it with
    last = np.where(used, np.arange(n)[:, None], -1).max(axis=0)
    value = np.where(alone, np.take_along_axis(central, np.maximum(last, 0)[None], 0)[0], value)
    outside = ~finite.any(axis=0) | ~np.isfinite(f0)
    still: Any = np.where(finite, (up == f0) & (down == f0), True).all(axis=0)
    return Slope(value, bar, kink & ~outside, low, high, jump & ~outside, outside, still, steepest, first > 0, convex)
