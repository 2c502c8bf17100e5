"""The laws of every pair (φ, g) with a closed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from catalog import COMPOSITES, LEGENDRE, PAIRS, drawn_pairs, pair_cases
from hypothesis import assume, example, given
from scipy.optimize import brentq

import bilevelnet as bln
from bilevelnet.prox import Bound
from bilevelnet.solution import Status
from bilevelnet.testing import check_closed_form, strategies
from bilevelnet.testing.calculus import STEPS, central


@pytest.mark.parametrize(("phi", "g"), pair_cases())
def test_laws(phi: Any, g: Any, device: str) -> None:
    check_closed_form(phi.build().to(device), g.build().to(device), device=device, thorough=False)


@pytest.mark.parametrize(("phi", "g"), drawn_pairs())
def test_transforms(phi: Any, g: Any, device: str) -> None:
    check_closed_form(phi.build().to(device), g.build().to(device), device=device)


@example((bln.legendre.Tsallis(alpha=0.99), bln.regularizers.Nonneg()))  # z = 1e500 at v = −0.001
@given(strategies.pairs())
def test_laws_at_drawn_weights(pair: tuple[Any, Any]) -> None:
    try:
        Bound(*pair, "closed_form", "nan")  # refuses widths that differ too
    except bln.InputError:
        assume(False)
    check_closed_form(*pair, thorough=False)


@pytest.mark.parametrize("solver", ["auto", "scalar"])
def test_a_solution_beyond_the_range_of_floats_is_invalid(solver: str) -> None:
    """e^800 and e^12 in float16: the status says so, the policy acts on it, and shared weights keep their gradient."""
    phi, lam = bln.legendre.BoltzmannShannon(), torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    g, v = bln.regularizers.L1(lam), torch.tensor([800.0, 1.0], dtype=torch.float64, requires_grad=True)
    sol = bln.solve_prox(phi, g, v, solver, on_failure="nan")
    assert sol.status.tolist() == [Status.invalid, Status.converged]
    assert sol.residual.tolist()[0] == float("inf")
    for z in (sol.z, bln.bregman_prox(phi, g, v, solver, on_failure="nan")):
        assert z.isnan().tolist() == [True, False]
        slopes = torch.autograd.grad(torch.where(z.isnan(), 0.0, z).sum(), [v, lam], retain_graph=True)
        torch.testing.assert_close(
            slopes[0], torch.tensor([0.0, 0.9], dtype=torch.float64).exp() * torch.tensor([0, 1])
        )
        torch.testing.assert_close(slopes[1], -torch.tensor(0.9, dtype=torch.float64).exp())
    with pytest.raises(bln.SolveError, match="invalid"):
        bln.bregman_prox(phi, g, v, solver)
    half = bln.solve_prox(phi, bln.regularizers.Zero(), torch.tensor([12.0, 1.0], dtype=torch.float16), solver, "nan")
    assert half.status.tolist() == [Status.invalid, Status.converged]


def test_every_legendre_function_and_composite_has_a_pair() -> None:
    assert {p.name for p, _ in PAIRS} == {s.name for s in LEGENDRE}
    assert {g.name for _, g in PAIRS} >= {c.name for c in COMPOSITES}


@pytest.mark.parametrize("key", ["energy", "boltzmann_shannon", "fermi_dirac", "tanh", "squareplus"])
def test_agrees_with_brentq(key: str) -> None:
    """The inclusion solved by scipy in the primal variable, beside our own bisection in the laws."""
    phi, g = bln.legendre.get(key), bln.regularizers.L1(0.3) + bln.regularizers.Box(-0.8, 0.9)
    ends = [max(float(phi.domain.lo), -0.8) + 1e-13, min(float(phi.domain.hi), 0.9) - 1e-13]
    for v in (-0.7, 0.1, 0.45, 0.8):

        def residual(z: float, v: float = v) -> float:
            t = torch.tensor(z, dtype=torch.float64)
            return float(phi.grad(t) + 0.3 * t.sign()) - v

        z = bln.bregman_prox(phi, g, torch.tensor(v, dtype=torch.float64))
        if residual(ends[0]) >= 0:
            want = ends[0]
        elif residual(ends[1]) <= 0:
            want = ends[1]
        else:
            want = brentq(residual, *ends, xtol=1e-15, rtol=1e-14)
        assert abs(float(z) - want) <= 2e-13, v  # the ends were moved by 1e-13


def test_all_mirror_maps_compile_to_one_graph() -> None:
    """Every φ with g = 0 in one function: values and gradients of the compiled graph against eager mode."""
    torch.compiler.reset()
    zero = bln.regularizers.Zero()
    bounds = [Bound(s.build(), zero, "closed_form", "nan") for s in LEGENDRE if s.first and not s.build().event_ndim]

    def all_of_them(v: torch.Tensor) -> torch.Tensor:
        return torch.stack([bound.apply(v, v.dtype, ()) for bound in bounds])

    v = torch.tensor([-3.0, -0.5, -0.1], dtype=torch.float64)
    x, y = (v.clone().requires_grad_() for _ in range(2))
    want, got = all_of_them(x), torch.compile(all_of_them, fullgraph=True, backend="aot_eager")(y)
    torch.testing.assert_close(got, want, rtol=1e-14, atol=0.0, equal_nan=True)
    ok = want.isfinite()
    want[ok].sum().backward()
    got[ok].sum().backward()
    torch.testing.assert_close(y.grad, x.grad, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("lam", [0.0, torch.tensor(0.0, dtype=torch.float64)], ids=["number", "tensor"])
@pytest.mark.parametrize("key", ["l1", "squared_l2", "elastic_net", "quantile"])
def test_weight_zero_is_the_plain_mirror_map(key: str, lam: Any) -> None:
    v = torch.tensor([-2.0, -0.3, 0.0, 0.4, 5.0], dtype=torch.float64)
    params = {"lam": lam, "lam2": lam} if key == "elastic_net" else {"lam": lam}
    g = bln.regularizers.get(key, **params)
    for phi in (bln.legendre.BoltzmannShannon(), bln.legendre.Energy(), bln.legendre.Squareplus()):
        torch.testing.assert_close(bln.bregman_prox(phi, g, v), phi.grad_conjugate(v), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.heavy)])
def test_bregman_prox_itself_compiles(backend: str) -> None:
    torch.compiler.reset()
    g = bln.regularizers.L1(0.2) + bln.regularizers.Box(0.1, 0.8)
    phi = bln.legendre.FermiDirac()

    @torch.compile(fullgraph=True, backend=backend)
    def f(v: torch.Tensor) -> torch.Tensor:
        return bln.bregman_prox(phi, g, v)

    v = torch.linspace(-4, 4, 33, dtype=torch.float64)
    torch.testing.assert_close(f(v), bln.bregman_prox(phi, g, v), rtol=1e-14, atol=0.0)


def test_the_ends_of_the_domain_are_constraints_beside_a_coupled_term() -> None:
    """Tsallis α > 1 is finite at 0 with a finite slope: v − u < 0 there is no residual. Tolerance: 4 eps of v."""
    v = torch.tensor([-0.4, 0.3, 1.2, -2.0], dtype=torch.float64)
    for g in (bln.regularizers.L2Norm(0.0), bln.regularizers.LinfNorm(0.0), bln.regularizers.TV1d(0.3)):
        sol = bln.solve_prox(bln.legendre.Tsallis(alpha=1.5), g, v)
        assert float(sol.residual) <= 4 * torch.finfo(v.dtype).eps * float(v.norm()), g


def test_a_small_kink_is_no_smooth_point() -> None:
    """max(x, 1.01 x) at 0: its two differences agree to 1 %, and a derivative there would be off by half of that."""
    h, steps = 1e-5, torch.tensor(STEPS, dtype=torch.float64)
    kinked, curved = (
        f(h * steps).unsqueeze(-1) for f in (lambda x: torch.maximum(x, 1.01 * x), lambda x: x + 50 * x**2)
    )
    assert not central(kinked, h, torch.abs)[1].any()
    assert central(curved, h, torch.abs)[1].all()
