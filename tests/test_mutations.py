"""mutation_score and planted: wrong rules, put into ops for a moment, and what lets them pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError
from minigrad.ops.elementwise import Exp, Multiply
from minigrad.testing import gradcheck, mutation_score
from minigrad.testing.mutations import MISTAKES, op_class, planted
from minigrad.testing.strategies import arrays

X, Y = np.array([[1.0, -2.0], [3.0, 0.5]]), np.array([[2.0, 7.0], [-1.0, 0.25]])


class Affine(mg.Op):
    """out = x @ W + b"""

    def forward(self, x: Any, W: Any, b: Any) -> Any:
        return x @ W + b

    def backward(self, dout: Any, x: Any, W: Any) -> Any:
        return dout @ W.T, x.T @ dout, dout.sum(axis=0)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_gradcheck_catches_every_mistake(mistake: str) -> None:
    inputs = [np.array([[1.0, 2.0], [-3.0, 0.5]]), np.array([[0.3, -1.0], [2.0, 0.7]]), np.array([0.1, 0.2])]
    assert gradcheck(Affine(), inputs)
    with planted(Affine, mistake) as wrong:
        assert not gradcheck(Affine(), inputs)
    assert wrong.changed
    assert gradcheck(Affine(), inputs)


def test_a_planted_rule_is_gone_afterwards_also_after_an_error() -> None:
    right = Exp.backward

    def fails() -> None:
        with planted(Exp, "zero"):
            assert Exp.backward is not right
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert Exp.backward is right
    inherited = type("Inherited", (Affine,), {})
    with planted(inherited, "sign"):
        assert "backward" in vars(inherited)
    assert "backward" not in vars(inherited)


def test_a_rule_can_be_wrong_at_second_order_only() -> None:
    with planted(Exp, "x 2", second_order_only=True):
        assert gradcheck(mg.exp, X)
        assert not gradcheck(mg.exp, X, order=2)


def test_good_inputs_catch_all_and_symmetric_ones_do_not() -> None:
    assert mutation_score([X, Y], mg.multiply)
    symmetric = np.array([[1.0, 2.0], [2.0, 1.0]])
    report = mutation_score([symmetric, 3 * symmetric], mg.multiply, mistakes=["transpose", "sign"])
    assert report.caught == ("transpose", "sign")  # drawn cotangents are not symmetric


def test_a_weak_test_is_shown_as_one() -> None:
    def shape_only() -> None:
        x = mg.Tensor(X, requires_grad=True)
        mg.exp(x).sum().backward()
        assert x.grad is not None
        assert x.grad.shape == X.shape

    report = mutation_score(shape_only, mg.exp)
    assert not report
    assert report.score == 0
    assert "swapped" not in report.passed  # exp has one argument: nothing to swap
    assert "zero       " in str(report)
    assert "wrong cotangent    PASSED: no difference with these numbers" in str(report)

    def values() -> Any:
        x = mg.Tensor(X, requires_grad=True)
        mg.exp(x).sum().backward()
        return np.allclose(x.grad, np.exp(X))

    assert mutation_score(values, Exp).passed == ("wrong cotangent", "stale")


def test_a_hypothesis_test_counts_as_a_test() -> None:
    @settings(max_examples=5, database=None, phases=[Phase.generate])
    @given(arrays((3,)))
    def check(x: Any) -> None:
        assert gradcheck(mg.exp, x)

    assert mutation_score(check, Exp(), mistakes=["zero", "x 1.001"])


@pytest.mark.parametrize("op", [Multiply, Multiply(), mg.multiply])
def test_an_op_can_be_given_in_three_ways(op: Any) -> None:
    assert op_class(op) is Multiply


def test_what_cannot_be_scored_is_an_error() -> None:
    def fails() -> None:
        raise AssertionError("no")

    with pytest.raises(ArgumentError, match=r"fails with the right rule of exp already \(AssertionError: no\)"):
        mutation_score(fails, mg.exp)
    with pytest.raises(DTypeError, match="op: a ufunc"):
        mutation_score([X], np.exp)
    with pytest.raises(ArgumentError, match="'nul'; expected any of zero"):
        mutation_score([X], mg.exp, mistakes=["nul"])
