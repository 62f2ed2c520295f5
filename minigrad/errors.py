"""The errors minigrad raises: four parts each, and the built-in class a NumPy user expects.

Every error says where it happened (function and argument), what it got, what was expected, and one fix.
The parts are attributes too, so that a program, or a test, can read them.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "CompileError",
    "DTypeError",
    "GradientError",
    "GraphError",
    "InPlaceError",
    "LabelError",
    "MinigradError",
    "ShapeError",
    "describe",
]


class MinigradError(Exception):
    """function: got; expected ...; fix.

    function: the public function and, where one is to blame, its argument.
    got: what came in, with shape, dtype, first offending index and value.
    expected: what would have been right.
    fix: one thing to write instead.

    >>> error = ShapeError("f", "x is (2,)", "a matrix", "use x[:, None]")
    >>> print(error)
    f: x is (2,); expected a matrix; use x[:, None]
    """

    def __init__(self, function: str, got: str, expected: str, fix: str) -> None:
        super().__init__(function, got, expected, fix)
        self.function, self.got, self.expected, self.fix = function, got, expected, fix

    def __str__(self) -> str:
        return f"{self.function}: {self.got}; expected {self.expected}; {self.fix}"


class ShapeError(MinigradError, ValueError):
    """Shapes that do not fit the contract of an operation.

    >>> import minigrad as mg
    >>> mg.matmul([[1.0, 2.0]], [[3.0, 4.0]])
    Traceback (most recent call last):
    minigrad.errors.ShapeError: matmul: x is float64 (1, 2), y is float64 (1, 2); expected contract ...
    """


class ArgumentError(MinigradError, ValueError):
    """A value, axis, option or label set that an operation cannot take.

    >>> import minigrad as mg
    >>> mg.softmax_cross_entropy([[1.0, 2.0]], [0], reduction="avg")
    Traceback (most recent call last):
    minigrad.errors.ArgumentError: softmax_cross_entropy: reduction: 'avg'; expected "mean", "sum" or "none"; ...
    """


class DTypeError(MinigradError, TypeError):
    """A type or dtype that has no place here: object arrays, integers that want a gradient, ...

    >>> import minigrad as mg
    >>> mg.Tensor([1, 2], requires_grad=True)
    Traceback (most recent call last):
    minigrad.errors.DTypeError: Tensor: requires_grad=True for int64 (2,); expected a float dtype: only floats ...
    """


class LabelError(MinigradError, IndexError):
    """A label, index or axis out of range; lists the first bad positions.

    >>> import minigrad as mg
    >>> mg.softmax_cross_entropy([[1.0, 2.0]], [2])
    Traceback (most recent call last):
    minigrad.errors.LabelError: softmax_cross_entropy: labels: labels[0] = 2 for 2 classes; expected class numbers ...
    """


class GradientError(MinigradError, ValueError):
    """A rule (an op's backward) that returned the wrong number, type or shape of gradients.

    >>> import minigrad as mg
    >>> class Double(mg.Op):
    ...     def forward(self, x):
    ...         return 2 * x
    ...     def backward(self, dout):
    ...         return 2, dout
    >>> Double()(mg.Tensor(1.0, requires_grad=True)).backward()
    Traceback (most recent call last):
    minigrad.errors.GradientError: double.backward: 2 gradients; expected 1, one for each argument of forward; ...
    """


class GraphError(MinigradError, RuntimeError):
    """A walk that cannot be made: no graph, a released graph, a gradient that is missing.

    >>> import minigrad as mg
    >>> mg.Tensor(1.0).backward()
    Traceback (most recent call last):
    minigrad.errors.GraphError: backward: a tensor (float64 ()), which has no graph; expected a tensor computed ...
    """


class CheckpointError(MinigradError, ValueError):
    """A file that is damaged, hostile, or not what its name says; or one that cannot be written.

    >>> import minigrad as mg
    >>> mg.load("missing.npz")
    Traceback (most recent call last):
    minigrad.errors.CheckpointError: load: missing.npz: No such file or directory; expected a file that can be read; ...
    """


class CompileError(MinigradError, RuntimeError):
    """A function that cannot be compiled: names the line that a replay could not repeat.

    >>> import minigrad as mg
    >>> mg.compile(lambda x: x if x.sum() > 0 else -x)(mg.Tensor([1.0]))
    Traceback (most recent call last):
    minigrad.errors.CompileError: compile(<lambda>): bool at ...: a value that Python looks at, ...
    """


class InPlaceError(GraphError):
    """A write into an array that backward still needs, or into a leaf while recording.

    >>> import minigrad as mg
    >>> w = mg.Tensor(2.0, requires_grad=True, name="w")
    >>> loss = w * w
    >>> w.data -= 1.0
    >>> loss.backward()
    Traceback (most recent call last):
    minigrad.errors.InPlaceError: multiply.backward: w (float64 ()) was written by an assignment to .data, ...
    """


def describe(value: Any) -> str:
    """What an argument is, in a few words: dtype and shape of an array, the type of anything else.

    >>> import numpy as np
    >>> describe(np.zeros((2, 3)))
    'float64 (2, 3)'
    >>> describe(1.5)
    'float 1.5'
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{dtype} {shape}"
    if value is None or isinstance(value, (bool, int, float, str)):
        text = repr(value)
        return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
    return f"a {type(value).__name__}"
