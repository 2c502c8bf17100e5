"""BilevelLayer.from_cvxpy: f, D and g out of a problem in which one parameter is z⁻."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..couplings import Affine, Bilinear, Coupling
from ..divergences import Bregman
from ..divergences.references import Identity, Reference, Zero
from ..errors import InputError
from ..layer import BilevelLayer
from .cvxpy_checks import Model, own, solved
from .cvxpy_confirm import AGREE, draw
from .cvxpy_form import Form, Formed
from .cvxpy_learned import LayerMatch, LearnedPieces
from .cvxpy_point import read_point
from .cvxpy_values import Parameters, Values, columns

# Points z⁻ at which the layer and cvxpy are compared.
DRAWS = 3


class Learned(nn.Module):
    """z⁻ ↦ M(θ) z⁻ + c(θ), the parameters θ by their names in the problem and of their shapes there."""

    def __init__(self, form: Form, parameters: Parameters, start: list[Tensor]):
        super().__init__()
        self.form, self.names = form, []
        for k, (p, t) in enumerate(zip(parameters.parameters, start, strict=True)):
            used = _uses(form, parameters, k)
            self.names.append(p.name() if used else "")
            if used:
                value = t.reshape(p.shape[::-1]).permute(*range(p.ndim)[::-1]).contiguous()
                self.register_parameter(p.name(), nn.Parameter(value))
        self.sizes = parameters.sizes

    def forward(self, z_prev: Tensor) -> Tensor:
        unused = [z_prev.new_zeros(n) for n in self.sizes]
        found = [columns(getattr(self, name), 0) if name else t for name, t in zip(self.names, unused, strict=True)]
        return self.form(z_prev, torch.cat([z_prev.new_zeros(0), *found]))


def read_layer(
    problem: Any, variable: Any, previous: Any, learned: Sequence[Any], solver: Any, on_failure: str
) -> BilevelLayer:
    """The layer whose z⁺ is the problem's ``variable`` at ``previous`` = z⁻, as BilevelLayer.from_cvxpy states."""
    _check(problem, variable, previous, learned)
    parameters, width, generator = Parameters(learned), previous.size, np.random.default_rng(0)
    reading, form = read_point(problem, variable, previous, parameters)
    for line, _, c in reading.constraints:
        if not line.terms and not line.rows.matrix.nnz:
            raise InputError(f"the constraint {c} does not hold {variable.name()}")
    trial = [torch.from_numpy(draw(p, generator, 1.0)).flatten() for p in learned]
    start = [_start(p, width, t) for p, t in zip(learned, trial, strict=True)]
    pieces = LearnedPieces(parameters, start, trial, width)
    match = LayerMatch(reading, pieces)
    reference, form = _referred(match, form, start)
    coupling = _coupling(form, parameters, start)
    for k, p in enumerate(learned):
        if _uses(form, parameters, k) == (k in pieces.used):
            twice = k in pieces.used
            raise InputError(f"{p.name()} is {'in f and in g: each learns its own' if twice else 'not in the layer'}")
    layer = BilevelLayer(coupling, Bregman(match.phi, reference), match.g, solver, on_failure)
    _confirm(layer, Model(own(problem), [*learned, previous], [variable], []), start)
    return layer


def _check(problem: Any, variable: Any, previous: Any, learned: Sequence[Any]) -> None:
    import cvxpy as cp

    if not isinstance(problem, cp.Problem):
        raise InputError(f"from_cvxpy takes a cvxpy.Problem, not a {type(problem).__name__}")
    if not problem.is_dcp():
        raise InputError("the problem is not convex by the rules of cvxpy (DCP)")
    for what, leaf, cls in (("variable", variable, cp.Variable), ("previous", previous, cp.Parameter)):
        if not isinstance(leaf, cls) or leaf.ndim != 1:
            raise InputError(f"{what} is one cvxpy.{cls.__name__} of shape (n,), not {leaf}")
    if variable.id not in {v.id for v in problem.variables()}:
        raise InputError(f"{variable.name()} is no variable of the problem")
    given = [previous.id, *(p.id for p in learned)]
    known = {p.id: p.name() for p in problem.parameters()}
    missing = [name for i, name in known.items() if i not in given]
    extra = [p.name() for p in (previous, *learned) if p.id not in known]
    if missing or extra or len(set(given)) < len(given):
        raise InputError(
            "previous and learned name each parameter of the problem once: "
            + (f"missing {', '.join(missing)}" if missing else f"not in it {', '.join(extra)}" if extra else "twice")
        )
    names = [p.name() for p in learned]
    if len(set(names)) < len(names) or not all(n.isidentifier() for n in names):
        raise InputError(f"the learned parameters need names of their own, as cp.Parameter(3, name='b'): {names}")


def _start(p: Any, width: int, trial: Tensor) -> Tensor:
    """The value of a parameter column by column, or as torch.nn.Linear starts."""
    if p.value is not None:
        return columns(torch.as_tensor(np.asarray(p.value), dtype=torch.float64), 0)
    return (2 * torch.rand(p.size, dtype=torch.float64) - 1) / width**0.5


def _uses(form: Form, parameters: Parameters, k: int) -> bool:
    low, high = parameters.offsets[k], parameters.offsets[k + 1]
    return bool(((form.parameters >= low) & (form.parameters < high)).any())


def _referred(match: LayerMatch, form: Form, start: list[Tensor]) -> tuple[Reference, Form]:
    """R, and A with all that the terms beside f say of v beyond ∇φ(R z⁻)."""
    size, width, total = form.sizes
    if isinstance(match.linear, Formed):
        form = form.plus(match.linear.form)
    elif match.linear.fixed is not None:
        form = form.plus(match.linear.fixed.numpy())
    else:
        raise InputError("a learned parameter enters an entropy of g: make what it adds to f a parameter, as b is")
    if not match.residual:
        return Zero(), form
    phi, r = match.phi, match.r
    if isinstance(r, Formed):  # squares; m z⁻ of them is ∇φ(z⁻), where they say so of each entry
        own, rest = r.form.split((r.form.points < width) & (r.form.parameters == total))
        unit = own.entries[:3], (np.arange(width), np.arange(width), np.full(width, total))
        scale = np.broadcast_to(torch.as_tensor(phi.scale).numpy(), size)
        same = all(map(np.array_equal, *unit)) and np.allclose(own.numbers, scale, 1e-14, 0)  # rounded otherwise
        return (Identity(), form.plus(rest)) if same else (Zero(), form.plus(r.form))
    with torch.no_grad():
        z = phi.grad_conjugate(torch.randn(4, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
        r_at_z = r.at(Values([*start, z], (4,), z))
        beside = r_at_z - phi.grad(z) if r_at_z.shape == z.shape else torch.full_like(r_at_z, torch.nan)
    constant = beside.mean(0)
    # both are sums of logarithms and numbers of order 1: a few ulp
    if not bool((beside - constant).abs().max() <= 1e-12 * (1 + constant.abs().max())):
        raise InputError(f"the terms that hold z⁻ are no Bregman divergence of {phi.label} from z⁻")
    return Identity(), form.plus(np.where(constant.abs() <= 1e-12, 0.0, constant))


def _coupling(form: Form, parameters: Parameters, start: list[Tensor]) -> Coupling:
    """A: Bilinear where it is W z⁻ or W z⁻ + b of two parameters, else a module of θ."""
    (size, width, _), used = form.sizes, [k for k in range(len(start)) if _uses(form, parameters, k)]
    shapes = [tuple(parameters.parameters[k].shape) for k in used]
    if shapes in ([(size, width)], [(size, width), (size,)], [(size,), (size, width)]):
        w, b = used[shapes.index((size, width))], used[1 - shapes.index((size, width))] if len(used) > 1 else None
        rows, points = np.divmod(np.arange(size * width), width)
        plain = Form(form.sizes, rows, points, parameters.offsets[w] + rows + size * points, np.ones(len(rows)))
        if b is not None:
            rows = np.arange(size)
            plain = plain.plus(Form(form.sizes, rows, width, parameters.offsets[b] + rows, np.ones(size)))
        if all(map(np.array_equal, plain.entries, form.entries)):
            coupling = Bilinear(width, size, bias=b is not None)
            coupling.weight = nn.Parameter(start[w].view(width, size).mT.contiguous())
            if b is not None:
                coupling.bias = nn.Parameter(start[b])
            return coupling
    return Affine(Learned(form, parameters, start))


def _confirm(layer: BilevelLayer, model: Model, start: list[Tensor]) -> None:
    """InputError where the layer and cvxpy differ on random z⁻."""
    point = model.parameters[-1]
    theta = [t.numpy().reshape(p.shape, order="F") for p, t in zip(model.parameters, start, strict=False)]
    phi, draws = layer.problem.phi, torch.randn(DRAWS, point.size, dtype=torch.float64)
    for u in draws:
        z_prev = phi.grad_conjugate(u) if layer.divergence.uses_point else u
        found = solved(model, [*theta, z_prev.numpy()])
        if found is None:
            continue
        with torch.no_grad():
            gap = (layer(z_prev) - torch.from_numpy(found[0])).abs().max()
        if not gap <= AGREE * (1 + np.abs(found[0]).max()):
            raise InputError(f"the layer read is off from cvxpy's solution by {float(gap):.1e}: {layer.explain()}")
