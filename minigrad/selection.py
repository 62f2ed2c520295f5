"""Entries that have no part in a result, and what a walk knows of them.

An entry that an op did not select (where, clip, x[i] = v, x[i]) has no part in the result: what reaches it from there
is exactly nothing, also where a rule further up would make 0 * inf of it. Which entries have a part is carried up the
graph beside the gradient, as booleans (`Op.carry`); where nothing is carried, all have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any

import numpy as np

from minigrad.sums import unbroadcast

__all__ = ["choose", "note_selection", "of_chosen", "selects"]

# When each thread last recorded an op that selects: a walk over younger nodes need not look for one. A key of its own
# for each thread, since one time for all could be set back by a thread that was interrupted.
_latest: dict[int, int] = {}


def note_selection(birth: int) -> None:
    """Note that a node of an op that selects was born."""
    _latest[get_ident()] = birth


def selects(order: Sequence[Any]) -> bool:
    """Whether one of these nodes, youngest first, is of an op that selects."""
    if not _latest:
        return False
    oldest = next((node.birth for node in reversed(order) if node.op is not None), None)
    if oldest is None or max(list(_latest.values())) < oldest:
        return False
    return any(node.op is not None and node.op.selects for node in order)


def of_chosen(rule: Callable[..., Any], reached: Sequence[Any], dout: Any, saved: Sequence[Any], recorded: bool) -> Any:
    """What the rule gives, 0 where the argument's entry is not among those reached.

    An overflow or a division by 0 that has no part in the result is none. recorded: the gradients are Tensors.
    """
    with np.errstate(all="ignore"):
        grads = rule(dout, *saved)
    several = grads if type(grads) is tuple else (grads,)
    if len(several) != len(reached):
        return grads  # the walk says what is wrong with them
    return tuple(_only(rule, entries, g, dout, saved, recorded) for g, entries in zip(several, reached, strict=True))


def _only(rule: Callable[..., Any], entries: Any, g: Any, dout: Any, saved: Sequence[Any], recorded: bool) -> Any:
    """g where entries, 0 elsewhere."""
    shape = getattr(g, "shape", None)
    if entries is None or shape is None:
        return g
    if not recorded:
        with np.errstate(all="ignore"):
            # Entries without a part have dout = 0, and therefore 0, unless something is not finite.
            if np.isfinite(np.add.reduce(g, None)):
                return g
    if shape != entries.shape:
        try:
            entries = unbroadcast(entries, shape) != 0 if g.ndim <= entries.ndim else entries
            g = np.where(entries, g, 0)
        except ValueError:
            return g  # of a shape that the walk will refuse
    else:
        g = np.where(entries, g, 0)
    if not recorded and not np.isfinite(g).all():
        rule(dout, *saved)  # for the caller to hear of what has a part
    return g


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
