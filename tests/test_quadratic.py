"""Quadratic programs: values and multipliers against their optimality conditions, statuses, arguments."""

from __future__ import annotations

import pytest
import torch
from programs import draw, kkt_error

import bilevelnet as bln
from bilevelnet.interop import QPLayer, qp, solve_qp


@pytest.mark.parametrize(("n", "p", "m"), [(5, 0, 0), (5, 3, 0), (10, 0, 5), (10, 4, 20), (50, 10, 100), (100, 0, 200)])
def test_the_optimality_conditions_hold(n: int, p: int, m: int) -> None:
    program = draw(4, n, p, m)
    z, dual = qp(*program)
    # A few roundings of sums of up to 300 terms.
    assert kkt_error(program, z, dual) < 1e-13


def test_each_element_has_its_status() -> None:
    """Solved, infeasible, unbounded, solved with weakly active and repeated rows."""
    Q = torch.tensor([1.0, 1.0, 0.0, 1.0]).reshape(4, 1, 1)
    q = torch.tensor([[1.0], [0.0], [1.0], [-1.0]])
    G = torch.tensor([[[1.0], [-1.0]], [[1.0], [-1.0]], [[1.0], [1.0]], [[1.0], [1.0]]])
    h = torch.tensor([[3.0, 3.0], [1.0, -2.0], [1.0, 1.0], [1.0, 1.0]])
    sol = solve_qp(Q, q, None, None, G, h, on_failure="nan")
    S = bln.Status
    assert sol.status.tolist() == [S.converged, S.infeasible, S.unbounded, S.converged]
    assert torch.equal(sol.z.isnan().flatten(), torch.tensor([False, True, True, False]))
    assert sol.z[0].item() == -1
    assert sol.z[3].item() == 1
    y = sol.multipliers["inequality"][1]
    assert (y >= 0).all()
    assert y[0] == y[1]
    assert (h[1] * y).sum() == -1
    assert sol.multipliers["direction"][2].item() == -1
    with pytest.raises(bln.SolveError, match=r"2 of 4 elements.*\(1,\): infeasible"):
        qp(Q, q, None, None, G, h)


@pytest.mark.parametrize(("seed", "n", "p", "m", "rank"), [(44, 4, 1, 1, 1), (226, 8, 2, 2, 3), (328, 6, 1, 1, 3)])
def test_a_z_on_its_way_to_infinity_excuses_no_force(seed: int, n: int, p: int, m: int, rank: int) -> None:
    """Too few rows for the directions in which Q is 0: the interior point ends at |z| of 1e12 to 1e16."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(4):  # the sizes, in the draws that met this
        torch.randint(2, (), generator=generator)
    root, q, A, b, G = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((n, rank), (n,), (p, n), (p,), (m, n))
    )
    sol = solve_qp(
        root @ root.mT, q, A, b, G, torch.rand(m, generator=generator, dtype=torch.float64), on_failure="nan"
    )
    assert sol.status == bln.Status.unbounded
    direction = sol.multipliers["direction"]
    assert abs(q @ direction + 1) < 1e-12  # its size, given by definition
    assert (root.mT @ direction).abs().max() < 1e-11 * direction.abs().max()  # rounding over the least singular value
    assert (A @ direction).abs().max() < 1e-11 * direction.abs().max()
    assert (G @ direction).max() < 1e-11 * direction.abs().max()


def test_a_large_multiplier_excuses_no_contradiction() -> None:
    """g'z ≤ h and −2 g'z ≤ −2 h − 1: in two of 64 the interior point ended at w = 1e19, and 1 was 1e-19 of that."""
    Q, q, A, b, G, h = draw(64, 5, 1, 3, seed=9)
    G[:, 1], h[:, 1] = -2 * G[:, 0], -2 * h[:, 0] - 1
    assert bool((solve_qp(Q, q, A, b, G, h, on_failure="ignore").status == bln.Status.infeasible).all())


@pytest.mark.parametrize("bound", [0.5, 0.55, 2.0])
def test_repeated_rows_lose_no_digit(bound: float) -> None:
    """An equation and an inequality twice, the latter weakly active or apart."""
    eye = torch.eye(2, dtype=torch.float64)
    A, b = torch.tensor([[1.0, 1.0], [2.0, 2.0]]).double(), torch.tensor([1.0, 2.0]).double()
    sol = solve_qp(eye, eye.new_tensor([-2.0, -2.0]), A, b, eye[:1].expand(2, 2), eye.new_tensor([bound, bound]))
    assert (sol.z - 0.5).abs().max() <= 1e-15  # one rounding of 1/2, of the sum of the equations another
    assert sol.residual <= 1e-14


def test_the_call_of_qpth() -> None:
    Q, q, A, b, G, h = draw(3, 4, 1, 6)
    layer, empty = QPLayer(), torch.Tensor()
    assert torch.equal(layer(Q, q, G, h, A, b), qp(Q, q, A, b, G, h)[0])
    assert torch.equal(layer(Q, q, G, h, empty, empty), qp(Q, q, None, None, G, h)[0])


def test_shared_arguments_broadcast_and_sum_their_gradients() -> None:
    Q, q, A, b, G, h = draw(6, 4, 1, 6)
    shared = [t.requires_grad_() for t in (Q[0], q.reshape(2, 3, 4), A[0], b[0], G[0], h[0] + 1)]
    whole = [t.detach().expand(2, 3, *t.shape).contiguous().requires_grad_() for t in shared]
    whole[1] = shared[1].detach().clone().requires_grad_()
    z, dual = qp(*shared)
    z_whole, dual_whole = qp(*whole)
    torch.testing.assert_close(z, z_whole, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad((z**3).sum() + (dual.inequality**2).sum(), shared)
    one_by_one = torch.autograd.grad((z_whole**3).sum() + (dual_whole.inequality**2).sum(), whole)
    for a, e in zip(got, one_by_one, strict=True):
        torch.testing.assert_close(a, e if e.ndim == a.ndim else e.sum((0, 1)), rtol=1e-9, atol=1e-9)


def test_empty_batch_and_dtype() -> None:
    z, dual = qp(torch.eye(3), torch.ones(0, 3), None, None, torch.ones(2, 3), torch.ones(2))
    assert z.shape == (0, 3)
    assert dual.inequality.shape == (0, 2)
    assert solve_qp(torch.eye(3), torch.ones(0, 3)).iterations == 0
    program = [t.float() for t in draw(3, 4, 1, 6)]
    z, dual = qp(*program)
    exact, _ = qp(*(t.double() for t in program))
    assert z.dtype == dual.equality.dtype == torch.float32
    assert torch.equal(z, exact.float())


def test_a_warm_start_needs_no_interior_steps() -> None:
    program = draw(3, 10, 2, 20)
    sol = solve_qp(*program)
    nearby = [program[0], program[1] + 1e-6, *program[2:]]
    warm = solve_qp(*nearby, init=sol)
    assert sol.iterations > 0
    assert warm.iterations == 0
    assert kkt_error(nearby, warm.z, (warm.multipliers["equality"], warm.multipliers["inequality"])) < 1e-13


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Q": -torch.eye(2)}, "positive semidefinite.*give Q"),
        ({"Q": torch.eye(3)}, "Q does not fit.*n, n"),
        ({"G": torch.ones(1, 2)}, "without h"),
        ({"G": torch.ones(1, 2), "h": torch.ones(2)}, "h does not fit"),
        ({"q": torch.tensor([1.0, float("nan")])}, "q holds NaN"),
        ({"G": torch.ones(1, 2), "h": torch.tensor([float("inf")])}, "h holds NaN.*leave out a row"),
        ({"q": torch.ones(3, 2), "Q": torch.eye(2).expand(2, 2, 2)}, "do not broadcast"),
        ({"q": [1.0, 2.0]}, "give a torch tensor"),
        ({"max_iter": 0}, "max_iter >= 1"),
        ({"max_iter": 2.5}, "max_iter >= 1 is needed, a whole number, not 2.5"),
        ({"init": torch.ones(3)}, "init has shape"),
        ({"init": 3.0}, "init is a float; give a nearby Solution"),
        ({"Q": torch.eye(2).to_sparse()}, "Q has layout torch.sparse_coo; give a dense tensor"),
        ({"on_failure": "explode"}, "unknown on_failure"),
    ],
)
def test_errors_name_the_remedy(change: dict, words: str) -> None:
    arguments = {"Q": torch.eye(2), "q": torch.ones(2)} | change
    with pytest.raises(bln.InputError, match=words):
        qp(**arguments)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e170, 1e290])
@pytest.mark.parametrize("of", ["objective", "equations", "rows"])
def test_units_whose_squares_overflow_or_vanish(of: str, size: float) -> None:
    """In any units z is (b, 2 + 2b), with its derivative in b."""
    like = {"dtype": torch.float64}
    unit = {"objective": 1.0, "equations": 1.0, "rows": 1.0, of: size}
    Q, q = unit["objective"] * torch.eye(2, **like), unit["objective"] * torch.tensor([1.0, -9.0], **like)
    A, b = unit["equations"] * torch.tensor([[1.0, 0.0]], **like), torch.tensor([1.0], requires_grad=True, **like)
    G, h = unit["rows"] * torch.tensor([[-1.0, 0.5]], **like), unit["rows"] * torch.ones(1, **like)
    z, _ = qp(Q, q, A, unit["equations"] * b, G, h)
    assert torch.allclose(z, torch.tensor([1.0, 4.0], **like), rtol=0, atol=1e-14)
    (slope,) = torch.autograd.grad(z[1], b)
    assert abs(slope.item() - 2) < 1e-14


@pytest.mark.parametrize("force", [0.0, 1e-300, 1e-30, 1.0])
@pytest.mark.parametrize("upper", [False, True])
def test_solution_at_zero(force: float, upper: bool) -> None:
    """No number but the interior point's says what rounding is, where q = 0 and rows are active at z = 0."""
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    G, h = (torch.cat([-eye, eye]), torch.cat([zero, zero + 1])) if upper else (-eye, zero)
    found = solve_qp(eye, (zero + force).requires_grad_(), None, None, G, h)
    assert found.z.abs().max() < 1e-19  # 1e3 eps of the interior point, which is within 1e-5 here
    assert found.residual < 1e-19


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rounded_semidefinite_matrix(dtype: torch.dtype) -> None:
    """L Lᵀ of rank 1 to n − 1, rounded in ``dtype``, is no error; a Q that is beyond its rounding is one."""
    draws = torch.Generator().manual_seed(0)
    for n, rank in ((2, 1), (5, 2), (10, 9), (30, 15)):
        root = torch.randn(8, n, rank, generator=draws).to(dtype)
        q = (root @ torch.randn(8, rank, 1, generator=draws).to(dtype)).squeeze(-1)
        G, h = torch.cat([torch.eye(n), -torch.eye(n)]).to(dtype), torch.ones(2 * n, dtype=dtype)
        assert solve_qp(root @ root.mT, q, None, None, G, h, on_failure="ignore").converged.float().mean() > 0.9
    below = torch.diag(torch.tensor([1.0, -4 * torch.finfo(dtype).eps])).to(dtype)
    with pytest.raises(bln.InputError, match="positive semidefinite"):
        qp(below, torch.ones(2, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_bound_holds_for_the_rounded_solution(dtype: torch.dtype) -> None:
    program = [t.to(dtype) for t in draw(3, 4, 1, 6)]
    given, exact = solve_qp(*program), solve_qp(*(t.double() for t in program))
    missed = (given.z.double() - exact.z).norm(dim=-1)
    assert bool((missed > exact.error_bound).any())
    assert bool((missed <= given.error_bound + exact.error_bound).all())


@pytest.mark.parametrize("large", [1e6, 1e11, 1e13, 1e15])
@pytest.mark.parametrize(("bound", "slope"), [(0.5, 0.0), (1.5, -1.0)])
def test_a_row_beside_a_large_entry_keeps_its_digits(large: float, bound: float, slope: float) -> None:
    """z = (large, min(1, bound)), whose row is apart by 1/2 or holds: neither is the rounding of the other entry."""
    like = {"dtype": torch.float64}
    q = torch.tensor([-large, -1.0], requires_grad=True, **like)
    G, h = torch.tensor([[0.0, 1.0]], **like), torch.tensor([bound], **like)
    sol = solve_qp(torch.eye(2, **like), q, None, None, G, h)
    missed = abs(sol.z[1].item() - min(bound, 1.0))
    assert missed <= min(float(sol.error_bound), 1e-15 * large)  # a few roundings of the large entry, and it is told
    (found,) = torch.autograd.grad(sol.z[1], q)
    assert torch.allclose(found, torch.tensor([0.0, slope], **like), rtol=0, atol=1e-15)
