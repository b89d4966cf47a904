"""Which states a run stores: how many, and that dense output does not depend on it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import flowsim as fs
from flowsim.engines.state_store import A_DECADE, FEW
from flowsim.solution import States

DATA = fs.datasets.three_points()
NET = fs.init.balanced(20, 2, 1e-4, seed=1)
POLICIES = ("all", "log", "ends")


@pytest.fixture(scope="module")
def runs() -> dict[str, fs.Solution]:
    return {policy: fs.simulate(NET, DATA, states=policy, end="rest") for policy in POLICIES}


@pytest.mark.parametrize("policy", POLICIES)
def test_start_and_end_are_stored_whatever_else(runs, policy):
    run = runs[policy]
    assert run.settings["states"] == policy
    assert list(run.states.step[[0, -1]]) == [0, run.steps]
    assert np.all(np.diff(run.states.step) > 0)
    np.testing.assert_array_equal(run.states.t, run.history.t[run.states.step])


def test_policies_bound_the_number_of_states(runs):
    count = {policy: len(run.states.t) for policy, run in runs.items()}
    t = runs["log"].history.t
    assert count["all"] == len(t)
    assert count["ends"] == 2
    assert count["log"] < count["all"]
    assert count["log"] <= A_DECADE * np.log10(t[-1] / t[1]) + 3
    bins = np.unique(np.floor(A_DECADE * np.log10(t[1:])))
    assert count["log"] >= len(bins) - A_DECADE  # every part of a decade that has a step


@pytest.mark.parametrize("policy", POLICIES)
def test_the_budget_holds_with_every_policy(runs, policy):
    whole = runs["all"].states
    assert isinstance(whole, States)
    size = 20 * (3 * 8 + 8 + whole.code.shape[2] + 2)
    for fit in (1, 3, 10, 40):
        few = fs.simulate(NET, DATA, states=policy, state_bytes=fit * size, end="rest").states
        assert len(few.t) <= max(fit, 2) + 1  # the end may come on top
        assert few.step[0] == 0
        assert few.t[-1] == whole.t[-1]


@pytest.mark.parametrize("policy", POLICIES)
def test_dense_output_is_exact_with_few_states(runs, policy, tmp_path):
    times = (0.0, 0.3, 7.0, 8.5, 12.5, 15.0, 40.0, runs["all"].t_end)
    runs[policy].save(tmp_path / "run.nc")
    for run in (runs[policy], fs.load(tmp_path / "run.nc")):
        for t in times:
            np.testing.assert_allclose(run.network(t).W, runs["all"].network(t).W, atol=1e-13)
            np.testing.assert_array_equal(run.pattern(t), runs["all"].pattern(t))
        np.testing.assert_array_equal(run.history.loss, runs["all"].history.loss)


@pytest.mark.parametrize("policy", ["log", "ends"])
def test_dense_output_of_other_engines_is_exact_with_few_states(policy):
    engine = fs.engines.Scipy()
    full = fs.simulate(NET, DATA, engine=engine, t1=12.0)
    few = fs.simulate(NET, DATA, engine=engine, t1=12.0, states=policy)
    assert len(few.states.t) < len(full.states.t)
    np.testing.assert_array_equal(few.history.loss, full.history.loss)
    for t in (0.3, 7.0, 12.0):
        np.testing.assert_allclose(few.network(t).W, full.network(t).W, rtol=1e-9, atol=1e-13)


def test_large_states_are_stored_by_log_unless_asked_otherwise():
    run = fs.simulate(NET, DATA, max_steps=3)
    assert isinstance(run.states, States)
    size = sum(x[0].nbytes for x in (run.states.neurons, run.states.exponent, run.states.code))
    size += 2 * NET.m
    for budget, policy in ((FEW * size, "all"), (FEW * size - 1, "log")):
        chosen = fs.simulate(NET, DATA, max_steps=3, state_bytes=budget)
        assert chosen.settings["states"] == policy
    asked = fs.simulate(NET, DATA, max_steps=3, state_bytes=1, states="all")
    assert asked.settings["states"] == "all"


def test_an_overflow_keeps_the_steps_before_it_with_every_policy():
    net = fs.init.balanced(20, 2, 1e-6, seed=0)
    huge = fs.Dataset(DATA.X * 1e150, DATA.y)
    steps = [fs.simulate(net, huge, max_steps=2000, states=policy).steps for policy in POLICIES]
    assert steps[0] == steps[1] == steps[2]


def test_other_models_store_all_states_and_unknown_policies_are_refused():
    gelu = fs.models.TwoLayer.of(NET, "gelu")
    with pytest.raises(ValueError, match='`states` must be "all" but for a TwoLayerReLU'):
        fs.simulate(gelu, DATA, states="log")
    with pytest.raises(ValueError, match="`states` must be one of all, log, ends, but is 'some'"):
        fs.simulate(NET, DATA, states="some")


def test_a_solution_is_pickled_without_what_dense_output_has_set_up() -> None:
    """Which holds locks where there are many neurons, and can be set up again."""
    sol = fs.simulate(fs.init.balanced(20, 2, 1e-3, seed=0), fs.datasets.three_points(), t1=5.0)
    before = pickle.dumps(sol)
    loss = sol.loss(2.5)
    again = pickle.loads(pickle.dumps(sol))
    assert len(pickle.dumps(sol)) == len(before)
    assert again.loss(2.5) == loss
