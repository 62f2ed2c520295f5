"""The plots of docs/benchmarks.md, drawn by tables.py from what speed.py and scaling.py found.

Text stays text. Lines and letters take the colour of the page, light or dark; nothing in a file tells when, where or
with which folder it was drawn, so that the same results give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench
import contest
import roofline

# Told apart by colour and by marker, on a light ground and on a dark one.
STYLES: dict[str, tuple[str, str]] = {
    contest.CONTROL: ("#8a8a8a", "x"),
    "minigrad": ("#2b83d6", "o"),
    "minigrad, compiled": ("#e8590c", "D"),
    "PyTorch": ("#2f9e44", "s"),
    "torch.compile": ("#0ca678", "P"),
    "JAX, jit": ("#ae3ec9", "^"),
    "autograd": ("#b08900", "v"),
    "MyGrad": ("#e64980", "<"),
    "MLX, compile": ("#7c6fe0", ">"),
    "tinygrad, jit": ("#d6336c", "*"),
}
INK = "#010203"  # stands for the page's colour until the file is written
THEME = """<style>:root{color:#1b1b1b;background:#fff}
@media (prefers-color-scheme:dark){:root{color:#e4e4e4;background:#17181b}}</style>"""


def pyplot() -> Any:
    """matplotlib's pyplot with the settings of all plots."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    inks = ("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color", "xtick.color", "ytick.color")
    plt.rcParams.update(
        dict.fromkeys(inks, INK)
        | {
            "svg.fonttype": "none", "svg.hashsalt": "minigrad", "font.size": 9, "axes.titlesize": 10,
            "font.family": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans", "sans-serif"],
            "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "grid.color": "#808080",
            "grid.alpha": 0.3, "grid.linewidth": 0.6, "axes.grid": True, "axes.facecolor": "none",
            "figure.facecolor": "none", "savefig.facecolor": "none", "lines.markersize": 5, "lines.linewidth": 1.3,
        }
    )  # fmt: skip
    import logging

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # any of the fonts will do
    return plt


def written(figure: Any, path: Path, title: str) -> None:
    """The figure as an SVG without dates and makers, in the colours of the page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Title": title, "Date": None, "Creator": None, "Format": None})
    text = file.getvalue().replace(INK, "currentColor")
    head, tag, rest = text.partition("<defs>")
    path.write_text(head + THEME + tag + rest)


def logarithmic(ax: Any, form: Callable[[float], str] = "{:g}".format) -> None:
    """Both axes logarithmic; y's ticks in words, as many as there is room for."""
    from matplotlib import ticker

    ax.set(xscale="log", yscale="log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1,) if high / low > 200 else (1, 2, 5)))
    ax.yaxis.set_major_formatter(lambda y, _: form(y))
    ax.minorticks_off()


def legend(figure: Any, names: list[str], plt: Any, columns: int = 5) -> None:
    """Names and markers under the axes."""
    handles = [
        plt.Line2D([], [], color=STYLES[name][0], marker=STYLES[name][1], ls="", label=name)
        for name in STYLES
        if name in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handletextpad=0.2, columnspacing=1.2)


def ratios(works: list[dict[str, Any]], path: Path) -> None:
    """Time over each peer's, one row a work: minigrad as it is, and compiled."""
    plt = pyplot()
    sides = [who for who in ("minigrad", "minigrad, compiled") if any(who in work["medians"] for work in works)]
    figure, axes = plt.subplots(
        1, len(sides), figsize=(10, 0.24 * len(works) + 1.6), sharey=True, squeeze=False, layout="constrained"
    )
    peers = [name for name in STYLES if not name.startswith("minigrad")]
    shown = [name for name in peers if any(name in work["medians"] for work in works)]
    for ax, who in zip(axes[0], sides, strict=True):
        for y, work in enumerate(works):
            times = work["medians"]
            for name in shown:
                if who in times and name in times:
                    colour, marker = STYLES[name]
                    ax.plot(times[who] / times[name], y, marker=marker, color=colour, ls="")
        ax.axvline(1, color=INK, lw=1)
        ax.set(xscale="log", title=f"{who}: time / a peer's", xlabel="faster than the peer  |  slower than the peer")
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        ax.minorticks_off()
        ax.grid(axis="y", alpha=0.15)
    axes[0][0].set_yticks(range(len(works)), [contest.label(work) for work in works])
    axes[0][0].invert_yaxis()
    legend(figure, shown, plt, 4)
    written(figure, path, "minigrad's time over each peer's")
    plt.close(figure)


def ops(works: list[dict[str, Any]]) -> list[str]:
    """The families of single ops."""
    return [family for family in dict.fromkeys(w["family"] for w in works) if "forward and backward" in family]


def sizes(works: list[dict[str, Any]], path: Path) -> None:
    """Time a value of the single ops, over how many values there are."""
    plt = pyplot()
    families = ops(works)
    figure, axes = plt.subplots(1, len(families), figsize=(10, 3.6), squeeze=False, layout="constrained")
    names: list[str] = []
    for ax, family in zip(axes[0], families, strict=True):
        chosen = [work for work in works if work["family"] == family]
        for name, (colour, marker) in STYLES.items():
            points = [(w["size"], 1e9 * w["medians"][name] / w["size"]) for w in chosen if name in w["medians"]]
            if points:
                names.append(name)
                ax.plot(*zip(*points, strict=True), color=colour, marker=marker)
        logarithmic(ax)
        ax.set(title=family.split(",")[0], xlabel="values", ylabel="ns a value")
    legend(figure, names, plt)
    written(figure, path, "time a value of single ops as they grow")
    plt.close(figure)


def growth(found: dict[str, Any], path: Path) -> None:
    """The cost of a unit of work as nodes, batch, width and depth grow."""
    plt = pyplot()
    rows = (len(found) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(10, 3.2 * rows + 0.4), squeeze=False, layout="constrained")
    names: list[str] = []
    for ax in axes.flat[len(found) :]:
        ax.remove()
    for ax, (axis, part) in zip(axes.flat, found.items(), strict=False):
        for name, points in part["curves"].items():
            if points:
                names.append(name)
                colour, marker = STYLES[name]
                ax.plot(*zip(*points, strict=True), color=colour, marker=marker)
        logarithmic(ax, bench.duration)
        ax.set(xlabel=axis, title=f"time per {part['unit']}")
    legend(figure, names, plt)
    written(figure, path, "cost of a unit of work as work grows")
    plt.close(figure)


def roofs(works: list[dict[str, Any]], rates: dict[str, Any], path: Path) -> None:
    """Bytes a second under the rate of a copy; flops a second under the copy's and the matrix product's rates."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    left.plot(*zip(*((size, rate / 1e9) for size, rate in rates["copy"]), strict=True), color=INK, lw=1)
    slowest, product = rates["copy"][-1][1], rates["product"]
    intensities = [2.0**k for k in range(-1, 13)]
    right.plot(intensities, [min(i * slowest, product) / 1e9 for i in intensities], color=INK, lw=1)
    names = [name for name in roofline.SHOWN if any(name in work["medians"] for work in works)]
    products = sorted((w for w in works if w["flops"]), key=lambda w: float(w["flops"] / w["bytes"]))
    for name in names:
        colour, marker = STYLES[name]
        for family, line in zip(ops(works), ("-", ":", "--"), strict=False):
            chosen = [work for work in works if work["family"] == family and name in work["medians"]]
            points = [(work["bytes"], work["bytes"] / work["medians"][name] / 1e9) for work in chosen]
            left.plot(*zip(*points, strict=True), color=colour, marker=marker, ls=line)
        for work in products:
            if name in work["medians"]:
                place = work["flops"] / work["bytes"], work["flops"] / work["medians"][name] / 1e9
                right.plot(*place, color=colour, marker=marker, ls="")
    lowest = min(w["flops"] / t / 1e9 for w in products for name, t in w["medians"].items() if name in names)
    for i, work in enumerate(products):
        # In turns on lines of their own: works of nearly the same intensity stand beside one another.
        height = lowest * 0.72 ** (i % 4 + 1)
        right.text(work["flops"] / work["bytes"], height, contest.label(work), size=7, ha="center", va="top")
    logarithmic(left)
    left.set(xlabel="bytes that have to be moved", ylabel="GB/s")
    looks = zip(ops(works), ("solid", "dotted", "dashed"), strict=False)
    left.set_title("line: a copy; " + ", ".join(f"{family.split(',')[0]} {look}" for family, look in looks))
    right.set_ylim(bottom=lowest * 0.72**6)
    logarithmic(right)
    right.set(xlabel="flops of products for each byte that has to be moved", ylabel="Gflop/s")
    right.set_title("line: a copy from memory, a matrix product")
    legend(figure, names, plt)
    written(figure, path, "roofline")
    plt.close(figure)
