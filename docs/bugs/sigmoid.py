"""A sigmoid whose rule lost a factor."""

import numpy as np

VERDICT, REASON = "wrong", "it differs in no simple way"
SHAPE = (2, 3)


class Sigmoid:
    """out = 1 / (1 + exp(-x))"""

    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout):
        return dout * self.out


class Repaired(Sigmoid):
    """d(out)/dx = (1 - out) * out: both factors."""

    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out
