"""The two networks of the book: SimpleNet of section 4.4.2, TwoLayerNet of section 5.7."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad import ops
from minigrad.book.functions import distributions
from minigrad.book.gradient import numerical_gradient
from minigrad.book.layers import Affine, Layer, Relu, SoftmaxWithLoss
from minigrad.errors import ArgumentError, describe
from minigrad.tensor import Tensor, plain

__all__ = ["SimpleNet", "TwoLayerNet"]

Array = NDArray[Any]


class SimpleNet:
    """z = x @ W, loss = the cross-entropy of softmax(z) and t. Source: Deep Learning from Scratch, section 4.4.2.

    W: (2, 3), referred to where it is a float64 array; if it is left out, normal numbers drawn from seed.
    x: (2,) or (N, 2). t: class numbers, or one-hot or soft labels. Errors as in minigrad.softmax_cross_entropy.

    >>> net = SimpleNet(np.array([[0.5, 1.0, 0.8], [0.8, 0.1, 0.7]]))
    >>> x, t = np.array([0.6, 0.9]), np.array([0, 0, 1])
    >>> net.gradient(x, t)
    array([[ 0.21328798,  0.15333779, -0.36662577],
           [ 0.31993197,  0.23000669, -0.54993866]])
    >>> np.allclose(numerical_gradient(lambda W: net.loss(x, t), net.W), net.gradient(x, t))
    True
    """

    def __init__(self, W: ArrayLike | None = None, *, seed: int | np.random.Generator = 0) -> None:
        self.W: Array = np.random.default_rng(seed).standard_normal((2, 3)) if W is None else np.asarray(W, np.float64)

    def predict(self, x: ArrayLike) -> Array:
        """z = x @ W"""
        return ops.matmul(x, self.W).data

    def loss(self, x: ArrayLike, t: ArrayLike) -> float:
        """The cross-entropy of softmax(x @ W) and t."""
        return SoftmaxWithLoss().forward(self.predict(x), t)

    def gradient(self, x: ArrayLike, t: ArrayLike) -> Array:
        """d(loss)/dW, by backward."""
        affine, last_layer = Affine(self.W, np.zeros(self.W.shape[1])), SoftmaxWithLoss()
        last_layer.forward(affine.forward(x), t)
        affine.backward(last_layer.backward(1))
        dW: Array = affine.dW
        return dW


class TwoLayerNet:
    """Affine, Relu, Affine, SoftmaxWithLoss. Source: Deep Learning from Scratch, section 5.7.

    params: W1 (input_size, hidden_size), b1, W2 (hidden_size, output_size), b2; W from normal numbers times
        weight_init_std, drawn from seed (a number or a numpy Generator), b zero.
    layers: Affine1, Relu1, Affine2 in order. last_layer, also as lastLayer: the SoftmaxWithLoss.
    The layers look params up at each use, so `net.params["W1"] -= lr * dW` and
    `net.params["W1"] = net.params["W1"] - lr * dW` both reach them; the book's lose the second.
    x: (N, input_size), or one sample. t: class numbers, or one-hot or soft labels.
    Raises ArgumentError for a size that is no positive integer, ShapeError and LabelError for an x or t that does
    not fit.

    >>> net = TwoLayerNet(4, 5, 3)
    >>> x, t = np.eye(4), np.array([0, 1, 2, 0])
    >>> for _ in range(200):
    ...     for key, dW in net.gradient(x, t).items():
    ...         net.params[key] -= 1.0 * dW
    >>> net.accuracy(x, t)
    1.0
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        weight_init_std: float = 0.01,
        *,
        seed: int | np.random.Generator = 0,
    ) -> None:
        for name, size in (("input", input_size), ("hidden", hidden_size), ("output", output_size)):
            if not isinstance(size, (int, np.integer)) or size < 1:
                raise ArgumentError(
                    f"TwoLayerNet: {name}_size", describe(size), "a positive integer", f"pass {name}_size=10, say"
                )
        rng = np.random.default_rng(seed)
        self._params: dict[str, Any] = {
            "W1": weight_init_std * rng.standard_normal((input_size, hidden_size)),
            "b1": np.zeros(hidden_size),
            "W2": weight_init_std * rng.standard_normal((hidden_size, output_size)),
            "b2": np.zeros(output_size),
        }
        self.layers: OrderedDict[str, Layer] = OrderedDict(
            Affine1=_AffineOf(self._params, "W1", "b1"),
            Relu1=Relu(),
            Affine2=_AffineOf(self._params, "W2", "b2"),
        )
        self.last_layer = SoftmaxWithLoss()

    @property
    def params(self) -> dict[str, Any]:
        """W1, b1, W2, b2. Assigning a dict replaces their arrays in the layers too."""
        return self._params

    @params.setter
    def params(self, params: dict[str, Any]) -> None:
        if params.keys() != self._params.keys():
            raise ArgumentError(
                "TwoLayerNet.params", f"the keys {sorted(params)}", f"{sorted(self._params)}", "assign all of them"
            )
        self._params.update(params)

    @property
    def lastLayer(self) -> SoftmaxWithLoss:
        """last_layer, as the book's first edition spells it."""
        return self.last_layer

    def predict(self, x: Any) -> Array:
        """The scores before softmax: x through all layers but the last."""
        for layer in self.layers.values():
            x = layer.forward(x)
        scores: Array = x
        return scores

    def loss(self, x: Any, t: Any) -> float:
        """The cross-entropy of softmax(predict(x)) and t, averaged over the samples."""
        return self.last_layer.forward(self.predict(x), t)

    def accuracy(self, x: Any, t: Any) -> float:
        """The share of samples whose highest score is that of their label."""
        y = self.predict(x)
        t = distributions("accuracy", y.shape, t)
        return float(np.mean(y.argmax(axis=-1) == t.argmax(axis=-1)))

    def gradient(self, x: Any, t: Any) -> dict[str, Array]:
        """d(loss)/d(parameter) for each parameter, by backward through the layers; makes its own forward."""
        self.loss(x, t)
        dout = self.last_layer.backward(1)
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        first, second = self.layers["Affine1"], self.layers["Affine2"]
        assert isinstance(first, Affine)
        assert isinstance(second, Affine)
        return {"W1": first.dW, "b1": first.db, "W2": second.dW, "b2": second.db}

    def numerical_gradient(self, x: Any, t: Any) -> dict[str, Array]:
        """The same by numerical differentiation: two forwards for each number in params."""
        for key, p in self.params.items():
            self.params[key] = plain(p) if isinstance(p, Tensor) else np.asarray(p)  # what the loss reads can be moved
        return {key: numerical_gradient(lambda _: self.loss(x, t), p) for key, p in self.params.items()}


class _AffineOf(Affine):
    """An Affine whose W and b are entries of a net's params, looked up at each use."""

    def __init__(self, params: dict[str, Any], W: str, b: str) -> None:
        self._params, self._names = params, (W, b)
        Layer.__init__(self)
        self.dW = self.db = None

    @property
    def W(self) -> Any:
        """The net's own W."""
        return self._params[self._names[0]]

    @W.setter
    def W(self, value: Any) -> None:
        self._params[self._names[0]] = value

    @property
    def b(self) -> Any:
        """The net's own b."""
        return self._params[self._names[1]]

    @b.setter
    def b(self, value: Any) -> None:
        self._params[self._names[1]] = value
