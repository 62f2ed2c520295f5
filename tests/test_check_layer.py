"""check_layer and check_gradient: right layers pass, every mistake is named, and nothing of the caller's is changed."""

from __future__ import annotations

import random
import re
import runpy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import cli
from minigrad.book.layers import AddLayer, Affine, MulLayer, Relu, Sigmoid, SoftmaxWithLoss
from minigrad.book.two_layer_net import TwoLayerNet
from minigrad.errors import ArgumentError, DTypeError, GradientError, MinigradError, ShapeError
from minigrad.testing import VERDICTS, GradcheckReport, check_gradient, check_layer
from minigrad.testing.suspects import suspect

DOCS = Path(__file__).resolve().parent.parent / "docs"
BUGS = sorted((DOCS / "bugs").glob("*.py"))

# Exact in binary, of both signs, none at a kink.
X = np.array([[0.5, -1.0, 2.0], [1.5, 0.75, -0.5], [-2.0, 1.25, 0.125], [-0.75, 0.25, 1.0]])
W = np.array([[0.1, 0.3], [0.2, -0.4], [0.5, 0.6]])
B = np.array([0.1, 0.2])
LABELS = np.array([2, 0, 1, 2])


def named(report: GradcheckReport, verdict: str, words: str) -> bool:
    """Whether the report is refused with this verdict, for a reason with these words."""
    return not report and report.verdict == verdict and any(words in f.reason for f in report.refused)


# Right layers


class PlainAffine:
    """out = x @ W + b, in plain NumPy"""

    def __init__(self, W: Any = W, b: Any = B) -> None:
        self.W, self.b = np.array(W), np.array(b)
        self.dW: Any = None
        self.db: Any = None

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout: Any) -> Any:
        self.dW, self.db = self.x.T @ dout, dout.sum(axis=0)
        return dout @ self.W.T


class Accumulates(PlainAffine):
    """Adds to dW and db, as a layer that is used twice in a net has to."""

    def __init__(self) -> None:
        super().__init__()
        self.dW, self.db = np.ones_like(self.W), np.ones_like(self.b)

    def backward(self, dout: Any) -> Any:
        self.dW += self.x.T @ dout
        self.db += dout.sum(axis=0)
        return dout @ self.W.T


class AccumulatesFromNone(PlainAffine):
    """Adds to dW and db once they are there."""

    def backward(self, dout: Any) -> Any:
        dW, db = self.x.T @ dout, dout.sum(axis=0)
        self.dW = dW if self.dW is None else self.dW + dW
        self.db = db if self.db is None else self.db + db
        return dout @ self.W.T


class WritesInPlace(PlainAffine):
    """dW[...] = ..., as layers with a list of gradients do."""

    def __init__(self) -> None:
        super().__init__()
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)

    def backward(self, dout: Any) -> Any:
        self.dW[...], self.db[...] = self.x.T @ dout, dout.sum(axis=0)
        return dout @ self.W.T


class Dropout:
    """The book's, with a mask from NumPy's global random numbers"""

    def forward(self, x: Any) -> Any:
        self.mask = np.random.rand(*x.shape) > 0.5  # as the book draws it
        return x * self.mask

    def backward(self, dout: Any) -> Any:
        return dout * self.mask


class BatchNorm:
    """out = gamma * (x - mean) / std + beta"""

    momentum = 0.9

    def __init__(self, n: int = 3) -> None:
        self.gamma, self.beta = np.linspace(0.5, 1.5, n), np.linspace(-1, 1, n)
        self.dgamma = self.dbeta = None
        self.running_mean = np.zeros(n)

    def forward(self, x: Any) -> Any:
        self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * x.mean(axis=0)
        self.xc = x - x.mean(axis=0)
        self.std = np.sqrt((self.xc**2).mean(axis=0) + 1e-6)
        self.xn = self.xc / self.std
        return self.gamma * self.xn + self.beta

    def backward(self, dout: Any) -> Any:
        self.dbeta, self.dgamma = dout.sum(axis=0), (dout * self.xn).sum(axis=0)
        dxn = dout * self.gamma
        dstd = -np.sum(dxn * self.xc, axis=0) / self.std**2
        dxc = dxn / self.std + dstd * self.xc / (self.std * len(dout))
        return dxc - dxc.mean(axis=0)


class Cached:
    """tanh(x), with what backward needs in a dict that is made once"""

    def __init__(self) -> None:
        self.cache: dict[str, Any] = {}

    def forward(self, x: Any) -> Any:
        self.cache["out"] = np.tanh(x)
        return self.cache["out"]

    def backward(self, dout: Any) -> Any:
        return dout * (1 - self.cache["out"] ** 2)


class Log:
    """log(x), which refuses what it cannot take"""

    def forward(self, x: Any) -> Any:
        if np.any(x <= 0):
            raise ValueError("log of a number that is not positive")
        self.x = x
        return np.log(x)

    def backward(self, dout: Any) -> Any:
        return dout / self.x


class Halves:
    """(x[:n], 2 * x[n:]): two results"""

    def forward(self, x: Any) -> Any:
        return x[:2].copy(), 2 * x[2:]

    def backward(self, dout: Any) -> Any:
        first, second = dout
        return np.concatenate([first, 2 * second])


class MeanSquaredError:
    """mean((y - t)**2), with a gradient for y alone"""

    def forward(self, y: Any, t: Any) -> Any:
        self.apart = y - t
        return np.mean(self.apart**2)

    def backward(self, dout: Any = 1) -> Any:
        return dout * 2 * self.apart / self.apart.size


class Slotted:
    """x * w, without a __dict__"""

    __slots__ = ("dw", "w", "x")

    def __init__(self) -> None:
        self.w, self.dw = np.array([2.0, 3.0, 4.0]), None

    def forward(self, x: Any) -> Any:
        self.x = x
        return x * self.w

    def backward(self, dout: Any) -> Any:
        self.dw = (dout * self.x).sum(axis=0)
        return dout * self.w


SCALE = {"gamma": "dgamma", "beta": "dbeta"}
RIGHT: dict[str, tuple[Callable[[], Any], tuple[Any, ...], dict[str, Any]]] = {
    "book Affine": (lambda: Affine(W.copy(), B.copy()), (X,), {}),
    "book Affine, images": (lambda: Affine(np.ones((6, 2)), B.copy()), (np.arange(12.0).reshape(2, 3, 2) / 8,), {}),
    "book Affine, one sample": (lambda: Affine(W.copy(), B.copy()), (X[0],), {}),
    "book Affine, float32": (lambda: Affine(W.astype("f4"), B.astype("f4")), (X.astype("f4"),), {}),
    "book Relu": (Relu, (X,), {}),
    "book Sigmoid": (Sigmoid, (X,), {}),
    "book Sigmoid, tails": (Sigmoid, (np.array([-700.0, -40.0, 20.0, 24.0]),), {}),
    "book SoftmaxWithLoss, numbers": (SoftmaxWithLoss, (X, LABELS), {}),
    "book SoftmaxWithLoss, one-hot": (SoftmaxWithLoss, (X, np.eye(3)[LABELS]), {}),
    "book SoftmaxWithLoss, one-hot integers": (SoftmaxWithLoss, (X, np.eye(3, dtype=int)[LABELS]), {}),
    "book SoftmaxWithLoss, soft": (SoftmaxWithLoss, (X, np.full((4, 3), 1 / 3)), {}),
    "book SoftmaxWithLoss, lists": (SoftmaxWithLoss, ([[0.5, 1.0], [2.0, -1.0]], [1, 0]), {}),
    "book MulLayer": (MulLayer, (100.0, 1.1), {}),
    "book MulLayer, broadcast": (MulLayer, (X, X[:1] + 3), {}),
    "book AddLayer": (AddLayer, (X, X[:, :1]), {}),
    "layer of a book net": (lambda: TwoLayerNet(3, 4, 2, seed=0).layers["Affine1"], (X,), {}),
    "Affine": (PlainAffine, (X,), {}),
    "dW[...] =": (WritesInPlace, (X,), {}),
    "dW[...] =, last sample 0": (WritesInPlace, (np.vstack([X[:3], np.zeros(3)]),), {}),
    "Dropout": (Dropout, (X,), {}),
    "BatchNorm": (BatchNorm, (np.vstack([X, 0.5 * X + 0.3]),), {"params": SCALE}),
    "a cache": (Cached, (X,), {}),
    "a domain": (Log, (abs(X),), {}),
    "two results": (Halves, (X,), {}),
    "a target of floats": (MeanSquaredError, (X, X[::-1].copy()), {}),
    "slots": (Slotted, (X,), {"params": {"w": "dw"}}),
    "fast mode": (PlainAffine, (X,), {"fast_mode": True}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_layer_passes(name: str) -> None:
    make, inputs, options = RIGHT[name]
    for layer in make(), make:
        report = check_layer(layer, *inputs, **options)
        assert report, report
        assert report.verdict == "ok"


def test_every_input_and_parameter_is_compared() -> None:
    report = check_layer(PlainAffine(), X)
    assert {re.split(r"[\[ ]", f.where)[0] for f in report.findings} == {"inputs", "W", "b"}
    assert len(report.findings) == 4 * 2 * (12 + 6 + 2)


def test_where_forward_has_lost_its_digits_nothing_is_claimed() -> None:
    for layer in Sigmoid, with_backward(Sigmoid, lambda self, dout: 0 * dout):
        report = check_layer(layer, np.array([40.0, 700.0]))
        assert not report
        assert report.counts["inconclusive"] == 2
        assert "its roundings hide a derivative this small" in str(report)


def test_a_kink_between_its_slopes_passes_and_is_named() -> None:
    report = check_layer(Relu, np.array([0.0, 1.0, -1.0]))
    assert report
    assert report.counts == {"kink": 1, "ok": 8}


# Wrong layers


def with_backward(base: type, backward: Callable[[Any, Any], Any]) -> type:
    return type(f"Wrong{base.__name__}", (base,), {"backward": backward})


def affine(dW: Callable[..., Any] | None = None, db: Any = None, dx: Any = None, W: Any = W, b: Any = B) -> Any:
    """A PlainAffine object with another rule for one of its gradients."""

    def backward(self: Any, dout: Any) -> Any:
        right = PlainAffine.backward(self, dout)
        self.dW = dW(self.x, dout) if dW else self.dW
        self.db = db(dout) if db else self.db
        return dx(dout, self.W) if dx else right

    return with_backward(PlainAffine, backward)(W, b)


class Loss(SoftmaxWithLoss):
    """The book's, with a gradient that is multiplied by something."""

    factor = staticmethod(lambda n, dout: 1.0)

    def backward(self, dout: Any = 1) -> Any:
        return super().backward(1) * self.factor(len(self.y), dout)


def loss(factor: Callable[[int, Any], Any]) -> type:
    return type("WrongLoss", (Loss,), {"factor": staticmethod(factor)})


class Stale(Relu):
    """Keeps the mask of its first forward."""

    mask: Any = None

    def forward(self, x: Any) -> Any:
        if self.mask is None:
            self.mask = x > 0
        return np.where(x > 0, x, 0)

    def backward(self, dout: Any) -> Any:
        return np.where(self.mask, dout, 0)


class OnTheClass(Stale):
    """Keeps its mask where all objects have it."""

    def forward(self, x: Any) -> Any:
        OnTheClass.mask = x > 0
        return np.where(x > 0, x, 0)


class DefaultArgument:
    """Keeps what it needs in a default argument, which is one for all objects."""

    def __init__(self, cache: Any = {}) -> None:  # noqa: B006  # the mistake that the test is about
        self.cache = cache

    def forward(self, x: Any) -> Any:
        self.cache["x"] = x
        return x**2

    def backward(self, dout: Any) -> Any:
        return dout * 2 * self.cache["x"]


class NextCall:
    """Backward uses the input of the forward before the latest."""

    def __init__(self) -> None:
        self.xs: list[Any] = []

    def forward(self, x: Any) -> Any:
        self.xs = [*self.xs, x][-2:]
        return x**2

    def backward(self, dout: Any) -> Any:
        return dout * 2 * self.xs[0]


class DrawsAgain(Dropout):
    """Draws another mask in backward."""

    def backward(self, dout: Any) -> Any:
        return dout * (np.random.rand(*dout.shape) > 0.5)  # as the book draws it


class WritesInput(Relu):
    """Sets what is negative to 0 where it stands."""

    def forward(self, x: Any) -> Any:
        x[x < 0] = 0
        self.x = x
        return x.copy()

    def backward(self, dout: Any) -> Any:
        return dout * (self.x > 0)


class WritesSaved(Relu):
    """Doubles the input that forward kept."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return x**2

    def backward(self, dout: Any) -> Any:
        self.x *= 2
        return dout * self.x


def into_dout(self: Any, dout: Any) -> Any:
    dout[self.mask] = 0
    return dout


class BookRelu:
    """The book's relu"""

    def forward(self, x: Any) -> Any:
        self.mask = x <= 0
        return np.where(self.mask, 0, x)

    backward = into_dout


class BookAffineNamed:
    """An Affine with an attribute dW that backward leaves alone"""

    def __init__(self) -> None:
        self.W, self.b = W.copy(), B.copy()
        self.dW, self.db = np.ones_like(W), np.ones_like(B)

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout: Any) -> Any:
        self.grad_W, self.grad_b = self.x.T @ dout, dout.sum(axis=0)
        return dout @ self.W.T


class Float32Out(Relu):
    """A dx in float32 for an x in float64, with all of its digits"""

    def backward(self, dout: Any) -> Any:
        return super().backward(dout).astype(np.float32)


SQUARE = np.array([[0.1, 0.3, -0.2], [0.2, -0.4, 0.7], [0.5, 0.6, 0.9]])
ROW = np.array([0.1, 0.2, 0.3])
MISTAKES: dict[str, tuple[Any, tuple[Any, ...], str, str]] = {
    "no / N": (loss(lambda n, dout: dout * n), (X, LABELS), "wrong", "4 times too large: a division by 4 is missing"),
    "no / N, one-hot": (loss(lambda n, dout: dout * n), (X, np.eye(3)[LABELS]), "wrong", "a division by 4 is missing"),
    "/ N twice": (loss(lambda n, dout: dout / n), (X, LABELS), "wrong", "divided by 4 once too often"),
    "sign": (loss(lambda n, dout: -dout), (X, LABELS), "wrong", "the sign is wrong"),
    "twice": (loss(lambda n, dout: 2 * dout), (X, LABELS), "wrong", "2 times what it should be"),
    "dout ignored": (Loss, (X, LABELS), "wrong", "dout is ignored"),
    "dout ignored, elementwise": (
        with_backward(Sigmoid, lambda self, dout: Sigmoid.backward(self, 1.0)),
        (X,),
        "wrong",
        "dout is ignored",
    ),
    "dout squared": (
        with_backward(Sigmoid, lambda self, dout: Sigmoid.backward(self, dout * abs(dout))),
        (X,),
        "wrong",
        "not linear in dout",
    ),
    "dW transposed": (affine(dW=lambda x, dout: dout.T @ x), (X,), "wrong", "and W (3, 2): it is transposed"),
    "dW transposed, square": (
        affine(dW=lambda x, dout: dout.T @ x, W=SQUARE, b=ROW),
        (X,),
        "wrong",
        "it is transposed",
    ),
    "W not transposed in dx": (affine(dx=lambda dout, W: dout @ W, W=SQUARE, b=ROW), (X,), "wrong", "lacks its .T"),
    "db not summed": (affine(db=lambda dout: dout), (X,), "wrong", "not summed over the axes that were broadcast"),
    "db summed over the wrong axis": (affine(db=lambda dout: dout.sum(axis=1)), (X,), "wrong", "b (2,)"),
    "db averaged": (affine(db=lambda dout: dout.mean(axis=0)), (X,), "wrong", "it is divided by 4 once too often"),
    "dW never set": (BookAffineNamed, (X,), "wrong", "backward never sets dW: write self.dW"),
    "dW None": (affine(dW=lambda x, dout: None), (X,), "wrong", "backward never sets dW: write self.dW"),
    "dW zero": (affine(dW=lambda x, dout: 0 * (x.T @ dout)), (X,), "wrong", "the gradient is 0"),
    "no return": (with_backward(Sigmoid, lambda self, dout: None), (X,), "wrong", "backward returns nothing"),
    "no return, parameters right": (
        with_backward(PlainAffine, lambda self, dout: print(end=str(PlainAffine.backward(self, dout))[:0])),
        (X,),
        "wrong",
        "backward returns nothing",
    ),
    "dout written into": (BookRelu, (X,), "aliasing", "wrote into dout"),
    "input written into": (WritesInput, (X,), "aliasing", "f wrote into its input"),
    "saved input written into": (WritesSaved, (X,), "aliasing", "wrote into an input"),
    "state of the first call": (Stale, (X,), "wrong", "state is shared between calls"),
    "state of the call before": (NextCall, (X,), "nondeterministic", "state is shared between calls"),
    "dW +=": (Accumulates, (X,), "nondeterministic", "dW is added to what an earlier call left in it"),
    "dW = dW +": (AccumulatesFromNone, (X,), "nondeterministic", "dW is added to what an earlier call left in it"),
    "state on the class": (OnTheClass, (X,), "nondeterministic", "state is shared between objects"),
    "state in a default": (DefaultArgument, (X,), "nondeterministic", "state is shared between objects"),
    "another mask": (DrawsAgain, (X,), "wrong", "backward draws random numbers"),
    "another dtype": (Float32Out, (X,), "dtype", "is float32"),
    "elementwise softmax": (runpy.run_path(str(DOCS / "bugs" / "softmax.py"))["Softmax"], (X,), "wrong", "elementwise"),
    "swapped": (
        with_backward(MulLayer, lambda self, dout: MulLayer.backward(self, dout)[::-1]),
        (3.0, 4.0),
        "wrong",
        "exchanged",
    ),
    "only the factor of the later layers": (with_backward(Sigmoid, lambda self, dout: dout), (X,), "wrong", ""),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_and_named(name: str) -> None:
    layer, inputs, verdict, words = MISTAKES[name]
    report = check_layer(layer, *inputs)
    assert named(report, verdict, words), report
    assert words in str(report)


def test_a_mistake_that_explains_the_others_stands_alone() -> None:
    ignored = check_layer(MISTAKES["dout ignored, elementwise"][0], X)
    assert [f.where for f in ignored.refused] == ["backward of inputs[0]"]
    unset = check_layer(BookAffineNamed, X)
    assert [f.where for f in unset.refused] == ["W", "b"]


def test_a_factor_is_named_only_if_zeros_are_zeros() -> None:
    assert suspect(np.array([2.0, 4.0, 0.0]), np.array([1.0, 2.0, 0.0]), ()) == "it is 2 times what it should be"
    assert "times" not in suspect(np.array([2.0, 4.0, 3.0]), np.array([1.0, 2.0, 0.0]), ())
    right = suspect(np.array([1.0, 1e-9, 2.0]), np.array([1.0, 1.0005e-9, 2.0]), (), wrong=1, of=3)
    assert right == "it is off in 1 of 3 entries, and right in the others"


def test_a_layer_right_at_the_inputs_alone_is_found_elsewhere() -> None:
    class Clipped:
        def forward(self, x: Any) -> Any:
            self.x = x
            return x**3

        def backward(self, dout: Any) -> Any:
            return dout * np.where(self.x < 0.5, 0, 3 * self.x**2)

    report = check_layer(Clipped, np.array([0.5, 0.625, 1.0]))
    assert named(report, "wrong", "right at the inputs given, wrong at others"), report


def test_a_batch_norm_with_a_batch_of_1_is_vacuous_and_with_8_is_found() -> None:
    def sabotaged(self: Any, dout: Any) -> Any:
        self.dgamma, self.dbeta = np.zeros(3), dout.sum(axis=0)
        return 0 * dout

    for backward in BatchNorm.backward, sabotaged:
        report = check_layer(with_backward(BatchNorm, backward), X[:1], params=SCALE)
        assert report.verdict == "vacuous"
        assert not report
        assert "with a batch of 1 a normalisation" in str(report)
        assert check_layer(with_backward(BatchNorm, backward), X[:1], params=SCALE, allow="vacuous")
    eight = np.vstack([X, 0.5 * X[::-1] + 0.25])
    assert check_layer(BatchNorm, eight, params=SCALE)
    report = check_layer(with_backward(BatchNorm, sabotaged), eight, params=SCALE, allow="vacuous")
    assert report.verdict == "wrong"
    assert {f.where.split("[")[0] for f in report.wrong} == {"inputs", "gamma"}


@pytest.mark.parametrize("path", BUGS, ids=[path.stem for path in BUGS])
def test_a_bug_of_the_tutorial_is_diagnosed_as_it_says(path: Path) -> None:
    module = runpy.run_path(str(path))
    (broken,) = (value for key, value in module.items() if isinstance(value, type) and key != "Repaired")
    x = np.resize(X, module["SHAPE"])
    options = {"params": module["PARAMS"]} if "PARAMS" in module else {}
    report = check_layer(broken, x, **options)
    assert named(report, module["VERDICT"], module["REASON"]), report
    assert check_layer(module["Repaired"], x, **options)


@pytest.mark.parametrize("path", BUGS, ids=[path.stem for path in BUGS])
def test_the_tutorial_shows_the_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, source, module = (DOCS / "find_the_bug.md").read_text(), path.read_text(), runpy.run_path(str(path))
    broken = source[source.index("class ") : source.index("\n\n\nclass Repaired")]
    assert broken in page
    name, shape = re.findall(r"class (\w+)", broken)[0], ",".join(map(str, module["SHAPE"]))
    assert f"\n    minigrad gradcheck docs/bugs/{path.name}:{name} --shape {shape}\n" in page
    assert cli.main(["gradcheck", f"{path}:{name}", "--shape", shape]) == 1
    assert module["REASON"] in capsys.readouterr().out
    assert cli.main(["gradcheck", f"{path}:Repaired", "--shape", shape]) == 0


def test_the_chapter_has_every_verdict() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", (DOCS / "testing.md").read_text(), re.M)
    assert dict(rows) == VERDICTS


# What is given and how


def test_methods_and_parameters_under_other_names() -> None:
    class Dense:
        def __init__(self) -> None:
            self.kernel, self.bias = W.copy(), B.copy()

        def call(self, x: Any) -> Any:
            self.x = x
            return x @ self.kernel + self.bias

        def grad(self, dout: Any) -> Any:
            self.kernel_grad, self.bias_grad = self.x.T @ dout, 2 * dout.sum(axis=0)
            return dout @ self.kernel.T

    names = {"forward": "call", "backward": "grad"}
    assert check_layer(Dense, X, **names)
    assert check_layer(Dense, X, **names, params={"kernel": "kernel_grad"})
    report = check_layer(Dense, X, **names, params={"kernel": "kernel_grad", "bias": "bias_grad"})
    assert {f.where.split("[")[0] for f in report.wrong} == {"bias"}


def test_a_class_a_factory_and_an_object_give_the_same_report() -> None:
    reports = [check_layer(layer, X) for layer in (PlainAffine, lambda: PlainAffine(W, B), PlainAffine())]
    assert reports[0].findings == reports[1].findings == reports[2].findings


def test_parameters_alone_can_be_checked() -> None:
    class Embedding:
        def __init__(self) -> None:
            self.W = W.copy()

        def forward(self, index: Any) -> Any:
            self.index = index
            return self.W[index]

        def backward(self, dout: Any) -> None:
            self.dW = np.zeros_like(self.W)
            np.add.at(self.dW, self.index, dout)

    assert check_layer(Embedding, np.array([2, 0, 2]))

    class Overwrites(Embedding):
        def backward(self, dout: Any) -> None:
            self.dW = np.zeros_like(self.W)
            self.dW[self.index] = dout

    report = check_layer(Overwrites, np.array([2, 0, 2]))
    assert report.verdict == "wrong"
    assert {f.where.split(" ->")[0] for f in report.wrong} == {"W[2, 0]", "W[2, 1]"}


def test_gradients_for_all_arguments_or_for_the_first_ones() -> None:
    class WithNone(MeanSquaredError):
        def backward(self, dout: Any = 1) -> Any:
            return super().backward(dout), None

    class Both(MeanSquaredError):
        def backward(self, dout: Any = 1) -> Any:
            dy = super().backward(dout)
            return dy, dy  # the second one has the other sign

    assert len(check_layer(MeanSquaredError, X, X[::-1]).findings) == len(check_layer(WithNone, X, X[::-1]).findings)
    report = check_layer(Both, X, X[::-1])
    assert report.verdict == "wrong"
    assert {f.where[:9] for f in report.wrong} == {"inputs[1]"}


def test_raise_exception_and_allow() -> None:
    with pytest.raises(GradientError, match=r"^WrongLoss: .*division by 4 is missing"):
        check_layer(MISTAKES["no / N"][0], X, LABELS, raise_exception=True)
    assert check_layer(OnTheClass, X, allow=["nondeterministic"])


def test_the_seed_decides_the_report() -> None:
    layer = MISTAKES["state of the first call"][0]
    assert check_layer(layer, X, seed=3).findings == check_layer(layer, X, seed=3).findings


# What is left as it was


def state(layer: Any) -> dict[str, tuple[Any, Any]]:
    return {k: (v, v.copy() if isinstance(v, np.ndarray) else v) for k, v in vars(layer).items()}


def assert_same(layer: Any, before: dict[str, tuple[Any, Any]]) -> None:
    assert list(vars(layer)) == list(before)
    for key, (value, copy) in before.items():
        assert getattr(layer, key) is value, key
        assert np.array_equal(value, copy), key


class Fails(Accumulates):
    """Raises at a call of forward or backward, having written into what it has."""

    at = ("", 0)

    def __init__(self, at: tuple[str, int]) -> None:
        super().__init__()
        self.at, self.count = at, {"forward": 0, "backward": 0}

    def step(self, method: str) -> None:
        self.count[method] += 1
        self.W *= 1.5
        if (method, self.count[method]) == self.at:
            raise RuntimeError(f"no {method}")

    def forward(self, x: Any) -> Any:
        self.step("forward")
        return super().forward(x)

    def backward(self, dout: Any) -> Any:
        self.step("backward")
        return super().backward(dout)


@pytest.mark.parametrize("layer", [Accumulates(), BatchNorm(), WritesSaved(), BookRelu(), BookAffineNamed()])
def test_the_layer_is_left_as_it_was(layer: Any) -> None:
    layer.forward(X.copy())
    layer.backward(np.ones_like(layer.forward(X.copy())))
    before = state(layer)
    check_layer(layer, X)
    assert_same(layer, before)


@pytest.mark.parametrize("at", [("forward", 1), ("forward", 9), ("backward", 1), ("backward", 3)])
def test_the_layer_is_left_as_it_was_after_an_exception(at: tuple[str, int]) -> None:
    layer = Fails(at)
    before, count = state(layer), dict(layer.count)
    with pytest.raises(RuntimeError, match=f"no {at[0]}"):
        check_layer(layer, X)
    assert_same(layer, before)
    assert layer.count == count


def test_what_a_layer_holds_is_left_as_it_was() -> None:
    net = TwoLayerNet(3, 4, 2, seed=0)
    params = dict(net.params)
    values = {key: value.copy() for key, value in params.items()}
    assert check_layer(net.layers["Affine1"], X)
    assert all(net.params[key] is params[key] for key in params)
    assert all(np.array_equal(params[key], values[key]) for key in params)

    class Pair:
        def __init__(self) -> None:
            self.layers = [Accumulates(), Cached()]

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer.forward(x)
            return x

        def backward(self, dout: Any) -> Any:
            for layer in reversed(self.layers):
                dout = layer.backward(dout)
            return dout

    pair = Pair()
    layers, before = list(pair.layers), [state(layer) for layer in pair.layers]
    assert check_layer(pair, X)
    assert pair.layers == layers
    for layer, own in zip(layers, before, strict=True):
        assert_same(layer, own)
    assert pair.layers[1].cache == {}


def test_a_list_that_grows_is_left_as_it_was() -> None:
    class Logs(Cached):
        def __init__(self) -> None:
            super().__init__()
            self.shapes: list[Any] = [None]

        def forward(self, x: Any) -> Any:
            self.shapes.append(x.shape)
            return super().forward(x)

    layer = Logs()
    assert check_layer(layer, X)
    assert layer.shapes == [None]


def test_what_a_class_holds_is_left_as_it_was() -> None:
    OnTheClass.mask = None
    check_layer(OnTheClass, X)
    assert OnTheClass.mask is None
    slotted = Slotted()
    w = slotted.w
    check_layer(slotted, X, params={"w": "dw"})
    assert slotted.w is w
    assert slotted.w.tolist() == [2.0, 3.0, 4.0]
    assert slotted.dw is None
    assert not hasattr(slotted, "x")


def test_the_inputs_are_left_as_they_were() -> None:
    class Greedy(MeanSquaredError):
        def forward(self, y: Any, t: Any) -> Any:
            out = super().forward(y, t)
            t += 1
            y += 1
            return out

    for layer in Greedy, WritesInput, WritesSaved:
        inputs = [X.copy(), X[::-1].copy()] if layer is Greedy else [X.copy()]
        before = [v.copy() for v in inputs]
        assert check_layer(layer, *inputs).verdict == "aliasing"
        assert all(np.array_equal(v, b) for v, b in zip(inputs, before, strict=True))


@pytest.mark.parametrize("layer", [Dropout, DrawsAgain, Fails(("backward", 2))])
def test_the_random_state_is_as_it_was(layer: Any) -> None:
    np.random.seed(5)  # the global state is what the test is about
    random.seed(5)
    expected = np.random.rand(), random.random()
    np.random.seed(5)
    random.seed(5)
    try:
        check_layer(layer, X)
    except RuntimeError:
        assert isinstance(layer, Fails)
    assert (np.random.rand(), random.random()) == expected


def test_a_generator_of_the_layer_is_as_it_was() -> None:
    class OwnDropout(Dropout):
        def __init__(self) -> None:
            self.rng = np.random.default_rng(7)

        def forward(self, x: Any) -> Any:
            self.mask = self.rng.random(x.shape) > 0.5
            return x * self.mask

    layer = OwnDropout()
    assert check_layer(layer, X)
    assert layer.rng.random() == np.random.default_rng(7).random()


def test_a_check_gives_no_warning() -> None:
    class PlainLog(Log):
        def forward(self, x: Any) -> Any:
            self.x = x
            return np.log(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_layer(PlainLog, abs(X))


# Bad input


def broken(method: str, result: Callable[..., Any]) -> type:
    return type("Broken", (Sigmoid,), {method: result})


class Growing:
    """A result that is longer at every call"""

    n = 2

    def forward(self, x: Any) -> Any:
        self.n += 1
        return np.ones(self.n) * x.sum()

    def backward(self, dout: Any) -> Any:
        return np.ones((4, 3)) * dout.sum()


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no input": (lambda: check_layer(Relu), ArgumentError, "no input"),
    "integers": (lambda: check_layer(Relu, np.arange(3)), ArgumentError, r"int64 \(3,\)"),
    "an object without forward": (lambda: check_layer(object(), X), ArgumentError, "without a method forward"),
    "another name": (lambda: check_layer(Relu, X, backward="back"), ArgumentError, "without a method back"),
    "a class with arguments": (lambda: check_layer(Affine, X), ArgumentError, "could not be made without arguments"),
    "a missing parameter": (lambda: check_layer(Relu, X, params={"W": "dW"}), ArgumentError, "'W', which in this Relu"),
    "integer parameters": (
        lambda: check_layer(PlainAffine(np.ones((3, 2), int), B), X),
        ArgumentError,
        r"'W', .* int64 \(3, 2\)",
    ),
    "a list of parameters": (lambda: check_layer(Affine(W.tolist(), B), X), ArgumentError, "'W', .* a list"),
    "forward without return": (
        lambda: check_layer(broken("forward", lambda self, x: None), X),
        DTypeError,
        "forward returned NoneType",
    ),
    "forward gives text": (
        lambda: check_layer(broken("forward", lambda self, x: "out"), X),
        DTypeError,
        "forward returned str",
    ),
    "three gradients of one input": (
        lambda: check_layer(broken("backward", lambda self, dout: (dout, dout, dout)), X),
        ArgumentError,
        "3 gradients for 1 input",
    ),
    "a shape that changes": (lambda: check_layer(Growing, X), ShapeError, r"this time"),
    "allow": (lambda: check_layer(Relu, X, allow="wrong"), ArgumentError, "allow='wrong'"),
    "seed": (lambda: check_layer(Relu, X, seed=-1), ArgumentError, "int -1"),
    "rtol": (lambda: check_layer(Relu, X, rtol=-1e-3), ArgumentError, "rtol"),
    "grad is no function": (lambda: check_gradient(np.sum, 3, X), DTypeError, "grad is int 3"),
    "f is no function": (lambda: check_gradient(3, np.sum, X), DTypeError, "f is int 3"),
    "x is text": (lambda: check_gradient(np.sum, np.ones_like, "x"), DTypeError, "check_gradient: x"),
    "f returns nothing": (lambda: check_gradient(lambda x: None, lambda x: x, X), DTypeError, "f returned NoneType"),
    "grad returns nothing": (lambda: check_gradient(np.sum, lambda x: None, X), DTypeError, "grad returned"),
    "no Jacobian": (lambda: check_gradient(np.sin, np.cos, X), ShapeError, r"shape \(4, 3, 4, 3\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_error_in_four_parts(name: str) -> None:
    call, error, got = BAD[name]
    with pytest.raises(error, match=got) as caught:
        call()
    assert isinstance(caught.value, MinigradError)
    assert all((caught.value.function, caught.value.got, caught.value.expected, caught.value.fix))


def test_an_exception_of_the_layer_goes_through_with_a_note() -> None:
    with pytest.raises(ShapeError, match="matmul"):
        check_layer(Affine(W, B), X[:, :2])
    with pytest.raises(TypeError) as caught:
        check_layer(broken("backward", lambda self: 1), X)
    assert caught.value.__notes__ == ["in backward of Broken, called with dout of shape (4, 3) after forward"]


# check_gradient


def rosenbrock(x: Any) -> Any:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def rosenbrock_grad(x: Any) -> Any:
    return np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])


@pytest.mark.parametrize("x", [[-1.2, 1.0], [1, 1], (0.0, 0.5), np.array([3.0, -2.0], np.float32)])
def test_two_plain_functions(x: Any) -> None:
    report = check_gradient(rosenbrock, rosenbrock_grad, x, allow="dtype")
    assert report
    wrong = check_gradient(rosenbrock, lambda x: rosenbrock_grad(x) * [1, -1], x, allow="dtype")
    # At the minimum the gradient is 0, with either sign: a second look beside it finds the mistake.
    second = "inputs[0] at a perturbed input" if list(x) == [1, 1] else "inputs[0][1]"
    assert {f.where for f in wrong.wrong} == {second}


@pytest.mark.parametrize(
    ("f", "grad", "x"),
    [
        (np.sin, lambda x: np.diag(np.cos(x)), [1.0, 2.0]),
        (lambda x: x**2, lambda x: 2 * x, 3),
        (lambda x: np.array([x, x**2]), lambda x: np.array([1.0, 2 * x]), 3.0),
        (lambda x, a, b: a * x @ x + b, lambda x, a, b: 2 * a * x, [1.0, 2.0]),
        (lambda x: np.sum(x**2) * 1e-9, lambda x: 2e-9 * x, [1.0, 2.0]),
    ],
)
def test_numbers_jacobians_and_further_arguments(f: Any, grad: Any, x: Any) -> None:
    args = (3.0, 1.0) if f.__name__ == "<lambda>" and f.__code__.co_argcount == 3 else ()
    assert check_gradient(f, grad, x, *args)
    assert check_gradient(f, lambda *args: 1.001 * grad(*args), x, *args).verdict == "wrong"


def test_a_small_scale_and_a_single_entry_are_found() -> None:
    x = np.linspace(-1, 1, 1000)
    small = check_gradient(lambda x: 1e-6 * np.sum(x**2), lambda x: 0 * x, x)
    assert named(small, "wrong", "")

    def one_off(x: Any) -> Any:
        slope = 2 * x
        slope[417] *= 1.01
        return slope

    report = check_gradient(lambda x: np.sum(x**2), one_off, x)
    assert report.wrong
    assert report.wrong[0].where == "inputs[0][417]"


def test_check_gradient_leaves_x_as_it_was() -> None:
    x = X.copy()

    def greedy(x: Any) -> Any:
        x += 1
        return np.sum(x**2)

    assert check_gradient(greedy, lambda x: 2 * x, x).verdict == "aliasing"
    assert np.array_equal(x, X)
    with pytest.raises(ZeroDivisionError):
        check_gradient(lambda x: 1 // 0, lambda x: x, x)
    assert np.array_equal(x, X)


def test_parameters_are_moved_too() -> None:
    class Symmetric(PlainAffine):
        def __init__(self) -> None:
            super().__init__()
            self.W, self.b = np.eye(3), np.zeros(3)

        def backward(self, dout: Any) -> Any:
            super().backward(dout)
            return dout @ self.W

    assert check_layer(Symmetric, X[:, :3]).verdict == "wrong"


def test_two_results_are_given_two_douts() -> None:
    class Cell:
        def forward(self, x: Any, c: Any) -> Any:
            self.x, self.c = x, c
            return np.tanh(x), x * c

        def backward(self, dh: Any, dc: Any) -> Any:
            return dh * (1 - np.tanh(self.x) ** 2) + dc * self.c, dc * self.x

    assert check_layer(Cell, np.array([0.5, -1.0]), np.array([2.0, 0.25]))
