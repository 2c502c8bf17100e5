"""Where a loss stopped being finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import bilevelnet as bln


class NonFiniteLoss(RuntimeError):
    """A loss or a gradient is NaN or infinite. ``epoch`` and ``step`` count from 1; ``place`` is where it began."""

    def __init__(self, what: str, epoch: int, step: int, place: str):
        kept = f"; a checkpoint is that of epoch {epoch - 1}" if epoch > 1 else ""
        super().__init__(
            f"{what} is not finite in epoch {epoch}, step {step}; it began in {place}. "
            f"Lower lr, or look at what enters there{kept}"
        )
        self.epoch, self.step, self.place = epoch, step, place


@torch.no_grad()
def forward_place(network: bln.models.BilevelNetwork, x: Tensor) -> str:
    """What is first not finite on the way from x to the loss: the input, a layer's weight or state, the head."""
    if not _finite(x):
        return "the input"
    layers: list[Any] = list(network.chain)
    for k, layer in enumerate(layers):
        wrong = [name for name, p in layer.named_parameters() if not _finite(p)]
        if wrong:
            return f"layer {k + 1}: its {wrong[0]}"
        # Policy "ignore": what the chain itself would refuse is looked at here.
        chain = bln.Chain(*layers[: k + 1], space=network.chain.space, on_failure="ignore")
        z, u = chain(x, return_dual=True)
        if not _finite(z) or not _finite(u):
            return f"layer {k + 1}: its {'z' if _finite(u) else 'u = ∇φ(z)'} ({layer.explain().splitlines()[0]})"
    wrong = [name for name, p in network.head.named_parameters() if not _finite(p)]
    return f"the head: its {wrong[0]}" if wrong else "the head" if not _finite(network(x)) else "the loss"


def backward_place(network: bln.models.BilevelNetwork) -> str:
    """The last parameter whose gradient is not finite: a backward pass starts at the end."""
    names = [n for n, p in network.named_parameters() if p.grad is not None and not _finite(p.grad)]
    name = names[-1] if names else "no parameter"
    kind, _, rest = name.partition(".")
    layer, _, weight = rest.partition(".")
    return f"the gradient of layer {int(layer) + 1}: {weight}" if kind == "chain" else f"the gradient of {name}"


def _finite(x: Tensor | None) -> bool:
    return x is None or bool(x.isfinite().all())
