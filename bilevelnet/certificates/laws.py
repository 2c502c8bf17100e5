"""What the theorem says of the map v ↦ z: it solves the inclusion, is monotone and 1/σ-Lipschitz."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..comparison import Row
from ..errors import InputError
from ..legendre import Legendre
from ..problem import Prox
from ..regularizers import Regularizer
from ..solvers.newton import rough
from .compare import EPS, SHIFT
from .entrywise import Entrywise
from .roots import slope

ULPS = 64 * EPS  # of z: a kink is rounded, an end of the domain too
MOVES = 4  # directions in which a coupled z is moved by so much, to see what ∇φ makes of its rounding


def rows(phi: Legendre, g: Regularizer, v: Tensor, z: Tensor) -> Iterator[Row]:
    """The rows for points z that are said to be prox^φ_g(v), of one batch dimension."""
    kept = (v.isfinite() & z.isfinite()).flatten(1).all(1)
    v, z = v[kept], z[kept]
    yield _residual(phi, g, v, z)
    prox = Prox(phi, g)
    dims = prox.dims if prox.event_ndim else ()
    dv, dz = v.unsqueeze(0) - v.unsqueeze(1), z.unsqueeze(0) - z.unsqueeze(1)
    scale = v.abs().unsqueeze(0) + v.abs().unsqueeze(1) + 1
    inner, size_v, size_z, slack = _sum(dv * dz, dims), _norm(dv, dims), _norm(dz, dims), _norm(scale, dims) * SHIFT
    rounded = _norm(z.abs().unsqueeze(0) + z.abs().unsqueeze(1), dims) * SHIFT
    at = {"v, v'": torch.stack(torch.broadcast_tensors(v.unsqueeze(0), v.unsqueeze(1)), 2), "⟨v − v', z − z'⟩": inner}
    if dims:
        at = {"⟨v − v', z − z'⟩": inner}
    reason = "256 eps of v and z: rounding"
    yield Row.of("v ↦ z is monotone", (-inner).clamp(min=0).abs(), slack * size_z + size_v * rounded, at, reason)
    sigma = torch.as_tensor(phi.strong_convexity, dtype=torch.float64).detach().amin()
    if sigma > 0:
        excess = (size_z - size_v / sigma).clamp(min=0)
        name = f"v ↦ z is 1/σ-Lipschitz, σ = {float(sigma):.4g}"
        yield Row.of(name, excess, slack / sigma + rounded, {"‖z − z'‖": size_z, "‖v − v'‖": size_v}, reason)


def _residual(phi: Legendre, g: Regularizer, v: Tensor, z: Tensor) -> Row:
    name = "residual dist(v, ∇φ(z) + ∂g(z))"
    if phi.event_ndim == 0 and g.event_ndim == 0:
        reason = "256 eps of v, at 64 ulp to either side of z: a kink is rounded, an end of the domain too"
        error = Entrywise([phi, g]).residual(z, v, ULPS * z.abs().clamp(min=1e-150))
        return Row.of(name, error, SHIFT * (1 + v.abs()), {"v": v, "z": z}, reason)
    prox = Prox(phi, g)
    told = slope(phi.value, z).isfinite().flatten(1).all(1)  # elsewhere an entry is below the range of floats
    v, z, lost = v[told], z[told], int((~told).sum())
    u, size = slope(phi.value, z), 1 + _flat(v) + _flat(z)
    reason = "256 eps of v and z, and by how much ∇φ moves over 64 ulp of z"
    if g.event_ndim == 0:
        step = ULPS * (1 + z.abs().flatten(1).amax(1).reshape(-1, *[1] * (z.ndim - 1))).expand_as(z)
        residual = _flat(Entrywise([g]).residual(z, v - u, step))
    elif not any(rough(t) for t in g.terms()):
        residual = _flat(v - u - slope(g.value, z))
    else:
        residual = _to_face(g, prox, z, u, v)
    return Row.of(name, residual, SHIFT * size + _moved(phi, z, u), {"v": v, "z": z}, reason, lost)


def _to_face(g: Regularizer, prox: Prox, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """‖z − prox_g(z + v − u)‖ ≤ dist(v − u, ∂g(z)): the distance jumps where an entry on a face is rounded off it."""
    try:
        return _flat(z - g.prox(z + v - u, 1.0))
    except InputError:  # no prox of the whole
        return prox.residual(z, u, v).flatten(1).sum(1)


def _moved(phi: Legendre, z: Tensor, u: Tensor) -> Tensor:
    """By how much ∇φ moves at most where z moves by 64 ulp of itself, towards 0 or in a drawn direction."""
    generator, size = torch.Generator().manual_seed(0), _flat(z).reshape(-1, *[1] * (z.ndim - 1))
    found = [_flat(slope(phi.value, z * (1 - ULPS)) - u)]
    for _ in range(MOVES):
        d = torch.randn(z.shape, generator=generator, dtype=torch.float64)
        d = d + d.mT if phi.event_ndim == 2 else d
        d = d / _flat(d).reshape(size.shape)
        found.append(_flat(slope(phi.value, z + ULPS * size * d) - u).nan_to_num(0.0, 0.0, 0.0))  # beyond the domain
    return torch.stack(found).amax(0)


def _flat(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def _sum(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return x.sum(dims) if dims else x


def _norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return torch.linalg.vector_norm(x, dim=dims) if dims else x.abs()
