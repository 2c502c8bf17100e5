"""The automatic choice: the first solver of a fixed order that takes the pair (φ, g), from exact to general.

    closed_form   absorb, select and shift name every term: no iteration
    scalar        φ and g separable: one root an entry
    multiplier    φ separable, one term that couples entries through one multiplier: one root an event
    newton        everything smooth, coupled in any way
    quadratic     a quadratic φ and polyhedral terms behind linear maps: a quadratic program
    splitting     terms that are not smooth, each with a prox, behind linear maps; smooth ones beside them
    conic         what cvxpy can express, to about 1e-5

A layer's f that is not affine in z is a term of g, and its D is φ (see problem.py), so that the same tree serves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import ClassVar

from ..closed_forms.plan import check_domains
from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map
from ..regularizers import Regularizer
from .base import Solver


class Registry(Mapping[str, type[Solver]]):
    """The solvers by name, in the order of the tree. The module of a name holds its class, and loads when looked up."""

    classes: ClassVar[dict[str, str]] = {
        "closed_form": "ClosedForm",
        "scalar": "Scalar",
        "multiplier": "Multiplier",
        "newton": "Newton",
        "quadratic": "Quadratic",
        "splitting": "Splitting",
        "conic": "Conic",
    }

    def __getitem__(self, name: str) -> type[Solver]:
        return getattr(import_module(f".{name}", __package__), self.classes[name])  # type: ignore[no-any-return]

    def __contains__(self, name: object) -> bool:
        return name in self.classes

    def __iter__(self) -> Iterator[str]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)


registry = Registry()


def bind(phi: Legendre, g: Regularizer, solver: str | Solver) -> tuple[Map, list[str]]:
    """The map of (φ, g) by ``solver``, and why the faster solvers were passed over.

    Raises InputError for an unknown name, or with every solver's reason where none takes the pair.
    """
    examples = "bilevelnet.legendre.Energy()", "bilevelnet.regularizers.L1(0.1)"
    for piece, kind, example in zip((phi, g), (Legendre, Regularizer), examples, strict=True):
        if not isinstance(piece, kind):
            what = f"the class {piece.__name__}" if isinstance(piece, type) else repr(piece)[:40]
            raise InputError(f"expected a {kind.__name__} instance, e.g. {example}, not {what}")
    check_domains(phi, g)
    if isinstance(solver, Solver):
        return solver.bind(phi, g), []
    if solver != "auto":
        if solver not in registry:
            raise InputError(f"unknown solver {solver!r}; known: auto, {', '.join(registry)}, or a solver object")
        return registry[solver]().bind(phi, g), []
    reasons: list[str] = []
    for name in registry:
        try:
            return registry[name]().bind(phi, g), reasons
        except InputError as refusal:
            reasons.append(f"not {name}: {refusal}")
    raise InputError(f"no solver takes {phi.label} + {g.label}: " + "; ".join(reasons))
