"""The book's Trainer: mini-batches, an optimiser, and accuracies once an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.book.base import draws
from minigrad.book.optimizer import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop
from minigrad.contract import whole
from minigrad.errors import ArgumentError, ShapeError, describe

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop", "Trainer", "np"]  # as in the book's file

_OPTIMIZERS: dict[str, Any] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "rmsprop": RMSprop,
    "adam": Adam,
}


class Trainer:
    """Trains a network of the book: epochs times as many mini-batches as the training data have.

    network: an object with params, gradient(x, t), loss(x, t) and accuracy(x, t).
    mini_batch_size: samples drawn for each step, with repetition, as the book draws them.
    optimizer, optimizer_param: its name, in any case, and its arguments; by default "SGD" and {"lr": 0.01}.
    evaluate_sample_num_per_epoch: how many of the first samples the accuracies are computed on; None for all.
    verbose: whether losses and accuracies are printed.
    seed: what the mini-batches are drawn from: None for NumPy's global state, as in the book, or as for TwoLayerNet.
    train_loss_list: the loss of each mini-batch after its step, as in the book. train_acc_list, test_acc_list:
        accuracies after the first step of each epoch. There are exactly `epochs` of them; the book misses those epochs
        that do not start at a whole number of steps.
    Raises ArgumentError for an unknown optimizer and counts that are none, ShapeError for labels that are not as many
    as samples. Source: Deep Learning from Scratch, common/trainer.py.

    >>> from minigrad.book.two_layer_net import TwoLayerNet
    >>> x, t = np.eye(4), np.array([0, 1, 2, 0])
    >>> trainer = Trainer(TwoLayerNet(4, 5, 3, seed=0), x, t, x, t, epochs=100, mini_batch_size=3,
    ...                   optimizer="adam", optimizer_param={"lr": 0.1}, verbose=False, seed=0)
    >>> trainer.train()
    >>> len(trainer.train_loss_list), len(trainer.test_acc_list), trainer.test_acc_list[-1]
    (133, 100, 1.0)
    """

    def __init__(
        self,
        network: Any,
        x_train: Any,
        t_train: Any,
        x_test: Any,
        t_test: Any,
        epochs: int = 20,
        mini_batch_size: int = 100,
        optimizer: str = "SGD",
        optimizer_param: dict[str, Any] | None = None,
        evaluate_sample_num_per_epoch: int | None = None,
        verbose: bool = True,
        *,
        seed: Any = None,
    ) -> None:
        for name, x, t in (("train", x_train, t_train), ("test", x_test, t_test)):
            if len(x) != len(t) or not len(x):
                raise ShapeError(
                    f"Trainer: x_{name}, t_{name}",
                    f"x_{name} is {describe(x)}, t_{name} is {describe(t)}",
                    "samples, and as many labels",
                    f"look at len(x_{name}), len(t_{name})",
                )
        self.network, self.verbose = network, verbose
        self.x_train, self.t_train, self.x_test, self.t_test = x_train, t_train, x_test, t_test
        self.epochs = whole("Trainer: epochs", epochs)
        self.batch_size = whole("Trainer: mini_batch_size", mini_batch_size)
        self.evaluate_sample_num_per_epoch = evaluate_sample_num_per_epoch
        if evaluate_sample_num_per_epoch is not None:
            whole("Trainer: evaluate_sample_num_per_epoch", evaluate_sample_num_per_epoch)
        if str(optimizer).lower() not in _OPTIMIZERS:
            raise ArgumentError(
                "Trainer: optimizer", describe(optimizer), f"one of {', '.join(_OPTIMIZERS)}", "pass optimizer='SGD'"
            )
        make = _OPTIMIZERS[str(optimizer).lower()]
        self.optimizer = make(**({"lr": 0.01} if optimizer_param is None else optimizer_param))
        self._random = None if seed is None else draws(seed, "Trainer")
        self.train_size = len(x_train)
        self.iter_per_epoch = max(self.train_size / self.batch_size, 1)
        self.max_iter = int(self.epochs * self.iter_per_epoch)
        self.current_iter = self.current_epoch = 0
        self.train_loss_list: list[float] = []
        self.train_acc_list: list[float] = []
        self.test_acc_list: list[float] = []

    def train_step(self) -> None:
        """One mini-batch, and the accuracies where an epoch begins with it."""
        batch_mask = draws(self._random, "Trainer").choice(self.train_size, self.batch_size)
        x_batch, t_batch = self.x_train[batch_mask], self.t_train[batch_mask]
        grads = self.network.gradient(x_batch, t_batch)
        self.optimizer.update(self.network.params, grads)
        loss = self.network.loss(x_batch, t_batch)
        self.train_loss_list.append(loss)
        if self.verbose:
            print(f"train loss:{loss}")
        # Compared in whole numbers, which iter_per_epoch need not be.
        if self.current_iter >= self.current_epoch * max(self.train_size, self.batch_size) // self.batch_size:
            self.current_epoch += 1
            n = self.evaluate_sample_num_per_epoch
            train_acc = self.network.accuracy(self.x_train[:n], self.t_train[:n])
            test_acc = self.network.accuracy(self.x_test[:n], self.t_test[:n])
            self.train_acc_list.append(train_acc)
            self.test_acc_list.append(test_acc)
            if self.verbose:
                print(f"=== epoch:{self.current_epoch}, train acc:{train_acc}, test acc:{test_acc} ===")
        self.current_iter += 1

    def train(self) -> None:
        """All steps, then the accuracy on all test data, printed where verbose."""
        for _ in range(self.max_iter):
            self.train_step()
        if self.verbose:
            print("=============== Final Test Accuracy ===============")
            print(f"test acc:{self.network.accuracy(self.x_test, self.t_test)}")
