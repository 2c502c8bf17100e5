"""Layers given by a residual or a map: values, derivatives, statuses, against root finding and closed forms."""

from __future__ import annotations

import copy
import functools
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap

import bilevelnet as bln
from bilevelnet.interop import from_fixed_point, from_optimality

F64 = torch.float64
DENSE, FREE = bln.solvers.Newton(), bln.solvers.Newton(largest=1)


class Tanh(nn.Module):
    """T(z, x) = tanh(W z + U x + b), a contraction for a small W."""

    def __init__(self, n: int = 4, m: int = 3, size: float = 0.5):
        super().__init__()
        g = torch.Generator().manual_seed(1)
        self.W = nn.Parameter(size * torch.randn(n, n, generator=g, dtype=F64) / n**0.5)
        self.U = nn.Parameter(torch.randn(n, m, generator=g, dtype=F64))
        self.b = nn.Parameter(torch.randn(n, generator=g, dtype=F64))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(z @ self.W.mT + x @ self.U.mT + self.b)


def kepler(E: Tensor, M: Tensor, e: Tensor) -> Tensor:
    return E - e * E.sin() - M


def cubic(z: Tensor, x: Tensor) -> Tensor:
    return z**3 + z - x


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_kepler_against_bracketing() -> None:
    M, e = torch.linspace(0, 3, 7, dtype=F64), torch.linspace(0, 0.95, 7, dtype=F64)
    sol = from_optimality(kepler).solve(M, e)

    def root(m: float, k: float) -> float:
        return scipy.optimize.brentq(lambda E: E - k * np.sin(E) - m, 0, 4, xtol=1e-15, rtol=1e-15)

    roots = list(map(root, M.tolist(), e.tolist()))
    error = (sol.z - torch.tensor(roots, dtype=F64)).abs()
    assert (error <= 1e-14).all()  # brentq's own rounding
    assert bool(sol.converged.all())
    assert (error <= sol.error_bound + 2e-15).all()


@pytest.mark.parametrize("solver", [DENSE, FREE], ids=["dense", "free"])
def test_deep_equilibrium_against_scipy(solver: Any) -> None:
    T, x = Tanh(), points(5, 3)
    layer = from_fixed_point(T, (4,), solver=solver)
    sol = layer.solve(x)
    W, c = T.W.detach().numpy(), (x @ T.U.mT + T.b).detach().numpy()
    for z, row in zip(sol.z.detach().numpy(), c, strict=True):
        exact = scipy.optimize.root(lambda t, r=row: t - np.tanh(W @ t + r), np.zeros(4), tol=1e-14).x
        assert np.abs(z - exact).max() < 1e-13  # hybr's rounding
    assert sol.converged.tolist() == [True] * 5
    assert sol.residual.max() < 1e-15


@pytest.mark.parametrize("solver", [DENSE, FREE], ids=["dense", "free"])
def test_derivatives_in_inputs_and_parameters(solver: Any) -> None:
    T = Tanh(3, 2)
    layer = from_fixed_point(T, (3,), solver=solver)
    named = dict(layer.named_parameters())
    assert len(named) == 3
    keys, weights = list(named), [p.detach().clone().requires_grad_() for p in named.values()]

    def f(x: Tensor, *weights: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(keys, weights, strict=True)), (x,))

    x = points(2, 2).requires_grad_()
    assert torch.autograd.gradcheck(f, (x, *weights), check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, (x, *weights), fast_mode=True)


@pytest.mark.parametrize("solver", [DENSE, FREE], ids=["dense", "free"])
def test_transforms(solver: Any) -> None:
    T = Tanh()
    layer, x = from_fixed_point(T, (4,), solver=solver), points(3, 3)

    def one(x: Tensor) -> Tensor:
        return layer(x[None])[0]

    assert torch.allclose(vmap(one)(x), layer(x), rtol=1e-12)
    assert torch.allclose(jacrev(one)(x[0]), jacfwd(one)(x[0]), rtol=1e-11)
    each = torch.stack([grad(lambda x: one(x).sum())(row) for row in x])
    assert torch.allclose(vmap(grad(lambda x: one(x).sum()))(x), each, rtol=1e-11)
    second = hessian(lambda x: one(x).sum())(x[0])
    assert torch.allclose(second, second.mT, rtol=1e-10)
    ensemble = {"equation.call.W": torch.stack([T.W.detach(), 0.5 * T.W.detach()])}
    both = vmap(lambda own: functional_call(layer, own, (x,)))(ensemble)
    assert torch.allclose(both[0], layer(x), rtol=1e-12)


@pytest.mark.parametrize("solver", [DENSE, FREE], ids=["dense", "free"])
def test_compiles_with_its_gradient(solver: Any) -> None:
    layer, x = from_fixed_point(Tanh(), (4,), solver=solver), points(3, 3).requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), layer(x), rtol=1e-13)
    first, second = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (compiled, layer))
    assert torch.allclose(first, second, rtol=1e-11)


def test_a_linear_map_has_its_closed_form() -> None:
    """z = A z + x, so that dz/dx = (I − A)⁻¹, also where A does not contract."""
    A = points(3, 3)
    A = 0.9 * A / torch.linalg.eigvals(A).abs().max()
    x = points(4, 3, seed=1)
    inverse = torch.linalg.inv(torch.eye(3, dtype=F64) - A)
    for solver in (DENSE, FREE):
        layer = from_fixed_point(lambda z, x, A: z @ A.mT + x, solver=solver)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.allclose(layer(x, A), x @ inverse.mT, rtol=1e-12)
        J = jacrev(lambda x, run=layer: run(x[None], A)[0])(x[0])
        assert torch.allclose(J, inverse, rtol=1e-12)
        with pytest.warns(UserWarning, match=r"spectral radius of ∂T/∂z is about 1\.8.* 4 of 4"):
            z = layer(x, 2 * A)
        exact = torch.linalg.solve(torch.eye(3, dtype=F64) - 2 * A, x.mT).mT
        assert torch.allclose(z, exact, rtol=1e-11)


def test_one_element_without_a_root_leaves_the_others() -> None:
    def F(z: Tensor, x: Tensor) -> Tensor:  # no root for x < 0; singular at x = 0
        return z**2 - x

    x = torch.tensor([4.0, -1.0, 2.0, torch.nan, 0.0, 1e-20], dtype=F64, requires_grad=True)
    layer = from_optimality(F, on_failure="nan")
    init = torch.ones_like(x)
    sol = layer.solve(x, init=init)
    S = bln.Status
    assert sol.status.tolist() == [S.converged, S.max_iter, S.converged, S.invalid, S.invalid, S.invalid]
    (slope,) = torch.autograd.grad(sol.z[[0, 2]].sum(), x)
    assert torch.allclose(sol.z[[0, 2]], x[[0, 2]].detach().sqrt(), rtol=1e-15)
    assert torch.allclose(slope[[0, 2]], 0.5 / x[[0, 2]].detach().sqrt(), rtol=1e-14)
    assert not slope[[1, 3, 4, 5]].any()
    assert sol.z[[1, 3, 4, 5]].isnan().all()
    with pytest.raises(bln.SolveError, match=r"4 of 6 elements have no solution, first at \(1,\)"):
        from_optimality(F)(x, init=init)
    with pytest.warns(RuntimeWarning, match="no root was met"):
        from_optimality(F, on_failure="warn")(x, init=init)


def test_a_bad_element_leaves_the_gradient_of_shared_parameters() -> None:
    x = points(4, 3)
    spoiled = torch.cat([x, torch.full((1, 3), torch.nan, dtype=F64)])
    for solver in (DENSE, FREE):
        layer = from_fixed_point(Tanh(), (4,), solver=solver, on_failure="nan")
        good = torch.autograd.grad(layer(x).sum(), list(layer.parameters()))
        z = layer(spoiled)
        assert z[-1].isnan().all()
        bad = torch.autograd.grad(z[:-1].sum(), list(layer.parameters()))
        assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(good, bad, strict=True))


def test_shapes_batches_and_dtypes() -> None:
    layer = from_optimality(cubic)
    assert layer(points(0, 3)).shape == (0, 3)
    assert layer.solve(points(0, 3)).iterations == 0
    assert layer(points(2, 3, 4)).shape == (2, 3, 4)  # an element is a (3, 4) matrix
    whole = from_optimality(cubic, batch_ndim=0)
    assert torch.allclose(whole(points(2, 3)), layer(points(2, 3)), rtol=1e-15)
    assert whole.solve(points(2, 3)).status.shape == ()
    several = from_optimality(cubic, batch_ndim=2).solve(points(2, 3, 4))
    assert several.status.shape == (2, 3)
    x = points(5, 3)
    for dtype, digits in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)):
        z = layer(x.to(dtype))
        assert z.dtype is dtype
        assert torch.allclose(z.double(), layer(x), rtol=digits, atol=digits)
    half = from_fixed_point(Tanh().to(torch.bfloat16), (4,))
    y = x.to(torch.bfloat16).requires_grad_()
    half(y).sum().backward()
    assert all(p.grad.dtype is torch.bfloat16 for p in half.parameters())


def test_shared_inputs_get_the_sum_of_gradients() -> None:
    M, e = torch.linspace(0.5, 2, 4, dtype=F64), torch.tensor(0.3, dtype=F64, requires_grad=True)
    layer = from_optimality(kepler)
    assert torch.autograd.gradcheck(layer, (M.requires_grad_(), e))
    each = e.detach().expand(4).clone().requires_grad_()
    (shared,) = torch.autograd.grad(layer(M, e).sum(), e)
    (apart,) = torch.autograd.grad(layer(M, each).sum(), each)
    assert torch.allclose(shared, apart.sum(), rtol=1e-14)


def test_a_warm_start_saves_steps() -> None:
    layer, x = from_fixed_point(Tanh(), (4,)), points(5, 3)
    cold = layer.solve(x)
    assert layer.solve(x + 1e-9, init=cold).iterations < cold.iterations
    assert torch.allclose(layer(x, init=cold.z), cold.z, rtol=1e-14)


def test_copies_and_modes_are_the_layer_s_own() -> None:
    class Dropped(Tanh):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return super().forward(nn.functional.dropout(z, 0.5, self.training), x)

    layer, x = from_fixed_point(Dropped(), (4,), on_failure="nan"), points(5, 3)
    assert (layer.solve(x).status == bln.Status.max_iter).all()  # F is another at every call
    layer.eval()
    z = layer(x)
    assert torch.allclose(z, from_fixed_point(Tanh(), (4,))(x), rtol=1e-13)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        next(other.parameters()).mul_(0.5)
    assert not torch.allclose(other(x), z)
    assert torch.equal(layer(x), z)
    again = pickle.loads(pickle.dumps(from_fixed_point(Tanh(), (4,))))
    assert torch.allclose(again(x), z, rtol=1e-13)


def test_what_is_hard_is_solved_or_told() -> None:
    """Far starts, ends of a domain, double roots and bad conditions: no status says more than its residual."""
    S = bln.Status
    x = torch.tensor([[1e-12], [1e-30], [0.0], [1.0], [1e30]], dtype=F64)
    sol = from_optimality(lambda z, x: z**3 - x, on_failure="ignore").solve(x, init=torch.ones_like(x))
    assert sol.status.tolist() == [S.converged, S.invalid, S.invalid, S.converged, S.converged]
    assert torch.allclose(sol.z[[0, 3, 4]], x[[0, 3, 4]] ** (1 / 3), rtol=1e-12)
    x = torch.tensor([[1.0], [-300.0]], dtype=F64)  # e^−300 lies beyond the reach of a step from 1
    sol = from_optimality(lambda z, x: z.log() - x, on_failure="ignore").solve(x, init=torch.ones_like(x))
    assert sol.status.tolist() == [S.converged, S.max_iter]
    x = torch.tensor([[0.5], [1.0], [1.01]], dtype=F64)
    sol = from_optimality(lambda z, x: (z + 3).sin() - x, on_failure="ignore").solve(x)
    assert sol.status.tolist() == [S.converged, S.invalid, S.max_iter]
    Q = torch.linalg.qr(points(4, 4))[0]
    for exponent, found in ((-10, True), (-17, False)):
        A = Q @ torch.diag(torch.logspace(0, exponent, 4, dtype=F64))
        for solver in (DENSE, FREE):
            layer = from_optimality(lambda z, x, A: z @ A.mT - x, solver=solver, on_failure="ignore")
            assert layer.solve(points(2, 4, seed=2), A).converged.tolist() == [found] * 2


def test_misuse_is_named() -> None:
    net, x = Tanh(), points(5, 3)
    with pytest.raises(bln.InputError, match="uses net, a Tanh of its surroundings"):
        from_fixed_point(lambda z, x: net(z, x))

    def through(z: Tensor, x: Tensor) -> Tensor:
        return net(z, x)

    for call in (lambda z, x: through(z, x), functools.partial(lambda net, z, x: net(z, x), net)):
        with pytest.raises(bln.InputError, match="a Tanh of its surroundings"):
            from_fixed_point(call)
    with pytest.raises(bln.InputError, match="not <class"):
        from_fixed_point(Tanh)
    with pytest.raises(bln.InputError, match="its object"):
        from_fixed_point(net.forward)
    with pytest.raises(bln.InputError, match="as many equations as unknowns"):
        from_optimality(lambda z, x: (z - x).sum(-1))(x)
    with pytest.raises(bln.InputError, match="give torch tensors"):
        from_optimality(cubic)(1.0)
    with pytest.raises(bln.InputError, match="init has shape"):
        from_optimality(cubic, (3,))(x, init=points(5, 4))
    with pytest.raises(bln.InputError, match="give init="):
        from_optimality(cubic)()
    with pytest.raises(bln.InputError, match="solver= takes"):
        from_optimality(cubic, solver="newton")
    with pytest.raises(bln.InputError, match="unknown on_failure"):
        from_optimality(cubic, on_failure="stop")
    with pytest.raises(bln.InputError, match="couples the elements of the batch"):
        from_optimality(lambda z, x: z - 0.1 * z.mean(0) - x)(x)
    with pytest.raises(bln.InputError, match=r"gives \(5, 1\)"):  # z − T(z) would hide it
        from_fixed_point(lambda z, x: 0.1 * z.sum(-1, keepdim=True) + x[..., :1])(x)
    with pytest.raises(bln.InputError, match=r"gives \(5, 2\)"):
        from_fixed_point(lambda z, x: (0.1 * z + x)[..., :2])(x)
    for option, words in (({"batch_ndim": 1.5}, "batch_ndim >= 0"), ({"event_shape": -1}, "each size of event_shape")):
        with pytest.raises(bln.InputError, match=words):
            from_optimality(cubic, **option)
    with pytest.raises(bln.InputError, match="whole number, not 2"):
        bln.solvers.Newton(max_iter=2.5)


def test_one_number_without_a_batch() -> None:
    """z is a tensor of no dimensions, with its derivative: z³ + z = x."""
    x = torch.tensor(2.0, dtype=F64, requires_grad=True)
    for init in (None, torch.tensor(0.5, dtype=F64)):
        z = from_optimality(lambda z, x: z**3 + z - x, batch_ndim=0)(x, init=init)
        assert z.shape == ()
        assert z.item() == 1
        assert torch.autograd.grad(z, x)[0].item() == 0.25
