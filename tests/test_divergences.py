"""Divergences beyond Bregman and couplings beyond affine: against formulas, and a search that knows only values."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn
from torch.func import grad, vmap

import bilevelnet as bln

F64 = torch.float64
C, D, R = bln.couplings, bln.divergences, bln.regularizers
N = 4
ZP = torch.rand(3, N, generator=torch.Generator().manual_seed(5), dtype=F64) * 0.6 + 0.2
KINDS = [(k, r) for k in ("kl", "chi2", "hellinger", "tv") for r in (False, True)]


def generator(kind: str, t: torch.Tensor) -> torch.Tensor:
    """h(t)."""
    if kind == "kl":
        return torch.xlogy(t, t) - t + 1
    return {"chi2": (t - 1) ** 2, "hellinger": (t.sqrt() - 1) ** 2, "tv": (t - 1).abs() / 2}[kind]


def bilinear(shift: float = -1.0) -> Any:
    """With a bias low enough for the divergences whose dual is a half-line."""
    torch.manual_seed(1)
    coupling = C.Bilinear(N, N).double()
    nn.init.constant_(coupling.bias, shift)
    return coupling


class EnergyNet(nn.Module):
    """f(z, z⁻) = Σ softplus(a(z, z⁻)), convex in z."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.a = nn.Linear(2 * N, 6, dtype=F64)

    def forward(self, z: torch.Tensor, z_prev: torch.Tensor) -> torch.Tensor:
        return nn.functional.softplus(self.a(torch.cat([z, z_prev], -1))).sum(-1)


class Quadratic(nn.Module):
    """½‖z − z⁻‖² + Σ cosh(W(z − z⁻)), W learned."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.w = nn.Parameter(torch.rand(N, N, dtype=F64))

    def forward(self, z: torch.Tensor, z_prev: torch.Tensor) -> torch.Tensor:
        d = z - z_prev
        return (d**2).sum(-1) / 2 + (d @ self.w.mT).cosh().sum(-1)


def quartic(z: torch.Tensor, z_prev: torch.Tensor) -> torch.Tensor:
    return (z - z_prev) ** 2 / 2 + (z - z_prev) ** 4


def entropic(z: torch.Tensor, z_prev: torch.Tensor) -> torch.Tensor:
    return z * (z / z_prev).log() - z


@pytest.mark.parametrize(("kind", "reverse"), KINDS)
def test_value_is_the_generator(kind: str, reverse: bool) -> None:
    z, p = ZP.flip(0), ZP
    want = z * generator(kind, p / z) if reverse else p * generator(kind, z / p)
    assert torch.allclose(D.FDivergence(kind, reverse).value(z, p), want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("g", [R.SquaredL2(0.5), R.L1(0.3) + R.SquaredL2(0.2)], ids=["squared_l2", "elastic"])
@pytest.mark.parametrize(("kind", "reverse"), KINDS)
def test_a_layer_minimises_f_plus_d_plus_g(kind: str, reverse: bool, g: Any) -> None:
    """Entry by entry by scipy on the values alone: the root of eps is all that values tell."""
    layer = bln.BilevelLayer(bilinear(), D.FDivergence(kind, reverse), g)
    found = layer.solve(ZP)
    assert found.converged.all()
    assert found.residual.max() <= 1e-14
    a = layer.coupling(ZP).detach()
    low = -6.0 if kind == "tv" or (kind, reverse) == ("chi2", False) else 0.0
    for i, j in ((0, 0), (1, 2), (2, 3)):
        p = ZP[i, j]

        def objective(x: float, p: torch.Tensor = p, a: torch.Tensor = a[i, j]) -> float:
            z = torch.tensor(x, dtype=F64)
            return float(layer.divergence.value(z, p) + g.value(z) - a * z)

        best = minimize_scalar(objective, bounds=(low, 6.0), method="bounded", options={"xatol": 1e-10})
        assert float(found.z[i, j]) == pytest.approx(best.x, abs=1e-6)


@pytest.mark.parametrize(("kind", "reverse"), KINDS[:-2])
def test_on_the_simplex(kind: str, reverse: bool) -> None:
    """∂D/∂z − A is one number on the free entries of each sample: weights that differ along an event have their τ."""
    layer = bln.BilevelLayer(bilinear(), D.FDivergence(kind, reverse), R.Simplex())
    found = layer.solve(ZP)
    z = found.z.detach()
    assert found.error_bound is None or not bool(found.error_bound.isnan().any())
    assert torch.allclose(z.sum(-1), torch.ones(3, dtype=F64))
    slope = grad(lambda z: layer.divergence.value(z, ZP).sum())(z) - layer.coupling(ZP).detach()
    assert (slope - slope.mean(-1, keepdim=True)).abs().max() <= 1e-12


LAYERS: dict[str, Any] = {
    "reverse kl": lambda: bln.BilevelLayer(bilinear(), D.FDivergence("kl", True), R.L1(0.1)),
    "chi2": lambda: bln.BilevelLayer(bilinear(), D.FDivergence("chi2"), R.Simplex()),
    "tv": lambda: bln.BilevelLayer(bilinear(), D.FDivergence("tv"), R.SquaredL2(0.5)),
    "f, fermi_dirac": lambda: bln.BilevelLayer(C.Function(EnergyNet()), D.Bregman(bln.legendre.FermiDirac())),
    "f, reverse kl": lambda: bln.BilevelLayer(C.Function(EnergyNet()), D.FDivergence("kl", True), R.SquaredL2(0.5)),
    "D": lambda: bln.BilevelLayer(bilinear(0.1), D.Function(Quadratic())),
    "D by entries": lambda: bln.BilevelLayer(bilinear(0.1), D.Function(quartic, event_ndim=0), R.L1(0.3)),
    "D by entries, simplex": lambda: bln.BilevelLayer(
        bilinear(), D.Function(entropic, bln.domains.Positive(), event_ndim=0), R.Simplex()
    ),
    "f, D by entries": lambda: bln.BilevelLayer(C.Function(EnergyNet()), D.Function(quartic, event_ndim=0)),
    "mahalanobis": lambda: bln.BilevelLayer(
        bilinear(0.1), D.Mahalanobis(nn.Parameter(torch.eye(N, dtype=F64) + 0.2)), R.SquaredL2(0.5)
    ),
    "f, D, composite": lambda: bln.BilevelLayer(
        C.Function(EnergyNet()),
        D.FDivergence("kl", reverse=True),
        0.1 * R.L1().precompose(torch.eye(N, dtype=F64)[:3] - 0.3) + R.L2Ball(1.0),
    ),
}


@pytest.mark.parametrize(
    "make",
    [pytest.param(m, id=n, marks=pytest.mark.heavy if "composite" in n else ()) for n, m in LAYERS.items()],
)
def test_layers(make: Any) -> None:
    """A minimum of the objective, gradients to z⁻ and every parameter, the same through copies, shapes and vmap."""
    layer = make().double()
    found = layer.solve(ZP)
    assert found.converged.all()
    z = layer(ZP)
    assert torch.allclose(z, found.z, rtol=1e-14)
    assert (layer.gap(ZP, z.detach()).abs() <= 1e-14).all()
    assert torch.autograd.gradcheck(layer, (ZP[:2].clone().requires_grad_(),))
    slopes = torch.autograd.grad(z.sum(), list(layer.parameters()))
    assert all(s.isfinite().all() for s in slopes)
    assert torch.allclose(vmap(layer)(ZP), z, rtol=1e-10, atol=1e-13)
    x = ZP.clone().requires_grad_()
    layer(x).sum().backward()
    assert torch.allclose(vmap(grad(lambda x: layer(x).sum()))(ZP), x.grad, rtol=1e-8, atol=1e-10)
    assert torch.equal(copy.deepcopy(layer)(ZP), z)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(ZP), z)
    assert torch.allclose(layer(ZP.reshape(3, 1, N)).reshape(3, N), z, rtol=1e-12)
    assert layer(ZP[:0]).shape == (0, N)
    assert not [name for name in layer.state_dict() if "z_prev" in name or "weight_value" in name]


def test_a_convex_network_and_composite_terms() -> None:
    """Newton inside, multipliers for the terms that are not smooth outside."""
    layer = LAYERS["f, D, composite"]()
    found = layer.solve(ZP)
    assert found.solver == "splitting"
    assert found.converged.all()
    layer(ZP).sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


HEAVY = [pytest.param(name, marks=pytest.mark.heavy) for name in ("f, reverse kl", "f, D, composite")]


@pytest.mark.parametrize("name", ["reverse kl", "f, fermi_dirac", *HEAVY])
def test_compile(name: str) -> None:
    """z⁺ and its gradients, also at a z⁻ that the trace did not see."""
    layer = LAYERS[name]().double()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for x in (ZP, 0.9 * ZP):
        mine, theirs = (f(x) for f in (compiled, layer))
        assert torch.allclose(mine, theirs, rtol=1e-12)
        slopes = (torch.autograd.grad(z.square().sum(), list(layer.parameters())) for z in (mine, theirs))
        assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-14) for a, b in zip(*slopes, strict=True))


def test_nothing_is_left_behind() -> None:
    """z⁻ is in the pieces for one solve only, whether it ends well or not."""
    layer = LAYERS["f, reverse kl"]().double()
    layer(ZP)
    with pytest.raises(bln.DomainError, match=r"domain .* of reverse kl"):
        layer(-ZP)
    term = layer.coupling.term
    assert term.z_prev.shape == (2,)
    assert layer.divergence.phi.weight.tolist() == [1.0, 1.0]


def test_one_bad_sample_leaves_the_others() -> None:
    layer = bln.BilevelLayer(C.Function(EnergyNet()), D.FDivergence("kl", True), R.SquaredL2(0.5), on_failure="nan")
    x = ZP.clone()
    x[1, 0] = -1.0
    z = layer(x)
    assert z.isnan().all(-1).tolist() == [False, True, False]
    assert torch.allclose(z[::2], layer(ZP)[::2], rtol=1e-12)
    (slope,) = torch.autograd.grad(z[::2].sum(), layer.coupling.function.a.weight)
    assert slope.isfinite().all()


def test_a_chain_of_them() -> None:
    """Each layer takes the point, not the dual of another z⁻."""
    divergence = D.FDivergence("kl", reverse=True)
    layers = [bln.BilevelLayer(bilinear(), divergence) for _ in range(2)]
    assert torch.allclose(bln.Chain(*layers)(ZP), layers[1](layers[0](ZP)), rtol=1e-13)
    with pytest.raises(bln.InputError, match="start from z⁻"):
        bln.Chain(*layers, space="dual")


def test_forward_kl_is_bregman() -> None:
    layer = bln.BilevelLayer(bilinear(), D.FDivergence("kl"), R.L1(0.2))
    bregman = bln.BilevelLayer(layer.coupling, D.Bregman(bln.legendre.BoltzmannShannon()), R.L1(0.2))
    assert torch.equal(layer(ZP), bregman(ZP))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: D.FDivergence("renyi"), "unknown f-divergence 'renyi'; known: kl, chi2"),
        (lambda: D.Function(3), "takes a torch.nn.Module or a function"),
        (lambda: D.Function(quartic, bln.domains.Simplex()), "interval with fixed ends"),
        (lambda: D.Function(quartic, event_ndim=-1), "event_ndim"),
        (lambda: C.Function(quartic, event_ndim=0), "event_ndim"),
        (lambda: bln.BilevelLayer(bilinear(), D.FDivergence("tv"), R.L1()), "piecewise linear in z"),
        (lambda: bln.BilevelLayer(bilinear(), bln.legendre.Energy()), "is no Divergence"),
    ],
)
def test_refusals(make: Any, why: str) -> None:
    with pytest.raises(bln.InputError, match=why):
        make()


def test_a_closure_that_would_lose_its_gradient_is_refused() -> None:
    net = EnergyNet()
    with pytest.raises(bln.InputError, match="closes over net, a EnergyNet"):
        C.Function(lambda z, z_prev: net(z, z_prev))


def test_a_coupling_that_is_not_convex_is_refuted() -> None:
    layer = bln.BilevelLayer(C.Function(lambda z, z_prev: 5 * (z * z_prev).sum(-1).cos()), D.SquaredEuclidean())
    with pytest.raises(bln.InputError, match="not convex"):
        layer(ZP)


@pytest.mark.parametrize("g", [bln.regularizers.Zero(), bln.regularizers.L2Ball(1.0), bln.regularizers.Simplex()])
def test_a_concave_function_of_entries_is_refuted(g):
    """With a ball it was solved, as converged; the layer keeps no z⁻ of the call that raised."""
    layer = bln.BilevelLayer(
        bln.couplings.Bilinear(3, 3), bln.divergences.Function(lambda z, p: -((z - p) ** 2), event_ndim=0), g
    )
    with pytest.raises(bln.InputError, match="is not convex: at two points"):
        layer(torch.rand(2, 3))
    assert layer.divergence.phi.z_prev.shape == (2,)


@pytest.mark.parametrize("seed", range(5))
def test_a_dip_in_each_of_many_entries_is_refuted(seed: int) -> None:
    """Σ ((z − z⁻)² − 1)² bends down in one part of each entry, which chords of all entries at once average away."""
    torch.manual_seed(seed)
    quartic = D.Function(lambda z, p: ((z - p) ** 2 - 1).square().sum(-1))
    with pytest.raises(bln.InputError, match="is not convex: at two points"):
        bln.BilevelLayer(C.Bilinear(8, 8).double(), quartic)(torch.randn(6, 8, dtype=torch.float64))


@pytest.mark.parametrize("value", [lambda z, p: 3.0, lambda z, p: z.sum(-1).detach().numpy()], ids=["float", "numpy"])
def test_a_value_that_is_no_tensor_is_told(value: Any) -> None:
    with pytest.raises(bln.InputError, match=r"at points of shape .*; give a tensor"):
        bln.BilevelLayer(C.Bilinear(3, 3), D.Function(value))(torch.rand(2, 3))
