"""The bracketing search: roots at 0 and beside it, and jumps there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bilevelnet.numerics.bracket import FOUND, JUMP, LIMIT, bracketed_root


def power(p: float, w: Tensor):
    """sign(x) |x|^p − w with its slope and the size of its terms."""
    return lambda x: (
        x.sign() * x.abs() ** p - w,
        p * x.abs() ** (p - 1),
        lambda: x.abs() ** p + w.abs(),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("p", [1 / 3, 1.0, 3.0])
def test_roots_beside_zero(p: float, dtype: torch.dtype) -> None:
    """x = ±10^−k to the last digits, of every size that |x|^p can have."""
    eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    x = torch.logspace(-30, 0, 16, dtype=torch.float64).to(dtype)
    x = x[(x > tiny / eps) & (x**p > tiny / eps)]
    x = torch.cat([-x.flip(0), x.new_zeros(1), x])
    found = bracketed_root(power(p, x.sign() * x.abs() ** p), torch.ones_like(x), 120)
    assert bool((found.code == FOUND).all())
    assert torch.allclose(found.x, x, rtol=8 * eps * max(1, 1 / p), atol=0.0)


@pytest.mark.parametrize("at", [0.0, 1e-290, -1e-40, 1e-3])
def test_a_jump_is_found_where_it_is(at: float) -> None:
    start = torch.tensor([1.0, -3.0, 1e-9], dtype=torch.float64)
    found = bracketed_root(
        lambda x: (x + torch.where(x > at, 1.0, -1.0), torch.ones_like(x), lambda: 1 + x.abs()), start, 150
    )
    assert bool((found.code == JUMP).all())
    assert torch.allclose(found.x, torch.full_like(start, at), rtol=1e-15, atol=0.0)


def test_a_jump_from_a_value_near_zero_is_found_soon() -> None:
    """f = x below 0, x + 1 from there on, with a slope of 2: Newton alone would halve x a thousand times."""
    start = torch.tensor([1.0, 3.0], dtype=torch.float64)
    found = bracketed_root(
        lambda x: (x + torch.where(x < 0, 0.0, 1.0), torch.full_like(x, 2.0), lambda: x.abs()), start, 100
    )
    assert bool((found.code != LIMIT).all())
    assert bool((found.x.abs() < 1e-300).all())
