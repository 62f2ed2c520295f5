"""SimpleNet of the book's section 4.4.2, and what the networks of chapters 5 to 8 share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad import ops
from minigrad.book.base import Layer, distributions, draws, without_graphs
from minigrad.book.convolution import Convolution
from minigrad.book.gradient import numerical_gradient
from minigrad.book.layers import Affine, BatchNormalization, Dropout, SoftmaxWithLoss
from minigrad.book.parameters import read_params, write_params
from minigrad.book.util import conv_output_size
from minigrad.contract import is_whole, whole
from minigrad.errors import ArgumentError, CheckpointError, ShapeError, describe
from minigrad.tensor import Tensor, plain
from minigrad.testing.frozen import Frozen

__all__ = [
    "AffineOf",
    "BatchNormalizationOf",
    "ConvolutionOf",
    "Net",
    "SimpleNet",
    "filters",
    "he_or_xavier",
]

Array = NDArray[Any]


class SimpleNet:
    """z = x @ W, loss = the cross-entropy of softmax(z) and t. Source: Deep Learning from Scratch, section 4.4.2.

    W: (2, 3), referred to where it is a float64 array; if it is left out, normal numbers, drawn from seed (None for
        NumPy's global state, a whole number, or a numpy Generator).
    x: (2,) or (N, 2). t: class numbers, or one-hot or soft labels. Errors as in minigrad.softmax_cross_entropy.

    >>> net = SimpleNet(np.array([[0.5, 1.0, 0.8], [0.8, 0.1, 0.7]]))
    >>> x, t = np.array([0.6, 0.9]), np.array([0, 0, 1])
    >>> net.gradient(x, t)
    array([[ 0.21328798,  0.15333779, -0.36662577],
           [ 0.31993197,  0.23000669, -0.54993866]])
    >>> np.allclose(numerical_gradient(lambda W: net.loss(x, t), net.W), net.gradient(x, t))
    True
    """

    def __init__(self, W: ArrayLike | None = None, *, seed: Any = None) -> None:
        self.W: Array = draws(seed, "SimpleNet").randn(2, 3) if W is None else np.asarray(W, np.float64)

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


class Net:
    """What the networks share: params by name, layers in order, a SoftmaxWithLoss at the end.

    The layers look params up at each use, so `net.params["W1"] -= lr * dW` and
    `net.params["W1"] = net.params["W1"] - lr * dW` both reach them; the book's lose the second.
    x: samples. t: class numbers, or one-hot or soft labels.
    Raises ShapeError, LabelError and DTypeError for an x or t that does not fit.
    A network of one's own fills params and layers; its gradients, accuracy and files are then there:

    >>> class Linear(Net):
    ...     def __init__(self, inputs, outputs):
    ...         super().__init__()
    ...         self.params.update(W1=np.zeros((inputs, outputs)), b1=np.zeros(outputs))
    ...         self.layers["Affine1"] = AffineOf("Affine1", self.params, "W1", "b1")
    >>> net = Linear(2, 3)
    >>> net.gradient(np.array([[0.0, 3.0]]), np.array([2]))["W1"]
    array([[ 0.,  0.,  0.],
           [ 1.,  1., -2.]])
    """

    # Flags are passed where the book passes them: a reader's own predict(x) or loss(x, t) has none.
    _trains_by_default = False  # loss(x, t) is that of training
    _asks_for_training = False  # the loss of training is loss(x, t, train_flg=True)
    weight_decay_lambda: float = 0

    def __init__(self) -> None:
        self._params: dict[str, Any] = {}
        self.layers: Any = OrderedDict()  # a list in the nets of chapters 7 and 8, as in the book
        self.last_layer = SoftmaxWithLoss()

    @property
    def params(self) -> dict[str, Any]:
        """The parameters by name. Assigning a dict replaces their arrays in the layers too."""
        return self._params

    @params.setter
    def params(self, params: Mapping[str, Any]) -> None:
        if params.keys() != self._params.keys():
            raise ArgumentError(
                f"{type(self).__name__}.params",
                f"the keys {sorted(params)}",
                f"{sorted(self._params)}",
                "assign all of them",
            )
        self._params.update(params)

    def predict(self, x: Any, train_flg: bool = False) -> Array:
        """The scores before softmax: x through all layers but the last; Dropout and the like as train_flg says."""
        for layer in self._in_order():
            x = layer.forward(x, train_flg) if isinstance(layer, (Dropout, BatchNormalization)) else layer.forward(x)
        scores: Array = x
        return scores

    def loss(self, x: Any, t: Any, train_flg: bool | None = None) -> float:
        """The cross-entropy of softmax(predict(x)) and t, averaged over the samples, and the weight decay if any."""
        train = self._trains_by_default if train_flg is None else train_flg
        scores = self.predict(x, train_flg=True) if train else self.predict(x)
        loss = self.last_layer.forward(scores, t)
        if self.weight_decay_lambda:
            for key in self._decaying():
                loss += 0.5 * self.weight_decay_lambda * float(np.sum(np.square(plain(self._params[key]))))
        return loss

    def accuracy(self, x: Any, t: Any, batch_size: int = 100) -> float:
        """The share of samples whose highest score is that of their label, computed batch by batch, all of them."""
        x = plain(x)
        if np.ndim(x) < 2:
            return float(self._right(x, t))
        t, n = np.asarray(plain(t)), len(x)
        if not n or t.ndim == 0 or len(t) != n:
            raise ShapeError(
                "accuracy", f"x is {describe(x)}, t is {describe(t)}", "as many labels as samples", "pass both in full"
            )
        batch_size = whole("accuracy: batch_size", batch_size)
        starts = range(0, n, batch_size)
        return sum(self._right(x[i : i + batch_size], t[i : i + batch_size]) for i in starts) / n

    def gradient(self, x: Any, t: Any) -> dict[str, Array]:
        """d(loss)/d(parameter) for each parameter, by backward through the layers; makes its own forward."""
        self._training_loss(x, t)
        dout = self.last_layer.backward(1)
        first, *later = self._in_order()
        for layer in reversed(later):
            dout = layer.backward(dout)
        if isinstance(first, _OfNet) and type(first) in (AffineOf, ConvolutionOf):
            first._backward_of_params(dout)  # nobody asks for d(loss)/dx
        else:
            first.backward(dout)
        found = {
            key: getattr(layer, f"d{attribute}")
            for layer in self._in_order()
            if isinstance(layer, _OfNet)
            for attribute, key in layer._keys.items()
        }
        if self.weight_decay_lambda:
            for key in self._decaying():
                found[key] = found[key] + self.weight_decay_lambda * plain(self._params[key])
        return {key: found[key] for key in self._params}

    def numerical_gradient(self, x: Any, t: Any) -> dict[str, Array]:
        """The same by numerical differentiation: two forwards for each number in params.

        Every forward draws the same Dropout masks, the ones that gradient would draw next, and the running values of
        BatchNormalization stay as they are; the book's forwards draw a mask each.
        """
        for key, p in self._params.items():
            self._params[key] = plain(p) if isinstance(p, Tensor) else np.asarray(p)  # what the loss reads can be moved
        normal = [layer for layer in self._in_order() if isinstance(layer, BatchNormalization)]
        running = [(layer.running_mean, layer.running_var) for layer in normal]
        random = any(isinstance(layer, Dropout) for layer in self._in_order())
        with Frozen([self]) as frozen, without_graphs():

            def loss(_: Any) -> float:
                if random:
                    frozen.reset()
                return self._training_loss(x, t)

            try:
                return {key: numerical_gradient(loss, p) for key, p in self._params.items()}
            finally:
                for layer, (mean, var) in zip(normal, running, strict=True):
                    layer.running_mean, layer.running_var = mean, var

    def save_params(self, file_name: str | PathLike[str] = "params.pkl") -> None:
        """Writes params, and the running values of BatchNormalization, to a file of that very name.

        It is an .npz file of minigrad.save, whatever the name ends with: the book pickles, and a pickle can run
        anything when it is read. Raises CheckpointError where it cannot be written; the file is then as before.
        """
        write_params(file_name, {**self._params, **self._running()})

    def load_params(self, file_name: str | PathLike[str] = "params.pkl") -> None:
        """Reads what save_params wrote, or what the book's save_params pickled, as far as that is arrays alone.

        Raises CheckpointError for a damaged file, for anything else in a pickle, and for names or shapes that are
        not this net's; the params are then as before.
        """
        found, running = read_params(file_name), self._running()
        own = {**self._params, **running}
        if not self._params.keys() <= found.keys() <= own.keys():
            raise CheckpointError(
                f"{type(self).__name__}.load_params",
                f"{file_name} has {', '.join(found)}",
                ", ".join(own),
                "build the net that was saved, with the same sizes",
            )
        for key, value in found.items():
            if own[key] is not None and np.shape(own[key]) != value.shape:
                raise CheckpointError(
                    f"{type(self).__name__}.load_params",
                    f"{file_name} has {key} of shape {value.shape}",
                    f"{np.shape(own[key])}",
                    "build the net that was saved, with the same sizes",
                )
        for key, value in found.items():
            if key in self._params:
                self._params[key] = value
            else:
                name, _, attribute = key.partition(".")
                setattr(self._named()[name], attribute, value)

    def _training_loss(self, x: Any, t: Any) -> float:
        return self.loss(x, t, train_flg=True) if self._asks_for_training else self.loss(x, t)

    def _named(self) -> dict[str, Layer]:
        layers = self.layers
        return dict(layers) if isinstance(layers, dict) else {f"layers[{i}]": layer for i, layer in enumerate(layers)}

    def _in_order(self) -> list[Layer]:
        return list(self._named().values())

    def _running(self) -> dict[str, Any]:
        """The running values of each BatchNormalization by name; None before its first forward."""
        return {
            f"{name}.{attribute}": getattr(layer, attribute)
            for name, layer in self._named().items()
            if isinstance(layer, BatchNormalization)
            for attribute in ("running_mean", "running_var")
        }

    def _decaying(self) -> list[str]:
        return [key for key in self._params if key.startswith("W")]

    def _right(self, x: Any, t: Any) -> int:
        """How many samples of one batch are classified right."""
        y = self.predict(x)
        t = distributions("accuracy", y.shape, t)
        return int(np.sum(y.argmax(axis=-1) == t.argmax(axis=-1)))


class _Entry:
    """An attribute of a layer that is an entry of its net's params, looked up at each use."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    def __get__(self, layer: Any, owner: type) -> Any:
        return layer._params[layer._keys[self.attribute]]

    def __set__(self, layer: Any, value: Any) -> None:
        layer._params[layer._keys[self.attribute]] = value


class _OfNet(Layer):
    """A layer of a net: its parameters are entries of the net's params, and errors call it by its name there."""

    _params: dict[str, Any]
    _keys: dict[str, str]
    _called: str

    @property
    def _name(self) -> str:
        return self._called

    def _backward_of_params(self, dout: Any) -> None:
        """backward without dx."""
        for attribute, gradient in zip(self._keys, self._pull(dout, start=1), strict=True):
            setattr(self, f"d{attribute}", gradient)


class AffineOf(_OfNet, Affine):
    """An Affine whose W and b are entries of a net's params; name is what its errors call it.

    >>> params = {"W1": np.ones((2, 1)), "b1": np.zeros(1)}
    >>> affine = AffineOf("Affine1", params, "W1", "b1")
    >>> params["W1"] = 2 * params["W1"]
    >>> affine.forward(np.array([[1.0, 3.0]]))
    array([[8.]])
    """

    W = _Entry()
    b = _Entry()

    def __init__(self, name: str, params: dict[str, Any], W: str, b: str) -> None:
        self._called, self._params, self._keys = name, params, {"W": W, "b": b}
        super().__init__(params[W], params[b])


class ConvolutionOf(_OfNet, Convolution):
    """A Convolution whose W and b are entries of a net's params; name is what its errors call it.

    >>> params = {"W1": np.ones((1, 1, 2, 2)), "b1": np.zeros(1)}
    >>> convolution = ConvolutionOf("layers[0]", params, "W1", "b1", stride=1, pad=0)
    >>> params["b1"] = np.ones(1)
    >>> convolution.forward(np.ones((1, 1, 2, 2)))
    array([[[[5.]]]])
    """

    W = _Entry()
    b = _Entry()

    def __init__(self, name: str, params: dict[str, Any], W: str, b: str, stride: int, pad: int) -> None:
        self._called, self._params, self._keys = name, params, {"W": W, "b": b}
        super().__init__(params[W], params[b], stride, pad)


class BatchNormalizationOf(_OfNet, BatchNormalization):
    """A BatchNormalization whose gamma and beta are entries of a net's params; name is what its errors call it.

    >>> params = {"gamma1": np.ones(1), "beta1": np.zeros(1)}
    >>> norm = BatchNormalizationOf("BatchNorm1", params, "gamma1", "beta1")
    >>> params["beta1"] = np.ones(1)
    >>> norm.forward(np.array([[1.0], [3.0]])).round(3)
    array([[0.], [2.]])
    """

    gamma = _Entry()
    beta = _Entry()

    def __init__(self, name: str, params: dict[str, Any], gamma: str, beta: str) -> None:
        self._called, self._params, self._keys = name, params, {"gamma": gamma, "beta": beta}
        super().__init__(params[gamma], params[beta])


def he_or_xavier(where: str, weight_init_std: Any, fan_in: int) -> float:
    """sqrt(2 / fan_in) for "relu" or "he", sqrt(1 / fan_in) for "sigmoid" or "xavier", else the number itself.

    Raises ArgumentError for another word, in the name of where. Source: Deep Learning from Scratch, section 6.2.

    >>> he_or_xavier("Net", "he", 50), he_or_xavier("Net", "xavier", 100), he_or_xavier("Net", 0.01, 50)
    (0.2, 0.1, 0.01)
    """
    known = {"relu": 2.0, "he": 2.0, "sigmoid": 1.0, "xavier": 1.0}
    if isinstance(weight_init_std, str):
        if weight_init_std.lower() not in known:
            raise ArgumentError(
                f"{where}: weight_init_std",
                repr(weight_init_std),
                "a number, or one of 'relu', 'he', 'sigmoid', 'xavier'",
                "pass weight_init_std='relu'",
            )
        return float(np.sqrt(known[weight_init_std.lower()] / fan_in))
    if isinstance(weight_init_std, bool) or not isinstance(weight_init_std, (int, float, np.number)):
        raise ArgumentError(
            f"{where}: weight_init_std",
            describe(weight_init_std),
            "a number, or one of 'relu', 'he', 'sigmoid', 'xavier'",
            "pass weight_init_std='relu'",
        )
    return float(weight_init_std)


def filters(
    where: str, input_dim: Sequence[int], param: Mapping[str, int]
) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """(channels, height, width) after a convolution, and the shape of its W, of parameters that are checked.

    Raises ArgumentError in the name of where.

    >>> filters("Net: conv_param", (1, 28, 28), {"filter_num": 30, "filter_size": 5, "pad": 0, "stride": 1})
    ((30, 24, 24), (30, 1, 5, 5))
    """
    dim = tuple(input_dim)
    if len(dim) != 3 or not all(is_whole(n, 1) for n in dim):
        raise ArgumentError(
            f"{where.partition(':')[0]}: input_dim", repr(input_dim), "(channels, height, width)", "pass (1, 28, 28)"
        )
    for key in ("filter_num", "filter_size", "pad", "stride"):
        least = 0 if key == "pad" else 1
        whole(f"{where}[{key!r}]", param.get(key), least, f"pass {key!r}: {least}, say")
    height, width = (int(conv_output_size(n, param["filter_size"], param["stride"], param["pad"])) for n in dim[1:])
    if min(height, width) < 1 or max(dim[1], dim[2]) + 2 * param["pad"] < param["filter_size"]:
        raise ArgumentError(
            where,
            f"{dict(param)} on images of {dim}",
            "a filter that fits into the image",
            "take a smaller filter_size",
        )
    number = param["filter_num"]
    return (number, height, width), (number, dim[0], param["filter_size"], param["filter_size"])
