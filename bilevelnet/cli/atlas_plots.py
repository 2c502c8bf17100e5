"""The small pictures of the atlas: four curves of one φ, or of one activation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..domains import Eigenvalues, Interval
from ..legendre import Legendre
from ..regularizers import Regularizer

COLOUR, SECOND = "#0072B2", "#D55E00"
SPAN = 4.0  # of u, and of z where the domain is not bounded
COUNT = 401
TALL = 6.0  # beyond it a curve leaves its panel

Curve = tuple[Tensor, Tensor]


def of_phi(phi: Legendre, g: Callable[[Tensor], Tensor] | None, path: Path) -> None:
    """φ, ∇φ, ρ = ∇φ* and φ*, along a ray where φ is no function of numbers; dashed: g of the Euclidean split."""
    z, u = _points(phi.domain), _duals(phi)
    first = [(z, _value(phi.value, phi, z)), *([(z, g(z))] if g is not None else [])]
    panels = [
        ("φ(z)" + (", dashed g(z) = φ − z²/2" if g is not None else ""), first),
        ("∇φ(z)", [(z, _map(phi.grad, phi, z))]),
        ("ρ(u) = ∇φ*(u)", [(u, _map(phi.grad_conjugate, phi, u))]),
        ("φ*(u)", [(u, _value(phi.conjugate, phi, u))]),
    ]
    _draw(panels, path)


def of_activation(
    rho: Callable[[Tensor], Tensor], bregman: tuple[Legendre, Regularizer], euclidean: Regularizer | None, path: Path
) -> None:
    """ρ, its (φ, g) of the Bregman split, and g of the Euclidean split where there is one."""
    v = torch.linspace(-SPAN, SPAN, COUNT, dtype=torch.float64)
    phi, g = bregman
    z = _points(phi.domain)
    panels = [
        ("ρ(v)", [(v, rho(v))]),
        ("φ(z) of the Bregman split", [(z, phi.value(z))]),
        ("g(z) of the Bregman split", [_on(g, z)]),
    ]
    if euclidean is not None:
        wide = torch.linspace(-SPAN, SPAN, COUNT, dtype=torch.float64)
        panels.append(("g(z) of the Euclidean split", [_on(euclidean, wide)]))
    _draw(panels, path)


def _on(g: Regularizer, z: Tensor) -> Curve:
    inside = g.domain.contains(z)
    return z, torch.where(inside, g.value(torch.where(inside, z, z[inside][0])), torch.nan)


def _points(domain: Any) -> Tensor:
    """Numbers across a domain; along a ray from 0 where it is a set of vectors or matrices."""
    domain = domain.interval if isinstance(domain, Eigenvalues) else domain
    lo, hi = (domain.lo, domain.hi) if isinstance(domain, Interval) else (-_radius(domain), _radius(domain))
    ends = [torch.as_tensor(end, dtype=torch.float64).nan_to_num(0.0, SPAN, -SPAN) for end in (lo, hi)]
    grid = torch.linspace(0, 1, COUNT, dtype=torch.float64)
    grid = (1 - torch.cos(torch.pi * grid)) / 2  # closer together at the ends
    return (ends[0] + (ends[1] - ends[0]) * grid)[1:-1]


def _radius(domain: Any) -> float:
    return float(getattr(domain, "radius", SPAN))


def _duals(phi: Legendre) -> Tensor:
    u = torch.linspace(-SPAN, SPAN, COUNT, dtype=torch.float64)
    return u[_reduced(phi.dual_domain.interior(_event(phi, u)), u)]


def _event(phi: Legendre, t: Tensor) -> Tensor:
    """t as a point of φ's space: t, t e₁, or a 1 × 1 matrix."""
    if phi.event_ndim == 0:
        return t
    if phi.event_ndim == 2:
        return t[:, None, None]
    width = phi.width or 2
    return torch.cat([t[:, None], torch.zeros(len(t), width - 1, dtype=t.dtype)], 1)


def _reduced(mask: Tensor, t: Tensor) -> Tensor:
    return mask.reshape(len(t), -1).all(1)


def _value(f: Callable[[Tensor], Tensor], phi: Legendre, t: Tensor) -> Tensor:
    return f(_event(phi, t)).reshape(len(t))


def _map(f: Callable[[Tensor], Tensor], phi: Legendre, t: Tensor) -> Tensor:
    return f(_event(phi, t)).reshape(len(t), -1)[:, 0]


def _draw(panels: list[tuple[str, list[Curve]]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.9), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (title, curves) in zip(figure.subplots(1, 4), panels, strict=False):
        for k, (x, y) in enumerate(curves):
            y = torch.where(y.abs() <= TALL, y, torch.nan).detach()
            axis.plot(x.numpy(), y.numpy(), ("-", "--")[k], color=(COLOUR, SECOND)[k])
            if bool((y.nan_to_num(0.0) == 0).all()):  # a constraint, or 0: where it is finite is what counts
                axis.set(xlim=(-1.05 * SPAN, 1.05 * SPAN), ylim=(-1, 1))
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.axhline(0, color="#CCCCCC", linewidth=0.6, zorder=0)
        axis.axvline(0, color="#CCCCCC", linewidth=0.6, zorder=0)
    for axis in figure.axes[len(panels) :]:
        axis.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})  # the same bytes at every run
