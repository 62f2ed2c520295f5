"""minigrad: automatic differentiation on NumPy that a reader of Deep Learning from Scratch can read.

>>> import minigrad as mg
>>> x = mg.Tensor([1.0, 2.0], requires_grad=True)
>>> mg.sum(mg.sigmoid(x)).backward()
>>> x.grad
array([0.19661193, 0.10499359])
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from minigrad import errors, func, ops, unfused
from minigrad.autograd import enable_grad, grad, is_grad_enabled, no_grad
from minigrad.errors import (
    ArgumentError,
    CheckpointError,
    CompileError,
    DTypeError,
    GradientError,
    GraphError,
    InPlaceError,
    LabelError,
    MinigradError,
    ShapeError,
)
from minigrad.io import load, save
from minigrad.op import Op
from minigrad.ops.activation import *  # family by family: type checkers follow that
from minigrad.ops.attention import *
from minigrad.ops.constant import *
from minigrad.ops.conv import *
from minigrad.ops.elementwise import *
from minigrad.ops.fused import *
from minigrad.ops.index import *
from minigrad.ops.linalg import *
from minigrad.ops.loss import *
from minigrad.ops.normalization import *
from minigrad.ops.pooling import *
from minigrad.ops.recurrent import *
from minigrad.ops.reduce import *
from minigrad.ops.shape import *
from minigrad.random import default_generator, get_rng_state, manual_seed, set_rng_state
from minigrad.recompute import checkpoint
from minigrad.tensor import Tensor, from_numpy
from minigrad.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

_PARTS = ("book", "data", "debug", "graph", "nn", "optim", "testing", "train")


if not TYPE_CHECKING:  # a type checker would take any name for one that this finds

    def __getattr__(name: str) -> ModuleType:
        """A part of the package that `import minigrad` leaves out, imported when it is first asked for."""
        if name in _PARTS:
            return import_module(f"minigrad.{name}")
        if name == "compile":
            globals()[name] = import_module("minigrad.compiling").compile
            return globals()[name]
        raise AttributeError(f"module 'minigrad' has no attribute {name!r}")


__all__ = [
    *ops.__all__,
    "ArgumentError",
    "CheckpointError",
    "CompileError",
    "DTypeError",
    "GradientError",
    "GraphError",
    "InPlaceError",
    "LabelError",
    "MinigradError",
    "Op",
    "ShapeError",
    "Tensor",
    "checkpoint",
    "default_generator",
    "enable_grad",
    "errors",
    "from_numpy",
    "func",
    "get_num_threads",
    "get_rng_state",
    "grad",
    "is_grad_enabled",
    "load",
    "manual_seed",
    "no_grad",
    "save",
    "set_num_threads",
    "set_rng_state",
    "unfused",
]
