"""L-BFGS, from its line search's smallest piece to the whole: a step that calls for the loss as often as it wants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import ArgumentError, DTypeError, GraphError
from minigrad.optim.optimizer import Group, Optimizer
from minigrad.optim.options import Option, check_option, choice, count, real, whole
from minigrad.optim.states import saved_array
from minigrad.tensor import Tensor

__all__ = ["LBFGS"]

Array = NDArray[Any]


class _Point(NamedTuple):
    """A place on the line of a search: step length t, loss f, gradient g, and its slope along the line."""

    t: float
    f: float
    g: Array
    slope: float


def _cubic_minimum(p: _Point, q: _Point, low: float, high: float) -> float:
    """Where the cubic through two points with their slopes is least, within low to high; the middle if it has none."""
    if p.t > q.t:
        p, q = q, p
    middle = (low + high) / 2
    if p.t == q.t:
        return middle
    d1 = p.slope + q.slope - 3 * (p.f - q.f) / (p.t - q.t)
    square = d1 * d1 - p.slope * q.slope
    if not 0 <= square < math.inf:
        return middle
    d2 = math.sqrt(square)
    divisor = q.slope - p.slope + 2 * d2
    t = q.t - (q.t - p.t) * ((q.slope + d2 - d1) / divisor) if divisor else math.nan
    return min(max(t, low), high) if math.isfinite(t) else middle


def _strong_wolfe(
    at: Callable[[float], _Point],
    start: _Point,
    t: float,
    width: float,
    tolerance_change: float,
    max_ls: int,
    c1: float = 1e-4,
    c2: float = 0.9,
) -> tuple[_Point, int]:
    """A point on the line where the loss has fallen enough and the slope is flat enough, and how often `at` was called.

    at: evaluates the line at t. start: the line at 0. width: largest entry of the direction.
    Nocedal and Wright, Numerical optimization, 2006, algorithms 3.5 (find a bracket) and 3.6 (narrow it).
    """

    def fallen(point: _Point) -> bool:
        return not point.f > start.f + c1 * point.t * start.slope

    previous, new = start, at(t)
    calls, tries = 1, 0
    bracket = [start, new]
    while tries < max_ls:
        if not fallen(new) or (tries > 1 and new.f >= previous.f):
            bracket = [previous, new]
            break
        if abs(new.slope) <= -c2 * start.slope:
            return new, calls
        if new.slope >= 0:
            bracket = [previous, new]
            break
        t = _cubic_minimum(previous, new, new.t + 0.01 * (new.t - previous.t), new.t * 10)
        previous, new = new, at(t)
        calls, tries = calls + 1, tries + 1
        bracket = [start, new]  # what is left when the tries are used up

    stuck = False
    low, high = (0, 1) if bracket[0].f <= bracket[1].f else (1, 0)
    while tries < max_ls:
        left, right = sorted(point.t for point in bracket)
        if (right - left) * width < tolerance_change:
            break
        t = _cubic_minimum(bracket[0], bracket[1], left, right)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:  # too near an end, twice or at the end itself: go away from it
            if stuck or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        new = at(t)
        calls, tries = calls + 1, tries + 1
        if not fallen(new) or new.f >= bracket[low].f:
            bracket[high] = new
            low, high = (0, 1) if bracket[0].f <= bracket[1].f else (1, 0)
            continue
        done = abs(new.slope) <= -c2 * start.slope
        if not done and new.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = new
        if done:
            break
    return bracket[low], calls


class LBFGS(Optimizer):
    """p = p + t * d, where d = -H g and H is the inverse Hessian as the last history_size steps show it

    A step makes up to max_iter such moves; closure computes the loss and the gradients anew as often as is asked for.
    lr: t, or where the line search begins; the very first move is lr * min(1, 1 / sum |g|). max_eval: the most calls of
    closure in a step, 5 / 4 of max_iter by default. tolerance_grad: done when no entry of g is larger;
    tolerance_change: when none of t * d is, or the loss changes less. line_search_fn: None or "strong_wolfe".
    All parameters form one vector, in one group; one without a gradient, as a frozen one, counts as having zeros.
    Beside d and g, keeps two vectors for each step of the history.
    Raises ArgumentError for options out of range, more groups than one and for a step without closure, GraphError if
    closure leaves no gradient behind. When closure raises, parameters and state are as before the step.
    Liu and Nocedal, On the limited memory BFGS method, 1989; Nocedal and Wright, Numerical optimization, 2006,
    algorithm 7.4.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = LBFGS([x], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((x - 3) ** 4 + x * x).sum()
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure).item()
    22.0
    >>> x.numpy().round(6)
    array([2., 2.])
    """

    options: ClassVar[dict[str, Option]] = {
        "lr": real,
        "max_iter": count,
        "max_eval": count,
        "tolerance_grad": real,
        "tolerance_change": real,
        "history_size": count,
        "line_search_fn": choice(None, "strong_wolfe"),
    }

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Mapping[str, Any]],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        max_iter = check_option("LBFGS", "max_iter", max_iter, count)
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max(max_iter * 5 // 4, 1) if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        self._params: list[Tensor] = self.param_groups[0]["params"]

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Takes in the one group there is. Raises ArgumentError for a second one.

        >>> x, y = (Tensor([1.0], requires_grad=True) for _ in range(2))
        >>> LBFGS([x]).add_param_group({"params": [y]})
        Traceback (most recent call last):
        minigrad.errors.ArgumentError: LBFGS: params: a second group; expected one group: ...; pass one list
        """
        if self.param_groups:
            raise ArgumentError(
                "LBFGS: params", "a second group", "one group: all parameters are one vector", "pass one list"
            )
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Moves up to max_iter times; returns what closure returned first.

        closure: zero_grad(), compute the loss, loss.backward(), return loss.

        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = LBFGS([x])
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (x * x).sum()
        ...     loss.backward()
        ...     return loss
        >>> optimizer.step(closure).item(), optimizer.step(closure).item() < 1e-12
        (5.0, True)
        """
        if closure is None:
            raise ArgumentError(
                "LBFGS.step: closure",
                "no closure",
                "a function that computes the loss and its gradients, and returns the loss",
                "write def closure(): optimizer.zero_grad(); loss = ...; loss.backward(); return loss",
            )
        self._known = [self._current(0)]
        option = self._known[0][0]
        x, kept = self._gather([p.numpy() for p in self._params]), dict(self.state.get(self._params[0], {}))
        kept.update({name: list(kept[name]) for name in ("old_dirs", "old_stps", "ro") if name in kept})
        try:
            return self._moves(closure, option)
        except BaseException:
            self._put(x)
            self.state = {self._params[0]: kept} if kept else {}
            raise

    def _moves(self, closure: Callable[[], Any], option: Group) -> Any:
        state = self.state.setdefault(self._params[0], {})
        first, f, g = self._loss(closure)
        evaluations = 1
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        state["func_evals"] += 1
        if _largest(g) <= option["tolerance_grad"]:
            return first
        for i in range(1, option["max_iter"] + 1):
            state["n_iter"] += 1
            d = state["d"] = self._direction(state, g, option["history_size"])
            f_before, state["prev_flat_grad"], state["prev_loss"] = f, g, f
            t = float(option["lr"])
            if state["n_iter"] == 1:
                t *= min(1.0, 1.0 / float(np.abs(g).sum()))
            state["t"] = t
            slope = _dot(g, d)
            if slope > -option["tolerance_change"]:
                break
            calls = 0
            x = self._gather([p.numpy() for p in self._params])
            if option["line_search_fn"]:
                at = self._line(closure, x, d)
                start, most = _Point(0.0, f, g, slope), option["max_eval"] - evaluations
                point, calls = _strong_wolfe(at, start, t, _largest(d), option["tolerance_change"], most)
                t, f, g, _ = point
                state["t"] = t
                self._move(x, t, d)
            else:
                self._move(x, t, d)
                if i < option["max_iter"]:  # after the last move the loss is not needed: spare an evaluation
                    _, f, g = self._loss(closure)
                    calls = 1
            evaluations += calls
            state["func_evals"] += calls
            if (
                evaluations >= option["max_eval"]
                or _largest(g) <= option["tolerance_grad"]
                or _largest(d) * abs(t) <= option["tolerance_change"]
                or abs(f - f_before) < option["tolerance_change"]
            ):
                break
        return first

    @staticmethod
    def _direction(state: dict[str, Any], g: Array, history_size: int) -> Array:
        """-H g by the two-loop recursion, after the last move has gone into the history."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return np.negative(g)
        ys, ss, ro = state["old_dirs"], state["old_stps"], state["ro"]
        y = g - state["prev_flat_grad"]
        s = state["d"] * state["t"]
        curvature = _dot(y, s)
        if curvature > 1e-10:
            if len(ys) == history_size:
                del ys[0], ss[0], ro[0]
            ys.append(y)
            ss.append(s)
            ro.append(1.0 / curvature)
            state["H_diag"] = curvature / _dot(y, y)
        d, scratch = np.negative(g), np.empty_like(g)
        alphas = []
        for y, s, r in zip(reversed(ys), reversed(ss), reversed(ro), strict=True):
            alphas.append(_dot(s, d) * r)
            d -= np.multiply(y, alphas[-1], out=scratch)
        d *= state["H_diag"]
        for y, s, r, alpha in zip(ys, ss, ro, reversed(alphas), strict=True):
            d += np.multiply(s, alpha - _dot(y, d) * r, out=scratch)
        return d

    def _loss(self, closure: Callable[[], Any]) -> tuple[Any, float, Array]:
        loss = self._evaluate(closure)
        if loss is None:
            raise DTypeError("LBFGS.step: closure", "None", "the loss", "end closure with return loss")
        grads = [p.grad for p in self._params]
        if all(g is None for g in grads):
            raise GraphError(
                "LBFGS.step: closure",
                "no parameter has a gradient after it",
                "a function that calls loss.backward()",
                "write def closure(): optimizer.zero_grad(); loss = ...; loss.backward(); return loss",
            )
        zeros = (np.zeros(p.shape, p.dtype) if g is None else g for p, g in zip(self._params, grads, strict=True))
        return loss, float(loss), self._gather(list(zeros))

    def _line(self, closure: Callable[[], Any], x: Array, d: Array) -> Callable[[float], _Point]:
        def at(t: float) -> _Point:
            self._move(x, t, d)
            _, f, g = self._loss(closure)
            return _Point(t, f, g, _dot(g, d))

        return at

    @staticmethod
    def _gather(arrays: list[Array]) -> Array:
        return np.concatenate([array.reshape(-1) for array in arrays])

    def _move(self, x: Array, t: float, d: Array) -> None:
        self._put(x + t * d)

    def _put(self, x: Array) -> None:
        start = 0
        for p in self._params:
            if p.requires_grad:  # a frozen one has a direction of 0, and is not to be touched
                array = p._writable()
                p._touch("LBFGS.step")
                array[...] = x[start : start + p.size].reshape(p.shape)
            start += p.size

    def _packed(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The history as arrays of one row for each step."""
        packed = super()._packed(state)
        for name in ("old_dirs", "old_stps"):
            if name in packed:
                packed[name] = np.array(packed[name], state["d"].dtype).reshape(-1, state["d"].size)
        if "ro" in packed:
            packed["ro"] = np.array(packed["ro"], np.float64)
        return packed

    def _unpacked(self, where: str, p: Tensor, option: Group, state: Mapping[str, Any]) -> dict[str, Any]:
        counters, numbers = ("func_evals", "n_iter"), ("t", "H_diag", "prev_loss")
        vectors, rows = ("d", "prev_flat_grad"), ("old_dirs", "old_stps")
        known = (*counters, *numbers, *vectors, *rows, "ro")
        if p is not self._params[0] or set(state) not in (set(known), set(counters)):
            raise ArgumentError(
                where,
                f"a state of {', '.join(map(str, state))}",
                f"one for parameter 0 alone, of {', '.join(known)}",
                "load the state into the optimiser that it was saved from",
            )
        x = self._gather([q.numpy() for q in self._params])
        any_float = Option("a number", "1.0", lambda v: float(v) if isinstance(v, (int, float)) else NotImplemented)
        loaded: dict[str, Any] = {}
        if "ro" in state:
            ro = state["ro"]
            shape = ro.shape if isinstance(ro, np.ndarray) and ro.ndim == 1 else (option["history_size"],)
            loaded["ro"] = saved_array(where, "ro", ro, shape, np.dtype(float)).tolist()
        for name, value in state.items():
            if name in counters:
                loaded[name] = check_option(where, name, value, whole)
            elif name in numbers:
                loaded[name] = check_option(where, name, value, any_float)
            elif name in vectors:
                loaded[name] = saved_array(where, name, value, x.shape, x.dtype)
            elif name in rows:
                loaded[name] = list(saved_array(where, name, value, (len(loaded["ro"]), x.size), x.dtype))
        return loaded


def _dot(x: Array, y: Array) -> float:
    return float(np.dot(x, y))


def _largest(x: Array) -> float:
    return float(np.abs(x).max()) if x.size else 0.0
