"""load_mnist: what it returns, files that lie, and downloads from a server on this machine that misbehaves."""

from __future__ import annotations

import gzip
import hashlib
import io
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import ArgumentError, CheckpointError
from minigrad.data import download, load_mnist, mnist, one_hot

NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx(array: np.ndarray[Any, Any], magic: int | None = None, count: int | None = None) -> bytes:
    """An array in the IDX format, or one whose header lies."""
    shape = [len(array) if count is None else count, *array.shape[1:]]
    numbers = [0x0800 + array.ndim if magic is None else magic, *shape]
    return b"".join(int(n).to_bytes(4, "big") for n in numbers) + array.astype(np.uint8).tobytes()


def images(n: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), dtype=np.uint8)


IMAGES, LABELS = [images(12, 0), images(5, 1)], [np.arange(12) % 10, np.array([9, 0, 3, 3, 1])]
CONTENTS = dict(zip(NAMES, [idx(a) for pair in zip(IMAGES, LABELS, strict=True) for a in pair], strict=True))


def put(directory: Path, *, packed: bool = False, dotted: bool = False, **changed: bytes | None) -> Path:
    """The four files; changed has others' contents by the name's first two parts, None for no file."""
    directory.mkdir(exist_ok=True)
    for name, content in CONTENTS.items():
        key = "_".join(name.split("-")[:2])
        found = changed.get(key, content)
        if found is not None:
            file = name.replace("-idx", ".idx") if dotted else name
            raw = packed and key not in changed
            (directory / (f"{file}.gz" if packed else file)).write_bytes(gzip.compress(found) if raw else found)
    return directory


def refused(path: Any, *words: str, **options: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_mnist(path, **options)
    text = str(caught.value)
    for word in words:
        assert word in text
    assert all([caught.value.function, caught.value.got, caught.value.expected, caught.value.fix])
    return caught.value


# Reading


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_the_four_files_are_read_by_any_of_their_names(tmp_path: Path, packed: bool, dotted: bool) -> None:
    put(tmp_path, packed=packed, dotted=dotted)
    for (x, t), pixels, labels in zip(load_mnist(tmp_path), IMAGES, LABELS, strict=True):
        assert (x.dtype, t.dtype) == (np.float32, np.int64)
        assert np.array_equal(x, pixels.reshape(-1, 784) / np.float32(255))
        assert np.array_equal(t, labels)
        x[0], t[0] = 0, 0  # the caller's own


def test_the_options_are_those_of_the_book(tmp_path: Path) -> None:
    put(tmp_path)
    found = load_mnist(str(tmp_path), normalize=False, flatten=False, one_hot_label=True)
    for (x, t), pixels, labels in zip(found, IMAGES, LABELS, strict=True):
        assert (x.dtype, t.dtype) == (np.uint8, np.float64)
        assert np.array_equal(x, pixels[:, None])
        assert np.array_equal(t, one_hot(labels, 10))
        x[0] = 0
    (x, _), _ = load_mnist(tmp_path, flatten=False)
    assert (x.shape, x.dtype, x.max()) == ((12, 1, 28, 28), np.float32, 1.0)


def test_a_plain_file_comes_before_a_packed_one(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(b"not read")
    assert len(load_mnist(tmp_path)[0][0]) == 12


def test_what_is_missing_is_listed_with_where_and_how(tmp_path: Path) -> None:
    put(tmp_path, train_labels=None, t10k_images=None)
    (tmp_path / NAMES[1]).mkdir()  # a directory is no file
    error = refused(tmp_path, str(tmp_path), "download=True", "train-images.idx3-ubyte", ".gz")
    assert f"{NAMES[1]}, {NAMES[2]} not found" in error.got
    assert NAMES[0] not in error.got
    refused(tmp_path / "none", f"no directory {tmp_path / 'none'}", "download=True")
    refused(tmp_path / NAMES[0], "is no directory")
    refused(tmp_path / NAMES[0], "is no directory", download=True)
    with pytest.raises(ArgumentError, match="load_mnist: path: int 3"):
        load_mnist(3)  # type: ignore[arg-type]  # the mistake


def packed(content: bytes) -> bytes:
    """content as a .gz file without the time of day, which would be a part of a test's name."""
    return gzip.compress(content, mtime=0)


BOMB = packed(bytes(2**24))
HUGE = (0x0803).to_bytes(4, "big") + (340000).to_bytes(4, "big") + 2 * (28).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train_images", CONTENTS[NAMES[0]][:-1], ["9423 bytes", "9424"]),
        ("train_images", CONTENTS[NAMES[0]] + b"\0", ["9425 bytes", "9424"]),
        ("train_images", b"", ["0 bytes", "header of 16"]),
        ("train_labels", b"\0\0\x08\x01\0\0\0", ["7 bytes", "header of 8"]),
        ("train_images", idx(IMAGES[0], magic=0x0801), ["magic number 0x00000801", "0x00000803"]),
        ("train_labels", idx(LABELS[0], magic=0x01080000), ["magic number 0x01080000", "0x00000801"]),
        ("train_labels", CONTENTS[NAMES[0]], ["magic number 0x00000803", "0x00000801"]),
        ("train_images", packed(CONTENTS[NAMES[0]]), ["magic number 0x1f8b", "call it .gz"]),
        ("train_images", idx(IMAGES[0], count=2**32 - 1), ["9424 bytes", "3367254359296"]),
        ("train_images", idx(np.zeros((4, 14, 56))), ["14 x 56", "28 x 28"]),
        ("t10k_images", idx(IMAGES[1][:0]), ["no entries"]),
        ("t10k_labels", idx(LABELS[1][:4]), ["4 labels", "5, one for each image"]),
        ("t10k_labels", idx(np.array([1, 2, 10, 3, 4])), ["label 10 at position 2", "0 to 9"]),
    ],
)
def test_a_plain_file_that_lies_is_named_with_what_was_wanted(
    tmp_path: Path, name: str, content: bytes, words: list[str]
) -> None:
    put(tmp_path, **{name: content})
    refused(tmp_path, str(tmp_path / name.replace("_", "-")), *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CONTENTS[NAMES[0]], ["Not a gzipped file"]),
        (b"", ["0 bytes", "header of 16"]),
        (packed(CONTENTS[NAMES[0]])[:-9], ["cannot be unpacked"]),
        (packed(CONTENTS[NAMES[0]])[:200], ["cannot be unpacked"]),
        (packed(CONTENTS[NAMES[0]])[:-8] + b"12345678", ["cannot be unpacked", "CRC"]),
        (packed(CONTENTS[NAMES[0]]) + b"trailing", ["cannot be unpacked"]),
        (packed(CONTENTS[NAMES[0]] + b"\0"), ["more than 9408 bytes"]),
        (packed(CONTENTS[NAMES[0]][:-1]), ["9407 bytes", "9408"]),
        (BOMB, ["magic number 0x00000000"]),
        (packed(CONTENTS[NAMES[0]] + bytes(2**24)), ["more than 9408 bytes"]),
        (packed(idx(IMAGES[0], count=2**32 - 1)), ["3367254359280 bytes", "at most"]),
        (packed(HUGE), ["266560000 bytes", "at most"]),
        (packed(idx(IMAGES[0], count=3000)), ["12 labels", "3000"]),
    ],
)
def test_a_packed_file_that_lies_is_refused_in_bounded_memory(tmp_path: Path, content: bytes, words: list[str]) -> None:
    put(tmp_path, packed=True, train_images=content)
    load_mnist(put(tmp_path / "good"))  # whatever is loaded once
    tracemalloc.start()
    try:
        refused(tmp_path, f"{NAMES[0]}.gz" if "labels" not in words[0] else "labels", *words)
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()


def test_memory_grows_with_what_is_there(tmp_path: Path) -> None:
    short = gzip.compress(idx(IMAGES[0], count=12000))
    put(tmp_path, packed=True, train_images=short, train_labels=gzip.compress(idx(np.zeros(12000))))
    tracemalloc.start()
    try:
        refused(tmp_path, f"{NAMES[0]}.gz: 9408 bytes after its header", "9408000, by that header")
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()


def test_a_bomb_that_agrees_with_its_header_meets_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "_LIMIT", 9407)
    refused(put(tmp_path, packed=True), f"{NAMES[0]}.gz: a header that says 9408 bytes", "at most 9407")


@pytest.mark.parametrize("packed", [False, True])
def test_no_flipped_byte_passes_for_another_shape_or_crashes(tmp_path: Path, packed: bool) -> None:
    put(tmp_path, packed=packed)
    for name in NAMES[2:]:
        file = tmp_path / (f"{name}.gz" if packed else name)
        whole = file.read_bytes()
        for i in [*range(min(len(whole), 48)), *range(48, len(whole), 97), len(whole) - 1]:
            file.write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
            said, found = "", None
            try:
                found = load_mnist(tmp_path)[1]
            except CheckpointError as error:
                said = str(error)
            if found is None:
                assert name[:11] in said
            else:  # a pixel, another label, or a part of gzip's own header that says nothing about the content
                assert (found[0].shape, found[1].shape) == ((5, 784), (5,))
                assert found[1].max() <= 9
        file.write_bytes(whole)


# Downloading


class Mirror(ThreadingHTTPServer):
    """A server of the four files, packed; what it does wrong is in its attributes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}
        self.ranges, self.drops, self.missing = True, 0, False
        self.seen: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    """Answers GET, with Range if the server has ranges; drops the first `drops` connections half way."""

    server: Mirror

    def do_GET(self) -> None:
        name, wanted = self.path.lstrip("/"), self.headers["Range"]
        self.server.seen.append((name, wanted))
        if self.server.missing or name not in self.server.files:
            self.send_error(404)
            return
        whole = self.server.files[name]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start and start >= len(whole):
            self.send_error(416)
            return
        body = whole[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.drops and len(body) > 100:
            self.server.drops -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Mirror]]:
    """Two servers of the same files, and load_mnist told of them, and of what is right."""
    monkeypatch.setenv("no_proxy", "*")
    servers = [Mirror(), Mirror()]
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
    for thread in threads:
        thread.start()
    monkeypatch.setattr(download, "MIRRORS", [server.url for server in servers])
    sums = {name: (len(body), hashlib.sha256(body).hexdigest()) for name, body in servers[0].files.items()}
    monkeypatch.setattr(download, "FILES", sums)
    yield servers
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


def dead_url() -> str:
    """An address where nobody answers."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/"


def is_whole(path: Path, servers: list[Mirror]) -> bool:
    (x, t), _ = load_mnist(path)
    names = sorted(file.name for file in path.iterdir())
    return np.array_equal(t, LABELS[0]) and x.shape == (12, 784) and names == sorted(servers[0].files)


def test_the_sums_of_the_source_are_whole() -> None:
    assert [name.removesuffix(".gz") for name in download.FILES] == NAMES
    assert all(len(bytes.fromhex(digest)) == 32 and size > 4000 for size, digest in download.FILES.values())
    assert all(url.startswith("https://") and url.endswith("/") for url in download.MIRRORS)


def test_what_is_missing_is_fetched_when_asked_for(
    tmp_path: Path, mirrors: list[Mirror], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a" / "b"
    refused(path, "no directory")
    assert not mirrors[0].seen
    load_mnist(path, download=True)
    assert is_whole(path, mirrors)
    assert [name for name, _ in mirrors[0].seen] == list(mirrors[0].files)
    assert len(capsys.readouterr().err.splitlines()) == 4
    (path / f"{NAMES[2]}.gz").unlink()
    (path / f"{NAMES[3]}.gz").rename(path / f"{NAMES[3].replace('-idx', '.idx')}.gz")
    load_mnist(path, download=True)
    assert mirrors[0].seen[4:] == [(f"{NAMES[2]}.gz", None)]
    load_mnist(path, download=True)
    assert len(mirrors[0].seen) == 5
    assert not mirrors[1].seen


def test_a_terminal_sees_one_line_that_changes(
    tmp_path: Path, mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]  # what a terminal says
    monkeypatch.setattr(sys, "stderr", terminal)
    load_mnist(tmp_path, download=True)
    assert terminal.getvalue().count("\n") == 4
    assert terminal.getvalue().startswith(f"\r{NAMES[0]}.gz  0.0 of 0.0 MB\r")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_off_download_is_gone_on_with(tmp_path: Path, mirrors: list[Mirror], ranges: bool) -> None:
    name = f"{NAMES[0]}.gz"
    whole = mirrors[0].files[name]
    (tmp_path / f"{name}.part").write_bytes(whole[:700])
    mirrors[0].ranges = ranges
    load_mnist(tmp_path, download=True)
    assert is_whole(tmp_path, mirrors)
    assert mirrors[0].seen[0] == (name, "bytes=700-")
    assert [seen for seen, _ in mirrors[0].seen].count(name) == 1
    assert not mirrors[1].seen


def test_a_dropped_connection_is_taken_up_where_it_was(tmp_path: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].drops = 2
    load_mnist(tmp_path, download=True)
    assert is_whole(tmp_path, mirrors)
    size = len(mirrors[0].files[f"{NAMES[0]}.gz"])
    ranges = [wanted for name, wanted in mirrors[0].seen if name == f"{NAMES[0]}.gz"]
    assert ranges == [None, f"bytes={size // 2}-", f"bytes={size // 2 + (size - size // 2) // 2}-"]
    assert not mirrors[1].seen


@pytest.mark.parametrize("part", [b"x" * 700, b"x" * 20000, None])
def test_a_part_that_is_something_else_is_fetched_anew(
    tmp_path: Path, mirrors: list[Mirror], part: bytes | None
) -> None:
    name = f"{NAMES[0]}.gz"
    whole = mirrors[0].files[name]
    (tmp_path / f"{name}.part").write_bytes(bytes(len(whole)) if part is None else part)
    load_mnist(tmp_path, download=True)
    assert is_whole(tmp_path, mirrors)
    assert not mirrors[1].seen


def test_a_part_that_is_whole_needs_no_network(tmp_path: Path, mirrors: list[Mirror]) -> None:
    for name, body in mirrors[0].files.items():
        (tmp_path / f"{name}.part").write_bytes(body)
    load_mnist(tmp_path, download=True)
    assert is_whole(tmp_path, mirrors)
    assert not mirrors[0].seen


def test_the_second_mirror_is_asked_where_the_first_fails(
    tmp_path: Path, mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors[0].missing = True
    load_mnist(tmp_path / "404", download=True)
    assert is_whole(tmp_path / "404", mirrors)
    mirrors[0].missing = False
    good = mirrors[0].files
    for kind, change in {
        "wrong": lambda b: b[:-1] + b"x",
        "long": lambda b: b + bytes(9),
        "short": lambda b: b[:-9],
    }.items():
        mirrors[0].files = {name: change(body) for name, body in good.items()}
        load_mnist(tmp_path / kind, download=True)
        assert is_whole(tmp_path / kind, mirrors[1:])
    monkeypatch.setattr(download, "MIRRORS", [dead_url(), mirrors[1].url])
    load_mnist(tmp_path / "dead", download=True)
    assert is_whole(tmp_path / "dead", mirrors)


def test_a_mirror_that_sends_without_end_is_cut_off(
    tmp_path: Path, mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(download, "_show", lambda name, have, size, end="": taken.append(have))
    mirrors[0].files = {name: body + bytes(2**22) for name, body in mirrors[0].files.items()}
    load_mnist(tmp_path, download=True)
    assert is_whole(tmp_path, mirrors[1:])
    assert max(taken) <= 2**16


def test_without_a_network_the_error_says_how_to_do_it_by_hand(
    tmp_path: Path, mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MIRRORS", [dead_url(), dead_url()])
    error = refused(tmp_path / "new", *(f"{url}: URLError" for url in download.MIRRORS), download=True)
    assert all(name in error.fix for name in (*NAMES, str(tmp_path / "new"), "by hand"))
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(CheckpointError, match="not found in"):
        load_mnist(tmp_path / "new")


def test_no_mirror_with_the_right_file_leaves_none(tmp_path: Path, mirrors: list[Mirror]) -> None:
    for server in mirrors:
        server.files = {name: body[:-1] + b"x" for name, body in server.files.items()}
    refused(tmp_path, "SHA-256 is not", download=True)
    assert list(tmp_path.iterdir()) == []
    for server in mirrors:
        server.missing = True
    refused(tmp_path, "HTTP Error 404", download=True)


def test_an_interrupted_download_leaves_a_part_and_no_file(
    tmp_path: Path, mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, name = download._chunks, f"{NAMES[0]}.gz"

    def interrupted(url: str, have: int) -> Iterator[tuple[int, bytes]]:
        start, chunk = next(real(url, have))
        yield start, chunk[:500]
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_chunks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_mnist(tmp_path, download=True)
    assert [(file.name, file.stat().st_size) for file in tmp_path.iterdir()] == [(f"{name}.part", 500)]
    monkeypatch.setattr(download, "_chunks", real)
    load_mnist(tmp_path, download=True)
    assert is_whole(tmp_path, mirrors)
    assert mirrors[0].seen[1] == (name, "bytes=500-")


def test_a_disk_that_cannot_be_written_is_said(
    tmp_path: Path, mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    refused(tmp_path / "file" / "below", "cannot be written", download=True)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    refused(tmp_path, "cannot be written", "No space left", download=True)
    assert not (tmp_path / f"{NAMES[0]}.gz").exists()


def test_two_at_once_fetch_one_after_the_other(tmp_path: Path, mirrors: list[Mirror]) -> None:
    pytest.importorskip("fcntl")
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(load_mnist(tmp_path, download=True)[0][0]))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [12] * 4
    assert is_whole(tmp_path, mirrors)
    assert len(mirrors[0].seen) == 4


def test_the_network_is_not_imported_before_it_is_wanted() -> None:
    code = "import sys, minigrad.data; print('urllib.request' in sys.modules, 'http.client' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False False\n"
