"""Weights of g under the scalar solver: each one gets its derivative, in every pair that it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from catalog import REGULARIZERS, SEPARABLE, Spec, separable

import bilevelnet as bln
from bilevelnet.testing.weights import rebuilt, weights

F64 = torch.float64
V = torch.tensor([-0.71, -0.23, 0.63, 1.37], dtype=F64)
STEP = 1e-5


def cases() -> list[Any]:
    found = [p for p in SEPARABLE if p.cls.key != "tanh_mixture"]
    return [pytest.param(p, id=p.name, marks=[pytest.mark.heavy][: k % 4]) for k, p in enumerate(found)]


def solved(phi: Spec, g: Spec, name: str, value: Any) -> bln.Solution:
    piece = rebuilt(g.build(), lambda n, old: value if n == name else old)
    return bln.solve_prox(phi.build(), piece, V, solver="scalar", on_failure="nan")


@pytest.mark.parametrize("phi", cases())
def test_every_weight_of_g_has_its_derivative(phi: Spec) -> None:
    """dz/dθ beside central differences: 1e-5 of it and 1e-6 for h² z''', and nothing is said where z has a kink."""
    for g in (r for r in REGULARIZERS if r.first and separable(r)):
        for name, value in weights(g.build()).items():
            theta = torch.tensor(value, dtype=F64, requires_grad=True)
            try:
                live = solved(phi, g, name, theta)
                low, high = (solved(phi, g, name, value + s).z.detach() for s in (-STEP, STEP))
            except bln.InputError:  # a domain that misses that of φ
                continue
            found = torch.where(live.converged, live.z, 0.0)
            got = torch.stack([torch.autograd.grad(z, theta, retain_graph=True)[0] for z in found])
            want = (high - low) / (2 * STEP)
            smooth = ((high - 2 * live.z.detach() + low) / STEP).abs() < 1e-2 * (1 + want.abs())
            wrong = ~((got - want).abs() <= 1e-6 + 1e-5 * want.abs()) & live.converged & smooth & want.isfinite()
            assert not wrong.any(), (g.name, name, got, want)
