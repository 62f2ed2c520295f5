"""detect_anomaly: stop at the first op, or rule, that makes a nan or an infinity out of finite values."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad import op as op_module
from minigrad.debug.manager import Manager
from minigrad.debug.report import CHAIN, AnomalyError, Step, all_finite, blamed, fresh, report_on, values_at
from minigrad.errors import DTypeError, describe
from minigrad.op import Op
from minigrad.tape import Node, walk
from minigrad.tensor import Tensor, plain
from minigrad.watch import Call, Line, Watcher, user_line, watching

__all__ = ["detect_anomaly", "operands_of_rule"]


class detect_anomaly(Manager):
    """Within, or in the decorated function, the first op that makes a nan or an infinity is an AnomalyError.

    Forward and backward, in this thread or asyncio task alone. An op makes a nan where none of its operands is nan, and
    an infinity where all of them are finite: entry by entry for ops that work so, else among all entries. So an
    infinity that you put in yourself, such as the -inf of an attention mask, stops nothing by itself, nor does a nan in
    the data; a nan that is made of an infinity does (inf - inf; softmax of a row of nothing but -inf).

    inputs: True stops at a nan in what goes in, too: at the first op that is given one that no op has made.
    allow: names of ops whose results may be what they are, such as ["log"] for log(mask), or where `where` selects
        afterwards. Their rules are still looked at.
    The error names the op, its line and source text, the ranges of its operands, the first bad entry, the chain of
    ops that led there, and a fix; its `report` has these as values. It comes before NumPy's own warning of the same
    event, which is left out; NumPy's warnings elsewhere are as they were. A step of the book's network on 100 digits
    takes 1.3 times as long, x * y of 10**6 values with backward 1.5 times, an op on few values some 10 us longer.

    >>> import minigrad as mg
    >>> x = mg.Tensor([4.0, 0.0], requires_grad=True)
    >>> with detect_anomaly():
    ...     mg.sqrt(x).sum().backward()
    Traceback (most recent call last):
    minigrad.debug.report.AnomalyError: sqrt.backward: it made inf of finite values: dx[1], where dout = 1, out = 0; ...
    """

    def __init__(self, f: Callable[..., Any] | None = None, *, inputs: bool = False, allow: Iterable[str] = ()) -> None:
        if isinstance(allow, str) or not isinstance(allow, Iterable) or not all(isinstance(x, str) for x in allow):
            raise DTypeError(
                "detect_anomaly: allow", describe(allow), "a list of names of ops", 'write allow=["log"], for example'
            )
        if not isinstance(inputs, bool):
            raise DTypeError("detect_anomaly: inputs", describe(inputs), "True or False", "write inputs=True")
        self.inputs, self.allow = inputs, frozenset(allow)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """What holds within."""
        with _numpy_quiet_in_ops(), watching(_Detector(self.inputs, self.allow)):
            yield


@contextmanager
def _numpy_quiet_in_ops() -> Iterator[None]:
    """NumPy's floating-point errors, within ops and rules, say nothing; elsewhere they do what they did."""
    with np.errstate(divide="call", over="call", invalid="call", call=_Told()):
        yield


class _Told:
    """What NumPy is to call on a floating-point error."""

    def __init__(self) -> None:
        modes, self.before = np.geterr(), np.geterrcall()
        self.modes = {"divide by zero": modes["divide"], "overflow": modes["over"], "invalid value": modes["invalid"]}
        if isinstance(self.before, _Told):  # within another detect_anomaly
            self.modes = {kind: self.before.modes[kind] if m == "call" else m for kind, m in self.modes.items()}
            self.before = self.before.before

    def __call__(self, kind: str, flag: int) -> None:
        mode = self.modes.get(kind, "warn")
        if mode == "ignore" or _runs_op():
            return
        if mode == "call" and callable(self.before):
            self.before(kind, flag)
        elif mode == "raise":
            raise FloatingPointError(f"{kind} encountered")
        else:
            warnings.warn(f"{kind} encountered", RuntimeWarning, stacklevel=2)


_WALK = getattr(walk, "__wrapped__", walk).__code__  # without the decorator that sets NumPy's error state
_VARIADIC = op_module._variadic_call.__code__  # the one call of ops that is not written out for them


def _runs_op() -> bool:
    """Whether an op or a rule runs further up."""
    return any(f.f_code in (_WALK, _VARIADIC) or f.f_code.co_filename.startswith("<minigrad ") for f in _frames())


def _frames() -> Iterator[Any]:
    frame: Any = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


class _Detector(Watcher):
    def __init__(self, inputs: bool, allow: frozenset[str]) -> None:
        self.inputs, self.allow = inputs, allow
        # By id, while it lives: the steps that an unrecorded result came by. Recorded ones have nodes for that.
        self.made: dict[int, tuple[weakref.ref[Tensor], tuple[Step, ...]]] = {}
        # By birth of a node that a walk has reached: the steps its gradient came through, and whether all was finite.
        self.reached: dict[int, tuple[tuple[Step, ...], bool]] = {}
        self.birth = 0

    # Forward

    def called(self, op: Any, args: Sequence[Any], arrays: Sequence[Any], t: Any, began: float, ended: float) -> None:
        line, node = user_line(), t._node
        if self.inputs:
            self.look_at_inputs(op, args, arrays, line)
        bad = fresh(t._data, arrays, op)
        if bad is not None and op.name not in self.allow and not any(f.f_code is _WALK for f in _frames()):
            names = [op.argument(i) for i in range(len(arrays))]
            index = tuple(np.argwhere(bad)[0])
            at = values_at(index, t.shape, dict(zip(names, arrays, strict=True))) if op.elementwise else {}
            i = blamed(op, arrays, list(at.values()))
            step = Step.of(op, t.shape, line)
            operands = {_called(name, x): a for name, x, a in zip(names, args, arrays, strict=True)}
            raise AnomalyError.of(
                report_on(step, op, bad, ("out", t._data), operands, self.chain(args[i]) if args else ())
            )
        if node is None:
            chain = (Step.of(op, t.shape, line), *(self.chain(_with_history(args))))[:CHAIN]
            key = id(t)
            self.made[key] = weakref.ref(t, lambda _: self.made.pop(key, None)), chain
        elif getattr(node, "call", None) is None:
            node.call = Call(line)

    def chain(self, x: Any) -> tuple[Step, ...]:
        """The steps that x came by, the latest first."""
        if not isinstance(x, Tensor):
            return ()
        known = self.made.get(id(x))
        if known is not None and x._node is None and known[0]() is x:
            return known[1]
        steps: list[Step] = []
        node = x._node
        while node is not None and node.op is not None and len(steps) < CHAIN:
            steps.append(_step(node))
            node = next((p for p in node.parents if p is not None and p.op is not None), None)
        return tuple(steps)

    def look_at_inputs(self, op: Op, args: Sequence[Any], arrays: Sequence[Any], line: Line | None) -> None:
        for i, (x, a) in enumerate(zip(args, arrays, strict=True)):
            by_op = isinstance(x, Tensor) and ((x._node is not None and x._node.op is not None) or id(x) in self.made)
            a = np.asarray(a)
            if by_op or all_finite(a) or not np.isnan(a).any():
                continue
            step = Step.of(op, a.shape, line)
            fix = "remove or replace such values: np.isnan(data) finds them"
            raise AnomalyError.of(
                report_on(step, None, np.isnan(a), (_called(op.argument(i), x), a), {}, (), "data", fix)
            )

    # Backward

    def before_rule(self, node: Node, dout: Any) -> None:
        if node.birth > self.birth:  # births fall along a walk: this is another one
            self.reached.clear()
        self.birth = node.birth
        known = self.reached.get(node.birth)
        if known is None or not known[1]:
            return
        dout = plain(dout)
        if not all_finite(dout):
            step, fix = _step(node), "scale the loss down, or compute in float64: the gradients of its uses are finite"
            raise AnomalyError.of(
                report_on(step, None, ~np.isfinite(dout), ("the sum of dout", dout), {}, known[0], "backward", fix)
            )

    def after_rule(self, node: Node, dout: Any, grads: Sequence[Any], began: float, ended: float) -> None:
        chain, _ = self.reached.pop(node.birth, ((), True))
        operands: dict[str, Any] = {}
        for i, (parent, g) in enumerate(zip(node.parents, grads, strict=True)):
            if parent is None or g is None:
                continue
            g = plain(g)
            finite = all_finite(g)
            if not finite:
                operands = operands or operands_of_rule(node, dout)
                bad = fresh(g, operands.values(), node.op)
                if bad is not None:
                    name = f"d{node.op.argument(i)}"
                    raise AnomalyError.of(report_on(_step(node), node.op, bad, (name, g), operands, chain, "backward"))
            steps, clean = self.reached.get(parent.birth, ((_step(node), *chain)[:CHAIN], True))
            self.reached[parent.birth] = steps, clean and finite


def operands_of_rule(node: Node, dout: Any) -> dict[str, Any]:
    """What a rule is given, by name: dout, and the arrays it asks for."""
    op, saved = node.op, node.saved or ()
    names = [op.argument(i) for i in range(len(saved))] if op.variadic else op.asks
    found = {"dout": plain(dout)}
    for name, value in zip(names, saved, strict=True):
        for part in value if isinstance(value, tuple) and name == op.keeps else (value,):
            if isinstance(part, (np.ndarray, np.generic, float, int)) and not isinstance(part, bool):
                found[name if name not in found else f"{name}'"] = part
    return found


def _step(node: Node) -> Step:
    call = getattr(node, "call", None)
    return Step.of(node.op, node.shape, None if call is None else call.line)


def _with_history(args: Sequence[Any]) -> Any:
    """The argument to follow back: the first that is a Tensor."""
    return next((x for x in args if isinstance(x, Tensor)), None)


def _called(name: str, x: Any) -> str:
    """The argument's name, with that of its tensor."""
    return f"{name} ({x.name})" if isinstance(x, Tensor) and x.name else name
