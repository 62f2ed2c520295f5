"""The code of Deep Learning from Scratch under its own names, on minigrad's ops: a drop-in for its package common.

gates: AND, NAND, OR, XOR of chapter 2.
functions: sigmoid, softmax, cross_entropy_error, ... of chapters 3 and 4.
gradient: numerical_diff, numerical_gradient, gradient_descent of chapter 4.
layers: Relu, Affine, SoftmaxWithLoss, Dropout, BatchNormalization, Convolution, ... of chapters 5 to 7.
optimizer, trainer, util: SGD to Adam, Trainer, and the helpers of chapters 6 and 7.
nets, two_layer_net, multi_layer_net, multi_layer_net_extend, simple_convnet, deep_convnet: the networks.
dataset.mnist: load_mnist, from MNIST's files or from the digits of the package.
numbers: the numbers that the book prints, computed again; `minigrad book` shows them.
aliases: install() makes `common` and `dataset` mean these modules; `python -m minigrad.book script.py` runs a script
    of the book with them.

All of it takes and returns plain arrays and numbers, as the book's code does. Where that code has a trap, the
name here keeps the book's numbers and says in its docstring what is different.
"""

from minigrad.book.deep_convnet import DeepConvNet
from minigrad.book.functions import (
    cross_entropy_error,
    identity_function,
    mean_squared_error,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    softmax,
    softmax_loss,
    squared_error,
    step_function,
    sum_squared_error,
)
from minigrad.book.gates import AND, NAND, OR, XOR
from minigrad.book.gradient import gradient_descent, numerical_diff, numerical_gradient, numerical_gradient_2d
from minigrad.book.layers import (
    AddLayer,
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    MulLayer,
    Pooling,
    Relu,
    Sigmoid,
    SoftmaxWithLoss,
)
from minigrad.book.multi_layer_net import MultiLayerNet
from minigrad.book.multi_layer_net_extend import MultiLayerNetExtend
from minigrad.book.nets import SimpleNet
from minigrad.book.optimizer import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop
from minigrad.book.simple_convnet import SimpleConvNet
from minigrad.book.trainer import Trainer
from minigrad.book.two_layer_net import TwoLayerNet
from minigrad.book.util import col2im, conv_output_size, im2col, shuffle_dataset, smooth_curve

__all__ = [
    "AND",
    "NAND",
    "OR",
    "SGD",
    "XOR",
    "AdaGrad",
    "Adam",
    "AddLayer",
    "Affine",
    "BatchNormalization",
    "Convolution",
    "DeepConvNet",
    "Dropout",
    "Momentum",
    "MulLayer",
    "MultiLayerNet",
    "MultiLayerNetExtend",
    "Nesterov",
    "Pooling",
    "RMSprop",
    "Relu",
    "Sigmoid",
    "SimpleConvNet",
    "SimpleNet",
    "SoftmaxWithLoss",
    "Trainer",
    "TwoLayerNet",
    "col2im",
    "conv_output_size",
    "cross_entropy_error",
    "gradient_descent",
    "identity_function",
    "im2col",
    "mean_squared_error",
    "numerical_diff",
    "numerical_gradient",
    "numerical_gradient_2d",
    "relu",
    "relu_grad",
    "shuffle_dataset",
    "sigmoid",
    "sigmoid_grad",
    "smooth_curve",
    "softmax",
    "softmax_loss",
    "squared_error",
    "step_function",
    "sum_squared_error",
]
