"""The files of MNIST from public mirrors: only when asked for, checked, and resumed where a download broke off."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minigrad.errors import CheckpointError

__all__ = ["FILES", "MIRRORS", "download_files"]

# Asked in this order. The first is the one that torchvision.datasets.MNIST reads, the second is Google's copy.
MIRRORS = ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"]

# Bytes and SHA-256 of the packed files, as torchvision's Ruby port (lib/torchvision/datasets/mnist.rb) and others
# publish them, beside the MD5 sums that torchvision itself has.
FILES = {
    "train-images-idx3-ubyte.gz": (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    "train-labels-idx1-ubyte.gz": (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    "t10k-images-idx3-ubyte.gz": (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    "t10k-labels-idx1-ubyte.gz": (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
}

_TIMEOUT = 30.0  # seconds without a byte
_TRIES = 5  # connections to one mirror: each goes on where the last one broke off
_CHUNK = 2**16


def download_files(directory: Path, names: list[str]) -> None:
    """Fetches these files into directory, which is made where there is none; a file is there whole or not at all.

    A file arrives as name.part and takes its name once its size and SHA-256 are right; a .part that is there already is
    gone on with. One process at a time fetches into a directory, where the system can lock one.
    Raises CheckpointError where no mirror gives the file, or where it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _alone(directory):
            for name in names:
                if not (directory / name).exists():
                    _download(directory, name)
    except OSError as error:  # of the disk: those of the network are seen to below
        raise CheckpointError(
            "load_mnist: path", f"{directory} cannot be written: {error}", "a directory to put the files in",
            "check its permissions and the space that is left",
        ) from error  # fmt: skip


def _download(directory: Path, name: str) -> None:
    open_line = False

    def show(have: int) -> None:
        nonlocal open_line
        open_line = True
        _show(name, have, FILES[name][0])

    try:
        _fetch(directory, name, show)
    except BaseException:  # an interrupt too: what is said of it begins on a line of its own
        if open_line and sys.stderr.isatty():
            sys.stderr.write("\n")
        raise


def _fetch(directory: Path, name: str, show: Callable[[int], None]) -> None:
    size, digest = FILES[name]
    part, reasons = directory / f"{name}.part", []
    for mirror in MIRRORS:
        reason = ""
        for _ in range(_TRIES):
            before = _length(part)
            if before < size:
                reason = _receive(mirror + name, part, size, show)
            got = _length(part)
            if got == size and _digest(part) == digest:
                os.replace(part, directory / name)
                _show(name, size, size, "\n")
                return
            if got >= size:
                reason = reason or f"its SHA-256 is not {digest}"
                part.unlink()
                if not before:
                    break  # all of it came from here
            elif got <= before:
                break  # no further
        reasons.append(f"{mirror}: {reason}")
    if not _length(part):
        part.unlink(missing_ok=True)
    manual = ", ".join(name.removesuffix(".gz") for name in FILES)
    raise CheckpointError(
        "load_mnist: download", f"{name} from no mirror ({'; '.join(reasons)})", "a mirror that answers with that file",
        f"make it available by hand: put {manual}, plain or .gz, into {directory}; or call again, to go on",
    )  # fmt: skip


def _receive(url: str, part: Path, size: int, show: Callable[[int], None]) -> str:
    """Adds to part what the server sends beyond it; returns why it ended early, or nothing."""
    from http.client import HTTPException  # takes longer to import than all of minigrad

    with part.open("ab") as out:
        have = out.tell()
        chunks = _chunks(url, have)
        while True:
            try:
                start, chunk = next(chunks)
            except StopIteration:
                break
            except (OSError, HTTPException, ValueError) as error:
                return f"{type(error).__name__}: {error}"
            if start != have:
                out.truncate(start)
                have = start
            out.write(chunk)
            have += len(chunk)
            show(have)
            if have > size:
                return f"more than {size} bytes"
        out.flush()
        os.fsync(out.fileno())
    return "" if have == size else f"broke off after {have} of {size} bytes"


def _chunks(url: str, have: int) -> Iterator[tuple[int, bytes]]:
    """(where it belongs, bytes) of what the server sends: from `have` on, or from the start if it knows no ranges."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        answer = urlopen(Request(url, headers={"Range": f"bytes={have}-"} if have else {}), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        raise
    with answer:
        start = have if answer.status == 206 else 0
        said = answer.headers.get("Content-Range", "")
        if start and not said.startswith(f"bytes {start}-"):
            raise ValueError(f"Content-Range: {said!r} for bytes={start}-")
        while chunk := answer.read(_CHUNK):
            yield start, chunk
            start += len(chunk)


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _show(name: str, have: int, size: int, end: str = "") -> None:
    """One line that changes, on a terminal; elsewhere one for each file that is whole."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{name}  {have / 1e6:.1f} of {size / 1e6:.1f} MB{end}")
    elif end:
        sys.stderr.write(f"{name}  {size / 1e6:.1f} MB{end}")


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Waits until no other process is in here with the same directory; its end, of whatever kind, lets the next in."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    handle: Any = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems over a network lock nothing
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
