"""Solvers: each states which problems it takes, and binds one to a map v ↦ z. ``auto`` is a visible function."""

from ..maps import Map, Outcome
from .auto import bind, registry
from .base import Solver
from .closed_form import ClosedForm
from .conic import Conic
from .multiplier import Multiplier
from .scalar import Scalar

__all__ = ["ClosedForm", "Conic", "Map", "Multiplier", "Outcome", "Scalar", "Solver", "bind", "registry"]
