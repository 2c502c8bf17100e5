"""bilevelnet: layers z⁺ = argmin_z f(z, z⁻) + D(z, z⁻) + g(z) as torch modules."""

from . import couplings, divergences, domains, legendre, models, regularizers, solvers
from .chain import Chain
from .errors import DomainError, InputError, SolveError
from .layer import BilevelLayer
from .losses import FenchelYoung, fenchel_young
from .prox import bregman_prox, solve_prox
from .solution import Solution, Status

__version__ = "0.1.0"

__all__ = [
    "BilevelLayer",
    "Chain",
    "DomainError",
    "FenchelYoung",
    "InputError",
    "Solution",
    "SolveError",
    "Status",
    "bregman_prox",
    "couplings",
    "divergences",
    "domains",
    "fenchel_young",
    "legendre",
    "models",
    "regularizers",
    "solve_prox",
    "solvers",
]


def __getattr__(name: str) -> object:
    if name == "testing":  # the laws load when they are used
        import importlib

        return importlib.import_module(".testing", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
