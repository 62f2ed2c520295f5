"""compile: whole training steps, layers, optimisers and derivatives are eager's bit for bit, call after call."""

from __future__ import annotations

import copy
import os
import random
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from bits import bits
from numpy.random import PCG64, Generator

import minigrad as mg
from minigrad import Tensor, func, nn, optim
from minigrad.compiling import compile
from minigrad.errors import LabelError
from minigrad.recompute import checkpoint

rng = np.random.default_rng(0)


class World:
    """What a step belongs to: parameters, a net, an optimiser. Its state is all that a step may change."""

    def __init__(self, step: Any, params: Any = (), net: Any = None, optimizer: Any = None) -> None:
        self.step, self.net, self.optimizer = step, net, optimizer
        self.params = list(params) or (list(net.parameters()) if net is not None else [])

    def state(self) -> Any:
        found = [bits(p) for p in self.params], [bits(p.grad) for p in self.params]
        kept = bits(self.net.state_dict()) if self.net is not None else None
        options = bits(self.optimizer.state_dict()) if self.optimizer is not None else None
        return *found, kept, options, str(mg.get_rng_state())


def same(make: Callable[[], World], calls: list[Any], between: Any = None, *, captures: int | None = None) -> Any:
    """The same calls of two worlds, one compiled; between(world, i) is done to both before call i."""
    results = []
    for compiled in (False, True):
        mg.manual_seed(3)
        world = make()
        step = compile(world.step) if compiled else world.step
        mg.manual_seed(5)
        seen = []
        for i, args in enumerate(calls):
            if between is not None:
                between(world, i)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seen.append((bits(step(*args)), world.state()))
        results.append(seen)
    eager, other = results
    for i, (want, got) in enumerate(zip(eager, other, strict=True)):
        assert got[0] == want[0], f"result of call {i}"
        parts = ("values", "gradients", "buffers", "optimiser", "generator")
        for part, x, y in zip(parts, got[1], want[1], strict=True):
            assert x == y, f"{part} after call {i}"
    if captures is not None:
        assert step.stats.captures == captures
        assert step.stats.replays == len(calls) - captures
    return step


def draw(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def batches(n: int, *shape: int, classes: int = 4, dtype: str = "float32") -> list[Any]:
    labels = [np.random.default_rng(i).integers(0, classes, shape[0]) for i in range(n)]
    return [(Tensor(draw(*shape, dtype=dtype, seed=i)), t) for i, t in enumerate(labels)]


# Optimisers


def of_optimizer(optimizer: Callable[[Any], Any], **options: Any) -> Callable[[], World]:
    def make() -> World:
        net = nn.Sequential(nn.Linear(5, 6, dtype="float32"), nn.Tanh(), nn.Linear(6, 4, dtype="float32"))
        opt = optimizer(net)

        def step(x: Any, t: Any) -> Any:
            if options.get("zero", True):
                opt.zero_grad(**options.get("how", {}))
            loss = mg.softmax_cross_entropy(net(x), t)
            loss.backward()
            if "clip" in options:
                options["clip"](net.parameters())
            opt.step()
            return loss

        return World(step, net=net, optimizer=opt)

    return make


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda net: optim.SGD(net.parameters(), 0.1),
    "SGD momentum": lambda net: optim.SGD(net.parameters(), 0.1, 0.9),
    "SGD dampening": lambda net: optim.SGD(net.parameters(), 0.1, 0.9, dampening=0.5, weight_decay=0.01),
    "SGD nesterov": lambda net: optim.SGD(net.parameters(), 0.1, 0.9, nesterov=True),
    "SGD uphill": lambda net: optim.SGD(net.parameters(), 0.1, maximize=True, weight_decay=0.1),
    "Adagrad": lambda net: optim.Adagrad(net.parameters(), 0.1, lr_decay=0.1, initial_accumulator_value=0.1),
    "RMSprop": lambda net: optim.RMSprop(net.parameters(), 0.01),
    "RMSprop all": lambda net: optim.RMSprop(net.parameters(), 0.01, centered=True, momentum=0.9, weight_decay=0.1),
    "Adam": lambda net: optim.Adam(net.parameters(), 0.01),
    "Adam amsgrad": lambda net: optim.Adam(net.parameters(), 0.01, amsgrad=True, weight_decay=0.1, maximize=True),
    "AdamW": lambda net: optim.AdamW(net.parameters(), 0.01),
    "Lion": lambda net: optim.Lion(net.parameters(), 0.01, weight_decay=0.1),
    "groups": lambda net: optim.Adam(
        [{"params": list(net[0].parameters())}, {"params": list(net[2].parameters()), "lr": 0.1, "weight_decay": 0.1}],
        0.01,
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser(name: str) -> None:
    same(of_optimizer(OPTIMIZERS[name]), batches(5, 7, 5))


@pytest.mark.parametrize("name", ["SGD momentum", "Adam", "Adagrad", "AdamW", "Lion"])
def test_another_lr_needs_no_new_capture(name: str) -> None:
    def between(world: World, i: int) -> None:
        world.optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)

    captures = 2 if name == "SGD momentum" else 1  # its first step is another one
    same(of_optimizer(OPTIMIZERS[name]), batches(6, 7, 5), between, captures=captures)


@pytest.mark.parametrize("option", [("momentum", 0.5), ("weight_decay", 0.25), ("weight_decay", 0), ("nesterov", True)])
def test_other_options_between_calls(option: tuple[str, Any]) -> None:
    def between(world: World, i: int) -> None:
        if i == 3:
            world.optimizer.param_groups[0][option[0]] = option[1]

    same(of_optimizer(lambda net: optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=0.01)), batches(6, 7, 5), between)


def test_a_schedule_outside() -> None:
    def make() -> World:
        world = of_optimizer(OPTIMIZERS["AdamW"])()
        world.schedule = optim.CosineAnnealingLR(world.optimizer, 5)  # type: ignore[attr-defined]
        return world

    same(make, batches(6, 7, 5), lambda world, i: world.schedule.step() if i else None)


def test_a_loaded_state_is_read() -> None:
    states: dict[Any, Any] = {}

    def between(world: World, i: int) -> None:
        if i == 2:
            states[world] = world.optimizer.state_dict(), world.net.state_dict()
        if i == 4:
            world.optimizer.load_state_dict(states[world][0])
            world.net.load_state_dict(states[world][1])

    same(of_optimizer(OPTIMIZERS["Adam"]), batches(7, 7, 5), between)


@pytest.mark.parametrize("options", [{"zero": False}, {"how": {"set_to_none": False}}])
def test_gradients_kept_over_calls(options: Any) -> None:
    same(of_optimizer(OPTIMIZERS["Adam"], **options), batches(5, 7, 5))


@pytest.mark.parametrize(
    "clip",
    [
        lambda ps: optim.clip_grad_norm_(ps, 0.5),
        lambda ps: optim.clip_grad_norm_(ps, 0.5, norm_type=1.0),
        lambda ps: optim.clip_grad_norm_(ps, 0.1, norm_type=float("inf")),
        lambda ps: optim.clip_grad_value_(ps, 0.01),
    ],
)
def test_clipped_gradients(clip: Any) -> None:
    same(of_optimizer(OPTIMIZERS["SGD momentum"], clip=clip), batches(5, 7, 5))


# Other ways to change parameters


def of_update(update: Callable[[Any, Any], Any], dtype: str = "float32") -> Callable[[], World]:
    def make() -> World:
        w = Tensor(draw(5, 4, dtype=dtype, seed=8), requires_grad=True)
        b = Tensor(draw(4, dtype=dtype, seed=9), requires_grad=True)

        def step(x: Any, t: Any) -> Any:
            loss = mg.softmax_cross_entropy(mg.tanh(x @ w + b), t)
            found = update([w, b], loss)
            return loss.detach() if found is None else found

        return World(step, [w, b])

    return make


def by_data(ps: Any, loss: Any) -> None:
    loss.backward()
    for p in ps:
        p.data -= 0.1 * p.grad
        p.zero_grad()


def by_iadd(ps: Any, loss: Any) -> None:
    loss.backward()
    with mg.no_grad():
        for p in ps:
            p -= 0.1 * p.grad
            p.grad = None


def by_assignment(ps: Any, loss: Any) -> None:
    loss.backward()
    for p in ps:
        p.data = p.data - 0.1 * p.grad
        p.grad = np.zeros_like(p.grad)


def by_items(ps: Any, loss: Any) -> None:
    loss.backward()
    with mg.no_grad():
        ps[0][1:3] = ps[0][1:3] * 0.5
        ps[1][0] = 0.25
        ps[0].data[0] += ps[1].data


def by_grad(ps: Any, loss: Any) -> Any:
    grads = mg.grad(loss, ps, create_graph=True)
    penalty = mg.sum(grads[0] ** 2)
    (loss + penalty).backward()
    return list(grads[0].detach())


def twice(ps: Any, loss: Any) -> None:
    loss.backward(retain_graph=True)
    loss.backward()


def one_frozen(ps: Any, loss: Any) -> Any:
    (g,) = mg.grad(loss, ps[0])
    with mg.no_grad():
        ps[0] -= g
    return g


UPDATES = [by_data, by_iadd, by_assignment, by_items, by_grad, twice, one_frozen]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("update", UPDATES, ids=lambda f: f.__name__)
def test_updates_by_hand(update: Any, dtype: str) -> None:
    same(of_update(update, dtype), batches(4, 7, 5, dtype=dtype))


def test_several_steps_in_one_call() -> None:
    def make() -> World:
        w = Tensor(draw(5, 4), requires_grad=True)
        opt = optim.Adam([w], 0.1)

        def step(x: Any, t: Any) -> Any:
            losses = []
            for _ in range(3):
                opt.zero_grad()
                loss = mg.softmax_cross_entropy(x @ w, t)
                loss.backward()
                opt.step()
                losses.append(loss)
            return losses

        return World(step, [w], optimizer=opt)

    same(make, batches(4, 7, 5))


def test_frozen_and_unused_parameters() -> None:
    def make() -> World:
        net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
        unused = nn.Linear(2, 2)
        params = [*net.parameters(), *unused.parameters()]
        opt = optim.SGD(params, 0.1, 0.5)

        def step(x: Any, t: Any) -> Any:
            opt.zero_grad()
            loss = mg.softmax_cross_entropy(net(x), t)
            loss.backward()
            opt.step()
            return loss

        return World(step, params, net=net, optimizer=opt)

    def between(world: World, i: int) -> None:
        if i in (2, 4):
            for p in world.net[0].parameters():
                p.requires_grad = i == 4

    same(make, batches(6, 7, 5, dtype="float64"), between)


def test_what_the_caller_does_to_parameters_between_calls() -> None:
    def between(world: World, i: int) -> None:
        p = world.params[0]
        if i == 2:
            p.data = p.data * 2
        elif i == 3:
            p.grad = np.ones(p.shape)
        elif i == 4:
            p.data[0] = 7.0
        elif i == 5:
            p.data = np.asfortranarray(p.data)
            p.grad = np.asfortranarray(np.ones(p.shape, p.dtype))

    same(of_update(by_grad), batches(8, 7, 5), between)
    same(of_update(by_data), batches(8, 7, 5), between)


def test_a_gradient_that_was_none_is_dropped_at_each_replay() -> None:
    def make() -> World:
        w = Tensor([1.0, 2.0], requires_grad=True)

        def step() -> None:
            w.grad = None

        return World(step, [w])

    def between(world: World, i: int) -> None:
        if i > 0:
            world.params[0].grad = np.ones(2)

    same(make, [()] * 3, between, captures=1)


def test_two_heads_of_one_trunk() -> None:
    def make() -> World:
        nets = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 1), nn.Linear(3, 1)])
        opt = optim.SGD(nets.parameters(), 0.1)

        def of(head: Any) -> Any:
            def step(x: Any) -> Any:
                opt.zero_grad()
                loss = mg.sum(head(nets[0](x)) ** 2)
                loss.backward()
                opt.step()
                return loss

            return step

        world = World(None, net=nets, optimizer=opt)
        world.heads = [of(head) for head in nets[1:]]
        return world

    seen: list[Any] = []
    for wrapper in (lambda f: f, compile):
        mg.manual_seed(3)
        world = make()
        steps, states = [wrapper(f) for f in world.heads], []
        for i in range(6):
            states.append((bits(steps[i % 2](draw(2, 3, seed=i))), world.state()))
        seen.append(states)
    assert seen[0] == seen[1]


def test_another_tensor_in_a_group() -> None:
    def make() -> World:
        a, b = (Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
        opt = optim.SGD([a], 0.1)

        def step() -> None:
            a.grad = b.grad = None
            mg.sum(a * b).backward()
            opt.step()

        return World(step, [a, b], optimizer=opt)

    def between(world: World, i: int) -> None:
        world.optimizer.param_groups[0]["params"][0] = world.params[i // 2]

    same(make, [()] * 4, between, captures=2)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("alias", ["tensor", "array"])
def test_memory_of_two_names_that_part(alias: str, first: bool) -> None:
    def make() -> World:
        w = Tensor([1.0, 2.0], requires_grad=True)
        v = w.detach() if alias == "tensor" else w.data
        return World(lambda x: (v * (w * x) if first else w * (v * x)).detach(), [w])

    def between(world: World, i: int) -> None:
        if i == 2:
            world.params[0].data = np.array([10.0, 20.0])

    same(make, [(draw(2, dtype="float64", seed=i),) for i in range(4)], between, captures=2)


# Layers


def forward_and_backward(net: Any, loss: Any = None) -> Callable[..., Any]:
    def step(*xs: Any) -> Any:
        net.zero_grad()
        out = net(*xs)
        outs = [y for y in (out if isinstance(out, tuple) else (out,)) for y in (y if isinstance(y, tuple) else (y,))]
        total = sum(mg.sum(mg.tanh(y.astype(float))) for y in outs if y is not None)
        if total.requires_grad:
            total.backward()
        return [y.detach() for y in outs if y is not None]

    return step


F = "float32"
LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(4, 3, dtype=F), (5, 4)),
    "Conv1d": (lambda: nn.Conv1d(4, 3, 3, padding=1, dtype=F), (2, 4, 6)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, dtype=F), (2, 4, 6, 5)),
    "MaxPool2d": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, dtype=F), nn.MaxPool2d(2)), (2, 1, 6, 6)),
    "AvgPool2d": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, dtype=F), nn.AvgPool2d(2)), (2, 1, 6, 6)),
    "Flatten": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 2, dtype=F)), (2, 3, 2)),
    "Dropout": (lambda: nn.Sequential(nn.Linear(4, 8, dtype=F), nn.Dropout(0.4)), (5, 4)),
    "BatchNorm1d": (lambda: nn.Sequential(nn.Linear(4, 3, dtype=F), nn.BatchNorm1d(3, dtype=F)), (5, 4)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3, dtype=F), (2, 3, 4, 4)),
    "BatchNorm momentum=None": (lambda: nn.BatchNorm1d(3, momentum=None, dtype=F), (5, 3)),
    "BatchNorm float64": (lambda: nn.BatchNorm1d(3), (5, 3)),
    "BatchNorm untracked": (lambda: nn.BatchNorm1d(3, track_running_stats=False, dtype=F), (5, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(4, dtype=F), (5, 4)),
    "RMSNorm": (lambda: nn.RMSNorm(4, dtype=F), (5, 4)),
    "RNN": (lambda: nn.RNN(4, 3, dtype=F), (3, 2, 4)),
    "LSTM": (lambda: nn.LSTM(4, 3, dtype=F), (3, 2, 4)),
    "GRU": (lambda: nn.GRU(4, 3, dtype=F), (3, 2, 4)),
    "MultiheadAttention": (lambda: _SelfAttention(), (2, 3, 4)),
    **{
        name: (lambda name=name: nn.Sequential(nn.Linear(4, 3, dtype=F), getattr(nn, name)()), (5, 4))
        for name in ("ReLU", "Sigmoid", "Tanh", "GELU", "SiLU", "Softmax", "LogSoftmax", "Softplus", "LeakyReLU", "ELU")
        if hasattr(nn, name)
    },
}


class _SelfAttention(nn.Module):
    def __init__(self) -> None:
        self.attention = nn.MultiheadAttention(4, 2, dtype=F)

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x)


@pytest.mark.parametrize("mode", ["train", "eval", "both"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, mode: str) -> None:
    build, shape = LAYERS[name]

    def make() -> World:
        net = build()
        net.train(mode != "eval")
        return World(forward_and_backward(net), net=net)

    def between(world: World, i: int) -> None:
        if mode == "both" and i in (2, 3):
            world.net.train(i == 3)

    step = same(make, [(Tensor(draw(*shape, seed=i)),) for i in range(5)], between)
    assert step.stats.replays >= 2


def test_embedding() -> None:
    def make() -> World:
        net = nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.Linear(4, 2))
        return World(forward_and_backward(net), net=net)

    step = same(make, [(np.random.default_rng(i).integers(0, 9, (3, 2)),) for i in range(4)])
    with pytest.raises(LabelError, match="indices"):
        step(np.full((3, 2), 9))


LOSSES: dict[str, tuple[Callable[[], Any], str]] = {
    "CrossEntropyLoss": (lambda: nn.CrossEntropyLoss(), "labels"),
    "CrossEntropyLoss weight": (lambda: nn.CrossEntropyLoss(weight=np.array([1.0, 2.0, 0.5])), "labels"),
    "CrossEntropyLoss smoothing": (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), "labels"),
    "CrossEntropyLoss ignored": (lambda: nn.CrossEntropyLoss(ignore_index=1), "labels"),
    "CrossEntropyLoss soft": (lambda: nn.CrossEntropyLoss(), "soft"),
    "CrossEntropyLoss none": (lambda: nn.CrossEntropyLoss(reduction="none"), "labels"),
    "NLLLoss": (lambda: mg.log_softmax, "nll"),
    "BCEWithLogitsLoss": (lambda: nn.BCEWithLogitsLoss(pos_weight=np.array([1.0, 2.0, 3.0])), "even"),
    "MSELoss": (lambda: nn.MSELoss(), "even"),
    "L1Loss": (lambda: nn.L1Loss(), "even"),
    "SmoothL1Loss": (lambda: nn.SmoothL1Loss(), "even"),
    "HuberLoss": (lambda: nn.HuberLoss(delta=0.5), "even"),
    "KLDivLoss": (lambda: nn.KLDivLoss("batchmean"), "soft"),
}


@pytest.mark.parametrize("name", [n for n in LOSSES if hasattr(nn, n.split()[0])])
def test_losses(name: str) -> None:
    build, kind = LOSSES[name]
    inner = nn.NLLLoss(weight=np.array([1.0, 2.0, 0.5])) if kind == "nll" else None

    def targets(i: int) -> Any:
        r = np.random.default_rng(i)
        soft = r.uniform(size=(6, 3))
        return {"soft": soft / soft.sum(1, keepdims=True), "even": soft}.get(kind, r.integers(0, 3, 6))

    def make() -> World:
        w, loss = Tensor(draw(4, 3, dtype="float64"), requires_grad=True), build()

        def step(x: Any, t: Any) -> Any:
            out = inner(loss(x @ w), t) if inner else loss(x @ w, t)
            mg.mean(out).backward()
            return out

        return World(step, [w])

    same(make, [(draw(6, 4, dtype="float64", seed=i), targets(i)) for i in range(4)])


def test_labels_are_checked_at_each_replay() -> None:
    world = of_optimizer(OPTIMIZERS["SGD momentum"])()
    step = compile(world.step)
    for x, t in batches(4, 7, 5):
        step(x, t)
    before = world.state()
    with pytest.raises(LabelError, match=r"labels\[2\] = 4"):
        step(x, np.array([0, 1, 4, 0, 0, 0, 0]))
    assert world.state() == before
    step(x, t)


# Derivatives of functions


def quadratic(x: Any) -> Any:
    return mg.sum(mg.tanh(x) ** 3 * x)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "grad": lambda x: func.grad(quadratic)(x),
    "value_and_grad": lambda x: func.value_and_grad(quadratic)(x),
    "jacobian": lambda x: func.jacobian(lambda x: mg.sin(x) * mg.sum(x))(x),
    "hessian": lambda x: func.hessian(quadratic)(x),
    "hvp": lambda x: func.hvp(quadratic, x, np.arange(4.0)),
    "jvp": lambda x: func.jvp(lambda x: mg.exp(x) * x, [x], [np.ones(4)]),
    "vjp": lambda x: func.vjp(mg.sin, x)[1](np.arange(4.0)),
    "third order": lambda x: func.grad(lambda x: mg.sum(func.grad(lambda y: mg.sum(func.grad(quadratic)(y) ** 2))(x)))(
        x
    ),
    "numpy": lambda x: func.grad(lambda x: np.sum(np.exp(np.sin(x))[1:] * x[:-1]))(x),
}


@pytest.mark.parametrize("kind", ["Tensor", "array"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_of_functions(name: str, kind: str) -> None:
    calls = [(x if kind == "array" else Tensor(x),) for x in (draw(4, dtype="float64", seed=i) for i in range(3))]
    same(lambda: World(FUNCTIONS[name]), calls, captures=1)


# Selections: a gradient that is not finite goes the rare way


def test_gradients_of_what_is_not_selected() -> None:
    def make() -> World:
        w = Tensor([1.0, 2.0, 3.0], requires_grad=True)
        opt = optim.SGD([w], 0.1, 0.9)

        def step(x: Any) -> Any:
            opt.zero_grad()
            loss = mg.sum(mg.where(x > 0, mg.sqrt(mg.clip(x, 0.0, 2.0) * w * w), 0.0))
            loss.backward()
            opt.step()
            return loss

        return World(step, [w], optimizer=opt)

    good, bad = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, -1.0])
    same(make, [(x,) for x in (good, good, good, bad, good, bad)])
    same(make, [(x,) for x in (bad, good, bad, good)])


class _Buffered(nn.Module):
    """A module that changes its buffers in a way of its own."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.register_buffer("mean", np.zeros(2))
        self.register_buffer("count", np.array(0))
        self.register_buffer("last", np.zeros(2))
        if how == "none":
            self.last = None

    def forward(self, x: Any) -> Any:
        if self.how == "assigned":
            self.mean = self.mean * 0.5 + x
        elif self.how == "twice":
            self.mean = self.mean * 0.5
            self.mean = self.mean + x
        elif self.how == "in place":
            self.mean *= 0.5
            self.mean += x
        elif self.how == "swapped":
            self.mean, self.last = self.last, self.mean + x
        elif self.how == "constant":
            self.mean = np.ones(2)
        elif self.how == "number":
            self.count = self.count + 1
        else:
            self.last = x if self.last is None else self.last + x
        return Tensor(x) * self.mean * self.count


HOWS = ["assigned", "twice", "in place", "swapped", "constant", "number", "none"]


@pytest.mark.parametrize("how", HOWS)
def test_buffers(how: str) -> None:
    def make() -> World:
        net = _Buffered(how)
        return World(lambda x: net(x), net=net)

    def between(world: World, i: int) -> None:
        if i == 3:
            world.net.mean += 1.0  # in place: what a replay leaves is the module's own
        elif i == 5:
            world.net(np.ones(2))

    same(make, [(draw(2, dtype="float64", seed=i),) for i in range(7)], between)


@pytest.mark.parametrize("layout", [(nn.BatchNorm1d, (5, 6)), (nn.BatchNorm2d, (5, 6, 3, 3))])
def test_batch_statistics_without_a_graph(layout: Any) -> None:
    kind, shape = layout

    def make() -> World:
        net = nn.Sequential(kind(6, dtype="float32"))

        def step(x: Any) -> Any:
            with mg.no_grad():
                return net(x)

        return World(step, net=net)

    same(make, [(draw(*shape, seed=i),) for i in range(3)], captures=1)


def test_modules_that_are_made_inside() -> None:
    def step(x: Any) -> Any:
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))
        return net(x).detach(), net[1].running_mean

    same(lambda: World(step), [(draw(6, 3, dtype="float64", seed=i),) for i in range(4)], captures=1)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_training_from_its_beginning_inside(kind: Any) -> None:
    def step(x: Any, t: Any) -> Any:
        net = nn.Linear(5, 4)
        opt = kind(net.parameters(), lr=0.1, **({"momentum": 0.9} if kind is optim.SGD else {}))
        for _ in range(3):
            opt.zero_grad()
            loss = mg.softmax_cross_entropy(net(x), t)
            loss.backward()
            opt.step()
        return loss.detach(), net.weight.detach()

    same(lambda: World(step), batches(4, 7, 5, dtype="float64"), captures=1)


def test_a_copy_of_a_module() -> None:
    def make() -> World:
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())

        def step(x: Any) -> Any:
            other = copy.deepcopy(net)
            other[0].weight.data = other[0].weight.data * 2
            return net(x).detach(), other(x).detach(), other[1].running_var

        return World(step, net=net)

    same(make, [(draw(5, 3, dtype="float64", seed=i),) for i in range(4)], captures=1)


def test_a_state_that_is_packed_is_refused() -> None:
    w = Tensor([1.0, 2.0], requires_grad=True)
    opt = optim.Adam([w])

    def step(x: Any) -> Any:
        other = optim.Adam([w])
        other.load_state_dict(opt.state_dict())
        return x

    with pytest.raises(mg.CompileError, match=r"Adam\.state_dict at .*a state that Python copies"):
        compile(step)(np.ones(2))


def test_a_new_optimiser_for_each_call() -> None:
    def make() -> World:
        w = Tensor(draw(3, dtype="float64"), requires_grad=True)

        def step(x: Any) -> None:
            opt = optim.SGD([w], 0.1, 0.9)
            for _ in range(2):
                opt.zero_grad()
                mg.sum((w * x) ** 2).backward()
                opt.step()

        return World(step, [w])

    same(make, [(draw(3, dtype="float64", seed=i),) for i in range(4)], captures=1)


@pytest.mark.parametrize("what", ["module", "optimiser"])
def test_what_is_made_inside_is_not_kept(what: str) -> None:
    kept = []

    def step(x: Any) -> Any:
        net = nn.Linear(2, 2)
        opt = optim.Adam(net.parameters())
        mg.sum(net(x)).backward()
        opt.step()
        kept.append(net if what == "module" else opt)
        return x * 2

    with pytest.raises(mg.CompileError, match="kept outside the function"):
        compile(step)(np.ones(2))
    assert not kept


def test_integer_factors_among_the_arguments() -> None:
    def step(x: Any, w: Any) -> Any:
        return mg.rms_norm(x, 3, w)

    calls = [(np.arange(6).reshape(2, 3) + i, np.array([1, 2, 3]) * (i + 1)) for i in range(3)]
    same(lambda: World(step), calls, captures=1)


# Randomness


def test_draws_go_on_as_in_eager_code() -> None:
    def make() -> World:
        net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Dropout(0.1, generator=np.random.default_rng(7)))

        def step(x: Any) -> Any:
            noise = mg.default_generator().normal(size=x.shape)
            return net(x + noise)

        return World(lambda x: step(x).detach(), net=net)

    same(make, [(draw(3, 4, dtype="float64", seed=i),) for i in range(4)])


def test_a_generator_among_the_arguments() -> None:
    def step(x: Any, generator: Any) -> Any:
        return x + generator.normal(size=x.shape) + mg.Tensor(generator.permutation(3)).sum()

    a, b, compiled = np.random.default_rng(1), np.random.default_rng(1), compile(step)
    for i in range(3):
        x = Tensor(draw(3, dtype="float64", seed=i))
        assert bits(step(x, a)) == bits(compiled(x, b))
    assert a.bit_generator.state == b.bit_generator.state


def unseeded(x: Any) -> Any:
    return x + np.random.default_rng().standard_normal(2)


def unseeded_by_another_name(x: Any) -> Any:
    return x + Generator(PCG64(None)).standard_normal(2)


SYSTEMS: dict[str, Callable[[Any], Any]] = {
    "default_rng": unseeded,
    "PCG64": unseeded_by_another_name,
    "Random": lambda x: x + random.Random().random(),
    "Random(None)": lambda x: x + random.Random(None).random(),
    "SystemRandom": lambda x: x + random.SystemRandom().random(),
    "urandom": lambda x: x + np.frombuffer(os.urandom(1), np.uint8),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_numbers_without_a_seed_are_refused(name: str) -> None:
    with pytest.raises(mg.CompileError, match="random numbers without a seed"):
        compile(SYSTEMS[name])(np.zeros(2))
    SYSTEMS[name](np.zeros(2))


def test_seeds_are_taken_where_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed given, the first use of the package's own generator, and another thread meanwhile."""
    monkeypatch.setattr("minigrad.random._default", None)

    def elsewhere(x: Any) -> Any:
        other = threading.Thread(target=lambda: (np.random.default_rng(), random.Random()))
        other.start()
        other.join()
        return x * 2

    assert bits(compile(elsewhere)(np.ones(2))) == bits(np.full(2, 2.0))
    compiled = compile(lambda x: (x + np.random.default_rng(0).random(2), mg.default_generator().random(2)))
    results = [compiled(np.zeros(2)) for _ in range(3)]
    assert compiled.stats.replays == 2
    assert len({bytes(first) for first, _ in results}) == 1
    assert len({bytes(second) for _, second in results}) == 3


# Arguments and results


def test_lists_tuples_dicts_and_constants() -> None:
    def step(xs: Any, *, scale: Any, names: Any) -> Any:
        a, (b, c) = xs
        return {"sum": a * scale + b, names[0]: (c.copy(), [a]), "constant": 3, "none": None, "same": a * scale + b}

    compiled = compile(step)
    for i in range(3):
        x = [Tensor(draw(3, seed=i)), (draw(3, seed=i + 1), np.arange(3))]
        assert bits(compiled(x, scale=2.0, names=("n",))) == bits(step(x, scale=2.0, names=("n",)))
    assert bits(compiled(x, scale=3.0, names=("n",))) == bits(step(x, scale=3.0, names=("n",)))
    assert compiled.stats.captures == 2


def test_results_are_the_callers_own() -> None:
    compiled = compile(lambda x: (x * 2, x.reshape(-1), np.arange(3.0)))
    first = compiled(np.ones((2, 2)))
    kept = bits(first)
    for array in first:
        assert not any(np.shares_memory(np.asarray(array), np.asarray(y)) for y in compiled(np.zeros((2, 2))))
    assert bits(first) == kept
    w = Tensor(np.ones(3), requires_grad=True)
    compiled = compile(lambda x: (w.data, x))
    for _ in range(2):
        x = np.ones(3)
        for found, own in zip(compiled(x), (w.data, x), strict=True):
            assert not np.shares_memory(found, own)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16", "bool", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (3, 2)])
def test_dtypes_and_shapes_of_arguments(dtype: str, shape: tuple[int, ...]) -> None:
    def step(x: Any, y: Any) -> Any:
        return mg.exp(x) * 2, x + y, y[..., None], mg.sum(x), x > y

    def drawn(seed: int) -> Any:
        return np.asarray(np.random.default_rng(seed).normal(size=shape) * 3).astype(dtype)

    calls = [(drawn(i), drawn(i + 1)) for i in range(3)]
    same(lambda: World(step), calls, captures=1)
    same(lambda: World(step), [tuple(map(Tensor, xs)) for xs in calls], captures=1)


def test_layouts_of_arguments() -> None:
    x = draw(4, 6)

    def step(x: Any) -> Any:
        return mg.sum(x * 2, axis=0), x @ mg.from_numpy(np.ones(x.shape[1], F))

    for view in (x.T, x[::2], x[:, ::-1], np.broadcast_to(x[0], (3, 6)), np.asfortranarray(x)):
        same(lambda: World(step), [(view,)] * 3, captures=1)


def test_leaves_among_the_arguments() -> None:
    def step(x: Any, w: Any) -> Any:
        loss = mg.sum(mg.tanh(x * w))
        loss.backward()
        return loss

    a, b = (Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    compiled = compile(step)
    for i in range(3):
        x = draw(2, dtype="float64", seed=i)
        assert bits(step(x, a)) == bits(compiled(x, b))
        assert bits(a.grad) == bits(b.grad)


def test_a_new_leaf_at_each_call() -> None:
    def step(x: Any) -> Any:
        loss = mg.sum(mg.tanh(x * x))
        loss.backward()
        return loss.detach()

    compiled = compile(step)
    for i in range(4):
        a, b = (Tensor(draw(2, dtype="float64", seed=i), requires_grad=True) for _ in range(2))
        assert bits(step(a)) == bits(compiled(b))
        assert bits(a.grad) == bits(b.grad)


def test_checkpoints() -> None:
    def make() -> World:
        net = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.4), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4))
        opt = optim.SGD(net.parameters(), 0.1, 0.9)

        def step(x: Any, t: Any) -> Any:
            opt.zero_grad()
            loss = mg.softmax_cross_entropy(checkpoint(net, x * 2), t)
            loss.backward()
            opt.step()
            return loss

        return World(step, net=net, optimizer=opt)

    same(make, batches(4, 7, 4, dtype="float64"))


@pytest.mark.parametrize("graph", [True, False])
def test_the_same_array_twice(graph: bool) -> None:
    def step(x: Any, y: Any) -> Any:
        with mg.no_grad():
            x += 1.0
        return x * y

    compiled = compile(step)
    with nullcontext() if graph else mg.no_grad():
        for i in range(3):
            x, y = Tensor(draw(3, seed=i)), Tensor(draw(3, seed=9))
            other = Tensor(x)
            assert bits(step(x, y)) == bits(compiled(other, y))
            assert bits(x) == bits(other)
        x, other = Tensor([1.0, 2.0, 3.0], "float32"), Tensor([1.0, 2.0, 3.0], "float32")
        assert bits(step(x, x)) == bits(compiled(other, other))


def test_an_argument_that_is_a_parameter() -> None:
    def make() -> World:
        w = Tensor(draw(3, dtype="float64"), requires_grad=True)

        def step(x: Any) -> Any:
            y = x * 2
            with mg.no_grad():
                w.data[...] = w.data * 0.5
            return y + x

        return World(step, [w])

    eager, other = make(), make()
    compiled = compile(other.step)
    for _ in range(3):
        assert bits(eager.step(eager.params[0].data)) == bits(compiled(other.params[0].data))
        assert eager.state() == other.state()
    for _ in range(3):
        assert bits(eager.step(eager.params[0].detach())) == bits(compiled(other.params[0].detach()))
        assert eager.state() == other.state()


def test_within_another_compiled_function() -> None:
    inner = compile(lambda x: mg.tanh(x) * 2)
    same(lambda: World(lambda x: inner(x) + inner(x * 2)), [(draw(3, seed=i),) for i in range(3)], captures=1)


def test_indices_and_masks_among_the_arguments() -> None:
    def make() -> World:
        w = Tensor(draw(5, 3, dtype="float64"), requires_grad=True)

        def step(i: Any, mask: Any, x: Any) -> Any:
            rows = w[i]
            loss = mg.sum(mg.where(mask, rows, 0.0) * x) + mg.sum(rows[np.arange(3), i % 3])
            loss.backward()
            y = x.copy()
            y[i % 3] = 1.0
            return loss, y

        return World(step, [w])

    draws = [np.random.default_rng(i) for i in range(4)]
    calls = [(r.integers(0, 5, 3), r.random((3, 3)) > 0.5, Tensor(r.normal(size=(3, 3)))) for r in draws]
    same(make, calls, captures=2)  # .grad is None at the first


def test_tensors_that_are_filled_step_by_step() -> None:
    def step(x: Any) -> Any:
        out = Tensor(np.zeros((3, 4)))
        for i in range(3):
            out[i] = x[i] * i
        rows = Tensor(np.zeros(4))
        rows += x[0]
        view = rows.detach()
        view[0] = 5.0
        return out, rows, np.stack([x[0], rows.data])

    same(lambda: World(step), [(Tensor(draw(3, 4, dtype="float64", seed=i)),) for i in range(3)], captures=1)


def test_nets_of_the_book() -> None:
    def make() -> World:
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, dtype=F), nn.BatchNorm2d(4, dtype=F), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64, 16, dtype=F), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4, dtype=F),
        )  # fmt: skip
        opt = optim.AdamW(net.parameters(), 0.01)

        def step(x: Any, t: Any) -> Any:
            opt.zero_grad()
            loss = mg.softmax_cross_entropy(net(x), t)
            loss.backward()
            optim.clip_grad_norm_(net.parameters(), 1.0)
            opt.step()
            return loss

        return World(step, net=net, optimizer=opt)

    same(make, batches(6, 6, 1, 8, 8))
