"""A work, written once for every framework, and the contest of all that can do it.

Each contestant is checked against hand-written NumPy, the control, before it is timed: values, gradients, and after
three steps of training the parameters. Then they take turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bench

CONTROL = "NumPy by hand"


@dataclass
class Work:
    """What is to be done: f(F, *leaves, *constants), where F is a peer, and what of it is wanted.

    family, size: whose plot it belongs to, and where on it. kind: "gradients" for f and its gradient for dout (None for
    the loss itself), "training" for a step of gradient descent, "hvp" for the Hessian times vs.
    control: a step of the same by hand, made anew each time, with the same results.
    flops: of its matrix products, forward and backward. needs: functions that not every peer has.
    limits: what is wanted of eager / PyTorch, compiled / PyTorch and compiled / JAX, with one thread. hand: of eager /
    NumPy by hand.
    without: peers that are left out, with the reason.
    """

    family: str
    name: str
    size: float
    f: Callable[..., Any]
    leaves: Sequence[Any]
    constants: Sequence[Any]
    control: Callable[[], bench.Step]
    kind: str = "gradients"
    dout: Any = None
    vs: Sequence[Any] = ()
    flops: float = 0.0
    needs: Sequence[str] = ()
    limits: tuple[float | None, float | None, float | None] = (None, None, None)
    hand: float | None = None
    without: dict[str, str] = field(default_factory=dict)

    def step(self, peer: Any) -> bench.Step:
        """The peer's step."""
        if self.kind == "training":
            return peer.training(self.f, self.leaves, self.constants)
        if self.kind == "hvp":
            return peer.hvp(self.f, self.leaves, self.constants, self.vs)
        return peer.gradients(self.f, self.leaves, self.constants, self.dout)

    def moved(self, results: Sequence[Any]) -> int:
        """Bytes that have to be moved however it is done: every array given read once, every result written once."""
        given = [*self.leaves, *self.constants, *self.vs, *([] if self.dout is None else [self.dout])]
        return sum(a.nbytes for a in itertools.chain(given, results))


def contestants(work: Work, peers: Sequence[Any]) -> tuple[dict[str, bench.Step], dict[str, str], list[Any]]:
    """The steps of all that can do the work and agree with the control; remarks on peers; the control's results.

    Raises AssertionError where a contestant computes something else: times of wrong results are worth nothing.
    """
    import numpy as np

    steps: dict[str, bench.Step] = {}
    remarks: dict[str, str] = {}
    control = work.control()
    exact = [[np.array(a) for a in control()] for _ in range(3)]
    steps[CONTROL] = control
    for peer in peers:
        bench.progress(f"{work.name}: {peer.name}")
        if peer.name in work.without:
            remarks[peer.name] = f"left out, {work.without[peer.name]}"
            continue
        missing = [name for name in (work.kind, *work.needs) if not hasattr(peer, name)]
        if missing:
            remarks[peer.name] = f"left out, has no {', no '.join(missing)}"
            continue
        try:
            step = work.step(peer)
            got = [peer.numbers(step()) for _ in range(3)]
        except Exception as error:
            first, *_ = [*str(error).strip().splitlines(), ""]
            remarks[peer.name] = f"left out, {type(error).__name__}: {first[:120]}"
            continue
        # Training is followed through all steps; otherwise the last call shows what the ones to be timed will give.
        for i in range(3) if work.kind == "training" else [2]:
            assert len(got[i]) == len(exact[i]), f"{work.name}: {peer.name} gives {len(got[i])} results"
            for a, want in zip(got[i], exact[i], strict=True):
                if a.dtype != np.float32:
                    remarks[peer.name] = f"computes in {a.dtype}"
                bar = 2e-5 * max(1e-6, float(np.abs(want).max())) + 2e-3 * np.abs(want)
                agree = np.abs(a.reshape(want.shape) - want) <= bar
                assert agree.all(), f"{work.name[:80]}: {peer.name} differs from the control in step {i + 1}"
        steps[peer.name] = step
    return steps, remarks, exact[0]


def run(work: Work, peers: Sequence[Any], *, quick: bool) -> dict[str, Any]:
    """What a report keeps of a work: the median of each contestant, remarks, bytes and flops."""
    steps, remarks, results = contestants(work, peers)
    times = bench.race(steps, rounds=3 if quick else 21, seconds=0.002 if quick else 0.02, limit=1 if quick else 8)
    return {
        "family": work.family, "name": work.name, "size": work.size, "medians": times, "remarks": remarks,
        "bytes": work.moved(results), "flops": work.flops,
    }  # fmt: skip


def label(work: dict[str, Any]) -> str:
    """A work's name where its family is not told."""
    return str(work["name"] if work["family"] in work["name"] else f"{work['family']} {work['name']}")


def publish(report: bench.Report, found: Sequence[dict[str, Any]]) -> None:
    """A table for each family, contestants down and works across; who is left out, and why; what is wanted."""
    for family in dict.fromkeys(work["family"] for work in found):
        works = [work for work in found if work["family"] == family]
        names = dict.fromkeys(name for work in works for name in work["medians"])
        rows = [
            [name, *(bench.duration(work["medians"][name]) if name in work["medians"] else "" for work in works)]
            for name in names
        ]
        report.table(family, ["", *(work["name"] for work in works)], rows)
    reasons: dict[tuple[str, str], list[str]] = {}
    for work in found:
        for name, why in work["remarks"].items():
            reasons.setdefault((name, why), []).append(label(work))
    for (name, why), works in reasons.items():
        report.note(f"{name}: {why} ({'; '.join(works)})")
    report.content["works"] = list(found)


def judge(report: bench.Report, works: Sequence[Work], found: Sequence[dict[str, Any]]) -> None:
    """What is wanted of each work beside what was found; a ratio without one of its two is said to be missing."""
    if report.content["threads"] != "1":
        report.note("What is wanted is asked of one thread: see the run with --threads 1.")
        return
    pairs = [("minigrad", "PyTorch"), ("minigrad, compiled", "PyTorch"), ("minigrad, compiled", "JAX, jit")]
    for work, result in zip(works, found, strict=True):
        t = result["medians"]
        for (ours, theirs), limit in [*zip(pairs, work.limits, strict=True), (("minigrad", CONTROL), work.hand)]:
            if limit is None:
                continue
            if ours in t and theirs in t:
                report.wanted(f"{label(result)}: {ours} / {theirs}", t[ours] / t[theirs], limit)
            else:
                absent = ours if ours not in t else theirs
                report.note(f"{label(result)}: {ours} / {theirs}, wanted at most {limit:g}: {absent} was not measured")


def main(description: str | None, title: str, works: Callable[[], Sequence[Work]]) -> None:
    """A script that is a contest in these works and nothing else."""
    chosen = bench.options(description)
    report = bench.Report(title, chosen)
    from peers_compiled import present

    (peers, absent), wanted = present(quick=chosen.quick), works()
    for line in absent:
        report.note(line)
    found = [run(work, peers, quick=chosen.quick) for work in wanted]
    publish(report, found)
    print()
    judge(report, wanted, found)
    report.close()
