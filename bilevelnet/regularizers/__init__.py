"""g: one file a regularizer. An export line here is what registers it."""

from typing import Any

from ..piece import build, registry_of
from .base import Regularizer, Separable, Smooth, Sum
from .box import Box, Nonneg
from .l1 import L1
from .piecewise_linear import PiecewiseLinear
from .quantile import Quantile
from .simplex import Simplex
from .squared_l2 import ElasticNet, SquaredL2
from .zero import Zero

__all__ = [
    "L1",
    "Box",
    "ElasticNet",
    "Nonneg",
    "PiecewiseLinear",
    "Quantile",
    "Regularizer",
    "Separable",
    "Simplex",
    "Smooth",
    "SquaredL2",
    "Sum",
    "Zero",
    "get",
    "registry",
]

registry: dict[str, type[Regularizer]] = registry_of(globals(), Regularizer)


def get(key: str, **params: Any) -> Regularizer:
    """The regularizer of that name; InputError lists the known names and parameters."""
    return build(registry, "regularizer", key, params)
