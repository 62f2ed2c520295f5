"""Optimisers: PyTorch's numbers, the formulas, what a step writes and allocates, states, and what goes wrong."""

from __future__ import annotations

import copy
import importlib
import json
import math
import tracemalloc
from typing import Any

import numpy as np
import optim_figures as figures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, GraphError, InPlaceError, ShapeError
from minigrad.optim import (
    LBFGS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    Optimizer,
    RMSprop,
    clip_grad_norm_,
    clip_grad_value_,
)
from minigrad.optim.lbfgs import _Point, _strong_wolfe

CASES = [*figures.OPTIMIZERS, ("Lion", {"lr": 0.01}), ("Lion", {"lr": 0.02, "betas": (0.8, 0.9), "weight_decay": 0.1})]
EVERY = pytest.mark.parametrize(("name", "options"), CASES, ids=[figures.key(*case) for case in CASES])
WITH_PYTORCH = pytest.mark.parametrize(
    ("name", "options"), figures.OPTIMIZERS, ids=[figures.key(*case) for case in figures.OPTIMIZERS]
)
SEARCHES = pytest.mark.parametrize("options", figures.SEARCHES, ids=[str(options) for options in figures.SEARCHES])


def leaf(values: Any, dtype: Any = float, name: str | None = None) -> mg.Tensor:
    return mg.Tensor(np.array(values, dtype), requires_grad=True, name=name)


def make(name: str, params: Any, options: dict[str, Any]) -> Optimizer:
    return getattr(mg.optim, name)(params, **options)


def assert_same_run(ours: Any, theirs: Any) -> None:
    """Within 1e-12 of the largest that each entry has been: where it passes through 0 it has no digits of its own."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    error = np.abs(ours - theirs) / np.maximum.accumulate(np.abs(theirs), axis=0)
    assert error.max() <= 1e-12


# PyTorch's numbers


@WITH_PYTORCH
def test_every_step_is_that_of_pytorch(name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    ours = figures.trajectory(figures.Framework(), name, options)
    assert_same_run(ours, figures.trajectory(figures.PyTorch(torch), name, options))


@WITH_PYTORCH
def test_steps_are_those_stored_from_pytorch(name: str, options: dict[str, Any]) -> None:
    ours = figures.trajectory(figures.Framework(), name, options)
    stored = figures.stored()["optimizers"][figures.key(name, options)]
    assert_same_run([ours[t - 1] for t in figures.STORED], stored)


@SEARCHES
def test_lbfgs_steps_are_those_of_pytorch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    ours = figures.search(figures.Framework(), options)
    assert_same_run(ours, figures.search(figures.PyTorch(torch), options))


@SEARCHES
def test_lbfgs_steps_are_those_stored_from_pytorch(options: dict[str, Any]) -> None:
    stored = figures.stored()["searches"][figures.key("LBFGS", options)]
    assert_same_run(figures.search(figures.Framework(), options), stored)


def test_the_comparison_sees_an_epsilon_in_the_wrong_place() -> None:
    right = figures.trajectory(figures.Framework(), "Adam", {"lr": 0.05})
    wrong = figures.trajectory(figures.Framework(), "Adam", {"lr": 0.05, "eps": 1.0001e-8})
    with pytest.raises(AssertionError):
        assert_same_run(right, wrong)


# The formulas, written anew: p after each of the gradients


def plain(name: str, options: dict[str, Any], p: Any, gradients: list[Any]) -> Any:
    defaults = {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "alpha": 0.99, "lr_decay": 0.0}
    o = {**defaults, **make(name, [leaf(p)], options).param_groups[0]}
    lr, wd, sign = o["lr"], o["weight_decay"], -1 if o["maximize"] else 1
    beta1, beta2 = o.get("betas", (0, 0))
    u = v = m = top = np.zeros_like(p)
    s = np.full_like(p, o.get("initial_accumulator_value", 0))
    for t, gradient in enumerate(gradients, start=1):
        g = sign * gradient
        if name in ("AdamW", "Lion"):
            p = p - lr * wd * p
        else:
            g = g + wd * p
        if name == "SGD":
            u = g if t == 1 else o["momentum"] * u + (1 - o["dampening"]) * g
            p = p - lr * (g + o["momentum"] * u if o["nesterov"] else u if o["momentum"] else g)
        elif name == "Adagrad":
            s = s + g**2
            p = p - lr / (1 + (t - 1) * o["lr_decay"]) * g / (np.sqrt(s) + o["eps"])
        elif name == "RMSprop":
            v = o["alpha"] * v + (1 - o["alpha"]) * g**2
            m = o["alpha"] * m + (1 - o["alpha"]) * g
            u = o["momentum"] * u + g / (np.sqrt(np.maximum(v - m**2 * o["centered"], 0)) + o["eps"])
            p = p - lr * u
        elif name == "Lion":
            p = p - lr * np.sign(m + (1 - beta1) * (g - m))
            m = beta2 * m + (1 - beta2) * g
        else:
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            top = np.maximum(top, v)
            root = np.sqrt((top if o["amsgrad"] else v) / (1 - beta2**t))
            p = p - lr * m / (1 - beta1**t) / (root + o["eps"])
    return p


numbers = st.floats(-4, 4).map(lambda x: round(x, 3))


@EVERY
@settings(max_examples=12)
@given(data=st.data())
def test_steps_follow_the_formula(name: str, options: dict[str, Any], data: Any) -> None:
    drawn = arrays(float, data.draw(array_shapes(min_dims=0, max_dims=3, max_side=4)), elements=numbers)
    start, gradients = data.draw(drawn), data.draw(st.lists(drawn, min_size=1, max_size=4))
    gradients = [np.where(abs(g) < 0.01, 0.5, g) for g in gradients]  # next to 0 a centered root is all rounding
    p = leaf(start)
    optimizer = make(name, [p], options)
    for g in gradients:
        p.grad = g
        optimizer.step()
    np.testing.assert_allclose(p.numpy(), plain(name, options, start, gradients), rtol=1e-7, atol=1e-9)


def run(optimizer: Optimizer, ps: list[mg.Tensor], gradients: list[list[Any]]) -> None:
    for step in gradients:
        for p, g in zip(ps, step, strict=True):
            p.grad = g
        optimizer.step()


def draw_gradients(data: Any, ps: list[mg.Tensor], n: int) -> list[list[Any]]:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    skip = data.draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, len(ps) - 1)), max_size=3))
    return [
        [None if (t, i) in skip else rng.normal(size=p.shape).astype(p.dtype) for i, p in enumerate(ps)]
        for t in range(n)
    ]


@EVERY
@settings(max_examples=6)
@given(data=st.data(), dtype=st.sampled_from([np.float32, np.float64]))
def test_a_loaded_state_continues_bit_for_bit(name: str, options: dict[str, Any], data: Any, dtype: Any) -> None:
    ps = [leaf(figures.wave(shape, 1.0), dtype) for shape in [(2, 3), (), (4,)]]
    gradients = draw_gradients(data, ps, 7)
    optimizer = make(name, [{"params": ps[:1]}, {"params": ps[1:], "lr": 0.03}], options)
    run(optimizer, ps, gradients[:4])
    fresh_ps = [leaf(p.numpy(), dtype) for p in ps]
    fresh = make(name, [{"params": fresh_ps[:1]}, {"params": fresh_ps[1:]}], {})
    state = optimizer.state_dict()
    if data.draw(st.booleans()):  # as a file gives it: names are strings, pairs are lists
        state = {
            "state": {str(i): entries for i, entries in state["state"].items()},
            "param_groups": json.loads(json.dumps(state["param_groups"])),
        }
    fresh.load_state_dict(state)
    for o, parameters in ((optimizer, ps), (fresh, fresh_ps)):
        run(o, parameters, gradients[4:])
    for p, q in zip(ps, fresh_ps, strict=True):
        assert p.numpy().tobytes() == q.numpy().tobytes()
    a, b = optimizer.state_dict(), fresh.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert a["state"].keys() == b["state"].keys()


@EVERY
@settings(max_examples=5)
@given(data=st.data())
def test_groups_are_as_good_as_separate_optimisers(name: str, options: dict[str, Any], data: Any) -> None:
    ps = [leaf(figures.wave(shape, 1.0)) for shape in [(3,), (2, 2)]]
    apart = [leaf(p.numpy()) for p in ps]
    other = {"lr": 0.003, "weight_decay": 0.2}
    gradients = draw_gradients(data, ps, 4)
    together = make(name, [{"params": ps[0]}], options)
    together.add_param_group({"params": ps[1:], **other})
    run(together, ps, gradients)
    run(make(name, apart[:1], options), apart[:1], [step[:1] for step in gradients])
    run(make(name, apart[1:], {**options, **other}), apart[1:], [step[1:] for step in gradients])
    for p, q in zip(ps, apart, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


# What a step writes, and what it does not


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_allocates_nothing_and_keeps_the_dtype(name: str, options: dict[str, Any], dtype: Any) -> None:
    ps = [leaf(figures.wave((600, 1100), 0.0), dtype), leaf(figures.wave((7,), 0.0), dtype)]
    gradient = [figures.wave(p.shape, 1.0) for p in ps]
    optimizer = make(name, ps, {key: np.float64(v) if type(v) is float else v for key, v in options.items()})
    run(optimizer, ps, [gradient, gradient])
    optimizer.param_groups[0]["lr"] = np.float64(0.01)  # NumPy's float64 would make float32 arrays float64
    data = [p.data for p in ps]
    tracemalloc.start()
    try:
        optimizer.step()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        optimizer.step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - before < 10_000
    assert all(p.data is array and array.dtype == dtype for p, array in zip(ps, data, strict=True))
    for state in optimizer.state.values():
        assert all(value.dtype == dtype for value in state.values() if isinstance(value, np.ndarray))


@EVERY
def test_blocks_and_odd_memory_give_the_same_bits(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def result(order: Any) -> bytes:
        p = mg.Tensor(np.array(figures.wave((30, 41), 0.0), order=order), requires_grad=True)
        assert p.data.flags.c_contiguous is (order == "C")
        run(make(name, [p], options), [p], [[figures.wave(p.shape, float(t))] for t in range(3)])
        return np.ascontiguousarray(p.numpy()).tobytes()

    whole = result("C")
    assert result("F") == whole
    monkeypatch.setattr("minigrad.optim.optimizer._BLOCK", 8 * 100)
    assert result("C") == whole
    assert result("F") == whole


def test_float32_follows_float64() -> None:
    for name, options in CASES:
        ends = []
        for dtype in (np.float32, np.float64):
            p = leaf(figures.wave((5,), 0.0), dtype)
            run(make(name, [p], options), [p], [[figures.wave((5,), float(t)).astype(dtype)] for t in range(5)])
            ends.append(p.numpy())
        np.testing.assert_allclose(ends[0], ends[1], rtol=2e-4, atol=2e-5)


def test_a_write_between_forward_and_backward_is_seen() -> None:
    p = leaf([1.0, 2.0], name="W")
    p.grad = [1.0, 1.0]
    loss = (p * p).sum()
    SGD([p], lr=0.1).step()
    with pytest.raises(InPlaceError, match=r"W .*SGD\.step"):
        loss.backward()
    other = leaf([1.0, 2.0])
    optimizer = LBFGS([other], max_iter=2)

    def closure() -> Any:
        optimizer.zero_grad()
        value = (other * other).sum()
        value.backward()
        return value

    loss = (other * other).sum()
    optimizer.step(closure)
    with pytest.raises(InPlaceError, match=r"LBFGS\.step"):
        loss.backward()


def test_a_parameter_without_gradient_is_left_out() -> None:
    p, q = leaf([1.0]), leaf([1.0])
    p.grad = [1.0]
    optimizer = Adam([p, q], weight_decay=0.1)
    optimizer.step()
    assert q.numpy() == 1
    assert list(optimizer.state_dict()["state"]) == [0]
    optimizer.zero_grad()
    before = p.numpy().copy()
    optimizer.step()
    assert p.numpy() == before


def test_a_step_takes_a_closure_with_gradients_on() -> None:
    p = leaf([2.0])
    optimizer = SGD([p], lr=0.25)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with mg.no_grad():
        assert optimizer.step(closure).item() == 4
    assert p.numpy() == 1


def test_centered_rmsprop_stays_finite_where_the_gradient_stands_still() -> None:
    p = leaf(np.linspace(0.1, 3, 50))
    optimizer = RMSprop([p], centered=True, alpha=0.5, eps=1e-3)
    p.grad = np.linspace(0.1, 3, 50) ** 3
    for _ in range(120):
        optimizer.step()
    assert np.isfinite(p.numpy()).all()


def test_sgd_without_momentum_keeps_nothing() -> None:
    p = leaf([1.0])
    p.grad = [1.0]
    optimizer = SGD([p])
    optimizer.step()
    assert optimizer.state_dict()["state"] == {}


def test_parameters_keep_their_order() -> None:
    ps = [leaf(np.zeros(i + 1)) for i in range(20)]
    optimizer = SGD(iter(ps), lr=0.1, momentum=0.9)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in ps]
    for p in ps:
        p.grad = np.ones(p.shape)
    optimizer.step()
    assert [s["momentum_buffer"].shape for s in optimizer.state_dict()["state"].values()] == [p.shape for p in ps]


def test_repr_shows_the_options() -> None:
    assert repr(SGD([leaf([1.0])], lr=0.5)).startswith(
        "SGD(1 parameters, lr=0.5, weight_decay=0.0, maximize=False, mom"
    )


# Bad input

BAD_OPTIONS: list[tuple[Any, dict[str, Any], str]] = [
    (SGD, {"lr": -0.1}, "lr"),
    (Adam, {"lr": math.nan}, "lr"),
    (Adam, {"lr": math.inf}, "lr"),
    (Adam, {"lr": "0.1"}, "lr"),
    (Adam, {"lr": True}, "lr"),
    (Adam, {"lr": 10**400}, "lr"),
    (LBFGS, {"lr": -1}, "lr"),
    (SGD, {"momentum": 1.0}, "momentum"),
    (SGD, {"momentum": -0.1}, "momentum"),
    (RMSprop, {"momentum": 1.5}, "momentum"),
    (RMSprop, {"alpha": 1.0}, "alpha"),
    (Adam, {"betas": (0.9, 1.0)}, "betas"),
    (AdamW, {"betas": (-0.1, 0.9)}, "betas"),
    (Lion, {"betas": 0.9}, "betas"),
    (Adam, {"betas": (0.9, 0.9, 0.9)}, "betas"),
    (Adam, {"eps": -1e-8}, "eps"),
    (SGD, {"weight_decay": -1e-3}, "weight_decay"),
    (AdamW, {"weight_decay": math.nan}, "weight_decay"),
    (SGD, {"nesterov": True}, "nesterov"),
    (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov"),
    (Adam, {"amsgrad": 1}, "amsgrad"),
    (Adagrad, {"lr_decay": -1}, "lr_decay"),
    (LBFGS, {"max_iter": 0}, "max_iter"),
    (LBFGS, {"history_size": 1.5}, "history_size"),
    (LBFGS, {"line_search_fn": "wolfe"}, "line_search_fn"),
]


@pytest.mark.parametrize(("cls", "options", "blamed"), BAD_OPTIONS)
def test_an_option_out_of_range_is_refused(cls: Any, options: dict[str, Any], blamed: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{cls.__name__}: {blamed}: .*expected .*; write {blamed}|^SGD: nesterov"):
        cls([leaf([1.0])], **options)
    with pytest.raises(ArgumentError, match=f"^{cls.__name__}: {blamed}: "):
        cls([{"params": [leaf([1.0])], **options}])


class Model:
    """As far as an optimiser looks at a model."""

    def __init__(self) -> None:
        self.w = leaf([1.0])

    def parameters(self) -> Any:
        yield self.w


def bad_parameters() -> list[tuple[Any, Any, str]]:
    p, q = leaf([1.0], name="W1"), leaf([2.0])
    used_up, begun, from_map = Model().parameters(), (t for t in [p]), map(abs, [p])
    for parameters in (used_up, begun, from_map):
        next(parameters)
    used_up.close()
    return [
        ([], ArgumentError, "empty parameter list"),
        ([{"params": []}], ArgumentError, "empty parameter list"),
        (used_up, ArgumentError, r"SGD: params: an empty parameter list: the generator has been used up .*\(\) anew"),
        (begun, ArgumentError, "the generator has been used up before"),
        (mg.nn.ReLU().parameters(), ArgumentError, "its model has no parameters.*; pass a model that has some"),
        (from_map, ArgumentError, "the iterator has been used up before, or its model has no parameters"),
        (Model(), DTypeError, r"a model \(Model\).*write model.parameters\(\)"),
        (Model().parameters, DTypeError, r"write model.parameters\(\)"),
        (p, DTypeError, r"one tensor.*write a list: \[t\]"),
        ({"W1": p}, DTypeError, r"list\(d.values\(\)\)"),
        ({"params": [p]}, DTypeError, r"\[\{'params'"),
        ({p}, DTypeError, "no order"),
        (3.0, DTypeError, "float 3.0"),
        (np.array(1.0), DTypeError, r"float64 \(\)"),
        ("params", DTypeError, "str"),
        ([("W1", p)], DTypeError, "pair of a name and a tensor at 0"),
        ([p, np.zeros(3)], DTypeError, r"float64 \(3,\) at 1"),
        ([p, None], DTypeError, "None at 1"),
        ([p, {"params": [q]}], DTypeError, "mixture.*first tensor at 0"),
        ([{"lr": 0.1}], DTypeError, '"params"'),
        ([{"params": [{"params": [p]}]}], DTypeError, "a dict at 0"),
        ([p, q, p], ArgumentError, r"parameter 2 \('W1'\) is there twice: parameter 0 \('W1'\)"),
        ([{"params": [p]}, {"params": [q, p]}], ArgumentError, r"parameter 2 \('W1'\) is there twice"),
        ([q, p * 2], ArgumentError, r"parameter 1, float64 \(1,\), is a result of multiply"),
        ([mg.Tensor([1.0], name="b")], ArgumentError, r"parameter 0 \('b'\).* requires no gradient; expected"),
        (
            [{"params": mg.Tensor([1.0])}, {"params": [mg.Tensor([1.0])]}],
            ArgumentError,
            r"parameter 0, float64 \(1,\), requires no gradient, nor does any other of the 2;",
        ),
        ([q, mg.Tensor([1, 2])], ArgumentError, r"parameter 1, int64 \(2,\), which can never have a gradient"),
        ([{"params": [p], "learning_rate": 0.1}], ArgumentError, "learning_rate: an option that SGD does not have"),
        ([{"params": [p], "momentun": 0.1}], ArgumentError, "write momentum="),
    ]


@pytest.mark.parametrize("i", range(len(bad_parameters())))
def test_bad_parameters_are_refused(i: int) -> None:
    params, error, words = bad_parameters()[i]
    with pytest.raises(error, match=words):
        SGD(params)


def test_a_refused_group_changes_nothing() -> None:
    p, q = leaf([1.0]), leaf([2.0])
    optimizer = SGD([p], lr=0.1)
    for group in ({"params": [q, p]}, {"params": [q], "lr": -1}, {"params": []}):
        with pytest.raises(ArgumentError):
            optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


def test_a_refused_step_changes_nothing() -> None:
    p, q = leaf([1.0]), leaf([2.0])
    optimizer = Adam([{"params": p}, {"params": q}])
    p.grad = q.grad = np.ones(1)
    optimizer.step()
    before = copy.deepcopy([p.numpy(), optimizer.state_dict()])
    optimizer.param_groups[1]["lr"] = math.nan
    with pytest.raises(ArgumentError, match="Adam: lr: float nan"):
        optimizer.step()
    optimizer.param_groups[1]["lr"] = 1e-3
    assert [p.numpy(), optimizer.state_dict()] == before
    q.data = np.ones((2, 2), np.float32)
    q.grad = np.ones((2, 2))
    with pytest.raises(ShapeError, match=r"parameter 1 is float32 \(2, 2\) and its exp_avg float64 \(1,\)"):
        optimizer.step()
    assert p.numpy() == before[0]
    with pytest.raises(DTypeError, match=r"Adam.step: closure: float 3.0"):
        optimizer.step(3.0)  # type: ignore[arg-type] # what a caller without a type checker might do


def wrong_options() -> list[tuple[Any, str, Any, str]]:
    return [
        (Adam, "betas", (0.9,), r"Adam: betas: \(0.9,\) in param_groups\[1\]; expected two numbers"),
        (Adam, "lr", np.array([0.1, 0.2]), r"Adam: lr: float64 \(2,\) in param_groups\[1\]"),
        (Adam, "betas", (np.ones(2), 0.9), r"Adam: betas: \(array.* in param_groups\[1\]"),
        (SGD, "lr", math.inf, "SGD: lr: float inf"),
        (SGD, "lr", mg.Tensor([0.1, 0.2]), r"SGD: lr: float64 \(2,\)"),
        (SGD, "momentum", "a", "SGD: momentum: str 'a'"),
        (SGD, "weight_decay", -5.0, "SGD: weight_decay: float -5.0"),
        (SGD, "nesterov", True, "SGD: nesterov: nesterov=True with momentum=0.0.* in param_groups"),
        (RMSprop, "eps", None, "RMSprop: eps: NoneType None"),
        (Lion, "maximize", "no", "Lion: maximize: str 'no'"),
    ]


@pytest.mark.parametrize("i", range(len(wrong_options())))
@pytest.mark.parametrize("steps", [0, 1])
def test_a_step_with_an_option_set_wrongly_in_a_later_group_changes_nothing(i: int, steps: int) -> None:
    cls, option, value, words = wrong_options()[i]
    p, q = leaf([1.0]), leaf([2.0])
    optimizer = cls([{"params": p}, {"params": q}])
    p.grad = q.grad = np.ones(1)
    for _ in range(steps):
        optimizer.step()
    before = copy.deepcopy([p.numpy(), q.numpy(), optimizer.state_dict()])
    right = optimizer.param_groups[1][option]
    for _ in range(2):  # refused once, it is not taken for known afterwards
        optimizer.param_groups[1][option] = value
        with pytest.raises(ArgumentError, match=words):
            optimizer.step()
    optimizer.param_groups[1][option] = right
    np.testing.assert_equal([p.numpy(), q.numpy(), optimizer.state_dict()], before)
    optimizer.step()
    assert p.numpy() < before[0]


def test_an_option_that_is_changed_within_or_missing_is_seen() -> None:
    p = leaf([1.0])
    p.grad = [1.0]
    optimizer = Adam([p])
    betas = optimizer.param_groups[0]["betas"] = [0.9, 0.9]
    optimizer.step()
    betas[1] = 5.0
    with pytest.raises(ArgumentError, match=r"Adam: betas: \[0.9, 5.0\]"):
        optimizer.step()
    optimizer.param_groups[0]["betas"] = (0.9, 0.9)
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(ArgumentError, match="Adam: lr: NoneType None"):
        optimizer.step()
    assert optimizer.state[p]["step"] == 1
    line = LBFGS([p])
    line.param_groups[0]["max_iter"] = 2.5
    with pytest.raises(ArgumentError, match=r"LBFGS: max_iter: float 2\.5"):
        line.step(valley(p, line))


@pytest.mark.parametrize(("cls", "smallest"), [(Adagrad, 3e-8), (RMSprop, 3e-8), (Adam, 9.5e-7), (AdamW, 9.5e-7)])
def test_an_eps_that_is_0_in_float16_is_refused(cls: Any, smallest: float) -> None:
    small, wide = leaf([1.0, 2.0], np.float16, "W"), leaf([1.0])
    words = rf"^{cls.__name__}: eps: eps=.* \('W'\), float16 \(2,\); expected .*; make .*float32, or write eps=1e-4"
    for eps in ({}, {"eps": smallest * 0.99}):
        with pytest.raises(ArgumentError, match=words):
            cls([wide, small], **eps)
    for eps in (smallest, 1e-4):
        p = leaf([1.0, 2.0], np.float16)
        p.grad = [0.0, 1.0]
        optimizer = cls([p], eps=eps)
        optimizer.step()
        assert p.numpy()[0] == 1
        assert 1 < p.numpy()[1] < 2
        optimizer.param_groups[0]["eps"] = 1e-8
        before = p.numpy().copy()
        with pytest.raises(ArgumentError, match="eps=1e-08 for a parameter, float16"):
            optimizer.step()
        np.testing.assert_array_equal(p.numpy(), before)
        with pytest.raises(ArgumentError, match="eps"):
            optimizer.load_state_dict(cls([leaf([1.0, 2.0])]).state_dict())
    late = leaf([1.0])
    optimizer = cls([late])
    late.data = np.ones(1, np.float16)
    late.grad = [0.0]
    with pytest.raises(ArgumentError, match=r"eps=.* float16"):
        optimizer.step()
    cls([small], eps=0.0)  # 0 in every dtype, and so meant


def frozen_run(torch: Any, name: str, options: dict[str, Any]) -> list[list[float]]:
    """Three parameters, of which the second is frozen for the first steps, the third always."""
    frame = figures.PyTorch(torch) if torch else figures.Framework()
    ps = [frame.leaf(figures.wave((3,), float(i))) for i in range(3)]
    ps[1].requires_grad = ps[2].requires_grad = False
    optimizer = getattr(frame.optim, name)(ps, **options)
    found = []

    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum(((p - 1) ** 4).sum() for p in ps)
        loss.backward()
        return loss

    for t in range(6):
        if t == 3:
            ps[1].requires_grad = True
        optimizer.step(closure)
        found.append(np.concatenate([frame.values(p) for p in ps]))
    states = optimizer.state_dict()["state"]
    assert sorted(states) == ([0] if name == "LBFGS" else [0, 1])
    np.testing.assert_array_equal(found[-1][6:], figures.wave((3,), 2.0))
    np.testing.assert_array_equal(found[2][3:6], figures.wave((3,), 1.0))
    assert (found[3][3:6] != found[2][3:6]).all()
    return found


FROZEN = [
    ("SGD", {"lr": 0.01, "momentum": 0.9}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("LBFGS", {"lr": 0.1, "max_iter": 5}),
]


@pytest.mark.parametrize(("name", "options"), FROZEN)
def test_frozen_parameters_are_skipped_until_they_require_a_gradient(name: str, options: dict[str, Any]) -> None:
    ours = frozen_run(None, name, options)
    torch = pytest.importorskip("torch")
    assert_same_run(ours, frozen_run(torch, name, options))


def test_a_model_with_frozen_layers_can_be_optimised_and_saved() -> None:
    net = mg.nn.Sequential(mg.nn.Linear(2, 3), mg.nn.Linear(3, 1))
    net[0].requires_grad_(False)
    before = net[0].weight.numpy().copy()
    optimizer = Adam([{"params": net[0].parameters()}, {"params": net[1].parameters()}])
    loss = (net(np.ones((4, 2))) ** 2).sum()
    loss.backward()
    optimizer.step()
    np.testing.assert_array_equal(net[0].weight.numpy(), before)
    state = optimizer.state_dict()
    assert sorted(state["state"]) == [2, 3]
    optimizer.load_state_dict(state)
    assert net[0].weight not in optimizer.state
    optimizer.add_param_group({"params": [mg.Tensor([1.0])]})
    assert len(optimizer.param_groups) == 3


def test_lbfgs_does_not_touch_a_frozen_parameter() -> None:
    p, frozen = leaf([1.0, 2.0]), mg.Tensor([3.0, 4.0])
    kept = frozen.data
    optimizer = LBFGS([p, frozen])

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p * p * frozen).sum()
        loss.backward()
        return loss

    other = leaf([1.0, 1.0])
    waiting = (other * frozen).sum()
    optimizer.step(closure)
    waiting.backward()  # of values that are unchanged
    assert frozen.data is kept


def test_zero_grad_can_fill_with_zeros_in_place() -> None:
    p, q, frozen = leaf([1.0, 2.0]), leaf([1.0]), mg.Tensor([1.0])
    optimizer = SGD([p, q, frozen], lr=0.1, weight_decay=0.5)
    p.grad = [3.0, 4.0]
    gradient = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is gradient
    np.testing.assert_array_equal(gradient, [0, 0])
    assert q.grad is None
    optimizer.step()  # a gradient of 0 is one: the weight decays
    np.testing.assert_allclose(p.numpy(), [0.95, 1.9])
    optimizer.zero_grad(set_to_none=True)
    assert p.grad is None
    with pytest.raises(ArgumentError, match=r"SGD\.zero_grad: set_to_none: float64"):
        optimizer.zero_grad(p)  # type: ignore[arg-type] # what a caller without a type checker might do


@pytest.mark.parametrize(
    ("value", "fix"), [("strong-wolfe", '"strong_wolfe"'), ("Wolfe", '"strong_wolfe"'), ("none", "None"), (3, "None")]
)
def test_a_wrong_choice_is_answered_with_the_nearest(value: Any, fix: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        LBFGS([leaf([1.0])], line_search_fn=value)
    assert caught.value.fix == f"write line_search_fn={fix}, for example"


def test_a_step_counter_may_be_a_whole_float_as_pytorchs_is() -> None:
    optimizer, state = trained(), trained().state_dict()
    state["state"][0]["step"] = np.array(3.0, np.float32)
    optimizer.load_state_dict(state)
    assert repr(next(iter(optimizer.state.values()))["step"]) == "3"
    state["state"][0]["step"] = 3.5
    with pytest.raises(ArgumentError, match=r"step: float 3\.5"):
        optimizer.load_state_dict(state)


PUBLIC = [(cls, name) for cls in (Optimizer, LBFGS, mg.optim.LRScheduler) for name in vars(cls) if name[0] != "_"]


@pytest.mark.parametrize(("cls", "name"), [(c, n) for c, n in PUBLIC if callable(getattr(c, n))])
def test_a_public_method_is_documented_with_an_example(cls: Any, name: str) -> None:
    assert ">>> " in getattr(cls, name).__doc__


def trained(name: str = "Adam", n: int = 2, **options: Any) -> Optimizer:
    ps = [leaf(np.ones((2, 3))), *[leaf(np.ones(4)) for _ in range(n - 1)]]
    optimizer = make(name, ps, options)
    for p in ps:
        p.grad = np.ones(p.shape)
    optimizer.step()
    return optimizer


def spoil(**changes: Any) -> dict[str, Any]:
    state = trained().state_dict()
    state["state"][1].update(changes)
    return state


BAD_STATES: list[tuple[Any, Any, str]] = [
    ({}, ArgumentError, '"state" and "param_groups"'),
    (None, ArgumentError, "None"),
    ({"state": {}, "param_groups": [3]}, ArgumentError, "list of dicts"),
    ({"state": [], "param_groups": trained().state_dict()["param_groups"]}, ArgumentError, "a list"),
    (trained(n=3).state_dict(), ArgumentError, "groups of 3 parameters; expected groups of 2 parameters"),
    (trained("SGD", momentum=0.9).state_dict(), ArgumentError, "without betas, eps, amsgrad and with momentum"),
    (spoil(exp_avg=np.ones(5)), ShapeError, r"parameter 1: exp_avg: float64 \(5,\); expected floats of shape \(4,\)"),
    (spoil(exp_avg=np.ones(4, int)), ShapeError, "exp_avg: int64"),
    (spoil(exp_avg=[1.0] * 4), ShapeError, "exp_avg: a list"),
    (spoil(step=-1), ArgumentError, "step: int -1"),
    (spoil(other=1), ArgumentError, "a state of .*other"),
    ({**trained().state_dict(), "state": {7: {}}}, ArgumentError, "for parameter 7"),
    ({**trained().state_dict(), "state": {0: {"step": 1}}}, ArgumentError, "a state of step; expected"),
    ({"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}, ArgumentError, "a group without weight_decay"),
    (
        {"state": {}, "param_groups": [{**trained().state_dict()["param_groups"][0], "lr": -1.0}]},
        ArgumentError,
        "lr: float -1.0",
    ),
]


@pytest.mark.parametrize(("state", "error", "words"), BAD_STATES, ids=[words for _, _, words in BAD_STATES])
def test_a_bad_state_is_refused_and_changes_nothing(state: Any, error: Any, words: str) -> None:
    optimizer = trained(lr=0.5)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(error, match=words):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    np.testing.assert_equal(after["state"], before["state"])


def test_states_are_copies_and_take_the_parameters_dtype() -> None:
    optimizer = trained()
    state = optimizer.state_dict()
    before = copy.deepcopy(state)
    optimizer.step()
    np.testing.assert_equal(state, before)
    ps = [leaf(np.ones((2, 3)), np.float32), leaf(np.ones(4), np.float32)]
    other = Adam(ps)
    other.load_state_dict(state)
    assert other.state[ps[0]]["exp_avg"].dtype == np.float32
    state["state"][0]["exp_avg"][:] = 99
    assert (other.state[ps[0]]["exp_avg"] != 99).all()


# L-BFGS


def valley(p: mg.Tensor, optimizer: Optimizer) -> Any:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
        loss.backward()
        return loss

    return closure


def test_lbfgs_finds_the_end_of_rosenbrocks_valley() -> None:
    p = leaf([-1.2, 1.0])
    optimizer = LBFGS([p], line_search_fn="strong_wolfe", max_iter=100, tolerance_change=1e-15)
    assert optimizer.step(valley(p, optimizer)).item() == pytest.approx(24.2)
    np.testing.assert_allclose(p.numpy(), [1, 1], rtol=1e-6)


def test_lbfgs_keeps_float32() -> None:
    p = leaf([-1.2, 1.0], np.float32)
    optimizer = LBFGS([p], line_search_fn="strong_wolfe")
    optimizer.step(valley(p, optimizer))
    state = optimizer.state[p]
    assert {p.dtype, state["d"].dtype, state["old_dirs"][0].dtype, state["old_stps"][0].dtype} == {np.dtype("f4")}


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_continues_bit_for_bit(search: str | None) -> None:
    def start() -> tuple[mg.Tensor, LBFGS]:
        p = leaf([-1.2, 1.0])
        return p, LBFGS([p], line_search_fn=search, max_iter=4, lr=0.001 if search is None else 1.0)

    p, optimizer = start()
    for _ in range(3):
        optimizer.step(valley(p, optimizer))
    q, fresh = start()
    q.data = p.numpy()
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        optimizer.step(valley(p, optimizer))
        fresh.step(valley(q, fresh))
    assert p.numpy().tobytes() == q.numpy().tobytes()
    np.testing.assert_equal(optimizer.state_dict(), fresh.state_dict())


def test_the_line_search_goes_where_pytorchs_goes() -> None:
    torch = pytest.importorskip("torch")
    theirs = importlib.import_module("torch.optim.lbfgs")
    rng = np.random.default_rng(0)
    for _ in range(300):
        a, b, c, t = rng.uniform([0.0, 0.5, 0.0, 0.01], [1.5, 6.0, 0.2, 4.0])

        def line(t: Any, a: float = a, b: float = b, c: float = c) -> tuple[Any, Any]:
            return -t + a * (math.cos(b * t) - 1) + c * t * t, -1 - a * b * math.sin(b * t) + 2 * c * t

        def at(t: float, line: Any = line) -> Any:
            f, slope = line(t)
            return _Point(t, f, np.array([slope]), slope)

        def objective(x: Any, t: Any, d: Any, line: Any = line) -> Any:
            f, slope = line(float(t))
            return f, torch.tensor([slope], dtype=torch.float64)

        d = torch.ones(1, dtype=torch.float64)
        f, g = objective(None, 0.0, d)
        _, _, want, calls = theirs._strong_wolfe(objective, None, t, d, f, g, g.dot(d))
        point, ours = _strong_wolfe(at, at(0.0), t, 1.0, 1e-9, 25)
        assert ours == calls
        assert point.t == pytest.approx(float(want), rel=1e-9)


@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_lbfgs_spares_the_loss_after_its_last_move(max_iter: int) -> None:
    p = leaf([-1.2, 1.0])
    optimizer = LBFGS([p], lr=1e-4, max_iter=max_iter, max_eval=100)
    closure = valley(p, optimizer)
    calls = []
    optimizer.step(lambda: (calls.append(1), closure())[1])
    assert len(calls) == optimizer.state[p]["func_evals"] == max_iter


def test_lbfgs_leaves_a_move_without_curvature_out_of_its_history() -> None:
    p = leaf([0.5])
    optimizer = LBFGS([p], lr=0.1, max_iter=5)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = -(p * p).sum()  # bends the wrong way everywhere
        loss.backward()
        return loss

    optimizer.step(closure)
    assert optimizer.state[p]["n_iter"] == 5
    assert optimizer.state[p]["old_dirs"] == []
    assert p.numpy() > 0.5


def test_lbfgs_searches_past_an_infinite_loss() -> None:
    p = leaf([1.0])
    optimizer = LBFGS([p], lr=100.0, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p - 2 * mg.log(mg.maximum(p, 1e-300)) + mg.where(p.numpy() > 0, 0.0, np.inf)).sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    np.testing.assert_allclose(p.numpy(), 2, rtol=1e-5)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_a_closure_that_raises_leaves_everything_as_it_was(search: str | None) -> None:
    p = leaf([-1.2, 1.0])
    optimizer = LBFGS([p], lr=0.001, line_search_fn=search)
    closure = valley(p, optimizer)
    optimizer.step(closure)
    before = copy.deepcopy([p.numpy().tolist(), optimizer.state_dict()])
    calls = 0

    def failing() -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return closure()

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(failing)
    assert calls == 4
    np.testing.assert_equal([p.numpy().tolist(), optimizer.state_dict()], before)


def test_lbfgs_says_what_is_missing() -> None:
    p = leaf([1.0])
    optimizer = LBFGS([p])
    with pytest.raises(ArgumentError, match=r"LBFGS.step: closure: no closure.*def closure"):
        optimizer.step()
    with pytest.raises(DTypeError, match="return loss"):
        optimizer.step(lambda: None)
    with pytest.raises(GraphError, match=r"loss.backward\(\)"):
        optimizer.step(lambda: (p * p).sum())
    with pytest.raises(ArgumentError, match="a second group"):
        optimizer.add_param_group({"params": [leaf([1.0])]})
    with pytest.raises(ArgumentError, match="a second group"):
        LBFGS([{"params": [leaf([1.0])]}, {"params": [leaf([1.0])]}])
    assert optimizer.state_dict()["state"] == {}


def test_lbfgs_refuses_bad_states() -> None:
    p = leaf([-1.2, 1.0])
    optimizer = LBFGS([p], lr=0.001)
    optimizer.step(valley(p, optimizer))
    good = optimizer.state_dict()
    for name, value in [("d", np.ones(3)), ("old_dirs", np.ones((1, 2))), ("ro", 3.0), ("t", "x"), ("n_iter", -1)]:
        bad = copy.deepcopy(good)
        bad["state"][0][name] = value
        with pytest.raises((ShapeError, ArgumentError), match=name):
            optimizer.load_state_dict(bad)
    del good["state"][0]["d"]
    with pytest.raises(ArgumentError, match="a state of"):
        optimizer.load_state_dict(good)


# Clipping


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.0, 0.7, 1e9])
def test_clip_grad_norm_is_numpys_norm_and_pytorchs_clip(norm_type: float, max_norm: float) -> None:
    ps = [leaf(np.ones(shape)) for shape in figures.SHAPES] + [leaf([1.0])]
    for i, p in enumerate(ps[:-1]):
        p.grad = figures.wave(p.shape, float(i))
    grads = [p.grad.copy() for p in ps[:-1]]
    want = np.linalg.norm(np.concatenate([g.reshape(-1) for g in grads]), norm_type)
    norm = clip_grad_norm_(iter(ps), max_norm, norm_type)
    assert isinstance(norm, float)
    assert norm == pytest.approx(want, rel=1e-14)
    for p, g in zip(ps, grads, strict=False):
        np.testing.assert_allclose(p.grad, g * min(1, max_norm / (want + 1e-6)), rtol=1e-14)
    torch = pytest.importorskip("torch")
    theirs = [torch.zeros(p.shape, requires_grad=True, dtype=torch.float64) for p in ps]
    for q, g in zip(theirs, grads, strict=False):
        q.grad = torch.tensor(g)
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type).item(), rel=1e-14)
    for p, q in zip(ps[:-1], theirs, strict=False):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-13)


@pytest.mark.parametrize("scale", [1e-30, 1e25, 1.0])
def test_the_norm_of_float32_gradients_neither_overflows_nor_vanishes(scale: float) -> None:
    p = leaf(np.ones((300, 1000)), np.float32)
    p.grad = np.full(p.shape, scale)
    assert clip_grad_norm_(p, 1e30) == pytest.approx(math.sqrt(300_000) * np.float32(scale), rel=1e-6, abs=0)
    assert p.grad.dtype == np.float32


def test_clip_grad_norm_on_what_is_not_finite() -> None:
    p = leaf([1.0, 1.0], name="W")
    p.grad = [np.nan, 1.0]
    with pytest.raises(ArgumentError, match=r"gradient of parameter 0 \('W'\) is nan at \[0\]"):
        clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad[1] == 1
    assert math.isnan(clip_grad_norm_([p], 1.0))
    assert np.isnan(p.grad).all()
    p.grad = [np.inf, 1.0]
    assert clip_grad_norm_([p], 1.0) == math.inf
    np.testing.assert_array_equal(p.grad, [np.nan, 0])


def test_clip_grad_value() -> None:
    p, q = leaf([1.0, 2.0, 3.0], np.float32), leaf(1.0)
    p.grad = [-5.0, 0.5, 5.0]
    clip_grad_value_([p, q], 2)
    np.testing.assert_array_equal(p.grad, np.array([-2, 0.5, 2], np.float32))
    assert p.grad.dtype == np.float32


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda p: clip_grad_norm_([p], -1.0), ArgumentError),
        (lambda p: clip_grad_norm_([p], math.nan), ArgumentError),
        (lambda p: clip_grad_norm_([p], 1.0, norm_type=0), ArgumentError),
        (lambda p: clip_grad_norm_([p], np.ones(2)), ArgumentError),
        (lambda p: clip_grad_norm_([p], 1.0, norm_type=np.ones(2)), ArgumentError),
        (lambda p: clip_grad_norm_([], 1.0), ArgumentError),
        (lambda p: clip_grad_norm_(iter([]), 1.0), ArgumentError),
        (lambda p: clip_grad_norm_(Model(), 1.0), DTypeError),
        (lambda p: clip_grad_value_([p], -1.0), ArgumentError),
        (lambda p: clip_grad_value_([p, 3], 1.0), DTypeError),
    ],
)
def test_clipping_refuses_bad_input(call: Any, error: Any) -> None:
    with pytest.raises(error, match=r"^clip_grad_") as caught:
        call(leaf([1.0]))
    assert "optimizer" not in str(caught.value)
