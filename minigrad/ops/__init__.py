"""Every op, one family a file. Adding one touches that file alone: its `__all__` makes it public."""

from minigrad.ops import (
    activation,
    attention,
    constant,
    conv,
    elementwise,
    fused,
    index,
    linalg,
    loss,
    normalization,
    pooling,
    recurrent,
    reduce,
    shape,
)
from minigrad.ops.activation import *
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

__all__: list[str] = []
__all__ += elementwise.__all__
__all__ += reduce.__all__
__all__ += shape.__all__
__all__ += index.__all__
__all__ += linalg.__all__
__all__ += fused.__all__
__all__ += loss.__all__
__all__ += activation.__all__
__all__ += normalization.__all__
__all__ += conv.__all__
__all__ += pooling.__all__
__all__ += attention.__all__
__all__ += recurrent.__all__
__all__ += constant.__all__
