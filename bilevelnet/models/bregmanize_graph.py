"""The rewriting of a graph: activations become mirror maps, shortcuts run on the dual state."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, fx, nn

from ..legendre import Legendre
from ..prox import Bound
from ..regularizers import Regularizer, Zero
from ..values import at_least_float32
from .bregmanize_match import (
    activation_kind,
    is_difference,
    is_max_pooling,
    is_sum,
    linear_origins,
    linear_path,
    module_of,
    place,
)
from .bregmanize_memory import read_what_was_written

Kind = type[nn.Module]


class State(nn.Module):
    """v ↦ u = ∇φ(prox^φ_g(v)), the dual state after g; in v's dtype."""

    def __init__(self, phi: Legendre, g: Regularizer):
        super().__init__()
        self.phi, self.g = phi, g
        self.bound = Bound(phi, g, "auto", "ignore")

    def forward(self, v: Tensor) -> Tensor:
        state = at_least_float32(v)
        u = self.bound.map.state(state)[0] if self.bound.map.direct else self.bound.map.solve(state).dual
        return u.to(v.dtype)  # type: ignore[union-attr]


class Mirror(nn.Module):
    """u ↦ z = ∇φ*(u), in u's dtype."""

    def __init__(self, phi: Legendre):
        super().__init__()
        self.phi = phi

    def forward(self, u: Tensor) -> Tensor:
        return self.phi.grad_conjugate(at_least_float32(u)).to(u.dtype)


@dataclass(frozen=True)
class Residual:
    """A sum of the graph. Changed where ``kind`` is given: v = L u + A(z), u and z the dual state and the point there.

    shortcut, branch: L and A as modules; no shortcut: L is the identity. state: the node of u. point: the module from
    u to z.
    """

    name: str
    reason: str
    kind: Kind | None = None
    state: fx.Node | None = None
    point: nn.Module | None = None
    shortcut: fx.GraphModule | None = None
    branch: fx.GraphModule | None = None


class Rewriting:
    """One pass over the graph of ``network``, in place; afterwards ``residuals`` tells what became of every sum.

    pairs: (φ, g) by kind of activation. With ``keep`` the activations stay what they were, between u and z: that is the
    pre-activation twin.
    """

    def __init__(self, network: fx.GraphModule, pairs: dict[Kind, tuple[Legendre, Regularizer]], keep: bool = False):
        self.network, self.graph, self.pairs, self.keep = network, network.graph, pairs, keep
        self.states: dict[fx.Node, tuple[fx.Node, Kind]] = {}  # by the node of z: the node of u
        self.names: dict[tuple[object, ...], str] = {}
        self.residuals: list[Residual] = []
        self.activations = 0
        read_what_was_written(network, self.graph)
        for node in list(self.graph.nodes):
            kind = activation_kind(network, node, pairs)
            if kind is not None:
                self._activate(node, kind)
            elif is_max_pooling(network, node) and node.all_input_nodes[0] in self.states:
                self._pool(node)
            elif is_sum(node):
                self.residuals.append(self._sum(node))
            elif is_difference(node) and self._kinds_after(node):
                reason = "it subtracts its second term: put the sign in the branch"
                self.residuals.append(Residual(place(node), reason))
        self.graph.eliminate_dead_code()
        self.graph.lint()
        network.recompile()
        network.delete_all_unused_submodules()

    def _activate(self, node: fx.Node, kind: Kind) -> None:
        """z = ρ(v) becomes u = T_g(v), z = ∇φ*(u)."""
        (v,) = node.all_input_nodes
        phi, g = self.pairs[kind]
        self.activations += 1
        if self.keep:
            mirror = self._module(
                "activation", (node.target,), lambda: out_of_place(kind, module_of(self.network, node))
            )
        else:
            mirror = self._module("mirror", (kind,), lambda: Mirror(phi))
        with self.graph.inserting_before(node):
            u = v
            if not isinstance(g, Zero):
                u = self.graph.call_module(self._module("state", (kind,), lambda: State(phi, g)), (v,))
            self._replace(node, u, self.graph.call_module(mirror, (u,)), kind)

    def _pool(self, node: fx.Node) -> None:
        """max ρ(u) = ρ(max u)."""
        z = node.all_input_nodes[0]
        u, kind = self.states[z]
        with self.graph.inserting_before(node):
            pooled = self.graph.node_copy(node, {z: u}.__getitem__)
            self._replace(node, pooled, self.graph.call_module(str(z.target), (pooled,)), kind)

    def _replace(self, node: fx.Node, u: fx.Node, z: fx.Node, kind: Kind) -> None:
        z.meta.update(node.meta)
        node.replace_all_uses_with(z)
        self.graph.erase_node(node)
        self.states[z] = u, kind

    def _module(self, what: str, key: tuple[object, ...], build: Callable[[], nn.Module]) -> str:
        """The name of a module of the network, built once for each key."""
        if (what, *key) not in self.names:
            name = f"{what}_{len(self.names)}"
            while hasattr(self.network, name):
                name += "_"
            self.network.add_module(name, build())
            self.names[what, *key] = name
        return self.names[what, *key]

    def _kinds_after(self, node: fx.Node) -> list[Kind]:
        """The activations that the node goes into."""
        return [k for user in node.users if (k := activation_kind(self.network, user, self.pairs)) is not None]

    def _sum(self, node: fx.Node) -> Residual:
        name = place(node)
        kinds = self._kinds_after(node)
        if not kinds:
            return Residual(name, "what follows the sum is no activation of those replaced")
        if node.kwargs.get("alpha", 1) != 1:
            return Residual(
                name, f"it weighs its second term by alpha = {node.kwargs['alpha']}: put that in the branch"
            )
        found = self._sides(node)
        if isinstance(found, str):
            return Residual(name, found)
        start, path, branch = found
        u, kind = self.states[start]
        if not all(a.same_function(b) for a, b in zip(self.pairs[kind], self.pairs[kinds[0]], strict=True)):
            return Residual(name, f"φ changes inside: {kind.__name__} before, {kinds[0].__name__} after")
        body = extract(self.network, self.graph, start, branch)
        if body is None:
            return Residual(name, "its branch reads more than the point that the shortcut starts from")
        shortcut = extract(self.network, self.graph, start, path[-1]) if path else None
        moved = {start: u}
        with self.graph.inserting_before(node):
            for step in path:
                moved[step] = self.graph.node_copy(step, moved.__getitem__)
            total = self.graph.call_function(operator.add, (branch, moved[path[-1] if path else start]))
        total.meta.update(node.meta)
        node.replace_all_uses_with(total)
        self.graph.erase_node(node)
        how = "as it stands" if not path else f"through {', '.join(_word(self.network, s) for s in path)}"
        return Residual(name, f"the shortcut carries u {how}", kind, u, module_of(self.network, start), shortcut, body)

    def _sides(self, node: fx.Node) -> tuple[fx.Node, list[fx.Node], fx.Node] | str:
        """(z where the block starts, the nodes of its shortcut, the end of its branch), or what is missing."""
        options = []
        for shortcut, branch in (node.args, node.args[::-1]):
            start, path = linear_path(self.network, shortcut, self.states)  # type: ignore[arg-type]
            if start in self.states:
                options.append((start, path, branch))
        if not options:
            return "no side of the sum comes, by linear maps alone, from the output of a replaced activation"
        options = [o for o in options if o[0] in ancestors(o[2])]  # type: ignore[arg-type]
        if not options:
            return "its two sides do not start from one point"
        plain = [o for o in options if not o[1]]
        if len(plain) == 1:
            return plain[0]  # type: ignore[return-value]
        start, _, branch = options[0]
        if len(options) == 2 or start in linear_origins(self.network, branch):  # type: ignore[arg-type]
            return "more than one term of the sum is linear in their common start: which is the shortcut?"
        return options[0]  # type: ignore[return-value]


def ancestors(node: fx.Node) -> set[fx.Node]:
    """The nodes that the node is computed from."""
    seen: set[fx.Node] = set()
    todo = [node]
    while todo:
        for before in todo.pop().all_input_nodes:
            if before not in seen:
                seen.add(before)
                todo.append(before)
    return seen


def extract(root: nn.Module, graph: fx.Graph, start: fx.Node, end: fx.Node) -> fx.GraphModule | None:
    """The map from ``start`` to ``end`` as a module that shares root's, or None where it has another input."""
    needed, todo = {end}, [end]
    while todo:
        for before in todo.pop().all_input_nodes:
            if before is not start and before not in needed:
                needed.add(before)
                todo.append(before)
    if any(n.op == "placeholder" for n in needed):
        return None
    part = fx.Graph()
    moved = {start: part.placeholder("z")}
    for node in graph.nodes:
        if node in needed:
            moved[node] = part.node_copy(node, moved.__getitem__)
    part.output(moved[end])
    return fx.GraphModule(root, part)


def out_of_place(kind: Kind, module: nn.Module | None) -> nn.Module:
    """The activation itself, as a module that leaves its input alone."""
    module = kind() if module is None else copy.deepcopy(module)
    if hasattr(module, "inplace"):
        module.inplace = False  # type: ignore[assignment]
    return module


def _word(root: nn.Module, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return getattr(node.target, "__name__", str(node.target))
