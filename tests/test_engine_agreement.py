"""One flow on all engines: the same events, times, losses, states and verdicts."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from run_comparison import System, compare_runs, events_by_row, random_system
from support import PRECISE, TABLES, Reference, forward, loss_is, neuron

import flowsim as fs
from flowsim.engines import Diffrax, Scipy

ENGINES: dict[str, Any] = {
    "DOP853": Scipy("DOP853"),
    "LSODA": Scipy("LSODA"),
    "Radau": Scipy("Radau"),
    "auto": Diffrax(),
    "Tsit5": Diffrax("Tsit5"),
    "Kvaerno5": Diffrax("Kvaerno5"),
}


def _named(name: str) -> System:
    named = fs.datasets.get(name.replace("_", "-"))
    if name == "one_sample":
        return System(name, neuron(0.005, [0.003, 0.004]), named(), 1.0)
    if name == "symmetric_linear":
        net = fs.TwoLayerReLU([1e-3, -1e-3], [[1e-3, 0.0], [-1e-3, 0.0]])
        return System(name, net, named(), math.inf)
    data = fs.datasets.half_spaces(6) if name == "half_spaces" else named()
    scale = 1e-4 if name in ("half_spaces", "xor") else 1e-6
    return System(name, fs.init.balanced(16, 2, scale, seed=0), data, math.inf)


NAMED = (
    "three_points", "orthogonal_pair", "five_points", "half_spaces", "one_sample",
    "symmetric_linear", "xor",
)  # fmt: skip
#: Away from separatrices, as `test_the_random_systems_slide_and_are_far_from_separatrices` shows.
RANDOM = (0, 1, 3, 8, 9)
SHAPE = (12, 3, 10)


@cache
def system(name: str) -> System:
    """Return a system of CASES, a table of the reference files, or a random one."""
    if name in NAMED:
        return _named(name)
    if name in (*TABLES, *PRECISE):
        reference = Reference(name)
        return System(name, reference.start, reference.data, reference.t1)
    return random_system(int(name), SHAPE)


@cache
def run(name: str, engine: str = "") -> fs.Solution:
    """Return a system's run, by the piecewise engine unless another is named."""
    chosen = ENGINES[engine] if engine else None
    return system(name).run(engine=chosen, max_steps=20_000)


def _pairs() -> list[tuple[str, str]]:
    """Return which systems run on which engines besides DOP853, which runs all: by their cost."""
    some = {
        "LSODA": ["xor", "precise_slides", "precise_two_slides", "1"],
        "Radau": ["precise_double_crossing"],
        "auto": ["three_points", "five_points", *map(str, RANDOM)],
        "Tsit5": ["precise_slides", *map(str, RANDOM)],
        "Kvaerno5": ["symmetric_linear", "precise_crossings", "0"],
    }
    everything = [*NAMED, *TABLES, *PRECISE, *map(str, RANDOM)]
    return [(name, "DOP853") for name in everything] + [
        (name, engine) for engine, names in some.items() for name in names
    ]


@pytest.mark.parametrize(("name", "engine"), _pairs())
def test_an_engine_agrees_with_the_piecewise_one(name: str, engine: str) -> None:
    """Events alike, their times to 1e-6, losses to 1e-8, states to 1e-7, verdict and limit."""
    expected, found = run(name), run(name, engine)
    assert found.status == expected.status
    comparison = compare_runs(expected, found)
    assert comparison.agrees(), comparison


@pytest.mark.parametrize("seed", RANDOM)
def test_the_random_systems_slide_and_are_far_from_separatrices(seed: int) -> None:
    """Started 1e-9 away, they have the same events at nearly the same times."""
    chosen, expected = system(str(seed)), run(str(seed))
    patterns = expected.events.where("pattern")
    assert np.sum(patterns.after == 0) >= 2
    assert len(patterns) > 50
    assert chosen.sensitivity(expected) < 1e-6


# -- against answers that share no code ---------------------------------------------------------


@pytest.mark.parametrize("name", [*TABLES, *PRECISE])
def test_dop853_reproduces_the_reference_tables(name: str) -> None:
    reference, sol = Reference(name), run(name, "DOP853")
    assert sol.status == "t1"
    assert reference.time_error(sol) < 1e-9
    assert reference.end_error(sol) < 1e-9
    assert abs(sol.final.loss - reference.loss) < 1e-9 * reference.loss


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("precise_slides", "Tsit5"),
        ("precise_crossings", "Kvaerno5"),
        ("precise_slides", "LSODA"),
        ("precise_double_crossing", "Radau"),
    ],
)
def test_every_engine_reproduces_a_precise_table(name: str, engine: str) -> None:
    reference, sol = Reference(name), run(name, engine)
    assert reference.time_error(sol) < 1e-8
    assert reference.end_error(sol) < 1e-8


@pytest.mark.parametrize("engine", ["DOP853", "auto"])
def test_three_points_end_at_the_spurious_minimum(engine: str) -> None:
    final = run("three_points", engine).final
    assert final.kind == "spurious_local_minimum"
    assert final.limit_loss_exact == "256/2925"
    assert loss_is(final.loss, 256 / 2925, system("three_points").data.y)


def test_the_orthogonal_pair_ends_in_two_ramps() -> None:
    sol = run("orthogonal_pair", "DOP853")
    x = np.linspace(-0.5, 2.0, 26)
    limit = np.maximum(0.4 * x + 0.2, 0) - np.maximum(-0.4 * x + 0.8, 0)
    assert forward(sol.final.network, np.c_[x, np.ones_like(x)]) == pytest.approx(limit, abs=4e-6)
    assert sol.final.kind == "interpolation"


@pytest.mark.parametrize("engine", ["DOP853", "auto"])
def test_five_points_leave_their_plateau_and_are_interpolated(engine: str) -> None:
    sol = run("five_points", engine)
    slowest = np.argmin(np.abs(sol.history.loss - 0.03181578947))
    assert sol.history.loss[slowest] == pytest.approx(0.03181578947, abs=1e-5)
    assert (sol.status, sol.final.kind) == ("stationary", "interpolation")


def test_half_spaces_end_at_their_two_least_squares_fits() -> None:
    X, y = (np.asarray(v) for v in (system("half_spaces").data.X, system("half_spaces").data.y))
    halves = [np.linalg.lstsq(X[side], y[side])[1].item() for side in (X[:, 0] > 0, X[:, 0] < 0)]
    final = run("half_spaces", "DOP853").final
    assert final.kind == "spurious_local_minimum"
    assert loss_is(final.loss, 0.5 * sum(halves) / len(y), y)


@pytest.mark.parametrize("engine", ["DOP853", "LSODA"])
def test_xor_is_learnt_but_for_groups_that_no_neuron_serves(engine: str) -> None:
    sol = run("xor", engine)
    assert sol.final.kind == "interpolation"
    points = np.random.default_rng(0).standard_normal((20, 2))
    limit = 0.5 * np.abs(points.sum(axis=1)) - 0.5 * np.abs(points[:, 0] - points[:, 1])
    assert forward(sol.final.network, points) == pytest.approx(limit, abs=1e-4)


def test_one_sample_follows_the_logistic_law() -> None:
    sol = run("one_sample", "DOP853")
    for t in np.linspace(0.0, 1.0, 21):
        net, exact = sol.network(t), 0.4 / (1 + (0.4 / 2.5e-5 - 1) * math.exp(-20 * t))
        assert net.a[0] * np.linalg.norm(net.W[0]) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("engine", ["DOP853", "Kvaerno5"])
def test_symmetric_linear_data_follow_the_logistic_law(engine: str) -> None:
    sol = run("symmetric_linear", engine)
    for t in np.linspace(0.0, 20.0, 21):
        p = 1 / (1 + (1e6 - 1) * math.exp(-t))
        assert sol.loss(t) == pytest.approx(0.5 * (1 - p) ** 2, rel=1e-8, abs=1e-12)


# -- the comparison itself ----------------------------------------------------------------------


def test_the_comparison_sees_what_it_must() -> None:
    """Runs that differ by more than the promise are told apart, each by its own figure."""
    sol = run("precise_slides")
    assert compare_runs(sol, sol).agrees()
    chosen = system("precise_slides")
    loose = compare_runs(sol, chosen.run(rtol=1e-5))
    assert not loose.agrees()
    late = replace(sol.events, t=sol.events.t * (1.0 + 2e-6))
    assert not compare_runs(sol, replace(sol, events=late)).agrees()
    first, second = events_by_row(sol)[:2]
    assert first != second
    swapped = sol.events.t.copy()
    i = int(np.argmax(np.diff(swapped) > 1e-5 * swapped[1:]))
    swapped[[i, i + 1]] = swapped[[i + 1, i]]
    assert not compare_runs(sol, replace(sol, events=replace(sol.events, t=swapped))).agrees()
    other = replace(sol, final=replace(sol.final, kind="saddle"))
    assert not compare_runs(sol, other).agrees()
