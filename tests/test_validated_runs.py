"""The engine Validated: its Solutions, its options, its files, and runs to fifty digits."""

from __future__ import annotations

import itertools
import json
from functools import cache

import numpy as np
import pytest
from flint import arb, ctx
from support import Reference, neuron

import flowsim as fs
from flowsim.engines.validated import Enclosure, enclose
from flowsim.engines.validated.serial import ball_of, ball_to_list

ONE_SAMPLE = fs.Dataset([[3, 4]], [2])
ONE_NEURON = neuron(5 / 1024, [3 / 1024, 4 / 1024])
PAIR = fs.datasets.orthogonal_pair()


@cache
def early():
    """Three points up to a time after their last change of cells."""
    net = fs.init.balanced(m=10, d=2, scale=1e-3, seed=1)
    engine = fs.engines.Validated()
    return fs.simulate(net, fs.datasets.three_points(), engine=engine, t1=6.0)


def enclosure_of(sol: fs.Solution) -> Enclosure:
    assert sol.enclosure is not None
    return sol.enclosure


# -- Solutions ---------------------------------------------------------------------------------


def test_a_solution_has_the_midpoints_and_the_enclosure():
    sol = early()
    assert (sol.status, sol.failed) == ("t1", False)
    enclosure = enclosure_of(sol)
    assert enclosure.status == "t1"
    assert sol.t_end == 6.0
    assert sol.steps == enclosure.steps
    table = enclosure.table()
    for name in ("t", "kind_code", "neuron", "sample", "before", "after"):
        assert np.array_equal(getattr(sol.events, name), getattr(table, name))
    for j, (a, w) in enumerate(zip(enclosure.state.a, enclosure.state.W, strict=True)):
        scale = abs(float(a.mid()))
        assert abs(sol.final.network.a[j] - float(a.mid())) <= 4e-16 * scale
        assert np.allclose(sol.final.network.W[j], [float(v.mid()) for v in w], 0, 4e-16 * scale)
    assert max(sol.audit.values()) < 1e-13
    assert "engine validated balls" in sol.summary()


def test_a_solution_is_the_piecewise_engines():
    sol = early()
    other = fs.simulate(sol.initial, sol.data, t1=6.0, rtol=1e-14)
    ours, theirs = sol.events.where("pattern"), other.events.where("pattern")
    assert np.array_equal(ours.neuron, theirs.neuron)
    assert np.array_equal(ours.sample, theirs.sample)
    assert np.allclose(ours.t, theirs.t, rtol=1e-11, atol=0)
    for t in (0.0, 1.7, 3.3, 6.0):
        scale = np.max(np.abs(other.network(t).a))
        assert np.allclose(sol.network(t).W, other.network(t).W, rtol=0, atol=1e-11 * scale)
        assert np.array_equal(sol.pattern(t), other.pattern(t))
    assert np.all(np.diff(sol.history.loss) <= 0)


def test_a_solution_is_saved_without_its_enclosure(tmp_path):
    sol = early()
    sol.save(tmp_path / "run.nc")
    again = fs.load(tmp_path / "run.nc")
    assert again.enclosure is None
    assert np.array_equal(again.events.t, sol.events.t)
    assert again.settings["engine"] == "validated"


def test_a_run_that_cannot_go_on_has_failed_and_says_why():
    data = fs.Dataset([[1, 0], [0, 1]], [-1, -1])
    net = fs.TwoLayerReLU([5 / 8, 5 / 8], [[3 / 8, 4 / 8], [4 / 8, 3 / 8]])
    sol = fs.simulate(net, data, engine=fs.engines.Validated(), t1=10.0)
    assert (sol.status, sol.failed) == ("undecided", True)
    assert "too close to each other" in sol.message
    with pytest.raises(fs.RunError, match="undecided: Nothing is proved beyond"):
        fs.simulate(net, data, engine=fs.engines.Validated(), t1=10.0, throw=True)


def test_steps_and_seconds_are_budgets():
    engine = fs.engines.Validated()
    sol = fs.simulate(ONE_NEURON, ONE_SAMPLE, engine=engine, t1=5.0, max_steps=3)
    assert (sol.status, sol.steps) == ("max_steps", 3)
    sol = fs.simulate(ONE_NEURON, ONE_SAMPLE, engine=engine, t1=5.0, max_seconds=1e-9)
    assert sol.status == "max_seconds"
    assert sol.steps < 3


def test_a_callback_is_asked_at_geometrically_spaced_times_and_ends_the_run():
    asked = []

    def accept(state):
        asked.append(float(state.t.mid()))
        return bool(state.a[0] > 0.5)

    engine = fs.engines.Validated(accept=accept)
    sol = fs.simulate(ONE_NEURON, ONE_SAMPLE, engine=engine)
    assert (sol.status, sol.failed) == ("accepted", False)
    assert "has been accepted" in sol.message
    assert sol.final.network.a[0] > 0.5
    assert asked[0] == 0.0
    assert all(q >= 1.0999 * p for p, q in itertools.pairwise(asked[1:]))
    assert asked[-1] == sol.t_end


# -- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"end": "rest"}, "Argument `t1` must be finite"),
        ({"t1": 1.0, "events": [lambda t, net: net.a[0]]}, "Argument `events` must be empty"),
        ({"t1": 1.0, "checkpoint": "run.nc"}, "Argument `checkpoint` must be None"),
    ],
)
def test_options_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        fs.simulate(ONE_NEURON, ONE_SAMPLE, engine=fs.engines.Validated(), **settings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": 10}, "Argument `precision` must be at least 64"),
        ({"precision": 256, "max_precision": 192}, "Argument `max_precision` must be at least 256"),
        ({"order": 2}, "Argument `order` must be at least 4"),
        ({"digits": 30}, "Argument `digits` must be None for a rigorous run"),
        ({"rigorous": False, "precision": 300}, "Argument `precision` must be left out"),
    ],
)
def test_engines_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fs.engines.Validated(**options)


def test_systems_that_are_too_large_are_refused():
    net = fs.init.balanced(m=21, d=2, scale=1e-3, seed=0)
    with pytest.raises(ValueError, match="must have m <= 20 for a rigorous run, but has m = 21"):
        enclose(net, fs.datasets.three_points(), t1=1.0)
    data = fs.datasets.linear_teacher(n=11, d=2, noise=0.5, seed=0)
    with pytest.raises(ValueError, match="must have n <= 10 for a rigorous run, but has n = 11"):
        enclose(ONE_NEURON, data, t1=1.0)
    tiny = fs.init.balanced(m=2, d=2, scale=1e-16, seed=0)
    with pytest.raises(ValueError, match="`net` must have no neuron smaller than 1e-14"):
        enclose(tiny, fs.datasets.three_points(), t1=1.0)


def test_samples_that_are_parallel_up_to_rounding_only_are_refused():
    data = fs.Dataset(np.array([[0.1, 0.3], [0.2, 0.6 + 1e-16]]), np.array([1.0, 2.0]))
    assert len(data.normals) == 1
    with pytest.raises(ValueError, match="must have samples that are parallel exactly or not"):
        enclose(ONE_NEURON, data, t1=1.0)


# -- files -------------------------------------------------------------------------------------


def same(p: Enclosure, q: Enclosure) -> bool:
    return p.to_json() == q.to_json() and np.array_equal(p.state.code, q.state.code)


def test_results_are_written_and_read_to_the_last_bit(tmp_path):
    result = enclosure_of(early())
    text = result.to_json(tmp_path / "result.json")
    assert (tmp_path / "result.json").read_text() == text
    for again in (Enclosure.from_json(text), Enclosure.from_json(tmp_path / "result.json")):
        assert same(result, again)
        for p, q in zip(result.events, again.events, strict=True):
            assert p.t.mid() == q.t.mid()
            assert p.t.rad() == q.t.rad()
        assert again.state.gap == result.state.gap
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    "ball",
    [
        arb(0), arb(-3), arb(0, 1), arb(1, arb((1 << 29, -70))),
        arb(-5, arb(((1 << 30) - 1, -90))), arb((12345678901234567890123, -300)),
    ],
)  # fmt: skip
def test_balls_are_kept_bit_by_bit(ball):
    again = ball_of(json.loads(json.dumps(ball_to_list(ball))))
    assert again.mid() == ball.mid()
    assert again.rad() == ball.rad()


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.pop("state"),
        lambda raw: raw.update(status="proved"),
        lambda raw: raw.update(format="flowsim enclosure 99"),
        lambda raw: raw["state"]["a"].pop(),
        lambda raw: raw["state"]["a"].__setitem__(0, ["0x1", 0, "-0x1", 0]),
        lambda raw: raw["state"]["a"].__setitem__(0, ["0x1", 0, "0xffffffffff", 0]),
        lambda raw: raw["state"]["code"][0].__setitem__(0, 7),
        lambda raw: raw["events"][0].__setitem__(2, 99),
        lambda raw: raw["events"][0].__setitem__(0, [1.5, 0]),
    ],
)
def test_damaged_results_are_refused(damage):
    raw = json.loads(enclosure_of(early()).to_json())
    damage(raw)
    with pytest.raises(ValueError, match="Argument `source` must hold an enclosure"):
        Enclosure.from_json(json.dumps(raw))


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="Argument `source` must name a file"):
        Enclosure.from_json(tmp_path / "none.json")
    (tmp_path / "text").write_text("no JSON")
    with pytest.raises(ValueError, match="Argument `source` must hold an enclosure"):
        Enclosure.from_json(tmp_path / "text")


# -- fifty digits, without proofs --------------------------------------------------------------


def test_fifty_digits_agree_with_a_reference_by_other_code():
    """tests/reference/high_precision.py shares no code with it; its files have forty digits."""
    reference = Reference("precise_double_crossing")
    sol = reference.to_digits(50)
    assert sol.status == "t1"
    assert not enclosure_of(sol).rigorous
    with ctx.workprec(400):
        raw = {}
        for e in reference.raw["events"]:
            key = (e["neuron"], e["sample"], e["before"], e["after"])
            raw.setdefault(key, []).append(arb(e["t"]))
        for e in enclosure_of(sol).events:
            if e.kind == "pattern":
                t = raw[e.neuron, e.sample, e.before, e.after].pop(0)
                assert abs(e.t.mid() - t) < arb(10) ** -38 * t
        assert not any(raw.values())
        end = enclosure_of(sol).state
        ours = [*end.a, *(v for w in end.W for v in w)]
        theirs = [*reference.raw["a_end"], *(v for w in reference.raw["W_end"] for v in w)]
        for value, text in zip(ours, theirs, strict=True):
            assert abs(value.mid() - arb(text)) < arb(10) ** -37 * abs(arb(text))


def test_fewer_digits_agree_with_more():
    net, data = ONE_NEURON, ONE_SAMPLE
    few, many = (
        fs.simulate(net, data, t1=1.0, engine=fs.engines.Validated(rigorous=False, digits=digits))
        for digits in (20, 80)
    )
    with ctx.workprec(400):
        a, b = (enclosure_of(sol).state.a[0] for sol in (few, many))
        assert a.rad() == b.rad() == 0
        assert 0 < abs(a - b) < arb(10) ** -20
        q = arb(2) / 5 / (1 + (arb(2) / 5 * 1024**2 / 25 - 1) * arb(-20).exp())
        assert abs(b - q.sqrt()) < arb(10) ** -80


def test_reference_runs_have_no_limits_on_sizes_and_take_simultaneous_events():
    """XOR: by symmetry neurons of either sign reach hyperplanes in fours."""
    data = fs.datasets.xor()
    W = np.array([[3, 1], [-3, 1], [3, -1], [-3, -1], [1, 3], [-1, 3], [1, -3], [-1, -3]]) / 2**10
    a = np.full(8, 4 / 2**10)
    net = fs.TwoLayerReLU(a, W)
    engine = fs.engines.Validated(rigorous=False, digits=20)
    sol = fs.simulate(net, data, engine=engine, t1=8.0)
    other = fs.simulate(net, data, t1=8.0, rtol=1e-13)
    assert sol.status == "t1"
    assert np.array_equal(sol.final.code, other.final.code)
    assert np.allclose(sol.final.network.W, other.final.network.W, rtol=0, atol=1e-10)
    many = fs.init.balanced(m=24, d=4, scale=0.1, seed=0)
    random = fs.datasets.linear_teacher(n=12, d=4, noise=0.5, seed=0)
    sol = fs.simulate(many, random, engine=engine, t1=0.2)
    other = fs.simulate(many, random, t1=0.2, rtol=1e-14)
    assert np.array_equal(sol.events.where("pattern").neuron, other.events.where("pattern").neuron)
    assert np.allclose(sol.final.network.W, other.final.network.W, rtol=0, atol=1e-13)
