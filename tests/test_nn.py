"""Module: what belongs to a model, its state, its errors; initial values."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import ArgumentError, DTypeError, LabelError, MinigradError, ShapeError, Tensor, nn
from minigrad.nn import init
from minigrad.random import put_state


class Net(nn.Module):
    """Two layers, one of them shared, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4, generator=np.random.default_rng(0))
        self.scale = nn.Parameter(np.ones(4))
        self.rest = nn.ModuleList([nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2))])
        self.register_buffer("count", np.array(0))
        self.again = self.first

    def forward(self, x: Any) -> Tensor:
        x = self.first(x) * self.scale
        for layer in self.rest:
            x = layer(x)
        return x


def names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


# What belongs to it


def test_parameters_are_found_by_path_in_order_and_once() -> None:
    model = Net()
    assert names(model) == [
        "scale", "first.weight", "first.bias", "rest.0.weight", "rest.0.bias", "rest.1.1.weight", "rest.1.1.bias",
    ]  # fmt: skip
    assert [p.shape for p in model.parameters()][:2] == [(4,), (4, 3)]
    assert [name for name, _ in model.named_modules()] == [
        "",
        "first",
        "rest",
        "rest.0",
        "rest.1",
        "rest.1.0",
        "rest.1.1",
    ]
    assert [name for name, _ in model.named_buffers()] == ["count"]
    assert sum(p.size for p in model.parameters()) == 4 + 16 + 20 + 10
    assert model.get_submodule("rest.1.1") is model.rest[1][1]


def test_a_shared_module_is_in_the_state_by_both_names() -> None:
    state = Net().state_dict()
    assert np.array_equal(state["first.weight"], state["again.weight"])
    assert list(state)[:2] == ["scale", "count"]


def test_a_module_that_knows_its_parent_is_walked_once() -> None:
    parent, child = nn.Module(), nn.Module()
    parent.child, child.parent = child, parent
    child.w = nn.Parameter([1.0])
    assert names(parent) == ["child.w"]
    assert names(child) == ["w"]
    assert list(parent.state_dict()) == ["child.w"]


def test_init_of_the_base_class_is_not_needed() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter([2.0])

        def forward(self, x: Any) -> Tensor:
            return self.w * x

    assert names(Bare()) == ["w"]
    assert Bare().eval().training is False
    assert Bare().training is True


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([nn.Linear(1, 1)], "a list with modules in it"),
        ({"a": nn.Parameter([1.0])}, "a dict with parameters in it"),
        (Tensor([1.0], requires_grad=True), "a Tensor that requires a gradient, and no Parameter"),
    ],
    ids=["list", "dict", "tensor"],
)
def test_what_would_be_passed_over_is_an_error(value: Any, said: str) -> None:
    model = nn.Module()
    model.parts = value
    with pytest.raises(DTypeError, match=said) as caught:
        list(model.parameters())
    assert caught.value.function == "Module.parts"


def test_a_result_kept_as_an_attribute_is_no_parameter() -> None:
    model = nn.Linear(2, 2)
    model.last = model(np.ones((1, 2)))
    model.shown = Tensor([1.0])
    assert names(model) == ["weight", "bias"]


def test_repr_shows_shapes_and_counts() -> None:
    model = nn.Sequential({"fc": nn.Linear(64, 32), "act": nn.ReLU(), "drop": nn.Dropout(0.3)})
    assert repr(model) == (
        "Sequential()  2,080 parameters\n"
        "  fc: Linear(64, 32)  weight (32, 64), bias (32,): 2,080 parameters\n"
        "  act: ReLU()\n"
        "  drop: Dropout(p=0.3)"
    )


def test_sequential_is_a_list_of_modules() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    model.append(nn.Linear(3, 1)).extend([nn.Sigmoid()])
    assert len(model) == 4
    assert isinstance(model[-1], nn.Sigmoid)
    assert isinstance(model[:2], nn.Sequential)
    assert len(model[:2]) == 2
    assert [type(m).__name__ for m in model] == ["Linear", "Tanh", "Linear", "Sigmoid"]
    out = model(np.ones((5, 2)))
    assert out.shape == (5, 1)
    with pytest.raises(LabelError, match="index 4 of 4 modules"):
        model[4]
    with pytest.raises(DTypeError, match="the class ReLU"):
        nn.Sequential(nn.Linear(1, 1), nn.ReLU)
    with pytest.raises(ArgumentError, match="the name 'forward'"):
        nn.Sequential({"forward": nn.ReLU()})


# Modes, gradients, dtypes


def test_train_and_eval_reach_all_modules() -> None:
    model = Net()
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    assert all(module.training for module in model.train().modules())


def test_gradients_arrive_and_are_forgotten() -> None:
    model = Net()
    model(np.ones((2, 3))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad(set_to_none=False)
    assert all(not p.grad.any() for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    model.requires_grad_(False)
    assert not model(np.ones((2, 3))).requires_grad
    assert names(model)[0] == "scale"
    model.requires_grad_()
    assert model(np.ones((2, 3))).requires_grad


def test_astype_changes_floats_alone() -> None:
    model = Net()
    assert model.astype("float32") is model
    assert {p.dtype for p in model.parameters()} == {np.dtype("float32")}
    assert model.count.dtype == np.int64
    out = model(np.ones((2, 3), "float32"))
    out.sum().backward()
    assert out.dtype == model.scale.grad.dtype == np.float32
    for wrong in ("int64", "no dtype", object):
        with pytest.raises(DTypeError, match="a float dtype"):
            model.astype(wrong)


def test_copies_and_pickles_are_models_of_their_own() -> None:
    model = Net()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert names(other) == names(model)
        assert all(isinstance(p, nn.Parameter) for p in other.parameters())
        assert np.array_equal(other(np.ones((2, 3))).data, model(np.ones((2, 3))).data)
        init.zeros_(other.first.weight)
        assert other.again.weight.data.max() == 0
        assert model.first.weight.data.max() > 0


def test_apply_calls_inner_modules_first() -> None:
    seen: list[str] = []
    nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh()).apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Tanh", "ReLU", "Sequential", "Sequential"]


# State


def test_a_state_goes_from_one_model_into_another() -> None:
    one, other = Net(), Net()
    one.count += 3
    state = one.state_dict()
    assert other.load_state_dict(state) == ([], [])
    assert np.array_equal(one(np.ones((2, 3))).data, other(np.ones((2, 3))).data)
    assert other.count == 3
    state["scale"][:] = 7
    assert other.scale.data.max() == 1


def test_a_model_keeps_its_own_dtype_and_arrays() -> None:
    model = nn.Linear(2, 2, dtype="float32")
    array = model.weight.data
    model.load_state_dict(nn.Linear(2, 2).state_dict())
    assert model.weight.dtype == np.float32
    assert model.weight.data is array


def test_loading_lists_what_does_not_fit_and_writes_nothing() -> None:
    model = Net()
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    state["frist.weight"] = state.pop("first.weight")
    state["rest.0.bias"] = np.zeros(5)
    del state["count"]
    with pytest.raises(ArgumentError) as caught:
        model.load_state_dict(state)
    assert "missing first.weight (the state has frist.weight)" in caught.value.got
    assert "unexpected frist.weight (the model has first.weight)" in caught.value.got
    assert "missing count" in caught.value.got
    assert "rest.0.bias has shape (5,) in the state and (4,) in the model" in caught.value.got
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())
    with pytest.raises(ArgumentError, match=r"rest\.0\.bias has shape"):
        model.load_state_dict(state, strict=False)
    state["rest.0.bias"] = np.zeros(4)
    assert model.load_state_dict(state, strict=False) == (["count", "first.weight"], ["frist.weight"])
    assert model.scale.data[0] == 2


def test_a_state_of_another_kind_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(DTypeError, match="a dict of arrays by name"):
        model.load_state_dict([1, 2])
    with pytest.raises(DTypeError, match=r"load_state_dict: 0\.bias"):
        model.load_state_dict({"0.weight": np.ones((2, 2)), "0.bias": ["a", "b"]})
    counts = nn.Module()
    counts.register_buffer("n", np.array(0))
    with pytest.raises(ArgumentError, match="n is float64 in the state and int64 in the model"):
        counts.load_state_dict({"n": np.array(0.5)})


@given(st.lists(st.integers(1, 3), min_size=2, max_size=4), st.booleans())
def test_any_state_comes_back(sizes: list[int], bias: bool) -> None:
    def build() -> nn.Sequential:
        return nn.Sequential(*[nn.Linear(n, m, bias) for n, m in pairwise(sizes)])

    one, other = build(), build()
    other.load_state_dict(one.state_dict())
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert np.array_equal(a.data, b.data)
        assert not np.shares_memory(a.data, b.data)


# Errors


def test_an_error_names_the_layer_by_its_path() -> None:
    with pytest.raises(ShapeError) as caught:
        Net()(np.ones((5, 4)))
    assert str(caught.value).startswith("Net.first, a Linear(3, 4): x is float64 (5, 4)")
    deep = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(3, 1)))
    with pytest.raises(ShapeError) as caught:
        deep(np.ones((5, 2)))
    assert str(caught.value).startswith("Sequential.1.1, a Linear(3, 1): x is float64 (5, 2)")
    assert "3 features" in caught.value.expected
    assert caught.value.module is deep[1][1]
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_an_error_of_a_layer_alone_is_named_by_its_class() -> None:
    with pytest.raises(ShapeError) as caught:
        nn.Linear(2, 1)(np.ones(3))
    assert caught.value.function == "Linear"


def test_other_errors_go_through_untouched() -> None:
    class Broken(nn.Module):
        def forward(self, x: Any) -> Any:
            raise KeyError(x)

    with pytest.raises(KeyError, match="here"):
        nn.Sequential(Broken())("here")
    with pytest.raises(DTypeError, match="a module without forward"):
        nn.Module()(1)


# Initial values


@pytest.mark.parametrize(
    ("function", "std"),
    [
        (init.xavier_normal_, np.sqrt(2 / 500)),
        (init.xavier_uniform_, np.sqrt(2 / 500)),
        (init.kaiming_normal_, np.sqrt(2 / 200)),
        (init.kaiming_uniform_, np.sqrt(2 / 200)),
        (init.orthogonal_, np.sqrt(1 / 300)),
        (init.normal_, 1.0),
        (init.trunc_normal_, 0.8796),  # of a normal distribution cut at two sigma
        (init.uniform_, np.sqrt(1 / 12)),
    ],
    ids=lambda f: getattr(f, "__name__", ""),
)
def test_initial_values_have_the_standard_deviation_of_their_formula(function: Any, std: float) -> None:
    tensor = nn.Parameter(np.zeros((300, 200)), "float32")
    assert function(tensor, generator=np.random.default_rng(1)) is tensor
    assert tensor.dtype == np.float32
    assert tensor.data.std() == pytest.approx(std, rel=0.02)
    again = function(Tensor(np.zeros((300, 200)), "float32"), generator=np.random.default_rng(1))
    assert np.array_equal(again.data, tensor.data)


def test_fans_of_a_convolution_count_the_kernel() -> None:
    W = init.kaiming_uniform_(Tensor(np.zeros((8, 4, 3, 3))), generator=np.random.default_rng(0))
    assert np.abs(W.data).max() == pytest.approx(np.sqrt(6 / 36), rel=0.02)
    W = init.kaiming_uniform_(Tensor(np.zeros((8, 4, 3, 3))), mode="fan_out", generator=np.random.default_rng(0))
    assert np.abs(W.data).max() == pytest.approx(np.sqrt(6 / 72), rel=0.02)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 9))
def test_orthogonal_rows_or_columns(n: int, m: int, seed: int) -> None:
    W = init.orthogonal_(Tensor(np.zeros((n, m))), generator=np.random.default_rng(seed)).data
    product = W @ W.T if n <= m else W.T @ W
    np.testing.assert_allclose(product, np.eye(min(n, m)), atol=1e-12)


def test_truncated_values_stay_within_their_bounds() -> None:
    W = init.trunc_normal_(Tensor(np.zeros(10_000)), 1.0, 2.0, -1.0, 1.5, np.random.default_rng(0)).data
    assert -1 <= W.min() < -0.9
    assert 1.4 < W.max() <= 1.5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: init.xavier_normal_(Tensor([1.0])), "(outputs, inputs, ...)"),
        (lambda: init.orthogonal_(Tensor([1.0])), "two axes or more"),
        (lambda: init.eye_(Tensor([1.0])), "a matrix"),
        (lambda: init.trunc_normal_(Tensor([1.0]), 0, 1, 8, 9), "bounds in which some of its values lie"),
        (lambda: init.kaiming_normal_(Tensor([[1.0]]), mode="fan"), '"fan_in" or "fan_out"'),
        (lambda: init.calculate_gain("rleu"), "relu"),
        (lambda: init.normal_(Tensor([1.0]), generator=np.random), "a numpy.random.Generator"),
        (lambda: nn.Linear(0, 3), "whole number"),
        (lambda: nn.Linear(3, 2.5), "whole number"),
        (lambda: nn.Linear(3, 2, dtype="int32"), "a float dtype"),
        (lambda: nn.Linear(3, 2, generator=0), "a numpy.random.Generator"),
        (lambda: mg.manual_seed(-1), "a whole number, 0 or more"),
        (lambda: mg.set_rng_state({"bit_generator": "MT19937"}), "the state of a PCG64"),
    ],
)
def test_bad_initial_values_are_refused(call: Any, said: str) -> None:
    with pytest.raises(MinigradError) as caught:
        call()
    assert said in caught.value.expected


def test_seeds_make_models_alike() -> None:
    mg.manual_seed(5)
    one = nn.Linear(3, 3).weight.data
    mg.manual_seed(5)
    assert np.array_equal(nn.Linear(3, 3).weight.data, one)
    assert not np.array_equal(nn.Linear(3, 3).weight.data, one)


@pytest.mark.parametrize(
    ("kind", "key"), [(np.random.MT19937, "pos"), (np.random.Philox, "buffer_pos")], ids=["MT19937", "Philox"]
)
@pytest.mark.parametrize("place", [-1, 1000])
def test_a_generator_is_never_made_to_read_outside_its_buffer(kind: Any, key: str, place: int) -> None:
    generator = np.random.Generator(kind(0))
    before = repr(generator.bit_generator.state)
    state = generator.bit_generator.state
    (state if key in state else state["state"])[key] = place
    with pytest.raises(ArgumentError, match="which NumPy refuses"):
        put_state(generator, state, "here")
    assert repr(generator.bit_generator.state) == before


# What a model is protected from

LINEAR = nn.Linear(2, 2)


def test_a_parameter_is_replaced_by_a_parameter_or_by_none() -> None:
    model = nn.Linear(2, 2)
    for wrong in (model.weight * 0.5, Tensor([1.0]), np.ones((2, 2)), 1.0):
        with pytest.raises(DTypeError, match="in place of a Parameter"):
            model.weight = wrong
    model.weight = nn.Parameter(np.eye(2))
    model.bias = None
    assert model([[1.0, 2.0]]).tolist() == [[1.0, 2.0]]
    assert names(model) == ["weight"]


def test_names_of_methods_are_not_overwritten() -> None:
    model = nn.Module()
    for name in ("modules", "parameters", "train", "forward"):
        with pytest.raises(ArgumentError, match="by the name of a method"):
            setattr(model, name, nn.ModuleList())
    model.forward = lambda x: x  # a function in place of a method is meant
    assert model(3) == 3
    for name in ("forward", "w", "a b"):
        model.__dict__.setdefault("w", nn.Parameter([1.0]))
        with pytest.raises(ArgumentError, match="register_buffer: name"):
            model.register_buffer(name, np.zeros(1))
    model.register_buffer("seen", np.zeros(1))
    model.register_buffer("seen", np.ones(2))
    assert model.state_dict()["seen"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "value", [[[nn.Linear(1, 1)]], {"a": [nn.Linear(1, 1)]}, {nn.Linear(1, 1)}, ({"b": (nn.Parameter([1.0]),)},)]
)
def test_modules_are_not_passed_over_in_any_nest(value: Any) -> None:
    model = nn.Module()
    model.parts = value
    with pytest.raises(DTypeError, match="passed over"):
        list(model.parameters())


def test_a_list_of_layers_does_not_hide_another_error() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.first = nn.Linear(2, 2)
            self.more = [nn.Linear(2, 2)]

        def forward(self, x: Any) -> Tensor:
            return self.first(x)

    with pytest.raises(ShapeError, match="in_features=3"):
        Net()(np.ones((1, 3)))


def test_buffers_may_become_numbers_or_none() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter([1.0])
            self.register_buffer("n", np.array(0))
            self.register_buffer("mean", np.zeros(2))

    model, other = Counting(), Counting()
    model.n = model.n + 1  # a number, as NumPy has it
    model.mean = None
    state = model.state_dict()
    assert list(state) == ["w", "n"]
    other.n, other.mean = other.n + 5, None
    other.load_state_dict(state)
    assert other.n == 1
    with pytest.raises(ArgumentError, match="w has shape"):
        other.load_state_dict({"w": np.zeros(2), "n": np.array(7)})
    assert other.n == 1


def test_appending_takes_the_next_free_name() -> None:
    model = nn.Sequential({"1": nn.ReLU()}).append(nn.Tanh())
    assert [name for name, _ in model.named_children()] == ["1", "2"]
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    del model.__dict__["1"]
    assert [name for name, _ in model.append(nn.Tanh()).named_children()] == ["0", "2", "3"]
    with pytest.raises(ArgumentError, match="which is taken"):
        model._add("0", nn.ReLU())


def test_slices_keep_names_and_places_can_be_assigned() -> None:
    class Own(nn.Sequential):
        def __init__(self, n: int) -> None:
            super().__init__(*[nn.Linear(n, n) for _ in range(3)])

    model = Own(2)
    assert [*model[1:].state_dict()] == ["1.weight", "1.bias", "2.weight", "2.bias"]
    assert type(model[1:]) is nn.Sequential
    model[-1] = nn.Linear(2, 5)
    assert model(np.ones((1, 2))).shape == (1, 5)
    with pytest.raises(DTypeError, match="write the call too"):
        model[0] = nn.ReLU
    with pytest.raises(LabelError, match="get_submodule"):
        model["0"]
    assert next(iter(nn.ModuleList(model)[1:].state_dict())) == "0.weight"


def test_a_module_that_stands_twice_is_shown_twice() -> None:
    relu = nn.ReLU()
    assert repr(nn.Sequential(relu, nn.Linear(1, 1), relu)).count("ReLU()") == 2


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        (lambda: nn.Sequential([nn.ReLU()]), "Sequential(*modules)"),
        (lambda: nn.Sequential(mg.relu), "the module for it, such as nn.ReLU()"),
        (lambda: nn.ModuleList(nn.ReLU()), "ModuleList([module])"),
        (lambda: LINEAR.load_state_dict({"module.weight": np.ones((2, 2))}, strict=False), "removeprefix('module.')"),
        (lambda: LINEAR.load_state_dict({"model": LINEAR.state_dict(), "epoch": 1}), "state['model']"),
        (lambda: nn.Linear(2, 2).load_state_dict(nn.Linear(2, 3).state_dict()), "the sizes it was saved with"),
        (lambda: nn.Sequential(nn.LSTM(2, 3), nn.Linear(3, 1))(np.ones((4, 1, 2))), "out, _ = self.lstm(x)"),
        (lambda: nn.Conv2d(3, 8, 3)(np.ones((1, 5, 8, 8))), "in_channels=5"),
        (lambda: nn.Conv2d(3, 8, 3)(np.ones((8, 8))), "x[None]"),
    ],
)  # fmt: skip
def test_the_fix_is_one_that_helps(call: Any, fix: str) -> None:
    with pytest.raises(MinigradError) as caught:
        call()
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    "call",
    [
        lambda: nn.Conv2d(3, 8, None),
        lambda: nn.Conv2d(3, 8, "3"),
        lambda: nn.Conv2d(3, 8, 3, stride=0),
        lambda: nn.BatchNorm1d(3, momentum="a"),
        lambda: nn.LayerNorm(3, eps="a"),
        lambda: nn.LayerNorm("a"),
        lambda: nn.Embedding(3, 2, padding_idx="a"),
        lambda: nn.HuberLoss(delta="a"),
        lambda: nn.CrossEntropyLoss(label_smoothing=2),
        lambda: nn.CrossEntropyLoss(ignore_index="mean"),
        lambda: nn.NLLLoss(ignore_index=1.5),
        lambda: nn.Dropout("a"),
        lambda: init.trunc_normal_(Tensor([1.0]), std=0),
        lambda: init.normal_(Tensor([1.0]), std=-1),
        lambda: init.uniform_(Tensor([1.0]), 1, 0),
        lambda: init.uniform_(Tensor([1, 2])),
        lambda: init.kaiming_normal_([[1.0, 2.0]]),
        lambda: init.calculate_gain("leaky_relu", "a"),
    ],
)
def test_bad_arguments_are_refused_where_they_are_given(call: Any) -> None:
    with pytest.raises(MinigradError):
        call()


def test_probabilities_of_numpy_are_probabilities() -> None:
    assert nn.Dropout(np.float32(0.5)).p == 0.5
