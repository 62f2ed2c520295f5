"""Four optimisers on f(x, y) = x**2 / 20 + y**2, 30 steps from (-7, 2). Deep Learning from Scratch, section 6.1.7."""

from __future__ import annotations

import numpy as np
from shared import options, panels, write

from minigrad import Tensor
from minigrad.book.optimizer import SGD, AdaGrad, Adam, Momentum


def f(x, y):
    """The valley: flat along x, steep along y."""
    return x**2 / 20 + y**2


def main() -> None:
    """Runs the four and draws their paths over the contour lines."""
    args = options(__file__, __doc__, steps=30)
    optimizers = {"SGD": SGD(0.95), "Momentum": Momentum(0.1), "AdaGrad": AdaGrad(1.5), "Adam": Adam(0.3)}
    x, y = np.meshgrid(np.linspace(-8, 8, 161), np.linspace(-4, 4, 81))
    figure, axes = panels(2, 2, 6.4, 4, sharex=True, sharey=True)
    for ax, (name, optimizer) in zip(axes, optimizers.items(), strict=True):
        params, path = {"x": np.array(-7.0), "y": np.array(2.0)}, []
        for _ in range(args.steps):
            path.append((float(params["x"]), float(params["y"])))
            at = {key: Tensor(p, requires_grad=True) for key, p in params.items()}
            f(at["x"], at["y"]).backward()
            optimizer.update(params, {key: p.grad for key, p in at.items()})
        path.append((float(params["x"]), float(params["y"])))
        print(f"{name:8} after {args.steps} steps: x {path[-1][0]:+.4f}, y {path[-1][1]:+.4f}, f {f(*path[-1]):.2e}")
        ax.contour(x, y, f(x, y), levels=[0.1, 0.5, 2, 5], colors="0.75", linewidths=0.8)
        ax.plot(*zip(*path, strict=True), "o-", color="C3", markersize=3, linewidth=1)
        ax.plot(0, 0, "+", color="k")
        ax.set(title=name, xlim=(-8, 8), ylim=(-4, 4))
    write(figure, args.out)


if __name__ == "__main__":
    main()
