"""Every op in the registry, against what it declares: values, first and second order, and what it must not do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import sums, unfused
from minigrad.op import Op, registry
from minigrad.tensor import Tensor
from minigrad.testing.calls import Call, calls
from minigrad.testing.check_op import expected
from minigrad.testing.mutations import planted
from minigrad.testing.strategies import layouts

OPS = list(registry())
every_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
EPS = {"float16": 1e-3, "float32": 1.2e-7, "float64": 2.3e-16}


def is_float(x: Any) -> bool:
    return x.dtype.kind == "f"


def tensors(arrays: list[np.ndarray]) -> list[Any]:
    return [Tensor(x, requires_grad=True) if is_float(x) else x for x in arrays]


def leaves(xs: list[Any]) -> list[Tensor]:
    return [x for x in xs if isinstance(x, Tensor)]


def draw_like(shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape))


def slope(f: Any, points: list[np.ndarray], directions: list[np.ndarray]) -> float:
    """df along directions: central differences, extrapolated once (error of order h**4)."""

    def difference(h: float) -> float:
        up = f([x + h * v if is_float(x) else x for x, v in zip(points, directions, strict=True)])
        down = f([x - h * v if is_float(x) else x for x, v in zip(points, directions, strict=True)])
        return float(up - down) / (2 * h)

    return (4 * difference(5e-4) - difference(1e-3)) / 3


def first_order_error(call: Call, seed: int) -> float:
    """How far backward is from the numerical derivative in a drawn direction, relative to the terms' size."""
    xs = tensors(call.arrays)
    out = call(*xs)
    dout = draw_like(out.shape, seed)
    directions = [draw_like(x.shape, seed + 2 + i) for i, x in enumerate(call.arrays)]
    grads = mg.grad(out, leaves(xs), dout, allow_unused=True)
    along = [v for x, v in zip(call.arrays, directions, strict=True) if is_float(x)]
    terms = [g.data * v for g, v in zip(grads, along, strict=True) if g is not None]
    numeric = slope(lambda points: np.sum(dout * call(*points).data), call.arrays, directions)
    got = float(sum(np.sum(t) for t in terms))
    scale = sum(float(np.sum(np.abs(t))) for t in terms) + abs(numeric)
    return abs(got - numeric) / (scale + 1e-3) if np.isfinite(got) else np.inf


def second_order_error(call: Call, seed: int) -> float:
    """The same for the gradient itself, as a function of the inputs and of dout."""
    out_shape = call(*call.arrays).shape
    points = [*call.arrays, draw_like(out_shape, seed)]
    weights = [draw_like(x.shape, seed + 3 + i) for i, x in enumerate(call.arrays)]

    def phi(values: list[Any], *, graph: bool) -> Tensor | float:
        xs = [v if isinstance(v, Tensor) or not is_float(v) else Tensor(v, requires_grad=True) for v in values]
        *inputs, dout = xs
        grads = mg.grad(call(*inputs), leaves(inputs), dout, create_graph=graph, allow_unused=True)
        used = [w for x, w in zip(inputs, weights, strict=True) if isinstance(x, Tensor)]
        return sum((mg.sum(g * w) for g, w in zip(grads, used, strict=True) if g is not None), 0.0)

    xs = tensors(points)
    total = phi(xs, graph=True)
    directions = [draw_like(x.shape, seed + 9 + i) for i, x in enumerate(points)]
    terms = []
    if isinstance(total, Tensor) and total.requires_grad:
        along = [v for x, v in zip(points, directions, strict=True) if is_float(x)]
        grads = mg.grad(total, leaves(xs), allow_unused=True)
        terms = [g.data * v for g, v in zip(grads, along, strict=True) if g is not None]
    numeric = slope(lambda values: getattr(phi(values, graph=False), "data", 0.0), points, directions)
    got = float(sum(np.sum(t) for t in terms))
    scale = sum(float(np.sum(np.abs(t))) for t in terms) + abs(numeric)
    return abs(got - numeric) / (scale + 1e-3) if np.isfinite(got) else np.inf


@every_op
@given(data=st.data())
def test_value_equals_an_independent_reference(op: type[Op], data: st.DataObject) -> None:
    call = data.draw(calls(op))
    got = call(*[Tensor(x) if is_float(x) else x for x in call.arrays])
    want = expected(call)
    assert want is not None, f"{op.name} declares no reference and answers to no NumPy function"
    assert got.shape == want.shape
    np.testing.assert_allclose(got.data, want, rtol=1e-13, atol=1e-14)


@every_op
@given(data=st.data())
def test_first_order_equals_numerical_differentiation(op: type[Op], data: st.DataObject) -> None:
    assert first_order_error(data.draw(calls(op)), data.draw(st.integers(0, 999))) < 1e-8


@every_op
@given(data=st.data())
def test_second_order_equals_numerical_differentiation(op: type[Op], data: st.DataObject) -> None:
    assert second_order_error(data.draw(calls(op)), data.draw(st.integers(0, 999))) < 1e-8


@every_op
@given(data=st.data())
def test_numpy_function_answers_like_the_op(op: type[Op], data: st.DataObject) -> None:
    call = data.draw(calls(op))
    xs = tensors(call.arrays)
    want = call(*xs)
    for function in op.answers:
        got = call(*xs, function=function)
        assert isinstance(got, Tensor)
        assert got.requires_grad == want.requires_grad
        np.testing.assert_array_equal(got.data, want.data)


@every_op
@given(data=st.data())
def test_dtype_layout_and_memory(op: type[Op], data: st.DataObject) -> None:
    call = data.draw(calls(op))
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64"]))
    if op.name == "astype":
        dtype = "float64"
    inputs = list(data.draw(layouts(tuple(x.astype(dtype) if is_float(x) else x for x in call.arrays))))
    before = [x.copy() for x in inputs]
    frozen = [x.view() for x in inputs]
    for x in frozen:
        x.flags.writeable = False
    xs = [mg.from_numpy(x) if is_float(x) else x for x in frozen]
    for x in leaves(xs):
        x.requires_grad = True
    out = call(*xs)
    assert out.dtype == dtype
    assert out._node is not None
    if not op.view:
        assert not any(np.shares_memory(out.data, x) for x in frozen)
    dout = draw_like(out.shape, data.draw(st.integers(0, 99))).astype(dtype)
    dout = data.draw(layouts(dout))
    seed = dout.copy()
    dout.flags.writeable = False
    out.backward(dout)
    for x, old in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, old)
    np.testing.assert_array_equal(dout, seed)
    seen: list[np.ndarray] = [*frozen, dout, out.data]
    for x in leaves(xs):
        if x.grad is not None:
            assert type(x.grad) is np.ndarray
            assert x.grad.shape == x.shape
            assert x.grad.dtype == x.dtype
            assert x.grad.flags.writeable
            assert not any(np.shares_memory(x.grad, other) for other in seen)
            seen.append(x.grad)
    # in the narrow dtype the same gradient, but for its rounding
    wide = tensors([x.astype(float) if is_float(x) else x for x in before])
    call(*wide).backward(seed.astype(float))
    for x, y in zip(leaves(xs), leaves(wide), strict=True):
        assert (x.grad is None) == (y.grad is None)
        if x.grad is not None:
            tolerance = 200 * EPS[dtype] * max(1.0, float(np.max(np.abs(y.grad), initial=0)))
            np.testing.assert_allclose(x.grad.astype(float), y.grad, rtol=200 * EPS[dtype], atol=tolerance)


def caught(op: type[Op], mistake: str, error: Any, *, second_order_only: bool = False) -> tuple[bool, bool]:
    """(whether a check failed under the planted rule, whether the rule ever differed from the right one)."""
    failures, changed = [], False

    @settings(max_examples=12)
    @given(call=calls(op, empty=False), seed=st.integers(0, 999))
    def check(call: Call, seed: int) -> None:
        nonlocal changed
        with planted(op, mistake, second_order_only=second_order_only) as wrong:
            if mistake == "stale":
                error(call, seed + 1)
            failures.append(error(call, seed) > 1e-8)
        changed |= wrong.changed

    check()
    return any(failures), changed


@every_op
@pytest.mark.parametrize("mistake", ["x 1.001", "zero", "sign", "swapped", "stale"])
def test_a_planted_wrong_rule_is_caught(op: type[Op], mistake: str) -> None:
    found, changed = caught(op, mistake, first_order_error)
    assert found == changed
    assert changed or mistake == "swapped"


@every_op
def test_a_rule_wrong_only_at_second_order_is_caught(op: type[Op]) -> None:
    found, changed = caught(op, "x 1.001", second_order_error, second_order_only=True)
    assert found
    assert changed


@pytest.mark.parametrize("name", unfused.__all__)
@given(data=st.data())
def test_fused_equals_unfused(name: str, data: st.DataObject) -> None:
    op = next(op for op in OPS if op.name == name)
    call = data.draw(calls(op, empty=False))
    twin = getattr(unfused, name)
    dout = draw_like(call(*call.arrays).shape, data.draw(st.integers(0, 999)))
    results = []
    for function in (op.function, twin):
        xs = tensors(call.arrays)
        out = call(*xs, function=function)
        first = mg.grad(out, leaves(xs), dout, create_graph=True, allow_unused=True)
        used = [dx for dx in first if dx is not None and dx.requires_grad]
        weights = [draw_like(dx.shape, 7 + i) for i, dx in enumerate(used)]
        second = mg.grad(used, leaves(xs), weights, allow_unused=True) if used else ()
        results.append([out.data, *(0.0 if dx is None else dx.data for dx in (*first, *second))])
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


def test_the_unfused_sigmoid_is_the_books_graph() -> None:
    node = unfused.sigmoid(Tensor([5.0], requires_grad=True))._node
    names = []
    while node is not None and node.op is not None:
        names.append(node.op.name)
        node = next(p for p in node.parents if p is not None)
    assert names[::-1] == ["multiply", "exp", "add", "divide"]


@every_op
def test_kept_array_equals_the_method_it_stands_for(op: type[Op]) -> None:
    if op.keeps is None:
        return

    @given(call=calls(op))
    def check(call: Call) -> None:
        out = call(*tensors(call.arrays))
        node = out._node
        while node.op.name != op.name:
            node = next(p for p in node.parents if p is not None)
        kept = node.saved[node.op.asks.index(op.keeps)]
        np.testing.assert_allclose(kept, getattr(node.op, op.keeps)(*node.inputs), rtol=1e-14, atol=1e-15)

    check()


# Sums of many rows: NumPy adds them one by one, PyTorch in a tree.


def bias_of_linear(x: Any) -> Any:
    b = Tensor(np.zeros(x.shape[-1], x.dtype), requires_grad=True)
    mg.linear(np.zeros((len(x), 1), x.dtype), np.zeros((x.shape[-1], 1), x.dtype), b).backward(x)
    return b.grad


def broadcast_addend(x: Any) -> Any:
    b = Tensor(np.zeros(x.shape[-1], x.dtype), requires_grad=True)
    (np.zeros_like(x) + b).backward(x)
    return b.grad


def tiled(x: Any) -> Any:
    b = Tensor(np.zeros((1, x.shape[-1]), x.dtype), requires_grad=True)
    mg.tile(b, (len(x), 1)).backward(x)
    assert b.grad is not None
    return b.grad[0]


def batch_norms_bias(x: Any) -> Any:
    b = Tensor(np.zeros(x.shape[-1], x.dtype), requires_grad=True)
    mg.batch_norm(x, np.ones(x.shape[-1], x.dtype), b).backward(x)
    return b.grad


TOTALS = {
    "sum": lambda x: mg.sum(x, axis=0).data,
    "sum of a list of axes": lambda x: mg.sum(x[:, None], axis=[0, 1], keepdims=True).data[0, 0],
    "mean": lambda x: mg.mean(x, axis=0).data.astype(float) * len(x),
    "linear": bias_of_linear,
    "unbroadcast": broadcast_addend,
    "tile": tiled,
    "batch_norm": batch_norms_bias,
}


@pytest.mark.parametrize("name", TOTALS)
@pytest.mark.parametrize(
    ("dtype", "n", "value", "rtol"),
    [
        ("float16", 3000, 0.1, 1e-3),
        ("float16", 10_000, 1.0, 1e-3),
        ("float32", 1000, 0.1, 1e-6),
        ("float32", 100_000, 0.1, 1e-6),
        ("float32", 2_000_000, 0.1, 1e-6),
        ("float64", 100_000, 0.1, 2e-15),
    ],
)
def test_many_rows_add_up_without_loss(name: str, dtype: str, n: int, value: float, rtol: float) -> None:
    x = np.full((n, 2), value, dtype)
    got = TOTALS[name](x)
    np.testing.assert_allclose(got.astype(float), n * float(x[0, 0]), rtol=rtol)
    np.testing.assert_array_equal(TOTALS[name](x), got)


@pytest.mark.parametrize("op", [mg.var, mg.std])
def test_the_variance_of_many_rows(op: Any) -> None:
    x = np.full((200_000, 2), 0.1, "float32")
    x[::2] = 0.3
    np.testing.assert_allclose(op(x, axis=0).data, op(x.astype(float), axis=0).data, rtol=1e-5)
    assert op(x.astype("float16")[:3000], axis=0).dtype == "float16"


@settings(max_examples=300)
@given(data=st.data())
def test_blocks_of_any_size_add_up_to_the_sum(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 12), max_size=4))
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64"]))
    x = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-8, 9, shape).astype(dtype)
    x = x.transpose(data.draw(st.permutations(range(x.ndim))))
    x = x[..., :: data.draw(st.sampled_from([1, 2, -1]))] if x.ndim else x
    x = np.broadcast_to(x, (5, *x.shape)) if data.draw(st.booleans()) else x
    axes = st.lists(st.integers(-x.ndim, x.ndim - 1), unique_by=lambda i: i % x.ndim) if x.ndim else st.just([])
    axis, keepdims = data.draw(st.none() | axes.map(tuple)), data.draw(st.booleans())
    sizes = data.draw(st.sampled_from([(128, 64, 1024), (2, 2, 1), (3, 2, 9), (4, 3, 20), (9, 5, 50)]))
    with pytest.MonkeyPatch.context() as patch:
        for constant, size in zip(("_FEW", "_BLOCK", "_WIDE", "_FEW_WIDE"), (*sizes, sizes[0]), strict=True):
            patch.setattr(sums, constant, size)
        got = sums.add_up(x, axis, keepdims=keepdims)
    want = np.add.reduce(x.astype(float), axis=axis, keepdims=keepdims)
    assert got.dtype == dtype
    assert np.shape(got) == np.shape(want)
    np.testing.assert_array_equal(got, want)
