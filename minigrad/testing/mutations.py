"""mutation_score: which wrong rules a test, or a choice of inputs, would let pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.op import Op, registry
from minigrad.tensor import Tensor, plain
from minigrad.testing.gradcheck import gradcheck

__all__ = ["MISTAKES", "Mutant", "MutationReport", "mutation_score", "op_class", "planted"]

Rule = Callable[..., Any]
Mistake = Callable[["Planted", Op, Any, tuple[Any, ...]], list[Any]]


class Planted:
    """An op's rule with a mistake in it.

    changed: whether the mistake has made a difference. possible: whether it would have, with other numbers in
    arrays of the same shapes.
    """

    def __init__(self, right: Rule, mistake: str, *, second_order_only: bool = False) -> None:
        self.right, self.make, self.only_second = right, MISTAKES[mistake], second_order_only
        self.changed = self.possible = False
        self.tries = 3
        self.before: dict[Any, list[Any]] = {}

    def gradients(self, op: Op, dout: Any, saved: tuple[Any, ...]) -> list[Any]:
        """What the right rule gives, as a list."""
        grads = self.right(op, dout, *saved)
        return list(grads) if isinstance(grads, tuple) else [grads]

    def rule(self, op: Op, dout: Any, *saved: Any) -> Any:
        """The wrong rule."""
        right = self.right(op, dout, *saved)
        if self.only_second and not isinstance(dout, Tensor):
            return right
        wrong = self.make(self, op, dout, saved)
        grads = list(right) if isinstance(right, tuple) else [right]
        self.changed |= any(_differ(a, b) for a, b in zip(grads, wrong, strict=True))
        self.possible |= self.changed
        if not self.possible and self.tries and not isinstance(dout, Tensor):
            self.try_other_numbers(op, dout, saved)
        return tuple(wrong) if isinstance(right, tuple) else wrong[0]

    def try_other_numbers(self, op: Op, dout: Any, saved: tuple[Any, ...]) -> None:
        """Sees whether the mistake could make a difference: with drawn numbers, which may be none for this op."""
        self.tries -= 1
        rng = np.random.default_rng(self.tries)
        before = dict(self.before)

        def drawn(value: Any) -> Any:
            real = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            return rng.uniform(0.1, 0.9, value.shape).astype(value.dtype) if real else value

        try:
            for _ in range(2):  # stale gradients are those of the call before
                other, kept = drawn(dout), tuple(map(drawn, saved))
                grads, wrong = self.gradients(op, other, kept), self.make(self, op, other, kept)
                self.possible |= any(_differ(a, b) for a, b in zip(grads, wrong, strict=True))
        except Exception:  # the rule may not take such numbers; then nothing has been learnt
            pass
        self.before = before


def _scaled(factor: float) -> Mistake:
    def mistake(of: Planted, op: Op, dout: Any, saved: tuple[Any, ...]) -> list[Any]:
        return [None if g is None else g * factor for g in of.gradients(op, dout, saved)]

    return mistake


def _swapped(of: Planted, op: Op, dout: Any, saved: tuple[Any, ...]) -> list[Any]:
    grads = of.gradients(op, dout, saved)
    real = [i for i, g in enumerate(grads) if g is not None]
    if len(real) > 1 and grads[real[0]].shape == grads[real[1]].shape:
        i, j = real[:2]
        grads[i], grads[j] = grads[j], grads[i]
    return grads


def _transposed(of: Planted, op: Op, dout: Any, saved: tuple[Any, ...]) -> list[Any]:
    return [
        g if g is None or len(g.shape) < 2 or g.shape[-1] != g.shape[-2] else np.swapaxes(g, -1, -2)
        for g in of.gradients(op, dout, saved)
    ]


def _unreduced(of: Planted, op: Op, dout: Any, saved: tuple[Any, ...]) -> list[Any]:
    first = np.ones(dout.shape, dout.dtype)
    if dout.shape:
        first[1:] = 0
    return of.gradients(op, dout * first, saved)


def _of_ones(of: Planted, op: Op, dout: Any, saved: tuple[Any, ...]) -> list[Any]:
    return of.gradients(op, dout * 0 + 1, saved)


def _stale(of: Planted, op: Op, dout: Any, saved: tuple[Any, ...]) -> list[Any]:
    grads = of.gradients(op, dout, saved)
    # Not the op itself, whose fields may be index arrays without a hash.
    key = (isinstance(dout, Tensor), tuple(None if g is None else g.shape for g in grads))
    before, of.before[key] = of.before.get(key, grads), grads
    return list(before)


def _without(value: float) -> Mistake:
    def mistake(of: Planted, op: Op, dout: Any, saved: tuple[Any, ...]) -> list[Any]:
        kept, done = [], False
        for v in saved:
            real = isinstance(v, (np.ndarray, Tensor)) and v.dtype.kind == "f" and not done
            kept.append(v * 0 + value if real else v)
            done = done or real
        return of.gradients(op, dout, tuple(kept))

    return mistake


# What people do wrong, by name.
MISTAKES: dict[str, Mistake] = {
    "zero": _scaled(0.0),
    "sign": _scaled(-1.0),
    "x 2": _scaled(2.0),
    "x 1.001": _scaled(1.001),
    "swapped": _swapped,
    "transpose": _transposed,
    "dropped term": _without(0.0),
    "dropped factor": _without(1.0),
    "missing reduction": _unreduced,
    "wrong cotangent": _of_ones,
    "stale": _stale,
}


@contextmanager
def planted(op: type[Op], mistake: str, *, second_order_only: bool = False) -> Iterator[Planted]:
    """Within: the rule of op, and so of everything that uses it, has a mistake from MISTAKES.

    second_order_only: only where the gradient is itself differentiated.

    >>> from minigrad import Tensor, exp
    >>> x = Tensor(0.0, requires_grad=True)
    >>> with planted(op_class(exp), "sign"):
    ...     exp(x).backward()
    >>> x.grad
    array(-1.)
    """
    own = "backward" in vars(op)
    right: Rule = op.backward
    wrong = Planted(right, mistake, second_order_only=second_order_only)

    def backward(self: Op, dout: Any, *saved: Any) -> Any:
        return wrong.rule(self, dout, *saved)

    op.backward = backward
    try:
        yield wrong
    finally:
        if own:
            op.backward = right
        else:
            del op.backward


@dataclass(frozen=True)
class Mutant:
    """One planted mistake and its outcome.

    outcome: "caught"; "passed"; "unseen", where it makes no difference with these numbers, and so passed; or "none",
        where the op has nothing in which to make it.

    >>> Mutant("stale", "passed")
    Mutant(mistake='stale', outcome='passed')
    """

    mistake: str
    outcome: str


@dataclass(frozen=True, repr=False)
class MutationReport:
    """Which planted mistakes were caught; true if all were that the op can have.

    >>> print(MutationReport("exp", (Mutant("zero", "caught"), Mutant("stale", "passed"), Mutant("swapped", "none"))))
    exp: 1 of 2 wrong rules caught
      zero   caught
      stale  PASSED
    """

    op: str
    mutants: tuple[Mutant, ...] = field(default=())

    @property
    def passed(self) -> tuple[str, ...]:
        """The mistakes that the test lets pass."""
        return tuple(m.mistake for m in self.mutants if m.outcome in ("passed", "unseen"))

    @property
    def caught(self) -> tuple[str, ...]:
        """The mistakes that make it fail."""
        return tuple(m.mistake for m in self.mutants if m.outcome == "caught")

    @property
    def score(self) -> float:
        """The share of mistakes caught, from 0 to 1."""
        return len(self.caught) / max(len(self.caught) + len(self.passed), 1)

    def __bool__(self) -> bool:
        return self.score == 1.0

    def __str__(self) -> str:
        words = {"caught": "caught", "passed": "PASSED", "unseen": "PASSED: no difference with these numbers"}
        shown = [m for m in self.mutants if m.outcome in words]
        width = max((len(m.mistake) for m in shown), default=0)
        rows = [f"  {m.mistake.ljust(width)}  {words[m.outcome]}" for m in shown]
        return "\n".join([f"{self.op}: {len(self.caught)} of {len(shown)} wrong rules caught", *rows])

    __repr__ = __str__


def mutation_score(check_or_test: Any, op: Any, *, mistakes: Sequence[str] | None = None) -> MutationReport:
    """Plants wrong rules in op, one after the other, and reports which ones a test lets pass.

    check_or_test: a function without arguments, a hypothesis test too, which fails by an exception or by returning
        something false, such as a report of gradcheck; or inputs, for gradcheck with its default settings.
    op: a class of ops, an op, or the public function of one. mistakes: some of MISTAKES; all by default.
    Raises ArgumentError where the test fails with the right rule already, DTypeError for an op that is none.

    >>> from minigrad import Tensor, grad, multiply
    >>> def test():
    ...     x = Tensor(np.ones((2, 2)), requires_grad=True)
    ...     (dx,) = grad((x * 3.0).sum(), x)
    ...     assert np.all(dx.data == 3)
    >>> mutation_score(test, multiply).passed
    ('transpose', 'wrong cotangent', 'stale')
    >>> bool(mutation_score([np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[2.0, 7.0], [1.0, 0.5]])], multiply))
    True
    """
    cls, instance = op_class(op), op if isinstance(op, Op) else None
    names = list(MISTAKES) if mistakes is None else list(mistakes)
    for name in names:
        if name not in MISTAKES:
            raise ArgumentError(
                "mutation_score: mistakes", repr(name), f"any of {', '.join(MISTAKES)}", 'pass mistakes=["zero"]'
            )
    if callable(check_or_test):
        test = check_or_test
    else:
        function = instance or cls.function or cls()

        def test() -> Any:
            return gradcheck(function, check_or_test)

    failure = _failure(test)
    if failure is not None:
        raise ArgumentError(
            "mutation_score: check_or_test",
            f"a test that fails with the right rule of {cls.name} already ({failure})",
            "a test that passes",
            "correct the test or the rule first",
        )
    mutants = []
    for name in names:
        with planted(cls, name) as wrong:
            failed = _failure(test) is not None
        outcome = "caught" if failed else "passed" if wrong.changed else "unseen" if wrong.possible else "none"
        mutants.append(Mutant(name, outcome))
    return MutationReport(cls.name, tuple(mutants))


def op_class(op: Any) -> type[Op]:
    """The class of an op given as a class, an instance or a public function."""
    if inspect.isclass(op) and issubclass(op, Op):
        return op
    if isinstance(op, Op):
        return type(op)
    for cls in registry():
        if cls.function is op and op is not None:
            return cls
    raise DTypeError("op", describe(op), "an op: a class, an instance or a public function", "pass minigrad.sigmoid")


def _failure(test: Callable[[], Any]) -> str | None:
    """How the test fails, in a few words; None where it passes."""
    try:
        result = test()
    except Exception as error:  # whatever a test raises is a failure of it
        return f"{type(error).__name__}: {error}".split("\n")[0]
    return None if result is None or bool(result) else str(result).split("\n")[0]


def _differ(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is not b
    x, y = plain(a), plain(b)
    return bool(x.shape != y.shape or not np.array_equal(x, y, equal_nan=True))
