"""Layers given by a deep declarative node: an objective, constraints, and perhaps a way to solve."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from ..errors import InputError
from ..numerics.bracket import LIMIT, NONE
from ..numerics.newton import INDEFINITE
from ..numerics.root import HOPELESS
from ..solvers.newton import Newton
from .implicit import ImplicitLayer, Options, Shape
from .implicit_equation import SINGULAR
from .kkt import KKT
from .no_minimum import ENDLESS, NOWHERE

REASONS = {
    LIMIT: "no minimum was met within the iteration limit: give init= nearer to it, or raise max_iter of solver=",
    HOPELESS: "no minimum was met: f may have none, or the constraints no common point; else give init= nearer",
    NONE: "invalid: an input is NaN or infinite, or the node is where the search begins; give init= inside",
    SINGULAR: "invalid: at the solution the Hessian is singular along the constraints, or the gradients of those that "
    "are active are dependent: y has no derivative",
    NOWHERE: "infeasible: where the search ended, the violation of the constraints has a local minimum that is not 0; "
    "give init= nearer to a feasible point, if there is one",
    ENDLESS: "unbounded: the objective falls ever farther along the way of the search; add a constraint, or a term "
    "that grows",
    INDEFINITE: "invalid: the point is stationary but no minimum along the constraints; give init= nearer to one, "
    "or see that solve() gives one",
}


class DeclarativeLayer(ImplicitLayer):
    """argmin_y f(x, y) subject to h(x, y) = 0, g(x, y) ≤ 0, by the conditions of Karush, Kuhn and Tucker."""

    equation: KKT
    reasons = REASONS

    def start(self, xs: tuple[Tensor, ...], init: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        y = self._solved(xs) if init is None else None
        y = self.guess(xs, init if y is None else y)
        batch = y.shape[: self.batch_ndim]
        with torch.no_grad():
            count = sum(c.shape[-1] for c in self.equation.constraints(y, xs, batch))
        return torch.cat([self._flat(y), y.new_zeros(*batch, count)], -1), (y, *xs)

    def answer(self, w: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        like = inputs[0]
        return w[..., : self._flat(like).shape[-1]].reshape(like.shape)

    def multipliers(self, w: Tensor, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """ν and μ of f − ν·h + μ·g."""
        like, *xs = inputs
        batch, n = like.shape[: self.batch_ndim], self._flat(like).shape[-1]
        h, g = self.equation.constraints(self.answer(w, inputs), tuple(xs), batch)
        nu, mu = w[..., n:].split([h.shape[-1], g.shape[-1]], -1)
        return {k: m for k, m in (("equality", nu), ("inequality", mu)) if m.shape[-1]}

    def _solved(self, xs: tuple[Tensor, ...]) -> Tensor | None:
        """What the node's solve() gives, or None where it has none of its own."""
        if not hasattr(self.equation.call, "solve"):
            return None
        try:
            with torch.no_grad():
                found = self.equation.call.solve(*(x.detach() for x in xs))
        except NotImplementedError:  # the abstract node's
            return None
        y = found[0] if isinstance(found, tuple) else found
        if not isinstance(y, Tensor):
            raise InputError(f"solve() of {self.equation.label} gives {type(y).__name__}: y or (y, context) is needed")
        return y.detach()


def from_declarative(node: Any, event_shape: Shape = None, **options: Unpack[Options]) -> DeclarativeLayer:
    """The layer y(x) = argmin_y f(x, y) subject to h(x, y) = 0 and g(x, y) ≤ 0, as ``from_optimality`` with their
    conditions of first order (deep declarative networks: Gould, Hartley & Campbell, 2022).

    ``node`` has objective(*xs, y=) and, optionally, equality_constraints(*xs, y=), inequality_constraints(*xs, y=) and
    solve(*xs) → y or (y, context). What solve() gives, or ``init``, or zeros of ``event_shape``, is where the search
    begins, by the method of multipliers; Newton's method polishes it. An nn.Module's parameters are the layer's.
    ``layer.solve(*xs).multipliers``: ν and μ of f − ν·h + μ·g. The status tells a stationary point that is no strict
    minimum (looked at up to ``solver.largest`` unknowns) as invalid, a constraint active with multiplier 0 as kink:
    there the derivative is that without it. Where constraints repeat one another, the multipliers and their derivatives
    are those of least size. Infeasible and unbounded are seen from where the search ends, not proved.
    """
    largest = getattr(options.get("solver") or Newton(), "largest", 0)
    return DeclarativeLayer(KKT(node, largest), event_shape, **options)
