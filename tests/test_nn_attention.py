"""MultiheadAttention and TransformerEncoderLayer: against PyTorch, stored figures, masks, and bad input."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import ArgumentError, DTypeError, ShapeError, Tensor
from minigrad.nn.attention import MultiheadAttention, TransformerEncoderLayer


def filled(shape: tuple[int, ...], k: int) -> np.ndarray:
    """Numbers that anybody can compute again: a sine."""
    return np.sin(np.arange(int(np.prod(shape))) * 0.7 + k).reshape(shape) * 0.5


def close(got: Any, want: Any, tolerance: float = 1e-12) -> None:
    got, want = (np.asarray(getattr(a, "data", a)) for a in (got, want))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1.0, float(np.max(np.abs(want)))))


def load(ours: Any, theirs: Any) -> None:
    """The weights of PyTorch's module, by name."""
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    assert sorted(ours.state_dict()) == sorted(state)
    ours.load_state_dict(state)


PADDING = np.array([[False, False, False, True, True], [False, True, False, False, False]])
CLOSED = np.array([[False, True, True, False, False]] * 2 + [[False, False, True, False, True]])
MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "padding": {"key_padding_mask": PADDING},
    "padding of floats": {"key_padding_mask": filled((2, 5), 3)},
    "attn_mask": {"attn_mask": CLOSED},
    "attn_mask of floats": {"attn_mask": filled((3, 5), 4)},
    "attn_mask with -inf": {"attn_mask": np.where(CLOSED, -np.inf, 0.5)},
    "attn_mask for each head": {"attn_mask": filled((4, 3, 5), 5)},
    "both": {"key_padding_mask": PADDING, "attn_mask": CLOSED},
    "both of floats": {"key_padding_mask": filled((2, 5), 3), "attn_mask": filled((4, 3, 5), 5)},
}


@pytest.mark.parametrize("masks", MASKS.values(), ids=list(MASKS))
def test_attention_is_pytorchs_with_each_mask(masks: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    for batch_first, bias, need_weights, average in itertools.product([False, True], repeat=4):
        theirs = torch.nn.MultiheadAttention(4, 2, bias=bias, batch_first=batch_first, dtype=torch.float64)
        ours = MultiheadAttention(4, 2, bias=bias, batch_first=batch_first)
        load(ours, theirs)
        arrays = [filled((2, 3, 4), 1), filled((2, 5, 4), 2), filled((2, 5, 4), 3)]
        arrays = [a if batch_first else a.swapaxes(0, 1) for a in arrays]
        options = {"need_weights": need_weights, "average_attn_weights": average}
        sides = []
        for module, lib, make, fixed in (
            (theirs, torch, lambda a: torch.tensor(a, requires_grad=True), torch.tensor),
            (ours, mg, lambda a: Tensor(a, requires_grad=True), np.asarray),
        ):
            xs = [make(a) for a in arrays]
            out, weights = module(*xs, **{key: fixed(mask) for key, mask in masks.items()}, **options)
            loss = lib.sum(lib.sin(out))
            if need_weights:
                loss = loss + lib.sum(weights * weights)
            loss.backward()
            side = [out.detach(), *[leaf.grad for leaf in (*xs, *module.parameters())]]
            sides.append(side + ([weights.detach()] if need_weights else []))
            assert need_weights or weights is None
        for want, got in zip(*sides, strict=True):
            close(got, want.numpy())


@pytest.mark.parametrize("need_weights", [False, True])
def test_one_sequence_without_a_batch_is_pytorchs(need_weights: bool) -> None:
    torch = pytest.importorskip("torch")
    for batch_first, masked in itertools.product([False, True], repeat=2):
        theirs = torch.nn.MultiheadAttention(6, 3, batch_first=batch_first, dtype=torch.float64)
        ours = MultiheadAttention(6, 3, batch_first=batch_first)
        load(ours, theirs)
        q, kv = filled((3, 6), 1), filled((5, 6), 2)
        masks = {"key_padding_mask": PADDING[0], "attn_mask": np.array([CLOSED] * 3)} if masked else {}
        their_masks = {key: torch.tensor(mask) for key, mask in masks.items()}
        want = theirs(torch.tensor(q), torch.tensor(kv), torch.tensor(kv), need_weights=need_weights, **their_masks)
        got = ours(q, kv, kv, need_weights=need_weights, **masks)
        close(got[0], want[0].detach().numpy())
        assert (got[1] is None) == (want[1] is None)
        if got[1] is not None:
            close(got[1], want[1].detach().numpy())


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_encoder_layer_is_pytorchs(norm_first: bool, activation: str) -> None:
    torch = pytest.importorskip("torch")
    for batch_first, bias, mask in itertools.product([False, True], [False, True], ["none", "padding", "causal"]):
        options: dict[str, Any] = {"batch_first": batch_first, "norm_first": norm_first, "bias": bias}
        theirs = torch.nn.TransformerEncoderLayer(
            4, 2, 6, 0.0, torch.tanh if activation == "tanh" else activation, dtype=torch.float64, **options
        )
        ours = TransformerEncoderLayer(4, 2, 6, 0.0, mg.tanh if activation == "tanh" else activation, **options)
        load(ours, theirs)
        shape = (2, 5, 4) if batch_first else (5, 2, 4)
        causal = ~np.tri(5, dtype=bool)
        masks = {"none": {}, "padding": {"src_key_padding_mask": PADDING}, "causal": {"src_mask": causal}}[mask]
        x, y = torch.tensor(filled(shape, 7), requires_grad=True), Tensor(filled(shape, 7), requires_grad=True)
        want = theirs(x, **{key: torch.tensor(value) for key, value in masks.items()})
        got = ours(y, **masks)
        close(got, want.detach().numpy())
        torch.sum(torch.sin(want)).backward()
        mg.sum(mg.sin(got)).backward()
        close(y.grad, x.grad.numpy())
        grads = {key: p.grad for key, p in ours.named_parameters()}
        for key, p in theirs.named_parameters():
            close(grads[key], p.grad.numpy(), 1e-11)
        if mask == "causal":
            close(ours(y, is_causal=True), got, 1e-14)


# What PyTorch 2.13 gave for the arguments below.
ATTENTION = [
    0.20926368529027956, -0.9317147923159903, 0.275916337999119, 0.1888926188939421, 0.016710872315941597,
    -0.029819579261288788, -0.035985129609699636, 5.288105556465173,
]  # fmt: skip
ENCODER = {
    False: [-0.5842603897301699, 0.27192448433323957, 0.021129528680472742, -0.17144258551729427,
            -0.004132905025998151, 0.34899371087499514],
    True: [0.6615105824964742, -0.6962565558683531, 0.9758148517732187, 0.4735275143338338, -3.5708545449040824e-05,
           -0.007448681111601683],
}  # fmt: skip

ORDER = [
    "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight", "self_attn.out_proj.bias",
    "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias", "norm1.weight", "norm1.bias", "norm2.weight",
    "norm2.bias",
]  # fmt: skip


def test_stored_figures_of_pytorchs_attention() -> None:
    layer = MultiheadAttention(4, 2)
    names = [name.removeprefix("self_attn.") for name in ORDER[:4]]
    state = layer.state_dict()
    layer.load_state_dict({name: filled(state[name].shape, k) for k, name in enumerate(names)})
    q, kv = Tensor(filled((3, 2, 4), 50), requires_grad=True), Tensor(filled((5, 2, 4), 60), requires_grad=True)
    mask = np.zeros((2, 5), bool)
    mask[0, 3:] = True
    out, w = layer(q, kv, kv, key_padding_mask=mask)
    (mg.sum(mg.sin(out)) + mg.sum(w * w)).backward()
    assert q.grad is not None
    assert kv.grad is not None
    p: dict[str, Any] = dict(layer.named_parameters())
    got = [out.data[0, 0, 0], out.data[2, 1, 3], w.data[0, 1, 2], w.data[1, 2, 4], q.grad[1, 0, 2], kv.grad[4, 1, 1]]
    got += [p["in_proj_weight"].grad[5, 2], p["out_proj.bias"].grad[1]]
    np.testing.assert_allclose(got, ATTENTION, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("norm_first", [False, True])
def test_stored_figures_of_pytorchs_encoder_layer(norm_first: bool) -> None:
    layer = TransformerEncoderLayer(4, 2, 6, dropout=0.0, activation="gelu", norm_first=norm_first)
    state = layer.state_dict()
    layer.load_state_dict({name: filled(state[name].shape, k) for k, name in enumerate(ORDER)})
    x = Tensor(filled((3, 2, 4), 50), requires_grad=True)
    out = layer(x, is_causal=True)
    mg.sum(mg.sin(out)).backward()
    assert x.grad is not None
    p: dict[str, Any] = dict(layer.named_parameters())
    got = [out.data[0, 0, 0], out.data[2, 1, 3], x.grad[1, 0, 2], p["linear1.weight"].grad[2, 3]]
    got += [p["self_attn.in_proj_weight"].grad[5, 2], p["norm1.weight"].grad[1]]
    np.testing.assert_allclose(got, ENCODER[norm_first], rtol=1e-11, atol=1e-15)


# Properties


@settings(max_examples=30)
@given(
    N=st.integers(1, 3), L=st.integers(1, 4), S=st.integers(1, 4), heads=st.integers(1, 3), d=st.integers(1, 3),
    batch_first=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_both_ways_agree_and_closed_keys_do_not_count(
    N: int, L: int, S: int, heads: int, d: int, batch_first: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = MultiheadAttention(heads * d, heads, batch_first=batch_first, generator=rng)
    q, k, v = (rng.normal(size=(N, n, heads * d)) for n in (L, S, S))
    closed = rng.random((N, S)) < 0.4  # a sequence may lose all of its keys
    attn = rng.random((N * heads, L, S)) < 0.3

    def run(k: Any, v: Any, **options: Any) -> tuple[Any, Any]:
        xs = [x if batch_first else x.swapaxes(0, 1) for x in (q, k, v)]
        out, weights = layer(*xs, key_padding_mask=closed, attn_mask=attn, **options)
        return (out.data if batch_first else out.data.swapaxes(0, 1)), weights

    out, weights = run(k, v, average_attn_weights=False)
    close(run(k, v, need_weights=False)[0], out, 1e-13)
    seen = ~(closed[:, None, None, :] | attn.reshape(N, heads, L, S))
    assert weights.shape == (N, heads, L, S)
    np.testing.assert_array_equal(weights.data[~seen], 0)
    np.testing.assert_allclose(weights.data.sum(axis=-1), seen.any(axis=-1), atol=1e-14)
    other = np.where(closed[..., None], 1e3, k), np.where(closed[..., None], -1e3, v)
    close(run(*other)[0], out, 1e-12)


def test_a_query_without_keys_gets_no_weights_and_gives_no_nan() -> None:
    layer = MultiheadAttention(4, 2, batch_first=True)
    x = Tensor(filled((1, 2, 4), 1), requires_grad=True)
    outs = []
    for need_weights, mask in itertools.product([True, False], [[[True, True]], [[-np.inf, -np.inf]]]):
        out, _ = layer(x, x, x, key_padding_mask=mask, need_weights=need_weights)
        x.zero_grad()
        mg.sum(out).backward()
        np.testing.assert_array_equal(x.grad, 0)
        outs.append(out.data)
    for out in outs:
        np.testing.assert_array_equal(out, outs[0])
        assert np.isfinite(out).all()


def test_a_mask_that_is_learned_gets_its_gradient() -> None:
    layer = MultiheadAttention(4, 2, batch_first=True)
    x = filled((1, 3, 4), 1)
    grads = []
    for need_weights in (True, False):
        mask = Tensor(filled((3, 3), 2), requires_grad=True)
        out, _ = layer(x, x, x, attn_mask=mask, need_weights=need_weights, is_causal=True)
        mg.sum(out * filled((1, 3, 4), 3)).backward()
        assert mask.grad is not None
        np.testing.assert_array_equal(mask.grad[~np.tri(3, dtype=bool)], 0)
        grads.append(mask.grad)
    close(grads[0], grads[1], 1e-13)
    assert np.abs(grads[0]).max() > 1e-6


def test_dropout_acts_in_training_alone() -> None:
    x = filled((2, 3, 4), 1)
    attention = MultiheadAttention(4, 2, dropout=0.5, batch_first=True, generator=np.random.default_rng(0))
    for need_weights in (True, False):
        first, second = (attention.train()(x, x, x, need_weights=need_weights)[0].data for _ in range(2))
        assert not np.array_equal(first, second)
        close(attention.eval()(x, x, x, need_weights=need_weights)[0], attention(x, x, x)[0], 1e-14)
    layer = TransformerEncoderLayer(4, 2, 6, dropout=0.5, generator=np.random.default_rng(0))
    assert not np.array_equal(layer(x).data, layer(x).data)
    np.testing.assert_array_equal(layer.eval()(x).data, layer(x).data)


def test_float32_stays_float32() -> None:
    layer = TransformerEncoderLayer(4, 2, 6, dtype="float32", generator=np.random.default_rng(0))
    x = Tensor(filled((3, 2, 4), 1).astype("float32"), requires_grad=True)
    out = layer(x, src_mask=filled((3, 3), 2), src_key_padding_mask=np.zeros((2, 3), bool))
    assert out.dtype == np.float32
    mg.sum(out).backward()
    assert x.grad is not None
    assert x.grad.dtype == np.float32
    assert {p.grad.dtype for p in layer.parameters() if p.grad is not None} == {np.dtype("float32")}


def test_initial_weights_are_pytorchs() -> None:
    layer = MultiheadAttention(16, 2, generator=np.random.default_rng(0))
    bound = np.sqrt(6 / (16 + 48))
    assert 0.9 * bound < np.max(np.abs(layer.in_proj_weight.data)) <= bound
    assert layer.in_proj_bias is not None
    assert layer.out_proj.bias is not None
    np.testing.assert_array_equal(layer.in_proj_bias.data, 0)
    np.testing.assert_array_equal(layer.out_proj.bias.data, 0)
    assert np.max(np.abs(layer.out_proj.weight.data)) <= 0.25


# Bad input

x = np.ones((2, 3, 4))
attention = MultiheadAttention(4, 2)

BAD_CALLS: list[tuple[Any, Any, str]] = [
    (lambda: MultiheadAttention(5, 2), ArgumentError, r"num_heads: embed_dim=5, num_heads=2; .*embed_dim=6"),
    (lambda: MultiheadAttention(4, 0), ArgumentError, r"MultiheadAttention: num_heads: int 0"),
    (lambda: MultiheadAttention(4, 2, dropout=2), ArgumentError, r"p: int 2; expected a probability"),
    (lambda: MultiheadAttention(4, 2, dtype=int), DTypeError, r"MultiheadAttention: dtype"),
    (lambda: attention(x[..., :3], x, x), ShapeError, r"query: query is float64 \(2, 3, 3\).*E being 4; pass query wi"),
    (lambda: attention(x[0, 0], x, x), ShapeError, r"query: query is float64 \(4,\)"),
    (lambda: attention(x, x[:, :2], x), ShapeError, r"key: .*key is float64 \(2, 2, 4\).*key and value \(S, N, E\)"),
    (lambda: attention(x, x[0], x[0]), ShapeError, r"key: .*key is float64 \(3, 4\)"),
    (lambda: attention(x, x, x[:1]), ShapeError, r"value: .*value is float64 \(1, 3, 4\).*batch_first=False"),
    (lambda: attention(x, x, x, np.ones((3, 2), int)), DTypeError, r"key_padding_mask: .*int64.*\.astype\(bool\)"),
    (lambda: attention(x, x, x, np.ones((2, 3), bool)), ShapeError,
     r"key_padding_mask is bool \(2, 3\) for 3 sequences of 2 queries and 2 keys, 2 heads; expected \(3, 2\)"),
    (lambda: attention(x, x, x, attn_mask=np.ones((3, 2, 2))), ShapeError,
     r"attn_mask: .*expected \(2, 2\) or \(6, 2, 2\); pass np.zeros\(\(2, 2\), bool\)"),
    (lambda: TransformerEncoderLayer(4, 2, activation="gelo"), ArgumentError, r"activation: str 'gelo'; expected"),
    (lambda: TransformerEncoderLayer(4, 2, 0), ArgumentError, r"dim_feedforward: int 0"),
    (lambda: TransformerEncoderLayer(4, 3), ArgumentError, r"num_heads: embed_dim=4, num_heads=3"),
    (lambda: TransformerEncoderLayer(4, 2, 8)(x[..., :3]), ShapeError, r"TransformerEncoderLayer\.self_attn, a"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), BAD_CALLS)
def test_bad_input(call: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        call()
    assert all((caught.value.function, caught.value.got, caught.value.expected, caught.value.fix))
