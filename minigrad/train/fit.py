"""fit: the training loop, with its progress, its history, its checkpoints and its lints."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from os import PathLike
from time import perf_counter
from typing import Any

import numpy as np

from minigrad.contract import whole
from minigrad.errors import GraphError, MinigradError
from minigrad.optim import LBFGS, clip_grad_norm_
from minigrad.tensor import Tensor
from minigrad.train import evaluation
from minigrad.train.arguments import (
    check_functions,
    check_loader,
    check_optimizer,
    check_resume,
    check_scheduler,
    empty,
    length,
    real,
)
from minigrad.train.callbacks import Checkpoint, in_order
from minigrad.train.checkpoint import restore
from minigrad.train.evaluation import NonFiniteError, Sums, check_finite, chosen_metrics, close, outcome
from minigrad.train.history import History
from minigrad.train.lints import Lints, squares_of
from minigrad.train.progress import Progress, progress_for
from minigrad.train.state import Callback, State

__all__ = ["fit"]


def fit(
    model: Any,
    loss: Any,
    optimizer: Any,
    loader: Iterable[Any],
    *,
    epochs: int,
    validation: Iterable[Any] | None = None,
    metrics: Any = None,
    callbacks: Iterable[Callback] = (),
    scheduler: Any = None,
    monitor: str | None = None,
    clip_grad_norm: float | None = None,
    progress: bool = True,
    ignore: Iterable[str] = (),
    resume: str | PathLike[str] | None = None,
) -> History:
    """Trains model for `epochs` passes over loader; returns the History.

    For each batch (*inputs, t): loss(model(*inputs), t), backward, one step of the optimiser.

    model: an nn.Module, or any function. It is trained in the mode it is in.
    loss: a function of what the model gives and of t that returns one value, the mean over the samples.
    loader: anything that gives the batches of an epoch each time it is looped over: a DataLoader, a list.
    epochs: of the whole training; a resumed one does what is left of them.
    validation: a loader; after each epoch the means over its samples are recorded as "val_loss" and so on.
    metrics: "accuracy", "binary_accuracy" (of scores, not of probabilities), "mae", "mse", a function f(out, t) of
        plain arrays that gives the mean over the batch, a list of these, or {name: f}. Means of an epoch count each
        batch by its samples, a smaller last one less.
    callbacks: see Callback; Checkpoints are called last.
    scheduler: of the learning rate; stepped after each epoch or batch, as its `interval` says.
    monitor: the name of the number that ReduceLROnPlateau is given, "val_loss" by default, or "loss" where there is no
        validation; its mode has to be the one in which that is better.
    clip_grad_norm: the largest norm that all gradients together keep.
    progress: a line for each epoch; on a terminal a bar, with tqdm (pip install tqdm), or a changing line below them.
        False for nothing.
    ignore: names of train.LINTS that are not to be said.
    resume: a checkpoint to continue from, bit for bit, also in the middle of an epoch. "auto": the file of the
        Checkpoint among callbacks if it is there, and a new training if not. Any other missing file is an error.

    Raises ArgumentError, DTypeError, ShapeError for arguments that make no sense, before anything is changed;
    NonFiniteError for a loss or a gradient that is not finite, before a step is made with it: it names the place in the
    data where there is one, and data that do no harm, such as a mask of -inf, are left alone. Other errors of a batch
    have a note with its number. Ctrl-C ends the training after the batch that is under way, a validation at once, with
    a KeyboardInterrupt; a second one ends a batch at once too. Whatever is raised once training has begun has the
    History so far as its attribute `history`.

    >>> import minigrad as mg
    >>> from minigrad import nn, optim
    >>> _ = mg.manual_seed(0)
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = nn.Linear(1, 1)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.2)
    >>> fit(model, nn.MSELoss(), optimizer, [(x[:20], 3 * x[:20]), (x[20:], 3 * x[20:])], epochs=3, progress=False)
    epoch    loss      lr
        1  ...
    """
    check_functions("fit", model, loss)
    epochs = whole("fit: epochs", epochs, fix="pass epochs=10")
    check_loader("fit: loader", loader, epochs)
    if validation is not None:
        check_loader("fit: validation", validation, epochs)
    check_optimizer(model, optimizer)
    watched = chosen_metrics("fit: metrics", metrics)
    names = ["loss", *watched]
    names += [f"val_{name}" for name in names if validation is not None] + ["lr"]
    monitor = check_scheduler(scheduler, optimizer, monitor, names)
    if clip_grad_norm is not None:
        example = "pass clip_grad_norm=1.0"
        clip_grad_norm = real("fit: clip_grad_norm", clip_grad_norm, "a positive number", example, above=0.0)
    calls = in_order(callbacks)
    state = State(model, loss, optimizer, scheduler, loader, validation, History(), calls, names, epochs)
    run = _Run(state, watched, monitor, clip_grad_norm, Lints(model, optimizer, ignore=ignore))
    found = [c for c in calls if isinstance(c, Checkpoint)]
    whole_ones = [c.path for c in found if c.monitor is None] or [c.path for c in found]
    path = check_resume(resume, whole_ones[0] if whole_ones else None)
    state.resumed = path is not None
    for callback in calls:
        callback.check(state)
    if path is not None:
        run.resume(path)
    return run.train(progress)


class _Run:
    """One call of fit."""

    def __init__(self, state: State, metrics: dict[str, Any], monitor: str, clip: float | None, lints: Lints) -> None:
        self.state, self.metrics, self.monitor, self.clip, self.lints = state, metrics, monitor, clip, lints
        self.first = True  # nothing has been seen yet of what the loader gives
        self.skip = 0  # batches of the first epoch that a loader without a state has to be taken through
        self.waiting = self.pending = False  # Ctrl-C is to wait, and has been pressed
        state.sums = Sums(metrics)
        lints.scheduled = state.scheduler is not None
        self.buffered = any(True for _ in _buffers(state.model))
        self.kept: dict[str, Any] | None = None  # the buffers before a batch that is not finite

    def resume(self, path: Any) -> None:
        """Puts everything where the checkpoint was taken."""
        state = self.state
        done, state.restored = restore(path, state.parts(), True)
        state.epoch, state.batch, state.step = done["epoch"], done["batch"], done["step"]
        state.sums.load_state_dict(done["sums"])
        if done.get("trained"):
            state.begin_validation()
        elif not hasattr(state.loader, "load_state_dict"):
            self.skip = state.batch

    def train(self, wanted: bool) -> History:
        """All epochs that are left."""
        state = self.state
        started: list[Callback] = []
        bar = progress_for(wanted, state.epochs, length(state.loader), state.step)
        self.lints.before_saying = bar.clear
        try:
            with self._interrupts_wait(), _without_warnings():
                self.lints.look_at_loader(state.loader)
                for callback in state.callbacks:
                    started.append(callback)
                    callback.on_fit_start(state)
                while state.epoch <= state.epochs and state.stopped is None:
                    self._epoch(bar)
            if state.stopped is not None:
                bar.stopped(state.stopped)
        except BaseException as error:
            error.history = state.history  # type: ignore[attr-defined]  # what fit promises of whatever it raises
            if isinstance(error, KeyboardInterrupt):
                for callback in started:
                    callback.on_interrupt(state)
            raise
        finally:
            bar.close()
            for _, p in self.lints.parameters:
                p.zero_grad()
            _end(started, state)
        return state.history

    def _epoch(self, bar: Progress) -> None:
        """What is left of one epoch, and what follows from it."""
        state = self.state
        if state.trained is None:
            self.lints.look_at_set_up()
            self.waiting = True
            self._batches(bar)
            if state.stopped is not None and state.batch < (length(state.loader) or math.inf):
                return
        logs = state.sums.means()
        if state.validation is not None:
            state.begin_validation()
            self.waiting = False  # it may take long, and a checkpoint of its beginning loses no step
            self._raise_pending()
            where = f"fit: validation: epoch {state.epoch}"
            logs |= evaluation.run(state.model, state.loss, state.validation, self.metrics, where, "val_")
        self.waiting = True
        state.end_validation()
        logs["lr"] = float(state.optimizer.param_groups[0].get("lr", math.nan))
        if state.scheduler is not None:
            self._schedule("epoch", logs[self.monitor])
        state.logs = logs
        state.history.add_epoch(logs)
        bar.epoch(state, logs if state.scheduler else {k: v for k, v in logs.items() if k != "lr"})
        state.sums, state.ended = Sums(self.metrics), True
        for callback in state.callbacks:
            callback.on_epoch_end(state)
        state.epoch, state.batch, state.ended = state.epoch + 1, 0, False
        self._raise_pending()

    def _batches(self, bar: Progress) -> None:
        """The steps of one epoch, or those left of it."""
        state, lints = self.state, self.lints
        model, loss, optimizer, history = state.model, state.loss, state.optimizer, state.history
        parameters = [p for _, p in lints.parameters]
        lbfgs = isinstance(optimizer, LBFGS)
        add, samples, clip, batches = state.sums.add, evaluation.samples, self.clip, iter(state.loader)
        first, self.first = self.first, False  # data that are not finite show the first time
        add_epoch, add_loss, add_norm = (history.batches[name].append for name in ("epoch", "loss", "grad_norm"))
        callbacks = [c for c in state.callbacks if type(c).on_batch_end is not Callback.on_batch_end]
        try:
            for _ in range(self.skip):
                next(batches, None)
            self.skip = 0
            for batch in batches:
                if type(batch) is not tuple or len(batch) < 2:
                    evaluation.parts(f"fit: loader: batch {state.batch + 1}", batch)
                *inputs, t = batch
                n = samples(t)
                if not n:
                    raise evaluation.no_samples(f"fit: loader: epoch {state.epoch}, batch {state.batch + 1}", t)
                due = lints.due()
                if self.buffered and (due or first):
                    self._keep_buffers(batch)
                for p in parameters:
                    p.zero_grad()
                try:
                    out, value = outcome("fit", model, loss, inputs, t)
                    if not isinstance(value, Tensor) or value._data.size != 1:
                        raise evaluation.no_loss("fit", value)
                    if value._node is None:
                        raise _no_graph()
                    number = value._data.item()
                    if not math.isfinite(number):
                        raise self._diverged(f"the loss is {number}", batch, out)
                    if due:
                        lints.look_for_old_gradients(True)
                        lints.look_at_graph(value, out, t)
                    add(
                        number, out, t, n
                    )  # while there is a graph, and before the step: what is refused changes nothing
                    value.backward()
                    squares = squares_of(parameters)
                    total = sum(squares)
                    norm = math.sqrt(total) if math.isfinite(total) else self._whole_norm(batch, out)
                    if due:
                        lints.look_at_gradients(number, squares)
                    if clip is not None:
                        norm = clip_grad_norm_(parameters, clip)
                    if lbfgs:
                        optimizer.step(self._closure(parameters, inputs, t))
                    else:
                        optimizer.step()
                except MinigradError as error:
                    if not isinstance(error, NonFiniteError):
                        error.add_note(f"in fit: epoch {state.epoch}, batch {state.batch + 1}")
                    raise
                self._schedule("batch", number)
                state.batch += 1
                state.step += 1
                add_epoch(state.epoch)
                add_loss(number)
                add_norm(norm)
                if callbacks:
                    state.logs = {"loss": number, "grad_norm": norm}
                    for callback in callbacks:
                        callback.on_batch_end(state)
                if perf_counter() >= bar.due:
                    bar.batch(state, number)
                if self.pending:
                    self._raise_pending()
                if state.stopped is not None and state.batch != length(state.loader):
                    break
        finally:
            close(batches)
        if not state.batch:
            raise empty("fit: loader", state.loader)

    def _closure(self, parameters: list[Tensor], inputs: Any, t: Any) -> Callable[[], Tensor]:
        """What L-BFGS calls to see loss and gradients elsewhere."""

        def closure() -> Tensor:
            for p in parameters:
                p.zero_grad()
            value: Tensor = self.state.loss(self.state.model(*inputs), t)
            value.backward()
            if self.clip is not None:
                clip_grad_norm_(parameters, self.clip)
            return value

        return closure

    def _schedule(self, interval: str, value: float) -> None:
        """A step of the scheduler, if this is when it wants one."""
        scheduler = self.state.scheduler
        if scheduler is not None and getattr(scheduler, "interval", "epoch") == interval:
            if getattr(scheduler, "wants_metric", False):
                scheduler.step(value)
            else:
                scheduler.step()

    # What goes wrong

    def _keep_buffers(self, batch: Any) -> None:
        """Copies of the running means and so on, which move before the loss is known, where a batch may spoil them."""
        finite = evaluation.is_finite(batch)
        self.kept = None if finite else {name: array.copy() for name, array in _buffers(self.state.model)}

    def _whole_norm(self, batch: Any, out: Any) -> float:
        """The norm of gradients whose squares have overflowed; an error for what is not finite itself."""
        largest = 0.0
        for name, p in self.lints.parameters:
            g = p.grad
            if g is not None and g.size:
                top = float(np.abs(g).max())
                if not math.isfinite(top):
                    at = tuple(map(int, np.argwhere(~np.isfinite(g))[0]))
                    raise self._diverged(f"the gradient of {name} is {g[at]} at {list(at)}", batch, out)
                largest = max(largest, top)
        parts = [p.grad / largest for _, p in self.lints.parameters if p.grad is not None]
        return largest * math.sqrt(sum(float(np.vdot(g, g)) for g in parts))

    def _diverged(self, got: str, batch: Any, out: Any) -> NonFiniteError:
        """The error for a loss or a gradient that is not finite, with what can be said of its cause."""
        state = self.state
        if self.kept is not None:
            state.model.load_state_dict(self.kept, strict=False)
        check_finite(f"fit: loader: epoch {state.epoch}, batch {state.batch + 1}", batch)
        norms = state.history.batches["grad_norm"]
        rate = state.optimizer.param_groups[0].get("lr", math.nan)
        largest = max(norms[-1000:], default=0.0)
        if norms:
            ago = norms[::-1].index(largest) + 1
            ago_words = f"{ago} batches" if ago > 1 else "one batch"
            got += f"; the largest gradient was {largest:.3g} long, {ago_words} before"
        arrays = state.model.state_dict() if hasattr(state.model, "state_dict") else dict(self.lints.parameters)
        bad = [name for name, array in arrays.items() if not np.isfinite(evaluation.seen(array)).all()]
        kept = "the parameters are those from before this batch"
        fix = f"pass a smaller learning rate than {rate:.3g}, or clip_grad_norm=1.0"
        outs = out if isinstance(out, (tuple, list)) else [out]
        if norms and largest > 1000 * norms[0]:
            pass  # it ran away
        elif not bad and all(np.isfinite(evaluation.seen(y)).all() for y in outs):
            fix = "look in the loss for a log or a division of 0: what the model gives is finite"
        elif not bad and not norms:
            fix = "look in the model for a log, a division or an overflow: its parameters and the data are finite"
        if bad:
            kept += f", but {', '.join(bad[:4])} {'is' if len(bad) == 1 else 'are'} not finite"
        where = f"fit: epoch {state.epoch}, batch {state.batch + 1}"
        return NonFiniteError(where, got, f"finite numbers: {kept}", fix)

    # Ctrl-C

    @contextmanager
    def _interrupts_wait(self) -> Iterator[None]:
        """Ctrl-C between two batches, so that parameters, optimiser and data stay in step; at once if it comes twice.

        Only where Python's own handler is in place, and in the main thread: elsewhere it is not ours to change.
        """

        def handler(number: int, frame: Any) -> None:
            if self.pending or not self.waiting:
                raise KeyboardInterrupt
            self.pending = True

        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _raise_pending(self) -> None:
        if self.pending:
            self.state.whole = True
            raise KeyboardInterrupt


def _without_warnings() -> np.errstate:
    """No warnings of numbers that are not finite, which NonFiniteError says in words; what is an error stays one."""
    kinds: Any = {kind: "ignore" if how == "warn" else how for kind, how in np.geterr().items()}
    return np.errstate(**kinds)


def _end(started: list[Callback], state: State) -> None:
    """on_fit_end of all, also of those after one that fails."""
    with ExitStack() as stack:
        for callback in reversed(started):
            stack.callback(callback.on_fit_end, state)


def _buffers(model: Any) -> Iterable[tuple[str, Any]]:
    return model.named_buffers() if hasattr(model, "named_buffers") else ()


def _no_graph() -> GraphError:
    return GraphError(
        "fit: loss",
        "a loss that depends on no parameter",
        "one that is computed from parameters that require a gradient, outside no_grad()",
        "leave .detach(), .data and .numpy() out of the model and the loss",
    )
