"""The prox and the conjugate of g ∘ K, and the stated Jacobians of proxes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from draws import GROUPS, K, V
from torch.func import jacrev

import bilevelnet as bln

F64 = torch.float64
R = bln.regularizers


def test_precomposed_has_prox_and_conjugate() -> None:
    g = R.L1(0.4).precompose(K)
    z = g.prox(V)
    assert torch.allclose(V - z, (V - z) @ torch.linalg.pinv(K) @ K, atol=1e-12)  # v − z ∈ range Kᵀ
    y = V - z
    assert (g.conjugate(y * (1 - 1e-12)) == 0).all()
    assert torch.allclose(g.value(z), (y * z).sum(-1), atol=1e-12)  # Fenchel's equality
    assert (g.conjugate(y + 1) == torch.inf).all()


@pytest.mark.parametrize(
    "g",
    [
        R.GroupLasso(0.5, groups=GROUPS),
        R.GroupLasso(torch.tensor([0.3, 0.9], dtype=F64), groups=GROUPS),
        R.SparseGroup(0.2, 0.4),
        0.7 * R.SparseGroup(0.2, 0.4, groups=GROUPS),
        R.L2Norm(0.8),
        R.TV1d(0.6),
    ],
    ids=lambda g: g.label,
)
def test_stated_jacobians_of_proxes(g: Any) -> None:
    """Against the derived ones, at points off their kinks."""
    step = torch.tensor([[0.5], [1.0], [2.5]], dtype=F64)
    want = torch.stack([jacrev(lambda v: g.prox(v, s))(v) for v, s in zip(V, step, strict=True)])  # noqa: B023
    assert torch.allclose(g.prox_jacobian(V, step, 1), want, atol=1e-13)


@pytest.mark.parametrize("phi", [bln.legendre.FermiDirac(), bln.legendre.Mahalanobis(torch.eye(4, dtype=F64))])
def test_a_module_that_is_not_affine_is_refused(phi: Any) -> None:
    """Splitting and the quadratic solver took its slope at 0 for K, and converged to something else."""
    module = torch.nn.Sequential(torch.nn.Linear(4, 3, dtype=F64), torch.nn.Softplus())
    z = torch.full((2, 4), 0.3, dtype=F64)
    with pytest.raises(bln.InputError, match="is not affine: halfway between two points"):
        bln.bregman_prox(phi, R.L1(0.5).precompose(module), z)
    found = bln.solve_prox(phi, R.L1(0.5).precompose(module[0]), z)  # with a constant, which stays
    assert found.converged.all()
    with pytest.raises(bln.InputError, match="cannot be evaluated at points of shape"):
        bln.bregman_prox(bln.legendre.Energy(), R.L1(0.5).precompose(module[0]), z[:, :3])


def test_maps_that_do_not_fit_are_named() -> None:
    for k in (torch.zeros(0, 4), torch.full((3, 4), torch.nan)):
        with pytest.raises(bln.InputError, match="is empty, or has NaN"):
            R.L1(0.1).precompose(k)
    four, five = (R.L1(0.1).precompose(torch.eye(n)) for n in (4, 5))
    with pytest.raises(bln.InputError, match="of width 4, l1 ∘ K of width 5: give both one"):
        bln.bregman_prox(bln.legendre.Energy(), four + five, torch.zeros(4))
    with pytest.raises(bln.InputError, match="of width 5, l1 ∘ K of width 4: give both one"):
        bln.bregman_prox(bln.legendre.Mahalanobis(torch.eye(5)), four, torch.zeros(4))
    with pytest.raises(bln.InputError, match="of width 4, group_lasso of width 6: give both one"):
        bln.bregman_prox(bln.legendre.Energy(), four + R.GroupLasso(0.1, groups=[[0, 5]]), torch.zeros(6))
    euclidean = bln.divergences.SquaredEuclidean()
    with pytest.raises(bln.InputError, match="coupling gives width 5: l1 ∘ K with energy takes vectors of width 4"):
        bln.BilevelLayer(bln.couplings.Bilinear(5, 5), euclidean, four)
    layer = bln.BilevelLayer(bln.couplings.Function(lambda z, z_prev: z.square().sum(-1)), euclidean, four)
    with pytest.raises(bln.InputError, match=r"z⁻ has shape \(2, 5\): .* takes vectors of width 4"):
        layer(torch.zeros(2, 5))
