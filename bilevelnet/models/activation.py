"""From the name of an activation, a module, a function or a φ to the pair (φ, g) with ρ = prox^φ_g."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from ..legendre import (
    Elu,
    Energy,
    FermiDirac,
    LeakyRelu,
    Legendre,
    Softplus,
    Softsign,
    Tanh,
    registry,
)
from ..regularizers import L1, Box, Nonneg, Regularizer, Zero

Pair = tuple[Legendre, Regularizer | None]
Activation = str | Legendre | nn.Module | Callable[[Tensor], Tensor] | tuple[Legendre, Regularizer | None]

# What people call these functions, where that is not φ's own key.
NAMES: dict[str, Callable[[], Pair]] = {
    "identity": lambda: (Energy(), None),
    "isru": lambda: (registry["hellinger"](), None),
    "relu": lambda: (Energy(), Nonneg()),
    "sigmoid": lambda: (FermiDirac(), None),
}


def _of_slope(slope: float | Tensor) -> Pair:
    return (Energy(), Nonneg()) if isinstance(slope, float) and slope == 0 else (LeakyRelu(slope), None)


def _prelu(m: nn.PReLU) -> Pair:
    weight = m.weight.detach()
    return _of_slope(float(weight) if weight.numel() == 1 else weight.clone())


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

MODULES: dict[type[nn.Module], Callable[[Any], Pair]] = {
    nn.CELU: lambda m: (m.alpha**2 * Elu().affine(scale=m.alpha), None),
    nn.ELU: lambda m: (Elu(m.alpha), None),
    nn.Hardsigmoid: lambda m: (Energy(6.0).affine(shift=0.5), Box(0.0, 1.0)),
    nn.Hardtanh: lambda m: (Energy(), Box(m.min_val, m.max_val)),
    nn.Identity: lambda m: (Energy(), None),
    nn.LeakyReLU: lambda m: _of_slope(float(m.negative_slope)),
    nn.PReLU: _prelu,
    nn.ReLU: lambda m: (Energy(), Nonneg()),
    nn.ReLU6: lambda m: (Energy(), Box(0.0, 6.0)),
    nn.SELU: lambda m: (SELU_SCALE * Elu(SELU_ALPHA).affine(scale=SELU_SCALE), None),
    nn.Sigmoid: lambda m: (FermiDirac(), None),
    nn.Softplus: lambda m: (Softplus(m.beta), None),
    nn.Softshrink: lambda m: (Energy(), L1(m.lambd)),
    nn.Softsign: lambda m: (Softsign(), None),
    nn.Tanh: lambda m: (Tanh(), None),
}


def pair_of(activation: Activation, split: str = "bregman") -> Pair:
    """(φ, g) of a φ (g = 0, None), a pair (φ, g), the name of an activation or of a φ, a torch module or a function.

    What no table has is recovered from its values by ``from_activation``, in the ``split`` given, and computed by the
    function itself. Raises InputError, with the list of what is known, for a name that is not, and with a
    counterexample for a function that is no prox, as GELU.
    """
    if isinstance(activation, Legendre):
        return activation, None
    if isinstance(activation, tuple):
        if len(activation) == 2 and isinstance(activation[0], Legendre):
            return activation
        raise InputError("a pair is (φ, g), e.g. (bilevelnet.legendre.Energy(), bilevelnet.regularizers.Nonneg())")
    if isinstance(activation, str):
        if activation in NAMES:
            return NAMES[activation]()
        if activation in registry:
            return registry[activation](), None
        raise InputError(f"unknown activation {activation!r}; known: {', '.join(sorted({*NAMES, *registry}))}")
    kind: Any = type(activation)
    if kind in MODULES:
        return MODULES[kind](activation)
    if isinstance(activation, type) or not callable(activation):
        what = f"the class {activation.__name__}" if isinstance(activation, type) else repr(activation)
        raise InputError(
            f"an activation is a name, an instance as torch.nn.Tanh(), a function, φ or (φ, g), not {what}"
        )
    from ..certificates.activation import from_activation  # reaches up: it recovers φ and g from values

    phi, g = from_activation(activation, split, stated=True)
    return phi, None if isinstance(g, Zero) else g
