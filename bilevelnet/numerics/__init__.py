"""Scalar functions and linear algebra that know nothing of f, D and g."""

from .attach import attach
from .balls import l1_threshold, project_capped, project_l1_ball
from .crossing import normal_level
from .differences import expm1, expm1_minus, log1p_minus, log_cosh, two_sided_entropy
from .dilogarithm import dilogarithm
from .exponential_roots import exp_linear_root, expm1_linear_root
from .hypotenuse import hypotenuse
from .norms import group_norms, norm
from .positive_part import positive_part
from .powers import norm_with_one, radial_power, root_of_square_plus, signed_power
from .roots import log_linear_root, log_reciprocal_root, quadratic_root, wright_omega
from .select import select
from .simplex import project_simplex, simplex_threshold
from .spectral import derivative_along, matrix_function, trace_function
from .total_variation import tv_prox

__all__ = [
    "attach",
    "derivative_along",
    "dilogarithm",
    "exp_linear_root",
    "expm1",
    "expm1_linear_root",
    "expm1_minus",
    "group_norms",
    "hypotenuse",
    "l1_threshold",
    "log1p_minus",
    "log_cosh",
    "log_linear_root",
    "log_reciprocal_root",
    "matrix_function",
    "norm",
    "norm_with_one",
    "normal_level",
    "positive_part",
    "project_capped",
    "project_l1_ball",
    "project_simplex",
    "quadratic_root",
    "radial_power",
    "root_of_square_plus",
    "select",
    "signed_power",
    "simplex_threshold",
    "trace_function",
    "tv_prox",
    "two_sided_entropy",
    "wright_omega",
]
