"""Properties of the flow on random problems: every kind of data, start, scale and slope."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from flow_checks import (
    assert_codes_are_signs,
    assert_loss_is_that_of_the_network,
    assert_the_flow_is_followed,
    longest_steps,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import deterministic, horizon, problems
from support import EPS, gap, pattern_rows, simulate

import flowsim as fs


def stiffness(net: fs.TwoLayerReLU, data: fs.Dataset) -> float:
    """Return a bound on the largest eigenvalue of the linearised residual dynamics."""
    mass = float(np.sum(net.a**2) + np.sum(net.W**2))
    return mass * float(np.mean(np.sum(np.square(data.X), axis=1)))


def check_run(sol: fs.Solution) -> None:
    """Everything that must hold for every run, whatever the problem."""
    assert sol.status in ("stationary", "t1"), sol.message
    assert sol.message
    assert not sol.failed
    net = sol.final.network
    assert np.all(np.isfinite(net.direction))
    assert not np.any(np.isnan(net.log_norm))
    assert all(np.isfinite(value) for value in sol.audit.values())
    assert sol.audit["invariant_drift"] < 1e-12

    loss = sol.history.loss
    terms = np.abs(net.a) @ np.maximum(np.abs(net.W @ np.asarray(sol.data.X).T), 0.0)
    unit = 16 * EPS * (1 + np.max(terms) / np.max(np.abs(sol.data.y)))
    unit *= np.sqrt(loss[:-1] * loss[0]) + EPS * loss[0]
    assert np.all(np.diff(loss) <= unit)

    rows = pattern_rows(sol)
    # rounding may make a code leave and return at once, never more
    assert max(Counter((t, j, k) for t, j, k, *_ in rows).values(), default=0) <= 2
    times = len(np.unique(sol.events.t))
    work = 60 + 4 * times + sol.t_end * stiffness(net, sol.data)
    assert sol.steps <= work, "chatter"


@given(problems())
@settings(deterministic, max_examples=120)
def test_every_run_ends_without_chatter_with_a_status_and_a_falling_loss(problem):
    net, data = problem
    check_run(simulate(net, data, t1=horizon(data)))


@given(problems())
@settings(deterministic, max_examples=60)
def test_dense_output_is_a_trajectory_of_the_flow_in_the_cells_of_the_event_table(problem):
    net, data = problem
    sol = simulate(net, data, t1=horizon(data))
    for t, _ in longest_steps(sol, 4):
        assert_codes_are_signs(sol, t)
        assert_loss_is_that_of_the_network(sol, t)
    for t, length in longest_steps(sol, 4):
        assert_the_flow_is_followed(sol, t, 1e-4 * length)


@given(problems(max_d=1))
@settings(deterministic, max_examples=40)
def test_one_input_dimension_has_the_only_hyperplane_w_equal_zero(problem):
    """d = 1: all samples share one hyperplane; dominated and unbalanced neurons may pass it."""
    net, data = problem
    sol = simulate(net, data, t1=horizon(data))
    check_run(sol)
    times = {}
    for t, j, _, before, after in pattern_rows(sol):
        times.setdefault((j, t), set()).add((before, after))
    for changes in times.values():
        assert changes <= {(1, -1), (-1, 1)} or any(0 in change for change in changes)


@given(problems())
@settings(deterministic, max_examples=40)
def test_dominated_neurons_keep_the_sign_of_a_and_all_neurons_their_gap(problem):
    net, data = problem
    sol = simulate(net, data, t1=horizon(data))
    end = sol.final.network
    for j in range(net.m):
        first, last = gap(net.a[j], net.W[j]), gap(end.a[j], end.W[j])
        size = float(end.a[j] ** 2 + end.W[j] @ end.W[j])
        start = float(net.a[j] ** 2 + net.W[j] @ net.W[j])
        # balanced starts are so up to rounding, which flowsim takes to mean exactly
        assert abs(float(last - first)) <= 1e-12 * size + 8 * EPS * start
        if float(first) > -8 * EPS * start:
            assert np.sign(end.direction[j, 0]) == np.sign(net.a[j])


@given(problems(), st.integers(-30, 30))
@settings(deterministic, max_examples=30)
def test_scaling_labels_by_a_power_of_four_is_the_same_run_exactly(problem, power):
    """y -> c^2 y, theta_0 -> c theta_0 with c = 2^p: the same floats but for exponents."""
    net, data = problem
    c = 2.0**power
    sol = simulate(net, data, t1=horizon(data))
    scaled = simulate(
        fs.TwoLayerReLU(c * net.a, c * net.W, net.negative_slope),
        fs.Dataset(data.X, c * c * np.asarray(data.y)),
        t1=horizon(data) / c**2,
    )
    assert [row[1:] for row in pattern_rows(scaled)] == [row[1:] for row in pattern_rows(sol)]
    assert scaled.events.t * c * c == pytest.approx(sol.events.t, rel=1e-13)
    assert scaled.final.loss == pytest.approx(c**4 * sol.final.loss, rel=1e-12, abs=0)
    assert scaled.final.kind == sol.final.kind


@given(problems(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@settings(deterministic, max_examples=30)
def test_any_time_of_the_run_can_be_asked_for_in_any_order(problem, p, q):
    net, data = problem
    sol = simulate(net, data, t1=horizon(data, 30.0))
    first, second = p * sol.t_end, q * sol.t_end
    one = sol.network(first)
    sol.network(second)
    again = sol.network(first)
    assert np.array_equal(one.a, again.a)
    assert np.array_equal(one.W, again.W)
    assert sol.loss(np.array([first, second])).tolist() == [sol.loss(first), sol.loss(second)]
    assert sol.residual(second).shape == (data.n,)
    late, early = max(first, second), min(first, second)
    floor = 1e-13 * sol.history.loss[0]
    assert sol.loss(late) <= sol.loss(early) + floor


@given(problems())
@settings(deterministic, max_examples=25)
def test_frozen_residual_moves_neurons_independently(problem):
    """With r = y a neuron's run does not depend on which others there are."""
    net, data = problem
    # unbalanced growth is unbounded when the residual is frozen: a few e-foldings suffice
    t1 = horizon(data, 20.0)
    together = simulate(net, data, residual="frozen", t1=t1)
    j = net.m // 2
    single = fs.TwoLayerReLU(net.a[j : j + 1], net.W[j : j + 1], net.negative_slope)
    alone = simulate(single, data, residual="frozen", t1=t1)
    rows = [row for row in pattern_rows(together) if row[1] == j]
    assert [row[2:] for row in pattern_rows(alone)] == [row[2:] for row in rows]
    assert [row[0] for row in pattern_rows(alone)] == pytest.approx(
        [row[0] for row in rows], rel=1e-10
    )
    ends = (together.final.network, alone.final.network)
    assert ends[1].direction[0] == pytest.approx(ends[0].direction[j], abs=1e-9)
    assert ends[1].log_norm[0] == pytest.approx(ends[0].log_norm[j], abs=1e-9)
