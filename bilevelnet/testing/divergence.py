"""The laws of a divergence D(z, z⁻)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ..divergences import Bregman, Divergence, Identity
from ..domains import Interval
from .calculus import EPS, STEPS, Function, central, difference_step, slope
from .given import expect
from .points import Draw, Event, event_of, in_interval, interior
from .report import Finding, Law, NotStated, Report, run

ROUNDING = 50 * EPS


def check_divergence(divergence: Divergence, seed: int = 0, device: str = "cpu", raises: bool = True) -> Report:
    """The laws of D, on a float64 copy at points drawn by ``seed``: a Report; AssertionError where one fails.

    z is drawn in dom φ and z⁻ in the set that D states for it, of the widths that its reference states.
    """
    expect(divergence, Divergence, "check_divergence")
    return run(f"D = {divergence}", LAWS, (Sample(divergence, Draw(seed, device)),), raises)


class Sample:
    """A float64 copy of D with pairs of points: ``z``, and ``p`` for z⁻."""

    def __init__(self, divergence: Divergence, draw: Draw):
        self.d = copy.deepcopy(divergence).double().eval().to(draw.device)
        self.draw = draw
        widths, width = self.d.reference.widths, getattr(self.d.phi, "width", None) or 4
        sizes = widths[::-1] if widths is not None else (width,) * 2 if self.d.event_ndim == 1 else (None, None)
        (self.z, self.event), (self.p, self.source) = (self._points(n, k) for k, n in enumerate(sizes))
        self.same = not isinstance(self.d, Bregman) or isinstance(self.d.reference, Identity)
        count = min(len(self.z), len(self.p))
        order = draw.normal(count, salt=3).argsort()
        self.z, self.p = self.z[:count][order], self.p[:count]

    def _points(self, size: int | None, salt: int) -> tuple[Tensor, Event]:
        domain = self.d.source if self.d.phi is None or salt else self.d.phi.domain
        if not isinstance(domain, Interval):
            event = event_of(self.d.phi, device=self.draw.device)
            return interior(self.d.phi, event, Draw(self.draw.seed + salt, self.draw.device)), event
        entries = in_interval(domain, self.draw, near=False)
        if size is None:
            return entries, Event(())
        picks = self.draw.normal(24, size, salt=salt).abs().mul(1e4).long() % len(entries)
        return entries[picks], Event((size,))

    def value(self, z: Tensor, p: Tensor) -> Tensor:
        """D(z, z⁻), one value a point."""
        value, n = self.d.value(z, p), self.event.ndim - self.d.event_ndim
        if value.shape != z.shape[: z.ndim - self.d.event_ndim]:
            raise AssertionError(f"z of shape {tuple(z.shape)} gives a value of shape {tuple(value.shape)}")
        return value.sum(tuple(range(-n, 0))) if n else value

    def size(self, z: Tensor, p: Tensor) -> Tensor:
        """Of the terms of which D may be a difference."""
        terms = 1 + self.value(z, p).abs() + self.event.norm(z) * (1 + self.event.norm(self.grad(z, p)))
        if self.d.phi is None:
            return terms
        self.d.place(p)
        phi = self.d.phi.value(z)
        self.d.clear()
        n = phi.ndim - terms.ndim
        return terms + (phi.abs().sum(tuple(range(-n, 0))) if n else phi.abs())

    def grad(self, z: Tensor, p: Tensor) -> Tensor:
        """∂D/∂z by autograd."""
        return self.event.project(slope(lambda x: self.value(x, p), z))


def _shape(s: Sample) -> Finding:
    """One value an event, and for a batch of batches what one batch gives."""
    stacked = s.value(torch.stack([s.z, s.z]), torch.stack([s.p, s.p]))
    return Finding((stacked - s.value(s.z, s.p)).abs(), ROUNDING * s.size(s.z, s.p), {"z": s.z, "z⁻": s.p})


def _nonnegative(s: Sample) -> Finding:
    if isinstance(s.d, Bregman) and not s.d.uses_point:
        raise NotStated  # D = φ, up to a constant
    return Finding((-s.value(s.z, s.p)).clamp(min=0), ROUNDING * s.size(s.z, s.p), {"z": s.z, "z⁻": s.p})


def _zero(s: Sample) -> Finding:
    _same(s)
    return Finding(s.value(s.p, s.p).abs(), ROUNDING * s.size(s.p, s.p), {"z = z⁻": s.p})


def _positive(s: Sample) -> Finding:
    _same(s)
    apart = s.event.norm(s.z - s.p) > 1e-3 * (1 + s.event.norm(s.z))
    z, p = s.z[apart], s.p[apart]
    return Finding((s.value(z, p) <= 0).double(), 0.0, {"z": z, "z⁻": p})


def _convex(s: Sample) -> Finding:
    other = s.z[s.draw.normal(len(s.z), salt=5).argsort()]
    t = s.draw.normal(len(s.z), salt=6).sigmoid()
    middle = s.z + s.event.expand(t) * (other - s.z)
    a, b, c = (s.value(x, s.p) for x in (s.z, other, middle))
    tolerance = ROUNDING * (s.size(s.z, s.p) + s.size(other, s.p))
    return Finding((c - a - t * (b - a)).clamp(min=0), tolerance, {"z": s.z, "w": other, "z⁻": s.p})


def _slope_in_z(s: Sample) -> Finding:
    return _slope(s, s.event, s.z, lambda z: s.value(z, s.p))


def _slope_in_previous(s: Sample) -> Finding:
    if not s.d.uses_point:
        raise NotStated
    return _slope(s, s.source, s.p, lambda p: s.value(s.z, p))


def _slope(s: Sample, event: Event, x: Tensor, f: Function) -> Finding:
    d = event.project(s.draw.normal(*x.shape, salt=7)) if event.ndim else torch.ones_like(x)
    d = d / event.expand(event.norm(d))
    h = difference_step(event.norm(x)) / 100  # the ends of the domain may be near
    values = torch.stack([f(x + event.expand(k * h) * d) for k in STEPS])
    want, smooth, change = central(values.detach(), h, torch.abs)
    got = event.inner(slope(f, x), d)
    noise = 100 * EPS * s.size(s.z, s.p) / h
    smooth &= noise < 1e-2 * (1 + want.abs())
    return Finding((got - want).abs()[smooth], (1e-6 * (1 + want.abs()) + change + noise)[smooth], {"at": x[smooth]})


def _mirror(s: Sample) -> Finding:
    """D = φ(z) − ⟨r, z⟩ up to a constant in z, with the φ and r that the solvers see."""
    d = s.d
    if d.phi is None:
        raise NotStated
    got = s.grad(s.z, s.p)
    d.place(s.p)
    r = d.dual(s.p, None)
    want = d.phi.grad(s.z) - (0.0 if r is None else r)
    d.clear()
    size = s.event.norm(got) + s.event.norm(want) + (0.0 if r is None else s.event.norm(r + 0 * s.z))
    return Finding(
        s.event.norm(got - want), 20 * ROUNDING * (1 + size) * (1 + s.event.norm(s.z)), {"z": s.z, "z⁻": s.p}
    )


def _single(s: Sample) -> Finding:
    got = copy.deepcopy(s.d).float().value(s.z.float(), s.p.float())
    if got.dtype is not torch.float32:
        raise AssertionError(f"float32 came back as {got.dtype}")
    n = s.event.ndim - s.d.event_ndim
    got = got.double().sum(tuple(range(-n, 0))) if n else got.double()
    eps = torch.finfo(torch.float32).eps
    moved = s.event.norm(s.grad(s.z, s.p)) * s.event.norm(s.z)
    if s.d.uses_point:
        moved = moved + s.source.norm(slope(lambda p: s.value(s.z, p), s.p)) * s.source.norm(s.p)
    error, tolerance = (got - s.value(s.z, s.p)).abs(), 50 * eps * (s.size(s.z, s.p) + moved)
    return Finding(error, tolerance, {"z": s.z, "z⁻": s.p})


def _same(s: Sample) -> None:
    if not s.same:
        raise NotStated  # D compares z with an image of z⁻


LAWS = (
    Law("one value an event, batches alike", "50 eps of the terms", _shape),
    Law("D(z, z⁻) ≥ 0", "50 eps of the terms of which D is a difference", _nonnegative),
    Law("D(z⁻, z⁻) = 0", "50 eps of the terms", _zero),
    Law("D(z, z⁻) > 0 for z ≠ z⁻", "exact, at a distance", _positive),
    Law("D lies below its chords in z", "50 eps of the terms; the inequality is exact", _convex),
    Law("∂D/∂z by differences", "1e-6 and the rounding of D over the step", _slope_in_z),
    Law("∂D/∂z⁻ by differences", "1e-6 and the rounding of D over the step", _slope_in_previous),
    Law("∂D/∂z = ∇φ(z) − r", "1000 eps of the terms and of z", _mirror),
    Law("float32 agrees with float64", "50 eps of float32 of the terms, and of z, z⁻ through ∂D", _single),
)
