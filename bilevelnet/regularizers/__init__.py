"""g: one file a regularizer. An export line here is what registers it."""

# ruff: noqa: F401 (each import is an export: __all__ and the registry are read off the namespace)

from typing import Any

from ..piece import build, registry_of
from .affine_set import AffineSet
from .balls import L1Ball, L2Ball
from .base import Regularizer, Separable, Smooth
from .box import Box, LinfBall, Nonneg
from .calculus import Scaled, Sum
from .entropy import LogBarrier, NegEntropy
from .excess import Excess
from .group_norms import GroupLasso, L2Norm, SparseGroup
from .hinge import Deadzone, Hinge
from .huber import Huber
from .input_convex import InputConvex, InputConvexVector
from .l1 import L1, L1Box
from .linf_norm import LinfNorm
from .nuclear import Nuclear, Nuclear2x2, PsdTrace
from .piecewise_linear import PiecewiseLinear
from .precompose import Precomposed
from .quantile import Quantile
from .simplex import CappedSimplex, Simplex
from .squared_l2 import ElasticNet, SquaredL2
from .translate import Translated
from .tv1d import TV1d
from .zero import Zero

__all__ = ["get", "registry", *(n for n, c in globals().items() if isinstance(c, type) and issubclass(c, Regularizer))]

registry: dict[str, type[Regularizer]] = registry_of(globals(), Regularizer)


def get(key: str, **params: Any) -> Regularizer:
    """The regularizer of that name; InputError lists the known names and parameters."""
    return build(registry, "regularizer", key, params)
