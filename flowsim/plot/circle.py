"""Directions in the plane: the unit circle, cut by the activation boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.plot import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

    from flowsim.alignment.extremal import ExtremalVectors
    from flowsim.data import Dataset

#: Radii: neurons are within BAND of the circle; then the cells' ring, their names, the samples'.
_BAND, _RING, _PATTERN, _NAME = 0.25, (1.31, 1.37), 1.5, 1.68
#: Length of the longest arrow, and of a head.
_ARROW, _HEAD = 0.66, 0.09
#: More samples than this go without names; narrower cells (degrees) without patterns.
_NAMED_SAMPLES, _NARROW = 8, 8.0


class Circle:
    """Neurons near the unit circle, outside it as they have grown, inside as they have shrunk."""

    note = "distance from the circle: ln of growth (outside) or shrinking (inside)"
    size = (6.4, 7.2)

    def __init__(self, data: Dataset, slope: float) -> None:
        self.data, self.slope = data, slope
        self.dead_directions = False

    def place(self, direction: np.ndarray, growth: np.ndarray) -> np.ndarray:
        """Return positions (m, 2); `growth` is relative, within [-1, 1]."""
        return direction * (1.0 + _BAND * growth)[:, None]

    def connected(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return (m,) whether a line from one position to the other is a path."""
        return np.asarray(np.isfinite(before + after).all(axis=1))

    def areas(self, growth: np.ndarray) -> np.ndarray:
        """Return the areas of the neurons' dots."""
        return np.full(len(growth), 24.0)

    def draw(self, ax: Axes) -> None:
        """Draw the circle, the boundaries, and the cells with their patterns."""
        from matplotlib.patches import Circle as Disc

        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_xlim(-2.15, 2.15)
        ax.set_ylim(-1.85, 1.85)
        ax.add_patch(Disc((0, 0), 1.0, fill=False, edgecolor=style.BLACK, linewidth=1.0, zorder=2))
        self._draw_boundaries(ax)
        self._draw_cells(ax)

    def draw_vectors(self, ax: Axes, vectors: ExtremalVectors) -> list:
        """Draw the extremal vectors as arrows along w, as long as |D| is large."""
        from matplotlib.patches import FancyArrowPatch

        longest = max((v.norm for v in vectors), default=1.0)
        drawn = []
        for v in vectors:
            look = style.vector_look(v.role)
            tip = _ARROW * v.norm / longest * v.direction
            neck = tip - _HEAD * v.direction
            drawn += ax.plot(
                [0, neck[0]], [0, neck[1]], color=look.color, linestyle=look.line, linewidth=2.2,
                zorder=5,
            )  # fmt: skip
            head = FancyArrowPatch(
                tuple(neck), tuple(tip), arrowstyle="-|>", mutation_scale=17, shrinkA=0, shrinkB=0,
                edgecolor=look.color, linewidth=1.6, zorder=5, joinstyle="miter",
                facecolor=look.color if look.filled else "white",
            )  # fmt: skip
            drawn.append(ax.add_patch(head))
        return drawn

    def count(self, ax: Axes, w: np.ndarray, grows: bool, color: str) -> Text:
        """Return an empty text beside where neurons gather at w, on their side of the circle."""
        tangent = np.array([-w[1], w[0]])
        aside = tangent if tangent[1] < 0.0 else -tangent  # below, as seen from the neurons
        place = (1.13 if grows else 0.87) * w + 0.17 * aside
        return ax.text(
            place[0], place[1], "", ha="center", va="center", fontsize=9, color=color, zorder=6,
            fontweight="bold", path_effects=style.halo(),
        )  # fmt: skip

    def _boundaries(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the angles in degrees at which boundaries meet the circle, and whose they are."""
        normals = self.data.normals
        angle = np.degrees(np.arctan2(normals[:, 1], normals[:, 0]))
        index = np.arange(len(normals))
        return np.concatenate([angle + 90.0, angle - 90.0]) % 360.0, np.concatenate([index, index])

    def _draw_boundaries(self, ax: Axes) -> None:
        named = self.data.n <= _NAMED_SAMPLES
        angles, planes = self._boundaries()
        for angle, plane in zip(angles, planes, strict=True):
            u = _unit(angle)
            end = (_NAME - 0.04 if named else _RING[1]) * u
            ax.plot(
                [0, end[0]], [0, end[1]], color=style.GREY, linewidth=0.9 if named else 0.3,
                zorder=1,
            )  # fmt: skip
            if named:
                name = style.plane_name(self.data, plane).replace("sample ", "#")
                side = "left" if u[0] > 0.3 else "right" if u[0] < -0.3 else "center"
                end = "bottom" if u[1] > 0.9 else "top" if u[1] < -0.9 else "center"
                ax.text(
                    _NAME * u[0], _NAME * u[1], name, ha=side, va=end, fontsize=9, color=style.GREY
                )

    def _draw_cells(self, ax: Axes) -> None:
        from matplotlib.patches import Wedge

        ends = np.unique(np.round(self._boundaries()[0], 9)).tolist()
        inner, outer = _RING
        for i, (low, high) in enumerate(zip(ends, [*ends[1:], ends[0] + 360.0], strict=True)):
            middle = _unit((low + high) / 2.0)
            x, y = _PATTERN * middle
            on = self.data.X @ middle > 0.0
            dead = not on.any() and self.slope == 0.0
            face = style.LIGHT if i % 2 else "#EDEDED"
            ax.add_patch(
                Wedge((0, 0), outer, low, high, width=outer - inner, zorder=1.5, linewidth=0,
                      facecolor=style.GREY if dead else face)
            )  # fmt: skip
            if dead:
                self.dead_directions = True
                ax.add_patch(
                    Wedge((0, 0), inner, low, high, facecolor=style.LIGHT, alpha=0.6, zorder=0.5,
                          linewidth=0)
                )  # fmt: skip
            if len(on) <= _NAMED_SAMPLES and high - low >= _NARROW:
                pattern = "".join("1" if k else "0" for k in on)
                text = f"{pattern}\ndead" if dead else pattern
                ax.text(
                    x, y, text, ha="center", va="center", fontsize=9.5, family="monospace",
                    zorder=3, bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"},
                )  # fmt: skip
            elif dead and high - low >= _NARROW:
                ax.text(x, y, "dead", ha="center", va="center", fontsize=9.5)


def _unit(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
