"""`compile`: what decides whether a call is recorded, replayed or run as it was written."""

from __future__ import annotations

import inspect
import sys
import threading
import types
import warnings
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import numpy as np

from minigrad.compiling.emit import Linked, Moved, NotAsRecorded
from minigrad.compiling.explain import explained
from minigrad.compiling.optimisers import Stale
from minigrad.compiling.outside import Outside
from minigrad.compiling.passes import simplify
from minigrad.compiling.recorder import Recorder, Unsettled, recorder_here
from minigrad.errors import DTypeError, describe
from minigrad.tape import is_recording
from minigrad.tensor import Tensor
from minigrad.watch import here, watched

__all__ = ["Compiled", "Stats", "compile"]

P = ParamSpec("P")
R = TypeVar("R")

_MANY = 8  # programs that have never been replayed: a warning says what varies, and others run as they are written
_HELD = 64  # programs that are kept; the one that has not been used for longest goes
_FEW = 3  # calls that could not be replayed, before another recording is tried
_LONGEST = 1000  # calls between two recordings of what could not be recorded, since it went a rare way


class Stats(NamedTuple):
    """How often a compiled function was recorded, replayed and run as it is written; bytes that its programs hold.

    >>> Stats(captures=1, replays=99, eager=0, arena_bytes=832).replays
    99
    """

    captures: int
    replays: int
    eager: int
    arena_bytes: int


def compile(function: Callable[P, R]) -> Compiled[P, R]:
    """function as a straight list of NumPy calls, recorded at its first call and replayed at the others

    function: works on Tensors and arrays: a forward pass, or a whole training step with backward() and the optimiser's
        step. It returns Tensors, arrays, tuples, lists or dicts of them, or constants.
    The first call for each signature (shapes, dtypes and memory layouts of arrays, all other arguments, training or
    evaluation of the modules that run, whether gradients are recorded) runs as it is written, while its array
    operations are noted. Later calls repeat these, without Tensors and graph, in memory that is there already: bit for
    bit the same results, gradients, parameters and optimiser states. Tensors that the function finds outside are read
    and written where they are. Another value of a variable, or of an attribute or entry of what it finds there, makes
    another signature; plain arrays outside are constants. What a call returns is the caller's own, and has no graph.
    Within another compiled function it is part of that; for a Tensor that is part of a graph,
    and while tools of `debug` or `graph.record` look on, it runs as it is written.
    Raises CompileError, and leaves everything as it was, where a replay could not repeat what the function does: a
    branch on a value, float(x), shapes that depend on values, arrays kept outside, a result that requires a gradient.
    DTypeError for what is no function, and for arguments that cannot be told from one another (unhashable objects).

    >>> import minigrad as mg
    >>> w = mg.Tensor([3.0, -4.0], requires_grad=True)
    >>> optimizer = mg.optim.SGD([w], lr=0.25)
    >>> @mg.compile
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = mg.sum((w - x) ** 2)
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> [step(np.ones(2)).item() for _ in range(3)]
    [29.0, 7.25, 1.8125]
    >>> step.stats.captures, step.stats.replays
    (1, 2)
    """
    if not callable(function):
        raise DTypeError("compile", describe(function), "a function on Tensors", "write @minigrad.compile above it")
    if isinstance(function, Compiled):
        return function
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise DTypeError(
            "compile",
            f"{function.__name__}, a generator or async function",
            "a function that runs from its first line to its last without a stop",
            "compile the part of it that lies between two stops",
        )
    return Compiled(function)


class Compiled(Generic[P, R]):
    """A compiled function: call it as the function itself. See compile.

    function: the one that was compiled. stats: how often it was recorded and replayed. explain() prints its programs.

    >>> double = compile(lambda x: 2 * x)
    >>> double(np.ones(3)), double.function(np.ones(3)), double
    (array([2., 2., 2.]), array([2., 2., 2.]), <compiled <lambda>: 1 captures, 0 replays>)
    """

    function: Callable[P, R]

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        self._name = getattr(function, "__name__", type(function).__name__)
        self._programs: dict[Any, list[Linked]] = {}
        self._outside = Outside(function)
        self._lock = threading.RLock()  # the memory of a program serves one call at a time
        self._captures = self._replays = self._eager = 0
        self._idle = 0  # programs that have never been replayed
        self._pauses: dict[Any, tuple[int, int]] = {}  # by key: calls until it is recorded again, and after those
        self._warned = False
        update_wrapper(self, function)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.function,)  # a copy records anew

    def __repr__(self) -> str:
        return f"<compiled {self._name}: {self._captures} captures, {self._replays} replays>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        found: R = self._call(args, kwargs)
        return found

    def _call(self, args: Any, kwargs: Any) -> Any:
        if recorder_here() is not None or (watched and here()):
            return self.function(*args, **kwargs)
        arrays: list[Any] = []
        recorded = is_recording()
        try:
            key = _key(args, arrays, recorded), _key(kwargs, arrays, recorded) if kwargs else (), recorded
        except _AsWritten:
            return self._as_written(args, kwargs)
        with self._lock:
            try:
                programs = self._programs.get(key, [])
            except TypeError as error:
                raise self._unhashable(args, kwargs) from error
            outside = self._outside.state()
            for i, program in enumerate(programs):
                if outside[: len(program.outside)] != program.outside:
                    continue
                try:
                    while True:
                        try:
                            found = program.run(arrays)
                            break
                        except Moved as moved:
                            programs[i] = program = program.relinked(moved.cell)
                except Stale:
                    continue
                except NotAsRecorded:
                    program.failed += 1
                    if program.failed > _FEW and 4 * program.failed > program.runs:
                        self._idle -= not program.runs
                        programs.remove(program)  # what it takes for granted is no rare exception
                    return self._as_written(args, kwargs)
                except (ArithmeticError, MemoryError, Warning):
                    raise
                except Exception:  # a check, an index: recorded again it is an error in the function's own words
                    return self._capture(key, args, kwargs)
                self._replays += 1
                self._idle -= not program.runs
                program.runs += 1
                program.last = self._replays
                return found
            if self._idle >= _MANY:
                self._warn(key)
                return self._as_written(args, kwargs)
            left, n = self._pauses.get(key, (0, 0))
            if left:
                self._pauses[key] = left - 1, n
                return self._as_written(args, kwargs)
            return self._capture(key, args, kwargs)

    def _as_written(self, args: Any, kwargs: Any) -> Any:
        self._eager += 1
        return self.function(*args, **kwargs)

    def _capture(self, key: Any, args: Any, kwargs: Any) -> Any:
        if not {"ignore", "warn"}.issuperset(np.geterr().values()):
            return self._as_written(args, kwargs)  # an error in the middle of a replay would leave half of a step
        recorder = Recorder(self._name)
        self._outside.look_again()
        outside = self._outside.hold()
        try:
            result, program = recorder.recorded(self.function, args, kwargs, key[2])
        except Unsettled:
            n = self._pauses.get(key, (0, 0))[1]
            self._pauses[key] = 2 * n, min(2 * n + 1, _LONGEST)
            return self._as_written(args, kwargs)
        self._pauses.pop(key, None)
        try:
            removed = simplify(program)
            names = [path for name, x in self._named(args, kwargs) for path in _paths(name, x, key[2])]
            linked = Linked(program, removed, names, outside)
        except BaseException:
            recorder.undone()
            raise
        linked.last = self._replays
        self._programs.setdefault(key, []).insert(0, linked)
        self._captures += 1
        self._idle += 1
        self._forget_one()
        return result

    def _forget_one(self) -> None:
        """Let the program go that has not been used for longest, where there are too many."""
        held = [(program.last, key, program) for key, programs in self._programs.items() for program in programs]
        if len(held) > _HELD:
            _, key, program = min(held, key=lambda entry: entry[0])
            self._idle -= not program.runs
            self._programs[key].remove(program)
            if not self._programs[key]:
                del self._programs[key]

    @property
    def stats(self) -> Stats:
        """How often the function was recorded (captures), replayed, and run as it is written; arena_bytes: of memory.

        >>> double = compile(lambda x: 2 * x)
        >>> y = double(np.ones(3))
        >>> double.stats
        Stats(captures=1, replays=0, eager=0, arena_bytes=0)
        """
        held = sum(program.arena.in_bytes for programs in self._programs.values() for program in programs)
        return Stats(self._captures, self._replays, self._eager, held)

    def explain(self) -> None:
        """Prints each program: what it reads and writes, its calls with shapes and bytes, and what was left out.

        >>> @compile
        ... def double(x):
        ...     return 2 * x
        >>> y = double(np.ones(3))
        >>> double.explain()
        double(x: float64 (3,))
        <BLANKLINE>
        reads at each replay
          x  float64 (3,)  24 B  argument
        <BLANKLINE>
        computes
          v2 = multiply(2, x)  float64 (3,)  24 B
        <BLANKLINE>
        returns v2
        <BLANKLINE>
        left out: nothing
        memory: an arena of 0 B for 0 arrays
        """
        texts = [
            explained(self._name, program, program.names)
            for programs in self._programs.values()
            for program in programs
        ]
        print(
            "\n\n".join(texts) if texts else f"{self._name} has not been called yet: it is recorded at its first call"
        )

    def _unhashable(self, args: Any, kwargs: Any) -> DTypeError:
        named = self._named(args, kwargs)
        name, x = next(((name, x) for name, x in named if not _can_be_hashed(x)), named[0])
        return DTypeError(
            f"compile({self._name}): {name}",
            describe(x),
            "arrays, Tensors, tuples, lists and dicts of them, and constants that can be hashed",
            "pass its arrays themselves, or let the function find it outside",
        )

    def _named(self, args: Any, kwargs: Any) -> list[tuple[str, Any]]:
        """The arguments of a call with their names."""
        try:
            bound = inspect.signature(self.function).bind(*args, **kwargs).arguments
        except (TypeError, ValueError):
            bound = {**{f"argument {i}": x for i, x in enumerate(args)}, **kwargs}
        return list(bound.items())

    def _warn(self, key: Any) -> None:
        if self._warned:
            return
        self._warned = True
        try:
            names = list(inspect.signature(self.function).parameters)
        except (TypeError, ValueError):
            names = []
        varying = []
        keys = [*self._programs, key]
        for i in range(len(key[0][1])):
            seen = dict.fromkeys(k[0][1][i] if i < len(k[0][1]) else None for k in keys)
            if len(seen) > 1:
                name = names[i] if i < len(names) else f"argument {i}"
                varying.append(f"{name} ({', '.join(_shown(other) for other in [*seen][-2:])}, ...)")
        if any(k[1] != key[1] for k in keys):
            varying.append("the keyword arguments")
        states = [program.outside for programs in self._programs.values() for program in programs]
        outside = dict.fromkeys(name for state in states for name in self._outside.differing(state))
        varying += [f"{name}, which it finds outside" for name in outside]
        warnings.warn(
            f"compile({self._name}): recorded {self._captures} times and replayed {self._replays} times, since what it "
            f"is called with varies: {', '.join(varying) or 'options, modes or parameters that it finds outside'}. New "
            "signatures now run as they are written; pad arrays to one shape, or pass numbers that change as arrays",
            stacklevel=_callers_level(),
        )


class _AsWritten(Exception):
    """Arguments that belong to a graph."""


def _key(x: Any, arrays: list[Any], recorded: bool) -> Any:
    """What a program is found by; arrays is filled with the arrays that it reads."""
    kind = type(x)
    if kind is np.ndarray:
        if x.dtype.kind == "O":
            raise _AsWritten
        arrays.append(x)
        return x.shape, x.dtype, x.strides
    if isinstance(x, Tensor):
        if x._node is not None and recorded:
            if x._node.op is not None:
                raise _AsWritten
            return kind, _Itself(x)
        array = x._data
        if array.dtype.kind == "O":
            raise _AsWritten
        arrays.append(array)
        return kind, array.shape, array.dtype, array.strides
    if isinstance(x, (tuple, list)):
        return kind, tuple([_key(part, arrays, recorded) for part in x])
    if isinstance(x, np.ndarray):  # a matrix or masked array, which works by rules of its own
        raise _AsWritten
    if isinstance(x, dict):
        return kind, tuple([(name, _key(part, arrays, recorded)) for name, part in x.items()])
    if isinstance(x, (float, complex, np.inexact)):  # 0.0 and -0.0 are two numbers, and nan is one
        return kind, repr(x)
    return kind, x


def _can_be_hashed(x: Any) -> bool:
    try:
        hash(_key(x, [], False))
    except TypeError:
        return False
    return True


def _paths(name: str, x: Any, recorded: bool) -> list[str]:
    """The names of the arrays in an argument, in the order in which _key finds them."""
    if isinstance(x, np.ndarray) or (isinstance(x, Tensor) and not (x._node is not None and recorded)):
        return [name]
    parts = x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, (tuple, list)) else ()
    return [path for key, part in parts for path in _paths(f"{name}[{key!r}]", part, recorded)]


class _Itself:
    """A leaf among the arguments: found by what it is, not by what it holds."""

    def __init__(self, t: Tensor) -> None:
        self.t = t

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.t is other.t

    def __hash__(self) -> int:
        return id(self.t)

    def __repr__(self) -> str:
        return f"a leaf {self.t.dtype} {self.t.shape}"


def _shown(key: Any) -> str:
    """One argument's part of a key, in words."""
    if isinstance(key, tuple) and len(key) == 4 and isinstance(key[2], np.dtype):
        return f"{key[2]} {key[1]}"
    if isinstance(key, tuple) and len(key) == 3 and isinstance(key[1], np.dtype):
        return f"{key[1]} {key[0]}"
    if isinstance(key, tuple) and len(key) == 2:
        return f"{key[1]:.40}" if isinstance(key[1], str) and key[0] is not str else f"{key[1]!r:.40}"
    return f"{key!r:.40}"


def _callers_level() -> int:
    """The stacklevel of the first frame outside the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("minigrad"):
        level, frame = level + 1, frame.f_back
    return level
