"""Four optimisers on the digits, five layers, the same mini-batches. Deep Learning from Scratch, section 6.1.8."""

from __future__ import annotations

from shared import compare_losses, options

from minigrad.book import SGD, AdaGrad, Adam, Momentum, MultiLayerNet


def main() -> None:
    """Trains a net of the same first weights with each, and draws the losses."""
    args = options(__file__, __doc__, steps=600)
    optimizers = {"SGD": SGD(), "Momentum": Momentum(), "AdaGrad": AdaGrad(), "Adam": Adam()}
    networks = {name: MultiLayerNet(64, [100] * 4, 10, seed=0) for name in optimizers}
    compare_losses(networks, optimizers, args.steps, 1, args.out)


if __name__ == "__main__":
    main()
