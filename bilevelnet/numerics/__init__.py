"""Scalar functions and linear algebra that know nothing of f, D and g."""

from .attach import attach
from .dilogarithm import dilogarithm
from .roots import log_linear_root, quadratic_root, wright_omega
from .select import select
from .simplex import simplex_threshold

__all__ = ["attach", "dilogarithm", "log_linear_root", "quadratic_root", "select", "simplex_threshold", "wright_omega"]
