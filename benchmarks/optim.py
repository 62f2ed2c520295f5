"""What a step of an optimiser costs: Adam and SGD with momentum, on the book's network and on a wide one, float32.

The parameters of 784-50-10 and of 784-1024-1024-10, with gradients that stay the same; minigrad against PyTorch as it
comes (foreach) and against hand-written NumPy, the control: the formulas with out= over whole arrays.
Wanted: a step at most as long as PyTorch's, with one thread, for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import bench

SIZES = {"784-50-10": (784, 50, 10), "784-1024-1024-10": (784, 1024, 1024, 10)}


def shapes(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Of the weights and biases of a network with layers of these sizes."""
    return [shape for m, n in pairwise(sizes) for shape in ((m, n), (n,))]


def control(optimizer: str, params: list[Any], grads: list[Any], lr: float) -> Callable[[], None]:
    """The same steps by hand, in place over whole arrays."""
    import numpy as np

    first, second, scratch = ([np.zeros_like(p) for p in params] for _ in range(3))
    taken = 0

    def momentum() -> None:
        for p, g, v, a in zip(params, grads, first, scratch, strict=True):
            v *= 0.9
            v += g
            np.multiply(v, lr, out=a)
            p -= a

    def adam() -> None:
        nonlocal taken
        taken += 1
        for p, g, m, v, a in zip(params, grads, first, second, scratch, strict=True):
            m *= 0.9
            np.multiply(g, 1 - 0.9, out=a)
            m += a
            v *= 0.999
            np.multiply(g, g, out=a)
            a *= 1 - 0.999
            v += a
            np.sqrt(v, out=a)
            a /= (1 - 0.999**taken) ** 0.5
            a += 1e-8
            np.divide(m, a, out=a)
            a *= lr / (1 - 0.9**taken)
            p -= a

    return adam if optimizer == "Adam" else momentum


def contestants(
    optimizer: str, sizes: tuple[int, ...], torch: Any
) -> tuple[dict[str, bench.Step], dict[str, Callable[[], Any]]]:
    """A step for each contestant, and what its first parameter is, to compare."""
    import numpy as np

    import minigrad as mg

    rng = np.random.default_rng(0)
    start, grads = ([rng.normal(size=shape).astype(np.float32) for shape in shapes(sizes)] for _ in range(2))
    options: dict[str, Any] = {"lr": 1e-3} if optimizer == "Adam" else {"lr": 1e-3, "momentum": 0.9}
    ours = [mg.Tensor(p, requires_grad=True) for p in start]
    for p, g in zip(ours, grads, strict=True):
        p.grad = g
    by_hand = [p.copy() for p in start]
    steps: dict[str, bench.Step] = {
        "minigrad": getattr(mg.optim, optimizer)(ours, **options).step,
        "NumPy": control(optimizer, by_hand, grads, options["lr"]),
    }
    look: dict[str, Callable[[], Any]] = {"minigrad": ours[0].numpy, "NumPy": lambda: by_hand[0]}
    if torch is not None:
        theirs = [torch.tensor(p, requires_grad=True) for p in start]
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.tensor(g)
        steps["PyTorch"] = getattr(torch.optim, optimizer)(theirs, **options).step
        look["PyTorch"] = lambda: theirs[0].detach().numpy()
    return steps, look


def main() -> None:
    """Race all and print one table."""
    chosen = bench.options(__doc__)
    report = bench.Report("A step of an optimiser", chosen)
    import numpy as np

    torch = bench.available("torch")
    rows, ratios = [], {}
    for name, sizes in SIZES.items():
        for optimizer in ("SGD", "Adam"):
            bench.progress(f"{optimizer}, {name}")
            steps, look = contestants(optimizer, sizes, torch)
            for _ in range(3):
                for step in steps.values():
                    step()
            for contestant in steps:
                np.testing.assert_allclose(look[contestant](), look["NumPy"](), rtol=1e-4, atol=1e-6)
            large = sizes[1] > 100
            t = bench.race(
                steps, rounds=5 if chosen.quick else 15 if large else 31, seconds=0.002 if chosen.quick else 0.02
            )
            label = f"{optimizer}{' with momentum' if optimizer == 'SGD' else ''}, {name}"
            row = [label, bench.duration(t["minigrad"]), bench.duration(t["NumPy"])]
            row.append(f"{t['minigrad'] / t['NumPy']:.2f}")
            if torch is not None:
                ratios[label] = t["minigrad"] / t["PyTorch"]
                row += [bench.duration(t["PyTorch"]), f"{ratios[label]:.2f}"]
            rows.append(row)
    head = ["step", "minigrad", "NumPy", "minigrad / NumPy"]
    head += ["PyTorch", "minigrad / PyTorch"] if torch is not None else []
    report.table("One step, float32", head, rows)
    print()
    for label, ratio in ratios.items():
        report.wanted(f"{label}: minigrad / PyTorch", ratio, 1.0)
    report.close()


if __name__ == "__main__":
    main()
