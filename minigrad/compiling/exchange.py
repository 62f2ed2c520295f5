"""What is exchanged while one records: attributes of classes, so that arrays of Tensors and methods of ops are seen."""

from __future__ import annotations

import os
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import numpy as np

from minigrad.compiling.calls import stands_in
from minigrad.compiling.optimisers import record_step
from minigrad.compiling.places import DATA, GRAD, Places, made_elsewhere
from minigrad.compiling.program import rebuilt
from minigrad.compiling.traced import Traced
from minigrad.nn.module import Module
from minigrad.op import Op
from minigrad.optim.lbfgs import LBFGS
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.schedule import LRScheduler
from minigrad.random import lending
from minigrad.tape import Leaf
from minigrad.tensor import Tensor

__all__ = ["recorder_here", "recording_by"]

_current: ContextVar[Any] = ContextVar("minigrad_recorder", default=None)
recorder_here = _current.get

_exchange = threading.RLock()  # one recording at a time: the classes are everybody's


@contextmanager
def recording_by(recorder: Places) -> Iterator[None]:
    """Within, in this context, what Tensors hold and what ops do is recorded; other threads go on as they were."""
    with _exchange:
        token, lent = _current.set(recorder), lending.set(recorder.generator)
        before = [(owner, name, vars(owner)[name]) for owner, name, _ in _exchanges()]
        try:
            for owner, name, new in _exchanges():
                setattr(owner, name, new)
            yield
        finally:
            for owner, name, old in before:
                setattr(owner, name, old)
            _current.reset(token)
            lending.reset(lent)
            made_elsewhere.clear()


# What takes a seed from the system. NumPy's generators come to the first, under whatever name they are called.
_SEEDS: list[tuple[Any, str, str]] = [
    (np.random.bit_generator, "randbits", "numpy.random.default_rng"),
    (os, "urandom", "os.urandom"),
    (random.Random, "seed", "random.Random"),
    (random.SystemRandom, "random", "random.SystemRandom"),
    (random.SystemRandom, "getrandbits", "random.SystemRandom"),
]


def _exchanges() -> Iterator[tuple[Any, str, Any]]:
    """Attributes of classes, and what they are while one records."""
    yield Tensor, "_data", _PROPERTY_DATA
    yield Leaf, "grad", _PROPERTY_GRAD
    yield Tensor, "_own", _owning(vars(Tensor)["_own"])
    yield Tensor, "_writable", _writing(vars(Tensor)["_writable"])
    yield Module, "__call__", _entering(vars(Module)["__call__"])
    yield Module, "__setattr__", _making(vars(Module)["__setattr__"])
    yield Optimizer, "__init__", _making(vars(Optimizer)["__init__"])
    yield Optimizer, "step", _step(vars(Optimizer)["step"])
    for owner, name, words in _SEEDS:
        yield owner, name, _seeding(words, vars(owner)[name])
    yield Optimizer, "state_dict", _packing(vars(Optimizer)["state_dict"])
    for cls in (LBFGS, *_subclasses(LRScheduler), LRScheduler):
        if "step" in vars(cls):
            yield cls, "step", _refusing(cls, vars(cls)["step"])
    for cls in _subclasses(Op):
        for name in ("forward", "forward_and_keep", "backward", "check"):
            method = vars(cls).get(name)
            if method is not None and not isinstance(method, np.ufunc):
                yield cls, name, _recorded(method)


def _subclasses(cls: type) -> list[type]:
    found: list[type] = list(cls.__subclasses__())
    for sub in found:  # grows while it is read
        found.extend(sub.__subclasses__())
    return list(dict.fromkeys(found))


def _get_data(t: Tensor) -> Any:
    recorder = _current.get()
    return DATA.__get__(t) if recorder is None else recorder.of_tensor(t)


def _set_data(t: Tensor, array: Any) -> None:
    recorder = _current.get()
    if recorder is not None:
        recorder.set_tensor(t, array)
        return
    DATA.__set__(t, array)
    made_elsewhere[id(t)] = weakref.ref(t)


def _get_grad(leaf: Leaf) -> Any:
    recorder = _current.get()
    return GRAD.__get__(leaf) if recorder is None else recorder.of_leaf(leaf)


def _set_grad(leaf: Leaf, g: Any) -> None:
    recorder = _current.get()
    GRAD.__set__(leaf, g) if recorder is None else recorder.set_leaf(leaf, g)


def _owning(own: Callable[..., Any]) -> Callable[..., Any]:
    def owning(t: Tensor, *args: Any) -> None:
        own(t, *args)
        recorder = _current.get()
        if recorder is not None and not recorder.paused:
            recorder.own(t)

    return owning


def _writing(writable: Callable[..., Any]) -> Callable[..., Any]:
    def writing(t: Tensor) -> Any:
        recorder = _current.get()
        if recorder is None or recorder.paused:
            return writable(t)
        before, array = DATA.__get__(t), writable(t)
        if isinstance(array, Traced):
            return array
        if DATA.__get__(t) is before:
            recorder.refuse(
                "a write",
                f"an array {array.dtype} {array.shape} that is not the function's own is written into",
                "write into Tensor(array), which copies",
            )
        recorder.own(t)
        return t._data

    return writing


_PROPERTY_DATA, _PROPERTY_GRAD = property(_get_data, _set_data), property(_get_grad, _set_grad)


def _entering(call: Callable[..., Any]) -> Callable[..., Any]:
    def entering(module: Module, *args: Any, **kwargs: Any) -> Any:
        recorder = _current.get()
        if recorder is not None:
            recorder.enter(module)
        return call(module, *args, **kwargs)

    return entering


def _making(method: Callable[..., Any]) -> Callable[..., Any]:
    def making(made: Any, *args: Any, **kwargs: Any) -> None:
        recorder = _current.get()
        if recorder is not None and not vars(made):  # nothing is in it yet
            recorder.own_objects.add(made)
        method(made, *args, **kwargs)

    return making


def _seeding(words: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def seeding(*args: Any, **kwargs: Any) -> Any:
        recorder = _current.get()
        seeded = words == "random.Random" and any(x is not None for x in (*args[1:], *kwargs.values()))
        own = sys._getframe(1).f_globals.get("__name__") == "minigrad.random"  # its generator is recorded
        if recorder is not None and not recorder.paused and not seeded and not own:
            recorder.refuse(
                words,
                "random numbers without a seed, which would be the same in every replay",
                "draw from minigrad.default_generator(), or pass a generator as an argument",
            )
        return method(*args, **kwargs)

    return seeding


def _step(step: Callable[..., Any]) -> Callable[..., Any]:
    def recorded(optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        recorder = _current.get()
        return step(optimizer, closure) if recorder is None else record_step(recorder, optimizer, closure)

    return recorded


def _packing(state_dict: Callable[..., Any]) -> Callable[..., Any]:
    def packing(optimizer: Optimizer) -> Any:
        recorder = _current.get()
        if recorder is not None and optimizer not in recorder.own_objects:
            recorder.refuse(
                f"{type(optimizer).__name__}.state_dict",
                "a state that Python copies, and that would be the same in every replay",
                "call it outside the compiled function",
            )
        return state_dict(optimizer)

    return packing


def _refusing(cls: type, step: Callable[..., Any]) -> Callable[..., Any]:
    def refusing(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = _current.get()
        if recorder is not None:
            recorder.refuse(
                f"{type(self).__name__}.step",
                "it decides by values what it does next" if cls is LBFGS else "a schedule counts its steps in Python",
                "call it outside the compiled function",
            )
        return step(self, *args, **kwargs)

    return refusing


def _recorded(method: Callable[..., Any]) -> Callable[..., Any]:
    name = method.__name__

    @wraps(method)
    def recorded(op: Op, *args: Any) -> Any:
        recorder = _current.get()
        if recorder is None or recorder.paused:
            return method(op, *args)
        if name == "backward" and any(isinstance(x, Tensor) for x in args):
            args = (recorder._made(args[0]), *args[1:])  # a rule may write into what it makes like dout
        if not (stands_in(args) or stands_in(tuple(op.__dict__.values()))):
            found = method(op, *args)  # on constants; but gradients are added up in place
            return rebuilt(found, recorder._made) if name == "backward" else found
        return recorder.check(op, method, args) if name == "check" else recorder.run(op, method, args)

    return recorded
