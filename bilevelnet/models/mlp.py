"""The multilayer perceptrons of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from ..chain import Chain
from ..couplings import Bilinear
from ..divergences import Bregman, Dual, Reference, Zero
from ..errors import InputError
from ..layer import BilevelLayer
from ..legendre import Energy, Legendre
from ..regularizers import Excess, Regularizer
from .activation import Activation, pair_of

VERSIONS = ("bregman", "euclidean", "standard")
INITS = ("random", "zero", "identity")


class BregmanMLP(Chain):
    """Layers of widths d_0 → d_1 → … with ρ = prox^φ_g, which is ∇φ* where g = 0.

    ============  ============================  ==========================================================
    version       layer                         as z⁺ = argmin f + D + g
    ============  ============================  ==========================================================
    "bregman"     ρ(∇φ(z⁻) + W z⁻ + b)          D = D_φ; ∇φ = ρ⁻¹ where g = 0
    "euclidean"   ρ(z⁻ + W z⁻ + b)              D = ½‖z − z⁻‖², regularizer φ + g − ½‖·‖², whose prox is ρ
    "standard"    ρ(W z⁻ + b)                   D = φ: reference Zero
    ============  ============================  ==========================================================

    ``activation``: a name ("tanh", "atan", "relu", any key of bilevelnet.legendre), a module or function, φ, or (φ, g);
    g may be given apart. A module's parameters count as they are, in eval mode, and are not trained: to learn an
    activation give a φ with learned weights, e.g. LeakyRelu(nn.Parameter(...)). Where widths differ, what the residual
    adds is L ∇φ(z⁻) or L z⁻, L a learned linear map that starts as the identity padded with zeros. ``init``: "random",
    as torch.nn.Linear; "zero", W = 0 and b = 0; and
    "identity", b = 0 and of W what makes W z⁻ and the residual together the identity: W = I for the standard version,
    W = 0 for the others. Raises InputError for fewer than two widths, an unknown name, and "euclidean" where φ − ½‖·‖²
    is not convex, so that ρ is no Euclidean prox.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: Activation,
        g: Regularizer | None = None,
        version: str = "bregman",
        init: str = "random",
        on_failure: str = "raise",
    ):
        if not isinstance(widths, Sequence) or len(widths) < 2:
            raise InputError(f"widths are d_0, d_1, …: at least two, not {widths}")
        if not all(isinstance(d, int) and d >= 1 for d in widths):
            raise InputError(f"widths are whole numbers, at least 1, not {list(widths)}")
        for what, value, known in (("version", version, VERSIONS), ("init", init, INITS)):
            if value not in known:
                raise InputError(f"unknown {what} {value!r}; known: {', '.join(known)}")
        phi, own = pair_of(activation, "euclidean" if version == "euclidean" else "bregman")
        if own is not None and g is not None:
            raise InputError(f"the activation is ({phi.label}, {own.label}) and brings its own g: give φ + another g")
        g = own if g is None else g
        if version == "euclidean":
            phi, g = euclidean(phi, g)
        layers = []
        for d_in, d_out in pairwise(widths):
            reference: Reference | None = None
            if version == "standard":
                reference = Zero()
            elif d_in != d_out:
                reference = Dual(_padding(d_in, d_out))
            coupling = Bilinear(d_in, d_out)
            if init != "random":
                nn.init.zeros_(coupling.bias)
                start = nn.init.eye_ if (version, init) == ("standard", "identity") else nn.init.zeros_
                start(coupling.weight)
            layers.append(BilevelLayer(coupling, Bregman(phi, reference), g))
        super().__init__(*layers, on_failure=on_failure)


def euclidean(phi: Legendre, g: Regularizer | None) -> tuple[Legendre, Regularizer | None]:
    """The same ρ with ½‖·‖² for φ: prox^φ_g = prox of φ + g − ½‖·‖²."""
    if type(phi) is Energy and isinstance(phi.scale, float) and phi.scale == 1:
        return phi, g
    excess = Excess(phi)
    return Energy(), excess if g is None else excess + g


def _padding(d_in: int, d_out: int) -> nn.Linear:
    linear = nn.Linear(d_in, d_out, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(d_out, d_in))
    return linear
