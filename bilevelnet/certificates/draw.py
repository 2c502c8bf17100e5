"""Points in a domain and near its boundary, and moved weights: where a layer is compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..domains import Eigenvalues, Interval
from ..legendre import Legendre
from .roots import chart, slope

STEEPEST = 40.0, 1e9  # of |∇φ| at a drawn point: towards an infinite end of the domain, e^40 is large; a finite one
DEPTH = 6.0, 20.0  # in the chart, of points near a finite end: within e^−6 to e^−20 of it
LARGE = 5.0  # and of those towards an infinite one: sinh 5 = 74
TOLD, FLAT = 1e-4, 1e-10  # a step in the chart that ∇φ must tell, by more than rounding
NEAR = 3  # one point in so many is drawn near the boundary


def points(phi: Legendre, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """z in int dom φ, of the shape (count, *event): one in three with entries near the boundary, or large."""
    s = torch.randn(shape, generator=generator, dtype=torch.float64)
    far = (torch.arange(shape[0]) % NEAR == NEAR - 1).reshape(-1, *[1] * (len(shape) - 1))
    if isinstance(phi.domain, Interval):
        depth = DEPTH[0] + (DEPTH[1] - DEPTH[0]) * torch.rand(shape, generator=generator, dtype=torch.float64)
        bounded = _ahead(phi, s).isfinite()
        return _entries(phi, torch.where(far, torch.where(bounded, s.sign() * depth, LARGE * s), s))
    s = torch.where(far, LARGE * s, s)
    if isinstance(phi.domain, Eigenvalues):
        basis = torch.linalg.eigh(s + s.mT).eigenvectors
        values = chart(s.diagonal(dim1=-2, dim2=-1), phi.domain.interval.lo, phi.domain.interval.hi)
        return (basis * values.unsqueeze(-2)) @ basis.mT
    return _towards(phi, s, far)


def room(phi: Legendre, z: Tensor) -> Tensor:
    """How far an entry of z may move without nearing the end of the domain by more than its distance; at most 1."""
    if isinstance(phi.domain, Interval):
        lo, hi = (torch.as_tensor(end, dtype=torch.float64) for end in (phi.domain.lo, phi.domain.hi))
        return torch.minimum(z - lo, hi - z).clamp(max=1.0)
    if isinstance(phi.domain, Eigenvalues):
        w = torch.linalg.eigvalsh(z)
        gap = torch.minimum(w - phi.domain.interval.lo, phi.domain.interval.hi - w).amin(-1)
        return (gap / z.shape[-1]).clamp(max=1.0)[..., None, None].expand_as(z)
    centre, ahead = _centre(phi, z), 1.0
    while not bool(_inside(phi, z + ahead * (z - centre)).all()):
        ahead /= 2
    size = torch.linalg.vector_norm(z - centre, dim=-1, keepdim=True)
    return (ahead * size / z.shape[-1]).clamp(max=1.0).expand_as(z)


def moved(parameters: Any, generator: torch.Generator) -> None:
    """Every parameter by noise of half its own size, or of 1/√(fan-in) where it is 0."""
    with torch.no_grad():
        for p in parameters:
            size = p.square().mean().sqrt() / 2
            start = 0.5 / max(1, p[0].numel()) ** 0.5 if p.ndim > 1 else 0.25
            noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            p.add_((size if size > 0 else start) * noise)


def event_shape(coupling: nn.Module, width: int | None) -> tuple[int, ...] | None:
    """The shape of one sample: of the coupling's features, or of the first layer of its module that states them."""
    features = getattr(coupling, "in_features", width)
    if features is not None and getattr(coupling, "event_ndim", 1) == 1:
        return (features,)
    for module in coupling.modules():
        if isinstance(module, nn.Linear) and coupling.event_ndim == 1:
            return (module.in_features,)
        if isinstance(module, nn.Conv2d) and coupling.event_ndim == 3:
            return (module.in_channels, 6, 6)
        if isinstance(module, nn.Conv1d) and coupling.event_ndim == 2:
            return (module.in_channels, 6)
    return None


def _entries(phi: Legendre, s: Tensor) -> Tensor:
    for _ in range(12):
        z = chart(s, phi.domain.lo, phi.domain.hi)
        u, further = slope(phi.value, z), slope(phi.value, chart(s + TOLD, phi.domain.lo, phi.domain.hi))
        steepest = torch.where(_ahead(phi, s).isfinite(), STEEPEST[1], STEEPEST[0])
        lost = ~(u.abs() <= steepest) | ~(further - u > FLAT * (1 + u.abs()))
        s = torch.where(lost, s / 2, s)
    return z


def _ahead(phi: Legendre, s: Tensor) -> Tensor:
    """The end of the domain towards which s lies."""
    lo, hi = (torch.as_tensor(end, dtype=torch.float64) for end in (phi.domain.lo, phi.domain.hi))
    return torch.where(s < 0, lo, hi)


def _towards(phi: Legendre, s: Tensor, far: Tensor) -> Tensor:
    """Points around the centre of a set, the far ones within 1 % of its boundary where it has one."""
    centre = _centre(phi, s)
    z = centre + s
    while not bool((inside := _inside(phi, z)).all()):
        z = torch.where(inside, z, (centre + z) / 2)
    for step in (0.5, 0.1, 0.01):
        for _ in range(9):
            further = z + step * (z - centre)
            near = ((further - centre).abs() < 9).all(-1, keepdim=True)
            z = torch.where(far & _inside(phi, further) & near, further, z)
    return z


def _centre(phi: Legendre, like: Tensor) -> Tensor:
    """A point in the domain; only a place to start from."""
    return phi.grad_conjugate(torch.zeros_like(like)).detach()


def _inside(phi: Legendre, z: Tensor) -> Tensor:
    inside = phi.domain.interior(z)
    while inside.ndim < z.ndim:
        inside = inside.unsqueeze(-1)
    return inside.all(-1, keepdim=True)
