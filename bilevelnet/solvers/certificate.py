"""What proves a solution of the splitting solver: the fixed point it solves, and a gap between primal and dual."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..domains import Interval
from ..regularizers.lens import Lens, labels
from .dual_problem import convexity, vectors
from .split import Split


class Term(NamedTuple):
    """g_i with its multiplier y_i, step s, image A_i z, and p = prox_{g_i/s}(y_i/s + A_i z), so that y_i + s(A_i z − p)
    lies in ∂g_i(p).
    """

    lens: Lens
    y: Tensor
    step: Tensor
    image: Tensor
    prox: Tensor

    @property
    def residual(self) -> Tensor:
        """y_i less that subgradient."""
        return self.step * (self.prox - self.image)


class Certificate:
    """Of z = ∇ψ*(w), w = v − Σ A_iᵀ y_i, and of the point that is returned, all without a graph."""

    def __init__(self, split: Split, terms: list[Term], z: Tensor, w: Tensor):
        self.split, self.terms, self.z, self.w = split, terms, z.detach(), w.detach()
        self.batch = z.ndim - split.event_ndim
        self.moved = torch.zeros_like(self.z)

    @property
    def multipliers(self) -> dict[str, Tensor]:
        """y_i by the labels of the terms."""
        keys = labels([t.lens.term for t in self.terms])
        return {key: t.y for key, t in zip(keys, self.terms, strict=True)}

    def snap(self, found: Tensor) -> Tensor:
        """p − z of a term of z itself, an indicator if any, so that z rests on its kinks: of elements that were found,
        whose p − z is what the search took for rounding.
        """
        plain = sorted((t for t in self.terms if t.lens.plain), key=lambda t: not t.lens.term.indicator)
        if plain:
            move, inside = plain[0].prox - self.z, found
            for piece, mask in [(self.split.phi, "interior"), *((t, "contains") for t in self.split.inside)]:
                inside = inside & self._all(getattr(piece.domain, mask)(plain[0].prox))
            moved = torch.where(inside.reshape(*inside.shape, *[1] * self.split.event_ndim), move, 0.0)
            self.moved = moved.detach()  # of its tangent in forward mode, which no_grad lets pass
        return self.moved

    def residual(self) -> Tensor:
        """‖y − T(y)‖, in dual units; 0 where every y_i lies in ∂g_i(A_i z)."""
        with torch.no_grad():
            return self._keep(self._norm([t.residual for t in self.terms]))

    def error_bound(self) -> Tensor | None:
        """‖x − z*‖ ≤ √((2G + b²/σ)/σ) for the returned x, σ the strong convexity of φ, b = ‖Σ A_iᵀ(y_i − y_i')‖,

        G = ψ(x) − ψ(z) − ⟨w, x − z⟩ + Σ g_i(A_i x) − g_i(p_i) − ⟨y_i', A_i x − p_i⟩ with y_i' ∈ ∂g_i(p_i): ∞ where x
        misses a constraint, by rounding if nothing else. No less than half of the digits, since G is a difference.
        """
        sigma = convexity(self.split.phi, self.z, self.batch)
        if not bool((sigma > 0).all()):
            return None
        with torch.no_grad():
            x, split = self.z + self.moved, self.split
            gap = split.value(x) - split.value(self.z) - split.total(self.w * (x - self.z), x)
            size = split.value(x).abs() + split.value(self.z).abs()
            back = torch.zeros_like(x)
            for t in self.terms:
                image, dual = t.lens.image(x), t.y - t.residual
                there, here = (self._sum(t.lens.body.value(p)) for p in (image, t.prox))
                linear = self._sum(dual * (image - t.prox))
                gap, size = gap + (there - here - linear), size + there.abs() + here.abs() + linear.abs()
                gap = torch.where(self._all(_meets(t.lens.body.domain, image)), gap, torch.inf)
                back = back + t.lens.adjoint(t.residual, x)
            gap = gap.clamp(min=0) + 4 * torch.finfo(x.dtype).eps * size
            b = self._norm([back])
            return self._keep(((2 * gap + b**2 / sigma) / sigma).sqrt())

    def _norm(self, parts: list[Tensor]) -> Tensor:
        return torch.linalg.vector_norm(torch.cat([vectors(p, self.batch) for p in parts], -1), dim=-1)

    def _sum(self, x: Tensor) -> Tensor:
        return vectors(x, self.batch).sum(-1)

    def _all(self, mask: Tensor) -> Tensor:
        return vectors(mask, self.batch).all(-1)

    def _keep(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape, *[1] * self.split.event_ndim)


def _meets(domain: Any, x: Tensor) -> Tensor:
    return torch.ones_like(x, dtype=torch.bool) if domain == Interval() else domain.contains(x)
