"""Overfitting on 300 digits, without and with dropout. Deep Learning from Scratch, section 6.4.3."""

from __future__ import annotations

from pictures import digits, options, panels, write

from minigrad.book import MultiLayerNetExtend, Trainer


def main() -> None:
    """Trains seven layers with each, and draws the accuracies on training and test digits."""
    args = options(__file__, __doc__, epochs=150)
    (x_train, t_train), (x_test, t_test) = digits()
    figure, axes = panels(1, 2, 8, 3.6, sharey=True)
    for ax, ratio in zip(axes, (0, 0.2), strict=True):
        network = MultiLayerNetExtend(64, [100] * 6, 10, use_dropout=ratio > 0, dropout_ration=ratio, seed=0)
        trainer = Trainer(
            network, x_train[:300], t_train[:300], x_test, t_test, args.epochs, optimizer_param={"lr": 0.1},
            verbose=False, seed=0,
        )  # fmt: skip
        trainer.train()
        ax.plot(trainer.train_acc_list, label="training digits")
        ax.plot(trainer.test_acc_list, label="test digits")
        ax.set(title=f"dropout_ratio={ratio}" if ratio else "no dropout", xlabel="epochs", ylim=(0, 1.02))
        train, test = trainer.train_acc_list[-1], trainer.test_acc_list[-1]
        print(f"dropout {ratio:<3}: training {train:.3f}, test {test:.3f}, apart {train - test:.3f}")
    axes[0].set_ylabel("accuracy")
    axes[1].legend(loc="lower right")
    write(figure, args.out)


if __name__ == "__main__":
    main()
