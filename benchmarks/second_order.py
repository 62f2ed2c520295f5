"""A second derivative: the Hessian of a small network's loss times a vector, for all parameters at once, float32.

64-50-10 with tanh, batch 32, softmax cross-entropy. The control is Pearlmutter's product (Fast exact multiplication by
the Hessian, 1994) by hand in NumPy.
"""

from __future__ import annotations

from typing import Any

import bench
import contest

INPUTS, HIDDEN, CLASSES, BATCH = 64, 50, 10, 32


def loss(F: Any, W1: Any, b1: Any, W2: Any, b2: Any, x: Any, t: Any) -> Any:
    """The network's."""
    return F.cross_entropy(F.linear(F.tanh(F.linear(x, W1, b1)), W2, b2), t)


def by_hand(params: Any, vs: Any, x: Any, t: Any) -> bench.Step:
    """Each value beside its change along vs, forward and backward."""
    import numpy as np

    (W1, b1, W2, b2), (V1, c1, V2, c2) = params, vs
    rows, n = np.arange(len(t)), np.float32(len(t))

    def step() -> Any:
        z, dz = np.tanh(x @ W1.T + b1), x @ V1.T + c1
        slope = 1 - z * z
        dz *= slope
        y, dy = z @ W2.T + b2, z @ V2.T + dz @ W2.T + c2
        y = np.exp(y - y.max(axis=1, keepdims=True))
        y /= y.sum(axis=1, keepdims=True)
        dg = y * (dy - (y * dy).sum(axis=1, keepdims=True)) / n  # the change of the gradient at the scores
        y[rows, t] -= 1
        g = y / n
        back, dback = g @ W2, dg @ W2 + g @ V2
        dback = dback * slope - 2 * back * z * dz
        return dback.T @ x, dback.sum(axis=0), dg.T @ z + g.T @ dz, dg.sum(axis=0)

    return step


def work() -> contest.Work:
    """The product, for one vector."""
    import numpy as np

    rng = np.random.default_rng(0)
    shapes = (HIDDEN, INPUTS), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)
    params = [(rng.normal(size=s) * 0.2).astype(np.float32) for s in shapes]
    vs = [rng.normal(size=s).astype(np.float32) for s in shapes]
    x, t = rng.normal(size=(BATCH, INPUTS)).astype(np.float32), rng.integers(0, CLASSES, BATCH)
    return contest.Work(
        family="Hessian-vector product", name=f"Hessian-vector product, {INPUTS}-{HIDDEN}-{CLASSES} / {BATCH}",
        size=BATCH, f=loss, leaves=params, constants=(x, t), vs=vs, kind="hvp",
        control=lambda: by_hand(params, vs, x, t), flops=2.0 * BATCH * HIDDEN * (4 * INPUTS + 7 * CLASSES),
    )  # fmt: skip


if __name__ == "__main__":
    contest.main(__doc__, "A second derivative", lambda: [work()])
