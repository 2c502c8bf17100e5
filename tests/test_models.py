"""BregmanMLP and BilevelNetwork: built of layers and a chain, and trained by the upper level."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import bilevelnet as bln
from bilevelnet import divergences, legendre, models, regularizers

# ρ⁻¹, ρ in plain torch, by what a user may name the activation.
FORMULAS = {
    "tanh": ("tanh", torch.atanh, torch.tanh),
    "atan": (legendre.Atan(), torch.tan, torch.atan),
    "sigmoid": (nn.Sigmoid(), torch.logit, torch.sigmoid),
    "softplus": (nn.Softplus(beta=2.0), lambda z: z + torch.log(-torch.expm1(-2 * z)) / 2, nn.Softplus(beta=2.0)),
    "isru": ("isru", lambda z: z / (1 - z * z).sqrt(), lambda v: v / (1 + v * v).sqrt()),
    "elu": (nn.ELU(), lambda z: torch.where(z > 0, z, z.clamp(max=0).log1p()), nn.functional.elu),
    "relu": ("relu", lambda z: z, torch.relu),  # (energy, nonneg): ∇φ(z) = z, and no inverse of ρ
    "relu6": (nn.ReLU6(), lambda z: z, nn.functional.relu6),
    "pair": ((legendre.Energy(), regularizers.L1(0.1)), lambda z: z, nn.Softshrink(0.1)),
}
TAKES = {
    "bregman": lambda inverse, z: inverse(z),
    "euclidean": lambda inverse, z: z,
    "standard": lambda inverse, z: 0.0,
}


@pytest.mark.parametrize("widths", [[3, 3, 3], [3, 4, 2]], ids=str)
@pytest.mark.parametrize("version", TAKES)
@pytest.mark.parametrize("name", FORMULAS)
def test_versions_are_their_formulas(name: str, version: str, widths: list[int]) -> None:
    torch.manual_seed(0)
    activation, inverse, rho = FORMULAS[name]
    net = models.BregmanMLP(widths, activation, version=version).double()
    z = 0.1 + 0.5 * torch.rand(5, 3, dtype=torch.float64)
    want = z
    for one in net:
        residual = TAKES[version](inverse, want)
        if isinstance(one.divergence.reference, divergences.Dual):
            residual = nn.functional.linear(residual, one.divergence.reference.linear.weight)
        want = rho(residual + nn.functional.linear(want, one.coupling.weight, one.coupling.bias))
    # 1e-13: ρ⁻¹ of plain torch loses some ten ulp near the ends, which the dual state does not.
    torch.testing.assert_close(net(z), want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("rho", [torch.tanh, lambda v: v.clamp(-0.4, 1.0)], ids=["tanh", "clamp"])
def test_a_function_is_recovered_in_the_split_of_the_version(rho) -> None:
    """ρ as a function: of its φ no σ is stated, so the euclidean version takes g from its values."""
    torch.manual_seed(0)
    net = models.BregmanMLP([3, 3], rho, version="euclidean").double()
    z = torch.rand(5, 3, dtype=torch.float64) - 0.5
    want = rho(z + nn.functional.linear(z, net[0].coupling.weight, net[0].coupling.bias))
    torch.testing.assert_close(net(z), want, rtol=1e-12, atol=1e-13)  # a root search in g known by quadrature
    with pytest.raises(bln.InputError, match="slope reaches 2"):
        models.BregmanMLP([3, 3], lambda v: torch.tanh(2 * v), version="euclidean")


def test_the_euclidean_version_is_the_first_row_of_the_theorem() -> None:
    net = models.BregmanMLP([2, 2], "atan", regularizers.L1(0.1), version="euclidean").double()
    layer = net[0]
    assert isinstance(layer.divergence.phi, legendre.Energy)
    z_prev = torch.randn(50, 2, dtype=torch.float64)
    z = layer(z_prev)
    with torch.no_grad():  # a minimiser of f + D + g: no other point is below
        best = layer.problem.objective(z, z_prev)
        for _ in range(20):
            other = (z + 0.1 * torch.randn_like(z)).clamp(-1.57, 1.57)
            # 1e-14: the rounding of sums of some terms of order 1
            assert bool((layer.problem.objective(other, z_prev) >= best - 1e-14 * (1 + best.abs())).all())
    # From (φ, g) with φ = energy nothing is added: ReLU's g is the constraint.
    assert (
        models.BregmanMLP([2, 2], "relu", version="euclidean")[0].explain().startswith("closed form: energy + nonneg")
    )


@pytest.mark.parametrize(
    "activation",
    ["atan", "elu", *(pytest.param(a, marks=pytest.mark.heavy) for a in ("tanh", "sigmoid", "softplus", "squareplus"))],
)
def test_excess_is_the_regularizer_of_a_euclidean_layer(activation: str) -> None:
    phi, _ = models.activation.pair_of(activation)
    bln.testing.check_closed_form(legendre.Energy(), regularizers.Excess(phi))


@pytest.mark.parametrize(
    "phi",
    [legendre.Symlog(), pytest.param(legendre.Squareplus(), marks=pytest.mark.heavy)],
    ids=lambda p: p.key,
)
def test_excess_is_a_regularizer(phi: legendre.Legendre) -> None:
    bln.testing.check_regularizer(regularizers.Excess(phi))


@pytest.mark.parametrize(
    ("phi", "message"),
    [
        (legendre.Tanh(a=1.7159, b=0.6666), "no Euclidean prox"),  # slope 1.144 at 0
        (legendre.BoltzmannShannon(), "σ = 0"),
        (legendre.BallHellinger(), "separable"),
    ],
    ids=["scaled tanh", "exp", "ball"],
)
def test_what_is_no_euclidean_prox_is_refused(phi: legendre.Legendre, message: str) -> None:
    with pytest.raises(bln.InputError, match=message):
        models.BregmanMLP([2, 2], phi, version="euclidean")
    models.BregmanMLP([2, 2], phi)  # and is a Bregman one


SEPARABLE = {k: c(**c.examples[0]) for k, c in legendre.registry.items() if issubclass(c, legendre.Separable)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("key", [k for k, phi in SEPARABLE.items() if phi.steep])
def test_zero_weights_are_the_identity(key: str, dtype: torch.dtype) -> None:
    phi = SEPARABLE[key].to(dtype)
    net = models.BregmanMLP([16] * 6, phi, init="zero").to(dtype)
    u = torch.linspace(-3, 3, 160, dtype=dtype).reshape(10, 16)
    duals = phi.dual_domain
    u = torch.where(duals.interior(u), u, torch.full_like(u, duals.inner()))
    z0 = phi.grad_conjugate(u)
    u0 = phi.grad(z0).detach()
    z, u = net(z0, return_dual=True)
    assert torch.equal(u, u0)  # to the bit
    want = phi.grad_conjugate(u0)
    ulp = torch.nextafter(want.abs(), torch.full_like(want, torch.inf)) - want.abs()
    assert bool(((z - want).abs() <= ulp).all())


@pytest.mark.parametrize("version", models.mlp.VERSIONS)
@pytest.mark.parametrize("widths", [[3, 3, 3], [3, 5, 2]], ids=str)
def test_identity_init_is_the_identity(version: str, widths: list[int]) -> None:
    net = models.BregmanMLP(widths, "identity", version=version, init="identity").double()
    z = torch.rand(4, 3, dtype=torch.float64)
    assert torch.equal(net(z)[:, :2], z[:, :2])
    weights = [one.coupling.weight for one in net]
    assert all(bool((w == (torch.eye(*w.shape) if version == "standard" else 0)).all()) for w in weights)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("gelu", "known: atan, "),
        (nn.GELU(), "GELU"),  # decreases between two points, which are named
        (nn.Tanh, "the class Tanh"),
        (3, "not 3"),
        ((nn.Tanh(), None), "a pair is"),
    ],
    ids=["name", "module", "class", "number", "pair"],
)
def test_unknown_activations_are_told_what_is_known(activation, message: str) -> None:
    with pytest.raises(bln.InputError, match=message):
        models.BregmanMLP([2, 2], activation)


@pytest.mark.parametrize("activation", [nn.SELU(), torch.arctan, nn.Hardsigmoid()], ids=["SELU", "atan", "Hardsigmoid"])
def test_activations_that_no_table_has_are_recovered(activation) -> None:
    torch.manual_seed(0)
    layer = models.BregmanMLP([3, 3], activation, version="standard").double()
    z = torch.randn(20, 3, dtype=torch.float64)
    # 1e-9: what from_activation promises of a pair known by its values
    torch.testing.assert_close(layer(z), activation(layer[0].coupling(z)), rtol=1e-9, atol=1e-9)


def test_a_second_regularizer_is_refused() -> None:
    with pytest.raises(bln.InputError, match="brings its own g"):
        models.BregmanMLP([2, 2], "relu", regularizers.L1(0.1))


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


@pytest.mark.parametrize("widths", [[4, 4, 3], [4, 4]], ids=str)
@pytest.mark.parametrize("activation", ["softplus", torch.asinh], ids=["softplus", "asinh"])
def test_the_meta_device_gives_shapes(activation: Any, widths: list[int]) -> None:
    net = models.BregmanMLP(widths, activation).to("meta")
    assert net(torch.rand(3, 4, device="meta")).shape == (3, widths[-1])
