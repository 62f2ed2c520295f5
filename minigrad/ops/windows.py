"""Windows that slide over the last axes: their arguments, their number, and where each of their places lies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from operator import index
from typing import Any

import numpy as np

from minigrad.contract import numbers
from minigrad.errors import ArgumentError, DTypeError, ShapeError, describe
from minigrad.tensor import Tensor, TensorLike

__all__ = ["Counts", "Padding", "counts", "inside", "paddings", "places", "tensor", "window_sizes"]

Counts = int | Sequence[int]
Padding = int | Sequence[int] | str


def inside(n: int, size: int, offset: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Of `size` windows over an axis of n: those whose place `offset` is not in the padding, and where it is.

    Slices, one of the windows and one of the axis, of equal length. padding: how much of it stands before the axis.

    >>> inside(4, 4, 0, 1, 1)
    (slice(1, 4, None), slice(0, 3, 1))
    """
    first = offset - padding
    low = max(0, -(first // stride))
    high = max(low, min(size, (n - 1 - first) // stride + 1))
    start = first + low * stride
    return slice(low, high), slice(start, start + (high - low) * stride, stride)


def places(
    shape: tuple[int, ...],
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Iterator[tuple[Any, Any]]:
    """For each place in the kernel: an index of windows, and one of x (of this shape), where the place meets x."""
    (h, w), (sh, sw), (ph, pw), (dh, dw) = shape[-2:], stride, padding, dilation
    columns = [inside(w, size[1], j * dw, sw, pw) for j in range(kernel[1])]
    for i in range(kernel[0]):
        out_rows, rows = inside(h, size[0], i * dh, sh, ph)
        for out_columns, at in columns:
            yield (..., out_rows, out_columns), (..., rows, at)


def tensor(function: str, name: str, value: TensorLike) -> Any:
    """value as it is, if it is a Tensor; otherwise as an array of real numbers."""
    return value if isinstance(value, Tensor) else numbers(f"{function}: {name}", value, None, copy=False)


def counts(function: str, name: str, value: Any, axes: int, least: int) -> tuple[int, ...]:
    """value as whole numbers, not below `least`, one for each axis."""
    try:
        found = (index(value),) * axes if np.ndim(value) == 0 else tuple(index(n) for n in value)
    except (TypeError, ValueError):
        raise DTypeError(
            f"{function}: {name}",
            f"{name}={value!r}",
            _wanted(axes, least),
            f"write {name}={max(least, 1)}",
        ) from None
    if len(found) == 1:
        found *= axes
    if len(found) != axes or min(found) < least:
        raise ArgumentError(
            f"{function}: {name}", f"{name}={value!r}", _wanted(axes, least), f"write {name}={max(least, 1)}"
        )
    return found


def _wanted(axes: int, least: int) -> str:
    each = "" if axes == 1 else f", or {axes} of them, one for each axis"
    return f"a whole number of at least {least}{each}"


def paddings(
    function: str, value: Any, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How much padding stands before, and how much before and after, each axis: "same" adds an odd one after."""
    if not isinstance(value, str):
        before = counts(function, "padding", value, len(kernel), 0)
        return before, tuple(2 * p for p in before)
    if value not in ("same", "valid"):
        raise ArgumentError(
            f"{function}: padding", f"padding={value!r}", '"same", "valid" or whole numbers', 'write padding="same"'
        )
    if value == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if max(stride) > 1:
        raise ArgumentError(
            f"{function}: padding",
            f'padding="same" with stride={stride}',
            "stride=1, where out can be as large as x",
            "pass the padding as a number, such as padding=1",
        )
    total = tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    return tuple(t // 2 for t in total), total


def _short(numbers: tuple[int, ...]) -> str:
    """One number where all are the same."""
    return str(numbers[0] if len({*numbers}) == 1 else numbers)


def window_sizes(
    function: str,
    x: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    *,
    ceil: bool = False,
) -> tuple[int, ...]:
    """How many windows fit along each of x's last axes; padding is that of both sides together.

    ceil: whether a last window may reach over the end, if it begins before it.
    """
    lengths = x.shape[-len(kernel) :]
    sizes = []
    for n, k, s, p, d in zip(lengths, kernel, stride, padding, dilation, strict=True):
        free = n + p - d * (k - 1) - 1
        size = free // s + 1
        if ceil and free % s and size * s < n + p // 2:
            size += 1
        sizes.append(size)
    if min(sizes) < 1:
        covers = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
        padded = tuple(n + p for n, p in zip(lengths, padding, strict=True))
        # With dilation up to x's length no window of a pooling is in padding alone, nor is so much padding an error.
        near = tuple(max(1, min(d, n)) for d, n in zip(dilation, lengths, strict=True))
        enough = tuple(
            max(p // 2 if d == e else 0, math.ceil((e * (k - 1) + 1 - n) / 2))
            for p, d, e, k, n in zip(padding, dilation, near, kernel, lengths, strict=True)
        )
        closer = "" if near == dilation else f"dilation={_short(near)} and "
        raise ShapeError(
            function,
            f"x is {describe(x)}, the kernel {kernel} covers {covers} with dilation={dilation}, "
            f"and x with its padding is {padded}",
            "a kernel that is no larger than the padded x",
            f"pass a smaller kernel, or {closer}padding={_short(enough)}",
        )
    return tuple(sizes)
