"""bilevelnet-bench resnet: its networks are those that it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bilevelnet.models import BregmanResNet
from bilevelnet_bench import resnet
from bilevelnet_bench.cli import app
from bilevelnet_bench.peers import inverse_resnet, torch_resnet


def test_the_inverse_form_is_the_dual_form_where_nothing_is_clamped() -> None:
    torch.manual_seed(0)
    ours, inverse = BregmanResNet(20, "softplus").double(), inverse_resnet.inverse_resnet20().double()
    inverse.load_state_dict(ours.state_dict())
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    z = ours.chain(x)
    assert z.min() > 2 * inverse_resnet.CLAMP
    # ρ⁻¹ ∘ ρ loses 1e-16/ρ' ≤ 1e-11 a block.
    torch.testing.assert_close(inverse(x), ours(x), rtol=1e-9, atol=1e-9)


def test_the_peer_has_nothing_of_ours() -> None:
    for build in (torch_resnet.resnet20, inverse_resnet.inverse_resnet20):
        modules = {type(m).__module__ for m in build().modules()}
        assert not [m for m in modules if m.split(".")[0] == "bilevelnet"]


@pytest.mark.parametrize("flags", [(), ("--bfloat16", "--channels-last")], ids=["float32", "bfloat16"])
def test_resnet_writes_its_table_and_record(tmp_path: Path, flags: tuple[str, ...]) -> None:
    arguments = ["resnet", "--quick", "--threads", "1", "--out", str(tmp_path), *flags]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"}, catch_exceptions=False)
    assert result.exit_code == 0
    (record,) = [json.loads(line) for line in (tmp_path / "resnet.jsonl").read_text().splitlines()]
    assert list(record["seconds"]) == list(resnet.NETWORKS)
    assert record["ratios"][resnet.RELU]["median"] == 1
    assert ("bfloat16" in record["mode"]) == bool(flags)
    assert max(map(len, result.output.splitlines())) <= 80 or str(tmp_path) in result.output
    for name in ("BregmanResNet20", "inverse", "ReLU"):
        assert name in result.output


def test_no_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(app, ["resnet", "--quick", "--device", "cuda"])
    assert result.exit_code == 2
    assert "no GPU" in result.output
