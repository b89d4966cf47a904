"""Least-squares limits, floors and verdicts against independent computations."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import flowsim as fs
from flowsim.cells import Cells
from flowsim.stationarity.classify import Snapshot, at_rest, classify
from flowsim.stationarity.exact import exact_limit_loss
from flowsim.stationarity.limits import attainable_range, feature_range, least_squares_residual


def cells_of(data: fs.Dataset) -> Cells:
    return Cells.of(data, 0.0, "half_mean", np.zeros(data.n))


def loss_of(r: np.ndarray) -> float:
    return float(np.mean(r**2) / 2)


def snapshot_of(net: fs.TwoLayerReLU, data: fs.Dataset, fate=None) -> tuple[Snapshot, Cells]:
    """A state with every margin strict, in units in which the data are not scaled."""
    cells = Cells.of(data, net.negative_slope, "half_mean", np.zeros(data.n))
    scale = 2.0**cells.size_exponent
    z = np.column_stack([net.a, net.W]) * scale
    code = np.sign(z[:, 1:] @ cells.normals.T).astype(np.int8)
    residual = net.residual(data) * 2.0**-cells.y_exponent
    dead = ~np.any(cells.coefficients(code) > 0, axis=1)
    fates = dead.astype(np.int64) if fate is None else np.array(fate)
    balanced = np.isclose(np.abs(net.a), np.linalg.norm(net.W, axis=1))
    ones = np.ones(net.m)
    sign = np.sign(net.a)
    return Snapshot(cells, z, ones, sign, balanced, code, fates, residual), cells


def test_the_limit_of_one_cell_is_ordinary_least_squares():
    data = fs.datasets.three_points()
    cells = cells_of(data)
    r = least_squares_residual(cells.y, feature_range(cells, np.ones((1, 3), dtype=np.int8)))
    ols = np.linalg.lstsq(data.X, data.y, rcond=None)
    assert loss_of(np.ldexp(r, cells.y_exponent)) == pytest.approx(ols[1][0] / 6, rel=1e-13)


@pytest.mark.parametrize("code", [[1, 1, 1], [1, 0, 1], [1, 1, -1]])
def test_exact_limits_agree_with_floating_point_ones(code):
    data = fs.datasets.three_points()
    cells = cells_of(data)
    codes = np.array([code], dtype=np.int8)
    exact = exact_limit_loss(data, cells, codes)
    r = np.ldexp(least_squares_residual(cells.y, feature_range(cells, codes)), cells.y_exponent)
    assert exact is not None
    assert float(exact) == pytest.approx(loss_of(r), rel=1e-13)
    if code == [1, 1, 1]:
        assert exact == Fraction(256, 2925)


def test_exact_limits_are_refused_for_floats():
    data = fs.Dataset([[0.1, 1.0], [0.2, 1.0]], [1.0, 2.0])
    assert exact_limit_loss(data, cells_of(data), np.ones((1, 2), dtype=np.int8)) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_attainable_range_is_the_span_of_many_random_features(seed):
    """Antipodal, parallel and free samples: rank and span against 4000 random neurons."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((5, 3))
    X = np.concatenate([base, -base[:3], 2 * base[1:2]])
    data = fs.Dataset(X, rng.standard_normal(len(X)))
    cells = cells_of(data)
    basis = attainable_range(cells)
    features = np.maximum(data.X @ rng.standard_normal((3, 4000)), 0.0)
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    rank = int(np.sum(s > 1e-10 * s[0]))
    assert basis.shape[1] == rank
    np.testing.assert_allclose(basis @ basis.T, u[:, :rank] @ u[:, :rank].T, atol=1e-9)


def test_the_floor_of_antipodal_data_comes_from_the_odd_part():
    """h(x) - h(-x) is linear, so the floor is the least squares of y(x) - y(-x), halved."""
    data = fs.datasets.half_spaces()
    odd = data.y[:20] - data.y[20:]
    fit = np.linalg.lstsq(data.X[:20], odd, rcond=None)[0]
    expected = np.sum((odd - data.X[:20] @ fit) ** 2) / (4 * data.n)
    cells = cells_of(data)
    r = np.ldexp(least_squares_residual(cells.y, attainable_range(cells)), cells.y_exponent)
    assert loss_of(r) == pytest.approx(expected, rel=1e-12)


def affine_network(data: fs.Dataset, extra: list | None = None) -> fs.TwoLayerReLU:
    """The OLS fit as one neuron that is on everywhere, and further neurons (a, w)."""
    beta = np.linalg.lstsq(data.X, data.y, rcond=None)[0]
    size = np.sqrt(np.linalg.norm(beta))
    neurons = [[size, *(beta / size)], *(extra or [])]
    z = np.array(neurons, dtype=float)
    return fs.TwoLayerReLU(z[:, 0], z[:, 1:])


def test_the_affine_fit_is_spurious_with_enough_neurons_and_not_with_one():
    data = fs.datasets.three_points()
    one, _ = snapshot_of(affine_network(data), data)
    assert at_rest(one, 1e-11)
    assert classify(one, stationary=True).kind == "local_minimum"
    dead = [1e-3, 0.0, -1e-3]
    two, _ = snapshot_of(affine_network(data, [dead]), data)
    assert classify(two, stationary=True).kind == "spurious_local_minimum"


def test_a_spurious_minimum_has_no_better_neighbour_and_a_saddle_has_one():
    """Random perturbations of every neuron, the dead one included, against the verdict."""
    data = fs.datasets.three_points()
    net = affine_network(data, [[1e-3, 0.0, -1e-3]])
    rng = np.random.default_rng(0)
    base = net.loss(data)
    for _ in range(300):
        step = 1e-4 * rng.standard_normal((2, 3))
        near = fs.TwoLayerReLU(net.a + step[:, 0], net.W + step[:, 1:])
        assert near.loss(data) >= base * (1 - 1e-13)
    # y = 0.1, 0.8 lie off the fit by -0.22, +0.05: a dead neuron on the plane of the last
    # sample with a * r > 0 can grow into it.
    r = net.residual(data)
    k = int(np.argmax(r[[0, 2]]) * 2)
    w = np.array([data.X[k, 1], -data.X[k, 0]])
    w = w if np.all(data.X @ w <= 1e-12) else -w
    assert np.all(data.X @ w <= 1e-12), "the plane of an outermost sample borders the dead zone"
    edge = affine_network(data, [[1e-3 * np.linalg.norm(w), *(1e-3 * w)]])
    state, _ = snapshot_of(edge, data, fate=[0, 1])
    state.code[1] = -1
    assert classify(state, stationary=True).kind == "saddle"
    better = fs.TwoLayerReLU(edge.a, edge.W + np.array([[0, 0], 1e-4 * data.X[k]]))
    assert better.loss(data) < edge.loss(data)


def test_a_plateau_cut_off_by_t1_is_called_a_saddle():
    data = fs.datasets.five_points()
    net = fs.init.balanced(60, 2, 1e-6, seed=0)
    sol = fs.simulate(net, data, t1=270.0)
    assert sol.status == "t1"
    assert sol.final.kind == "saddle"
    assert sol.final.loss == pytest.approx(0.03181578947, abs=1e-7)


def test_tiny_networks_are_not_at_rest():
    data = fs.datasets.three_points()
    sol = fs.simulate(fs.init.balanced(30, 2, 1e-12, seed=0), data, t1=1e-3)
    assert sol.status == "t1"
    assert sol.final.kind == "not_stationary"


def test_a_network_of_dead_neurons_rests_at_once():
    data = fs.datasets.three_points()
    sol = fs.simulate(fs.TwoLayerReLU([1.0, -1.0], [[0.0, -1.0], [0.1, -1.0]]), data)
    assert (sol.status, sol.steps, sol.t_end) == ("stationary", 0, 0.0)
    assert sol.final.limit_loss == pytest.approx(np.mean(data.y**2) / 2, rel=1e-14)


@pytest.mark.parametrize("w", [[0.0, -1.0], [0.0, 1.0]])
def test_a_neuron_with_a_zero_may_take_the_sign_that_lowers_the_loss(w):
    """On its last hyperplane, dead, and sliding on it: a < 0 lowers the loss either way."""
    data = fs.Dataset(np.eye(2), [-1.0, 1.0])
    net = fs.TwoLayerReLU([0.0, 1.0], [w, [-0.5, 1.0]])
    run = fs.simulate(net, data)
    end = run.final.network
    assert run.final.kind == "unknown"  # a = 0 is not proved of
    assert "looks like a saddle" in run.final.reason
    a, W = end.a.copy(), end.W.copy()
    a[0], W[0, 0] = a[0] - 1e-4, W[0, 0] + 1e-4
    if w[1] < 0:
        assert fs.TwoLayerReLU(a, W).loss(data) < run.final.loss
