"""A learned activation with an explicit Legendre function: a mixture of hyperbolic tangents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..numerics import attach, log_cosh
from ..piece import Scalar, Weight
from .base import Separable

Shapes = Scalar | Sequence[float]


class TanhMixture(Separable):
    """ρ(u) = εu + Σ_k a_k tanh(b_k u + c_k) with a, b > 0 and ε > 0, on ℝ.

    φ* = εu²/2 + Σ (a_k/b_k) log cosh(b_k u + c_k), σ = 1/(ε + Σ a_k b_k). ∇φ = ρ⁻¹ is found by bisection and Newton
    steps, and φ = ⟨u, z⟩ − φ*(u) there: the dual state needs neither. a, b, c: K numbers each, as sequences, tensors or
    Parameters (K,); ε a number, tensor or Parameter. Raises InputError for other shapes and signs.
    """

    key = "tanh_mixture"
    examples = (
        {"a": (1.0, 0.5), "b": (1.0, 3.0), "c": (0.0, -1.0), "eps": 0.1},
        {"a": (0.7,), "b": (2.0,), "c": (0.5,), "eps": 1.0},
    )
    a, b, c, eps = Weight(low=0), Weight(low=0), Weight(), Weight(low=0)

    def __init__(self, a: Shapes, b: Shapes, c: Shapes = 0.0, eps: Scalar = 0.01):
        super().__init__()
        self.a, self.b, self.c = (_as_terms(t) for t in (a, b, c))
        self.eps = eps
        if len({torch.as_tensor(t).shape for t in (self.a, self.b)}) > 1 or any(
            torch.as_tensor(t).ndim > 1 for t in (self.a, self.b, self.c)
        ):
            raise InputError("tanh_mixture: a, b and c hold K numbers each, in one dimension")

    def grad_conjugate(self, u: Tensor) -> Tensor:
        a, b, c = self._terms(u)
        return self.eps * u + (a * torch.tanh(b * u.unsqueeze(-1) + c)).sum(-1)

    def conjugate(self, u: Tensor) -> Tensor:
        a, b, c = self._terms(u)
        return self.eps / 2 * u**2 + (a / b * log_cosh(b * u.unsqueeze(-1) + c)).sum(-1)

    def grad(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            u = self._search(z.detach())
            slope = self._slope(u)
        return attach(lambda t: self.grad_conjugate(t) - z, u, slope)

    def value(self, z: Tensor) -> Tensor:
        u = self.grad(z)
        return u * z - self.conjugate(u)

    def hessian(self, z: Tensor) -> Tensor:
        return 1 / self._slope(self.grad(z))

    @property
    def strong_convexity(self) -> Scalar:
        a, b, _ = self._terms(None)
        return 1 / (self.eps + (a * b).sum(-1))

    def _terms(self, like: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.float64 if like is None else like.dtype
        device = None if like is None else like.device
        a, b, c = (torch.as_tensor(t, device=device).to(dtype).reshape(-1) for t in (self.a, self.b, self.c))
        return a, b, c

    def _slope(self, u: Tensor) -> Tensor:
        a, b, c = self._terms(u)
        return self.eps + (a * b / torch.cosh(b * u.unsqueeze(-1) + c) ** 2).sum(-1)

    def _search(self, z: Tensor) -> Tensor:
        # ρ(u) = z has |u| ≤ (|z| + Σa)/ε. Newton steps that leave the bracket are replaced by its middle.
        eps = torch.as_tensor(self.eps, dtype=z.dtype, device=z.device).detach()
        total = self._terms(z)[0].sum(-1).detach()
        low, high = (z - total) / eps, (z + total) / eps
        u = (low + high) / 2
        for _ in range(64):
            gap = self.grad_conjugate(u) - z
            low, high = torch.where(gap > 0, low, u), torch.where(gap > 0, u, high)
            newton = u - gap / self._slope(u)
            u = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        return u


def _as_terms(t: Shapes) -> Scalar:
    return t if isinstance(t, (int, float, Tensor)) else torch.tensor(tuple(t), dtype=torch.float64)
