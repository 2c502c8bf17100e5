"""Sums of two registered Legendre functions, each pair of them: the range of ∇φ, and its inverse."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from catalog import LEGENDRE, Spec

import bilevelnet as bln
from bilevelnet.errors import InputError
from bilevelnet.testing.points import Draw, in_interval


def _pairs() -> list[tuple[Spec, Spec]]:
    separable = [s for s in LEGENDRE if s.first and not s.build().event_ndim]
    found = []
    for a, b in itertools.combinations_with_replacement(separable, 2):
        try:
            a.build() + b.build()
        except InputError:  # their domains do not meet
            continue
        found.append((a, b))
    return found


PAIRS = [pytest.param(a, b, id=f"{a.name}+{b.name}") for a, b in _pairs()]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_dual_domain_is_the_range_of_the_gradient(first: Spec, second: Spec, device: str) -> None:
    phi = (first.build() + second.build()).to(device)
    z = in_interval(phi.domain, Draw(device=device), near=False)
    z = z[z.abs() <= 8]  # beyond, a gradient that saturates rounds to the end of its range
    z = z[(phi.hessian(z) > 0) & (phi.grad(z).abs() <= 30)]  # where z follows u, and the size of u in the other laws
    u = phi.grad(z)
    assert bool(phi.dual_domain.interior(u).all())
    solution = bln.solve_prox(phi, bln.regularizers.Zero(), u)
    # the rounding of u moves z by eps |u|/φ''; 64 of them for the search, which stops at a few ulp
    slack = 64 * torch.finfo(z.dtype).eps * (z.abs() + u.abs() / phi.hessian(z))
    assert bool(((solution.z - z).abs() <= slack).all())


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_gradient_reaches_the_ends_of_the_dual_domain(first: Spec, second: Spec) -> None:
    phi = first.build() + second.build()
    for end, reached in ((phi.domain.lo, phi.dual_domain.lo), (phi.domain.hi, phi.dual_domain.hi)):
        if math.isfinite(end):  # φ is steep there, or the end is a constraint
            assert math.isinf(reached)
            continue
        limit = float(phi.grad(torch.tensor(math.copysign(1e13, end), dtype=torch.float64)))
        # powers below 1 and reciprocals have vanished at 1e13 up to their root, the slowest growing is log z = 29.9
        assert limit == pytest.approx(reached, abs=1e-5) if math.isfinite(reached) else abs(limit) > 29
