"""minigrad.book: the book's numbers, its layers and nets, and the traps of its code."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import book, unfused
from minigrad.book import functions, layers, numbers
from minigrad.book.layers import Layer
from minigrad.book.numbers import NUMBERS, Number, report
from minigrad.errors import ArgumentError, DTypeError, GraphError, LabelError, ShapeError
from minigrad.testing import numerical_gradient

LOGITS = np.array([[0.3, 2.9, 4.0], [0.1, 0.2, 0.7], [1.0, -1.0, 0.0]])
INDEX = np.array([2, 0, 1])
ONE_HOT = np.eye(3)[INDEX]
SOFT = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.0, 0.5, 0.5]])


# The table


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.what)
def test_the_number_comes_out(number: Number) -> None:
    got = number.got()
    assert len(got) == len(number.wanted)
    for i, value in enumerate(got):
        assert number.ok(i, value), f"{number.wanted[i]!r} wanted, got {value!r}"


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.what)
def test_one_unit_more_than_allowed_is_off(number: Number) -> None:
    for i, wanted in enumerate(number.wanted):
        unit = np.spacing(abs(wanted)) if number.unit == "ULP" else 10.0**-number.places
        if number.unit == "digits":
            unit *= 10.0 ** (np.floor(np.log10(abs(wanted))) + 1)
        more = number.places + 1 if number.unit == "ULP" else 2
        assert number.ok(i, wanted)
        assert not number.ok(i, wanted + more * unit)
        assert not number.ok(i, wanted - more * unit)


def test_the_report_has_a_line_for_every_number() -> None:
    out = io.StringIO()
    assert report(out) == 0
    header, *lines, last = out.getvalue().splitlines()
    assert len(lines) == sum(len(number.wanted) for number in NUMBERS) == 74
    assert all("  ok   " in line for line in lines)
    assert header.split() == ["what", "wanted", "got", "ok", "to"]
    assert last == "all 74 numbers right"


def test_the_report_says_what_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Number("a third", (0.25, 1.0), lambda: (1 / 3, 1), 0, "ULP")
    monkeypatch.setattr(numbers, "NUMBERS", (wrong,))
    out = io.StringIO()
    assert report(out) == 1
    _, off, right, last = out.getvalue().splitlines()
    assert "0.25" in off
    assert "0.3333333333333333  OFF" in off
    assert "OFF" not in right
    assert last == "1 of 2 numbers off"


def test_the_graph_at_5_is_the_unfused_sigmoid() -> None:
    def names(out: mg.Tensor) -> list[str]:
        node, found = out._node, []
        while node is not None and node.op is not None:
            found.append(node.op.name)
            (node,) = [parent for parent in node.parents if parent is not None]
        return found

    _, out = numbers.sigmoid_graph()
    x = mg.Tensor(5.0, requires_grad=True)
    assert names(out) == names(unfused.sigmoid(x)) == ["divide", "add", "exp", "multiply"]
    assert out.item() == unfused.sigmoid(x).item()


def test_simple_net_has_the_same_gradient_numerically() -> None:
    net = book.SimpleNet(numbers.NET_W)
    dW = numerical_gradient(lambda W: net.loss(numbers.NET_X, numbers.NET_T), net.W)
    np.testing.assert_allclose(dW, net.gradient(numbers.NET_X, numbers.NET_T), rtol=1e-7)


# gradient_descent


def test_gradient_descent_leaves_its_start_alone() -> None:
    start = np.array([3.0, 4.0])
    end = book.gradient_descent(lambda x: np.sum(x**2), start, lr=0.1)
    assert start.tolist() == [3.0, 4.0]
    assert end.tolist() == [6.111107928998789e-10, 8.148143905314271e-10]


def test_gradient_descent_takes_integers() -> None:
    for start in ([3, 4], np.array([3, 4])):
        end = book.gradient_descent(lambda x: np.sum(x**2), start, lr=0.1)  # type: ignore[arg-type]
        assert end.tolist() == [6.111107928998789e-10, 8.148143905314271e-10]


@pytest.mark.parametrize("step_num", [-1, 1.5, "3"])
def test_gradient_descent_counts_its_steps(step_num: Any) -> None:
    with pytest.raises(ArgumentError, match=r"gradient_descent: step_num: .*; expected .*; pass"):
        book.gradient_descent(lambda x: np.sum(x**2), np.array([3.0]), step_num=step_num)


# functions


def test_functions_give_arrays_for_arrays_and_tensors_for_tensors() -> None:
    x = np.array([[0.5, -1.0]])
    for f in (book.sigmoid, book.relu, book.softmax, book.identity_function):
        assert type(f(x)) is np.ndarray
        out = f(mg.Tensor(x, requires_grad=True))
        assert isinstance(out, mg.Tensor)
        assert out.requires_grad
        assert np.array_equal(out.data, f(x))
    assert isinstance(book.sigmoid(0.0), float)


def test_step_function_and_relu_grad_at_zero() -> None:
    x = np.array([-1.0, 0.0, 2.0])
    assert book.step_function(x).tolist() == [0, 0, 1]
    assert book.step_function(x).dtype.kind == "i"
    assert book.relu_grad(x).tolist() == [0.0, 0.0, 1.0]
    with mg.no_grad():
        assert book.relu_grad(3) == 1.0


def test_sigmoid_grad_keeps_its_digits_where_the_books_is_zero() -> None:
    x = np.array([-700.0, 40.0, 700.0])
    assert ((1 - 1 / (1 + np.exp(-x[1:]))) == 0).all()
    np.testing.assert_allclose(book.sigmoid_grad(x), np.exp(-abs(x)), rtol=1e-15)


def test_softmax_of_three_axes_is_taken_over_the_last() -> None:  # T10
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    np.testing.assert_allclose(book.softmax(x).sum(axis=-1), np.ones((2, 3)))


def test_cross_entropy_error_is_the_books_for_every_form_of_labels() -> None:
    y = book.softmax(LOGITS)
    wanted = -np.log(y[np.arange(3), INDEX] + 1e-7).sum() / 3
    assert book.cross_entropy_error(y, INDEX) == book.cross_entropy_error(y, ONE_HOT)
    np.testing.assert_allclose(book.cross_entropy_error(y, INDEX), wanted, rtol=1e-15)
    np.testing.assert_allclose(book.cross_entropy_error(y, SOFT), -(SOFT * np.log(y + 1e-7)).sum() / 3, rtol=1e-15)
    assert book.cross_entropy_error(y[0], INDEX[0]) == book.cross_entropy_error(y[:1], INDEX[:1])
    assert book.cross_entropy_error(np.array([0, 1]), np.array([0.5, 0.5])) > 8  # y of integers, soft labels


def test_cross_entropy_error_differentiates() -> None:
    y = mg.Tensor([0.2, 0.8], requires_grad=True)
    book.cross_entropy_error(y, 1).backward()
    assert y.grad is not None
    np.testing.assert_allclose(y.grad, [0, -1 / (0.8 + 1e-7)])


def test_softmax_loss_has_no_epsilon() -> None:
    assert book.softmax_loss(np.array([1000, 0]), 1) == 1000.0
    assert book.softmax_loss(LOGITS, INDEX) == mg.softmax_cross_entropy(LOGITS, INDEX).item()


def test_sum_squared_error_does_not_broadcast() -> None:
    assert book.sum_squared_error([1.0, 2.0], [0.0, 4.0]) == 2.5
    with pytest.raises(ShapeError, match=r"y has shape \(2,\), t has shape \(2, 1\)"):
        book.sum_squared_error([1.0, 2.0], [[1.0], [2.0]])


LOSSES = {
    "cross_entropy_error": lambda x, t: book.cross_entropy_error(book.softmax(x), t),
    "softmax_loss": book.softmax_loss,
    "SoftmaxWithLoss": lambda x, t: book.SoftmaxWithLoss().forward(x, t),
    "accuracy": lambda x, t: book.TwoLayerNet(x.shape[-1], 2, x.shape[-1]).accuracy(x, t),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("shape", "t", "error"),
    [
        ((3, 2), [0, 1], ShapeError),  # T1: two labels for three samples
        ((3, 2), [[0, 1], [1, 0]], ShapeError),
        ((2, 3), [0, 1, 2], ShapeError),
        ((3, 2), [[0], [1], [0]], ShapeError),
        ((3, 2), [0, 1, -1], LabelError),  # T12
        ((3, 2), [0, 1, 2], LabelError),
        ((3, 2), [0.0, 1.0, 1.0], DTypeError),
        ((3,), 3, LabelError),
    ],
)
def test_labels_that_do_not_fit(loss: str, shape: tuple[int, ...], t: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="; expected "):
        LOSSES[loss](np.zeros(shape), np.array(t))


def test_one_class_and_one_label_each_is_a_batch() -> None:  # T5
    assert book.cross_entropy_error(np.ones((3, 1)), np.array([0, 0, 0])) == pytest.approx(-1e-7)
    assert book.SoftmaxWithLoss().forward(np.ones((3, 1)), np.array([0, 0, 0])) == 0


# Layers

LAYERS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "MulLayer": (book.MulLayer, (np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([2.0, -1.0]))),
    "AddLayer": (book.AddLayer, (np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([2.0, -1.0]))),
    "Relu": (book.Relu, (np.array([[1.0, -2.0], [0.5, 3.0]]),)),
    "Sigmoid": (book.Sigmoid, (np.array([[1.0, -2.0], [0.5, 3.0]]),)),
    "Affine": (lambda: book.Affine(LOGITS[:2].copy(), np.ones(3)), (np.array([[1.0, -2.0], [0.5, 3.0]]),)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_with_numerical_differentiation(name: str) -> None:
    make, inputs = LAYERS[name]
    layer: Layer = make()
    out = layer.forward(*inputs)
    assert type(out) is np.ndarray
    dout = np.random.default_rng(5).standard_normal(out.shape)
    dout.flags.writeable = False  # T26: the book's Relu writes into it
    dxs = layer.backward(dout)
    for x, dx in zip(inputs, dxs if isinstance(dxs, tuple) else (dxs,), strict=True):
        assert type(dx) is np.ndarray
        wanted = numerical_gradient(lambda _: np.sum(make().forward(*inputs) * dout), x)
        np.testing.assert_allclose(dx, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", [*LAYERS, "SoftmaxWithLoss"])
def test_backward_without_forward_is_an_error(name: str) -> None:
    layer = LAYERS[name][0]() if name in LAYERS else book.SoftmaxWithLoss()
    with pytest.raises(GraphError, match=rf"^{name}.backward: a layer without a forward; expected .*; call"):
        layer.backward(1)


def test_backward_belongs_to_the_latest_forward_and_can_be_repeated() -> None:  # T19
    mul = book.MulLayer()
    mul.forward(2.0, 3.0)
    mul.forward(5.0, 7.0)
    assert mul.backward(1) == mul.backward(1) == (7.0, 5.0)
    with pytest.raises(ShapeError):
        mul.forward(np.ones(2), np.ones(3))
    assert mul.backward(1) == (7.0, 5.0)


def test_layers_do_not_look_at_what_happens_to_their_arrays_later() -> None:
    x, W = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])
    affine = book.Affine(W, np.zeros(1))
    out = affine.forward(x)
    x[:], W[:], out[:] = 0, 0, 0
    assert affine.backward(np.ones((1, 1))).tolist() == [[3.0, 4.0]]
    assert affine.dW.tolist() == [[1.0], [2.0]]
    affine.dW[:] = 0
    affine.backward(np.ones((1, 1)))
    assert affine.dW.tolist() == [[1.0], [2.0]]


def test_a_result_that_backward_needs_can_be_written_to() -> None:
    class Exp(Layer):
        def forward(self, x: Any) -> Any:
            return self._record(mg.exp, x)

        def backward(self, dout: Any) -> Any:
            return self._pull(dout)[0]

    exp = Exp()
    exp.forward(np.array([0.0, 1.0]))[:] = 0
    assert exp.backward(1).tolist() == [1.0, np.exp(1.0)]


def test_activations_forward() -> None:
    x = np.array([[1.0, -2.0], [0.0, 30.0]])
    assert book.Relu().forward(x).tolist() == [[1.0, 0.0], [0.0, 30.0]]
    assert np.array_equal(book.Sigmoid().forward(x), book.sigmoid(x))


def test_layers_work_under_no_grad_and_refuse_a_dout_of_another_shape() -> None:
    relu = book.Relu()
    with mg.no_grad():
        relu.forward(np.array([1.0, -1.0]))
    assert relu.backward(2).tolist() == [2.0, 0.0]
    with pytest.raises(ShapeError, match=r"Relu.backward: dout: dout is float64 \(3,\)"):
        relu.backward(np.ones(3))


def test_layers_keep_float32_and_turn_integers_into_floats() -> None:
    affine = book.Affine(np.ones((2, 3), np.float32), np.zeros(3, np.float32))
    assert affine.forward(np.ones((1, 2), np.float32)).dtype == np.float32
    assert affine.backward(np.ones((1, 3))).dtype == affine.dW.dtype == np.float32
    assert book.Sigmoid().forward(np.array([0, 1])).dtype == np.float64


def test_affine_flattens_images() -> None:
    rng = np.random.default_rng(0)
    x, W, b = rng.standard_normal((4, 2, 3, 3)), rng.standard_normal((18, 5)), rng.standard_normal(5)
    images, rows = book.Affine(W, b), book.Affine(W, b)
    assert images.dW is None
    assert np.array_equal(images.forward(x), rows.forward(x.reshape(4, -1)))
    dout = rng.standard_normal((4, 5))
    assert np.array_equal(images.backward(dout), rows.backward(dout).reshape(x.shape))
    assert np.array_equal(images.dW, rows.dW)
    assert np.array_equal(images.db, rows.db)
    assert images.forward(np.empty((0, 2, 3, 3))).shape == (0, 5)


def test_affine_takes_one_sample() -> None:
    affine = book.Affine(LOGITS[:2], np.zeros(3))
    assert affine.forward(np.array([1.0, 2.0])).shape == (3,)
    affine.backward(np.array([1.0, 0.0, 0.0]))
    assert affine.dW.tolist() == [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]


@pytest.mark.parametrize("t", [INDEX, ONE_HOT, SOFT], ids=["index", "one-hot", "soft"])
@pytest.mark.parametrize("dout", [1, 5.0, -0.25])
def test_softmax_with_loss_is_the_gradient_of_its_loss(t: Any, dout: float) -> None:  # T2, T4, T9
    layer = book.SoftmaxWithLoss()
    loss = layer.forward(LOGITS, t)
    rows = ONE_HOT if t is INDEX else t
    np.testing.assert_allclose(loss, -(rows * np.log(book.softmax(LOGITS))).sum() / 3, rtol=1e-14)
    assert (layer.loss, layer.t is t) == (loss, True)
    np.testing.assert_allclose(layer.y, book.softmax(LOGITS))
    dx = layer.backward(dout)
    np.testing.assert_allclose(dx, (book.softmax(LOGITS) - rows) / 3 * dout, rtol=1e-12)
    x = LOGITS.copy()
    wanted = numerical_gradient(lambda _: dout * book.SoftmaxWithLoss().forward(x, t), x)
    np.testing.assert_allclose(dx, wanted, rtol=1e-6)


def test_softmax_with_loss_gives_the_same_bits_for_index_and_one_hot() -> None:
    index, one_hot = book.SoftmaxWithLoss(), book.SoftmaxWithLoss()
    assert index.y is None
    assert index.forward(LOGITS, INDEX) == one_hot.forward(LOGITS, ONE_HOT.astype(int))
    assert np.array_equal(index.backward(3), one_hot.backward(3))


@pytest.mark.parametrize("t", [np.array([0, 0, 1]), np.array(2)], ids=["one-hot", "index"])
def test_one_sample_is_a_batch_of_one(t: Any) -> None:  # T3
    one, batch = book.SoftmaxWithLoss(), book.SoftmaxWithLoss()
    assert one.forward(LOGITS[0], t) == batch.forward(LOGITS[:1], np.array([2]))
    dx = one.backward()
    assert dx.shape == (3,)
    assert np.array_equal(dx, batch.backward()[0])


def test_logits_far_apart() -> None:  # T7
    layer = book.SoftmaxWithLoss()
    assert layer.forward(np.array([1000.0, 0.0]), 1) == 1000.0
    assert layer.backward().tolist() == [1.0, -1.0]


# Nets


def small() -> tuple[book.TwoLayerNet, Any, Any]:
    rng = np.random.default_rng(7)
    return book.TwoLayerNet(4, 5, 3, 0.5, seed=3), rng.standard_normal((6, 4)), np.array([0, 1, 2, 0, 1, 2])


def test_two_layer_net_has_the_books_parts() -> None:
    net, x, _ = small()
    assert {key: p.shape for key, p in net.params.items()} == {"W1": (4, 5), "b1": (5,), "W2": (5, 3), "b2": (3,)}
    assert isinstance(net.layers, OrderedDict)
    assert list(net.layers) == ["Affine1", "Relu1", "Affine2"]
    assert net.lastLayer is net.last_layer
    assert net.predict(x).shape == (6, 3)
    assert net.layers["Affine1"].W is net.params["W1"]  # type: ignore[attr-defined]


def test_gradient_needs_no_forward_and_agrees_with_numerical_gradient() -> None:  # T22
    net, x, t = small()
    gradients, numerical = net.gradient(x, t), net.numerical_gradient(x, t)
    assert list(gradients) == list(numerical) == ["W1", "b1", "W2", "b2"]
    for key in gradients:
        np.testing.assert_allclose(gradients[key], numerical[key], rtol=1e-5, atol=1e-9)
        assert abs(numerical[key]).max() > 1e-3
    net.predict(np.zeros((2, 4)))  # a forward in between does not matter
    assert all(np.array_equal(dp, gradients[key]) for key, dp in net.gradient(x, t).items())


@pytest.mark.parametrize("how", ["in place", "assigned", "through the layer", "all at once", "a list"])
def test_a_new_parameter_reaches_the_layers(how: str) -> None:  # T21
    net, x, t = small()
    other, _, _ = small()
    before = net.loss(x, t)
    W = net.params["W1"]
    wanted = W - 0.5
    if how == "in place":
        net.params["W1"] -= 0.5
        assert net.params["W1"] is W
    elif how == "assigned":
        net.params["W1"] = net.params["W1"] - 0.5
    elif how == "through the layer":
        net.layers["Affine1"].W = wanted  # type: ignore[attr-defined]
    elif how == "all at once":
        net.params = {**net.params, "W1": wanted}
    else:
        net.params["W1"] = wanted.tolist()
    assert np.array_equal(net.params["W1"], wanted)
    other.params["W1"][:] = wanted
    assert net.loss(x, t) == other.loss(x, t) != before
    for key, dp in net.gradient(x, t).items():
        np.testing.assert_allclose(net.numerical_gradient(x, t)[key], dp, rtol=1e-5, atol=1e-9)


def test_accuracy_is_returned() -> None:  # T20
    net, x, t = small()
    right = net.predict(x).argmax(axis=1)
    assert net.accuracy(x, right) == 1.0
    assert net.accuracy(x, (right + 1) % 3) == 0.0
    assert net.accuracy(x, np.eye(3)[t]) == net.accuracy(x, t)
    assert net.accuracy(x[0], right[0]) == 1.0


def test_nets_are_the_same_for_the_same_seed() -> None:  # T23
    for make in (
        lambda seed: book.TwoLayerNet(4, 5, 3, seed=seed).params["W1"],
        lambda seed: book.SimpleNet(seed=seed).W,
    ):
        assert np.array_equal(make(1), make(1))
        assert not np.array_equal(make(1), make(2))
        assert np.array_equal(make(np.random.default_rng(1)), make(np.random.default_rng(1)))
        np.random.seed(1)
        assert np.array_equal(make(None), make(1))  # the global state is what the book draws from
        for wrong in (-1, 1.5, "1", True):
            with pytest.raises(ArgumentError, match=r"seed: .*; expected None for NumPy's global state"):
                make(wrong)


def test_numerical_gradient_sees_a_net_that_ignores_its_argument() -> None:  # T14
    net, x, t = small()
    before = {key: p.copy() for key, p in net.params.items()}
    net.numerical_gradient(x, t)
    with pytest.raises(LabelError):
        net.numerical_gradient(x, t + 10)
    assert all(np.array_equal(net.params[key], p) for key, p in before.items())


@pytest.mark.parametrize("sizes", [(0, 5, 3), (4, -1, 3), (4, 5, 2.5)])
def test_sizes_are_positive_integers(sizes: tuple[Any, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"TwoLayerNet: \w+_size: .*; expected a whole number, 1 or more; write"):
        book.TwoLayerNet(*sizes)


def test_params_keep_their_names() -> None:
    net, _, _ = small()
    with pytest.raises(ArgumentError, match=r"TwoLayerNet.params"):
        net.params = {"W1": net.params["W1"]}


def test_the_book_is_all_there() -> None:
    assert {*functions.__all__, *layers.__all__} - {"Layer", "np"} <= set(book.__all__)
    assert all(hasattr(book, name) for name in book.__all__)
