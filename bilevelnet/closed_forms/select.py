"""Select: the piecewise-linear part of g, decided in the dual of ψ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..legendre import Legendre
from ..numerics import select
from ..piece import Scalar
from ..problem import inner_point
from ..regularizers.piecewise_linear import Piecewise, left_slopes


class Select:
    """w = ∇ψ(z) for v ∈ ∇ψ(z) + ∂p(z), p the sum of the piecewise-linear ``terms``.

    A knot t becomes the dual level ∇ψ(t), ∓∞ at or beyond the ends of dom ψ. Levels that depend on no
    tensor are computed once. Where φ is not steep the ends of its domain are constraints, and so are knots too.
    ``searched``: ∇ψ* is a search.
    """

    def __init__(self, psi: Any, terms: list[Any], searched: bool = False):
        terms = terms if psi.phi.steep else [*terms, DomainEnds(psi.phi)]
        self.psi, self.terms = psi, terms
        knots = [t for term in terms for t in term.pieces()[0]]
        # Values cannot be read while a graph is traced: there the levels are part of it.
        fixed = psi.constant and not any(isinstance(t, Tensor) for t in knots) and not torch.compiler.is_compiling()
        levels = {t: self._level_of_number(t) for t in knots} if fixed else {}
        self.levels: Any = levels if fixed else None
        # ∇ψ*(∇ψ(t)) = t to the last bit in both precisions: then z needs no mending on the knots. A search has it
        # but to rounding.
        returned = fixed and not searched and all(self._returns(t) for t, a in levels.items() if math.isfinite(a))
        self.snapped = not returned
        # Whether a level may be rounded to an end of dom ψ*, where ∇ψ* has no value: as tanh(1000) is, for log cosh.
        self.edge = bool(terms) and psi.dual_domain != Interval() and not (fixed and self._inner(levels.values()))
        # Of numbers alone the steps are the same at every call.
        self.steps = self._steps(torch.zeros((), device="cpu")) if fixed and all(t.constant for t in terms) else None

    def __call__(self, v: Tensor) -> Tensor:
        if not self.terms:
            return v
        end, steps = self._steps(v) if self.steps is None else self.steps
        return select(v, end, steps)

    def _steps(self, v: Tensor) -> tuple[Scalar, list[tuple[Scalar, Scalar]]]:
        pieces = [t.pieces() for t in self.terms]
        end = sum(p[1][-1] for p in pieces)
        return end, [(self._level(t, v), left) for t, left in left_slopes(pieces)]

    def on_edge(self, w: Tensor) -> Tensor | None:
        """Where w rests on a level that is rounded to an end of dom ψ*; None where none is."""
        if not self.edge:
            return None
        held = torch.zeros_like(w, dtype=torch.bool)
        for t in {t for term in self.terms for t in term.pieces()[0]}:
            held = held | (w == self._level(t, w))
        return held & w.isfinite() & ~self.psi.dual_domain.interior(w)

    def _inner(self, levels: Iterable[float]) -> bool:
        finite = torch.tensor([a for a in levels if math.isfinite(a)], dtype=torch.float64, device="cpu")
        return all(bool(self.psi.dual_domain.interior(finite.to(d)).all()) for d in (torch.float32, torch.float64))

    def snap(self, w: Tensor, z: Tensor) -> Tensor:
        """z with the knots themselves where w rests on their levels."""
        if self.terms and (self.snapped or w.device.type != "cpu"):
            for t, _ in left_slopes([term.pieces() for term in self.terms]):
                level = self._level(t, w)
                if isinstance(level, Tensor) or abs(level) != math.inf:
                    z = torch.where(w == level, torch.as_tensor(t, dtype=z.dtype, device=z.device), z)
        return z

    def gain(self, w: Tensor, z: Tensor) -> Tensor:
        """dz/dv = 1/ψ''(z), 0 where w rests on a knot."""
        gain = self.psi.curvature(z).reciprocal()
        knots = [t for term in self.terms for t in term.pieces()[0]] if self.levels is None else self.levels
        for t in knots:
            level = self._level(t, w)
            if isinstance(level, Tensor) or abs(level) != math.inf:
                gain = torch.where(w == level, 0.0, gain)
        return gain

    def _level(self, t: Scalar, v: Tensor) -> Scalar:
        if self.levels is not None:
            return self.levels[t]
        domain = self.psi.domain
        knot = torch.as_tensor(t, dtype=v.dtype, device=v.device)
        lo, hi = (torch.as_tensor(e, dtype=v.dtype, device=v.device) for e in (domain.lo, domain.hi))
        inside = (knot > lo) & (knot < hi) if self.psi.phi.steep else (knot >= lo) & (knot <= hi) & knot.isfinite()
        inner = inner_point(self.psi.common)
        with torch.no_grad():  # ∓∞ where ∇ψ(t) overflows too: its derivative, times 0, would be NaN
            reach = self.psi.grad(torch.where(inside, knot, inner))
            beyond = torch.where(inside, reach, torch.where(knot <= lo, -torch.inf, v.new_full((), torch.inf)))
        inside = inside & reach.isfinite()
        return torch.where(inside, self.psi.grad(torch.where(inside, knot, inner)), beyond)

    def _level_of_number(self, t: Scalar) -> float:
        domain = self.psi.domain
        on_end = not self.psi.phi.steep and abs(t) != math.inf and t in (domain.lo, domain.hi)
        if (t <= domain.lo or t >= domain.hi) and not on_end:
            return -math.inf if t <= domain.lo else math.inf
        level = float(self.psi.grad(torch.tensor(t, dtype=torch.float64, device="cpu")))
        # The end of a barrier, whose derivative was 0 · ∞ there.
        return level if level == level else -math.inf if t <= domain.inner() else math.inf

    def _returns(self, t: Scalar) -> bool:
        # Vectorised and scalar code of one function may round differently: ask both.
        shapes = [(d, n) for d in (torch.float32, torch.float64) for n in (1, 64)]
        levels = [torch.full((n,), self.levels[t], dtype=d, device="cpu") for d, n in shapes]  # type: ignore[index]
        return all(bool((self.psi.inverse(a) == t).all()) for a in levels)

    @property
    def formula(self) -> str:
        """The dual formula, for explain."""
        if not self.terms:
            return "v"
        if len(self.terms) > 1 or not getattr(self.terms[0], "slope_names", None):
            count = sum(len(t.pieces()[0]) for t in self.terms)
            return f"max(v − s_{count}, max_k min(v − s_{{k−1}}, ∇ψ(t_k))), {count} knots"
        names = self.terms[0].slope_names
        text = "" if names[-1] == "∞" else _minus(names[-1])
        for t, name in zip(self.terms[0].pieces()[0], names, strict=False):
            level = self.levels[t] if self.levels is not None else None
            if level == -math.inf:
                continue
            a = f"{level:.4g}" if level is not None else f"∇ψ({t})" if isinstance(t, float) else "∇ψ(t)"
            a = "∞" if a == "inf" else a
            candidate = a if name == "−∞" else f"min({_minus(name)}, {a})" if a != "∞" else _minus(name)
            text = candidate if not text else f"max({text}, {candidate})"
        return text


class DomainEnds(Piecewise):
    """The ends of dom φ as constraints, for a φ whose gradient stays finite there."""

    slope_names = ("−∞", "0", "∞")

    def __init__(self, phi: Legendre):
        super().__init__()
        self.phi = phi

    @property
    def label(self) -> str:
        return f"dom {self.phi.label}"

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return (self.phi.domain.lo, self.phi.domain.hi), (-math.inf, 0.0, math.inf)


def _minus(name: str) -> str:
    return "v" if name == "0" else f"v + {name[1:]}" if name.startswith("−") else f"v − {name}"
