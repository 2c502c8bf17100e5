"""Problems and layers in other people's notation: cvxpy problems, quadratic programs."""

from __future__ import annotations

from ..later import later

__all__ = ["from_cvxpy"]
__getattr__ = later(
    __name__,
    {
        "from_cvxpy": ".cvxpy_layer",
    },
)
