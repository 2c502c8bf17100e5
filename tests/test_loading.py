"""What a constructor refuses, a state dict does not bring in either, and the piece stays as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from catalog import LEGENDRE, REGULARIZERS, Spec
from torch import Tensor

import bilevelnet as bln

CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "same": torch.clone,
    "negated": lambda t: -t,
    "zero": torch.zeros_like,
    "one": torch.ones_like,
    "larger": lambda t: t + 5,
    "smaller": lambda t: t - 5,
    "reversed": lambda t: t.flip(-1) if t.ndim else t,
    "nan": lambda t: t * torch.nan,
    "infinite": lambda t: t.sign() * torch.inf,
}


def _as_tensors(spec: Spec) -> dict[str, Any]:
    """The parameters of an instance, those that may be tensors as tensors."""
    params = dict(spec.params)
    for name, value in spec.params.items():
        try:
            tensor = torch.tensor(value, dtype=torch.float64)
            piece = spec.cls(**{**params, name: tensor})
        except (bln.InputError, TypeError, ValueError, RuntimeError):  # a dimension, groups, slopes that are infinite
            continue
        if _key(piece.state_dict(), tensor):
            params[name] = tensor
    return params


def _key(state: dict[str, Tensor], value: Tensor) -> str:
    return next((k for k, t in state.items() if torch.equal(t, value)), "")


CASES = [
    pytest.param(spec, name, id=f"{spec.name}-{name}")
    for spec in [*LEGENDRE, *REGULARIZERS]
    for name, value in _as_tensors(spec).items()
    if isinstance(value, Tensor)
]


def test_pieces_with_weights_are_here() -> None:
    keys = {case.values[0].cls.key for case in CASES}
    assert keys >= {"box", "l1_box", "piecewise_linear", "affine_set", "mahalanobis", "tsallis", "tanh_mixture", "l1"}


@pytest.mark.parametrize(("spec", "name"), CASES)
def test_loading_refuses_what_construction_refuses(spec: Spec, name: str) -> None:
    params = _as_tensors(spec)
    piece = spec.cls(**copy.deepcopy(params))
    state = {k: t.clone() for k, t in piece.state_dict().items()}
    key = _key(state, params[name])
    refused = []
    for label, change in CHANGES.items():
        bad = change(params[name])
        try:
            spec.cls(**{**params, name: bad.clone()})
        except bln.InputError:
            refused.append(label)
            for assign in (False, True):
                with pytest.raises(RuntimeError, match=f"lam|{name}|affine_set|mahalanobis"):
                    piece.load_state_dict({**state, key: bad.clone()}, assign=assign)
        assert all(torch.equal(t, state[k]) for k, t in piece.state_dict().items()), label
    assert "same" not in refused
    assert "nan" in refused, "NaN is no weight"


def test_two_loaded_weights_must_suit_one_another() -> None:
    box = bln.regularizers.Box(torch.tensor(0.0), torch.tensor(1.0))
    box.load_state_dict({"lo_value": torch.tensor(4.0), "hi_value": torch.tensor(5.0)})
    with pytest.raises(RuntimeError, match=r"box: needs lo <= hi, not lo = 5.0, hi = 1\.0"):
        box.load_state_dict({"lo_value": torch.tensor(5.0), "hi_value": torch.tensor(1.0)})
    assert (float(box.lo), float(box.hi)) == (4.0, 5.0)


def test_a_loaded_power_stays_on_its_side_of_one() -> None:
    phi = bln.legendre.Tsallis(torch.tensor(1.5))
    with pytest.raises(RuntimeError, match=r"alpha has values outside \(1, inf\)"):
        phi.load_state_dict({"alpha_value": torch.tensor(0.5)})


def test_powers_close_to_one_are_no_entropy() -> None:
    assert bln.legendre.Tsallis(alpha=1 + 1e-9).alpha == 1 + 1e-9
    with pytest.raises(bln.InputError, match="alpha = 1 is the entropy"):
        bln.legendre.Tsallis(alpha=1.0)


def test_a_class_of_the_users_states_how_its_weights_go_together() -> None:
    class Ordered(bln.regularizers.Separable):
        def __init__(self, ends: Tensor):
            super().__init__()
            self.register_buffer("ends", ends)

        def check_weights(self) -> None:
            if not bool(self.ends[0] < self.ends[1]):
                raise bln.InputError("ends must increase")

    good = torch.tensor([1.0, 2.0])
    with pytest.raises(bln.InputError, match="ends must increase"):
        Ordered(good.flip(0))
    with pytest.raises(RuntimeError, match="ends must increase"):
        Ordered(good).load_state_dict({"ends": good.flip(0)})
