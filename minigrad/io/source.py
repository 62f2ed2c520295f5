"""Reading with suspicion: a file of known size, every read within it, every complaint with its place."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, BinaryIO

from minigrad.errors import CheckpointError

__all__ = ["CHUNK", "MAX_JSON", "Fail", "Source", "count_of", "parse_json"]

CHUNK = 1 << 20
# JSON becomes up to some twenty times its size in Python objects, so it is kept small; arrays are not in it.
MAX_JSON = 1 << 24
MAX_DEPTH = 400

# A string, whole or cut off at the end, or a bracket. Possessive, so that the time is linear in the length.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|([\[{])|[\]}]', re.DOTALL)

Fail = Callable[[str], CheckpointError]


class Source:
    """An open file. Raises CheckpointError, with the file's name, for whatever goes wrong."""

    def __init__(self, path: str, file: BinaryIO, size: int) -> None:
        self.path, self.size, self._file = path, size, file

    @classmethod
    def open(cls, path: str, max_bytes: int | None) -> Source:
        """The regular file at path, not longer than max_bytes."""
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # asked first: opening a FIFO would wait for its writer
                kind = "a directory" if os.path.isdir(path) else "no regular file"
                raise CheckpointError(f"load: {path}", f"it is {kind}", "a file", "pass the file's own path")
            file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by __exit__)
            size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise _os_error(path, error) from error
        source = cls(path, file, size)
        if max_bytes is not None and size > max_bytes:
            file.close()
            raise source.fail(f"it has {size} bytes", f"at most max_bytes = {max_bytes}", "raise max_bytes")
        return source

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if isinstance(error, OSError):
            raise _os_error(self.path, error) from error

    def fail(
        self,
        got: str,
        expected: str = "the file as it was written",
        fix: str = "load another copy: this one is damaged",
    ) -> CheckpointError:
        """The error to raise."""
        return CheckpointError(f"load: {self.path}", got, expected, fix)

    def read(self, offset: int, count: int, what: str) -> bytes:
        """count bytes from offset on. what: their name in the error where the file ends before."""
        self._seek(offset, count, what)
        parts = []
        while count > 0:
            part = self._file.read(count)
            if not part:
                raise self._ended(what)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def read_into(self, offset: int, target: memoryview, what: str) -> Iterator[memoryview]:
        """Fills target from offset on, and gives it chunk by chunk as it comes in."""
        self._seek(offset, len(target), what)
        position = 0
        while position < len(target):
            chunk = target[position : position + CHUNK]
            count = self._file.readinto(chunk)  # type: ignore[attr-defined]  # a raw file has it
            if not count:
                raise self._ended(what)
            yield chunk[:count]
            position += count

    def _seek(self, offset: int, count: int, what: str) -> None:
        if not 0 <= offset <= offset + count <= self.size:
            raise self.fail(f"{what} would be bytes {offset} to {offset + count} of a file of {self.size}")
        self._file.seek(offset)

    def _ended(self, what: str) -> CheckpointError:
        return self.fail(f"it became shorter while {what} was read")

    def expect(self, offset: int, wanted: bytes, what: str) -> None:
        """Raises CheckpointError unless wanted stands at offset."""
        got = self.read(offset, len(wanted), what)
        if got != wanted:
            place = next(i for i, (a, b) in enumerate(zip(got, wanted, strict=True)) if a != b)
            around = slice(max(0, place - 8), place + 24)
            raise self.fail(
                f"{what} differs at byte {offset + place}: {got[around]!r} where {wanted[around]!r} should stand"
            )


def _os_error(path: str, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"load: {path}", error.strerror or str(error), "a file that can be read", "check the path and its permissions"
    )


def count_of(value: Any) -> bool:
    """Whether value, from JSON, is a size or an offset: a whole number from 0 to what 63 bits hold."""
    return type(value) is int and 0 <= value < 1 << 63


def parse_json(raw: bytes, fail: Fail) -> Any:
    """What raw says, as strict JSON: ASCII or UTF-8, no key twice, no NaN, not nested deeper than MAX_DEPTH."""
    depth = 0
    for token in _TOKEN.finditer(raw):
        if token[1]:
            depth += 1
            if depth > MAX_DEPTH:
                raise fail(f"its JSON is nested deeper than {MAX_DEPTH} at character {token.start()}")
        elif token[0] in b"]}":
            depth -= 1

    def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            raise fail(f"its JSON has the key {next(key for key in keys if keys.count(key) > 1)[:80]!r} twice")
        return found

    def no_constant(name: str) -> Any:
        raise fail(f"its JSON holds {name}, which is no JSON")

    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=no_key_twice, parse_constant=no_constant)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise fail(f"its JSON cannot be read: {error}") from None
