"""load_mnist as the book's dataset.mnist has it, from files that are there or from the digits of the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import data
from minigrad.data.digits import load_digits, one_hot, split

__all__ = [
    "img_dim",
    "img_size",
    "init_mnist",
    "load_mnist",
    "np",
    "scaled_digits",
]  # the book's scripts may take np from here

Array = NDArray[Any]
Pair = tuple[Array, Array]

img_dim = (1, 28, 28)
img_size = 784

_STANDING_IN = (
    "no MNIST files found: 1400 digits of scikit-learn's set to train and 300 to test stand in, scaled to 28 x 28"
    " (minigrad.data.load_mnist(path, download=True) gets the files, MINIGRAD_MNIST=path names their directory)"
)

_told: set[str] = set()


def load_mnist(normalize: bool = True, flatten: bool = True, one_hot_label: bool = False) -> tuple[Pair, Pair]:
    """(x_train, t_train), (x_test, t_test): images of 28 x 28 and the digit that each one shows.

    normalize: float32 from 0 to 1; otherwise uint8 from 0 to 255.
    flatten: x is (N, 784); otherwise (N, 1, 28, 28).
    one_hot_label: t is float64 rows of ten; otherwise int64 numbers.
    The files of MNIST, plain or .gz, are looked for in the directory that the environment variable MINIGRAD_MNIST
    names; if it is not set, in ./dataset, in the running script's directory and its dataset, and in the dataset
    beside that directory, as the book has it. Nothing is downloaded: minigrad.data.load_mnist(path, download=True)
    does that.
    Where there are none, 1700 of the digits of minigrad.data.load_digits stand in, 1400 to train and 300 to test, in
    an order that is always the same, with one line on stderr that says so; see scaled_digits.
    Raises CheckpointError for files that are incomplete or damaged, and for a MINIGRAD_MNIST without any.
    Source: Deep Learning from Scratch, section 3.6.1.

    >>> (x_train, t_train), (x_test, t_test) = load_mnist(flatten=False)
    >>> x_train.shape[1:], x_train.dtype, t_train.dtype
    ((1, 28, 28), dtype('float32'), dtype('int64'))
    """
    directory = _directory()
    if directory is not None:
        return data.load_mnist(directory, normalize=normalize, flatten=flatten, one_hot_label=one_hot_label)
    _tell(_STANDING_IN)
    return scaled_digits(normalize, flatten, one_hot_label)


def scaled_digits(normalize: bool = True, flatten: bool = True, one_hot_label: bool = False) -> tuple[Pair, Pair]:
    """Digits of minigrad.data.load_digits, in the size of MNIST's: 1400 to train, 300 to test, the 97 others left out.

    Their 8 x 8 grey values are interpolated linearly to 28 x 28 and rounded to uint8, as described for load_mnist.
    The order is always the same. Both numbers are multiples of 100, as MNIST's are: the book's scripts take batches of
    100, and print where a step's number is a multiple of train_size / batch_size.

    >>> (x_train, t_train), (x_test, t_test) = scaled_digits(normalize=False)
    >>> x_train.shape, x_test.shape, x_train.max()
    ((1400, 784), (300, 784), np.uint8(255))
    """
    images, t = load_digits(normalize=False, flatten=False)
    x = _enlarged(images).reshape(len(images), *((img_size,) if flatten else img_dim))
    if normalize:
        x = x.astype(np.float32) / np.float32(255)
    (x_train, t_train), (x_test, t_test) = split(x, one_hot(t, 10) if one_hot_label else t)
    return (x_train[:1400], t_train[:1400]), (x_test[:300], t_test[:300])


def init_mnist() -> None:
    """Says on stderr where load_mnist finds the files of MNIST, or that it takes the digits of the package.

    In the book this downloads and pickles the files; here minigrad.data.load_mnist(path, download=True) downloads them,
    and nothing needs to be pickled. Raises CheckpointError where load_mnist would.
    Source: Deep Learning from Scratch, dataset/mnist.py.

    >>> init_mnist()
    """
    directory = _directory()
    if directory is not None:
        data.load_mnist(directory)
        _tell(f"load_mnist reads the files of MNIST in {directory}")
    else:
        _tell(_STANDING_IN)


def _directory() -> Path | None:
    named = os.environ.get("MINIGRAD_MNIST")
    if named:
        return Path(named)
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    beside = Path(script).resolve().parent if script else Path.cwd()
    places = (Path("dataset"), beside, beside / "dataset", beside.parent / "dataset")
    return next((place for place in places if any(place.glob("*-images?idx3-ubyte*"))), None)


def _enlarged(images: Array) -> Array:
    """(N, 8, 8) from 0 to 16 as (N, 28, 28) from 0 to 255, each new point between the centres of the four nearest."""
    centres = (np.arange(28) + 0.5) * 8 / 28 - 0.5
    weights = np.maximum(0, 1 - abs(np.clip(centres, 0, 7)[:, None] - np.arange(8)))
    grey: Array = weights @ images.astype(np.float64) @ weights.T * (255 / 16)
    return np.rint(grey).astype(np.uint8)


def _tell(line: str) -> None:
    """The line on stderr, once a process."""
    if line not in _told:
        _told.add(line)
        print(f"minigrad.book: {line}", file=sys.stderr)
