"""Gradients as values, and recording switched on and off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from minigrad.errors import ArgumentError, DTypeError, GraphError, describe
from minigrad.tape import ancestors, is_recording, own, recording, walk
from minigrad.tensor import Tensor, plain, seed, wrap

__all__ = ["enable_grad", "grad", "is_grad_enabled", "no_grad"]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """d(outputs)/d(inputs) * grad_outputs, as a tuple of Tensors, one an input; no `.grad` is touched.

    outputs, inputs: a Tensor or a sequence of them; inputs may be leaves or results.
    grad_outputs: for each output an array of its shape; may be left out for single values, and is then 1.
    create_graph: the results can be differentiated again.
    retain_graph: keep the graph for another walk; None means: exactly if create_graph.
    allow_unused: None in place of an error for an input that the outputs do not depend on.
    Raises GraphError for a missing graph or an unused input, ShapeError for a grad_output that does not fit.

    >>> x = Tensor(3.0, requires_grad=True)
    >>> (dx,) = grad(x * x * x, x, create_graph=True)
    >>> dx.item(), grad(dx, x)[0].item()
    (27.0, 18.0)
    """
    outputs, inputs = _tensors("outputs", outputs), _tensors("inputs", inputs)
    if grad_outputs is None:
        grad_outputs = [None] * len(outputs)
    elif not isinstance(grad_outputs, (list, tuple)) or len(outputs) == 1 != len(grad_outputs):
        grad_outputs = [grad_outputs]
    if len(grad_outputs) != len(outputs):
        raise ArgumentError(
            "grad: grad_outputs",
            f"{len(grad_outputs)} gradients for {len(outputs)} outputs",
            "one for each output",
            "pass a list as long as outputs, with None for single values",
        )
    nodes, douts = [], []
    for output, dout in zip(outputs, grad_outputs, strict=True):
        node, dout = seed("grad", output, dout, "grad_outputs")
        if create_graph and not isinstance(dout, Tensor):
            dout = wrap(dout)
        elif not create_graph:
            dout = plain(dout)
        nodes.append(node)
        douts.append(dout)
    for x in inputs:
        if x._node is None:
            raise GraphError(
                "grad: inputs",
                f"{x._what()}, which requires no gradient",
                "tensors with requires_grad=True, or computed from such",
                "write x.requires_grad = True before the computation",
            )
    targets = [x._node for x in inputs if x._node is not None]
    if not allow_unused:  # before the walk, which would use the graph up
        reached = set(ancestors(nodes))
        for x, target in zip(inputs, targets, strict=True):
            if target not in reached:
                raise GraphError(
                    "grad: inputs",
                    f"{x._what()}, which the outputs do not depend on",
                    "inputs that the outputs were computed from",
                    "leave it out, or pass allow_unused=True to get None for it",
                )
    with enable_grad():  # for the rules, which see Tensors if create_graph
        found, owned = walk(
            nodes,
            douts,
            targets,
            create_graph=create_graph,
            retain_graph=create_graph if retain_graph is None else retain_graph,
        )
    if create_graph:
        # A wrapper of its own for each, and values of its own where a seed came through untouched.
        tensors = {}
        for target, g in found.items():
            tensors[target] = wrap(np.copy(g._data) if g._node is None else g._data, g._node)
    else:
        tensors = {target: wrap(g) for target, g in own(found, owned).items()}
    return tuple(tensors.get(target) for target in targets)


def _tensors(argument: str, values: Any) -> list[Tensor]:
    """One Tensor or several, as a list."""
    several = isinstance(values, Iterable) and not isinstance(values, Tensor)
    tensors: list[Tensor] = list(values) if several else [values]
    for value in tensors:
        if not isinstance(value, Tensor):
            raise DTypeError(
                f"grad: {argument}",
                f"{describe(value)}, which is no Tensor",
                "a Tensor or a list of Tensors",
                "compute with Tensors: x = Tensor(..., requires_grad=True)",
            )
    return tensors


# Recording on and off

_outer: ContextVar[tuple[bool, ...]] = ContextVar("minigrad_outer", default=())

P = ParamSpec("P")
R = TypeVar("R")


class _Recording:
    """A context manager and decorator that sets whether operations are recorded."""

    mode: bool

    def __new__(cls, f: Callable[..., Any] | None = None) -> Any:
        """The manager; or f decorated, for @no_grad without parentheses."""
        manager = super().__new__(cls)
        return manager if f is None else manager(f)

    def __enter__(self) -> None:
        _outer.set((*_outer.get(), recording.get()))
        recording.set(self.mode)

    def __exit__(self, *exc: object) -> None:
        *rest, before = _outer.get()
        _outer.set(tuple(rest))
        recording.set(before)

    def __call__(self, f: Callable[P, R]) -> Callable[P, R]:
        import inspect

        if inspect.iscoroutinefunction(f):

            async def within(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await f(*args, **kwargs)

            return wraps(f)(within)  # type: ignore[return-value]  # R is itself awaitable here
        if inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f):
            raise DTypeError(
                type(self).__name__,
                f"the generator function {f.__name__}",
                "a plain or async function: a generator would leave the mode to its caller between values",
                f"write `with {type(self).__name__}():` inside it, around what lies between two yields",
            )

        @wraps(f)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return f(*args, **kwargs)

        return wrapper


class no_grad(_Recording):
    """Within, or in the decorated function, nothing is recorded: results require no gradient.

    Holds for the current thread or asyncio task alone.

    >>> x = Tensor(2.0, requires_grad=True)
    >>> with no_grad():
    ...     x -= 0.5
    >>> x
    Tensor(1.5, dtype=float64, requires_grad=True)
    """

    mode = False


class enable_grad(_Recording):
    """Within, or in the decorated function, operations are recorded, also inside no_grad().

    >>> x = Tensor(2.0, requires_grad=True)
    >>> with no_grad(), enable_grad():
    ...     (x * x).requires_grad
    True
    """

    mode = True


def is_grad_enabled() -> bool:
    """Whether operations are recorded here and now.

    >>> is_grad_enabled()
    True
    """
    return is_recording()
