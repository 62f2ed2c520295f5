"""Optimisers that look at one gradient a step, by increasing complexity: SGD, Adagrad, RMSprop, Adam, AdamW, Lion.

Each update is arithmetic on arrays: p the parameter, g its gradient, a and b scratch, and what is kept from step to
step. Every operation writes into an array that is there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import ArgumentError
from minigrad.optim.optimizer import Group, Optimizer
from minigrad.optim.options import Option, flag, fraction, pair, real
from minigrad.tensor import Tensor

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Lion", "RMSprop"]

Array = NDArray[Any]
Params = Iterable[Tensor] | Iterable[Mapping[str, Any]]

_COMMON: dict[str, Option] = {"lr": real, "weight_decay": real, "maximize": flag}


class SGD(Optimizer):
    """p = p - lr * v, where v = momentum * v + (1 - dampening) * g, from v = g on

    Without momentum v is g; with nesterov, p = p - lr * (g + momentum * v). weight_decay * p is added to g.
    lr, dampening, weight_decay: 0 or more. momentum: at least 0, below 1. maximize: go uphill.
    Raises ArgumentError for options out of range, and for nesterov without momentum or with dampening.
    Sutskever et al., On the importance of initialization and momentum, 2013; the book's sections 6.1.2 and 6.1.4
    (where v has the other sign and holds lr).

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> x.grad = [1.0, 1.0]
    >>> SGD([x], lr=0.1, momentum=0.9).step()
    >>> x.numpy()
    array([0.9, 1.9])
    """

    options: ClassVar[dict[str, Option]] = {**_COMMON, "momentum": fraction, "dampening": real, "nesterov": flag}
    _arrays = ("momentum_buffer",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "nesterov": nesterov, "maximize": maximize})

    def _check_together(self, options: Group) -> None:
        if options["nesterov"] and (not options["momentum"] or options["dampening"]):
            raise ArgumentError(
                "SGD: nesterov",
                f"nesterov=True with momentum={options['momentum']} and dampening={options['dampening']}",
                "a momentum above 0 and no dampening",
                "write momentum=0.9, nesterov=True",
            )

    def _slots(self, option: Mapping[str, Any]) -> tuple[str, ...]:
        return self._arrays if option["momentum"] else ()

    def _update(
        self, option: Mapping[str, Any], step: int, p: Array, g: Array, a: Array, b: Array, *kept: Array
    ) -> None:
        g = _descend(option, p, g, a, b)
        for v in kept:
            if step == 1:
                np.copyto(v, g)
            else:
                np.multiply(v, option["momentum"], out=v)
                np.add(v, np.multiply(g, 1 - option["dampening"], out=a) if option["dampening"] else g, out=v)
            if option["nesterov"]:
                np.multiply(v, option["momentum"], out=a)
                g = np.add(a, g, out=b)
            else:
                g = v
        np.multiply(g, option["lr"], out=a)
        np.subtract(p, a, out=p)


class Adagrad(Optimizer):
    """p = p - lr / (1 + (step - 1) * lr_decay) * g / (sqrt(s) + eps), where s = s + g^2

    s begins with initial_accumulator_value. weight_decay * p is added to g.
    lr, lr_decay, weight_decay, initial_accumulator_value, eps: 0 or more. maximize: go uphill.
    An eps that is 0 in the parameter's dtype, as 1e-10 is in float16, is refused: s = 0 would give 0 / 0.
    Raises ArgumentError for options out of range. Duchi et al., Adaptive subgradient methods, 2011; the book's
    section 6.1.5.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> x.grad = [5.0, -0.1]
    >>> Adagrad([x], lr=0.1).step()
    >>> x.numpy()
    array([0.9, 2.1])
    """

    options: ClassVar[dict[str, Option]] = {**_COMMON, "lr_decay": real, "initial_accumulator_value": real, "eps": real}
    _arrays = ("sum",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps, "maximize": maximize}
        super().__init__(params, {**defaults, "initial_accumulator_value": initial_accumulator_value})

    def _floor(self, option: Mapping[str, Any]) -> float:
        return float(option["eps"])

    def _first_value(self, option: Mapping[str, Any]) -> float:
        return float(option["initial_accumulator_value"])

    def _update(
        self, option: Mapping[str, Any], step: int, p: Array, g: Array, a: Array, b: Array, *kept: Array
    ) -> None:
        (s,) = kept
        g = _descend(option, p, g, a, b)
        np.multiply(g, g, out=a)
        np.add(s, a, out=s)
        np.sqrt(s, out=a)
        np.add(a, option["eps"], out=a)
        np.divide(g, a, out=a)
        np.multiply(a, option["lr"] / (1 + (step - 1) * option["lr_decay"]), out=a)
        np.subtract(p, a, out=p)


class RMSprop(Optimizer):
    """p = p - lr * g / (sqrt(v) + eps), where v = alpha * v + (1 - alpha) * g^2

    centered: v less the square of m = alpha * m + (1 - alpha) * g stands under the root: the variance of g.
    momentum: p = p - lr * u, where u = momentum * u + g / (sqrt(v) + eps). weight_decay * p is added to g.
    lr, eps, weight_decay: 0 or more. alpha, momentum: at least 0, below 1. maximize: go uphill.
    An eps that is 0 in the parameter's dtype, as 1e-8 is in float16, is refused: v = 0 would give 0 / 0.
    Raises ArgumentError for options out of range. Tieleman and Hinton, lecture 6.5 of Neural networks for machine
    learning, 2012; centered: Graves, Generating sequences, 2013.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> x.grad = [5.0, -0.1]
    >>> RMSprop([x], lr=0.01).step()
    >>> x.numpy()
    array([0.9      , 2.0999999])
    """

    options: ClassVar[dict[str, Option]] = {
        **_COMMON,
        "alpha": fraction,
        "eps": real,
        "momentum": fraction,
        "centered": flag,
    }
    _arrays = ("square_avg", "grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "momentum": momentum, "centered": centered, "maximize": maximize})

    def _floor(self, option: Mapping[str, Any]) -> float:
        return float(option["eps"])

    def _slots(self, option: Mapping[str, Any]) -> tuple[str, ...]:
        wanted = (True, option["centered"], option["momentum"])
        return tuple(name for name, want in zip(self._arrays, wanted, strict=True) if want)

    def _update(
        self, option: Mapping[str, Any], step: int, p: Array, g: Array, a: Array, b: Array, *kept: Array
    ) -> None:
        v, *others = kept
        g = _descend(option, p, g, a, b)
        np.multiply(g, g, out=a)
        _average(v, a, option["alpha"], a)
        if option["centered"]:
            m = others.pop(0)
            _average(m, g, option["alpha"], a)
            np.multiply(m, m, out=a)
            np.subtract(v, a, out=a)
            np.maximum(a, 0, out=a)  # rounding can leave it below 0, and its root nan, where g hardly changes
            np.sqrt(a, out=a)
        else:
            np.sqrt(v, out=a)
        np.add(a, option["eps"], out=a)
        np.divide(g, a, out=a)
        for u in others:
            np.multiply(u, option["momentum"], out=u)
            np.add(u, a, out=u)
            np.copyto(a, u)
        np.multiply(a, option["lr"], out=a)
        np.subtract(p, a, out=p)


class Adam(Optimizer):
    """p = p - lr * m' / (sqrt(v') + eps), where m' = m / (1 - beta1^step) and v' = v / (1 - beta2^step)

    m = beta1 * m + (1 - beta1) * g and v = beta2 * v + (1 - beta2) * g^2; weight_decay * p is added to g.
    amsgrad: the largest v so far stands in place of v.
    lr, eps, weight_decay: 0 or more. betas: both at least 0, below 1. maximize: go uphill.
    An eps for which eps * sqrt(1 - beta2), the divisor where v is 0, is 0 in the parameter's dtype, as 1e-8 is in
    float16, is refused. In float16 v is 0 below a gradient of 5e-3: better train in float32.
    Raises ArgumentError for options out of range. Kingma and Ba, Adam, 2015; Reddi et al., On the convergence of Adam
    and beyond, 2018; the book's section 6.1.6 (which adds eps to the root of v itself, in place of v').

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> x.grad = [5.0, -0.1]
    >>> Adam([x], lr=0.1).step()
    >>> x.numpy()
    array([0.9      , 2.09999999])
    """

    options: ClassVar[dict[str, Option]] = {**_COMMON, "betas": pair, "eps": real, "amsgrad": flag}
    _arrays = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "amsgrad": amsgrad, "maximize": maximize})

    def _floor(self, option: Mapping[str, Any]) -> float:
        return float(option["eps"] * (1 - option["betas"][1]) ** 0.5)

    def _slots(self, option: Mapping[str, Any]) -> tuple[str, ...]:
        return self._arrays if option["amsgrad"] else self._arrays[:2]

    def _decayed(self, option: Mapping[str, Any], p: Array, g: Array, a: Array, b: Array) -> Array:
        return _descend(option, p, g, a, b)

    def _update(
        self, option: Mapping[str, Any], step: int, p: Array, g: Array, a: Array, b: Array, *kept: Array
    ) -> None:
        m, v, *largest = kept
        beta1, beta2 = option["betas"]
        g = self._decayed(option, p, g, a, b)
        _average(m, g, beta1, a)
        np.multiply(g, g, out=a)
        _average(v, a, beta2, a)
        for v_max in largest:
            v = np.maximum(v_max, v, out=v_max)
        # Both corrections are numbers: m' / (sqrt(v') + eps) = root / (1 - beta1^step) * m / (sqrt(v) + eps * root)
        root = (1 - beta2**step) ** 0.5
        np.sqrt(v, out=a)
        np.add(a, option["eps"] * root, out=a)
        np.divide(m, a, out=a)
        np.multiply(a, option["lr"] * root / (1 - beta1**step), out=a)
        np.subtract(p, a, out=p)


class AdamW(Adam):
    """p = (1 - lr * weight_decay) * p - lr * m' / (sqrt(v') + eps), with m' and v' as in Adam

    The weight decay stays out of the gradient, and so out of m and v. Everything else is Adam's.
    Raises ArgumentError for options out of range. Loshchilov and Hutter, Decoupled weight decay regularization, 2019.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> x.grad = [5.0, -0.1]
    >>> AdamW([x], lr=0.1, weight_decay=0.5).step()
    >>> x.numpy()
    array([0.85      , 1.99999999])
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)

    def _decayed(self, option: Mapping[str, Any], p: Array, g: Array, a: Array, b: Array) -> Array:
        return _decay_apart(option, p, g, b)


class Lion(Optimizer):
    """p = (1 - lr * weight_decay) * p - lr * sign(beta1 * m + (1 - beta1) * g); m = beta2 * m + (1 - beta2) * g

    lr, weight_decay: 0 or more. betas: both at least 0, below 1. maximize: go uphill. A step moves every value by lr:
    the paper takes an lr 3 to 10 times smaller than for AdamW, and a weight_decay larger by as much.
    Raises ArgumentError for options out of range. Chen et al., Symbolic discovery of optimization algorithms, 2023.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> x.grad = [5.0, -0.1]
    >>> Lion([x], lr=0.1).step()
    >>> x.numpy()
    array([0.9, 2.1])
    """

    options: ClassVar[dict[str, Option]] = {**_COMMON, "betas": pair}
    _arrays = ("exp_avg",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize})

    def _update(
        self, option: Mapping[str, Any], step: int, p: Array, g: Array, a: Array, b: Array, *kept: Array
    ) -> None:
        (m,) = kept
        beta1, beta2 = option["betas"]
        g = _decay_apart(option, p, g, b)
        np.subtract(g, m, out=a)
        np.multiply(a, 1 - beta1, out=a)
        np.add(m, a, out=a)
        np.sign(a, out=a)
        np.multiply(a, option["lr"], out=a)
        np.subtract(p, a, out=p)
        _average(m, g, beta2, a)


def _average(mean: Array, x: Array, beta: float, a: Array) -> None:
    """mean = beta * mean + (1 - beta) * x; x may be a, the scratch."""
    np.multiply(mean, beta, out=mean)
    np.multiply(x, 1 - beta, out=a)
    np.add(mean, a, out=mean)


def _decay_apart(option: Mapping[str, Any], p: Array, g: Array, b: Array) -> Array:
    """The gradient of what is minimised, after the weight decay has gone straight into p."""
    if option["weight_decay"]:
        np.multiply(p, 1 - option["lr"] * option["weight_decay"], out=p)
    return np.negative(g, out=b) if option["maximize"] else g


def _descend(option: Mapping[str, Any], p: Array, g: Array, a: Array, b: Array) -> Array:
    """The gradient of what is minimised: -g to maximize, and weight_decay * p on top; in b unless it is g itself."""
    if option["maximize"]:
        g = np.negative(g, out=b)
    if option["weight_decay"]:
        np.multiply(p, option["weight_decay"], out=a)
        g = np.add(g, a, out=b)
    return g
