"""The book's optimisers, simplest first: update(params, grads) on dicts of arrays, in place.

The formulae are the book's, operation for operation, with its epsilons; minigrad.optim has PyTorch's. State belongs
to names: an optimiser that has updated one net's params refuses another net's that differ in names or shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, ShapeError, describe

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop", "np"]  # the book's scripts take np from here

Params = MutableMapping[str, Any]
Grads = Mapping[str, Any]


class SGD:
    """p -= lr * g. Source: Deep Learning from Scratch, section 6.1.2.

    params: a dict of arrays, changed in place, or of numbers. grads: a dict with an entry of the same shape for each;
        further entries are not looked at.
    Raises ArgumentError for a rate that is no number from 0 on and for a missing gradient, ShapeError for a gradient
    of another shape; nothing is updated then.

    >>> params = {"W": np.array([1.0, 2.0])}
    >>> SGD(lr=0.1).update(params, {"W": np.array([10.0, 0.0])})
    >>> params["W"]
    array([0., 2.])
    """

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = _rate("SGD", "lr", lr)

    def update(self, params: Params, grads: Grads) -> None:
        """One step."""
        _check("SGD", params, grads)
        for key in params:
            params[key] -= self.lr * grads[key]


class Momentum:
    """v = momentum * v - lr * g; p += v. Source: Deep Learning from Scratch, section 6.1.4.

    v: a dict like params, None before the first update. PyTorch's v has no rate in it. Arguments and errors as SGD.

    >>> params, momentum = {"x": 1.0}, Momentum(lr=0.1)
    >>> for _ in range(2):
    ...     momentum.update(params, {"x": 1.0})
    >>> print(f"{params['x']:.2f}")
    0.71
    """

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.lr, self.momentum = _rate("Momentum", "lr", lr), momentum
        self.v: Any = None

    def update(self, params: Params, grads: Grads) -> None:
        """One step."""
        _check("Momentum", params, grads, self.v)
        if self.v is None:
            self.v = _zeros(params)
        for key in params:
            self.v[key] = self.momentum * self.v[key] - self.lr * grads[key]
            params[key] += self.v[key]


class Nesterov:
    """v = momentum * v - lr * g; p += momentum**2 * v - (1 + momentum) * lr * g, in this order.

    The book follows https://arxiv.org/abs/1212.0901, equation 7, whose second formula has the v from before the step;
    the book's code has the new one there, and so has this. Source: common/optimizer.py. Arguments and errors as SGD.

    >>> params, nesterov = {"x": 1.0}, Nesterov(lr=0.1)
    >>> nesterov.update(params, {"x": 1.0})
    >>> print(f"{params['x']:.3f}")
    0.729
    """

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.lr, self.momentum = _rate("Nesterov", "lr", lr), momentum
        self.v: Any = None

    def update(self, params: Params, grads: Grads) -> None:
        """One step."""
        _check("Nesterov", params, grads, self.v)
        if self.v is None:
            self.v = _zeros(params)
        for key in params:
            self.v[key] *= self.momentum
            self.v[key] -= self.lr * grads[key]
            params[key] += self.momentum * self.momentum * self.v[key]
            params[key] -= (1 + self.momentum) * self.lr * grads[key]


class AdaGrad:
    """h += g * g; p -= lr * g / (sqrt(h) + 1e-7). Source: Deep Learning from Scratch, section 6.1.5.

    PyTorch's epsilon is 1e-10. h: a dict like params, None before the first update. Arguments and errors as SGD.

    >>> params, adagrad = {"x": 1.0}, AdaGrad(lr=0.1)
    >>> adagrad.update(params, {"x": 4.0})
    >>> print(f"{params['x']:.2f}")
    0.90
    """

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = _rate("AdaGrad", "lr", lr)
        self.h: Any = None

    def update(self, params: Params, grads: Grads) -> None:
        """One step."""
        _check("AdaGrad", params, grads, self.h)
        if self.h is None:
            self.h = _zeros(params)
        for key in params:
            self.h[key] += grads[key] * grads[key]
            params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + 1e-7)


class RMSprop:
    """h = decay_rate * h + (1 - decay_rate) * g * g; p -= lr * g / (sqrt(h) + 1e-7). Source: common/optimizer.py.

    PyTorch's epsilon is 1e-8. h: a dict like params, None before the first update. Arguments and errors as SGD.

    >>> params, rmsprop = {"x": 1.0}, RMSprop(lr=0.1)
    >>> rmsprop.update(params, {"x": 4.0})
    >>> print(f"{params['x']:.2f}")
    0.00
    """

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99) -> None:
        self.lr, self.decay_rate = _rate("RMSprop", "lr", lr), decay_rate
        self.h: Any = None

    def update(self, params: Params, grads: Grads) -> None:
        """One step."""
        _check("RMSprop", params, grads, self.h)
        if self.h is None:
            self.h = _zeros(params)
        for key in params:
            self.h[key] *= self.decay_rate
            self.h[key] += (1 - self.decay_rate) * grads[key] * grads[key]
            params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + 1e-7)


class Adam:
    """m += (1 - beta1) * (g - m); v += (1 - beta2) * (g**2 - v); p -= lr_t * m / (sqrt(v) + 1e-7).

    lr_t = lr * sqrt(1 - beta2**iter) / (1 - beta1**iter), iter counting the updates. That is the paper's form with an
    "epsilon hat" (https://arxiv.org/abs/1412.6980, end of section 2); PyTorch divides v before it adds its 1e-8.
    iter, m, v: the state. Source: Deep Learning from Scratch, section 6.1.6. Arguments and errors as SGD; betas from
    0 on and below 1.

    >>> params, adam = {"x": 1.0}, Adam(lr=0.1)
    >>> adam.update(params, {"x": 4.0})
    >>> print(f"{params['x']:.2f}")
    0.90
    """

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.lr = _rate("Adam", "lr", lr)
        self.beta1, self.beta2 = _rate("Adam", "beta1", beta1, 1), _rate("Adam", "beta2", beta2, 1)
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Params, grads: Grads) -> None:
        """One step."""
        _check("Adam", params, grads, self.m)
        if self.m is None:
            self.m, self.v = _zeros(params), _zeros(params)
        self.iter += 1
        # float: a NumPy number would turn the step of float32 params into float64
        lr_t = float(self.lr * np.sqrt(1.0 - self.beta2**self.iter) / (1.0 - self.beta1**self.iter))
        for key in params:
            self.m[key] += (1 - self.beta1) * (grads[key] - self.m[key])
            self.v[key] += (1 - self.beta2) * (grads[key] ** 2 - self.v[key])
            params[key] -= lr_t * self.m[key] / (np.sqrt(self.v[key]) + 1e-7)


def _rate(optimizer: str, name: str, value: Any, below: float = np.inf) -> Any:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, np.integer, np.floating))
        or not 0 <= value < below
    ):
        raise ArgumentError(
            f"{optimizer}: {name}",
            describe(value),
            "a finite number, 0 or more" if below == np.inf else f"a number from 0 on, below {below}",
            f"pass {name}=0.01, for example",
        )
    return value


def _zeros(params: Params) -> dict[str, Any]:
    """A zero for each entry of params, of its dtype; float64 for whole numbers."""
    return {
        key: np.zeros_like(p, dtype=None if np.asarray(p).dtype.kind == "f" else float) for key, p in params.items()
    }


def _check(optimizer: str, params: Params, grads: Grads, state: Any = None) -> None:
    """That each of params has a gradient, and state if there is any, of its shape: before anything is changed."""
    for key, p in params.items():
        if key not in grads:
            raise ArgumentError(
                f"{optimizer}.update: grads", f"no {key!r}", "a gradient for each of params", f"add grads[{key!r}]"
            )
        if np.shape(grads[key]) != np.shape(p):
            raise ShapeError(
                f"{optimizer}.update: grads[{key!r}]",
                f"it is {describe(grads[key])}, params[{key!r}] is {describe(p)}",
                "equal shapes",
                "pass what net.gradient(x, t) returned",
            )
        if state is not None and np.shape(state.get(key, np.empty((0, 0)))) != np.shape(p):
            raise ShapeError(
                f"{optimizer}.update: params",
                f"params[{key!r}] is {describe(p)}, of which the state from earlier updates knows nothing",
                f"the parameters of the first update: {', '.join(f'{k} {np.shape(s)}' for k, s in state.items())}",
                "make an optimiser of its own for each net",
            )
