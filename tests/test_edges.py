"""Places where a first version was silently wrong, or failed without a word that helps: one test each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Op, Tensor, func, grad


def leaf(values: Any) -> Tensor:
    return Tensor(np.array(values, float), requires_grad=True)


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "log_sigmoid", "tanh"])
def test_numbers_in_the_other_byte_order(name: str) -> None:
    values = np.array([1.0, -2.0, 0.5])
    x, y = leaf(values), Tensor(values.astype(values.dtype.newbyteorder()), requires_grad=True)
    for t in (x, y):
        getattr(mg, name)(t).backward(np.array([1.0, 2.0, 3.0]))
    assert x.grad.tolist() == y.grad.tolist()
    with pytest.raises(mg.DTypeError, match="byte order"):
        mg.from_numpy(values.astype(values.dtype.newbyteorder()))


def test_mixed_second_derivative_of_power_at_exponent_0() -> None:
    x, y = leaf(2.0), leaf(0.0)
    (dx,) = grad(x**y, x, create_graph=True)
    assert grad(dx, y)[0].item() == 0.5
    (dy,) = grad(x**y, y, create_graph=True)
    assert grad(dy, x)[0].item() == 0.5
    assert grad(leaf(0.0) ** y, y, allow_unused=True)[0].item() == 0.0


def test_jvp_can_be_differentiated_by_its_tangent() -> None:
    x = np.array([1.0, 2.0])
    change = func.grad(lambda v: np.sum(func.jvp(lambda x: x**2, [x], [v])[1]))
    assert change(np.ones(2)).tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    "result", [lambda x: x > 0, lambda x: x.astype(int), lambda x: None, lambda x: (x, x), lambda x: x + 1j]
)
def test_forward_that_returns_no_floats(result: Any) -> None:
    class Odd(Op):
        def forward(self, x):
            return result(x)

        def backward(self, dout):
            return dout

    with pytest.raises(mg.DTypeError, match=r"odd\.forward: it returned"):
        Odd()(leaf([1.5]))


def test_assigning_a_recorded_value_to_integers() -> None:
    x = Tensor([1, 2, 3])
    with pytest.raises(mg.DTypeError, match="a float x"):
        x[0] = leaf(2.7)
    assert x.tolist() == [1, 2, 3]


def test_what_an_op_with_any_number_of_arguments_may_ask_for() -> None:
    with pytest.raises(mg.DTypeError, match="a parameter 'out'"):

        class Several(Op):
            def forward(self, *xs):
                return xs[0]

            def backward(self, dout, out):
                return dout


def test_arguments_may_have_any_names() -> None:
    class Product(Op):
        def forward(self, x, x_data, new, tick):
            return x * x_data * new * tick

        def backward(self, dout, x, x_data, new, tick):
            return dout * x_data * new * tick, dout * x * new * tick, dout * x * x_data * tick, dout * x * x_data * new

    xs = [leaf(v) for v in (3.0, 5.0, 7.0, 11.0)]
    Product()(*xs).backward()
    assert [float(x.grad) for x in xs] == [385.0, 231.0, 165.0, 105.0]
    assert type("Not", (Product,), {})()(*xs).item() == 1155.0


def test_a_static_forward_is_refused() -> None:
    with pytest.raises(mg.DTypeError, match="a method with self"):

        class Static(Op):
            @staticmethod
            def forward(x):
                return x

            def backward(self, dout):
                return dout


def test_a_subclass_may_set_a_field() -> None:
    class Scale(Op):
        k: float = 1.0

        def forward(self, x):
            return self.k * x

        def backward(self, dout):
            return self.k * dout

    class Twice(Scale):
        k = 2.0

    assert Twice()(leaf(3.0)).item() == 6.0
    assert Scale()(leaf(3.0)).item() == 3.0


@pytest.mark.parametrize("row", [[-np.inf, 0.0], [np.nan, 0.0]])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_ignored_row_does_not_count_whatever_is_in_it(row: list[float], reduction: Any) -> None:
    x = leaf([row, [0.0, 1.0]])
    loss = mg.softmax_cross_entropy(x, [-1, 1], ignore_index=-1, reduction=reduction)
    loss.backward()
    assert loss.item() == pytest.approx(np.log1p(np.exp(-1)))
    assert x.grad[0].tolist() == [0.0, 0.0]


def test_unsigned_labels_and_weights_that_want_a_gradient() -> None:
    x = leaf(np.zeros((2, 3)))
    assert mg.softmax_cross_entropy(x, np.array([0, 1], np.uint64)).item() == pytest.approx(np.log(3))
    for call in (mg.softmax_cross_entropy, mg.sigmoid_binary_cross_entropy):
        with pytest.raises(mg.DTypeError, match="weight: a tensor that requires a gradient"):
            call(x, np.eye(3)[:2], weight=leaf([1.0, 1.0, 1.0]))


def test_logsumexp_of_infinities_and_of_no_rows() -> None:
    assert mg.logsumexp(Tensor([-np.inf, -np.inf])).item() == -np.inf
    assert mg.logsumexp(Tensor([np.inf, 1.0])).item() == np.inf
    assert mg.logsumexp(Tensor(np.zeros((0, 3))), axis=1).shape == (0,)


def test_the_mean_of_many_float16() -> None:
    x = Tensor(np.ones(70_000, np.float16), requires_grad=True)
    mg.mean(x).backward()
    assert x.grad[0] == np.float16(1 / 70_000)


def test_the_deviation_of_equal_values_has_gradient_0() -> None:
    x = leaf([0.1, 0.1, 0.1])
    mg.std(x).backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(mg.ArgumentError, match="ddof=1"):
        mg.var(leaf([3.0]), ddof=1)


def test_an_infinite_gradient_stays_where_it_belongs() -> None:
    x = leaf([1.0, 2.0])
    mg.repeat(x, 2).backward(np.array([np.inf, 1.0, 1.0, 1.0]))
    assert x.grad.tolist() == [np.inf, 2.0]
    x = leaf(np.eye(2))
    mg.trace(x).backward(np.inf)
    assert x.grad.tolist() == [[np.inf, 0.0], [0.0, np.inf]]


def test_repeat_needs_no_matrix() -> None:
    x = leaf(np.ones(200_000))
    mg.repeat(x, (np.arange(200_000) % 3).tolist()).backward(np.ones(199_999))
    assert x.grad[:4].tolist() == [0.0, 1.0, 2.0, 0.0]


@pytest.mark.parametrize("function", [np.fmax, np.fmin, np.float_power])
def test_numpy_functions_of_another_meaning_have_no_rule(function: Any) -> None:
    with pytest.raises(mg.DTypeError, match=f"numpy.{function.__name__}"):
        function(leaf([1.0]), 2.0)


def test_axes_out_of_range_do_not_wrap() -> None:
    with pytest.raises(mg.ShapeError, match="tensordot"):
        mg.tensordot(np.ones((2, 2)), np.ones(2), axes=([3], [0]))


def test_a_grad_that_is_refused_leaves_the_graph() -> None:
    x, z = leaf(2.0), leaf(1.0)
    y = x * x
    with pytest.raises(mg.GraphError, match="do not depend on"):
        grad(y, [x, z])
    y.backward()
    assert x.grad == 4.0


def test_einsum_over_lengths_of_1_and_0() -> None:
    x, y = leaf([1.0, 2.0, 3.0]), leaf([2.0])
    mg.einsum("i,i->", x, y).backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]
    assert y.grad.tolist() == [6.0]
    empty = leaf(np.zeros(0))
    mg.einsum("i->", empty).backward()
    assert empty.grad.shape == (0,)


def test_take_along_axis_of_a_stretched_row() -> None:
    x = leaf([[1.0, 2.0, 3.0]])
    mg.take_along_axis(x, np.array([[0, 1, 2], [2, 1, 0]]), 1).backward(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert x.grad.tolist() == [[7.0, 7.0, 7.0]]


def test_an_empty_list_is_an_index() -> None:
    assert leaf([1.0, 2.0])[[]].shape == (0,)


def test_backward_takes_a_gradient_that_is_itself_a_leaf() -> None:
    x = leaf([1.0, 2.0])
    (x * x).backward(leaf([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 40.0]


def test_no_grad_without_parentheses() -> None:
    @mg.no_grad
    def inside() -> bool:
        return mg.is_grad_enabled()

    assert not inside()
    assert mg.is_grad_enabled()


def test_a_rule_that_fails_says_where() -> None:
    class Fails(Op):
        def forward(self, x):
            return x * 2

        def backward(self, dout):
            return dout @ np.ones((5, 5))

    with pytest.raises(ValueError, match="matmul") as caught:
        Fails()(leaf([1.0, 2.0])).backward(np.ones(2))
    assert caught.value.__notes__ == ["in backward of fails, with dout float64 (2,)"]
