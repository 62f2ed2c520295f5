"""Bad input: every mistake is an error that says where, what it got, what it wanted and what to write instead."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import (
    ArgumentError,
    DTypeError,
    GradientError,
    GraphError,
    InPlaceError,
    LabelError,
    MinigradError,
    Op,
    ShapeError,
    Tensor,
    from_numpy,
    grad,
    no_grad,
)
from minigrad.errors import describe
from minigrad.op import registry

# What a NumPy user expects each to be.
BUILT_IN = {
    ArgumentError: ValueError,
    DTypeError: TypeError,
    GradientError: ValueError,
    GraphError: RuntimeError,
    InPlaceError: RuntimeError,
    LabelError: IndexError,
    ShapeError: ValueError,
}

# A fix tells the reader what to do.
VERBS = {
    *("ask", "call", "check", "compare", "compute", "convert", "count", "declare", "define", "divide", "leave", "look"),
    *("make", "pass", "reshape", "return", "run", "transpose", "use", "work", "write"),
}


@dataclass
class Mistake:
    """A call that must fail, and words of its error."""

    name: str
    call: Callable[[Any], Any]
    error: type[MinigradError]
    function: str
    got: tuple[str, ...]


MISTAKES: list[Mistake] = []


def mistake(name: str, call: Callable[[Any], Any], error: type[MinigradError], function: str, *got: str) -> None:
    MISTAKES.append(Mistake(name, call, error, function, got))


def bench() -> SimpleNamespace:
    """What the calls below work on: x, y, w are leaves with a gradient, the others are not."""
    x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True, name="x")
    y = Tensor([1.0, 2.0], requires_grad=True, name="y")
    one = Tensor(1.0, requires_grad=True)
    for t in x, y, one:
        t.grad = np.full(t.shape, 7.0)
    plain = Tensor([1.0, 2.0, 3.0], name="plain")
    walked = y * y
    walked.backward(np.array([1.0, 2.0]))
    return SimpleNamespace(
        x=x, y=y, one=one, plain=plain, integers=Tensor([1, 2]), result=x * 2.0, walked=walked, array=np.zeros(2)
    )


def state(t: SimpleNamespace) -> dict[str, Any]:
    """Everything about the tensors that a failed call must leave alone."""
    found: dict[str, Any] = {}
    for name, value in vars(t).items():
        if isinstance(value, Tensor):
            g, node = value.grad, value._node
            found[name] = (
                *(value.shape, value.dtype, value.data.tobytes(), id(value.data), value.requires_grad, value.name),
                *(id(g), None if g is None else g.tobytes()),
                *(id(node), node is None or node.saved is None),
            )
        else:
            found[name] = value.tobytes()
    return found


def set_item(x: Any, index: Any, value: Any) -> None:
    x[index] = value


def iadd(x: Any, y: Any) -> None:
    x += y


def imatmul(x: Any, y: Any) -> None:
    x @= y


def ipow(x: Any, y: Any) -> None:
    x **= y


def minus_data(x: Any) -> None:
    x.data -= 1.0


# Making a tensor

mistake(
    "integers that require a gradient", lambda t: Tensor([1, 2], requires_grad=True), DTypeError, "Tensor", "int64 (2,)"
)
mistake("booleans that require a gradient", lambda t: Tensor(True, requires_grad=True), DTypeError, "Tensor", "bool ()")
mistake(
    "requires_grad of integers",
    lambda t: setattr(t.integers, "requires_grad", True),
    DTypeError,
    "requires_grad",
    "int64 (2,)",
)
mistake(
    "an object array", lambda t: Tensor(np.array([1.0, None])), DTypeError, "Tensor", "object (2,)", "data[1] = None"
)
mistake("a string array", lambda t: Tensor(np.array(["a", "b"])), DTypeError, "Tensor", "<U1 (2,)", "data[0] = ")
mistake("a list with a string", lambda t: Tensor([[1.0, 2.0], [3.0, "a"]]), DTypeError, "Tensor", "data[1, 1] = 'a'")
mistake("a complex number", lambda t: Tensor([1.0, 1j]), DTypeError, "Tensor", "data[1] = 1j")
mistake("a ragged list", lambda t: Tensor([[1.0, 2.0], [3.0]]), DTypeError, "Tensor", "different lengths")
mistake("a dict", lambda t: Tensor({"a": 1}), DTypeError, "Tensor", "dict")
mistake("None", lambda t: Tensor(None), DTypeError, "Tensor", "None")
mistake("dates", lambda t: Tensor(np.array(["2020"], "M8[Y]")), DTypeError, "Tensor", "datetime64")
mistake("an unknown dtype", lambda t: Tensor([1.0], dtype="float31"), DTypeError, "Tensor", "dtype='float31'")
mistake("a complex dtype", lambda t: Tensor([1.0], dtype=complex), DTypeError, "Tensor", "complex")
mistake("an object dtype", lambda t: Tensor([1.0], dtype=object), DTypeError, "Tensor", "object")
mistake("a number too large for its dtype", lambda t: Tensor([300], dtype=np.int8), DTypeError, "Tensor", "int8")
mistake("an integer too large for NumPy", lambda t: Tensor([1, 10**30]), DTypeError, "Tensor", "data[1] = 1000000")
mistake("a list of tensors with a graph", lambda t: Tensor([t.x, t.x]), DTypeError, "asarray", "float64 (2, 3)")
mistake("from_numpy of a list", lambda t: from_numpy([1.0]), DTypeError, "from_numpy", "a list")
mistake("from_numpy of a tensor", lambda t: from_numpy(t.plain), DTypeError, "from_numpy", "float64 (3,)")
mistake("from_numpy of objects", lambda t: from_numpy(np.array([None])), DTypeError, "from_numpy", "object (1,)")

# .data, .grad, requires_grad

mistake("data of strings", lambda t: setattr(t.x, "data", "abc"), DTypeError, "Tensor.data", "'abc'")
mistake("integers as data of a leaf", lambda t: setattr(t.x, "data", [1, 2]), DTypeError, "Tensor.data", "int64 (2,)")
mistake("data of a result", lambda t: setattr(t.result, "data", [1.0]), InPlaceError, "Tensor.data", "multiply")
mistake("grad of the wrong shape", lambda t: setattr(t.x, "grad", np.ones(3)), ShapeError, "Tensor.grad", "(3,)")
mistake("grad of strings", lambda t: setattr(t.x, "grad", "a"), DTypeError, "Tensor.grad", "'a'")
mistake(
    "grad of a result",
    lambda t: setattr(t.result, "grad", 1.0),
    GraphError,
    "Tensor.grad",
    "float64 (2, 3)",
    "multiply",
)
mistake(
    "grad of a constant", lambda t: setattr(t.plain, "grad", 1.0), GraphError, "Tensor.grad", "plain (float64 (3,))"
)
mistake(
    "requires_grad off for a result",
    lambda t: setattr(t.result, "requires_grad", False),
    GraphError,
    "requires_grad",
    "multiply",
)

# backward

mistake(
    "backward of several values", lambda t: t.result.backward(), GraphError, "backward", "float64 (2, 3)", "multiply"
)
mistake("backward of no values", lambda t: t.x[:, :0].backward(), GraphError, "backward", "float64 (2, 0)")
mistake("backward without a graph", lambda t: t.plain.backward(), GraphError, "backward", "plain (float64 (3,))")
mistake("backward of a detached tensor", lambda t: t.result.detach().backward(), GraphError, "backward", "(2, 3)")
mistake(
    "a second backward", lambda t: t.walked.backward(np.ones(2)), GraphError, "backward", "already walked", "multiply"
)
mistake("a second backward further on", lambda t: mg.sum(t.walked).backward(), GraphError, "backward", "already walked")
mistake(
    "a gradient of the wrong shape",
    lambda t: t.result.backward(np.ones(3)),
    ShapeError,
    "backward: gradient",
    "float64 (3,)",
    "(2, 3)",
)
mistake(
    "a gradient that would broadcast",
    lambda t: t.result.backward(np.ones((1, 3))),
    ShapeError,
    "backward: gradient",
    "float64 (1, 3)",
)
mistake(
    "a number as gradient of several values",
    lambda t: t.result.backward(1.0),
    ShapeError,
    "backward: gradient",
    "float64 ()",
)
mistake("a complex gradient", lambda t: mg.sum(t.x).backward(1j), DTypeError, "backward: gradient", "1j")
mistake("a string as gradient", lambda t: t.result.backward("ones"), DTypeError, "backward: gradient", "'ones'")


def under_no_grad(t: Any) -> None:
    with no_grad():
        y = mg.sum(t.x * t.x)
    y.backward()


mistake("backward of what no_grad computed", under_no_grad, GraphError, "backward", "float64 ()")


def written(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """backward after a write into a leaf of its own, so that the tensors on the bench stay as they are."""

    def call(t: Any) -> None:
        p = Tensor([1.0, 2.0], requires_grad=True, name="weights")
        loss = mg.sum(p * p * t.y)
        with no_grad():
            write(p)
        loss.backward()

    return call


mistake(
    "data written before backward",
    written(minus_data),
    InPlaceError,
    "multiply.backward",
    "weights (float64 (2,))",
    ".data",
    "multiply",
)
mistake(
    "a step before backward",
    written(lambda p: iadd(p, 1.0)),
    InPlaceError,
    "multiply.backward",
    "weights (float64 (2,))",
    "x += y",
)
mistake(
    "an entry written before backward",
    written(lambda p: set_item(p, 0, 5.0)),
    InPlaceError,
    "multiply.backward",
    "weights",
    "x[index] = value",
)

# grad

mistake("grad of an array", lambda t: grad(np.ones(2), t.x), DTypeError, "grad: outputs", "float64 ()")
mistake("grad of a number", lambda t: grad(1.0, t.x), DTypeError, "grad: outputs", "float 1.0")
mistake("grad for an array", lambda t: grad(t.result, t.array), DTypeError, "grad: inputs", "float64 ()")
mistake("grad for None", lambda t: grad(t.result, None), DTypeError, "grad: inputs", "None")
mistake("grad without a graph", lambda t: grad(t.plain, t.x), GraphError, "grad", "plain (float64 (3,))")
mistake("grad for a constant", lambda t: grad(mg.sum(t.x), t.plain), GraphError, "grad: inputs", "plain (float64 (3,))")
mistake(
    "grad for an unused input", lambda t: grad(mg.sum(t.x), [t.x, t.y]), GraphError, "grad: inputs", "y (float64 (2,))"
)
mistake("grad of several values", lambda t: grad(t.result, t.x), GraphError, "grad", "float64 (2, 3)")
mistake(
    "grad_outputs of the wrong shape",
    lambda t: grad(t.result, t.x, np.ones(3)),
    ShapeError,
    "grad: grad_outputs",
    "float64 (3,)",
)
mistake(
    "too few grad_outputs",
    lambda t: grad([t.one * 1.0, t.one * 2.0], t.one, [1.0]),
    ArgumentError,
    "grad: grad_outputs",
    "1 gradients for 2 outputs",
)
mistake(
    "one number as grad_outputs of two",
    lambda t: grad([t.one * 1.0, t.one * 2.0], t.one, 1.0),
    ArgumentError,
    "grad: grad_outputs",
    "1 gradients for 2 outputs",
)

# Conversions

mistake("bool of several values", lambda t: bool(t.x), ArgumentError, "bool", "6 values of shape (2, 3)")
mistake("if of several values", lambda t: 1 if t.plain else 0, ArgumentError, "bool", "3 values of shape (3,)")
mistake("bool of no value", lambda t: bool(Tensor([])), ArgumentError, "bool", "0 values of shape (0,)")
mistake("float of several values", lambda t: float(t.x), ArgumentError, "float", "6 values of shape (2, 3)")
mistake("int of several values", lambda t: int(t.plain), ArgumentError, "int", "3 values of shape (3,)")
mistake("item of several values", lambda t: t.x.item(), ArgumentError, "item", "6 values of shape (2, 3)")
mistake("a float tensor as index", lambda t: [1, 2][t.one], DTypeError, "index", "float64 ()")
mistake("several values as index", lambda t: [1, 2][t.integers], ArgumentError, "index", "2 values of shape (2,)")
mistake("len of a single value", lambda t: len(t.one), DTypeError, "len", "float64 ()")
mistake("a loop over a single value", lambda t: list(t.one), DTypeError, "len", "float64 ()")
mistake("asarray of a graph", lambda t: np.asarray(t.x), DTypeError, "numpy.asarray", "x (float64 (2, 3))")
mistake("array of a list of tensors", lambda t: np.array([t.x, t.x]), DTypeError, "numpy.asarray", "x (float64 (2, 3))")
mistake(
    "a row of an array set to a graph",
    lambda t: set_item(t.array, slice(None), t.y),
    DTypeError,
    "numpy.asarray",
    "y (float64 (2,))",
)
mistake("pickle of a graph", lambda t: pickle.dumps(t.result), GraphError, "pickle", "float64 (2, 3)", "multiply")
mistake("deepcopy of a graph", lambda t: copy.deepcopy(t.result), GraphError, "pickle", "float64 (2, 3)")

# Shapes and types, family by family: elementwise

for _f in mg.add, mg.subtract, mg.multiply, mg.divide, mg.power, mg.maximum, mg.minimum, mg.arctan2, mg.hypot:
    _name = _f.__name__
    mistake(
        f"{_name} of shapes that clash",
        lambda t, f=_f: f(t.x, t.y),
        ShapeError,
        _name,
        "x is float64 (2, 3)",
        "y is float64 (2,)",
    )
for _f in mg.exp, mg.log, mg.sqrt, mg.relu, mg.sigmoid, mg.tanh, mg.negative, mg.softplus:
    _name = _f.__name__
    mistake(f"{_name} of strings", lambda t, f=_f: f(["a"]), DTypeError, f"{_name}: x", "data[0] = 'a'")
    mistake(f"{_name} of None", lambda t, f=_f: f(None), DTypeError, f"{_name}: x", "None")
mistake(
    "where of shapes that clash",
    lambda t: mg.where(t.x > 0, t.x, t.y),
    ShapeError,
    "where",
    "float64 (2, 3)",
    "float64 (2,)",
)
mistake("clip of shapes that clash", lambda t: t.x.clip(t.y, 9.0), ShapeError, "clip", "float64 (2, 3)", "float64 (2,)")
mistake("a string on the right", lambda t: t.x + "a", DTypeError, "add: y", "'a'")
mistake("None on the right", lambda t: t.x * None, DTypeError, "multiply: y", "None")
mistake("a complex number on the left", lambda t: 1j * t.x, DTypeError, "multiply: x", "1j")
mistake(
    "an object array on the left",
    lambda t: np.array([None, 1.0, 2.0]) + t.x,
    DTypeError,
    "add: x",
    "object (3,)",
    "data[0] = None",
)
mistake("a negative power of integers", lambda t: t.integers**-1, ArgumentError, "power", "int64 (2,)", "int -1")
mistake("minus booleans", lambda t: -Tensor([True]), DTypeError, "negative", "bool (1,)")
mistake("a comparison of shapes that clash", lambda t: t.x < t.y, ShapeError, "x < y", "float64 (2, 3)", "float64 (2,)")
mistake(
    "an equality of shapes that clash", lambda t: t.x == t.y, ShapeError, "x == y", "float64 (2, 3)", "float64 (2,)"
)
mistake("a comparison with a string", lambda t: t.x >= "a", DTypeError, "x >= y: y", "'a'")

# reductions

for _f in mg.sum, mg.mean, mg.var, mg.std, mg.prod, mg.max, mg.min, mg.logsumexp, mg.cumsum, mg.norm:
    _name = _f.__name__
    mistake(
        f"{_name} over an axis that is not there",
        lambda t, f=_f: f(t.x, axis=5),
        LabelError,
        f"{_name}: axis",
        "axis=5",
        "float64 (2, 3)",
    )
for _f in mg.mean, mg.var, mg.std, mg.max, mg.min, mg.logsumexp:
    _name = _f.__name__
    mistake(
        f"{_name} of nothing", lambda t, f=_f: f(t.x[:, :0], axis=1), ArgumentError, f"{_name}: x", "float64 (2, 0)"
    )
mistake("sum over the same axis twice", lambda t: t.x.sum((0, 0)), ArgumentError, "sum", "float64 (2, 3)", "(0, 0)")
mistake("sum over a word", lambda t: t.x.sum("rows"), DTypeError, "sum", "'rows'")
mistake("norm of another order", lambda t: mg.norm(t.x, ord=3), ArgumentError, "norm: ord", "3")

# shape

mistake("reshape to another size", lambda t: t.x.reshape(4, 2), ArgumentError, "reshape", "float64 (2, 3)", "(4, 2)")
mistake(
    "reshape with two unknowns", lambda t: t.x.reshape(-1, -1), ArgumentError, "reshape", "float64 (2, 3)", "(-1, -1)"
)
mistake("transpose with too many axes", lambda t: t.x.transpose(0, 1, 2), ArgumentError, "transpose", "(0, 1, 2)")
mistake("transpose with an axis twice", lambda t: t.x.transpose(0, 0), ArgumentError, "transpose", "(0, 0)")
mistake("swapaxes of a missing axis", lambda t: t.x.swapaxes(0, 2), LabelError, "swapaxes", "axis2=2", "float64 (2, 3)")
mistake("moveaxis of a missing axis", lambda t: mg.moveaxis(t.x, 3, 0), LabelError, "moveaxis", "source=3")
mistake("expand_dims too far", lambda t: mg.expand_dims(t.x, 4), LabelError, "expand_dims", "axis=4", "float64 (2, 3)")
mistake("squeeze of a long axis", lambda t: t.x.squeeze(0), ArgumentError, "squeeze", "float64 (2, 3)", "axis=0")
mistake(
    "broadcast_to a shape that does not fit",
    lambda t: mg.broadcast_to(t.x, (3, 2)),
    ArgumentError,
    "broadcast_to",
    "float64 (2, 3)",
    "(3, 2)",
)
mistake(
    "concatenate of widths that differ",
    lambda t: mg.concatenate([t.x, np.ones((2, 2))]),
    ShapeError,
    "concatenate",
    "xs[0] is float64 (2, 3)",
    "xs[1] is float64 (2, 2)",
)
mistake("concatenate of nothing", lambda t: mg.concatenate([]), ArgumentError, "concatenate: xs", "list")
mistake(
    "concatenate along a missing axis",
    lambda t: mg.concatenate([t.x, t.x], axis=2),
    LabelError,
    "concatenate",
    "axis=2",
)
mistake(
    "stack of shapes that differ",
    lambda t: mg.stack([t.x, t.y]),
    ArgumentError,
    "stack",
    "xs[0] is float64 (2, 3)",
    "xs[1] is float64 (2,)",
)
mistake("stack of a number", lambda t: mg.stack(3.0), MinigradError, "stack: xs", "3.0")
mistake("stack along a missing axis", lambda t: mg.stack([t.x, t.x], axis=5), LabelError, "stack", "axis=5")
mistake("split into unequal parts", lambda t: mg.split(t.x, 4), ArgumentError, "split", "4 sections", "float64 (2, 3)")
mistake(
    "split along a missing axis",
    lambda t: mg.split(t.x, 2, axis=7),
    LabelError,
    "split: axis",
    "axis=7",
    "float64 (2, 3)",
)
mistake("flip of a missing axis", lambda t: mg.flip(t.x, 3), LabelError, "flip", "axis=3", "float64 (2, 3)")
mistake("pad with three numbers", lambda t: mg.pad(t.x, ((1, 2, 3),)), ArgumentError, "pad: pad_width", "(1, 2, 3)")
mistake("pad with less than nothing", lambda t: mg.pad(t.x, -1), ArgumentError, "pad: pad_width", "-1")
mistake("pad in an unknown mode", lambda t: mg.pad(t.x, 1, mode="mirror"), ArgumentError, "pad: mode", "'mirror'")
mistake("tile less than never", lambda t: mg.tile(t.x, -1), ArgumentError, "tile", "-1", "float64 (2, 3)")
mistake("repeat with too many counts", lambda t: mg.repeat(t.x, (1, 2, 3), 0), ArgumentError, "repeat", "(1, 2, 3)")
mistake("repeat of a missing axis", lambda t: mg.repeat(t.x, 2, 4), LabelError, "repeat", "axis=4", "float64 (2, 3)")
mistake("astype to complex", lambda t: t.x.astype("complex128"), DTypeError, "astype: dtype", "complex128")
mistake("astype to an unknown dtype", lambda t: t.x.astype("float31"), DTypeError, "astype: dtype", "float31")

# index

mistake("an index out of range", lambda t: t.x[5], LabelError, "x[index]", "float64 (2, 3)", "5")
mistake("an index array out of range", lambda t: t.x[[0, 7]], LabelError, "x[index]", "float64 (2, 3)", "7")
mistake("too many indices", lambda t: t.y[0, 0], LabelError, "x[index]", "float64 (2,)", "(0, 0)")
mistake("a word as index", lambda t: t.x["rows"], LabelError, "x[index]", "'rows'")
mistake("a float as index", lambda t: t.x[1.5], LabelError, "x[index]", "1.5")
mistake(
    "a mask of another length",
    lambda t: t.y[np.array([True, False, True])],
    LabelError,
    "x[index]",
    "float64 (2,)",
    "True, False,  True",
)
mistake("a step of zero", lambda t: t.x[::0], ArgumentError, "getitem", "float64 (2, 3)", "slice(None, None, 0)")
mistake(
    "writing out of range",
    lambda t: set_item(t.plain, 5, 1.0),
    LabelError,
    "x[index] = value",
    "float64 (3,)",
    "index is 5",
)
mistake(
    "writing too much",
    lambda t: set_item(t.plain, slice(0, 2), np.ones(3)),
    ShapeError,
    "x[index] = value",
    "float64 (3,)",
    "slice(0, 2, None)",
)
mistake(
    "writing strings",
    lambda t: set_item(t.plain, slice(0, 2), np.array(["1", "a"])),
    DTypeError,
    "x[index] = value",
    "<U1 (2,)",
)
mistake(
    "writing complex numbers",
    lambda t: set_item(t.plain, slice(0, 2), [1.0, 1j]),
    DTypeError,
    "x[index] = value",
    "data[1] = 1j",
)
mistake(
    "writing out of range of a result",
    lambda t: set_item(t.result, 5, 1.0),
    LabelError,
    "x[index] = value",
    "float64 (2, 3)",
    "index is 5",
)
mistake(
    "writing too much into a result",
    lambda t: set_item(t.result, 0, np.ones(2)),
    ShapeError,
    "x[index] = value",
    "float64 (2, 3)",
    "float64 (2,)",
)
mistake("writing into a leaf", lambda t: set_item(t.x, 0, 1.0), InPlaceError, "x[index] = value", "x (float64 (2, 3))")
mistake(
    "taking along another number of axes",
    lambda t: mg.take_along_axis(t.x, np.array([0]), 0),
    ArgumentError,
    "take_along_axis",
    "float64 (2, 3)",
)
mistake(
    "taking out of range",
    lambda t: mg.take_along_axis(t.x, np.array([[0, 9]]), 1),
    LabelError,
    "take_along_axis: indices",
    "float64 (2, 3)",
    "9",
)
mistake(
    "taking along a missing axis",
    lambda t: mg.take_along_axis(t.x, np.array([[0]]), 4),
    LabelError,
    "take_along_axis",
    "axis=4",
    "float64 (2, 3)",
)
mistake("scatter out of range", lambda t: mg.scatter(t.y, [0, 9], (3,)), LabelError, "scatter", "float64 (2,)", "9")

# in place

mistake("in place on a leaf", lambda t: iadd(t.x, 1.0), InPlaceError, "x += y", "x (float64 (2, 3))")
mistake(
    "in place to another shape",
    lambda t: iadd(t.plain, np.ones((2, 3))),
    ShapeError,
    "x += y",
    "float64 (3,)",
    "(2, 3)",
)
mistake(
    "in place to another shape of a result",
    lambda t: iadd(t.result, np.ones((4, 2, 3))),
    ShapeError,
    "x += y",
    "float64 (2, 3)",
    "(4, 2, 3)",
)
mistake(
    "in place matmul to another shape",
    lambda t: imatmul(t.plain, np.ones((3, 2))),
    ShapeError,
    "x @= y",
    "float64 (3,)",
    "(2,)",
)
mistake("floats into integers in place", lambda t: iadd(t.integers, 0.5), DTypeError, "x += y", "int64 (2,)", "float64")
mistake(
    "in place on integers with a negative power", lambda t: ipow(t.integers, -1), ArgumentError, "power", "int64 (2,)"
)
mistake("in place on an array", lambda t: iadd(t.array, t.y), DTypeError, "numpy.add", "out=")

# linear algebra

mistake(
    "matmul of widths that differ",
    lambda t: t.x @ t.y,
    ShapeError,
    "matmul",
    "x is float64 (2, 3)",
    "y is float64 (2,)",
)
mistake(
    "matmul of batches that differ",
    lambda t: np.ones((4, 2, 3)) @ t.x.T.reshape(1, 3, 2) @ np.ones((3, 2, 2)),
    ShapeError,
    "matmul",
    "float64 (4, 2, 2)",
    "float64 (3, 2, 2)",
)
mistake("matmul with a number", lambda t: t.x @ 3.0, ShapeError, "matmul", "float64 (2, 3)", "float 3.0")
mistake("dot of widths that differ", lambda t: mg.dot(t.x, t.y), ShapeError, "matmul", "float64 (2, 3)", "float64 (2,)")
mistake("outer with a string", lambda t: mg.outer(t.y, "a"), DTypeError, "outer: y", "'a'")
mistake(
    "tensordot of lengths that differ",
    lambda t: mg.tensordot(t.x, t.y, 1),
    ShapeError,
    "tensordot",
    "float64 (2, 3)",
    "float64 (2,)",
)
mistake(
    "einsum of lengths that differ",
    lambda t: mg.einsum("ij,j->i", t.x, t.y),
    ShapeError,
    "einsum",
    "'ij,j->i'",
    "(2, 3)",
    "(2,)",
)
mistake(
    "einsum with too few operands", lambda t: mg.einsum("ij,jk->ik", t.x), ShapeError, "einsum", "'ij,jk->ik'", "(2, 3)"
)
mistake("einsum without subscripts", lambda t: mg.einsum(t.x, "ij"), DTypeError, "einsum: subscripts", "float64 (2, 3)")
mistake("trace of a vector", lambda t: mg.trace(t.y), ArgumentError, "trace", "float64 (2,)")

# fused

mistake("softmax over a missing axis", lambda t: mg.softmax(t.x, axis=4), LabelError, "softmax: axis", "axis=4")
mistake("softmax of a single value", lambda t: mg.softmax(t.one), LabelError, "softmax: axis", "float64 ()")
mistake("softmax of no classes", lambda t: mg.softmax(t.x[:, :0]), ArgumentError, "softmax", "float64 (2, 0)")
mistake(
    "log_softmax over a missing axis",
    lambda t: mg.log_softmax(t.x, axis=-3),
    LabelError,
    "log_softmax: axis",
    "axis=-3",
)


def cross_entropy(labels: Any, **kwargs: Any) -> Callable[[Any], Any]:
    return lambda t: mg.softmax_cross_entropy(t.x, labels, **kwargs)


CE = "softmax_cross_entropy"
mistake(
    "T1: 3 labels for 2 rows", cross_entropy([0, 1, 2]), ShapeError, f"{CE}: labels", "float64 (2, 3)", "int64 (3,)"
)
mistake(
    "T1: 2 labels for 3 rows of 2 classes",
    lambda t: mg.softmax_cross_entropy(t.x.T, [0, 1]),
    ShapeError,
    f"{CE}: labels",
    "float64 (3, 2)",
    "int64 (2,)",
)
mistake("T5: labels in a column", cross_entropy([[0], [1]]), ShapeError, f"{CE}: labels", "float64 (2, 3)", "(2, 1)")
mistake(
    "T5: float labels for one class",
    lambda t: mg.softmax_cross_entropy(t.y.reshape(2, 1), [0.0, 0.0]),
    DTypeError,
    f"{CE}: labels",
    "float64",
)
mistake("T12: a label of -1", cross_entropy([1, -1]), LabelError, f"{CE}: labels", "labels[1] = -1", "3 classes")
mistake("a label out of range", cross_entropy([3, 0]), LabelError, f"{CE}: labels", "labels[0] = 3", "3 classes")
mistake(
    "many labels out of range",
    lambda t: mg.softmax_cross_entropy(np.ones((6, 2)), [0, 9, 8, 7, 6, 5]),
    LabelError,
    f"{CE}: labels",
    "labels[1] = 9",
    "labels[2] = 8",
    "labels[3] = 7",
    "2 more",
)
mistake("float labels", cross_entropy([0.0, 1.0]), DTypeError, f"{CE}: labels", "float64")
mistake("words as labels", cross_entropy(["cat", "dog"]), DTypeError, f"{CE}: labels", "'cat'")
mistake("no label", cross_entropy([]), MinigradError, f"{CE}: labels", "(0,)")
mistake(
    "rows that do not sum to 1",
    cross_entropy([[0.5, 0.6, 0.0], [1.0, 0.0, 0.0]]),
    ArgumentError,
    f"{CE}: labels",
    "labels[0] = [0.5, 0.6, 0.0]",
    "1.1",
)
mistake(
    "negative probabilities",
    cross_entropy([[1.0, 0.0, 0.0], [1.5, -0.5, 0.0]]),
    ArgumentError,
    f"{CE}: labels",
    "labels[1] = [1.5, -0.5, 0.0]",
)
mistake(
    "NaN in soft labels",
    cross_entropy([[np.nan, 0.0, 1.0], [1.0, 0.0, 0.0]]),
    ArgumentError,
    f"{CE}: labels",
    "labels[0]",
    "nan",
)
mistake(
    "labels that want a gradient", lambda t: mg.softmax_cross_entropy(t.x, t.x), DTypeError, f"{CE}: labels", "gradient"
)
mistake(
    "integer logits",
    lambda t: mg.softmax_cross_entropy(np.ones((2, 3), int), [0, 1]),
    MinigradError,
    f"{CE}: logits",
    "int64 (2, 3)",
)
mistake("classes along a missing axis", cross_entropy([0, 1], axis=2), MinigradError, f"{CE}: logits", "axis=2")
mistake(
    "an unknown reduction", cross_entropy([0, 1], reduction="average"), ArgumentError, f"{CE}: reduction", "'average'"
)
mistake("a weight for each row", cross_entropy([0, 1], weight=[1.0, 2.0]), ShapeError, f"{CE}: weight", "float64 (2,)")
mistake("a negative weight", cross_entropy([0, 1], weight=[1.0, -2.0, 1.0]), MinigradError, f"{CE}: weight", "-2.0")
mistake("words as weight", cross_entropy([0, 1], weight=["a", "b", "c"]), DTypeError, f"{CE}: weight", "'a'")
mistake(
    "too much smoothing", cross_entropy([0, 1], label_smoothing=1.5), ArgumentError, f"{CE}: label_smoothing", "1.5"
)
mistake(
    "ignore_index with one-hot labels",
    cross_entropy(np.eye(3)[:2], ignore_index=0),
    ArgumentError,
    f"{CE}: ignore_index",
    "ignore_index=0",
)

BCE = "sigmoid_binary_cross_entropy"
mistake(
    "(N, 1) logits with (N,) targets",
    lambda t: mg.sigmoid_binary_cross_entropy(t.y.reshape(2, 1), [0.0, 1.0]),
    ShapeError,
    f"{BCE}: targets",
    "float64 (2, 1)",
    "float64 (2,)",
)
mistake(
    "targets of -1 and 1",
    lambda t: mg.sigmoid_binary_cross_entropy(t.y, [1.0, -1.0]),
    ArgumentError,
    f"{BCE}: targets",
    "targets[1] = -1.0",
)
mistake(
    "NaN in targets",
    lambda t: mg.sigmoid_binary_cross_entropy(t.y, [np.nan, 1.0]),
    ArgumentError,
    f"{BCE}: targets",
    "targets[0] = nan",
)
mistake(
    "a target for one value only",
    lambda t: mg.sigmoid_binary_cross_entropy(t.y, 1.0),
    ShapeError,
    f"{BCE}: targets",
    "float64 (2,)",
    "()",
)
mistake(
    "a weight that does not broadcast",
    lambda t: mg.sigmoid_binary_cross_entropy(t.y, [0.0, 1.0], weight=np.ones(3)),
    ShapeError,
    f"{BCE}: weight",
    "float64 (3,)",
)
mistake(
    "an unknown reduction of binary labels",
    lambda t: mg.sigmoid_binary_cross_entropy(t.y, [0.0, 1.0], reduction="batch"),
    ArgumentError,
    f"{BCE}: reduction",
    "'batch'",
)

# without a derivative

mistake("argmax over a missing axis", lambda t: t.x.argmax(5), MinigradError, "argmax", "5", "float64 (2, 3)")
mistake("argmax of nothing", lambda t: mg.argmax(t.x[:0]), MinigradError, "argmax", "float64 (0, 3)")
mistake("sign of a string", lambda t: mg.sign("a"), MinigradError, "sign", "'a'")
mistake(
    "np.less of shapes that clash", lambda t: np.less(t.x, t.y), MinigradError, "less", "float64 (2, 3)", "float64 (2,)"
)
mistake("an array compared with shapes that clash", lambda t: np.ones(4) > t.y, MinigradError, "", "(4,)", "(2,)")

# NumPy's functions

mistake("a function without a rule", lambda t: np.sort(t.x), DTypeError, "numpy.sort", "Tensor")
mistake("a ufunc without a rule", lambda t: np.modf(t.x), DTypeError, "numpy.modf", "Tensor")
mistake("a function of a module without a rule", lambda t: np.linalg.inv(t.x), DTypeError, "numpy.linalg.inv", "Tensor")
mistake("a method of a ufunc", lambda t: np.add.reduce(t.x), DTypeError, "numpy.add.reduce", "Tensor")
mistake("out=", lambda t: np.exp(t.x, out=np.zeros((2, 3))), DTypeError, "numpy.exp", "out=")
mistake("where=", lambda t: np.exp(t.x, where=True), DTypeError, "numpy.exp", "where=")
mistake("dtype=", lambda t: np.sum(t.x, dtype=float), DTypeError, "numpy.sum", "dtype=")
mistake("more arguments than the rule knows", lambda t: np.sum(t.x, 0, float), DTypeError, "numpy.sum", "3 arguments")
mistake("where with a condition alone", lambda t: np.where(t.x), DTypeError, "numpy.where", "no x")
mistake("a plain tensor without a rule", lambda t: np.sort(t.plain), DTypeError, "numpy.sort", "Tensor")

# Ops of a user's own


class Two(Op):
    """A rule that answers for one argument of two."""

    def forward(self, x: Any, y: Any) -> Any:
        return x[0] * y

    def backward(self, dout: Any) -> Any:
        return dout


class Returns(Op):
    """A rule that returns whatever it is told to."""

    value: Any

    def forward(self, x: Any) -> Any:
        return x * 1.0

    def backward(self, dout: Any) -> Any:
        return self.value


class Many(Op):
    """A rule of many arguments that is one short."""

    def forward(self, *xs: Any) -> Any:
        return sum(xs)

    def backward(self, dout: Any) -> Any:
        return (dout,)


def back(op: Op, *names: str) -> Callable[[Any], Any]:
    return lambda t: mg.sum(op(*[getattr(t, name) for name in names])).backward()


mistake("a rule one gradient short", back(Two(), "x", "one"), GradientError, "two.backward", "1 gradient")
mistake(
    "a rule with a gradient too many",
    back(Returns((1.0, 2.0)), "x"),
    GradientError,
    "returns(value=(1.0, 2.0)).backward",
    "2 gradients",
)
mistake("a rule of many that is short", back(Many(), "y", "y", "y"), GradientError, "many.backward", "1 gradient")
mistake(
    "a rule with a wrong shape", back(Returns(np.ones((3, 2))), "x"), GradientError, "backward", "argument x", "(3, 2)"
)
mistake(
    "a rule that leaves a sum to the walk", back(Returns(np.ones((4, 2))), "y"), GradientError, "backward", "(4, 2)"
)
mistake(
    "a rule with a shape that would broadcast",
    back(Returns(np.ones(3)), "x"),
    GradientError,
    "backward",
    "argument x",
    "(3,)",
)
mistake("a rule that returns a list", back(Returns([1.0, 2.0]), "y"), GradientError, "backward", "argument x", "list")
mistake("a rule that returns a number", back(Returns(1.0), "y"), GradientError, "backward", "argument x", "float")
mistake("a rule that returns a string", back(Returns("dout"), "y"), GradientError, "backward", "argument x", "str")


def ask_for_nothing_known(t: Any) -> None:
    class Asks(Op):
        def forward(self, x: Any) -> Any:
            return x

        def backward(self, dout: Any, z: Any) -> Any:
            return dout


def remember(t: Any) -> None:
    class Remembers(Op):
        def forward(self, x: Any) -> Any:
            self.out = x * 2
            return self.out

        def backward(self, dout: Any) -> Any:
            return dout

    Remembers()(t.x)


mistake("a rule that asks for what is not there", ask_for_nothing_known, DTypeError, "Asks.backward", "'z'")
mistake("T19: an op that remembers", remember, DTypeError, "Remembers.out", "assignment")
mistake("an op without its parameter", lambda t: Returns(), DTypeError, "Returns", "value")
mistake("an op with an unknown parameter", lambda t: Two(axis=1), DTypeError, "Two", "axis")
mistake("an op without forward", lambda t: type("Empty", (Op,), {})()(t.x), DTypeError, "Empty", "call")
mistake("no_grad on a generator", lambda t: no_grad()(lambda: (yield)), DTypeError, "no_grad", "generator function")


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.name)
def test_a_mistake_is_explained_in_four_parts_and_changes_nothing(case: Mistake) -> None:
    t = bench()
    before = state(t)
    with pytest.raises(MinigradError) as caught:
        case.call(t)
    error = caught.value
    assert isinstance(error, case.error)
    assert issubclass(type(error), BUILT_IN[type(error)])

    assert case.function in error.function
    for words in case.got:
        assert words in error.got
    assert str(error) == f"{error.function}: {error.got}; expected {error.expected}; {error.fix}"
    for part in error.function, error.got, error.expected, error.fix:
        assert part.strip()
    assert error.fix.split()[0] in VERBS or error.fix.startswith("the nearest one is")

    if error.__context__ is not None:  # what NumPy said, where it was NumPy that refused
        reason = str(error.__context__)
        for part in error.got, error.expected, error.fix:
            assert re.search(r"\w{3}", part.replace(reason, "")), "NumPy's words alone"
    assert state(t) == before


def test_the_table_visits_every_kind_of_error() -> None:
    assert {case.error for case in MISTAKES} >= set(BUILT_IN)
    names = [case.name for case in MISTAKES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("error", BUILT_IN)
def test_an_error_is_what_a_numpy_user_catches(error: type[MinigradError]) -> None:
    assert issubclass(error, BUILT_IN[error])
    made = error("f: x", "x is 1", "2", "write 2")
    assert (made.function, made.got, made.expected, made.fix) == ("f: x", "x is 1", "2", "write 2")
    assert str(made) == "f: x: x is 1; expected 2; write 2"
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is error
    assert str(again) == str(made)


def test_the_contract_of_matmul_is_in_its_message() -> None:
    with pytest.raises(ShapeError) as caught:
        mg.matmul(Tensor(np.ones((2, 3))), Tensor(np.ones((4, 5))))
    for words in "matmul", "(2, 3)", "(4, 5)", "k is 3 in x and 4 in y":
        assert words in str(caught.value)


def test_a_clash_names_the_axis() -> None:
    with pytest.raises(ShapeError, match="axis -1 is 3 in x and 2 in y"):
        mg.add(np.ones((2, 3)), np.ones((2, 2)))


def test_an_unknown_function_names_the_nearest_that_has_a_rule() -> None:
    x = Tensor([1.0], requires_grad=True)
    for call, nearest in [(lambda: np.vstack([x, x]), "numpy.stack"), (lambda: np.nansum(x), "numpy.sum")]:
        with pytest.raises(DTypeError, match=nearest):
            call()


@pytest.mark.parametrize(
    "op", [op for op in registry() if op.elementwise and len(op.args) == 2], ids=lambda op: op.name
)
def test_every_elementwise_op_explains_shapes_that_clash(op: type[Op]) -> None:
    x, y = Tensor(np.ones((2, 3)), requires_grad=True), Tensor(np.ones(4), requires_grad=True)
    with pytest.raises(ShapeError) as caught:
        op.function(x, y)
    assert caught.value.function == op.name
    for words in "float64 (2, 3)", "float64 (4,)":
        assert words in caught.value.got


@pytest.mark.parametrize("op", [op for op in registry() if op.args and not op.variadic], ids=lambda op: op.name)
@pytest.mark.parametrize("bad", ["a", None, 1j, np.array([None, 1.0]), [[1.0], [2.0, 3.0]]], ids=repr)
def test_every_op_explains_what_is_no_number(op: type[Op], bad: Any) -> None:
    """The first argument is no number; what comes after it is what the first sample call passes."""
    case = op.cases[0] if op.cases else None
    rest = [np.ones(shape) for shape in case.shapes[1:]] if case else [1.0] * (len(op.args) - 1)
    if op.name == "where":
        rest = [1.0, 2.0]
    with pytest.raises(DTypeError) as caught:
        op.function(bad, *rest, **(case.kwargs if case else {}))
    assert caught.value.fix


def test_an_error_in_a_users_forward_stays_itself_with_a_note() -> None:
    class Fails(Op):
        def forward(self, x: Any) -> Any:
            return x @ np.ones((9, 9))

        def backward(self, dout: Any) -> Any:
            return dout

    with pytest.raises(ValueError, match="matmul") as caught:
        Fails()(Tensor(np.ones((2, 3))))
    assert caught.value.__notes__ == ["in forward of fails: x is float64 (2, 3)"]


def test_warnings_and_floating_point_errors_stay_themselves() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="overflow"):
            mg.exp(Tensor(1000.0))
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        mg.exp(Tensor(1000.0))


def test_describe() -> None:
    assert describe(np.zeros((2, 3), np.float32)) == "float32 (2, 3)"
    assert describe(Tensor([1.0])) == "float64 (1,)"
    assert describe(2) == "int 2"
    assert describe(None) == "NoneType None"
    assert describe([1, 2]) == "a list"
    assert len(describe("a" * 1000)) < 60
