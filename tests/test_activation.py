"""from_activation: activations of numbers solved again from the values of (φ, g) alone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from by_value import TOLERANCE, GByValue, PhiByValue
from torch import Tensor, nn

import bilevelnet as bln
from bilevelnet.certificates.activation_profile import Flat, NotProximal, profile

F64 = torch.float64
V = torch.linspace(-12, 12, 49, dtype=F64)


class Fan(nn.Module):
    """A module of one's own: flat on [−2, 1], slopes 0.5 below and 1 above."""

    def forward(self, v: Tensor) -> Tensor:
        return torch.where(v > 1, v - 1, torch.where(v < -2, 0.5 * (v + 2), 0.0 * v))


def cliff(v: Tensor) -> Tensor:
    return torch.tanh(v - 1).relu()


def wave(v: Tensor) -> Tensor:
    return v + 0.5 * torch.sin(v)


def scaled_tanh(v: Tensor) -> Tensor:
    return 1.7159 * torch.tanh(0.6666 * v)


def cube_relu(v: Tensor) -> Tensor:
    return v.relu() ** 3


MODULES = [
    nn.ReLU(),
    nn.LeakyReLU(0.2),
    nn.LeakyReLU(0.0),
    nn.PReLU(init=0.3),
    nn.ELU(0.7),
    nn.CELU(0.5),
    nn.SELU(),
    nn.Softplus(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Softsign(),
    nn.Hardtanh(-0.5, 2.0),
    nn.ReLU6(),
    nn.Hardsigmoid(),
    nn.Softshrink(0.4),
    nn.Identity(),
]
POTENTIALS = [nn.LogSigmoid(), nn.Tanhshrink(), torch.asinh, torch.exp, wave]
FLAT = [Fan(), cliff, cube_relu, nn.Threshold(0.0, 0.0)]
BREGMAN_ONLY = [nn.SELU(), scaled_tanh, wave, torch.exp, cube_relu]  # slopes above 1


def name(activation: Any) -> str:
    return getattr(activation, "__name__", type(activation).__name__)


def error(activation: Any, phi: Any, g: Any, v: Tensor) -> float:
    """Of the solution from the values alone, by the search that knows nothing else."""
    solution = bln.solve_prox(PhiByValue(phi), GByValue(g), v, solver="scalar")
    rho = copy.deepcopy(activation).double() if isinstance(activation, nn.Module) else activation
    return float((solution.z - rho(v).detach()).abs().max())


@pytest.mark.parametrize("split", ["bregman", "euclidean"])
@pytest.mark.parametrize("activation", MODULES, ids=name)
def test_modules_from_values_alone(activation: Any, split: str) -> None:
    if split == "euclidean" and isinstance(activation, nn.SELU):
        return
    phi, g = bln.from_activation(activation, split)
    assert error(activation, phi, g, V) < TOLERANCE
    rho = copy.deepcopy(activation).double()
    assert float((bln.bregman_prox(phi, g, V) - rho(V)).detach().abs().max()) < 1e-14  # the closed form is ρ
    if split == "euclidean":
        assert type(phi) is bln.legendre.Energy


@pytest.mark.parametrize(
    ("activation", "split"),
    [
        pytest.param(a, s, id=f"{name(a)}-{s}", marks=() if quick else pytest.mark.heavy)
        for a in [*POTENTIALS, *FLAT]
        for s in ("bregman", "euclidean")
        if s == "bregman" or a not in BREGMAN_ONLY
        for quick in [(name(a), s) in (("asinh", "euclidean"), ("LogSigmoid", "bregman"), ("wave", "bregman"))]
    ],
)
def test_callables_from_values_alone(activation: Any, split: str) -> None:
    phi, g = bln.from_activation(activation, split)
    assert error(activation, phi, g, V[::2]) < TOLERANCE


@pytest.mark.parametrize(
    "activation",
    [pytest.param(a, id=name(a), marks=pytest.mark.heavy if a is cube_relu else ()) for a in [*POTENTIALS, *FLAT]],
)
def test_callables_through_the_solver(activation: Any) -> None:
    """The solvers know φ by its value and g by its knots: prox^φ_g = ρ is a result of the search."""
    phi, g = bln.from_activation(activation)
    assert not phi.explicit
    v = V[::4].clone().requires_grad_()
    z = bln.bregman_prox(phi, g, v)
    rho = copy.deepcopy(activation).double() if isinstance(activation, nn.Module) else activation
    assert float((z - rho(v)).detach().abs().max()) < 1e-12
    (got,) = torch.autograd.grad(z.sum(), v)
    (want,) = torch.autograd.grad(rho(v).sum(), v)
    away = (v.detach() + 2).abs() > 1e-9  # Fan's corner at −2 is on the grid: either slope is one
    assert torch.allclose(got[away], want[away], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("n", [6, pytest.param(78, marks=pytest.mark.heavy)])
def test_stairs(n: int) -> None:
    """n + 2 flat parts, the inner ones of width ½, with ramps of slope 2 between."""

    def stairs(v: Tensor) -> Tensor:
        k = (v + n / 2).floor().clamp(0, n)
        return k - n / 2 + (2 * (v + n / 2 - k) - 1).clamp(0, 1)

    phi, g = bln.from_activation(stairs)
    v = V[::8] + 0.125
    assert len(g.knots) == n + 2
    assert torch.allclose(bln.bregman_prox(phi, g, v), stairs(v), rtol=1e-13, atol=1e-13)  # some ulp of n


def test_flat_parts_become_knots_and_constraints() -> None:
    _, g = bln.from_activation(Fan())
    assert g.knots == (0.0,)
    assert g.slopes == pytest.approx((-2.0, 1.0), abs=1e-15)
    phi, g = bln.from_activation(cliff)
    assert g.domain == bln.domains.Nonnegative()
    assert phi.domain == bln.domains.Interval(-float("inf"), 1.0)
    assert isinstance(bln.from_activation(nn.ReLU())[1], bln.regularizers.Nonneg)
    assert isinstance(bln.from_activation(nn.Softshrink())[1], bln.regularizers.L1)


def test_saturation_is_no_flat_part() -> None:
    assert profile(torch.tanh, "tanh").flats == ()
    assert profile(torch.exp, "exp") == (0.0, float("inf"), ())
    assert profile(torch.asinh, "asinh").hi == float("inf")
    assert profile(torch.relu, "relu").flats == (Flat(-float("inf"), 0.0, 0.0),)


@pytest.mark.parametrize("activation", [nn.SELU(), scaled_tanh, wave, nn.ELU(2.0), nn.LeakyReLU(1.5)], ids=name)
def test_refused_for_the_euclidean_split(activation: Any) -> None:
    bln.from_activation(activation)
    with pytest.raises(NotProximal, match="1-Lipschitz") as caught:
        bln.from_activation(activation, "euclidean")
    (v, w), (a, b) = caught.value.points, caught.value.values
    assert b - a > w - v > 0


@pytest.mark.parametrize("activation", [nn.ELU(0.0), nn.CELU(-1.0), nn.Softplus(-1.0)], ids=str)
def test_parameters_that_the_catalogue_refuses_are_recovered(activation: nn.Module) -> None:
    phi, g = bln.from_activation(activation)
    v = V[::4]
    want = activation(v)
    assert torch.allclose(bln.bregman_prox(phi, g, v), want, rtol=1e-12, atol=1e-12)


def cube_root(v: Tensor) -> Tensor:
    return v.sign() * v.abs() ** (1 / 3)


@pytest.mark.heavy
def test_a_value_without_derivative_where_the_search_starts() -> None:
    """φ' is NaN at 0, where the search starts: both sides are found, and 0 itself is told."""
    phi, g = bln.from_activation(cube_root)
    v = torch.tensor([-12.0, -1e-3, 1e-3, 12.0], dtype=F64)
    assert error(cube_root, phi, g, v) < TOLERANCE
    status = bln.solve_prox(PhiByValue(phi), GByValue(g), 0 * v, solver="scalar", on_failure="ignore").status
    assert bool((status == bln.solution.INVALID).all())


def test_a_steep_activation_beside_zero() -> None:
    """ρ' = ∞ at 0: u = z³ keeps its digits however small; 1e-14: 64 eps."""
    phi, _ = bln.from_activation(cube_root)
    u = torch.tensor([-1e-18, 1e-30, 1e-60], dtype=F64)
    assert torch.allclose(phi.grad(cube_root(u)), u, rtol=1e-14, atol=0)


@pytest.mark.heavy
def test_a_steep_activation_beside_zero_through_the_solver() -> None:
    phi, g = bln.from_activation(cube_root)
    v = torch.tensor([-1e-18, 1e-30, 1e-60], dtype=F64)
    assert torch.allclose(bln.bregman_prox(phi, g, v), cube_root(v), rtol=1e-14, atol=0)


@pytest.mark.parametrize("split", ["bregman", "euclidean"])
@pytest.mark.parametrize("module", [nn.Dropout(0.5), nn.RReLU(), nn.Sequential(nn.Dropout(0.3), nn.Tanh())])
def test_modules_count_in_eval_mode(module: nn.Module, split: str) -> None:
    module.train()
    phi, g = bln.from_activation(module, split)
    assert module.training
    got = bln.bregman_prox(phi, g, V)
    assert torch.allclose(got, copy.deepcopy(module).eval()(V), atol=1e-12)


def test_modules_that_work_in_place() -> None:
    v = V.clone()
    for module in (
        nn.ReLU(inplace=True),
        nn.Threshold(0.0, 0.0, inplace=True),
        nn.RReLU(0.2, 0.4, inplace=True).eval(),
    ):
        phi, g = bln.from_activation(module)
        got = bln.bregman_prox(phi, g, v)
        assert torch.equal(v, V)
        assert torch.allclose(got, module(V.clone()), atol=1e-12)


def test_a_potential_in_a_layer() -> None:
    """float32, batches, empty and not, vmap, a copy, a pickle; an element outside the range alone is NaN."""
    phi, g = bln.from_activation(nn.LogSigmoid())
    layer = bln.BilevelLayer(bln.couplings.Bilinear(3, 3), bln.divergences.Bregman(phi), g, on_failure="nan")
    z = -torch.rand(2, 4, 3) - 0.1
    out = layer(z)
    assert out.dtype is torch.float32
    assert bool((out < 0).all())
    assert torch.allclose(phi.grad(out), phi.grad(z) + layer.coupling(z), atol=1e-3)  # u of a z rounded to float32
    assert layer(z[:, :0]).shape == (2, 0, 3)
    assert torch.allclose(torch.func.vmap(layer)(z), out, atol=1e-6)
    assert torch.equal(copy.deepcopy(layer)(z), out)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(z), out)
    bad = z.clone()
    bad[0, 0, 0] = 0.5
    assert bool(layer(bad)[0, 0].isnan().all())
    assert torch.allclose(layer(bad)[1], out[1])


@pytest.mark.heavy
def test_a_potential_compiles() -> None:
    phi, g = bln.from_activation(wave)
    f = torch.compile(lambda v: bln.bregman_prox(phi, g, v), fullgraph=True, backend="aot_eager")
    v = V[::8].clone().requires_grad_()
    assert torch.allclose(f(v), wave(v), atol=1e-12)
