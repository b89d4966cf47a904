"""Where the neurons point over time, for inputs in the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.events import FATES
from flowsim.plot import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flowsim.solution import Solution

#: At most this many neurons and times are drawn; more would only blacken the picture.
_MAX_NEURONS = 400
_MAX_TIMES = 300
#: Fewer stored states than this are filled up to as many.
_FEW_STATES = 150
#: More neurons than this get thinner lines.
_FEW_NEURONS = 100
#: More activation boundaries than this go without names.
_NAMED_SAMPLES = 8
_ALIVE = FATES.index("alive")


def directions(solution: Solution, ax: Axes | None = None) -> Axes:
    """Draw the angle of every neuron's w_j over logarithmic time.

    Colour is the sign of a_j, width the neuron's share of sum_j |a_j| |w_j| at the
    end, and a cross the place where a neuron dies. Horizontal lines are the activation
    boundaries w.x_k = 0. For d = 1 the angle is that of (a_j, w_j).

    Parameters
    ----------
    solution : Solution
        With inputs of dimension 1 or 2 (a constant input included).
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure, ``ax.figure``, unknown to pyplot.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError
        After a run of another model than a TwoLayerReLU.
    ValueError
        If the inputs have more than two dimensions.
    """
    style.neuron_states(solution)
    if solution.data.d > 2:
        raise ValueError(
            "Argument `solution` must have inputs of dimension 1 or 2 to draw directions, but "
            f"has dimension {solution.data.d}."
        )
    ax = style.new_axes(ax)
    left = style.time_axis(ax, solution)
    chosen, share = _chosen_neurons(solution)
    times, angle, alive, sign = _paths(solution, left, chosen)
    style.shade_alignment(ax, solution)
    bottom = _cut(solution, angle[-1])
    ax.set_ylim(bottom, bottom + 360.0)
    _draw_boundaries(ax, solution)
    _draw_paths(ax, times, angle, alive, sign, share[chosen])
    _draw_ends(ax, solution, angle[-1], chosen, share)
    _label(ax, solution, len(chosen))
    return ax


def _chosen_neurons(solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """Return the neurons to draw, heavy ones last, and every neuron's share of the weight."""
    net = solution.final.network
    # |a_j| ||w_j||, relative to the largest: neurons may be far below the range of float64.
    size = np.exp(2.0 * (net.log_norm - net.log_norm.max())) if np.any(net.direction) else 0.0
    weight = np.abs(net.direction[:, 0]) * np.linalg.norm(net.direction[:, 1:], axis=1) * size
    share = weight / (weight.sum() or 1.0)
    order = np.argsort(share, kind="stable")
    if net.m <= _MAX_NEURONS:
        return order, share
    half = _MAX_NEURONS // 2
    light = np.linspace(0, net.m - half - 1, half).astype(int)
    return np.concatenate([order[light], order[-half:]]), share


def _paths(
    solution: Solution, left: float, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return times and, (times, neurons) each, angles in degrees, lives and signs of a_j.

    The angle is nan where w_j = 0. Stored states are taken as they are where they are
    dense in logarithmic time; few of them are filled up from dense output.
    """
    states = style.neuron_states(solution)
    end = style.last_shown_time(solution)
    times = np.geomspace(left, end, _MAX_TIMES if len(states.t) > _FEW_STATES else _FEW_STATES)
    rows = np.maximum(np.searchsorted(states.t, times, side="right") - 1, 0)
    if len(states.t) > _FEW_STATES:
        rows = np.unique(np.append(rows, len(states.t) - 1))
        times = np.maximum(states.t[rows], left)
        z = states.neurons[rows][:, chosen]
    else:
        # geomspace may end a rounding beyond the run.
        z = np.array([solution.network(min(t, solution.t_end)).direction[chosen] for t in times])
    x, y = (z[..., 0], z[..., 1]) if solution.data.d == 1 else (z[..., 1], z[..., 2])
    angle = np.where((x == 0.0) & (y == 0.0), np.nan, np.degrees(np.arctan2(y, x)))
    return times, angle, states.fate[rows][:, chosen] == _ALIVE, states.sign[rows][:, chosen]


def _boundaries(solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """Return the angles of the activation boundaries, and of which hyperplane each is."""
    if solution.data.d == 1:
        return np.array([0.0, 180.0]), np.array([0, 0])
    normals = solution.data.normals
    angle = np.degrees(np.arctan2(normals[:, 1], normals[:, 0]))
    index = np.arange(len(normals))
    return np.concatenate([angle + 90.0, angle - 90.0]), np.concatenate([index, index])


def _arcs(solution: Solution) -> list[tuple[float, float, np.ndarray]]:
    """Return the arcs between boundaries: both ends, and which samples are on there."""
    ends = np.sort(np.unique(np.round(_boundaries(solution)[0] % 360.0, 9)))
    arcs = []
    for low, high in zip(ends, np.append(ends[1:], ends[0] + 360.0), strict=True):
        middle = np.radians((low + high) / 2.0)
        w = np.array([np.cos(middle), np.sin(middle)])[-solution.data.d :]
        arcs.append((float(low), float(high), solution.data.X @ w > 0.0))
    return arcs


def _cut(solution: Solution, final: np.ndarray) -> float:
    """Return the angle to cut the circle at: amid dead directions, or where no neuron ends."""
    dead = [(high - low, (low + high) / 2.0) for low, high, on in _arcs(solution) if not on.any()]
    if not dead:
        ends = np.sort(final[np.isfinite(final)] % 360.0)
        gaps = np.diff(np.append(ends, ends[:1] + 360.0))
        dead = [(gap, end + gap / 2.0) for gap, end in zip(gaps, ends, strict=True)]
    middle = max(dead, default=(0.0, 0.0))[1]
    return (round(middle / 15.0) * 15.0) % 360.0 - 360.0


def _draw_boundaries(ax: Axes, solution: Solution) -> None:
    """Draw the boundaries and name them; mark the directions in which a ReLU neuron is dead."""
    bottom = ax.get_ylim()[0]
    angles, planes = _boundaries(solution)
    named = len(solution.data.normals) <= _NAMED_SAMPLES
    for angle, plane in zip((angles - bottom) % 360.0 + bottom, planes, strict=True):
        ax.axhline(angle, color=style.GREY, linewidth=0.9 if named else 0.4, zorder=1)
        if named:
            ax.text(
                1.012, angle, style.plane_name(solution.data, plane),
                transform=ax.get_yaxis_transform(), va="center", fontsize=9, color=style.GREY,
            )  # fmt: skip
    for low, high, on in _arcs(solution):
        start = (low - bottom) % 360.0 + bottom
        pieces = [(start, start + high - low), (start - 360.0, start - 360.0 + high - low)]
        for below, above in pieces:
            _describe_arc(ax, solution, max(below, bottom), min(above, bottom + 360.0), on)


def _describe_arc(ax: Axes, solution: Solution, low: float, high: float, on: np.ndarray) -> None:
    if high - low < 6.0:
        return
    dead = not on.any() and solution.initial.negative_slope == 0.0
    if dead:
        ax.axhspan(low, high, color=style.LIGHT, alpha=0.7, linewidth=0, zorder=0.5)
    if len(on) > _NAMED_SAMPLES:
        return
    pattern = "".join("1" if k else "0" for k in on)
    ax.text(
        0.008, (low + high) / 2.0, f"{pattern}: dead" if dead else pattern,
        transform=ax.get_yaxis_transform(), va="center", fontsize=9, color=style.GREY, zorder=6,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )  # fmt: skip


def _draw_paths(
    ax: Axes,
    times: np.ndarray,
    angle: np.ndarray,
    alive: np.ndarray,
    sign: np.ndarray,
    share: np.ndarray,
) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgb

    bottom = ax.get_ylim()[0]
    angle = (angle - bottom) % 360.0 + bottom
    strength = np.sqrt(share / (share.max() or 1.0))
    # A path lives up to the state in which it is first dead; around the circle it is cut.
    lives = alive | np.vstack([alive[:1], alive[:-1]])
    jumps = np.vstack([np.zeros_like(lives[:1]), np.abs(np.diff(angle, axis=0)) > 180.0])
    for which, color in ((1, style.BLUE), (-1, style.VERMILION)):
        own = sign == which
        own |= np.vstack([own[:1], own[:-1]])  # up to the state in which the sign is new
        shown = np.where(lives & ~jumps & own, angle, np.nan)
        kept = np.flatnonzero(np.isfinite(shown).any(axis=0))
        paths = [np.column_stack([times, shown[:, j]]) for j in kept]
        colors = [(*to_rgb(color), 0.35 + 0.55 * strength[j]) for j in kept]
        widths = 0.6 + (2.4 if len(share) <= _FEW_NEURONS else 1.2) * strength[kept]
        ax.add_collection(LineCollection(paths, colors=colors, linewidths=widths, zorder=3))
    died = np.argwhere(alive[:-1] & ~alive[1:])
    ax.plot(
        times[died[:, 0] + 1], angle[died[:, 0] + 1, died[:, 1]], "x", color=style.BLACK,
        markersize=4, markeredgewidth=0.8, zorder=4, linestyle="none",
    )  # fmt: skip


def _draw_ends(
    ax: Axes, solution: Solution, angle: np.ndarray, chosen: np.ndarray, share: np.ndarray
) -> None:
    """Draw the neurons at the end as discs whose areas are their shares of the weight."""
    bottom, end = ax.get_ylim()[0], style.last_shown_time(solution)
    states = style.neuron_states(solution)
    living = (states.fate[-1, chosen] == _ALIVE) & np.isfinite(angle)
    for which, color in ((1, style.BLUE), (-1, style.VERMILION)):
        mine = living & (states.sign[-1, chosen] == which)
        # Neurons within a degree make one disc, or their pile would look like one of them.
        place = np.round((angle[mine] - bottom) % 360.0 + bottom)
        places, index = np.unique(place, return_inverse=True)
        area = np.bincount(index, weights=share[chosen][mine], minlength=len(places))
        ax.scatter(
            np.full(len(places), end), places, s=300.0 * area, color=color, alpha=0.6,
            linewidths=0, clip_on=False, zorder=5,
        )  # fmt: skip


def _label(ax: Axes, solution: Solution, drawn: int) -> None:
    from matplotlib.lines import Line2D

    bottom = ax.get_ylim()[0]
    ticks = np.arange(np.ceil(bottom / 45.0) * 45.0, bottom + 361.0, 45.0)
    ax.set_yticks(ticks, [f"{tick % 360:.0f}°" for tick in ticks])
    vector = "(a, w)" if solution.data.d == 1 else "w"
    some = f" ({drawn} of {solution.initial.m} neurons drawn)" if drawn < solution.initial.m else ""
    ax.set_ylabel(f"direction of {vector}{some}")
    handles = [
        Line2D([], [], color=style.BLUE, linewidth=2, label="a > 0"),
        Line2D([], [], color=style.VERMILION, linewidth=2, label="a < 0"),
        Line2D([], [], color=style.BLACK, marker="x", linestyle="none", label="neuron dies"),
        Line2D([], [], color=style.GREY, linewidth=0.9, label="activation boundary"),
        Line2D([], [], color=style.GREY, linestyle=(0, (5, 3)), label="end of early alignment"),
        Line2D(
            [], [], color=style.GREY, marker="o", linestyle="none", alpha=0.6,
            label="end: share of Σ|a|‖w‖",
        ),
    ]  # fmt: skip
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=6, fontsize=8.5,
        frameon=False, columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip
    style.set_title(ax, solution)
