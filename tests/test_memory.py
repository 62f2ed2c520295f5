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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="page faults are counted where freed memory is kept")
def test_a_step_on_120_mb_gets_no_new_pages() -> None:
    """2 MB each: glibc alone would give back all but 64 MB, and a step would take twice as long."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    faults = {}
    for threshold in None, str(2**26):
        given = env if threshold is None else {**env, "MALLOC_TRIM_THRESHOLD_": threshold}
        run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=given)
        faults[threshold] = int(run.stdout)
    assert faults[None] < 2000
    assert faults[str(2**26)] > 10000, "the user's own setting holds"
