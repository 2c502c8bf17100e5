"""f-divergences, as Legendre functions whose weights are powers of z⁻."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..domains import Positive, Reals
from ..errors import InputError
from ..legendre import BoltzmannShannon, Burg, Energy, Legendre, Tsallis
from ..legendre.transformed import Transformed
from ..regularizers import L1, Regularizer, Zero
from .base import Divergence
from .reciprocal import Reciprocal
from .references import Identity
from .strict_part import strict_part


class Form(NamedTuple):
    """D(z, p) = ``value``(z, p) = w(p) φ(z) − r z up to a constant in z."""

    value: Callable[[Tensor, Tensor], Tensor]
    phi: Callable[[], Legendre]
    weight: Callable[[Tensor], Tensor] | None
    r: float


def _kl(z: Tensor, p: Tensor) -> Tensor:
    return torch.xlogy(z, z / p) - z + p


def _hellinger(z: Tensor, p: Tensor) -> Tensor:
    return (z.sqrt() - p.sqrt()) ** 2


def _tv(z: Tensor, p: Tensor) -> Tensor:
    return (z - p).abs() / 2


_HELLINGER = Form(_hellinger, lambda: Tsallis(0.5), lambda p: p.sqrt() / 2, -1.0)  # −2√(pz) + z
FORMS: dict[tuple[str, bool], Form] = {
    ("kl", False): Form(_kl, BoltzmannShannon, None, 0.0),  # r = log p: a Bregman divergence
    ("kl", True): Form(lambda z, p: _kl(p, z), Burg, lambda p: p, -1.0),  # −p log z + z
    ("chi2", False): Form(lambda z, p: (z - p) ** 2 / p, Energy, lambda p: 2 / p, 2.0),  # z²/p − 2z
    ("chi2", True): Form(lambda z, p: (z - p) ** 2 / z, Reciprocal, lambda p: p**2, -1.0),  # p²/z + z
    ("hellinger", False): _HELLINGER,
    ("hellinger", True): _HELLINGER,
}
KINDS = ("kl", "chi2", "hellinger", "tv")


class Weighted(Transformed):
    """w φ(z), w a tensor that comes with z⁻."""

    def __init__(self, phi: Legendre):
        super().__init__(phi, torch.ones(2))  # of two entries: they may differ

    @property
    def label(self) -> str:
        return f"w(z⁻) {self.phi.label}"

    def same_function(self, other: Any) -> bool:
        return False  # its ∇ is another at the next z⁻


class FDivergence(Divergence):
    """D(z, z⁻) = Σ z⁻ h(z/z⁻), or with ``reverse`` Σ z h(z⁻/z), for z⁻ > 0 entry by entry.

    "kl": h(t) = t log t − t + 1, so KL(z‖z⁻), reversed KL(z⁻‖z); "chi2": (t − 1)²; "hellinger": (√t − 1)²; "tv":
    ½|t − 1|. As functions of z they are entropy, Burg entropy, energy, reciprocal and Tsallis ½ entropy with weights
    from z⁻, plus a linear term, so that the layer is a Bregman prox of those, in closed form where theirs is. chi2
    (not reversed) and tv are finite on the whole line: add ``Nonneg()`` to g where z ≥ 0 is meant. tv has no
    curvature: the minimiser exists and is unique where g has a squared_l2, neg_entropy or log_barrier term, which
    then is the φ of the problem; else the layer is refused. hellinger and the reversed kl and chi2 have a minimiser
    where A(z⁻) < 1, or for every A(z⁻) where g grows fast enough at infinity.

    Raises InputError for an unknown kind.
    """

    knot: Any  # of tv: ½|z − z⁻| as a term of g

    def __init__(self, kind: str, reverse: bool = False):
        super().__init__()
        if kind not in KINDS:
            raise InputError(f"unknown f-divergence {kind!r}; known: {', '.join(KINDS)}")
        self.kind, self.reverse = kind, bool(reverse)
        form = self.form
        self.reference = Identity()
        # Beside the modules: their tensors come and go with z⁻ and are no state of the layer.
        phi = None if form is None else form.phi() if form.weight is None else Weighted(form.phi())
        self.__dict__["phi"] = phi
        self.__dict__["knot"] = L1(0.5).translate(torch.zeros(2)) if kind == "tv" else None
        self.moves = phi is None or isinstance(phi, Weighted)
        if self.moves:
            buffers, name = self._slot
            self.empty = buffers[name]

    @property
    def form(self) -> Form | None:
        """None for tv."""
        return FORMS.get((self.kind, self.reverse))

    @property
    def label(self) -> str:
        return f"{'reverse ' if self.reverse else ''}{self.kind}"

    @property
    def source(self) -> Any:
        return Reals() if self.kind == "tv" else Positive()

    def value(self, z: Tensor, z_prev: Tensor) -> Tensor:
        return _tv(z, z_prev) if self.form is None else self.form.value(z, z_prev)

    def split(self, g: Regularizer) -> tuple[Legendre, Regularizer]:
        if self.knot is None:
            return self.phi, g
        phi, rest = strict_part(g)
        return phi, self.knot if isinstance(rest, Zero) else self.knot + rest

    def dual(self, z: Tensor, u: Tensor | None) -> Tensor | None:
        if self.form is None:
            return None
        if self.form.weight is None:
            return self.phi.grad(z) if u is None else u
        return torch.full_like(z, self.form.r)

    def place(self, z_prev: Tensor) -> None:
        if self.moves:
            buffers, name = self._slot
            buffers[name] = z_prev if self.form is None else self.form.weight(z_prev)  # type: ignore[misc]

    def clear(self) -> None:
        if self.moves:
            buffers, name = self._slot
            buffers[name] = self.empty  # the same as ever: a new one would carry a transform that is under way

    @property
    def _slot(self) -> tuple[Any, str]:
        return (self.knot.offset._buffers, "s_value") if self.form is None else (self.phi._buffers, "weight_value")

    def extra_repr(self) -> str:
        return f"{self.kind!r}, reverse={self.reverse}"
