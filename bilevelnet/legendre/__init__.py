"""φ: one file a Legendre function. An export line here is what registers it."""

from typing import Any

from ..piece import build, registry_of
from .atan import Atan
from .base import Legendre, Separable
from .boltzmann_shannon import BoltzmannShannon
from .energy import Energy
from .fermi_dirac import FermiDirac
from .hellinger import Hellinger
from .softplus import Softplus
from .squareplus import Squareplus
from .tanh import Tanh

__all__ = [
    "Atan",
    "BoltzmannShannon",
    "Energy",
    "FermiDirac",
    "Hellinger",
    "Legendre",
    "Separable",
    "Softplus",
    "Squareplus",
    "Tanh",
    "get",
    "registry",
]

registry: dict[str, type[Legendre]] = registry_of(globals(), Legendre)


def get(key: str, **params: Any) -> Legendre:
    """The Legendre function of that name; InputError lists the known names and parameters."""
    return build(registry, "Legendre function", key, params)
