"""The optimality conditions of a declarative node as an equation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .implicit_equation import Equation, refuse_closures
from .method_of_multipliers import MethodOfMultipliers
from .no_minimum import why

METHODS = ("objective", "equality_constraints", "inequality_constraints", "linear_constraint_parameters", "solve")


class KKT(Equation):
    """F(w) of min_y f(x, y) subject to h(x, y) = 0 and g(x, y) ≤ 0, at w = (y, ν, μ):

        ∇_y f − Σ ν_i ∇h_i + Σ μ_j ∇g_j,    h,    min(μ, −g),

    for a node with objective(*xs, y=) and, where it has them, equality_constraints and inequality_constraints, called
    in the same way, or linear_constraint_parameters(y) = (A, d), h = A y − d (Gould, Hartley & Campbell, 2022). The
    first input is a tensor of the shape of y; the others are the node's.
    """

    def __init__(self, node: Any, largest: int):
        nn.Module.__init__(self)
        if not callable(getattr(node, "objective", None)):
            raise InputError(f"a node has a method objective(*inputs, y=), which {type(node).__name__} has not")
        for name in () if isinstance(node, nn.Module) else METHODS:
            if hasattr(node, name):
                refuse_closures(getattr(node, name))
        self.call: Any = node
        self.largest = largest

    @property
    def label(self) -> str:
        return type(self.call).__name__

    def constraints(self, y: Tensor, xs: tuple[Tensor, ...], batch: torch.Size) -> tuple[Tensor, Tensor]:
        """(h, g), each of shape (*batch, any number)."""
        node, none = self.call, y.new_zeros(*batch, 0)
        if hasattr(node, "linear_constraint_parameters"):
            A, d = node.linear_constraint_parameters(y)
            h = y.reshape(*batch, A.shape[-1]) @ A.mT - d
        else:
            h = self._called("equality_constraints", y, xs)
        g = self._called("inequality_constraints", y, xs)
        return tuple(none if c is None else c.reshape(*batch, c.shape[len(batch) :].numel()) for c in (h, g))  # type: ignore[return-value]

    def _called(self, name: str, y: Tensor, xs: tuple[Tensor, ...]) -> Tensor | None:
        return getattr(self.call, name)(*xs, y=y) if hasattr(self.call, name) else None

    def objective(self, y: Tensor, xs: tuple[Tensor, ...], batch: torch.Size) -> Tensor:
        """f, of shape (*batch,)."""
        value = self.call.objective(*xs, y=y)
        if value.shape[: len(batch)] != batch:
            raise InputError(
                f"{self.label}.objective gives shape {tuple(value.shape)}: one value for each of the batch "
                f"{tuple(batch)} is needed"
            )
        return value.reshape(*batch, value.shape[len(batch) :].numel()).sum(-1)

    def forward(self, w: Tensor, *inputs: Tensor) -> Tensor:
        like, *xs = inputs
        batch, n = w.shape[:-1], like.shape[w.ndim - 1 :].numel()

        def lagrangian(y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            h, g = self.constraints(y, tuple(xs), batch)
            nu, mu = w[..., n:].split([h.shape[-1], g.shape[-1]], -1)
            return self.objective(y, tuple(xs), batch).sum() - (nu * h).sum() + (mu * g).sum(), (h, g)

        slope, (h, g) = torch.func.grad(lagrangian, has_aux=True)(w[..., :n].reshape(like.shape))
        mu = w[..., n + h.shape[-1] :]
        return torch.cat([slope.reshape(*batch, n), h, torch.where(mu + g > 0, -g, mu)], -1)

    def begin(self, w: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        """From w = (y, 0, 0) to the minimum near it, by the method of multipliers, roughly where there are any."""
        return MethodOfMultipliers(self, inputs, w).minimum()

    def least(self, jacobian: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """(J⁺, whether it serves as J⁻¹): constraints that repeat one another leave the multipliers free, and y not; of
        their derivatives J⁺ takes the least. Of a free direction y is 0 to rounding, or a part: half of the digits lie
        between.
        """
        n = inputs[0].shape[jacobian.ndim - 2 :].numel()
        u, sizes, v = torch.linalg.svd(torch.where(jacobian.isfinite(), jacobian, 0))
        free = sizes <= _rounding(sizes[..., :1], jacobian)
        loose = torch.where(free, torch.linalg.vector_norm(v[..., :n], dim=-1), 0).amax(-1)
        inverse = (v.mT * torch.where(free, 0, 1 / sizes).unsqueeze(-2)) @ u.mT
        return inverse, free.any(-1) & (loose <= torch.finfo(jacobian.dtype).eps ** 0.5)

    def lost(self, start: Tensor, w: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        return why(self, start, w, inputs)

    def judge(self, w: Tensor, jacobian: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """(whether the Hessian of the Lagrangian is positive definite along the active constraints: the matrix of the
        equality-constrained problem has then n positive eigenvalues (Gould, 1985); whether a constraint is active with
        a multiplier of 0, where y has derivatives of one side).
        """
        like, *xs = inputs
        batch, n = w.shape[:-1], like.shape[w.ndim - 1 :].numel()
        matrix = torch.where(jacobian.isfinite(), jacobian, 0)
        corner = torch.diag_embed(-matrix.diagonal(dim1=-2, dim2=-1)[..., n:])
        rows = matrix[..., n:, :n]
        upper = torch.cat([matrix[..., :n, :n], rows.mT], -1)
        whole = torch.cat([upper, torch.cat([rows, corner], -1)], -2)
        values = torch.linalg.eigvalsh((whole + whole.mT) / 2)
        zero = _rounding(values.abs().amax(-1, keepdim=True), w)  # one for each dependent constraint
        minimum = (values > zero).sum(-1) == n
        h, g = self.constraints(w[..., :n].reshape(like.shape), tuple(xs), batch)
        mu = w[..., n + h.shape[-1] :]
        # Where both are 0 the search ends at the root of its rounding: what it misses is their product.
        close = torch.finfo(w.dtype).eps ** 0.5 * w.abs().amax(-1, keepdim=True)
        return minimum, ((mu + g).abs() <= close).any(-1)


def _rounding(size: Tensor, w: Tensor) -> Tensor:
    """What eigenvalues and singular values up to ``size`` of a matrix of the entries of w are off by: n eps of it,
    times a modest constant (LAPACK Users' Guide, section 4.7).
    """
    return 8 * w.shape[-1] * torch.finfo(w.dtype).eps * size
