"""A softmax with loss that averages the loss over the samples, and not its gradient."""

import numpy as np

VERDICT, REASON = "wrong", "a division by 3 is missing"
SHAPE = (3, 4)
LABELS = np.array([2, 0, 1])


class SoftmaxWithLoss:
    """loss = -mean(log(softmax(x)[label]))"""

    def forward(self, x, t=LABELS):
        e = np.exp(x - np.max(x, axis=1, keepdims=True))
        self.y, self.t = e / np.sum(e, axis=1, keepdims=True), t
        return -np.mean(np.log(self.y[np.arange(len(t)), t]))

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dout * dx


class Repaired(SoftmaxWithLoss):
    """The mean of the loss has the mean's gradient."""

    def backward(self, dout=1):
        return super().backward(dout) / len(self.t)
