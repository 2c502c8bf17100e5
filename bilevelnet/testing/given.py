"""What the laws are asked of: an instance of the right kind, or an error that says which check takes it."""

from __future__ import annotations

from typing import Any

from ..divergences import Divergence
from ..errors import InputError
from ..layer import BilevelLayer
from ..legendre import Legendre
from ..regularizers import Regularizer

CHECKS = {
    Legendre: "check_legendre",
    Regularizer: "check_regularizer",
    Divergence: "check_divergence",
    BilevelLayer: "check_layer",
}


def expect(value: Any, kind: type, by: str) -> None:
    """InputError unless the value is an instance of the kind; ``by`` names who asks for it."""
    if isinstance(value, kind):
        return
    if isinstance(value, type):
        raise InputError(f"{by} takes an instance of {kind.__name__}, not the class: give {value.__name__}(…)")
    found = next((f"; {name} takes it" for known, name in CHECKS.items() if isinstance(value, known)), "")
    raise InputError(f"{by} takes an instance of {kind.__name__}, not {type(value).__name__}{found}")
