"""What compile makes of a program: what is left out, where arrays lie, chains in blocks, and the printout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.compiling import compiled as compiled_module
from minigrad.compiling.emit import Linked
from minigrad.compiling.memory import in_place, lifetimes, takes_out
from minigrad.compiling.passes import _is_ours
from minigrad.compiling.program import Value

rng = np.random.default_rng(0)
LARGE, OTHER = rng.normal(size=(2, 600, 600))


def program_of(compiled: Any) -> Linked:
    """The only program of a compiled function."""
    ((linked,),) = compiled._programs.values()
    assert isinstance(linked, Linked)
    return linked


def same_as_eager(f: Callable[..., Any], *arrays: Any) -> Linked:
    """The program of f, after three calls that gave eager's bits."""
    compiled = mg.compile(f)
    for k in range(3):
        args = [a + k for a in arrays]
        for got, want in zip(compiled(*args), f(*args), strict=True):
            assert np.asarray(got).tobytes() == np.asarray(want).tobytes()
    assert compiled.stats[:3] == (1, 2, 0)
    return program_of(compiled)


def test_what_nobody_reads_is_left_out() -> None:
    def f(x: Any) -> Any:
        np.exp(x)
        return (x + 1,)

    linked = same_as_eager(f, np.ones(3))
    assert linked.removed["never used"] == 1
    assert [i.function for i in linked.program.instructions] == [np.add]


def test_what_has_been_computed_is_not_computed_again() -> None:
    linked = same_as_eager(lambda x: (np.exp(x) + np.exp(x),), np.ones(3))
    assert linked.removed["computed before"] == 1


def test_what_has_been_written_since_is_computed_again() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        a = np.exp(y)
        y += 1
        return a + np.exp(y), y

    assert same_as_eager(f, np.ones(3)).removed["computed before"] == 0


def test_zero_and_minus_zero_are_two_numbers() -> None:
    same_as_eager(lambda x: (np.copysign(x, 0.0), np.copysign(x, -0.0)), np.ones(3))
    same_as_eager(lambda x: (x * 1, x * 1.0, x * True), np.ones(3, np.float32))


def test_what_depends_on_constants_alone_is_computed_once() -> None:
    c = np.arange(3.0)
    linked = same_as_eager(lambda x: (x + np.exp(mg.Tensor(c)).numpy(),), np.ones(3))
    assert linked.removed["constants folded"]
    assert [i.function for i in linked.program.instructions] == [np.add]


def test_a_constant_is_folded_only_if_nobody_can_write_into_it() -> None:
    array = np.arange(3.0)
    v = Value(1, array, "constant")
    v.array = array
    assert not _is_ours(v)
    v.array = array.view()
    assert not _is_ours(v)
    del array
    v.array = np.arange(3.0)
    assert _is_ours(v)


def test_a_copy_is_spared_where_nobody_can_tell() -> None:
    def spared(x: Any) -> Any:
        y = (x * 2).copy()
        y += 1
        return (y,)

    def needed(x: Any) -> Any:
        y = x * 2
        z = y.copy()
        z += 1
        return y, z

    assert same_as_eager(spared, np.ones(3)).removed["copies"] == 1
    assert same_as_eager(needed, np.ones(3)).removed["copies"] == 0


def test_an_argument_is_never_written_over() -> None:
    x = np.ones(4)
    compiled = mg.compile(lambda x: x * 2 + 1)
    for _ in range(3):
        compiled(x)
    assert x.tolist() == [1, 1, 1, 1]


def test_results_are_the_callers_own() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        return y, mg.Tensor(x) + 1, x, y, y[1:], y.sum()

    compiled = mg.compile(f)
    x = np.zeros(3)
    kept = []
    for _ in range(4):
        kept.append(compiled(x))
        x += 1
    for k, (a, b, c, d, e, total) in enumerate(kept):
        assert (a.tolist(), b.tolist(), c.tolist()) == ([2.0 * k] * 3, [k + 1.0] * 3, [float(k)] * 3)
        assert (d.tolist(), e.tolist(), total.item()) == ([2.0 * k] * 3, [2.0 * k] * 2, 6.0 * k)
    arrays = [part for parts in kept[1:] for part in (*parts[:1], *parts[2:])]
    for i, a in enumerate(arrays):
        assert not np.may_share_memory(a, x)
        assert not any(np.may_share_memory(a, b) for b in arrays[:i])


def test_a_set_that_is_returned_is_the_callers_own() -> None:
    compiled = mg.compile(lambda x: {1, 2})
    for _ in range(3):
        found = compiled(np.ones(1))
        assert found == {1, 2}
        found.add(3)


def test_gradients_are_the_users_own() -> None:
    w = mg.Tensor(np.ones(3), requires_grad=True)

    @mg.compile
    def step(x: Any) -> Any:
        w.grad = None
        mg.sum(w * x).backward()

    kept = []
    for k in range(4):
        step(np.full(3, float(k)))
        kept.append(w.grad)
    assert [g.tolist() for g in kept if g is not None] == [[float(k)] * 3 for k in range(4)]


# Chains in blocks


def square(x: Any, y: Any) -> Any:
    a = np.exp(-x * x) + y
    b = a * 2
    c = b + b.T  # rows of other blocks
    return (np.sqrt(np.abs(c)) + a,)


def backwards(x: Any, y: Any) -> Any:
    b = x * 2 + 1
    c = b + b[-1]  # a row that is made last
    d = c * c
    return d + d[::-1] + 1, b


def within(x: Any, y: Any) -> Any:
    a = x.copy()
    a *= 2
    a += y
    a += a.T
    a -= 1
    b = a * 3
    a += b
    return a, b


def turned(x: Any, y: Any) -> Any:
    a = x @ y
    c = y * 2
    a += a[::-1]  # entries of blocks that are done already
    c -= 1
    d = a @ c
    z = d[::-1] + 1
    d += 1  # which z still reads
    z *= d
    return a, c, d, z


def widened(x: Any, y: Any) -> Any:
    a = x @ y
    b = (a * 2).astype(np.float64) - 1  # of float32: rows that take twice the place of a's
    return (b @ b,)


def channels_first(x: Any, y: Any) -> Any:
    image = np.moveaxis(np.tanh(x).reshape(60, 60, 10, 10), 0, 2) + 1  # rows lie along the third axis
    factors = y[:60, :1].reshape(60, 1) + y[:10, :1].reshape(10, 1, 1)
    a = image * 2 - 1
    b = a * factors + image
    return np.maximum(b, 0), b.sum()


def wide(x: Any, y: Any) -> Any:
    b = x + y[0]  # stretched over the rows
    c = np.maximum(b, 0) * y[:, :1]
    return np.where(c > 0.5, c, b).sum(axis=0), c


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("f", [square, backwards, within, turned, widened, channels_first, wide])
def test_blocks_give_the_same_bits(f: Any, dtype: Any) -> None:
    linked = same_as_eager(f, LARGE.astype(dtype), OTHER.astype(dtype))
    assert linked.groups


def test_a_training_step_in_blocks() -> None:
    def trained(compiled: bool) -> list[Any]:
        mg.manual_seed(0)
        net = nn.Sequential(nn.Linear(300, 600), nn.ReLU(), nn.Linear(600, 10))
        optimizer = optim.Adam(net.parameters())

        def step(x: Any, t: Any) -> Any:
            optimizer.zero_grad()
            loss = mg.softmax_cross_entropy(net(x), t)
            loss.backward()
            optimizer.step()
            return loss

        chosen = mg.compile(step) if compiled else step
        losses = [chosen(LARGE[:256, :300], np.arange(256) % 10).item() for _ in range(3)]
        if compiled:
            assert len(program_of(chosen).groups) >= 3
        return [*losses, *(p.numpy().tobytes() for p in net.parameters())]

    assert trained(True) == trained(False)


# Memory


@settings(max_examples=60)
@given(st.data())
def test_arrays_that_live_at_the_same_time_lie_apart(data: Any) -> None:
    shapes = [(8, 8), (64,), (8, 1), (1, 8)]
    functions = [np.add, np.multiply, np.maximum]
    calls = data.draw(
        st.lists(st.tuples(st.sampled_from(functions), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=25)
    )

    def f(*arrays: Any) -> Any:
        made = list(arrays)
        for function, a, b in calls:
            x, y = made[a % len(made)], made[b % len(made)]
            made.append(function(x, y) if x.ndim == y.ndim else x * 2)
        return tuple(made[-3:])

    compiled = mg.compile(f)
    arrays = [rng.normal(size=shape) for shape in shapes]
    compiled(*arrays)
    linked = program_of(compiled)
    life = lifetimes(linked.program)
    makers = {v: i for i in linked.program.instructions for v in i.results}
    places = linked.arena.places
    for v, at in places.items():
        assert takes_out(makers[v])
        for other, start in places.items():
            if v is other or life[v][0] > life[other][1] or life[other][0] > life[v][1]:
                continue
            apart = at + v.nbytes <= start or start + other.nbytes <= at
            first, second = (v, other) if life[v][0] < life[other][0] else (other, v)
            written_over = (
                in_place(makers[second]) and first in makers[second].args and life[first][1] == life[second][0]
            )
            assert apart or (at == start and written_over)
    for got, want in zip(compiled(*arrays), f(*arrays), strict=True):
        assert got.tobytes() == want.tobytes()


def test_a_long_chain_needs_two_places() -> None:
    def f(x: Any) -> Any:
        for _ in range(50):
            x = np.tanh(x @ np.eye(8))
        return (x,)

    linked = same_as_eager(f, np.ones((8, 8)))
    assert linked.arena.in_bytes <= 3 * 8 * 8 * 8


def test_thousands_of_instructions() -> None:
    def f(x: Any) -> Any:
        y = x
        for k in range(3000):
            y = y * 0.5 + k
        return (y,)

    assert same_as_eager(f, np.ones(4)).arena.in_bytes <= 3000 * 64


# What is bound


def test_an_array_that_is_exchanged_outside_is_found() -> None:
    w = mg.Tensor([1.0, 2.0])
    compiled = mg.compile(lambda x: x * w)
    x = np.array([1.0, 10.0])
    assert compiled(x).tolist() == [1, 20]
    for k in range(3):
        w.data = np.array([k, k + 1.0])
        assert compiled(x).tolist() == [k, 10 * (k + 1)]
    w[0] = 7.0
    assert compiled(x).tolist() == [7, 30]
    assert compiled.stats.captures == 1
    w.data = np.array([[1.0], [2.0]])
    assert compiled(x).shape == (2, 2)
    assert compiled.stats.captures == 2


def test_a_tensor_written_by_a_replay_spoils_graphs_that_need_it() -> None:
    w = mg.Tensor([1.0, 2.0], requires_grad=True, name="w")

    @mg.compile
    def halve() -> None:
        with mg.no_grad():
            w.data -= w.data / 2

    halve()
    loss = mg.sum(w * w)
    halve()
    with pytest.raises(mg.errors.InPlaceError, match="a compiled step"):
        loss.backward()


# The printout


def test_explain_says_what_is_read_written_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.Linear(3, 2)
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    @mg.compile
    def step(x: Any, t: Any) -> Any:
        optimizer.zero_grad()
        loss = mg.softmax_cross_entropy(net(x), t)
        loss.backward()
        optimizer.step()
        return loss

    step.explain()
    assert "recorded at its first call" in capsys.readouterr().out
    step(np.ones((4, 3)), np.array([0, 1, 1, 0]))
    step.explain()
    text = capsys.readouterr().out
    for words in (
        "step(x: float64 (4, 3), t: int64 (4,))",
        "argument",
        "momentum_buffer of weight",
        "where it is, and written",
        "constants",
        "matmul(x, transpose(weight))",
        "softmax_cross_entropy.check",
        "the gradient of bias = ",
        "left out: ",
        "an arena of ",
    ):
        assert words in text, words


# Names outside

rate = 0.5


def scaled(x: Any) -> Any:
    return x * rate


def test_a_variable_outside_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    shift = 1.0

    def f(x: Any) -> Any:
        return scaled(x) + shift

    compiled = mg.compile(f)
    x = np.array([2.0])
    assert compiled(x).tolist() == [2.0]
    shift = 10.0
    assert compiled(x).tolist() == [11.0]
    monkeypatch.setitem(globals(), "rate", 2.0)  # of a function that f calls
    assert compiled(x).tolist() == [14.0]
    monkeypatch.setitem(globals(), "scaled", lambda x: x * 0)
    assert compiled(x).tolist() == [10.0]
    shift = 1.0
    monkeypatch.undo()
    assert compiled(x).tolist() == [2.0]
    assert compiled.stats.captures == 4


def test_a_model_of_the_same_name_is_another_one() -> None:
    def step(x: Any) -> Any:
        return net(x).detach()

    compiled = mg.compile(step)
    x = np.ones((1, 2))
    for _ in range(2):
        net = nn.Linear(2, 1)
        for _ in range(2):
            assert compiled(x).item() == net(x).item()


def test_an_attribute_of_that_name_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "sum", 0)
    compiled = mg.compile(lambda x: x.sum())
    for k in range(3):
        monkeypatch.setitem(globals(), "sum", k)
        compiled(np.ones(2))
    assert compiled.stats.captures == 1


def test_a_function_that_changes_a_variable_is_refused() -> None:
    count = 0

    def f(x: Any) -> Any:
        nonlocal count
        count += 1
        return x * 2

    with pytest.raises(mg.CompileError, match="count is given another value"):
        mg.compile(f)(np.ones(2))


def test_labels_that_do_not_count_come_after_all() -> None:
    W = mg.Tensor(np.eye(3), requires_grad=True)
    loss_of = nn.CrossEntropyLoss()

    def step(x: Any, t: Any) -> Any:
        W.grad = None
        loss = loss_of(mg.Tensor(x) @ W, t)
        loss.backward()
        return loss

    compiled = mg.compile(step)
    x, t, with_some = rng.normal(size=(4, 3)), np.array([0, 1, 2, 0]), np.array([0, -100, 2, -100])
    counted = []
    for labels in (t, t, with_some, t, *[with_some] * 5, t):
        want = step(x, labels).item(), W.numpy().tobytes(), np.asarray(W.grad).tobytes()
        assert (compiled(x, labels).item(), W.numpy().tobytes(), np.asarray(W.grad).tobytes()) == want
        counted.append(compiled.stats[:3])
    assert counted[3] == (1, 2, 1)  # one call was run as it is written
    assert counted[-1] == (2, 4, 4)  # after some more, there is a program for both


def test_a_large_relu_is_eagers_also_for_zeros_and_nan() -> None:
    x = np.resize([0.0, -0.0, np.nan, -1.0, 2.0, np.inf, -np.inf], 40000).astype(np.float32)

    def f(x: Any) -> Any:
        t = mg.Tensor(x, requires_grad=True)
        mg.sum(mg.relu(t * 2) * 3).backward()
        return mg.relu(mg.Tensor(x)).numpy(), t.grad

    same_as_eager(f, x)


def test_what_goes_the_rare_way_is_recorded_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(compiled_module.Recorder):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            made.append(name)

    monkeypatch.setattr(compiled_module, "Recorder", Counted)
    w = mg.Tensor([0.0, 1.0], requires_grad=True)

    def step(x: Any) -> None:
        w.grad = None
        with np.errstate(all="ignore"):
            mg.sum(mg.where([True, False], mg.sqrt(w * x), 0.0)).backward()  # infinite at 0

    compiled = mg.compile(step)
    for _ in range(40):
        compiled(np.ones(2))
        assert np.isinf(np.asarray(w.grad)[0])
    assert compiled.stats == (0, 0, 40, 0)
    assert len(made) == 5
    for _ in range(40):
        compiled(np.array([1.0, 1.0]) if w.data[0] else np.ones(2))
        w.data = [4.0, 1.0]
    assert compiled.stats.captures == 1
    assert compiled.stats.replays


def test_an_object_may_keep_books_that_the_function_does_not_read() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model, self.scale = nn.Linear(3, 2), 1.0
            self.losses: list[float] = []
            self.steps = 0

        @mg.compile
        def loss(self, x: Any) -> Any:
            return (self.model(x) * self.scale).sum().detach()

    trainer = Trainer()
    x = np.ones((4, 3))
    for k in range(12):
        trainer.scale = 1.0 + k // 6
        trainer.losses.append(trainer.loss(x).item())
        trainer.steps += 1
    assert Trainer.loss.stats[:3] == (2, 10, 0)
    assert trainer.losses[-1] == 2 * trainer.losses[0]


def test_einsum_of_arrays() -> None:
    same_as_eager(lambda x, y: (np.einsum("ij,jk->ik", x, y), np.einsum("ij->", x)), np.eye(3), np.ones((3, 2)))


def test_results_put_into_an_array_of_the_functions_own() -> None:
    def f(x: Any) -> Any:
        a, b, c, d = np.empty_like(x), np.empty_like(x), np.empty_like(x[0]), np.empty_like(x)
        clipped = np.clip(x, 0, 1, out=a)
        np.add(clipped, 1, out=b)
        total = x.sum(axis=0, out=c)
        np.cumsum(x, axis=0, out=d)
        return a, b, c, d, clipped + 1, total * 2, np.clip(x, -1, 0)

    same_as_eager(f, np.linspace(-2, 2, 6).reshape(2, 3))


def test_numbers_among_the_arguments_are_told_apart() -> None:
    compiled = mg.compile(lambda x, s: x * s)
    x = np.ones(2)
    for s in (0.0, -0.0, 0, False, np.float64(0.0), np.float64(-0.0), np.float32(-0.0), np.nan, 0.0, np.nan):
        assert compiled(x, s).tobytes() == (x * s).tobytes()
        assert compiled(x, s).dtype == (x * s).dtype


def test_programs_that_are_not_used_go_and_the_warning_comes_late_too() -> None:
    compiled = mg.compile(lambda x: x * 2)
    for _ in range(100):
        compiled(np.ones(3))
    for n in range(4, 12):
        compiled(np.ones(n))
    with pytest.warns(UserWarning, match=r"x \(float64 \(\d+,\), float64 \(\d+,\), ...\)"):
        compiled(np.ones(12))
    for n in range(13, 40):
        compiled(np.ones(n))
    assert compiled.stats[:3] == (9, 99, 28)
    again = mg.compile(lambda x: x * 2)
    for n in range(1, 200):
        for _ in range(2):
            again(np.ones(n))
    assert again.stats[:3] == (199, 199, 0)
    assert sum(map(len, again._programs.values())) == 64


def test_under_errstate_raise_a_step_runs_as_it_is_written() -> None:
    compiled = mg.compile(lambda x: np.log(x))
    for _ in range(2):
        with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
            compiled(np.zeros(1))
    assert compiled.stats[:3] == (0, 0, 2)
