"""minigrad.testing.strategies: what is drawn keeps its bounds, impossible requests say so, examples shrink."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

import minigrad as mg
from minigrad.contract import AWAY_FROM_ZERO, CONDITION, POSITIVE, UNIT, Case, Domain
from minigrad.op import Op, Unary
from minigrad.ops.elementwise import Clip, Maximum, Where
from minigrad.ops.reduce import Sum
from minigrad.testing import strategies
from minigrad.testing.calls import Call, calls
from minigrad.testing.strategies import (
    ConvGeometry,
    arrays,
    away_from,
    axes,
    broadcastable,
    conv_geometry,
    cotangents,
    indices,
    layouts,
    logits_and_labels,
    matmul_operands,
    shapes,
    tensors,
)


class Cube(Op):
    """out = x**3"""

    elementwise = True

    def forward(self, x: Any) -> Any:
        return x * x * x

    def backward(self, dout: Any, x: Any) -> Any:
        return dout * 3 * x * x


class Scale(Op):
    """out = factor * x"""

    factor: float

    def forward(self, x: Any) -> Any:
        return x * self.factor

    def backward(self, dout: Any) -> Any:
        return dout * self.factor


class ScaleByCase(Scale):
    """out = factor * x"""

    cases = (Case((2, 3), factor=2.0), Case((2,), factor=3.0), Case((0,), factor=3.0))


class Product(Op):
    """out = x @ y"""

    signature = "(m,k),(k,n)->(m,n)"
    domain = (POSITIVE, UNIT)

    def forward(self, x: Any, y: Any) -> Any:
        return x @ y

    def backward(self, dout: Any, x: Any, y: Any) -> Any:
        return dout @ np.swapaxes(y, -1, -2), np.swapaxes(x, -1, -2) @ dout


class Several(Op):
    """out = sum of xs"""

    elementwise = True

    def forward(self, *xs: Any) -> Any:
        return sum(xs)

    def backward(self, dout: Any, *xs: Any) -> Any:
        return tuple(dout for _ in xs)


class Silent(Op):
    """out = x"""

    def forward(self, x: Any) -> Any:
        return x * 1

    def backward(self, dout: Any) -> Any:
        return dout


class TwoDomains(Cube):
    domain = (POSITIVE, POSITIVE)


class OnePoint(Cube):
    domain = Domain(1.0, 1.0)


class BadSignature(Silent):
    signature = "m->m"


class ShortSignature(Silent):
    signature = "(m),(m)->(m)"


class OnlyEmpty(Silent):
    cases = (Case((0,)),)


# What is drawn keeps its bounds


@given(shapes(min_dims=1, max_dims=4, min_side=0, max_side=2))
def test_shapes_keep_their_bounds(shape: tuple[int, ...]) -> None:
    assert 1 <= len(shape) <= 4
    assert all(0 <= n <= 2 for n in shape)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_value": 0.3, "max_value": 0.7},
        {"max_value": 1000.3},
        {"domain": UNIT},
        {"domain": AWAY_FROM_ZERO, "away": [1.0], "gap": 0.3},
        {"domain": Domain(-1.0, 1.0, away=(0.5,), gap=0.1)},
    ],
    ids=str,
)
def test_values_keep_their_bounds(options: dict[str, Any], distinct: bool, dtype: str) -> None:
    domain = options.get("domain", Domain(-4.0, 4.0))
    low, high = options.get("min_value", domain.low), options.get("max_value", domain.high)
    points, gap = [*domain.away, *options.get("away", [])], options.get("gap", domain.gap)

    @given(arrays(min_dims=1, max_dims=2, min_side=2, dtype=dtype, distinct=distinct, **options))
    def check(x: np.ndarray) -> None:
        assert x.dtype == dtype
        assert 1 <= x.ndim <= 2
        assert all(2 <= n <= 3 for n in x.shape)
        assert low <= float(x.min()) <= float(x.max()) <= high
        assert all(np.abs(x.astype(float) - p).min() >= gap - 1e-12 for p in points)
        assert not distinct or len(np.unique(x)) == x.size

    check()


def test_values_reach_both_ends_and_both_sides() -> None:
    for side in (-1, 1):
        find(arrays(2), lambda x, side=side: (x * side > 3.5).all())
        find(away_from(0.5, 1.0), lambda x, side=side: x.ndim == 0 and (x - 0.75) * side > 0)
        find(arrays(2, distinct=True), lambda x, side=side: (x * side > 3).all())
        find(cotangents((2,)), lambda x, side=side: (x * side > 0).all())


@given(arrays())
def test_values_have_few_digits_and_none_is_tiny(x: np.ndarray) -> None:
    assert np.array_equal(x * 1024, np.round(x * 1024))
    assert not np.signbit(x[x == 0]).any()


def test_values_of_a_narrow_or_far_interval_are_not_all_alike() -> None:
    for low, high in [(0.0, 1e-9), (1e6, 1e6 + 1e-3), (-1e300, 1e300), (0.0, 5e-324)]:
        x = find(arrays(2, min_value=low, max_value=high), lambda x: x[0] != x[1])
        assert low <= x.min() < x.max() <= high


@given(arrays(shapes(min_dims=1, max_dims=2, min_side=11, max_side=13), distinct=True))
def test_distinct_values_of_a_large_array(x: np.ndarray) -> None:
    assert np.diff(np.sort(x, axis=None)).min(initial=8) >= 8 / max(128, 4 * x.size) / 4


@given(arrays((30, 40)))
def test_a_large_array_is_drawn(x: np.ndarray) -> None:
    assert x.shape == (30, 40)


@given(arrays(0, min_value=1, max_value=1, distinct=True), arrays(4, domain=CONDITION))
def test_no_values_and_conditions(nothing: np.ndarray, conditions: np.ndarray) -> None:
    assert nothing.shape == (0,)
    assert conditions.dtype == bool


@given(away_from(0.0, 1.0, gap=0.4, min_dims=1))
def test_away_from_keeps_away(x: np.ndarray) -> None:
    assert np.abs(x).min() >= 0.4
    assert np.abs(x - 1).min() >= 0.4 - 1e-12


@given(tensors(2, dtype="float32"), tensors(requires_grad=False))
def test_tensors_are_leaves(x: mg.Tensor, y: mg.Tensor) -> None:
    assert x.requires_grad
    assert x.dtype == np.float32
    assert not y.requires_grad
    (dx,) = mg.grad(mg.sum(x), [x])
    assert np.array_equal(dx.data, [1, 1])


@given(broadcastable(3, min_side=0, max_side=2, domain=POSITIVE), broadcastable(2, distinct=True, max_dims=2))
def test_broadcastable_operands_broadcast(xs: tuple[np.ndarray, ...], pair: tuple[np.ndarray, ...]) -> None:
    assert len(xs) == 3
    assert sum(xs).shape == np.broadcast_shapes(*[x.shape for x in xs])
    assert all(x.min(initial=1) >= 0.25 for x in xs)
    both = np.concatenate([x.ravel() for x in pair])
    assert len(np.unique(both)) == both.size


def test_operands_keep_the_bounds_of_their_sides() -> None:
    find(broadcastable(2, min_side=0), lambda xs: not xs[0].size)
    find(broadcastable(2, max_side=5), lambda xs: 5 in xs[1].shape)
    find(matmul_operands(min_side=0), lambda xs: xs[0].shape == (0,))
    assert find(broadcastable(1, min_dims=2, min_side=2), lambda xs: True)[0].shape == (2, 2)
    assert find(matmul_operands(min_side=2), lambda xs: xs[0].ndim == 1)[0].shape == (2,)


@given(matmul_operands(min_side=0), matmul_operands(vectors=False, max_batch_dims=0, distinct=True))
def test_matmul_operands_multiply(xs: tuple[np.ndarray, ...], pair: tuple[np.ndarray, ...]) -> None:
    x, y = xs
    assert (x @ y).ndim <= 4
    assert [x.ndim for x in pair] == [2, 2]
    assert pair[0].shape[1] == pair[1].shape[0]


def test_matmul_operands_have_vectors_and_batches() -> None:
    find(matmul_operands(), lambda xs: [x.ndim for x in xs] == [1, 3])
    find(matmul_operands(vectors=False), lambda xs: xs[0].ndim == 4 and xs[1].ndim == 2)


@given(st.data())
def test_axes_are_taken_by_numpy(data: st.DataObject) -> None:
    x = data.draw(arrays())
    axis = data.draw(axes(x.shape))
    assert np.sum(x, axis=axis).ndim <= x.ndim
    if x.ndim:
        assert isinstance(data.draw(axes(x.ndim, none=False, several=False)), int)


def test_axes_are_of_every_kind() -> None:
    for wanted in (None, -2, 1, (0, 1), (-1, 0)):
        find(axes((2, 3)), lambda axis, wanted=wanted: axis == wanted)


@given(st.data())
def test_indices_are_taken_by_numpy_and_by_tensors(data: st.DataObject) -> None:
    x = data.draw(arrays(min_side=0))
    index = data.draw(indices(x.shape))
    assert np.array_equal(mg.Tensor(x)[index].data, x[index])


def test_indices_are_of_every_kind() -> None:
    find(indices((3,)), lambda i: isinstance(i, slice) and i.step == -1)
    find(indices((3, 2)), lambda i: isinstance(i, tuple) and None in [k for k in i if not isinstance(k, np.ndarray)])
    find(indices((3,)), lambda i: isinstance(i, tuple) and isinstance(i[0], np.ndarray) and i[0].ndim == 2)
    find(indices((3,)), lambda i: isinstance(i, np.ndarray) and i.dtype == bool and i.all())


@pytest.mark.parametrize("labels", ["index", "one-hot", "soft"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_labels_are_what_the_loss_takes(labels: Any, dtype: str) -> None:
    @given(logits_and_labels(labels=labels, dtype=dtype, min_samples=2, max_classes=3))
    def check(pair: tuple[np.ndarray, np.ndarray]) -> None:
        x, t = pair
        assert x.dtype == dtype
        assert 2 <= x.shape[0] <= 4
        assert 2 <= x.shape[1] <= 3
        assert np.ptp(x.astype(float), axis=1).max() <= 700 + (0.25 if dtype == "float16" else 0)
        assert t.shape == (x.shape[:1] if labels == "index" else x.shape)
        if labels == "index":
            assert t.dtype == np.int64
            assert 0 <= t.min() <= t.max() < x.shape[1]
        else:
            assert t.dtype == dtype
        if labels == "one-hot":
            assert ((t == 1).sum(axis=1) == 1).all()
            assert ((t == 0) | (t == 1)).all()
        assert np.isfinite(mg.softmax_cross_entropy(mg.Tensor(x), t, reduction="none").data).all()

    check()


def test_logits_have_ties_and_tails_where_they_are_asked_for() -> None:
    find(logits_and_labels(), lambda pair: np.ptp(pair[0], axis=1).max() == 700)
    find(logits_and_labels(), lambda pair: pair[0].min() < -500 and pair[0].max() < 5)
    find(logits_and_labels(), lambda pair: pair[0][0, 0] == pair[0][0, 1] > 300)
    find(logits_and_labels(labels="soft"), lambda pair: 0 < pair[1].max() < 1)
    find(logits_and_labels(ignore_index=-1), lambda pair: (pair[1] == -1).sum() == 2)


@given(logits_and_labels(ties=False), logits_and_labels(tails=False, ties=False, dtype="float16"))
def test_logits_have_no_ties_or_tails_where_they_are_not(untied: Any, near: Any) -> None:
    for x, _ in (untied, near):
        assert (np.diff(np.sort(x, axis=1), axis=1) > 0).all()
    assert np.abs(near[0]).max() <= 4


@given(logits_and_labels(ignore_index=-100), logits_and_labels(ignore_index=0, max_classes=2))
def test_some_sample_is_not_ignored(outside: Any, inside: Any) -> None:
    for (x, t), ignored in ((outside, -100), (inside, 0)):
        assert (t != ignored).any()
        mg.softmax_cross_entropy(mg.Tensor(x), t, ignore_index=ignored)


def places(side: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many places a kernel has along an axis, by walking along it."""
    starts = range(-padding, side + padding, stride)
    return len([a for a in starts if a + dilation * (kernel - 1) < side + padding])


@given(st.integers(1, 3).flatmap(lambda dims: conv_geometry(dims=dims, max_side=4, max_kernel=4)))
def test_a_convolution_is_valid(g: ConvGeometry) -> None:
    assert all(1 <= n <= 4 for n in g.x_shape[2:] + g.W_shape[2:])
    assert g.x_shape[1] == g.groups * g.W_shape[1]
    assert g.W_shape[0] % g.groups == 0
    assert min(g.out_shape) >= 1
    axis = zip(g.x_shape[2:], g.W_shape[2:], g.stride, g.padding, g.dilation, strict=True)
    assert g.out_shape == (g.x_shape[0], g.W_shape[0], *[places(*sizes) for sizes in axis])


def test_convolutions_are_of_every_kind() -> None:
    find(conv_geometry(), lambda g: g.groups == 2 and g.W_shape[1] == 2)
    find(conv_geometry(), lambda g: g.stride == (2, 1) and g.dilation == (1, 2) and g.padding == (0, 2))
    find(conv_geometry(max_side=1), lambda g: g.W_shape[2:] == (3, 3))


@given(layouts(arrays(min_side=0)))
def test_layouts_are_arrays(x: np.ndarray) -> None:
    assert isinstance(x, np.ndarray)
    assert x.dtype == np.float64


@given(layouts((np.arange(6.0).reshape(2, 3), np.array(3.0), np.zeros((2, 0)))))
def test_layouts_have_the_same_values(xs: tuple[np.ndarray, ...]) -> None:
    assert np.array_equal(xs[0], [[0, 1, 2], [3, 4, 5]])
    assert np.array_equal(xs[1], 3)
    assert xs[2].shape == (2, 0)


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("plain", lambda x: x.flags.c_contiguous and x.flags.writeable),
        ("fortran", lambda x: x.flags.f_contiguous and not x.flags.c_contiguous),
        ("strided", lambda x: x.strides[-1] == 16),
        ("reversed", lambda x: x.strides[-1] < 0 and x.strides[0] < 0),
        ("read-only", lambda x: not x.flags.writeable),
    ],
)
def test_layouts_of_every_kind(kind: str, seen: Callable[[np.ndarray], bool]) -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert seen(find(layouts(x, kinds=[kind]), lambda _: True))
    assert find(layouts(x), seen) is not x
    assert x.flags.writeable


@given(cotangents(shapes()), cotangents((4,), dtype="float16", min_value=0.3, max_value=1.3))
def test_cotangents_are_away_from_zero_and_not_all_alike(dout: np.ndarray, narrow: np.ndarray) -> None:
    assert dout.size == 1 or np.ptp(dout) > 0
    assert 0.5 <= np.abs(dout).min() <= np.abs(dout).max() <= 2
    assert np.ptp(narrow) > 0
    assert 0.3 <= float(np.abs(narrow).min()) <= float(np.abs(narrow).max()) <= 1.3


@pytest.mark.parametrize("op", [Cube, Several, Product, ScaleByCase, ScaleByCase(5.0)], ids=str)
def test_calls_of_a_users_op(op: Any) -> None:
    @given(calls(op))
    def check(call: Call) -> None:
        xs = [mg.Tensor(x, requires_grad=True) for x in call.arrays]
        out = call(*xs)
        assert out.requires_grad
        if isinstance(op, ScaleByCase):
            assert np.array_equal(out.data, 5 * call.arrays[0])
        if op is ScaleByCase:
            assert np.array_equal(out.data, call.kwargs["factor"] * call.arrays[0])
        if op is Product:
            assert all(x.min(initial=1) >= 0.25 for x in call.arrays[:1])
            assert all(np.abs(x).max(initial=0) <= 0.9 for x in call.arrays[1:])

    check()


@given(calls(Sum(axis=(0, -2))), calls(Maximum()))
def test_calls_of_an_instance_keep_its_parameters(summed: Call, larger: Call) -> None:
    assert np.array_equal(summed(*summed.arrays).data, np.sum(summed.arrays[0], axis=(0, -2)))
    x, y = larger.arrays
    assert np.array_equal(larger(x, y).data, np.maximum(x, y))


@given(calls(Maximum), calls(Clip), calls(Where))
def test_calls_stay_beside_the_kinks(larger: Call, clipped: Call, chosen: Call) -> None:
    x, y = np.broadcast_arrays(*larger.arrays)
    assert (np.abs(x - y) > 0.01).all()
    x, low, high = np.broadcast_arrays(*clipped.arrays)
    assert (low < high).all()
    assert (np.abs(x - low) > 0.01).all()
    assert (np.abs(x - high) > 0.01).all()
    assert chosen.arrays[0].dtype == bool


def test_calls_of_clip_and_where_take_every_side() -> None:
    find(calls(Clip), lambda call: (call.arrays[0] < call.arrays[1]).any())
    find(calls(Clip), lambda call: (call.arrays[0] > call.arrays[2]).any())
    find(calls(Where), lambda call: call.arrays[0].any() and not call.arrays[0].all())


def test_calls_without_empty_arrays() -> None:
    @given(calls(ScaleByCase, empty=False), calls(Product, empty=False), calls(Cube, empty=False))
    def check(a: Call, b: Call, c: Call) -> None:
        assert all(x.size for call in (a, b, c) for x in call.arrays)

    check()
    for op in ScaleByCase, Product, Cube:
        find(calls(op), lambda call: not call.arrays[0].size)


# Impossible requests say so when they are made, and what to write instead


@pytest.mark.parametrize(
    ("request_", "remedy"),
    [
        (lambda: shapes(min_dims=4), r"min_dims=4 is above max_dims=3; pass max_dims=4"),
        (lambda: shapes(min_side=-1), r"min_side=-1 is no integer from 0 on; pass min_side="),
        (lambda: shapes(max_side=2.5), r"max_side=2.5 .*; pass max_side="),
        (lambda: arrays((2, -1)), r"shape=\(2, -1\) is no shape; pass a tuple"),
        (lambda: arrays([2]), r"shape=\[2\] is no shape; pass a tuple"),
        (lambda: arrays(3, max_dims=1), r"and max_dims too; leave one of them out"),
        (lambda: arrays(min_dims=5), r"pass max_dims=5"),
        (lambda: arrays(dtype="int64"), r'int64.* is no float; pass dtype="float32"'),
        (lambda: arrays(dtype="nonsense"), r'is no float; pass dtype="float32"'),
        (lambda: arrays(domain=(0, 1)), r"is no Domain; pass domain="),
        (lambda: arrays(min_value=2, max_value=1), r"min_value=2 is above max_value=1; pass min_value below"),
        (lambda: arrays(min_value=5), r"max_value=4.0, the domain's own; pass max_value too"),
        (lambda: arrays(max_value=-5), r"the domain's own; pass min_value too"),
        (lambda: arrays(max_value=float("inf")), r"not finite in float64; pass max_value="),
        (lambda: arrays(max_value=float("nan")), r"not finite in float64; pass max_value="),
        (lambda: arrays(max_value=1e6, dtype="float16"), r"not finite in float16; pass max_value="),
        (lambda: arrays(away=0.0), r"no sequence of points; pass away=\[0.0\]"),
        (lambda: arrays(away=[float("nan")]), r"not finite; leave them out"),
        (lambda: arrays(gap=0.5), r"no point to keep from; pass away="),
        (lambda: arrays(away=[0.0], gap=0.0), r"no distance; pass gap="),
        (lambda: arrays(away=[0.0], gap=5.0), r"5.0 away from \[0.0\]; pass a smaller gap"),
        (lambda: arrays(min_value=0.1, max_value=0.1, dtype="float16"), r"no float16 from 0.1 to 0.1; pass .* wider"),
        (lambda: arrays(3, min_value=1, max_value=1, distinct=True), r"up to 3 values .*; pass wider"),
        (lambda: arrays(max_side=30, dtype="float16", distinct=True), r"up to 27000 values that float16 .*; pass"),
        (lambda: arrays(3, min_value=-1e308, max_value=1e308, distinct=True), r"up to 3 values .*; pass"),
        (lambda: arrays(domain=CONDITION, distinct=True), r"booleans have no bounds and repeat; pass domain="),
        (lambda: arrays(domain=CONDITION, away=[0.0]), r"booleans have no bounds and repeat; pass domain="),
        (lambda: away_from(), r"no point was named; write away_from\(0.0\)"),
        (lambda: broadcastable(0), r"n=0 is no integer from 1 on; pass n=2"),
        (lambda: broadcastable(2, min_side=4), r"broadcastable: .*pass max_side=4"),
        (lambda: broadcastable(2, max_side=30, dtype="float16", distinct=True), r"broadcastable: .*; pass wider"),
        (lambda: matmul_operands(max_batch_dims=-1), r"max_batch_dims=-1 .*; pass max_batch_dims=1"),
        (lambda: matmul_operands(min_side=4), r"matmul_operands: .*pass max_side=4"),
        (lambda: axes((), none=False), r"no axis; pass none=True"),
        (lambda: axes(-1), r"shape=-1 .*; pass"),
        (lambda: axes((2, None)), r"is no shape; pass"),
        (lambda: indices((2,), kinds=["fancy"]), r'kind \'fancy\' is unknown; pass kinds=\["basic"'),
        (lambda: indices((0,), kinds=["advanced"]), r'for shape \(0,\); pass kinds=\["basic"\]'),
        (lambda: indices("2"), r"is no shape; pass"),
        (lambda: logits_and_labels(min_samples=0), r"min_samples=0 is no integer from 1 on; pass min_samples=2"),
        (lambda: logits_and_labels(min_classes=9), r"pass max_classes=9"),
        (lambda: logits_and_labels(labels="hot"), r"unknown; pass labels="),
        (lambda: logits_and_labels(labels="soft", ignore_index=-1), r'class numbers; pass labels="index"'),
        (lambda: logits_and_labels(min_classes=1, ignore_index=0), r"only class there is; pass min_classes=2"),
        (lambda: logits_and_labels(dtype="int32"), r"is no float; pass dtype="),
        (lambda: logits_and_labels(ties=False, max_classes=999, dtype="float16"), r"up to 999 values .*; pass wider"),
        (lambda: conv_geometry(max_kernel=0), r"max_kernel=0 is no integer from 1 on; pass max_kernel=2"),
        (lambda: conv_geometry(max_padding=-1), r"max_padding=-1 .*; pass max_padding=1"),
        (lambda: conv_geometry(dims="2"), r"dims='2' .*; pass dims=2"),
        (lambda: layouts(np.zeros(2), kinds=["c"]), r"kind 'c' is unknown; pass kinds="),
        (lambda: layouts(np.zeros(2), kinds=[]), r"unknown; pass kinds="),
        (lambda: layouts([1.0]), r"is no array; pass an array or a strategy"),
        (lambda: cotangents((2,), min_value=0), r"pass min_value=0.5"),
        (lambda: cotangents((2,), min_value=2), r"pass min_value=0.5"),
        (lambda: calls(Silent), r"declares nothing to draw from; declare cases = \(Case\(\(2, 3\)\),\), elementwise"),
        (lambda: calls(TwoDomains), r"declares 2 domains for 1 arguments; declare one for each"),
        (lambda: calls(OnePoint), r"calls: distinct=True wants up to 1 values .*; pass wider"),
        (lambda: calls(BadSignature), r"signature 'm->m'.*; write it as in"),
        (lambda: calls(ShortSignature), r"has 2 arguments, and forward has 1; write a core shape"),
        (lambda: calls(OnlyEmpty, empty=False), r"every case of only_empty is empty; declare one more"),
        (lambda: calls(Op), r"is no op; pass a subclass"),
        (lambda: calls(np.exp), r"is no op; pass a subclass"),
        (lambda: calls(Unary), r"is no op; pass a subclass of minigrad.Op with forward"),
        (lambda: calls(Scale), r"no factor.*; declare cases that name its fields, or pass an instance, Scale\("),
    ],
)
def test_an_impossible_request_names_the_remedy_when_it_is_made(request_: Callable[[], Any], remedy: str) -> None:
    with pytest.raises(InvalidArgument, match=remedy):
        request_()


def test_a_case_that_an_instance_cannot_take_is_refused() -> None:
    class Indexed(Silent):
        cases = (Case((3,), index=1),)

    with pytest.raises(InvalidArgument, match="names index, which an instance does not take; pass the class"):
        calls(Indexed())


# Examples shrink to the smallest


@pytest.mark.parametrize(
    ("strategy", "condition", "smallest"),
    [
        (shapes(min_side=0), lambda shape: True, ()),
        (shapes(), lambda shape: max(shape, default=0) > 1, (2,)),
        (arrays(), lambda x: True, 0.0),
        (arrays(), lambda x: x.size > 2 and x.max() > 1, [0.0, 0.0, 2.0]),
        (arrays(), lambda x: x.ndim == 0 and x < 0, -1.0),
        (arrays(), lambda x: x.ndim == 0 and 0 < x < 1, 0.5),
        (arrays(2, domain=POSITIVE), lambda x: True, [1.0, 1.0]),
        (arrays(2, domain=AWAY_FROM_ZERO), lambda x: x.sum() < 0, [1.0, -2.0]),
        (arrays(3, distinct=True), lambda x: True, [0.0, 1.0, 2.0]),
        (arrays(3, distinct=True), lambda x: x[0] > x[1] > x[2], [2.0, 1.0, 0.0]),
        (arrays((1, 2), dtype="float16", distinct=True), lambda x: x[0, 1] < -1, [[0.0, -2.0]]),
        (away_from(0.0, min_dims=1), lambda x: x.size > 1, [1.0, 1.0]),
        (axes(2), lambda axis: isinstance(axis, tuple) and len(axis) == 2, (0, 1)),
        (logits_and_labels(), lambda pair: True, ([[0.0, 0.0]], [0])),
        (logits_and_labels(ties=False, labels="soft"), lambda pair: pair[1][0, 1] > 0, ([[0.0, 1.0]], [[0.0, 1.0]])),
        (cotangents((3,)), lambda dout: True, [1.0, 1.0, 2.0]),
        (cotangents(()), lambda dout: dout < 0, -1.0),
    ],
    ids=range(17),
)
def test_an_example_shrinks_to_the_smallest(strategy: Any, condition: Any, smallest: Any) -> None:
    found = find(strategy, condition)
    pairs = zip(found, smallest, strict=True) if isinstance(smallest, tuple) else [(found, smallest)]
    for got, want in pairs:
        np.testing.assert_array_equal(got, want, strict=isinstance(got, np.ndarray) and got.dtype == np.float64)


def test_operands_and_calls_shrink_to_the_smallest() -> None:
    x, y = find(broadcastable(2), lambda xs: (xs[0] + xs[1]).ndim == 2 and xs[1].sum() > 0)
    assert (x.tolist(), y.tolist()) in [([[0.0]], 1.0), (0.0, [[1.0]])]
    x, y = find(matmul_operands(), lambda xs: (xs[0] @ xs[1]).size > 1)
    assert sorted([x.size, y.size]) == [1, 2]
    call = find(calls(Maximum), lambda call: (call.arrays[0] > call.arrays[1]).any())
    assert [x.tolist() for x in call.arrays] == [1.0, 0.0]
    assert find(conv_geometry(), lambda g: True) == ConvGeometry((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), (1, 1))
    assert find(layouts(np.zeros((2, 2))), lambda x: True).flags.c_contiguous
    assert repr(find(calls(ScaleByCase), lambda call: call.arrays[0].size)) == (
        "scale_by_case(array([[0. , 1. , 2. ],\n       [3. , 4. , 0.5]]), factor=2.0)"
    )


def test_without_hypothesis_the_import_says_what_to_install() -> None:
    program = "import sys; sys.modules['hypothesis'] = None; import minigrad.testing.strategies"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert run.stderr.strip().splitlines()[-1].endswith("install it with: pip install hypothesis")


def test_what_is_public_is_documented_with_an_example() -> None:
    assert all(">>> " in (getattr(strategies, name).__doc__ or "") for name in strategies.__all__)
    assert all(">>> " in (thing.__doc__ or "") for thing in (Call, calls))
