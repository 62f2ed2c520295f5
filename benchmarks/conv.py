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
import contest
from peers import RATE, Minigrad, PyTorch

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
        shapes += [(outputs, inputs), (outputs,)]
        inputs = outputs
    return [(rng.normal(size=s) * np.sqrt(2 / np.prod(s[1:])) * (len(s) > 1)).astype(np.float32) for s in shapes]


def loss(F: Any, net: str, *given: Any) -> Any:
    """Of a net: its parameters in order, x and the labels."""
    _, convolutions, units = NETS[net]
    *params, z, t = given
    given = iter(params)
    for _, _, padding in convolutions:
        z = F.max_pool2d(F.relu(F.conv2d(z, next(given), next(given), padding)))
    z = z.reshape((z.shape[0], -1))
    for i in range(len(units)):
        z = F.linear(F.relu(z) if i else z, next(given), next(given))
    return F.cross_entropy(z, t)


def by_hand(net: str, params: Any, x: Any, t: Any) -> bench.Step:
    """A training step as the book's layers do it: im2col, and the place of the largest value of each window."""
    import numpy as np

    _, convolutions, _ = NETS[net]
    params, rows, ends = [p.copy() for p in params], np.arange(len(t)), len(convolutions) * 2
    linear = [*zip(params[ends::2], params[ends + 1 :: 2], strict=True)]

    def step() -> Any:
        z, kept = x, []
        for i, (outputs, k, padding) in enumerate(convolutions):
            W, b = params[2 * i], params[2 * i + 1]
            size = z.shape[2] + 2 * padding - k + 1
            col = im2col(z, k, 1, padding, size, size)
            y = col @ W.reshape(outputs, -1).T
            y += b
            on = y > 0
            y *= on
            y = y.reshape(len(z), size, size, outputs).transpose(0, 3, 1, 2)
            windows = y.reshape(len(z), outputs, size // 2, 2, size // 2, 2).transpose(0, 1, 2, 4, 3, 5)
            windows = windows.reshape(*windows.shape[:4], 4)
            place = windows.argmax(-1)[..., None]
            kept.append((z.shape, col, on, place))
            z = np.take_along_axis(windows, place, -1)[..., 0]
        shape, z, zs = z.shape, z.reshape(len(z), -1), []
        for i, (W, b) in enumerate(linear):
            z = np.maximum(z, 0) if i else z
            zs.append(z)
            z = z @ W.T + b
        z = np.exp(z - z.max(axis=1, keepdims=True))
        z /= z.sum(axis=1, keepdims=True)
        loss = -np.log(z[rows, t]).mean()
        z[rows, t] -= 1
        d, grads = z / len(t), []
        for i in reversed(range(len(linear))):
            grads += [d.sum(axis=0), d.T @ zs[i]]
            d = d @ linear[i][0]
            d = d * (zs[i] > 0) if i else d
        d = d.reshape(shape)
        for i, (before, col, on, place) in reversed([*enumerate(kept)]):
            (outputs, k, padding), W = convolutions[i], params[2 * i]
            n, _, half, _ = d.shape
            windows = np.zeros((*d.shape, 4), np.float32)
            np.put_along_axis(windows, place, d[..., None], -1)
            d = windows.reshape(n, outputs, half, half, 2, 2).transpose(0, 2, 4, 3, 5, 1).reshape(-1, outputs)
            d *= on
            grads += [d.sum(axis=0), (d.T @ col).reshape(W.shape)]
            if i:
                d = col2im(d @ W.reshape(outputs, -1), before, k, 1, padding, 2 * half, 2 * half)
        for p, dp in zip(params, reversed(grads), strict=True):
            p -= RATE * dp
        return loss, *params

    return step


def im2col(x: Any, k: int, stride: int, padding: int, oh: int, ow: int) -> Any:
    """The windows of x as rows: the book's im2col."""
    import numpy as np

    n, channels = x.shape[:2]
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    col = np.empty((n, channels, k, k, oh, ow), x.dtype)
    for i in range(k):
        for j in range(k):
            col[:, :, i, j] = padded[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(n * oh * ow, -1)


def col2im(dcol: Any, shape: Any, k: int, stride: int, padding: int, oh: int, ow: int) -> Any:
    """The gradient of x from that of its windows: the book's col2im."""
    import numpy as np

    n, channels, h, w = shape
    dcol = dcol.reshape(n, oh, ow, channels, k, k).transpose(0, 3, 4, 5, 1, 2)
    dx = np.zeros((n, channels, h + 2 * padding, w + 2 * padding), dcol.dtype)
    for i in range(k):
        for j in range(k):
            dx[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride] += dcol[:, :, i, j]
    return dx[:, :, padding : padding + h, padding : padding + w]


def work(net: str) -> contest.Work:
    """A training step of a net."""
    import numpy as np

    shape, convolutions, units = NETS[net]
    rng, params = np.random.default_rng(0), parameters(net)
    x, t = rng.normal(size=shape).astype(np.float32), rng.integers(0, units[-1], shape[0])
    (n, _, size, _), products = shape, []
    for (_, k, padding), W in zip(convolutions, params[::2], strict=False):
        size += 2 * padding - k + 1
        products.append(2.0 * n * size * size * W.size)
        size //= 2
    products += [2.0 * n * W.size for W in params[2 * len(convolutions) :: 2]]
    return contest.Work(
        family="convolution", name=net, size=n, f=lambda F, *given: loss(F, net, *given), leaves=params,
        constants=(x, t), kind="training", needs=("conv2d", "max_pool2d"), control=lambda: by_hand(net, params, x, t),
        flops=3 * sum(products) - products[0],
    )  # fmt: skip


def im2col_step(x: Any, W: Any, dout: Any, stride: int, padding: int) -> bench.Step:
    """A convolution, forward and backward, as the book's Convolution does it."""
    n, (outputs, _, k, _), (oh, ow) = len(x), W.shape, dout.shape[2:]

    def step() -> Any:
        col = im2col(x, k, stride, padding, oh, ow)
        out = (col @ W.reshape(outputs, -1).T).reshape(n, oh, ow, -1).transpose(0, 3, 1, 2)
        d = dout.transpose(0, 2, 3, 1).reshape(-1, outputs)
        dW = (col.T @ d).T.reshape(W.shape)
        return out, col2im(d @ W.reshape(outputs, -1), x.shape, k, stride, padding, oh, ow), dW

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
    for net in NETS:
        steps, _, _ = contest.contestants(work(net), [Minigrad(), *([PyTorch()] if torch is not None else [])])
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
