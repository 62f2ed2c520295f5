"""Layers, activation functions and losses: values, modes, refusals, and PyTorch's numbers where it is installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import MinigradError, ShapeError, Tensor, nn
from minigrad.testing import check_model, gradcheck

rng = np.random.default_rng(0)
X = rng.standard_normal((4, 6))
IMAGES = rng.standard_normal((4, 6, 5, 5))
ROWS = rng.standard_normal((4, 6, 7))
LABELS = np.array([0, 5, 2, 2])

# Each layer by its arguments, and an input for it. The same call makes PyTorch's layer.
LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = [
    ("Linear", (6, 3), {}, X),
    ("Linear", (6, 3), {"bias": False}, IMAGES.swapaxes(1, -1)),
    ("Conv1d", (6, 4, 3), {}, ROWS),
    ("Conv1d", (6, 4, 3), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2, "bias": False}, ROWS),
    ("Conv2d", (6, 4, 3), {"padding": 1}, IMAGES),
    ("Conv2d", (6, 4, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "groups": 2, "bias": False}, IMAGES),
    ("Conv2d", (6, 4, 3), {"padding": "same", "dilation": 2}, IMAGES),
    ("MaxPool2d", (2,), {}, IMAGES),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, IMAGES),
    ("AvgPool2d", (2,), {}, IMAGES),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, IMAGES),
    ("BatchNorm1d", (6,), {}, X),
    ("BatchNorm1d", (6,), {"momentum": None, "affine": False}, ROWS),
    ("BatchNorm2d", (6,), {"momentum": 0.3, "eps": 1e-3}, IMAGES),
    ("BatchNorm2d", (6,), {"track_running_stats": False}, IMAGES),
    ("LayerNorm", (6,), {}, X),
    ("LayerNorm", ((5, 5),), {"bias": False}, IMAGES),
    ("LayerNorm", (5,), {"elementwise_affine": False, "eps": 0.1}, IMAGES),
    ("RMSNorm", (6,), {}, X),
    ("RMSNorm", ((5, 5),), {"eps": 0.1, "elementwise_affine": False}, IMAGES),
    ("Embedding", (6, 3), {"padding_idx": 2}, np.array([[0, 2], [5, 5]])),
    ("Flatten", (), {}, IMAGES),
    ("Flatten", (2, 3), {}, IMAGES),
    ("ReLU", (), {}, X),
    ("LeakyReLU", (0.2,), {}, X),
    ("GELU", (), {}, X),
    ("GELU", (), {"approximate": "tanh"}, X),
    ("SiLU", (), {}, X),
    ("Sigmoid", (), {}, X),
    ("Tanh", (), {}, X),
    ("Softmax", (), {"dim": 1}, IMAGES),
]
layers = pytest.mark.parametrize(
    ("name", "args", "kwargs", "x"), LAYERS, ids=[f"{name}{i}" for i, (name, *_) in enumerate(LAYERS)]
)

POSITIVE = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
LOSSES: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("MSELoss", {}, X, X[::-1].copy()),
    ("MSELoss", {"reduction": "sum"}, X, X[::-1].copy()),
    ("L1Loss", {}, X, X[::-1].copy()),
    ("HuberLoss", {"delta": 0.7}, X, X[::-1].copy()),
    ("HuberLoss", {"reduction": "none"}, X, X[::-1].copy()),
    ("CrossEntropyLoss", {}, X, LABELS),
    ("CrossEntropyLoss", {"label_smoothing": 0.1, "reduction": "sum"}, X, POSITIVE[::-1].copy()),
    ("CrossEntropyLoss", {"ignore_index": 2, "weight": np.arange(1.0, 7.0)}, X, LABELS),
    ("CrossEntropyLoss", {"reduction": "none"}, ROWS, np.tile(LABELS[:, None], 7)),
    ("NLLLoss", {}, np.log(POSITIVE), LABELS),
    ("NLLLoss", {"ignore_index": 2, "weight": np.arange(1.0, 7.0)}, np.log(POSITIVE), LABELS),
    ("NLLLoss", {"reduction": "none"}, -np.exp(ROWS), np.tile(LABELS[:, None], 7)),
    ("NLLLoss", {"reduction": "sum"}, np.log(POSITIVE[0]), np.array(3)),
    ("BCEWithLogitsLoss", {}, X, POSITIVE),
    ("BCEWithLogitsLoss", {"pos_weight": np.arange(1.0, 7.0), "weight": np.array([0.5])}, X, POSITIVE),
    ("KLDivLoss", {"reduction": "batchmean"}, np.log(POSITIVE), POSITIVE[::-1].copy()),
    ("KLDivLoss", {"reduction": "sum", "log_target": True}, np.log(POSITIVE), np.log(POSITIVE[::-1])),
    ("KLDivLoss", {"reduction": "none"}, np.log(POSITIVE), np.eye(6)[LABELS]),
]
losses = pytest.mark.parametrize(
    ("name", "kwargs", "x", "t"), LOSSES, ids=[f"{name}{i}" for i, (name, *_) in enumerate(LOSSES)]
)


def build(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], **more: Any) -> nn.Module:
    """The layer, its parameters moved off their initial values, which for norms are 0 and 1."""
    layer: nn.Module = getattr(nn, name)(*args, **kwargs, **more)
    draws = np.random.default_rng(7)
    for p in layer.parameters():
        nn.init.uniform_(p, -1, 1, draws)
    return layer


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


# Against PyTorch, where it is installed


@layers
def test_a_layer_computes_what_pytorch_computes(name: str, args: Any, kwargs: Any, x: Any) -> None:
    torch = pytest.importorskip("torch")
    layer = build(name, args, kwargs)
    other = getattr(torch.nn, name)(*args, **kwargs).double()
    missing = other.load_state_dict({key: torch.tensor(a) for key, a in layer.state_dict().items()})
    assert not missing.missing_keys
    for mode in (True, True, False):
        layer.train(mode)
        other.train(mode)
        a = x if x.dtype.kind == "i" else Tensor(x, requires_grad=True)
        b = torch.tensor(x, requires_grad=x.dtype.kind == "f")
        out, want = layer(a), other(b)
        close(out.data, want.detach().numpy())
        dout = np.random.default_rng(1).standard_normal(out.shape)
        if out.requires_grad:
            layer.zero_grad()
            other.zero_grad()
            out.backward(dout)
            want.backward(torch.tensor(dout))
            for (key, p), q in zip(layer.named_parameters(), other.parameters(), strict=True):
                np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-11, atol=1e-12, err_msg=key)
            if isinstance(a, Tensor):
                np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-11, atol=1e-12)
    for key, array in layer.state_dict().items():
        close(array, other.state_dict()[key].numpy())


@losses
def test_a_loss_computes_what_pytorch_computes(name: str, kwargs: Any, x: Any, t: Any) -> None:
    torch = pytest.importorskip("torch")
    theirs = {key: torch.tensor(v) if isinstance(v, np.ndarray) else v for key, v in kwargs.items()}
    a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    loss, want = getattr(nn, name)(**kwargs)(a, t), getattr(torch.nn, name)(**theirs)(b, torch.tensor(t))
    close(loss.data, want.detach().numpy())
    loss.sum().backward()
    want.sum().backward()
    close(a.grad, b.grad.numpy())


# Without it


@layers
def test_gradients_of_a_layer_are_right(name: str, args: Any, kwargs: Any, x: Any) -> None:
    kwargs = {key: value for key, value in kwargs.items() if key != "padding_idx"}  # whose row is held still on purpose
    layer = build(name, args, kwargs)
    weights = np.random.default_rng(2).standard_normal(layer(x).shape)
    if list(layer.parameters()):
        report = check_model(layer, lambda out, w: (out * w).sum(), x, weights)
    else:
        report = gradcheck(lambda x: layer(x) * weights, [x])
    assert report, str(report)


@layers
def test_float32_stays_float32(name: str, args: Any, kwargs: Any, x: Any) -> None:
    layer = build(name, args, kwargs).astype("float32")
    a = x if x.dtype.kind == "i" else Tensor(x.astype("float32"), requires_grad=True)
    for mode in (True, False):
        out = layer.train(mode)(a)
        assert out.dtype == np.float32
    if out.requires_grad:
        out.sum().backward()
    assert all(p.grad is None or p.grad.dtype == np.float32 for p in layer.parameters())
    assert all(array.dtype in (np.float32, np.int64) for array in layer.state_dict().values())


@layers
def test_an_empty_batch_gives_an_empty_result(name: str, args: Any, kwargs: Any, x: Any) -> None:
    layer = build(name, args, kwargs).eval()
    if not kwargs.get("track_running_stats", True):
        refused(lambda: layer(x[:0]), "more than one value per channel")
        return
    out = layer(x[:0])
    assert out.shape == (0, *layer(x).shape[1:])
    assert out.size == 0


@pytest.mark.filterwarnings("ignore:NLLLoss")  # gradcheck looks at inputs nearby, above 0 too
@losses
def test_gradients_of_a_loss_are_right(name: str, kwargs: Any, x: Any, t: Any) -> None:
    loss = getattr(nn, name)(**kwargs)
    report = gradcheck(lambda x: loss(x, t), [x])
    assert report, str(report)


@losses
def test_reductions_belong_together(name: str, kwargs: Any, x: Any, t: Any) -> None:
    kwargs = {key: value for key, value in kwargs.items() if key not in ("weight", "reduction", "ignore_index")}
    one = {how: getattr(nn, name)(reduction=how, **kwargs)(Tensor(x), t).data for how in ("none", "sum", "mean")}
    close(one["none"].sum(), one["sum"])
    close(one["none"].mean(), one["mean"])


def test_the_book_in_one_line_each() -> None:
    t = np.array([0, 0, 1, 0, 0, 0, 0, 0, 0, 0.0])  # section 4.2: the answer is "2"
    y = np.array([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0])
    close(0.5 * nn.MSELoss("sum")(Tensor(y), t).item(), 0.0975)
    log_y = np.log(np.where(y > 0, y, 1e-7))[None]
    close(nn.NLLLoss()(Tensor(log_y), np.array([2])).item(), 0.5108256237659907)


# Modes


def test_dropout_drops_in_training_and_keeps_the_mean() -> None:
    layer = nn.Dropout(0.25, generator=np.random.default_rng(0))
    x = Tensor(np.ones((200, 200), "float32"), requires_grad=True)
    out = layer(x)
    assert out.dtype == np.float32
    assert set(np.unique(out.data)) == {np.float32(0), np.float32(1 / 0.75)}
    assert np.mean(out.data == 0) == pytest.approx(0.25, abs=0.01)
    out.sum().backward()
    assert np.array_equal(x.grad, out.data)
    assert not np.array_equal(layer(x).data, out.data)
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert nn.Dropout(1.0)(x).data.max() == 0


def test_dropout_draws_from_the_default_generator() -> None:
    mg.manual_seed(3)
    first = nn.Dropout()(X).data
    mg.manual_seed(3)
    assert np.array_equal(nn.Dropout()(X).data, first)


@given(st.integers(2, 9), st.integers(0, 99))
def test_batch_norm_follows_the_batches(n: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    norm = nn.BatchNorm1d(3, momentum=None)
    batches = [draws.standard_normal((n, 3)) for _ in range(4)]
    for x in batches:
        norm(x)
    close(norm.running_mean, np.mean([x.mean(0) for x in batches], axis=0))
    close(norm.running_var, np.mean([x.var(0, ddof=1) for x in batches], axis=0))
    norm.eval()
    close(norm(batches[0]).data, (batches[0] - norm.running_mean) / np.sqrt(norm.running_var + 1e-5))
    assert norm.num_batches_tracked == 4


def test_a_norm_without_weights_evaluates_too() -> None:
    norm = nn.BatchNorm1d(2, affine=False).eval()
    close(norm(np.array([[3.0, -1.0]])).data, np.array([[3.0, -1.0]]) / math.sqrt(1 + 1e-5))


def test_the_row_of_padding_gets_no_gradient() -> None:
    layer = nn.Embedding(4, 2, padding_idx=-1)
    assert layer.padding_idx == 3
    assert not layer.weight.data[3].any()
    layer(np.array([3, 1, 1])).sum().backward()
    assert layer.weight.grad.tolist() == [[0, 0], [2, 2], [0, 0], [0, 0]]


def test_a_convolutional_net_is_checked_as_a_model() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    )
    report = check_model(model, nn.CrossEntropyLoss(), rng.standard_normal((3, 1, 4, 4)), np.array([0, 2, 1]))
    # The mean is taken away again: a bias before BatchNorm has gradient 0, where nothing can be checked but noise.
    left = {row.name: row.verdict for row in report.rows if row.verdict != "ok"}
    assert list(left) == ["0.bias"]
    assert left["0.bias"] in ("vacuous", "inconclusive")


# What they refuse, and in which words


def refused(call: Any, *said: str) -> MinigradError:
    with pytest.raises(MinigradError) as caught:
        call()
    for words in said:
        assert words in str(caught.value)
    return caught.value


BATCH = np.ones((2, 3, 8, 8))
MISTAKES: list[tuple[str, Any, tuple[str, ...]]] = [
    ("linear width", lambda: nn.Linear(5, 2)(X), ("Linear", "float64 (4, 6)", "5 features", "in_features=6")),
    ("conv channels", lambda: nn.Conv2d(4, 2, 3)(BATCH), ("Conv2d", "(2, 3, 8, 8)", "3", "4")),
    ("conv kernel too large", lambda: nn.Conv2d(3, 2, 9)(BATCH), ("Conv2d", "9", "8")),
    ("conv axes", lambda: nn.Conv2d(3, 2, 3)(X), ("Conv2d", "(4, 6)")),
    ("conv1d axes", lambda: nn.Conv1d(3, 2, 3)(BATCH), ("Conv1d", "(2, 3, 8, 8)")),
    ("conv groups", lambda: nn.Conv2d(3, 4, 3, groups=2), ("groups=2", "divide")),
    ("conv kernel of zero", lambda: nn.Conv2d(3, 4, 0), ("kernel_size[0]", "whole number")),
    ("conv kernel of three", lambda: nn.Conv2d(3, 4, (1, 2, 3)), ("kernel of 2 axes",)),
    ("pool too large", lambda: nn.MaxPool2d(9)(BATCH), ("MaxPool2d", "9", "8")),
    ("pool padding", lambda: nn.MaxPool2d(2, padding=2)(BATCH), ("MaxPool2d", "padding")),
    ("norm channels", lambda: nn.BatchNorm2d(4)(BATCH), ("BatchNorm2d", "(2, 3, 8, 8)", "4 channels")),
    ("norm axes", lambda: nn.BatchNorm1d(3)(BATCH), ("BatchNorm1d", "(N, C) or (N, C, L)")),
    ("norm of one value", lambda: nn.BatchNorm1d(6)(X[:1]), ("BatchNorm1d", "more than one value per channel")),
    ("norm momentum", lambda: nn.BatchNorm1d(6, momentum=9), ("momentum", "from 0 to 1")),
    ("norm eps", lambda: nn.LayerNorm(6, eps=-1), ("LayerNorm: eps",)),
    ("layer norm width", lambda: nn.LayerNorm(5)(X), ("LayerNorm", "(4, 6)", "5")),
    ("rms norm width", lambda: nn.RMSNorm(5)(X), ("RMSNorm", "(4, 6)", "5")),
    ("embedding range", lambda: nn.Embedding(4, 2)(np.array([1, 4])), ("Embedding", "4", "0 to 3")),
    ("embedding negative", lambda: nn.Embedding(4, 2)(np.array([-1])), ("Embedding", "-1", "0 to 3")),
    ("embedding floats", lambda: nn.Embedding(4, 2)(np.array([1.0])), ("Embedding", "float64", "integers")),
    ("embedding padding", lambda: nn.Embedding(4, 2, padding_idx=4), ("padding_idx", "0 to 3")),
    ("dropout", lambda: nn.Dropout(1.5), ("Dropout: p", "from 0 to 1")),
    ("flatten", lambda: nn.Flatten()(np.ones(3)), ("Flatten", "(3,)", "x[None]")),
    ("softmax axis", lambda: nn.Softmax(2)(X), ("Softmax", "axis")),
    ("gelu", lambda: nn.GELU("fast")(X), ("GELU", "'fast'", "tanh")),
    ("mse shapes", lambda: nn.MSELoss()(Tensor(X), X[:, :1]), ("MSELoss: target", "(4, 6)", "(4, 1)")),
    ("l1 shapes", lambda: nn.L1Loss()(Tensor(X[:, 0]), X[:, :1]), ("L1Loss: target", "(4,)", "(4, 1)")),
    ("huber delta", lambda: nn.HuberLoss(delta=0), ("HuberLoss: delta", "positive")),
    ("label out of range", lambda: nn.CrossEntropyLoss()(Tensor(X), [0, 1, 2, 6]), ("labels[3] = 6",)),
    ("label negative", lambda: nn.CrossEntropyLoss()(Tensor(X), [0, -1, 2, 3]), ("labels[1] = -1", "0 to 5")),
    ("label count", lambda: nn.CrossEntropyLoss()(Tensor(X), [0, 1]), ("CrossEntropyLoss", "(4, 6)", "(2,)")),
    ("label column", lambda: nn.CrossEntropyLoss()(Tensor(X), LABELS[:, None]), ("(4, 1)", "labels.reshape(-1)")),
    ("label floats", lambda: nn.CrossEntropyLoss()(Tensor(X), [0.0, 1, 2, 3]), ("integers",)),
    ("nll range", lambda: nn.NLLLoss()(Tensor(-np.exp(X)), [0, 1, 2, 6]), ("NLLLoss: target", "target[3] = 6")),
    ("nll count", lambda: nn.NLLLoss()(Tensor(-np.exp(X)), [0, 1]), ("NLLLoss: target", "(4, 6)", "(2,)")),
    ("bce shapes", lambda: nn.BCEWithLogitsLoss()(Tensor(X), X[0]), ("BCEWithLogitsLoss", "(4, 6)", "(6,)")),
    ("kl negative", lambda: nn.KLDivLoss()(Tensor(X), X), ("KLDivLoss: target", "none of them negative")),
    ("reduction", lambda: nn.MSELoss("batchmean"), ("MSELoss: reduction", "'batchmean'")),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_refused_in_words(call: Any, said: tuple[str, ...]) -> None:
    error = refused(call, *said)
    assert all((error.function, error.got, error.expected, error.fix))


def test_losses_that_mean_nothing_warn() -> None:
    with pytest.warns(UserWarning, match="no sample counts"):
        assert nn.NLLLoss(ignore_index=1)(Tensor([[-1.0, -2.0]]), [1]).item() == 0
    with pytest.warns(UserWarning, match="pass log_softmax"):
        nn.NLLLoss()(Tensor([[0.3, 0.7]]), [1])


def test_a_refused_batch_leaves_the_running_statistics() -> None:
    norm = nn.BatchNorm1d(6)
    before = norm.state_dict()
    refused(lambda: norm(X[:1]))
    assert all(np.array_equal(before[key], array) for key, array in norm.state_dict().items())
    with pytest.raises(ShapeError):
        nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(4))(X)


def test_integers_are_scaled_by_dropout_too() -> None:
    out = nn.Dropout(0.3, generator=np.random.default_rng(0))(np.full(10_000, 10, np.uint8))
    assert out.dtype == np.float64
    assert out.data.mean() == pytest.approx(10, rel=0.02)
    assert isinstance(nn.Dropout().eval()([1.0, 2.0]), Tensor)


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "HuberLoss"])
def test_small_unsigned_numbers_do_not_wrap_around(name: str) -> None:
    loss = getattr(nn, name)()
    assert loss(np.uint8([2]), np.uint8([250])).item() == loss(np.array([2.0]), np.array([250.0])).item()


def test_a_norm_without_bias_keeps_its_weight_in_evaluation() -> None:
    norm = nn.BatchNorm1d(2)
    nn.init.constant_(norm.weight, 3.0)
    norm.bias = None
    close(norm.eval()(np.array([[1.0, 2.0]])).data, np.array([[3.0, 6.0]]) / math.sqrt(1 + 1e-5))


def test_losses_take_lists_and_keywords() -> None:
    close(nn.CrossEntropyLoss()([[0.0, 0.0]], [1]).item(), math.log(2))
    close(nn.NLLLoss()([[-1.0, -2.0]], [1]).item(), 2.0)
    with pytest.raises(TypeError):
        nn.CrossEntropyLoss(None, "sum")
