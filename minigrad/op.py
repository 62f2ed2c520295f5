"""Op: what an operation declares, and how a call of it is recorded.

An op is a small frozen class. Its fields are its static parameters; `forward` takes arrays and returns an array (a
NumPy ufunc will do as it is); `backward` takes the incoming gradient `dout` and asks by name for what it needs. It may
ask for

    x          any argument of forward, by its name       out         the result of forward
    x_shape    only the shape of that argument            needs       truthy entries for gradients in demand
    slope      what the op declares in `keeps`

and what it asks for is what the tape keeps alive. Both methods see arrays; backward sees Tensors when a
derivative of the derivative is wanted, and is therefore written with operators and NumPy functions alone.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from minigrad.contract import REAL, Case, Domain, broadcast_clash, contract_clash, numbers, objects_pass
from minigrad.errors import (
    ArgumentError,
    DTypeError,
    InPlaceError,
    LabelError,
    MinigradError,
    ShapeError,
    describe,
)
from minigrad.selection import note_selection
from minigrad.standin import Standin
from minigrad.tape import FOREIGN, KeepingNode, Node, Version, is_recording, tick
from minigrad.tensor import Tensor, TensorLike, plain, publish, wrap
from minigrad.watch import now, tell, watched

__all__ = ["Binary", "Op", "Unary", "registry", "sealed"]

F = TypeVar("F", bound=Callable[..., Tensor])


class Op:
    """One differentiable function: out = forward(x, ...), dx, ... = backward(dout, ...).

    Subclass it, give it forward and backward, and call an instance on Tensors; nothing else is to be
    registered. backward returns one gradient for each argument of forward, in a tuple if there are
    several: each of its argument's shape, None where there is none. Raises GradientError at backward for
    a rule that returns anything else, TypeError when the class is made and backward asks for a name that
    nobody gives.

    >>> class Cube(Op):
    ...     '''out = x**3'''
    ...     def forward(self, x):
    ...         return x * x * x
    ...     def backward(self, dout, x):
    ...         return dout * 3 * x * x
    >>> x = Tensor(2.0, requires_grad=True)
    >>> Cube()(x).backward()
    >>> x.grad
    array(12.)
    """

    # The contract, for checks, error texts, strategies, generated tests and the op table
    elementwise: ClassVar[bool] = False  # works entry by entry: broadcasts, and the walk undoes it
    signature: ClassVar[str] = ""  # gufunc signature, such as "(m,k),(k,n)->(m,n)"
    domain: ClassVar[Domain | tuple[Domain, ...]] = REAL  # of each argument
    cases: ClassVar[tuple[Case, ...]] = ()  # sample calls, where parameters depend on shapes
    symbol: ClassVar[str] = ""  # what the book draws in the circle; the name, if nothing else
    # Each argument's gradient as an expression in dout, out, arguments and fields: "dout * y"; () if it is a long one
    gradients: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[Callable[..., Any] | None] = None  # an independent way to the same value
    view: ClassVar[bool] = False  # out may look at x's memory
    keeps: ClassVar[str | None] = None  # a method name; forward_and_keep returns (out, its value)
    moves: ClassVar[bool] = False  # the rule moves entries of dout, adds them up or drops them, and no more
    selects: ClassVar[bool] = False  # and drops those that had no part in out

    # Read from the class when it is made
    name: ClassVar[str] = "op"
    fields: ClassVar[dict[str, Any]] = {}
    args: ClassVar[tuple[str, ...]] = ()
    variadic: ClassVar[bool] = False
    outside: ClassVar[bool] = True  # a user's own, whose methods see read-only arrays
    carries: ClassVar[bool] = False  # passes on which entries have a part in the result, and not only whether any has
    spares: ClassVar[bool] = False  # keeps something in place of its inputs: at first order they may be written
    asks: ClassVar[tuple[str, ...]] = ()
    function: ClassVar[Callable[..., Tensor] | None] = None  # the public function, where there is one
    answers: ClassVar[tuple[Callable[..., Any], ...]] = ()  # NumPy functions that it stands for

    if TYPE_CHECKING:
        forward: Callable[..., Any]
        backward: Callable[..., Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        declared = {
            key: getattr(cls, key, _REQUIRED)
            for key, annotation in inspect.get_annotations(cls).items()
            if "ClassVar" not in str(annotation)
        }
        cls.fields = {key: getattr(cls, key, value) for key, value in {**cls.fields, **declared}.items()}
        for key in cls.fields.keys() & vars(Op).keys():
            raise DTypeError(cls.__name__, f"a field {key!r}", "a name that Op does not use itself", "rename the field")
        if not (hasattr(cls, "forward") and hasattr(cls, "backward")):
            return
        for key in ("forward", "backward"):
            if isinstance(inspect.getattr_static(cls, key), (staticmethod, classmethod)):
                raise DTypeError(
                    f"{cls.__name__}.{key}",
                    "a static or class method",
                    "a method with self",
                    f"write def {key}(self, ...)",
                )
        cls.args, cls.variadic = _parameters(cls.forward)
        asks, _ = _parameters(cls.backward)
        cls.asks = asks[1:]
        cls.outside = not cls.__module__.startswith("minigrad.")
        if not isinstance(cls.gradients, tuple):
            raise DTypeError(
                f"{cls.__name__}.gradients",
                describe(cls.gradients),
                "a tuple: one text for each argument of forward",
                f"write gradients = ({cls.gradients!r},), with a comma",
            )
        cls.carries = cls.elementwise or cls.moves or cls.carry is not Op.carry
        if cls.selects and not cls.moves:
            raise DTypeError(
                f"{cls.__name__}.selects",
                "True, without moves",
                "an op whose rule moves entries of dout, and drops those that it did not select",
                "write moves = selects = True, or leave selects out",
            )
        cls.spares = cls.keeps is not None and not set(cls.args) & set(cls.asks)
        for key in {"forward", "forward_and_keep", "backward"} & vars(cls).keys() if cls.outside else ():
            method = getattr(cls, key)
            setattr(cls, key, method if isinstance(method, np.ufunc) else _careful(method))
        if not asks:
            raise DTypeError(f"{cls.__name__}.backward", "no dout", "dout first", "write def backward(self, dout)")
        given = (
            set(cls.args)
            if cls.variadic
            else {*cls.args, *(f"{arg}_shape" for arg in cls.args), "out", "needs", cls.keeps}
        )
        for ask in cls.asks:
            if ask not in given:
                raise DTypeError(
                    f"{cls.__name__}.backward",
                    f"a parameter {ask!r}",
                    f"dout first, then any of {', '.join(sorted(filter(None, given)))}",
                    "ask for an argument of forward by its name, or for out",
                )
        cls.__call__ = Op._first_call  # type: ignore[method-assign]  # on purpose: see there

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        values = dict(zip(self.fields, args, strict=False))
        if len(values) == len(self.fields) == len(args) and not kwargs:
            self.__dict__.update(values)
            return
        if len(args) > len(self.fields) or values.keys() & kwargs.keys() or kwargs.keys() - self.fields.keys():
            raise DTypeError(
                type(self).__name__,
                f"parameters {args} {kwargs}",
                f"the fields {', '.join(self.fields) or '(none)'}",
                "declare each parameter as an annotated field of the class",
            )
        values = {**self.fields, **values, **kwargs}
        for key, value in values.items():
            if value is _REQUIRED:
                raise DTypeError(type(self).__name__, f"no {key}", f"a value for {key}", f"pass {key}=...")
        self.__dict__.update(values)

    def __setattr__(self, key: str, value: Any) -> None:
        raise DTypeError(
            f"{type(self).__name__}.{key}",
            "an assignment to an op",
            "an op that remembers nothing: one instance serves many calls",
            "ask for x or out in backward, or make it a field",
        )

    def __call__(self, *args: TensorLike) -> Tensor:
        """forward on the values of args, recorded."""
        raise DTypeError(type(self).__name__, "a call", "an op with forward and backward", "define both")

    def _first_call(self, *args: TensorLike) -> Tensor:
        # Compiled when it is first wanted: for all ops at once it would be half of the time to import minigrad.
        type(self).__call__ = _compile(type(self), "self")  # type: ignore[method-assign]  # on purpose
        return self(*args)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.__dict__.items())))

    def __repr__(self) -> str:
        changed = [f"{k}={v!r}" for k, v in self.__dict__.items() if v is not self.fields.get(k)]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @classmethod
    def public(cls, *answers: Callable[..., Any]) -> Callable[[F], F]:
        """Decorator: this function is the op's public one, has its docstring, answers to these NumPy functions."""

        def decorate(function: F) -> F:
            function.__doc__ = function.__doc__ or cls.__doc__
            function.__module__ = cls.__module__
            cls.function, cls.answers = staticmethod(function), answers
            publish(cls.name, function, answers)
            return function

        return decorate

    def argument(self, i: int) -> str:
        """The name of argument i, for error texts."""
        return self.args[0] + f"[{i}]" if self.variadic else self.args[i]

    def wire(self, node: Node, saved: tuple[Any, ...]) -> tuple[Any, ...]:
        """The saved values of a node as Tensors that belong to the graph, for a rule that is to be differentiated."""
        whole = dict(zip(self.args, node.parents, strict=False))
        values: list[Any] = []
        if self.variadic:
            return tuple(wrap(v, p) if p is not None else v for v, p in zip(saved, node.parents, strict=False))
        for ask, value in zip(self.asks, saved, strict=True):
            if ask == self.keeps:
                assert isinstance(node, KeepingNode)
                assert node.inputs is not None
                inputs = zip(node.inputs, node.parents, strict=True)
                values.append(getattr(self, ask)(*[wrap(x, p) if p is not None else x for x, p in inputs]))
            elif ask == "out":
                values.append(wrap(value, node))
            elif whole.get(ask) is not None:
                values.append(wrap(value, whole[ask]))
            else:
                values.append(value)
        return tuple(values)

    def carry(self, chosen: Any, dout: Any, saved: tuple[Any, ...], parents: tuple[Node | None, ...]) -> Any:
        """Which entries of each argument have a part in the chosen entries of out: booleans, or None for all of them.

        chosen: booleans of out's shape, None for all entries. saved: what the rule gets beside dout.
        """
        if self.moves:
            if chosen is None:
                # Booleans for a leaf, or x[i] of what has no rule that works entry by entry, would change nothing.
                if dout.size and not any(p and p.op and (self.elementwise or p.op.carries) for p in parents):
                    return None
                chosen = np.ones(dout.shape)
            entries = self.backward(chosen.astype(float), *saved)
            entries = entries if type(entries) is tuple else (entries,)
            return tuple(None if e is None else plain(e) != 0 for e in entries)
        if self.elementwise:
            return (chosen,) * len(parents)
        if isinstance(chosen, Standin):
            return tuple(None if p is None else np.broadcast_to(chosen.any(), p.shape) for p in parents)
        if chosen.any():
            return None
        return tuple(None if p is None else np.broadcast_to(np.False_, p.shape) for p in parents)

    def explain(self, error: Exception, *arrays: Any) -> Exception:
        """The error to raise where forward failed on arrays: in the op's words, by its contract."""
        if isinstance(error, MinigradError) or not isinstance(
            error, (ValueError, TypeError, IndexError, OverflowError)
        ):
            return error
        names = [self.argument(i) for i in range(len(arrays))]
        got = ", ".join(f"{name} is {describe(a)}" for name, a in zip(names, arrays, strict=True))
        shapes = [np.shape(a) for a in arrays]
        if self.elementwise:
            clash = broadcast_clash(names, shapes)
            if clash:
                return ShapeError(
                    self.name,
                    got,
                    f"shapes that broadcast, but {clash}",
                    "make them equal, or insert an axis of length 1, such as x[:, None]",
                )
        elif self.signature:
            clash = contract_clash(self.signature, names, shapes)
            if clash:
                return ShapeError(
                    self.name,
                    got,
                    f"contract {self.signature}: {clash}",
                    "transpose or reshape one of them, for example x.T",
                )
        if isinstance(error, np.exceptions.AxisError):
            axes = {k: v for k, v in self.__dict__.items() if k.startswith("ax") or k in ("source", "destination")}
            n = len(shapes[0]) if error.ndim is None else error.ndim
            return LabelError(
                f"{self.name}: {', '.join(axes)}",
                f"{', '.join(f'{k}={v}' for k, v in axes.items())}, {got}",
                f"axes from {-n} to {n - 1}" if n else f"no axis: {names[0]} has none",
                "count axes from 0, or from the end with -1",
            )
        if self.outside:
            error.add_note(f"in forward of {self}: {got}")
            return error
        kind = {TypeError: DTypeError, IndexError: LabelError}.get(type(error), ArgumentError)
        parameters = [f"{k}={v!r}" for k, v in self.__dict__.items() if v is not self.fields.get(k)]
        return kind(
            self.name,
            f"{', '.join([got, *parameters])}, which NumPy refuses ({error})",
            f"contract {self.signature}" if self.signature else _first_line(type(self)),
            f"compare with a call that works: {_example(type(self))}",
        )


class Unary(Op):
    """An elementwise op of one argument."""

    elementwise = True

    @classmethod
    def simple(cls, *answers: Callable[..., Any]) -> Callable[[TensorLike], Tensor]:
        """The op's public function, of x alone."""
        function: Callable[[TensorLike], Tensor] = cls.public(*answers)(_compile(cls))
        return function


class Binary(Op):
    """An elementwise op of two arguments, which are broadcast against each other."""

    elementwise = True

    @classmethod
    def simple(cls, *answers: Callable[..., Any]) -> Callable[[TensorLike, TensorLike], Tensor]:
        """The op's public function, of x and y."""
        function: Callable[[TensorLike, TensorLike], Tensor] = cls.public(*answers)(_compile(cls))
        return function


def registry() -> Iterator[type[Op]]:
    """Every op that the package makes public, by name."""
    found, queue = {}, [Op]
    for cls in queue:
        queue.extend(cls.__subclasses__())
        if cls.function is not None and not cls.outside:
            found[cls.name] = cls
    return iter(found[name] for name in sorted(found))


_REQUIRED = object()


def _parameters(method: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """Names of a method's parameters after self, and whether the last one takes all the rest."""
    if isinstance(method, np.ufunc):
        return ("x", "y")[: method.nin], False
    kinds = inspect.signature(method).parameters
    names = tuple(kinds)[1:]
    return names, bool(names) and kinds[names[-1]].kind is inspect.Parameter.VAR_POSITIONAL


def lift(op: Op, name: str, value: Any) -> tuple[Any, Node | None, Version | None]:
    """An argument of any kind: (its array, its node, its version)."""
    if isinstance(value, Tensor):
        if value._version is None and value._node is None:
            value._version = Version()
        return value._data, value._node, value._version
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub":
        return value, None, None
    if isinstance(value, (float, int)):
        return value, None, None  # stays a Python number: a weak scalar that leaves float32 alone
    return numbers(f"{op.name}: {name}", value, None, copy=False), None, None


def _compile(cls: type[Op], head: str = "") -> Callable[..., Any]:
    """The function that calls op and records the call, written out for its arguments and what its rule asks.

    One text for all ops. Straight-line code is what the overhead target needs: a loop over arguments and a
    helper that makes the node cost 0.6 us a call, as much as forward, record and release together.
    """
    if cls.variadic:
        return _variadic_call
    args = cls.args
    guarded = [x for x in args if x in cls.asks or cls.keeps]
    shared = args[0] if cls.view else None
    saved = ", ".join(_ask(cls, ask) for ask in cls.asks)
    arrays = ", ".join(f"{x}__data" for x in args)
    given = [x for x in args if len(args) > 1 and not cls.keeps and x not in cls.asks]
    lines = [f"def call({', '.join(filter(None, [head, *args]))}):", "    began = _watched and _now()"]
    for x in args:
        version = x in guarded or x == shared
        tensor = [f"        {x}__data = {x}._data; {x}__node = {x}._node"]
        if version:  # memory of no recorded result, that somebody may yet write into: let it be seen
            tensor += [
                f"        {x}__version = {x}._version",
                f"        if {x}__version is None and {x}__node is None: {x}__version = {x}._version = _Version()",
            ]
        lines += [
            f"    if type({x}) is _Tensor:",
            *tensor,
            f"    elif type({x}) is float or type({x}) is int:",
            f"        {x}__data = {x}; {x}__node = {x}__version = None",
            f"    elif type({x}) is not _ndarray and isinstance({x}, _Tensor):",  # a Parameter
            *tensor,
            f"    else: {x}__data, {x}__node, {x}__version = _lift(self, {x!r}, {x})",
        ]
    nodes = " or ".join(f"{x}__node is not None" for x in args)
    lines += [f"    recorded = ({nodes}) and _is_recording()", "    try:"]
    if "check" in dir(cls):
        lines += [f"        self.check({arrays})"]
    if cls.keeps:
        lines += [
            f"        if recorded: out, kept = self.forward_and_keep({arrays})",
            f"        else: out = self.forward({arrays})",
        ]
    else:
        lines += [f"        out = {'_forward' if isinstance(cls.forward, np.ufunc) else 'self.forward'}({arrays})"]
    lines += [
        "    except Exception as error:",
        f"        raise self.explain(error, {arrays}) from None",
        "    if type(out) is not _ndarray: out = _result(self, out)",
        "    t = _new(_Tensor); t._data = out; t.name = None",
        f"    t._version = {shared}__version" if shared else "    t._version = None",
        "    if not recorded:",
        "        t._node = None",
        f"        if began: _tell(self, began, ({', '.join(args)},), ({arrays},), t)",
        f"        if {shared}__node is not None and {shared}__version is None: t._version = _FOREIGN" if shared else "",
        "        return t",
        "    dtype = out.dtype",  # seldom another than these two, and to ask for its kind costs a string
        "    if dtype is not _float32 and dtype is not _float64 and dtype.kind != 'f': raise _no_floats(self, out)",
        f"    t._node = node = _{'KeepingNode' if cls.keeps else 'Node'}()",
        f"    node.op = self; node.parents = parents = ({', '.join(f'{x}__node' for x in args)},)",
        "    node.birth = _tick(); node.shape = out.shape; node.dtype = dtype",
        f"    node.saved = ({saved}{',' if saved else ''})",
        "    _note_selection(node.birth)" if cls.selects else "",
    ]
    if cls.keeps:
        lines += [f"    node.inputs = ({arrays},)"]
    if guarded:
        unguarded = " and ".join(f"{x}__version is None" for x in guarded)
        lines += [f"    node.guards = None if {unguarded} else ({', '.join(f'{x}__version' for x in guarded)},)"]
    else:
        lines += ["    node.guards = None"]
    if given:
        some = " or ".join(f"{x}__node is None and type({x}__data) is not _ndarray" for x in given)
        lines += [f"    if {some}: node.given = _given({', '.join(f'{x}__data' for x in args)})"]
    lines += [f"    if began: _tell(self, began, ({', '.join(args)},), ({arrays},), t)", "    return t"]
    names: dict[str, Any] = {
        "__name__": cls.__module__,
        "_Tensor": Tensor,
        "_Node": Node,
        "_KeepingNode": KeepingNode,
        "_Version": Version,
        "_FOREIGN": FOREIGN,
        "_note_selection": note_selection,
        "_forward": cls.forward,
        "_lift": lift,
        "_is_recording": is_recording,
        "_tick": tick,
        "_ndarray": np.ndarray,
        "_float32": np.dtype(np.float32),
        "_float64": np.dtype(np.float64),
        "_result": _result,
        "_no_floats": _no_floats,
        "_new": object.__new__,
        "_given": _given,
        "_now": now,
        "_tell": tell,
        "_watched": watched,
    }
    if not head:
        names["self"] = cls()
    exec(compile("\n".join(lines), f"<minigrad {cls.name}>", "exec"), names)
    function: Callable[..., Any] = names["call"]
    function.__name__ = function.__qualname__ = cls.name
    if not head:
        function.__annotations__ = {**dict.fromkeys(args, TensorLike), "return": Tensor}
    return function


def _given(*arrays: Any) -> tuple[Any, ...]:
    """The plain numbers among the arguments of a call, None for the others."""
    return tuple(None if type(a) is np.ndarray else a for a in arrays)


def _result(op: Op, out: Any) -> Any:
    """What forward returned, as an array; DTypeError for what is none."""
    if isinstance(out, Standin):
        return out
    array = np.asarray(out) if isinstance(out, (np.ndarray, np.generic, float, int)) else np.empty((), object)
    if array.dtype.kind not in "fiub":
        if objects_pass.get():
            return np.asarray(out)
        raise DTypeError(
            f"{op}.forward", f"it returned {describe(out)}", "one array of real numbers", "return an array"
        )
    return array


def _no_floats(op: Op, out: Any) -> DTypeError:
    return DTypeError(
        f"{op}.forward",
        f"it returned {describe(out)} for an argument that requires a gradient",
        "floats: a gradient cannot pass through other numbers",
        "return out.astype(x.dtype), or call the op on x.detach()",
    )


def _careful(method: Callable[..., Any]) -> Callable[..., Any]:
    """A user's forward or backward, which can neither write into its arguments nor pass on their memory.

    Others still need the arguments: x is the caller's own array, and dout may be on its way to other nodes too.
    """

    @wraps(method)
    def careful(self: Op, *args: Any) -> Any:
        try:
            out = method(self, *map(sealed, args))
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise InPlaceError(
                f"{self}.{method.__name__}",
                "a write into one of its arguments",
                "arguments left as they are, since others still need them",
                "write into a copy: dout = dout.copy(), or use np.where(mask, 0, dout)",
            ) from error
        if method.__name__ == "backward" or self.view:
            return out
        return tuple(_unshared(part, args) for part in out) if isinstance(out, tuple) else _unshared(out, args)

    return careful


def sealed(value: Any) -> Any:
    """value such that a write into it is an error, or goes to a copy."""
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    elif isinstance(value, Tensor):
        value = wrap(value._data, value._node, FOREIGN)
    return value


def _unshared(out: Any, arrays: Sequence[Any]) -> Any:
    """out in memory of its own, where an op that is not declared as a view returned an argument's."""
    if not isinstance(out, np.ndarray) or out.base is None:
        return out
    shared = any(isinstance(a, np.ndarray) and np.may_share_memory(out, a) for a in arrays)
    return out.copy() if shared else out


def _ask(cls: type[Op], ask: str) -> str:
    """The expression, in the compiled call, for one thing that a rule asks for."""
    if ask in cls.args:
        return f"{ask}__data"
    if ask == cls.keeps:
        return "kept"
    if ask.endswith("_shape"):
        x = f"{ask[: -len('_shape')]}__data"
        return f"() if type({x}) is float or type({x}) is int else {x}.shape"
    return {"out": "out", "needs": "parents"}[ask]


def _variadic_call(self: Op, *args: TensorLike) -> Tensor:
    """The same for an op whose forward takes any number of arrays, all of which its rule may ask for."""
    began = watched and now()
    lifted = [lift(self, self.argument(i), x) for i, x in enumerate(args)]
    arrays = [array for array, _, _ in lifted]
    try:
        out = _result(self, self.forward(*arrays))
    except Exception as error:
        raise self.explain(error, *arrays) from None
    t = wrap(_unshared(out, arrays))
    parents = tuple(node for _, node, _ in lifted)
    if not any(parents) or not is_recording():
        if began:
            tell(self, began, args, arrays, t)
        return t
    if out.dtype.kind != "f":
        raise _no_floats(self, out)
    t._node = node = object.__new__(Node)
    node.op, node.parents, node.birth, node.shape, node.dtype = self, parents, tick(), out.shape, out.dtype
    node.saved = tuple(arrays) if self.asks else ()
    node.guards = tuple(version for _, _, version in lifted) if self.asks else None
    if began:
        tell(self, began, args, arrays, t)
    return t


def _example(cls: type[Op]) -> str:
    """The call that the docstring of an op shows."""
    calls = [line.strip()[4:] for line in (cls.__doc__ or "").splitlines() if line.strip().startswith(">>> ")]
    return next((call for call in calls if call.startswith(cls.name)), f"{cls.name}({', '.join(cls.args)})")


def _first_line(cls: type[Op]) -> str:
    return (cls.__doc__ or cls.__name__).strip().splitlines()[0]
