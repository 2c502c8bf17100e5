"""The Legendre function of an activation that is given as a callable."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..domains import Interval
from ..errors import InputError
from ..numerics.antiderivative import Panels, antiderivative, nearby, panels
from ..numerics.derivative import derivative
from .base import Separable

Activation = Callable[[Tensor], Tensor]


class ActivationPotential(Separable):
    """φ = (∫ρ)* for a strictly increasing, continuous ρ: ℝ → (lo, hi), entry by entry.

    φ(z) = ⟨u, z⟩ − ∫₀^u ρ at u = ∇φ(z) = ρ⁻¹(z), by root search and quadrature; φ'' = 1/ρ'(u). ``activation`` is ρ, a
    function or a module of any dtype that its argument has; ``sigma`` is σ where it is known: 1 for a 1-Lipschitz ρ.
    ∇φ* is left to the solvers, who know φ by its value: that prox^φ_0(v) = ρ(v) is then a result, and no definition.
    With ``stated`` ∇φ* is ρ as it was given, a formula for the closed forms, which certificates compare with the value.
    """

    def __init__(
        self,
        activation: Activation,
        lo: float = -math.inf,
        hi: float = math.inf,
        sigma: float = 0.0,
        stated: bool = False,
    ):
        super().__init__()
        self.lo, self.hi, self.sigma, self.stated = lo, hi, sigma, stated
        self.dual = Antiderivative(activation)

    @property
    def explicit(self) -> bool:
        return self.stated

    @property
    def label(self) -> str:
        return f"potential of {name_of(self.dual.activation)}"

    @property
    def domain(self) -> Interval:  # type: ignore[override]
        return Interval(self.lo, self.hi, closed=(False, False))

    def value(self, z: Tensor) -> Tensor:
        u = self.dual.grad_conjugate(z)
        return u * z - self.dual.value(u)

    def grad(self, z: Tensor) -> Tensor:
        end = torch.where(z == self.hi, torch.inf, torch.where(z == self.lo, -torch.inf, torch.nan))
        inside = self.domain.interior(z)
        return torch.where(inside, self.dual.grad_conjugate(torch.where(inside, z, self.dual.middle)), end)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return self.dual.grad(u) if self.stated else super().grad_conjugate(u)

    def hessian(self, z: Tensor) -> Tensor:
        return 1 / self.dual.hessian(self.grad(z))

    def conjugate(self, u: Tensor) -> Tensor:
        return self.dual.value(u)

    @property
    def strong_convexity(self) -> float:
        return self.sigma


class Antiderivative(Separable):
    """φ*(u) = ∫₀^u ρ, a Legendre function itself, whose inverse gradient is derived by the root search."""

    def __init__(self, activation: Activation):
        super().__init__()
        self.activation = activation
        self.table: Panels = panels(as_double(activation))

    def train(self, mode: bool = True) -> Antiderivative:
        """Sets the mode, but not ρ's: φ is that of ρ in eval mode, and a network in training keeps it."""
        super().train(mode)
        if isinstance(self.activation, nn.Module):
            self.activation.eval()
        return self

    @property
    def middle(self) -> float:
        """Some value of ρ."""
        return self.table.values[len(self.table.values) // 2]

    def extra_repr(self) -> str:
        return "" if isinstance(self.activation, nn.Module) else f"activation={name_of(self.activation)}"

    def value(self, u: Tensor) -> Tensor:
        return antiderivative(self.activation, self.table, u)

    def grad(self, u: Tensor) -> Tensor:
        return self.activation(u)

    def grad_conjugate(self, z: Tensor) -> Tensor:
        from ..solvers.inverse import mirror_map  # reaches up: the search and its derivative are a solver's

        return mirror_map(self, z, nearby(self.table, z))

    @property
    def explicit(self) -> bool:
        return False

    def hessian(self, u: Tensor) -> Tensor:
        return derivative(self.activation, u)


def frozen(activation: Activation) -> Activation:
    """Of a module a copy in eval mode, without gradients, that leaves its argument as it is; a function itself."""
    if not isinstance(activation, nn.Module):
        return activation
    copied = copy.deepcopy(activation).eval().requires_grad_(False)
    for module in copied.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return copied


def as_double(activation: Activation) -> Activation:
    """The activation for float64 arguments, without a graph."""
    f = _double(activation)

    def rho(v: Tensor) -> Tensor:
        with torch.no_grad():
            return f(v)

    return rho


def check_gradient(activation: Activation) -> None:
    """InputError where the activation does not carry the gradient of its argument, as through numpy or detach."""
    v = torch.linspace(-1, 1, 3, dtype=torch.float64, requires_grad=True)
    try:
        carries, reason = _double(activation)(v).requires_grad, "its result is detached"
    except RuntimeError as error:
        carries, reason = False, str(error)
    if not carries:
        raise InputError(
            f"{name_of(activation)} does not carry the gradient of its argument ({reason}): write it in torch "
            f"operations, which the solvers differentiate"
        )


def _double(activation: Activation) -> Activation:
    f = frozen(activation)
    return f.double() if isinstance(f, nn.Module) else f


def name_of(activation: Activation) -> str:
    """What to call it in messages."""
    return getattr(activation, "__name__", type(activation).__name__)
