"""Linear systems of many quadratic programs side by side: [Q Cᵀ; C −1/D] (z, w) = (a, c), one weight D ≥ 0 a row of C.

D = λ/s in a step of an interior point, 1/ε for a row that holds with equality, 0 for a row that is left out. Eliminated
is what is larger: w, which leaves Q + Cᵀ D C, or z, which leaves 1/D + C Q⁻¹ Cᵀ where no curvature of Q is FLAT.
Matrices are (n, n) and (r, n) where all programs share them, else they have the batch in front.
"""

from __future__ import annotations

import torch
from torch import Tensor

HARD = 1e6  # 1/ε: refinement gains at least this factor, over the least eigenvalue of C Q⁻¹ Cᵀ, a step
PROXIMAL = 1e-9  # added to Q for its factor: above the rounding of Q + Cᵀ D C, and refined away
REFINEMENTS = 30
UNSEEN = 2  # steps before the first look: one leaves about 1/HARD of what it began with, and a look costs as much
ROUNDING = 32  # times eps: the rounding of a sum of some tens of terms as large as the largest
TINY = 1e-300  # a size of 0 is divided by: of a program all of whose numbers are 0, or of no rows
FLAT = 1e-7  # of a scaled Q; above it PROXIMAL is 1 % at most of any curvature, and the inverse of Q loses no more
DEFINITE = 16  # times n eps, over the rounding of a Cholesky factor: a Q of less curvature counts as singular
SURE = 1e-4  # a least pivot above which no curvature below 1e-6 has been seen: then the pivot stands for it

Sizes = tuple[Tensor, Tensor]  # max |z| and max |w| of each element


def times(matrix: Tensor, x: Tensor) -> Tensor:
    """M x for vectors (B, n), or one."""
    if matrix.ndim == 2 and x.ndim == 1:
        return matrix @ x
    return x @ matrix.mT if matrix.ndim == 2 else (matrix @ x.unsqueeze(-1)).squeeze(-1)


class System:
    """Q and C, scaled; ``factor(D)`` gives the solution of the system as a function."""

    def __init__(self, q: Tensor, c: Tensor):
        self.q, self.c = q, c
        self.shifted = q + PROXIMAL * self._eye
        self.factor_q, info = torch.linalg.cholesky_ex(self.shifted)
        self.convex = info == 0
        flat = ~self._exceeds(FLAT)
        self.thin = c.shape[-2] < c.shape[-1] and not bool(flat.any())
        self.sharp = self._sharp(flat) if bool(flat.any()) else None
        if self.thin:
            self.back = torch.cholesky_solve(c.mT, self.factor_q)  # Q⁻¹ Cᵀ
            self.gram = c @ self.back

    @property
    def _eye(self) -> Tensor:
        return torch.eye(self.q.shape[-1], dtype=self.q.dtype, device=self.q.device)

    def _exceeds(self, curvature: float) -> Tensor:
        """Whether every curvature of Q does."""
        return torch.linalg.cholesky_ex(self.q - curvature * self._eye)[1] == 0

    def _sharp(self, flat: Tensor) -> Tensor | None:
        """Q where it is definite, else Q + PROXIMAL I; None where no definite one is flat."""
        definite = self._exceeds(DEFINITE * self.q.shape[-1] * torch.finfo(self.q.dtype).eps)
        return torch.where(definite[..., None, None], self.q, self.shifted) if bool((flat & definite).any()) else None

    def take(self, index: Tensor) -> System:
        """The programs of ``index``."""
        some = object.__new__(System)
        some.thin = self.thin
        for name in ["q", "c", "shifted", "factor_q", "sharp"] + (["back", "gram"] if self.thin else []):
            t = getattr(self, name)
            setattr(some, name, t if t is None or t.ndim == 2 else t[index])
        some.convex = self.convex if self.convex.ndim == 0 else self.convex[index]
        return some

    def image(self, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """(Q z + Cᵀ w, C z)."""
        return times(self.q, z) + times(self.c.mT, w), times(self.c, z)

    def factor(self, d: Tensor) -> Factor:
        return Thin(self, d) if self.thin else Normal(self, d)

    def exact(self, d: Tensor) -> Factor:
        """A factor by which refinement reaches the last digits, in flat directions of a definite Q too."""
        return self.factor(d) if self.sharp is None else Whole(self, d, self.sharp)

    def solve_q(self, a: Tensor) -> Tensor:
        """Q⁻¹ a."""
        if self.factor_q.ndim == 2:
            return torch.cholesky_solve(a.mT, self.factor_q).mT
        return torch.cholesky_solve(a.unsqueeze(-1), self.factor_q).squeeze(-1)


class Factor:
    def __init__(self, system: System, d: Tensor):
        self.system, self.d = system, d

    @property
    def least(self) -> Tensor:
        """The least curvature of Q + Cᵀ D C, about."""
        raise NotImplementedError

    def solve(self, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """(z, w) of the system; w = 0 in the rows that are left out."""
        raise NotImplementedError

    def refine(
        self, a: Tensor, c: Tensor, z: Tensor, w: Tensor, near: Sizes | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The solution for D = ∞ in the kept rows, from (z, w) on, and what is left of a and c, element by element.

        z ← z + M⁻¹(rest) is the proximal method of multipliers: where rows depend on one another, w ends next to where
        it began. ``near``: sizes of a z and w that are near the solution; where that is 0, what is left has no other
        measure.
        """
        keep = self.d > 0
        w, c = torch.where(keep, w, 0.0), torch.where(keep, c, 0.0)
        best: tuple[Tensor, ...] = z, w, a, c
        a_size, c_size, eps = largest(a), largest(c), torch.finfo(z.dtype).eps
        least = change = a_size.new_full((), torch.inf)
        rest: Tensor | None = None
        for iteration in range(REFINEMENTS):
            qz = times(self.system.q, z)
            ra = a - qz - times(self.system.c.mT, w)
            rc = torch.where(keep, c - times(self.system.c, z), 0.0)
            if iteration >= UNSEEN:
                force = torch.maximum(a_size, torch.maximum(largest(qz), largest(w)))
                room = torch.maximum(c_size, largest(z))
                # The rounding of a moves z along the rows by eps a/D at least, that of c moves w by eps c.
                force, room = torch.maximum(force, eps * room), torch.maximum(room, force / HARD)
                if near is not None:
                    room, force = torch.maximum(room, near[0]), torch.maximum(force, near[1])
                force, room = force.clamp(min=TINY), room.clamp(min=TINY)
                norm = torch.maximum(largest(ra) / force, largest(rc) / room)
                resting = (norm >= 0.5 * least) & (norm <= eps**0.5)
                better = (norm < least).unsqueeze(-1)
                best = tuple(torch.where(better, x, y) for x, y in zip((z, w, ra, rc), best, strict=True))
                least = torch.minimum(norm, least)
                done = (norm <= ROUNDING * eps) | resting
                if bool(done.all()):
                    break
                # What no (z, w) reaches stays: the rest is watched for its change, once it has gone from a over to c.
                moved = torch.cat([ra / force.unsqueeze(-1), rc / room.unsqueeze(-1)], -1)
                before, change = change, change if rest is None else largest(moved - rest)
                rest, stalled = moved, (change >= 0.5 * before) & before.isfinite()
                if iteration > 3 and bool((done | stalled).all()):
                    break
            dz, dw = self.solve(ra, rc)
            z, w = z + dz, w + dw
        return best  # type: ignore[return-value]


class Normal(Factor):
    """(Q + Cᵀ D C) z = a + Cᵀ D c, w = D (C z − c)."""

    def __init__(self, system: System, d: Tensor):
        super().__init__(system, d)
        c = system.c
        self.lower = torch.linalg.cholesky_ex(system.shifted + (c.mT * d.unsqueeze(-2)) @ c)[0]

    @property
    def least(self) -> Tensor:
        return _least(self.lower)

    def solve(self, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.cholesky_solve((a + times(self.system.c.mT, self.d * c)).unsqueeze(-1), self.lower).squeeze(-1)
        return z, self.d * (times(self.system.c, z) - c)


class Thin(Factor):
    """(I + D^½ C Q⁻¹ Cᵀ D^½) D^-½ w = D^½ (C Q⁻¹ a − c), z = Q⁻¹(a − Cᵀ w)."""

    def __init__(self, system: System, d: Tensor):
        super().__init__(system, d)
        self.root = root = d.sqrt()
        matrix = system.gram * (root.unsqueeze(-1) * root.unsqueeze(-2))
        matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
        self.lower = torch.linalg.cholesky_ex(matrix)[0]

    @property
    def least(self) -> Tensor:
        return _least(self.system.factor_q).expand(len(self.d))  # of Q itself

    def solve(self, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        w = self.multipliers(times(self.system.back.mT, a) - c)
        return self.system.solve_q(a) - times(self.system.back, w), w

    def multipliers(self, right: Tensor) -> Tensor:
        """w = (1/D + C Q⁻¹ Cᵀ)⁻¹ right."""
        return self.root * torch.cholesky_solve((self.root * right).unsqueeze(-1), self.lower).squeeze(-1)


class Whole(Factor):
    """The system itself by LU: where Q is definite, a curvature of 1e-10 survives, which Q + Cᵀ D C rounds away."""

    def __init__(self, system: System, d: Tensor, q: Tensor):
        super().__init__(system, d)
        self.keep = d > 0
        c = torch.where(self.keep.unsqueeze(-1), system.c, 0.0)
        corner = torch.diag_embed(torch.where(self.keep, -1 / d, -1.0))
        upper = torch.cat([q.expand(len(d), *q.shape[-2:]), c.mT], -1)
        self.lu = torch.linalg.lu_factor_ex(torch.cat([upper, torch.cat([c, corner], -1)], -2))[:2]

    @property
    def least(self) -> Tensor:
        return Normal(self.system, self.d).least

    def solve(self, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        right = torch.cat([a, torch.where(self.keep, c, 0.0)], -1)
        z, w = torch.linalg.lu_solve(*self.lu, right.unsqueeze(-1)).squeeze(-1).split([a.shape[-1], c.shape[-1]], -1)
        return z, torch.where(self.keep, w, 0.0)


class Condensed:
    """The programs of a thin system without z = −Q⁻¹(q + Cᵀ w): what is left is −C Q⁻¹ Cᵀ w + s = d + C Q⁻¹ q."""

    def __init__(self, system: System):
        self.system = system

    def image(self, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return z, -times(self.system.gram, w)

    def factor(self, d: Tensor) -> CondensedFactor:
        return CondensedFactor(Thin(self.system, d))


class CondensedFactor:
    """(1/D + C Q⁻¹ Cᵀ) w = −c, beside a z without entries."""

    def __init__(self, whole: Thin):
        self.whole = whole

    def solve(self, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return a, self.whole.multipliers(-c)


def _least(lower: Tensor) -> Tensor:
    """The least eigenvalue of L Lᵀ, about; a pivot alone may be larger than that many times over."""
    pivot = lower.diagonal(dim1=-2, dim2=-1).amin(-1).square()
    if bool((pivot > SURE).all()):
        return pivot
    eye = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device).expand(lower.shape)
    return 1 / torch.linalg.solve_triangular(lower, eye, upper=False).square().sum((-2, -1))


def largest(x: Tensor) -> Tensor:
    """max |x| of each element."""
    if not x.shape[-1]:
        return x.new_zeros(x.shape[:-1])
    return x.abs().amax(-1)  # a fourth of the time of torch.linalg.vector_norm(x, torch.inf)
