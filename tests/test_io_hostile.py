"""Damaged and hostile files: load says what is wrong and where, and never gives a state that nobody saved."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import re
import struct
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_io import same

import minigrad as mg
import minigrad.io.npz
import minigrad.io.safetensors  # so that no import is measured

# How many mutations of each format are tried.
MUTATIONS = int(os.environ.get("MINIGRAD_MUTATIONS", "10000"))

STATE = {
    "model": {"0.weight": np.arange(6, dtype=">f4").reshape(2, 3), "b": np.asfortranarray(np.eye(2)), "n": np.array(3)},
    "done": (True, None, 2**70, -0.0, float("nan"), "é\n", np.float16(1.5), 1j),
    3: [[], {}, np.empty((0, 2)), np.array([True, False])],
}


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.npz"
    mg.save(STATE, path)
    assert same(mg.load(path), STATE)
    return path.read_bytes()


def tensors_file(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A .safetensors file; header: JSON, or what to write as such."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str, shape: list[Any], begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


TENSORS = tensors_file(
    {
        "__metadata__": {"format": "pt"},
        "a": entry("F32", [2, 3], 0, 24),
        "b": entry("BF16", [2], 24, 28),
        "c": entry("I64", [], 28, 36),
        "empty": entry("F16", [0, 5], 28, 28),
        "flags": entry("BOOL", [2], 36, 38),
    },
    np.arange(6, dtype="<f4").tobytes() + bytes([0x80, 0x3F, 0, 0xC0]) + struct.pack("<q", -7) + b"\0\1",
)


class Zip:
    """A zip file under construction, written here anew from the format's description: see PKWARE's APPNOTE.TXT."""

    def __init__(self) -> None:
        self.data, self.directory, self.count = b"", b"", 0

    def add(
        self,
        name: str | bytes,
        content: bytes,
        *,
        method: int = 0,
        flags: int = 0,
        crc: int | None = None,
        size: int | None = None,
        offset: int | None = None,
        local: str | bytes | None = None,
        listed: bool = True,
    ) -> None:
        """A member; the keywords are what its directory entry says instead of the truth, local its name before it."""
        raw = name if isinstance(name, bytes) else name.encode()
        inner = raw if local is None else local if isinstance(local, bytes) else local.encode()
        crc = zlib.crc32(content) if crc is None else crc
        size = len(content) if size is None else size
        offset = len(self.data) if offset is None else offset
        common = struct.pack("<5HL2L", 45, flags, method, 0, 33, crc, 2**32 - 1, 2**32 - 1)
        self.data += b"PK\3\4" + common + struct.pack("<2H", len(inner), 20) + inner
        self.data += struct.pack("<2H2Q", 1, 16, size, size) + content
        if listed:
            tail = struct.pack("<5H2L", len(raw), 28, 0, 0, 0, 0o100644 << 16, 2**32 - 1) + raw
            self.directory += b"PK\1\2" + struct.pack("<H", 3 << 8 | 45) + common + tail
            self.directory += struct.pack("<2H3Q", 1, 24, size, size, offset)
            self.count += 1

    def bytes(
        self,
        comment: bytes,
        *,
        count: int | None = None,
        size: int | None = None,
        offset: int | None = None,
        gap: bytes = b"",
    ) -> bytes:
        """All of it; the keywords are lies of the last record."""
        count = self.count if count is None else count
        size = len(self.directory) if size is None else size
        offset = len(self.data) + len(gap) if offset is None else offset
        big = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 3 << 8 | 45, 45, 0, 0, count, count, size, offset)
        big += b"PK\6\7" + struct.pack("<LQL", 0, (offset + size) % 2**64, 1)
        end = b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, len(comment))
        return self.data + gap + self.directory + big + end + comment


def npy(array: np.ndarray[Any, Any], text: str | None = None) -> bytes:
    """A .npy file; text: what its header says instead."""
    if text is None:
        text = f"{{'descr': {array.dtype.str!r}, 'fortran_order': False, 'shape': {array.shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + array.tobytes()


X = np.arange(3.0)


def listed(name: str = "x", array: np.ndarray[Any, Any] = X, **lies: Any) -> dict[str, Any]:
    """An array in a manifest."""
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    shape = list(array.shape)
    return {"name": name, "dtype": array.dtype.str, "shape": shape, "fortran": False, "sha256": digest, **lies}


def manifest_of(arrays: Any, state: Any, **more: Any) -> bytes:
    return json.dumps({"format": "minigrad", "version": 1, "arrays": arrays, "state": state, **more}).encode()


def comment_of(manifest: bytes) -> bytes:
    return b"minigrad 1 sha256 " + hashlib.sha256(manifest).hexdigest().encode()


ONE = manifest_of([listed()], {"array": "x"})


def forged(
    manifest: bytes = ONE,
    member: bytes | None = None,
    *,
    name: str | bytes = "x.npy",
    build: Callable[[Zip], None] | None = None,
    last: dict[str, Any] | None = None,
    **lies: Any,
) -> bytes:
    """A file with the array X, whose checksums are right whatever else is wrong."""
    made = Zip()
    if build is not None:
        build(made)
    else:
        made.add(name, npy(X) if member is None else member, **lies)
    made.add("minigrad.json", manifest)
    return made.bytes(comment_of(manifest), **last or {})


def put(path: Path, data: bytes) -> None:
    """Writes over the file at path: to empty it first would be ten times as slow on some file systems."""
    with open(path, "r+b" if path.exists() else "wb", buffering=0) as file:
        file.write(data)
        file.truncate()


def refused(path: Path, data: bytes) -> mg.CheckpointError:
    put(path, data)
    with pytest.raises(mg.CheckpointError) as caught:
        mg.load(path)
    assert type(caught.value) is mg.CheckpointError
    assert str(path) in caught.value.function
    return caught.value


def test_the_forger_can_write_a_file_that_is_right(tmp_path: Path, npz: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(forged())
    assert same(mg.load(tmp_path / "a.npz"), X)
    mg.save(X, tmp_path / "b.npz")
    assert mg.load(tmp_path / "b.npz").shape == (3,)
    (tmp_path / "a.safetensors").write_bytes(TENSORS)
    loaded = mg.load(tmp_path / "a.safetensors")
    assert list(loaded) == ["a", "b", "c", "empty", "flags"]
    assert loaded["b"].tolist() == [1.0, -2.0]
    assert loaded["c"] == -7


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_cut_off_at_every_length(tmp_path: Path, npz: bytes, suffix: str) -> None:
    whole = npz if suffix == ".npz" else TENSORS
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole)
    for length in reversed(range(len(whole))):
        os.truncate(path, length)
        with pytest.raises(mg.CheckpointError):
            mg.load(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_longer_than_it_was(tmp_path: Path, npz: bytes, suffix: str) -> None:
    whole = npz if suffix == ".npz" else TENSORS
    for more in b"\0", b" ", b"PK\5\6" + bytes(18), whole:
        refused(tmp_path / f"a{suffix}", whole + more)
        refused(tmp_path / f"a{suffix}", more + whole)


def test_every_byte_of_an_npz_file_counts(tmp_path: Path, npz: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(npz)
    with open(path, "r+b", buffering=0) as file:
        for place, byte in enumerate(npz):
            for pattern in 0x01, 0x80, 0x20, 0xFF, 0x00:
                file.seek(place)
                file.write(bytes([byte ^ pattern]))
                if pattern:
                    with pytest.raises(mg.CheckpointError):
                        mg.load(path)
    assert same(mg.load(path), STATE)


def test_every_byte_of_a_safetensors_header(tmp_path: Path) -> None:
    """It has no checksum: what loads must still be arrays that fill the file, and be what the library reads."""
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    data = TENSORS.replace(b"BF16", b" F16").replace(b'" F16', b' "F16')
    loads = 0
    for place, byte in enumerate(data):
        for pattern in 0x01, 0x80, 0x20, 0xFF:
            changed = data[:place] + bytes([byte ^ pattern]) + data[place + 1 :]
            loads += agrees(path, changed, library)
    assert loads > 100


def agrees(path: Path, data: bytes, library: Any) -> bool:
    """Whether data loads; where it does, the library must read the same from it."""
    put(path, data)
    try:
        loaded = mg.load(path)
    except mg.CheckpointError:
        return False
    assert sum(array.nbytes for array in loaded.values()) <= 2 * len(data)
    if b'"BF16"' not in data:
        other = library.load(data)
        assert loaded.keys() == other.keys()
        assert all(same(np.array(other[name]), array) for name, array in loaded.items())
    return True


LIES: list[tuple[str, bytes, str]] = [
    ("compressed", forged(method=8), r"x\.npy.*compressed"),
    ("encrypted", forged(flags=1), r"x\.npy.*encrypted"),
    ("other flags", forged(flags=2048), "not as minigrad writes it"),
    ("parent", forged(name="../x.npy"), "leads out"),
    ("parent inside", forged(name="a/../x.npy"), "leads out"),
    ("absolute", forged(name="/x.npy"), "leads out"),
    ("here", forged(name="./x.npy"), "leads out"),
    ("backslash", forged(name="..\\x.npy"), "characters"),
    ("drive", forged(name="c:x.npy"), "characters"),
    ("nul", forged(name="x\0.npy"), "characters"),
    ("not ascii", forged(name="é.npy"), "characters"),
    ("no name", forged(name=b""), "characters"),
    ("other name inside", forged(local="y.npy"), r"zip header.*x\.npy.*differs at byte"),
    ("longer name inside", forged(local="xx.npy"), "members overlap, leave a gap"),
    ("wrong crc", forged(crc=1), "zip header|checksum"),
    ("wrong size", forged(size=5), "members overlap|takes"),
    ("size beyond the file", forged(size=2**62), "beyond byte"),
    ("size that overflows", forged(size=2**64 - 1), "beyond byte"),
    ("offset beyond the file", forged(offset=2**40), "members overlap"),
    ("offset that overflows", forged(offset=2**64 - 8), "members overlap"),
    ("nothing listed", forged(listed=False), "members overlap|does not list"),
    ("count", forged(last={"count": 1}), "last member|members end|directory"),
    ("large count", forged(last={"count": 2**63}), "cannot have"),
    ("no count", forged(last={"count": 0}), "cannot have"),
    ("directory beyond the file", forged(last={"offset": 2**50}), "does not end at"),
    ("negative directory", forged(last={"offset": 2**64 - 64, "size": 64}), "does not end at|PK"),
    ("large directory", forged(last={"size": 2**63}), "does not end at"),
    ("gap", forged(last={"gap": bytes(8)}), "members end at"),
    ("other .npy", forged(member=npy(X, "{'descr': '<f8', 'fortran_order': True, 'shape': (3,), }")), "npy header"),
    ("pickled", forged(member=npy(X, "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }")), "npy header"),
    ("huge .npy header", forged(member=npy(X, "{" + " " * 60000)), "takes 152 bytes, its member has 6"),
    ("code in the .npy header", forged(member=npy(X, "__import__('os').abort()" + " " * 27)), "takes|npy header"),
]  # fmt: skip


def overlap(made: Zip) -> None:
    made.add("x.npy", npy(X))
    made.add("y.npy", npy(X), offset=0)


def twice(made: Zip) -> None:
    made.add("x.npy", npy(X))
    made.add("x.npy", npy(X))


def bomb(made: Zip) -> None:
    """A gigabyte in a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(1 << 24)) + packer.flush()
    made.add("x.npy", packed, method=8, size=1 << 30)


TWO = manifest_of([listed(), listed("y")], [{"array": "x"}, {"array": "y"}])
LIES += [
    ("overlap", forged(TWO, build=overlap), "two members|members overlap"),
    ("twice", forged(manifest_of([listed(), listed()], {"array": "x"}), build=twice), "two members 'x.npy'"),
    ("bomb", forged(build=bomb), "compressed"),
]


def manifest(text: str, **lies: Any) -> tuple[bytes, str]:
    return forged(manifest_of([listed(**lies)], {"array": "x"})), text


def stated(state: Any, text: str) -> tuple[bytes, str]:
    return forged(manifest_of([listed()], [{"array": "x"}, state])), text


def raw(data: bytes, text: str) -> tuple[bytes, str]:
    return forged(data), text


BAD_MANIFESTS: dict[str, tuple[bytes, str]] = {
    "object": manifest("dtype '|O'", dtype="|O"),
    "void": manifest(r"dtype '\|V8'", dtype="|V8"),
    "text dtype": manifest("dtype '<U1'", dtype="<U1"),
    "no dtype": manifest("dtype 'nonsense'", dtype="nonsense"),
    "dtype of code": manifest("dtype", dtype="f8,f8"),
    "dtype that is a list": manifest("dtype", dtype=["<f8"]),
    "another dtype": manifest("npy header", dtype="<i8"),
    "negative": manifest("shape", shape=[-3]),
    "two negatives": manifest("shape", shape=[-1, -3]),
    "fraction": manifest("shape", shape=[3.0]),
    "true": manifest("shape", shape=[True, 3]),
    "no list": manifest("shape", shape=3),
    "overflow": manifest("takes", shape=[2**62, 2**62]),
    "more than 63 bits": manifest("shape", shape=[2**64 + 3]),
    "65 axes": manifest("shape", shape=[1] * 64 + [3]),
    "another shape": manifest("npy header", shape=[3, 1]),
    "too large": manifest("takes", shape=[4]),
    "too small": manifest("takes", shape=[2]),
    "order": manifest("npy header", fortran=True),
    "order that is none": manifest("order", fortran=1),
    "hash": manifest("checksum", sha256="0" * 64),
    "hash that is none": manifest("hash", sha256="0" * 63),
    "hash of other digits": manifest("hash", sha256="F" * 64),
    "name": manifest("where the member", name="y"),
    "name that is none": manifest("where the member", name=["x"]),
    "more keys": manifest("keys", more=1),
    "version": (forged(manifest_of([listed()], {"array": "x"}, version=2)), "version 2"),
    "true version": (forged(manifest_of([listed()], {"array": "x"}, format="else")), "version"),
    "no arrays": (forged(manifest_of([], 1)), "does not list"),
    "arrays that are none": (forged(manifest_of(None, 1)), "does not list"),
    "arrays of nothing": (forged(manifest_of([None], 1)), "keys"),
    "unused": (forged(manifest_of([listed()], 1)), "does not use the array 'x'"),
    "used twice": (forged(manifest_of([listed()], [{"array": "x"}, {"array": "x"}])), "says nothing"),
    "unknown array": stated({"array": "y"}, "says nothing"),
    "unknown kind": stated({"pickle": "x"}, "unknown kind 'pickle'"),
    "two kinds": stated({"int": "1", "float": "2"}, "2 keys"),
    "no kind": stated({}, "0 keys"),
    "key twice": stated({"dict": [["a", 1], ["a", 2]]}, "key 'a'"),
    "key of another type": stated({"dict": [[None, 1]]}, "key 'None'"),
    "key that is a list": stated({"dict": [[[], 1]]}, "key"),
    "no pairs": stated({"dict": [1]}, "says nothing"),
    "dict of nothing": stated({"dict": None}, "says nothing"),
    "tuple": stated({"tuple": "ab"}, "unknown kind 'tuple'"),
    "scalar": stated({"scalar": ["|O", "00"]}, "says nothing"),
    "scalar of text": stated({"scalar": ["<U1", "61000000"]}, "says nothing"),
    "long scalar": stated({"scalar": ["|u1", "0000"]}, "says nothing"),
    "short scalar": stated({"scalar": ["<f8", "00"]}, "says nothing"),
    "int": stated({"int": "0xg"}, "says nothing"),
    "float": stated({"float": "00"}, "says nothing"),
    "complex": stated({"complex": 3}, "says nothing"),
    "deep state": stated(json.loads("[" * 150 + "]" * 150), "deeper than 100"),
    "no json": raw(b"{", "cannot be read"),
    "no object": raw(b"[]", "keys"),
    "empty": raw(b"", "cannot be read"),
    "not utf-8": raw(b"\xff" + ONE, "cannot be read"),
    "nan": raw(ONE.replace(b'"state": ', b'"state": NaN, "s": '), "NaN, which is no JSON"),
    "beyond float64": raw(ONE.replace(b'{"array": "x"}', b'[1e999, {"array": "x"}]'), "beyond float64"),
    "long number": raw(ONE.replace(b"[3]", b"[" + b"3" * 5000 + b"]"), "cannot be read"),
    "json key twice": raw(ONE.replace(b'"version": 1', b'"version": 1, "version": 1'), "key 'version' twice"),
    "deep json": raw(ONE.replace(b'{"array": "x"}', b"[" * 100_000 + b"]" * 100_000), "deeper than 400"),
    "deep json, not closed": raw(b'{"a":' * 1_000_000, "deeper than 400"),
    "quotes": raw(b'"\\' * 1_000_000, "cannot be read"),
    "huge": raw(b" " * ((1 << 24) + 1), "up to 16777216"),
}
LIES += [(f"manifest, {name}", data, text) for name, (data, text) in BAD_MANIFESTS.items()]


@pytest.mark.parametrize(("data", "message"), [pytest.param(*lie[1:], id=lie[0]) for lie in LIES])
def test_a_hostile_npz_file(tmp_path: Path, data: bytes, message: str) -> None:
    tracemalloc.start()
    try:
        error = refused(tmp_path / "a.npz", data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert re.search(message, str(error)), error
    assert len(str(error)) < 700
    assert peak < 3 * len(data) + (1 << 17)  # JSON as bytes, as text and as what it says
    assert len(error.fix) > 10


def test_an_empty_array_of_a_shape_that_numpy_refuses(tmp_path: Path) -> None:
    empty = np.empty((0, 1))
    huge = listed(array=empty, shape=[0, 2**62, 2**62])
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {(0, 2**62, 2**62)}, }}"
    error = refused(tmp_path / "a.npz", forged(manifest_of([huge], {"array": "x"}), npy(empty, text)))
    assert "shape" in str(error)
    error = refused(tmp_path / "a.safetensors", tensors_file({"x": entry("F64", [0, 2**62, 2**62], 0, 0)}))
    assert "shape" in str(error)


def test_json_costs_no_more_memory_than_its_cap_allows(tmp_path: Path) -> None:
    """The most that a manifest can hold: empty lists, three bytes each."""
    many = b"[" + b"[]," * 100_000 + b'{"array":"x"}]'
    path = tmp_path / "a.npz"
    path.write_bytes(forged(ONE.replace(b'{"array": "x"}', many)))
    tracemalloc.start()
    try:
        assert len(mg.load(path)) == 100_001
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * len(many)


class Explosive:
    """What runs code as it is unpickled."""

    def __reduce__(self) -> Any:
        return os.abort, ()


def saved_by(write: Callable[[io.BytesIO], Any]) -> bytes:
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def torch_like(out: io.BytesIO) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Explosive()))
        archive.writestr("model/data/0", bytes(8))


def any_zip(out: io.BytesIO) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme.txt", "hello")


FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"epoch,loss\n1,0.5\n", "text, which begins with"),
    "text of many bytes": (("é" * 400).encode(), "text"),
    "binary": (bytes(range(256)) * 4, "no zip file"),
    "pickle": (pickle.dumps(Explosive()), "a pickle, which is never read"),
    "old pickle": (pickle.dumps([1.5], protocol=2), "a pickle"),
    "npy": (saved_by(lambda out: np.save(out, X)), "numpy.save"),
    "npy of objects": (saved_by(lambda out: np.save(out, np.array([Explosive()]), allow_pickle=True)), "numpy.save"),
    "npz": (saved_by(lambda out: np.savez(out, x=X)), r"no minigrad\.json.*numpy\.load\(path, allow_pickle=False\)"),
    "compressed npz": (saved_by(lambda out: np.savez_compressed(out, x=X)), r"numpy\.load"),
    "npz of objects": (saved_by(lambda out: np.savez(out, x=np.array([Explosive()]))), r"numpy\.load"),
    "torch": (saved_by(torch_like), "PyTorch, which is read by unpickling.*save_file"),
    "zip": (saved_by(any_zip), "zip file without"),
    "empty zip": (b"PK\5\6" + bytes(18), "zip file without"),
    "safetensors": (TENSORS, "safetensors"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "newer": (forged().replace(b"minigrad 1 sha", b"minigrad 2 sha"), "version 2; expected version 1; install a newer"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_another_program_s_file(tmp_path: Path, name: str) -> None:
    data, message = FOREIGN[name]
    assert re.search(message, str(refused(tmp_path / "a.npz", data)))
    if name != "safetensors":
        refused(tmp_path / "a.safetensors", data)


def test_no_pickle_is_ever_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even asked for: with an unpickler that fails, everything loads as before."""
    mg.save(STATE, tmp_path / "a.npz")
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr(pickle, "Unpickler", None)
    assert same(mg.load(tmp_path / "a.npz"), STATE)
    imported = {name for name, module in vars(sys.modules["minigrad.io.npz"]).items() if module in (pickle, zipfile)}
    assert imported == set()


OK = entry("F32", [2], 0, 8)
BAD_TENSORS: dict[str, tuple[bytes, str]] = {
    "length beyond the file": (tensors_file({}, length=2**63), "header would be"),
    "length of all bits": (tensors_file({}, length=2**64 - 1), "header would be"),
    "no header": (tensors_file(b""), "header would be"),
    "huge header": (tensors_file(b"{" + b" " * (1 << 24) + b"}"), "up to 16777216"),
    "no object": (tensors_file([]), "no JSON object"),
    "no json": (tensors_file(b"{]"), "cannot be read"),
    "deep json": (tensors_file(b'{"a":' + b"[" * 1_000_000), "deeper than 400"),
    "key twice": (tensors_file(b'{"a":1,"a":2}'), "key 'a' twice"),
    "metadata": (tensors_file({"__metadata__": {"a": 1}}), "__metadata__"),
    "metadata that is none": (tensors_file({"__metadata__": []}), "__metadata__"),
    "no entry": (tensors_file({"a": 1}), "keys"),
    "other keys": (tensors_file({"a": {**OK, "more": 1}}, bytes(8)), "keys"),
    "unknown dtype": (tensors_file({"a": entry("F8_E4M3", [8], 0, 8)}, bytes(8)), "F8_E4M3.*NumPy does not have"),
    "dtype that is a list": (tensors_file({"a": {**OK, "dtype": ["F32"]}}, bytes(8)), "dtype"),
    "negative": (tensors_file({"a": entry("F32", [-2], 0, 8)}, bytes(8)), "shape"),
    "two negatives": (tensors_file({"a": entry("F32", [-1, -2], 0, 8)}, bytes(8)), "shape"),
    "overflow": (tensors_file({"a": entry("F32", [2**62, 4], 0, 8)}, bytes(8)), "takes"),
    "true": (tensors_file({"a": entry("F32", [True, 2], 0, 8)}, bytes(8)), "shape"),
    "fraction": (tensors_file({"a": entry("F32", [2.0], 0, 8)}, bytes(8)), "shape"),
    "short": (tensors_file({"a": OK}, bytes(7)), "end at byte"),
    "long": (tensors_file({"a": OK}, bytes(9)), "end at byte"),
    "span": (tensors_file({"a": entry("F32", [2], 0, 9)}, bytes(9)), "takes 8 bytes"),
    "backwards": (tensors_file({"a": entry("F32", [2], 8, 0)}, bytes(8)), "takes"),
    "negative offset": (tensors_file({"a": entry("F32", [2], -8, 0)}, bytes(8)), "offsets"),
    "beyond the file": (tensors_file({"a": entry("F32", [2**40], 0, 2**42)}, bytes(8)), "end at byte"),
    "overlap": (tensors_file({"a": OK, "b": OK}, bytes(8)), "overlap or leave a gap"),
    "half an overlap": (tensors_file({"a": OK, "b": entry("F32", [2], 4, 12)}, bytes(12)), "overlap"),
    "gap": (tensors_file({"a": OK, "b": entry("F32", [2], 12, 20)}, bytes(20)), "gap"),
    "gap at the start": (tensors_file({"a": entry("F32", [2], 4, 12)}, bytes(12)), "gap"),
    "empty array in the middle of another": (
        tensors_file({"a": OK, "b": entry("F32", [0], 4, 4)}, bytes(8)),
        "overlap",
    ),
    "empty array far away": (tensors_file({"a": OK, "b": entry("F32", [0], 99, 99)}, bytes(8)), "gap"),
    "one offset": (tensors_file({"a": {**OK, "data_offsets": [0]}}, bytes(8)), "offsets"),
    "long number": (tensors_file(b'{"a":' + b"9" * 5000 + b"}"), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_a_hostile_safetensors_file(tmp_path: Path, name: str) -> None:
    data, message = BAD_TENSORS[name]
    tracemalloc.start()
    try:
        error = refused(tmp_path / "a.safetensors", data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert re.search(message, str(error)), error
    assert peak < 3 * len(data) + (1 << 17)
    assert len(str(error)) < 700


def mutated(data: bytes, draw: random.Random, fields: list[tuple[int, int]]) -> bytes:
    """data after one to three changes: bits, bytes, cuts, insertions, moved pieces, numbers in the given fields."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 3])):
        a, b = sorted(draw.randrange(len(changed) + 1) for _ in range(2))
        b = min(b, a + draw.choice([1, 2, 8, 64, 4096]))
        kind = draw.choice(["bit", "byte", "cut", "insert", "copy", "swap", "zero", "field", "field"])
        if kind == "bit" and a < len(changed):
            changed[a] ^= 1 << draw.randrange(8)
        elif kind == "byte" and a < len(changed):
            changed[a] = draw.randrange(256)
        elif kind == "cut":
            del changed[a:b]
        elif kind == "insert":
            changed[a:a] = draw.choice([draw.randbytes(b - a), b"0", b" ", b"PK\5\6", b"PK\1\2", b"[", b"-"])
        elif kind == "copy":
            place = draw.randrange(len(changed) + 1)
            changed[place:place] = changed[a:b]
        elif kind == "swap":
            place = draw.randrange(len(changed) + 1)
            changed[place : place + b - a] = changed[a:b]
        elif kind == "zero":
            changed[a:b] = bytes(b - a)
        elif kind == "field":
            place, width = draw.choice(fields)
            top = 1 << (8 * width)
            old = int.from_bytes(changed[place : place + width], "little")
            new = draw.choice([0, 1, top - 1, top // 2, old + 1, old - 1, 2 * old, draw.randrange(top), len(changed)])
            changed[place : place + width] = (new % top).to_bytes(width, "little")
    return bytes(changed)


def zip_fields(data: bytes) -> list[tuple[int, int]]:
    """Where the numbers of a zip file's records stand, and how many bytes each has."""
    widths = {
        b"PK\3\4": [2, 2, 2, 2, 2, 4, 4, 4, 2, 2],
        b"PK\1\2": [2, 2, 2, 2, 2, 2, 4, 4, 4, 2, 2, 2, 2, 2, 4, 4],
        b"PK\6\6": [8, 2, 2, 4, 4, 8, 8, 8, 8],
        b"PK\6\7": [4, 8, 4],
        b"PK\5\6": [2, 2, 2, 2, 4, 4, 2],
        b"\1\0\x10\0": [8, 8],
        b"\1\0\x18\0": [8, 8, 8],
    }
    found = []
    for sign, fields in widths.items():
        for match in re.finditer(re.escape(sign), data):
            place = match.end()
            for width in fields:
                found.append((place, width))
                place += width
    return found


def peak_memory() -> int:
    """The most memory this process has had, in bytes."""
    resource = pytest.importorskip("resource")
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def test_no_mutation_of_an_npz_file_loads_as_another_state(tmp_path: Path, npz: bytes) -> None:
    """MINIGRAD_MUTATIONS in the environment sets how many are tried, 10000 where it is not set."""
    draw, fields, path = random.Random(1), zip_fields(npz), tmp_path / "a.npz"
    before, loads = peak_memory(), 0
    for _ in range(MUTATIONS):
        data = mutated(npz, draw, fields)
        put(path, data)
        try:
            loaded = mg.load(path)
        except mg.CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017 (most raise, and those that do not are looked at)
        else:
            loads += 1
            assert data == npz, "no two files are the same state"
            assert same(loaded, STATE)
    assert loads < MUTATIONS / 20
    assert peak_memory() - before < 64 << 20
    print(f"{MUTATIONS} mutations of an .npz: {loads} left the file as it was, the others raised CheckpointError")


def test_no_mutation_of_a_safetensors_file_gives_what_the_library_does_not(tmp_path: Path) -> None:
    """MINIGRAD_MUTATIONS in the environment sets how many are tried, 10000 where it is not set."""
    library = pytest.importorskip("safetensors.numpy")
    draw, path = random.Random(2), tmp_path / "a.safetensors"
    numbers = [(match.start(), 1) for match in re.finditer(rb"\d", TENSORS)]
    before = peak_memory()
    loads = sum(agrees(path, mutated(TENSORS, draw, [(0, 8), *numbers]), library) for _ in range(MUTATIONS))
    assert 0 < loads < MUTATIONS / 2
    assert peak_memory() - before < 64 << 20
    print(
        f"{MUTATIONS} mutations of a .safetensors: {loads} are well-formed and load, the others raised CheckpointError"
    )
