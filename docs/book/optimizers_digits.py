"""Four optimisers on the digits, five layers, the same mini-batches. Deep Learning from Scratch, section 6.1.8."""

from __future__ import annotations

import numpy as np
from pictures import digits, options, panels, write

from minigrad.book import SGD, AdaGrad, Adam, Momentum, MultiLayerNet, smooth_curve


def main() -> None:
    """Trains a net of the same first weights with each, and draws the losses."""
    args = options(__file__, __doc__, steps=600)
    (x_train, t_train), (x_test, t_test) = digits()
    optimizers = {"SGD": SGD(), "Momentum": Momentum(), "AdaGrad": AdaGrad(), "Adam": Adam()}
    networks = {name: MultiLayerNet(64, [100] * 4, 10, seed=0) for name in optimizers}
    losses: dict[str, list[float]] = {name: [] for name in optimizers}
    rng = np.random.default_rng(0)
    for _ in range(args.steps):
        batch = rng.choice(len(x_train), 128)
        for name, network in networks.items():
            optimizers[name].update(network.params, network.gradient(x_train[batch], t_train[batch]))
            losses[name].append(network.loss(x_train[batch], t_train[batch]))
    figure, (ax,) = panels(1, 1, 6, 4)
    for name, network in networks.items():
        ax.plot(smooth_curve(losses[name]), label=name)
        accuracy = network.accuracy(x_test, t_test)
        print(f"{name:8} loss after {args.steps} steps {losses[name][-1]:.4f}, test accuracy {accuracy:.3f}")
    ax.set(xlabel="iterations", ylabel="loss", ylim=(0, 1))
    ax.legend()
    write(figure, args.out)


if __name__ == "__main__":
    main()
