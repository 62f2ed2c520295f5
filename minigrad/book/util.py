"""The book's helpers: smooth_curve, shuffle_dataset, and the matrix form of convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.book.base import draws
from minigrad.contract import whole
from minigrad.errors import ShapeError, describe

__all__ = ["col2im", "conv_output_size", "im2col", "np", "shuffle_dataset", "smooth_curve"]  # np: as in the book

Array = NDArray[Any]


def smooth_curve(x: ArrayLike) -> Array:
    """y_i = the mean of x around i, weighted with a Kaiser window (beta 2) of 11 entries; both ends mirrored.

    x: numbers, such as a list of losses. y has as many; for fewer than 11 the window shrinks to the odd number that
        fits, where the book's function returns fewer numbers than it got.
    Raises ShapeError where x has more axes than one.
    Source: Deep Learning from Scratch, common/util.py.

    >>> smooth_curve([1.0, 1.0, 4.0, 1.0, 1.0]).round(2)
    array([1.74, 1.71, 1.85, 1.71, 1.37])
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 1:
        raise ShapeError("smooth_curve: x", f"x is {describe(x)}", "one axis", "pass x.ravel()")
    if not x.size:
        return x.copy()
    window = min(11, len(x) - 1 + len(x) % 2)
    s = np.concatenate([x[window - 1 : 0 : -1], x, x[-1:-window:-1]])
    w = np.kaiser(window, 2)
    y = np.convolve(w / w.sum(), s, mode="valid")
    return y[window // 2 : len(y) - window // 2]


def shuffle_dataset(x: ArrayLike, t: ArrayLike, *, seed: Any = None) -> tuple[Array, Array]:
    """(x[order], t[order]) for one drawn order of the samples.

    x, t: arrays with one sample in each entry of their first axis; the results are copies.
    seed: None draws from NumPy's global state, as the book does; or a whole number, or a numpy Generator.
    Raises ShapeError for different numbers of samples. Source: Deep Learning from Scratch, common/util.py.

    >>> x, t = shuffle_dataset(np.arange(8.0).reshape(4, 2), np.arange(4), seed=0)
    >>> np.array_equal(x[:, 0], 2 * t)
    True
    """
    x, t = np.asarray(x), np.asarray(t)
    if not x.ndim or not t.ndim or len(x) != len(t):
        raise ShapeError(
            "shuffle_dataset",
            f"x is {describe(x)}, t is {describe(t)}",
            "as many labels as samples",
            "look at len(x), len(t)",
        )
    order = draws(seed, "shuffle_dataset").permutation(len(x))
    return x[order], t[order]


def conv_output_size(input_size: float, filter_size: float, stride: float = 1, pad: float = 0) -> float:
    """(input_size + 2 * pad - filter_size) / stride + 1, with its fraction where it is not whole.

    Source: Deep Learning from Scratch, section 7.2.4.

    >>> conv_output_size(28, 5), conv_output_size(28, 3, stride=2, pad=1)
    (24.0, 14.5)
    """
    return (input_size + 2 * pad - filter_size) / stride + 1


def im2col(input_data: ArrayLike, filter_h: int, filter_w: int, stride: int = 1, pad: int = 0) -> Array:
    """col[(n, i, j)] = the window of image n at (i * stride, j * stride), flat, over all channels.

    input_data: (N, C, H, W), with pad zeros around. col: (N * out_h * out_w, C * filter_h * filter_w), of the same
        dtype, where the book's is float64 always.
    Raises ShapeError for other than four axes and for a window larger than the padded image, ArgumentError for a
    size that is no count. Source: Deep Learning from Scratch, section 7.4.3.

    >>> im2col(np.arange(9.0).reshape(1, 1, 3, 3), 2, 2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    x = np.asarray(input_data)
    n, c, out_h, out_w = _sizes("im2col", "input_data", x.shape, filter_h, filter_w, stride, pad)
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (filter_h, filter_w), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * out_h * out_w, c * filter_h * filter_w)


def col2im(
    col: ArrayLike, input_shape: tuple[int, ...], filter_h: int, filter_w: int, stride: int = 1, pad: int = 0
) -> Array:
    """The images of input_shape whose every entry is the sum of the entries of col that im2col takes from it.

    col: (N * out_h * out_w, C * filter_h * filter_w), or as many numbers in that order; the result has its dtype.
    Raises ShapeError for another number of entries, and as im2col. Source: section 7.4.4.

    >>> col2im(np.ones((4, 4)), (1, 1, 3, 3), 2, 2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    col = np.asarray(col)
    n, c, out_h, out_w = _sizes("col2im", "input_shape", input_shape, filter_h, filter_w, stride, pad)
    if col.size != n * out_h * out_w * c * filter_h * filter_w:
        raise ShapeError(
            "col2im: col",
            f"col is {describe(col)}",
            f"shape {(n * out_h * out_w, c * filter_h * filter_w)} for images of shape {tuple(input_shape)}",
            "pass the filter size, stride and pad that im2col was called with",
        )
    col = col.reshape(n, out_h, out_w, c, filter_h, filter_w).transpose(0, 3, 4, 5, 1, 2)
    h, w = input_shape[2:]
    image = np.zeros((n, c, h + 2 * pad, w + 2 * pad), col.dtype)
    for y in range(filter_h):
        for x in range(filter_w):
            image[:, :, y : y + stride * out_h : stride, x : x + stride * out_w : stride] += col[:, :, y, x]
    return image[:, :, pad : pad + h, pad : pad + w]


def _sizes(
    function: str, argument: str, shape: tuple[int, ...], filter_h: int, filter_w: int, stride: int, pad: int
) -> tuple[int, int, int, int]:
    """N, C, out_h, out_w."""
    for name, value, least in (
        ("filter_h", filter_h, 1),
        ("filter_w", filter_w, 1),
        ("stride", stride, 1),
        ("pad", pad, 0),
    ):
        whole(f"{function}: {name}", value, least)
    if len(shape) != 4:
        raise ShapeError(
            f"{function}: {argument}", f"shape {tuple(shape)}", "(N, C, H, W)", "reshape to (N, C, H, W) first"
        )
    n, c, h, w = shape
    if h + 2 * pad < filter_h or w + 2 * pad < filter_w:
        raise ShapeError(
            f"{function}: {argument}",
            f"shape {tuple(shape)} with pad={pad}, and a window of {(filter_h, filter_w)}",
            "a window that fits into the padded image",
            "take a smaller window or a larger pad",
        )
    return n, c, (h + 2 * pad - filter_h) // stride + 1, (w + 2 * pad - filter_w) // stride + 1
