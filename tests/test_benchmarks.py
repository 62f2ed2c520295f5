"""The benchmarks' own parts: works agree with their controls, verdicts and bounds are right, plots tell no place."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "benchmarks"
NAMES = (
    "bench", "book_step", "contest", "conv", "fused", "overhead", "peers", "plots", "recurrent", "roofline", "scaling",
    "second_order", "tables",
)  # fmt: skip


@pytest.fixture(scope="module")
def scripts() -> Any:
    """The modules of benchmarks/, whose names are too common to be left where others could find them."""
    path, before = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield SimpleNamespace(**{name: __import__(name) for name in NAMES})
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if Path(getattr(sys.modules[name], "__file__", None) or "").parent == SCRIPTS:
                del sys.modules[name]


def small_works(scripts: Any) -> list[Any]:
    fused = scripts.fused
    return [
        scripts.overhead.work(),
        *scripts.book_step.works()[:2],
        fused.sigmoid_work(1000),
        fused.loss_work((100, 10)),
        fused.layer_norm_work(1000),
        scripts.recurrent.work(),
        scripts.conv.work("a small net for the digits"),
        scripts.second_order.work(),
    ]


def report(scripts: Any, threads: str = "1", file: Path | None = None) -> Any:
    chosen = argparse.Namespace(threads=threads, quick=True, json=file and str(file))
    return scripts.bench.Report("Title", chosen)


@pytest.mark.parametrize("which", range(9))
def test_minigrad_agrees_with_each_control(scripts: Any, which: int) -> None:
    work = small_works(scripts)[which]
    steps, remarks, results = scripts.contest.contestants(work, [scripts.peers.Minigrad()])
    assert list(steps) == [scripts.contest.CONTROL, "minigrad"]
    assert remarks == {}
    # Every array given and every result, once.
    given = sum(a.nbytes for a in [*work.leaves, *work.constants, *work.vs])
    extra = 0 if work.dout is None else work.dout.nbytes
    assert work.moved(results) == given + extra + sum(a.nbytes for a in results)


def test_a_contestant_that_computes_something_else_is_not_timed(scripts: Any) -> None:
    work = scripts.fused.sigmoid_work(1000)
    wrong = scripts.peers.Minigrad()
    wrong.sigmoid = wrong.tanh
    with pytest.raises(AssertionError, match="differs from the control"):
        scripts.contest.contestants(work, [wrong])


def test_a_contestant_that_cannot_is_left_out_with_the_reason(scripts: Any) -> None:
    work = scripts.fused.sigmoid_work(1000)

    def refuse(x: Any) -> Any:
        raise ValueError("not that one\nand more")

    unable, lacking = scripts.peers.Minigrad(), scripts.peers.Autograd.__new__(scripts.peers.Autograd)
    unable.sigmoid = refuse
    lacking.name = "lacking"
    work.needs = ("conv2d",)
    steps, remarks, _ = scripts.contest.contestants(work, [unable, lacking])
    assert list(steps) == [scripts.contest.CONTROL]
    assert remarks == {"minigrad": "left out, ValueError: not that one", "lacking": "left out, has no conv2d"}


def found(work: Any, **medians: float) -> dict[str, Any]:
    names = {"by_hand": "NumPy by hand", "minigrad": "minigrad", "torch": "PyTorch", "jax": "JAX, jit"}
    times = {names.get(who, "minigrad, compiled"): t for who, t in medians.items()}
    given = {"family": work.family, "name": work.name, "size": work.size, "medians": times, "remarks": {}}
    return {**given, "bytes": 10**6, "flops": work.flops}


def test_verdicts(scripts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    work = scripts.book_step.works()[1]  # 0.6, 0.45, 0.65 and 1.4 of NumPy's
    said = report(scripts)
    scripts.contest.judge(said, [work], [found(work, by_hand=1.0, minigrad=1.5, compiled=0.9, torch=3.0)])
    lines = [(line["line"], line["reached"]) for line in said.content["wanted"]]
    assert lines == [
        ("training step 784-50-10 / 100: minigrad / PyTorch: 0.5, wanted at most 0.6", True),
        ("training step 784-50-10 / 100: minigrad, compiled / PyTorch: 0.3, wanted at most 0.45", True),
        ("training step 784-50-10 / 100: minigrad / NumPy by hand: 1.5, wanted at most 1.4", False),
    ]
    assert said.content["notes"] == [
        "training step 784-50-10 / 100: minigrad, compiled / JAX, jit, wanted at most 0.65: JAX, jit was not measured"
    ]
    several = report(scripts, threads="default")
    scripts.contest.judge(several, [work], [found(work, minigrad=1.0, torch=1.0)])
    assert several.content["wanted"] == []
    capsys.readouterr()


def test_flops_of_a_step(scripts: Any) -> None:
    # Two products of 2 * 3 * 4 and 2 * 4 * 5 multiplications and additions a sample; x of the first has no gradient.
    assert scripts.book_step.flops([3, 4, 5], 7) == 7 * (2 * 2 * 3 * 4 + 3 * 2 * 4 * 5)


def test_the_bound_is_the_longer_of_bytes_and_products(scripts: Any) -> None:
    rates = {"copy": [(100.0, 10.0), (200.0, 20.0)], "product": 50.0}
    assert scripts.roofline.copy_rate(rates["copy"], 50) == 10
    assert scripts.roofline.copy_rate(rates["copy"], 150) == 15
    assert scripts.roofline.copy_rate(rates["copy"], 900) == 20
    assert scripts.roofline.bound({"bytes": 150, "flops": 0}, rates) == 10
    assert scripts.roofline.bound({"bytes": 150, "flops": 1000}, rates) == 20


def test_every_axis_grows_as_it_says(scripts: Any) -> None:
    for values, network, units, _ in scripts.scaling.AXES.values():
        assert values == sorted(values)
        networks = [network(n) for n in values]
        costs = [
            scripts.book_step.flops(sizes, batch) / units(n) for (sizes, batch), n in zip(networks, values, strict=True)
        ]
        # The unit is in proportion to the arithmetic, once the last layer is a small part of it.
        assert max(costs[2:]) / min(costs[2:]) < 2


@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_ends_the_same_each_time(scripts: Any, compiled: bool) -> None:
    ends = []
    for _ in range(2):
        step, params = scripts.scaling.trainer(3, compiled=compiled)
        for _ in range(5):
            step()
        ends.append([p.data.copy() for p in params])
    assert all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))


def test_eight_threads_are_compared_with_one(scripts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    said = report(scripts)
    scripts.scaling.together(said)
    assert [line["reached"] for line in said.content["wanted"]] == [True] * len(scripts.scaling.hows())
    capsys.readouterr()


@pytest.fixture
def results(scripts: Any, tmp_path: Path) -> dict[str, Any]:
    """What tables.py keeps, invented."""
    works = [scripts.overhead.work(), *scripts.book_step.works()[:2]]
    works += [make(n) for make in (scripts.fused.sigmoid_work, scripts.fused.layer_norm_work) for n in (1000, 10000)]
    speed, growth = report(scripts, file=tmp_path / "speed.json"), report(scripts, file=tmp_path / "growth.json")
    every = [found(w, by_hand=1e-5, minigrad=3e-5, compiled=1e-5, torch=5e-5, jax=2e-5) for w in works]
    scripts.contest.publish(speed, every)
    speed.content["rates"] = {"copy": [(1e4, 1e10), (1e8, 2e10)], "product": 1e11}
    curves = {"minigrad": [[1000, 1e-6], [10000, 2e-6]], "PyTorch": [[1000, 3e-6], [10000, 2e-6]]}
    growth.content["growth"] = {axis: {"unit": axis, "curves": curves} for axis in ("nodes", "batch", "depth")}
    for said in speed, growth:
        said.note("A note.")
        said.close()
    kept = {"speed --threads 1": "speed", "scaling --threads 1": "growth"}
    return {key: json.loads((tmp_path / f"{name}.json").read_text()) for key, name in kept.items()}


def test_plots_are_the_same_each_time_and_say_no_place(scripts: Any, results: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = scripts.tables.draw(results, tmp_path / "drawn")
    assert [line for line in lines if line == "" or line.endswith(".svg)")] == lines
    again = tmp_path / "ratios.svg"
    scripts.plots.ratios(results["speed --threads 1"]["works"], again)
    assert again.read_bytes() == (tmp_path / "drawn" / "ratios.svg").read_bytes()
    for file in (tmp_path / "drawn").iterdir():
        text = file.read_text(encoding="utf-8")
        assert ">PyTorch</text>" in text  # text as text
        assert "currentColor" in text
        assert scripts.plots.INK not in text
        assert str(tmp_path) not in text
        assert "dc:date" not in text


def test_the_page_shows_tables_notes_and_plots(scripts: Any, results: dict[str, Any]) -> None:
    runs = [("speed", ["--threads", "1"])]
    text = scripts.tables.page("Benchmarks", "Text.", results, runs, ["![plot](benchmarks/ratios.svg)", ""])
    assert text.startswith("# Benchmarks\n\nText.\n\nMeasured on ")
    assert "![plot](benchmarks/ratios.svg)" in text
    assert "## Title, one thread\n\n`python benchmarks/speed.py --threads 1`" in text
    assert "| minigrad | 30 us |" in text
    assert text.endswith("- A note.\n")


def test_every_script_of_the_page_is_there(scripts: Any) -> None:
    for script, arguments in scripts.tables.RUNS:
        assert (SCRIPTS / f"{script}.py").exists()
        assert arguments[0] == "--threads"
    assert isinstance(scripts.bench, ModuleType)
