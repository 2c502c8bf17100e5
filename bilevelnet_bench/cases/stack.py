"""Many networks of one shape as one: S small networks cost little more than one, and train as they would alone.

Points have the shape (S, n, d), labels (S, n). The networks share nothing but φ and g, so that the gradient of the
sum of their losses is, network by network, the gradient of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

import bilevelnet as bln

from .data import Data


class Linears(nn.Module):
    """z_s ↦ W_s z_s + b_s, W of shape (S, d_out, d_in), for z of shape (S, n, d_in) or flattened to (S n, d_in)."""

    def __init__(self, linears: Sequence[nn.Linear]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([one.weight.detach() for one in linears]))
        self.bias = nn.Parameter(torch.stack([one.bias.detach() for one in linears]))

    def forward(self, z: Tensor) -> Tensor:
        count, d_out, d_in = self.weight.shape
        a = torch.baddbmm(self.bias[:, None], z.reshape(count, -1, d_in), self.weight.mT)
        return a.reshape(*z.shape[:-1], d_out)


def total_loss(prediction: Tensor, label: Tensor) -> Tensor:
    """Σ_s mean cross-entropy of network s."""
    mean = functional.cross_entropy(prediction.flatten(0, -2), label.flatten())
    return mean * (label.numel() / label.shape[-1])


def stack(networks: Sequence[bln.models.BilevelNetwork]) -> bln.models.BilevelNetwork:
    """Networks of Bilinear layers of one width and a linear head, as one: f = −Σ_s ⟨z_s, W_s z_s⁻ + b_s⟩."""
    layers = []
    for alike in zip(*(network.chain for network in networks), strict=True):
        coupling = bln.couplings.Affine(Linears([layer.coupling for layer in alike]))
        layers.append(bln.BilevelLayer(coupling, alike[0].divergence, alike[0].regularizer))
    heads = [network.head for network in networks]
    return bln.models.BilevelNetwork(bln.Chain(*layers), Linears(heads), total_loss)  # type: ignore[arg-type]


def unstack(stacked: bln.models.BilevelNetwork, networks: Sequence[bln.models.BilevelNetwork]) -> None:
    """Give each network its weights back."""
    with torch.no_grad():
        for s, network in enumerate(networks):
            for whole, layer in zip(stacked.chain, network.chain, strict=True):
                _copy(whole.coupling.module, layer.coupling, s)
            _copy(stacked.head, network.head, s)


def stack_data(data: Sequence[Data]) -> Data:
    """Data sets of one size, as rows."""
    return Data(*(torch.stack(part) for part in zip(*data, strict=True)))


def _copy(whole: nn.Module, one: nn.Module, s: int) -> None:
    one.weight.copy_(whole.weight[s])  # type: ignore[operator, index]
    one.bias.copy_(whole.bias[s])  # type: ignore[operator, index]
