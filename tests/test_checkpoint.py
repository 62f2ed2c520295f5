"""checkpoint: the gradients of the plain call, and errors where a second run cannot give them."""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import GraphError, InPlaceError, Tensor, checkpoint, func, grad, nn, optim
from minigrad.recompute import is_second_run

Call = Callable[..., Any]


def plainly(f: Call, *args: Any, **kwargs: Any) -> Any:
    return f(*args, **kwargs)


def leaf(*shape: int, seed: int = 0, dtype: str = "float64") -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), dtype, requires_grad=True)


def network(width: int = 6, layers: int = 4) -> nn.Sequential:
    mg.manual_seed(3)
    return nn.Sequential(*[m for _ in range(layers) for m in (nn.Linear(width, width), nn.Tanh())])


def bits(values: Any) -> list[Any]:
    """What two runs must have in common, to the last bit."""
    return [None if v is None else (v.shape, v.dtype, v.tobytes()) for v in values]


def both(task: Callable[[Call], list[Any]]) -> None:
    """task, which returns arrays, with checkpoint and with a plain call in its place."""
    assert bits(task(checkpoint)) == bits(task(plainly))


class Counted:
    """f, and how often it has run."""

    def __init__(self, f: Call) -> None:
        self.f, self.runs = f, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.runs += 1
        return self.f(*args, **kwargs)


def test_gradients_of_arguments_and_of_parameters_that_f_reads() -> None:
    def task(call: Call) -> list[Any]:
        x, net = leaf(5, 6), network()
        loss = (call(net, x) ** 2).sum()
        loss.backward()
        return [loss.data, x.grad, *[p.grad for p in net.parameters()]]

    both(task)


def test_f_runs_once_forward_and_once_backward() -> None:
    f = Counted(lambda x, y: x * y)
    x, y = leaf(3), leaf(3, seed=1)
    out = checkpoint(f, x, y)
    assert f.runs == 1
    out.sum().backward()
    assert f.runs == 2


def test_what_f_computes_on_its_way_is_not_kept() -> None:
    made: list[weakref.ref[Any]] = []

    def f(x: Tensor) -> Tensor:
        h = mg.exp(x)
        made.append(weakref.ref(h._data))
        return mg.sin(h)

    x = leaf(4)
    out = checkpoint(f, x)
    assert [ref() for ref in made] == [None]
    out.sum().backward()
    assert [ref() for ref in made] == [None, None]


def test_dropping_the_result_frees_everything_without_the_collector() -> None:
    class Function:
        def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return mg.exp(x), mg.sin(x)

    f = Function()
    ref, x = weakref.ref(f), leaf(3)
    gc.disable()
    try:
        out = checkpoint(f, x)
        del f
        assert ref() is not None
        sum(out, Tensor(0.0)).sum().backward()
        assert ref() is None  # released by the walk
        out = checkpoint(Function(), x)
        ref = weakref.ref(out[0])
        del out
        assert ref() is None
    finally:
        gc.enable()


def test_several_results_used_in_part_and_twice() -> None:
    class Pair(NamedTuple):
        a: Tensor
        b: Tensor

    def f(x: Tensor, w: Tensor) -> dict[str, Any]:
        h = mg.tanh(x @ w)
        return {"h": h, "pair": Pair(h * w, mg.exp(x)), "unused": 1 / (x - x), "count": 3, "sums": [h.sum(), x]}

    def task(call: Call) -> list[Any]:
        x, w = leaf(4, 4), leaf(4, 4, seed=1)
        with np.errstate(all="ignore"):
            out = call(f, x, w)
        assert out["count"] == 3
        assert out["sums"][1] is x
        assert type(out["pair"]) is Pair
        (out["h"] * out["h"]).sum().backward(retain_graph=True)
        ((out["pair"].a + out["sums"][0]) * x).sum().backward()
        return [x.grad, w.grad]

    for got, wanted in zip(task(checkpoint), task(plainly), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-15)
        assert np.isfinite(got).all()


def test_results_of_several_dtypes_and_gradients_that_are_minus_zero() -> None:
    def f(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return mg.sin(x), mg.exp(x).astype("float64"), x.sum()

    def task(call: Call) -> list[Any]:
        x = leaf(3, dtype="float32")
        a, b, c = call(f, x)
        return [g.data for g in grad([a, b], x, [np.full(3, -0.0), np.full(3, -0.0)])] + [a.data, b.data, c.data]

    both(task)


def test_keyword_arguments_containers_and_arguments_without_gradient() -> None:
    def f(xs: list[Tensor], scale: Any, *, shift: Tensor, power: int = 2) -> Tensor:
        return (xs[0] * scale + xs[1]["y"] * shift) ** power

    def task(call: Call) -> list[Any]:
        x, y, shift = leaf(3), leaf(3, seed=1), leaf(3, seed=2)
        xs: list[Any] = [x, {"y": y}]
        out = call(f, xs, np.arange(3.0), shift=shift, power=3)
        xs[:] = []
        out.sum().backward()
        return [x.grad, y.grad, shift.grad]

    both(task)


def test_without_any_gradient_the_result_is_plain() -> None:
    out = checkpoint(mg.exp, Tensor([1.0]))
    assert not out.requires_grad
    f = Counted(mg.exp)
    with mg.no_grad():
        assert not checkpoint(f, leaf(2)).requires_grad
    assert f.runs == 1
    assert checkpoint(lambda: 7) == 7
    x = leaf(2)
    assert checkpoint(lambda x: x, x) is x
    assert checkpoint(lambda x: x.data, x) is x.data


def test_a_result_of_an_earlier_op_that_f_reads_without_being_given_it() -> None:
    def task(call: Call) -> list[Any]:
        x, w = leaf(3), leaf(3, seed=1)
        h = mg.exp(w) * x
        out = call(lambda x: mg.sin(h * x) * h * w, x)
        (out * w).sum().backward()
        return [x.grad, w.grad]

    for got, wanted in zip(task(checkpoint), task(plainly), strict=True):  # w: more than two gradients
        np.testing.assert_allclose(got, wanted, rtol=1e-15)


def test_a_leaf_used_inside_and_outside() -> None:
    def task(call: Call) -> list[Any]:
        x, w = leaf(3), leaf(3, seed=1)
        (call(lambda x: mg.exp(x * w), x) * w).sum().backward()
        return [x.grad, w.grad]

    both(task)


def test_nested_checkpoints() -> None:
    def task(call: Call) -> list[Any]:
        x, net = leaf(5, 6), network(layers=6)
        inner = Counted(net[4:8])
        h = mg.sin(x)
        out = call(lambda x: net[8:](call(inner, net[:4](x)) * h) * h, x)
        out.sum().backward()
        assert inner.runs == (3 if call is checkpoint else 1)
        return [g for p in [x, *net.parameters()] for g in [p.grad]]

    both(task)


def test_nested_checkpoints_differentiated_twice() -> None:
    def task(call: Call) -> list[Any]:
        x, w = leaf(4), leaf(4, seed=1)
        h = mg.sin(x * w)
        out = call(lambda x: mg.exp(call(lambda y: mg.sin(y * w) * h, x * w)) * h, x)
        (dx,) = grad(out.sum(), x, create_graph=True)
        (dx * dx).sum().backward()
        return [dx.data, x.grad, w.grad]

    for got, wanted in zip(task(checkpoint), task(plainly), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-14)


@pytest.mark.parametrize("several", [False, True])
def test_second_order(several: bool) -> None:
    def f(x: Tensor) -> Any:
        h = mg.sigmoid(x * w)
        return (h * x, mg.sin(h)) if several else h * x + mg.sin(h)

    def value(call: Call, x: Tensor) -> Tensor:
        out = call(f, x)
        return (out[0] + out[1] if several else out).sum()

    x, w = leaf(4), leaf(4, seed=1)
    got = func.hessian(lambda x: value(checkpoint, x))(x.data).data
    np.testing.assert_allclose(got, func.hessian(lambda x: value(plainly, x))(x.data).data, rtol=1e-14)
    (dx,) = grad(value(checkpoint, x), x, create_graph=True)
    (wanted,) = grad(value(plainly, x), x, create_graph=True)
    np.testing.assert_array_equal(dx.data, wanted.data)
    for got, want in zip(grad(dx.sum(), [x, w]), grad(wanted.sum(), [x, w]), strict=True):  # w: not an input at first
        np.testing.assert_allclose(got.data, want.data, rtol=1e-14)


def test_grad_with_inputs_runs_no_more_than_it_must() -> None:
    x, w = leaf(3), leaf(3, seed=1)
    h = mg.exp(x)
    out = checkpoint(lambda h: mg.sin(h * w), h).sum()
    (dh,) = grad(out, h, retain_graph=True)
    np.testing.assert_array_equal(dh.data, (np.cos(h.data * w.data) * w.data))
    (dw,) = grad(out, w, retain_graph=True)
    np.testing.assert_array_equal(dw.data, (np.cos(h.data * w.data) * h.data))
    assert x.grad is None
    assert w.grad is None
    assert grad(out, [leaf(2), w], allow_unused=True)[0] is None


def test_backward_twice_with_and_without_retain_graph() -> None:
    x = leaf(3)
    out = checkpoint(lambda x: mg.exp(mg.sin(x)), x).sum()
    out.backward(retain_graph=True)
    once = x.grad.copy()
    out.backward()
    np.testing.assert_array_equal(x.grad, 2 * once)
    with pytest.raises(GraphError, match="already walked"):
        out.backward()


def test_dropout_draws_the_same_numbers_and_leaves_the_generator_where_it_was() -> None:
    drop = nn.Dropout(0.5)

    def task(call: Call) -> list[Any]:
        mg.manual_seed(5)
        x = leaf(50)
        a, b = call(drop, x), call(lambda x: call(drop, drop(x) * x) + drop(x), x)
        after = mg.default_generator().random(3)
        (a + b).sum().backward()
        return [a.data, b.data, x.grad, after, mg.default_generator().random(3)]

    both(task)


def test_the_generator_stays_where_it_is_even_where_the_draws_began() -> None:
    mg.manual_seed(5)
    state, x = mg.get_rng_state(), leaf(5)
    out = checkpoint(nn.Dropout(0.5), x).sum()
    mg.set_rng_state(state)
    out.backward()
    assert mg.get_rng_state() == state


def test_what_another_thread_draws_while_f_runs_is_not_taken_back() -> None:
    def f(x: Tensor) -> Tensor:
        out = nn.Dropout(0.5)(x)
        if not is_second_run():
            thread = threading.Thread(target=lambda: mg.default_generator().random(7))
            thread.start()
            thread.join()
        return out

    mg.manual_seed(5)
    mg.default_generator().random(7)
    after, x = mg.get_rng_state(), leaf(5)
    mg.manual_seed(5)
    out = checkpoint(f, x).sum()
    assert mg.get_rng_state() == after
    out.backward()


def test_backward_under_no_grad() -> None:
    x = leaf(3)
    out = checkpoint(mg.sin, x).sum()
    with mg.no_grad():
        out.backward()
    np.testing.assert_array_equal(x.grad, np.cos(x.data))


def test_a_seed_set_within_f() -> None:
    def f(x: Tensor) -> Tensor:
        mg.manual_seed(1)
        return nn.Dropout(0.5)(x)

    def task(call: Call) -> list[Any]:
        x = leaf(20)
        out = call(f, x)
        draws = mg.default_generator().random(2)
        out.sum().backward()
        return [out.data, x.grad, draws]

    both(task)


def test_a_generator_of_its_own_is_an_error_and_not_another_mask() -> None:
    drop, x = nn.Dropout(0.5, generator=np.random.default_rng(0)), leaf(50)
    out = checkpoint(drop, x)
    with pytest.raises(GraphError, match=r"checkpoint: f=Dropout: an f that gives or reads other values .*default gen"):
        out.sum().backward()
    assert x.grad is None


def test_batch_norm_follows_a_batch_once() -> None:
    def task(call: Call) -> list[Any]:
        norm, x = nn.BatchNorm1d(3), leaf(8, 3)
        (call(norm, x) * np.arange(24.0).reshape(8, 3)).sum().backward()
        return [x.grad, norm.weight.grad, *norm.state_dict().values()]

    both(task)


def test_f_can_tell_the_second_run() -> None:
    seen = []

    def inner(x: Tensor) -> Tensor:
        seen.append(("inner", is_second_run()))
        return mg.sin(x)

    def f(x: Tensor) -> Tensor:
        seen.append(("outer", is_second_run()))
        return mg.exp(checkpoint(inner, x))

    checkpoint(f, leaf(2)).sum().backward()
    assert seen == [("outer", False), ("inner", False), ("outer", True), ("inner", True), ("inner", True)]
    assert not is_second_run()


@pytest.mark.parametrize("write", ["argument", "parameter", "data", "item", "step"])
def test_a_write_between_forward_and_backward(write: str) -> None:
    x, w = leaf(3), leaf(3, seed=1)
    x.name, w.name = "x", "w"
    out = checkpoint(lambda x: mg.exp(x) * w, x).sum()
    with mg.no_grad():
        if write == "argument":
            x -= 1.0
        elif write == "parameter":
            w -= 1.0
        elif write == "data":
            w.data = np.ones(3)
        elif write == "item":
            w[0] = 1.0
        else:
            w.grad = np.ones(3)
            optim.SGD([w], lr=0.1).step()
    w.grad = None
    with pytest.raises(InPlaceError, match=r"checkpoint.*was (written|given)"):
        out.backward()
    assert x.grad is None
    assert w.grad is None


def test_a_write_into_an_argument_without_gradient() -> None:
    x, scale = leaf(3), Tensor([1.0, 2.0, 3.0], name="scale")
    out = checkpoint(lambda x, scale: x * scale, x, scale).sum()
    scale -= 1.0
    with pytest.raises(InPlaceError, match="scale"):
        out.backward()


def test_a_write_into_something_else_that_f_reads() -> None:
    x, scale = leaf(3), np.ones(3)
    out = checkpoint(lambda x: x * scale, x).sum()
    scale += 1
    with pytest.raises(GraphError, match="other values"):
        out.backward()


def test_f_that_writes_into_what_it_reads() -> None:
    x, w = leaf(3), leaf(3, seed=1)

    def f(x: Tensor) -> Tensor:
        with mg.no_grad():
            w[0] += 1.0
        return x * w

    with pytest.raises(InPlaceError, match="while f ran"):
        checkpoint(f, x)


def test_writes_that_are_recorded() -> None:
    def f(x: Tensor) -> Tensor:
        x *= 2.0
        h = mg.exp(x)
        h[0] = x[1]
        x += h
        return x

    def task(call: Call) -> list[Any]:
        w = leaf(3)
        x = w * 3.0
        before = x
        out = call(f, x)
        assert before is out
        loss = (out * out).sum()
        loss.backward(retain_graph=True)
        loss.backward()
        return [out.data, w.grad]

    both(task)


def test_a_loop_variable_that_has_moved_on() -> None:
    x, layers = leaf(2, 3), [nn.Linear(3, 3) for _ in range(3)]
    out = x
    for layer in layers:
        out = checkpoint(lambda h: layer(h), out)  # noqa: B023  # the mistake that this is about
    with pytest.raises(GraphError, match=r"checkpoint\(layer, x\)"):
        out.sum().backward()
    out = functools.reduce(lambda h, layer: checkpoint(layer, h), layers, x)
    out.sum().backward()
    assert all(p.grad is not None for layer in layers for p in layer.parameters())


def test_another_branch_in_the_second_run() -> None:
    x, w, switch = leaf(3), leaf(3, seed=1), [True]
    out = checkpoint(lambda x: x * w if switch[0] else x * w.data, x).sum()
    switch[0] = False
    with pytest.raises(GraphError, match="which it read in its first"):
        out.backward()
    out = checkpoint(lambda x: x * w if switch[0] else x * w.data, x).sum()
    switch[0] = True
    with pytest.raises(GraphError, match="did not read in its first"):
        out.backward()


@pytest.mark.parametrize("other", [-np.inf, np.nan, 1.0])
def test_another_infinity_in_the_second_run(other: float) -> None:
    a = mg.Tensor([0.3, 0.4], requires_grad=True)
    for factors in ([np.inf, other], [other, np.inf], [np.inf, np.inf]):
        left = list(factors)
        out = mg.checkpoint(lambda x, left=left: x * np.array([left.pop(0), 1.0]), a).sum()
        if factors[0] == factors[1]:
            out.backward()
            continue
        with pytest.raises(mg.GraphError, match="other values"):
            out.backward()


def test_a_result_that_f_remembers() -> None:
    memory: list[Tensor] = []

    def f(x: Tensor) -> Tensor:
        if not memory:
            memory.append(mg.exp(x))
        return memory[0]

    x = leaf(3)
    out = checkpoint(f, x)
    with pytest.raises(GraphError, match="did not compute in its second run"):
        out.sum().backward()
    assert checkpoint(f, x) is out  # an older result, passed on as it is


def test_another_number_of_results_in_the_second_run() -> None:
    x, lengths = leaf(3), iter([2, 1])
    out = checkpoint(lambda x: [x * i for i in range(next(lengths))], x)
    with pytest.raises(GraphError, match="1 Tensors in its second result"):
        out[1].sum().backward()


def test_a_parameter_made_in_the_first_run() -> None:
    class Lazy(nn.Module):
        weight: nn.Parameter | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.weight is None:
                self.weight = nn.Parameter(np.zeros(x.shape))
                nn.init.constant_(self.weight, 2.0)
            return x * self.weight * Tensor(np.ones(x.shape), requires_grad=True)  # one that nobody will look at

    lazy, x = Lazy(), leaf(3)
    checkpoint(lazy, x).sum().backward()
    assert lazy.weight is not None
    np.testing.assert_array_equal(lazy.weight.grad, x.data)


def test_exceptions_of_either_run_pass_through() -> None:
    def f(x: Tensor) -> Tensor:
        if fails == is_second_run():
            raise KeyError("out of order")
        return x * x

    x = leaf(3)
    fails = False
    state = mg.get_rng_state()
    with pytest.raises(KeyError, match="out of order"):
        checkpoint(f, x)
    fails = True
    out = checkpoint(f, x)
    with pytest.raises(KeyError, match="out of order"):
        out.sum().backward()
    assert x.grad is None
    assert not is_second_run()
    assert mg.get_rng_state() == state
    with pytest.raises(mg.DTypeError, match=r"checkpoint: f: .*write checkpoint\(f, x\)"):
        checkpoint(x, x)


def test_backward_within_f_is_refused() -> None:
    w = leaf(3)

    def f(x: Tensor) -> Tensor:
        (w * w).sum().backward()
        return x * 2.0

    with pytest.raises(GraphError, match="a call in a function that checkpoint runs"):
        checkpoint(f, leaf(3))
    assert w.grad is None


def test_grad_within_f() -> None:
    def f(x: Tensor) -> Tensor:
        (dx,) = grad(mg.exp(x * w).sum(), x, create_graph=True)
        return dx * dx

    def task(call: Call) -> list[Any]:
        x = leaf(3)
        w.zero_grad()
        call(f, mg.sin(x)).sum().backward()
        return [x.grad, w.grad]

    w = leaf(3, seed=1)
    both(task)


def test_entries_without_a_part_stay_without_one() -> None:
    def inner(x: Tensor) -> Tensor:
        return 1 / (x @ np.eye(3))

    def task(call: Call, several: bool) -> list[Any]:
        x = Tensor([1.0, 0.0, 2.0], requires_grad=True)
        with np.errstate(all="ignore"):
            u = 1 / x  # inf, whose rule would make nan of 0 * inf
            out = call(lambda u: (mg.sin(mg.exp(-u)), u * u) if several else mg.sin(mg.exp(-u)) * u, u)
        out = out[0] + out[1] if several else out
        mg.where(x.data > 0, out, 0.0).sum().backward()
        return [x.grad]

    for several in False, True:
        both(lambda call, several=several: task(call, several))
        assert np.isfinite(task(checkpoint, several)[0]).all()

    def within(call: Call) -> list[Any]:
        x = Tensor([1.0, 0.0, 2.0], requires_grad=True)
        with np.errstate(divide="ignore"):
            out = call(inner, x)
        mg.where(x.data > 0, out, 0.0).sum().backward()
        return [x.grad]

    both(within)


def test_warnings_come_once() -> None:
    x = Tensor([1e308], requires_grad=True)
    with pytest.warns(RuntimeWarning, match="overflow") as caught:
        out = checkpoint(lambda x: mg.tanh(x * 10.0), x)
    assert len(caught) == 1
    out.sum().backward()


def test_threads_draw_and_walk_at_the_same_time() -> None:
    drop, barrier, failures = nn.Dropout(0.5), threading.Barrier(4), []
    w = leaf(200)

    def work() -> None:
        try:
            barrier.wait()
            for _ in range(30):
                out = checkpoint(lambda x: drop(x * w) + drop(x), w)
                out.sum().backward()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_two_threads_walk_one_graph() -> None:
    x = leaf(100)
    out = checkpoint(lambda x: nn.Dropout(0.5)(mg.exp(x)), x).sum()
    out.backward(retain_graph=True)
    once = x.grad.copy()
    threads = [
        threading.Thread(target=copy_context().run, args=(lambda: out.backward(retain_graph=True),)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(x.grad, 5 * once)


def test_a_chain_of_many_blocks_takes_time_in_proportion() -> None:
    x = leaf(2)
    visited = 0

    def block(h: Tensor) -> Tensor:
        nonlocal visited
        visited += 1
        return mg.sin(h) * w

    w, out = leaf(2, seed=1), x
    for _ in range(3000):
        out = checkpoint(block, out)
    out.sum().backward()
    assert visited == 6000
    assert np.isfinite(x.grad).all()


def test_tools_look_on() -> None:
    from minigrad.debug import detect_anomaly, guard_saved, profile, trace_nonfinite

    x, net = leaf(5, 6), network()
    with guard_saved():
        checkpoint(net, x).sum().backward()
    with profile() as profiled:
        checkpoint(net, x).sum().backward()
    rows = {row.op: row for row in profiled.rows}
    assert rows["tanh"].calls == 4  # of the second run nobody is told
    assert rows["checkpoint"].rules == 1
    with detect_anomaly():
        checkpoint(net, x).sum().backward()
    assert trace_nonfinite(checkpoint(net, x).sum()) is not None
    assert "checkpoint" in mg.graph.draw(checkpoint(net, x)).svg
