"""The Legendre function of an activation that is given as a callable: (∫ρ)*, by its value and with ρ stated."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

import bilevelnet as bln
from bilevelnet.legendre import ActivationPotential
from bilevelnet.testing import check_legendre

F64 = torch.float64


@pytest.mark.heavy
@pytest.mark.parametrize("activation", [torch.asinh, torch.exp])
def test_laws_of_a_potential(activation: Any) -> None:
    phi, _ = bln.from_activation(activation)
    check_legendre(phi)


def test_a_potential_equals_the_catalogue() -> None:
    """Value and derivatives of (∫ tanh)* against artanh; 1e-12: the quadrature is exact to rounding."""
    phi, known = ActivationPotential(torch.tanh, -1.0, 1.0), bln.legendre.Tanh()
    z = torch.tensor([-0.999999, -0.6, -1e-9, 0.0, 1e-3, 0.3, 0.9999], dtype=F64)
    for name in ("value", "grad", "hessian"):
        assert torch.allclose(getattr(phi, name)(z), getattr(known, name)(z), rtol=1e-12, atol=1e-15)
    u = torch.tensor([-30.0, -2.0, 0.0, 1e-9, 5.0, 100.0, 1e5], dtype=F64)
    assert torch.allclose(phi.conjugate(u), known.conjugate(u), rtol=1e-13, atol=1e-18)
    x = z[1:-1].clone().requires_grad_()
    assert torch.autograd.gradcheck(phi.value, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(phi.value, (x[::2],), atol=1e-4)  # differences of a second derivative


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_potential_where_its_activation_saturates(dtype: torch.dtype) -> None:
    """∇φ is ±∞ at the ends of the domain and NaN beyond; 1 ulp: z next to an end is rounded to it or to one before."""
    phi, g = bln.from_activation(torch.tanh)
    ends = phi.grad(torch.tensor([-1.0, 1.0, 1.5], dtype=dtype)).tolist()
    assert ends[:2] == [-math.inf, math.inf]
    assert math.isnan(ends[2])
    v = torch.tensor([9.0, 12.0, 30.0, 700.0, -30.0], dtype=dtype)
    found = bln.solve_prox(phi, g, v)
    assert not found.status.any()
    assert torch.allclose(found.z, v.tanh(), rtol=torch.finfo(dtype).eps, atol=0)


def test_a_stated_potential_is_its_activation() -> None:
    """The same φ by ρ as a closed form, certified by its value."""
    phi, g = bln.from_activation(torch.asinh, stated=True)
    layer = bln.BilevelLayer(bln.couplings.Affine(torch.nn.Linear(3, 3)), bln.divergences.Bregman(phi), g)
    assert layer.explain().startswith("closed form")
    z = torch.linspace(-4, 4, 12, dtype=F64).reshape(4, 3)
    layer = layer.double()
    assert torch.equal(layer(z), torch.asinh(phi.grad(z) + layer.coupling(z)))
    assert bln.verify(layer).passed


@pytest.mark.parametrize("module", [torch.nn.RReLU(), torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Tanh())])
def test_training_a_network_leaves_its_activation_in_eval_mode(module: torch.nn.Module) -> None:
    """φ is that of ρ in eval mode, as from_activation says: a random ρ would be no mirror map of it."""
    mlp = bln.models.BregmanMLP([3, 3, 3], module)
    assert not any(p.requires_grad for p in mlp[0].divergence.phi.parameters())
    z = 0.5 * torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    expected = mlp.eval()(z)
    assert torch.equal(mlp.train()(z), expected)
    assert torch.equal(copy.deepcopy(mlp).train()(z), expected)


def test_a_function_is_computed_by_itself() -> None:
    """A ρ that no table has costs what ρ costs: no root search, also where it saturates; equal to that of the table."""
    x = 100 * torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    named = bln.models.BregmanResNet("ResNet20", activation="tanh")
    torch.manual_seed(0)
    given = bln.models.BregmanResNet("ResNet20", activation=lambda v: v.tanh())
    assert torch.equal(named(x), given(x))
    assert all(layer.explain().startswith("closed form") for layer in given.chain)
