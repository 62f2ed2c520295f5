"""rnn, lstm, gru and their layers: against PyTorch, the unfused graph, and exact values in the tails."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import ArgumentError, DTypeError, ShapeError, Tensor, nn, unfused
from minigrad.nn.recurrent import GRU, LSTM, RNN

LAYERS: dict[str, Any] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
every_layer = pytest.mark.parametrize("name", LAYERS)


def filled(shape: tuple[int, ...], k: int) -> np.ndarray:
    """Numbers that anybody can compute again: a sine."""
    return np.sin(np.arange(int(np.prod(shape))) * 0.7 + k).reshape(shape) * 0.5


def states_of(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def arguments(name: str, T: int, N: int, I: int, H: int, seed: int = 0, dtype: str = "float64") -> list[np.ndarray]:  # noqa: E741  # the sizes of the docstrings
    rng = np.random.default_rng(seed)
    g = GATES[name] * H
    states = [(N, H)] * (2 if name == "LSTM" else 1)
    shapes = [(T, N, I), *states, (g, I), (g, H), (g,), (g,)]
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def close(got: Any, want: Any, tolerance: float = 1e-12) -> None:
    got, want = (np.asarray(getattr(a, "data", a)) for a in (got, want))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1.0, float(np.max(np.abs(want)))))


# Against PyTorch


@every_layer
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_values_and_gradients_are_pytorchs(name: str, num_layers: int, bidirectional: bool) -> None:
    torch = pytest.importorskip("torch")
    for batch_first, bias, with_states, batched in itertools.product([False, True], repeat=4):
        options: dict[str, Any] = {
            "num_layers": num_layers, "bidirectional": bidirectional, "batch_first": batch_first, "bias": bias,
        }  # fmt: skip
        if name == "RNN" and bias:
            options["nonlinearity"] = "relu"
        theirs = getattr(torch.nn, name)(3, 4, dtype=torch.float64, **options)
        ours = LAYERS[name](3, 4, **options)
        state = {key: value.numpy() for key, value in theirs.state_dict().items()}
        assert list(ours.state_dict()) == list(state)
        ours.load_state_dict(state)
        rng = np.random.default_rng(1)
        arrays = [rng.normal(size=(5, 2, 3) if batched else (5, 3))]
        count = num_layers * (2 if bidirectional else 1)
        shape = ((count, 5, 4) if batch_first else (count, 2, 4)) if batched else (count, 4)
        arrays += [rng.normal(size=shape) for _ in range(2 if name == "LSTM" else 1)] if with_states else []
        sides = []
        for make, module, lib in (
            (lambda a: torch.tensor(a, requires_grad=True), theirs, torch),
            (lambda a: Tensor(a, requires_grad=True), ours, mg),
        ):
            x, *first = map(make, arrays)
            out, last = module(x, *([tuple(first)] if name == "LSTM" else first) if first else [])
            results = [out, *states_of(last)]
            sum(lib.sum(lib.sin(result) * (k + 1)) for k, result in enumerate(results)).backward()
            grads = [leaf.grad for leaf in (x, *first, *module.parameters())]
            sides.append([*[r.detach() for r in results], *grads])
        assert len(sides[0]) == len(sides[1])
        for want, got in zip(*sides, strict=True):
            close(got, want.numpy())


# What PyTorch 2.13 gave for the layers of two directions below: two of out, one of the last state, dx, and gradients of
# weight_ih_l0, weight_hh_l1_reverse and bias_hh_l0.
FIGURES = {
    "RNN": (-0.6590783661784752, 0.45973598396443527, -0.5003400995863589, 0.13068037843724603, 0.3171626964036939,
            2.649678228669962, 2.7757566682895516),
    "LSTM": (0.08372981686166477, -0.22631571021502797, 0.1839646570640735, 0.3065941243929277, 0.12594728198289362,
             -0.17471109654990374, 0.1156036830203197),
    "GRU": (0.04716639436915433, -0.564519001348176, -0.0010660397240489505, 0.10656230156782157,
            -0.00105058183781833, 0.0006663633765636445, -0.2975280542576338),
}  # fmt: skip


@every_layer
def test_stored_figures_of_pytorch(name: str) -> None:
    layer = LAYERS[name](3, 2, num_layers=2, bidirectional=True)
    layer.load_state_dict({key: filled(p.shape, k) for k, (key, p) in enumerate(layer.named_parameters())})
    x = Tensor(filled((4, 2, 3), 100), requires_grad=True)
    out, last = layer(x)
    (mg.sum(mg.sin(out)) + sum(mg.sum(s * s) for s in states_of(last))).backward()
    assert x.grad is not None
    p = dict(layer.named_parameters())
    got = [out.data[0, 0, 0], out.data[3, 1, 3], states_of(last)[-1].data[2, 1, 0], x.grad[1, 0, 2]]
    got += [p["weight_ih_l0"].grad[1, 0], p["weight_hh_l1_reverse"].grad[1, 1], p["bias_hh_l0"].grad[-1]]
    np.testing.assert_allclose(got, FIGURES[name], rtol=1e-12)


# Against the unfused graph


def both(name: str, f: Any) -> list[list[np.ndarray]]:
    """f of the fused op and of its twin."""
    key = name.lower()
    return [f(getattr(module, key)) for module in (mg, unfused)]


@pytest.mark.parametrize(("name", "options"), [*[(n, {}) for n in LAYERS], ("RNN", {"nonlinearity": "relu"})])
def test_fused_equals_unfused_to_second_order_with_and_without_each_gradient(name: str, options: Any) -> None:
    arrays = arguments(name, 4, 3, 2, 3)
    for wanted in ([True] * len(arrays), *[[i == k for i in range(len(arrays))] for k in range(len(arrays))]):

        def results(f: Any, wanted: Any = wanted) -> list[np.ndarray]:
            xs = [Tensor(a, requires_grad=w) for a, w in zip(arrays, wanted, strict=True)]
            out = f(*xs, **options)
            leaves = [x for x in xs if x.requires_grad]
            first = mg.grad(out, leaves, filled(out.shape, 1), create_graph=True)
            total = sum(mg.sum(g * filled(g.shape, 2 + i)) for i, g in enumerate(first))
            second = mg.grad(total, leaves, allow_unused=True) if total.requires_grad else []
            return [out.data, *[g.data for g in first], *[g.data if g is not None else np.zeros(1) for g in second]]

        for got, want in zip(*both(name, results), strict=True):
            close(got, want, 1e-11)


@every_layer
def test_second_order_where_one_argument_comes_from_another(name: str) -> None:
    # A path from h0 to x outside the op must not be taken for one through it.
    arrays = arguments(name, 3, 2, 2, 2)

    def results(f: Any) -> list[np.ndarray]:
        x = Tensor(arrays[0], requires_grad=True)
        W = Tensor(arrays[-3], requires_grad=True)
        h0 = mg.sin(x[0]) * W[:2]
        out = f(x, h0, *arrays[2:-4], arrays[-4] * 0.5 + W * 0.1, W, *arrays[-2:])
        (dx,) = mg.grad(out, [x], filled(out.shape, 1), create_graph=True)
        (dh,) = mg.grad(out, [h0], filled(out.shape, 1), create_graph=True)
        return [dx.data, dh.data, *[g.data for g in mg.grad(mg.sum(dx * dx) + mg.sum(dh * dh), [x, W])]]

    for got, want in zip(*both(name, results), strict=True):
        close(got, want, 1e-11)


def test_relu_has_gradient_0_at_0() -> None:
    x = Tensor(np.zeros((2, 1, 1)), requires_grad=True)
    out = mg.rnn(x, [[0.0]], [[1.0]], [[1.0]], nonlinearity="relu")
    (dx,) = mg.grad(out, [x], np.ones((2, 1, 1)), create_graph=True)
    np.testing.assert_array_equal(dx.data, 0)
    out.backward(np.ones((2, 1, 1)))
    np.testing.assert_array_equal(x.grad, 0)


# Saturated gates


def sigmoid_slope(x: float) -> Any:
    e = mpmath.exp(-abs(mpmath.mpf(x)))
    return e / (1 + e) ** 2


SATURATED = [-60.0, -40.0, -20.0, 18.0, 40.0, 60.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("b", SATURATED)
def test_a_saturated_gate_of_lstm_keeps_its_gradient(b: float, dtype: str) -> None:
    # One step: i = f = o = sigmoid(0) but for the gate that gets b, g = tanh(1), c0 = 0.5.
    tanh, half = mpmath.tanh(1), mpmath.mpf(1) / 2
    for gate in range(4):
        bias = np.array([0.0, 0.0, 1.0, 0.0], dtype)
        bias[gate] = b
        b_ih = Tensor(bias, requires_grad=True)
        zeros = np.zeros((1, 1), dtype)
        mg.lstm(zeros[None], zeros, zeros + dtype_of(dtype)(0.5), np.zeros((4, 1), dtype), np.zeros((4, 1), dtype),
                b_ih)[0].backward([[1.0]])  # fmt: skip
        s = 1 / (1 + mpmath.exp(-mpmath.mpf(b)))
        i, f, g, o = (half, half, tanh, half)
        i, f, g, o = [(s, f, g, o), (i, s, g, o), (i, f, mpmath.tanh(b), o), (i, f, g, s)][gate]
        c = f * half + i * g
        through_c = o / mpmath.cosh(c) ** 2
        slope = 1 / mpmath.cosh(b) ** 2 if gate == 2 else sigmoid_slope(b)
        want = [through_c * g, through_c * half, through_c * i, mpmath.tanh(c)][gate] * slope
        assert b_ih.grad is not None
        got = float(b_ih.grad[gate])
        if want < np.finfo(dtype).tiny:
            assert 0 <= got <= np.finfo(dtype).tiny
        else:
            assert got == pytest.approx(float(want), rel=50 * float(np.finfo(dtype).eps))


def dtype_of(dtype: str) -> Any:
    return np.dtype(dtype).type


@pytest.mark.parametrize("b", SATURATED)
def test_a_saturated_gate_of_gru_keeps_its_gradient(b: float) -> None:
    # One step: h0 = 0.25, h's part of n is 0.5, x's part is 0.
    for gate in range(3):
        bias = np.zeros(3)
        bias[gate] = b
        b_ih = Tensor(bias, requires_grad=True)
        mg.gru(np.zeros((1, 1, 1)), [[0.25]], np.zeros((3, 1)), np.zeros((3, 1)), b_ih, [0.0, 0.0, 0.5]).backward(
            [[[1.0]]]
        )
        s, half = 1 / (1 + mpmath.exp(-mpmath.mpf(b))), mpmath.mpf(1) / 2
        r, z, add = [(s, half, 0), (half, s, 0), (half, half, mpmath.mpf(b))][gate]
        p = add + r * half
        n = mpmath.tanh(p)
        on_n = (1 - z) / mpmath.cosh(p) ** 2
        want = [on_n * half * sigmoid_slope(b), (mpmath.mpf(0.25) - n) * sigmoid_slope(b), on_n][gate]
        assert b_ih.grad is not None
        assert float(b_ih.grad[gate]) == pytest.approx(float(want), rel=1e-14)


@pytest.mark.parametrize("b", [-300.0, -20.0, 0.5, 40.0, 300.0])
def test_a_saturated_rnn_keeps_its_gradient(b: float) -> None:
    b_ih = Tensor([b], requires_grad=True)
    mg.rnn([[[0.0]]], [[0.0]], [[0.0]], [[0.0]], b_ih).backward([[[1.0]]])
    assert b_ih.grad is not None
    assert float(b_ih.grad[0]) == pytest.approx(float(1 / mpmath.cosh(b) ** 2), rel=1e-13)


@every_layer
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_enormous_inputs_give_finite_gradients_without_a_warning(name: str, dtype: str) -> None:
    xs = [Tensor(a, requires_grad=True) for a in arguments(name, 4, 2, 2, 3, dtype=dtype)]
    xs[0] = Tensor(xs[0].data * dtype_of(dtype)(5000), requires_grad=True)
    with np.errstate(all="raise"):
        out = getattr(mg, name.lower())(*xs)
    out.backward(np.ones(out.shape, dtype))
    assert out.dtype == dtype
    for x in xs:
        assert x.grad is not None
        assert x.grad.dtype == dtype
        assert np.isfinite(x.grad).all()


@every_layer
def test_float16_is_computed_in_float32_and_rounded_once(name: str) -> None:
    arrays = arguments(name, 20, 2, 3, 4, dtype="float16")
    f = getattr(mg, name.lower())
    out = f(*arrays).data
    wide = f(*[a.astype("float64") for a in arrays]).data
    assert out.dtype == np.float16
    assert np.all(np.abs(out - wide) <= 0.51 * np.spacing(np.abs(wide).astype("float16")).astype(float) + 1e-5)


@every_layer
def test_gradients_of_biases_add_up_without_loss(name: str) -> None:
    """Of 50,000 samples of one step, each with the same gradient."""
    N = 50_000
    arrays = [np.zeros_like(a, "float32") for a in arguments(name, 1, N, 1, 2)]
    xs = [Tensor(a, requires_grad=True) for a in arrays]
    few = [
        Tensor(a[:, :1] if i == 0 else a[:1] if a.shape[0] == N else a, requires_grad=True)
        for i, a in enumerate(arrays)
    ]
    for tensors in (xs, few):
        out = getattr(mg, name.lower())(*tensors)
        out.backward(np.full(out.shape, 0.1, "float32"))
    for one, all_of_them in zip(few[-2:], xs[-2:], strict=True):
        assert one.grad is not None
        assert all_of_them.grad is not None
        np.testing.assert_allclose(all_of_them.grad, one.grad.astype(float) * N, rtol=2e-6)


# Properties


@every_layer
@settings(max_examples=25)
@given(
    T=st.integers(1, 6), cut=st.integers(1, 5), N=st.integers(1, 4), I=st.integers(1, 4), H=st.integers(1, 5),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_samples_are_independent_and_a_run_can_be_continued(
    name: str, T: int, cut: int, N: int, I: int, H: int, seed: int  # noqa: E741  # the sizes of the docstrings
) -> None:  # fmt: skip
    layer = LAYERS[name](I, H, num_layers=2, generator=np.random.default_rng(seed))
    x = np.random.default_rng(seed + 1).normal(size=(T, N, I))
    out, last = layer(x)
    assert out.shape == (T, N, H)
    for n in range(N):
        alone, end = layer(x[:, n])
        close(alone, out.data[:, n], 1e-13)
        for a, b in zip(states_of(end), states_of(last), strict=True):
            close(a, b.data[:, n], 1e-13)
    cut = min(cut, T - 1)
    if cut:
        first, state = layer(x[:cut])
        second, end = layer(x[cut:], state)
        close(np.concatenate([first.data, second.data]), out, 1e-13)
        for a, b in zip(states_of(end), states_of(last), strict=True):
            close(a, b, 1e-13)


@every_layer
def test_long_sequences_in_stretches_that_fit_the_cache_equal_one_by_one(name: str) -> None:
    # Large enough for several stretches of steps, of which the last is shorter.
    arrays = arguments(name, 7, 40, 3, 64, dtype="float64")
    arrays = [a * 0.1 for a in arrays]
    for got, want in zip(*both(name, lambda f: first_order(f, arrays)), strict=True):
        close(got, want, 1e-11)


def first_order(f: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    xs = [Tensor(a, requires_grad=True) for a in arrays]
    out = f(*xs)
    return [out.data, *[g.data for g in mg.grad(out, xs, filled(out.shape, 1))]]


# Layers


@every_layer
def test_initial_weights_are_even_within_one_over_root_of_hidden(name: str) -> None:
    layer = LAYERS[name](3, 25, dtype="float32", generator=np.random.default_rng(0))
    again = LAYERS[name](3, 25, dtype="float32", generator=np.random.default_rng(0))
    for (key, p), q in zip(layer.named_parameters(), again.parameters(), strict=True):
        assert p.dtype == np.float32, key
        assert 0.15 < np.max(np.abs(p.data)) <= 0.2
        np.testing.assert_array_equal(p.data, q.data)
    out, _ = layer(np.ones((2, 1, 3), "float32"))
    assert out.dtype == np.float32


@every_layer
def test_dropout_is_between_layers_and_in_training_alone(name: str) -> None:
    x = np.ones((3, 2, 4))
    layer = LAYERS[name](4, 4, num_layers=2, dropout=0.5, generator=np.random.default_rng(0))
    plain = LAYERS[name](4, 4, num_layers=2)
    plain.load_state_dict(layer.state_dict())
    assert not np.array_equal(layer(x)[0].data, layer(x)[0].data)
    np.testing.assert_array_equal(layer.eval()(x)[0].data, plain(x)[0].data)
    first = layer.train()(x)[1]
    np.testing.assert_array_equal(
        states_of(first)[0].data[0], states_of(plain(x)[1])[0].data[0]
    )  # the first layer has none before it


def test_dropout_of_a_single_layer_warns() -> None:
    with pytest.warns(UserWarning, match=r"LSTM: dropout=0\.5 has no effect with num_layers=1"):
        LSTM(2, 3, dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LSTM(2, 3, num_layers=2, dropout=0.5)


def test_repr_shows_what_is_not_as_by_default() -> None:
    assert repr(RNN(2, 3, nonlinearity="relu")).startswith("RNN(2, 3, nonlinearity='relu')  weight_ih_l0 (3, 2)")
    assert repr(LSTM(2, 3, bidirectional=True, bias=False)).startswith("LSTM(2, 3, bias=False, bidirectional=True)")


# Bad input

x, h, W, V, b = np.ones((2, 3, 4)), np.ones((3, 5)), np.ones((20, 4)), np.ones((20, 5)), np.ones(20)

BAD_CALLS: list[tuple[Any, Any, str]] = [
    (lambda: mg.lstm(x[0], h, h, W, V, b, b), ShapeError, r"lstm: x: x is float64 \(3, 4\).*\(time, batch, features\)"),
    (lambda: mg.lstm(x[:0], h, h, W, V, b, b), ShapeError, r"lstm: x: .*one step or more"),
    (lambda: mg.lstm(x, h[:2], h, W, V, b, b), ShapeError, r"lstm: h0: .*h0 is float64 \(2, 5\).*h0 \(3, 5\)"),
    (lambda: mg.lstm(x, h, h[0], W, V, b, b), ShapeError, r"lstm: c0: .*pass c0 of shape \(3, 5\)"),
    (lambda: mg.lstm(x, h, h, W[:15], V, b, b), ShapeError, r"lstm: W_ih: .*W_ih \(4\*H, I\).*pass W_ih of shape \(20"),
    (lambda: mg.lstm(x, h, h, W, V[:15], b, b), ShapeError, r"lstm: W_hh: .*pass W_hh of shape \(20, 5\)"),
    (lambda: mg.lstm(x, h, h, W, b, b, b), ShapeError, r"lstm: h0: .*W_hh is float64 \(20,\)"),
    (lambda: mg.lstm(x, h, h, W, V, b[:5], b), ShapeError, r"lstm: b_ih: .*pass b_ih of shape \(20,\)"),
    (lambda: mg.gru(x, h, W[:15], V[:15], b[:15], b), ShapeError, r"gru: b_hh: .*W_hh \(3\*H, H\).*b_hh \(15,\)"),
    (lambda: mg.rnn(x, h, W[:5, :3], V[:5]), ShapeError, r"rnn: W_ih: .*W_hh \(H, H\).*pass W_ih of shape \(5, 4\)"),
    (lambda: mg.rnn(x, h, W[:5], V[:5], nonlinearity="gelu"), ArgumentError, r"rnn: nonlinearity: str 'gelu'"),  # type: ignore[arg-type]  # the mistake in question
    (lambda: mg.gru([["a"]], h, W, V), DTypeError, r"gru"),
    (lambda: RNN(2, 3, nonlinearity="gelu"), ArgumentError, r"RNN: nonlinearity: str 'gelu'"),  # type: ignore[arg-type]  # the mistake in question
    (lambda: RNN(2, 0), ArgumentError, r"RNN: hidden_size: int 0; expected a whole number, 1 or more"),
    (lambda: GRU(2, 3, num_layers=1.5), ArgumentError, r"GRU: num_layers: float 1.5"),  # type: ignore[arg-type]  # the mistake in question
    (lambda: LSTM(2, 3, 2, dropout=1.5), ArgumentError, r"LSTM: dropout: float 1.5; expected a probability"),
    (lambda: LSTM(2, 3, dtype="int64"), DTypeError, r"LSTM: dtype"),
    (lambda: LSTM(2, 3, generator=0), ArgumentError, r"LSTM: generator"),  # type: ignore[arg-type]  # the mistake in question
    (lambda: LSTM(3, 5)(x), ShapeError, r"LSTM: x: x is float64 \(2, 3, 4\); expected \(T, N, 3\).*input_size=4"),
    (lambda: LSTM(4, 5)(x[0, 0]), ShapeError, r"LSTM: x: x is float64 \(4,\)"),
    (lambda: GRU(4, 5)(x[:0]), ShapeError, r"GRU: x: .*T at least 1.*one step or more"),
    (lambda: GRU(4, 5, batch_first=True)(x[:, :0]), ShapeError, r"GRU: x: .*\(N, T, 4\)"),
    (lambda: GRU(4, 5)(x, h), ShapeError, r"GRU: h0: .*h0 is float64 \(3, 5\); expected h0 \(1, 3, 5\)"),
    (lambda: LSTM(4, 5)(x, h[None]), DTypeError, r"LSTM: state: float64 \(1, 3, 5\); expected a pair"),
    (lambda: LSTM(4, 5)(x, (h[None], h[None, :2])), ShapeError, r"LSTM: c0: .*pass np.zeros\(\(1, 3, 5\)\)"),
    (lambda: LSTM(4, 5)(x[0], (h[:1], h[:2])), ShapeError, r"LSTM: c0: .*c0 \(1, 5\): .*\(num_layers \* directions, h"),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD_CALLS)
def test_bad_input(call: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        call()
    assert all((caught.value.function, caught.value.got, caught.value.expected, caught.value.fix))


def test_an_error_names_the_layer_by_its_path() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            self.encoder = LSTM(4, 5)

        def forward(self, x: Any) -> Any:
            return self.encoder(x)

    with pytest.raises(ShapeError, match=r"^Model\.encoder, an? LSTM\(4, 5\): .*x is float64"):
        Model()(np.ones((2, 3, 3)))


def test_an_empty_batch_passes() -> None:
    layer = LSTM(4, 5)
    out, (h_n, c_n) = layer(np.ones((2, 0, 4)))
    assert (out.shape, h_n.shape, c_n.shape) == ((2, 0, 5), (1, 0, 5), (1, 0, 5))
    mg.sum(out).backward()
    np.testing.assert_array_equal(next(layer.parameters()).grad, 0)
