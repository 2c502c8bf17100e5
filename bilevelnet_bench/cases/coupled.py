"""½‖z − v‖² + Σ softplus(Az): smooth, with coupled entries; its exact answer by Newton steps in plain torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bilevelnet as bln

from .solvers import SolverCase

LBFGS = "jaxopt LBFGS"


class Softplus(bln.regularizers.Smooth):
    """g(z) = log(1 + e^z)."""

    def value(self, z: Tensor) -> Tensor:
        return nn.functional.softplus(z)

    def grad(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z)

    def hessian(self, z: Tensor) -> Tensor:
        s = torch.sigmoid(z)
        return s * (1 - s)


@dataclass(frozen=True)
class CoupledCase(SolverCase):
    """A = ``factor`` × N(0, 1/d), square."""

    factor: float = 1.0

    @property
    def name(self) -> str:
        return f"{super().name}, {self.factor:g} A"

    def matrix(self) -> Tensor:
        d = self.shape[-1]
        noise = torch.randn(d, d, generator=torch.Generator().manual_seed(1), dtype=self.dtype)
        return self.factor / d**0.5 * noise

    def layer(self) -> bln.BilevelLayer:
        divergence = bln.divergences.Bregman(bln.legendre.Energy(), bln.divergences.Zero())
        g = Softplus().precompose(self.matrix())
        return bln.BilevelLayer(bln.couplings.Affine(nn.Identity()), divergence, g, solver=self.solver)

    def exact(self, v: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        a, z = self.matrix().double(), v.double()
        eye = torch.eye(v.shape[-1], dtype=torch.float64)

        def gradient(z: Tensor) -> Tensor:
            return z - v + torch.sigmoid(z @ a.mT) @ a

        def size(z: Tensor) -> Tensor:  # falls along a Newton step, and unlike the objective to the last digits
            return torch.linalg.vector_norm(gradient(z), dim=-1, keepdim=True)

        def hessian(z: Tensor) -> Tensor:
            s = torch.sigmoid(z @ a.mT)
            return eye + a.mT @ ((s * (1 - s)).unsqueeze(-1) * a)

        for _ in range(100):
            step = torch.linalg.solve(hessian(z), gradient(z))
            t = torch.ones_like(z[:, :1])
            for _ in range(30):
                t = torch.where(size(z - t * step) > size(z), t / 2, t)
            z = z - t * step
        return z, torch.linalg.solve(hessian(z), cotangent.double())


COUPLED = tuple(
    CoupledCase("softplus of Az", (128, 50), peers={LBFGS: "≥ 3.3"}, rounds=7, factor=factor) for factor in (1.0, 10.0)
)
