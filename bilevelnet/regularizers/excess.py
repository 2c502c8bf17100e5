"""g(z) = φ(z) − ½z²: what a Euclidean layer needs beyond ½‖z − z⁻‖² to have ρ = ∇φ* as its activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..legendre import Legendre
from ..piece import Scalar
from ..values import readable
from .base import Smooth


class Excess(Smooth):
    """g = φ − ½(·)², convex where φ is separable and 1-strongly convex: ½(·)² + g = φ, so its Euclidean prox is ∇φ*.

    So a nondecreasing activation is a Euclidean prox exactly where it is 1-Lipschitz too (Combettes & Pesquet, 2020).
    Where φ(z) ≈ ½z² the two cancel, unless φ states ``excess``. Raises InputError for a φ of which σ ≥ 1 is not known.
    """

    def __init__(self, phi: Legendre):
        super().__init__()
        if phi.event_ndim:
            raise InputError(f"Excess takes a separable φ, and {phi.label} acts on whole vectors or matrices")
        sigma = torch.as_tensor(phi.strong_convexity).detach()
        if readable(sigma) and not bool((sigma >= 1).all()):
            raise InputError(
                f"φ − ½z² is convex only where φ is 1-strongly convex, and {phi.label} states σ = "
                f"{float(sigma.amin()):g}: its mirror map is no Euclidean prox unless it is 1-Lipschitz. "
                f"Take c·φ with cσ ≥ 1, or a Bregman layer"
            )
        self.phi = phi

    @property
    def label(self) -> str:
        return f"excess({self.phi.label})"

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return self.phi.domain

    @property
    def stated(self) -> bool:
        """Whether φ states the difference, of which the derivatives are taken then."""
        return type(self.phi).excess is not Legendre.excess

    def value(self, z: Tensor) -> Tensor:
        return self.phi.excess(z)

    def grad(self, z: Tensor) -> Tensor:
        return super().grad(z) if self.stated else self.phi.grad(z) - z

    def hessian(self, z: Tensor) -> Tensor:
        return super().hessian(z) if self.stated else self.phi.hessian(z) - 1

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # z is rounded, and g' is steep where φ saturates: y may lie anywhere between g' an ulp below and an ulp above.
        below, above = (torch.nextafter(z, torch.full_like(z, end)) for end in (-torch.inf, torch.inf))
        low, high = self.domain.contains(below), self.domain.contains(above)
        middle = torch.where(low, below, above)  # what lies outside stays out of grad
        left = torch.where(low, self.grad(middle), -torch.inf)
        right = torch.where(high, self.grad(torch.where(high, above, middle)), torch.inf)
        gap = torch.maximum(left - y, y - right).clamp(min=0)
        return torch.where(low | high, gap, torch.inf)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        if isinstance(step, (int, float)) and step == 1:
            return self.phi.grad_conjugate(v)
        return super().prox(v, step)
