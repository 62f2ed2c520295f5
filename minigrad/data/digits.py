"""The handwritten digits that come with the package, and what a data set is put through."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.contract import check_labels
from minigrad.errors import ArgumentError, ShapeError, describe

__all__ = ["load_digits", "one_hot", "split"]

Array = NDArray[Any]
Pair = tuple[Array, Array]


def load_digits(*, normalize: bool = True, flatten: bool = True, one_hot_label: bool = False) -> Pair:
    """(x, t): 1797 handwritten digits and what each one shows. The options are those of the book's load_mnist.

    x: images of 8 x 8 grey values, float64 in rows of 64; for flatten=False of shape (1797, 8, 8).
    normalize: values from 0 (paper) to 1 (ink), in steps of 1/16; otherwise uint8 from 0 to 16.
    t: int64 labels from 0 to 9, or with one_hot_label float64 rows of ten.
    The arrays are the caller's own. Source and licence (CC BY 4.0): minigrad/data/digits.md.
    Source: Deep Learning from Scratch, section 3.6.1, on other images.

    >>> x, t = load_digits()
    >>> x.shape, x.max(), t[:5]
    ((1797, 64), np.float64(1.0), array([0, 1, 2, 3, 4]))
    """
    file = resources.files("minigrad.data") / "digits.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    x = images.reshape(len(images), -1) if flatten else images
    t = labels.astype(np.int64)
    return (x / 16 if normalize else x), (one_hot(t, 10) if one_hot_label else t)


def split(x: ArrayLike, t: ArrayLike, *, test: float = 0.2, seed: int = 0) -> tuple[Pair, Pair]:
    """(x_train, t_train), (x_test, t_test): the samples shuffled, and a part of them put aside.

    x, t: arrays with one sample in each entry of their first axis. test: the part put aside, between 0 and 1.
    seed: the same seed gives the same split. The arrays are copies.
    Raises ShapeError for different numbers of samples, ArgumentError for a part that leaves either side empty.

    >>> (x_train, t_train), (x_test, t_test) = split(np.arange(10.0), np.arange(10), test=0.3)
    >>> len(x_train), len(x_test), np.array_equal(x_test, t_test)
    (7, 3, True)
    """
    x, t = np.asarray(x), np.asarray(t)
    if not x.ndim or not t.ndim or len(x) != len(t):
        raise ShapeError(
            "split", f"x is {describe(x)}, t is {describe(t)}", "as many labels as samples", "look at len(x), len(t)"
        )
    n = round(len(x) * test) if 0 < test < 1 else 0
    if not 0 < n < len(x):
        raise ArgumentError(
            "split: test",
            f"test={test} of {len(x)} samples",
            "a part between 0 and 1 that leaves samples on both sides",
            "pass test=0.2, for example",
        )
    order = np.random.default_rng(seed).permutation(len(x))
    return (x[order[n:]], t[order[n:]]), (x[order[:n]], t[order[:n]])


def one_hot(t: ArrayLike, classes: int) -> Array:
    """out[i, t[i]] = 1 and 0 elsewhere: class numbers as rows of float64.

    t: integers from 0 to classes - 1, of any shape; the result has one axis more.
    Raises DTypeError for labels that are not integers, LabelError for one out of range, negative ones too.

    >>> one_hot([2, 0], 3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    return label_rows("one_hot: t", np.asarray(t), classes)


def label_rows(where: str, t: Array, classes: int) -> Array:
    """one_hot, with errors in the name of the function and argument that the labels came in by."""
    check_labels(where, t, classes)
    out = np.zeros((*t.shape, classes))
    np.put_along_axis(out, t.astype(np.int64)[..., None], 1, -1)
    return out
