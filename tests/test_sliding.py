"""Slides on hyperplanes, their cost, and what happens where all hyperplanes meet."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support import Reference, balanced_neuron, codes, loss_is, neuron, pattern_rows, simulate

import flowsim as fs
from flowsim.engines import Piecewise


@pytest.fixture(scope="module")
def frozen_slide():
    """One neuron of the orthogonal pair, r = y, that slides from t = ln(2 + sqrt 5) / 1.25 on."""
    start = balanced_neuron(90.0, size=1e-3)
    return simulate(start, fs.datasets.orthogonal_pair(), residual="frozen", t1=20.0)


def test_a_neuron_reaches_its_slide_at_the_closed_form_time(frozen_slide):
    [(t, j, k, before, after)] = pattern_rows(frozen_slide)
    assert (j, k, before, after) == (0, 0, 1, 0)
    assert abs(t - math.log(2 + math.sqrt(5)) / 1.25) < 5e-11
    assert abs(t - 1.1549083801) < 1e-10


def test_a_sliding_neuron_stays_on_its_hyperplane(frozen_slide):
    x = frozen_slide.data.X[0]
    for t in np.linspace(1.2, 20.0, 40):
        w = frozen_slide.network(t).direction[0, 1:]
        assert abs(w @ x) <= 1e-15 * np.linalg.norm(w) * np.linalg.norm(x)
        assert math.degrees(math.atan2(w[1], w[0])) == pytest.approx(26.56505117707799, abs=1e-12)


def test_a_sliding_neuron_grows_at_the_projected_rate(frozen_slide):
    """Pattern b1: D = (1, 1/2), so a = ||w|| grows as exp(sqrt(5)/2 t)."""
    sizes = [frozen_slide.network(t).log_norm[0] for t in (5.0, 15.0)]
    assert sizes[1] - sizes[0] == pytest.approx(10 * math.sqrt(5) / 2, rel=1e-11)


def test_a_frozen_slide_costs_tens_of_steps(frozen_slide):
    assert frozen_slide.steps < 100


# One neuron, two samples with mixed labels. On the hyperplane of x_2 its size q = a ||w|| obeys
# q' = 4/5 q (1 - 4/5 q): x_1 projected has norm 4/5, and only sample 1 pulls.
MIXED = fs.Dataset([[1.0, 0.0], [0.6, 0.8]], [1.0, -1.0])


def logistic(t: float, q0: float) -> float:
    return 1.25 / (1 + (1.25 / q0 - 1) * math.exp(-0.8 * t))


def test_a_neuron_started_on_its_hyperplane_slides_along_a_logistic_law():
    size = 2.0**-10
    sol = simulate(neuron(size, [0.8 * size, -0.6 * size]), MIXED, t1=30.0)
    assert pattern_rows(sol) == []
    for t in (1.0, 5.0, 12.5, 20.0, 30.0):
        net = sol.network(t)
        q = net.a[0] * np.linalg.norm(net.W[0])
        assert q == pytest.approx(logistic(t, size * size), rel=1e-9)
    assert sol.steps < 100


def test_mixed_labels_one_sliding_neuron_to_its_end_in_tens_of_steps():
    sol = simulate(balanced_neuron(10.0, size=1e-3), MIXED)
    assert sol.status == "stationary"
    assert [row[1:] for row in pattern_rows(sol)] == [(0, 1, 1, 0)]
    assert codes(sol).tolist() == [[1, 0]]
    assert loss_is(sol.final.loss, 0.25, MIXED.y)
    assert sol.steps < 100


def test_after_reaching_its_slide_the_neuron_follows_the_logistic_law():
    sol = simulate(balanced_neuron(10.0, size=1e-3), MIXED, t1=40.0)
    t0 = pattern_rows(sol)[0][0]
    net = sol.network(t0)
    q0 = net.a[0] * np.linalg.norm(net.W[0])
    for t in (t0 + 3.0, t0 + 10.0, 35.0):
        net = sol.network(t)
        q = net.a[0] * np.linalg.norm(net.W[0])
        assert q == pytest.approx(logistic(t - t0, q0), rel=1e-9)


def test_many_sliding_neurons_cost_no_more_than_their_events():
    """A cluster that slides together takes a bounded number of steps between events."""
    sol = simulate(fs.init.balanced(40, 2, 1e-4, seed=2), MIXED)
    assert sol.status == "stationary"
    assert 0 in codes(sol)
    assert sol.steps < 100 + 3 * len(pattern_rows(sol))


def test_parallel_samples_are_slid_on_together():
    """Antipodal and parallel samples share one hyperplane: codes of all change at one time.

    With x_3 = -x_2 of label 0 and x_4 = 2 x_2 of label -2, sliding on the common hyperplane
    leaves only sample 1 to pull: q' = 2/5 q (1 - 4/5 q).
    """
    data = fs.Dataset([[1, 0], ["0.6", "0.8"], ["-0.6", "-0.8"], ["1.2", "1.6"]], [1, -1, 0, -2])
    sol = simulate(balanced_neuron(10.0, size=1e-3), data, t1=60.0)
    rows = pattern_rows(sol)
    assert sorted(row[2:] for row in rows) == [(1, 1, 0), (2, -1, 0), (3, 1, 0)]
    assert len({row[0] for row in rows}) == 1
    t0 = rows[0][0]
    q = [
        sol.network(t).a[0] * np.linalg.norm(sol.network(t).W[0]) for t in (t0, t0 + 10.0, t0 + 30)
    ]
    for elapsed, value in ((10.0, q[1]), (30.0, q[2])):
        exact = 1.25 / (1 + (1.25 / q[0] - 1) * math.exp(-0.4 * elapsed))
        assert value == pytest.approx(exact, rel=1e-9)
    assert sol.steps < 100


def test_a_dominated_neuron_stays_where_w_vanishes_when_the_other_side_is_silent():
    """d = 1, r = y = -1: w = cosh t - 2 sinh t is 0 at artanh(1/2), and nothing acts below."""
    sol = simulate(neuron(2.0, [1.0]), fs.Dataset([[1]], [-1]), residual="frozen", t1=3.0)
    [t] = sol.events.where("origin").t
    assert t == pytest.approx(math.atanh(0.5), rel=1e-12)
    end = sol.final.network
    assert end.a[0] == pytest.approx(math.sqrt(3.0), rel=1e-12)
    assert abs(end.W[0, 0]) <= 1e-15


def test_a_dominated_neuron_passes_w_equal_zero_when_the_other_side_pulls_on():
    """With the antipodal sample of label +1 the field is -1/2 on both sides of w = 0."""
    data = fs.Dataset([[1], [-1]], [-1, 1])
    sol = simulate(neuron(2.0, [1.0]), data, residual="frozen", t1=4.0)
    rows = pattern_rows(sol)
    assert sorted(row[2:] for row in rows) == [(0, 1, -1), (1, -1, 1)]
    assert [row[0] for row in rows] == pytest.approx([2 * math.atanh(0.5)] * 2, rel=1e-12)
    end = sol.final.network
    assert end.W[0, 0] == pytest.approx(math.cosh(2.0) - 2 * math.sinh(2.0), rel=1e-11)
    assert end.a[0] == pytest.approx(2 * math.cosh(2.0) - math.sinh(2.0), rel=1e-11)


def test_an_unbalanced_neuron_changes_the_sign_of_a_at_the_closed_form_time():
    """d = 1, r = y = 1: a = 2 sinh t - cosh t, w = 2 cosh t - sinh t."""
    sol = simulate(neuron(-1.0, [2.0]), fs.Dataset([[1]], [1]), residual="frozen", t1=2.0)
    events = sol.events.where("sign_change")
    assert events.t == pytest.approx([math.atanh(0.5)], rel=1e-12)
    assert (events.before[0], events.after[0]) == (-1, 1)
    end = sol.final.network
    assert end.a[0] == pytest.approx(2 * math.sinh(2.0) - math.cosh(2.0), rel=1e-11)
    assert end.W[0, 0] == pytest.approx(2 * math.cosh(2.0) - math.sinh(2.0), rel=1e-11)


def test_a_start_on_a_repulsive_hyperplane_is_reported_as_ambiguous():
    """Both sides push away: x_1.D is -0.3 a off and 0.2 a on, with sample 2 always on."""
    data = fs.Dataset([["1", "0"], ["-0.6", "0.8"]], [1, 1])
    sol = simulate(neuron(1.0, [0.0, 1.0]), data, residual="frozen", t1=0.5)
    events = sol.events.where("ambiguous")
    assert len(events) == 1
    assert (events.t[0], events.neuron[0]) == (0.0, 0)
    assert abs(sol.network(0.5).W[0, 0]) > 0.05


@pytest.mark.parametrize("every_event", [False, True])
def test_a_double_crossing_within_one_step_is_found(every_event):
    """Neuron 2 turns back 1e-5 rad behind a hyperplane: on and off within 0.025, and a step of
    the smooth motion is longer than that."""
    reference = Reference("precise_double_crossing")
    sol = reference.run(engine=Piecewise(every_event=every_event))
    expected = [e for e in reference.events if e[1:3] == (2, 6)]
    found = [row for row in pattern_rows(sol) if row[1:3] == (2, 6)]
    assert [row[1:] for row in found] == [(2, 6, -1, 1), (2, 6, 1, -1)]
    assert [row[0] for row in found] == pytest.approx([e[0] for e in expected], rel=1e-9)
    if not every_event:
        return
    before = sol.history.t[sol.history.t < found[0][0]][-1]
    after = sol.history.t[sol.history.t > found[1][0]][0]
    between = (sol.history.t > before) & (sol.history.t < after)
    assert sol.history.t[between] == pytest.approx([row[0] for row in found], rel=1e-12)


def test_a_neuron_that_stays_goes_back_onto_a_hyperplane_along_its_slides():
    """Else putting it onto its slides takes it across again, for ever."""
    from flowsim.cells import TOUCH, Cells
    from flowsim.engines.switching import Rules
    from flowsim.state import State

    X = np.array([[1.0, 0.0, 0.0], [1.0, 0.3, 0.0], [1.0, -0.4, 1.0]])
    data = fs.Dataset(X, np.array([-1.0, 1.0, 1.0]))
    net = fs.TwoLayerReLU(np.array([1.0]), np.array([[0.0, 0.6, 0.3]]))
    cells = Cells.of(data, 0.0, "half_mean", np.zeros(3))
    state = State.of(net, cells)
    plane = 1
    state.code[0] = [0, -1, 1]
    w = state.z[0, 1:]
    w[:] = [0.0, 40 * TOUCH, 0.5]  # on the first, and across the second by rounding
    assert cells.normals[plane] @ w > TOUCH
    r = np.array([-1.0, -1e-3, 0.5])  # the second's sides both drive it off
    Rules(cells).meet(state, 0, plane, r, 0.0)
    np.testing.assert_array_equal(state.code[0], [0, -1, 1])
    assert abs(cells.normals[plane] @ w) <= TOUCH / 4
    assert abs(cells.normals[0] @ w) <= TOUCH / 4
