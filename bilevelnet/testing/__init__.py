"""The laws that a φ, a g, a D, a closed form and a layer must obey, for users' own pieces too.

``check_legendre(phi)``, ``check_regularizer(g)``, ``check_divergence(divergence)``, ``check_closed_form(phi, g)`` and
``check_layer(layer)`` return a ``Report`` and raise AssertionError with its table and a counterexample where a law
fails. ``LegendreLaws`` and its like are the same for pytest, one test a law: inherit and set ``piece``. The hypothesis
strategies are in ``bilevelnet.testing.strategies``, which needs the extra ``testing``.
"""

from ..comparison import Row
from .closed_form import check_closed_form
from .divergence import check_divergence
from .layer import check_layer
from .legendre import check_legendre
from .regularizer import check_regularizer
from .report import Report
from .suites import ClosedFormLaws, DivergenceLaws, LayerLaws, LegendreLaws, RegularizerLaws

__all__ = [
    "ClosedFormLaws",
    "DivergenceLaws",
    "LayerLaws",
    "LegendreLaws",
    "RegularizerLaws",
    "Report",
    "Row",
    "check_closed_form",
    "check_divergence",
    "check_layer",
    "check_legendre",
    "check_regularizer",
]
