"""Newton's method: against formulas and against itself matrix-free, its statuses and refusals."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from smooth_problems import MATRIX_FREE, PHIS, TERMS, A, Layer, N, Softplus, V, points
from torch.func import hessian, jacrev

import bilevelnet as bln

F64 = torch.float64


def residual(phi: Any, g: Any, z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """∇(φ + g)(z) − v by autograd from the values."""
    z = z.detach().requires_grad_()
    return torch.autograd.grad(bln.problem.Prox(phi, g).objective(z, v).sum(), z)[0]


@pytest.mark.parametrize("scale", [1.0, 10.0], ids=["A", "10A"])
@pytest.mark.parametrize("g", TERMS.values(), ids=TERMS)
@pytest.mark.parametrize("phi", PHIS.values(), ids=PHIS)
def test_solves_whatever_the_scale(phi: Any, g: Any, scale: float) -> None:
    """Undamped steps diverge where A is ten times larger. |∇| to 1e-12, some 100 eps of its terms, φ'' up to 1e3."""
    g = copy.deepcopy(g)
    for t in g.modules():
        if hasattr(t, "A"):
            t.A = scale * t.A
    found = bln.solve_prox(phi, g, V, "newton")
    assert found.converged.all()
    assert residual(phi, g, found.z, V).abs().max() <= 1e-10
    assert found.residual.max() <= 1e-12
    free = bln.solve_prox(phi, g, V, MATRIX_FREE)
    assert free.converged.all()
    assert torch.allclose(free.z, found.z, rtol=1e-9, atol=1e-12)  # both to rounding, through a condition of 1e3


def test_a_quadratic_has_its_formula() -> None:
    """(Q + λI)⁻¹ v, to some eps of the condition of Q."""
    q = torch.tensor([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 1.5]], dtype=F64)
    found = bln.solve_prox(bln.legendre.Mahalanobis(q), bln.regularizers.SquaredL2(0.7), V, "newton")
    want = torch.linalg.solve(q + 0.7 * torch.eye(3, dtype=F64), V.mT).mT
    assert torch.allclose(found.z, want, rtol=1e-14, atol=1e-14)
    assert found.iterations <= 3
    assert (found.error_bound >= (found.z - want).norm(dim=-1) * (1 - 1e-6) - 1e-15).all()


def test_the_dual_keeps_the_digits_of_a_saturated_point() -> None:
    """u − v = −∇g stays exact where tanh(60) is 1."""
    v = torch.tensor([[60.0, -80.0, 40.0]], dtype=F64)
    found = bln.solve_prox(bln.legendre.Tanh(), Layer(A), v)
    assert found.converged.all()
    slope = torch.sigmoid(found.z @ A.mT) @ A
    assert torch.allclose(found.dual, v - slope, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["f32", "bf16", "f16"])
def test_low_precision(dtype: torch.dtype) -> None:
    want = bln.bregman_prox(bln.legendre.FermiDirac(), Layer(A), V)
    z = bln.bregman_prox(bln.legendre.FermiDirac(), Layer(A.float()), V.to(dtype))
    assert z.dtype is dtype
    assert (z.double() - want).abs().max() <= 16 * torch.finfo(dtype).eps


@pytest.mark.parametrize("factor", [0.3, 30.0], ids=["by products", "by a factorisation"])
def test_an_image_of_z(factor: float) -> None:
    """Σ softplus(Kz), whose Hessian is formed only where products with it do not do, with z and its gradient.

    Against Newton's formula at the point: (I + KᵀDK)⁻¹, to some eps of its condition, at most 1e3.
    """
    k = factor * points(24, 24) / 24**0.5
    v = points(5, 24).requires_grad_()
    z = bln.bregman_prox(bln.legendre.Energy(), Softplus().precompose(k), v)
    force = z + torch.sigmoid(z @ k.mT) @ k - v
    assert force.abs().max() <= 1e-14 * (1 + k.abs().sum(0).max())
    s = torch.sigmoid(z @ k.mT)
    hessian_at = torch.eye(24, dtype=F64) + k.mT @ ((s * (1 - s)).unsqueeze(-1) * k)
    want = torch.linalg.solve(hessian_at, torch.ones_like(v)).detach()
    assert torch.allclose(torch.autograd.grad(z.sum(), v)[0], want, rtol=1e-12, atol=1e-13)


def test_a_sharp_bend_takes_few_steps_without_a_matrix() -> None:
    """Rough directions took 116 here; 10, as with a factorisation, and some for luck."""
    k = 10 * points(50, 50) / 50**0.5
    found = bln.solve_prox(bln.legendre.Energy(), Softplus().precompose(k), points(16, 50), MATRIX_FREE)
    assert found.converged.all()
    assert found.iterations <= 20


@pytest.mark.parametrize("phi", ["energy", "mahalanobis", "ball"])
@pytest.mark.parametrize("solver", ["newton", MATRIX_FREE], ids=["dense", "free"])
def test_vectors_in_a_matrix(phi: str, solver: Any) -> None:
    """φ and g of the rows of z beside an f of the whole matrix: the gradient of the objective is 0, to rounding."""
    f = bln.couplings.Function(lambda z, z_prev: torch.logsumexp((z * z_prev).flatten(-2), -1), event_ndim=2)
    layer = bln.BilevelLayer(f, bln.divergences.Bregman(PHIS[phi]), 0.5 * Softplus().precompose(A), solver=solver)
    z_prev = points(2, 4, N, scale=0.2)
    z = layer(z_prev).detach().requires_grad_()
    force = torch.autograd.grad(layer.problem.objective(z, z_prev).sum(), z)[0]
    assert force.abs().max() <= 1e-13


def test_shapes_and_a_warm_start() -> None:
    phi, g = PHIS["fermi_dirac"], TERMS["values"]
    z = bln.bregman_prox(phi, g, V)
    assert bln.bregman_prox(phi, g, V[:0]).shape == (0, N)
    assert torch.allclose(bln.bregman_prox(phi, g, V[0]), z[0], rtol=1e-13)
    deep = V.reshape(5, 1, 1, N).transpose(0, 1)
    assert torch.allclose(bln.bregman_prox(phi, g, deep).reshape(5, N), z, rtol=1e-13)
    cold, warm = (bln.solve_prox(phi, g, V + 1e-7, init=i) for i in (None, bln.solve_prox(phi, g, V)))
    assert warm.iterations < cold.iterations
    assert torch.allclose(warm.z, cold.z, rtol=1e-12)


class Power(bln.regularizers.Regularizer):
    """λ Σ |z|^p behind a rotation: not smooth at 0 for p = 1, not convex for p < 1."""

    event_ndim = 1

    def __init__(self, kind: str):
        super().__init__()
        self.kind_of_value = kind

    def value(self, z: torch.Tensor) -> torch.Tensor:
        total, gap = z.sum(-1), z.diff(dim=-1)
        if self.kind_of_value == "kink":
            return 3 * gap.abs().sum(-1)
        if self.kind_of_value == "saddle":  # its second derivative along the gap is −4 at 0
            return 2 / (1 + gap[..., 0] ** 2)
        if self.kind_of_value == "down":
            return -total * 0.5 - (z**2).sum(-1) / 2
        return total.square()


def test_statuses() -> None:
    energy = bln.legendre.Energy()
    v = torch.tensor([[0.3, 0.1, 0.2], [5.0, -5.0, 0.5]], dtype=F64)
    found = bln.solve_prox(energy, Power("kink"), v, "newton", on_failure="nan")
    assert not found.converged.any()
    assert found.status[0] == bln.Status.invalid
    assert found.z.isnan().all()
    limited = bln.solve_prox(bln.legendre.FermiDirac(), Layer(5 * A), V, bln.solvers.Newton(max_iter=2), "ignore")
    assert (limited.status == bln.Status.max_iter).any()
    with pytest.raises(bln.SolveError, match="max_iter"):
        bln.bregman_prox(bln.legendre.FermiDirac(), Layer(5 * A), V, bln.solvers.Newton(max_iter=2))
    with pytest.raises(bln.InputError, match="max_iter >= 1"):
        bln.solvers.Newton(max_iter=0)


def test_one_bad_element_leaves_the_others_and_their_gradients() -> None:
    v = V.clone()
    v[1, 2], v[3, 0] = torch.nan, torch.inf
    matrix = A.clone().requires_grad_()
    found = bln.solve_prox(bln.legendre.Tanh(), Layer(matrix), v, on_failure="nan")
    assert found.converged.tolist() == [True, False, True, False, True]
    assert (found.status[[1, 3]] == bln.Status.invalid).all()
    good = found.z[found.converged]
    alone = bln.bregman_prox(bln.legendre.Tanh(), Layer(matrix), V[[0, 2, 4]])
    assert torch.allclose(good, alone, rtol=1e-13)
    a, b = (torch.autograd.grad(z.sum(), matrix)[0] for z in (good, alone))
    assert a.isfinite().all()
    assert torch.allclose(a, b, rtol=1e-10)


def test_what_is_not_convex_is_refuted_on_samples() -> None:
    class Wave(bln.regularizers.Regularizer):
        event_ndim = 1

        def value(self, z: torch.Tensor) -> torch.Tensor:
            return 3 * z.sum(-1).cos()

    with pytest.raises(bln.InputError, match="not convex: at two points"):
        bln.bregman_prox(bln.legendre.Energy(), Wave(), V)
    with pytest.raises(bln.InputError, match="not convex"):
        bln.bregman_prox(bln.legendre.Energy(), Power("saddle"), V, "newton", on_failure="ignore")


def test_what_is_not_convex_behind_a_map_or_entry_by_entry_is_refuted() -> None:
    class Bump(bln.regularizers.Smooth):
        def value(self, z: torch.Tensor) -> torch.Tensor:
            return -torch.nn.functional.softplus(z)

    for g in (Bump().precompose(3 * A), 0.5 * Bump() + Layer(A)):
        with pytest.raises(bln.InputError, match="not convex: at two points"):
            bln.bregman_prox(bln.legendre.Energy(), g, V, on_failure="ignore")


def test_a_function_that_cannot_be_evaluated_is_named() -> None:
    for function in (torch.nn.Bilinear(N, N, 1), lambda z: z.sum(-1)):
        layer = bln.BilevelLayer(bln.couplings.Function(function), bln.divergences.SquaredEuclidean())
        with pytest.raises(
            bln.InputError, match=r"cannot be evaluated at points of shape \(5, 3\) and dtype torch.float64"
        ):
            layer(V)


def test_a_kink_of_a_function_taken_for_smooth_is_told() -> None:
    """Its Hessian is a zero without storage."""
    f = bln.couplings.Function(lambda z, z_prev: (z - z_prev - 0.05).abs().sum(-1))
    found = bln.BilevelLayer(f, bln.divergences.SquaredEuclidean(), on_failure="ignore").solve(V)
    assert found.status.tolist() == [int(bln.Status.invalid)] * len(V)


def test_what_is_not_convex_is_flagged_at_the_solution() -> None:
    """As under compile, where no sample is looked at: the search starts and rests at the maximum 0."""
    phi, g = bln.legendre.Energy(), Power("saddle")
    compiled = torch.compile(lambda v: bln.bregman_prox(phi, g, v, "newton"), backend="aot_eager")
    assert compiled(torch.zeros(1, N, dtype=F64)).isnan().all()


def test_a_value_of_another_shape_is_refused() -> None:
    class Entries(bln.regularizers.Regularizer):
        event_ndim = 1

        def value(self, z: torch.Tensor) -> torch.Tensor:
            return z**2

    with pytest.raises(bln.InputError, match=r"one number an event is \(5,\)"):
        bln.bregman_prox(bln.legendre.Energy(), Entries(), V)


@pytest.mark.parametrize(
    ("phi", "g", "why"),
    [
        (bln.legendre.Energy(), bln.regularizers.SquaredL2(), "separable"),
        (PHIS["mahalanobis"], bln.regularizers.L1(), "l1 is not smooth"),
        (PHIS["mahalanobis"], bln.regularizers.Nonneg(), "not smooth"),
        (bln.legendre.Energy(), bln.regularizers.L2Norm(), "not smooth"),
        (bln.legendre.get("tsallis", alpha=1.5), Layer(A), "constraints"),
        (bln.legendre.BallHellinger(), bln.regularizers.LogBarrier() + Layer(A), "chart"),
        (bln.legendre.Energy(), bln.regularizers.LogBarrier().precompose(A), "chart"),
    ],
)
def test_refusals(phi: Any, g: Any, why: str) -> None:
    with pytest.raises(bln.InputError, match=why):
        bln.bregman_prox(phi, g, V, "newton")


def test_explain() -> None:
    coupling, divergence = bln.couplings.Bilinear(N, N), bln.divergences.Bregman(PHIS["tanh"])
    words = bln.BilevelLayer(coupling, divergence, Layer(A)).double().explain()
    assert words.startswith("newton: tanh + Layer; damped Newton steps in u = ∇φ(z)")
    assert "not multiplier" in words


def test_a_mirror_map_by_value_alone() -> None:
    """∇φ*(∇φ(z)) = z to rounding, and its derivative is the inverse Hessian."""
    phi = PHIS["coupled"]
    assert torch.allclose(phi.grad_conjugate(phi.grad(V)), V, rtol=1e-12, atol=1e-13)
    u = phi.grad(V[0])
    inverse = torch.linalg.inv(hessian(phi.value)(V[0]))
    assert torch.allclose(jacrev(phi.grad_conjugate)(u), inverse, rtol=1e-10, atol=1e-12)


def test_a_map_pickles() -> None:
    layer = bln.BilevelLayer(
        bln.couplings.Bilinear(N, N),
        bln.divergences.Mahalanobis(torch.eye(N, dtype=F64)),
        bln.regularizers.Huber(),
    ).double()
    want = layer(V)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(V), want)
