"""A dropout that draws its mask again in backward."""

import numpy as np

VERDICT, REASON = "wrong", "backward draws random numbers"
SHAPE = (2, 3)


class Dropout:
    """out = x where a drawn number is above the ratio, else 0"""

    def __init__(self, ratio=0.5):
        self.ratio = ratio
        self.rng = np.random.default_rng(0)

    def mask(self, x):
        return self.rng.random(x.shape) > self.ratio

    def forward(self, x):
        return x * self.mask(x)

    def backward(self, dout):
        return dout * self.mask(dout)


class Repaired(Dropout):
    """Backward uses the mask that forward drew."""

    def forward(self, x):
        self.drawn = self.mask(x)
        return x * self.drawn

    def backward(self, dout):
        return dout * self.drawn
