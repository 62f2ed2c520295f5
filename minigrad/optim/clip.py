"""Gradients kept within bounds before a step: each value by itself, then all of them by their norm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.optim.options import check_option, listed, name_of, positive, real
from minigrad.standin import whole
from minigrad.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_"]

Array = NDArray[Any]

_BLOCK = 1 << 16


def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """grad = min(max(grad, -clip_value), clip_value), in place, for every parameter that has a gradient

    Raises ArgumentError for a clip_value below 0 and for no parameters, DTypeError for what is no tensor.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> x.grad = [-3.0, 0.5]
    >>> clip_grad_value_([x], 1.0)
    >>> x.grad
    array([-1. , 0.5])
    """
    bound = check_option("clip_grad_value_", "clip_value", clip_value, real)
    for _, g in _gradients("clip_grad_value_: parameters", parameters):
        np.maximum(g, -bound, out=g)
        np.minimum(g, bound, out=g)


def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """grad = grad * min(1, max_norm / (norm + 1e-6)), in place; norm is that of all gradients as one vector

    norm_type: p of the p-norm, above 0; float("inf") for the largest absolute value. Returns the norm as it was before.
    A norm that is nan makes all gradients nan, an infinite one makes them 0 or nan: error_if_nonfinite raises instead,
    and leaves them as they are.
    Raises ArgumentError for a max_norm below 0, a norm_type that is not above 0 and for no parameters, DTypeError
    for what is no tensor. Pascanu et al., On the difficulty of training recurrent neural networks, 2013.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> x.grad = [3.0, 4.0]
    >>> clip_grad_norm_([x], max_norm=1.0)
    5.0
    >>> x.grad
    array([0.59999988, 0.79999984])
    """
    where = "clip_grad_norm_"
    bound = math.inf if _is_infinite(max_norm) else check_option(where, "max_norm", max_norm, real)
    p = math.inf if _is_infinite(norm_type) else check_option(where, "norm_type", norm_type, positive)
    found = _gradients(f"{where}: parameters", parameters)
    names, gradients = [name for name, _ in found], [g for _, g in found]
    total: float = whole(_clip, names, gradients, bound, p, error_if_nonfinite, changed=gradients)
    return total


def _clip(names: list[str], gradients: list[Array], bound: float, p: float, error_if_nonfinite: bool) -> float:
    total = _norm_of_norms([_norm(g, p) for g in gradients], p)
    if not math.isfinite(total):
        if error_if_nonfinite:
            raise ArgumentError("clip_grad_norm_: parameters", *_first_bad(names, gradients, total))
        coefficient = math.nan if math.isnan(total) else 0.0
    else:
        coefficient = min(1.0, bound / (total + 1e-6))
    if coefficient != 1:
        for g in gradients:
            with np.errstate(invalid="ignore"):  # inf * 0
                np.multiply(g, coefficient, out=g)
    return total


def _is_infinite(value: Any) -> bool:
    return isinstance(value, (str, float, np.floating)) and value in (math.inf, "inf")


def _gradients(where: str, parameters: Any) -> list[tuple[str, Array]]:
    """Name and gradient of every parameter that has one."""
    found = [parameters] if isinstance(parameters, Tensor) else listed(where, parameters)
    for i, p in enumerate(found):
        if not isinstance(p, Tensor):
            raise DTypeError(where, f"{describe(p)} at {i}", "tensors", "write model.parameters()")
    pairs = ((name_of(p, i), p.grad) for i, p in enumerate(found))
    return [(name, g) for name, g in pairs if g is not None]


def _norm_of_norms(norms: list[float], p: float) -> float:
    """The norm of a vector in pieces, from the norms of the pieces; nan if one is."""
    if not norms or any(map(math.isnan, norms)):
        return math.nan if norms else 0.0
    top = max(norms)
    if top in (0.0, math.inf) or p == math.inf:
        return top
    return top * float(math.fsum((n / top) ** p for n in norms) ** (1 / p))


def _norm(g: Array, p: float) -> float:
    """The p-norm of one gradient; for p = 2 and inf without a temporary array."""
    flat = g.reshape(-1, order="A")
    if not g.size:
        return 0.0
    if p == 2:
        # In blocks, because the sum of many float32 squares is itself float32.
        blocks = (flat[i : i + _BLOCK] for i in range(0, g.size, _BLOCK))
        with np.errstate(over="ignore", under="ignore"):
            squares = sum(float(np.dot(block, block)) for block in blocks)
        if np.finfo(g.dtype).tiny * 1e16 < squares < math.inf:  # no square has overflowed, none that counts is lost
            return math.sqrt(squares)
    top = max(float(flat.max()), -float(flat.min()))
    if p == math.inf or not 0 < top < math.inf:
        return top
    return top * float((np.abs(flat / top) ** p).sum(dtype=np.float64) ** (1 / p))


def _first_bad(names: list[str], gradients: list[Array], total: float) -> tuple[str, str, str]:
    expected, fix = "a finite norm", "look at the loss of this batch before clipping: is it finite?"
    for name, g in zip(names, gradients, strict=True):
        bad = np.argwhere(~np.isfinite(g))
        if len(bad):
            index = tuple(map(int, bad[0]))
            return f"the norm is {total}: the gradient of {name} is {g[index]} at {list(index)}", expected, fix
    return f"the norm is {total}", expected, fix
