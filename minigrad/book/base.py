"""What the book's layers are made of: an op recorded by forward, asked for its derivative by backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import ops
from minigrad.autograd import enable_grad, grad
from minigrad.contract import numbers
from minigrad.errors import ArgumentError, GraphError, ShapeError, describe
from minigrad.tensor import Tensor, plain

__all__ = ["Layer", "draws", "rows"]


class Layer:
    """What the layers share: forward records an op on leaves of its own, backward asks minigrad.grad.

    Arrays are copied on the way in and out, so nothing that happens to them later changes backward.

    >>> class Square(Layer):
    ...     def forward(self, x):
    ...         return self._record(lambda x: x * x, x)
    ...     def backward(self, dout):
    ...         return self._pull(dout)[0]
    >>> square = Square()
    >>> square.forward(3.0), square.backward(1)
    (9.0, 6.0)
    """

    if TYPE_CHECKING:
        forward: Callable[..., Any]
        backward: Callable[..., Any]

    def __init__(self) -> None:
        self._inputs: list[Tensor] = []
        self._out: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A graph is not copied or pickled: a copy of a layer, or of a net, has parameters and no forward yet.
        return {**self.__dict__, "_inputs": [], "_out": None}

    @property
    def _name(self) -> str:
        """What error messages call the layer; a net gives its layers their own names."""
        return type(self).__name__

    def _record(self, op: Callable[..., Tensor], *arrays: Any) -> Any:
        """op of the arrays as an array, or as a number where it is one."""
        inputs = [_leaf(self._name, array) for array in arrays]
        with enable_grad():
            out = op(*inputs)
        self._inputs, self._out = inputs, out
        return _plain_copy(out)

    def _pull(self, dout: Any) -> tuple[Any, ...]:
        """dout times the derivative of the latest forward, for each of its inputs."""
        where = f"{self._name}.backward"
        if self._out is None:
            raise GraphError(where, "a layer without a forward", "a forward first", "call forward(...) before it")
        dout = numbers(f"{where}: dout", plain(dout), None, copy=False)
        if not dout.ndim:
            dout = np.full(self._out.shape, dout)
        elif dout.shape != self._out.shape:
            raise ShapeError(
                f"{where}: dout",
                f"dout is {describe(dout)}, and forward gave {describe(self._out)}",
                f"shape {self._out.shape}, or one number for all entries",
                "pass what the next layer's backward returned",
            )
        return tuple(_plain_copy(dx) for dx in grad(self._out, self._inputs, dout, retain_graph=True))

    def _input(self, i: int = 0) -> Any:
        """Argument i of the latest forward, read-only; None before it."""
        return self._inputs[i].numpy() if self._inputs else None


def rows(x: Tensor) -> Tensor:
    """x with all axes but the first as one, where it has more than two."""
    return x if x.ndim <= 2 else ops.reshape(x, (len(x), int(np.prod(x.shape[1:]))))


def draws(seed: Any, where: str) -> Any:
    """What rand, randn, choice and permutation are called on.

    None: NumPy's global random state, which is what the book's code draws from, so that np.random.seed(0) before it
        gives the book's own numbers. A whole number: what would be drawn after np.random.seed of that number.
    A numpy Generator or RandomState: what comes next from there.
    Raises ArgumentError for anything else.
    """
    if seed is None:
        return np.random
    if isinstance(seed, np.random.RandomState):
        return seed
    if isinstance(seed, np.random.Generator):
        seed = seed.bit_generator
    elif isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ArgumentError(
            f"{where}: seed",
            describe(seed),
            "None for NumPy's global state, a whole number from 0 to 2**32 - 1, or a numpy.random.Generator",
            "pass seed=0, for example",
        )
    return np.random.RandomState(seed)


def _leaf(layer: str, array: Any) -> Tensor:
    """A copy of array that collects gradients: floats as they are, integers as float64."""
    value = numbers(f"{layer}.forward", plain(array), None, copy=False)
    return Tensor(value, dtype=None if value.dtype.kind == "f" else np.float64, requires_grad=True)


def _plain_copy(t: Tensor) -> Any:
    return t.data.copy() if t.ndim else t.item()
