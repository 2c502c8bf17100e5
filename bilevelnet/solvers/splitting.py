"""The splitting solver: φ + Σ g_i(A_i z) from the proxes of the g_i."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map, Near, Outcome
from ..numerics.bracket import FOUND, LIMIT, NONE
from ..numerics.dual_search import DualPoint, Sizes, dual_search
from ..numerics.splitting import accelerated, minimise
from ..regularizers import Regularizer
from ..solution import INFEASIBLE, INVALID, MAX_ITER, UNBOUNDED, worst
from ..values import tracked
from .base import Iterative
from .certificate import Certificate, Term
from .charts import chart
from .dual_problem import Dual, scaled_rows, vectors
from .inverse import flat
from .samples import refute, refute_maps
from .split import RHO, Split
from .twin import Held, Twin, tensors_of

ENDLESS = 4  # a code beside those of a bracketed root: no minimiser


class Splitting(Iterative):
    """argmin φ(z) + Σ g_i(A_i z) − ⟨z, v⟩ over the multipliers y_i ∈ ∂g_i(A_i z): a forward-backward step on the dual,
    made fast by semismooth Newton steps and global by its envelope; derivatives by attached Newton steps. Where φ is
    strongly convex and nothing is near, accelerated steps come first. Where φ* is finite on a half-line only, the
    search begins with a small (ρ/2)‖z‖² in φ.

    ``tol``: on the change of y by one step, relative to its terms, 0 for their rounding. ``max_iter`` counts Newton
    steps.
    """

    name = "splitting"

    def __init__(self, tol: float = 0.0, max_iter: int = 200):
        super().__init__(tol, max_iter)

    def bind(self, phi: Legendre, g: Regularizer) -> SplittingMap:
        return SplittingMap(phi, g, self)


class Family:
    """The search on a twin of φ and the terms: what the operator evaluates."""

    def __init__(self, phi: Legendre, *terms: Any):
        self.twin = Twin([phi, *terms])
        self.split = Split(*self.twin.pieces)

    def search(
        self, v: Tensor, start: Tensor | None, tensors: list[Tensor], sizes: Sizes, max_iter: int, tol: float
    ) -> DualPoint:
        self.twin.load(tensors)
        dual = Dual(self.split, v)
        roots = torch.cat([v.new_full((n,), r) for n, r in zip(dual.sizes, dual.roots, strict=True)])
        y = v.new_zeros(*dual.batch, sizes.width) if start is None else start / roots
        y, lost, begun = self._guided(dual, y, max_iter, max(tol, torch.finfo(v.dtype).eps ** 0.5))
        step = dual.first_step(y)
        if start is None and dual.steady and max_iter > 0:
            y, early = accelerated(dual, y, step, tol)
            begun += early
        found = minimise(dual, y, step, max_iter, tol, dual.hopeless)
        missed = (found.code == FOUND) & dual.misses(found.y, found.step)
        code = torch.where(lost == FOUND, torch.where(missed, LIMIT, found.code), lost).to(torch.int8)
        steps = found.step * v.new_tensor(dual.roots) ** 2
        inverse = _inverse(dual, found.y, found.step) if sizes.inverse else v.new_empty(*dual.batch, 0, 0)
        inverse = inverse * roots.unsqueeze(-1) / roots if sizes.inverse else inverse
        return DualPoint(found.y * roots, steps, inverse, code, torch.tensor(found.iterations + begun))

    def _guided(self, dual: Dual, y: Tensor, max_iter: int, tol: float) -> tuple[Tensor, Tensor, int]:
        """(y, or where ψ* is infinite there, solutions with (ρ/2)‖z‖² in ψ until it is not; a code; iterations).

        ρz tends to the distance of v from dom (φ + g)*, which is 0 where there is a minimiser.
        """
        outside, iterations = ~dual.finite(y), 0
        code, guide = torch.where(outside, LIMIT, FOUND), dual.split.guide
        for rho in RHO:
            if guide is None or not bool(outside.any()):
                break
            guide.pull._buffers["lam_value"] = y.new_tensor(rho)
            other = Dual(guide, dual.v)
            found = minimise(other, y, other.first_step(y), max_iter, tol, other.hopeless)
            iterations += found.iterations
            y = torch.where(outside.unsqueeze(-1) & found.y.isfinite(), found.y, y)
            far = rho * torch.linalg.vector_norm(vectors(other.point(y)[0], len(dual.batch)), dim=-1)
            near = torch.finfo(y.dtype).eps ** 0.25 * (1 + dual.scale.squeeze(-1))
            lost = torch.where(found.code == NONE, NONE, torch.where(far > near, ENDLESS, LIMIT))
            code = torch.where(outside, torch.where(dual.finite(y) & (lost != NONE), FOUND, lost), code)
            outside = (code == LIMIT) | (code == ENDLESS)
        return y, code, iterations


def _inverse(dual: Dual, y: Tensor, step: Tensor) -> Tensor:
    """H⁻¹, H the Jacobian of the fixed point.

    Along multipliers that are not unique H is singular: there (H + μD)⁻¹ with μ half of the digits, which A undoes, and
    a Newton-Schulz step that squares the μ/λ by which it is off.
    """
    curvature, x, half = dual.curvature(y), y + step * dual.smooth(y)[1], torch.finfo(y.dtype).eps ** 0.5
    exact = dual.system(curvature, x, step, torch.zeros_like(step))
    inverse = torch.linalg.inv_ex(exact)[0]
    sizes = [torch.linalg.vector_norm(t, 1, -1).amax(-1) for t in (exact, inverse)]
    unique = sizes[0] * sizes[1] < 1 / half
    if not bool(unique.all()):
        shifted = torch.linalg.inv_ex(dual.system(curvature, x, step, torch.full_like(step, half)))[0]
        inverse = torch.where(unique[..., None, None], inverse, 2 * shifted - shifted @ exact @ shifted)
    return inverse


class SplittingMap(Map):
    name = "splitting"

    def __init__(self, phi: Legendre, g: Regularizer, solver: Splitting):
        self.phi, self.g, self.solver = phi, g, solver
        self.terms = list(g.terms())
        if not (phi.event_ndim or g.event_ndim):
            raise InputError(f"nothing in {g.label} couples the entries of z: the scalar solver takes them one by one")
        self.split = Split(phi, *self.terms)
        if not phi.event_ndim and flat(phi) and not self.split.squared:
            raise InputError(
                f"φ''(0) = 0 of {phi.label}: the dual has no curvature bound, on which its steps depend; add a "
                f"bilevelnet.legendre.Energy to φ or a bilevelnet.regularizers.SquaredL2 to g"
            )
        if not self.split.outer:
            raise InputError(f"{g.label} with {phi.label} has no multipliers to search for")
        self.family = Held(Family, phi, *self.terms)

    def solve(self, v: Tensor, init: Near | None = None) -> Outcome:
        split, n = self.split, self.split.event_ndim
        if v.ndim < n:
            raise InputError(f"v has {v.ndim} dimensions; {self.g.label} with {self.phi.label} acts on {n}")
        dims = tuple(range(-n, 0))
        size = v.detach().square()  # beyond the root of the largest float the search has no norms
        good = (size.sum(dims, keepdim=True) if n else size).isfinite()
        v = torch.where(good, v, 0.0)
        refute_maps(split.outer, v)
        for lens, body in split.by_value:
            refute([body], v.new_zeros(lens.shapes(v)[-1]), lambda x, body=body: chart(body.domain, x)[0])
        tensors = tensors_of([self.phi, *self.terms])
        widths = [math.prod(lens.shapes(v)[-1][v.ndim - n :]) for lens in split.outer]
        graph = tracked(v, *tensors)
        sizes = Sizes(n, sum(widths), len(widths), graph)
        start = None if init is None else self._start(init, v, widths)
        if start is not None:  # a failed element of ``init`` begins anew
            start = torch.where(start.isfinite().all(-1, keepdim=True), start, 0.0)
        found = dual_search(v, start, tensors, self.family.handle(), sizes, self.solver.max_iter, self.solver.tol)
        y = self._attached(found, v, widths) if graph else found.y
        z, u = split.inner.point(self._shifted(y, v, widths))
        certificate = self._certificate(y, z, found.steps, v, widths)
        z = z + certificate.snap(found.code == FOUND)
        keep = (...,) + (None,) * n
        code = found.code[keep]
        status = torch.where(code == FOUND, self._inner_status(y, v, widths), MAX_ITER)
        status = torch.where(code == NONE, INFEASIBLE, torch.where(code == ENDLESS, UNBOUNDED, status))
        broken = z.detach().isnan().any(dims, keepdim=True) if n else z.detach().isnan()  # the search for ψ* failed
        status = torch.where(broken & (code == NONE) | ~good, INVALID, status)
        known = certificate.multipliers, certificate.residual, certificate.error_bound
        return Outcome(z, u, status, found.iterations, *known)

    def _start(self, init: Near, v: Tensor, widths: list[int]) -> Tensor:
        """The multipliers of ``init``; else, of least size, those with Σ A_iᵀ y_i = v − u."""
        batch = v.ndim - self.split.event_ndim
        given = list(init.multipliers.values())[: len(self.split.outer)]  # beside them there may be those of rows
        shapes = [lens.shapes(v)[-1] for lens in self.split.outer]
        if [tuple(y.shape) for y in given] == shapes:
            return torch.cat([vectors(y, batch) for y in given], -1)
        rows = scaled_rows(self.split.outer, tuple(v.shape[batch:]), v)
        return vectors(v.detach() - init.dual, batch) @ torch.linalg.pinv(rows)

    def _shifted(self, y: Tensor, v: Tensor, widths: list[int]) -> Tensor:
        """v − Σ A_iᵀ y_i."""
        for lens, part in zip(self.split.outer, y.split(widths, -1), strict=True):
            v = v - lens.adjoint(part.reshape(lens.shapes(v)[-1]), v)
        return v

    def _terms(self, y: Tensor, z: Tensor, steps: Tensor, widths: list[int]) -> list[Term]:
        """What the prox of each term makes of (y_i, A_i z)."""
        terms = []
        for k, (lens, part) in enumerate(zip(self.split.outer, y.split(widths, -1), strict=True)):
            image = lens.image(z)
            s = steps[..., k].reshape(*steps.shape[:-1], *[1] * (image.ndim - steps.ndim + 1))
            part = part.reshape(image.shape)
            terms.append(Term(lens, part, s, image, lens.body.prox(part / s + image, 1 / s)))
        return terms

    def _fixed_point(self, y: Tensor, steps: Tensor, v: Tensor, widths: list[int]) -> Tensor:
        """y_i − prox of s_i g_i* at y_i + s_i A_i z, which is s_i(p_i − A_i z): 0 at the solution."""
        z = self.split.inner.point(self._shifted(y, v, widths))[0]
        return torch.cat([vectors(t.residual, y.ndim - 1) for t in self._terms(y, z, steps, widths)], -1)

    def _certificate(self, y: Tensor, z: Tensor, steps: Tensor, v: Tensor, widths: list[int]) -> Certificate:
        with torch.no_grad():
            y, z, v = y.detach(), z.detach(), v.detach()
            terms = self._terms(y, z, steps, widths)
            return Certificate(self.split, terms, z, self._shifted(y, v, widths))

    def _inner_status(self, y: Tensor, v: Tensor, widths: list[int]) -> Tensor:
        if self.split.inner.whole:
            return torch.zeros((), dtype=torch.int8, device=v.device)
        with torch.no_grad():
            status = self.split.inner.solve(self._shifted(y, v, widths).detach()).status
            return worst(status.broadcast_to(v.shape), tuple(range(-self.split.event_ndim, 0)))

    def _attached(self, found: DualPoint, v: Tensor, widths: list[int]) -> Tensor:
        """y with its derivatives: two Newton steps with the Jacobian held fixed (see ``attach``)."""
        y = found.y
        for _ in range(2):
            r = self._fixed_point(y, found.steps, v, widths)
            y = y - (found.inverse @ (r - r.detach()).unsqueeze(-1)).squeeze(-1)
        return y

    def explain(self) -> str:
        inside = " + ".join([self.phi.label, *(t.label for t in self.split.inside)])
        outside = ", ".join(lens.term.label for lens in self.split.outer)
        return f"splitting: multipliers for {outside}; {inside} inside by {self.split.inner.name}"
