"""Systems with known answers: plateaus and escapes, half-space fits, XOR."""

from __future__ import annotations

import numpy as np
import pytest
from support import balanced_neuron, codes, forward, loss_is, simulate, slowest

import flowsim as fs

FIVE_POINTS_PLATEAU = 0.03181578947


# -- five points, a plateau and an escape -----------------------------------------------------


@pytest.fixture(scope="module", params=range(3))
def five_points_run(request):
    start = fs.init.balanced(60, 2, 1e-6, seed=request.param)
    return simulate(start, fs.datasets.five_points())


def five_points_limit(x: np.ndarray) -> np.ndarray:
    """Return the interpolation with kinks at -5/12 and 1/4 only."""
    middle = np.where(x < 0.25, 2.8 * x - 0.3, 0.4 - 4 / 35 * (x - 0.25))
    return np.where(x < -5 / 12, -0.3 - 2 * (x + 1), middle)


def test_five_points_escape_their_plateau_and_interpolate(five_points_run):
    sol = five_points_run
    assert (sol.status, sol.final.kind) == ("stationary", "interpolation")
    assert loss_is(sol.final.loss, 0.0, sol.data.y)


def test_five_points_pass_the_plateau_between_200_and_400(five_points_run):
    t, loss = slowest(five_points_run, 150.0, 450.0)
    assert 200 < t < 400
    assert loss == pytest.approx(FIVE_POINTS_PLATEAU, abs=2e-8)
    assert five_points_run.events.where("plateau").t.tolist() == [t]


def test_the_five_points_plateau_has_the_value_of_its_saddle_as_the_scale_vanishes():
    start = fs.init.balanced(60, 2, 1e-12, seed=0)
    sol = simulate(start, fs.datasets.five_points(), t1=650.0)
    _, loss = slowest(sol, 400.0, 650.0)
    assert loss == pytest.approx(FIVE_POINTS_PLATEAU, abs=5e-12)
    assert loss == pytest.approx(1209 / 38000, rel=1e-11)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_stopped_on_the_five_points_plateau_is_told_to_be_at_a_saddle(seed):
    start = fs.init.balanced(60, 2, 1e-6, seed=seed)
    sol = simulate(start, fs.datasets.five_points(), t1=250.0)
    assert (sol.status, sol.final.kind) == ("t1", "saddle")
    assert sol.final.limit_loss == pytest.approx(1209 / 38000, rel=1e-13)


def test_the_five_points_limit_has_kinks_at_minus_5_12_and_1_4_only(five_points_run):
    x = np.linspace(-1.5, 2.0, 2101)
    h = forward(five_points_run.final.network, np.c_[x, np.ones_like(x)])
    assert np.max(np.abs(h - five_points_limit(x))) < 1e-6
    bend = np.abs(np.diff(h, 2)) * 600
    bent = x[1:-1][bend > 1e-3]
    near = np.minimum(np.abs(bent + 5 / 12), np.abs(bent - 0.25))
    assert len(bent) > 0
    assert np.max(near) < 1 / 600 + 1e-9
    assert bend[x[1:-1] < 0].max() == pytest.approx(4.8, rel=1e-3)


def test_neurons_of_five_points_never_change_the_sign_of_a(five_points_run):
    sol = five_points_run
    sign = np.sign(sol.initial.direction[:, 0])
    for t in np.linspace(0.0, sol.t_end, 25):
        assert np.array_equal(np.sign(sol.network(t).direction[:, 0]), sign)


# -- forty points -----------------------------------------------------------------------------


def test_stewart_first_rests_at_the_affine_ols_fit():
    data = fs.datasets.stewart()
    sol = simulate(fs.init.balanced(60, 2, 1e-4, seed=0), data, t1=400.0)
    late = (sol.history.t > 150) & (sol.history.t < 400)
    assert sol.history.loss[late] == pytest.approx(0.024852682035, abs=5e-11)
    fit = np.asarray(data.X) @ (0.0734249723, 0.4189393503)
    assert forward(sol.network(300.0), data.X) == pytest.approx(fit, abs=1e-7)


def test_stewart_goes_on_to_fit_slowly_through_many_kinks():
    sol = simulate(fs.init.balanced(60, 2, 1e-3, seed=0), fs.datasets.stewart(), t1=5000.0)

    def heavy_patterns(t):
        heavy = np.exp(sol.network(t).log_norm) > 0.1
        return len(np.unique(codes(sol, t)[heavy], axis=0))

    t, loss = slowest(sol, 50.0, 400.0)
    assert sol.events.where("plateau").t.tolist() == [t]
    assert loss == pytest.approx(0.024852682035, rel=1e-6)
    assert heavy_patterns(t) == 1
    assert sol.loss(1000.0) < 0.021
    assert sol.loss(5000.0) < 0.018
    assert heavy_patterns(5000.0) >= 3


# -- OLS on half-spaces -----------------------------------------------------------------------


@pytest.fixture(scope="module", params=range(2))
def half_spaces_run(request):
    start = fs.init.balanced(100, 2, 1e-4, seed=request.param)
    return simulate(start, fs.datasets.half_spaces(), stationary_rtol=1e-12)


def test_linear_data_end_at_the_ols_fits_on_both_half_spaces(half_spaces_run):
    sol = half_spaces_run
    assert (sol.status, sol.final.kind) == ("stationary", "spurious_local_minimum")
    assert loss_is(sol.final.loss, 0.025979557845, sol.data.y)
    X = np.asarray(sol.data.X)
    h = forward(sol.final.network, X)
    for side, beta in (
        (slice(0, 20), (0.9225739361, -0.1090347240)),
        (slice(20, 40), (0.9954466730, -0.0599831488)),
    ):
        fitted, residuals, *_ = np.linalg.lstsq(X[side], h[side])
        assert fitted == pytest.approx(beta, abs=1.1e-10)
        assert residuals.item() < 1e-20


def test_the_floor_of_antipodal_data_is_the_nonlinear_part_of_their_odd_part(half_spaces_run):
    """h(x) - h(-x) is linear for every network, and |w.x| spans every even function here."""
    sol = half_spaces_run
    U, y = np.asarray(sol.data.X)[:20], np.asarray(sol.data.y)
    odd = (y[:20] - y[20:]) / 2
    rest = odd - U @ np.linalg.lstsq(U, odd)[0]
    floor = 2 * float(rest @ rest) / (2 * 40)
    assert floor == pytest.approx(0.0127750573, abs=1e-9)
    assert sol.final.floor_loss == pytest.approx(floor, rel=1e-12)
    assert sol.final.loss > 2 * floor


# -- XOR --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_xor_is_interpolated_by_four_groups_on_shared_hyperplanes(seed):
    sol = simulate(fs.init.balanced(40, 2, 1e-6, seed=seed), fs.datasets.xor())
    assert (sol.status, sol.final.kind) == ("stationary", "interpolation")
    assert loss_is(sol.final.loss, 0.0, sol.data.y)
    points = np.random.default_rng(7).standard_normal((200, 2))
    p, q = points.T
    limit = (np.abs(p + q) - np.abs(p - q)) / 2
    assert forward(sol.final.network, points) == pytest.approx(limit, abs=2e-8)


@pytest.mark.parametrize(
    ("angles", "signs"),
    [((50.0,), (1,)), ((50.0, 220.0), (1, 1)), ((50.0, 220.0, -50.0), (1, 1, -1))],
)
def test_each_group_of_xor_that_no_neuron_serves_costs_an_eighth(angles, signs):
    phi = np.radians(angles)
    size = 1e-5
    start = fs.TwoLayerReLU(
        size * np.array(signs, dtype=float), size * np.column_stack([np.cos(phi), np.sin(phi)])
    )
    sol = simulate(start, fs.datasets.xor())
    assert sol.status == "stationary"
    assert loss_is(sol.final.loss, 0.5 - len(angles) / 8, sol.data.y)


def test_neurons_of_xor_slide_on_the_hyperplane_of_two_antipodal_samples():
    sol = simulate(balanced_neuron(50.0, size=1e-5), fs.datasets.xor())
    assert codes(sol).tolist() == [[1, 0, -1, 0]]
    w = sol.final.network.direction[0, 1:]
    assert w[0] == pytest.approx(w[1], rel=1e-14)
