"""The rows of the theorem: z⁺ = prox^φ_g(∇φ(R z⁻) + A(z⁻)) and its five cases."""

from __future__ import annotations

from ..couplings import Affine, Bilinear
from ..divergences import Dual, Identity, Reference, RowStochastic, Zero
from ..layer import BilevelLayer
from ..legendre import Energy, Legendre
from ..regularizers import Regularizer

STATEMENTS = {
    "i": "φ = ½‖·‖²: z⁺ = prox_g({r}{a}), the multilayer perceptron with activation prox_g",
    "ii": "g = 0: z⁺ = ρ({r}{a}), ρ = ∇φ*",
    "iii": "g ≠ 0: z⁺ = prox^φ_g({r}{a}); the residual term is ∇φ, not the inverse of the activation",
    "iv": "the residual block: z⁺ = {map}({r}A(z⁻)), A a module",
    "v": "W = 0, b = 0, g = 0: z⁺ = z⁻, the identity",
}


def row_of(layer: BilevelLayer) -> str:
    """The case that the layer is an instance of, "i" to "v": the first that fits of v, iv, i, ii, iii."""
    coupling = layer.coupling
    euclidean, free = _euclidean(layer.divergence.phi), not layer.regularizer.terms()
    if isinstance(coupling, Bilinear):
        nothing = not any(bool(p.detach().any()) for p in coupling.parameters())
        if nothing and free and isinstance(layer.divergence.reference, Identity):
            return "v"
    if isinstance(coupling, Affine):
        return "iv"
    return "i" if euclidean else "ii" if free else "iii"


def statement(layer: BilevelLayer) -> str:
    """The case in words and formula, with the layer's own residual term."""
    row, phi, g = row_of(layer), layer.divergence.phi, layer.regularizer
    term = "W z⁻ + b" if isinstance(layer.coupling, Bilinear) else "A(z⁻)"
    how = "ρ" if not g.terms() else "prox_g" if _euclidean(phi) else "prox^φ_g"
    text = STATEMENTS[row].format(r=_residual(layer.divergence.reference, _euclidean(phi)), a=term, map=how)
    return f"theorem, row {row}: {text}"


def of_pair(phi: Legendre, g: Regularizer) -> str:
    """The row that a layer of this pair belongs to, A bilinear."""
    return "i" if _euclidean(phi) else "iii" if g.terms() else "ii"


def _euclidean(phi: Legendre) -> bool:
    return isinstance(phi, Energy) and isinstance(phi.scale, float) and phi.scale == 1.0


def _residual(reference: Reference, euclidean: bool) -> str:
    names = {Identity: "∇φ(z⁻) + ", RowStochastic: "∇φ(R z⁻) + ", Dual: "L ∇φ(z⁻) + ", Zero: ""}
    plain = {Identity: "z⁻ + ", RowStochastic: "R z⁻ + ", Dual: "L z⁻ + ", Zero: ""}
    return (plain if euclidean else names).get(type(reference), "r(z⁻) + ")
