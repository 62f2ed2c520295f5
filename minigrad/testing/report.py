"""What a check found: a verdict for every comparison, and a report of them that is true when nothing is wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from minigrad.errors import ArgumentError, GradientError

__all__ = ["UNDECIDED", "VERDICTS", "Finding", "GradcheckReport", "allowed_verdicts", "finish", "made"]

R = TypeVar("R", bound="GradcheckReport")

# The verdicts of all reports that checks have returned or raised in this process: a test run sums them up.
made: Counter[str] = Counter()

# Every verdict and what it means, the worst first: a report has the first one of these that it contains.
VERDICTS = {
    "wrong": "backward and the derivative differ by more than both can be off",
    "aliasing": "f or its rule wrote into an array that is not its own",
    "nondeterministic": "the same call gave other numbers the second time",
    "dtype": "a gradient has another dtype than its input, or f left float64",
    "discontinuous": "f jumps here, so there is no derivative to compare with",
    "domain": "f is not finite beside the input, so there is no difference to take",
    "inconclusive": "the derivative is below what this difference can resolve: neither right nor wrong",
    "vacuous": "the gradient is 0 here and at inputs nearby: the check says nothing",
    "kink": "the one-sided slopes differ, and the gradient lies between them",
    "ok": "backward is the derivative, as far as both can be computed",
}
_PASSES = {"ok", "kink"}
# Of one drawn call among many these say nothing; of all of them they may not be.
UNDECIDED = frozenset({"vacuous", "inconclusive"})
_SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One comparison: its verdict, where, and both sides with what separates them.

    where: the input and entry, such as `inputs[0][3]`, with the entry of the result it was followed to, or the
        direction along which both derivatives were taken.
    analytic, numeric: the derivative by backward and by differences, nan where there is none.
    error: how far `numeric` may be off. allowed: how far apart the two may be, `error` included.
    reason: the suspected mistake, or what would tell; empty for what is simply ok.

    >>> finding = Finding("wrong", "inputs[0][1]", 0.0, 2.0, 1e-9, 3e-8, "the gradient is 0")
    >>> finding.passed
    False
    """

    verdict: str
    where: str
    analytic: float = math.nan
    numeric: float = math.nan
    error: float = math.nan
    allowed: float = math.nan
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether it speaks for the gradient: ok, or a kink with the gradient between its slopes."""
        return self.verdict in _PASSES

    def __str__(self) -> str:
        sides = ""
        if not math.isnan(self.analytic):
            sides = f" analytic {self.analytic:.6g}, numeric {self.numeric:.6g} +- {self.error:.1g}"
        return f"{self.where}: {self.verdict},{sides}{'; ' + self.reason if self.reason else ''}".replace(",;", ";")


@dataclass(frozen=True, repr=False)
class GradcheckReport:
    """What a check found; true if nothing is wrong and nothing was left undecided. Printed: a table and the reason.

    findings: one for each comparison. title: the check. allow: verdicts that do not make the report false.
    calls: how often f was evaluated.

    >>> report = GradcheckReport((Finding("ok", "inputs[0]", 2.0, 2.0, 1e-12, 1e-8),))
    >>> bool(report), report.verdict
    (True, 'ok')
    >>> print(report)
    gradcheck: ok (1 comparison)
    """

    findings: tuple[Finding, ...]
    title: str = "gradcheck"
    allow: frozenset[str] = field(default_factory=frozenset)
    calls: int = 0

    def __bool__(self) -> bool:
        return not self.refused

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings that make the report false, the worst verdict first."""
        found = [f for f in self.findings if not f.passed and f.verdict not in self.allow]
        order = list(VERDICTS)
        return tuple(sorted(found, key=lambda f: order.index(f.verdict)))

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The findings in which backward and the derivative disagree."""
        return tuple(f for f in self.findings if f.verdict == "wrong")

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each verdict that occurs, the worst first."""
        counted = Counter(f.verdict for f in self.findings)
        return {verdict: counted[verdict] for verdict in VERDICTS if counted[verdict]}

    @property
    def verdict(self) -> str:
        """The worst verdict that is not allowed, or else the worst that occurs."""
        refused = self.refused
        return refused[0].verdict if refused else next(iter(self.counts), "vacuous")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON: nan and infinities as None."""

        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return {
            "check": self.title,
            "passed": bool(self),
            "verdict": self.verdict,
            "counts": self.counts,
            "calls": self.calls,
            "findings": [{k: plain(v) for k, v in asdict(f).items()} for f in self.findings],
        }

    def raise_if_refused(self) -> None:
        """GradientError with the worst findings, if the report is false."""
        refused = self.refused
        if refused:
            raise GradientError(
                self.title,
                "; ".join(map(str, refused[:3])),
                f"backward and the numerical derivative to agree in {len(self.findings)} comparisons",
                "look at backward of what lies between this input and the result"
                if refused[0].verdict in ("wrong", "aliasing", "nondeterministic", "dtype")
                else f'choose other inputs, or pass allow=("{refused[0].verdict}",)',
            )

    def __str__(self) -> str:
        n, counts = len(self.findings), self.counts
        tally = ", ".join(f"{k} {v}" for v, k in counts.items()) if len(counts) > 1 else _times(n, "comparison")
        lines = [f"{self.title}: {self.verdict} ({tally})"]
        shown = list(self.refused) or [f for f in self.findings if f.verdict != "ok"]
        if shown:
            lines += _table(shown[:_SHOWN])
            if len(shown) > _SHOWN:
                lines.append(f"and {len(shown) - _SHOWN} more")
            reasons = dict.fromkeys(f"{f.verdict}: {f.reason or VERDICTS[f.verdict]}" for f in shown)
            lines += list(reasons)[:_SHOWN]
        return "\n".join(lines)

    __repr__ = __str__


def finish(report: R, raise_exception: bool = False) -> R:
    """The report, counted; or GradientError, if it is false and raise_exception is set."""
    made[report.verdict] += 1
    if raise_exception:
        report.raise_if_refused()
    return report


def _table(findings: Iterable[Finding]) -> list[str]:
    rows = [("verdict", "where", "analytic", "numeric", "+-")]
    for f in findings:
        if math.isnan(f.analytic) and math.isnan(f.numeric):
            rows.append((f.verdict, f.where, "", "", ""))
        else:
            rows.append((f.verdict, f.where, f"{f.analytic:.6g}", *_measured(f)))
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]


def _measured(f: Finding) -> tuple[str, str]:
    """The numeric derivative and its error bar; without one that is below the digits shown."""
    if abs(f.numeric) <= f.error <= 1e-6 * abs(f.analytic):
        return "0", ""
    return f"{f.numeric:.6g}", "" if f.error <= 5e-7 * abs(f.numeric) else f"{f.error:.1g}"


def _times(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def allowed_verdicts(function: str, allow: Iterable[str]) -> frozenset[str]:
    """The verdicts that a caller allows by name; ArgumentError for a word that is none."""
    names = [allow] if isinstance(allow, str) else list(allow)
    for name in names:
        if name not in VERDICTS or name in ("ok", "wrong"):
            raise ArgumentError(
                f"{function}: allow",
                f"allow={name!r}",
                f"any of {', '.join(v for v in VERDICTS if v not in ('ok', 'wrong'))}",
                'write allow=("inconclusive",), for example',
            )
    return frozenset(names)
