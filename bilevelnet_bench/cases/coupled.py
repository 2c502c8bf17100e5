"""½‖z − v‖² + Σ softplus(Az): smooth, with coupled entries; its exact answer by Newton steps in plain torch.

Asked is 3.3 times LBFGS, reached for 10 A (3.9 [3.6, 4.1]), not for A (0.7 to 0.9, by what else runs). Where the time
of A goes, in ms of CPU, one thread of a busy machine: the solution 10, of which 8 evaluations of E and ∇E 1.8, 6 of the
weights of ∇²E 0.6, 52 steps of conjugate gradients in 5 Newton steps 6, the line search 1.6; the derivative 6, of which
forming H 0.8, its Cholesky factor 1.1, four solves 0.9, two attached residuals and their backward the rest. Torch's
own kernels in it need 4.5: two products with A (0.04) a step of conjugate gradients and an evaluation, one factor with
its solves. The rest are some 4,000 small operations: a pass over 128 × 50 numbers takes less than its dispatch.
"""

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
