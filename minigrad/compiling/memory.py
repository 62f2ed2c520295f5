"""Where the arrays of a program lie: one arena, in which an array takes the place of one that is not used any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigrad.compiling.passes import escaping
from minigrad.compiling.program import Instruction, Program, Value

__all__ = ["Arena", "chooses", "clips", "is_copy", "lifetimes", "takes_out"]

_LINE = 64  # bytes: what the processor fetches at once
_PAIRWISE = 2000  # with more arrays than this, looking at each pair would take seconds
_COPIES = {np.copy, np.ndarray.copy, np.ndarray.astype, np.ascontiguousarray}
_CHOOSES = {np.argmax, np.argmin, np.ndarray.argmax, np.ndarray.argmin}
_ALLOCATES = {np.empty_like}


def takes_out(instruction: Instruction) -> bool:
    """Whether an instruction can put its result into an array that is there already."""
    if instruction.opaque or instruction.view or not isinstance(instruction.outs, Value):
        return False
    return (
        instruction.function in _ALLOCATES
        or instruction.ufunc
        or any(kind(instruction) for kind in (is_copy, chooses, clips))
    )


def clips(instruction: Instruction) -> bool:
    """Whether it is np.clip, which hands its arguments on to a ufunc."""
    return instruction.function is np.clip and len(instruction.args) == 3 and not instruction.kwargs


def is_copy(instruction: Instruction) -> bool:
    """Whether it makes an array of the same values, if need be of another dtype or layout."""
    return instruction.function in _COPIES


def chooses(instruction: Instruction) -> bool:
    """Whether it is an argmax or argmin along an axis, of which `out=` can be given."""
    return instruction.function in _CHOOSES and not instruction.kwargs.keys() - {"axis"}


def in_place(instruction: Instruction) -> bool:
    """Whether it may write its result over one of its arguments: it works entry by entry."""
    f = instruction.function
    return clips(instruction) or (instruction.ufunc and isinstance(f, np.ufunc) and f.signature is None)


def lifetimes(program: Program) -> dict[Value, tuple[int, int]]:
    """For each memory of the program's own: the instructions from which and up to which it is used."""
    found: dict[Value, tuple[int, int]] = {}
    for i, instruction in enumerate(program.instructions):
        for value in (*instruction.results, *instruction.reads, *instruction.writes):
            root = value.root
            if root.kind == "temporary":
                found[root] = (found.get(root, (i, i))[0], i)
    for value in escaping(program):
        if value.root in found:
            found[value.root] = (found[value.root][0], len(program.instructions))
    return found


class Arena:
    """One block of memory with a place for each of these values; in_bytes: how long it is.

    spans: first and last of instructions that are done block by block: what is used by one is then used by all.
    """

    def __init__(
        self,
        program: Program,
        values: Sequence[Value],
        life: Mapping[Value, tuple[int, int]],
        spans: Sequence[tuple[int, int]] = (),
    ) -> None:
        over = _over(program, set(values), life) if len(values) <= _PAIRWISE else {}
        life = {v: _stretched(life[v], spans) for v in values}
        self.places = _places(values, life, over) if len(values) <= _PAIRWISE else _one_after_another(values, life)
        self.in_bytes = max((at + _padded(v) for v, at in self.places.items()), default=0)
        self._memory = np.empty(self.in_bytes + _LINE, np.uint8)
        start = -self._memory.ctypes.data % _LINE
        self._memory = self._memory[start : start + self.in_bytes]
        self._memory[...] = 0  # the pages are there from the first replay on

    def array(self, value: Value) -> Any:
        """The array at the place of a value."""
        return np.ndarray(value.shape, value.dtype, self._memory.data, self.places[value], value.strides)


def _padded(value: Value) -> int:
    return -(-max(value.nbytes, 1) // _LINE) * _LINE


def _stretched(life: tuple[int, int], spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    first, last = life
    for begin, end in spans:
        first = begin if begin <= first <= end else first
        last = end if begin <= last <= end else last
    return first, last


def _places(
    values: Sequence[Value], life: Mapping[Value, tuple[int, int]], over: Mapping[Value, Value]
) -> dict[Value, int]:
    """Offsets: the largest first, each as low as those allow that live at the same time."""
    places: dict[Value, int] = {}
    under = {x: out for out, x in over.items()}
    for value in sorted(values, key=lambda v: (-_padded(v), life[v][0])):
        first, last = life[value]
        others = [v for v in places if life[v][0] <= last and first <= life[v][1]]
        partners = [v for v in others if v in (over.get(value), under.get(value))]
        for partner in partners:  # at the very same place, or not at all
            at = places[partner]
            if all(_apart(at, value, places[v], v) for v in others if v is not partner):
                places[value] = at
                break
        else:
            at = 0
            for low, high in sorted((places[v], places[v] + _padded(v)) for v in others):
                if at + _padded(value) <= low:
                    break
                at = max(at, high)
            places[value] = at
    return places


def _apart(at: int, value: Value, start: int, other: Value) -> bool:
    return at + _padded(value) <= start or start + _padded(other) <= at


def _over(program: Program, values: set[Value], life: Mapping[Value, tuple[int, int]]) -> dict[Value, Value]:
    """For a value that may be written over one which dies as it is made: that one."""
    found: dict[Value, Value] = {}
    for i, instruction in enumerate(program.instructions):
        out = instruction.outs
        if not in_place(instruction) or not isinstance(out, Value) or out not in values:
            continue
        for x in instruction.args:
            if isinstance(x, Value) and x in values and life[x][1] == i and life[x][0] < i:
                same = (x.shape, x.dtype.itemsize, x.strides) == (out.shape, out.dtype.itemsize, out.strides)
                alone = sum(v.root is x for v in instruction.reads) == sum(v is x for v in instruction.reads)
                if same and alone and x not in found.values():
                    found[out] = x
                    break
    return found


def _one_after_another(values: Sequence[Value], life: Mapping[Value, tuple[int, int]]) -> dict[Value, int]:
    """Offsets in order of birth: a place that has become free serves the next array of that size."""
    free: dict[int, list[int]] = {}
    places: dict[Value, int] = {}
    ending: dict[int, list[Value]] = {}
    end, now = 0, -1
    for value in sorted(values, key=lambda v: life[v][0]):
        while now < life[value][0] - 1:
            now += 1
            for gone in ending.pop(now, ()):
                free.setdefault(_padded(gone), []).append(places[gone])
        size = _padded(value)
        if free.get(size):
            places[value] = free[size].pop()
        else:
            places[value], end = end, end + size
        ending.setdefault(life[value][1], []).append(value)
    return places
