"""The laws of a convex regularizer g."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..domains import Interval
from ..errors import InputError
from ..regularizers import Regularizer
from ..regularizers.base import as_pair
from . import declarations
from .calculus import EPS, difference, slope
from .given import expect
from .points import Draw, Event, event_of, kinks, line, members, representable
from .report import Finding, Law, NotStated, Report, run

ROUNDING = 50 * EPS
STEPS = (1.0, 0.3)


def check_regularizer(g: Regularizer, seed: int = 0, device: str = "cpu", raises: bool = True) -> Report:
    """The laws of g, tested at points drawn by ``seed``: a Report; AssertionError with its table where one fails."""
    expect(g, Regularizer, "check_regularizer")
    return run(f"g = {g}", LAWS, (g, event_of(g, device=device), Draw(seed, device)), raises)


def _convex(g: Regularizer, event: Event, draw: Draw) -> Finding:
    x = members(g, event, draw)
    n = len(x)
    x, y = x.repeat_interleave(n, 0), x.repeat(n, *(1,) * event.ndim)
    t = draw.normal(n * n, salt=1).sigmoid()
    middle = x + event.expand(t) * (y - x)
    if isinstance(g.domain, Interval) and not event.ndim:  # and each point of a dense grid below its neighbours' chord
        dense = line(g, draw)
        t = torch.cat([t, (dense[1:-1] - dense[:-2]) / (dense[2:] - dense[:-2])])
        x, middle, y = torch.cat([x, dense[:-2]]), torch.cat([middle, dense[1:-1]]), torch.cat([y, dense[2:]])
    a, b, c = g.value(x), g.value(y), g.value(middle)
    tolerance = ROUNDING * (a.abs() + b.abs() + event.norm(x) + event.norm(y))
    return Finding((c - a - t * (b - a)).clamp(min=0), tolerance, {"x": x, "y": y, "t": t})


def _derivatives(g: Regularizer, event: Event, draw: Draw) -> Finding:
    # For x < y: g'(x+) ≤ (g(y) − g(x))/(y − x) ≤ g'(y−), with y close to x and on the kinks and ends.
    if event.ndim:
        raise NotStated
    x = members(g, event, draw)
    found = []
    for reach in (1e-2, 1e-5, 1e-7):
        y = x + reach * (1 + x.abs())
        for a, b in ((x, y), (x - (y - x), x)):
            inside = g.domain.contains(a) & g.domain.contains(b)
            found.append((a[inside], b[inside]))
    a, b = (torch.cat(parts) for parts in zip(*found, strict=True))
    secant = (g.value(b) - g.value(a)) / (b - a)
    low, high = g.derivatives(a)[1], g.derivatives(b)[0]
    error = torch.maximum(low - secant, secant - high).clamp(min=0)
    noise = (g.value(a).abs() + g.value(b).abs() + secant.abs() * (a.abs() + b.abs())) / (b - a)
    # An end of the domain: −∞ on its left, ∞ on its right.
    ends = torch.stack([g.domain.contains(x - 1e-9 * (1 + x.abs())), g.domain.contains(x + 1e-9 * (1 + x.abs()))])
    left, right = g.derivatives(x)
    wrong = (~ends[0] & (left != -torch.inf)) | (~ends[1] & (right != torch.inf))
    wrong |= left - right > ROUNDING * left.abs()  # both are rounded
    closed = g.domain.contains(x)
    error = torch.cat([error, torch.where(wrong & closed, torch.inf, 0.0)])
    tolerance = torch.cat([ROUNDING * (noise + secant.abs()), torch.zeros_like(x)])
    return Finding(error, tolerance, {"x": torch.cat([a, x]), "y": torch.cat([b, x])})


def _proxes(g: Regularizer, event: Event, draw: Draw) -> list[tuple[float, Tensor, Tensor]]:
    v = _arguments(g, event, draw)
    try:
        return [(step, v, g.prox(v, step)) for step in STEPS]
    except InputError as refusal:
        raise NotStated from refusal


def _arguments(g: Regularizer, event: Event, draw: Draw) -> Tensor:
    if event.ndim:
        return event.project(torch.cat([s * draw.normal(8, *event.shape, salt=2) for s in (0.0, 1e-3, 0.5, 2.0, 30.0)]))
    # On a kink and between its edges, and far out.
    t = kinks(g, draw)
    grid = draw.tensor([s * m for m in (0.0, 1e-8, 1e-3, 0.2, 0.5, 0.77, 1.3, 2.0, 7.0, 50.0) for s in (1.0, -1.0)])
    return torch.cat([grid, t, t + 1e-3, t - 1e-3])


def _membership(g: Regularizer, event: Event, draw: Draw) -> Finding:
    found = [(v, z, g.domain.contains(z)) for _, v, z in _proxes(g, event, draw)]
    v, z, inside = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Finding((~event.all(inside, z)).double(), 0.0, {"v": v, "z": z})


def _subgradient(g: Regularizer, event: Event, draw: Draw) -> Finding:
    # p = (v − z)/step ∈ ∂g(z) says g(w) ≥ g(z) + ⟨p, w − z⟩ for every w of dom g, far from z and close to it.
    w = members(g, event, draw)
    errors, tolerances, vs, ws = [], [], [], []
    for step, v, z in _proxes(g, event, draw):
        p = (v - z) / step
        for reach in (1.0, 1e-2, 1e-5):
            target, v_, z_, p_ = (t.unsqueeze(k) for k, t in ((0, w), (1, v), (1, z), (1, p)))
            y = z_ + reach * (target - z_)
            gz, gy, gain = g.value(z_), g.value(y), event.inner(p_, y - z_)
            size = gz.abs() + gy.abs() + gain.abs() + event.norm(z_) + event.norm(p_) * event.norm(y)
            size = size + event.norm(v_) * event.norm(y - z_) / step
            errors.append((gz + gain - gy).clamp(min=0))
            tolerances.append(ROUNDING * size + torch.finfo(z.dtype).tiny)  # what underflows has no relative precision
            vs.append(v_.expand_as(y))
            ws.append(y)
    return Finding(torch.cat(errors), torch.cat(tolerances), {"v": torch.cat(vs), "w": torch.cat(ws)})


def _enclosed(g: Regularizer, event: Event, draw: Draw) -> Finding:
    # The derivative of the prox objective changes sign within 8 ulp of z: the minimiser is there, whoever found z.
    if event.ndim:
        raise NotStated
    errors, vs = [], []
    for step, v, z in _proxes(g, event, draw):
        width = 8 * EPS * (z.abs() + v.abs() / (1 + _steepness(g, z, step))) + 1e-300
        low, high = z - width, z + width
        below, above = g.derivatives(low)[0], g.derivatives(high)[1]
        below = torch.where(g.domain.contains(low), below, -torch.inf)
        above = torch.where(g.domain.contains(high), above, torch.inf)
        noise = 8 * EPS * (v.abs() / step + _sizes(g, z)) + 4 * _scatter(g, z)
        wrong = (below > (v - low) / step + noise) | (above < (v - high) / step - noise)
        errors.append(wrong.double())
        vs.append(v)
    return Finding(torch.cat(errors), 0.0, {"v": torch.cat(vs)})


def _steepness(g: Regularizer, z: Tensor, step: float) -> Tensor:
    # step · g'' at z, 0 where it cannot be told
    h = 1e-6 * (1 + z.abs())
    left, right = g.derivatives(z - h)[1], g.derivatives(z + h)[0]
    return (step * (right - left) / (2 * h)).nan_to_num(0.0, 0.0, 0.0).clamp(min=0)


def _sizes(g: Regularizer, z: Tensor) -> Tensor:
    # Of what meets in g'(z): the derivatives of the terms, at z and a step away, where they do not cancel as at z.
    h = 0.1 * (1 + z.abs())
    near = [t.derivatives(x) for t in g.terms() for x in (z - h, z, z + h)]
    return sum(d.abs().nan_to_num(0.0, 0.0, 0.0) for pair in near for d in pair) + torch.zeros_like(z)


def _scatter(g: Regularizer, z: Tensor) -> Tensor:
    # The rounding of g' itself, whose own terms may cancel (a network's do): its second differences over points too
    # close for its curvature, on the quieter side of z, as the other may hold a kink. 0 where they are not finite.
    h = 1e-8 * z.abs()
    sides = ([g.derivatives(z + sign * k * h)[side] for k in range(8)] for sign, side in ((-1, 0), (1, 1)))
    second = torch.stack([torch.stack(side).diff(n=2, dim=0).abs().amax(0) for side in sides])
    return second.nan_to_num(torch.inf, torch.inf).amin(0).nan_to_num(0.0, 0.0, 0.0)


def _distance(g: Regularizer, event: Event, draw: Draw) -> Finding:
    found = [(v, z, g.distance(z, (v - z) / step)) for step, v, z in _proxes(g, event, draw)]
    v, z, gap = (torch.cat(parts) for parts in zip(*found, strict=True))
    kept = event.all(representable(z), z)
    return Finding(gap[kept], (4 * ROUNDING * (1 + event.norm(v)))[kept], {"v": v[kept], "z": z[kept]})


def _conjugate(g: Regularizer, event: Event, draw: Draw) -> Finding:
    # Equality g(z) + g*(y) = ⟨z, y⟩ at z = prox(v), y = v − z = prox_{g*}(v). A rounded y may leave dom g* by an ulp,
    # so the better of y and y drawn in by 1e-9 counts.
    v = _arguments(g, event, draw)
    z = _stated(lambda: g.prox(v, 1.0))
    gaps = []
    for y in (v - z, (v - z) * (1 - 1e-9)):
        gaps.append((g.value(z) + _stated(partial(g.conjugate, y)) - event.inner(z, y)).abs())
    size = 1 + g.value(z).abs() + event.norm(z) * event.norm(v)
    return Finding(torch.minimum(*gaps), 4e-9 * size, {"v": v, "z": z})


def _young(g: Regularizer, event: Event, draw: Draw) -> Finding:
    w = members(g, event, draw).unsqueeze(0)
    y = torch.cat([s * _arguments(g, event, draw) for s in (0.1, 1.0)]).unsqueeze(1)
    bound = _stated(lambda: g.conjugate(y))
    inner = event.inner(w, y)
    error = (inner - g.value(w) - bound).clamp(min=0)
    size = inner.abs() + g.value(w).abs() + torch.where(bound.isfinite(), bound.abs(), 0.0)
    return Finding(
        error, ROUNDING * (size + event.norm(w) * event.norm(y)), {"z": w.expand_as(w + y), "y": (y + 0 * w)}
    )


def _firm(g: Regularizer, event: Event, draw: Draw) -> Finding:
    found = []
    for _, v, z in _proxes(g, event, draw):
        order = draw.normal(len(v), salt=3).argsort()
        found.append((v, z, v[order], z[order]))
    v, z, w, y = (torch.cat(parts) for parts in zip(*found, strict=True))
    error = event.inner(z - y, z - y) - event.inner(v - w, z - y)
    # Where z and y are equal but for their own rounding, that of z − y is one of z and y.
    size = sum(event.norm(t) for t in (v, w, z, y)) * event.norm(z - y)
    rounded = 4 * EPS * (event.norm(v) + event.norm(w)) * (event.norm(z) + event.norm(y))
    return Finding(error.clamp(min=0), ROUNDING * size + rounded, {"x": v, "y": w})


def _scaled(g: Regularizer, event: Event, draw: Draw) -> Finding:
    scaled, z, v = 2.5 * g, members(g, event, draw), _arguments(g, event, draw)
    gaps = [((scaled.value(z) - 2.5 * g.value(z)).abs() / (1 + g.value(z).abs()), z)]
    try:
        gaps.append((event.norm(scaled.prox(v, 0.4) - g.prox(v, 1.0)) / (1 + event.norm(v)), v))
    except InputError:
        gaps = gaps[:1]  # no prox: the value alone
    error, at = (torch.cat(parts) for parts in zip(*gaps, strict=True))
    return Finding(error, ROUNDING, {"at": at})


def _prox_derivative(g: Regularizer, event: Event, draw: Draw) -> Finding:
    # Along a direction d: autograd of ⟨d, prox(v)⟩ against differences, away from kinks; between 0 and 1 everywhere.
    v = _arguments(g, event, draw)
    d = event.project(draw.normal(*v.shape, salt=4)) if event.ndim else torch.ones_like(v)
    d = d / event.expand(event.norm(d))
    _stated(lambda: g.prox(v, 1.0))

    def prox(x: Tensor) -> Tensor:
        return event.inner(d, g.prox(x, 1.0))

    got = event.inner(slope(prox, v), d)
    below, above = difference(prox, v, torch.full_like(got, 1e-6), d, event)
    noise = 1e-6 + 1e-9 * event.norm(v)
    smooth = (above - below).abs() < 1e-4
    error = torch.where(smooth, (got - (above + below) / 2).abs(), 0.0)
    error = torch.maximum(error, torch.maximum(-got, got - 1)).clamp(min=0)
    return Finding(error, noise, {"v": v, "direction": d})


def _dtypes(g: Regularizer, event: Event, draw: Draw) -> Finding:
    v = torch.cat([s * _arguments(g, event, draw) for s in (1.0, 14.0, 200.0)])
    want = _stated(lambda: g.prox(v, 1.0))
    got = g.prox(v.float(), 1.0)
    if got.dtype is not torch.float32:
        raise AssertionError(f"prox turns float32 into {got.dtype}")
    single = torch.finfo(torch.float32)  # what underflows there has no relative precision
    size = event.norm(v) + event.norm(want) + (0.0 if event.ndim else _sizes(g, want))
    tolerance = 50 * single.eps * size + single.tiny
    return Finding(event.norm(got.double() - want), tolerance, {"v": v})


def _expression(g: Regularizer, event: Event, draw: Draw) -> Finding:
    try:
        import cvxpy as cp
    except ImportError as missing:
        raise NotStated from missing
    inside = members(g, event, draw)
    inside = inside if event.ndim else inside.unsqueeze(-1)
    shape = inside.shape[1:]
    variable = cp.Variable(shape, symmetric=True) if event.symmetric else cp.Variable(shape)
    try:
        expression, constraints = as_pair(g.expression(variable))
    except InputError as refusal:
        raise NotStated from refusal
    want = g.value(inside)
    want = want if event.ndim else want.sum(-1)
    errors = []
    for z, value in zip(inside, want, strict=True):
        variable.value = z.cpu().numpy()
        violation = max([float(abs(c.violation()).max()) for c in constraints], default=0.0)
        found = expression if isinstance(expression, (int, float)) else float(expression.value)
        errors.append(abs(found - float(value)) + violation)
    return Finding(draw.tensor(errors), 1e-9 * (1 + want.abs()), {"z": inside})


def _stated(f: Callable[[], Tensor]) -> Tensor:
    try:
        return f()
    except InputError as refusal:
        raise NotStated from refusal


LAWS = (
    Law("g lies below its chords", "50 eps of the terms; the inequality itself is exact", _convex),
    Law("derivatives(z) bound the secants", "50 eps of the terms over their distance", _derivatives),
    Law("prox(v) lies in dom g", "none: the set states its own slack", _membership),
    Law("(v − prox(v))/step ∈ ∂g(prox(v))", "50 eps of the terms; the inequality itself is exact", _subgradient),
    Law("the minimiser is within 8 ulp of prox(v)", "a change of sign", _enclosed),
    Law("distance is 0 at the prox", "200 eps of v", _distance),
    Law("Moreau: g(z) + g*(v − z) = ⟨z, v − z⟩", "4e-9: v − z is drawn into dom g* by 1e-9", _conjugate),
    Law("g(z) + g*(y) ≥ ⟨z, y⟩", "50 eps of the terms; the inequality itself is exact", _young),
    Law("prox is firmly nonexpansive", "50 eps of the terms; the inequality itself is exact", _firm),
    Law("c·g scales value and prox", "50 eps", _scaled),
    Law("autograd of prox is its slope", "1e-6: one-sided differences with step 1e-6", _prox_derivative),
    Law("float32 agrees with float64", "50 eps of float32 of v, z and g': prox is nonexpansive", _dtypes),
    Law("the cvxpy expression is g", "1e-9: the value in numpy; constraints hold on dom g", _expression),
    *declarations.OF_G,
)
