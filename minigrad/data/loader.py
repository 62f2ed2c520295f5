"""DataLoader: a data set in batches, shuffled, prepared ahead, and resumable in the middle of an epoch."""

from __future__ import annotations

import contextvars
import copy
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.contract import is_whole, whole
from minigrad.data.dataset import fetch, sized
from minigrad.errors import ArgumentError, DTypeError, GraphError, describe
from minigrad.random import chosen, put_state

__all__ = ["DataLoader"]

Array = NDArray[Any]

# Seconds that leaving a loop waits for the sample in preparation; a thread stuck in one ends when the sample is there.
_PATIENCE = 1.0


@dataclass(eq=False)
class _Epoch:
    """One pass: the order of the samples, where the generator stood before it drew it, batches already taken."""

    order: Array
    start: dict[str, Any] | None
    position: int = 0


class DataLoader:
    """Batches of a data set: tuples of arrays, samples along axis 0, dataset[order[k*batch_size : (k+1)*batch_size]].

    dataset: a Dataset, or anything with len() and [index]. Samples that are tuples (or lists) of arrays or numbers are
        stacked part by part; a sample that is one array or number gives tuples of one. A TensorDataset, or a
        Subset of one, gives whole batches at once.
    batch_size: samples a batch, the last one may be smaller; drop_last leaves such a one out.
    shuffle: every epoch draws one permutation from generator (None: minigrad's default one) when its first batch is
        asked for; without it the order is that of the data set.
    collate_fn: makes a batch of a list of samples in place of stacking; what it returns is what the loop gets.
    prefetch: how many batches a thread prepares ahead, 0 for none. The batches and their order are the same. It pays
        only for a data set that is slow and waits, for files say: a pass over arrays in memory takes 1.2 to 6 times
        as long with it.
    num_workers: 0, as PyTorch's default. There are no worker processes: prefetch is what there is instead.
    An exception in the data set ends the loop and carries a note with the sample's number. Several loops over
    one loader at once are independent: each has an order of its own.
    An empty data set gives no batches, and with shuffle an error, as in PyTorch.
    Raises ArgumentError, DTypeError for arguments that make no sense; ShapeError in the loop for samples that
    cannot be stacked.

    >>> from minigrad.data import TensorDataset
    >>> loader = DataLoader(TensorDataset(np.arange(5.0), np.arange(5)), batch_size=2)
    >>> len(loader), [x for x, t in loader]
    (3, [array([0., 1.]), array([2., 3.]), array([4.])])
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        generator: np.random.Generator | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        prefetch: int = 0,
        num_workers: int = 0,
    ) -> None:
        size = sized("DataLoader", dataset)
        whole("DataLoader: batch_size", batch_size, 1, "pass batch_size=32, or len(dataset) for one batch; data first "
              "goes into a TensorDataset(x, t)")  # fmt: skip
        whole("DataLoader: prefetch", prefetch, 0, "pass prefetch=2, for example")
        if whole("DataLoader: num_workers", num_workers, 0, "leave num_workers out"):
            raise ArgumentError(
                "DataLoader: num_workers", f"num_workers={num_workers}", "0: there are no worker processes",
                "pass prefetch=2 in place of it, and a thread prepares two batches ahead",
            )  # fmt: skip
        for name, value in ("shuffle", shuffle), ("drop_last", drop_last):
            if not isinstance(value, (bool, np.bool_)):
                raise DTypeError(f"DataLoader: {name}", describe(value), "True or False", f"pass {name}=True")
        if collate_fn is not None and not callable(collate_fn):
            raise DTypeError(
                "DataLoader: collate_fn", describe(collate_fn), "a function of a list of samples", "pass a function"
            )
        chosen(generator, "DataLoader")
        if shuffle and not size:
            raise ArgumentError(
                "DataLoader: dataset", f"shuffle=True for {describe(dataset)} of no samples", "one sample at least",
                "look at len(dataset)",
            )  # fmt: skip
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, int(batch_size), bool(shuffle), drop_last
        self.generator, self.collate_fn, self.prefetch = generator, collate_fn, int(prefetch)
        self._epoch: _Epoch | None = None  # the newest one, until it is through
        self._resumed: _Epoch | None = None  # for the next loop to go on with

    def __len__(self) -> int:
        """The batches of an epoch."""
        return self._count(len(self.dataset))

    def _count(self, samples: int) -> int:
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        epoch = self._resumed or _Epoch(*self._draw(self.generator))
        self._epoch, self._resumed = epoch, None
        order, size, count = epoch.order, self.batch_size, self._count(len(epoch.order))

        def batch(k: int, stopped: threading.Event | None = None) -> Any:
            return fetch(dataset, order[k * size : (k + 1) * size], collate_fn, stopped)

        dataset, collate_fn = self.dataset, self.collate_fn
        ahead: _Ahead | None = None
        try:
            if self.prefetch:
                ahead = _Ahead(batch, range(epoch.position, count), self.prefetch)
            for k in range(epoch.position, count):
                found = ahead.take() if ahead else batch(k)
                epoch.position += 1
                yield found
        finally:
            if ahead:
                ahead.close()
        if self._epoch is epoch:
            self._epoch = None

    def _draw(self, generator: np.random.Generator | None) -> tuple[Array, dict[str, Any] | None]:
        """The order of one epoch, and the generator's state before it was drawn."""
        samples = len(self.dataset)
        if not self.shuffle:
            return np.arange(samples), None
        rng = chosen(generator, "DataLoader")
        start = _state(rng)
        return rng.permutation(samples), start

    def state_dict(self) -> dict[str, Any]:
        """Where the newest loop stands: {"position", "generator", ...}, plain values that can be saved.

        position: batches that the loop has received of the current epoch, not those prepared ahead; 0 when it is
            through. Left early, an epoch stays the current one until the next begins.
        generator: the generator's state at the start of the epoch, from which the order follows; None without shuffle.
        now: inside a shuffled epoch, where the generator stands, which others may have drawn from since.
        samples, batch_size: what position was counted in.

        >>> loader = DataLoader(range(6), batch_size=2)
        >>> _ = next(iter(loader))
        >>> loader.state_dict()["position"]
        1
        """
        epoch, now = self._epoch, _state(chosen(self.generator, "DataLoader")) if self.shuffle else None
        state: dict[str, Any] = {"position": epoch.position if epoch else 0, "generator": now}
        if epoch and self.shuffle:
            state |= {"generator": copy.deepcopy(epoch.start), "now": now}
        return state | {"samples": len(self.dataset), "batch_size": self.batch_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next loop goes on where state was taken, and the epochs after it are those that would have come.

        state: of a loader with the same data set, batch_size, shuffle and drop_last. Only position and generator are
        needed. The generator, the default one too, is put where it stood; a state saved at position == len(loader),
        after the last batch but before the loop had ended, gives a loop without a batch first.
        Raises ArgumentError, and changes nothing, for a state of another loader.

        >>> loader, again = (DataLoader(range(6), 2, True, generator=np.random.default_rng(i)) for i in (1, 2))
        >>> for k, (x,) in enumerate(loader):
        ...     if k == 1:
        ...         again.load_state_dict(loader.state_dict())
        >>> [rest.tolist() for (rest,) in again] == [x.tolist()]
        True
        """
        where = "DataLoader.load_state_dict: state"
        keys = list(state) if isinstance(state, Mapping) else None
        if keys is None or not {"position", "generator"} <= set(keys):
            raise ArgumentError(
                where, describe(state) if keys is None else f"the keys {keys}", "position and generator",
                "pass what state_dict() returned",
            )  # fmt: skip
        position, mine = state["position"], {"samples": len(self.dataset), "batch_size": self.batch_size}
        saved = {name: state.get(name, value) for name, value in mine.items()}
        if not is_whole(position, 0) or position > len(self) or (position and saved != mine):
            counted = ", ".join(f"{name} {value}" for name, value in saved.items())
            raise ArgumentError(
                where, f"position {position!r} of {counted}", f"a number of batches from 0 to {len(self)}, counted in "
                + ", ".join(f"{name} {value}" for name, value in mine.items()), "use the loader that it was saved from",
            )  # fmt: skip
        if (state["generator"] is not None) != self.shuffle:
            raise ArgumentError(
                where, f"generator is {describe(state['generator'])}, shuffle={self.shuffle}",
                "the state of a generator where samples are shuffled, else None", "pass shuffle= as it was",
            )  # fmt: skip
        if not self.shuffle:
            self._epoch = self._resumed = _Epoch(np.arange(len(self.dataset)), None, int(position))
            return
        rng = chosen(self.generator, "DataLoader")
        trial = copy.deepcopy(rng)  # until all of it is known to fit
        put_state(trial, state["generator"], where)
        if "now" not in state and not position:
            rng.bit_generator.state = trial.bit_generator.state
            self._epoch = self._resumed = None
            return
        order, start = self._draw(trial)
        if state.get("now") is not None:
            put_state(trial, state["now"], where)
        rng.bit_generator.state = trial.bit_generator.state
        self._epoch = self._resumed = _Epoch(order, start, int(position))


class _Ahead:
    """Batches that a thread prepares, up to n before they are taken.

    close ends the thread: when the loop is through or left, which may be in a garbage collection anywhere, and at the
    end of the program. SimpleQueue is made for such places: it can be entered again.
    """

    def __init__(self, batch: Callable[[int, threading.Event], Any], numbers: range, n: int) -> None:
        self._ready: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._places: SimpleQueue[None] = SimpleQueue()
        stopped = threading.Event()
        for _ in range(n):
            self._places.put(None)
        self._process = os.getpid()
        # In the loop's context: gradient mode and NumPy's error handling are as without a thread.
        thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(_prepare, batch, numbers, self._places, self._ready, stopped),
            name="minigrad-prefetch",
            daemon=True,
        )
        self.close = weakref.finalize(self, _end, thread, self._places, stopped)
        try:
            thread.start()
        except BaseException:  # an interrupt, while this thread waits for the other one to begin
            self.close()
            raise

    def take(self) -> Any:
        """The next batch, or the exception that came in place of it."""
        if os.getpid() != self._process:
            raise GraphError(
                "DataLoader", "a loop that a process began and its fork goes on with", "a loop in one process: a fork "
                "has no threads", "call iter(loader) in the fork",
            )  # fmt: skip
        batch, error = self._ready.get()
        self._places.put(None)
        if error is None:
            return batch
        try:
            raise error
        finally:
            del error  # it knows this frame through its traceback


def _prepare(
    batch: Callable[[int, threading.Event], Any],
    numbers: range,
    places: SimpleQueue[None],
    ready: SimpleQueue[tuple[Any, BaseException | None]],
    stopped: threading.Event,
) -> None:
    for k in numbers:
        places.get()
        if stopped.is_set():
            return
        try:
            ready.put((batch(k, stopped), None))
        except BaseException as error:  # whatever it is, it is the loop's
            ready.put((None, error))
            return


def _end(thread: threading.Thread, places: SimpleQueue[None], stopped: threading.Event) -> None:
    stopped.set()
    places.put(None)
    if thread is not threading.current_thread() and thread.is_alive():  # a collection may run in any thread
        thread.join(_PATIENCE)


def _state(rng: np.random.Generator) -> dict[str, Any]:
    return dict(rng.bit_generator.state)
