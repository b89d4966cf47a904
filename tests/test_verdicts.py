"""What a run says of its end, checked by brute force on random problems."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import deterministic, horizon, problems
from support import half_mean_loss, neuron, simulate

import flowsim as fs

MINIMA = ("local_minimum", "spurious_local_minimum", "global_minimum")


def floor_by_sampling(sol: fs.Solution) -> float:
    """Return the least loss over the span of sigma(X w) at 20 000 random directions w."""
    X, y = np.asarray(sol.data.X), np.asarray(sol.data.y)
    w = np.random.default_rng(0).standard_normal((20_000, sol.data.d))
    s = X @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    features = np.where(s > 0, s, sol.initial.negative_slope * s)
    basis, sizes, _ = np.linalg.svd(features, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * sizes[0]]
    rest = y - basis @ (basis.T @ y)
    return 0.5 * float(np.mean(rest * rest))


def best_descent_nearby(sol: fs.Solution, count: int = 200) -> float:
    """Return the largest relative fall of the loss an e-perturbation finds, divided by e.

    Every neuron is moved by e times its own size, e between 1e-6 and 1e-3.
    """
    net, rng = sol.final.network, np.random.default_rng(1)
    X, y = np.asarray(sol.data.X), np.asarray(sol.data.y)
    loss, size, best = half_mean_loss(net, X, y), np.exp(net.log_norm), 0.0
    for _ in range(count):
        e = 10.0 ** -rng.uniform(3, 6)
        step = e * size * (rng.random(net.m) < rng.choice([0.3, 1.0]))
        a = net.a + step * rng.standard_normal(net.m)
        W = net.W + step[:, None] * rng.standard_normal((net.m, net.d))
        moved = half_mean_loss(fs.TwoLayerReLU(a, W, net.negative_slope), X, y)
        best = max(best, (loss - moved) / (loss * e))
    return best


@given(problems(max_d=3, max_n=8, max_m=12))
@settings(deterministic, max_examples=60)
def test_the_verdict_is_true(problem):
    net, data = problem
    sol = simulate(net, data, t1=horizon(data, 1e4), max_steps=100_000)
    final, scale = sol.final, 0.5 * float(np.mean(np.square(data.y)))
    assert not sol.failed
    floor = floor_by_sampling(sol)
    assert final.floor_loss == pytest.approx(floor, abs=1e-10 * scale)
    assert final.loss >= floor - 1e-12 * scale
    if sol.status != "stationary":
        return
    assert final.kind != "not_stationary"
    assert final.limit_loss == pytest.approx(final.loss, abs=1e-10 * scale)
    if final.kind == "interpolation":
        assert final.loss <= 1e-10 * scale
    if final.kind == "global_minimum":
        assert final.limit_loss == pytest.approx(floor, abs=1e-8 * scale)
    if final.kind == "spurious_local_minimum":
        assert final.limit_loss > floor + 1e-9 * scale
    if final.kind in MINIMA:
        assert best_descent_nearby(sol) < 1e-6


def test_descent_nearby_finds_the_way_down_from_a_saddle():
    """The brute-force check itself: from the zero function with a live neuron there is one."""
    data = fs.datasets.three_points()
    sol = simulate(neuron(0.1, [0.0, 0.1]), data, t1=1e-3)
    assert best_descent_nearby(sol) > 1e-3
    assert sol.final.kind == "not_stationary"


def test_a_network_at_an_interpolating_state_is_stationary_at_once():
    data = fs.datasets.one_sample()
    sol = simulate(neuron(1.0, [0.24, 0.32]), data)
    assert (sol.status, sol.final.kind) == ("stationary", "interpolation")
    assert sol.t_end < 10.0


def test_a_dead_network_is_told_from_a_minimum_by_what_its_neurons_could_do():
    """No neuron can move, and the zero function is not the best: no verdict of a global one."""
    sol = simulate(neuron(1.0, [0.0, -1.0]), fs.datasets.three_points())
    assert sol.status == "stationary"
    assert sol.final.kind in ("spurious_local_minimum", "local_minimum")
    assert sol.final.floor_loss == pytest.approx(0.0, abs=1e-15)
