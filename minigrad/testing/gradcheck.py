"""gradcheck: the rule of a function of Tensors, or of anyone's function of arrays, against differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.autograd import enable_grad, grad
from minigrad.errors import ArgumentError, DTypeError, InPlaceError, describe
from minigrad.tape import ancestors
from minigrad.tensor import Tensor, from_numpy, plain
from minigrad.testing.engine import examine
from minigrad.testing.frozen import Frozen
from minigrad.testing.problem import Options, Problem
from minigrad.testing.report import GradcheckReport, allowed_verdicts, finish

__all__ = ["ArrayProblem", "TensorProblem", "gradcheck", "referee", "report_of"]

Array = NDArray[Any]


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    vjp: Callable[..., Any] | None = None,
    order: int = 1,
    seed: int = 0,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    nondet_tol: float = 0.0,
    fast_mode: bool | None = None,
    directions: int = 3,
    allow: str | Sequence[str] = (),
    raise_exception: bool = False,
) -> GradcheckReport:
    """Compares backward of f with numerical derivatives, and says what is wrong: the report is true if nothing is.

    f: from Tensors to a Tensor of any shape, or to several. With vjp=, from arrays to an array or several, of any
        framework: vjp(dout, *inputs) is then its rule, and returns a gradient for each input of floats, in a tuple
        if there are several; dout is a tuple where f returns one.
    inputs: an array or Tensor, or a sequence of them. Arrays of floats, and Tensors that require a gradient, are
        differentiated; anything else reaches f as it is. Nothing is written into them.
    order: 2 also checks the gradient of the gradient, and so on.
    seed: fixes the drawn cotangents and directions, and the random numbers that f draws: it draws the same each time.
    eps: the shortest step; by default steps from 1/8 down to 4e-6 and, where they do not settle it, others.
    rtol: how far backward may be off relative to the derivative; by default the square root of the inputs' machine
        epsilon: 1.5e-8 in float64, 3.5e-4 in float32. atol: what is allowed besides; 0 by default, since any
        fixed number lets small derivatives pass. The error bar of the difference is allowed on top, always.
    nondet_tol: how far two identical calls may be apart.
    fast_mode: True compares along drawn directions and single entries, False every entry of the Jacobian; by
        default every entry of inputs of up to 64 values. directions: how many.
    allow: verdicts that do not make the report false: "inconclusive", "vacuous", "domain", ...
    raise_exception: raise GradientError instead of returning a report that is false.
    The numerical side is always computed in float64; the rule runs in the dtypes of the inputs.
    Raises ArgumentError where nothing can be differentiated, DTypeError for an f that returns no Tensor,
    ShapeError for one whose results change their shape; an exception inside f goes through.

    >>> from minigrad import exp
    >>> gradcheck(lambda x, y: x * exp(y), [np.array([1.0, 2.0]), np.array([[0.5]])])
    gradcheck: ok (6 comparisons)
    >>> gradcheck(lambda x: x * x.detach(), np.array([1.0]))
    gradcheck: wrong (1 comparison)
      verdict  where         analytic  numeric
      wrong    inputs[0][0]  1         2
    wrong: it is 0.5 times what it should be
    >>> bool(gradcheck(np.sin, np.array([1.0, 2.0]), vjp=lambda dout, x: dout * np.cos(x)))
    True
    """
    options = Options(seed, eps, atol, rtol, nondet_tol, fast_mode, directions, allowed_verdicts("gradcheck", allow))
    options.check("gradcheck")
    if not isinstance(order, (int, np.integer)) or isinstance(order, bool) or order < 1:
        raise ArgumentError("gradcheck: order", describe(order), "1 or more", "pass order=2, for example")
    single = isinstance(inputs, (Tensor, np.ndarray, np.generic)) or not isinstance(inputs, Sequence)
    values = [inputs] if single else list(inputs)
    if vjp is not None:
        if order > 1:
            raise ArgumentError(
                "gradcheck: order",
                f"order={order} with vjp=",
                "order=1: the rule of a rule is not known",
                "check the vjp itself: gradcheck(lambda x: vjp(dout, x), x, vjp=...)",
            )
        return finish(report_of(ArrayProblem(f, vjp, values), options), raise_exception)
    problem = TensorProblem(f, values)
    report = report_of(problem, options)
    for n in range(2, order + 1):
        if not report:
            break
        problem = _derived(problem, seed)
        # A linear f has the second derivative 0, and that is worth no word.
        report = _joined(report, report_of(problem, replace(options, vacuous=False)), n)
    return finish(report, raise_exception)


def report_of(problem: Problem, options: Options) -> GradcheckReport:
    """The report on a problem."""
    findings, calls = examine(problem, options)
    return GradcheckReport(tuple(findings), problem.title, options.allow, calls)


class ArrayProblem(Problem):
    """A function of arrays and its rule, two plain callables."""

    what = "f"
    redraws = False  # whether the rule makes a forward of its own, which is to draw what f has drawn

    def __init__(self, f: Callable[..., Any], vjp: Callable[..., Any], values: list[Any], title: str = "gradcheck"):
        _check_callable(title, "f", f)
        _check_callable(title, "vjp", vjp)
        self.title, self.f, self.vjp, self.values = title, f, vjp, values
        self.checked = _checked(title, values)
        self.inputs = [np.array(plain(values[i])) for i in self.checked]
        self.names = [f"inputs[{i}]" for i in self.checked]
        self.roots = [f, vjp, *(value for i, value in enumerate(values) if i not in self.checked)]

    def arguments(self, arrays: list[Array]) -> list[Any]:
        """All arguments of f, arrays in the places of those that are differentiated."""
        arguments = list(self.values)
        for i, array in zip(self.checked, arrays, strict=True):
            arguments[i] = array
        return arguments

    def forward(self, arrays: list[Array]) -> list[Array]:
        return self.results(self.f(*self.arguments(arrays)))[0]

    def pull(self, arrays: list[Array], douts: list[Array]) -> tuple[list[Array], list[Array]]:
        before = Frozen(self.roots) if self.redraws else None
        outs, several = self.results(self.f(*self.arguments(arrays)))
        douts[:] = [dout.astype(out.dtype) for dout, out in zip(douts, outs, strict=True)]
        if before is not None:
            before.reset()
        grads = self.vjp(tuple(douts) if several else douts[0], *self.arguments(arrays))
        return outs, self.gradients(grads)

    def imaginary(self, arrays: list[Array]) -> list[Array] | None:
        return [np.asarray(out) for out in _several(self.f(*self.arguments(arrays)))[0]]

    def exact(self, arrays: list[Array], directions: list[Array]) -> Array | None:
        return referee(self.f, self.values, self.checked, arrays, directions, tensors=False)

    def results(self, result: Any) -> tuple[list[Array], bool]:
        """(what f returned, as arrays; whether it returned several)."""
        values, several = _several(result)
        outs = []
        for value in values:
            try:
                out = np.asarray(plain(value))
            except (TypeError, ValueError, RuntimeError):
                out = np.empty((), object)
            if out.dtype.kind not in "fiub":
                raise DTypeError(
                    f"{self.title}: {self.what}",
                    f"{self.what} returned {describe(value)}",
                    "an array of real numbers, or a tuple of arrays",
                    f"end {self.what} with return",
                )
            outs.append(out)
        return outs, several

    def gradients(self, grads: Any) -> list[Array]:
        """What the rule returned, one array an input, 0 for None."""
        parts = list(grads) if isinstance(grads, (tuple, list)) else [grads]
        if len(parts) == len(self.values) != len(self.checked):
            parts = [parts[i] for i in self.checked]
        if len(parts) != len(self.checked):
            raise ArgumentError(
                f"{self.title}: vjp",
                f"vjp returned {len(parts)} gradient{'s' if len(parts) != 1 else ''}",
                f"{len(self.checked)}, one for each input of floats",
                "return a tuple with one gradient for each of them",
            )
        found = []
        for part, x in zip(parts, self.inputs, strict=True):
            array = np.zeros(x.shape, x.dtype) if part is None else np.asarray(plain(part))
            if array.dtype.kind not in "fiub":
                raise DTypeError(
                    f"{self.title}: vjp", f"vjp returned {describe(part)}", "arrays", "return the gradient as an array"
                )
            found.append(array)
        return found


class TensorProblem(Problem):
    """A function of Tensors, and backward as its rule."""

    pulls = 0

    def __init__(self, f: Callable[..., Any], values: list[Any], title: str = "gradcheck"):
        _check_callable(title, "f", f)
        self.title, self.f, self.values = title, f, values
        self.checked = _checked(title, values)
        self.inputs = [np.array(plain(values[i])) for i in self.checked]
        self.names = [f"inputs[{i}]" for i in self.checked]
        self.roots = [f, *(value for i, value in enumerate(values) if i not in self.checked)]

    def run(self, arrays: list[Array]) -> tuple[list[Tensor], list[Tensor]]:
        """(the leaves, which look at the arrays' own memory; the results) of f."""
        arguments, leaves = list(self.values), []
        for i, array in zip(self.checked, arrays, strict=True):
            arguments[i] = leaf = from_numpy(array)
            leaf.requires_grad = True
            leaves.append(leaf)
        with enable_grad():
            return leaves, self.results(self.f(*arguments))

    def forward(self, arrays: list[Array]) -> list[Array]:
        return [out.data for out in self.run(arrays)[1]]

    def pull(self, arrays: list[Array], douts: list[Array]) -> tuple[list[Array], list[Array]]:
        leaves, outs = self.run(arrays)
        douts[:] = [dout.astype(out.dtype) for dout, out in zip(douts, outs, strict=True)]
        pairs = [(out, dout) for out, dout in zip(outs, douts, strict=True) if out.requires_grad]
        dxs: tuple[Any, ...] = (None,) * len(leaves)
        if pairs:
            # Three pulls show whether the rule does; copies of every saved array cost as much as the rule.
            self.pulls += 1
            saved = _saved([out for out, _ in pairs]) if self.pulls <= 3 else []
            before = [value.copy() for value in saved]
            dxs = grad([out for out, _ in pairs], leaves, [dout for _, dout in pairs], allow_unused=True)
            if any(value.tobytes() != old.tobytes() for value, old in zip(saved, before, strict=True)):
                raise InPlaceError(
                    "backward",
                    "a write into an array that forward saved",
                    "saved arrays left as they are, since others need them too",
                    "write into a copy of it",
                )
        zeros = [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
        return [out.data for out in outs], [z if dx is None else dx.data for z, dx in zip(zeros, dxs, strict=True)]

    def exact(self, arrays: list[Array], directions: list[Array]) -> Array | None:
        return referee(self.f, self.values, self.checked, arrays, directions, tensors=True)

    def results(self, result: Any) -> list[Tensor]:
        outs, _ = _several(result)
        for out in outs:
            if not isinstance(out, Tensor):
                raise DTypeError(
                    f"{self.title}: f",
                    f"f returned {describe(out)}",
                    "a Tensor, or several",
                    "return a Tensor, or pass vjp= for a function of arrays",
                )
            if out.dtype.kind != "f":
                raise DTypeError(f"{self.title}: f", f"f returned {describe(out)}", "floats", "return floats from f")
        return outs


class _Derived(TensorProblem):
    """The gradient of a problem as a function of its inputs and of dout: what order=2 checks."""

    def __init__(self, of: TensorProblem, douts: list[Array]):
        super().__init__(of.f, [*of.values, *douts], of.title)
        n = len(of.values)
        self.of = of
        self.names = [f"inputs[{i}]" if i < n else f"dout[{i - n}]" for i in self.checked]

    def forward(self, arrays: list[Array]) -> list[Array]:
        """The gradient as it comes without a graph: what the order before has found right."""
        n = len(self.of.checked)
        return self.of.pull(arrays[:n], list(arrays[n:]))[1]

    def exact(self, arrays: list[Array], directions: list[Array]) -> Array | None:
        return None

    def run(self, arrays: list[Array]) -> tuple[list[Tensor], list[Tensor]]:
        n = len(self.of.checked)
        leaves, outs = self.of.run(arrays[:n])
        douts = []
        for array in arrays[n:]:
            douts.append(from_numpy(array))
            douts[-1].requires_grad = True
        pairs = [(out, dout) for out, dout in zip(outs, douts, strict=True) if out.requires_grad]
        dxs: tuple[Any, ...] = (None,) * len(leaves)
        if pairs:
            dxs = grad(
                [out for out, _ in pairs], leaves, [dout for _, dout in pairs], create_graph=True, allow_unused=True
            )
        found = [
            from_numpy(np.zeros(leaf.shape, leaf.dtype)) if dx is None else dx
            for leaf, dx in zip(leaves, dxs, strict=True)
        ]
        return [*leaves, *douts], found


def _derived(problem: TensorProblem, seed: int) -> _Derived:
    rng = np.random.default_rng(seed)
    with Frozen(problem.roots, seed):
        _, outs = problem.run([x.copy() for x in problem.inputs])
    return _Derived(problem, [rng.uniform(0.5, 1.5, out.shape).astype(out.dtype) for out in outs])


def referee(
    f: Callable[..., Any],
    values: list[Any],
    checked: list[int],
    arrays: list[Array],
    directions: list[Array],
    *,
    tensors: bool,
) -> Array | None:
    """The derivative of f along directions at high precision, in one row; None where nobody can tell."""
    from minigrad.testing import precise

    arguments: list[Any] = [Tensor(v) if tensors and isinstance(v, float) else v for v in values]
    moves: list[Any] = [None] * len(values)
    for i, array, d in zip(checked, arrays, directions, strict=True):
        arguments[i], moves[i] = array, d if np.any(d) else None
    try:
        twin = precise.exact_twin(f, arguments, tensors=tensors)
        if twin is None:
            return None
        found, _ = precise.along(twin, arguments, moves, tensors=tensors)
    except (precise.Unsupported, ImportError):
        return None
    return np.concatenate([np.ravel(part) for part in found])


def _checked(title: str, values: list[Any]) -> list[int]:
    """Which of f's arguments are differentiated."""
    checked = [i for i, value in enumerate(values) if _is_checked(value)]
    if not checked:
        raise ArgumentError(
            f"{title}: inputs",
            ", ".join(map(describe, values)) or "no input",
            "a float array, or a Tensor with requires_grad=True, among them",
            "pass np.array(x, dtype=float)",
        )
    return checked


def _is_checked(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, float) or (isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f")


def _check_callable(title: str, name: str, f: Any) -> None:
    if not callable(f):
        raise DTypeError(
            f"{title}: {name}", f"{name} is {describe(f)}", "a function", f"pass the function {name} itself"
        )


def _several(result: Any) -> tuple[list[Any], bool]:
    several = isinstance(result, (tuple, list))
    return (list(result), True) if several else ([result], False)


def _saved(outs: list[Tensor]) -> list[Array]:
    """The arrays that the graph of outs keeps for its rules."""
    found: list[Array] = []
    for node in ancestors([out._node for out in outs if out._node is not None]):
        for value in node.saved or ():
            if isinstance(value, np.ndarray):
                found.append(value)
    return found


def _joined(first: GradcheckReport, second: GradcheckReport, order: int) -> GradcheckReport:
    findings = [replace(f, where=f"order {order}: {f.where}") for f in second.findings]
    return GradcheckReport((*first.findings, *findings), first.title, first.allow, first.calls + second.calls)
