"""What the flow keeps, whatever the data: conservation laws, monotone loss, symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support import (
    EPS,
    Reference,
    codes,
    forward,
    gap,
    pattern_rows,
    pythagorean,
    scaled_times,
    simulate,
)

import flowsim as fs


def conservation_error(sol: fs.Solution, count: int = 60) -> float:
    """Return max |a^2 - ||w||^2 - (its first value)| / (a^2 + ||w||^2), exactly evaluated."""
    start = [gap(a, w) for a, w in zip(sol.initial.a, sol.initial.W, strict=True)]
    worst = 0.0
    for t in scaled_times(sol, count):
        net = sol.network(t)
        for a, w, first in zip(net.a, net.W, start, strict=True):
            size = float(a * a + w @ w)
            worst = max(worst, abs(float(gap(a, w) - first)) / size)
    return worst


def loss_increase(sol: fs.Solution) -> float:
    """Return the largest step up of the loss, in units of its own rounding error.

    r = y - h carries about eps max|y|, so L carries eps sqrt(L L_0) + eps^2 L_0.
    """
    loss = sol.history.loss
    unit = EPS * np.sqrt(loss[:-1] * loss[0]) + EPS**2 * loss[0]
    return float(np.max(np.diff(loss) / unit))


SYSTEMS = {
    "three_points": (fs.datasets.three_points, 2, 1e-3, {}),
    "five_points": (fs.datasets.five_points, 2, 1e-6, {}),
    "stewart": (fs.datasets.stewart, 2, 1e-3, {"t1": 500.0}),
    "xor": (fs.datasets.xor, 2, 1e-4, {}),
    "teacher": (lambda: fs.datasets.linear_teacher(n=12, d=3, seed=3), 3, 1e-4, {}),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def exactly_balanced_run(request):
    data, d, scale, settings = SYSTEMS[request.param]
    return simulate(pythagorean(24, d, scale, seed=1), data(), **settings)


def test_balanced_neurons_stay_balanced_to_twelve_digits(exactly_balanced_run):
    """|a_j| = ||w_j|| exactly at the start; neurons that shrink on plateaus are no exception."""
    assert conservation_error(exactly_balanced_run) < 1e-12


def test_the_loss_never_increases_beyond_rounding(exactly_balanced_run):
    assert loss_increase(exactly_balanced_run) < 16


def test_signs_of_output_weights_are_kept(exactly_balanced_run):
    sol = exactly_balanced_run
    for t in scaled_times(sol, 40):
        direction = sol.network(t).direction
        assert np.array_equal(np.sign(direction[:, 0]), np.sign(sol.initial.direction[:, 0]))


def test_a_shrinking_neuron_keeps_its_invariant_over_hundreds_of_decay_times():
    """r = y = (-1, -1): it slides on x_2 = (-3, 4) and decays as exp(-0.4 t), 5 a = |(4, 3)|.

    Its direction is stable there, but off the cone a^2 = ||w||^2 by rounding alone it would be
    e^{400} eps away from it after 500 units of time.
    """
    size = 2.0**-12
    start = fs.TwoLayerReLU([5 * size], [[4 * size, 3 * size]])
    data = fs.Dataset([[1, 0], [-3, 4]], [-1, -1])
    sol = simulate(start, data, residual="frozen", t1=500.0)
    end = sol.final.network
    assert pattern_rows(sol) == []
    assert end.log_norm[0] - start.log_norm[0] == pytest.approx(-200.0, rel=1e-12)
    assert end.direction[0] == pytest.approx(np.array([5, 4, 3]) / math.sqrt(50), abs=1e-14)
    assert conservation_error(sol, 50) < 1e-12


@pytest.mark.parametrize(
    "name",
    ["random_d3_n10_dominated", "precise_dominated", "precise_unbalanced", "precise_leaky"],
)
def test_the_gap_between_layers_is_conserved_to_twelve_digits(name):
    sol = Reference(name).run()
    assert conservation_error(sol) < 1e-12
    assert loss_increase(sol) < 16


def test_the_run_reports_what_it_kept(exactly_balanced_run):
    audit = exactly_balanced_run.audit
    assert all(math.isfinite(value) for value in audit.values())
    assert audit["invariant_drift"] < 1e-12
    assert audit["loss_increase"] < 1e-14


# -- symmetries, on systems that stay away from separatrices ----------------------------------

ROBUST = ("precise_slides", "precise_dominated", "precise_deaths", "precise_leaky")


@pytest.fixture(scope="module", params=ROBUST)
def robust(request):
    reference = Reference(request.param)
    return reference, reference.run()


def rows_by_event(sol, neurons=None, samples=None):
    """Return {(neuron, sample, before, after, how many-th): t} after renaming both."""
    table: dict[tuple, float] = {}
    for t, j, k, before, after in pattern_rows(sol):
        j = j if neurons is None else int(neurons[j])
        k = k if samples is None else int(samples[k])
        count = sum(key[:4] == (j, k, before, after) for key in table)
        table[j, k, before, after, count] = t
    return table


def same_rows(found: dict, expected: dict, factor: float = 1.0, rel: float = 1e-9) -> bool:
    return found.keys() == expected.keys() and all(
        abs(factor * found[key] - expected[key]) <= rel * expected[key] for key in expected
    )


def end(sol) -> np.ndarray:
    return np.column_stack([sol.final.network.a, sol.final.network.W])


def close(z: np.ndarray, exact: np.ndarray, rel: float = 1e-9) -> bool:
    """Whether every neuron is right relative to its own size."""
    error = np.linalg.norm(z - exact, axis=1)
    return bool(np.all(error <= rel * np.linalg.norm(exact, axis=1)))


def test_permuting_neurons_and_samples_permutes_the_answer(robust):
    reference, sol = robust
    rng = np.random.default_rng(5)
    neurons, samples = rng.permutation(reference.start.m), rng.permutation(reference.data.n)
    start, data = reference.start, reference.data
    moved = simulate(
        fs.TwoLayerReLU(start.a[neurons], start.W[neurons], start.negative_slope),
        fs.Dataset(np.asarray(data.X)[samples], np.asarray(data.y)[samples]),
        t1=reference.t1,
    )
    assert same_rows(rows_by_event(moved, neurons, samples), rows_by_event(sol))
    assert close(end(moved), end(sol)[neurons])


def test_rotating_inputs_and_weights_together_rotates_the_answer(robust):
    reference, sol = robust
    d = reference.data.d
    rotation, _ = np.linalg.qr(np.random.default_rng(6).standard_normal((d, d)))
    start, data = reference.start, reference.data
    turned = simulate(
        fs.TwoLayerReLU(start.a, start.W @ rotation, start.negative_slope),
        fs.Dataset(np.asarray(data.X) @ rotation, data.y),
        t1=reference.t1,
    )
    assert same_rows(rows_by_event(turned), rows_by_event(sol))
    back = turned.final.network.W @ rotation.T
    assert close(np.column_stack([turned.final.network.a, back]), end(sol))
    points = np.random.default_rng(8).standard_normal((20, d))
    h = forward(turned.final.network, points @ rotation)
    assert h == pytest.approx(forward(sol.final.network, points), abs=1e-9)


@pytest.mark.parametrize(("c", "rel"), [(2.0**-20, 1e-12), (3.7, 1e-9), (1e6, 1e-9)])
def test_scaling_labels_by_c_squared_scales_the_run(robust, c, rel):
    """y -> c^2 y, theta_0 -> c theta_0 is the same run in time t / c^2, scaled by c."""
    reference, sol = robust
    start, data = reference.start, reference.data
    scaled = simulate(
        fs.TwoLayerReLU(c * start.a, c * start.W, start.negative_slope),
        fs.Dataset(data.X, c * c * np.asarray(data.y)),
        t1=reference.t1 / c**2,
    )
    assert same_rows(rows_by_event(scaled), rows_by_event(sol), factor=c**2, rel=rel)
    assert close(end(scaled) / c, end(sol), rel)
    assert scaled.final.loss == pytest.approx(c**4 * sol.final.loss, rel=rel)


def test_scaling_inputs_by_c_scales_time(robust):
    """x -> c x, y -> c y leaves theta(t / c^2) unchanged."""
    reference, sol = robust
    data, c = reference.data, 2.0**7
    scaled = simulate(
        reference.start,
        fs.Dataset(c * np.asarray(data.X), c * np.asarray(data.y)),
        t1=reference.t1 / c**2,
    )
    assert same_rows(rows_by_event(scaled), rows_by_event(sol), factor=c**2, rel=1e-12)
    assert close(end(scaled), end(sol), 1e-12)


def test_repeating_every_sample_changes_nothing(robust):
    """The loss is a mean: duplicated samples share hyperplanes and leave the flow alone."""
    reference, sol = robust
    data = reference.data
    doubled = simulate(
        reference.start,
        fs.Dataset(np.tile(data.X, (2, 1)), np.tile(data.y, 2)),
        t1=reference.t1,
    )
    rows = rows_by_event(doubled)
    first = {key: t for key, t in rows.items() if key[1] < data.n}
    second = {(j, k - data.n, *rest): t for (j, k, *rest), t in rows.items() if k >= data.n}
    assert same_rows(first, rows_by_event(sol))
    assert first == second
    assert close(end(doubled), end(sol))


def test_splitting_a_neuron_into_two_halves_changes_nothing(robust):
    """(a, w) = two times (a, w) / sqrt(2); both move as one neuron for ever."""
    reference, sol = robust
    start = reference.start
    a = np.append(start.a, start.a[0] * math.sqrt(0.5))
    W = np.vstack([start.W, start.W[0] * math.sqrt(0.5)])
    a[0], W[0] = a[-1], W[-1]
    split = simulate(fs.TwoLayerReLU(a, W, start.negative_slope), reference.data, t1=reference.t1)
    z = end(split)
    assert close(z[[-1]], z[[0]], 1e-12)
    whole = np.vstack([z[:1] * math.sqrt(2.0), z[1:-1]])
    assert close(whole, end(sol))
    rows = {key: t for key, t in rows_by_event(split).items() if key[0] < start.m}
    assert same_rows(rows, rows_by_event(sol))


# -- dead networks ----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_a_network_of_dead_neurons_never_moves(scale):
    data = fs.datasets.three_points()
    phi = np.radians([220.0, 250.0, 300.0, 350.0])
    W = scale * np.column_stack([np.cos(phi), np.sin(phi)])
    start = fs.TwoLayerReLU(scale * np.array([1.0, -1.0, 2.0, -0.5]), W)
    for settings in ({}, {"t1": 100.0}):
        sol = simulate(start, data, **settings)
        assert np.array_equal(sol.final.network.a, start.a)
        assert np.array_equal(sol.final.network.W, start.W)
        assert sol.final.loss == pytest.approx(0.31, rel=1e-14)
        assert pattern_rows(sol) == []
        assert sol.steps <= 2
        assert np.all(codes(sol) == -1)


def test_a_neuron_that_has_died_never_moves_again():
    sol = Reference("precise_deaths").run()
    deaths = sol.events.where("death")
    assert len(deaths) == 2
    for t, j in zip(deaths.t, deaths.neuron, strict=True):
        there = sol.network(t)
        for later in np.linspace(t, sol.t_end, 5):
            assert np.array_equal(sol.network(later).W[j], there.W[j])
            assert sol.network(later).a[j] == there.a[j]


def test_a_mirrored_start_has_zero_output_and_grows_from_it():
    start = fs.init.mirrored(20, 2, 1e-3, seed=0)
    data = fs.datasets.three_points()
    assert np.array_equal(forward(start, data.X), np.zeros(3))
    sol = simulate(start, data)
    assert sol.status == "stationary"
    assert sol.loss(0.0) == pytest.approx(0.31, rel=1e-14)
    assert sol.final.loss < 0.1
