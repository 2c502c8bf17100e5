"""The closed forms as a solver."""

from __future__ import annotations

from ..closed_forms import ClosedFormMap, plan
from ..legendre import Legendre
from ..regularizers import Regularizer
from .base import Solver


class ClosedForm(Solver):
    """Absorb, select, shift: exact, no iteration."""

    name = "closed_form"

    def bind(self, phi: Legendre, g: Regularizer) -> ClosedFormMap:
        return plan(phi, g)
