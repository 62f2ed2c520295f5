"""Scaled dot-product attention in one node."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.contract import Case, broadcast_clash, numbers
from minigrad.errors import ArgumentError, DTypeError, ShapeError, describe
from minigrad.op import Op
from minigrad.ops.kernels import floats
from minigrad.ops.rows import softmax_of
from minigrad.standin import as_array
from minigrad.sums import unbroadcast
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["scaled_dot_product_attention"]


class ScaledDotProductAttention(Op):
    """out = softmax(query @ key.T * scale + mask) @ value

    query: (..., L, E), key: (..., S, E), value: (..., S, V); out: (..., L, V). Their leading axes broadcast.
    attn_mask: booleans, True where a key takes part, or floats that are added to the scores; it broadcasts to
        (..., L, S). is_causal: query i sees the keys up to i alone. Not both.
    scale: 1 / sqrt(E) by default.
    A query that no key is left for gives 0, with gradient 0 (PyTorch gives nan for some masks, and 0 for others).
    Dropout of probabilities is not part of it: a layer that wants it writes softmax, dropout and matmul out, as
    minigrad.unfused does.
    Raises ShapeError for widths or lengths that differ and masks that do not broadcast, ArgumentError for a mask
    with is_causal. Source: Vaswani et al., Attention is all you need, 2017, section 3.2.1.

    >>> query, key, value = Tensor([[1.0, 0.0]]), Tensor([[1.0, 0.0], [0.0, 1.0]]), Tensor([[0.0], [1.0]])
    >>> scaled_dot_product_attention(query, key, value)
    Tensor([[0.33023845]], dtype=float64)
    """

    is_causal: bool = False
    scale: float | None = None
    symbol = "attention"
    keeps = "probabilities"
    cases = (
        Case((2, 3), (4, 3), (4, 2)),
        Case((3, 2), (3, 2), (3, 1), is_causal=True, scale=0.25),
        Case((2, 2), (3, 2), (3, 2), attn_mask=np.array([[True, False, True], [False, False, False]])),
        Case((2, 2, 2), (2, 2, 2), (2, 2, 1), (2, 2)),
        Case((2, 1, 2), (3, 2), (2, 3, 1), attn_mask=np.array([True, True, False])),
        Case((0, 2, 2), (0, 3, 2), (0, 3, 2)),
    )

    @staticmethod
    def reference(query: Any, key: Any, value: Any, attn_mask: Any = None, is_causal: bool = False,
                  scale: float | None = None) -> Any:  # fmt: skip
        length, width = query.shape[-2:]
        batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
        q, k, v = (np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (query, key, value))
        mask = np.zeros((length, key.shape[-2])) if attn_mask is None else attn_mask
        mask = np.broadcast_to(mask, (*batch, length, key.shape[-2]))
        out = np.zeros((*batch, length, value.shape[-1]))
        for place in np.ndindex(*batch, length):
            b, i = place[:-1], place[-1]
            seen = [
                j for j in range(key.shape[-2])
                if not (is_causal and j > i) and (mask.dtype != bool or mask[(*place, j)])
            ]  # fmt: skip
            scores = [
                float(q[place] @ k[(*b, j)]) * (width**-0.5 if scale is None else scale)
                + (0.0 if mask.dtype == bool else mask[(*place, j)])
                for j in seen
            ]
            weights = [math.exp(s - max(scores)) for s in scores]
            for j, w in zip(seen, weights, strict=True):
                out[place] += w / math.fsum(weights) * v[(*b, j)]
        return out

    # The op itself sees 0.0 where there is no mask.

    def forward(self, query: Any, key: Any, value: Any, mask: Any) -> Any:
        return self.forward_and_keep(query, key, value, mask)[0]

    @np.errstate(under="ignore")
    def forward_and_keep(self, query: Any, key: Any, value: Any, mask: Any) -> Any:
        inputs = [floats(x) for x in (query, key, value)]
        dtype = np.result_type(*inputs, mask)
        q, k, v = (x.astype(np.float32 if dtype.itemsize < 4 else dtype, copy=False) for x in inputs)
        p = np.matmul(q * _factor(q, self.scale), np.swapaxes(k, -1, -2))
        out_of_it = _kept_out(p.shape, mask, self.is_causal)
        if out_of_it is not None:
            shape = np.broadcast_shapes(out_of_it.shape, p.shape)
            p = p if shape == p.shape else np.broadcast_to(p, shape).copy()
            np.copyto(p, -np.inf, where=out_of_it)
        elif np.ndim(mask):
            p = p + mask
        top = np.max(p, axis=-1, keepdims=True, initial=-np.inf)
        np.copyto(top, 0, where=np.isneginf(top))  # nobody is left: exp(-inf - 0) is 0 all over
        p -= top
        np.exp(p, out=p)
        total = np.add.reduce(p, axis=-1, keepdims=True)
        np.copyto(total, 1, where=total == 0)
        p /= total
        return np.matmul(p, v).astype(dtype, copy=False), p

    def probabilities(self, query: Any, key: Any, value: Any, mask: Any) -> Any:
        """What multiplies value."""
        return attention_weights(query, key, mask, self.is_causal, self.scale)

    def backward(
        self, dout: Any, query: Any, key: Any, value: Any, mask_shape: Any, probabilities: Any, needs: Any
    ) -> Any:
        p, scale = probabilities, _factor(query, self.scale)
        dout = dout if dout.dtype == p.dtype else dout.astype(p.dtype)
        dvalue = unbroadcast(np.matmul(np.swapaxes(p, -1, -2), dout), value.shape) if needs[2] else None
        dp = np.matmul(dout, np.swapaxes(value, -1, -2))
        # ds = p * (dp - sum(p * dp)) is the same for dp - constant. With the winner's dp for that its own term is 0,
        # and the others', which may be far below the rounding of its, keep their digits.
        top = np.argmax(plain(p), axis=-1, keepdims=True)
        dp = dp - np.take_along_axis(dp, np.broadcast_to(top, (*dp.shape[:-1], 1)), -1)
        ds = p * (dp - np.sum(p * dp, axis=-1, keepdims=True))
        return (
            unbroadcast(np.matmul(ds, key) * scale, query.shape) if needs[0] else None,
            unbroadcast(np.matmul(np.swapaxes(ds, -1, -2), query) * scale, key.shape) if needs[1] else None,
            dvalue,
            unbroadcast(ds, mask_shape) if needs[3] else None,
        )


def attention_weights(
    query: Any, key: Any, mask: Any = 0.0, is_causal: bool = False, scale: float | None = None
) -> Any:
    """softmax(query @ key.T * scale + mask) of arrays or Tensors, as scaled_dot_product_attention multiplies value by.

    mask: as there, 0.0 for none. The rows of queries that no key is left for are 0.
    """
    scores = np.matmul(query * _factor(query, scale), np.swapaxes(key, -1, -2))
    out_of_it = _kept_out(scores.shape, mask, is_causal)
    if out_of_it is None:
        if np.ndim(mask) == 0:
            return softmax_of(scores, -1)
        scores = scores + mask
        out_of_it = np.isneginf(plain(scores))
    left = ~out_of_it.all(axis=-1, keepdims=True)
    scores = np.where(out_of_it & left, -np.inf, np.where(left, scores, 0))
    return softmax_of(scores, -1) * left.astype(scores.dtype)


def _factor(query: Any, scale: float | None) -> float:
    return 1 / math.sqrt(query.shape[-1]) if scale is None else scale


def _kept_out(shape: tuple[int, ...], mask: Any, is_causal: bool) -> Any:
    """Booleans that broadcast to the scores' shape, True where a key takes no part; None where all do."""
    if is_causal:
        return np.tri(shape[-2], shape[-1]) == 0
    return ~plain(mask) if as_array(plain(mask)).dtype.kind == "b" else None


@ScaledDotProductAttention.public()
def scaled_dot_product_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    attn_mask: TensorLike | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    name = "scaled_dot_product_attention"
    arrays = [numbers(f"{name}: {x}", plain(y), None, copy=False) for x, y in _named(query, key, value)]
    q, k, v = (array.shape for array in arrays)
    got = ", ".join(f"{x} is {describe(array)}" for (x, _), array in zip(_named(*arrays), arrays, strict=True))
    clash = _clash(q, k, v)
    if clash:
        argument, reason = clash
        raise ShapeError(
            f"{name}: {argument}",
            got,
            f"contract (l,e),(s,e),(s,v)->(l,v): {reason}",
            "look at their last two axes: (queries, width), (keys, width), (keys, width of the values)",
        )
    if scale is not None and (not isinstance(scale, (int, float, np.floating)) or not math.isfinite(scale)):
        raise ArgumentError(f"{name}: scale", describe(scale), "a number", "leave it out for 1 / sqrt(E)")
    mask: Any = 0.0 if attn_mask is None else attn_mask
    if attn_mask is not None:
        array = numbers(f"{name}: attn_mask", plain(attn_mask), None, copy=False)
        if is_causal:
            raise ArgumentError(
                f"{name}: attn_mask",
                f"attn_mask is {describe(array)}, with is_causal=True",
                "one of them",
                "combine them: attn_mask & np.tri(L, S, dtype=bool)",
            )
        if array.dtype.kind not in "bf":
            raise DTypeError(
                f"{name}: attn_mask",
                describe(array),
                "booleans, True where a key takes part, or floats to add to the scores",
                "write attn_mask.astype(bool)",
            )
        scores = (*np.broadcast_shapes(q[:-2], k[:-2], v[:-2]), q[-2], k[-2])
        if broadcast_clash(["attn_mask", "the scores"], [array.shape, scores]) or (
            np.broadcast_shapes(array.shape, scores) != scores
        ):
            raise ShapeError(
                f"{name}: attn_mask",
                f"attn_mask is {describe(array)}, {got}",
                f"a mask that broadcasts to the scores' shape {scores}",
                "give it an entry for each query and key, such as np.ones((L, S), bool)",
            )
        mask = attn_mask if isinstance(attn_mask, Tensor) else array.copy()  # the caller may change it before backward
    return ScaledDotProductAttention(bool(is_causal), None if scale is None else float(scale))(query, key, value, mask)


def _named(query: Any, key: Any, value: Any) -> tuple[tuple[str, Any], ...]:
    return ("query", query), ("key", key), ("value", value)


def _clash(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> tuple[str, str] | None:
    """The argument and the reason where shapes do not fit."""
    for argument, shape in _named(q, k, v):
        if len(shape) < 2:
            return argument, f"{argument} has {len(shape)} axes and wants 2 at least"
    if q[-1] != k[-1]:
        return "key", f"e is {q[-1]} in query and {k[-1]} in key"
    if k[-2] != v[-2]:
        return "value", f"s is {k[-2]} in key and {v[-2]} in value"
    if not q[-1] or not k[-2]:
        return "key", f"key has {k[-2]} keys of width {k[-1]}, and there is one at least"
    batches = broadcast_clash(["query", "key", "value"], [q[:-2], k[:-2], v[:-2]])
    return ("query", f"in front of the last two axes, {batches}") if batches else None
