"""Overfitting on 300 digits, without and with weight decay. Deep Learning from Scratch, section 6.4.2."""

from __future__ import annotations

from pictures import digits, options, panels, write

from minigrad.book import MultiLayerNet, Trainer


def main() -> None:
    """Trains seven layers with each, and draws the accuracies on training and test digits."""
    args = options(__file__, __doc__, epochs=100)
    (x_train, t_train), (x_test, t_test) = digits()
    figure, axes = panels(1, 2, 8, 3.6, sharey=True)
    for ax, decay in zip(axes, (0, 0.03), strict=True):
        network = MultiLayerNet(64, [100] * 6, 10, weight_decay_lambda=decay, seed=0)
        trainer = Trainer(
            network, x_train[:300], t_train[:300], x_test, t_test, args.epochs, optimizer_param={"lr": 0.05},
            verbose=False, seed=0,
        )  # fmt: skip
        trainer.train()
        ax.plot(trainer.train_acc_list, label="training digits")
        ax.plot(trainer.test_acc_list, label="test digits")
        ax.set(title=f"weight_decay_lambda={decay}", xlabel="epochs", ylim=(0, 1.02))
        train, test = trainer.train_acc_list[-1], trainer.test_acc_list[-1]
        print(f"weight decay {decay:<4}: training {train:.3f}, test {test:.3f}, apart {train - test:.3f}")
    axes[0].set_ylabel("accuracy")
    axes[1].legend(loc="lower right")
    write(figure, args.out)


if __name__ == "__main__":
    main()
