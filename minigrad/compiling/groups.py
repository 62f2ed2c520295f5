"""Chains of entry-by-entry calls on large arrays, in blocks: a call finds in the cache what another has written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigrad.compiling.memory import in_place, is_copy
from minigrad.compiling.program import Instruction, Program, Value

__all__ = ["Group", "groups_of"]

_LEAST = 1 << 19  # bytes of an array, from which on the passes of a chain find little in the cache that is left
# Bytes of an array in one block. Chains of 4 to 8 calls on 10**7 float32 take 0.6 to 0.7 of the time of whole arrays in
# blocks of 128 to 512 KB, and 0.7 to 1.1 in blocks of 16 to 64 KB; on 10**6, which the third-level cache holds, 0.9.
_BLOCK = 1 << 18


class Group:
    """Neighbouring instructions of one shape, which are done for `rows` rows at a time.

    axis: along which the rows follow each other, the one whose steps in memory are the longest.
    within: arrays that nobody uses outside the group, and that need no more memory than a block.
    """

    def __init__(self, instructions: Sequence[Instruction], shape: tuple[int, ...], axis: int, rows: int) -> None:
        self.instructions, self.shape, self.axis, self.rows = list(instructions), shape, axis, rows
        self.within: set[Value] = set()

    @property
    def parts(self) -> list[slice]:
        """The rows of each block."""
        n = self.shape[self.axis]
        return [slice(start, min(start + self.rows, n)) for start in range(0, n, self.rows)]

    @property
    def values(self) -> list[Value]:
        """All arrays of the group that have its rows, in order."""
        found = dict.fromkeys(v for i in self.instructions for v in (*i.reads, *i.results, *i.writes))
        return [v for v in found if self.before(v) is not None]

    def before(self, v: Value) -> int | None:
        """How many axes of v lie in front of that of the rows; None where each block sees all of v."""
        axis = self.axis - len(self.shape) + len(v.shape)
        return axis if axis >= 0 and v.shape[axis] == self.shape[self.axis] else None

    def cut(self, array: Any, v: Value, part: slice) -> Any:
        """The rows of an array that is v's."""
        return array[(*(slice(None),) * (self.before(v) or 0), part)]

    def scratch(self, v: Value) -> Any:
        """Memory for a block of v, laid out as v is."""
        order = sorted(range(len(v.shape)), key=lambda axis: -v.strides[axis])
        lengths = [self.rows if axis == self.axis else v.shape[axis] for axis in order]
        return np.empty(lengths, v.dtype).transpose(np.argsort(order).tolist())

    def span(self, program: Program) -> tuple[int, int]:
        """The places of its first and last instruction."""
        place = {id(i): at for at, i in enumerate(program.instructions)}
        return place[id(self.instructions[0])], place[id(self.instructions[-1])]


def groups_of(
    program: Program, life: Mapping[Value, tuple[int, int]], handed: set[Value], placed: set[Value]
) -> list[Group]:
    """The groups of a program, in order.

    handed: values that are given away at the end. placed: memory that is in the same place in each replay, so that
    views of it are there beforehand.
    """
    groups: list[Group] = []
    chain: list[Instruction] = []
    aligned = _aligned(program)
    written: set[Value] = set()  # memory, by the chain
    askew: set[Value] = set()  # memory of which the chain reads other rows than those that it works on

    def close() -> None:
        axis = _outermost(chain[0]) if chain else None
        rows = 0 if axis is None else _rows(axis, chain)
        if len([i for i in chain if i.function is not np.empty_like]) > 1 and axis is not None and rows:
            groups.append(Group(chain, _target(chain[0]).shape, axis, rows))
        for collected in (chain, written, askew):
            collected.clear()

    for instruction in program.instructions:
        if not _by_entries(instruction) or _outermost(instruction) is None:
            if not (instruction.view and instruction.outs.root in placed):
                close()
            continue
        target = _target(instruction)
        reads = {v.root for v in instruction.reads if not (v in aligned and v.shape == target.shape)}
        if target.root in reads:
            close()
            continue
        if chain and (
            (target.shape, _outermost(instruction)) != (_target(chain[0]).shape, _outermost(chain[0]))
            or instruction.quiet != chain[0].quiet
            or reads & written
            or target.root in askew
        ):
            close()
        written.add(target.root)
        askew |= reads
        chain.append(instruction)
    close()
    looked_at = {i.outs.root for i in program.instructions if i.view}
    for group in groups:
        first, last = group.span(program)
        group.within = {
            v
            for v in group.values
            if v in life
            and first <= life[v][0]
            and life[v][1] <= last
            and v not in handed | looked_at
            and v.root is v
            and v.shape == group.shape
        }
    return groups


def _aligned(program: Program) -> set[Value]:
    """Values whose entries lie where those of their memory lie, if need be read as another dtype of that width."""
    found = {v.root for i in program.instructions for v in (*i.reads, *i.results)}
    for i in program.instructions:
        x = i.args[0] if i.args else None
        if i.view and i.function is np.ndarray.view and x in found and i.outs.shape == x.shape:
            found.add(i.outs)
    return found


def _target(i: Instruction) -> Value:
    """What an instruction that works entry by entry fills."""
    target: Value = i.writes[0] if i.writes else i.outs
    return target


def _by_entries(i: Instruction) -> bool:
    """Whether an instruction fills an array entry by entry, of arguments that have its rows or are seen whole."""
    if i.function is np.empty_like and isinstance(i.outs, Value):
        return bool(i.outs.shape)
    if not (in_place(i) or is_copy(i)) or i.effect or i.view or i.kwargs.keys() - {"out", "order", "copy"}:
        return False
    if len(i.writes) > 1 or (i.writes and i.outs is not None) or not isinstance(_target(i), Value):
        return False
    shape = _target(i).shape
    return bool(shape) and all(len(v.shape) <= len(shape) for v in i.reads)


def _outermost(i: Instruction) -> int | None:
    """The axis with the longest steps in memory, if it is the same for all arrays of the instruction's own shape."""
    target = _target(i)
    whole = [v for v in (target, *i.reads) if v.shape == target.shape]
    axes = {max(range(len(v.shape)), key=lambda axis: abs(v.strides[axis]) * (v.shape[axis] > 1)) for v in whole}
    return axes.pop() if len(axes) == 1 else None


def _rows(axis: int, chain: Sequence[Instruction]) -> int:
    """How many rows make a block; 0 where blocks would not pay."""
    nbytes, n = max(_target(i).nbytes for i in chain), _target(chain[0]).shape[axis]
    if nbytes < _LEAST or n < 4:
        return 0
    rows = max(1, _BLOCK * n // nbytes)
    return rows if rows * 2 <= n else 0
