"""Data sets, loaders and generated samples: every sample once, resumed as if uninterrupted, no thread left behind."""

from __future__ import annotations

import gc
import inspect
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import ArgumentError, DTypeError, GraphError, LabelError, ShapeError, data
from minigrad.data import DataLoader, Dataset, Subset, TensorDataset, blobs, moons, random_split, sine, spiral, xor
from minigrad.data import download as downloading
from minigrad.data import loader as loading


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rows(loader: Any) -> list[list[int]]:
    """The batches of one epoch of a data set of one array."""
    return [x.tolist() for (x,) in loader]


class Counted(Dataset):
    """Sample i is (i, i**2); what `act` does with i happens first."""

    def __init__(self, n: int, act: Callable[[int], object] = lambda i: None) -> None:
        self.n, self.act = n, act

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[int, int]:
        self.act(index)
        return index, index**2


@pytest.mark.parametrize("name", data.__all__)
def test_a_public_name_is_documented_with_an_example(name: str) -> None:
    doc = inspect.getdoc(getattr(data, name))
    assert doc
    assert ">>> " in doc


# Data sets


def test_a_tensor_dataset_gives_tuples_and_keeps_dtypes() -> None:
    x, t = mg.Tensor(np.ones((4, 2), np.float32), requires_grad=True), np.arange(4, dtype=np.uint8)
    found = TensorDataset(x, t)
    assert len(found) == 4
    assert [a.tolist() for a in found[2]] == [[1.0, 1.0], 2]
    assert [(type(a), a.dtype) for a in found.batch([1, 3])] == [(np.ndarray, np.float32), (np.ndarray, np.uint8)]
    assert len(list(found)) == 4
    (batch,) = DataLoader(found, 4)
    batch[0][:] = 7  # the caller's own
    assert found[0][0].tolist() == [1.0, 1.0]


def test_a_data_set_that_knows_no_end_is_gone_through_once() -> None:
    assert list(Counted(3)) == [(0, 0), (1, 1), (2, 4)]
    assert [x.tolist() for x in Counted(3).batch([2, 1])] == [[2, 1], [4, 1]]


def test_a_subset_counts_from_either_end_and_can_be_cut_again() -> None:
    whole = TensorDataset(np.arange(10))
    part = Subset(Subset(whole, [9, -1, 3, 4]), [0, 1, 2])
    assert [int(x) for (x,) in part] == [9, 9, 3]
    assert part[1:][0].tolist() == [9, 3]
    assert rows(DataLoader(part, 2)) == [[9, 9], [3]]
    assert len(Subset(whole, [])) == 0
    assert Subset(Counted(3), [-1])[0] == (2, 4)


@pytest.mark.parametrize(
    ("n", "lengths", "counts"),
    [
        (10, [7, 3], [7, 3]),
        (10, [0.75, 0.25], [8, 2]),
        (10, [0.35, 0.35, 0.3], [4, 3, 3]),
        (11, [0.25, 0.25, 0.25, 0.25], [3, 3, 3, 2]),
        (100, [0.29, 0.71], [29, 71]),  # floor(100 * 0.29) is 28, and the one left goes to the first
        (10, [0.1] * 10, [1] * 10),
        (10, [10, 0], [10, 0]),
    ],
)
def test_random_split_shares_out_as_pytorch(n: int, lengths: list[float], counts: list[int]) -> None:
    parts = random_split(TensorDataset(np.arange(n)), lengths, generator=rng())
    assert [len(part) for part in parts] == counts
    assert sorted(int(x) for part in parts for (x,) in part) == list(range(n))
    again = random_split(TensorDataset(np.arange(n)), lengths, generator=rng())
    assert all(np.array_equal(a.indices, b.indices) for a, b in zip(parts, again, strict=True))


def test_a_fraction_that_gives_nothing_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"parts of 3 samples are \[3, 0\]"):
        random_split(range(3), [0.99, 0.01])


# Batches


@given(st.integers(0, 20), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 3))
def test_an_epoch_has_every_sample_once_and_len_batches(
    n: int, size: int, drop_last: bool, shuffle: bool, prefetch: int
) -> None:
    loader = DataLoader(TensorDataset(np.arange(n)), size, shuffle and n > 0, drop_last, rng(), prefetch=prefetch)
    for _ in range(2):
        found = rows(loader)
        samples = [i for batch in found for i in batch]
        assert len(found) == len(loader)
        assert len(samples) == len(set(samples)) == (n // size * size if drop_last else n)
        assert set(samples) <= set(range(n))
        assert all(len(batch) == size for batch in found[:-1])
        assert shuffle or samples == sorted(samples)


@given(
    n=st.integers(1, 20),
    size=st.integers(1, 7),
    options=st.fixed_dictionaries(
        {"drop_last": st.booleans(), "shuffle": st.booleans(), "prefetch": st.integers(0, 3)}
    ),
    bits=st.sampled_from([np.random.PCG64, np.random.MT19937]),
    before=st.integers(0, 1),
    part=st.floats(0, 1),
)
def test_a_resumed_run_is_the_uninterrupted_one(
    n: int, size: int, options: dict[str, Any], bits: Any, before: int, part: float
) -> None:
    dataset = TensorDataset(np.arange(n))

    def make(seed: int, **changed: Any) -> DataLoader:
        return DataLoader(dataset, size, generator=np.random.Generator(bits(seed)), **(options | changed))

    whole = make(1, prefetch=0)
    wanted = [rows(whole) for _ in range(before + 3)]
    first = make(1)
    stop = round(part * len(first))
    assert [rows(first) for _ in range(before)] == wanted[:before]
    running = iter(first)
    assert [next(running)[0].tolist() for _ in range(stop)] == wanted[before][:stop]
    state = first.state_dict()
    assert state["position"] == stop
    if bits is np.random.PCG64:
        state = json.loads(json.dumps(state))
    del running
    second = make(2)
    second.load_state_dict(state)
    assert json.dumps(second.state_dict(), default=np.ndarray.tolist) == json.dumps(state, default=np.ndarray.tolist)
    assert rows(second) == wanted[before][stop:]
    assert [rows(second) for _ in range(2)] == wanted[before + 1 :]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("generator_first", [True, False])
def test_the_default_generator_may_be_shared_with_dropout(prefetch: int, generator_first: bool) -> None:
    def make() -> DataLoader:
        return DataLoader(TensorDataset(np.arange(9)), 2, shuffle=True, prefetch=prefetch)

    def epoch(loader: DataLoader) -> Iterator[tuple[list[int], float]]:
        for (x,) in loader:
            yield x.tolist(), mg.default_generator().random()

    kept = mg.get_rng_state()
    try:
        mg.manual_seed(3)
        loader, saved, wanted = make(), [], []
        for step in (*epoch(loader), *epoch(loader)):
            wanted.append(step)
        mg.manual_seed(3)
        for k, _ in enumerate(epoch(loader), 1):
            if k == 3:
                saved = [loader.state_dict(), mg.get_rng_state()]
                break
        mg.manual_seed(4)
        again = make()
        if generator_first:
            mg.set_rng_state(saved[1])
        again.load_state_dict(saved[0])
        if not generator_first:
            mg.set_rng_state(saved[1])
        assert [*epoch(again), *epoch(again)] == wanted[3:]
        mg.manual_seed(3)
        again.load_state_dict({key: saved[0][key] for key in ("position", "generator")})  # the order needs no more
        assert rows(again) == [x for x, _ in wanted[3:5]]
    finally:
        mg.set_rng_state(kept)


def test_the_position_counts_batches_received_and_not_those_prepared() -> None:
    prepared: queue.Queue[int] = queue.Queue()
    loader = DataLoader(Counted(8, prepared.put), 1, prefetch=3)
    running = iter(loader)
    next(running)
    assert [prepared.get(timeout=30) for _ in range(4)] == [0, 1, 2, 3]  # the first, and three ahead
    assert loader.state_dict()["position"] == 1
    next(running)
    assert prepared.get(timeout=30) == 4
    running.close()  # type: ignore[attr-defined]  # an iterator that is a generator
    assert prepared.empty()
    assert loader.state_dict()["position"] == 2


def test_a_state_at_the_last_batch_and_one_after_it() -> None:
    loader, again = (DataLoader(range(4), 2, True, generator=rng(i)) for i in (1, 2))
    states = [loader.state_dict() for _ in loader]
    assert [state["position"] for state in states] == [1, 2]
    after, following = loader.state_dict(), rows(loader)
    assert after["position"] == 0
    again.load_state_dict(states[1])
    assert [rows(again), rows(again)] == [[], following]
    again.load_state_dict(after)
    assert rows(again) == following


def test_a_state_from_before_the_first_batch_of_an_epoch_that_has_begun() -> None:
    def fail(i: int) -> None:
        raise OSError

    wanted = rows(DataLoader(range(6), 2, True, generator=rng()))
    broken = DataLoader(Counted(6, fail), 2, True, generator=rng())
    with pytest.raises(OSError, match=r"dataset\[\d\]"):
        next(iter(broken))
    state = broken.state_dict()
    assert state["position"] == 0
    generator = rng(1)
    again = DataLoader(range(6), 2, True, generator=generator)
    again.load_state_dict(state)
    generator.bit_generator.state = state["now"]  # as whoever shares the generator may restore it
    assert rows(again) == wanted


def test_two_loops_at_once_have_an_order_each_and_the_newest_is_the_state() -> None:
    alone = DataLoader(range(6), 2, True, generator=rng())
    wanted = [rows(alone), rows(alone)]
    loader = DataLoader(range(6), 2, True, generator=rng(), prefetch=1)
    first, second = iter(loader), iter(loader)
    found = [[next(first)[0].tolist()], [next(second)[0].tolist()]]
    found[0].append(next(first)[0].tolist())
    assert loader.state_dict()["position"] == 1
    found[0] += rows(first)
    assert loader.state_dict()["position"] == 1
    found[1] += rows(second)
    assert found == wanted
    assert loader.state_dict()["position"] == 0


def test_without_shuffle_the_generator_is_left_alone() -> None:
    generator = rng()
    loader = DataLoader(range(6), 2, generator=generator)
    before = generator.bit_generator.state
    next(iter(loader))
    state = loader.state_dict()
    assert (state["position"], state["generator"]) == (1, None)
    loader.load_state_dict(state)
    assert rows(loader) == [[2, 3], [4, 5]]
    assert generator.bit_generator.state == before


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Subset(d, range(len(d)))])
def test_a_subclass_that_changes_its_samples_is_asked_for_each(wrap: Any) -> None:
    class Doubled(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            return tuple(2 * a for a in super().__getitem__(index))

    assert rows(DataLoader(wrap(Doubled([1, 2, 3])), 2)) == [[2, 4], [6]]

    class Whole(Doubled):
        def batch(self, indices: Any) -> Any:
            return (np.asarray(indices) + 10,)

    assert rows(DataLoader(wrap(Whole([1, 2, 3])), 2)) == [[10, 11], [12]]


def test_samples_are_stacked_part_by_part() -> None:
    samples = [(np.full(2, i, np.float32), i, mg.Tensor([i / 2]), [True]) for i in range(3)]
    (batch,) = DataLoader(samples, 3)
    assert [(a.shape, a.dtype) for a in batch] == [
        ((3, 2), np.float32), ((3,), np.int64), ((3, 1), np.float64), ((3, 1), bool),
    ]  # fmt: skip
    assert rows(DataLoader(np.arange(3.0), 2, num_workers=0)) == [[0.0, 1.0], [2.0]]
    images = [np.full((2, 2), float(i)) for i in range(3)]
    assert [x.shape for (x,) in DataLoader(images, 2)] == [(2, 2, 2), (1, 2, 2)]
    assert rows(DataLoader((1.0, 2.0, 3.0), 3)) == [[1.0, 2.0, 3.0]]  # a tuple of numbers is as good as a list
    assert len(DataLoader(((np.ones(2), 1), (np.ones(2), 0)))) == 2
    assert list(DataLoader(samples, 2, collate_fn=len)) == [2, 1]


# Errors in the loop


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("error", [KeyError("lost"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_of_the_data_set_comes_out_with_its_traceback_and_sample(prefetch: int, error: Any) -> None:
    def break_at_5(i: int) -> None:
        if i == 5:
            raise error

    threads = threading.active_count()
    loader, found = DataLoader(Counted(8, break_at_5), 2, prefetch=prefetch), []
    running = iter(loader)
    with pytest.raises(type(error)) as caught:
        found.extend(running)
    assert caught.value is error
    assert [f.name for f in traceback.extract_tb(caught.tb)][-2:] == ["__getitem__", "break_at_5"]
    assert "dataset[5]" in error.__notes__[0]
    assert [x.tolist() for x, _ in found] == [[0, 1], [2, 3]]
    assert loader.state_dict()["position"] == 2
    assert threading.active_count() == threads
    assert list(running) == []


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_stop_iteration_of_the_data_set_does_not_pass_for_the_end(prefetch: int) -> None:
    empty: Iterator[int] = iter([])
    with pytest.raises(RuntimeError, match=r"dataset\[0\] raised StopIteration"):
        list(DataLoader(Counted(3, lambda i: next(empty)), prefetch=prefetch))


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        ([(1, 2), (1, 2), (1,)], ShapeError, r"dataset\[2\] has 1 parts, dataset\[0\] has 2"),
        ([([1, 2],), ([1, 2],), ([1],)], ShapeError, r"dataset\[2\] has part 0 of shape \(1,\), .* shape \(2,\)"),
        ([1.0, 2.0, "a"], DTypeError, r"part 0 of dataset\[2\]: data is str 'a'.* pass collate_fn="),
        (["a", "b"], DTypeError, r"part 0 of dataset\[0\]: data is str 'a'.* pass collate_fn="),
        ([{"x": 1}], DTypeError, r"part 0 of dataset\[0\]: data is a dict.* pass collate_fn="),
        ([(1, {"x": 1}), (1, {"x": 1})], DTypeError, r"part 1 of dataset\[0\]: data is a dict.* pass collate_fn="),
    ],
)
def test_samples_that_do_not_stack_are_named(samples: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        list(DataLoader(samples, 3))
    assert "collate_fn" in caught.value.fix  # type: ignore[attr-defined]  # both are errors of minigrad
    assert len(next(iter(DataLoader(samples, 3, collate_fn=list)))) == len(samples)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("error", [None, OSError("reset"), KeyboardInterrupt()])
@pytest.mark.parametrize("arrives", [b"some", b""])
def test_a_download_that_fails_ends_its_line(
    terminal: bool, error: Any, arrives: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chunks(url: str, have: int) -> Iterator[tuple[int, bytes]]:
        if arrives and not have:
            yield have, arrives
        if error:
            raise error

    said = io.StringIO()
    said.isatty = lambda: terminal  # type: ignore[method-assign]  # what a terminal says
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(downloading, "_chunks", chunks)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else mg.CheckpointError):
        downloading.download_files(tmp_path, ["t10k-labels-idx1-ubyte.gz"])
    shown = "\rt10k-labels-idx1-ubyte.gz  0.0 of 0.0 MB\n"
    assert said.getvalue() == (shown if terminal and arrives else "")


# The thread


def leave_by_break(loader: DataLoader) -> None:
    for _ in loader:
        break


def leave_by_an_exception(loader: DataLoader) -> None:
    for _ in loader:
        raise KeyboardInterrupt


def leave_by_dropping(loader: DataLoader) -> None:
    running = iter(loader)
    next(running)
    del running


def leave_a_loop_not_begun(loader: DataLoader) -> None:
    iter(loader)


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_an_exception, leave_by_dropping, leave_a_loop_not_begun])
@pytest.mark.parametrize("samples", [Counted(50), TensorDataset(np.arange(50))])
def test_a_loop_that_is_left_leaves_no_thread(leave: Any, samples: Any) -> None:
    threads = threading.active_count()
    try:
        leave(DataLoader(samples, 2, prefetch=3))
    except KeyboardInterrupt as error:
        kept = error  # with its traceback, and so with the frames of the loop
        assert kept.__traceback__ is not None
    assert threading.active_count() == threads


def test_an_interrupt_ends_a_loop_that_waits_for_a_stuck_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_PATIENCE", 0.01)
    gate = threading.Event()

    def interrupt_at_3(i: int) -> None:
        if i == 3:
            os.kill(os.getpid(), signal.SIGINT)
            assert gate.wait(30)

    found = []
    with pytest.raises(KeyboardInterrupt) as caught:  # kept, and with it the frames of the loop
        found.extend(DataLoader(Counted(9, interrupt_at_3), 1, prefetch=5))
    stuck = [t for t in threading.enumerate() if t.name == "minigrad-prefetch"]
    gate.set()
    for thread in stuck:
        thread.join(30)
    assert not any(thread.is_alive() for thread in stuck)
    assert caught.tb is not None


def test_an_interrupt_of_the_wait_for_a_batch_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(ahead: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loading._Ahead, "take", interrupt)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt) as caught:
        list(DataLoader(Counted(9), prefetch=2))
    assert threading.active_count() == threads
    assert caught.tb is not None  # kept, and with it the frames of the loop


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Subset(d, range(len(d)))])
def test_a_loop_that_is_left_asks_for_no_further_sample(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_PATIENCE", 0.01)
    gate, reached, asked = threading.Event(), threading.Event(), []

    def wait_at_2(i: int) -> None:
        asked.append(i)
        if i == 2:
            reached.set()
            assert gate.wait(30)

    running = iter(DataLoader(wrap(Counted(9, wait_at_2)), 2, prefetch=1))
    next(running)
    assert reached.wait(30)
    (thread,) = [t for t in threading.enumerate() if t.name == "minigrad-prefetch"]
    del running
    gate.set()
    thread.join(30)
    assert asked == [0, 1, 2]


def test_a_loop_collected_in_its_own_thread_ends_it() -> None:
    gate = threading.Event()

    def collect_at_2(i: int) -> None:
        if i == 2:
            assert gate.wait(30)
            gc.collect()

    gc.collect()
    gc.disable()
    try:
        cycle: list[Any] = [iter(DataLoader(Counted(9, collect_at_2), 1, prefetch=2))]
        next(cycle[0])
        (thread,) = [t for t in threading.enumerate() if t.name == "minigrad-prefetch"]
        cycle.append(cycle)
        del cycle
        gate.set()
        thread.join(30)
        assert not thread.is_alive()
    finally:
        gc.enable()


def test_the_thread_works_in_the_context_of_the_loop() -> None:
    modes: list[bool] = []
    with mg.no_grad():
        list(DataLoader(Counted(3, lambda i: modes.append(mg.is_grad_enabled())), prefetch=1))
    assert modes == [False] * 3


LEFT_AT_EXIT = """
import sys, threading
from minigrad.data import DataLoader, loader
class Samples:
    def __len__(self):
        return 9
    def __getitem__(self, i):
        if i == 4 and sys.argv[1] == "stuck":
            threading.Event().wait()
        return i
loader._PATIENCE = 0.05
running = iter(DataLoader(Samples(), 1, prefetch=9))
print(next(running)[0])
"""
FORKED = """
import os
from minigrad.data import DataLoader
running = iter(DataLoader(range(9), 1, prefetch=1))
next(running)
child = os.fork()
if child == 0:
    try:
        next(running)
    except Exception as error:
        print(type(error).__name__, error)
    print(len(list(DataLoader(range(9), 1, prefetch=1))), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(len(list(running)))
"""


@pytest.mark.parametrize("how", ["running", "stuck"])
def test_the_interpreter_ends_in_the_middle_of_a_loop(how: str) -> None:
    command = [sys.executable, "-c", LEFT_AT_EXIT, how]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "[0]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_is_told_that_the_thread_is_not_its_own() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    said = run.stdout.splitlines()
    assert said[0].startswith(f"{GraphError.__name__} DataLoader: a loop that a process began")
    assert said[1:] == ["9", "8"], run.stderr


# Bad input


class NoLength:
    def __getitem__(self, index: int) -> int:
        return index


class Unfinished(Dataset):
    """Defines nothing."""


def loaded(**changed: Any) -> DataLoader:
    return DataLoader(TensorDataset(np.arange(10)), **changed)


def load(state: Any, **changed: Any) -> None:
    loaded(batch_size=2, **changed).load_state_dict(state)


GOOD: dict[str, Any] = {"position": 1, "generator": rng().bit_generator.state}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: TensorDataset(np.zeros(100), np.zeros(99)), ShapeError, "x has 100 samples, t has 99"),
        (lambda: TensorDataset([1], [1], [1, 2]), ShapeError, "array 0 has 1 samples, array 2 has 2"),
        (lambda: TensorDataset(), ArgumentError, "no arrays"),
        (lambda: TensorDataset(3.0), ShapeError, r"float64 \(\)"),
        (lambda: TensorDataset(["a"]), DTypeError, r"array 0: .*data\[0\] = 'a'"),
        (lambda: Subset(range(3), [0, 3, -4]), LabelError, "3 at position 1, -4 at position 2 for 3 samples"),
        (lambda: Subset(range(3), [True, False, True]), DTypeError, "flatnonzero"),
        (lambda: Subset(range(3), [[1]]), DTypeError, r"int64 \(1, 1\)"),
        (lambda: Subset(NoLength(), [0]), DTypeError, r"no len\(\)"),
        (lambda: random_split(range(10), [7, 2]), ArgumentError, r"\[7, 2\], which sum to 9, for 10"),
        (lambda: random_split(range(10), [0.7, 0.2]), ArgumentError, "which sum to 0.8999"),
        (lambda: random_split(range(10), [11, -1]), ArgumentError, "none negative"),
        (lambda: random_split(range(10), [1.5, -0.5]), ArgumentError, "none negative"),
        (lambda: random_split(range(10), [float("nan"), 0.5]), ArgumentError, "nan"),
        (lambda: random_split(range(10), []), ArgumentError, r"\[\] for 10"),
        (lambda: random_split(range(10), ["a"]), ArgumentError, "'a'"),
        (lambda: random_split(range(2), [True, True]), ArgumentError, "True"),
        (lambda: random_split(range(10), [5, 5], generator=0), ArgumentError, "random_split: generator: int 0"),
        (lambda: DataLoader(i for i in range(3)), DTypeError, r"a generator, which has no len\(\)"),
        (lambda: DataLoader(NoLength()), DTypeError, r"no len\(\)"),
        (lambda: DataLoader({1, 2}), DTypeError, r"no \[index\]"),
        (lambda: DataLoader(np.array(1)), DTypeError, r"no len\(\)"),
        (lambda: DataLoader(Unfinished()), DTypeError, "define __len__"),
        (lambda: Unfinished()[0], DTypeError, "define __getitem__"),
        (lambda: loaded(batch_size=0), ArgumentError, "batch_size: int 0"),
        (lambda: loaded(batch_size=-1), ArgumentError, "batch_size: int -1"),
        (lambda: loaded(batch_size=None), ArgumentError, "batch_size: NoneType None"),
        (lambda: loaded(batch_size=2.0), ArgumentError, "batch_size: float 2.0"),
        (lambda: loaded(batch_size=True), ArgumentError, "batch_size: bool True"),
        (lambda: DataLoader(np.zeros(3), np.zeros(3)), ArgumentError, r"TensorDataset\(x, t\)"),
        (lambda: loaded(prefetch=-1), ArgumentError, "prefetch: int -1"),
        (lambda: loaded(num_workers=2), ArgumentError, "num_workers: num_workers=2; .*; pass prefetch=2"),
        (lambda: loaded(num_workers=None), ArgumentError, "num_workers: NoneType None"),
        (lambda: DataLoader((np.ones(9), np.ones(9))), DTypeError, r"a tuple of 2 arrays, .*TensorDataset\(x, t\)"),
        (lambda: DataLoader((mg.Tensor([1.0]),)), DTypeError, "a tuple of 1 arrays"),
        (lambda: Subset((np.ones(9), np.ones(9)), [0]), DTypeError, "Subset: dataset: a tuple of 2 arrays"),
        (lambda: random_split((np.ones(9), np.ones(9)), [1, 1]), DTypeError, "random_split: dataset: a tuple"),
        (lambda: loaded(batch_size=np.int64(-1)), ArgumentError, "batch_size: int -1"),
        (lambda: loaded(shuffle="yes"), DTypeError, "shuffle: str 'yes'"),
        (lambda: loaded(drop_last=1), DTypeError, "drop_last: int 1"),
        (lambda: loaded(generator=np.random.RandomState()), ArgumentError, "generator: a RandomState"),
        (lambda: loaded(collate_fn=3), DTypeError, "collate_fn: int 3"),
        (lambda: DataLoader([], shuffle=True), ArgumentError, "no samples"),
        (lambda: load(None), ArgumentError, "NoneType"),
        (lambda: load({"position": 1}), ArgumentError, r"\['position'\]"),
        (lambda: load(GOOD), ArgumentError, "shuffle=False"),
        (lambda: load(GOOD | {"generator": None}, shuffle=True), ArgumentError, "shuffle=True"),
        (lambda: load(GOOD | {"position": 6}, shuffle=True), ArgumentError, "position 6"),
        (lambda: load(GOOD | {"position": -1}, shuffle=True), ArgumentError, "position -1"),
        (lambda: load(GOOD | {"position": True}, shuffle=True), ArgumentError, "position True"),
        (lambda: load(GOOD | {"batch_size": 3}, shuffle=True), ArgumentError, "batch_size 3"),
        (lambda: load(GOOD | {"samples": 9}, shuffle=True), ArgumentError, "samples 9"),
        (lambda: load(GOOD | {"generator": {"bit_generator": "PCG64"}}, shuffle=True), ArgumentError, "PCG64"),
        (lambda: load(GOOD | {"now": 3}, shuffle=True), ArgumentError, "int 3"),
        (lambda: spiral(0), ArgumentError, "spiral: n: int 0"),
        (lambda: spiral(2), ArgumentError, "spiral: n: int 2; expected a whole number, 3 or more"),
        (lambda: spiral(9, 0), ArgumentError, "spiral: classes: int 0"),
        (lambda: moons(10.0), ArgumentError, "moons: n: float 10.0"),
        (lambda: moons(10, noise=-1), ArgumentError, "moons: noise: int -1"),
        (lambda: xor(10, noise=float("nan")), ArgumentError, "xor: noise: float nan"),
        (lambda: sine(10, noise=None), ArgumentError, "sine: noise: NoneType None"),
        (lambda: sine(10, generator=0), ArgumentError, "sine: generator"),
        (lambda: blobs(10, [1.0, 2.0]), ShapeError, r"blobs: centers: float64 \(2,\)"),
        (lambda: blobs(10, [[np.inf, 0]]), ShapeError, "blobs: centers"),
        (lambda: blobs(10, 0), ArgumentError, "blobs: centers: int 0; .*; pass centers=3"),
        (lambda: blobs(10, True), ArgumentError, "blobs: centers: bool True"),
        (lambda: blobs(2, 3), ArgumentError, "blobs: n: int 2; expected a whole number, 3 or more"),
        (lambda: blobs(10, "three"), DTypeError, "blobs: centers"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    said = caught.value
    assert isinstance(said, mg.MinigradError)
    assert all([said.function, said.got, said.expected, said.fix])


def test_a_state_that_is_refused_changes_nothing() -> None:
    loader = loaded(batch_size=2, shuffle=True, generator=rng(5))
    next(iter(loader))
    before = loader.state_dict()
    huge = GOOD["generator"] | {"has_uint32": 2**99}
    for bad in {"now": {"bit_generator": "PCG64"}}, {"now": huge}, {"generator": {}}, {"position": 99}:
        with pytest.raises(ArgumentError):
            loader.load_state_dict(GOOD | bad)
    assert loader.state_dict() == before


# Generated data


MAKERS: dict[str, Callable[..., Any]] = {"spiral": spiral, "moons": moons, "blobs": blobs, "xor": xor, "sine": sine}


@given(st.sampled_from(sorted(MAKERS)), st.integers(3, 60), st.floats(0, 2), st.integers(0, 9))
def test_generated_data_have_their_shapes_and_come_again(name: str, n: int, noise: float, seed: int) -> None:
    x, t = MAKERS[name](n, noise=noise, generator=rng(seed))
    again = MAKERS[name](n, noise=noise, generator=rng(seed))
    assert np.array_equal(x, again[0])
    assert np.array_equal(t, again[1])
    assert (x.dtype, len(x)) == (np.float64, n)
    if name == "sine":
        assert (x.shape, t.shape, t.dtype) == ((n, 1), (n, 1), np.float64)
        return
    assert (x.shape, t.shape, t.dtype) == ((n, 2), (n,), np.int64)
    counts = np.bincount(t, minlength=3 if name in ("spiral", "blobs") else 2)
    assert counts.max() - counts.min() <= 1
    assert not np.array_equal(MAKERS[name](n, noise=noise, generator=rng(seed + 10))[0], x) or noise == 0 or n < 4


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_generated_data_are_drawn_from_the_default_generator(name: str) -> None:
    kept = mg.get_rng_state()
    try:
        found = []
        for _ in range(2):
            mg.manual_seed(5)
            found.append(MAKERS[name](20))
        assert np.array_equal(found[0][0], found[1][0])
        assert np.array_equal(found[0][0], MAKERS[name](20, generator=rng(5))[0])
    finally:
        mg.set_rng_state(kept)


@given(st.integers(6, 60), st.integers(1, 6), st.integers(0, 9))
def test_without_noise_samples_lie_on_the_curve(n: int, classes: int, seed: int) -> None:
    x, t = spiral(n, classes, noise=0.0, generator=rng(seed))
    r = np.hypot(*x.T)
    a = 2 * np.pi * t / classes + 4 * r
    np.testing.assert_allclose(x, np.stack([r * np.sin(a), r * np.cos(a)], 1), rtol=0, atol=4e-15)
    assert r.max() == pytest.approx(1, abs=1e-15)
    assert r.min() == pytest.approx(1 / np.bincount(t)[0], rel=1e-14)
    x, t = moons(n, noise=0.0, generator=rng(seed))
    center = np.where(t[:, None] == 0, [0, 0], [1, 0.5])
    np.testing.assert_allclose(np.hypot(*(x - center).T), 1, rtol=1e-15)
    assert ((x - center)[:, 1] * (1 - 2 * t) > -1e-15).all()
    x, t = xor(n, noise=0.0, generator=rng(seed))
    assert np.array_equal(t, np.logical_xor(*x.astype(bool).T))
    assert set(x.ravel()) <= {0.0, 1.0}
    centers = rng(seed).normal(size=(classes, 5))
    x, t = blobs(n, centers, noise=0.0, generator=rng(seed))
    assert np.array_equal(x, centers[t])
    x, t = sine(n, noise=0.0, generator=rng(seed))
    np.testing.assert_allclose(t, np.sin(2 * np.pi * x), rtol=0, atol=1e-15)
    assert ((x >= 0) & (x < 1)).all()


def test_noise_is_the_deviation_around_the_curve() -> None:
    x, t = blobs(20000, [[0, 0], [50, 50]], noise=2.0, generator=rng())
    assert np.std(x[t == 0]) == pytest.approx(2, rel=0.05)
    x, t = moons(20000, noise=0.3, generator=rng())
    clean = moons(20000, noise=0.0, shuffle=False)[0]
    assert np.std(moons(20000, noise=0.3, shuffle=False, generator=rng())[0] - clean) == pytest.approx(0.3, rel=0.05)
    x, t = sine(20000, noise=0.5, generator=rng())
    assert np.std(t - np.sin(2 * np.pi * x)) == pytest.approx(0.5, rel=0.05)
