"""What work costs as it grows: nodes, batch, width and depth; 10^5 training steps; eight threads at once.

Nodes: chains of 10^3 to 10^6 additions of one value, each length in a process of its own, the lengths in turn, with the
garbage collector off. Time is that of forward, of backward and of `del`; memory is that of the graph as it stands after
forward (tracemalloc, in runs of their own), and what is left of it after `del`.
Batch, width and depth: a training step of a network, eager, compiled and by hand in NumPy, all points in turns; the
cost of a unit of work (a sample, a flop of a product, a layer) is compared between neighbours. Where the control
jumps as much as minigrad does, the jump is the machine's: caches and BLAS.
Wanted: time and bytes per node flat within 1.5 x, at most 1 KB per node, nothing left over; no unit's cost more than
1.5 x its smaller neighbour's; resident memory flat within 1 % and the time of a step within 10 % over the training;
eight threads that give, to the last bit, what one gives.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import bench
import book_step
import contest

LENGTHS = [10**3, 10**4, 10**5, 10**6]
PEERS = {"minigrad": "minigrad", "PyTorch": "torch", "autograd": "autograd"}

# What grows: its values, the layers and the batch of the network at one value, how many units of work that is.
AXES: dict[str, tuple[list[int], Callable[[int], tuple[list[int], int]], Callable[[int], float], str]] = {
    "batch": (
        [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000],
        lambda n: ([784, 50, 10], n), lambda n: n, "sample",
    ),
    "width": (
        [16, 32, 64, 128, 256, 512, 1024, 2048, 4096],
        lambda n: ([n, n, n, 10], 100), lambda n: book_step.flops([n, n, n, 10], 100), "flop of a product",
    ),
    "depth": (
        [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
        lambda n: ([32] * n + [10], 32), lambda n: n, "layer",
    ),
}  # fmt: skip

JUMP = 1.5


def chain_of(who: str) -> tuple[Any, Any]:
    """(forward of a length, backward of its result)."""
    if who == "autograd":
        return autograd_chain()
    x: Any
    if who == "PyTorch":
        import torch

        x = torch.tensor(1.0, requires_grad=True)
    else:
        import minigrad as mg

        x = mg.Tensor(1.0, requires_grad=True)

    def forward(n: int) -> Any:
        y = x
        for _ in range(n):
            y = y + 1.0
        return y

    return forward, lambda y: y.backward()


def autograd_chain() -> tuple[Any, Any]:
    """The same in autograd, with the forward half of its own vjp."""
    from autograd.core import VJPNode, backward_pass
    from autograd.tracer import new_box

    def forward(n: int) -> Any:
        import numpy as np

        start = VJPNode.new_root()
        y = x = new_box(np.ones(1), 0, start)
        for _ in range(n):
            y = y + x
        return y

    return forward, lambda y: backward_pass(y._value, y._node)


def timed(who: str, n: int) -> dict[str, float]:
    """Seconds per node for forward, backward and del of one chain, after a short one to warm up."""
    forward, backward = chain_of(who)
    backward(forward(1000))
    gc.disable()
    repeats = max(1, 10**5 // n)
    total = {"forward": 0.0, "backward": 0.0, "del": 0.0}
    for _ in range(repeats):
        began = time.perf_counter()
        y = forward(n)
        middle = time.perf_counter()
        backward(y)
        ended = time.perf_counter()
        del y
        total["del"] += time.perf_counter() - ended
        total["forward"] += middle - began
        total["backward"] += ended - middle
    return {key: seconds / repeats / n for key, seconds in total.items()}


def resident() -> int:
    """Bytes of memory that this process holds: what tracemalloc does not see in PyTorch, it does."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def weighed(who: str, n: int) -> dict[str, float]:
    """Bytes per node of a standing graph, and what of it is left after `del` with the collector off."""
    import tracemalloc

    forward, backward = chain_of(who)
    backward(forward(1000))
    gc.collect()
    gc.disable()
    before = resident()
    y = forward(n)
    by_system = (resident() - before) / n
    del y
    tracemalloc.start()
    y = forward(n)
    standing, _ = tracemalloc.get_traced_memory()
    del y
    empty, _ = tracemalloc.get_traced_memory()  # what Python keeps in its free lists, from the first time on
    y = forward(n)
    del y
    left, _ = tracemalloc.get_traced_memory()
    y = forward(n)
    backward(y)
    del y
    left_after_backward, _ = tracemalloc.get_traced_memory()
    left, left_after_backward = left - empty, left_after_backward - empty
    return {"bytes": standing / n, "rss": by_system, "left": left, "left after backward": left_after_backward}


def nodes(report: bench.Report) -> None:
    """Time and bytes per node, for chains of all lengths."""
    quick = report.content["quick"]
    peers = [who for who, name in PEERS.items() if bench.available(name)]
    lengths = LENGTHS[:2] if quick else LENGTHS
    rounds = 1 if quick else 3
    times: dict[tuple[str, int], list[dict[str, float]]] = {(who, n): [] for who in peers for n in lengths}
    for i in range(rounds):
        for who, n in times:
            bench.progress(f"round {i + 1} of {rounds}: {who}, {n} nodes")
            times[who, n].append(child("time", who, n))
    bench.progress("")
    rows, per_node = [], {}
    for (who, n), runs in times.items():
        parts = {part: statistics.median(run[part] for run in runs) for part in ("forward", "backward", "del")}
        per_node[who, n] = statistics.median(sum(run.values()) for run in runs)
        rows.append([f"{who}, {n:,} nodes", *map(bench.duration, (*parts.values(), per_node[who, n]))])
    report.table("time per node", ["", "forward", "backward", "del", "all"], rows)
    weights = {}
    for n in lengths:
        bench.progress(f"memory of {n} nodes")
        weights["minigrad", n] = child("memory", "minigrad", n)
    for who in peers[1:]:
        weights[who, lengths[-2]] = child("memory", who, lengths[-2])
    rows = []
    for (who, n), found in weights.items():
        traced = "not seen" if who == "PyTorch" else f"{found['bytes']:.0f}"
        left = "not seen" if who == "PyTorch" else f"{found['left']:.0f}, {found['left after backward']:.0f}"
        rows.append([f"{who}, {n:,} nodes", traced, f"{found['rss']:.0f}", left])
    report.table(
        "memory of a graph",
        ["", "bytes per node, traced", "bytes per node, resident", "bytes left after del, after backward and del"],
        rows,
    )
    reach = f"{lengths[0]:,} to {lengths[-1]:,} nodes"
    ours, bytes_ = ([of[n] for n in lengths] for of in (
        {n: per_node["minigrad", n] for n in lengths}, {n: weights["minigrad", n]["bytes"] for n in lengths}
    ))  # fmt: skip
    report.wanted(f"time per node, slowest / fastest of {reach}", max(ours) / min(ours), 1.5)
    report.wanted(f"bytes per node, largest / smallest of {reach}", max(bytes_) / min(bytes_), 1.5)
    longest = weights["minigrad", lengths[-1]]
    report.wanted("bytes per node, traced", max(bytes_), 1024)
    report.wanted("bytes per node, resident", longest["rss"], 1024)
    left = max(longest["left"], longest["left after backward"])
    report.wanted("bytes per node left after del", left / lengths[-1], 0.1)
    curves = {who: [[n, per_node[who, n]] for n in lengths] for who in peers}
    report.content.setdefault("growth", {})["nodes"] = {"unit": "node", "curves": curves}


def growing(report: bench.Report, axis: str) -> None:
    """The cost of a unit of work along one axis, and where it jumps."""
    from peers import Minigrad, MinigradCompiled

    quick = report.content["quick"]
    values, network, units, unit = AXES[axis]
    values = values[: len(values) // 2] if quick else values
    peers = [Minigrad(), *([] if MinigradCompiled.why_not() else [MinigradCompiled()])]
    names = [contest.CONTROL, *(peer.name for peer in peers)]
    steps, remarks = {}, {}
    for n in values:
        found, said, _ = contest.contestants(book_step.work(*network(n)), peers)
        steps.update({f"{who} at {axis} {n}": step for who, step in found.items()})
        remarks.update({f"{who} at {axis} {n}": why for who, why in said.items()})
    t = bench.race(steps, rounds=3 if quick else 15, seconds=0.002 if quick else 0.02, limit=3 if quick else 60)
    for who, why in remarks.items():
        report.note(f"{who}: {why}")
    each = {
        who: {n: t[f"{who} at {axis} {n}"] / units(n) for n in values if f"{who} at {axis} {n}" in t} for who in names
    }
    rows = [[f"{n:,}", *(bench.duration(of[n] * units(n)) if n in of else "" for of in each.values()),
             *(bench.duration(of[n]) if n in of else "" for of in each.values())] for n in values]  # fmt: skip
    head = [axis, *each, *(f"{who}, per {unit}" for who in each)]
    report.table(f"a training step as its {axis} grows", head, rows)
    for who in names[1:]:
        ratios = {(m, n): each[who][n] / each[who][m] for m, n in pairwise(each[who])}
        if not ratios:
            continue
        report.wanted(
            f"{who}, {axis}: the largest ratio of a unit's costs between neighbours", max(ratios.values()), JUMP
        )
        for (m, n), ratio in ratios.items():
            if ratio > JUMP:
                same = each[contest.CONTROL][n] / each[contest.CONTROL][m]
                report.note(f"{who}: {ratio:.2f} x from {axis} {m} to {n}; {contest.CONTROL} {same:.2f} x")
    curves = {who: [[n, value] for n, value in of.items()] for who, of in each.items()}
    report.content.setdefault("growth", {})[axis] = {"unit": unit, "curves": curves}


def trainer(seed: int, *, compiled: bool) -> tuple[Callable[[], Any], list[Any]]:
    """A training step of a small network, 64-50-10 with Adam on batches of 32 that differ; and its parameters."""
    import numpy as np

    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(seed)
    X, T = rng.normal(size=(1024, 64)).astype(np.float32), rng.integers(0, 10, 1024)
    model = nn.Sequential(nn.Linear(64, 50, dtype="float32"), nn.ReLU(), nn.Linear(50, 10, dtype="float32"))
    params = list(model.parameters())
    for p in params:
        p.data[...] = rng.normal(size=p.shape) * 0.1
    optimizer, taken = optim.Adam(params, lr=1e-3), 0

    def step(x: Any, t: Any) -> Any:
        optimizer.zero_grad()
        loss = mg.softmax_cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        return loss

    if compiled:
        step = mg.compile(step)

    def next_step() -> Any:
        nonlocal taken
        i = taken % 32 * 32
        taken += 1
        return step(X[i : i + 32], T[i : i + 32])

    return next_step, params


def trained(how: str, n: int) -> dict[str, Any]:
    """Resident bytes and seconds a step, in 20 parts of n steps, after n / 20 steps to warm up."""
    step, _ = trainer(0, compiled=how == "compiled")
    part, sizes, times = n // 20, [], []
    for i in range(21):
        bench.progress(f"{how}: step {i * part} of {21 * part}" if i % 5 == 0 else "")
        each = []
        for _ in range(part):
            began = time.perf_counter()
            step()
            each.append(time.perf_counter() - began)
        sizes.append(resident())
        times.append(statistics.median(each))
    return {"rss": sizes, "times": times}


def hows() -> list[str]:
    """Eager, and compiled where the package can."""
    from peers import MinigradCompiled

    return ["eager", *([] if MinigradCompiled.why_not() else ["compiled"])]


def training(report: bench.Report) -> None:
    """Memory and time of very many steps."""
    n = 2000 if report.content["quick"] else 10**5
    rows, found = [], {}
    for how in hows():
        bench.progress(f"{n:,} training steps, {how}")
        run = found[how] = child("training", how, n)
        sizes, times = run["rss"], run["times"]
        early, late = statistics.median(times[1:6]), statistics.median(times[-5:])
        row = [how, f"{sizes[0] / 2**20:.1f} MiB", f"{sizes[-1] / 2**20:.1f} MiB", bench.duration(early)]
        rows.append([*row, bench.duration(late)])
    head = ["", "resident after warming up", "at the end", "a step, first quarter", "last quarter"]
    report.table(f"{n:,} training steps, 64-50-10, batch 32, Adam", head, rows)
    for how, run in found.items():
        sizes, times = run["rss"], run["times"]
        report.wanted(f"{how}: resident at most, over that after warming up", max(sizes) / sizes[0], 1.01)
        slower = statistics.median(times[-5:]) / statistics.median(times[1:6])
        report.wanted(f"{how}: a step of the last quarter over one of the first", slower, 1.1)


def together(report: bench.Report) -> None:
    """Eight models trained one after another, and at once in eight threads."""
    import numpy as np

    n, models = (50 if report.content["quick"] else 1000), range(8)
    rows, differing = [], {}
    for how in hows():
        bench.progress(f"eight models, {n:,} steps each, {how}")

        def train(seed: int, ends: dict[int, Any], how: str = how) -> None:
            step, params = trainer(seed, compiled=how == "compiled")
            for _ in range(n):
                step()
            ends[seed] = [p.data.copy() for p in params]

        alone: dict[int, Any] = {}
        began = time.perf_counter()
        for seed in models:
            train(seed, alone)
        one = time.perf_counter() - began
        at_once: dict[int, Any] = {}
        threads = [threading.Thread(target=train, args=(seed, at_once)) for seed in models]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        eight = time.perf_counter() - began
        rows.append([how, f"{8 * n / one:,.0f}", f"{8 * n / eight:,.0f}", f"{one / eight:.2f}"])
        differing[how] = sum(
            seed not in at_once
            or any(not np.array_equal(a, b) for a, b in zip(alone[seed], at_once[seed], strict=True))
            for seed in models
        )
    head = ["", "steps a second, one thread", "eight threads", "gain"]
    report.table("eight models, 64-50-10, batch 32, Adam", head, rows)
    for how, count in differing.items():
        report.wanted(f"{how}: models that differ from those trained alone", count, 0)


def child(what: str, who: str, n: int) -> dict[str, Any]:
    """The result of a part of this script, run in a process of its own."""
    command = [sys.executable, __file__, "--child", what, who, str(n)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


CHILDREN: dict[str, Callable[[str, int], dict[str, Any]]] = {"time": timed, "memory": weighed, "training": trained}
PARTS: dict[str, Callable[[bench.Report], None]] = {
    "nodes": nodes,
    **{axis: lambda report, axis=axis: growing(report, axis) for axis in AXES},
    "training": training,
    "threads": together,
}


def main() -> None:
    """All parts, or those that are asked for."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--only", choices=list(PARTS), action="append", help="a part; may be given again")
        parser.add_argument("--child", nargs=3, metavar=("WHAT", "WHO", "N"), help=argparse.SUPPRESS)

    chosen = bench.options(__doc__, extra)
    if chosen.child:
        what, who, n = chosen.child
        print(json.dumps(CHILDREN[what](who, int(n))))
        return
    report = bench.Report("Cost as work grows", chosen)
    for name in chosen.only or PARTS:
        PARTS[name](report)
    report.close()


if __name__ == "__main__":
    main()
