"""The contract of a convex regularizer g."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..domains import Interval, Reals
from ..errors import InputError
from ..numerics.derivative import derivative
from ..numerics.jacobian import diagonal, symmetric_jacobian
from ..piece import Piece, Scalar, Strength, weights_of


class Regularizer(Piece):
    """g: convex, closed, proper.

    A subclass gives ``domain`` and ``value`` (finite on the domain; a constraint lives in ``domain``), and as far as
    they are known ``prox`` (Euclidean), ``conjugate``, ``distance`` and ``expression``. ``event_ndim`` is the number
    of last dimensions of one point: 0 where g is separable. Weights broadcast with z; those of a g that is not
    separable have size 1 in its event dimensions. Calculus: ``0.5 * g``, ``g1 + g2``, ``g.translate(s)``,
    ``g.precompose(K)``.
    """

    domain: Any = Reals()
    event_ndim: int = 0
    width: int | None = None  # of the vectors that g takes, where it is fixed
    homogeneous: ClassVar[bool] = False  # g(cz) = c g(z) for c > 0: a norm, or the indicator of a cone
    indicator: ClassVar[bool] = False  # 0 on its domain, so that c g = g for c ≥ 0

    def value(self, z: Tensor) -> Tensor:
        """g(z) on the domain, with the event dimensions reduced."""
        raise NotImplementedError(f"{self.label} does not state value(z)")

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        """argmin_z g(z) + ‖z − v‖²/(2 step)."""
        raise InputError(f"{self.label} has no Euclidean prox in closed form")

    def prox_jacobian(self, v: Tensor, step: Scalar = 1.0, batch_ndim: int = 0) -> Tensor:
        """The derivative of the prox at v, as a value: (…, n, n) of events flattened behind ``batch_ndim`` dimensions;
        its diagonal (…, n) where g is separable.
        """
        if self.event_ndim:
            return symmetric_jacobian(lambda t: self.prox(t, step), v, v.ndim - batch_ndim)
        slope = diagonal(lambda t: self.prox(t, step), v)
        return slope.flatten(batch_ndim) if v.ndim > batch_ndim else slope.unsqueeze(-1)

    def prox_product(self, v: Tensor, step: Scalar = 1.0, batch_ndim: int = 0) -> Callable[[Tensor], Tensor] | None:
        """x ↦ J x with the J of ``prox_jacobian``, on flattened events, where that costs about a prox; else None."""
        if self.event_ndim:
            return None
        slope = self.prox_jacobian(v, step, batch_ndim)
        return lambda x: slope * x

    def conjugate(self, y: Tensor) -> Tensor:
        """g*(y) = sup_z ⟨y, z⟩ − g(z)."""
        raise InputError(f"{self.label} states no conjugate")

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """For a separable g, the ends g'(z−), g'(z+) of ∂g(z); ∓∞ at the ends of the domain."""
        raise NotImplementedError(f"{self.label} does not state derivatives(z)")

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        """dist(y, ∂g(z)), one number an event: the optimality residual at z for the dual remainder y = v − ∇φ(z).

        For a g that is not separable, unless a subclass knows better: ‖z − prox_g(z + y)‖, which is 0 exactly where
        y ∈ ∂g(z) and never larger than the distance. Where z misses a constraint by rounding, by how much is added.
        """
        if self.event_ndim:
            return self.drop(torch.linalg.vector_norm(z - self.prox(z + y, 1.0), dim=self.dims, keepdim=True))
        left, right = self.derivatives(z)
        gap = torch.maximum(torch.maximum(left - y, y - right), torch.zeros_like(y))
        domain = self.domain
        under = (z == 0) & ((domain.lo == 0) | (domain.hi == 0))  # it stands for what underflows, at an open end too
        return torch.where(domain.contains(z) | under, gap, torch.inf)

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]] | None:
        """(knots t_1 ≤ … ≤ t_K, slopes s_0 ≤ … ≤ s_K) where g is separable and piecewise linear, else None."""
        return None

    def span(self) -> dict[str, Scalar] | None:
        """g' as coefficients over the basis of closed_forms/span.py (z, log z, −1/z), or None."""
        return None

    def expression(self, z: Any) -> Any:
        """g(z) as a cvxpy expression of the variable z, or the pair (expression, list of constraints)."""
        raise InputError(f"{self.label} has no cvxpy expression, so the conic solver cannot take it")

    def terms(self) -> tuple[Regularizer, ...]:
        """The terms of which g is the sum."""
        return (self,)

    @property
    def proximable(self) -> bool:
        """Whether ``prox`` is a formula, and no search over a splitting."""
        return type(self).prox is not Regularizer.prox

    @property
    def vanishes(self) -> bool:
        """Whether g is 0 everywhere, its weights λ being the number 0: then it is no term of a sum."""
        weights = [getattr(self, w.name) for w in weights_of(type(self)) if isinstance(w, Strength)]
        zero = bool(weights) and not any(isinstance(w, Tensor) or w for w in weights)
        return zero and self.domain == Reals()

    @property
    def kind(self) -> type[Regularizer]:
        """The class whose formula g has, whatever the weights: the key of the absorb table."""
        return type(self)

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions of one event."""
        return (getattr(self, "dim", -1),) if self.event_ndim == 1 else tuple(range(-self.event_ndim, 0))

    def drop(self, x: Tensor) -> Tensor:
        """x, whose event dimensions have size 1, without them."""
        for d in self.dims:
            x = x.squeeze(d if self.event_ndim == 1 else -1)
        return x

    def keep(self, x: Tensor) -> Tensor:
        """One number an event, with the event dimensions as 1."""
        for d in self.dims:
            x = x.unsqueeze(d if self.event_ndim == 1 else -1)
        return x

    def translate(self, shift: Scalar) -> Regularizer:
        """g(z − shift); shift is a number, a tensor that broadcasts with z, or a Parameter."""
        from .translate import Offset, translated

        offset = Offset(shift)
        return self._each(lambda t: translated(t, offset))

    def precompose(self, operator: Any, event_ndim: int = 1) -> Regularizer:
        """g(K z) for a matrix K (a tensor or Parameter, on the last dimension), or a module affine in z.

        ``event_ndim`` is the number of last dimensions of one z that a module takes.
        """
        from .precompose import LinearMap, Precomposed

        linear = LinearMap(operator, event_ndim)
        if self.terms() and not self.event_ndim:  # a separable sum stays together, so that it keeps its prox
            return Precomposed(self, linear)
        return self._each(lambda t: Precomposed(t, linear))

    def _each(self, make: Any) -> Regularizer:
        # the same change to every term; the sum of no terms, zero, stays
        from .calculus import Sum

        parts = [make(t) for t in self.terms()]
        return Sum(*parts) if len(parts) > 1 else parts[0] if parts else self

    def __add__(self, other: Any) -> Regularizer:
        from .calculus import Sum

        return Sum(self, other) if isinstance(other, Regularizer) else NotImplemented

    def __radd__(self, other: Any) -> Regularizer:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum([g1, g2]) starts with 0

    def __mul__(self, weight: Any) -> Regularizer:
        from .calculus import scaled
        from .factor import Factor

        if not isinstance(weight, (int, float, Tensor)):
            return NotImplemented
        factor = Factor(weight)
        return self._each(lambda t: scaled(t, factor))

    __rmul__ = __mul__


class Separable(Regularizer):
    """g(z) = Σ g(z_i): ``value``, ``derivatives`` and ``prox`` act entry by entry on any shape.

    ``domain`` and ``value`` are enough for the scalar solver: the derivatives are derived by differentiation. Stating
    them by hand is an optimisation, which the laws test against the derived ones.
    """

    def grad(self, z: Tensor) -> Tensor:
        """g'(z), entry by entry: one of the two at a kink."""
        return derivative(self.value, self.spread(z))

    def hessian(self, z: Tensor) -> Tensor:
        """g''(z), entry by entry."""
        return derivative(self.grad, self.spread(z))

    def kinks(self) -> Sequence[Scalar]:
        """Where g' jumps, as numbers or tensors with a graph: optional, so that a kink may move with a parameter."""
        return ()

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        # Some ulp to either side: beyond the rounding of a kink that was searched; g'' moves g' by no more than that.
        nudge = 64 * torch.finfo(z.dtype).eps * z.abs().clamp(min=torch.finfo(z.dtype).tiny ** 0.5)
        domain, below, above = self.domain, z - nudge, z + nudge
        if domain == Interval():
            return self.grad(below), self.grad(above)
        left = self.grad(torch.where(below > domain.lo, below, z))
        right = self.grad(torch.where(above < domain.hi, above, z))
        return torch.where(z <= domain.lo, -torch.inf, left), torch.where(z >= domain.hi, torch.inf, right)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        from .calculus import solved_prox

        return solved_prox(self, v, step)


class Smooth(Separable):
    """A separable g that is differentiable on the interior of its domain: one derivative at each point."""

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return (self.grad(z),) * 2


def as_constant(weight: Any) -> Any:
    """A weight for cvxpy: a tensor as numbers, which must carry no gradient; InputError where it does."""
    if not isinstance(weight, Tensor):
        return weight
    if weight.requires_grad:
        raise InputError("the conic solver cannot learn this weight: give a number or a tensor without gradient")
    return weight.detach().cpu().numpy()


def as_pair(expression: Any) -> tuple[Any, list[Any]]:
    """(expression, constraints) of what ``Regularizer.expression`` returned."""
    return expression if isinstance(expression, tuple) else (expression, [])
