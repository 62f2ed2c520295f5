"""Every op in the registry, compiled: forward, first and second order are eager's bit for bit, on fresh inputs too."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from bits import bits
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.compiling import compile
from minigrad.op import Op, registry
from minigrad.tensor import Tensor
from minigrad.testing.calls import Call, calls

OPS = list(registry())
every_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


def is_float(x: Any) -> bool:
    return x.dtype.kind == "f"


def draw_like(shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape))


def turned(x: np.ndarray) -> np.ndarray:
    """The same values in another order: fresh ones, within the op's domain."""
    return x.reshape(-1)[::-1].reshape(x.shape).copy()


def leaves(xs: list[Any]) -> list[Tensor]:
    return [x for x in xs if isinstance(x, Tensor)]


def tensors(xs: Any) -> list[Any]:
    return [Tensor(x, requires_grad=True) if is_float(x) else x for x in xs]


def with_arrays(call: Call, given: Any) -> Call:
    """The same call with other arrays for those among its keyword arguments."""
    return Call(call.op, call.arrays, {**call.kwargs, **given})


def arrays_among(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that hold arrays of numbers, which a compiled function may be given: indices, labels."""
    found = {}
    for key, value in kwargs.items():
        parts = value if isinstance(value, tuple) else (value,)
        if all(isinstance(x, np.ndarray) and x.dtype.kind != "b" for x in parts):
            found[key] = value
    return found


def first_order(call: Call) -> Any:
    def f(dout: Any, given: Any, *arrays: Any) -> Any:
        xs = tensors(arrays)
        out = with_arrays(call, given)(*xs)
        grads = mg.grad(out, leaves(xs), dout, allow_unused=True)
        return out.detach(), list(grads)

    return f


def second_order(call: Call) -> Any:
    def f(dout: Any, given: Any, *arrays: Any) -> Any:
        xs = tensors(arrays)
        dout = Tensor(dout, requires_grad=True)
        grads = mg.grad(with_arrays(call, given)(*xs), leaves(xs), dout, create_graph=True, allow_unused=True)
        used = [g for g in grads if g is not None and g.requires_grad]
        if not used:
            return None
        weights = [np.cos(g.numpy() * 3 + 1) for g in used]
        return list(mg.grad(used, [*leaves(xs), dout], weights, allow_unused=True))

    return f


def agree(f: Any, first: list[np.ndarray], second: list[np.ndarray]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = compile(f)
        for arrays in (first, second, first):
            assert bits(compiled(*arrays)) == bits(f(*arrays))
    return compiled


@every_op
@settings(max_examples=5)
@given(data=st.data())
def test_first_and_second_order(op: type[Op], data: st.DataObject) -> None:
    call = data.draw(calls(op))
    dtype = data.draw(st.sampled_from(["float64", "float32"]))
    arrays = [x.astype(dtype) if is_float(x) and op.name != "astype" else x for x in call.arrays]
    out = call(*arrays)
    dout = draw_like(out.shape, 1).astype(out.dtype if is_float(out) else float)
    given, other = arrays_among(call.kwargs), {}
    for key, value in given.items():
        other[key] = tuple(map(turned, value)) if isinstance(value, tuple) else turned(value)
    first, second = [dout, given, *arrays], [dout * 2, other, *map(turned, arrays)]
    agree(first_order(call), first, second)
    if is_float(out):
        agree(second_order(call), first, second)
