"""One training step of the book's network: 784-50-10, batches of 100, float32.

Forward with relu, softmax cross-entropy, backward, and SGD that updates the parameters in place. Every
contestant starts from the same parameters and sees the same batch; the learning rate is so small that the
numbers stay what they are in early training. The control is the book's own backward by hand in NumPy.
Wanted: at most 0.65 x PyTorch's time, both with their default threads and both with one (--threads 1), and
at most 1.4 x NumPy's.
"""

from __future__ import annotations

from typing import Any

import bench

INPUTS, HIDDEN, CLASSES, BATCH = 784, 50, 10, 100
RATE = 1e-4


def parameters() -> list[Any]:
    """W1, b1, W2, b2, always the same."""
    import numpy as np

    rng = np.random.default_rng(1)
    shapes = (INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)
    return [(rng.normal(size=shape) * 0.01 * (len(shape) == 2)).astype(np.float32) for shape in shapes]


def numpy_step(x: Any, t: Any) -> bench.Step:
    """The network and its gradient by hand."""
    import numpy as np

    W1, b1, W2, b2 = params = parameters()
    rows = np.arange(BATCH)

    def step() -> Any:
        a1 = x @ W1 + b1
        z1 = np.maximum(a1, 0)
        y = z1 @ W2 + b2
        y -= y.max(axis=1, keepdims=True)
        np.exp(y, out=y)
        y /= y.sum(axis=1, keepdims=True)
        loss = -np.log(y[rows, t]).mean()
        dy = y
        dy[rows, t] -= 1
        dy /= BATCH
        dW2, db2 = z1.T @ dy, dy.sum(axis=0)
        da1 = dy @ W2.T
        da1 *= a1 > 0
        dW1, db1 = x.T @ da1, da1.sum(axis=0)
        for p, dp in zip(params, (dW1, db1, dW2, db2), strict=True):
            p -= RATE * dp
        return loss

    return step


def minigrad_step(x: Any, t: Any) -> bench.Step:
    """The network on Tensors."""
    import minigrad as mg

    W1, b1, W2, b2 = params = [mg.Tensor(p, requires_grad=True) for p in parameters()]
    x = mg.Tensor(x)

    def step() -> Any:
        z1 = mg.relu(x @ W1 + b1)
        loss = mg.softmax_cross_entropy(z1 @ W2 + b2, t)
        loss.backward()
        for p in params:
            p.data -= RATE * p.grad
            p.grad = None
        return loss.data

    return step


def torch_step(x: Any, t: Any, *, linear: bool) -> bench.Step:
    """The network in PyTorch: with operators as in minigrad, or with the fused linear layer."""
    import torch
    from torch.nn import functional as F

    params = [torch.tensor(p.T.copy() if linear else p, requires_grad=True) for p in parameters()]
    W1, b1, W2, b2 = params
    x, t = torch.tensor(x), torch.tensor(t)

    def step() -> Any:
        if linear:
            loss = F.cross_entropy(F.linear(torch.relu(F.linear(x, W1, b1)), W2, b2), t)
        else:
            loss = F.cross_entropy(torch.relu(x @ W1 + b1) @ W2 + b2, t)
        loss.backward()
        with torch.no_grad():
            for p in params:
                p.sub_(p.grad, alpha=RATE)
                p.grad = None
        return loss.detach()

    return step


def jax_step(x: Any, t: Any) -> bench.Step:
    """The network in JAX, the whole step compiled."""
    import jax
    import jax.numpy as jnp

    def loss(params: Any, x: Any, t: Any) -> Any:
        W1, b1, W2, b2 = params
        y = jax.nn.log_softmax(jax.nn.relu(x @ W1 + b1) @ W2 + b2)
        return -jnp.take_along_axis(y, t[:, None], 1).mean()

    @jax.jit
    def update(params: Any, x: Any, t: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x, t)
        return value, [p - RATE * g for p, g in zip(params, grads, strict=True)]

    params = [jnp.asarray(p) for p in parameters()]
    x, t = jnp.asarray(x), jnp.asarray(t)

    def step() -> Any:
        nonlocal params
        value, params = jax.block_until_ready(update(params, x, t))
        return value

    return step


def autograd_step(x: Any, t: Any) -> bench.Step:
    """The network in autograd."""
    import autograd
    import autograd.numpy as anp

    params = parameters()
    rows = anp.arange(BATCH)

    def loss(params: Any) -> Any:
        W1, b1, W2, b2 = params
        y = anp.dot(anp.maximum(anp.dot(x, W1) + b1, 0), W2) + b2
        y = y - anp.max(y, axis=1, keepdims=True)
        logs = y - anp.log(anp.sum(anp.exp(y), axis=1, keepdims=True))
        return -anp.mean(logs[rows, t])

    both = autograd.value_and_grad(loss)

    def step() -> Any:
        value, grads = both(params)
        for p, dp in zip(params, grads, strict=True):
            p -= RATE * dp
        return value

    return step


def mygrad_step(x: Any, t: Any) -> bench.Step:
    """The network in MyGrad."""
    import mygrad
    from mygrad.nnet import activations, losses

    W1, b1, W2, b2 = params = [mygrad.tensor(p) for p in parameters()]

    def step() -> Any:
        y = activations.relu(x @ W1 + b1) @ W2 + b2
        loss = losses.softmax_crossentropy(y, t)
        loss.backward()
        for p in params:
            p.data[...] -= RATE * p.grad
        return loss.item()

    return step


def main() -> None:
    """Run the contestants that are installed, check that they agree, print the table."""
    chosen = bench.options(__doc__)
    report = bench.Report("The book's training step", chosen)
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, INPUTS)).astype(np.float32)
    t = rng.integers(0, CLASSES, BATCH)
    steps = {"NumPy by hand": numpy_step(x, t), "minigrad": minigrad_step(x, t)}
    if bench.available("torch"):
        steps["PyTorch"] = torch_step(x, t, linear=False)
        steps["PyTorch, F.linear"] = torch_step(x, t, linear=True)
    if bench.available("jax"):
        steps["JAX, jit"] = jax_step(x, t)
    if bench.available("autograd"):
        steps["autograd"] = autograd_step(x, t)
    if bench.available("mygrad"):
        steps["MyGrad"] = mygrad_step(x, t)
    exact = [steps["NumPy by hand"]() for _ in range(3)]  # the third loss depends on two updates
    for name, step in steps.items():
        if name != "NumPy by hand":
            got = [float(np.asarray(step())) for _ in range(3)]
            np.testing.assert_allclose(got, exact, rtol=1e-5, err_msg=name)
    medians = bench.race(steps, rounds=5 if chosen.quick else 60, seconds=0.005 if chosen.quick else 0.03)
    name = f"{INPUTS}-{HIDDEN}-{CLASSES}, batch {BATCH}, float32: forward, backward, SGD"
    report.compare(name, medians, "NumPy by hand")
    print()
    if "PyTorch" in medians:
        fastest = min(medians["PyTorch"], medians["PyTorch, F.linear"])
        report.wanted("minigrad / the faster PyTorch", medians["minigrad"] / fastest, 0.65)
    report.wanted("minigrad / NumPy by hand", medians["minigrad"] / medians["NumPy by hand"], 1.4)
    report.close()


if __name__ == "__main__":
    main()
