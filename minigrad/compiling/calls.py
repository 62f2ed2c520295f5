"""Recording calls: what NumPy's functions and the methods of ops do with stand-ins is done, and written down.

Arrays keep their values while they are recorded, so that what is computed is what eager execution computes. An op is
recorded NumPy call by NumPy call where these give the same bits, and as one call where it does what is not followed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from minigrad.compiling.program import Instruction, NotAsRecorded, Number, Value, leaves, rebuilt
from minigrad.compiling.traced import Traced, TracedNumber
from minigrad.compiling.world import checksum
from minigrad.errors import CompileError
from minigrad.op import Op
from minigrad.ops.index import Setitem
from minigrad.standin import Standin
from minigrad.tape import Node
from minigrad.tensor import Tensor
from minigrad.watch import user_line

__all__ = ["Calls", "Unsettled", "stands_in"]

_TROUBLE = ("divide", "over", "under", "invalid")


class Unsettled(BaseException):
    """This call went the rare way, where it branches on values: it has to run as it was written."""


class Calls:
    """The instructions of a recording, and the values that they work on. name: of the function, for error messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.instructions: list[Instruction] = []
        self.numbers: list[Instruction] = []
        self.sources: list[Number] = []
        self.conditions: list[tuple[Number, Any]] = []
        self.inputs: list[Value] = []
        self.constants: list[Value] = []
        self.undo: list[Callable[[], None]] = []  # puts the world back, the last first
        self.refusal: CompileError | None = None
        self.paused = False  # while an op works on arrays themselves
        self._count = 0
        self._known: dict[int, Traced] = {}  # by the id of the array within
        self._alive: weakref.WeakSet[Traced] = weakref.WeakSet()
        self._sums: dict[Value, int] = {}  # checksums of constants, when they were met
        self._outer: list[tuple[Value, Any]] = []  # values outside the program, and their arrays
        self._saved: set[Value] = set()  # roots outside the program whose values have been kept for undo
        self._trials = 0  # how many ops deep a refusal means no more than "in one piece, then"
        self._refused = False  # whether there was one in the innermost of these trials
        self._op = ""
        self._trouble: dict[str, Any] = {**np.geterr()}

    # Values

    def _number(self) -> int:
        self._count += 1
        return self._count

    def traced(self, array: Any, kind: str = "temporary", root: Value | None = None) -> Traced:
        """A stand-in for an array, which is a new value of the program."""
        t = Traced(self, array, Value(self._number(), array, kind, root))
        self._alive.add(t)
        if kind != "temporary":
            self._outer.append((t.value, array))
        return t

    def input(self, array: Any) -> Traced:
        """The stand-in for an array among the arguments."""
        t = self.traced(array, "input")
        t.value.index = len(self.inputs)
        self.inputs.append(t.value)
        return t

    def value(self, x: Any) -> Any:
        """What an instruction holds for an argument: a Value or Number for what stands in, the argument itself."""
        if isinstance(x, Traced):
            return x.value
        if isinstance(x, TracedNumber):
            return x.number
        if isinstance(x, np.ndarray):
            return self._constant(x)
        return bool(x) if isinstance(x, Node) else x

    def _constant(self, array: Any) -> Value:
        known = self._known.get(id(array))
        if known is None:
            known = self._known[id(array)] = self.traced(array, "constant")
            known.value.array = array
            self.constants.append(known.value)
            self._sums[known.value] = checksum(array)
        elif known.value.kind == "constant":
            self._check_constant(known.value)
        return known.value

    def _check_constant(self, value: Value) -> None:
        """CompileError for an array that was written into, past the recorder, after it was met."""
        if value.array is not None and checksum(value.array) != self._sums[value]:
            self.refuse(
                "a write",
                f"an array {value.dtype} {value.shape} is filled in several steps with NumPy, between uses",
                "make a new array for each use, or compute with Tensors",
                always=True,
            )

    def arrays(self, tree: Any) -> Any:
        """tree with the arrays and numbers themselves."""

        def plain(x: Any) -> Any:
            if isinstance(x, Traced):
                return x.array
            return x.value if isinstance(x, TracedNumber) else x

        return rebuilt(tree, plain)

    @staticmethod
    def is_foreign(kind: type) -> bool:
        """Whether arrays of this type are to be left to their own __array_function__: Tensors, above all."""
        return not issubclass(kind, (Traced, np.ndarray))

    # Instructions

    def ufunc(self, ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """A ufunc, or one of its methods, on stand-ins."""
        if any(hasattr(x, "__array_ufunc__") and not isinstance(x, (Standin, np.ndarray, np.generic)) for x in inputs):
            return NotImplemented
        out = kwargs.pop("out", None)
        out = (out,) if out is not None and not isinstance(out, tuple) else out
        if method == "at":
            return self.call(ufunc.at, inputs, kwargs, writes=inputs[:1])
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        single = ufunc.nout == 1 and method in ("__call__", "reduce")
        if method == "reduce" and len(inputs) > 1:  # axis, dtype, out, keepdims by place
            given = dict(zip(("axis", "dtype", "out", "keepdims", "initial", "where"), inputs[1:], strict=False))
            kwargs = {**kwargs, **{k: v for k, v in given.items() if k != "out"}}
            out = (given["out"],) if given.get("out") is not None else out
            inputs = inputs[:1]
        if out is None or all(x is None for x in out):
            return self.call(function, inputs, kwargs, ufunc=single)
        targets = tuple(x for x in out if x is not None)
        self.call(function, inputs, {**kwargs, "out": out}, ufunc=single, writes=targets)
        return out[0] if len(out) == 1 else out

    def call(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any] | None = None,
        *,
        writes: Sequence[Any] = (),
        ufunc: bool = False,
        effect: bool = False,
        opaque: bool = False,
    ) -> Any:
        """function(*args, **kwargs) done and recorded; what it returns, with stand-ins for arrays."""
        kwargs = kwargs or {}
        if not opaque:
            self._refuse_numbers((tuple(args), kwargs))
        for target in writes:
            self._will_write(target)
        result = self._done(function, *self.arrays(tuple(args)), **self.arrays(kwargs))
        return self.record(result, function, args, kwargs, writes=writes, ufunc=ufunc, effect=effect, opaque=opaque)

    def _refuse_numbers(self, tree: Any) -> None:
        """CompileError for a number of Python's that each replay computes: as an array it would have a dtype."""
        if any(isinstance(x, Traced) and x.weak for x in leaves(tree)):
            self.refuse("a number", "a norm, or another number of Python's, is computed with", "return it")

    def _done(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """function on arrays themselves, of which nothing is noted."""
        before, self.paused = self.paused, True
        try:
            return function(*args, **kwargs)
        finally:
            self.paused = before

    def record(
        self,
        result: Any,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        writes: Sequence[Any] = (),
        ufunc: bool = False,
        effect: bool = False,
        opaque: bool = False,
    ) -> Any:
        """The same for a call that has been made."""
        effect = effect or (opaque and result is None)  # a check
        given = [x for x in leaves((tuple(args), kwargs)) if isinstance(x, Traced)]
        fresh: list[Traced] = []

        def stand_in(x: Any) -> Any:
            scalar, weak = not isinstance(x, np.ndarray), type(x) in (float, int)
            if isinstance(x, np.generic) or (opaque and weak):
                x = np.asarray(x)
            if not isinstance(x, np.ndarray):
                if x is None or opaque:
                    return x
                self.refuse(
                    getattr(function, "__name__", str(function)),
                    f"{x!r:.60}, which is no array and would be the same in every replay",
                    "compute with arrays",
                )
            same = next((t for t in given if t.array is x), None)
            if same is not None:
                return same
            shares = next((t for t in (*given, *fresh) if x.size and np.may_share_memory(t.array, x)), None)
            t = self.traced(x, root=None if shares is None else shares.value.root)
            t.scalar, t.weak = scalar, weak
            fresh.append(t)
            return t

        stood = None if writes and not opaque else rebuilt(result, stand_in)
        new = {t.value for t in fresh}
        outs = rebuilt(stood, lambda t: t.value if isinstance(t, Traced) and t.value in new else None)
        first = next(leaves(tuple(args)), None)
        looks = not opaque and len(fresh) == 1 and isinstance(first, Traced) and isinstance(outs, Value)
        if not fresh and not writes and not effect:
            return stood  # an argument came back as it was
        now: dict[str, Any] = {**np.geterr()}
        if any(state not in ("ignore", "warn", self._trouble[k]) for k, state in now.items()):
            self.refuse("numpy.errstate", "overflow as an error, on which Python may branch", "leave it out")
        self.instructions.append(
            Instruction(
                function,
                rebuilt(tuple(args), self.value),
                rebuilt(kwargs, self.value),
                outs,
                tuple(t.value for t in writes),
                ufunc=ufunc,
                view=bool(looks and first is not None and outs.root is first.value.root),
                effect=effect,
                opaque=opaque,
                op=self._op,
                line=user_line(),
                quiet=tuple(k for k in _TROUBLE if now[k] == "ignore" != self._trouble[k]),
            )
        )
        return stood

    def _will_write(self, target: Any) -> None:
        """Keep what is about to be overwritten outside the program, to put it back if the recording fails."""
        if not isinstance(target, Traced):
            self.refuse(
                "a write",
                f"an array {getattr(target, 'shape', '')} that is not the function's own is written into",
                "put it into a Tensor, and write under no_grad(): t += x, t[i] = x",
            )
        root = target.value.root
        if root.kind == "constant":
            self.refuse(
                "a write",
                f"an array {root.shape} that the function met as a constant is written into",
                "put it into a Tensor, and write under no_grad(): t += x, t[i] = x",
            )
        if root.kind != "temporary" and root not in self._saved:
            self._saved.add(root)
            array = target.array
            while isinstance(array.base, np.ndarray):
                array = array.base
            before = array.copy()
            self.undo.append(lambda: np.copyto(array, before))
        if root.cell is not None:
            root.cell.written = True  # the tape is to hear of it

    def guard(self, t: Traced, always: bool) -> bool:
        """t's truth value, taken for granted: every replay looks whether it is true. always: it is not to be false."""
        if not t.array and not always:
            return False
        if not t.array:
            if self._trials:
                self.refuse("a branch", "a value that decides what an op does", "leave it to the op")
            raise Unsettled
        self.instructions.append(Instruction(bool, (t.value,), effect=True, guard=True, op=self._op))
        return True

    # Numbers

    def read(self, value: Any, text: str, *objects: Any) -> TracedNumber:
        """The stand-in for a number that each replay reads anew: text is the expression, with {} for the objects."""
        number = Number(self._number(), text, objects)
        self.sources.append(number)
        return TracedNumber(self, value, number)

    def compute(self, f: Callable[[Any, Any], Any], x: Any, y: Any) -> TracedNumber:
        """f(x, y) of numbers."""
        value = f(*self.arrays((x, y)))
        number = Number(self._number())
        self.numbers.append(Instruction(f, (self.value(x), self.value(y)), outs=number))
        return TracedNumber(self, value, number)

    def settle(self, t: TracedNumber) -> Any:
        """The number itself: the program holds for as long as it is the same."""
        self.conditions.append((t.number, t.value))
        return t.value

    # Refusals

    def refuse(self, how: str, what: str, fix: str, *, always: bool = False) -> NoReturn:
        """Raises CompileError, and sees to it that nothing is compiled even if the function catches it.

        always: also where an op could be kept in one piece.
        """
        line = user_line()
        error = CompileError(
            f"compile({self.name})",
            f"{how}{f' at {line}' if line else ''}: {what}",
            "a function that does the same NumPy calls for all values of its arguments",
            fix,
        )
        self._refused = True
        if always or not self._trials:
            self.refusal = self.refusal or error
        raise error

    # Ops

    def run(self, op: Op, method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """forward, forward_and_keep or backward of an op: as NumPy calls, or as one call."""
        outer, self._op = self._op, op.name if method.__name__ != "backward" else f"{op.name}, backward"
        try:
            if any(isinstance(x, Tensor) for x in args):  # a rule that is differentiated: its ops come here themselves
                return method(op, *args)
            fields = tuple(op.__dict__.values())
            self._refuse_masks(op, fields, args)
            self._refuse_numbers((fields, args))
            plain = op
            if stands_in(fields):  # x[index], with an index that is an argument of the function
                plain = _op_of(type(op), tuple(op.__dict__), self.arrays(fields))
            expected = self._done(method, plain, *self.arrays(args))
            mark = len(self.instructions)
            found, fits = self._tried(method, op, args)
            if fits and _same_bits(self.arrays(found), expected):
                return rebuilt(found, self._made)
            self._forget_from(mark)
            if plain is op:
                shapes = _shapes(expected) if op.outside else None
                return self.record(expected, _Bound(op, method, shapes), args, {}, opaque=True)
            function = _Unbound(type(op), tuple(op.__dict__), method)
            return self.record(expected, function, (fields, *args), {}, opaque=True)
        finally:
            self._op = outer

    def _refuse_masks(self, op: Op, fields: tuple[Any, ...], args: tuple[Any, ...]) -> None:
        """CompileError for an index whose entries say how many there are."""
        masked = any(isinstance(x, Traced) and x.dtype.kind == "b" for x in leaves(fields))
        if masked and not (isinstance(op, Setitem) and np.ndim(args[-1]) == 0):
            self.refuse(
                f"{op.symbol or op.name} with a mask",
                "a part whose shape depends on values",
                "use np.where(mask, x, 0), of x's own shape",
                always=True,
            )

    def _tried(self, method: Callable[..., Any], op: Op, args: tuple[Any, ...]) -> tuple[Any, bool]:
        """What a method of an op gives for stand-ins, and whether it did nothing that they refuse."""
        refused, self._refused = self._refused, False
        self._trials += 1
        try:
            return method(op, *args), not self._refused
        except Exception:  # whatever it is that stand-ins cannot do: the op has just run without them
            return None, False
        finally:
            self._trials -= 1
            self._refused = refused

    def _forget_from(self, mark: int) -> None:
        """Take back the instructions of a trial, and what it has met for the first time."""
        del self.instructions[mark:]

    def _made(self, x: Any) -> Any:
        """A plain array that an op returned, such as zeros, as an array of the program's own."""
        return self.call(np.copy, (x,)) if type(x) is np.ndarray else x

    def check(self, op: Op, method: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """The check of an op: done, and recorded where it looks at values."""
        self._done(method, op, *self.arrays(args))
        mark = len(self.instructions)
        if self._tried(method, op, args)[1] and len(self.instructions) == mark:
            return  # it looks at shapes
        self._forget_from(mark)
        self.record(None, _Bound(op, method), args, {}, effect=True, opaque=True)


class _Bound:
    """A method of an op, called without a look at the class: while one records, classes have others."""

    def __init__(self, op: Op, method: Callable[..., Any], shapes: Any = None) -> None:
        self.op, self.method, self.__name__ = op, method, f"{op.name}.{method.__name__}"
        self.shapes = shapes  # of a user's op, whose results may be of other shapes for other values

    def __call__(self, *args: Any) -> Any:
        found = self.method(self.op, *args)
        if self.shapes is not None and _shapes(found) != self.shapes:
            raise NotAsRecorded
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bound) and self.method is other.method and self.op == other.op

    def __hash__(self) -> int:
        return hash(self.method)


class _Unbound:
    """A method of an op whose fields hold arrays: they come first among its arguments, in a tuple."""

    def __init__(self, cls: type[Op], names: tuple[str, ...], method: Callable[..., Any]) -> None:
        self.cls, self.names, self.method, self.__name__ = cls, names, method, f"{cls.name}.{method.__name__}"

    def __call__(self, fields: tuple[Any, ...], *args: Any) -> Any:
        return self.method(_op_of(self.cls, self.names, fields), *args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unbound) and self.method is other.method and self.cls is other.cls

    def __hash__(self) -> int:
        return hash(self.method)


def _op_of(cls: type[Op], names: tuple[str, ...], fields: tuple[Any, ...]) -> Op:
    op = object.__new__(cls)
    op.__dict__.update(zip(names, fields, strict=True))
    return op


def _shapes(tree: Any) -> Any:
    """Shapes and dtypes of the arrays in a tree."""
    return rebuilt(tree, lambda x: (x.shape, x.dtype) if isinstance(x, (np.ndarray, np.generic)) else None)


def stands_in(tree: Any) -> bool:
    """Whether there is a stand-in among the leaves of a tree."""
    return any(isinstance(x, Standin) for x in leaves(tree))


def _same_bits(found: Any, expected: Any) -> bool:
    """Whether two results of a method are the same: arrays bit for bit and alike in memory."""
    if isinstance(expected, (tuple, list)):
        same_kind = isinstance(found, (tuple, list)) and len(found) == len(expected)
        return same_kind and all(map(_same_bits, found, expected))
    if not isinstance(expected, (np.ndarray, np.generic)):
        return found is expected or (not isinstance(found, np.ndarray) and bool(found == expected))
    if not isinstance(found, (np.ndarray, np.generic)):
        return False
    if (found.shape, found.dtype) != (
        expected.shape,
        expected.dtype,
    ):
        return False
    lengths = range(found.ndim)
    if any(found.shape[i] > 1 and found.strides[i] != expected.strides[i] for i in lengths):
        return False
    return found.tobytes() == expected.tobytes()
