"""Two solvers agree on every problem that both accept: values 1e-8, gradients 1e-6 relative in float64, the issue's.

The conic solver agrees to 1e-4, what one proximal step from its answer may move (heavy).
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from catalog import LEGENDRE, REGULARIZERS, cases

import bilevelnet as bln

F64 = torch.float64
WIDE = torch.tensor([[-1.3, 0.4, 2.1, -0.6, 1.2, 0.3], [0.73, -0.2, -2.5, 1.6, -0.9, 0.1]], dtype=F64)
V = WIDE[:, :3]
K = torch.tensor([[1.0, -1.0, 0.5], [0.3, 0.8, -0.4]], dtype=F64)
Q = torch.tensor([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 1.5]], dtype=F64)
OWN = tuple(n for n in bln.solvers.registry if n != "conic")


class Softplus(bln.regularizers.Smooth):
    def value(self, z: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(z)


def _r(key: str, **params: Any) -> Any:
    return bln.regularizers.get(key, **params)


COUPLED = {
    "softplus∘K": lambda: Softplus().precompose(K),
    "huber∘K": lambda: _r("huber", lam=1.0, delta=0.5).precompose(K),
    "squared_l2∘K": lambda: _r("squared_l2", lam=0.7).precompose(K),
    "squared_l2∘K+squared_l2": lambda: _r("squared_l2", lam=0.7).precompose(K) + _r("squared_l2", lam=0.2),
    "l1+simplex": lambda: _r("l1", lam=0.2) + _r("simplex", radius=1.0),
    "l2_norm+l1": lambda: _r("l2_norm", lam=0.3) + _r("l1", lam=0.2),
    "l2_ball+nonneg": lambda: _r("l2_ball", radius=0.6) + _r("nonneg"),
}
MATRICES = [lambda: bln.legendre.Mahalanobis(Q), lambda: bln.legendre.BallHellinger()]
FIRST = [s for s in LEGENDRE if s.first and s.build().event_ndim == 0 and s.cls.key != "tanh_mixture"]


def takers(phi: Any, g: Any, names: tuple[str, ...]) -> list[str]:
    found = []
    for name in names:
        try:
            bln.solvers.bind(phi, g, name)
        except bln.InputError:
            continue
        found.append(name)
    return found


def solved(phi: Any, g: Any, name: str) -> tuple[Any, torch.Tensor]:
    v = WIDE[:, : phi.width or g.width or 3].clone().requires_grad_()
    found = bln.solve_prox(phi, g, v, name, on_failure="ignore")
    good = found.converged.reshape(-1, 1) if found.converged.ndim == 1 else found.converged
    (slope,) = torch.autograd.grad((torch.where(good, found.z, 0.0) * v.detach().cos()).sum(), v)
    return found, slope


def agree(phi: Any, g: Any) -> None:
    found = {name: solved(phi, g, name) for name in takers(phi, g, OWN)}
    for a, b in combinations(found, 2):
        (first, da), (second, db) = found[a], found[b]
        # A status of each entry, or of each event.
        n = min(first.converged.ndim, second.converged.ndim)
        both = [s.converged if s.converged.ndim == n else s.converged.all(-1) for s in (first, second)]
        assert torch.equal(*both), (a, b)
        good = both[0].reshape(*both[0].shape, *[1] * (2 - n)).expand_as(first.z)
        assert torch.allclose(first.z[good], second.z[good], rtol=1e-8, atol=1e-8), (a, b)
        if not phi.event_ndim:  # where φ''(z) = 0, dz/dv may be infinite
            good = good & (phi.hessian(first.z.detach()) > 0)
        assert torch.allclose(da[good], db[good], rtol=1e-6, atol=1e-6), (a, b)


@pytest.mark.parametrize("phi", cases(FIRST))
def test_every_pair_of_solvers_on_coupled_problems(phi: Any) -> None:
    for make in COUPLED.values():
        agree(phi.build().double(), make())


@pytest.mark.parametrize("make", MATRICES, ids=["mahalanobis", "ball"])
def test_every_pair_of_solvers_around_matrices(make: Any) -> None:
    for build in COUPLED.values():
        agree(make(), build())


@pytest.mark.heavy
@pytest.mark.parametrize("phi", cases(FIRST))
def test_every_pair_of_solvers_on_the_catalogue(phi: Any) -> None:
    for g in REGULARIZERS:
        if g.first and g.build().event_ndim < 2:
            agree(phi.build().double(), g.build().double())


@pytest.mark.heavy
@pytest.mark.parametrize("name", [n for n in COUPLED if "softplus" not in n])
def test_conic_agrees(name: str) -> None:
    for phi in (bln.legendre.Energy(), bln.legendre.BoltzmannShannon(), bln.legendre.Mahalanobis(Q)):
        g = COUPLED[name]()
        own = takers(phi, g, OWN)
        if own and takers(phi, g, ("conic",)):
            want, loose = (bln.solve_prox(phi, g, V, s, on_failure="ignore") for s in (own[0], "conic"))
            assert torch.allclose(want.z, loose.z.detach(), atol=1e-4, rtol=1e-4)
