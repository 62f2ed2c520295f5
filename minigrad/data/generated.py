"""Data made on the spot: two-dimensional classes to separate, and a curve to fit; no file and no network needed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.contract import is_real, numbers, whole
from minigrad.errors import ArgumentError, ShapeError, describe
from minigrad.random import chosen

__all__ = ["blobs", "moons", "sine", "spiral", "xor"]

Pair = tuple[NDArray[Any], NDArray[Any]]
_TAU = 2 * math.pi


def spiral(
    n: int, classes: int = 3, *, noise: float = 0.2, shuffle: bool = True, generator: np.random.Generator | None = None
) -> Pair:
    """x = r (sin a, cos a), a = 2 pi t / classes + 4 r + noise e: arms that turn around each other.

    n: samples in all, an equal share for each class, give or take one. r: from 1/m to 1 along the m samples of an arm.
    noise: the deviation of the angle, e normal. shuffle: in random order, or class by class.
    generator: what is drawn from, None for minigrad's default one.
    x: float64 (n, 2). t: int64 (n,), from 0 to classes - 1.
    Raises ArgumentError for fewer samples than classes, or noise that is negative or not finite.
    Source: Deep Learning from Scratch 2, section 1.4.1, where the arms are 4 apart for 2 pi / 3.

    >>> x, t = spiral(300, generator=np.random.default_rng(0))
    >>> x.shape, np.bincount(t)
    ((300, 2), array([100, 100, 100]))
    """
    rng = _checked("spiral", n, classes, noise, generator)
    t, r = _places(n, classes)
    a = _TAU * t / classes + 4 * r + noise * rng.standard_normal(n)
    return _ordered(np.stack([r * np.sin(a), r * np.cos(a)], axis=1), t, shuffle, rng)


def moons(n: int, *, noise: float = 0.1, shuffle: bool = True, generator: np.random.Generator | None = None) -> Pair:
    """x = (cos a, sin a) + noise e for t = 0, (1 - cos a, 1/2 - sin a) + noise e for t = 1: two half circles.

    n: samples in all, half of them in each moon, give or take one. a: in equal steps from 0 to pi.
    noise: the deviation in each direction, e normal. shuffle, generator: as in spiral.
    x: float64 (n, 2). t: int64 (n,), 0 or 1.
    Raises ArgumentError for fewer than two samples, or noise that is negative or not finite.
    Source: sklearn.datasets.make_moons.

    >>> x, t = moons(5, noise=0.0, shuffle=False)
    >>> t
    array([0, 0, 0, 1, 1])
    >>> x[0], x[3]
    (array([1., 0.]), array([0. , 0.5]))
    """
    rng = _checked("moons", n, 2, noise, generator)
    t = _places(n, 2)[0]
    counts = np.bincount(t)
    a = np.concatenate([np.linspace(0, math.pi, counts[0]), np.linspace(0, math.pi, counts[1])])
    x = np.where(t == 0, [np.cos(a), np.sin(a)], [1 - np.cos(a), 0.5 - np.sin(a)]).T
    return _ordered(x + noise * rng.standard_normal((n, 2)), t, shuffle, rng)


def blobs(
    n: int,
    centers: int | ArrayLike = 3,
    *,
    noise: float = 1.0,
    shuffle: bool = True,
    generator: np.random.Generator | None = None,
) -> Pair:
    """x = centers[t] + noise e: a normal cloud around each center.

    n: samples in all, an equal share for each center, give or take one.
    centers: (classes, features), one row for each class; or how many, drawn evenly from the square -10 to 10.
    noise: the deviation in each direction, e normal. shuffle, generator: as in spiral.
    x: float64 (n, features). t: int64 (n,), from 0 to classes - 1.
    Raises ShapeError for centers that are not a matrix, ArgumentError for fewer samples than centers, or noise that is
    negative or not finite. Source: sklearn.datasets.make_blobs, whose cluster_std is noise here.

    >>> x, t = blobs(4, [[0, 0], [5, 5]], noise=0.0, shuffle=False)
    >>> x[:, 0], t
    (array([0., 0., 5., 5.]), array([0, 0, 1, 1]))
    """
    if isinstance(centers, (bool, int, np.integer)):
        classes, points = whole("blobs: centers", centers, fix="pass centers=3"), None
    else:
        points = numbers("blobs: centers", centers, None, copy=False).astype(np.float64)
        if points.ndim != 2 or not np.isfinite(points).all():
            raise ShapeError(
                "blobs: centers",
                describe(points),
                "a number, or finite rows of one point each",
                "pass [[0, 0], [5, 5]], for example",
            )
        classes = len(points)
    rng = _checked("blobs", n, classes, noise, generator)
    if points is None:
        points = rng.uniform(-10, 10, (classes, 2))
    t = _places(n, classes)[0]
    return _ordered(points[t] + noise * rng.standard_normal((n, points.shape[1])), t, shuffle, rng)


def xor(n: int, *, noise: float = 0.1, shuffle: bool = True, generator: np.random.Generator | None = None) -> Pair:
    """x = (p, q) + noise e, t = p xor q: clouds around the corners of a square, which no line separates.

    n: samples in all, an equal share for each corner p, q of 0 and 1, give or take one, and so for each class.
    noise: the deviation in each direction, e normal. shuffle: in random order, or corner by corner, in turns.
    generator: as in spiral.
    x: float64 (n, 2). t: int64 (n,), 0 or 1.
    Raises ArgumentError for fewer than two samples, or noise that is negative or not finite.
    Source: Deep Learning from Scratch, section 2.4.

    >>> xor(4, noise=0.0, shuffle=False)[1]
    array([0, 1, 0, 1])
    """
    rng = _checked("xor", n, 2, noise, generator)
    corners = np.resize([[0, 0], [0, 1], [1, 1], [1, 0]], (n, 2))
    return _ordered(corners + noise * rng.standard_normal((n, 2)), np.bitwise_xor(*corners.T), shuffle, rng)


def sine(n: int, *, noise: float = 0.1, generator: np.random.Generator | None = None) -> Pair:
    """t = sin(2 pi x) + noise e: a curve to fit, x drawn evenly from 0 to 1.

    n: samples. noise: the deviation of t, e normal. generator: as in spiral.
    x, t: float64 (n, 1), as a network with one output has its results.
    Raises ArgumentError for no samples, or noise that is negative or not finite.
    Source: Deep Learning from Scratch 3, step 43.

    >>> x, t = sine(100, noise=0.0)
    >>> x.shape, np.allclose(t, np.sin(2 * np.pi * x))
    ((100, 1), True)
    """
    rng = _checked("sine", n, 1, noise, generator)
    x = rng.uniform(0, 1, (n, 1))
    return x, np.sin(_TAU * x) + noise * rng.standard_normal((n, 1))


def _checked(function: str, n: Any, classes: Any, noise: Any, generator: Any) -> np.random.Generator:
    """The generator to draw from, once the arguments are known to make sense."""
    classes = whole(f"{function}: classes", classes, fix="pass classes=3")
    whole(f"{function}: n", n, classes, f"pass n={max(100, 10 * classes)}, so that each class has a sample at least")
    if not is_real(noise) or not 0 <= noise < math.inf:
        raise ArgumentError(f"{function}: noise", describe(noise), "a finite number, 0 or more", "pass noise=0.1")
    return chosen(generator, function)


def _places(n: int, classes: int) -> Pair:
    """The class of each sample, class by class, and how far along its class it is: from 1/m to 1 for m samples."""
    t = np.sort(np.arange(n) % classes)
    counts = np.bincount(t)
    place = np.arange(1, n + 1) - np.repeat(np.cumsum(counts) - counts, counts)
    return t, place / counts[t]


def _ordered(x: NDArray[Any], t: NDArray[Any], shuffle: bool, rng: np.random.Generator) -> Pair:
    order = rng.permutation(len(t)) if shuffle else np.arange(len(t))
    return x[order], t[order].astype(np.int64)
