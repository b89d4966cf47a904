"""Directions in space: the unit sphere as two discs, in Lambert's equal-area projection.

The left disc is the half around the mean direction of the inputs, where neurons are active, the
right one the opposite half, laid open like a book: a point on the rim of one is on the rim of the
other at its mirror image. A direction at the angle theta from a disc's centre is at the
distance ``sqrt(2) sin(theta/2)`` from it, so that equal areas of the sphere are equal areas here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.plot import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

    from flowsim.alignment.extremal import ExtremalVectors
    from flowsim.data import Dataset

#: Distance of the discs' centres from the middle.
_SHIFT = 1.3
#: Pixels of a disc's diameter on which cells are found.
_PIXELS = 321
#: More samples than this go without names; cells of smaller inner radius without patterns.
_NAMED_SAMPLES, _NARROW = 8, 0.15
#: Boundaries that meet the rim within this angle are named together.
_TOGETHER = 0.1


class Sphere:
    """Neurons on the unit sphere; the larger a dot, the more its neuron has grown."""

    note = "size of a dot: ln of growth"
    size = (11.0, 7.0)

    def __init__(self, data: Dataset, slope: float) -> None:
        self.data, self.slope = data, slope
        self.frame = _frame(data)
        self.dead_directions = False

    def place(self, direction: np.ndarray, growth: np.ndarray | None = None) -> np.ndarray:
        """Return positions (m, 2)."""
        local = direction @ self.frame.T
        front = local[:, 2] >= 0.0
        # sqrt(2) sin(theta/2) / sin(theta) = 1 / sqrt(1 + cos(theta)).
        scale = 1.0 / np.sqrt(1.0 + np.abs(local[:, 2]))
        x, y = local[:, 0] * scale, local[:, 1] * scale
        return np.column_stack([np.where(front, x - _SHIFT, _SHIFT - x), y])

    def connected(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return (m,) whether two positions are on one disc."""
        return before[:, 0] * after[:, 0] > 0.0

    def areas(self, growth: np.ndarray) -> np.ndarray:
        """Return the areas of the neurons' dots."""
        return 22.0 * np.exp(0.9 * growth)

    def draw(self, ax: Axes) -> None:
        """Draw the two discs, the boundaries, and the cells with their patterns."""
        from matplotlib.patches import Circle as Disc

        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_xlim(-_SHIFT - 1.22, _SHIFT + 1.22)
        ax.set_ylim(-1.32, 1.2)
        for side, name in ((-1, "around the mean input"), (1, "the opposite half, mirrored")):
            rim = Disc((side * _SHIFT, 0), 1.0, fill=False, edgecolor=style.BLACK, linewidth=1.2)
            ax.add_patch(rim)
            ax.text(side * _SHIFT, -1.25, name, ha="center", va="center", fontsize=10)
        self._draw_cells(ax)
        self._draw_boundaries(ax)

    def draw_vectors(self, ax: Axes, vectors: ExtremalVectors) -> list:
        """Draw the extremal vectors as stars (neurons grow), rings (shrink) or diamonds."""
        drawn = []
        for v in vectors:
            look = style.vector_look(v.role)
            (place,) = self.place(v.direction[None])
            drawn += ax.plot(
                *place, marker=style.vector_marker(v.role), linestyle="none",
                markersize=17 if look.filled and v.role.attracts else 11,
                markerfacecolor=look.color if look.filled else "none",
                markeredgecolor="white" if look.filled else look.color,
                markeredgewidth=1.2 if look.filled else 2.2, zorder=6,
            )  # fmt: skip
        return drawn

    def count(self, ax: Axes, w: np.ndarray, grows: bool, color: str) -> Text:
        """Return an empty text below where neurons gather at w."""
        (place,) = self.place(w[None])
        return ax.text(
            place[0], place[1] - 0.12, "", ha="center", va="center", fontsize=9.5, color=color,
            zorder=7, fontweight="bold", path_effects=style.halo(),
        )  # fmt: skip

    def _draw_boundaries(self, ax: Axes) -> None:
        named = self.data.n <= _NAMED_SAMPLES
        angles = np.linspace(0.0, 2.0 * np.pi, 721)
        for normal in self.data.normals:
            basis = np.linalg.svd(normal[None])[2][1:]
            circle = np.cos(angles)[:, None] * basis[0] + np.sin(angles)[:, None] * basis[1]
            points = self.place(circle)
            jumps = np.abs(np.diff(points[:, 0])) > 0.5
            for part in np.split(points, np.flatnonzero(jumps) + 1):
                ax.plot(*part.T, color=style.GREY, linewidth=1.0 if named else 0.4, zorder=2)
        if named:
            self._name_boundaries(ax)

    def _name_boundaries(self, ax: Axes) -> None:
        """Write the samples where their boundaries meet the rims; one text where many do."""
        meeting = np.cross(self.data.normals, self.frame[2]) @ self.frame.T
        planes = np.flatnonzero(np.hypot(meeting[:, 0], meeting[:, 1]) > 1e-9)
        angle = np.arctan2(meeting[planes, 1], meeting[planes, 0]) % np.pi
        order = np.argsort(angle)
        groups = np.split(order, np.flatnonzero(np.diff(angle[order]) > _TOGETHER) + 1)
        for group in groups if len(planes) else ():
            samples = np.flatnonzero(np.isin(self.data.hyperplane, planes[group]))
            name = "#" + ", ".join(str(k) for k in samples)
            for turn in (0.0, np.pi):
                middle = float(np.mean(angle[group])) + turn
                for side in (-1, 1):
                    ax.text(
                        side * _SHIFT + 1.1 * np.cos(middle), -side * 1.1 * np.sin(middle), name,
                        ha="center", va="center", fontsize=9, color=style.GREY,
                    )  # fmt: skip

    def _draw_cells(self, ax: Axes) -> None:
        """Shade the dead cell, and name cells that are wide enough."""
        from scipy.ndimage import distance_transform_edt

        named = self.data.n <= _NAMED_SAMPLES
        grid = np.linspace(-1.0, 1.0, _PIXELS)
        x, y = np.meshgrid(grid, grid)
        for side in (-1, 1):
            on, inside = self._patterns(x, y, side)
            dead = inside & ~on.any(axis=-1)
            if self.slope == 0.0 and dead.any():
                self.dead_directions = True
                ax.contourf(
                    x + side * _SHIFT, y, dead.astype(float), levels=[0.5, 1.5],
                    colors=[style.LIGHT], zorder=0.5,
                )  # fmt: skip
            if not named:
                continue
            for pattern in np.unique(on[inside], axis=0):
                cell = np.pad(inside & (on == pattern).all(axis=-1), 1)
                depth = np.asarray(distance_transform_edt(cell))[1:-1, 1:-1] * (grid[1] - grid[0])
                at = np.unravel_index(np.argmax(depth), depth.shape)
                if depth[at] >= _NARROW * (1.0 if len(pattern) <= 6 else 1.3):
                    text = "".join("1" if k else "0" for k in pattern)
                    text = f"{text}\ndead" if not pattern.any() and self.slope == 0.0 else text
                    ax.text(x[at] + side * _SHIFT, y[at], text, ha="center", va="center",
                            fontsize=9, family="monospace", color=style.GREY,
                            zorder=2.5)  # fmt: skip

    def _patterns(self, x: np.ndarray, y: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which samples are on at each pixel of a disc, and whether it is inside."""
        square = x**2 + y**2
        inside = square < 1.0
        # The inverse of the projection: cos(theta) = 1 - r^2, up to the half of the sphere.
        factor = np.sqrt(np.maximum(2.0 - square, 0.0))
        local = np.stack([x * factor * -side, y * factor, (1.0 - square) * -side], axis=-1)
        return (local @ self.frame) @ self.data.X.T > 0.0, inside


def _frame(data: Dataset) -> np.ndarray:
    """Return rows right, up and front: front is the mean direction of the inputs."""
    mean = np.mean(data.X / data.norms[:, None], axis=0)
    length = np.linalg.norm(mean)
    front = mean / length if length > 1e-6 else np.array([0.0, 0.0, 1.0])
    axis = np.eye(3)[np.argmin(np.abs(front))]
    right = axis - (axis @ front) * front
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(front, right), front])
