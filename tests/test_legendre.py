"""The laws of every registered φ."""

from __future__ import annotations

import pytest
from catalog import LEGENDRE, Spec, cases
from hypothesis import given

import bilevelnet as bln
from bilevelnet.testing import check_legendre, strategies


@pytest.mark.parametrize("spec", cases(LEGENDRE))
def test_laws(spec: Spec, device: str) -> None:
    report = check_legendre(spec.build().to(device), device=device)
    assert report.rows


@given(strategies.legendres())
def test_laws_at_drawn_weights(phi: bln.legendre.Legendre) -> None:
    check_legendre(phi)


@pytest.mark.parametrize("spec", cases(LEGENDRE))
def test_key_finds_the_class(spec: Spec) -> None:
    assert type(bln.legendre.get(spec.cls.key, **spec.params)) is spec.cls
