"""Newton's method: derivatives of every order, transforms, compilation, gradients of every weight."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from smooth_problems import MATRIX_FREE, PHIS, TERMS, A, Coupled, Layer, N, Softplus, V
from torch.func import grad, hessian, jacfwd, jacrev, vmap

import bilevelnet as bln

F64 = torch.float64


def derivatives(solver: Any, phi: Any, g: Any, v: torch.Tensor) -> None:
    """f(v, A) through every derivative and transform; both ways of one derivative agree to rounding."""

    def f(v: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        p, h = copy.copy(phi), copy.copy(g)
        if isinstance(phi, Coupled):
            p = Coupled(A)
        else:
            h = Layer(A)
        return bln.bregman_prox(p, h, v, solver)

    inputs = v.clone().requires_grad_(), A.clone().requires_grad_()
    assert torch.autograd.gradcheck(f, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, (v[:1].clone().requires_grad_(), inputs[1]))
    z, d = f(v, A), grad(lambda v: f(v, A).sum())(v)
    assert torch.allclose(vmap(lambda v: f(v, A))(v), z, rtol=1e-11)
    scaled = torch.stack([A, 2 * A])
    each = torch.stack([f(v, a) for a in scaled])
    assert torch.allclose(vmap(f, (None, 0))(v, scaled), each, rtol=1e-11)
    assert torch.allclose(vmap(grad(lambda v: f(v, A).sum()))(v), d, rtol=1e-9)
    assert torch.allclose(jacrev(lambda v: f(v, A))(v[0]), jacfwd(lambda v: f(v, A))(v[0]), rtol=1e-9, atol=1e-12)
    second = hessian(lambda v: f(v, A).sum())(v[0])
    assert torch.allclose(second, second.mT, atol=1e-9)


CASES = [
    pytest.param(solver, phi, id=f"{name}-{way}", marks=() if quick else pytest.mark.heavy)
    for way, solver in (("dense", "newton"), ("free", MATRIX_FREE))
    for name, phi in PHIS.items()
    for quick in [(name, way) == ("fermi_dirac", "dense")]
]


@pytest.mark.parametrize(("solver", "phi"), CASES)
def test_derivatives(solver: Any, phi: Any) -> None:
    g = bln.regularizers.SquaredL2(0.5) if isinstance(phi, Coupled) else TERMS["values"]
    derivatives(solver, phi, g, V[:2])


def test_derivatives_without_a_matrix() -> None:
    """By conjugate gradients, against the factored Hessian, to second order."""

    def f(v: torch.Tensor, A: torch.Tensor, solver: Any) -> torch.Tensor:
        return bln.bregman_prox(PHIS["fermi_dirac"], Layer(A), v, solver)

    found = []
    for solver in ("newton", MATRIX_FREE):
        v, matrix = V[:2].clone().requires_grad_(), A.clone().requires_grad_()
        first = torch.autograd.grad(f(v, matrix, solver).square().sum(), (v, matrix), create_graph=True)
        second = torch.autograd.grad(sum(d.square().sum() for d in first), (v, matrix))
        forward = jacfwd(lambda v, s=solver: f(v, A, s))(V[0])
        found.append((*first, *second, forward, vmap(grad(lambda v, s=solver: f(v, A, s).sum()))(V)))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-11) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("solver", ["newton", MATRIX_FREE], ids=["dense", "free"])
def test_compiles_with_its_gradient(solver: Any) -> None:
    phi, g = PHIS["tanh"], TERMS["values"]

    def f(v: torch.Tensor) -> torch.Tensor:
        return bln.bregman_prox(phi, g, v, solver)

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    x, y = V.clone().requires_grad_(), V.clone().requires_grad_()
    z = compiled(x)
    assert torch.allclose(z, f(y), rtol=1e-12)
    for out in (z, f(y)):
        out.sum().backward()
    assert torch.allclose(x.grad, y.grad, rtol=1e-9)


@pytest.mark.heavy
def test_a_vmapped_gradient_compiles() -> None:
    def f(v: torch.Tensor) -> torch.Tensor:
        return bln.bregman_prox(PHIS["tanh"], TERMS["values"], v, "newton").sum()

    batch = torch.compile(vmap(grad(f)), fullgraph=True, backend="aot_eager")
    assert torch.allclose(batch(V), grad(f)(V), rtol=1e-9)


def test_every_weight_learns() -> None:
    q = torch.nn.Parameter(torch.eye(N, dtype=F64) + 0.2)
    lam, matrix = torch.nn.Parameter(torch.tensor(0.4, dtype=F64)), torch.nn.Parameter(A.clone())
    layer = bln.BilevelLayer(
        bln.couplings.Bilinear(N, N),
        bln.divergences.Mahalanobis(q),
        bln.regularizers.SquaredL2(lam) + Softplus().precompose(matrix),
    ).double()
    x = V.clone().requires_grad_()
    layer(x).square().sum().backward()
    assert x.grad is not None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    assert torch.equal(copy.deepcopy(layer)(V), layer(V))
