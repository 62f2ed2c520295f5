"""The numbers that the book prints in chapters 4 and 5, and the code that computes each of them again.

`minigrad book` shows them. In the book's order, the four parts of each: what it is, what is wanted, how it is
computed, and to how many places it has to be right:

ULP        units in the last place of a float64: 0 where +, -, * and / alone are involved, which every machine
           rounds alike; more where exp or log is, and where an exact decimal is wanted
digits     rounded to so many significant digits, as the book prints it
decimals   units of the last decimal that the book prints: one, since what it starts from is printed so too
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from minigrad import ops
from minigrad.autograd import grad, no_grad
from minigrad.book.functions import cross_entropy_error, sigmoid, sigmoid_grad, softmax
from minigrad.book.gradient import gradient_descent, numerical_diff, numerical_gradient
from minigrad.book.layers import AddLayer, MulLayer, SoftmaxWithLoss
from minigrad.book.nets import SimpleNet
from minigrad.tensor import Tensor

__all__ = ["NUMBERS", "Number", "report"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Number:
    """One number of the book, or a few that belong together: `compute` returns them in the order of `wanted`.

    >>> half = Number("half of one", (0.5,), lambda: 1 / 2, 0, "ULP")
    >>> half.got(), half.ok(0, half.got()[0]), half.ok(0, 0.51)
    ([0.5], True, False)
    """

    what: str
    wanted: tuple[float, ...]
    compute: Callable[[], Any]
    places: int
    unit: Literal["ULP", "digits", "decimals"]
    names: tuple[str, ...] = ()

    def got(self) -> list[float]:
        """The numbers as minigrad computes them."""
        values: list[float] = np.concatenate([np.ravel(part) for part in _parts(self.compute())]).tolist()
        return values

    def ok(self, i: int, got: float) -> bool:
        """Whether `got` is the number at i to the places stated."""
        wanted = self.wanted[i]
        if self.unit == "ULP":
            allowed = self.places * float(np.spacing(abs(wanted)))
        elif self.unit == "decimals":
            allowed = 10.0**-self.places
        else:
            allowed = 0.5 * 10.0 ** (int(np.floor(np.log10(abs(wanted)))) + 1 - self.places)
        return abs(got - wanted) <= allowed


def report(out: TextIO) -> int:
    """Writes a line for every number: what it is, wanted, got, ok, to how many places.

    Returns 0, or 1 if one is off.

    >>> import io
    >>> report(io.StringIO())
    0
    """
    total = off = 0
    out.write(f"{'what':50} {'wanted':>22} {'got':>22}  ok   to\n")
    for number in NUMBERS:
        n = len(number.wanted)
        for i, (wanted, value) in enumerate(zip(number.wanted, number.got(), strict=True)):
            name = number.names[i] if number.names else f"[{i}]" if n > 1 else ""
            label = f"{number.what if i == 0 else '':{50 - len(name)}}{name}"
            right = number.ok(i, value)
            verdict = "ok " if right else "OFF"
            out.write(f"{label} {wanted!r:>22} {value!r:>22}  {verdict}  {number.places} {number.unit}\n")
            total += 1
            off += not right
    out.write(f"{off} of {total} numbers off\n" if off else f"all {total} numbers right\n")
    return 1 if off else 0


def _parts(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


# Chapter 4: numerical differentiation


def function_1(x: float) -> float:
    """y = 0.01 * x**2 + 0.1 * x; x * x, since pow is not rounded alike everywhere."""
    return 0.01 * (x * x) + 0.1 * x


def function_2(x: Array) -> Any:
    """y = x0**2 + x1**2"""
    return np.sum(x**2)


def tangent_intercept() -> float:
    """Where the tangent at 5 crosses the y axis."""
    return function_1(5) - numerical_diff(function_1, 5) * 5


def slopes(*point: float) -> Callable[[], Array]:
    """The numerical gradient of function_2 at a point."""
    return lambda: numerical_gradient(function_2, np.array(point))


def descent(*point: float, lr: float) -> Callable[[], Array]:
    """Where 100 steps lead from a point, with the numerical gradient."""
    return lambda: gradient_descent(function_2, np.array(point), lr=lr, step_num=100)


def descent_by_backward() -> Array:
    """Where 100 steps lead from [3, 4], with the gradient of backward()."""
    x = Tensor([3.0, 4.0], requires_grad=True)
    for _ in range(100):
        ops.sum(x**2).backward()
        with no_grad():
            x -= 0.1 * x.grad  # type: ignore[operator]  # backward has just made it
        x.zero_grad()
    return x.data


# Chapter 4: losses and the simple net

FIRST_Y = np.array([0.1, 0.05, 0.6, 0.0, 0.5, 0.0, 0.1, 0.0, 0.0, 0.0])  # sums to 1.35: the book's own misprint
SECOND_Y = np.array([0.1, 0.05, 0.1, 0.0, 0.05, 0.1, 0.0, 0.6, 0.0, 0.0])
IS_2 = np.array([0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
NET_W = ((0.47355232, 0.9977393, 0.84668094), (0.85557411, 0.03563661, 0.69422093))
NET_X, NET_T = np.array([0.6, 0.9]), np.array([0, 0, 1])


def simple_net() -> tuple[Any, ...]:
    """The net of the book's page: scores, loss, gradient."""
    net = SimpleNet(NET_W)
    return net.predict(NET_X), net.loss(NET_X, NET_T), net.gradient(NET_X, NET_T)


def net_of_probabilities() -> Array:
    """The gradient of a net whose softmax gives exactly these probabilities for x."""
    z = np.log([0.40083138, 0.28262327, 0.31654535])
    return SimpleNet(np.outer(NET_X, z) / (NET_X @ NET_X)).gradient(NET_X, NET_T)


# Chapter 5: the shop, the graph of figure 5-19, the last layer


def apples() -> tuple[Any, ...]:
    """Two apples at 100, tax 1.1: forward 1, 2, then backward 2, 1."""
    mul_apple, mul_tax = MulLayer(), MulLayer()
    apple_price = mul_apple.forward(100, 2)  # 1
    price = mul_tax.forward(apple_price, 1.1)  # 2
    dapple_price, dtax = mul_tax.backward(1)  # 2
    dapple, dapple_num = mul_apple.backward(dapple_price)  # 1
    return price, dapple, dapple_num, dtax


def apples_and_oranges() -> tuple[Any, ...]:
    """Two apples at 100, three oranges at 150, tax 1.1: forward 1 to 4, then backward 4 to 1."""
    mul_apple, mul_orange, add, mul_tax = MulLayer(), MulLayer(), AddLayer(), MulLayer()
    apple_price = mul_apple.forward(100, 2)  # 1
    orange_price = mul_orange.forward(150, 3)  # 2
    all_price = add.forward(apple_price, orange_price)  # 3
    price = mul_tax.forward(all_price, 1.1)  # 4
    dall_price, dtax = mul_tax.backward(1)  # 4
    dapple_price, dorange_price = add.backward(dall_price)  # 3
    dorange, dorange_num = mul_orange.backward(dorange_price)  # 2
    dapple, dapple_num = mul_apple.backward(dapple_price)  # 1
    return price, dapple_num, dapple, dorange, dorange_num, dtax


def sigmoid_graph() -> tuple[list[Tensor], Tensor]:
    """The unfused sigmoid at 5, node by node: [x, x * -1, exp, + 1], and the result of the division."""
    x = Tensor(5.0, requires_grad=True)
    mul = ops.multiply(x, -1)
    exp = ops.exp(mul)
    add = ops.add(exp, 1)
    return [x, mul, exp, add], ops.divide(1, add)


def graph_forward() -> tuple[Any, ...]:
    """What leaves each of the four nodes."""
    (_, mul, exp, add), out = sigmoid_graph()
    return mul.item(), exp.item(), add.item(), out.item()


def graph_backward() -> tuple[Any, ...]:
    """What comes out of each of the four nodes on the way back."""
    (x, mul, exp, add), out = sigmoid_graph()
    return tuple(dx.item() for dx in grad(out, [add, exp, mul, x]))


def last_layer(t: Any) -> Callable[[], Array]:
    """The gradient of the last layer for two samples with labels t and dout = 3."""

    def backward() -> Array:
        layer = SoftmaxWithLoss()
        layer.forward(np.array([[0.3, 2.9, 4.0], [0.1, 0.2, 0.7]]), t)
        dx: Array = layer.backward(3.0)
        return dx

    return backward


# (softmax(x) - t) / 2 * 3 with 40 digits, rounded once
LAST_DX = (
    0.0273169099433213, 0.36778771940261085, -0.3951046293459321,
    -1.11805720801626, 0.42211206606904605, 0.695945141947214,
)  # fmt: skip
_W_NAMES = tuple(f"dW[{i}, {j}]" for i in range(2) for j in range(3))

NUMBERS = (
    Number("numerical_diff of 0.01x^2 + 0.1x at 5", (0.1999999999990898,),
           lambda: numerical_diff(function_1, 5), 0, "ULP"),
    Number("numerical_diff of 0.01x^2 + 0.1x at 10", (0.2999999999986347,),
           lambda: numerical_diff(function_1, 10), 0, "ULP"),
    Number("its tangent at 5: intercept", (-0.24999999999544897,), tangent_intercept, 0, "ULP"),
    Number("numerical_gradient of x0^2 + x1^2 at [3, 4]", (6.00000000000378, 7.999999999999119),
           slopes(3.0, 4.0), 0, "ULP"),
    Number("numerical_gradient of x0^2 + x1^2 at [0, 2]", (0.0, 4.000000000004), slopes(0.0, 2.0), 0, "ULP"),
    Number("numerical_gradient of x0^2 + x1^2 at [3, 0]", (6.000000000012662, 0.0), slopes(3.0, 0.0), 0, "ULP"),
    Number("gradient_descent from [3, 4], lr 0.1", (6.111107928998789e-10, 8.148143905314271e-10),
           descent(3.0, 4.0, lr=0.1), 0, "ULP"),
    # 3 * 0.8**100 and 4 * 0.8**100; each of 100 steps rounds twice, and 6 ULP are left of that
    Number("the same with backward()", (6.111107929003458e-10, 8.148143905337945e-10),
           descent_by_backward, 8, "ULP"),
    Number("gradient_descent from [-3, 4], lr 10", (-2.58983747e13, -1.29524862e12),
           descent(-3.0, 4.0, lr=10.0), 9, "digits"),
    Number("gradient_descent from [-3, 4], lr 1e-10", (-2.99999994, 3.99999992),
           descent(-3.0, 4.0, lr=1e-10), 9, "digits"),
    Number("cross_entropy_error of the first y, t = 2", (0.510825457099338,),
           lambda: cross_entropy_error(FIRST_Y, IS_2), 2, "ULP"),
    Number("cross_entropy_error of the second y, t = 2", (2.302584092994546,),
           lambda: cross_entropy_error(SECOND_Y, IS_2), 2, "ULP"),
    Number("sigmoid([24, 32, 5])", (0.9999999999622486, 0.9999999999999873, 0.9933071490757153),
           lambda: sigmoid(np.array([24, 32, 5])), 2, "ULP"),
    Number("its derivative", (3.775134543994065e-11, 1.2664165549093855e-14, 0.006648056670790156),
           lambda: sigmoid_grad(np.array([24, 32, 5])), 4, "ULP"),
    Number("the graph of 1 / (1 + exp(-x)) at 5",
           (-5.0, 0.006737946999085467, 1.0067379469990854, 0.9933071490757153),
           graph_forward, 2, "ULP", ("after *", "after exp", "after +", "after /")),
    Number("its gradients, backward",
           (-0.9866590924049252, -0.9866590924049252, -0.006648056670790156, 0.006648056670790156),
           graph_backward, 4, "ULP", ("after /", "after +", "after exp", "after *")),
    Number("softmax([1010, 1000, 990])", (0.9999546, 4.5397869e-05, 2.0610600e-09),
           lambda: softmax(np.array([1010, 1000, 990])), 8, "digits"),
    Number("SimpleNet",
           (1.05414809, 0.63071653, 1.1328074, 0.92806854,
            0.21924763, 0.14356247, -0.36281009, 0.32887144, 0.2153437, -0.54421514),
           simple_net, 8, "decimals", ("z[0]", "z[1]", "z[2]", "loss", *_W_NAMES)),
    Number("SimpleNet with softmax [0.40083138, ...]",
           (0.24049883, 0.16957396, -0.41007279, 0.36074824, 0.25436094, -0.61510918),
           net_of_probabilities, 8, "decimals", _W_NAMES),
    Number("2 apples at 100, tax 1.1", (220.0, 2.2, 110.0, 200.0), apples, 4, "ULP",
           ("price", "dApple", "dNum", "dTax")),
    Number("2 apples, 3 oranges at 150", (715.0, 110.0, 2.2, 3.3, 165.0, 650.0), apples_and_oranges, 4, "ULP",
           ("price", "dNumApple", "dApple", "dOrange", "dNumOrange", "dTax")),
    # softmax is good to 4 ULP and one more for each unit of max - x, here 3.7
    Number("SoftmaxWithLoss backward, index labels", LAST_DX, last_layer(np.array([2, 0])), 8, "ULP"),
    Number("SoftmaxWithLoss backward, one-hot labels", LAST_DX,
           last_layer(np.array([[0, 0, 1], [1, 0, 0]])), 8, "ULP"),
)  # fmt: skip
