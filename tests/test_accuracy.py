"""Values and gradients against 50 digits: sigmoid and its relatives over the whole line, the softmax family by rows.

Vector code differs between processors, so the file runs itself again with NumPy's faster paths switched off.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import referee
from referee import ELEMENTWISE, Softmax, row_sum_error, ulp_error, wrong

import minigrad as mg

DTYPES = ["float64", "float32"]
VALUE = {"float64": 2.0, "float32": 4.0}
GRADIENT = {"float64": 4.0, "float32": 6.0}
HALF = 0.5001  # correctly rounded from float64, but for ties that float64 does not see
FOUND = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])


class Tally:
    """What went beyond its bound: the worst of each kind, for the message of one assertion."""

    def __init__(self, dtype: str) -> None:
        self.dtype, self.worst, self.count, self.seen = dtype, {}, 0, 0

    def add(self, what: str, where: Any, got: Any, exact: Any, bound: float) -> None:
        self.seen += 1
        error = ulp_error(got, exact, self.dtype)
        bad = wrong(got, exact, self.dtype)
        if error <= bound and not bad:
            return
        self.count += 1
        if error / bound > self.worst.get(what, (0.0, ""))[0]:
            text = f"{what} at {where}: got {float(got)!r}, exact {mpmath.nstr(exact, 20)}, "
            self.worst[what] = (error / bound, f"{text}{error:.3g} ULP of {bound:.3g}{bad and f', a wrong {bad}'}")

    def check(self) -> None:
        assert self.seen, "nothing was compared"
        lines = "\n".join(text for _, text in self.worst.values())
        assert not self.count, f"{self.count} of {self.seen} beyond their bounds; the worst:\n{lines}"


def value_and_gradient(name: str, x: Any, dout: Any, **kwargs: Any) -> tuple[Any, Any]:
    """The op's result and gradient; any floating-point warning on the way is an error."""
    with np.errstate(all="raise"):
        leaf = mg.Tensor(x, requires_grad=True)
        out = getattr(mg, name)(leaf, **kwargs)
        out.backward(dout)
    assert out.dtype == leaf.grad.dtype == x.dtype
    return out.numpy(), leaf.grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_values_and_gradients_over_the_whole_line(name: str, dtype: str) -> None:
    value, derivative = ELEMENTWISE[name]
    x = referee.points(dtype)
    out, grad = value_and_gradient(name, x, np.ones_like(x))
    tally = Tally(dtype)
    for v, y, dy in zip(x.tolist(), out, grad, strict=True):
        tally.add("value", v, y, value(v), VALUE[dtype])
        tally.add("gradient", v, dy, derivative(v), GRADIENT[dtype])
    tally.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_each_region_alone_and_strided(name: str, dtype: str) -> None:
    # A kernel may treat an array by its smallest and largest value, and NumPy treats strided memory by other code.
    value, derivative = ELEMENTWISE[name]
    tally = Tally(dtype)
    for x in referee.regions(dtype).values():
        for part in (x[x < 0], x[x > 0], np.repeat(x, 2)[::-2]):
            out, grad = value_and_gradient(name, part, np.ones_like(part))
            for v, y, dy in zip(part.tolist(), out, grad, strict=True):
                tally.add("value", v, y, value(v), VALUE[dtype])
                tally.add("gradient", v, dy, derivative(v), GRADIENT[dtype])
    tally.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_silent_for_an_incoming_gradient_that_is_no_power_of_two(name: str, dtype: str) -> None:
    x = referee.points(dtype)
    _, grad = value_and_gradient(name, x, np.full_like(x, 1 / 3))
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_keeps_the_sign_of_zero(dtype: str) -> None:
    out, _ = value_and_gradient("tanh", np.array([0.0, -0.0], dtype), np.ones(2, dtype))
    assert out.tolist() == [0.0, 0.0]
    assert np.signbit(out).tolist() == [False, True]


def bounds(exact: Softmax, dtype: str, *, rounded: bool) -> list[float]:
    """4 + (max - x_i) for each entry; half an ULP where float32 is rounded from float64."""
    if rounded and dtype == "float32":
        return [HALF] * len(exact.x)
    return [4 + float(exact.top - v) for v in exact.x]


def couplings(row: Any, exact: Softmax) -> list[int]:
    """The classes to take one-hot gradients for: all of a short row, the telling ones of a long one."""
    return list(range(len(row))) if len(row) <= 10 else sorted({0, exact.winner, len(row) - 1, int(np.argmin(row))})


KINDS = list(referee.rows("float64"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_and_log_softmax(name: str, kind: str, dtype: str) -> None:
    tally = Tally(dtype)
    for n, row in enumerate(referee.rows(dtype)[kind]):
        exact = Softmax(row)
        values = getattr(exact, name)()
        limits, loose = bounds(exact, dtype, rounded=True), bounds(exact, dtype, rounded=False)
        for k in couplings(row, exact):
            unit = np.zeros_like(row)
            unit[k] = 1
            out, grad = value_and_gradient(name, row, unit)
            for i, e in enumerate(values):
                tally.add("value", f"row {n}, entry {i}", out[i], e, limits[i])
            for i, e in enumerate(getattr(exact, f"{name}_gradient")(k)):
                tally.add("gradient", f"row {n}, class {k}, entry {i}", grad[i], e, loose[i])
    tally.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_cross_entropy(kind: str, dtype: str) -> None:
    tally, sums = Tally(dtype), []
    for n, row in enumerate(referee.rows(dtype)[kind]):
        exact = Softmax(row)
        limits = bounds(exact, dtype, rounded=True)
        for k in couplings(row, exact):
            loss, grad = value_and_gradient("softmax_cross_entropy", row[None], None, labels=[k])
            tally.add("loss", f"row {n}, class {k}", loss.item(), exact.loss(k), limits[k])
            for i, e in enumerate(exact.loss_gradient(k)):
                tally.add("gradient", f"row {n}, class {k}, entry {i}", grad[0, i], e, limits[i])
            sums.append(row_sum_error(grad[0], dtype))
    tally.check()
    assert max(sums) <= 2, f"gradient rows sum to {max(sums):.2f} ULP of their largest entry, not to 0"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_is_silent_whatever_comes_in(reduction: str, dtype: str) -> None:
    for rows in referee.rows(dtype).values():
        dout = np.full(len(rows) if reduction == "none" else (), 1 / 3, dtype)
        labels = rows.argmax(axis=1)
        _, grad = value_and_gradient("softmax_cross_entropy", rows, dout, labels=labels, reduction=reduction)
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_rows_sum_to_zero_in_large_batches(classes: int, dtype: str) -> None:
    rng = np.random.default_rng(11)
    n = 20_000 // classes + 100
    x = (rng.normal(size=(n, classes)) * rng.choice([1, 5, 20], size=(n, 1))).astype(dtype)
    for labels in (rng.integers(0, classes, n), x.argmax(axis=1)):
        _, grad = value_and_gradient("softmax_cross_entropy", x, None, labels=labels, reduction="sum")
        worst = max(row_sum_error(row, dtype) for row in grad[:200])
        assert worst <= 2, f"gradient rows sum to {worst:.2f} ULP of their largest entry, not to 0"


def test_the_loss_is_right_down_to_1e_300() -> None:
    # The second gap is the float next to log(1e300), so its loss is not 1e-300 to the last digit.
    for gap, loss in ((40.0, 4.2483542552915889e-18), (690.7755278982137, 1.0000000000000237e-300)):
        got, grad = value_and_gradient("softmax_cross_entropy", np.array([[gap, 0.0]]), None, labels=[0])
        assert got.item() == pytest.approx(loss, rel=1e-15, abs=0)
        assert grad[0].tolist() == pytest.approx([-loss, loss], rel=1e-15, abs=0)


def test_the_referee_against_numbers_known_elsewhere() -> None:
    # From the table (the book's figure 5-20 and sigmoid([24, 32, 5])), not from this package.
    known = {24.0: 3.775134543994065e-11, 32.0: 1.2664165549093855e-14, 5.0: 0.006648056670790156}
    for x, slope in known.items():
        assert ulp_error(slope, referee.sigmoid_slope(x), "float64") <= 4
    assert ulp_error(0.9933071490757153, referee.sigmoid(5.0), "float64") <= 2
    assert ulp_error(np.log(2), referee.softplus(0.0), "float64") <= 1
    assert ulp_error(-np.log(2), referee.log_sigmoid(0.0), "float64") <= 1
    assert ulp_error(0.46211715726000975, referee.tanh(0.5), "float64") <= 1
    assert ulp_error(1 - np.tanh(0.5) ** 2, referee.tanh_slope(0.5), "float64") <= 2


def test_ulp_errors() -> None:
    tiny, largest = 5e-324, float(np.finfo(np.float64).max)
    assert ulp_error(1.0, mpmath.mpf(1), "float64") == 0
    assert ulp_error(np.nextafter(1.0, 2), mpmath.mpf(1), "float64") == 1
    assert ulp_error(np.nextafter(1.0, 0), mpmath.mpf(1), "float64") == 0.5
    assert ulp_error(np.float32(1.0) + np.float32(2**-23), mpmath.mpf(1), "float32") == 1
    assert ulp_error(tiny, mpmath.mpf(0), "float64") == 1
    assert ulp_error(0.0, mpmath.mpf(tiny) / 4, "float64") == 0.25
    assert ulp_error(3 * tiny, mpmath.mpf(tiny), "float64") == 2
    assert ulp_error(np.inf, mpmath.mpf(largest) * 2, "float64") == 0
    assert ulp_error(largest, mpmath.mpf(largest) * 2, "float64") == np.inf
    assert ulp_error(np.inf, mpmath.mpf(largest), "float64") == np.inf
    assert ulp_error(-np.inf, mpmath.mpf("inf"), "float64") == np.inf
    assert ulp_error(np.nan, mpmath.mpf(1), "float64") == np.inf
    assert wrong(0.0, mpmath.mpf(tiny), "float64") == "0"
    assert wrong(0.0, mpmath.mpf(tiny) / 4, "float64") == ""
    assert wrong(np.nan, mpmath.mpf(1), "float64") == "nan"
    assert wrong(np.inf, mpmath.mpf(1), "float64") == "inf"


def test_features_named_in_the_environment_are_off() -> None:
    assert not set(os.environ.get("NPY_DISABLE_CPU_FEATURES", "").split()) & set(FOUND)


AVX512 = [name for name in FOUND if name == "X86_V4" or name.startswith("AVX512")]


@pytest.mark.skipif("NPY_DISABLE_CPU_FEATURES" in os.environ, reason="is such a run itself")
@pytest.mark.parametrize("features", [AVX512, FOUND], ids=["without AVX512", "with the baseline alone"])
def test_again_on_a_lesser_processor(features: list[str]) -> None:
    if not features:
        pytest.skip("nothing that NumPy could do without here")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", Path(__file__).name],
        cwd=Path(__file__).parent,
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(features)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
