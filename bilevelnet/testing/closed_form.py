"""The laws of a solver's answer for a pair (φ, g), a closed form's above all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..legendre import Legendre
from ..problem import Prox
from ..prox import bregman_prox, solve_prox
from ..regularizers import Regularizer
from ..solvers import bind
from . import transforms
from .calculus import EPS, STEPS, Function, central, difference_step, sensitivity, slope
from .given import expect
from .pair import Pair
from .points import Draw, inside_jump, kinks, members
from .report import Finding, Law, NotStated, Report, run
from .weights import of_weights

ROUNDING = 50 * EPS


def check_closed_form(
    phi: Legendre, g: Regularizer, seed: int = 0, device: str = "cpu", raises: bool = True, thorough: bool = True
) -> Report:
    """The laws of the closed form of (φ, g): a Report; AssertionError with its table where one fails.

    ``thorough`` adds what costs seconds: gradcheck, gradgradcheck and torch.compile. Raises InputError where the pair
    has no closed form.
    """
    expect(phi, Legendre, "check_closed_form")
    expect(g, Regularizer, "check_closed_form")
    bind(phi, g, "closed_form")
    pair = Pair(phi, g, "closed_form", Draw(seed, device))
    return run(f"φ = {phi}, g = {g}", (*LAWS, *THOROUGH) if thorough else LAWS, (pair,), raises)


def _residual(pair: Pair) -> Finding:
    v, z, u = pair.solved
    residual = pair.solution.residual[pair.kept]
    if not pair.event.ndim:  # at the edge of a flat piece z may be rounded off the knot, where ∂g jumps
        prox = Prox(pair.phi, pair.g)
        for end in (-torch.inf, torch.inf):
            residual = torch.minimum(residual, prox.residual(torch.nextafter(z, torch.full_like(z, end)), u, v))
    return Finding(residual, _noise(pair), {"v": v, "z": z})


def _noise(pair: Pair) -> Tensor:
    v, z, u = pair.solved
    size = pair.event.norm(v) + pair.event.norm(u)
    if pair.event.ndim:
        return 4 * ROUNDING * (size + pair.event.norm(z))
    curvature = sensitivity(lambda t: pair.g.derivatives(t)[0], z, pair.event)
    return ROUNDING * (size + curvature.nan_to_num(0.0, 0.0, 0.0))


def _dual(pair: Pair) -> Finding:
    v, z, u = pair.solved
    inside = pair.event.all(pair.phi.domain.interior(z), z)
    v, z, u = v[inside], z[inside], u[inside]
    if pair.event.ndim and not pair.phi.event_ndim:
        # ∇φ acts entry by entry, so ‖φ''(z) z‖; ‖φ''(z)‖ ‖z‖ takes the slope of one entry and the size of another,
        # and rejects every point where z spans 1e23 to 1e43.
        moved = pair.event.norm(slope(pair.phi.grad, z) * z)
    else:
        moved = sensitivity(pair.phi.grad, z, pair.event)
    tolerance = ROUNDING * (pair.event.norm(u) + pair.event.norm(v) + moved)
    kept = tolerance < 0.1 * (1 + pair.event.norm(u))
    return Finding(pair.event.norm(pair.phi.grad(z) - u)[kept], tolerance[kept], {"z": z[kept], "u": u[kept]})


def _subgradient(pair: Pair) -> Finding:
    # p = v − u ∈ ∂g(z): g(w) ≥ g(z) + ⟨p, w − z⟩ for every w of dom g, far from z and close to it.
    if not pair.event.ndim:
        raise NotStated
    v, z, u = (t.unsqueeze(1) for t in pair.solved)
    w = members(pair.g, pair.event, pair.draw)
    y = torch.cat([z + reach * (w - z) for reach in (1.0, 1e-2, 1e-5)], 1)
    norm, value = pair.event.norm, pair.g_value
    gain = pair.event.inner(v - u, y - z)
    size = value(z).abs() + value(y).abs() + norm(z) + norm(y) + (norm(v) + norm(u)) * norm(y - z)
    error = (value(z) + gain - value(y)).clamp(min=0)
    if not pair.phi.steep:  # the ends of dom φ are constraints, which v − u may push against
        held = pair.phi.domain.contains(y)
        error = torch.where(held.all(pair.event.dims) if held.ndim > error.ndim else held, error, 0.0)
    return Finding(error, ROUNDING * size, {"v": v.expand_as(y), "w": y})


def _root(pair: Pair) -> Finding:
    # The root moves between those of v ∓ 50 eps (|v| + |u|), the rounding of the terms, and z is rounded itself.
    v, z, _ = _separable(pair)
    low, root, high = (pair.roots[name][pair.kept] for name in ("low", "step2", "high"))
    slack = ROUNDING * torch.maximum(low.abs(), high.abs())
    # Where ∇φ underflows nothing is told apart.
    dust = (torch.maximum(z.abs(), root.abs()) < 1e-20) & (pair.phi.grad(z) == pair.phi.grad(root))
    slack = torch.where(dust, torch.inf, slack)
    return Finding(torch.maximum(low - z, z - high).clamp(min=0), slack, {"v": v, "z": z, "root": root})


def _knots(pair: Pair) -> Finding:
    # Inside a flat piece z is the knot itself, and dz/dv = 0.
    _separable(pair)
    t = kinks(pair.g, pair.draw)
    t = t[pair.phi.domain.interior(t)]
    u, (left, right) = pair.phi.grad(t), pair.g.derivatives(t)
    v = u + inside_jump(left, right)
    kept = right - left > 1e-6 * (1 + u.abs())
    if not kept.any():
        raise NotStated
    v, t = v[kept], t[kept]
    error = (pair(v) - t).abs() + slope(pair, v).abs()
    return Finding(error, 0.0, {"v": v, "knot": t})


def _status(pair: Pair) -> Finding:
    if not pair.separable:
        raise NotStated
    # Right at the end of the range of ∇ψ a rounded e^z or tanh z still looks like a root.
    edge = 1e-9 * (1 + pair.v.abs())
    below, above = (pair.exists(pair.v + s * edge, pair.roots[n]) for s, n in ((-1, "below"), (1, "above")))
    clear = below == above
    return Finding((below != pair.good)[clear].double(), 0.0, {"v": pair.v[clear]})


def _derivative(pair: Pair) -> Finding:
    v, z, u = pair.solved
    f, d = pair.along()
    got = pair.event.project(slope(f, v))
    if pair.separable:
        values = torch.stack([pair.roots[f"step{k}"][pair.kept] for k in range(len(STEPS))])
    else:
        values = _stepped(pair, pair, v, d)
    want, smooth, noise = _slope_by_differences(pair, values, v)
    return Finding(pair.event.norm(got - want)[smooth], noise[smooth], {"v": v[smooth], "z": z[smooth], "u": u[smooth]})


def _second_derivative(pair: Pair) -> Finding:
    if pair.event.ndim:
        raise NotStated
    v, z, _ = pair.solved

    def first(x: Tensor) -> Tensor:
        return slope(pair, x, create_graph=True)

    got = slope(first, v) if first(v).requires_grad else torch.zeros_like(v)
    values = _stepped(pair, lambda x: first(x).detach(), v, torch.ones_like(v))
    want, smooth, noise = _slope_by_differences(pair, values, v)
    return Finding((got - want).abs()[smooth], 10 * noise[smooth], {"v": v[smooth], "z": z[smooth]})


def _stepped(pair: Pair, f: Function, v: Tensor, d: Tensor) -> Tensor:
    step = pair.event.expand(difference_step(pair.event.norm(v))) * d
    return f(torch.cat([v + s * step for s in STEPS])).unflatten(0, (len(STEPS), -1))


def _slope_by_differences(pair: Pair, values: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative by central differences, where it is smooth, and its error."""
    norm, h = pair.event.norm, difference_step(pair.event.norm(v))
    want, smooth, change = central(values, pair.event.expand(h), norm)
    size = norm(want)
    return want, smooth, 1e-6 * size + 1e-9 + change + 100 * EPS * (norm(values[2]) + size * norm(v)) / h


def _monotone(pair: Pair) -> Finding:
    v, z, _ = pair.solved
    norm = pair.event.norm
    calm = (norm(z) ** 2).isfinite()
    v, z = v[calm], z[calm]
    order = pair.draw.normal(len(v), salt=11).argsort()
    inner = pair.event.inner(v - v[order], z - z[order])
    size = (norm(v) + norm(v[order])) * (norm(z) + norm(z[order]))
    sigma = torch.as_tensor(pair.phi.strong_convexity, dtype=v.dtype, device=v.device)
    least = sigma * norm(z - z[order]) ** 2  # 1/σ-Lipschitz too
    return Finding((least - inner).clamp(min=0), ROUNDING * (size + least), {"v": v, "w": v[order]})


def _single(pair: Pair) -> Finding:
    v, z, u = pair.solved
    told = pair.event.norm(z) < 1e30  # float32 ends at 3e38; what is formed on the way to z may be larger
    left_out = int((~told).sum())
    v, z, u = v[told], z[told], u[told]
    got = bregman_prox(pair.phi, pair.g, v.float(), pair.solver, on_failure="ignore").double()
    eps = torch.finfo(torch.float32).eps
    moved = pair.steepness(v)
    tolerance = 50 * eps * (pair.event.norm(z) + moved * (pair.event.norm(v) + pair.event.norm(u)))
    if pair.separable:  # v ↦ z increases: beside an edge of infinite slope the rounding of v moves z by this much
        slack = 50 * eps * (v.abs() + u.abs())
        ends = [bregman_prox(pair.phi, pair.g, v + s * slack, pair.solver, on_failure="nan") for s in (-1, 1)]
        tolerance = torch.fmax(tolerance, (ends[1] - ends[0]).abs())
    kept = tolerance.isfinite()
    at = {"v": v[kept], "z": z[kept]}
    return Finding(pair.event.norm(got - z)[kept], (tolerance + 1e-37)[kept], at, left_out)


def _tails(pair: Pair) -> Finding:
    bad, at = [], []
    base = pair.v.sign() if not pair.event.ndim else pair.v / pair.event.expand(pair.event.norm(pair.v) + 1e-300)
    points = torch.cat([size * base.unique(dim=0) for size in (0.0, 20.0, 80.0, 700.0)])
    # Points with a minimiser: the status is itself under test, by its own law.
    good = solve_prox(pair.phi, pair.g, points, pair.solver, on_failure="ignore").converged
    for dtype in (torch.float64, *transforms.HALVES):
        x = points.to(dtype).requires_grad_()
        z = bregman_prox(pair.phi, pair.g, x, pair.solver, on_failure="ignore")
        if z.dtype is not dtype:
            raise AssertionError(f"{dtype} came back as {z.dtype}")
        (d,) = torch.autograd.grad(z.sum(), x, materialize_grads=True)
        undefined = d.isnan()
        if pair.event.ndim:  # overflowing slopes of both signs meet in a coupled derivative: ∞ − ∞
            undefined &= pair.event.expand(pair.event.all(z.abs() < torch.finfo(dtype).max ** 0.5, z))
        wrong = (z.isnan() | undefined).reshape(len(z), -1).any(1) & good.reshape(len(z), -1).all(1)
        bad.append(wrong.double())
        at.append(points)
    return Finding(torch.cat(bad), 0.0, {"v": torch.cat(at)})


def _transform(law: Callable[[Function, Tensor], Finding], smooth: int = 0) -> Callable[[Pair], Finding]:
    def check(pair: Pair) -> Finding:
        if smooth:
            return law(pair, pair.smooth_points(smooth if pair.event.ndim < 2 else 1))
        return law(pair, pair.solved[0])

    return check


def _separable(pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    if not pair.separable:
        raise NotStated
    return pair.solved


def _laws() -> Iterator[Law]:
    yield Law("v − u ∈ ∂g(z), by the solution's residual", "50 eps of v and u, and of z through g''", _residual)
    yield Law("u = ∇φ(z)", "50 eps of u and v, and of z through du/dz", _dual)
    yield Law("g(w) ≥ g(z) + ⟨v − u, w − z⟩", "50 eps of the terms; the inequality is exact", _subgradient)
    yield Law("z is the root found by bisection", "50 eps of v, u and z, through dz/dv", _root)
    yield Law("on a knot z is the knot, dz/dv = 0", "exact", _knots)
    yield Law("status tells where a minimiser exists", "exact", _status)
    yield Law("dz/dv by differences of the root", "1e-6 and the rounding of z over the step", _derivative)
    yield Law("d²z/dv² by differences", "1e-5 and the rounding of dz/dv over the step", _second_derivative)
    yield Law("dz/dθ for every weight", "1e-6 and the rounding of z over the step", of_weights)
    yield Law("v ↦ z is monotone, 1/σ-Lipschitz", "50 eps of the terms; the inequality is exact", _monotone)
    yield Law("float32 agrees with float64", "50 eps of float32 of z, and of v and u through dz/dv", _single)
    yield Law("no NaN at |v| up to 700, dtype kept", "none", _tails)
    yield Law("batch shapes, empty, strided", "1000 eps: the same operations", _transform(transforms.batched))
    yield Law("vmap, vmap of grad", "1000 eps: the same operations", _transform(transforms.vmapped))
    yield Law("jvp agrees with backward", "1e4 eps of the terms", _transform(transforms.forward_mode))


LAWS = tuple(_laws())
THOROUGH = (
    Law("gradcheck and gradgradcheck", "torch's own, 1e-5", _transform(transforms.twice_differentiable, 4)),
    Law("compile gives one graph", "1000 eps: the same operations", _transform(transforms.compiled)),
)
