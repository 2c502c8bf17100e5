"""The time of a training step of ResNet20: Bregman on the dual state, standard, and by the inverse of ρ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

import bilevelnet as bln

from . import metrics
from .peers import inverse_resnet, torch_resnet
from .sheets import Sheet

OURS = "BregmanResNet20, softplus"
RELU, SAME = "torch.nn, ReLU after the sum", "torch.nn, softplus after the sum"
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    OURS: lambda: bln.models.BregmanResNet(20, "softplus"),
    "BregmanResNet20, leaky_relu": lambda: bln.models.BregmanResNet(20, "leaky_relu"),
    "BregmanResNet20, tanh": lambda: bln.models.BregmanResNet(20, "tanh"),
    "BregmanResNet20, version standard": lambda: bln.models.BregmanResNet(20, version="standard"),
    "inverse of ρ, clamped, softplus": inverse_resnet.inverse_resnet20,
    SAME: lambda: torch_resnet.resnet20(activation=nn.Softplus),
    RELU: torch_resnet.resnet20,
}


@dataclass(frozen=True)
class Plan:
    """Images of ``side`` × ``side``, ``batch`` of them; the timing of every network is repeated ``rounds`` times."""

    batch: int
    side: int
    rounds: int


FULL = Plan(batch=128, side=28, rounds=15)
QUICK = Plan(batch=2, side=8, rounds=1)


@dataclass(frozen=True)
class Mode:
    """Where and how: the device, autocast to bfloat16, channels last, torch.compile."""

    device: str = "cpu"
    bfloat16: bool = False
    channels_last: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        device = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else "CPU"
        words = (("channels last", self.channels_last), ("compiled", self.compiled))
        dtype = "bfloat16 autocast" if self.bfloat16 else "float32"
        return ", ".join([device, dtype, *(word for word, on in words if on)])


class Step(nn.Module):
    """The network under autocast where the mode says so."""

    def __init__(self, network: nn.Module, mode: Mode):
        super().__init__()
        self.network, self.mode = network, mode
        if mode.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.to(mode.device)
        self.run: Any = torch.compile(self.network) if mode.compiled else self.network

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(torch.device(self.mode.device).type, torch.bfloat16, enabled=self.mode.bfloat16):
            return self.run(x).float()


def run(plan: Plan, mode: Mode, out: Path, console: Console) -> None:
    """The table, and its record in ``out``/resnet.jsonl."""
    torch.manual_seed(0)
    x = torch.randn(plan.batch, 3, plan.side, plan.side, device=mode.device)
    if mode.channels_last:
        x = x.to(memory_format=torch.channels_last)
    calls = {name: metrics.forward_backward(Step(build(), mode), x) for name, build in NETWORKS.items()}
    found = metrics.interleave(calls, plan.rounds)
    same = metrics.interleave({OURS: calls[OURS], SAME: calls[SAME]}, plan.rounds)
    log = out / "resnet.jsonl"
    metrics.record(
        log,
        what="ResNet20 step",
        mode=str(mode),
        batch=plan.batch,
        side=plan.side,
        seconds=found.times,
        ratios=found.ratios,
        ratio_to_the_same_activation=same.ratios[OURS],
    )
    rows = [[name, f"{t.median * 1e3:.1f}", _spread(found.ratios[name])] for name, t in found.times.items()]
    title = f"ResNet20, {plan.batch} images of {plan.side} × {plan.side}, forward + backward; {mode}"
    threads = f", {torch.get_num_threads()} threads" if mode.device == "cpu" else ""
    console.print(Sheet(title + threads, ("network", "ms", "ratio to ReLU [quartiles]"), rows).rich())
    console.print(f"{OURS} to {SAME}: {_spread(same.ratios[OURS])}", highlight=False)
    console.print(f"wrote {log}", soft_wrap=True)


def _spread(ratio: metrics.Spread) -> str:
    return f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
