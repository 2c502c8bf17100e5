"""Parts and sets as a Bregman proximal problem: argmin φ(z) + g(z) − ⟨z, v⟩ with φ and g of the catalogue."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch

from .. import legendre, regularizers
from ..errors import InputError
from ..legendre import Legendre
from ..regularizers import Regularizer, Zero
from .cvxpy_atoms import add
from .cvxpy_blocks import Blocks
from .cvxpy_join import apart, joined
from .cvxpy_move import Move
from .cvxpy_parts import Composed, Group, Parts
from .cvxpy_pieces import Pieces
from .cvxpy_quantity import Quantity, total
from .cvxpy_read import Reading
from .cvxpy_sets import Sets
from .cvxpy_smooth import Exponential, Logistic, LogSumExp
from .cvxpy_values import Parameters

COMPOSED = {
    "abs": regularizers.L1,
    "square": regularizers.SquaredL2,
    "norm": regularizers.L2Norm,
    "largest": regularizers.LinfNorm,
    "huber": regularizers.Huber,
    "logistic": Logistic,
    "exp": Exponential,
    "log_sum_exp": LogSumExp,
}


PARTIAL = {"x log x": regularizers.NegEntropy, "burg": regularizers.LogBarrier}


class Match:
    """φ, g and v of a reading; InputError says what has no place in them."""

    def __init__(self, reading: Reading, parameters: Parameters):
        self.n, self.move = reading.n, Move.of(reading)
        if self.move is not None:
            reading = self.move.reading(reading)
        parts = Parts(reading.n)
        for term in reading.objective.terms:
            add(parts, term)
        parts.linear.append(reading.objective.rows.offset)
        self.pieces, self.sets = Pieces(parameters), Sets(reading)
        self.degenerate: list[Quantity] = []  # weights that must be above 0
        self.terms: list[Regularizer] = []
        if all(self._everywhere(total(found)) for found in parts.entropies.values()):
            self.pieces.blocks = Blocks.of(self.sets, parts)
        self.phi = self._legendre(parts)
        self.v = -parts.slope
        self._norms(parts)
        self._constraints()
        self.g: Regularizer = Zero() if not self.terms else sum(self.terms[1:], self.terms[0])

    def _legendre(self, parts: Parts) -> Legendre:
        every = {name: total(found) for name, found in parts.entropies.items()}
        weights = {name: w for name, w in every.items() if self._everywhere(w)}
        square = parts.curvature if parts.squares else None
        for name in set(every) - set(weights):
            self._partial(name, every[name], parts)
        names = set(weights)
        if not names:
            if square is None or not self._everywhere(square):
                raise InputError("no entropy and no square covers every entry: the objective is not strictly convex")
            self.degenerate += [square] if square.fixed is None else []
            return self.pieces.make(legendre.Energy, scale=square)  # type: ignore[no-any-return]
        self.degenerate += [w for w in weights.values() if w.fixed is None]
        if square is not None:
            self.terms.append(self.pieces.make(regularizers.SquaredL2, lam=square))
        if names == {"x log x", "mirror"}:
            first = weights["x log x"]
            if not (first - weights["mirror"]).is_number(0.0):
                raise InputError("entropies of x and 1 − x with different weights")
            return self.pieces.weighted(legendre.FermiDirac(), first)
        if "x log x" in names and names <= {"x log x", "burg"}:
            if "burg" in names:
                self.terms.append(self.pieces.make(regularizers.LogBarrier, lam=weights["burg"]))
            parts.linear.append(weights["x log x"])  # z log z = φ(z) + z
            return self.pieces.weighted(legendre.BoltzmannShannon(), weights["x log x"])
        single = {"burg": legendre.Burg, "exp": legendre.Exponential, "hellinger": legendre.Hellinger}
        if len(names) == 1 and names <= set(single):
            (name,) = names
            return self.pieces.weighted(single[name](), weights[name])
        raise InputError(f"no φ of the catalogue is the sum of {', '.join(sorted(names))}")

    def _everywhere(self, weight: Quantity) -> bool:
        """Whether no entry has the weight 0 at all parameters, nor a negative number."""
        least = weight.at(self.pieces.sample) if weight.fixed is None else weight.fixed.clamp(min=0)
        return bool((least != 0).all())

    def _partial(self, name: str, weight: Quantity, parts: Parts) -> None:
        """An entropy of some of the entries: a term of g behind the map that takes these."""
        if name not in PARTIAL:
            raise InputError(f"{name} of some of the entries only")
        index = np.flatnonzero(weight.at(self.pieces.sample).expand(self.n).numpy())
        own = weight.take(index)
        body = self.pieces.make(PARTIAL[name], lam=own)
        self.terms.append(self.pieces.composed(body, sp.csr_array(np.eye(self.n)[index])))
        if name == "x log x":  # z log z = (z log z − z) + z
            parts.linear.append(own.spread(index, self.n))

    def _norms(self, parts: Parts) -> None:
        make, shifted = self.pieces.make, self.pieces.shifted
        self.terms += [shifted(make(regularizers.L1, lam=w), t) for w, t in joined(parts.kinks, self.n)]
        for weight, threshold, shift in parts.hubers:
            self.terms.append(shifted(make(regularizers.Huber, lam=weight, delta=threshold), shift))
        for kind, e, weight in parts.smooth:
            lam, rate = parts.spread(e, weight), parts.spread(e, Quantity(e.scale), 1.0)
            self.terms.append(shifted(make(COMPOSED[kind], lam=lam, rate=rate), parts.spread(e, e.shift)))
        if parts.variation:
            self.terms.append(make(regularizers.TV1d, lam=total(parts.variation)))
        for g in parts.largest:
            self.terms.append(shifted(make(regularizers.LinfNorm, lam=g.weight), g.shift))
        self.terms += [self._groups(some) for some in apart(parts.groups)]
        self.terms += [self._composed(c) for c in parts.composed]

    def _groups(self, groups: list[Group]) -> Regularizer:
        make, shift = self.pieces.make, total([g.shift for g in groups])
        if len(groups) == 1 and len(groups[0].index) == self.n:
            return self.pieces.shifted(make(regularizers.L2Norm, lam=groups[0].weight), shift)
        indices = [tuple(g.index.tolist()) for g in groups]
        weight = side_by_side([g.weight for g in groups], [1] * len(groups))
        return self.pieces.shifted(make(regularizers.GroupLasso, {"groups": indices}, lam=weight), shift)

    def _composed(self, c: Composed) -> Regularizer:
        weights = {"lam": c.weight} if c.more is None else {"lam": c.weight, "delta": c.more}
        body = self.pieces.make(COMPOSED[c.kind], None, **weights)
        matrix = c.rows.matrix if c.rows.moving is None else c.rows.moving.matrix
        return self.pieces.composed(self.pieces.shifted(body, -c.rows.offset), matrix)

    def _constraints(self) -> None:
        make, sets = self.pieces.make, self.sets
        lower, upper = self._ends()
        for b in sets.balls:
            cls = {"norm": regularizers.L2Ball, "abs": regularizers.L1Ball}[b.kind]
            moved = self.pieces.shifted(make(cls, radius=b.radius), b.shift)
            self.terms.append(self.pieces.composed(moved, b.matrix))
            if b.matrix is None:
                far = partial(_beyond, 2.0 if b.kind == "norm" else 1.0, self.phi.domain)
                sets.exclude(b.radius.map(far, b.shift, sets.lower, sets.upper))
        for rows in sets.inequalities:
            self.terms.append(self.pieces.composed(make(regularizers.Box, hi=-rows.offset), rows.matrix))
        if sets.equations:
            lower, upper = self._equations(lower, upper)
        ends = {name: q for name, q in (("lo", lower), ("hi", upper)) if q is not None}
        if list(ends) == ["lo"] and ends["lo"].is_number(0.0):
            self.terms.append(regularizers.Nonneg())
        elif ends:
            self.terms.append(make(regularizers.Box, None, **ends))

    def _ends(self) -> tuple[Quantity | None, Quantity | None]:
        """The ends that are constraints inside dom φ."""
        domain, lower, upper = self.phi.domain, self.sets.lower, self.sets.upper
        low = lower.fixed is not None and bool((lower.fixed <= domain.lo).all())
        high = upper.fixed is not None and bool((upper.fixed >= domain.hi).all())
        return None if low else lower, None if high else upper

    def _equations(self, lower: Quantity | None, upper: Quantity | None) -> tuple[Quantity | None, Quantity | None]:
        """The equations as a term, and the ends that it leaves."""
        make, sets = self.pieces.make, self.sets
        level = side_by_side([-r.offset for r in sets.equations], [r.matrix.shape[0] for r in sets.equations])
        blocks = self.pieces.blocks
        if blocks is None:
            a, level = self._independent(np.concatenate([r.matrix.toarray() for r in sets.equations]), level)
        else:
            a, level = blocks.a[None], level / Quantity(blocks.first)
        positive = self.phi.domain.lo == 0 if lower is None else lower.is_number(0.0)
        if len(a) == 1 and np.ptp(a) == 0 and positive:
            radius = level / Quantity(float(a[0, 0]))
            sets.exclude(radius.map(lambda r: r < 0))
            if upper is None:  # or dom φ states it
                self.terms.append(make(regularizers.Simplex, radius=radius))
                return None, None
            if upper.number is not None:
                most = a.shape[1] * upper.number
                sets.exclude(radius.map(lambda r: r > most))
                self.terms.append(make(regularizers.CappedSimplex, radius=radius, cap=upper))
                return None, None
        coefficients = tuple(a[0].tolist()) if len(a) == 1 else tuple(map(tuple, a.tolist()))
        self.terms.append(make(regularizers.AffineSet, {"a": coefficients}, b=level))
        if len(a) == 1:
            sets.exclude(level.map(partial(_out_of_reach, torch.from_numpy(a[0]), blocks), sets.lower, sets.upper))
        return lower, upper

    def _independent(self, a: np.ndarray, level: Quantity) -> tuple[np.ndarray, Quantity]:
        """Rows of a x = level that imply the others; what these say of the levels alone is a condition."""
        _, upper, order = scipy.linalg.qr(a.T, mode="economic", pivoting=True)
        size = np.abs(np.diag(upper))
        rank = int((size > 1e-12 * size[0]).sum())  # rounding of sums of a few hundred terms
        if rank == len(a):
            return a, level
        kept, left = np.sort(order[:rank]), np.sort(order[rank:])
        ratio = torch.from_numpy(np.linalg.lstsq(a[kept].T, a[left].T, rcond=None)[0].T)
        self.sets.exclude(level.take(left).map(partial(_contradicts, ratio, self.n), level.take(kept)))
        return a[kept], level.take(kept)


def side_by_side(quantities: list[Quantity], widths: list[int]) -> Quantity:
    """Quantities of these widths as one."""
    first, *others = quantities

    def join(*tensors: torch.Tensor) -> torch.Tensor:
        batch = torch.broadcast_shapes(*(t.shape[:-1] for t in tensors))
        return torch.cat([t.expand((*batch, k)) for t, k in zip(tensors, widths, strict=True)], -1)

    return first.map(join, *others)


def _beyond(
    p: float, domain: Any, radius: torch.Tensor, centre: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor
) -> torch.Tensor:
    """Where no x within ``radius`` of ``centre`` lies between the ends and in dom φ."""
    gap = torch.maximum(lower.clamp(min=domain.lo) - centre, centre - upper.clamp(max=domain.hi)).clamp(min=0)
    distance = torch.linalg.vector_norm(gap, p, -1, keepdim=True)
    rounding = gap.shape[-1] * torch.finfo(gap.dtype).eps * (distance + centre.abs().amax(-1, keepdim=True))
    return distance > radius + rounding


def _contradicts(ratio: torch.Tensor, n: int, left: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Where levels differ from what the others imply, by more than the rounding of sums of n numbers."""
    ratio = ratio.to(left)
    slack = n * torch.finfo(left.dtype).eps * (kept.abs() @ ratio.abs().mT + left.abs())
    return (left - kept @ ratio.mT).abs() > slack


def _out_of_reach(
    a: torch.Tensor, blocks: Blocks | None, b: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor
) -> torch.Tensor:
    """Where ⟨a, x⟩ = b for no x between the ends, of each of the blocks."""
    a = a.to(b)
    if blocks is not None:
        return _out_of_reach(a, None, *map(blocks.fold, (b, lower, upper))).squeeze(-1)
    ends = [torch.where(a != 0, a * end, 0.0) for end in (lower, upper)]
    below, above = torch.minimum(*ends), torch.maximum(*ends)
    eps = (1 + len(a)) * torch.finfo(b.dtype).eps  # the sums are rounded
    low, high = (t.sum(-1, keepdim=True) for t in (below, above))
    wide, broad = (eps * (t.abs().sum(-1, keepdim=True) + b.abs()) for t in (below, above))
    return (b < low - wide) | (b > high + broad)
