"""What a comparison calls descents, and what it says and draws of them."""

from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import optax
import pytest
import xarray as xr

import flowsim as fs
from flowsim.comparing.names import names_of
from flowsim.engines import Descent

THREE = fs.datasets.three_points()
START = fs.init.balanced(m=12, d=2, scale=1e-2, seed=0)


def compared(optimizers, rates=(0.1,), **options) -> fs.Comparison:
    options = {"t1": 5.0, "modified": False, "sharpness": 0, "points": 40, **options}
    return fs.compare(START, THREE, rates, optimizers, **options)


@pytest.fixture(scope="module")
def mixed() -> fs.Comparison:
    schedule = optax.exponential_decay(0.1, 50, 0.9)
    engines = ["gd", "adam", Descent(optax.sgd(0.1)), Descent("gd", schedule, steps=30)]
    return compared(engines, sharpness=4, threshold=0.5)


# -- the command ---------------------------------------------------------------------------------


def test_the_command_can_leave_out_what_is_slow(tmp_path):
    command = "-m flowsim compare three-points --m 6 --scale 1e-2 --lr 0.1 --t1 2"
    options = f"--no-modified --sharpness 0 --output {tmp_path}"
    words = [sys.executable, *command.split(), *options.split()]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with xr.open_dataset(tmp_path / "compare.nc", engine="h5netcdf") as found:
        assert found.sizes["modified_time"] == found.sizes["look"] == 0
        assert found.sizes["time"] > 0


# -- names ---------------------------------------------------------------------------------------


def test_names_tell_options_apart():
    engines = [
        Descent("gd", 0.1),
        Descent("gd", 0.1, dtype="float32"),
        Descent("gd", 0.1, batch_size=2),
        Descent("gd", 0.1, batch_size=2, seed=3),
        Descent("gd", 0.1, coordinates="log_norm"),
        Descent("momentum", 0.1),
        Descent("momentum", 0.1, momentum=0.5),
        Descent("adam", 0.1, b1=0.8),
        Descent("gd", lambda k: 0.1),
        Descent("gd", lambda k: 0.2),
        Descent(optax.sgd(0.1)),
        Descent(optax.adam(0.1)),
    ]
    assert names_of(engines) == [
        "gd", "gd float32", "gd batch 2", "gd batch 2 seed 3", "log_norm", "momentum",
        "momentum 0.5", "adam b1 0.8", "gd schedule", "gd schedule #2", "optax", "optax #2",
    ]  # fmt: skip
    assert names_of([Descent("gd", rate) for rate in (0.1, 0.01)]) == ["gd", "gd"]


def test_orders_are_those_of_one_name():
    found = compared(["gd", Descent("gd", 1.0, batch_size=2)], [0.02, 0.01, 0.005], t1=10.0)
    assert found.order("gd") == pytest.approx(1.0, abs=0.1)
    assert found.order("gd") == compared(["gd"], [0.02, 0.01, 0.005], t1=10.0).order("gd")
    with pytest.raises(ValueError, match="`name` must be one of gd, gd batch 2, but is 'adma'"):
        found.order("adma")


def test_an_engine_with_a_schedule_runs_once_as_it_is(mixed):
    found = mixed.descents[3]
    assert len(compared([found.engine], [0.1, 0.01]).descents) == 1
    assert (found.name, found.run.status, found.run.steps) == ("gd schedule", "steps", 30)
    assert found.run.t_end == pytest.approx(sum(0.1 * 0.9 ** (k / 50) for k in range(30)))
    assert found.follows
    assert found.distance[-1] < 0.5


# -- what is said --------------------------------------------------------------------------------


def _columns(found: fs.Comparison) -> list[dict[str, str]]:
    head, *rows = found.table().split("\n")[2 : 3 + len(found.descents)]
    # Columns are two spaces apart, and words in them one.
    split = lambda row: [x.strip() for x in row.strip().split("  ") if x.strip()]  # noqa: E731
    return [dict(zip(split(head), split(row), strict=True)) for row in rows]


def test_what_has_no_time_of_the_flow_has_no_columns_of_it(mixed):
    gd, adam, own, _ = _columns(mixed)
    for row in (adam, own):
        names = ("distance", "leaves at t", "limit", "events", "off by")
        assert [row[name] for name in names] == ["-"] * 5
    assert own["eta"] == "-"
    assert gd["limit"] == "20"
    assert gd["leaves at t"] == "never"
    for found in mixed.descents[1:3]:
        assert np.isnan(found.departure)
        assert np.isnan(found.edge)
        assert len(found.event_difference) == 0


def _parabola(x, curvature):
    return 0.5 * curvature * x[0] ** 2


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "nesterov"])
@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
def test_the_limit_is_where_descents_of_a_parabola_grow(optimizer, mu):
    engine = Descent(optimizer, 0.1, momentum=mu)
    limit = compared([engine], t1=1.0).descents[0].stability
    for factor, grows in ((0.99, False), (1.01, True)):
        parabola = functools.partial(_parabola, curvature=factor * limit)
        steps = Descent(optimizer, 0.1, momentum=mu, steps=4000)
        run = fs.simulate((parabola, np.ones(1)), engine=steps, stationary_rtol=0.0)
        assert (not run.final.loss < 1.0) == grows


def test_the_limit_that_is_used_is_the_one_that_is_shown():
    found = compared(["nesterov"], [1.0], t1=40.0, sharpness=24)
    nesterov = found.descents[0]
    assert _columns(found)[0]["limit"] == f"{2 * 1.9 / 2.8:.3g}"
    assert np.isfinite(nesterov.edge)
    assert "2(1+mu)/((1+2mu)eta) = 1.36" in found.why(nesterov)


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov"])
def test_momentum_does_not_leave_the_flow_at_its_start(optimizer):
    found = compared([optimizer], [1e-3], t1=5.0).descents[0]
    early = found.t < 0.5
    assert np.count_nonzero(early) > 5
    assert np.max(found.distance[early]) < 2e-2


@pytest.mark.parametrize("options", [{"max_steps": 20}, {"max_seconds": 1e-9}])
def test_what_a_budget_cuts_off_is_said_to_be(options):
    found = compared(["gd"], [0.05], **options)
    status = next(iter(options))
    row, sentence = _columns(found)[0], found.why(found.descents[0])
    assert row["by"] == status
    assert row["stops at t"] == f"{found.descents[0].run.t_end:.4g}"
    assert f"It follows the flow up to t = {row['stops at t']}, at most" in sentence
    assert f"{status} cuts it off after {row['steps']} steps" in sentence


def test_patterns_that_differed_on_the_way_are_said_to_have():
    found = compared(["gd"], [1.0], t1=60.0)
    descent = found.descents[0]
    assert np.isfinite(descent.departure)
    assert "activation codes differ;" not in found.why(descent)
    assert _columns(found)[0]["end patterns"] == f"{descent.final_pattern_distance:.2g}"


# -- pictures and files --------------------------------------------------------------------------


def test_an_optax_optimizer_is_drawn_beside_others(mixed):
    figure = mixed.plot()
    losses, distances, raster, _ = figure.axes
    # gd, the schedule, and for losses the flow, for distances the threshold.
    assert len(losses.get_lines()) == 3
    assert len(distances.get_lines()) == 3
    assert [x.get_text() for x in raster.get_yticklabels()] == [
        "gradient flow", "gd, η = 0.1", "gd schedule",
    ]  # fmt: skip
    assert losses.get_title(loc="right") == "no time of the flow, not drawn: adam, optax"
    named = [x.get_text() for x in figure.legends[0].get_texts()]
    assert {"gd, η = 0.1", "adam, η = 0.1", "optax", "gradient flow"} <= set(named)


def test_descents_that_have_no_time_may_be_drawn_alone():
    figure = compared(["adam"]).plot()
    assert len(figure.axes[0].get_lines()) == 1


def test_a_saved_comparison_says_how_to_open_it(mixed, tmp_path):
    path = tmp_path / "compare.nc"
    mixed.save(path)
    with pytest.raises(ValueError, match=r"a comparison of runs; open it with xarray\."):
        fs.load(path)


def test_the_function_of_a_descent_is_drawn():
    data = fs.datasets.three_points()
    run = fs.simulate(START, data, engine=Descent("gd", 0.1, steps=300))
    assert fs.plot.possible(run) == ("timeline", "function")
    line = next(x for x in fs.plot.function(run).get_lines() if "end, t = 30" in str(x.get_label()))
    x = np.asarray(line.get_xdata())
    expected = run.final.network(np.column_stack([x, np.ones_like(x)]))
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), expected)
    for draw in (fs.plot.directions, lambda run: fs.plot.animate(run, "film.gif")):
        with pytest.raises(TypeError, match=r"follows the flow .* but is a discrete descent"):
            draw(run)
