"""The book's computation graphs with values and gradients: `python docs/figures/figures.py` draws them anew.

Deep Learning from Scratch: the graph of sigmoid (figures 5-19 to 5-21) and its simplified one (5-22), here at x = 5;
softmax with loss (appendix A), for the output (0.3, 0.2, 0.5) and the label (0, 1, 0) of section 5.6.3; the apples and
oranges of section 5.4.2 (figure 5-17); and the forward pass of its TwoLayerNet, small.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import minigrad as mg
from minigrad import Tensor, graph, nn

HERE = Path(__file__).parent


class Plus(mg.Op):
    """out = x1 + x2 + ...: the book's + with any number of arms."""

    symbol = "+"

    def forward(self, *xs):
        return sum(xs)

    def backward(self, dout, *xs):
        return (dout,) * len(xs)


def leaf(value, name):
    """A Tensor with a gradient and a name."""
    return Tensor(value, requires_grad=True, name=name)


def sigmoid_in_four_nodes(x):
    """As the book does it, with 1 / x as its node /."""
    with graph.record():
        return 1 / (1 + mg.exp(x * -1))


def sigmoid_forward():
    """Figure 5-19: x, exp, + and /."""
    return graph.draw(sigmoid_in_four_nodes(leaf(5.0, "x")), gradients=False)


def sigmoid():
    """Figure 5-20: the same with what flows back."""
    return graph.draw(sigmoid_in_four_nodes(leaf(5.0, "x")))


def sigmoid_simplified():
    """Figure 5-21 and 5-22: four nodes are one, with the same value and the same gradient."""
    x = leaf(5.0, "x")
    return graph.diff(mg.sigmoid(x), sigmoid_in_four_nodes(x))


def softmax_with_loss():
    """Figure A-5: softmax and cross-entropy error of three classes; y - t arrives at a."""
    a = [leaf(np.log(p), f"a{k}") for k, p in enumerate((3, 2, 5), 1)]
    t = [Tensor(v, name=f"t{k}") for k, v in enumerate((0.0, 1.0, 0.0), 1)]
    plus = Plus()
    with graph.record():
        # Written out: what a comprehension is called, in the tooltips, depends on Python's version.
        e = [mg.exp(a[0]), mg.exp(a[1]), mg.exp(a[2])]
        s = plus(*e)
        r = 1 / s
        y = [e[0] * r, e[1] * r, e[2] * r]
        terms = [mg.log(y[0]) * t[0], mg.log(y[1]) * t[1], mg.log(y[2]) * t[2]]
        loss = plus(*terms) * -1
    names = {"S": s, "1/S": r, "L": loss, **{f"y{k}": yk for k, yk in enumerate(y, 1)}}
    return graph.draw(graph.trace(loss, names))


def softmax_with_loss_simplified():
    """Figure A-6: both in one node, whose gradient is y - t."""
    a, t = leaf(np.log([[3.0, 2.0, 5.0]]), "a"), Tensor([[0.0, 1.0, 0.0]], name="t")
    with graph.record():
        e = mg.exp(a)
        y = e / mg.sum(e, axis=1, keepdims=True)
        loss = -mg.sum(t * mg.log(y))
        fused = mg.softmax_cross_entropy(a, t)
    return graph.diff(fused, graph.trace(loss, {"y": y}))


def apple_shop():
    """Figure 5-17: two apples, three oranges and the tax."""
    with graph.record():
        apples = leaf(2.0, "apples") * leaf(100.0, "apple price")
        oranges = leaf(3.0, "oranges") * leaf(150.0, "orange price")
        price = (apples + oranges) * leaf(1.1, "tax")
    return graph.draw(price)


def numbers(*shape):
    """Numbers between -0.5 and 0.5 that look drawn and are the same everywhere."""
    return np.sin(np.arange(1.0, 1 + np.prod(shape)) ** 2).reshape(shape) / 2


def two_layer_net():
    """TwoLayerNet of section 5.7: x W1 + b1, sigmoid, W2 and b2, softmax with loss."""
    x, t = Tensor(numbers(4, 3), name="x"), np.array([0, 1, 1, 0])
    W1, b1 = leaf(numbers(3, 5), "W1"), leaf(numbers(5), "b1")
    W2, b2 = leaf(numbers(5, 2), "W2"), leaf(numbers(2), "b2")
    with graph.record():
        z = mg.sigmoid(x @ W1 + b1)
        loss = mg.softmax_cross_entropy(z @ W2 + b2, t)
    return graph.draw(loss)


def two_layer_net_folded():
    """The same of nn's layers, each a box."""
    x, t = Tensor(numbers(4, 3), name="x"), np.array([0, 1, 1, 0])
    model = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2))
    for p in model.parameters():
        p.data = numbers(*p.shape)
    with graph.record():
        loss = mg.softmax_cross_entropy(model(x), t)
    return graph.draw(graph.trace(loss, model), collapse=True)


FIGURES = {
    function.__name__: function
    for function in (
        sigmoid_forward,
        sigmoid,
        sigmoid_simplified,
        softmax_with_loss,
        softmax_with_loss_simplified,
        apple_shop,
        two_layer_net,
        two_layer_net_folded,
    )
}


def main():
    """Draws the figures asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(FIGURES)}; default: all")
    for name in parser.parse_args().names or FIGURES:
        FIGURES[name]().save(HERE / f"{name}.svg")
        print(HERE / f"{name}.svg")


if __name__ == "__main__":
    main()
