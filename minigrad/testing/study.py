"""step_size_study: the error of a difference for every step, the book's page on h = 1e-50 made visible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, DTypeError, describe
from minigrad.testing.numerical import result_of

__all__ = ["StepSizeStudy", "step_size_study"]

_STEPS = (*(10.0 ** (-k / 2) for k in range(1, 41)), 1e-30, 1e-50)


@dataclass(frozen=True)
class StepSizeStudy:
    """The relative errors of the forward and the central difference of f at x, for each step h.

    h, forward, central: one entry each for a step; an error of 1 is that of a difference that came out as 0.

    >>> study = step_size_study(np.exp, 1.0, np.exp)
    >>> len(study.h) == len(study.central), max(study.central) == 1
    (True, True)
    """

    x: float
    slope: float
    h: tuple[float, ...]
    forward: tuple[float, ...]
    central: tuple[float, ...]

    def best(self, method: str = "central") -> float:
        """The step with the least error: near sqrt(eps) for "forward", near cbrt(eps) for "central".

        >>> 1e-7 < step_size_study(np.exp, 1.0, np.exp).best() < 1e-3
        True
        """
        errors = self._errors(method)
        return self.h[min(range(len(errors)), key=errors.__getitem__)]

    def order(self, method: str = "central") -> float:
        """How the error falls with long steps, as h**order: 1 for "forward", 2 for "central"; nan if it never falls.

        >>> study = step_size_study(np.exp, 1.0, np.exp)
        >>> round(study.order("forward")), round(study.order("central"))
        (1, 2)
        """
        errors, best = self._errors(method), self.best(method)
        # From h = 0.1 to a decade above the best step, where roundings begin to show.
        points = [
            (math.log(h), math.log(e)) for h, e in zip(self.h, errors, strict=True) if 10 * best < h <= 0.1 and e > 0
        ]
        if len(points) < 2:
            return math.nan
        x, y = zip(*points, strict=True)
        return float(np.polyfit(x, y, 1)[0])

    def _errors(self, method: str) -> tuple[float, ...]:
        if method not in ("forward", "central"):
            raise ArgumentError(
                "StepSizeStudy: method", f"method={method!r}", '"forward" or "central"', 'pass method="central"'
            )
        return self.forward if method == "forward" else self.central

    def plot(self, path: str | Path | None = None) -> Any:
        """Draws both errors over h with Matplotlib; returns the figure, saved at path where one is given.

        Raises ImportError without Matplotlib: pip install matplotlib.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("StepSizeStudy.plot draws with Matplotlib: pip install matplotlib") from error
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        shown = [i for i, h in enumerate(self.h) if h >= 1e-20]
        h = [self.h[i] for i in shown]
        styles = {
            "forward": ("tab:orange", "s", "(f(x + h) - f(x)) / h"),
            "central": ("tab:blue", "o", "(f(x + h) - f(x - h)) / 2h"),
        }
        for method, (color, marker, label) in styles.items():
            errors = [max(self._errors(method)[i], 1e-17) for i in shown]
            axes.loglog(h, errors, color=color, marker=marker, markersize=4, label=label)
            best = self.best(method)
            axes.axvline(best, color=color, linestyle=":", linewidth=1)
            left = method == "central"
            axes.annotate(
                f"best h {best:.0e}",
                (best, 3e-16),
                xytext=(-4 if left else 4, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                color=color,
                fontsize=9,
            )
        axes.axhline(1.0, color="gray", linewidth=0.8)
        axes.annotate("the difference is 0: h is lost in x + h", (h[-1], 2.5), fontsize=9, color="gray", ha="right")
        axes.invert_xaxis()
        axes.set(
            xlabel="h",
            ylabel="relative error",
            title=f"Differences of f at {self.x:g}, for every step",
            ylim=(1e-16, 30),
        )
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(loc="lower right")
        if path is not None:
            figure.savefig(path)
        return figure

    def __str__(self) -> str:
        lines = [f"differences at x = {self.x:g}, where f'(x) = {self.slope:.6g}"]
        lines.append("h        error of forward  error of central")
        for i, h in enumerate(self.h):
            if i % 2 or h < 1e-20:
                lines.append(f"{h:.0e}    {self.forward[i]:.1e}           {self.central[i]:.1e}")
        for method in ("forward", "central"):
            lines.append(f"{method}: error falls as h**{self.order(method):.1f}, best h {self.best(method):.0e}")
        return "\n".join(lines)


def step_size_study(f: Callable[[float], Any], x: float, df: Callable[[float], Any] | float) -> StepSizeStudy:
    """error(h) = abs(difference(h) - f'(x)) / abs(f'(x)), for steps h from 0.3 down to 1e-50.

    f: from a number to a number. x: the number. df: its derivative, a function or the number f'(x).
    Long steps err by what is left of the Taylor series, h for the forward and h**2 for the central difference; short
    ones by what float64 rounds off in f, eps / h; and where x + h is x, nothing is left.
    Raises DTypeError for what is no number, ArgumentError where f'(x) is 0 or not finite.
    Source: Deep Learning from Scratch, section 4.3.1.

    >>> study = step_size_study(np.exp, 1.0, np.exp)
    >>> study.central[study.h.index(1e-50)]
    1.0
    >>> study.best("forward") < study.best("central")
    True
    """
    name = "step_size_study"
    if isinstance(x, bool) or not isinstance(x, (int, float, np.number)):
        raise DTypeError(f"{name}: x", describe(x), "a number", "pass x=1.0, for example")
    x = float(x)
    slope = float(result_of(f"{name}: df", df(x) if callable(df) else df))
    if slope == 0 or not math.isfinite(slope):
        raise ArgumentError(
            f"{name}: df", f"f'({x:g}) = {slope}", "a derivative other than 0: errors are relative", "choose another x"
        )

    def value(at: float) -> float:
        return result_of(name, f(at))

    forward, central = [], []
    for h in _STEPS:
        forward.append(abs((value(x + h) - value(x)) / h / slope - 1))
        central.append(abs((value(x + h) - value(x - h)) / (2 * h) / slope - 1))
    return StepSizeStudy(x, slope, _STEPS, tuple(forward), tuple(central))
