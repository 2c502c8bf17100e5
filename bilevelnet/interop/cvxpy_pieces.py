"""Pieces of the catalogue whose weights follow from the parameters of a problem."""

from __future__ import annotations

from typing import Any

import torch

from .. import legendre
from ..errors import InputError
from ..legendre import Legendre
from ..regularizers import Regularizer
from ..solvers.newton import rough
from .cvxpy_blocks import Blocks
from .cvxpy_quantity import Quantity
from .cvxpy_smooth import Image
from .cvxpy_values import Parameters, Values


class Pieces:
    """Makes pieces whose weights follow from the parameters, and puts them in at each call.

    Until then a tensor of the same entries stands in: which solver takes a piece may depend on their number.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.slots: list[tuple[Any, str, Quantity, Any]] = []
        self.sample = parameters.sample()
        self.blocks: Blocks | None = None  # in which the entries lie, where they do

    def _lying(self, q: Quantity) -> Quantity:
        return q if self.blocks is None else self.blocks.folded(q)

    def _stand_in(self, q: Quantity, number: float) -> torch.Tensor:
        return torch.full_like(q.at(self.sample), number)

    def make(self, cls: Any, fixed: dict[str, Any] | None = None, **weights: Quantity) -> Any:
        """cls(**weights): numbers where they are known now, else tensors to be placed."""
        given, live = dict(fixed or {}), {}
        for name, q in zip(weights, map(self._lying, weights.values()), strict=True):
            number: Any = q.number
            if number is None:
                live[name] = q
                number = self._stand_in(q, 0.0 if name in ("lo", "b", "s") else 1.0)
            given[name] = number
        piece = cls(**given)
        for name, q in live.items():
            self._hold(piece, name, q)
        return piece

    def _hold(self, piece: Any, name: str, q: Quantity) -> None:
        buffer = f"{name}_value"
        self.slots.append((piece, buffer, q, piece._buffers[buffer]))

    def shifted(self, g: Regularizer, shift: Quantity) -> Regularizer:
        """g(z − shift)."""
        if shift.is_number(0.0):
            return g
        shift, number = self._lying(shift), shift.number
        moved = g.translate(self._stand_in(shift, 0.0) if number is None else number)
        if number is None:
            self._hold(moved.offset, "s", shift)
        return moved

    def weighted(self, phi: Legendre, weight: Quantity) -> Legendre:
        """weight φ."""
        if weight.is_number(1.0):
            return phi
        return self.make(legendre.Transformed, {"phi": phi}, weight=weight)  # type: ignore[no-any-return]

    def composed(self, g: Regularizer, matrix: Any) -> Regularizer:
        """g(M z); M is a constant, sparse or None for 1, or a Quantity (…, m, n)."""
        if matrix is None:
            return g
        if isinstance(matrix, Quantity):
            if rough(g):
                raise InputError(f"{g.label} of a variable that is multiplied by a parameter")
            image = Image()
            self.slots.append((image, "matrix", matrix, image.matrix))
            return g.precompose(image)
        dense = torch.from_numpy(matrix.toarray())
        found = g.precompose(dense)
        self.slots.append((found.linear, "matrix", Quantity(dense), dense))
        return found

    def place(self, values: Values) -> None:
        """The weights at these parameters into the pieces."""
        for piece, buffer, q, _ in self.slots:
            piece._buffers[buffer] = q.at(values)

    def clear(self) -> None:
        """The stand-ins back, so that no graph is kept."""
        for piece, buffer, _, stand_in in self.slots:
            piece._buffers[buffer] = stand_in
