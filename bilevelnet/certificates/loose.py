"""The conic solver as a loose witness, where no independent solution is known."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ..comparison import Row
from ..errors import InputError
from ..legendre import Legendre
from ..prox import bregman_prox
from ..regularizers import Regularizer
from ..solvers import bind
from . import laws

LOOSE = 1e-4


def conic(phi: Legendre, g: Regularizer, v: Tensor, z: Tensor) -> Iterator[Row]:
    """z against cvxpy's solution at a few v, and the laws; InputError where cvxpy cannot state the problem."""
    solver, few = bind(phi, g, "auto")[0].name, slice(0, 6)
    unknown = f"{phi.label} + {g.label} is solved by the {solver} solver, and nothing independent is known beside it"
    if solver == "conic":
        raise InputError(unknown)
    try:
        witness = bregman_prox(phi, g, v[few], solver="conic", on_failure="nan")
    except InputError as refusal:
        raise InputError(f"{unknown}: {refusal}. Its residual is that of layer.solve(z_prev)") from refusal
    good = witness.isfinite().flatten(1).all(1)
    error = (witness - z[few]).abs().flatten(1).amax(1)[good]
    size = 1 + z[few].abs().flatten(1).amax(1)[good]
    reason = "1e-4: the conic solver's own accuracy"
    yield Row.of("value against the conic solver, loose", error, LOOSE * size, {"v": v[few][good]}, reason)
    yield from laws.rows(phi, g, v, z)
