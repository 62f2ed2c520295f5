"""A network that learns to read handwritten digits, in Tensor operations: the example to copy from.

In order: the parameters, the network, one step of gradient descent, and training, which `minigrad train` runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TextIO

import numpy as np

from minigrad import Tensor, grad, matmul, no_grad, relu, softmax_cross_entropy
from minigrad.contract import is_whole
from minigrad.data import load_digits, split
from minigrad.errors import ArgumentError, GradientError, describe
from minigrad.testing import numerical_gradient

__all__ = ["accuracy", "check_gradients", "init_params", "predict", "step", "train"]

Params = list[Tensor]


def init_params(sizes: Sequence[int], rng: np.random.Generator) -> Params:
    """W1, b1, W2, b2, ...: one pair for each step from a width to the next; W normal with variance 2 / width.

    >>> [p.shape for p in init_params([64, 32, 10], np.random.default_rng(0))]
    [(64, 32), (32,), (32, 10), (10,)]
    """
    params = []
    for i, (n, m) in enumerate(pairwise(sizes), 1):
        params.append(Tensor(rng.standard_normal((n, m)) * np.sqrt(2 / n), requires_grad=True, name=f"W{i}"))
        params.append(Tensor(np.zeros(m), requires_grad=True, name=f"b{i}"))
    return params


def predict(params: Params, x: Any) -> Tensor:
    """Scores (N, classes) for samples x (N, inputs): x @ W + b for each pair, with relu in between.

    >>> params = init_params([64, 32, 10], np.random.default_rng(0))
    >>> predict(params, np.ones((5, 64))).shape
    (5, 10)
    """
    out: Tensor = x
    for i in range(0, len(params), 2):
        W, b = params[i], params[i + 1]
        out = matmul(relu(out) if i else out, W) + b
    return out


def accuracy(params: Params, x: Any, t: Any) -> float:
    """The share of samples whose highest score is that of their label t (N,).

    >>> params = [Tensor(np.eye(2)), Tensor(np.zeros(2))]
    >>> accuracy(params, np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([0, 0]))
    0.5
    """
    with no_grad():
        return float(np.mean(predict(params, x).data.argmax(axis=1) == t))


def step(params: Params, velocity: list[Any], x: Any, t: Any, lr: float, momentum: float) -> float:
    """One mini-batch: forward, backward, and v = momentum * v - lr * grad, p = p + v. Returns the loss.

    velocity: an array of its shape for each parameter, zeros before the first step; it is changed in place.

    >>> params = init_params([64, 32, 10], np.random.default_rng(0))
    >>> velocity = [np.zeros(p.shape) for p in params]
    >>> x, t = load_digits()
    >>> losses = [step(params, velocity, x[:50], t[:50], lr=0.1, momentum=0.9) for _ in range(40)]
    >>> losses[0] > 2, losses[-1] < 0.1
    (True, True)
    """
    loss = softmax_cross_entropy(predict(params, x), t)
    loss.backward()
    with no_grad():
        for p, v in zip(params, velocity, strict=True):
            assert p.grad is not None  # backward has just set it
            v *= momentum
            v -= lr * p.grad
            p += v
            p.zero_grad()
    return float(loss)


def train(
    *,
    epochs: int = 20,
    batch: int = 25,
    lr: float = 0.05,
    momentum: float = 0.9,
    hidden: Sequence[int] = (128, 64),
    seed: int = 0,
    check: bool = False,
    out: TextIO | None = None,
) -> float:
    """Trains on four fifths of the digits and returns the share of the others that it reads right.

    epochs: passes over the training images. batch: images a step. lr, momentum: of gradient descent.
    hidden: the widths of the hidden layers. seed: fixes split, parameters and order, and so the result.
    check: first compare backward with numerical differentiation; see check_gradients.
    out: where the progress goes, standard output by default; one changing line on a terminal.
    Raises ArgumentError for a value out of range, and for a loss that runs away or is nan; GradientError
    for a failed check.

    >>> import io
    >>> train(epochs=2, out=io.StringIO()) > 0.8
    True
    """
    _validate(epochs, batch, lr, momentum, hidden, seed)
    out = sys.stdout if out is None else out
    (x, t), (x_test, t_test) = split(*load_digits(), seed=seed)
    if batch > len(x):
        raise _refuse("batch", batch, f"at most {len(x)}, the number of training images", "25")
    rng = np.random.default_rng(seed)
    sizes = [x.shape[1], *hidden, 10]
    params = init_params(sizes, rng)
    velocity = [np.zeros(p.shape) for p in params]
    if check:
        check_gradients(params, x[:3], t[:3], out)
    say(out, f"{len(x)} digits to learn from, {len(x_test)} to test on, layers {' - '.join(map(str, sizes))}\n")
    terminal = out.isatty()
    try:
        for epoch in range(1, epochs + 1):
            order, total = rng.permutation(len(x)), 0.0
            for start in range(0, len(x), batch):
                i = order[start : start + batch]
                with np.errstate(over="ignore", invalid="ignore"):  # the next line says it in words
                    loss = step(params, velocity, x[i], t[i], lr, momentum)
                if not loss < 1000:  # guessing costs 2.3; nan is not less than anything
                    raise ArgumentError(
                        "train: lr",
                        f"lr={lr:g}, with which the loss ran away to {loss:.3g} in epoch {epoch}",
                        "a loss that falls from about 2.3",
                        f"pass a smaller rate: --lr {0.05 if lr > 0.05 else lr / 10:.2g}",
                    )
                total += loss * len(i)
            line = f"epoch {epoch:{len(str(epochs))}}/{epochs}  loss {total / len(x):7.4f}  "
            line += f"accuracy {accuracy(params, x, t):.4f}  test {accuracy(params, x_test, t_test):.4f}"
            say(out, f"\r{line}" if terminal else f"{line}\n")
    finally:
        if terminal:
            say(out, "\n")
    result = accuracy(params, x_test, t_test)
    say(out, f"test accuracy {result:.2%}\n")
    return result


def check_gradients(params: Params, x: Any, t: Any, out: TextIO) -> None:
    """Prints, for each parameter, the mean absolute difference between backward and numerical differentiation.

    The table of Deep Learning from Scratch, section 5.7.3. Raises GradientError where the difference is more than a
    ten-thousandth of the gradient: an entry is off by about 1e-9, and by much more where a step crosses a relu's
    kink. The step is 1e-5, a tenth of the book's, so that a tenth as many do.

    >>> check_gradients(init_params([2, 3, 2], np.random.default_rng(0)), np.eye(2), np.array([0, 1]), sys.stdout)
    parameter  shape        mean |gradient|  mean |backward - numerical|
    W1         (2, 3)             ...e-...                   ...e-...
    b1         (3,)               ...e-...                   ...e-...
    W2         (3, 2)             ...e-...                   ...e-...
    b2         (2,)               ...e-...                   ...e-...
    backward and numerical differentiation agree for all 4 parameters
    """
    gradients = grad(softmax_cross_entropy(predict(params, x), t), params)
    say(out, f"{'parameter':9}  {'shape':9}  {'mean |gradient|':>17}  mean |backward - numerical|\n")
    wrong = []
    for p, dp in zip(params, gradients, strict=True):
        with no_grad():
            numerical = numerical_gradient(lambda _: softmax_cross_entropy(predict(params, x), t), p, h=1e-5)
        size, difference = np.mean(abs(numerical)), np.mean(abs(dp.data - numerical))
        say(out, f"{p.name!s:9}  {p.shape!s:9}  {size:17.2e}  {difference:27.2e}\n")
        if not difference <= 1e-4 * size:
            wrong.append(str(p.name))
    if not wrong:
        say(out, f"backward and numerical differentiation agree for all {len(params)} parameters\n")
    else:
        raise GradientError(
            "train: check",
            f"backward and numerical differentiation disagree for {', '.join(wrong)}",
            "a difference below a ten-thousandth of the gradient",
            "try another --seed: if they disagree again, a rule is wrong, and minigrad.testing.gradcheck finds it",
        )


def say(out: TextIO, text: str) -> None:
    """Writes text at once, also into a pipe."""
    out.write(text)
    out.flush()


def _refuse(argument: str, value: Any, expected: str, example: str) -> ArgumentError:
    return ArgumentError(f"train: {argument}", describe(value), expected, f"pass --{argument} {example}")


def _validate(epochs: Any, batch: Any, lr: Any, momentum: Any, hidden: Any, seed: Any) -> None:
    if not is_whole(epochs, 1):
        raise _refuse("epochs", epochs, "a positive number of passes over the images", "20")
    if not is_whole(batch, 1):
        raise _refuse("batch", batch, "a positive number of images", "25")
    if not isinstance(lr, (int, float)) or not 0 < lr < np.inf:
        raise _refuse("lr", lr, "a positive, finite rate", "0.05")
    if not isinstance(momentum, (int, float)) or not 0 <= momentum < 1:
        raise _refuse("momentum", momentum, "a number from 0 up to, but not including, 1", "0.9")
    if not is_whole(seed, 0):
        raise _refuse("seed", seed, "a whole number, 0 or more", "0")
    if not isinstance(hidden, (tuple, list)) or not hidden:
        raise _refuse("hidden", hidden, "the widths of one hidden layer or more", "128,64")
    for width in hidden:
        if not is_whole(width, 1):
            raise _refuse("hidden", width, "positive widths", "128,64")
