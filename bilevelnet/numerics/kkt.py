"""Linear systems of many quadratic programs side by side: [Q Cᵀ; C −1/D] (z, w) = (a, c), one weight D ≥ 0 a row of C.

D = λ/s in a step of an interior point, 1/ε for a row that holds with equality, 0 for a row that is left out. Eliminated
is what is larger: w, which leaves Q + Cᵀ D C, or z, which leaves 1/D + C Q⁻¹ Cᵀ where Q is well conditioned. Matrices
are (n, n) and (r, n) where all programs share them, else they have the batch in front.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

HARD = 1e6  # 1/ε: refinement gains at least this factor, over the least eigenvalue of C Q⁻¹ Cᵀ, a step
PROXIMAL = 1e-9  # added to Q for its factor: above the rounding of Q + Cᵀ D C, and refined away
REFINEMENTS = 30
TINY = 1e-300


def times(matrix: Tensor, x: Tensor) -> Tensor:
    """M x for vectors (B, n)."""
    return x @ matrix.mT if matrix.ndim == 2 else (matrix @ x.unsqueeze(-1)).squeeze(-1)


def scales(q: Tensor, c: Tensor, rounds: int = 3) -> tuple[Tensor, Tensor]:
    """Powers of two (t, s) for which diag(t) Q diag(t) and diag(s) C diag(t) have rows and columns of size about 1.

    Ruiz, A scaling algorithm to equilibrate both rows and columns norms in matrices (2001).
    """
    batch = max((q.shape[:-2], c.shape[:-2]), key=len)
    t, s = q.new_ones(*batch, q.shape[-1]), q.new_ones(*batch, c.shape[-2])
    big_q, big_c = q.abs(), c.abs()
    for _ in range(rounds):
        rows = times_max(big_c, t) * s
        columns = torch.maximum(times_max(big_q, t), times_max(big_c.mT, s) if c.shape[-2] else torch.zeros_like(t)) * t
        t, s = t / _root(columns), s / _root(rows)
    return t.log2().round().exp2(), s.log2().round().exp2()


def times_max(matrix: Tensor, x: Tensor) -> Tensor:
    """max_j M_ij x_j."""
    return (matrix * x.unsqueeze(-2)).amax(-1)


def _root(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1.0).sqrt()


class Scaled(NamedTuple):
    """System of Q̃ = T Q T/γ and C̃ = S C T, with z = T z̃ and w = γ S w̃."""

    system: System
    t: Tensor
    s: Tensor
    cost: Tensor


def scaled(q_matrix: Tensor, c: Tensor, force: Tensor) -> Scaled:
    """The scaled system; ``force`` (B, n) is the size of the objective where Q = 0."""
    t, s = scales(q_matrix, c)
    q_matrix, c = q_matrix * t.unsqueeze(-1) * t.unsqueeze(-2), c * s.unsqueeze(-1) * t.unsqueeze(-2)
    size = largest(q_matrix.flatten(-2)).log2().round().exp2()
    some = size > 0
    own = largest(force * t)
    cost = torch.where(some, size, torch.where(own > 0, own, 1.0).log2().round().exp2()).unsqueeze(-1)
    return Scaled(System(q_matrix / torch.where(some, size, 1.0)[..., None, None], c), t, s, cost)


class System:
    """Q and C, scaled; ``factor(D)`` gives the solution of the system as a function."""

    def __init__(self, q: Tensor, c: Tensor):
        self.q, self.c = q, c
        n, rows = c.shape[-1], c.shape[-2]
        self.shifted = q + PROXIMAL * torch.eye(n, dtype=q.dtype, device=q.device)
        self.factor_q, info = torch.linalg.cholesky_ex(self.shifted)
        self.convex = info == 0
        pivots = torch.diagonal(self.factor_q, dim1=-2, dim2=-1)
        self.thin = rows < n and bool((pivots.amin(-1) > 1e-3 * pivots.amax(-1)).all() & self.convex.all())
        if self.thin:
            self.back = torch.cholesky_solve(c.mT, self.factor_q)  # Q⁻¹ Cᵀ
            self.gram = c @ self.back

    def take(self, index: Tensor) -> System:
        """The programs of ``index``."""
        some = object.__new__(System)
        some.thin = self.thin
        names = ["q", "c", "shifted", "factor_q"] + (["back", "gram"] if self.thin else [])
        for name in names:
            t = getattr(self, name)
            setattr(some, name, t if t.ndim == 2 else t[index])
        some.convex = self.convex if self.convex.ndim == 0 else self.convex[index]
        return some

    def image(self, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """(Q z + Cᵀ w, C z)."""
        return times(self.q, z) + times(self.c.mT, w), times(self.c, z)

    def factor(self, d: Tensor) -> Factor:
        return Thin(self, d) if self.thin else Normal(self, d)


class Factor:
    def __init__(self, system: System, d: Tensor):
        self.system, self.d = system, d

    def solve(self, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """(z, w) of the system; w = 0 in the rows that are left out."""
        raise NotImplementedError

    def refine(self, a: Tensor, c: Tensor, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The solution for D = ∞ in the kept rows, from (z, w) on, and what is left of a and c, element by element.

        z ← z + M⁻¹(rest) is the proximal method of multipliers: where rows depend on one another, w ends next to where
        it began.
        """
        keep = self.d > 0
        w = torch.where(keep, w, 0.0)
        best: tuple[Tensor, ...] = z, w, a, c
        least = torch.full_like(z[:, 0], torch.inf)
        eps = torch.finfo(z.dtype).eps
        rest, change = torch.full_like(torch.cat([a, c], -1), torch.inf), least
        for _ in range(REFINEMENTS):
            qz, ctw, cz = times(self.system.q, z), times(self.system.c.mT, w), times(self.system.c, z)
            ra, rc = a - qz - ctw, torch.where(keep, c - cz, 0.0)
            force = torch.maximum(largest(a), torch.maximum(largest(qz), largest(w)))
            room = torch.maximum(largest(c), largest(z))
            force, room = (torch.maximum(x, eps * y).clamp(min=TINY) for x, y in ((force, room), (room, force)))
            norm = torch.maximum(largest(ra) / force, largest(rc) / room)
            better = norm < least
            best = tuple(torch.where(better[:, None], x, y) for x, y in zip((z, w, ra, rc), best, strict=True))
            least = torch.minimum(norm, least)
            # What no (z, w) reaches stays: the rest is watched for its change.
            moved = torch.cat([ra / force[:, None], rc / room[:, None]], -1)
            before, rest, change = change, moved, largest(moved - rest)
            if bool(((norm <= eps) | ((change >= 0.5 * before) & before.isfinite())).all()):
                break
            dz, dw = self.solve(ra, rc)
            z, w = z + dz, w + dw
        return best  # type: ignore[return-value]


class Normal(Factor):
    """(Q + Cᵀ D C) z = a + Cᵀ D c, w = D (C z − c)."""

    def __init__(self, system: System, d: Tensor):
        super().__init__(system, d)
        c = system.c
        weighted = c.mT * d.unsqueeze(-2)
        self.lower = torch.linalg.cholesky_ex(system.shifted + weighted @ c)[0]

    def solve(self, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.cholesky_solve((a + times(self.system.c.mT, self.d * c)).unsqueeze(-1), self.lower).squeeze(-1)
        return z, self.d * (times(self.system.c, z) - c)


class Thin(Factor):
    """(I + D^½ C Q⁻¹ Cᵀ D^½) D^-½ w = D^½ (C Q⁻¹ a − c), z = Q⁻¹(a − Cᵀ w)."""

    def __init__(self, system: System, d: Tensor):
        super().__init__(system, d)
        self.root = d.sqrt()
        matrix = system.gram * self.root.unsqueeze(-1) * self.root.unsqueeze(-2)
        matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
        self.lower = torch.linalg.cholesky_ex(matrix)[0]

    def solve(self, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        right = self.root * (times(self.system.back.mT, a) - c)
        w = self.root * torch.cholesky_solve(right.unsqueeze(-1), self.lower).squeeze(-1)
        return solve_shared(self.system.factor_q, a) - times(self.system.back, w), w


def solve_shared(lower: Tensor, a: Tensor) -> Tensor:
    if lower.ndim == 2:
        return torch.cholesky_solve(a.mT, lower).mT
    return torch.cholesky_solve(a.unsqueeze(-1), lower).squeeze(-1)


def largest(x: Tensor) -> Tensor:
    """max |x| of each element."""
    return x.abs().amax(-1) if x.shape[-1] else x.new_zeros(x.shape[:-1])
