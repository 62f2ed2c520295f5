"""One training step of the book's network and of larger ones: forward, backward and SGD in place, float32.

Layers with relu between them and softmax cross-entropy. Every contestant starts from the same parameters and sees the
same batch; the learning rate is so small that the numbers stay what they are in early training. The control is the
book's own backward by hand in NumPy.
Wanted, as ratios of minigrad's time to PyTorch's, of compiled to PyTorch's and of compiled to JAX's: see NETS. The
book's own, 784-50-10 with batches of 100, at most 1.4 x NumPy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import bench
import contest
from peers import RATE

Limits = tuple[float | None, float | None, float | None]

# sizes of the layers, batch: wanted
NETS: dict[tuple[tuple[int, ...], int], Limits] = {
    ((64, 50, 10), 32): (0.6, 0.25, 0.65),
    ((784, 50, 10), 100): (0.6, 0.45, 0.65),
    ((784, 100, 100, 100, 100, 10), 128): (0.7, 0.5, 0.8),
    ((784, 1024, 1024, 10), 256): (1.05, 0.95, 1.05),
}


def loss(F: Any, *given: Any) -> Any:
    """The network's, from weights and biases in turn, then x and t."""
    *params, x, t = given
    for i in range(0, len(params), 2):
        x = F.linear(F.relu(x) if i else x, params[i], params[i + 1])
    return F.cross_entropy(x, t)


def by_hand(params: Sequence[Any], x: Any, t: Any) -> bench.Step:
    """The network and its gradient."""
    import numpy as np

    params = [p.copy() for p in params]
    layers = [*zip(params[::2], params[1::2], strict=True)]
    rows = np.arange(len(t))

    def step() -> Any:
        z, zs = x, []
        for W, b in layers:
            zs.append(z)
            y = z @ W.T
            y += b
            z = np.maximum(y, 0) if len(zs) < len(layers) else y
        y -= y.max(axis=1, keepdims=True)
        np.exp(y, out=y)
        y /= y.sum(axis=1, keepdims=True)
        loss = -np.log(y[rows, t]).mean()
        y[rows, t] -= 1
        y /= len(t)
        dout = y
        for (W, b), z in zip(reversed(layers), reversed(zs), strict=True):
            dW, db = dout.T @ z, dout.sum(axis=0)
            if z is not x:
                dout = dout @ W
                dout *= z > 0
            for p, dp in (W, dW), (b, db):
                dp *= RATE
                p -= dp
        return loss, *params

    return step


def parameters(sizes: Sequence[int]) -> list[Any]:
    """Weights and biases of the layers, always the same; those of square ones near 1, so that depth changes little."""
    import numpy as np

    rng = np.random.default_rng(1)
    params = []
    for m, n in pairwise(sizes):
        W = rng.normal(size=(n, m)) * (2 / m) ** 0.5
        params += [(np.eye(n) + W / 100 if m == n else W).astype(np.float32), np.zeros(n, np.float32)]
    return params


def flops(sizes: Sequence[int], batch: int) -> float:
    """Of a step's matrix products: three a layer, but for the first, which has no gradient of x."""
    products = [2.0 * batch * m * n for m, n in pairwise(sizes)]
    return 3 * sum(products) - products[0]


def work(sizes: Sequence[int], batch: int, limits: Limits = (None, None, None), hand: float | None = None) -> Any:
    """The step of a network with layers of these sizes."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, sizes[0])).astype(np.float32)
    t, params = rng.integers(0, sizes[-1], batch), parameters(sizes)
    return contest.Work(
        family="training step", name=f"{'-'.join(map(str, sizes))} / {batch}", size=flops(sizes, batch), f=loss,
        leaves=params, constants=(x, t), kind="training", control=lambda: by_hand(params, x, t),
        flops=flops(sizes, batch), limits=limits, hand=hand,
    )  # fmt: skip


def works() -> list[contest.Work]:
    """All of NETS; the control by hand is a measure for the book's own."""
    return [work(*net, limits, 1.4 if net == ((784, 50, 10), 100) else None) for net, limits in NETS.items()]


if __name__ == "__main__":
    contest.main(__doc__, "The book's training step", works)
