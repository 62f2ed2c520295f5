"""A tanh whose rule has 1 - y for 1 - y**2."""

import numpy as np

VERDICT, REASON = "wrong", "it differs in no simple way"
SHAPE = (2, 3)


class Tanh:
    """y = tanh(x)"""

    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dout):
        return dout * (1 - self.y)


class Repaired(Tanh):
    """dy/dx = 1 - y**2"""

    def backward(self, dout):
        return dout * (1 - self.y**2)
