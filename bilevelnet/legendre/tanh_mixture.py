"""A learned activation with an explicit Legendre function: a mixture of hyperbolic tangents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..numerics import log_cosh
from ..piece import Scalar, Weight
from .base import Separable

Terms = Scalar | Sequence[float]


class TanhMixture(Separable):
    """ρ(u) = εu + Σ_k a_k tanh(b_k u + c_k) with a, b > 0 and ε > 0, on ℝ.

    φ* = εu²/2 + Σ (a_k/b_k) log cosh(b_k u + c_k), σ = 1/(ε + Σ a_k b_k). ∇φ = ρ⁻¹ is a root search, and
    φ = ⟨u, z⟩ − φ*(u) there: the dual state needs neither. a, b, c: K numbers each, as sequences, tensors or Parameters
    of shape (K,), or one number for all; ε a number, tensor or Parameter. Raises InputError for other shapes and signs.
    """

    key = "tanh_mixture"
    examples = (
        {"a": (1.0, 0.5), "b": (1.0, 3.0), "c": (0.0, -1.0), "eps": 0.1},
        {"a": (0.7,), "b": (2.0,), "c": (0.5,), "eps": 1.0},
    )

    def __init__(self, a: Terms, b: Terms, c: Terms = 0.0, eps: Scalar = 0.01):
        super().__init__()
        self.dual = _Potential(a, b, c, eps)

    def value(self, z: Tensor) -> Tensor:
        u = self.grad(z)
        return u * z - self.dual.value(u)

    def grad(self, z: Tensor) -> Tensor:
        return self.dual.grad_conjugate(z)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return self.dual.grad(u)

    def conjugate(self, u: Tensor) -> Tensor:
        return self.dual.value(u)

    def hessian(self, z: Tensor) -> Tensor:
        return 1 / self.dual.hessian(self.grad(z))

    @property
    def strong_convexity(self) -> Scalar:
        a, b, _ = self.dual.terms(torch.empty(0, dtype=torch.float64))
        return 1 / (self.dual.eps + (a * b).sum())


class _Potential(Separable):
    """φ* of the mixture, a Legendre function itself, whose inverse gradient is derived by the root search."""

    a, b, c, eps = Weight(low=0), Weight(low=0), Weight(), Weight(low=0)

    def __init__(self, a: Terms, b: Terms, c: Terms, eps: Scalar):
        super().__init__()
        self.a, self.b, self.c = (
            t if isinstance(t, (int, float, Tensor)) else torch.tensor(tuple(t), dtype=torch.float64) for t in (a, b, c)
        )
        self.eps = eps
        shapes = {torch.as_tensor(t).shape for t in (self.a, self.b, self.c)} - {torch.Size([])}
        if len(shapes) > 1 or any(len(s) > 1 for s in shapes):
            raise InputError("tanh_mixture: a, b and c hold K numbers each, in one dimension, or one for all")

    def value(self, u: Tensor) -> Tensor:
        a, b, c = self.terms(u)
        return self.eps / 2 * u**2 + (a / b * log_cosh(b * u.unsqueeze(-1) + c)).sum(-1)

    def grad(self, u: Tensor) -> Tensor:
        a, b, c = self.terms(u)
        return self.eps * u + (a * torch.tanh(b * u.unsqueeze(-1) + c)).sum(-1)

    def hessian(self, u: Tensor) -> Tensor:
        a, b, c = self.terms(u)
        return self.eps + (a * b * (1 - torch.tanh(b * u.unsqueeze(-1) + c) ** 2)).sum(-1)

    def terms(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a, b and c, one dimension each, of the dtype and on the device of ``like``."""
        a, b, c = (torch.as_tensor(t, device=like.device).to(like.dtype).reshape(-1) for t in (self.a, self.b, self.c))
        return torch.broadcast_tensors(a, b, c)  # type: ignore[return-value]
