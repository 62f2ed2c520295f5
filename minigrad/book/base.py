"""What the book's layers are made of: an op recorded by forward, asked for its derivative by backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from minigrad import ops
from minigrad.autograd import enable_grad, grad
from minigrad.contract import numbers
from minigrad.data.digits import label_rows
from minigrad.errors import ArgumentError, GraphError, ShapeError, describe
from minigrad.tape import FOREIGN
from minigrad.tensor import Tensor, plain, wrap

__all__ = ["Layer", "distributions", "draws", "floats", "rows", "without_graphs"]

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

# The layers that have computed inside the without_graphs() that is open, by id.
_computed: ContextVar[WeakValueDictionary[int, Layer] | None] = ContextVar("minigrad_book_computed", default=None)


class Layer:
    """What the layers share: forward records an op on leaves of its own, backward asks minigrad.grad.

    Arrays are copied on the way in, and those that are handed out are the caller's own: nothing that happens to them
    later changes backward.

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

    _op: Callable[..., Tensor] | None = None  # that of a forward which has not been recorded yet
    _among: Any = None  # the layers of the without_graphs() that knows this one

    def __init__(self) -> None:
        self._inputs: list[Tensor] = []
        self._out: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A graph is not copied or pickled: a copy of a layer, or of a net, has parameters and no forward yet.
        return {**self.__dict__, "_inputs": [], "_out": None, "_op": None, "_among": None}

    @property
    def _name(self) -> str:
        """What error messages call the layer; a net gives its layers their own names."""
        return type(self).__name__

    def _record(self, op: Callable[..., Tensor], *arrays: Any) -> Any:
        """op of the arrays as an array, or as a number where it is one."""
        computed = _computed.get()
        if computed is None:
            inputs = [_leaf(self._name, array) for array in arrays]
            with enable_grad():
                out = op(*inputs)
            self._inputs, self._out, self._op = inputs, out, None
            return _own(out)
        inputs = [wrap(floats(self._name, array), None, FOREIGN) for array in arrays]
        out = op(*inputs)
        self._inputs, self._out, self._op = inputs, out, op
        if self._among is not computed:
            computed[id(self)], self._among = self, computed
        return _own(out)

    def _record_late(self) -> None:
        """The graph of a forward that has been computed without one."""
        if self._op is not None:
            self._inputs = [Tensor(x, requires_grad=True) for x in self._inputs]
            with enable_grad():
                self._out, self._op = self._op(*self._inputs), None

    def _pull(self, dout: Any, start: int = 0) -> tuple[Any, ...]:
        """dout times the derivative of the latest forward, for each of its inputs from start on."""
        where = f"{self._name}.backward"
        if self._out is None:
            raise GraphError(where, "a layer without a forward", "a forward first", "call forward(...) before it")
        self._record_late()
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
        inputs = self._inputs[start:]
        found = grad(self._out, inputs, dout, retain_graph=True, allow_unused=True)  # in arrays of their own
        if any(dx is None for dx in found):
            grad(self._out, inputs, dout, retain_graph=True)  # which says so, and costs another look at the graph
        return tuple([dx.data if dx.ndim else dx.item() for dx in found])

    def _input(self, i: int = 0) -> Any:
        """Argument i of the latest forward, read-only; None before it."""
        return self._inputs[i].numpy() if self._inputs else None


@contextmanager
def without_graphs() -> Iterator[None]:
    """Within, layers compute on the arrays themselves, without a copy or a graph: a numerical gradient needs none.

    backward is the derivative of the latest forward all the same, within and afterwards: it records it then. What
    the layers refer to is copied at the end.

    >>> from minigrad.book.layers import Relu
    >>> relu = Relu()
    >>> with without_graphs():
    ...     relu.forward(np.array([1.0, -1.0]))
    array([1., 0.])
    >>> relu.backward(np.ones(2))
    array([1., 0.])
    """
    if _computed.get() is not None:
        yield
        return
    computed: WeakValueDictionary[int, Layer] = WeakValueDictionary()
    token = _computed.set(computed)
    try:
        yield
    finally:
        _computed.reset(token)
        for layer in list(computed.values()):
            layer._among = None
            layer._record_late()


def distributions(function: str, shape: tuple[int, ...], t: Any) -> NDArray[Any]:
    """Labels for scores or probabilities of that shape, as one distribution a sample: one-hot or soft rows.

    Raises ShapeError, LabelError or DTypeError in function's name for labels that do not fit.

    >>> distributions("f", (2, 3), [0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    labels: NDArray[Any] = numbers(f"{function}: t", plain(t), None, copy=False)
    if not 1 <= len(shape) <= 2 or labels.shape not in (shape, shape[:-1]):
        raise ShapeError(
            f"{function}: t",
            f"y has shape {shape}, t is {describe(labels)}",
            f"y of shape (N, C) or (C,), and t of shape {shape[:-1]} or {shape}",
            "pass one label for each row of y",
        )
    return labels if labels.shape == shape else label_rows(f"{function}: t", labels, shape[-1])


def rows(x: Tensor) -> Tensor:
    """x with all axes but the first as one, where it has more than two.

    >>> rows(Tensor(np.zeros((5, 1, 2, 2)))).shape
    (5, 4)
    """
    return x if x.ndim <= 2 else ops.reshape(x, (len(x), int(np.prod(x.shape[1:]))))


def draws(seed: Any, where: str) -> Any:
    """What rand, randn, choice and permutation are called on.

    None: NumPy's global random state, which is what the book's code draws from, so that np.random.seed(0) before it
        gives the book's own numbers. A whole number: what would be drawn after np.random.seed of that number.
    A numpy Generator or RandomState: what comes next from there.
    Raises ArgumentError for anything else.

    >>> draws(0, "Net").randn(2)
    array([1.76405235, 0.40015721])
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
    return Tensor(floats(layer, array), requires_grad=True)


def floats(layer: str, array: Any) -> Any:
    """The array itself where it has floats, integers as float64; layer is what an error calls it.

    >>> floats("Relu", [1, 2])
    array([1., 2.])
    """
    if type(array) is np.ndarray and (array.dtype is _FLOAT64 or array.dtype is _FLOAT32):
        return array
    value = numbers(f"{layer}.forward", plain(array), None, copy=False)
    return value if value.dtype.kind == "f" else value.astype(np.float64)


def _own(out: Tensor) -> Any:
    """The values of out, as a number or in an array that no rule looks at."""
    array, node = out._data, out._node
    if not array.ndim:
        return array.item()
    if array.base is not None:
        return array.copy()
    saved = () if node is None else node.saved or ()
    return array.copy() if any(isinstance(a, np.ndarray) and np.may_share_memory(a, array) for a in saved) else array
