"""Pictures of alignment: what is drawn is where the library has it, on circle and sphere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Wedge

import flowsim as fs
from flowsim import plot
from flowsim.events import DEAD
from flowsim.plot import _snapshot, sphere, style
from flowsim.plot.approach import end_time
from tests.plot_support import SPACE, dots, legend, rendered, settled, texts


@pytest.fixture(scope="module")
def three() -> fs.alignment.AlignmentFlow:
    return settled(fs.datasets.three_points())


@pytest.fixture(scope="module")
def five() -> fs.alignment.AlignmentFlow:
    return settled(fs.datasets.five_points(), m=60)


@pytest.fixture(scope="module")
def space() -> fs.alignment.AlignmentFlow:
    return settled(SPACE)


# -- the circle --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["three", "five", "space"])
def test_pictures_draw_on_the_axes_given(name: str, request: pytest.FixtureRequest) -> None:
    flow = request.getfixturevalue(name)
    ax = Figure().add_subplot()
    assert plot.alignment(flow, ax=ax) is ax
    rendered(ax)
    assert ax.get_title("left") == f"Early alignment at t = {flow.t:.4g}"
    assert any(f"m = {flow.network.m}" in text for text in texts(ax))


def test_neurons_are_at_their_angles_outside_the_circle_if_grown(
    five: fs.alignment.AlignmentFlow,
) -> None:
    place, color = dots(rendered(plot.alignment(five)))
    order = np.argsort(five.fate != DEAD, kind="stable")  # the dead are drawn below
    direction, growth = five.direction[order], five.log_growth[order]
    radius = np.linalg.norm(place, axis=1)
    np.testing.assert_allclose(place / radius[:, None], direction, atol=1e-12)
    assert {(r > 1.0, r < 1.0) for r in radius[growth > 1e-12]} == {(True, False)}
    assert {(r > 1.0, r < 1.0) for r in radius[growth < -1e-12]} == {(False, True)}
    expected = np.where(five.network.a[order] > 0.0, style.BLUE, style.VERMILION)
    expected[five.fate[order] == DEAD] = style.GREY
    assert [to_hex(c).upper() for c in color] == expected.tolist()


def test_arrows_are_the_extremal_vectors_with_their_roles(
    five: fs.alignment.AlignmentFlow,
) -> None:
    ax = rendered(plot.alignment(five))
    vectors = fs.extremal_vectors(five.data)
    heads = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    tips = np.array([patch._posA_posB[1] for patch in heads])  # type: ignore[attr-defined]
    length = np.linalg.norm(tips, axis=1)
    np.testing.assert_allclose(tips / length[:, None], [v.direction for v in vectors], atol=1e-12)
    norms = np.array([v.norm for v in vectors])
    np.testing.assert_allclose(length / length.max(), norms / norms.max(), rtol=1e-12)
    white = [to_hex(patch.get_facecolor()) == "#ffffff" for patch in heads]
    assert white == [v.role.grows is False for v in vectors]
    edge = [to_hex(patch.get_edgecolor()).upper() for patch in heads]
    assert edge == [style.BLUE if v.role.attracts > 0 else style.VERMILION for v in vectors]
    assert "extremal, attracts a > 0, which grow" in legend(ax)
    assert "extremal, attracts a < 0, which shrink" in legend(ax)


def test_the_dead_arc_is_grey_where_no_sample_is_on(three: fs.alignment.AlignmentFlow) -> None:
    ax = rendered(plot.alignment(three))
    grey = [
        p for p in ax.patches if isinstance(p, Wedge) and to_hex(p.get_facecolor()) == "#666666"
    ]
    assert [(p.theta1, p.theta2) for p in grey] == [
        (pytest.approx(216.869898, abs=1e-6), pytest.approx(352.874984, abs=1e-6))
    ]
    assert "000\ndead" in texts(ax)
    assert "dead directions" in legend(ax)
    leaky = rendered(plot.alignment(settled(three.data, slope=0.1)))
    assert "000" in texts(leaky)
    assert "dead directions" not in legend(leaky)


def test_cells_and_boundaries_are_named(three: fs.alignment.AlignmentFlow) -> None:
    names = texts(rendered(plot.alignment(three)))
    assert {"111", "011", "001", "110", "100"} <= set(names)
    for name in ("x = −0.75", "x = −0.5", "x = 0.125"):
        assert names.count(name) == 2


def test_shares_are_those_of_the_flow(five: fs.alignment.AlignmentFlow) -> None:
    ends = fs.alignment.until(five.initial, five.data, angle=0.1)
    shares = sorted(text for text in texts(rendered(plot.alignment(ends))) if text.endswith("%"))
    counts = np.bincount(ends.limit[ends.limit >= 0])
    assert shares == sorted(f"{count / 60:.0%}" for count in counts)


def test_many_neurons_and_samples_are_drawn_in_part() -> None:
    data = fs.Dataset.univariate(range(12), [1, -2] * 6)
    flow = settled(data, m=1000)
    ax = rendered(plot.alignment(flow))
    assert len(dots(ax)[0]) == _snapshot.MAX_NEURONS
    assert not any(text.startswith(("x =", "0", "1")) for text in texts(ax))


def test_a_long_name_leaves_the_picture_its_room() -> None:
    three = fs.datasets.three_points()
    data = fs.Dataset(three.X, three.y, name="a name that is longer than pictures are wide " * 3)
    ax = rendered(plot.alignment(settled(data)))
    assert ax.get_position().width > 0.9
    lines = [text.get_text() for text in ax.texts if "longer than" in text.get_text()]
    assert lines[0].count("\n") >= 1


# -- the sphere --------------------------------------------------------------------------------


def test_what_is_drawn_in_a_cell_has_its_pattern() -> None:
    view = sphere.Sphere(SPACE, 0.0)
    w = np.random.default_rng(0).standard_normal((500, 3))
    w /= np.linalg.norm(w, axis=1)[:, None]
    place = view.place(w)
    for side in (-1, 1):
        mine = np.sign(place[:, 0]) == side
        x, y = place[mine, 0] - side * sphere._SHIFT, place[mine, 1]
        on, inside = view._patterns(x, y, side)
        assert inside.all()
        np.testing.assert_array_equal(on, w[mine] @ SPACE.X.T > 0.0)


def test_equal_areas_of_the_sphere_are_equal_areas_of_the_discs() -> None:
    view = sphere.Sphere(SPACE, 0.0)
    w = np.random.default_rng(1).standard_normal((200_000, 3))
    place = view.place(w / np.linalg.norm(w, axis=1)[:, None])
    radius = np.hypot(place[:, 0] - np.sign(place[:, 0]) * sphere._SHIFT, place[:, 1])
    # Uniform in a disc: the squared radius is uniform in [0, 1].
    np.testing.assert_allclose(np.mean(radius**2 < np.linspace(0.1, 1, 10)[:, None], axis=1),
                               np.linspace(0.1, 1, 10), atol=5e-3)  # fmt: skip


def test_the_rims_are_one_circle_and_its_mirror_image() -> None:
    view = sphere.Sphere(SPACE, 0.0)
    angles = np.linspace(0.0, 6.0, 13)
    rim = np.cos(angles)[:, None] * view.frame[0] + np.sin(angles)[:, None] * view.frame[1]
    front, back = (view.place(rim + side * 1e-12 * view.frame[2]) for side in (1, -1))
    np.testing.assert_allclose(front[:, 0], -back[:, 0], atol=1e-9)
    np.testing.assert_allclose(front[:, 1], back[:, 1], atol=1e-9)


def test_the_sphere_shows_neurons_vectors_and_the_dead_cell(
    space: fs.alignment.AlignmentFlow,
) -> None:
    ax = rendered(plot.alignment(space))
    order = np.argsort(space.fate != DEAD, kind="stable")
    expected = sphere.Sphere(SPACE, 0.0).place(space.direction[order])
    np.testing.assert_allclose(dots(ax)[0], expected, atol=1e-12)
    vectors = fs.extremal_vectors(SPACE)
    markers = [str(line.get_marker()) for line in ax.lines if line.get_marker() not in ("None", "")]
    assert sorted(markers) == sorted(style.vector_marker(v.role) for v in vectors)
    assert "00000\ndead" in texts(ax)


@pytest.mark.parametrize("d", [1, 4])
def test_other_dimensions_are_refused_in_one_sentence(d: int, tmp_path: Path) -> None:
    X = np.random.default_rng(0).standard_normal((6, d)) if d > 1 else [[1.0], [-2.0]]
    data = fs.Dataset(X, np.ones(len(X)))
    flow = settled(data, m=4)
    sentence = rf"must have inputs of dimension 2 or 3 .*, but has dimension {d}\."
    with pytest.raises(ValueError, match=rf"Argument `flow` {sentence}"):
        plot.alignment(flow)
    with pytest.raises(ValueError, match=rf"Argument `result` {sentence}"):
        plot.animate(flow, tmp_path / "film.gif")
    assert list(tmp_path.iterdir()) == []


# -- the approach over time --------------------------------------------------------------------


def lines(ax: Axes) -> list[np.ndarray]:
    found = [item for item in ax.collections if isinstance(item, LineCollection)]
    return [np.asarray(path.vertices) for item in found for path in item.get_paths()]


def test_lines_end_at_the_angles_of_the_flow(three: fs.alignment.AlignmentFlow) -> None:
    ax = rendered(plot.approach(three))
    end = end_time(three)
    later = fs.alignment.flow(three.initial, three.data, ax.get_xlim()[1])
    drawn = sorted(path[-1, 1] for path in lines(ax))
    np.testing.assert_allclose(drawn, np.sort(later.angle[later.limit >= 0]), rtol=1e-9)
    assert end >= three.t


def test_a_settled_flow_is_followed_until_it_has_aligned() -> None:
    net = fs.TwoLayerReLU([1.0], [[0.5, 0.75**0.5]])  # at 60 degrees: no event to come
    flow = fs.alignment.until(net, fs.datasets.three_points())
    assert flow.t == 0.0
    later = fs.alignment.flow(net, flow.data, end_time(flow))
    assert later.angle[0] == pytest.approx(0.02, rel=1e-12)
    undecided = fs.alignment.flow(
        fs.init.balanced(24, 2, 1e-6, seed=0), fs.datasets.three_points(), 0.5
    )
    assert end_time(undecided) == 0.5


def test_neurons_that_reach_their_limit_do_so_at_their_last_event() -> None:
    flow = settled(fs.datasets.xor())
    ax = rendered(plot.approach(flow))
    assert sorted(path[-1, 0] for path in lines(ax)) == sorted(flow.last_event)


def test_neurons_that_align_in_a_cell_keep_approaching() -> None:
    """Case 1 at t = 40: all are within rounding of 111, but none of them slides."""
    net = fs.init.balanced(100, 2, 1e-6, seed=0)
    ax = plot.approach(fs.alignment.flow(net, fs.datasets.three_points(), 40.0))
    assert "limit reached: slides along it" not in legend(ax)
    assert len(lines(ax)) == 38
    rate = np.hypot(31 / 120, 2 / 3)
    for line in lines(ax):
        late = (line[:, 0] > 12.0) & (line[:, 1] > 1e-7)
        slope = np.diff(np.log(line[late, 1])) / np.diff(line[late, 0])
        np.testing.assert_allclose(slope, -rate, rtol=1e-2)


def test_the_picture_is_of_a_flow_not_of_a_run() -> None:
    run = fs.simulate(fs.init.balanced(5, 2, 1e-2, seed=0), fs.datasets.xor(), t1=1.0)
    wrong: Any = run
    with pytest.raises(TypeError, match="`flow` must be an AlignmentFlow"):
        plot.alignment(wrong)
    with pytest.raises(ValueError, match=r"`path` must end in \.gif"):
        plot.animate(run, "run.mp4")


def test_the_approach_is_drawn_in_any_dimension_and_without_living_neurons() -> None:
    data = fs.datasets.linear_teacher(8, 5, seed=0)
    rendered(plot.approach(settled(data, m=300)))
    figure = plot.alignment_figure(settled(data, m=5))
    assert len(figure.axes) == 1
    dead = fs.TwoLayerReLU([1.0], [[0.0, -1.0]])
    rendered(plot.approach(fs.alignment.until(dead, fs.datasets.three_points())))
