"""How far a block in Bregman form is from its pre-activation twin: a bound, entry by entry of v.

With δ = sup |ρ − ReLU| (log 2/β for the softplus) and one u for both, A(ρ(u)) and A₀(ReLU(u)) differ by at most what
comes out when e = δ goes through the branch: e ← |W| e through a linear map, e ← |γ|/√(σ² + ε) e through a batch norm
in eval mode, e ← e/σ_φ + δ through an activation. For Conv₂ ρ(Conv₁ ρ(u)) that is |W₂| (|W₁| δ + δ) ≤ ‖W₂‖ (1 + ‖W₁‖) δ
with norms of maximal row sums. It is proportional to δ, so it tends to 0 as β → ∞.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from ..legendre import Legendre
from ..regularizers import Regularizer
from .bregmanize_graph import Mirror, State

LARGE = 1e8  # states of this size and below are what ``gap`` speaks of
SAME = (
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    State,  # T_g is nonexpansive in the dual
)


@torch.no_grad()
def gap(phi: Legendre, g: Regularizer, kind: type[nn.Module]) -> float | None:
    """sup |∇φ*(u) − ReLU(u)| over the states u = T_g(v), |v| ≤ 1e8; None where it is not known.

    Where φ is 1-strongly convex the difference does not decrease below 0 and does not increase above: it is largest at
    the state nearest to 0 or at the ends.
    """
    sigma = phi.strong_convexity
    if kind is not nn.ReLU or isinstance(sigma, Tensor) or sigma < 1:
        return None
    device = next((t.device for t in (*phi.tensors(), *g.tensors())), torch.device("cpu"))
    ends = State(phi, g)(torch.tensor([-LARGE, LARGE], dtype=torch.float64, device=device))
    u = torch.cat([ends, torch.zeros_like(ends[:1]).clamp(ends[0], ends[1])])
    return float((phi.grad_conjugate(u) - u.relu()).abs().max())


@torch.no_grad()
def branch_bound(branch: fx.GraphModule, phi: Legendre, delta: float) -> float | None:
    """The bound on |A(ρ(u)) − A₀(ReLU(u))|, or None where the branch holds what no rule is known for."""
    rate = 1 / float(phi.strong_convexity)
    errors: dict[fx.Node, Tensor] = {}  # one number a channel, or one for all
    for node in branch.graph.nodes:
        inputs = [errors[n] for n in node.all_input_nodes]
        if node.op == "placeholder":
            errors[node] = torch.tensor(delta, dtype=torch.float64)
        elif node.op == "output":
            return float(inputs[0].max())
        elif node.op == "call_module" and len(inputs) == 1:
            module = branch.get_submodule(str(node.target))
            through = inputs[0] * rate + delta if isinstance(module, Mirror) else _through(module, inputs[0])
            if through is None:
                return None
            errors[node] = through
        else:
            return None
    raise AssertionError("a graph ends in its output")


def _through(module: nn.Module, e: Tensor) -> Tensor | None:
    if isinstance(module, SAME):
        return e
    if isinstance(module, nn.Linear):
        return module.weight.abs().double().cpu() @ e.expand(module.in_features)
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        size = module.weight.abs().double().cpu().flatten(2).sum(2)  # (out, in / groups)
        groups = e.expand(module.in_channels).reshape(module.groups, 1, -1)
        return (size.reshape(module.groups, -1, size.shape[1]) * groups).sum(2).flatten()
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and module.running_var is not None:
        scale = (module.running_var.double() + module.eps).rsqrt()
        return (scale if module.weight is None else scale * module.weight.abs()).cpu() * e
    return None
