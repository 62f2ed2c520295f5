"""The frameworks that compile a whole step before it runs, JAX, MLX and tinygrad; and the list of all."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import bench
from peers import RATE, Autograd, Minigrad, MinigradCompiled, MyGrad, Peer, PyTorch, PyTorchCompiled


class Jax(Peer):
    """JAX, the whole step compiled."""

    name, module = "JAX, jit", "jax"

    def __init__(self) -> None:
        super().__init__()
        import jax

        self.jax, self.np = jax, jax.numpy
        self.sigmoid, self.relu = jax.nn.sigmoid, jax.nn.relu

    def numbers(self, results: Sequence[Any]) -> list[Any]:
        import numpy

        return [numpy.array(result) for result in results]

    def cross_entropy(self, y: Any, t: Any) -> Any:
        """The mean over the rows."""
        return -self.np.take_along_axis(self.jax.nn.log_softmax(y), t[:, None], 1).mean()

    def conv2d(self, x: Any, W: Any, b: Any, padding: int) -> Any:
        """lax's convolution."""
        return self.jax.lax.conv(x, W, (1, 1), [(padding, padding)] * 2) + b[:, None, None]

    def max_pool2d(self, x: Any) -> Any:
        """2x2; windows do not overlap, so that a maximum over two axes does."""
        n, c, h, w = x.shape
        return x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))

    def lstm(self, x: Any, W_ih: Any, W_hh: Any, b: Any) -> Any:
        """The last h, with lax.scan: written out, 32 steps take XLA several times as long."""

        def after(states: Any, z: Any) -> Any:
            h, c = states
            i, f, g, o = self.np.split(z + h @ W_hh.T, 4, axis=1)
            c = self.sigmoid(f) * c + self.sigmoid(i) * self.tanh(g)
            return (self.sigmoid(o) * self.tanh(c), c), None

        zeros = self.np.zeros((x.shape[1], W_hh.shape[1]), x.dtype)
        return self.jax.lax.scan(after, (zeros, zeros), self.linear(x, W_ih, b))[0][0]

    def run(self, f: Callable[..., Any], *args: Any) -> bench.Step:
        """f compiled, with arrays for arguments, waited for."""
        compiled, args = self.jax.jit(f), self.jax.tree.map(self.np.asarray, args)
        return lambda: self.jax.block_until_ready(compiled(*args))

    def gradients(self, f: Any, leaves: Any, constants: Any, dout: Any) -> bench.Step:
        def both(leaves: Any, constants: Any, dout: Any) -> Any:
            out, pull = self.jax.vjp(lambda *leaves: f(self, *leaves, *constants), *leaves)
            return out, *pull(self.np.ones_like(out) if dout is None else dout)

        return self.run(both, leaves, constants, dout)

    def training(self, f: Any, params: Any, constants: Any) -> bench.Step:
        @self.jax.jit
        def update(params: Any, constants: Any) -> Any:
            value, grads = self.jax.value_and_grad(lambda params: f(self, *params, *constants))(params)
            return value, [p - RATE * g for p, g in zip(params, grads, strict=True)]

        params, constants = self.jax.tree.map(self.np.asarray, (list(params), tuple(constants)))

        def step() -> Any:
            nonlocal params
            value, params = self.jax.block_until_ready(update(params, constants))
            return value, *params

        return step

    def hvp(self, f: Any, leaves: Any, constants: Any, vs: Any) -> bench.Step:
        """A step that gives the Hessian of the loss f times vs: forward over reverse, as its manual does it."""

        def product(leaves: Any, constants: Any, vs: Any) -> Any:
            return self.jax.jvp(self.jax.grad(lambda leaves: f(self, *leaves, *constants)), (leaves,), (vs,))[1]

        return self.run(product, list(leaves), constants, list(vs))


class Mlx(Peer):
    """MLX on the processor, the whole step compiled."""

    name, module = "MLX, compile", "mlx.core"

    def __init__(self) -> None:
        super().__init__()
        import mlx.core as mx

        mx.set_default_device(mx.cpu)
        self.mx, self.np = mx, mx
        self.sigmoid = mx.sigmoid

    def numbers(self, results: Sequence[Any]) -> list[Any]:
        import numpy

        return [numpy.array(result) for result in results]

    def linear(self, x: Any, W: Any, b: Any) -> Any:
        """Product and sum in one."""
        return self.mx.addmm(b, x, W.T)

    def layer_norm(self, x: Any, W: Any, b: Any) -> Any:
        return self.mx.fast.layer_norm(x, W, b, 1e-5)

    def cross_entropy(self, y: Any, t: Any) -> Any:
        """As mlx.nn has it."""
        return (self.mx.logsumexp(y, axis=-1) - self.mx.take_along_axis(y, t[:, None], -1).squeeze(-1)).mean()

    def run(self, f: Callable[..., Any], *args: Any) -> bench.Step:
        """f compiled, with arrays for arguments, waited for."""
        compiled, given = self.mx.compile(f), [[self.mx.array(a) for a in group] for group in args]

        def step() -> Any:
            results = compiled(*given)
            self.mx.eval(results)
            return results

        return step

    def gradients(self, f: Any, leaves: Any, constants: Any, dout: Any) -> bench.Step:
        one = self.mx.array(1.0)

        def both(leaves: Any, constants: Any, dout: Any) -> Any:
            outs, slopes = self.mx.vjp(lambda *leaves: f(self, *leaves, *constants), leaves, dout or [one])
            return *outs, *slopes

        return self.run(both, leaves, constants, [] if dout is None else [dout])

    def training(self, f: Any, params: Any, constants: Any) -> bench.Step:
        both = self.mx.value_and_grad(lambda params, constants: f(self, *params, *constants))

        @self.mx.compile
        def update(params: Any, constants: Any) -> Any:
            value, grads = both(params, constants)
            return value, [p - RATE * g for p, g in zip(params, grads, strict=True)]

        params, constants = ([self.mx.array(a) for a in group] for group in (params, constants))

        def step() -> Any:
            nonlocal params
            value, params = update(params, constants)
            self.mx.eval(value, params)
            return value, *params

        return step

    def hvp(self, f: Any, leaves: Any, constants: Any, vs: Any) -> bench.Step:
        slope = self.mx.grad(lambda leaves, constants: f(self, *leaves, *constants))

        def along(leaves: Any, constants: Any, vs: Any) -> Any:
            return sum((g * v).sum() for g, v in zip(slope(leaves, constants), vs, strict=True))

        return self.run(self.mx.grad(along), leaves, constants, vs)


class Tinygrad(Peer):
    """tinygrad, the whole step compiled by TinyJit; on a processor it wants clang."""

    name, module, slow = "tinygrad, jit", "tinygrad", True

    def __init__(self) -> None:
        super().__init__()
        import tinygrad

        self.tinygrad, self.np = tinygrad, tinygrad.Tensor

    @staticmethod
    def why_not() -> str:
        """Where there is nothing that it could compile with."""
        return "" if shutil.which(os.environ.get("CC", "clang")) else "no clang, which it compiles with"

    def numbers(self, results: Sequence[Any]) -> list[Any]:
        return [result.numpy() for result in results]

    def sigmoid(self, x: Any) -> Any:
        return x.sigmoid()

    def tanh(self, x: Any) -> Any:
        return x.tanh()

    def relu(self, x: Any) -> Any:
        return x.relu()

    def linear(self, x: Any, W: Any, b: Any) -> Any:
        return x.linear(W.T, b)

    def layer_norm(self, x: Any, W: Any, b: Any) -> Any:
        return x.layernorm(eps=1e-5) * W + b

    def cross_entropy(self, y: Any, t: Any) -> Any:
        return y.sparse_categorical_crossentropy(t)

    def conv2d(self, x: Any, W: Any, b: Any, padding: int) -> Any:
        return x.conv2d(W, b, padding=padding)

    def max_pool2d(self, x: Any) -> Any:
        """Its own, 2x2."""
        return x.max_pool2d((2, 2))

    def tensors(self, arrays: Sequence[Any]) -> list[Any]:
        """Tensors that hold their numbers."""
        return [self.tinygrad.Tensor(a).contiguous().realize() for a in arrays]

    def run(self, f: Callable[..., Any]) -> bench.Step:
        """f compiled, waited for: the first calls record, later ones replay."""
        compiled, device = self.tinygrad.TinyJit(f), self.tinygrad.Device[self.tinygrad.Device.DEFAULT]

        def step() -> Any:
            results = compiled()
            device.synchronize()
            return results

        return step

    def gradients(self, f: Any, leaves: Any, constants: Any, dout: Any) -> bench.Step:
        leaves, constants = self.tensors(leaves), self.tensors(constants)
        dout = None if dout is None else self.tensors([dout])[0]

        def both() -> Any:
            out = f(self, *leaves, *constants)
            results = out, *out.gradient(*leaves, gradient=dout)
            return tuple(result.realize() for result in results)

        return self.run(both)

    def training(self, f: Any, params: Any, constants: Any) -> bench.Step:
        params, constants = self.tensors(params), self.tensors(constants)

        def update() -> Any:
            loss = f(self, *params, *constants)
            grads = loss.gradient(*params)
            for p, g in zip(params, grads, strict=True):
                p.assign(p - RATE * g)
            return loss.realize(*params)

        run = self.run(update)
        return lambda: (run(), *params)


PEERS = [Minigrad, MinigradCompiled, PyTorch, PyTorchCompiled, Jax, Autograd, MyGrad, Mlx, Tinygrad]


def present(*, quick: bool) -> tuple[list[Any], list[str]]:
    """One of each peer that can run here, and a line on each other; quick: without those that take long to compile."""
    found, absent = [], []
    for peer in PEERS:
        package = peer.module.split(".")[0]
        if importlib.util.find_spec(package) is None:
            why = f"{package} is not installed"
        elif quick and peer.slow:
            why = "in quick runs, since compiling takes long"
        else:
            why = peer.why_not()
        if why:
            absent.append(f"{peer.name}: left out, {why}")
        else:
            found.append(peer())
    return found, absent
