"""What crossings do to other neurons inside a step, and what that is checked against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from run_comparison import compare_runs

import flowsim as fs
from flowsim.cells import TOUCH, Cells
from flowsim.engines import Piecewise
from flowsim.engines.piecewise import (
    Integrator,
    added,
    crossings,
    feedback,
    lengths,
    walk_turn,
)
from flowsim.engines.piecewise.crossings import PATTERN, Crossings
from flowsim.events import ALIVE, EventLog
from flowsim.state import State


def _flow(
    seed: int, n: int = 8, d: int = 3, m: int = 6, slope: float = 0.0, every_event: bool = False
) -> Integrator:
    """Return the flow of large random neurons, all of which matter to each other."""
    rng = np.random.default_rng([3, seed])
    data = fs.Dataset(rng.standard_normal((n, d)), rng.standard_normal(n))
    net = fs.init.balanced(m, d, 0.3, seed=seed, negative_slope=slope)
    cells = Cells.of(data, slope, "half_mean", net(data.X), 1e-12)
    flow = Integrator(cells, State.of(net, cells), 1e-12, every_event=every_event)
    flow.start()
    return flow


def _advance(flow: Integrator, end: float) -> EventLog:
    log = EventLog()
    while flow.time < end:
        flow.take(flow.plan(flow.expand(), end - flow.time), log)
    return log


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_the_kernel_is_that_of_the_residuals_decay(slope: float) -> None:
    """r' = -K r, on slides as off them."""
    flow = _flow(1, slope=slope)
    for end in (0.0, 2.0, 8.0):
        _advance(flow, end)
        e = flow.expand()
        K = feedback.Kernel(flow, e)
        scale = np.abs(e.r[1]).max()
        np.testing.assert_allclose(K(e.r[0]), -e.r[1], atol=1e-13 * scale)


def _long_step(flow: Integrator, effect: float) -> tuple[float, feedback.Feedback]:
    """Take a step whose crossings turn neurons by about `effect`; return its time and that."""
    flow.allowance = effect
    step = flow.plan(flow.expand(), np.inf)
    assert step.walked is not None
    found = step.walked.feedback
    flow.take(step, EventLog())
    return step.tau, found


def _error(flow: Integrator, exact: Integrator) -> float:
    a, b = (
        np.ldexp(f.state.z, (f.state.exponent - exact.state.exponent)[:, None].astype(int))
        for f in (flow, exact)
    )
    return float(np.max(np.linalg.norm(a - b, axis=1)))


#: Seeds, and slopes, of systems in which a neuron crosses soon.
CROSSING = [(seed, slope) for seed in range(12) for slope in (0.0, 0.3)]


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps have errors of any size."""
    monkeypatch.setattr(lengths, "may_be_longer", lambda *args: 1.0)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("effect", [1e-9, 1e-7])
def test_what_crossings_do_to_others_is_known_to_first_order(effect: float) -> None:
    """The state behind them is right to a small part of it, and to about what is said."""
    ratios = []
    for seed, slope in CROSSING:
        flow, exact = _flow(seed, slope=slope), _flow(seed, slope=slope, every_event=True)
        tau, found = _long_step(flow, effect)
        if found.turned < 0.01 * effect:
            continue
        _advance(exact, tau)
        error = _error(flow, exact)
        assert error <= 0.2 * found.turned
        assert error <= 3.0 * found.error + 1e-12
        ratios.append(error / found.turned)
    assert len(ratios) >= 8
    assert np.median(ratios) < 1e-3


@pytest.mark.usefixtures("lenient")
def test_what_had_been_added_by_a_crossing_is_known_to_leading_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the end it is what walkers' outputs were integrated to, the better the shorter the step.

    Slides on the way, and deaths, are no exceptions.
    """
    wholes, left, add_up, turn = [], [], added.add_up, Crossings.turn

    def seen(crossings: Crossings, whole: np.ndarray, *others: Any) -> float:
        wholes.append(whole)
        return turn(crossings, whole, *others)

    def noted(*args: Any) -> None:
        add_up(*args)
        left.append(np.linalg.norm(wholes[-1] - args[-1]) / np.linalg.norm(wholes[-1]))

    monkeypatch.setattr(Crossings, "turn", seen)
    monkeypatch.setattr(added, "add_up", noted)
    medians = []
    for effect in (1e-8, 1e-10):
        left.clear()
        for seed, slope in CROSSING:
            flow = _flow(seed, n=20, m=20, slope=slope)
            for _ in range(10):
                _long_step(flow, effect)
        medians.append(float(np.median(left)))
    assert medians[0] < 0.05
    assert medians[1] < 0.5 * medians[0]


def test_a_neuron_turned_back_over_a_hyperplane_crosses_it_in_the_next_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the step ends just behind a crossing, and the turning is larger than the way since."""
    undone = 0
    undo = Crossings._undo_early_crossings

    def counted(crossings: Crossings) -> None:
        nonlocal undone
        before = len(crossings.party.log[0])
        undo(crossings)
        undone += before - len(crossings.party.log[0])

    monkeypatch.setattr(Crossings, "_undo_early_crossings", counted)
    for seed in range(4):
        flow, log = _flow(seed, n=30, m=40), EventLog()
        for _ in range(200):
            e = flow.expand()
            step = flow.plan(e, np.inf)
            assert step.walked is not None
            party = step.walked.party
            if party is not None and party.summed:  # end it again, just behind a crossing
                _, x, _ = party.log
                tau = float(x[-1]) * e.unit * (1.0 + 1e-13)
                step.tau = min(tau, step.tau)
                step.walked = flow._walked(step, step.tau)
                step.moved = flow._moved(step, step.tau, step.walked)
            party = step.walked.party
            flow.take(step, log)
            state = flow.state
            if party is not None:
                rows = party.log[0]
                rows = rows[(rows[:, 1] == PATTERN) & (rows[:, 3] == -rows[:, 4])]
                j, g, after = party.neurons[rows[:, 0]], rows[:, 2], rows[:, 4]
                margin = np.sum(state.z[j, 1:] * flow.cells.normals[g], axis=1)
                there = (state.code[j, g] == after) & (state.fate[j] == ALIVE)
                assert np.all((after * margin)[there] >= -TOUCH)
    assert undone > 0


def test_short_steps_are_of_low_order() -> None:
    """Where crossings cut steps to a small part of what Taylor's would be."""
    flow = _flow(2, n=40, m=60)
    orders, log = [], EventLog()
    for _ in range(100):
        e = flow.expand()
        orders.append(e.order)
        step = flow.plan(e, np.inf)
        assert step.tau <= e.step
        flow.take(step, log)
    assert min(orders) < flow.order
    assert max(orders) == flow.order


@pytest.mark.parametrize("seed", range(3))
def test_many_heavy_neurons_at_one_hyperplane(seed: int) -> None:
    """A cluster crosses one hyperplane after the other, in steps of many crossings each."""
    rng = np.random.default_rng([5, seed])
    data = fs.datasets.linear_teacher(15, 3, noise=0.5, seed=seed)
    W = rng.standard_normal(3) + 1e-3 * rng.standard_normal((40, 3))
    W *= 0.1 / np.linalg.norm(W, axis=1, keepdims=True)
    net = fs.init.from_arrays(np.full(40, 0.1), W)
    every, two = (
        fs.simulate(net, data, t1=20.0, engine=Piecewise(every_event=e)) for e in (True, False)
    )
    found = compare_runs(every, two)
    assert found.same_events
    assert found.time < 1e-9
    assert found.state < 1e-9
    assert len(every.events) > 100
    assert 2 * two.steps < every.steps


@pytest.mark.usefixtures("lenient")
def test_the_shape_of_what_is_of_third_order_is_that_of_all_crossings_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shape_of, seen = added.shape_of, []

    def noted(*args: Any) -> float:
        by_then = shape_of(*args)
        order, x, strength, middle, end, shape = args
        at = x[order]
        times = np.append(at, [middle, end])
        cubes = np.maximum(times[:, None] - at, 0.0) ** 3 @ strength[order]
        if cubes[-1] > 0.0:  # neurons that are small beyond measure have no strength
            parts = np.append(shape[order], by_then)
            np.testing.assert_allclose(parts, cubes[:-1] / cubes[-1], atol=1e-7)
            seen.append(np.max(shape[order]))
        return by_then

    monkeypatch.setattr(added, "shape_of", noted)
    for seed, slope in CROSSING:
        flow = _flow(seed, n=20, m=20, slope=slope)
        for _ in range(5):
            _long_step(flow, 1e-8)
    assert len(seen) > 10
    assert max(seen) > 0.1


def test_a_crossing_that_is_moved_moves_the_neurons_next_one() -> None:
    """What the first has turned the neuron by acts along the second's normal."""
    rows = np.array([[0, PATTERN, 0, -1, 1], [0, PATTERN, 1, -1, 1]], np.int32)
    x, felt, unit = np.array([0.2, 0.6]), np.array([[4e-3, 1e-3], [1e-3, 0.0]]), 2.0
    v, jumps = np.array([2.0, -1.5]), np.array([[0.5, 0.3], [0.2, 0.1]])
    steep = np.column_stack([np.ones(2), v, np.zeros(2), np.eye(2), jumps])
    F0, moved, later = np.zeros((1, 2)), np.zeros(2), np.zeros(1)
    walk_turn.turn_crossing(
        rows, x, steep, 0.2, unit, np.eye(2), np.ones((1, 3)), TOUCH, felt, np.zeros(2), 0.0,
        np.zeros((1, 2)), np.zeros((1, 3, 2)), np.zeros(2), F0, moved, later,
    )  # fmt: skip
    by_first = felt[0, 1] * np.array([1.0, 0.0]) + felt[0, 0] / v[0] * jumps[0]
    turned = felt[1, 0] + by_first[1]
    np.testing.assert_allclose(moved, [-felt[0, 0] / (unit * v[0]), -turned / (unit * v[1])])
    np.testing.assert_allclose(F0[0], by_first + turned / v[1] * jumps[1])


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 1.0])
def test_the_third_order_goes_through_what_is_known_of_it(part: float) -> None:
    """None at the start, all at the end, and halfway what the kernel says."""
    fields, by_then = np.array([[2.0, 0.0], [0.0, 0.0], [0.5, 0.0]]), 0.3
    normal = np.array([1.0, 0.0])
    got, unsure = walk_turn._third_order(part, by_then, normal, fields)
    known = {0.0: 0.0, 0.3: 0.3 * 2.0 + 0.5, 0.7: 0.7 * 2.0 + 0.5, 1.0: 2.0}
    assert got == pytest.approx(known[part])
    assert unsure == pytest.approx(0.5 if 0.0 < part < 1.0 else 0.0)


@pytest.mark.usefixtures("lenient")
def test_blocks_of_samples_make_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """On however many threads, and up to rounding for blocks of any size."""
    found = []
    for samples, worth in ((512, 2**15), (7, 0), (7, 2**40)):
        monkeypatch.setattr(crossings, "SAMPLES", samples)
        monkeypatch.setattr(crossings, "WORTH", worth)
        flow = _flow(3, n=20, m=20)
        for _ in range(5):
            _long_step(flow, 1e-8)
        found.append(flow.state.z.copy())
    np.testing.assert_array_equal(found[1], found[2])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


def test_what_a_slide_has_kept_a_neuron_from_is_taken_back_when_a_crossing_ends_it() -> None:
    """Along the direction that becomes free, and for later crossings, too."""
    rows = np.array([[0, PATTERN, 0, 0, 1], [0, PATTERN, 1, -1, 1]], np.int32)
    x, felt = np.array([0.2, 0.6]), np.array([[4e-3, 1e-3], [1e-3, 0.0]])
    free, v = np.array([0.8, 0.6]), -1.5
    steep = np.zeros((2, 7))
    steep[0, 0], steep[0, 3:5] = 1.0, free
    steep[1, :2], steep[1, 3:5] = (1.0, v), (0.0, 1.0)
    F0, moved, later = np.full((1, 2), 0.1), np.zeros(2), np.zeros(1)
    walk_turn.turn_crossing(
        rows, x, steep, 0.2, 1.0, np.eye(2), np.ones((1, 3)), TOUCH, felt, np.zeros(2), 0.0,
        np.zeros((1, 2)), np.zeros((1, 3, 2)), np.zeros(2), F0, moved, later,
    )  # fmt: skip
    taken_back = felt[0, 1] * np.array([1.0, 0.0]) - felt[0, 0] * free
    np.testing.assert_allclose(F0[0], 0.1 + taken_back)
    np.testing.assert_allclose(moved, [0.0, -(felt[1, 0] + taken_back[1]) / v])


@pytest.mark.usefixtures("lenient")
def test_a_step_in_which_a_crossing_ends_a_slide_is_right() -> None:
    """The neuron was heavily turned by others by then, along the slide's normal as well."""
    options: dict[str, Any] = {"n": 60, "d": 4, "m": 30}
    flow, exact = _flow(145, **options), _flow(145, every_event=True, **options)
    for _ in range(7):
        _, found = _long_step(flow, 1e-8)
    _advance(exact, flow.time)
    assert found.turned > 1e-9
    assert _error(flow, exact) < 0.03 * found.turned  # 0.11 if that were not taken back
