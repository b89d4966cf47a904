"""How neurons approach the extremal vectors over time, in any dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.plot import _snapshot, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flowsim.alignment.flow import AlignmentFlow

#: At most so many neurons are drawn, at so many times.
_NEURONS, _TIMES = 200, 160
#: Angles below this (radians) are rounding and are not drawn.
_SMALLEST = 1e-9


def approach(flow: AlignmentFlow, ax: Axes | None = None) -> Axes:
    """Draw the angle between every neuron and its limit over time, on a logarithmic axis.

    Between its events a balanced neuron's angle to D falls as ``tan(phi/2) ~ e^{-|D| t}``: late
    lines are straight, with the slope of the growth rate. A dot on the axis is the time at which a
    neuron has reached its limit, along which it slides. The dashed line is the last event.

    Parameters
    ----------
    flow : AlignmentFlow
        The neurons whose limits are known at its time are drawn, at most 200.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure, ``ax.figure``, unknown to pyplot.

    Returns
    -------
    matplotlib Axes
    """
    ax = style.new_axes(ax)
    last = float(flow.last_event.max())
    end = end_time(flow) or 1.0
    if flow.status == "settled":
        end = max(end, 1.08 * last)
    times = np.linspace(0.0, end, _TIMES)
    living = np.flatnonzero(flow.limit >= 0)
    which = living[np.unique(np.linspace(0, max(len(living) - 1, 0), _NEURONS).astype(int))[
        : len(living)
    ]]  # fmt: skip
    if len(which):
        _draw_angles(ax, flow, which, times)
    if last > 0.0:
        ax.axvline(last, color=style.GREY, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
    ax.set_xlim(0.0, end)
    ax.set_xlabel("time t of the flow with r = y")
    ax.set_ylabel("angle between w and its limit")
    some = f"{len(which)} of " if len(which) < len(living) else ""
    dead = f"; {flow.dead_fraction:.1%} of all {flow.network.m} die" if flow.dead_fraction else ""
    ax.set_title(f"Approach of {some}{len(living)} neurons{dead}", loc="left", fontsize=11)
    return ax


def end_time(flow: AlignmentFlow) -> float:
    """Return how long to follow a flow: if it is settled, until nearly all have aligned.

    That is when 95 % of the living are within 0.02 rad of their limits.
    """
    going = np.flatnonzero(flow.limit >= 0)
    if flow.status != "settled" or not len(going):
        return flow.t
    rate = flow.limit_norm[flow.limit[going]]
    angle = np.maximum(flow.angle[going], _SMALLEST)
    left = np.log(np.tan(angle / 2.0) / np.tan(0.01)) / rate
    return flow.t + max(0.0, float(np.quantile(left, 0.95)))


def at_times(flow: AlignmentFlow, which: np.ndarray, times: np.ndarray) -> list[_snapshot.Snapshot]:
    """Return some neurons of the flow at several times."""
    from flowsim.alignment.flow import flow as run

    net = flow.initial.subset(which)
    everyone = np.arange(net.m)
    return [
        _snapshot.of_flow(run(net, flow.data, float(t), loss=flow.loss, record=False), everyone)
        for t in times
    ]


def _draw_angles(ax: Axes, flow: AlignmentFlow, which: np.ndarray, times: np.ndarray) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba
    from matplotlib.lines import Line2D

    shots = at_times(flow, which, times)
    limit = flow.limit_direction[flow.limit[which]]
    # The chord is accurate where the arc cosine is not.
    chords = np.array([np.linalg.norm(shot.direction - limit, axis=1) for shot in shots])
    angle = 2.0 * np.arcsin(np.minimum(chords / 2.0, 1.0))
    sign = shots[-1].sign
    ended, last = np.flatnonzero(_on_a_line(flow)[which]), flow.last_event[which]
    low = max(float(np.min(np.delete(angle[-1], ended), initial=0.004)) / 2.0, 1e-4)
    for which_sign in (1, -1):
        paths = [
            _path(times, angle[:, j], float(last[j]) if j in ended else None, low)
            for j in np.flatnonzero(sign == which_sign)
        ]
        color = to_rgba(style.sign_color(which_sign), 0.45)
        ax.add_collection(LineCollection(paths, colors=color, linewidths=1.0, zorder=3))
    ax.scatter(
        last[ended], np.full(len(ended), low), s=14, clip_on=False, zorder=4,
        color=[style.sign_color(sign[j]) for j in ended], alpha=0.7, linewidths=0,
    )  # fmt: skip
    ax.set_yscale("log")
    ax.set_ylim(low, 4.0)
    _degrees(ax)
    handles = [
        Line2D([], [], color=style.sign_color(which_sign), linewidth=2, label=name)
        for which_sign, name in ((1, "a > 0"), (-1, "a < 0"))
        if np.any(sign == which_sign)
    ]
    if len(ended):
        handles.append(
            Line2D([], [], color=style.GREY, marker="o", markersize=4, linestyle="none",
                   label="limit reached: slides along it")
        )  # fmt: skip
    handles += [
        Line2D([], [], color=style.GREY, linestyle=(0, (5, 3)), label="last event"),
    ]
    ax.legend(handles=handles, loc="upper right", fontsize=9, framealpha=0.9)


def _on_a_line(flow: AlignmentFlow) -> np.ndarray:
    """Return (m,) whether slides leave a neuron one line: at its limit since its last event."""
    codes, cell = flow._walked.codes, flow._walked.cell
    normals = flow.data.normals
    lines = [
        bool(np.any(code == 0))
        and np.linalg.matrix_rank(normals[code == 0], tol=1e-11) == flow.data.d - 1
        for code in codes
    ]
    return np.array(lines)[cell] & flow.settled & (flow.limit >= 0)


def _path(times: np.ndarray, angle: np.ndarray, end: float | None, low: float) -> np.ndarray:
    """Return the points of a line, which leads below the axis if it ends."""
    if end is None:
        return np.column_stack([times, angle])
    before = times < end
    return np.column_stack([np.append(times[before], end), np.append(angle[before], low)])


def _degrees(ax: Axes) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    shown = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 90.0, 180.0]
    low, high = ax.get_ylim()
    kept = [value for value in shown if low <= np.radians(value) <= high]
    ax.yaxis.set_major_locator(FixedLocator(np.radians(kept).tolist()))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_yticklabels([f"{value:g}°" for value in kept])
    ax.grid(axis="y", color=style.LIGHT, linewidth=0.6, zorder=0)
