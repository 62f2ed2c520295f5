"""The computation graph made visible: as data, as a picture in the book's style, step by step, and in words.

>>> import minigrad as mg
>>> x = mg.Tensor(5.0, requires_grad=True, name="x")
>>> y = 1 / (1 + mg.exp(-x))
>>> print(mg.graph.trace(y))
0  x         = 5          gradient 0.0066481
1  negative  = -5         gradient -0.0066481  of 0
2  exp       = 0.0067379  gradient -0.98666    of 1
3  constant  = 1
4  add       = 1.0067     gradient -0.98666    of 3, 2
5  constant  = 1
6  divide    = 0.99331    gradient 1           of 5, 4
"""

from minigrad.graph.comparing import diff
from minigrad.graph.data import Edge, Graph, GraphNode
from minigrad.graph.drawing import draw
from minigrad.graph.explaining import explain
from minigrad.graph.html import show, to_html
from minigrad.graph.picture import Picture
from minigrad.graph.tracing import record, trace

__all__ = ["Edge", "Graph", "GraphNode", "Picture", "diff", "draw", "explain", "record", "show", "to_html", "trace"]
