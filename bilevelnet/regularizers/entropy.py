"""g(z) = λ(z log z − z), the negative entropy, and g(z) = −λ log z, the logarithmic barrier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import Interval, Nonnegative, Positive
from ..numerics import log_linear_root, quadratic_root
from ..piece import Scalar, Strength
from .base import Smooth
from .piecewise_linear import Pieces, constraint_pieces


class NegEntropy(Smooth):
    """g(z) = λ(z log z − z) on z ≥ 0; prox λ ω(v/λ − log λ), ω the Wright omega function, conjugate λ e^{y/λ}.

    λ = 0 leaves the constraint. Raises InputError where λ < 0.
    """

    key = "neg_entropy"
    domain = Nonnegative()
    examples = ({"lam": 0.6},)
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0):
        super().__init__()
        self.lam = lam

    def value(self, z: Tensor) -> Tensor:
        return self.lam * (torch.xlogy(z, z) - z)

    def grad(self, z: Tensor) -> Tensor:
        # xlogy: 0 log 0 = 0 where λ = 0
        return torch.xlogy(torch.as_tensor(self.lam, dtype=z.dtype, device=z.device), z)

    def hessian(self, z: Tensor) -> Tensor:
        return self.lam / z

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        # A z that underflowed to 0 stands for all below the smallest number.
        least = torch.full_like(z, torch.finfo(z.dtype).tiny)
        return torch.where(z > 0, self.grad(z), -torch.inf), self.grad(torch.where(z == 0, least, z))

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        return log_linear_root(v, 1.0, step * self.lam)

    def conjugate(self, y: Tensor) -> Tensor:
        lam = torch.as_tensor(self.lam, dtype=y.dtype, device=y.device)
        entropic = lam * (y / torch.where(lam > 0, lam, 1.0)).exp()
        return torch.where(lam > 0, entropic, torch.where(y <= 0, y.new_zeros(()), torch.inf))

    def span(self) -> dict[str, Scalar]:
        return {"log": self.lam}

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return -cp.sum(cp.multiply(self.lam, cp.entr(z) + z))


class LogBarrier(Smooth):
    """g(z) = −λ log z on z > 0; prox (v + √(v² + 4λ))/2, conjugate −λ − λ log(−y/λ) on y < 0.

    λ = 0 leaves the constraint z ≥ 0. Raises InputError where λ < 0.
    """

    key = "log_barrier"
    examples = ({"lam": 0.6},)
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0):
        super().__init__()
        self.lam = lam

    @property
    def domain(self) -> Interval:  # type: ignore[override]
        return Positive() if self._barrier else Nonnegative()

    def value(self, z: Tensor) -> Tensor:
        return -torch.xlogy(torch.as_tensor(self.lam, dtype=z.dtype, device=z.device), z)

    def grad(self, z: Tensor) -> Tensor:
        lam = torch.as_tensor(self.lam, dtype=z.dtype, device=z.device)  # a number over a tensor is a product with 1/z
        return -(lam / (z if self._barrier else torch.where(z == 0, 1.0, z)))

    def hessian(self, z: Tensor) -> Tensor:
        lam = torch.as_tensor(self.lam, dtype=z.dtype, device=z.device)
        return lam / (z * z if self._barrier else torch.where(z == 0, 1.0, z * z))

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        grad = self.grad(z)
        return torch.where(z > 0, grad, -torch.inf), grad

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        c = step * self.lam
        return torch.where(v > 0, v, 0.0 * v) if isinstance(c, float) and c == 0 else quadratic_root(v, 1.0, c)

    def conjugate(self, y: Tensor) -> Tensor:
        lam = torch.as_tensor(self.lam, dtype=y.dtype, device=y.device)
        inside = (y < 0) | ((lam == 0) & (y == 0))
        ratio = torch.where(inside & (lam > 0), -y / torch.where(lam > 0, lam, 1.0), 1.0)
        return torch.where(inside, -lam - torch.xlogy(lam, ratio), torch.inf)

    def pieces(self) -> Pieces | None:
        return None if self._barrier else constraint_pieces(self.domain)

    def span(self) -> dict[str, Scalar] | None:
        return {"reciprocal": self.lam} if self._barrier else None

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return -cp.sum(cp.multiply(self.lam, cp.log(z))) if self._barrier else (0.0, [z >= 0])

    @property
    def _barrier(self) -> bool:
        return not (isinstance(self.lam, float) and self.lam == 0)
