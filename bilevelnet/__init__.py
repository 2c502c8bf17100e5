"""bilevelnet: layers z⁺ = argmin_z f(z, z⁻) + D(z, z⁻) + g(z) as torch modules."""

from typing import Any

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
    "legendre",
    "models",
    "regularizers",
    "solve_prox",
    "solvers",
    "verify",
]


# Loaded when used: name, module, and what of it.
_LATER = {
    "Certificate": (".certificates", "Certificate"),
    "certificates": (".certificates", None),
    "from_activation": (".certificates.activation", "from_activation"),
    "testing": (".testing", None),
    "verify": (".certificates", "verify"),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, attribute = _LATER[name]
    found = importlib.import_module(module, __name__)
    return found if attribute is None else getattr(found, attribute)
