"""A program in words: what it reads, what it does, what it leaves behind and what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigrad.compiling.emit import SIGNS, Linked
from minigrad.compiling.program import Cell, Instruction, Number, Returned, Value, leaves

__all__ = ["explained"]


def explained(name: str, linked: Linked, arguments: Sequence[str]) -> str:
    """The program of a function of that name, one call a line; arguments: the names of its arrays."""
    program = linked.program
    names: dict[Any, str] = {v: arguments[v.index] for v in program.inputs}
    known = _tensors(linked)
    places = {cell: cell.words.format(known.get(id(cell.about), "a tensor")) for cell in program.cells}
    for n, cell in enumerate(program.cells):
        if cell.before is not None:
            plain = cell.tensor is not None and id(cell.tensor) in known
            names[cell.before] = places[cell] if plain else f"place{n}"
    for i in program.instructions:
        if i.view and i.outs in linked.fixed:
            names[i.outs] = _call(i, names).partition(" = ")[2]
    words = [f"{name}({', '.join(f'{names[v]}: {_kind(v)}' for v in program.inputs)})"]
    words += ["", "reads at each replay"]
    words += _table(
        [(names[v], _kind(v), _bytes(v), "argument") for v in program.inputs] + _cells(linked, names, places)
    )
    used: set[Any] = {v.root for i in program.instructions for v in i.reads} | _numbers(linked)
    constants = [v for v in program.constants if v in used and v.array is not None]
    if constants:
        words += ["", "constants, as they were when it was recorded"]
        words += _table([(repr(v), _kind(v), _bytes(v), _shown(v.array)) for v in constants])
    if program.sources:
        words += ["", "numbers, read anew or computed in Python"]
        words += [f"  {n!r} = {_source(n)}" for n in program.sources if n in used]
        words += [f"  {_call(i, names)}" for i in program.numbers if i.outs in used]
        words += [f"  taken to be so: {n!r} is {value}" for n, value in program.conditions]
    words += ["", "computes", *_calls(linked, names)]
    given = [f"{names.get(v, repr(v))}" for v in (_value(x) for x in leaves(program.result)) if v is not None]
    left = [f"{places[cell]} = {_after(cell.after, names)}" for cell in program.cells if cell.changed]
    words += ["", f"returns {', '.join(given) or 'no array'}"]
    if left:
        words += ["leaves behind", *(f"  {line}" for line in left)]
    removed = [f"{n} {reason}" for reason, n in linked.removed.items() if n]
    merged = sum(len(group.instructions) for group in linked.groups)
    words += ["", f"left out: {', '.join(removed) or 'nothing'}"]
    if merged:
        words += [f"merged: {merged} calls into {len(linked.groups)} loops over blocks"]
    words += [f"memory: an arena of {_size(linked.arena.in_bytes)} for {len(linked.arena.places)} arrays"]
    return "\n".join(line.rstrip() for line in words)


def _numbers(linked: Linked) -> set[Number]:
    """The numbers that the calls want, and those that these are computed from."""
    program = linked.program
    found = {x for i in program.instructions for x in leaves((i.args, i.kwargs)) if isinstance(x, Number)}
    found.update(n for n, _ in program.conditions)
    for i in reversed(program.numbers):
        if i.outs in found:
            found.update(x for x in i.args if isinstance(x, Number))
    return found


def _source(n: Number) -> str:
    """Where a number comes from: an option of a group of parameters, or the count of steps."""
    return n.text.replace("{}.state[{}]['step']", "steps so far").replace("{}", "group")


def _calls(linked: Linked, names: Mapping[Any, str]) -> list[str]:
    rows: list[tuple[str, ...]] = []
    starts = {id(group.instructions[0]): group for group in linked.groups}
    inside = {id(i) for group in linked.groups for i in group.instructions}
    for i in linked.program.instructions:
        if i.view and i.outs in linked.fixed:
            continue
        group = starts.get(id(i))
        if group is not None:
            rows.append((f"for each {group.rows} of {group.shape[group.axis]} rows:", "", "", ""))
        if i.function is np.empty_like:
            continue
        out = (i.writes or tuple(i.results) or (None,))[0]
        text = ("  " if id(i) in inside else "") + _call(i, names)
        rows.append((text, *((_kind(out), _bytes(out)) if out is not None else ("", "")), i.op))
    return _table(rows)


def _call(i: Instruction, names: Mapping[Any, str]) -> str:
    def word(x: Any) -> str:
        if isinstance(x, (Value, Number)):
            return names.get(x, repr(x))
        if type(x) in (tuple, list):
            inner = ", ".join(map(word, x))
            return f"[{inner}]" if type(x) is list else f"({inner}{',' if len(x) == 1 else ''})"
        text = repr(x)
        return text if len(text) <= 24 else f"{text[:21]}..."

    out = i.kwargs.get("out")
    kwargs = {k: x for k, x in i.kwargs.items() if k != "out" and x is not None and x is not False}
    name = getattr(i.function, "__name__", "call")
    args = list(map(word, i.args))
    owner = getattr(i.function, "__self__", None)
    if isinstance(owner, np.ufunc):
        name = f"{owner.__name__}.{name}"
    if i.guard:
        return f"goes on if {args[0]}, else runs as it is written"
    if i.writes and name in ("setitem", "copyto") and len(args) > 1:
        return SIGNS[i.function].format(*args) if name == "setitem" else f"{args[0]}[...] = {args[1]}"
    if isinstance(i.outs, Number) and i.function in SIGNS:
        return f"{i.outs!r} = {SIGNS[i.function].format(*args)}"
    call = f"{name}({', '.join([*args, *(f'{k}={word(x)}' for k, x in kwargs.items())])})"
    call = SIGNS[i.function].format(*args) if name == "getitem" else call
    targets = out if out is not None else i.writes if i.writes and not list(i.results) else None
    if targets:
        return f"{', '.join(names.get(v, repr(v)) for v in targets)} = {call}"
    made = [names.get(v, repr(v)) for v in i.results]
    return f"{', '.join(made)} = {call}" if made else call


def _tensors(linked: Linked) -> dict[int, str]:
    """The names of tensors: their own, or their paths in the outermost module that ran."""
    found: dict[int, str] = {}
    for module, _ in linked.program.modules:
        for path, p in module.named_parameters():
            found.setdefault(id(p), path)
    for cell in linked.program.cells:
        name = getattr(cell.about, "name", None)
        if name:
            found[id(cell.about)] = name
    return found


def _cells(linked: Linked, names: Mapping[Any, str], places: Mapping[Cell, str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for cell in linked.program.cells:
        if cell.before is not None:
            how = "where it is, and written" if cell.written else "where it is"
            how = how if names[cell.before] == places[cell] else f"{places[cell]}, {how}"
            rows.append((names[cell.before], _kind(cell.before), _bytes(cell.before), how))
        elif cell.looked:
            rows.append(("", "", "", f"{places[cell]}, which has to be None"))
    return rows


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(4)]
    return [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows]


def _value(x: Any) -> Value | None:
    x = x.value if isinstance(x, Returned) else x
    return x if isinstance(x, Value) else None


def _after(x: Any, names: Mapping[Any, str]) -> str:
    return names.get(x, repr(x)) if isinstance(x, Value) else "None" if x is None else f"a constant of shape {x.shape}"


def _kind(v: Any) -> str:
    return f"{v.dtype} {v.shape}"


def _bytes(v: Any) -> str:
    return _size(v.nbytes)


def _size(n: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} B"


def _shown(array: Any) -> str:
    text = np.array2string(array, threshold=4, edgeitems=1, precision=4).replace("\n", " ")
    return text if len(text) <= 32 else f"{text[:29]}..."
