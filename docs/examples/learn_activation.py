"""
Learn an activation, and see its φ and g
========================================

A layer z⁺ = prox^φ_g(∇φ(z⁻) + W z⁻ + b) has the activation prox^φ_g. With ∇φ* a mixture of hyperbolic tangents and g
a piecewise-linear function, both learned with the weights, the network on scikit-learn's digits chooses where its
activation saturates, how steep it is, and where it is flat: g's jumps are the flat parts, φ is what is left.

    python docs/examples/learn_activation.py [PICTURE]   # half a minute; else docs/images/learn_activation.png
"""

# %%
import sys
from pathlib import Path

import matplotlib
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import bilevelnet as bln

matplotlib.use("Agg")
from matplotlib import pyplot as plt

torch.manual_seed(0)
torch.set_num_threads(1)
x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x / 8 - 1, y, test_size=360, random_state=0, stratify=y)
x_train, x_test = (torch.as_tensor(a, dtype=torch.float32) for a in (x_train, x_test))
y_train, y_test = torch.as_tensor(y_train), torch.as_tensor(y_test)


# %%
# φ and g are shared by the two layers, so that the chain carries u = ∇φ(z) between them and inverts nothing.
# ∇φ* starts near tanh, g as 0.4 times the distance to [−0.3, 0.3]; every number is learned and stays in its range.
def start() -> tuple[bln.legendre.Legendre, bln.regularizers.Regularizer]:
    phi = bln.legendre.TanhMixture(
        a=nn.Parameter(torch.tensor([0.4, 0.3, 0.3])),
        b=nn.Parameter(torch.tensor([1.0, 1.2, 0.8])),
        c=nn.Parameter(torch.tensor([0.0, 1.0, -1.0])),
        eps=nn.Parameter(torch.tensor(0.05)),
    )
    g = bln.regularizers.PiecewiseLinear(
        knots=nn.Parameter(torch.tensor([-0.3, 0.3])), slopes=nn.Parameter(torch.tensor([-0.4, 0.0, 0.4]))
    )
    return phi, g


def network(phi: bln.legendre.Legendre, g: bln.regularizers.Regularizer) -> bln.models.BilevelNetwork:
    return bln.models.BilevelNetwork(bln.models.BregmanMLP([64, 24, 24], phi, g), nn.Linear(24, 10))


# %%
# Training: cross-entropy as the Fenchel-Young loss of the entropy on the simplex, whose gradient is softmax − y.
def train(model: bln.models.BilevelNetwork, epochs: int = 20) -> float:
    """Test accuracy after training all parameters, those of φ and g among them."""
    loss = bln.fenchel_young(bln.legendre.BoltzmannShannon(), bln.regularizers.Simplex())
    targets = nn.functional.one_hot(y_train, 10).float()
    activation = [
        p for piece in (model.chain[0].divergence.phi, model.chain[0].regularizer) for p in piece.parameters()
    ]
    held = {id(p) for p in activation}
    weights = [p for p in model.parameters() if id(p) not in held]
    optimizer = torch.optim.Adam([{"params": weights, "lr": 3e-3}, {"params": activation, "lr": 5e-3}])
    for _ in range(epochs):
        for batch in torch.randperm(len(x_train)).split(64):
            optimizer.zero_grad()
            loss(model(x_train[batch]), targets[batch]).mean().backward()
            optimizer.step()
    with torch.no_grad():
        return float((model(x_test).argmax(-1) == y_test).float().mean())


def shown(weight: torch.Tensor) -> str:
    return str([round(t, 3) for t in weight.detach().reshape(-1).tolist()])


phi0, g0 = start()
phi, g = start()
accuracy = train(network(phi, g))
print(f"test accuracy with the learned activation: {accuracy:.3f}")
print("φ: a, b, c, ε =", *(shown(w) for w in (phi.dual.a, phi.dual.b, phi.dual.c, phi.dual.eps)))
print("g: knots, slopes =", *(shown(w) for w in (g.knots, g.slopes)))


# %%
# The same map from φ's values alone: the search differentiates them, and knows no mixture of tanh.
class ByValue(bln.legendre.Separable):
    def value(self, z: torch.Tensor) -> torch.Tensor:
        return phi.value(z)


v = torch.linspace(-4, 4, 401, dtype=torch.float64)
with torch.no_grad():
    learned = bln.bregman_prox(phi.double(), g.double(), v)
    again = bln.bregman_prox(ByValue(), g, v)
    before = bln.bregman_prox(phi0.double(), g0.double(), v)
    # φ and g over the points that the activation takes, each least at 0
    z, z0 = (torch.linspace(float(t[0]), float(t[-1]), 401, dtype=torch.float64) for t in (learned, before))
    lifted = [f - f.min() for f in (phi.value(z), g.value(z), phi0.value(z0), g0.value(z0))]
print(f"closed form against the search from the values of φ: {float((learned - again).abs().max()):.1e}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for axis, name, after, first in (
    (axes[0], "activation  v ↦ prox$^φ_g$(v)", (v, learned), (v, before)),
    (axes[1], "φ(z)", (z, lifted[0]), (z0, lifted[2])),
    (axes[2], "g(z)", (z, lifted[1]), (z0, lifted[3])),
):
    axis.plot(*first, color="0.7", linewidth=1.5, label="at the start")
    axis.plot(*after, color="tab:blue", linewidth=2, label="learned")
    axis.set_title(name)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel("v" if axis is axes[0] else "z")
axes[0].legend(frameon=False)
for knot in g.knots.detach().tolist():
    axes[0].axhline(knot, color="tab:orange", linewidth=0.8, linestyle=":")
    axes[2].axvline(knot, color="tab:orange", linewidth=0.8, linestyle=":")
figure.suptitle(f"Digits, 64 → 24 → 24 → 10: test accuracy {accuracy:.3f}; dotted: the learned kinks of g", fontsize=10)
page = Path(__file__).resolve().parents[1] / "images" / "learn_activation.png"
target = Path(sys.argv[1]) if len(sys.argv) > 1 else page
figure.savefig(target, dpi=110)
print("wrote", target.name)
