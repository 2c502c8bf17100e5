"""Knots of g whose dual level ∇φ(t) is rounded to an end of dom φ*: tanh(1000) = 1, exp(−1000) = 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import bilevelnet as bln
from bilevelnet import legendre, regularizers

F64 = torch.float64
# (φ, v beyond the level, z = the knot)
FAR = [(legendre.LogCosh, 3.0, 1.0), (legendre.LogCosh, -3.0, -1.0), (legendre.Exponential, -700.0, -1.0)]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("radius", [1e3, 1e12])
@pytest.mark.parametrize(("phi", "v", "side"), FAR)
def test_a_box_holds_far_out(phi: Any, v: float, side: float, radius: float, dtype: torch.dtype) -> None:
    """v lies beyond ∇φ of the end, however that is rounded: z is the end, exactly, with derivative 0."""
    g = regularizers.Box(-radius, radius)
    at = torch.tensor([v, 0.5], dtype=dtype, requires_grad=True)
    found = bln.solve_prox(phi(), g, at)
    assert not found.status.any()
    assert found.z[0] == torch.tensor(side * radius, dtype=dtype)
    (slope,) = torch.autograd.grad(found.z.sum(), at)
    assert float(slope[0]) == 0
    assert torch.equal(bln.bregman_prox(phi(), g, at), found.z)
    assert torch.equal(torch.vmap(lambda x: bln.bregman_prox(phi(), g, x))(at), found.z)


def test_beyond_the_range_without_a_knot_there_is_unbounded() -> None:
    v = torch.tensor([3.0, -3.0], dtype=F64)
    found = bln.solve_prox(legendre.LogCosh(), regularizers.Box(lo=-1e3), v, on_failure="ignore")
    assert found.status.tolist() == [bln.Status.unbounded, bln.Status.converged]


def test_a_learned_end_far_out_has_its_gradient() -> None:
    radius = torch.tensor(1e3, dtype=F64, requires_grad=True)
    z = bln.bregman_prox(legendre.LogCosh(), regularizers.LinfBall(radius), torch.tensor([3.0], dtype=F64))
    assert torch.autograd.grad(z.sum(), radius)[0] == 1


def test_chains_keep_such_ends() -> None:
    layer = bln.BilevelLayer(
        bln.couplings.Affine(torch.nn.Linear(3, 3)),
        bln.divergences.Bregman(legendre.LogCosh()),
        regularizers.Box(-1e3, 1e3),
    ).double()
    with torch.no_grad():
        layer.coupling.module.weight.mul_(100)
    z = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bln.Chain(layer, layer)(z), layer(layer(z)))
    assert (layer(z).abs() == 1e3).any()
