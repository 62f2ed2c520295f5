"""Optimisers, learning-rate schedules and gradient clipping, by PyTorch's names and with PyTorch's numbers.

>>> import minigrad as mg
>>> x = mg.Tensor([3.0, 4.0], requires_grad=True)
>>> optimizer = mg.optim.SGD([x], lr=0.25)
>>> for _ in range(3):
...     optimizer.zero_grad()
...     (x * x).sum().backward()
...     optimizer.step()
>>> x.numpy()
array([0.375, 0.5  ])
"""

from minigrad.optim.clip import clip_grad_norm_, clip_grad_value_
from minigrad.optim.first_order import SGD, Adagrad, Adam, AdamW, Lion, RMSprop
from minigrad.optim.lbfgs import LBFGS
from minigrad.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from minigrad.optim.optimizer import Optimizer

__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "Lion",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "RMSprop",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
]
