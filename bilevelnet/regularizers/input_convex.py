"""Learned regularizers: input-convex networks of one entry, or of a whole vector."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..numerics.input_convex import InputConvexNetwork
from ..piece import Scalar, Strength
from .base import Regularizer, Smooth


class InputConvex(Smooth):
    """g(z) = λ h(z), h an input-convex network of one input: the same for every entry, smooth, known by its value.

    ``hidden``: the widths of its layers. λ is a number, tensor or Parameter; learn h by ``piece.parameters()``.
    """

    key = "input_convex"
    examples = ({"hidden": (3,)}, {"hidden": (4, 3), "lam": 0.5})
    lam = Strength()

    def __init__(self, hidden: Sequence[int] = (8, 8), lam: Scalar = 1.0):
        super().__init__()
        self.lam, self.network = lam, InputConvexNetwork(1, hidden)

    def value(self, z: Tensor) -> Tensor:
        return self.lam * self.network(z.unsqueeze(-1))


class InputConvexVector(Regularizer):
    """g(z) = λ h(z), h an input-convex network of vectors of the given width: it couples the entries, and is smooth.

    ``hidden``: the widths of its layers. Known by its value, so the Newton solver takes it, with any smooth φ; it has
    no Euclidean prox of its own. λ is a number, tensor or Parameter; learn h by ``piece.parameters()``.
    """

    event_ndim = 1
    lam = Strength()

    def __init__(self, width: int, hidden: Sequence[int] = (16, 16), lam: Scalar = 1.0):
        super().__init__()
        self.width, self.lam, self.network = width, lam, InputConvexNetwork(width, hidden)

    def value(self, z: Tensor) -> Tensor:
        lam = self.lam.squeeze(-1) if isinstance(self.lam, Tensor) and self.lam.ndim else self.lam
        return lam * self.network(z)
