"""What the examples of this directory share: their options, the digits, training, and the picture they write."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from minigrad.book import Trainer, smooth_curve
from minigrad.data import load_digits, split


def options(file: str, doc: str | None, **counts: int) -> argparse.Namespace:
    """The command line: where the picture goes, and how many steps, epochs or trials there are."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    shown = Path(file).with_suffix(".png")
    default = Path(tempfile.gettempdir()) / shown.name
    parser.add_argument("out", nargs="?", type=Path, help=f"the picture's file; default: {default}")
    parser.add_argument("--write", action="store_true", help=f"renew {shown.name} beside this script")
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"default: {count}")
    args = parser.parse_args()
    args.out = shown if args.write else args.out or default
    return args


def digits() -> Any:
    """(x_train, t_train), (x_test, t_test): the package's digits, 64 grey values each."""
    return split(*load_digits())


def compare_losses(networks: dict[str, Any], optimizers: dict[str, Any], steps: int, top: float, out: Path) -> None:
    """Trains each network with the optimiser of its name on the same mini-batches, and draws the losses up to top."""
    (x_train, t_train), (x_test, t_test) = digits()
    losses: dict[str, list[float]] = {name: [] for name in networks}
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = rng.choice(len(x_train), 128)
        for name, network in networks.items():
            optimizers[name].update(network.params, network.gradient(x_train[batch], t_train[batch]))
            losses[name].append(network.loss(x_train[batch], t_train[batch]))
    figure, (ax,) = panels(1, 1, 6, 4)
    for name, network in networks.items():
        ax.plot(smooth_curve(losses[name]), label=name)
        accuracy = network.accuracy(x_test, t_test)
        print(f"{name:8} loss after {steps} steps {losses[name][-1]:.4f}, test accuracy {accuracy:.3f}")
    ax.set(xlabel="iterations", ylabel="loss", ylim=(0, top))
    ax.legend()
    write(figure, out)


def compare_overfitting(networks: dict[str, Any], epochs: int, lr: float, out: Path) -> None:
    """Trains two networks on 300 digits with SGD, and draws the accuracies on training and test digits."""
    (x_train, t_train), (x_test, t_test) = digits()
    figure, axes = panels(1, 2, 8, 3.6, sharey=True)
    for ax, (name, network) in zip(axes, networks.items(), strict=True):
        trainer = Trainer(
            network, x_train[:300], t_train[:300], x_test, t_test, epochs, optimizer_param={"lr": lr},
            verbose=False, seed=0,
        )  # fmt: skip
        trainer.train()
        ax.plot(trainer.train_acc_list, label="training digits")
        ax.plot(trainer.test_acc_list, label="test digits")
        ax.set(title=name, xlabel="epochs", ylim=(0, 1.02))
        train, test = trainer.train_acc_list[-1], trainer.test_acc_list[-1]
        print(f"{name}: training {train:.3f}, test {test:.3f}, apart {train - test:.3f}")
    axes[0].set_ylabel("accuracy")
    axes[1].legend(loc="lower right")
    write(figure, out)


def panels(rows: int, columns: int, width: float, height: float, **kwargs: Any) -> tuple[Figure, list[Any]]:
    """A figure of so many inches and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **kwargs).flat)


def write(figure: Figure, out: Path) -> None:
    """The figure as a file, and a line that says where."""
    figure.savefig(out, dpi=80)
    print(f"picture: {out}")
