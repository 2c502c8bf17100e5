"""verify: whether a layer is the argmin layer that it is said to be."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..chain import Chain
from ..comparison import Row
from ..couplings import Bilinear
from ..divergences import Divergence, Identity
from ..errors import InputError
from ..layer import BilevelLayer
from ..legendre import Legendre
from ..prox import bregman_prox
from ..regularizers import Regularizer
from . import architectures, compare, draw, laws, theorem
from .certificate import Certificate
from .double import in_double
from .loose import conic
from .reference import ChainReference, PairReference, Reference, weights
from .roots import slope

Neural = Callable[[Tensor], Tensor]
SAMPLES = 24
NOWHERE = "none of the drawn z⁻ has a minimiser: give samples=a batch of z⁻, or weights for which there is one"
ROUNDS = 8  # of drawing, where the minimum is not always attained
WIDTH = 4  # of the points of a pair that does not fix it


def verify(layer: Any, neural: Neural | None = None, samples: int | Tensor = SAMPLES, seed: int = 0) -> Certificate:
    """Compare a layer with an independent solution of argmin_z f(z, z⁻) + D(z, z⁻) + g(z): a ``Certificate``.

    layer: a BilevelLayer, a Chain (its layers and the whole), a pair (φ, g) with v in the place of z⁻, or a pre-norm
    block x + A(norm(x)) such as torch.nn.TransformerEncoderLayer(norm_first=True). A float64 copy in eval mode is
    compared in value, and in gradients with respect to z⁻ and every weight, at z⁻ in int dom φ and near its boundary,
    with the weights as they are and moved at random.

    neural: a claimed neural form z⁻ ↦ z⁺, such as

        lambda z: torch.sigmoid(torch.logit(z) + z @ layer.coupling.weight.mT + layer.coupling.bias)

    It reads the weights of the very ``layer`` that is given, which is lent to it in float64 for the call and given
    back as it was, same Parameters, same numbers. It is compared in the same way; a detached gradient is a failure.
    torch's softplus is the identity beyond its threshold 20, where it is off by 2e-9 and rejected: write it as
    torch.logaddexp(v, 0 * v).

    samples: how many z⁻ are drawn by ``seed``, or a batch of them, which couplings that do not state the shape of a
    sample need. Raises InputError for another kind of layer, or a pair for which nothing independent is known.
    """
    if isinstance(samples, Tensor):
        if not samples.is_floating_point() or samples.ndim < 1 or not len(samples):
            raise InputError("samples is a number of points, or a batch of them: a floating-point tensor")
    elif isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise InputError(f"samples is a number of points, at least 2, or a batch of them, not {samples!r}")
    if neural is not None and not callable(neural):
        raise InputError(f"neural is a function z⁻ ↦ z⁺, not a {type(neural).__name__}")
    run = Run(samples, torch.Generator().manual_seed(seed))
    if isinstance(layer, BilevelLayer):
        certificate = Certificate(f"BilevelLayer: {_headline(layer)}", theorem.statement(layer))
        run.layer(certificate, layer, neural)
    elif isinstance(layer, Chain):
        certificate = Certificate(f"Chain of {len(layer)} layers", "the theorem, layer by layer and for the whole")
        run.chain(certificate, layer, neural)
    elif isinstance(layer, (tuple, list)):
        certificate = run.pair(layer, neural)
    elif isinstance(layer, (Legendre, Regularizer, Divergence)):
        raise InputError(
            f"{type(layer).__name__} alone is no map: verify a pair (φ, g) or a layer; its laws are those of "
            f"bilevelnet.testing and `bilevelnet check`"
        )
    elif isinstance(layer, nn.Module):
        certificate = architectures.certificate(layer, neural, samples, run.generator)
    else:
        given = f"the class {layer.__name__}" if isinstance(layer, type) else f"a {type(layer).__name__}"
        raise InputError(f"verify takes a BilevelLayer, a Chain, a pair (φ, g) or a pre-norm block, not {given}")
    count = len(samples) if isinstance(samples, Tensor) else samples
    certificate.settings = {"samples": count, "seed": seed, "dtype": "float64", "torch": torch.__version__}
    return certificate


class Run:
    """One verification: the samples and the generator of everything that is drawn."""

    def __init__(self, samples: int | Tensor, generator: torch.Generator):
        self.samples, self.generator = samples, generator

    def layer(self, certificate: Certificate, layer: BilevelLayer, neural: Neural | None, prefix: str = "") -> None:
        """The rows of one layer, with its weights as they are and moved."""
        with in_double(layer, neural) as twin:
            twin.bound.on_failure = "nan"
            certificate.add(self._one(twin, layer, neural, prefix))
            if any(True for _ in twin.parameters()):
                draw.moved(twin.parameters(), self.generator)
                if neural is not None:
                    _copy(twin, layer)
                certificate.add(self._one(twin, layer, neural, prefix, moved=True))
            certificate.add(self._identity(twin, prefix))

    def _one(
        self, twin: BilevelLayer, layer: BilevelLayer, neural: Neural | None, prefix: str, moved: bool = False
    ) -> Iterator[Row]:
        phi, g = twin.divergence.phi, twin.regularizer
        try:
            reference = Reference(twin)
        except InputError:
            x = self._drawn(twin, self._count)
            v = twin.problem.dual_point(x, None, x.dtype).detach()
            yield from (row.under(prefix) for row in conic(phi, g, v, twin(x).detach()))
            return
        x = self._inputs(twin, reference)
        if not len(x):  # with other weights the layer may have no minimiser anywhere
            if not moved:
                yield Row.failed(f"{prefix}value", NOWHERE, compare.VALUE_REASON)
            return
        room = draw.room(phi, x) if twin.divergence.reference.uses_point else torch.ones_like(x)
        yield from self._compared(reference, x, room, twin, layer, neural, "z⁻", prefix)
        with torch.no_grad():
            z = twin(x)
        yield from (row.under(prefix) for row in laws.rows(phi, g, reference.prepare(x), z))

    def _compared(
        self,
        reference: compare.Solution,
        x: Tensor,
        room: Tensor,
        twin: Any,
        original: nn.Module,
        neural: Neural | None,
        symbol: str,
        prefix: str,
    ) -> Iterator[Row]:
        """The rows of the twin, and of the neural form, which reads the weights of the original."""
        truth = compare.truth(reference, x, room, weights(twin), self.generator)
        for row in compare.rows(twin, weights(twin), truth, symbol, self.generator):
            yield row.under(prefix)
        if neural is not None:
            for row in compare.rows(neural, weights(original), truth, symbol, self.generator):
                yield row.under("neural form: ")

    def chain(self, certificate: Certificate, chain: Chain, neural: Neural | None) -> None:
        """Its layers one by one at points of their own, then the whole chain with its weights as they are."""
        layers: list[BilevelLayer] = list(chain)
        for k, layer in enumerate(layers):
            run = self if k == 0 and chain.space == "primal" else Run(max(2, self._count), self.generator)
            run.layer(certificate, layer, None, f"layer {k}: ")
        with in_double(chain, neural) as twin:
            twin.on_failure = "nan"
            first = twin[0]
            reference = ChainReference(twin)
            x = self._inputs(first, reference, twin.space == "dual")
            free = twin.space == "dual" or not first.divergence.reference.uses_point
            room = torch.ones_like(x) if free else draw.room(first.divergence.phi, x)
            symbol = "u0" if twin.space == "dual" else "z0"
            certificate.add(self._compared(reference, x, room, twin, chain, neural, symbol, "chain: "))

    def pair(self, pair: Any, neural: Neural | None) -> Certificate:
        """prox^φ_g at v around ∇φ of drawn points, the weights of φ and g as they are."""
        if len(pair) != 2 or not isinstance(pair[0], Legendre) or not isinstance(pair[1], Regularizer):
            raise InputError("a pair is (φ, g): a Legendre function and a Regularizer, e.g. (FermiDirac(), Zero())")
        original = Prox(*pair)
        title = f"(φ, g) = ({pair[0].label}, {pair[1].label})"
        certificate = Certificate(title, f"theorem, row {theorem.of_pair(*pair)}: z = prox^φ_g(v)")
        with in_double(original, neural) as twin:
            phi, g = twin.phi, twin.g
            v = self._duals(phi, g)

            try:
                reference = PairReference(phi, g)
            except InputError:
                certificate.add(conic(phi, g, v, twin(v).detach()))
                return certificate
            v = v if isinstance(self.samples, Tensor) else v[_solved(reference, v)]
            certificate.add(self._compared(reference, v, torch.ones_like(v), twin, original, neural, "v", ""))
            certificate.add(laws.rows(phi, g, v, twin(v).detach()))
        return certificate

    @property
    def _count(self) -> int:
        return len(self.samples) if isinstance(self.samples, Tensor) else self.samples

    def _inputs(self, layer: BilevelLayer, reference: compare.Solution, dual: bool = False) -> Tensor:
        """z⁻ (or ∇φ(z⁻)): those that are given, or drawn until there are enough for which there is a minimiser."""
        if isinstance(self.samples, Tensor):
            return self.samples.detach().double()
        found = []
        for _ in range(ROUNDS):
            x = self._drawn(layer, self._count)
            x = slope(layer.divergence.phi.value, x) if dual else x
            found.append(x[_solved(reference, x)])
            if sum(map(len, found)) >= self._count:
                break
        return torch.cat(found)[: self._count]

    def _drawn(self, layer: BilevelLayer, count: int) -> Tensor:
        if isinstance(self.samples, Tensor):
            return self.samples.detach().double()
        phi = layer.divergence.phi
        shape = draw.event_shape(layer.coupling, phi.width)
        if shape is None:
            raise InputError("this coupling does not state the shape of a sample: verify(layer, samples=a batch of z⁻)")
        if not layer.divergence.reference.uses_point:
            return torch.randn(count, *shape, generator=self.generator, dtype=torch.float64)
        return draw.points(phi, (count, *shape), self.generator)

    def _identity(self, layer: BilevelLayer, prefix: str) -> Iterator[Row]:
        """Row v of the theorem on the layer's own pieces, where it is about them."""
        about = isinstance(layer.coupling, Bilinear) and type(layer.divergence.reference) is Identity
        if not about or layer.regularizer.terms():
            return
        zeroed = copy.deepcopy(layer)
        for p in zeroed.coupling.parameters():
            nn.init.zeros_(p)
        x = self._drawn(layer, self._count)
        with torch.no_grad():
            z = zeroed(x)
        spread = compare.truth(Reference(zeroed), x, torch.zeros_like(x), {}, self.generator).spread
        name = f"{prefix}row v: W = 0, b = 0 gives z⁺ = z⁻"
        yield Row.of(name, (z - x).abs(), spread, {"z⁻": x}, compare.VALUE_REASON)

    def _duals(self, phi: Legendre, g: Regularizer) -> Tensor:
        if isinstance(self.samples, Tensor):
            return self.samples.detach().double()
        width = phi.width or g.width or WIDTH
        shape = (width, width) if max(phi.event_ndim, g.event_ndim) == 2 else (width,)
        return duals(phi, (self.samples, *shape), self.generator)


class Prox(nn.Module):
    """v ↦ prox^φ_g(v) as a module."""

    def __init__(self, phi: Legendre, g: Regularizer):
        super().__init__()
        self.phi, self.g = phi, g

    def forward(self, v: Tensor) -> Tensor:
        return bregman_prox(self.phi, self.g, v, on_failure="nan")


def duals(phi: Legendre, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """v = ∇φ(z) at drawn z, half of them moved by noise (symmetric for matrices)."""
    v = slope(phi.value, draw.points(phi, shape, generator))
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    noise[::2] = 0.0
    return v + (noise if phi.event_ndim < 2 else (noise + noise.mT) / 2)


def _solved(reference: compare.Solution, x: Tensor) -> Tensor:
    return reference(x).isfinite().flatten(1).all(1)


def _copy(source: nn.Module, target: nn.Module) -> None:
    """The numbers of one module's weights into another's, in place."""
    for p, q in zip(source.parameters(), target.parameters(), strict=True):
        q.data.copy_(p.data)


def _headline(layer: BilevelLayer) -> str:
    return layer.explain().splitlines()[0]
