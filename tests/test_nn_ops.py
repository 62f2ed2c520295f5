"""Activations, normalisation, embedding and attention: accuracy against many digits, PyTorch's numbers, errors."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from referee import ulp, ulp_error

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, LabelError, MinigradError, ShapeError
from minigrad.ops import normalization
from minigrad.ops.normalization import batch_statistics

DTYPES = ["float64", "float32"]


def phi(x: Any) -> Any:
    return mpmath.exp(-(mpf(x) ** 2) / 2) / mpmath.sqrt(2 * mpmath.pi)


def below(x: Any) -> Any:
    return mpmath.erfc(-mpf(x) / mpmath.sqrt(2)) / 2


def gauss(x: Any) -> Any:
    return 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-(mpf(x) ** 2))


def logistic(x: Any) -> Any:
    e = mpmath.exp(-abs(mpf(x)))
    return (1 if x >= 0 else e) / (1 + e)


# name -> value, derivative, the largest term of the derivative, how far out the result is a normal number (64, 32 bits)
EXACT: dict[str, tuple[Any, Any, Any, tuple[float, float]]] = {
    "erf": (mpmath.erf, gauss, gauss, (26.4, 9.2)),
    "erfc": (mpmath.erfc, lambda x: -gauss(x), gauss, (26.4, 9.2)),
    "gelu": (
        lambda x: x * below(x),
        lambda x: below(x) + x * phi(x),
        lambda x: max(below(x), abs(x * phi(x))),
        (37.4, 13.0),
    ),
    "silu": (
        lambda x: x * logistic(x),
        lambda x: logistic(x) * (1 + x * logistic(-x)),
        lambda x: logistic(x) * max(1, abs(x) * logistic(-x)),
        (700.0, 85.0),
    ),
}
# ULP of (value, derivative): measured 1.3 to 4.6 in float64, 2.1 to 5.8 in float32
BOUNDS = {
    "float64": {"erf": (2, 2), "erfc": (3, 2), "gelu": (5, 6), "silu": (4, 6)},
    "float32": {"erf": (3, 4), "erfc": (5, 4), "gelu": (7, 6), "silu": (5, 7)},
}


def spread_points(dtype: str, far: float) -> np.ndarray:
    """Points around 0, where things happen, and out to both ends."""
    rng = np.random.default_rng(3)
    near = 10.0 ** rng.uniform(-12, 0, 60)
    values = np.concatenate(
        [near, -near, rng.uniform(-6, 6, 300), rng.uniform(-far, far, 120), [-far, -10.0, 10.0, far, 0.5, 1.0, -1.0]]
    )
    return np.asarray(values.clip(-far, far).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_value_and_gradient_in_both_tails(name: str, dtype: str) -> None:
    value, derivative, term, far = EXACT[name]
    points = spread_points(dtype, far[dtype == "float32"])
    x = mg.Tensor(points, requires_grad=True)
    with np.errstate(all="raise"):
        out = getattr(mg, name)(x)
        out.backward(np.ones_like(points))
    assert out.dtype == x.grad.dtype == dtype
    np.testing.assert_array_equal(getattr(mg, name)(points).data, out.data)
    bounds = BOUNDS[dtype][name]
    for i, point in enumerate(points.tolist()):
        assert ulp_error(out.data[i], value(mpf(point)), dtype) <= bounds[0], point
        error = abs(mpf(float(x.grad[i])) - derivative(mpf(point))) / ulp(term(mpf(point)), dtype)
        assert error <= bounds[1], point


def test_gelu_loses_nothing_far_out() -> None:
    x = mg.Tensor([-10.0, -30.0], requires_grad=True)
    out = mg.gelu(x)
    out.backward(np.ones(2))
    for i, v in enumerate((-10, -30)):
        assert float(abs(mpf(out.data[i]) / (v * below(v)) - 1)) < 1e-15
        assert float(abs(mpf(x.grad[i]) / (below(v) + v * phi(v)) - 1)) < 1e-15


def test_gelu_by_tanh_keeps_its_digits_too() -> None:
    points = [-12.0, -8.0, -3.0, 0.5, 20.0]
    x = mg.Tensor(points, requires_grad=True)
    out = mg.gelu(x, "tanh")
    out.backward(np.ones(5))

    def exact(v: Any) -> Any:
        return v * logistic(2 * mpmath.sqrt(2 / mpmath.pi) * (v + mpf(0.044715) * v**3))

    for i, v in enumerate(points):
        assert float(abs(mpf(out.data[i]) / exact(mpf(v)) - 1)) < 1e-13
        assert float(abs(mpf(x.grad[i]) / mpmath.diff(exact, mpf(v)) - 1)) < 1e-13


@pytest.mark.parametrize("name", [*EXACT, "gelu tanh", "leaky_relu"])
@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
def test_the_ends_of_the_line(name: str, dtype: str) -> None:
    name, *approximate = name.split()
    big = float(np.finfo(dtype).max)
    ends = [np.inf, -np.inf, np.nan, big, -big, 0.0]
    x = mg.Tensor(np.array(ends, dtype), requires_grad=True)
    with np.errstate(all="raise"):
        out = getattr(mg, name)(x, *approximate)
        out.backward(np.ones(6, dtype))
        np.testing.assert_array_equal(getattr(mg, name)(x.data, *approximate).data, out.data)
    low, high = {"erf": (-1.0, 1.0), "erfc": (2.0, 0.0), "leaky_relu": (None, np.inf)}.get(name, (0.0, np.inf))
    assert out.data[0] == high
    assert low is None or out.data[1] == out.data[4] == low
    assert np.isnan(out.data[2])
    assert np.isfinite(x.grad[[0, 1, 3, 4, 5]]).all()


@pytest.mark.parametrize("call", [mg.gelu, lambda x: mg.gelu(x, "tanh"), mg.silu])
def test_half_of_the_gradient_passes_at_0(call: Any) -> None:
    x = mg.Tensor([0.0, -0.0, 5e-324, -5e-324], requires_grad=True)
    call(x).backward(np.ones(4))
    assert x.grad.tolist() == [0.5] * 4


def test_leaky_relu_has_the_negative_slope_at_0() -> None:
    x = mg.Tensor([0.0, -0.0, 1.0, -1.0], requires_grad=True)
    mg.leaky_relu(x, 0.25).backward(np.array([1.0, 1.0, np.inf, 2.0]))
    assert x.grad.tolist() == [0.25, 0.25, np.inf, 0.5]


def test_leaky_relu_of_no_slope_takes_infinities() -> None:
    with np.errstate(all="raise"):
        assert mg.leaky_relu([np.inf, -1.0, 2.0], 0.0).tolist() == [np.inf, 0.0, 2.0]


# PyTorch

rng = np.random.default_rng(11)
X, W, B = rng.normal(size=(5, 4, 6)), rng.normal(size=6), rng.normal(size=6)
XC, WC, BC = rng.normal(size=(5, 4, 3, 2)) * 3 + 2, rng.normal(size=4), rng.normal(size=4)
Q, K, V = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(2, 3, 6, 4)), rng.normal(size=(2, 3, 6, 7))
MASK = rng.uniform(size=(5, 6)) < 0.6
MASK[:, 0] = True
INDICES = rng.integers(0, 6, (3, 8))
sdpa = "scaled_dot_product_attention"

# (arguments, call in minigrad, call in torch.nn.functional, with F for it and t for torch)
TORCH: dict[str, tuple[list[np.ndarray], Callable[..., Any], Callable[..., Any]]] = {
    "erf": ([X], mg.erf, lambda t, F, x: t.erf(x)),
    "erfc": ([X], mg.erfc, lambda t, F, x: t.erfc(x)),
    "gelu": ([X * 2], mg.gelu, lambda t, F, x: F.gelu(x)),
    "gelu tanh": ([X], lambda x: mg.gelu(x, "tanh"), lambda t, F, x: F.gelu(x, approximate="tanh")),
    "silu": ([X * 3], mg.silu, lambda t, F, x: F.silu(x)),
    "leaky_relu": ([np.append(X, 0.0)], lambda x: mg.leaky_relu(x, 0.2), lambda t, F, x: F.leaky_relu(x, 0.2)),
    "layer_norm": (
        [X, W, B],
        lambda x, w, b: mg.layer_norm(x, 6, w, b),
        lambda t, F, x, w, b: F.layer_norm(x, (6,), w, b),
    ),
    "layer_norm, 2 axes": (
        [X],
        lambda x: mg.layer_norm(x, (4, 6), eps=0.1),
        lambda t, F, x: F.layer_norm(x, (4, 6), eps=0.1),
    ),
    "rms_norm": ([X, W], lambda x, w: mg.rms_norm(x, 6, w), lambda t, F, x, w: F.rms_norm(x, (6,), w)),
    "rms_norm, eps": ([X], lambda x: mg.rms_norm(x, (4, 6), eps=0.1), lambda t, F, x: F.rms_norm(x, (4, 6), eps=0.1)),
    "batch_norm": ([XC, WC, BC], mg.batch_norm, lambda t, F, x, w, b: F.batch_norm(x, None, None, w, b, training=True)),
    "batch_norm, (N, C)": ([XC[..., 0, 0]], mg.batch_norm, lambda t, F, x: F.batch_norm(x, None, None, training=True)),
    "batch_norm, (N, C, L)": (
        [XC[..., 0], WC, BC],
        lambda x, w, b: mg.batch_norm(x, w, b, eps=0.1),
        lambda t, F, x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=0.1),
    ),
    "embedding": (
        [W[:, None] + B],
        lambda w: mg.embedding(w, INDICES),
        lambda t, F, w: F.embedding(t.tensor(INDICES), w),
    ),
    "embedding, padding": (
        [W[:, None] + B],
        lambda w: mg.embedding(w, INDICES, padding_idx=-2),
        lambda t, F, w: F.embedding(t.tensor(INDICES), w, padding_idx=-2),
    ),
    "attention": ([Q, K, V], mg.scaled_dot_product_attention, lambda t, F, *x: getattr(F, sdpa)(*x)),
    "attention, scale": (
        [Q, K, V],
        lambda *x: mg.scaled_dot_product_attention(*x, scale=0.3),
        lambda t, F, *x: getattr(F, sdpa)(*x, scale=0.3),
    ),
    "attention, causal": (
        [Q, K, V],
        lambda *x: mg.scaled_dot_product_attention(*x, is_causal=True),
        lambda t, F, *x: getattr(F, sdpa)(*x, is_causal=True),
    ),
    "attention, mask": (
        [Q, K, V],
        lambda *x: mg.scaled_dot_product_attention(*x, MASK),
        lambda t, F, *x: getattr(F, sdpa)(*x, t.tensor(MASK)),
    ),
    "attention, scores": (
        [Q, K, V, np.asarray(MASK * 2.0)],
        mg.scaled_dot_product_attention,
        lambda t, F, *x: getattr(F, sdpa)(*x),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_value_and_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    arrays, mine, theirs = TORCH[name]
    ours = [mg.Tensor(x, requires_grad=True) for x in arrays]
    others = [torch.tensor(x, requires_grad=True) for x in arrays]
    out, want = mine(*ours), theirs(torch, torch.nn.functional, *others)
    dout = np.random.default_rng(1).normal(size=out.shape)
    out.backward(dout)
    want.backward(torch.tensor(dout))
    np.testing.assert_allclose(out.data, want.detach().numpy(), rtol=1e-12, atol=1e-13)
    for x, y in zip(ours, others, strict=True):
        np.testing.assert_allclose(x.grad, y.grad.numpy(), rtol=1e-12, atol=1e-12)


# Normalisation


def test_layer_norm_of_a_large_mean() -> None:
    row = [1e8 + 0.1, 1e8 + 1.3, 1e8 + 2.2, 1e8 - 3.7, 1e8 + 0.6]
    x = mg.Tensor([row], requires_grad=True)
    out = mg.layer_norm(x, 5)
    out.backward(np.array([[1.0, 0.0, 0.0, 0.0, 0.0]]))
    exact = [Fraction(v) for v in row]
    mean = sum(exact) / 5
    var = sum((v - mean) ** 2 for v in exact) / 5
    rstd = 1 / mpmath.sqrt(mpf(var.numerator) / var.denominator + mpf(1e-5))
    xhat = [mpf((v - mean).numerator) / (v - mean).denominator * rstd for v in exact]
    np.testing.assert_allclose(out.data[0], [float(v) for v in xhat], rtol=1e-14)
    dx = [rstd * ((i == 0) - mpf(1) / 5 - v * xhat[0] / 5) for i, v in enumerate(xhat)]
    np.testing.assert_allclose(x.grad[0], [float(v) for v in dx], rtol=1e-13)


def test_batch_norm_of_a_large_mean() -> None:
    small = np.array([[0.5], [1.25], [3.0], [-2.0]])
    want = mg.batch_norm(small).data
    np.testing.assert_allclose(mg.batch_norm(small + 2.0**30).data, want, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
def test_equal_values_are_normalised_to_0(dtype: str) -> None:
    x = mg.Tensor(np.full((3, 7), 0.1, dtype), requires_grad=True)
    with np.errstate(all="raise"):
        for out in (mg.layer_norm(x, 7), mg.batch_norm(x)):
            assert (out.data == 0).all()
            out.backward(np.arange(21, dtype=dtype).reshape(3, 7))
    assert np.isfinite(x.grad).all()


def test_rms_norm_of_zeros_is_0() -> None:
    x = mg.Tensor(np.zeros((2, 3)), requires_grad=True)
    with np.errstate(all="raise"):
        mg.rms_norm(x, 3).backward(np.ones((2, 3)))
    assert np.isfinite(x.grad).all()


def test_float16_rows_whose_squares_overflow() -> None:
    x = np.array([[300.0, -400.0, 500.0, 1000.0]], np.float16)
    for norm in (mg.layer_norm, mg.rms_norm):
        np.testing.assert_allclose(norm(x, 4).data, norm(x.astype(float), 4).data, rtol=2e-3)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "batch_norm, (N, C, L)"])
def test_many_stretches_give_what_one_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, mine, _ = TORCH[name]
    dout = np.random.default_rng(2).normal(size=arrays[0].shape)
    results = []
    for block in (2**20, 30, 1):
        monkeypatch.setattr(normalization, "_BLOCK", block)
        monkeypatch.setattr(normalization, "_CHANNELS_BLOCK", block)
        leaves = [mg.Tensor(x, requires_grad=True) for x in arrays]
        out = mine(*leaves)
        out.backward(dout)
        results.append([out.data, *(x.grad for x in leaves), *batch_statistics(XC)])
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("call", [mg.gelu, lambda x: mg.gelu(x, "tanh"), mg.silu, mg.erf, mg.erfc])
def test_blocks_of_activations_join(call: Any) -> None:
    values = np.random.default_rng(0).normal(size=70_001) * 3
    places = [0, 32767, 32768, 65536, 70_000]
    results = []
    for x in (mg.Tensor(values, requires_grad=True), mg.Tensor(values[places], requires_grad=True)):
        out = call(x)
        out.backward(np.ones(x.shape))
        results.append((out.data, x.grad))
    for whole, part in zip(*results, strict=True):
        np.testing.assert_allclose(whole[places], part, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_statistics(dtype: str) -> None:
    x = XC.astype(dtype)
    recorded = mg.batch_norm(mg.Tensor(x, requires_grad=True), WC.astype(dtype))
    for out in (None, mg.batch_norm(x), recorded):
        mean, var = batch_statistics(x, out)
        assert mean.dtype == var.dtype == dtype
        np.testing.assert_allclose(mean, x.mean((0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(var, x.var((0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    "norm", [lambda x, w: mg.layer_norm(x, 3, w), lambda x, w: mg.rms_norm(x, 3, w), mg.batch_norm]
)
def test_integers_are_normalised_as_floats(norm: Any) -> None:
    x, results = np.array([[1, 2, 4], [3, 9, 27]]), []
    for values in (x, x.astype(float)):
        weight = mg.Tensor(np.ones(3), requires_grad=True)
        out = norm(values, weight)
        out.backward(np.array([[1.0, 2.0, 3.0], [3.0, 5.0, 8.0]]))
        results.append((out.data, weight.grad))
    for got, want in zip(*results, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "norm",
    [lambda x, w: mg.layer_norm(x, 3, w, w), lambda x, w: mg.rms_norm(x, 3, w), lambda x, w: mg.batch_norm(x, w, w)],
)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "bool"])
def test_integers_take_the_dtype_of_the_weight(norm: Any, dtype: str) -> None:
    x, dout = np.array([[9, 1, 4], [3, 200, 27], [1, 1, 0]]).astype(dtype), np.arange(9.0).reshape(3, 3)
    for wanted in ("float16", "float32", "float64"):
        found = []
        for values in (x, x.astype(wanted)):
            weight = mg.Tensor(np.array([0.5, 1.0, 2.0], wanted), requires_grad=True)
            out = norm(values, weight)
            (dw,) = mg.grad(out, [weight], dout.astype(wanted), create_graph=True)
            found.append((out.data, dw.data))
            assert out.dtype == dw.dtype == wanted
        np.testing.assert_array_equal(found[0][0], found[1][0])
        np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)
    assert mg.layer_norm(x, 3).dtype == mg.rms_norm(x, 3).dtype == mg.batch_norm(x).dtype == "f8"


def test_a_wider_weight_widens_the_result() -> None:
    x = X.astype("float32")
    assert (
        mg.layer_norm(x, 6, W).dtype == mg.rms_norm(x, 6, W).dtype == mg.batch_norm(XC.astype("f4"), WC).dtype == "f8"
    )


# Embedding


def test_a_row_named_several_times_gets_the_sum() -> None:
    w = mg.Tensor(np.zeros((4, 2)), requires_grad=True)
    out = mg.embedding(w, [[3, 0], [3, 3]])
    out.backward(np.arange(8.0).reshape(2, 2, 2))
    assert w.grad.tolist() == [[2.0, 3.0], [0.0, 0.0], [0.0, 0.0], [10.0, 13.0]]


def test_padding_gets_no_gradient_even_if_infinite() -> None:
    w = mg.Tensor(np.ones((3, 2)), requires_grad=True)
    mg.embedding(w, [0, 2, 0], padding_idx=0).backward(np.array([[np.inf, 1.0], [2.0, 3.0], [4.0, np.nan]]))
    assert w.grad.tolist() == [[0.0, 0.0], [0.0, 0.0], [2.0, 3.0]]


def test_indices_changed_after_the_call_do_not_matter() -> None:
    w, indices = mg.Tensor(np.ones((3, 1)), requires_grad=True), np.array([0, 0])
    out = mg.embedding(w, indices)
    indices[:] = 2
    out.backward(np.ones((2, 1)))
    assert w.grad.tolist() == [[2.0], [0.0], [0.0]]


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
def test_scatter_of_rows_equals_add_at(dtype: str) -> None:
    index = np.random.default_rng(0).integers(-5, 5, (4, 9))
    rows = np.random.default_rng(1).integers(-8, 8, (4, 9, 2, 3)).astype(dtype)  # sums of these are exact
    want = np.zeros((5, 2, 3), dtype)
    np.add.at(want, index, rows)
    got = mg.ops.scatter(rows, index, (5, 2, 3))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.data, want)


def test_narrow_integers_name_rows_beyond_their_range_times_the_width() -> None:
    got = mg.ops.scatter(np.ones((1, 2)), np.array([200], np.uint8), (201, 2))
    assert np.argwhere(got.data).tolist() == [[200, 0], [200, 1]]


# Attention


def attention(*args: Any, dout: Any = None, **kwargs: Any) -> tuple[Any, list[Any]]:
    leaves = [mg.Tensor(x, requires_grad=True) for x in args]
    out = mg.scaled_dot_product_attention(*leaves, **kwargs)
    out.backward(np.ones(out.shape, out.dtype) if dout is None else dout)
    return out.data, [x.grad for x in leaves]


@pytest.mark.parametrize("as_floats", [False, True])
def test_a_query_without_keys_gives_0(as_floats: bool) -> None:
    mask: Any = np.array([[True, False, True], [False, False, False]])
    q, k, v = Q[0, 0, :2], K[0, 0, :3], V[0, 0, :3]
    with np.errstate(all="raise"):
        given = np.where(mask, 0.0, -np.inf) if as_floats else mask
        out, (dq, dk, dv) = attention(q, k, v, attn_mask=given)
    _, (dq1, dk1, dv1) = attention(q[:1], k[[0, 2]], v[[0, 2]])
    assert (out[1] == 0).all()
    assert (dq[1] == 0).all()
    np.testing.assert_allclose(dq[:1], dq1, rtol=1e-12)
    np.testing.assert_allclose(dk, np.insert(dk1, 1, 0, 0), rtol=1e-12)
    np.testing.assert_allclose(dv, np.insert(dv1, 1, 0, 0), rtol=1e-12)


@pytest.mark.parametrize("as_floats", [False, True])
def test_second_order_of_a_query_without_keys_is_finite(as_floats: bool) -> None:
    mask: Any = np.array([[True, False, True], [False, False, False]])
    leaves = [mg.Tensor(x, requires_grad=True) for x in (Q[0, 0, :2], K[0, 0, :3], V[0, 0, :3])]
    given = np.where(mask, 0.0, -np.inf) if as_floats else mask
    out = mg.scaled_dot_product_attention(*leaves, given)
    first = mg.grad(mg.sum(out * out), leaves, create_graph=True)
    second = mg.grad(sum(mg.sum(g * g) for g in first), leaves)
    assert all(np.isfinite(g.data).all() for g in second)
    assert (second[0].data[1] == 0).all()


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
def test_huge_logits_stay_finite(dtype: str) -> None:
    q = np.array([[300.0, 0.0], [0.0, -300.0]], dtype)  # products of 9e4, which float16 does not have
    k = np.array([[300.0, 0.0], [-300.0, 0.0], [0.0, 300.0]], dtype)
    v = np.array([[1.0], [2.0], [4.0]], dtype)
    with np.errstate(all="raise"):
        out, grads = attention(q, k, v, scale=1.0)
    assert out.tolist() == [[1.0], [1.5]]
    assert all(np.isfinite(g).all() and g.dtype == dtype for g in grads)


def test_the_gradient_of_a_confident_query_keeps_its_digits() -> None:
    q, k, v = np.array([[40.0]]), np.array([[1.0], [0.0]]), np.array([[0.3], [1.7]])
    _, (dq, dk, _) = attention(q, k, v, scale=1.0)
    p = logistic(-40) * logistic(40) * (mpf(1.7) - mpf(0.3))
    np.testing.assert_allclose(dq, [[float(-p)]], rtol=1e-14)
    np.testing.assert_allclose(dk, [[float(-40 * p)], [float(40 * p)]], rtol=1e-14)


def test_heads_share_keys_and_masks_by_broadcasting() -> None:
    q, k, v = Q[0], K[0, 0], V[0, 0]
    mask = np.random.default_rng(0).normal(size=(1, 6))
    out, (dq, dk, dv, dmask) = attention(q, k, v, mask)
    each = [attention(q[i], k, v, mask) for i in range(3)]
    np.testing.assert_allclose(out, [o for o, _ in each], rtol=1e-13)
    np.testing.assert_allclose(dq, [g[0] for _, g in each], rtol=1e-12)
    for i, got in enumerate((dk, dv, dmask), 1):
        np.testing.assert_allclose(got, sum(g[i] for _, g in each), rtol=1e-12, atol=1e-14)


def test_values_with_more_heads_than_queries_under_a_mask() -> None:
    q, k, v = Q[0, 0], K[0, 0], V[0]
    masks = np.stack([MASK, ~MASK, MASK])
    out, (dq, _, _) = attention(q, k, v, attn_mask=masks)
    each = [attention(q, k, v[i], attn_mask=masks[i]) for i in range(3)]
    np.testing.assert_allclose(out, [o for o, _ in each], rtol=1e-13)
    np.testing.assert_allclose(dq, sum(g[0] for _, g in each), rtol=1e-12, atol=1e-14)


# Errors: (call, class, what the four parts must mention)

x23, x234 = np.ones((2, 3)), np.ones((2, 3, 4))
MISTAKES: dict[str, tuple[Callable[[], Any], type[MinigradError], list[str]]] = {
    "gelu": (lambda: mg.gelu(x23, "fast"), ArgumentError, ["gelu: approximate", "'fast'", '"tanh"']),
    "leaky": (lambda: mg.leaky_relu(x23, "0.1"), DTypeError, ["leaky_relu: negative_slope", "'0.1'"]),
    "layer_norm shape": (
        lambda: mg.layer_norm(x23, 2), ShapeError, ["layer_norm: normalized_shape", "(2, 3)", "(2,)", "=(3,)"]
    ),
    "layer_norm too many axes": (lambda: mg.layer_norm(x23, (1, 2, 3)), ShapeError, ["normalized_shape", "(1, 2, 3)"]),
    "layer_norm of nothing": (lambda: mg.layer_norm(np.ones((2, 0)), 0), ShapeError, ["(2, 0)", "none of them 0"]),
    "layer_norm type": (lambda: mg.layer_norm(x23, 3.0), DTypeError, ["normalized_shape=3.0", "integer"]),
    "layer_norm weight": (lambda: mg.layer_norm(x23, 3, np.ones(2)), ShapeError, ["norm: weight", "(2,)", "(3,)"]),
    "layer_norm bias": (
        lambda: mg.layer_norm(x23, 3, None, np.ones(1)), ShapeError, ["layer_norm: bias", "(1,)", "np.zeros((3,))"]
    ),
    "layer_norm eps": (lambda: mg.layer_norm(x23, 3, eps=-1e-5), ArgumentError, ["layer_norm: eps", "-1e-05"]),
    "rms_norm shape": (lambda: mg.rms_norm(x23, (2,)), ShapeError, ["rms_norm: normalized_shape", "(2, 3)", "(2,)"]),
    "rms_norm eps": (lambda: mg.rms_norm(x23, 3, eps=float("nan")), ArgumentError, ["rms_norm: eps", "nan"]),
    "rms_norm weight": (lambda: mg.rms_norm(x23, 3, np.ones((2, 3))), ShapeError, ["rms_norm: weight", "(2, 3)"]),
    "batch_norm one value": (
        lambda: mg.batch_norm(np.ones((1, 3))), ArgumentError,
        ["batch_norm: x", "(1, 3)", "more than one value per channel", "model.eval()"],
    ),
    "batch_norm no value": (lambda: mg.batch_norm(np.ones((0, 3))), ArgumentError, ["(0, 3)", "more than one value"]),
    "batch_norm axes": (lambda: mg.batch_norm(np.ones(3)), ShapeError, ["batch_norm: x", "(3,)", "(N, C)"]),
    "batch_norm weight": (lambda: mg.batch_norm(x23, np.ones(2)), ShapeError, ["batch_norm: weight", "3 channels"]),
    "batch_norm eps": (lambda: mg.batch_norm(x23, eps=-1), ArgumentError, ["batch_norm: eps", "-1"]),
    "embedding range": (
        lambda: mg.embedding(x23, [[0, 5], [2, 1]]), LabelError,
        ["embedding: indices", "indices[0, 1] = 5", "indices[1, 0] = 2", "2 rows", "6 rows"],
    ),
    "embedding many": (lambda: mg.embedding(x23, [7] * 9), LabelError, ["indices[2] = 7 and 6 more"]),
    "embedding negative": (lambda: mg.embedding(x23, [0, -1]), LabelError, ["indices[1] = -1", "padding_idx"]),
    "embedding of nothing": (lambda: mg.embedding(np.ones((0, 2)), [0]), LabelError, ["indices[0] = 0", "0 rows"]),
    "embedding floats": (lambda: mg.embedding(x23, [0.0]), DTypeError, ["embedding: indices", "float64", "astype"]),
    "embedding weight": (lambda: mg.embedding(np.ones(3), [0]), ShapeError, ["embedding: weight", "(3,)"]),
    "embedding padding": (lambda: mg.embedding(x23, [0], 2), ArgumentError, ["embedding: padding_idx", "=2"]),
    "attention widths": (
        lambda: mg.scaled_dot_product_attention(x234, np.ones((2, 5, 3)), np.ones((2, 5, 4))), ShapeError,
        ["attention: key", "(2, 3, 4)", "(2, 5, 3)", "e is 4 in query and 3 in key"],
    ),
    "attention lengths": (
        lambda: mg.scaled_dot_product_attention(x23, x23, np.ones((3, 1))), ShapeError,
        ["attention: value", "s is 2 in key and 3 in value"],
    ),
    "attention axes": (lambda: mg.scaled_dot_product_attention(np.ones(3), x23, x23), ShapeError, ["query has 1 axes"]),
    "attention batch": (
        lambda: mg.scaled_dot_product_attention(x234, np.ones((3, 3, 4)), x234), ShapeError, ["axis -1 is 2 in query"]
    ),
    "attention without keys": (
        lambda: mg.scaled_dot_product_attention(x23, np.ones((0, 3)), np.ones((0, 2))), ShapeError, ["0 keys"]
    ),
    "attention mask shape": (
        lambda: mg.scaled_dot_product_attention(x23, x23, x23, np.ones((3, 2), bool)), ShapeError,
        ["attention: attn_mask", "bool (3, 2)", "(2, 2)"],
    ),
    "attention mask with more axes": (
        lambda: mg.scaled_dot_product_attention(x23, x23, x23, np.ones((4, 2, 2), bool)), ShapeError, ["(4, 2, 2)"]
    ),
    "attention mask of integers": (
        lambda: mg.scaled_dot_product_attention(x23, x23, x23, np.ones((2, 2), int)), DTypeError,
        ["attn_mask", "int64 (2, 2)", "astype(bool)"],
    ),
    "attention mask and causal": (
        lambda: mg.scaled_dot_product_attention(x23, x23, x23, np.ones((2, 2), bool), True), ArgumentError,
        ["attn_mask", "is_causal=True", "np.tri"],
    ),
    "attention scale": (
        lambda: mg.scaled_dot_product_attention(x23, x23, x23, scale=float("inf")), ArgumentError, ["scale", "inf"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name: str) -> None:
    call, kind, texts = MISTAKES[name]
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert all((caught.value.function, caught.value.got, caught.value.expected, caught.value.fix))
    for text in texts:
        assert text in str(caught.value)
