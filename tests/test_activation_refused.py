"""from_activation: what is refused, with two points that show why."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bilevelnet as bln
from bilevelnet.certificates.activation_profile import NotProximal, profile


def name(activation: Any) -> str:
    return getattr(activation, "__name__", type(activation).__name__)


REFUSED = {
    "decreases": [nn.GELU(), nn.SiLU(), nn.Mish(), nn.Hardswish(), torch.sin, torch.neg, nn.PReLU(init=-0.2)],
    "jumps": [nn.Hardshrink(), torch.sign, torch.floor, nn.Threshold(1.0, 0.0)],
}


@pytest.mark.parametrize(
    ("activation", "why"), [pytest.param(a, why, id=name(a)) for why, found in REFUSED.items() for a in found]
)
@pytest.mark.parametrize("split", ["bregman", "euclidean"])
def test_refused_with_two_points(activation: Any, why: str, split: str) -> None:
    with pytest.raises(NotProximal, match=why) as caught:
        bln.from_activation(activation, split)
    (v, w), (a, b) = caught.value.points, caught.value.values
    rho = copy.deepcopy(activation).double() if isinstance(activation, nn.Module) else activation
    assert torch.equal(rho(v), a)
    assert torch.equal(rho(w), b)
    assert v < w
    assert b < a if why == "decreases" else (w - v) < 1e-12 and b - a > 0.1


def fine(amplitude: float, period: float) -> Any:
    return lambda v: v + amplitude * torch.sin(2 * math.pi * v / period)


@pytest.mark.parametrize(
    ("amplitude", "period", "split"),
    [
        (0.01, 0.005, "bregman"),  # of the period of the grid, on which it is 0
        (2e-3, 6.28e-3, "bregman"),
        (1e-4, 1e-4, "bregman"),
        (2e-4, 0.0025, "euclidean"),  # increasing, of slopes up to 1.5
    ],
)
def test_a_wiggle_finer_than_the_grid_is_seen(amplitude: float, period: float, split: str) -> None:
    if split == "euclidean":
        bln.from_activation(fine(amplitude, period))
    with pytest.raises(NotProximal):
        bln.from_activation(fine(amplitude, period), split)


def power(p: float) -> Any:
    """sign(v) (1 − (1 + |v|)^−p)."""
    return lambda v: v.sign() * (1 - (1 + v.abs()) ** -p)


@pytest.mark.parametrize("p", [0.16, 0.25, 1.0])
def test_a_slow_limit_is_the_end_of_the_range(p: float) -> None:
    assert (profile(power(p), "ρ").lo, profile(power(p), "ρ").hi) == pytest.approx((-1.0, 1.0), abs=2e-16)


def test_what_does_not_slow_down_has_no_limit() -> None:
    for rho in (torch.asinh, lambda v: v.tanh() + 1e-12 * v.asinh(), lambda v: v.asinh().asinh()):
        assert profile(rho, "ρ").hi == math.inf  # type: ignore[arg-type]


SLOWER = {"power": power(0.05), "logarithm": lambda v: v.sign() * (1 - 1 / (1 + v.abs().log1p()))}


@pytest.mark.parametrize("name", SLOWER)
def test_a_range_that_is_not_told_is_refused(name: str) -> None:
    with pytest.raises(bln.InputError, match="state φ by its formula"):
        bln.from_activation(SLOWER[name])


def test_misuse() -> None:
    wrong: list[tuple[Any, str]] = [
        (nn.Softplus, "an instance"),
        (3.0, "an instance"),
        (nn.GLU(), "neither numbers one by one"),
        (torch.log, "not finite"),
        (lambda v: v.float(), "float32"),
        (lambda v: v / (1 + v @ v).sqrt(), "not in the catalogue"),
        (torch.sigmoid_, "in place"),
        (lambda v: v * 0 + 1.0, "is the constant 1"),
        (math.tanh, "neither numbers one by one"),
        (lambda v: 1 // 0, "neither numbers one by one"),
        (nn.BatchNorm1d(4), "neither numbers one by one"),
        (lambda v: v.tanh().detach(), "does not carry the gradient"),
        (lambda v: torch.from_numpy(np.tanh(v.numpy())), "does not carry the gradient"),
    ]
    for activation, message in wrong:
        with pytest.raises(bln.InputError, match=message):
            bln.from_activation(activation)
    with pytest.raises(bln.InputError, match="unknown split"):
        bln.from_activation(nn.ReLU(), "primal")
