"""With and without batch normalization, by spread of the first weights. Deep Learning from Scratch, section 6.3.2."""

from __future__ import annotations

import numpy as np
from shared import digits, options, panels, write

from minigrad.book import SGD, MultiLayerNetExtend


def main() -> None:
    """Trains both nets on 1000 digits for each spread, and draws the accuracies on them."""
    args = options(__file__, __doc__, epochs=15)
    (x_train, t_train), _ = digits()
    x_train, t_train = x_train[:1000], t_train[:1000]
    figure, axes = panels(2, 4, 9, 4.5, sharex=True, sharey=True)
    for ax, std in zip(axes, np.logspace(0, -4, 8), strict=True):
        kinds = {"with": True, "without": False}
        networks = {
            name: MultiLayerNetExtend(64, [100] * 5, 10, weight_init_std=std, use_batchnorm=use, seed=0)
            for name, use in kinds.items()
        }
        accuracies: dict[str, list[float]] = {name: [] for name in networks}
        rng, optimizer = np.random.default_rng(0), SGD(lr=0.01)
        for step in range(10 * args.epochs):
            batch = rng.choice(1000, 100)
            for name, network in networks.items():
                with np.errstate(over="ignore", invalid="ignore"):  # the first net without it runs away
                    optimizer.update(network.params, network.gradient(x_train[batch], t_train[batch]))
                    if step % 10 == 0:
                        accuracies[name].append(network.accuracy(x_train, t_train))
        ax.plot(accuracies["with"], label="with batch normalization")
        ax.plot(accuracies["without"], "--", label="without")
        ax.set(title=f"std {std:.2g}", ylim=(0, 1))
        print(f"std {std:<8.2g} accuracy with {accuracies['with'][-1]:.3f}, without {accuracies['without'][-1]:.3f}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.supxlabel("epochs")
    figure.supylabel("training accuracy")
    write(figure, args.out)


if __name__ == "__main__":
    main()
