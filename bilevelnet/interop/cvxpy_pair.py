"""A recognised problem: solved as a Bregman proximal problem by the solvers of the library."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..closed_forms.plan import ClosedFormMap
from ..domains import Interval
from ..errors import InputError
from ..maps import Map
from ..problem import Prox, anchor
from ..solution import INFEASIBLE, INVALID, KINK, squeeze, worst
from ..solvers import registry
from ..values import extremes, readable
from .cvxpy_match import Match
from .cvxpy_sets import infeasible
from .cvxpy_values import Values


class PairSolver:
    """z = argmin φ(z) + g(z) − ⟨z, v⟩ by the first of ``solvers`` that takes it; all from the parameters."""

    def __init__(self, match: Match, solvers: tuple[str, ...]):
        self.match, self.n = match, match.n
        self.map: Map = _bound(self.match, solvers)
        self.name = self.map.name
        self.prox = Prox(self.match.phi, self.match.g)
        # The map where ∇ψ takes every value: what fails shows in z or in u = ∇φ(z).
        closed = isinstance(self.map, ClosedFormMap) and self.map.psi.dual_domain == Interval()
        self.onto: Any = self.map if closed else None

    def solve(self, values: Values, full: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """(z, status, the residual where ``full``) of each element."""
        match = self.match
        v = match.v.at(values)
        if v.shape != (shape := (*values.batch, self.n)):
            v = v.expand(shape)
        match.pieces.place(values)
        blocks = match.pieces.blocks
        v = v if blocks is None else blocks.fold(v)
        try:
            z, status, given = self._solved(v)
            residual = None
            if full:
                with torch.no_grad():
                    found = given() if given is not None else self.prox.residual(z, match.phi.grad(z), v)
                    residual = torch.linalg.vector_norm(found.flatten(len(values.batch)), dim=-1)
        finally:
            match.pieces.clear()
        if blocks is not None:
            z, status = blocks.unfold(z), squeeze(worst(status, (-1,)), (-1,))
        z = z if match.move is None else match.move.back(z)
        missed = infeasible(match.sets.infeasible, values)
        if missed is not None:
            status = torch.where(missed, INFEASIBLE, status)
        return z, status, residual

    def flat(self, values: Values) -> Tensor | None:
        """The elements in which a weight of φ is 0, None where it is in none: there φ is not strictly convex."""
        masks = [(w.at(values).detach() <= 0).any(-1) for w in self.match.degenerate]
        if not masks:
            return None
        mask = torch.stack(torch.broadcast_tensors(*masks)).any(0)
        return mask if not readable(mask) or bool(mask.any()) else None

    def _solved(self, v: Tensor) -> tuple[Tensor, Tensor, Callable[[], Tensor] | None]:
        """(z, status, the residual as far as the solver knows it better)."""
        bound, given = self.map, None
        if bound.direct:
            if (sound := self._sound(v)) is not None:
                return sound, v.new_zeros(v.shape[:-1], dtype=torch.int8), None
            status = worst(bound.status(v).broadcast_to(v.shape), (-1,))
            z = bound.primal(torch.where(status > KINK, anchor(self.match.phi, v), v))
        else:
            found = bound.solve(v)
            z, u, status = found.z, found.dual, worst(found.status.broadcast_to(v.shape), (-1,))
            given = found.residual
            if given is None and u is not None:
                given = partial(self.prox.residual, z, u, v)
        status = squeeze(status, (-1,))
        return z, torch.where((status <= KINK) & ~z.isfinite().all(-1), INVALID, status), given

    def _sound(self, v: Tensor) -> Tensor | None:
        """z where one look tells that every element is solved: at v, and at z and u where weights may be NaN."""
        if not (readable(v) and _finite(v)):
            return None
        if self.map.whole:
            return self.map.primal(v)
        if self.onto is None:
            return None
        z, u = self.onto.point(v)
        return z if readable(z, u) and _finite(z, u) else None

    def explain(self) -> str:
        blocks = self.match.pieces.blocks
        each = "" if blocks is None else f"{blocks.count} times {blocks.width} entries, each "
        return f"{each}{self.match.phi.label} + {self.match.g.label}: {self.map.explain()}"


def _finite(*tensors: Tensor) -> bool:
    return all(-math.inf < low and high < math.inf for low, high in extremes(*tensors))


def _bound(match: Match, solvers: tuple[str, ...]) -> Map:
    reasons = []
    for name in solvers:
        try:
            return registry[name]().bind(match.phi, match.g)
        except InputError as refusal:
            reasons.append(f"not {name}: {refusal}")
    raise InputError("; ".join(reasons))
