"""Attention layers: several heads side by side, and the encoder layer of a transformer around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import minigrad as mg
from minigrad import ArgumentError, DTypeError, ShapeError, Tensor
from minigrad.errors import describe
from minigrad.nn import init
from minigrad.nn.init import Generator
from minigrad.nn.layers import Dropout, Linear, positive, probability
from minigrad.nn.module import Module, Parameter, float_dtype
from minigrad.nn.normalization import LayerNorm
from minigrad.ops.attention import attention_weights
from minigrad.random import chosen
from minigrad.tensor import TensorLike

__all__ = ["MultiheadAttention", "TransformerEncoderLayer"]


class MultiheadAttention(Module):
    """out = concatenation over heads of softmax(q @ k.T / sqrt(d) + mask) @ v, times out_proj

    q, k, v: the rows of in_proj_weight, (3 * embed_dim, embed_dim), applied to query, key and value, and cut into
    num_heads parts of d = embed_dim / num_heads. query: (L, N, embed_dim), key and value: (S, N, embed_dim); with
    batch_first N is first; without N for one sequence.
    key_padding_mask: (N, S). attn_mask: (L, S), or (N * num_heads, L, S). True where a key takes *no* part, as
    in PyTorch's layer (minigrad.scaled_dot_product_attention has it the other way round, like PyTorch's function);
    or floats that are added to the scores. is_causal: query i sees keys up to i alone, beside what the masks say.
    Returns (out, weights): weights (N, L, S), the mean over the heads, (N, num_heads, L, S) without
    average_attn_weights, None without need_weights, which is faster. A query that no key is left for gets
    weights of 0, where PyTorch has nan.
    dropout: of the weights, in training. Initially in_proj_weight is drawn by Xavier, the biases are 0, as in PyTorch.
    Raises ArgumentError for sizes and options, ShapeError for arguments that do not fit, DTypeError for integer masks.
    Source: Vaswani et al., Attention is all you need (2017), section 3.2.2.

    >>> attention = MultiheadAttention(4, 2, batch_first=True)
    >>> x = np.ones((3, 5, 4))
    >>> out, weights = attention(x, x, x)
    >>> out.shape, weights.shape
    ((3, 5, 4), (3, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        *,
        dtype: DTypeLike | None = None,
        generator: Generator = None,
    ) -> None:
        positive(self, embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise ArgumentError(
                "MultiheadAttention: num_heads",
                f"embed_dim={embed_dim}, num_heads={num_heads}",
                "a number of heads that divides embed_dim",
                f"pass embed_dim={(embed_dim // num_heads + 1) * num_heads}, for example",
            )
        probability("Dropout: p", dropout)
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.dropout, self.generator = dropout, generator
        wanted, rng = float_dtype("MultiheadAttention", dtype), chosen(generator, "MultiheadAttention")
        self.in_proj_weight = Parameter(np.empty((3 * embed_dim, embed_dim), wanted))
        init.xavier_uniform_(self.in_proj_weight, generator=rng)
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim), wanted) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype=wanted, generator=generator)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: TensorLike,
        key: TensorLike,
        value: TensorLike,
        key_padding_mask: TensorLike | None = None,
        need_weights: bool = True,
        attn_mask: TensorLike | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(out, weights)"""
        self._check(query, key, value)
        batched = np.ndim(query) == 3
        first = self.batch_first or not batched
        q, k, v = self._projected(query, key, value)
        if not batched:
            q, k, v = (mg.expand_dims(x, 0) for x in (q, k, v))
        # (N, heads, L or S, d)
        q, k, v = (
            mg.transpose(
                mg.reshape(x, (*x.shape[:2], self.num_heads, self.embed_dim // self.num_heads)),
                (0, 2, 1, 3) if first else (1, 2, 0, 3),
            )
            for x in (q, k, v)
        )
        mask = self._mask(key_padding_mask, attn_mask, (*q.shape[:3], k.shape[2]), q.dtype, batched, is_causal)
        weights = None
        if need_weights or (self.dropout and self.training):
            weights = attention_weights(q, k, 0.0 if mask is None else mask)
            kept = Dropout(self.dropout, generator=self.generator)(weights) if self.training else weights
            out = mg.matmul(kept, v)
        elif is_causal and key_padding_mask is None and attn_mask is None:
            out = mg.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            out = mg.scaled_dot_product_attention(q, k, v, mask)
        out = mg.transpose(out, (0, 2, 1, 3) if first else (2, 0, 1, 3))
        out = mg.reshape(out, (*out.shape[:2], self.embed_dim))
        out = self.out_proj(out if batched else out[0])
        if not need_weights or weights is None:
            return out, None
        weights = mg.mean(weights, axis=1) if average_attn_weights else weights
        return out, weights if batched else weights[0]

    def _projected(self, query: TensorLike, key: TensorLike, value: TensorLike) -> list[Tensor]:
        """query, key and value times their parts of in_proj_weight: one product where two or three are the same."""
        size = self.embed_dim
        if query is key is value:
            whole = mg.linear(query, self.in_proj_weight, self.in_proj_bias)
            return [whole[..., i * size : (i + 1) * size] for i in range(3)]
        parts = [slice(i * size, (i + 1) * size) for i in range(3)]
        bias = self.in_proj_bias
        return [
            mg.linear(x, self.in_proj_weight[part], None if bias is None else bias[part])
            for x, part in zip((query, key, value), parts, strict=True)
        ]

    def _check(self, query: TensorLike, key: TensorLike, value: TensorLike) -> None:
        """That the shapes of query, key and value fit each other and embed_dim."""
        q, k, v = (np.shape(x) for x in (query, key, value))
        axis = 0 if self.batch_first else 1
        for name, shape, right in (
            ("query", q, len(q) in (2, 3)),
            ("key", k, len(k) == len(q) and (len(q) == 2 or k[axis] == q[axis])),
            ("value", v, v == k),
        ):
            if not right or shape[-1] != self.embed_dim:
                axes = "(N, L, E)" if self.batch_first else "(L, N, E)"
                raise ShapeError(
                    f"MultiheadAttention: {name}",
                    f"query is {describe(query)}, key is {describe(key)}, value is {describe(value)}",
                    f"query {axes}, key and value {axes.replace('L', 'S')}, or all without N, E being {self.embed_dim}",
                    f"pass {name} with {self.embed_dim} features, and look at batch_first={self.batch_first}",
                )

    def _mask(
        self,
        padding: TensorLike | None,
        attn: TensorLike | None,
        shape: tuple[int, ...],
        dtype: Any,
        batched: bool,
        causal: bool,
    ) -> Any:
        """What the masks say together: booleans, True where a key takes part, or floats to be added; None for none.

        shape: (N, heads, L, S), to which the result broadcasts.
        """
        n, heads, length, keys = shape
        closings: list[Any] = [~np.tri(length, keys, dtype=bool)] if causal else []
        added: list[Any] = []
        fitting: dict[str, dict[tuple[int, ...], tuple[int, ...]]] = {
            "key_padding_mask": {(n, keys) if batched else (keys,): (n, 1, 1, keys)},
            "attn_mask": {(length, keys): (length, keys), (n * heads, length, keys): shape},
        }
        for name, mask in (("key_padding_mask", padding), ("attn_mask", attn)):
            if mask is None:
                continue
            given = Tensor(mask) if not isinstance(mask, Tensor) else mask
            if given.dtype.kind not in "bf":
                raise DTypeError(
                    f"MultiheadAttention: {name}",
                    f"{name} is {describe(given)}",
                    "booleans, True where a key takes no part, or floats that are added",
                    f"pass {name}.astype(bool)",
                )
            wanted = fitting[name]
            if given.shape not in wanted:
                raise ShapeError(
                    f"MultiheadAttention: {name}",
                    f"{name} is {describe(given)} for {n} sequences of {length} queries and {keys} keys, {heads} heads",
                    " or ".join(map(str, wanted)),
                    f"pass np.zeros({next(iter(wanted))}, bool) to begin with",
                )
            given = mg.reshape(given, wanted[given.shape])
            if given.dtype.kind == "b":
                closings.append(given.data)
            else:
                added.append(given.astype(dtype))
        closed: Any = False
        for closing in closings:
            closed = closed | closing
        if not added:
            return ~closed if closings else None
        total = added[0] if len(added) == 1 else added[0] + added[1]
        return mg.where(closed, -np.inf, total) if closings else total


class TransformerEncoderLayer(Module):
    """out = norm2(y + linear2(activation(linear1(y)))), y = norm1(x + self_attn(x, x, x))

    With norm_first the normalisations stand before attention and before linear1 instead: y = x + self_attn(norm1(x)).
    src: (L, N, d_model), with batch_first (N, L, d_model), or one sequence (L, d_model).
    src_mask, src_key_padding_mask, is_causal: MultiheadAttention's attn_mask, key_padding_mask and is_causal.
    dim_feedforward: outputs of linear1. dropout: of the attention's weights and behind each part, in training.
    activation: "relu", "gelu", or a function of a Tensor. Parameters have PyTorch's names.
    Raises ArgumentError for sizes and options, ShapeError for arguments that do not fit.
    Source: Vaswani et al., Attention is all you need (2017), section 3.1.

    >>> layer = TransformerEncoderLayer(4, 2, dim_feedforward=8, batch_first=True)
    >>> layer(np.ones((3, 5, 4))).shape
    (3, 5, 4)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: DTypeLike | None = None,
        generator: Generator = None,
    ) -> None:
        positive(self, d_model=d_model, nhead=nhead, dim_feedforward=dim_feedforward)
        if activation not in ("relu", "gelu") and not callable(activation):
            raise ArgumentError(
                "TransformerEncoderLayer: activation",
                describe(activation),
                '"relu", "gelu" or a function of a Tensor',
                'write activation="relu"',
            )
        self.norm_first = norm_first
        self.activation = {"relu": mg.relu, "gelu": mg.gelu}[activation] if isinstance(activation, str) else activation
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first, dtype=dtype, generator=generator
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype, generator=generator)
        self.dropout = Dropout(dropout, generator=generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype, generator=generator)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout, generator=generator)
        self.dropout2 = Dropout(dropout, generator=generator)

    def forward(
        self,
        src: TensorLike,
        src_mask: TensorLike | None = None,
        src_key_padding_mask: TensorLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """out, of the shape of src"""
        x = src if isinstance(src, Tensor) else Tensor(src)

        def attention(x: Tensor) -> Tensor:
            out, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            dropped: Tensor = self.dropout1(out)
            return dropped

        def feed_forward(x: Tensor) -> Tensor:
            out: Tensor = self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
            return out

        if self.norm_first:
            x = x + attention(self.norm1(x))
            return x + feed_forward(self.norm2(x))
        x = self.norm1(x + attention(x))
        out: Tensor = self.norm2(x + feed_forward(x))
        return out
