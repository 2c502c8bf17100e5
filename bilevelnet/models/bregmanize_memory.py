"""What the nodes of a torch.fx graph overwrite, and which of them share memory.

A graph in which every value is written once can be rewritten freely. Writing in place is undone by letting what reads
a tensor after it was overwritten read the node that wrote it; what reads the written memory by another name, a view of
it, is refused.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from ..errors import InputError
from .bregmanize_match import place

SHARING_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, _DropoutNd)  # dropout gives its input itself in eval mode
ASSIGNMENTS = (
    *(operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod, operator.ipow),
    *(operator.imatmul, operator.iand, operator.ior, operator.ixor, operator.ilshift, operator.irshift),
)
VIEWS_BY_ATTRIBUTE = {"T", "mT", "H", "mH", "data", "real", "imag", "grad"}


class Proxy(fx.Proxy):
    """A proxy that traces x += y as operator.iadd, in place as it is for tensors; torch.fx makes x + y of it.

    x[...] = y, which torch.fx has no node for, is refused.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        raise InputError(
            f"forward assigns to a part of {self.node.name}, x[...] = y, which torch.fx does not trace: make a new "
            f"tensor instead, e.g. x = torch.where(mask, y, x) or x = torch.cat([y, x[:, 1:]], 1)"
        )


def _assigning(function: Callable[[Any, Any], Any]) -> Callable[[Proxy, Any], Any]:
    return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})


for _function in ASSIGNMENTS:
    setattr(Proxy, f"__{_function.__name__}__", _assigning(_function))


class Tracer(fx.Tracer):
    """Symbolic tracing with the modules to replace as leaves, also where they are a user's own."""

    def __init__(self, kinds: tuple[type[nn.Module], ...] = ()):
        super().__init__()
        self.kinds = kinds

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.kinds) or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> Proxy:
        return Proxy(node, self)


def read_what_was_written(root: nn.Module, graph: fx.Graph) -> None:
    """Let what reads a tensor after it was overwritten read the node that wrote it.

    Raises InputError where written memory is read afterwards by another name, e.g. x after y = x.view(-1), y.mul_(2).
    """
    memory: dict[fx.Node, set[fx.Node]] = {}  # the nodes so far that may share the memory of each
    passed: set[fx.Node] = set()
    for node in graph.nodes:
        passed.add(node)
        source = written(root, node)
        shared = set().union(*(memory[n] for n in sharing(root, node, source)), {node})
        for other in shared:
            memory[other] = shared
        if source is None:
            continue
        for user in [u for u in source.users if u not in passed]:
            user.replace_input_with(source, node)
        for other in shared - {node}:
            if any(user not in passed for user in other.users):
                raise InputError(
                    f"in {place(node)}, {node.name} is written in place on memory that {other.name} may share, which "
                    f"is read afterwards: write it out of place in forward, e.g. x = torch.relu(x) for torch.relu_(x)"
                )


def written(root: nn.Module, node: fx.Node) -> fx.Node | None:
    """The node that this one overwrites, or None."""
    target: Any = node.target
    first, out = (node.args or (None,))[0], node.kwargs.get("out")
    if isinstance(out, fx.Node):
        return out
    if node.op == "call_module":
        in_place = bool(getattr(root.get_submodule(str(target)), "inplace", False))
    elif node.op == "call_method":
        in_place = target.endswith("_") and not target.endswith("__")
    elif node.op == "call_function":
        name = getattr(target, "__name__", "")
        by_name = name.endswith("_") and not name.endswith("__")
        in_place = target in ASSIGNMENTS or by_name or _argument(node, "inplace") is True
    else:
        return None
    return first if in_place and isinstance(first, fx.Node) and not _is_number(first) else None


def sharing(root: nn.Module, node: fx.Node, source: fx.Node | None) -> list[fx.Node]:
    """The inputs whose memory the node's value may be, or be a view of: by torch's own schemas, where it has one."""
    inputs = node.all_input_nodes
    if source is not None:
        return [source]
    if node.op == "call_module":
        return inputs if isinstance(root.get_submodule(str(node.target)), SHARING_MODULES) else []
    if node.op not in ("call_function", "call_method"):
        return []
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.target is getattr:
        return inputs if node.args[1] in VIEWS_BY_ATTRIBUTE else []
    if node.target is not operator.getitem and getattr(operator, name, None) is node.target:
        return []
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or "dropout" in name:
        return inputs
    schemas = [getattr(packet, overload)._schema for overload in packet.overloads()]
    views = any(a.alias_info is not None and not a.alias_info.is_write for s in schemas for a in s.arguments)
    return inputs if views else []


def _is_number(node: fx.Node) -> bool:
    """Whether the node is a shape or calculated from shapes alone, which n += 1 leaves as they are."""
    if node.op == "call_method" or node.target is getattr:
        return (node.target if node.op == "call_method" else node.args[1]) in ("size", "dim", "numel", "shape", "ndim")
    inputs = node.all_input_nodes
    return node.op == "call_function" and bool(inputs) and all(_is_number(n) for n in inputs)


def _argument(node: fx.Node, name: str) -> Any:
    """The argument of this name, given by name or by position."""
    if name in node.kwargs:
        return node.kwargs[name]
    try:
        return inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments.get(name)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # built in, without a signature and such arguments
        return None
