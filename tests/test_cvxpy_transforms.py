"""Imported layers beside their formulas: values, gradients, vmap, compile, double backward, export, ONNX, copies."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import cvxpy as cp
import onnxruntime
import pytest
import torch
from torch import Tensor

import bilevelnet as bln

F64 = torch.float64
N = 5


class Known(NamedTuple):
    """A problem over x, its parameters, and the solution as a formula in torch."""

    build: Callable[[Any, Any, Any], tuple[Any, list[Any]]]
    exact: Callable[[Tensor, Tensor], Tensor]
    solver: str = "closed_form"

    def layer(self, **options: Any) -> Any:
        x, p, w = cp.Variable(N), cp.Parameter(N), cp.Parameter(nonneg=True)
        objective, constraints = self.build(x, p, w)
        return bln.from_cvxpy(cp.Problem(objective, constraints), [p, w], [x], **options)


def near(x: Any, p: Any) -> Any:
    return cp.sum_squares(x - p) / 2


def shrunk(p: Tensor, w: Tensor) -> Tensor:
    return p.sign() * (p.abs() - w).clamp(min=0)


def simplex(p: Tensor, w: Tensor) -> Tensor:
    top = p.sort(dim=-1, descending=True).values
    levels = (top.cumsum(-1) - w) / torch.arange(1, N + 1, dtype=p.dtype)
    return (p - levels.amax(-1, keepdim=True)).clamp(min=0)


def on_a_plane(p: Tensor, w: Tensor) -> Tensor:
    return p + (w - p.sum(-1, keepdim=True)) / N


KNOWN = {
    "box": Known(lambda x, p, w: (cp.Minimize(near(x, p)), [x >= 0, x <= w]), lambda p, w: torch.minimum(p.relu(), w)),
    "soft": Known(lambda x, p, w: (cp.Minimize(near(x, p) + w * cp.norm1(x)), []), shrunk),
    "softmax": Known(
        lambda x, p, w: (cp.Maximize(p @ x + cp.sum(cp.entr(x))), [cp.sum(x) == w]), lambda p, w: w * p.softmax(-1)
    ),
    "sigmoid": Known(
        lambda x, p, w: (cp.Maximize(p @ x - w * cp.sum(x) + cp.sum(cp.entr(x) + cp.entr(1 - x))), []),
        lambda p, w: torch.sigmoid(p - w),
    ),
    "simplex": Known(lambda x, p, w: (cp.Minimize(near(x, p)), [x >= 0, cp.sum(x) == w]), simplex),
    "norm": Known(
        lambda x, p, w: (cp.Minimize(near(x, p) + w * cp.norm(x)), []),
        lambda p, w: p * (1 - w / torch.linalg.vector_norm(p, dim=-1, keepdim=True)).clamp(min=0),
    ),
    "plane": Known(lambda x, p, w: (cp.Minimize(near(x, p)), [cp.sum(x) == w]), on_a_plane),
    "plane in a box": Known(
        lambda x, p, w: (cp.Minimize(near(x, p)), [cp.sum(x) == w, x >= -9, x <= 9]), on_a_plane, "multiplier"
    ),
}


K = torch.randn(3, N, generator=torch.Generator().manual_seed(3), dtype=F64).numpy()
COUPLED = {  # by the solver that takes it: no formula is known
    "quadratic": lambda x, p, w: (cp.sum_squares(K @ x) + near(x, p) + w * cp.sum(x), [K @ x <= 0.5]),
    "newton": lambda x, p, w: (cp.sum(cp.logistic(K @ x)) + near(x, p) + w * cp.sum(x), []),
    "splitting": lambda x, p, w: (near(x, p) + w * cp.norm(K @ x) + cp.norm1(x), []),
}


def layer_of(name: str) -> Any:
    if name in KNOWN:
        return KNOWN[name].layer()
    layer = Known(
        lambda x, p, w: ((found := COUPLED[name](x, p, w)) and cp.Minimize(found[0]), found[1]), shrunk
    ).layer()
    assert layer.route.name == name, layer.explain()
    return layer


CLOSED = [name for name, known in KNOWN.items() if known.solver == "closed_form"]


@pytest.fixture(autouse=True)
def _no_graph_of_another() -> None:
    torch._dynamo.reset()


def points(dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    p = torch.randn(3, N, generator=torch.Generator().manual_seed(4), dtype=F64).to(dtype)
    return p.requires_grad_(), torch.tensor([[0.7], [1.1], [0.4]], dtype=dtype).squeeze(-1).requires_grad_()


def gradients(z: Tensor, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    c = torch.randn(z.shape, generator=torch.Generator().manual_seed(5), dtype=F64).to(z.dtype)
    return torch.autograd.grad((z * c).sum(), given)


@pytest.mark.parametrize("name", KNOWN)
def test_is_the_formula(name: str) -> None:
    """Values and gradients are sums and products of a few numbers near 1: some ulps of them."""
    known, (p, w) = KNOWN[name], points()
    layer = known.layer()
    assert layer.route.name == known.solver, layer.explain()
    z, expected = layer(p, w)[0], known.exact(p, w.unsqueeze(-1))
    torch.testing.assert_close(z, expected, atol=1e-14, rtol=0)
    torch.testing.assert_close(gradients(z, (p, w)), gradients(expected, (p, w)), atol=1e-13, rtol=0)


@pytest.mark.parametrize("name", [*KNOWN, *COUPLED])
def test_vmap_and_double_backward(name: str) -> None:
    layer, (p, w) = layer_of(name), points()
    torch.testing.assert_close(torch.vmap(layer)(p, w)[0], layer(p, w)[0], atol=1e-15, rtol=0)  # the same operations
    assert torch.autograd.gradgradcheck(lambda *given: layer(*given)[0], (p, w))


def test_vmap_where_only_a_set_moves() -> None:
    x, low = cp.Variable(3), cp.Parameter(3)
    layer = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(x)), [x >= low]), [low], [x], on_failure="nan")
    ends = torch.tensor([[1.0, -1.0, 0.5], [-2.0, 3.0, -0.5]], dtype=F64)
    assert torch.equal(torch.func.vmap(layer)(ends)[0], ends.relu())


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["soft", "plane in a box", "quadratic", "newton", "splitting"])
def test_is_one_graph(name: str) -> None:
    layer, (p, w) = layer_of(name), points()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    z, expected = compiled(p, w)[0], layer(p, w)[0]
    torch.testing.assert_close(z, expected, atol=1e-15, rtol=0)  # the same operations
    torch.testing.assert_close(gradients(z, (p, w)), gradients(expected, (p, w)), atol=1e-15, rtol=0)
    with torch.no_grad():
        assert bool(compiled(torch.full_like(p, torch.nan), w)[0].isnan().all())  # nothing can be raised there


@pytest.mark.parametrize("name", CLOSED)
def test_export(name: str) -> None:
    layer, given = KNOWN[name].layer(), tuple(t.detach() for t in points())
    torch.testing.assert_close(torch.export.export(layer, given).module()(*given), layer(*given), atol=1e-15, rtol=0)


@pytest.mark.heavy
@pytest.mark.parametrize("name", CLOSED)
def test_onnx(name: str) -> None:
    given = tuple(t.detach() for t in points(torch.float32))
    layer = KNOWN[name].layer().eval()
    want = layer(*given)[0]
    program = torch.onnx.export(layer, given, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (got,) = session.run(None, {i.name: t.numpy() for i, t in zip(session.get_inputs(), given, strict=True)})
    torch.testing.assert_close(torch.from_numpy(got), want, atol=4e-7, rtol=0)  # exp and sums of another library: ulps


def test_copies_share_nothing_that_a_call_changes() -> None:
    layer = KNOWN["soft"].layer(on_failure="nan").eval()
    for twin in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
        mine, its = ({id(m) for m in one.route.solver.match.g.modules()} for one in (layer, twin))
        assert not mine & its
        assert twin.on_failure == "nan"
    assert not copy.deepcopy(layer).training


def test_the_problem_stays_as_it_was() -> None:
    x, p = cp.Variable(N), cp.Parameter(N)
    constraints = [x >= 0]
    problem = cp.Problem(cp.Minimize(near(x, p)), constraints)
    bln.from_cvxpy(problem, [p], [x])
    assert (problem.status, problem.value, p.value, x.value, constraints[0].dual_value) == (None,) * 5
    pickle.dumps(problem)


def test_copies_run_beside_each_other() -> None:
    """Two threads, each with its own weight: none sees that of the other."""
    layer, (p, w) = KNOWN["soft"].layer(), points()
    layers, wrong = (layer, copy.deepcopy(layer)), []

    def run(k: int) -> None:
        weight = w.detach()[k]
        for _ in range(100):
            if not torch.equal(layers[k](p.detach(), weight)[0], shrunk(p.detach(), weight)):
                wrong.append(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_copy_keeps_the_verdict_of_the_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found wrong when built is not taken unconfirmed by a copy."""
    from bilevelnet.interop import cvxpy_routes

    monkeypatch.setattr(cvxpy_routes, "differs", lambda model, route: "" if route.name == "conic" else "off")
    layer = KNOWN["soft"].layer()
    assert (
        layer.route.name == copy.deepcopy(layer).route.name == pickle.loads(pickle.dumps(layer)).route.name == "conic"
    )


def test_conic_has_one_derivative_and_says_so() -> None:
    x, p = cp.Variable(3), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(cp.maximum(cp.norm(x - p), cp.norm1(x)) + cp.sum_squares(x)))
    layer, v = bln.from_cvxpy(problem, [p], [x]), torch.tensor([[1.0, 2.0, 3.0]], dtype=F64, requires_grad=True)
    for scalar in (lambda z: z.sum(), lambda z: z.square().sum(), lambda z: (z * v).sum()):
        (g,) = torch.autograd.grad(scalar(layer(v)[0]), v, create_graph=True)
        with pytest.raises(bln.InputError, match="differentiated twice"):
            g.sum().backward()
    for transform in (torch.vmap(layer), torch.func.jacrev(layer)):
        with pytest.raises(bln.InputError, match="no vmap"):
            transform(v)


def test_where_clarabel_stalls_it_starts_again() -> None:
    """Of these 128 programs it leaves 11 at residuals of 1e-6 to 4e-5 when asked for 1e-11."""
    x, p, a = cp.Variable(10), cp.Parameter(10), torch.ones(10, 10, dtype=F64).tril().numpy() / 10
    problem = cp.Problem(cp.Minimize(cp.maximum(cp.norm(x - p), cp.norm(a @ x)) + cp.sum_squares(x)))
    solution = bln.from_cvxpy(problem, [p], [x]).solve(
        torch.randn(128, 10, dtype=F64, generator=torch.Generator().manual_seed(0))
    )
    assert (solution.solver, bool(solution.converged.all())) == ("conic", True)
    assert float(solution.residual.max()) <= 1e-6  # ACCEPT of the conic route


def test_a_limit_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, (p, w) = KNOWN["soft"].layer(), points()
    solve = layer.route.solve

    def stopped(values: Any, full: bool = True) -> Any:
        z, status, *known = solve(values, full)
        return z, torch.full_like(status, bln.Status.max_iter), *known

    monkeypatch.setattr(layer.route, "solve", stopped)
    with pytest.raises(bln.SolveError, match=r"stopped before its tolerance: scale the problem .*, or give float64"):
        layer(p, w)


def test_an_empty_batch_has_gradients_of_zero() -> None:
    for name in KNOWN:
        _check_empty(KNOWN[name].layer())
    x, y, p, w = cp.Variable(N), cp.Variable(), cp.Parameter(N), cp.Parameter(nonneg=True)
    near, rows = cp.sum_squares(x - p) + cp.square(y - w), [cp.diff(x) >= 0, cp.sum(x) + y == 1]
    for objective, solver in ((near, "quadratic"), (near + cp.maximum(cp.norm(x), cp.norm1(x - 1)), "conic")):
        layer = bln.from_cvxpy(cp.Problem(cp.Minimize(objective), rows), [p, w], [x, y, rows[1].dual_variables[0]])
        assert layer.route.name == solver
        _check_empty(layer)


def _check_empty(layer: Any) -> None:
    p, w = torch.zeros(0, 2, N, dtype=F64, requires_grad=True), torch.ones((), dtype=F64, requires_grad=True)
    solution = layer.solve(p, w)
    for v, z in zip(layer.source[2], solution.values, strict=True):
        assert (z.shape, z.dtype) == ((0, 2, *v.shape), F64)
    assert solution.status.shape == (0, 2)
    first, second = torch.autograd.grad(sum(z.sum() for z in solution.values), [p, w])
    assert (first.shape, float(second)) == (p.shape, 0.0)


def test_conic_outside_a_compiled_graph() -> None:
    x, p = cp.Variable(3), cp.Parameter(3)
    layer = bln.from_cvxpy(
        cp.Problem(cp.Minimize(cp.maximum(cp.norm(x - p), cp.norm1(x)) + cp.sum_squares(x))), [p], [x]
    )
    v = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.2, 2.0]], dtype=F64)
    with pytest.raises(Exception, match="the conic route leaves torch"):
        torch.compile(layer, fullgraph=True)(v)
    torch.testing.assert_close(torch.compile(layer)(v), layer(v), atol=0, rtol=0)
    with pytest.raises(bln.InputError, match="the conic route leaves torch"):
        layer(v.to("meta"))
    with pytest.raises(bln.InputError, match=r"the conic route leaves torch: .* or export"):
        torch.export.export(layer.eval(), (v,))
