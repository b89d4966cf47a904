"""Films of alignment and of runs: frames, timing, files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from PIL import Image

import flowsim as fs
from flowsim import plot
from flowsim.events import DEAD
from flowsim.plot import style
from flowsim.plot.animate import _motion, _of_flow, _times
from flowsim.plot.approach import end_time
from tests.plot_support import SPACE, dots, settled


@pytest.fixture(scope="module")
def three() -> fs.alignment.AlignmentFlow:
    return settled(fs.datasets.three_points())


@pytest.fixture(scope="module")
def five() -> fs.alignment.AlignmentFlow:
    return settled(fs.datasets.five_points(), m=60)


@pytest.fixture(scope="module")
def space() -> fs.alignment.AlignmentFlow:
    return settled(SPACE)


# -- films -------------------------------------------------------------------------------------


def film(path: Path) -> tuple[list[int], list[np.ndarray]]:
    """Return the durations in ms and the pictures of a GIF."""
    with Image.open(path) as image:
        count = getattr(image, "n_frames", 1)
        durations, pictures = [], []
        for i in range(count):
            image.seek(i)
            durations.append(int(image.info["duration"]))
            pictures.append(np.asarray(image.convert("RGB")))
    return durations, pictures


def small() -> Axes:
    return Figure(figsize=(2.5, 2.5), dpi=60).add_subplot()


def test_a_film_has_its_frames_and_holds_the_last(
    three: fs.alignment.AlignmentFlow, tmp_path: Path
) -> None:
    path = tmp_path / "film.gif"
    ax = plot.animate(three, path, small(), frames=6, seconds=1.2)
    durations, pictures = film(path)
    assert durations == [200] * 5 + [2200]
    assert all(np.any(a != b) for a, b in pairwise(pictures))
    assert [entry.name for entry in tmp_path.iterdir()] == ["film.gif"]
    # The last frame is the flow followed on to the time at which nearly all have aligned.
    end = end_time(three)
    later = fs.alignment.flow(three.initial, three.data, end)
    order = np.argsort(later.fate != DEAD, kind="stable")
    place = dots(ax)[0]
    angles = place / np.linalg.norm(place, axis=1)[:, None]
    np.testing.assert_allclose(angles, later.direction[order], atol=1e-9)
    assert ax.get_title("left") == f"Early alignment, t = {end:.3f}"


def test_the_background_stays_white(three: fs.alignment.AlignmentFlow, tmp_path: Path) -> None:
    plot.animate(three, tmp_path / "film.gif", small(), frames=2)
    for picture in film(tmp_path / "film.gif")[1]:
        assert tuple(picture[0, 0]) == (255, 255, 255)


def test_frames_are_spaced_by_motion(five: fs.alignment.AlignmentFlow) -> None:
    movie = _of_flow(five)
    times = _times(movie, 12)
    assert times[0] == 0.0
    assert times[-1] == end_time(five)
    assert np.all(np.diff(times) > 0.0)

    def largest(at: np.ndarray) -> float:
        shots = [movie.at(t) for t in at]
        return max(_motion(a, b) for a, b in pairwise(shots))

    assert largest(times) < 0.6 * largest(np.linspace(0.0, times[-1], 12))


def test_a_run_is_shown_to_its_end_with_its_loss(tmp_path: Path) -> None:
    data = fs.datasets.three_points()
    solution = fs.simulate(fs.init.balanced(12, 2, 1e-3, seed=0), data)
    path = tmp_path / "run.gif"
    ax = plot.animate(solution, path, small(), frames=4, seconds=0.4)
    assert film(path)[0] == [100, 100, 100, 2100]
    title = f"t = {solution.t_end:.2f}, L½ = {solution.final.loss:.4g}, after early alignment"
    assert ax.get_title("left") == title
    arrows: list[Any] = [p for p in ax.patches if isinstance(p, FancyArrowPatch)]
    assert {arrow.get_alpha() for arrow in arrows} == {0.25}
    final = solution.final.network
    w = final.direction[:, 1:]
    place, color = dots(ax)
    living = np.any(np.abs(color - to_rgb(style.GREY)) > 1e-9, axis=1)
    expected = (w / np.linalg.norm(w, axis=1)[:, None])[solution.final.fate == 0]
    angles = place[living] / np.linalg.norm(place[living], axis=1)[:, None]
    np.testing.assert_allclose(angles, expected, atol=1e-9)


def test_a_film_of_the_sphere_is_written(space: fs.alignment.AlignmentFlow, tmp_path: Path) -> None:
    plot.animate(space, tmp_path / "film.gif", small(), frames=3, seconds=1, trail=2)
    assert len(film(tmp_path / "film.gif")[0]) == 3


@pytest.mark.parametrize(
    ("given", "error", "reason"),
    [
        ({"frames": 1}, ValueError, "Argument `frames` must be at least 2, but is 1."),
        ({"frames": 2.5}, TypeError, "Argument `frames` must be an integer"),
        ({"seconds": 0}, ValueError, "Argument `seconds` must be positive and finite, but is 0."),
        ({"seconds": "1"}, TypeError, "Argument `seconds` must be a number"),
        ({"trail": -1}, ValueError, "Argument `trail` must be at least 0, but is -1."),
    ],
)
def test_wrong_arguments_of_a_film_are_named(
    three: fs.alignment.AlignmentFlow, tmp_path: Path, given: dict, error: type, reason: str
) -> None:
    with pytest.raises(error, match=reason):
        plot.animate(three, tmp_path / "film.gif", **given)
    assert list(tmp_path.iterdir()) == []


def test_a_film_is_of_a_flow_or_a_run(tmp_path: Path) -> None:
    anything: Any = fs.datasets.xor()
    with pytest.raises(TypeError, match=r"`result` must be an AlignmentFlow or a Solution, but is"):
        plot.animate(anything, tmp_path / "film.gif")


def test_a_film_that_cannot_be_written_leaves_what_was_there(
    three: fs.alignment.AlignmentFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "film.gif"
    path.write_text("earlier")
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match=r"Argument `path` must name a file .*: no space left"):
        plot.animate(three, path, small(), frames=2)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]
