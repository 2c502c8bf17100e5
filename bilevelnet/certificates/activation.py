"""From an activation to the pair (φ, g) of which it is the proximal map."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..legendre import Energy, Legendre
from ..legendre.activation import as_double, name_of
from ..models.activation import MODULES
from ..regularizers import Excess, Regularizer, Zero
from .activation_pieces import recovered
from .activation_profile import Activation, profile
from .activation_vectors import VECTORS, check_vector_map, is_entrywise, is_softmax

Pair = tuple[Legendre, Regularizer]
SPLITS = ("bregman", "euclidean")


def from_activation(activation: Activation, split: str = "bregman", stated: bool = False) -> Pair:
    """(φ, g) with prox^φ_g = ρ, the activation: a torch.nn module or any callable on tensors, entry by entry.

    ``split="bregman"``: as much as can be in φ. A strictly increasing ρ has g = 0 and φ = (∫ρ)*; a flat part of ρ is a
    kink of g, an end at which ρ stays a constraint. ``split="euclidean"``: φ = ½‖·‖², for a 1-Lipschitz ρ. Modules of
    torch.nn whose φ is known give pieces of the catalogue, Softmax, RMSNorm and LayerNorm (without gain) too; every
    other callable an ``ActivationPotential``, which the solvers know by its value and not by ρ. With ``stated`` its
    mirror map is ρ as it was given, a closed form: so do the networks of ``models``. Parameters count as they are now,
    in a copy in eval mode: Dropout is the identity, RReLU has its mean slope, whatever the mode of the module that is
    given. An RMSNorm without ε has that of the default dtype.

    Raises NotProximal, an InputError with two points and their values, for a ρ that decreases or jumps, of slope
    above 1 in the Euclidean split, or on vectors, with a Jacobian that is not symmetric positive semidefinite. Numbers
    are sampled on [−40, 40], two to three every 0.005, and at doublings beyond: a dip or a flat part that is confined
    to less than 0.005 may be missed (see ``activation_profile.profile``); vectors at eight points of size 5.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    if isinstance(activation, type) or not callable(activation):
        raise InputError(
            f"from_activation takes an instance or a function, e.g. torch.nn.Softplus(), not {activation!r}"
        )
    nonexpansive = split == "euclidean"
    if type(activation) in VECTORS:
        return VECTORS[type(activation)](activation, nonexpansive)
    name = name_of(activation)
    scalars = _channels(activation)
    if not scalars:
        rho = as_double(activation)
        if not is_entrywise(rho):
            check_vector_map(rho, name, nonexpansive)
            if is_softmax(rho):
                return VECTORS[nn.Softmax](nn.Softmax(-1), nonexpansive)
            raise InputError(
                f"{name} couples entries; its Jacobian is symmetric positive semidefinite where sampled, but its "
                f"φ is not in the catalogue: state it as a Legendre function with event_ndim = 1"
            )
        scalars = [rho]
    profiles = [profile(rho, name, nonexpansive) for rho in scalars]
    pair = _listed(activation)
    if pair is None:
        return recovered(activation, profiles[0], nonexpansive, stated)
    phi, g = pair
    g = Zero() if g is None else g
    if not nonexpansive or (type(phi) is Energy and phi.scale == 1.0):
        return phi, g
    return Energy(), Excess(phi) if type(g) is Zero else Excess(phi) + g


def _listed(activation: Activation) -> tuple[Legendre, Regularizer | None] | None:
    """Of the catalogue; None for a module, or a parameter such as the α = 0 of an ELU, that it lacks."""
    kind: Any = type(activation)
    if kind not in MODULES:
        return None
    try:
        return MODULES[kind](activation)
    except InputError:
        return None


def _channels(activation: Activation) -> list[Activation]:
    """The scalar functions of a PReLU with a weight for each channel, which broadcasts with the last dimension."""
    if not isinstance(activation, nn.PReLU):
        return []
    return [_leaky(w) for w in activation.weight.detach().double().unique().tolist()]


def _leaky(slope: float) -> Activation:
    def leaky_relu(v: Tensor) -> Tensor:
        return functional.leaky_relu(v, slope)

    return leaky_relu
