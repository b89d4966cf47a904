"""Parallel neurons go on as one: the same run with fewer neurons, of which all are known."""

from __future__ import annotations

import numpy as np
import pytest
from support import EPS

import flowsim as fs
from flowsim.cells import Cells
from flowsim.engines import Piecewise
from flowsim.engines.piecewise.coalescence import coalesced
from flowsim.events import ALIVE
from flowsim.solution import States
from flowsim.state import State

APART = Piecewise(coalesce=0.0)
PAIR = fs.datasets.orthogonal_pair()
TEACHER = fs.datasets.linear_teacher(12, 3, noise=0.5, seed=0)


def multiples(net: fs.TwoLayerReLU, copies: int, seed: int = 0) -> fs.TwoLayerReLU:
    """Return a network of the same function whose neurons are `copies` multiples of each one's."""
    shares = np.random.default_rng(seed).dirichlet(np.ones(copies), net.m)  # of squared size
    rows = np.repeat(np.arange(net.m), copies)
    log_scale = net.log_norm[rows] + 0.5 * np.log(shares.ravel())
    direction = net.direction[rows]
    return fs.TwoLayerReLU(
        direction[:, 0], direction[:, 1:], net.negative_slope, log_scale=log_scale
    )


def rows_at_end(run: fs.Solution) -> int:
    """Return how many neurons have gone on at the end, of those that have moved at all."""
    assert run.restart is not None
    assert isinstance(run.states, States)
    moving = run.states.fate[0] == ALIVE
    return (
        len(np.unique(run.restart.leader[moving]))
        if len(run.restart.leader)
        else int(np.sum(moving))
    )


def by_neuron(run: fs.Solution) -> fs.Events:
    """Return pattern events, those of each neuron in the order of time."""
    found = run.events.where("pattern")
    return found.select(np.lexsort((found.sample, found.t, found.neuron)))


def assert_same_events(one: fs.Solution, other: fs.Solution, rtol: float) -> None:
    a, b = by_neuron(one), by_neuron(other)
    for name in ("neuron", "sample", "before", "after"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    np.testing.assert_allclose(a.t, b.t, rtol=rtol)
    for kind in ("death", "sign_change", "origin", "ambiguous"):
        assert len(one.events.where(kind)) == len(other.events.where(kind)), kind


#: Networks and data, and how many of 3m neurons are none's multiple.
SYSTEMS = {
    "slides and deaths": (fs.init.balanced(10, 2, 1e-4, seed=0), PAIR, {}),
    "crossings": (fs.init.balanced(8, 3, 1e-3, seed=0), TEACHER, {"t1": 60.0}),
    "unbalanced": (
        fs.init.unbalanced(6, 2, 1e-2, seed=1), fs.datasets.five_points(), {"t1": 60.0},
    ),
    "leaky": (
        fs.init.balanced(6, 3, 1e-3, seed=2, negative_slope=0.2), TEACHER, {"t1": 40.0},
    ),
    "frozen": (
        fs.init.balanced(6, 2, 1e-2, seed=0), fs.datasets.xor(), {"t1": 9.0, "residual": "frozen"},
    ),
    "tiny": (fs.init.balanced(5, 2, log10_scale=-3000, seed=1), PAIR, {}),
}  # fmt: skip


@pytest.fixture(scope="module", params=SYSTEMS)
def pair(request) -> tuple[fs.Solution, fs.Solution, fs.Solution]:
    """Return the run of a network, of one of three multiples of each neuron, and that apart."""
    net, data, options = SYSTEMS[request.param]
    split = multiples(net, 3)
    return (
        fs.simulate(net, data, end="rest", **options),
        fs.simulate(split, data, end="rest", **options),
        fs.simulate(split, data, engine=APART, end="rest", **options),
    )


def test_multiples_go_on_as_the_neurons_that_they_are_multiples_of(pair):
    single, split, apart = pair
    assert rows_at_end(split) == rows_at_end(single)
    assert rows_at_end(apart) == np.sum(apart.states.fate[0] == ALIVE)
    assert_same_events(split, apart, 1e-10)
    assert len(by_neuron(split).t) == 3 * len(by_neuron(single).t)


def test_all_neurons_are_known_at_any_time(pair):
    single, split, apart = pair
    for part in (0.0, 0.3, 0.7, 1.0):
        t = part * min(single.t_end, split.t_end, apart.t_end)
        one, parts, alone = single.network(t), split.network(t), apart.network(t)
        rows = np.repeat(np.arange(one.m), 3)
        np.testing.assert_allclose(parts.direction, one.direction[rows], atol=1e-10)
        np.testing.assert_allclose(parts.direction, alone.direction, atol=1e-10)
        grown = (one.log_norm - single.initial.log_norm)[rows]
        off = parts.log_norm - split.initial.log_norm - grown
        assert np.all(np.abs(off) <= 1e-10 * (1.0 + np.abs(grown)))
        np.testing.assert_array_equal(split.pattern(t), apart.pattern(t))


def test_histories_and_ends_are_those_of_all_neurons(pair):
    single, split, apart = pair
    assert (split.status, split.final.kind) == (apart.status, apart.final.kind)
    for i in (0, -1):
        assert split.history.alive[i] == apart.history.alive[i] == 3 * single.history.alive[i]
    np.testing.assert_array_equal(split.final.fate, apart.final.fate)
    np.testing.assert_array_equal(split.final.code, apart.final.code)
    assert split.final.loss == pytest.approx(apart.final.loss, rel=1e-9, abs=1e-20)
    assert max(split.audit.values()) < 1e-10
    np.testing.assert_allclose(split.alignment.end_time, apart.alignment.end_time, rtol=1e-10)


def test_one_input_dimension_leaves_a_neuron_for_each_sign_and_side():
    data = fs.Dataset(np.array([[1.0], [2.0], [-1.0], [-0.5]]), np.array([1.0, 1.5, 0.3, -0.2]))
    net = fs.init.balanced(300, 1, 1e-3, seed=0)
    run, apart = (
        fs.simulate(net, data, end="rest"),
        fs.simulate(net, data, engine=APART, end="rest"),
    )
    assert rows_at_end(run) == 4
    assert_same_events(run, apart, 1e-12)
    assert run.final.loss == pytest.approx(apart.final.loss, rel=1e-12)


def test_what_alignment_has_made_parallel_to_rounding_goes_on_as_one():
    net = fs.init.balanced(60, 3, log10_scale=-300, seed=0)
    run, apart = (
        fs.simulate(net, TEACHER, end="rest"),
        fs.simulate(net, TEACHER, engine=APART, end="rest"),
    )
    assert rows_at_end(run) < 20
    assert_same_events(run, apart, 1e-10)
    assert run.final.loss == pytest.approx(apart.final.loss, rel=1e-10)


def how_far_off(angle: float) -> tuple[float, float]:
    """Return how far outputs are off at most, in norms of y, and directions at the end."""
    net = fs.init.balanced(100, 3, 1e-6, seed=0)
    one, apart = (
        fs.simulate(net, TEACHER, engine=Piecewise(coalesce=c), t1=40.0) for c in (angle, 0.0)
    )
    assert rows_at_end(one) < 100
    assert len(one.events) == len(apart.events)
    outputs = [
        one.network(t)(TEACHER.X) - apart.network(t)(TEACHER.X) for t in np.linspace(5.0, 40.0, 60)
    ]
    directions = one.final.network.direction - apart.final.network.direction
    scale = np.linalg.norm(TEACHER.y)
    return float(np.max(np.linalg.norm(outputs, axis=1)) / scale), float(np.max(abs(directions)))


@pytest.mark.parametrize("angle", [1e-3, 1e-4, 1e-5])
def test_outputs_are_off_by_the_square_of_the_angle(angle):
    outputs, directions = how_far_off(angle)
    assert 0.01 * angle < directions < angle
    assert outputs < angle**2 + 1e-12


def test_members_keep_their_shares_of_any_size():
    cells = Cells.of(PAIR, 0.0, "half_mean", np.zeros(2))
    direction, log_scale = np.array([[0.6, 0.8]] * 4), np.array([0.0, -1.0, -2000.0, -3.0])
    direction[3] = [0.8, 0.6]
    net = fs.TwoLayerReLU(np.full(4, 1.5), direction, log_scale=log_scale)
    state = State.of(net, cells)
    found = coalesced(state, np.zeros(4, int), 2 * EPS)
    assert found is not None
    one, members = found
    np.testing.assert_array_equal(members.leader, [0, 0, 0, 1])
    np.testing.assert_array_equal(members.count, [3, 1])
    mean = one.network(net, cells)
    assert mean.log_norm[0] == pytest.approx(net.log_norm[0] + 0.5 * np.log1p(np.exp(-2.0)))
    assert mean.a[0] ** 2 - np.sum(mean.W[0] ** 2) == pytest.approx((1.5**2 - 1) * (1 + np.e**-2))
    again = members.spread(one).network(net, cells)
    np.testing.assert_allclose(again.log_norm, net.log_norm, rtol=4 * EPS, atol=4 * EPS)
    np.testing.assert_allclose(again.direction, net.direction, atol=4 * EPS)


def test_neurons_that_coalesce_twice_are_parts_of_the_last_one():
    cells = Cells.of(PAIR, 0.0, "half_mean", np.zeros(2))
    w = np.array([[0.6, 0.8], [0.6, 0.8 + 1e-9], [0.6, 0.8], [0.8, 0.6]])
    net = fs.TwoLayerReLU(np.array([2.0, 4.0, 6.0, 2.0]), w * np.array([[1], [2], [3], [1]]))
    state = State.of(net, cells)
    first = coalesced(state, np.zeros(4, int), 2 * EPS)
    assert first is not None
    second = coalesced(first[0], np.zeros(3, int), 1e-6)
    assert second is not None
    members = second[1].after(first[1])
    np.testing.assert_array_equal(members.leader, [0, 0, 0, 1])
    again = members.spread(second[0]).network(net, cells)
    np.testing.assert_allclose(again.a, net.a, rtol=1e-8)
    np.testing.assert_allclose(again.W, net.W, rtol=1e-8)


@pytest.mark.parametrize(
    ("net", "slot"),
    [
        (fs.TwoLayerReLU([1.0, 1.0], [[0.6, 0.8], [0.6, 0.8]]), [0, 1]),  # in two cells
        (fs.TwoLayerReLU([1.0, 1.0], [[0.6, 0.8], [0.6, 0.8]]), [-1, -1]),  # that do not move
        (fs.TwoLayerReLU([1.0, -1.0], [[0.6, 0.8], [0.6, 0.8]]), [0, 0]),
        (fs.TwoLayerReLU([1.0, 1.0], [[0.6, 0.8], [0.6, 0.801]]), [0, 0]),
        (fs.TwoLayerReLU([1.0, 2.0], [[0.6, 0.8], [0.6, 0.8]]), [0, 0]),
    ],
)
def test_others_stay_apart(net, slot):
    state = State.of(net, Cells.of(PAIR, 0.0, "half_mean", np.zeros(2)))
    assert coalesced(state, np.array(slot), 1e-6) is None


@pytest.mark.parametrize("angle", [-1.0, 0.02, float("inf")])
def test_angles_beyond_reason_are_refused(angle):
    with pytest.raises(ValueError, match=r"Argument `coalesce` must be in \[0, 0.01\], but is"):
        Piecewise(coalesce=angle)


@pytest.mark.parametrize("angle", ["1e-6", None])
def test_angles_must_be_numbers(angle):
    with pytest.raises(TypeError, match="Argument `coalesce` must be a real number"):
        Piecewise(coalesce=angle)
