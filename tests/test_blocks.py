"""verify: certificates of pre-norm blocks, and blocks of another form refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bilevelnet as bln

ROOT = Path(bln.__file__).parent.parent


class PreNorm(nn.Module):
    """x + A(norm(x))."""

    def __init__(self, norm: nn.Module, d: int = 6):
        super().__init__()
        self.norm, self.mlp = norm, nn.Sequential(nn.Linear(d, 8), nn.GELU(), nn.Linear(8, d))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class NoResidual(PreNorm):
    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm(x))


class PostNorm(PreNorm):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.mlp(x))


class Gated(PreNorm):
    def forward(self, x: Tensor) -> Tensor:
        return x + x * self.mlp(self.norm(x))


class RMSNorm(nn.Module):
    """Of one's own."""

    def __init__(self, d: int, off: float = 0.0):
        super().__init__()
        self.weight, self.eps, self.off = nn.Parameter(torch.ones(d)), 1e-6, off

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight + self.off


@pytest.mark.parametrize("norm", [nn.RMSNorm(6), nn.LayerNorm(6), RMSNorm(6)], ids=["rms", "layer", "own"])
def test_pre_norm_blocks(norm: nn.Module) -> None:
    torch.manual_seed(0)
    block = PreNorm(norm)
    certificate = bln.verify(block, lambda x: x + block.mlp(block.norm(x)), samples=8)
    assert certificate.passed, certificate
    assert ("ignores the mean" in certificate.theorem) == isinstance(norm, nn.LayerNorm)


@pytest.mark.parametrize("block", [NoResidual, PostNorm, Gated])
def test_other_blocks_are_refused(block: type[PreNorm]) -> None:
    torch.manual_seed(0)
    certificate = bln.verify(block(nn.RMSNorm(6)), samples=8)
    assert "block: x + A(norm(x)), A sees x through its norms alone" in {r.compared for r in certificate.failures}


class Clamped(PreNorm):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(-3, 3) + self.mlp(self.norm(x))


@pytest.mark.parametrize("samples", [2, 6, 8])
def test_a_clamped_stream_is_refused(samples: int) -> None:
    torch.manual_seed(0)
    certificate = bln.verify(Clamped(nn.RMSNorm(6)), samples=samples)
    assert "block: x + A(norm(x)), A sees x through its norms alone" in {r.compared for r in certificate.failures}


def test_a_norm_that_is_none_is_refused() -> None:
    torch.manual_seed(0)
    assert not bln.verify(PreNorm(RMSNorm(6, off=1e-6)), samples=8).passed


@pytest.mark.parametrize("batch_first", [pytest.param(True, marks=pytest.mark.heavy), False])
def test_transformer_encoder_layer(batch_first: bool) -> None:
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 12, norm_first=True, batch_first=batch_first)
    certificate = bln.verify(block, samples=8)
    assert certificate.passed, certificate
    assert not bln.verify(nn.TransformerEncoderLayer(8, 2, 12, batch_first=batch_first), samples=8).passed


@pytest.mark.heavy
def test_the_gpt_of_the_examples_is_certified() -> None:
    script = ROOT / "docs" / "examples" / "certify_gpt.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.count("certified") >= 2
    assert "NOT certified" not in done.stdout
