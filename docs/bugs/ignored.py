"""A sum of squares whose backward takes it that it is the last layer."""

import numpy as np

VERDICT, REASON = "wrong", "dout is ignored"
SHAPE = (2, 3)


class SumOfSquares:
    """loss = sum(x**2) / 2"""

    def forward(self, x):
        self.x = x
        return 0.5 * np.sum(x**2)

    def backward(self, dout=1):
        return self.x.copy()


class Repaired(SumOfSquares):
    """The chain rule: whatever follows the layer comes in as dout."""

    def backward(self, dout=1):
        return dout * self.x
