"""The fused ops written out in primitive ones: the graphs that the book draws.

They are what the fused ops are checked against, and as accurate as the textbook's formula: not in the tails.
"""

from minigrad.unfused import activation, attention, basic, conv, normalization, recurrent
from minigrad.unfused.activation import *
from minigrad.unfused.attention import *
from minigrad.unfused.basic import *
from minigrad.unfused.conv import *
from minigrad.unfused.normalization import *
from minigrad.unfused.recurrent import *

__all__: list[str] = []
__all__ += basic.__all__
__all__ += activation.__all__
__all__ += normalization.__all__
__all__ += conv.__all__
__all__ += attention.__all__
__all__ += recurrent.__all__
