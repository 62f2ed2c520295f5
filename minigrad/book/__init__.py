"""The code of Deep Learning from Scratch, chapters 4 and 5, under its own names and on minigrad's ops.

functions: sigmoid, softmax, cross_entropy_error, ... of chapters 3 and 4.
gradient: numerical_diff, numerical_gradient, gradient_descent of chapter 4.
layers: MulLayer, AddLayer, Relu, Sigmoid, Affine, SoftmaxWithLoss of chapter 5, with forward and backward.
nets: SimpleNet of chapter 4, TwoLayerNet of chapter 5.
numbers: the numbers that the book prints, computed again; `minigrad book` shows them.

All of it takes and returns plain arrays and numbers, as the book's code does. Where that code has a trap, the
name here keeps the book's numbers and says in its docstring what is different.
"""

from minigrad.book.functions import (
    cross_entropy_error,
    identity_function,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    softmax,
    softmax_loss,
    step_function,
    sum_squared_error,
)
from minigrad.book.gradient import gradient_descent, numerical_diff, numerical_gradient
from minigrad.book.layers import AddLayer, Affine, MulLayer, Relu, Sigmoid, SoftmaxWithLoss
from minigrad.book.nets import SimpleNet, TwoLayerNet

__all__ = [
    "AddLayer",
    "Affine",
    "MulLayer",
    "Relu",
    "Sigmoid",
    "SimpleNet",
    "SoftmaxWithLoss",
    "TwoLayerNet",
    "cross_entropy_error",
    "gradient_descent",
    "identity_function",
    "numerical_diff",
    "numerical_gradient",
    "relu",
    "relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "softmax_loss",
    "step_function",
    "sum_squared_error",
]
