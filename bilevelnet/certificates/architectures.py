"""Pre-norm residual blocks: x + A(norm(x)) as a layer of a Bregman chain whose dual state is the residual stream.

With ρ = norm without gain, a sub-block is v + A(ρ(v)), so z⁺ = ρ(v⁺) = argmin_z −⟨z, A(z⁻)⟩ + D_φ(z, z⁻) + g(z) at
z⁻ = ρ(v): row iv of the theorem, z the whole sequence of tokens, φ a sum over tokens, A the branch with the gain and
bias of the norm before it. The normalisations are found by their classes and watched through forward hooks, so that
the forward of the block is what is certified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..comparison import Row
from ..errors import InputError
from . import compare
from .certificate import Certificate
from .double import in_double
from .norms import Norm, norms_of
from .reference import weights

TOKENS = 5
REASON = "256 eps of the stream: rounding"


def certificate(
    block: nn.Module, neural: Callable[[Tensor], Tensor] | None, samples: int | Tensor, generator: torch.Generator
) -> Certificate:
    """The rows of a block that maps a batch of token sequences (B, T, n), or of vectors (B, n), to its like."""
    found = Certificate(
        type(block).__name__, "theorem, row iv: u⁺ = u + A(ρ(u)), the residual stream is the dual state"
    )
    with in_double(block, neural) as twin:
        flipped = any(isinstance(m, nn.MultiheadAttention) and not m.batch_first for m in twin.modules())
        norms = norms_of(twin, flipped)
        if not norms:
            raise InputError(
                f"{type(block).__name__} is no BilevelLayer, Chain or pair, and holds no LayerNorm or RMSNorm: "
                f"a block x + A(norm(x)) is certified by the norms in it"
            )
        x = _streams(norms[0].width, samples, generator)
        run = _sequences_first(twin, flipped)
        forms = None if neural is None else _sequences_first(neural, flipped)
        try:
            with torch.no_grad():
                streams, output = _recorded(run, norms, x)
        except Exception as failure:
            raise InputError(
                f"{type(block).__name__} does not take a stream of shape {tuple(x.shape)} ({failure}): "
                f"verify(block, samples=a batch of streams)"
            ) from failure
        norms = [norm for norm in norms if norm.name in streams]
        shared, rows = _residual(run, norms, x, generator)
        found.theorem = "; ".join([found.theorem, *_claims(shared)])
        found.add(rows)
        found.add(_argmin(shared, streams, output))
        for norm in shared:
            found.add(_norm(norm, streams[norm.name].detach(), generator))
        truth = compare.truth(BlockSolution(run, shared, twin), x, _size(norms[0], x), weights(twin), generator)
        truth.joint = True
        for call, owner, prefix in ((run, twin, "block: "), (forms, block, "neural form: ")):
            if call is not None:
                found.add(row.under(prefix) for row in compare.rows(call, weights(owner), truth, "x", generator))
    return found


def _claims(norms: list[Norm]) -> list[str]:
    """What each kind of norm is said to be, with the names of its norms."""
    names: dict[str, list[str]] = {}
    for norm in norms:
        names.setdefault(norm.claim, []).append(norm.name)
    return [f"{', '.join(at)}: {claim}" for claim, at in names.items()]


class BlockSolution(compare.Solution):
    """The block with each norm of its stream replaced by gain · argmin_z φ(z) + g(z) − ⟨z, v⟩ + bias."""

    def __init__(self, run: Callable[[Tensor], Tensor], norms: list[Norm], block: nn.Module):
        self.run, self.norms = run, norms
        self.inner = frozenset(id(p) for p in block.parameters())

    def solve(self, v: Tensor, shift: Tensor) -> Tensor:
        def independent(norm: Norm, stream: Tensor, output: Tensor) -> Tensor:
            return norm.affine(norm.inclusion(compare.moved(stream, shift)))

        with torch.no_grad(), _hooked(self.norms, independent):
            return self.run(v)


class NormSolution(compare.Solution):
    """One normalisation by its own argmin problem."""

    def __init__(self, norm: Norm):
        self.norm = norm
        self.inner = frozenset(id(p) for p in norm.module.parameters())

    def solve(self, v: Tensor, shift: Tensor) -> Tensor:
        with torch.no_grad():
            return self.norm.affine(self.norm.inclusion(compare.moved(v, shift)))


def _norm(norm: Norm, stream: Tensor, generator: torch.Generator) -> Iterator[Row]:
    """The module against argmin φ + g − ⟨z, v⟩, at the streams that reach it."""
    truth = compare.truth(NormSolution(norm), stream, _size(norm, stream), weights(norm.module), generator)
    for row in compare.rows(norm.module, weights(norm.module), truth, "v", generator):
        yield row.under(f"{norm.name}: ")


def _residual(
    run: Callable[[Tensor], Tensor], norms: list[Norm], x: Tensor, generator: torch.Generator
) -> tuple[list[Norm], list[Row]]:
    """The norms of the stream, and whether all but them adds to it: with their outputs held, what follows moves as x.

    A norm whose input stays when x moves is inside a branch, and part of A.
    """
    held: dict[str, Tensor] = {}
    move = torch.randn(x.shape, generator=generator, dtype=x.dtype)

    def keep(norm: Norm, stream: Tensor, output: Tensor) -> Tensor:
        return held.setdefault(norm.name, output)

    with torch.no_grad():
        with _hooked(norms, keep):
            before, first = _recorded(run, norms, x)
        with _hooked(norms, keep):
            after, second = _recorded(run, norms, x + move)
    shared, rows = [], []
    for norm in norms:
        change = after[norm.name] - before[norm.name]
        if bool((change == 0).all()):
            continue
        shared.append(norm)
        rows.append(_moved(f"{norm.name}: its input is x + what the branches add", change, move, before[norm.name]))
    rows.append(_moved("block: x + A(norm(x)), A sees x through its norms alone", second - first, move, first))
    return shared, rows


def _moved(name: str, change: Tensor, move: Tensor, stream: Tensor) -> Row:
    if change.shape != move.shape:
        return Row.failed(name, f"shape {tuple(change.shape)}, the stream {tuple(move.shape)}", REASON)
    slack = compare.SHIFT * (1 + stream.abs() + move.abs())
    return Row.of(name, (change - move).abs(), slack, {"x moves by": move, "what follows by": change}, REASON)


def _argmin(norms: list[Norm], streams: dict[str, Tensor], output: Tensor) -> Iterator[Row]:
    """z⁺ = ρ(v⁺) against argmin f + D + g at z⁻ = ρ(v), from u = ∇φ(z⁻) and A = v⁺ − v, for every sub-block."""
    following = [*(streams[norm.name] for norm in norms[1:]), output]
    for norm, after in zip(norms, following, strict=True):
        v = streams[norm.name]
        if v.shape != after.shape:
            continue
        point = norm.dual(v) + (after - v)
        z, found = norm.inclusion(point), norm.plain(after)
        ends = [norm.inclusion(compare.moved(point, sign * compare.SHIFT, v)) for sign in (1.0, -1.0)]
        slack = (ends[0] - ends[1]).abs() + compare.SHIFT * z.abs()
        at = {"found": found, "independent": z}
        yield Row.of(f"after {norm.name}: z⁺ = argmin f + D + g", (found - z).abs(), slack, at, compare.VALUE_REASON)


def _recorded(run: Callable[[Tensor], Tensor], norms: list[Norm], x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The inputs of the norms by name, and the output, of one forward."""
    streams: dict[str, Tensor] = {}

    def record(norm: Norm, stream: Tensor, output: Tensor) -> None:
        streams.setdefault(norm.name, stream)

    with _hooked(norms, record):
        return streams, run(x)


@contextmanager
def _hooked(norms: list[Norm], watch: Callable[[Norm, Tensor, Tensor], Tensor | None]) -> Iterator[None]:
    """Forward hooks on the norms: what ``watch`` returns takes the place of their output."""
    handles = []
    for norm in norms:

        def hook(_: Any, inputs: tuple[Tensor, ...], output: Tensor, norm: Norm = norm) -> Tensor | None:
            found = watch(norm, norm.flip(inputs[0]), norm.flip(output))
            return None if found is None else norm.flip(found)

        handles.append(norm.module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _sequences_first(block: Callable[[Tensor], Tensor], flipped: bool) -> Callable[[Tensor], Tensor]:
    """The block on (B, T, n), where its own order is (T, B, n)."""
    return (lambda x: block(x.transpose(0, 1)).transpose(0, 1)) if flipped else block


def _size(norm: Norm, stream: Tensor) -> Tensor:
    """What a norm divides each token by, over which it bends: how far its entries move for differences."""
    return (norm.dual(stream).square().mean(-1, keepdim=True) + norm.eps).sqrt().expand_as(stream)


def _streams(width: int, samples: int | Tensor, generator: torch.Generator) -> Tensor:
    """Streams of several sizes, at least the first two: beyond 30 a clamp shows, small ones are where ε counts."""
    if isinstance(samples, Tensor):
        return samples.detach().double()
    x = torch.randn(max(2, samples // 4), TOKENS, width, generator=generator, dtype=torch.float64)
    sizes = torch.tensor([1.0, 30.0, 0.01, 0.2], dtype=torch.float64)
    return x * sizes[torch.arange(len(x)) % len(sizes)].reshape(-1, 1, 1)
