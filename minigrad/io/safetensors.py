"""The .safetensors format, for exchange: a JSON header, and arrays one after the other.

The safetensors library writes it, by way of a copy in memory. Reading needs no library: once the header is checked as
strictly as the format allows, an array is a run of bytes that goes straight to its place, so that the file is in
memory only once.
Source: the format's description at https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import CheckpointError, describe
from minigrad.io.atomic import Replacement
from minigrad.io.source import MAX_JSON, Fail, Source, count_of, parse_json
from minigrad.io.state import as_array
from minigrad.tensor import Tensor

__all__ = ["read", "writer"]

_DTYPES = {
    "BOOL": "|b1", "I8": "|i1", "U8": "|u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8",
    "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8", "BF16": "<u2",
}  # fmt: skip
_STORED = set(_DTYPES.values())
_METADATA = "__metadata__"


def writer(state: Any) -> Callable[[Replacement], None]:
    """What writes state to a file. Raises CheckpointError for what is no flat dict of arrays."""
    fix = "save to a path that ends in .npz"
    if not isinstance(state, dict):
        raise CheckpointError("save: state", describe(state), "a dict of arrays, which .safetensors takes", fix)
    arrays = {}
    for name, value in state.items():
        where = f"save: state[{str(name)[:60]!r}]"
        if type(name) is not str or name == _METADATA:
            raise CheckpointError(
                where, f"the key {str(name)[:60]!r}", "names of arrays, as .safetensors has them", fix
            )
        if not isinstance(value, (np.ndarray, Tensor)):
            raise CheckpointError(where, describe(value), "an array: .safetensors takes a flat dict of them", fix)
        array = as_array(value, (name,))
        little = array.dtype.newbyteorder("<")
        if little.str not in _STORED:
            raise CheckpointError(where, f"an array of dtype {array.dtype}", "a dtype that .safetensors has", fix)
        arrays[name] = np.asarray(array, little, order="C")  # the library takes the memory as it lies
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise ImportError("saving .safetensors needs the safetensors library: pip install safetensors") from error
    try:
        raw = save(arrays)
    except Exception as error:  # of Rust, without a common class that is public
        raise CheckpointError("save: state", f"safetensors refuses it: {error}", "arrays it takes", fix) from error
    return lambda out: out.write(raw)


class _Entry(NamedTuple):
    """An array in the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @classmethod
    def check(cls, name: str, entry: Any, fail: Fail) -> _Entry:
        """entry, if it can be right."""
        short = name[:80]
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise fail(f"its entry for {short!r} has not the keys dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            error = fail(f"the array {short!r} has the dtype {str(dtype)[:40]!r}, which NumPy does not have")
            fix = "convert it to float32 with what wrote it, and save that"
            raise CheckpointError(error.function, error.got, f"one of {', '.join(_DTYPES)}", fix)
        if not isinstance(shape, list) or len(shape) > 64 or not all(count_of(n) for n in shape):
            raise fail(f"the array {short!r} has the shape {str(shape)[:80]}")
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(count_of(n) for n in offsets):
            raise fail(f"the array {short!r} has the offsets {str(offsets)[:80]}")
        begin, end = offsets
        wanted = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
        if end - begin != wanted:
            raise fail(f"the array {short!r}, {dtype} {tuple(shape)}, takes {wanted} bytes; it has {begin} to {end}")
        return cls(name, dtype, tuple(shape), begin, end)

    def read(self, source: Source, data: int) -> NDArray[Any]:
        """The array itself; data: where the arrays begin."""
        what = f"the array {self.name[:80]!r}"
        stored = np.dtype(_DTYPES[self.dtype])
        try:
            # bfloat16 is the upper half of a float32.
            array: NDArray[Any] = np.zeros(self.shape, "<f4") if self.dtype == "BF16" else np.empty(self.shape, stored)
        except ValueError as error:
            raise source.fail(f"{what} has the shape {self.shape}: {error}") from None
        if not array.nbytes:
            return array
        flat = array.reshape(-1)
        if self.dtype == "BF16":
            upper, at, half = flat.view("<u2")[1::2], 0, np.empty(min(flat.size, 1 << 19), "<u2")
            while at < flat.size:
                part = half[: flat.size - at]
                for _ in source.read_into(data + self.begin + 2 * at, part.view(np.uint8).data, what):
                    pass
                upper[at : at + part.size] = part
                at += part.size
        else:
            for _ in source.read_into(data + self.begin, flat.view(np.uint8).data, what):
                pass
        return array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("="))


def read(source: Source) -> dict[str, NDArray[Any]]:
    """The arrays in a file of any framework, by name. Raises CheckpointError for what breaks the format's rules."""
    length = int.from_bytes(source.read(0, 8, "the length of the header"), "little")
    if not 2 <= length <= min(MAX_JSON, source.size - 8):
        raise source.fail(
            f"its header would be {length} bytes long",
            f"a .safetensors file, with a header within the file and up to {MAX_JSON} bytes",
            "load it with what wrote it, or check the path",
        )
    raw, data = source.read(8, length, "the header"), 8 + length

    def fail(got: str) -> CheckpointError:
        return source.fail(f"the header, bytes 8 to {data}: {got}", "the header of a .safetensors file")

    header = parse_json(raw, fail)
    if not isinstance(header, dict):
        raise fail("it is no JSON object")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise fail(f"its {_METADATA} is no dict of strings")
    entries = [_Entry.check(name, entry, fail) for name, entry in header.items()]
    end = 0
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != end:
            raise fail(
                f"the array {entry.name[:80]!r} begins at {entry.begin}, not {end}: arrays overlap or leave a gap"
            )
        end = entry.end
    if data + end != source.size:
        raise fail(f"its arrays end at byte {data + end} of a file of {source.size}")
    return {entry.name: entry.read(source, data) for entry in entries}
