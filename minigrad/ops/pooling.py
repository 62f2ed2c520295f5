"""Pooling over the last two axes: one value for each window."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.contract import Case
from minigrad.dispatch import TABLE
from minigrad.errors import ArgumentError, ShapeError, describe
from minigrad.op import Op
from minigrad.ops.index import scatter_of
from minigrad.ops.kernels import masked
from minigrad.ops.windows import Counts, counts, places, tensor, window_sizes
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["avg_pool2d", "max_pool2d"]

Pair = tuple[int, int]


class Pooling(Op):
    """One value of each window; size: how many windows there are along rows and columns."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    size: Pair

    def places(self, shape: tuple[int, ...]) -> Any:
        """For each place in the window: which windows, and where in x."""
        return places(shape, self.size, self.kernel, self.stride, self.padding, self.dilation)


def _spread(parts: Any, shape: tuple[int, ...]) -> Any:
    """An image with the sum of all parts, pairs of values and where they belong: arrays or Tensors."""
    total: Any = None
    for values, at in parts:
        if isinstance(values, Tensor):
            values = scatter_of(values, at, shape)
            total = values if total is None else total + values
        else:
            if total is None:
                total = np.zeros_like(values, shape=shape)
            total[at] += values
    return total


class MaxPool2d(Pooling):
    """out = largest x in each window; a tie divides the gradient equally

    x: (N, C, H, W), or (C, H, W). kernel_size, stride, padding, dilation: one number or two, for rows and columns;
    stride: kernel_size by default. padding: how far windows begin before x and end behind it, at most half a kernel;
    what is not x does not count. ceil_mode: also the last window that begins within x and ends behind it.
    Raises ShapeError for an x without these axes or smaller than a window, or that lies between the places of a dilated
    one, ArgumentError and DTypeError for parameters that are no such numbers.
    Source: Deep Learning from Scratch, section 7.3.

    >>> max_pool2d([[[1.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [3.0, 0.0, 1.0, 2.0], [2.0, 4.0, 0.0, 1.0]]], 2)
    Tensor([[[2., 3.],
             [4., 2.]]], dtype=float64)
    """

    cases = (
        Case((2, 2, 4, 5), kernel_size=2),
        Case((1, 2, 4, 4), kernel_size=(2, 3), stride=1, padding=1),
        Case((2, 5, 4), kernel_size=3, stride=2, ceil_mode=True, padding=(1, 0)),
        Case((1, 1, 5, 6), kernel_size=2, stride=(1, 2), dilation=(3, 2)),
        Case((0, 2, 3, 3), kernel_size=2),
    )

    @staticmethod
    def reference(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                  ceil_mode: bool = False) -> Any:  # fmt: skip
        return _pooled(x, kernel_size, stride, padding, dilation, ceil_mode, lambda window, _: window.max(axis=-1))

    def forward(self, x: Any) -> Any:
        least = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else x.dtype.kind != "b" and -np.inf
        out = np.full_like(x, least, shape=(*x.shape[:2], *self.size))
        for windows, at in self.places(x.shape):
            np.maximum(out[windows], x[at], out=out[windows])
        return out

    def backward(self, dout: Any, x: Any, out: Any) -> Any:
        x, out = plain(x), plain(out)
        if not isinstance(dout, Tensor) and dout.strides != out.strides:
            # Behind a convolution x lies as convolutions lay it, and dout perhaps not: laid alike, all takes 0.4 x.
            laid = np.empty_like(out, dout.dtype)
            laid[...] = dout
            dout = laid
        at = list(self.places(x.shape))
        # A NaN is what made out NaN.
        chosen = [(x[i] == out[o]) | (x[i] != x[i]) for o, i in at]
        share = np.zeros_like(out, np.min_scalar_type(len(at)))
        for mask, (o, _) in zip(chosen, at, strict=True):
            share[o] += mask
        share = dout / share.astype(dout.dtype)
        return _spread(((masked(share[o], mask), i) for mask, (o, i) in zip(chosen, at, strict=True)), x.shape)


@MaxPool2d.public()
def max_pool2d(
    x: TensorLike,
    kernel_size: Counts,
    stride: Counts | None = None,
    padding: Counts = 0,
    dilation: Counts = 1,
    ceil_mode: bool = False,
) -> Tensor:
    return _pool(MaxPool2d, x, kernel_size, stride, padding, dilation, ceil_mode)


class AvgPool2d(Pooling):
    """out = mean of x in each window

    x: (N, C, H, W), or (C, H, W). kernel_size, stride, padding, ceil_mode: as for max_pool2d.
    count_include_pad: whether the zeros of the padding count as values.
    Raises ShapeError for an x without these axes or smaller than a window, ArgumentError and DTypeError for
    parameters that are no such numbers.

    >>> avg_pool2d([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]], 2)
    Tensor([[[3.5, 5.5]]], dtype=float64)
    """

    count_include_pad: bool = True
    cases = (
        Case((2, 2, 4, 5), kernel_size=2),
        Case((1, 2, 4, 4), kernel_size=(2, 3), stride=1, padding=1),
        Case((1, 2, 5, 3), kernel_size=3, stride=2, padding=1, count_include_pad=False),
        Case((2, 5, 4), kernel_size=3, stride=2, ceil_mode=True, padding=(1, 0)),
        Case((0, 2, 3, 3), kernel_size=2),
    )

    @staticmethod
    def reference(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                  count_include_pad: bool = True) -> Any:  # fmt: skip
        def mean(window: Any, padded: int) -> Any:
            return window.sum(axis=-1) / (padded if count_include_pad else window.shape[-1])

        return _pooled(x, kernel_size, stride, padding, 1, ceil_mode, mean)

    def count(self, shape: tuple[int, ...]) -> Any:
        """What each window's sum is divided by: a number, or (out rows, out columns) where they differ."""
        lengths = []
        for n, size, k, s, p in zip(shape[-2:], self.size, self.kernel, self.stride, self.padding, strict=True):
            low, high = (-p, n + p) if self.count_include_pad else (0, n)
            lengths.append([min(i + k, high) - max(i, low) for i in range(-p, size * s - p, s)])
        rows, columns = lengths
        if len({*rows}) == 1 == len({*columns}):
            return rows[0] * columns[0]
        return np.multiply.outer(rows, columns)

    def forward(self, x: Any) -> Any:
        # float16 is added in float32: the sum may be larger than float16 goes, and its digits count.
        wide = np.float64 if x.dtype.kind in "iub" else np.float32 if x.itemsize == 2 else x.dtype
        out = np.zeros_like(x, wide, shape=(*x.shape[:2], *self.size))
        for windows, at in self.places(x.shape):
            out[windows] += x[at]
        out /= self.count(x.shape)
        return out.astype(x.dtype) if x.dtype == np.float16 else out

    def backward(self, dout: Any, x_shape: Any) -> Any:
        count, dtype = self.count(x_shape), dout.dtype
        dout = dout.astype(np.float32) if dtype.itemsize == 2 else dout
        share = dout / (count if isinstance(count, int) else count.astype(dout.dtype))
        dx = _spread(((share[o], i) for o, i in self.places(x_shape)), x_shape)
        return dx if dx.dtype == dtype else dx.astype(dtype)


@AvgPool2d.public()
def avg_pool2d(
    x: TensorLike,
    kernel_size: Counts,
    stride: Counts | None = None,
    padding: Counts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    return _pool(AvgPool2d, x, kernel_size, stride, padding, 1, ceil_mode, bool(count_include_pad))


def _pool(kind: type[Pooling], x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
          *more: Any) -> Tensor:  # fmt: skip
    """The op of this kind on x, its parameters checked."""
    name = kind.name
    x = tensor(name, "x", x)
    if x.ndim not in (3, 4):
        raise ShapeError(
            f"{name}: x",
            f"x is {describe(x)}",
            "(N, C, H, W), or one sample without N",
            "reshape x: a batch of images with one channel is x.reshape(N, 1, H, W)",
        )
    kernel = counts(name, "kernel_size", kernel_size, 2, 1)
    steps = kernel if stride is None else counts(name, "stride", stride, 2, 1)
    dilations = counts(name, "dilation", dilation, 2, 1)
    pads = counts(name, "padding", padding, 2, 0)
    if any(p > (d * (k - 1) + 1) // 2 for p, d, k in zip(pads, dilations, kernel, strict=True)):
        raise ArgumentError(
            f"{name}: padding",
            f"padding={pads}, kernel_size={kernel}",
            "at most half a kernel: no window may lie in the padding alone",
            f"pass padding={tuple((d * (k - 1) + 1) // 2 for d, k in zip(dilations, kernel, strict=True))} at most",
        )
    size = window_sizes(name, x, kernel, steps, tuple(2 * p for p in pads), dilations, ceil=ceil_mode)
    _check_windows(name, x, kernel, steps, pads, dilations, size)
    op = kind(kernel, steps, pads, dilations, size, *more)
    out: Tensor = op(x if x.ndim == 4 else TABLE["reshape"](x, (1, *x.shape)))
    return out if x.ndim == 4 else TABLE["reshape"](out, out.shape[1:])


def _check_windows(name: str, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any) -> None:
    """That each window has a place in x. With half a window of padding only places further apart than x may miss it."""
    for n, k, s, p, d, windows in zip(x.shape[-2:], kernel, stride, padding, dilation, size, strict=True):
        if d <= n:
            continue
        for start in range(-p, windows * s - p, s):
            if not any(0 <= start + i * d < n for i in range(k)):
                near = tuple(max(1, min(a)) for a in zip(dilation, x.shape[-2:], strict=True))
                half = [min(p, (a * (k - 1) + 1) // 2) for a, p, k in zip(near, padding, kernel, strict=True)]
                raise ShapeError(
                    name,
                    f"x is {describe(x)}, kernel_size={kernel}, padding={padding}, dilation={dilation}: a window has "
                    f"places at {[start + i * d for i in range(k)]} of an axis of {n}",
                    "windows that do not lie in the padding alone",
                    f"pass dilation={near} and padding={tuple(half)}" if n else "check why x is empty",
                )


def _pooled(x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, value: Any) -> Any:
    """Pooling by loops, for the references; value: of (the entries of x in a window, how many with the padding)."""
    kernel = np.broadcast_to(kernel_size, 2).tolist()
    steps = kernel if stride is None else np.broadcast_to(stride, 2).tolist()
    pads, dilations = np.broadcast_to(padding, 2).tolist(), np.broadcast_to(dilation, 2).tolist()
    starts = []
    for n, k, s, p, d in zip(x.shape[-2:], kernel, steps, pads, dilations, strict=True):
        last = n + p - d * (k - 1) - 1
        last = min(n - 1, last + s - 1) if ceil_mode else last
        starts.append(list(range(-p, last + 1, s)))
    out = np.zeros((*x.shape[:-2], len(starts[0]), len(starts[1])))
    for (a, top), (c, left) in ((r, q) for r in enumerate(starts[0]) for q in enumerate(starts[1])):
        rows = [r for r in range(top, top + dilations[0] * kernel[0], dilations[0]) if r < x.shape[-2] + pads[0]]
        columns = [q for q in range(left, left + dilations[1] * kernel[1], dilations[1]) if q < x.shape[-1] + pads[1]]
        window = [x[..., r, q] for r in rows for q in columns if 0 <= r < x.shape[-2] and 0 <= q < x.shape[-1]]
        out[..., a, c] = value(np.stack(window, axis=-1), len(rows) * len(columns))
    return out
