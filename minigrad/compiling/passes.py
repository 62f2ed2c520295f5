"""What is left out of a program and put together in it: nothing that changes a bit of what it computes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.compiling.program import Instruction, Number, Program, Returned, Value, leaves, rebuilt

__all__ = ["escaping", "simplify"]

_COPIES = {np.copy, np.ndarray.copy}


def simplify(program: Program) -> dict[str, int]:
    """Takes out of a program what it can do without; returns how many instructions each reason took."""
    removed = {}
    _share_numbers(program)
    for reason, go in (
        ("constants folded", _fold),
        ("computed before", _share),
        ("views of the whole", _spare_views),
        ("copies", _spare_copies),
        ("never used", _drop_unused),
    ):
        before = len(program.instructions)
        go(program)
        removed[reason] = before - len(program.instructions)
    return removed


def _share_numbers(program: Program) -> None:
    """A number that has been computed before is not computed again, and is looked at once."""
    seen: dict[Any, Number] = {}
    instead: dict[Any, Any] = {}
    kept = []

    def new(x: Any) -> Any:
        return instead.get(x, x) if isinstance(x, Number) else x

    for instruction in program.numbers:
        instruction.args = rebuilt(instruction.args, new)
        key = (instruction.function, tuple((type(x), x) for x in instruction.args))
        first = seen.setdefault(key, instruction.outs)
        if first is instruction.outs:
            kept.append(instruction)
        else:
            instead[instruction.outs] = first
    program.numbers = kept
    program.conditions = list(dict.fromkeys((new(n), value) for n, value in program.conditions))
    for instruction in program.instructions:
        instruction.args = rebuilt(instruction.args, new)
        instruction.kwargs = rebuilt(instruction.kwargs, new)


def escaping(program: Program) -> list[Value]:
    """The values that are handed out at the end, as often as they are."""
    found = [x.value if isinstance(x, Returned) else x for x in leaves(program.result)]
    found += [cell.after for cell in program.cells if cell.changed]
    return [x for x in found if isinstance(x, Value)]


def _written_at(instructions: Iterable[Instruction]) -> dict[Value, int]:
    """The last place where each memory is written into; its making does not count."""
    return {target.root: i for i, instruction in enumerate(instructions) for target in instruction.writes}


def _replace(program: Program, instead: dict[Value, Value]) -> None:
    """Every use of a key of instead becomes one of what stands there."""

    def new(x: Any) -> Any:
        while isinstance(x, Value) and x in instead:
            x = instead[x]
        return Returned(new(x.value), x.name) if isinstance(x, Returned) else x

    for instruction in program.instructions:
        instruction.args = rebuilt(instruction.args, new)
        instruction.kwargs = rebuilt(instruction.kwargs, new)
        instruction.writes = tuple(map(new, instruction.writes))
        for value in instruction.results:
            while value.root in instead:
                value.root = instead[value.root].root
    program.result = rebuilt(program.result, new)
    for cell in program.cells:
        cell.after = new(cell.after)


def _fold(program: Program) -> None:
    """What depends on constants alone is computed now, where nobody can write into these any more."""
    written = _written_at(program.instructions)
    fixed = {v for v in program.constants if _is_ours(v)}
    kept = []
    for instruction in program.instructions:
        out, reads = instruction.outs, list(instruction.reads)
        pure = not (instruction.writes or instruction.effect or instruction.opaque) and bool(reads)
        if not (pure and fixed.issuperset(reads) and isinstance(out, Value) and out.root not in written):
            kept.append(instruction)
            continue
        arrays = rebuilt((instruction.args, instruction.kwargs), lambda x: x.array if isinstance(x, Value) else x)
        out.array, out.kind, out.root = np.asarray(instruction.function(*arrays[0], **arrays[1])), "constant", out
        program.constants.append(out)
        fixed.add(out)
    program.instructions = kept


def _is_ours(v: Value) -> bool:
    """Whether nobody but the program holds a constant: it was made while the function ran."""
    return v.array is not None and v.array.base is None and sys.getrefcount(v.array) <= _ALONE


def _references_of_an_attribute() -> int:
    v = Value(0, np.empty(0))
    v.array = np.empty(0)
    return sys.getrefcount(v.array)


_ALONE = _references_of_an_attribute()


def _share(program: Program) -> None:
    """A call that has been made before, on arrays that have not been written since, is not made again."""
    written = _written_at(program.instructions)
    version: dict[Value, int] = {}
    seen: dict[Any, Instruction] = {}
    instead: dict[Value, Value] = {}
    kept = []
    for i, instruction in enumerate(program.instructions):
        results = list(instruction.results)
        pure = not (instruction.writes or instruction.effect)
        for target in instruction.writes:
            version[target.root] = i
        if pure and not any(v.root in written for v in results if not instruction.view):
            key = _hashable(instruction, instead, version)
            first = seen.setdefault(key, instruction) if key is not None else instruction
            if first is not instruction:
                instead.update(zip(results, first.results, strict=True))
                continue
        kept.append(instruction)
    program.instructions = kept
    _replace(program, instead)


def _hashable(instruction: Instruction, instead: dict[Value, Value], version: dict[Value, int]) -> Any:
    """What two equal calls have in common; None where that cannot be said."""

    def part(x: Any) -> Any:
        if isinstance(x, Value):
            x = instead.get(x, x)
            return x, 0 if instruction.view else version.get(x.root, -1)
        return type(x), x, str(x)  # 0.0 is not -0.0

    fields = (instruction.args, tuple(sorted(instruction.kwargs.items())))
    key = (instruction.function, tuple(map(part, leaves(fields))), str(rebuilt(fields, lambda x: 0)), instruction.quiet)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _spare_views(program: Program) -> None:
    """A view that shows an array as it is, is that array."""
    instead: dict[Value, Value] = {}
    kept = []
    for instruction in program.instructions:
        x, out = instruction.args[0] if instruction.args else None, instruction.outs
        if (
            instruction.view
            and isinstance(x, Value)
            and (x.shape, x.dtype, x.strides)
            == (
                out.shape,
                out.dtype,
                out.strides,
            )
        ):
            instead[out] = x
        else:
            kept.append(instruction)
    program.instructions = kept
    _replace(program, instead)


def _is_copy(instruction: Instruction) -> bool:
    """Whether an instruction makes another array of the same values: a copy, or a product with the number 1."""
    if instruction.function in _COPIES:
        return len(instruction.args) == 1 and not instruction.kwargs
    if instruction.function is not np.multiply or instruction.writes or instruction.kwargs or instruction.quiet:
        return False
    one = instruction.args[0]
    return isinstance(one, Value) and one.array is not None and one.shape == () and one.array == 1


def _spare_copies(program: Program) -> None:
    """A copy is spared where nobody writes into either array from then on, or nobody uses the first one any more."""
    instructions = program.instructions
    written = _written_at(instructions)
    last: dict[Value, int] = {}
    for i, instruction in enumerate(instructions):
        for value in instruction.reads:
            last[value.root] = i
    out_at = len(instructions)
    for value in escaping(program):
        last[value.root] = out_at
    instead: dict[Value, Value] = {}
    kept = []
    for i, instruction in enumerate(instructions):
        x, out = instruction.args[-1] if instruction.args else None, instruction.outs
        if isinstance(x, Value) and isinstance(out, Value) and out.root is out and _is_copy(instruction):
            x = instead.get(x, x)
            alike = (x.shape, x.dtype, x.strides) == (out.shape, out.dtype, out.strides)
            untouched = max(written.get(x.root, -1), written.get(out, -1)) < i
            gone = x.root is x and x.kind == "temporary" and last.get(x, -1) <= i
            if alike and (untouched or gone):
                instead[out] = x
                last[x.root] = max(last.get(x.root, -1), last.get(out, -1))
                written[x.root] = max(written.get(x.root, -1), written.get(out, -1))
                continue
        kept.append(instruction)
    program.instructions = kept
    _replace(program, instead)


def _drop_unused(program: Program) -> None:
    """What nobody reads is not computed."""
    used: set[Value] = set(escaping(program))
    roots = {value.root for value in used}
    roots.update(value for value in program.inputs)
    roots.update(cell.before for cell in program.cells if cell.before is not None)
    kept = []
    for instruction in reversed(program.instructions):
        wanted = instruction.effect or any(v in used for v in instruction.results)
        if wanted or any(target.root in roots for target in instruction.writes):
            kept.append(instruction)
            for value in (*instruction.reads, *instruction.writes):
                used.add(value)
                roots.add(value.root)
                used.add(value.root)
    program.instructions = kept[::-1]
