"""Every law of a divergence catches the fault that it is there for: one planted fault a law."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from faults import assert_caught
from torch import Tensor

from bilevelnet import divergences, legendre
from bilevelnet.testing import check_divergence, divergence


class Off(divergences.Bregman):
    """½(z − z⁻)², with its value changed."""

    def __init__(self, change: Callable[[Tensor, Tensor, Tensor], Tensor], reference: Any = None):
        super().__init__(legendre.Energy(), reference)
        self.change = change

    def value(self, z: Tensor, z_prev: Tensor) -> Tensor:
        return self.change(super().value(z, z_prev), z, z_prev)


class OtherDual(divergences.Bregman):
    """½(z − z⁻)², of which the solvers see another r."""

    def dual(self, z: Tensor, u: Tensor | None) -> Tensor | None:
        return 1.001 * z


# fault: (D, the law that must find it)
FAULTS: dict[str, tuple[Any, str]] = {
    "batches mixed up": (
        lambda: Off(lambda d, z, p: d if d.ndim < 2 else 0.9 * d),
        "one value an event, batches alike",
    ),
    "value of the wrong shape": (lambda: Off(lambda d, z, p: d.sum(-1)), "one value an event, batches alike"),
    "negative": (lambda: Off(lambda d, z, p: d - 1e-3), "D(z, z⁻) ≥ 0"),
    "off by a constant": (lambda: Off(lambda d, z, p: d + 1e-9), "D(z⁻, z⁻) = 0"),
    "flat around z⁻": (lambda: Off(lambda d, z, p: (d - 0.1).clamp(min=0)), "D(z, z⁻) > 0 for z ≠ z⁻"),
    "not convex in z": (lambda: Off(lambda d, z, p: d.log1p()), "D lies below its chords in z"),
    "detached in z": (lambda: Off(lambda d, z, p: (z.detach() - p) ** 2 / 2 + 0 * z), "∂D/∂z by differences"),
    "detached in z⁻": (lambda: Off(lambda d, z, p: (z - p.detach()) ** 2 / 2 + 0 * p), "∂D/∂z⁻ by differences"),
    "a factor": (lambda: Off(lambda d, z, p: 1.001 * d), "∂D/∂z = ∇φ(z) − r"),
    "another r": (lambda: OtherDual(legendre.Energy()), "∂D/∂z = ∇φ(z) − r"),
    "dtype lost": (lambda: Off(lambda d, z, p: d.double()), "float32 agrees with float64"),
    "digits lost in float32": (lambda: Off(lambda d, z, p: (d + 1e3) - 1e3), "float32 agrees with float64"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_divergence(fault: str) -> None:
    make, law = FAULTS[fault]
    assert_caught(check_divergence(make(), raises=False), law)


def test_every_law_of_a_divergence_has_a_fault() -> None:
    assert {law for _, law in FAULTS.values()} == {law.name for law in divergence.LAWS}
