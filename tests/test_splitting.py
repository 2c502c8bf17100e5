"""The splitting solver: sums of terms behind linear maps."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from draws import GROUPS, K, Q, V
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, vmap

import bilevelnet as bln
from bilevelnet.solvers import Splitting

F64 = torch.float64
L, R = bln.legendre, bln.regularizers


def composite() -> Any:
    """The issue's example."""
    return R.L1(0.1).precompose(K) + R.L2Ball(1.0)


# Problems that another solver takes too.
SHARED = {
    "energy-l1+l2_norm": (L.Energy, lambda: R.L1(0.3) + R.L2Norm(0.2)),
    "energy-tv1d": (L.Energy, lambda: R.TV1d(0.5)),
    "energy-simplex": (L.Energy, R.Simplex),
    "energy-l2_ball": (L.Energy, R.L2Ball),
    "energy-tight": (L.Energy, lambda: R.L1(0.3).precompose(torch.linalg.qr(K.mT)[0].mT.contiguous())),
    "fermi_dirac-tv1d+box": (L.FermiDirac, lambda: R.TV1d(0.5) + R.Box(0.2, 0.7)),
    "boltzmann_shannon-tv1d": (L.BoltzmannShannon, lambda: R.TV1d(0.4)),
    "boltzmann_shannon-simplex": (L.BoltzmannShannon, R.Simplex),
    "boltzmann_shannon-groups": (L.BoltzmannShannon, lambda: R.GroupLasso(0.5, groups=GROUPS)),
    "fermi_dirac-l2_norm": (L.FermiDirac, lambda: R.L2Norm(0.4)),
    "fermi_dirac-capped": (L.FermiDirac, lambda: R.CappedSimplex(radius=2.0, cap=0.6)),
    "tanh-l1_ball": (L.Tanh, lambda: R.L1Ball(1.5)),
    "softplus-linf": (L.Softplus, lambda: R.LinfNorm(0.6)),
    "hellinger-huber+l2_norm": (L.Hellinger, lambda: R.Huber(0.7, 0.3) + R.L2Norm(0.2)),
    "ball_hellinger-l1": (L.BallHellinger, lambda: R.L1(0.3)),
}
# Problems that only it takes.
OWN = {
    "example": (L.Energy, composite),
    "three": (L.Energy, lambda: composite() + R.TV1d(0.2)),
    "simplex": (L.FermiDirac, lambda: R.L1(0.3).precompose(K) + R.Simplex()),
    "graph": (L.BoltzmannShannon, lambda: (0.4 * R.L1().translate(0.2)).precompose(K) + R.SquaredL2(0.3)),
    "mahalanobis-groups": (lambda: L.Mahalanobis(Q), lambda: R.GroupLasso(0.5, groups=GROUPS)),
    "mahalanobis-nonneg": (lambda: L.Mahalanobis(Q), R.Nonneg),
    "mahalanobis-simplex": (lambda: L.Mahalanobis(Q), lambda: R.Simplex() + R.TV1d(0.2)),
    "balls": (L.Energy, lambda: R.L2Ball(1.0) + R.L2Ball(1.2).translate(0.3)),
    "overlapping": (
        L.Energy,
        lambda: R.GroupLasso(0.4, groups=((0, 1, 2), (5,))) + R.GroupLasso(0.4, groups=((2, 3, 5),)),
    ),
}
ALL = {**SHARED, **OWN}


def solve(name: str, v: Tensor = V, solver: Any = "splitting", **options: Any) -> bln.Solution:
    phi, g = ALL[name]
    return bln.solve_prox(phi(), g(), v, solver, **options)


def prox(name: str, solver: str = "splitting") -> Any:
    phi, g = (make() for make in ALL[name])
    return lambda v: bln.bregman_prox(phi, g, v, solver)


@pytest.mark.parametrize("name", SHARED)
def test_agrees_with_another_solver(name: str) -> None:
    """Values 1e-8 and Jacobians 1e-6, the issue's figures."""
    found, other = solve(name), solve(name, solver="auto")
    assert other.solver in ("closed_form", "scalar", "multiplier")
    assert found.converged.all()
    assert (found.z - other.z).abs().max() <= 1e-8
    mine, theirs = (jacrev(prox(name, solver))(V[0]) for solver in ("splitting", "auto"))
    assert (mine - theirs).abs().max() <= 1e-6


def objective(name: str, z: Tensor, v: Tensor) -> Tensor:
    """φ + g − ⟨z, v⟩, one number a row."""
    phi, g = (make() for make in ALL[name])
    total = g.value(z) if g.event_ndim else g.value(z).sum(-1)
    return total + (phi.value(z) if phi.event_ndim else phi.value(z).sum(-1)) - (z * v).sum(-1)


@pytest.mark.parametrize("name", OWN)
def test_no_feasible_point_nearby_is_better(name: str) -> None:
    """The objective against that of points towards random feasible ones: convexity leaves no other descent."""
    found = solve(name)
    assert found.converged.all()
    assert found.residual.max() <= 1e-13  # a few roundings of v, which is of size 5
    phi, g = (make() for make in ALL[name])
    best = objective(name, found.z, V)
    for k in range(5):
        w = V + 10.0**-k * torch.randn(V.shape, dtype=F64, generator=torch.Generator().manual_seed(k))
        other = bln.bregman_prox(phi, g, w, "splitting")
        for t in (1.0, 1e-2, 1e-4):
            value = objective(name, found.z + t * (other - found.z), V)
            assert (value >= best - 1e-12).all(), (value - best).min()  # rounding of terms of size 10


@pytest.mark.parametrize("name", OWN)
def test_agrees_with_the_conic_solver(name: str) -> None:
    """Loosely: Clarabel's defaults reach 1e-4 to 1e-5 in z, and worse by the condition of Q."""
    other = solve(name, solver="conic", on_failure="ignore")
    assert (solve(name).z - other.z).abs().max() <= 5e-3


HEAVY = [pytest.param(name, marks=pytest.mark.heavy) for name in ("graph", "mahalanobis-simplex")]


@pytest.mark.parametrize("name", ["example", "mahalanobis-groups", *HEAVY])
def test_derivatives(name: str) -> None:
    f, v = prox(name), V[:1].clone().requires_grad_()
    torch.autograd.gradcheck(f, (v,), check_forward_ad=True)
    torch.autograd.gradgradcheck(f, (v,), atol=1e-4, fast_mode=True)
    x = V[0]
    assert torch.allclose(jacrev(f)(x), jacfwd(f)(x), atol=1e-12)
    assert torch.allclose(vmap(f)(V), f(V), atol=1e-12)
    one = lambda t: f(t).pow(3).sum()  # noqa: E731
    y = V.clone().requires_grad_()
    (want,) = torch.autograd.grad(one(y), y)
    assert torch.allclose(vmap(grad(one))(V), want, atol=1e-10)
    assert torch.allclose(hessian(one)(x), jacrev(jacrev(one))(x), atol=1e-8)


def test_compiled_to_one_graph() -> None:
    torch.compiler.reset()
    f = prox("example")
    x, y = (V.clone().requires_grad_() for _ in range(2))
    got, want = torch.compile(f, fullgraph=True, backend="aot_eager")(x), f(y)
    got.pow(3).sum().backward()
    want.pow(3).sum().backward()
    assert torch.equal(got, want)
    assert torch.equal(x.grad, y.grad)  # type: ignore[arg-type]


def test_gradients_of_every_parameter() -> None:
    """K, λ, the radius of a ball, and Q."""
    tensors = [t.clone().requires_grad_() for t in (V[:1], K, torch.tensor([0.3, 1.2], dtype=F64))]

    def f(v: Tensor, k: Tensor, weights: Tensor) -> Tensor:
        return bln.bregman_prox(L.Energy(), R.L1(weights[0]).precompose(k) + R.L2Ball(weights[1]), v, "splitting")

    torch.autograd.gradcheck(f, tensors, check_forward_ad=True, fast_mode=True)
    torch.autograd.gradgradcheck(f, tensors, atol=1e-4, fast_mode=True)
    q = Q.clone().requires_grad_()
    torch.autograd.gradcheck(
        lambda q: bln.bregman_prox(L.Mahalanobis((q + q.mT) / 2), R.GroupLasso(0.5, groups=GROUPS), V[:1], "splitting"),
        (q,),
        fast_mode=True,
    )


def test_weights_over_the_batch_and_under_vmap() -> None:
    lam = torch.tensor([0.1, 0.4, 0.9], dtype=F64)

    def f(v: Tensor, lam: Tensor) -> Tensor:
        return bln.bregman_prox(L.Energy(), R.L1(lam).precompose(K) + R.L2Ball(1.0), v, "splitting")

    each = torch.stack([f(v, t) for v, t in zip(V, lam, strict=True)])
    assert torch.allclose(f(V, lam[:, None]), each, atol=1e-14)
    assert torch.allclose(vmap(f)(V, lam), each, atol=1e-14)
    slope = vmap(grad(lambda v, t: f(v, t).sum(), argnums=1))(V, lam)
    want = torch.stack([grad(lambda t: f(v, t).sum())(s) for v, s in zip(V, lam, strict=True)])  # noqa: B023
    assert torch.allclose(slope, want, atol=1e-12)


@pytest.mark.parametrize("name", ["example", "mahalanobis-groups", "mahalanobis-nonneg", "balls"])
def test_error_bound_and_status(name: str) -> None:
    """The bound of an answer stopped early holds; that of the solution is at half of the digits."""
    exact = solve(name)
    early = solve(name, solver=Splitting(max_iter=2), on_failure="ignore")
    phi, g = (make() for make in ALL[name])
    raw = bln.solvers.bind(phi, g, Splitting(max_iter=2))[0].solve(V)
    assert raw.error_bound is not None
    bound = raw.error_bound().squeeze(-1)
    assert ((raw.z - exact.z).norm(dim=-1) <= bound).all()
    assert (exact.error_bound[exact.error_bound.isfinite()] < 1e-6).all()  # type: ignore[index]
    assert set(early.status.tolist()) <= {int(bln.Status.converged), int(bln.Status.max_iter)}


def test_told_apart_in_one_batch() -> None:
    """One sample infeasible, one not finite: the third is right."""
    level = torch.tensor([[0.5], [20.0], [0.5]], dtype=F64)
    g = R.L2Ball(1.0) + R.AffineSet((1.0,) * 6, b=level)
    v = V.clone()
    v[2, 0] = torch.nan
    found = bln.solve_prox(L.Energy(), g, v, on_failure="nan")
    assert found.solver == "splitting"
    assert found.status.tolist() == [bln.Status.converged, bln.Status.infeasible, bln.Status.invalid]
    assert found.z[1:].isnan().all()
    assert abs(float(found.z[0].sum()) - 0.5) <= 1e-14
    with pytest.raises(bln.SolveError, match="infeasible"):
        bln.bregman_prox(L.Energy(), R.Simplex() + R.AffineSet((1.0,) * 6, b=20.0), V)


def test_warm_start() -> None:
    found = solve("mahalanobis-simplex")
    again = solve("mahalanobis-simplex", init=found)
    near = solve("mahalanobis-simplex", V + 1e-4, init=found)
    assert again.iterations <= 1
    assert near.iterations <= solve("mahalanobis-simplex", V + 1e-4).iterations / 2
    assert solve("mahalanobis-simplex", init=found.z).converged.all()


def test_shapes_and_dtypes() -> None:
    f = prox("example")
    want = f(V)
    assert f(V[:0]).shape == (0, 6)
    assert torch.allclose(f(V[:, None, None])[:, 0, 0], want, atol=1e-14)
    assert torch.allclose(f(V.mT.contiguous().mT), want, atol=1e-14)
    for dtype, off in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)):
        x = V.to(dtype).requires_grad_()
        z = f(x)
        (slope,) = torch.autograd.grad(z.sum(), x)
        assert z.dtype is slope.dtype is dtype
        assert (z.double() - want).abs().max() <= off  # some roundings of v, of size 5
        assert slope.isfinite().all()


def test_image_total_variation() -> None:
    """Two terms along two dimensions, one behind a module: the event is the image."""
    v = torch.randn(2, 4, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    z = bln.bregman_prox(L.Energy(), R.TV1d(0.3, dim=-1) + R.TV1d(0.3, dim=-2), v)
    other = bln.bregman_prox(L.Energy(), R.TV1d(0.3, dim=-1) + R.L1(0.3).precompose(Rows(), event_ndim=2), v)
    assert torch.allclose(z, other, atol=1e-12)


class Rows(torch.nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.diff(dim=-2)


def test_layer_pickles_and_copies() -> None:
    k = torch.nn.Parameter(K.clone())
    g = R.L1(torch.nn.Parameter(torch.tensor(0.2, dtype=F64))).precompose(k) + R.L2Ball(1.0)
    layer = bln.BilevelLayer(bln.couplings.Bilinear(6, 6).double(), bln.divergences.Bregman(L.Energy()), g)
    assert "splitting: multipliers for l1 ∘ K" in layer.explain()
    z = layer(V)
    z.sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in layer.parameters())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(V), z)


def test_refusals() -> None:
    class NoProx(R.Regularizer):
        event_ndim = 1
        indicator = True

        def value(self, z: Tensor) -> Tensor:
            return torch.zeros_like(z[..., 0])

    with pytest.raises(bln.InputError, match="no Euclidean prox"):
        bln.solvers.bind(L.Energy(), NoProx() + R.L2Ball(1.0), "splitting")
    with pytest.raises(bln.InputError, match="not finite everywhere"):
        bln.solvers.bind(L.LogDet(), R.Nuclear(0.3) + R.Nuclear(0.3).translate(1.0), "splitting")
    with pytest.raises(bln.InputError, match=r"no curvature bound.*add a bilevelnet"):
        bln.solvers.bind(L.Power(4.0), R.L1(0.3).precompose(K), "splitting")
    with pytest.raises(bln.InputError, match="nothing in l1 couples the entries"):
        bln.solvers.bind(L.Energy(), R.L1(0.3), "splitting")
    with pytest.raises(bln.InputError, match="max_iter"):
        Splitting(max_iter=0)


def test_a_flat_conjugate_makes_no_step_endless() -> None:
    """ψ* of an entropy in a box is flat where the box holds: a step as long as 1/eps hid that y was no fixed point."""
    g = bln.regularizers.GroupLasso(groups=((0, 1),)) + bln.regularizers.Box(hi=0.2)
    v = torch.tensor([[-0.8567, 1.1006, -1.0712], [0.0, 0.0, 0.0]], dtype=torch.float64)
    for phi in (0.7 * bln.legendre.BoltzmannShannon(), bln.legendre.BoltzmannShannon()):
        found, other = (bln.solve_prox(phi, g, v, solver) for solver in ("splitting", "multiplier"))
        torch.testing.assert_close(found.z, other.z, atol=1e-15, rtol=0)  # an ulp or two of numbers below 1
        assert float(found.residual.max()) <= 1e-15


def test_a_failed_element_of_a_warm_start_begins_anew() -> None:
    """Its NaN failed the next problem too, and so on."""
    cold = bln.solve_prox(L.Energy(), composite(), V)
    near = cold.z.clone()
    near[0] = torch.nan
    again = bln.solve_prox(L.Energy(), composite(), V, init=near)
    assert again.converged.all()
    assert torch.allclose(again.z, cold.z, rtol=0, atol=1e-14)  # some eps of numbers up to 1
    with pytest.raises(bln.InputError, match="init is a Solution of this problem or a tensor z, not int"):
        bln.solve_prox(L.Energy(), composite(), V, init=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("phi", [L.FermiDirac(), L.Energy()])
def test_an_empty_batch_takes_no_iterations(phi: Any) -> None:
    """By splitting and as a quadratic program: it was what the memory held."""
    assert bln.solve_prox(phi, R.L1(0.1).precompose(K), V[:0]).iterations == 0
    assert vmap(L.Mahalanobis(Q).grad_conjugate)(V[:0]).shape == V[:0].shape
