"""Problems and layers in other people's notation: cvxpy problems, quadratic programs, residuals, maps, nodes."""

from typing import TYPE_CHECKING

from ..later import later

if TYPE_CHECKING:
    from .quadratic import Multipliers, QPLayer, qp, solve_qp

__all__ = [
    "Multipliers",
    "QPLayer",
    "from_cvxpy",
    "from_declarative",
    "from_fixed_point",
    "from_optimality",
    "qp",
    "solve_qp",
    "to_cvxpy",
]
__getattr__ = later(
    __name__,
    {
        "Multipliers": ".quadratic",
        "QPLayer": ".quadratic",
        "from_cvxpy": ".cvxpy_layer",
        "from_declarative": ".declarative",
        "from_fixed_point": ".fixed_point",
        "from_optimality": ".fixed_point",
        "qp": ".quadratic",  # in a module of another name: loaded, it would take the function's place
        "solve_qp": ".quadratic",
        "to_cvxpy": ".cvxpy_write",
    },
)
