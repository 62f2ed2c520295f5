"""An affine layer whose dW is transposed; W is square, so that no shape gives it away."""

import numpy as np

VERDICT, REASON = "wrong", "it is transposed"
SHAPE = (2, 2)


class Affine:
    """out = x @ W + b"""

    def __init__(self):
        self.W = np.array([[0.1, 0.3], [0.2, -0.4]])
        self.b = np.array([0.1, 0.2])
        self.dW = self.db = None

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW = dout.T @ self.x
        self.db = np.sum(dout, axis=0)
        return dout @ self.W.T


class Repaired(Affine):
    """dW has the shape of W: (D, N) @ (N, M)."""

    def backward(self, dout):
        self.dW = self.x.T @ dout
        self.db = np.sum(dout, axis=0)
        return dout @ self.W.T
