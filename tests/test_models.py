"""BregmanMLP and BilevelNetwork: built of layers and a chain, and trained by the upper level."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import bilevelnet as bln
from bilevelnet import divergences, legendre, models, regularizers


def test_versions_are_their_formulas() -> None:
    torch.manual_seed(0)
    phi = legendre.Tanh()
    z = torch.rand(5, 3, dtype=torch.float64) - 0.5
    bregman = models.BregmanMLP([3, 3, 3], phi).double()
    standard = models.BregmanMLP([3, 3, 3], phi, version="standard").double()
    want, plain = z, z
    for one in bregman:
        want = torch.tanh(torch.atanh(want) + nn.functional.linear(want, one.coupling.weight, one.coupling.bias))
    for one in standard:
        plain = torch.tanh(nn.functional.linear(plain, one.coupling.weight, one.coupling.bias))
    torch.testing.assert_close(bregman(z), want, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(standard(z), plain, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("widths", [[3, 3], [4, 2, 5], [2, 7, 7]], ids=str)
def test_widths_and_zero_init(widths: list[int]) -> None:
    net = models.BregmanMLP(widths, legendre.FermiDirac(), init="zero")
    z = torch.rand(6, widths[0]) * 0.8 + 0.1
    out = net(z)
    assert out.shape == (6, widths[-1])
    kept = min(widths)
    # The identity padded with u = 0, which is z = 1/2.
    torch.testing.assert_close(out[:, :kept], z[:, :kept])
    assert bool((out[:, kept:] == 0.5).all())


def test_regularizer_enters_every_layer() -> None:
    net = models.BregmanMLP([2, 2, 2], legendre.Tanh(), regularizers.Box(-0.25, 0.25))
    assert net(torch.rand(50, 2) - 0.5).abs().max() <= 0.25
    assert all("box" in one.explain() for one in net)


def test_network_trains_its_upper_objective() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 2)
    y = (x.norm(dim=1) > 1.1).long()
    net = models.BilevelNetwork(models.BregmanMLP([2, 2, 2], legendre.Atan()), nn.Linear(2, 2))
    z0 = torch.atan(x)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    first = net.objective(z0, y).item()
    for _ in range(60):
        optimiser.zero_grad()
        loss = net.objective(z0, y)
        loss.backward()
        optimiser.step()
    assert all(p.grad is not None for p in net.parameters())
    assert loss.item() < 0.7 * first


def test_representations_are_the_points_between_layers() -> None:
    net = models.BilevelNetwork(models.BregmanMLP([3, 3, 2], legendre.FermiDirac()).double(), nn.Linear(2, 2).double())
    z0 = torch.rand(4, 3, dtype=torch.float64) * 0.8 + 0.1
    points = net.representations(z0)
    assert [p.shape[-1] for p in points] == [3, 3, 2]
    assert torch.equal(points[0], z0)
    torch.testing.assert_close(points[-1], net.chain(z0), rtol=1e-14, atol=0.0)
    torch.testing.assert_close(points[1], net.chain[0](z0), rtol=1e-13, atol=0.0)


def test_state_dict_names_are_those_of_the_layers() -> None:
    net = models.BregmanMLP([3, 2], legendre.Tanh())
    assert {"0.coupling.weight", "0.coupling.bias"} <= set(net.state_dict())
    other = models.BregmanMLP([3, 2], legendre.Tanh())
    other.load_state_dict(net.state_dict())
    z = torch.rand(3, 3) - 0.5
    assert torch.equal(other(z), net(z))
    assert torch.equal(copy.deepcopy(net)(z), net(z))


def test_reference_of_differing_widths_is_learned() -> None:
    net = models.BregmanMLP([3, 2], legendre.Tanh())
    assert isinstance(net[0].divergence.reference, divergences.Dual)
    net(torch.rand(3, 3) - 0.5).sum().backward()
    assert net[0].divergence.reference.linear.weight.grad.abs().sum() > 0


def test_a_loss_of_ones_own() -> None:
    net = models.BilevelNetwork(
        bln.Chain(*models.BregmanMLP([2, 2], legendre.Tanh())), nn.Identity(), nn.functional.mse_loss
    )
    z = torch.zeros(3, 2)
    torch.testing.assert_close(net.objective(z, net(z)), torch.tensor(0.0))
