"""The frameworks that are compared, each with the same few functions and its own ways to a gradient.

A work (see contest.py) is written once, as f(F, *leaves, *constants), where F is one of the classes here and in
peers_compiled.py. A class that lacks a function which a work needs is left out of it. Three methods make a step, a
function without arguments whose results `numbers` turns into copies as NumPy arrays:
gradients(f, leaves, constants, dout): f's result, and the gradient of each leaf for dout, the gradient of the result.
training(f, params, constants): gradient descent on the loss f in place; the loss and the parameters.
hvp(f, leaves, constants, vs): the Hessian of the loss f times vs, one product for each leaf.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import bench

RATE = 1e-3  # of the training steps: small enough that the numbers stay what they are in early training


class Peer:
    """What most have in common: results that NumPy can read, functions made of smaller ones."""

    name: str
    module: str
    slow = False  # to compile

    def __init__(self) -> None:
        import numpy

        self.np: Any = numpy

    @staticmethod
    def why_not() -> str:
        """Why it cannot run here, or nothing."""
        return ""

    def numbers(self, results: Sequence[Any]) -> list[Any]:
        """Copies of a step's results as NumPy arrays: a later step may write into them."""
        return [self.np.array(result) for result in results]

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + exp(-x))."""
        return 1 / (1 + self.np.exp(-x))

    def tanh(self, x: Any) -> Any:
        return self.np.tanh(x)

    def relu(self, x: Any) -> Any:
        return self.np.maximum(x, 0)

    def linear(self, x: Any, W: Any, b: Any) -> Any:
        """The book's Affine with W as PyTorch stores it."""
        return self.np.dot(x, W.T) + b

    def layer_norm(self, x: Any, W: Any, b: Any) -> Any:
        """Over the last axis."""
        d = x - self.np.mean(x, axis=-1, keepdims=True)
        return d / self.np.sqrt(self.np.mean(d * d, axis=-1, keepdims=True) + 1e-5) * W + b

    def lstm(self, x: Any, W_ih: Any, W_hh: Any, b: Any) -> Any:
        """The last h of x's steps, from h = c = 0, with the gates in PyTorch's order."""
        size, h, c = W_hh.shape[1], None, None
        for t in range(x.shape[0]):
            z = self.linear(x[t], W_ih, b)
            z = z if h is None else z + self.matmul(h, W_hh.T)
            i, f, g, o = (z[:, k * size : (k + 1) * size] for k in range(4))
            new = self.sigmoid(i) * self.tanh(g)
            c = new if c is None else self.sigmoid(f) * c + new
            h = self.sigmoid(o) * self.tanh(c)
        return h

    def matmul(self, x: Any, y: Any) -> Any:
        """The matrix product."""
        return x @ y


class Minigrad(Peer):
    """minigrad, operation by operation."""

    name, module = "minigrad", "minigrad"

    def __init__(self) -> None:
        super().__init__()
        import minigrad as mg

        self.mg = mg
        self.sigmoid, self.tanh, self.relu = mg.sigmoid, mg.tanh, mg.relu
        self.linear, self.cross_entropy = mg.linear, mg.softmax_cross_entropy

    def made(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step as it is."""
        return step

    def numbers(self, results: Sequence[Any]) -> list[Any]:
        """The Tensors' arrays; a gradient is one."""
        return [self.np.array(a.data if isinstance(a, self.mg.Tensor) else a) for a in results]

    def layer_norm(self, x: Any, W: Any, b: Any) -> Any:
        return self.mg.layer_norm(x, x.shape[-1], W, b)

    def lstm(self, x: Any, W_ih: Any, W_hh: Any, b: Any) -> Any:
        zeros = self.np.zeros((x.shape[1], W_hh.shape[1]), x.dtype)
        return self.mg.lstm(x, zeros, zeros, W_ih, W_hh, b)[-2]

    def conv2d(self, x: Any, W: Any, b: Any, padding: int) -> Any:
        return self.mg.conv2d(x, W, b, padding=padding)

    def max_pool2d(self, x: Any) -> Any:
        """Its own op, 2x2."""
        return self.mg.max_pool2d(x, 2)

    def leaves(self, arrays: Sequence[Any]) -> list[Any]:
        """Copies of the arrays that require a gradient."""
        return [self.mg.Tensor(a.copy(), requires_grad=True) for a in arrays]

    def constants(self, arrays: Sequence[Any]) -> list[Any]:
        """Floats as Tensors, labels as they are."""
        return [self.mg.Tensor(a) if a.dtype.kind == "f" else a for a in arrays]

    def gradients(self, f: Any, leaves: Any, constants: Any, dout: Any) -> bench.Step:
        leaves, constants = self.leaves(leaves), self.constants(constants)

        def step(*constants: Any) -> Any:
            for leaf in leaves:
                leaf.grad = None
            out = f(self, *leaves, *constants)
            out.backward(dout)
            return out

        run = self.made(step)
        return lambda: (run(*constants), *(leaf.grad for leaf in leaves))

    def training(self, f: Any, params: Any, constants: Any) -> bench.Step:
        params, constants = self.leaves(params), self.constants(constants)

        def step(*constants: Any) -> Any:
            loss = f(self, *params, *constants)
            loss.backward()
            for p in params:
                p.data -= RATE * p.grad
                p.grad = None
            return loss

        run = self.made(step)
        return lambda: (run(*constants), *params)

    def hvp(self, f: Any, leaves: Any, constants: Any, vs: Any) -> bench.Step:
        leaves, constants, vs = self.leaves(leaves), self.constants(constants), self.constants(vs)

        def step(*constants: Any) -> Any:
            slopes = self.mg.grad(f(self, *leaves, *constants), leaves, create_graph=True)
            return self.mg.grad(slopes, leaves, vs)

        run = self.made(step)
        return lambda: run(*constants)


class MinigradCompiled(Minigrad):
    """minigrad, the whole step recorded once and replayed."""

    name = "minigrad, compiled"

    @staticmethod
    def why_not() -> str:
        """Where the package has no compile."""
        import minigrad as mg

        return "" if callable(getattr(mg, "compile", None)) else "minigrad.compile is not there"

    def made(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step, compiled."""
        return self.mg.compile(step)


class PyTorch(Peer):
    """PyTorch, operation by operation."""

    name, module = "PyTorch", "torch"

    def __init__(self) -> None:
        super().__init__()
        import torch

        self.torch, F = torch, torch.nn.functional
        if os.environ.get("OMP_NUM_THREADS") == "1":
            torch.set_num_threads(1)
        self.sigmoid, self.tanh, self.relu = torch.sigmoid, torch.tanh, torch.relu
        self.linear, self.cross_entropy = F.linear, F.cross_entropy

    def made(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """The forward pass as it is."""
        return f

    def numbers(self, results: Sequence[Any]) -> list[Any]:
        return [self.np.array(result.detach()) for result in results]

    def layer_norm(self, x: Any, W: Any, b: Any) -> Any:
        return self.torch.nn.functional.layer_norm(x, (x.shape[-1],), W, b)

    def lstm(self, x: Any, W_ih: Any, W_hh: Any, b: Any) -> Any:
        """Its own; its second bias is 0."""
        zeros = x.new_zeros(1, x.shape[1], W_hh.shape[1])
        weights = [W_ih, W_hh, b, self.torch.zeros_like(b)]
        return self.torch.lstm(x, (zeros, zeros), weights, True, 1, 0.0, True, False, False)[1][0]

    def conv2d(self, x: Any, W: Any, b: Any, padding: int) -> Any:
        return self.torch.nn.functional.conv2d(x, W, b, padding=padding)

    def max_pool2d(self, x: Any) -> Any:
        """Its own, 2x2."""
        return self.torch.nn.functional.max_pool2d(x, 2)

    def leaves(self, arrays: Sequence[Any]) -> list[Any]:
        """Tensors that require a gradient."""
        return [self.torch.tensor(a, requires_grad=True) for a in arrays]

    def constants(self, arrays: Sequence[Any]) -> list[Any]:
        """Tensors."""
        return [self.torch.tensor(a) for a in arrays]

    def gradients(self, f: Any, leaves: Any, constants: Any, dout: Any) -> bench.Step:
        leaves, constants = self.leaves(leaves), self.constants(constants)
        dout = None if dout is None else self.torch.tensor(dout)
        run = self.made(lambda *args: f(self, *args))

        def step() -> Any:
            for leaf in leaves:
                leaf.grad = None
            out = run(*leaves, *constants)
            out.backward(dout)
            return out.detach(), *(leaf.grad for leaf in leaves)

        return step

    def training(self, f: Any, params: Any, constants: Any) -> bench.Step:
        params, constants = self.leaves(params), self.constants(constants)
        run, no_grad = self.made(lambda *args: f(self, *args)), self.torch.no_grad

        def step() -> Any:
            loss = run(*params, *constants)
            loss.backward()
            with no_grad():
                for p in params:
                    p.sub_(p.grad, alpha=RATE)
                    p.grad = None
            return loss.detach(), *params

        return step

    def hvp(self, f: Any, leaves: Any, constants: Any, vs: Any) -> bench.Step:
        leaves, constants, vs = self.leaves(leaves), self.constants(constants), self.constants(vs)
        run, grad = self.made(lambda *args: f(self, *args)), self.torch.autograd.grad
        return lambda: grad(grad(run(*leaves, *constants), leaves, create_graph=True), leaves, vs)


class PyTorchCompiled(PyTorch):
    """torch.compile for the forward pass and its derivative; it wants a C++ compiler."""

    name, slow = "torch.compile", True

    @staticmethod
    def why_not() -> str:
        """Where there is no compiler."""
        return "" if os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") else "no C++ compiler"

    def made(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """Compiled for these shapes."""
        return self.torch.compile(f, dynamic=False)


class Autograd(Peer):
    """autograd, operation by operation."""

    name, module = "autograd", "autograd"

    def __init__(self) -> None:
        super().__init__()
        import autograd

        self.autograd, self.np = autograd, autograd.numpy

    def cross_entropy(self, y: Any, t: Any) -> Any:
        """The mean over the rows."""
        y = y - self.np.max(y, axis=1, keepdims=True)
        logs = y - self.np.log(self.np.sum(self.np.exp(y), axis=1, keepdims=True))
        return -self.np.mean(logs[self.np.arange(len(t)), t])

    def gradients(self, f: Any, leaves: Any, constants: Any, dout: Any) -> bench.Step:
        make = self.autograd.make_vjp(lambda leaves: f(self, *leaves, *constants))
        leaves = tuple(leaves)

        def step() -> Any:
            pull, out = make(leaves)
            return out, *pull(self.np.ones_like(out) if dout is None else dout)

        return step

    def training(self, f: Any, params: Any, constants: Any) -> bench.Step:
        both = self.autograd.value_and_grad(lambda params: f(self, *params, *constants))
        params = [p.copy() for p in params]

        def step() -> Any:
            value, grads = both(params)
            for p, dp in zip(params, grads, strict=True):
                p -= RATE * dp
            return value, *params

        return step

    def hvp(self, f: Any, leaves: Any, constants: Any, vs: Any) -> bench.Step:
        slope = self.autograd.grad(lambda leaves: f(self, *leaves, *constants))

        def along(leaves: Any) -> Any:
            return sum(self.np.sum(g * v) for g, v in zip(slope(leaves), vs, strict=True))

        product, leaves = self.autograd.grad(along), tuple(leaves)
        return lambda: product(leaves)


class MyGrad(Peer):
    """MyGrad, operation by operation; it has no second derivatives."""

    name, module = "MyGrad", "mygrad"

    def __init__(self) -> None:
        super().__init__()
        import mygrad
        from mygrad.nnet import activations, losses

        self.mygrad, self.np = mygrad, mygrad
        self.sigmoid, self.relu = activations.sigmoid, activations.relu
        self.tanh, self.cross_entropy = activations.tanh, losses.softmax_crossentropy

    def numbers(self, results: Sequence[Any]) -> list[Any]:
        import numpy

        return [numpy.array(a.data if isinstance(a, self.mygrad.Tensor) else a) for a in results]

    def linear(self, x: Any, W: Any, b: Any) -> Any:
        """Its matmul."""
        return x @ W.T + b

    def gradients(self, f: Any, leaves: Any, constants: Any, dout: Any) -> bench.Step:
        leaves = [self.mygrad.tensor(a) for a in leaves]

        def step() -> Any:
            out = f(self, *leaves, *constants)
            out.backward(dout)
            return out.data, *(leaf.grad for leaf in leaves)

        return step

    def training(self, f: Any, params: Any, constants: Any) -> bench.Step:
        params = [self.mygrad.tensor(p) for p in params]

        def step() -> Any:
            loss = f(self, *params, *constants)
            loss.backward()
            for p in params:
                p.data[...] -= RATE * p.grad
            return loss, *params

        return step
