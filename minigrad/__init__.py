"""minigrad: automatic differentiation on NumPy that a reader of Deep Learning from Scratch can read.

>>> import minigrad as mg
>>> x = mg.Tensor([1.0, 2.0], requires_grad=True)
>>> mg.sum(mg.sigmoid(x)).backward()
>>> x.grad
array([0.19661193, 0.10499359])
"""

from minigrad import errors, func, ops, unfused
from minigrad.autograd import enable_grad, grad, is_grad_enabled, no_grad
from minigrad.errors import (
    ArgumentError,
    DTypeError,
    GradientError,
    GraphError,
    InPlaceError,
    LabelError,
    MinigradError,
    ShapeError,
)
from minigrad.op import Op
from minigrad.ops.constant import *  # family by family: type checkers follow that
from minigrad.ops.elementwise import *
from minigrad.ops.fused import *
from minigrad.ops.index import *
from minigrad.ops.linalg import *
from minigrad.ops.loss import *
from minigrad.ops.reduce import *
from minigrad.ops.shape import *
from minigrad.tensor import Tensor, from_numpy

__version__ = "0.1.0"

__all__ = [
    *ops.__all__,
    "ArgumentError",
    "DTypeError",
    "GradientError",
    "GraphError",
    "InPlaceError",
    "LabelError",
    "MinigradError",
    "Op",
    "ShapeError",
    "Tensor",
    "enable_grad",
    "errors",
    "from_numpy",
    "func",
    "grad",
    "is_grad_enabled",
    "no_grad",
    "unfused",
]
