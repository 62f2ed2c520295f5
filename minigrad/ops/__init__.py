"""Every op, one family a file. Adding one touches that file alone: its `__all__` makes it public."""

from minigrad.ops import constant, elementwise, fused, index, linalg, loss, reduce, shape
from minigrad.ops.constant import *
from minigrad.ops.elementwise import *
from minigrad.ops.fused import *
from minigrad.ops.index import *
from minigrad.ops.linalg import *
from minigrad.ops.loss import *
from minigrad.ops.reduce import *
from minigrad.ops.shape import *

__all__: list[str] = []
__all__ += elementwise.__all__
__all__ += reduce.__all__
__all__ += shape.__all__
__all__ += index.__all__
__all__ += linalg.__all__
__all__ += fused.__all__
__all__ += loss.__all__
__all__ += constant.__all__
