"""Translations, multiples and sums of every registered regularizer: value, prox and conjugate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from catalog import LEGENDRE, REGULARIZERS, Spec

import bilevelnet as bln
from bilevelnet.regularizers import Regularizer, SquaredL2
from bilevelnet.testing.points import Draw, event_of, members

CHANGES: dict[str, Callable[[Regularizer], Regularizer]] = {
    "moved twice": lambda g: g.translate(0.3).translate(0.2),
    "moved, twice": lambda g: 2.0 * g.translate(0.3),
    "twice, moved": lambda g: (2.0 * g).translate(0.3),
    "with a square": lambda g: g + SquaredL2(0.5),
    "with a moved square, twice": lambda g: 2.0 * (g + SquaredL2(0.5).translate(-0.1)),
}
FIRST = [pytest.param(s, id=s.name) for s in REGULARIZERS if s.first]


def _value(name: str, g: Regularizer, z: torch.Tensor) -> torch.Tensor:
    """What the change means, by its definition."""

    def square(shift: float) -> torch.Tensor:
        return 0.25 * ((z - shift) ** 2).sum(g.dims) if g.event_ndim else 0.25 * (z - shift) ** 2

    return {
        "moved twice": lambda: g.value(z - 0.5),
        "moved, twice": lambda: 2 * g.value(z - 0.3),
        "twice, moved": lambda: 2 * g.value(z - 0.3),
        "with a square": lambda: g.value(z) + square(0.0),
        "with a moved square, twice": lambda: 2 * (g.value(z) + square(-0.1)),
    }[name]()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("spec", FIRST)
def test_value_prox_and_conjugate(spec: Spec, change: str, device: str) -> None:
    plain = spec.build().to(device)
    g = CHANGES[change](plain).to(device)
    event = event_of(g)
    z = members(g, event, Draw(device=device))
    # a rounded z − s, and terms of one sign that are added in another order
    torch.testing.assert_close(g.value(z), _value(change, plain, z), rtol=1e-12, atol=1e-12)
    if not g.proximable and g.event_ndim:
        return
    v = event.project(Draw(device=device).normal(6, *event.shape, salt=3))
    z = g.prox(v)
    # v − z ∈ ∂g(z): g(w) ≥ g(z) + ⟨v − z, w − z⟩ for the members w; the prox of a sum may be a search, right to 1e-9
    w = members(g, event, Draw(device=device)).unsqueeze(1)
    bound = g.value(z) + event.inner(v - z, w - z)
    assert bool((g.value(w) - bound >= -1e-9 * (1 + bound.abs())).all())
    try:
        plain.conjugate(v)
    except bln.InputError:
        return
    # g(z) + g*(y) = ⟨z, y⟩ at y = v − z, drawn into dom g* by 1e-9 where it is not the whole space
    gaps = [(g.value(z) + g.conjugate(y) - event.inner(z, y)).abs() for y in (v - z, (v - z) * (1 - 1e-9))]
    assert bool((torch.minimum(*gaps) <= 1e-8 * (1 + event.norm(v) * event.norm(z))).all())


def test_a_multiple_of_a_multiple_is_one_multiple() -> None:
    a, b = (torch.nn.Parameter(torch.tensor(t, dtype=torch.float64)) for t in (0.5, 3.0))
    g = b * (a * bln.regularizers.L2Norm(2.0))
    assert isinstance(g, bln.regularizers.Scaled)
    assert isinstance(g.inner, bln.regularizers.L2Norm)
    v = torch.tensor([3.0, 4.0], dtype=torch.float64)
    z = g.prox(v)
    torch.testing.assert_close(z, v * (1 - 3.0 / 5), rtol=1e-14, atol=0)  # a few roundings
    assert all(float(t.abs()) > 0 for t in torch.autograd.grad(z.sum(), list(g.parameters())))
    simplex = bln.regularizers.Simplex()
    assert 3.0 * simplex is simplex


@pytest.mark.parametrize(
    ("g", "h"),
    [
        (2.0 * bln.regularizers.ElasticNet(0.4, 0.3), bln.regularizers.ElasticNet(0.8, 0.6)),
        (SquaredL2(0.2) + SquaredL2(0.3), SquaredL2(0.5)),
        (bln.regularizers.L1(0.4) + SquaredL2(0.3), bln.regularizers.ElasticNet(0.4, 0.3)),
        (2.0 * SquaredL2(0.5).translate(0.3), SquaredL2(1.0).translate(0.3)),
    ],
    ids=["twice elastic net", "two squares", "l1 and a square", "moved square, twice"],
)
def test_conjugates_of_sums(g: Regularizer, h: Regularizer) -> None:
    y = torch.linspace(-2, 2, 9, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(g.conjugate(y), h.conjugate(y), rtol=1e-14, atol=1e-15)  # a few roundings
    slopes = [torch.autograd.grad(f.conjugate(y).sum(), y)[0] for f in (g, h)]
    torch.testing.assert_close(*slopes, rtol=1e-14, atol=1e-15)


WEIGHTED = [pytest.param(s, id=s.name) for s in REGULARIZERS if s.first and "lam" in s.params]


@pytest.mark.parametrize("form", ["λ = 0", "0 g", "0 g, moved"])
@pytest.mark.parametrize("spec", WEIGHTED)
def test_weight_zero_is_the_plain_mirror_map(spec: Spec, form: str) -> None:
    none = {name: 0.0 for name in spec.params if name.startswith("lam")}
    g = spec.cls(**{**spec.params, **none}) if form == "λ = 0" else 0.0 * spec.build()
    g = g.translate(0.3) if "moved" in form else g
    if g.domain != bln.domains.Reals():  # what remains is a constraint
        return
    for phi in (s.build() for s in LEGENDRE if s.cls.key in ("fermi_dirac", "cosh", "ball_hellinger", "von_neumann")):
        if phi.event_ndim and g.event_ndim and phi.event_ndim != g.event_ndim:
            continue
        event = event_of(phi, g)
        v = event.project(Draw().normal(4, *event.shape))
        solution = bln.solve_prox(phi, g, v)
        assert solution.solver == "closed_form"
        assert bool(torch.equal(solution.z, phi.grad_conjugate(v)))
