"""Data to train on: data sets, loaders, the digits, MNIST, and generated samples."""

from minigrad.data.dataset import Dataset, Subset, TensorDataset, random_split
from minigrad.data.digits import load_digits, one_hot, split
from minigrad.data.generated import blobs, moons, sine, spiral, xor
from minigrad.data.loader import DataLoader
from minigrad.data.mnist import load_mnist

__all__ = [
    "DataLoader",
    "Dataset",
    "Subset",
    "TensorDataset",
    "blobs",
    "load_digits",
    "load_mnist",
    "moons",
    "one_hot",
    "random_split",
    "sine",
    "spiral",
    "split",
    "xor",
]
