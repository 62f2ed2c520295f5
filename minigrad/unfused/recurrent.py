"""The fused ops of minigrad.ops.recurrent, written out: gate by gate and step by step, as the formulas have it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from minigrad import ops
from minigrad.tensor import Tensor, TensorLike
from minigrad.unfused.basic import sigmoid, tanh

__all__ = ["gru", "lstm", "rnn"]


def _rows(W: TensorLike | None, gates: int, rows: int) -> list[Any]:
    """Each gate's own part of W or b; 0 for none."""
    if W is None:
        return [0.0] * gates
    W = W if isinstance(W, Tensor) else Tensor(W)
    return [W[k * rows : (k + 1) * rows] for k in range(gates)]


def _affine(x: Any, W: Any, b: Any) -> Tensor:
    return ops.add(ops.matmul(x, ops.transpose(W)), b)


def rnn(
    x: TensorLike,
    h0: TensorLike,
    W_ih: TensorLike,
    W_hh: TensorLike,
    b_ih: TensorLike | None = None,
    b_hh: TensorLike | None = None,
    *,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
) -> Tensor:
    """h_t = tanh(x_t @ W_ih.T + b_ih + h_(t-1) @ W_hh.T + b_hh). Arguments as for minigrad.rnn.

    >>> rnn([[[1.0]]], [[0.0]], [[0.5]], [[2.0]])
    Tensor([[[0.46211716]]], dtype=float64)
    """
    x, h, states = x if isinstance(x, Tensor) else Tensor(x), h0, []
    activation = tanh if nonlinearity == "tanh" else ops.relu
    for t in range(len(x)):
        on_h = _affine(h, W_hh, 0.0 if b_hh is None else b_hh)
        h = activation(ops.add(_affine(x[t], W_ih, 0.0 if b_ih is None else b_ih), on_h))
        states.append(h)
    return ops.stack(states)


def lstm(
    x: TensorLike,
    h0: TensorLike,
    c0: TensorLike,
    W_ih: TensorLike,
    W_hh: TensorLike,
    b_ih: TensorLike | None = None,
    b_hh: TensorLike | None = None,
) -> Tensor:
    """h_t = o * tanh(c_t), c_t = f * c_(t-1) + i * g, and the last c. Arguments as for minigrad.lstm.

    >>> lstm([[[1.0]]], [[0.0]], [[0.0]], np.zeros((4, 1)), np.zeros((4, 1))).shape
    (2, 1, 1)
    """
    x, h, c, states = x if isinstance(x, Tensor) else Tensor(x), h0, c0, []
    size = np.shape(h0)[1]
    parts = [_rows(W, 4, size) for W in (W_ih, b_ih, W_hh, b_hh)]
    for t in range(len(x)):
        i, f, g, o = (ops.add(_affine(x[t], W, b), _affine(h, V, d)) for W, b, V, d in zip(*parts, strict=True))
        c = ops.add(ops.multiply(sigmoid(f), c), ops.multiply(sigmoid(i), tanh(g)))
        h = ops.multiply(sigmoid(o), tanh(c))
        states.append(h)
    return ops.stack([*states, c])


def gru(
    x: TensorLike,
    h0: TensorLike,
    W_ih: TensorLike,
    W_hh: TensorLike,
    b_ih: TensorLike | None = None,
    b_hh: TensorLike | None = None,
) -> Tensor:
    """h_t = (1 - z) * n + z * h_(t-1), n = tanh(x's part + r * h's part). Arguments as for minigrad.gru.

    >>> gru([[[1.0]]], [[0.0]], np.zeros((3, 1)), np.zeros((3, 1))).shape
    (1, 1, 1)
    """
    x, h, states = x if isinstance(x, Tensor) else Tensor(x), h0, []
    size = np.shape(h0)[1]
    (W_r, W_z, W_n), (b_r, b_z, b_n) = _rows(W_ih, 3, size), _rows(b_ih, 3, size)
    (V_r, V_z, V_n), (d_r, d_z, d_n) = _rows(W_hh, 3, size), _rows(b_hh, 3, size)
    for t in range(len(x)):
        r = sigmoid(ops.add(_affine(x[t], W_r, b_r), _affine(h, V_r, d_r)))
        z = sigmoid(ops.add(_affine(x[t], W_z, b_z), _affine(h, V_z, d_z)))
        n = tanh(ops.add(_affine(x[t], W_n, b_n), ops.multiply(r, _affine(h, V_n, d_n))))
        h = ops.add(ops.multiply(ops.subtract(1, z), n), ops.multiply(z, h))
        states.append(h)
    return ops.stack(states)
