"""Maps of vectors: Softmax and the normalisations, and what a Jacobian tells of the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..domains import Interval
from ..errors import InputError
from ..legendre import BallHellinger, BoltzmannShannon, Energy, Legendre
from ..legendre.activation import as_double
from ..regularizers import AffineSet, Excess, Regularizer, Simplex, Zero
from .activation_profile import EPS, NOISE, Activation, NotProximal

Pair = tuple[Legendre, Regularizer]
SIZE = 5
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of the vectors that are tried: a clamp far out shows
STEP = EPS ** (1 / 3)  # of central differences, where their own error is that of rounding


def is_entrywise(rho: Activation) -> bool:
    """Whether ρ of a vector is ρ of each of its entries, to rounding: vectorised code may differ from scalar code."""
    try:
        pairs = [(rho(v), torch.cat([rho(t) for t in v.split(1)])) for v in _vectors(SIZE)]
    except Exception:  # whatever a map raises for a size that it does not take
        return False
    return all(
        together.shape == alone.shape and torch.allclose(together, alone, rtol=NOISE, atol=NOISE, equal_nan=True)
        for together, alone in pairs
    )


def is_softmax(rho: Activation) -> bool:
    """Whether ρ is the softmax of a vector, as far as those of ``SCALES`` tell; e^v is off by |v| eps."""
    return all(
        torch.allclose(rho(v), v.softmax(-1), rtol=NOISE * (1 + float(v.abs().max())), atol=0) for v in _vectors(SIZE)
    )


def check_vector_map(rho: Activation, name: str, nonexpansive: bool, size: int = SIZE) -> None:
    """NotProximal unless ρ: ℝⁿ → ℝⁿ has a symmetric positive semidefinite Jacobian at some points, drawn by a seed.

    That is what makes it the gradient of a convex function, (φ + g)*; ``nonexpansive``: with eigenvalues up to 1.
    """
    for v in _vectors(size):
        fault = _fault(*_jacobian(rho, v, name), nonexpansive)
        if fault is None:
            continue
        what, rule, direction = fault
        w = v + direction / 64  # a chord that is near the tangent, and long enough to be read
        raise NotProximal(f"{name} is no {what}", (v, w), (rho(v), rho(w)), rule)


def _vectors(size: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(size, generator=generator, dtype=torch.float64) for scale in SCALES]


def _fault(j: Tensor, slack: float, nonexpansive: bool) -> tuple[str, str, Tensor] | None:
    """What is wrong with a Jacobian at a point, the rule that it breaks, and a direction in which it shows.

    ``slack``: what an entry may be off by; an eigenvalue then by n times that.
    """
    skew, (values, vectors) = (j - j.mT).abs(), torch.linalg.eigh((j + j.mT) / 2)
    if float(skew.max()) > 2 * slack:
        a, b = divmod(int(skew.argmax()), len(j))
        entries = f"∂ρ_{a}/∂v_{b} = {float(j[a, b]):.4g}, ∂ρ_{b}/∂v_{a} = {float(j[b, a]):.4g} at the first point"
        rule = "That of a proximal map is, being the second derivative of (φ + g)*"
        return f"proximal map, for its Jacobian is not symmetric: {entries}", rule, vectors[:, -1]
    slack *= len(j)
    if float(values[0]) < -slack:
        what = f"proximal map, for its Jacobian has the eigenvalue {float(values[0]):.4g} < 0"
        return what, "So ⟨ρ(w) − ρ(v), w − v⟩ < 0, and a proximal map is monotone", vectors[:, 0]
    if nonexpansive and float(values[-1]) > 1 + slack:
        what = f"Euclidean proximal map, for its Jacobian has the eigenvalue {float(values[-1]):.4g} > 1"
        return what, "A Euclidean one is 1-Lipschitz; split='bregman' has no such bound", vectors[:, -1]
    return None


def _jacobian(rho: Activation, v: Tensor, name: str) -> tuple[Tensor, float]:
    """The Jacobian by differences, and what an entry may be off by.

    That is what differences of twice the step are off from them, four times their own error where ρ is smooth and as
    much as J jumps where it has a kink, and rounding.
    """
    h = STEP * (1 + float(v.abs().max()))
    try:
        near, far = ([(rho(v + s) - rho(v - s)) / (2 * k * h) for s in k * h * _basis(v)] for k in (1, 2))
        size = v.abs().max() + rho(v).abs().max()
    except Exception as error:
        raise InputError(f"{name} takes neither numbers one by one nor a vector of size {len(v)}: {error}") from error
    columns = [*near, *far]
    if any(not isinstance(c, Tensor) or c.shape != v.shape or not bool(c.isfinite().all()) for c in columns):
        raise InputError(f"{name} does not map vectors to vectors of the same size, or is not finite at {v.tolist()}")
    j, rough = torch.stack(near, 1), torch.stack(far, 1)
    return j, float((j - rough).abs().max() + NOISE * size / h)


def _basis(v: Tensor) -> Tensor:
    return torch.eye(len(v), dtype=v.dtype)


class UnitEntropy(BoltzmannShannon):
    """Σ z log z − z on [0, 1], where it is 1-strongly convex; z ≤ 1 is a constraint."""

    key = ""
    domain = Interval(0.0, 1.0)

    @property
    def strong_convexity(self) -> float:
        return 1.0


def _softmax(m: nn.Softmax, nonexpansive: bool) -> Pair:
    dim = -1 if m.dim is None else m.dim
    if nonexpansive:
        return Energy(), Excess(UnitEntropy()) + Simplex(dim=dim)
    return BoltzmannShannon(), Simplex(dim=dim)


def _normalisation(m: Any, nonexpansive: bool) -> Pair:
    """x/√(‖x‖²/n + ε) = √n ρ(x/√(nε)) for RMSNorm; LayerNorm is that on {Σ x = 0}."""
    if len(m.normalized_shape) != 1:
        raise InputError(
            f"{type(m).__name__} over {len(m.normalized_shape)} dimensions: flatten them to one vector first"
        )
    (n,) = m.normalized_shape
    rho = as_double(m)
    plain = m.weight is None or (bool((m.weight == 1).all()) and (getattr(m, "bias", None) is None or not m.bias.any()))
    if not plain or nonexpansive:
        check_vector_map(rho, type(m).__name__, nonexpansive, size=n)
        raise InputError(
            f"{type(m).__name__} with a gain or bias: move them into the next linear map, and normalise without, by "
            f"elementwise_affine=False"
        )
    eps = torch.finfo(torch.get_default_dtype()).eps if m.eps is None else m.eps
    phi = n * math.sqrt(eps) * BallHellinger().affine(scale=math.sqrt(n))
    return phi, AffineSet((1.0,) * n, 0.0) if isinstance(m, nn.LayerNorm) else Zero()


VECTORS: dict[type, Callable[[Any, bool], Pair]] = {
    nn.LayerNorm: _normalisation,
    nn.RMSNorm: _normalisation,
    nn.Softmax: _softmax,
}
