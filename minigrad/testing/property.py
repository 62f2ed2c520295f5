"""gradient_property: a hypothesis test of a gradient, made from a function and the strategies of its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.testing.gradcheck import gradcheck
from minigrad.testing.report import UNDECIDED, GradcheckReport

__all__ = ["gradient_property"]

Test = Callable[[], None]


def gradient_property(
    *strategies: Any, check: Callable[..., GradcheckReport] | None = None, settings: Any = None, **options: Any
) -> Callable[[Callable[..., Any]], Test]:
    """Decorator: f becomes a test, which draws inputs from strategies and fails where gradcheck finds a mistake.

    strategies: one for each argument of f; or a single one that draws a tuple of all of them. What they draw as
        arrays of floats is differentiated, all else reaches f as it is.
    options: those of gradcheck, such as order=2, vjp=... or allow=("kink",). check: another check with gradcheck's
        first two arguments. settings: hypothesis.settings for this test, otherwise those of the current profile.
    Inputs for which the report is vacuous or inconclusive, such as zeros in a product, are drawn anew.
    A failing test shows the smallest inputs that fail, and the report for them. The test takes no arguments, so that
    pytest and unittest run it; `test.hypothesis` is there as for any hypothesis test.
    Raises ArgumentError without a strategy, ImportError without hypothesis: pip install hypothesis.

    >>> from minigrad import multiply, sigmoid
    >>> from minigrad.testing.strategies import arrays
    >>> @gradient_property(arrays((2, 3)), arrays((3,)))
    ... def test_product(x, y):
    ...     return multiply(sigmoid(x), y)
    >>> test_product()
    """
    try:
        from hypothesis import given, reject
        from hypothesis import strategies as st
    except ImportError as error:
        raise ImportError("gradient_property needs hypothesis: pip install hypothesis") from error
    if len(strategies) == 1 and not isinstance(strategies[0], st.SearchStrategy) and callable(strategies[0]):
        raise ArgumentError(
            "gradient_property",
            f"the function {getattr(strategies[0], '__name__', '')} where strategies are wanted",
            "one strategy for each argument of the function",
            "write @gradient_property(arrays((2, 3))) above it",
        )
    if not strategies:
        raise ArgumentError(
            "gradient_property", "no strategy", "one for each argument", "pass minigrad.testing.strategies.arrays()"
        )
    for strategy in strategies:
        if not isinstance(strategy, st.SearchStrategy):
            raise DTypeError(
                "gradient_property",
                describe(strategy),
                "hypothesis strategies",
                "pass st.just(value) for a fixed value",
            )
    compare = gradcheck if check is None else check

    def decorate(f: Callable[..., Any]) -> Test:
        def test(drawn: tuple[Any, ...]) -> None:
            whole = len(drawn) == 1 and isinstance(drawn[0], tuple)
            inputs = list(drawn[0] if whole else drawn)
            report = compare(f, inputs, **options)
            refused = {finding.verdict for finding in report.refused}
            if refused and refused <= UNDECIDED:
                reject()  # hypothesis draws another, and says so where it finds none that decides
            if not report:
                arguments = ",\n    ".join(repr(x) for x in inputs)
                raise AssertionError(f"{f.__name__}(\n    {arguments},\n)\n{report}")

        # Its name, place and words, but not its arguments, which pytest would take for fixtures.
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            if getattr(f, name) != "<lambda>":  # hypothesis would look for its source
                setattr(test, name, getattr(f, name))
        made: Any = given(st.tuples(*strategies))(test)
        made = settings(made) if settings is not None else made
        made.__signature__ = inspect.Signature()
        result: Test = made
        return result

    return decorate
