"""Convolution over the last two axes, and its two gradients.

Convolution is a product of matrices. In memory the axes of an image are rows, channels, columns, samples: x with each
kernel column's view of it beside it (kw times x) then holds all that the kernel sees for one row of out in consecutive
lines, so that what is multiplied is a strided view, and no place of x is copied kh * kw times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minigrad.contract import UNIT, Case
from minigrad.dispatch import TABLE
from minigrad.errors import ArgumentError, ShapeError, describe
from minigrad.op import Op
from minigrad.ops.kernels import sum_of
from minigrad.ops.windows import Counts, Padding, counts, inside, paddings, tensor, window_sizes
from minigrad.tensor import Tensor, TensorLike

__all__ = ["conv1d", "conv2d", "conv2d_weight", "conv_transpose2d"]

Pair = tuple[int, int]


class Convolution(Op):
    """A product bilinear in two of image, weights and result; the rules of the three are each other.

    padding: how much stands before the rows and the columns; what stands behind them follows from size.
    size: the last two lengths of out.
    """

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    size: Pair
    domain = UNIT

    def given(self, kind: type[Convolution], size: Any, *args: Any) -> Any:
        """Another op of the family with the same parameters, on arrays or, where a rule is differentiated, Tensors."""
        op = kind(self.stride, self.padding, self.dilation, self.groups, tuple(size))
        return op(*args) if any(isinstance(x, Tensor) for x in args) else op.forward(*args)

    def columns(self, x: Any, kernel: Pair, size: Pair) -> Any:
        """(groups, out rows, kh * kw * channels, out columns * samples): what the kernel sees, row by row of out."""
        image = _by_rows(x, self.groups)
        groups, h, channels, w, n = image.shape
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel, self.stride, self.padding, self.dilation
        height = max(h + ph, (size[0] - 1) * sh + (kh - 1) * dh + 1)
        lines = np.zeros((groups, height, kw, channels, size[1], n), x.dtype)
        for j in range(kw):
            seen, at = inside(w, size[1], j * dw, sw, pw)
            lines[:, ph : ph + h, j, :, seen] = image[:, :, :, at]
        return _stacked(lines.reshape(groups, height, kw * channels, size[1] * n), size[0], kh, sh, dh)


def _by_rows(x: Any, groups: int) -> Any:
    """(N, C, H, W) as (groups, H, C / groups, W, N): a view, and for a result of these ops one without gaps."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 3, 2, 4, 0)


def _by_samples(rows: Any) -> Any:
    """The way back."""
    groups, h, c, w, n = rows.shape
    return rows.transpose(4, 0, 2, 1, 3).reshape(n, groups * c, h, w)


def _stacked(lines: Any, size: int, kernel: int, stride: int, dilation: int) -> Any:
    """Lines (groups, H, K, L) as (groups, size, kernel * K, L), each row of it those that a window sees.

    A view, unless the lines of a window are apart in memory.
    """
    groups, _, k, length = lines.shape
    g, line, *rest = lines.strides
    windows = as_strided(lines, (groups, size, kernel, k, length), (g, line * stride, line * dilation, *rest))
    return windows.reshape(groups, size, kernel * k, length)


def _plus(out: Any, b: Any) -> Any:
    """out + b, a number for each channel, in out's own memory where its dtype allows."""
    if np.ndim(b) == 0:
        return out
    b = b.reshape(-1, 1, 1)
    return np.add(out, b, out=out if np.result_type(out, b) == out.dtype else None)


class Conv2d(Convolution):
    """out[n, o, i, j] = b[o] + sum over c, k, l of W[o, c, k, l] * x[n, c, i * stride + k, j * stride + l]

    x: (N, C, H, W), or (C, H, W), a batch of one. W: (O, C / groups, kh, kw). b: (O,), or None.
    stride: one number or two, for rows and columns. dilation: the same, how far apart the kernel's places are.
    padding: how many zeros are put around x, one number or two; "valid" for none, "same" for an out as large as x,
        where of an odd number one more stands behind.
    groups: channels of x and of out are cut into so many parts, each with a convolution of its own.
    Raises ShapeError for axes or channels that do not match and for a kernel larger than the padded x,
    ArgumentError and DTypeError for parameters that are no such numbers.
    Source: Deep Learning from Scratch, section 7.2; W does not lie mirrored, as in every such library.

    >>> x = [[1.0, 2.0, 3.0, 0.0], [0.0, 1.0, 2.0, 3.0], [3.0, 0.0, 1.0, 2.0], [2.0, 3.0, 0.0, 1.0]]
    >>> W = [[2.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 0.0, 2.0]]
    >>> conv2d([[x]], [[W]], [3.0])
    Tensor([[[[18., 19.],
              [ 9., 18.]]]], dtype=float64)
    """

    symbol = "conv"
    gradients = (
        "conv_transpose2d(dout, W, stride=stride, padding=padding, dilation=dilation, groups=groups)",
        "conv2d_weight(x, dout, W.shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups)",
        "sum(dout, (0, 2, 3))",
    )
    cases = (
        Case((2, 2, 3, 4), (3, 2, 2, 2), (3,)),
        Case((1, 1, 4, 5), (2, 1, 3, 2), stride=2, padding=1),
        Case((2, 4, 3, 3), (4, 2, 2, 1), (4,), stride=(1, 2), padding=(0, 1), groups=2),
        Case((1, 1, 5, 4), (1, 1, 2, 2), padding=(2, 0), dilation=(2, 3)),
        Case((2, 3, 4), (1, 2, 2, 4), padding="same"),
        Case((1, 2, 3, 2), (2, 1, 1, 1), (2,), stride=(2, 1), padding="valid", groups=2),
        Case((0, 1, 3, 3), (2, 1, 2, 2), (2,)),
    )

    @staticmethod
    def reference(x: Any, W: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                  groups: int = 1) -> Any:  # fmt: skip
        if x.ndim == 3:
            return Conv2d.reference(x[None], W, b, stride, padding, dilation, groups)[0]
        (sh, sw), (dh, dw) = np.broadcast_to(stride, 2).tolist(), np.broadcast_to(dilation, 2).tolist()
        outputs, channels, kh, kw = W.shape
        (th, tw) = (dh * (kh - 1), dw * (kw - 1)) if padding == "same" else (0, 0)
        (ph, pw) = (0, 0) if isinstance(padding, str) else np.broadcast_to(padding, 2).tolist()
        x = np.pad(x, ((0, 0), (0, 0), (ph + th // 2, ph + th - th // 2), (pw + tw // 2, pw + tw - tw // 2)))
        size = ((x.shape[2] - dh * (kh - 1) - 1) // sh + 1, (x.shape[3] - dw * (kw - 1) - 1) // sw + 1)
        out = np.zeros((len(x), outputs, *size))
        for o, i, j in np.ndindex(outputs, *size):
            first = o // (outputs // groups) * channels
            for c, k, m in np.ndindex(channels, kh, kw):
                out[:, o, i, j] += W[o, c, k, m] * x[:, first + c, i * sh + k * dh, j * sw + m * dw]
        return out if b is None else out + b.reshape(-1, 1, 1)

    def forward(self, x: Any, W: Any, b: Any) -> Any:
        outputs, channels, kh, kw = W.shape
        seen = self.columns(x, (kh, kw), self.size)
        kernels = W.transpose(0, 2, 3, 1).reshape(self.groups, 1, outputs // self.groups, kh * kw * channels)
        rows = np.matmul(kernels, seen)
        return _plus(_by_samples(rows.reshape(*rows.shape[:3], self.size[1], len(x))), b)

    def backward(self, dout: Any, x: Any, W: Any, b_shape: Any, needs: Any) -> Any:
        dx = self.given(ConvTranspose2d, x.shape[2:], dout, W, 0.0) if needs[0] else None
        dW = self.given(Conv2dWeight, W.shape[2:], x, dout) if needs[1] else None
        return dx, dW, sum_of(dout, (0, 2, 3)) if needs[2] else None


@Conv2d.public()
def conv2d(
    x: TensorLike,
    W: TensorLike,
    b: TensorLike | None = None,
    stride: Counts = 1,
    padding: Padding = 0,
    dilation: Counts = 1,
    groups: int = 1,
) -> Tensor:
    return _convolve("conv2d", 2, x, W, b, stride, padding, dilation, groups)


def conv1d(
    x: TensorLike,
    W: TensorLike,
    b: TensorLike | None = None,
    stride: Counts = 1,
    padding: Padding = 0,
    dilation: Counts = 1,
    groups: int = 1,
) -> Tensor:
    """out[n, o, i] = b[o] + sum over c, k of W[o, c, k] * x[n, c, i * stride + k]: conv2d of one row

    x: (N, C, L), or (C, L), a batch of one. W: (O, C / groups, k). b: (O,), or None. The rest as for conv2d, with
    one number for the one axis. Raises what conv2d raises.

    >>> conv1d([[[1.0, 2.0, 3.0, 4.0]]], [[[1.0, -1.0]]])
    Tensor([[[-1., -1., -1.]]], dtype=float64)
    """
    return _convolve("conv1d", 1, x, W, b, stride, padding, dilation, groups)


def _convolve(name: str, axes: int, x: Any, W: Any, b: Any, stride: Any, padding: Any, dilation: Any,
              groups: Any) -> Tensor:  # fmt: skip
    """conv1d or conv2d, by the number of axes that the kernel slides along."""
    x, W, b, groups = _operands(name, axes, x, W, b, groups)
    _check_channels(name, x, W, groups, x.shape[-axes - 1], W.shape[1] * groups, W.shape[0])
    _check_bias(name, b, W, W.shape[0])
    steps = counts(name, "stride", stride, axes, 1)
    dilations = counts(name, "dilation", dilation, axes, 1)
    before, total = paddings(name, padding, W.shape[2:], steps, dilations)
    size = window_sizes(name, x, W.shape[2:], steps, total, dilations)
    one = (1,) * (2 - axes)
    op = Conv2d((*one, *steps), (0,) * len(one) + before, (*one, *dilations), groups, (*one, *size))
    batch = x.shape[: -axes - 1]
    image = _shaped(x, (*(batch or (1,)), x.shape[-axes - 1], *one, *x.shape[-axes:]))
    out = op(image, _shaped(W, (*W.shape[:2], *one, *W.shape[2:])), 0.0 if b is None else b)
    result: Tensor = _shaped(out, (*batch, W.shape[0], *size))
    return result


def _shaped(x: Any, shape: tuple[int, ...]) -> Any:
    """x in this shape; itself where it has it."""
    return x if x.shape == shape else TABLE["reshape"](x, shape)


def _operands(name: str, axes: int, x: Any, W: Any, b: Any, groups: Any) -> tuple[Any, Any, Any, int]:
    """x, W, b and groups, each of the right kind."""
    x, W = tensor(name, "x", x), tensor(name, "W", W)
    letters = "(N, C, L)" if axes == 1 else "(N, C, H, W)"
    if x.ndim not in (axes + 1, axes + 2):
        raise ShapeError(
            f"{name}: x",
            f"x is {describe(x)}",
            f"{letters}, or one sample without N",
            "reshape x: a batch of images with one channel is x.reshape(N, 1, H, W)"
            if axes == 2
            else "reshape x: a batch of rows with one channel is x.reshape(N, 1, L)",
        )
    if W.ndim != axes + 2 or 0 in W.shape[2:]:
        wanted = "(O, C / groups, k)" if axes == 1 else "(O, C / groups, kh, kw)"
        raise ShapeError(
            f"{name}: W", f"W is {describe(W)}", f"{wanted}, and a kernel that is not empty", "reshape W to that"
        )
    return x, W, b if b is None else tensor(name, "b", b), counts(name, "groups", groups, 1, 1)[0]


def _check_channels(name: str, x: Any, W: Any, groups: int, channels: int, wanted: int, divided: int) -> None:
    """channels: of x. wanted: by W. divided: what groups have to divide beside the channels of x."""
    got = f"x is {describe(x)}, W is {describe(W)}"
    for n in (channels, divided):
        if n % groups:
            raise ShapeError(
                f"{name}: groups",
                f"{got}, groups={groups}, which does not divide {n} channels",
                "a number that divides the channels of x and those of out",
                "pass groups=1, or make W for other numbers of channels",
            )
    if channels != wanted:
        raise ShapeError(
            f"{name}: W",
            f"{got}: x has {channels} channels, W wants {wanted}, groups={groups}",
            "as many channels in x as W is made for",
            f"pass an x with {wanted} channels, or make a W for {channels}",
        )


def _check_bias(name: str, b: Any, W: Any, outputs: int) -> None:
    if b is not None and b.shape != (outputs,):
        raise ShapeError(
            f"{name}: b",
            f"b is {describe(b)}, W is {describe(W)}",
            f"({outputs},), a number for each channel of out",
            f"reshape b to ({outputs},), or leave it out",
        )


class ConvTranspose2d(Convolution):
    """out = sum over all n, o, i, j of x[n, o, i, j] * W[o], laid at i * stride, j * stride: dx of conv2d

    x: (N, C, H, W), or (C, H, W). W: (C, O / groups, kh, kw), as for the conv2d that leads back. b: (O,), or None.
    stride, padding, dilation, groups: those of that conv2d; padding is what is cut off around out.
    output_padding: rows and columns more at the end of out, where stride leaves its size open.
    out: (N, O, (H - 1) * stride - 2 * padding + dilation * (kh - 1) + output_padding + 1, ...).
    Raises ShapeError for axes or channels that do not match and where nothing is left of out,
    ArgumentError and DTypeError for parameters that are no such numbers.

    >>> conv_transpose2d([[[[1.0, 2.0]]]], [[[[1.0, 10.0]]]])
    Tensor([[[[ 1., 12., 20.]]]], dtype=float64)
    """

    gradients = (
        "conv2d(dout, W, stride=stride, padding=padding, dilation=dilation, groups=groups)",
        "conv2d_weight(dout, x, W.shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups)",
        "sum(dout, (0, 2, 3))",
    )
    cases = (
        Case((2, 3, 2, 3), (3, 2, 2, 2), (2,)),
        Case((1, 1, 2, 3), (1, 2, 3, 2), stride=2, padding=1, output_padding=1),
        Case((2, 4, 2, 2), (4, 2, 2, 1), (4,), stride=(1, 3), output_padding=(0, 2), groups=2),
        Case((1, 2, 3, 2), (2, 1, 2, 2), padding=(2, 0), dilation=(2, 3), output_padding=(1, 2)),
        Case((2, 2, 2), (2, 1, 1, 3), stride=(2, 1)),
        Case((0, 1, 2, 2), (1, 2, 2, 2), (2,)),
    )

    @staticmethod
    def reference(x: Any, W: Any, b: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                  groups: int = 1, dilation: Any = 1) -> Any:  # fmt: skip
        if x.ndim == 3:
            return ConvTranspose2d.reference(x[None], W, b, stride, padding, output_padding, groups, dilation)[0]
        (sh, sw), (dh, dw) = np.broadcast_to(stride, 2).tolist(), np.broadcast_to(dilation, 2).tolist()
        (ph, pw), (oh, ow) = np.broadcast_to(padding, 2).tolist(), np.broadcast_to(output_padding, 2).tolist()
        (n, channels, h, w), (_, outputs, kh, kw) = x.shape, W.shape
        whole = ((h - 1) * sh + dh * (kh - 1) + 1 + oh, (w - 1) * sw + dw * (kw - 1) + 1 + ow)
        out = np.zeros((n, outputs * groups, *whole))
        for c, o, i, j, k, m in np.ndindex(channels, outputs, h, w, kh, kw):
            to = c // (channels // groups) * outputs + o
            out[:, to, i * sh + k * dh, j * sw + m * dw] += x[:, c, i, j] * W[c, o, k, m]
        out = out[:, :, ph : whole[0] - ph, pw : whole[1] - pw]
        return out if b is None else out + b.reshape(-1, 1, 1)

    def forward(self, x: Any, W: Any, b: Any) -> Any:
        rows = _by_rows(x, self.groups)
        groups, h, channels, w, n = rows.shape
        _, outputs, kh, kw = W.shape
        (sh, sw), (ph, pw), (dh, dw) = self.stride, self.padding, self.dilation
        top = max(0, -((ph - (kh - 1) * dh) // sh))
        lines = np.zeros((groups, top + max(h, (ph + self.size[0] - 1) // sh + 1), channels, w * n), x.dtype)
        lines[:, top : top + h] = rows.reshape(groups, h, channels, w * n)
        kernels = W.reshape(groups, channels, outputs, kh, kw).transpose(0, 3, 4, 2, 1)
        out = np.zeros((groups, self.size[0], outputs, self.size[1], n), np.result_type(x, W))
        for phase in range(min(sh, self.size[0])):
            # Every stride-th row of out meets the same rows of the kernel: the last of them in the first row of x.
            met = [k for k in range(kh) if (phase + ph - k * dh) % sh == 0]
            if not met:
                continue
            step = met[1] - met[0] if len(met) > 1 else sh
            back = kernels[:, met[0] :: step][:, ::-1].transpose(0, 2, 3, 1, 4)
            back = back.reshape(groups, 1, kw * outputs, len(met) * channels)
            part = out[:, phase::sh]
            first = top + (phase + ph - met[-1] * dh) // sh
            seen = _stacked(lines[:, first:], part.shape[1], len(met), 1, step * dh // sh)
            laid = np.matmul(back, seen).reshape(*part.shape[:2], kw, outputs, w, n)
            for j in range(kw):
                of, at = inside(self.size[1], w, j * dw, sw, pw)
                part[:, :, :, at] += laid[:, :, j, :, of]
        return _plus(_by_samples(out), b)

    def backward(self, dout: Any, x: Any, W: Any, b_shape: Any, needs: Any) -> Any:
        dx = self.given(Conv2d, x.shape[2:], dout, W, 0.0) if needs[0] else None
        dW = self.given(Conv2dWeight, W.shape[2:], dout, x) if needs[1] else None
        return dx, dW, sum_of(dout, (0, 2, 3)) if needs[2] else None


@ConvTranspose2d.public()
def conv_transpose2d(
    x: TensorLike,
    W: TensorLike,
    b: TensorLike | None = None,
    stride: Counts = 1,
    padding: Counts = 0,
    output_padding: Counts = 0,
    groups: int = 1,
    dilation: Counts = 1,
) -> Tensor:
    name = "conv_transpose2d"
    image, kernels, bias, groups = _operands(name, 2, x, W, b, groups)
    _check_channels(name, image, kernels, groups, image.shape[-3], kernels.shape[0], kernels.shape[0])
    _check_bias(name, bias, kernels, kernels.shape[1] * groups)
    steps, pads, dilations, more = (
        counts(name, key, value, 2, least)
        for key, value, least in (
            ("stride", stride, 1),
            ("padding", padding, 0),
            ("dilation", dilation, 1),
            ("output_padding", output_padding, 0),
        )
    )
    if any(m >= max(s, d) for m, s, d in zip(more, steps, dilations, strict=True)):
        raise ArgumentError(
            f"{name}: output_padding",
            f"output_padding={more}, stride={steps}, dilation={dilations}",
            "less than stride or dilation: a larger out would come from a larger x",
            "pass output_padding=0",
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + m + 1
        for n, s, p, d, k, m in zip(image.shape[-2:], steps, pads, dilations, kernels.shape[2:], more, strict=True)
    )
    if min(size) < 1:
        raise ShapeError(
            name,
            f"x is {describe(image)}, W is {describe(kernels)}, padding={pads}: out would be {size}",
            "something left of out, after padding has been cut off on both sides",
            "pass a smaller padding",
        )
    batch = image.shape[:-3]
    op = ConvTranspose2d(steps, pads, dilations, groups, size)
    out = op(_shaped(image, (*(batch or (1,)), *image.shape[-3:])), kernels, 0.0 if bias is None else bias)
    result: Tensor = _shaped(out, (*batch, *out.shape[1:]))
    return result


class Conv2dWeight(Convolution):
    """out[o, c, k, l] = sum over n, i, j of y[n, o, i, j] * x[n, c, i * stride + k, j * stride + l]: dW of conv2d

    x: (N, C, H, W), what conv2d was given. y: (N, O, ...), of the shape of its result, such as dout.
    kernel_size: the last two lengths of W. stride, padding, dilation, groups: those of that conv2d, padding in numbers.
    out: (O, C / groups, kh, kw). Raises ShapeError where x and y are not those of such a conv2d,
    ArgumentError and DTypeError for parameters that are no such numbers.

    >>> conv2d_weight([[[[1.0, 2.0, 3.0]]]], [[[[1.0, 1.0]]]], (1, 2))
    Tensor([[[[3., 5.]]]], dtype=float64)
    """

    gradients = (
        "conv_transpose2d(y, dout, stride=stride, padding=padding, dilation=dilation, groups=groups)",
        "conv2d(x, dout, stride=stride, padding=padding, dilation=dilation, groups=groups)",
    )
    cases = (
        Case((2, 2, 3, 4), (2, 3, 2, 3), kernel_size=2),
        Case((1, 1, 4, 4), (1, 2, 2, 2), kernel_size=(3, 2), stride=2, padding=(1, 0)),
        Case((2, 4, 3, 2), (2, 2, 1, 2), kernel_size=(2, 3), padding=(0, 1), dilation=(2, 1), groups=2),
        Case((0, 1, 3, 3), (0, 2, 2, 2), kernel_size=2),
    )

    @staticmethod
    def reference(x: Any, y: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                  groups: int = 1) -> Any:  # fmt: skip
        (sh, sw), (dh, dw) = np.broadcast_to(stride, 2).tolist(), np.broadcast_to(dilation, 2).tolist()
        (ph, pw), (kh, kw) = np.broadcast_to(padding, 2).tolist(), np.broadcast_to(kernel_size, 2).tolist()
        x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
        outputs, channels = y.shape[1], x.shape[1] // groups
        out = np.zeros((outputs, channels, kh, kw))
        for o, c, k, m in np.ndindex(*out.shape):
            first = o // (outputs // groups) * channels
            for i, j in np.ndindex(*y.shape[2:]):
                out[o, c, k, m] += (y[:, o, i, j] * x[:, first + c, i * sh + k * dh, j * sw + m * dw]).sum()
        return out

    def forward(self, x: Any, y: Any) -> Any:
        rows = _by_rows(y, self.groups)
        groups, h, outputs, w, n = rows.shape
        seen = self.columns(x, self.size, y.shape[2:])
        out = np.matmul(rows.reshape(groups, h, outputs, w * n), np.swapaxes(seen, 2, 3)).sum(axis=1)
        out = out.reshape(groups * outputs, *self.size, -1 if out.size else x.shape[1] // groups)
        return np.ascontiguousarray(out.transpose(0, 3, 1, 2))

    def backward(self, dout: Any, x: Any, y: Any, needs: Any) -> Any:
        dx = self.given(ConvTranspose2d, x.shape[2:], y, dout, 0.0) if needs[0] else None
        return dx, self.given(Conv2d, y.shape[2:], x, dout, 0.0) if needs[1] else None


@Conv2dWeight.public()
def conv2d_weight(
    x: TensorLike,
    y: TensorLike,
    kernel_size: Counts,
    stride: Counts = 1,
    padding: Counts = 0,
    dilation: Counts = 1,
    groups: int = 1,
) -> Tensor:
    name = "conv2d_weight"
    image, result = tensor(name, "x", x), tensor(name, "y", y)
    (groups,) = counts(name, "groups", groups, 1, 1)
    kernel, steps, dilations = (
        counts(name, key, value, 2, 1)
        for key, value in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))
    )
    pads = counts(name, "padding", padding, 2, 0)
    fits = image.ndim == 4 == result.ndim and image.shape[0] == result.shape[0]
    fits = fits and not (image.shape[1] % groups or result.shape[1] % groups)
    size = window_sizes(name, image, kernel, steps, tuple(2 * p for p in pads), dilations) if fits else ()
    if not fits or result.shape[2:] != size:
        raise ShapeError(
            name,
            f"x is {describe(image)}, y is {describe(result)}, groups={groups}",
            f"x (N, C, H, W) and y (N, O, {size[0]}, {size[1]}), the shape of conv2d's result"
            if fits
            else "x (N, C, H, W) and y (N, O, ...) with one N, and groups that divide C and O",
            "pass what conv2d was given, and the gradient of its result",
        )
    return Conv2dWeight(steps, pads, dilations, groups, kernel)(image, result)
