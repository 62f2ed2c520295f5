"""DeepConvNet on the digits, scaled to 28 x 28, and what it gets wrong. Deep Learning from Scratch, section 8.1."""

from __future__ import annotations

import numpy as np
from shared import options, panels, write

from minigrad.book import DeepConvNet, Trainer
from minigrad.book.dataset.mnist import scaled_digits


def main() -> None:
    """Trains the net for a short while in float32, and shows misclassified test digits."""
    args = options(__file__, __doc__, epochs=5, samples=1400)
    (x_train, t_train), (x_test, t_test) = scaled_digits(flatten=False)
    network = DeepConvNet(seed=0)
    network.params = {key: p.astype(np.float32) for key, p in network.params.items()}
    trainer = Trainer(
        network, x_train[: args.samples], t_train[: args.samples], x_test, t_test, args.epochs, 100, "Adam",
        {"lr": 0.001}, evaluate_sample_num_per_epoch=min(300, args.samples), verbose=False, seed=0,
    )  # fmt: skip
    trainer.train()
    guesses = np.concatenate([network.predict(x_test[i : i + 100]).argmax(axis=1) for i in range(0, len(x_test), 100)])
    wrong = np.flatnonzero(guesses != t_test)
    accuracy = network.accuracy(x_test, t_test)
    print(f"DeepConvNet after {args.epochs} epochs: test accuracy {accuracy:.3f}, {len(wrong)} of {len(t_test)} wrong")
    figure, axes = panels(2, 6, 8, 3.4)
    for ax in axes:
        ax.axis("off")
    for ax, i in zip(axes, wrong[:12], strict=False):
        ax.imshow(x_test[i, 0], cmap="gray_r")
        ax.set_title(f"{t_test[i]}, taken for {guesses[i]}", fontsize="small")
    write(figure, args.out)


if __name__ == "__main__":
    main()
