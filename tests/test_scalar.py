"""The scalar solver: against the closed forms where there is one, against scipy where there is none."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from by_value import MyEntropy
from catalog import PAIRS, REGULARIZERS, SEPARABLE, Spec, separable
from scipy.optimize import brentq
from torch.func import grad, hessian, jvp, vmap

import bilevelnet as bln

F64 = torch.float64
V = torch.tensor([-3.1, -1.2, -0.45, -0.02, 0.3, 0.85, 2.4], dtype=F64)


class MyPenalty(bln.regularizers.Separable):
    """g by its value alone, with a kink at 0.3."""

    def __init__(self, lam: Any):
        super().__init__()
        self.lam = lam

    def value(self, z: torch.Tensor) -> torch.Tensor:
        return self.lam * (z.cosh() - 1) + (z - 0.3).abs()


class Moving(bln.regularizers.Separable):
    """A kink at t, a parameter."""

    def __init__(self, t: Any, stated: bool):
        super().__init__()
        self.t, self.stated = t, stated

    def value(self, z: torch.Tensor) -> torch.Tensor:
        return (z - self.t).abs() + z**2 / 3

    def kinks(self) -> tuple[Any, ...]:
        return (self.t,) if self.stated else ()


CLOSED = [(p, g) for p, g in PAIRS if separable(p) and separable(g) and getattr(p, "first", True) and g.first]
OPEN = [
    (p, g)
    for p in SEPARABLE
    for g in REGULARIZERS
    if g.first and separable(g) and (p, g) not in CLOSED and p.cls.key != "tanh_mixture"
]


def ids(pairs: list[tuple[Any, Any]]) -> list[Any]:
    return [pytest.param(p, g, id=f"{p.name}-{g.name}") for p, g in pairs]


def solvable(phi: Any, g: Any, v: torch.Tensor, solver: str) -> Any:
    return bln.solve_prox(phi, g, v, solver=solver, on_failure="ignore")


@pytest.mark.parametrize(("phi", "g"), ids(CLOSED))
def test_agrees_with_the_closed_form(phi: Spec, g: Any) -> None:
    """Values to 1e-9 and gradients to 1e-7, relative (the issue's figures); the same elements have a solution."""
    phi, g = phi.build().double(), g.build().double()
    a, b = V.clone().requires_grad_(), V.clone().requires_grad_()
    closed, found = solvable(phi, g, a, "closed_form"), solvable(phi, g, b, "scalar")
    good = closed.converged
    assert torch.equal(good, found.converged)
    assert torch.allclose(found.z[good], closed.z[good], rtol=1e-9, atol=1e-12)
    assert torch.allclose(found.dual[good], closed.dual[good], rtol=1e-9, atol=1e-12)
    if good.any():
        da, db = (torch.autograd.grad(s.z[good].sum(), x)[0] for s, x in ((closed, a), (found, b)))
        assert torch.allclose(da[good], db[good], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("phi", "g"), ids(OPEN))
def test_agrees_with_brentq(phi: Spec, g: Spec) -> None:
    """The inclusion solved by scipy in the chart of dom φ ∩ dom g; 1e-9 relative is the issue's figure."""
    phi, g = phi.build().double(), g.build().double()
    domain = phi.domain.intersect(g.domain)
    solution = solvable(phi, g, V, "scalar")
    for v, z, good in zip(V.tolist(), solution.z.tolist(), solution.converged.tolist(), strict=True):

        def side(x: float, v: float = v) -> float:
            t = to_domain(domain, x)
            left, right = g.derivatives(t)
            low, high = float(phi.grad(t) + left - v), float(phi.grad(t) + right - v)
            return low if low > 0 else high if high < 0 else 0.0

        # An end that a float reaches closes the search; with no change of sign there is no minimiser.
        if side(-30.0) >= 0 or side(30.0) <= 0:
            assert not good or abs(z - float(to_domain(domain, -30.0 if side(-30.0) >= 0 else 30.0))) < 1e-6
            continue
        want = float(to_domain(domain, brentq(side, -30.0, 30.0, xtol=1e-14, rtol=1e-14)))
        assert good
        assert z == pytest.approx(want, rel=1e-9, abs=1e-11)


def to_domain(domain: Any, x: float) -> torch.Tensor:
    t, lo, hi = torch.tensor(x, dtype=F64), float(domain.lo), float(domain.hi)
    if lo > -float("inf") and hi < float("inf"):
        return lo + (hi - lo) * torch.sigmoid(t)
    return lo + t.exp() if lo > -float("inf") else hi - (-t).exp() if hi < float("inf") else t


def test_values_alone_through_every_transform() -> None:
    phi, lam = MyEntropy(), torch.tensor(0.5, dtype=F64, requires_grad=True)
    v = torch.tensor([-3.0, -0.9, 0.1, 1.3, 6.0], dtype=F64)

    def f(v: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        return bln.bregman_prox(phi, MyPenalty(lam), v)

    assert torch.autograd.gradcheck(f, (v.clone().requires_grad_(), lam))
    assert torch.autograd.gradgradcheck(f, (v.clone().requires_grad_(), lam))
    z, d = f(v, lam.detach()), grad(lambda v: f(v, lam.detach()).sum())(v)
    assert torch.equal(vmap(lambda v: f(v, lam.detach()))(v), z)
    assert torch.allclose(vmap(grad(lambda v: f(v, lam.detach())))(v), d, rtol=1e-12)
    assert torch.allclose(jvp(lambda v: f(v, lam.detach()), (v,), (torch.ones_like(v),))[1], d, rtol=1e-12)
    lams = torch.tensor([0.2, 0.5, 3.0], dtype=F64)
    each = torch.stack([f(v, x) for x in lams])
    assert torch.allclose(vmap(f, (None, 0))(v, lams), each, rtol=1e-13)
    twice = grad(grad(lambda x: f(v, x).sum()))(lam.detach())
    assert torch.allclose(hessian(lambda x: f(v, x).sum())(lam.detach()), twice)
    g = MyPenalty(0.5)
    compiled = torch.compile(lambda v: bln.bregman_prox(phi, g, v), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(v), z)
    batch = torch.compile(vmap(grad(lambda v: bln.bregman_prox(phi, g, v))), fullgraph=True, backend="aot_eager")
    assert torch.allclose(batch(v), d, rtol=1e-12)


def test_a_layer_of_values_copies_pickles_and_compiles() -> None:
    layer = bln.BilevelLayer(
        bln.couplings.Bilinear(4, 4),
        bln.divergences.Bregman(bln.legendre.FermiDirac()),
        bln.regularizers.SquaredL2(2.0),
    ).double()
    x = torch.rand(5, 4, dtype=F64) * 0.8 + 0.1
    want = layer(x)
    assert "scalar" in layer.explain()
    assert "not closed_form" in layer.explain()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), want)
        assert torch.equal(torch.compile(twin, fullgraph=True, backend="aot_eager")(x), want)
    bln.Chain(layer, copy.deepcopy(layer))(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_a_kink_that_moves_says_so_or_has_its_derivative() -> None:
    t = torch.tensor(0.3, dtype=F64, requires_grad=True)
    v = torch.linspace(-3, 3, 7, dtype=F64)
    found = bln.solve_prox(MyEntropy(), Moving(t, stated=False), v)
    assert (found.status == bln.Status.kink).tolist() == [False, False, True, True, False, False, False]
    assert found.converged.all()
    stated = bln.solve_prox(MyEntropy(), Moving(t, stated=True), v)
    assert (stated.status == bln.Status.converged).all()
    assert torch.autograd.grad(stated.z.sum(), t)[0] == 2.0  # two elements rest on it
    assert torch.autograd.gradcheck(lambda t: bln.bregman_prox(MyEntropy(), Moving(t, True), v), (t,))


@pytest.mark.parametrize("limit", [1, 3])
def test_the_iteration_limit_is_a_status(limit: int) -> None:
    solver = bln.solvers.Scalar(max_iter=limit)
    found = bln.solve_prox(bln.legendre.FermiDirac(), bln.regularizers.SquaredL2(2.0), V, solver, on_failure="ignore")
    assert (found.status == bln.Status.max_iter).any()
    with pytest.raises(bln.SolveError, match="max_iter"):
        bln.bregman_prox(bln.legendre.FermiDirac(), bln.regularizers.SquaredL2(2.0), V, solver)


def test_one_bad_element_leaves_the_others() -> None:
    phi, g = bln.legendre.get("burg"), bln.regularizers.get("huber", lam=1.0, delta=0.5)
    v = torch.tensor([-1.0, 2.0, -0.5, torch.nan], dtype=F64)
    found = bln.solve_prox(phi, g, v, on_failure="nan")
    assert found.solver == "scalar"
    assert found.status.tolist() == [0, int(bln.Status.unbounded), 0, int(bln.Status.invalid)]
    alone = bln.bregman_prox(phi, g, v[::2])
    assert torch.equal(found.z[::2], alone)
    assert found.z[1::2].isnan().all()


def test_a_closed_constraint_on_a_value_is_kept() -> None:
    class Quartic(bln.regularizers.Separable):
        domain = bln.domains.Nonnegative()

        def value(self, z: torch.Tensor) -> torch.Tensor:
            return z**4

    found = bln.solve_prox(bln.legendre.Energy(), Quartic(), torch.tensor([-1.0, 0.0, 1.0], dtype=F64))
    assert found.z[:2].tolist() == [0.0, 0.0]
    assert float(found.z[2] + 4 * found.z[2] ** 3) == pytest.approx(1.0, abs=1e-15)


def test_empty_single_and_warm() -> None:
    phi, g = bln.legendre.FermiDirac(), bln.regularizers.SquaredL2(2.0)
    assert bln.bregman_prox(phi, g, torch.zeros(0, 3)).shape == (0, 3)
    assert bln.bregman_prox(phi, g, torch.zeros(())).shape == ()
    first = bln.solve_prox(phi, g, V)
    again = bln.solve_prox(phi, g, V + 1e-6, init=first)
    cold = bln.solve_prox(phi, g, V + 1e-6)
    assert again.iterations < cold.iterations
    assert torch.allclose(again.z, cold.z, rtol=1e-14)
    with pytest.raises(bln.InputError, match="init has shape"):
        bln.solve_prox(phi, g, V, init=V[:2])


@pytest.mark.parametrize("values_alone", [False, True])
def test_a_long_list_starts_from_a_table(values_alone: bool) -> None:
    """The same as in parts too short for a table, entries far outside the table's range and on a kink included."""
    phi, g = (MyEntropy(), MyPenalty(0.5)) if values_alone else (bln.legendre.FermiDirac(), bln.regularizers.Huber(2.0))
    v = 2 * torch.randn(140_000, generator=torch.Generator().manual_seed(0), dtype=F64)
    v[:6] = torch.tensor([500.0, -500.0, torch.nan, torch.inf, 1e-300, -0.9])
    found = bln.solve_prox(phi, g, v, solver="scalar", on_failure="nan")
    parts = [bln.solve_prox(phi, g, x, solver="scalar", on_failure="nan") for x in (v[:500], v[-500:])]
    ends = torch.cat([torch.arange(500), torch.arange(139_500, 140_000)])
    z, status = torch.cat([p.z for p in parts]), torch.cat([p.status for p in parts])
    assert torch.equal(found.status[ends], status)
    # z is right to a few eps of v, the size of the terms, through dz/dv ≤ 1.
    assert torch.allclose(found.z[ends], z, rtol=1e-14, atol=1e-14, equal_nan=True)
    assert found.residual[6:].max() <= 1e-13


class Absolute(bln.regularizers.Separable):
    def value(self, z: torch.Tensor) -> torch.Tensor:
        return z.abs()


def test_a_kink_that_is_hit_exactly_has_derivative_zero() -> None:
    v = torch.tensor([0.0, 1e-3, 2.0], dtype=F64, requires_grad=True)
    found = bln.solve_prox(bln.legendre.Energy(), Absolute(), v)
    assert found.z.tolist() == [0.0, 0.0, 1.0]
    assert torch.autograd.grad(found.z.sum(), v)[0].tolist() == [0.0, 0.0, 1.0]
    t = torch.tensor(0.4, dtype=F64, requires_grad=True)
    assert bln.solve_prox(bln.legendre.Energy(), Moving(t, stated=False), t.detach()).status == bln.Status.kink


@pytest.mark.parametrize(
    ("value", "v"), [(lambda s, z: z**4 / 4 - 1.5 * z**2, 0.0), (lambda s, z: -(z - 0.3).abs(), 0.3)]
)
def test_a_maximum_is_no_solution(value: Any, v: float) -> None:
    g = type("Concave", (bln.regularizers.Separable,), {"value": value})()
    found = bln.solve_prox(bln.legendre.Energy(), g, torch.tensor([v], dtype=F64), on_failure="nan")
    assert found.status == bln.Status.invalid


@pytest.mark.parametrize("value", [lambda s, z: (z * z.roll(1, -1)).exp(), lambda s, z: z.logsumexp(-1)])
def test_a_value_that_mixes_entries_is_refused(value: Any) -> None:
    g = type("Mixed", (bln.regularizers.Separable,), {"value": value})()
    with pytest.raises(bln.InputError, match="entry by entry"):
        bln.bregman_prox(bln.legendre.Energy(), g, V)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 2.0])
def test_a_bad_entry_leaves_the_gradient_of_a_shared_weight(bad: float) -> None:
    def slope(v: torch.Tensor) -> torch.Tensor:
        lam = torch.tensor(0.4, dtype=F64, requires_grad=True)
        g = bln.regularizers.Huber(lam, 0.5)
        found = bln.solve_prox(bln.legendre.Burg(), g, v, solver="scalar", on_failure="nan")
        return torch.autograd.grad(found.z[::2].sum(), lam)[0]

    want = slope(torch.tensor([-1.0, -1.0, -0.5], dtype=F64))
    assert torch.allclose(slope(torch.tensor([-1.0, bad, -0.5], dtype=F64)), want, rtol=1e-14)


def test_entmax_of_learned_powers_under_vmap() -> None:
    """α is on one side of 1 for every sample, which is read beneath the transform."""
    v = torch.randn(3, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    alpha = torch.tensor([1.2, 1.5, 3.0], dtype=F64)

    def size(v: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        return bln.bregman_prox(bln.legendre.Tsallis(alpha=alpha), bln.regularizers.Simplex(), v).square().sum()

    batched = vmap(grad(size, (0, 1)))(v, alpha)
    for i in range(3):
        for got, want in zip(batched, grad(size, (0, 1))(v[i], alpha[i]), strict=True):
            assert torch.equal(got[i], want)
