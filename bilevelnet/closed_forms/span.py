"""Mirror maps whose inverse is known because ∇ψ lies in the span of a few functions.

∇ψ(z) = m z + s log z − k/z + e e^z. A φ or a smooth term of g states its coefficients (``span()``), a sum adds
them, and one table inverts each combination. So one rule covers the energy, the entropies, Burg, squareplus and the
exponential with squared_l2, neg_entropy and log_barrier, in any number and order.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..domains import Interval
from ..numerics import exp_linear_root, log_linear_root, log_reciprocal_root, quadratic_root
from ..piece import Scalar

Coefficients = dict[str, Scalar]

BASIS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda z: z,
    "log": torch.log,
    "reciprocal": lambda z: -1 / z,
    "exp": torch.exp,
}

# basis → (name for explain, z with ∇ψ(z) = w)
INVERSES: dict[frozenset[str], tuple[str, Callable[[Tensor, Coefficients], Tensor]]] = {
    frozenset({"linear"}): ("scaling", lambda w, c: w / c["linear"]),
    frozenset({"log"}): ("exponential", lambda w, c: (w / c["log"]).exp()),
    frozenset({"reciprocal"}): ("reciprocal", lambda w, c: -c["reciprocal"] / w),
    frozenset({"exp"}): ("logarithm", lambda w, c: (w / c["exp"]).log()),
    frozenset({"linear", "log"}): ("Wright omega", lambda w, c: log_linear_root(w, c["linear"], c["log"])),
    frozenset({"linear", "reciprocal"}): ("squareplus", lambda w, c: quadratic_root(w, c["linear"], c["reciprocal"])),
    frozenset({"log", "reciprocal"}): (
        "Wright omega",
        lambda w, c: log_reciprocal_root(w, c["log"], c["reciprocal"]),
    ),
    frozenset({"linear", "exp"}): ("Wright omega", lambda w, c: exp_linear_root(w, c["exp"], c["linear"])),
}


def dual_domain(c: Coefficients) -> Interval:
    """The range of ∇ψ on dom ψ: −1/z alone stays below 0, e^z alone above.

    Upwards z, log z and e^z reach ∞; downwards z on ℝ, and at 0 log z and −1/z where they are there, reach −∞.
    """
    lo = _unless(_sum(c, "linear", "log", "reciprocal"), -math.inf)
    hi = _unless(_sum(c, "linear", "log", "exp"), math.inf)
    return Interval(lo, hi, closed=(False, False))


def add(spans: list[Coefficients]) -> Coefficients:
    """The sum of spans."""
    total: Coefficients = {}
    for span in spans:
        for name, c in span.items():
            total[name] = total[name] + c if name in total else c
    return total


def _sum(c: Coefficients, *names: str) -> Scalar:
    return sum(c.get(name, 0.0) for name in names)


def _unless(reach: Scalar, end: float) -> Scalar:
    """``end`` where something reaches it, else 0."""
    if isinstance(reach, Tensor):
        return torch.where(reach > 0, end, 0.0)
    return end if reach > 0 else 0.0
