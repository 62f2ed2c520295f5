"""What a node costs when there are many: chains of 10^3 to 10^6 additions of one value.

Each length is measured in a process of its own, the lengths in turn, with the garbage collector off. Time is
that of forward, of backward and of `del`; memory is that of the graph as it stands after forward (tracemalloc,
in runs of their own), and what is left of it after `del`.
Wanted: time per node flat within 1.5 x from 10^3 to 10^6 nodes, at most 1 KB per node, nothing left over.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import bench

LENGTHS = [10**3, 10**4, 10**5, 10**6]
PEERS = {"minigrad": "minigrad", "PyTorch": "torch", "autograd": "autograd"}
MEMORY_LENGTH = 10**5


def minigrad_chain() -> tuple[Any, Any]:
    """(forward of a length, backward of its result)."""
    import minigrad as mg

    x = mg.Tensor(1.0, requires_grad=True)

    def forward(n: int) -> Any:
        y = x
        for _ in range(n):
            y = y + 1.0
        return y

    return forward, lambda y: y.backward()


def torch_chain() -> tuple[Any, Any]:
    """The same in PyTorch."""
    import torch

    x = torch.tensor(1.0, requires_grad=True)

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


CHAINS = {"minigrad": minigrad_chain, "PyTorch": torch_chain, "autograd": autograd_chain}


def timed(who: str, n: int) -> dict[str, float]:
    """Seconds per node for forward, backward and del of one chain, after a short one to warm up."""
    forward, backward = CHAINS[who]()
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

    forward, backward = CHAINS[who]()
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


def child(*arguments: str) -> dict[str, float]:
    """The result of this script run with arguments, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure every length and peer in turn, print the tables."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--child", nargs=3, metavar=("WHAT", "WHO", "N"), help=argparse.SUPPRESS)

    chosen = bench.options(__doc__, extra)
    if chosen.child:
        what, who, n = chosen.child
        print(json.dumps((timed if what == "time" else weighed)(who, int(n))))
        return
    report = bench.Report("Growth of a graph", chosen)
    peers = [who for who, name in PEERS.items() if bench.available(name)]
    lengths = LENGTHS[:3] if chosen.quick else LENGTHS
    rounds = 1 if chosen.quick else 5
    times: dict[tuple[str, int], list[dict[str, float]]] = {(who, n): [] for who in peers for n in lengths}
    for i in range(rounds):
        for who, n in times:
            bench.progress(f"round {i + 1} of {rounds}: {who}, {n} nodes")
            times[who, n].append(child("--child", "time", who, str(n)))
    bench.progress("")
    rows, per_node = [], {}
    for (who, n), runs in times.items():
        parts = {part: statistics.median(run[part] for run in runs) for part in ("forward", "backward", "del")}
        per_node[who, n] = statistics.median(sum(run.values()) for run in runs)
        rows.append([f"{who}, {n:,} nodes", *map(bench.duration, (*parts.values(), per_node[who, n]))])
    report.table("Time per node", ["", "forward", "backward", "del", "all"], rows)
    memory = {who: child("--child", "memory", who, str(MEMORY_LENGTH)) for who in peers}
    rows = []
    for who, found in memory.items():
        traced = "not seen" if who == "PyTorch" else f"{found['bytes']:.0f}"
        left = "not seen" if who == "PyTorch" else f"{found['left']:.0f}, {found['left after backward']:.0f}"
        rows.append([who, traced, f"{found['rss']:.0f}", left])
    report.table(
        f"Memory, {MEMORY_LENGTH:,} nodes",
        ["", "bytes per node, traced", "bytes per node, resident", "bytes left after del, after backward and del"],
        rows,
    )
    print()
    ours = [per_node["minigrad", n] for n in lengths]
    report.wanted(f"time per node, slowest / fastest of {lengths[0]:,} to {lengths[-1]:,}", max(ours) / min(ours), 1.5)
    report.wanted("bytes per node, traced", memory["minigrad"]["bytes"], 1024)
    report.wanted("bytes per node, resident", memory["minigrad"]["rss"], 1024)
    left = max(memory["minigrad"]["left"], memory["minigrad"]["left after backward"])
    report.wanted("bytes per node left after del", left / MEMORY_LENGTH, 0.1)
    report.close()


if __name__ == "__main__":
    main()
