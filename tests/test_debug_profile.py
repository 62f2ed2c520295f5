"""profile: what is counted, what is not counted twice, and the trace's form."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import CheckpointError, DTypeError, Tensor, nn, no_grad
from minigrad.debug import Profile, detect_anomaly, profile
from minigrad.debug import profiler as profiler_module
from minigrad.op import Op
from minigrad.watch import watched, watchers


@pytest.fixture(autouse=True)
def nobody_watches_afterwards() -> Iterator[None]:
    yield
    assert watched == []
    assert watchers.get() == ()


def leaf(shape: Any) -> Tensor:
    return Tensor(np.ones(shape), requires_grad=True)


def rows(p: Profile) -> dict[str, Any]:
    return {row.op: row for row in p.rows}


def test_calls_rules_and_bytes() -> None:
    x, y = leaf((100, 10)), leaf((100, 10))
    with profile() as p:
        z = x * y  # keeps x and y
        e = mg.exp(z)  # keeps its result
        s = (e * e).sum()  # keeps e, which is kept already
        s.backward()
    found = {name: (r.calls, r.rules, r.allocated, r.saved) for name, r in rows(p).items()}
    assert found == {
        "multiply": (2, 2, 16_000, 16_000),
        "exp": (1, 1, 8_000, 8_000),
        "sum": (1, 1, 8, 0),
    }
    total = p.total
    assert (total.calls, total.rules, total.allocated, total.saved) == (4, 4, 24_008, 24_000)
    assert all(row.forward > 0 and row.backward > 0 for row in p.rows)
    assert [row.seconds for row in p.rows] == sorted((row.seconds for row in p.rows), reverse=True)


def test_views_allocate_nothing_and_nothing_is_saved_without_recording() -> None:
    x = leaf((100, 10))
    with profile() as p:
        x.T.reshape(5, 200)
        x[3:]
        with no_grad():
            mg.exp(x)
    found = {name: (r.allocated, r.saved) for name, r in rows(p).items()}
    assert found["transpose"] == (0, 0)
    assert found["getitem"] == (0, 0)
    assert found["exp"] == (8_000, 0)


class Outer(Op):
    """out = 2 exp(x), by ops that are called within it"""

    def forward(self, x: Any) -> Any:
        return (mg.exp(x) * 2).numpy().copy()

    def backward(self, dout: Any, out: Any) -> Any:
        return dout * out


class Clock:
    """Time as the tests want it: one second at each look."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += 1.0
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(profiler_module, "now", clock)
    return clock


def test_an_op_within_an_op_is_not_counted_twice(clock: Clock) -> None:
    p = Profile()
    exp, multiply, outer = (type(name, (Outer,), {})() for name in ("Exp", "Multiply", "Outer"))
    clock.time = 10.0
    p._note(exp, "forward", 2.0, ())  # from 9 to 11, and a second in which it is written down
    clock.time = 20.0
    p._note(multiply, "forward", 3.0, ())  # from 18 to 21
    clock.time = 30.0
    p._note(outer, "forward", 25.0, ())  # from 6 to 31, with all of these
    clock.time = 40.0
    p._note(exp, "forward", 4.0, ())  # from 37 to 41
    assert rows(p)["outer"].forward == 25.0 - 3.0 - 4.0
    assert rows(p)["exp"].forward == 2.0 + 4.0
    assert p.total.forward == 18.0 + 6.0 + 3.0
    starts = [event.start for event in p.events]
    assert np.diff(starts).tolist() == [9.0, -12.0, 31.0]


def test_ops_within_ops_and_rules_add_up_to_no_more_than_all() -> None:
    x = leaf(1000)
    with profile() as p:
        Outer()(x).sum().backward()
        (g,) = mg.grad((x * x * x).sum(), x, create_graph=True)
        g.sum().backward()
    assert p.total.seconds <= p._ended - p._began
    assert rows(p)["outer"].calls == rows(p)["exp"].calls == 1
    inner = next(e for e in p.events if e.op.name == "exp")
    outer = next(e for e in p.events if e.op.name == "outer")
    assert outer.start < inner.start
    assert inner.start + inner.seconds < outer.start + outer.seconds


def test_what_is_printed() -> None:
    with profile() as p:
        mg.exp(leaf(10)).sum().backward()
    lines = str(p).splitlines()
    assert lines[0].split() == ["op", "calls", "forward", "rules", "backward", "total", "share", "allocated", "saved"]
    assert {line.split()[0] for line in lines[1:3]} == {"exp", "sum"}
    assert lines[3].startswith("total")
    assert "100%" in lines[3]
    assert lines[3].endswith("88 B   80 B")
    assert lines[4].endswith(" in all, with what is done between ops")
    assert len({len(line) for line in lines[:4]}) == 1


def test_an_empty_profile_prints_and_saves(tmp_path: Path) -> None:
    with profile() as p:
        pass
    assert p.rows == ()
    assert str(p).splitlines()[1].split()[:2] == ["total", "0"]
    p.to_chrome_trace(tmp_path / "trace.json")
    assert len(json.loads((tmp_path / "trace.json").read_text())["traceEvents"]) == 1


# The trace

FORM: dict[str, type | tuple[type, ...]] = {
    "name": str, "cat": str, "ph": str, "ts": (int, float), "dur": (int, float), "pid": int, "tid": int, "args": dict,
}  # fmt: skip


def test_the_trace_has_the_form_that_browsers_read(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 2)))
    with profile() as p:
        mg.softmax_cross_entropy(model(np.ones((5, 4))), [0, 1, 0, 1, 0]).backward()
        mg.exp(leaf((2, 3)))[np.arange(2)]
    path = tmp_path / "trace.json"
    p.to_chrome_trace(path)
    trace = json.loads(path.read_text(encoding="utf-8"))
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    meta, *events = trace["traceEvents"]
    assert (meta["ph"], meta["name"]) == ("M", "process_name")
    for event in events:
        assert set(event) == set(FORM)
        assert all(isinstance(event[key], kind) for key, kind in FORM.items())
        assert event["ph"] == "X"
        assert event["ts"] >= 0
        assert event["dur"] > 0
        assert set(event["args"]) == {"op", "shapes", "line", "module"}
        assert all(isinstance(value, str) for value in event["args"].values())
        assert event["args"]["line"].startswith(f"{__file__}:")
    starts = [event["ts"] for event in events]
    assert starts == sorted(starts)
    forward = [(e["name"], e["args"]["module"]) for e in events if e["cat"] == "forward"]
    assert forward == [
        ("linear", "Sequential > 0: Linear"),
        ("relu", "Sequential > 1: Sequential > 0: ReLU"),
        ("linear", "Sequential > 1: Sequential > 1: Linear"),
        ("softmax_cross_entropy", ""),
        ("exp", ""),
        ("getitem", ""),
    ]
    assert events[0]["args"]["shapes"] == "(5, 4) (3, 4) (3,) (5, 3)"
    backward = [e["name"] for e in events if e["cat"] == "backward"]
    assert backward == ["softmax_cross_entropy.backward", "linear.backward", "relu.backward", "linear.backward"]


def test_a_trace_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with profile() as p:
        mg.exp(leaf(3))
    path = tmp_path / "trace.json"
    path.write_text("old")

    def full(fd: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match=r"Profile.to_chrome_trace: .*the disk is full"):
            p.to_chrome_trace(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["trace.json"]
    p.to_chrome_trace(str(path))
    assert json.loads(path.read_text())


def test_paths_that_are_none(tmp_path: Path) -> None:
    with profile() as p:
        pass
    with pytest.raises(DTypeError, match=r"Profile.to_chrome_trace: path: int 3"):
        p.to_chrome_trace(3)  # type: ignore[arg-type]  # on purpose
    for path in tmp_path / "no" / "trace.json", tmp_path:
        with pytest.raises(CheckpointError, match=r"^Profile.to_chrome_trace: "):
            p.to_chrome_trace(path)


# Within programs


def test_only_this_context_is_profiled_and_also_after_an_exception() -> None:
    def elsewhere() -> None:
        mg.sin(leaf(3))

    with profile() as p:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        mg.exp(leaf(3))
    assert set(rows(p)) == {"exp"}

    async def main() -> Profile:
        async def part() -> None:
            mg.cos(leaf(3))

        with profile() as p:
            await asyncio.gather(part(), part())  # tasks begun within belong to it
        return p

    assert {name: r.calls for name, r in rows(asyncio.run(main())).items()} == {"cos": 2}
    with pytest.raises(ZeroDivisionError), profile() as p:
        mg.exp(leaf(1 // 0))
    assert p.rows == ()
    with pytest.raises(mg.ShapeError), profile() as p:
        mg.exp(leaf(3)) + leaf(2)
    assert set(rows(p)) == {"exp"}
    assert p._ended > p._began


def test_nested_profiles_and_other_tools_see_the_same_ops() -> None:
    with profile() as outer, detect_anomaly():
        mg.exp(leaf(3))
        with profile() as inner:
            mg.sin(leaf(3)).sum().backward()
    assert set(rows(inner)) == {"sin", "sum"}
    assert set(rows(outer)) == {"exp", "sin", "sum"}


def test_a_rule_that_raises_leaves_the_profile_usable() -> None:
    class Raises(Op):
        """out = x, with a rule that raises"""

        def forward(self, x: Any) -> Any:
            return x * 1

        def backward(self, dout: Any) -> Any:
            raise RuntimeError("no rule")

    with profile() as p:
        with pytest.raises(RuntimeError):
            Raises()(leaf(())).backward()
        mg.exp(leaf(())).backward()
    found = {name: (r.calls, r.rules) for name, r in rows(p).items()}
    assert found == {"raises": (1, 0), "exp": (1, 1)}


def test_many_ops_in_a_row() -> None:
    with profile() as p, no_grad():
        x = leaf(())
        for _ in range(12_000):
            x = x * 1.0
    assert rows(p)["multiply"].calls == 12_000
    assert p.total.seconds <= p._ended - p._began
