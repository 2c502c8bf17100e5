"""Mirror maps whose inverse is known because ∇ψ lies in the span of a few functions.

∇ψ(z) = m z + s log z − k/z. A φ or a smooth term of g states its coefficients (``span()``), a sum adds
them, and one table inverts each combination. So one rule covers the energy, the entropies, Burg and squareplus
with squared_l2, neg_entropy and log_barrier, in any number and order.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..domains import Domain, Negative, Reals
from ..numerics import log_linear_root, quadratic_root
from ..piece import Scalar

Coefficients = dict[str, Scalar]

# basis → (name for explain, z with ∇ψ(z) = w)
INVERSES: dict[frozenset[str], tuple[str, Callable[[Tensor, Coefficients], Tensor]]] = {
    frozenset({"linear"}): ("scaling", lambda w, c: w / c["linear"]),
    frozenset({"log"}): ("exponential", lambda w, c: (w / c["log"]).exp()),
    frozenset({"reciprocal"}): ("reciprocal", lambda w, c: -c["reciprocal"] / w),
    frozenset({"linear", "log"}): ("Wright omega", lambda w, c: log_linear_root(w, c["linear"], c["log"])),
    frozenset({"linear", "reciprocal"}): ("squareplus", lambda w, c: quadratic_root(w, c["linear"], c["reciprocal"])),
    # s log z − k/z = w is s log y + k y = −w in y = 1/z
    frozenset({"log", "reciprocal"}): ("Wright omega", lambda w, c: 1 / log_linear_root(-w, c["reciprocal"], c["log"])),
}


def dual_domain(basis: frozenset[str]) -> Domain:
    """The range of ∇ψ: −k/z alone is negative."""
    return Negative() if basis == {"reciprocal"} else Reals()


def add(spans: list[Coefficients]) -> Coefficients:
    """The sum of spans."""
    total: Coefficients = {}
    for span in spans:
        for name, c in span.items():
            total[name] = total[name] + c if name in total else c
    return total
