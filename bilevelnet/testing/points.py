"""Points at which the laws are tested: in a domain and near its ends, in a dual domain, at kinks and at 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval, Simplex
from ..errors import InputError
from ..legendre import Legendre
from ..regularizers import Regularizer

MAGNITUDES = (1e-8, 1e-3, 0.1, 0.37, 0.5, 1.0, 1.7, 3.0, 6.0, 20.0)
FAR = tuple(10.0 ** (k / 3) for k in range(4, 25))  # 20 to 1e8
DENSE = tuple(10.0 ** (k / 100) for k in range(-100, 801))  # 0.1 to 1e8 by 2.3 %: what is as narrow is met
_SIZES: dict[int, list[tuple[int, ...]]] = {
    0: [()],
    1: [(4,), (3,), (2,), (5,), (6,), (8,)],
    2: [(2, 2), (3, 3), (3, 2), (4, 4)],
}


@dataclass(frozen=True)
class Draw:
    """Where the points come from: one seed gives the same points on every device."""

    seed: int = 0
    device: str = "cpu"
    dtype: torch.dtype = torch.float64

    def normal(self, *shape: int, salt: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + salt)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.device, self.dtype)

    def tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)


@dataclass(frozen=True)
class Event:
    """The shape of one point, () where the pieces are separable, and a basis of the space that it lives in."""

    shape: tuple[int, ...]
    symmetric: bool = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dims(self) -> tuple[int, ...]:
        return tuple(range(-self.ndim, 0))

    def project(self, x: Tensor) -> Tensor:
        return (x + x.mT) / 2 if self.symmetric else x

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        """⟨x, y⟩, one number a point."""
        return (x * y).sum(self.dims) if self.ndim else x * y

    def norm(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, dim=self.dims) if self.ndim else x.abs()

    def all(self, mask: Tensor, x: Tensor) -> Tensor:
        """A mask of the points x from a mask of them or of their entries."""
        while mask.ndim > x.ndim - self.ndim:
            mask = mask.all(-1)
        return mask

    def basis(self, like: Tensor) -> Tensor:
        """Orthonormal coordinates: (m, *shape), m = n (n + 1)/2 for symmetric matrices, else all entries."""
        n = math.prod(self.shape)
        units = torch.eye(n, dtype=like.dtype, device=like.device).reshape(n, *self.shape)
        if not self.symmetric:
            return units
        rows = [k for k in range(n) if k // self.shape[1] <= k % self.shape[1]]
        halves = self.project(units[rows])
        return halves / torch.linalg.vector_norm(halves, dim=(-1, -2), keepdim=True)

    def expand(self, x: Tensor) -> Tensor:
        """One number a point, shaped to broadcast with points."""
        return x.reshape(x.shape + (1,) * self.ndim)


def event_of(*pieces: Legendre | Regularizer, device: str = "cpu") -> Event:
    """An event that all the pieces take: of the width that one declares, or a small one, as their values say."""
    ndim, reason = max(p.event_ndim for p in pieces), ""
    symmetric = any((isinstance(p, Legendre) and p.event_ndim == 2) or _symmetric(p.domain) for p in pieces)
    widths = [p.width for p in pieces if p.width] if ndim == 1 else []
    for shape in [(n,) for n in widths] or _SIZES[ndim]:
        if symmetric and shape[0] != shape[1]:
            continue
        sample = torch.full((2, *shape), 0.1, dtype=torch.float64, device=device)
        if ndim == 2:
            sample = sample + 0.3 * torch.eye(*shape, dtype=torch.float64, device=device)
        try:
            values = [p.value(sample) for p in pieces]
        except Exception as failure:  # a size that does not fit: the next one
            reason = f"{type(failure).__name__}: {failure}"
            continue
        reason = ""
        for p, value in zip(pieces, values, strict=True):
            got, want = _shape(value), tuple(sample.shape[: 1 + ndim - p.event_ndim])
            if got != want:
                reason = f"of points of shape {tuple(sample.shape)} the value of {p.label} has shape {got}, not {want}"
        if not reason:
            return Event(shape, symmetric)
    declared = f" of the declared width {widths[0]}" if widths else ""
    raise InputError(f"no point of {ndim} dimensions{declared} suits {' and '.join(p.label for p in pieces)}: {reason}")


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else f"none, a {type(value).__name__}"


def _symmetric(domain: Any) -> bool:
    return type(domain).__name__ in ("PositiveSemidefinite", "Eigenvalues")


def in_interval(domain: Interval, draw: Draw, ends: bool = False, near: bool = True) -> Tensor:
    """Entries inside an interval: 0, both signs, all magnitudes, and close to the finite ends (or on them)."""
    lo, hi = float(domain.lo), float(domain.hi)
    if math.isfinite(lo) and math.isfinite(hi):
        parts = (1e-6, 1e-3) if near else ()
        fractions = [*parts, 0.05, 0.2, 0.35, 0.5, 0.62, 0.8, 0.95, *(1 - p for p in parts)]
        points = [lo + (hi - lo) * f for f in fractions]
    elif math.isfinite(lo):
        points = [lo + m for m in MAGNITUDES if near or 1e-2 < m < 10]
    elif math.isfinite(hi):
        points = [hi - m for m in MAGNITUDES if near or 1e-2 < m < 10]
    else:
        points = [s * m for m in MAGNITUDES if near or 1e-2 < m < 10 for s in (-1, 1)]
    points += [0.0, 0.3, -0.6, lo + 1e-2, hi - 1e-2]
    inside = sorted({p for p in points if lo < p < hi})
    if ends:
        inside += [e for e, closed in zip((lo, hi), domain.closed, strict=True) if closed and math.isfinite(e)]
    return draw.tensor(inside)


def far_out(piece: Legendre | Regularizer, draw: Draw, sizes: Sequence[float] = FAR) -> Tensor:
    """Entries inside an interval towards its infinite ends, as far as φ or g and its derivative do not overflow."""
    lo, hi = float(piece.domain.lo), float(piece.domain.hi)
    starts = [(s, e if math.isfinite(e) else 0.0) for s, e, ahead in ((1, lo, hi), (-1, hi, lo)) if math.isinf(ahead)]
    points = draw.tensor([e + s * m for s, e in starts for m in sizes])
    x = points.clone().requires_grad_()
    value = piece.value(x)
    (slope,) = torch.autograd.grad(value.sum(), x, materialize_grads=True) if value.requires_grad else (0 * x,)
    return points[(value * slope * points).isfinite()]


def line(piece: Legendre | Regularizer, draw: Draw) -> Tensor:
    """A dense increasing grid inside an interval: geometric towards infinite ends, else even."""
    lo, hi = float(piece.domain.lo), float(piece.domain.hi)
    between = [lo + (hi - lo) * (k / 512) for k in range(1, 512)] if math.isfinite(hi - lo) else []
    return torch.cat([draw.tensor(between), far_out(piece, draw, DENSE)]).unique()


def duals(phi: Legendre, event: Event, draw: Draw, largest: float = 30.0) -> Tensor:
    """Points u in the interior of dom φ*, 0 among them where it lies there."""
    if phi.event_ndim == 0 and isinstance(phi.dual_domain, Interval):
        u = in_interval(phi.dual_domain, draw)
        u = u[u.abs() <= largest]
        if event.ndim:
            u = _assorted(u, 12, event, draw)
        return u
    n = 6
    x = draw.normal(n, *event.shape, salt=1)
    scales = [x * s for s in (0.0, 1e-6, 0.1, 1.0, 4.0, largest / 3)]
    if event.symmetric:
        x = event.project(x)
        eye = torch.eye(event.shape[0], dtype=x.dtype, device=x.device)
        positive = x @ x.mT + 0.1 * eye
        scales = [*(x * s for s in (0.1, 1.0, 2.0)), eye.unsqueeze(0), positive, -positive, 0.3 * x[:1] - 3 * eye]
    u = torch.cat([s.clamp(-largest, largest) for s in scales])
    u = event.project(u)
    return u[event.all(phi.dual_domain.interior(u), u)]


def interior(phi: Legendre, event: Event, draw: Draw) -> Tensor:
    """Points z in int dom φ: a grid where the domain is an interval, and images of dual points."""
    images = phi.grad_conjugate(duals(phi, event, draw, largest=8.0)).detach()
    if isinstance(phi.domain, Interval) and not event.ndim:
        far = far_out(phi, draw)
        far = far[phi.grad(far).abs() >= torch.finfo(draw.dtype).tiny]  # what underflows has no inverse
        images = images[images.square().isfinite()]  # a search that ran away leaves the counterexamples to the grid
        images = torch.cat([in_interval(phi.domain, draw), far, images])
    return images[event.all(phi.domain.interior(images), images) & event.all(images.isfinite(), images)]


def members(g: Regularizer, event: Event, draw: Draw) -> Tensor:
    """Points of dom g: a grid with the kinks and ends where it is an interval, else drawn in the set."""
    domain = g.domain
    if isinstance(domain, Interval) and domain.constant:
        points = torch.cat([in_interval(domain, draw, ends=True, near=False), kinks(g, draw)])
        if not event.ndim:
            points = torch.cat([points, far_out(g, draw)])
        points = points[domain.contains(points)].unique()
        if not event.ndim:
            return points
        return event.project(_assorted(points, 24, event, draw))
    if isinstance(domain, Simplex):
        weights = torch.cat([spread * draw.normal(8, *event.shape, salt=6) for spread in (1.0, 10.0, 300.0)])
        return domain.radius * weights.softmax(domain.dim)
    x = event.project(torch.cat([s * draw.normal(8, *event.shape, salt=7) for s in (0.3, 1.0, 4.0)]))
    return g.prox(x, 1.0).detach()


def _assorted(values: Tensor, count: int, event: Event, draw: Draw) -> Tensor:
    """Events whose entries are drawn from the values."""
    picks = draw.normal(count, *event.shape, salt=5).abs().mul(1e4).long() % len(values)
    return values[picks]


def kinks(g: Regularizer, draw: Draw) -> Tensor:
    """The knots of the piecewise-linear terms, in dom g; not where a barrier ends."""
    knots = [float(t) for term in g.terms() if term.pieces() for t in term.pieces()[0]]  # type: ignore[index]
    smooth = [term.domain for term in g.terms() if not term.pieces() and isinstance(term.domain, Interval)]
    ends = {e for d in smooth for e in (d.lo, d.hi) if not isinstance(e, Tensor)}
    points = draw.tensor([t for t in knots if math.isfinite(t) and t not in ends])
    return points[g.domain.contains(points)] if len(points) else points


def representable(z: Tensor) -> Tensor:
    """Whether entries are 0 or have all their digits, which the numbers below the normal ones lose."""
    return (z == 0) | (z.abs() >= torch.finfo(z.dtype).tiny)


def inside_jump(left: Tensor, right: Tensor) -> Tensor:
    """A slope between g'(t−) and g'(t+), one of which may be infinite."""
    low, high = torch.where(left.isinf(), right - 2, left), torch.where(right.isinf(), left + 2, right)
    return torch.where(left.isinf() & right.isinf(), 0.0, (low + high) / 2)
