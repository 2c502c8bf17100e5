"""Special functions and roots against mpmath, thresholds against bisection, in value and in both derivatives."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor

from bilevelnet import numerics as nx
from bilevelnet.numerics import simplex
from bilevelnet.testing.calculus import bisect

mpmath.mp.dps = 100
EPS = torch.finfo(torch.float64).eps
LINE = [
    -745.0,
    -300.0,
    -40.0,
    -37.0,
    -36.9,
    -10.0,
    -1.5,
    -1e-3,
    -1e-12,
    0.0,
    1e-9,
    0.3,
    1.0,
    2.7,
    30.0,
    700.0,
    1e8,
    1e18,
]
UNIT = [-0.999, -0.7, -0.5, -0.2, -1e-8, 0.0, 1e-12, 1e-3, 0.4, 0.5, 0.99]


def root(f: Callable, start: Callable) -> Callable:
    """mpmath's root of f(z, x) from start(x)."""
    return lambda x: mpmath.findroot(lambda z: f(z, x), start(x), tol=1e-60, maxsteps=200, verify=False)


def omega(x):
    return mpmath.lambertw(mpmath.exp(x)) if x < 600 else root(lambda w, x: w + mpmath.log(w) - x, lambda x: x)(x)


def entropy(t):
    both = [s * mpmath.log(s) if s else mpmath.mpf(0) for s in (1 + t, 1 - t)]
    return sum(both) / 2


# name: (ours, mpmath's, points, and the digits that the input's own rounding leaves: |x f'| beside |f|)
FUNCTIONS = {
    "wright_omega": (nx.wright_omega, omega, LINE),
    "dilogarithm": (nx.dilogarithm, lambda y: mpmath.polylog(2, y).real, [y for y in UNIT if y <= 0.5]),
    "log1p_minus": (nx.log1p_minus, lambda x: mpmath.log(1 + x) - x, [*UNIT, 1.0, 5.0, 1e6]),
    "expm1_minus": (nx.expm1_minus, lambda x: mpmath.exp(x) - 1 - x, [*UNIT, -40.0, -3.0, 1.0, 5.0, 300.0]),
    "log_cosh": (nx.log_cosh, lambda x: mpmath.log(mpmath.cosh(x)), [*UNIT, -700.0, 3.0, 40.0, 1e4]),
    "two_sided_entropy": (nx.two_sided_entropy, entropy, [*UNIT, 1 - 1e-6]),
    "log_linear_root(m=0.7, s=1)": (
        lambda v: nx.log_linear_root(v, 0.7, 1.0),
        lambda v: omega(v + mpmath.log(mpmath.mpf(0.7))) / mpmath.mpf(0.7),
        [v for v in LINE if v > -700],
    ),
    "log_linear_root(m=0, s=2)": (lambda v: nx.log_linear_root(v, 0.0, 2.0), lambda v: mpmath.exp(v / 2), LINE[:-2]),
    "log_reciprocal_root(s=1, k=0.6)": (
        lambda v: nx.log_reciprocal_root(v, 1.0, 0.6),
        lambda v: mpmath.mpf(0.6) / omega(mpmath.log(mpmath.mpf(0.6)) - v),
        LINE[:-2],
    ),
    "quadratic_root(m=1, k=0.25)": (
        lambda v: nx.quadratic_root(v, 1.0, 0.25),
        lambda v: (v + mpmath.sqrt(v * v + 1)) / 2,
        [-1e18, -1e8, *LINE],
    ),
    "quadratic_root(m=0, k=2)": (lambda v: nx.quadratic_root(v, 0.0, 2.0), lambda v: -2 / v, [-1e9, -3.0, -1e-3]),
    "exp_linear_root(k=1, m=0.7)": (
        lambda v: nx.exp_linear_root(v, 1.0, 0.7),
        lambda v: (v - mpmath.mpf(0.7) * omega(v / mpmath.mpf(0.7) - mpmath.log(mpmath.mpf(0.7)))) / mpmath.mpf(0.7),
        [v for v in LINE if abs(v) < 1e6],
    ),
    "signed_power(2.5)": (
        lambda x: nx.signed_power(x, 2.5),
        lambda x: mpmath.sign(x) * abs(x) ** mpmath.mpf(2.5),
        [*UNIT, 1e30],
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_slope_against_mpmath(name: str) -> None:
    ours, theirs, points = FUNCTIONS[name]
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    y = ours(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    for k, point in enumerate(points):
        want = theirs(mpmath.mpf(point))
        steep = mpmath.diff(theirs, mpmath.mpf(point), h=mpmath.mpf(10) ** -35 * (1 + abs(point)))
        # 8 eps of the value and of what the rounding of x alone moves it by.
        assert abs(y[k].item() - want) <= 8 * EPS * (abs(want) + abs(steep * point)) + 1e-307, (point, float(want))
        assert abs(slope[k].item() - steep) <= 1e-9 * abs(steep) + (1e-300 if point else 1e-30), (point, float(steep))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradcheck_to_second_order(name: str) -> None:
    ours, _, points = FUNCTIONS[name]
    inner = [p for p in points if 1e-2 < abs(p) < 20 and abs(p) != 1 - 1e-6]
    x = torch.tensor(inner, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours, (x,), check_forward_ad=True, rtol=1e-5)
    assert torch.autograd.gradgradcheck(ours, (x,), rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_nan_at_the_extremes(name: str, dtype: torch.dtype) -> None:
    ours, _, points = FUNCTIONS[name]
    far = [s * m for m in (700.0, 1e4, 1e30) for s in (-1.0, 1.0)]
    far = [p for p in far if min(points) < -1 or p > 0] if max(points) > 1 else []
    far = [p for p in far if max(points) > 1 or p < 0] if min(points) < -1 else far
    x = torch.tensor([*points, *(p for p in far if name != "quadratic_root(m=0, k=2)")], dtype=dtype)
    if name in ("log1p_minus",):
        x = x[x > -1]
    x = x.requires_grad_()
    y = ours(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert y.dtype is dtype
    assert not y.isnan().any(), x[y.isnan()]
    assert not slope.isnan().any(), x[slope.isnan()]


WEIGHTED = {
    "log_linear_root": (nx.log_linear_root, [(0.7, 1.0), (2.0, 0.3), (0.1, 3.0)]),
    "log_reciprocal_root": (nx.log_reciprocal_root, [(1.0, 0.6), (0.3, 2.0)]),
    "quadratic_root": (nx.quadratic_root, [(1.0, 0.25), (0.5, 3.0)]),
    "exp_linear_root": (nx.exp_linear_root, [(1.0, 0.7), (2.0, 0.1)]),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_derivatives_in_the_coefficients(name: str) -> None:
    f, weights = WEIGHTED[name]
    v = torch.tensor([-2.0, -0.1, 0.4, 3.0], dtype=torch.float64, requires_grad=True)
    for a, b in weights:
        a_, b_ = (torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (a, b))
        assert torch.autograd.gradcheck(f, (v, a_, b_), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(f, (v, a_, b_))
        torch.testing.assert_close(f(v, a_, b_), f(v, a, b), rtol=1e-14, atol=0.0)


def test_a_coefficient_of_zero_is_the_plain_function() -> None:
    v = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64)
    zero = torch.tensor(0.0, dtype=torch.float64)
    for nothing in (0.0, zero):
        torch.testing.assert_close(nx.log_linear_root(v, nothing, 1.0), v.exp(), rtol=1e-15, atol=0.0)
        torch.testing.assert_close(nx.log_linear_root(v, 2.0, nothing), v.clamp(min=0) / 2, rtol=1e-15, atol=0.0)
        torch.testing.assert_close(nx.quadratic_root(v, 2.0, nothing), v.clamp(min=0) / 2, rtol=1e-15, atol=0.0)
        below = v[:2]
        torch.testing.assert_close(nx.quadratic_root(below, nothing, 3.0), -3 / below, rtol=1e-15, atol=0.0)


ROWS = {
    "normal": lambda: torch.randn(7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    "far from 0": lambda: 1e6 + torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    "ties": lambda: torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 5.0], [2.0, 2.0, 1.0]], dtype=torch.float64),
    "one entry": lambda: torch.tensor([[3.0], [-2.0]], dtype=torch.float64),
}


@pytest.mark.parametrize("radius", [1.0, 2.5, 1e-3])
@pytest.mark.parametrize("name", ROWS)
def test_simplex_threshold_against_bisection(name: str, radius: float) -> None:
    v = ROWS[name]()
    largest = v.amax(-1, keepdim=True)
    want = bisect(lambda t: radius - (v - t).clamp(min=0).sum(-1, keepdim=True), largest - radius - 1, largest)
    got = nx.simplex_threshold(v, radius)
    assert ((got - want).abs() <= 20 * EPS * (v.abs().amax(-1, keepdim=True) + radius)).all()


def test_simplex_threshold_derivative_and_dim() -> None:
    v = ROWS["normal"]().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: nx.simplex_threshold(x, 1.0), (v,))
    radius = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: nx.simplex_threshold(v.detach(), r), (radius,))
    torch.testing.assert_close(nx.simplex_threshold(v.mT, 1.0, 0), nx.simplex_threshold(v, 1.0).mT)


def long_rows() -> Tensor:
    """Rows longer than simplex.WIDE: spread, flat, far from 0, one large entry, all equal."""
    x = torch.randn(5, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[1] *= 1e-4
    x[2] += 1e6
    x[3, 7] += 1e3
    x[4] = 2.0
    return x


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("radius", [1.0, 250.0])
def test_project_simplex_on_long_rows(power: int, radius: float) -> None:
    """Beside a bisection, and the route by sorting, which vmap takes."""
    v = long_rows()
    reach = radius ** (1 / power)
    d = v - v.amax(-1, keepdim=True)
    t = bisect(
        lambda t: radius - ((d - t).clamp(min=0) ** power).sum(-1, keepdim=True), -reach - 0 * d[:, :1], 0 * d[:, :1]
    )
    want = (d - t).clamp(min=0) ** power
    got = nx.project_simplex(v, radius, power=power)
    # 300 terms of size reach^p, each right to a few eps of reach.
    assert ((got - want).abs() <= 50 * EPS * reach**power).all()
    assert torch.allclose(got.sum(-1), torch.full((5,), radius, dtype=torch.float64), rtol=100 * EPS)
    sorting = torch.func.vmap(lambda x: nx.project_simplex(x, radius, power=power))(v)
    assert torch.allclose(got, sorting, rtol=0, atol=50 * EPS * reach**power)
    assert torch.equal(nx.project_simplex(v.mT, radius, 0, power), got.mT)


@pytest.mark.parametrize("power", [1, 2])
def test_project_simplex_among_few_candidates(power: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Derivatives, and rows that hold NaN or a mask, on the route of long rows."""
    monkeypatch.setattr(simplex, "WIDE", 4)
    monkeypatch.setattr(simplex, "MEMBERS", 2)
    monkeypatch.setattr(simplex, "MANY", 1.0)
    v = ROWS["normal"]().requires_grad_()
    radius = torch.linspace(0.5, 2, 7, dtype=torch.float64).unsqueeze(-1).requires_grad_()

    def f(v: Tensor, r: Tensor) -> Tensor:
        return nx.project_simplex(v, r, power=power)

    assert torch.autograd.gradcheck(f, (v, radius), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, (v, radius))
    row = v[0].detach()
    assert torch.equal(*(jacobian(lambda x: f(x, 1.0))(row) for jacobian in (torch.func.jacrev, torch.func.jacfwd)))
    x = v.detach().clone()
    x[1, 3] = torch.nan
    x[2, 4] = -torch.inf
    x[3] = -torch.inf
    z, clean = f(x, 1.0), f(v.detach(), 1.0)
    assert z[[1, 3]].isnan().all()
    assert torch.equal(z[[0, 4, 5, 6]], clean[[0, 4, 5, 6]])
    keep = torch.arange(9) != 4
    assert z[2, 4] == 0
    assert torch.allclose(z[2, keep], f(v[2, keep].detach(), 1.0), rtol=10 * EPS, atol=EPS)
    assert f(torch.zeros(0, 9), 1.0).shape == (0, 9)


def median(v: Tensor, knots: list[float], slopes: list[float]) -> Tensor:
    """w with w + s(w) ∋ v by bisection, for the step function s."""

    def increasing(w: Tensor) -> Tensor:
        s = torch.full_like(w, slopes[0])
        for t, after in zip(knots, slopes[1:], strict=True):
            s = torch.where(w > t, after, s)
        return w + s - v

    return bisect(increasing, torch.full_like(v, -1e9), torch.full_like(v, 1e9))


@pytest.mark.parametrize("order", [1, -1], ids=["sorted", "reversed"])
def test_select_against_bisection(order: int) -> None:
    knots, slopes = [-0.7, 0.25, 1.5], [-2.0, -0.5, 0.4, 3.0]
    v = torch.linspace(-6, 6, 97, dtype=torch.float64)
    steps = list(zip(knots, slopes[:-1], strict=True))[::order]
    got, want = nx.select(v, slopes[-1], steps), median(v, knots, slopes)
    torch.testing.assert_close(got, want, rtol=1e-14, atol=1e-15)


def test_select_is_exact_on_a_jump_in_float32() -> None:
    """The sum of clamps gives 0.125 here."""
    v = torch.tensor([0.3, -1e5], dtype=torch.float32)
    knot = torch.tensor(0.123456)
    assert nx.select(v, 1e6, [(float(knot), -1e6)]).tolist() == [float(knot)] * 2


def test_select_derivatives() -> None:
    v = torch.tensor([-3.0, -0.7, 0.1, 0.25, 0.3, 4.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(nx.select(v, 0.0, [(0.25, -1.0)]).sum(), v)
    assert slope.tolist() == [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]  # flat on [−0.75, 0.25], edges included


def test_the_hypotenuse_of_an_export_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([-1e200, -3.0, -1.0, -1e-9, 0.0, 0.5, 1.0, 7.0, 1e300], dtype=torch.float64, requires_grad=True)
    found = []
    for exporting in (False, True):
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda exporting=exporting: exporting)
        y = nx.hypotenuse(x)
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        found.append((y, first))
    torch.testing.assert_close(found[1], found[0], rtol=4e-16, atol=0)  # two ulp
    near = x[1:-1]
    (second,) = torch.autograd.grad(found[1][1].sum(), x)
    torch.testing.assert_close(second[1:-1], (1 + near**2) ** -1.5, rtol=1e-14, atol=0)
