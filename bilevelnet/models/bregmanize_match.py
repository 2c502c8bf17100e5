"""What the nodes of a torch.fx graph are: activations, sums, linear maps, poolings."""

from __future__ import annotations

import operator
from collections.abc import Iterable

import torch
from torch import fx, nn
from torch.nn import functional

SUMS = (operator.add, operator.iadd, torch.add)
# Maps that are linear (or affine, with statistics of the batch) in their one input, on which a shortcut may run.
LINEAR_MODULES = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
)
# With one tensor and numbers; a number is divided by nothing but a number.
AFFINE_FUNCTIONS = (operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, torch.add, torch.mul)
LINEAR_FUNCTIONS = (operator.getitem, functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
MAX_MODULES = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
MAX_FUNCTIONS = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)


def module_of(root: nn.Module, node: fx.Node) -> nn.Module | None:
    """The module that the node calls, or None."""
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def activation_kind(root: nn.Module, node: fx.Node, kinds: Iterable[type[nn.Module]]) -> type[nn.Module] | None:
    """Which of ``kinds`` the node is, as a module or by its functional form of the same name, or None."""
    if len(node.all_input_nodes) != 1:
        return None
    module = module_of(root, node)
    for kind in kinds:
        name = kind.__name__.lower()
        forms = [getattr(space, n, None) for space in (torch, functional) for n in (name, f"{name}_")]
        functional_form = (node.op == "call_function" and node.target in forms) or (
            node.op == "call_method" and node.target in (name, f"{name}_")
        )
        plain = len(node.args) == 1 and not set(node.kwargs) - {"inplace"}
        if isinstance(module, kind) or (functional_form and plain):
            return kind
    return None


def is_sum(node: fx.Node) -> bool:
    """Whether the node adds two nodes, the second one perhaps with a weight alpha."""
    called = (node.op == "call_function" and node.target in SUMS) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )
    return called and len(node.args) == 2 and not set(node.kwargs) - {"alpha"} and len(node.all_input_nodes) == 2


def linear_input(root: nn.Module, node: fx.Node) -> fx.Node | None:
    """The one input of a node that is linear in it, or None."""
    if len(node.all_input_nodes) != 1:
        return None
    linear = isinstance(module_of(root, node), LINEAR_MODULES)
    if node.op == "call_function":
        zeros = node.kwargs.get("mode", "constant") == "constant" and node.kwargs.get("value") in (None, 0)
        linear = (
            is_affine(node)
            or node.target in LINEAR_FUNCTIONS
            or (node.target is functional.pad and zeros and len(node.args) < 4 and node.args[2:] in ((), ("constant",)))
        )
    return node.all_input_nodes[0] if linear else None


def is_affine(node: fx.Node) -> bool:
    """Whether the node is a z + b of one tensor z with numbers a and b: 0.5 * z, −z, 0 + z."""
    tensors = [isinstance(a, fx.Node) for a in node.args]
    known = node.op == "call_function" and node.target in AFFINE_FUNCTIONS and not node.kwargs
    return known and sum(tensors) == 1 and (tensors[0] or node.target is not operator.truediv)


def is_difference(node: fx.Node) -> bool:
    """Whether the node subtracts one node from another."""
    called = node.op == "call_function" and node.target in (operator.sub, operator.isub, torch.sub)
    return (called or (node.op == "call_method" and node.target in ("sub", "sub_"))) and len(node.all_input_nodes) == 2


def is_max_pooling(root: nn.Module, node: fx.Node) -> bool:
    """Whether the node takes maxima alone, which every increasing ρ commutes with."""
    module = module_of(root, node)
    if isinstance(module, MAX_MODULES):
        return not module.return_indices
    return node.op == "call_function" and node.target in MAX_FUNCTIONS and not node.kwargs.get("return_indices")


def linear_path(root: nn.Module, node: fx.Node, stops: Iterable[fx.Node]) -> tuple[fx.Node, list[fx.Node]]:
    """(the first node of ``stops``, or of those that are not linear, going back from ``node``; the nodes after it)."""
    path: list[fx.Node] = []
    while node not in stops:
        before = linear_input(root, node)
        if before is None:
            break
        adds_nothing = node.target is operator.add and 0 in [a for a in node.args if not isinstance(a, fx.Node)]
        if not isinstance(module_of(root, node), nn.Identity) and not adds_nothing:
            path.insert(0, node)
        node = before
    return node, path


def linear_origins(root: nn.Module, node: fx.Node) -> set[fx.Node]:
    """The nodes that the node is reached from by linear maps and sums alone."""
    found, todo = {node}, [node]
    while todo:
        node = todo.pop()
        before = linear_input(root, node)
        inputs = node.all_input_nodes if is_sum(node) else [] if before is None else [before]
        todo += [n for n in inputs if n not in found]
        found.update(inputs)
    return found


def place(node: fx.Node) -> str:
    """The module in which the node was traced, by name; else the node's own name."""
    stack = list(node.meta.get("nn_module_stack") or ())
    return str(stack[-1]).split("@")[0] if stack and stack[-1] else node.name
