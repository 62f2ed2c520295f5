"""gradient_property, and the pytest plugin: fixtures, marker, options and the summary line."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError
from minigrad.testing import gradcheck, gradient_property
from minigrad.testing.strategies import arrays, broadcastable, logits_and_labels


class Capped(mg.Op):
    """out = x**2, with a rule that is wrong above 2"""

    elementwise = True

    def forward(self, x: Any) -> Any:
        return x * x

    def backward(self, dout: Any, x: Any) -> Any:
        return dout * 2 * np.minimum(x, 2.0)


@gradient_property(arrays((2, 3)), arrays((3,)), order=2)
def test_a_function_becomes_a_test(x: Any, y: Any) -> Any:
    """Its own words."""
    return mg.sigmoid(x) * y


@gradient_property(broadcastable(2))
def test_one_strategy_may_draw_all_arguments(x: Any, y: Any) -> Any:
    return mg.multiply(x, y)


@gradient_property(logits_and_labels(), settings=settings(max_examples=20))
def test_other_arguments_go_through(logits: Any, labels: Any) -> Any:
    return mg.softmax_cross_entropy(logits, labels)


@gradient_property(arrays((3,)), vjp=lambda dout, x: dout * np.cos(x))
def test_options_reach_gradcheck(x: Any) -> Any:
    return np.sin(x)


def test_name_and_words_are_the_functions() -> None:
    assert test_a_function_becomes_a_test.__name__ == "test_a_function_becomes_a_test"
    assert test_a_function_becomes_a_test.__doc__ == "Its own words."
    assert test_a_function_becomes_a_test.__module__ == __name__


def test_a_failure_shows_the_smallest_input_and_the_report() -> None:
    @gradient_property(arrays(max_dims=2, min_side=1, max_side=4))
    def capped(x: Any) -> Any:
        return Capped()(x)

    with pytest.raises(AssertionError) as failure:
        capped()
    text = str(failure.value)
    assert text.startswith("capped(\n    array(2.),\n)\ngradcheck: wrong")  # right at 2, wrong beside it
    assert "inputs[0]" in text


def test_another_check_can_be_used() -> None:
    seen = []

    def check(f: Any, inputs: Any) -> Any:
        seen.append(inputs)
        return gradcheck(f, inputs)

    gradient_property(st.just(1.0), check=check)(lambda x: x * 2)()
    assert seen[0] == [1.0]


def test_what_is_no_strategy_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"write @gradient_property\(arrays"):
        gradient_property(lambda x: x)
    with pytest.raises(ArgumentError, match="no strategy"):
        gradient_property()
    with pytest.raises(DTypeError, match="hypothesis strategies"):
        gradient_property(arrays(), 3)


# The plugin, in test runs of their own

SOME_TESTS = """
import numpy as np
import pytest
import minigrad as mg

def test_right(gradcheck):
    gradcheck(mg.exp, np.array([1.0, 2.0]))

def test_kink(gradcheck):
    assert gradcheck(mg.relu, np.array([0.0, 2.0]))

class Odd(mg.Op):
    '''out = exp(x), wrong at second order'''
    def forward(self, x):
        return np.exp(x)
    def backward(self, dout, x):
        return dout * np.exp(getattr(x, "data", x) if isinstance(x, mg.Tensor) else x)

def test_first_order(gradcheck):
    gradcheck(Odd(), np.array([1.0]))

@pytest.mark.gradcheck(order=2)
def test_second_order(gradcheck):
    gradcheck(Odd(), np.array([1.0]))

def test_frozen(frozen_rng):
    first = np.random.rand()
    frozen_rng.reset()
    assert first == np.random.rand()
    print("drew", first)
"""


def run(folder: Any, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_fixtures_marker_and_summary(tmp_path: Any) -> None:
    done = run(tmp_path, SOME_TESTS)
    assert done.returncode == 1
    assert "FAILED test_some.py::test_second_order - minigrad.errors.GradientError" in done.stdout
    assert "1 failed, 4 passed" in done.stdout
    assert "gradcheck: 2 ok, 1 kink, 1 wrong" in done.stdout


def test_the_seed_reaches_the_fixtures(tmp_path: Any) -> None:
    drawn = [
        [line for line in run(tmp_path, SOME_TESTS, "-s", "-k", "frozen", *seed).stdout.split("\n") if "drew" in line]
        for seed in ([], [], ["--gradcheck-seed", "1"])
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0]


PROFILE = """
from hypothesis import settings, given, strategies as st

@given(st.integers())
def test_profile(n):
    s = settings.default
    assert (s.max_examples, s.derandomize, s.deadline) == {wanted}
"""


@pytest.mark.parametrize(
    ("profile", "wanted"), [("ci", (50, True, None)), ("dev", (20, False, None)), ("thorough", (1000, False, None))]
)
def test_profiles(tmp_path: Any, profile: str, wanted: Any) -> None:
    done = run(tmp_path, PROFILE.format(wanted=wanted), f"--gradcheck-profile={profile}", "-p", "no:xdist")
    assert "1 passed" in done.stdout, done.stdout


def test_a_run_without_gradients_has_no_summary_and_bad_options_are_refused(tmp_path: Any) -> None:
    done = run(tmp_path, "def test_nothing():\n    pass\n")
    assert done.returncode == 0, done.stdout
    assert "gradcheck:" not in done.stdout
    done = run(tmp_path, SOME_TESTS, "--gradcheck-profile=fast")
    assert done.returncode == 4
    assert "choose from" in done.stderr
    done = run(tmp_path, SOME_TESTS.replace("order=2", "2"))
    assert "takes keywords, such as order=2" in done.stdout


ALONE = """
import sys
for name in ("hypothesis", "mpmath", "pytest", "matplotlib"):
    sys.modules[name] = None  # as if it were not installed
import numpy as np
import minigrad
import minigrad.testing as testing
assert testing.gradcheck(np.sin, np.array([1.0]), vjp=lambda dout, x: dout * np.cos(x))
for call in (
    lambda: testing.gradient_property(None),
    lambda: testing.check_op(minigrad.exp),
    lambda: testing.step_size_study(np.exp, 1.0, np.exp).plot(),
):
    try:
        call()
    except ImportError as error:
        assert "pip install " in str(error), error
    else:
        raise AssertionError("no error")
try:
    import minigrad.testing.strategies
except ImportError as error:
    assert "pip install hypothesis" in str(error), error
else:
    raise AssertionError("no error")
"""


def test_the_numerical_part_needs_numpy_alone() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
