"""Checkpoints: everything that a training needs to go on as if it had never stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

import minigrad
from minigrad.errors import ArgumentError, CheckpointError, MinigradError, describe
from minigrad.io import load, save
from minigrad.random import default_generator, put_state
from minigrad.train.arguments import an

__all__ = ["load_checkpoint", "moving_parts", "restore", "save_checkpoint", "write_checkpoint"]

_FORMAT = "minigrad checkpoint"
_VERSION = 1
_KEYS = {"version", "minigrad", "model", "optimizer", "scheduler", "history", "loader", "validation", "callbacks",
         "random", "progress"}  # fmt: skip


def save_checkpoint(
    path: str | PathLike[str],
    *,
    model: Any,
    optimizer: Any = None,
    scheduler: Any = None,
    loader: Any = None,
    validation: Any = None,
    history: Any = None,
    callbacks: Iterable[Any] = (),
    progress: Mapping[str, Any] | None = None,
) -> None:
    """Writes the states of all that is given, of the default generator and of the model's own generators.

    What is given has state_dict(); a loader may be without, and then its batches are skipped on resuming.
    progress: anything else to be kept, such as {"epoch": 3}: load_checkpoint returns it.
    The file takes the place of an older one only when it is whole: see minigrad.save.
    Raises CheckpointError where the file cannot be written.

    >>> import tempfile
    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> model = nn.Linear(2, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/c.npz", model=model, progress={"epoch": 3})
    ...     load_checkpoint(f"{folder}/c.npz", model=nn.Linear(2, 1))
    {'epoch': 3}
    """
    things = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "history": history}
    things |= {"loader": loader, "validation": validation, "callbacks": callbacks}
    write_checkpoint(path, things, dict(progress or {}))


def write_checkpoint(
    path: str | PathLike[str], things: Mapping[str, Any], progress: dict[str, Any], moving: dict[str, Any] | None = None
) -> None:
    """save_checkpoint of things by their names; moving: of an earlier moment, where loaders have gone on since."""
    model = things["model"]
    state = {
        "format": _FORMAT,
        "version": _VERSION,
        "minigrad": minigrad.__version__,
        "numpy": np.__version__,
        "model": {"type": type(model).__name__, "state": model.state_dict()},
        **{name: _part(things[name]) for name in ("optimizer", "scheduler", "history")},
        "callbacks": {name: callback.state_dict() for name, callback in _named(things["callbacks"]).items()},
        "progress": progress,
    }
    save(state | (moving or moving_parts(model, things["loader"], things["validation"])), path)


def moving_parts(model: Any, loader: Any, validation: Any) -> dict[str, Any]:
    """The parts of a checkpoint that a loop over the loaders moves: their places, and the generators."""
    return {
        "loader": _loader(loader),
        "validation": _loader(validation),
        "random": {name: dict(rng.bit_generator.state) for name, rng in _generators(model).items()},
    }


def load_checkpoint(
    path: str | PathLike[str],
    *,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    loader: Any = None,
    validation: Any = None,
    history: Any = None,
    callbacks: Iterable[Any] = (),
    whole: bool = False,
) -> dict[str, Any]:
    """Puts all that is given, and the generators, into the state of the checkpoint; returns its `progress`.

    Only what is given is touched: load_checkpoint(path, model=model) takes a trained model out of a checkpoint, and the
    generators then stay as they are; they are put back where an optimizer is given. whole: all that the checkpoint has
    is to be given, and it is one that fit has written: what fit(..., resume=path) wants.
    Raises CheckpointError for a file that is no checkpoint or is damaged, ArgumentError for the checkpoint of another
    model, optimiser, schedule or loader: nothing has been changed then.

    >>> import tempfile
    >>> from minigrad import nn
    >>> one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/c.npz", model=one)
    ...     load_checkpoint(f"{folder}/c.npz", model=other)
    {}
    >>> bool((one.weight == other.weight).all())
    True
    """
    things = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "history": history}
    things |= {"loader": loader, "validation": validation, "callbacks": callbacks}
    return restore(path, things, whole)[0]


def restore(path: str | PathLike[str], things: Mapping[str, Any], whole: bool) -> tuple[dict[str, Any], list[Any]]:
    """load_checkpoint of things by their names: progress, and the callbacks whose states were there."""
    where = f"load_checkpoint: {Path(path).name}"
    state = load(path)
    if not isinstance(state, Mapping) or state.get("format") != _FORMAT or _KEYS - state.keys():
        raise CheckpointError(
            where, "a file that holds something else", "what save_checkpoint has written", "use minigrad.load"
        )
    if state["version"] > _VERSION:
        raise CheckpointError(
            where,
            f"version {state['version']}, written by minigrad {state['minigrad']}",
            f"version {_VERSION}",
            "install the minigrad that wrote it",
        )
    given = {name: things[name] for name in ("model", "optimizer", "scheduler", "history")}
    model, optimizer = given["model"], given["optimizer"]
    restored = {name: c for name, c in _named(things["callbacks"]).items() if name in state["callbacks"]}
    if whole:
        _check_whole(where, given, state)
    undo: list[tuple[Any, Any]] = []
    generators = _generators(model) if optimizer is not None else {}
    before = {name: rng.bit_generator.state for name, rng in generators.items()}
    try:
        for name, thing in given.items():
            if thing is not None:
                _check_type(where, name, thing, state[name])
                _put(where, name, thing, state[name]["state"], undo)
        for name in ("loader", "validation"):
            _load_loader(where, name, things[name], state[name], undo)
        for name, callback in restored.items():
            _put(where, f"callbacks: {name}", callback, state["callbacks"][name], undo)
        if generators.keys() - state["random"].keys():
            missing = ", ".join(sorted(generators.keys() - state["random"].keys()))
            raise ArgumentError(
                f"{where}: random", f"no state for the generator {missing}", "the generators that the model had",
                "give the layers generators of their own, or none, as before",
            )  # fmt: skip
        for name, rng in generators.items():  # last: a loader may draw from one of them when it is put back
            put_state(rng, state["random"][name], f"{where}: random: {name}")
    except BaseException:
        for thing, old in reversed(undo):
            thing.load_state_dict(old)
        for name, rng in generators.items():
            rng.bit_generator.state = before[name]
        raise
    return dict(state["progress"]), [*restored.values()]


def _part(thing: Any) -> dict[str, Any] | None:
    return None if thing is None else {"type": type(thing).__name__, "state": thing.state_dict()}


def _loader(loader: Any) -> dict[str, Any] | None:
    if loader is None:
        return None
    state = loader.state_dict() if hasattr(loader, "state_dict") else None
    return {"type": type(loader).__name__, "state": state, **_sizes(loader)}


def _sizes(loader: Any) -> dict[str, int | None]:
    counted = {"batches": loader, "samples": getattr(loader, "dataset", None)}
    return {name: len(x) if hasattr(x, "__len__") else None for name, x in counted.items()}


def _named(callbacks: Iterable[Any]) -> dict[str, Any]:
    """Callbacks by type, identity and number, which is how a resumed training finds the state of each."""
    seen: Counter[str] = Counter()
    found = {}
    for callback in callbacks:
        identity = callback.identity() if hasattr(callback, "identity") else ""
        name = " ".join(filter(None, [type(callback).__name__, identity]))
        found[f"{name} {seen[name]}"] = callback
        seen[name] += 1
    return found


def _generators(model: Any) -> dict[str, np.random.Generator]:
    """The default generator and those that are attributes of the model's layers, by their paths."""
    found = {"": default_generator()}
    for path, module in model.named_modules() if hasattr(model, "named_modules") else ():
        for name, value in vars(module).items():
            if isinstance(value, np.random.Generator):
                found[".".join(filter(None, [path, name]))] = value
    return found


def _check_type(where: str, name: str, thing: Any, part: Any) -> None:
    """ArgumentError where the checkpoint has the state of something else, or of nothing."""
    saved, here = None if part is None else part["type"], type(thing).__name__
    if saved is None or (name != "model" and saved != here):  # of a model the names and shapes say more than the class
        raise ArgumentError(
            f"{where}: {name}",
            f"{'no state' if saved is None else f'the state of {an(saved)}'} for {an(here)}",
            f"the {name} that was trained with" if saved else f"none: the training was done without {an(name)}",
            f"make {an(saved)}" if saved else f"leave out {name}=, or train anew",
        )


def _check_whole(where: str, given: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    for name, thing in given.items():
        if thing is None and state[name] is not None:
            saved = an(state[name]["type"])
            raise ArgumentError(
                f"{where}: {name}", f"no {name}, where the training had {saved}", saved, f"pass {name}= as before"
            )
    if not isinstance(state["progress"], Mapping) or {"epoch", "batch", "step", "sums"} - state["progress"].keys():
        raise ArgumentError(
            f"{where}: progress",
            "the checkpoint of a loop that was not fit's",
            "one that a Checkpoint has written",
            "use load_checkpoint(path, model=model, optimizer=optimizer), and fit without resume",
        )


def _put(where: str, name: str, thing: Any, state: Any, undo: list[tuple[Any, Any]]) -> None:
    """thing.load_state_dict(state), noted in undo; its error in the words of the checkpoint."""
    old = thing.state_dict()
    try:
        thing.load_state_dict(state)
    except MinigradError as error:
        fix = f"make the {name} as it was when the checkpoint was written"
        raise ArgumentError(f"{where}: {name}", error.got, error.expected, fix) from error
    undo.append((thing, old))


def _load_loader(where: str, name: str, loader: Any, part: Any, undo: list[tuple[Any, Any]]) -> None:
    if loader is None or (part is None and name == "validation"):
        return
    sizes = _sizes(loader)
    saved = {key: None if part is None else part[key] for key in sizes}
    if part is None or saved != sizes:
        raise ArgumentError(
            f"{where}: {name}",
            f"the state of a loader of {_words(saved)}" if part else f"no state for {describe(loader)}",
            f"one of {_words(sizes)}, as the {name} given has",
            "make the loader as it was; to go on with other data, load_checkpoint(path, model=model) and train anew",
        )
    if part["state"] is not None and hasattr(loader, "load_state_dict"):
        _put(where, name, loader, part["state"], undo)


def _words(sizes: Mapping[str, int | None]) -> str:
    return " and ".join(f"{n} {key}" for key, n in sizes.items() if n is not None) or "unknown size"
