"""Three moves: absorb a smooth term into φ, select on the piecewise-linear part, shift by one multiplier."""

from . import known_pairs  # noqa: F401 (registers its rules)
from .absorb import Absorbed, known
from .plan import ClosedFormMap, plan

__all__ = ["Absorbed", "ClosedFormMap", "known", "plan"]
