"""The cases of checkers.py: forwards with a backward that is right or wrong, written once for every checker.

Plain NumPy: `forward(*inputs)` gives out, `backward(dout, out, *inputs)` one gradient, or one for each input, None
for an input that has none. Where the second derivative is checked, both are written with functions of a namespace
`xp` that comes first, since each framework differentiates the backward with functions of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

Rule = Callable[..., Any]
Rules = tuple[Rule, Rule]

RIGHT, WRONG = True, False
PLANTED = "Eleven mistakes planted in a sigmoid"


@dataclass(frozen=True)
class Case:
    """One backward to be checked.

    order: 2 where the gradient's gradient is checked too. own: a function that the frameworks have themselves, to be
    taken instead where they do. slope: (forward, backward) of an op that a backward of order 2 calls as xp.slope.
    make: gives forward and backward with a state of their own, for each check anew. layer: a class with forward
    and backward; params: its parameters and where their gradients are. absent: which checkers cannot be asked, and why.
    """

    theme: str
    name: str
    right: bool
    inputs: tuple[Any, ...]
    forward: Rule | None = None
    backward: Rule | None = None
    order: int = 1
    own: str = ""
    slope: Rules | None = None
    make: Callable[[], Rules] | None = None
    layer: Callable[[], Any] | None = None
    params: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def rules(self) -> Rules:
        """forward and backward; of a layer, with its parameters as further inputs."""
        if self.layer is not None:
            return layer_rules(self.layer(), self.params)
        if self.make is not None:
            return self.make()
        assert self.forward is not None
        assert self.backward is not None
        return self.forward, self.backward

    def all_inputs(self) -> tuple[Any, ...]:
        """inputs, and the parameters of a layer."""
        layer = self.layer() if self.layer is not None else None
        return (*(np.array(x) for x in self.inputs), *(np.array(getattr(layer, p)) for p in self.params))


def layer_rules(layer: Any, params: dict[str, str]) -> Rules:
    """The two methods of a layer as functions of its input and its parameters."""

    def forward(x: Any, *values: Any) -> Any:
        for name, value in zip(params, values, strict=True):
            setattr(layer, name, value)
        return layer.forward(x)

    def backward(dout: Any, out: Any, x: Any, *values: Any) -> Any:
        dx = layer.backward(dout)
        gradients = [getattr(layer, name, None) for name in params.values()]
        zeros = [np.zeros_like(v) if g is None else g for g, v in zip(gradients, values, strict=True)]
        return (dx, *zeros) if params else dx

    return forward, backward


# Functions and their derivatives


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) for x that do not overflow."""
    return 1 / (1 + np.exp(-x))


def sigmoid_slope(x: Any) -> Any:
    """e / (1 + e)**2, which keeps its digits in both tails."""
    e = np.exp(-abs(x))
    return e / (1 + e) ** 2


def relu(x: Any) -> Any:
    """max(x, 0)"""
    return np.maximum(x, 0)


def softmax(x: Any) -> Any:
    """exp(x) / sum(exp(x)) over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_rule(dout: Any, out: Any, x: Any) -> Any:
    """Its derivative."""
    return out * (dout - (dout * out).sum(axis=-1, keepdims=True))


LABELS = np.array([2, 0, 1])
ONE_HOT = np.eye(3)[LABELS]
SOFT = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])


def cross_entropy(x: Any, target: Any = ONE_HOT) -> Any:
    """The mean over the rows of -log(softmax(x)) for the target."""
    z = x - x.max(axis=-1, keepdims=True)
    log_softmax = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return -(log_softmax * target.astype(x.dtype)).sum() / x.dtype.type(len(x))


def cross_entropy_rule(dout: Any, out: Any, x: Any) -> Any:
    """Its derivative."""
    return dout * (softmax(x) - ONE_HOT.astype(x.dtype)) / x.dtype.type(len(x))


def normalise(x: Any) -> Any:
    """BatchNorm without scale and shift, with the book's epsilon."""
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-6)


def normalise_rule(dout: Any, out: Any, x: Any) -> Any:
    """Its derivative."""
    spread = np.sqrt(x.var(axis=0) + 1e-6)
    return (dout - dout.mean(axis=0) - out * (dout * out).mean(axis=0)) / spread


def maximum_rule(dout: Any, out: Any, x: Any) -> Any:
    """The derivative of max, divided equally among ties."""
    winners = x == out
    return dout * winners / winners.sum()


def dropout(x: Any) -> Any:
    """x with half of its entries 0, the others doubled."""
    return x * (np.random.random(x.shape) > 0.5) / 0.5  # noqa: NPY002  # the global state, as the book does


_random = np.random.default_rng(0)
X = _random.normal(size=12)
ROWS = _random.normal(size=(8, 4))
LOGITS = _random.normal(size=(3, 3))
THOUSAND = _random.normal(size=1000)
SQUARE = _random.normal(size=(3, 3))
SYMMETRIC = SQUARE + SQUARE.T
WIDE = np.linspace(-4.0, 20.0, 25)
TOKENS = np.array([2, 0, 2])


# fmt: off
# Two lines a case, what it is and its two functions, instead of one line an argument.


def tails() -> Iterator[Case]:
    """Derivatives that are small, or of numbers that are."""
    theme = "Tails and scale"
    yield Case(theme, "sigmoid, backward 0, at [24, 32, 20]", WRONG, ([24.0, 32.0, 20.0],),
               sigmoid, lambda dout, out, x: 0 * dout)
    yield Case(theme, "tanh, 1 - y for 1 - y^2, at [10, 12]", WRONG, ([10.0, 12.0],),
               np.tanh, lambda dout, out, x: dout * (1 - out))
    yield Case(theme, "loss 1e-6 * sum(x^2), backward 0", WRONG, (X,),
               lambda x: 1e-6 * (x * x).sum(), lambda dout, out, x: 0 * x)
    yield Case(theme, "softmax, backward 0, confident logits [30, 0, 0]", WRONG, ([[30.0, 0.0, 0.0]],),
               softmax, lambda dout, out, x: 0 * x)
    yield Case(theme, "sigmoid, the book's out * (1 - out), at [32, 34, 38]", WRONG, ([32.0, 34.0, 38.0],),
               sigmoid, lambda dout, out, x: dout * out * (1 - out))
    yield Case(theme, "exp(-x^2), the 2 forgotten, at [5, 5.5]", WRONG, ([5.0, 5.5],),
               lambda x: np.exp(-x * x), lambda dout, out, x: -dout * x * out)
    yield Case(theme, "log(x + 1e-7), backward 1/x, at [1e-3, 0.5]", WRONG, ([1e-3, 0.5],),
               lambda x: np.log(x + 1e-7), lambda dout, out, x: dout / x)
    yield Case(theme, "sigmoid, e/(1+e)^2, at [-30, -10, 0, 3, 12]", RIGHT, ([-30.0, -10.0, 0.0, 3.0, 12.0],),
               sigmoid, lambda dout, out, x: dout * sigmoid_slope(x))
    yield Case(theme, "loss 1e-6 * sum(x^2)", RIGHT, (X,),
               lambda x: 1e-6 * (x * x).sum(), lambda dout, out, x: dout * 2e-6 * x)
    yield Case(theme, "loss 1e8 * sum(x^2)", RIGHT, (X,),
               lambda x: 1e8 * (x * x).sum(), lambda dout, out, x: dout * 2e8 * x)
    yield Case(theme, "x^2 at [1e9, -2e9]", RIGHT, ([1e9, -2e9],),
               lambda x: x * x, lambda dout, out, x: 2 * dout * x)
    yield Case(theme, "log at [1e-7, 1e-5, 1]", RIGHT, ([1e-7, 1e-5, 1.0],),
               np.log, lambda dout, out, x: dout / x)
    yield Case(theme, "1/x at [1e-4, 2]", RIGHT, ([1e-4, 2.0],),
               lambda x: 1 / x, lambda dout, out, x: -dout * out * out)


def kinks() -> Iterator[Case]:
    """Where a derivative has two sides, or none."""
    theme = "Kinks, ties and jumps"
    yield Case(theme, "relu, 0 at 0, at [0, 1, -1]", RIGHT, ([0.0, 1.0, -1.0],),
               relu, lambda dout, out, x: dout * (x > 0), own="relu")
    yield Case(theme, "relu at [1e-7, 0.5, -1]", RIGHT, ([1e-7, 0.5, -1.0],),
               relu, lambda dout, out, x: dout * (x > 0), own="relu")
    yield Case(theme, "abs, 0 at 0, at [0, 2, -3]", RIGHT, ([0.0, 2.0, -3.0],),
               abs, lambda dout, out, x: dout * np.sign(x), own="abs")
    yield Case(theme, "max with three ties", RIGHT, ([2.0, 1.0, 2.0, 2.0],),
               lambda x: x.max(), maximum_rule, own="max")
    yield Case(theme, "clip to [-1, 1], 1 at the bound", RIGHT, ([1.0, 0.5, 3.0],),
               lambda x: np.clip(x, -1, 1), lambda dout, out, x: dout * (abs(x) <= 1), own="clip")
    yield Case(theme, "relu, 2 at 0", WRONG, ([0.0, 1.0, -1.0],),
               relu, lambda dout, out, x: dout * np.where(x == 0, 2, x > 0))
    yield Case(theme, "relu, mask inverted", WRONG, (X,),
               relu, lambda dout, out, x: dout * (x < 0))
    yield Case(theme, "max with three ties, 1 to each", WRONG, ([2.0, 1.0, 2.0, 2.0],),
               lambda x: x.max(), lambda dout, out, x: dout * (x == out))
    yield Case(theme, "floor, dout passed on, at [0.3, 1.7]", WRONG, ([0.3, 1.7],),
               np.floor, lambda dout, out, x: 1 * dout)


def narrow() -> Iterator[Case]:
    """float32."""
    theme = "float32"
    x, logits = X.astype(np.float32), LOGITS.astype(np.float32)
    yield Case(theme, "float32 sigmoid", RIGHT, (x,),
               sigmoid, lambda dout, out, x: dout * sigmoid_slope(x), own="sigmoid")
    yield Case(theme, "float32 softmax cross-entropy", RIGHT, (logits,), cross_entropy, cross_entropy_rule)
    yield Case(theme, "float32 sigmoid, backward 0.1 % off", WRONG, (x,),
               sigmoid, lambda dout, out, x: dout * sigmoid_slope(x) * np.float32(1.001))
    yield Case(theme, "float32 tanh, backward 0, at [5, 6]", WRONG, (np.float32([5, 6]),),
               np.tanh, lambda dout, out, x: 0 * dout)


def chance() -> Iterator[Case]:
    """Random numbers."""
    theme = "Dropout"
    yield Case(theme, "dropout", RIGHT, (X,), dropout, lambda dout, out, x: dout * (out != 0) / 0.5, own="dropout")
    yield Case(theme, "dropout, backward forgets 1 / (1 - p)", WRONG, (X,),
               dropout, lambda dout, out, x: dout * (out != 0))
    yield Case(theme, "dropout, backward draws a mask of its own", WRONG, (X,),
               dropout, lambda dout, out, x: dropout(dout))


def losses() -> Iterator[Case]:
    """Losses, means and normalisations."""
    theme = "Losses and BatchNorm"
    yield Case(theme, "BatchNorm, batch of 1, relu after it, backward 123 * dout", WRONG, (ROWS[:1],),
               lambda x: relu(normalise(x)), lambda dout, out, x: 123 * dout * (out > 0))
    yield Case(theme, "BatchNorm, batch of 1, backward 0", WRONG, (ROWS[:1],),
               normalise, lambda dout, out, x: 0 * dout)
    yield Case(theme, "sum of BatchNorm's outputs as the loss, backward 0", WRONG, (ROWS,),
               lambda x: normalise(x).sum(), lambda dout, out, x: 0 * x)
    yield Case(theme, "BatchNorm, batch of 8, the mean's share forgotten", WRONG, (ROWS,), normalise,
               lambda dout, out, x: normalise_rule(dout, out, x) + dout.mean(axis=0) / x.std(axis=0))
    yield Case(theme, "BatchNorm, batch of 8", RIGHT, (ROWS,), normalise, normalise_rule)
    yield Case(theme, "softmax cross-entropy, 1/N missing", WRONG, (LOGITS,),
               cross_entropy, lambda dout, out, x: dout * (softmax(x) - ONE_HOT))
    yield Case(theme, "softmax cross-entropy, upstream gradient ignored", WRONG, (LOGITS,),
               cross_entropy, lambda dout, out, x: (softmax(x) - ONE_HOT) / len(x))
    yield Case(theme, "soft labels, loss by argmax, backward y - t", WRONG, (LOGITS,),
               lambda x: cross_entropy(x, np.eye(3)[SOFT.argmax(axis=1)]),
               lambda dout, out, x: dout * (softmax(x) - SOFT) / len(x))
    yield Case(theme, "softmax cross-entropy", RIGHT, (LOGITS,), cross_entropy, cross_entropy_rule)
    yield Case(theme, "softmax, backward as if elementwise", WRONG, (LOGITS,),
               softmax, lambda dout, out, x: dout * out * (1 - out))
    yield Case(theme, "mean, 1/N missing", WRONG, (X,),
               lambda x: x.mean(), lambda dout, out, x: dout * np.ones_like(x))


def shapes() -> Iterator[Case]:
    """Transposed, swapped, not summed."""
    theme = "Transposes, swaps and indices"
    yield Case(theme, "x @ W, dx = dout @ W, W symmetric", WRONG, (ROWS[:2, :3], SYMMETRIC),
               np.matmul, lambda dout, out, x, W: (dout @ W, x.T @ dout))
    yield Case(theme, "x @ W, dx = dout @ W, W square", WRONG, (ROWS[:2, :3], SQUARE),
               np.matmul, lambda dout, out, x, W: (dout @ W, x.T @ dout))
    yield Case(theme, "x @ W, dW = x @ dout, x symmetric", WRONG, (SYMMETRIC, SQUARE),
               np.matmul, lambda dout, out, x, W: (dout @ W.T, x @ dout))
    yield Case(theme, "x * y, gradients swapped, at x = y", WRONG, ([2.0, 3.0], [2.0, 3.0]),
               np.multiply, lambda dout, out, x, y: (dout * x, dout * y))
    yield Case(theme, "x @ A @ x, 2 A x, for a fixed symmetric A", RIGHT, (X[:3],),
               lambda x: x @ SYMMETRIC @ x, lambda dout, out, x: 2 * dout * (SYMMETRIC @ x))
    yield Case(theme, "x @ W, W symmetric", RIGHT, (ROWS[:2, :3], SYMMETRIC),
               np.matmul, lambda dout, out, x, W: (dout @ W.T, x.T @ dout))
    yield Case(theme, "x + b, db = the first row of dout", WRONG, (ROWS[:, :3], X[:3]),
               np.add, lambda dout, out, x, b: (1 * dout, 1 * dout[0]))
    yield Case(theme, "cumsum, backward not reversed", WRONG, (X,),
               np.cumsum, lambda dout, out, x: np.cumsum(dout))
    yield Case(theme, "x^2 at the integers [3, 4], backward 0", WRONG, (np.array([3, 4]),),
               lambda x: x * x, lambda dout, out, x: 0 * dout)
    yield Case(theme, "rows of W by integers, repeated ones written over", WRONG, (ROWS[:3], TOKENS),
               lambda W, i: W[i], lambda dout, out, W, i: (rows_rule(dout, W, i, add=False), None))
    yield Case(theme, "rows of W by integers", RIGHT, (ROWS[:3], TOKENS),
               lambda W, i: W[i], lambda dout, out, W, i: (rows_rule(dout, W, i, add=True), None))


def rows_rule(dout: Any, W: Any, i: Any, *, add: bool) -> Any:
    """dout put where the rows came from, added up where a row was taken twice."""
    dW = np.zeros_like(W)
    if add:
        np.add.at(dW, i, dout)
    else:
        dW[i] = dout
    return dW


# Layers as in the book: backward uses what forward remembered.


class Sigmoid:
    """The book's layer."""

    def forward(self, x: Any) -> Any:
        """out = 1 / (1 + exp(-x))"""
        self.out = sigmoid(x)
        return self.out

    def backward(self, dout: Any) -> Any:
        """dx = dout * (1 - out) * out"""
        return dout * (1 - self.out) * self.out


class Affine:
    """The book's layer."""

    def __init__(self) -> None:
        self.W, self.b = SQUARE[:, :2].copy(), X[:2].copy()
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, x: Any) -> Any:
        """out = x @ W + b"""
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout: Any) -> Any:
        """dx = dout @ W.T"""
        self.dW, self.db = self.x.T @ dout, dout.sum(axis=0)
        return dout @ self.W.T


class AffineWithoutDW(Affine):
    """dW stays what it was."""

    def backward(self, dout: Any) -> Any:
        """dx = dout @ W.T"""
        self.db = dout.sum(axis=0)
        return dout @ self.W.T


class AffineAdding(Affine):
    """dW grows from call to call."""

    def backward(self, dout: Any) -> Any:
        """dx = dout @ W.T"""
        self.dW, self.db = self.dW + self.x.T @ dout, dout.sum(axis=0)
        return dout @ self.W.T


class FirstSquare:
    """Remembers the first x that it sees, and no other."""

    x: Any = None

    def forward(self, x: Any) -> Any:
        """out = x * x"""
        self.x = x.copy() if self.x is None else self.x
        return x * x

    def backward(self, dout: Any) -> Any:
        """dx = 2 * dout * x"""
        return 2 * dout * self.x


class UsedTwice:
    """One layer for two inputs: the second forward overwrites what the first remembered."""

    def __init__(self) -> None:
        self.layer = Sigmoid()

    def forward(self, x: Any) -> Any:
        """out = sigmoid(x) + sigmoid(2 * x)"""
        return self.layer.forward(x) + self.layer.forward(2 * x)

    def backward(self, dout: Any) -> Any:
        """dx = the sum of both"""
        return self.layer.backward(dout) + 2 * self.layer.backward(dout)


class ReluOverwriting:
    """The book's layer, which writes into the gradient that it is given."""

    def forward(self, x: Any) -> Any:
        """out = max(x, 0)"""
        self.mask = x <= 0
        return np.where(self.mask, 0, x)

    def backward(self, dout: Any) -> Any:
        """dx = dout where x > 0"""
        dout[self.mask] = 0
        return dout


IMMUTABLE = {"JAX": "its arrays cannot be written into"}
IMPURE = {"JAX": "its functions must be pure, and a layer remembers"}


def state() -> Iterator[Case]:
    """What layers remember."""
    theme = "Layers and their state"
    weights = {"W": "dW", "b": "db"}
    x = ROWS[:4, :3]
    def layer(name: str, right: bool, inputs: Any, cls: type, params: Any = None, absent: Any = IMPURE) -> Case:
        return Case(theme, name, right, (inputs,), layer=cls, params=params or {}, absent=absent)

    yield layer("the book's Affine", RIGHT, x, Affine, weights)
    yield layer("the book's Sigmoid", RIGHT, X, Sigmoid)
    yield layer("Affine, dW never set", WRONG, x, AffineWithoutDW, weights)
    yield layer("Affine, dW added up from call to call", WRONG, x, AffineAdding, weights)
    yield layer("x^2, the first x kept for every later backward", WRONG, X, FirstSquare)
    yield layer("one Sigmoid used twice, what it remembers overwritten", WRONG, X, UsedTwice)
    yield layer("the book's Relu, which writes into dout", WRONG, X, ReluOverwriting, absent=IMMUTABLE)


def second() -> Iterator[Case]:
    """First derivatives that are right, and second ones that need not be."""
    theme = "Second order"

    def sine(xp: Any, x: Any) -> Any:
        return xp.sin(x)

    def cosine(xp: Any, x: Any) -> Any:
        return xp.cos(x)

    def by_slope(xp: Any, dout: Any, out: Any, x: Any) -> Any:
        return dout * xp.slope(x)

    def bell(xp: Any, x: Any) -> Any:
        return xp.exp(-x) / (1 + xp.exp(-x)) ** 2

    yield Case(theme, "sin, cos' = +sin", WRONG, (X,), sine, by_slope, 2,
               slope=(cosine, lambda xp, dout, out, x: dout * xp.sin(x)))
    yield Case(theme, "sin, cos' 0.1 % off", WRONG, (X,), sine, by_slope, 2,
               slope=(cosine, lambda xp, dout, out, x: -1.001 * dout * xp.sin(x)))
    yield Case(theme, "exp, its slope taken for a constant", WRONG, (X,),
               lambda xp, x: xp.exp(x), by_slope, 2,
               slope=(lambda xp, x: xp.exp(x), lambda xp, dout, out, x: 0 * dout))
    yield Case(theme, "x^3, upstream gradient ignored in the second derivative", WRONG, (X,),
               lambda xp, x: x * x * x, by_slope, 2,
               slope=(lambda xp, x: 3 * x * x, lambda xp, dout, out, x: 6 * x + 0 * dout))
    yield Case(theme, "sigmoid, second derivative 0 from 12 on, at [13, 15]", WRONG, ([13.0, 15.0],),
               lambda xp, x: 1 / (1 + xp.exp(-x)), by_slope, 2,
               slope=(bell, lambda xp, dout, out, x: 0 * dout))
    yield Case(theme, "sin", RIGHT, (X,), sine, lambda xp, dout, out, x: dout * xp.cos(x), 2)
    yield Case(theme, "sigmoid, dout * out * (1 - out)", RIGHT, (X,),
               lambda xp, x: 1 / (1 + xp.exp(-x)), lambda xp, dout, out, x: dout * out * (1 - out), 2)
    yield Case(theme, "tanh, dout * (1 - out^2)", RIGHT, (X,),
               lambda xp, x: xp.tanh(x), lambda xp, dout, out, x: dout * (1 - out * out), 2)


def planted() -> Iterator[Case]:
    """A sigmoid with one mistake each."""

    def mistake(name: str, inputs: Any, backward: Rule, **more: Any) -> Case:
        return Case(PLANTED, name, WRONG, (inputs,), sigmoid, backward, **more)

    for error in (5e-4, 1e-5, 1e-7):
        yield mistake(f"relative error {error:.0e}".replace("e-0", "e-"), X,
                      lambda dout, out, x, error=error: dout * sigmoid_slope(x) * (1 + error))
    for name, factor in (("zero", 0), ("doubled", 2)):
        yield mistake(f"{name} for x in 12 to 20", WIDE,
                      lambda dout, out, x, factor=factor: dout * sigmoid_slope(x) * np.where(x >= 12, factor, 1))
    entry = np.arange(1000) == 123
    for percent in (1, 0.1):
        yield mistake(f"one entry of 1,000 off by {percent} %", THOUSAND,
                      lambda dout, out, x, percent=percent: dout * sigmoid_slope(x) * (1 + entry * percent / 100))

    def into_dout(dout: Any, out: Any, x: Any) -> Any:
        dout *= sigmoid_slope(x)
        return dout

    def into_x(dout: Any, out: Any, x: Any) -> Any:
        x[...] = dout * sigmoid_slope(x)
        return x.copy()

    def drifting() -> Rules:
        calls = count()
        return sigmoid, lambda dout, out, x: dout * sigmoid_slope(x) + 1e-9 * (next(calls) % 2)

    yield mistake("upstream gradient overwritten", X, into_dout, absent=IMMUTABLE)
    yield mistake("saved input overwritten", X, into_x, absent=IMMUTABLE)
    yield Case(PLANTED, "differing by 1e-9 from run to run", WRONG, (X,), make=drifting)
    yield mistake("upstream gradient ignored", X, lambda dout, out, x: sigmoid_slope(x))


def cases() -> list[Case]:
    """All of them, theme by theme, the planted ones last."""
    groups = (tails, kinks, narrow, chance, losses, shapes, state, second, planted)
    return [case for group in groups for case in group()]
