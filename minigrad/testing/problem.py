"""What a check is about, and what its caller can choose."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import ArgumentError, describe

__all__ = ["Options", "Problem"]

Array = NDArray[Any]


class Problem(ABC):
    """What is to be checked. Subclasses say how it is evaluated; arrays that they get are private copies.

    inputs: the arrays that are differentiated, in their own dtypes. names: how a report calls them.
    """

    title = "gradcheck"
    inputs: list[Array]
    names: list[str]
    roots: list[Any]  # where to look for random generators

    @abstractmethod
    def forward(self, arrays: list[Array]) -> list[Array]:
        """f's results for float64 arrays."""

    @abstractmethod
    def pull(self, arrays: list[Array], douts: list[Array]) -> tuple[list[Array], list[Array]]:
        """(f's results, the gradients of sum(dout * result)) for arrays in the inputs' own dtypes."""

    def imaginary(self, arrays: list[Array]) -> list[Array] | None:
        """f's results for complex arrays, or None where f does not take them."""
        return None

    def exact(self, arrays: list[Array], directions: list[Array]) -> Array | None:
        """The derivative along directions, for each entry of the results, by a high-precision referee; or None."""
        return None


@dataclass(frozen=True)
class Options:
    """What a caller of a check can choose; see gradcheck."""

    seed: int = 0
    eps: float | None = None
    atol: float | None = None
    rtol: float | None = None
    nondet_tol: float = 0.0
    fast_mode: bool | None = None
    directions: int = 3
    allow: frozenset[str] = field(default_factory=frozenset)
    elsewhere: bool = True  # whether a rule that is wrong at inputs nearby is wrong
    vacuous: bool = True  # whether a gradient of 0 everywhere is worth a word

    def check(self, function: str) -> None:
        """ArgumentError for what cannot be."""
        for name, value in (
            ("eps", self.eps),
            ("atol", self.atol),
            ("rtol", self.rtol),
            ("nondet_tol", self.nondet_tol),
        ):
            least = name in ("atol", "rtol", "nondet_tol")
            if value is not None and not (
                isinstance(value, (int, float)) and (value >= 0 if least else value > 0) and value < math.inf
            ):
                raise ArgumentError(
                    f"{function}: {name}",
                    describe(value),
                    "a finite number, 0 or more" if least else "a positive step",
                    f"pass {name}={'1e-3' if name == 'eps' else '0.0'}, or leave it out",
                )
        if not (self.fast_mode is None or isinstance(self.fast_mode, (bool, np.bool_))):
            raise ArgumentError(
                f"{function}: fast_mode", describe(self.fast_mode), "True, False or None", "pass fast_mode=True"
            )
        for name, value in (("directions", self.directions), ("seed", self.seed)):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
                raise ArgumentError(
                    f"{function}: {name}", describe(value), "a whole number, 0 or more", f"pass {name}=3"
                )
