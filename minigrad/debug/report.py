"""What is told of a nan or an infinity: which op made it, of what, at which line, what led there, and a fix."""

from __future__ import annotations

import linecache
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.contract import Domain
from minigrad.errors import MinigradError
from minigrad.graph.data import number
from minigrad.op import Op
from minigrad.watch import Line

__all__ = [
    "AnomalyError",
    "NonfiniteReport",
    "Step",
    "Values",
    "all_finite",
    "blamed",
    "fresh",
    "report_on",
    "values_at",
]

CHAIN = 6  # ops that are told of, the latest first
_LARGE = 4096  # values: up to here to set NumPy's error state takes longer than the temporary array


def all_finite(a: Any) -> bool:
    """Whether an array, or a number, holds neither nan nor an infinity; integers never do."""
    a = np.asarray(a)
    if a.dtype.kind != "f":
        return True
    if a.size > _LARGE:  # a sum that overflows says nothing; one that is finite says it all, without a temporary array
        with np.errstate(all="ignore"):
            if np.isfinite(np.add.reduce(a, axis=None)):
                return True
    return bool(np.isfinite(a).all())


def fresh(out: Any, operands: Iterable[Any], op: Op | None) -> Any:
    """Where out is not finite and the operands are no reason for it: booleans of out's shape; None if nowhere.

    A reason for a nan is a nan, and for an infinity a nan or an infinity: at the same entry where op works entry by
    entry, anywhere among the operands for any other op, or as a parameter of it.
    """
    if all_finite(out):
        return None
    nan, inf = np.isnan(out), np.isinf(out)
    parameters = [v for v in vars(op).values() if isinstance(v, (float, np.ndarray))] if op is not None else []
    for x in (*operands, *parameters):
        x = np.asarray(x)
        if all_finite(x):
            continue
        its_nan, its_inf = np.isnan(x), np.isinf(x)
        entries = op is not None and op.elementwise and np.broadcast_shapes(x.shape, out.shape) == out.shape
        if not entries:
            its_nan, its_inf = its_nan.any(), its_inf.any()
        nan, inf = nan & ~its_nan, inf & ~(its_nan | its_inf)
    bad = nan | inf
    return bad if bad.any() else None


@dataclass(frozen=True)
class Values:
    """An array in few words: name, shape, dtype, the finite values' low and high, and how many are nan and infinite."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    nans: int
    infinities: int

    @classmethod
    def of(cls, name: str, array: Any) -> Values:
        """What is to be said of an array.

        >>> print(Values.of("x", np.array([1.0, np.nan, 3.0])))
        x: float64 (3,), 1 to 3, of 3 values 1 nan
        """
        a = np.asarray(array)
        finite = a[np.isfinite(a)]
        low, high = (finite.min().item(), finite.max().item()) if finite.size else (np.nan, np.nan)
        return cls(name, a.shape, str(a.dtype), low, high, int(np.isnan(a).sum()), int(np.isinf(a).sum()))

    def __str__(self) -> str:
        bad = [f"{n} {word}" for n, word in ((self.nans, "nan"), (self.infinities, "infinite")) if n]
        size = int(np.prod(self.shape))
        told = f", of {size} value{'s' if size != 1 else ''} {', '.join(bad)}" if bad else ", all finite"
        between = "" if np.isnan(self.low) else f", {number(self.low)}"
        between += f" to {number(self.high)}" if self.low < self.high else ""
        return f"{self.name}: {self.dtype} {self.shape}{between}{told if size else ', empty'}"


@dataclass(frozen=True)
class Step:
    """A link of the chain: an op with its parameters, or data; the shape of its result; the user's line, if known."""

    name: str
    text: str
    shape: tuple[int, ...]
    line: Line | None

    @classmethod
    def of(cls, op: Op, shape: tuple[int, ...], line: Line | None) -> Step:
        """The step that op is, its parameters in at most 60 characters."""
        text = " ".join(repr(op).split())
        return cls(op.name, text if len(text) <= 60 else text[:57] + "...", shape, line)

    @property
    def where(self) -> str:
        """The line and what stands there: "train.py:12, in loss: y = mg.log(p)"; "" for a line that nobody noted."""
        if self.line is None:
            return ""
        source = linecache.getline(self.line.file, self.line.number).strip()
        return f"{self.line}: {source}" if source else str(self.line)

    def __str__(self) -> str:
        return ", ".join(filter(None, [f"{self.text} -> {self.shape}", self.where]))


@dataclass(frozen=True, repr=False)
class NonfiniteReport:
    """Where a value that is not finite comes from; true if there is one. Printed: all of it.

    origin: the Step that made it, None if everything is finite. direction: "forward", "backward" (its rule made a
    gradient that is not finite), or "data" (it was there before any op). value: what it made, nan, inf or -inf.
    index: the first such entry of `result`. at: the operands' values there, by name, where they have that entry.
    operands: what the op, or its rule, was given. chain: the ops that led there, the latest first: those the operand
    came from, or, backward, those the gradient came through. fix: one that fits the op.

    >>> import minigrad as mg
    >>> report = mg.debug.trace_nonfinite(mg.sqrt(mg.Tensor([4.0, 0.0], requires_grad=True)).sum())
    >>> bool(report), report.direction, report.value, report.index
    (True, 'backward', inf, (1,))
    """

    origin: Step | None = None
    direction: str = ""
    value: float = np.nan
    index: tuple[int, ...] = ()
    at: Mapping[str, float] = field(default_factory=dict)
    result: Values | None = None
    operands: tuple[Values, ...] = ()
    chain: tuple[Step, ...] = ()
    fix: str = ""

    def __bool__(self) -> bool:
        return self.origin is not None

    @property
    def got(self) -> str:
        """What has happened, in a sentence without lines of files."""
        if self.origin is None or self.result is None:
            return "everything is finite, the values and the gradients"
        place = f"{self.result.name}{list(self.index) if self.index else ''}"
        if self.direction == "data":
            return f"{place} is {self.value} already, and no op made it"
        given = ", ".join(f"{name} = {number(value)}" for name, value in self.at.items())
        infinite = any(map(np.isinf, self.at.values())) if self.at else any(x.infinities for x in self.operands)
        clean = not any(x.nans or x.infinities for x in self.operands)
        of = " of an infinity" if infinite else " of finite values" if clean else " where its operands are finite"
        return f"it made {self.value}{of}: {place}{f', where {given}' if given else ''}"

    @property
    def function(self) -> str:
        """The op, or its rule, with parameters."""
        if self.origin is None:
            return "all ops"
        return f"{self.origin.text}.backward" if self.direction == "backward" else self.origin.text

    @property
    def details(self) -> str:
        """The lines below the sentence: the line of the op, ranges, the chain."""
        if self.origin is None or self.result is None:
            return ""
        lines = [f"  called at {self.origin.where}"] if self.origin.line else []
        lines += [f"  {values}" for values in (self.result, *self.operands) if self.direction != "data"]
        if self.chain:
            came = "whose gradient came through" if self.direction == "backward" else "which came from"
            lines += [f"  {came}", *(f"    {step}" for step in self.chain)]
        if self.origin.line is None and self.direction != "data":
            lines.append("  lines are noted for ops that run within detect_anomaly() or graph.record()")
        return "\n".join(lines)

    def __str__(self) -> str:
        if self.origin is None:
            return self.got
        return "\n".join(filter(None, [f"{self.function}: {self.got}", self.details, f"  fix: {self.fix}"]))

    __repr__ = __str__


class AnomalyError(MinigradError, FloatingPointError):
    """A value that is not finite, made out of finite ones; report: the NonfiniteReport, which str() ends with.

    >>> from minigrad import Tensor, log
    >>> from minigrad.debug import detect_anomaly
    >>> with detect_anomaly():
    ...     log(Tensor([1.0, 0.0]))
    Traceback (most recent call last):
    minigrad.debug.report.AnomalyError: log: it made -inf of finite values: out[1], where x = 0; expected finite ...
    """

    report: NonfiniteReport = NonfiniteReport()

    @classmethod
    def of(cls, report: NonfiniteReport) -> AnomalyError:
        """The error that says what report says."""
        error = cls(report.function, report.got, "finite values", report.fix)
        error.report = report
        return error

    def __str__(self) -> str:
        return "\n".join(filter(None, [super().__str__(), self.report.details]))


def report_on(
    step: Step,
    op: Op | None,
    bad: Any,
    out: tuple[str, Any],
    operands: Mapping[str, Any],
    chain: Sequence[Step],
    direction: str = "forward",
    fix: str = "",
) -> NonfiniteReport:
    """The report on bad entries of out, (name, array), which op made of operands, {name: array}."""
    name, array = out
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    at = values_at(index, array.shape, operands) if op is None or op.elementwise else {}
    before = chain[0].name if chain else ""
    return NonfiniteReport(
        step,
        direction,
        float(array[index]),
        index,
        at,
        Values.of(name, array),
        tuple(Values.of(x, a) for x, a in operands.items()),
        tuple(chain[:CHAIN]),
        fix or fix_for(step.name, op, direction, before, at, float(array[index]), operands),
    )


def values_at(index: tuple[int, ...], shape: tuple[int, ...], operands: Mapping[str, Any]) -> dict[str, float]:
    """The operands' values at an entry of a result of this shape, where they broadcast to it."""
    found = {}
    for name, a in operands.items():
        try:
            found[name] = float(np.broadcast_to(a, shape)[index])
        except ValueError:
            continue
    return found


def blamed(op: Op, arrays: Sequence[Any], at: Sequence[float]) -> int:
    """The number of the operand that lies furthest outside of the domain that op declares for it."""

    def outside(domain: Domain, value: float) -> float:
        gap = max((domain.gap - abs(value - point) for point in domain.away), default=0.0)
        return max(domain.low - value, value - domain.high, gap)

    n = len(at)
    domains = op.domain if isinstance(op.domain, tuple) and len(op.domain) == n else (op.domain,) * n
    if not n:  # no entries that correspond: the operand with the largest value
        at = [float(np.abs(a).max()) if np.size(a) else 0.0 for a in map(np.asarray, arrays)]
        return int(np.argmax(at)) if at else 0
    return int(np.argmax([outside(d, v) if isinstance(d, Domain) else 0.0 for d, v in zip(domains, at, strict=True)]))


_LESS = "scale the operands down, or compute with their logarithms"
_WIDER = "compute in float64, or scale the operands down"
_SHIFT = "use logsumexp, log_softmax or softmax_cross_entropy, which shift by the largest value, or x - max(x)"
_FORWARD = {
    "log": "keep x above 0: log(clip(x, 1e-12)), or log1p(x) for log(1 + x)",
    "log1p": "keep x above -1: log1p(clip(x, -1 + 1e-12))",
    "sqrt": "keep x at 0 or above: sqrt(clip(x, 0))",
    "divide": "keep y away from 0: x / (y + 1e-12) for y >= 0, or where(y != 0, x / where(y != 0, y, 1), 0)",
    "power": "keep x above 0: clip(x, 1e-12) ** y",
    "arcsin": "keep x within -1 and 1: arcsin(clip(x, -1, 1))",
    "arccos": "keep x within -1 and 1: arccos(clip(x, -1, 1))",
    "softmax": "leave at least one entry of each row above -inf",
    "log_softmax": "leave at least one entry of each row above -inf",
    "astype": "keep the wider dtype: float64 where float32 or float16 overflows",
    "exp": _SHIFT,
}
_BACKWARD = {
    "sqrt": "use norm, whose gradient at 0 is 0, or sqrt(x + 1e-12)",
    "power": "keep x away from 0: (x + 1e-12) ** y, or norm, whose gradient at 0 is 0",
    "arcsin": "keep x between -1 and 1: arcsin(clip(x, -1 + 1e-12, 1 - 1e-12))",
    "arccos": "keep x between -1 and 1: arccos(clip(x, -1 + 1e-12, 1 - 1e-12))",
}
_INSIDE = {"softmax": "log_softmax(x) in place of log(softmax(x))", "sigmoid": "log_sigmoid(x), not log(sigmoid(x))"}


def fix_for(
    name: str,
    op: Op | None,
    direction: str,
    before: str,
    at: Mapping[str, float],
    value: float,
    operands: Mapping[str, Any],
) -> str:
    """What to write in place of an op that made `value`; before: the op whose result it was given."""
    if name == "log" and before in _INSIDE:
        return f"use {_INSIDE[before]}"
    if any(np.isinf(np.asarray(a)).any() for a in operands.values()) and name not in ("softmax", "log_softmax"):
        return "look where the infinity among the operands came from: inf - inf, 0 * inf and inf / inf are nan"
    known = _FORWARD | _BACKWARD if direction == "backward" else _FORWARD
    overflow = np.isinf(value) and 0 not in at.values() and name in ("divide", "power")
    if name in known and not overflow:
        return known[name]
    if op is not None and op.outside:
        return f"look at what {direction} of {op.name} does with such values"
    wide = all(np.asarray(a).dtype.kind != "f" or np.asarray(a).itemsize >= 8 for a in operands.values())
    return _LESS if wide else _WIDER
