"""An affine layer that keeps a gradient of b for each sample."""

import numpy as np

VERDICT, REASON = "wrong", "it is not summed over the axes that were broadcast"
SHAPE = (2, 3)


class Affine:
    """out = x @ W + b"""

    def __init__(self):
        self.W = np.array([[0.1, 0.3], [0.2, -0.4], [0.5, 0.6]])
        self.b = np.array([0.1, 0.2])
        self.dW = self.db = None

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW = self.x.T @ dout
        self.db = dout
        return dout @ self.W.T


class Repaired(Affine):
    """b is added to every sample, so its gradient is the sum over them."""

    def backward(self, dout):
        self.dW = self.x.T @ dout
        self.db = np.sum(dout, axis=0)
        return dout @ self.W.T
