"""Normalisation: layer_norm, rms_norm and batch_norm, each in one node."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minigrad.contract import Case, numbers
from minigrad.errors import ArgumentError, DTypeError, ShapeError, describe
from minigrad.op import Op
from minigrad.ops.kernels import sum_of
from minigrad.ops.reduce import mean_of
from minigrad.ops.rows import by_blocks, dots, totals
from minigrad.standin import as_array, whole
from minigrad.sums import add_up, ones
from minigrad.tape import KeepingNode
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["batch_norm", "layer_norm", "rms_norm"]

Shape = tuple[int, ...]

_BLOCK = 98304  # Entries worked on at a time, so that all passes over them but the first run in the cache
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
    return _as(x, work), dtype


def _as(x: Any, dtype: Any) -> Any:
    """An array or Tensor in that dtype."""
    return x if x.dtype == dtype else x.astype(dtype)


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
        weight, bias = (None if np.ndim(a) == 0 else np.reshape(a, -1) for a in (weight, bias))

        def block(x: Any, out: Any = None, statistics: Any = None) -> tuple[Any, Any]:
            out = np.subtract(x, x[:, :1], out=out)
            mean = totals(out)[:, None]
            mean /= n
            out -= mean
            rstd = _rstd(out, n, self.eps)
            out *= rstd
            if weight is not None:
                out *= weight
            if bias is not None:
                out += bias
            if statistics is None:
                return out, np.concatenate([mean, rstd]).reshape(2, -1, 1)
            statistics[0], statistics[1] = mean, rstd
            return out, statistics

        out, statistics = _forward(block, _rows(wide, n), 2)
        out = out if out.shape == x.shape else out.reshape(x.shape)
        return out.astype(dtype, copy=False), statistics

    def statistics(self, x: Any, weight: Any, bias: Any) -> Any:
        """The mean, less the first value, and 1 / sqrt(var + eps) of each row, in one array (2, rows, 1)."""
        rows = _rows(_as(x, _dtypes(x, weight, bias)[0]), math.prod(self.normalized_shape))
        centred = rows - plain(rows)[:, :1]
        mean = np.mean(centred, axis=1, keepdims=True)
        centred = centred - mean
        return np.stack([mean, 1 / np.sqrt(np.mean(centred * centred, axis=1, keepdims=True) + self.eps)])

    def backward(self, dout: Any, x: Any, weight: Any, statistics: Any, needs: Any) -> Any:
        n, shape, dtype = math.prod(self.normalized_shape), self.normalized_shape, statistics.dtype
        w = None if np.ndim(weight) == 0 else _as(np.reshape(weight, -1), dtype)

        def rule(dout: Any, x: Any, mean: Any, rstd: Any, out: Any) -> tuple[Any, Any, Any]:
            pivot, rest = _pivot(plain(x)[:, :1], mean)
            x = x - pivot
            db = _down(None, dout) if needs[2] else None
            g = dout * rstd if out is None else np.multiply(dout, rstd, out=out)
            product = g * x
            dw = _down(None, product) - _down(rest, g) if needs[1] else None
            if not needs[0]:
                return None, dw, db
            # dx = g * w - mean(g * w) - xhat * mean(g * w * xhat) with g = dout * rstd, xhat = (x - rest) * rstd
            total = _across(g, w)
            slope = (_across(product, w) - rest * total) * rstd / n * rstd
            x *= slope
            x += total / n - rest * slope
            return _scaled(g, w, x, g), dw, db

        dx, dw, db = _backward(rule, n, dtype, dout, x, *statistics)
        return (
            dx,
            None if dw is None else np.reshape(dw, shape),
            None if db is None else np.reshape(db, shape),
        )


def _size(x: Any, axes: tuple[int, ...]) -> int:
    """How many entries of x lie along axes."""
    return math.prod(x.shape[axis] for axis in axes)


def _pivot(first: Any, mean: Any) -> tuple[Any, Any]:
    """first + mean rounded, and what the rounding left out (Knuth, The Art of Computer Programming, 4.2.2).

    x - pivot has no large errors, and rest is so small beside the deviations that sums can do without its being
    subtracted first. pivot is an array also where mean is a Tensor.
    """
    array = plain(mean)
    pivot = first + array
    moved = pivot - first
    return pivot, (first - (pivot - moved)) + (mean - moved if mean is array else (array - moved) + (mean - array))


def _rstd(x: Any, n: int, eps: float) -> Any:
    """1 / sqrt(mean(x*x) + eps) of each row, as a column."""
    squares = dots(x, x)[:, None]
    squares /= n
    squares += eps
    np.sqrt(squares, out=squares)
    return np.divide(1, squares, out=squares)


def _across(x: Any, w: Any) -> Any:
    """The sum of each row times w, as a column."""
    if isinstance(x, Tensor) or isinstance(w, Tensor):
        return np.sum(x if w is None else x * w, axis=1, keepdims=True)
    return (totals(x) if w is None else dots(x, w))[:, None]


def _down(factors: Any, x: Any) -> Any:
    """The sum of the rows, each times its factor in a column: as a product, three times as fast as a sum."""
    if factors is None:
        return np.ones(len(x), x.dtype) @ x
    return np.reshape(factors, -1) @ x


def _scaled(dout: Any, w: Any, less: Any, spare: Any) -> Any:
    """dout * w - less; in spare, if that is an array."""
    if isinstance(spare, Tensor) or isinstance(less, Tensor):
        return (dout if w is None else dout * w) - less
    if w is None:
        return np.subtract(dout, less, out=spare)
    np.multiply(dout, w, out=spare)
    spare -= less
    return spare


def _forward(block: Any, rows: Any, kept: int) -> tuple[Any, Any]:
    """What block returns for rows, and `kept` columns of statistics; many rows are taken a block at a time."""
    if rows.size <= _BLOCK:
        result: tuple[Any, Any] = block(rows)
        return result
    return whole(_forward_in_blocks, block, rows, kept)  # type: ignore[no-any-return]  # as block


def _forward_in_blocks(block: Any, rows: Any, kept: int) -> tuple[Any, Any]:
    out, statistics = np.empty(rows.shape, rows.dtype), np.empty((kept, len(rows), 1), rows.dtype)

    def task(parts: Iterator[slice]) -> None:
        for part in parts:
            block(rows[part], out[part], statistics[:, part])

    by_blocks(task, len(rows), rows.shape[1], _BLOCK)
    return out, statistics


def _backward(rule: Any, n: int, dtype: Any, dout: Any, x: Any, *columns: Any) -> tuple[Any, Any, Any]:
    """rule on all rows, of n entries: of many a block at a time, whose intermediate results stay in the cache.

    It returns dx of the rows that it sees, and their sums for weight and bias, or None for each.
    """
    shape = x.shape
    dout, x = (_rows(_as(a, dtype), n) for a in (dout, x))
    if isinstance(dout, Tensor) or dout.size <= _BLOCK:
        dx, dw, db = rule(dout, x, *columns, None)
    else:
        dx, dw, db = whole(_backward_in_blocks, rule, dout, x, *columns)
    return dx if dx is None or dx.shape == shape else np.reshape(dx, shape), dw, db


def _backward_in_blocks(rule: Any, dout: Any, x: Any, *columns: Any) -> tuple[Any, Any, Any]:
    dx, sums = np.empty(x.shape, x.dtype), {}

    def task(parts: Iterator[slice]) -> None:
        for part in parts:
            sums[part.start] = rule(dout[part], x[part], *[column[part] for column in columns], dx[part])

    by_blocks(task, len(x), x.shape[1], _BLOCK)
    found = [sums[start] for start in sorted(sums)]  # in this order, whichever was there first
    has_dx, dw, db = found[0]
    for _, more_dw, more_db in found[1:]:
        dw = None if dw is None else dw + more_dw
        db = None if db is None else db + more_db
    return None if has_dx is None else dx, dw, db


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
        weight = None if np.ndim(weight) == 0 else np.reshape(weight, -1)

        def block(x: Any, out: Any = None, statistics: Any = None) -> tuple[Any, Any]:
            rstd = _rstd(x, n, self.eps)
            out = np.multiply(x, rstd, out=out)
            if weight is not None:
                out *= weight
            if statistics is not None:
                statistics[0] = rstd
            return out, rstd

        out, rstd = _forward(block, _rows(wide, n), 1)
        out = out if out.shape == x.shape else out.reshape(x.shape)
        return out.astype(dtype, copy=False), rstd.reshape(-1, 1)

    def rstd(self, x: Any, weight: Any) -> Any:
        """1 / sqrt(mean(x*x) + eps) of each row, (rows, 1)."""
        rows = _rows(_as(x, _dtypes(x, weight)[0]), math.prod(self.normalized_shape))
        return 1 / np.sqrt(np.mean(rows * rows, axis=1, keepdims=True) + self.eps)

    def backward(self, dout: Any, x: Any, weight: Any, rstd: Any, needs: Any) -> Any:
        n, dtype = math.prod(self.normalized_shape), rstd.dtype
        w = None if np.ndim(weight) == 0 else _as(np.reshape(weight, -1), dtype)

        def rule(dout: Any, x: Any, rstd: Any, out: Any) -> tuple[Any, Any, None]:
            # rstd comes first: where the squares of a row have overflown it is 0, and dout * x may be infinite.
            g = dout * rstd if out is None else np.multiply(dout, rstd, out=out)
            product = g * x
            dw = _down(None, product) if needs[1] else None
            if not needs[0]:
                return None, dw, None
            # dx = g * w - xhat * mean(g * w * xhat) with g = dout * rstd
            slope = _across(product, w) * rstd / n * rstd
            less = np.multiply(x, slope) if isinstance(product, Tensor) else np.multiply(x, slope, out=product)
            return _scaled(g, w, less, g), dw, None

        dx, dw, _ = _backward(rule, n, dtype, dout, x, rstd)
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
        factors = [] if weight is None or array.dtype.kind == "f" else [as_array(plain(weight))]
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
        weight, bias = (None if np.ndim(a) == 0 else np.reshape(a, (1, -1, 1)) for a in (weight, bias))

        def block(x: Any, of: Any, out: Any = None) -> tuple[Any, Any, Any]:
            out, mean, var = _centre(x, out)
            factor = 1 / np.sqrt(var + self.eps)
            out *= factor if weight is None else factor * weight[:, of]
            if bias is not None:
                out += bias[:, of]
            return out, mean, var

        if x3.size <= _CHANNELS_BLOCK:
            out, mean, var = block(x3, slice(None))
            statistics = np.concatenate([mean, var]).reshape(2, 1, -1, 1)
        else:
            out, statistics = whole(_centre_in_blocks, block, x3)
        out = out if out.shape == x.shape else out.reshape(x.shape)
        return out.astype(dtype, copy=False), statistics

    def statistics(self, x: Any, weight: Any, bias: Any) -> Any:
        """The mean, less the first value, and the variance of each channel, in one array (2, 1, C, 1)."""
        x = _channels(_as(x, _dtypes(x, weight, bias)[0]))
        centred = x - plain(x)[:1, :, :1]
        mean = mean_of(centred, (0, 2), keepdims=True)
        centred = centred - mean
        return np.stack([mean, mean_of(centred * centred, (0, 2), keepdims=True)])

    def backward(self, dout: Any, x: Any, weight: Any, statistics: Any, needs: Any) -> Any:
        shape = x.shape
        w = None if np.ndim(weight) == 0 else np.reshape(weight, (1, -1, 1))

        def rule(dout: Any, x: Any, mean: Any, var: Any, of: Any, out: Any) -> tuple[Any, Any, Any]:
            n = x.shape[0] * x.shape[2]
            rstd = 1 / np.sqrt(var + self.eps)
            pivot, rest = _pivot(plain(x)[:1, :, :1], mean)
            x = x - pivot
            db = _per_channel(dout, None)
            product = _per_channel(dout, x) - rest * db
            dw = product * rstd
            if not needs[0]:
                return None, dw, db
            slope = dw / n * rstd
            x *= slope
            x += db / n - rest * slope
            # dx = (dout - mean(dout) - xhat * mean(dout * xhat)) * rstd * w
            dx = dout - x if out is None else np.subtract(dout, x, out=out)
            dx *= rstd if w is None else rstd * w[:, of]
            return dx, dw, db

        x, dout = (_channels(_as(a, statistics.dtype)) for a in (x, dout))
        if isinstance(dout, Tensor) or dout.size <= _CHANNELS_BLOCK:
            dx, dw, db = rule(dout, x, statistics[0], statistics[1], slice(None), None)
        else:
            dx, dw, db = whole(_channels_in_blocks, rule, dout, x, statistics)
        return (
            np.reshape(dx, shape) if needs[0] else None,
            np.reshape(dw, -1) if needs[1] else None,
            np.reshape(db, -1) if needs[2] else None,
        )


def _channels(x: Any) -> Any:
    """x as (N, C, L), its channels in the middle."""
    return np.reshape(x, (*x.shape[:2], math.prod(x.shape[2:])))


def _per_channel(x: Any, y: Any) -> Any:
    """The sum of x * y over all but the channels, (1, C, 1); y None for 1."""
    if isinstance(x, Tensor) or isinstance(y, Tensor) or not 8 <= x.shape[2] <= 4096:
        product = x if y is None else x * y
        if product.shape[2] != 1 or isinstance(product, Tensor):
            return sum_of(product, (0, 2), keepdims=True)
        return add_up(product[:, :, 0], 0)[None, :, None]
    sums = np.vecdot(x, ones(x.shape[2], x.itemsize) if y is None else y)
    return add_up(sums, 0)[None, :, None]


def _centre(x: Any, out: Any = None) -> tuple[Any, Any, Any]:
    """x - its channel's mean, in out if there is one; the mean, less the channel's first value; and the variance."""
    n = x.shape[0] * x.shape[2]
    out = np.subtract(x, x[:1, :, :1], out=out)
    mean = _per_channel(out, None)
    mean /= n
    out -= mean
    var = _per_channel(out, out)
    var /= n
    return out, mean, var


def _by_channels(task: Callable[[Iterator[slice]], Any], shape: Shape) -> None:
    rows, channels, length = shape
    by_blocks(task, channels, rows * length, _CHANNELS_BLOCK, length if length > 1 else channels)


def _centre_in_blocks(block: Any, x: Any) -> tuple[Any, Any]:
    out, statistics = np.empty(x.shape, x.dtype), np.empty((2, 1, x.shape[1], 1), x.dtype)

    def task(parts: Iterator[slice]) -> None:
        for of in parts:
            _, statistics[0, :, of], statistics[1, :, of] = block(x[:, of], of, out[:, of])

    _by_channels(task, x.shape)
    return out, statistics


def _channels_in_blocks(rule: Any, dout: Any, x: Any, statistics: Any) -> tuple[Any, Any, Any]:
    dx, (dw, db) = np.empty(x.shape, x.dtype), np.empty(statistics.shape, statistics.dtype)

    def task(parts: Iterator[slice]) -> None:
        for of in parts:
            mean, var = statistics[:, :, of]
            _, dw[:, of], db[:, of] = rule(dout[:, of], x[:, of], mean, var, of, dx[:, of])

    _by_channels(task, x.shape)
    return dx, dw, db


def _centre_part(x: Any, of: slice, out: Any) -> tuple[Any, Any, Any]:
    return _centre(x, out)


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
        _, (mean, var) = whole(_centre_in_blocks, _centre_part, x3)
    mean = x3[:1, :, :1] + mean
    return mean.reshape(-1).astype(dtype, copy=False), var.reshape(-1).astype(dtype, copy=False)


@BatchNorm.public()
def batch_norm(
    x: TensorLike, weight: TensorLike | None = None, bias: TensorLike | None = None, eps: float = 1e-5
) -> Tensor:
    shape = numbers("batch_norm: x", plain(x), None, copy=False).shape
    if len(shape) < 2:
        got = f"x is {describe(x if isinstance(x, Tensor) else np.asarray(x))}"
        raise ShapeError(
            "batch_norm: x",
            got,
            "(N, C), (N, C, L) or (N, C, H, W)",
            "insert the missing axis: x[:, None] for one channel, x[None] for one sample",
        )
    if shape[1] and shape[0] * math.prod(shape[2:]) < 2:
        got = f"x is {describe(x if isinstance(x, Tensor) else np.asarray(x))}"
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
