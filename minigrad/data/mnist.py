"""MNIST from its four files on disk, checked before they are believed; fetched when asked for."""

from __future__ import annotations

import gzip
import os
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from minigrad.data.digits import one_hot
from minigrad.data.download import FILES, download_files
from minigrad.errors import ArgumentError, CheckpointError, describe

__all__ = ["load_mnist"]

Array = NDArray[Any]
Pair = tuple[Array, Array]

# The most that is unpacked of one gzip file, five times what MNIST has.
_LIMIT = 2**28
_CHUNK = 2**20


def load_mnist(
    path: str | os.PathLike[str],
    *,
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    download: bool = False,
) -> tuple[Pair, Pair]:
    """(x_train, t_train), (x_test, t_test): images of 28 x 28 grey values and the digit that each one shows.

    path: the directory of the files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
        t10k-labels-idx1-ubyte, each plain or with .gz; train-images.idx3-ubyte and so on will do as well.
    x: float32 (N, 784); for flatten=False of shape (N, 1, 28, 28).
    normalize: values from 0 to 1, grey / 255; otherwise uint8 from 0 to 255.
    t: int64 labels from 0 to 9, or with one_hot_label float64 rows of ten.
    download: fetch the files that are missing, 11.6 MB for all four, and check their sums; the directory is made
        where there is none. Without it nothing is read but the files.
    N is what the files say, 60000 and 10000 in those of the source: other counts pass if images and labels agree.
    Raises CheckpointError for files that are missing, damaged, or too large (256 MB unpacked), and for a download that
    fails; what had arrived of a file is kept as .part, for the next call to go on with.
    Source: Deep Learning from Scratch, section 3.6.1; Y. LeCun, C. Cortes, C. Burges, The MNIST database.

    >>> load_mnist("nowhere")
    Traceback (most recent call last):
    minigrad.errors.CheckpointError: load_mnist: path: no directory nowhere; expected the files ...
    """
    directory = _directory(path, download)
    files = _find(directory)
    if download and None in files:
        download_files(directory, [name for name, file in zip(FILES, files, strict=True) if file is None])
        files = _find(directory)
    missing = [name for name, file in zip(FILES, files, strict=True) if file is None]
    if missing:
        raise _missing(f"{', '.join(name.removesuffix('.gz') for name in missing)} not found in {directory}")
    with ExitStack() as stack:
        streams = [_Idx(stack, file, 3 if "images" in file.name else 1) for file in files if file is not None]
        for images, labels in (streams[:2], streams[2:]):
            if images.count != labels.count:
                raise _damaged(
                    labels.file, f"{labels.count} labels", f"{images.count}, one for each image of {images.file.name}"
                )
        arrays = [stream.array() for stream in streams]
    parts = []
    for x, t, file in (arrays[0], arrays[1], files[1]), (arrays[2], arrays[3], files[3]):
        if t.max() > 9:
            first = int((t > 9).argmax())
            raise _damaged(file, f"label {t[first]} at position {first}", "labels from 0 to 9")
        x = x.reshape(len(x), -1) if flatten else x[:, None]
        if normalize:
            x = x.astype(np.float32)
            x /= 255
        parts.append((x, one_hot(t, 10) if one_hot_label else t.astype(np.int64)))
    return parts[0], parts[1]


def _directory(path: Any, download: bool) -> Path:
    try:
        directory = Path(path)
    except TypeError:
        raise ArgumentError(
            "load_mnist: path", describe(path), "the directory of the files", 'pass load_mnist("data"), for example'
        ) from None
    if not directory.is_dir() and not (download and not directory.exists()):
        raise _missing(f"{directory} is no directory" if directory.exists() else f"no directory {directory}")
    return directory


def _find(directory: Path) -> list[Path | None]:
    """The file of each name, plain before packed; None where there is none."""
    found: list[Path | None] = []
    for packed in FILES:
        plain = packed.removesuffix(".gz")
        dotted = plain.replace("-idx", ".idx")
        names = (plain, dotted, packed, f"{dotted}.gz")
        found.append(next((directory / name for name in names if (directory / name).is_file()), None))
    return found


def _missing(got: str) -> CheckpointError:
    names = [name.removesuffix(".gz") for name in FILES]
    return CheckpointError(
        "load_mnist: path",
        got,
        f"the files {', '.join(names)} in it, each plain or .gz ({names[0].replace('-idx', '.idx')} will do as well)",
        "pass download=True to fetch what is missing, or put the files there",
    )


def _damaged(file: Any, got: str, expected: str, fix: str = "") -> CheckpointError:
    fix = fix or "make sure that it is a file of MNIST: remove it and pass download=True for a fresh one"
    return CheckpointError("load_mnist: path", f"{file}: {got}", expected, fix)


class _Idx:
    """One file in the IDX format: its header is read and checked here, its content by array()."""

    def __init__(self, stack: ExitStack, file: Path, axes: int) -> None:
        self.file, self.axes = file, axes
        self.packed = file.name.endswith(".gz")
        try:
            self.raw: IO[bytes] = stack.enter_context(file.open("rb"))
        except OSError as error:
            raise _damaged(file, f"cannot be read: {error.strerror}", "a file", "check its permissions") from None
        self.stream: Any = stack.enter_context(gzip.GzipFile(fileobj=self.raw)) if self.packed else self.raw
        length = 4 + 4 * axes
        header = self._read(length)
        if len(header) < length:
            raise _damaged(file, f"{len(header)} bytes", f"a header of {length}")
        magic, self.count, *sides = (int.from_bytes(header[i : i + 4], "big") for i in range(0, length, 4))
        if magic != 0x0800 + axes:
            hint = "call it .gz: it starts as gzip files do" if header[:2] == b"\x1f\x8b" else ""
            raise _damaged(file, f"magic number {magic:#010x}", f"{0x0800 + axes:#010x}, bytes in {axes} axes", hint)
        if sides not in ([], [28, 28]):
            raise _damaged(file, f"images of {sides[0]} x {sides[1]}", "28 x 28")
        self.size = self.count * (784 if sides else 1)
        on_disk = os.fstat(self.raw.fileno()).st_size
        if not self.count:
            raise _damaged(file, "no entries", "one at least")
        if self.packed and (self.size > _LIMIT or self.size > 1032 * on_disk):  # deflate packs no tighter than that
            most = min(_LIMIT, 1032 * on_disk)
            raise _damaged(file, f"a header that says {self.size} bytes", f"at most {most} in {on_disk} of gzip")
        if not self.packed and on_disk != length + self.size:
            raise _damaged(file, f"{on_disk} bytes", f"{length + self.size}, by the {self.count} entries of its header")

    def array(self) -> Array:
        """The content, uint8 (count, 28, 28) or (count,); memory grows with what is there, not with what is said."""
        content = bytearray()
        while len(content) < self.size:
            chunk = self._read(min(_CHUNK, self.size - len(content)))
            if not chunk:
                raise _damaged(self.file, f"{len(content)} bytes after its header", f"{self.size}, by that header")
            content += chunk
        if self._read(1):
            raise _damaged(self.file, f"more than {self.size} bytes after its header", f"{self.size}, by that header")
        array = np.frombuffer(content, np.uint8)
        return array.reshape(self.count, 28, 28) if self.axes == 3 else array

    def _read(self, n: int) -> bytes:
        try:
            return bytes(self.stream.read(n))
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(self.file, f"cannot be unpacked or read ({error})", "a whole file") from None
