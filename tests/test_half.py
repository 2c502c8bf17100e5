"""What a piece states, called directly on half precision: the dtype is kept, the values are those of float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from catalog import LEGENDRE, REGULARIZERS, Spec
from torch import Tensor

import bilevelnet as bln
from bilevelnet.testing.points import Draw, event_of, interior, members

CASES = [
    pytest.param(s, name, id=f"{s.name}-{name}")
    for specs, names in (
        (LEGENDRE, ("value", "grad", "grad_conjugate", "conjugate", "hessian")),
        (REGULARIZERS, ("value", "prox", "conjugate")),
    )
    for s in specs
    if s.first
    for name in names
    if not (name == "hessian" and s.build().event_ndim)
]


def _points(piece: Any, name: str) -> Tensor:
    event, draw = event_of(piece), Draw()
    if isinstance(piece, bln.regularizers.Regularizer):
        return members(piece, event, draw)[:4]
    z = interior(piece, event, draw)
    z = z[event.norm(z) < 20][-4:]
    return piece.grad(z).detach() if "conjugate" in name else z


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("spec", "name"), CASES)
def test_half_precision_is_kept(spec: Spec, name: str, dtype: torch.dtype) -> None:
    piece = spec.build()
    x = _points(piece, name).to(dtype)
    try:
        found = getattr(piece, name)(x)
    except bln.InputError:  # not stated
        return
    assert found.dtype is dtype
    assert not bool((found.isnan() & ~getattr(piece, name)(x.float()).isnan()).any())
