"""Every entry of one input against every entry of the result: the small inputs' way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.testing.bench import NEAR, NEGLIGIBLE, RESOLVED, Bench, refereed_bar, unit
from minigrad.testing.line import Slope
from minigrad.testing.numerical import FINE, MAIN, WIDE
from minigrad.testing.report import Finding
from minigrad.testing.suspects import suspect

__all__ = ["Table", "indices"]

Array = NDArray[Any]


class Table:
    """The derivatives of the rows U @ f with respect to every entry of input i, both ways."""

    def __init__(self, of: Bench, i: int, U: Array, rows: list[str], analytic: Array) -> None:
        self.of, self.i, self.U, self.rows, self.A = of, i, U, rows, analytic
        self.x = of.wide[i]
        self.N, self.bar = np.full(analytic.shape, np.nan), np.full(analytic.shape, np.inf)
        self.reach, self.extra = np.zeros(analytic.shape), np.zeros(analytic.shape)
        self.slopes: list[Slope] = []

    def fill(self, slopes: list[Slope]) -> None:
        self.slopes = slopes
        for j in range(len(slopes)):
            self.column(j)

    def column(self, j: int) -> None:
        slope = self.slopes[j]
        value, bar = np.where(slope.bad, 0, slope.value), np.where(slope.bad, 0, slope.bar)
        live = np.abs(self.U).max(axis=0) > 0
        self.N[:, j] = self.U[:, live] @ value[live]
        self.bar[:, j] = np.abs(self.U[:, live]) @ bar[live]
        self.reach[:, j] = np.abs(self.U[:, live]) @ slope.reach[live]
        for k in np.flatnonzero(slope.bad & live):
            mine = self.U[:, k] != 0
            self.N[mine, j], self.bar[mine, j] = slope.value[k], np.inf

    def rough(self, j: int) -> Array:
        """Which rows meet a kink, a jump or an edge in column j."""
        rough: Array = np.abs(self.U[:, self.slopes[j].bad]).sum(axis=1) > 0
        return rough

    def largest(self) -> Array:
        sure = np.where(np.isfinite(self.N) & (self.bar <= RESOLVED * abs(self.N)), abs(self.N), 0)
        largest: Array = sure.max(axis=1, initial=0.0)
        return largest

    def apart(self) -> Array:
        apart: Array = ~(abs(self.A - self.N) <= self.of.allowed(self.A, self.N, self.bar) + self.extra)
        return apart

    def matters(self, largest: Array) -> Array:
        """Where the bar is not far below f's other derivatives and its secants: there a 0 is no plain 0."""
        matters: Array = ~(self.bar <= NEGLIGIBLE * np.maximum(largest[:, None], self.reach))
        return matters

    def unresolved(self, largest: Array) -> Array:
        unresolved: Array = (self.bar > RESOLVED * np.maximum(abs(self.A), abs(self.N))) & self.matters(largest)
        return unresolved

    def coarse(self, largest: Array) -> Array:
        """Where the bar is too wide to see half of the digits of a derivative that matters."""
        coarse: Array = (self.bar > self.of.rtol * abs(self.N)) & self.matters(largest)
        return coarse

    def settle(self, largest: Array) -> None:
        """Looks again, from nearer and from farther, at the columns that the first look leaves open."""
        if self.of.options.eps is not None:
            return
        for j, index in enumerate(indices(self.x)):
            rough = self.rough(j)
            # Nothing changed and the rule says 0: settled below, by whether anything ever changes.
            flat = (self.A[:, j] == 0) & (np.abs(self.U[:, ~self.slopes[j].still]).sum(axis=1) == 0)
            open_ = (self.apart()[:, j] | self.coarse(largest)[:, j]) & ~flat
            if (open_ | rough).any():
                # A kink or jump seen from afar may be a steep or near one; a tail needs long steps.
                size = self.of.spread_of(self.x[index] or self.x)
                ladders: list[Sequence[float]] = [FINE] if rough.any() else []
                if not rough.all():
                    ladders += [WIDE]
                if size <= 0.25 or (size >= 16 and not rough.all()):
                    ladders += [[h * size for h in MAIN]]
                self.slopes[j] = self.of.slope(self.i, unit(self.x, index), [MAIN, *ladders])
                self.column(j)
            flat &= self.unresolved(largest)[:, j]
            if flat.any():
                self.flat(j, index, np.flatnonzero(flat))
            left = (self.apart()[:, j] | self.unresolved(largest)[:, j]) & ~self.rough(j)
            if left.any():
                exact = self.of.refereed(self.i, unit(self.x, index), self.slopes[j])
                if exact is not None and np.isfinite(exact).any():
                    known = np.isfinite(exact)
                    self.slopes[j].value[known] = exact[known]
                    self.slopes[j].bar[known] = refereed_bar(exact, self.slopes[j].reach)[known]
                    self.column(j)

    def flat(self, j: int, index: tuple[int, ...], rows: Array) -> None:
        """Zero both ways: right if f does not depend on this entry at all, or only beyond a kink.

        A saturated f looks the same from nearby. There the first step over which it changes at all, found by
        halving, changes it by roundings; beyond a kink it changes at once by much more.
        """
        of, d = self.of, unit(self.x, index)

        def change(t: float) -> Array:
            arrays = list(of.wide)
            arrays[self.i] = np.asarray(arrays[self.i] + t * d)
            found: Array = abs(of.forward(arrays) - of.f0)
            return np.where(np.isfinite(found), found, 0)

        far = max(1.0, abs(float(self.x[index])))
        steps = [sign * far * 4.0**k for k in range(5) for sign in (1, -1)]
        changes = [change(t) for t in steps]
        saturated = np.zeros(of.f0.size, bool)
        for sign in (0, 1):
            before = 0.0
            for t, found in zip(steps[sign::2], changes[sign::2], strict=True):
                if (found > 0).any():
                    low, high, seen = before, t, found
                    for _ in range(10):
                        middle = (low + high) / 2
                        mine = change(middle)
                        low, high, seen = (low, middle, mine) if (mine > 0).any() else (middle, high, seen)
                    saturated |= (seen > 0) & (seen < 1e-9 * abs(of.f0))
                    break
                before = t
        for k in rows:
            if not saturated[self.U[k] != 0].any():
                self.N[k, j], self.bar[k, j] = 0.0, 0.0

    def findings(self, largest: Array, tables: list[Table]) -> list[Finding]:
        of, name = self.of, self.of.problem.names[self.i]
        wrong = self.apart()
        if wrong.any():
            self.allow_for_roundings(wrong)
            wrong = self.apart()
        allowed = of.allowed(self.A, self.N, self.bar) + self.extra
        unresolved = self.unresolved(largest) | np.isnan(self.N)
        wrong &= ~np.isnan(self.N) | ~np.isfinite(self.A)
        found: list[Finding] = []
        judged = np.ones(self.A.shape, bool)
        for j, index in enumerate(indices(self.x)):
            rough = self.rough(j)
            judged[rough, j] = False
            wrong[rough, j] = False
            for r in range(len(self.rows)):
                where = f"{name}{list(index) if index else ''}"
                if of.f0.size > 1:
                    where += f" -> {self.rows[r]}"
                a, n, bar = float(self.A[r, j]), float(self.N[r, j]), float(self.bar[r, j])
                if rough[r]:
                    k = int(np.flatnonzero((self.U[r] != 0) & self.slopes[j].bad)[0])
                    slope = self.slopes[j]
                    found.append(of.rough(slope, k, where, a, float(slope.low[k]), float(slope.high[k]), n))
                elif wrong[r, j]:
                    found.append(Finding("wrong", where, a, n, bar, float(allowed[r, j])))
                elif unresolved[r, j]:
                    found.append(Finding("inconclusive", where, a, n, bar, float(allowed[r, j]), of.advice()))
                else:
                    near = NEAR if self.slopes[j].near[self.U[r] != 0].any() else ""
                    found.append(Finding("ok", where, a, n, bar, float(allowed[r, j]), near))
        if wrong.any():
            reason = self.exchanged(tables) or self.suspected(wrong, judged)
            found = [replace(f, reason=f.reason or reason) if f.verdict == "wrong" else f for f in found]
            # The worst first: the largest part of what is allowed.
            found.sort(key=_excess)
        return found

    def exchanged(self, tables: list[Table]) -> str:
        for other in tables:
            if other is not self and other.x.shape == self.x.shape:
                apart = ~(abs(self.A - other.N) <= self.of.allowed(self.A, other.N, other.bar))
                back = ~(abs(other.A - self.N) <= self.of.allowed(other.A, self.N, self.bar))
                if not apart.any() and not back.any() and np.any(self.A):
                    return f"it is the gradient of {self.of.problem.names[other.i]}: the two are exchanged"
        return ""

    def suspected(self, wrong: Array, judged: Array) -> str:
        if not np.isfinite(self.A[wrong]).all():
            return "the gradient is not finite"
        sure = judged & (self.bar <= 0.01 * np.maximum(abs(self.N), abs(self.A)))
        whole = (len(self.rows), *self.x.shape)
        if judged.all():
            known = np.where(np.isfinite(self.N), self.N, 0)
            for axes in _turns(self.x.shape):
                turned = np.transpose(self.A.reshape(whole), (0, *(1 + a for a in axes))).reshape(self.A.shape)
                if np.all(abs(turned - known) <= self.of.allowed(turned, known, self.bar)):
                    return "it is transposed" if len(axes) == 2 else f"its axes stand in the order {axes}"
            named = self.suspected_jacobian(wrong, known)
            if named:
                return named
        live = judged & ((self.A != 0) | (abs(self.N) > self.bar))  # most of a Jacobian is 0, and says little
        return suspect(self.A[sure], self.N[sure], self.of.sizes(), wrong=int(wrong.sum()), of=int(live.sum()))

    def suspected_jacobian(self, wrong: Array, known: Array) -> str:
        """The mistake, where it shows in the whole Jacobian and not in single entries."""
        n = len(self.rows)
        if n == self.A.shape[1] == self.of.f0.size:
            if np.all(abs(self.A.T - known) <= self.of.allowed(self.A.T, known, self.bar)):
                return "the Jacobian is transposed: a matrix in the rule lacks its .T, or has one too many"
            aside = ~np.eye(n, dtype=bool)
            if np.any(self.A) and not np.any(self.A[aside]) and np.any(wrong[aside]):
                return "f mixes its entries, and the rule treats it as elementwise"
        off = np.where(wrong, self.A - known, 0).reshape(n, *self.x.shape)
        for axis in range(1, off.ndim):
            same = np.ptp(off, axis=axis) <= 1e-3 * np.max(abs(off))
            if off.shape[axis] > 1 and np.all(same) and np.ptp(off) > 0:
                return f"what is off is the same along axis {axis - 1}: a sum or mean over it is missing or too many"
        return ""

    def allow_for_roundings(self, wrong: Array) -> None:
        for r in np.flatnonzero(wrong.any(axis=1)):
            dx = self.A[r].reshape(self.x.shape)
            self.extra[r] = self.of.wobble(self.i, None, self.U[r], dx).ravel()


def _excess(finding: Finding) -> float:
    """How far a finding is from what is allowed, as a key that puts the worst first, and like ones in their order."""
    ratio = abs(finding.analytic - finding.numeric) / finding.allowed
    if finding.verdict != "wrong" or ratio == 0:
        return math.inf
    return -round(math.log2(ratio), 1) if ratio < math.inf else -math.inf


def indices(x: Array) -> list[tuple[int, ...]]:
    """The indices of x's entries in their order."""
    return list(np.ndindex(x.shape))


def _turns(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The orders of axes, but for their own, that leave an array of this shape in its shape."""
    own = tuple(range(len(shape)))
    turns = itertools.permutations(own) if len(shape) < 5 else ()
    return [axes for axes in turns if axes != own and tuple(shape[a] for a in axes) == shape]
