"""What to write in place of an op that has made a nan or an infinity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

import numpy as np

from minigrad.graph.data import number
from minigrad.op import Op

__all__ = ["IN_DATA", "IN_LEARNED", "OF_SUM", "fix_for"]

_STEPS = "a smaller learning rate, or optim.clip_grad_norm_"
IN_LEARNED = f"look at the last step that wrote into it: {_STEPS}"
IN_DATA = "remove or replace such values: np.isnan(data) and np.isinf(data) find them"
OF_SUM = "scale the loss down, or compute in float64: the gradients of its uses are finite"

_LESS = "scale the operands down, or compute with their logarithms"
_WIDER = "compute in float64, or scale the operands down"
_SHIFT = "use logsumexp, log_softmax or softmax_cross_entropy, which shift by the largest value, or x - max(x)"
_OVERFLOWS = (_LESS, _WIDER, _SHIFT)

# In braces numbers that do something in the operands' dtype: eps beside 1 or 0, apart for what y does to it.
_ROW = "leave at least one entry of each row above -inf"
_FORWARD = {
    "log": "keep x above 0: log(clip(x, {eps})), or log1p(x) for log(1 + x)",
    "log1p": "keep x above -1: log1p(clip(x, -1 + {eps}))",
    "sqrt": "keep x at 0 or above: sqrt(clip(x, 0) + {eps})",
    "divide": "keep y away from 0: x / (y + {apart}) for y >= 0, or where(y != 0, x / where(y != 0, y, 1), 0)",
    "power": "keep x above 0: clip(x, {apart}) ** y",
    "arcsin": "keep x between -1 and 1: arcsin(clip(x, -1 + {eps}, 1 - {eps}))",
    "arccos": "keep x between -1 and 1: arccos(clip(x, -1 + {eps}, 1 - {eps}))",
    "softmax": _ROW,
    "log_softmax": _ROW,
    "astype": "keep the wider dtype: float64 where float32 or float16 overflows",
    "exp": _SHIFT,
}
_BACKWARD = _FORWARD | {
    "sqrt": "use norm, whose gradient at 0 is 0, or sqrt(x + {eps})",
    "power": "keep x away from 0: (x + {apart}) ** y, or norm, whose gradient at 0 is 0",
}

# log of a probability that was rounded to 0: a clip would make its gradient 0, and nothing would be learned from it.
_PROBABILITIES = {
    "softmax": (
        "use log_softmax(x) in place of log(softmax(x))",
        "use softmax_cross_entropy(x, t) in place of log(softmax(x)) and what follows, or log_softmax(x) first",
    ),
    "sigmoid": (
        "use log_sigmoid(x) in place of log(sigmoid(x))",
        "use sigmoid_binary_cross_entropy(x, t), or log_sigmoid(-x) in place of log(1 - sigmoid(x))",
    ),
    "exp": (
        "",
        "use log_softmax(x) or log_sigmoid(x), which take no logarithm of what exp has rounded to 0",
    ),
}
_THROUGH = {"add", "subtract", "multiply", "negative", "divide", "sum", "mean", "clip", "astype"}


def fix_for(
    op: Op | None,
    direction: str,
    history: Sequence[Op],
    at: Mapping[str, float],
    value: float,
    operands: Mapping[str, Any],
    leaves: Iterable[tuple[str, Any]],
) -> str:
    """What to write in place of an op that made `value`.

    history: the ops that its operand came by, the latest first. at, operands: values there, and in all, by name.
    leaves: names and arrays of what may be learned.
    """
    if op is None:
        return ""
    if op.outside:
        return f"look at what {direction} of {type(op).__name__} does with such values"
    name = op.name
    logarithm = _of_probabilities(history) if name == "log" else ""
    if logarithm:
        return logarithm
    if any(np.isinf(np.asarray(a)).any() for a in operands.values()) and name not in ("softmax", "log_softmax"):
        return "look where the infinity among the operands came from: inf - inf, 0 * inf and inf / inf are nan"
    dtypes = [a.dtype for a in operands.values() if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    dtype = min(dtypes, key=lambda dtype: dtype.itemsize, default=np.dtype(float))
    known = _BACKWARD if direction == "backward" else _FORWARD
    overflow = np.isinf(value) and 0 not in at.values() and name in ("divide", "power")
    if name in known and not overflow:
        y = -1.0 if name == "divide" else at.get("y", 0.5)
        fix = known[name].format(eps=_eps(dtype), apart=_eps(dtype, y))
    else:
        fix = _LESS if dtype.itemsize >= 8 else _WIDER
    return f"{fix}{_of_the_largest(leaves)}" if fix in _OVERFLOWS else fix


def _eps(dtype: np.dtype[Any], y: float = 1.0) -> str:
    """A number that is no 0 beside 1 in dtype, and whose power y - 1, as in a gradient, is finite."""
    eps = {2: 1e-3, 4: 1e-7}.get(dtype.itemsize, 1e-12)
    if y < 1:
        eps = max(eps, (float(np.finfo(dtype).max) / 10) ** (1 / (y - 1)))
    power = 10.0 ** floor(log10(eps))
    return f"{ceil(eps / power - 1e-6) * power:g}".replace("e-0", "e-")


def _of_probabilities(before: Sequence[Op]) -> str:
    """The fix for the logarithm of what came from softmax or sigmoid, as it is or by steps that mix in nothing else."""
    for i, op in enumerate(before):
        if op.outside:
            return ""
        if op.name == "exp" and not any(other.name == "divide" for other in before[:i]):
            return ""  # no softmax or sigmoid that is written out
        if op.name in _PROBABILITIES:
            return _PROBABILITIES[op.name][i > 0]
        if not (op.moves or op.name in _THROUGH):
            return ""
    return ""


def _of_the_largest(leaves: Iterable[tuple[str, Any]]) -> str:
    """What to say of the leaf with the largest value, where that may be what a step has made of it."""
    known = [(name or f"a leaf of shape {a.shape}", a) for name, a in leaves if a.size and a.dtype.kind == "f"]
    tops = [(float(np.abs(a).max()), float(np.finfo(a.dtype).max), name) for name, a in known]
    top, most, name = max(tops, default=(0.0, 0.0, ""))
    if top <= min(1e4, most**0.5):
        return ""
    return f"; {name} reaches {number(top)}: if it is learned, its last steps were too large: {_STEPS}"
