"""Descents that diverge, or whose weights are very small; limits of its arguments."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import flowsim as fs
from flowsim.engines import Descent
from flowsim.solution import DescentStates

SMALL = fs.TwoLayerReLU(
    [1e-2, -1e-2, 2e-2], [[1e-2, 0.5e-2], [1e-2, -1e-2], [-1e-2, 1e-3]]
)  # fmt: skip
DATA = fs.Dataset([[1.0, 0.5], [-0.3, 1.0], [0.2, -1.0]], [1.0, -0.5, 0.3])
THREE = fs.datasets.three_points()


def stored(run: fs.Solution) -> DescentStates:
    assert isinstance(run.states, DescentStates)
    return run.states


# -- divergence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "engine",
    [
        Descent("momentum", 20.0),
        Descent("gd", 20.0, dtype="float32"),
        Descent("gd", 20.0, coordinates="log_norm"),
        Descent("gd", 1e300),
    ],
    ids=["momentum", "float32", "log_norm", "at once"],
)
@pytest.mark.parametrize("states", ["log", "ends"])
def test_what_diverges_ends_as_such(engine, states):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fs.simulate(SMALL, DATA, engine=engine, max_steps=200, states=states)
    assert (run.status, run.final.kind) == ("non_finite", "unknown")
    assert not np.isfinite(run.history.loss[-1])
    # The end is the last state with a finite loss, and says which.
    row = int(np.flatnonzero(np.isfinite(run.history.loss))[-1])
    assert (run.final.t, run.final.loss) == (run.history.t[row], run.history.loss[row])
    assert stored(run).t[-1] == run.final.t
    assert run.final.network.loss(DATA) == pytest.approx(run.final.loss, rel=1e-6)
    np.testing.assert_array_equal(run.network(run.final.t).W, run.final.network.W)


def test_dense_output_goes_on_to_where_weights_are_finite():
    net, data = fs.init.balanced(20, 2, 1e-2, seed=0), fs.datasets.five_points()
    engine = Descent("momentum", 0.9)
    run = fs.simulate(net, data, engine=engine, states="log", max_steps=200)
    every = fs.simulate(net, data, engine=engine, states="all", max_steps=200)
    assert every.final.t > run.final.t  # there are steps between rows of the history
    np.testing.assert_array_equal(run.network(every.final.t).W, every.final.network.W)
    with pytest.raises(ValueError, match="Argument `t` must be a time at which the weights of"):
        run.network(run.t_end)


def test_a_model_that_diverges_is_not_at_rest():
    quartic = (lambda p: jnp.sum(p["x"] ** 4) / 4, {"x": jnp.array([1.0, 2.0])})
    run = fs.simulate(quartic, engine=Descent("gd", 10.0), max_steps=3000)
    assert (run.status, run.final.kind) == ("non_finite", "unknown")


def test_a_start_without_a_finite_loss_is_refused():
    net = fs.init.balanced(4, 2, 1e200, seed=0)
    with pytest.raises(ValueError, match="Argument `net` must have a finite loss at the start"):
        fs.simulate(net, DATA, engine=Descent("gd", 0.1))
    with pytest.raises(ValueError, match="Argument `net` must have a finite loss at the start"):
        fs.simulate((lambda p: p / 0.0, jnp.ones(())), engine=Descent("gd", 0.1))


# -- small weights -------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "dtype"), [(1e-200, "float64"), (1e-24, "float32")])
def test_growth_of_very_small_weights_ends_the_alignment(scale, dtype):
    net = fs.init.balanced(4, 2, scale, seed=0)
    options = {"alignment": "growth", "alignment_epsilon": 0.1}
    run = fs.simulate(net, THREE, engine=Descent("gd", 0.05, dtype=dtype), t1=1500.0, **options)
    end = run.alignment.end_time
    grown = lambda t: np.max(run.network(t).log_norm - net.log_norm)  # noqa: E731
    needed = -0.1 * np.log(scale)
    assert grown(end) == pytest.approx(needed, rel=0.03)
    assert grown(end - 0.05) < needed


@pytest.mark.parametrize("init", ["unbalanced", "dominated"])
def test_log_norms_of_any_neurons_have_no_smallest_scale(init):
    net = getattr(fs.init, init)(4, 2, log10_scale=-3000, seed=0)
    run = fs.simulate(net, THREE, engine=Descent("gd", 0.05, coordinates="log_norm"))
    flow = fs.simulate(net, THREE, end="rest")
    assert (run.status, flow.status) == ("stationary", "stationary")
    assert run.final.loss == pytest.approx(flow.final.loss, rel=1e-9)
    # Several neurons may grow together; what they compute has one limit.
    np.testing.assert_allclose(
        run.final.network(THREE.X), flow.final.network(THREE.X), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(run.t_end, flow.t_end, rtol=0.1)


def test_log_norms_follow_neurons_through_zero():
    """Two of these neurons have |a| > |w|, and their w goes past 0 at less than 1/100 of a."""
    net = fs.init.unbalanced(4, 2, 1e-1, seed=0)
    flow = fs.simulate(net, DATA, t1=12.0)
    part = lambda t: np.linalg.norm(flow.network(t).direction[:, 1:], axis=1)  # noqa: E731
    assert np.sum(np.min([part(t) for t in np.linspace(0, 4, 81)], axis=0) < 1e-2) == 2
    gap = lambda n: n.a**2 - np.sum(n.W**2, axis=1)  # noqa: E731
    for rate in (5e-2, 1e-2, 1e-3):
        run = fs.simulate(net, DATA, engine=Descent("gd", rate, coordinates="log_norm"), t1=12.0)
        end = run.final.network
        assert run.status == "t1"
        assert np.linalg.norm(end.W - flow.final.network.W) < 0.15 * rate
        np.testing.assert_allclose(gap(end), gap(net), rtol=0, atol=1e-14)


# -- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"states": "ends"}, {"state_bytes": 400}])
def test_checkpoints_hold_the_latest_state(options: Any, tmp_path):
    path = tmp_path / "run.nc"
    engine = Descent("gd", 1e-4, steps=10**9)

    def progress(report: Any) -> None:
        if report.steps > 3000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fs.simulate(
            SMALL, DATA, engine=engine, checkpoint=path, checkpoint_seconds=1e-6,
            progress=progress, **options,
        )  # fmt: skip
    kept = fs.load(path)
    assert kept.steps > 0
    assert (stored(kept).iteration[0], stored(kept).iteration[-1]) == (0, kept.steps)
    assert len(stored(kept).iteration) <= 5
    again = fs.resume(path, max_steps=kept.steps + 100)
    whole = fs.simulate(SMALL, DATA, engine=Descent("gd", 1e-4, steps=kept.steps + 100), **options)
    np.testing.assert_array_equal(stored(again).parameters[-1], stored(whole).parameters[-1])


# -- arguments -----------------------------------------------------------------------------------


def test_numbers_of_any_kind_are_kept_in_files(tmp_path):
    given: dict[str, Any] = {
        "learning_rate": Fraction(1, 10), "steps": np.int32(7), "seed": True,
        "momentum": Fraction(1, 2), "batch_size": np.uint8(2), "patterns": np.bool_(True),
    }  # fmt: skip
    engine = Descent("momentum", **given)
    plain = Descent("momentum", 0.1, steps=7, seed=1, momentum=0.5, batch_size=2)
    assert engine == plain
    for name in ("learning_rate", "steps", "seed", "momentum", "batch_size", "patterns"):
        assert type(getattr(engine, name)) is type(getattr(plain, name))
    fs.simulate(SMALL, DATA, engine=engine).save(tmp_path / "run.nc")
    again = fs.resume(tmp_path / "run.nc", max_steps=9)
    expected = fs.simulate(SMALL, DATA, engine=Descent(**{**vars(plain), "steps": 9}))
    np.testing.assert_array_equal(again.final.network.W, expected.final.network.W)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 10**30}, r"Argument `steps` must be below 2\^63, but is 1000"),
        ({"seed": 2**63}, r"Argument `seed` must be below 2\^63, but is 9223372036854775808"),
        ({"seed": None}, "Argument `seed` must be an integer, but is None"),
        ({"patterns": "no"}, "Argument `patterns` must be True or False, but is 'no'"),
        ({"patterns": None}, "Argument `patterns` must be True or False, but is None"),
        ({"patterns": 2}, "Argument `patterns` must be True or False, but is 2"),
    ],
)
def test_arguments_that_make_no_sense_are_one_sentence(options: Any, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        Descent("gd", 0.1, **options)


def test_the_largest_seed_draws_batches():
    engine = Descent("gd", 0.1, seed=2**63 - 1, batch_size=2, steps=5)
    assert fs.simulate(SMALL, DATA, engine=engine).status == "steps"
