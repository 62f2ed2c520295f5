"""Activations of five layers, by spread of the first weights. Deep Learning from Scratch, section 6.2."""

from __future__ import annotations

import numpy as np
from shared import options, panels, write

from minigrad.book.functions import relu, sigmoid


def main() -> None:
    """Draws a histogram of each layer's activations, for sigmoid and for ReLU."""
    args = options(__file__, __doc__, samples=1000)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(args.samples, 100))
    xavier, he = np.sqrt(1 / 100), np.sqrt(2 / 100)
    rows = [
        ("sigmoid, std 1", sigmoid, 1.0),
        ("sigmoid, std 0.01", sigmoid, 0.01),
        ("sigmoid, Xavier", sigmoid, xavier),
        ("ReLU, std 0.01", relu, 0.01),
        ("ReLU, Xavier", relu, xavier),
        ("ReLU, He", relu, he),
    ]
    figure, axes = panels(len(rows), 5, 8, 8, sharex=True)
    for i, (name, activation, std) in enumerate(rows):
        x, spreads = data, []
        for j in range(5):
            x = activation(x @ (std * rng.normal(size=(100, 100))))
            spreads.append(f"{x.std():.3f}")
            ax = axes[5 * i + j]
            ax.hist(x.ravel(), 30, range=(0, 1), weights=np.full(x.size, 1 / x.size), color=f"C{i}")
            ax.set(
                ylim=(0, 0.25 if activation is sigmoid else 0.06), yticks=[], title=f"layer {j + 1}" if i == 0 else ""
            )
        axes[5 * i].set_ylabel(name.replace(", ", "\n"))
        print(f"{name:18} standard deviation of the activations, layer by layer: {', '.join(spreads)}")
    write(figure, args.out)


if __name__ == "__main__":
    main()
