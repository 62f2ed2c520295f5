"""What fusing buys: sigmoid and softmax cross-entropy, forward and backward, in one node or in primitive ones.

10^3 to 10^7 values for sigmoid, (100, 10) to (4096, 4096) logits for the loss, float32 and float64; minigrad's
fused op against its unfused twin, and against PyTorch's own fused op.
Wanted: fused at least 1.5 x faster than unfused from 10^5 values on, and at least 3 x for cross-entropy at
(1024, 1000).
"""

from __future__ import annotations

from typing import Any

import bench

SIZES = [10**3, 10**4, 10**5, 10**6, 10**7]
SHAPES = [(100, 10), (1024, 10), (256, 1000), (1024, 1000), (4096, 1000), (4096, 4096)]


def sigmoid_steps(x: Any, torch: Any) -> dict[str, bench.Step]:
    """Sigmoid and its gradient for an incoming gradient of ones."""
    import numpy as np

    import minigrad as mg
    from minigrad import unfused

    dout = np.ones_like(x)
    leaf = mg.Tensor(x, requires_grad=True)

    def ours(f: Any) -> bench.Step:
        def step() -> Any:
            leaf.grad = None
            f(leaf).backward(dout)
            return leaf.grad

        return step

    steps = {"fused": ours(mg.sigmoid), "unfused": ours(unfused.sigmoid)}
    if torch is not None:
        theirs, ones = torch.tensor(x, requires_grad=True), torch.tensor(dout)

        def step() -> Any:
            theirs.grad = None
            torch.sigmoid(theirs).backward(ones)
            return theirs.grad

        steps["PyTorch"] = step
    return steps


def loss_steps(x: Any, torch: Any) -> dict[str, bench.Step]:
    """The mean cross-entropy and its gradient."""
    import numpy as np

    import minigrad as mg
    from minigrad import unfused

    labels = np.random.default_rng(1).integers(0, x.shape[1], len(x))
    leaf = mg.Tensor(x, requires_grad=True)

    def ours(f: Any) -> bench.Step:
        def step() -> Any:
            leaf.grad = None
            f(leaf, labels).backward()
            return leaf.grad

        return step

    steps = {"fused": ours(mg.softmax_cross_entropy), "unfused": ours(unfused.softmax_cross_entropy)}
    if torch is not None:
        theirs, t = torch.tensor(x, requires_grad=True), torch.tensor(labels)

        def step() -> Any:
            theirs.grad = None
            torch.nn.functional.cross_entropy(theirs, t).backward()
            return theirs.grad

        steps["PyTorch"] = step
    return steps


def main() -> None:
    """Race all sizes and print one table for each op and dtype."""
    chosen = bench.options(__doc__)
    report = bench.Report("Fused against unfused", chosen)
    import numpy as np

    torch = bench.available("torch")
    rng = np.random.default_rng(0)
    smallest, at_1024 = {}, {}
    plans: list[tuple[str, Any, list[tuple[int, ...]]]] = [
        ("sigmoid", sigmoid_steps, [(n,) for n in (SIZES[:3] if chosen.quick else SIZES)]),
        ("softmax_cross_entropy", loss_steps, SHAPES[:4] if chosen.quick else SHAPES),
    ]
    for op, make, shapes in plans:
        for dtype in ("float32", "float64"):
            rows = []
            for shape in shapes:
                bench.progress(f"{op}, {dtype}, {shape}")
                x = (rng.normal(size=shape) * 3).astype(dtype)
                steps = make(x, torch)
                want = steps["fused"]()
                for name, step in steps.items():
                    np.testing.assert_allclose(np.asarray(step()), want, rtol=1e-3, atol=1e-7, err_msg=name)
                large = x.size > 10**6
                rounds = 3 if chosen.quick else 7 if large else 21
                t = bench.race(steps, rounds=rounds, seconds=0.002 if chosen.quick else 0.02)
                gain = t["unfused"] / t["fused"]
                if x.size >= 10**5:
                    smallest[op] = min(smallest.get(op, gain), gain)
                if shape == (1024, 1000):
                    at_1024[dtype] = gain
                size = "x".join(map(str, shape))
                row = [size, bench.duration(t["fused"]), bench.duration(t["unfused"]), f"{gain:.2f}"]
                if torch is not None:
                    row += [bench.duration(t["PyTorch"]), f"{t['fused'] / t['PyTorch']:.2f}"]
                rows.append(row)
            head = ["values", "fused", "unfused", "unfused / fused"]
            head += ["PyTorch", "fused / PyTorch"] if torch is not None else []
            report.table(f"{op}, {dtype}, forward and backward", head, rows)
    print()
    for op, gain in smallest.items():
        report.wanted(f"{op}: unfused / fused, the least from 10^5 values on", gain, 1.5, at_least=True)
    for dtype, gain in at_1024.items():
        report.wanted(f"softmax_cross_entropy: unfused / fused at (1024, 1000), {dtype}", gain, 3, at_least=True)
    report.close()


if __name__ == "__main__":
    main()
