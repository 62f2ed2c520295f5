"""Products of matrices and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from minigrad.contract import AWAY_FROM_ZERO, Case, numbers
from minigrad.dispatch import ANSWERS, TABLE
from minigrad.errors import ArgumentError, DTypeError, ShapeError, describe
from minigrad.op import Op
from minigrad.ops.elementwise import multiply
from minigrad.ops.kernels import masked, sum_of
from minigrad.ops.reduce import Reduction, fixed_axis
from minigrad.sums import add_up, unbroadcast
from minigrad.tensor import Axis, Tensor, TensorLike, plain

__all__ = ["dot", "einsum", "linear", "matmul", "norm", "outer", "tensordot", "trace"]


class Matmul(Op):
    """out = x @ y: (..., m, k) times (..., k, n) is (..., m, n); one-dimensional arguments are vectors

    Raises ShapeError where k differs or an argument has no axis. Source: Deep Learning from Scratch, section 5.6.

    >>> matmul(Tensor([[1.0, 2.0]]), Tensor([[3.0], [4.0]]))
    Tensor([[11.]], dtype=float64)
    """

    symbol = "dot"
    gradients = ("dout @ y.T", "x.T @ dout")
    signature = "(m?,k),(k,n?)->(m?,n?)"
    cases = (
        Case((2, 3), (3, 4)), Case((3,), (3,)), Case((3,), (3, 2)), Case((2, 3), (3,)),
        Case((4, 2, 3), (3, 2)), Case((2, 1, 2, 3), (4, 3, 2)), Case((3,), (2, 3, 2)), Case((0, 3), (3, 2)),
    )  # fmt: skip

    @staticmethod
    def reference(x: Any, y: Any) -> Any:
        left = x[None, :] if x.ndim == 1 else x
        right = y[:, None] if y.ndim == 1 else y
        out = (left[..., :, :, None] * right[..., None, :, :]).sum(axis=-2)
        out = out[..., 0] if y.ndim == 1 else out
        return (out[..., 0] if y.ndim == 1 else out[..., 0, :]) if x.ndim == 1 else out

    forward = np.matmul

    def backward(self, dout: Any, x: Any, y: Any, needs: Any) -> Any:
        if len(x.shape) == 2 == len(y.shape):
            return dout @ y.T if needs[0] else None, x.T @ dout if needs[1] else None
        left = x[None, :] if len(x.shape) == 1 else x
        right = y[:, None] if len(y.shape) == 1 else y
        if len(y.shape) == 1:
            dout = np.expand_dims(dout, -1)
        if len(x.shape) == 1:
            dout = np.expand_dims(dout, -2)
        dx = dy = None
        if needs[0]:
            dx = np.reshape(unbroadcast(dout @ np.swapaxes(right, -1, -2), left.shape), x.shape)
        if needs[1]:
            dy = np.reshape(unbroadcast(np.swapaxes(left, -1, -2) @ dout, right.shape), y.shape)
        return dx, dy


@Matmul.public(np.matmul)
def matmul(x: TensorLike, y: TensorLike) -> Tensor:
    return _matmul(x, y)


_matmul = Matmul()


class Linear(Op):
    """out = x @ W.T + b: the book's Affine in one node, with W stored as PyTorch stores it

    x: (..., k). W: (m, k). b: (m,), or 0.0 for none; out: (..., m).
    Raises ShapeError where k or m differ. Source: Deep Learning from Scratch, section 5.6.2.

    >>> linear(Tensor([[1.0, 2.0]]), Tensor([[3.0, 4.0]]), Tensor([0.5]))
    Tensor([[11.5]], dtype=float64)
    """

    symbol = "affine"
    gradients = ("dout @ W", "dout.T @ x", "sum(dout, 0)")
    signature = "(n?,k),(m,k),(m?)->(n?,m)"
    cases = (
        Case((2, 3), (4, 3), (4,)), Case((3,), (2, 3), (2,)), Case((2, 2, 3), (1, 3), (1,)), Case((2, 3), (4, 3)),
        Case((0, 3), (2, 3), (2,)),
    )  # fmt: skip

    @staticmethod
    def reference(x: Any, W: Any, b: Any = 0.0) -> Any:
        return (x[..., None, :] * W).sum(axis=-1) + b

    def forward(self, x: Any, W: Any, b: Any) -> Any:
        if np.ndim(W) != 2 or np.ndim(b) > 1 or (np.ndim(b) and len(b) != len(W)):  # these might broadcast
            raise ShapeError(
                f"{self.name}: {'W' if np.ndim(W) != 2 else 'b'}",
                f"x is {describe(x)}, W is {describe(W)}, b is {describe(b)}",
                f"contract {self.signature}: W of two axes, b as long as W",
                "store W as (outputs, inputs), and b as (outputs,)",
            )
        out = np.matmul(x, W.T)
        return np.add(out, b, out=out) if out.dtype == np.result_type(out, b) else out + b

    def backward(self, dout: Any, x: Any, W: Any, needs: Any) -> Any:
        rows = dout if len(dout.shape) == 2 else np.reshape(dout, (-1, dout.shape[-1]))
        return (
            dout @ W if needs[0] else None,
            rows.T @ (x if len(x.shape) == 2 else np.reshape(x, (-1, x.shape[-1]))) if needs[1] else None,
            sum_of(rows, 0) if needs[2] else None,
        )


@Linear.public()
def linear(x: TensorLike, W: TensorLike, b: TensorLike | None = None) -> Tensor:
    return _linear(x, W, 0.0 if b is None else b)


_linear = Linear()


class Outer(Op):
    """out_ij = x_i * y_j, of x and y in one row each

    >>> outer(Tensor([1.0, 2.0]), Tensor([3.0, 4.0]))
    Tensor([[3., 4.],
            [6., 8.]], dtype=float64)
    """

    gradients = ("reshape(dout @ ravel(y), x.shape)", "reshape(ravel(x) @ dout, y.shape)")
    cases = (Case((2,), (3,)), Case((2, 2), (3,)), Case((), (2,)))

    @staticmethod
    def reference(x: Any, y: Any) -> Any:
        return np.array([[a * b for b in y.reshape(-1).tolist()] for a in x.reshape(-1).tolist()])

    def forward(self, x: Any, y: Any) -> Any:
        return np.outer(x, y)

    def backward(self, dout: Any, x: Any, y: Any) -> Any:
        return np.reshape(dout @ np.reshape(y, -1), np.shape(x)), np.reshape(np.reshape(x, -1) @ dout, np.shape(y))


@Outer.public(np.outer)
def outer(x: TensorLike, y: TensorLike) -> Tensor:
    return Outer()(x, y)


class Tensordot(Op):
    """out = sum of x * y over pairs of axes

    axes: how many of x's last and y's first axes, or (axes of x, axes of y).
    Raises ShapeError where the lengths of a pair differ.

    >>> tensordot(Tensor([1.0, 2.0]), Tensor([3.0, 4.0]), 1)
    Tensor(11., dtype=float64)
    """

    axes: tuple[tuple[int, ...], tuple[int, ...]]
    cases = (
        Case((2, 3), (3, 4), axes=1), Case((2, 4, 3), (4, 3, 2)), Case((2, 3), (3, 2), axes=((0, 1), (1, 0))),
        Case((2,), (3,), axes=0), Case((2, 3, 2), (2, 2), axes=(-1, 0)),
    )  # fmt: skip

    @staticmethod
    def reference(x: Any, y: Any, axes: Any = 2) -> Any:
        ax, ay = _pairs(axes, x.ndim, y.ndim)
        x = np.moveaxis(x, ax, range(x.ndim - len(ax), x.ndim))
        y = np.moveaxis(y, ay, range(len(ay)))
        n, m = x.ndim - len(ax), y.ndim - len(ay)
        product = x.reshape(x.shape + (1,) * m) * y.reshape((1,) * n + y.shape)
        return product.sum(axis=tuple(range(n, n + len(ax))))

    def forward(self, x: Any, y: Any) -> Any:
        return np.tensordot(x, y, self.axes)

    def backward(self, dout: Any, x: Any, y: Any, needs: Any) -> Any:
        ax, ay = self.axes
        free_x = [i for i in range(len(x.shape)) if i not in ax]
        free_y = [i for i in range(len(y.shape)) if i not in ay]
        n = len(free_x)
        dx = dy = None
        if needs[0]:
            # tensordot leaves x's free axes, then y's contracted ones in y's order
            rest = sorted(ay)
            order = free_x + [ax[ay.index(i)] for i in rest]
            dx = np.tensordot(dout, y, (tuple(range(n, n + len(free_y))), tuple(free_y)))
            dx = np.transpose(dx, np.argsort(order).tolist())
        if needs[1]:
            rest = sorted(ax)
            order = [ay[ax.index(i)] for i in rest] + free_y
            dy = np.tensordot(x, dout, (tuple(free_x), tuple(range(n))))
            dy = np.transpose(dy, np.argsort(order).tolist())
        return dx, dy


def _pairs(axes: Any, x_ndim: int, y_ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """axes as two tuples of axes from 0."""
    if isinstance(axes, int):
        return tuple(range(x_ndim - axes, x_ndim)), tuple(range(axes))
    ax, ay = ((a,) if isinstance(a, int) else tuple(a) for a in axes)
    return normalize_axis_tuple(ax, x_ndim), normalize_axis_tuple(ay, y_ndim)


@Tensordot.public(np.tensordot)
def tensordot(x: TensorLike, y: TensorLike, axes: Any = 2) -> Tensor:
    xs, ys = (numbers(f"tensordot: {k}", plain(v), None, copy=False).shape for k, v in (("x", x), ("y", y)))
    try:
        ax, ay = _pairs(axes, len(xs), len(ys))
        fits = len(ax) == len(ay) and all(xs[a] == ys[b] for a, b in zip(ax, ay, strict=True))
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        fits = False
    if not fits:
        raise ShapeError(
            "tensordot",
            f"x is {describe(plain(x))}, y is {describe(plain(y))}, axes={axes!r}",
            "as many axes of x as of y, of the same lengths in pairs",
            "write axes=([1], [0]), for example, to pair axis 1 of x with axis 0 of y",
        )
    return Tensordot((ax, ay))(x, y)


def dot(x: TensorLike, y: TensorLike) -> Tensor:
    """out = x . y: a product of numbers, vectors or matrices; otherwise x's last axis with y's last but one

    Raises ShapeError where the axes differ.

    >>> dot(Tensor([1.0, 2.0]), Tensor([3.0, 4.0]))
    Tensor(11., dtype=float64)
    """
    n, m = np.ndim(plain(x)), np.ndim(plain(y))
    if not n or not m:
        return multiply(x, y)
    return matmul(x, y) if n <= 2 and m <= 2 else tensordot(x, y, (-1, max(m - 2, 0)))


ANSWERS[np.dot] = TABLE["dot"] = dot


class Einsum(Op):
    """out = sum of products, as the subscripts say: "ij,jk->ik" is a matrix product

    subscripts: as in NumPy, with or without "->" and "...".
    Raises ShapeError for subscripts that do not fit the operands.

    >>> einsum("ij,j->i", Tensor([[1.0, 2.0]]), Tensor([3.0, 4.0]))
    Tensor([11.], dtype=float64)
    """

    inputs: tuple[str, ...]
    output: str
    cases = (
        Case((2, 3), (3, 4), subscripts="ij,jk->ik"), Case((3, 3), subscripts="ii->i"), Case((3, 3), subscripts="ii"),
        Case((2, 3), subscripts="ij->"), Case((2, 3), (2, 3), (3,), subscripts="ij,ij,j->i"),
        Case((2, 2, 3), (2, 3, 2), subscripts="...ij,...jk->...ik"), Case((2, 3), (4,), subscripts="ij,k->ki"),
        Case((2, 3), (3,), subscripts="...,..."),
    )  # fmt: skip

    @staticmethod
    def reference(*xs: Any, subscripts: str) -> Any:
        inputs, output = _expand(subscripts, [x.ndim for x in xs])
        sizes: dict[str, int] = {}
        for labels, x in zip(inputs, xs, strict=True):
            for label, n in zip(labels, x.shape, strict=True):
                sizes[label] = max(sizes.get(label, 1), n)
        out = np.zeros([sizes[label] for label in output])
        for place in np.ndindex(*sizes.values()):
            at = dict(zip(sizes, place, strict=True))
            term = 1.0
            for labels, x in zip(inputs, xs, strict=True):
                term *= x[tuple(at[label] if n > 1 else 0 for label, n in zip(labels, x.shape, strict=True))]
            out[tuple(at[label] for label in output)] += term
        return out

    def forward(self, *xs: Any) -> Any:
        out = np.einsum(f"{','.join(self.inputs)}->{self.output}", *xs, optimize=len(xs) > 1)
        return np.copy(out) if len(xs) == 1 else out  # one operand may come back as a view

    def backward(self, dout: Any, *xs: Any) -> Any:
        return tuple(self._gradient(i, dout, xs) for i in range(len(xs)))

    def _gradient(self, i: int, dout: Any, xs: Sequence[Any]) -> Any:
        """d(out)/d(x_i): the same sum with dout in x_i's place.

        A label twice in x_i (a diagonal) gets a second name, tied to the first by an identity matrix; a label
        that x_i alone has is stretched by ones.
        """
        sizes: dict[str, int] = {}
        for labels, x in zip(self.inputs, xs, strict=True):
            for label, n in zip(labels, np.shape(x), strict=True):
                sizes[label] = n if sizes.get(label, 1) == 1 else sizes[label]
        terms: list[tuple[str, Any]] = [(self.output, dout)]
        terms += [(s, x) for k, (s, x) in enumerate(zip(self.inputs, xs, strict=True)) if k != i]
        spare = iter(sorted(set(_LETTERS) - set("".join(self.inputs))))
        wanted = ""
        for label in self.inputs[i]:
            if label in wanted:
                second = next(spare)
                terms.append((label + second, np.eye(sizes[label], dtype=dout.dtype)))
                wanted += second
            else:
                wanted += label
        known = {pair for labels, x in terms for pair in zip(labels, np.shape(x), strict=True)}
        for label in wanted:
            if label in sizes and (label, sizes[label]) not in known:
                terms.append((label, np.ones(sizes[label], dout.dtype)))
        g = np.einsum(f"{','.join(s for s, _ in terms)}->{wanted}", *[x for _, x in terms])
        return unbroadcast(g, np.shape(xs[i]))


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _expand(subscripts: str, ndims: Sequence[int]) -> tuple[tuple[str, ...], str]:
    """The labels of each operand and of the result, with "..." and a missing "->" written out."""
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(ndims):
        raise ValueError(f"{len(inputs)} groups of labels for {len(ndims)} operands")
    spare = sorted(set(_LETTERS) - set(subscripts))[::-1]
    widths = [n - len(s.replace("...", "")) if "..." in s else 0 for s, n in zip(inputs, ndims, strict=True)]
    if min(widths, default=0) < 0:
        raise ValueError("more labels than axes")
    dots = "".join(spare.pop() for _ in range(max(widths, default=0)))
    full = [s.replace("...", dots[len(dots) - w :]) for s, w in zip(inputs, widths, strict=True)]
    for labels, n in zip(full, ndims, strict=True):
        if len(labels) != n:
            raise ValueError(f"{len(labels)} labels for {n} axes")
    if not arrow:
        named = "".join(s.replace("...", "") for s in inputs)
        output = "..." * ("..." in left) + "".join(sorted(c for c in set(named) if named.count(c) == 1))
    output = output.replace("...", dots)
    if not set(output) <= set("".join(full)) or len(set(output)) != len(output):
        raise ValueError("a label of the result that no operand has, or twice")
    return tuple(full), output


@Einsum.public(np.einsum)
def einsum(subscripts: str, *operands: TensorLike) -> Tensor:
    shapes = [np.shape(plain(x)) for x in operands]
    if not isinstance(subscripts, str):
        raise DTypeError("einsum: subscripts", describe(subscripts), "a string", 'write einsum("ij,jk->ik", x, y)')
    try:
        inputs, output = _expand(subscripts, [len(s) for s in shapes])
        sizes: dict[str, int] = {}
        for labels, shape in zip(inputs, shapes, strict=True):
            for label, n in zip(labels, shape, strict=True):
                if sizes.setdefault(label, n) not in (1, n) and n != 1:
                    raise ValueError(f"{label} is {sizes[label]} and {n}")
                sizes[label] = max(sizes[label], n)
    except ValueError as error:
        raise ShapeError(
            "einsum",
            f"subscripts={subscripts!r} for operands of shape {', '.join(map(str, shapes))}",
            f"one label for each axis, of one length each, but {error}",
            'write einsum("ij,jk->ik", x, y), for example',
        ) from None
    return Einsum(inputs, output)(*operands)


class Trace(Op):
    """out = sum of the diagonal: of x[i, i + offset] for the axes axis1, axis2

    >>> trace(Tensor([[1.0, 2.0], [3.0, 4.0]]))
    Tensor(5., dtype=float64)
    """

    offset: int = 0
    axis1: int = 0
    axis2: int = 1
    gradients = (
        "moveaxis(multiply.outer(dout, eye(x.shape[axis1], x.shape[axis2], offset)), (-2, -1), (axis1, axis2))",
    )
    cases = (
        Case((3, 3)),
        Case((2, 3), offset=1),
        Case((2, 3, 3), axis1=1, axis2=2),
        Case((3, 2, 3), axis1=2, axis2=0),
    )

    @staticmethod
    def reference(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        x = np.moveaxis(x, (axis1, axis2), (-2, -1))
        n, m = x.shape[-2:]
        return np.sum([x[..., i, i + offset] for i in range(n) if 0 <= i + offset < m], axis=0)

    def forward(self, x: Any) -> Any:
        return np.trace(x, self.offset, self.axis1, self.axis2)

    def backward(self, dout: Any, x_shape: Any) -> Any:
        diagonal = np.eye(x_shape[self.axis1], x_shape[self.axis2], self.offset, dtype=bool)
        return np.moveaxis(masked(np.reshape(dout, (*dout.shape, 1, 1)), diagonal), (-2, -1), (self.axis1, self.axis2))


@Trace.public(np.trace)
def trace(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    return Trace(offset, axis1, axis2)(x)


class Norm(Reduction):
    """out = sqrt(sum(x*x)) over axis, the Euclidean length; the gradient at 0 is 0

    axis: an axis, a tuple of them, or None for all. keepdims: leave axes of length 1 behind.

    >>> norm(Tensor([3.0, 4.0]))
    Tensor(5., dtype=float64)
    """

    gradients = ("dout * x / out",)
    domain = AWAY_FROM_ZERO
    cases = (Case((3,)), Case((2, 3), axis=1), Case((2, 3), axis=(0, 1), keepdims=True), Case(()))

    @staticmethod
    def reference(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        return np.sqrt((x * x).sum(axis=axis, keepdims=keepdims))

    def forward(self, x: Any) -> Any:
        # Scaled by the largest entry, so that squares neither overflow nor vanish.
        top = np.max(np.absolute(x), axis=self.axis, keepdims=True, initial=0)
        scale = np.where((top == 0) | ~np.isfinite(top), 1, top)
        with np.errstate(under="ignore"):
            out = np.sqrt(add_up(np.square(x / scale), self.axis, keepdims=True)) * scale
        return out if self.keepdims else np.squeeze(out, axis=self.axis)

    def backward(self, dout: Any, x: Any, out: Any) -> Any:
        safe = np.where(plain(out) == 0, 1, out)
        return self.spread(dout, x.shape) * (x / self.spread(safe, x.shape))


@Norm.public(np.linalg.norm)
def norm(x: TensorLike, ord: None = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    if ord is not None and ord not in (2, "fro"):
        raise ArgumentError("norm: ord", repr(ord), "None, the Euclidean norm", "write sum(absolute(x)) for ord=1")
    if ord is not None and (ord == 2) == (np.ndim(plain(x)) != 1 and not isinstance(axis, int)):
        raise ArgumentError("norm: ord", f"{ord!r} for {describe(plain(x))}", "None", "leave ord out")
    return Norm(fixed_axis(axis), keepdims)(x)
