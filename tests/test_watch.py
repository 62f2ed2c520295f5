"""Watchers are told of every call and rule in their own context, in no other, and of nothing once they have left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.graph import record
from minigrad.watch import Watcher, modules, watched, watching, within


class Seen(Watcher):
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def called(self, op: Any, args: Sequence[Any], arrays: Sequence[Any], t: Any, began: float, ended: float) -> None:
        assert ended >= began
        assert len(args) == len(arrays)
        assert all(isinstance(a, (np.ndarray, float, int)) for a in arrays)
        self.events.append((op.name, t.requires_grad, len(modules.get())))

    def before_rule(self, node: Any, dout: Any) -> None:
        self.events.append(("before", node.op.name))

    def after_rule(self, node: Any, dout: Any, grads: Sequence[Any], began: float, ended: float) -> None:
        assert ended >= began
        self.events.append(("after", node.op.name, len(grads)))


def test_calls_and_rules_in_their_order() -> None:
    x, seen = mg.Tensor([1.0, 2.0], requires_grad=True), Seen()
    with watching(seen):
        y = mg.concatenate([x * 2, np.ones(1)]).sum()
        y.backward()
        mg.exp(np.ones(2))
    assert seen.events == [
        ("multiply", True, 0),
        ("concatenate", True, 0),
        ("sum", True, 0),
        ("before", "sum"),
        ("after", "sum", 1),
        ("before", "concatenate"),
        ("after", "concatenate", 2),
        ("before", "multiply"),
        ("after", "multiply", 2),
        ("exp", False, 0),
    ]
    mg.exp(x)
    assert len(seen.events) == 10
    assert not watched


def test_two_watchers_and_an_error() -> None:
    outer, inner = Seen(), Seen()
    with watching(outer):
        with pytest.raises(mg.ShapeError), watching(inner):
            mg.add(mg.exp(1.0), mg.Tensor([1.0, 2.0])) @ np.ones(3)
        mg.log(1.0)
    assert [event[0] for event in outer.events] == ["exp", "add", "log"]
    assert [event[0] for event in inner.events] == ["exp", "add"]
    assert not watched


def test_another_thread_and_another_task_are_not_watched() -> None:
    seen = Seen()
    with watching(seen):
        thread = threading.Thread(target=lambda: mg.exp(1.0))
        thread.start()
        thread.join()
    assert seen.events == []

    async def main() -> None:
        entered, done = asyncio.Event(), asyncio.Event()

        async def watcher() -> None:
            with watching(seen):
                entered.set()
                await done.wait()
                mg.log(1.0)

        async def other() -> None:
            await entered.wait()
            mg.exp(1.0)
            done.set()

        await asyncio.gather(watcher(), other())

    asyncio.run(main())
    assert [event[0] for event in seen.events] == ["log"]


def test_modules_that_run_are_known_to_those_who_watch() -> None:
    layer, seen = nn.Linear(2, 2), Seen()
    with watching(seen):
        nn.Sequential(layer)(np.ones((1, 2)))
        with pytest.raises(mg.ShapeError):
            layer(np.ones((1, 3)))
        assert modules.get() == ()
    assert seen.events == [("linear", True, 2)]
    with within(layer):
        assert modules.get() == (layer,)


def test_the_users_line_is_outside_the_package() -> None:
    with record():
        y = nn.Linear(2, 2)(np.ones((1, 2)))
    assert y._node is not None
    line = y._node.call.line
    assert line is not None
    assert line.function == "test_the_users_line_is_outside_the_package"
    assert line.file == __file__
