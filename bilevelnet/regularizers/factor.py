"""The weight of a multiple of a regularizer."""

from __future__ import annotations

from ..piece import Piece, Scalar, Weight


class Factor(Piece):
    """A weight c ≥ 0 that the terms of a scaled sum share."""

    c = Weight(low=0, closed=True)

    def __init__(self, c: Scalar):
        super().__init__()
        self.c = c

    @classmethod
    def unchecked(cls, c: Scalar) -> Factor:
        """Of a number or a tensor that is known to be ≥ 0, and may be one whose values cannot be read."""
        factor = cls(1.0)
        factor.__dict__["_c"] = c
        return factor


class Product(Piece):
    """c₁ c₂, the weight of a multiple of a multiple."""

    def __init__(self, first: Factor | Product, second: Factor | Product):
        super().__init__()
        self.first, self.second = first, second

    @property
    def c(self) -> Scalar:
        """The product of the weights as they are now."""
        return self.first.c * self.second.c
