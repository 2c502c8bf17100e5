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
        biases = [one.bias.detach() for one in linears if one.bias is not None]
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None

    def forward(self, z: Tensor) -> Tensor:
        count, d_out, d_in = self.weight.shape
        points = z if z.ndim == 3 else z.reshape(count, -1, d_in)
        weight, bias = self.weight.mT, self.bias
        a = points @ weight if bias is None else torch.baddbmm(bias[:, None], points, weight)
        return a if z.ndim == 3 else a.reshape(*z.shape[:-1], d_out)


def total_loss(prediction: Tensor, label: Tensor) -> Tensor:
    """Σ_s mean cross-entropy of network s."""
    mean = functional.cross_entropy(prediction.flatten(0, -2), label.flatten())
    return mean * (label.numel() / label.shape[-1])


def stack(networks: Sequence[bln.models.BilevelNetwork]) -> bln.models.BilevelNetwork:
    """Networks of Bilinear layers and a linear head, as one: f = −Σ_s ⟨z_s, W_s z_s⁻ + b_s⟩, references L_s."""
    layers = []
    for alike in zip(*(network.chain for network in networks), strict=True):
        first = alike[0].divergence
        reference = first.reference
        if isinstance(reference, bln.divergences.Dual):
            reference = bln.divergences.Dual(Linears([layer.divergence.reference.linear for layer in alike]))
        coupling = bln.couplings.Affine(Linears([layer.coupling for layer in alike]))
        layers.append(bln.BilevelLayer(coupling, bln.divergences.Bregman(first.phi, reference), alike[0].regularizer))
    heads = [network.head for network in networks]
    return bln.models.BilevelNetwork(bln.Chain(*layers), Linears(heads), total_loss)  # type: ignore[arg-type]


def unstack(stacked: bln.models.BilevelNetwork, networks: Sequence[bln.models.BilevelNetwork]) -> None:
    """Give each network its weights back."""
    with torch.no_grad():
        for s, network in enumerate(networks):
            ours, alone = stacked.state_dict(), network.state_dict()
            for name, weight in alone.items():
                weight.copy_(ours[name.replace("coupling.", "coupling.module.")][s])


def stack_data(data: Sequence[Data]) -> Data:
    """Data sets of one size, as rows."""
    return Data(*(torch.stack(part) for part in zip(*data, strict=True)))
