"""The laws of a Legendre function φ."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ..domains import Interval
from ..errors import InputError
from ..legendre import Legendre
from . import declarations
from .calculus import EPS, difference, jacobian, sensitivity, slope
from .given import expect
from .points import Draw, Event, duals, event_of, in_interval, interior, line, representable
from .report import Finding, Law, NotStated, Report, run

ROUNDING = 50 * EPS
HALVES = (torch.float32, torch.bfloat16, torch.float16)


def check_legendre(phi: Legendre, seed: int = 0, device: str = "cpu", raises: bool = True) -> Report:
    """The laws of φ, tested at points drawn by ``seed``: a Report; AssertionError with its table where one fails."""
    expect(phi, Legendre, "check_legendre")
    return run(f"φ = {phi}", LAWS, (phi, event_of(phi, device=device), Draw(seed, device)), raises)


def _inverse_of_grad(phi: Legendre, event: Event, draw: Draw) -> Finding:
    z = interior(phi, event, draw)
    u = phi.grad(z).detach()
    tolerance = ROUNDING * (event.norm(z) + sensitivity(phi.grad_conjugate, u, event))
    return Finding(event.norm(phi.grad_conjugate(u) - z), tolerance, {"z": z})


def _grad_of_inverse(phi: Legendre, event: Event, draw: Draw) -> Finding:
    u = duals(phi, event, draw)
    z = phi.grad_conjugate(u).detach()
    # Where z is rounded to the boundary, or u moves by more than a tenth when z is rounded, u is not representable.
    inside = event.all(phi.domain.interior(z), z) & event.all(representable(z), z)
    u, z = u[inside], z[inside]
    tolerance = ROUNDING * (event.norm(u) + sensitivity(phi.grad, z, event))
    kept = tolerance < 0.1 * (1 + event.norm(u))
    return Finding(event.norm(phi.grad(z) - u)[kept], tolerance[kept], {"u": u[kept]})


def _fenchel(phi: Legendre, event: Event, draw: Draw) -> Finding:
    z = interior(phi, event, draw)
    u, far = phi.grad(z), duals(phi, event, draw)
    z, u = torch.cat([z, phi.grad_conjugate(far)]), torch.cat([u, far])
    finite = event.all(z.isfinite(), z)
    z, u = z[finite], u[finite]
    terms = [phi.value(z), phi.conjugate(u), event.inner(z, u)]
    error = (terms[0] + terms[1] - terms[2]).abs()
    return Finding(error, ROUNDING * (1 + sum(t.abs() for t in terms)), {"z": z, "u": u})


def _value_derivative(phi: Legendre, event: Event, draw: Draw) -> Finding:
    z = interior(phi, event, draw)
    if isinstance(phi.domain, Interval) and not event.ndim:
        z = torch.cat([z, line(phi, draw)])
    u = phi.grad(z)
    d = event.project(slope(phi.value, z))
    return Finding(event.norm(d - u), _tolerance_of_slope(phi, z, u, event), {"z": z})


def _tolerance_of_slope(phi: Legendre, z: Tensor, u: Tensor, event: Event) -> Tensor:
    return 20 * ROUNDING * (1 + event.norm(u) + sensitivity(phi.grad, z, event))


def _secants(phi: Legendre, event: Event, draw: Draw) -> Finding:
    # ⟨∇φ(x), y − x⟩ ≤ φ(y) − φ(x) ≤ ⟨∇φ(y), y − x⟩: convexity and the gradient at once, at joins too.
    z = interior(phi, event, draw)
    pairs = []
    for k, reach in enumerate((0.5, 1e-2, 1e-4, 1e-6)):
        target = z[draw.normal(len(z), salt=10 + k).argsort()]
        if reach < 0.5 and not event.ndim:
            target = torch.where(draw.normal(len(z), salt=20 + k) > 0, target, 2 * z - target)
        y = z + reach * (target - z)
        if not event.ndim:
            y = torch.where(phi.domain.interior(y), y, z + reach * (target.roll(1) - z))
        inside = event.all(phi.domain.interior(y), y) & (event.norm(y - z) > 0) & ~phi.value(y).isinf()
        pairs.append((z[inside], y[inside]))
    if isinstance(phi.domain, Interval) and not event.ndim:
        dense = line(phi, draw)
        pairs.append((dense[:-1], dense[1:]))
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    rise = phi.value(y) - phi.value(x)
    low, high = event.inner(phi.grad(x), y - x), event.inner(phi.grad(y), y - x)
    size = phi.value(x).abs() + phi.value(y).abs() + low.abs() + high.abs() + event.norm(x) + event.norm(y)
    return Finding(torch.maximum(low - rise, rise - high).clamp(min=0), ROUNDING * size, {"x": x, "y": y})


def _hessian(phi: Legendre, event: Event, draw: Draw) -> Finding:
    hessian = _stated_hessian(phi)
    z = interior(phi, event, draw)
    inner, outer = hessian(z), slope(phi.grad, z)
    # Autograd may give the other one-sided value at a join; differences below decide there.
    scale = 1e-6 * (1 + z.abs())
    room = torch.minimum(_room(phi.domain, z) / 100, scale)
    below, above = difference(phi.grad, z, room, torch.ones_like(z), event)
    infinite = inner == torch.inf
    finite = torch.where(infinite, 0.0, inner)
    # Where φ'' changes within the step, as that of |z|^1.5 next to 0, differences say as much less.
    change = torch.where(infinite, 0.0, sum((hessian(z + s) - finite).abs() for s in (-room, room)))
    rounded = EPS * z.abs() / room  # of the step itself
    noise = ROUNDING * phi.grad(z).abs() / room + (1e-4 + rounded) * finite.abs() + 10 * room + change
    low, high = torch.minimum(below, above) - noise, torch.maximum(below, above) + noise
    gap = torch.maximum(low - inner, inner - high).clamp(min=0)
    closer = torch.minimum(*difference(phi.grad, z, room * 1e-6, torch.ones_like(z), event))
    gap = torch.where(infinite, torch.where(closer > 1.05 * low, 0.0, torch.inf), gap)  # it grows as z is approached
    smooth = ((above - below).abs() <= 1e-3 * (above.abs() + below.abs())) & ~infinite
    gap = gap + torch.where(smooth, (outer - inner).abs() - 1e-9 * inner.abs(), 0.0).clamp(min=0)
    return Finding(gap, ROUNDING * inner.abs().clamp(max=1e300), {"z": z, "hessian": inner})


def _stated_hessian(phi: Legendre) -> Callable[[Tensor], Tensor]:
    if phi.event_ndim or not hasattr(phi, "hessian"):
        raise NotStated
    return phi.hessian


def _compliance(phi: Legendre, event: Event, draw: Draw) -> Finding:
    # ∇²φ*(u) ∇²φ(z) = I, by autograd through both mirror maps; entry by entry 1/φ'' is compared, 0 where it is ∞.
    u = duals(phi, event, draw, largest=8.0)
    z = phi.grad_conjugate(u).detach()
    inside = event.all(phi.domain.interior(z), z)
    u, z = u[inside], z[inside]
    forward = jacobian(phi.grad_conjugate, u, event)
    if event.ndim:
        backward = jacobian(phi.grad, z, event)
        unit = torch.eye(forward.shape[-1], dtype=u.dtype, device=u.device)
        size = torch.linalg.matrix_norm(forward) * torch.linalg.matrix_norm(backward)
        flat = ~size.isfinite() | (size > 1e8)  # a singular end, as norm_power at 0
        error = torch.linalg.matrix_norm(forward @ backward - unit)
        return Finding(error[~flat], (1e4 * EPS * size)[~flat], {"u": u[~flat]})
    if not hasattr(phi, "hessian"):
        raise NotStated
    want = 1 / phi.hessian(z)
    curvature = sensitivity(lambda t: 1 / phi.hessian(t), z, event).nan_to_num(0.0, 0.0, 0.0)
    return Finding((forward - want).abs(), 1e-9 * want.abs() + 1e3 * EPS * (1 + curvature), {"u": u})


def _conjugate_derivative(phi: Legendre, event: Event, draw: Draw) -> Finding:
    u = duals(phi, event, draw)
    u = u[event.all(phi.grad_conjugate(u).isfinite(), u)]
    z = phi.grad_conjugate(u)
    d = event.project(slope(phi.conjugate, u))
    return Finding(event.norm(d - z), 20 * ROUNDING * (1 + event.norm(z)), {"u": u})


def _strong_convexity(phi: Legendre, event: Event, draw: Draw) -> Finding:
    sigma = torch.as_tensor(phi.strong_convexity, dtype=draw.dtype, device=draw.device)
    x = interior(phi, event, draw)
    y = x[draw.normal(len(x), salt=30).argsort()]
    kept = (event.norm(x - y) > 0) & (event.norm(x - y) ** 2).isfinite()
    x, y = x[kept], y[kept]
    u, w = phi.grad(x), phi.grad(y)
    gain, least = event.inner(u - w, x - y), sigma * event.norm(x - y) ** 2
    noise = event.norm(u) + event.norm(w) + sensitivity(phi.grad, x, event) + sensitivity(phi.grad, y, event)
    tolerance = ROUNDING * (noise * event.norm(x - y) + least)
    return Finding((least - gain).clamp(min=0), tolerance, {"x": x, "y": y})


def _tails(phi: Legendre, event: Event, draw: Draw) -> Finding:
    # Overflow may give ∞ and underflow 0 or an end of the domain, NaN is never right; neither value nor derivative.
    bad, points = [], []
    for dtype in (torch.float64, torch.float32):
        u = _extreme(phi, event, draw, dtype)
        z = phi.grad_conjugate(u)
        if z.dtype is not dtype:
            raise AssertionError(f"grad_conjugate turns {dtype} into {z.dtype}")
        d = slope(phi.grad_conjugate, u)
        bad.append((z.isnan() | d.isnan()).double())
        points.append(u.double())
    return Finding(torch.cat(bad), 0.0, {"u": torch.cat(points)})


def _extreme(phi: Legendre, event: Event, draw: Draw, dtype: torch.dtype) -> Tensor:
    sizes = (0.0, 1e-30, 1e-3, 5.0, 20.0, 80.0, 100.0, 700.0, 1e4)
    if event.ndim == 0:
        u = draw.tensor([s * m for m in sizes for s in (-1.0, 1.0)]).to(dtype)
    else:
        x = event.project(draw.normal(3, *event.shape, salt=40))
        if event.symmetric:  # definite ones too, where the dual domain asks for a sign
            square = x @ x.mT
            x = torch.cat([x, square, -square])
        x = x / event.expand(event.norm(x))
        u = torch.cat([s * m * x for m in sizes for s in (-1.0, 1.0)]).to(dtype)
    return u[event.all(phi.dual_domain.interior(u), u)]


def _single(phi: Legendre, event: Event, draw: Draw) -> Finding:
    # float32 agrees with float64 at the same point.
    u = duals(phi, event, draw, largest=80.0).float()
    u = u[event.all(phi.dual_domain.interior(u), u)]
    want = phi.grad_conjugate(u.double())
    kept = event.norm(want) < 1e30
    if not kept.any():
        raise NotStated
    u, want = u[kept], want[kept]
    eps = torch.finfo(torch.float32).eps
    tiny = torch.finfo(torch.float32).tiny
    moved = sensitivity(phi.grad_conjugate, u.double(), event)
    tolerance = 50 * eps * (event.norm(want) + moved) + tiny
    return Finding(event.norm(phi.grad_conjugate(u).double() - want), tolerance, {"u": u.double()})


def _expression(phi: Legendre, event: Event, draw: Draw) -> Finding:
    try:
        import cvxpy as cp
    except ImportError as missing:
        raise NotStated from missing
    points = interior(phi, event, draw)
    if not event.ndim:
        points = in_interval(phi.domain, draw, near=False) if isinstance(phi.domain, Interval) else points
        points = points[points.abs() < 10].unsqueeze(-1)
    variable = cp.Variable(points.shape[1:], symmetric=True) if event.symmetric else cp.Variable(points.shape[1:])
    if list(phi.parameters()):  # as numbers; the conic solver makes cvxpy parameters of them
        phi = copy.deepcopy(phi).requires_grad_(False)
    try:
        expression = phi.expression(variable)
    except InputError as refusal:
        raise NotStated from refusal
    found = []
    for z in points:
        variable.value = z.cpu().numpy()
        found.append(float(expression.value))
    want = phi.value(points)
    want = want if event.ndim else want.sum(-1)
    return Finding((draw.tensor(found) - want).abs(), 1e-9 * (1 + want.abs()), {"z": points})


def _room(domain: Interval, z: Tensor) -> Tensor:
    return torch.minimum(z - domain.lo, domain.hi - z)


LAWS = (
    Law("∇φ*(∇φ(z)) = z", "50 eps of z, and of u through dz/du: the rounding of u alone moves z so", _inverse_of_grad),
    Law("∇φ(∇φ*(u)) = u", "50 eps of u, and of z through du/dz: the rounding of z alone moves u so", _grad_of_inverse),
    Law("φ(z) + φ*(u) = ⟨z, u⟩", "50 eps of the terms: the gap is stationary in z and u", _fenchel),
    Law("∇φ is the derivative of φ", "1000 eps of u, and of z through du/dz", _value_derivative),
    Law("secants of φ lie between its slopes", "50 eps of the terms and of z; the inequality is exact", _secants),
    Law("φ'' is the derivative of ∇φ", "between the one-sided differences to 1e-4, autograd to 1e-9", _hessian),
    Law("∇²φ* = (∇²φ)⁻¹", "1e-9, and 1000 eps of z through the third derivative", _compliance),
    Law("∇φ* is the derivative of φ*", "1000 eps of z, the scale of the terms that meet in it", _conjugate_derivative),
    Law(
        "⟨∇φ(x) − ∇φ(y), x − y⟩ ≥ σ‖x − y‖²",
        "50 eps of u, and of z through du/dz; the inequality is exact",
        _strong_convexity,
    ),
    Law("no NaN at |u| up to 1e4, dtype kept", "none", _tails),
    Law("float32 agrees with float64", "50 eps of float32 of z, and of u through dz/du", _single),
    Law("the cvxpy expression is φ", "1e-9: sums of logarithms in numpy", _expression),
    *declarations.OF_PHI,
)
