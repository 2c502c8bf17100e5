"""Laws at weights and points of all sizes: squares and products on the way must not leave the range of the dtype."""

from __future__ import annotations

import pytest
import torch
from catalog import PAIRS, REGULARIZERS, Spec

import bilevelnet as bln
from bilevelnet.testing.points import Draw, event_of

HOMOGENEOUS = [pytest.param(s, id=s.name) for s in REGULARIZERS if s.build().homogeneous]
SCALES = (2.0**-90, 2.0**-70, 2.0**70, 2.0**90)  # their squares are 0 and inf in float32


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("spec", HOMOGENEOUS)
def test_prox_of_a_homogeneous_function_scales(spec: Spec, scale: float, device: str) -> None:
    g = spec.build().to(device)
    event = event_of(g)
    v = event.project(Draw(device=device, dtype=torch.float32).normal(20, *event.shape))
    expected, found = g.prox(v), g.prox(v * scale, scale) / scale  # prox of c g at c v is c prox of g at v
    # nothing is rounded anew but in eigenvalues, whose search starts elsewhere: a few eps of the largest entry
    slack = 32 * torch.finfo(v.dtype).eps * event.expand(event.norm(v))
    assert bool(((found - expected).abs() <= slack).all())


@pytest.mark.parametrize("scale", [*SCALES, 1e20, 1e-25])
@pytest.mark.parametrize("b", [0.3, torch.tensor(0.3), torch.tensor([0.3])], ids=["number", "tensor", "vector"])
@pytest.mark.parametrize("kind", [tuple, torch.tensor, lambda a: torch.nn.Parameter(torch.tensor(a))])
def test_an_equation_may_be_multiplied(scale: float, b: object, kind: object, device: str) -> None:
    a, v = (1.0, -2.0, 0.5, 0.3), Draw(device=device, dtype=torch.float32).normal(20, 4)
    plain = bln.regularizers.AffineSet(a, 0.3).to(device)
    scaled = bln.regularizers.AffineSet(kind(tuple(scale * t for t in a)), b * scale).to(device)  # type: ignore[operator]
    # 1e20 and 1e-25 are rounded: eps of a and b
    slack = 4 * torch.finfo(v.dtype).eps * (1 + v.abs().amax(-1, keepdim=True))
    z = bln.bregman_prox(bln.legendre.Energy(), scaled, v)
    assert bool(((z - plain.prox(v)).abs() <= slack).all())
    assert bool(scaled.domain.contains(z).all())
    assert bool((scaled.distance(z, v - z) <= 8 * slack.squeeze(-1)).all())


def test_equations_of_different_size_are_independent() -> None:
    g = bln.regularizers.AffineSet(((1e-25, 0.0, 0.0), (0.0, 1e20, 1e20)), torch.tensor([2e-25, 1e20]))
    z = g.prox(torch.tensor([0.1, 0.2, 0.4]))
    # one rounding of each entry
    torch.testing.assert_close(z, torch.tensor([2.0, 0.4, 0.6]), rtol=1e-6, atol=0)


ABSORBED = [
    pytest.param(phi, g, id=f"{phi.name}-{g.name}")
    for phi, g in PAIRS
    if phi.first and g.first and not phi.build().event_ndim and not g.build().event_ndim
    if any(t.pieces() is None for t in g.build().terms())
]


@pytest.mark.parametrize(("phi", "g"), ABSORBED)
def test_derivatives_in_float32_where_weights_are_large_or_small(phi: Spec, g: Spec, device: str) -> None:
    points = torch.tensor([s * m for m in (0.47, 3.1, 19.3, 80.6) for s in (-1, 1)], device=device)
    for a, c in ((1e6, 1.0), (1e-6, 1.0), (1.0, 1e6), (1.0, 1e-6)):
        pair = [(a * phi.build() if a != 1 else phi.build()).to(device), (c * g.build()).to(device)]
        try:
            bln.solvers.bind(*pair, "closed_form")
        except bln.InputError:  # some rules hold for φ itself, not for its multiples
            assert a != 1
            continue
        good = bln.solve_prox(*pair, points.double(), "closed_form", on_failure="ignore").converged
        x, y = points.clone().requires_grad_(), points.double().requires_grad_()
        z, want = (bln.bregman_prox(*pair, t, "closed_form", on_failure="ignore") for t in (x, y))
        got, slope = (torch.autograd.grad(t.sum(), v)[0].double() for t, v in ((z, x), (want, y)))
        for value in (want, slope):  # what float32 can hold
            good = good & (value.abs() < 1e38) & ((value.abs() > 1e-36) | (value == 0))
        # v has a hundred roundings in z at these sizes; where z rests on an end of dom φ its slope rounds to 0
        slack = 1e-4 * slope.abs() + 1e-7 * want.abs()
        assert bool(((got - slope).abs() <= slack)[good].all()), (a, c)


@pytest.mark.parametrize("scale", [1e20, 1e-20, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("key", ["boltzmann_shannon", "fermi_dirac", "tanh"])
def test_an_equation_is_one_set_at_every_scale(key, dtype, scale):
    """⟨ca, z⟩ = cb is ⟨a, z⟩ = b, its multiplier s/c. Tolerance: 16 eps, a few roundings of sums of three."""
    v = torch.tensor([0.2, 0.3, -0.1], dtype=dtype)
    phi, eps = bln.legendre.get(key), torch.finfo(dtype).eps
    plain, scaled = (
        bln.solve_prox(phi, bln.regularizers.AffineSet([c, 2.0 * c, -0.5 * c], 0.6 * c), v, "multiplier")
        for c in (1.0, scale)
    )
    torch.testing.assert_close(scaled.z, plain.z, rtol=16 * eps, atol=16 * eps)
    (s,), (t,) = plain.multipliers.values(), scaled.multipliers.values()
    torch.testing.assert_close(t * scale, s, rtol=16 * eps, atol=0.0)
