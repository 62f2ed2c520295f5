"""Checks of plain NumPy code: a layer with forward and backward, and a function with its gradient."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.contract import numbers
from minigrad.errors import ArgumentError, DTypeError, ShapeError, describe
from minigrad.tensor import Tensor, plain
from minigrad.testing.engine import examine
from minigrad.testing.frozen import Frozen
from minigrad.testing.gradcheck import ArrayProblem, referee, report_of
from minigrad.testing.problem import Options
from minigrad.testing.report import Finding, GradcheckReport, allowed_verdicts, finish

__all__ = ["check_gradient", "check_layer"]

Array = NDArray[Any]

PARAMS = {"W": "dW", "b": "db"}
_MOST_OBJECTS = 2000


def check_layer(
    layer: Any,
    *inputs: Any,
    forward: str = "forward",
    backward: str = "backward",
    params: Mapping[str, str] = PARAMS,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    fast_mode: bool | None = None,
    allow: str | Sequence[str] = (),
    raise_exception: bool = False,
) -> GradcheckReport:
    """Compares backward of a layer of plain NumPy code with numerical derivatives of its forward.

    layer: an object with the methods named by `forward` and `backward`, such as every layer in the book; or a class
        or function that makes one without arguments. No Tensor is needed.
    inputs: the arguments of forward. Those of floats are differentiated; where backward returns fewer gradients
        than there are, the first ones: a one-hot label may stand last.
    params: attributes of the layer that are parameters, and the attributes in which backward leaves their gradients.
        Those that the layer does not have are passed over, unless `params` is given.
    seed, rtol, atol, fast_mode, allow, raise_exception: as for gradcheck.
    The report names the mistake where it knows it: a missing division by N, a transposed gradient, dout ignored or
    written into, dW never set, state shared between calls or between objects. The layer is left as it was.
    Raises ArgumentError for an object without these methods, or without a float input or parameter.
    Source of the layers: Deep Learning from Scratch, chapter 5.

    >>> class Sigmoid:
    ...     def forward(self, x):
    ...         self.out = 1 / (1 + np.exp(-x))
    ...         return self.out
    ...     def backward(self, dout):
    ...         return dout * (1.0 - self.out) * self.out
    >>> check_layer(Sigmoid, np.array([-1.0, 0.5, 2.0]))
    Sigmoid: ok (9 comparisons)
    >>> Sigmoid.backward = lambda self, dout: (1.0 - self.out) * self.out
    >>> check_layer(Sigmoid, np.array([-1.0, 0.5, 2.0])).verdict
    'wrong'
    """
    make: Callable[[], Any] | None = None
    if isinstance(layer, type) or (callable(layer) and not hasattr(layer, forward)):
        make = layer
        try:
            layer = make()
        except TypeError as error:
            raise ArgumentError(
                "check_layer: layer",
                f"{getattr(layer, '__name__', layer)}, which could not be made without arguments ({error})",
                "a layer, or a class or function that makes one without arguments",
                "pass the object, for example check_layer(Affine(W, b), x)",
            ) from error
    name = type(layer).__name__
    for method in (forward, backward):
        if not callable(getattr(layer, method, None)):
            raise ArgumentError(
                "check_layer: layer",
                f"{name} without a method {method}",
                "a layer with forward and backward",
                'pass the names of its methods, forward="..." and backward="..."',
            )
    allowed = allowed_verdicts("check_layer", allow)
    # check_layer looks elsewhere by itself, where it can tell a wrong rule from state that is left over.
    options = Options(seed, None, atol, rtol, fast_mode=fast_mode, allow=allowed, elsewhere=False)
    options.check("check_layer")
    kept = _Kept(layer)
    with _left_as_it_was(kept), Frozen([layer], seed) as frozen:
        problem = _LayerProblem(layer, list(inputs), getattr(layer, forward), getattr(layer, backward), params)
        problem.as_before = kept.put_back
        problem.count_gradients()
        frozen.reset()
        # Without a gradient there is nothing to compare, and that is what is wrong.
        report = report_of(problem, options) if problem.inputs else GradcheckReport((), name, options.allow)
        findings = problem.named(report.findings)
        if not any(f.verdict == "wrong" for f in findings):
            findings += problem.elsewhere(options)
        if not any(f.verdict == "wrong" for f in findings):
            findings += problem.shared(make)
            findings += problem.growing()
    return finish(GradcheckReport(tuple(findings), name, report.allow, report.calls), raise_exception)


def check_gradient(
    f: Callable[..., Any],
    grad: Callable[..., Any],
    x: ArrayLike,
    *args: Any,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    fast_mode: bool | None = None,
    allow: str | Sequence[str] = (),
    raise_exception: bool = False,
) -> GradcheckReport:
    """Compares grad(x, *args) with numerical derivatives of f(x, *args): two plain functions, as SciPy takes them.

    f: from an array to a number, or to an array. grad: from x to the gradient, of x's shape; for an f that returns
        an array, to the Jacobian, of shape f(x).shape + x.shape.
    x: floats, or integers, which are converted. args: what else both take, as it is.
    seed, rtol, atol, fast_mode, allow, raise_exception: as for gradcheck.
    Raises DTypeError where x, f(x) or grad(x) are no real numbers, ShapeError for a gradient that is no Jacobian.

    >>> check_gradient(lambda x: np.sum(x**3), lambda x: 3 * x**2, [1.0, 2.0])
    check_gradient: ok (2 comparisons)
    >>> check_gradient(lambda x: np.sum(x**3), lambda x: 3 * x, [1.0, 2.0]).wrong[0].where
    'inputs[0][1]'
    """
    name = "check_gradient"
    options = Options(seed, None, atol, rtol, fast_mode=fast_mode, allow=allowed_verdicts(name, allow))
    options.check(name)
    for what, function in (("f", f), ("grad", grad)):
        if not callable(function):
            raise DTypeError(
                f"{name}: {what}",
                f"{what} is {describe(function)}",
                "a function",
                f"pass the function {what} itself",
            )
    array = numbers(f"{name}: x", plain(x), None, copy=True)
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    kept: dict[str, tuple[int, ...]] = {}

    def value(x: Array) -> Any:
        out = f(x, *args)
        kept["shape"] = np.shape(out)
        return out

    def vjp(dout: Array, x: Array) -> Array:
        slope = np.asarray(grad(x, *args))
        if slope.dtype.kind not in "fiub":
            raise DTypeError(f"{name}: grad", f"grad returned {describe(slope)}", "real numbers", "return the gradient")
        if kept["shape"] and slope.shape == kept["shape"] + x.shape:
            return np.tensordot(dout, slope, len(kept["shape"]))
        if np.size(dout) != 1:
            raise ShapeError(
                f"{name}: grad",
                f"grad returned {describe(slope)}, and f has {np.size(dout)} values",
                f"the Jacobian, of shape {kept['shape'] + x.shape}",
                "return df[i]/dx[j] at [i, j]",
            )
        return slope * dout if slope.shape == x.shape else slope

    problem = ArrayProblem(value, vjp, [array], name)
    problem.roots = [f, grad]
    return finish(report_of(problem, options), raise_exception)


class _LayerProblem(ArrayProblem):
    """A layer: its forward's float arguments and its parameters, against what backward returns and leaves."""

    what = "forward"
    as_before: Callable[[], None]  # takes the layer back to where it was before the check
    draws_back = False  # whether backward draws random numbers
    returns_nothing = False  # whether backward has no return

    def __init__(
        self,
        layer: Any,
        inputs: list[Any],
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        params: Mapping[str, str],
    ):
        self.title, self.layer = type(layer).__name__, layer
        self.call, self.back = forward, backward
        self.params = {}
        for p, dp in params.items():
            value = getattr(layer, p, None)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                self.params[p] = dp
            elif params is not PARAMS or value is not None:
                raise ArgumentError(
                    "check_layer: params",
                    f"the parameter {p!r}, which in this {self.title} is {describe(value)}",
                    "the name of an attribute that is an array of floats",
                    f"write layer.{p} = np.array(..., dtype=float), or leave it out of params",
                )
        self.values = [np.asarray(v) if isinstance(v, (list, float)) else v for v in map(plain, inputs)]
        self.checked = [
            i for i, v in enumerate(self.values) if isinstance(v, (np.ndarray, np.generic)) and v.dtype.kind == "f"
        ]
        if not self.checked and not self.params:
            raise ArgumentError(
                "check_layer: inputs",
                ", ".join(map(describe, inputs)) or "no input",
                "a float array among the inputs, or a parameter of floats",
                "pass np.array(x, dtype=float)",
            )
        self.roots = [layer]
        self.ever_set: set[str] = set()
        self.list_inputs()

    def list_inputs(self) -> None:
        self.inputs = [np.array(self.values[i]) for i in self.checked]
        self.inputs += [np.array(getattr(self.layer, p)) for p in self.params]
        self.names = [f"inputs[{i}]" for i in self.checked] + list(self.params)

    def count_gradients(self) -> None:
        """Takes the inputs that backward returns no gradient for out of the check: labels, a mask."""
        outs, several = self.results(self.call(*self.arguments([x.copy() for x in self.inputs])))
        with Frozen([self.layer]) as frozen:
            try:
                grads = self.backward([np.ones_like(out, dtype=float) for out in outs], several)
            except Exception as error:
                shapes = ", ".join(str(out.shape) for out in outs)
                error.add_note(f"in backward of {self.title}, called with dout of shape {shapes} after forward")
                raise
            self.draws_back = frozen.used()
        parts = list(grads) if isinstance(grads, (tuple, list)) else [grads]
        self.returns_nothing = bool(self.checked) and all(part is None for part in parts)
        self.positions = list(range(len(parts)))
        if len(parts) == len(self.values):  # one for each argument, None or whatever for the others
            self.positions = [i for i in self.checked if parts[i] is not None]
        elif len(parts) > len(self.checked):
            raise ArgumentError(
                f"{self.title}.backward",
                f"{len(parts)} gradients for {len(self.checked)} inputs of floats",
                "one for each input of floats",
                "return as many gradients as forward has arguments",
            )
        self.checked = self.checked[: len(parts)] if len(parts) != len(self.values) else self.positions
        if all(part is None for part in parts):
            self.checked = self.positions = []
        self.list_inputs()

    def arguments(self, arrays: list[Array]) -> list[Any]:
        n = len(self.checked)
        # Labels are copied too: what forward writes into them is not the caller's.
        arguments = [v.copy() if isinstance(v, np.ndarray) else v for v in self.values]
        for i, array in zip(self.checked, arrays[:n], strict=True):
            arguments[i] = array if array.ndim else array[()]
        for p, array in zip(self.params, arrays[n:], strict=True):
            setattr(self.layer, p, array)
        return arguments

    def forward(self, arrays: list[Array]) -> list[Array]:
        return self.results(self.call(*self.arguments(arrays)))[0]

    def backward(self, douts: Sequence[Array], several: bool) -> Any:
        """The layer's backward, with dout as it expects it: a number where forward gave one, several one by one."""
        given = [dout if dout.ndim else dout[()] for dout in douts]
        if not several:
            return self.back(given[0])
        try:
            wanted = len(inspect.signature(self.back).parameters)
        except (TypeError, ValueError):
            wanted = 1
        return self.back(*given) if wanted == len(given) > 1 else self.back(tuple(given))

    def pull(self, arrays: list[Array], douts: list[Array]) -> tuple[list[Array], list[Array]]:
        return self.pulled(arrays, douts)

    def pulled(
        self, arrays: list[Array], douts: list[Array], between: Callable[[], Any] = lambda: None
    ) -> tuple[list[Array], list[Array]]:
        outs, several = self.results(self.call(*self.arguments(arrays)))
        douts[:] = [dout.astype(out.dtype) for dout, out in zip(douts, outs, strict=True)]
        between()
        marks = {}
        for p, dp in self.params.items():
            # Zeros, so that a layer that adds to its gradients is right as well.
            marks[dp] = np.zeros_like(getattr(self.layer, p))
            if isinstance(getattr(self.layer, dp, None), np.ndarray):
                setattr(self.layer, dp, marks[dp])
        grads = self.backward(douts, several)
        parts = list(grads) if isinstance(grads, (tuple, list)) else [grads]
        found = [np.asarray(parts[k]) for k in self.positions]
        for dp in self.params.values():
            value = getattr(self.layer, dp, None)
            if value is None:
                value = marks[dp]
            if value is not marks[dp] or np.any(value):
                self.ever_set.add(dp)
            found.append(np.asarray(value))
        return outs, found

    def imaginary(self, arrays: list[Array]) -> list[Array] | None:
        result = self.call(*self.arguments(arrays))
        return [np.asarray(out) for out in (result if isinstance(result, (tuple, list)) else [result])]

    def exact(self, arrays: list[Array], directions: list[Array]) -> Array | None:
        def call(*values: Array) -> Any:
            return self.call(*self.arguments(list(values)))

        return referee(call, list(arrays), list(range(len(arrays))), arrays, directions, tensors=False)

    def named(self, findings: Sequence[Finding]) -> list[Finding]:
        """The findings, with those first that name a mistake of layers, and without those that only follow from one."""
        unset = {p: dp for p, dp in self.params.items() if dp not in self.ever_set}
        never = "backward never sets {0}: write self.{0} = ... in it"
        first = [Finding("wrong", p, reason=never.format(dp)) for p, dp in unset.items()]
        if self.returns_nothing:
            first.append(Finding("wrong", "backward", reason="backward returns nothing: end it with return dx"))
        if self.draws_back and any(f.verdict in ("wrong", "nondeterministic") for f in findings):
            reason = "backward draws random numbers: keep in self what forward drew, and use that"
            findings = [replace(f, reason=reason) if f.verdict == "wrong" else f for f in findings]
        # Without dout, or without dW, the entries differ too, and that goes without saying.
        ignored = {f.where.removeprefix("backward of ") for f in findings if f.reason.startswith("dout is ignored")}
        rest = [f for f in findings if f.verdict != "wrong" or _name(f) not in ignored | set(unset)]
        return [*first, *rest]

    def elsewhere(self, options: Options) -> Iterator[Finding]:
        """A finding if backward is right at the inputs, and wrong after another forward with others."""
        quick = replace(options, fast_mode=True, directions=1, vacuous=False)
        other = copy.copy(self)
        n = len(self.checked)
        rng = np.random.default_rng(options.seed)

        def drawn(x: Array) -> Array:
            size = float(np.max(abs(x), initial=0.0)) or 1.0
            return np.asarray(size * rng.uniform(-1, 1, x.shape)).astype(x.dtype)

        def jittered(x: Array) -> Array:
            size = np.where(x == 0, float(np.max(abs(x), initial=0.0)) or 1.0, abs(x.astype(float)))
            return np.asarray(x + size * rng.uniform(-0.25, 0.25, x.shape)).astype(x.dtype)

        # Others of both signs; or, for a layer that does not take those, the same ones in other places.
        params = [jittered(x) for x in self.inputs[n:]]
        draws = [[drawn(x) for x in self.inputs[:n]], [(0.75 * np.roll(x, 1)).astype(x.dtype) for x in self.inputs[:n]]]

        def wrong(*, afresh: bool) -> list[Finding]:
            for draw in draws:
                if afresh:
                    self.as_before()
                other.inputs = draw + params
                try:
                    findings = [f for f in examine(other, quick)[0] if f.verdict == "wrong"]
                except (ArithmeticError, ValueError, IndexError):
                    continue  # not inputs that the layer can take
                if findings:
                    return findings
            return []

        found = wrong(afresh=False)
        if not found:
            return
        if wrong(afresh=True):
            reason = f"right at the inputs given, wrong at others: {found[0].reason}"
        else:
            reason = "state is shared between calls: backward uses what an earlier forward left; set it in each forward"
        yield replace(found[0], where=f"{found[0].where} at other inputs", reason=reason)

    def growing(self) -> Iterator[Finding]:
        """A finding if backward adds to the gradients that it left before, instead of setting them."""
        rng = np.random.default_rng(0)
        with Frozen([self.layer], 0) as frozen, np.errstate(all="ignore"):
            left: list[dict[str, Array]] = []
            for _ in range(2):
                frozen.reset()
                outs, several = self.results(self.call(*self.arguments([x.copy() for x in self.inputs])))
                if not left:
                    douts = [rng.uniform(0.5, 1.5, out.shape).astype(out.dtype) for out in outs]
                self.backward([dout.copy() for dout in douts], several)
                left.append({p: np.array(getattr(self.layer, dp, 0.0)) for p, dp in self.params.items()})
        for p, dp in self.params.items():
            if not np.array_equal(left[0][p], left[1][p], equal_nan=True):
                reason = f"{dp} is added to what an earlier call left in it: write self.{dp} = ... in backward"
                yield Finding("nondeterministic", f"backward of {p}", reason=reason)

    def shared(self, make: Callable[[], Any] | None) -> Iterator[Finding]:
        """A finding if forward of a second object of the same class changes what backward of the first returns."""
        try:
            other = copy.deepcopy(self.layer) if make is None else make()
        except Exception:  # an object that cannot be copied has nothing to compare with
            return
        rng = np.random.default_rng(0)
        with Frozen([self.layer, other], 0) as frozen, np.errstate(all="ignore"):
            douts = [rng.uniform(0.5, 1.5, out.shape) for out in self.forward([x.copy() for x in self.inputs])]
            frozen.reset()
            alone = self.pulled([x.copy() for x in self.inputs], list(douts))[1]
            frozen.reset()
            arguments = [v.copy() if isinstance(v, np.ndarray) else v for v in self.values]
            for i, x in zip(self.checked, self.inputs, strict=False):
                moved = (0.75 * np.roll(-x, 1)).astype(x.dtype)
                arguments[i] = moved if moved.ndim else moved[()]

            def between() -> None:
                with suppress(Exception):  # perhaps not an input that forward can take
                    getattr(other, self.call.__name__)(*arguments)

            try:
                together = self.pulled([x.copy() for x in self.inputs], list(douts), between)[1]
            except Exception as error:  # whatever happens, it did not happen alone
                yield Finding("nondeterministic", "backward", reason=f"state is shared between objects: {error}")
                return
        for name, a, b in zip(self.names, alone, together, strict=True):
            if a.shape != b.shape or not np.array_equal(a, b, equal_nan=True):
                reason = "state is shared between objects: forward of another one changes it; keep it in self"
                yield Finding("nondeterministic", f"backward of {name}", reason=reason)


def _name(finding: Finding) -> str:
    """The input or parameter that a finding is about: inputs[0] of inputs[0][1, 2] -> f[0]."""
    head = finding.where.split(" ")[0]
    return "]".join(head.split("]")[:1]) + "]" if head.startswith("inputs[") else head.split("[")[0]


class _Kept:
    """What an object, its class and all that it holds look like, to be put back.

    Lists, dicts and attributes get the objects back that they had, and arrays their values.
    """

    def __init__(self, layer: Any) -> None:
        self.arrays: list[tuple[Array, Array]] = []
        self.lists: list[tuple[list[Any], list[Any]]] = []
        self.dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self.attributes: list[tuple[Any, str, Any]] = []
        self.unset: list[tuple[Any, str]] = []  # slots without a value
        queue: list[Any] = [layer]
        seen = {id(layer)}
        for thing in queue:  # grows while it is read
            for part in self.look_at(thing):
                if id(part) not in seen and len(queue) < _MOST_OBJECTS:
                    seen.add(id(part))
                    queue.append(part)
        for of in type(layer).__mro__:
            own = [] if of.__module__ == "builtins" else list(vars(of).items())
            data = [(k, v) for k, v in own if not k.startswith("__") and not hasattr(v, "__get__")]
            self.attributes += [(of, k, v) for k, v in data]
            self.arrays += [(v, v.copy()) for _, v in data if isinstance(v, np.ndarray)]

    def look_at(self, thing: Any) -> list[Any]:
        if isinstance(thing, np.ndarray):
            self.arrays.append((thing, thing.copy()))
            return []
        if isinstance(thing, dict):
            self.dicts.append((thing, dict(thing)))
            return list(thing.values())
        if isinstance(thing, list):
            self.lists.append((thing, list(thing)))
            return list(thing)
        if isinstance(thing, tuple):
            return list(thing)
        if isinstance(thing, (Tensor, ModuleType, FunctionType, MethodType, type)):
            return []
        every = [name for of in type(thing).__mro__ for name in _slots(of)]
        slots = [name for name in every if hasattr(thing, name)]
        self.unset += [(thing, name) for name in every if name not in slots]
        self.attributes += [(thing, name, getattr(thing, name)) for name in slots]
        own = getattr(thing, "__dict__", None)
        return [getattr(thing, name) for name in slots] + ([own] if isinstance(own, dict) else [])

    def put_back(self) -> None:
        for own, before in self.dicts:
            own.clear()
            own.update(before)
        for own_list, items in self.lists:
            own_list[:] = items
        for thing, name, value in self.attributes:
            if getattr(thing, name, None) is not value:
                setattr(thing, name, value)
        for thing, name in self.unset:
            if hasattr(thing, name):
                delattr(thing, name)
        for array, values in self.arrays:
            if array.tobytes() != values.tobytes():
                array[...] = values


def _slots(of: type) -> list[str]:
    slots = vars(of).get("__slots__", ())
    return [slots] if isinstance(slots, str) else [name for name in slots if not name.startswith("__")]


@contextmanager
def _left_as_it_was(kept: _Kept) -> Iterator[None]:
    """Whatever happens, all is put back afterwards."""
    try:
        yield
    finally:
        kept.put_back()
