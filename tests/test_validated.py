"""Rigorous runs contain closed forms and references, and say what they cannot prove."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from flint import arb, ctx, fmpq
from support import Reference, neuron

import flowsim as fs
from flowsim.engines.validated import attempt as attempt_module
from flowsim.engines.validated import enclose
from flowsim.engines.validated.majorant import Majorant

PAIR = fs.datasets.orthogonal_pair()
TWO_POINTS = fs.Dataset([[1, 0], [0, 1]], [1, 2])


@pytest.fixture(autouse=True)
def _precision():
    with ctx.workprec(400):
        yield


def rows(result):
    """Return the events of a run without their times."""
    return [(e.kind, e.neuron, e.sample, e.before, e.after) for e in result.events]


def times(result, kind="pattern"):
    return [e.t for e in result.events if e.kind == kind]


def exact(text: str) -> arb:
    """Return a decimal number as a ball."""
    value = Fraction(text)
    return arb(fmpq(value.numerator, value.denominator))


@cache
def three_points(precision=192, order=None):
    net = fs.init.balanced(m=10, d=2, scale=1e-3, seed=1)
    return net, enclose(net, fs.datasets.three_points(), t1=45.0, precision=precision, order=order)


@cache
def reference(name, **options):
    system = Reference(name)
    return system, enclose(system.start, system.data, t1=system.t1, **options)


# -- closed forms -----------------------------------------------------------------------------


def logistic(t: float) -> arb:
    """Return q = a ||w|| of the one sample (3, 4) -> 2 from ||w|| = a = 5/1024."""
    q0 = arb(25) / 1024**2
    return arb(2) / 5 / (1 + (arb(2) / 5 / q0 - 1) * (-20 * arb(t)).exp())


ONE_SAMPLE = fs.Dataset([[3, 4]], [2])
ONE_NEURON = neuron(5 / 1024, [3 / 1024, 4 / 1024])


@pytest.mark.parametrize("t1", [0.25, 0.5, 1.0])
def test_the_logistic_growth_on_one_sample_is_enclosed(t1):
    result = enclose(ONE_NEURON, ONE_SAMPLE, t1=t1)
    assert result.status == "t1"
    assert result.events == ()
    q = logistic(t1)
    a, (u, v) = result.state.a[0], result.state.W[0]
    for ball, value in ((a, q.sqrt()), (u, q.sqrt() * 3 / 5), (v, q.sqrt() * 4 / 5)):
        assert ball.overlaps(value)
        assert ball.rad() < 1e-45


def test_symmetric_linear_data_are_enclosed():
    """p(t) = 1/(1 + (λ⁻² − 1)e^{−t}), with two antipodal samples on either hyperplane."""
    lam = 2.0**-10
    data = fs.Dataset([[1, 1], [-1, -1], [1, -1], [-1, 1]], [1, -1, 1, -1])
    net = fs.TwoLayerReLU([lam, -lam], [[lam, 0.0], [-lam, 0.0]])
    result = enclose(net, data, t1=15.0)
    p = 1 / (1 + (arb(2) ** 20 - 1) * arb(-15).exp())
    assert result.status == "t1"
    for j, side in enumerate((1, -1)):
        assert result.state.a[j].overlaps(side * p.sqrt())
        assert result.state.W[j][0].overlaps(side * p.sqrt())
        assert result.state.W[j][1].contains(0)
        assert result.state.a[j].rad() < 1e-45


def test_the_time_at_which_a_slide_begins_is_enclosed():
    """The orthogonal pair with r = y: from 90° the x₁ ray is reached at ln(2 + √5)/1.25."""
    result = enclose(neuron(1.0, [0.0, 1.0]), PAIR, t1=2.0, residual="frozen")
    assert rows(result) == [("pattern", 0, 0, 1, 0)]
    (t,) = times(result)
    expected = (2 + arb(5).sqrt()).log() / arb(1.25)
    assert t.overlaps(expected)
    assert t.rad() < 1e-50
    # It goes on along the ray, at the rate of the projected field (1, 1/2).
    a, (u, v) = result.state.a[0], result.state.W[0]
    assert (u - 2 * v).contains(0)
    assert result.state.code.tolist() == [[0, 1]]
    gap = a * a - u * u - v * v
    assert gap.contains(0)
    assert gap.rad() < 1e-45


def in_closed_form(z, D, t):
    """Return exp(t M(D)) z."""
    norm = sum((d * d for d in D), arb(0)).sqrt()
    s, c = (norm * t).sinh_cosh()

    def M(z):
        return [sum(d * w for d, w in zip(D, z[1:], strict=True)), *(z[0] * d for d in D)]

    first, second = M(z), M(M(z))
    return [
        x + s / norm * y + (c - 1) / norm**2 * q for x, y, q in zip(z, first, second, strict=True)
    ]


def test_a_frozen_neuron_passes_its_cells_and_dies_as_the_closed_form_says():
    data = fs.datasets.three_points()
    net = neuron(-5.0, [-3.0, 4.0])
    result = enclose(net, data, t1=8.0, residual="frozen")
    assert [row[2] for row in rows(result)] == [2, 1, 0, -1]
    assert rows(result)[-1][0] == "death"
    X = [[arb(fmpq(v.numerator, v.denominator)) for v in row] for row in data.X_exact]
    y = [arb(fmpq(v.numerator, v.denominator)) for v in data.y_exact]
    z, on, before = [arb(-5), arb(-3), arb(4)], [0, 1, 2], arb(0)
    for t in times(result):
        k = on[-1]
        D = [sum(y[q] * X[q][i] for q in on) / 3 for i in range(2)]

        past = [t.lower() - arb(2) ** -140 - before, t.upper() + arb(2) ** -140 - before]
        margins = [
            sum(x * v for x, v in zip(X[k], in_closed_form(z, D, tau)[1:], strict=True))
            for tau in past
        ]
        assert margins[0] > 0
        assert margins[1] < 0
        z, on, before = in_closed_form(z, D, t - before), on[:-1], t
    a, w = result.state.a[0], result.state.W[0]
    assert all(p.overlaps(q) for p, q in zip([a, *w], z, strict=True))


# -- references and other runs ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["precise_double_crossing", "precise_leaky"])
def test_forty_digit_references_lie_in_the_enclosures(name):
    """Crossings, a double crossing, slides and leaky slopes, by code that shares none of this."""
    system, result = reference(name)
    assert result.status == "t1"
    raw = {}
    for e in system.raw["events"]:
        raw.setdefault((e["neuron"], e["sample"], e["before"], e["after"]), []).append(e["t"])
    found = {}
    for e in result.events:
        if e.kind == "pattern":
            found.setdefault((e.neuron, e.sample, e.before, e.after), []).append(e.t)
    assert found.keys() == raw.keys()
    digits = arb(10) ** -39
    for key, balls in found.items():
        for ball, text in zip(balls, raw[key], strict=True):
            assert ball.overlaps(exact(text) * (1 + arb(0, digits)))
            assert ball.rad() < 1e-20
    ends = zip(
        result.state.a, result.state.W, system.raw["a_end"], system.raw["W_end"], strict=True
    )
    for a, w, a_end, w_end in ends:
        for ball, text in zip([a, *w], [a_end, *w_end], strict=True):
            assert ball.overlaps(exact(text) * (1 + arb(0, digits)))


def test_three_points_are_enclosed_to_their_late_descent():
    net, result = three_points()
    assert result.status == "t1"
    assert result.precision == 192
    assert all(e.t.rad() < 1e-25 for e in result.events)
    assert result.state.error < 1e-35
    for a, w, gap in zip(result.state.a, result.state.W, result.state.gap, strict=True):
        invariant = a * a - w[0] * w[0] - w[1] * w[1] - arb(fmpq(gap.numerator, gap.denominator))
        assert invariant.contains(0)
    sol = fs.simulate(net, fs.datasets.three_points(), t1=45.0, rtol=1e-14)
    events = sol.events.select(np.isin(sol.events.kind, ("pattern", "death")))
    expected = list(zip(events.kind, events.neuron, events.sample, events.before, events.after,
                        strict=True))  # fmt: skip
    assert rows(result) == expected
    for ball, t in zip(result.events, events.t, strict=True):
        assert abs(float(ball.t.mid()) - t) <= 1e-11 * t
    assert np.array_equal(sol.final.code, result.state.code)


def test_runs_of_other_precision_and_order_overlap_everywhere():
    _, first = three_points()
    _, second = three_points(precision=256, order=48)
    assert rows(first) == rows(second)
    assert first.steps != second.steps
    assert all(p.t.overlaps(q.t) for p, q in zip(first.events, second.events, strict=True))
    for p, q in zip(first.state.W, second.state.W, strict=True):
        assert all(u.overlaps(v) for u, v in zip(p, q, strict=True))
    assert second.state.error < first.state.error * arb(2) ** -40


def test_each_event_is_before_the_next_one():
    _, result = three_points()
    distinct = [result.events[0].t]
    for e in result.events[1:]:
        if e.kind == "pattern":
            assert e.t > distinct[-1]
            distinct.append(e.t)
        else:
            assert e.t.overlaps(distinct[-1])


# -- what keeps enclosures right -----------------------------------------------------------------


def test_low_order_and_precision_make_enclosures_wide_but_right():
    result = enclose(ONE_NEURON, ONE_SAMPLE, t1=0.5, precision=64, order=5)
    ball = result.state.a[0]
    assert ball.contains(logistic(0.5).sqrt())
    assert ball.rad() > 1e-18


def test_without_the_remainder_the_truth_is_lost(monkeypatch):
    """The oracle above can fail: long steps whose remainder is forgotten exclude the truth."""
    monkeypatch.setattr(Majorant, "tail", lambda self, h, order: arb(2) ** -400)
    monkeypatch.setattr(attempt_module, "SPARE_BITS", 160)
    result = enclose(ONE_NEURON, ONE_SAMPLE, t1=0.5, precision=192, order=8)
    assert not result.state.a[0].overlaps(logistic(0.5).sqrt())


def test_with_long_steps_the_remainder_keeps_the_truth(monkeypatch):
    monkeypatch.setattr(attempt_module, "SPARE_BITS", 160)
    result = enclose(ONE_NEURON, ONE_SAMPLE, t1=0.5, precision=192, order=8)
    assert result.state.a[0].contains(logistic(0.5).sqrt())
    assert result.state.a[0].rad() > 1e-12


def test_too_little_precision_is_said_and_what_is_proved_before_is_right():
    system, full = reference("precise_double_crossing")
    poor = enclose(system.start, system.data, t1=system.t1, precision=64, max_precision=64)
    assert poor.status == "undecided"
    assert poor.message.startswith("Nothing is proved beyond t = ")
    assert len(poor.events) > 0
    assert rows(poor) == rows(full)[: len(poor.events)]
    assert all(p.t.overlaps(q.t) for p, q in zip(poor.events, full.events, strict=False))
    assert float(poor.state.t.mid()) < system.t1


def test_precision_is_doubled_until_all_is_proved():
    system, full = reference("precise_double_crossing")
    again = enclose(system.start, system.data, t1=system.t1, precision=80)
    assert again.status == "t1"
    assert again.precision == 160
    assert rows(again) == rows(full)


def test_what_is_uncertain_at_the_start_is_carried_to_the_end(monkeypatch):
    """A start known up to delta gives enclosures of the runs from all starts within delta."""
    system, delta, t1 = Reference("precise_dominated"), 2.0**-60, 6.0
    W = system.start.W.copy()
    W[2, 0] += delta
    W[3, 1] -= delta
    other = enclose(fs.TwoLayerReLU(system.start.a, W), system.data, t1=t1)
    exactly = attempt_module.initial_state

    def roughly(*arguments):
        state = exactly(*arguments)
        state.error = arb(2 * delta)
        for j in (2, 3):
            state.neurons[j].error = arb(delta)
        return state

    monkeypatch.setattr(attempt_module, "initial_state", roughly)
    wide = enclose(system.start, system.data, t1=t1, max_precision=192)
    assert wide.status == other.status == "t1"
    assert rows(wide) == rows(other)
    assert len(wide.events) >= 10
    assert all(p.t.contains(q.t) for p, q in zip(wide.events, other.events, strict=True))
    for p, q in zip(wide.state.W, other.state.W, strict=True):
        assert all(u.contains(v) for u, v in zip(p, q, strict=True))
    pairs = zip(wide.events, other.events, strict=True)
    moved = [abs(p.t.mid() - q.t.mid()) / p.t.rad() for p, q in pairs]
    assert max(moved) > 1e-3  # the bounds are not just generous


# -- starts on hyperplanes, multiples, and what is not unique --------------------------------------


def test_neurons_that_are_multiples_share_their_events():
    data = fs.datasets.three_points()
    W = [[-3 / 512, 4 / 512], [-6 / 512, 8 / 512], [3 / 1024, 4 / 1024]]
    net = fs.TwoLayerReLU([-5 / 512, -10 / 512, 5 / 1024], W)
    result = enclose(net, data, t1=6.0)
    assert result.status == "t1"
    first, second = ([e for e in result.events if e.neuron == j] for j in (0, 1))
    assert len(first) > 0
    assert [(e.sample, e.after) for e in first] == [(e.sample, e.after) for e in second]
    for p, q in zip(result.state.W[0], result.state.W[1], strict=True):
        assert (2 * p).overlaps(q)


def test_a_start_on_a_hyperplane_that_attracts_is_a_slide():
    data = fs.Dataset([[1, 0], [1, 1]], [-1, 1])
    net = neuron(0.5, [0.0, 0.5])
    result = enclose(net, data, t1=0.25)
    assert result.events == ()
    assert result.state.code.tolist() == [[0, 1]]
    assert result.state.W[0][0].contains(0)
    assert result.state.W[0][1] > 0.5
    assert fs.simulate(net, data, t1=0.25).final.code.tolist() == [[0, 1]]


def test_a_start_on_a_hyperplane_may_cross_it():
    result = enclose(neuron(0.5, [0.0, 0.5]), fs.Dataset([[1, 0], [1, 1]], [1, 1]), t1=0.25)
    assert rows(result) == [("pattern", 0, 0, 0, 1)]
    assert result.events[0].t == 0
    assert result.state.W[0][0] > 0


def test_a_start_on_a_hyperplane_that_repels_is_undecided():
    data = fs.Dataset([[1, 0], [-1, 2]], [2, 1])
    result = enclose(neuron(1.0, [0.0, 1.0]), data, t1=1.0, residual="frozen")
    assert result.status == "undecided"
    assert "not unique" in result.message
    assert "neuron 0, sample 0" in result.message
    assert result.events == ()


def test_a_neuron_that_no_sample_is_on_never_moves():
    result = enclose(neuron(1.0, [-1.0, -1.0]), TWO_POINTS, t1=3.0)
    assert (result.status, result.steps) == ("t1", 0)
    assert result.state.W[0] == [arb(-1), arb(-1)]
    assert fs.events.FATES[result.state.fate[0]] == "dead"


def test_simultaneous_events_of_different_neurons_are_undecided():
    """Two neurons that mirror each other reach their hyperplanes at one time."""
    data = fs.Dataset([[1, 0], [0, 1]], [-1, -1])
    net = fs.TwoLayerReLU([5 / 8, 5 / 8], [[3 / 8, 4 / 8], [4 / 8, 3 / 8]])
    result = enclose(net, data, t1=10.0)
    assert result.status == "undecided"
    assert "too close to each other" in result.message


def test_a_neuron_that_comes_to_w_zero_is_undecided():
    """In one dimension, and on a slide in two, w = 0 is where all hyperplanes meet."""
    data = fs.Dataset([[1], [-2]], [1, 1])
    net = fs.TwoLayerReLU([0.125, -0.25, 0.125], [[0.125], [0.125], [-0.125]])
    result = enclose(net, data, t1=30.0)
    assert result.status == "undecided"
    assert "w = 0" in result.message
    assert 0.0 < float(result.state.t.mid()) < 2.0


def test_a_start_with_a_zero_is_undecided():
    result = enclose(neuron(0.0, [1.0, 1.0]), TWO_POINTS, t1=1.0)
    assert result.status == "undecided"
    assert "a_j = 0" in result.message


def test_slides_whose_multipliers_are_multiples_end_together():
    """Neuron 1 slides on two hyperplanes while one sample is on, whose residual changes its sign.

    Both multipliers are multiples of that residual: both slides end when it vanishes.
    """
    rng = np.random.default_rng(10)
    rng.integers(2, 4, 3)
    X = np.round(rng.standard_normal((6, 3)), 3)
    data = fs.Dataset(X, np.round(rng.standard_normal(6), 3))
    net = fs.init.balanced(m=2, d=3, scale=1e-4, seed=10)
    result = enclose(net, data, t1=14.0)
    assert result.status == "t1"
    before, after = result.events[-2:]
    assert {before.sample, after.sample} == {1, 2}
    assert (before.neuron, before.before, before.after) == (1, 0, -1)
    assert (after.neuron, after.before, after.after) == (1, 0, -1)
    assert before.t.mid() == after.t.mid()
    sol = fs.simulate(net, data, t1=14.0, rtol=1e-14)
    assert np.allclose(sol.events.where("pattern").t[-2:], float(after.t.mid()), rtol=1e-10)
    assert np.array_equal(sol.final.code, result.state.code)


def test_a_sign_change_is_enclosed():
    """a' = w.D with D = -(w.x) x: an unbalanced neuron whose output weight passes zero."""
    data = fs.Dataset([[1, 0], [0, 1]], [-1, 1])
    net = neuron(0.25, [1.0, 0.25])
    result = enclose(net, data, t1=1.0)
    assert result.status == "t1"
    sol = fs.simulate(net, data, t1=1.0, rtol=1e-14)
    (t,) = times(result, "sign_change")
    assert math.isclose(float(t.mid()), sol.events.where("sign_change").t[0], rel_tol=1e-11)
    assert result.state.sign == (-1,)
    assert result.state.a[0] < 0
