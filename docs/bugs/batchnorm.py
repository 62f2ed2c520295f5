"""A batch normalisation whose rule forgets that the mean depends on x."""

import numpy as np

VERDICT, REASON = "wrong", "the same along axis 0: a sum or mean over it is missing"
SHAPE = (4, 2)
PARAMS = {"gamma": "dgamma", "beta": "dbeta"}


class BatchNorm:
    """out = gamma * (x - mean) / std + beta, mean and std over the samples"""

    def __init__(self):
        self.gamma, self.beta = np.array([1.5, 0.5]), np.array([0.1, 0.2])
        self.dgamma = self.dbeta = None

    def forward(self, x):
        self.xc = x - np.mean(x, axis=0)
        self.std = np.sqrt(np.mean(self.xc**2, axis=0) + 1e-6)
        self.xn = self.xc / self.std
        return self.gamma * self.xn + self.beta

    def backward(self, dout):
        self.dgamma = np.sum(dout * self.xn, axis=0)
        self.dbeta = np.sum(dout, axis=0)
        dxn = dout * self.gamma
        dstd = -np.sum(dxn * self.xc, axis=0) / self.std**2
        dxc = dxn / self.std + dstd * self.xc / (self.std * len(dout))
        return dxc


class Repaired(BatchNorm):
    """xc = x - mean(x), so dx = dxc - mean(dxc)."""

    def backward(self, dout):
        dxc = super().backward(dout)
        return dxc - np.mean(dxc, axis=0)
