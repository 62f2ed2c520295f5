"""Entries that have no part in a result, and what a walk knows of them.

An entry that an op did not select (where, clip, x[i] = v, x[i]) has no part in the result: what reaches it from there
is exactly nothing, also where a rule further up would make 0 * inf of it. Which entries have a part is carried up the
graph beside the gradient, as booleans (`Op.carry`); where nothing is carried, all have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from minigrad.sums import unbroadcast

__all__ = ["Selection", "choose", "of_chosen"]


class Selection:
    """When an op was last recorded that selects: a walk over older nodes carries nothing."""

    latest: ClassVar[int] = 0


@np.errstate(all="ignore")
def of_chosen(rule: Any, reached: Sequence[Any], dout: Any, saved: Sequence[Any], recorded: bool) -> tuple[Any, ...]:
    """What the rule gives, 0 where the argument's entry is not among those reached."""
    grads = rule(dout, *saved)
    grads = grads if type(grads) is tuple else (grads,)
    return tuple(
        # Entries without a part have dout = 0, and therefore 0, unless something is not finite.
        np.where(entries, g, 0)
        if entries is not None and g is not None and (recorded or not np.isfinite(np.add.reduce(g, None)))
        else g
        for g, entries in zip(grads, reached, strict=True)
    )


def choose(chosen: dict[Any, Any], node: Any, entries: Any, first: bool) -> None:
    """Note that another gradient, with these entries, has reached node. first: none had before."""
    if entries is None:
        chosen.pop(node, None)
        return
    if entries.shape != node.shape:
        entries = unbroadcast(entries, node.shape) != 0
    if first:
        chosen[node] = entries
    elif node in chosen:
        chosen[node] = chosen[node] | entries
