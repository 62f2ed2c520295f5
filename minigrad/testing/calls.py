"""Calls of an op, drawn from what it declares: cases, elementwise, signature, domain."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import NDArray

from minigrad.contract import Case, Domain
from minigrad.errors import MinigradError
from minigrad.op import Op
from minigrad.ops.reduce import Reduction
from minigrad.tensor import Tensor
from minigrad.testing.drawing import FLAG, InvalidArgument, Values, check_room, draw_distinct, hnp, st, values_of_kind
from minigrad.testing.strategies import axes, shapes

__all__ = ["Call", "calls"]

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(repr=False)
class Call:
    """A call of an op: its class or an instance, arrays for it, and keyword arguments.

    Called with arrays it makes the call on those, and not on its own: Tensors, say, or values moved a little.

    >>> import numpy as np
    >>> from minigrad.ops.elementwise import Multiply
    >>> call = Call(Multiply, [np.array([1.0, 2.0]), np.array(3.0)], {})
    >>> call(*call.arrays)
    Tensor([3., 6.], dtype=float64)
    """

    op: type[Op] | Op
    arrays: list[Array]
    kwargs: dict[str, Any]

    def __call__(self, *arrays: Any, function: Any = None) -> Tensor:
        """The op's public function, or the op itself, on arrays; function: another of the same signature."""
        if isinstance(self.op, Op) or (self.op.function is None and function is None):
            op = self.op if isinstance(self.op, Op) else self.op(**self.kwargs)
            result: Tensor = (function or op)(*arrays)
            return result
        public = self.op.function or function
        parameters = inspect.signature(public).parameters
        kinds = [p.kind for p in parameters.values()]
        kwargs = dict(self.kwargs)
        args: list[Any] = list(arrays)
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            before = list(parameters)[: kinds.index(inspect.Parameter.VAR_POSITIONAL)]
            args = [kwargs.pop(name) for name in before] + args
        elif self.op.variadic:
            args = [args]  # a sequence of arrays, as concatenate wants it
        for place, name in enumerate(parameters):  # by place, since NumPy's own names differ from ours
            if name in kwargs and parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                args.insert(place, kwargs.pop(name))  # between arrays too: layer_norm(x, normalized_shape, weight)
            elif place >= len(args):
                break
        result = (function or public)(*args, **kwargs)
        return result

    def __repr__(self) -> str:
        name = repr(self.op) if isinstance(self.op, Op) else self.op.name
        return f"{name}({', '.join([*map(repr, self.arrays), *[f'{k}={v!r}' for k, v in self.kwargs.items()]])})"


def calls(op: type[Op] | Op, *, empty: bool = True) -> st.SearchStrategy[Call]:
    """Calls of an op, float64 throughout, drawn from what it declares: cases, elementwise, signature, domain.

    op: an op's class, yours or minigrad's, or an instance. A class is called through its public function, or
        with the parameters of a case; an instance has its own, so that only shapes are taken from its cases.
    empty: whether arrays without entries are drawn too.
    No two floats of a call are alike, so that max and its kin are drawn beside their kinks.
    Raises InvalidArgument for an op that declares nothing to draw from, or not a domain for each argument, and
    for a class that wants parameters which no case names.

    >>> from hypothesis import find
    >>> class Cube(Op):
    ...     '''out = x**3'''
    ...     elementwise = True
    ...     def forward(self, x):
    ...         return x * x * x
    ...     def backward(self, dout, x):
    ...         return dout * 3 * x * x
    >>> find(calls(Cube), lambda call: call.arrays[0].size > 1)
    cube(array([0., 1.]))
    """
    cls = op if inspect.isclass(op) else type(op)
    if not issubclass(cls, Op) or not (hasattr(cls, "forward") and hasattr(cls, "backward")):
        raise InvalidArgument(f"calls: {op!r} is no op; pass a subclass of minigrad.Op with forward and backward")
    cases = [case for case in cls.cases if empty or 0 not in [n for shape in case.shapes for n in shape]]
    if cls.cases:
        if not cases:
            raise InvalidArgument(f"calls: every case of {cls.name} is empty; declare one more, or pass empty=True")
        for case in cases:
            _domains(cls, len(case.shapes))
            _check_parameters(op, case)
        return _calls(op, st.sampled_from(cases))
    _check_parameters(op, Case())
    least = 0 if empty else 1
    if cls.elementwise:
        fixed = None if cls.variadic else len(cls.args)
        _domains(cls, fixed or 1)
        together = partial(hnp.mutually_broadcastable_shapes, max_dims=3, min_side=least, max_side=3)
        if fixed == 1:
            return _calls(op, shapes(min_side=least).map(Case))
        several = st.integers(1, 3).flatmap(lambda n: together(num_shapes=n))
        return _calls(op, (together(num_shapes=fixed) if fixed else several).map(_case))
    if cls.signature:
        try:
            drawn = hnp.mutually_broadcastable_shapes(signature=cls.signature, max_dims=2, min_side=least, max_side=3)
            drawn.validate()
        except InvalidArgument as error:
            raise InvalidArgument(
                f'calls: {cls.name} declares signature {cls.signature!r}: {error}; write it as in "(m,k),(k,n)->(m,n)"'
            ) from error
        n = cls.signature.split("->")[0].count("(")
        if n != len(cls.args) and not cls.variadic:
            raise InvalidArgument(
                f"calls: signature {cls.signature!r} of {cls.name} has {n} arguments, and forward has {len(cls.args)}; "
                "write a core shape for each, () for a number"
            )
        _domains(cls, n)
        return _calls(op, drawn.map(_case))
    if issubclass(cls, Reduction):
        return _calls(op, _reductions(op))
    raise InvalidArgument(
        f"calls: {cls.name} declares nothing to draw from; declare cases = (Case((2, 3)),), elementwise = True, "
        'or a signature such as "(m,k),(k,n)->(m,n)"'
    )


def _case(drawn: Any) -> Case:
    return Case(*drawn.input_shapes)


def _domains(op: type[Op], n: int) -> list[Values]:
    """The values of each of n arguments, by their domains."""
    domains = list(op.domain) if isinstance(op.domain, tuple) else [op.domain] * n
    if len(domains) != n:
        raise InvalidArgument(
            f"calls: {op.name} declares {len(domains)} domains for {n} arguments; declare one for each, or one for all"
        )
    return [_values_of(domain) for domain in domains]


@lru_cache(maxsize=128)
def _values_of(domain: Domain) -> Values:
    values = values_of_kind("calls", domain=domain, distinct=domain.dtype != "bool")
    check_room("calls", values, 1)
    return values


def _check_parameters(op: type[Op] | Op, case: Case) -> None:
    """The parameters of a call are those that the op wants."""
    if isinstance(op, Op):
        unknown = case.kwargs.keys() - op.fields.keys()
        if unknown:
            raise InvalidArgument(
                f"calls: {case} of {op.name} names {', '.join(sorted(unknown))}, which an instance does not take; "
                "pass the class"
            )
    elif op.function is None:
        try:
            op(**case.kwargs)
        except MinigradError as error:
            raise InvalidArgument(
                f"calls: {op.__name__} cannot be made with {case.kwargs}: {error}; "
                f"declare cases that name its fields, or pass an instance, {op.__name__}(...)"
            ) from error


def _reductions(op: type[Op] | Op) -> st.SearchStrategy[Case]:
    """Shapes, and parameters where op has none yet, for an op of the Reduction family."""
    drawn = shapes()
    if isinstance(op, Reduction):
        return drawn.filter(partial(_has_axes, op.axis)).map(Case)
    choices = {ndim: axes(ndim) for ndim in range(4)}

    @st.composite
    def reductions(draw: st.DrawFn) -> Case:
        shape = draw(drawn)
        return Case(shape, axis=draw(choices[len(shape)]), keepdims=draw(FLAG))

    return reductions()


def _has_axes(axis: Any, shape: Shape) -> bool:
    try:
        normalize_axis_tuple(() if axis is None else axis, len(shape))
    except ValueError:
        return False
    return True


@st.composite
def _calls(draw: st.DrawFn, op: type[Op] | Op, cases: st.SearchStrategy[Case]) -> Call:
    case = draw(cases)
    cls = op if inspect.isclass(op) else type(op)
    values = _domains(cls, len(case.shapes))
    return Call(op, draw_distinct(draw, case.shapes, values), {} if isinstance(op, Op) else dict(case.kwargs))
