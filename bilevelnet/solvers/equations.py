"""Which equation a coupled term has."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
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
from .equation import Equation, Linear, SimplexEquation
from .largest_entry import LinfEquation
from .norm_equations import GroupEquation, L1BallEquation, L2BallEquation, NormEquation

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


def equation_of(term: Any) -> Equation:
    """The equation of a coupled term; InputError where it has none."""
    if term.kind not in EQUATIONS:
        raise InputError(f"{term.label} has no single multiplier")
    return EQUATIONS[term.kind](term)
