"""The dtype of a result is that of the argument, whatever torch's default dtype is."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from catalog import LEGENDRE, REGULARIZERS, Spec, cases

import bilevelnet as bln
from bilevelnet.regularizers import Regularizer

DTYPES = (torch.float32, torch.float64)


@pytest.fixture(params=DTYPES, ids=str)
def default(request):
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


def event(piece, dtype):
    """One event inside most domains: a diagonal matrix, or entries in (0, 1)."""
    if piece.event_ndim == 2:
        return torch.eye(2, dtype=dtype) / 2
    width = piece.width or 3
    return torch.linspace(0.1, 0.4, width, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spec", cases(REGULARIZERS))
def test_regularizers_keep_the_dtype(spec: Spec, dtype, default):
    g = spec.build().to(dtype)
    x = event(g, dtype)
    assert g.value(x).dtype is dtype
    assert g.prox(x).dtype is dtype
    if type(g).conjugate is not Regularizer.conjugate:
        assert g.conjugate(x).dtype is dtype


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spec", cases(LEGENDRE))
def test_legendre_functions_keep_the_dtype(spec: Spec, dtype, default):
    phi = spec.build().to(dtype)
    z = event(phi, dtype)
    u = phi.grad(z)
    for call, x in ((phi.value, z), (phi.grad, z), (phi.grad_conjugate, u), (phi.conjugate, u)):
        assert call(x).dtype is dtype, call.__name__


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_solver_keeps_the_dtype(dtype, default):
    phis = (bln.legendre.FermiDirac(), bln.legendre.Tsallis(alpha=3.0), bln.legendre.Power(p=4.0))
    gs = (
        bln.regularizers.Huber(0.3) + bln.regularizers.L1(0.1),
        bln.regularizers.Simplex(1.0),
        bln.regularizers.L2Norm(0.1) + bln.regularizers.L1(0.1),
        bln.regularizers.LinfNorm(0.1),
        bln.regularizers.L2Ball(0.5),
    )
    for phi, g in product(phis, gs):
        sol = bln.solve_prox(phi, g, torch.tensor([0.5, 0.7, 0.2], dtype=dtype))
        for x in (sol.z, sol.dual, sol.residual, *sol.multipliers.values()):
            assert x.dtype is dtype, f"{phi} with {g} by {sol.solver}"
