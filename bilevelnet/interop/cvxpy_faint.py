"""Elements of a batch of quadratic programs whose condition costs digits: solved again by QR, and differentiated."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..numerics.kkt import System
from ..numerics.kkt_scaling import Scaled
from ..numerics.kkt_solution import solution
from ..values import tracked
from .cvxpy_eliminate import Moved, Program
from .cvxpy_face import Face, Root, search


class Again(NamedTuple):
    """Of each element x, w, and by how much x may be off: ∞ where none was found."""

    x: Tensor
    w: Tensor
    error: Tensor


def again(whole: Program, small: Program, moved: Moved, index: Tensor, held: Tensor, x: Tensor) -> Again:
    """The elements ``index`` of ``small``, which is ``whole`` with z = S x + e, from the rows ``held`` and x on."""
    one = _Elements(small, index)
    roots = _roots(whole, moved, one, index)
    near = zip(roots, held.cpu().numpy(), x.detach().cpu().numpy(), strict=True)
    found = [search(*given) for given in near]
    n, r = one.q.shape[-1], one.d.shape[-1]
    lost = np.full(n, np.nan), np.full(r, np.nan), np.zeros(r, bool), np.full(n, np.inf)
    x, w, rows, error = (
        torch.from_numpy(np.array([f[k] for f in (g or lost for g in found)]).reshape(len(found), size))
        for k, size in enumerate((n, r, r, n))
    )
    if tracked(one.P, one.q, one.C, one.d):
        unit = x.new_ones(1, 1)
        known = Scaled(Faces(roots, rows), unit, unit, unit)
        right = torch.where(rows, one.d, 0.0)
        x, w = solution(-one.q, right, one.P, one.C, rows, x.nan_to_num(), w.nan_to_num(), known)
    return Again(x, w, error)


class _Elements:
    """P, q, C = [A; G] and d = (b, h) of some elements, each with one batch dimension."""

    def __init__(self, p: Program, index: Tensor):
        batch = p.q.shape[:-1]

        def some(t: Tensor, events: int) -> Tensor:
            event = t.shape[-events:]
            return t.expand(*batch, *event).reshape(batch.numel(), *event).index_select(0, index)

        self.P, self.q = some(p.P, 2), some(p.q, 1)
        self.C = torch.cat([some(p.A, 2), some(p.G, 2)], -2)
        self.d = torch.cat([some(p.b, 1), some(p.h, 1)], -1)
        self.p = p.b.shape[-1]


def _roots(whole: Program, moved: Moved, one: _Elements, index: Tensor) -> list[Root]:
    """In the units of x and of the objective of ``small``."""
    batch = whole.q.shape[:-1]

    def each(t: Tensor, events: int) -> np.ndarray:
        event = t.shape[-events:]
        return np.asarray(
            t.detach().expand(*batch, *event).reshape(batch.numel(), *event).index_select(0, index).cpu().numpy()
        )

    size = each(moved.size, 1)
    parts = each(whole.P, 2), each(moved.S, 2) / size[..., None], each(moved.e, 1) / size, each(whole.q, 1) / size
    rows = (t.detach().cpu().numpy() for t in (one.C, one.d))
    return [Root.of(P, (S, e, q), (C, d, one.p)) for P, S, e, q, C, d in zip(*parts, *rows, strict=True)]


class Faces(System):
    """The equations of the rows held, of each element by its own ``Face``."""

    def __init__(self, roots: list[Root], held: Tensor):
        self.faces = [Face(root, rows.numpy()) for root, rows in zip(roots, held, strict=True)]

    def exact(self, d: Tensor) -> Any:
        return self

    def refine(self, a: Tensor, c: Tensor, *start: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(z, w) of M'M z + C'w = a, C z = c, and nothing left."""
        right = zip(self.faces, a.cpu().numpy(), c.cpu().numpy(), strict=True)
        found = [f.solve(left, level, np.zeros(len(f.M)), np.zeros(len(left))) for f, left, level in right]
        z, w = (torch.from_numpy(np.array([f[k] for f in found])).to(a) for k in (0, 1))
        return z, w, torch.zeros_like(z), torch.zeros_like(w)
