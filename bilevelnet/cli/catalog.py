"""What the registries hold, as plain data that JSON takes. Numbers and domains are those of the first example."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

from ..closed_forms.absorb import rules
from ..closed_forms.span import INVERSES
from ..domains import Domain, Eigenvalues, Interval, Preimage
from ..errors import InputError
from ..legendre import Legendre
from ..legendre import registry as legendres
from ..piece import Piece
from ..regularizers import Regularizer, Separable, Smooth
from ..regularizers import registry as regularizers
from ..solvers import bind
from ..solvers.inverse import Inverse

Record = dict[str, Any]

STATED = ("value", "prox", "conjugate", "expression")
SIZES = "the examples are of different sizes"
# ∇ψ over the basis of closed_forms/span.py
GRADIENTS = {"linear": "+ m z", "log": "+ s log z", "reciprocal": "− k/z", "exp": "+ c e^z"}

CONES = {"(0, ∞)": "Z ≻ 0", "[0, ∞)": "Z ⪰ 0", "(−∞, 0)": "Z ≺ 0", "(−∞, 0]": "Z ⪯ 0"}  # by the eigenvalues


def legendre_functions() -> list[Record]:
    """One record a φ."""
    records = []
    for cls in legendres.values():
        phi = first(cls)
        whole = phi.dual_domain == Interval()
        records.append(
            {
                **_common(cls, phi),
                "strong_convexity": float(phi.strong_convexity),
                "dual_domain": None if whole else shown(phi.dual_domain, phi.event_ndim),
                "root": None if phi.event_ndim else _unknown(phi),
            }
        )
    return records


def convex_regularizers() -> list[Record]:
    """One record a g; ``stated`` are the methods that are formulas of its own, and not derived."""
    records = []
    for cls in regularizers.values():
        g = first(cls)
        derived = [getattr(base, name, None) for base in (Regularizer, Separable) for name in STATED]
        stated = [name for name in STATED if getattr(cls, name) not in derived]
        records.append({**_common(cls, g), "kind": _kind(g), "stated": stated})
    return records


def known_sums() -> Record:
    """The ψ = φ + h with a known (∇ψ)⁻¹: by the span of their gradients, and pair by pair."""
    spans = []
    for basis, (name, _) in INVERSES.items():
        terms = " ".join(GRADIENTS[term] for term in GRADIENTS if term in basis)
        gradient = terms.removeprefix("+ ") if terms[0] == "+" else terms.replace("− ", "−", 1)
        alone = [phi.key for phi in map(first, legendres.values()) if set(phi.span() or ()) == basis]
        sums = [(p.key, h.key) for p, h in _spanned() if set(p.span() or ()) | set(h.span() or ()) == basis]
        spans.append({"basis": sorted(basis), "gradient": gradient, "inverse": name, "phi": alone, "sums": sums})
    pairs = [
        {"phi": phi.key, "h": h.key, "inverse": rule.name, "rule": headline(rule.inverse)}
        for (phi, h), rule in rules().items()
        if phi.key
    ]
    return {"spans": spans, "pairs": pairs}


def pairs() -> list[Record]:
    """The solver that auto chooses for each (φ, g), or why there is none."""
    every_g = [first(cls) for cls in regularizers.values()]
    return [_solver(phi, g) for phi in map(first, legendres.values()) for g in every_g]


SECTIONS: dict[str, Callable[[], Any]] = {
    "legendre": legendre_functions,
    "regularizers": convex_regularizers,
    "known": known_sums,
    "pairs": pairs,
}


def first(cls: Any) -> Any:
    """The first example of a class."""
    return cls(**cls.examples[0])


def headline(documented: Any) -> str:
    """The first line of a docstring."""
    return (documented.__doc__ or "").strip().partition("\n")[0].replace("``", "").rstrip(".")


def formula(documented: Any) -> str:
    """What it says before its semicolon."""
    return headline(documented).partition(";")[0].rstrip(".")


def shown(domain: Domain, event_ndim: int) -> str:
    """A domain in a few characters."""
    if isinstance(domain, Preimage):
        return shown(domain.domain, event_ndim)
    if isinstance(domain, Eigenvalues):
        interval = shown(domain.interval, 0)
        return CONES.get(interval, f"eig ∈ {interval}")
    if domain == Interval():
        return "ℝⁿ" if event_ndim else "ℝ"
    if isinstance(domain, Interval) and domain.constant:
        left, right = "[" if domain.closed[0] else "(", "]" if domain.closed[1] else ")"
        lo, hi = _number(float(domain.lo)), _number(float(domain.hi))
        return f"{'(' if lo == '−∞' else left}{lo}, {hi}{')' if hi == '∞' else right}"
    return re.sub(r"\(.*\)|, .*|[{}]|(?<=\d)\.0\b", "", repr(domain))  # a set by its name, {‖z‖_2 ≤ 1.0} as it is


def _number(x: float) -> str:
    if abs(x) == math.pi / 2:
        return "−π/2" if x < 0 else "π/2"
    return f"{x:.4g}".replace("-", "−").replace("inf", "∞")


def _common(cls: type[Piece], piece: Any) -> Record:
    names = list(inspect.signature(cls.__init__).parameters)[1:]
    return {
        "key": cls.key,
        "class": cls.__name__,
        "parameters": [n for n in names if n not in ("args", "kwargs")],
        "example": cls.examples[0],
        "formula": formula(cls),
        "domain": shown(piece.domain, piece.event_ndim),
        "event_ndim": piece.event_ndim,
    }


def _unknown(phi: Legendre) -> str:
    """What the scalar solver searches: the dual u, or a chart of the domain."""
    if Inverse(phi, []).in_dual:
        return "u"
    ends = [math.isfinite(end) for end in (phi.domain.lo, phi.domain.hi)]
    return ("z", "log", "logit")[sum(ends)]


def _kind(g: Regularizer) -> str:
    if g.event_ndim:
        return "coupled"
    terms = g.terms()
    linear = [t.pieces() is not None for t in terms]
    if all(linear):
        return "piecewise linear"
    smooth = [isinstance(t, Smooth) for t in terms]
    return "smooth" if all(smooth) else "mixed"


def _spanned() -> list[tuple[Legendre, Regularizer]]:
    phis = [phi for phi in map(first, legendres.values()) if phi.span()]
    terms = [g for g in map(first, regularizers.values()) if g.span()]
    return [(phi, h) for phi in phis for h in terms]


def _solver(phi: Legendre, g: Regularizer) -> Record:
    record: Record = {"phi": phi.key, "g": g.key, "solver": None, "reason": None}
    if phi.width and g.width and phi.width != g.width:
        return {**record, "reason": f"{SIZES}: vectors of width {phi.width} and {g.width}"}
    try:
        record["solver"] = bind(phi, g, "auto")[0].name
    except InputError as refusal:
        record["reason"] = str(refusal)
    return record
