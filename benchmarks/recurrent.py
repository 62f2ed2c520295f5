"""A training step of a recurrent model: forward, cross-entropy, backward and Adam, float32.

An RNN, GRU or LSTM over T steps of N sequences, a linear layer on the last h, 10 classes: minigrad's layers against
PyTorch's, from the same weights. Two controls that do not touch minigrad show what NumPy leaves room for: the step's
matrix products alone, and an LSTM written by hand with the textbook's slopes, s * (1 - s), which are 0 where s rounds
to 1. Give --threads 1 for the comparison with one thread.
Wanted: minigrad at most 0.8 x PyTorch's time.
"""

from __future__ import annotations

from typing import Any

import bench
import contest
from peers import RATE

SIZES = [(32, 32, 8, 64), (50, 64, 8, 128)]  # T, N, I, H
LAYERS = {"RNN": 1, "GRU": 3, "LSTM": 4}  # how many gates
CLASSES = 10


def minigrad_step(name: str, size: tuple[int, ...], x: Any, labels: Any, state: dict[str, Any]) -> bench.Step:
    """One step of minigrad's model; returns the loss."""
    from minigrad import nn, optim
    from minigrad.nn import recurrent

    _, _, width, hidden = size

    class Model(nn.Module):
        def __init__(self) -> None:
            self.layer = getattr(recurrent, name)(width, hidden, dtype="float32")
            self.head = nn.Linear(hidden, CLASSES, dtype="float32")

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(x)[0][-1])

    model = Model()
    model.load_state_dict(state)
    loss_of, optimizer = nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=1e-3)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(model(x), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def pytorch_step(
    torch: Any, name: str, size: tuple[int, ...], x: Any, labels: Any
) -> tuple[bench.Step, dict[str, Any]]:
    """One step of PyTorch's model, which returns the loss, and the weights that it starts from."""
    _, _, width, hidden = size

    class Model(torch.nn.Module):  # type: ignore[misc]  # torch is Any here, since it may be missing
        def __init__(self) -> None:
            super().__init__()
            self.layer = getattr(torch.nn, name)(width, hidden)
            self.head = torch.nn.Linear(hidden, CLASSES)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(x)[0][-1])

    model = Model()
    loss_of, optimizer = torch.nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3)
    tx, tt = torch.tensor(x), torch.tensor(labels)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(model(tx), tt)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step, {key: value.numpy().copy() for key, value in model.state_dict().items()}


def products(gates: int, size: tuple[int, ...]) -> bench.Step:
    """The matrix products of one step: T with the weights each way, one for the gradient of the weights."""
    import numpy as np

    T, N, width, hidden = size
    rng = np.random.default_rng(0)
    rows, W, V, z = (
        rng.normal(size=shape).astype(np.float32)
        for shape in (
            (N, hidden + width + 1), (hidden + width + 1, gates * hidden), (gates * hidden, hidden),
            (T * N, gates * hidden),
        )
    )  # fmt: skip
    before = rng.normal(size=(T * N, hidden + width + 1)).astype(np.float32)
    out, dh = np.empty((N, gates * hidden), np.float32), np.empty((N, hidden), np.float32)

    def step() -> None:
        for _ in range(T):
            np.matmul(rows, W, out=out)
        for _ in range(T):
            np.matmul(out, V, out=dh)
        np.matmul(z.T, before)

    return step


def lstm_by_hand(x: Any, weights: Any) -> tuple[Any, Any]:
    """(forward, backward) of an LSTM in as few calls of NumPy as there can be, with the textbook's slopes.

    forward() gives all h, (T, N, H). backward(dout), the gradient of all h, gives those of W_ih, W_hh and the bias.
    """
    import numpy as np

    (T, N, width), hidden = x.shape, weights[1].shape[1]
    rows = np.empty((T + 1, N, hidden + width + 1), np.float32)
    a, cells = np.empty((T, 4, N, hidden), np.float32), np.zeros((T + 1, N, hidden), np.float32)
    y, product = np.empty((T, N, hidden), np.float32), np.empty((4, N, hidden), np.float32)
    dz = np.empty((4, T, N, hidden), np.float32)
    order = [3, 0, 1, 2]  # o, i, f, g from PyTorch's i, f, g, o: gates beside one another

    def forward() -> Any:
        W_ih, W_hh, b = (w.reshape(4, hidden, -1)[order] for w in weights)
        W = np.concatenate([W_hh, W_ih, b], axis=2).transpose(0, 2, 1)
        W = W * np.array([-1, -1, -1, 1], np.float32)[:, None, None]
        rows[0, :, :hidden], rows[:T, :, hidden:-1], rows[:T, :, -1] = 0, x, 1
        for t in range(T):
            z, c = np.matmul(rows[t], W, out=a[t]), cells[t + 1]
            gates = z[:3]
            np.exp(gates, out=gates)
            np.add(gates, 1, out=gates)
            np.divide(1, gates, out=gates)
            np.tanh(z[3], out=z[3])
            np.multiply(gates[2], cells[t], out=c)
            np.add(c, gates[1] * z[3], out=c)
            np.tanh(c, out=y[t])
            np.multiply(gates[0], y[t], out=rows[t + 1, :, :hidden])
        return rows[1:, :, :hidden]

    def backward(dout: Any) -> Any:
        V = weights[1].reshape(4, hidden, hidden)[order]
        dh, dc = np.zeros((N, hidden), np.float32), 0.0
        for t in range(T - 1, -1, -1):
            gates, g = a[t, :3], a[t, 3]
            slope = gates * (1 - gates)
            dh += dout[t]
            dc = dc + dh * gates[0] * (1 - y[t] * y[t])
            np.multiply(dh * y[t], slope[0], out=dz[0, t])
            np.multiply(dc * g, slope[1], out=dz[1, t])
            np.multiply(dc * cells[t], slope[2], out=dz[2, t])
            np.multiply(dc * gates[1], 1 - g * g, out=dz[3, t])
            dc = dc * gates[2]
            np.add.reduce(np.matmul(dz[:, t], V, out=product), axis=0, out=dh)
        dW = np.matmul(dz.reshape(4, T * N, hidden).transpose(0, 2, 1), rows[:T].reshape(T * N, -1))
        dW = dW[[1, 2, 3, 0]].reshape(4 * hidden, -1)
        return dW[:, hidden:-1], dW[:, :hidden], dW[:, -1]

    return forward, backward


def loss(F: Any, W_ih: Any, W_hh: Any, b: Any, V: Any, c: Any, x: Any, t: Any) -> Any:
    """Of an LSTM and a linear layer on its last h."""
    return F.cross_entropy(F.linear(F.lstm(x, W_ih, W_hh, b).reshape((-1, V.shape[1])), V, c), t)


def by_hand(params: Any, x: Any, t: Any) -> bench.Step:
    """A step of gradient descent of that model."""
    import numpy as np

    params = [p.copy() for p in params]
    forward, backward = lstm_by_hand(x, params[:3])
    V, c = params[3:]
    rows, dout = np.arange(len(t)), np.zeros((*x.shape[:2], V.shape[1]), np.float32)

    def step() -> Any:
        h = forward()[-1]
        y = h @ V.T + c
        y = np.exp(y - y.max(axis=1, keepdims=True))
        y /= y.sum(axis=1, keepdims=True)
        loss = -np.log(y[rows, t]).mean()
        y[rows, t] -= 1
        y /= len(t)
        dout[-1] = y @ V
        for p, dp in zip(params, (*backward(dout), y.T @ h, y.sum(axis=0)), strict=True):
            p -= RATE * dp
        return loss, *params

    return step


def work() -> contest.Work:
    """A training step of the smaller LSTM."""
    import numpy as np

    (T, N, width, hidden), rng = SIZES[0], np.random.default_rng(0)
    shapes = (4 * hidden, width), (4 * hidden, hidden), (4 * hidden,), (CLASSES, hidden), (CLASSES,)
    params = [rng.uniform(-(hidden**-0.5), hidden**-0.5, shape).astype(np.float32) for shape in shapes]
    x, t = rng.normal(size=(T, N, width)).astype(np.float32), rng.integers(0, CLASSES, N)
    return contest.Work(
        family="LSTM", name=f"LSTM step, T={T} N={N} H={hidden}", size=T, f=loss, leaves=params, constants=(x, t),
        kind="training", control=lambda: by_hand(params, x, t),
        without={"tinygrad, jit": f"since compiling {T} steps took more than 5 minutes"},
        flops=2.0 * T * N * 4 * hidden * (3 * hidden + 2 * width) + 6.0 * N * hidden * CLASSES,
    )  # fmt: skip


def main() -> None:
    """Race every layer at every size and print one table for each size."""
    chosen = bench.options(__doc__)
    report = bench.Report("Recurrent models", chosen)
    import numpy as np

    torch = bench.available("torch")
    if torch is not None and chosen.threads == "1":
        torch.set_num_threads(1)
    ratios = {}
    for size in SIZES[:1] if chosen.quick else SIZES:
        T, N, width, hidden = size
        rng = np.random.default_rng(0)
        x = rng.normal(size=(T, N, width)).astype(np.float32)
        labels = rng.integers(0, CLASSES, N)
        rows = []
        for name, gates in LAYERS.items():
            bench.progress(f"{name}, {size}")
            shapes = {
                "weight_ih_l0": (gates * hidden, width), "weight_hh_l0": (gates * hidden, hidden),
                "bias_ih_l0": (gates * hidden,), "bias_hh_l0": (gates * hidden,),
            }  # fmt: skip
            shapes = {f"layer.{key}": shape for key, shape in shapes.items()}
            shapes |= {"head.weight": (CLASSES, hidden), "head.bias": (CLASSES,)}
            state = {key: rng.uniform(-(hidden**-0.5), hidden**-0.5, shape) for key, shape in shapes.items()}
            steps: dict[str, bench.Step] = {}
            if torch is not None:
                steps["PyTorch"], state = pytorch_step(torch, name, size, x, labels)
            steps["minigrad"] = minigrad_step(name, size, x, labels, state)
            if torch is not None:
                losses = [[steps[who]() for _ in range(5)] for who in ("minigrad", "PyTorch")]
                np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
            steps["products alone"] = products(gates, size)
            if name == "LSTM":
                weights = [
                    np.asarray(state[f"layer.{key}_l0"], np.float32) for key in ("weight_ih", "weight_hh", "bias_ih")
                ]
                forward, backward = lstm_by_hand(x, weights)
                dout = np.ones((T, N, hidden), np.float32)
                steps["by hand"] = lambda f=forward, b=backward, dout=dout: (f(), b(dout))
            t = bench.race(steps, rounds=5 if chosen.quick else 21, seconds=0.01 if chosen.quick else 0.1)
            row = [name, *[bench.duration(t[who]) if who in t else "" for who in
                           ("minigrad", "products alone", "by hand")]]  # fmt: skip
            if torch is not None:
                ratios[f"{name}, T={T} N={N} H={hidden}"] = t["minigrad"] / t["PyTorch"]
                row += [bench.duration(t["PyTorch"]), f"{t['minigrad'] / t['PyTorch']:.2f}"]
            rows.append(row)
        head = ["", "minigrad", "products alone", "by hand, layer alone"]
        head += ["PyTorch", "minigrad / PyTorch"] if torch is not None else []
        report.table(f"T={T}, N={N}, I={width}, H={hidden}", head, rows)
    print()
    for what, ratio in ratios.items():
        report.wanted(f"{what}: minigrad / PyTorch", ratio, 0.8)
    report.close()


if __name__ == "__main__":
    main()
