"""The gradients that ops declare as text, against the rules that they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import minigrad as mg
from minigrad.op import Op, registry
from minigrad.ops.reduce import Reduction
from minigrad.sums import unbroadcast
from minigrad.tensor import Tensor, plain
from minigrad.testing.calls import Call, calls
from minigrad.watch import Watcher, watching

OPS = list(registry())
every_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
op_with_text = pytest.mark.parametrize("op", [op for op in OPS if op.gradients], ids=lambda op: op.name)
few = settings(max_examples=20)


def on_arrays(name: str) -> Callable[..., Any]:
    """The function of minigrad with this name, as a function of arrays."""
    return lambda *args, **kwargs: plain(getattr(mg, name)(*args, **kwargs))


# What the texts may name beside dout, out, arguments and fields: NumPy's names, and minigrad's where NumPy has none.
OURS = {op.name: on_arrays(op.name) for op in OPS if not hasattr(np, op.name)}
NAMES = {**OURS, **vars(np), "unbroadcast": unbroadcast}


class Seen(Watcher):
    """The calls of one op, as it sees them itself: behind its public function, which may reshape or choose."""

    def __init__(self, op: type[Op]) -> None:
        self.op = op
        self.found: list[tuple[Op, Any, Tensor]] = []

    def called(self, op: Any, args: Any, arrays: Any, t: Any, began: float, ended: float) -> None:
        if type(op) is self.op:
            self.found.append((op, arrays, t))


class Sample:
    """One call of an op: what its rule gives, and what the texts give for the same dout."""

    def __init__(self, op: Op, arrays: tuple[Any, ...], t: Tensor) -> None:
        assert t._node is not None
        self.op, self.arrays, self.node, self.out = op, arrays, t._node, t.data
        rng = np.random.default_rng(self.out.size)
        self.dout = np.asarray(rng.uniform(0.5, 1.5, self.out.shape) * rng.choice([-1, 1], self.out.shape))

    @property
    def names(self) -> dict[str, Any]:
        given = (
            {self.op.args[0]: self.arrays} if self.op.variadic else dict(zip(self.op.args, self.arrays, strict=True))
        )
        out, dout = self.out, self.dout
        if isinstance(self.op, Reduction):  # the texts speak of these with the reduced axes left in, of length 1
            out, dout = self.op.spread(out, self.arrays[0].shape), self.op.spread(dout, self.arrays[0].shape)
        return {**NAMES, "one_hot": self.one_hot, **vars(self.op), **given, "out": out, "dout": dout}

    def one_hot(self, labels: Any) -> Any:
        """Class numbers as rows, 1 at the class; rows as they are."""
        return labels if labels.ndim == 2 else np.eye(self.arrays[0].shape[1])[labels]

    def rule(self) -> list[Any]:
        """The gradient of each argument by the op's rule; None where there is none."""
        found = self.node.op.backward(self.dout, *self.node.saved)
        return [self.summed(i, dx) for i, dx in enumerate(found if type(found) is tuple else (found,))]

    def texts(self, text: Callable[[str], str] = str) -> list[Any]:
        """The same by the texts; text: what becomes of each before it is read."""
        found = [eval(text(each), self.names) if each else None for each in self.op.gradients]
        return [self.summed(i, dx) for i, dx in enumerate(found[0] if self.op.variadic else found)]

    def summed(self, i: int, dx: Any) -> Any:
        return unbroadcast(np.asarray(dx), np.shape(self.arrays[i])) if self.op.elementwise and dx is not None else dx

    def compare(self, text: Callable[[str], str] = str) -> None:
        rule, texts = self.rule(), self.texts(text)
        assert len(rule) == len(texts) == len(self.node.parents)
        for parent, want, got in zip(self.node.parents, rule, texts, strict=True):
            if parent is None:
                continue
            assert np.shape(got) == np.shape(want)
            np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-13)


def samples(call: Call) -> list[Sample]:
    """The calls of the op itself in a call of its public function, but those that its texts do not speak of."""
    op = call.op
    assert isinstance(op, type)
    seen = Seen(op)
    with watching(seen):
        call(*[Tensor(x, requires_grad=True) if x.dtype.kind == "f" else x for x in call.arrays])
    holds = SIMPLER.get(op.name, lambda *_: True)
    return [Sample(*found) for found in seen.found if holds(found[0], *found[1])]


def windows_fill(op: Any, x: Any, kernel: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether the windows of a convolution end where the padded x ends, and the padding is the same on both sides."""
    last = zip(size, op.stride, op.dilation, kernel, strict=True)
    whole = [n + 2 * p for n, p in zip(x.shape[2:], op.padding, strict=True)]
    return whole == [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in last]


# Where the texts, to be short, speak of the usual call alone.
SIMPLER: dict[str, Callable[..., bool]] = {
    "matmul": lambda op, x, y: x.ndim == 2 == y.ndim,  # two matrices, as in the book
    "linear": lambda op, x, W, b: x.ndim == 2,  # a batch of rows, as in the book
    "gelu": lambda op, x: op.approximate == "none",
    "embedding": lambda op, weight, indices: op.padding_idx is None,
    # The mean, over samples that count alike.
    "softmax_cross_entropy": lambda op, logits, labels, weight: (
        op.reduction == "mean" and np.ndim(weight) == 0 and op.ignore_index is None and not op.label_smoothing
    ),
    "sigmoid_binary_cross_entropy": lambda op, logits, targets, *weights: (
        op.reduction == "mean" and all(np.all(w == 1) for w in weights)
    ),
    # No row of x behind the last window.
    "conv2d": lambda op, x, W, b: windows_fill(op, x, W.shape[2:], op.size),
    "conv_transpose2d": lambda op, x, W, b: windows_fill(op, np.empty((1, 1, *op.size)), W.shape[2:], x.shape[2:]),
    "conv2d_weight": lambda op, x, y: windows_fill(op, x, op.size, y.shape[2:]),
}


@every_op
def test_an_op_has_a_text_for_each_argument_or_none_at_all(op: type[Op]) -> None:
    assert len(op.gradients) in ((len(op.args),) if op.elementwise else (0, len(op.args)))


@op_with_text
def test_the_texts_say_what_the_rule_computes(op: type[Op]) -> None:
    compared = 0

    @few
    @given(call=calls(op, empty=False))
    def check(call: Call) -> None:
        nonlocal compared
        for sample in samples(call):
            sample.compare()
            compared += 1

    check()
    assert compared


@pytest.mark.parametrize("op", ["maximum", "minimum", "max", "min"])
def test_the_texts_say_what_a_tie_gives(op: str) -> None:
    arrays = [np.array([1.0, 2.0, 3.0, 3.0]), np.array([1.0, 3.0, 2.0, 3.0])]
    cls = next(cls for cls in OPS if cls.name == op)
    (sample,) = samples(Call(cls, arrays[: len(cls.args)], {}))
    sample.compare()


@op_with_text
def test_no_text_means_no_gradient(op: type[Op]) -> None:
    @few
    @given(call=calls(op, empty=False))
    def check(call: Call) -> None:
        for sample in samples(call):
            if not op.variadic:
                assert all(text or dx is None for text, dx in zip(op.gradients, sample.rule(), strict=True))

    check()


@op_with_text
def test_a_text_that_is_off_by_a_thousandth_is_caught(op: type[Op]) -> None:
    @few
    @given(call=calls(op, empty=False))
    def check(call: Call) -> None:
        for sample in samples(call):
            if any(parent and np.any(dx) for parent, dx in zip(sample.node.parents, sample.rule(), strict=True)):
                with pytest.raises(AssertionError):
                    sample.compare(lambda text: text.replace("dout", "(1.001 * dout)"))

    check()


@pytest.mark.parametrize("op", [op for op in OPS if op.elementwise], ids=lambda op: op.name)
def test_dout_is_a_factor_so_that_1_gives_the_local_derivative(op: type[Op]) -> None:
    @few
    @given(call=calls(op, empty=False))
    def check(call: Call) -> None:
        for sample in samples(call):
            for text in filter(None, op.gradients):
                local = eval(text, {**sample.names, "dout": 1.0})
                np.testing.assert_allclose(local * sample.dout, eval(text, sample.names), rtol=1e-13)

    check()
