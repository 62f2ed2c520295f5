"""What the benchmarks share: options, threads, contestants that may be missing, interleaved medians, tables.

Import this module before NumPy and call `options` first: a number of threads has to be in the environment
before NumPy or PyTorch is loaded, so the script starts itself again where it is not.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # measure the checkout that the script lies in

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUM_CPU_THREADS",
)
JAX_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

Step = Callable[[], Any]


def options(description: str | None, extra: Callable[[argparse.ArgumentParser], Any] | None = None) -> Any:
    """The command line's options, with the number of threads in force; starts the script again to set it.

    extra: a function that adds options of the script's own to the parser.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: to see that it works")
    parser.add_argument("--threads", choices=["default", "1"], default="default", help="for NumPy, PyTorch and JAX")
    parser.add_argument("--json", metavar="FILE", help="also write the results to FILE")
    if extra is not None:
        extra(parser)
    chosen = parser.parse_args()
    if chosen.threads == "1" and any(os.environ.get(name) != "1" for name in THREAD_VARIABLES):
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"), XLA_FLAGS=JAX_ONE_THREAD)
        sys.exit(subprocess.run([sys.executable, *sys.argv]).returncode)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    return chosen


def available(name: str) -> Any:
    """The module of that name, or None with a line that says it is left out."""
    if importlib.util.find_spec(name) is None:
        print(f"{name} is not installed: left out")
        return None
    return importlib.import_module(name)


def progress(text: str) -> None:
    """A line on standard error that says what is being done; rewritten in place on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def conditions(day: str, where: str, found: dict[str, str]) -> str:
    """When, on what and with which versions a page was measured."""
    return f"Measured on {day}. Machine: {where}. Versions: {', '.join(f'{k} {v}' for k, v in found.items())}."


def machine() -> str:
    """Processor, cores, system: nothing that names the machine itself."""
    model = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def versions() -> dict[str, str]:
    """The versions of Python and of what is loaded by now."""
    found = {"Python": platform.python_version()}
    for name in ("minigrad", "numpy", "torch", "jax", "autograd", "mygrad", "mlx", "tinygrad", "mpmath"):
        module = sys.modules.get(name)
        if module is not None:
            version = getattr(module, "__version__", None) or importlib.metadata.version(name)
            found[name] = str(version)
    return found


def race(steps: dict[str, Step], *, rounds: int, seconds: float, limit: float = float("inf")) -> dict[str, float]:
    """The median time of one call of each step, in seconds.

    rounds: how many turns each has; fewer, but 5 (or `rounds`) at least, where they would take more than `limit`
    seconds in all.

    The contestants take turns, in an order that moves on by one each round, so that a slow spell of the
    machine meets all of them alike. A turn is a burst of calls as long as `seconds`, after a few that are
    not counted: caches and threads that another contestant left spinning have then settled.
    """
    counts, turn = {}, 0.0
    for name, step in steps.items():
        progress(f"warming up: {name}" if sys.stderr.isatty() else "")
        step()
        began = time.perf_counter()
        step()
        once = max(time.perf_counter() - began, 1e-9)
        counts[name] = max(1, round(seconds / once))
        turn += once * (counts[name] + counts[name] // 4)
    rounds = int(min(rounds, max(5, limit / turn)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    gc.collect()
    gc.freeze()  # what the packages have loaded is not to be searched during the runs
    try:
        for i in range(rounds):
            progress(f"round {i + 1} of {rounds}: {', '.join(steps)}" if sys.stderr.isatty() or i == 0 else "")
            for name in order:
                step, n = steps[name], counts[name]
                for _ in range(n // 4):
                    step()
                began = time.perf_counter()
                for _ in range(n):
                    step()
                times[name].append((time.perf_counter() - began) / n)
            order.append(order.pop(0))
    finally:
        gc.unfreeze()
        if sys.stderr.isatty():
            progress("")
    return {name: statistics.median(values) for name, values in times.items()}


def duration(seconds: float) -> str:
    """A time to three digits, in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


class Report:
    """Tables and verdicts of one script: printed as they come, and written as JSON at the end."""

    def __init__(self, title: str, chosen: Any) -> None:
        self.content: dict[str, Any] = {
            "title": title, "threads": chosen.threads, "quick": chosen.quick, "tables": [], "wanted": [], "notes": [],
        }  # fmt: skip
        self.file: str | None = chosen.json
        print(f"{title}\n{machine()}; threads: {chosen.threads}")

    def table(self, name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table, the first column to the left and the others to the right."""
        cells = [[str(cell) for cell in row] for row in rows]
        self.content["tables"].append({"name": name, "head": list(head), "rows": cells})
        widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]
        print(f"\n{name}")
        for row in [list(head), *cells]:
            first, *others = (cell.rjust(w) for cell, w in zip(row, widths, strict=True))
            print("  ".join([row[0].ljust(len(first)), *others]).rstrip())

    def compare(self, name: str, medians: dict[str, float], base: str) -> None:
        """A table of medians, each beside its ratio to that of `base`."""
        rows = [(who, duration(t), f"{t / medians[base]:.2f}") for who, t in medians.items()]
        self.table(name, ("", "median", f"x {base}"), rows)

    def note(self, text: str) -> None:
        """Print a line that belongs under the tables."""
        self.content["notes"].append(text)
        print(text)

    def wanted(self, what: str, got: float, limit: float, *, at_least: bool = False) -> None:
        """Print one number beside the one that is wanted."""
        reached = got >= limit if at_least else got <= limit
        line = f"{what}: {got:.3g}, wanted {'at least' if at_least else 'at most'} {limit:g}"
        self.content["wanted"].append({"line": line, "reached": reached})
        print(f"{line}: {'reached' if reached else 'NOT reached'}")

    def close(self) -> None:
        """Print the versions and how busy the machine was, and write everything to the --json file."""
        load, cores = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
        if load > cores:
            print(
                f"\nThe load is {load:.1f} on {cores} cores: others are at work here, so times with threads mean little"
            )
        self.content["load"] = load
        self.content["versions"] = versions()
        self.content["machine"] = machine()
        self.content["date"] = date.today().isoformat()
        print("\n" + ", ".join(f"{name} {version}" for name, version in versions().items()))
        if self.file:
            Path(self.file).write_text(json.dumps(self.content, indent=1) + "\n")
