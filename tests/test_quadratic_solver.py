"""The quadratic solver of auto, beside the splitting solver, which solves the same problems over their multipliers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from draws import K, Q, V
from torch import Tensor, nn
from torch.func import hessian, jvp, vmap

import bilevelnet as bln

F64 = torch.float64
L, R = bln.legendre, bln.regularizers


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 4)

    def forward(self, z: Tensor) -> Tensor:
        return self.inner(z)


def metric() -> Any:
    return L.Mahalanobis(Q)


PROBLEMS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "l1 behind a map": (L.Energy, lambda: R.L1(0.3).precompose(K)),
    "box": (metric, lambda: R.Box(-0.3, 0.4)),
    "half spaces": (lambda: L.Energy(2.0), lambda: R.Nonneg().translate(-0.3).precompose(K) + R.L1(0.1)),
    "simplex": (metric, R.Simplex),
    "capped simplex": (metric, lambda: R.CappedSimplex(1.0, 0.4)),
    "l1 ball": (metric, lambda: R.L1Ball(0.7)),
    "largest entry": (metric, lambda: (0.5 * R.LinfNorm()).translate(0.4)),
    "total variation": (metric, lambda: R.TV1d(0.5) + R.Nonneg()),
    "affine set": (metric, lambda: R.AffineSet([1.0, 1.0, 0.0, 0.0, -1.0, 0.5], 0.2) + R.L1(0.2)),
    "least squares": (L.Energy, lambda: R.SquaredL2(0.5).translate(0.3).precompose(K) + R.LinfBall(0.2)),
    "hinges": (metric, lambda: R.Hinge() + 0.5 * R.Quantile()),
    "knots": (metric, lambda: R.PiecewiseLinear((-0.5, 0.25, 0.6), (-1.0, -0.2, 0.3, 2.0))),
    "elastic net behind a map": (L.Energy, lambda: R.ElasticNet(0.2, 0.3).precompose(K)),
}


def layer(phi: Any, g: Any, **options: Any) -> Any:
    divergence = bln.divergences.Bregman(phi, bln.divergences.Zero())
    return bln.BilevelLayer(bln.couplings.Affine(nn.Identity()), divergence, g, **options)


@pytest.mark.parametrize("name", PROBLEMS)
def test_auto_names_it_and_it_agrees(name: str) -> None:
    phi, g = (make() for make in PROBLEMS[name])
    chosen = layer(phi, g)
    assert chosen.explain().startswith("quadratic: ")
    found, other = chosen.solve(V), layer(phi, g, solver="splitting").solve(V)
    assert found.solver == "quadratic"
    assert bool(found.converged.all())
    assert torch.allclose(found.z, other.z, rtol=0, atol=1e-12)  # 1e-13 of the other, times the condition of Q
    assert float(found.residual.max()) < 1e-12  # eps times 30 terms of size 10
    assert bool(((found.z - other.z).norm(dim=-1) <= found.error_bound + 1e-12).all())


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_warm_start_needs_no_interior_steps(name: str) -> None:
    """And multipliers that another solver gave, or a z alone, are no harm."""
    chosen = layer(*(make() for make in PROBLEMS[name]), solver="quadratic")
    first, nearby = chosen.solve(V), V + 1e-6
    cold, warm = chosen.solve(nearby), chosen.solve(nearby, init=first)
    assert cold.iterations > 0
    assert warm.iterations == 0
    other = layer(*(make() for make in PROBLEMS[name]), solver="splitting")
    for found in (warm, chosen.solve(nearby, init=first.z), chosen.solve(nearby, init=other.solve(V, init=first))):
        assert torch.allclose(found.z, cold.z, rtol=0, atol=1e-12)  # as above


def test_derivatives_to_second_order_in_everything() -> None:
    weights = [nn.Parameter(t) for t in (K.clone(), torch.tensor(0.3, dtype=F64), torch.tensor(0.1, dtype=F64))]
    row, level = nn.Parameter(torch.tensor([1.0, 1.0, 0.0, 0.0, -1.0, 0.5], dtype=F64)), torch.tensor([0.2], dtype=F64)
    phi = L.Mahalanobis(nn.Parameter(Q.clone()))
    g = R.L1(weights[1]).translate(weights[2]).precompose(weights[0]) + R.AffineSet(row, nn.Parameter(level))
    v = V.clone().requires_grad_()
    leaves, found = [v, *phi.parameters(), *g.parameters()], []
    assert len(leaves) == 7
    for solver in ("quadratic", "splitting"):
        z = bln.bregman_prox(phi, g, v, solver=solver)
        first = torch.autograd.grad(z.sin().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(t.square().sum() for t in first), leaves)
        found.append((*first, *second))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-11)  # two sets of equations, of condition below 1e3


def test_it_rests_on_knots_to_the_last_bit() -> None:
    z = bln.bregman_prox(metric(), R.L1(1.0) + R.Box(-0.3, 0.4), V)
    assert bool((z == 0).any())
    assert bool((z == 0.4).any())
    assert bool((z == -0.3).any())


def test_status_of_each_element() -> None:
    apart = R.Nonneg().translate(1.0).precompose(torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=F64))
    assert bln.solve_prox(L.Energy(), apart, V[:, :2], on_failure="ignore").status.unique().tolist() == [
        bln.Status.infeasible
    ]
    v = V.clone()
    v[1, 2] = torch.nan
    sol = layer(metric(), R.Simplex(), on_failure="nan").solve(v)
    assert sol.status.tolist() == [0, bln.Status.invalid, *[0] * (len(v) - 2)]
    assert torch.equal(sol.z[0], layer(metric(), R.Simplex())(V)[0])


def test_transforms_shapes_and_types() -> None:
    net = layer(metric(), R.L1(0.3) + R.Simplex())
    z = net(V)
    assert torch.allclose(vmap(net)(V), z, rtol=0, atol=1e-14)
    step = 1e-6
    moved = (net(V + step * V.sin()) - net(V - step * V.sin())) / (2 * step)
    assert torch.allclose(jvp(net, (V,), (V.sin(),))[1], moved, atol=1e-8)  # eps over the step
    assert hessian(lambda t: net(t).square().sum())(V[0]).shape == (6, 6)
    assert net(V[:0]).shape == (0, 6)
    assert torch.equal(net(V.reshape(3, 1, 6)).reshape(V.shape), z)
    assert (net(V.float()).double() - z).abs().max() < 1e-6
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(V), z)


def test_weights_of_one_element_each() -> None:
    lam = torch.linspace(0.1, 0.8, len(V), dtype=F64).unsqueeze(-1)
    z = bln.bregman_prox(metric(), R.L1(lam), V)
    rows = [bln.bregman_prox(metric(), R.L1(float(t)), v) for t, v in zip(lam, V, strict=True)]
    assert torch.allclose(z, torch.stack(rows), atol=1e-13)


def test_bounds_at_infinity() -> None:
    """Of numbers, of some entries, and of some elements."""
    some = torch.tensor([0.2, torch.inf, 0.2, torch.inf, torch.inf, 0.2], dtype=F64)
    batched = torch.where(torch.arange(len(V)).unsqueeze(-1) == 1, torch.inf, torch.full((len(V), 1), 0.2, dtype=F64))
    for hi in (torch.tensor(torch.inf, dtype=F64), some, batched):
        z = bln.bregman_prox(metric(), R.Box(-torch.inf, hi).translate(0.1), V)
        far = R.Box(-1e4, hi.clamp(max=1e4)).translate(0.1)
        assert torch.allclose(z, bln.bregman_prox(metric(), far, V), atol=1e-11)  # eps of 1e4


def test_modules_in_float32() -> None:
    g = R.L1(0.3).precompose(Rows())
    found = layer(metric(), g)
    assert found.explain().startswith("quadratic: ")
    found(V).sum().backward()
    assert found.regularizer.linear.module.inner.weight.grad.abs().sum() > 0


def test_what_it_refuses() -> None:
    for phi, g, word in (
        (L.FermiDirac(), R.L1(0.1).precompose(K), "not quadratic"),
        (metric(), R.L2Ball(), "neither polyhedral nor a square"),
        (L.Energy(), R.TV1d() + R.Simplex(), "width that is known"),
        (metric(), R.SquaredL2(), "nothing in it has a kink"),
    ):
        with pytest.raises(bln.InputError, match=word):
            layer(phi, g, solver="quadratic")
    with pytest.raises(bln.InputError, match="more than the 8"):
        layer(metric(), R.L1(), solver=bln.solvers.Quadratic(largest=8))


@pytest.mark.heavy
def test_compiled() -> None:
    net = layer(metric(), R.L1(0.3) + R.Simplex())
    grads = []
    for call in (net, torch.compile(net, fullgraph=True)):
        v = V.clone().requires_grad_()
        call(v).square().sum().backward()
        grads.append(v.grad)
    assert torch.allclose(*grads, atol=1e-14)
