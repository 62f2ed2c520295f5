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
from numpy.lib.stride_tricks import as_strided

import minigrad as mg
from minigrad import CheckpointError, DTypeError, GraphError, Tensor, nn, no_grad
from minigrad.debug import Profile, detect_anomaly, profile
from minigrad.debug import profiler as profiler_module
from minigrad.op import Op
from minigrad.watch import Call, Watcher, now, watched, watchers, watching


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


class Twice(Op):
    """out = 2 exp(x), by ops that are called within it"""

    def forward(self, x: Any) -> Any:
        return (mg.exp(x) * 2).numpy().copy()

    def backward(self, dout: Any, out: Any) -> Any:
        return dout * out


def test_an_op_within_an_op_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    p = Profile()
    inner, also_inner, outer = (type(name, (Twice,), {})() for name in ("Inner", "AlsoInner", "Around"))
    written = iter([12.0, 22.0, 32.0, 42.0])
    monkeypatch.setattr(profiler_module, "now", lambda: next(written))
    call = Call(None)
    p._note(inner, "forward", 9.0, 11.0, (), call)  # and a second in which it is written down
    p._note(also_inner, "forward", 18.0, 21.0, (), call)
    p._note(outer, "forward", 6.0, 31.0, (), call)  # with all of these
    p._note(inner, "forward", 37.0, 41.0, (), call)
    assert rows(p)["around"].forward == 25.0 - 3.0 - 4.0
    assert rows(p)["inner"].forward == 2.0 + 4.0
    assert p.total.forward == 18.0 + 6.0 + 3.0
    assert [event.start for event in p.events] == [9.0, 18.0, 6.0, 37.0]
    assert [event.seconds for event in p.events] == [2.0, 3.0, 25.0, 4.0]


def test_ops_within_ops_and_rules_add_up_to_no_more_than_all() -> None:
    x = leaf(1000)
    with profile() as p:
        Twice()(x).sum().backward()
        (g,) = mg.grad((x * x * x).sum(), x, create_graph=True)
        g.sum().backward()
    assert p.total.seconds <= p._ended - p._began
    assert rows(p)["twice"].calls == rows(p)["exp"].calls == 1
    inner = next(e for e in p.events if e.op.name == "exp")
    outer = next(e for e in p.events if e.op.name == "twice")
    assert outer.start < inner.start
    assert inner.start + inner.seconds < outer.start + outer.seconds


def test_what_is_printed() -> None:
    with profile() as p:
        mg.exp(leaf(10)).sum().backward()
    lines = str(p).splitlines()
    columns = "op calls forward rules backward total share allocated gradients saved"
    assert lines[0].split() == columns.split()
    assert {line.split()[0] for line in lines[1:3]} == {"exp", "sum"}
    assert lines[3].startswith("total")
    assert "100%" in lines[3]
    assert lines[3].endswith("88 B       80 B   80 B")
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


class Keeping(Op):
    """out = x * 2"""

    keeps = "twice"
    fill: Any = None

    def forward(self, x: Any) -> Any:
        return x * 2

    def forward_and_keep(self, x: Any) -> Any:
        return x * 2, (np.full(x.shape, 2.0), x[:1])

    def twice(self, x: Any) -> Any:
        return x * 0 + 2, x[:1]

    def backward(self, dout: Any, twice: Any) -> Any:
        return dout * twice[0]


def test_bytes_of_what_is_kept_and_of_gradients() -> None:
    x = leaf((100, 10))
    with profile() as p:
        Keeping()(x).sum().backward()
        with no_grad():
            Keeping()(x)
        x.T.sum().backward()
    found = {name: (r.allocated, r.gradients) for name, r in rows(p).items()}
    assert found["keeping"] == (8_000 + 8_000 + 8_000, 8_000)
    assert found["transpose"] == (0, 0)
    assert found["sum"] == (16, 0)  # dout, stretched
    assert p.total.gradients == 8_000


def test_an_array_is_saved_once_with_all_its_views() -> None:
    z, W, V = np.ones((100, 50)), leaf((10, 1)), leaf((50, 1))
    for order in 1, -1:
        with profile() as p:
            kept = [mg.matmul(*args) for args in ((z[:, :10], W), (z, V))[::order]]
        assert rows(p)["matmul"].saved == 8 * (5000 + 10 + 50)
        del kept
    w = leaf(3)
    for stretched in np.broadcast_to(np.ones(3), (1000, 3)), as_strided(np.ones(3), (1000, 3), (0, 8)):
        with profile() as p:
            y = mg.multiply(w, stretched)
        assert rows(p)["multiply"].saved == 24 + 24
        del y


class Slow(Watcher):
    """Another one who looks on, for as long as it takes the clock to go on by a millisecond."""

    def called(self, *told: Any) -> None:
        until = now() + 1e-3
        while now() < until:
            pass

    def before_rule(self, *told: Any) -> None:
        self.called()

    def after_rule(self, *told: Any) -> None:
        self.called()


def test_the_time_of_others_who_look_on_is_no_ops() -> None:
    with watching(Slow()), profile() as p:
        Twice()(leaf(3)).sum().backward()
    assert all(event.seconds < 1e-3 for event in p.events if event.op.name != "twice" or event.direction == "backward")
    assert [e.op.name for e in sorted(p.events, key=lambda e: e.start)][:3] == ["twice", "exp", "multiply"]
    inner = [e for e in p.events if e.op.name in ("exp", "multiply")]
    outer = next(e for e in p.events if e.op.name == "twice")
    assert all(outer.start < e.start and e.start + e.seconds < outer.start + outer.seconds for e in inner)
    assert rows(p)["twice"].forward < 1e-3 < outer.seconds
    assert len(p.events) == 6


def test_a_users_op_with_the_name_of_one_of_the_packages_has_a_row_of_its_own() -> None:
    class Exp(Op):
        """out = exp(x)"""

        def forward(self, x: Any) -> Any:
            return np.exp(x)

        def backward(self, dout: Any, out: Any) -> Any:
            return dout * out

    with profile() as p:
        Exp()(mg.exp(leaf(3)))
    own = f"{__name__}.{Exp.__qualname__}"
    assert {name: r.calls for name, r in rows(p).items()} == {"exp": 1, own: 1}


def test_rules_have_the_line_and_the_module_of_their_op(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid())
    path = tmp_path / "trace.json"
    for other in profile, detect_anomaly:
        with other(), profile() as p:
            loss = mg.sum(model(np.ones((2, 4))))
            loss.backward()
        p.to_chrome_trace(path)
        events = json.loads(path.read_text())["traceEvents"][1:]
        calls = {e["name"]: (e["args"]["line"], e["args"]["module"]) for e in events}
        for name in "linear", "sigmoid", "sum":
            assert calls[f"{name}.backward"] == calls[name]
        assert calls["sigmoid.backward"][1] == "Sequential > 1: Sigmoid"
    outside = mg.exp(leaf(3))
    with profile() as p:
        outside.backward(np.ones(3))
    assert (p.events[0].line, p.events[0].modules) == (None, ())


def test_a_profile_is_for_one_block_and_can_be_read_within() -> None:
    manager = profile()
    assert str(manager).endswith("0 us in all, with what is done between ops")
    with manager as p:
        mg.exp(leaf(3))
        assert p.elapsed > 0
        assert not str(p).endswith("\n0 us in all, with what is done between ops")
    assert p.elapsed == p.elapsed > 0
    with pytest.raises(GraphError, match=r"^debug.profile: a profile that has been used already; .* write `with"), p:
        pass


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
