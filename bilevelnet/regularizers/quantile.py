"""g(z) = λ max(τz, (τ − 1)z), the quantile or pinball function."""

from __future__ import annotations

from collections.abc import Sequence

from ..piece import Scalar, Strength, Weight
from .piecewise_linear import Piecewise


class Quantile(Piecewise):
    """g(z) = λ max(τz, (τ − 1)z), 0 < τ < 1; conjugate the indicator of λ(τ − 1) ≤ y ≤ λτ.

    Raises InputError unless λ ≥ 0 and 0 < τ < 1.
    """

    key = "quantile"
    slope_names = ("λ(τ − 1)", "λτ")
    homogeneous = True
    examples = ({"lam": 1.0, "tau": 0.3},)
    lam, tau = Strength(), Weight(low=0, high=1)

    def __init__(self, lam: Scalar = 1.0, tau: Scalar = 0.5):
        super().__init__()
        self.lam, self.tau = lam, tau

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return (0.0,), (self.lam * (self.tau - 1), self.lam * self.tau)
