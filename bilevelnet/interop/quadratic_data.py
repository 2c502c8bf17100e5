"""The arguments of a quadratic program, checked, in float64 and in one batch shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..numerics.kkt import PROXIMAL
from ..solution import Solution
from ..solvers.program import Program, spread
from ..values import check_floating, extremes, readable

SHAPES = {"Q": "(…, n, n)", "q": "(…, n)", "A": "(…, p, n)", "b": "(…, p)", "G": "(…, m, n)", "h": "(…, m)"}


@dataclass
class Data(Program):
    """The program min ½ zᵀQz + qᵀz, A z = b, G z ≤ h with C = [A; G], d = (b, h), and the dtype of its answer."""

    dtype: torch.dtype

    def start(self, init: Solution | Tensor | None) -> Tensor | None:
        """(z, w) of ``init``, the multipliers 0 where it has none."""
        if init is None:
            return None
        if not isinstance(init, (Solution, Tensor)):
            raise InputError(f"init is a {type(init).__name__}; give a nearby Solution, or its z")
        z, known = (init.z, init.multipliers) if isinstance(init, Solution) else (init, {})
        if z.shape != self.q.shape:
            raise InputError(f"init has shape {tuple(z.shape)}, the solution {tuple(self.q.shape)}")
        parts = [known[k] for k in ("equality", "inequality") if k in known]
        w = torch.cat(parts, -1) if parts else self.d.new_zeros(self.d.shape)
        if w.shape != self.d.shape:
            raise InputError(f"init has multipliers of shape {tuple(w.shape)}, the program {tuple(self.d.shape)}")
        return torch.cat([z, w], -1).detach().double().nan_to_num(0.0, 0.0, 0.0)


def given(Q: Tensor, q: Tensor, A: Tensor | None, b: Tensor | None, G: Tensor | None, h: Tensor | None) -> Data:
    """The Data of the arguments; InputError names the one that does not fit."""
    arguments = {"Q": Q, "q": q, "A": A, "b": b, "G": G, "h": h}
    for left, right in (("A", "b"), ("G", "h")):
        if (arguments[left] is None) != (arguments[right] is None):
            absent, present = (left, right) if arguments[left] is None else (right, left)
            raise InputError(f"{present} is given without {absent}: give both of {left} and {right}, or neither")
        if _none(arguments[left]) and _none(arguments[right]):  # qpth's way of saying that there are no rows
            arguments[left] = arguments[right] = None
    some = {name: t for name, t in arguments.items() if t is not None}
    for name, t in some.items():
        check_floating(t, name)
    n = q.shape[-1] if q.ndim else 0
    batch = _check_shapes(some, n)
    dtype = _promoted(some)
    _check_values(some)
    rows = {}
    for left, right in (("A", "b"), ("G", "h")):
        matrix, vector = some.get(left), some.get(right)
        rows[left] = q.new_zeros(0, n).double() if matrix is None else spread(matrix.double(), batch)
        rows[right] = q.new_zeros(0).double() if vector is None else vector.double()
    p = rows["A"].shape[-2]
    whole = spread(_semidefinite(Q.double(), dtype), batch)
    c = _stacked(rows["A"], rows["G"])
    linear = q.double().expand(*batch, n)
    d = torch.cat([rows[k].expand(*batch, rows[k].shape[-1]) for k in ("b", "h")], -1)
    good = torch.ones(batch, dtype=torch.bool, device=q.device)
    if not readable(*some.values()):
        for t, events in ((whole, 2), (linear, 1), (c, 2), (d, 1)):
            good = good & t.detach().isfinite().flatten(-events).all(-1)
        keep = good.unsqueeze(-1)
        linear, d = torch.where(keep, linear, 0.0), torch.where(keep, d, 0.0)
        whole, c = (torch.where(t.detach().isfinite(), t, 0.0) for t in (whole, c))
    return Data(whole, linear, c, d, p, good, dtype)


def _semidefinite(Q: Tensor, dtype: torch.dtype) -> Tensor:
    """Q, or where that is not positive semidefinite Q + n eps diag Q, eps of ``dtype``: of the size of its rounding.

    An entry of L Lᵀ is rounded by about eps (Q_ii Q_jj)^½, like a random number, and such symmetric matrices have norm
    2 √n (Wigner): in units with Q_ii = 1 an eigenvalue of 0 comes out as −n eps at least, with a √n for the sums.
    """
    if dtype == torch.float64:  # PROXIMAL is more than that
        return Q
    with torch.no_grad():
        diagonal = torch.diagonal(Q, dim1=-2, dim2=-1).clamp(min=0)
        failed = torch.linalg.cholesky_ex((Q + Q.mT) / 2 + torch.diag_embed(PROXIMAL * diagonal))[1]
        share = torch.where(failed > 0, Q.shape[-1] * torch.finfo(dtype).eps, 0.0)
    return Q + torch.diag_embed(share.unsqueeze(-1) * diagonal)


def _none(t: Tensor | None) -> bool:
    return t is None or (isinstance(t, Tensor) and t.shape[-1:] == (0,))


def _check_shapes(some: dict[str, Tensor], n: int) -> torch.Size:
    """The batch shape."""
    rows: dict[str, int] = {}
    for name, t in some.items():
        events = 2 if name in "QAG" else 1
        fits = t.ndim >= events and n > 0
        if fits:
            own = {"Q": n, "q": n}.get(name)
            own = rows.setdefault("A" if name in "Ab" else "G", t.shape[-events]) if own is None else own
            fits = tuple(t.shape[-events:]) == ((own, n) if events == 2 else (own,))
        if not fits:
            shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in some.items())
            raise InputError(f"{name} does not fit: {name} is {SHAPES[name]}, with n >= 1 entries in q; given {shapes}")
    try:
        return torch.broadcast_shapes(*(t.shape[: -2 if k in "QAG" else -1] for k, t in some.items()))
    except RuntimeError:
        shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in some.items())
        raise InputError(f"the leading dimensions do not broadcast: {shapes}") from None


def _promoted(some: dict[str, Tensor]) -> torch.dtype:
    dtype = some["q"].dtype
    for name, t in some.items():
        dtype = torch.promote_types(dtype, t.dtype)
        if t.device != some["q"].device:
            raise InputError(f"{name} is on {t.device}, q on {some['q'].device}: move it with .to(q.device)")
    return dtype


def _check_values(some: dict[str, Tensor]) -> None:
    filled = {name: t for name, t in some.items() if t.numel()}
    if not filled or not readable(*filled.values()):
        return
    for name, ends in zip(filled, extremes(*filled.values()), strict=True):
        if not all(map(math.isfinite, ends)):
            remedy = "; leave out a row without a bound, or make it 0·z ≤ 1" if name in "Gh" else ""
            raise InputError(f"{name} holds NaN or infinite values: mask or mend them first{remedy}")


def _stacked(a: Tensor, g: Tensor) -> Tensor:
    if not a.shape[-2] or not g.shape[-2]:
        return g if g.shape[-2] else a
    batch = (a if a.ndim >= g.ndim else g).shape[:-2]
    return torch.cat([t.expand(*batch, *t.shape[-2:]) for t in (a, g)], -2)
