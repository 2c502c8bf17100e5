"""Problems and layers in other people's notation: cvxpy problems, quadratic programs, residuals, maps, nodes."""

from __future__ import annotations

from ..later import later

__all__ = ["from_cvxpy", "from_fixed_point", "from_optimality"]
__getattr__ = later(
    __name__,
    {
        "from_cvxpy": ".cvxpy_layer",
        "from_fixed_point": ".fixed_point",
        "from_optimality": ".fixed_point",
    },
)
