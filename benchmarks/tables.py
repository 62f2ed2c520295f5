"""Write docs/benchmarks.md and docs/accuracy.md: run every benchmark and set its tables in Markdown.

    python benchmarks/tables.py            all of it, about 15 minutes on an idle machine
    python benchmarks/tables.py accuracy   one script alone; the others keep the results of their last run

The results lie in a file between runs (--keep FILE, by default in the system's temporary folder).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import bench

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"

# script, options, heading where it is not the script's own
RUNS = [
    ("overhead", ["--threads", "default"]),
    ("book_step", ["--threads", "default"]),
    ("book_step", ["--threads", "1"]),
    ("fused", ["--threads", "1"]),
    ("fused", ["--threads", "default"]),
    ("growth", ["--threads", "default"]),
    ("conv", ["--threads", "1"]),
    ("recurrent", ["--threads", "1"]),
    ("optim", ["--threads", "1"]),
    ("numerical", ["--threads", "default"]),
    ("import_time", ["--threads", "default"]),
    ("accuracy", ["--threads", "default"]),
]


def measure(script: str, arguments: list[str]) -> dict[str, Any]:
    """What one run of a script found."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "result.json")
        subprocess.run([sys.executable, HERE / f"{script}.py", *arguments, "--json", file], check=True)
        return dict(json.loads(file.read_text()))


def markdown_table(table: dict[str, Any]) -> list[str]:
    """One table, numbers to the right."""
    lines = [f"**{table['name']}**", "", f"| {' | '.join(table['head'])} |"]
    lines.append("|---" + "|---:" * (len(table["head"]) - 1) + "|")
    lines += [f"| {' | '.join(row)} |" for row in table["rows"]]
    return [*lines, ""]


def section(script: str, found: dict[str, Any]) -> list[str]:
    """Heading, what the script says of itself, tables and verdicts of one run."""
    threads = "one thread" if found["threads"] == "1" else "default threads"
    lines = [f"## {found['title']}, {threads}", "", f"`python benchmarks/{script}.py --threads {found['threads']}`", ""]
    for table in found["tables"]:
        lines += markdown_table(table)
    lines += [f"- {w['line']}: {'reached' if w['reached'] else '**not reached**'}" for w in found["wanted"]]
    return [*lines, ""]


def conditions(results: list[dict[str, Any]]) -> list[str]:
    """Date, machine and versions, once for a page."""
    versions: dict[str, str] = {}
    for found in results:
        versions.update(found["versions"])
    return [
        bench.conditions(max(found["date"] for found in results), results[0]["machine"], versions),
        "",
        "Written by `python benchmarks/tables.py`, which runs the scripts; do not edit by hand.",
        "",
    ]


def page(title: str, text: str, results: dict[str, Any], scripts: list[tuple[str, list[str]]]) -> str:
    """A whole page from the results of these runs."""
    found = [(script, results[" ".join([script, *arguments])]) for script, arguments in scripts]
    lines = [f"# {title}", "", text, "", *conditions([result for _, result in found])]
    for script, result in found:
        lines += section(script, result)
    return "\n".join(lines).rstrip() + "\n"


SPEED = """Contestants take turns in one process; each time is the median of many turns. Ratios of two medians of
one run mean something on any machine, the times themselves only on this one. Hand-written NumPy is the control:
it does not touch minigrad. What each script does, and what is wanted of it, is said at its top."""

MISSED = """## What is not reached, and why

- *Overhead at most 1.8 x hand-written NumPy.* The five ufuncs of a round take 1.6 us; 1.8 x leaves 0.6 us a node
  for recording, walking and freeing together. A Python call, two objects and three tuples cost about 0.5 us, the walk
  0.5 us more. Ops directly on Tensor, one text of straight-line code per op and a walk without calls of its own
  brought it from 3.2 x to about 2.9 x.
- *The book's step at most 0.65 x PyTorch.* With one thread its two large matrix products alone take half of
  PyTorch's whole time in OpenBLAS, and hand-written NumPy takes 0.7 of it: the target lies below the control.
- *Fused sigmoid at least 1.5 x faster than unfused, from 10^5 values on.* Reached from 10^7 on, where memory decides.
  Below, both are made of the same number of passes: accuracy in both tails costs the fused one an absolute value and a
  choice, in float64 a correction too, and the unfused graph needs neither, being wrong there. An exp without them, with
  a branch on the largest value of a block, measured 1.2 x; ops do not branch on values.
- *Cross-entropy at least 3 x at (1024, 1000):* 2.8 to 2.9 in float32, since freed memory is kept between steps and the
  unfused graph is not faulted in anew any more. In float64 the rounding of x - max is put back and rows are summed
  twice, which the bound of 4 units in the last place wants, and which halves the speed: 1.2 to 1.4.
- *An LSTM at most 0.8 x PyTorch.* At 128 hidden values the matrix products alone take 0.71 to 0.84 of PyTorch's whole
  step; at 64 an LSTM written by hand in NumPy, with the textbook's slopes, takes 0.69 to 0.86. RNN and GRU are below.
"""

DIGITS = """The largest error in units in the last place against mpmath at 50 digits, and how many numbers are 0,
nan or inf where the true number is another one. Gradients are for an incoming gradient of 1, or one-hot for
softmax and log_softmax. An error beyond a million is shown as its power of ten. `logsumexp` near 0 is not in the
tables: where the sum of the exponentials is next to 1 its logarithm cancels, and every framework loses digits
there, minigrad too."""


def main() -> None:
    """Run what is asked for, keep the results, write both pages when everything has been run once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", help="names of scripts to run anew; all by default")
    parser.add_argument("--keep", default=Path(tempfile.gettempdir(), "minigrad-benchmarks.json"), type=Path)
    parser.add_argument("--quick", action="store_true", help="short runs: to see that it works")
    chosen = parser.parse_args()
    results = json.loads(chosen.keep.read_text()) if chosen.keep.exists() else {}
    for script, arguments in RUNS:
        key = " ".join([script, *arguments])
        if not chosen.scripts or script in chosen.scripts:
            results[key] = measure(script, [*arguments, *(["--quick"] if chosen.quick else [])])
            chosen.keep.write_text(json.dumps(results))
    missing = [key for key in (" ".join([s, *a]) for s, a in RUNS) if key not in results]
    if missing:
        sys.exit(f"no page written: still to be run: {', '.join(missing)}")
    DOCS.mkdir(exist_ok=True)
    speed = [run for run in RUNS if run[0] != "accuracy"]
    (DOCS / "benchmarks.md").write_text(page("Benchmarks", SPEED, results, speed) + "\n" + MISSED)
    digits = [run for run in RUNS if run[0] == "accuracy"]
    (DOCS / "accuracy.md").write_text(page("Accuracy", DIGITS, results, digits))
    print("wrote docs/benchmarks.md and docs/accuracy.md")


if __name__ == "__main__":
    main()
