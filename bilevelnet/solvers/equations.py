"""Which equation a coupled term has."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..legendre import Legendre
from ..regularizers import (
    AffineSet,
    CappedSimplex,
    GroupLasso,
    L1Ball,
    L2Ball,
    L2Norm,
    LinfNorm,
    Simplex,
    SparseGroup,
)
from .equation import Equation
from .l1_ball import L1BallEquation
from .largest_entry import LinfEquation
from .linear_equation import Linear, SimplexEquation
from .norm_equations import GroupEquation, L2BallEquation, NormEquation
from .one_sign import OneSignEquation

EQUATIONS: dict[type, type[Equation]] = {
    Simplex: SimplexEquation,
    CappedSimplex: SimplexEquation,
    AffineSet: Linear,
    L1Ball: L1BallEquation,
    L2Ball: L2BallEquation,
    L2Norm: NormEquation,
    GroupLasso: GroupEquation,
    SparseGroup: GroupEquation,
    LinfNorm: LinfEquation,
}


def equation_of(term: Any, phi: Legendre, separable: list[Any]) -> Equation:
    """The equation of a coupled term beside φ and separable ones; InputError where it has none."""
    if term.kind not in EQUATIONS:
        raise InputError(f"{term.label} has no single multiplier")
    kind = EQUATIONS[term.kind]
    if kind is LinfEquation and OneSignEquation.fits(phi, separable, term.dims[0]):
        kind = OneSignEquation
    return kind(term)
