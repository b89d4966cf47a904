"""Systems with known answers: three points, frozen residual, orthogonal pair, closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support import (
    angle,
    balanced_neuron,
    codes,
    first_time_below,
    forward,
    loss_is,
    neuron,
    pattern_rows,
    simulate,
    slowest,
)

import flowsim as fs

OLS = (-4 / 65, 251 / 390)


# -- three points, no convergence -------------------------------------------------------------


@pytest.fixture(scope="module", params=[("balanced", 0), ("balanced", 1), ("dominated", 0)])
def three_points_runs(request):
    """Return one draw at scales 1e-2, 1e-6 and 1e-8."""
    kind, seed = request.param
    init = getattr(fs.init, kind)
    data = fs.datasets.three_points()
    return {scale: simulate(init(60, 2, scale, seed=seed), data) for scale in (1e-2, 1e-6, 1e-8)}


def test_three_points_end_at_the_spurious_affine_ols_fit(three_points_runs):
    for sol in three_points_runs.values():
        assert sol.status == "stationary"
        assert sol.final.kind == "spurious_local_minimum"
        assert loss_is(sol.final.loss, 256 / 2925, sol.data.y)
        assert loss_is(sol.final.limit_loss, 256 / 2925, sol.data.y, 1e-14)
        fit = np.asarray(sol.data.X) @ OLS
        assert forward(sol.final.network, sol.data.X) == pytest.approx(fit, abs=1e-8)


def test_three_points_keep_only_the_patterns_111_and_000(three_points_runs):
    for sol in three_points_runs.values():
        ends = {tuple(row) for row in codes(sol).tolist()}
        assert ends == {(1, 1, 1), (-1, -1, -1)}


def test_three_points_start_at_the_mean_square_of_the_labels(three_points_runs):
    assert three_points_runs[1e-8].loss(0.0) == pytest.approx(0.31, rel=1e-14)


def test_half_loss_time_grows_by_the_inverse_rate_per_unit_of_log_scale(three_points_runs):
    times = [first_time_below(three_points_runs[scale], 0.155) for scale in (1e-6, 1e-8)]
    growth = (times[1] - times[0]) / math.log(1e2)
    assert growth == pytest.approx(1.3987, abs=5e-5)
    assert growth == pytest.approx(1 / math.hypot(31 / 120, 2 / 3), rel=1e-6)


def test_dead_directions_of_three_points_are_the_arc_without_samples():
    """w between 216.869898 and 352.874984 degrees never moves; just outside it does."""
    data = fs.datasets.three_points()
    for phi in (216.8699, 300.0, 352.8749):
        sol = simulate(balanced_neuron(phi, size=1e-3), data, t1=5.0)
        assert len(pattern_rows(sol)) == 0
        assert np.array_equal(sol.final.network.W, sol.initial.W)
    for phi in (216.8698, 352.8751):
        sol = simulate(balanced_neuron(phi, size=1e-3), data, t1=5.0)
        assert not np.array_equal(sol.final.network.W, sol.initial.W)


def test_the_mean_loss_runs_twice_as_fast(three_points_runs):
    half = three_points_runs[1e-6]
    mean = simulate(half.initial, half.data, loss="mean")
    assert mean.loss(0.0) == pytest.approx(0.62, rel=1e-10)
    assert loss_is(mean.final.loss, 512 / 2925, 2 * half.data.y)
    rows, twice = pattern_rows(half), pattern_rows(mean)
    assert [row[1:] for row in twice] == [row[1:] for row in rows]
    assert [2 * row[0] for row in twice] == pytest.approx([row[0] for row in rows], rel=1e-10)


def test_a_single_neuron_at_the_ols_fit_is_not_called_spurious():
    """With m = 1 nothing better exists: the affine fit is the best one neuron can do."""
    sol = simulate(balanced_neuron(100.0, size=1e-4), fs.datasets.three_points())
    assert sol.status == "stationary"
    assert loss_is(sol.final.loss, 256 / 2925, sol.data.y)
    assert sol.final.kind in ("local_minimum", "global_minimum")


def test_a_dying_network_of_one_neuron_ends_where_it_started_in_function():
    """a < 0 at 120 degrees leaves all samples: the loss is that of the zero function."""
    sol = simulate(balanced_neuron(120.0, sign=-1.0, size=1e-6), fs.datasets.three_points())
    assert sol.status == "stationary"
    assert codes(sol).tolist() == [[-1, -1, -1]]
    assert loss_is(sol.final.loss, 0.31, sol.data.y, 1e-15)


# -- frozen residual --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "at_1", "at_5"),
    [
        (45.0, 75.81712020, 109.08921266),
        (60.0, 84.80925471, 109.64371219),
        (150.0, 130.74091084, 112.31261199),
    ],
)
def test_frozen_residual_turns_a_balanced_neuron_by_the_half_angle_law(start, at_1, at_5):
    data = fs.datasets.three_points()
    sol = simulate(balanced_neuron(start, size=1e-3), data, residual="frozen", t1=5.0)
    assert angle(sol.network(1.0)) == pytest.approx(at_1, abs=1.1e-8)
    assert angle(sol.network(5.0)) == pytest.approx(at_5, abs=1.1e-8)
    D = np.array([-31 / 120, 2 / 3])
    target, rate = math.degrees(math.atan2(D[1], D[0])), float(np.hypot(*D))
    assert target == pytest.approx(111.18134950, abs=6e-9)
    for t in np.linspace(0.0, 5.0, 11):
        tangent = math.tan(math.radians(start - target) / 2) * math.exp(-rate * t)
        exact = target + math.degrees(2 * math.atan(tangent))
        assert angle(sol.network(t)) == pytest.approx(exact, abs=1e-10)


def test_frozen_residual_lets_a_negative_neuron_die_at_the_exact_times():
    data = fs.datasets.three_points()
    start = balanced_neuron(120.0, sign=-1.0, size=1e-3)
    sol = simulate(start, data, residual="frozen", t1=10.0)
    rows = pattern_rows(sol)
    assert [row[1:] for row in rows] == [(0, 2, 1, -1), (0, 1, 1, -1), (0, 0, 1, -1)]
    expected = [
        (2.86316155, 172.87498365),
        (4.21863444, 206.56505118),
        (4.61317490, 216.86989765),
    ]
    for (t, *_), (time, phi) in zip(rows, expected, strict=True):
        assert t == pytest.approx(time, abs=6e-9)
        assert angle(sol.network(t)) == pytest.approx(phi, abs=6e-9)
    assert sol.events.where("death").t.tolist() == [rows[-1][0]]
    shrunk = math.exp(sol.final.network.log_norm[0] - sol.initial.log_norm[0])
    assert shrunk == pytest.approx(0.1265876552, abs=6e-11)
    assert angle(sol.final.network) == pytest.approx(216.86989764584402, abs=1e-12)


# -- orthogonal pair --------------------------------------------------------------------------


@pytest.fixture(scope="module", params=range(3))
def orthogonal_runs(request):
    data = fs.datasets.orthogonal_pair()
    return {
        scale: simulate(fs.init.balanced(60, 2, scale, seed=request.param), data)
        for scale in (1e-6, 1e-9)
    }


def orthogonal_limit_error(sol: fs.Solution) -> float:
    x = np.linspace(-0.5, 2.0, 101)
    limit = np.maximum(0.4 * x + 0.2, 0) - np.maximum(-0.4 * x + 0.8, 0)
    return float(np.max(np.abs(forward(sol.final.network, np.c_[x, np.ones_like(x)]) - limit)))


def test_the_orthogonal_pair_is_interpolated_by_two_ramps_as_the_scale_vanishes(orthogonal_runs):
    for sol in orthogonal_runs.values():
        assert sol.status == "stationary"
        assert sol.final.kind == "interpolation"
        assert loss_is(sol.final.loss, 0.0, sol.data.y)
    assert orthogonal_limit_error(orthogonal_runs[1e-6]) < 1e-6
    assert orthogonal_limit_error(orthogonal_runs[1e-9]) < 4e-9


def test_the_orthogonal_pair_ends_at_the_least_norm(orthogonal_runs):
    for sol in orthogonal_runs.values():
        net = sol.final.network
        norm = float(np.sum(net.a**2) + np.sum(net.W**2))
        assert norm == pytest.approx(2.6832815730, abs=1e-8)
        assert norm == pytest.approx(1.2 * math.sqrt(5), abs=1e-8)


def test_the_orthogonal_pair_rests_on_a_plateau_between_its_two_drops(orthogonal_runs):
    sol = orthogonal_runs[1e-6]
    assert sol.loss(0.0) == pytest.approx(0.5, rel=1e-11)
    assert first_time_below(sol, 0.375) == pytest.approx(12.0, abs=1.0)
    assert first_time_below(sol, 0.125) == pytest.approx(25.0, abs=1.0)
    assert slowest(sol, 13.0, 24.0)[1] == pytest.approx(0.25, abs=1e-5)
    sol = orthogonal_runs[1e-9]
    plateau = slowest(sol, 19.0, 35.0)
    assert plateau[1] == pytest.approx(0.25, abs=1e-7)
    [t] = sol.events.where("plateau").t
    assert t == plateau[0]


# -- closed forms -----------------------------------------------------------------------------


def test_one_sample_follows_the_logistic_law():
    sol = simulate(neuron(0.005, [0.003, 0.004]), fs.datasets.one_sample(), t1=1.0)

    def product(t):
        net = sol.network(t)
        return net.a[0] * np.linalg.norm(net.W[0])

    assert product(0.5) == pytest.approx(0.231702258835, abs=6e-13)
    assert product(1.0) == pytest.approx(0.399986809876, abs=6e-13)
    for t in np.linspace(0.0, 1.0, 21):
        exact = 0.4 / (1 + (0.4 / 2.5e-5 - 1) * math.exp(-20 * t))
        assert product(t) == pytest.approx(exact, rel=1e-11)


def test_symmetric_linear_data_follow_the_logistic_law():
    scale = 1e-3
    start = fs.TwoLayerReLU([scale, -scale], [[scale, 0.0], [-scale, 0.0]])
    sol = simulate(start, fs.datasets.symmetric_linear(), t1=40.0)
    assert sol.loss(10.0) == pytest.approx(0.478680461715, abs=6e-13)
    assert sol.loss(15.0) == pytest.approx(0.0274355388828, abs=6e-14)
    for t in np.linspace(0.0, 20.0, 21):
        p = 1 / (1 + (scale**-2 - 1) * math.exp(-t))
        assert sol.loss(t) == pytest.approx(0.5 * (1 - p) ** 2, rel=1e-9)


def test_symmetric_linear_data_are_interpolated():
    start = fs.TwoLayerReLU([1e-3, -1e-3], [[1e-3, 0.0], [-1e-3, 0.0]])
    sol = simulate(start, fs.datasets.symmetric_linear())
    assert (sol.status, sol.final.kind) == ("stationary", "interpolation")
