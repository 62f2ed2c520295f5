"""The book's package `dataset`: MNIST where its files are, else the digits of minigrad.data, enlarged."""

from minigrad.book.dataset.mnist import load_mnist

__all__ = ["load_mnist"]
