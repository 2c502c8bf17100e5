"""Derivatives of quadratic programs: against differences, of second order, through every transform of torch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from programs import draw
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jvp, vmap

from bilevelnet.interop import QPLayer, qp, solve_qp


def answers(*program: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z, dual = qp(*program)
    return z, dual.equality, dual.inequality


def loss(*program: Tensor) -> Tensor:
    return sum((part**2).sum() + part.sin().sum() for part in answers(*program))  # type: ignore[return-value]


@pytest.mark.parametrize(("n", "p", "m"), [(3, 0, 0), (4, 2, 0), (4, 0, 3), (3, 1, 6)])
def test_derivatives_of_first_and_second_order_in_all_arguments(n: int, p: int, m: int) -> None:
    program = [t.requires_grad_() for t in draw(2, n, p, m)]
    assert gradcheck(answers, program, check_forward_ad=True)
    assert gradgradcheck(answers, program, fast_mode=True)  # along one random direction each


@pytest.mark.parametrize("size", [(10, 0, 5), (10, 3, 20), (30, 0, 60)])
def test_every_element_of_a_large_batch_against_differences(size: tuple[int, int, int]) -> None:
    program = draw(128, *size)
    moves = [torch.randn_like(t) for t in program]
    # Differences of an error of t² |z'''|/6; where the active rows change within t they are none of the derivative.
    t = 1e-6
    ahead, behind = (answers(*(a + s * t * m for a, m in zip(program, moves, strict=True))) for s in (1, -1))
    _, tangents = jvp(answers, tuple(program), tuple(moves))
    same = ((ahead[2] > 0) == (behind[2] > 0)).all(-1)
    assert same.sum() >= 124
    for a, b, tangent in zip(ahead, behind, tangents, strict=True):
        error = ((a - b) / (2 * t) - tangent).abs() / (1 + tangent.norm(dim=-1, keepdim=True))
        assert not (error > 1e-6)[same].any()
    program = [x.requires_grad_() for x in program]
    for count in (1, 3):  # of z alone, then of the multipliers too
        found, tangent = answers(*program)[:count], tangents[:count]
        weights = [torch.randn_like(x) for x in tangent]
        total = sum((w * x).sum() for w, x in zip(weights, found, strict=True))
        slopes = torch.autograd.grad(total, program, materialize_grads=True)  # type: ignore[arg-type]
        back = sum((g * m).flatten(1).sum(1) for g, m in zip(slopes, moves, strict=True))
        forward = sum((w * x).sum(-1) for w, x in zip(weights, tangent, strict=True))
        torch.testing.assert_close(back, forward, rtol=1e-8, atol=1e-8)  # the same numbers summed in another order


def test_a_program_whose_rows_are_all_active() -> None:
    """The adjoint's right side is a force alone, and every row's entry of it zero."""
    Q, q, _, _, G, h = (t[5] for t in draw(128, 10, 0, 5))
    assert (qp(Q, q, None, None, G, h)[1].inequality > 0).all()
    assert gradcheck(lambda x: qp(Q, x, None, None, G, h)[0], q.requires_grad_())


def test_transforms_agree_with_backward() -> None:
    program = draw(3, 4, 1, 6)
    tracked = [t.clone().requires_grad_() for t in program]
    expected = torch.autograd.grad(loss(*tracked), tracked)

    def check(found: Sequence[Tensor]) -> None:
        for a, e in zip(found, expected, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)

    everything = tuple(range(6))
    check(grad(loss, everything)(*program))
    check(vmap(grad(loss, everything))(*program))
    check(torch.autograd.grad(torch.compile(loss, fullgraph=True)(*tracked), tracked))
    Q, q, *rest = (t[0] for t in program)
    second = hessian(lambda x: loss(Q, x, *rest))(q)
    torch.testing.assert_close(second, second.mT, rtol=1e-9, atol=1e-9)
    # One program a row of q: what vmap does not see is shared.
    got = vmap(grad(lambda x: loss(Q, x, *rest)))(program[1])
    alone = torch.stack([grad(lambda x: loss(Q, x, *rest))(x) for x in program[1]])
    torch.testing.assert_close(got, alone, rtol=1e-10, atol=1e-10)


def test_nothing_raises_under_transforms() -> None:
    Q, q = torch.eye(2), torch.tensor([[1.0, 1.0], [float("nan"), 1.0]])
    G, h = torch.ones(1, 2), torch.ones(1)
    for run in (vmap(lambda x: qp(Q, x, None, None, G, h)[0]), torch.compile(lambda x: qp(Q, x, None, None, G, h)[0])):
        z = run(q)
        assert torch.equal(z[0], torch.tensor([-1.0, -1.0]))
        assert z[1].isnan().all()


@pytest.mark.parametrize("curvature", [1e-8, 1e-9, 1e-10, 1e-11])
@pytest.mark.parametrize("boxed", [False, True])
def test_a_flat_direction_of_a_definite_matrix(curvature: float, boxed: bool) -> None:
    """z along it has eps/curvature of its digits, and dz/dq = −1/curvature: neither is that of Q + 1e-9 I."""
    like = {"dtype": torch.float64}
    turned = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1), **like))[0]
    Q, along = turned * torch.tensor([1.0, 2.0, 3.0, 4.0, curvature], **like) @ turned.T, turned[:, 4]
    exact = torch.linspace(-1.0, 1.0, 5, **like)
    q = (-Q @ exact).requires_grad_()
    rows = (torch.cat([Q.new_ones(5).diag(), -Q.new_ones(5).diag()]), Q.new_full((10,), 9.0)) if boxed else (None, None)
    sol = solve_qp(Q, q, None, None, *rows)
    assert (sol.z - exact).norm() <= sol.error_bound
    assert (sol.z - exact).norm() <= 1e-14 / curvature  # eps times some tens of terms
    (slope,) = torch.autograd.grad(sol.z @ along, q)
    assert abs(slope @ along * curvature + 1) <= 1e-14 / curvature


def test_a_graph_of_any_batch() -> None:
    """Exported with three programs, called with seven."""
    batch = torch.export.Dim("batch")
    three, seven = (tuple(t for k, t in enumerate(draw(size, 4, 1, 6)) if k not in (2, 3)) for size in (3, 7))
    exported = torch.export.export(QPLayer(), three, dynamic_shapes=tuple({0: batch} for _ in three))
    assert torch.equal(exported.module()(*seven), QPLayer()(*seven))


def test_a_solution_compiles() -> None:
    program = draw(3, 4, 1, 6)

    def known(*program: Tensor) -> tuple[Tensor, ...]:
        sol = solve_qp(*program)
        return sol.z, sol.status, sol.residual, sol.error_bound

    for a, b in zip(torch.compile(known, fullgraph=True, backend="eager")(*program), known(*program), strict=True):
        torch.testing.assert_close(a, b)


def test_dependent_and_weakly_active_rows_have_finite_derivatives() -> None:
    """min ½‖z − (1, 1)‖² under z₁ ≤ 1 twice and z₂ ≤ 0: the first weakly active, so that z₁ does not move with q."""
    q = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)
    G = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    h = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
    z, dual = qp(torch.eye(2, dtype=torch.float64), q, None, None, G, h)
    torch.testing.assert_close(z, z.new_tensor([1.0, 0.0]))
    torch.testing.assert_close(dual.inequality, z.new_tensor([0.0, 0.0, 1.0]), rtol=0, atol=1e-12)
    slopes = torch.autograd.grad(z.sum() + dual.inequality.sum(), (q, G, h))
    assert all(s.isfinite().all() and s.abs().max() < 10 for s in slopes)
    torch.testing.assert_close(slopes[2][0], slopes[2][1])  # of least size: both rows alike
