"""φ: one file a Legendre function. An export line here is what registers it."""

# ruff: noqa: F401 (each import is an export: __all__ and the registry are read off the namespace)

from typing import TYPE_CHECKING, Any

from ..later import later
from ..piece import build, registry_of
from .atan import Atan
from .ball import BallHellinger, BallLogBarrier
from .base import Legendre, Separable
from .boltzmann_shannon import BoltzmannShannon
from .burg import Burg
from .cosh import Cosh
from .elu import Elu
from .energy import Energy
from .exponential import Exponential
from .fermi_dirac import FermiDirac
from .hellinger import Hellinger
from .hypentropy import Hypentropy
from .input_convex import InputConvex
from .isrlu import Isrlu
from .leaky_relu import LeakyRelu
from .log_cosh import LogCosh
from .mahalanobis import Mahalanobis
from .norm_power import NormPower
from .normal_cdf import NormalCdf
from .power import Power
from .softplus import Softplus
from .softsign import Softsign
from .spectral import LogDet, Spectral, VonNeumann
from .squareplus import Squareplus
from .symlog import Symlog
from .tanh import Tanh
from .tanh_mixture import TanhMixture
from .total import Total
from .transformed import Transformed
from .tsallis import Tsallis

if TYPE_CHECKING:
    from .activation import ActivationPotential

__all__ = ["get", "registry", *(n for n, c in globals().items() if isinstance(c, type) and issubclass(c, Legendre))]

registry: dict[str, type[Legendre]] = registry_of(globals(), Legendre)


def get(key: str, **params: Any) -> Legendre:
    """The Legendre function of that name; InputError lists the known names and parameters."""
    return build(registry, "Legendre function", key, params)


__getattr__ = later(__name__, {"ActivationPotential": ".activation"})  # its quadrature is for the few who ask for it
