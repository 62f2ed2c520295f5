"""Derivatives of plain functions: grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp.

The functions take arrays or Tensors and may call NumPy directly: np.exp(x), x @ y, x[0]. Results are Tensors.
Each works on the result of any other, so grad(grad(f)) is a second derivative; nested calls do not mix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.autograd import enable_grad
from minigrad.autograd import grad as grad_of
from minigrad.errors import ArgumentError, DTypeError, ShapeError, describe
from minigrad.ops import copy, reshape, stack
from minigrad.standin import as_array
from minigrad.tape import ancestors
from minigrad.tensor import Tensor

__all__ = ["grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that gives df/dx, of x's shape, for an f that returns a single value.

    argnums: which positional argument to differentiate; with a sequence the result is a tuple.
    The returned function raises ShapeError where f returns more than one value, DTypeError for integers.

    >>> grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    Tensor([ 3., 12.], dtype=float64)
    """
    both = value_and_grad(f, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that gives (f(x), df/dx); as grad otherwise.

    >>> value_and_grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    (Tensor(9., dtype=float64), Tensor([ 3., 12.], dtype=float64))
    """

    def both(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        out, xs = _run("grad", f, argnums, args, kwargs)
        if out.size != 1:
            raise ShapeError(
                "grad: f",
                f"f returned {describe(out)}",
                "a single value",
                "return np.sum(...) of it, or use minigrad.func.jacobian",
            )
        dxs = _pull("grad", out, xs, np.ones(out.shape, out.dtype))
        return _result(out, xs), dxs[0] if isinstance(argnums, int) else dxs

    return both


def vjp(f: Callable[..., Any], *args: Any) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """(f(*args), pull), where pull(dout) gives dout times df/d(arg), one for each argument.

    dout: array of f's result's shape. pull may be called more than once.

    >>> out, pull = vjp(lambda x: x * x, np.array([1.0, 2.0]))
    >>> pull(np.array([1.0, 10.0]))
    (Tensor([ 2., 40.], dtype=float64),)
    """
    out, xs = _run("vjp", f, range(len(args)), args, {})
    return _result(out, xs), lambda dout: _pull("vjp", out, xs, dout)


def jvp(f: Callable[..., Any], args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """(f(*args), the change of f's result when each argument changes by its tangent): df/dx times tangent.

    args, tangents: sequences of equal length, shapes in pairs. Computed as the vjp of the vjp, which is
    linear in dout.

    >>> jvp(lambda x: x * x, [np.array([1.0, 2.0])], [np.array([1.0, 0.5])])[1]
    Tensor([2., 2.], dtype=float64)
    """
    if not isinstance(args, (list, tuple)) or not isinstance(tangents, (list, tuple)):
        raise DTypeError(
            "jvp: args, tangents",
            f"args is {describe(args)}, tangents is {describe(tangents)}",
            "a list of f's arguments, and a list of as many tangents",
            "write jvp(f, [x], [v])",
        )
    if len(args) != len(tangents) or any(np.shape(a) != np.shape(v) for a, v in zip(args, tangents, strict=False)):
        raise ShapeError(
            "jvp: tangents",
            f"shapes {[np.shape(v) for v in tangents]} for arguments of shapes {[np.shape(a) for a in args]}",
            "a tangent of its shape for each argument",
            "pass lists: jvp(f, [x], [v])",
        )
    with enable_grad():
        out, xs = _run("jvp", f, range(len(args)), args, {})
        if not out.requires_grad:
            return _result(out, xs), Tensor(np.zeros(out.shape, out.dtype))
        dout = Tensor(np.zeros(out.shape, out.dtype), requires_grad=True)
        pulled = grad_of(out, xs, dout, create_graph=True, retain_graph=True, allow_unused=True)
        total: Any = None
        for g, v in zip(pulled, tangents, strict=True):
            if g is not None:
                term = np.sum(g * v)
                total = term if total is None else total + term
        if total is None or not total.requires_grad:
            return _result(out, xs), Tensor(np.zeros(out.shape, out.dtype))
        outer = _depends_on_more(out, xs) or any(isinstance(v, Tensor) and v.requires_grad for v in tangents)
        (change,) = grad_of(total, dout, create_graph=outer, retain_graph=True, allow_unused=True)
    return _result(out, xs), Tensor(np.zeros(out.shape, out.dtype)) if change is None else change


def jacobian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that gives all of df/dx, of shape f(x).shape + x.shape: one walk for each value of f(x).

    >>> jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    Tensor([[2., 0.],
            [0., 4.]], dtype=float64)
    """

    def rows(*args: Any, **kwargs: Any) -> Any:
        out, xs = _run("jacobian", f, argnums, args, kwargs)
        units = np.eye(out.size, dtype=out.dtype).reshape(out.size, *out.shape)
        pulled = [_pull("jacobian", out, xs, unit) for unit in units]
        whole = tuple(
            reshape(stack([row[i] for row in pulled]), out.shape + x.shape)
            if pulled
            else Tensor(np.zeros(out.shape + x.shape, x.dtype))
            for i, x in enumerate(xs)
        )
        return whole[0] if isinstance(argnums, int) else whole

    return rows


def hessian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """A function that gives the matrix of second derivatives, of shape x.shape + x.shape.

    f returns a single value.

    >>> hessian(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    Tensor([[ 6.,  0.],
            [ 0., 12.]], dtype=float64)
    """
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Callable[..., Any], x: Any, v: Any) -> Tensor:
    """The Hessian of f at x times v, of x's shape, without making the Hessian.

    f returns a single value; x, v: arrays of one shape.

    >>> hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    Tensor([ 6., 12.], dtype=float64)
    """
    if np.shape(v) != np.shape(x):
        raise ShapeError(
            "hvp: v",
            f"v is {np.shape(v)}, x is {np.shape(x)}",
            "a direction of x's shape",
            "pass v of that shape",
        )
    product: Tensor = grad(lambda x: np.sum(grad(f)(x) * v))(x)
    return product


def _run(
    function: str,
    f: Callable[..., Any],
    argnums: int | Sequence[int],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> tuple[Tensor, list[Tensor]]:
    """f's result, and the Tensors that stood in for the arguments in question."""
    places = [argnums] if isinstance(argnums, int) else list(argnums)
    values = list(args)
    xs = []
    with enable_grad():
        for i in places:
            if not -len(values) <= i < len(values):
                raise ArgumentError(
                    f"{function}: argnums", f"{i} for {len(values)} arguments", "a position", "count from 0"
                )
            x = values[i]
            if isinstance(x, Tensor) and x.requires_grad:
                x = copy(x)  # a node of its own, so that an outer derivative sees through it
            else:
                data: Any = x.data if isinstance(x, Tensor) else as_array(x)
                if data.dtype.kind != "f":
                    raise DTypeError(
                        f"{function}: argument {i}",
                        describe(data) if data.ndim else describe(x),
                        "floats: only they have derivatives",
                        "pass np.array(x, dtype=float)",
                    )
                x = Tensor(data, requires_grad=True)
            values[i] = x
            xs.append(x)
        out = f(*values, **kwargs)
    if not isinstance(out, Tensor):
        # Also where f is a constant: nothing tells it from float(x) ** 2 or math.sin(x), whose gradient is not 0.
        raise DTypeError(
            f"{function}: f",
            f"f returned {describe(out)}, which has no graph",
            "a Tensor computed from the argument",
            "write np.sin(x) for math.sin(x), leave out float(), .item() and .numpy(), join several with np.stack",
        )
    return out, xs


def _depends_on_more(out: Tensor, xs: Sequence[Tensor]) -> bool:
    """Whether out hangs on leaves besides xs: an outer derivative is then on its way."""
    known = {x._node for x in xs}
    return out._node is not None and any(n.op is None and n not in known for n in ancestors([out._node]))


def _pull(function: str, out: Tensor, xs: Sequence[Tensor], dout: Any) -> tuple[Tensor, ...]:
    zeros = [Tensor(np.zeros(x.shape, x.dtype)) for x in xs]
    if np.shape(dout) != out.shape:
        raise ShapeError(
            f"{function}: dout",
            f"{np.shape(dout)} for a result of {out.shape}",
            f"{out.shape}",
            "pass that shape",
        )
    if not out.requires_grad:
        return tuple(zeros)
    outer = _depends_on_more(out, xs) or (isinstance(dout, Tensor) and dout.requires_grad)
    with enable_grad():
        dxs = grad_of(out, xs, dout, create_graph=outer, retain_graph=True, allow_unused=True)
    return tuple(zero if dx is None else dx for dx, zero in zip(dxs, zeros, strict=True))


def _result(out: Tensor, xs: Sequence[Tensor]) -> Tensor:
    """f's value: with its graph where an outer derivative may want it, else alone."""
    return out if _depends_on_more(out, xs) else out.detach()
