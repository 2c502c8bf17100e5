"""φ and g of a layer read from a problem: what is learned in them becomes a Parameter of a piece."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import regularizers
from ..errors import InputError
from ..regularizers import Regularizer, Zero
from .cvxpy_atoms import add
from .cvxpy_form import Formed
from .cvxpy_match import PARTIAL, Match
from .cvxpy_parts import Parts
from .cvxpy_pieces import Pieces
from .cvxpy_quantity import Quantity, total
from .cvxpy_read import Reading, Term
from .cvxpy_sets import Sets
from .cvxpy_values import Parameters, Values


class LearnedPieces(Pieces):
    """Makes pieces whose weights are numbers, tensors, or c θ_k as a Parameter that starts there."""

    def __init__(self, parameters: Parameters, start: list[Tensor], trial: list[Tensor], width: int):
        super().__init__(parameters)
        self.parameters, self.start, self.trial, self.width = parameters, start, trial, width
        self.used: set[int] = set()

    def make(self, cls: Any, fixed: dict[str, Any] | None = None, **weights: Quantity) -> Any:
        return cls(**(fixed or {}), **{name: self._weight(q, f"{cls.__name__}.{name}") for name, q in weights.items()})

    def shifted(self, g: Regularizer, shift: Quantity) -> Regularizer:
        return g if shift.is_number(0.0) else g.translate(self._weight(shift, f"the shift of {g.label}"))

    def composed(self, g: Regularizer, matrix: Any) -> Regularizer:
        return g if matrix is None else g.precompose(torch.from_numpy(matrix.toarray()))

    def _weight(self, q: Quantity, what: str) -> float | Tensor:
        number = q.number
        if number is not None:
            return number
        if q.fixed is not None:
            return q.fixed
        k, ratio = self._source(q, what)
        name = self.parameters.names[k]
        if k in self.used:
            raise InputError(f"{name} enters twice, at last as {what}: a layer learns each weight by itself")
        self.used.add(k)
        if self.parameters.parameters[k].value is None:
            raise InputError(f"{name} has no value: set {name}.value, from which {what} is learned")
        start = ratio * self.start[k]
        return nn.Parameter(start.squeeze(-1) if self.parameters.parameters[k].ndim == 0 else start)

    def _source(self, q: Quantity, what: str) -> tuple[int, float]:
        """(k, c) where q = c θ_k."""
        ratios = []
        for values in (self.start, self.trial):
            leaves = [t.clone().requires_grad_() for t in values]
            point = torch.rand(self.width, dtype=torch.float64).add(0.1).requires_grad_()
            found = q.at(Values([*leaves, point], (), point))
            *by_weight, by_point = torch.autograd.grad(found.sum(), [*leaves, point], allow_unused=True)
            if by_point is not None and bool(by_point.any()):
                raise InputError(f"{what} depends on z⁻: only f and D may")
            involved = [k for k, g in enumerate(by_weight) if g is not None and bool(g.any())]
            if len(involved) != 1:
                raise InputError(f"{what} depends on several learned parameters: make it one parameter")
            k = involved[0]
            ratios.append((found / leaves[k]).detach().flatten())
        both = torch.cat(ratios)
        if not bool((both - both[0]).abs().max() <= 1e-12 * both[0].abs()):  # sums and products of numbers, rounded
            raise InputError(f"{what} is no multiple of {self.parameters.names[k]}: make it the parameter")
        return k, float(both[0])


class LayerMatch(Match):
    """φ and g of a Reading: φ from the terms that hold z⁻, or from all where none does.

    ``residual``: whether one does. ``v`` is the sum of r, what these terms say of it, and of ``linear``, what the
    others do.
    """

    def __init__(self, reading: Reading, pieces: LearnedPieces):
        self.n, self.pieces, self.sets = reading.n, pieces, Sets(reading)
        self.degenerate, self.terms = [], []
        own, rest = Parts(reading.n), Parts(reading.n)
        for term in reading.objective.terms:
            add(own if _holds_point(term) else rest, term)
        self.residual = any(map(_holds_point, reading.objective.terms))
        if self.residual:
            if own.kinks or own.hubers or own.groups or own.largest or own.variation or own.composed:
                raise InputError("a norm or a Huber function of z − z⁻ is no Bregman divergence: D is one")
            self.phi = self._legendre(own)
            self._smooth(rest)
        else:
            self.phi = self._legendre(rest)
        self.r, self.linear = -own.slope, -rest.slope
        self.v = self.r + self.linear
        self._norms(rest)
        self._constraints()
        self.g: Regularizer = Zero() if not self.terms else sum(self.terms[1:], self.terms[0])

    def _smooth(self, rest: Parts) -> None:
        """Squares and entropies beside D are terms of g."""
        if rest.squares:
            self.terms.append(self.pieces.make(regularizers.SquaredL2, lam=rest.curvature))
        for name, found in rest.entropies.items():
            if name not in PARTIAL:
                raise InputError(f"no g of the catalogue is the entropy {name}")
            self.terms.append(self.pieces.make(PARTIAL[name], lam=total(found)))
            if name == "x log x":  # z log z = (z log z − z) + z
                rest.linear.append(total(found))


def _holds_point(term: Term) -> bool:
    return any(isinstance(r.offset, Formed) and r.offset.moves for r in term.arguments)
