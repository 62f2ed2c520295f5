"""A fused op against its unfused graph, with a referee: exact arithmetic says which of the two is off, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.autograd import enable_grad, grad
from minigrad.errors import ArgumentError, DTypeError, MinigradError, ShapeError, describe
from minigrad.tensor import Tensor
from minigrad.testing.precise import Exact, Kink, Precise, Unsupported, agrees, precise
from minigrad.testing.report import Finding, GradcheckReport, allowed_verdicts

__all__ = ["FusedReport", "check_fused"]

Array = NDArray[Any]
Index = tuple[int, ...]

# Per dtype: where exp(-x) is lost beside 1, and where it is nearly lost altogether
_TAILS = {2: (4, 8, 10, 16), 4: (10, 20, 40, 88), 8: (20, 40, 100, 700)}
_FAR = 1000.0  # inputs are not scaled beyond this: exp(-x) then takes more digits than the referee may have
_PARTS = ("value", "gradient", "second order")
_MANY = 32  # of more inputs than this, only an entry's own slope is asked for, not those along all the others
_PAIRS = 16  # of more inputs than this, not those along all pairs of them


@dataclass(frozen=True, repr=False)
class FusedReport(GradcheckReport):
    """What check_fused found. `analytic` is the fused op's number, `numeric` the exact one.

    notes: what is to be known beside the verdict, such as that the reference is the broken side somewhere.
    example: the inputs of the first finding that makes the report false, or else the last ones tried.
    """

    notes: tuple[str, ...] = ()
    example: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *self.notes])

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON: nan and infinities as None."""
        return {**super().to_dict(), "notes": list(self.notes)}


def check_fused(
    fused: Callable[..., Any],
    unfused: Callable[..., Any],
    *inputs: Any,
    order: int = 2,
    max_ulp: float = 16.0,
    tails: bool = True,
    max_examples: int = 25,
    seed: int = 0,
    allow: Iterable[str] = (),
) -> FusedReport:
    """Values, gradients and second order of a fused op against its unfused graph; a referee says which one is off.

    fused, unfused: functions from Tensors to a Tensor, or several; only `unfused` has to be made of primitive ops.
    inputs: arrays, or hypothesis strategies for them. Small ones: every entry is compared. Floats, and Tensors that
        require a gradient, are differentiated; Tensors that do not, integers and all else are handed on.
    order: 0 for values alone, 1 with the gradient, 2 with the gradient's gradient; each for random incoming gradients.
    max_ulp: how far off an entry may be, in units in the last place of: the entry, with the terms that it is a sum of
        and with what a change of each input by 1 (by |x| if that is less, for a value) would change in it. The latter
        two count only where the entry itself is small beside them, as a sum that cancels is.
    tails: also try the inputs times 10 and 100, and large ones of both signs (of one sign where all inputs have it).
    max_examples: how many to draw from strategies, always the same ones; a failure is made small. Tails are then
        what the strategies draw.
    seed: for the incoming gradients. allow: verdicts that do not make the report false.
    Where both agree, that is taken for right, but for 0, inf and nan. Elsewhere the referee computes `unfused` and its
    derivatives at hundreds of digits (with mpmath): the verdict is "wrong" only if the fused side is off; if the
    unfused one is, the finding is ok and the report has a note. Without mpmath a difference is "inconclusive".
    Raises ShapeError where the two return other shapes, DTypeError for what is no function or returns no Tensor.

    >>> import minigrad as mg
    >>> x = np.array([-1000.0, 0.5, 40.0])
    >>> print(check_fused(mg.sigmoid, mg.unfused.sigmoid, x))
    check_fused: ok (... comparisons)
    the reference is the broken side in ... comparisons: unfused is nan at inputs[0][0] = -1000, ...
    """
    for name, f in (("fused", fused), ("unfused", unfused)):
        if not callable(f):
            raise DTypeError(
                f"check_fused: {name}",
                f"{name} is {describe(f)}",
                "a function of Tensors",
                f"pass {name}=f itself, not its result",
            )
    if order not in (0, 1, 2):
        raise ArgumentError("check_fused: order", describe(order), "0, 1 or 2", "write order=2")
    if not isinstance(max_ulp, (int, float)) or not max_ulp > 0:
        raise ArgumentError("check_fused: max_ulp", describe(max_ulp), "a positive number", "write max_ulp=16.0")
    allowed = allowed_verdicts("check_fused", allow)
    check = _Check(fused, unfused, order, float(max_ulp), seed, allowed)
    if any(map(_is_strategy, inputs)):
        return _drawn(check, inputs, max_examples)
    values = _values(inputs)
    check.trust_unfused(values)
    report = check.at(values, "")
    if tails:
        for name, changed in _tail_inputs(values, seed):
            try:
                found = check.at(changed, name)
            except (MinigradError, ValueError) as error:
                report = replace(report, notes=(*report.notes, f"not tried at {name}: {error}"))
                continue
            report = _joined(report, found)
    return report


def _is_strategy(value: Any) -> bool:
    return hasattr(value, "example") and hasattr(value, "filter") and hasattr(value, "flatmap")


def _drawn(check: _Check, inputs: Sequence[Any], max_examples: int) -> FusedReport:
    """The report of what the strategies draw; of the smallest example where one fails."""
    try:
        import hypothesis
        from hypothesis import strategies
    except ImportError as error:
        raise ImportError("drawing inputs needs hypothesis: pip install mpmath") from error

    class Refused(Exception):
        pass

    report = failed = None

    def run(drawn: Any) -> None:
        nonlocal report, failed
        values = _values(drawn)
        if report is None:
            check.trust_unfused(values)
        found = check.at(values, "")
        report = found if report is None else _joined(report, found)
        if not found:
            failed = found
            raise Refused

    each = [x if _is_strategy(x) else strategies.just(x) for x in inputs]
    settings = hypothesis.settings(
        max_examples=max_examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        settings(hypothesis.given(strategies.tuples(*each))(run))()
    except Refused:
        assert failed is not None  # the last run is that of the smallest example
        return failed
    assert report is not None
    return report


def _joined(report: FusedReport, other: FusedReport) -> FusedReport:
    return replace(
        report,
        findings=report.findings + other.findings,
        calls=report.calls + other.calls,
        notes=report.notes + tuple(note for note in other.notes if note not in report.notes),
        example=report.example if report.refused else other.example,
    )


def _values(inputs: Sequence[Any]) -> list[Any]:
    """The inputs as values of our own: Tensors that are held fixed stay Tensors, what is followed becomes an array."""
    values: list[Any] = []
    for x in inputs:
        if isinstance(x, Tensor):
            values.append(x.data.copy() if x.requires_grad else x.detach())
        elif isinstance(x, float) or (isinstance(x, (list, tuple)) and np.asarray(x).dtype.kind == "f"):
            values.append(np.array(x))
        else:
            values.append(x.copy() if isinstance(x, np.ndarray) else x)
    if not any(map(_moves, values)):
        raise ArgumentError(
            "check_fused: inputs",
            ", ".join(map(describe, inputs)) or "no input",
            "a float array, or a Tensor with requires_grad=True, among them",
            "pass np.array(x, dtype=float)",
        )
    return values


def _moves(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f"


def _tail_inputs(values: Sequence[Any], seed: int) -> Iterator[tuple[str, list[Any]]]:
    """Inputs far from 0, with a name for each."""
    rng = np.random.default_rng((seed, 1))
    largest = max(float(np.max(np.abs(x), initial=0)) for x in values if _moves(x))
    for factor in (10, 100):
        if largest * factor <= _FAR:
            yield f"inputs * {factor}", [x * x.dtype.type(factor) if _moves(x) else x for x in values]
    size = min(x.size for x in values if _moves(x)) or 8
    for k in range(max(2, -(-8 // size))):
        changed: list[Any] = []
        for x in values:
            if _moves(x):
                low, high = np.min(x, initial=0) < 0, np.max(x, initial=0) > 0
                signs = [s for s, has in ((1, high or not low), (-1, low or not high)) if has]
                points = [s * t for t in _TAILS.get(x.dtype.itemsize, _TAILS[8]) for s in signs]
                x = np.resize(np.roll(rng.permutation(points) if k > 1 and size > 1 else points, -k * size), x.shape)
                x = x.astype(values[len(changed)].dtype)
            changed.append(x)
        yield f"tails {k}", changed


@dataclass
class _Side:
    """What one of the two functions gives, by part: an array for each output, or for each input that moves."""

    outs: list[Array]
    gradients: list[Array]
    second: list[Array]

    def part(self, order: int) -> list[Array]:
        return (self.outs, self.gradients, self.second)[order]


class _Seeds:
    """The incoming gradients, the same for both sides: dout for the outputs, then u for the gradients."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.douts: list[Array] | None = None
        self.us: list[Array] | None = None

    def draw(self, arrays: Sequence[Array], which: str) -> list[Array]:
        """Random numbers of the arrays' shapes and dtypes, never near 0."""
        if getattr(self, which) is None:
            drawn = [
                (self.rng.uniform(0.5, 1.5, a.shape) * self.rng.choice([-1, 1], a.shape)).astype(a.dtype)
                for a in arrays
            ]
            setattr(self, which, drawn)
        found: list[Array] = getattr(self, which)
        return found


@dataclass(frozen=True)
class _Check:
    """The two functions and how they are compared."""

    fused: Callable[..., Any]
    unfused: Callable[..., Any]
    order: int
    max_ulp: float
    seed: int
    allow: frozenset[str]

    def at(self, values: Sequence[Any], name: str) -> FusedReport:
        """Every part at one point."""
        seeds = _Seeds(self.seed)
        fused = self._run("fused", self.fused, values, seeds)
        unfused = self._run("unfused", self.unfused, values, seeds)
        shapes = [[out.shape for out in side.outs] for side in (fused, unfused)]
        if shapes[0] != shapes[1]:
            raise ShapeError(
                "check_fused",
                f"fused returned {_shapes(shapes[0])}, unfused returned {_shapes(shapes[1])}",
                "the same shapes from both",
                "compare what each does with its axes, reduction= and keepdims=",
            )
        referee = _Referee(self.unfused, values, seeds)
        judge = _Judge(referee, values, self.max_ulp, name)
        findings: list[Finding] = []
        for order in range(self.order + 1):
            for which, (a, b) in enumerate(zip(fused.part(order), unfused.part(order), strict=True)):
                findings += judge.compare(order, which, a, b)
        notes = []
        if judge.broken:
            count = len(judge.broken)
            where = f" at {name}" if name else ""
            plural = "" if count == 1 else "s"
            notes.append(
                f"the reference is the broken side in {count} comparison{plural}{where}: {_worst(judge.broken)}"
            )
        calls = 2 * (1 + (self.order == 2))
        return FusedReport(tuple(findings), "check_fused", self.allow, calls, tuple(notes), tuple(values))

    def trust_unfused(self, values: Sequence[Any]) -> None:
        """Nothing, unless unfused at many digits is another function than in floats.

        Within -1 to 1, and in float64, where a formula need not be a careful one to have its first digits right.
        """
        near = [x.astype(np.float64) / max(1.0, np.max(np.abs(x), initial=0)) if _moves(x) else x for x in values]
        try:
            trusted = agrees(self.unfused, self.unfused, near, tensors=True)
        except (Unsupported, ImportError):
            return  # to be told where the referee is asked
        if not trusted:
            raise ArgumentError(
                "check_fused: unfused",
                "a function that has other values in arithmetic at many digits",
                "one that does not depend on how its argument is rounded",
                "check unfused for branches on values, and for constants made for floats such as 1e-7",
            )

    def _run(self, name: str, f: Callable[..., Any], values: Sequence[Any], seeds: _Seeds) -> _Side:
        """Values, gradients and second order of f; each in a graph of its own, since first order keeps other things."""
        moving = [i for i, x in enumerate(values) if _moves(x)]

        def record() -> tuple[list[Tensor], list[Tensor]]:
            leaves = {i: Tensor(values[i], requires_grad=True) for i in moving}
            outs = f(*[leaves.get(i, x.copy() if isinstance(x, np.ndarray) else x) for i, x in enumerate(values)])
            outs = list(outs) if isinstance(outs, (tuple, list)) else [outs]
            for out in outs:
                if not isinstance(out, Tensor):
                    raise DTypeError(
                        f"check_fused: {name}", f"{name} returned {describe(out)}", "a Tensor", "return a Tensor"
                    )
            return list(leaves.values()), outs

        def derivative(outs: list[Tensor], leaves: list[Tensor], douts: list[Array], again: bool) -> list[Tensor]:
            pairs = [(out, dout) for out, dout in zip(outs, douts, strict=True) if out.requires_grad]
            if not pairs:
                return [Tensor(np.zeros_like(leaf.data)) for leaf in leaves]
            found = grad(
                [out for out, _ in pairs], leaves, [dout for _, dout in pairs], create_graph=again, allow_unused=True
            )
            return [Tensor(np.zeros_like(leaf.data)) if g is None else g for leaf, g in zip(leaves, found, strict=True)]

        with np.errstate(all="ignore"), enable_grad():
            leaves, outs = record()
            side = _Side([out.numpy().copy() for out in outs], [], [])
            douts = seeds.draw(side.outs, "douts")
            if [d.shape for d in douts] != [out.shape for out in side.outs]:
                return side
            if self.order:
                side.gradients = [g.numpy().copy() for g in derivative(outs, leaves, douts, again=False)]
            if self.order == 2:
                us = seeds.draw(side.gradients, "us")
                leaves, outs = record()
                gradients = derivative(outs, leaves, douts, again=True)
                side.second = [g.numpy().copy() for g in derivative(gradients, leaves, us, again=False)]
        return side


def _shapes(shapes: Sequence[Index]) -> str:
    return ", ".join(map(str, shapes)) or "nothing"


class _Referee:
    """Exact entries of value, gradient and second order, each with its error bar, and how large its parts are."""

    def __init__(self, f: Callable[..., Any], values: Sequence[Any], seeds: _Seeds) -> None:
        self.f, self.values, self.seeds = f, values, seeds

    @cached_property
    def exact(self) -> Exact:
        """unfused around the inputs."""
        exact = Exact(self.f, self.values, tensors=True)
        if self.seeds.us is not None:
            exact.aim("u", dict(zip(exact.moving, self.seeds.us, strict=True)))
        return exact

    @cached_property
    def entries(self) -> list[tuple[int, Index]]:
        """Every entry of every input that moves."""
        return [(i, index) for i in self.exact.moving for index in np.ndindex(self.exact.arrays[i].shape)]

    def entry(self, order: int, which: int, index: Index) -> tuple[Precise, Precise]:
        """The exact number, and how far it may be off."""
        if order == 0:
            at = self._place(which, index)
            return self.exact.value()[at], self.exact.bar(0)[at]
        key = (self.exact.moving[which], index)
        row = self.exact.slope(key) if order == 1 else self.exact.difference(key, "u")
        return self._weighed(row), self._spread(self.exact.bar(order))

    def sizes(self, order: int, which: int, index: Index) -> Iterator[Any]:
        """What the entry is put together from, as sizes to add up: terms first, then slopes; the cheap ones first."""
        difference = self.exact.difference
        if order == 0:
            at = self._place(which, index)
            for i, j in self.entries:
                yield abs(difference((i, j))[at]) * min(1.0, abs(float(self.exact.arrays[i][j])))
            return
        key = (self.exact.moving[which], index)
        terms = difference(key) if order == 1 else difference(key, "u")
        yield self._spread(terms)
        others = self.entries if len(self.entries) <= _MANY else [key]
        if order == 1:
            yield sum((abs(self._weighed(difference(key, other))) for other in others), self._zero)
            return
        u = {(i, j): abs(float(self.exact.direction("u")[i][j])) for i, j in others}
        yield sum((self._spread(difference(key, other)) * u[other] for other in others), self._zero)
        yield sum((abs(self._weighed(difference(key, "u", other))) for other in others), self._zero)
        if len(self.entries) <= _PAIRS:
            for other in others:
                yield sum((self._spread(difference(key, other, third)) * u[other] for third in others), self._zero)

    def _place(self, which: int, index: Index) -> int:
        """Where an entry of an output is in the row of all."""
        self.exact.value()
        shapes = self.exact.shapes
        before = sum(int(np.prod(s, dtype=int)) for s in shapes[:which])
        return before + int(np.ravel_multi_index(index, shapes[which])) if index else before

    @cached_property
    def _douts(self) -> Array:
        assert self.seeds.douts is not None
        return np.concatenate([d.reshape(-1).astype(np.float64) for d in self.seeds.douts])

    @property
    def _zero(self) -> Precise:
        zero: Precise = precise(0, self.exact.digits).item()
        return zero

    def _weighed(self, row: Array) -> Any:
        """sum(dout * row); most entries are 0 for an elementwise op, and skipped."""
        return sum((d * x for d, x in zip(self._douts.tolist(), row.tolist(), strict=True) if x), self._zero)

    def _spread(self, row: Array) -> Any:
        """sum(|dout| * |row|): the size of the terms."""
        return sum((abs(d * x) for d, x in zip(self._douts.tolist(), row.tolist(), strict=True) if x), self._zero)


class _Judge:
    """The comparisons at one point."""

    def __init__(self, referee: _Referee, values: Sequence[Any], max_ulp: float, name: str) -> None:
        self.referee, self.values, self.max_ulp, self.name = referee, values, max_ulp, name
        self.moving = [i for i, x in enumerate(values) if _moves(x)]
        self.broken: list[tuple[float, str]] = []  # where the reference is off: by how much, and in words

    def compare(self, order: int, which: int, a: Array, b: Array) -> Iterator[Finding]:
        """Findings for an array of the fused side and the same one of the unfused."""
        with np.errstate(all="ignore"):
            unit = np.spacing(np.maximum(np.abs(a), np.abs(b)).astype(a.dtype))
            agree = np.isfinite(a) & np.isfinite(b) & (np.abs(a - b) <= self.max_ulp * unit)
            same = agree | (a == b) | (np.isnan(a) & np.isnan(b))
        if np.any(same):
            what = "value" if order == 0 else _PARTS[order] + f" at inputs[{self.moving[which]}]"
            yield Finding("ok", f"{what}{f' ({self.name})' if self.name else ''}")
        for index in map(tuple, np.argwhere(~agree | (a == 0)).tolist()):
            finding = self._entry(order, which, index, a[index], b[index], bool(same[index]))
            if finding is not None:
                yield finding

    def _entry(self, order: int, which: int, index: Index, a: Any, b: Any, same: bool) -> Finding | None:
        where = self._where(order, which, index)
        try:
            exact, bar, size = self._settle(order, which, index, (a, b))
        except Kink as kink:
            return None if same else self._kink(kink, where, a)
        except (Unsupported, ImportError) as error:
            if same:
                return None
            reason = (
                f"fused is {a:.6g} and unfused {b:.6g}; nobody can say which is right: install mpmath"
                if isinstance(error, ImportError)
                else f"fused is {a:.6g} and unfused {b:.6g}, but unfused cannot be the referee: {error}"
            )
            return Finding("inconclusive", where, float(a), float(b), reason=reason)
        if exact != exact:
            if same or self.name:
                return None  # outside the domain, where nobody has asked for a number
            reason = f"the exact function has no value here; fused is {a:.6g}, unfused {b:.6g}"
            return Finding("domain", where, float(a), reason=reason)
        allowed = self.max_ulp * _spacing(size, a.dtype)
        off, reference_off = (_error(x, exact) > allowed and not _rounds_to(exact, x) for x in (a, b))
        sides = [_how_far(who, x, exact, where) for who, x in (("fused", a), ("unfused", b))]
        finding = Finding("ok", where, float(a), float(exact), float(bar), float(allowed))
        if off:
            beside = f"; {sides[1].split(' at ')[0]} too" if reference_off else "; unfused is right"
            return replace(finding, verdict="wrong", reason=f"{sides[0]}{beside}")
        if reference_off:
            self.broken.append((float(_error(b, exact) / _spacing(exact, b.dtype)), sides[1]))
            return replace(finding, reason=f"the reference is the broken side: {sides[1]}; fused is right")
        return None if same else finding

    def _settle(self, order: int, which: int, index: Index, found: Sequence[Any]) -> tuple[Precise, Precise, Any]:
        """The exact number, its error bar, and the size that its errors are measured by."""
        dtype = found[0].dtype
        while True:
            exact, bar = self.referee.entry(order, which, index)
            if exact != exact or 10 * bar <= _spacing(exact, dtype):
                break
            if not self.referee.exact.refine():
                raise Unsupported(f"it is not known to {dtype} precision at {self.referee.exact.digits} digits")
        size: Any = abs(exact)
        if exact.finite:
            for more in self.referee.sizes(order, which, index):
                allowed = self.max_ulp * _spacing(size, dtype)
                if all(_error(x, exact) <= allowed for x in found if np.isfinite(x)):
                    break
                if more == more:
                    size = size + more
        return exact, bar, size

    def _kink(self, kink: Kink, where: str, a: Any) -> Finding:
        left, right = (self.referee._weighed(side) for side in (kink.left, kink.right))
        low, high = min(left, right), max(left, right)
        slack = self.max_ulp * _spacing(max(abs(low), abs(high)), a.dtype)
        verdict = "kink" if low - slack <= precise(a).item() <= high + slack else "wrong"
        words = f"fused is {a:.6g}, the one-sided derivatives are {float(left):.6g} and {float(right):.6g}"
        return Finding(verdict, where, float(a), reason=words)

    def _where(self, order: int, which: int, index: Index) -> str:
        """The entry and, where there is one, the input that belongs to it."""
        i = self.moving[which] if order else self.moving[0]
        x = self.values[i]
        at = f"inputs[{i}]{_brackets(index)} = {x[index]:.6g}" if index in np.ndindex(x.shape) else self.name
        if order:
            return f"{_PARTS[order]} at {at}"
        beside = order == 0 and self.referee_shape(which) == x.shape
        return f"value{_brackets(index)}{f' at {at}' if beside else f' ({self.name})' if self.name else ''}"

    def referee_shape(self, which: int) -> Index:
        """The shape of an output."""
        assert self.referee.seeds.douts is not None
        return self.referee.seeds.douts[which].shape


def _brackets(index: Index) -> str:
    return f"[{', '.join(map(str, index))}]" if index else ""


def _error(x: Any, exact: Precise) -> Any:
    """|x - exact|: inf for a nan."""
    return abs(precise(x, exact.value.context.dps).item() - exact) if np.isfinite(x) else np.inf


def _spacing(size: Any, dtype: Any) -> float:
    """The distance of neighbouring numbers of dtype at size; of the largest ones beyond them."""
    info = np.finfo(dtype)
    number = min(abs(float(size)), float(info.max)) if size == size else 0.0
    return float(max(np.spacing(np.asarray(number / 2, dtype)) * 2, info.smallest_subnormal))


def _rounds_to(exact: Precise, x: Any) -> bool:
    """Whether x is the infinity that exact becomes in x's dtype."""
    with np.errstate(over="ignore"):
        return bool(np.isinf(x) and x.dtype.type(float(exact)) == x)


def _how_far(who: str, x: Any, exact: Precise, where: str) -> str:
    """`fused is off by 3 ULP at inputs[0][3] = 40: 0, exact 4.24e-18`."""
    at = where.split(" at ", 1)[1] if " at inputs[" in where else where
    if not np.isfinite(x):
        return f"{who} is {x:g} at {at}, exact {float(exact):.6g}"
    ulps = float(_error(x, exact) / _spacing(exact, x.dtype))
    return f"{who} is off by {ulps:.3g} ULP at {at}: {x:.6g}, exact {float(exact):.6g}"


def _worst(broken: Sequence[tuple[float, str]]) -> str:
    return max(broken, key=lambda found: found[0])[1]
