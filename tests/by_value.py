"""Pieces known by their value alone, and how near the solution from values comes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

import bilevelnet as bln

TOLERANCE = 1e-9  # the figure; what is reached is 4e-14 and less


class MyEntropy(bln.legendre.Separable):
    """φ by its value alone."""

    domain = bln.domains.Positive()

    def value(self, z: Tensor) -> Tensor:
        return z * z.log() - z + z**2 / 4


class PhiByValue(bln.legendre.Separable):
    """φ without its derivatives, its inverse and its conjugate."""

    def __init__(self, phi: Any):
        super().__init__()
        self.of = phi

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return self.of.domain

    def value(self, z: Tensor) -> Tensor:
        return self.of.value(z)


class GByValue(bln.regularizers.Separable):
    """g without its derivatives, its knots and its prox."""

    def __init__(self, g: Any):
        super().__init__()
        self.of = g

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return self.of.domain

    def value(self, z: Tensor) -> Tensor:
        return self.of.value(z)
