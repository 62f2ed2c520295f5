"""Backward against numerical differentiation, on the book's network.

784-50-10 with float64, relu and softmax cross-entropy, on a batch of 10. The numerical gradient evaluates the
loss twice for each parameter, 79,520 times in all: it is timed on a few hundred parameters drawn at random
and counted up, after the whole of backward has been compared with it on those. Nothing is wanted but the
speed-up, printed.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import bench

H = 1e-4


def main() -> None:
    """Time both, compare them, print the speed-up."""
    chosen = bench.options(__doc__)
    report = bench.Report("Backward against numerical differentiation", chosen)
    import numpy as np

    import minigrad as mg

    rng = np.random.default_rng(0)
    shapes = {"W1": (784, 50), "b1": (50,), "W2": (50, 10), "b2": (10,)}
    params = {name: mg.Tensor(rng.normal(size=shape) * 0.1, requires_grad=True) for name, shape in shapes.items()}
    x, t = rng.uniform(0, 1, (10, 784)), rng.integers(0, 10, 10)

    def loss() -> Any:
        z = mg.relu(x @ params["W1"] + params["b1"])
        return mg.softmax_cross_entropy(z @ params["W2"] + params["b2"], t)

    def gradient() -> None:
        for p in params.values():
            p.grad = None
        loss().backward()

    def slope(array: Any, i: int) -> float:
        before = array.flat[i]
        array.flat[i] = before + H
        up = loss().item()
        array.flat[i] = before - H
        down = loss().item()
        array.flat[i] = before
        return float((up - down) / (2 * H))

    gradient()
    total = sum(p.size for p in params.values())
    worst, rounds, turns = 0.0, [], 3 if chosen.quick else 15
    with mg.no_grad():
        loss()
    for turn in range(turns):
        bench.progress(f"turn {turn + 1} of {turns}")
        began = time.perf_counter()
        n = 0
        while time.perf_counter() - began < 0.05:
            gradient()
            n += 1
        backward = (time.perf_counter() - began) / n
        drawn = [(p, int(i)) for p in params.values() for i in rng.integers(0, p.size, 10)]
        began = time.perf_counter()
        with mg.no_grad():
            slopes = [slope(p.data, i) for p, i in drawn]
        numerical = (time.perf_counter() - began) / len(drawn) * total
        worst = max(worst, *(abs(s - p.grad.flat[i]) for s, (p, i) in zip(slopes, drawn, strict=True)))
        rounds.append((backward, numerical))
    bench.progress("")
    backward, numerical = (statistics.median(times) for times in zip(*rounds, strict=True))
    report.table(
        f"The gradient of {total:,} parameters, 784-50-10, batch 10, float64",
        ("", "median"),
        [
            ("forward and backward", bench.duration(backward)),
            (f"numerical, {2 * total:,} losses", bench.duration(numerical)),
            ("speed-up", f"{numerical / backward:,.0f} x"),
            ("largest difference found", f"{worst:.1e}"),
        ],
    )
    assert worst < 1e-6, f"backward and numerical differentiation differ by {worst}"
    report.close()


if __name__ == "__main__":
    main()
