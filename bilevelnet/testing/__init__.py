"""The laws that a φ, a g, a closed form and a layer must obey, for users' own pieces too.

``check_legendre(phi)``, ``check_regularizer(g)``, ``check_closed_form(phi, g)`` and ``check_layer(layer)`` return a
``Report`` and raise AssertionError with its table and a counterexample where a law fails. The hypothesis strategies are
in ``bilevelnet.testing.strategies``, which needs the extra ``testing``.
"""

from .closed_form import check_closed_form
from .layer import check_layer
from .legendre import check_legendre
from .regularizer import check_regularizer
from .report import Report, Row

__all__ = ["Report", "Row", "check_closed_form", "check_layer", "check_legendre", "check_regularizer"]
