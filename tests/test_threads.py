"""Large arrays, in blocks and on several threads: the same bits for any number, and as accurate as small ones."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import referee
from referee import ELEMENTWISE, ulp_error, wrong

import minigrad as mg
from minigrad import threads
from minigrad.threads import spread

LARGE = 300_000  # more than two blocks of every kernel
OPS: dict[str, Callable[..., mg.Tensor]] = {
    "sigmoid": mg.sigmoid,
    "log_sigmoid": mg.log_sigmoid,
    "softplus": mg.softplus,
    "tanh": mg.tanh,
    "silu": mg.silu,
    "gelu": mg.gelu,
    "gelu by tanh": lambda x: mg.gelu(x, "tanh"),
    "erf": mg.erf,
    "relu": mg.relu,
    "leaky_relu": mg.leaky_relu,
}
ENDS = [np.inf, -np.inf, np.nan, 0.0, -0.0]


@pytest.fixture(autouse=True)
def number_of_threads() -> Iterator[None]:
    before = mg.get_num_threads()
    mg.set_num_threads(3)
    yield
    mg.set_num_threads(before)


def points(dtype: str, n: int) -> np.ndarray:
    """n values over the whole line, both ends, and nan."""
    rng = np.random.default_rng(2)
    info = np.finfo(dtype)
    x = rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 3, n)
    x[::97] = rng.choice([*ENDS, float(info.max), float(info.min), float(info.tiny)], len(x[::97]))
    return x.astype(dtype)


def value_and_gradient(call: Callable[..., mg.Tensor], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    leaf = mg.Tensor(x, requires_grad=True)
    out = call(leaf)
    out.backward(np.ones_like(x))
    assert leaf.grad is not None
    return out.numpy(), leaf.grad


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", OPS)
def test_any_number_of_threads_gives_the_same_bits(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigrad.ops.kernels._SHARED_LIGHT", 1)
    x = points(dtype, LARGE)
    found = []
    for n in 1, 2, 5:
        mg.set_num_threads(n)
        out, grad = value_and_gradient(OPS[name], x)
        found.append((out.tobytes(), grad.tobytes()))
        assert out.base is None or out.base.base is None
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_large_arrays_are_as_accurate_as_small_ones(name: str, dtype: str) -> None:
    value, derivative = ELEMENTWISE[name]
    x = referee.points(dtype)
    with np.errstate(all="raise"):
        outs, grads = value_and_gradient(OPS[name], np.tile(x, LARGE // len(x)))
    low, high = (2, 4) if dtype == "float64" else (4, 6)
    for v, out, grad in zip(x.tolist(), outs, grads, strict=False):
        assert ulp_error(out, value(v), dtype) <= low, v
        assert ulp_error(grad, derivative(v), dtype) <= high, v
        assert not wrong(out, value(v), dtype), v
        assert not wrong(grad, derivative(v), dtype), v


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["silu", "gelu", "gelu by tanh", "relu", "leaky_relu"])
def test_large_arrays_give_what_small_ones_give(name: str, dtype: str) -> None:
    x = points(dtype, LARGE)
    outs, grads = value_and_gradient(OPS[name], x)
    small = [value_and_gradient(OPS[name], part) for part in np.split(x, 30)]
    eps, least = np.finfo(dtype).eps, np.finfo(dtype).smallest_subnormal
    # x enters an exponential, by up to 700, and so do its roundings; the slope of silu and gelu is 0 somewhere.
    np.testing.assert_allclose(outs, np.concatenate([out for out, _ in small]), rtol=3000 * eps, atol=700 * least)
    np.testing.assert_allclose(grads, np.concatenate([grad for _, grad in small]), rtol=3000 * eps, atol=4 * eps)


def test_strided_arrays_and_scalars() -> None:
    x = points("float32", 2 * LARGE).reshape(2, -1)
    for part in x[:, ::2], x.T, x[0, 7], x[:1, :3].T:
        out, grad = value_and_gradient(mg.sigmoid, np.asarray(part))
        same, slope = value_and_gradient(mg.sigmoid, np.ascontiguousarray(part).reshape(part.shape))
        np.testing.assert_array_equal(out, same)
        np.testing.assert_array_equal(grad, slope)
        assert out.shape == part.shape
    assert mg.relu(-3.0).item() == 0.0
    assert mg.relu(3).item() == 3


def test_each_block_is_worked_on_once() -> None:
    seen: list[tuple[int, str]] = []
    gate = threading.Barrier(3)

    def task(parts: Iterator[slice]) -> None:
        gate.wait(10)  # all three take part
        seen.extend((i, threading.current_thread().name) for part in parts for i in range(part.start, part.stop))

    spread(task, 1000, 7, least=1000)
    assert sorted(i for i, _ in seen) == list(range(1000))
    spread(lambda parts: seen.extend((part.start, "") for part in parts), 0, 7, least=0)
    assert len(seen) == 1000


def test_no_thread_is_started_before_it_pays() -> None:
    code = (
        "import sys, threading, numpy as np, minigrad as mg; mg.set_num_threads(4)\n"
        "x = mg.Tensor(np.ones(200_000), requires_grad=True); mg.sum(mg.sigmoid(x)).backward()\n"
        "mg.set_num_threads(1); mg.sigmoid(np.ones(10**6))\n"
        "assert threading.active_count() == 1 and 'concurrent.futures.thread' not in sys.modules\n"
        "mg.set_num_threads(4); mg.sigmoid(np.ones(10**6))\n"
        "assert threading.active_count() > 1\n"
    )
    assert run(code) == ""


def run(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MINIGRAD_NUM_THREADS")} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_environment_says_how_many_threads_at_first() -> None:
    code = "import minigrad as mg; print(mg.get_num_threads())"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert run(code) == f"{cores}\n"
    assert run(code, OMP_NUM_THREADS="3,2") == "3\n"
    assert run(code, OMP_NUM_THREADS="many") == f"{cores}\n"
    assert run(code, OMP_NUM_THREADS="3", MINIGRAD_NUM_THREADS="5") == "5\n"
    refused = "import minigrad as mg\ntry: mg.get_num_threads()\nexcept mg.ArgumentError as error: print(error)"
    assert "MINIGRAD_NUM_THREADS: str 'two'; expected a number of threads" in run(refused, MINIGRAD_NUM_THREADS="two")


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "2", None, np.float64(2)])
def test_what_is_no_number_of_threads_is_refused(n: Any) -> None:
    with pytest.raises(mg.ArgumentError, match=r"set_num_threads: n: .*; expected a number of threads") as caught:
        mg.set_num_threads(n)
    assert caught.value.fix
    assert mg.get_num_threads() == 3


def test_the_number_is_what_was_set() -> None:
    mg.set_num_threads(np.int64(2))
    assert mg.get_num_threads() == 2
    assert type(mg.get_num_threads()) is int


def test_an_exception_in_any_thread_is_raised_and_stops_the_others() -> None:
    gate = threading.Barrier(3)

    def task(parts: Iterator[slice]) -> None:
        gate.wait(10)
        for _ in parts:
            if threading.current_thread() is not threading.main_thread():
                raise ZeroDivisionError("in a helper")

    with pytest.raises(ZeroDivisionError, match="in a helper"):
        spread(task, 100_000, 1, least=1)

    def fails(parts: Iterator[slice]) -> None:
        raise KeyError(next(parts).start)

    with pytest.raises(KeyError):
        spread(fails, 100, 10, least=1)
    todo = [slice(0, 1), slice(1, 2)]
    with pytest.raises(KeyError):
        threads._take_part(fails, todo)
    assert not todo
    assert sum_by_threads() == 45


def sum_by_threads() -> int:
    found: list[int] = []
    spread(lambda parts: found.extend(part.start for part in parts), 10, 1, least=1)
    return sum(found)


def test_the_error_state_goes_along() -> None:
    gate = threading.Barrier(3)
    states = []

    def task(parts: Iterator[slice]) -> None:
        gate.wait(10)
        states.append(np.geterr()["under"])
        list(parts)

    with np.errstate(under="call"):
        spread(task, 30, 1, least=1)
    assert states == ["call"] * 3
    assert np.geterr()["under"] != "call"


def test_several_threads_at_once_and_one_within_another() -> None:
    x = points("float32", LARGE)
    expected = value_and_gradient(mg.silu, x)
    found: list[bool] = []

    def job() -> None:
        for _ in range(3):
            out, grad = value_and_gradient(mg.silu, x)
            found.append(out.tobytes() == expected[0].tobytes() and grad.tobytes() == expected[1].tobytes())

    jobs = [threading.Thread(target=job) for _ in range(6)]
    for thread in jobs:
        thread.start()
    for thread in jobs:
        thread.join(60)
    assert found == [True] * 18
    sums: list[int] = []
    spread(lambda parts: sums.extend(sum_by_threads() for _ in parts), 8, 1, least=1)
    assert sums == [45] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_works_and_everything_ends_cleanly() -> None:
    code = (
        "import os, sys, warnings, numpy as np, minigrad as mg; mg.set_num_threads(3)\n"
        "x = np.linspace(-9, 9, 10**6); expected = mg.sigmoid(x).numpy().tobytes()\n"
        "warnings.simplefilter('ignore')\n"
        "child = os.fork()\n"
        "if child:\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "else:\n"
        "    import threading\n"
        "    assert mg.sigmoid(x).numpy().tobytes() == expected and threading.active_count() > 1\n"
    )
    assert run(code) == "0\n"


def test_large_arrays_while_the_interpreter_ends() -> None:
    code = (
        "import atexit, threading, numpy as np, minigrad as mg; mg.set_num_threads(3)\n"
        "atexit.register(lambda: print(mg.sigmoid(np.zeros(10**6)).numpy().sum()))\n"
    )
    assert run(code) == "500000.0\n"
    assert run(code + "mg.sigmoid(np.zeros(10**6))\n") == "500000.0\n"


def test_whoever_comes_late_does_nothing_and_whoever_has_begun_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, submit raises, and has queued its work all the same."""
    gate, taken, done = threading.Event(), threading.Event(), threading.Event()
    busy = threads._threads(2).submit(gate.wait, 20)  # the only thread there is

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    found: list[int] = []

    def task(parts: Iterator[slice]) -> None:
        for part in parts:
            if threading.current_thread() is threading.main_thread():
                gate.set()
                assert taken.wait(10)
            else:
                taken.set()
                done.wait(0.3)  # longer than the others take
            found.append(part.start)

    spread(task, 4, 1, least=1)
    assert sorted(found) == [0, 1, 2, 3]
    assert busy.result(10)
    late = threads._Shared(task, [slice(0, 1)])
    late.close()
    late.help()
    assert len(found) == 4
    assert late.work is None


@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_without_a_pool_the_caller_does_it_all(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(n: int) -> None:
        raise error("the interpreter is shutting down")

    monkeypatch.setattr(threads, "_threads", refuse)
    assert sum_by_threads() == 45


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", np.longdouble])
@pytest.mark.parametrize("call", [mg.relu, lambda x: mg.leaky_relu(x, 0.0)], ids=["relu", "leaky_relu"])
def test_the_sign_of_zero_does_not_depend_on_the_size(call: Callable[..., mg.Tensor], dtype: Any) -> None:
    x = np.resize(np.array([-0.0, 0.0, -1.0, -np.inf], dtype), LARGE)
    signs = {bool(sign) for n in (3, 1000, 20_000, LARGE) for sign in np.signbit(call(x[:n]).numpy()[::4])}
    assert len(signs) == 1
    assert (np.signbit(call(x).numpy())[:1000] == np.signbit(call(x[:1000]).numpy())).all()


def test_a_pool_is_made_anew_for_another_number() -> None:
    assert sum_by_threads() == 45
    first = threads._pool
    mg.set_num_threads(2)
    assert sum_by_threads() == 45
    assert threads._pool is not first
