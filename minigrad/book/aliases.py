"""The names under which the book's scripts import their code, given to minigrad.book."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["install"]

COMMON = (
    "functions",
    "gates",
    "gradient",
    "layers",
    "multi_layer_net",
    "multi_layer_net_extend",
    "optimizer",
    "trainer",
    "util",
)

# What a chapter's scripts import from files beside them.
CHAPTERS = {
    "and_gate": "gates",
    "deep_convnet": "deep_convnet",
    "layer_naive": "layers",
    "multi_layer_net": "multi_layer_net",
    "multi_layer_net_extend": "multi_layer_net_extend",
    "nand_gate": "gates",
    "or_gate": "gates",
    "simple_convnet": "simple_convnet",
    "two_layer_net": "two_layer_net",
    "xor_gate": "gates",
}


def install() -> None:
    """Makes `common` and `dataset` mean minigrad.book in this process, and so for a chapter's own modules.

    common, common.layers, ..., dataset and dataset.mnist are minigrad.book's from then on, whatever lies on sys.path.
    simple_convnet, deep_convnet, two_layer_net and the like are minigrad.book's where no file of that name is found:
    a reader's own network stays the reader's own.

    >>> install()
    >>> from common.layers import Relu
    >>> from dataset.mnist import load_mnist
    >>> Relu.__module__, load_mnist.__module__
    ('minigrad.book.layers', 'minigrad.book.dataset.mnist')
    """
    sys.modules["common"] = import_module("minigrad.book")
    for name in COMMON:
        sys.modules[f"common.{name}"] = import_module(f"minigrad.book.{name}")
    sys.modules["dataset"] = import_module("minigrad.book.dataset")
    sys.modules["dataset.mnist"] = import_module("minigrad.book.dataset.mnist")
    if not any(isinstance(finder, _Chapters) for finder in sys.meta_path):
        sys.meta_path.append(_Chapters())


class _Chapters(MetaPathFinder):
    """Finds a chapter's modules in minigrad.book, after everything else has been looked through."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Alias()) if fullname in CHAPTERS else None


class _Alias(Loader):
    """Puts the module of minigrad.book itself in place of a new one."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(f"minigrad.book.{CHAPTERS[module.__name__]}")
