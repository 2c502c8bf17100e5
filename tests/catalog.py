"""Every registered piece at each of its examples, and every pair with a closed form, as parametrized cases."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

import bilevelnet as bln


class Spec(NamedTuple):
    """A class, the parameters of one instance, and whether it is the class's first."""

    cls: type
    params: dict[str, Any]
    first: bool

    def build(self) -> Any:
        return self.cls(**self.params)

    @property
    def name(self) -> str:
        shown = ",".join(f"{k}={_short(v)}" for k, v in self.params.items())
        return f"{self.cls.key}({shown})" if shown else self.cls.key


def _short(value: Any) -> str:
    return repr(value).replace(" ", "")


def specs(registry: dict[str, type]) -> list[Spec]:
    return [Spec(c, dict(p), k == 0) for c in registry.values() for k, p in enumerate(c.examples)]


LEGENDRE = specs(bln.legendre.registry)
REGULARIZERS = specs(bln.regularizers.registry)


def separable(piece: Any) -> bool:
    """Whether it acts on each entry apart."""
    return piece.build().event_ndim == 0


SEPARABLE = [p for p in LEGENDRE if separable(p) and p.first]


def cases(found: list[Spec]) -> list[Any]:
    """The instances, by name."""
    return [pytest.param(s, id=s.name) for s in found]


class Composite(NamedTuple):
    """A regularizer made by the calculus, with a name to show."""

    name: str
    make: Any
    first: bool = True

    def build(self) -> Any:
        return self.make()


def _r(key: str, **params: Any) -> Any:
    return bln.regularizers.get(key, **params)


# Sums, multiples and nestings: the three moves must find their terms in any order.
COMPOSITES = [
    Composite("l1+squared_l2", lambda: _r("l1", lam=0.3) + _r("squared_l2", lam=0.5)),
    Composite("box+l1", lambda: _r("box", lo=-0.5, hi=0.75) + _r("l1", lam=0.2)),
    Composite("2*(quantile+nonneg)", lambda: 2.0 * (_r("quantile", lam=0.4, tau=0.7) + _r("nonneg"))),
    Composite(
        "0.5*squared_l2+(box+l1)",
        lambda: 0.5 * _r("squared_l2", lam=1.4) + (_r("box", lo=0.1, hi=0.9) + 3.0 * _r("l1", lam=0.1)),
    ),
    Composite("3*zero+l1", lambda: 3.0 * _r("zero") + _r("l1", lam=0.25)),
    Composite("0*l1+0*squared_l2", lambda: 0.0 * _r("l1", lam=1.0) + 0.0 * _r("squared_l2", lam=1.0)),
    Composite(
        "l1+quantile+piecewise_linear",
        lambda: (
            _r("l1", lam=0.2)
            + _r("quantile", lam=0.3, tau=0.2)
            + _r("piecewise_linear", knots=(-0.2, 0.4), slopes=(-0.5, 0.1, 0.6))
        ),
    ),
]


def closed(phi: Any, g: Any) -> bool:
    """Whether the pair has a closed form."""
    try:
        bln.solvers.bind(phi.build(), g.build(), "closed_form")
    except bln.InputError:
        return False
    return True


PAIRS = [(phi, g) for phi in LEGENDRE for g in [*REGULARIZERS, *COMPOSITES] if closed(phi, g)]


def pair_cases() -> list[Any]:
    """Every pair with a closed form; those beyond the first instances are heavy."""
    return [
        pytest.param(phi, g, id=f"{phi.name}-{g.name}", marks=() if _quick(phi, g) else pytest.mark.heavy)
        for phi, g in PAIRS
    ]


def _quick(phi: Spec, g: Any) -> bool:
    # The gradient of a tanh mixture is itself a search, which every step of a bisection repeats.
    slow = phi.cls.key == "tanh_mixture" and g.name not in ("zero", "nonneg")
    return phi.first and g.first and not slow


def drawn_pairs() -> list[Any]:
    """Every pair for the laws that cost seconds; all but one for each φ and one for each g are heavy."""
    seen: set[str] = set()
    found = []
    for phi, g in sorted(PAIRS, key=lambda p: (p[0].name + p[1].name)[::-1]):  # mixed, and the same at every run
        quick = _quick(phi, g) and phi.cls.key != "tanh_mixture"
        fresh = {phi.cls.key, "g:" + g.name} - seen if quick else set()
        light = len(fresh) == 2
        seen |= fresh if light else set()
        found.append(pytest.param(phi, g, id=f"{phi.name}-{g.name}", marks=() if light else pytest.mark.heavy))
    return found
