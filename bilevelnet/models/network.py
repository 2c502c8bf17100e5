"""The bilevel problem: the lower levels are the layers of a chain, the upper level trains them under ψ and ℓ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..chain import Chain
from ..errors import InputError
from ..values import at_least_float32

Loss = Callable[[Tensor, Tensor], Tensor]


class BilevelNetwork(nn.Module):
    """min over θ of mean ℓ(ψ(z_L), y), where z_L is the chain's last point: the upper level.

    chain: the lower levels. head: ψ, any module, e.g. torch.nn.Linear. loss: ℓ(prediction, target),
    cross-entropy unless given. ``network(z0)`` is ψ(z_L); ``network.objective(z0, y)`` the upper objective.
    """

    def __init__(self, chain: Chain, head: nn.Module, loss: Loss = nn.functional.cross_entropy):
        super().__init__()
        if not isinstance(chain, Chain) or not isinstance(head, nn.Module):
            given = f"{type(chain).__name__} and {type(head).__name__}"
            raise InputError(f"BilevelNetwork(chain, head) takes a Chain, e.g. a BregmanMLP, and a module, not {given}")
        self.chain, self.head, self.loss = chain, head, loss

    def forward(self, z0: Tensor) -> Tensor:
        return self.head(self.chain(z0))

    def objective(self, z0: Tensor, target: Tensor) -> Tensor:
        """ℓ(ψ(z_L), y)."""
        return self.loss(self(z0), target)

    def representations(self, z0: Tensor) -> list[Tensor]:
        """z after every layer, the input first: ``chain[:k](z0)`` for every k, in one pass over the chain."""
        chain: Any = self.chain
        last = chain(z0)  # checks, and failures by the chain's policy
        points, phi = [z0], chain[0].problem.phi
        z, u = (None, at_least_float32(z0)) if chain.space == "dual" else (z0, None)
        for layer, shared in zip(chain, chain.shares, strict=True):
            if not shared:
                z, u = phi.grad_conjugate(u) if z is None else z, None
            u, z, _ = layer.step(z, u, z0.dtype)
            phi = layer.problem.phi
            z = phi.grad_conjugate(u) if z is None else z
            points.append(z.to(z0.dtype))
        return [*points[:-1], last]
