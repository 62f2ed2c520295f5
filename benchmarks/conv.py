"""Convolutional networks: one training step of two of them, and convolution and pooling alone, float32.

The book's SimpleConvNet (section 7.5): 30 kernels of 5x5 on 100 images of 28x28, relu, pooling 2x2, 100 hidden, 10
classes. A small net for the digits: 16 kernels of 3x3 on 64 images of 8x8, relu, pooling, 32 kernels of 3x3, relu,
pooling, 10 classes. A step is forward, softmax cross-entropy, backward and SGD in place; every contestant starts from
the same parameters and sees the same batch. Then convolution and pooling alone, forward and backward to x and W.
The control is the book's im2col in NumPy, by hand.
Wanted, with one thread (--threads 1): at most 1.5 x PyTorch's time for a training step on the digits.
"""

from __future__ import annotations

from typing import Any

import bench

RATE = 1e-4

# name: x, convolutions as (channels, kernel, padding), units of the layers behind them
NETS: dict[str, tuple[tuple[int, ...], list[tuple[int, int, int]], list[int]]] = {
    "the book's SimpleConvNet": ((100, 1, 28, 28), [(30, 5, 0)], [100, 10]),
    "a small net for the digits": ((64, 1, 8, 8), [(16, 3, 1), (32, 3, 1)], [10]),
}

# x, channels of out, kernel, stride, padding, groups
CONVOLUTIONS = [
    ((64, 16, 8, 8), 32, 3, 1, 1, 1),
    ((32, 32, 32, 32), 64, 3, 1, 1, 1),
    ((32, 32, 32, 32), 64, 3, 2, 1, 1),
    ((32, 64, 16, 16), 64, 1, 1, 0, 1),
    ((32, 64, 16, 16), 64, 3, 1, 1, 64),
    ((1, 16, 28, 28), 32, 3, 1, 1, 1),
]

# x, kernel, stride, padding
POOLINGS = [((100, 30, 24, 24), 2, 2, 0), ((64, 16, 8, 8), 2, 2, 0), ((32, 64, 16, 16), 3, 2, 1)]


def parameters(net: str) -> list[Any]:
    """Weights and biases of a net, always the same."""
    import numpy as np

    (_, channels, size, _), convolutions, units = NETS[net]
    rng = np.random.default_rng(1)
    shapes: list[tuple[int, ...]] = []
    for outputs, kernel, padding in convolutions:
        shapes += [(outputs, channels, kernel, kernel), (outputs,)]
        channels, size = outputs, (size + 2 * padding - kernel + 1) // 2
    inputs = channels * size * size
    for outputs in units:
        shapes += [(inputs, outputs), (outputs,)]
        inputs = outputs
    return [(rng.normal(size=s) * np.sqrt(2 / np.prod(s[1:])) * (len(s) > 1)).astype(np.float32) for s in shapes]


def minigrad_step(net: str, x: Any, t: Any) -> bench.Step:
    """A training step on Tensors."""
    import minigrad as mg

    _, convolutions, units = NETS[net]
    params = [mg.Tensor(p, requires_grad=True) for p in parameters(net)]
    x = mg.Tensor(x)

    def step() -> Any:
        given = iter(params)
        z = x
        for _, _, padding in convolutions:
            z = mg.max_pool2d(mg.relu(mg.conv2d(z, next(given), next(given), padding=padding)), 2)
        z = z.reshape((len(z), -1))
        for i in range(len(units)):
            z = (mg.relu(z) if i else z) @ next(given) + next(given)
        loss = mg.softmax_cross_entropy(z, t)
        loss.backward()
        for p in params:
            p.data -= RATE * p.grad
            p.grad = None
        return loss.data

    return step


def torch_step(net: str, x: Any, t: Any) -> bench.Step:
    """The same in PyTorch."""
    import torch
    from torch.nn import functional as F

    _, convolutions, units = NETS[net]
    params = [torch.tensor(p.T.copy() if p.ndim == 2 else p, requires_grad=True) for p in parameters(net)]
    x, t = torch.tensor(x), torch.tensor(t)

    def step() -> Any:
        given = iter(params)
        z = x
        for _, _, padding in convolutions:
            z = F.max_pool2d(torch.relu(F.conv2d(z, next(given), next(given), padding=padding)), 2)
        z = z.flatten(1)
        for i in range(len(units)):
            z = F.linear(torch.relu(z) if i else z, next(given), next(given))
        loss = F.cross_entropy(z, t)
        loss.backward()
        with torch.no_grad():
            for p in params:
                p.sub_(p.grad, alpha=RATE)
                p.grad = None
        return loss.detach()

    return step


def im2col_step(x: Any, W: Any, dout: Any, stride: int, padding: int) -> bench.Step:
    """A convolution, forward and backward, as the book's Convolution does it."""
    import numpy as np

    (n, channels, h, w), (outputs, _, k, _) = x.shape, W.shape
    oh, ow = dout.shape[2:]
    ends = [(i, i + stride * oh) for i in range(k)]

    def step() -> Any:
        padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        col = np.empty((n, channels, k, k, oh, ow), x.dtype)
        for i, (top, bottom) in enumerate(ends):
            for j, (left, right) in enumerate(ends):
                col[:, :, i, j] = padded[:, :, top:bottom:stride, left:right:stride]
        col = col.transpose(0, 4, 5, 1, 2, 3).reshape(n * oh * ow, -1)
        out = (col @ W.reshape(outputs, -1).T).reshape(n, oh, ow, -1).transpose(0, 3, 1, 2)
        d = dout.transpose(0, 2, 3, 1).reshape(-1, outputs)
        dW = (col.T @ d).T.reshape(W.shape)
        dcol = (d @ W.reshape(outputs, -1)).reshape(n, oh, ow, channels, k, k).transpose(0, 3, 4, 5, 1, 2)
        dx = np.zeros(padded.shape, x.dtype)
        for i, (top, bottom) in enumerate(ends):
            for j, (left, right) in enumerate(ends):
                dx[:, :, top:bottom:stride, left:right:stride] += dcol[:, :, i, j]
        return out, dx[:, :, padding : padding + h, padding : padding + w], dW

    return step


def op_steps(ours: Any, theirs: Any, torch: Any, arrays: list[Any], dout: Any) -> dict[str, bench.Step]:
    """An op and the gradients of all its arguments, for the gradient dout of its result."""
    import minigrad as mg

    # What comes from a convolution lies as convolutions lay it; what comes from PyTorch as PyTorch does.
    laid = [a.transpose(2, 1, 3, 0).copy().transpose(3, 1, 0, 2) for a in (arrays[0], dout)]
    leaves = [mg.Tensor(a, requires_grad=True) for a in [laid[0], *arrays[1:]]]

    def step() -> Any:
        out = ours(*leaves)
        return out.data, *(g.data for g in mg.grad(out, leaves, laid[1]))

    steps = {"minigrad": step}
    if torch is not None:
        inputs, given = [torch.tensor(a, requires_grad=True) for a in arrays], torch.tensor(dout)

        def torch_step() -> Any:
            out = theirs(*inputs)
            return out.detach(), *torch.autograd.grad(out, inputs, given)

        steps["PyTorch"] = torch_step
    return steps


def main() -> None:
    """Race the nets and the ops, and print a table for each kind."""
    chosen = bench.options(__doc__)
    report = bench.Report("Convolution", chosen)
    import numpy as np

    import minigrad as mg

    torch = bench.available("torch")
    if torch is not None and chosen.threads == "1":
        torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rounds, seconds = (3, 0.01) if chosen.quick else (21, 0.1)
    ratios = {}
    for net, (shape, _, units) in NETS.items():
        x, t = rng.normal(size=shape).astype(np.float32), rng.integers(0, units[-1], shape[0])
        steps = {"minigrad": minigrad_step(net, x, t)}
        if torch is not None:
            steps["PyTorch"] = torch_step(net, x, t)
            np.testing.assert_allclose(steps["minigrad"](), np.asarray(steps["PyTorch"]()), rtol=1e-4)
        times = bench.race(steps, rounds=rounds, seconds=seconds)
        report.compare(f"a training step of {net}, float32", times, "PyTorch" if torch is not None else "minigrad")
        ratios[net] = times["minigrad"] / times.get("PyTorch", times["minigrad"])

    functional = torch and torch.nn.functional
    rows = []
    for shape, outputs, kernel, stride, padding, groups in CONVOLUTIONS:
        x = rng.normal(size=shape).astype(np.float32)
        W = rng.normal(size=(outputs, shape[1] // groups, kernel, kernel)).astype(np.float32)
        options = {"stride": stride, "padding": padding, "groups": groups}
        dout = rng.normal(size=mg.conv2d(x, W, **options).shape).astype(np.float32)
        steps = op_steps(
            lambda x, W, options=options: mg.conv2d(x, W, **options),
            lambda x, W, options=options: functional.conv2d(x, W, **options),
            torch, [x, W], dout,
        )  # fmt: skip
        if groups == 1:
            steps["im2col"] = im2col_step(x, W, dout, stride, padding)
        rows.append(
            [f"{shape} -> {outputs}, {kernel}x{kernel}, stride {stride}, groups {groups}", *race(steps, chosen)]
        )
    head = ["", "minigrad", "PyTorch", "im2col", "minigrad / PyTorch"]
    report.table("conv2d, forward and backward to x and W, float32", head, rows)
    rows = []
    for shape, kernel, stride, padding in POOLINGS:
        x = rng.normal(size=shape).astype(np.float32)
        for name in "max_pool2d", "avg_pool2d":
            ours, theirs = getattr(mg, name), functional and getattr(functional, name)
            dout = rng.normal(size=ours(x, kernel, stride, padding).shape).astype(np.float32)
            steps = op_steps(
                lambda x, f=ours, a=(kernel, stride, padding): f(x, *a),
                lambda x, f=theirs, a=(kernel, stride, padding): f(x, *a),
                torch, [x], dout,
            )  # fmt: skip
            rows.append([f"{name} {shape}, {kernel}x{kernel}, stride {stride}", *race(steps, chosen)])
    report.table("pooling, forward and backward, float32", head, rows)
    print()
    if torch is not None:
        name = "a small net for the digits"
        report.wanted(f"a training step of {name}: minigrad / PyTorch", ratios[name], 1.5)
    report.close()


def race(steps: dict[str, bench.Step], chosen: Any) -> list[str]:
    """The cells of a row: what each step takes, after a look at whether all give the same numbers."""
    import numpy as np

    want = steps["minigrad"]()
    for name, step in steps.items():
        for got, right in zip(step(), want, strict=True):
            np.testing.assert_allclose(np.asarray(got), right, rtol=1e-3, atol=1e-3 * np.abs(right).max(), err_msg=name)
    times = bench.race(steps, rounds=3 if chosen.quick else 11, seconds=0.002 if chosen.quick else 0.05)
    cells = [bench.duration(times[name]) if name in times else "" for name in ("minigrad", "PyTorch", "im2col")]
    return [*cells, f"{times['minigrad'] / times['PyTorch']:.2f}" if "PyTorch" in times else ""]


if __name__ == "__main__":
    main()
