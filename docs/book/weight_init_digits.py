"""Three first weights on the digits, five layers of ReLU, SGD. Deep Learning from Scratch, section 6.2.4."""

from __future__ import annotations

import numpy as np
from pictures import digits, options, panels, write

from minigrad.book import SGD, MultiLayerNet, smooth_curve


def main() -> None:
    """Trains a net from each, with the same mini-batches, and draws the losses."""
    args = options(__file__, __doc__, steps=1000)
    (x_train, t_train), (x_test, t_test) = digits()
    networks = {
        name: MultiLayerNet(64, [100] * 4, 10, weight_init_std=std, seed=0)
        for name, std in {"std 0.01": 0.01, "Xavier": "sigmoid", "He": "relu"}.items()
    }
    losses: dict[str, list[float]] = {name: [] for name in networks}
    rng, optimizer = np.random.default_rng(0), SGD(lr=0.01)
    for _ in range(args.steps):
        batch = rng.choice(len(x_train), 128)
        for name, network in networks.items():
            optimizer.update(network.params, network.gradient(x_train[batch], t_train[batch]))
            losses[name].append(network.loss(x_train[batch], t_train[batch]))
    figure, (ax,) = panels(1, 1, 6, 4)
    for name, network in networks.items():
        ax.plot(smooth_curve(losses[name]), label=name)
        accuracy = network.accuracy(x_test, t_test)
        print(f"{name:8} loss after {args.steps} steps {losses[name][-1]:.4f}, test accuracy {accuracy:.3f}")
    ax.set(xlabel="iterations", ylabel="loss", ylim=(0, 2.5))
    ax.legend()
    write(figure, args.out)


if __name__ == "__main__":
    main()
