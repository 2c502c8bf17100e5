"""Pieces that are made inside a compiled function, from its arguments."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from by_value import MyEntropy
from torch import Tensor

import bilevelnet as bln

F64 = torch.float64
L, R = bln.legendre, bln.regularizers


class MyPenalty(R.Separable):
    def __init__(self, lam: Tensor):
        super().__init__()
        self.lam = lam

    def value(self, z: Tensor) -> Tensor:
        return self.lam * (z.cosh() - 1) + (z - 0.3).abs()


CASES = {
    "by value": lambda v, lam: bln.bregman_prox(MyEntropy(), MyPenalty(lam), v),
    "closed form": lambda v, lam: bln.bregman_prox(L.BoltzmannShannon(), R.L1(lam), v),
    "calculus": lambda v, lam: bln.bregman_prox(L.Softplus(beta=2.0), 0.5 * R.L1(lam) + R.Box(0.1, 1.0), v),
    "multiples": lambda v, lam: bln.bregman_prox(lam * L.Tanh(), lam * (R.L1(0.2) + R.Huber(0.1)), v),
    "multiplier": lambda v, lam: bln.bregman_prox(L.Tanh(), R.L1Ball(lam), v),
}


@pytest.mark.parametrize("name", ["by value", *(pytest.param(n, marks=pytest.mark.heavy) for n in list(CASES)[1:])])
def test_pieces_made_inside_are_those_made_outside(name: str) -> None:
    """One graph, equal to the eager call to the last bit, and for other values of the same arguments too."""
    f: Callable[[Tensor, Tensor], Tensor] = CASES[name]
    v = torch.linspace(-2, 2, 4, dtype=F64).requires_grad_()
    lam = torch.tensor(0.7, dtype=F64, requires_grad=True)
    compiled = torch.compile(f, fullgraph=True, backend="eager")
    for at in (lam, (2 * lam).detach().requires_grad_()):
        z, expected = compiled(v, at), f(v, at)
        assert z.equal(expected)
        for found, known in zip(
            torch.autograd.grad(z.sum(), (v, at)), torch.autograd.grad(expected.sum(), (v, at)), strict=True
        ):
            assert found.equal(known)


def test_a_remade_piece_keeps_no_tensor_of_the_graph() -> None:
    from bilevelnet.recipe import Remade, recipe

    given, tensors = recipe(0.5 * MyPenalty(torch.tensor(0.7, dtype=F64)) + R.L1(0.2))
    remade = Remade(given)
    remade.load(tensors)
    z = torch.tensor([0.2, 0.5], dtype=F64)
    (g,) = remade.pieces
    expected = 0.5 * (0.7 * (z.cosh() - 1) + (z - 0.3).abs()) + 0.2 * z
    torch.testing.assert_close(g.value(z), expected)
    remade.load(remade.empty)
    assert all(t.is_meta for t in g.tensors())


def test_a_tensor_times_a_piece_is_a_piece_times_a_tensor() -> None:
    """In a trace, which hands tensor * piece to torch; what is no multiple is refused with Python's words."""
    lam = torch.tensor(0.7, dtype=F64, requires_grad=True)
    v = torch.linspace(-2, 2, 4, dtype=F64)

    def f(v: Tensor, lam: Tensor) -> Tensor:
        return bln.bregman_prox(L.FermiDirac(), lam * R.L1(0.5), v)

    z = torch.compile(f, fullgraph=True, backend="eager")(v, lam)
    assert torch.equal(z, f(v, lam))
    assert torch.equal(*(torch.autograd.grad(x.sum(), lam)[0] for x in (z, f(v, lam))))
    with pytest.raises(TypeError, match="unsupported operand"):
        lam + R.L1(0.5)  # type: ignore[operator]


def test_a_compiled_layer_judges_wide_samples() -> None:
    """One status of 64 entries: inductor's maximum of int8 made every one of them invalid."""
    layer = bln.BilevelLayer(
        bln.couplings.Affine(torch.nn.Identity()),
        bln.divergences.Bregman(L.FermiDirac(), bln.divergences.Zero()),
        R.SquaredL2(1.0),
    )
    v = torch.randn(64, dtype=F64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = torch.compile(layer, fullgraph=True)(v)
    assert torch.allclose(z, layer(v), rtol=1e-14, atol=0)  # a few ulp of vectorised code
