"""Data sets: samples with a number, alone, as a part of another set, or split by chance."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.contract import is_real, native, numbers
from minigrad.errors import ArgumentError, DTypeError, LabelError, ShapeError, describe
from minigrad.random import chosen
from minigrad.tensor import Tensor, plain

__all__ = ["Dataset", "Subset", "TensorDataset", "random_split"]

Array = NDArray[Any]
Batch = tuple[Array, ...]


class Dataset:
    """Samples 0 to len - 1: a subclass defines __len__(self) and __getitem__(self, index).

    A sample is a tuple of arrays or numbers, such as (x, t); anything else counts as a tuple of one.
    A subclass that can give many samples at once faster than one by one defines batch(self, indices) too.
    A list, an array, or any other object with len() and [index] serves as a data set as well; but not a tuple of
    arrays, (x, t), which would be a data set of two samples: TensorDataset(x, t) is meant.
    Raises DTypeError where a subclass lacks one of the two methods.

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 5
    ...     def __getitem__(self, index):
    ...         return index, index**2
    >>> Squares()[3]
    (3, 9)
    >>> Squares().batch([1, 3])
    (array([1, 3]), array([1, 9]))
    """

    def __len__(self) -> int:
        raise self._lacks("__len__(self)", "the number of samples")

    def __getitem__(self, index: Any) -> Any:
        raise self._lacks("__getitem__(self, index)", "a tuple of arrays or numbers")

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))  # without it Python would ask on until an IndexError

    def batch(self, indices: Any) -> Batch:
        """The samples of these numbers, stacked: for each part of a sample one array, samples along axis 0."""
        return collate([self[int(i)] for i in indices], indices)

    def _lacks(self, method: str, returned: str) -> DTypeError:
        name = type(self).__name__
        return DTypeError(name, f"no {method}", f"one that returns {returned}", f"define {method} in class {name}")


class TensorDataset(Dataset):
    """Sample i is the tuple of the i-th entries of the arrays: (x[i], t[i]).

    arrays: arrays, Tensors or lists of numbers of any dtypes, with as many entries in their first axes. They are not
        copied; of a Tensor it is the array that counts, without its graph.
    Raises ShapeError for different numbers of samples, DTypeError for what holds no numbers.

    >>> data = TensorDataset([[0.0, 1.0], [2.0, 3.0]], [0, 1])
    >>> len(data), data[1]
    (2, (array([2., 3.]), np.int64(1)))
    """

    def __init__(self, *arrays: Any) -> None:
        if not arrays:
            raise ArgumentError("TensorDataset", "no arrays", "one at least", "pass TensorDataset(x, t)")
        names = ["x", "t"] if len(arrays) == 2 else [f"array {i}" for i in range(len(arrays))]
        found = [
            numbers(f"TensorDataset: {name}", plain(a), None, copy=False) for name, a in zip(names, arrays, strict=True)
        ]
        for name, array in zip(names, found, strict=True):
            if not array.ndim:
                raise ShapeError(
                    f"TensorDataset: {name}", describe(array), "samples along a first axis", "pass an array of samples"
                )
            if len(array) != len(found[0]):
                raise ShapeError(
                    "TensorDataset",
                    f"{names[0]} has {len(found[0])} samples, {name} has {len(array)}",
                    "as many samples in each array",
                    "look at their shapes",
                )
        self.arrays = tuple(found)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> Batch:
        return tuple([array[index] for array in self.arrays])

    def batch(self, indices: Any) -> Batch:
        """The samples of these numbers: out = array[indices] for each array, copies."""
        return tuple([array.take(indices, axis=0) for array in self.arrays])

    def __repr__(self) -> str:
        return f"TensorDataset({', '.join(map(describe, self.arrays))})"


class Subset(Dataset):
    """Sample i is dataset[indices[i]].

    indices: whole numbers from -len(dataset) to len(dataset) - 1, negative ones counted from the end.
    Raises DTypeError for indices that are no integers (a mask of booleans too), LabelError for one out of range.

    >>> Subset(["a", "b", "c"], [2, 0])[0]
    'c'
    """

    def __init__(self, dataset: Any, indices: Any) -> None:
        size = sized("Subset", dataset)
        found = np.asarray(indices) if np.size(indices) else np.zeros(0, np.int64)
        if found.dtype.kind not in "iu" or found.ndim != 1:
            raise DTypeError(
                "Subset: indices",
                describe(found),
                "one row of whole numbers",
                "pass np.flatnonzero(mask) for a mask" if found.dtype.kind == "b" else "pass a list of sample numbers",
            )
        bad = np.flatnonzero((found < -size) | (found >= size))
        if bad.size:
            shown = ", ".join(f"{found[i]} at position {i}" for i in bad[:3])
            raise LabelError(
                "Subset: indices",
                f"{shown}{f' and {bad.size - 3} more' if bad.size > 3 else ''} for {size} samples",
                f"numbers from {-size} to {size - 1}",
                "count samples from 0",
            )
        found = found.astype(np.int64)
        self.dataset, self.indices = dataset, np.where(found < 0, found + size, found)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.batch(np.arange(len(self))[index])
        return self.dataset[int(self.indices[index])]

    def batch(self, indices: Any) -> Batch:
        """The samples of these numbers, stacked; at once where the data set below gives them at once."""
        out: Batch = fetch(self.dataset, self.indices[indices])
        return out


def random_split(dataset: Any, lengths: Sequence[float], generator: np.random.Generator | None = None) -> list[Subset]:
    """Parts of a data set that share no sample and together have all: one permutation, cut at lengths.

    lengths: whole numbers that sum to len(dataset); or fractions, floats that sum to 1: part i has
        floor(fraction * len(dataset)) samples, and what is left goes one by one to the first parts, as in PyTorch.
    Raises ArgumentError for lengths that are negative or do not sum; warns of a fraction that gives no sample.

    >>> parts = random_split(range(10), [0.75, 0.25], generator=np.random.default_rng(0))
    >>> [len(part) for part in parts], sorted([*parts[0], *parts[1]]) == list(range(10))
    ([8, 2], True)
    """
    size, rng = sized("random_split", dataset), chosen(generator, "random_split")
    counts = _counts(list(lengths) if np.iterable(lengths) else [lengths], size)
    ends = np.cumsum(counts)
    order = rng.permutation(size)
    return [Subset(dataset, order[end - count : end]) for count, end in zip(counts, ends, strict=True)]


def _counts(lengths: list[Any], size: int) -> list[int]:
    whole = all(isinstance(n, (int, np.integer)) for n in lengths)
    real = all(map(is_real, lengths))
    sums = sum(lengths) == size if whole else real and math.isclose(sum(lengths), 1)
    if not lengths or not real or not sums or min(lengths) < 0:
        raise ArgumentError(
            "random_split: lengths",
            f"{lengths}{f', which sum to {sum(lengths)},' if real and lengths else ''} for {size} samples",
            f"whole numbers that sum to {size}, or fractions that sum to 1, none negative",
            f"pass [{size - size // 5}, {size // 5}] or [0.8, 0.2], for example",
        )
    if whole:
        return [int(n) for n in lengths]
    counts = [math.floor(size * fraction) for fraction in lengths]
    for i in range(size - sum(counts)):
        counts[i % len(counts)] += 1
    if 0 in counts:
        warnings.warn(f"random_split: the parts of {size} samples are {counts}, one is empty", stacklevel=3)
    return counts


def sized(function: str, dataset: Any) -> int:
    """len(dataset); DTypeError for what has no len() or no [index], and for a tuple of arrays."""
    if isinstance(dataset, tuple) and dataset and all(isinstance(part, (np.ndarray, Tensor)) for part in dataset):
        raise DTypeError(
            f"{function}: dataset",
            f"a tuple of {len(dataset)} arrays, {', '.join(map(describe, dataset[:3]))}{', ...' * (len(dataset) > 3)}",
            "one data set: a tuple would have an array as each of its samples",
            "write TensorDataset(x, t) for samples along the first axes, or list(arrays) for one sample each",
        )
    lacking = "" if hasattr(dataset, "__getitem__") else "[index]"
    if not hasattr(dataset, "__len__") or getattr(dataset, "shape", None) == ():
        lacking = "len()"
    if lacking:
        raise DTypeError(
            f"{function}: dataset",
            f"{describe(dataset)}, which has no {lacking}",
            "a data set with len(dataset) and dataset[index]",
            "define __len__ and __getitem__, or pass list(dataset)",
        )
    return len(dataset)


def fetch(dataset: Any, indices: Array, collate_fn: Any = None, stopped: threading.Event | None = None) -> Any:
    """The batch of these samples: at once if the data set can, or sample by sample, looking at stopped in between.

    What a data set raises gets a note that says for which sample; a StopIteration, which would end the loop as if
    nothing were wrong, becomes a RuntimeError.
    """
    if collate_fn is None and _at_once(dataset):
        return dataset.batch(indices)
    samples, number = [], -1
    try:
        for number in indices.tolist():
            if stopped is not None and stopped.is_set():
                return None
            samples.append(dataset[number])
    except StopIteration as error:
        raise RuntimeError(f"DataLoader: dataset[{number}] raised StopIteration") from error
    except BaseException as error:
        error.add_note(f"DataLoader: raised by dataset[{number}], a sample of {describe(dataset)}")
        raise
    return collate(samples, indices) if collate_fn is None else collate_fn(samples)


def _at_once(dataset: Any) -> bool:
    """Whether dataset.batch speaks for dataset[index]: no subclass has overridden [index] and left batch alone."""
    if not isinstance(dataset, Dataset):
        return False
    owner = next(cls for cls in type(dataset).__mro__ if "batch" in vars(cls) or "__getitem__" in vars(cls))
    if owner is Subset and isinstance(dataset, Subset):
        return _at_once(dataset.dataset)
    return owner is not Dataset and "batch" in vars(owner)


def collate(samples: list[Any], indices: Any) -> Batch:
    """Samples stacked part by part; ShapeError or DTypeError, with the sample's number, for one unlike the first."""
    rows = [[plain(part) for part in (s if isinstance(s, (tuple, list)) else (s,))] for s in samples]
    for row, number in zip(rows, indices, strict=True):
        if len(row) != len(rows[0]):
            raise _unlike(number, f"{len(row)} parts", indices[0], f"{len(rows[0])}", "as many parts in each sample")
    return tuple([_column(part, list(column), indices) for part, column in enumerate(zip(*rows, strict=True))])


def _column(part: int, column: list[Any], indices: Any) -> Array:
    with suppress(ValueError):  # of entries that have different shapes
        out = np.stack(column)
        if out.dtype.kind in "fiub":
            return native(out)
    arrays = []  # one by one, to find the entry that does not fit
    for entry, number in zip(column, indices, strict=True):
        try:
            arrays.append(numbers(f"DataLoader: part {part} of dataset[{number}]", entry, None, copy=False))
        except DTypeError as error:
            fix = "pass collate_fn=, which makes a batch of a list of samples"
            raise DTypeError(error.function, error.got, "a number, or an array of numbers", fix) from None
        if arrays[-1].shape != arrays[0].shape:
            shapes = [f"part {part} of shape {a.shape}" for a in (arrays[-1], arrays[0])]
            raise _unlike(number, shapes[0], indices[0], shapes[1], "samples of one shape")
    return np.stack(arrays)


def _unlike(number: Any, got: str, first: Any, other: str, expected: str) -> ShapeError:
    return ShapeError(
        "DataLoader: dataset",
        f"dataset[{number}] has {got}, dataset[{first}] has {other}",
        expected,
        "pass collate_fn=, which makes a batch of a list of samples",
    )
