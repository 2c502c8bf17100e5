"""The multiplier solver: simplices, balls, norms and one linear equation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from by_value import MyEntropy
from catalog import Spec
from multiplier_pairs import PAIRS
from torch.func import jacfwd, jacrev, vmap

import bilevelnet as bln

F64 = torch.float64
V = torch.tensor([[0.7, -0.3, 1.9, 0.2], [-2.0, 0.1, 0.05, -0.4]], dtype=F64)
R = bln.regularizers


def ids(pairs: list[tuple[Spec, Spec]]) -> list[Any]:
    return [pytest.param(p, g, id=f"{p.name}-{g.name}", marks=() if g.first else pytest.mark.heavy) for p, g in pairs]


@pytest.mark.parametrize(("phi", "g"), ids(PAIRS))
def test_optimal_and_equal_to_the_closed_form(phi: Spec, g: Spec) -> None:
    """The inclusion to 1e-9 of its terms (the issue's figure); where a formula is known: value 1e-9, Jacobian 1e-7."""
    phi, g = phi.build().double(), g.build().double()
    found = bln.solve_prox(phi, g, V, solver="multiplier", on_failure="ignore")
    for i in range(len(V)):
        if not found.converged[i]:
            continue
        assert found.residual[i] <= 1e-9 * (1 + V[i].abs().max() + found.dual[i].nan_to_num(0, 0, 0).abs().max())
    try:
        closed = bln.solve_prox(phi, g, V, solver="closed_form", on_failure="ignore")
    except bln.InputError:
        return
    good = closed.converged
    assert torch.equal(good, found.converged)
    assert torch.allclose(found.z[good], closed.z[good], rtol=1e-9, atol=1e-10)

    def jacobian(solver: str) -> torch.Tensor:
        return jacrev(lambda v: bln.bregman_prox(phi, g, v, solver=solver, on_failure="ignore"))(V[0])

    if good[0]:
        assert torch.allclose(jacobian("multiplier"), jacobian("closed_form"), rtol=1e-7, atol=1e-9)


def test_every_coupled_regularizer_of_one_multiplier_is_taken() -> None:
    kinds = {g.cls.key for _, g in PAIRS}
    balls_and_norms = {"l1_ball", "l2_ball", "l2_norm", "group_lasso", "sparse_group", "linf_norm"}
    assert kinds >= {"simplex", "capped_simplex", "affine_set"} | balls_and_norms


CASES = [
    ("fermi_dirac", lambda s: R.Simplex(s), 0.7),
    ("fermi_dirac", lambda s: R.CappedSimplex(1.3, s), 0.7),
    ("tanh", lambda s: R.L1Ball(s), 0.6),
    ("boltzmann_shannon", lambda s: R.L2Ball(s), 0.5),
    ("boltzmann_shannon", lambda s: R.L2Norm(s), 0.3),
    ("energy", lambda s: R.GroupLasso(s, ((0, 2), (1,))), 0.2),
    ("tanh", lambda s: R.LinfNorm(s), 0.3),
    ("softplus", lambda s: R.Simplex(s) + R.SquaredL2(0.3), 0.9),
]


@pytest.mark.parametrize(("key", "make", "weight"), CASES, ids=lambda c: c if isinstance(c, str) else "")
def test_derivatives_and_transforms(key: str, make: Any, weight: float) -> None:
    phi, s = bln.legendre.get(key), torch.tensor(weight, dtype=F64, requires_grad=True)

    def f(v: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return bln.bregman_prox(phi, make(s), v, solver="multiplier")

    v = V.clone().requires_grad_()
    z = f(V, s.detach())
    assert torch.autograd.gradcheck(f, (v, s))
    assert torch.autograd.gradgradcheck(f, (v, s))
    assert torch.allclose(vmap(lambda v: f(v, s.detach()))(V), z, rtol=1e-13)
    assert torch.allclose(vmap(f)(V, s.detach().expand(2).clone()), z, rtol=1e-13)
    row = [m(lambda v: f(v, s.detach()))(V[0]) for m in (jacrev, jacfwd)]
    assert torch.allclose(*row, rtol=1e-10, atol=1e-14)


def test_compiles() -> None:
    phi, g = bln.legendre.FermiDirac(), R.CappedSimplex(1.3, 0.7)
    compiled = torch.compile(lambda v: bln.bregman_prox(phi, g, v), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(V), bln.bregman_prox(phi, g, V))
    assert compiled(V * torch.nan).isnan().all()


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0, 3.0])
def test_entmax_along_any_dim_with_masks(alpha: float) -> None:
    """entmax-α is Tsallis with the simplex (Peters, Niculae & Martins 2019), α learned."""
    a = torch.tensor(alpha, dtype=F64, requires_grad=True)
    phi = bln.legendre.Tsallis(a)
    v = V.clone()
    v[0, 2] = -torch.inf
    z = bln.bregman_prox(phi, R.Simplex(), v)
    assert z[0, 2] == 0
    assert torch.allclose(z.sum(-1), torch.ones(2, dtype=F64), rtol=1e-14)
    assert torch.equal(bln.bregman_prox(phi, R.Simplex(dim=0), v.T), z.T)
    assert torch.equal(bln.bregman_prox(phi, R.Simplex(dim=-2), v.T), z.T)
    assert torch.autograd.gradcheck(lambda a: bln.bregman_prox(bln.legendre.Tsallis(a), R.Simplex(), V), (a,))
    dropped = bln.bregman_prox(phi, R.Simplex(), v[0, [0, 1, 3]])
    assert torch.allclose(z[0, [0, 1, 3]], dropped, rtol=1e-13)
    v[1] = -torch.inf
    with pytest.raises(bln.SolveError, match=r"first at \(1,\)"):
        bln.bregman_prox(phi, R.Simplex(), v)


def test_sparsemax_is_tsallis_two() -> None:
    got = bln.bregman_prox(bln.legendre.Tsallis(2.0), R.Simplex(), V)
    assert torch.allclose(got, bln.bregman_prox(bln.legendre.Energy(), R.Simplex(), V), rtol=1e-14)


SIMPLICES = [bln.legendre.Energy(), bln.legendre.BoltzmannShannon(), bln.legendre.Tsallis(1.5)]


@pytest.mark.parametrize("phi", SIMPLICES, ids=lambda p: p.key)
def test_closed_forms_on_the_simplex_take_masks_too(phi: bln.legendre.Legendre) -> None:
    v = V.clone()
    v[0, 2] = -torch.inf
    found = bln.solve_prox(phi, R.Simplex(), v)
    assert found.solver == "closed_form"
    assert found.z[0, 2] == 0
    assert torch.allclose(found.z[0, [0, 1, 3]], bln.bregman_prox(phi, R.Simplex(), v[0, [0, 1, 3]]), rtol=1e-15)
    assert (found.residual <= 1e-15).all()  # a few terms of size 1
    v[1] = -torch.inf
    with pytest.raises(bln.SolveError, match=r"first at \(1,\)"):
        bln.bregman_prox(phi, R.Simplex(), v)


def test_entmax_15_in_closed_form() -> None:
    closed, searched = bln.legendre.Tsallis(1.5), bln.legendre.Tsallis(torch.tensor(1.5, dtype=F64))
    for g in (R.Simplex(), R.Simplex(2.5), R.Simplex(0.7) + R.L1(0.3)):
        one, two = (bln.solve_prox(phi, g, V) for phi in (closed, searched))
        assert (one.solver, two.solver) == ("closed_form", "multiplier")
        assert torch.allclose(one.z, two.z, rtol=1e-13, atol=1e-15)
        assert torch.allclose(one.dual, two.dual, rtol=1e-13, atol=1e-15)
        rows = [jacrev(lambda v, phi=phi, g=g: bln.bregman_prox(phi, g, v))(V[0]) for phi in (closed, searched)]
        assert torch.allclose(*rows, rtol=1e-12, atol=1e-14)
    compiled = torch.compile(lambda v: bln.bregman_prox(closed, g, v), fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(V), bln.bregman_prox(closed, g, V), rtol=1e-15)


@pytest.mark.parametrize("ball", [R.L1Ball(1.0), R.L2Ball(1.0)], ids=["l1", "l2"])
@pytest.mark.parametrize(
    "phi", [bln.legendre.Energy(), bln.legendre.get("hypentropy", beta=1.0)], ids=["energy", "hyp"]
)
def test_a_ball_that_misses_a_box_is_infeasible(phi: Any, ball: Any) -> None:
    """In three entries: every point of the box has norm 2√3 at least."""
    for box in (R.Box(2.0, 3.0), R.Box(lo=2.0), R.Box(-3.0, -2.0)):
        found = bln.solve_prox(phi, ball + box, V, on_failure="nan")
        assert found.status.tolist() == [int(bln.Status.infeasible)] * len(V)
    with pytest.raises(bln.InputError, match=r"dom g .* of box does not meet the interior of dom φ"):
        bln.solve_prox(bln.legendre.Tanh(), ball + R.Box(2.0, 3.0), V)


def test_infeasible_is_told_for_its_row() -> None:
    phi, radius = bln.legendre.FermiDirac(), torch.tensor([[1.0], [5.0]], dtype=F64)
    found = bln.solve_prox(phi, R.Simplex(radius), V, on_failure="nan")
    assert found.status.tolist() == [0, int(bln.Status.infeasible)]
    assert torch.allclose(found.z[0], bln.bregman_prox(phi, R.Simplex(1.0), V[0]), rtol=1e-13)


def test_single_entry_empty_batch_and_limit() -> None:
    phi = bln.legendre.FermiDirac()
    assert bln.bregman_prox(phi, R.Simplex(0.3), torch.tensor([5.0], dtype=F64)).item() == pytest.approx(0.3, rel=1e-15)
    assert bln.bregman_prox(phi, R.Simplex(), torch.zeros(0, 4)).shape == (0, 4)
    for limit in (1, 3):
        solver = bln.solvers.Multiplier(max_iter=limit)
        found = bln.solve_prox(phi, R.CappedSimplex(1.3, 0.7), V, solver, on_failure="ignore")
        assert (found.status == bln.Status.max_iter).all()
    warm = bln.solve_prox(phi, R.Simplex(), V, init=bln.solve_prox(phi, R.Simplex(), V))
    assert warm.iterations <= 2
    assert set(warm.multipliers) == {"simplex"}


def test_groups_of_one_and_a_zero_at_the_end_of_the_domain() -> None:
    v = torch.tensor([0.9, -0.1], dtype=F64)
    phi = bln.legendre.Tanh()
    single = bln.bregman_prox(phi, R.GroupLasso(0.4, ((0,), (1,))), v)
    assert torch.allclose(single, bln.bregman_prox(phi, R.L1(0.4), v), rtol=1e-9)
    power, low = bln.legendre.Tsallis(1.5), torch.tensor([-0.2, -3.0], dtype=F64)
    assert bln.bregman_prox(power, R.L2Norm(0.4), low).tolist() == [0.0, 0.0]
    # Below 0 nothing moves: what is left is the scalar problem of the one positive entry.
    mixed = bln.bregman_prox(power, R.LinfNorm(0.4), torch.tensor([1.0, -2.0], dtype=F64))
    want = bln.bregman_prox(power, R.L1(0.4), torch.tensor([1.0], dtype=F64))
    assert mixed[1] == 0
    assert float(mixed[0]) == pytest.approx(float(want), rel=1e-9)


def test_the_largest_entry_on_a_kink_and_with_a_smooth_term() -> None:
    """argmin ½‖z‖² + |z₁ − 0.5| summed + λ max|z_i| by hand: the kink takes what is left of the force."""
    g = R.LinfNorm(0.3) + R.L1(1.0).translate(0.5)
    z = bln.bregman_prox(bln.legendre.Energy(), g, torch.tensor([0.4, -3.0], dtype=F64), solver="multiplier")
    assert torch.allclose(z, torch.tensor([0.5, -1.7], dtype=F64), rtol=1e-12)  # −3 + 1 + 0.3
    smooth = R.LinfNorm(0.3) + R.SquaredL2(1.0)
    z = bln.bregman_prox(bln.legendre.Energy(), smooth, torch.tensor([2.0, 0.4], dtype=F64), solver="multiplier")
    assert torch.allclose(z, torch.tensor([0.85, 0.2], dtype=F64), rtol=1e-12)  # (2 − 0.3)/2, 0.4/2


def test_an_equation_of_mixed_signs_inside_a_half_line() -> None:
    """−log z₁ − log z₂ + z₁ − z₂/2 on z₁ = z₂ = t: 2/t = 1/2. With v = (1, 1) it falls for ever."""
    g, v = R.AffineSet([1.0, -1.0], 0.0), torch.tensor([[-1.0, 0.5], [1.0, 1.0]], dtype=F64)
    found = bln.solve_prox(bln.legendre.Burg(), g, v, on_failure="nan")
    assert found.status.tolist() == [0, int(bln.Status.unbounded)]
    assert torch.allclose(found.z[0], torch.tensor([4.0, 4.0], dtype=F64), rtol=1e-14)


@pytest.mark.parametrize("key", ["energy", "boltzmann_shannon", "fermi_dirac", "burg"])
def test_masks_on_the_capped_simplex(key: str) -> None:
    inf = torch.inf
    v = torch.tensor([[1.0, -inf, 0.0], [-inf, -inf, 1.0], [-inf] * 3], dtype=F64)
    phi, g = bln.legendre.get(key), R.CappedSimplex(1.0, 0.8)
    found = bln.solve_prox(phi, g, v, on_failure="nan")
    # One entry alone cannot reach the sum; a row of masks has none.
    assert found.status.tolist() == [0, int(bln.Status.infeasible), int(bln.Status.invalid)]
    assert found.z[0, 1] == 0
    assert torch.allclose(found.z[0, [0, 2]], bln.bregman_prox(phi, g, v[0, [0, 2]]), rtol=1e-13)
    with pytest.raises(bln.SolveError, match="masked"):
        bln.bregman_prox(phi, g, v[2:])


SHARED = [R.Simplex, R.L1Ball, R.L2Ball, R.L2Norm, R.LinfNorm, lambda s: R.SparseGroup(s, 0.3)]


@pytest.mark.parametrize("make", SHARED)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e5])
def test_a_bad_event_leaves_the_gradient_of_a_shared_weight(make: Any, bad: float) -> None:
    phi, rows = bln.legendre.Burg(), torch.tensor([[-1.0, -0.2], [bad, -0.3], [-0.2, -0.1]], dtype=F64)

    def slope(v: torch.Tensor) -> torch.Tensor:
        s = torch.tensor(0.4, dtype=F64, requires_grad=True)
        found = bln.solve_prox(phi, make(s), v, solver="multiplier", on_failure="nan")
        return torch.autograd.grad(found.z[::2].sum(), s)[0]

    good = torch.stack([rows[0], rows[0], rows[2]])
    assert torch.allclose(slope(rows), slope(good), rtol=1e-12)


def test_values_alone_on_a_constraint_inside_a_transform() -> None:
    for g in (R.CappedSimplex(1.0, 0.5), R.GroupLasso(0.3, ((0, 1), (2,))), R.LinfNorm(0.4)):
        forward, reverse = (m(lambda v, g=g: bln.bregman_prox(MyEntropy(), g, v))(V[0, :3]) for m in (jacfwd, jacrev))
        assert torch.allclose(forward, reverse, rtol=1e-10, atol=1e-14)
        assert bln.solve_prox(MyEntropy(), g, V[:, :3]).residual.max() <= 1e-14


@pytest.mark.parametrize("groups", [((0, 1),), ((0, 1), (2, 3)), ((0, 1), (3,), (2,))])
def test_weights_of_the_batch_follow_v_into_groups(groups: tuple[tuple[int, ...], ...]) -> None:
    """As many elements as groups: a weight an element was taken for one a group."""
    generator = torch.Generator().manual_seed(0)
    v, w = (draw(3, n, dtype=torch.float64, generator=generator) for draw, n in ((torch.randn, 4), (torch.rand, 1)))
    lam = torch.rand(3, 1, dtype=torch.float64, generator=generator)

    def solved(at: Any, weight: Any, strength: Any) -> Any:
        phi = bln.legendre.Transformed(bln.legendre.BoltzmannShannon(), weight=weight + 0.3)
        g = bln.regularizers.GroupLasso(strength, groups) + bln.regularizers.Box(hi=0.4)
        return bln.solve_prox(phi, g, at, "multiplier").z

    rows = [solved(v[i], w[i], lam[i]) for i in range(3)]
    torch.testing.assert_close(solved(v, w, lam), torch.stack(rows), atol=0, rtol=0)
    assert torch.autograd.gradcheck(solved, tuple(t.requires_grad_() for t in (v, w, lam)))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_no_search_runs_after_what_is_not_finite(bad: float) -> None:
    """One such entry took 69 evaluations, each around a search to its limit, where its neighbours need 6."""
    phi, g = bln.legendre.FermiDirac(), R.Simplex() + R.Huber(0.3)
    v = torch.stack([V[0], V[0], V[1]])
    v[1, 1] = bad
    found = bln.solve_prox(phi, g, v, on_failure="ignore")
    assert found.status.tolist() == [0, 5, 0]
    assert found.z[1].isnan().all()
    assert found.iterations <= 2 * bln.solve_prox(phi, g, V).iterations
