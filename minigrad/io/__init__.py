"""Files: states saved whole or not at all, and loaded only when every byte is right.

save and load stand here; state.py turns a nested state into arrays and JSON, npz.py and safetensors.py are the two
formats, atomic.py replaces a file, source.py reads one with suspicion.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import Any

from minigrad.errors import CheckpointError, describe

__all__ = ["load", "save"]

_SUFFIXES = (".npz", ".safetensors")


def save(state: Any, path: str | os.PathLike[str]) -> None:
    """Writes state to path: the old file stays until the new one is whole and on the disk, then gives way at once.

    state: dicts (keys str or int), lists and tuples, nested up to 100 deep, of arrays, Tensors, NumPy scalars, numbers,
        str, bool and None. Arrays of bool, integers, floats and complex numbers; a Tensor is stored as its array.
    path: ends in .npz, or in .safetensors for exchange: that takes a flat dict of arrays only, stores them
        little-endian and sorted, has no checksum, and is written by `pip install safetensors`.
    An .npz file is uncompressed, holds one .npy member for each array (numpy.load reads them) and minigrad.json, which
    has the rest of the state and the SHA-256 of each array. Equal states give equal bytes.
    A process killed at any moment leaves the old file or the new one. A link is kept and what it points to is
    replaced; the old file's mode is kept.
    Raises CheckpointError, with the old file as it was, for a state that cannot be stored and when the disk
    is full or the place may not be written; ImportError where safetensors is wanted and missing.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save({"weights": [np.eye(2), np.zeros(3)], "epoch": 7}, f"{folder}/run.npz")
    ...     load(f"{folder}/run.npz")
    {'weights': [array([[1., 0.], [0., 1.]]), array([0., 0., 0.])], 'epoch': 7}
    """
    from minigrad.io.atomic import replacing

    target, suffix = _checked("save", path)
    write = _format(suffix).writer(state)  # the whole state has been looked at before anything is written
    with replacing(target) as out:
        write(out)


def load(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> Any:
    """The state that save wrote to path: equal in values, types, dtypes and bits, arrays in place of Tensors.

    path: ends in .npz or .safetensors. A .safetensors file may be another framework's; it gives a dict of arrays,
        bfloat16 as float32 (which holds it exactly, in twice the space), and its metadata is left out.
    max_bytes: refuse a longer file. Whatever the file says, no more memory is asked for than its own size (twice that
        for bfloat16) and what at most 16 MiB of JSON become as Python objects; nothing is unpacked, nothing unpickled.
    Raises CheckpointError, which says what is wrong and where, for a file that is missing, damaged, hostile or not
    minigrad's: in an .npz every single byte counts. A .safetensors file has no checksum: there, a changed number is
    a number.

    >>> load("missing.npz")
    Traceback (most recent call last):
    minigrad.errors.CheckpointError: load: missing.npz: No such file or directory; expected ...
    """
    from minigrad.io.source import Source

    target, suffix = _checked("load", path)
    with Source.open(target, max_bytes) as source:
        return _format(suffix).read(source)


def _format(suffix: str) -> ModuleType:
    """The module of a format, imported when it is first used: most who import minigrad do not save at once."""
    return import_module(f"minigrad.io{suffix}")


def _checked(function: str, path: Any) -> tuple[str, str]:
    """path as text, and its suffix, which is known."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise CheckpointError(f"{function}: path", describe(path), "a path", 'pass "model.npz", for example') from None
    suffix = os.path.splitext(text)[1].lower()
    if suffix not in _SUFFIXES or "\0" in text:
        raise CheckpointError(
            f"{function}: path",
            repr(text) + (", which is read by unpickling" if suffix in (".pt", ".pth", ".pkl", ".pickle") else ""),
            "a path that ends in .npz or .safetensors, without NUL",
            "save a PyTorch model with safetensors.torch.save_file"
            if suffix in (".pt", ".pth")
            else 'write "model.npz", for example',
        )
    return text, suffix
