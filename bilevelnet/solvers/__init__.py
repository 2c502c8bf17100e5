"""Solvers: each states which problems it takes, and binds one to a map v ↦ z. ``auto`` is a visible function."""

from typing import TYPE_CHECKING

from ..later import later
from ..maps import Map, Outcome
from .auto import bind, registry
from .base import Solver
from .closed_form import ClosedForm

if TYPE_CHECKING:
    from .conic import Conic
    from .multiplier import Multiplier
    from .newton import Newton
    from .quadratic import Quadratic
    from .scalar import Scalar
    from .splitting import Splitting

__all__ = [
    "ClosedForm",
    "Conic",
    "Map",
    "Multiplier",
    "Newton",
    "Outcome",
    "Quadratic",
    "Scalar",
    "Solver",
    "Splitting",
    "bind",
    "registry",
]
__getattr__ = later(
    __name__,
    {
        "Conic": ".conic",
        "Multiplier": ".multiplier",
        "Newton": ".newton",
        "Quadratic": ".quadratic",
        "Scalar": ".scalar",
        "Splitting": ".splitting",
    },
)
