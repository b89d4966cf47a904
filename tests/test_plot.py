"""Pictures: they draw on the given axes, show the run's own numbers, and never fail."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import flowsim as fs
from flowsim import plot, report
from flowsim.plot import style
from flowsim.solution import States

TIMES = "time t of the gradient flow (logarithmic)"


def run(net: fs.TwoLayerReLU, data: fs.Dataset, **settings: Any) -> fs.Solution:
    return fs.simulate(net, data, end="rest", **settings)


@pytest.fixture(scope="module")
def three_points() -> fs.Solution:
    return run(fs.init.balanced(20, 2, 1e-3, seed=0), fs.datasets.three_points())


@pytest.fixture(scope="module")
def five_points() -> fs.Solution:
    return run(fs.init.balanced(60, 2, 1e-6, seed=0), fs.datasets.five_points())


def rendered(ax: Axes) -> Axes:
    """Draw the figure as a file would be, so that what only fails when drawn fails here."""
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="png", dpi=50)
    return ax


def texts(ax: Axes) -> str:
    legend = ax.get_legend()
    drawn = [*ax.texts, ax.title, *(legend.get_texts() if legend else ())]
    return "\n".join([*(text.get_text() for text in drawn), ax.get_title("left")])


def line(ax: Axes, label: str) -> np.ndarray:
    (found,) = [item for item in ax.lines if str(item.get_label()).startswith(label)]
    return np.array(found.get_xydata())


def lines(ax: Axes) -> list[np.ndarray]:
    """Return the points of every line, (points, 2) each."""
    return [np.asarray(item.get_xydata()) for item in ax.lines]


def longest(ax: Axes) -> np.ndarray:
    return max(lines(ax), key=len)


def paths(ax: Axes) -> list[np.ndarray]:
    """Return the points of every path in a collection of lines."""
    found = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [np.asarray(path.vertices) for c in found for path in c.get_paths()]


@pytest.mark.parametrize("name", ["timeline", "directions", "function"])
def test_pictures_draw_on_the_axes_given_and_say_which_run_it_is(
    name: str, three_points: fs.Solution
) -> None:
    figure = Figure()
    ax = figure.add_subplot()
    assert getattr(plot, name)(three_points, ax=ax) is ax
    assert figure.axes == [ax]
    words = texts(rendered(ax))
    assert report.verdict(three_points) in words
    assert report.system_label(three_points) in words


def test_drawing_leaves_pyplot_alone(three_points: fs.Solution) -> None:
    code = (
        "import sys, flowsim as fs\n"
        "s = fs.simulate(fs.init.balanced(4, 2, 1e-2, seed=0), fs.datasets.three_points())\n"
        "axes = [fs.plot.timeline(s), fs.plot.directions(s), fs.plot.function(s)]\n"
        "assert len({id(ax.figure) for ax in axes}) == 3\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


SITUATIONS = {
    "at rest from the start": (
        fs.init.from_arrays([1e-3], [[0.0, -1e-3]]), fs.datasets.three_points(), {},
    ),
    "frozen residual": (
        fs.init.balanced(10, 2, 1e-3, seed=0), fs.datasets.three_points(),
        {"residual": "frozen", "t1": 8.0},
    ),
    "weights beyond float64": (
        fs.init.balanced(4, 2, 1e-3, seed=0), fs.datasets.three_points(),
        {"residual": "frozen", "t1": 1500.0},
    ),
    "one input": (
        fs.init.dominated(20, 1, 1e-3, seed=1),
        fs.Dataset([[1.0], [-2.0], [-1.0]], [1.0, 1.0, -0.5]), {},
    ),
    "plane without bias": (
        fs.init.balanced(30, 2, 1e-3, seed=0), fs.datasets.half_spaces(q=6), {},
    ),
    "one neuron, one sample": (
        fs.init.from_arrays([0.005], [[0.003, 0.004]]), fs.datasets.one_sample(), {},
    ),
    "scale below float64": (
        fs.init.balanced(10, 2, log10_scale=-400, seed=0), fs.datasets.three_points(), {},
    ),
    "sign changes": (
        fs.init.unbalanced(10, 2, 0.5, seed=2), fs.datasets.five_points(), {"t1": 30.0},
    ),
    "leaky": (
        fs.init.balanced(10, 2, 1e-2, seed=0, negative_slope=0.2), fs.datasets.five_points(), {},
    ),
    "stopped at once": (
        fs.init.balanced(10, 2, 1e-6, seed=0), fs.datasets.five_points(), {"max_steps": 1},
    ),
    "zero labels": (
        fs.init.balanced(6, 2, 0.5, seed=0), fs.Dataset([[1.0, 1.0], [-1.0, 1.0]], [0.0, 0.0]), {},
    ),
    "many inputs": (
        fs.init.balanced(10, 4, 1e-2, seed=0), fs.datasets.linear_teacher(6, 4), {"t1": 30.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_possible_picture_of_every_situation_is_drawn(situation: str) -> None:
    net, data, settings = SITUATIONS[situation]
    solution = run(net, data, **settings)
    names = plot.possible(solution)
    assert names[0] == "timeline"
    for name in names:
        rendered(getattr(plot, name)(solution))


# -- timeline ----------------------------------------------------------------------------------


def test_the_timeline_shows_the_loss_the_alignment_and_the_plateau(
    five_points: fs.Solution,
) -> None:
    ax = rendered(plot.timeline(five_points))
    curve = longest(ax)
    shown = np.isfinite(curve[:, 1])
    np.testing.assert_allclose(
        curve[shown, 1], five_points.loss(curve[shown, 0]), rtol=1e-6, atol=0.0
    )
    verticals = [points[0, 0] for points in lines(ax) if len(set(points[:, 0])) == 1]
    assert five_points.alignment.end_time in verticals
    words = texts(ax)
    assert "plateau L½ = 0.0318158" in words
    assert f"{len(five_points.events.where('pattern'))} activation changes" in words
    assert "early alignment" in words
    assert ax.get_xlabel() == TIMES


def test_time_starts_late_enough_to_see_something_and_early_enough_for_events(
    five_points: fs.Solution,
) -> None:
    left = style.first_shown_time(five_points)
    changes = five_points.events.where("pattern").t
    assert np.mean(changes >= left) > 0.9
    assert left > 1e-4 * five_points.alignment.end_time


def test_a_few_steps_are_filled_up_to_a_smooth_curve() -> None:
    net = fs.init.from_arrays([0.005], [[0.003, 0.004]])
    solution = run(net, fs.datasets.one_sample())
    curve = longest(plot.timeline(solution))
    assert len(curve) > 2 * solution.steps
    drop = np.abs(np.diff(curve[np.isfinite(curve[:, 1]), 1])) / solution.history.loss[0]
    assert drop.max() < 0.1


def test_the_cost_of_the_ticks_does_not_grow_with_the_events(three_points: fs.Solution) -> None:
    events = three_points.events
    many = 100_000
    crowd = type(events)(
        t=np.geomspace(0.01, 10.0, many),
        **{
            name: np.resize(getattr(events, name)[:1], many)
            for name in ("kind_code", "neuron", "sample", "before", "after")
        },
    )
    ax = plot.timeline(dataclasses.replace(three_points, events=crowd))
    assert len(paths(ax)) <= 1000


def test_labels_stay_off_the_curve(five_points: fs.Solution) -> None:
    ax = rendered(plot.timeline(five_points))
    curve = longest(ax)
    points = ax.transData.transform(curve[np.isfinite(curve[:, 1])])
    boxes = [text.get_window_extent() for text in ax.texts if "plateau" in text.get_text()]
    assert boxes
    for box in boxes:
        inside = (points > [box.x0, box.y0]) & (points < [box.x1, box.y1])
        assert not np.any(inside.all(axis=1))


# -- directions --------------------------------------------------------------------------------


def test_directions_end_where_the_neurons_end(three_points: fs.Solution) -> None:
    ax = rendered(plot.directions(three_points))
    final = three_points.final.network.W[three_points.final.fate == 0]
    wanted = np.degrees(np.arctan2(final[:, 1], final[:, 0]))
    ends = np.array([points[-1] for points in paths(ax) if np.isfinite(points[-1, 1])])
    np.testing.assert_allclose(ends[:, 0], three_points.t_end)
    assert len(ends) == len(final)
    np.testing.assert_allclose(np.sort(ends[:, 1] % 360.0), np.sort(wanted % 360.0), atol=1e-9)


def test_no_path_jumps_around_the_circle() -> None:
    # Without bias no direction is dead, so wherever the circle is cut, some neuron passes.
    solution = run(*SITUATIONS["plane without bias"][:2])
    for points in paths(plot.directions(solution)):
        steps = np.abs(np.diff(points[:, 1]))
        assert np.all(steps[np.isfinite(steps)] <= 180.0)


def test_directions_are_coloured_by_the_sign_of_a(three_points: fs.Solution) -> None:
    ax = plot.directions(three_points)
    counts = {}
    for group in ax.collections:
        if isinstance(group, LineCollection):
            color = to_hex(tuple(np.asarray(group.get_colors())[0, :3].tolist()))
            counts[color.upper()] = len(group.get_paths())
    states = three_points.states
    assert isinstance(states, States)
    alive = states.fate[0] == 0
    for sign, color in ((1, style.BLUE), (-1, style.VERMILION)):
        number = np.sum(alive & (states.sign[0] == sign))
        assert counts[color] == number


def test_activation_boundaries_are_where_samples_switch(three_points: fs.Solution) -> None:
    ax = plot.directions(three_points)
    heights = [points[0, 1] for points in lines(ax) if len(set(points[:, 1])) == 1]
    for x in (-0.75, -0.5, 0.125):
        for angle in np.degrees(np.arctan2([-x, x], [1.0, -1.0])):
            assert np.min(np.abs((np.array(heights) - angle + 180.0) % 360.0 - 180.0)) < 1e-9
    assert "000: dead" in texts(ax)


def test_directions_need_a_plane() -> None:
    solution = run(*SITUATIONS["many inputs"][:2], max_steps=3)
    with pytest.raises(ValueError, match=r"dimension 1 or 2 .* but has dimension 4\.$"):
        plot.directions(solution)


# -- function ----------------------------------------------------------------------------------


def test_the_function_is_the_networks(five_points: fs.Solution) -> None:
    ax = rendered(plot.function(five_points))
    (plateau,) = report.plateaus(five_points)
    for label, net in (
        ("start", five_points.initial),
        ("plateau", five_points.network(plateau.t)),
        ("end", five_points.final.network),
    ):
        curve = line(ax, label)
        inputs = np.column_stack([curve[:, 0], np.ones(len(curve))])
        np.testing.assert_allclose(curve[:, 1], net(inputs), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(line(ax, "data")[:, 1], five_points.data.y)


def test_the_kinks_of_the_five_points_are_found(five_points: fs.Solution) -> None:
    kinks = line(plot.function(five_points), "kinks")[:, 0]
    np.testing.assert_allclose(np.sort(kinks), [-5 / 12, 1 / 4], atol=1e-6)


def test_the_legend_covers_no_data(five_points: fs.Solution) -> None:
    ax = rendered(plot.function(five_points))
    legend = ax.get_legend()
    assert legend is not None
    assert not legend.get_window_extent().overlaps(ax.get_window_extent())


def test_the_function_needs_univariate_data() -> None:
    solution = run(*SITUATIONS["plane without bias"][:2], max_steps=3)
    with pytest.raises(ValueError, match="univariate data"):
        plot.function(solution)
    assert plot.possible(solution) == ("timeline", "directions")


def test_the_function_needs_outputs_in_range() -> None:
    net, data, settings = SITUATIONS["weights beyond float64"]
    solution = run(net, data, **settings)
    assert plot.possible(solution) == ("timeline", "directions")
    with pytest.raises(ValueError, match="float64's range"):
        plot.function(solution)
