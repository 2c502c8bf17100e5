"""The atlas as a Markdown page: one section a φ and a common activation, with the figures of their certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..certificates.activation import from_activation
from ..certificates.atlas import SAMPLES, example
from ..certificates.verify import verify
from ..errors import InputError
from ..legendre import Energy, Legendre, registry
from ..regularizers import Regularizer, Zero
from ..solvers import bind
from . import atlas_plots
from .catalog import formula, shown

COMMAND = "bilevelnet atlas docs"
HEAD = f"""\
# The atlas

Every Legendre function φ of the catalogue and every common activation, with what a certificate says of it.
`{COMMAND}` generates this page and its pictures; `bilevelnet verify` verifies more pairs (φ, g), and networks, in
less than a minute, and `bilevelnet catalog` lists the solver of every pair.

u = ∇φ(z), ρ = ∇φ*, and prox^φ_g(v) = argmin_z φ(z) + g(z) − ⟨z, v⟩. Errors are the worst ones against an independent
solution of the inclusion v ∈ ∂(φ + g)(z): a bracketing search that knows φ and g by their values alone, and its
differences for gradients. Where ∇φ grows at least as fast as the identity (σ ≥ 1) the same ρ is a Euclidean proximal
map too, of g = φ − ½‖·‖²: as a layer that is ρ(z + Wz + b) in the place of ρ(ρ⁻¹(z) + Wz + b).

For an activation the module of torch is compared too, as the neural form. Hardsigmoid fails there in its gradient:
torch multiplies by a 1/6 that is rounded to float32 (5e-9), in float64 as well; its argmin layer holds.
"""
ACTIVATIONS: dict[str, nn.Module] = {
    type(m).__name__: m
    for m in (
        nn.ReLU(),
        nn.LeakyReLU(0.1),
        nn.PReLU(),
        nn.ELU(),
        nn.CELU(0.5),
        nn.SELU(),
        nn.Softplus(),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.Softsign(),
        nn.Hardtanh(),
        nn.ReLU6(),
        nn.Hardsigmoid(),
        nn.Softshrink(),
        nn.Tanhshrink(),
        nn.LogSigmoid(),
    )
}
REFUSED = (nn.GELU(), nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.Hardshrink())


def write(folder: Path, progress: Callable[[str], None]) -> Path:
    """atlas.md in the folder, and its pictures in images/atlas below it."""
    pictures = folder / "images" / "atlas"
    parts = [HEAD, "## Legendre functions\n"]
    for key, cls in registry.items():
        progress(key)
        parts += _legendre(key, example(cls), formula(cls), pictures)
    parts.append("## Activations\n")
    for name, module in ACTIVATIONS.items():
        progress(name)
        parts += _activation(name, module.double(), pictures)
    parts.append("## Activations that are no proximal map\n")
    parts += [f"- {_refusal(module)}" for module in REFUSED]
    page = folder / "atlas.md"
    page.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return page


def _legendre(key: str, phi: Legendre, words: str, pictures: Path) -> Iterator[str]:
    sigma = float(torch.as_tensor(phi.strong_convexity).amin())
    split = sigma >= 1 and not isinstance(phi, Energy)
    atlas_plots.of_phi(phi, _euclidean(phi) if split and not phi.event_ndim else None, pictures / f"{key}.png")
    yield f"### {key}\n\n![φ, ∇φ, ρ and φ* of {key}](images/atlas/{key}.png)\n"
    yield f"- {words}"
    if phi.extra_repr():
        yield f"- Here {phi.extra_repr()}."
    dual = "" if phi.dual_domain == Energy().domain else f"; dom φ* = {shown(phi.dual_domain, phi.event_ndim)}"
    yield f"- dom φ = {shown(phi.domain, phi.event_ndim)}; σ = {sigma:.4g}{dual}."
    euclidean = "the same" if isinstance(phi, Energy) else "g = φ − ½‖·‖²" if split else "none, for σ < 1"
    yield f"- Euclidean split: {euclidean}."
    yield from _certified(phi, Zero(), "g = 0")
    yield ""


def _activation(name: str, module: nn.Module, pictures: Path) -> Iterator[str]:
    bregman = from_activation(module)
    try:
        euclidean = from_activation(module, split="euclidean")
    except InputError as refusal:
        euclidean, why = None, str(refusal)
    with torch.no_grad():
        atlas_plots.of_activation(module, bregman, euclidean and euclidean[1], pictures / f"{name}.png")
    yield f"### {name}\n\n![ρ, φ and g of {name}](images/atlas/{name}.png)\n"
    yield f"- Bregman split: φ = {_named(bregman[0])}, g = {_named(bregman[1])}."
    yield from _certified(*bregman, "Bregman split", module)
    if euclidean is None:
        yield f"- Euclidean split: {why}"
    else:
        yield f"- Euclidean split: φ = energy, g = {_named(euclidean[1])}."
        yield from _certified(*euclidean, "Euclidean split", module)
    yield ""


def _certified(phi: Legendre, g: Regularizer, title: str, neural: nn.Module | None = None) -> Iterator[str]:
    moves = bind(phi, g, "auto")[0].explain()
    certificate = verify((phi, g), neural, SAMPLES)
    failed = ", ".join(r.compared for r in certificate.rows if not r.passed)
    verdict = f"FAILS in {failed}" if failed else "holds"
    errors = f"value {certificate.worst('value'):.0e}, gradient {certificate.worst('gradient'):.0e}"
    yield f"- {title}, {moves}. Certificate: {verdict}; {errors}."


def _refusal(module: nn.Module) -> str:
    try:
        from_activation(module)
    except InputError as refusal:
        return str(refusal)
    raise AssertionError(f"{type(module).__name__} was to be refused")


def _euclidean(phi: Legendre) -> Callable[[Tensor], Tensor]:
    return lambda z: phi.value(z) - z**2 / 2


def _named(piece: Any) -> str:
    plain = piece.label == piece.key and piece.extra_repr()
    return f"{piece.label}({piece.extra_repr()})" if plain else piece.label
