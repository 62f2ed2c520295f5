"""Ops of one node: sigmoid, softmax cross-entropy and layer norm, forward and backward; and what fusing buys.

The script measures minigrad's fused sigmoid and cross-entropy against their unfused twins, 10^3 to 10^7 values and
(100, 10) to (4096, 4096) logits, float32 and float64; speed.py takes the works from here for the contest with others.
Wanted: fused at least 1.5 x faster than unfused from 10^5 values on, and at least 3 x for cross-entropy at
(1024, 1000).
"""

from __future__ import annotations

from typing import Any

import bench
import contest

SIZES = [10**3, 10**4, 10**5, 10**6, 10**7]
SHAPES = [(100, 10), (1024, 10), (256, 1000), (1024, 1000), (4096, 1000), (4096, 4096)]
ROW = 100  # values that layer norm takes together

# What is wanted of eager / PyTorch, compiled / PyTorch and compiled / JAX.
SIGMOID_LIMITS = {10**3: (0.4, 0.3, None), 10**6: (1.2, 1.0, 1.2), 10**7: (1.0, 0.8, None)}
LOSS_LIMITS = {(100, 10): (0.6, 0.35, 0.9), (1024, 1000): (1.1, 1.0, 1.2), (4096, 4096): (0.8, 0.7, 0.8)}


def sigmoid_by_hand(x: Any, dout: Any) -> bench.Step:
    """With the textbook's slope, which is 0 where out rounds to 1."""
    import numpy as np

    def step() -> Any:
        out = np.negative(x)
        np.exp(out, out=out)
        out += 1
        np.reciprocal(out, out=out)
        dx = 1 - out
        dx *= out
        dx *= dout
        return out, dx

    return step


def loss_by_hand(x: Any, t: Any) -> bench.Step:
    """The mean cross-entropy and its gradient, in few passes."""
    import numpy as np

    rows = np.arange(len(t))

    def step() -> Any:
        y = x - x.max(axis=1, keepdims=True)
        right = y[rows, t]
        np.exp(y, out=y)
        total = y.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) - right).mean()
        total *= len(t)
        y /= total
        y[rows, t] -= 1 / len(t)
        return loss, y

    return step


def layer_norm_by_hand(x: Any, W: Any, b: Any, dout: Any) -> bench.Step:
    """Over the last axis, with the gradients of x, W and b."""
    import numpy as np

    def step() -> Any:
        d = x - x.mean(axis=-1, keepdims=True)
        scale = 1 / np.sqrt(np.einsum("ij,ij->i", d, d) / d.shape[-1] + 1e-5)[:, None]
        d *= scale
        out = d * W
        out += b
        dW, db = np.einsum("ij,ij->j", dout, d), dout.sum(axis=0)
        g = dout * W
        dx = g - g.mean(axis=-1, keepdims=True)
        d *= (np.einsum("ij,ij->i", g, d) / d.shape[-1])[:, None]
        dx -= d
        dx *= scale
        return out, dx, dW, db

    return step


def sigmoid_work(n: int, dtype: str = "float32") -> contest.Work:
    """Sigmoid and its gradient of n values, for an incoming gradient of ones."""
    import numpy as np

    x = (np.random.default_rng(0).normal(size=n) * 3).astype(dtype)
    dout = np.ones_like(x)
    return contest.Work(
        family="sigmoid, forward and backward", name=f"{n:,}", size=n, f=lambda F, x: F.sigmoid(x), leaves=(x,),
        constants=(), dout=dout, control=lambda: sigmoid_by_hand(x, dout),
        limits=SIGMOID_LIMITS.get(n, (None, None, None)),
    )  # fmt: skip


def loss_work(shape: tuple[int, int], dtype: str = "float32") -> contest.Work:
    """The mean cross-entropy and its gradient."""
    import numpy as np

    rng = np.random.default_rng(1)
    x, t = (rng.normal(size=shape) * 3).astype(dtype), rng.integers(0, shape[1], shape[0])
    return contest.Work(
        family="softmax cross-entropy, forward and backward", name=f"({shape[0]}, {shape[1]})", size=x.size,
        f=lambda F, x, t: F.cross_entropy(x, t), leaves=(x,), constants=(t,), control=lambda: loss_by_hand(x, t),
        limits=LOSS_LIMITS.get(shape, (None, None, None)),
    )  # fmt: skip


def layer_norm_work(n: int) -> contest.Work:
    """Layer norm and its gradients of n values, in rows of ROW."""
    import numpy as np

    rng = np.random.default_rng(2)
    x, dout = (rng.normal(size=(n // ROW, ROW)).astype(np.float32) for _ in range(2))
    W, b = (rng.normal(size=ROW).astype(np.float32) for _ in range(2))
    return contest.Work(
        family="layer norm, forward and backward", name=f"{n:,}", size=n, f=lambda F, x, W, b: F.layer_norm(x, W, b),
        leaves=(x, W, b), constants=(), dout=dout, control=lambda: layer_norm_by_hand(x, W, b, dout),
    )  # fmt: skip


def works(*, quick: bool = False) -> list[contest.Work]:
    """Every op at every size; to see that it works, none of the large ones."""
    sizes = SIZES[:3] if quick else SIZES
    shapes = list(LOSS_LIMITS)[: 1 if quick else None]
    return [*map(sigmoid_work, sizes), *map(loss_work, shapes), *map(layer_norm_work, sizes)]


def main() -> None:
    """Race fused against unfused at all sizes and print one table for each op and dtype."""
    chosen = bench.options(__doc__)
    report = bench.Report("Fused against unfused", chosen)
    import numpy as np
    from peers import Minigrad

    from minigrad import unfused

    fused, pieces = Minigrad(), Minigrad()
    pieces.sigmoid, pieces.cross_entropy = unfused.sigmoid, unfused.softmax_cross_entropy
    smallest, at_1024 = {}, {}
    plans: list[tuple[str, Any, list[Any]]] = [
        ("sigmoid", sigmoid_work, SIZES[:3] if chosen.quick else SIZES),
        ("softmax_cross_entropy", loss_work, SHAPES[:4] if chosen.quick else SHAPES),
    ]
    for op, make, sizes in plans:
        for dtype in ("float32", "float64"):
            rows = []
            for size in sizes:
                bench.progress(f"{op}, {dtype}, {size}")
                work = make(size, dtype)
                steps = {"fused": work.step(fused), "unfused": work.step(pieces)}
                want = steps["fused"]()[1]
                np.testing.assert_allclose(steps["unfused"]()[1], want, rtol=1e-3, atol=1e-7)
                t = bench.race(
                    steps, rounds=3 if chosen.quick else 21, seconds=0.002 if chosen.quick else 0.02, limit=5
                )
                gain = t["unfused"] / t["fused"]
                if work.size >= 10**5:
                    smallest[op] = min(smallest.get(op, gain), gain)
                if size == (1024, 1000):
                    at_1024[dtype] = gain
                rows.append([work.name, bench.duration(t["fused"]), bench.duration(t["unfused"]), f"{gain:.2f}"])
            report.table(
                f"{op}, {dtype}, forward and backward", ["values", "fused", "unfused", "unfused / fused"], rows
            )
    print()
    for op, gain in smallest.items():
        report.wanted(f"{op}: unfused / fused, the least from 10^5 values on", gain, 1.5, at_least=True)
    for dtype, gain in at_1024.items():
        report.wanted(f"softmax_cross_entropy: unfused / fused at (1024, 1000), {dtype}", gain, 3, at_least=True)
    report.close()


if __name__ == "__main__":
    main()
