"""The method of multipliers, which takes a declarative node near a minimum."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ..numerics.bracket import Found
from ..numerics.linearisation import Dense, Free
from ..numerics.newton import Probe, minimise
from ..solvers.newton_system import MatrixFree, System, explicit


class Constrained(Protocol):
    """min f subject to h = 0, g ≤ 0, whose Hessian is formed up to ``largest`` entries."""

    largest: int

    def objective(self, y: Tensor, xs: tuple[Tensor, ...], batch: torch.Size) -> Tensor: ...

    def constraints(self, y: Tensor, xs: tuple[Tensor, ...], batch: torch.Size) -> tuple[Tensor, Tensor]: ...


class MethodOfMultipliers:
    """Minimises f − ν·h + ρ/2 ‖h‖² + ‖max(0, μ + ρ g)‖²/(2ρ) in y by Newton's method with a line search, and moves ν
    and μ by ρ times the violation (Hestenes, 1969; Rockafellar, 1973).
    """

    def __init__(self, equation: Constrained, inputs: tuple[Tensor, ...], w: Tensor):
        self.equation, self.like, self.xs = equation, inputs[0], inputs[1:]
        self.batch, self.n = w.shape[:-1], self.like.shape[w.ndim - 1 :].numel()
        self.start = w[..., : self.n]
        self.nu = self.mu = w.new_zeros(0)
        self.rho = w.new_full((*self.batch, 1), 10.0)

    def minimum(self, rounds: int = 12) -> Tensor:
        """(y, ν, μ), roughly where there are constraints."""
        y = self.start
        h, g = self.constraints(y)
        self.nu, self.mu = self._multipliers(y, h, g)
        worst = self.violation(h, g)
        for _ in range(rounds):
            y = torch.where(y.isfinite(), self.inner(y).x, y)
            h, g = self.constraints(y)
            missed = self.violation(h, g)
            self.nu, self.mu = self.nu - self.rho * h, (self.mu + self.rho * g).clamp(min=0)
            self.rho = torch.where(missed > worst / 4, 10 * self.rho, self.rho)
            size = torch.linalg.vector_norm(torch.cat([self.nu, self.mu], -1), dim=-1, keepdim=True)
            if bool(((missed <= 1e-2 * worst) | (self.rho * missed <= 1e-2 * size)).all()):  # Newton's method goes on
                break
            worst = torch.maximum(worst, missed)
        return torch.cat([y, self.nu, self.mu], -1)

    def inner(self, y: Tensor) -> Found:
        ones = torch.ones_like(y)

        def system(y: Tensor, last: Any) -> System:
            if self.n <= self.equation.largest:
                full = Dense(self.force, y).matrix
                return explicit({"scale": ones, "rate": ones, "own_full": (full + full.mT) / 2})
            times = Free(self.force, y).times
            return MatrixFree(ones, ones, lambda v: (torch.zeros_like(v), times(v)), False)

        return minimise(self._probe, system, y, 60, 0.0)

    def _augmented(self, y: Tensor) -> Tensor:
        h, g = self.constraints(y)
        f = self._objective(y).unsqueeze(-1)
        inside = (self.mu + self.rho * g).clamp(min=0).square() / (2 * self.rho)
        terms = [f, -(self.nu * h), self.rho / 2 * h.square(), inside]
        return torch.cat(terms, -1)

    def force(self, y: Tensor) -> Tensor:
        return torch.func.grad(lambda y: self._augmented(y).sum())(y)

    def _probe(self, y: Tensor) -> Probe:
        def total(y: Tensor) -> tuple[Tensor, Tensor]:
            terms = self._augmented(y)
            return terms.sum(), terms

        force, terms = torch.func.grad(total, has_aux=True)(y)
        return Probe(terms.sum(-1, keepdim=True), terms.abs().sum(-1, keepdim=True), force, force.abs())

    def _objective(self, y: Tensor) -> Tensor:
        return self.equation.objective(y.reshape(self.like.shape), self.xs, self.batch)

    def constraints(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.equation.constraints(y.reshape(self.like.shape), self.xs, self.batch)

    def violation(self, h: Tensor, g: Tensor) -> Tensor:
        over = torch.maximum(g, -self.mu / self.rho)
        return torch.linalg.vector_norm(torch.cat([h, over], -1), dim=-1, keepdim=True)

    def _multipliers(self, y: Tensor, h: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Those of least squares, ∇f = Σ ν ∇h − Σ μ ∇g, where they nearly solve it, as at a minimum; else zeros."""
        p, q = h.shape[-1], g.shape[-1]
        if not p + q:
            return h, g
        slope = torch.func.grad(
            lambda y: self.equation.objective(y.reshape(self.like.shape), self.xs, self.batch).sum()
        )
        force = slope(y).unsqueeze(-1)
        rows = self.rows(y)
        reach = 1e-4 * torch.linalg.vector_norm(y, dim=-1, keepdim=True)
        active = g >= -reach * torch.linalg.vector_norm(rows[..., p:, :], dim=-1)
        rows = torch.cat([rows[..., :p, :], -torch.where(active.unsqueeze(-1), rows[..., p:, :], 0)], -2)
        rows = torch.where(rows.isfinite(), rows, 0)
        found = torch.linalg.pinv(rows.mT) @ torch.where(force.isfinite(), force, 0)
        left = torch.linalg.vector_norm(rows.mT @ found - force, dim=-2)
        found = torch.where(left <= 0.1 * torch.linalg.vector_norm(force, dim=-2), found.squeeze(-1), 0)
        return found[..., :p], found[..., p:].clamp(min=0)

    def rows(self, y: Tensor) -> Tensor:
        """The Jacobian (…, p + q, n) of the constraints."""
        value, pull, *_ = torch.func.vjp(lambda y: torch.cat(self.constraints(y), -1), y)
        count = value.shape[-1]
        units = torch.eye(count, dtype=y.dtype, device=y.device)
        return torch.func.vmap(lambda e: pull(e.expand_as(value))[0])(units).movedim(0, -2)
