"""A softmax with the rule of a sigmoid."""

import numpy as np

VERDICT, REASON = "wrong", "f mixes its entries, and the rule treats it as elementwise"
SHAPE = (2, 3)


class Softmax:
    """out = exp(x) / sum(exp(x)) of each row"""

    def forward(self, x):
        e = np.exp(x - np.max(x, axis=1, keepdims=True))
        self.out = e / np.sum(e, axis=1, keepdims=True)
        return self.out

    def backward(self, dout):
        return dout * self.out * (1 - self.out)


class Repaired(Softmax):
    """Every result of a row depends on every entry of it, through the sum."""

    def backward(self, dout):
        dx = dout * self.out
        return dx - self.out * np.sum(dx, axis=1, keepdims=True)
