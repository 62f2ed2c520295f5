"""A relu that keeps its mask on the class, where all relus of a net share it."""

import numpy as np

VERDICT, REASON = "nondeterministic", "state is shared between objects"
SHAPE = (2, 3)


class Relu:
    """out = max(x, 0)"""

    mask = None

    def forward(self, x):
        Relu.mask = x <= 0
        return np.where(Relu.mask, 0, x)

    def backward(self, dout):
        return np.where(Relu.mask, 0, dout)


class Repaired:
    """Each object has a mask of its own."""

    def forward(self, x):
        self.mask = x <= 0
        return np.where(self.mask, 0, x)

    def backward(self, dout):
        return np.where(self.mask, 0, dout)
