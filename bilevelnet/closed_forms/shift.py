"""Shift: the simplex adds one multiplier τ, which ψ in the span of z or log z gives in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..numerics import simplex_threshold
from ..regularizers import Regularizer, Simplex
from .absorb import Absorbed


class Shift:
    """z and w = ∇ψ(z) for v ∈ ∇ψ(z) + τ1 + N(z), on the simplex.

    ∇ψ = m z: z = (v/m − τ)₊, sparsemax. ∇ψ = s log z: log z = log r + log softmax(v/s).
    """

    def __init__(self, psi: Absorbed, constraint: Regularizer):
        simplex = constraint if isinstance(constraint, Simplex) else getattr(constraint, "inner", None)
        if not isinstance(simplex, Simplex):
            raise InputError(f"no closed form is known with {constraint.label}")
        if psi.basis not in (frozenset({"linear"}), frozenset({"log"})):
            raise InputError(f"the multiplier of the simplex has no closed form with φ = {psi.phi.label}")
        self.psi, self.simplex = psi, simplex

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        c, r, dim = self.psi.coefficients(), self.simplex.radius, self.simplex.dim
        if "linear" in c:
            scaled = v / c["linear"]
            tau = simplex_threshold(scaled, r, dim)
            z = torch.where(scaled <= tau, 0.0, scaled - tau)
            return z, c["linear"] * z
        log_z = torch.log_softmax(v / c["log"], dim) + torch.as_tensor(r, dtype=v.dtype, device=v.device).log()
        return log_z.exp(), c["log"] * log_z

    @property
    def formula(self) -> str:
        return "(v − τ)₊ by sorting" if self.psi.basis == {"linear"} else "log r + log_softmax(v)"
