"""compile: what a replay could not repeat is refused, with the line, and leaves all as it was; and other bad input."""

from __future__ import annotations

import argparse
import asyncio
import collections
import copy
import dataclasses
import functools
import importlib
import math
import pickle
import random
import re
import sys
import threading
import types
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, nn, optim
from minigrad.compiling import compile
from minigrad.errors import CompileError, DTypeError, InPlaceError, LabelError, ShapeError

X = np.array([1.0, -2.0, 3.0])
kept: list[Any] = []
table = np.array([1.0, 2.0, 3.0])
counter = 0
rng = np.random.default_rng(0)
settings = {"scale": 2.0}
numbers = iter([1.0, 2.0, 3.0])


def filled_twice(x: Any) -> Any:
    buffer = np.zeros(3)
    y = x + buffer
    buffer[:] = 1.0
    return y + x * buffer


def count(x: Any) -> Any:
    global counter
    counter += 1
    return x * 2


def in_table(x: Any) -> Any:
    table[0] += 1
    return x * 2


def in_settings(x: Any) -> Any:
    settings["scale"] = 3.0
    return x * 2


def shuffled(x: Any) -> Any:
    rng.shuffle(np.arange(3))
    return x * rng.normal(size=3)


def appended(x: Any, xs: Any = ()) -> Any:
    kept.append(x * 2)
    return x


def swallowed(x: Any) -> Any:
    try:
        return x if x.sum() > 0 else -x
    except Exception:
        return x * 3


def swallowed_in_op(x: Any) -> Any:
    return 2 * x if float(np.nan_to_num(x.numpy()).sum()) else x


def in_a_thread(x: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: x * 2).result() + 1


def errstate(x: Any) -> Any:
    try:
        with np.errstate(over="raise"):
            return x + np.exp(x.numpy() * 400)
    except FloatingPointError:
        return x


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "if": (lambda x: x if x.sum() > 0 else -x, "bool at "),
    "float": (lambda x: x * float(x.sum()), "item at "),
    "int": (lambda x: x * int(x.sum()), "item at "),
    "item": (lambda x: x * x.sum().item(), "item at "),
    "tolist": (lambda x: mg.Tensor(x.tolist()), "tolist at "),
    "index": (lambda x: [1, 2, 3, 4][mg.argmax(x)], "index at "),
    "asarray": (lambda x: np.asarray(x), "numpy.asarray at "),
    "array": (lambda x: np.array(x.data), "numpy.asarray at "),
    "print": (lambda x: str(x) and x, "numpy.array2string at "),
    "format": (lambda x: f"{x.sum():.2f}" and x, "item at "),
    "in": (lambda x: x if 1.0 in x else -x, "any|bool at "),
    "any": (lambda x: x if (x > 0).any() else -x, "bool at "),
    "allclose": (lambda x: x if np.allclose(x.numpy(), 1) else -x, "allclose at "),
    "mask": (lambda x: x[x > 0], "with a mask at "),
    "mask of numpy": (lambda x: x.numpy()[x.numpy() > 0], r"x\[mask\] at "),
    "nonzero": (lambda x: np.nonzero(x.numpy()), "nonzero at "),
    "unique": (lambda x: np.unique(x.numpy()), "unique at "),
    "repeat": (lambda x: np.repeat(x.numpy(), (x.numpy() > 0).astype(int)), "repeat at "),
    "ctypes": (lambda x: x.data.ctypes and x, r"x\.ctypes at "),
    "memoryview": (lambda x: np.frombuffer(x.data.tobytes()), "tobytes at "),
    "pickle": (lambda x: pickle.loads(pickle.dumps(x)), "pickle at "),
    "save": (lambda x: np.save("/nonexistent", x.numpy()), "save at "),
    "NumPy's random numbers": (lambda x: x * np.random.rand(3), "NumPy's global random numbers"),
    "Python's random numbers": (lambda x: x * random.random(), "Python's own random numbers"),
    "a generator outside": (shuffled, "rng is drawn from"),
    "seed": (lambda x: (mg.manual_seed(0), x), "generator.bit_generator at "),
    "global": (count, "counter is given another value"),
    "array outside": (in_table, "table, an array .* is written into"),
    "dict outside": (in_settings, r"settings\['scale'\] is given another value"),
    "a list outside": (appended, "kept outside the function|kept, a list, is changed"),
    "filled in steps": (filled_twice, "in several steps with NumPy"),
    "out=": (lambda x: np.add(x.numpy(), 1, out=table), "a write at "),
    "from_numpy": (lambda x: mg.from_numpy(table).__iadd__(x), "a write at "),
    "swallowed": (swallowed, "bool at "),
    "swallowed float": (swallowed_in_op, "float at "),
    "errstate": (errstate, "numpy.errstate at "),
    "iterator": (lambda x: x * next(numbers), "numbers, a list_iterator"),
    "requires_grad": (lambda x: mg.Tensor(x, requires_grad=True) * 2, "requires a gradient"),
    "another thread": (in_a_thread, "another thread"),
    "fromiter": (lambda x: np.fromiter(x.data, float), "float at "),
    "math": (lambda x: math.sqrt(x.sum()), "item at "),
    "max": (lambda x: max(x[0], x[1]), "bool at "),
    "table": (lambda x: table[x.data.astype(int)], "numpy.asarray at |index at "),
    "attributes of arrays": (lambda x: x.data.setflags(write=False), r"x\.setflags at "),
    "argument's data": (lambda x: setattr(x, "data", np.ones(3)), "an argument.*gets other values"),
    "argument's gradient": (lambda x: setattr(x, "requires_grad", True), "an argument.*a graph or a gradient"),
    "a number computed with": (
        lambda x: x * optim.clip_grad_norm_(_with_gradient(x), 1.0),
        "a number at ",
    ),
}


def _with_gradient(x: Any) -> Any:
    t = Tensor(x, requires_grad=True)
    mg.sum(t * t).backward()
    return [t]


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    function, words = REFUSED[name]
    state = copy.deepcopy((counter, table, settings, kept, str(rng.bit_generator.state), random.getstate()))
    legacy, own = np.random.get_state()[1].tolist(), str(mg.get_rng_state())
    x = Tensor(X)
    compiled = compile(function)
    for _ in range(2):
        with pytest.raises(CompileError, match=words):
            compiled(x)
    assert str((counter, table, settings, kept, str(rng.bit_generator.state), random.getstate())) == str(state)
    assert (np.random.get_state()[1].tolist(), str(mg.get_rng_state())) == (legacy, own)
    np.testing.assert_array_equal(x.data, X)
    assert x.grad is None
    assert not x.requires_grad
    assert compiled.stats.captures == 0


def test_the_line_is_the_users() -> None:
    with pytest.raises(CompileError, match=r"test_compile_refusals\.py:\d+, in swallowed"):
        compile(swallowed)(Tensor(X))


def step_that_fails(how: str) -> Any:
    mg.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    opt = optim.Adam(net.parameters(), 0.1)

    def step(x: Any) -> Any:
        opt.zero_grad()
        loss = mg.sum(net(x) ** 2)
        loss.backward()
        optim.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        with mg.no_grad():
            net[0].weight[0] = 7.0
            net[0].bias.data = net[0].bias.data * 2
        if how == "refused":
            return loss.item()
        if how == "raises":
            raise KeyError("the user's own")
        return loss

    return step, net, opt


def everything(net: Any, opt: Any) -> str:
    grads = [p.grad for p in net.parameters()]
    with np.printoptions(precision=20, floatmode="unique"):
        return str((net.state_dict(), grads, opt.state_dict(), mg.get_rng_state()))


@pytest.mark.parametrize("first", [True, False], ids=["at the first call", "later"])
@pytest.mark.parametrize(("how", "error"), [("refused", CompileError), ("raises", KeyError)])
def test_a_failed_recording_leaves_all_as_it_was(how: str, error: type[Exception], first: bool) -> None:
    step, net, opt = step_that_fails(how)
    x = Tensor(np.random.default_rng(1).normal(size=(5, 3)))
    if not first:
        net[0].weight.grad = np.ones((4, 3))
        mg.sum(net(x)).backward()
        opt.step()
    before, places = everything(net, opt), [id(p._data) for p in net.parameters()]
    with pytest.raises(error):
        compile(step)(x)
    assert everything(net, opt) == before
    assert [id(p._data) for p in net.parameters()] == places
    assert all(type(b) is np.ndarray for b in net.state_dict().values())
    # and eager execution goes on as if nothing had been
    if how == "refused":
        loss = step(x)
        other, net2, opt2 = step_that_fails(how)
        if first:
            mg.manual_seed(0)
            other, net2, opt2 = step_that_fails(how)
            assert other(x) == loss
            assert everything(net2, opt2) == everything(net, opt)


def test_attributes_of_modules_and_objects() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            self.calls = 0
            self.seen = np.zeros(1)

        def forward(self, x: Any) -> Any:
            if x.shape == (3,):
                self.calls += 1
            elif x.shape == (2,):
                self.last = x
            elif x.shape == (4,):
                self.seen += 1
            return x * 2

    net = Counting()
    for n, words in ((3, r"Counting\.calls is given"), (2, "Counting.last|kept outside"), (4, "seen, an array")):
        with pytest.raises(CompileError, match=words):
            compile(lambda x: net(x))(np.ones(n))
        assert vars(net).keys() == {"calls", "seen"}
        assert net.calls == 0
        assert net.seen == 0
    assert compile(lambda x: net(x))(np.ones(5)).data[0] == 2


def test_a_buffer_that_counts_is_part_of_the_program() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            self.register_buffer("calls", np.zeros(1))

        def forward(self, x: Any) -> Any:
            self.calls += 1
            return x * self.calls

    net = Counting()
    step = compile(lambda x: net(x))
    assert [step(np.ones(1)).data[0] for _ in range(4)] == [1, 2, 3, 4]
    assert net.calls == 4
    assert step.stats.replays == 3


# What changes outside is seen


def test_attributes_that_change_between_calls() -> None:
    class Settings:
        scale = 2.0

    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.scale, self.parts = 2.0, [1.0]

        def forward(self, x: Any) -> Any:
            return x * self.scale * self.parts[0] * options.scale

    net, options = Scaled(), Settings()
    options.scale = 1.0
    compiled = compile(lambda x: net(x))
    assert compiled(np.ones(1)).item() == 2
    net.scale = 3.0
    assert compiled(np.ones(1)).item() == 3
    net.parts[0] = 2.0
    assert compiled(np.ones(1)).item() == 6
    options.scale = 0.5
    assert compiled(np.ones(1)).item() == 3
    options.scale = -0.0
    assert np.signbit(compiled(np.ones(1)).item())
    net.scale, net.parts, options.scale = 2.0, [1.0], 1.0
    assert compiled(np.ones(1)).item() == 2


@pytest.mark.parametrize("n", [1, 300])
def test_lists_and_dicts_that_change_between_calls(n: int) -> None:
    values, named = [1.0] * n, {str(i): {"scale": [1.0]} for i in range(n)}
    compiled = compile(lambda x: x * values[0] * named["0"]["scale"][0])
    assert compiled(np.ones(1)).item() == 1
    values[0] = 2.0
    assert compiled(np.ones(1)).item() == 2
    named["0"] = {"scale": [2.0]}
    assert compiled(np.ones(1)).item() == 4
    values.append(1.0)
    named["more"] = named["0"]
    assert compiled(np.ones(1)).item() == 4


def test_buffers_that_are_read_without_their_module() -> None:
    norm = nn.BatchNorm1d(3)
    compiled = compile(lambda x: x + norm.running_mean)
    assert compiled(np.ones(3))[0] == 1
    norm.running_mean[:] = 4
    assert compiled(np.ones(3))[0] == 5
    norm.running_mean = np.full(3, 6.0)
    assert compiled(np.ones(3))[0] == 7
    assert compile(lambda x: norm.state_dict())(X)["running_mean"][0] == 6


def test_a_parameter_in_place_of_another() -> None:
    net = nn.Linear(2, 1, bias=False)
    compiled = compile(lambda x: net(x).detach())
    first = compiled(np.ones(2)).item()
    net.weight = nn.Parameter(net.weight.data * 2)
    assert compiled(np.ones(2)).item() == 2 * first
    net.weight.data = net.weight.data * 2
    assert compiled(np.ones(2)).item() == 4 * first


def test_options_that_the_function_reads() -> None:
    w = Tensor([1.0], requires_grad=True)
    opt = optim.SGD([w], 0.5)

    def step(x: Any) -> Any:
        return x * opt.param_groups[0]["lr"]

    compiled = compile(step)
    assert compiled(np.ones(1))[0] == 0.5
    opt.param_groups[0]["lr"] = 0.25
    assert compiled(np.ones(1))[0] == 0.25


def test_parameters_that_join_an_optimiser() -> None:
    a, b = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
    opt = optim.SGD([a], 0.5)

    def step(x: Any) -> None:
        opt.zero_grad()
        mg.sum(a * b * x).backward()
        opt.step()

    compiled = compile(step)
    compiled(np.ones(1))
    opt.add_param_group({"params": [b]})
    compiled(np.ones(1))
    assert b.item() == 1 - 0.5 * 0.5


# What is outside, of many kinds


class Slotted:
    __slots__ = ("scale", "unset")

    def __init__(self) -> None:
        self.scale = 1.0


@dataclasses.dataclass(slots=True)
class SlottedData:
    scale: float = 1.0


class Scaled:
    def __init__(self) -> None:
        self.scale = 1.0


class Default:
    scale = 1.0


class Attributes(dict[str, Any]):
    __getattr__ = dict.__getitem__


class WithClassAttribute(nn.Module):
    scale = 1.0

    def forward(self, x: Any) -> Any:
        return x * self.scale


def an_attribute(held: Any) -> tuple[Any, Any]:
    return lambda x: x * held.scale, lambda: setattr(held, "scale", 2.0)


def an_entry(held: Any, changed: Any = None) -> tuple[Any, Any]:
    return lambda x: x * held["scale"], lambda: (held if changed is None else changed).update(scale=2.0)


def an_attribute_by_text() -> tuple[Any, Any]:
    held = Scaled()
    return lambda x: x * getattr(held, "scale"), lambda: setattr(held, "scale", 2.0)  # noqa: B009  # what is tested


def an_attribute_by_vars() -> tuple[Any, Any]:
    held = Scaled()
    return lambda x: x * vars(held)["scale"], lambda: setattr(held, "scale", 2.0)


def an_attribute_that_comes_up() -> tuple[Any, Any]:
    held = Default()
    return lambda x: x * held.scale, lambda: setattr(held, "scale", 2.0)


def a_class_attribute() -> tuple[Any, Any]:
    net = type("Net", (WithClassAttribute,), {})()
    return lambda x: net(x), lambda: setattr(type(net), "scale", 2.0)


def an_inherited_class_attribute() -> tuple[Any, Any]:
    base = type("Base", (WithClassAttribute,), {"scale": 1.0})
    net = type("Net", (base,), {})()
    return lambda x: net(x), lambda: setattr(base, "scale", 2.0)


def a_forward() -> tuple[Any, Any]:
    kind = type("Net", (nn.Module,), {"forward": lambda self, x: x * 1.0})
    net = kind()
    return lambda x: net(x), lambda: setattr(kind, "forward", lambda self, x: x * 2.0)


def a_method() -> tuple[Any, Any]:
    kind = type("Scaled", (), {"scale": lambda self, x: x * 1.0})
    scaled = kind()

    def inner(x: Any) -> Any:
        return scaled.scale(x)

    return lambda x: inner(x), lambda: setattr(kind, "scale", lambda self, x: x * 2.0)


def code_of_a_function() -> tuple[Any, Any]:
    def scaled(x: Any) -> Any:
        return x * 1.0

    return lambda x: scaled(x), lambda: setattr(scaled, "__code__", (lambda x: x * 2.0).__code__)


def a_default() -> tuple[Any, Any]:
    def scaled(x: Any, scale: float = 1.0) -> Any:
        return x * scale

    return lambda x: scaled(x), lambda: setattr(scaled, "__defaults__", (2.0,))


def an_attribute_of_a_function() -> tuple[Any, Any]:
    def scaled(x: Any) -> Any:
        return x * scaled.scale  # type: ignore[attr-defined]  # given below

    scaled.scale = 1.0  # type: ignore[attr-defined]  # mypy knows of none
    return lambda x: scaled(x), lambda: setattr(scaled, "scale", 2.0)


def a_decorator() -> tuple[Any, Any]:
    scale = 1.0

    def decorated(f: Any) -> Any:
        @functools.wraps(f)
        def wrapper(x: Any) -> Any:
            return f(x) * scale

        return wrapper

    @decorated
    def step(x: Any) -> Any:
        return x * 1.0

    def change() -> None:
        nonlocal scale
        scale = 2.0

    return step, change


def what_a_decorator_wraps() -> tuple[Any, Any]:
    scale = 1.0

    @functools.lru_cache
    def found(x: float) -> Any:
        return scale

    def change() -> None:
        nonlocal scale
        scale = 2.0
        found.cache_clear()

    return lambda x: x * found(1.0), change


def summed(held: Any, change: Callable[[Any], Any]) -> tuple[Any, Any]:
    return lambda x: x * float(sum(held)), lambda: change(held)


def the_order_of_a_dict(n: int = 0) -> tuple[Any, Any]:
    held: dict[Any, float] = {"a": 3.0, "b": 1.0, **dict.fromkeys(range(n), 0.0)}

    def step(x: Any) -> Any:
        for scale in (held["a"], held["b"]) if next(iter(held)) == "b" else (held["b"],):
            x = (x - 1) * scale + 1 if scale == 3 else x * scale
        return x * (2.0 if next(iter(held)) == "b" else 1.0)

    return step, lambda: held.__setitem__("a", held.pop("a"))


def a_list_in_a_large_dict() -> tuple[Any, Any]:
    held = {i: [1.0] for i in range(300)}
    return lambda x: x * held[5][0], lambda: held[5].__setitem__(0, 2.0)


def the_names_in_a_large_dict() -> tuple[Any, Any]:
    held = dict.fromkeys(range(300), 1.0)
    return lambda x: x * (2.0 if "b" in held else 1.0), lambda: held.__setitem__("b", held.pop(299))  # type: ignore[call-overload]  # keys of all kinds


CHANGING: dict[str, Callable[[], tuple[Any, Any]]] = {
    "Namespace": lambda: an_attribute(argparse.Namespace(scale=1.0)),
    "SimpleNamespace": lambda: an_attribute(types.SimpleNamespace(scale=1.0)),
    "slots": lambda: an_attribute(Slotted()),
    "slotted dataclass": lambda: an_attribute(SlottedData()),
    "attributes in a dict": lambda: (lambda held: (an_attribute(held)[0], an_entry(held)[1]))(Attributes(scale=1.0)),
    "UserDict": lambda: an_entry(collections.UserDict(scale=1.0)),
    "UserList": lambda: summed(collections.UserList([1.0]), lambda held: held.append(1.0)),
    "mappingproxy": lambda: (lambda held: an_entry(types.MappingProxyType(held), held))({"scale": 1.0}),
    "set": lambda: summed({1.0}, lambda held: held.update([0.5, 0.25, 0.125, 0.125 / 2, 0.125 / 2 + 1e-9, -1e-9])),
    "deque": lambda: summed(collections.deque([1.0]), lambda held: held.append(1.0)),
    "bytearray": lambda: summed(bytearray([1]), lambda held: held.append(1)),
    "getattr": an_attribute_by_text,
    "vars": an_attribute_by_vars,
    "an attribute that comes up": an_attribute_that_comes_up,
    "class attribute": a_class_attribute,
    "inherited class attribute": an_inherited_class_attribute,
    "forward": a_forward,
    "method": a_method,
    "code": code_of_a_function,
    "default": a_default,
    "attribute of a function": an_attribute_of_a_function,
    "decorator": a_decorator,
    "lru_cache": what_a_decorator_wraps,
    "order of a dict": the_order_of_a_dict,
    "order of a large dict": lambda: the_order_of_a_dict(300),
    "list in a large dict": a_list_in_a_large_dict,
    "names in a large dict": the_names_in_a_large_dict,
}


@pytest.mark.parametrize("name", CHANGING)
def test_what_changes_outside_is_seen(name: str) -> None:
    function, change = CHANGING[name]()
    compiled = compile(function)
    assert [compiled(np.ones(1)).item() for _ in range(3)] == [1, 1, 1]
    assert compiled.stats[:2] == (1, 2)
    change()
    assert function(np.ones(1)).item() == pytest.approx(2, abs=1e-12)
    assert [compiled(np.ones(1)).item() for _ in range(3)] == [function(np.ones(1)).item()] * 3
    assert compiled.stats[:2] == (2, 4)


def test_a_file_of_the_users_named_like_one_of_pythons(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profile.py").write_text("class Held: pass\nheld = Held()\nheld.scale = scale = 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "profile", raising=False)
    profile = importlib.import_module("profile")
    monkeypatch.setitem(sys.modules, "profile", profile)  # to be taken out again
    compiled = compile(lambda x: x * profile.held.scale * profile.scale)
    assert compiled(np.ones(1)).item() == 1
    profile.held.scale = 2.0
    assert compiled(np.ones(1)).item() == 2
    profile.scale = 2.0
    assert compiled(np.ones(1)).item() == 4


class Counts:
    n = 0


def changes_of(what: str) -> tuple[Any, Callable[[], Any]]:
    """A function that changes something outside, and what shows it."""
    if what == "options in a helper":
        w = Tensor([1.0], requires_grad=True)
        opt = optim.SGD([w], 1.0)

        def halve() -> None:
            for group in opt.param_groups:
                group["lr"] *= 0.5

        def step(x: Any) -> None:
            opt.zero_grad()
            mg.sum(w * x).backward()
            opt.step()
            halve()

        return step, lambda: (w.item(), opt.param_groups[0]["lr"])
    if what == "attribute of a function":

        def count(x: Any) -> Any:
            count.n = getattr(count, "n", 0) + 1  # type: ignore[attr-defined]  # mypy knows of none
            return x * 2

        return count, lambda: dict(vars(count))
    held: Any
    held, change = {
        "deque": (collections.deque([1.0], 3), lambda x: held.append(1.0)),
        "set": ({1.0}, lambda x: held.add(2.0)),
        "bytearray": (bytearray(1), lambda x: held.append(2)),
        "UserDict": (collections.UserDict(n=0), lambda x: held.update(n=1)),
        "order": ({"a": 1, "b": 2}, lambda x: held.update(a=held.pop("a"))),
        "slots": (Slotted(), lambda x: setattr(held, "scale", held.scale + 1)),
        "unset slot": (Slotted(), lambda x: setattr(held, "unset", 1)),
        "Namespace": (argparse.Namespace(n=0), lambda x: setattr(held, "n", held.n + 1)),
        "class": (Counts, lambda x: setattr(Counts, "n", Counts.n + 1)),
        "random.Random": (random.Random(0), lambda x: held.random()),
    }[what]

    def shown() -> Any:
        if isinstance(held, random.Random):
            return held.getstate()
        if isinstance(held, Slotted):
            return held.scale, hasattr(held, "unset")
        return Counts.n if held is Counts else str(held)

    return lambda x: change(x) and x, shown


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("options in a helper", r"opt\.param_groups\[0\]\['lr'\] is given another value"),
        ("attribute of a function", r"\.n is given another value"),
        ("deque", "held, a deque, is changed"),
        ("set", "held, a set, is changed"),
        ("bytearray", "held, a bytearray, is changed"),
        ("UserDict", r"held\.data\['n'\] is given another value"),
        ("order", "held, a dict, gets another order"),
        ("slots", r"Slotted\.scale is given another value"),
        ("unset slot", r"Slotted\.unset is given another value"),
        ("Namespace", r"Namespace\.n is given another value"),
        ("class", r"Counts\.n is given another value"),
        ("random.Random", "held is drawn from"),
    ],
)
def test_changes_of_many_kinds_are_refused_and_undone(what: str, words: str) -> None:
    function, shown = changes_of(what)
    before = shown()
    for _ in range(2):
        with pytest.raises(CompileError, match=words):
            compile(function)(np.ones(1))
        assert shown() == before


def test_no_code_of_the_users_is_run_to_look_at_an_object() -> None:
    class Proxy:
        def __init__(self) -> None:
            self.scale = 2.0

        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

    held = Proxy()
    compiled = compile(lambda x: x * held.scale)
    assert [compiled(np.ones(1)).item() for _ in range(3)] == [2, 2, 2]
    assert compiled.stats.replays == 2


# Other bad input


@pytest.mark.parametrize("what", [None, 3, "f", np.ones(2)])
def test_what_is_no_function(what: Any) -> None:
    with pytest.raises(DTypeError, match="a function"):
        compile(what)


def test_generators_and_coroutines() -> None:
    def numbers(x: Any) -> Any:
        yield x

    async def later(x: Any) -> Any:
        return x

    for f in (numbers, later):
        with pytest.raises(DTypeError, match="generator or async"):
            compile(f)


def test_a_generator_that_is_returned() -> None:
    with pytest.raises(CompileError):
        compile(lambda x: (y * 2 for y in [x, x]))(Tensor(X))


@pytest.mark.parametrize("result", [None, 3, "text", (1, [2.0, {"a": True}])])
def test_results_that_are_no_tensors(result: Any) -> None:
    compiled = compile(lambda x: result)
    assert [compiled(X) for _ in range(3)] == [result] * 3


def test_arrays_hidden_in_a_result() -> None:
    class Box:
        def __init__(self, x: Any) -> None:
            self.x = x

    with pytest.raises(CompileError, match="outside the function"):
        compile(lambda x: Box(x * 2))(Tensor(X))


def test_a_list_among_the_arguments_is_changed() -> None:
    with pytest.raises(CompileError, match="a list of the caller's is changed"):
        compile(lambda xs: xs.append(xs[0] * 2))([Tensor(X)])
    with pytest.raises(CompileError, match="a dict of the caller's is changed"):
        compile(lambda xs: xs.update(y=xs["x"] * 2))({"x": Tensor(X)})


def test_it_recurs() -> None:
    @compile
    def power(x: Any, n: int) -> Any:
        return x if n == 0 else power(x * 2, n - 1)

    assert power(np.ones(1), 5)[0] == 32
    assert power(np.ones(1), 5)[0] == 32
    assert power(np.ones(1), 4)[0] == 16
    endless = compile(lambda x: endless(x))
    with pytest.raises(RecursionError):
        endless(X)


def test_shapes_that_change_at_every_call() -> None:
    compiled = compile(lambda x: mg.exp(x).sum())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [compiled(np.zeros(n)).item() for n in range(1, 14)] == list(range(1, 14))
    assert len(caught) == 1
    assert re.search(r"x \(float64 \(\d+,\)", str(caught[0].message))


def test_the_users_own_errors() -> None:
    def fails(x: Any) -> Any:
        return x @ np.ones((2, 2))

    compiled = compile(fails)
    for _ in range(2):
        with pytest.raises(ShapeError):
            compiled(Tensor(X))


def test_eight_threads_at_once() -> None:
    worlds = []
    for seed in range(8):
        mg.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        opt = optim.Adam(net.parameters(), 0.01)

        def step(x: Any, net: Any = net, opt: Any = opt) -> Any:
            opt.zero_grad()
            loss = mg.mean(net(x) ** 2)
            loss.backward()
            opt.step()
            return loss

        worlds.append((step, net))
    x = Tensor(np.random.default_rng(0).normal(size=(4, 3)))

    def run(step: Any, n: int, out: list[Any]) -> None:
        for _ in range(n):
            out.append(step(x).item())

    expected, starts = [], [net.state_dict() for _, net in worlds]
    for step, _ in worlds:
        run(step, 6, out := [])
        expected.append(out)
    found: list[list[Any]] = [[] for _ in worlds]
    fresh = []
    for (_, net), start in zip(worlds, starts, strict=True):
        net.load_state_dict(start)
        opt = optim.Adam(net.parameters(), 0.01)

        def step(x: Any, net: Any = net, opt: Any = opt) -> Any:
            opt.zero_grad()
            loss = mg.mean(net(x) ** 2)
            loss.backward()
            opt.step()
            return loss

        fresh.append(compile(step))
    threads = [threading.Thread(target=run, args=(s, 6, out)) for s, out in zip(fresh, found, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_one_function_in_several_threads() -> None:
    w = Tensor(np.ones(3), requires_grad=True)

    @compile
    def add(x: Any) -> Any:
        mg.sum(w * x).backward()
        return x * 2

    threads = [threading.Thread(target=lambda: [add(X) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(w.grad, X * 200)


def test_tasks_go_on_while_one_records() -> None:
    results = []

    async def task(i: int) -> None:
        f = compile(lambda x: x * i)
        for _ in range(3):
            results.append(f(np.ones(1)).item() == i)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(task(i) for i in range(4)))

    asyncio.run(main())
    assert all(results)


def test_an_impure_op_of_the_users() -> None:
    class Positive(mg.Op):
        def forward(self, x: Any) -> Any:
            return np.asarray(x)[np.asarray(x) > 0]

        def backward(self, dout: Any, x: Any) -> Any:
            out = np.zeros_like(x)
            out[x > 0] = dout
            return out

    for f in (lambda x: Positive()(x), lambda x: mg.exp(Positive()(x)) * 2 + mg.sum(Positive()(x))):
        compiled = compile(f)
        for x in (X, -X, np.abs(X), X):
            np.testing.assert_array_equal(compiled(Tensor(x)).data, f(Tensor(x)).data)


def test_a_write_between_forward_and_backward() -> None:
    w = Tensor(X, requires_grad=True)

    def step(x: Any) -> None:
        loss = mg.sum(w * w * x)
        with mg.no_grad():
            w.__iadd__(1.0)
        loss.backward()

    with pytest.raises(InPlaceError):
        compile(step)(X)
    np.testing.assert_array_equal(w.data, X)


def test_branches_by_type_are_those_of_arrays() -> None:
    def f(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            x = x / 255
        return mg.Tensor(x) * 2

    compiled = compile(f)
    for _ in range(2):
        assert compiled(np.array([255.0])).item() == 2


def test_numbers_of_numpy_are_not_written_into() -> None:
    def f(x: Any) -> Any:
        s = t = np.sum(x)
        t += 1
        first = x[0]
        first *= 5
        return s, t, first, x

    compiled = compile(f)
    for _ in range(2):
        found = compiled(np.ones(3))
        assert [float(y) for y in found[:3]] == [3, 4, 5]
        assert found[3].tolist() == [1, 1, 1]


def test_a_warning_of_the_users_own_code_is_one() -> None:
    compiled = compile(lambda x: mg.from_numpy(np.log(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(np.ones(2))
        compiled(np.ones(2))
        with pytest.raises(RuntimeWarning):
            compiled(np.zeros(2))


# A replay that fails leaves all as it was


def test_a_check_that_fails_after_a_step() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    opt = optim.SGD(net.parameters(), 0.1, 0.9)

    def step(x: Any, t: Any, u: Any) -> Any:
        for labels in (t, u):
            loss = mg.softmax_cross_entropy(net(x), labels)
            loss.backward()
            opt.step()
        return loss

    compiled, x, t = compile(step), Tensor(np.random.default_rng(0).normal(size=(4, 3))), np.array([0, 1, 0, 1])
    for _ in range(3):
        compiled(x, t, t)
    before = everything(net, opt)
    for _ in range(2):
        with pytest.raises(LabelError, match="labels"):
            compiled(x, t, t + 1)
        assert everything(net, opt) == before
    compiled(x, t, t)
    assert everything(net, opt) != before


def test_an_index_out_of_range_in_the_words_of_the_op() -> None:
    compiled = compile(lambda x, i: x[i] * 2)
    for _ in range(2):
        compiled(Tensor(X), np.array([0, 2]))
    with pytest.raises(LabelError, match="index"):
        compiled(Tensor(X), np.array([0, 5]))


def test_overflow_is_told_as_in_eager_code() -> None:
    compiled = compile(lambda x: mg.exp(x))
    compiled(np.ones(3))
    compiled(np.ones(3))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        compiled(np.full(3, 1e4))
    with pytest.warns(RuntimeWarning, match="overflow"):
        compiled(np.full(3, 1e4))


@pytest.mark.parametrize("first", ["warn", "raise"])
def test_what_ops_keep_quiet_stays_quiet(first: str) -> None:
    compiled = compile(lambda x: mg.sigmoid(x) + mg.softmax(x))
    x = np.array([-800.0, 0.0, 800.0])
    with np.errstate(all=first):  # type: ignore[call-overload]  # one of the words that it knows
        expected = compiled(x)
    for word in ("ignore", "raise", "warn"):
        with np.errstate(all=word), warnings.catch_warnings():  # type: ignore[call-overload]  # as above
            warnings.simplefilter("error")
            for _ in range(2):
                np.testing.assert_array_equal(compiled(x).data, expected.data)


# One memory under two names


def halving() -> tuple[Any, Any]:
    w = Tensor(X, requires_grad=True)

    def step(x: Any) -> Any:
        first = x * 2 + 1
        with mg.no_grad():
            w.data[...] = w.data * 0.5
        return first, x * 2 + 1

    return w, step


@pytest.mark.parametrize("own_first", [True, False])
@pytest.mark.parametrize(
    "view", [lambda w: w.data, lambda w: w.detach(), lambda w: w.data[::-1], lambda w: w[:2].detach()]
)
def test_an_argument_in_the_memory_of_a_parameter(view: Any, own_first: bool) -> None:
    (w, step), (other, written) = halving(), halving()
    compiled = compile(written)
    for i in range(5):
        alone = own_first == (i % 2 == 0)
        x, y = (np.ones(view(t).shape) if alone else view(t) for t in (w, other))
        if alone and isinstance(view(w), Tensor):
            x, y = Tensor(x), Tensor(y)
        for a, b in zip(step(x), compiled(y), strict=True):
            np.testing.assert_array_equal(getattr(a, "data", a), getattr(b, "data", b))
        np.testing.assert_array_equal(w.data, other.data)


def test_arguments_in_the_same_memory() -> None:
    def step(x: Any, y: Any) -> Any:
        first = y * 2
        with mg.no_grad():
            x += 1.0
        return first, y * 2

    compiled = compile(step)
    for kind in (0, 1, 2, 0, 1):
        x, other = Tensor(X), Tensor(X)
        pairs = [[(t, Tensor(X)), (t, t), (t, t.detach())][kind] for t in (x, other)]
        for a, b in zip(step(*pairs[0]), compiled(*pairs[1]), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_array_equal(x.data, other.data)


def test_arrays_are_written_into_as_in_eager_code() -> None:
    def step(x: Any) -> Any:
        y = x * 1
        x += 1
        x[0] = 7
        np.multiply(x, 2, out=x)
        return y, x

    compiled = compile(step)
    for i in range(4):
        a, b = X + i, X + i
        for got, want in zip(compiled(b), step(a), strict=True):
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(a, b)
    b.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        compiled(b)
