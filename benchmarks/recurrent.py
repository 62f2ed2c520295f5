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


def by_hand(size: tuple[int, ...], x: Any) -> bench.Step:
    """Forward and backward of an LSTM alone, in as few calls of NumPy as there can be, with the textbook's slopes."""
    import numpy as np

    T, N, width, hidden = size
    rng = np.random.default_rng(0)
    W = (rng.normal(size=(4, hidden + width + 1, hidden)) * 0.1).astype(np.float32)  # o, i, f with a minus, g
    V = np.ascontiguousarray(W[:, :hidden].transpose(0, 2, 1))
    dout = np.ones((T, N, hidden), np.float32)

    def step() -> Any:
        rows = np.empty((T + 1, N, hidden + width + 1), np.float32)
        rows[0, :, :hidden], rows[:T, :, hidden:-1], rows[:T, :, -1] = 0, x, 1
        a = np.empty((T, 4, N, hidden), np.float32)
        cells, y = np.zeros((T + 1, N, hidden), np.float32), np.empty((T, N, hidden), np.float32)
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
        dz, dh, dc = np.empty((4, T, N, hidden), np.float32), np.zeros((N, hidden), np.float32), 0.0
        product = np.empty((4, N, hidden), np.float32)
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
        return np.matmul(dz.reshape(4, T * N, hidden).transpose(0, 2, 1), rows[:T].reshape(T * N, -1))

    return step


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
                steps["by hand"] = by_hand(size, x)
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
