"""The picture of directions at one time, which can be shown again at another."""

from __future__ import annotations

import textwrap
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowsim.plot import style
from flowsim.plot.circle import Circle
from flowsim.plot.sphere import Sphere

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flowsim.alignment.extremal import ExtremalVectors
    from flowsim.data import Dataset
    from flowsim.plot._snapshot import Snapshot

#: Extremal vectors are enumerated up to this many hyperplanes in space, and sampled beyond.
_ENUMERATED = 60
_SAMPLES = 2000
#: Neurons within this chord (10 degrees) of an extremal vector are counted there; the number of
#: extremal vectors beyond which none are.
_NEAR, _COUNTED = 2.0 * np.sin(np.radians(5.0)), 12
#: Letters of a subtitle that fit in an inch; a title's distance and a line's height in points.
_LETTERS, _TITLE_PAD, _LINE = 12.0, 22.0, 14.0
#: Opacity of neurons, and of the extremal vectors when they are those of the past.
_NEURONS, _PAST = 0.6, 0.25


def view_of(data: Dataset, slope: float, argument: str) -> Circle | Sphere:
    """Return how directions in the space of the inputs are drawn.

    Raises
    ------
    ValueError
        If the inputs have neither two nor three dimensions.
    """
    if data.d not in (2, 3):
        raise ValueError(
            f"Argument `{argument}` must have inputs of dimension 2 or 3 to draw directions, but "
            f"has dimension {data.d}."
        )
    return Circle(data, slope) if data.d == 2 else Sphere(data, slope)


def vectors_of(data: Dataset, slope: float, loss: str) -> ExtremalVectors:
    """Return the extremal vectors to draw."""
    from flowsim.alignment.extremal import extremal_vectors

    if data.d == 3 and len(data.normals) > _ENUMERATED:
        return extremal_vectors(
            data, negative_slope=slope, loss=loss, method="sample", samples=_SAMPLES
        )
    return extremal_vectors(data, negative_slope=slope, loss=loss, samples=0)  # no shares


def axes_for(view: Circle | Sphere, ax: Axes | None) -> Axes:
    """Return `ax`, or axes of the view's shape in a new figure that pyplot does not know of."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=view.size, dpi=120, layout=layout).add_subplot()


class Scene:
    """The background, and neurons that `show` moves.

    Parameters
    ----------
    ax : matplotlib Axes
    view : Circle or Sphere
    vectors : ExtremalVectors
    largest : float
        The logarithm of growth that counts as 1.
    trail : int
        How many earlier positions are drawn behind the neurons.
    """

    def __init__(
        self, ax: Axes, view: Circle | Sphere, vectors: ExtremalVectors, largest: float, trail: int
    ) -> None:
        from matplotlib.collections import LineCollection

        self.ax, self.view, self.vectors, self.largest = ax, view, vectors, largest or 1.0
        view.draw(ax)
        self._arrows = view.draw_vectors(ax, vectors)
        attracting = [v for v in vectors if v.role.attracts]
        self._counts = [
            (v, view.count(ax, v.direction, bool(v.role.grows), style.sign_color(v.role.attracts)))
            for v in (attracting if len(attracting) <= _COUNTED else ())
        ]
        self._dots = ax.scatter([], [], zorder=4, linewidths=0)
        self._trails = LineCollection([], zorder=3.5, capstyle="round")
        ax.add_collection(self._trails)
        self._counting = True
        self._past: deque[np.ndarray] = deque(maxlen=trail + 1)
        self._subtitle = ax.text(
            0.0, 1.02, "", transform=ax.transAxes, fontsize=10, color=style.GREY
        )
        self._subtitle.set_in_layout(False)  # a name may be too long for any layout

    def title(self, title: str, subtitle: str) -> None:
        """Write a title, and a subtitle of as many lines as it needs, above the picture."""
        lines = textwrap.wrap(subtitle, round(_LETTERS * self.view.size[0])) or [""]
        self._subtitle.set_text("\n".join(lines))
        pad = _TITLE_PAD + _LINE * (len(lines) - 1)
        self.ax.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=pad)

    def fade_vectors(self, past: bool) -> None:
        """Draw the extremal vectors pale once they are those of a phase that is over."""
        self._counting = not past
        for artist in self._arrows:
            artist.set_alpha(_PAST if past else 1.0)

    def show(self, now: Snapshot, counted: Snapshot | None = None) -> None:
        """Move the neurons; percentages are those of `counted`, or of what is shown."""
        growth = np.clip(now.growth / self.largest, -1.0, 1.0)
        place = self.view.place(now.direction, growth)
        place[~np.isfinite(place).all(axis=1)] = np.nan
        order = np.argsort(~now.dead, kind="stable")  # the dead below
        self._dots.set_offsets(place[order])
        self._dots.set_sizes(self.view.areas(growth)[order])
        self._dots.set_facecolor(_colors(now, _NEURONS)[order].tolist())
        self._count(counted or now)
        self._past.append(np.where(now.movable[:, None], place, np.nan))
        self._draw_trails(now)

    def _count(self, now: Snapshot) -> None:
        for vector, text in self._counts:
            chord = np.linalg.norm(now.direction - vector.direction, axis=1)
            near = now.movable & (now.sign == vector.role.attracts) & (chord <= _NEAR)
            text.set_text(f"{np.mean(near):.0%}" if near.any() and self._counting else "")

    def legend(self, *shown: Snapshot) -> None:
        """Explain the colours, markers and radii of what is shown, below the picture."""
        handles = [*_neuron_handles(shown), *self._vector_handles(), *self._place_handles()]
        self.ax.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), fontsize=9,
            ncols=2 if self.view.size[0] < 8.0 else 4, frameon=False, handletextpad=0.6,
            title=self.view.note, title_fontsize=9,
        )  # fmt: skip

    def _draw_trails(self, now: Snapshot) -> None:
        points = np.array(self._past)  # (times, m, 2)
        segments, colors = [], []
        color = _colors(now, 1.0)
        for i in range(len(points) - 1):
            pair = np.stack([points[i], points[i + 1]], axis=1)  # (m, 2, 2)
            short = self.view.connected(pair[:, 0], pair[:, 1])
            segments.append(pair[short])
            faded = color[short].copy()
            faded[:, 3] = 0.45 * (i + 1) / len(points)
            colors.append(faded)
        if segments:
            self._trails.set_segments(list(np.concatenate(segments)))
            self._trails.set_color(np.concatenate(colors).tolist())
            self._trails.set_linewidth(1.6)

    def _vector_handles(self) -> list:
        from matplotlib.lines import Line2D

        handles = []
        roles = {v.role for v in self.vectors}
        for role in sorted(roles, key=lambda role: (-role.attracts, not role.grows)):
            look = style.vector_look(role)
            flat = isinstance(self.view, Circle)
            handles.append(
                Line2D(
                    [], [], color=look.color, linestyle=look.line if flat else "none", linewidth=2,
                    marker=">" if flat else style.vector_marker(role),
                    markersize=12 if role.grows and not flat else 8,
                    markerfacecolor=look.color if look.filled else "white",
                    label=f"extremal, {style.role_text(role)}",
                )
            )  # fmt: skip
        return handles

    def _place_handles(self) -> list:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        handles: list = [
            Line2D([], [], color=style.GREY, linewidth=1, label="activation boundary w·x = 0")
        ]
        if self.view.dead_directions:
            handles.append(Patch(facecolor=style.LIGHT, label="dead directions"))
        return handles


def _colors(now: Snapshot, alpha: float) -> np.ndarray:
    from matplotlib.colors import to_rgba

    table = {sign: to_rgba(style.sign_color(sign), alpha) for sign in (-1, 0, 1)}
    colors = np.array([table[sign] for sign in now.sign]).reshape(-1, 4)
    colors[now.dead] = to_rgba(style.GREY, 0.35)
    return colors


def _neuron_handles(shown: Sequence[Snapshot]) -> list:
    from matplotlib.lines import Line2D

    dead = np.concatenate([now.dead for now in shown])
    sign = np.concatenate([now.sign for now in shown])
    groups = [
        ("neuron with a > 0", style.BLUE, ~dead & (sign > 0)),
        ("neuron with a < 0", style.VERMILION, ~dead & (sign < 0)),
        ("dead neuron", style.GREY, dead),
    ]
    return [
        Line2D([], [], color=color, marker="o", linestyle="none", markersize=6, alpha=0.8,
               label=name)
        for name, color, who in groups if who.any()
    ]  # fmt: skip
