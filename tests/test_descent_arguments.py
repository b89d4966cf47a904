"""What a descent refuses in one sentence, and which budget ends it."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flowsim as fs
from flowsim.engines import Descent, Piecewise
from flowsim.solution import DescentStates

THREE = fs.datasets.three_points()
START = fs.init.balanced(m=12, d=2, scale=1e-2, seed=0)


def run(engine: Descent, **options) -> fs.Solution:
    return fs.simulate(START, THREE, engine=engine, **options)


@pytest.fixture(scope="module")
def plain() -> fs.Solution:
    return run(Descent("gd", 1e-2, steps=200))


# -- resume(engine=) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        (Descent("gd", 1e-1), "with learning_rate = 0.01, but has learning_rate = 0.1; start a"),
        (Descent("gd", 1e-2, coordinates="log_norm"), "but has coordinates = 'log_norm'"),
        (Descent("gd", 1e-2, dtype="float32"), "but has dtype = 'float32'"),
        (Descent("gd", 1e-2, batch_size=2), "with batch_size = None, but has batch_size = 2"),
        (Descent("momentum", 1e-2), "with optimizer = 'gd', but has optimizer = 'momentum'"),
        (Descent("adam", 1e-2), "with optimizer = 'gd', but has optimizer = 'adam'"),
    ],
)
def test_a_descent_goes_on_with_its_own_engine_only(plain, engine, sentence):
    with pytest.raises(ValueError, match="Argument `engine` must be that of the run") as error:
        fs.resume(plain, max_steps=300, engine=engine)
    assert sentence in str(error.value)


def test_a_descent_goes_on_with_a_descent(plain):
    with pytest.raises(TypeError, match=r"`engine` must be a Descent to go on .* type Piecewise"):
        fs.resume(plain, max_steps=300, engine=Piecewise())  # pyright: ignore[reportArgumentType]
    again = fs.resume(plain, engine=Descent("gd", 1e-2, steps=300))
    assert (again.status, again.steps, again.t_end) == ("steps", 300, pytest.approx(3.0))


def test_what_settings_do_not_tell_of_optax_is_checked_too(tmp_path):
    path = tmp_path / "run.nc"
    run(Descent(optax.sgd(0.1), steps=20)).save(path)
    with pytest.raises(ValueError, match="after 20 steps is 2, but is one whose time is 4"):
        fs.resume(path, engine=Descent(optax.sgd(0.2), steps=40))
    with pytest.raises(ValueError, match="remembers 0 numbers, but is one that remembers 36"):
        fs.resume(path, engine=Descent(optax.sgd(0.1, momentum=0.9), steps=40))
    assert fs.resume(path, engine=Descent(optax.sgd(0.1), steps=40)).steps == 40


# -- steps and max_steps -------------------------------------------------------------------------


def test_the_smaller_of_steps_and_max_steps_ends_a_descent(plain):
    short = run(Descent("gd", 1e-3, steps=2000), max_steps=777)
    assert (short.status, short.steps) == ("max_steps", 777)
    long = run(Descent("gd", 1e-3, steps=100), max_steps=777)
    assert (long.status, long.steps) == ("steps", 100)
    again = fs.resume(plain, max_steps=400, engine=Descent("gd", 1e-2, steps=300))
    assert (again.status, again.steps) == ("steps", 300)
    again = fs.resume(plain, max_steps=250, engine=Descent("gd", 1e-2, steps=300))
    assert (again.status, again.steps) == ("max_steps", 250)
    again = fs.resume(short, engine=Descent("gd", 1e-3, steps=900))
    assert (again.status, again.steps) == ("steps", 900)


def test_the_default_budget_does_not_cut_steps_that_are_asked_for():
    steps = 1_000_100
    found = run(Descent("gd", 1e-9, steps=steps, patterns=False))
    assert (found.status, found.steps) == ("steps", steps)
    assert found.settings["max_steps"] == steps


def test_a_descent_with_no_step_left_does_not_go_on(plain):
    with pytest.raises(ValueError, match=r"`max_steps` must let .* the 200 that it .* is None"):
        fs.resume(plain)
    with pytest.raises(ValueError, match=r"`engine` must let .* the 200 that .* but allows 150"):
        fs.resume(plain, engine=Descent("gd", 1e-2, steps=150))


# -- what the user's code does -----------------------------------------------------------------

WARM_UP = optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 500)


def test_the_time_of_a_warm_up_is_asked_for():
    with pytest.raises(ValueError, match=r"`learning_rate` must be given, .* here 0, but is None"):
        run(Descent(optax.sgd(WARM_UP)), t1=5.0)
    found = run(Descent(optax.sgd(WARM_UP), WARM_UP), t1=5.0)
    assert found.status == "t1"
    assert found.t_end == pytest.approx(
        np.sum(np.asarray([WARM_UP(k) for k in range(found.steps)], float))
    )
    assert 5.0 <= found.t_end < 5.1


@pytest.mark.parametrize(
    ("schedule", "error", "sentence"),
    [
        (lambda k: -1e-3, ValueError, "rates that are finite and not negative, but gives -0.001"),
        (lambda k: float("nan"), ValueError, "finite and not negative, but gives nan at step 0"),
        (lambda k: 0.1 if k < 5 else 0.01, TypeError, "JAX can trace, .* TracerBool.* when traced"),
        (lambda k: math.exp(-k), TypeError, "JAX can trace, .* but raises .* when traced"),
        (lambda k: None, TypeError, "JAX can trace, .* but raises .* when traced"),
        (lambda k: jnp.ones(3), TypeError, r"returns a number, but returns .* shape \(3,\)"),
    ],
)
def test_schedules_are_checked_at_once(schedule, error, sentence):
    with pytest.raises(error, match=f"Argument `learning_rate` must .*{sentence}"):
        Descent("gd", schedule)


@pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("optimizer", ["gd", "momentum"])
def test_a_schedule_that_turns_bad_names_the_step(optimizer, bad):
    engine = Descent(optimizer, lambda k: jnp.where(k < 100, 1e-3, bad), steps=500)
    with pytest.raises(ValueError, match=f"but gives {bad:g} at step 100"):
        run(engine)


def test_line_searches_are_refused():
    with pytest.raises(TypeError, match=r"`optimizer` must be .* no line search, but its update"):
        run(Descent(optax.lbfgs(), 0.1, steps=3))


# -- other sentences -------------------------------------------------------------------------------


def test_log_norms_are_for_two_layer_relu_networks():
    model = fs.models.TwoLayer.of(START, "gelu")
    with pytest.raises(ValueError, match='`coordinates` must be "weights" but for a TwoLayerReLU'):
        fs.simulate(model, THREE, engine=Descent("gd", 1e-2, coordinates="log_norm", steps=3))


@pytest.mark.parametrize(
    ("engine", "rate"),
    [
        (Descent("gd", 1e3, steps=1000), "learning rate 1000"),
        (Descent("gd", lambda k: 1e3, steps=1000), "learning rate schedule"),
        (Descent(optax.sgd(1e3), steps=1000), "learning rate the optimizer's own"),
    ],
)
def test_what_diverges_names_its_step_size(engine, rate):
    teacher = fs.datasets.linear_teacher(7, 3, noise=0.5, seed=0)
    found = fs.simulate(fs.init.balanced(9, 3, 0.2, seed=1), teacher, engine=engine)
    assert found.status == "non_finite"
    assert rate in found.message
    assert "make it smaller" in found.message


def test_log_norms_and_batches_do_not_go_together():
    with pytest.raises(ValueError, match='`batch_size` must be None with coordinates="log_norm"'):
        Descent("gd", 0.1, coordinates="log_norm", batch_size=2)


def test_stored_states_need_no_code(tmp_path):
    run(Descent(optax.sgd(0.1), steps=200)).save(tmp_path / "run.nc")
    loaded = fs.load(tmp_path / "run.nc")
    states = loaded.states
    assert isinstance(states, DescentStates)
    for i in (0, 10, len(states.t) - 1):
        np.testing.assert_array_equal(loaded.network(states.t[i]).a, states.parameters[i][:12])
    between = 0.5 * float(states.t[-2] + states.t[-1])
    with pytest.raises(TypeError, match=r"Argument `t` must be .*resume\(path, engine=\.\.\.\)"):
        loaded.network(between)


def test_ctrl_c_saves_a_descent(tmp_path):
    reports = []

    def progress(report):
        reports.append(report)
        if len(reports) == 3:
            raise KeyboardInterrupt

    engine = Descent("gd", 1e-6, steps=10**9)
    with pytest.raises(KeyboardInterrupt):
        run(engine, checkpoint=tmp_path / "run.nc", checkpoint_seconds=1e6, progress=progress)
    kept = fs.load(tmp_path / "run.nc")
    assert (kept.status, kept.steps) == ("running", reports[-1].steps)
    again = fs.resume(kept, max_steps=kept.steps + 100)
    whole = run(Descent("gd", 1e-6, steps=kept.steps + 100))
    np.testing.assert_array_equal(again.final.network.W, whole.final.network.W)


# -- time with momentum ------------------------------------------------------------------------


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov"])
def test_time_is_what_a_constant_gradient_moves(optimizer, mu):
    """A parameter of gradient -1 is the time, at every step, for rates and for schedules."""
    schedule = lambda k: 0.1 / (1.0 + 0.1 * k)  # noqa: E731
    for rate in (0.1, schedule):
        engine = Descent(optimizer, rate, momentum=mu, steps=60)
        found = fs.simulate((lambda x: -x[0], np.zeros(1)), engine=engine, states="all")
        states = found.states
        assert isinstance(states, DescentStates)
        np.testing.assert_allclose(states.t, states.parameters[:, 0], rtol=1e-12)
        assert np.all(np.diff(states.t) > 0.0)
