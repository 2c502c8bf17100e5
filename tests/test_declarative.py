"""Layers given by declarative nodes, against closed forms, scipy and our own proximal operators."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import scipy.optimize
import torch
from torch import Tensor, nn
from torch.func import jacfwd, jacrev, vmap

import bilevelnet as bln
from bilevelnet.interop import from_declarative

F64 = torch.float64
S = bln.Status
FREE = bln.solvers.Newton(largest=1)


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Ridge:
    def objective(self, A: Tensor, b: Tensor, lam: Tensor, y: Tensor) -> Tensor:
        fit = (A @ y.unsqueeze(-1)).squeeze(-1) - b
        return fit.square().sum(-1) / 2 + lam / 2 * y.square().sum(-1)


class Distance:
    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return (y - x).square().sum(-1) / 2


class Sphere(Distance):
    def equality_constraints(self, x: Tensor, y: Tensor) -> Tensor:
        return y.square().sum(-1) - 1  # of shape (batch,)


class Simplex(Distance):
    def equality_constraints(self, x: Tensor, y: Tensor) -> Tensor:
        return y.sum(-1, keepdim=True) - 1

    def inequality_constraints(self, x: Tensor, y: Tensor) -> Tensor:
        return -y


class Ball(Distance):
    def inequality_constraints(self, x: Tensor, y: Tensor) -> Tensor:
        return y.square().sum(-1) - 1


class Cosh(nn.Module):
    """min Σ cosh(y − W x) + ½‖y‖² on the box [−1, 1], with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(points(3, 2, seed=3))

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return ((y - x @ self.W.mT).cosh() + y.square() / 2).sum(-1)

    def inequality_constraints(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([y - 1, -1 - y], -1)


@pytest.mark.parametrize("solver", [None, FREE], ids=["dense", "free"])
def test_ridge_regression(solver: Any) -> None:
    A, b, lam = points(3, 5, 2), points(3, 5, seed=1), torch.tensor(0.3, dtype=F64)
    layer = from_declarative(Ridge(), 2, solver=solver)
    inputs = tuple(t.clone().requires_grad_() for t in (A, b, lam))
    exact = torch.linalg.solve(A.mT @ A + lam * torch.eye(2, dtype=F64), (A.mT @ b.unsqueeze(-1)).squeeze(-1))
    assert torch.allclose(layer(A, b, lam), exact, rtol=1e-12)
    assert torch.autograd.gradcheck(layer, inputs, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, inputs, fast_mode=True)


@pytest.mark.parametrize("solver", [None, pytest.param(FREE, marks=pytest.mark.heavy)], ids=["dense", "free"])
def test_projection_onto_the_sphere(solver: Any) -> None:
    x = points(4, 3).requires_grad_()
    layer = from_declarative(Sphere(), solver=solver)
    sol = layer.solve(x)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    assert torch.allclose(sol.z, x / norm, rtol=1e-12)
    assert torch.allclose(sol.multipliers["equality"], (1 - norm) / 2, rtol=1e-11)  # y − x = 2 ν y
    assert torch.autograd.gradcheck(layer, (x,), check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, (x,), fast_mode=True)


def test_inequalities_against_our_proximal_operators() -> None:
    x = 2 * points(6, 4)
    energy = bln.legendre.Energy()
    for node, g in ((Simplex(), bln.regularizers.Simplex()), (Ball(), bln.regularizers.L2Ball(1.0))):
        layer = from_declarative(node)
        sol = layer.solve(x)
        assert bool(sol.converged.all())
        assert torch.allclose(sol.z, bln.bregman_prox(energy, g, x), atol=1e-13)
        assert (sol.multipliers["inequality"] >= 0).all()
        J = jacrev(lambda v, run=layer: run(v[None])[0])(x[0])
        K = jacrev(lambda v, g=g: bln.bregman_prox(energy, g, v))(x[0])
        assert torch.allclose(J, K, atol=1e-12)


def test_a_module_with_a_weight_against_scipy() -> None:
    node, x = Cosh(), 2 * points(5, 2)
    layer = from_declarative(node, (3,))
    assert [p is node.W for p in layer.parameters()] == [True]
    sol = layer.solve(x)
    for c, y in zip((x @ node.W.mT).flatten().tolist(), sol.z.flatten().tolist(), strict=True):
        free = scipy.optimize.brentq(lambda y, c=c: math.sinh(y - c) + y, -20, 20, xtol=1e-14)
        assert abs(y - min(max(free, -1), 1)) < 1e-13
    assert (sol.z.abs() == 1).any()
    assert (sol.z.abs() < 1).any()

    def f(x: Tensor, W: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"equation.call.W": W}, (x,), {"init": near[: len(x)]})

    near = sol.z.detach()[:2]
    inputs = x[:2].clone().requires_grad_(), node.W.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(f, inputs, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, (inputs[0][:1], inputs[1]), fast_mode=True)


class Quartic:
    """The least of two minima of x y⁴ + 2x² y³ − 12 y²; what solve() gives decides which."""

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return (x * y**2 + 2 * x**2 * y - 12) * y**2

    def stationary(self, x: Tensor) -> Tensor:
        root = (9 * x**4 + 96 * x).sqrt()
        return torch.cat([torch.zeros_like(x), (-3 * x**2 - root) / (4 * x), (-3 * x**2 + root) / (4 * x)], -1)

    def solve(self, x: Tensor) -> tuple[Tensor, None]:
        y = self.stationary(x)
        return y.gather(-1, self.objective(x, y).argmin(-1, keepdim=True)), None


def test_the_node_s_own_solution_is_taken_and_checked() -> None:
    x = torch.tensor([[0.5], [1.0], [2.0]], dtype=F64, requires_grad=True)
    node = Quartic()
    y = from_declarative(node)(x)
    assert torch.allclose(y, node.solve(x)[0], rtol=1e-13)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(slope, -(y**3 + 3 * x * y**2) / (3 * x * y**2 + 3 * x**2 * y - 6), rtol=1e-12)

    class Rough(Quartic):
        def solve(self, x: Tensor) -> Tensor:
            return super().solve(x)[0].round(decimals=2)  # polished

    assert torch.allclose(from_declarative(Rough())(x), y, rtol=1e-13)

    class Summit(Quartic):
        def solve(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)  # stationary, a maximum

    with pytest.raises(bln.SolveError, match="stationary but no minimum"):
        from_declarative(Summit())(x)

    class Abstract(Quartic):
        def solve(self, x: Tensor) -> Tensor:
            raise NotImplementedError

    other = from_declarative(Abstract())(x, init=torch.full_like(x, 2.0))
    assert torch.allclose(other, node.stationary(x)[:, 2:], rtol=1e-12)  # the minimum near init


def test_statuses_element_by_element() -> None:
    class Kinked:  # ½(y − x)² − a y²/2 on y ≤ 1: convex for a < 1
        def objective(self, x: Tensor, a: Tensor, y: Tensor) -> Tensor:
            return ((y - x).square() / 2 - a * y.square() / 2).sum(-1)

        def inequality_constraints(self, x: Tensor, a: Tensor, y: Tensor) -> Tensor:
            return y - 1

    x = torch.tensor([[0.2], [3.0], [1.0], [torch.nan], [0.5], [0.3]], dtype=F64, requires_grad=True)
    a = torch.tensor([[0.0], [0.0], [0.0], [0.0], [3.0], [1.0]], dtype=F64)
    sol = from_declarative(Kinked(), on_failure="nan").solve(x, a)
    assert sol.status[:4].tolist() == [S.converged, S.converged, S.kink, S.invalid]
    assert (sol.status[4:] == S.converged).logical_or(sol.status[4:] > S.kink).all()
    assert torch.equal(sol.z[:3].detach(), torch.tensor([[0.2], [1.0], [1.0]], dtype=F64))
    (slope,) = torch.autograd.grad(sol.z[:3].sum(), x)
    assert slope[:2].flatten().tolist() == [1.0, 0.0]


def test_infeasible_and_dependent_constraints_are_told() -> None:
    class Empty(Distance):
        def inequality_constraints(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.cat([y - 1, 2 - y], -1)

    class Twice(Sphere):
        def equality_constraints(self, x: Tensor, y: Tensor) -> Tensor:
            h = super().equality_constraints(x, y)
            return torch.stack([h, h], -1)

    with pytest.raises(bln.SolveError, match=r"infeasible: .* give init="):
        from_declarative(Empty())(points(2, 1))
    x = points(2, 3).requires_grad_()
    sol = from_declarative(Twice()).solve(x)
    alone = from_declarative(Sphere()).solve(x)
    assert torch.allclose(sol.z, alone.z, rtol=1e-12)
    assert torch.allclose(sol.multipliers["equality"], alone.multipliers["equality"] / 2, rtol=1e-8)
    slopes = (torch.autograd.grad(s.z.sin().sum(), x)[0] for s in (sol, alone))
    assert torch.allclose(*slopes, rtol=1e-9)


def test_an_objective_that_falls_for_ever_is_told() -> None:
    class Falling(Distance):
        def objective(self, x: Tensor, y: Tensor) -> Tensor:
            return (y[..., 0] - x[..., 0]) ** 2 - x[..., 1] * y[..., 1]

    x = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=F64)
    sol = from_declarative(Falling(), on_failure="ignore").solve(x)
    assert sol.status.tolist() == [S.unbounded, S.invalid]  # the second has a line of minima
    with pytest.raises(bln.SolveError, match=r"unbounded: .* add a constraint"):
        from_declarative(Falling())(x)


def test_linear_constraint_parameters() -> None:
    class Plane(Distance):
        def equality_constraints(self, x: Tensor, y: Tensor) -> None:
            return None

        def linear_constraint_parameters(self, y: Tensor) -> tuple[Tensor, Tensor]:
            return torch.ones(1, y.shape[-1], dtype=y.dtype), torch.ones(1, dtype=y.dtype)

    x = points(4, 3)
    z = from_declarative(Plane())(x)
    assert torch.allclose(z, x - (x.sum(-1, keepdim=True) - 1) / 3, rtol=1e-13)


def test_transforms() -> None:
    layer, x = from_declarative(Simplex()), points(3, 4)

    def one(x: Tensor) -> Tensor:
        return layer(x[None])[0]

    assert torch.allclose(vmap(one)(x), layer(x), rtol=1e-12, atol=1e-15)
    assert torch.allclose(jacrev(one)(x[0]), jacfwd(one)(x[0]), atol=1e-13)


@pytest.mark.heavy
def test_compiles_with_its_gradient() -> None:
    layer, x = from_declarative(Simplex()), points(3, 4).requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), layer(x), atol=1e-15)
    first, second = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (compiled, layer))
    assert torch.allclose(first, second, atol=1e-13)


def test_shapes_dtypes_and_copies() -> None:
    layer = from_declarative(Simplex())
    assert layer(points(0, 3)).shape == (0, 3)
    several = from_declarative(Simplex(), batch_ndim=2)(points(2, 3, 4))
    assert torch.allclose(several, layer(points(2, 3, 4).flatten(0, 1)).unflatten(0, (2, 3)), rtol=1e-12)
    z = layer(points(5, 3).float())
    assert z.dtype is torch.float32
    assert torch.allclose(z.double(), layer(points(5, 3)), atol=1e-6)
    x = points(5, 2)
    original = from_declarative(Cosh(), 3)
    for other in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert torch.equal(other(x), original(x))


def test_misuse_is_named() -> None:
    with pytest.raises(bln.InputError, match="has a method objective"):
        from_declarative(object())
    net = nn.Linear(2, 2)

    class Outside(Distance):
        def objective(self, x: Tensor, y: Tensor) -> Tensor:
            return (y - net(x)).square().sum(-1)

    class Inside(Distance):
        def __init__(self) -> None:
            self.net = net

    for node in (Outside(), Inside()):
        with pytest.raises(bln.InputError, match="uses net, a Linear"):
            from_declarative(node)

    class Whole(Distance):
        def objective(self, x: Tensor, y: Tensor) -> Tensor:
            return (y - x).square().sum()

    with pytest.raises(bln.InputError, match="one value for each of the batch"):
        from_declarative(Whole())(points(2, 3))


def test_begun_at_the_far_pole() -> None:
    """A stationary point that is no minimum, not unbounded: the search moved by a rounding, which is no direction."""
    for seed in range(8):
        x = points(1, 2 + seed, seed=seed)
        x = x / x.norm()
        status = from_declarative(Sphere(), on_failure="ignore").solve(x, init=-x).status
        assert status.tolist() == [S.invalid]
