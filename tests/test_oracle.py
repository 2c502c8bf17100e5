"""Every problem of tests/data/oracle.json, solved with 50 digits, against our solvers.

Tolerances are those of a float64 solution: |z − z_ref| ≤ 50 eps (|z_ref| + |dz/dv||v|), since the rounding of the input
alone moves z by the second term; derivatives 1e-6 of the reference and 1e-9; u = ∇φ(z) 50 eps (|u| + |v|), the scale of
v = u + g'(z); the objective 50 eps of its terms. A search for a vector: 1e-9 of the largest entry.

tests/data/oracle_solvers.json says by name which solver takes which problem, "none" where none does yet. The test fails
where that has changed; ``python tests/test_oracle.py`` writes it anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bilevelnet as bln
from bilevelnet.testing.points import Draw, kinks

DATA = Path(__file__).parent / "data"
SOLVERS = DATA / "oracle_solvers.json"
ENTRIES = json.loads((DATA / "oracle.json").read_text())
KNOWN: dict[str, str] = json.loads(SOLVERS.read_text()) if SOLVERS.exists() else {}
EPS = torch.finfo(torch.float64).eps
ORDER = ("closed_form", "scalar", "multiplier", "newton", "splitting", "quadratic")


def number(value: Any) -> Any:
    """Decimal strings, nested as they come, as floats; indices stay integers."""
    if isinstance(value, list):
        return [number(v) for v in value]
    return float(value) if isinstance(value, str) else value


def tensor(value: Any, **options: Any) -> Tensor:
    return torch.tensor(number(value), dtype=torch.float64, **options)


def pieces(entry: dict[str, Any], **weights: Any) -> tuple[Any, Any]:
    phi = bln.legendre.get(entry["phi"], **{k: number(v) for k, v in entry["phi_params"].items()})
    g = bln.regularizers.get(entry["g"], **{**{k: number(v) for k, v in entry["g_params"].items()}, **weights})
    return phi, g


def solver_of(entry: dict[str, Any]) -> str:
    """The first solver of the library's own that takes the problem, or "none"."""
    try:
        phi, g = pieces(entry)
    except bln.InputError:
        return "none"
    for name in ORDER:
        if name in bln.solvers.registry:
            try:
                bln.solvers.bind(phi, g, name)
            except bln.InputError:
                continue
            return name
    return "none"


def covered(kind: str) -> list[Any]:
    return [
        pytest.param(e, KNOWN.get(e["id"], "none"), id=f"{e['id']}-{e['phi']}-{e['g']}")
        for e in ENTRIES
        if e["kind"] == kind and KNOWN.get(e["id"], "none") != "none"
    ]


def test_the_list_of_solvers_is_as_recorded() -> None:
    found = {e["id"]: solver_of(e) for e in ENTRIES}
    changed = {k: (KNOWN.get(k), v) for k, v in found.items() if KNOWN.get(k) != v}
    assert not changed, f"(recorded, now): {changed}; write the list anew with: python {Path(__file__).name}"


@pytest.mark.parametrize(("entry", "solver"), covered("scalar"))
def test_scalar(entry: dict[str, Any], solver: str) -> None:
    phi, g = pieces(entry)
    v, want, slope = (tensor(entry[k]) for k in ("v", "z", "dz_dv"))
    x = v.clone().requires_grad_()
    solution = bln.solve_prox(phi, g, x, solver)
    assert solution.converged.all()
    z = solution.z
    near = 50 * EPS * (want.abs() + slope.abs() * v.abs())
    near = torch.where(want == 0, 0.0 if solver == "closed_form" else 1e-15 * (1 + v.abs()), near)
    assert ((z - want).abs() <= near).all(), (z - want, near)

    kink = torch.tensor(entry["at_kink"])
    knots = kinks(g, Draw())
    edge = ~kink & (want[:, None] == knots).any(1) if len(knots) else torch.zeros_like(kink)
    (got,) = torch.autograd.grad(z.sum(), x)
    assert (got[kink] == 0).all()
    assert ((got - slope).abs() <= 1e-6 * slope.abs() + 1e-9)[~edge].all(), (got - slope)[~edge]

    u = tensor(entry["u"])
    assert solution.dual is not None
    assert ((solution.dual - u).abs() <= 50 * EPS * (u.abs() + v.abs())).all(), solution.dual - u
    value = tensor(entry["value"])
    terms = [phi.value(z), g.value(z), -z * v]
    size = sum(t.abs() for t in terms)
    assert ((sum(terms) - value).abs() <= 50 * EPS * size).all(), sum(terms) - value

    if entry["dz_dlam"] is not None:
        lam = tensor([entry["g_params"]["lam"]] * len(v), requires_grad=True)
        z = bln.bregman_prox(*pieces(entry, lam=lam), v, solver)
        (got,) = torch.autograd.grad(z.sum(), lam, materialize_grads=True)
        want = tensor(entry["dz_dlam"])
        assert ((got - want).abs() <= 1e-6 * want.abs() + 1e-9)[~edge].all(), (got - want)[~edge]


@pytest.mark.parametrize(("entry", "solver"), covered("vector"))
def test_vector(entry: dict[str, Any], solver: str) -> None:
    phi, g = pieces(entry)
    v, want, jacobian = (tensor(entry[k]) for k in ("v", "z", "jacobian"))
    matrix = max(phi.event_ndim, g.event_ndim) == 2

    def f(x: Tensor) -> Tensor:
        return _three(bln.bregman_prox(phi, g, _matrix(x), solver)) if matrix else bln.bregman_prox(phi, g, x, solver)

    z, loose = f(v), solver != "closed_form"
    near = 50 * EPS * (want.abs() + jacobian.abs() @ v.abs())
    near = torch.full_like(near, 1e-9 * float(want.abs().max())) if loose else near
    assert ((z - want).abs() <= near).all(), (z - want, near)
    got = torch.autograd.functional.jacobian(f, v)
    scale = float(jacobian.abs().max())
    assert (got - jacobian).abs().max() <= 1e-6 * scale + 1e-9, got - jacobian

    solution = bln.solve_prox(phi, g, _matrix(v) if matrix else v, solver)
    assert bool(solution.converged.all())
    if entry["u"] is not None:
        u = tensor(entry["u"])
        assert solution.dual is not None
        dual = _three(solution.dual) if matrix else solution.dual
        largest = float(u.abs().max() + v.abs().max())
        near_u = 1e-9 * largest if loose else 50 * EPS * (u.abs() + v.abs().max() * (1 + jacobian.abs().sum(1)))
        assert ((dual - u).abs() <= near_u).all(), dual - u
    value = float(entry["g_value"])
    assert abs(float(g.value(solution.z).sum()) - value) <= (1e-9 if loose else 1e-13) * (1 + abs(value))

    if entry["dz_dlam"] is not None:
        lam = tensor(entry["g_params"]["lam"], requires_grad=True)
        z = bln.bregman_prox(*pieces(entry, lam=lam), _matrix(v) if matrix else v, solver)
        z = _three(z) if matrix else z
        rows = [torch.autograd.grad(z[i], lam, retain_graph=True, materialize_grads=True)[0] for i in range(len(z))]
        want = tensor(entry["dz_dlam"])
        assert (torch.stack(rows) - want).abs().max() <= 1e-6 * want.abs().max() + 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["f32", "bf16", "f16"])
@pytest.mark.parametrize(("entry", "solver"), covered("scalar") + covered("vector"))
def test_no_nan(entry: dict[str, Any], solver: str, dtype: torch.dtype) -> None:
    phi, g = pieces(entry)
    v = tensor(entry["v"])
    v = (_matrix(v) if max(phi.event_ndim, g.event_ndim) == 2 else v).to(dtype).requires_grad_()
    z = bln.bregman_prox(phi, g, v, solver, on_failure="ignore")
    (slope,) = torch.autograd.grad(z.sum(), v)
    assert z.dtype is dtype
    assert not z.isnan().any()
    assert not slope.isnan().any()


def _matrix(x: Tensor) -> Tensor:
    """[a, b, c] as [[a, b], [b, c]]."""
    return torch.stack([x[[0, 1]], x[[1, 2]]])


def _three(x: Tensor) -> Tensor:
    return torch.stack([x[0, 0], x[0, 1], x[1, 1]])


if __name__ == "__main__":
    SOLVERS.write_text(json.dumps({e["id"]: solver_of(e) for e in ENTRIES}, indent=1) + "\n")
