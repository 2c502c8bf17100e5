"""The dual of φ + Σ g_i(A_i z) − ⟨z, v⟩ as the numerics see it: vectors y of all multipliers, one an event.

With ψ the sum of φ and the terms inside, z = ∇ψ*(v − Σ A_iᵀ y_i); the dual is min_y ψ*(v − Σ A_iᵀ y_i) + Σ g_i*(y_i).
Each term is scaled by c_i = 1/(N ‖A_i‖²), y_i = √c_i ỹ_i, so that the curvature in ỹ is at most that of ψ*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..legendre import Legendre, Mahalanobis
from ..maps import Near
from ..numerics.conjugate_gradient import conjugate_gradient
from ..numerics.jacobian import symmetric_jacobian
from ..numerics.splitting import LOOSE, Point
from ..regularizers.lens import Lens
from .curvature import Curvature
from .newton import NewtonMap
from .split import Split


def vectors(x: Tensor, batch: int) -> Tensor:
    """x with what lies behind its first ``batch`` dimensions in one."""
    return x.reshape(*x.shape[:batch], math.prod(x.shape[batch:]))


def convexity(phi: Legendre, like: Tensor, batch: int) -> Tensor:
    """σ of φ, one number or one an event: the least of its entries where they have one each."""
    sigma = torch.as_tensor(phi.strong_convexity, dtype=like.dtype, device=like.device).detach()
    if phi.event_ndim or not sigma.ndim:
        return sigma
    return vectors(sigma.expand_as(like), batch).amin(-1)


def scaled_rows(outer: list[Lens], event: tuple[int, ...], like: Tensor, roots: Sequence[float] = ()) -> Tensor:
    """The maps A_i, times ``roots`` where given, one below the other: (M, n)."""
    eye = torch.eye(math.prod(event), dtype=like.dtype, device=like.device)
    matrices = [lens.matrix(event, like) for lens in outer]
    scales = roots or [1.0] * len(outer)
    return torch.cat([r * (eye if m is None else m) for r, m in zip(scales, matrices, strict=True)])


class Dual:
    """The dual at v, for ``numerics.splitting``; see ``Composite`` there."""

    def __init__(self, split: Split, v: Tensor):
        self.split, self.v = split, v
        self.batch, event = v.shape[: v.ndim - split.event_ndim], v.shape[v.ndim - split.event_ndim :]
        self.event = tuple(event)
        one = v.new_ones((*[1] * len(self.batch), *event))
        self.shapes = [lens.image(one).shape[len(self.batch) :] for lens in split.outer]
        self.sizes = [s.numel() for s in self.shapes]
        n = len(split.outer)
        matrices = [lens.matrix(self.event, v) for lens in split.outer]
        norms = [1.0 if m is None else float(torch.linalg.matrix_norm(m, 2)) for m in matrices]
        self.roots = [1 / (math.sqrt(n) * (k or 1.0)) for k in norms]
        self.rows = scaled_rows(split.outer, self.event, v, self.roots)
        self.fixed = self._fixed()
        self.scale = torch.linalg.vector_norm(vectors(v, len(self.batch)), dim=-1, keepdim=True)
        sigma = convexity(split.phi, v, len(self.batch))
        self.sigma, self.steady = sigma, bool((sigma > 0).all())
        self.patient = True  # whether conjugate gradients found every direction
        self.near: Near | None = None  # the last z and u, from which a search inside starts

    def _fixed(self) -> Tensor | None:
        """Σ A ∇²ψ* Aᵀ where it is the same everywhere."""
        phi = self.split.phi
        if not isinstance(phi, Mahalanobis) or self.split.inside or phi.Q.ndim > 2:
            return None
        return self.rows @ phi.grad_conjugate(self.rows).mT

    def point(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, w = v − Σ A_iᵀ y_i and ‖w‖."""
        w = self.v - (y @ self.rows).reshape(self.v.shape)
        z, u = self.split.point(w, self.near)
        self.near = Near(z, u, {})
        return z, w, self._norm(w)

    def finite(self, y: Tensor) -> Tensor:
        """Where ψ* is finite at y."""
        if self.split.guide is None:
            return y.new_ones(self.batch, dtype=torch.bool)
        z, self.near = self.point(y)[0], None
        return vectors(z, len(self.batch)).isfinite().all(-1)

    def smooth(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, w, size = self.point(y)
        h = self.split.total(w * z, z) - self.split.value(z)
        return h.unsqueeze(-1), self.image(z), size.unsqueeze(-1)

    def image(self, z: Tensor) -> Tensor:
        """The scaled A_i z, one behind the other."""
        batch = len(self.batch)
        scaled = zip(self.roots, self.split.outer, strict=True)
        return torch.cat([r * vectors(lens.image(z), batch) for r, lens in scaled], -1)

    def _parts(self, x: Tensor, step: Tensor) -> list[tuple[Any, Tensor, Tensor]]:
        """(body, argument, step) of the prox of each term."""
        parts = []
        for lens, r, shape, part in zip(
            self.split.outer, self.roots, self.shapes, x.split(self.sizes, -1), strict=True
        ):
            own = (step * r).reshape(*self.batch, *[1] * len(shape))
            parts.append((lens.body, part.reshape(*self.batch, *shape) / own, 1 / (own * r)))
        return parts

    def prox(self, x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        found, values = [], x.new_zeros(self.batch)
        for (body, at, s), r in zip(self._parts(x, step), self.roots, strict=True):
            p = body.prox(at, s)
            found.append(r * vectors(p, len(self.batch)))
            values = values + vectors(body.value(p), len(self.batch)).sum(-1)
        return torch.cat(found, -1), values.unsqueeze(-1)

    def direction(self, curvature: Curvature, x: Tensor, step: Tensor, r: Tensor, shift: Tensor, tol: Tensor) -> Tensor:
        if self.patient:  # as many products as cost what forming and factoring do
            d, self.patient = self._by_products(curvature, x, step, r, shift, tol, r.shape[-1] // 3)
            if self.patient:
                return d
        return -torch.linalg.solve_ex(self.system(curvature, x, step, shift), r.unsqueeze(-1))[0].squeeze(-1)

    def _by_products(
        self, curvature: Curvature, x: Tensor, step: Tensor, r: Tensor, shift: Tensor, tol: Tensor, most: int
    ) -> tuple[Tensor, bool]:
        """(d, whether it was found), by at most ``most`` conjugate gradients where all products are cheap.

        With D = I − E and G = γ A ∇²ψ* Aᵀ + shift, (E + D G) d = −r has d = D q − r for the q with
        (D E + D G D) q = D (G − I) r, whose matrix is symmetric.
        """
        kept = [body.prox_product(at, s, len(self.batch)) for body, at, s in self._parts(x, step)]
        if any(k is None for k in kept) or not curvature.cheap:
            return r, False

        def inside(t: Tensor) -> Tensor:  # D t
            parts = zip(kept, t.split(self.sizes, -1), strict=True)
            return t - torch.cat([k(part) for k, part in parts], -1)  # type: ignore[misc]

        def bend(t: Tensor) -> Tensor:  # (G − I) t
            return step * (curvature @ t) + (shift - 1) * t

        def times(q: Tensor) -> Tensor:
            own = inside(q)
            return own + inside(bend(own))

        q, bad, unfinished = conjugate_gradient(times, inside(bend(r)), tol, most)
        return inside(q) - r, not bool((bad | unfinished).any())

    def system(self, curvature: Curvature, x: Tensor, step: Tensor, shift: Tensor) -> Tensor:
        """E + (I − E)(γ A ∇²ψ* Aᵀ + shift), E the derivative of γ p in x."""
        scaled = curvature.matrix() * step.unsqueeze(-1)
        scaled.diagonal(dim1=-2, dim2=-1).add_(shift)
        kept = self._prox_jacobian(x, step)
        if kept.ndim == x.ndim:
            scaled.mul_((1 - kept).unsqueeze(-1)).diagonal(dim1=-2, dim2=-1).add_(kept)
            return scaled
        return scaled.sub_(kept @ scaled).add_(kept)

    def _prox_jacobian(self, x: Tensor, step: Tensor) -> Tensor:
        """E, or its diagonal where every term is separable."""
        batch = len(self.batch)
        blocks = [body.prox_jacobian(at, s, batch) for body, at, s in self._parts(x, step)]
        if all(block.ndim == x.ndim for block in blocks):
            return torch.cat(blocks, -1)
        blocks = [torch.diag_embed(block) if block.ndim == x.ndim else block for block in blocks]
        if len(blocks) == 1:
            return blocks[0]
        total, begin = x.new_zeros(*x.shape, x.shape[-1]), 0
        for block, size in zip(blocks, self.sizes, strict=True):
            end = begin + size
            total[..., begin:end, begin:end] = block
            begin = end
        return total

    def curvature(self, y: Tensor) -> Curvature:
        """A ∇²ψ* Aᵀ."""
        if self.fixed is not None:
            return Curvature(None, self.fixed)
        w = self.point(y)[1]
        if self.split.diagonal:
            gain = vectors(self.split.inner.gain(w)[2].broadcast_to(w.shape), len(self.batch))
            found = Curvature(None, None, ((self.rows.mT, gain),))
            return found if self.steady else found.formed()  # of which the step asks
        if isinstance(self.split.inner, NewtonMap) and self.near is not None:
            return Curvature(None, self.rows @ self.split.inner.response(self.near, self.rows).movedim(0, -1))
        gain = symmetric_jacobian(lambda t: self.split.inner.point(t)[0], w, self.split.event_ndim)
        return Curvature(None, self.rows @ gain @ self.rows.mT)

    def largest(self, curvature: Curvature) -> Tensor:
        return curvature.matrix().abs().sum(-1).amax(-1, keepdim=True)

    def first_step(self, y: Tensor) -> Tensor:
        """γ ≤ 1/L, L the largest curvature at y, or everywhere where φ is strongly convex."""
        known = self.sigma
        if not self.steady:
            # Where ψ* is flat, 1/eps: what is too long is halved there.
            known = 1 / torch.linalg.matrix_norm(self.curvature(y).matrix()).clamp(torch.finfo(y.dtype).eps)
        return known.broadcast_to(self.batch).unsqueeze(-1).clone()

    def misses(self, y: Tensor, step: Tensor) -> Tensor:
        """Where an A_i z lies outside of the set of its g_i by more than the search leaves: ``LOOSE`` digits of A_i z,
        or what as many of v and w make of it. z may lie far from a set of 1e-20 where y, of v's size, shows nothing.
        """
        sets = [(r, lens) for r, lens in zip(self.roots, self.split.outer, strict=True) if lens.body.indicator]
        beyond = torch.zeros(self.batch, dtype=y.dtype, device=y.device)
        if not sets:
            return beyond > 0
        loose, (z, _, size) = torch.finfo(y.dtype).eps ** LOOSE, self.point(y)
        for r, lens in sets:
            image = lens.image(z)
            near = lens.body.prox(image, 1.0)
            gap, *own = (self._norm(t) for t in (image - near, image, near))
            beyond = torch.maximum(beyond, torch.where(gap > loose * sum(own), r * gap, 0.0))
        if not bool((beyond > 0).any()):
            return beyond > 0
        gain = torch.linalg.matrix_norm(self.curvature(y).matrix()) / step.squeeze(-1)
        return beyond > loose * gain.sqrt() * (size + self.scale.squeeze(-1))  # w = v − Σ A_iᵀ y_i may cancel

    def _norm(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(vectors(x, len(self.batch)), dim=-1)

    def hopeless(self, at: Point) -> Tensor:
        """Whether e = A z − p separates the image of dom ψ from the domains of the g_i: sup ⟨e, p⟩ < inf ⟨e, A z⟩.

        Both ends are those of projections of points far out along e and −Aᵀe: so far that their own size costs 6 of 16
        digits, and a gap is one of more than the 6.
        """
        e = at.image - at.prox
        e = e / torch.linalg.vector_norm(e, dim=-1, keepdim=True).clamp(min=torch.finfo(e.dtype).tiny)
        far = torch.full_like(e[..., :1], torch.finfo(e.dtype).eps ** -0.4)
        p = self.prox(far * e, torch.ones_like(far))[0]
        z = self.split.inner.point(-(far * e @ self.rows).reshape(self.v.shape))[0]
        gap = (e * (self.image(z) - p)).sum(-1, keepdim=True)
        return gap > torch.finfo(e.dtype).eps ** 0.4
