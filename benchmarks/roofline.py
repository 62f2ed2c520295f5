"""How near each work comes to what the machine can do: the rates of a copy and of a matrix product, and their bound."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import bench
import contest

SHOWN = ("minigrad", "minigrad, compiled", "PyTorch", "JAX, jit")


def fastest(step: bench.Step, seconds: float) -> float:
    """The fastest of many calls, in seconds: the best that the machine does, whoever else is at work."""
    best, until = float("inf"), time.perf_counter() + seconds
    step()
    while time.perf_counter() < until:
        began = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - began)
    return best


def rates(*, quick: bool) -> dict[str, Any]:
    """Bytes a second of a copy of each size, what is read and what is written; flops a second of a large product."""
    import numpy as np

    seconds, copies = (0.05 if quick else 0.5), []
    for n in (2**k for k in range(14, 28 if quick else 30)):
        a, out = np.ones(n // 8, np.float32), np.ones(n // 8, np.float32)
        calls = max(1, 2**20 // n)  # enough that the clock does not count

        def copy(a: Any = a, out: Any = out, calls: int = calls) -> None:
            for _ in range(calls):
                np.copyto(out, a)

        copies.append((float(n), n * calls / fastest(copy, seconds)))
    m = 512 if quick else 1024
    x, y = (np.random.default_rng(0).normal(size=(m, m)).astype(np.float32) for _ in range(2))
    out = np.empty((m, m), np.float32)
    return {"copy": copies, "product": 2.0 * m**3 / fastest(lambda: np.matmul(x, y, out=out), 4 * seconds)}


def copy_rate(copies: Sequence[tuple[float, float]], size: float) -> float:
    """The rate of a copy that moves so many bytes, between those measured."""
    if size <= copies[0][0]:
        return copies[0][1]
    for (small, slow), (large, fast) in pairwise(copies):
        if size <= large:
            return slow + (fast - slow) * (size - small) / (large - small)
    return copies[-1][1]


def bound(work: dict[str, Any], measured: dict[str, Any]) -> float:
    """The least time of a work: the longer of moving its bytes and of computing its products."""
    moving = work["bytes"] / copy_rate(measured["copy"], work["bytes"])
    return float(max(moving, work["flops"] / measured["product"]))


def publish(report: bench.Report, found: Sequence[dict[str, Any]], *, quick: bool) -> None:
    """Tables of the rates and of the part of the bound that each contestant reaches."""
    bench.progress("roofline: rates of a copy and of a matrix product")
    measured = rates(quick=quick)
    report.content["rates"] = measured
    rows = [
        [f"copy, {size / 2**20:g} MiB read and written", f"{rate / 1e9:.3g} GB/s"] for size, rate in measured["copy"]
    ]
    rows.append(["matrix product", f"{measured['product'] / 1e9:.3g} Gflop/s"])
    report.table("what the machine does", ["", "rate"], rows)
    rows = []
    for work in found:
        least = bound(work, measured)
        by_bytes = work["bytes"] / copy_rate(measured["copy"], work["bytes"]) >= least
        row = [
            contest.label(work),
            f"{work['bytes'] / 1e6:.3g}",
            f"{work['flops'] / 1e6:.3g}",
            "bytes" if by_bytes else "products",
        ]
        row.append(bench.duration(least))
        rows.append(
            [*row, *(f"{100 * least / work['medians'][who]:.3g}%" if who in work["medians"] else "" for who in SHOWN)]
        )
    report.table(
        "part of the roofline that is reached",
        ["", "MB", "Mflop", "bound by", "least time", *SHOWN],
        rows,
    )
