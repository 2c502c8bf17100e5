"""One norm, one ball or one linear equation around a separable problem: a search for its multiplier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..legendre import Legendre
from ..regularizers import (
    AffineSet,
    CappedSimplex,
    L1Ball,
    L2Ball,
    LinfNorm,
    Regularizer,
    Scaled,
    Simplex,
)
from ..regularizers.group_norms import GroupNorms
from .entrywise import Entrywise
from .roots import increasing_root

LEAST = -300.0  # of log n: where a group leaves 0, n is at least eps of v, and e^−300 is as good as 0

Solve = Callable[[Tensor], Tensor]
Terms = Sequence[Any]


def choose(phi: Legendre, g: Regularizer) -> tuple[str, Solve] | None:
    """The solution for φ separable and g one of the rules' functions plus separable ones, on the last dimension."""
    joint = [t for t in g.terms() if t.event_ndim]
    if phi.event_ndim or len(joint) != 1:
        return None
    terms = [phi, *(t for t in g.terms() if not t.event_ndim)]
    term: Any = joint[0]
    weight: Any = 1.0
    if isinstance(term, Scaled):
        term, weight = term.inner, term.factor.c
    rule = next((rule for kind, rule in RULES.items() if isinstance(term, kind)), None)
    if rule is None or getattr(term, "dim", -1) != -1 or (isinstance(term, AffineSet) and not _one_row(term)):
        return None
    return "a search for the multiplier of " + term.label, lambda v: rule(terms, term, weight, v)


def _equation(terms: Terms, v: Tensor, a: Tensor, b: Any, bounds: Interval | None = None) -> Tensor:
    """⟨a, z⟩ = b: z(τ) = (F')⁻¹(v + τa), and ⟨a, z(τ)⟩ increases. Then again from v + τa, since τ is known to eps τ."""
    problem = Entrywise(terms, bounds)
    for _ in range(2):

        def excess(s: Tensor, v: Tensor = v) -> Tensor:
            return (a * problem.solve(v + s.sinh() * a)).sum(-1, keepdim=True) - b

        v = v + increasing_root(excess, _per_event(v)).sinh() * a
    return problem.solve(v)


def _simplex(terms: Terms, g: Simplex, weight: Any, v: Tensor) -> Tensor:
    return _equation(terms, v, torch.ones_like(v), g.radius, Interval(0.0))


def _capped(terms: Terms, g: CappedSimplex, weight: Any, v: Tensor) -> Tensor:
    return _equation(terms, v, torch.ones_like(v), g.radius, Interval(0.0, g.cap))


def _affine(terms: Terms, g: AffineSet, weight: Any, v: Tensor) -> Tensor:
    a = torch.as_tensor(g.a, dtype=torch.float64).reshape(-1).expand_as(v)
    return _equation(terms, v, a, g.b)


def _l1_ball(terms: Terms, g: L1Ball, weight: Any, v: Tensor) -> Tensor:
    """‖z‖₁ ≤ r: its multiplier τ weighs ‖z‖₁, which decreases in τ."""

    problem = Entrywise(terms)

    def point(tau: Tensor) -> Tensor:
        return problem.solve(v, lambda z: tau * z.abs())

    return _inequality(point, lambda z: z.abs().sum(-1, keepdim=True) - g.radius, v)


def _l2_ball(terms: Terms, g: L2Ball, weight: Any, v: Tensor) -> Tensor:
    """‖z‖ ≤ r: its multiplier weighs ½‖z‖²."""

    problem = Entrywise(terms)

    def point(tau: Tensor) -> Tensor:
        return problem.solve(v, lambda z: tau / 2 * z**2)

    return _inequality(point, lambda z: _norm(z) - g.radius, v)


def _inequality(point: Callable[[Tensor], Tensor], excess: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    """The point of the least multiplier e^s ≥ 0 at which the excess is not positive."""
    free = point(torch.zeros_like(v[..., :1]))
    s = increasing_root(lambda s: -excess(point(s.exp())), _per_event(v))
    return torch.where(excess(free) <= 0, free, point(s.exp()))


def _linf_norm(terms: Terms, g: LinfNorm, weight: Any, v: Tensor) -> Tensor:
    """λ max|z_i| = min λt over |z_i| ≤ t: Σ of the multipliers of the bounds, which decreases in t, is λ."""
    lam, problem = weight * g.lam, Entrywise(terms)
    free = problem.solve(v)

    def point(t: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(free, -t), t)

    def force(s: Tensor) -> Tensor:
        t = s.exp()
        z = point(t)
        pull = (v - problem.slope(z)).abs()
        return lam - torch.where(z.abs() == t, pull, 0.0).sum(-1, keepdim=True)

    s = increasing_root(force, _per_event(v))
    return point(s.exp())


def _groups(terms: Terms, g: GroupNorms, weight: Any, v: Tensor) -> Tensor:
    """λ₁‖z‖₁ + λ₂ Σ‖z_G‖: z_G = n y, φ'(n y) + λ₁ ∂|y| + λ₂ y ∋ v with ‖y‖ = 1, or z_G = 0 where no n > 0 is left."""
    first, second = (weight * lam for lam in g._weights())
    z, domain = Entrywise(terms).solve(v, lambda x: first * x.abs()), Entrywise(terms)
    for group in g.groups or (range(v.shape[-1]),):
        index = torch.tensor(list(group))
        part, problem = v[..., index], Entrywise([])

        def unit(n: Tensor, part: Tensor = part, problem: Entrywise = problem) -> Tensor:
            problem.lo, problem.hi = domain.lo / n, domain.hi / n
            return problem.solve(
                part, lambda y: sum(t.value(n * y) / n for t in terms) + first * y.abs() + second / 2 * y**2
            )

        def gap(s: Tensor, unit: Any = unit) -> Tensor:
            return 1 - _norm(unit(s.exp()))  # increases with n

        s = increasing_root(gap, _per_event(part))
        n = s.clamp(min=LEAST).exp()
        z[..., index] = torch.where(s < LEAST, 0.0, n * unit(n))
    return z


def _one_row(g: AffineSet) -> bool:
    return torch.as_tensor(g.a).ndim == 1 or len(g.a) == 1


def _norm(z: Tensor) -> Tensor:
    return torch.linalg.vector_norm(z, dim=-1, keepdim=True)


def _per_event(v: Tensor) -> torch.Size:
    return torch.Size((*v.shape[:-1], 1))


RULES: dict[Any, Callable[[Terms, Any, Any, Tensor], Tensor]] = {
    Simplex: _simplex,
    CappedSimplex: _capped,
    AffineSet: _affine,
    L1Ball: _l1_ball,
    L2Ball: _l2_ball,
    LinfNorm: _linf_norm,
    GroupNorms: _groups,
}
