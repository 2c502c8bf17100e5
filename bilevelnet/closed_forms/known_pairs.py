"""Pairs (φ, h) outside the span of span.py for which (∇φ + ∇h)⁻¹ is a formula all the same.

Each holds at λ = 0 too, where it is the plain mirror map, with its derivatives in v and in λ.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..legendre import Elu, Energy, FermiDirac, LeakyRelu, LogDet, Power, Softsign, Spectral, VonNeumann
from ..numerics import expm1, expm1_linear_root, positive_part, root_of_square_plus
from ..regularizers import Excess, Huber, NegEntropy, PsdTrace, SquaredL2
from .absorb import known


@known(Energy, Huber, "Euclidean prox")
def energy_huber(phi: Energy, h: Any, v: Tensor) -> Tensor:
    """prox_h(v/m) with step 1/m."""
    return h.prox(v / phi.scale, 1 / phi.scale)


def _is_whole(phi: Energy, h: Any) -> bool:
    return _is_one(phi.scale) and isinstance(h, Excess) and h.phi.explicit


@known(Energy, Excess, "the other mirror map", when=_is_whole)
def energy_excess(phi: Energy, h: Excess, v: Tensor) -> Tensor:
    """½z² + (ψ(z) − ½z²) = ψ(z): z = ∇ψ*(v)."""
    return h.phi.grad_conjugate(v)


@known(Softsign, SquaredL2, "a quadratic equation")
def softsign_squared_l2(phi: Softsign, h: Any, v: Tensor) -> Tensor:
    """λs² − (1 + λ + s_v)s + s_v = 0 in s = |z|, s_v = |v|: z = 2v/(1 + λ + s_v + √((1 + s_v − λ)² + 4λ))."""
    size = torch.where(v < 0, -v, v)
    side = 1 + size - h.lam
    return 2 * v / (1 + h.lam + size + root_of_square_plus(side, 4 * h.lam))


@known(Elu, SquaredL2, "Wright omega")
def elu_squared_l2(phi: Elu, h: Any, v: Tensor) -> Tensor:
    """z = v/(1 + λ) for v ≥ 0; else z = α(e^t − 1) with t + λα(e^t − 1) = v, a Wright omega."""
    below = phi.alpha * expm1(expm1_linear_root(torch.where(v > 0, 0.0, v), h.lam * phi.alpha))
    return torch.where(v > 0, v / (1 + h.lam), below)


@known(LeakyRelu, SquaredL2, "scaling on either side")
def leaky_relu_squared_l2(phi: LeakyRelu, h: Any, v: Tensor) -> Tensor:
    """z = v/(1 + λ) for v ≥ 0, else v/(1/a + λ)."""
    return torch.where(v < 0, phi.slope * v / (1 + phi.slope * h.lam), v / (1 + h.lam))


@known(Power, SquaredL2, "a quadratic equation", when=lambda phi, h: isinstance(phi.p, float) and phi.p == 3)
def cubic_power_squared_l2(phi: Power, h: Any, v: Tensor) -> Tensor:
    """s² + λs = |v| in s = |z| (p = 3): z = 2v/(λ + √(λ² + 4|v|)); at v = 0 and λ = 0 as φ alone."""
    size = torch.where(v < 0, -v, v)
    lam = torch.as_tensor(h.lam, dtype=v.dtype, device=v.device)
    plain = (size == 0) & (lam == 0)
    safe = torch.where(plain, 1.0, size)
    root = root_of_square_plus(lam, 4 * safe)
    return torch.where(plain, phi.grad_conjugate(v), 2 * torch.where(v < 0, -safe, safe) / (lam + root))


def _logit(phi: FermiDirac, h: Any, v: Tensor) -> Tensor:
    # √k/z = r with r = (√k + √(k + 4))/2, so logit z = v − log z = v/2 + log r
    up, root, ratio = _root_of_k(v)
    return torch.where(up, v + ((1 + ratio) / 2).log(), v / 2 + (root / 2).asinh())


@known(FermiDirac, NegEntropy, "a quadratic equation", when=lambda phi, h: _is_one(h.lam), dual=_logit)
def fermi_dirac_neg_entropy(phi: FermiDirac, h: Any, v: Tensor) -> Tensor:
    """z² = (1 − z)k, k = e^v (λ = 1): z = 2/(1 + √(1 + 4/k)), or 2√k/(√k + √(k + 4)) for v < 0."""
    up, root, ratio = _root_of_k(v)
    return torch.where(up, 2 / (1 + ratio), 2 * root / (root + (root * root + 4).sqrt()))


def _root_of_k(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # v > 0, and √k and √(1 + 4/k) on the side where they are small
    up = v > 0
    return up, torch.where(up, 0.0, v / 2).exp(), (1 + 4 * torch.where(up, -v, 0.0).exp()).sqrt()


def _reaches_positive(phi: Spectral, h: Any) -> bool:
    ends = phi.phi.domain
    return ends.constant and ends.hi > 0


def _shifted(phi: Spectral, h: Any, v: Tensor) -> Tensor:
    """∇φ(Z) = V − λI with its eigenvalues raised to φ₀'(0), where dom φ₀ goes on below 0; λ the sum of the terms'."""
    eye = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
    w = (v + v.mT) / 2 - sum(torch.as_tensor(t.lam, dtype=v.dtype, device=v.device) for t in h.terms()) * eye
    if phi.phi.domain.lo >= 0:
        return w
    least = phi.phi.grad(v.new_zeros(())) * eye
    return least + positive_part(w - least)


@known(Spectral, PsdTrace, "a multiple of the identity", when=_reaches_positive, dual=_shifted, sums=True)
@known(LogDet, PsdTrace, "a multiple of the identity", dual=_shifted, sums=True)
@known(VonNeumann, PsdTrace, "a multiple of the identity", dual=_shifted, sums=True)
def spectral_psd_trace(phi: Spectral, h: Any, v: Tensor) -> Tensor:
    """∇h = λI inside the cone: Z = ∇φ*(V − λI), an eigenvalue below 0 set to 0."""
    return phi.grad_conjugate(_shifted(phi, h, v))


def _is_one(weight: Any) -> bool:
    return isinstance(weight, float) and weight == 1
