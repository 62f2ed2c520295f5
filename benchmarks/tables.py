"""Write docs/benchmarks.md with its plots and docs/accuracy.md: run every benchmark, set its tables in Markdown.

    python benchmarks/tables.py            all of it, about 25 minutes on an idle machine
    python benchmarks/tables.py accuracy   one script alone; the others keep the results of their last run
    python benchmarks/tables.py --draw     nothing anew: pages and plots from the results that are kept

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
import plots

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"

# script, options
RUNS = [
    ("speed", ["--threads", "1"]),
    ("speed", ["--threads", "default"]),
    ("scaling", ["--threads", "1"]),
    ("memory", ["--threads", "1"]),
    ("fused", ["--threads", "1"]),
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
    lines += [f"- {note}" for note in found.get("notes", [])]
    return [*lines, ""]


def draw(results: dict[str, Any], folder: Path) -> list[str]:
    """Draw the plots into a folder; the lines that show them."""
    folder.mkdir(exist_ok=True)
    speed, growth = results["speed --threads 1"], results["scaling --threads 1"]
    works = speed["works"]
    plots.ratios(works, folder / "ratios.svg")
    plots.sizes(works, folder / "sizes.svg")
    plots.growth(growth["growth"], folder / "growth.svg")
    plots.roofs(works, speed["rates"], folder / "roofline.svg")
    texts = {
        "ratios": "minigrad's time over each peer's, work by work: left of 1 minigrad is faster",
        "sizes": "nanoseconds a value of sigmoid, softmax cross-entropy and layer norm, forward and backward",
        "growth": "seconds for a node, a sample, a flop of a product, a layer, as there are more of them",
        "roofline": "what is reached of the rates of a copy and of a matrix product",
    }
    return [line for name, text in texts.items() for line in (f"![{text}]({folder.name}/{name}.svg)", "")]


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


def page(title: str, text: str, results: dict[str, Any], scripts: list[tuple[str, list[str]]], shown: list[str]) -> str:
    """A whole page from the results of these runs; shown: lines before the first of them."""
    found = [(script, results[" ".join([script, *arguments])]) for script, arguments in scripts]
    lines = [f"# {title}", "", text, "", *conditions([result for _, result in found]), *shown]
    for script, result in found:
        lines += section(script, result)
    return "\n".join(lines).rstrip() + "\n"


SPEED = """Contestants take turns in one process; each time is the median of many turns. Ratios of two medians of
one run mean something on any machine, the times themselves only on this one. Hand-written NumPy is the control:
it does not touch minigrad, and every contestant gives its results, or is not timed. What each script does, and what
is wanted of it, is said at its top. The plots are of the runs with one thread."""

# Read beside the verdicts above it: what the profile says of each that is not reached.
MISSED = """## What is not reached, and why

- *A chain at 0.5 of PyTorch, 1.8 x hand-written NumPy.* Its ufuncs take 0.9 us a node, as by hand, the rest of about
  2.7 us is two Python frames, a Tensor, a node, two tuples and the walk's dictionaries; no single line of it is more
  than 60 ns. Compiled, the chain takes what hand-written NumPy takes.
- *The book's steps.* Compiled they take 0.9 to 1.15 of the hand-written NumPy, which itself is at 0.3 to 0.75 of
  PyTorch here: the targets lie below that control. The two large matrix products of 784-50-10 alone are half of
  PyTorch's whole step, and OpenBLAS makes them at the rate of the roofline. With PyTorch's own nn and optim in place of
  updates by hand, which is what most people write, a small step takes PyTorch 1.5 times as long, minigrad hardly more.
- *784-1024-1024-10:* nothing but products. JAX's are 1.15 times as fast as OpenBLAS's here.
- *Sigmoid of 10^3:* some ten NumPy calls of 0.4 to 0.9 us, 1.3 us for NumPy's error state, 1 us for the look at what is
  outside. *Of 10^6:* NumPy's exp alone takes 0.45 ns a value, PyTorch's whole forward 0.4. An op works in blocks of its
  own there, so that compiled it takes as long as eager.
- *Softmax cross-entropy (100, 10):* 26 NumPy calls for the accuracy in both tails. *(1024, 1000):* exp runs in float64,
  which float32 results within half a unit in the last place want: half of the time.
- *Fused sigmoid at least 1.5 x faster than unfused, from 10^5 values on.* Both are made of the same number of passes
  until memory decides; the unfused graph is wrong in one tail.
- *Cross-entropy at least 3 x at (1024, 1000), float64:* the rounding of x - max is put back and rows are summed twice,
  which the bound of 4 units in the last place wants.
- *An LSTM at most 0.8 x PyTorch.* At 128 hidden values the matrix products alone take most of PyTorch's whole step; at
  64 an LSTM written by hand in NumPy is hardly faster than PyTorch's.
- *Native code for merged calls.* numba makes one loop of a chain: an update of SGD with momentum on 10^6 values takes
  0.3 of NumPy's time in blocks, a chain with maximum and absolute 0.85, one with an exp 6 times as long. Updates are a
  few percent of a step, so there is no such backend.
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
    parser.add_argument("--draw", action="store_true", help="run nothing, write pages and plots anew")
    parser.add_argument("--docs", default=DOCS, type=Path, help="the folder to write to")
    chosen = parser.parse_args()
    unknown = set(chosen.scripts) - {script for script, _ in RUNS}
    if unknown:
        parser.error(f"no script {', '.join(sorted(unknown))}; there are {', '.join(dict(RUNS))}")
    results = json.loads(chosen.keep.read_text()) if chosen.keep.exists() else {}
    for script, arguments in [] if chosen.draw else RUNS:
        if not chosen.scripts or script in chosen.scripts:
            found = measure(script, [*arguments, *(["--quick"] if chosen.quick else [])])
            results[" ".join([script, *arguments])] = found
            chosen.keep.write_text(json.dumps(results))
    missing = [key for key in (" ".join([s, *a]) for s, a in RUNS) if key not in results]
    if missing:
        sys.exit(f"no page written: still to be run: {', '.join(missing)}")
    chosen.docs.mkdir(exist_ok=True)
    speed = [run for run in RUNS if run[0] != "accuracy"]
    shown = draw(results, chosen.docs / "benchmarks")
    (chosen.docs / "benchmarks.md").write_text(page("Benchmarks", SPEED, results, speed, shown) + "\n" + MISSED)
    digits = [run for run in RUNS if run[0] == "accuracy"]
    (chosen.docs / "accuracy.md").write_text(page("Accuracy", DIGITS, results, digits, []))
    print(f"wrote benchmarks.md with its plots and accuracy.md to {chosen.docs.name}")


if __name__ == "__main__":
    main()
