"""guard_saved: every write into a saved array that the tape cannot see is an error, and nothing else is."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import InPlaceError, Tensor, nn, no_grad, optim
from minigrad.debug import AnomalyError, detect_anomaly, guard_saved, profile
from minigrad.debug.guard import checksum
from minigrad.op import Op, registry
from minigrad.testing.calls import calls
from minigrad.watch import watched, watchers


def leaf(*values: Any, name: str | None = None) -> Tensor:
    return Tensor(np.array(values, float), requires_grad=True, name=name)


@pytest.fixture(autouse=True)
def nobody_watches_afterwards() -> Iterator[None]:
    yield
    assert watched == []
    assert watchers.get() == ()


# Writes that the tape cannot see. Each case: (what is recorded, what is written into, name in the message)


def through_data() -> tuple[Tensor, Any, str]:
    w = leaf(3.0, 4.0, name="w")
    return (w * w).sum(), w.data, "x (w, float64 (2,))"


def through_the_array_behind_from_numpy() -> tuple[Tensor, Any, str]:
    a = np.array([1.0, 2.0])
    x = mg.from_numpy(a)
    x.name = "images"
    return (x * leaf(3.0, 4.0)).sum(), a, "x (images, float64 (2,))"


def through_an_array_given_as_it_is() -> tuple[Tensor, Any, str]:
    a = np.array([1.0, 2.0])
    return (leaf(3.0, 4.0) * a).sum(), a, "y (float64 (2,))"


def through_an_older_view() -> tuple[Tensor, Any, str]:
    x = leaf(3.0, 4.0, name="x")
    view = x.data[1:]
    return mg.log(x).sum(), view, "x (x, float64 (2,))"


def through_a_view_forced_writeable() -> tuple[Tensor, Any, str]:
    y = mg.exp(leaf(3.0, 4.0))
    view = y.numpy()
    view.flags.writeable = True
    return y.sum(), view, "out (float64 (2,))"


def through_the_data_of_a_result() -> tuple[Tensor, Any, str]:
    y = mg.exp(leaf(3.0, 4.0))
    return y.sum(), y.data, "out (float64 (2,))"


def through_one_of_several() -> tuple[Tensor, Any, str]:
    a, b = leaf([1.0, 2.0], name="a"), leaf([3.0], [4.0], name="b")
    return mg.einsum("ij,jk->ik", a, b).sum(), b.data, "xs[1] (b, float64 (2, 1))"


def through_what_is_kept() -> tuple[Tensor, Any, str]:
    y = mg.tanh(leaf(0.5, 1.0))
    assert y._node is not None
    assert y._node.saved is not None
    return y.sum(), y._node.saved[0], "slope (float64 (2,))"


def through_a_transposed_view() -> tuple[Tensor, Any, str]:
    x = leaf([1.0, 2.0], [3.0, 4.0], name="x")
    return (leaf([1.0, 2.0]) @ x.T).sum(), x.data, "y (float64 (2, 2))"


HIDDEN = [
    through_data, through_the_array_behind_from_numpy, through_an_array_given_as_it_is, through_an_older_view,
    through_a_view_forced_writeable, through_the_data_of_a_result, through_one_of_several, through_what_is_kept,
    through_a_transposed_view,
]  # fmt: skip


@pytest.mark.parametrize("record", HIDDEN)
def test_a_hidden_write_is_an_error_that_names_op_line_and_tensor(
    record: Callable[[], tuple[Tensor, Any, str]],
) -> None:
    with guard_saved():
        out, array, name = record()
        array[...] += 1
        with pytest.raises(InPlaceError) as caught:
            out.backward()
    error = caught.value
    assert name in error.got
    assert re.fullmatch(r"[a-z_]+(\(.*\))?\.backward", error.function)
    assert f"{__file__}:" in error.got
    assert f"in {record.__name__}" in error.got
    assert "raw array" in error.got
    assert error.fix.startswith("write into a copy")


@pytest.mark.parametrize("record", HIDDEN)
def test_without_the_guard_or_the_write_nothing_is_said(record: Callable[[], tuple[Tensor, Any, str]]) -> None:
    out, array, _ = record()
    array[...] += 1
    out.backward()
    with guard_saved():
        out, array, _ = record()
        array[...] += 0
        out.backward()


class Masked(Op):
    """out = x * mask, with a field that is an array"""

    mask: Any = None

    def forward(self, x: Any) -> Any:
        return x * self.mask

    def backward(self, dout: Any) -> Any:
        return dout * self.mask


def test_an_array_among_the_fields_of_a_users_op() -> None:
    mask = np.array([1.0, 0.0])
    with guard_saved():
        out = Masked(mask)(leaf(3.0, 4.0))
        out.backward(np.ones(2), retain_graph=True)
        mask[...] = 1.0
        with pytest.raises(InPlaceError, match=r"backward: mask \(float64 \(2,\)\) has changed since masked"):
            out.backward(np.ones(2))


def test_a_trace_within_compares_too() -> None:
    x = leaf(3.0, name="x")
    with guard_saved(), detect_anomaly(), profile() as p:
        out = x * x
        mg.graph.trace(out)
        x.data[...] = 1.0
        for ask in mg.graph.trace, mg.debug.trace_nonfinite:
            with pytest.raises(InPlaceError, match=r"x \(x, float64 \(1,\)\) has changed"):
                ask(out)
    assert p.total.rules == 0  # of no walk of the program's own
    assert x.grad is None


def test_a_name_that_a_leaf_is_given_later_is_told() -> None:
    x = leaf(3.0)
    with guard_saved():
        out = x * x
        x.name = "weights"
        x.data[...] = 1.0
        with pytest.raises(InPlaceError, match=r"x \(weights, "):
            out.backward()


def test_the_fix_is_one() -> None:
    a = np.array([1.0, 2.0])
    W = leaf(3.0, 4.0)
    with guard_saved():
        out = (Tensor(a) * W).sum()  # a copy
        a[...] = 0
        out.backward()
        assert W.grad.tolist() == [1.0, 2.0]
        out = (mg.from_numpy(a) * W).sum()
        out.backward()
        a[...] = 9  # after backward


def test_no_gradient_changes_where_the_guard_stops() -> None:
    x, w = leaf(3.0, name="x"), leaf(5.0)
    x.grad = [7.0]
    with guard_saved():
        out = (mg.exp(w) * (x * x)).sum()
        x.data[...] = 1.0
        with pytest.raises(InPlaceError):
            out.backward()
    assert x.grad.tolist() == [7.0]
    assert w.grad is None


def test_a_write_between_two_walks() -> None:
    x = leaf(3.0)
    with guard_saved():
        out = x * x
        out.backward(retain_graph=True)
        out.backward(retain_graph=True)
        assert x.grad.tolist() == [12.0]
        x.data[...] = 1.0
        with pytest.raises(InPlaceError):
            out.backward()
    assert x.grad.tolist() == [12.0]


def test_the_second_order() -> None:
    for f in lambda x: x * x * x, lambda x: mg.exp(mg.sin(x)):
        x = leaf(0.5, name="x")
        with guard_saved():
            (dx,) = mg.grad(f(x), x, create_graph=True)
            mg.grad(dx, x, create_graph=True)
            x.data[...] = 1.0
            with pytest.raises(InPlaceError) as caught:
                mg.grad(dx, x)
            assert f"{__file__}:" in caught.value.got


def test_inputs_that_only_the_second_order_needs_may_change_at_first() -> None:
    x = leaf(0.5)
    slope = mg.sigmoid(0.5).item() * mg.sigmoid(-0.5).item()
    with guard_saved():
        out = mg.sigmoid(x)
        x.data[...] = 1.0
        out.backward(retain_graph=True)
        assert x.grad[0] == pytest.approx(slope, rel=1e-14)
        with pytest.raises(InPlaceError, match=r"sigmoid.backward: x "):
            mg.grad(out, x, create_graph=True)


def test_writes_that_the_tape_sees_stay_its_own_errors() -> None:
    x = leaf(3.0, name="x")
    with guard_saved():
        out = x * x
        x.data -= 1.0
        with pytest.raises(InPlaceError, match="was written by an assignment"):
            out.backward()


def test_a_training_loop_with_one_buffer_for_all_batches() -> None:
    def trained(manager: Any) -> list[Any]:
        generator = np.random.default_rng(3)
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3, generator=generator), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
            nn.Linear(8, 3, generator=generator),
        )  # fmt: skip
        mg.manual_seed(0)
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        buffer = np.empty((5, 1, 4, 4))
        with manager:
            for _ in range(4):
                buffer[...] = generator.standard_normal(buffer.shape)
                optimizer.zero_grad()
                mg.softmax_cross_entropy(model(mg.from_numpy(buffer)), [0, 1, 2, 1, 0]).backward()
                optimizer.step()
        return [p.tolist() for p in model.parameters()]

    plain = trained(no_manager())
    assert trained(guard_saved()) == plain
    with guard_saved(), detect_anomaly(), profile(), guard_saved():
        assert trained(no_manager()) == plain


class no_manager:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...


@pytest.mark.parametrize("op", list(registry()), ids=lambda op: op.name)
@settings(max_examples=3)
@given(data=st.data())
def test_every_array_that_an_op_saves_is_guarded(op: type[Op], data: st.DataObject) -> None:
    call = data.draw(calls(op, empty=False))
    tensors = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in call.arrays]
    with guard_saved():
        out = call(*tensors)
        node = out._node
        if node is None:
            return
        out.backward(np.ones(out.shape), retain_graph=True)
        grads = [None if t.grad is None else t.grad.copy() for t in tensors]
        arrays = [a for a in node.saved or () if isinstance(a, np.ndarray) and a.size]
        for a in arrays:
            root = a
            while isinstance(root.base, np.ndarray):
                root = root.base
            root.flags.writeable = a.flags.writeable = True
            before = a.copy()
            a.reshape(-1).view(np.uint8)[:1] ^= 1
            if a.flags.c_contiguous:
                with pytest.raises(InPlaceError):
                    out.backward(np.ones(out.shape), retain_graph=True)
            a[...] = before
        out.backward(np.ones(out.shape))
    for t, g in zip(tensors, grads, strict=True):
        if g is not None:
            assert t.grad is not None
            np.testing.assert_array_equal(t.grad, 2 * g)


# Within programs


def test_no_grad_threads_tasks_and_exceptions() -> None:
    w = leaf(2.0)
    results: list[Any] = []

    def unguarded() -> None:
        x = leaf(3.0)
        out = x * x
        x.data[...] = 1.0
        out.backward()
        results.append(x.grad.tolist())

    async def main() -> None:
        entered, done = asyncio.Event(), asyncio.Event()

        async def guarded() -> None:
            with guard_saved():
                entered.set()
                await done.wait()

        task = asyncio.create_task(guarded())
        await entered.wait()
        unguarded()
        done.set()
        await task

    with guard_saved():
        with no_grad():
            w * w
        thread = threading.Thread(target=unguarded)
        thread.start()
        thread.join()
    asyncio.run(main())
    assert results == [[2.0], [2.0]]
    with pytest.raises(ZeroDivisionError), guard_saved():
        1 / 0  # noqa: B018  # raised on purpose
    unguarded()


def test_as_a_decorator_and_nested_with_detect_anomaly() -> None:
    @guard_saved
    def hidden() -> None:
        x = leaf(3.0)
        out = x * x
        x.data[...] = 1.0
        out.backward()

    with pytest.raises(InPlaceError):
        hidden()
    with detect_anomaly(), pytest.raises(InPlaceError):
        hidden()
    with guard_saved(), pytest.raises(AnomalyError), detect_anomaly():
        mg.log(leaf(0.0))


def test_what_was_recorded_outside_is_not_guarded() -> None:
    x = leaf(3.0)
    out = x * x
    x.data[...] = 1.0
    with guard_saved():
        out.backward()


def test_checksums_go_with_the_graph() -> None:
    with guard_saved():
        out = leaf(3.0) * 2
        node = out._node
        assert type(node.saved) is not tuple
        out.backward()
        assert node.saved is None


# The checksum


DTYPES = (np.float64, np.float32, np.float16, np.int64, np.int8, np.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 7, 100, 1563, 1564, 4001, 20_011])
def test_a_checksum_sees_one_value_two_values_and_their_order(dtype: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    a = (rng.standard_normal(n) * 50).astype(dtype)
    known = checksum(a)
    assert checksum(a.copy()) == known
    for _ in range(30):
        i, j = rng.integers(n, size=2)
        for change in one_more, swapped, other_sign:
            b = change(a.copy(), i, j)
            assert (checksum(b) == known) == (b.tobytes() == a.tobytes()), change.__name__
    assert checksum(one_more(a.copy(), n - 1, 0)) != known
    for b in (a[::-1].copy(), np.roll(a, 1), np.sort(a), -a, a * 0, rng.permutation(a)):
        assert (checksum(b) == known) == (b.tobytes() == a.tobytes())


def one_more(a: Any, i: int, j: int) -> Any:
    a.view(np.uint8)[i * a.itemsize] ^= 1
    return a


def swapped(a: Any, i: int, j: int) -> Any:
    a[[i, j]] = a[[j, i]]
    return a


def other_sign(a: Any, i: int, j: int) -> Any:
    a[[i, j]] *= a.dtype.type(-1) if a.dtype.kind != "u" else 255
    return a


@pytest.mark.parametrize("shape", [(600, 509), (600, 521), (2, 1018), (40, 784), (64, 50)])
def test_rows_that_change_places_and_signs_of_all_are_seen(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(shape)
    assert checksum(a) != checksum(a[::-1].copy())
    assert checksum(a) != checksum(rng.permutation(a))
    assert checksum(a) != checksum(-a)
    assert checksum(np.sign(a) + 2) != checksum(-np.sign(a) + 2)
    assert checksum(np.sign(a)) != checksum(-np.sign(a))


def test_entries_that_share_a_column_of_the_sum_or_of_the_xor() -> None:
    a = np.random.default_rng(0).standard_normal(6000)
    for period in 509, 521:
        for change in swapped, other_sign:
            assert checksum(change(a.copy(), 7, 7 + period)) != checksum(a)
            assert checksum(change(a.copy(), 7, 7 + 4 * period)) != checksum(a)
    a = np.ones(2 * 509 * 521)
    assert checksum(a) != checksum(-a)
    b = a.copy()
    b[[3, 3 + 509 * 521]] = 3.0  # the same change in entries that share both columns: the xors are as they were
    assert checksum(a) != checksum(b)


def test_views_of_any_layout() -> None:
    a = np.arange(24_000.0).reshape(20, 30, 40)
    views = [
        a.T,
        a[::2],
        a[:, ::-1],
        a[..., 3],
        a[1:, 1:, 1:],
        a[:0],
        a.transpose(1, 0, 2)[::-1, ::3],
        np.array(1.0),
        a.astype(np.float32)[..., 1::2],
        a.astype(np.float16)[..., 1:],
        np.asfortranarray(a[0]),
    ]
    for view in views:
        view = view.copy(order="K") if view.base is None else view
        known = checksum(view)
        assert checksum(view) == known
        if view.size:
            last = (-1,) * view.ndim
            value = view[last]
            view[last] = -7
            assert checksum(view) != known
            view[last] = value
            assert checksum(view) == known


def test_a_stretched_array_is_read_once() -> None:
    huge = np.broadcast_to(np.arange(3.0), (10**6, 10**6, 3))
    assert checksum(huge) == checksum(np.arange(3.0))


def test_special_values() -> None:
    a = np.zeros(5000)
    for value in np.nan, np.inf, -0.0:
        b = a.copy()
        b[4321] = value
        assert checksum(b) != checksum(a)
        assert checksum(b) == checksum(b.copy())
