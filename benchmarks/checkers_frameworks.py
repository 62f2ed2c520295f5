"""The four checkers of checkers.py: what turns a case into a function of theirs, and asks them with their defaults.

In order: minigrad.testing, PyTorch, JAX, autograd; then which are installed, and how one is asked.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import random
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from checkers_cases import Case, Rules

FUNCTIONS = ("sin", "cos", "exp", "tanh")


@dataclass(frozen=True)
class Outcome:
    """What a checker made of a case: passed it, refused it or, with None, cannot be asked; and its words."""

    passed: bool | None
    detail: str = ""


def gradients(backward: Callable[..., Any], dout: Any, out: Any, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """What a backward returns, as a tuple with an entry for each input."""
    found = backward(dout, out, *inputs)
    return found if isinstance(found, tuple) else (found,)


def floating(inputs: Sequence[Any]) -> list[int]:
    """Which inputs have a gradient: those of floats, or all where there are none."""
    return [i for i, x in enumerate(inputs) if x.dtype.kind == "f"] or list(range(len(inputs)))


def described(error: Exception) -> str:
    """An exception on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"


class Minigrad:
    """minigrad.testing: a case as an op and, where it has no state or randomness, as two plain functions as well."""

    name, module = "minigrad", "minigrad.testing.gradcheck"

    def __init__(self) -> None:
        import minigrad as mg
        from minigrad import testing

        self.mg, self.testing = mg, testing
        own: dict[str, Callable[[Any], Any]] = {
            "relu": lambda x: mg.relu(x),
            "abs": lambda x: abs(x),
            "max": lambda x: x.max(),
            "clip": lambda x: np.clip(x, -1, 1),
            "sigmoid": lambda x: mg.sigmoid(x),
        }
        self.own = own

    def op(self, case: Case, rules: Rules, n: int, xp: Any = None) -> Any:
        """An Op with these rules and n arguments."""
        names = ["x", "y", "z"][:n]
        forward, backward = rules
        given = () if xp is None else (xp,)

        def run(self: Any, *xs: Any) -> Any:
            return forward(*given, *xs)

        def pull(self: Any, dout: Any, out: Any, *xs: Any) -> Any:
            if xp is not None:
                return backward(xp, dout, out, *xs)
            found = gradients(backward, dout, out, xs)
            return found if n > 1 else found[0]

        self_and = [inspect.Parameter(k, inspect.Parameter.POSITIONAL_OR_KEYWORD) for k in ["self", "dout", "out"]]
        xs = [inspect.Parameter(k, inspect.Parameter.POSITIONAL_OR_KEYWORD) for k in names]
        run.__signature__ = inspect.Signature([self_and[0], *xs])
        pull.__signature__ = inspect.Signature([*self_and, *xs])
        return type("Planted", (self.mg.Op,), {"forward": run, "backward": pull, "__module__": __name__})()

    def namespace(self, case: Case) -> Any:
        """NumPy's functions, which Tensors answer to, and the case's slope."""
        xp = SimpleNamespace(**{name: getattr(np, name) for name in FUNCTIONS})
        if case.slope is not None:
            slope, forward = self.op(case, case.slope, 1, xp), case.slope[0]
            xp.slope = lambda x: slope(x) if isinstance(x, self.mg.Tensor) else forward(xp, x)
        return xp

    def reports(self, case: Case) -> list[Callable[[], Any]]:
        """The checks of a case."""
        check, inputs = self.testing.gradcheck, list(case.all_inputs())
        if case.layer is not None:
            own = [np.array(x) for x in case.inputs]
            return [lambda: self.testing.check_layer(case.layer, *own, params=case.params)]
        if case.own in self.own:
            return [lambda: check(self.own[case.own], inputs)]
        if case.order == 2:
            op = self.op(case, case.rules(), len(inputs), self.namespace(case))
            return [lambda: check(op, inputs, order=2)]
        op = self.op(case, case.rules(), len(inputs))
        checks = [lambda: check(op, inputs)]
        if case.make is None and case.theme != "Dropout":
            forward, backward = case.rules()
            floats = floating(inputs)

            def vjp(dout: Any, *xs: Any) -> Any:
                found = [gradients(backward, dout, forward(*xs), xs)[i] for i in floats]
                return tuple(found) if len(found) > 1 else found[0]

            checks.append(lambda: check(forward, inputs, vjp=vjp))
        return checks

    def check(self, case: Case) -> Outcome:
        """Passed where all of the checks do, with the verdict of each."""
        passed, words = True, []
        for report in self.reports(case):
            try:
                found = report()
                words.append(found.verdict)
                passed = passed and bool(found)
            except self.mg.errors.MinigradError as error:
                words.append(type(error).__name__)
                passed = False
        return Outcome(passed, ", ".join(dict.fromkeys(words)))


class PyTorch:
    """torch.autograd.gradcheck and, for the second order, gradgradcheck."""

    name, module = "PyTorch", "torch"

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.own: dict[str, Callable[[Any], Any]] = {
            "relu": torch.relu,
            "abs": torch.abs,
            "max": torch.max,
            "clip": lambda x: torch.clamp(x, -1, 1),
            "sigmoid": torch.sigmoid,
            "dropout": torch.nn.functional.dropout,
        }

    def function(self, case: Case, rules: Rules, xp: Any = None) -> Any:
        """A torch.autograd.Function with these rules, which see NumPy's view of the tensors, or xp's functions."""
        torch = self.torch
        forward, backward = rules

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *xs: Any) -> Any:
                if xp is not None:
                    out = forward(xp, *xs)
                else:
                    out = torch.as_tensor(np.asarray(forward(*[x.detach().numpy() for x in xs])))
                ctx.save_for_backward(out, *xs)
                return out

            @staticmethod
            def backward(ctx: Any, dout: Any) -> Any:
                out, *xs = ctx.saved_tensors
                if xp is not None:
                    return backward(xp, dout, out, *xs)
                arrays = [t.detach().numpy() for t in (dout, out, *xs)]
                found = gradients(backward, arrays[0], arrays[1], arrays[2:])
                return tuple(None if dx is None else torch.as_tensor(np.asarray(dx)) for dx in found)

        return Function.apply

    def check(self, case: Case) -> Outcome:
        """Whether gradcheck, and gradgradcheck where it is asked for, return without an error."""
        torch = self.torch
        torch.manual_seed(0)
        inputs = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in case.all_inputs()]
        xp = None
        if case.order == 2:
            xp = SimpleNamespace(**{name: getattr(torch, name) for name in FUNCTIONS})
            xp.slope = self.function(case, case.slope, xp) if case.slope else None
        f = self.own[case.own] if case.own in self.own else self.function(case, case.rules(), xp)
        try:
            torch.autograd.gradcheck(f, inputs)
            if case.order == 2:
                torch.autograd.gradgradcheck(f, inputs)
        except (RuntimeError, ValueError) as error:  # GradcheckError, and inputs that it refuses
            return Outcome(False, described(error))
        return Outcome(True)


class Jax:
    """jax.test_util.check_grads in reverse mode, 64 bits allowed."""

    name, module = "JAX", "jax"

    def __init__(self) -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax
        import jax.numpy as jnp
        import jax.test_util

        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_cpu_enable_async_dispatch", False)  # a callback that waits for arrays can deadlock
        self.jax, self.jnp = jax, jnp
        key = jax.random.key(0)
        self.own: dict[str, Callable[[Any], Any]] = {
            "relu": jax.nn.relu,
            "abs": jnp.abs,
            "max": jnp.max,
            "clip": lambda x: jnp.clip(x, -1, 1),
            "sigmoid": jax.nn.sigmoid,
            "dropout": lambda x: jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x / 0.5, 0),
        }

    def function(self, case: Case, rules: Rules, inputs: Sequence[Any], xp: Any = None) -> Any:
        """A jax.custom_vjp with these rules: NumPy called back from JAX, or xp's functions."""
        jax = self.jax
        forward, backward = rules
        if xp is not None:
            f = jax.custom_vjp(lambda *xs: forward(xp, *xs))
            f.defvjp(lambda *xs: (f(*xs), (f(*xs), xs)), lambda kept, dout: (backward(xp, dout, kept[0], *kept[1]),))
            return f
        value = np.asarray(case.rules()[0](*[x.copy() for x in inputs]))
        result = jax.ShapeDtypeStruct(value.shape, value.dtype)
        shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs)

        def numpy_forward(*xs: Any) -> Any:
            return np.asarray(forward(*map(np.asarray, xs)), value.dtype)

        def numpy_backward(dout: Any, out: Any, *xs: Any) -> Any:
            found = gradients(backward, np.asarray(dout), np.asarray(out), [np.asarray(x) for x in xs])
            return tuple(np.zeros_like(x) if dx is None else np.asarray(dx) for dx, x in zip(found, xs, strict=True))

        f = jax.custom_vjp(lambda *xs: jax.pure_callback(numpy_forward, result, *xs))
        f.defvjp(
            lambda *xs: (out := f(*xs), (out, xs)),
            lambda kept, dout: jax.pure_callback(numpy_backward, shapes, dout, kept[0], *kept[1]),
        )
        return f

    def check(self, case: Case) -> Outcome:
        """Whether check_grads returns without an error."""
        inputs = case.all_inputs()
        xp = None
        if case.order == 2:
            xp = SimpleNamespace(**{name: getattr(self.jnp, name) for name in FUNCTIONS})
            xp.slope = self.function(case, case.slope, inputs, xp) if case.slope else None
        f = self.own[case.own] if case.own in self.own else self.function(case, case.rules(), inputs, xp)
        floats = floating(inputs)
        fixed = list(inputs)

        def of_floats(*xs: Any) -> Any:
            for i, x in zip(floats, xs, strict=True):
                fixed[i] = x
            return f(*fixed)

        try:
            self.jax.test_util.check_grads(of_floats, [inputs[i] for i in floats], case.order, modes=["rev"])
        except (AssertionError, TypeError, ValueError) as error:
            return Outcome(False, described(error))
        return Outcome(True)


class Autograd:
    """autograd.test_util.check_grads in reverse mode."""

    name, module = "autograd", "autograd"

    def __init__(self) -> None:
        import autograd.numpy as anp

        self.anp = anp
        self.own: dict[str, Callable[[Any], Any]] = {
            "relu": lambda x: anp.maximum(x, 0),
            "abs": anp.abs,
            "max": anp.max,
            "clip": lambda x: anp.clip(x, -1, 1),
            "sigmoid": lambda x: 1 / (1 + anp.exp(-x)),
        }

    def function(self, case: Case, rules: Rules, xp: Any = None) -> Any:
        """A primitive with these rules."""
        from autograd.extend import defvjp_argnums, primitive

        forward, backward = rules
        if xp is not None:
            plain = SimpleNamespace(**{name: getattr(np, name) for name in FUNCTIONS})
            f = primitive(lambda *xs: forward(plain, *xs))
            defvjp_argnums(f, lambda argnums, out, xs, _: lambda dout: (backward(xp, dout, out, *xs),))
            return f
        f = primitive(forward)

        def pull(argnums: Any, out: Any, xs: Any, _: Any) -> Any:
            def vjp(dout: Any) -> Any:
                found = gradients(backward, dout, out, xs)
                return tuple(found[i] for i in argnums)

            return vjp

        defvjp_argnums(f, pull)
        return f

    def check(self, case: Case) -> Outcome:
        """Whether check_grads returns without an error."""
        from autograd.test_util import check_grads

        inputs = case.all_inputs()
        xp = None
        if case.order == 2:
            xp = SimpleNamespace(**{name: getattr(self.anp, name) for name in FUNCTIONS})
            xp.slope = self.function(case, case.slope, xp) if case.slope else None
        f = self.own[case.own] if case.own in self.own else self.function(case, case.rules(), xp)
        try:
            check_grads(f, tuple(floating(inputs)), modes=["rev"], order=case.order)(*inputs)
        except (AssertionError, TypeError, ValueError) as error:
            return Outcome(False, described(error))
        return Outcome(True)


CHECKERS = (Minigrad, PyTorch, Jax, Autograd)


def installed() -> list[Any]:
    """The checkers that can be asked."""
    found = []
    for checker in CHECKERS:
        try:
            missing = importlib.util.find_spec(checker.module) is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            print(f"{checker.module} is not installed: {checker.name} is left out", file=sys.stderr)
        else:
            found.append(checker())
    return found


def ask(checker: Any, case: Case) -> Outcome:
    """One checker's outcome for one case, from the same random state each time."""
    if checker.name in case.absent:
        return Outcome(None, case.absent[checker.name])
    np.random.seed(0)  # noqa: NPY002  # autograd draws its directions there, and the cases their masks
    random.seed(0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return checker.check(case)
        except Exception as error:
            error.add_note(f"{checker.name} was asked about: {case.theme}: {case.name}")
            raise
