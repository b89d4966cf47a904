"""The closed-form alignment flow against exact times, high precision, and the engine."""

from __future__ import annotations

import math
from typing import Any, cast

import mpmath
import numpy as np
import pytest

import flowsim as fs
from derivations.crossing_times import crossing_time, sign_change_time
from derivations.growth_and_death import death_of_case_2
from derivations.linear_flow import exponential
from flowsim.alignment import switching, walk
from flowsim.alignment._limits import fields_of
from flowsim.alignment.switching import KEPT
from flowsim.cells import Cells
from tests.support import angle, balanced_neuron, neuron

THREE = fs.datasets.three_points()


def random_system(seed: int) -> tuple[fs.Dataset, fs.TwoLayerReLU]:
    """Draw data (general, integer, antipodal or with bias) and a network of any kind."""
    rng = np.random.default_rng(seed)
    n, d, m = int(rng.integers(2, 25)), int(rng.integers(1, 6)), int(rng.integers(2, 10))
    X = rng.standard_normal((n, d))
    kind = rng.integers(4)
    if kind == 1:
        X = np.round(2 * X)
        X[~X.any(axis=1)] = 1.0
    elif kind == 2:
        X = np.concatenate([X, -X])
    elif kind == 3 and d > 1:
        X[:, -1] = 1.0
    make = fs.init.KINDS[str(rng.choice(["balanced", "dominated", "unbalanced", "mirrored"]))]
    scale, slope = float(rng.choice([1e-12, 1e-6, 0.1])), float(rng.choice([0.0, 0.0, 0.1, 0.5]))
    net = make(m + m % 2, d, scale, seed, negative_slope=slope)
    return fs.Dataset(X, rng.standard_normal(len(X))), net


def table(events: fs.alignment.AlignmentFlow | fs.Solution) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of an event table neuron by neuron, and their times."""
    e = events.events
    kept = e.kind != "alignment_end"
    rows = np.column_stack([e.neuron, e.kind_code, e.sample, e.before, e.after])[kept]
    t = e.t[kept]
    order = np.lexsort((*rows.T[::-1], np.round(t, 8)))
    return rows[order], t[order]


# -- exact answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "t", "degrees"),
    [
        (45, 1, 75.81712021), (45, 5, 109.08921266), (60, 1, 84.80925471),
        (60, 5, 109.64371219), (150, 1, 130.74091084), (150, 5, 112.31261199),
    ],
)  # fmt: skip
def test_a_balanced_neuron_turns_by_the_half_angle_law(start, t, degrees):
    """Case 2: tan(phi/2) = tan(phi_0/2) exp(-|D| t), phi measured from D."""
    there = fs.alignment.flow(balanced_neuron(start), THREE, t)
    assert angle(there.network) == pytest.approx(degrees, abs=5.1e-9)


def test_a_negative_neuron_dies_on_the_exact_chain_of_case_2():
    end = fs.alignment.until(balanced_neuron(120, -1.0), THREE)
    exact = death_of_case_2()
    times = [float(t) for t in exact.times]
    np.testing.assert_allclose(end.events.t, [*times, times[-1]], rtol=1e-14)
    assert end.events.kind.tolist() == ["pattern"] * 3 + ["death"]
    assert end.events.sample.tolist() == [2, 1, 0, -1]
    assert math.exp(end.log_growth[0]) == pytest.approx(float(exact.ratio), rel=1e-13)
    np.testing.assert_array_equal(
        end.path(0).pattern, [[1, 1, 1], [1, 1, -1], [1, -1, -1], [-1, -1, -1]]
    )


def test_the_orthogonal_pair_slides_from_the_exact_time_on():
    """Case 3, with v_off = 0 exactly on the slide: a tie."""
    end = fs.alignment.until(balanced_neuron(90), fs.datasets.orthogonal_pair())
    assert end.events.t == pytest.approx([math.log(2 + math.sqrt(5)) / 1.25], rel=1e-14)
    np.testing.assert_array_equal(end.path(0).pattern, [[1, 1], [0, 1]])
    np.testing.assert_allclose(end.limit_D, [[1.0, 0.5]], rtol=1e-15)
    assert end.angle[0] == 0.0


def test_xor_meets_the_double_hyperplane_at_two_asinh_one():
    """Case 9: two antipodal samples switch together, from 0 degrees onto the diagonal."""
    end = fs.alignment.until(balanced_neuron(0, size=1e-9), fs.datasets.xor())
    np.testing.assert_allclose(end.events.t, [2 * math.asinh(1)] * 2, rtol=1e-14)
    assert set(end.events.after) == {0}
    assert angle(end.network) == pytest.approx(45.0, abs=1e-13)


@pytest.mark.parametrize("seed", range(40))
def test_first_crossings_agree_with_the_quadratic_in_120_digits(seed):
    """A random neuron, balanced or not; each of its crossings from its state just before."""
    data, net = random_system(seed)
    j = seed % net.m
    one = net.subset([j])
    if one.negative_slope:
        one = fs.TwoLayerReLU(one.a, one.W)
    end = fs.alignment.until(one, data)
    first = end.events.t[0] if len(end.events) else math.inf
    a, w = float(one.a[0]), one.W[0]
    D = np.array([math.fsum(c) for c in (data.y[:, None] * data.X * (data.X @ w > 0)[:, None]).T])
    times = [crossing_time(a, w, D / data.n, x) for x in data.X] if D.any() else []
    if abs(a) < np.linalg.norm(w) and D.any():
        times.append(sign_change_time(a, w, D / data.n))
    exact = min((float(t) for t in times if t is not None), default=math.inf)
    assert first == pytest.approx(exact, rel=1e-12)


def test_the_state_inside_a_cell_is_the_matrix_exponential():
    data = fs.Dataset([[1.0, 0.5, 0.2]], [1.3])
    net = neuron(0.7, [0.2, 0.3, -0.1])
    there = fs.alignment.flow(net, data, 2.5)
    z = exponential(1.3 * data.X[0], 2.5) @ [0.7, 0.2, 0.3, -0.1]
    np.testing.assert_allclose(there.network.a, z[:1], rtol=1e-14)
    np.testing.assert_allclose(there.network.W[0], z[1:], rtol=1e-14)


# -- against the engine ---------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(10))
def test_events_agree_with_the_engine_at_a_frozen_residual(block):
    """100 systems with slides, deaths, sign changes and passages of w = 0."""
    slides = 0
    for seed in range(10 * block, 10 * block + 10):
        data, net = random_system(1000 + seed)
        t = max(1.3 * fs.alignment.until(net, data, record=False).t, 1.0)
        here = fs.alignment.flow(net, data, t)
        run = fs.simulate(net, data, residual="frozen", t1=t, max_steps=20_000)
        (rows, times), (expected, their_times) = table(here), table(run)
        np.testing.assert_array_equal(rows, expected, err_msg=f"seed {1000 + seed}")
        np.testing.assert_allclose(times, their_times, rtol=1e-10, atol=1e-13)
        np.testing.assert_array_equal(here.fate, run.final.fate)
        end = run.final.network
        np.testing.assert_allclose(here.network.direction, end.direction, atol=1e-9)
        np.testing.assert_allclose(here.network.log_norm, end.log_norm, rtol=1e-10, atol=1e-9)
        slides += int(np.sum(rows[:, 4] == 0))
    assert slides > 10


# -- what must hold for any system -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_every_settled_neuron_ends_where_its_sign_is_attracted(seed):
    """Two independent computations: the walk, and the roles of critical directions."""
    data, net = random_system(3000 + seed)
    end = fs.alignment.until(net, data)
    assert end.status == "settled"
    assert len(end.limits) == len(end.limit_direction)
    going = np.flatnonzero(end.limit >= 0)
    sign = np.where(end.network.direction[going, 0] < 0, -1, 1)
    moving = end.network.direction[going, 0] != 0  # where a = 0 it has no sign yet
    for j, s in zip(going[moving], sign[moving], strict=True):
        role = end.limits[int(end.limit[j])].role
        if data.d > 1:
            assert (role.attracts, role.grows) == (s, end.grows[j])
    assert end.audit["cell_violation"] <= 1e-13
    assert end.audit["invariant_drift"] <= 1e-12


@pytest.mark.parametrize("seed", range(10))
def test_the_flow_composes(seed):
    """flow(t1 + t2) = flow(t2) after flow(t1)."""
    data, net = random_system(5000 + seed)
    t = 0.4 * fs.alignment.until(net, data).t + 0.1
    whole = fs.alignment.flow(net, data, 2 * t)
    first = fs.alignment.flow(net, data, t)
    second = fs.alignment.flow(first.network, data, t)
    np.testing.assert_allclose(second.network.direction, whole.network.direction, atol=1e-11)
    np.testing.assert_allclose(second.network.log_norm, whole.network.log_norm, atol=1e-9)
    parts = [len(part.events.where("pattern")) for part in (first, second, whole)]
    assert parts[0] + parts[1] == parts[2]


def test_the_scale_does_not_matter():
    """λ = 1e-3000 has the events of λ = 1, and grows by the same factor."""
    tiny = fs.alignment.until(fs.init.balanced(50, 2, log10_scale=-3000, seed=0), THREE)
    usual = fs.alignment.until(fs.init.balanced(50, 2, 1.0, seed=0), THREE)
    (rows, times), (expected, their_times) = table(tiny), table(usual)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(times, their_times, rtol=1e-12)
    np.testing.assert_allclose(tiny.log_growth, usual.log_growth, atol=1e-11)


def test_growth_goes_on_beyond_the_range_of_floats():
    """At t = 1e6 a neuron has grown by e^{|D| t} ((a + w.e)/2) / |(a, w)| up to e^{-2 |D| t}."""
    net = balanced_neuron(60)
    there = fs.alignment.flow(net, THREE, 1e6)
    D = mpmath.matrix([mpmath.mpf(-31) / 120, mpmath.mpf(2) / 3])
    rate = mpmath.norm(D)
    w = mpmath.matrix(net.W[0].tolist())
    u = mpmath.mpf(float(net.a[0])) + (w.T * D)[0] / rate
    expected = rate * 10**6 + mpmath.log(u / 2) - mpmath.log(1)
    # |(a, w)| is sqrt 2 at the start, and sqrt 2 a at the end.
    assert there.log_growth[0] == pytest.approx(float(expected), rel=1e-15)
    assert there.angle[0] == 0.0


def test_large_networks_are_walked_chunk_by_chunk_to_the_same_end():
    data = fs.datasets.linear_teacher(20, 3, seed=1)
    net = fs.init.balanced(9000, 3, 1e-6, seed=2)
    whole = fs.alignment.until(net, data)
    part = fs.alignment.until(net.subset(slice(5000, 5050)), data)
    np.testing.assert_array_equal(whole.last_event[5000:5050], part.last_event)
    np.testing.assert_array_equal(whole.changes[5000:5050], part.changes)
    np.testing.assert_array_equal(whole.path(5003).pattern, part.path(3).pattern)
    np.testing.assert_array_equal(
        whole.limit_direction[whole.limit[5000:5050]], part.limit_direction[part.limit]
    )


def test_neurons_come_as_close_to_their_limits_as_asked():
    data = fs.datasets.five_points()
    end = fs.alignment.until(fs.init.balanced(40, 2, 1e-6, seed=0), data, angle=1e-5)
    angles = end.angle[np.isfinite(end.angle)]
    assert len(angles) > 10
    assert np.max(angles) == pytest.approx(1e-5, rel=1e-9)


def test_a_neuron_of_an_exactly_repelling_direction_shrinks_there_for_ever():
    """Case 8's data: at w = -D a balanced neuron with a > 0 does not turn."""
    end = fs.alignment.flow(neuron(1.0, [-1.0, 0.0]), fs.datasets.symmetric_linear(), 100.0)
    assert end.settled[0]
    assert not end.grows[0]
    assert end.log_growth[0] == pytest.approx(-50.0, rel=1e-14)
    np.testing.assert_array_equal(end.direction, [[-1.0, 0.0]])


def test_what_does_not_move_is_said_not_to():
    data = fs.Dataset([[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0])
    W = [[-1.0, -1.0], [-1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    end = fs.alignment.until(fs.TwoLayerReLU([1.0, 1.0, 0.0, 1.0], W), data)
    assert end.fate.tolist() == [1, 0, 3, 0]  # dead, at rest (D = 0), zero
    assert end.limit.tolist() == [-1, -1, -1, 0]
    assert end.dead_fraction == 0.25


# -- extremes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-10, 1e-9, 1e-8, 1e-7, 1e-4, 1.0])
@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_neurons_with_tiny_a_cross_or_change_sign_when_they_should(size, margin):
    """w almost orthogonal to D: margin m e^{..} falls to 0 before a does if it is smaller."""
    x, q = np.array([1.0, 2.0, 2.0]) / 3, np.array([2.0, 1.0, -2.0]) / 3
    net = fs.TwoLayerReLU([size], [q + margin * size * x])
    data = fs.Dataset([x], [-1.0])
    end = fs.alignment.until(net, data)
    a, w, D = float(net.a[0]), net.W[0], -data.X[0]
    exact = crossing_time(a, w, D, data.X[0]) if margin < 1 else sign_change_time(a, w, D)
    assert end.events.kind[0] == ("pattern" if margin < 1 else "sign_change")
    # The rounding of w.x itself, relative to the margin, is what can be asked for.
    assert end.events.t[0] == pytest.approx(float(exact), rel=max(1e-13, 1e-15 / size))


@pytest.mark.parametrize("label", [1.0, 1e4, 1e8, 1e12])
def test_small_fields_after_large_ones_are_exact(label):
    """What rounding left of a label 1e12 times larger must not drive the neuron afterwards."""
    data = fs.Dataset([[1.1, 0.3], [-0.57, 1.3], [1.0, 0.3]], [-1.3 * label, 1.0, 0.0])
    w = [0.31, 1.0]
    end = fs.alignment.until(neuron(math.hypot(*w), w), data)
    assert end.events.sample[0] == 0
    first = end.events.t[0]
    there = fs.alignment.flow(neuron(math.hypot(*w), w), data, first).network
    exact = crossing_time(there.a[0], there.W[0], data.X[1] / 3, data.X[2])
    assert end.events.t[1] - first == pytest.approx(float(exact), rel=1e-13)


@pytest.mark.parametrize("size", [1e-150, 1e-80, 1e80, 1e150])
def test_the_size_of_the_data_only_sets_the_unit_of_time(size):
    unit = size * min(size, 1e100)
    data = fs.Dataset(THREE.X * size, THREE.y * min(size, 1e100))
    net = fs.init.balanced(30, 2, 1.0, seed=0)
    end, usual = fs.alignment.until(net, data), fs.alignment.until(net, THREE)
    np.testing.assert_array_equal(end.events.sample, usual.events.sample)
    np.testing.assert_allclose(end.events.t * unit, usual.events.t, rtol=1e-12)
    np.testing.assert_allclose(end.limit_norm / unit, usual.limit_norm, rtol=1e-13)


@pytest.mark.parametrize("tiny", [1e-10, 1e-12, 1e-15])
def test_every_limit_has_its_vector_also_within_rounding(tiny):
    data = fs.Dataset([[1.3, 0.2], [1.4, 0.2]], [-1.0, tiny])
    end = fs.alignment.until(fs.init.balanced(20, 2, 1e-3, seed=0), data)
    assert len(end.limits) == len(end.limit_direction)
    for vector, w in zip(end.limits, end.limit_direction, strict=True):
        np.testing.assert_allclose(vector.direction, w, atol=1e-9)


def test_networks_above_the_range_of_floats_are_followed():
    W = np.array([[1.0, 0.1], [0.6, 0.8]])
    usual = fs.alignment.until(fs.TwoLayerReLU([1.0, -1.0], W), THREE)
    large = fs.alignment.until(fs.TwoLayerReLU([1.0, -1.0], W, log_scale=715.0), THREE)
    np.testing.assert_allclose(large.events.t, usual.events.t, rtol=1e-12)
    np.testing.assert_allclose(large.log_growth, usual.log_growth, atol=1e-12)


def test_a_neuron_with_tiny_w_is_not_at_the_origin():
    """w_1' = a, a' = w_1: w_1 = sinh t for w = 1e-15 beside a = 1."""
    there = fs.alignment.flow(neuron(1.0, [1e-15, 1e-15]), fs.Dataset([[1, 0]], [1]), 2.0)
    assert there.fate[0] == 0
    assert there.network.W[0, 0] == pytest.approx(math.sinh(2.0), rel=1e-14)


def test_without_a_record_only_the_ends_are_known():
    net = fs.init.balanced(10, 2, 1e-6, seed=0)
    end = fs.alignment.until(net, THREE, record=False)
    full = fs.alignment.until(net, THREE)
    np.testing.assert_array_equal(end.changes, full.changes)
    assert full.changes.sum() == len(full.events.where("pattern"))
    with pytest.raises(ValueError, match=r"Argument `record` must be true"):
        end.path(0)
    with pytest.raises(IndexError):
        full.path(10)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda net: fs.alignment.flow(net, THREE, -1.0), "`t` must be finite and at least 0"),
        (lambda net: fs.alignment.flow(net, THREE, math.inf), "`t` must be finite"),
        (lambda net: fs.alignment.flow(net, THREE, cast(Any, "1")), "`t` must be a real number"),
        (
            lambda net: fs.alignment.flow(cast(Any, THREE), THREE, 1.0),
            "`net` must be a TwoLayerReLU",
        ),
        (lambda net: fs.alignment.flow(net, net, 1.0), "`data` must be a Dataset"),
        (lambda net: fs.alignment.flow(net, fs.Dataset([[1.0]], [1.0]), 1.0), "dimension 1"),
        (lambda net: fs.alignment.flow(net, THREE, 1e19), "`t` must be at most 1e"),
        (lambda net: fs.alignment.until(net, THREE, angle=2.0), "`angle` must lie between"),
        (lambda net: fs.alignment.until(net, THREE, angle=1e-160), "`angle` must lie between"),
        (lambda net: fs.alignment.until(net, THREE, loss="mse"), "`loss` must be one of"),
    ],
)
def test_bad_arguments_are_named(call, match: str):
    with pytest.raises((ValueError, TypeError), match=match):
        call(fs.init.balanced(3, 2, 1e-3, seed=0))


def test_the_field_of_a_slide_that_nearly_vanishes_is_along_it() -> None:
    """Of it rounding leaves the less off the slide; on a line of slides it says where w points."""
    X = [[1.0, 2.0], [1.0 - 2e-13, 2.0 + 1e-13], [3.0, -1.0]]
    data = fs.Dataset(X, [1.0, 1.0, 1.0])
    cells = Cells.of(data, 0.0, "half_mean", np.zeros(3))
    codes = np.zeros((1, 3), np.int8)
    codes[0, data.hyperplane[1:]] = data.orientation[1:] * np.array([1, -1])
    fields, rank = fields_of(cells, codes)
    normal = cells.normals[data.hyperplane[0]]
    assert rank.tolist() == [1]
    assert 0.0 < np.linalg.norm(fields[0]) < 1e-12
    assert abs(normal @ fields[0]) < 1e-15 * np.linalg.norm(fields[0])


def test_the_walk_projects_a_field_that_nearly_vanishes_onto_the_slide() -> None:
    along, across = np.array([0.8, -0.6]), np.array([0.6, 0.8])
    z, D = np.array([1.0, *along]), across + 1e-13 * along
    work = switching.scratch(2, 1)
    rank = walk._project(
        across[:, None].copy(), np.zeros(1, np.int64), 1, work.whole[KEPT], work.lower, work.basis,
        z, D,
    )  # fmt: skip
    assert rank == 1
    assert 0.0 < np.linalg.norm(D) < 1e-12
    assert abs(across @ D) < 1e-15 * np.linalg.norm(D)


def test_a_step_in_closed_form_at_rest_leaves_slides_where_they_are() -> None:
    """Nothing that happens at rest is an event: a slide's field, all rounding, moved w off it."""
    data = fs.datasets.linear_teacher(6, 2, noise=0.5, seed=1)
    sol = fs.simulate(fs.init.balanced(8, 2, log10_scale=-6, seed=1), data)
    assert sol.status == "stationary"
    assert np.sum(sol.events.t > 5000.0) == 1  # that it is at rest
    assert sol.audit["loss_increase"] < 1e-14
