"""from_activation of maps of vectors: softmax and normalisations, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from by_value import TOLERANCE, PhiByValue
from torch import Tensor, nn

import bilevelnet as bln
from bilevelnet.certificates.activation_profile import NotProximal

F64 = torch.float64
VECTORS = [
    nn.Softmax(-1),
    nn.RMSNorm(6, eps=1e-5, elementwise_affine=False),
    nn.LayerNorm(6, elementwise_affine=False),
    nn.LayerNorm(6),
]


@pytest.mark.parametrize("module", VECTORS, ids=str)
def test_maps_of_vectors(module: nn.Module) -> None:
    phi, g = bln.from_activation(module)
    v = 3 * torch.randn(5, 6, dtype=F64)
    want = copy.deepcopy(module).double()(v)
    assert float((bln.bregman_prox(phi, g, v) - want).detach().abs().max()) < 1e-14  # some ulp of 2.5
    if not phi.event_ndim:
        z = bln.bregman_prox(PhiByValue(phi), g, v, solver="multiplier")
    else:  # the values on the subspace of g, by a Newton iteration that knows nothing else
        z = newton(phi, v, getattr(g, "a", None))
    assert float((z - want).detach().abs().max()) < TOLERANCE


def newton(phi: Any, v: Tensor, normal: Any) -> Tensor:
    """argmin φ(z) − ⟨z, v⟩ on {⟨a, z⟩ = 0}, by damped Newton steps from autograd of the value, one vector at a time."""
    n = v.shape[-1]
    basis = torch.eye(n, dtype=F64)
    if normal is not None:
        basis = torch.linalg.qr(torch.cat([torch.tensor(normal, dtype=F64)[:, None], basis[:, 1:]], 1)).Q[:, 1:]
    found = []
    for row in v:
        x = torch.zeros(basis.shape[1], dtype=F64)

        def objective(x: Tensor, row: Tensor = row) -> Tensor:
            z = basis @ x
            return phi.value(z) - z @ row

        for _ in range(60):
            gradient = torch.func.grad(objective)(x)
            step = torch.linalg.solve(torch.func.hessian(objective)(x), gradient)
            damping = 1 / (1 + (step @ gradient).clamp(min=0).sqrt() / abs(phi.strong_convexity) ** 0.5)
            while not objective(x - damping * step) <= objective(x) + 1e-13:
                damping /= 2
            x = x - damping * step
        found.append(basis @ x)
    return torch.stack(found)


def test_softmax_has_a_euclidean_split() -> None:
    assert isinstance(bln.from_activation(lambda v: v.softmax(-1))[1], bln.regularizers.Simplex)
    phi, g = bln.from_activation(nn.Softmax(-1), "euclidean")
    assert type(phi) is bln.legendre.Energy
    v = 3 * torch.randn(4, 5, dtype=F64)
    assert float((bln.bregman_prox(phi, g, v) - v.softmax(-1)).abs().max()) < 1e-12


def rotation(v: Tensor) -> Tensor:
    turn = torch.eye(v.shape[-1], dtype=v.dtype)
    turn[0, 1], turn[1, 0] = 0.5, -0.5
    return v @ turn


def softmin(v: Tensor) -> Tensor:
    return (-v).softmax(-1)


def clamped_softmax(v: Tensor) -> Tensor:
    return v.clamp(-10, 10).softmax(-1)


def skewed(v: Tensor) -> Tensor:
    """Off symmetry by 1e-8."""
    return v + 1e-8 * rotation(v)


def clipped(v: Tensor) -> Tensor:
    """The projection onto a ball of radius 10, the identity on short vectors."""
    return v * (10 / torch.linalg.vector_norm(v, dim=-1, keepdim=True)).clamp(max=1)


def test_a_projection_that_is_the_identity_on_short_vectors_couples_entries() -> None:
    with pytest.raises(bln.InputError, match="couples entries"):
        bln.from_activation(clipped)


def weighted_norm() -> nn.Module:
    module = nn.LayerNorm(4)
    nn.init.uniform_(module.weight)
    return module


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.Softmin(-1), "eigenvalue"),
        (lambda: softmin, "eigenvalue"),
        (lambda: rotation, "not symmetric"),
        (lambda: skewed, "not symmetric"),
        (lambda: clamped_softmax, "not symmetric"),
        (lambda: nn.LogSoftmax(-1), "not symmetric"),
        (weighted_norm, "not symmetric"),
    ],
    ids=["Softmin", "softmin", "rotation", "skewed", "clamped softmax", "LogSoftmax", "LayerNorm with a gain"],
)
def test_maps_of_vectors_refused(make: Any, why: str) -> None:
    with pytest.raises(NotProximal, match=why) as caught:
        bln.from_activation(make())
    (v, w), (a, b) = caught.value.points, caught.value.values
    if why == "eigenvalue":
        assert (b - a) @ (w - v) < 0
