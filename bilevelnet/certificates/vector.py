"""Functions of a norm, of a quadratic form or of eigenvalues: what is left is a search for each of those."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..domains import Eigenvalues, Interval
from ..legendre import Energy, Legendre
from ..legendre.transformed import Transformed
from ..regularizers import AffineSet, Nuclear, PsdTrace, Regularizer, TV1d
from .entrywise import Entrywise
from .roots import chart, increasing_root, slope

Solve = Callable[[Tensor], Tensor]


def choose(phi: Legendre, g: Regularizer) -> tuple[str, Solve] | None:
    """The solution for φ radial, quadratic, or a function of eigenvalues, and g among what goes with each."""
    terms = g.terms()
    plain = isinstance(phi, Energy)
    spectral = all(isinstance(t, PsdTrace) for t in terms)
    if spectral and (phi.event_ndim == 2 or (plain and terms)):
        return "a bracketing search an eigenvalue", lambda v: _spectral(phi, g, v)
    if plain and len(terms) == 1 and isinstance(terms[0], Nuclear):
        return "a bracketing search a singular value", lambda v: _singular(phi, terms[0], v)
    if plain and len(terms) == 1 and type(terms[0]) is TV1d:
        return "the dual least-squares problem in a box", lambda v: _variation(phi, terms[0], v)
    if phi.event_ndim != 1:
        return None
    if phi.radial and g.event_ndim == 0:
        return "a search for the norm", Radial(phi, _quadratic(g))
    subspace = len(terms) == 1 and isinstance(terms[0], AffineSet) and terms[0].homogeneous
    if phi.radial and subspace:
        return "a search for the norm, in the subspace", Radial(phi, lambda v, c: _project(terms[0], v) / c)
    return None


def _quadratic(g: Regularizer) -> Callable[[Tensor, Tensor], Tensor]:
    """(v, c) ↦ argmin ½c‖z‖² + g(z) − ⟨z, v⟩ with g separable."""
    problem = Entrywise([g])
    return lambda v, c: problem.solve(v, lambda z: c / 2 * z**2) if g.terms() else v / c


def _project(g: Any, v: Tensor) -> Tensor:
    """The point of {A z = 0} next to v, by QR."""
    rows = torch.as_tensor(g.a, dtype=torch.float64)
    q, _ = torch.linalg.qr(rows.reshape(-1, v.shape[-1]).mT)
    return v - (v @ q) @ q.mT


class Radial:
    """φ(z) = h(‖z‖), ∇φ(z) = c z, c = h'(n)/n: n = ‖point(v, c)‖, point(v, c) the solution for ½c‖z‖²; z = 0 is n → 0.

    A search begins at the answer to the one before, if that was of the same shape.
    """

    def __init__(self, phi: Legendre, point: Callable[[Tensor, Tensor], Tensor]):
        self.phi, self.point, self.radius = phi, point, _radius(phi)
        self._last: Tensor | None = None

    def __call__(self, v: Tensor) -> Tensor:
        shape = torch.Size((*v.shape[:-1], 1))
        last = self._last if self._last is not None and self._last.shape == shape else None

        def excess(s: Tensor) -> Tensor:
            n = chart(s, 0.0, self.radius)
            return n - _norm(self.point(v, self._coefficient(n, v.shape[-1])))

        s = self._last = increasing_root(excess, shape, last)
        n = chart(s.clamp(-300.0, 300.0), 0.0, self.radius)
        z = self.point(v, self._coefficient(n, v.shape[-1]))
        return torch.where(s < -300, 0.0, z * (n / _norm(z)))  # near the boundary n is known better than c

    def _coefficient(self, n: Tensor, width: int) -> Tensor:
        """h'(n)/n, the derivative of φ along n ↦ n e₁."""
        with torch.enable_grad():
            n = n.detach().requires_grad_()
            point = torch.cat([n, n.new_zeros(*n.shape[:-1], width - 1)], -1)
            (d,) = torch.autograd.grad(self.phi.value(point).sum(), n)
        return d.detach() / n


def _norm(z: Tensor) -> Tensor:
    return torch.linalg.vector_norm(z, dim=-1, keepdim=True)


def _radius(phi: Legendre) -> float:
    """Of the ball that a radial φ lives on."""
    if isinstance(phi, Transformed):
        return phi.scale * _radius(phi.phi)  # type: ignore[operator]
    return getattr(phi.domain, "radius", math.inf)


def _spectral(phi: Legendre, g: Regularizer, v: Tensor) -> Tensor:
    """V = U diag(w) U' and Z = U diag(s) U': a search for each s in the derivative of φ + g along the diagonal."""
    w, basis = torch.linalg.eigh((v + v.mT) / 2)
    lo, hi = _ends(phi.domain)
    if g.terms():
        lo = max(lo, 0.0)

    def value(s: Tensor) -> Tensor:
        z = torch.diag_embed(s)
        return phi.value(z).sum() + g.value(z).sum()

    s = increasing_root(lambda t: slope(value, chart(t, lo, hi)) - w, w.shape)
    s = chart(s, lo, hi)
    if lo == 0.0 and g.terms():
        held = slope(value, chart(torch.full_like(w, -700.0), lo, hi)) >= w
        s = torch.where(held, 0.0, s)
    return (basis * s.unsqueeze(-2)) @ basis.mT


def _singular(phi: Legendre, g: Any, v: Tensor) -> Tensor:
    """V = U diag(w) W' and Z = U diag(s) W', s ≥ 0: φ and g depend on the singular values alone."""
    left, w, right = torch.linalg.svd(v if g.event_ndim == 2 else v.unflatten(-1, (2, 2)), full_matrices=False)
    s = Entrywise([phi], Interval(0.0)).solve(w, lambda s: g.lam * s)
    return ((left * s.unsqueeze(-2)) @ right).reshape(v.shape)


def _variation(phi: Legendre, g: Any, v: Tensor) -> Tensor:
    """min ½m‖z‖² − ⟨z, v⟩ + λ‖Dz‖₁: z = (v − D'p)/m, ‖v − D'p‖ least over |p| ≤ λ."""
    from scipy.optimize import lsq_linear

    n = v.shape[-1]
    difference = torch.eye(n, dtype=torch.float64).diff(dim=0)
    lam = torch.as_tensor(g.lam, dtype=torch.float64).expand((*v.shape[:-1], 1)).reshape(-1)
    rows = []
    for row, bound in zip(v.reshape(-1, n), lam.tolist(), strict=True):
        p = lsq_linear(difference.mT.numpy(), row.numpy(), (-bound, bound), method="bvls", tol=1e-15).x
        rows.append(row - torch.from_numpy(p) @ difference)
    return torch.stack(rows).reshape(v.shape) / phi.scale


def _ends(domain: Any) -> tuple[float, float]:
    interval = domain.interval if isinstance(domain, Eigenvalues) else Interval()
    return float(interval.lo), float(interval.hi)
