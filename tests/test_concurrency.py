"""Threads, asyncio tasks and forked children: gradients stay right, and no mode leaks from one to another."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, enable_grad, func, grad, is_grad_enabled, no_grad

THREADS = 4
GRADIENTS = 2000


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    """Threads take turns a thousand times more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(*jobs: Callable[[], Any]) -> None:
    """Run the jobs at once, each in a thread, and raise what any of them raised."""
    errors: list[BaseException] = []
    gate = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> None:
        try:
            gate.wait()
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_threads_each_get_their_own_gradients() -> None:
    def job(k: float) -> None:
        for i in range(GRADIENTS):
            x = Tensor([k, k + i], dtype=float, requires_grad=True)
            y = x * x
            (y * x + y).backward(np.array([1.0, 2.0]))
            expected = (3 * x.numpy() ** 2 + 2 * x.numpy()) * [1.0, 2.0]
            assert x.grad is not None
            assert (x.grad == expected).all()

    in_threads(*[lambda k=k: job(k) for k in range(1, THREADS + 1)])


def test_threads_with_nested_gradients() -> None:
    def job(k: float) -> None:
        x = np.array([k, 2.0])
        for i in range(GRADIENTS):
            inner = func.grad(lambda t, i=i: mg.sum(t * t * t) * i)
            outer = func.grad(lambda t, inner=inner: mg.sum(inner(t)))(x)
            assert (outer.numpy() == 6 * x * i).all()

    in_threads(*[lambda k=k: job(k) for k in range(1, THREADS + 1)])


def test_threads_with_a_walk_inside_a_rule() -> None:
    class Nested(mg.Op):
        """x**2, whose rule asks another graph for its slope."""

        def forward(self, x: Any) -> Any:
            return x * x

        def backward(self, dout: Any, x: Any) -> Any:
            t = Tensor(x, requires_grad=True)
            (slope,) = grad(t * t, t, np.ones(2))
            return dout * slope.numpy()

    def job(k: float) -> None:
        for i in range(GRADIENTS // 4):
            x = Tensor([k, k + i], dtype=float, requires_grad=True)
            Nested()(Nested()(x)).backward(np.array([1.0, -1.0]))
            assert x.grad is not None
            assert (x.grad == 4 * x.numpy() ** 3 * [1.0, -1.0]).all()

    in_threads(*[lambda k=k: job(k) for k in range(1, THREADS + 1)])


def test_threads_that_share_a_leaf_add_up_exactly() -> None:
    shared = Tensor(np.zeros(3), requires_grad=True)

    def job(k: int) -> None:
        for _ in range(GRADIENTS):
            (shared * float(k)).backward(np.array([1.0, 2.0, -3.0]))

    in_threads(*[lambda k=k: job(k) for k in range(1, THREADS + 1)])
    np.testing.assert_array_equal(shared.grad, GRADIENTS * 10 * np.array([1.0, 2.0, -3.0]))


def test_threads_that_share_a_leaf_too_large_for_one_turn_add_up_exactly() -> None:
    shared = Tensor(np.zeros(200_000), requires_grad=True)

    def job(k: int) -> None:
        for _ in range(30):
            (shared * float(k)).backward(np.ones(200_000))

    in_threads(*[lambda k=k: job(k) for k in range(1, THREADS + 1)])
    np.testing.assert_array_equal(shared.grad, np.full(200_000, 300.0))


def test_threads_with_graphs_on_one_leaf_and_several_leaves() -> None:
    leaves = [Tensor([float(i)], requires_grad=True) for i in range(5)]

    def job() -> None:
        for _ in range(200):
            total: Any = 0.0
            for leaf in leaves:
                total = total + leaf * 2.0
            total.backward(np.array([3.0]))

    in_threads(*[job] * THREADS)
    for leaf in leaves:
        np.testing.assert_array_equal(leaf.grad, [THREADS * 200 * 6.0])


def test_no_grad_is_seen_by_no_other_thread() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    done = threading.Event()

    def silent() -> None:
        with no_grad():
            for _ in range(GRADIENTS):
                assert not (x * x).requires_grad
            done.set()
            assert not is_grad_enabled()
        assert is_grad_enabled()

    def recording() -> None:
        while not done.is_set():
            assert is_grad_enabled()
            assert (x * x).requires_grad

    def flipping() -> None:
        for _ in range(GRADIENTS):
            with no_grad():
                assert not (x * x).requires_grad
                with enable_grad():
                    assert (x * x).requires_grad
            assert (x * x).requires_grad

    in_threads(silent, recording, flipping)


def test_a_thread_started_under_no_grad_records() -> None:
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [not getattr(sys.flags, "thread_inherit_context", False)]  # Python 3.14 can be told to inherit


def test_a_copied_context_carries_the_mode() -> None:
    with no_grad():
        context = contextvars.copy_context()
    assert is_grad_enabled()
    assert not context.run(is_grad_enabled)


def test_no_grad_is_seen_by_no_sibling_task() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)

    async def silent(entered: asyncio.Event, leave: asyncio.Event) -> None:
        with no_grad():
            entered.set()
            await leave.wait()
            assert not (x * x).requires_grad
        assert (x * x).requires_grad

    async def recording(entered: asyncio.Event, leave: asyncio.Event) -> None:
        await entered.wait()
        assert is_grad_enabled()
        y = x * x
        await asyncio.sleep(0)
        y.backward(np.array([1.0, -1.0]))
        leave.set()

    async def main() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        await asyncio.gather(silent(entered, leave), recording(entered, leave))

    asyncio.run(main())
    np.testing.assert_array_equal(x.grad, [2.0, -4.0])


def test_tasks_that_take_turns_inside_no_grad_leave_it_in_their_own_order() -> None:
    order = []

    async def task(name: str, rounds: int) -> None:
        for _ in range(rounds):
            with no_grad():
                await asyncio.sleep(0)
                assert not is_grad_enabled()
                with enable_grad():
                    await asyncio.sleep(0)
                    assert is_grad_enabled()
                await asyncio.sleep(0)
                assert not is_grad_enabled()
            assert is_grad_enabled()
        order.append(name)

    async def main() -> None:
        await asyncio.gather(*[task(str(i), 3 + i) for i in range(5)])
        assert is_grad_enabled()

    asyncio.run(main())
    assert order == ["0", "1", "2", "3", "4"]


def test_a_task_made_under_no_grad_inherits_it() -> None:
    async def child() -> bool:
        return is_grad_enabled()

    async def main() -> None:
        with no_grad():
            task = asyncio.create_task(child())
        assert not await task
        assert is_grad_enabled()

    asyncio.run(main())


def test_a_decorated_coroutine_holds_the_mode_across_awaits() -> None:
    @no_grad()
    async def silent() -> bool:
        await asyncio.sleep(0)
        return is_grad_enabled()

    async def main() -> list[bool]:
        return await asyncio.gather(silent(), asyncio.to_thread(is_grad_enabled), silent())

    assert asyncio.run(main()) == [False, True, False]


FORK = """
import os, sys, threading
import numpy as np
import minigrad as mg

x = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
x.grad = np.array([1.0, 1.0, 1.0])
y = x * x                       # recorded in the parent, walked in the child

busy, stop = threading.Event(), threading.Event()

def parent_works_on():          # the fork happens while another thread accumulates
    w = mg.Tensor(np.ones(3), requires_grad=True)
    while not stop.is_set():
        (w * 2.0).backward(np.ones(3))
        busy.set()

thread = threading.Thread(target=parent_works_on) if sys.version_info < (3, 12) else None
if thread:
    thread.start()
    busy.wait()

for _ in range(20):
    child = os.fork()
    if child == 0:
        try:
            y.backward(np.array([1.0, -1.0, 2.0]))
            z = mg.exp(x)       # and a graph of the child's own
            z.backward(np.array([1.0, 0.0, 0.0]))
            expected = np.array([1.0, 1.0, 1.0]) + [2.0, -4.0, 12.0] + [np.e, 0.0, 0.0]
            os._exit(0 if np.allclose(x.grad, expected, rtol=1e-15) else 1)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0

stop.set()
if thread:
    thread.join()
assert x.grad.tolist() == [1.0, 1.0, 1.0]      # the parent's are its own
y.backward(np.array([1.0, -1.0, 2.0]))
assert x.grad.tolist() == [3.0, -3.0, 13.0]
print("forked")
"""

HELD = """
import os, sys
import numpy as np
import minigrad as mg
from minigrad import tape

x = mg.Tensor([1.0, 2.0], requires_grad=True)
with tape._accumulating:        # the state that a fork finds while another thread accumulates
    child = os.fork()
    if child == 0:
        (x * x).backward(np.array([1.0, -1.0]))
        os._exit(0 if x.grad.tolist() == [2.0, -4.0] else 1)
    assert os.waitpid(child, 0)[1] == 0
print("not held")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("script", "said"), [(FORK, "forked\n"), (HELD, "not held\n")], ids=["works on", "held lock"])
def test_a_forked_child_runs_backward(script: str, said: str) -> None:
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert run.stdout == said, run.stderr
