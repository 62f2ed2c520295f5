"""A relu that gives back dout itself, with zeros written into it."""

VERDICT, REASON = "aliasing", "the rule wrote into dout"
SHAPE = (2, 3)


class Relu:
    """out = max(x, 0)"""

    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        dx = dout
        return dx


class Repaired(Relu):
    """dx is an array of its own."""

    def backward(self, dout):
        dx = dout.copy()
        dx[self.mask] = 0
        return dx
