"""The end of the early alignment phase: its definitions, its prediction, and who went where."""

from __future__ import annotations

import numpy as np
import pytest

import flowsim as fs
from flowsim.alignment.end import angles, log_scale

DATA = fs.datasets.three_points()
NET = fs.init.balanced(20, 2, 1e-6, seed=0)
RATE = float(np.hypot(31 / 120, 2 / 3))


@pytest.fixture(scope="module")
def sol() -> fs.Solution:
    return fs.simulate(NET, DATA, t1=60.0)


def test_the_residual_has_left_y_by_the_threshold(sol):
    r = sol.residual(sol.alignment.end_time)
    departure = np.linalg.norm(r - DATA.y) / np.linalg.norm(DATA.y)
    assert departure == pytest.approx(1e-3, rel=1e-11)
    assert sol.events.where("alignment_end").t.tolist() == [sol.alignment.end_time]


def test_angles_are_those_to_the_one_extremal_vector(sol):
    """All living neurons go to 111 at 111.18134950 degrees, the others die."""
    alignment = sol.alignment
    (vector,) = alignment.vectors
    assert vector.norm == pytest.approx(RATE, rel=1e-14)
    np.testing.assert_allclose(vector.D, [-31 / 120, 2 / 3], rtol=1e-14)
    W = sol.network(alignment.end_time).direction[:, 1:]
    degrees = np.degrees(np.arctan2(W[:, 1], W[:, 0]))
    alive = alignment.alive
    np.testing.assert_allclose(
        np.degrees(alignment.angle[alive]), np.abs(degrees[alive] - 111.18134950), atol=1e-8
    )
    np.testing.assert_array_equal(alignment.extremal >= 0, alive)
    assert alignment.dead_fraction == np.mean(~alive)
    assert np.all(np.isnan(alignment.angle[~alive]))


def test_the_frozen_angle_is_what_the_coupling_has_turned(sol):
    t = sol.alignment.end_time
    there, here = fs.alignment.flow(NET, DATA, t).network, sol.network(t)
    alive = sol.alignment.alive
    phi, psi = (
        np.arctan2(net.direction[alive, 2], net.direction[alive, 1]) for net in (here, there)
    )
    np.testing.assert_allclose(sol.alignment.frozen_angle[alive], np.abs(phi - psi), atol=1e-14)
    assert np.all(sol.alignment.frozen_angle[alive] > 1e-6)


def test_the_theorys_time_is_the_predicted_one():
    run = fs.simulate(NET, DATA, t1=60.0, alignment="theory", alignment_epsilon=0.3)
    expected = 0.3 * 6 * np.log(10) / RATE
    assert run.alignment.predicted_time == pytest.approx(expected, rel=1e-13)
    assert run.alignment.end_time == pytest.approx(expected, rel=1e-13)
    assert run.alignment.rate == pytest.approx(RATE, rel=1e-14)


@pytest.mark.parametrize("residual", ["full", "frozen"])
def test_growth_ends_the_phase_when_one_neuron_has_grown_enough(residual):
    run = fs.simulate(NET, DATA, t1=60.0, alignment="growth", residual=residual)
    grown = run.network(run.alignment.end_time).log_norm - NET.log_norm
    assert np.max(grown) == pytest.approx(0.25 * 6 * np.log(10), rel=1e-12)
    # No neuron grows faster than the rate, and the best one hardly slower.
    assert 1.0 <= run.alignment.end_time / run.alignment.predicted_time <= 1.1


def test_a_frozen_residual_never_leaves_y():
    run = fs.simulate(NET, DATA, t1=60.0, residual="frozen")
    assert np.isnan(run.alignment.end_time)
    assert np.isnan(run.alignment.dead_fraction)
    assert run.alignment.predicted_time == pytest.approx(6 * np.log(10) / RATE, rel=1e-13)


def away_from_separatrices(net: fs.TwoLayerReLU, data: fs.Dataset, t: float) -> np.ndarray:
    """Mark neurons whose closed-form direction at t moves little if the start is perturbed."""
    rng = np.random.default_rng(0)
    base = fs.alignment.flow(net, data, t)
    stable = np.ones(net.m, dtype=bool)
    for _ in range(4):
        W = net.W * (1.0 + 1e-3 * rng.standard_normal(net.W.shape))
        a = np.sign(net.a) * np.linalg.norm(W, axis=1)
        other = fs.alignment.flow(fs.TwoLayerReLU(a, W), data, t)
        same = (other.limit == base.limit) & (other.fate == base.fate)
        stable &= same & ~(angles(other.direction, base.direction) > 1e-4)
    return stable


@pytest.mark.parametrize(
    ("data", "t1"),
    [
        (fs.datasets.three_points(), 45.0),
        (fs.datasets.orthogonal_pair(), 30.0),
        (fs.datasets.five_points(), 170.0),
        (fs.datasets.half_spaces(), 80.0),
        (fs.datasets.linear_teacher(20, 5, noise=0.5, seed=0), 60.0),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_flow_of_small_networks_follows_the_closed_form(data, t1):
    """Closer as λ falls, up to what the threshold itself lets the last moments turn."""
    reached = {}
    for scale in (1e-2, 1e-6, 1e-12):
        net = fs.init.balanced(60, data.d, scale, seed=0)
        alignment = fs.simulate(net, data, t1=t1).alignment
        stable = alignment.alive & away_from_separatrices(net, data, alignment.end_time)
        reached[scale] = np.max(alignment.frozen_angle[stable], initial=0.0)
        assert np.mean(stable | ~alignment.alive) >= (0.9 if scale < 1e-2 else 0.0)
    assert reached[1e-12] <= 1e-3
    assert reached[1e-12] <= 1.1 * reached[1e-6]


def test_the_scale_of_given_weights_is_that_of_a_gaussian_draw():
    drawn = fs.init.balanced(20_000, 3, 1e-5, seed=0)
    given = fs.TwoLayerReLU(drawn.a, drawn.W)
    assert log_scale(drawn) == pytest.approx(np.log(1e-5), rel=1e-15)
    assert log_scale(given) == pytest.approx(np.log(1e-5), abs=0.02)
    assert log_scale(fs.TwoLayerReLU([0.0], [[0.0, 0.0]])) == -np.inf
    deep = fs.init.balanced(5, 2, log10_scale=-3000, seed=0)
    assert log_scale(deep) == pytest.approx(-3000 * np.log(10), rel=1e-15)


def test_large_networks_have_no_prediction():
    run = fs.simulate(fs.init.balanced(4, 2, 10.0, seed=0), DATA, t1=0.1)
    assert np.isnan(run.alignment.predicted_time)
    assert run.alignment.end_time == 0.0


@pytest.mark.parametrize("size", [1e-81, 1e80])
def test_the_prediction_scales_with_the_data(size):
    data = fs.Dataset(DATA.X * size, DATA.y * size)
    alignment = fs.simulate(NET, data, t1=1.0 / size**2).alignment
    assert alignment.rate / size**2 == pytest.approx(RATE, rel=1e-13)
    assert alignment.predicted_time * size**2 == pytest.approx(6 * np.log(10) / RATE, rel=1e-13)


def test_the_phase_is_saved_and_loaded(sol, tmp_path):
    sol.save(tmp_path / "run.nc")
    again = fs.load(tmp_path / "run.nc").alignment
    for name in ("end_time", "definition", "threshold", "epsilon", "predicted_time", "rate"):
        assert getattr(again, name) == getattr(sol.alignment, name)
    for name in ("alive", "extremal", "angle", "frozen_angle"):
        np.testing.assert_array_equal(getattr(again, name), getattr(sol.alignment, name))
    (vector,), (expected,) = again.vectors, sol.alignment.vectors
    np.testing.assert_array_equal(vector.D, expected.D)
    assert vector.role == expected.role


def test_the_summary_tells_who_goes_where(sol):
    text = sol.summary()
    living = int(np.sum(sol.alignment.extremal == 0))
    assert f"{living:>7} neurons to D = (-0.258333, 0.666667), ‖D‖ = 0.714969" in text
    assert f"{20 - living:>7} neurons die or rest" in text
    assert f"the phase ended at {sol.alignment.end_time:.6g}: r has left y by 0.001" in text


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"alignment": "end"}, "`alignment` must be one of residual, growth, theory"),
        ({"alignment_epsilon": 0.0}, "`alignment_epsilon` must lie between 0 and 1"),
        ({"alignment_epsilon": "1"}, "`alignment_epsilon` must be a real number"),
    ],
)
def test_bad_arguments_are_named(settings, match):
    with pytest.raises((ValueError, TypeError), match=match):
        fs.simulate(NET, DATA, **settings)


def test_definitions_by_the_scale_need_a_small_one():
    with pytest.raises(ValueError, match=r"`alignment` must be \"residual\" for a scale of 1"):
        fs.simulate(fs.init.balanced(4, 2, 1.0, seed=0), DATA, alignment="theory")
