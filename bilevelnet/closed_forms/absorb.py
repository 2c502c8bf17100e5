"""Absorb: ψ = φ + h for the smooth separable terms h of g, where (∇ψ)⁻¹ is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..domains import Domain, Interval, Preimage
from ..errors import InputError
from ..legendre import Legendre
from ..problem import inner_point
from ..regularizers import Regularizer, Sum
from ..values import readable
from . import span

Inverse = Callable[[Any, Any, Tensor], Tensor]


class Pair(NamedTuple):
    """The rule of a pair (φ, h): see ``known``."""

    name: str
    inverse: Inverse
    when: Callable[[Any, Any], bool]
    dual: Inverse | None
    sums: bool


_pairs: dict[tuple[type, type], Pair] = {}


def known(
    phi: type[Legendre],
    h: type[Regularizer],
    name: str,
    when: Callable[[Any, Any], bool] = lambda phi, h: True,
    dual: Inverse | None = None,
    sums: bool = False,
) -> Callable[[Inverse], Inverse]:
    """Register rule(phi, h, w) = (∇φ + ∇h)⁻¹(w) under a name for explain. A second rule for a pair is an error.

    ``when(phi, h)`` says for which weights the rule holds. ``dual(phi, h, w)`` is ∇φ there, where w − ∇h(z) would lose
    its digits. ``sums`` says that h may be a sum of such terms too.
    """

    def register(rule: Inverse) -> Inverse:
        if (phi, h) in _pairs:
            raise InputError(f"({phi.__name__}, {h.__name__}) already has a rule: {_pairs[phi, h].name}")
        _pairs[phi, h] = Pair(name, rule, when, dual, sums)
        return rule

    return register


def rule_of(phi: Legendre, h: Regularizer) -> Pair | None:
    """The rule of the pair, where it has one of its own for these weights."""
    pair = _pairs.get((type(phi), h.kind))
    return pair if pair is not None and pair.when(phi, h) else None


def rules() -> dict[tuple[type[Legendre], type[Regularizer]], Pair]:
    """Every rule that ``known`` registered."""
    return dict(_pairs)


class Absorbed:
    """ψ = φ + Σ h: ``grad``, ``inverse`` = (∇ψ)⁻¹, and u = ∇φ(z) = w − Σ ∇h(z) from w = ∇ψ(z)."""

    def __init__(self, phi: Legendre, terms: list[Regularizer]):
        self.phi, self.terms = phi, terms
        spans = [phi.span(), *(t.span() for t in terms)]
        self.basis: Any = (
            frozenset(name for s in spans if s for name in s) if all(s is not None for s in spans) else None
        )
        self.rule: Pair | None = None
        self.name = "the mirror map"
        if not terms:
            if not phi.explicit:
                raise InputError(f"{phi.label} states no grad_conjugate, so its mirror map is no formula")
            return
        if self.basis in span.INVERSES:
            self.name = span.INVERSES[self.basis][0]
        elif (rule := rule_of(phi, terms[0])) and (
            len(terms) == 1 or (rule.sums and all(t.kind is terms[0].kind for t in terms))
        ):
            self.name, self.rule = rule.name, rule
            self.term = terms[0] if len(terms) == 1 else Sum(*terms)
        else:
            what = " + ".join(t.label for t in terms)
            raise InputError(f"no closed form is known for (∇φ + ∇h)⁻¹ with φ = {phi.label}, h = {what}")

    @property
    def domain(self) -> Interval:
        domain = self.phi.domain
        for t in self.terms:
            domain = domain.intersect(t.domain)
        return domain

    common = domain  # of φ and the terms

    @property
    def dual_domain(self) -> Domain:
        if not self.terms:
            return self.phi.dual_domain
        if self.rule is None:
            return span.dual_domain(self.coefficients())
        if self.rule.dual is None or self.phi.dual_domain == Interval():
            return Interval()
        return Preimage(self.phi.dual_domain, partial(self.rule.dual, self.phi, self.term), self.phi.event_ndim)

    @property
    def constant(self) -> bool:
        return self.phi.constant and all(t.constant for t in self.terms)

    def coefficients(self) -> dict[str, float | Tensor]:
        """∇ψ over the basis, from the weights as they are now."""
        return span.add([p.span() for p in (self.phi, *self.terms)])

    def grad(self, z: Tensor) -> Tensor:
        return self.phi.grad(z) + self.slope(z) if self.terms else self.phi.grad(z)

    def slope(self, z: Tensor) -> Any:
        """Σ ∇h(z)."""
        return sum(t.derivatives(z)[0] for t in self.terms)

    def curvature(self, z: Tensor) -> Any:
        """ψ''(z) of a separable ψ."""
        curvature = self.phi.hessian(z)  # type: ignore[attr-defined]
        return curvature + sum(t.hessian(z) for t in self.terms) if self.terms else curvature  # type: ignore[attr-defined]

    def inverse(self, w: Tensor) -> Tensor:
        if not self.terms:
            return self.phi.grad_conjugate(w)
        if self.rule is not None:
            return self.rule.inverse(self.phi, self.term, w)
        return span.INVERSES[self.basis][1](w, self.coefficients())

    def dual(self, w: Tensor, z: Tensor) -> Tensor:
        if not self.terms:
            return w
        if self.rule is not None and self.rule.dual is not None:
            return self.rule.dual(self.phi, self.term, w)
        if (
            self.rule is None and len(self.basis) == 1
        ):  # parts of one function share w in proportion, also where z over- or underflows
            (name,) = self.basis
            return w * (self.phi.span()[name] / self.coefficients()[name])  # type: ignore[index]
        if set(self.phi.span() or ()) == {"linear"}:
            return self.phi.grad(z)  # m z, also where a barrier holds z at 0 or h'(z) underflows to −∞
        push = self.slope(z)
        return w - push if self.phi.event_ndim else self._sharper(push, w, z)

    def _sharper(self, push: Tensor, w: Tensor, z: Tensor) -> Tensor:
        """u = w − h'(z), or ∇φ(z) where that keeps more digits."""
        phi: Any = self.phi
        with torch.no_grad():
            rest = sum(t.hessian(z) for t in self.terms)  # type: ignore[attr-defined]
            cancels = keeps_more(phi.grad(z), phi.hessian(z), push, rest, w, z)
            if readable(cancels) and not cancels.is_cuda and not bool(cancels.any()):
                return w - push
        inner = torch.as_tensor(inner_point(self.domain), dtype=z.dtype, device=z.device)
        return torch.where(cancels, phi.grad(torch.where(cancels, z, inner)), w - push)


def keeps_more(level: Tensor, bend: Tensor, push: Tensor, rest: Tensor, w: Tensor, z: Tensor) -> Tensor:
    """Whether ∇φ(z) = level keeps more digits of u than w − push with push = h'(z); bend = φ''(z), rest = h''(z)."""
    size = z.abs().clamp(min=torch.finfo(z.dtype).tiny)  # below it floats lose their digits
    own, other = level.abs() + bend * size, w.abs() + push.abs() + rest * size  # what eps is a part of
    return 16 * own < other  # 16: four bits are worth another look at ∇φ
