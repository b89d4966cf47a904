"""The neurons' directions as a picture that moves."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.plot import _snapshot
from flowsim.plot._scene import Scene, axes_for, vectors_of, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

    from flowsim.alignment.extremal import ExtremalVectors
    from flowsim.alignment.flow import AlignmentFlow
    from flowsim.files import StrPath
    from flowsim.solution import Solution

#: Times at which motion is measured, to space the frames.
_PROBES = 160
#: The last frame stays this long, in seconds; a frame lasts at least the shortest.
_HOLD, _SHORTEST = 2.0, 0.02
#: The part of the pace that follows time (or steps), not motion.
_STEADY = 0.4


def animate(
    result: AlignmentFlow | Solution,
    path: StrPath,
    ax: Axes | None = None,
    *,
    frames: int = 100,
    seconds: float = 8.0,
    trail: int = 8,
    vectors: ExtremalVectors | None = None,
) -> Axes:
    """Write a GIF of the neurons turning among the cells and the extremal vectors.

    As `flowsim.plot.alignment`, from t = 0 on. Frames are spaced so that the motion is even: they
    are close in time where neurons turn fast. An alignment flow that is settled is followed on
    until nearly all neurons have aligned; of a run's extremal vectors, those of r = y are drawn,
    pale once its early alignment is over. Percentages are of the neurons drawn, 400 at most.
    The file is complete or not there.

    Parameters
    ----------
    result : AlignmentFlow or Solution
        With inputs of dimension 2 or 3.
    path : path-like
        The file, whose name ends in ``.gif``.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure. The whole figure is written.
    frames : int
        Number of frames, at least 2.
    seconds : float
        Length, at most 50 frames a second; the last frame then stays for 2 seconds.
    trail : int
        Number of earlier frames whose positions are drawn as fading trails.
    vectors : ExtremalVectors, optional
        Those of the data, if they are known already.

    Returns
    -------
    matplotlib Axes
        As they are in the last frame.

    Raises
    ------
    ValueError, TypeError
        If the inputs have neither two nor three dimensions, or an argument makes no sense.
    OSError
        If the file cannot be written.
    """
    _check(frames, seconds, trail)
    if not str(path).lower().endswith(".gif"):
        raise ValueError(f"Argument `path` must end in .gif, but it is {path}.")
    movie, slope = _movie(result), result.initial.negative_slope
    view = view_of(result.data, slope, "result")
    vectors = vectors_of(result.data, slope, movie.loss) if vectors is None else vectors
    shots = [movie.at(t) for t in _times(movie, frames)]
    ax = axes_for(view, ax)
    scene = Scene(ax, view, vectors, max(shots[0].largest, shots[-1].largest), trail)
    scene.legend(shots[0], shots[-1])

    def draw(shot: _snapshot.Snapshot) -> None:
        scene.fade_vectors(shot.t > movie.aligned)
        scene.show(shot)
        scene.title(*movie.title(shot.t))

    _write(ax, path, draw, shots, seconds)
    return ax


def _movie(result: Any) -> _Movie:
    from flowsim.alignment.flow import AlignmentFlow
    from flowsim.solution import Solution

    if isinstance(result, Solution):
        return _of_solution(result)
    if isinstance(result, AlignmentFlow):
        return _of_flow(result)
    raise TypeError(
        "Argument `result` must be an AlignmentFlow or a Solution, but is of type "
        f"{type(result).__name__}."
    )


def _check(frames: Any, seconds: Any, trail: Any) -> None:
    for name, value, low in (("frames", frames, 2), ("trail", trail, 0)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(
                f"Argument `{name}` must be an integer, but is of type {type(value).__name__}."
            )
        if value < low:
            raise ValueError(f"Argument `{name}` must be at least {low}, but is {value}.")
    if not isinstance(seconds, Real):
        raise TypeError(
            f"Argument `seconds` must be a number, but is of type {type(seconds).__name__}."
        )
    if not 0.0 < float(seconds) < np.inf:
        raise ValueError(f"Argument `seconds` must be positive and finite, but is {seconds}.")


class _Movie:
    """What is shown when: times to probe, the neurons and the title at a time.

    `aligned` is when early alignment is over, `loss` the name of the loss.
    """

    def __init__(
        self,
        probes: np.ndarray,
        at: Callable[[float], _snapshot.Snapshot],
        title: Callable[[float], tuple[str, str]],
        aligned: float,
        loss: str,
    ) -> None:
        self.probes, self.at, self.title = probes, at, title
        self.aligned, self.loss = aligned, loss


def _of_flow(flow: AlignmentFlow) -> _Movie:
    from flowsim.labels import system_label
    from flowsim.plot.approach import at_times, end_time

    which = _snapshot.chosen(flow.network.m)
    label = system_label(flow.data, flow.initial)
    return _Movie(
        np.linspace(0.0, end_time(flow), _PROBES),
        lambda t: at_times(flow, which, np.array([t]))[0],
        lambda t: (f"Early alignment, t = {t:.3f}", label),
        np.inf,
        flow.loss,
    )


def _of_solution(solution: Solution) -> _Movie:
    from flowsim.report import loss_symbol, system_label

    which = _snapshot.chosen(solution.initial.m)
    end = solution.alignment.end_time
    times = solution.states.t
    rows = np.unique(np.linspace(0, len(times) - 1, _PROBES).astype(int))
    label = system_label(solution)

    def title(t: float) -> tuple[str, str]:
        phase = "after early alignment" if t > end else "early alignment"
        loss = f"{loss_symbol(solution)} = {solution.loss(t):.4g}"
        return f"t = {t:.2f}, {loss}, {phase}", label

    return _Movie(
        times[rows],
        lambda t: _snapshot.of_solution(solution, min(t, solution.t_end), which),
        title,
        end if np.isfinite(end) else np.inf,
        solution.settings["loss"],
    )


def _times(movie: _Movie, frames: int) -> np.ndarray:
    """Return times of frames between which about the same motion happens."""
    probes = movie.probes
    if len(probes) < 2 or probes[-1] <= probes[0]:
        return np.full(frames, probes[-1])
    shots = [movie.at(t) for t in probes]
    motion = np.array([_motion(a, b) for a, b in pairwise(shots)])
    pace = np.full(len(motion), 1.0 / len(motion))
    if motion.sum() > 0.0:
        pace = _STEADY * pace + (1.0 - _STEADY) * motion / motion.sum()
    path = np.concatenate([[0.0], np.cumsum(pace)])
    return np.interp(np.linspace(0.0, path[-1], frames), path, probes)


def _motion(before: _snapshot.Snapshot, after: _snapshot.Snapshot) -> float:
    """Return the mean turning, plus the change of growth as far as it is seen."""
    turned = np.linalg.norm(after.direction - before.direction, axis=1)
    return float(np.mean(np.nan_to_num(turned)))


def _write(
    ax: Axes,
    path: StrPath,
    draw: Callable[[_snapshot.Snapshot], None],
    shots: Sequence[_snapshot.Snapshot],
    seconds: float,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    from flowsim.files import replacing

    figure = ax.figure.get_figure(root=True)
    canvas = FigureCanvasAgg(figure)
    images = []
    for shot in shots:
        draw(shot)
        if not images:  # once: a layout that is solved again would shake the picture
            canvas.draw()
            canvas.draw()
            figure.set_layout_engine("none")
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    plain = _quantized(images)
    each = max(seconds / len(plain), _SHORTEST)
    durations = [round(1000 * each)] * (len(plain) - 1) + [round(1000 * (each + _HOLD))]
    buffer = io.BytesIO()  # OSError is that of the file alone
    plain[0].save(
        buffer, format="GIF", save_all=True, append_images=plain[1:], duration=durations, loop=0,
        optimize=False, disposal=1,
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _quantized(images: list[Image.Image]) -> list[Image.Image]:
    """Return images of one palette, from the first, middle and last: no flicker, a small file."""
    from PIL import Image

    few = [images[i] for i in (0, len(images) // 2, -1)]
    joined = Image.new("RGB", (few[0].width, len(few) * few[0].height))
    for i, image in enumerate(few):
        joined.paste(image, (0, i * image.height))
    palette = joined.quantize(colors=255, method=Image.Quantize.MEDIANCUT)
    table = np.array(palette.getpalette(), dtype=np.uint8).reshape(-1, 3)
    # Pillow takes a near colour of the table, not the nearest; the background must not be grey.
    background = np.asarray(few[0])[0, 0]
    table = np.vstack([table, background])
    plain = []
    for image in images:
        index = np.array(image.quantize(palette=palette, dither=Image.Dither.NONE))
        index[(np.asarray(image) == background).all(axis=-1)] = len(table) - 1
        plain.append(Image.fromarray(index))
        plain[-1].putpalette(table.ravel().tolist())
    return plain
