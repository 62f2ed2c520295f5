"""Convolution and pooling as loops over the places of the kernel, each of them a slice of the image."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import ops
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["avg_pool2d", "conv2d", "conv_transpose2d", "max_pool2d"]


def _pair(value: Any) -> tuple[int, int]:
    a, b = np.broadcast_to(value, 2).tolist()
    return a, b


def _image(x: TensorLike) -> tuple[Tensor, bool]:
    """x as a batch of images, and whether it was one already."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    return (x, True) if x.ndim == 4 else (ops.expand_dims(x, 0), False)


def _places(kernel: Any, stride: Any, dilation: Any, size: Any) -> Any:
    """For each place in the kernel: i, j, and the index of what it sees, in all windows, of the padded image."""
    for i, j in np.ndindex(*kernel):
        starts = i * dilation[0], j * dilation[1]
        seen = (slice(a, a + n * s, s) for a, n, s in zip(starts, size, stride, strict=True))
        yield i, j, (..., *seen)


def conv2d(
    x: TensorLike,
    W: TensorLike,
    b: TensorLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """out = b + sum over the places of the kernel of W there * what it sees: a sum of products for each.

    Arguments as for minigrad.conv2d.

    >>> conv2d([[[1.0, 2.0, 3.0]]], [[[[1.0, -1.0]]]])
    Tensor([[[-1., -1.]]], dtype=float64)
    """
    x, batch = _image(x)
    W = W if isinstance(W, Tensor) else Tensor(W)
    stride, dilation = _pair(stride), _pair(dilation)
    outputs, channels, *kernel = W.shape
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if padding == "same":
        around = [(r // 2, r - r // 2) for r in reach]
    else:
        around = [(p, p) for p in (_pair(0) if padding == "valid" else _pair(padding))]
    x = ops.pad(x, ((0, 0), (0, 0), *around))
    size = [(n - r - 1) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]
    out = Tensor(np.zeros((1, 1, 1, 1), x.dtype))
    for i, j, seen in _places(kernel, stride, dilation, size):
        parts = ops.reshape(x[seen], (len(x), groups, 1, channels, *size))
        weights = ops.reshape(W[:, :, i, j], (1, groups, outputs // groups, channels, 1, 1))
        product = ops.sum(ops.multiply(parts, weights), 3)
        out = ops.add(out, ops.reshape(product, (len(x), outputs, *size)))
    if b is not None:
        out = ops.add(out, ops.reshape(b, (outputs, 1, 1)))
    return out if batch else out[0]


def conv_transpose2d(
    x: TensorLike,
    W: TensorLike,
    b: TensorLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """out = sum over the places of the kernel of W there * x, laid where that place is.

    Arguments as for minigrad.conv_transpose2d.

    >>> conv_transpose2d([[[1.0, 2.0]]], [[[[1.0, 10.0]]]])
    Tensor([[[ 1., 12., 20.]]], dtype=float64)
    """
    x, batch = _image(x)
    W = W if isinstance(W, Tensor) else Tensor(W)
    stride, dilation, padding, more = _pair(stride), _pair(dilation), _pair(padding), _pair(output_padding)
    n, channels, *lengths = x.shape
    _, outputs, *kernel = W.shape
    whole = [
        (m - 1) * s + d * (k - 1) + e + 1 for m, s, d, k, e in zip(lengths, stride, dilation, kernel, more, strict=True)
    ]
    x = ops.reshape(x, (n, groups, channels // groups, 1, *lengths))
    out = Tensor(np.zeros((n, outputs * groups, *whole), x.dtype))
    for i, j, seen in _places(kernel, stride, dilation, lengths):
        weights = ops.reshape(W[:, :, i, j], (1, groups, channels // groups, outputs, 1, 1))
        product = ops.reshape(ops.sum(ops.multiply(x, weights), 2), (n, outputs * groups, *lengths))
        out = ops.add(out, ops.scatter(product, seen, out.shape))
    out = out[:, :, padding[0] : whole[0] - padding[0], padding[1] : whole[1] - padding[1]]
    if b is not None:
        out = ops.add(out, ops.reshape(b, (outputs * groups, 1, 1)))
    return out if batch else out[0]


def _windows(
    x: TensorLike, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, around: float
) -> tuple[list[Tensor], bool]:
    """What each place of the window sees in x, with `around` as its padding; and whether x is a batch."""
    x, batch = _image(x)
    widths, size = [], []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        free = n + 2 * p - d * (k - 1) - 1
        count = free // s + 1
        if ceil_mode and free % s and count * s < n + p:
            count += 1
        size.append(count)
        widths.append((p, max(p, count * s + d * (k - 1) - n)))
    x = ops.pad(x, ((0, 0), (0, 0), *widths), constant_values=around)
    return [x[seen] for _, _, seen in _places(kernel, stride, dilation, size)], batch


def max_pool2d(
    x: TensorLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """out = max over a stack of what each place of the window sees.

    Arguments as for minigrad.max_pool2d.

    >>> max_pool2d([[[1.0, 2.0], [3.0, 4.0]]], 2)
    Tensor([[[4.]]], dtype=float64)
    """
    kernel = _pair(kernel_size)
    steps = kernel if stride is None else _pair(stride)
    seen, batch = _windows(x, kernel, steps, _pair(padding), _pair(dilation), ceil_mode, -np.inf)
    out = ops.max(ops.stack(seen), axis=0)
    return out if batch else out[0]


def avg_pool2d(
    x: TensorLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """out = sum over a stack of what each place of the window sees, divided by how many they are.

    Arguments as for minigrad.avg_pool2d.

    >>> avg_pool2d([[[1.0, 2.0], [3.0, 4.0]]], 2)
    Tensor([[[2.5]]], dtype=float64)
    """
    kernel, padding = _pair(kernel_size), _pair(padding)
    steps = kernel if stride is None else _pair(stride)
    seen, batch = _windows(x, kernel, steps, padding, (1, 1), ceil_mode, 0.0)
    # Zeros of the padding count as values, where they do; what lies behind the padding never does.
    inside = np.pad(np.ones((1, 1, *np.shape(plain(x))[-2:])), ((0, 0), (0, 0), *((p, p) for p in padding)),
                    constant_values=float(count_include_pad))  # fmt: skip
    counted, _ = _windows(inside, kernel, steps, (0, 0), (1, 1), ceil_mode, 0.0)
    h, w = seen[0].shape[2:]
    n = np.sum([count.data for count in counted], axis=0)[:, :, :h, :w]
    out = ops.divide(ops.sum(ops.stack(seen), axis=0), n)
    return out if batch else out[0]
