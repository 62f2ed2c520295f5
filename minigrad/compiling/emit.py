"""A program as Python text: one line for each call, everything bound to locals."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minigrad.compiling.groups import Group, groups_of
from minigrad.compiling.memory import Arena, chooses, clips, is_copy, lifetimes, takes_out
from minigrad.compiling.optimisers import Stale
from minigrad.compiling.passes import escaping
from minigrad.compiling.program import (
    Cell,
    Instruction,
    NotAsRecorded,
    Number,
    Program,
    Returned,
    Value,
    leaves,
    rebuilt,
)
from minigrad.tape import Leaf, Version, tick
from minigrad.tensor import wrap

__all__ = ["SIGNS", "Linked", "Moved", "NotAsRecorded"]

_LARGE = 1 << 16  # bytes of an array that is let go as soon as it has been used

# What a call of a function is written as, where Python has a sign for it or a method is quicker to find.
SIGNS = {
    operator.getitem: "{0}[{1}]", operator.setitem: "{0}[{1}] = {2}", operator.add: "{0} + {1}",
    operator.sub: "{0} - {1}", operator.mul: "{0} * {1}", operator.truediv: "{0} / {1}", operator.pow: "{0} ** {1}",
    operator.eq: "{0} == {1}", operator.ne: "{0} != {1}", operator.lt: "{0} < {1}", operator.le: "{0} <= {1}",
    operator.gt: "{0} > {1}", operator.ge: "{0} >= {1}",
}  # fmt: skip

# NumPy wants `out=` written out for these: a third argument by place is deprecated.
_BY_NAME = {np.maximum, np.minimum}

# Of these a Python number has the other argument's dtype. As an array that is there already it costs half of the call:
# 0.23 us in place of 0.55 for 50 values.
_WEAK = {
    np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum, np.greater, np.greater_equal, np.less,
    np.less_equal, np.equal, np.not_equal,
}  # fmt: skip


class Linked:
    """A program with its memory: text is its Python, run calls it. Raises Stale where the program does not hold."""

    def __init__(
        self,
        program: Program,
        removed: dict[str, int],
        names: list[str],
        outside: tuple[Any, ...],
        moving: frozenset[Cell] = frozenset(),
    ) -> None:
        self.program, self.removed, self.names, self.outside, self.moving = program, removed, names, outside, moving
        self.runs = self.failed = self.last = 0
        self.life = lifetimes(program)
        handed = escaping(program)
        makers = {v: i for i in program.instructions for v in i.results}
        own = [v for v in self.life if v in makers and takes_out(makers[v])]
        # An array that is handed out once is made anew each time; all others have their place.
        self.fresh = {v for v in own if handed.count(v) == 1 and v.shape and (_is_c(v) or _is_c(v, backwards=True))}
        self.stays = [c for c in program.cells if c.before is not None and not c.changed and c not in self.moving]
        placed = {*own, *program.constants, *(c.before for c in self.stays if c.before is not None)} - self.fresh
        self.groups = groups_of(program, self.life, set(handed), placed)
        self._within = {v for group in self.groups for v in group.within}
        lasting = [v for v in own if v not in self.fresh and v not in self._within]
        self.arena = Arena(program, lasting, self.life, [group.span(program) for group in self.groups])
        # What a call in one piece returns is nobody else's either.
        made = {v for v in self.life if v in makers and v.root is v and not takes_out(makers[v])}
        self.given = self.fresh | {v for v in made if handed.count(v) == 1 and v.shape}
        self.bound: dict[str, Any] = {}
        self._constants: dict[Any, str] = {}
        self._block_names: dict[Any, str] = {}  # of arrays, within a loop over blocks
        self._numbers: dict[str, Number] = {}  # arrays that hold numbers, each filled at the beginning
        self.fixed: dict[Value, Any] = {}  # values whose array is the same in each replay
        self._bind()
        self._emit()

    def _bind(self) -> None:
        """Arrays that are the same in each replay: constants, the arena's, those in cells that stay, and views."""
        program = self.program
        for v in program.constants:
            self.fixed[v] = v.array
        for v in self.arena.places:
            self.fixed[v] = self.arena.array(v)
        for c in self.stays:
            assert c.before is not None
            self.fixed[c.before] = self._read(c)
        for i in program.instructions:
            x = i.args[0] if i.args else None
            if i.view and x in self.fixed and all(v in self.fixed for v in i.reads):
                args, kwargs = rebuilt((i.args, i.kwargs), lambda y: self.fixed[y] if isinstance(y, Value) else y)
                self.fixed[i.outs] = i.function(*args, **kwargs)

    @staticmethod
    def _read(c: Cell) -> Any:
        """What a cell holds; Stale where that is not what the program was recorded with."""
        try:
            array = c.read()
        except KeyError:
            raise Stale from None
        b = c.before
        assert b is not None
        if array is None or (array.shape, array.dtype, array.strides) != (b.shape, b.dtype, b.strides):
            raise Stale
        return array

    # The text

    def _name(self, x: Any) -> str:
        """The name, or literal, of an argument."""
        if isinstance(x, (Value, Number)):
            if x in self._block_names:
                return self._block_names[x]
            if x in self.fixed:
                self.bound[repr(x)] = self.fixed[x]
            return repr(x)
        if x is None or isinstance(x, bool) or type(x) is int:
            return repr(x)
        if type(x) is tuple:
            return f"({', '.join(map(self._name, x))}{',' if len(x) == 1 else ''})"
        if type(x) is list:
            return f"[{', '.join(map(self._name, x))}]"
        if isinstance(x, slice) and any(isinstance(part, (Value, Number)) for part in leaves(x)):
            return f"slice({self._name(x.start)}, {self._name(x.stop)}, {self._name(x.step)})"
        return self._constant(x, "k")

    def _constant(self, x: Any, prefix: str) -> str:
        key = (prefix, id(x))
        if key not in self._constants:
            self._constants[key] = f"{prefix}{len(self._constants)}"
            self.bound[self._constants[key]] = x
        return self._constants[key]

    def _function(self, f: Any) -> str:
        """A name that says which function it is."""
        word = getattr(f, "__name__", "call").replace(".", "_").strip("_<>")
        owner = getattr(f, "__self__", None)
        word = f"{owner.__name__}_{word}" if isinstance(owner, np.ufunc) else word
        word, n = word if word.isidentifier() else "call", 0
        while True:
            name = f"{word}_{n}" if n else f"{word}_"
            if name not in self.bound:
                self.bound[name] = f
            if self.bound[name] is f or self.bound[name] == f:
                return name
            n += 1

    def _weak(self, x: Any, i: Instruction) -> str | None:
        """The name of an array that holds a number among the arguments of a ufunc; None where there is none for it."""
        dtypes = {y.dtype for y in i.args if isinstance(y, Value)}
        if i.function not in _WEAK or i.kwargs.keys() - {"out"} or len(dtypes) != 1:
            return None
        dtype = dtypes.pop()
        if dtype.kind != "f" or not (isinstance(x, Number) or type(x) in (int, float)):
            return None
        if isinstance(x, Number):
            name = f"s{x.number}_{dtype.itemsize}"
            self.bound.setdefault(name, np.zeros((), dtype))
            self._numbers[name] = x
            return name
        if abs(x) > np.finfo(dtype).max:
            return None
        key = ("s", type(x), x, str(x), dtype)
        if key not in self._constants:
            self._constants[key] = f"s{len(self._constants)}"
            self.bound[self._constants[key]] = np.array(x, dtype)
        return self._constants[key]

    def _call(self, i: Instruction) -> str:
        args = [self._weak(x, i) or self._name(x) for x in i.args]
        if i.function in SIGNS and not i.kwargs:
            return SIGNS[i.function].format(*args)
        kwargs = dict(i.kwargs)
        target: Any = i.outs if takes_out(i) else None
        if i.ufunc and len(kwargs.get("out") or ()) == 1:
            (target,) = kwargs.pop("out")
        function = i.function
        if isinstance(target, Value):
            if i.ufunc and isinstance(function, np.ufunc) and function not in _BY_NAME:
                args.append(self._name(target))
            elif i.ufunc and isinstance(function, np.ufunc):
                kwargs["out"] = target
            elif i.ufunc:  # reduce
                args += [self._name(kwargs.pop("axis", 0)), self._name(kwargs.pop("dtype", None)), self._name(target)]
                if kwargs.get("keepdims") in (False, np._NoValue):
                    kwargs.pop("keepdims", None)
            elif is_copy(i):
                return f"{self._name(target)}[...] = {args[0]}"
            elif chooses(i) or clips(i):
                kwargs["out"] = target
        args += [f"{k}={self._name(x)}" for k, x in kwargs.items()]
        return f"{self._function(function)}({', '.join(args)})"

    def _lines(self, i: Instruction) -> Iterator[str]:
        if i.function is np.empty_like and i.outs in self.fixed:
            return
        if i.view and i.outs in self.fixed:
            return
        if i.guard:
            yield f"if not {self._name(i.args[0])}: raise NotAsRecorded"
            return
        if isinstance(i.outs, Value) and i.outs in self.fresh:
            yield self._empty(i.outs)
            if i.function is not np.empty_like:
                yield self._call(i)
        elif takes_out(i) or not list(i.results):
            yield self._call(i)
        elif isinstance(i.outs, Value):
            call = self._call(i)
            yield f"{i.outs!r} = {call}" if i.outs.shape else f"{i.outs!r} = asarray({call})"
        else:
            yield f"{_targets(i.outs)} = {self._call(i)}"
            yield from (f"{v!r} = asarray({v!r})" for v in i.results if not v.shape)

    def _blocks(self, group: Group) -> list[str]:
        """A loop over blocks of rows, with the parts of arrays that stay cut once and for all."""
        parts = group.parts
        lines: list[str] = []
        columns: list[list[Any]] = []
        heads, moving = [], []
        for v in group.values:
            if v in group.within:
                scratch = group.scratch(v)
                columns.append([group.cut(scratch, v, slice(part.stop - part.start)) for part in parts])
                heads.append(repr(v))
            elif v in self.fixed:
                columns.append([group.cut(self.fixed[v], v, part) for part in parts])
                heads.append(f"b{v.number}")
            else:
                if v in self.fresh and any(i.outs is v for i in group.instructions):
                    lines.append(self._empty(v))
                moving.append(v)
        if moving:
            columns.append(parts)
            heads.append("part")
        table = self._constant(list(zip(*columns, strict=True)), "blocks")
        lines.append(f"for {', '.join(heads)}{',' if len(heads) == 1 else ''} in {table}:")
        for v in moving:
            before = ":, " * (group.before(v) or 0)
            lines.append(f"    b{v.number} = {v!r}[{before}part]")
        names = {v: repr(v) if v in group.within else f"b{v.number}" for v in group.values}
        self._block_names = names
        for i in group.instructions:
            if i.function is not np.empty_like:
                lines.append(f"    {self._call(i)}")
        self._block_names = {}
        return lines

    def _empty(self, v: Value) -> str:
        order = "" if _is_c(v) else ", 'F'"
        return f"{v!r} = empty({v.shape}, {self._constant(v.dtype, 'dtype')}{order})"

    def _emit(self) -> None:
        program, bound = self.program, self.bound
        bound.update(
            Stale=Stale,
            Moved=Moved,
            named=named,
            NotAsRecorded=NotAsRecorded,
            asarray=np.asarray,
            empty=np.empty,
            wrap=wrap,
        )
        first: list[str] = []
        for module, training in program.modules:
            first.append(f"if {self._constant(module, 'module')}.training is not {training}: raise Stale")
        first += [f"{self._constant(begin, 'begin')}()" for begin in program.begins]
        for n in program.sources:
            first.append(f"{n!r} = {n.text.format(*(self._constant(x, 'from') for x in n.objects))}")
        first += [f"{i.outs!r} = {self._call(i)}" for i in program.numbers]
        first += [f"if {n!r} != {self._name(x)}: raise Stale" for n, x in program.conditions]
        for c in program.cells:
            read = f"{self._constant(c.read, 'read')}()"
            if c in self.stays:
                get = read if c.tensor is None else f"{self._constant(c.tensor, 'tensor')}._data"
                first.append(f"if {get} is not {self._name(c.before)}: raise Moved({self._constant(c, 'cell')})")
            elif c.before is not None:
                first.append(f"{c.before!r} = {self._constant(lambda c=c: self._read(c), 'read')}()")
            elif c.looked:
                first.append(f"if {read} is not None: raise Stale")
        first += self._apart()
        body: list[str] = []
        quiet: tuple[str, ...] = ()
        starts = {id(group.instructions[0]): group for group in self.groups}
        inside = {id(i) for group in self.groups for i in group.instructions}
        kept = self.fixed.keys() | self.fresh | self._within
        for at, i in enumerate(program.instructions):
            if id(i) in starts:
                lines = self._blocks(starts[id(i)])
            elif id(i) in inside:
                lines = []
            else:
                lines = list(self._lines(i))
            for v in {v.root for v in i.reads}:
                end = self.life.get(v, (0, -1))[1]
                if end == at and v.nbytes >= _LARGE and v not in kept:
                    lines.append(f"{v!r} = None")
            if lines and i.quiet != quiet:
                quiet = i.quiet
                if quiet:
                    states = ", ".join(f"{k}='ignore'" for k in quiet)
                    body.append(f"with errstate({states}):")
            body += [f"    {line}" if quiet else line for line in lines]
        bound["errstate"] = np.errstate
        body = self._restoring(body)
        last = []
        for c in program.cells:
            if c.changed and isinstance(c.owner, Leaf):
                last.append(f"{self._constant(c.owner, 'leaf')}.grad = {self._handed(c.after)}")
            elif c.changed:
                last.append(f"{self._constant(c.write, 'write')}({self._handed(c.after)})")
        touched = [c.tensor for c in program.cells if c.written and c.tensor is not None]
        if touched:  # the tape hears of one write into all of them
            bound.update(Version=Version, tick=tick)
            last.append("Version.latest = now = tick()")
        for t in touched:
            by = (t.name or "a tensor", t.dtype, t.shape, "a compiled step")
            last += [
                f"version = {self._constant(t, 'tensor')}._version",
                f"if version is not None: version.written, version.by = now, {self._constant(by, 'by')}",
            ]
        last += [f"{self._constant(end, 'end')}()" for end in program.ends]
        last.append(f"return {self._result(program.result)}")
        filled = [f"{name}[()] = {x!r}" for name, x in self._numbers.items()]
        lines = [*first, *filled, *body, *last]
        inputs = [repr(v) for v in program.inputs]
        head = ", ".join([*inputs, *(f"{name}={name}" for name in bound)])
        self.text = "\n    ".join([f"def replay({', '.join(inputs)}):", *lines]) + "\n"
        text = "\n    ".join([f"def replay({head}):", *lines]) + "\n"
        names = dict(bound)
        exec(compile(text, "<minigrad compiled>", "exec"), names)
        self._replay: Callable[..., Any] = names["replay"]

    def _restoring(self, body: list[str]) -> list[str]:
        """body, such that what it has changed outside is put back where a guard or a check fails after that."""
        instructions = self.program.instructions
        end = max((at for at, i in enumerate(instructions) if _may_fail(i)), default=-1)
        before = instructions[: end + 1]
        written = dict.fromkeys(t.root for i in before for t in i.writes if t.root.kind != "temporary")
        generators = dict.fromkeys(
            owner
            for i in before
            if i.effect and isinstance(owner := getattr(i.function, "__self__", None), np.random.Generator)
        )
        if not written and not generators:
            return body
        saved = [f"saved{n} = {self._name(v)}.copy()" for n, v in enumerate(written)]
        put = [f"    {self._name(v)}[...] = saved{n}" for n, v in enumerate(written)]
        for n, generator in enumerate(generators):
            name = self._constant(generator.bit_generator, "bits")
            saved.append(f"state{n} = {name}.state")
            put.append(f"    {name}.state = state{n}")
        return [*saved, "try:", *(f"    {line}" for line in body), "except BaseException:", *put, "    raise"]

    def _apart(self) -> list[str]:
        """Lines that see to it that no argument lies in memory that is written into under another name."""
        targets = (t.root for i in self.program.instructions for t in i.writes)
        written = dict.fromkeys(root for root in targets if root.kind != "temporary")
        roots = [*self.program.inputs, *(c.before for c in self.program.cells if c.before is not None)]
        lines = []
        for v in self.program.inputs:
            others = [w for w in (roots if v in written else written) if w is not v]
            fixed = frozenset(id(owner(self.fixed[w])) for w in others if w in self.fixed)
            if fixed:
                at = f"{v!r} if {v!r}.base is None else {v!r}.base"
                lines.append(f"if id({at}) in {self._constant(fixed, 'owners')}: raise NotAsRecorded")
            moving = [w for w in others if w not in self.fixed]
            if moving:
                self.bound["overlap"] = overlap
                lines.append(f"if overlap({v!r}, {', '.join(map(repr, moving))}): raise NotAsRecorded")
        return lines

    def _handed(self, x: Any) -> str:
        """What is given away for a value: an array that nobody else has."""
        if isinstance(x, Value):
            copy = "copy()" if _is_c(x) else "copy('K')"
            return self._name(x) if x in self.given else f"{self._name(x)}.{copy}"
        return "None" if x is None else f"{self._constant(x, 'k')}.copy('K')"

    def _result(self, x: Any) -> str:
        if isinstance(x, Returned):
            return f"wrap({self._handed(x.value)})" if x.name is None else f"named({self._handed(x.value)}, {x.name!r})"
        if isinstance(x, Value):
            return self._handed(x)
        if type(x) in (tuple, list):
            inner = ", ".join(map(self._result, x))
            return f"[{inner}]" if type(x) is list else f"({inner}{',' if len(x) == 1 else ''})"
        if isinstance(x, tuple):  # a named one
            return f"{self._constant(type(x), 'kind')}({', '.join(map(self._result, x))})"
        if isinstance(x, dict):
            keys = [repr(k) if isinstance(k, str) else self._name(k) for k in x]
            return f"{{{', '.join(f'{k}: {self._result(y)}' for k, y in zip(keys, x.values(), strict=True))}}}"
        return f"{self._name(x.copy())}.copy()" if type(x) in (set, bytearray) else self._name(x)

    def run(self, arrays: Sequence[Any]) -> Any:
        """One replay."""
        return self._replay(*arrays)

    def relinked(self, cell: Cell) -> Linked:
        """The same program for a cell whose array is another one each time."""
        return Linked(self.program, self.removed, self.names, self.outside, self.moving | {cell})


class Moved(Exception):
    """A cell holds another array than the one that is bound."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell


def owner(array: Any) -> Any:
    """What the memory of an array belongs to: itself, or the array that it looks at."""
    return array if array.base is None else array.base


def overlap(x: Any, *others: Any) -> bool:
    """Whether x lies in the memory of one of the others."""
    return any(owner(x) is owner(y) or np.may_share_memory(x, y) for y in others)


# What may fail for other values than those that it was recorded with: an index out of range.
_INDEXES = {
    operator.getitem, operator.setitem, np.take, np.ndarray.take, np.take_along_axis, np.put_along_axis,
    np.put, np.choose,
}  # fmt: skip


def _may_fail(i: Instruction) -> bool:
    """Whether a call can raise an error at a replay."""
    if i.guard or i.opaque or i.effect or getattr(i.function, "__module__", "") == "numpy.linalg":
        return True
    return i.function in _INDEXES and any(isinstance(x, Value) for x in leaves(i.args[1:2]))


def _is_c(v: Value, *, backwards: bool = False) -> bool:
    """Whether v lies in memory in the order of its axes, or backwards."""
    width = v.dtype.itemsize
    for n, stride in [*zip(v.shape, v.strides, strict=True)][:: 1 if backwards else -1]:
        if n > 1 and stride != width:
            return False
        width *= n
    return True


def _targets(outs: Any) -> str:
    if isinstance(outs, Value):
        return repr(outs)
    if isinstance(outs, (tuple, list)):
        return f"({', '.join(map(_targets, outs))}{',' if len(outs) == 1 else ''})"
    return "_"


def named(array: Any, name: str) -> Any:
    """A Tensor of that name around an array."""
    t = wrap(array)
    t.name = name
    return t
