"""An affine layer that leaves its gradient of W under another name."""

import numpy as np

VERDICT, REASON = "wrong", "backward never sets dW"
SHAPE = (2, 3)


class Affine:
    """out = x @ W + b"""

    def __init__(self):
        self.W = np.array([[0.1, 0.3], [0.2, -0.4], [0.5, 0.6]])
        self.b = np.array([0.1, 0.2])
        self.dW = np.zeros_like(self.W)
        self.db = np.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dw = self.x.T @ dout
        self.db = np.sum(dout, axis=0)
        return dout @ self.W.T


class Repaired(Affine):
    """The gradient stands where an optimiser looks for it."""

    def backward(self, dout):
        self.dW = self.x.T @ dout
        self.db = np.sum(dout, axis=0)
        return dout @ self.W.T
