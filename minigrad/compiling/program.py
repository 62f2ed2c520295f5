"""What a program is: values, instructions on them, and the places outside that it reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from minigrad.watch import Line

__all__ = ["Cell", "Instruction", "NotAsRecorded", "Number", "Program", "Returned", "Value", "leaves", "rebuilt"]

Array = NDArray[Any]


class NotAsRecorded(Exception):
    """A value that the program took for granted is another one: the call has to run as it was written."""


class Value:
    """An array of the program: a shape, and the memory that it looks at.

    root: the value whose memory this is; itself where it has its own. number: as the printout has it.
    kind: of a root: "temporary", made by the program; "input", an argument of the call; "cell", the array in a place
    outside; "constant", an array that was met while recording and is read by reference.
    index: of an input, its place among the arrays of the arguments. array: of a constant. cell: of a cell.
    """

    __slots__ = ("array", "cell", "dtype", "index", "kind", "number", "root", "shape", "strides")

    def __init__(self, number: int, like: Array, kind: str = "temporary", root: Value | None = None) -> None:
        self.number, self.kind, self.root = number, kind, root or self
        self.shape, self.dtype, self.strides = like.shape, like.dtype, like.strides
        self.array: Array | None = None
        self.cell: Cell | None = None
        self.index = -1

    @property
    def nbytes(self) -> int:
        """How many bytes its entries take."""
        n = self.dtype.itemsize
        for length in self.shape:
            n *= length
        return n

    def __repr__(self) -> str:
        return f"v{self.number}"


class Number:
    """A number of the program that is computed in Python from options and steps of an optimiser, before anything else.

    text, objects: the expression that reads it, with {} for each object; "" for the result of an instruction.
    """

    __slots__ = ("number", "objects", "text")

    def __init__(self, number: int, text: str = "", objects: tuple[Any, ...] = ()) -> None:
        self.number, self.text, self.objects = number, text, objects

    def __repr__(self) -> str:
        return f"n{self.number}"


@dataclass(eq=False)
class Instruction:
    """One call: outs = function(*args, **kwargs).

    args, kwargs: with Values and Numbers at any depth of tuples and lists.
    outs: a Value for the array that it returns, or a tuple of them, None for what is not new; or its one Number.
    writes: values, of memory that is there already, that it fills or changes (as `out=`, or as the first argument of
    np.copyto); they are among args or kwargs.
    opaque: an op in one piece: what it returns may be an argument, or look at one.
    ufunc: function is a NumPy ufunc, or the reduce of one, and takes `out=`. view: outs[0] looks at its first argument.
    effect: to be kept though nobody reads what it returns: a check, a draw. guard: outs[0] must be true, or the call is
    run as it was written. op, line: what it belongs to, for the printout. quiet: what floating-point trouble the
    recorded code had switched off around it.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    outs: Any = None
    writes: tuple[Value, ...] = ()
    ufunc: bool = False
    view: bool = False
    effect: bool = False
    guard: bool = False
    opaque: bool = False
    op: str = ""
    line: Line | None = None
    quiet: tuple[str, ...] = ()

    @property
    def results(self) -> Iterator[Value]:
        """The values that it makes."""
        return (x for x in leaves(self.outs) if isinstance(x, Value))

    @property
    def reads(self) -> Iterator[Value]:
        """The values among its arguments."""
        return (x for x in leaves((self.args, tuple(self.kwargs.values()))) if isinstance(x, Value))


class Cell:
    """A place outside the program that holds an array: what it reads there, and what it leaves there.

    words: what it is, for the printout, with {} for the name of the tensor that it is `about`. owner: whose place it
    is. read gives the array, None for none; write puts one there. tensor: the one that it is the array of, if any.
    first: what was there when the recording began. before: its value in the program, if it was read. looked: whether it
    was seen that nothing was there. assigned: whether the function has put something there. written: whether the array
    is written into.
    changed: whether something else is left there, and after: what: a Value, a plain array or None.
    """

    def __init__(self, words: str, owner: Any, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.words, self.owner, self.read, self.write = words, owner, read, write
        self.tensor: Any = None
        self.about: Any = None
        self.first: Any = None
        self.before: Value | None = None
        self.looked = self.assigned = self.written = self.changed = False
        self.after: Any = None


@dataclass(eq=False)
class Program:
    """A recorded call: instructions in order, what they begin with, and what comes of them.

    numbers: instructions on Numbers, which come first. conditions: (Number, value) that were taken for granted.
    modules: those that ran, and whether in training.
    result: what the function returned, with Values for arrays, wrapped in `Returned` where it was a Tensor.
    begins, ends: to be called before anything is computed (raising Stale if the world is not as it was) and at the end.
    """

    inputs: list[Value]
    cells: list[Cell]
    constants: list[Value]
    instructions: list[Instruction]
    numbers: list[Instruction]
    sources: list[Number]
    conditions: list[tuple[Number, Any]]
    modules: list[tuple[Any, bool]]
    result: Any
    begins: list[Callable[[], None]]
    ends: list[Callable[[], None]]


@dataclass(frozen=True, eq=False)
class Returned:
    """A Tensor among what the function returned."""

    value: Any
    name: str | None = None


def leaves(tree: Any) -> Iterator[Any]:
    """Everything in tuples, lists, dicts and slices within tuples, lists, dicts and slices.

    >>> list(leaves((1, [2, {"a": 3}])))
    [1, 2, 3]
    """
    if isinstance(tree, (tuple, list)):
        for part in tree:
            yield from leaves(part)
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from leaves(part)
    elif isinstance(tree, slice):
        yield from (tree.start, tree.stop, tree.step)
    else:
        yield tree


def rebuilt(tree: Any, change: Callable[[Any], Any]) -> Any:
    """tree with change(leaf) for every leaf.

    >>> rebuilt((1, [2]), lambda x: x + 1)
    (2, [3])
    """
    if isinstance(tree, tuple):
        parts = [rebuilt(part, change) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    if isinstance(tree, list):
        return [rebuilt(part, change) for part in tree]
    if isinstance(tree, dict):
        return {key: rebuilt(part, change) for key, part in tree.items()}
    if isinstance(tree, slice):
        return slice(change(tree.start), change(tree.stop), change(tree.step))
    return change(tree)
