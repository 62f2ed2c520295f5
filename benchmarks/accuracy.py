"""How many digits are right: minigrad beside PyTorch and JAX, against mpmath at 50 digits.

For sigmoid, log_sigmoid, softplus and tanh by region of the line, for softmax, log_softmax and softmax
cross-entropy by kind of row: the largest error in units in the last place (ULP), of value and gradient, and
how many of the numbers are 0, nan or inf where the true number is another one. Gradients are for an incoming
gradient of 1; for softmax and log_softmax for each class in turn, with one-hot incoming gradients. An error
beyond a million is shown as its power of ten; one beyond all bounds, of a nan or a wrong inf, as "inf".
Wanted for minigrad: float64 within 2 ULP in value and 4 in gradient, float32 within 4 and 6, the softmax
family within 4 + (max - x_i) ULP for each entry; nothing wrongly 0, nan or inf.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

import bench

DTYPES = ("float64", "float32")
# f(name, x, dout) -> (value, gradient): the function `name` of the array x, and its gradient for dout.
# "loss 3" is the softmax cross-entropy of one row with class 3 as the right one.
Framework = Callable[[str, Any, Any], tuple[Any, Any]]


def minigrad_framework() -> Framework:
    """The ops of this package."""
    import minigrad as mg

    def apply(name: str, x: Any, dout: Any) -> tuple[Any, Any]:
        leaf = mg.Tensor(x, requires_grad=True)
        label = name.removeprefix("loss ")
        out = mg.softmax_cross_entropy(leaf, int(label)) if label != name else getattr(mg, name)(leaf)
        out.backward(dout)
        return out.numpy(), leaf.grad

    return apply


def torch_framework() -> Framework:
    """PyTorch's own functions of the same names."""
    import torch
    from torch.nn import functional as F

    functions = {
        "sigmoid": torch.sigmoid,
        "log_sigmoid": F.logsigmoid,
        "softplus": F.softplus,
        "tanh": torch.tanh,
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
    }

    def apply(name: str, x: Any, dout: Any) -> tuple[Any, Any]:
        leaf = torch.tensor(x, requires_grad=True)
        label = name.removeprefix("loss ")
        out = F.cross_entropy(leaf, torch.tensor(int(label))) if label != name else functions[name](leaf)
        out.backward(torch.tensor(dout))
        return out.detach().numpy(), leaf.grad.numpy()

    return apply


def jax_framework() -> Framework:
    """jax.nn's functions, with 64 bits allowed."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    functions = {
        "sigmoid": jax.nn.sigmoid,
        "log_sigmoid": jax.nn.log_sigmoid,
        "softplus": jax.nn.softplus,
        "tanh": jnp.tanh,
        "softmax": jax.nn.softmax,
        "log_softmax": jax.nn.log_softmax,
    }

    def apply(name: str, x: Any, dout: Any) -> tuple[Any, Any]:
        label = name.removeprefix("loss ")
        f = (lambda x: -jax.nn.log_softmax(x)[int(label)]) if label != name else functions[name]
        out, pull = jax.vjp(f, jnp.asarray(x))
        return np.asarray(out), np.asarray(pull(jnp.asarray(dout))[0])

    return apply


def frameworks() -> dict[str, Framework]:
    """Those that are installed."""
    found = {"minigrad": minigrad_framework()}
    if bench.available("torch"):
        found["PyTorch"] = torch_framework()
    if bench.available("jax"):
        found["JAX"] = jax_framework()
    return found


class Score:
    """The largest error so far, the largest as a share of its bound, and the number of wrong 0, nan and inf."""

    def __init__(self) -> None:
        self.error, self.share, self.wrong, self.seen = 0.0, 0.0, 0, 0

    def add(self, got: Any, exact: Any, dtype: str, bound: float) -> None:
        """Compare one number."""
        import referee

        error = referee.ulp_error(got, exact, dtype)
        self.error, self.share = max(self.error, error), max(self.share, error / bound)
        self.wrong += bool(referee.wrong(got, exact, dtype))
        self.seen += 1

    def __str__(self) -> str:
        if self.error >= 1e6:
            error = "inf" if math.isinf(self.error) else f"1e{math.floor(math.log10(self.error))}"
        else:
            error = f"{self.error:.2f}" if self.error < 100 else f"{self.error:.0f}"
        return f"{error} ({self.wrong} wrong)" if self.wrong else error


def table(rows: Iterable[tuple[str, dict[str, tuple[Score, Score]]]], names: list[str]) -> tuple[list[str], list[Any]]:
    """Head and rows of one table: a line for each region, value and gradient of each framework."""
    head = ["", *(f"{name}, {what}" for name in names for what in ("value", "gradient"))]
    return head, [[region, *(score for name in names for score in scores[name])] for region, scores in rows]


def elementwise(name: str, dtype: str, found: dict[str, Framework], step: int) -> list[Any]:
    """(region, scores by framework) for a function of one value."""
    import numpy as np
    import referee

    value, derivative = referee.ELEMENTWISE[name]
    bounds = (2, 4) if dtype == "float64" else (4, 6)
    rows = []
    for region, x in referee.regions(dtype).items():
        x = x[:: 1 if len(x) < 10 else step]
        scores = {}
        for who, apply in found.items():
            scores[who] = (Score(), Score())
            out, grad = apply(name, x, np.ones_like(x))
            for v, y, dy in zip(x.tolist(), out, grad, strict=True):
                scores[who][0].add(y, value(v), dtype, bounds[0])
                scores[who][1].add(dy, derivative(v), dtype, bounds[1])
        rows.append((region, scores))
    return rows


def softmax_family(name: str, dtype: str, found: dict[str, Framework], step: int) -> list[Any]:
    """(kind of row, scores by framework) for softmax, log_softmax or the loss, in every coupling of classes."""
    import numpy as np
    import referee

    rows = []
    for kind, batch in referee.rows(dtype).items():
        scores = {who: (Score(), Score()) for who in found}
        for row in batch[::step]:
            exact = referee.Softmax(row)
            limits = [4 + float(exact.top - v) for v in exact.x]
            classes = range(len(row)) if len(row) <= 10 else (0, exact.winner, int(np.argmin(row)))
            for k in classes:
                loss = name == "softmax_cross_entropy"
                values = [exact.loss(k)] if loss else getattr(exact, name)()
                gradient = exact.loss_gradient(k) if loss else getattr(exact, f"{name}_gradient")(k)
                dout = np.ones((), dtype) if loss else np.eye(len(row), dtype=dtype)[k]
                for who, apply in found.items():
                    out, grad = apply(f"loss {k}" if loss else name, row, dout)
                    if loss or k == classes[0]:  # the values of the others do not depend on k
                        for i, (got, e) in enumerate(zip(np.ravel(out), values, strict=True)):
                            scores[who][0].add(got, e, dtype, limits[k if loss else i])
                    for i, (got, e) in enumerate(zip(grad, gradient, strict=True)):
                        scores[who][1].add(got, e, dtype, limits[i])
        rows.append((kind, scores))
    return rows


def main() -> None:
    """Print a table for each op and dtype, and minigrad's worst beside what is wanted."""
    chosen = bench.options(__doc__)
    report = bench.Report("Accuracy", chosen)
    found = frameworks()
    step = 7 if chosen.quick else 1
    worst: dict[str, float] = {}
    wrong = 0
    for name in ("sigmoid", "log_sigmoid", "softplus", "tanh", "softmax", "log_softmax", "softmax_cross_entropy"):
        for dtype in DTYPES:
            bench.progress(f"{name}, {dtype}" if sys.stderr.isatty() else "")
            family = "softmax" in name
            rows = (softmax_family if family else elementwise)(name, dtype, found, step)
            points = sum(scores["minigrad"][0].seen for _, scores in rows)
            report.table(f"{name}, {dtype}: largest error in ULP, {points:,} values", *table(rows, list(found)))
            for _, scores in rows:
                for what, score in zip(("value", "gradient"), scores["minigrad"], strict=True):
                    if family:
                        key, got = f"{name}, {what}: error / (4 + max - x_i)", score.share
                    else:
                        key, got = f"{dtype}, sigmoid and its relatives, {what}: ULP", score.error
                    worst[key] = max(worst.get(key, 0.0), got)
                    wrong += score.wrong
    limits = {"float64, value": 2, "float64, gradient": 4, "float32, value": 4, "float32, gradient": 6}
    print()
    for key, got in worst.items():
        dtype, what = key[:7], "value" if "value" in key else "gradient"
        report.wanted(f"minigrad, {key}", got, limits.get(f"{dtype}, {what}", 1))
    report.wanted("minigrad, wrong 0, nan or inf", wrong, 0)
    report.close()


if __name__ == "__main__":
    main()
