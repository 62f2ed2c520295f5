"""What one operation costs beyond its arithmetic: 100 times y = y * a + a on 32 float32 values, sum, backward.

Both y and a require a gradient. The control is the same written by hand in NumPy.
Wanted: at most 0.55 x PyTorch's time and at most 1.8 x NumPy's.
"""

from __future__ import annotations

from typing import Any

import bench

LENGTH = 100


def numpy_step(a: Any, first: Any) -> bench.Step:
    """The chain and its derivative by hand."""
    import numpy as np

    def step() -> Any:
        y, ys = first, []
        for _ in range(LENGTH):
            ys.append(y)
            y = y * a + a
        loss = y.sum()
        dy, da = np.ones_like(y), np.zeros_like(a)
        for y in reversed(ys):
            da += dy
            da += dy * y
            dy = dy * a
        return loss, dy, da

    return step


def minigrad_step(a: Any, first: Any) -> bench.Step:
    """The chain on Tensors, backward."""
    import minigrad as mg

    a, first = mg.Tensor(a, requires_grad=True), mg.Tensor(first, requires_grad=True)

    def step() -> Any:
        a.grad = first.grad = None
        y = first
        for _ in range(LENGTH):
            y = y * a + a
        loss = y.sum()
        loss.backward()
        return loss.data, first.grad, a.grad

    return step


def torch_step(a: Any, first: Any) -> bench.Step:
    """The same in PyTorch."""
    import torch

    a, first = torch.tensor(a, requires_grad=True), torch.tensor(first, requires_grad=True)

    def step() -> Any:
        a.grad = first.grad = None
        y = first
        for _ in range(LENGTH):
            y = y * a + a
        loss = y.sum()
        loss.backward()
        return loss.detach(), first.grad, a.grad

    return step


def jax_step(a: Any, first: Any, *, jit: bool) -> bench.Step:
    """The same in JAX, operation by operation or compiled as a whole."""
    import jax

    def loss(first: Any, a: Any) -> Any:
        y = first
        for _ in range(LENGTH):
            y = y * a + a
        return y.sum()

    both = jax.value_and_grad(loss, argnums=(0, 1))
    both = jax.jit(both) if jit else both
    a, first = jax.numpy.asarray(a), jax.numpy.asarray(first)

    def step() -> Any:
        value, grads = jax.block_until_ready(both(first, a))
        return value, *grads

    return step


def autograd_step(a: Any, first: Any) -> bench.Step:
    """The same in autograd."""
    import autograd
    import autograd.numpy as anp

    def loss(pair: Any) -> Any:
        first, a = pair
        y = first
        for _ in range(LENGTH):
            y = y * a + a
        return anp.sum(y)

    both = autograd.value_and_grad(loss)

    def step() -> Any:
        value, grads = both((first, a))
        return value, *grads

    return step


def mygrad_step(a: Any, first: Any) -> bench.Step:
    """The same in MyGrad."""
    import mygrad

    a, first = mygrad.tensor(a), mygrad.tensor(first)

    def step() -> Any:
        y = first
        for _ in range(LENGTH):
            y = y * a + a
        loss = y.sum()
        loss.backward()
        return loss.data, first.grad, a.grad

    return step


def main() -> None:
    """Run the contestants that are installed, check that they agree, print the table."""
    chosen = bench.options(__doc__)
    report = bench.Report("Overhead of one operation", chosen)
    import numpy as np

    rng = np.random.default_rng(0)
    a = rng.uniform(0.1, 0.5, 32).astype(np.float32)
    first = rng.uniform(-1, 1, 32).astype(np.float32)
    steps = {"NumPy by hand": numpy_step(a, first), "minigrad": minigrad_step(a, first)}
    if bench.available("torch"):
        steps["PyTorch"] = torch_step(a, first)
    if bench.available("jax"):
        steps["JAX"] = jax_step(a, first, jit=False)
        steps["JAX, jit"] = jax_step(a, first, jit=True)
    if bench.available("autograd"):
        steps["autograd"] = autograd_step(a, first)
    if bench.available("mygrad"):
        steps["MyGrad"] = mygrad_step(a, first)
    exact = steps["NumPy by hand"]()
    for name, step in steps.items():
        for got, want in zip(step(), exact, strict=True):
            assert np.asarray(got).dtype == np.float32, f"{name} computes in {np.asarray(got).dtype}"
            np.testing.assert_allclose(np.asarray(got), want, rtol=1e-4, atol=1e-6, err_msg=name)
    medians = bench.race(steps, rounds=5 if chosen.quick else 60, seconds=0.002 if chosen.quick else 0.02)
    report.compare(f"{LENGTH} times y = y * a + a, 32 float32 values, sum, backward", medians, "NumPy by hand")
    print()
    if "PyTorch" in medians:
        report.wanted("minigrad / PyTorch", medians["minigrad"] / medians["PyTorch"], 0.55)
    report.wanted("minigrad / NumPy by hand", medians["minigrad"] / medians["NumPy by hand"], 1.8)
    report.close()


if __name__ == "__main__":
    main()
