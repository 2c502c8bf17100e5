"""A thousand random quadratic programs: optimality conditions, Clarabel, and mpmath where they are small."""

from __future__ import annotations

import clarabel
import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_programs import Drawn, program, programs, times
from scipy import sparse
from torch import Tensor
from torch.nn.functional import pad

from bilevelnet import Status
from bilevelnet.interop import solve_qp


def check(drawn: Drawn) -> tuple[Tensor, Tensor, Tensor]:
    """(z, y, λ) of the scaled program, whose optimality conditions hold to 1e-12 of the size of their terms."""
    Q, q, A, b, G, h = drawn.scaled
    sol = solve_qp(*drawn.scaled, on_failure="ignore")
    assert bool(sol.converged.all()), sol.status
    z, y, lam = sol.z, sol.multipliers["equality"], sol.multipliers["inequality"]
    forces = torch.stack([times(Q, z), q, times(A.mT, y), times(G.mT, lam)])
    # Terms that cancel, up to 100 of them: 1e-12 leaves two digits to the worst of a thousand programs.
    assert float(forces.sum(0).norm(dim=-1).max()) <= 1e-12 * float(forces.abs().max())
    length = z.norm(dim=-1, keepdim=True).clamp(min=1e-5 * drawn.z_unit)  # z = 0 has no unit of its own
    reach = A.norm(dim=-1) * length + b.abs()
    assert bool(((times(A, z) - b).abs() <= 1e-12 * reach).all())
    slack, reach = h - times(G, z), G.norm(dim=-1) * length + h.abs()
    assert bool((lam >= 0).all())
    assert bool((slack >= -1e-12 * reach).all())
    # Of each row the slack or the multiplier is 0; in units of the row, of the objective.
    pull, most = lam * G.norm(dim=-1), float(forces.abs().max())
    assert bool(((slack <= 1e-12 * reach) | (pull <= 1e-12 * most)).all())
    return z, y, lam


def clarabels(program: list[Tensor], i: int) -> np.ndarray | None:
    """z of element i by Clarabel at 1e-12, or None where it does not get there."""
    Q, q, A, b, G, h = (t[i].numpy() for t in program)
    settings_ = clarabel.DefaultSettings()
    settings_.verbose = False
    settings_.tol_gap_abs = settings_.tol_gap_rel = settings_.tol_feas = 1e-12
    cones = [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))]
    rows = sparse.csc_matrix(np.concatenate([A, G]))
    found = clarabel.DefaultSolver(
        sparse.csc_matrix(np.triu(Q)), q, rows, np.concatenate([b, h]), cones, settings_
    ).solve()
    return np.array(found.x) if found.status == clarabel.SolverStatus.Solved else None


def compare(drawn: Drawn) -> None:
    """z with Clarabel's in plain units: as good an objective, and near where Q is definite."""
    z = check(drawn)[0] / drawn.z_unit
    for i in range(2):
        theirs = clarabels(drawn.plain, i)
        if theirs is None:
            continue
        Q, q = (t[i].numpy() for t in drawn.plain[:2])
        ours = z[i].numpy()
        f, g = (x @ Q @ x / 2 + q @ x for x in (ours, theirs))
        # What Clarabel leaves: 1e-12 in its own relative terms, times multipliers of up to 1e4.
        assert abs(f - g) <= 1e-8 * (1 + abs(g))
        move = ours - theirs
        assert move @ Q @ move <= 1e-7 * (1 + abs(g))  # ≤ 2 (f − g) and what is missed of the rows


@settings(max_examples=40, deadline=None)
@given(programs(12))
def test_some_random_programs(drawn: Drawn) -> None:
    check(drawn)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_a_cone_that_is_a_point(unit: float) -> None:
    """10 equations and 34 rows meet at 0 alone, with multipliers of 1e3: what the equations are missed by moves z.

    The interior point ended at ‖z‖ = 0.008, with a gap of 1e-11: the equations were met more slowly than the gap fell.
    """
    plain = program("cone", 26, 10, 34, 0, 0.0, torch.Generator().manual_seed(470997258))
    units = (1.0, 1.0, unit, unit, unit, unit)
    compare(Drawn("cone", plain, [t * u for t, u in zip(plain, units, strict=True)], 1.0, 1.0))


@pytest.mark.heavy
@settings(max_examples=1000, deadline=None)
@given(programs())
def test_a_thousand_random_programs(drawn: Drawn) -> None:
    compare(drawn)


@settings(max_examples=15, deadline=None)
@given(programs(3))
def test_small_ones_in_fifty_digits(drawn: Drawn) -> None:
    """The equations of the rows with λ > 0, in 50 digits: their solution is feasible, has multipliers ≥ 0, and is z."""
    z, _, lam = check(drawn)
    with mpmath.workdps(50):
        for i in range(2):
            Q, q, A, b, G, h = (mpmath.matrix(t[i].tolist()) if t[i].numel() else None for t in drawn.scaled)
            held = [k for k in range(lam.shape[1]) if lam[i, k] > 0]
            rows = [] if A is None else [(A[k, :], b[k]) for k in range(A.rows)]
            rows += [(G[k, :], h[k]) for k in held]
            n, r = Q.rows, len(rows)
            matrix, right = mpmath.zeros(n + r), mpmath.zeros(n + r, 1)
            matrix[:n, :n], right[:n, 0] = Q, -q
            for k, (row, level) in enumerate(rows):
                matrix[n + k, :n], matrix[:n, n + k], right[n + k] = row, row.T, level
            exact = solved(matrix, right)
            assume(exact is not None)
            size = max(abs(x) for x in exact[:n])
            worst = max(abs(exact[k] - float(z[i, k])) for k in range(n))
            # Rounding of the data times the condition of the equations, in the units of the variables, below 1e5.
            assert worst <= 1e-10 * size + 1e-15 * drawn.z_unit
            p = 0 if A is None else A.rows
            most = max((abs(exact[n + k]) for k in range(p, r)), default=0)
            assert all(exact[n + k] >= -1e-20 * most for k in range(p, r))
            for k in range(0 if G is None else G.rows):
                over = sum(G[k, j] * exact[j] for j in range(n)) - h[k]
                reach = sum(abs(G[k, j]) * max(abs(exact[j]), 1e-20 * drawn.z_unit) for j in range(n)) + abs(h[k])
                assert over <= 1e-25 * reach  # half of the digits


def solved(matrix: mpmath.matrix, right: mpmath.matrix) -> mpmath.matrix | None:
    """None where the equations are dependent: their multipliers are then not the only ones."""
    try:
        return mpmath.lu_solve(matrix, right)
    except ZeroDivisionError:
        return None


@settings(max_examples=60, deadline=None)
@given(programs(8), st.floats(-4.0, 4.0), st.booleans())
def test_one_element_without_a_solution(drawn: Drawn, exponent: float, endless: bool) -> None:
    """The second element gets rows that contradict, or a variable more along which f falls; the first stays."""
    Q, q, A, b, G, h = drawn.scaled
    whole, unit = solve_qp(*drawn.scaled), 10.0**exponent
    if endless:
        Q, A, G = (pad(t, (0, 1)) for t in (pad(Q, (0, 0, 0, 1)), A, G))
        q = pad(q, (0, 1)).index_put(
            (torch.tensor(1), torch.tensor(-1)), q.new_tensor(-unit * drawn.f_unit / drawn.z_unit)
        )
    else:
        row = unit * torch.linspace(1.0, 2.0, q.shape[-1], dtype=q.dtype).expand(2, 1, -1)
        G = torch.cat([G, row, -row], -2)
        gap = q.new_tensor([[1.0, 1.0], [1.0, -1.5]]) * 1e3 * unit * drawn.z_unit
        h = torch.cat([h, gap], -1)
    sol = solve_qp(Q, q, A, b, G, h, on_failure="ignore")
    assert sol.status.tolist() == [Status.converged, Status.unbounded if endless else Status.infeasible]
    if drawn.kind not in ("linear", "rank"):  # of which z need not be the only solution
        n = whole.z.shape[-1]
        torch.testing.assert_close(sol.z[0, :n], whole.z[0], rtol=1e-9, atol=1e-9 * drawn.z_unit)
