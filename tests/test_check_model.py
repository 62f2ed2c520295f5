"""check_model: a row for every parameter, the worst entry by name, kinks counted, and a model left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from minigrad.book.multi_layer_net_extend import MultiLayerNetExtend
from minigrad.book.two_layer_net import TwoLayerNet
from minigrad.errors import ArgumentError, DTypeError, GradientError, MinigradError
from minigrad.testing import GradcheckReport, ModelReport, ParameterRow, check_model

RNG = np.random.default_rng(3)
X = RNG.normal(size=(6, 5))
T = np.array([0, 2, 1, 1, 0, 2])


def parameters() -> dict[str, Tensor]:
    rng = np.random.default_rng(4)
    shapes = {"W1": (5, 4), "b1": (4,), "W2": (4, 3), "b2": (3,)}
    return {key: Tensor(rng.normal(size=shape), requires_grad=True) for key, shape in shapes.items()}


def scores(p: Any, x: Any) -> Tensor:
    return mg.matmul(np.tanh(mg.matmul(x, p["W1"]) + p["b1"]), p["W2"]) + p["b2"]


def loss_of(p: Any, x: Any, t: Any) -> Tensor:
    return mg.softmax_cross_entropy(scores(p, x), t)


class Model:
    """A model with named parameters that is called with x."""

    def __init__(self) -> None:
        self.p = parameters()

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self.p.items())

    def __call__(self, x: Any) -> Tensor:
        return scores(self.p, x)


class Uncalled:
    """A model with named parameters that is not called."""

    def __init__(self) -> None:
        self.p = parameters()

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self.p.items())


class Net:
    """A student's net of plain NumPy: affine, relu, affine, softmax with loss; `wrong` bends its gradients."""

    def __init__(self, wrong: Callable[[dict[str, Any]], Any] = lambda grads: grads, dtype: Any = float) -> None:
        rng = np.random.default_rng(6)
        shapes = {"W1": (5, 20), "b1": (20,), "W2": (20, 3), "b2": (3,)}
        self.params = {key: rng.normal(size=shape).astype(dtype) for key, shape in shapes.items()}
        self.wrong = wrong

    def forward(self, x: Any, t: Any) -> None:
        p = self.params
        self.x, self.t = x, t
        self.h = x @ p["W1"] + p["b1"]
        a = np.maximum(self.h, 0) @ p["W2"] + p["b2"]
        e = np.exp(a - a.max(axis=1, keepdims=True))
        self.y = e / e.sum(axis=1, keepdims=True)

    def loss(self, x: Any, t: Any) -> Any:
        self.forward(x, t)
        return -np.mean(np.log(self.y[np.arange(len(t)), t]))

    def gradient(self, x: Any, t: Any) -> Any:
        self.forward(x, t)
        da = (self.y - np.eye(3)[t]) / len(t)
        dh = (da @ self.params["W2"].T) * (self.h > 0)
        grads = {"W1": x.T @ dh, "b1": dh.sum(axis=0), "W2": np.maximum(self.h, 0).T @ da, "b2": da.sum(axis=0)}
        dtype = self.params["W1"].dtype
        return self.wrong({key: dW.astype(dtype) for key, dW in grads.items()})


def verdicts(report: ModelReport) -> dict[str, str]:
    return {row.name: row.verdict for row in report.rows}


def bent(key: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda grads: {k: change(dW) if k == key else dW for k, dW in grads.items()}


def doubled(*index: int) -> Callable[[Any], Any]:
    def change(dW: Any) -> Any:
        dW = dW.copy()
        dW[index] *= 2
        return dW

    return change


# Right models

MODELS: dict[str, tuple[Callable[[], Any], Any, list[str]]] = {
    "a dict": (parameters, loss_of, ["W1", "b1", "W2", "b2"]),
    "a list": (
        lambda: list(parameters().values()),
        lambda p, x, t: loss_of(dict(zip(["W1", "b1", "W2", "b2"], p, strict=True)), x, t),
        ["params[0]", "params[1]", "params[2]", "params[3]"],
    ),
    "a list of named": (
        lambda: [Tensor(np.ones((5, 3)), requires_grad=True, name="W")],
        lambda p, x, t: mg.softmax_cross_entropy(mg.matmul(x, p[0]), t),
        ["W"],
    ),
    "a callable": (Model, lambda y, t: mg.softmax_cross_entropy(y, t), ["W1", "b1", "W2", "b2"]),
    "an object": (Uncalled, lambda model, x, t: loss_of(model.p, x, t), ["W1", "b1", "W2", "b2"]),
    "the book's net": (lambda: TwoLayerNet(5, 8, 3, weight_init_std=0.5, seed=0), None, ["W1", "b1", "W2", "b2"]),
    "a student's net": (Net, None, ["W1", "b1", "W2", "b2"]),
    "a student's net in float32": (lambda: Net(dtype=np.float32), None, ["W1", "b1", "W2", "b2"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_right_model_passes_with_a_row_for_each_parameter(name: str) -> None:
    make, loss, names = MODELS[name]
    report = check_model(make(), loss, X, T)
    assert isinstance(report, GradcheckReport)
    assert report, report
    assert [row.name for row in report.rows] == names
    assert {row.verdict for row in report.rows} <= {"ok", "kink"}
    assert all(row.checks > 0 and row.size > 0 for row in report.rows)
    assert sum(row.checks for row in report.rows) == len(report.findings)


def test_a_model_of_one_argument() -> None:
    assert check_model(Model(), lambda y: (y * y).sum(), X)


def test_the_table_is_printed() -> None:
    lines = str(check_model(parameters(), loss_of, X, T)).split("\n")
    assert lines[0].startswith("check_model: ok (")
    assert lines[1].split() == ["parameter", "shape", "mean", "|gradient|", "verdict", "difference", "worst", "kinks"]
    assert [line.split()[0] for line in lines[2:]] == ["W1", "b1", "W2", "b2"]


# Wrong ones


@pytest.mark.parametrize(
    ("key", "index"), [("W1", (3, 17)), ("b1", (11,)), ("W2", (0, 2)), ("W2", (19, 0)), ("b2", (1,))]
)
def test_the_row_of_a_wrong_parameter_names_its_worst_entry(key: str, index: tuple[int, ...]) -> None:
    report = check_model(Net(bent(key, doubled(*index))), None, X, T)
    assert not report
    assert {name for name, verdict in verdicts(report).items() if verdict == "wrong"} == {key}
    row = next(row for row in report.rows if row.name == key)
    assert row.worst == str(list(index))
    assert row.difference == pytest.approx(0.5)
    assert f"wrong    {key}{list(index)}" in str(report)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda dW: 6 * dW, "6 times"),
        (lambda dW: -dW, "the sign is wrong"),
        (lambda dW: 0 * dW, "the gradient is 0"),
        (lambda dW: dW.T, "it is transposed"),
        (lambda dW: dW + 1e-3, ""),
        (lambda dW: 1.0001 * dW, ""),
    ],
)
def test_a_mistake_in_a_whole_parameter_is_named(change: Callable[[Any], Any], words: str) -> None:
    report = check_model(Net(bent("W2", change)), None, X, T)
    assert verdicts(report)["W2"] == "wrong"
    assert any(words in f.reason for f in report.wrong), report


def test_a_wrong_rule_inside_a_model_of_tensors() -> None:
    class WrongTanh(mg.Op):
        """out = tanh(x), with the rule of another"""

        def forward(self, x):
            return np.tanh(x)

        def backward(self, dout, out):
            return dout * (1 - out)

    def loss(p: Any, x: Any, t: Any) -> Tensor:
        h = WrongTanh()(mg.matmul(x, p["W1"]) + p["b1"])
        return mg.softmax_cross_entropy(mg.matmul(h, p["W2"]) + p["b2"], t)

    report = check_model(parameters(), loss, X, T)
    assert verdicts(report) == {"W1": "wrong", "b1": "wrong", "W2": "ok", "b2": "ok"}


def test_a_parameter_that_reaches_nothing_is_vacuous() -> None:
    p = {**parameters(), "unused": Tensor(np.ones(3), requires_grad=True)}
    report = check_model(p, loss_of, X, T)
    assert verdicts(report) == {"W1": "ok", "b1": "ok", "W2": "ok", "b2": "ok", "unused": "vacuous"}
    assert not report
    assert check_model(p, loss_of, X, T, allow="vacuous")


def test_a_gradient_that_differs_from_call_to_call_is_in_its_row() -> None:
    calls = iter(range(1000))
    net = Net(bent("b1", lambda dW: dW * (1 + 1e-14 * next(calls))))
    report = check_model(net, None, X, T)
    assert verdicts(report)["b1"] == "nondeterministic"
    assert verdicts(report)["W1"] == "ok"


def test_a_net_of_float32_is_compared_in_float64_where_it_reads_its_params() -> None:
    for change, good in (lambda dW: dW, True), (lambda dW: dW * np.float32(1.002), False):
        report = check_model(Net(bent("W1", change), dtype=np.float32), None, X, T)
        assert bool(report) == good, report
        assert max(row.difference for row in report.rows if row.verdict == "ok") < 1e-5


def test_a_net_of_float32_that_holds_on_to_its_arrays_is_never_wrong() -> None:
    class Holds(Net):
        def __init__(self, dtype: Any = np.float32) -> None:
            super().__init__(dtype=dtype)
            self.own = dict(self.params)

        def forward(self, x: Any, t: Any) -> None:
            params, self.params = self.params, self.own
            super().forward(x, t)
            self.params = params

        def loss(self, x: Any, t: Any) -> Any:
            return float(super().loss(x.astype(np.float32), t))

    report = check_model(Holds(), None, X, T, allow="inconclusive")
    assert report, report


def test_the_worst_of_the_right_entries_is_in_the_row() -> None:
    report = check_model(parameters(), loss_of, X, T)
    for row in report.rows:
        mine = [f for f in report.findings if f.where.startswith(row.name)]
        apart = [abs(f.analytic - f.numeric) / max(abs(f.analytic), abs(f.numeric)) for f in mine]
        assert row.difference == max(apart)
        assert row.worst in mine[int(np.argmax(apart))].where


def test_gradients_written_into_a_parameter_are_seen() -> None:
    net = Net()
    right = net.gradient

    def stepped(x: Any, t: Any) -> Any:
        grads = right(x, t)
        net.params["W1"] -= 0.1 * grads["W1"]
        return grads

    net.gradient = stepped  # type: ignore[method-assign]
    before = net.params["W1"].copy()
    report = check_model(net, None, X, T)
    assert report.verdict == "aliasing"
    assert "a write into params['W1']" in str(report)
    assert np.array_equal(net.params["W1"], before)


# Kinks


def test_kinks_beside_are_counted_and_do_not_refuse() -> None:
    net = Net()
    net.params["b1"][:] -= net.params["W1"].T @ X[0] - 1e-5  # sample 0 stands 1e-5 beside the kink of every relu
    report = check_model(net, None, X, T)
    assert report, report
    assert next(row for row in report.rows if row.name == "b1").kinks > 0
    assert next(row for row in report.rows if row.name == "b2").kinks == 0


def test_at_a_kink_the_gradient_is_accepted_between_the_slopes_alone() -> None:
    class One:
        """relu(w) with a slope of its own at 0"""

        def __init__(self, slope: float) -> None:
            self.params, self.slope = {"w": np.zeros(2)}, slope

        def loss(self, t: Any) -> Any:
            return np.maximum(self.params["w"], 0) @ t

        def gradient(self, t: Any) -> Any:
            return {"w": np.where(self.params["w"] > 0, 1, np.where(self.params["w"] < 0, 0, self.slope)) * t}

    for slope, good in (0.0, True), (0.5, True), (1.0, True), (1.5, False), (-0.1, False):
        report = check_model(One(slope), None, np.array([1.0, 2.0]))
        assert bool(report) == good, report
        assert report.rows[0].kinks > 0 or not good


# What is left as it was


def test_parameters_gradients_and_graph_stay_as_they_are() -> None:
    p = parameters()
    before = {key: (t.data, t.data.copy()) for key, t in p.items()}
    for t in p.values():
        t.grad = np.full(t.shape, 7.0)
    grads = {key: t.grad for key, t in p.items()}
    held = loss_of(p, X, T)
    check_model(p, loss_of, X, T)
    for key, t in p.items():
        assert np.array_equal(t.data, before[key][1])
        assert np.shares_memory(t.data, before[key][0])
        assert t.grad is grads[key]
        assert np.all(t.grad == 7)
        assert t.requires_grad
    held.backward()
    fresh = parameters()
    loss_of(fresh, X, T).backward()
    for key, t in p.items():
        assert fresh[key].grad is not None
        np.testing.assert_allclose(t.grad - 7, fresh[key].grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("call", [1, 4, 30])
def test_they_stay_after_an_exception_too(call: int) -> None:
    p, count = parameters(), iter(range(1, 1000))
    before = {key: t.data.copy() for key, t in p.items()}
    held = loss_of(p, X, T)

    def failing(p: Any, x: Any, t: Any) -> Tensor:
        if next(count) == call:
            raise RuntimeError("no loss")
        return loss_of(p, x, t)

    with pytest.raises(RuntimeError, match="no loss"):
        check_model(p, failing, X, T)
    assert all(np.array_equal(t.data, before[key]) and t.grad is None for key, t in p.items())
    held.backward()
    assert all(t.grad is not None for t in p.values())


def test_a_net_of_arrays_keeps_them() -> None:
    for net in Net(), Net(bent("W1", doubled(0, 0))), TwoLayerNet(5, 8, 3, weight_init_std=0.5, seed=0):
        before = {key: (value, value.copy()) for key, value in net.params.items()}
        check_model(net, None, X, T)
        for key, (value, copy) in before.items():
            assert net.params[key] is value
            assert np.array_equal(value, copy)
    net = Net()
    before = {key: value.copy() for key, value in net.params.items()}
    net.loss = lambda x, t: 1 // 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        check_model(net, None, X, T)
    assert all(np.array_equal(net.params[key], value) for key, value in before.items())


def test_the_random_state_is_as_it_was_and_dropout_can_be_checked() -> None:
    def dropped(p: Any, x: Any, t: Any) -> Tensor:
        mask = np.random.rand(6, 4) > 0.3  # as the book draws it
        h = np.tanh(mg.matmul(x, p["W1"]) + p["b1"]) * mask
        return mg.softmax_cross_entropy(mg.matmul(h, p["W2"]) + p["b2"], t)

    np.random.seed(5)  # the global state is what the test is about
    expected = np.random.rand()
    np.random.seed(5)
    assert check_model(parameters(), dropped, X, T)
    assert np.random.rand() == expected


def test_a_tensor_with_two_names_is_one_parameter() -> None:
    W = Tensor(np.random.default_rng(8).normal(size=(5, 5)), requires_grad=True)
    report = check_model({"W": W, "tied": W}, lambda p, x: (mg.matmul(mg.matmul(x, p["W"]), p["tied"]) ** 2).mean(), X)
    assert report, report
    assert [row.name for row in report.rows] == ["W"]


def test_what_needs_no_gradient_is_passed_over() -> None:
    p = {**parameters(), "mean": Tensor(np.zeros(5)), "note": "text"}
    assert [row.name for row in check_model(p, loss_of, X, T).rows] == ["W1", "b1", "W2", "b2"]


# Bad input


class Incomplete(Net):
    """A net whose gradient has no b2"""

    def gradient(self, x: Any, t: Any) -> Any:
        grads = super().gradient(x, t)
        del grads["b2"]
        return grads


class ListOfGradients(Net):
    """A net whose gradient is a list"""

    def gradient(self, x: Any, t: Any) -> Any:
        return list(super().gradient(x, t).values())


class NoLoss(Net):
    """A net that forgets to return its loss"""

    def loss(self, x: Any, t: Any) -> Any:
        super().loss(x, t)


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no parameter": (lambda: check_model([], loss_of, X, T), ArgumentError, "without a Tensor"),
    "none that requires a gradient": (
        lambda: check_model({"W": Tensor([1.0])}, loss_of, X, T),
        ArgumentError,
        "without a Tensor",
    ),
    "an object without parameters": (lambda: check_model(object(), loss_of, X, T), ArgumentError, "without a Tensor"),
    "no loss": (lambda: check_model(parameters(), None, X, T), ArgumentError, "loss=None"),
    "a loss that is no function": (lambda: check_model(parameters(), 3, X, T), DTypeError, "int 3"),
    "several values": (lambda: check_model(parameters(), lambda p, x, t: scores(p, x), X, T), DTypeError, r"\(6, 3\)"),
    "a float": (lambda: check_model(parameters(), lambda p, x, t: 1.0, X, T), DTypeError, "float 1.0"),
    "nothing": (lambda: check_model(parameters(), lambda p, x, t: None, X, T), DTypeError, "NoneType"),
    "a net without loss": (lambda: check_model(NoLoss(), None, X, T), DTypeError, "loss returned NoneType"),
    "a gradient without a key": (lambda: check_model(Incomplete(), None, X, T), ArgumentError, "without 'b2'"),
    "a list of gradients": (lambda: check_model(ListOfGradients(), None, X, T), ArgumentError, "a list, without 'W1'"),
    "allow": (lambda: check_model(parameters(), loss_of, X, T, allow="no"), ArgumentError, "allow='no'"),
    "directions": (lambda: check_model(parameters(), loss_of, X, T, directions=-1), ArgumentError, "int -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_error_in_four_parts(name: str) -> None:
    call, error, got = BAD[name]
    with pytest.raises(error, match=f"^check_model: .*{got}") as caught:
        call()
    assert isinstance(caught.value, MinigradError)
    assert all((caught.value.function, caught.value.got, caught.value.expected, caught.value.fix))


def test_raise_exception() -> None:
    assert check_model(Net(), None, X, T, raise_exception=True)
    with pytest.raises(GradientError, match=r"^check_model: b2\[1\]: wrong"):
        check_model(Net(bent("b2", doubled(1))), None, X, T, raise_exception=True)


def test_few_evaluations_for_each_parameter() -> None:
    report = check_model(Net(), None, X, T)
    assert report.calls <= 4 * (3 + 8) * 12 * 2
    assert isinstance(report.rows[0], ParameterRow)


def test_a_net_whose_gradient_draws_dropout_anew_is_right() -> None:
    net = MultiLayerNetExtend(4, [6, 5], 3, use_dropout=True, dropout_ration=0.4, use_batchnorm=True, seed=0)
    x, t = np.random.default_rng(0).standard_normal((8, 4)), np.array([0, 1, 2, 0, 1, 2, 0, 1])
    state = np.random.get_state()[1].copy()
    report = check_model(net, None, x, t)
    assert report.verdict != "wrong", str(report)
    assert {row.name for row in report.rows if row.verdict == "ok"} >= {"W1", "gamma1", "beta1", "W2", "W3", "b3"}
    assert np.array_equal(np.random.get_state()[1], state)
