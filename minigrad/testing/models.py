"""check_model: the gradient of every parameter of a model, a row for each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.autograd import enable_grad
from minigrad.errors import ArgumentError, DTypeError, GradientError, InPlaceError, describe
from minigrad.tensor import Tensor, from_numpy
from minigrad.testing.bench import NEAR
from minigrad.testing.frozen import Frozen
from minigrad.testing.gradcheck import ArrayProblem, TensorProblem, report_of
from minigrad.testing.problem import Options, Problem
from minigrad.testing.report import Finding, GradcheckReport, allowed_verdicts, finish

__all__ = ["ModelReport", "ParameterRow", "check_model"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ParameterRow:
    """What was found about one parameter: the worst verdict, the largest relative difference, where, and kinks.

    >>> ParameterRow("W1", (3, 2), 0.5, "ok", 1e-9, "direction 0", 0, 11).verdict
    'ok'
    """

    name: str
    shape: tuple[int, ...]
    size: float
    verdict: str
    difference: float
    worst: str
    kinks: int
    checks: int


@dataclass(frozen=True, repr=False)
class ModelReport(GradcheckReport):
    """The report of check_model: printed, a row for each parameter, then what is wrong.

    >>> row = ParameterRow("W1", (3, 2), 0.5, "ok", 1e-9, "direction 0", 0, 11)
    >>> print(ModelReport((Finding("ok", "W1", 2.0, 2.0, 1e-12, 1e-8),), rows=(row,)))
    gradcheck: ok (1 comparison)
      parameter  shape   mean |gradient|  verdict  difference  worst        kinks
      W1         (3, 2)  5.0e-01          ok       1.0e-09     direction 0  0
    """

    rows: tuple[ParameterRow, ...] = field(default=())

    def __str__(self) -> str:
        head, *rest = super().__str__().split("\n")
        cells = [("parameter", "shape", "mean |gradient|", "verdict", "difference", "worst", "kinks")]
        for r in self.rows:
            difference = "" if np.isnan(r.difference) else f"{r.difference:.1e}"
            cells.append((r.name, str(r.shape), f"{r.size:.1e}", r.verdict, difference, r.worst, str(r.kinks)))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([head, *table, *(rest if not self else [])])

    __repr__ = __str__


def check_model(
    model: Any,
    loss: Callable[..., Any] | None,
    *batch: Any,
    seed: int = 0,
    directions: int = 3,
    rtol: float | None = None,
    atol: float | None = None,
    allow: str | Sequence[str] = (),
    raise_exception: bool = False,
) -> ModelReport:
    """Compares backward with numerical derivatives for every parameter of a model: the book's table, done right.

    model: a callable with `named_parameters()`, whose loss is then loss(model(*batch[:-1]), batch[-1]), or
        loss(model(x)) for a batch of x alone; or an object with `named_parameters()` that is none, or a list or dict
        of Tensors that require gradients, with loss(model, *batch); or, with loss=None, a net like the book's, plain
        NumPy, with a dict `params` of arrays, `loss(*batch)` and `gradient(*batch)`; a loss that has `train_flg`, as
        those of chapter 6, is called with it.
    batch: the samples and labels of a mini-batch.
    seed, directions, rtol, atol, allow, raise_exception: as for gradcheck.
    Each parameter is moved along drawn directions and in a few single entries, with a dozen evaluations of the
    loss for each; a kink, as of relu, within a step is recognised, left out and counted. A direction that is wrong
    is halved until the worst entry is found. The parameters and their gradients stay as they are.
    Raises ArgumentError for a model without parameters, DTypeError for a loss that is no number.
    Source: Deep Learning from Scratch, section 5.7.3.

    >>> from minigrad import softmax_cross_entropy
    >>> rng = np.random.default_rng(0)
    >>> W, b = Tensor(rng.normal(size=(4, 3)), requires_grad=True), Tensor(np.zeros(3), requires_grad=True)
    >>> params = {"W": W, "b": b}
    >>> def loss(params, x, t):
    ...     return softmax_cross_entropy(x @ params["W"] + params["b"], t)
    >>> report = check_model(params, loss, rng.normal(size=(5, 4)), [0, 1, 2, 0, 1])
    >>> bool(report), [row.name for row in report.rows]
    (True, ['W', 'b'])
    """
    options = Options(
        seed, None, atol, rtol, fast_mode=True, directions=directions, allow=allowed_verdicts("check_model", allow)
    )
    options.check("check_model")
    problem: Problem = _net_problem(model, batch) if loss is None else _ModelProblem(model, loss, batch)
    report = report_of(problem, options)
    try:
        with Frozen(problem.roots, seed):
            gradients = problem.pull([x.copy() for x in problem.inputs], [np.ones(())])[1]
    except (GradientError, InPlaceError):
        gradients = [np.full(x.shape, np.nan) for x in problem.inputs]  # the report says why
    rows = [
        _row(name, x, dx, report.findings) for name, x, dx in zip(problem.names, problem.inputs, gradients, strict=True)
    ]
    found = ModelReport(report.findings, problem.title, report.allow, report.calls, tuple(rows))
    return finish(found, raise_exception)


class _ModelProblem(TensorProblem):
    """The loss of a model of Tensors, as a function of its parameters."""

    def __init__(self, model: Any, loss: Callable[..., Any], batch: Sequence[Any]):
        self.title = "check_model"
        if not callable(loss):
            raise DTypeError("check_model: loss", describe(loss), "a function", "pass the loss function itself")
        named = _parameters(model)
        self.params = list(named.values())
        self.names = list(named)
        self.inputs = [p.numpy().copy() for p in self.params]
        self.checked = list(range(len(self.params)))
        self.values = list(self.params)
        self.roots = [model, loss]
        if not callable(model):
            self.f = lambda: loss(model, *batch)
        elif len(batch) == 1:
            self.f = lambda: loss(model(*batch))
        else:
            self.f = lambda: loss(model(*batch[:-1]), *batch[-1:])

    def run(self, arrays: list[Array]) -> tuple[list[Tensor], list[Tensor]]:
        leaves = []
        for array in arrays:
            leaf = from_numpy(array)
            leaf.requires_grad = True
            leaves.append(leaf)
        with _in_place_of(self.params, leaves), enable_grad():
            out = self.f()
        if not isinstance(out, Tensor) or out.size != 1 or out.dtype.kind != "f":
            raise DTypeError(
                "check_model: loss",
                f"loss returned {describe(out)}",
                "a Tensor of one number",
                "return the mean over the batch, as minigrad computes it",
            )
        return leaves, [out]

    def exact(self, arrays: list[Array], directions: list[Array]) -> None:
        """None: the loss looks at the model, whose parameters are Tensors of floats."""


@contextmanager
def _in_place_of(params: list[Tensor], leaves: list[Tensor]) -> Iterator[None]:
    """Within, each parameter is the leaf: its values, its place in the graph. Afterwards it is itself again."""
    before = [(p._data, p._node, p._version) for p in params]
    try:
        for p, leaf in zip(params, leaves, strict=True):
            p._data, p._node, p._version = leaf._data, leaf._node, leaf._version
        yield
    finally:
        for p, (data, node, version) in zip(params, before, strict=True):
            p._data, p._node, p._version = data, node, version


def _parameters(model: Any) -> dict[str, Tensor]:
    if isinstance(model, Mapping):
        found = {str(key): value for key, value in model.items()}
    elif isinstance(model, (list, tuple)):
        found = {str(getattr(p, "name", None) or f"params[{i}]"): p for i, p in enumerate(model)}
    elif hasattr(model, "named_parameters"):
        found = dict(model.named_parameters())
    else:
        found = {}
    # A tensor with two names, such as tied weights, is one parameter.
    first = {id(p): key for key, p in reversed(found.items())}
    found = {key: p for key, p in found.items() if isinstance(p, Tensor) and p.requires_grad and first[id(p)] == key}
    if not found:
        raise ArgumentError(
            "check_model: model",
            f"{describe(model)} without a Tensor that requires a gradient",
            "a model with named_parameters(), or a list or dict of Tensors with requires_grad=True",
            "make its parameters with Tensor(..., requires_grad=True)",
        )
    return found


class _NetProblem(ArrayProblem):
    """The loss of a net of plain NumPy, as a function of its parameters."""

    what = "loss"
    redraws = True

    def imaginary(self, arrays: list[Array]) -> None:
        """None: the parameters are written where they lie, and complex numbers have no place there."""

    def exact(self, arrays: list[Array], directions: list[Array]) -> None:
        """None, for the same reason."""


def _net_problem(net: Any, batch: Sequence[Any]) -> ArrayProblem:
    """A net of plain NumPy: params, loss and gradient, as in the book's chapters 4 to 7."""
    params = getattr(net, "params", None)
    methods = (getattr(net, "loss", None), getattr(net, "gradient", None))
    if not isinstance(params, Mapping) or not all(map(callable, methods)):
        raise ArgumentError(
            "check_model: model",
            f"{describe(net)} and loss=None",
            "a net with params (a dict of arrays), loss(x, t) and gradient(x, t)",
            "pass a loss: check_model(model, loss, x, t)",
        )
    # The book's nets evaluate without train_flg, and take the gradient of the loss in training.
    loss_of = partial(net.loss, *batch, **({"train_flg": True} if "train_flg" in _arguments(net.loss) else {}))
    entries: Any = params  # to be written into where that is possible
    keys = [key for key, value in params.items() if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    own = [params[key] for key in keys]
    narrowest = min((p.dtype for p in own), key=lambda dtype: dtype.itemsize, default=np.dtype(float))

    @contextmanager
    def at(arrays: Sequence[Array], wide: bool = False) -> Iterator[None]:
        before = [p.copy() for p in own]
        try:
            # In place, since layers hold on to the same arrays; wide: where params is read, in float64 too.
            for p, array in zip(own, arrays, strict=True):
                p[...] = array
            if wide:
                entries.update(zip(keys, arrays, strict=True))
            yield
        finally:
            for key, p, values in zip(keys, own, before, strict=True):
                p[...] = values
                if params[key] is not p:
                    entries[key] = p

    def is_wide() -> bool:
        """Whether parameters of fewer digits can be replaced by float64: then the loss sees a change of 1e-12."""
        if narrowest == np.float64 or not isinstance(params, MutableMapping):
            return False
        losses = []
        with Frozen([net], 0) as frozen, np.errstate(all="ignore"):
            for factor in (1, 1 + 1e-12):
                frozen.reset()
                with at([p.astype(np.float64) * factor for p in own], wide=True):
                    losses.append(float(loss_of()))
        return losses[0] != losses[1]

    def f(*arrays: Array) -> Any:
        with at(arrays, wide):
            loss = loss_of()
        # Parameters in float32 round every step; a loss in their dtype says so.
        return loss if wide or np.asarray(loss).dtype.kind not in "fiub" else np.asarray(loss, narrowest)

    def vjp(dout: Array, *arrays: Array) -> tuple[Any, ...]:
        with at(arrays):
            gradients = net.gradient(*batch)
            for key, p, array in zip(keys, own, arrays, strict=True):
                if params[key] is not p or not np.array_equal(p, array, equal_nan=True):
                    raise InPlaceError(
                        "gradient",
                        f"a write into params[{key!r}]",
                        "parameters left as they are",
                        "leave the step to the optimiser",
                    )
        missing = [key for key in keys if not isinstance(gradients, Mapping) or key not in gradients]
        if missing:
            got = f"the keys {list(gradients)}" if isinstance(gradients, Mapping) else describe(gradients)
            raise ArgumentError(
                "check_model: model",
                f"gradient returned {got}, without {missing[0]!r}",
                "a dict with a gradient for each entry of params",
                f"return grads with grads[{missing[0]!r}] in it",
            )
        found = [np.asarray(gradients[key]) for key in keys]
        return tuple(dout.astype(dW.dtype) * dW if dW.dtype.kind == "f" else dout * dW for dW in found)

    wide = is_wide()
    problem = _NetProblem(f, vjp, own, "check_model")
    problem.names = [str(key) for key in keys]
    problem.roots = [net]
    return problem


def _arguments(f: Callable[..., Any]) -> Collection[str]:
    try:
        return inspect.signature(f).parameters.keys()
    except (TypeError, ValueError):  # it is written in C, or hides them
        return ()


def _row(name: str, x: Array, dx: Array, findings: Sequence[Finding]) -> ParameterRow:
    own = [(f, f.where.removeprefix("backward of ")) for f in findings]
    mine = [f for f, where in own if where == name or where.startswith((f"{name}[", f"{name} "))]
    report = GradcheckReport(tuple(mine))
    compared = [f for f in mine if f.verdict in ("ok", "wrong") and not np.isnan(f.analytic)]

    def apart(f: Finding) -> float:
        most = max(abs(f.analytic), abs(f.numeric))
        return abs(f.analytic - f.numeric) / most if most else 0.0

    worst = max(compared, key=apart, default=None)
    return ParameterRow(
        name,
        x.shape,
        float(np.mean(abs(dx))) if dx.size else 0.0,
        report.verdict,
        apart(worst) if worst else float("nan"),
        worst.where.removeprefix(name).strip().removeprefix("in ") if worst else "",
        sum(f.verdict == "kink" or f.reason == NEAR for f in mine),
        len(mine),
    )
