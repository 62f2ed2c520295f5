"""Sample calls of an op, drawn from what the op declares: shapes, values, dtypes, memory layouts, parameters."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad.contract import Domain
from minigrad.op import Op, registry
from minigrad.ops.reduce import Reduction

OPS = list(registry())
LAYOUTS = ["plain", "fortran", "strided", "reversed", "read-only"]


@dataclass
class Call:
    """An op's public function, arrays for it, and its keyword arguments."""

    op: type[Op]
    arrays: list[np.ndarray]
    kwargs: dict[str, Any]

    def __call__(self, *arrays: Any, function: Any = None) -> Any:
        """The public function, or another of the same signature, on arrays."""
        parameters = inspect.signature(self.op.function).parameters
        kwargs = dict(self.kwargs)
        kinds = [p.kind for p in parameters.values()]
        args: list[Any] = list(arrays)
        if "xs" in parameters:
            args = [args]
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            before = list(parameters)[: kinds.index(inspect.Parameter.VAR_POSITIONAL)]
            args = [kwargs.pop(name) for name in before] + args
        for name in list(parameters)[len(args) :]:  # by place, since NumPy's own names differ from ours
            if name not in kwargs or parameters[name].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
                break
            args.append(kwargs.pop(name))
        return (function or self.op.function)(*args, **kwargs)


def layout(array: np.ndarray, kind: str) -> np.ndarray:
    """The same values, laid out in memory in another way."""
    if kind == "fortran":
        return np.array(array, order="F")
    if kind == "read-only":
        array = array.copy()
        array.flags.writeable = False
        return array
    if kind == "plain" or not array.ndim:
        return array.copy()
    if kind == "strided":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    return np.flip(np.flip(array).copy())


def domains(op: type[Op], n: int) -> list[Domain]:
    """The domain of each of n arguments."""
    return list(op.domain) if isinstance(op.domain, tuple) else [op.domain] * n


def distinct(shapes: list[tuple[int, ...]], where: list[Domain], seed: int) -> list[np.ndarray]:
    """Values of these shapes from these domains, no two alike: far from the kinks of max, sort and their kin."""
    rng = np.random.default_rng(seed)
    total = sum(int(np.prod(shape)) for shape in shapes)
    places = (rng.permutation(total) + rng.uniform(0.3, 0.7, total)) / max(total, 1)
    arrays = []
    for shape, domain in zip(shapes, where, strict=True):
        n = int(np.prod(shape))
        x = domain.low + places[:n] * (domain.high - domain.low)
        places = places[n:]
        for point in domain.away:
            near = np.abs(x - point) < domain.gap
            x = np.where(near, point + np.where(x < point, -1, 1) * (domain.gap + np.abs(x - point)), x)
        arrays.append(x.reshape(shape))
    return arrays


@st.composite
def calls(draw: st.DrawFn, op: type[Op], *, empty: bool = True) -> Call:
    """A call of op in float64: its declared cases, or drawn shapes and axes."""
    least = 0 if empty else 1
    if op.cases:
        cases = [case for case in op.cases if empty or 0 not in [n for s in case.shapes for n in s]]
        case = draw(st.sampled_from(cases))
        shapes, kwargs = list(case.shapes), dict(case.kwargs)
    elif op.elementwise:
        n = len(op.args)
        drawn = draw(hnp.mutually_broadcastable_shapes(num_shapes=n, max_dims=3, min_side=least, max_side=3))
        shapes, kwargs = list(drawn.input_shapes), {}
    else:
        assert issubclass(op, Reduction), f"{op.name} declares neither cases nor a family that draws them"
        shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3))
        axes = st.none()
        if shape:
            axes |= st.integers(-len(shape), len(shape) - 1)
            axes |= st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True).map(tuple)
        shapes, kwargs = [shape], {"axis": draw(axes), "keepdims": draw(st.booleans())}
    arrays = distinct(shapes, domains(op, len(shapes)), draw(st.integers(0, 2**32 - 1)))
    if op.name == "where":
        arrays[0] = arrays[0] > 0
    if op.name == "clip":  # bounds in order, as clip wants them
        arrays[1] = arrays[1] - 4
        arrays[2] = arrays[2] + 4 - 4 * draw(st.booleans())
    return Call(op, [np.asarray(x) for x in arrays], kwargs)
