"""Writes docs/ops.md, the table of all ops, from what the ops declare: python docs/op_table.py."""

from __future__ import annotations

from pathlib import Path

from minigrad.contract import Domain
from minigrad.op import Op, registry
from minigrad.ops.constant import CONSTANT

PAGE = Path(__file__).with_name("ops.md")

HEAD = """# The ops

Made from what the ops declare by `python docs/op_table.py`; a test compares. Each op is one class in `minigrad/ops/`,
and `minigrad.NAME` is its public function. All of them are differentiable as often as you like.

## What they compute

- *gradient*: of each argument that has one, as Python. `dout` is the gradient of `out`, in the shape of `out`. Names
  are arguments, parameters of the op, NumPy's functions and minigrad's; a broadcast argument gets the sum over the axes
  along which it was stretched. Tests compare each text with the rule, which may be written otherwise: more accurate in
  the tails, and exact beside zeros. "–" is for gradients that no short formula says.
- *keeps*: what the tape keeps alive for the rule; a shape costs nothing.

Ops over an axis are written for `keepdims=True`: otherwise put the axes back into `dout` and `out` first. To stay
short, some texts are for the usual call alone: `matmul` of matrices and `linear` of rows, `gelu` without
`approximate`, `embedding` without `padding_idx`, `transpose` with axes counted from 0, `setitem` at places that are
named once, the mean of a loss over samples that count alike (`one_hot(labels)` is labels as rows), convolutions whose
last window ends where `x` ends.

| op | formula | gradient | keeps |
|---|---|---|---|
"""

CHECKED = """
## What they take, and what is checked

- *contract*: elementwise ops broadcast like NumPy's; a gufunc signature names the axes that must agree.
- *tested on*: where the generated tests draw the arguments from.
- *orders checked*: gradients (1) and gradients of gradients (2), compared with numerical differentiation in float64, to
  1e-8 of the size of their terms.
- *dtypes*: floats for which the result is checked to keep its dtype, and the gradient to be float64's but for rounding.
- *answers to*: NumPy functions that do the same when they meet a Tensor.

| op | contract | tested on | orders checked | dtypes | answers to |
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


def gradient(op: type[Op]) -> str:
    """What an op says of the gradient of each argument that has one."""
    said = [(arg, f"`{text}`") for arg, text in zip(op.args, op.gradients, strict=False) if text]
    if len(op.args) == 1:
        return "".join(text for _, text in said) or "–"
    return "; ".join(f"{arg}: {text}" for arg, text in said) or "–"


def formulas(op: type[Op]) -> str:
    """The line of the first table for one op."""
    formula = (op.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
    keeps = ", ".join(f"`{ask}`" for ask in op.asks if ask != "needs") or "nothing"
    return f"| `{op.name}` | {formula} | {gradient(op)} | {keeps} |\n"


def checks(op: type[Op]) -> str:
    """The line of the second table for one op."""
    # tests/test_ops.py draws a dtype for every op, but for one whose calls name theirs.
    dtypes = "64" if any("dtype" in case.kwargs for case in op.cases) else "16, 32, 64"
    answers = ", ".join(f"`{answer.__module__.replace('numpy', 'np', 1)}.{answer.__name__}`" for answer in op.answers)
    return f"| `{op.name}` | {contract(op)} | {domain(op.domain)} | 1, 2 | float{dtypes} | {answers or '–'} |\n"


def page() -> str:
    """The whole page."""
    constants = ", ".join(f"`np.{function.__name__}`" for function in CONSTANT)
    tables = HEAD + "".join(map(formulas, registry())) + CHECKED + "".join(map(checks, registry()))
    return tables + TAIL + constants + "\n" + MADE


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
