"""`minigrad.compile`: a function on Tensors as a straight list of NumPy calls.

The order to read it in: program (what a program is), traced (what stands for an array while it is recorded), outside,
held and world (what a function finds outside); recording: calls, places, optimisers, exchange, recorder; then what
happens to a program: passes, memory, emit; and last compiled, which ties it together.
"""

from minigrad.compiling.compiled import Compiled, Stats, compile

__all__ = ["Compiled", "Stats", "compile"]
