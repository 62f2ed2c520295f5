"""check_op: all that the package checks of its own ops, for one of yours."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minigrad.autograd import grad
from minigrad.errors import MinigradError, describe
from minigrad.op import Op
from minigrad.ops.reduce import Reduction
from minigrad.tensor import Tensor, from_numpy
from minigrad.testing.gradcheck import gradcheck
from minigrad.testing.mutations import op_class
from minigrad.testing.report import UNDECIDED, Finding, GradcheckReport, allowed_verdicts, finish

if TYPE_CHECKING:
    from minigrad.testing.calls import Call

__all__ = ["check_op", "expected"]

Array = NDArray[Any]

EPS = {"float16": 1e-3, "float32": 1.2e-7, "float64": 2.3e-16}


def check_op(
    op: Any,
    *inputs: Any,
    order: int = 2,
    examples: int = 20,
    seed: int = 0,
    allow: tuple[str, ...] = (),
    raise_exception: bool = False,
) -> GradcheckReport:
    """Checks an op as the package checks its own: value, gradients to second order, dtypes, layouts, memory.

    op: a class of ops, an op, or a public function. inputs: arrays for one call; without them calls are drawn from
        what the op declares: cases, elementwise, signature, domain.
    order: of the derivatives. examples: how many calls are drawn, the same in every run. seed: of cotangents.
    Checked are: the value, where the op declares a reference or stands for a NumPy function; backward against
    numerical derivatives, and its own derivative; what it keeps against the method that it stands for; that a rule
    which is declared to move entries does no more; that float16, float32 and float64 stay what they are, forward and
    backward, in every memory layout; that inputs and dout stay untouched; that gradients have the shapes of their
    inputs and memory of their own.
    The report shows the smallest call for which something is wrong. Raises InvalidArgument for an op that declares
    nothing to draw from, DTypeError for what is no op, ImportError without hypothesis: pip install hypothesis.

    >>> class Cube(Op):
    ...     '''out = x**3'''
    ...     elementwise = True
    ...     def forward(self, x):
    ...         return x * x * x
    ...     def backward(self, dout, x):
    ...         return dout * 3 * x * x
    >>> bool(check_op(Cube))
    True
    >>> Cube.backward = lambda self, dout, x: dout * 3 * x
    >>> check_op(Cube).verdict
    'wrong'
    """
    cls = op_class(op)
    allowed = allowed_verdicts("check_op", allow)
    try:
        from hypothesis import Phase, given, settings
        from hypothesis import strategies as st

        from minigrad.testing.calls import Call, calls
        from minigrad.testing.strategies import LAYOUTS
    except ImportError as error:
        raise ImportError("check_op draws with hypothesis: pip install hypothesis") from error
    drawn_from = op if isinstance(op, Op) else cls
    title = repr(op) if isinstance(op, Op) else cls.name
    counts: Counter[tuple[str, str]] = Counter()
    refused: list[Finding] = []
    stages = _stages(order, seed)

    def check(call: Call, layout: str) -> None:
        counted: list[tuple[str, str]] = []
        for name, stage in list(stages.items()):
            for finding in stage(call, LAYOUTS[layout]):
                if finding.passed or finding.verdict in UNDECIDED:
                    counted.append((finding.where, finding.verdict))
                elif finding.verdict not in allowed:
                    refused[:] = [replace(finding, where=f"{finding.where} of {_short(call)}")]
                    # From here on smaller calls are looked for, and only this stage has to fail for them.
                    stages.clear()
                    stages[name] = stage
                    raise _Refused
        counts.update(counted)

    with suppress(_Refused):
        if inputs:
            check(Call(drawn_from, [np.asarray(x) for x in inputs], {}), "fortran")
        else:
            of_all_sizes = calls(drawn_from, empty=False) | calls(drawn_from)

            @settings(
                max_examples=examples,
                phases=[Phase.generate, Phase.shrink],
                deadline=None,
                derandomize=True,
                database=None,
                report_multiple_bugs=False,
            )
            @given(call=of_all_sizes, layout=st.sampled_from(list(LAYOUTS)))
            def drawn(call: Call, layout: str) -> None:
                check(call, layout)

            drawn()
    found = refused or list(_summary(counts))
    return finish(GradcheckReport(tuple(found), title, allowed), raise_exception)


class _Refused(Exception):
    """A call that something is wrong with."""


Stage = Callable[["Call", Callable[[Array], Array]], Iterator[Finding]]


def _stages(order: int, seed: int) -> dict[str, Stage]:
    """What is checked of a call, by name."""

    def told(stage: Stage) -> Stage:
        def findings(call: Call, layout: Callable[[Array], Array]) -> Iterator[Finding]:
            try:
                yield from stage(call, layout)
            except MinigradError as error:
                yield Finding("wrong", "the call", reason=str(error))

        return findings

    def gradient(n: int) -> Stage:
        return lambda call, layout: _gradient(call, n, seed)

    def treatment(dtype: str) -> Stage:
        return lambda call, layout: _treatment(call, dtype, layout)

    stages: dict[str, Stage] = {"value": lambda call, layout: _value(call)}
    stages.update({f"order {n}": gradient(n) for n in range(1, order + 1)})
    stages["kept"] = lambda call, layout: _kept(call)
    stages["moves"] = lambda call, layout: _moves(call, seed)
    stages.update({dtype: treatment(dtype) for dtype in ("float16", "float32", "float64")})
    return {name: told(stage) for name, stage in stages.items()}


def _of(call: Call) -> type[Op]:
    return call.op if inspect.isclass(call.op) else type(call.op)


def expected(call: Call) -> Array | None:
    """The value by the op's independent reference, scalar by scalar or slice by slice, or by NumPy; None without."""
    op = _of(call)
    reference = op.reference
    if reference is None:
        return np.asarray(call(*call.arrays, function=op.answers[0])) if op.answers else None
    parameters = call.kwargs if inspect.isclass(call.op) else {}
    if op.elementwise:
        scalars = np.frompyfunc(lambda *v: reference(*[float(x) for x in v], **parameters), len(call.arrays), 1)
        return np.asarray(scalars(*call.arrays)).astype(float)
    if op.cases or not issubclass(op, Reduction):
        return np.asarray(reference(*call.arrays, **parameters))
    (x,), axis = call.arrays, call.kwargs["axis"]
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis))
    kept = [i for i in range(x.ndim) if i not in axes]
    flat = np.transpose(x, (*kept, *axes)).reshape(*[x.shape[i] for i in kept], -1)
    out = np.array([reference(row.tolist()) for row in flat.reshape(-1, flat.shape[-1])])
    left = [1 if i in axes else n for i, n in enumerate(x.shape)]
    return out.reshape(left if call.kwargs["keepdims"] else [x.shape[i] for i in kept])


def _value(call: Call) -> Iterator[Finding]:
    out = call(*[Tensor(x) if _is_float(x) else x for x in call.arrays])
    want = expected(call)
    if want is None:
        return
    if out.shape != want.shape:
        yield Finding("wrong", "value", reason=f"out has shape {out.shape}, and the reference {want.shape}")
        return
    with np.errstate(all="ignore"):
        apart = ~(abs(out.data - want) <= 1e-13 * abs(want) + 1e-14) & ~(np.isnan(out.data) & np.isnan(want))
    apart &= ~((out.data == want) & np.isinf(want))
    if apart.any():
        i = tuple(int(v) for v in np.argwhere(apart)[0])
        got, right = float(out.data[i]), float(want[i])
        yield Finding(
            "wrong", f"value{list(i) if i else ''}", got, right, 0.0, 0.0, "it is not what the reference says"
        )
    else:
        yield Finding("ok", "value")


def _gradient(call: Call, order: int, seed: int) -> Iterator[Finding]:
    """The worst finding of gradcheck at one order: at the second, of the gradient as a function."""
    if not any(map(_is_float, call.arrays)):
        return
    where = "gradient" if order == 1 else f"gradient of order {order}"
    report = gradcheck(call, call.arrays, order=order, seed=seed, allow=tuple(UNDECIDED))
    mine = [f for f in report.findings if f.where.startswith("order ") == (order > 1)]
    report = GradcheckReport(tuple(mine or report.findings))
    worst = next((f for f in report.findings if f.verdict == report.verdict), None)
    if worst is None or worst.passed or worst.verdict in UNDECIDED:
        told = any(f.passed and (f.analytic or f.verdict == "kink") for f in report.findings)
        yield Finding("ok" if told or worst is None else worst.verdict, where)
    else:
        yield replace(worst, where=f"{where}: {worst.where}")


def _kept(call: Call) -> Iterator[Finding]:
    """What forward_and_keep keeps is what the method of that name gives."""
    op = _of(call)
    if op.keeps is None:
        return
    node = _node(call)
    if node is None:
        return
    kept = node.saved[node.op.asks.index(op.keeps)]
    again = getattr(node.op, op.keeps)(*node.inputs)
    right = np.shape(kept) == np.shape(again) and np.allclose(kept, again, rtol=1e-14, atol=1e-15, equal_nan=True)
    reason = "" if right else f"what forward_and_keep keeps is not what {op.keeps} gives"
    yield Finding("ok" if right else "wrong", f"what it keeps ({op.keeps})", reason=reason)


def _node(call: Call) -> Any:
    """The op's own node in the graph of a call; None where there is none."""
    name = _of(call).name
    node: Any = call(*_leaves(call.arrays))._node
    while node is not None and node.op is not None and node.op.name != name:
        node = next((p for p in node.parents if p is not None), None)
    return None if node is None or node.op is None else node


def _moves(call: Call, seed: int) -> Iterator[Finding]:
    """A rule that only moves entries gives no more than it gets, nothing negative, and the same entries at any size."""
    node = _node(call) if _of(call).moves else None
    if node is None:
        return
    rng = np.random.default_rng(seed)
    dout = rng.uniform(1, 2, node.shape) * (rng.random(node.shape) < 0.7)
    grads = node.op.backward(dout, *node.saved)
    entries = node.op.carry(dout != 0, dout, node.saved, node.parents)
    for g, reached in zip(grads if isinstance(grads, tuple) else (grads,), entries, strict=True):
        if g is None:
            continue
        if not (np.all(g >= 0) and np.all(g <= dout.sum() * (1 + 1e-12)) and np.array_equal(g != 0, reached)):
            yield Finding("wrong", "moves", reason="the rule multiplies entries of dout, and the op declares moves")
            return
    yield Finding("ok", "moves")


def _treatment(call: Call, dtype: str, layout: Callable[[Array], Array]) -> Iterator[Finding]:
    """dtypes kept, arguments and dout untouched, gradients of their own: in one dtype and memory layout."""
    if not any(map(_is_float, call.arrays)) or getattr(call.op, "dtype", None) is not None or "dtype" in call.kwargs:
        return  # its result has the dtype that it is told
    where = f"{dtype} arrays"
    inputs = [layout(x.astype(dtype)) if _is_float(x) else x for x in call.arrays]
    before = [x.copy() for x in inputs]
    for x in inputs:
        x.flags.writeable = False
    xs = [from_numpy(x) if _is_float(x) else x for x in inputs]
    leaves = [x for x in xs if isinstance(x, Tensor)]
    for leaf in leaves:
        leaf.requires_grad = True
    out = call(*xs)
    if out.dtype != dtype:
        yield Finding("dtype", where, reason=f"out is {out.dtype}")
        return
    if not _of(call).view and any(np.shares_memory(out.data, x) for x in inputs):
        yield Finding("aliasing", where, reason="out shares memory with an argument, and the op does not declare view")
    rng = np.random.default_rng(0)
    dout = layout(np.asarray(rng.uniform(0.5, 1.5, out.shape) * rng.choice([-1, 1], out.shape), dtype))
    seed = dout.copy()
    dout.flags.writeable = False
    if not out.requires_grad:
        return
    value = out.data.copy()
    out.backward(dout)
    if any(x.tobytes() != old.tobytes() for x, old in zip(inputs, before, strict=True)):
        yield Finding("aliasing", where, reason="an argument was written into")
    if dout.tobytes() != seed.tobytes():
        yield Finding("aliasing", where, reason="dout was written into")
    if out.data.tobytes() != value.tobytes():
        yield Finding("aliasing", where, reason="out was written into by backward")
    wide = _leaves([x.astype(float) if _is_float(x) else x for x in before])
    grads = grad(call(*wide), [x for x in wide if isinstance(x, Tensor)], seed.astype(float), allow_unused=True)
    seen = [*inputs, dout, out.data]
    for leaf, dx in zip(leaves, grads, strict=True):
        got = leaf.grad
        if (got is None) != (dx is None):
            yield Finding("wrong", where, reason="an argument has a gradient in one dtype and none in another")
        if got is None or dx is None:
            continue
        if got.dtype != dtype:
            yield Finding("dtype", where, reason=f"a gradient is {got.dtype}")
        if any(np.shares_memory(got, other) for other in seen):
            yield Finding("aliasing", where, reason="a gradient shares memory with another array")
        seen.append(got)
        largest = max(1.0, float(np.max(abs(dx.data), initial=0)))
        if not np.allclose(got.astype(float), dx.data, 200 * EPS[dtype], 200 * EPS[dtype] * largest, equal_nan=True):
            yield Finding("wrong", where, reason="the gradient is not that in float64, beyond its rounding")
    yield Finding("ok", where)


def _summary(counts: Counter[tuple[str, str]]) -> Iterator[Finding]:
    """One finding for each thing that was checked, of how many calls it was found right."""
    for where in dict.fromkeys(key for key, _ in counts):
        mine = {verdict: n for (key, verdict), n in counts.items() if key == where}
        total = sum(mine.values())
        sure = mine.get("ok", 0)
        undecided = max((v for v in sorted(UNDECIDED) if v in mine), key=lambda v: mine[v], default="ok")
        # A derivative of second order may well be 0 all over: that of a linear op is.
        empty = sure == 0 and not (where.startswith("gradient of") and undecided == "vacuous")
        yield Finding(undecided if empty else "ok", where, reason=f"in {sure} of {total} calls" if empty else "")


def _leaves(arrays: list[Array]) -> list[Any]:
    return [Tensor(x, requires_grad=True) if _is_float(x) else x for x in arrays]


def _is_float(x: Any) -> bool:
    return bool(x.dtype.kind == "f")


def _short(call: Call) -> str:
    text = " ".join(repr(call).split())
    return text if len(text) <= 200 else f"{call.op} of {', '.join(map(describe, call.arrays))}"
