"""The contract of a divergence D(z, z⁻)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..legendre import Legendre
from ..regularizers import Regularizer
from .references import Reference


class Divergence(nn.Module):
    """D, convex in z. In the problem it is φ(z) − ⟨r, z⟩, with weights of φ that may depend on z⁻.

    ``phi``: φ, or None where g has to give it. ``dual`` gives r. ``moves``: whether a tensor of φ or of g depends on
    z⁻; then ``place`` puts it there for one solve and ``clear`` takes it out. ``source``: the set in whose interior z⁻
    must lie, where ``uses_point``. ``reference``: R, as far as widths are concerned.
    """

    phi: Any
    reference: Reference
    event_ndim: int = 0  # the dimensions that ``value`` reduces
    moves: bool = False

    @property
    def uses_point(self) -> bool:
        return True

    @property
    def source(self) -> Any:
        return self.phi.domain

    @property
    def label(self) -> str:
        return type(self).__name__

    def admits(self, z_prev: Tensor) -> Tensor:
        """Whether z⁻ may be taken, point by point of ``source``."""
        return self.source.interior(z_prev)

    def value(self, z: Tensor, z_prev: Tensor) -> Tensor:
        """D(z, z⁻), with its event dimensions reduced."""
        raise NotImplementedError

    def split(self, g: Regularizer) -> tuple[Legendre, Regularizer]:
        """(φ, g) of the problem."""
        return self.phi, g

    def dual(self, z: Tensor, u: Tensor | None) -> Tensor | None:
        """r at z⁻, u = ∇φ(z⁻) where a chain carries it; None for 0."""
        return None

    def place(self, z_prev: Tensor) -> None:
        """z⁻ into the tensors of φ and g that depend on it."""

    def clear(self) -> None:
        """What ``place`` put, taken out."""
