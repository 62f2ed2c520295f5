"""Learning rate and weight decay, searched at random. Deep Learning from Scratch, section 6.5.2."""

from __future__ import annotations

import numpy as np
from shared import digits, options, panels, write

from minigrad.book import MultiLayerNet, Trainer, shuffle_dataset


def main() -> None:
    """Trains a net for each draw, and shows which draws did well."""
    args = options(__file__, __doc__, trials=40, epochs=30)
    (x_train, t_train), _ = digits()
    x_train, t_train = shuffle_dataset(x_train[:500], t_train[:500], seed=0)
    (x_val, t_val), (x_train, t_train) = (x_train[:100], t_train[:100]), (x_train[100:], t_train[100:])
    rng, results = np.random.default_rng(0), []
    for _ in range(args.trials):
        weight_decay, lr = 10 ** rng.uniform(-8, -4), 10 ** rng.uniform(-5, -0.5)
        network = MultiLayerNet(64, [100] * 3, 10, weight_decay_lambda=weight_decay, seed=0)
        trainer = Trainer(
            network, x_train, t_train, x_val, t_val, args.epochs, 100, "sgd", {"lr": lr}, verbose=False, seed=0
        )
        trainer.train()
        results.append((trainer.test_acc_list[-1], lr, weight_decay, trainer))
    results.sort(key=lambda result: -result[0])
    figure, (draws, curves) = panels(1, 2, 8, 3.3)
    accuracies, rates, decays, trainers = zip(*results, strict=True)
    points = draws.scatter(rates, decays, c=accuracies, vmin=0, vmax=1)
    draws.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="weight decay")
    figure.colorbar(points, ax=draws, label="validation accuracy")
    for i in range(min(5, len(results))):
        print(f"best-{i + 1}: validation accuracy {accuracies[i]:.2f}, lr {rates[i]:.4f}, weight decay {decays[i]:.1e}")
        curves.plot(trainers[i].test_acc_list, color=f"C{i}", label=f"lr {rates[i]:.4f}")
        curves.plot(trainers[i].train_acc_list, "--", color=f"C{i}", linewidth=0.8)
    slow = [accuracy for accuracy, rate in zip(accuracies, rates, strict=True) if rate < 0.01]
    if slow:
        print(f"best of the {len(slow)} draws with a rate below 0.01: {max(slow):.2f}")
    curves.set(title="the five best; dashed: training", xlabel="epochs", ylim=(0, 1))
    curves.legend(loc="lower right", fontsize="small")
    write(figure, args.out)


if __name__ == "__main__":
    main()
