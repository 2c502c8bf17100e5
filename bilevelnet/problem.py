"""The problem as mathematics: objective, dual point, optimality residual."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .couplings import Coupling
from .divergences import Bregman, Divergence
from .domains import Interval
from .errors import InputError
from .legendre import Legendre
from .piece import Scalar
from .regularizers import Box, Regularizer, Zero
from .values import all_finite, at_least_float32


class Prox:
    """argmin_z φ(z) + g(z) − ⟨z, v⟩, whose solution is (∇φ + ∂g)⁻¹(v)."""

    def __init__(self, phi: Legendre, g: Regularizer):
        self.phi, self.g = phi, g
        self.event_ndim = max(phi.event_ndim, g.event_ndim)

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions of one event: none for a separable problem."""
        axes = {getattr(getattr(t, "inner", t), "dim", -1) for t in self.g.terms() if t.event_ndim == 1}
        return tuple(axes) if self.event_ndim == 1 and len(axes) == 1 else tuple(range(-self.event_ndim, 0))

    def objective(self, z: Tensor, v: Tensor) -> Tensor:
        """φ(z) + g(z) − ⟨z, v⟩, per entry for a separable problem, else per event."""
        parts = [(self.phi.value(z), self.phi.event_ndim), (self.g.value(z), self.g.event_ndim), (-z * v, 0)]
        n = self.event_ndim  # a piece of smaller events, as a g of vectors under a φ of matrices, adds over them
        return sum(  # type: ignore[return-value]
            p if k == n else p.sum(tuple(range(k - n, 0)) if k else self.dims) for p, k in parts
        )

    def residual(self, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """dist(v, ∂(φ + g)(z)) with u = ∇φ(z), of the shape of z with the event dimensions kept as 1."""
        g: Regularizer = Zero() if self.g.vanishes else self.g
        domain = self.phi.domain
        if not self.phi.steep and isinstance(domain, Interval):  # the ends of dom φ are constraints
            both = g + Box(domain.lo, domain.hi)
            g = both if both.proximable else g
        if not all_finite(u):
            u = self._beside(z, u)
        distance = g.distance(z, torch.where(v == -torch.inf, v, v - u))  # a masked entry may have u = −∞ too
        if g.event_ndim == 0:
            return torch.linalg.vector_norm(distance, dim=self.dims, keepdim=True) if self.dims else distance
        if smaller := self.event_ndim - g.event_ndim:  # one distance a row of a matrix
            distance = torch.linalg.vector_norm(distance, dim=tuple(range(-smaller, 0)))
        for d in sorted(self.dims, reverse=True):
            distance = distance.unsqueeze(d)
        return distance

    def _beside(self, z: Tensor, u: Tensor) -> Tensor:
        """u, and where z underflowed to an end of dom φ, with an infinite u, that of the least number inside."""
        if self.phi.event_ndim:
            return u
        least = -u.sign() * torch.finfo(z.dtype).tiny
        under = u.isinf() & (z == 0) & self.phi.domain.interior(least)
        inner = torch.as_tensor(inner_point(self.phi.domain), dtype=z.dtype, device=z.device)
        return torch.where(under, self.phi.grad(torch.where(under, least, inner)), u)

    def error_bound(self, residual: Tensor) -> Tensor | None:
        """residual/σ ≥ ‖z − z*‖, or None where no σ > 0 is known."""
        sigma: Scalar = self.phi.strong_convexity
        if not isinstance(sigma, Tensor):
            return residual / sigma if sigma > 0 else None
        least = sigma.detach().amin()
        return torch.where(least > 0, residual / least, torch.inf)


def inner_point(domain: Interval) -> Any:
    """A point inside: a number where the ends are, else a tensor without a graph."""
    if domain.constant:
        return domain.inner()
    lo, hi = (torch.as_tensor(e).detach() for e in (domain.lo, domain.hi))
    half_line = torch.where(lo.isfinite(), lo + 1, torch.where(hi.isfinite(), hi - 1, 0.0))
    return torch.where(lo.isfinite() & hi.isfinite(), (lo + hi) / 2, half_line)


def anchor(phi: Legendre, v: Tensor) -> Tensor:
    """A point in the range of ∇φ, of the shape of v and without a graph.

    Where a branch is not wanted, as of an element without a solution, it is evaluated here: from an infinite value the
    derivatives, times 0, would be NaN in the weights that all elements share.
    """
    if phi.event_ndim == 0:
        with torch.no_grad():
            return phi.grad(torch.zeros_like(v) + inner_point(phi.domain))
    if phi.event_ndim == 1:
        return torch.zeros_like(v)
    return -torch.eye(v.shape[-1], dtype=v.dtype, device=v.device).expand_as(v)


class Problem:
    """argmin_z f(z, z⁻) + D(z, z⁻) + g(z) as a ``Prox``: D gives φ and r, an f affine in z gives A, v = r + A(z⁻).

    An f that is not affine joins g; what depends on z⁻ in φ and g is put there by ``dual_point``, until ``clear``.
    """

    def __init__(self, coupling: Coupling, divergence: Divergence, regularizer: Regularizer):
        self.coupling, self.divergence, self.regularizer = coupling, divergence, regularizer
        self.phi, g = divergence.split(regularizer)
        if not coupling.affine:
            g = coupling.term + g if g.terms() else coupling.term
        self.prox = Prox(self.phi, g)
        # Held here too: a look-up through a Module costs 0.8 µs, and dual_point runs once a layer.
        self.dual = divergence.dual
        if isinstance(divergence, Bregman):
            self.dual = partial(divergence.reference.dual, divergence.phi)
        self.moving: tuple[Any, ...] = tuple(p for p in (coupling, divergence) if p.moves)

    def objective(self, z: Tensor, z_prev: Tensor) -> Tensor:
        """f + D + g at a candidate z, one value a sample."""
        n = self.coupling.event_ndim
        d = _per_sample(self.divergence.value(z, z_prev), n - self.divergence.event_ndim)
        g = _per_sample(self.regularizer.value(z), n - self.regularizer.event_ndim)
        return self.coupling.value(z, z_prev) + d + g

    def dual_point(self, z: Tensor | None, u: Tensor | None, dtype: torch.dtype) -> Tensor:
        """v = r + A(z⁻), A called once; z or u = ∇φ(z) may be missing. A sees z in ``dtype``, v is at least float32."""
        if z is None:
            z = self.phi.grad_conjugate(u)  # type: ignore[arg-type]
        wide = at_least_float32(z)
        r = self.dual(wide, u)
        for piece in self.moving:
            piece.place(wide)
        if not self.coupling.affine:
            return torch.zeros_like(wide) if r is None else r
        a = self.coupling(z if z.dtype is dtype else z.to(dtype))
        if r is None:
            return at_least_float32(a)
        if r.shape != a.shape:
            raise InputError(
                f"the coupling gives shape {tuple(a.shape)}, the reference {tuple(r.shape)}: they must agree"
            )
        return r + a

    def clear(self) -> None:
        """z⁻ out of φ and g."""
        for piece in self.moving:
            piece.clear()


def _per_sample(x: Tensor, n: int) -> Tensor:
    return x.sum(tuple(range(-n, 0))) if n > 0 else x
