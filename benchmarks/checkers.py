"""Which wrong backwards a gradient checker catches, and which right ones it refuses: four checkers beside each other.

    python benchmarks/checkers.py                         the table of all cases
    python benchmarks/checkers.py --false-alarms 10000    minigrad's own ops at drawn inputs, checked that often
    python benchmarks/checkers.py --speed                 evaluations and seconds of three larger checks
    python benchmarks/checkers.py --write                 all of it, into docs/checkers.md

The cases are in checkers_cases.py, each written once; checkers_frameworks.py hands them to a checker, with its
default settings: minigrad.testing, torch.autograd.gradcheck and gradgradcheck, jax.test_util.check_grads and
autograd.test_util.check_grads. A checker that is not installed is left out.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

import bench
import numpy as np
from checkers_cases import PLANTED, Case, cases
from checkers_frameworks import CHECKERS, Outcome, ask, described, installed

PAGE = bench.ROOT / "docs" / "checkers.md"


def word(case: Case, outcome: Outcome) -> str:
    """Whether the checker is right about the case."""
    if outcome.passed is None:
        return "n/a"
    if case.right:
        return "right" if outcome.passed else "FALSE ALARM"
    return "MISSED" if outcome.passed else "caught"


Results = list[tuple[Case, dict[str, Outcome]]]


def run(checkers: Sequence[Any]) -> Results:
    """Every case, by every checker."""
    found, chosen = [], cases()
    for i, case in enumerate(chosen):
        bench.progress(f"{i + 1} of {len(chosen)}: {case.theme}: {case.name}")
        found.append((case, {checker.name: ask(checker, case) for checker in checkers}))
    bench.progress("")
    return found


def head(names: Sequence[str]) -> list[str]:
    """Of a table of cases: minigrad's verdict beside its result."""
    return ["", "backward", *(part for name in names for part in ([name, "verdict"] if name == "minigrad" else [name]))]


def row(case: Case, outcomes: dict[str, Outcome]) -> list[str]:
    """A case in a table."""
    cells = [case.name, "right" if case.right else "wrong"]
    for name, outcome in outcomes.items():
        cells.append(word(case, outcome))
        if name == "minigrad":
            cells.append(outcome.detail)
    return cells


def totals(results: Results, names: Sequence[str]) -> list[list[str]]:
    """Of each checker, how many it was right about."""
    words = {name: Counter(word(case, outcomes[name]) for case, outcomes in results) for name in names}
    rows = []
    for text, good, bad in (("wrong, caught", "caught", "MISSED"), ("right, passed", "right", "FALSE ALARM")):
        if any(case.right == (good == "right") for case, _ in results):
            rows.append([text, *(f"{words[n][good]} of {words[n][good] + words[n][bad]}" for n in names)])
    if any(words[name]["n/a"] for name in names):
        rows.append(["cannot be asked", *(str(words[name]["n/a"]) for name in names)])
    return rows


def themes(results: Results) -> dict[str, Results]:
    """The results by theme, in the order of the cases."""
    found: dict[str, Results] = {}
    for case, outcomes in results:
        found.setdefault(case.theme, []).append((case, outcomes))
    return found


@dataclass(frozen=True)
class Alarms:
    """Checks of minigrad's own ops at drawn inputs: how many, verdicts of those not passed, the first of each."""

    checks: int
    ops: int
    verdicts: Counter[str]
    first: list[str]

    def __str__(self) -> str:
        silent = {v: n for v, n in self.verdicts.items() if v in ("vacuous", "inconclusive")}
        alarms = {v: n for v, n in self.verdicts.items() if v not in silent}
        tally = f" ({', '.join(f'{n} {v}' for v, n in alarms.items())})" if alarms else ""
        told = "".join(f"; {n} {v}" for v, n in silent.items())
        return f"{self.checks:,} checks of {self.ops} ops: {sum(alarms.values())} false alarms{tally}{told}"


def false_alarms(wanted: int) -> Alarms:
    """gradcheck of every op of the package at inputs that Hypothesis draws, `wanted` times in all."""
    from hypothesis import HealthCheck, given, seed, settings

    from minigrad.errors import MinigradError
    from minigrad.op import registry
    from minigrad.testing import gradcheck
    from minigrad.testing.calls import calls

    ops = list(registry())
    verdicts: Counter[str] = Counter()
    first: list[str] = []
    done = 0

    def examine(call: Any) -> None:
        nonlocal done
        if done >= wanted or not any(x.dtype.kind == "f" for x in call.arrays):
            return
        done += 1
        try:
            report = gradcheck(call, call.arrays)
            verdict, text = report.verdict, str(report)
            if report:
                return
        except MinigradError as error:
            verdict, text = type(error).__name__, described(error)
        verdicts[verdict] += 1
        if verdicts[verdict] <= 3:
            first.append(f"{call!r}\n{text}")

    for i in range(wanted):  # rounds: an op of which fewer calls can be drawn leaves its share to the next
        share = -(-(wanted - done) // len(ops))
        for op in ops:
            bench.progress(f"{op.name}: {done:,} of {wanted:,} checks done")
            drawn = settings(max_examples=share, database=None, deadline=None, suppress_health_check=list(HealthCheck))(
                seed(i)(given(calls(op, empty=False))(examine))
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                drawn()
        if done >= wanted:
            break
    bench.progress("")
    return Alarms(done, len(ops), verdicts, first)


def checked(name: str) -> str:
    """check_op of the op of that name, with the ci profile's number of examples: the report, if it is false."""
    from minigrad.op import registry
    from minigrad.testing.check_op import check_op
    from minigrad.testing.plugin import PROFILES

    op = next(op for op in registry() if op.name == name)
    report = check_op(op, examples=PROFILES["ci"]["max_examples"])
    return "" if report else str(report)


def speed() -> list[tuple[str, float, float]]:
    """(what, got, at most) of three larger checks."""
    import minigrad as mg
    from minigrad.book import TwoLayerNet
    from minigrad.op import registry
    from minigrad.testing import check_model, gradcheck

    rng = np.random.default_rng(0)
    bench.progress("a function of a million parameters")
    x, W = rng.normal(size=(2, 1000)), rng.normal(size=(1000, 1000)) / 30
    calls = [gradcheck(lambda W: mg.sum(mg.tanh(mg.matmul(x, W))), W, directions=n).calls for n in (3, 4)]

    bench.progress("the book's network")
    net = TwoLayerNet(784, 50, 10, seed=0)
    batch, labels = rng.random((3, 784)), rng.integers(0, 10, 3)
    began = time.perf_counter()
    check_model(net, None, batch, labels)
    network = time.perf_counter() - began

    names = [op.name for op in registry()]
    began = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:  # the bound is for two cores
        for name, refused in zip(names, pool.map(checked, names), strict=True):
            bench.progress(f"check_op: {name}")
            if refused:
                print(refused)
    every_op = time.perf_counter() - began
    bench.progress("")
    return [
        (
            "evaluations of a function of 1,000,000 parameters for one more direction than 3, with which it is "
            f"evaluated {calls[0]} times in all",
            calls[1] - calls[0],
            12,
        ),
        ("seconds for the book's 784-50-10 network", network, 2),
        ("seconds for check_op over every op with the examples of the ci profile, in two processes", every_op, 180),
    ]


def verdict(what: str, got: float, limit: float, missed: str = "NOT reached") -> str:
    """One number beside the one that is wanted."""
    return f"{what}: {got:.3g}, wanted at most {limit:g}: {'reached' if got <= limit else missed}"


TEXT = """What four gradient checkers make of the same backwards, right and wrong ones, each with its default settings:
`gradcheck` and `check_layer` of minigrad.testing, `gradcheck` (and `gradgradcheck`) of PyTorch, `check_grads` of
JAX and of autograd, both in reverse mode. A wrong backward is *caught* or **MISSED**, a right one is *right* or a
**FALSE ALARM**. For minigrad the verdict of its report stands beside it.

Each case is written once, in plain NumPy, and handed to every checker as a function of the user's own: an `Op`, a
`torch.autograd.Function`, a `jax.custom_vjp` that calls back, an autograd `primitive`. relu, abs, max, clip,
sigmoid and dropout, where they are right, are the frameworks' own instead, where they have them. minigrad is asked
twice where it can be, by the `Op` and by the two plain functions with `vjp=`, and must be right both times; where the
verdicts differ, both are shown. Inputs are float64, with JAX's 64 bits allowed, unless the case says float32.

*Caught* is any refusal. A checker that refuses the right function too, as PyTorch does with float32 and dropout,
catches the wrong one without having seen what is wrong. minigrad's `inconclusive` and `vacuous` refuse as well: there
these inputs cannot tell right from wrong, and a check that says so has not passed. The checkers that draw one random
direction are asked with one seed: JAX has no other, and autograd, with 40 others, caught 6 to 9 of the eleven
planted mistakes."""

COMMAND = "python benchmarks/checkers.py"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, with what is wrong in it in bold."""
    cells = [[f"**{cell}**" if cell in ("MISSED", "FALSE ALARM") else cell for cell in row] for row in rows]
    bars = "|---" * len(head) + "|"
    return [f"| {' | '.join(head)} |", bars, *(f"| {' | '.join(row)} |" for row in cells), ""]


def versions() -> str:
    """Of Python, and of what is loaded by now."""
    return ", ".join(f"{name} {version}" for name, version in bench.versions().items())


def page(results: Results, names: Sequence[str], alarms: Alarms, measured: Sequence[tuple[str, float, float]]) -> str:
    """docs/checkers.md as it should be."""
    general = [(case, outcomes) for case, outcomes in results if case.theme != PLANTED]
    special = [(case, outcomes) for case, outcomes in results if case.theme == PLANTED]
    wrong = sum(not case.right for case, _ in results)
    conditions = bench.conditions(date.today().isoformat(), bench.machine(), bench.versions())
    lines = ["# Gradient checkers, compared", "", TEXT, "", conditions, ""]
    lines += [f"Written by `{COMMAND} --write`; do not edit by hand. To see the tables again:", ""]
    lines += ["```sh", COMMAND, "```", "", "## Totals", ""]
    lines += [f"{len(results)} cases: {wrong} wrong backwards, {len(results) - wrong} right ones.", ""]
    lines += markdown(["", *names], totals(results, names))
    for theme, part in themes(general).items():
        lines += [f"## {theme}", "", *markdown(head(names), [row(case, outcomes) for case, outcomes in part])]
    lines += [f"## {PLANTED}", ""]
    lines += markdown(head(names), [row(case, outcomes) for case, outcomes in special])
    lines += markdown(["", *names], totals(special, names))
    notes = dict.fromkeys(f"{name}: {why}" for case, _ in results for name, why in case.absent.items() if name in names)
    lines += [f"*n/a*: the case cannot be put to this checker. {'; '.join(notes)}.", ""] if notes else []
    lines += ["## False alarms on minigrad's own ops", "", f"`{COMMAND} --false-alarms {alarms.checks}`", ""]
    lines += ["gradcheck of every op of the package, at inputs drawn from what the op declares. `vacuous` is no false"]
    lines += ["alarm: where maximum(x, y) never takes y, the check has not seen y's gradient, and says so."]
    lines += ["", f"{alarms}.", ""]
    lines += ["## Speed", "", f"`{COMMAND} --speed`", ""]
    for what, got, limit in measured:
        lines.append(
            f"- {what}: {got:.3g}, wanted at most {limit:g}: {'reached' if got <= limit else '**not reached**'}"
        )
    return "\n".join(lines).rstrip() + "\n"


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for cells in [head, *rows]:
        print("  ".join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True)).rstrip())
    print()


def main() -> None:
    """Print what is asked for, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/checkers.md, with 10000 checks and the speed")
    parser.add_argument("--false-alarms", type=int, metavar="N", help="check minigrad's own ops N times, and only that")
    parser.add_argument("--speed", action="store_true", help="measure three larger checks, and only that")
    parser.add_argument("--details", action="store_true", help="also print why each case was refused")
    chosen = parser.parse_args()
    only = (chosen.false_alarms is not None or chosen.speed) and not chosen.write
    alarms = measured = None
    if chosen.speed or chosen.write:  # first, before the others' threads are about
        measured = speed()
        for what, got, limit in measured:
            print(verdict(what, got, limit))
    if chosen.false_alarms is not None or chosen.write:
        alarms = false_alarms(10000 if chosen.false_alarms is None else chosen.false_alarms)
        print("\n\n".join([f"{alarms}", *alarms.first]))
    if only:
        return
    checkers = installed()
    names = [checker.name for checker in checkers]
    results = run(checkers)
    for theme, part in themes(results).items():
        print(theme)
        show(head(names), [row(case, outcomes) for case, outcomes in part])
        if chosen.details:
            for case, outcomes in part:
                print("\n".join(f"{case.name}: {n}: {o.detail}" for n, o in outcomes.items() if o.detail))
    planted = [(case, outcomes) for case, outcomes in results if case.theme == PLANTED]
    print(f"{PLANTED}: totals")
    show(["", *names], totals(planted, names))
    print("All: totals")
    show(["", *names], totals(results, names))
    print(versions())
    if chosen.write:
        assert alarms is not None
        assert measured is not None
        if len(names) < len(CHECKERS):
            sys.exit("no page written: it wants all four checkers")
        PAGE.write_text(page(results, names, alarms, measured), encoding="utf-8")
        print(f"wrote {PAGE.relative_to(bench.ROOT)}")


if __name__ == "__main__":
    main()
