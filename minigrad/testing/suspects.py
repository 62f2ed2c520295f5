"""The mistake behind a wrong gradient, told from how it differs from the right one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["suspect"]

Array = NDArray[Any]

# How alike two ratios are that stand for one mistake: coarser than any error bar that led here.
_ALIKE = 1e-3


def suspect(
    analytic: Array,
    numeric: Array,
    sizes: Collection[int],
    *,
    wrong: int | None = None,
    of: int | None = None,
    only_factor: bool = False,
    known_factor: bool = False,
) -> str:
    """What may have gone wrong, in a few words; empty where nothing is recognised and only_factor is asked for.

    analytic, numeric: derivatives by the rule and by differences, of one shape. sizes: lengths by which it may be
        divided, or not. wrong, of: how many of how many entries are off. known_factor: name a factor only if it is
        one that people forget, since of a single pair any number is one.

    >>> suspect(np.array([2.0, 4.0]), np.array([0.5, 1.0]), {4})
    'it is 4 times too large: a division by 4 is missing'
    >>> suspect(np.array([-2.0, 4.0]), np.array([2.0, -4.0]), {4})
    'the sign is wrong'
    """
    a, n = np.ravel(analytic), np.ravel(numeric)
    if not a.size:
        return ""
    if not np.isfinite(a).all():
        return "the gradient is not finite"
    large = abs(n) > 1e-6 * np.max(abs(n), initial=0.0)
    if not np.any(a[large]) and large.any() and not np.any(a):
        return "the gradient is 0: it was never computed or never set, or a factor of it vanished"
    if large.any():
        ratios = a[large] / n[large]
        ratio = float(np.median(ratios))
        rest = np.max(abs(a[~large]), initial=0.0)  # what should be 0, or next to it
        mostly_right = abs(ratio - 1) <= _ALIKE and wrong is not None and of is not None and wrong < of
        alike = np.all(abs(ratios - ratio) <= _ALIKE * abs(ratio)) and rest <= _ALIKE * np.max(abs(a))
        if alike and not mostly_right:
            # Of entries that are right but for a few digits, the one that is off most.
            worst = float(ratios[np.argmax(abs(ratios - 1))])
            return _factor(worst if abs(ratio - 1) <= _ALIKE else ratio, sizes, known_factor)
    if only_factor or known_factor:
        return ""
    offset = a - n
    if a.size > 2 and np.ptp(offset) <= _ALIKE * np.max(abs(offset)):
        return f"every entry is off by {offset.flat[0]:.6g}: a term is missing or one too many"
    if wrong is not None and of is not None and wrong < of:
        off = a[abs(a - n) > _ALIKE * abs(n)]
        missing = " and is 0 there" if off.size and not np.any(off) else ""
        return f"it is off in {wrong} of {of} entries{missing}, and right in the others"
    return "it differs in no simple way: compare the rule with the formula, term by term"


def _factor(ratio: float, sizes: Collection[int], known: bool) -> str:
    if abs(ratio + 1) <= _ALIKE:
        return "the sign is wrong"
    for n in sorted(sizes):
        if abs(ratio / n - 1) <= _ALIKE:
            return f"it is {n} times too large: a division by {n} is missing"
        if abs(ratio * n - 1) <= _ALIKE:
            return f"it is {n} times too small: it is divided by {n} once too often"
    if known and not any(abs(ratio * n - round(ratio * n)) <= _ALIKE * n for n in (1, 2)):
        return ""
    if abs(ratio - 1) <= _ALIKE:
        return f"it is off by a relative {abs(ratio - 1):.1g}: a constant is not exact, or digits cancel"
    return f"it is {ratio:.6g} times what it should be"
