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
