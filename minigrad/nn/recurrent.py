"""Recurrent layers: RNN, LSTM and GRU, of several layers and in both directions, with PyTorch's weights and results."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import DTypeLike

import minigrad as mg
from minigrad import ArgumentError, DTypeError, ShapeError, Tensor
from minigrad.errors import describe
from minigrad.nn import init
from minigrad.nn.init import Generator
from minigrad.nn.layers import Dropout, positive, probability
from minigrad.nn.module import Module, Parameter, float_dtype
from minigrad.random import chosen
from minigrad.standin import as_array
from minigrad.tensor import TensorLike

__all__ = ["GRU", "LSTM", "RNN"]


class _Recurrent(Module):
    """What the three have in common: weights, layers, directions, the layout of x and of the states."""

    gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]] = ("h0",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike | None = None,
        generator: Generator = None,
    ) -> None:
        name = type(self).__name__
        positive(self, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        dropout = probability(f"{name}: dropout", dropout)
        if dropout and num_layers == 1:
            warnings.warn(
                f"{name}: dropout={dropout} has no effect with num_layers=1: it is applied between layers",
                stacklevel=3 if type(self) is RNN else 2,
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        self.generator = generator
        wanted, rng, bound = float_dtype(name, dtype), chosen(generator, name), 1 / math.sqrt(hidden_size)
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            width = hidden_size * len(self._directions) if layer else input_size
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, hidden_size)}
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
            for direction in self._directions:
                for key, shape in shapes.items():
                    p = init.uniform_(Parameter(np.empty(shape, wanted)), -bound, bound, rng)
                    setattr(self, f"{key}_l{layer}{direction}", p)

    @property
    def _directions(self) -> tuple[str, ...]:
        """What the names of each direction's weights end in."""
        return ("", "_reverse") if self.bidirectional else ("",)

    def _sequence(self, x: Tensor, states: list[Any], weights: list[Any]) -> tuple[Tensor, list[Tensor]]:
        """One layer in one direction: all h, and the last of each state, (1, N, H)."""
        raise NotImplementedError

    def _forward(self, sequences: TensorLike, states: list[TensorLike] | None) -> tuple[Tensor, list[Tensor]]:
        x = sequences if isinstance(sequences, Tensor) else Tensor(sequences)
        batched = x.ndim == 3
        self._check(x, states)
        if not batched:
            x = mg.expand_dims(x, 1)
            states = states and [mg.expand_dims(state, 1) for state in states]
        elif self.batch_first:
            x = mg.swapaxes(x, 0, 1)
        zeros = np.zeros((x.shape[1], self.hidden_size), next(self.parameters()).dtype) if states is None else None
        last: list[list[Tensor]] = [[] for _ in self.states]
        keys = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if self.bias else [])]
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = Dropout(self.dropout, generator=self.generator)(x)
            outs = []
            for i, direction in enumerate(self._directions):
                weights = [getattr(self, f"{key}_l{layer}{direction}") for key in keys]
                row = layer * len(self._directions) + i
                first = [zeros for _ in self.states] if states is None else [_row(state, row) for state in states]
                out, ends = self._sequence(x[::-1] if direction else x, first, weights)
                outs.append(out[::-1] if direction else out)
                for found, end in zip(last, ends, strict=True):
                    found.append(end)
            x = outs[0] if len(outs) == 1 else mg.concatenate(outs, axis=-1)
        results = [found[0] if len(found) == 1 else mg.concatenate(found) for found in last]
        if not batched:
            return mg.squeeze(x, 1), [mg.squeeze(result, 1) for result in results]
        return mg.swapaxes(x, 0, 1) if self.batch_first else x, results

    def _check(self, x: Tensor, states: list[TensorLike] | None) -> None:
        """That x and the states have the axes and lengths of this layer."""
        name = type(self).__name__
        axes = "(N, T, {0}) or (T, {0})" if self.batch_first else "(T, N, {0}) or (T, {0})"
        time = 1 if self.batch_first and x.ndim == 3 else 0
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size or not x.shape[time]:
            raise ShapeError(
                f"{name}: x",
                f"x is {describe(x)}",
                f"{axes.format(self.input_size)} with T at least 1, input_size being {self.input_size}",
                f"make the layer with input_size={x.shape[-1]}, or look at the order of the axes"
                if x.ndim in (2, 3) and x.shape[time]
                else "pass sequences of features, of one step or more",
            )
        batch = x.shape[1 - time : 2 - time] if x.ndim == 3 else ()
        wanted = (self.num_layers * len(self._directions), *batch, self.hidden_size)
        for key, state in zip(self.states, states or [], strict=False):
            if np.shape(state) != wanted:
                raise ShapeError(
                    f"{name}: {key}",
                    f"x is {describe(x)}, {key} is {describe(state)}",
                    f"{key} {wanted}: (num_layers * directions, {'N, ' if batch else ''}hidden_size)",
                    f"leave {key} out for zeros, or pass np.zeros({wanted})",
                )

    def extra_repr(self) -> str:
        """The sizes, and what is not as by default."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        parts += [f"{key}={getattr(self, key)!r}" for key, value in defaults.items() if getattr(self, key) != value]
        return ", ".join(parts)


def _row(state: TensorLike, i: int) -> Any:
    return state[i] if isinstance(state, Tensor) else as_array(state)[i]


class RNN(_Recurrent):
    """h_t = tanh(x_t @ weight_ih.T + bias_ih + h_(t-1) @ weight_hh.T + bias_hh), layer by layer

    x: (T, N, input_size), with batch_first (N, T, input_size), or one sequence (T, input_size).
    h0: (num_layers * directions, N, hidden_size), zeros if it is left out.
    Returns (out, h_n): the last layer's h of all steps, both directions side by side, and every layer's last h.
    nonlinearity: "tanh" or "relu". dropout: between the layers, in training. Weights: weight_ih_l0, ... as in PyTorch,
    initially drawn evenly from ±1/sqrt(hidden_size).
    Raises ArgumentError for sizes and options, ShapeError for an x or h0 that does not fit.
    Source: Deep Learning from Scratch 2, chapter 5; see minigrad.rnn.

    >>> layer = RNN(3, 4, num_layers=2)
    >>> out, h_n = layer(np.ones((5, 2, 3)))
    >>> out.shape, h_n.shape
    ((5, 2, 4), (2, 2, 4))
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike | None = None,
        generator: Generator = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(
                "RNN: nonlinearity", describe(nonlinearity), '"tanh" or "relu"', 'write nonlinearity="tanh"'
            )
        self.nonlinearity: Literal["tanh", "relu"] = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dtype=dtype, generator=generator,
        )  # fmt: skip

    def forward(self, x: TensorLike, h0: TensorLike | None = None) -> tuple[Tensor, Tensor]:
        """(out, h_n)"""
        out, (h_n,) = self._forward(x, None if h0 is None else [h0])
        return out, h_n

    def _sequence(self, x: Tensor, states: list[Any], weights: list[Any]) -> tuple[Tensor, list[Tensor]]:
        out = mg.rnn(x, *states, *weights, nonlinearity=self.nonlinearity)
        return out, [out[-1:]]

    def extra_repr(self) -> str:
        """The sizes, and what is not as by default."""
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity!r}")


class LSTM(_Recurrent):
    """h_t = o * tanh(c_t), c_t = f * c_(t-1) + i * g, layer by layer

    x: (T, N, input_size), with batch_first (N, T, input_size), or one sequence (T, input_size).
    state: (h0, c0), each (num_layers * directions, N, hidden_size), zeros if it is left out.
    Returns (out, (h_n, c_n)): the last layer's h of all steps, both directions side by side, and every layer's last h
    and c. dropout: between the layers, in training. Weights: weight_ih_l0, ... as in PyTorch, with the rows of i, f,
    g, o one below the other, initially drawn evenly from ±1/sqrt(hidden_size).
    Raises ArgumentError for sizes and options, ShapeError for an x or state that does not fit.
    Source: Deep Learning from Scratch 2, chapter 6; see minigrad.lstm.

    >>> layer = LSTM(3, 4, bidirectional=True)
    >>> out, (h_n, c_n) = layer(np.ones((5, 2, 3)))
    >>> out.shape, h_n.shape, c_n.shape
    ((5, 2, 8), (2, 2, 4), (2, 2, 4))
    """

    gates = 4
    states = ("h0", "c0")

    def forward(
        self, x: TensorLike, state: tuple[TensorLike, TensorLike] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(out, (h_n, c_n))"""
        if state is not None and (not isinstance(state, (tuple, list)) or len(state) != 2):
            raise DTypeError("LSTM: state", describe(state), "a pair (h0, c0)", "pass (h0, c0), or leave it out")
        out, (h_n, c_n) = self._forward(x, None if state is None else list(state))
        return out, (h_n, c_n)

    def _sequence(self, x: Tensor, states: list[Any], weights: list[Any]) -> tuple[Tensor, list[Tensor]]:
        out = mg.lstm(x, *states, *weights)
        return out[:-1], [out[-2:-1], out[-1:]]


class GRU(_Recurrent):
    """h_t = (1 - z) * n + z * h_(t-1), layer by layer

    x: (T, N, input_size), with batch_first (N, T, input_size), or one sequence (T, input_size).
    h0: (num_layers * directions, N, hidden_size), zeros if it is left out.
    Returns (out, h_n): the last layer's h of all steps, both directions side by side, and every layer's last h.
    dropout: between the layers, in training. Weights: weight_ih_l0, ... as in PyTorch, with the rows of r, z, n one
    below the other, initially drawn evenly from ±1/sqrt(hidden_size).
    Raises ArgumentError for sizes and options, ShapeError for an x or h0 that does not fit.
    Source: Deep Learning from Scratch 2, appendix C; see minigrad.gru.

    >>> layer = GRU(3, 4, batch_first=True)
    >>> out, h_n = layer(np.ones((2, 5, 3)))
    >>> out.shape, h_n.shape
    ((2, 5, 4), (1, 2, 4))
    """

    gates = 3

    def forward(self, x: TensorLike, h0: TensorLike | None = None) -> tuple[Tensor, Tensor]:
        """(out, h_n)"""
        out, (h_n,) = self._forward(x, None if h0 is None else [h0])
        return out, h_n

    def _sequence(self, x: Tensor, states: list[Any], weights: list[Any]) -> tuple[Tensor, list[Tensor]]:
        out = mg.gru(x, *states, *weights)
        return out, [out[-1:]]
