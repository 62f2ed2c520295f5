"""A relu that makes its mask once, at its first forward."""

import numpy as np

VERDICT, REASON = "wrong", "state is shared between calls"
SHAPE = (2, 3)


class Relu:
    """out = max(x, 0)"""

    def __init__(self):
        self.mask = None

    def forward(self, x):
        if self.mask is None:
            self.mask = x <= 0
        return np.where(x <= 0, 0, x)

    def backward(self, dout):
        return np.where(self.mask, 0, dout)


class Repaired(Relu):
    """A forward with another x has another mask."""

    def forward(self, x):
        self.mask = None
        return super().forward(x)
