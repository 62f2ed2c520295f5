"""The comparison behind every check: a rule against differences, one verdict for each entry or direction.

`examine` takes every problem, of whatever origin, through the same stages: does it repeat itself, does it leave what is
not its own alone, then every entry of small inputs and drawn directions through large ones, a second, closer look
wherever the first does not settle it, and a look at inputs nearby.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.testing.bench import NEAR, NEGLIGIBLE, RESOLVED, Bench, Stop, cast, refereed_bar, same, total, unit
from minigrad.testing.entries import Table, indices
from minigrad.testing.frozen import Frozen
from minigrad.testing.line import Slope
from minigrad.testing.numerical import FINE, MAIN
from minigrad.testing.problem import Options, Problem
from minigrad.testing.report import Finding
from minigrad.testing.suspects import suspect

__all__ = ["examine"]

Array = NDArray[Any]

# Inputs of more values than this are checked along directions, PyTorch's fast mode.
SMALL = 64
# Single coordinates that join the directions through a large input.
_COORDINATES = 8


def examine(problem: Problem, options: Options) -> tuple[list[Finding], int]:
    """Every finding about problem, and how often its f was evaluated. The caller's random state is as before."""
    with Frozen([*problem.roots], options.seed) as frozen, np.errstate(all="ignore"):
        examination = Examination(problem, options, frozen)
        with suppress(Stop):
            examination.run()
        return examination.findings, examination.calls


class Examination(Bench):
    def run(self) -> None:
        for name, x in zip(self.problem.names, self.wide, strict=True):
            if not np.isfinite(x).all():
                at = np.argwhere(~np.isfinite(x))[0]
                where = f"{name}{[int(v) for v in at] if x.ndim else ''}"
                reason = f"the input is {x[tuple(at)]} there, where no f has a derivative; check finite inputs"
                self.findings.append(Finding("domain", where, reason=reason))
        if self.findings:
            return
        self.f0 = self.forward(self.wide, first=True)
        again = self.forward(self.wide)
        self.compare_runs("f", self.f0, again)
        if self.findings and self.findings[-1].verdict == "nondeterministic":
            return  # no difference of two such values says anything
        self.draws = self.frozen.used()
        if not np.isfinite(self.f0).any() and self.f0.size:
            self.findings.append(Finding("domain", "f", reason="f is not finite at the inputs themselves"))
            return
        self.noise = self.measured_noise()
        u = self.cotangent()
        g = self.pull(u)
        self.draws = self.draws or self.frozen.used()
        self.repeats(u, g)
        checked = [i for i in range(len(self.wide)) if self.problem.inputs[i].size]
        small = [i for i in checked if self.is_small(i)]
        if small and self.f0.size:
            self.by_entry(small, u, g)
        for i in checked:
            if i not in small and self.f0.size:
                self.by_direction(i)
        if self.f0.size and not self.found("wrong", "aliasing", "nondeterministic"):
            self.elsewhere(checked)
        if not self.findings:
            self.findings.append(Finding("vacuous", "f", reason="there is no entry to compare: an array is empty"))

    def is_small(self, i: int) -> bool:
        if self.options.fast_mode is not None:
            return not self.options.fast_mode
        return self.problem.inputs[i].size <= SMALL

    def repeats(self, u: Array, g: list[Array]) -> None:
        """Backward again: the same bits; with another input in between, still; and for 2 * dout twice as much."""
        second = self.pull(u)
        for name, a, b in zip(self.problem.names, g, second, strict=True):
            self.compare_runs(f"backward of {name}", a, b)
        moved = [cast(x + self.spread_of(x) * self.rng.standard_normal(x.shape), x.dtype) for x in self.problem.inputs]
        try:
            self.pull(u, moved)
        except (ArithmeticError, ValueError, IndexError):
            return  # not an input that f can take
        third = self.pull(u)
        for name, a, b in zip(self.problem.names, g, third, strict=True):
            reason = ", after a call with other inputs: state is shared between calls"
            self.compare_runs(f"backward of {name}", a, b, reason)
        if not self.f0.size:
            return
        tiny = max(
            (float(np.finfo(x.dtype).tiny) for x in self.problem.inputs), default=0.0
        )  # below it digits are lost
        for name, a, b in zip(self.problem.names, g, self.pull(2 * u), strict=True):
            if np.isfinite(a).all() and not np.allclose(b, 2 * a, rtol=4 * self.rtol, atol=tiny):
                ignored = same(a, b) and np.any(a)
                reason = (
                    "dout is ignored: the gradient is the same for 2 * dout" if ignored else "it is not linear in dout"
                )
                self.add_once(Finding("wrong", f"backward of {name}", reason=reason))

    def by_entry(self, small: list[int], u: Array, g: list[Array]) -> None:
        """Every entry of the small inputs against every entry of the result, or drawn sums of a large result."""
        m = self.f0.size
        if m <= SMALL:
            U, rows = np.eye(m), self.result_names()
        else:
            U = np.stack([self.cotangent(weighted=k == 2) for k in range(3)])
            rows = [f"a drawn sum {k} of f" for k in range(3)]
        slopes = {
            (i, j): self.slope(i, unit(self.wide[i], j), [self.ladder]) for i in small for j in indices(self.wide[i])
        }
        if m > SMALL:  # results with a kink are looked at by themselves
            rough = np.flatnonzero(np.any([s.bad for s in slopes.values()], axis=0))
            U[:, rough] = 0
            U = np.concatenate([U, np.eye(m)[rough[:SMALL]]])
            rows += [self.result_names()[k] for k in rough[:SMALL]]
        pulled = [self.pull(row) for row in U]
        if 1 < m <= SMALL and np.isfinite(self.f0).all() and not self.found("wrong", "nondeterministic"):
            self.check_sums(small, u, g, [[p[i] for p in pulled] for i in range(len(self.wide))])
        tables = [Table(self, i, U, rows, np.stack([p[i].ravel() for p in pulled])) for i in small]
        for table in tables:
            table.fill([slopes[table.i, j] for j in indices(self.wide[table.i])])
        largest = np.max([t.largest() for t in tables], axis=0)  # of each row
        for table in tables:
            table.settle(largest)
        for table in tables:
            self.findings += table.findings(largest, tables)
        self.together(tables)

    def together(self, tables: list[Table]) -> None:
        """Entries with a kink of one result, moved at once: each slope may be possible, and their sum not.

        Where all these kinks are convex, or none is, any gradient that lies between the slopes of the entries lies
        between those of their sum: shared among ties it does, given to each of them in full it does not.
        """
        for r, row in enumerate(tables[0].U):
            k = int(np.argmax(row != 0))
            if np.count_nonzero(row) != 1:
                continue
            kinks = [(t, j) for t in tables for j, s in enumerate(t.slopes) if s.kink[k] and not s.jump[k]]
            if len(kinks) < 2 or len({bool(t.slopes[j].convex[k]) for t, j in kinks}) > 1:
                continue
            directions = {t.i: np.zeros(t.x.shape) for t, _ in kinks}
            for t, j in kinks:
                directions[t.i].flat[j] = 1.0
            slope = self.slope_along(directions, [self.ladder, FINE])
            analytic, scale = sum(float(t.A[r, j]) for t, j in kinks), float(row[k])
            where = ", ".join(f"{self.problem.names[t.i]}{_at(t.x, j)}" for t, j in kinks[:3])
            where += f" and {len(kinks) - 3} more" * (len(kinks) > 3) + f" together -> {tables[0].rows[r]}"
            low, high = slope.value[k] - slope.bar[k], slope.value[k] + slope.bar[k]
            if slope.kink[k]:
                low, high = slope.low[k], slope.high[k]
            low, high = sorted((low * scale, high * scale))
            # The sum may cancel, and is no better than its terms.
            slack = self.allowed(sum(abs(float(t.A[r, j])) for t, j in kinks), low, 0.0)
            if not slope.jump[k] and not slope.outside[k] and not low - slack <= analytic <= high + slack:
                what = (
                    f"moved together these entries get {analytic:.6g}, and f has the slope {(low + high) / 2:.6g}: "
                    "give the gradient to one of them, or share it"
                )
                self.findings.append(
                    Finding("wrong", where, analytic, (low + high) / 2, (high - low) / 2, (high - low) + slack, what)
                )

    def check_sums(self, small: list[int], u: Array, g: list[Array], parts: list[list[Array]]) -> None:
        """The gradient of a sum of results is the sum of their gradients: a rule that ignores dout fails here."""
        for i in small:
            total = sum((w * part for w, part in zip(u, parts[i], strict=True)), np.zeros(self.wide[i].shape))
            size = sum((abs(w * part) for w, part in zip(u, parts[i], strict=True)), np.zeros(self.wide[i].shape))
            if not np.all(abs(total - g[i]) <= 4 * self.rtol * size + 1e-300) and np.isfinite(total).all():
                name = self.problem.names[i]
                reason = "the gradient of a weighted sum of results is not the sum of their gradients: is dout used?"
                self.add_once(Finding("wrong", f"backward of {name}", reason=reason))

    def by_direction(self, i: int) -> None:
        x, name = self.wide[i], self.problem.names[i]
        for k in range(self.options.directions):
            d = self.drawn_direction(i)
            finding = self.compare(i, d, f"{name} in random direction {k}", weighted=k % 2 == 1)
            if finding.verdict == "wrong":
                finding = self.narrowed(i, d, finding)
            self.findings.append(finding)
            if finding.verdict == "wrong":
                return
        for j in self.coordinates(i):
            index = [int(v) for v in np.unravel_index(j, x.shape)]
            self.findings.append(self.compare(i, unit(x, np.unravel_index(j, x.shape)), f"{name}{index}"))

    def coordinates(self, i: int) -> list[int]:
        """Some entries of a large input: those of the largest, the smallest and no gradient, and drawn ones."""
        g = abs(self.pull(self.cotangent())[i]).ravel()
        found = [int(np.argmax(g)), int(np.argmin(np.where(g > 0, g, np.inf))), int(np.argmin(g))]
        found += self.rng.choice(g.size, min(g.size, _COORDINATES), replace=False).tolist()
        return list(dict.fromkeys(found))[:_COORDINATES]

    def compare(self, i: int, d: Array, where: str, *, weighted: bool = False) -> Finding:
        """Backward and differences along one direction of input i, for a drawn cotangent."""
        u = self.cotangent(weighted=weighted)
        slope = self.slope(i, d, [self.ladder])
        finding = self.judged(i, d, u, slope, where)
        if not finding.passed and self.options.eps is None:
            size = self.spread_of(self.wide[i]) / float(np.max(abs(d), initial=0.0) or 1.0)
            nearer = self.slope(i, d, [self.ladder, FINE, *([[h * size for h in MAIN]] if size <= 0.25 else [])])
            finding = self.judged(i, d, u, nearer, where)
            sharp = finding.error <= self.rtol * abs(finding.numeric)  # the difference is as good as a referee
            if finding.verdict == "inconclusive" or (finding.verdict == "wrong" and not sharp):
                referee = self.refereed(i, d, nearer)
                if referee is not None:
                    exact = replace(nearer, value=referee, bar=refereed_bar(referee, nearer.reach))
                    finding = self.judged(i, d, u, exact, where)
        return finding

    def judged(self, i: int, d: Array, u: Array, slope: Slope, where: str) -> Finding:
        u = np.where(slope.bad & (self.f0.size > 1), 0, u)
        dx = self.pull(u)[i]
        analytic = total(dx * d)
        if self.f0.size == 1 and slope.bad[0]:
            low, high = sorted((slope.low[0] * u[0], slope.high[0] * u[0]))
            return self.rough(slope, 0, where, analytic, low, high, slope.value[0] * u[0])
        used = u != 0
        if not used.any():
            return self.rough(slope, int(np.argmax(slope.bad)), where, 0.0, 0.0, 0.0, 0.0)
        beside = self.at_kinks(i, d, slope, where)
        if beside is not None:
            return beside
        numeric = total(u[used] * slope.value[used])
        bar = total(abs(u[used]) * slope.bar[used])
        most = float(np.max(abs(dx * d), initial=0.0)) or 1.0  # divided by: squares of 1e200 overflow
        terms = most * math.sqrt(total(np.square(dx * d / most)))
        allowed = self.allowed(analytic, numeric, bar) + self.rtol * self.rtol * terms
        allowed += (self.options.atol or 0.0) * max(0.0, total(abs(d)) - 1)  # atol is meant for an entry
        if not abs(analytic - numeric) <= allowed:
            allowed += self.wobble(i, d, u, dx)
        what = {"analytic": analytic, "numeric": numeric, "error": bar, "allowed": allowed}
        if not abs(analytic - numeric) <= allowed:
            reason = suspect(np.array([analytic]), np.array([numeric]), self.sizes(), known_factor=True)
            return Finding("wrong", where, **what, reason=reason)
        reach = total(abs(u) * np.where(np.isfinite(slope.reach), slope.reach, 0))
        steepest = float(np.max(abs(dx), initial=0.0)) * float(np.max(abs(d), initial=0.0))
        if bar > RESOLVED * max(abs(analytic), abs(numeric)) and bar > NEGLIGIBLE * max(terms, steepest, reach):
            if np.all(slope.still[used]) and analytic == 0:
                return Finding("ok", where, **what)
            return Finding("inconclusive", where, **what, reason=self.advice())
        return Finding("ok", where, **what, reason=NEAR if slope.near[used].any() else "")

    def at_kinks(self, i: int, d: Array, slope: Slope, where: str) -> Finding | None:
        """The first result with a kink along d whose gradient is not between the slopes; some are tried."""
        for k in np.flatnonzero(slope.kink & ~slope.jump & ~slope.outside)[:_COORDINATES]:
            u = np.zeros(self.f0.size)
            u[k] = 1.0
            analytic = total(self.pull(u)[i] * d)
            at = f"{where} -> {self.result_names()[k]}"
            found = self.rough(slope, int(k), at, analytic, slope.low[k], slope.high[k], slope.value[k])
            if not found.passed:
                return found
        return None

    def narrowed(self, i: int, d: Array, finding: Finding) -> Finding:
        """The entry that makes a direction wrong, found by halving the direction."""
        x, name = self.wide[i], self.problem.names[i]
        inside = np.flatnonzero(d)
        while len(inside) > 1:
            halves = np.array_split(inside, 2)
            best: tuple[float, Array] | None = None
            for half in halves:
                part = np.zeros(x.size)
                part[half] = d.ravel()[half]
                found = self.compare(i, part.reshape(x.shape), "")
                excess = abs(found.analytic - found.numeric) / found.allowed if found.verdict == "wrong" else 0.0
                if math.isnan(excess):
                    excess = math.inf
                if excess > (best[0] if best else 0.0):
                    best = excess, half
            if best is None:
                return finding  # many small errors, none of which shows alone
            inside = best[1]
        j = np.unravel_index(int(inside[0]), x.shape)
        found = self.compare(i, unit(x, j), f"{name}{[int(v) for v in j]}")
        if found.verdict != "wrong":
            return found if found.verdict == "kink" else finding
        reason = self.common_factor(i, d, found) or found.reason
        seen = f"found {finding.where.removeprefix(name).strip()}"
        return replace(found, reason=f"{reason}; {seen}" if reason else f"it is off here; {seen}")

    def common_factor(self, i: int, d: Array, found: Finding) -> str:
        """The mistake, if the gradients along other directions are off by the same factor as the one found."""
        pairs = [(found.analytic, found.numeric)]
        for _ in range(2):
            other = self.compare(i, self.spread_of(d) * self.rng.integers(-128, 129, d.shape) / 64, "")
            pairs.append((other.analytic, other.numeric))
        a, n = np.array(pairs).T
        if not n.all() or np.ptp(a / n) > 0.01 * abs(found.analytic / found.numeric - 1):
            return ""
        return suspect(a, n, self.sizes(), only_factor=True)

    def elsewhere(self, checked: list[int]) -> None:
        """Beside the inputs: a rule that is right at them by their symmetry, and a gradient that is 0 all around."""
        beside = self.beside(checked)
        for i in checked:
            name = self.problem.names[i]
            there = [found[i] for found in beside if i in found]
            wrong = [f for f in there if f.verdict == "wrong"]
            if wrong and self.options.elsewhere:
                reason = "right at the inputs given, by a symmetry or by chance, and wrong at others nearby"
                self.findings.append(replace(wrong[0], reason=reason))
            elif self.options.vacuous and self.is_zero(i) and all(_is_zero(f) for f in there):
                self.findings.append(Finding("vacuous", name, 0.0, 0.0, 0.0, 0.0, self.vacuity(i)))

    def beside(self, checked: list[int]) -> list[dict[int, Finding]]:
        """For two draws of inputs nearby, where f can take them, a finding for each input."""
        before = self.problem.inputs, self.wide, self.f0, self.noise
        found = []
        for _ in range(2 if self.found("kink") or any(map(self.is_zero, checked)) else 1):
            try:
                self.problem.inputs = [self.jittered(x) for x in before[0]]
                self.wide = [x.astype(np.float64) for x in self.problem.inputs]
                self.f0 = self.forward(self.wide)
                if not np.isfinite(self.f0).all():
                    continue
                self.noise = self.measured_noise()
                found.append(
                    {
                        i: self.compare(i, self.drawn_direction(i), f"{self.problem.names[i]} at a perturbed input")
                        for i in checked
                    }
                )
            except Exception:  # f need not take other inputs, and may say so as it likes
                continue
            finally:
                self.problem.inputs, self.wide, self.f0, self.noise = before
        return found

    def jittered(self, x: Array) -> Array:
        """x with every entry moved by about an eighth of it, and zeros by an eighth of the others' size."""
        size = np.where(x == 0, self.spread_of(x), abs(x.astype(np.float64)))
        return cast(x + size * self.rng.standard_normal(x.shape) / 8, x.dtype)

    def is_zero(self, i: int) -> bool:
        """Whether all that was found about input i is a gradient of 0."""
        name = self.problem.names[i]
        mine = [f for f in self.findings if f.where.startswith(name) and not math.isnan(f.analytic)]
        return bool(mine) and all(f.verdict == "ok" and _is_zero(f) for f in mine)

    def vacuity(self, i: int) -> str:
        name, shape = self.problem.names[i], self.problem.inputs[i].shape
        batch = "; with a batch of 1 a normalisation gives the same for every x" if shape[:1] == (1,) else ""
        return (
            f"the gradient of {name} is 0 here and at perturbed inputs, and any rule that gives 0 passes{batch}; "
            "check other inputs, or a weighted sum of the results"
        )


def _is_zero(finding: Finding) -> bool:
    """Whether both sides are 0, as far as they can be told."""
    size = max(abs(finding.analytic), abs(finding.numeric))
    return finding.verdict in ("ok", "inconclusive") and size <= finding.allowed


def _at(x: Array, j: int) -> str:
    """[1, 2] for entry j of x in its order."""
    return str([int(v) for v in np.unravel_index(j, x.shape)]) if x.ndim else ""
