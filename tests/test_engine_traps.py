"""Known traps of solver libraries on piecewise smooth flows: the stepping engines avoid them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from run_comparison import compare_runs
from scipy.integrate import solve_ivp
from support import (
    Reference,
    balanced_neuron,
    codes,
    forward,
    loss_is,
    neuron,
    pattern_rows,
    simulate,
)

import flowsim as fs
from flowsim.engines import Diffrax, Scipy

DATA = fs.datasets.three_points()
#: On the hyperplane of x_2, q = a ||w|| of a neuron obeys q' = 4/5 q (1 - 4/5 q).
MIXED = fs.Dataset([[1.0, 0.0], [0.6, 0.8]], [1.0, -1.0])


@pytest.fixture(params=[Scipy("DOP853"), Diffrax("Tsit5")], ids=["DOP853", "Tsit5"])
def engine(request) -> Any:
    return request.param


def _rows(sol: fs.Solution, neurons: Any, samples: Any) -> list[tuple]:
    """Return the pattern changes with neurons and samples renamed, sorted."""
    named = [(int(neurons[j]), int(samples[k]), *rest) for _, j, k, *rest in pattern_rows(sol)]
    times = [row[0] for row in pattern_rows(sol)]
    return sorted(zip(named, times, strict=True))


# -- the order of events ------------------------------------------------------------------------


def test_the_earliest_event_comes_first_however_neurons_and_samples_are_ordered(engine):
    """diffrax reports the first event of the tree of conditions, not the first in time."""
    reference = Reference("precise_slides")
    m, n = reference.start.m, reference.data.n
    start, data = reference.start, reference.data
    expected = _rows(reference.run(engine=engine), np.arange(m), np.arange(n))
    for seed in range(2):
        rng = np.random.default_rng(seed)
        js, ks = rng.permutation(m), rng.permutation(n)
        net = fs.TwoLayerReLU(start.a[js], start.W[js])
        shuffled = fs.Dataset(np.asarray(data.X)[ks], np.asarray(data.y)[ks])
        sol = simulate(net, shuffled, t1=reference.t1, engine=engine)
        assert np.all(np.diff(sol.events.t) >= 0.0)
        found = _rows(sol, js, ks)
        assert [row for row, _ in found] == [row for row, _ in expected]
        times = [t for _, t in found]
        assert times == pytest.approx([t for _, t in expected], rel=1e-10)


# -- restarts -----------------------------------------------------------------------------------


def test_a_start_exactly_on_a_hyperplane_is_no_event(engine):
    size = 2.0**-10
    sol = simulate(neuron(size, [0.8 * size, -0.6 * size]), MIXED, t1=30.0, engine=engine)
    assert pattern_rows(sol) == []
    assert sol.steps < 700
    for t in (1.0, 12.5, 30.0):
        net, q0 = sol.network(t), size * size
        exact = 1.25 / (1 + (1.25 / q0 - 1) * math.exp(-0.8 * t))
        assert net.a[0] * np.linalg.norm(net.W[0]) == pytest.approx(exact, rel=1e-9)


def test_a_run_that_goes_on_from_an_event_does_not_fire_it_again():
    """Only an end of slides may come once more, when it has clearly passed: it is a tie here."""
    reference, engine = Reference("precise_slides"), Scipy("DOP853")
    sol = reference.run(engine=engine)
    rows = pattern_rows(sol)
    for t, *_ in rows[::4]:
        later = simulate(sol.network(t), reference.data, t1=reference.t1 - t, engine=engine)
        found = pattern_rows(later)
        at_once = [row for row in found if row[0] < 1e-6]
        assert all(before == 0 for *_, before, _ in at_once)
        rest, expected = found[len(at_once) :], [row for row in rows if row[0] > t + 1e-6]
        assert [row[1:] for row in rest] == [row[1:] for row in expected]
        assert [t + row[0] for row in rest] == pytest.approx([r[0] for r in expected], rel=1e-8)


def test_every_event_moves_on(engine):
    """No event of a neuron and a sample comes twice at one time, nor steps of length zero."""
    for name in ("precise_slides", "precise_crossings"):
        sol = Reference(name).run(engine=engine)
        rows = pattern_rows(sol)
        assert len({row[:3] for row in rows}) == len(rows)
        assert np.sum(np.diff(sol.history.t) <= 1e-12) <= len(rows)


def test_a_double_crossing_within_one_step_is_found(engine):
    """Neuron 2 is behind a hyperplane for 0.025, far less than a step at this tolerance."""
    reference = Reference("precise_double_crossing")
    sol = reference.run(engine=engine, rtol=1e-6)
    expected = [e for e in reference.events if e[1:3] == (2, 6)]
    found = [row for row in pattern_rows(sol) if row[1:3] == (2, 6)]
    assert [row[1:] for row in found] == [(2, 6, -1, 1), (2, 6, 1, -1)]
    assert [row[0] for row in found] == pytest.approx([e[0] for e in expected], rel=1e-3)
    t = sol.history.t
    before, after = t[t < found[0][0]][-1], t[t > found[1][0]][0]
    assert after - before > 3 * (found[1][0] - found[0][0])
    assert np.sum((t > before) & (t < after)) == 2  # the events alone


# -- tiny initialisations -----------------------------------------------------------------------


@pytest.mark.parametrize("log10_scale", [-12, -100, -300, -3000])
def test_angles_do_not_depend_on_the_scale(engine, log10_scale):
    """atol = 1e-6 turns neurons of this size by tens of degrees; the closed form knows better."""
    net = fs.init.balanced(6, 2, log10_scale=log10_scale, seed=1)
    sol = simulate(net, DATA, t1=6.0, engine=engine)
    exact = fs.alignment.flow(net, DATA, 6.0).network
    np.testing.assert_allclose(sol.final.network.direction, exact.direction, rtol=0, atol=1e-10)
    np.testing.assert_allclose(sol.final.network.log_norm, exact.log_norm, rtol=1e-12, atol=1e-10)
    usual = simulate(fs.init.balanced(6, 2, 1e-6, seed=1), DATA, t1=6.0, engine=engine)
    assert [row[1:] for row in pattern_rows(sol)] == [row[1:] for row in pattern_rows(usual)]
    turned = np.abs(sol.final.network.direction - usual.final.network.direction)
    assert np.max(turned) < 1e-8


def test_the_escape_is_delayed_by_the_logarithm_of_the_scale():
    ends = [
        simulate(fs.init.balanced(6, 2, scale, seed=1), DATA, engine=Scipy("DOP853"))
        for scale in (1e-8, 1e-60)
    ]
    delay = ends[1].alignment.end_time - ends[0].alignment.end_time
    assert delay == pytest.approx(52 * math.log(10) / 0.7149689193, rel=1e-9)
    assert [sol.final.kind for sol in ends] == ["spurious_local_minimum"] * 2


def test_a_tiny_network_does_not_rest_at_its_start(engine):
    """||theta'|| is 1e-300 and below any absolute tolerance, and grows all the same."""
    tiny = simulate(fs.init.balanced(6, 2, 1e-300, seed=1), DATA, t1=1.0, engine=engine)
    assert (tiny.status, tiny.t_end) == ("t1", 1.0)
    assert tiny.final.kind == "not_stationary"
    small = simulate(fs.init.balanced(6, 2, 1e-8, seed=1), DATA, engine=engine)
    assert small.status == "stationary"
    assert small.t_end > 20.0
    assert loss_is(small.final.loss, 256 / 2925, DATA.y)


# -- slides -------------------------------------------------------------------------------------


def test_a_slide_costs_few_steps_where_a_solver_of_the_jumping_field_chatters(engine):
    start = balanced_neuron(10.0, size=1e-3)
    sol = simulate(start, MIXED, engine=engine)
    assert (sol.status, codes(sol).tolist()) == ("stationary", [[1, 0]])
    assert loss_is(sol.final.loss, 0.25, MIXED.y)
    assert sol.steps < 1500

    evaluations = 0
    X, y = MIXED.X, MIXED.y

    def field(_: float, theta: np.ndarray) -> np.ndarray:
        nonlocal evaluations
        evaluations += 1
        if evaluations > 100_000:
            raise TimeoutError
        s = X @ theta[1:]
        D = ((s > 0.0) * (y - np.maximum(s, 0.0) * theta[0])) @ X / 2
        return np.array([theta[1:] @ D, theta[0] * D[0], theta[0] * D[1]])

    theta = np.append(start.a, start.W)
    with pytest.raises(TimeoutError):
        solve_ivp(field, (0.0, sol.t_end), theta, "RK45", rtol=1e-8, atol=1e-11)


def test_many_sliding_neurons_cost_no_more_than_their_events():
    sol = simulate(fs.init.balanced(40, 2, 1e-4, seed=2), MIXED, engine=Scipy("DOP853"))
    assert sol.status == "stationary"
    assert 0 in codes(sol)
    assert sol.steps < 250 + 3 * len(pattern_rows(sol))


def test_parallel_and_antipodal_samples_are_slid_on_together():
    """Sliding on the common hyperplane, only sample 1 pulls: q' = 2/5 q (1 - 4/5 q)."""
    data = fs.Dataset([[1, 0], ["0.6", "0.8"], ["-0.6", "-0.8"], ["1.2", "1.6"]], [1, -1, 0, -2])
    sol = simulate(balanced_neuron(10.0, size=1e-3), data, t1=60.0, engine=Scipy("DOP853"))
    rows = pattern_rows(sol)
    assert sorted(row[2:] for row in rows) == [(1, 1, 0), (2, -1, 0), (3, 1, 0)]
    assert len({row[0] for row in rows}) == 1

    def product(t: float) -> float:
        net = sol.network(t)
        return float(net.a[0] * np.linalg.norm(net.W[0]))

    t0 = rows[0][0]
    for elapsed in (10.0, 30.0):
        exact = 1.25 / (1 + (1.25 / product(t0) - 1) * math.exp(-0.4 * elapsed))
        assert product(t0 + elapsed) == pytest.approx(exact, rel=1e-9)


def _dependent() -> tuple[fs.TwoLayerReLU, fs.Dataset]:
    """Neuron 0 starts where three planes meet in a line; neuron 1 fits what presses it there."""
    data = fs.Dataset([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 2]], [-1, -1, -2, 2])
    net = fs.TwoLayerReLU([0.25, -0.125], [[0.0, 0.0, 0.25], [0.0625, 0.078125, 0.0]])
    return net, data


def test_slides_on_dependent_hyperplanes_end_as_they_do_in_the_piecewise_engine(engine):
    net, data = _dependent()
    expected = simulate(net, data, t1=20.0)
    assert np.all(expected.pattern(0.0)[0, :3] == 0)
    assert np.any(expected.events.where("pattern").before == 0)
    found = simulate(net, data, t1=20.0, engine=engine)
    comparison = compare_runs(expected, found)
    assert comparison.agrees(), comparison


@pytest.mark.parametrize("engine", [None, Scipy("DOP853")], ids=["piecewise", "DOP853"])
@pytest.mark.parametrize("rtol", [1e-3, 1e-4])
@pytest.mark.parametrize("name", ["precise_double_crossing", "precise_leaky"])
def test_a_loose_tolerance_makes_no_neuron_hang_on_a_hyperplane(name, rtol, engine):
    """Velocities below 8 rtol count as ties; what they drive goes on all the same."""
    sol = Reference(name).run(rtol=rtol, max_steps=300, engine=engine)
    assert sol.status == "t1"
    assert sol.steps < 100


@pytest.mark.parametrize("rtol", [1e-15, 1e-9])
def test_margins_that_tend_to_zero_make_no_events_of_rounding(rtol):
    """AND on four corners: a neuron tends to a ray of two hyperplanes, one without a jump."""
    corners = [[-1, -1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, 1]]
    net, data = fs.init.balanced(2, 3, 1e-3, seed=0), fs.Dataset(corners, [0, 0, 0, 1])
    run = simulate(net, data, rtol=rtol, t1=160.0, engine=Scipy("DOP853"))
    assert [row[1:] for row in pattern_rows(run)] == [(0, 0, 1, -1), (0, 2, 1, 0)]


# -- closed forms of single neurons --------------------------------------------------------------


def test_a_leaky_neuron_crosses_at_the_closed_form_time():
    """Slope 0.1, r = y = 1, d = 1: w = 2 sinh(t/10) - cosh(t/10) < 0, then sqrt(3) sinh(t - t*)."""
    start = neuron(2.0, [-1.0], negative_slope=0.1)
    run = simulate(start, fs.Dataset([[1]], [1]), residual="frozen", t1=8.0, engine=Scipy())
    [(t, *row)] = pattern_rows(run)
    assert row == [0, 0, -1, 1]
    assert t == pytest.approx(10 * math.atanh(0.5), rel=1e-11)
    assert run.final.network.W[0, 0] == pytest.approx(math.sqrt(3) * math.sinh(8.0 - t), rel=1e-10)


def test_an_unbalanced_neuron_changes_the_sign_of_a_at_the_closed_form_time():
    """d = 1, r = y = 1: a = 2 sinh t - cosh t."""
    data = fs.Dataset([[1]], [1])
    sol = simulate(neuron(-1.0, [2.0]), data, residual="frozen", t1=2.0, engine=Scipy())
    events = sol.events.where("sign_change")
    assert events.t == pytest.approx([math.atanh(0.5)], rel=1e-11)
    assert (events.before[0], events.after[0]) == (-1, 1)
    exact = 2 * math.sinh(2.0) - math.cosh(2.0)
    assert sol.final.network.a[0] == pytest.approx(exact, rel=1e-10)


def test_a_neuron_passes_w_equal_zero_where_the_other_side_pulls_on_and_else_stays():
    both = fs.Dataset([[1], [-1]], [-1, 1])
    sol = simulate(neuron(2.0, [1.0]), both, residual="frozen", t1=4.0, engine=Scipy())
    rows = pattern_rows(sol)
    assert sorted(row[2:] for row in rows) == [(0, 1, -1), (1, -1, 1)]
    assert [row[0] for row in rows] == pytest.approx([2 * math.atanh(0.5)] * 2, rel=1e-11)
    exact = math.cosh(2.0) - 2 * math.sinh(2.0)
    assert sol.final.network.W[0, 0] == pytest.approx(exact, rel=1e-10)
    one = simulate(neuron(2.0, [1.0]), fs.Dataset([[1]], [-1]), t1=3.0, residual="frozen",
                   engine=Scipy())  # fmt: skip
    [t] = one.events.where("origin").t
    assert t == pytest.approx(math.atanh(0.5), rel=1e-11)
    assert abs(one.final.network.W[0, 0]) <= 1e-15


def test_a_start_at_w_equal_zero_moves_where_its_field_is_not_zero():
    """With antipodal samples the field is -1/2 there: w = -2 sinh(t/2), a = 2 cosh(t/2)."""
    data = fs.Dataset([[1], [-1]], [-1, 1])
    sol = simulate(neuron(2.0, [0.0]), data, residual="frozen", t1=2.0, engine=Scipy())
    assert sol.final.network.W[0, 0] == pytest.approx(-2 * math.sinh(1.0), rel=1e-11)
    assert sol.final.network.a[0] == pytest.approx(2 * math.cosh(1.0), rel=1e-11)


def test_starts_at_w_equal_zero_stay_where_one_side_is_silent(engine):
    net = fs.TwoLayerReLU([1e-3, -1e-3], [[0.0, 0.0], [0.0, 0.0]])
    sol = simulate(net, DATA, t1=5.0, stationary_rtol=0.0, engine=engine)
    assert sol.events.kind.tolist() == ["origin", "origin"]
    np.testing.assert_array_equal(sol.network(5.0).W, net.W)


def test_a_dead_network_never_moves(engine):
    net = fs.TwoLayerReLU([1e-3, -2e-3], [[1e-3, -2e-3], [0.0, -1e-3]])
    assert np.all(forward(net, DATA.X) == 0.0)
    sol = simulate(net, DATA, engine=engine)
    assert (sol.status, sol.t_end) == ("stationary", 0.0)
    for t1 in (1e-3, 1e30):
        timed = simulate(net, DATA, t1=t1, stationary_rtol=0.0, engine=engine)
        assert (timed.status, timed.t_end, len(timed.events)) == ("t1", t1, 0)
        np.testing.assert_array_equal(timed.network(0.5 * t1).W, net.W)
        assert timed.steps <= 2
