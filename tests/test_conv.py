"""Convolution and pooling: against naive loops and PyTorch, their identities, their errors, their memory."""

from __future__ import annotations

import ast
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, MinigradError, ShapeError
from minigrad.ops.conv import Conv2d, Conv2dWeight, ConvTranspose2d
from minigrad.tensor import Tensor

RTOL = {"float32": 2e-5, "float64": 1e-13}


@dataclass
class Drawn:
    """Arrays and parameters of one convolution; size: the last two lengths of its result."""

    x: np.ndarray
    W: np.ndarray
    b: np.ndarray
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    size: tuple[int, int]

    @property
    def options(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    @property
    def open_ended(self) -> tuple[int, ...]:
        """The output_padding with which conv_transpose2d leads back to x."""
        (h, w), k = self.x.shape[2:], self.W.shape[2:]
        least = [
            (n - 1) * s - 2 * p + d * (m - 1) + 1
            for n, s, p, d, m in zip(self.size, self.stride, self.padding, self.dilation, k, strict=True)
        ]
        return h - least[0], w - least[1]


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolutions(draw: st.DrawFn, *, dtype: str = "float64") -> Drawn:
    n, groups = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    channels, outputs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, stride, dilation, padding = draw(pairs(1, 3)), draw(pairs(1, 3)), draw(pairs(1, 2)), draw(pairs(0, 3))
    extra = draw(pairs(0, 4))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    lengths = [max(1, r - 2 * p) + e for r, p, e in zip(reach, padding, extra, strict=True)]
    size = [(m + 2 * p - r) // s + 1 for m, p, r, s in zip(lengths, padding, reach, stride, strict=True)]
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    x, W, b = (
        rng.normal(size=shape).astype(dtype)
        for shape in [(n, groups * channels, *lengths), (groups * outputs, channels, *kernel), (groups * outputs,)]
    )
    return Drawn(x, W, b, stride, padding, dilation, groups, (size[0], size[1]))


def naive(c: Drawn) -> np.ndarray:
    """conv2d window by window, in float64."""
    x = np.pad(c.x.astype(float), ((0, 0), (0, 0), *((p, p) for p in c.padding)))
    outputs, channels, kh, kw = c.W.shape
    out = np.zeros((len(x), outputs, *c.size))
    for o in range(outputs):
        group = o // (outputs // c.groups)
        of_group = x[:, group * channels : (group + 1) * channels]
        for i, j in np.ndindex(*c.size):
            top, left = i * c.stride[0], j * c.stride[1]
            window = of_group[:, :, top:, left:][:, :, :: c.dilation[0], :: c.dilation[1]][:, :, :kh, :kw]
            out[:, o, i, j] = (window * c.W[o]).sum(axis=(1, 2, 3)) + c.b[o]
    return out


def close(got: Any, want: Any, rtol: float = 1e-12) -> None:
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * max(1.0, float(np.max(np.abs(want), initial=0))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(data=st.data())
def test_conv2d_equals_naive_loops(dtype: str, data: st.DataObject) -> None:
    c = data.draw(convolutions(dtype=dtype))
    out = mg.conv2d(c.x, c.W, c.b, **c.options)
    assert out.dtype == dtype
    close(out.data, naive(c), RTOL[dtype])


@given(c=convolutions(), a=st.floats(-2, 2))
def test_conv2d_is_linear_in_x_and_in_W(c: Drawn, a: float) -> None:
    rng = np.random.default_rng(1)
    x, W = rng.normal(size=c.x.shape), rng.normal(size=c.W.shape)

    def f(x: Any, W: Any) -> Any:
        return mg.conv2d(x, W, **c.options).data

    close(f(a * c.x + x, W), a * f(c.x, W) + f(x, W))
    close(f(x, a * c.W + W), a * f(x, c.W) + f(x, W))


@given(c=convolutions())
def test_the_three_products_are_adjoint(c: Drawn) -> None:
    y = np.random.default_rng(2).normal(size=(len(c.x), len(c.W), *c.size))
    forward = np.sum(mg.conv2d(c.x, c.W, **c.options).data * y)
    open_ended = c.open_ended
    if all(m < max(s, d) for m, s, d in zip(open_ended, c.stride, c.dilation, strict=True)):
        back = mg.conv_transpose2d(y, c.W, output_padding=open_ended, **c.options)
        assert back.shape == c.x.shape
        close(np.sum(back.data * c.x), forward)
    weight = mg.conv2d_weight(c.x, y, c.W.shape[2:], **c.options)
    assert weight.shape == c.W.shape
    close(np.sum(weight.data * c.W), forward)


@given(c=convolutions(dtype="float32"))
def test_gradients_keep_shape_and_dtype_for_every_stride(c: Drawn) -> None:
    leaves = [Tensor(a, requires_grad=True) for a in (c.x, c.W, c.b)]
    out = mg.conv2d(*leaves, **c.options)
    dout = np.random.default_rng(3).normal(size=out.shape).astype(np.float32)
    out.backward(dout)
    for leaf in leaves:
        assert leaf.grad is not None
        assert (leaf.grad.shape, leaf.grad.dtype) == (leaf.shape, np.float32)
    # out is linear in each of them
    for leaf, without in zip(leaves[:2], (0, 0), strict=True):
        close(np.sum(leaf.grad * leaf.data), np.sum(dout * (out.data - c.b[:, None, None])) + without, 1e-4)
    close(leaves[2].grad, dout.sum(axis=(0, 2, 3)), 1e-4)


X = [[1.0, 2.0, 3.0, 0.0], [0.0, 1.0, 2.0, 3.0], [3.0, 0.0, 1.0, 2.0], [2.0, 3.0, 0.0, 1.0]]
W = [[2.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 0.0, 2.0]]


def test_the_books_examples() -> None:
    assert mg.conv2d([[X]], [[W]]).tolist() == [[[[15.0, 16.0], [6.0, 15.0]]]]
    assert mg.conv2d([X], [[W]], [3.0]).tolist() == [[[18.0, 19.0], [9.0, 18.0]]]
    assert mg.conv2d([[X]], [[W]], padding=1).shape == (1, 1, 4, 4)
    seven = np.arange(49.0).reshape(1, 1, 7, 7)
    assert mg.conv2d(seven, [[W]], stride=2).shape == (1, 1, 3, 3)
    image = [[1.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [3.0, 0.0, 1.0, 2.0], [2.0, 4.0, 0.0, 1.0]]
    assert mg.max_pool2d([image], 2).tolist() == [[[2.0, 3.0], [4.0, 2.0]]]


@pytest.mark.parametrize(("kernel", "dilation"), [((3, 3), 1), ((2, 4), 1), ((2, 3), (3, 2)), ((1, 1), 1)])
def test_same_keeps_the_size_and_puts_the_odd_zero_behind(kernel: tuple[int, int], dilation: Any) -> None:
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(2, 1, 5, 6)), rng.normal(size=(1, 1, *kernel))
    out = mg.conv2d(x, W, padding="same", dilation=dilation)
    assert out.shape == x.shape
    total = [d * (k - 1) for d, k in zip(np.broadcast_to(dilation, 2).tolist(), kernel, strict=True)]
    padded = np.pad(x, ((0, 0), (0, 0), *((t // 2, t - t // 2) for t in total)))
    close(out.data, mg.conv2d(padded, W, padding="valid", dilation=dilation).data)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: mg.conv2d(x, np.ones((2, 2, 2, 2)), np.arange(2.0)),
        lambda x: mg.conv_transpose2d(x, np.ones((2, 2, 2, 2)), np.arange(2.0)),
        lambda x: mg.max_pool2d(x, 2),
        lambda x: mg.avg_pool2d(x, 2),
    ],
    ids=["conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d"],
)
def test_one_image_is_a_batch_of_one(call: Callable[[Any], Tensor]) -> None:
    x = Tensor(np.random.default_rng(0).normal(size=(2, 4, 4)), requires_grad=True)
    batch = Tensor(x.data[None], requires_grad=True)
    one, many = call(x), call(batch)
    assert one.shape == many.shape[1:]
    close(one.data, many.data[0])
    one.sum().backward()
    many.sum().backward()
    close(x.grad, batch.grad[0])


@given(data=st.data())
def test_conv1d_is_conv2d_of_one_row(data: st.DataObject) -> None:
    groups, k = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    stride, dilation = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    padding: Any = data.draw(st.integers(0, 2) | st.sampled_from(["valid"] + ["same"] * (stride == 1)))
    n = data.draw(st.integers(dilation * (k - 1) + 1, 8))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    batch = data.draw(st.sampled_from([(), (1,), (3,)]))
    x, W, b = rng.normal(size=(*batch, 2 * groups, n)), rng.normal(size=(groups, 2, k)), rng.normal(size=groups)
    leaves = [Tensor(a, requires_grad=True) for a in (x, W, b)]
    lifted = [Tensor(a, requires_grad=True) for a in (x.reshape(-1, 2 * groups, 1, n), W[:, :, None], b)]
    out = mg.conv1d(*leaves, stride=stride, padding=padding, dilation=dilation, groups=groups)
    pad = padding if isinstance(padding, str) else (0, padding)
    want = mg.conv2d(*lifted, stride=(1, stride), padding=pad, dilation=(1, dilation), groups=groups)
    assert out.shape == (*batch, groups, want.shape[-1])
    close(out.data.reshape(want.shape), want.data)
    (out * out).sum().backward()
    (want * want).sum().backward()
    for a, c in zip(leaves, lifted, strict=True):
        close(a.grad, c.grad.reshape(a.shape))


def gradient(f: Callable[[Tensor], Tensor], x: Any, dout: Any = None) -> np.ndarray:
    leaf = Tensor(x, requires_grad=True)
    out = f(leaf)
    out.backward(np.ones(out.shape) if dout is None else dout)
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "padded", "largest", "means"),
    [
        (2, 2, 0, True, [[6, 8], [10, 12]], [[3.5, 5.5], [9.5, 11.5]]),
        (2, 3, 0, True, [[6, 8]], [[3.5, 6]]),
        (2, 1, 0, True, [[6, 7, 8], [10, 11, 12]], [[3.5, 4.5, 5.5], [7.5, 8.5, 9.5]]),
        (3, 2, 1, True, [[6, 8, 8], [10, 12, 12]], [[14 / 9, 10 / 3, 2], [10 / 3, 6, 10 / 3]]),
        (3, 2, 1, False, [[6, 8, 8], [10, 12, 12]], [[3.5, 5, 6], [7.5, 9, 10]]),
        ((3, 2), (2, 3), (1, 1), True, [[5, 8], [9, 12]], [[1, 11 / 3], [7 / 3, 19 / 3]]),
        (2, 3, 1, True, [[1, 4], [9, 12]], [[0.25, 1.75], [2.25, 5.75]]),
    ],
)
def test_ceil_mode_gives_pytorchs_figures(
    kernel: Any, stride: Any, padding: Any, padded: bool, largest: Any, means: Any
) -> None:
    x = np.arange(1.0, 13).reshape(1, 3, 4)
    assert mg.max_pool2d(x, kernel, stride, padding, ceil_mode=True).tolist() == [largest]
    out = mg.avg_pool2d(x, kernel, stride, padding, ceil_mode=True, count_include_pad=padded)
    close(out.data, [means])


def test_a_tie_divides_the_gradient_equally() -> None:
    assert gradient(lambda x: mg.max_pool2d(x, 2), np.ones((1, 2, 2))).tolist() == [[[0.25, 0.25], [0.25, 0.25]]]
    two = [[[3.0, 1.0], [3.0, 0.0]]]
    assert gradient(lambda x: mg.max_pool2d(x, 2), two).tolist() == [[[0.5, 0.0], [0.5, 0.0]]]
    # Windows that overlap: (1, 5), (5, 5), (5, 2)
    assert gradient(lambda x: mg.max_pool2d(x, (1, 2), 1), [[[1.0, 5.0, 5.0, 2.0]]]).tolist() == [[[0, 1.5, 1.5, 0]]]
    # A relu before it makes zeros, which tie: minus zero too.
    assert gradient(lambda x: mg.max_pool2d(x, (1, 2)), [[[0.0, -0.0]]]).tolist() == [[[0.5, 0.5]]]


def test_the_padding_of_max_pool2d_takes_no_gradient() -> None:
    low = np.full((1, 2, 2), -np.inf)
    out = mg.max_pool2d(Tensor(low), 2, 1, 1)
    assert np.all(out.data == -np.inf)
    assert gradient(lambda x: mg.max_pool2d(x, 2, 1, 1), low).sum() == 9
    assert np.all(mg.max_pool2d(np.full((1, 2, 2), -5.0), 2, 2, 1).data == -5)
    assert np.all(mg.max_pool2d(np.full((1, 2, 2), -5), 2, 2, 1).data == -5)


def fixed(error: Exception, **options: Any) -> dict[str, Any]:
    """options with what the fix at the end of an error's text says."""
    found = re.findall(r"(dilation|padding)=(\([\d, ]+\)|\d+)", str(error).split("; ")[-1])
    return {**options, **{name: ast.literal_eval(value) for name, value in found}}


@settings(max_examples=200)
@given(
    height=st.integers(1, 4), width=st.integers(1, 4), kernel=pairs(1, 4), dilation=pairs(1, 7), padding=pairs(0, 5),
    stride=pairs(1, 3), ceil=st.booleans(),
)  # fmt: skip
def test_no_dilated_window_lies_in_the_padding_alone_and_the_fix_works(
    height: int, width: int, kernel: Any, dilation: Any, padding: Any, stride: Any, ceil: bool
) -> None:
    x = np.arange(1.0, 1 + height * width).reshape(1, height, width)
    options = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil}
    for _ in range(2):  # at most half a kernel, then no window in the padding alone
        try:
            out = mg.max_pool2d(x, **options)
        except MinigradError as error:
            options = fixed(error, **options)
    out = mg.max_pool2d(x, **options)
    assert np.isfinite(out.data).all()
    dx = gradient(lambda x: mg.max_pool2d(x, **options), x)
    assert dx.sum() == out.size


def test_a_window_between_whose_places_x_lies_is_an_error_where_any_is() -> None:
    x = np.ones((1, 1, 2, 2))
    for padding in (2, 3):
        with pytest.raises(
            ShapeError, match=r"-\d, \d\] of an axis of 2.*; pass dilation=\(2, 2\) and padding=\(1, 1\)"
        ):
            mg.max_pool2d(x, 2, 1, padding, dilation=5)
    with pytest.raises(ShapeError, match=r"; pass a smaller kernel, or dilation=2 and padding=1$"):
        mg.max_pool2d(x, 2, dilation=5)
    with pytest.raises(ShapeError, match=r"; pass a smaller kernel, or padding=\(1, 0\)$"):
        mg.avg_pool2d(np.ones((1, 2, 2)), (3, 1))
    with pytest.raises(ShapeError, match="check why x is empty"):
        mg.avg_pool2d(np.ones((1, 0, 3)), 2, padding=1, count_include_pad=False)
    # Every window of this one has a place in x: at [-5, 0, 5] and [-4, 1, 6].
    assert mg.max_pool2d([[[3.0, 4.0]]], (1, 3), 1, (0, 5), dilation=5).tolist() == [[[3.0, 4.0]]]


def test_float16_is_averaged_in_float32_and_rounded_once() -> None:
    for value, size in ((6000, 16), (0.1, 32)):
        x = np.full((1, 1, size, size), value, "float16")
        with np.errstate(all="raise"):
            out = mg.avg_pool2d(x, size)
        assert out.dtype == np.float16
        assert out.item() == x[0, 0, 0, 0]
    # Each place is in 256 windows, and gets 1/256 of each: 2049 of them, the last of another size, would not add up.
    x = mg.Tensor(np.zeros((1, 48, 48), "float16"), requires_grad=True)
    dout = np.full((1, 33, 33), 0.1, "float16")
    mg.avg_pool2d(x, 16, 1).backward(dout)
    assert x.grad is not None
    assert x.grad.dtype == np.float16
    assert x.grad[0, 24, 24] == dout[0, 0, 0]


@pytest.mark.parametrize("call", [mg.conv2d, mg.conv_transpose2d])
def test_the_gradient_of_the_bias_adds_up_without_loss(call: Any) -> None:
    for dtype, rows, rtol in (("float16", 3000, 1e-3), ("float32", 100_000, 1e-6)):
        b = Tensor(np.zeros(2, dtype), requires_grad=True)
        out = call(
            np.zeros((rows, 1, 1, 1), dtype), np.zeros((2, 1, 1, 1) if call is mg.conv2d else (1, 2, 1, 1), dtype), b
        )
        out.backward(np.full(out.shape, 0.1, dtype))
        assert b.grad is not None
        assert b.grad.dtype == dtype
        np.testing.assert_allclose(b.grad, rows * float(np.array(0.1, dtype)), rtol=rtol)


def test_nan_comes_through_and_takes_the_gradient_of_its_windows() -> None:
    x = np.array([[[1.0, np.nan, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]])
    out = mg.max_pool2d(x, 2)
    assert np.isnan(out.data[0, 0, 0])
    assert out.data[0, 0, 1] == 7
    assert gradient(lambda x: mg.max_pool2d(x, 2), x).tolist() == [[[0, 1, 0, 0], [0, 0, 0, 1]]]
    two = np.array([[[np.nan, np.nan], [1.0, 2.0]]])
    assert gradient(lambda x: mg.max_pool2d(x, 2), two).tolist() == [[[0.5, 0.5], [0.0, 0.0]]]


def test_an_infinite_gradient_stays_where_it_belongs() -> None:
    x, dout = np.array([[[1.0, 2.0], [0.0, -1.0]]]), np.array([[[np.inf]]])
    assert gradient(lambda x: mg.max_pool2d(x, 2), x, dout).tolist() == [[[0.0, np.inf], [0.0, 0.0]]]


def test_second_order_through_pooling_with_ties() -> None:
    x = Tensor(np.ones((1, 2, 2)), requires_grad=True)
    (dx,) = mg.grad((mg.max_pool2d(x, 2) ** 3).sum(), x, create_graph=True)
    (ddx,) = mg.grad(dx.sum(), x)
    assert ddx.tolist() == [[[1.5, 1.5], [1.5, 1.5]]]


@pytest.mark.parametrize(
    "call",
    [
        lambda x, W: mg.conv2d(x, W, np.zeros(3), padding=1, stride=2),
        lambda x, W: mg.conv_transpose2d(mg.concatenate([x, x[:, :1]], axis=1), W, stride=2),
        lambda x, W: mg.max_pool2d(x, 2) + W.sum(),
        lambda x, W: mg.avg_pool2d(x, 2, padding=1) + W.sum(),
    ],
    ids=["conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d"],
)
def test_an_empty_batch_gives_an_empty_result_and_zero_gradients(call: Any) -> None:
    x, W = Tensor(np.zeros((0, 2, 4, 5)), requires_grad=True), Tensor(np.ones((3, 2, 3, 3)), requires_grad=True)
    out = call(x, W)
    assert out.shape[0] == 0
    assert out.ndim == 4
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert W.grad is not None
    assert np.all(W.grad == 0)


def test_dtypes_are_those_of_numpys_promotion() -> None:
    x, W = np.arange(16).reshape(1, 1, 4, 4), np.arange(4.0).reshape(1, 1, 2, 2)
    assert mg.conv2d(x, W).dtype == np.float64
    close(mg.conv2d(x, W).data, mg.conv2d(x.astype(float), W).data)
    exact = mg.conv2d(x, W.astype(int), np.array([1]))
    assert exact.dtype.kind == "i"
    close(exact.data, mg.conv2d(x, W).data + 1)
    assert mg.conv2d(x.astype(np.float32), W.astype(np.float32), np.ones(1)).dtype == np.float64
    assert mg.conv2d(x.astype(np.float32), W).dtype == np.float64
    assert mg.max_pool2d(x, 2).dtype == x.dtype
    assert mg.max_pool2d(x > 3, 2).tolist() == [[[[True, True], [True, True]]]]
    assert mg.avg_pool2d(x, 2).dtype == np.float64
    for dtype in np.float16, np.float32:
        assert mg.avg_pool2d(x.astype(dtype), 3, padding=1, count_include_pad=False).dtype == dtype


def test_the_rule_does_only_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for op in Conv2d, ConvTranspose2d, Conv2dWeight:
        right = op.forward

        def forward(self: Any, *args: Any, op: Any = op, right: Any = right) -> Any:
            called.append(op.name)
            return right(self, *args)

        monkeypatch.setattr(op, "forward", forward)
    x, W = np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2))
    mg.conv2d(x, Tensor(W, requires_grad=True)).sum().backward()
    assert called == ["conv2d", "conv2d_weight"]
    called.clear()
    mg.conv2d(Tensor(x, requires_grad=True), W).sum().backward()
    assert called == ["conv2d", "conv_transpose2d"]


def peak(f: Callable[[], Any]) -> int:
    """The most bytes held at once while f runs."""
    f()
    tracemalloc.start()
    try:
        f()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_conv2d_neither_copies_every_window_nor_makes_index_arrays() -> None:
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(8, 4, 32, 32)), rng.normal(size=(4, 4, 7, 7))
    out = mg.conv2d(x, W)
    # x once for each column of the kernel, and the result; 49 times x, or one index for each of them, is far more.
    assert peak(lambda: mg.conv2d(x, W)) < 7 * x.nbytes + out.data.nbytes + 100_000
    leaf = Tensor(x, requires_grad=True)
    kept = out.data.nbytes
    tracemalloc.start()
    try:
        held = mg.conv2d(leaf, W)
        assert tracemalloc.get_traced_memory()[0] < kept + 20_000
    finally:
        tracemalloc.stop()
    assert held.requires_grad


def test_the_bias_is_added_in_place() -> None:
    x, W = np.ones((8, 1, 32, 32)), np.ones((8, 1, 1, 1))
    assert peak(lambda: mg.conv2d(x, W, np.ones(8))) < peak(lambda: mg.conv2d(x, W)) + 100_000


def test_max_pool2d_pads_nothing_in_memory() -> None:
    x = np.random.default_rng(0).normal(size=(8, 4, 64, 64))
    assert peak(lambda: mg.max_pool2d(x, 2, padding=1)) < x.nbytes // 2


IMAGE, KERNEL = np.zeros((2, 3, 5, 6)), np.zeros((4, 3, 3, 3))

BAD: list[tuple[str, Callable[[], Any], type[MinigradError], str, tuple[str, ...]]] = [
    (
        "two axes",
        lambda: mg.conv2d(np.zeros((5, 6)), KERNEL),
        ShapeError,
        "conv2d: x",
        ("float64 (5, 6)", "(N, C, H, W)"),
    ),
    ("five axes", lambda: mg.conv2d(IMAGE[None], KERNEL), ShapeError, "conv2d: x", ("(1, 2, 3, 5, 6)",)),
    ("axes of W", lambda: mg.conv2d(IMAGE, KERNEL[0]), ShapeError, "conv2d: W", ("(3, 3, 3)", "(O, C / groups, kh")),
    ("empty kernel", lambda: mg.conv2d(IMAGE, KERNEL[:, :, :0]), ShapeError, "conv2d: W", ("(4, 3, 0, 3)",)),
    (
        "channels",
        lambda: mg.conv2d(IMAGE, np.zeros((2, 4, 3, 3))),
        ShapeError,
        "conv2d: W",
        ("x has 3 channels, W wants 4, groups=1", "(2, 3, 5, 6)", "(2, 4, 3, 3)"),
    ),
    (
        "groups and x",
        lambda: mg.conv2d(IMAGE, KERNEL, groups=2),
        ShapeError,
        "conv2d: groups",
        ("groups=2", "does not divide 3 channels"),
    ),
    (
        "groups and out",
        lambda: mg.conv2d(IMAGE, np.zeros((4, 1, 3, 3)), groups=3),
        ShapeError,
        "conv2d: groups",
        ("does not divide 4 channels",),
    ),
    ("no groups", lambda: mg.conv2d(IMAGE, KERNEL, groups=0), ArgumentError, "conv2d: groups", ("groups=0",)),
    ("bias", lambda: mg.conv2d(IMAGE, KERNEL, np.zeros(3)), ShapeError, "conv2d: b", ("float64 (3,)", "(4,)")),
    (
        "large kernel",
        lambda: mg.conv2d(IMAGE, np.zeros((4, 3, 8, 3)), padding=1),
        ShapeError,
        "conv2d",
        ("(8, 3)", "(7, 8)", "padding=(2, 1)"),
    ),
    (
        "wide by dilation",
        lambda: mg.conv2d(IMAGE, KERNEL, dilation=3),
        ShapeError,
        "conv2d",
        ("covers (7, 7)", "dilation=(3, 3)"),
    ),
    ("stride 0", lambda: mg.conv2d(IMAGE, KERNEL, stride=0), ArgumentError, "conv2d: stride", ("stride=0",)),
    ("stride -1", lambda: mg.conv2d(IMAGE, KERNEL, stride=(1, -1)), ArgumentError, "conv2d: stride", ("(1, -1)",)),
    ("three strides", lambda: mg.conv2d(IMAGE, KERNEL, stride=(1, 1, 1)), ArgumentError, "conv2d: stride", ("or 2",)),
    ("half a stride", lambda: mg.conv2d(IMAGE, KERNEL, stride=1.5), DTypeError, "conv2d: stride", ("stride=1.5",)),
    ("a word", lambda: mg.conv2d(IMAGE, KERNEL, stride="2"), DTypeError, "conv2d: stride", ("stride='2'",)),
    ("dilation 0", lambda: mg.conv2d(IMAGE, KERNEL, dilation=0), ArgumentError, "conv2d: dilation", ("dilation=0",)),
    ("padding -1", lambda: mg.conv2d(IMAGE, KERNEL, padding=-1), ArgumentError, "conv2d: padding", ("padding=-1",)),
    ("padding 0.5", lambda: mg.conv2d(IMAGE, KERNEL, padding=0.5), DTypeError, "conv2d: padding", ("padding=0.5",)),
    ("padding None", lambda: mg.conv2d(IMAGE, KERNEL, padding=None), DTypeError, "conv2d: padding", ("None",)),
    ("full", lambda: mg.conv2d(IMAGE, KERNEL, padding="full"), ArgumentError, "conv2d: padding", ("'full'", '"same"')),
    (
        "same and stride",
        lambda: mg.conv2d(IMAGE, KERNEL, padding="same", stride=2),
        ArgumentError,
        "conv2d: padding",
        ("stride=(2, 2)", "stride=1"),
    ),
    ("x of words", lambda: mg.conv2d("x", KERNEL), DTypeError, "conv2d: x", ("str 'x'",)),
    ("W None", lambda: mg.conv2d(IMAGE, None), DTypeError, "conv2d: W", ("NoneType",)),
    ("conv1d", lambda: mg.conv1d(IMAGE, KERNEL[0]), ShapeError, "conv1d: x", ("(2, 3, 5, 6)", "(N, C, L)")),
    (
        "conv1d channels",
        lambda: mg.conv1d(np.zeros((3, 9)), np.zeros((1, 2, 3))),
        ShapeError,
        "conv1d: W",
        ("x has 3 channels, W wants 2",),
    ),
    (
        "conv1d kernel",
        lambda: mg.conv1d(np.zeros((1, 1, 2)), np.zeros((1, 1, 3))),
        ShapeError,
        "conv1d",
        ("(3,)", "(2,)"),
    ),
    (
        "conv1d stride",
        lambda: mg.conv1d(np.zeros((1, 1, 4)), np.zeros((1, 1, 3)), stride=(1, 1)),
        ArgumentError,
        "conv1d: stride",
        ("(1, 1)",),
    ),
    (
        "transposed channels",
        lambda: mg.conv_transpose2d(IMAGE, KERNEL),
        ShapeError,
        "conv_transpose2d: W",
        ("x has 3 channels, W wants 4",),
    ),
    (
        "transposed groups",
        lambda: mg.conv_transpose2d(IMAGE, KERNEL[:3], groups=2),
        ShapeError,
        "conv_transpose2d: groups",
        ("groups=2",),
    ),
    (
        "transposed bias",
        lambda: mg.conv_transpose2d(IMAGE, KERNEL[:3], np.zeros(4)),
        ShapeError,
        "conv_transpose2d: b",
        ("(4,)", "(3,)"),
    ),
    (
        "nothing left",
        lambda: mg.conv_transpose2d(IMAGE, KERNEL[:3], padding=4),
        ShapeError,
        "conv_transpose2d",
        ("out would be (-1, 0)",),
    ),
    (
        "output_padding",
        lambda: mg.conv_transpose2d(IMAGE, KERNEL[:3], stride=2, output_padding=2),
        ArgumentError,
        "conv_transpose2d: output_padding",
        ("output_padding=(2, 2)", "stride=(2, 2)"),
    ),
    (
        "weight of another y",
        lambda: mg.conv2d_weight(IMAGE, np.zeros((2, 4, 3, 3)), 3),
        ShapeError,
        "conv2d_weight",
        ("(2, 4, 3, 3)", "(N, O, 3, 4)"),
    ),
    (
        "weight of another batch",
        lambda: mg.conv2d_weight(IMAGE, np.zeros((3, 4, 3, 4)), 3),
        ShapeError,
        "conv2d_weight",
        ("(3, 4, 3, 4)", "one N"),
    ),
    (
        "weight of axes",
        lambda: mg.conv2d_weight(IMAGE[0], np.zeros((4, 3, 4)), 3),
        ShapeError,
        "conv2d_weight",
        ("(3, 5, 6)",),
    ),
    ("pool axes", lambda: mg.max_pool2d(np.zeros((4, 4)), 2), ShapeError, "max_pool2d: x", ("(4, 4)",)),
    ("pool x", lambda: mg.avg_pool2d(None, 2), DTypeError, "avg_pool2d: x", ("NoneType",)),
    ("pool kernel", lambda: mg.max_pool2d(IMAGE, 7), ShapeError, "max_pool2d", ("(7, 7)", "(5, 6)")),
    ("pool kernel 0", lambda: mg.max_pool2d(IMAGE, 0), ArgumentError, "max_pool2d: kernel_size", ("kernel_size=0",)),
    ("pool stride 0", lambda: mg.avg_pool2d(IMAGE, 2, 0), ArgumentError, "avg_pool2d: stride", ("stride=0",)),
    ("pool dilation", lambda: mg.max_pool2d(IMAGE, 2, dilation=1.0), DTypeError, "max_pool2d: dilation", ("1.0",)),
    (
        "pool padding",
        lambda: mg.max_pool2d(IMAGE, 2, padding=2),
        ArgumentError,
        "max_pool2d: padding",
        ("padding=(2, 2)", "kernel_size=(2, 2)", "half a kernel"),
    ),
    (
        "pool padding of one axis",
        lambda: mg.avg_pool2d(IMAGE, (5, 3), padding=(2, 2)),
        ArgumentError,
        "avg_pool2d: padding",
        ("(2, 2)",),
    ),
    ("pool padding -1", lambda: mg.avg_pool2d(IMAGE, 2, padding=-1), ArgumentError, "avg_pool2d: padding", ("-1",)),
]


@pytest.mark.parametrize(("call", "error", "function", "words"), [pytest.param(*bad[1:], id=bad[0]) for bad in BAD])
def test_a_bad_call_is_explained_in_four_parts(
    call: Callable[[], Any], error: type[MinigradError], function: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert caught.value.function == function
    for word in words:
        assert word in str(caught.value)
    assert caught.value.fix.split()[0] in {"convert", "make", "pass", "reshape", "write"}


def torch_gradients(torch: Any, f: Any, arrays: list[np.ndarray], dout: np.ndarray) -> list[np.ndarray]:
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = f(*leaves)
    out.backward(torch.tensor(dout))
    return [out.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]


def our_gradients(f: Any, arrays: list[np.ndarray], dout: np.ndarray) -> list[np.ndarray]:
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    out = f(*leaves)
    out.backward(dout)
    return [out.data, *(np.asarray(leaf.grad) for leaf in leaves)]


def compare(torch: Any, name: str, arrays: list[np.ndarray], shape: tuple[int, ...], options: dict[str, Any]) -> None:
    """Value and gradients here and there, to 1e-12 of the largest."""
    theirs = getattr(torch.nn.functional, name)
    dout = np.random.default_rng(5).normal(size=shape)
    got = our_gradients(lambda *xs: getattr(mg, name)(*xs, **options), arrays, dout)
    want = torch_gradients(torch, lambda *xs: theirs(*xs, **options), arrays, dout)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        close(a, b)


@settings(max_examples=60)
@given(c=convolutions())
def test_conv2d_and_conv_transpose2d_equal_pytorchs(c: Drawn) -> None:
    torch = pytest.importorskip("torch")
    if not len(c.x):
        c.x = np.ones((1, *c.x.shape[1:]))
    y = np.random.default_rng(2).normal(size=(len(c.x), len(c.W), *c.size))
    compare(torch, "conv2d", [c.x, c.W, c.b], y.shape, c.options)
    more = c.open_ended
    if all(m < max(s, d) for m, s, d in zip(more, c.stride, c.dilation, strict=True)):
        options = {**c.options, "output_padding": more}
        b = np.arange(1.0, c.x.shape[1] + 1)
        compare(torch, "conv_transpose2d", [y, c.W, b], c.x.shape, options)


@settings(max_examples=40)
@given(data=st.data())
def test_conv1d_equals_pytorchs(data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    c = data.draw(convolutions())
    stride, dilation = c.stride[1], c.dilation[1]
    padding: Any = c.padding[1] if data.draw(st.booleans()) else "same" if stride == 1 else "valid"
    x, W = c.x.sum(axis=2) if len(c.x) else np.ones((1, c.x.shape[1], c.x.shape[3])), c.W[:, :, 0]
    if padding == "valid" and x.shape[2] < dilation * (W.shape[2] - 1) + 1:
        padding = c.padding[1]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": c.groups}
    compare(torch, "conv1d", [x, W, c.b], mg.conv1d(x, W, c.b, **options).shape, options)


@settings(max_examples=80)
@given(data=st.data())
def test_pooling_equals_pytorchs(data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    kernel, stride, ceil = data.draw(pairs(1, 4)), data.draw(st.none() | pairs(1, 4)), data.draw(st.booleans())
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    dilation = data.draw(pairs(1, 2))
    shape = [*data.draw(st.sampled_from([(2,), (1, 2), (3, 1)]))]
    # At least dilation long: PyTorch writes past the end of dx for a window whose places all miss x.
    for k, p, d in zip(kernel, padding, dilation, strict=True):
        shape.append(max(d, d * (k - 1) + 1 - 2 * p) + data.draw(st.integers(0, 5)))
    x = (
        np.random.default_rng(data.draw(st.integers(0, 99)))
        .permutation(np.arange(float(np.prod(shape))))
        .reshape(shape)
    )
    options: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil}
    of_max = {**options, "dilation": dilation}
    compare(torch, "max_pool2d", [x], mg.max_pool2d(x, **of_max).shape, of_max)
    of_mean = {**options, "count_include_pad": data.draw(st.booleans())}
    compare(torch, "avg_pool2d", [x], mg.avg_pool2d(x, **of_mean).shape, of_mean)
