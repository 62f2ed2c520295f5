"""Models: modules with parameters, layers, activation functions, losses, initial values.

Names, arguments and the layout of weights are PyTorch's, so that weights can be carried over by name.

>>> from minigrad import nn
>>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
>>> model
Sequential()  2,410 parameters
  0: Linear(64, 32)  weight (32, 64), bias (32,): 2,080 parameters
  1: ReLU()
  2: Linear(32, 10)  weight (10, 32), bias (10,): 330 parameters
"""

from minigrad.nn import init
from minigrad.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from minigrad.nn.attention import MultiheadAttention, TransformerEncoderLayer
from minigrad.nn.containers import ModuleList, Sequential
from minigrad.nn.layers import AvgPool2d, Conv1d, Conv2d, Dropout, Embedding, Flatten, Linear, MaxPool2d
from minigrad.nn.losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
)
from minigrad.nn.module import Module, Parameter
from minigrad.nn.normalization import BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm
from minigrad.nn.recurrent import GRU, LSTM, RNN

__all__ = [
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "TransformerEncoderLayer",
    "init",
]
