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
from .activation_profile import Activation, NotProximal

Pair = tuple[Legendre, Regularizer]
POINTS, SIZE = 8, 5


def is_entrywise(rho: Activation) -> bool:
    """Whether ρ of a vector is ρ of each of its entries."""
    v = torch.tensor([-2.0, -0.7, 0.4, 1.1, 3.0], dtype=torch.float64)
    try:
        together, alone = rho(v), torch.cat([rho(t) for t in v.split(1)])
    except Exception:  # whatever a map raises for a size that it does not take
        return False
    return together.shape == v.shape and torch.allclose(together, alone, rtol=1e-12, atol=1e-12, equal_nan=True)


def is_softmax(rho: Activation) -> bool:
    """Whether ρ is the softmax of a vector, as far as two vectors tell."""
    vectors = torch.tensor([[-2.0, -0.7, 0.4, 1.1, 3.0], [0.3, 0.2, -5.0, 4.0, 0.0]], dtype=torch.float64)
    return all(torch.allclose(rho(v), v.softmax(-1), rtol=1e-13, atol=0) for v in vectors)


def check_vector_map(rho: Activation, name: str, nonexpansive: bool, size: int = SIZE) -> None:
    """NotProximal unless ρ: ℝⁿ → ℝⁿ has a symmetric positive semidefinite Jacobian at some points, drawn by a seed.

    That is what makes it the gradient of a convex function, (φ + g)*; ``nonexpansive``: with eigenvalues up to 1.
    """
    generator = torch.Generator().manual_seed(0)
    for k in range(POINTS):
        v = torch.randn(size, generator=generator, dtype=torch.float64) * 2.0 ** (k % 4 - 2)
        fault = _fault(_jacobian(rho, v, name), nonexpansive)
        if fault is not None:
            what, rule, direction = fault
            w = v + 1e-2 * direction
            raise NotProximal(f"{name} is no {what}", (v, w), (rho(v), rho(w)), rule)


def _fault(j: Tensor, nonexpansive: bool) -> tuple[str, str, Tensor] | None:
    """What is wrong with a Jacobian at a point, the rule that it breaks, and a direction in which it shows."""
    slack = 1e-7 * (1 + float(j.abs().max()))  # differences of a step of 1e-5
    skew, (values, vectors) = (j - j.mT).abs(), torch.linalg.eigh((j + j.mT) / 2)
    if float(skew.max()) > slack:
        a, b = divmod(int(skew.argmax()), len(j))
        entries = f"∂ρ_{a}/∂v_{b} = {float(j[a, b]):.4g}, ∂ρ_{b}/∂v_{a} = {float(j[b, a]):.4g} at the first point"
        rule = "That of a proximal map is, being the second derivative of (φ + g)*"
        return f"proximal map, for its Jacobian is not symmetric: {entries}", rule, vectors[:, -1]
    if float(values[0]) < -slack:
        what = f"proximal map, for its Jacobian has the eigenvalue {float(values[0]):.4g} < 0"
        return what, "So ⟨ρ(w) − ρ(v), w − v⟩ < 0, and a proximal map is monotone", vectors[:, 0]
    if nonexpansive and float(values[-1]) > 1 + slack:
        what = f"Euclidean proximal map, for its Jacobian has the eigenvalue {float(values[-1]):.4g} > 1"
        return what, "A Euclidean one is 1-Lipschitz; split='bregman' has no such bound", vectors[:, -1]
    return None


def _jacobian(rho: Activation, v: Tensor, name: str) -> Tensor:
    h = 1e-5
    try:
        columns = [(rho(v + s) - rho(v - s)) / (2 * h) for s in h * torch.eye(len(v), dtype=v.dtype)]
    except Exception as error:
        raise InputError(f"{name} takes neither numbers one by one nor a vector of size {len(v)}: {error}") from error
    if any(not isinstance(c, Tensor) or c.shape != v.shape or not bool(c.isfinite().all()) for c in columns):
        raise InputError(f"{name} does not map vectors to vectors of the same size, or is not finite at {v.tolist()}")
    return torch.stack(columns, 1)


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
