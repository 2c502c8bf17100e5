"""The laws as classes for pytest: one test a law.

    class TestMyEntropy(bilevelnet.testing.LegendreLaws):
        piece = MyEntropy()

Nothing here imports pytest, which collects the subclass by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ..divergences import Divergence
from ..layer import BilevelLayer
from ..legendre import Legendre
from ..regularizers import Regularizer
from . import closed_form, divergence, layer, legendre, regularizer
from .given import expect
from .pair import Pair
from .points import Draw, event_of
from .report import Law, run


class Laws:
    """Base: ``subject()`` gives the arguments of the laws. ``seed`` draws the points, on ``device``."""

    seed: ClassVar[int] = 0
    device: ClassVar[str] = "cpu"

    def subject(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _given(self, name: str, kind: type) -> Any:
        value = getattr(self, name, None)
        expect(value, kind, f"{type(self).__name__}: set {name} = …, which")
        return value

    def _draw(self) -> Draw:
        return Draw(self.seed, self.device)


def tested_by(laws: Sequence[Law]) -> Callable[[type], type]:
    """A class decorator: a method "test <law>" for each law."""

    def decorate(cls: type) -> type:
        for law in laws:
            setattr(cls, f"test {law.name}", _test(law))
        return cls

    return decorate


def _test(law: Law) -> Callable[[Laws], None]:
    def test(self: Laws) -> None:
        run(type(self).__name__, [law], self.subject(), raises=True)

    test.__name__, test.__doc__ = f"test {law.name}", f"{law.name}; tolerance: {law.reason}."
    return test


@tested_by(legendre.LAWS)
class LegendreLaws(Laws):
    """The laws of φ = ``piece``."""

    piece: ClassVar[Legendre]

    def subject(self) -> tuple[Any, ...]:
        phi = self._given("piece", Legendre)
        return phi, event_of(phi, device=self.device), self._draw()


@tested_by(regularizer.LAWS)
class RegularizerLaws(Laws):
    """The laws of g = ``piece``."""

    piece: ClassVar[Regularizer]

    def subject(self) -> tuple[Any, ...]:
        g = self._given("piece", Regularizer)
        return g, event_of(g, device=self.device), self._draw()


@tested_by(divergence.LAWS)
class DivergenceLaws(Laws):
    """The laws of D = ``piece``."""

    piece: ClassVar[Divergence]

    def subject(self) -> tuple[Any, ...]:
        return (divergence.Sample(self._given("piece", Divergence), self._draw()),)


@tested_by((*closed_form.LAWS, *closed_form.THOROUGH))
class ClosedFormLaws(Laws):
    """The laws of the closed form of (φ, g) = (``phi``, ``g``)."""

    phi: ClassVar[Legendre]
    g: ClassVar[Regularizer]

    def subject(self) -> tuple[Any, ...]:
        return (Pair(self._given("phi", Legendre), self._given("g", Regularizer), "closed_form", self._draw()),)


@tested_by((*layer.LAWS, *layer.THOROUGH))
class LayerLaws(Laws):
    """The laws of a layer = ``piece``; ``z_prev``, a batch of inputs, where its coupling does not state its width."""

    piece: ClassVar[BilevelLayer]
    z_prev: ClassVar[Any] = None

    def subject(self) -> tuple[Any, ...]:
        return (layer.Sample(self._given("piece", BilevelLayer), self.z_prev, self.seed),)
