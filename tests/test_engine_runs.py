"""Runs of ReLU networks on the stepping engines: reasons to stop, dense output, files, events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_comparison import compare_runs
from support import Reference, pattern_rows, pythagorean, scaled_times

import flowsim as fs
from flowsim.engines import Diffrax, Piecewise, Scipy

DATA = fs.datasets.three_points()
NET = fs.init.balanced(6, 2, 1e-4, seed=1)


@pytest.fixture(params=[Scipy("DOP853"), Diffrax("Tsit5")], ids=["DOP853", "Tsit5"])
def engine(request) -> Any:
    return request.param


def _apart(a: fs.TwoLayerReLU, b: fs.TwoLayerReLU) -> float:
    """Return the largest difference of a neuron, relative to its norm."""
    za, zb = (np.column_stack([net.a, net.W]) for net in (a, b))
    return float(np.max(np.linalg.norm(za - zb, axis=1) / np.linalg.norm(za, axis=1)))


# -- reasons to stop ----------------------------------------------------------------------------


def test_t1_is_reached_exactly(engine):
    for t1 in (3.7, 0.1, 199 * 0.1, 7 * 0.1, 1e-9):
        run = fs.simulate(NET, DATA, t1=t1, stationary_rtol=0.0, engine=engine)
        assert (run.status, run.failed, run.t_end) == ("t1", False, t1)


def test_budgets_stop_a_run_and_are_failures(engine):
    for most in (1, 5):
        short = fs.simulate(NET, DATA, max_steps=most, engine=engine)
        assert (short.status, short.steps, short.failed) == ("max_steps", most, True)
    quick = fs.simulate(NET, DATA, max_seconds=1e-9, engine=engine)
    assert (quick.status, quick.failed) == ("max_seconds", True)
    with pytest.raises(fs.RunError) as caught:
        fs.simulate(NET, DATA, max_steps=5, throw=True, engine=engine)
    assert caught.value.solution.steps == 5


def test_an_engine_has_its_own_tolerance_and_the_settings_name_it(engine):
    own = type(engine)(*vars(engine).values())
    object.__setattr__(own, "rtol", 1e-6)
    loose = fs.simulate(NET, DATA, t1=20.0, engine=own)
    tight = fs.simulate(NET, DATA, t1=20.0, engine=engine)
    same = fs.simulate(NET, DATA, t1=20.0, rtol=1e-6, engine=engine)
    assert (loose.settings["rtol"], tight.settings["rtol"]) == (1e-6, 1e-12)
    assert loose.settings["engine"] == type(engine).__name__.lower()
    assert loose.settings["solver"] in ("DOP853", "Tsit5")
    assert loose.steps == same.steps < 0.6 * tight.steps
    np.testing.assert_array_equal(loose.final.network.W, same.final.network.W)


def test_the_mean_loss_runs_twice_as_fast(engine):
    half = fs.simulate(NET, DATA, t1=30.0, engine=engine)
    mean = fs.simulate(NET, DATA, t1=15.0, loss="mean", engine=engine)
    times, doubled = half.events.t, 2 * mean.events.t
    np.testing.assert_allclose(doubled, times, rtol=1e-9)
    assert mean.final.loss == pytest.approx(2 * half.final.loss, rel=1e-10)


@pytest.mark.parametrize("kind", ["balanced", "dominated", "unbalanced"])
def test_a_frozen_residual_gives_the_closed_form_flow(engine, kind):
    data = Reference("precise_slides").data
    net = fs.init.get(kind)(6, 3, 1e-3, seed=0)
    run = fs.simulate(net, data, residual="frozen", t1=15.0, engine=engine)
    exact = fs.alignment.flow(net, data, 15.0).network
    assert len(run.events) > 4
    np.testing.assert_allclose(run.final.network.direction, exact.direction, rtol=0, atol=1e-10)
    np.testing.assert_allclose(run.final.network.log_norm, exact.log_norm, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(run.residual(15.0), data.y)


def test_frozen_neurons_grow_beyond_the_float_range():
    """a + w grows as e^t, to e^400; its squares leave the range of float64 at e^355."""
    run = fs.simulate(
        fs.TwoLayerReLU([1e-3], [[0.5e-3]]), fs.Dataset([[1.0]], [1.0]),
        residual="frozen", t1=400.0, engine=Scipy("DOP853"),
    )  # fmt: skip
    assert (run.status, run.t_end) == ("t1", 400.0)
    expected = 400.0 + np.log(0.75e-3 * np.sqrt(2.0))
    assert run.final.network.log_norm[0] == pytest.approx(expected, rel=1e-11)


def test_a_shrinking_neuron_keeps_its_direction_over_hundreds_of_decay_times(engine):
    """It slides on x_2 and decays as e^{-0.4 t}; errors off a^2 = ||w||^2 grow as e^{0.8 t}."""
    data, size = fs.Dataset([[1, 0], [-3, 4]], [-1, -1]), 2.0**-12
    net = fs.TwoLayerReLU([5 * size], [[4 * size, 3 * size]])
    run = fs.simulate(net, data, residual="frozen", t1=500.0, engine=engine)
    exact = np.array([5.0, 4.0, 3.0]) / np.sqrt(50.0)
    np.testing.assert_allclose(run.final.network.direction[0], exact, rtol=0, atol=1e-14)
    assert run.final.network.log_norm[0] - net.log_norm[0] == pytest.approx(-200.0, rel=1e-10)
    assert len(run.events) == 0


def test_neurons_keep_their_constants_at_any_tolerance(engine):
    """a^2 - ||w||^2 = 0 exactly at the start, and at all stored states, relative to a^2."""
    run = fs.simulate(pythagorean(6, 2, 1e-3, seed=1), DATA, rtol=1e-6, engine=engine)
    for t in scaled_times(run, 80):
        direction = run.network(t).direction
        gap = direction[:, 0] ** 2 - np.sum(direction[:, 1:] ** 2, axis=1)
        assert np.max(np.abs(gap)) < 1e-14
    assert run.audit["invariant_drift"] < 1e-14


# -- dense output and files ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["precise_slides", "precise_crossings"])
def test_dense_output_has_the_accuracy_of_the_run(name):
    """A run of long steps and one of many short ones have the same states between steps."""
    reference = Reference(name)
    long, short = (reference.run(engine=Scipy(method)) for method in ("DOP853", "RK45"))
    assert short.steps > 5 * long.steps
    t = long.history.t
    for time in 0.7 * t[:-1:5] + 0.3 * t[1::5]:
        assert _apart(long.network(time), short.network(time)) < 2e-10


def test_dense_output_meets_the_states_of_the_steps(engine):
    run = fs.simulate(NET, DATA, engine=engine)
    np.testing.assert_allclose(run.loss(run.history.t), run.history.loss, rtol=1e-10)
    np.testing.assert_array_equal(run.network(0.0).W, NET.W)
    for sol in (run, fs.simulate(NET, DATA, t1=16.0, engine=engine)):
        last, final = sol.network(sol.t_end), sol.final.network
        np.testing.assert_array_equal(last.a, final.a)
        np.testing.assert_array_equal(last.W, final.W)


def test_thinned_states_are_integrated_again_from_the_state_before(engine):
    reference = Reference("precise_slides")
    full = reference.run(engine=engine)
    thin = reference.run(engine=engine, state_bytes=8_000)
    assert len(thin.states.t) < len(full.states.t) / 4
    for t in np.linspace(0.0, reference.t1, 12):
        assert _apart(full.network(t), thin.network(t)) < 1e-9
        np.testing.assert_array_equal(full.pattern(t), thin.pattern(t))


@pytest.mark.parametrize("state_bytes", [2**30, 8_000])
def test_a_saved_run_has_the_same_dense_output(engine, tmp_path: Path, state_bytes: int):
    reference = Reference("precise_slides")
    run = reference.run(engine=engine, state_bytes=state_bytes)
    run.save(tmp_path / "run.nc")
    again = fs.load(tmp_path / "run.nc")
    assert again.settings == run.settings
    for t in np.linspace(0.0, reference.t1, 7):
        np.testing.assert_array_equal(again.network(t).W, run.network(t).W)
        np.testing.assert_array_equal(again.pattern(t), run.pattern(t))
    assert compare_runs(run, again, samples=6).time == 0.0


# -- the user's events ---------------------------------------------------------------------------


class Watched:
    """A function of the network with SciPy's attributes."""

    def __init__(self, of: Any, direction: float = 0.0, terminal: bool | int = False) -> None:
        self.of, self.direction, self.terminal = of, direction, terminal

    def __call__(self, t: float, net: fs.TwoLayerReLU) -> Any:
        return self.of(t, net)


def _size(t: float, net: fs.TwoLayerReLU) -> float:
    return float(np.sum(net.a**2) - 0.3)


def _residuals(t: float, net: fs.TwoLayerReLU) -> np.ndarray:
    return net.residual(DATA) - np.array([0.6, 0.0, 0.5])


def _user(events: list[Any], engine: Any, **options: Any) -> tuple[fs.Solution, np.ndarray]:
    sol = fs.simulate(NET, DATA, events=events, engine=engine, **options)
    e = sol.events.where("user")
    return sol, np.column_stack([e.neuron, e.sample, e.before, e.after, e.t])


def test_user_events_come_at_the_same_times_on_all_engines(engine):
    watched = [
        _size,
        _residuals,
        Watched(lambda t, net: t - 12.345),
        Watched(_residuals, direction=1.0),
        Watched(_residuals, direction=-1.0),
    ]
    _, expected = _user(watched, Piecewise())
    _, found = _user(watched, engine)
    assert len(expected) >= 7
    np.testing.assert_array_equal(found[:, :4], expected[:, :4])
    np.testing.assert_allclose(found[:, 4], expected[:, 4], rtol=1e-8)
    assert found[found[:, 0] == 2, 4] == pytest.approx([12.345], rel=1e-14)
    up, down = (found[found[:, 0] == i] for i in (3, 4))
    assert np.all(up[:, 3] > 0)
    assert np.all(down[:, 3] < 0)
    assert len(up) + len(down) == np.sum(found[:, 0] == 1)
    sol, _ = _user(watched, engine)
    for function, component, *_, t in found:
        if function == 1:
            value = _residuals(t, sol.network(t))[int(component)]
            assert abs(value) < 1e-9


def test_a_terminal_event_ends_the_run_there(engine):
    ends = [_user([Watched(_size, terminal=True)], used) for used in (Piecewise(), engine)]
    (first, rows), (second, found) = ends
    assert [sol.status for sol, _ in ends] == ["event", "event"]
    assert not second.failed
    assert second.t_end == pytest.approx(first.t_end, rel=1e-8)
    assert found[-1, 4] == pytest.approx(second.t_end, rel=1e-14)
    assert len(rows) == len(found) == 1
    assert abs(_size(0.0, second.final.network)) < 1e-10
    assert second.final.kind == "not_stationary"


def test_a_counted_terminal_event_ends_the_run_at_that_crossing(engine):
    clock = Watched(lambda t, net: np.sin(t), terminal=3)
    sol, found = _user([clock], engine)
    assert found[:, 4] == pytest.approx(np.pi * np.arange(1, 4), rel=1e-13)
    assert (sol.status, len(found)) == ("event", 3)
    assert sol.t_end == pytest.approx(3 * np.pi, rel=1e-13)


def test_nothing_happens_after_a_terminal_event(engine):
    """The pattern changes later in the step that it ends are not in the table."""
    times = [row[0] for row in pattern_rows(fs.simulate(NET, DATA, engine=engine))]
    stop = times[2] - 1e-4
    sol, _ = _user([Watched(lambda t, net: t - stop, terminal=True)], engine)
    assert [row[0] for row in pattern_rows(sol)] == pytest.approx(times[:2], rel=1e-10)
    assert sol.t_end == pytest.approx(stop, rel=1e-14)
