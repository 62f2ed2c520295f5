"""Lints: the classic mistakes of training, seen from the graph, the gradients and the optimiser while it runs.

None of them changes anything. Each is said once, as a LintWarning that names the mistake, where it is, and the fix.
They look at every one of the first batches and then at every sixteenth, so that they cost next to nothing.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import DTypeError, describe
from minigrad.nn import BatchNorm1d
from minigrad.op import Binary
from minigrad.tape import Node, ancestors
from minigrad.tensor import Tensor
from minigrad.train.history import known

__all__ = ["LINTS", "LintWarning", "Lints", "parameters_of", "source", "square", "squares_of"]

LINTS = {
    "softmax-before-cross-entropy": "a loss that applies softmax or sigmoid itself is given what has been through one",
    "gradients-not-zeroed": "gradients of an earlier batch are still there and are added to",
    "parameters-not-in-optimizer": "parameters of the model that no step changes",
    "optimizer-parameters-not-in-model": "the optimiser steps parameters that the model does not use",
    "eval-mode": "the model is trained in eval mode",
    "broadcast-labels": "output and labels of different shapes are broadcast against each other in the loss",
    "dead-relu": "units of a relu that are 0 for every sample",
    "exploding-gradients": "gradients that are nan, infinite, or huge beside the parameters",
    "zero-gradients": "parameters whose gradient is exactly 0, batch after batch",
    "unused-parameters": "parameters that the loss does not depend on",
    "constant-loss": "the loss is the same number for every batch",
    "zero-learning-rate": "the learning rate is 0",
    "batchnorm-single-sample": "a last batch of one sample, which BatchNorm cannot normalise",
}

# A loss that has softmax or sigmoid inside, and what must not be in front of it.
_INSIDE = {"softmax_cross_entropy": "softmax", "sigmoid_binary_cross_entropy": "sigmoid"}
_SQUASHING = ("softmax", "log_softmax", "sigmoid", "log_sigmoid")

_FIRST, _EVERY = 16, 16  # batches that are all looked at, and the distance of those looked at afterwards
_ROW = 10  # batches in a row before something is a habit
_DEAD_BATCHES, _DEAD_SAMPLES, _DEAD_SHARE = 8, 128, 0.5
_HUGE = 1e4  # a gradient this many times as long as the parameters

_PACKAGE = str(Path(__file__).parent.parent)


class LintWarning(UserWarning):
    """A classic mistake in a training. code: its name, by which ignore= silences it.

    >>> LintWarning("eval-mode", "model.training is False; call model.train()").code
    'eval-mode'
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Lints:
    """Watches a training loop of your own for the classic mistakes, as fit does for its own.

    model: a Module, or any function. optimizer: that of the loop. ignore: names of LINTS that are not to be said.
    backward(loss, out, t) takes the place of loss.backward(); out is what the model gave and t the labels.
    Raises ArgumentError for a name in ignore that no lint has, with the nearest one.

    >>> import minigrad as mg
    >>> from minigrad import nn, optim
    >>> model = nn.Linear(2, 3)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> lints = Lints(model, optimizer)
    >>> for x, t in [(np.ones((4, 2)), np.array([0, 1, 2, 0]))] * 2:
    ...     out = model(x)
    ...     optimizer.zero_grad()
    ...     lints.backward(mg.softmax_cross_entropy(out, t), out, t)
    ...     optimizer.step()
    """

    def __init__(self, model: Any, optimizer: Any, *, ignore: Iterable[str] = ()) -> None:
        if isinstance(ignore, str) or not isinstance(ignore, Iterable):
            raise DTypeError("ignore", describe(ignore), "a list of names", 'write ignore=["eval-mode"]')
        self.ignore = set(ignore)
        for code in sorted(self.ignore, key=str):
            known("ignore", code, LINTS)
        self.model, self.optimizer = model, optimizer
        self.scheduled = False  # a schedule will change a rate of 0
        self.before_saying: Callable[[], None] = lambda: None  # makes room on the terminal
        self.said: set[str] = set()
        self.batches = 0
        self.parameters: list[tuple[str, Tensor]] = []
        self._zero: dict[str, int] = {}
        self._unused: dict[str, int] = {}
        self._others: set[str] = set()
        self._huge = 0
        self._losses: list[float] = []
        self._written: Any = None
        self._clear_relus()

    def _clear_relus(self) -> None:
        self._alive: dict[tuple[int, int], list[NDArray[np.bool_]]] = {}
        self._relu_batches = self._relu_samples = 0

    def backward(self, loss: Tensor, out: Any = None, t: Any = None) -> None:
        """loss.backward(), with a look at the graph before and at the gradients after it."""
        if not self.batches:
            self.look_at_set_up()
        self.batches += 1
        due = self.batches <= _FIRST or self.batches % _EVERY == 0
        written = [(id(p._data), p._version and p._version.written) for _, p in self.parameters]
        self.look_for_old_gradients(self._written is None or written != self._written)
        if due:
            self.look_at_graph(loss, out, t)
        value = loss.item() if due and loss.size == 1 else math.nan
        loss.backward()
        self._written = written
        if due:
            self.look_at_gradients(value, squares_of(p for _, p in self.parameters))

    def due(self) -> bool:
        """Counts a batch, and says whether it is one to look at."""
        self.batches += 1
        return self.batches <= _FIRST or self.batches % _EVERY == 0

    def say(self, code: str, text: str) -> None:
        """Warns of a mistake, the first time."""
        if code in self.said or code in self.ignore:
            return
        self.said.add(code)
        self.before_saying()
        warnings.warn(LintWarning(code, f'{text} (ignore=["{code}"] silences this)'), stacklevel=_callers_level())

    # What it looks at

    def look_at_set_up(self) -> None:
        """The model's mode, and whether the optimiser has the model's parameters and a rate."""
        model, groups = self.model, self.optimizer.param_groups
        self.parameters = parameters_of(model, self.optimizer)
        if getattr(model, "training", True) is False:
            self.say(
                "eval-mode",
                "model.training is False, so that Dropout does not drop and BatchNorm does not follow the data; "
                "call model.train() before training, and after every evaluation",
            )
        stepped = {id(p) for group in groups for p in group["params"]}
        if hasattr(model, "named_parameters"):
            named = dict(model.named_parameters())
            left = [name for name, p in named.items() if p.requires_grad and id(p) not in stepped]
            if left:
                self.say(
                    "parameters-not-in-optimizer",
                    f"{_list(left)} of the model {_are(left)} not in the optimiser and will not change; pass it "
                    "model.parameters(), or freeze what is to stay with p.requires_grad = False",
                )
            own = {id(p) for p in named.values()}
            others = [name for name, p in self.parameters if id(p) not in own]
            self._others = set(others)
            if others:
                self.say(
                    "optimizer-parameters-not-in-model",
                    f"{_list(others)} of the optimiser {_are(others)} no part of the model; make the optimiser after "
                    "the model is complete, and anew when a layer has been replaced",
                )
        if groups and not self.scheduled and all(group.get("lr") == 0 for group in groups):
            self.say("zero-learning-rate", "the learning rate is 0, so that no step changes anything; pass lr=0.01")

    def look_at_loader(self, loader: Any) -> None:
        """Whether the last batch will be too small, which would be an error only after the first epoch."""
        size: Any = getattr(loader, "batch_size", None)
        data: Any = getattr(loader, "dataset", None)
        if not isinstance(size, int) or size < 2 or getattr(loader, "drop_last", False) or not hasattr(data, "__len__"):
            return
        named = list(self.model.named_modules()) if hasattr(self.model, "named_modules") else []
        found = [name for name, module in named if isinstance(module, BatchNorm1d) and module.training]
        if found and len(data) % size == 1:
            each = f"layer {found[0]}, a" if len(found) == 1 else f"the layers {_list(found)}, each a"
            self.say(
                "batchnorm-single-sample",
                f"the last of {len(data)} samples is a batch of its own, and {each if all(found) else 'the model, a'} "
                f"BatchNorm1d, {_have(found)} nothing to normalise it by; pass drop_last=True to the DataLoader, or "
                "another batch_size",
            )

    def look_for_old_gradients(self, stepped: bool) -> None:
        """Gradients that are there before backward, although parameters have been written since the last one."""
        if not stepped or "gradients-not-zeroed" in self.said:
            return
        old = [name for name, p in self.parameters if p.grad is not None and p.grad.any()]
        if old:
            self.say(
                "gradients-not-zeroed",
                f"{_list(old)} {_have(old)} a gradient already as backward() begins, to which it will be added; call "
                "optimizer.zero_grad() before each backward(), and backward() once a batch",
            )

    def look_at_graph(self, loss: Tensor, out: Any, t: Any) -> None:
        """What is in front of the loss, shapes that were broadcast, units that never fire."""
        if loss._node is None:
            return
        nodes = ancestors([loss._node])
        shape, labels = getattr(out, "shape", None), getattr(t, "shape", None)
        last = out._node if isinstance(out, Tensor) and shape != labels and labels is not None else None
        ends = [y._node.birth for y in (out if isinstance(out, (tuple, list)) else [out]) if _has_node(y)]
        end = max(ends, default=nodes[0].birth)  # a relu in the loss, as of a hinge, may well be 0 everywhere
        relus = []
        for node in nodes:
            name = node.op.name if node.op is not None else ""
            if name in _INSIDE:
                self._look_before_loss(name, node)
            elif name == "relu" and node.birth <= end:
                relus.append(node)
            elif last is not None and isinstance(node.op, Binary) and last in node.parents:
                self._look_at_shapes(node, shape, labels)
        if relus:
            self._look_at_relus(relus[::-1])

    def _look_before_loss(self, name: str, node: Node) -> None:
        before = source(node.parents[0])
        if before is not None and before.op is not None and before.op.name in _SQUASHING:
            self.say(
                "softmax-before-cross-entropy",
                f"{name} is given the result of {before.op}, and applies {_INSIDE[name]} itself: gradients are "
                f"flattened and digits lost; give it the scores, and keep {before.op.name} for predictions",
            )

    def _look_at_shapes(self, node: Node, out: Any, t: Any) -> None:
        try:
            both = np.broadcast_shapes(out, t)
        except ValueError:
            return
        if node.shape == both != out:
            self.say(
                "broadcast-labels",
                f"the model's output {out} and the labels {t} are broadcast to {both} by {node.op} in the loss: each "
                "is compared with each; reshape one of them, for example out.reshape(-1) or t[:, None]",
            )

    def _look_at_relus(self, relus: Sequence[Node]) -> None:
        for k, node in enumerate(relus):
            if "out" not in node.op.asks or node.saved is None or len(node.shape) < 2:
                continue
            fires = node.saved[node.op.asks.index("out")] > 0
            # Channels are on axis 1 after a convolution and on the last one in sequences: whichever has fewer dead.
            axes = [1] if fires.ndim == 2 else [1, fires.ndim - 1]
            alive = [fires.any(axis=tuple(i for i in range(fires.ndim) if i != axis)) for axis in axes]
            before = self._alive.get((k, fires.ndim))
            if before is not None and [a.shape for a in before] == [a.shape for a in alive]:
                alive = [a | b for a, b in zip(before, alive, strict=True)]
            self._alive[k, fires.ndim] = alive
        self._relu_batches += 1
        self._relu_samples += relus[0].shape[0] if relus[0].shape else 1
        if self._relu_batches < _DEAD_BATCHES or self._relu_samples < _DEAD_SAMPLES:
            return
        dead = {k: min(1 - a.mean() for a in alive) for (k, _), alive in self._alive.items()}
        worst = max(dead, key=lambda k: dead[k], default=0)
        if dead and dead[worst] > _DEAD_SHARE:
            self.say(
                "dead-relu",
                f"{dead[worst]:.0%} of the units of relu number {worst + 1} of {len(relus)} were 0 for all "
                f"{self._relu_samples} samples of {self._relu_batches} batches, and learn nothing; pass a smaller "
                "learning rate, initialise with nn.init.kaiming_normal_, or use LeakyReLU",
            )
        self._clear_relus()

    def look_at_gradients(self, loss: float, squares: Sequence[float]) -> None:
        """What came out of backward. squares: the squared norm of each parameter's gradient."""
        if len(self._losses) < _FIRST:
            self._losses.append(loss)
            rates = [group.get("lr", 1) for group in self.optimizer.param_groups]
            if len(self._losses) == _FIRST and loss and any(rates) and len(set(self._losses)) == 1:
                self.say(
                    "constant-loss",
                    f"the loss was {loss:.6g} for each of the first {_FIRST} batches; look whether it depends on what "
                    "the model gives, and whether the steps are larger than the numbers can show",
                )
        zero, unused = [], []
        for (name, p), s in zip(self.parameters, squares, strict=True):
            g = p.grad
            if g is None:
                self._unused[name] = self._unused.get(name, 0) + 1
                if self._unused[name] >= _ROW and name not in self._others:
                    unused.append(name)
            elif s == 0 and loss != 0 and p.size and not g.any():
                self._zero[name] = self._zero.get(name, 0) + 1
                if self._zero[name] >= _ROW:
                    zero.append(name)
            else:
                self._zero[name] = self._unused[name] = 0
        if unused:
            self.say(
                "unused-parameters",
                f"{_list(unused)} {_have(unused)} had no gradient in {_ROW} batches: the loss does not depend on "
                f"{'it' if len(unused) == 1 else 'them'}; use {'it' if len(unused) == 1 else 'them'} in forward, or "
                "freeze with p.requires_grad = False",
            )
        if zero:
            self.say(
                "zero-gradients",
                f"the gradient of {_list(zero)} was exactly 0 in {_ROW} batches, though the loss is {loss:.4g}; look "
                "for a relu that never fires, a softmax over one class, or inputs that are 0",
            )
        total = sum(squares)
        if not math.isfinite(total):
            bad = [name for (name, _), s in zip(self.parameters, squares, strict=True) if not math.isfinite(s)]
            self.say(
                "exploding-gradients",
                f"the gradient of {_list(bad)} is not finite; pass a smaller learning rate, or clip the gradients",
            )
        self._huge = self._huge + 1 if total > _HUGE**2 and total > _HUGE**2 * self._size() else 0
        if self._huge >= 5:
            self.say(
                "exploding-gradients",
                f"the gradient is {math.sqrt(total):.2g} long in the fifth batch in a row, {_HUGE:.0e} times as long "
                "as the parameters; scale data and targets, pass a smaller learning rate, or clip the gradients",
            )

    def _size(self) -> float:
        """The squared norm of all parameters, at least 1."""
        return max(1.0, sum(square(p._data) for _, p in self.parameters))


def parameters_of(model: Any, optimizer: Any) -> list[tuple[str, Tensor]]:
    """(name, parameter) for all that require a gradient, of the model first and then of the optimiser."""
    named = list(model.named_parameters()) if hasattr(model, "named_parameters") else []
    seen = {id(p) for _, p in named}
    found = [(name, p) for name, p in named if p.requires_grad]
    i = 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            if id(p) not in seen:
                seen.add(id(p))
                found.append((p.name or f"params[{i}]", p))
            i += 1
    return found


def squares_of(parameters: Iterable[Tensor]) -> list[float]:
    """The squared norm of each gradient, 0 where there is none."""
    return [square(g) if (g := p.grad) is not None else 0.0 for p in parameters]


def square(array: NDArray[Any]) -> float:
    """The sum of the squares, in any order: half of the time of np.vdot for a small array."""
    v = array.ravel("K")
    return float(v.dot(v))


def source(node: Node | None) -> Node | None:
    """The node that computed the values, behind views and copies of them; after backward that cannot be seen."""
    while node and node.parents and node.op and (node.op.view or node.op.name in ("astype", "copy")):
        node = node.parents[0]
    return node


def _has_node(value: Any) -> bool:
    return isinstance(value, Tensor) and value._node is not None


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _callers_level() -> int:
    """The stacklevel of the first frame outside the package, counted from the caller of this function."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
