"""The check that a pair (φ, g) is an activation of single entries."""

from __future__ import annotations

from ..domains import Interval
from ..errors import InputError
from ..legendre import Legendre
from ..regularizers import Regularizer, Zero


def check_entrywise(phi: Legendre, g: Regularizer | None) -> tuple[Legendre, Regularizer]:
    """(φ, g), g = 0 for None, where prox^φ_g maps ℝ entry by entry; InputError else."""
    g = Zero() if g is None else g
    if phi.event_ndim or g.event_ndim:
        raise InputError(
            f"{phi.label} + {g.label} couples entries; an activation inside a network takes separable φ and g"
        )
    if phi.dual_domain != Interval():
        raise InputError(
            f"∇φ* of {phi.label} is defined on {phi.dual_domain}, and what a convolution or a batch norm gives lies "
            f"anywhere in ℝ: this φ is no activation inside a network"
        )
    return phi, g
