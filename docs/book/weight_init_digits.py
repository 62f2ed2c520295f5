"""Three first weights on the digits, five layers of ReLU, SGD. Deep Learning from Scratch, section 6.2.4."""

from __future__ import annotations

from shared import compare_losses, options

from minigrad.book import SGD, MultiLayerNet


def main() -> None:
    """Trains a net from each, with the same mini-batches, and draws the losses."""
    args = options(__file__, __doc__, steps=1000)
    networks = {
        name: MultiLayerNet(64, [100] * 4, 10, weight_init_std=std, seed=0)
        for name, std in {"std 0.01": 0.01, "Xavier": "sigmoid", "He": "relu"}.items()
    }
    compare_losses(networks, dict.fromkeys(networks, SGD(lr=0.01)), args.steps, 2.5, args.out)


if __name__ == "__main__":
    main()
