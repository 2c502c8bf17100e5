"""Random quadratic programs of every kind that an interior point finds hard, in any units, with their exact scaling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

F64 = torch.float64
KINDS = ("definite", "rank", "linear", "degenerate", "redundant", "pinned", "cone", "epigraph")


class Drawn(NamedTuple):
    """(Q, q, A, b, G, h) of two elements, and the same in other units: Q s_f/s_z², …, whose z is s_z times as large."""

    kind: str
    plain: list[Tensor]
    scaled: list[Tensor]
    z_unit: float
    f_unit: float


@st.composite
def programs(draw: st.DrawFn, largest: int = 30) -> Drawn:
    """Of up to ``largest`` variables."""
    kind, n = draw(st.sampled_from(KINDS)), draw(st.integers(1, largest))
    p, m, rank = draw(st.integers(0, n // 2)), draw(st.integers(0, 3 * n)), draw(st.integers(0, n))
    touching = draw(st.floats(0.0, 0.7))  # the share of rows that hold with equality at the point inside
    exponents = [draw(st.floats(-6.0, 6.0)) for _ in range(4)]
    seed = draw(st.integers(0, 2**31))
    plain = program(kind, n, p, m, rank, touching, torch.Generator().manual_seed(seed))
    z_unit, f_unit, a_unit, g_unit = (10.0**e for e in exponents)
    units = (f_unit / z_unit**2, f_unit / z_unit, a_unit / z_unit, a_unit, g_unit / z_unit, g_unit)
    return Drawn(kind, plain, [t * u for t, u in zip(plain, units, strict=True)], z_unit, f_unit)


def program(kind: str, n: int, p: int, m: int, rank: int, touching: float, generator: torch.Generator) -> list[Tensor]:
    """A feasible and bounded one."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator, dtype=F64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(2, *shape, generator=generator, dtype=F64)

    rank = rank if kind == "rank" else 0 if kind == "linear" else n
    root, eye = normal(n, rank), torch.eye(n, dtype=F64).expand(2, n, n)
    Q = root @ root.mT / max(rank, 1) + (0.01 * eye if kind not in ("rank", "linear") else 0.0)
    q, A, G, inside = normal(n), normal(p, n), normal(m, n), normal(n)
    if kind in ("rank", "linear"):  # a box keeps the objective bounded
        G = torch.cat([G, eye, -eye], -2)
    if kind in ("cone", "epigraph"):
        inside = torch.zeros_like(inside)
    rows = G.shape[-2]
    room = uniform(rows) + 1e-3
    if kind == "degenerate":
        room = torch.where(uniform(rows) < touching, 0.0, room)
    if kind == "cone":
        room = torch.zeros_like(room)
    b, h = times(A, inside), times(G, inside) + room
    if kind == "redundant" and m:
        half = max(1, m // 2)
        G, h = torch.cat([G, G[:, :half], 2 * G[:, :1]], -2), torch.cat([h, h[:, :half], 2 * h[:, :1]], -1)
        A, b = (torch.cat([t, t[:, :1]], 1) for t in (A, b))
    if kind == "pinned" and m:  # an equation as two inequalities
        h = torch.cat([times(G, inside) + room * (torch.arange(m) > 0), -times(G[:, :1], inside)], -1)
        G = torch.cat([G, -G[:, :1]], -2)
    if (
        kind == "epigraph"
    ):  # ½zᵀQz + qᵀz + Σ |Gz|, z = 0 where q is small: more rows meet there than there are variables
        eye_m, none = torch.eye(m, dtype=F64).expand(2, m, m), torch.zeros(2, n + m, n + m, dtype=F64)
        none[:, :n, :n] = Q
        A = torch.cat([A, A.new_zeros(2, p, m)], -1)
        q = torch.cat([0.3 * q, torch.ones(2, m, dtype=F64)], -1)
        Q, G = none, torch.cat([torch.cat([G, -eye_m], -1), torch.cat([-G, -eye_m], -1)], -2)
        h = torch.zeros(2, 2 * m, dtype=F64)
    return [Q, q, A, b, G, h]


def times(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.unsqueeze(-1)).squeeze(-1)
