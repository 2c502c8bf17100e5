"""A layer as a problem of cvxpy: the way back from BilevelLayer.from_cvxpy."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from ..couplings import Affine, Bilinear
from ..divergences import Bregman
from ..divergences.references import Identity, RowStochastic, Zero
from ..errors import InputError
from ..layer import BilevelLayer
from ..legendre import BoltzmannShannon, Energy, FermiDirac, Transformed
from ..regularizers.base import as_pair
from ..solvers.conic import for_cvxpy


class Written(NamedTuple):
    """A cvxpy problem whose ``variable`` is z⁺ where the parameter ``previous`` is z⁻.

    ``learned``: W, b and the learned weights of the pieces as parameters, their values set. ``dual``: a parameter that
    must be given the dual of the reference point, layer.divergence.dual(z⁻, None), or None where D is written in z⁻.
    """

    problem: Any
    variable: Any
    previous: Any
    learned: list[Any]
    dual: Any = None


def to_cvxpy(layer: BilevelLayer) -> Written:
    """min −⟨y, z⁻⟩ − ⟨z, b⟩ + D(z, z⁻) + g(z) with y = W'z, which is DPP in z⁻, W and b.

    D_φ is written in z⁻ for φ = ½‖·‖² and the entropies with a kl_div (then BilevelLayer.from_cvxpy reads the problem
    back), else as φ(z) − ⟨z, u⟩ with u = ``dual``. Raises InputError for a layer with a coupling other than linear, or
    a piece without a cvxpy expression.
    """
    import cvxpy as cp

    weight, bias = _linear(layer)
    reference, learned, dual = layer.divergence.reference, list[Any](), None
    width, size = weight.shape[1], weight.shape[0]
    z, z_prev, y = cp.Variable(size, name="z"), cp.Parameter(width, name="z_prev"), cp.Variable(width, name="Wz")

    def parameter(value: Tensor, name: str, nonneg: bool = False) -> Any:
        numbers = value.detach().double().cpu().numpy()
        if not value.requires_grad:
            return numbers
        learned.append(cp.Parameter(numbers.shape, name=name, nonneg=nonneg, value=numbers))
        return learned[-1]

    def weight_of(module: Any, name: str) -> Any:
        value = getattr(module, name)
        if value.ndim > 1:
            raise InputError(
                f"{module.label}.{name} has shape {tuple(value.shape)}: one number, or one an entry, is written"
            )
        nonneg = getattr(type(module), name).low >= 0
        return parameter(value.squeeze(-1) if value.shape[-1:] == (1,) else value, f"{name}_{len(learned)}", nonneg)

    phi, g = for_cvxpy((layer.problem.phi, layer.problem.prox.g), weight_of)
    f = -(y @ z_prev)
    if bias is not None:
        f -= z @ parameter(bias, "b")
    if isinstance(reference, Zero):
        distance = phi.expression(z)
    else:
        point = _point(reference, z_prev)
        distance = None if point is None else _distance(phi, z, point)
    if distance is None:
        dual = cp.Parameter(size, name="u_prev")
        distance = phi.expression(z) - z @ dual
    value, constraints = as_pair(g.expression(z))
    defined = y == parameter(weight, "W").T @ z
    problem = cp.Problem(cp.Minimize(f + distance + value), [defined, *constraints])
    return Written(problem, z, z_prev, learned, dual)


def _linear(layer: BilevelLayer) -> tuple[Tensor, Tensor | None]:
    """W and b."""
    if not isinstance(layer, BilevelLayer):
        raise InputError(f"to_cvxpy takes a BilevelLayer, not a {type(layer).__name__}")
    if not isinstance(layer.divergence, Bregman):
        raise InputError(f"{type(layer.divergence).__name__} is written for no D but Bregman")
    coupling: Any = layer.coupling
    linear = coupling.module if isinstance(coupling, Affine) else coupling
    if not isinstance(linear, (Bilinear, nn.Linear)):
        raise InputError(f"the coupling {type(linear).__name__} is not linear: W z⁻ + b is what is written")
    return linear.weight, linear.bias


def _point(reference: Any, z_prev: Any) -> Any:
    """R z⁻, or None where R acts on ∇φ(z⁻)."""
    if isinstance(reference, Identity):
        return z_prev
    if isinstance(reference, RowStochastic):
        return reference.weight.detach().double().cpu().numpy() @ z_prev
    return None


def _distance(phi: Any, z: Any, point: Any) -> Any:
    """D_φ(z, point), convex in both; None where cvxpy has no atom for it."""
    import cvxpy as cp

    if isinstance(phi, Energy):
        return phi.scale / 2 * cp.sum_squares(z - point)
    if isinstance(phi, BoltzmannShannon):
        return cp.sum(cp.kl_div(z, point))
    if isinstance(phi, FermiDirac):
        return cp.sum(cp.kl_div(z, point) + cp.kl_div(1 - z, 1 - point))
    if isinstance(phi, Transformed) and phi._plain:
        inner = _distance(phi.phi, z, point)
        return None if inner is None else phi.weight * inner
    return None
