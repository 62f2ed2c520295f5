"""What one operation costs beyond its arithmetic: 100 times y = y * a + a on 32 float32 values, sum, backward.

Both y and a require a gradient, so that a step makes 200 nodes. The control is the same written by hand in NumPy.
Wanted: at most 0.5 x PyTorch's time, 0.2 x when compiled, and at most 1.8 x NumPy's.
"""

from __future__ import annotations

from typing import Any

import bench
import contest

LENGTH = 100


def chain(F: Any, first: Any, a: Any) -> Any:
    """The sum of what the chain ends in."""
    y = first
    for _ in range(LENGTH):
        y = y * a + a
    return y.sum()


def by_hand(first: Any, a: Any) -> bench.Step:
    """The chain and its derivative."""
    import numpy as np

    def step() -> Any:
        y, ys = first, []
        for _ in range(LENGTH):
            ys.append(y)
            y = y * a + a
        loss = y.sum()
        dy, da = np.ones_like(y), np.zeros_like(a)
        for y in reversed(ys):
            da += dy
            da += dy * y
            dy = dy * a
        return loss, dy, da

    return step


def work() -> contest.Work:
    """The chain on values that do not grow."""
    import numpy as np

    rng = np.random.default_rng(0)
    a = rng.uniform(0.1, 0.5, 32).astype(np.float32)
    first = rng.uniform(-1, 1, 32).astype(np.float32)
    return contest.Work(
        family="chain", name=f"chain of {2 * LENGTH} small nodes", size=2 * LENGTH, f=chain, leaves=(first, a),
        constants=(), control=lambda: by_hand(first, a), limits=(0.5, 0.2, None), hand=1.8,
    )  # fmt: skip


if __name__ == "__main__":
    contest.main(__doc__, "Overhead of one operation", lambda: [work()])
