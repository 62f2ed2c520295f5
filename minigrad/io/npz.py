"""The .npz format: a zip file of .npy members and a manifest, of which every byte is determined by the state.

The layout is the strictest zip there is: members are stored, follow each other without a gap, have 64-bit sizes
(so that there is one layout for small and large files) and the date 1980-01-01; the last one is the manifest, and
the file's comment holds the manifest's SHA-256. The manifest has the SHA-256 of each array. load lays the same file
out again from the manifest and compares: a byte that differs anywhere is an error.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import CheckpointError
from minigrad.io.atomic import Replacement
from minigrad.io.source import CHUNK, MAX_JSON, Fail, Source, count_of, parse_json
from minigrad.io.state import DTYPES, pack, unpack

__all__ = ["read", "writer"]

VERSION = 1
MANIFEST = "minigrad.json"
_WORD = b"minigrad "
_COMMENT = _WORD + b"%d sha256 "
_TAIL = 56 + 20 + 22 + len(_COMMENT % VERSION) + 64
_END = b"PK\5\6"
_DATE = 0x21
_BIG, _MANY = 0xFFFFFFFF, 0xFFFF
_HASH = re.compile(r"[0-9a-f]{64}")


class _Member(NamedTuple):
    """One member of the zip file, as its directory tells it."""

    name: str
    crc: int
    size: int
    offset: int

    def local(self) -> bytes:
        """The header that stands before the member."""
        name = self.name.encode("ascii")
        fixed = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, _DATE, self.crc, _BIG, _BIG, len(name), 20)
        return fixed + name + struct.pack("<2H2Q", 1, 16, self.size, self.size)

    def central(self) -> bytes:
        """The member's entry in the directory; readable by all, as unzip makes its files."""
        name = self.name.encode("ascii")
        fixed = struct.pack("<4s6H3L5H2L", b"PK\1\2", 3 << 8 | 45, 45, 0, 0, 0, _DATE, self.crc, _BIG, _BIG,
                            len(name), 28, 0, 0, 0, 0o100644 << 16, _BIG)  # fmt: skip
        return fixed + name + struct.pack("<2H3Q", 1, 24, self.size, self.size, self.offset)

    @property
    def start(self) -> int:
        """Where the member's own bytes begin."""
        return self.offset + 50 + len(self.name)


def _tail(count: int, size: int, offset: int, digest: bytes) -> bytes:
    """The end of the file: where the directory is, twice, and the manifest's hash."""
    big = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 3 << 8 | 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, offset + size, 1)
    comment = _COMMENT % VERSION + digest
    return big + locator + struct.pack("<4s4H2LH", _END, 0, 0, _MANY, _MANY, _BIG, _BIG, len(comment)) + comment


def _npy_header(dtype: str, fortran: bool, shape: tuple[int, ...]) -> bytes:
    """The head of a .npy file of version 1.0, which ends at a multiple of 64 bytes."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode("ascii")


def writer(state: Any) -> Callable[[Replacement], None]:
    """What writes state to a file. Raises CheckpointError for a state that cannot be stored."""
    packed, arrays = pack(state)

    def write(out: Replacement) -> None:
        members, entries = [], []
        for name, array in arrays.items():
            fortran = bool(array.flags.f_contiguous and not array.flags.c_contiguous)
            header = _npy_header(array.dtype.str, fortran, array.shape)
            member = _Member(f"{name}.npy", 0, len(header) + array.nbytes, out.position)
            digest, crc = hashlib.sha256(), zlib.crc32(header)
            out.write(member.local())
            out.write(header)
            for chunk in _chunks(array, fortran):  # hashed and written from the same copy, whoever writes to array
                digest.update(chunk)
                crc = zlib.crc32(chunk, crc)
                out.write(chunk)
            members.append(member._replace(crc=crc))
            out.rewrite(member.offset, members[-1].local())
            entries.append(
                {
                    "name": name,
                    "dtype": array.dtype.str,
                    "shape": array.shape,
                    "fortran": fortran,
                    "sha256": digest.hexdigest(),
                }
            )
        raw = _manifest(packed, entries)
        members.append(_Member(MANIFEST, zlib.crc32(raw), len(raw), out.position))
        out.write(members[-1].local())
        out.write(raw)
        directory = b"".join(member.central() for member in members)
        hashed = hashlib.sha256(raw).hexdigest().encode()
        out.write(directory + _tail(len(members), len(directory), out.position, hashed))

    # Refused before anything is written: the hashes, which are not known yet, are all of one length.
    blank = [{"name": name, "dtype": a.dtype.str, "shape": a.shape, "fortran": False, "sha256": "0" * 64}
             for name, a in arrays.items()]  # fmt: skip
    _manifest(packed, blank)
    return write


def _manifest(packed: Any, entries: list[dict[str, Any]]) -> bytes:
    manifest = {"format": "minigrad", "version": VERSION, "arrays": entries, "state": packed}
    raw = json.dumps(manifest, allow_nan=False).encode("ascii")
    if len(raw) > MAX_JSON:
        raise CheckpointError(
            "save: state",
            f"{len(raw)} bytes of JSON for what is no array",
            f"at most {MAX_JSON}",
            "store long lists of numbers as arrays, with numpy.array",
        )
    return raw


def _chunks(array: NDArray[Any], fortran: bool) -> Iterator[bytes]:
    """The bytes of array in the order of a .npy file, about CHUNK of them at a time."""
    parts = np.nditer(
        array,
        flags=["external_loop", "buffered", "zerosize_ok"],
        buffersize=max(1, CHUNK // array.itemsize),
        order="F" if fortran else "C",
    )
    for part in parts:
        yield part.tobytes()  # type: ignore[attr-defined]  # one operand: no tuple


def read(source: Source) -> Any:
    """The state in a file that writer wrote. Raises CheckpointError for any other."""
    members, digest = _directory(source)
    last = members[-1]
    if last.name != MANIFEST or last.size > MAX_JSON:
        raise source.fail(f"its last member is {last.name!r} of {last.size} bytes, not a {MANIFEST} up to {MAX_JSON}")
    place = f"{MANIFEST} at byte {last.start}"
    source.expect(last.offset, last.local(), f"the header of {MANIFEST}")
    raw = source.read(last.start, last.size, MANIFEST)
    if hashlib.sha256(raw).hexdigest().encode() != digest or zlib.crc32(raw) != last.crc:
        raise source.fail(f"{place} is not what its checksum says")

    def fail(got: str) -> CheckpointError:
        return source.fail(f"{place}: {got}", f"a manifest of minigrad, version {VERSION}")

    manifest = parse_json(raw, fail)
    if not isinstance(manifest, dict) or manifest.keys() != {"format", "version", "arrays", "state"}:
        raise fail("it has not the keys format, version, arrays and state")
    if manifest["format"] != "minigrad" or manifest["version"] != VERSION:
        raise fail(f"it is of version {str(manifest['version'])[:20]}")
    if not isinstance(manifest["arrays"], list) or len(manifest["arrays"]) != len(members) - 1:
        raise fail(f"it does not list the {len(members) - 1} arrays that the file has")
    # All of them are checked before memory is asked for.
    entries = [_Entry.check(entry, member, fail) for entry, member in zip(manifest["arrays"], members, strict=False)]
    arrays = {entry.name: entry.read(source) for entry in entries}
    return unpack(manifest["state"], arrays, fail)


class _Entry(NamedTuple):
    """An array in the manifest, which fits its member."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    sha256: str
    member: _Member

    @classmethod
    def check(cls, entry: Any, member: _Member, fail: Fail) -> _Entry:
        """entry, if it can be right."""
        if not isinstance(entry, dict) or entry.keys() != {"name", "dtype", "shape", "fortran", "sha256"}:
            raise fail(f"its entry for {member.name!r} has not the keys name, dtype, shape, fortran and sha256")
        name, dtype, shape, fortran, digest = (entry[key] for key in ("name", "dtype", "shape", "fortran", "sha256"))
        if f"{name}.npy" != member.name:
            raise fail(f"it has the array {str(name)[:80]!r} where the member {member.name!r} is")
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise fail(f"the array {name!r} has the dtype {str(dtype)[:80]!r}, which is none that is stored")
        if not isinstance(shape, list) or len(shape) > 64 or not all(count_of(n) for n in shape):
            raise fail(f"the array {name!r} has the shape {str(shape)[:80]}")
        if not isinstance(fortran, bool) or not isinstance(digest, str) or not _HASH.fullmatch(digest):
            raise fail(f"the array {name!r} has an order or a hash that is none")
        found = cls(name, dtype, tuple(shape), fortran, digest, member)
        wanted = len(found.header) + math.prod(shape) * np.dtype(dtype).itemsize
        if wanted != member.size:
            raise fail(f"the array {name!r}, {dtype} {found.shape}, takes {wanted} bytes, its member has {member.size}")
        return found

    @property
    def header(self) -> bytes:
        """The head of the .npy member."""
        return _npy_header(self.dtype, self.fortran, self.shape)

    def read(self, source: Source) -> NDArray[Any]:
        """The array itself."""
        what, header, member = f"the member {self.member.name!r}", self.header, self.member
        source.expect(member.offset, member.local(), f"the zip header of {what}")
        source.expect(member.start, header, f"the .npy header of {what}")
        try:
            array: NDArray[Any] = np.empty(self.shape, self.dtype, order="F" if self.fortran else "C")
        except ValueError as error:
            raise source.fail(f"{what} has the shape {self.shape}: {error}") from None
        digest, crc = hashlib.sha256(), zlib.crc32(header)
        if array.nbytes:
            view = array.reshape(-1, order="A").view(np.uint8).data
            for chunk in source.read_into(member.start + len(header), view, what):
                digest.update(chunk)
                crc = zlib.crc32(chunk, crc)
        if digest.hexdigest() != self.sha256 or crc != member.crc:
            end = member.start + member.size
            raise source.fail(f"{what}, bytes {member.start + len(header)} to {end}, is not what its checksum says")
        return array


def _directory(source: Source) -> tuple[list[_Member], bytes]:
    """The members of the zip file and the manifest's hash; all of the file is theirs."""
    if source.size < _TAIL or not source.read(0, 4, "the start").startswith(b"PK\3\4"):
        raise _foreign(source)
    begin = source.size - _TAIL
    tail = source.read(begin, _TAIL, "the end")
    count, _, size, offset = struct.unpack_from("<4Q", tail, 24)
    digest = tail[-64:]
    if not tail[98:].startswith(_COMMENT % VERSION):
        raise _foreign(source)
    if offset + size != begin:
        raise source.fail(f"its directory of {size} bytes at byte {offset} does not end at byte {begin}")
    if not 0 < count <= size // 74:
        raise source.fail(f"its directory of {size} bytes cannot have {count} members")
    source.expect(begin, _tail(count, size, offset, digest), "the end of the zip directory")
    directory = source.read(offset, size, "the zip directory")
    members: list[_Member] = []
    names: set[str] = set()
    at = end = 0
    for _ in range(count):
        member, length = _member(directory, at, offset, source)
        if member.name in names:
            raise source.fail(f"it has two members {member.name!r}, byte {offset + at}")
        if member.offset != end or member.start + member.size > offset:
            raise source.fail(
                f"the member {member.name!r} has bytes {member.offset} to {member.start + member.size}: "
                f"members overlap, leave a gap after byte {end}, or go beyond byte {offset}"
            )
        names.add(member.name)
        members.append(member)
        end = member.start + member.size
        at += length
    if at != size or end != offset:
        raise source.fail(f"members end at byte {end} of {offset}, the directory at {offset + at} of {begin}")
    return members, digest


def _member(directory: bytes, at: int, offset: int, source: Source) -> tuple[_Member, int]:
    """The entry of the directory that begins at, and its length."""
    place = f"the zip directory, byte {offset + at}"
    fixed = directory[at : at + 46]
    if len(fixed) < 46 or not fixed.startswith(b"PK\1\2"):
        raise source.fail(f"{place}: there is no entry")
    flags, method = struct.unpack_from("<2H", fixed, 8)
    crc, length = struct.unpack_from("<L8xH", fixed, 16)
    entry = directory[at : at + 46 + length + 28]
    if len(entry) < 46 + length + 28:
        raise source.fail(f"{place}: a name of {length} bytes goes beyond the end")
    raw = entry[46 : 46 + length]
    name = raw.decode("ascii", "backslashreplace")
    if not raw or not raw.isascii() or not raw.decode("ascii").isprintable() or "\\" in name or ":" in name:
        raise source.fail(f"{place}: the name {name[:80]!r} has characters that no name of minigrad has")
    if any(not part.strip(".") for part in name.split("/")):
        raise source.fail(f"{place}: the name {name[:80]!r} leads out of its directory")
    if flags & 1:
        raise source.fail(f"{place}: the member {name!r} is encrypted", "members that are stored as they are")
    if method != 0:
        raise source.fail(f"{place}: the member {name!r} is compressed", "members that are stored as they are")
    size, _, start = struct.unpack_from("<3Q", entry, 46 + length + 4)
    member = _Member(name, crc, size, start)
    if member.central() != entry:
        raise source.fail(f"{place}: the entry of {name!r} is not as minigrad writes it")
    return member, len(entry)


def _foreign(source: Source) -> CheckpointError:
    """The error for a file that does not end as ours do: what is it?"""
    head = source.read(0, min(512, source.size), "the start")
    end = source.read(max(0, source.size - 66000), min(66000, source.size), "the end")
    ours = "a file of minigrad.save"
    if not head:
        return source.fail("it is empty", ours, "save it again: its writer did not end")
    if not head.startswith(b"PK"):
        return source.fail(f"it is {_kind(head)}", ours, "load it with what wrote it, or check the path")
    if MANIFEST.encode() in end or _END not in end:
        newer = re.search(rb"minigrad (\d{1,9}) sha256 [0-9a-f]{64}\Z", end)
        if newer and int(newer[1]) > VERSION:
            return source.fail(f"it is of version {int(newer[1])}", f"version {VERSION}", "install a newer minigrad")
        return source.fail(
            f"the end of its zip directory is not in its place, the last {_TAIL} of {source.size} bytes: "
            "it is cut off, longer than it was, or damaged there"
        )
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if first.endswith((b"data.pkl", b".format_version")) or b"/data/" in first:
        fix = "load it with PyTorch, and save its tensors with safetensors.torch.save_file"
        return source.fail("it is a file of PyTorch, which is read by unpickling", ours, fix)
    if first.endswith(b".npy"):
        fix = "read it with numpy.load(path, allow_pickle=False)"
        return source.fail(f"it has no {MANIFEST}: numpy.savez or another program wrote it", ours, fix)
    return source.fail(f"it is a zip file without {MANIFEST}", ours, "load it with what wrote it")


def _kind(head: bytes) -> str:
    """What a file that begins so may be."""
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        return "a pickle, which is never read"
    if head.startswith(b"\x93NUMPY"):
        return "a single array of numpy.save"
    if head[8:9] == b"{" and not any(head[3:8]):
        return "a .safetensors file under another name"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file"
    try:
        head.decode("utf-8")
        text = b"\0" not in head
    except UnicodeDecodeError as error:
        text = error.start > len(head) - 4 and b"\0" not in head
    return f"{'text' if text else 'no zip file'}, which begins with {head[:16]!r}"
