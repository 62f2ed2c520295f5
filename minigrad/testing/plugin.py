"""The pytest plugin, found by its entry point: fixtures, a marker, options, and a line of verdicts at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from minigrad.testing.frozen import Frozen
from minigrad.testing.frozen import frozen_rng as frozen
from minigrad.testing.gradcheck import gradcheck as check
from minigrad.testing.report import VERDICTS, GradcheckReport, made

__all__ = ["PROFILES", "frozen_rng", "gradcheck"]

# Settings of hypothesis by name. "ci" draws the same examples in every run, so that a build never fails by chance.
PROFILES: dict[str, dict[str, Any]] = {
    "ci": {"derandomize": True, "deadline": None, "print_blob": True, "max_examples": 50, "database": None},
    "dev": {"derandomize": False, "deadline": None, "max_examples": 20},
    "thorough": {"derandomize": False, "deadline": None, "print_blob": True, "max_examples": 1000},
}
_WORKERS = pytest.StashKey[Counter[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options."""
    group = parser.getgroup("minigrad", "gradient checks")
    group.addoption(
        "--gradcheck-seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the cotangents, directions and random numbers in the fixtures gradcheck and frozen_rng "
        "(default: 0)",
    )
    group.addoption(
        "--gradcheck-profile",
        choices=list(PROFILES),
        default=None,
        help="settings of hypothesis: ci (50 examples, the same in every run), dev (20), thorough (1000)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker and the profile."""
    config.addinivalue_line(
        "markers", "gradcheck(order=1, **options): options of gradcheck for the fixture `gradcheck` in this test"
    )
    config.stash[_WORKERS] = Counter()
    profile = config.getoption("--gradcheck-profile")
    if profile is not None:
        try:
            from hypothesis import settings
        except ImportError as error:
            raise pytest.UsageError(
                "--gradcheck-profile sets up hypothesis, which is not installed: pip install hypothesis"
            ) from error
        name = f"minigrad-{profile}"
        settings.register_profile(name, **PROFILES[profile])
        settings.load_profile(name)


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Callable[..., GradcheckReport]:
    """minigrad.testing.gradcheck, with --gradcheck-seed and the options of the marker gradcheck; raises if refused."""
    options: dict[str, Any] = {"seed": request.config.getoption("--gradcheck-seed"), "raise_exception": True}
    for marker in reversed(list(request.node.iter_markers("gradcheck"))):  # the nearest one last
        if marker.args:
            raise pytest.UsageError(f"{request.node.nodeid}: the marker gradcheck takes keywords, such as order=2")
        options.update(marker.kwargs)
    return partial(check, **options)


@pytest.fixture
def frozen_rng(request: pytest.FixtureRequest) -> Iterator[Frozen]:
    """NumPy's and Python's random numbers from --gradcheck-seed on; afterwards they go on as before."""
    with frozen(request.config.getoption("--gradcheck-seed")) as state:
        yield state


def _counts(config: pytest.Config) -> Counter[str]:
    """The verdicts of the reports made in this process and in the workers of pytest-xdist."""
    return config.stash[_WORKERS] + made


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker sends its counts home."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["minigrad"] = dict(_counts(session.config))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The counts of a worker arrive."""
    node.config.stash[_WORKERS].update(getattr(node, "workeroutput", {}).get("minigrad", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line: how many reports of each verdict."""
    counts = _counts(config)
    if counts:
        words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(VERDICTS) if counts[verdict])
        terminalreporter.write_line(f"gradcheck: {words}")
