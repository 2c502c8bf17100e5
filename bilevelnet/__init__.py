"""bilevelnet: layers z⁺ = argmin_z f(z, z⁻) + D(z, z⁻) + g(z) as torch modules."""

from typing import TYPE_CHECKING

from . import couplings, divergences, domains, legendre, regularizers, solvers
from .chain import Chain
from .errors import DomainError, InputError, SolveError
from .later import later
from .layer import BilevelLayer
from .losses import FenchelYoung, fenchel_young
from .prox import bregman_prox, solve_prox
from .solution import Solution, Status

if TYPE_CHECKING:
    from . import interop, models

__version__ = "0.1.0"

__all__ = [
    "BilevelLayer",
    "Certificate",
    "Chain",
    "DomainError",
    "FenchelYoung",
    "InputError",
    "Solution",
    "SolveError",
    "Status",
    "bregman_prox",
    "certificates",
    "couplings",
    "divergences",
    "domains",
    "fenchel_young",
    "from_activation",
    "from_cvxpy",
    "interop",
    "legendre",
    "models",
    "regularizers",
    "solve_prox",
    "solvers",
    "verify",
]


__getattr__ = later(
    __name__,
    {
        "Certificate": ".certificates",
        "certificates": ".certificates",
        "from_activation": ".certificates.activation",
        "from_cvxpy": ".interop",
        "interop": ".interop",
        "models": ".models",
        "testing": ".testing",
        "verify": ".certificates",
    },
)
