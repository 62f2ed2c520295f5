"""Overfitting on 300 digits, without and with weight decay. Deep Learning from Scratch, section 6.4.2."""

from __future__ import annotations

from shared import compare_overfitting, options

from minigrad.book import MultiLayerNet


def main() -> None:
    """Trains seven layers with each, and draws the accuracies on training and test digits."""
    args = options(__file__, __doc__, epochs=100)
    networks = {
        f"weight_decay_lambda={decay}": MultiLayerNet(64, [100] * 6, 10, weight_decay_lambda=decay, seed=0)
        for decay in (0, 0.03)
    }
    compare_overfitting(networks, args.epochs, 0.05, args.out)


if __name__ == "__main__":
    main()
