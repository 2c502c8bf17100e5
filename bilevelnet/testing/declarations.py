"""The laws of what a piece declares beside its formulas, from which the solvers choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..closed_forms.span import BASIS
from ..errors import InputError
from ..legendre import Energy, Legendre
from ..piece import Strength
from ..regularizers import Regularizer
from .calculus import EPS, STEPS, central, difference_step, sensitivity, slope
from .points import Draw, Event, duals, interior, members
from .report import Finding, Law, NotStated
from .weights import rebuilt

ROUNDING = 50 * EPS
CLOSE, CLOSER = 2.0**-24, 2.0**-48  # off a boundary: |∇φ| grows between them, log by 2, N⁻¹ by √2, z^−0.01 by 1.18


def _span_of_phi(phi: Legendre, event: Event, draw: Draw) -> Finding:
    return _span(phi.span(), phi.grad, interior(phi, event, draw), event)


def _span_of_g(g: Regularizer, event: Event, draw: Draw) -> Finding:
    if event.ndim:
        raise NotStated
    z = members(g, event, draw)
    return _span(g.span(), getattr(g, "grad", lambda x: g.derivatives(x)[1]), z[g.domain.interior(z)], event)


def _span(coefficients: Any, derivative: Callable[[Tensor], Tensor], z: Tensor, event: Event) -> Finding:
    if coefficients is None:
        raise NotStated
    unknown = set(coefficients) - set(BASIS)
    if unknown:
        raise AssertionError(f"span() names {sorted(unknown)}; the basis is {', '.join(BASIS)}")
    terms = [c * BASIS[name](z) for name, c in coefficients.items()]
    u = derivative(z)
    size = event.norm(u) + sum(event.norm(t) for t in terms) + sensitivity(derivative, z, event)
    return Finding(event.norm(sum(terms) - u), ROUNDING * size, {"z": z, "u": u, "span": sum(terms) + 0 * z})


def _duality(phi: Legendre, event: Event, draw: Draw) -> Finding:
    # ∇φ maps dom φ into dom φ*, and ∇φ* back, as far as rounding tells.
    z, u = interior(phi, event, draw), duals(phi, event, draw)
    found = []
    for x, f, into in ((z, phi.grad, phi.dual_domain), (u, phi.grad_conjugate, phi.domain)):
        y = f(x).detach()
        off = ROUNDING * (event.norm(y) + sensitivity(f, x, event).nan_to_num(0.0, 0.0, 0.0))
        inside = event.all(into.contains(y, event.expand(off)), y)
        found.append((~inside & event.all(~y.isinf(), y), x, y))  # what overflows is told by other laws
    outside, x, y = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Finding(outside.double(), 0.0, {"at": x, "image": y})


def _steep(phi: Legendre, event: Event, draw: Draw) -> Finding:
    # Along rays from one point of dom φ through others; a domain that is a flat set has no boundary in its plane.
    z = interior(phi, event, draw)
    start = z[event.norm(z).argsort()[len(z) // 2]]
    ahead = z - start
    moving = event.norm(ahead) > 0
    ahead = ahead[moving] / event.expand(event.norm(ahead[moving]))

    def inside(t: Tensor) -> Tensor:
        x = start + event.expand(t) * ahead
        return event.all(phi.domain.interior(x), x)

    low, high = (torch.full_like(event.norm(ahead), t) for t in (0.0, 2.0**30))
    bounded = ~inside(high)
    for _ in range(80):
        middle = (low + high) / 2
        good = inside(middle)
        low, high = torch.where(good, middle, low), torch.where(good, high, middle)
    if not bounded.any():
        raise NotStated
    low, ahead = low[bounded], ahead[bounded]
    at = [start + event.expand(low * (1 - off)) * ahead for off in (CLOSE, CLOSER, 0.0)]
    sizes = [event.norm(phi.grad(x)) for x in at]
    held = event.all(phi.domain.contains(at[2]), at[2]) if not phi.steep else torch.zeros_like(low, dtype=torch.bool)
    flat = (1.01 - sizes[1] / sizes[0]).clamp(min=0)
    return Finding(torch.where(held, (~sizes[1].isfinite()).double(), flat), 0.0, {"near": at[1]})


def _radial(phi: Legendre, event: Event, draw: Draw) -> Finding:
    # At z and at its mirror image Hz, H = I − 2 w wᵀ, of the same norm.
    if not phi.radial:
        raise NotStated
    z = interior(phi, event, draw)
    if not event.ndim:
        z = z[draw.normal(24, 4, salt=50).abs().mul(1e4).long() % len(z)]
    z = z[torch.linalg.vector_norm(z, dim=-1) > 0]
    w = torch.nn.functional.normalize(draw.normal(z.shape[-1], salt=51), dim=-1)
    mirrored = z - 2 * (z @ w).unsqueeze(-1) * w
    mirrored = torch.where(phi.domain.interior(mirrored).reshape(len(z), -1).all(-1, keepdim=True), mirrored, z)
    u, size = phi.grad(z), torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    c = (u * z).sum(-1, keepdim=True) / size**2
    error = torch.stack([u - c * z, phi.grad(mirrored) - c * mirrored]).norm(dim=-1).amax(0)
    tolerance = 20 * ROUNDING * (u.norm(dim=-1) + (slope(phi.grad, z).norm(dim=-1) * size.squeeze(-1)))
    return Finding(torch.where(c.squeeze(-1) > 0, error, torch.inf), tolerance, {"z": z, "u": u})


def _hessian_product(phi: Legendre, event: Event, draw: Draw) -> Finding:
    z = interior(phi, event, draw)
    x = event.project(draw.normal(*z.shape, salt=52))
    want = event.project(slope(lambda t: event.inner(phi.grad(t), x), z))  # ∇² is symmetric
    got, moved = phi.hessian_product(z, x), sensitivity(phi.grad, z, event)
    kept = event.all(want.isfinite(), want)
    tolerance = 1e4 * EPS * (event.norm(want) + event.norm(got) + moved)
    return Finding(event.norm(got - want)[kept], tolerance[kept], {"z": z[kept], "x": x[kept]})


def _divergence(phi: Legendre, event: Event, draw: Draw) -> Finding:
    z = interior(phi, event, draw)
    p = z[draw.normal(len(z), salt=53).argsort()]
    terms = phi.value(z), phi.value(p), event.inner(phi.grad(p), z - p)
    error = (phi.divergence(z, p) - (terms[0] - terms[1] - terms[2])).abs()
    kept = sum(terms).isfinite()  # type: ignore[union-attr]
    size = sum(t.abs() for t in terms) + event.norm(z) * event.norm(phi.grad(p))
    return Finding(error[kept], (ROUNDING * (1 + size))[kept], {"z": z[kept], "z⁻": p[kept]})


def _sum_of_phi(phi: Legendre, event: Event, draw: Draw) -> Finding:
    z = interior(phi, event, draw)
    found = []
    for other in (phi, Energy(0.7)):
        try:
            total = phi + other
        except InputError:
            continue
        added = other.value(z) if other.event_ndim == phi.event_ndim else other.value(z).sum(event.dims)
        want, u = phi.value(z) + added, phi.grad(z) + other.grad(z)
        gap = (total.value(z) - want).abs() / (1 + want.abs() + phi.value(z).abs()) + event.norm(total.grad(z) - u) / (
            1 + event.norm(u) + sensitivity(total.grad, z, event)
        )
        found.append((gap, z))
    error, z = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Finding(error[~error.isnan()], 2 * ROUNDING, {"z": z[~error.isnan()]})


def _homogeneous(g: Regularizer, event: Event, draw: Draw) -> Finding:
    if not g.homogeneous:
        raise NotStated
    z = members(g, event, draw)
    errors, tolerances = [], []
    for c in (1e-3, 0.5, 3.0, 1e3):
        inside = event.all(g.domain.contains(c * z, event.expand(ROUNDING * c * event.norm(z))), z)
        value = g.value(c * z)
        errors.append(torch.where(inside, (value - c * g.value(z)).abs(), torch.inf))
        tolerances.append(ROUNDING * (value.abs() + c * event.norm(z)))
    return Finding(torch.stack(errors, 1), torch.stack(tolerances, 1), {"z": z})


def _zero(g: Regularizer, event: Event, draw: Draw) -> Finding:
    # An indicator is 0 on its domain; so is g where each strength λ that its class has is 0.
    z, found = members(g, event, draw), []
    still = rebuilt(g, lambda name, x: 0.0 if isinstance(getattr(type(g), name, None), Strength) else x)
    if g.indicator or g.vanishes:
        found.append(g.value(z).abs())
    if still.vanishes:
        found.append(still.value(z).abs())
    if not found:
        raise NotStated
    return Finding(torch.stack(found, 1), 0.0, {"z": z})


def _pieces(g: Regularizer, event: Event, draw: Draw) -> Finding:
    # g(y) − g(x) is the integral of the slopes, from each point of a grid to the next.
    pieces = g.pieces()
    if pieces is None:
        raise NotStated
    knots, slopes = ([float(t) for t in part] for part in pieces)
    if len(slopes) != len(knots) + 1 or knots != sorted(knots) or slopes != sorted(slopes):
        raise AssertionError(
            f"pieces() gives knots {knots} and slopes {slopes}: K increasing knots ask for K + 1 slopes"
        )
    z = members(g, event, draw).unique()
    _spread(g)
    x, y = z[:-1], z[1:]
    rise = torch.zeros_like(x)
    for s, lo, hi in zip(slopes, [-torch.inf, *knots], [*knots, torch.inf], strict=True):
        length = (y.clamp(max=hi) - x.clamp(min=lo)).clamp(min=0)
        rise = rise + torch.where(length > 0, s * length, 0.0)
    error = (g.value(y) - g.value(x) - rise).abs()
    size = g.value(y).abs() + g.value(x).abs() + rise.abs() + x.abs() + y.abs()
    return Finding(error, ROUNDING * size, {"x": x, "y": y})


def _spread(g: Regularizer) -> None:
    # A domain that is one point has no slopes to compare.
    if float(g.domain.lo) == float(g.domain.hi):
        raise NotStated


def _terms(g: Regularizer, event: Event, draw: Draw) -> Finding:
    z = members(g, event, draw)
    values = [t.value(z) if t.event_ndim == g.event_ndim else t.value(z).sum(event.dims) for t in g.terms()]
    want, size = g.value(z), sum((v.abs() for v in values), torch.zeros_like(g.value(z)))
    error = (sum(values, torch.zeros_like(want)) - want).abs()
    return Finding(error, ROUNDING * (want.abs() + size), {"z": z})


def _distance(g: Regularizer, event: Event, draw: Draw) -> Finding:
    # For s ∈ ∂g(z): z = prox(z + s), so ‖z − prox(z + y)‖ ≤ ‖s − y‖. Entry by entry the derivatives tell it exactly.
    z = members(g, event, draw)
    y = draw.normal(*z.shape, salt=54)
    y = event.project(y) if event.ndim else y
    try:
        got = g.distance(z, y)
        least = event.norm(z - g.prox(z + y, 1.0))
    except InputError as refusal:
        raise NotStated from refusal
    error, size = (least - got).clamp(min=0), event.norm(z) + event.norm(y)
    if not event.ndim:
        want = Regularizer.distance(g, z, y)
        error = torch.maximum(error, torch.where(want.isfinite() | got.isfinite(), (got - want).abs(), 0.0))
        size = size + torch.where(want.isfinite(), want, 0.0) + z.abs() * _bend(g, z)
    return Finding(error, ROUNDING * (1 + size), {"z": z, "y": y})


def _bend(g: Regularizer, z: Tensor) -> Tensor:
    # g'' on the side of z where it is less: a distance may let y lie between the slopes at the floats next to z.
    h = 1e-6 * (1 + z.abs())
    left, right = g.derivatives(z)
    sides = torch.stack([left - g.derivatives(z - h)[1], g.derivatives(z + h)[0] - right]) / h
    return sides.nan_to_num(torch.inf, torch.inf).amin(0).clamp(min=0).nan_to_num(0.0, 0.0, 0.0)


def _derivative_between(g: Regularizer, event: Event, draw: Draw) -> Finding:
    # g' lies between the one-sided derivatives, and g'' is the derivative of g' off the kinks.
    if event.ndim or not hasattr(g, "grad"):
        raise NotStated
    _spread(g)
    z = members(g, event, draw)
    z = z[g.domain.interior(z)]
    h = 1e-6 * (1 + z.abs())
    z, h = (t[g.domain.interior(z - h) & g.domain.interior(z + h)] for t in (z, h))
    (left, right), d, bent = g.derivatives(z), g.grad(z), g.hessian(z)  # type: ignore[attr-defined]
    between = torch.maximum(left - d, d - right).clamp(min=0)
    steps = torch.stack([g.grad(z + k * h) for k in STEPS])  # type: ignore[attr-defined]
    want, smooth, change = central(steps, h, torch.abs)
    size = d.abs() + bent.abs() * z.abs()
    error = torch.stack([between, torch.where(smooth, (want - bent).abs(), 0.0)], 1)
    tolerance = torch.stack([ROUNDING * (1 + size), 1e-4 * bent.abs() + change + ROUNDING * (1 + size) / h], 1)
    return Finding(error, tolerance, {"z": z, "g'": d, "g''": bent})


def _prox_jacobian(g: Regularizer, event: Event, draw: Draw) -> Finding:
    v = draw.normal(16, *event.shape, salt=55) * 2
    d = draw.normal(16, *event.shape, salt=56)
    v, d = (event.project(t) for t in (v, d)) if event.ndim else (v, d)
    try:
        h = difference_step(event.norm(v))
        steps = torch.stack([g.prox(v + event.expand(k * h) * d, 1.0) for k in STEPS])
    except InputError as refusal:
        raise NotStated from refusal
    want, smooth, change = central(steps, event.expand(h), event.norm)
    j = g.prox_jacobian(v, 1.0, batch_ndim=1)
    got = (j @ d.flatten(1).unsqueeze(-1)).reshape(d.shape) if event.ndim else j.squeeze(-1) * d
    times = g.prox_product(v, 1.0, batch_ndim=1)
    again = got if times is None else times(d.reshape(len(d), -1)).reshape(d.shape)
    noise = 1e-6 * event.norm(d) + change + ROUNDING * (event.norm(v) + event.norm(d)) / h
    error = torch.maximum(event.norm(got - want), event.norm(again - want))
    return Finding(error[smooth], noise[smooth], {"v": v[smooth], "d": d[smooth]})


OF_PHI: Sequence[Law] = (
    Law("span() is ∇φ", "50 eps of the terms, and of z through du/dz", _span_of_phi),
    Law("∇φ maps domain into dual_domain, ∇φ* back", "50 eps of the image, and of the point through it", _duality),
    Law(
        "|∇φ| → ∞ at the ends of dom φ",
        "growth by a hundredth is asked for, exactly; steep = False where the domain holds its ends and ∇φ is finite",
        _steep,
    ),
    Law("radial: ∇φ(z) = c(‖z‖) z, c > 0", "1000 eps of u, and of z through du/dz", _radial),
    Law("hessian_product(z, x) = ∇²φ(z) x", "1e4 eps of the product, and of z through du/dz", _hessian_product),
    Law("divergence is φ(z) − φ(z⁻) − ⟨∇φ(z⁻), z − z⁻⟩", "50 eps of the terms", _divergence),
    Law("φ + φ and φ + ½‖·‖² add values and gradients", "100 eps of the terms", _sum_of_phi),
)
OF_G: Sequence[Law] = (
    Law("span() is g'", "50 eps of the terms, and of z through g''", _span_of_g),
    Law("homogeneous: g(cz) = c g(z), cz ∈ dom g", "50 eps of cz and g(cz)", _homogeneous),
    Law("an indicator and a g of strength 0 are 0", "exact", _zero),
    Law("pieces() are the slopes of g", "50 eps of the terms", _pieces),
    Law("terms() sum to g", "50 eps of the terms", _terms),
    Law(
        "distance(z, y) is dist(y, ∂g(z))",
        "50 eps of y, z, g'' z; at least ‖z − prox(z + y)‖ for a vector",
        _distance,
    ),
    Law("prox_jacobian, prox_product: derivatives of prox", "1e-6: by differences, off the kinks", _prox_jacobian),
    Law("grad and hessian are g' and g''", "50 eps of g'; 1e-4 of g'', by differences", _derivative_between),
)
