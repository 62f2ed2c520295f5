"""A nested state as named arrays and JSON, and back.

What JSON has no word for is an object with one key, which says what it is: {"array": name}, {"dict": [[key, value],
...]}, {"tuple": [...]}, {"scalar": [dtype, bytes]}, {"int": hex}, {"float": bits}, {"complex": bits}. Lists, strings,
true, false, null, finite floats and integers of 64 bits stand as they are.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import CheckpointError, describe
from minigrad.io.source import Fail
from minigrad.tensor import Tensor, plain

__all__ = ["DTYPES", "as_array", "pack", "unpack"]

# What dtype.str gives for every dtype that is stored; long double is not, since it differs between machines.
DTYPES = {np.dtype(code).newbyteorder(order).str for code in "?bBhHiIqQefdFD" for order in ("<", ">")}
MAX_DEPTH = 100

_ODD = re.compile(r"[^A-Za-z0-9_.-]")
_Path = tuple[str | int, ...]  # the keys and indices that lead to a value


def pack(state: Any) -> tuple[Any, dict[str, NDArray[Any]]]:
    """state as JSON and the arrays in it, named by their path. Raises CheckpointError for what cannot be stored."""
    arrays: dict[str, NDArray[Any]] = {}
    return _pack(state, (), arrays), arrays


def _pack(value: Any, path: _Path, arrays: dict[str, NDArray[Any]]) -> Any:
    kind = type(value)
    if len(path) > MAX_DEPTH:
        raise _refuse(path[:3], "a nesting that does not end, or not soon", f"at most {MAX_DEPTH} levels", "flatten it")
    if value is None or kind is bool:
        return value
    if kind is str:
        return _text(value, path)
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 64 else {"int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    if kind is complex:
        return {"complex": struct.pack(">dd", value.real, value.imag).hex()}
    if kind is list:
        return [_pack(item, (*path, i), arrays) for i, item in enumerate(value)]
    if kind is tuple:
        return {"tuple": [_pack(item, (*path, i), arrays) for i, item in enumerate(value)]}
    if kind is dict:
        return {"dict": [[_key(key, path), _pack(item, (*path, key), arrays)] for key, item in value.items()]}
    if isinstance(value, np.generic):
        scalar = np.asarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
        if scalar.dtype.str in DTYPES:
            return {"scalar": [scalar.dtype.str, scalar.tobytes().hex()]}
    if isinstance(value, (np.ndarray, Tensor)):
        name = _name(path, arrays)
        arrays[name] = as_array(value, path)
        return {"array": name}
    for base in dict, list, tuple, str, int, float, set:
        if isinstance(value, base):
            what = base.__name__ if base is not set else "sorted"
            raise _refuse(path, describe(value), "what loads back as it was", f"store {what}(...) of it")
    raise _refuse(
        path,
        f"a {kind.__module__}.{kind.__qualname__}",
        "dicts, lists, tuples, arrays, Tensors, numbers, str, bool, None",
        "store its state_dict, or the arrays in it",
    )


def _key(key: Any, path: _Path) -> Any:
    if type(key) is int:
        return _pack(key, path, {})
    if type(key) is str:
        return _text(key, path)
    raise _refuse(path, f"a key that is {describe(key)}", "keys that are str or int", "convert the keys with str(key)")


def _text(text: str, path: _Path) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refuse(path, f"{ascii(text)[:60]}, half a character", "valid text", "store it as an array") from None
    return text


def as_array(value: Any, path: _Path) -> NDArray[Any]:
    """The array of an array or Tensor, if it is one of numbers and nothing else. Raises CheckpointError otherwise."""
    array = plain(value)
    if type(array) not in (np.ndarray, np.memmap):
        name = type(array).__name__
        raise _refuse(
            path, f"a {name}", "a plain array", f"store numpy.asarray of it, and what the {name} adds beside it"
        )
    if array.dtype.str not in DTYPES:
        raise _refuse(
            path,
            f"an array of dtype {array.dtype}",
            "bool, integers, floats up to float64 or complex numbers up to complex128",
            "convert it with astype, or store array.tolist()",
        )
    return np.asarray(array)


def _name(path: _Path, taken: dict[str, NDArray[Any]]) -> str:
    """A name for an array, which is also that of a file: its path without what has a meaning to a file system."""
    parts = [_ODD.sub("_", _label(part)) for part in path]
    name = base = "/".join("_" * max(1, len(part)) if not part.strip(".") else part for part in parts) or "array"
    number = 1
    while name in taken:
        number += 1
        name = f"{base}~{number}"
    return name


def _label(part: str | int) -> str:
    """A key or an index in a few characters. Python writes no integer of thousands of digits, except in hex."""
    if isinstance(part, str):
        return part[:60]
    return str(part) if part.bit_length() < 192 else hex(part)[:60]


def _refuse(path: _Path, got: str, expected: str, fix: str) -> CheckpointError:
    where = "".join(f"[{_label(part)!r}]" if isinstance(part, str) else f"[{_label(part)}]" for part in path)
    return CheckpointError(f"save: state{where}", got, expected, fix)


def unpack(packed: Any, arrays: dict[str, NDArray[Any]], fail: Fail) -> Any:
    """What pack made packed and arrays of. Raises fail(...) for what pack did not make."""
    left = dict(arrays)
    state = _unpack(packed, left, fail)
    if left:
        raise fail(f"its state does not use the array {next(iter(left))!r}")
    return state


def _unpack(packed: Any, arrays: dict[str, NDArray[Any]], fail: Fail, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise fail(f"its state is nested deeper than {MAX_DEPTH}")
    if isinstance(packed, list):
        return [_unpack(item, arrays, fail, depth + 1) for item in packed]
    if isinstance(packed, float) and not math.isfinite(packed):
        raise fail("its state holds a number beyond float64")
    if not isinstance(packed, dict):
        return packed
    if len(packed) != 1:
        raise fail(f"its state holds an object of {len(packed)} keys, where one says what it is")
    [(tag, content)] = packed.items()
    try:
        if tag == "dict":
            return _dict(content, arrays, fail, depth)
        if tag == "tuple" and isinstance(content, list):
            return tuple([_unpack(item, arrays, fail, depth + 1) for item in content])
        if tag == "array":
            return arrays.pop(content)
        if tag == "scalar":
            dtype, data = content
            if dtype not in DTYPES:
                raise ValueError
            [scalar] = np.frombuffer(bytes.fromhex(data), dtype).astype(np.dtype(dtype).newbyteorder("="))
            return scalar
        if tag == "int":
            return int(content, 16)
        if tag == "float":
            [number] = struct.unpack(">d", bytes.fromhex(content))
            return number
        if tag == "complex":
            return complex(*struct.unpack(">dd", bytes.fromhex(content)))
    except (TypeError, ValueError, KeyError, struct.error) as error:
        if isinstance(error, CheckpointError):
            raise
        raise fail(f"its state holds {str(packed)[:80]}, which says nothing") from None
    raise fail(f"its state holds an object of the unknown kind {tag[:80]!r}")


def _dict(pairs: Any, arrays: dict[str, NDArray[Any]], fail: Fail, depth: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for packed, item in pairs:
        key = _unpack(packed, arrays, fail, depth + 1)
        if type(key) not in (str, int) or key in found:
            raise fail(f"its state holds the key {str(key)[:80]!r}, which is twice there or no str or int")
        found[key] = _unpack(item, arrays, fail, depth + 1)
    return found
