"""Recurrent networks: one node for a whole sequence, with back-propagation through time written out.

Gates lie one behind the other in memory, (gates, T, N, H), where PyTorch has them side by side: each call of NumPy in
the loops then runs over whole blocks, three times as fast as over rows of H, and products with all gates are batches.
Forward keeps for each step and gate the factor by which backward multiplies. The slopes of sigmoid and tanh in it come
from exp of the pre-activation, never from the rounded activation: a saturated gate has all digits of its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from minigrad.autograd import grad
from minigrad.contract import Case, Domain
from minigrad.errors import ArgumentError, ShapeError, describe
from minigrad.op import Op
from minigrad.ops.elementwise import relu
from minigrad.ops.kernels import ZERO, floats, sigmoid_of
from minigrad.sums import add_up
from minigrad.tensor import Tensor, TensorLike, plain

__all__ = ["gru", "lstm", "rnn"]

# exp of a saturated gate overflows to inf or underflows to 0, and 1 / (1 + exp) and the slopes are then right.
_silent = np.errstate(over="ignore", under="ignore", divide="ignore")

# Values of each array that the loops work on between two calls for the slopes: a first-level cache's worth of steps.
_CHUNK = 8192


class _Recurrent(Op):
    """What the three have in common: checks, and what forward keeps.

    backward is written in calls that fill arrays. At second order it sees Tensors, which these calls cannot record: it
    then differentiates `unrolled`, the same function in one op after another. Whether out is a Tensor tells which.
    """

    gates: ClassVar[int]
    keeps = "factors"
    domain = Domain(-1.0, 1.0)

    def check(self, *arrays: Any) -> None:
        """That all shapes fit those of x and W_hh."""
        given = dict(zip(self.args, arrays, strict=True))
        x, W_hh = np.shape(given["x"]), np.shape(given["W_hh"])
        steps, n, width = x if len(x) == 3 else (0, 0, 0)
        hidden = W_hh[1] if len(W_hh) == 2 else 0
        rows = self.gates * hidden
        wanted: dict[str, tuple[int, ...]] = {
            "h0": (n, hidden), "c0": (n, hidden), "W_ih": (rows, width), "W_hh": (rows, hidden),
            "b_ih": (rows,), "b_hh": (rows,),
        }  # fmt: skip
        g = "H" if self.gates == 1 else f"{self.gates}*H"
        states = ", ".join(name for name in ("h0", "c0") if name in given)
        contract = f"x (T, N, I) with T at least 1, {states} (N, H), W_ih ({g}, I), W_hh ({g}, H), b_ih, b_hh ({g},)"
        got = ", ".join(f"{name} is {describe(a)}" for name, a in given.items())
        if not steps:
            fix = (
                "pass x with the axes (time, batch, features)" if len(x) != 3 else "pass a sequence of one step or more"
            )
            raise ShapeError(f"{self.name}: x", got, contract, fix)
        for name, array in given.items():
            shape = np.shape(array)
            if name == "x" or shape == wanted[name] or (name in ("b_ih", "b_hh") and shape == ()):
                continue
            raise ShapeError(
                f"{self.name}: {name}",
                got,
                f"{contract}; with x {x} and H = {hidden}, {name} {wanted[name]}",
                f"pass {name} of shape {wanted[name]}",
            )

    def factors(self, *arrays: Any) -> Any:
        """What backward multiplies by, for each step and gate. Constants: second order does not look at them."""
        return self.forward_and_keep(*map(plain, arrays))[1]

    def forward(self, *arrays: Any) -> Any:
        return self._run(arrays, keep=False)[0]

    def forward_and_keep(self, *arrays: Any) -> Any:
        return self._run(arrays, keep=True)

    def _run(self, arrays: Sequence[Any], *, keep: bool) -> tuple[Any, Any]:
        """out, and the factors where they are to be kept."""
        raise NotImplementedError


def _laid_out(arrays: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The dtype of the result, and the arrays in the dtype to compute in: float32 for float16, which has no BLAS."""
    dtype = floats(np.empty(0, np.result_type(*arrays))).dtype
    work = np.result_type(dtype, np.float32)
    return dtype, [np.ascontiguousarray(a, work) for a in arrays]


def _by_gate(W: Any, order: Sequence[int], signs: Sequence[float]) -> Any:
    """W (gates*H, I) as (gates, I, H) with the gates in this order, each times its sign."""
    blocks = W.reshape(len(order), -1, W.shape[1]).transpose(0, 2, 1)[list(order)]
    return np.multiply(blocks, np.array(signs, W.dtype)[:, None, None], order="C")


def _with_ones(x: Any) -> Any:
    """x (T, N, I) as rows (T*N, I + 1) that end in 1: their product with [W, b] needs no pass to add b."""
    steps, n, width = x.shape
    rows = np.ones((steps * n, width + 1), x.dtype)
    rows[:, :width] = x.reshape(steps * n, width)
    return rows


def _input_product(x: Any, W_ih: Any, b: Any, order: Sequence[int], signs: Sequence[float], out: Any) -> None:
    """out (gates, T, N, H) = signs * (x @ W_ih.T + b), for all steps at once."""
    wide = np.empty((len(W_ih), W_ih.shape[1] + 1), W_ih.dtype)
    wide[:, :-1] = W_ih
    wide[:, -1] = b
    np.matmul(_with_ones(x), _by_gate(wide, order, signs), out=out.reshape(len(order), -1, out.shape[-1]))


def _complement(u: Any) -> None:
    """u = exp(-x) becomes 1 - sigmoid(x) = 1 / (1 + 1/u), right for u = 0 and inf too."""
    np.divide(1, u, out=u)
    np.add(u, 1, out=u)
    np.divide(1, u, out=u)


def _tanh_slope(x: Any) -> Any:
    """1 - tanh(x)**2 = (2 / (exp(x) + exp(-x)))**2, accurate everywhere: half the passes of the kernel's."""
    e = np.exp(x)
    slope = np.divide(1, e)
    np.add(slope, e, out=slope)
    np.divide(2, slope, out=slope)
    return np.square(slope, out=slope)


def _steps(x: Any, h0: Any, W_ih: Any, W_hh: Any, b: Any, order: Sequence[int], signs: Sequence[float]) -> Any:
    """Rows [h, x, 1] for each step, with h0 in the first and room for h in the others, and (gates, rows, H) weights.

    One product a step then has all of a pre-activation in it, and there is nothing to be added.
    """
    steps, n, width = x.shape
    hidden = h0.shape[1]
    rows = np.empty((steps + 1, n, hidden + width + 1), x.dtype)
    rows[0, :, :hidden] = h0
    rows[:steps, :, hidden:-1] = x
    rows[:steps, :, -1] = 1
    b = np.broadcast_to(b, len(W_ih))[:, None]
    return rows, _by_gate(np.concatenate([W_hh, W_ih, b], axis=1), order, signs)


def _chunks(steps: int, size: int) -> list[range]:
    """The steps in stretches whose values fit the cache, size being the number of values in a step."""
    length = min(steps, max(1, _CHUNK // max(size, 1)))
    return [range(start, min(start + length, steps)) for start in range(0, steps, length)]


def _gradients(
    on_x: Any, on_h: Any, dh0: Any, x: Any, h0: Any, W_ih: Any, out: Any, needs: dict[str, Any],
    x_order: Sequence[int], h_order: Sequence[int],
) -> dict[str, Any]:  # fmt: skip
    """The gradients of x, weights and biases, from those of the pre-activations; and that of h0, as it is.

    on_x, on_h: (gates, T, N, H), the gradients that go to the product with x and to that with h, whose gates are
    in x_order and h_order.
    """
    gates, steps, n, hidden = on_x.shape
    flat_x, flat_h = on_x.reshape(gates, steps * n, hidden), on_h.reshape(gates, steps * n, hidden)
    found: dict[str, Any] = {"h0": dh0}
    if needs["x"]:
        dx, part = np.zeros((2, steps * n, x.shape[2]), x.dtype)
        for g, W in zip(flat_x, W_ih.reshape(gates, hidden, -1)[list(x_order)], strict=True):
            dx += np.matmul(g, W, out=part)
        found["x"] = dx.reshape(x.shape)
    if needs["W_ih"]:
        dW = np.empty((gates, hidden, x.shape[2]), x.dtype)
        dW[list(x_order)] = np.matmul(flat_x.transpose(0, 2, 1), x.reshape(steps * n, x.shape[2]))
        found["W_ih"] = dW.reshape(gates * hidden, -1)
    if needs["b_ih"]:
        found["b_ih"] = _added_up(flat_x, x_order)
    if needs["b_hh"]:
        found["b_hh"] = found["b_ih"] if needs["b_ih"] and on_h is on_x else _added_up(flat_h, h_order)
    if needs["W_hh"]:
        dW = np.empty((gates, hidden, hidden), x.dtype)
        before = out[: steps - 1].reshape(-1, hidden)
        product = np.matmul(flat_h[:, n:].transpose(0, 2, 1), before)
        product += np.matmul(flat_h[:, :n].transpose(0, 2, 1), h0)
        dW[list(h_order)] = product
        found["W_hh"] = dW.reshape(gates * hidden, hidden)
    return found


def _added_up(flat: Any, order: Sequence[int]) -> Any:
    """The gradient of a bias, flat being (gates, T*N, H) with the gates in this order.

    No product with ones: BLAS adds many rows of few columns one by one, 50,000 in float32 to a sum that is 4e-4 off.
    """
    db = np.empty((flat.shape[0], flat.shape[2]), flat.dtype)
    db[list(order)] = add_up(flat, 1)
    return db.reshape(-1)


def _differentiate(f: Callable[..., Any], dout: Any, args: Sequence[Any], needs: Any) -> tuple[Any, ...]:
    """The gradients of f with a graph of their own: for a derivative of the derivative.

    f: the same function, step by step in ops. Each argument is first made a result of its own, so that no path
    from one argument to another is taken for a path through f.
    """
    fresh = [x * 1 if need else x for x, need in zip(args, needs, strict=True)]
    inputs = [x for x, need in zip(fresh, needs, strict=True) if need]
    found = iter(grad(f(*fresh), inputs, dout, create_graph=True, allow_unused=True))
    return tuple(next(found) if need else None for need in needs)


class Rnn(_Recurrent):
    """out_t = tanh(x_t @ W_ih.T + b_ih + out_(t-1) @ W_hh.T + b_hh), for the steps t = 1 to T in one node

    x: (T, N, I), time first. h0: (N, H). W_ih: (H, I). W_hh: (H, H). b_ih, b_hh: (H,), None for none.
    nonlinearity: "tanh", or "relu" in its place. out: (T, N, H), with h0 before the first.
    Raises ShapeError for shapes that do not fit, ArgumentError for another nonlinearity.
    Source: Deep Learning from Scratch 2, section 5.3; Elman, Finding structure in time (1990).

    >>> rnn([[[1.0], [2.0]]], [[0.0], [0.0]], [[0.5]], [[2.0]])
    Tensor([[[0.46211716],
             [0.76159416]]], dtype=float64)
    """

    nonlinearity: str = "tanh"
    gates = 1
    signature = "(t,n,i),(n,h),(h,i),(h,h),(h?),(h?)->(t,n,h)"
    cases = (
        Case((3, 2, 2), (2, 2), (2, 2), (2, 2), (2,), (2,)), Case((1, 1, 3), (1, 2), (2, 3), (2, 2), (2,), (2,)),
        Case((2, 2, 1), (2, 3), (3, 1), (3, 3)), Case((2, 0, 2), (0, 2), (2, 2), (2, 2), (2,), (2,)),
    )  # fmt: skip

    @staticmethod
    def reference(x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any = 0.0, b_hh: Any = 0.0) -> Any:
        out = np.zeros((len(x), *h0.shape))
        for n, h in enumerate(h0):
            for t in range(len(x)):
                h = out[t, n] = np.tanh((W_ih * x[t, n]).sum(1) + b_ih + ((W_hh * h).sum(1) + b_hh))
        return out

    def forward(self, x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        return self._run((x, h0, W_ih, W_hh, b_ih, b_hh), keep=False)[0]

    @_silent
    def _run(self, arrays: Sequence[Any], *, keep: bool) -> tuple[Any, Any]:
        dtype, (x, h, W_ih, W_hh, b_ih, b_hh) = _laid_out(arrays)
        out = np.empty((len(x), *h.shape), x.dtype)
        z = np.empty_like(out)
        rows, (W,) = _steps(x, h, W_ih, W_hh, b_ih + b_hh, (0,), (1,))
        for t in range(len(x)):
            p = np.matmul(rows[t], W, out=z[t])
            if self.nonlinearity == "tanh":
                np.tanh(p, out=out[t])
            else:
                np.maximum(p, ZERO.get(p.dtype, 0), out=out[t])
            rows[t + 1, :, : h.shape[1]] = out[t]
        if not keep:
            return out.astype(dtype, copy=False), None
        for chunk in _chunks(len(x), h.size):
            p = z[chunk.start : chunk.stop]
            p[...] = _tanh_slope(p) if self.nonlinearity == "tanh" else p > 0
        return out.astype(dtype, copy=False), z

    def unrolled(self, x: Any, h: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        """out in one op after another."""
        z, states = x @ W_ih.T + (b_ih + b_hh), []
        for t in range(len(x)):
            p = z[t] + h @ W_hh.T
            h = np.tanh(p) if self.nonlinearity == "tanh" else relu(p)
            states.append(h)
        return np.stack(states)

    def backward(self, dout: Any, x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any, out: Any,
                 factors: Any, needs: Any) -> tuple[Any, ...]:  # fmt: skip
        if isinstance(out, Tensor):
            return _differentiate(self.unrolled, dout, (x, h0, W_ih, W_hh, b_ih, b_hh), needs)
        _, (dout, x, h0, W_ih, W_hh, out) = _laid_out((dout, x, h0, W_ih, W_hh, out))
        dz = np.empty((1, *factors.shape), x.dtype)
        dh = np.zeros_like(h0)
        for t in range(len(x) - 1, -1, -1):
            np.add(dh, dout[t], out=dh)
            np.multiply(dh, factors[t], out=dz[0, t])
            np.matmul(dz[0, t], W_hh, out=dh)
        wanted = dict(zip(self.args, needs, strict=True))
        found = _gradients(dz, dz, dh, x, h0, W_ih, out, wanted, (0,), (0,))
        return tuple(found.get(name) for name in self.args)


class Lstm(_Recurrent):
    """out_t = h_t = o * tanh(c_t), c_t = f * c_(t-1) + i * g, for the steps t = 1 to T in one node

    i, f, o = sigmoid(z), g = tanh(z), each with its rows of z = x_t @ W_ih.T + b_ih + h_(t-1) @ W_hh.T + b_hh.
    x: (T, N, I), time first. h0, c0: (N, H). W_ih: (4*H, I), with the rows of i, f, g, o in this order, as in PyTorch.
    W_hh: (4*H, H). b_ih, b_hh: (4*H,), None for none.
    out: (T + 1, N, H). out[:-1] are all h_t, out[-1] is the last c.
    Raises ShapeError for shapes that do not fit.
    Source: Deep Learning from Scratch 2, section 6.3; Hochreiter and Schmidhuber, Long short-term memory (1997).

    >>> out = lstm([[[1.0]], [[0.0]]], [[0.0]], [[0.0]], np.ones((4, 1)), np.ones((4, 1)))
    >>> h, c = out[:-1], out[-1]
    >>> h.shape, c.shape
    ((2, 1, 1), (1, 1))
    """

    gates = 4
    signature = "(t,n,i),(n,h),(n,h),(g,i),(g,h),(g?),(g?)->(s,n,h)"
    cases = (
        Case((3, 2, 2), (2, 2), (2, 2), (8, 2), (8, 2), (8,), (8,)),
        Case((1, 1, 2), (1, 1), (1, 1), (4, 2), (4, 1), (4,), (4,)),
        Case((2, 2, 1), (2, 3), (2, 3), (12, 1), (12, 3)),
        Case((2, 0, 1), (0, 2), (0, 2), (8, 1), (8, 2), (8,), (8,)),
    )

    @staticmethod
    def reference(x: Any, h0: Any, c0: Any, W_ih: Any, W_hh: Any, b_ih: Any = 0.0, b_hh: Any = 0.0) -> Any:
        out = np.zeros((len(x) + 1, *h0.shape))
        for n, (h, c) in enumerate(zip(h0, c0, strict=True)):
            for t in range(len(x)):
                i, f, g, o = np.split((W_ih * x[t, n]).sum(1) + b_ih + ((W_hh * h).sum(1) + b_hh), 4)
                c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
                h = out[t, n] = np.tanh(c) / (1 + np.exp(-o))
            out[-1, n] = c
        return out

    def forward(self, x: Any, h0: Any, c0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        return self._run((x, h0, c0, W_ih, W_hh, b_ih, b_hh), keep=False)[0]

    @_silent
    def _run(self, arrays: Sequence[Any], *, keep: bool) -> tuple[Any, Any]:
        dtype, (x, h, c, W_ih, W_hh, b_ih, b_hh) = _laid_out(arrays)
        steps, (n, hidden) = len(x), h.shape
        out = np.empty((steps + 1, n, hidden), x.dtype)
        factors = np.empty((steps, 6, n, hidden), x.dtype) if keep else None
        rows, W = _steps(x, h, W_ih, W_hh, b_ih + b_hh, _LSTM, (-1, -1, -1, 1))  # sigmoid wants exp(-z)
        chunks = _chunks(steps, h.size)
        length = len(chunks[0])
        z, s = np.empty((length, 4, n, hidden), x.dtype), np.empty((length, 3, n, hidden), x.dtype)
        g, y = np.empty((2, length, n, hidden), x.dtype)
        cells, part = np.empty((length + 1, n, hidden), x.dtype), np.empty_like(h)
        cells[0] = c
        for chunk in chunks:
            for j, t in enumerate(chunk):
                u, sigmoids, gj, yj, c, h = z[j, :3], s[j], g[j], y[j], cells[j + 1], out[t]
                np.matmul(rows[t], W, out=z[j])
                np.exp(u, out=u)
                np.add(u, 1, out=sigmoids)
                np.divide(1, sigmoids, out=sigmoids)
                np.tanh(z[j, 3], out=gj)
                np.multiply(sigmoids[2], cells[j], out=c)
                np.multiply(sigmoids[1], gj, out=part)
                np.add(c, part, out=c)
                np.tanh(c, out=yj)
                np.multiply(sigmoids[0], yj, out=h)
                rows[t + 1, :, :hidden] = h
            if factors is not None:
                m = len(chunk)
                kept, slope = factors[chunk.start : chunk.stop], z[:m, :3]
                _complement(slope)
                np.multiply(slope, s[:m], out=slope)
                np.multiply(slope[:, 0], y[:m], out=kept[:, 0])
                np.multiply(slope[:, 1], g[:m], out=kept[:, 1])
                np.multiply(slope[:, 2], cells[:m], out=kept[:, 2])
                np.multiply(s[:m, 1], _tanh_slope(z[:m, 3]), out=kept[:, 3])
                np.multiply(s[:m, 0], _tanh_slope(cells[1 : m + 1]), out=kept[:, 4])
                kept[:, 5] = s[:m, 2]
            cells[0] = c
        out[-1] = c
        return out.astype(dtype, copy=False), factors

    def unrolled(self, x: Any, h: Any, c: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        """out in one op after another."""
        z, states, H = x @ W_ih.T + (b_ih + b_hh), [], h.shape[1]
        for t in range(len(x)):
            p = z[t] + h @ W_hh.T
            c = sigmoid_of(p[:, H : 2 * H]) * c + sigmoid_of(p[:, :H]) * np.tanh(p[:, 2 * H : 3 * H])
            h = sigmoid_of(p[:, 3 * H :]) * np.tanh(c)
            states.append(h)
        return np.stack([*states, c])

    def backward(self, dout: Any, x: Any, h0: Any, c0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any, out: Any,
                 factors: Any, needs: Any) -> tuple[Any, ...]:  # fmt: skip
        if isinstance(out, Tensor):
            return _differentiate(self.unrolled, dout, (x, h0, c0, W_ih, W_hh, b_ih, b_hh), needs)
        _, (dout, x, h0, W_ih, W_hh, out) = _laid_out((dout, x, h0, W_ih, W_hh, out))
        W = W_hh.reshape(4, *W_hh.shape[1:] * 2)[list(_LSTM)]
        dz = np.empty((4, len(x), *h0.shape), x.dtype)
        product = np.empty(dz[:, 0].shape, x.dtype)
        dh, dc, part = np.zeros_like(h0), dout[-1].copy(), np.empty_like(h0)
        for t in range(len(x) - 1, -1, -1):
            kept = factors[t]
            np.add(dh, dout[t], out=dh)
            np.multiply(dh, kept[4], out=part)
            np.add(dc, part, out=dc)
            np.multiply(dh, kept[0], out=dz[0, t])
            np.multiply(dc, kept[1:4], out=dz[1:, t])
            np.multiply(dc, kept[5], out=dc)
            np.add.reduce(np.matmul(dz[:, t], W, out=product), axis=0, out=dh)
        wanted = dict(zip(self.args, needs, strict=True))
        found = _gradients(dz, dz, dh, x, h0, W_ih, out, wanted, _LSTM, _LSTM)
        found["c0"] = dc
        return tuple(found.get(name) for name in self.args)


_LSTM = (3, 0, 1, 2)  # o, i, f, g in terms of PyTorch's i, f, g, o: the sigmoids together, and those that go to c


class Gru(_Recurrent):
    """out_t = (1 - z) * n + z * out_(t-1), for the steps t = 1 to T in one node

    r, z = sigmoid(x_t @ W_ih.T + b_ih + out_(t-1) @ W_hh.T + b_hh), each with its own rows, and with those of n,
    n = tanh(x_t @ W_ih.T + b_ih + r * (out_(t-1) @ W_hh.T + b_hh)).
    x: (T, N, I), time first. h0: (N, H). W_ih: (3*H, I), with the rows of r, z, n in this order, as in PyTorch.
    W_hh: (3*H, H). b_ih, b_hh: (3*H,), None for none. out: (T, N, H), with h0 before the first.
    Raises ShapeError for shapes that do not fit.
    Source: Deep Learning from Scratch 2, appendix C; Cho et al., Learning phrase representations (2014), as in PyTorch.

    >>> gru([[[1.0]], [[0.0]]], [[0.0]], np.ones((3, 1)), np.ones((3, 1))).shape
    (2, 1, 1)
    """

    gates = 3
    signature = "(t,n,i),(n,h),(g,i),(g,h),(g?),(g?)->(t,n,h)"
    cases = (
        Case((3, 2, 2), (2, 2), (6, 2), (6, 2), (6,), (6,)), Case((1, 1, 2), (1, 1), (3, 2), (3, 1), (3,), (3,)),
        Case((2, 2, 1), (2, 3), (9, 1), (9, 3)), Case((2, 0, 1), (0, 2), (6, 1), (6, 2), (6,), (6,)),
    )  # fmt: skip

    @staticmethod
    def reference(x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any = 0.0, b_hh: Any = 0.0) -> Any:
        out = np.zeros((len(x), *h0.shape))
        for k, h in enumerate(h0):
            for t in range(len(x)):
                xr, xz, xn = np.split((W_ih * x[t, k]).sum(1) + b_ih, 3)
                hr, hz, hn = np.split((W_hh * h).sum(1) + b_hh, 3)
                r, z = 1 / (1 + np.exp(-xr - hr)), 1 / (1 + np.exp(-xz - hz))
                h = out[t, k] = (1 - z) * np.tanh(xn + r * hn) + z * h
        return out

    def forward(self, x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        return self._run((x, h0, W_ih, W_hh, b_ih, b_hh), keep=False)[0]

    @_silent
    def _run(self, arrays: Sequence[Any], *, keep: bool) -> tuple[Any, Any]:
        dtype, (x, h, W_ih, W_hh, b_ih, b_hh) = _laid_out(arrays)
        steps, (n, hidden) = len(x), h.shape
        out = np.empty((steps, n, hidden), x.dtype)
        # Of h's part of n, of r, z, n before their activations, and z. First, in three of them: the products with x.
        factors = np.empty((5, steps, n, hidden), x.dtype)
        signs = (-1, -1, 1)  # sigmoid wants exp(-z)
        b_hh = np.broadcast_to(b_hh, len(W_hh))
        b = b_ih + np.concatenate([b_hh[: 2 * hidden], np.zeros_like(b_hh[2 * hidden :])])
        _input_product(x, W_ih, b, (0, 1, 2), signs, out=factors[1:4])
        W = _by_gate(W_hh, (0, 1, 2), signs)
        b_n = np.broadcast_to(b_hh[2 * hidden :], h.shape).copy()
        product = np.empty((3, n, hidden), x.dtype)
        chunks = _chunks(steps, h.size)
        shape = (len(chunks[0]), n, hidden)
        u, s = np.empty((2, 2, *shape), x.dtype)  # of r and z
        hn, p, y, away = np.empty((4, *shape), x.dtype)  # h's part of n; n before and after tanh; h_(t-1) - n
        for chunk in chunks:
            for j, t in enumerate(chunk):
                np.matmul(h, W, out=product)
                e, sigmoids = u[:, j], s[:, j]
                np.add(product[:2], factors[1:3, t], out=e)
                np.exp(e, out=e)
                np.add(e, 1, out=sigmoids)
                np.divide(1, sigmoids, out=sigmoids)
                np.add(product[2], b_n, out=hn[j])
                np.multiply(sigmoids[0], hn[j], out=p[j])
                np.add(p[j], factors[3, t], out=p[j])
                np.tanh(p[j], out=y[j])
                np.subtract(h, y[j], out=away[j])
                h = np.multiply(sigmoids[1], away[j], out=out[t])
                np.add(h, y[j], out=h)
            if keep:
                m = len(chunk)
                kept, slope = factors[:, chunk.start : chunk.stop], u[:, :m]
                _complement(slope)
                np.multiply(slope[1], _tanh_slope(p[:m]), out=kept[3])
                np.multiply(slope, s[:, :m], out=slope)
                np.multiply(kept[3], s[0, :m], out=kept[0])
                np.multiply(slope[0], hn[:m], out=kept[1])
                np.multiply(kept[1], kept[3], out=kept[1])
                np.multiply(slope[1], away[:m], out=kept[2])
                kept[4] = s[1, :m]
        return out.astype(dtype, copy=False), factors if keep else None

    def unrolled(self, x: Any, h: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        """out in one op after another."""
        on_x, states, H = x @ W_ih.T + b_ih, [], h.shape[1]
        for t in range(len(x)):
            p, q = on_x[t], h @ W_hh.T + b_hh
            r, z = sigmoid_of(p[:, :H] + q[:, :H]), sigmoid_of(p[:, H : 2 * H] + q[:, H : 2 * H])
            n = np.tanh(p[:, 2 * H :] + r * q[:, 2 * H :])
            h = n + z * (h - n)
            states.append(h)
        return np.stack(states)

    def backward(self, dout: Any, x: Any, h0: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any, out: Any,
                 factors: Any, needs: Any) -> tuple[Any, ...]:  # fmt: skip
        if isinstance(out, Tensor):
            return _differentiate(self.unrolled, dout, (x, h0, W_ih, W_hh, b_ih, b_hh), needs)
        _, (dout, x, h0, W_ih, W_hh, out) = _laid_out((dout, x, h0, W_ih, W_hh, out))
        order = (2, 0, 1)  # n, r, z: with n of x behind them, both products have theirs side by side
        W = W_hh.reshape(3, *W_hh.shape[1:] * 2)[list(order)]
        dz = np.empty((4, *factors.shape[1:]), x.dtype)
        product = np.empty(dz[:3, 0].shape, x.dtype)
        dh, part = np.zeros_like(h0), np.empty_like(h0)
        for t in range(len(x) - 1, -1, -1):
            np.add(dh, dout[t], out=dh)
            np.multiply(dh, factors[:4, t], out=dz[:, t])
            np.multiply(dh, factors[4, t], out=part)
            np.add.reduce(np.matmul(dz[:3, t], W, out=product), axis=0, out=dh)
            np.add(dh, part, out=dh)
        wanted = dict(zip(self.args, needs, strict=True))
        found = _gradients(dz[1:], dz[:3], dh, x, h0, W_ih, out, wanted, (0, 1, 2), order)
        return tuple(found.get(name) for name in self.args)


@Rnn.public()
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
    if nonlinearity not in ("tanh", "relu"):
        raise ArgumentError(
            "rnn: nonlinearity", describe(nonlinearity), '"tanh" or "relu"', 'write nonlinearity="tanh"'
        )
    return Rnn(nonlinearity)(x, h0, W_ih, W_hh, 0.0 if b_ih is None else b_ih, 0.0 if b_hh is None else b_hh)


@Lstm.public()
def lstm(
    x: TensorLike,
    h0: TensorLike,
    c0: TensorLike,
    W_ih: TensorLike,
    W_hh: TensorLike,
    b_ih: TensorLike | None = None,
    b_hh: TensorLike | None = None,
) -> Tensor:
    return Lstm()(x, h0, c0, W_ih, W_hh, 0.0 if b_ih is None else b_ih, 0.0 if b_hh is None else b_hh)


@Gru.public()
def gru(
    x: TensorLike,
    h0: TensorLike,
    W_ih: TensorLike,
    W_hh: TensorLike,
    b_ih: TensorLike | None = None,
    b_hh: TensorLike | None = None,
) -> Tensor:
    return Gru()(x, h0, W_ih, W_hh, 0.0 if b_ih is None else b_ih, 0.0 if b_hh is None else b_hh)
