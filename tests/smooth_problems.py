"""Smooth φ and g for Newton's method, by formula and by their values alone."""

from __future__ import annotations

import torch

import bilevelnet as bln

F64 = torch.float64
N = 3
MATRIX_FREE = bln.solvers.Newton(largest=0)


class Layer(bln.regularizers.Regularizer):
    """g(z) = Σ softplus(Az), by its value alone."""

    event_ndim = 1

    def __init__(self, A: torch.Tensor):
        super().__init__()
        self.A = A

    def value(self, z: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(z @ self.A.mT).sum(-1)


class Softplus(bln.regularizers.Smooth):
    def value(self, z: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(z)


class Coupled(bln.legendre.Legendre):
    """φ(z) = ½‖z‖² + log Σ exp(Qz), by its value alone."""

    event_ndim = 1

    def __init__(self, Q: torch.Tensor):
        super().__init__()
        self.Q = Q

    def value(self, z: torch.Tensor) -> torch.Tensor:
        return (z**2).sum(-1) / 2 + torch.logsumexp(z @ self.Q.mT, -1)


def points(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=F64)


A, V = points(4, N, scale=2.0), points(5, N)
PHIS = {
    "energy": bln.legendre.Energy(2.0),
    "tanh": bln.legendre.Tanh(),
    "fermi_dirac": bln.legendre.FermiDirac(),
    "entropy": bln.legendre.BoltzmannShannon(),
    "log_cosh": bln.legendre.get("log_cosh") + bln.legendre.Energy(0.1),
    "mahalanobis": bln.legendre.Mahalanobis(torch.eye(N, dtype=F64) + 0.3),
    "ball": bln.legendre.BallHellinger(),
    "ball_barrier": bln.legendre.BallLogBarrier(),
    "norm_power": bln.legendre.get("norm_power", p=3.0),
    "coupled": Coupled(A),
}
TERMS = {
    "values": Layer(A),
    "precomposed": Softplus().precompose(A),
    "weighted": 0.5 * Layer(A) + bln.regularizers.SquaredL2(0.3),
}
