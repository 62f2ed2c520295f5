"""SimpleConvNet on the digits, scaled to 28 x 28, and its filters. Deep Learning from Scratch, sections 7.5 and 7.6."""

from __future__ import annotations

import numpy as np
from shared import options, panels, write

from minigrad.book import SimpleConvNet, Trainer
from minigrad.book.dataset.mnist import scaled_digits


def main() -> None:
    """Trains the net, and shows the accuracies and sixteen filters before and after."""
    args = options(__file__, __doc__, epochs=8, samples=1400)
    (x_train, t_train), (x_test, t_test) = scaled_digits(flatten=False)
    network = SimpleConvNet(seed=0)
    before = network.params["W1"].copy()
    trainer = Trainer(
        network, x_train[: args.samples], t_train[: args.samples], x_test, t_test, args.epochs, 100, "Adam",
        {"lr": 0.001}, evaluate_sample_num_per_epoch=min(300, args.samples), verbose=False, seed=0,
    )  # fmt: skip
    trainer.train()
    print(f"SimpleConvNet after {args.epochs} epochs: test accuracy {network.accuracy(x_test, t_test):.3f}")
    figure, axes = panels(4, 9, 9, 4.2)
    for offset, filters, title in ((0, before, "filters before"), (5, network.params["W1"], "filters after training")):
        for i in range(16):
            axes[9 * (i // 4) + offset + i % 4].imshow(filters[i, 0], cmap="gray_r")
        axes[offset + 1].set_title(title, loc="left")
    for ax in axes:
        ax.axis("off")
    figure.suptitle(f"W1, 5 x 5; standard deviation {before.std():.3f} before, {network.params['W1'].std():.3f} after")
    smooth = [float(np.abs(np.diff(w, axis=-1)).mean() / w.std()) for w in (before, network.params["W1"])]
    print(f"mean step between neighbours, in standard deviations: {smooth[0]:.2f} before, {smooth[1]:.2f} after")
    write(figure, args.out)


if __name__ == "__main__":
    main()
