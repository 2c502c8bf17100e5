"""What goes wrong is said, with its remedy: wrong parameters, inputs, domains and solvers, and the policies."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import bilevelnet as bln
from bilevelnet import couplings, divergences, legendre, regularizers

FERMI = legendre.FermiDirac()


def layer(phi=FERMI, g=None, widths=(2, 2), **options):
    torch.manual_seed(0)
    reference = options.pop("reference", None)
    return bln.BilevelLayer(couplings.Bilinear(*widths), divergences.Bregman(phi, reference), g, **options)


CONSTRUCTION = {
    "λ < 0": (lambda: regularizers.L1(-0.1), "lam = -0.1 is not in [0, inf)"),
    "λ < 0 in a tensor": (lambda: regularizers.L1(torch.tensor([0.1, -0.1])), "values outside [0, inf)"),
    "λ NaN": (lambda: regularizers.SquaredL2(float("nan")), "lam = nan is not in"),
    "negative multiple": (lambda: -1.0 * regularizers.L1(0.1), "c = -1.0 is not in [0, inf)"),
    "lo > hi": (lambda: regularizers.Box(1.0, 0.0), "needs lo <= hi"),
    "β ≤ 0": (lambda: legendre.Softplus(beta=0.0), "beta = 0.0 is not in (0, inf)"),
    "τ outside (0, 1)": (lambda: regularizers.Quantile(1.0, 1.5), "tau = 1.5 is not in (0, 1)"),
    "weight is a string": (lambda: regularizers.L1("0.1"), "give a number, a torch tensor or a torch.nn.Parameter"),
    "integer tensor weight": (lambda: regularizers.L1(torch.tensor(1)), "give a floating-point tensor"),
    "parameter of φ missing": (lambda: legendre.get("tsallis"), "tsallis needs alpha"),
    "unknown φ": (lambda: legendre.get("fermi"), "fermi_dirac"),
    "unknown g": (lambda: regularizers.get("lasso"), "known: affine_set"),
    "unknown parameter of φ": (lambda: legendre.get("softplus", alpha=1.0), "no parameter 'alpha'; known: beta"),
    "unknown parameter of g": (lambda: regularizers.get("box", low=0.0), "no parameter 'low'; known: lo, hi"),
    "knots decrease": (lambda: regularizers.PiecewiseLinear((1.0, 0.0), (0.0, 1.0, 2.0)), "knots"),
    "slopes decrease": (lambda: regularizers.PiecewiseLinear((0.0, 1.0), (1.0, 0.0, 2.0)), "convex"),
    "slopes miscounted": (lambda: regularizers.PiecewiseLinear((0.0,), (1.0,)), "K + 1 slopes"),
    "boxes that do not meet": (lambda: regularizers.Box(0.0, 1.0) + regularizers.Box(2.0, 3.0), "infeasible"),
    "widths differ": (
        lambda: layer(widths=(3, 2)),
        "widths differ (3 → 2) without a reference: give Bregman(phi, reference=...)",
    ),
    "reference of other widths": (
        lambda: layer(widths=(3, 2), reference=divergences.RowStochastic(4, 2)),
        "the reference maps widths 4 → 2, the coupling 3 → 2",
    ),
    "φ is no φ": (lambda: divergences.Bregman(regularizers.L1()), "see bilevelnet.legendre"),
    "reference is no reference": (
        lambda: divergences.Bregman(FERMI, torch.nn.Linear(2, 2)),
        "None, RowStochastic(d_in, d_out), Dual(linear) or Zero()",
    ),
    "pieces in the wrong places": (
        lambda: bln.BilevelLayer(divergences.Bregman(FERMI), couplings.Bilinear(2, 2)),
        "BilevelLayer(coupling, divergence, regularizer)",
    ),
    "A is no module": (lambda: couplings.Affine(torch.tanh), "torch.nn.Module"),
    "event_ndim 0": (lambda: couplings.Affine(torch.nn.Tanh(), event_ndim=0), "at least 1"),
    "int dom φ misses dom g": (lambda: layer(g=regularizers.Box(2.0, 3.0)), "infeasible"),
    "int dom φ touches dom g": (lambda: layer(g=regularizers.Box(1.0, 3.0)), "take a φ with a wider domain"),
    "no closed form": (
        lambda: layer(legendre.Tanh(), regularizers.SquaredL2(1.0), solver="closed_form"),
        "no closed form is known for (∇φ + ∇h)⁻¹ with φ = tanh, h = squared_l2",
    ),
    "conic without expression": (lambda: layer(legendre.Atan(), solver="conic"), "atan has no cvxpy expression"),
    "unknown solver": (lambda: layer(solver="newtons"), "unknown solver 'newtons'; known: auto, closed_form"),
    "unknown policy": (lambda: layer(on_failure="shrug"), "known: raise, warn, nan, ignore"),
    "one width": (lambda: bln.models.BregmanMLP([3], FERMI), "at least two"),
    "a width of 0": (lambda: bln.models.BregmanMLP([3, 0], FERMI), "whole numbers, at least 1"),
    "a width that is no number": (lambda: bln.models.BregmanMLP([3, 2.5], FERMI), "whole numbers, at least 1"),
    "unknown version": (
        lambda: bln.models.BregmanMLP([3, 3], FERMI, version="plain"),
        "known: bregman, euclidean, standard",
    ),
    "head is no module": (lambda: bln.models.BilevelNetwork(bln.Chain(layer()), torch.tanh), "a Chain"),
    "chain is no Chain": (lambda: bln.models.BilevelNetwork(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), "a Chain"),
    "widths are a number": (lambda: bln.models.BregmanMLP(4, "tanh"), "at least two, not 4"),
}


@pytest.mark.parametrize("case", CONSTRUCTION)
def test_construction(case):
    make, words = CONSTRUCTION[case]
    with pytest.raises(bln.InputError) as caught:
        make()
    assert words in str(caught.value)


def test_unknown_keys_list_every_known_one():
    for registry, get in ((legendre.registry, legendre.get), (regularizers.registry, regularizers.get)):
        with pytest.raises(bln.InputError) as caught:
            get("nothing")
        assert all(key in str(caught.value) for key in registry)


@pytest.mark.parametrize("policy", ["raise", "warn", "nan", "ignore"])
@pytest.mark.parametrize(
    ("z", "words"),
    [
        (torch.zeros(2, 2, dtype=torch.int64), r"dtype torch.int64; give a floating-point tensor"),
        (np.full((2, 2), 0.5), r"numpy.ndarray; give a torch tensor \(torch.as_tensor\)"),
        (torch.full((2, 3), 0.5), "width 3, the coupling takes 2"),
        (torch.tensor(0.5), "0 dimensions; one sample has 1"),
        (torch.full((2, 2), 0.5, dtype=torch.float64), r"convert one, e.g. layer.to\(z.dtype\)"),
    ],
    ids=["integer", "numpy", "width", "scalar", "dtype"],
)
def test_wrong_inputs_always_raise(z, words, policy):
    one = layer(on_failure=policy)
    for call in (one, one.solve, bln.Chain(one, on_failure=policy)):
        with pytest.raises(bln.InputError, match=words):
            call(z)


def test_prox_checks_its_argument():
    for v, words in ((np.ones(2), "numpy"), (torch.ones(2, dtype=torch.int32), "floating-point")):
        with pytest.raises(bln.InputError, match=words):
            bln.bregman_prox(FERMI, regularizers.Zero(), v)
    with pytest.raises(bln.InputError, match="acts on 1"):
        bln.bregman_prox(legendre.Energy(), regularizers.Simplex(), torch.tensor(1.0))
    with pytest.raises(bln.InputError, match="expected a Legendre"):
        bln.bregman_prox(regularizers.L1(), regularizers.L1(), torch.ones(2))


SHAPES = {
    "matrix that is not square": (legendre.VonNeumann(), regularizers.Zero(), (3, 2), "takes square matrices"),
    "width of g": (FERMI, regularizers.AffineSet([1.0, 2.0, 3.0], 1.0), (4,), "vectors of width 3"),
    "width of φ": (legendre.Mahalanobis(torch.eye(3)), regularizers.Zero(), (2,), "vectors of width 3"),
    "shorter than its groups": (FERMI, regularizers.GroupLasso(0.1, [[0, 2]]), (2,), "width at least 3"),
    "nothing to act on": (FERMI, regularizers.Simplex(), (2, 0), "at least one entry"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes_of_events(case):
    phi, g, shape, words = SHAPES[case]
    for solve in (bln.bregman_prox, bln.solve_prox):
        with pytest.raises(bln.InputError, match=words):
            solve(phi, g, torch.zeros(shape))


def test_domain_error_counts_and_locates():
    z = torch.full((3, 2), 0.5)
    z[1, 1], z[2, 0] = 1.5, -0.25
    with pytest.raises(bln.DomainError) as caught:
        layer()(z)
    message = str(caught.value)
    for words in ("domain", "[0.0, 1.0]", "fermi_dirac", "2 of 6", "first at (1, 1)", "1.5", "Map the input"):
        assert words in message, words
    assert isinstance(caught.value, bln.InputError)
    assert isinstance(caught.value, ValueError)


def test_rounded_boundary_names_chain():
    """float32 tanh(10) is 1: the message says what happened and what to do."""
    one = layer(legendre.Tanh())
    with pytest.raises(bln.DomainError, match=r"on the boundary.*Chain\(\*layers\)"):
        one(torch.tanh(torch.tensor([[10.0, 0.0]])))


def test_nan_input_says_nan_and_where():
    z = torch.full((3, 2), 0.5)
    z[2, 1] = torch.nan
    with pytest.raises(bln.InputError, match=r"NaN in 1 of 6.*\(2, 1\)"):
        layer()(z)
    with pytest.raises(bln.SolveError, match=r"1 of 6.*first at \(2, 1\).*NaN"):
        bln.bregman_prox(FERMI, regularizers.Zero(), z)


def test_a_chain_names_the_layer_that_a_point_leaves():
    chain = bln.Chain(layer(legendre.Energy()), layer(FERMI))
    torch.nn.init.constant_(chain[0].coupling.bias, 5.0)
    with pytest.raises(bln.DomainError, match="z⁻ of layer 1 leaves the interior"):
        chain(torch.zeros(1, 2))


def test_dtypes_that_differ_are_named():
    branch = bln.BilevelLayer(couplings.Affine(torch.nn.Linear(2, 2)), divergences.Bregman(FERMI))
    for one in (layer(), branch):
        with pytest.raises(bln.InputError, match=r"torch.float64, the coupling torch.float32: convert one"):
            one(torch.full((1, 2), 0.5, dtype=torch.float64))


def test_a_loaded_weight_is_checked():
    """A state dict does not get a weight past its range."""
    g = regularizers.L1(torch.tensor(0.1))
    g.load_state_dict({"lam_value": torch.tensor(0.2)})
    assert float(g.lam) == pytest.approx(0.2)
    with pytest.raises(RuntimeError, match=r"lam has values outside \[0, inf\)"):
        g.load_state_dict({"lam_value": torch.tensor(-0.2)})


def test_a_point_without_a_reference_is_free():
    """With R = 0 nothing of z⁻ enters ∇φ, so no domain binds it."""
    assert bool(layer(reference=divergences.Zero())(torch.full((1, 2), 7.0)).isfinite().all())


BAD = torch.tensor([[0.5, 0.5], [0.5, 2.0], [0.25, 0.75]])


@pytest.mark.parametrize("make", [lambda **o: layer(**o), lambda **o: bln.Chain(layer(), **o)], ids=["layer", "chain"])
def test_policies_for_a_point_outside(make):
    good = make()(BAD[[0, 2]])
    with pytest.raises(bln.DomainError):
        make(on_failure="raise")(BAD)
    with pytest.warns(RuntimeWarning, match="domain"):
        z = make(on_failure="warn")(BAD)
    torch.testing.assert_close(z[[0, 2]], good)
    z = make(on_failure="nan")(BAD)
    torch.testing.assert_close(z[[0, 2]], good)
    assert bool(z[1].isnan().all())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(make(on_failure="ignore")(BAD)[[0, 2]], good)


def test_nan_under_vmap_and_compile():
    """Nothing raises where values cannot be read: the failed sample is NaN, whatever the policy."""
    one = layer()
    good = one(BAD[[0, 2]])
    torch.compiler.reset()
    compiled = torch.compile(one, fullgraph=True, backend="aot_eager")
    for call in (torch.func.vmap(one), compiled, torch.func.vmap(bln.Chain(one))):
        z = call(BAD)
        torch.testing.assert_close(z[[0, 2]], good)
        assert bool(z[1].isnan().all())


def test_policies_for_an_unbounded_problem():
    """Burg, g = 0: no minimiser for v ≥ 0; the status says so and the other entries are right."""
    phi, v = legendre.get("burg"), torch.tensor([-2.0, 1.0, -0.5])
    with pytest.raises(bln.SolveError, match=r"1 of 3.*first at \(1,\).*unbounded.*add a regularizer"):
        bln.bregman_prox(phi, regularizers.Zero(), v)
    with pytest.warns(RuntimeWarning, match="unbounded"):
        bln.bregman_prox(phi, regularizers.Zero(), v, on_failure="warn")
    z = bln.bregman_prox(phi, regularizers.Zero(), v, on_failure="nan")
    torch.testing.assert_close(z, torch.tensor([0.5, torch.nan, 2.0]), equal_nan=True)
    sol = bln.solve_prox(phi, regularizers.Zero(), v, on_failure="ignore")
    assert sol.status.tolist() == [bln.Status.converged, bln.Status.unbounded, bln.Status.converged]
    assert sol.converged.tolist() == [True, False, True]


def test_gradients_of_good_samples_survive_a_bad_one():
    x = BAD.clone().requires_grad_()
    one = layer(on_failure="nan")
    one(x)[[0, 2]].sum().backward()
    y = BAD[[0, 2]].clone().requires_grad_()
    one(y).sum().backward()
    torch.testing.assert_close(x.grad[[0, 2]], y.grad)
    assert not x.grad.isnan()[[0, 2]].any()


def test_infeasible_tensor_domains_are_a_status():
    """Ends that are tensors cannot be refused at construction: they become NaN or a status, element by element."""
    box = regularizers.Box(torch.tensor([0.2, 2.0]), torch.tensor([0.4, 3.0]))
    sol = bln.solve_prox(FERMI, box, torch.zeros(2), on_failure="ignore")
    assert sol.status.tolist() == [bln.Status.converged, bln.Status.infeasible]
