"""Fenchel-Young losses: (φ + g)*(v) + (φ + g)(y) − ⟨v, y⟩, and the gap of a layer, which is one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import DomainError, InputError
from .legendre import Legendre
from .problem import Prox
from .prox import Bound
from .regularizers import Regularizer, Zero
from .solution import tell
from .solvers import Solver
from .values import at_least_float32, check_floating, readable


class FenchelYoung(nn.Module):
    """L(v, y) = (φ + g)*(v) + (φ + g)(y) − ⟨v, y⟩ ≥ 0, zero exactly where y = prox^φ_g(v); ∇_v L = prox^φ_g(v) − y.

    (boltzmann_shannon, simplex): the cross-entropy of softmax(v); (energy, simplex): the sparsemax loss; (energy, 0):
    ½‖v − y‖²; (fermi_dirac, 0): the logistic loss (Blondel, Martins & Niculae, 2020). v and y have one shape; the loss
    has one value an event, an entry where φ and g are separable: average it. Where v has no minimiser (φ + g)* is
    infinite: SolveError; where y leaves dom φ ∩ dom g the loss is: DomainError, both as ``on_failure`` says ("nan":
    NaN, "warn" and "ignore": ∞ for such a y). Derivatives in v, y and the weights, exact to second order.
    """

    def __init__(
        self, phi: Legendre, g: Regularizer | None = None, solver: str | Solver = "auto", on_failure: str = "raise"
    ):
        super().__init__()
        self.phi, self.g = phi, Zero() if g is None else g
        self.bound = Bound(self.phi, self.g, solver, on_failure)

    def forward(self, v: Tensor, y: Tensor) -> Tensor:
        prox = self.bound.prox
        self.bound.check_point(v)
        if isinstance(y, Tensor) and y.shape != v.shape:
            raise InputError(
                f"y has shape {tuple(y.shape)}, v {tuple(v.shape)}: they are points of one space; "
                f"for class indices torch.nn.functional.one_hot(y, n).to(v.dtype)"
            )
        check_floating(y, "y")
        wide = at_least_float32(v)
        z = self.bound.apply(wide, wide.dtype, prox.dims)
        return excess(prox, wide, y.to(wide.dtype), z, self.bound.on_failure, "y").to(v.dtype)

    def extra_repr(self) -> str:
        return self.bound.map.explain()


def fenchel_young(
    phi: Legendre, g: Regularizer | None = None, solver: str | Solver = "auto", on_failure: str = "raise"
) -> FenchelYoung:
    """The loss (v, y) ↦ (φ + g)*(v) + (φ + g)(y) − ⟨v, y⟩ as a module; see ``FenchelYoung``."""
    return FenchelYoung(phi, g, solver, on_failure)


def excess(prox: Prox, v: Tensor, y: Tensor, z: Tensor, on_failure: str, name: str) -> Tensor:
    """By how much the objective φ + g − ⟨·, v⟩ at y exceeds its minimum, which z attains; one value an event.

    As a sum of differences, (φ(y) − φ(z)) + (g(y) − g(z)) − ⟨v, y − z⟩, it keeps its digits where y is near z. z
    carries its graph: on a constraint that moves with a weight the minimum moves too. Where ∇φ(z) is infinite it has
    none, and needs none.
    """
    phi, g, dims = prox.phi, prox.g, prox.dims
    held = [(d.contains(y), d.event_ndim) for d in (phi.domain, g.domain)]
    first, second = (h.all(dims) if n == 0 and dims else h for h, n in held)
    inside = first & second
    if on_failure in ("raise", "warn") and readable(inside) and not bool(inside.all()):
        where = f"{phi.domain} of {phi.label}" + ("" if g.domain == phi.domain else f" and {g.domain} of {g.label}")
        tell(
            None,
            DomainError(
                f"{name} leaves {where} in {int((~inside).sum())} of {inside.numel()} elements, first at "
                f"{tuple((~inside).nonzero()[0].tolist())}, where the objective is infinite: move it inside"
            ),
            on_failure,
        )
    finite = phi.differentiable(z)
    z = torch.where(finite.reshape(finite.shape + (1,) * (z.ndim - finite.ndim)), z, z.detach())
    y = torch.where(_kept(inside, dims), y, z.detach())
    masked = (v == -torch.inf) & (y == z)
    terms = [
        (phi.value(y) - phi.value(z), phi.event_ndim),
        (g.value(y) - g.value(z), g.event_ndim),
        (-torch.where(masked, 0.0, v) * (y - z), 0),
    ]
    total = sum(t.sum(dims) if n == 0 and dims else t for t, n in terms)
    outside = torch.nan if on_failure == "nan" or not readable(v, y) else torch.inf
    return torch.where(inside, total, outside)  # type: ignore[arg-type, return-value]


def _kept(mask: Tensor, dims: tuple[int, ...]) -> Tensor:
    """A mask of events with their dimensions as 1."""
    for d in sorted(dims, reverse=True):
        mask = mask.unsqueeze(d)
    return mask
