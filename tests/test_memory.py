"""Memory that is used again: never while anybody looks at it, and instead of new pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import pool

LARGE = (2**22 + 3,)  # of float64, a little more than the least that is pooled


@pytest.fixture(autouse=True)
def without_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_blocks", [])


def where(a: np.ndarray) -> int:
    return int(a.__array_interface__["data"][0])


def test_memory_is_used_again_once_nobody_looks_at_it() -> None:
    a = pool.empty(LARGE, float)
    first = where(a)
    views = [a[5:9].reshape(2, 2).T, memoryview(a), mg.from_numpy(a), a.view("int64")]
    del a
    while views:
        assert where(pool.empty(LARGE, float)) != first
        views.pop()
    assert pool.empty((LARGE[0] - 1,), float).shape == (LARGE[0] - 1,)  # one of another length is of no use


def test_arrays_alive_at_the_same_time_share_nothing() -> None:
    arrays = [pool.empty(LARGE, float) for _ in range(4)]
    for i, a in enumerate(arrays):
        a.fill(i)
    assert [a[0] + a[-1] for a in arrays] == [0, 2, 4, 6]
    assert all(a.flags.c_contiguous and a.flags.writeable and a.shape == LARGE for a in arrays)


def test_small_and_very_large_arrays_are_numpys_own() -> None:
    assert pool.empty((3, 4), np.float32).base is None
    assert pool.empty((), float).base is None
    assert pool.empty((2**25 + 1,), float).base is None
    assert pool._blocks == []


def test_no_more_is_kept_than_the_bound_and_what_is_dropped_stays_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_MOST", 2 * 8 * LARGE[0] + 100)
    arrays = [pool.empty(LARGE, float) for _ in range(5)]
    for i, a in enumerate(arrays):
        a[:3] = i
    assert len(pool._blocks) == 2
    assert [a[2] for a in arrays] == [0, 1, 2, 3, 4]
    kept = {where(block) for block in pool._blocks}
    assert kept == {where(a) for a in arrays[3:]}
    del arrays
    assert {where(pool.empty(LARGE, float)) for _ in range(4)} <= kept


def test_whoever_comes_between_gets_memory_of_its_own() -> None:
    """A signal's handler or a __del__ may run while its own thread holds the lock."""
    with pool._taking:
        assert pool.empty(LARGE, float).base is None
    assert pool._blocks == []
    assert pool.empty(LARGE, float).base is not None


def test_threads_never_get_the_same_memory() -> None:
    failures: list[object] = []
    barrier = threading.Barrier(4)

    def work(i: int) -> None:
        barrier.wait()
        for k in range(50):
            a = pool.empty(LARGE, float)
            a[::1000] = 1000 * i + k
            b = pool.empty(LARGE, float)
            b[::1000] = -1
            if not (a[::1000] == 1000 * i + k).all():
                failures.append((i, k))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_values_and_gradients_of_large_arrays_stay_what_they_are() -> None:
    x = mg.Tensor(np.linspace(-8, 8, 2**23 + 1, dtype=np.float32), requires_grad=True)
    first = mg.sigmoid(x)
    copy = first.data.copy()
    first.sum().backward()
    gradient, x.grad = x.grad, None
    mg.sigmoid(x * 2.0).sum().backward()
    np.testing.assert_array_equal(first.data, copy)
    np.testing.assert_allclose(gradient, copy * (1 - copy), atol=1e-6)
    assert not np.shares_memory(gradient, x.grad)


FAULTS = """
import resource
import numpy as np
import minigrad as mg
x = mg.Tensor(np.ones(250000), requires_grad=True)
def step():
    y = x
    for _ in range(60):
        y = mg.exp(y * 0.01)
    y.sum().backward()
    x.grad = None
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def fresh(code: str, **environment: str) -> str:
    """What another interpreter prints."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "MINIGRAD_KEEP"))}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**env, **environment}
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="page faults are counted where freed memory is kept")
def test_a_step_on_120_mb_gets_no_new_pages() -> None:
    """2 MB each: glibc alone would give back all but 64 MB, and a step would take twice as long."""
    assert int(fresh(FAULTS)) < 2000
    assert int(fresh(FAULTS, MALLOC_TRIM_THRESHOLD_=str(2**26))) > 10000, "the user's own setting holds"
    assert int(fresh(FAULTS, MINIGRAD_KEEP_MB="0")) > 10000


IDLE = """
import gc
import numpy as np
import minigrad as mg
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
x = mg.Tensor(np.ones(2**20, np.float32), requires_grad=True)
before = resident()
y = x
for _ in range(100):
    y = mg.exp(y * 0.01)
y.sum().backward()
del y
big = mg.Tensor(np.ones(2**23, np.float32), requires_grad=True)
for _ in range(2):
    outs = [mg.sigmoid(big) for _ in range(5)]
del big, outs
x.grad = None
gc.collect()
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere the allocator decides")
@pytest.mark.parametrize("given", [None, "0", "100"])
def test_an_idle_process_keeps_no_more_than_it_may(given: str | None) -> None:
    """After a step on 400 MB in blocks of 4 MB, and another on 300 MB in blocks of 32."""
    kept = int(fresh(IDLE) if given is None else fresh(IDLE, MINIGRAD_KEEP_MB=given))
    assert kept <= (256 if given is None else max(int(given), 64)) + 20, "0: glibc's own 64 MB"


SIZES = "from minigrad import pool\nprint(pool._KEPT >> 20, pool._MOST >> 20)"


def test_what_the_environment_says_is_kept() -> None:
    assert fresh(SIZES, MINIGRAD_KEEP_MB="0") == "0 0\n"
    assert fresh(SIZES, MINIGRAD_KEEP_MB=" 1000 ") == "1000 375\n"
    assert fresh(SIZES, MINIGRAD_KEEP_MB="") == fresh(SIZES)
    refused = "try: import minigrad\nexcept ValueError as error: print(error)"
    for nonsense in "lots", "-1", "1.5", "1" * 5000:
        message = fresh(refused, MINIGRAD_KEEP_MB=nonsense)
        assert message.startswith("the environment variable MINIGRAD_KEEP_MB: str ")
        assert "expected how many MB of freed memory to keep, a whole number; set it to 0" in message


@pytest.mark.parametrize(("pages", "kept"), [(-1, 2**28), (0, 2**28), (2**20, 2**28), (2**16, 2**24)])
def test_a_small_machine_keeps_less(pages: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIGRAD_KEEP_MB", raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}.get, raising=False)
    assert pool._kept() == kept
    monkeypatch.delattr(os, "sysconf")
    assert pool._kept() == 2**28
