"""Pictures and reports of models' runs: what can be drawn is, and the rest says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_runs import SCIPY, diagonal_data, run, two_layer, wells

import flowsim as fs
from flowsim import plot
from flowsim.models import DeepLinear
from flowsim.report import final_loss, milestones, verdict


def rendered(sol: fs.Solution) -> Any:
    ax = plot.timeline(sol)
    ax.figure.canvas.draw()  # warnings of the drawing are errors here
    return ax


@pytest.mark.parametrize("name", ["tanh", "diagonal", "deep-linear-2", "loss"])
def test_every_model_has_a_timeline(name: str) -> None:
    sol = run(name)
    assert plot.possible(sol) == ("timeline",)
    ax = rendered(sol)
    low, high = ax.get_ylim()
    assert low <= sol.history.loss[0] <= high
    assert verdict(sol) in ax.get_title(loc="left")


def test_a_loss_that_is_negative_has_a_linear_axis_and_a_true_label() -> None:
    sol = run("loss")
    ax = rendered(sol)
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] < -3.0 < -2.705 < ax.get_ylim()[1]
    assert float(final_loss(sol)) == pytest.approx(-3.0, rel=1e-9)
    assert verdict(sol) == "The flow ended at a local minimum with L = -3."
    assert "  local minimum" not in sol.summary().splitlines()[3]


def test_runs_that_begin_with_their_alignment_over_or_at_rest_are_drawn() -> None:
    large = fs.simulate(two_layer("tanh", scale=1.0), run("tanh").data, engine=SCIPY, t1=0.5)
    assert large.alignment.end_time == 0.0
    rendered(large)
    zero = DeepLinear([np.zeros((2, 2)), np.zeros((1, 2))])
    rest = fs.simulate(zero, diagonal_data(), engine=SCIPY)
    assert rest.steps == 0
    rendered(rest)
    x = np.array([0.0, 0.0])
    rendered(fs.simulate((wells, {"x": x}), engine=SCIPY))


def test_pictures_of_neurons_are_refused() -> None:
    for picture in (plot.directions, plot.function):
        with pytest.raises(TypeError, match=r"must be a run of a TwoLayerReLU.*a DiagonalLinear\."):
            picture(run("diagonal"))


def test_milestones_between_steps_have_the_losses_of_dense_output(tmp_path: Path) -> None:
    relu = fs.simulate(fs.init.balanced(20, 2, 1e-3, seed=0), fs.datasets.three_points(), t1=9.0)
    for sol in (relu, run("diagonal")):
        end = sol.alignment.end_time
        assert end not in sol.history.t
        (row,) = [m for m in milestones(sol) if m.what.startswith("early alignment ends")]
        assert row.loss == sol.loss(end)
    sol = run("equinox-2")
    sol.save(tmp_path / "run.nc")
    without = milestones(fs.load(tmp_path / "run.nc"))
    for row, exact in zip(without, milestones(sol), strict=True):
        assert row.loss == pytest.approx(exact.loss, rel=1e-4)
