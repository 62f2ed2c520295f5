"""Writes docs/ops.md, the table of all ops, from what the ops declare: python docs/op_table.py."""

from __future__ import annotations

from pathlib import Path

from minigrad.contract import Domain
from minigrad.op import Op, registry
from minigrad.ops.constant import CONSTANT

PAGE = Path(__file__).with_name("ops.md")

HEAD = """# The ops

Made from what the ops declare by `python docs/op_table.py`; a test compares. Each op is one class in `minigrad/ops/`,
and `minigrad.NAME` is its public function. All of them are differentiable as often as you like; the generated tests
check the first and the second order against numerical differentiation.

- *contract*: elementwise ops broadcast like NumPy's; a gufunc signature names the axes that must agree.
- *tested on*: where the generated tests draw the arguments from.
- *keeps*: what the tape keeps alive for the rule; a shape costs nothing.
- *answers to*: NumPy functions that do the same when they meet a Tensor.

| op | formula | contract | tested on | keeps | answers to |
|---|---|---|---|---|---|
"""

TAIL = """
## Without a derivative

These take Tensors and give plain arrays or Python values, outside any graph. `argmax argmin argsort ceil floor rint
sign trunc` are also functions of minigrad.

"""

MADE = """
## Made of other ops

`split` of `getitem`, `ravel` of `reshape`, `conv1d` of `conv2d`, `dot` of `multiply`, `matmul` or `tensordot`; and
the twins of the fused ops in `minigrad.unfused`, of exp, add, multiply, divide, log, sum and max.
"""


def domain(value: Domain | tuple[Domain, ...]) -> str:
    """A domain, or one for each argument, in interval notation."""
    if isinstance(value, tuple):
        return "; ".join(map(domain, value))
    points = ", ".join(f"{point:g} ± {value.gap:g}" for point in value.away)
    return f"[{value.low:g}, {value.high:g}]" + (f" without {points}" if points else "")


def contract(op: type[Op]) -> str:
    """How the shapes of an op's arguments and result hang together."""
    if op.elementwise:
        return "elementwise"
    if op.signature:
        return f"`{op.signature}`"
    return "over axis" if "keepdims" in op.fields else "see its docstring"


def row(op: type[Op]) -> str:
    """The line of the table for one op."""
    formula = (op.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
    keeps = ", ".join(f"`{ask}`" for ask in op.asks if ask != "needs") or "nothing"
    answers = ", ".join(f"`{answer.__module__.replace('numpy', 'np', 1)}.{answer.__name__}`" for answer in op.answers)
    answers = answers or "–"
    return f"| `{op.name}` | {formula} | {contract(op)} | {domain(op.domain)} | {keeps} | {answers} |\n"


def page() -> str:
    """The whole page."""
    constants = ", ".join(f"`np.{function.__name__}`" for function in CONSTANT)
    return HEAD + "".join(map(row, registry())) + TAIL + constants + "\n" + MADE


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
