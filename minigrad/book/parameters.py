"""The files of save_params and load_params: .npz by minigrad.save; of the book's pickles, arrays alone are read."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minigrad.io.npz as npz
from minigrad.errors import CheckpointError
from minigrad.io.atomic import replacing
from minigrad.io.source import Source
from minigrad.tensor import plain

__all__ = ["read_params", "write_params"]

Array = NDArray[Any]

# A pickle of a dict of arrays has some 20 operations for each of them, and each array a few megabytes at most.
_MOST_OPERATIONS = 5000
_MOST_BYTES = 2**30


def write_params(file_name: str | PathLike[str], params: dict[str, Any]) -> None:
    """Writes the arrays of params that are there, as minigrad.save does; CheckpointError where that fails."""
    write = npz.writer({key: np.asarray(plain(p)) for key, p in params.items() if p is not None})
    with replacing(fspath(file_name)) as out:
        write(out)


def read_params(file_name: str | PathLike[str]) -> dict[str, Array]:
    """A dict of arrays from a file of either kind; CheckpointError for anything else."""
    path = Path(file_name)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise CheckpointError("load_params", f"{path} is no regular file", "a file", "pass the file's own path")
    try:
        with path.open("rb") as file:
            is_pickle = file.read(1) == b"\x80"
            size = path.stat().st_size
            data = b"\x80" + file.read() if is_pickle and size <= _MOST_BYTES else b""
    except OSError as error:
        raise CheckpointError(
            "load_params",
            f"{path}: {error.strerror}",
            "a file that save_params wrote",
            "look at the name and the folder",
        ) from None
    if not is_pickle:
        with Source.open(fspath(path), None) as source:
            found = npz.read(source)
        if not isinstance(found, dict) or not all(isinstance(value, np.ndarray) for value in found.values()):
            raise CheckpointError(
                "load_params", f"{path} holds other things than arrays", "a dict of arrays", "use minigrad.load"
            )
        return found
    if size > _MOST_BYTES:
        raise _refused(path, f"it has {size} bytes")
    return _arrays_of(path, data)


def _arrays_of(path: Path, data: bytes) -> dict[str, Array]:
    """The dict of arrays in a pickle. Nothing is called but the stand-ins below, which make arrays out of bytes."""
    try:
        for n, (_, argument, _) in enumerate(pickletools.genops(data)):
            # An index of the memo that no file of this size can need would be allocated all the same.
            if n > _MOST_OPERATIONS or (isinstance(argument, int) and abs(argument) > len(data)):
                raise _refused(path, f"operation {n} is not one that a dict of arrays needs")
        found = _Arrays(io.BytesIO(data)).load()
        if isinstance(found, dict) and found and all(isinstance(key, str) for key in found):
            return {key: value.array() for key, value in found.items()}
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise _refused(path, str(error) or type(error).__name__) from None
    raise _refused(path, "it holds no dict of arrays")


def _refused(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        "load_params",
        f"{path} is a pickle, and {why}",
        "a dict of names and arrays of numbers, which is all that is read of a pickle: anything else could run code",
        "convert it where you trust it: minigrad.save(pickle.load(open(name, 'rb')), 'params.npz')",
    )


class _DType:
    """What a pickled dtype becomes: its letters, if they mean floats or integers."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or not re.fullmatch("f[248]|[iu][1248]", self.code):
            raise ValueError(f"{self.code!r} is no dtype of numbers")
        if self.order not in ("<", ">", "=", "|"):
            raise ValueError(f"{self.order!r} is no byte order")
        return np.dtype(self.order + self.code)


class _Stored:
    """What a pickled array becomes: its parts, put together and checked when they are all there."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.parts = (raw, dtype, shape, "F" if fortran else "C")

    def array(self) -> Array:
        raw, dtype, shape, order = self.parts
        if order not in ("C", "F") or not isinstance(raw, (bytes, bytearray)) or not isinstance(dtype, _DType):
            raise ValueError("an array is not made of bytes")
        flat = np.frombuffer(raw, dtype.dtype())
        return flat.reshape(tuple(int(n) for n in shape), order=order).astype(flat.dtype.newbyteorder("="))


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """The bytes that protocol 2 writes as text."""
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Stored() for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Stored for core in ("core", "_core")},
    ("numpy", "ndarray"): _Stored,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _STAND_INS[module, name]
