"""What `import minigrad` costs over `import numpy`: fresh processes, the two in turn, medians.

Wanted: at most 50 ms.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

import bench


def seconds(code: str, cache: str) -> float:
    """The time of a Python process that runs code, from start to end; its bytecode lies in cache."""
    env = {**os.environ, "PYTHONPATH": str(bench.ROOT), "PYTHONPYCACHEPREFIX": cache}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    return time.perf_counter() - began


def main() -> None:
    """Run both in turn and print the difference of the medians."""
    chosen = bench.options(__doc__)
    report = bench.Report("Import time", chosen)
    codes = {"python": "pass", "import numpy": "import numpy", "import minigrad": "import numpy, minigrad"}
    times: dict[str, list[float]] = {name: [] for name in codes}
    rounds = 5 if chosen.quick else 40
    with tempfile.TemporaryDirectory() as cache:
        for code in codes.values():
            seconds(code, cache)  # writes the bytecode
        for i in range(rounds):
            bench.progress(f"round {i + 1} of {rounds}" if i % 10 == 0 or sys.stderr.isatty() else "")
            for name, code in codes.items():
                times[name].append(seconds(code, cache))
    bench.progress("")
    medians = {name: statistics.median(values) for name, values in times.items()}
    over = [b - a for a, b in zip(times["import numpy"], times["import minigrad"], strict=True)]
    rows = [(name, bench.duration(median)) for name, median in medians.items()]
    report.table("A process that does nothing else", ("", "median"), rows)
    print()
    report.wanted("import minigrad over import numpy, ms", statistics.median(over) * 1e3, 50)
    import minigrad  # noqa: F401  # for the versions below

    report.close()


if __name__ == "__main__":
    main()
