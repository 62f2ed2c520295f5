"""What is told of a nan or an infinity: which op made it, of what, at which line, what led there, and a fix."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minigrad.contract import Domain
from minigrad.debug.fixes import fix_for
from minigrad.errors import MinigradError
from minigrad.graph.data import number
from minigrad.op import Op
from minigrad.watch import Call, Line, in_words, modules, user_line

__all__ = [
    "AnomalyError",
    "Made",
    "NonfiniteReport",
    "Step",
    "Values",
    "all_finite",
    "brief",
    "fresh",
    "noted",
    "report_on",
    "way",
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
    entry, anywhere among the operands for any other op. A parameter of op is a reason for entries equal to it.
    """
    if all_finite(out):
        return None
    nan, inf = np.isnan(out), np.isinf(out)
    for x in map(np.asarray, operands):
        if all_finite(x):
            continue
        its_nan, its_inf = np.isnan(x), np.isinf(x)
        entries = op is not None and op.elementwise and np.broadcast_shapes(x.shape, out.shape) == out.shape
        if not entries:
            its_nan, its_inf = its_nan.any(), its_inf.any()
        nan, inf = nan & ~its_nan, inf & ~(its_nan | its_inf)
    bad = nan | inf
    for value in vars(op).values() if op is not None else ():
        if isinstance(value, (float, np.ndarray)) and not all_finite(value):
            bad &= ~(np.isin(out, value) | (np.isnan(out) & np.isnan(value).any()))
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
    is_op: bool = True

    @property
    def where(self) -> str:
        """The line and what stands there: "train.py:12, in loss: y = mg.log(p)"; "" for a line that nobody noted."""
        if self.line is None:
            return ""
        source = linecache.getline(self.line.file, self.line.number).strip()
        return f"{self.line}: {source}" if source else str(self.line)

    def __str__(self) -> str:
        return ", ".join(filter(None, [f"{self.text} -> {self.shape}", self.where]))


class Made(NamedTuple):
    """How an array came to be: by an op, or, without one, as a leaf or constant that is called `name`.

    It becomes a Step when somebody asks: to put 900 labels among an op's parameters into words takes a millisecond.
    """

    op: Op | None
    shape: tuple[int, ...]
    line: Line | None
    name: str = ""

    @classmethod
    def by(cls, node: Any, name: str = "") -> Made:
        """What is known of a tape.Node or a GraphNode."""
        known = getattr(node, "call", node)
        return cls(node.op, node.shape or (), getattr(known, "line", None), name)

    @property
    def step(self) -> Step:
        """The same in words, parameters in at most 60 characters."""
        if self.op is None:
            return Step(self.name, self.name, self.shape, self.line, False)
        return Step(self.op.name, brief(self.op), self.shape, self.line)


def brief(op: Op) -> str:
    """An op with its parameters in at most 60 characters."""
    text = " ".join(repr(op).split())
    return text if len(text) <= 60 else text[:57] + "..."


def noted(node: Any) -> Call:
    """How a node is made, from within its call: as it has been written down, or is now."""
    call: Call | None = getattr(node, "call", None)
    if call is None:
        call = node.call = Call(user_line(), modules=in_words(modules.get()))
    return call


def way(node: Any, before: Callable[[Any], Iterable[Any]]) -> tuple[Made, ...]:
    """How a node came, the latest op first: from each to the first of those before it that an op has made."""
    found: list[Made] = []
    while node is not None and node.op is not None and len(found) < CHAIN:
        found.append(Made.by(node))
        node = next((other for other in before(node) if other is not None and other.op is not None), None)
    return tuple(found)


@dataclass(frozen=True, repr=False)
class NonfiniteReport:
    """Where a value that is not finite comes from; true if there is one. Printed: all of it.

    origin: the Step that made it, None if everything is finite. direction: "forward", "backward" (its rule made a
    gradient that is not finite, or finite ones that reach it add up to one: then there are no operands), or "data" (it
    was there before any op). value: what it made, nan, inf or -inf.
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
        if not self.operands:
            added = ", and what was added up is finite" if self.direction == "backward" else ""
            return f"{place} is {self.value}{added}"
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
        if self.direction != "backward":
            return self.origin.text
        return f"{self.origin.text}.backward" if self.origin.is_op else f"gradient of {self.origin.text}"

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
        if self.origin.line is None and self.origin.is_op:
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
    made: Made,
    bad: Any,
    out: tuple[str, Any],
    operands: Mapping[str, Any],
    chain: Sequence[Made] | Callable[[int], Sequence[Made]] = (),
    direction: str = "forward",
    *,
    fix: str = "",
    history: Sequence[Made] | None = None,
    leaves: Iterable[tuple[str, Any]] = (),
) -> NonfiniteReport:
    """The report on bad entries of out, (name, array), that came to be as `made` says, of operands, {name: array}.

    chain: what led there, or a function that gives it for the number of the operand that is to blame.
    fix: in place of the one that is found by history, how the operand came (None: chain), and by leaves, names and
    arrays of what may be learned.
    """
    name, array = out
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    value = float(array[index])
    at = _values_at(index, array.shape, operands) if made.op is not None and made.op.elementwise else {}
    if callable(chain):
        chain = chain(_blamed(made.op, list(operands.values()), list(at.values()))) if operands else ()
    chain = chain[:CHAIN]
    return NonfiniteReport(
        made.step,
        direction,
        value,
        index,
        at,
        Values.of(name, array),
        tuple(Values.of(x, a) for x, a in operands.items()),
        tuple(link.step for link in chain),
        fix or fix_for(made.op, direction, _ops(chain if history is None else history), at, value, operands, leaves),
    )


def _ops(chain: Sequence[Made]) -> list[Op]:
    return [link.op for link in chain if link.op is not None]


def _values_at(index: tuple[int, ...], shape: tuple[int, ...], operands: Mapping[str, Any]) -> dict[str, float]:
    """The operands' values at an entry of a result of this shape, where they broadcast to it."""
    found = {}
    for name, a in operands.items():
        try:
            found[name] = float(np.broadcast_to(a, shape)[index])
        except ValueError:
            continue
    return found


def _blamed(op: Op | None, arrays: Sequence[Any], at: Sequence[float]) -> int:
    """The number of the operand that lies furthest outside of the domain that op declares for it."""

    def outside(domain: Any, value: float) -> float:
        if not isinstance(domain, Domain):
            return 0.0
        gap = max((domain.gap - abs(value - point) for point in domain.away), default=0.0)
        return max(domain.low - value, value - domain.high, gap)

    if op is None or not at:  # no entries that correspond: the operand with the largest value
        return int(np.argmax([float(np.abs(a).max()) if np.size(a) else 0.0 for a in map(np.asarray, arrays)]))
    domains = op.domain if isinstance(op.domain, tuple) and len(op.domain) == len(at) else (op.domain,) * len(at)
    return int(np.argmax([outside(domain, value) for domain, value in zip(domains, at, strict=True)]))
