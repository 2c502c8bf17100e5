"""The laws of BilevelLayer over couplings, references, divergences and regularizers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from catalog import LEGENDRE, Spec, cases
from torch import nn

import bilevelnet as bln
from bilevelnet import couplings, divergences, legendre, regularizers
from bilevelnet.testing import check_layer

Make = Callable[[], bln.BilevelLayer]


def layer(phi, g=None, widths=(3, 3), reference=None, coupling=None, **options) -> bln.BilevelLayer:
    f = couplings.Bilinear(*widths) if coupling is None else coupling
    return bln.BilevelLayer(f, divergences.Bregman(phi, reference), g, **options)


def branch() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1))


def learned(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


LAYERS: dict[str, Make] = {
    "fermi_dirac+l1": lambda: layer(legendre.FermiDirac(), regularizers.L1(0.1)),
    "tanh": lambda: layer(legendre.Tanh()),
    "energy+nonneg": lambda: layer(legendre.Energy(), regularizers.Nonneg()),
    "squared_euclidean+box": lambda: bln.BilevelLayer(
        couplings.Bilinear(3, 3), divergences.SquaredEuclidean(), regularizers.Box(-0.5, 0.5)
    ),
    "entropy+simplex": lambda: layer(legendre.BoltzmannShannon(), regularizers.Simplex(), widths=(4, 4)),
    "energy+simplex": lambda: layer(legendre.Energy(), regularizers.Simplex(), widths=(4, 4)),
    "atan+box, row-stochastic 4→2": lambda: layer(
        legendre.Atan(), regularizers.Box(-0.5, 0.5), (4, 2), divergences.RowStochastic(4, 2)
    ),
    "atan+quantile, dual 4→2": lambda: layer(
        legendre.Atan(), regularizers.Quantile(0.1, 0.2), (4, 2), divergences.Dual(nn.Linear(4, 2, bias=False))
    ),
    "softplus, zero reference 4→2": lambda: layer(legendre.Softplus(), None, (4, 2), divergences.Zero()),
    "fermi_dirac+learned l1": lambda: layer(legendre.FermiDirac(), regularizers.L1(learned(0.1))),
    "learned tanh+learned box": lambda: layer(
        legendre.Tanh(learned(1.2), learned(0.8)), regularizers.Box(learned(-0.4), learned(0.5))
    ),
    "entropy+elastic net": lambda: layer(
        legendre.BoltzmannShannon(), regularizers.L1(0.1) + regularizers.SquaredL2(0.3)
    ),
    "ball_hellinger+l2_norm": lambda: layer(legendre.get("ball_hellinger"), regularizers.get("l2_norm", lam=0.1)),
    "mlp branch": lambda: layer(
        legendre.Squareplus(), coupling=couplings.Affine(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)))
    ),
    "conv branch": lambda: layer(
        legendre.FermiDirac(), regularizers.Box(0.2, 0.8), coupling=couplings.Affine(branch(), event_ndim=3)
    ),
}
INPUTS = {
    "mlp branch": lambda: torch.rand(6, 3) + 0.1,
    "conv branch": lambda: torch.rand(5, 3, 4, 4) * 0.8 + 0.1,
}
COMPILED = ("fermi_dirac+l1", "atan+box, row-stochastic 4→2", "learned tanh+learned box", "conv branch")


@pytest.mark.parametrize("name", LAYERS)
def test_laws(name: str, device: str) -> None:
    torch.manual_seed(0)
    z = INPUTS[name]() if name in INPUTS else None
    check_layer(LAYERS[name]().to(device), z, thorough=name in COMPILED)


@pytest.mark.heavy
@pytest.mark.parametrize("name", LAYERS)
def test_laws_thorough(name: str, device: str) -> None:
    torch.manual_seed(1)
    z = INPUTS[name]() if name in INPUTS else None
    check_layer(LAYERS[name]().to(device), z, seed=1)


@pytest.mark.parametrize("spec", cases(LEGENDRE))
def test_zero_weights_are_the_identity(spec: Spec) -> None:
    """W = 0, b = 0, g = 0: u bit-identical, z within rounding of ρ(∇φ(z))."""
    phi = spec.build()
    if phi.event_ndim == 2:
        zero = couplings.Affine(_Nothing(), event_ndim=2)
        u = -torch.eye(3, dtype=torch.float64).expand(2, 3, 3) * torch.tensor([[[0.5]], [[2.0]]])
    else:
        width = getattr(getattr(phi, "Q", None), "shape", (3,))[-1]
        zero = couplings.Bilinear(width, width).double()
        for p in zero.parameters():
            nn.init.zeros_(p)
        ends = [float(e) if abs(float(e)) < 1e30 else d for e, d in _ends(phi)]
        u = torch.linspace(ends[0], ends[1], 2 * width + 2, dtype=torch.float64)[1:-1].reshape(2, width)
        u = u if phi.steep else u.abs()  # where the end of the domain is a constraint, u = max(v, 0)
    one = bln.BilevelLayer(zero, divergences.Bregman(phi))
    z, dual = bln.Chain(one, one, one, space="dual")(u, return_dual=True)
    assert torch.equal(dual, u)
    assert torch.equal(z, phi.grad_conjugate(u))
    assert torch.equal(one(z), phi.grad_conjugate(phi.grad(z)))


def _ends(phi) -> list[tuple[float, float]]:
    domain = phi.dual_domain
    return [(domain.lo, -3.0), (domain.hi, 3.0)] if hasattr(domain, "lo") else [(-3.0, -3.0), (3.0, 3.0)]


class _Nothing(nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(z)


def test_theorem_rows() -> None:
    """The neural form of each row of the theorem, written out with torch alone."""
    torch.manual_seed(0)
    z = torch.rand(5, 3) * 0.8 + 0.1
    f = couplings.Bilinear(3, 3)
    a = z @ f.weight.T + f.bias
    row = {
        "i": (bln.BilevelLayer(f, divergences.SquaredEuclidean(), regularizers.Nonneg()), (z + a).relu()),
        "i, plain": (
            bln.BilevelLayer(f, divergences.SquaredEuclidean(divergences.Zero()), regularizers.Nonneg()),
            a.relu(),
        ),
        "ii": (bln.BilevelLayer(f, divergences.Bregman(legendre.FermiDirac())), (z.logit() + a).sigmoid()),
        "iii": (
            bln.BilevelLayer(f, divergences.Bregman(legendre.FermiDirac()), regularizers.L1(0.25)),
            (z.logit() + a - 0.25).sigmoid(),
        ),
    }
    for name, (built, want) in row.items():
        torch.testing.assert_close(built(z), want, rtol=1e-5, atol=1e-6, msg=name)


def test_solution_has_what_its_docstring_says() -> None:
    one = layer(legendre.FermiDirac(), regularizers.L1(0.1)).double()
    sol = one.solve(torch.rand(2, 5, 3, dtype=torch.float64) * 0.8 + 0.1)
    assert sol.z.shape == (2, 5, 3)
    assert sol.dual is not None
    assert sol.dual.shape == (2, 5, 3)
    assert sol.status.shape == sol.converged.shape == sol.residual.shape == (2, 5)
    assert bool(sol.converged.all())
    assert bool((sol.residual < 1e-14).all())
    assert sol.error_bound is not None
    torch.testing.assert_close(sol.error_bound, sol.residual / 4)
    assert (sol.solver, sol.iterations, sol.multipliers) == ("closed_form", 0, {})


def test_a_numeric_weight_is_fixed_and_a_parameter_is_learned() -> None:
    fixed = regularizers.L1(0.1)
    with pytest.raises(bln.InputError, match=r"torch\.nn\.Parameter"):
        fixed.lam = 0.2
    one = layer(legendre.FermiDirac(), regularizers.L1(learned(0.5)))
    optimiser = torch.optim.SGD(one.regularizer.parameters(), lr=100.0)
    z = torch.rand(8, 3) * 0.8 + 0.1
    for _ in range(5):
        optimiser.zero_grad()
        (-one(z).sum()).backward()  # pulls λ down, hard
        optimiser.step()
    assert 0 <= one.regularizer.lam.item() < 0.5
    assert bool(one(z).isfinite().all())


def test_explain_and_repr_name_the_solver() -> None:
    one = layer(legendre.FermiDirac(), regularizers.L1(0.1))
    assert "closed form: fermi_dirac + l1, dual u = v − λ" in one.explain()
    assert one.explain().splitlines()[0] in repr(one)


def test_train_mode_updates_batch_norm_once() -> None:
    torch.manual_seed(0)
    one = LAYERS["conv branch"]().train()
    one(INPUTS["conv branch"]())
    assert int(one.coupling.module[1].num_batches_tracked) == 1
    one.solve(INPUTS["conv branch"]())
    assert int(one.coupling.module[1].num_batches_tracked) == 2


def test_deepcopy_of_a_trained_layer_is_independent() -> None:
    one = LAYERS["learned tanh+learned box"]()
    other = copy.deepcopy(one)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.1)
    z = torch.zeros(2, 3) + 0.01
    assert not torch.equal(one(z), other(z))


@pytest.mark.parametrize("bad", [2.0, float("nan")])
def test_a_failed_sample_leaves_the_gradients_of_the_others(bad: float) -> None:
    """0 · NaN would reach every weight: the batch with the bad sample must give the gradients of the batch without."""
    x = torch.full((2, 4), 0.5)
    grads = []
    for rows in (x[:1], torch.cat([x[:1], x[1:] * 0 + bad])):
        torch.manual_seed(0)
        layer = bln.BilevelLayer(
            bln.couplings.Bilinear(4, 4), bln.divergences.Bregman(bln.legendre.FermiDirac()), on_failure="nan"
        )
        for module in (layer, bln.Chain(layer, on_failure="nan")):
            module(rows)[0].sum().backward()
        grads.append(layer.coupling.weight.grad)
    assert torch.allclose(*grads)


def test_another_piece_is_another_problem() -> None:
    phi = bln.legendre.FermiDirac()
    layer = bln.BilevelLayer(bln.couplings.Bilinear(4, 4), bln.divergences.Bregman(phi))
    layer.regularizer = bln.regularizers.Box(0.4, 0.6)
    assert "box" in layer.explain()
    z = layer(torch.rand(8, 4) * 0.8 + 0.1)
    assert ((z >= 0.4) & (z <= 0.6)).all()


def test_a_kept_plan_reads_weights_afresh():
    """The plan of a pair is kept between calls of bregman_prox; its tensors are not."""
    g, v = bln.regularizers.L1(torch.tensor(0.5)), torch.tensor([2.0])
    phi = bln.legendre.Energy()
    assert float(bln.bregman_prox(phi, g, v)) == 1.5
    g.lam.fill_(1.0)
    assert float(bln.bregman_prox(phi, g, v)) == 1.0
    assert float(bln.solve_prox(phi, g, v).z) == 1.0
    with pytest.raises(bln.InputError, match="expected a Regularizer instance"):
        bln.bregman_prox(phi, bln.regularizers.L1, v)
