"""A learned Legendre function: an input-convex network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..numerics.input_convex import InputConvexNetwork
from ..piece import Scalar, Weight
from .base import Separable


class InputConvex(Separable):
    """φ(z) = σz²/2 + h(z) on ℝ, h an input-convex network of one input with hidden layers of the widths ``hidden``.

    Known by its value: the solvers find ∇φ*, an activation with 0 ≤ ρ' ≤ 1/σ. σ is a number, tensor or Parameter.
    Learn it by ``piece.parameters()``. Raises InputError unless σ > 0.
    """

    sigma = Weight(low=0)

    def __init__(self, hidden: Sequence[int] = (8, 8), sigma: Scalar = 1.0):
        super().__init__()
        self.sigma, self.network = sigma, InputConvexNetwork(1, hidden)

    def value(self, z: Tensor) -> Tensor:
        return self.sigma / 2 * z**2 + self.network(z.unsqueeze(-1))

    @property
    def strong_convexity(self) -> Scalar:
        return self.sigma
