"""Overfitting on 300 digits, without and with dropout. Deep Learning from Scratch, section 6.4.3."""

from __future__ import annotations

from shared import compare_overfitting, options

from minigrad.book import MultiLayerNetExtend


def main() -> None:
    """Trains seven layers with each, and draws the accuracies on training and test digits."""
    args = options(__file__, __doc__, epochs=150)
    networks = {
        name: MultiLayerNetExtend(64, [100] * 6, 10, use_dropout=ratio > 0, dropout_ration=ratio, seed=0)
        for name, ratio in {"no dropout": 0, "dropout_ratio=0.2": 0.2}.items()
    }
    compare_overfitting(networks, args.epochs, 0.1, args.out)


if __name__ == "__main__":
    main()
