"""Chains of entry-by-entry calls on large arrays, in blocks: a call finds in the cache what another has written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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

    within: arrays that nobody uses outside the group, and that need no more memory than a block.
    """

    def __init__(self, instructions: Sequence[Instruction], shape: tuple[int, ...], rows: int) -> None:
        self.instructions, self.shape, self.rows = list(instructions), shape, rows
        self.within: set[Value] = set()

    @property
    def values(self) -> list[Value]:
        """All arrays of the group that have its rows, in order."""
        found = dict.fromkeys(v for i in self.instructions for v in (*i.reads, *i.results, *i.writes))
        return [v for v in found if self.has_rows(v)]

    def span(self, program: Program) -> tuple[int, int]:
        """The places of its first and last instruction."""
        place = {id(i): at for at, i in enumerate(program.instructions)}
        return place[id(self.instructions[0])], place[id(self.instructions[-1])]

    def has_rows(self, v: Value) -> bool:
        """Whether a block sees a part of v, and not all of it."""
        return len(v.shape) == len(self.shape) and v.shape[0] == self.shape[0]


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
        shape = _target(chain[0]).shape if chain else ()
        rows = _rows(shape, chain)
        if len([i for i in chain if i.function is not np.empty_like]) > 1 and rows:
            groups.append(Group(chain, shape, rows))
        for collected in (chain, written, askew):
            collected.clear()

    for instruction in program.instructions:
        if not _by_entries(instruction):
            if not (instruction.view and instruction.outs.root in placed):
                close()
            continue
        target = _target(instruction)
        reads = {v.root for v in instruction.reads if not (v in aligned and v.shape == target.shape)}
        if target.root in reads:
            close()
            continue
        if chain and (
            target.shape != _target(chain[0]).shape
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
            and _whole(v, group)
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
    if not shape or any(len(v.shape) > len(shape) for v in i.reads):
        return False
    return all(len(v.shape) < len(shape) or v.shape[0] in (1, shape[0]) for v in i.reads)


def _rows(shape: tuple[int, ...], chain: Sequence[Instruction]) -> int:
    """How many rows make a block; 0 where blocks would not pay."""
    nbytes = max((_target(i).nbytes for i in chain), default=0)
    if nbytes < _LEAST or shape[0] < 4:
        return 0
    rows = max(1, _BLOCK * shape[0] // nbytes)
    return rows if rows * 2 <= shape[0] else 0


def _whole(v: Value, group: Group) -> bool:
    """Whether v is an array of its own whose rows follow each other."""
    return (
        v.root is v and v.shape == group.shape and all(a >= b for a, b in zip(v.strides, v.strides[1:], strict=False))
    )
