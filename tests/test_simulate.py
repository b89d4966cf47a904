"""simulate(): arguments, reasons to stop, dense output, determinism, scales."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import flowsim as fs

DATA = fs.datasets.three_points()
NET = fs.init.balanced(20, 2, 1e-4, seed=1)


@pytest.fixture(scope="module")
def sol() -> fs.Solution:
    return fs.simulate(NET, DATA, end="rest")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"t1": 0.0}, "t1"),
        ({"t1": float("nan")}, "t1"),
        ({"rtol": 0.0}, "rtol"),
        ({"rtol": 1.0}, "rtol"),
        ({"residual": "fixed"}, "residual"),
        ({"residual": "frozen"}, "t1"),
        ({"loss": "sum"}, "loss"),
        ({"stationary_rtol": -1.0}, "stationary_rtol"),
        ({"alignment_threshold": 0.0}, "alignment_threshold"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_seconds": -1.0}, "max_seconds"),
        ({"state_bytes": 0}, "state_bytes"),
    ],
)
def test_a_senseless_argument_is_named_in_one_sentence(change, name):
    with pytest.raises(ValueError, match=rf"^Argument `{name}` must .*, but .*\.$"):
        fs.simulate(NET, DATA, **change)


@pytest.mark.parametrize("value", ["5", None, [1.0], np.array([1.0, 2.0]), 1j])
@pytest.mark.parametrize("name", ["t1", "rtol", "max_steps", "max_seconds"])
def test_what_is_no_number_is_named(name, value):
    if name == "max_steps" and value is None:
        fs.simulate(NET, DATA, max_steps=None, t1=1.0)  # the default
        return
    with pytest.raises(TypeError, match=rf"^Argument `{name}` must be a real number, but .*\.$"):
        fs.simulate(NET, DATA, **{name: value})


def test_fractional_budgets_are_refused():
    options: dict[str, Any] = {"max_steps": 2.5}
    with pytest.raises(ValueError, match="Argument `max_steps` must be a whole number"):
        fs.simulate(NET, DATA, **options)


def test_wrong_types_and_dimensions_are_named():
    wrong: Any = "text"
    with pytest.raises(TypeError, match="Argument `net` must"):
        fs.simulate(wrong, DATA)
    with pytest.raises(TypeError, match="Argument `data` must"):
        fs.simulate(NET, wrong)
    with pytest.raises(ValueError, match="Argument `net` must have the data's input dimension 2"):
        fs.simulate(fs.init.balanced(3, 5, 1e-3, seed=0), DATA)


def test_budgets_stop_a_run_and_are_failures():
    short = fs.simulate(NET, DATA, max_steps=5)
    assert (short.status, short.steps, short.failed) == ("max_steps", 5, True)
    assert "max_steps" in short.message
    quick = fs.simulate(NET, DATA, max_seconds=1e-9)
    assert quick.status == "max_seconds"
    with pytest.raises(fs.RunError) as caught:
        fs.simulate(NET, DATA, max_steps=5, throw=True)
    assert caught.value.solution.steps == 5


def test_a_run_to_t1_ends_there_exactly():
    early = fs.simulate(NET, DATA, t1=3.7)
    assert (early.status, early.failed, early.t_end) == ("t1", False, 3.7)
    for seed, t1 in ((108, 29.8), (494, 199 * 0.1)):  # the last step is a rounding of t1
        scale = 10.0 ** np.random.default_rng(0).uniform(-6, 0, size=seed + 1)[seed]
        for net in (NET, fs.init.balanced(3, 2, scale, seed=seed)):
            run = fs.simulate(net, DATA, t1=t1, stationary_rtol=0.0)
            assert (run.status, run.t_end) == ("t1", t1)


@pytest.mark.parametrize("tenths", range(1, 400, 7))
def test_every_tenth_is_reached(tenths):
    run = fs.simulate(NET, DATA, t1=tenths * 0.1, stationary_rtol=0.0)
    assert (run.status, run.t_end) == ("t1", tenths * 0.1)


def test_overflow_ends_at_the_last_finite_state():
    huge = fs.simulate(
        fs.init.balanced(20, 2, 1e-6, seed=0), fs.Dataset(DATA.X * 1e150, DATA.y), max_steps=2000
    )
    assert huge.failed
    assert np.all(np.isfinite(huge.final.network.a))
    assert np.all(np.isfinite(huge.final.network.W))


def test_two_runs_are_identical_to_the_bit(sol):
    again = fs.simulate(NET, DATA, end="rest")
    np.testing.assert_array_equal(again.events.t, sol.events.t)
    for field in fields(sol.states):
        np.testing.assert_array_equal(
            getattr(again.states, field.name), getattr(sol.states, field.name)
        )


def test_dense_output_agrees_with_the_history(sol):
    inside = sol.history.t[:-1] + 0.0
    np.testing.assert_allclose(sol.loss(inside), sol.history.loss[:-1], rtol=1e-13)
    np.testing.assert_array_equal(sol.network(sol.t_end).W, sol.final.network.W)
    np.testing.assert_array_equal(sol.network(0.0).W, NET.W)


def test_dense_output_does_not_depend_on_how_many_states_are_stored(sol):
    thin = fs.simulate(NET, DATA, state_bytes=10_000, end="rest")
    assert len(thin.states.t) < len(sol.states.t) / 4
    for t in (0.3, 7.0, 12.5, 15.0, 40.0):
        np.testing.assert_array_equal(thin.network(t).W, sol.network(t).W)


def test_times_outside_the_run_are_refused(sol):
    for t in (-1.0, sol.t_end * 1.01, float("nan")):
        with pytest.raises(ValueError, match="Argument `t` must lie between 0 and"):
            sol.network(t)


def test_mean_loss_runs_twice_as_fast(sol):
    mean = fs.simulate(NET, DATA, loss="mean", end="rest")
    times, doubled = sol.events.where("pattern").t, 2 * mean.events.where("pattern").t
    np.testing.assert_allclose(doubled, times, rtol=1e-9)
    assert mean.final.limit_loss == pytest.approx(2 * sol.final.limit_loss, rel=1e-14)
    assert mean.final.limit_loss_exact == "512/2925"


@pytest.mark.parametrize("power", [-40, 40])
def test_powers_of_two_in_the_data_scale_the_run_exactly(sol, power):
    """X -> 2^p X, theta -> 2^(-p/2) theta leaves h alone; time scales by 2^(-p)."""
    scaled = fs.Dataset(np.ldexp(DATA.X, power), DATA.y)
    half = power // 2
    net = fs.TwoLayerReLU(np.ldexp(NET.a, -half), np.ldexp(NET.W, -half))
    other = fs.simulate(net, scaled, end="rest")
    np.testing.assert_array_equal(np.ldexp(other.events.t, power), sol.events.t)


def test_scales_below_the_float_range_run_like_any_other():
    """Alignment events do not move with the scale; the escape does, by ln(1/lambda) / |D|."""
    small = fs.simulate(fs.init.balanced(20, 2, log10_scale=-400, seed=1), DATA)
    usual = fs.simulate(fs.init.balanced(20, 2, 1e-8, seed=1), DATA)
    pattern, other = usual.events.where("pattern"), small.events.where("pattern")
    np.testing.assert_allclose(other.t, pattern.t, rtol=1e-9)
    assert small.final.kind == "spurious_local_minimum"
    delay = small.alignment.end_time - usual.alignment.end_time
    assert delay == pytest.approx(392 * np.log(10) / 0.7149689193, rel=1e-9)


def test_progress_is_reported_and_ends_with_the_end():
    seen: list = []
    done = fs.simulate(NET, DATA, progress=seen.append, end="rest")
    assert seen[-1].steps == done.steps
    assert seen[-1].t == done.t_end
    assert seen[-1].phase == "descent"


def test_plateaus_are_found_between_the_drops():
    data = fs.datasets.orthogonal_pair()
    run = fs.simulate(fs.init.balanced(60, 2, 1e-8, seed=0), data)
    (t,) = run.events.where("plateau").t
    assert run.loss(t) == pytest.approx(0.25, abs=1e-6)


def test_frozen_neurons_grow_beyond_the_float_range_at_their_rate():
    run = fs.simulate(NET, DATA, t1=3000.0, residual="frozen")
    grown = run.network(3000.0).log_norm - run.network(2000.0).log_norm
    alive = run.final.fate == 0
    np.testing.assert_allclose(grown[alive], 1000 * 0.7149689193, rtol=1e-9)
    assert np.max(run.final.network.log_norm) > 2000


def test_a_resting_neuron_at_the_origin_needs_no_end_of_its_step():
    """w = 0 on five hyperplanes at once, and nothing that moves: the only step is endless."""
    X = [[-0.6, -0.9], [-2.0, 1.0], [0.02, 0.2], [-0.8, 1.2], [0.9, -0.1]]
    data = fs.Dataset(X, [2.0, 2.0, 2.0, 0.0, 1.0])
    net = fs.TwoLayerReLU([-1e-3], [[0.0, 0.0]])
    for tolerance in (1e-11, 0.0):
        run = fs.simulate(net, data, stationary_rtol=tolerance)
        assert (run.status, run.t_end) == ("stationary", 0.0)
        np.testing.assert_array_equal(run.network(0.0).W, net.W)


def test_the_last_state_is_the_final_network_to_the_bit():
    for seed in range(5):
        data = fs.datasets.linear_teacher(6, 3, seed=seed)
        run = fs.simulate(fs.init.balanced(8, 3, 1e-2, seed=seed), data, t1=30.0)
        np.testing.assert_array_equal(run.network(run.t_end).W, run.final.network.W)
        np.testing.assert_array_equal(run.network(run.t_end).a, run.final.network.a)


@pytest.mark.parametrize("rtol", [1e-9, 1e-12, 1e-15])
def test_margins_that_tend_to_zero_make_no_events(rtol):
    """AND on four corners: a neuron tends to a ray of two hyperplanes, one without a jump."""
    corners = [[-1, -1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, 1]]
    net = fs.init.balanced(2, 3, 1e-3, seed=0)
    run = fs.simulate(net, fs.Dataset(corners, [0, 0, 0, 1]), rtol=rtol, t1=3500.0)
    assert len(run.events.where("pattern")) == 2
    assert len(run.events.where("ambiguous")) == 0


def test_an_alignment_that_is_over_at_the_start_ends_at_zero():
    large = fs.simulate(fs.init.balanced(20, 2, 1.0, seed=0), DATA, t1=0.1)
    assert large.alignment.end_time == 0.0


def test_a_frozen_run_keeps_its_residual_and_loss():
    run = fs.simulate(NET, DATA, residual="frozen", t1=40.0)
    np.testing.assert_array_equal(run.residual([0.0, 40.0]), [DATA.y, DATA.y])
    assert run.loss(40.0) == run.final.loss == pytest.approx(np.mean(DATA.y**2) / 2)


def test_patterns_tell_slides_that_signs_cannot():
    data = fs.datasets.orthogonal_pair()
    run = fs.simulate(fs.init.balanced(20, 2, 1e-4, seed=0), data)
    codes = run.pattern(run.t_end)
    assert np.any(codes == 0)
    np.testing.assert_array_equal(codes, run.final.code[:, data.hyperplane] * data.orientation)
    sliding = codes == 0
    margins = np.abs(run.final.network.W @ data.X.T)
    assert np.all(margins[sliding] <= 1e-15)


@pytest.mark.parametrize("t1", [1e3, 1e12, 1e30])
def test_algebraic_decay_is_followed_over_any_time(t1):
    """One neuron, label 0: a = w obeys a' = -a^3, so a = 1/sqrt(1 + 2t), far below y's scale."""
    data, net = fs.Dataset([[1.0]], [0.0]), fs.TwoLayerReLU([1.0], [[1.0]])
    run = fs.simulate(net, data, t1=t1, stationary_rtol=0.0)
    assert run.status == "t1"
    assert run.final.network.a[0] == pytest.approx(1 / np.sqrt(1 + 2 * t1), rel=1e-10)


@pytest.mark.parametrize("size", [1e-30, 1e-5, 1e5])
def test_slow_fields_beside_fast_data_are_integrated_not_skipped(size):
    """Frozen, one active sample: a + w grows as exp(|D| t) whatever the other row's size."""
    data = fs.Dataset([[1.0, 0.0], [0.0, size]], [1.0, 1.0])
    net = fs.TwoLayerReLU([1e-3], [[-0.5e-3, np.sqrt(0.75) * 1e-3]])
    run = fs.simulate(net, data, residual="frozen", t1=2.0 / size)
    c, s = np.cosh(1.0), np.sinh(1.0)  # |D| = size / 2
    expected = 1e-3 * (c + np.sqrt(0.75) * s)
    assert len(run.events.where("pattern")) == 0
    assert run.final.network.a[0] == pytest.approx(expected, rel=1e-11)


def test_large_initialisations_follow_one_flow_in_their_own_time():
    """Where y is negligible, theta(t / s^2) / s does not depend on the scale s."""
    scales = (1e20, 1e50)
    runs = [fs.simulate(fs.init.balanced(4, 2, s, seed=0), DATA, t1=100.0 / s / s) for s in scales]
    assert [run.status for run in runs] == ["t1", "t1"]
    small, large = (run.final.loss / s**4 for run, s in zip(runs, scales, strict=True))
    assert large == pytest.approx(small, rel=1e-12)


def test_a_slow_neuron_beside_a_fast_sample_that_is_fitted_exactly_grows():
    """r = 0 on the fast sample: what is left grows as exp(|D| t), |D| = 1e-30 / 2."""
    data = fs.Dataset([[1.0, 0.0], [0.0, 1e-30]], [1.0, 1.0])
    net = fs.TwoLayerReLU([1.0, 1e-3], [[1.0, -0.5], [-0.5e-3, np.sqrt(0.75) * 1e-3]])
    run = fs.simulate(net, data, t1=2e30, stationary_rtol=0.0)
    expected = 1e-3 * (np.cosh(1.0) + np.sqrt(0.75) * np.sinh(1.0))
    np.testing.assert_allclose(run.final.network.a, [1.0, expected], rtol=1e-12)
    assert run.steps <= 10


def test_a_frozen_neuron_without_a_field_stays_for_any_time():
    data = fs.Dataset([[1.0], [2.0]], [2.0, -1.0])
    run = fs.simulate(fs.TwoLayerReLU([2.0], [[1.0]]), data, residual="frozen", t1=1e30)
    assert (run.status, run.t_end, len(run.events)) == ("t1", 1e30, 0)
    np.testing.assert_array_equal(run.network(5e29).W, [[1.0]])
