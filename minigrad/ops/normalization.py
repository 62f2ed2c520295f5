"""Normalisation: layer_norm, rms_norm and batch_norm, each in one node."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigrad.contract import Case, numbers
from minigrad.errors import ArgumentError, DTypeError, ShapeError, describe
from minigrad.op import Op
from minigrad.ops.kernels import sum_of
from minigrad.ops.reduce import mean_of
from minigrad.sums import add_up
from minigrad.tape import KeepingNode
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["batch_norm", "layer_norm", "rms_norm"]

Shape = tuple[int, ...]

# Entries worked on at a time, so that all passes over them but the first run in the cache.
_BLOCK = 65536
_CHANNELS_BLOCK = 2**20  # for parts of channels, which do not lie in one piece: shorter loops cost more than the cache


def _rows(x: Any, n: int) -> Any:
    """x, of which n entries are normalised together, as a matrix with a row for each such group."""
    return np.reshape(x, (math.prod(x.shape) // n, n))


def _dtypes(x: Any, *factors: Any) -> tuple[Any, Any]:
    """The dtypes to compute in and of the result: float32 for float16, whose squares overflow from 256 on.

    Integers take the dtype of the factors that are floats, float64 where there are none.
    """
    given = [plain(f).dtype for f in factors if np.ndim(f)]  # a number stands for a factor that is not there
    dtype = plain(x).dtype
    if dtype.kind == "f":
        dtype = np.result_type(dtype, *given)
    else:
        given = [f for f in given if f.kind == "f"]
        dtype = np.result_type(*given) if given else np.dtype(float)
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype, dtype


def _wide(x: Any, *factors: Any) -> tuple[Any, Any]:
    """x for computing with, and the dtype of the result."""
    work, dtype = _dtypes(x, *factors)
    return np.asarray(x).astype(work, copy=False), dtype


def _as(x: Any, dtype: Any) -> Any:
    """An array or Tensor in that dtype."""
    return x if x.dtype == dtype else x.astype(dtype)


def _stretches(n: int, size: int, block: int) -> Iterator[slice]:
    """n things of this size, cut into stretches of about block entries."""
    step = max(1, block // max(size, 1))
    for start in range(0, n, step):
        yield slice(start, start + step)


# What is subtracted from x is split in two: its first value, which is exact, and the mean of what is left, whose
# rounding is small beside the deviations. x - mean(x) would lose a digit for each digit that the mean has in front
# of them, and leave something of a row of equal values.


class LayerNorm(Op):
    """out = (x - mean) / sqrt(var + eps) * weight + bias, over the last axes

    normalized_shape: the lengths of those axes, an integer for one. x: (..., *normalized_shape).
    weight, bias: of shape normalized_shape, or None. eps: added to the variance, not negative.
    A row of equal values gives bias, and its gradient is finite. Means of any size cost no digits.
    Raises ShapeError where shapes differ from normalized_shape, ArgumentError for a negative eps.
    Source: Ba, Kiros and Hinton, Layer normalization, 2016.

    >>> layer_norm(Tensor([[1e8, 1e8 + 1, 1e8 + 2]]), 3)
    Tensor([[-1.22473569,  0.        ,  1.22473569]], dtype=float64)
    """

    normalized_shape: Shape
    eps: float = 1e-5
    keeps = "statistics"
    cases = (
        Case((2, 4), normalized_shape=4, eps=0.5),
        Case((3, 4), (4,), (4,), normalized_shape=(4,), eps=0.5),
        Case((2, 2, 3), (2, 3), (2, 3), normalized_shape=(2, 3), eps=1),
        Case((3,), (3,), normalized_shape=[3], eps=1.0),
        Case((0, 3), (3,), (3,), normalized_shape=3),
    )

    @staticmethod
    def reference(x: Any, weight: Any = 1.0, bias: Any = 0.0, normalized_shape: Any = (), eps: float = 1e-5) -> Any:
        axes = tuple(range(-np.size(normalized_shape), 0))
        x = x - x.mean(axis=axes, keepdims=True) if x.size else x
        return x / np.sqrt((x**2).sum(axis=axes, keepdims=True) / _size(x, axes) + eps) * weight + bias

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        return self.forward_and_keep(x, weight, bias)[0]

    def forward_and_keep(self, x: Any, weight: Any, bias: Any) -> Any:
        n = math.prod(self.normalized_shape)
        wide, dtype = _wide(x, weight, bias)
        rows = _rows(wide, n)
        out, statistics = np.empty(rows.shape, rows.dtype), np.empty((2, len(rows), 1), rows.dtype)
        weight, bias, one = np.reshape(weight, -1), np.reshape(bias, -1), np.ones((n, 1), rows.dtype)
        for part in _stretches(len(rows), n, _BLOCK):
            xs, outs, (mean, rstd) = rows[part], out[part], statistics[:, part]
            np.subtract(xs, xs[:, :1], out=outs)
            np.matmul(outs, one, out=mean)
            mean /= n
            outs -= mean
            rstd[:, 0] = np.vecdot(outs, outs)
            _to_rstd(rstd, n, self.eps)
            outs *= rstd
            if len(weight) > 1 or n == 1:
                outs *= weight
            if len(bias) > 1 or n == 1:
                outs += bias
        return out.reshape(np.shape(x)).astype(dtype, copy=False), statistics

    def statistics(self, x: Any, weight: Any, bias: Any) -> Any:
        """The mean, less the first value, and 1 / sqrt(var + eps) of each row, in one array (2, rows, 1)."""
        rows = _rows(_as(x, _dtypes(x, weight, bias)[0]), math.prod(self.normalized_shape))
        centred = rows - plain(rows)[:, :1]
        mean = np.mean(centred, axis=1, keepdims=True)
        centred = centred - mean
        return np.stack([mean, 1 / np.sqrt(np.mean(centred * centred, axis=1, keepdims=True) + self.eps)])

    def backward(self, dout: Any, x: Any, weight: Any, statistics: Any, needs: Any) -> Any:
        n, shape, scaled = math.prod(self.normalized_shape), self.normalized_shape, np.ndim(weight) > 0
        dtype = statistics.dtype
        w = _column(weight, n, dtype)

        def rule(dout: Any, x: Any, mean: Any, rstd: Any) -> tuple[Any, Any, Any]:
            xhat = x - plain(x)[:, :1]
            xhat -= mean
            xhat *= rstd
            product = dout * xhat
            dx = None
            if needs[0]:  # dx = (g - mean(g) - xhat * mean(g * xhat)) * rstd with g = dout * w
                xhat *= product @ w / n
                xhat += dout @ w / n
                dx = (dout * w[:, 0] if scaled else dout) - xhat
                dx *= rstd
            one = np.ones(len(x), dtype)  # products with it are sums, three times as fast
            return dx, one @ product if needs[1] else None, one @ dout if needs[2] else None

        dx, dw, db = _in_stretches(rule, n, dtype, dout, x, *statistics)
        return (
            dx,
            None if dw is None else np.reshape(dw, shape),
            None if db is None else np.reshape(db, shape),
        )


def _size(x: Any, axes: tuple[int, ...]) -> int:
    """How many entries of x lie along axes."""
    return math.prod(x.shape[axis] for axis in axes)


def _to_rstd(squares: Any, n: int, eps: float) -> None:
    """squares, sums of n squares, become 1 / sqrt(squares / n + eps)."""
    squares /= n
    squares += eps
    np.sqrt(squares, out=squares)
    np.divide(1, squares, out=squares)


def _column(weight: Any, n: int, dtype: Any) -> Any:
    """weight as a column of n numbers; ones where there is none."""
    if np.ndim(weight) == 0:
        return np.ones((n, 1), dtype)
    return _as(np.reshape(weight, (n, 1)), dtype)


def _in_stretches(rule: Any, n: int, dtype: Any, dout: Any, x: Any, *columns: Any) -> tuple[Any, Any, Any]:
    """rule on all rows, of n entries: of arrays a stretch at a time, whose intermediate results stay in the cache.

    It returns dx of the rows that it sees, and their sums for weight and bias, or None for each.
    """
    shape = x.shape
    dout, x = (_rows(_as(a, dtype), n) for a in (dout, x))
    if isinstance(dout, Tensor) or dout.size <= _BLOCK:
        dx, *sums = rule(dout, x, *columns)
        dx = dx if dx is None or dx.shape == shape else np.reshape(dx, shape)
        return dx, sums[0], sums[1]
    whole, sums = np.empty(shape, dtype), [None, None]
    rows, found = whole.reshape(x.shape), False
    for part in _stretches(len(x), n, _BLOCK):
        dx, *more = rule(dout[part], x[part], *[column[part] for column in columns])
        if dx is not None:
            rows[part], found = dx, True
        sums = [b if a is None or b is None else a + b for a, b in zip(sums, more, strict=True)]
    return whole if found else None, sums[0], sums[1]


@LayerNorm.public()
def layer_norm(
    x: TensorLike,
    normalized_shape: int | Sequence[int],
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    shape = _normalized("layer_norm", x, normalized_shape, eps, weight=weight, bias=bias)
    return LayerNorm(shape, eps)(x, 1.0 if weight is None else weight, 0.0 if bias is None else bias)


class RmsNorm(Op):
    """out = x / sqrt(mean(x*x) + eps) * weight, over the last axes

    normalized_shape: the lengths of those axes, an integer for one. x: (..., *normalized_shape).
    weight: of shape normalized_shape, or None. eps: not negative; None for numpy.finfo(x.dtype).eps, as in PyTorch.
    Raises ShapeError where shapes differ from normalized_shape, ArgumentError for a negative eps.
    Source: Zhang and Sennrich, Root mean square layer normalization, 2019.

    >>> rms_norm(Tensor([[1.0, -1.0, 1.0, 5.0]]), 4)
    Tensor([[ 0.37796447, -0.37796447,  0.37796447,  1.88982237]], dtype=float64)
    """

    normalized_shape: Shape
    eps: float
    keeps = "rstd"
    cases = (
        Case((2, 4), normalized_shape=4, eps=0.5),
        Case((3, 3), (3,), normalized_shape=(3,), eps=0.5),
        Case((2, 2, 2), (2, 2), normalized_shape=(2, 2), eps=1),
        Case((5,), normalized_shape=[5], eps=None),
        Case((0, 3), (3,), normalized_shape=3),
    )

    @staticmethod
    def reference(x: Any, weight: Any = 1.0, normalized_shape: Any = (), eps: float | None = None) -> Any:
        axes = tuple(range(-np.size(normalized_shape), 0))
        eps = float(np.finfo(x.dtype).eps) if eps is None else eps
        return x / np.sqrt((x**2).sum(axis=axes, keepdims=True) / _size(x, axes) + eps) * weight

    def forward(self, x: Any, weight: Any) -> Any:
        return self.forward_and_keep(x, weight)[0]

    def forward_and_keep(self, x: Any, weight: Any) -> Any:
        n = math.prod(self.normalized_shape)
        wide, dtype = _wide(x, weight)
        rows = _rows(wide, n)
        out, rstd = np.empty(rows.shape, rows.dtype), np.empty((len(rows), 1), rows.dtype)
        weight = np.reshape(weight, -1)
        for part in _stretches(len(rows), n, _BLOCK):
            xs, outs = rows[part], out[part]
            rstd[part, 0] = np.vecdot(xs, xs)
            _to_rstd(rstd[part], n, self.eps)
            np.multiply(xs, rstd[part], out=outs)
            if len(weight) > 1 or n == 1:
                outs *= weight
        return out.reshape(np.shape(x)).astype(dtype, copy=False), rstd

    def rstd(self, x: Any, weight: Any) -> Any:
        """1 / sqrt(mean(x*x) + eps) of each row, (rows, 1)."""
        rows = _rows(_as(x, _dtypes(x, weight)[0]), math.prod(self.normalized_shape))
        return 1 / np.sqrt(np.mean(rows * rows, axis=1, keepdims=True) + self.eps)

    def backward(self, dout: Any, x: Any, weight: Any, rstd: Any, needs: Any) -> Any:
        n, scaled, dtype = math.prod(self.normalized_shape), np.ndim(weight) > 0, rstd.dtype
        w = _column(weight, n, dtype)

        def rule(dout: Any, x: Any, rstd: Any) -> tuple[Any, Any, None]:
            xhat = x * rstd
            product = dout * xhat
            dx = None
            if needs[0]:  # dx = (g - xhat * mean(g * xhat)) * rstd with g = dout * w
                xhat *= product @ w / n
                dx = (dout * w[:, 0] if scaled else dout) - xhat
                dx *= rstd
            return dx, np.ones(len(x), dtype) @ product if needs[1] else None, None

        dx, dw, _ = _in_stretches(rule, n, dtype, dout, x, rstd)
        return dx, None if dw is None else np.reshape(dw, self.normalized_shape)


@RmsNorm.public()
def rms_norm(
    x: TensorLike,
    normalized_shape: int | Sequence[int],
    weight: TensorLike | None = None,
    eps: float | None = None,
) -> Tensor:
    if eps is None:
        array = numbers("rms_norm: x", plain(x), None, copy=False)
        factors = [] if weight is None or array.dtype.kind == "f" else [np.asarray(plain(weight))]
        eps = float(np.finfo(_dtypes(array, *factors)[1]).eps)
    shape = _normalized("rms_norm", x, normalized_shape, eps, weight=weight)
    return RmsNorm(shape, eps)(x, 1.0 if weight is None else weight)


class BatchNorm(Op):
    """out = (x - mean) / sqrt(var + eps) * weight + bias, with mean and variance of each channel in this batch

    x: (N, C), (N, C, L) or (N, C, H, W), and so on: axis 1 holds the channels, and all others are averaged over.
    weight, bias: (C,), or None. eps: added to the variance, which is divided by the number of values, not one less.
    There are no running statistics here: with those, x is scaled and shifted by fixed numbers, which is plain
    arithmetic. Raises ShapeError for an x without channels and for a weight or bias that is not one number a
    channel, ArgumentError for one value per channel, whose deviation from their mean is always 0, and for a
    negative eps. Source: Ioffe and Szegedy, Batch normalization, 2015; Deep Learning from Scratch, section 6.3.

    >>> batch_norm(Tensor([[1.0, 5.0], [3.0, 5.0]]))
    Tensor([[-0.999995,  0.      ],
            [ 0.999995,  0.      ]], dtype=float64)
    """

    eps: float = 1e-5
    keeps = "statistics"
    cases = (
        Case((4, 2), eps=0.5),
        Case((3, 2), (2,), (2,), eps=0.5),
        Case((2, 2, 2), (2,), (2,), eps=1),
        Case((2, 1, 2, 2), (1,), (1,), eps=1.0),
        Case((2, 0, 2), (0,), (0,)),
    )

    @staticmethod
    def reference(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
        out = np.empty(x.shape)
        for c in range(x.shape[1]):
            channel = x[:, c]
            y = (channel - channel.mean()) / math.sqrt(channel.var() + eps)
            out[:, c] = y * (1 if weight is None else weight[c]) + (0 if bias is None else bias[c])
        return out

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        return self.forward_and_keep(x, weight, bias)[0]

    def forward_and_keep(self, x: Any, weight: Any, bias: Any) -> Any:
        wide, dtype = _wide(x, weight, bias)
        x3 = _channels(wide)
        out, statistics = np.empty(x3.shape, x3.dtype), np.empty((2, 1, x3.shape[1], 1), x3.dtype)
        factor = np.empty((1, x3.shape[1], 1), x3.dtype)
        factor[...] = np.reshape(weight, (1, -1, 1))
        bias = None if np.ndim(bias) == 0 else np.reshape(bias, (1, -1, 1))
        for part in _stretches(x3.shape[1], x3.shape[0] * x3.shape[2], _CHANNELS_BLOCK):
            outs = out[:, part]
            _centre(x3[:, part], outs, *statistics[:, :, part])
            outs *= factor[:, part] / np.sqrt(statistics[1, :, part] + self.eps)
            if bias is not None:
                outs += bias[:, part]
        return out.reshape(np.shape(x)).astype(dtype, copy=False), statistics

    def statistics(self, x: Any, weight: Any, bias: Any) -> Any:
        """The mean, less the first value, and the variance of each channel, in one array (2, 1, C, 1)."""
        x = _channels(_as(x, _dtypes(x, weight, bias)[0]))
        centred = x - plain(x)[:1, :, :1]
        mean = mean_of(centred, (0, 2), keepdims=True)
        centred = centred - mean
        return np.stack([mean, mean_of(centred * centred, (0, 2), keepdims=True)])

    def backward(self, dout: Any, x: Any, weight: Any, statistics: Any, needs: Any) -> Any:
        shape, of_x = x.shape, needs[0]
        w = weight if np.ndim(weight) == 0 else np.reshape(weight, (1, -1, 1))

        def rule(dout: Any, x: Any, mean: Any, var: Any, w: Any) -> tuple[Any, Any, Any]:
            n = x.shape[0] * x.shape[2]
            rstd = 1 / np.sqrt(var + self.eps)
            xhat = x - plain(x)[:1, :, :1]
            xhat -= mean
            xhat *= rstd
            dw, db = sum_of(dout * xhat, (0, 2), keepdims=True), sum_of(dout, (0, 2), keepdims=True)
            if not of_x:
                return None, dw, db
            xhat *= dw / n
            xhat += db / n
            dx = dout - xhat  # dx = (dout - mean(dout) - xhat * mean(dout * xhat)) * rstd * w
            dx *= rstd * w
            return dx, dw, db

        x, dout = (_channels(_as(a, statistics.dtype)) for a in (x, dout))
        if isinstance(dout, Tensor) or dout.size <= _CHANNELS_BLOCK:
            dx, dw, db = rule(dout, x, statistics[0], statistics[1], w)
        else:
            dx, (dw, db) = np.empty(x.shape, x.dtype), np.empty(statistics.shape, statistics.dtype)
            for part in _stretches(x.shape[1], x.shape[0] * x.shape[2], _CHANNELS_BLOCK):
                ws = w if np.ndim(w) == 0 else w[:, part]
                mean, var = statistics[:, :, part]
                dxs, dw[:, part], db[:, part] = rule(dout[:, part], x[:, part], mean, var, ws)
                if of_x:
                    dx[:, part] = dxs
        return (
            np.reshape(dx, shape) if of_x else None,
            np.reshape(dw, -1) if needs[1] else None,
            np.reshape(db, -1) if needs[2] else None,
        )


def _channels(x: Any) -> Any:
    """x as (N, C, L), its channels in the middle."""
    return np.reshape(x, (*x.shape[:2], math.prod(x.shape[2:])))


def _centre(x: Any, out: Any, mean: Any, var: Any) -> None:
    """out = x - its channel's mean; mean, less the channel's first value, and var are filled in."""
    n = x.shape[0] * x.shape[2]
    np.subtract(x, x[:1, :, :1], out=out)
    mean[...] = add_up(out, (0, 2), keepdims=True)
    mean /= n
    out -= mean
    var[...] = add_up(out * out, (0, 2), keepdims=True)
    var /= n


def batch_statistics(x: Any, out: Tensor | None = None) -> tuple[Any, Any]:
    """(mean, variance) of each channel of x, both (C,), for a layer that keeps running ones.

    x: an array. out: what batch_norm gave for it; if that has been recorded, nothing is computed again.
    The variance is divided by the number of values; n / (n - 1) times that is the estimate from a sample.
    """
    wide, dtype = _wide(x)
    x3 = _channels(wide)
    node = None if out is None else out._node
    if isinstance(node, KeepingNode) and isinstance(node.op, BatchNorm) and node.saved:
        mean, var = node.saved[node.op.asks.index("statistics")]
    else:
        mean, var = np.empty((2, 1, x3.shape[1], 1), x3.dtype)
        for part in _stretches(x3.shape[1], x3.shape[0] * x3.shape[2], _CHANNELS_BLOCK):
            _centre(x3[:, part], np.empty_like(x3[:, part]), mean[:, part], var[:, part])
    mean = x3[:1, :, :1] + mean
    return mean.reshape(-1).astype(dtype, copy=False), var.reshape(-1).astype(dtype, copy=False)


@BatchNorm.public()
def batch_norm(
    x: TensorLike, weight: TensorLike | None = None, bias: TensorLike | None = None, eps: float = 1e-5
) -> Tensor:
    shape = numbers("batch_norm: x", plain(x), None, copy=False).shape
    got = f"x is {describe(x if isinstance(x, Tensor) else np.asarray(x))}"
    if len(shape) < 2:
        raise ShapeError(
            "batch_norm: x",
            got,
            "(N, C), (N, C, L) or (N, C, H, W)",
            "insert the missing axis: x[:, None] for one channel, x[None] for one sample",
        )
    if shape[1] and shape[0] * math.prod(shape[2:]) < 2:
        raise ArgumentError(
            "batch_norm: x",
            f"{got}, {shape[0] * math.prod(shape[2:])} a channel",
            "more than one value per channel",
            "pass a larger batch, or normalise with running statistics: model.eval()",
        )
    _check_eps("batch_norm", eps)
    _check_factors("batch_norm", shape[1:2], f"a number for each of the {shape[1]} channels", weight=weight, bias=bias)
    return BatchNorm(eps)(x, 1.0 if weight is None else weight, 0.0 if bias is None else bias)


def _normalized(function: str, x: TensorLike, normalized_shape: Any, eps: Any, **factors: Any) -> Shape:
    """normalized_shape as a tuple, if it, eps and the factors go with x."""
    lengths = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    if not lengths or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in lengths):
        raise DTypeError(
            f"{function}: normalized_shape",
            f"normalized_shape={normalized_shape!r}",
            "an integer, or a tuple of them",
            "write normalized_shape=x.shape[-1] for the last axis",
        )
    found, shape = tuple(int(n) for n in lengths), numbers(f"{function}: x", plain(x), None, copy=False).shape
    if shape[-len(found) :] != found or not math.prod(found):
        raise ShapeError(
            f"{function}: normalized_shape",
            f"x is {describe(x if isinstance(x, Tensor) else np.asarray(x))}, normalized_shape={found}",
            "the lengths of x's last axes, none of them 0",
            f"write normalized_shape={shape[-len(found) :]}" if shape else "give x an axis: x.reshape(1)",
        )
    _check_eps(function, eps)
    _check_factors(function, found, f"the shape {found}", **factors)
    return found


def _check_eps(function: str, eps: Any) -> None:
    if not isinstance(eps, (int, float, np.floating)) or not 0 <= eps < math.inf:
        raise ArgumentError(
            f"{function}: eps", describe(eps), "a number that is not negative", "write eps=1e-5, for example"
        )


def _check_factors(function: str, shape: Shape, expected: str, **factors: Any) -> None:
    for name, factor in factors.items():
        if factor is not None and np.shape(plain(factor)) != shape:
            raise ShapeError(
                f"{function}: {name}",
                f"{name} is {describe(factor if isinstance(factor, Tensor) else np.asarray(factor))}",
                expected,
                f"make it of that shape: np.{'ones' if name == 'weight' else 'zeros'}({shape})",
            )
