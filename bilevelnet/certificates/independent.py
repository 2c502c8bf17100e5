"""The inclusion v ∈ ∂(φ + g)(z) solved a second time, from the values of φ and g alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..domains import Interval
from ..errors import InputError
from ..legendre import Legendre
from ..regularizers import Regularizer
from . import coupled, smooth, vector
from .entrywise import Entrywise

Solve = Callable[[Tensor], Tensor]


class Inclusion:
    """v ↦ z with v ∈ ∂(φ + g)(z), in float64 and without a graph; NaN where there is none.

    φ' and g' are derivatives of ``phi.value`` and ``g.value`` by automatic differentiation, domains those that φ and
    g state. A separable pair is a bracketing search an entry, in a chart of the domain; one constraint or norm around
    a separable pair a search for its multiplier around that; a radial φ a search for the norm; a function of
    eigenvalues a search for each; what is smooth and couples entries Newton steps. ``how`` says which. Raises
    InputError where the pair is none of these.
    """

    def __init__(self, phi: Legendre, g: Regularizer):
        self.phi, self.g = phi, g
        self.how, self._solve = _choose(phi, g)

    def __call__(self, v: Tensor) -> Tensor:
        with torch.no_grad():
            z = self._solve(v.detach().double())
        return torch.where(z.isinf(), torch.nan, z)  # the minimum is not attained


def _choose(phi: Legendre, g: Regularizer) -> tuple[str, Solve]:
    if phi.event_ndim == 0 and g.event_ndim == 0 and isinstance(phi.domain, Interval):
        return "a bracketing search an entry", Entrywise([phi, g]).solve
    for rule in (coupled.choose, vector.choose, smooth.choose):
        found = rule(phi, g)
        if found is not None:
            return found
    raise InputError(f"{phi.label} + {g.label}: no independent solution is known")
