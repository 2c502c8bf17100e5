"""From an existing residual network to its Bregman form on the dual state."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..couplings import Affine
from ..divergences import Bregman, Dual
from ..errors import InputError
from ..layer import BilevelLayer
from ..legendre import Energy, Legendre
from ..regularizers import Regularizer, Zero
from .activation import Activation, pair_of
from .bregmanize_bound import branch_bound, gap
from .bregmanize_graph import Kind, Mirror, Residual, Rewriting
from .bregmanize_memory import Tracer
from .bregmanize_report import Block, Report
from .entrywise import check_entrywise
from .resnet import BregmanResNet

Pairs = dict[Kind, tuple[Legendre, Regularizer]]


def bregmanize(
    module: nn.Module, replace: Mapping[Kind, Activation], example: Tensor | tuple[Tensor, ...] | None = None
) -> fx.GraphModule:
    """A copy of the module whose activations are ρ = prox^φ_g and whose residual blocks are in Bregman form.

    Every activation of a kind in ``replace`` is replaced. A block that adds and then activates, z⁺ = ρ(L z + A(z)),
    becomes z⁺ = prox^φ_g(L ∇φ(z) + A(z)): on the dual state v⁺ = L u + A(∇φ*(u)), u⁺ = T_g(v⁺), so its shortcut carries
    u instead of z. Max-pooling acts on u. Weights and batch norms stay where they are, under their names; a
    module that is shared has the first of its names.

    With (energy, nonneg) for nn.ReLU the result equals the original bit for bit: that network is bilevel as it stands.
    With the softplus it tends, as β → ∞, to the pre-activation twin v⁺ = L v + A(ReLU(v)): each block, at one u, to
    within log 2/β times a constant of its weights (``Block.bound``).

    ``replace``: e.g. ``{nn.ReLU: Softplus(beta=20.0)}``; φ, (φ, g), names and modules as for BregmanMLP. Functional
    forms (torch.relu, x.relu()) count as their module. The ``report`` of the torch.fx.GraphModule that is returned says
    of every sum whether it was changed or left and why, and holds the changed blocks as layers, which
    bilevelnet.verify takes; with an ``example`` (an input, or a tuple of them) also how far it is from the original and
    the twin, in eval mode.
    Raises InputError where torch.fx cannot trace the module, and for a pair that is no activation of single entries.
    """
    pairs = _pairs(replace)
    traced = _trace(module, tuple(pairs))
    network, twin = (_graph_module(traced) for _ in range(2))
    rewriting = Rewriting(network, pairs)
    residuals, twins = rewriting.residuals, Rewriting(twin, pairs, keep=True).residuals
    names = ", ".join(f"{k.__name__} → {phi.label} + {g.label}" for k, (phi, g) in pairs.items())
    report = Report(f"bregmanize: {names}", rewriting.activations, [_block(r, pairs) for r in residuals])
    if example is not None:
        _measure(report, module, network, twin, list(zip(residuals, twins, strict=True)), example)
    # What deepcopy of a GraphModule keeps beside the modules of its graph.
    network.meta["_user_preserved_attributes"] = {"report": report}
    network.report = report  # type: ignore[assignment]
    return network


def pre_activation(module: nn.Module, activations: tuple[Kind, ...] = (nn.ReLU,)) -> fx.GraphModule:
    """The pre-activation twin: v⁺ = L v + A(ReLU(v)) for every residual block that ``bregmanize`` would change."""
    pairs: Pairs = {kind: (Energy(), Zero()) for kind in activations}
    twin = _graph_module(_trace(module, activations))
    Rewriting(twin, pairs, keep=True)
    return twin


def _pairs(replace: Mapping[Kind, Activation]) -> Pairs:
    if not isinstance(replace, Mapping) or not replace:
        raise InputError(
            "replace maps kinds of activations to what takes their place, e.g. {nn.ReLU: Softplus(beta=20.0)}"
        )
    pairs: Pairs = {}
    for kind, activation in replace.items():
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise InputError(f"the keys of replace are classes of modules, e.g. torch.nn.ReLU, not {kind!r}")
        pairs[kind] = check_entrywise(*pair_of(activation))
    return pairs


def _trace(module: nn.Module, kinds: tuple[Kind, ...]) -> tuple[nn.Module, fx.Graph]:
    if not isinstance(module, nn.Module):
        raise InputError(f"bregmanize takes a torch.nn.Module, not a {type(module).__name__}")
    if any(isinstance(m, (BilevelLayer, BregmanResNet, Mirror)) for m in module.modules()):
        raise InputError(
            f"{type(module).__name__} is made of bilevel layers already: build it, or bregmanize the original, with "
            f"the φ that you want"
        )
    copied = copy.deepcopy(module)
    try:
        graph = Tracer(kinds).trace(copied)
    except InputError:
        raise
    except Exception as error:  # a trace runs the user's forward, which may raise anything
        raise InputError(
            f"torch.fx cannot trace {type(module).__name__} ({type(error).__name__}: {error}): take control flow that "
            f"depends on values out of forward, or bregmanize the part of it that has the residual blocks"
        ) from error
    for node in graph.nodes:
        node.type = None  # an annotation that is a string would make the graph unpicklable
    return copied, graph


def _graph_module(traced: tuple[nn.Module, fx.Graph]) -> fx.GraphModule:
    root, graph = traced
    made = fx.GraphModule(root, copy.deepcopy(graph), type(root).__name__)
    made.training = root.training
    return made


def _block(residual: Residual, pairs: Pairs) -> Block:
    if residual.branch is None or residual.kind is None:
        return Block(residual.name, False, residual.reason)
    phi, g = pairs[residual.kind]
    reference = None if residual.shortcut is None else Dual(residual.shortcut)
    layer = BilevelLayer(Affine(residual.branch, _event_ndim(residual.branch)), Bregman(phi, reference), g)
    delta = gap(phi, g, residual.kind)
    bound = None if delta is None else branch_bound(residual.branch, phi, delta)
    return Block(residual.name, True, residual.reason, layer, bound)


def _event_ndim(branch: nn.Module) -> int:
    for kind, event_ndim in ((nn.Conv1d, 2), (nn.Conv2d, 3), (nn.Conv3d, 4)):
        if any(isinstance(m, kind) for m in branch.modules()):
            return event_ndim
    return 1


@torch.no_grad()
def _measure(
    report: Report,
    module: nn.Module,
    network: fx.GraphModule,
    twin: fx.GraphModule,
    residuals: list[tuple[Residual, Residual]],
    example: Tensor | tuple[Tensor, ...],
) -> None:
    def inputs() -> list[Tensor]:  # cloned, as activations in place may start on them
        return [x.clone() for x in (example if isinstance(example, tuple) else (example,))]

    with _evaluating(module, network, twin):
        recorder = Recorder(network)
        output, original = recorder.run(*inputs()), module(*inputs())
        if not isinstance(output, Tensor):
            raise InputError(f"differences are measured of one tensor, the network gives a {type(output).__name__}")
        if not output.numel():
            raise InputError("the example is empty: give one with values to measure on, or none")
        report.from_original, report.from_twin = _distance(output, original), _distance(output, twin(*inputs()))
        report.scale = float(original.abs().max())
        for block, (ours, theirs) in zip(report.blocks, residuals, strict=True):
            if block.layer is not None and ours.point is not None and theirs.point is not None:
                u = recorder.seen[ours.state.name]  # type: ignore[union-attr]
                a, a0 = ours.branch(ours.point(u)), theirs.branch(theirs.point(u))  # type: ignore[misc]
                block.difference = _distance(a, a0)


class Recorder(fx.Interpreter):
    """An interpreter that keeps what every node gave, by name."""

    def __init__(self, network: fx.GraphModule):
        super().__init__(network)
        self.seen: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.seen[n.name] = super().run_node(n)
        return self.seen[n.name]


@contextlib.contextmanager
def _evaluating(*modules: nn.Module) -> Iterator[None]:
    flags = {m: m.training for module in modules for m in module.modules()}
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for m, training in flags.items():
            m.training = training


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())
