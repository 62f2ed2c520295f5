"""The layers of the book's chapter 5: forward and backward on plain arrays, by minigrad's ops.

As in the book, a layer remembers its latest forward, and backward belongs to that one. A layer that is used twice
in one net needs two objects; with Tensors and loss.backward() there is no such rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minigrad import ops
from minigrad.autograd import enable_grad, grad
from minigrad.contract import numbers
from minigrad.errors import GraphError, ShapeError, describe
from minigrad.tensor import Tensor, plain

__all__ = ["AddLayer", "Affine", "Layer", "MulLayer", "Relu", "Sigmoid", "SoftmaxWithLoss"]

Array = NDArray[Any]


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

    def _record(self, op: Callable[..., Tensor], *arrays: Any) -> Any:
        """op of the arrays as an array, or as a number where it is one."""
        inputs = [_leaf(type(self).__name__, array) for array in arrays]
        with enable_grad():
            out = op(*inputs)
        self._inputs, self._out = inputs, out
        return _plain_copy(out)

    def _pull(self, dout: Any) -> tuple[Any, ...]:
        """dout times the derivative of the latest forward, for each of its inputs."""
        where = f"{type(self).__name__}.backward"
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


class MulLayer(Layer):
    """out = x * y. Source: Deep Learning from Scratch, section 5.4.1.

    x, y: numbers, or arrays that broadcast. dout: of the result's shape, or one number for all entries.
    Raises ShapeError for shapes that do not broadcast, GraphError for a backward without a forward.

    >>> mul = MulLayer()
    >>> mul.forward(100, 2), mul.backward(1.1)
    (200.0, (2.2, 110.00000000000001))
    """

    def forward(self, x: Any, y: Any) -> Any:
        """out = x * y"""
        return self._record(ops.multiply, x, y)

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """dx = dout * y, dy = dout * x"""
        dx, dy = self._pull(dout)
        return dx, dy


class AddLayer(Layer):
    """out = x + y. Source: Deep Learning from Scratch, section 5.4.2.

    x, y: numbers, or arrays that broadcast. dout: of the result's shape, or one number for all entries.
    Raises ShapeError for shapes that do not broadcast, GraphError for a backward without a forward.

    >>> add = AddLayer()
    >>> add.forward(200, 450), add.backward(1.1)
    (650.0, (1.1, 1.1))
    """

    def forward(self, x: Any, y: Any) -> Any:
        """out = x + y"""
        return self._record(ops.add, x, y)

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """dx = dout, dy = dout"""
        dx, dy = self._pull(dout)
        return dx, dy


class Relu(Layer):
    """out = max(x, 0). Source: Deep Learning from Scratch, section 5.5.1.

    x: numbers of any shape. dout: of x's shape; it is not written into, as the book's layer does.
    Raises ShapeError for a dout of another shape, GraphError for a backward without a forward.

    >>> relu = Relu()
    >>> relu.forward(np.array([[1.0, -0.5], [-2.0, 3.0]]))
    array([[1., 0.], [0., 3.]])
    >>> relu.backward(np.full((2, 2), 5.0))
    array([[5., 0.], [0., 5.]])
    """

    def forward(self, x: Any) -> Any:
        """out = max(x, 0)"""
        return self._record(ops.relu, x)

    def backward(self, dout: Any) -> Any:
        """dx = dout where x > 0, else 0"""
        return self._pull(dout)[0]


class Sigmoid(Layer):
    """out = 1 / (1 + exp(-x)). Source: Deep Learning from Scratch, section 5.5.2.

    x: numbers of any shape. dout: of x's shape. The book's dout * (1 - out) * out is 0 from x = 37 on; the op's
    slope keeps its digits. Raises ShapeError for a dout of another shape, GraphError for a backward without a
    forward.

    >>> sigmoid = Sigmoid()
    >>> sigmoid.forward(5.0), sigmoid.backward(1.0)
    (0.9933071490757..., 0.006648056670790...)
    """

    def forward(self, x: Any) -> Any:
        """out = 1 / (1 + exp(-x))"""
        return self._record(ops.sigmoid, x)

    def backward(self, dout: Any) -> Any:
        """dx = dout * exp(-x) / (1 + exp(-x))**2"""
        return self._pull(dout)[0]


class Affine(Layer):
    """out = x @ W + b. Source: Deep Learning from Scratch, section 5.6.

    W: (D, M). b: (M,). The layer refers to both, and reads them at each forward.
    x: (N, D), or (D,) for one sample; of more axes, such as (N, C, H, W), all but the first become one.
    dW, db: the gradients that the latest backward found, None before it. dx has x's own shape.
    Raises ShapeError where x does not fit W or dout the result, GraphError for a backward without a forward.

    >>> affine = Affine(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 1.0]))
    >>> affine.forward(np.array([[1.0, 1.0]]))
    array([[5., 7.]])
    >>> affine.backward(np.array([[1.0, 0.0]]))
    array([[1., 3.]])
    >>> affine.db
    array([1., 0.])
    """

    def __init__(self, W: Any, b: Any) -> None:
        super().__init__()
        self.W, self.b = W, b
        self.dW: Any = None
        self.db: Any = None

    def forward(self, x: Any) -> Any:
        """out = x @ W + b"""
        return self._record(lambda x, W, b: ops.add(ops.matmul(_rows(x), W), b), x, self.W, self.b)

    def backward(self, dout: Any) -> Any:
        """dx = dout @ W.T, dW = x.T @ dout, db = dout summed over the samples"""
        dx, self.dW, self.db = self._pull(dout)
        return dx


class SoftmaxWithLoss(Layer):
    """loss = -sum(t * log(softmax(x))) / N. Source: Deep Learning from Scratch, section 5.6.3.

    x: scores (N, C), or (C,) for a batch of one. t: class numbers (N,), or one-hot or soft labels of x's shape;
        class numbers and one-hot rows give the same bits. The loss has no 1e-7 in its log.
    loss, y, t: the latest forward's loss, softmax(x) and labels; None before it.
    Raises as minigrad.softmax_cross_entropy: ShapeError, LabelError, DTypeError, ArgumentError for labels that do
    not fit; GraphError for a backward without a forward.

    >>> layer = SoftmaxWithLoss()
    >>> layer.forward(np.array([[0.0, 0.0]]), np.array([1]))
    0.693147180559...
    >>> layer.backward()
    array([[ 0.5, -0.5]])
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss: float | None = None
        self.t: Any = None

    @property
    def y(self) -> Any:
        """softmax(x) of the latest forward, or None."""
        return ops.softmax(self._inputs[0].detach()).data if self._inputs else None

    def forward(self, x: Any, t: Any) -> float:
        """loss = the cross-entropy of softmax(x) and t, averaged over the samples"""
        loss: float = self._record(lambda x: ops.softmax_cross_entropy(x, t), x)
        self.loss, self.t = loss, t
        return loss

    def backward(self, dout: Any = 1) -> Any:
        """dx = (softmax(x) - t) / N * dout"""
        return self._pull(dout)[0]


def _leaf(layer: str, array: Any) -> Tensor:
    """A copy of array that collects gradients: floats as they are, integers as float64."""
    value = numbers(f"{layer}.forward", plain(array), None, copy=False)
    return Tensor(value, dtype=None if value.dtype.kind == "f" else np.float64, requires_grad=True)


def _plain_copy(t: Tensor) -> Any:
    return t.data.copy() if t.ndim else t.item()


def _rows(x: Tensor) -> Tensor:
    """x with all axes but the first as one, where it has more than two."""
    return x if x.ndim <= 2 else ops.reshape(x, (len(x), int(np.prod(x.shape[1:]))))
