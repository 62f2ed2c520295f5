"""Initial values: written into a parameter in place, which is also returned, as in PyTorch."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

from minigrad import ArgumentError, DTypeError, Tensor, no_grad
from minigrad.errors import describe
from minigrad.random import chosen

__all__ = [
    "calculate_gain", "constant_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_", "orthogonal_",
    "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip

T = TypeVar("T", bound=Tensor)
Generator = np.random.Generator | None

# Gains as PyTorch has them: what keeps the variance of the signal, or has turned out well.
_GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv_transpose2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3,
    "relu": math.sqrt(2), "selu": 0.75,
}  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """gain = sqrt(2 / (1 + param**2)) for leaky_relu, and a constant for each of the others.

    nonlinearity: "linear", "sigmoid", "tanh", "relu", "leaky_relu", ... param: leaky_relu's slope, 0.01 by default.
    Raises ArgumentError for a name that is not known.

    >>> calculate_gain("relu")
    1.4142135623730951
    """
    if nonlinearity == "leaky_relu":
        if param is not None and not isinstance(param, (int, float)):
            raise ArgumentError("calculate_gain: param", describe(param), "the slope of leaky_relu", "pass 0.01")
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ArgumentError(
            "calculate_gain: nonlinearity",
            repr(nonlinearity),
            f"one of {', '.join(sorted([*_GAINS, 'leaky_relu']))}",
            'write "linear" where none of them fits',
        )
    return _GAINS[nonlinearity]


def constant_(tensor: T, val: float) -> T:
    """tensor = val everywhere.

    >>> constant_(Tensor([1.0, 2.0]), 3.0)
    Tensor([3., 3.], dtype=float64)
    """
    with no_grad():
        tensor[...] = val
    return tensor


def zeros_(tensor: T) -> T:
    """tensor = 0 everywhere.

    >>> zeros_(Tensor([1.0]))
    Tensor([0.], dtype=float64)
    """
    return constant_(tensor, 0.0)


def ones_(tensor: T) -> T:
    """tensor = 1 everywhere.

    >>> ones_(Tensor([0.0]))
    Tensor([1.], dtype=float64)
    """
    return constant_(tensor, 1.0)


def eye_(tensor: T) -> T:
    """tensor = 1 on the diagonal of a matrix, 0 elsewhere. Raises ArgumentError for what is no matrix.

    >>> eye_(Tensor(np.zeros((1, 2))))
    Tensor([[1., 0.]], dtype=float64)
    """
    if tensor.ndim != 2:
        raise ArgumentError("eye_: tensor", describe(tensor), "a matrix", "use constant_ for other shapes")
    n, m = tensor.shape
    return _write(tensor, np.eye(n, m))


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, generator: Generator = None) -> T:
    """tensor drawn evenly from [a, b).

    >>> uniform_(Tensor(np.zeros(2)), -1, 1, np.random.default_rng(0))
    Tensor([ 0.27392337, -0.46042657], dtype=float64)
    """
    if not a <= b:
        raise ArgumentError("uniform_: a, b", f"a={a}, b={b}", "a lower and an upper bound", "exchange them")
    return _write(tensor, chosen(generator, "uniform_").uniform(a, b, tensor.shape))


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0, generator: Generator = None) -> T:
    """tensor drawn from the normal distribution of that mean and standard deviation.

    >>> normal_(Tensor(np.zeros(2)), std=0.01, generator=np.random.default_rng(0))
    Tensor([ 0.0012573 , -0.00132105], dtype=float64)
    """
    if not std >= 0:
        raise ArgumentError("normal_: std", describe(std), "0 or more", "pass std=0.01, for example")
    return _write(tensor, mean + std * chosen(generator, "normal_").standard_normal(tensor.shape))


def trunc_normal_(
    tensor: T, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Generator = None
) -> T:
    """tensor drawn from the normal distribution, values outside [a, b] drawn again.

    Raises ArgumentError where [a, b] holds next to nothing of the distribution: drawing again would not end.

    >>> bool(np.abs(trunc_normal_(Tensor(np.zeros(1000))).data).max() <= 2)
    True
    """
    if not std > 0:
        raise ArgumentError("trunc_normal_: std", describe(std), "a positive number", "pass std=0.02, for example")
    held = 0.5 * (math.erf((b - mean) / (std * math.sqrt(2))) - math.erf((a - mean) / (std * math.sqrt(2))))
    if not held > 1e-3:
        raise ArgumentError(
            "trunc_normal_: a, b",
            f"[{a}, {b}], which holds {held:.1g} of a normal distribution of mean {mean} and std {std}",
            "bounds in which some of its values lie",
            "use uniform_, or bounds around the mean",
        )
    rng = chosen(generator, "trunc_normal_")
    values = np.asarray(mean + std * rng.standard_normal(tensor.shape))
    while (outside := (values < a) | (values > b)).any():
        values[outside] = mean + std * rng.standard_normal(int(outside.sum()))
    return _write(tensor, values)


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: Generator = None) -> T:
    """tensor drawn evenly from [-a, a], a = gain * sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio (2010); Deep Learning from Scratch, section 6.2.2.

    >>> xavier_uniform_(Tensor(np.zeros((3, 3)))).shape
    (3, 3)
    """
    fan_in, fan_out = _fans("xavier_uniform_", tensor)
    a = gain * math.sqrt(6 / (fan_in + fan_out))
    return uniform_(tensor, -a, a, generator)


def xavier_normal_(tensor: T, gain: float = 1.0, generator: Generator = None) -> T:
    """tensor drawn from a normal distribution, std = gain * sqrt(2 / (fan_in + fan_out)).

    Source: Glorot and Bengio (2010); Deep Learning from Scratch, section 6.2.2, which leaves fan_out away.

    >>> xavier_normal_(Tensor(np.zeros((3, 3)))).shape
    (3, 3)
    """
    fan_in, fan_out = _fans("xavier_normal_", tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2 / (fan_in + fan_out)), generator)


def kaiming_uniform_(
    tensor: T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator = None
) -> T:
    """tensor drawn evenly from [-c, c], c = gain * sqrt(3 / fan): He's values.

    a: the slope of leaky_relu; 0 is relu. mode: "fan_in" keeps the variance forward, "fan_out" backward.
    Source: He et al. (2015).

    >>> kaiming_uniform_(Tensor(np.zeros((3, 3)))).shape
    (3, 3)
    """
    c = math.sqrt(3) * _kaiming("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -c, c, generator)


def kaiming_normal_(
    tensor: T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator = None
) -> T:
    """tensor drawn from a normal distribution, std = gain / sqrt(fan): He's values.

    a: the slope of leaky_relu; 0 is relu. mode: "fan_in" keeps the variance forward, "fan_out" backward.
    Source: He et al. (2015); Deep Learning from Scratch, section 6.2.3.

    >>> kaiming_normal_(Tensor(np.zeros((3, 3)))).shape
    (3, 3)
    """
    return normal_(tensor, 0.0, _kaiming("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: T, gain: float = 1.0, generator: Generator = None) -> T:
    """tensor = gain * Q: rows (or columns, the fewer of both) of length gain at right angles to each other.

    More than two axes: all but the first as one. Raises ArgumentError for fewer than two axes.
    Source: Saxe et al. (2014).

    >>> W = orthogonal_(Tensor(np.zeros((2, 3)))).data
    >>> np.allclose(W @ W.T, np.eye(2))
    True
    """
    if tensor.ndim < 2:
        raise ArgumentError("orthogonal_: tensor", describe(tensor), "two axes or more", "use normal_ for a bias")
    n, m = len(tensor), tensor.size // max(len(tensor), 1)
    normal = chosen(generator, "orthogonal_").standard_normal((max(n, m), min(n, m)))
    q, r = np.linalg.qr(normal)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)  # makes the distribution even over all rotations
    return _write(tensor, gain * (q.T if n < m else q).reshape(tensor.shape))


def _write(tensor: T, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> T:
    if not isinstance(tensor, Tensor) or tensor.dtype.kind != "f":
        raise DTypeError("nn.init", describe(tensor), "a Tensor of floats to write into", "pass layer.weight")
    with no_grad():
        tensor[...] = values
    return tensor


def _fans(where: str, tensor: Tensor) -> tuple[int, int]:
    """How many values go into one output, and how many outputs one value goes into."""
    if not isinstance(tensor, Tensor) or tensor.ndim < 2:
        raise ArgumentError(
            f"{where}: tensor", describe(tensor), "(outputs, inputs, ...)", "use zeros_ or normal_ for a bias"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _kaiming(where: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(where, tensor), strict=True))
    if mode not in fans:
        raise ArgumentError(f"{where}: mode", repr(mode), '"fan_in" or "fan_out"', 'write mode="fan_in"')
    return calculate_gain(nonlinearity, a) / math.sqrt(fans[mode])
