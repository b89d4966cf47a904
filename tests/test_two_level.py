"""Two-level steps of the piecewise engine, against a restart at every event."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from run_comparison import Comparison, System, compare_runs, events_by_row, nudged, random_system

import flowsim as fs
from flowsim.engines import Piecewise
from flowsim.engines.piecewise import blocks, walkers

#: What two-level steps may differ by: times relative, losses to the first one, states to norms.
TIME, LOSS, STATE = 1e-9, 1e-10, 1e-8
#: Seeds whose systems are far from separatrices, as a test below shows.
RANDOM = (1, 2, 3, 4, 5, 6, 7, 12, 14)
SHAPE = (10, 3, 12)
#: Seeds of `mixed`, likewise; the remainder by 10 is the kind. Not 0: there two mirrored slides end
#: within 2e-9 of each other, and a nudge of 1e-12 decides which first, and so when.
MIXED = (1, 2, 3, 5, 6, 7, 8, 14, 19, 20, 30)


def mixed(seed: int) -> tuple[System, dict[str, Any]]:
    """Draw a system of one of ten kinds that `random_system` has not, and its options."""
    rng = np.random.default_rng([11, seed])
    n, d, m = 8, 3, 10
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    scale, slope, init, t1 = 1e-4, 0.0, "balanced", math.inf
    options: dict[str, Any] = {}
    name = ("mirrored", "antipodal", "integers", "one dimension", "mean", "frozen", "large",
            "tiny", "growth", "leaky")[seed % 10]  # fmt: skip
    if name == "mirrored":
        init = "mirrored"
    elif name == "antipodal":  # half of the hyperplanes are shared by two samples, one by three
        X[n // 2 :] = -rng.uniform(0.5, 2.0, (n // 2, 1)) * X[: n // 2]
        X[-1] = 2.0 * X[0]
    elif name == "integers":
        X, y = rng.integers(-3, 4, (n, d)) + 0.0, rng.choice([-1.0, 1.0], n)
    elif name == "one dimension":
        X, init = X[:, :1], "unbalanced"
    elif name == "mean":
        options["loss"], init = "mean", "dominated"
    elif name == "frozen":
        options["residual"], t1 = "frozen", 30.0
    elif name == "large":
        scale, init, t1 = 1.0, "unbalanced", 20.0
    elif name == "tiny":
        scale, t1 = 1e-140, 200.0
    elif name == "growth":
        options["alignment"] = "growth"
    else:
        slope, init = 0.3, "unbalanced"
    net = fs.init.get(init)(m, X.shape[1], scale, seed=seed, negative_slope=slope)
    return System(f"{seed}: {name}", net, fs.Dataset(X, y), t1), options


@cache
def chosen(kind: str, seed: int) -> tuple[System, dict[str, Any]]:
    """Return a system, and options of its runs."""
    return (random_system(seed, SHAPE), {}) if kind == "random" else mixed(seed)


@cache
def runs(kind: str, seed: int) -> tuple[fs.Solution, fs.Solution]:
    """Return a system's run with a restart at every event, and the two-level one."""
    system, options = chosen(kind, seed)
    every = system.run(engine=Piecewise(every_event=True), max_steps=20_000, **options)
    return every, system.run(max_steps=20_000, **options)


def _is_the_same(c: Comparison) -> bool:
    return (
        c.same_events
        and c.time <= TIME
        and c.loss <= LOSS
        and max(c.state, c.end) <= STATE
        and c.same_kind
        and c.same_limit
    )


SYSTEMS = [("random", seed) for seed in RANDOM] + [("mixed", seed) for seed in MIXED]


@pytest.mark.parametrize(("kind", "seed"), SYSTEMS)
def test_a_two_level_run_is_the_one_from_event_to_event(kind: str, seed: int) -> None:
    """The same events in the same order, their times, losses and states within the tolerance."""
    every, two = runs(kind, seed)
    assert two.status == every.status
    assert two.status in ("t1", "stationary")
    comparison = compare_runs(every, two)
    assert _is_the_same(comparison), comparison
    # Where both end at rest, but not at once, patterns are those of the same time.
    t = 0.5 * min(every.t_end, two.t_end)
    np.testing.assert_array_equal(two.pattern(t), every.pattern(t))


@pytest.mark.parametrize(("kind", "seed"), SYSTEMS)
def test_the_systems_are_far_from_separatrices(kind: str, seed: int) -> None:
    """Else the test above would ask for more than the flow itself holds."""
    system, options = chosen(kind, seed)
    every, _ = runs(kind, seed)
    net = nudged(system.net)
    # The scale, by which growth is measured, is that of the initialisation, not of the nudge.
    net = fs.TwoLayerReLU(net.a, net.W, net.negative_slope, metadata=system.net.metadata)
    moved = fs.simulate(net, system.data, t1=system.t1, max_steps=20_000, **options)
    found = compare_runs(every, moved, samples=4)
    assert found.same_events
    assert found.time < 1e-5


def test_the_systems_have_all_that_can_happen_in_a_step() -> None:
    """Slides begin and end, neurons die, output weights change sign; most of it inside steps."""
    kinds: dict[str, int] = {}
    onto = off = inside = 0
    for kind, seed in SYSTEMS:
        two = runs(kind, seed)[1]
        for name in two.events.kind.tolist():
            kinds[name] = kinds.get(name, 0) + 1
        patterns = two.events.where("pattern")
        onto += int(np.sum(patterns.after == 0))
        off += int(np.sum(patterns.before == 0))
        inside += int(np.sum(~np.isin(patterns.t, two.history.t)))
    assert kinds["death"] > 5
    assert kinds["sign_change"] > 5
    assert onto > 50
    assert off > 10
    assert inside > 0.5 * kinds["pattern"]


@pytest.mark.parametrize("rtol", [1e-14, 1e-10, 1e-7])
def test_two_level_steps_are_as_accurate_as_those_from_event_to_event(rtol: float) -> None:
    """What crossings may do in a step grows and shrinks with rtol, as the steps' own error does."""
    # Until it is learnt: near rest, loose tolerances chatter.
    system = replace(chosen("random", 4)[0], t1=20.0)
    exact = system.run(rtol=1e-15, engine=Piecewise(every_event=True))
    every, two = (
        compare_runs(exact, system.run(rtol=rtol, max_steps=5000, engine=Piecewise(every_event=e)))
        for e in (True, False)
    )
    assert every.same_events
    assert two.same_events
    for name in ("time", "loss", "state"):
        assert getattr(two, name) <= 10.0 * (getattr(every, name) + rtol)


# -- how much work it is --------------------------------------------------------------------------


@cache
def many_light(every_event: bool) -> fs.Solution:
    """Return a run of many small neurons, whose crossings hardly move the residual."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((15, 3))
    data = fs.Dataset(X, X @ rng.standard_normal(3) + 0.3 * rng.standard_normal(15))
    net = fs.init.balanced(200, 3, 1e-6, seed=3)
    return fs.simulate(net, data, t1=20.0, engine=Piecewise(every_event=every_event))


def test_light_neurons_cross_without_ending_steps() -> None:
    every, two = many_light(True), many_light(False)
    crossings = len(np.unique(every.events.t))
    assert crossings > 800
    assert every.steps >= crossings
    assert 10 * two.steps < crossings
    assert _is_the_same(compare_runs(every, two))


def test_a_heavy_neuron_still_ends_steps_where_it_crosses() -> None:
    """At λ = 1 a crossing bends the residual at once: steps must end there, or soon behind."""
    rng = np.random.default_rng(5)
    data = fs.Dataset(rng.standard_normal((10, 2)), rng.standard_normal(10))
    net = fs.init.balanced(3, 2, 1.0, seed=5)
    every, two = (
        fs.simulate(net, data, t1=10.0, engine=Piecewise(every_event=e)) for e in (True, False)
    )
    crossings = np.unique(every.events.where("pattern").t)
    assert len(crossings) >= 4
    t = two.history.t
    end = np.searchsorted(t, np.unique(two.events.where("pattern").t))
    behind = t[end] - np.unique(two.events.where("pattern").t)
    assert np.all(behind < 0.01 * (t[end] - t[end - 1]))
    assert _is_the_same(compare_runs(every, two))


def test_a_long_stiff_tail_takes_few_steps() -> None:
    """Its slow directions take hundreds of times longer than the fast ones, which are at rest."""
    data = fs.datasets.five_points()
    net = fs.init.balanced(16, 2, 1e-6, seed=0)
    every, two = (
        fs.simulate(net, data, engine=Piecewise(every_event=e), end="rest") for e in (True, False)
    )
    assert every.steps > 2000
    assert 5 * two.steps < every.steps
    for sol in (every, two):
        assert (sol.status, sol.final.kind) == ("stationary", "interpolation")
        assert sol.final.loss < 1e-16
    # The longest step is longer than many of a method whose steps the fast directions bound.
    assert np.diff(two.history.t).max() > 20 * np.diff(every.history.t)[-100:].max()
    assert _is_the_same(compare_runs(every, two))


# -- inside steps ---------------------------------------------------------------------------------


def test_dense_output_inside_a_step_walks_with_the_neurons() -> None:
    """Between two events of one step some neurons are in new cells, others not yet."""
    every, two = many_light(True), many_light(False)
    times = np.unique(two.events.t)
    step = np.searchsorted(two.history.t, times)
    busiest = np.bincount(step).argmax()
    inside = times[step == busiest]
    assert len(inside) >= 8
    for before, after in zip(inside[:-1:2], inside[1::2], strict=False):
        if after - before < 1e-9 * after:
            continue
        t = 0.5 * (before + after)
        np.testing.assert_array_equal(two.pattern(t), every.pattern(t))
        a, b = every.network(t), two.network(t)
        # Neurons are of size 1e-7: relative to each one's norm.
        np.testing.assert_allclose(b.direction, a.direction, rtol=0.0, atol=STATE)
        np.testing.assert_allclose(b.log_norm, a.log_norm, rtol=0.0, atol=STATE)
        assert two.loss(t) == pytest.approx(every.loss(t), rel=LOSS)
        changed = two.events.where("pattern")
        begun, ended = changed.t > two.history.t[busiest - 1], changed.t < t
        assert np.any(begun & ended)


def test_dense_output_from_thinned_states_agrees_with_all_of_them() -> None:
    """It replays the run from a state long before, over several steps and their events."""
    two = many_light(False)
    system = fs.simulate(two.initial, two.data, t1=two.t_end, state_bytes=1)
    assert system.steps == two.steps
    patterns = two.events.where("pattern").t
    for t in np.linspace(0.3, 19.7, 25):
        if np.min(np.abs(patterns - t)) < 1e-9 * t:
            continue
        np.testing.assert_array_equal(system.pattern(t), two.pattern(t))
        a, b = two.network(t), system.network(t)
        np.testing.assert_allclose(b.direction, a.direction, rtol=0.0, atol=STATE)
        assert system.loss(t) == pytest.approx(two.loss(t), rel=LOSS)


# -- threads --------------------------------------------------------------------------------------


class Threads:
    """A pool of a number of threads that counts what it is given."""

    def __init__(self, count: int) -> None:
        self.pool, self.tasks = ThreadPoolExecutor(count), 0

    def map(self, function: Any, items: Any) -> Any:
        items = list(items)
        self.tasks += len(items)
        return self.pool.map(function, items)


def test_a_run_is_the_same_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: blocks of groups are added in one order, walkers do not see each other."""
    rng = np.random.default_rng(8)
    X = rng.standard_normal((100, 6))
    data = fs.Dataset(X, X @ rng.standard_normal(6) + rng.standard_normal(100))
    net = fs.init.balanced(600, 6, 1e-4, seed=8)
    found = {}
    for count in (1, 2, 3):
        threads = {module: Threads(count) for module in (blocks, walkers)}
        for module, used in threads.items():
            monkeypatch.setattr(module, "available_cores", lambda count=count: count)
            monkeypatch.setattr(module, "pool", lambda used=used: used)
        found[count] = fs.simulate(net, data, t1=2.0)
        for used in threads.values():
            used.pool.shutdown()
            assert (used.tasks > 0) == (count > 1)  # else nothing would be compared
    assert len(found[1].events) > 1000
    for count in (2, 3):
        one, other = found[1], found[count]
        for name in ("t", "kind_code", "neuron", "sample", "before", "after"):
            np.testing.assert_array_equal(getattr(other.events, name), getattr(one.events, name))
        for name in ("t", "loss", "speed"):
            np.testing.assert_array_equal(getattr(other.history, name), getattr(one.history, name))
        np.testing.assert_array_equal(other.final.network.W, one.final.network.W)
        np.testing.assert_array_equal(other.final.network.a, one.final.network.a)


# -- where steps could go wrong -------------------------------------------------------------------

TWO_POINTS = ((1.0, 0.0), (0.6, 0.8))


@pytest.mark.parametrize("y2", [100.0, 1000.0])
def test_a_walk_takes_steps_of_its_own_in_a_faster_cell(y2):
    """It starts on sample 1 alone, slowly, and crosses to one whose field is y2 times larger."""
    net = fs.TwoLayerReLU([1e-150], [[0.2e-150, -0.9e-150]])
    data = fs.Dataset(TWO_POINTS, [1.0, y2])
    run = fs.simulate(net, data, t1=2.0, residual="frozen")
    exact = fs.alignment.flow(net, data, t=2.0).network
    assert run.final.network.log_norm[0] == pytest.approx(exact.log_norm[0], abs=1e-10)
    assert run.audit["correction"] < 1e-13


def test_growth_inside_a_faster_cell_ends_the_alignment_in_time():
    metadata = {"kind": "balanced", "scale": 1e-12, "log10_scale": -12.0, "seed": 0}
    net = fs.TwoLayerReLU([1e-12], [[0.2e-12, -0.9e-12]], metadata=metadata)
    ends = [
        fs.simulate(
            net, fs.Dataset(TWO_POINTS, [1.0, 80.0]), t1=1.9, residual="frozen",
            alignment="growth", alignment_epsilon=0.08, engine=Piecewise(every_event=every),
        ).alignment.end_time
        for every in (True, False)
    ]  # fmt: skip
    assert ends[1] == pytest.approx(ends[0], rel=1e-9)


def test_a_neuron_that_ends_its_step_at_the_origin_stays_there():
    """It slides on one hyperplane of antipodal points and reaches w = 0, where all meet."""
    X = np.array([[1.707, -1.224], [-0.228, -0.741], [0.178, 1.188], [0.930, -0.007]])
    data = fs.Dataset(np.vstack([X, -X]), np.ones(8))
    for w in np.random.default_rng(0).standard_normal((10, 2)) * 1e-4:
        net = fs.TwoLayerReLU([-4.0567e-4], [w])
        run = fs.simulate(net, data, residual="frozen", t1=5.0)
        exact = fs.alignment.flow(net, data, t=5.0)
        assert len(run.events.where("origin")) == len(exact.events.where("origin")) == 1


def test_what_stands_still_is_at_rest_at_once():
    """The neuron dies, and stationary_rtol = 0 looks at nothing else."""
    net = fs.TwoLayerReLU([-1e-3], [[0.8e-3, 0.6e-3]])
    run = fs.simulate(net, fs.Dataset(TWO_POINTS, [1.0, 1.0]), stationary_rtol=0.0)
    assert run.status == "stationary"
    assert run.steps < 10


FORKS = """
import os
from flowsim.engines.piecewise import blocks
before = blocks.pool()
assert before.submit(int).result(timeout=60) == 0
child = os.fork()
if child == 0:  # the parent's threads do not live here
    os._exit(blocks.pool().submit(lambda: 7).result(timeout=60))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert blocks.pool() is before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_threads_are_started_anew_after_a_fork():
    """In a process of its own: others, with JAX's threads, must not be forked."""
    subprocess.run([sys.executable, "-c", FORKS], check=True, timeout=300)


@pytest.mark.parametrize("log10_scale", [-300, -3000])
def test_tiny_initialisations_take_no_more_steps(log10_scale):
    data = fs.datasets.three_points()
    tiny, small = (
        fs.simulate(fs.init.balanced(200, 2, log10_scale=e, seed=0), data)
        for e in (log10_scale, -6)
    )
    assert tiny.steps < 1.5 * small.steps
    assert tiny.final.limit_loss_exact == small.final.limit_loss_exact == "256/2925"


def test_a_step_in_closed_form_is_what_taylor_steps_make():
    """Until the end of alignment at lambda = 1e-30: 60 Taylor steps and more, or a few."""
    net = fs.init.balanced(40, 3, log10_scale=-30, seed=1)
    data = fs.datasets.linear_teacher(12, 3, noise=0.5, seed=1)
    system = System("closed form", net, data, 60.0)
    slow, fast = (system.run(engine=Piecewise(every_event=every)) for every in (True, False))
    found = compare_runs(slow, fast)
    assert found.same_events
    assert found.time < TIME
    assert found.state < STATE
    inside = 0.5 * (fast.history.t[0] + fast.history.t[1])
    assert fast.history.t[1] * fast.history.rate[0] > 4.0  # a Taylor step has 2 at most
    np.testing.assert_array_equal(fast.pattern(inside), slow.pattern(inside))
    apart = fast.network(inside).direction - slow.network(inside).direction
    assert np.abs(apart).max() < STATE


def test_slides_that_end_one_after_another_end_when_they_do():
    """What has left a slide bends the residual: the next slide's end must not be looked for then.

    In a system of the benchmark two ends, of five neurons and of two, fell into one step.
    """
    system = replace(random_system(69), t1=14.5)
    every, two = (system.run(engine=Piecewise(every_event=one)) for one in (True, False))
    left = [row for row, _ in events_by_row(two) if row[3] == 0]
    assert len(left) > 7
    c = compare_runs(every, two)
    assert c.same_events
    assert c.time <= 1e-10
