"""Random programs, compiled: values, gradients and updated state are eager's bit for bit, call after call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.compiling import compile
from minigrad.errors import MinigradError
from minigrad.nn import Parameter
from minigrad.tensor import Tensor

# One step: its name, which values it takes (counted from the youngest), and a number that decides on the rest.
Step = tuple[str, int, int, int]

UNARY: dict[str, Callable[..., Any]] = {
    "exp": lambda x: mg.exp(mg.clip(x, -3.0, 3.0)),
    "tanh": mg.tanh,
    "sigmoid": mg.sigmoid,
    "relu": mg.relu,
    "softmax": lambda x: mg.softmax(x) if x.ndim and x.shape[-1] else x,
    "square": lambda x: x * x,
    "negative": lambda x: -x,
    "copy": lambda x: x.copy(),
    "detach": lambda x: x.detach(),
    "twice": lambda x: x + x,
    "numpy": lambda x: Tensor(np.cos(x.numpy())),
    "data": lambda x: mg.from_numpy(x.detach().data) * 2,
}
BINARY: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / (y * y + 1.0),
    "maximum": mg.maximum,
    "where": lambda x, y: mg.where(x > 0.25, x, y),
}


def reshaped(x: Tensor, n: int) -> Tensor:
    return [lambda: x.reshape(-1), lambda: x.T, lambda: x[None], lambda: x.reshape(*x.shape, 1)][n % 4]()


def part(x: Tensor, n: int) -> Tensor:
    if not x.ndim or not x.shape[0]:
        return x * 1
    k = n % x.shape[0]
    return x[[slice(k, None), slice(None, None, -1), k, [0, k, 0], (..., slice(None, 2))][n % 5]]


def reduced(x: Tensor, n: int) -> Tensor:
    axis = [None, 0, -1][n % 3] if x.ndim else None
    if axis is not None and not x.shape[axis]:
        axis = None
    return [mg.sum, mg.mean, mg.logsumexp if x.size else mg.sum][n % 3](x, axis=axis, keepdims=bool(n % 2))


def changed(x: Tensor, y: Tensor, n: int) -> Tensor:
    """In-place writes into what is no leaf, and into views."""
    x = x + 0.5 if n % 2 else x.detach().copy()
    if n % 3 == 0:
        x *= 1.5
    elif n % 3 == 1 and x.ndim and x.shape[0]:
        x[n % x.shape[0]] = y.sum()
    else:
        view = x.detach()[..., None]
        with mg.no_grad():
            view += 1.0
    return x


def interpret(steps: list[Step], params: list[Any], x: Any, y: Any) -> Any:
    values = [*params, Tensor(x), y * 1]
    for name, i, j, n in steps:
        a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
        if name in UNARY:
            out = UNARY[name](a)
        elif name in BINARY:
            try:
                out = BINARY[name](a, b)
            except MinigradError:  # shapes that do not broadcast
                out = BINARY[name](a, b.sum())
        elif name == "reshape":
            out = reshaped(a, n)
        elif name == "part":
            out = part(a, n)
        elif name == "reduce":
            out = reduced(a, n)
        elif name == "astype":
            out = a.astype(["float32", "float64", "float16"][n % 3])
        elif name == "stack":
            out = mg.stack([a, a * 2, a], axis=n % (a.ndim + 1))
        elif name == "matmul":
            out = a.reshape(-1, 1) @ b.reshape(1, -1) if a.size * b.size < 400 else a * 3
        elif name == "changed":
            out = changed(a, b, n)
        elif name == "grad":
            s = a.astype("float64").sum()
            g = mg.grad(s * s, a, create_graph=bool(n % 2))[0] if a.requires_grad else a
            out = g * a
        elif name == "update":
            with mg.no_grad():
                p = params[n % len(params)]
                p -= 0.125 * mg.sum(a).astype(p.dtype)
            continue
        elif name == "backward":
            s = mg.tanh(a).sum()
            if s.requires_grad:
                s.backward()
            continue
        values.append(out)
    loss = sum((mg.tanh(v.astype("float64")).mean() for v in values if v.size), Tensor(0.0))
    if loss.requires_grad:
        loss.backward()
    return [loss.detach(), *(v.detach() for v in values[-3:])]


def finish(params: list[Any], how: str, optimizer: Any) -> None:
    if how == "optimizer":
        optimizer.step()
        optimizer.zero_grad()
    elif how == "data":
        for p in params:
            if p.grad is not None:
                p.data -= 0.1 * p.grad
    elif how == "assign":
        for p in params:
            if p.grad is not None:
                p.data = p.data - np.asarray(0.1, p.dtype) * p.grad
                p.grad = None


def bits(x: Any) -> Any:
    if isinstance(x, (tuple, list)):
        return [bits(part) for part in x]
    if isinstance(x, Tensor):
        return "Tensor", bits(x._data)
    return (x.dtype, x.shape, x.tobytes()) if isinstance(x, np.ndarray) else x


def outcome(step: Any, *args: Any) -> Any:
    try:
        return "returned", bits(step(*args))
    except MinigradError as error:
        return "raised", type(error)


def world(steps: list[Step], shapes: Any, dtypes: Any, how: str, kind: str) -> tuple[Any, list[Any], Any]:
    rng = np.random.default_rng(0)
    params = [Parameter(rng.normal(size=s).astype(d)) for s, d in zip(shapes, dtypes, strict=True)]
    make = {"sgd": lambda: mg.optim.SGD(params, 0.1, 0.9), "adam": lambda: mg.optim.Adam(params, 0.1, eps=1e-3)}
    optimizer = make[kind]()

    def step(x: Any, y: Any) -> Any:
        out = interpret(steps, params, x, y)
        finish(params, how, optimizer)
        return out

    return step, params, optimizer


SHAPES = st.sampled_from([(), (3,), (2, 3), (1, 3), (3, 1), (2, 1, 3), (0, 3), (4,)])
DTYPES = st.sampled_from(["float64", "float32", "float16"])
NAMES = [*UNARY, *BINARY, *BINARY, "reshape", "part", "part", "reduce", "astype", "stack", "matmul", "changed"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*NAMES, "changed", "grad", "update", "backward"]),
        st.integers(0, 5),
        st.integers(0, 5),
        st.integers(0, 11),
    ),
    max_size=9,
)


@settings(max_examples=120)
@given(
    steps=STEPS,
    shapes=st.tuples(SHAPES, SHAPES, SHAPES, SHAPES),
    dtypes=st.tuples(DTYPES, DTYPES, DTYPES, DTYPES),
    how=st.sampled_from(["optimizer", "data", "assign", "none"]),
    kind=st.sampled_from(["sgd", "adam"]),
)
def test_random_programs(steps: list[Step], shapes: Any, dtypes: Any, how: str, kind: str) -> None:
    eager, params, optimizer = world(steps, shapes[:2], dtypes[:2], how, kind)
    written, others, second = world(steps, shapes[:2], dtypes[:2], how, kind)
    compiled = compile(written)
    rng = np.random.default_rng(1)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for _ in range(4):
            x, y = (rng.normal(size=s).astype(d) for s, d in zip(shapes[2:], dtypes[2:], strict=True))
            want = outcome(eager, x.copy(), Tensor(y))
            assert outcome(compiled, x, Tensor(y)) == want
            if want[0] == "raised":  # eager code is half way through then, and the compiled call as before
                return
            for p, q in zip(params, others, strict=True):
                assert bits(p) == bits(q)
                assert bits(p.grad) == bits(q.grad)
                assert p.grad is None or p.grad.strides == q.grad.strides
            for p, q in zip(params, others, strict=True):
                for key, value in optimizer.state.get(p, {}).items():
                    assert bits(value) == bits(second.state[q][key])
    assert compiled.stats.captures <= 3
