"""check_op: a user's op is checked for all that the package's own are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis.errors import InvalidArgument

import minigrad as mg
from minigrad.contract import Case
from minigrad.errors import DTypeError, GradientError
from minigrad.ops.elementwise import Multiply
from minigrad.testing import check_op
from minigrad.testing.mutations import planted


class Cube(mg.Op):
    """out = x**3"""

    elementwise = True

    @staticmethod
    def reference(x: float) -> float:
        return x * x * x

    def forward(self, x: Any) -> Any:
        return x * x * x

    def backward(self, dout: Any, x: Any) -> Any:
        return dout * 3 * x * x


class Matmul(mg.Op):
    """out = x @ y"""

    signature = "(m,k),(k,n)->(m,n)"

    def forward(self, x: Any, y: Any) -> Any:
        return x @ y

    def backward(self, dout: Any, x: Any, y: Any, x_shape: Any, y_shape: Any) -> Any:
        return _fit(dout @ np.swapaxes(y, -1, -2), x_shape), _fit(np.swapaxes(x, -1, -2) @ dout, y_shape)


def _fit(g: Any, shape: tuple[int, ...]) -> Any:
    axes = tuple(range(g.ndim - len(shape)))
    axes += tuple(i for i, n in enumerate(shape, len(axes)) if n == 1 and g.shape[i] != 1)
    return np.reshape(np.sum(g, axis=axes), shape) if axes else g


@pytest.mark.parametrize("op", [Cube, Cube(), Matmul, mg.sigmoid, mg.var, mg.concatenate, mg.getitem])
def test_right_ops_pass(op: Any) -> None:
    report = check_op(op, examples=8)
    assert report
    checked = {f.where for f in report.findings}
    assert {"gradient", "gradient of order 2"} <= checked
    assert "float16 arrays" in checked


def test_it_says_what_was_checked() -> None:
    assert [f.where for f in check_op(Cube, examples=3).findings] == [
        "value", "gradient", "gradient of order 2", "float16 arrays", "float32 arrays", "float64 arrays",
    ]  # fmt: skip


def changed(**parts: Any) -> type[mg.Op]:
    return type("Cube", (Cube,), {"__doc__": Cube.__doc__, **parts})


BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "value": ({"forward": lambda self, x: x * x * x + 1}, "wrong", "value"),
    "rule": ({"backward": lambda self, dout, x: dout * 3 * x}, "wrong", "gradient: inputs[0]"),
    "second order": (
        {"backward": lambda self, dout, x: dout * 3 * (x.data if isinstance(x, mg.Tensor) else x) ** 2},
        "wrong",
        "gradient of order 2",
    ),
    "dtype": ({"forward": lambda self, x: (x * x * x).astype(np.float64)}, "dtype", "float16 arrays"),
    "dout ignored": ({"backward": lambda self, dout, x: 3 * x * x + 0 * dout}, "wrong", "gradient: "),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_ops_are_refused(what: str) -> None:
    parts, verdict, where = BROKEN[what]
    report = check_op(changed(**parts), examples=8)
    assert not report
    assert report.verdict == verdict
    assert where in report.refused[0].where


def test_the_smallest_call_is_shown() -> None:
    report = check_op(changed(backward=lambda self, dout, x: dout * 3 * x * x + (x > 1) * dout))
    assert "of cube(array([" in report.refused[0].where or "of cube(array(" in report.refused[0].where
    assert len(report.findings) == 1


def test_a_write_into_an_argument_is_refused() -> None:
    def backward(self: Any, dout: Any, x: Any) -> Any:
        dout *= 3 * x * x
        return dout

    report = check_op(changed(backward=backward), examples=4)
    assert report.verdict == "aliasing"
    assert "dout = dout.copy()" in report.refused[0].reason


def test_own_inputs_can_be_given() -> None:
    x, y = np.ones((2, 3)), np.arange(6.0).reshape(3, 2)
    assert check_op(Matmul(), x, y)
    assert x.flags.writeable
    wrong = changed(backward=lambda self, dout, x: np.where(x > 10, 0, dout * 3 * x * x))
    assert check_op(wrong, np.array([1.0, 2.0]))  # these inputs do not show it
    with pytest.raises(GradientError, match="inputs"):
        check_op(wrong, np.array([1.0, 20.0]), raise_exception=True)


@pytest.mark.parametrize("mistake", ["zero", "swapped", "wrong cotangent", "stale"])
def test_every_planted_mistake_in_an_op_of_the_package_is_refused(mistake: str) -> None:
    with planted(Multiply, mistake) as wrong:
        report = check_op(Multiply, examples=12)
    assert bool(report) == (not wrong.changed)


def test_what_cannot_be_checked_is_an_error() -> None:
    class Bare(mg.Op):
        """out = x"""

        def forward(self, x: Any) -> Any:
            return x + 0

        def backward(self, dout: Any) -> Any:
            return dout

    with pytest.raises(InvalidArgument, match="declare cases"):
        check_op(Bare)
    assert check_op(Bare, np.array([1.0, 2.0]))
    with pytest.raises(DTypeError, match="an op: a class, an instance or a public function"):
        check_op(np.exp)


def test_a_rule_that_multiplies_is_no_move() -> None:
    class Scale(mg.Op):
        """out = x * y"""

        elementwise = moves = True

        def forward(self, x: Any, y: Any) -> Any:
            return x * y

        def backward(self, dout: Any, x: Any, y: Any) -> Any:
            return dout * y, dout * x

    report = check_op(Scale)
    assert report.verdict == "wrong"
    assert "declares moves" in str(report)

    class Back(mg.Op):
        """out = x reversed"""

        moves = True
        cases = (Case((3,)), Case((2, 3)))

        def forward(self, x: Any) -> Any:
            return x[::-1].copy()

        def backward(self, dout: Any) -> Any:
            return 0.0 - np.negative(dout[::-1])  # right, and more than booleans could do

    assert check_op(Back)
