"""The loss over time, with what happened when."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from flowsim.events import EVENT_KINDS
from flowsim.plot import style
from flowsim.report import Milestone, loss_formula, loss_symbol, plateaus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flowsim.solution import Solution

#: The loss gets a logarithmic axis when it falls by more than this factor. Its bottom is
#: this part of the loss at which something last happened: the way to zero beyond takes
#: many decades, and would flatten all that is above.
_LOG_BELOW = 1e-2
_BELOW_LAST_EVENT = 3e-2
_LOG_BOTTOM = 1e-16
#: Steps are refined where the loss moves by more than this part of the axis.
_COARSE = 0.02
_MAX_REFINED = 200
#: Width and height of a plateau's label as parts of the axes.
_LABEL_SIZE = np.array([0.26, 0.09])
#: Events are drawn in this many columns: dark ones hold many.
_COLUMNS = 500
#: Rows of the rug: kinds of events, colour, label.
_RUG = (
    (("pattern",), style.BLACK, "activation changes"),
    (("death",), style.VERMILION, "deaths"),
    (("sign_change",), style.PURPLE, "sign changes of a"),
    (("origin",), style.GREEN, "zeros of w"),
    (("ambiguous",), style.ORANGE, "ambiguous points"),
)
_ROW = 0.045
#: The time after the alignment gets a close-up if its part of the axis is below this.
_CLOSE_UP_BELOW = 0.12


def timeline(solution: Solution, ax: Axes | None = None) -> Axes:
    """Draw the training loss over logarithmic time, with the events of the run.

    The early alignment phase is shaded; plateaus and the end carry their losses;
    ticks along the bottom are events, darker where there are more.

    Parameters
    ----------
    solution : Solution
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure, ``ax.figure``, unknown to pyplot.

    Returns
    -------
    matplotlib Axes
    """
    ax = style.new_axes(ax)
    left = style.time_axis(ax, solution)
    t, loss = _curve(solution, left)
    rows = _rug_rows(solution)
    floor = _loss_axis(ax, solution, len(rows))
    style.shade_alignment(ax, solution)
    # Down to the floor only: the room below it is for the ticks.
    ax.plot(t, np.where(loss >= floor, loss, np.nan), color=style.BLUE, linewidth=2.2, zorder=3)
    _label_phases(ax, solution)
    _mark_end(ax, solution, floor, _ROW * len(rows))
    _mark_plateaus(_close_up(ax, solution, t, loss, floor) or ax, solution)
    for row, (times, color, label) in enumerate(rows):
        _draw_rug(ax, times, row, color, label)
    style.set_title(ax, solution)
    return ax


def _curve(solution: Solution, left: float) -> tuple[np.ndarray, np.ndarray]:
    """Return times and losses: the run's steps, and between them where they are long."""
    t, loss = solution.history.t, solution.history.loss
    if len(t) == 1:  # at rest from the start
        return np.array([left, style.last_shown_time(solution)]), np.repeat(loss, 2)
    span = max(float(loss.max() - loss.min()), np.finfo(float).tiny)
    ratios = np.zeros(len(loss) - 1)
    if loss.min() >= 0.0:  # some function's may be negative; its axis is linear
        ratios = np.log(np.maximum(loss[1:], _LOG_BOTTOM * loss.max()) / loss[:-1].clip(1e-300))
    jumps = np.maximum(np.abs(np.diff(loss)) / span, np.abs(ratios) / np.log(1 / _LOG_BOTTOM))
    gaps = np.diff(np.log(np.maximum(t, left / 10))) / np.log(solution.t_end / left * 10)
    coarse = np.flatnonzero((jumps > _COARSE) & (gaps > _COARSE / 4))
    if len(coarse) == 0:
        return t, loss
    inside = np.linspace(0.0, 1.0, max(2, min(10, _MAX_REFINED // len(coarse))) + 1)[1:-1]
    extra = (t[coarse, None] + np.diff(t)[coarse, None] * inside).ravel()[:_MAX_REFINED]
    order = np.argsort(np.concatenate([t, extra]), kind="stable")
    return np.concatenate([t, extra])[order], np.concatenate([loss, solution.loss(extra)])[order]


def _loss_axis(ax: Axes, solution: Solution, rug_rows: int) -> float:
    """Scale the y axis, with room for the rug below and labels above; return its floor."""
    loss = solution.history.loss
    top = float(loss.max()) or 1.0
    below, above = _ROW * rug_rows + 0.06, 0.12
    share = 1.0 - below - above
    if 0.0 <= loss.min() < _LOG_BELOW * top:
        floor = _log_floor(solution, top)
        decades = np.log10(top / floor) / share
        ax.set_yscale("log")
        ax.set_ylim(floor * 10 ** (-below * decades), top * 10 ** (above * decades))
        ax.set_yticks([tick for tick in ax.get_yticks() if floor <= tick <= top * 10], minor=False)
        ax.minorticks_off()
    else:
        # From zero, unless that flattens a curve that does move.
        flattened = 0.5 * top <= loss.min() <= (1.0 - _LOG_BELOW) * top
        floor = float(loss.min()) if flattened or loss.min() < 0.0 else 0.0
        span = (top - floor) / share or 1.0
        ax.set_ylim(floor - below * span, floor + (1.0 - below) * span)
        ax.set_yticks([tick for tick in ax.get_yticks() if floor <= tick <= top + above * span])
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)
    ax.set_ylabel(f"training loss {loss_formula(solution)}")
    ax.spines[["top", "right"]].set_visible(False)
    return floor


def _log_floor(solution: Solution, top: float) -> float:
    t, loss = solution.history.t, solution.history.loss
    ends = [EVENT_KINDS.index(kind) for kind in ("stationary", "certified")]
    changes = solution.events.t[~np.isin(solution.events.kind_code, ends)]
    last = float(np.interp(changes[-1], t, loss)) if len(changes) else top
    return max(
        float(loss.min()), min(_BELOW_LAST_EVENT * last, _LOG_BELOW * top), _LOG_BOTTOM * top
    )


def _mark_end(ax: Axes, solution: Solution, floor: float, rug: float) -> None:
    """Mark the end of the run and the loss that it tends to; `rug` is the height of the ticks."""
    final, end = solution.final, style.last_shown_time(solution)
    beyond = final.loss < floor
    if np.isfinite(final.limit_loss) and final.limit_loss > floor:
        ax.axhline(final.limit_loss, color=style.GREEN, linestyle=":", linewidth=1.4, zorder=2)
    loss = max(final.loss, floor)
    marker = "v" if beyond else "s" if solution.status in ("stationary", "certified") else ">"
    ax.plot([end], [loss], marker, color=style.GREEN, markersize=9, clip_on=False, zorder=5)
    kind = "\n".join(textwrap.wrap(final.kind.replace("_", " "), 16))
    text = f"{kind}\n{loss_symbol(solution)} = {final.loss:{'.2g' if beyond else '.7g'}}"
    text += f"{' (below)' if beyond else ''}\nat t = {solution.t_end:.6g}"
    height = min(max(_height(ax, loss), rug + 0.06), 0.9)
    ax.text(
        1.015, height, text, transform=ax.transAxes, ha="left", va="center", color=style.GREEN,
        fontsize=9.5, fontweight="bold",
    )  # fmt: skip


def _close_up(
    ax: Axes, solution: Solution, t: np.ndarray, loss: np.ndarray, floor: float
) -> Axes | None:
    """Draw what follows the alignment in an inset, if logarithmic time leaves it no width.

    From tiny initialisations the alignment takes a time ~ ln(1/λ), the rest a time ~ 1.
    """
    left, right = ax.get_xlim()
    start, end = solution.alignment.end_time, solution.t_end
    if not start > left or np.log(right / start) > _CLOSE_UP_BELOW * np.log(right / left):
        return None
    inset = ax.inset_axes((0.10, 0.30, 0.72, 0.40))
    inset.plot(t - start, np.where(loss >= floor, loss, np.nan), color=style.BLUE, linewidth=2.0)
    inset.set_yscale(ax.get_yscale())
    inset.set_xlim(-0.1 * (end - start), end - start)
    inset.axvline(0.0, color=style.GREY, linestyle=(0, (5, 3)), linewidth=1.2)
    inset.set_title("after early alignment, in linear time", fontsize=9)
    inset.set_xlabel(f"t − {start:.6g}", fontsize=9)
    inset.tick_params(labelsize=8)
    return inset


def _mark_plateaus(ax: Axes, solution: Solution) -> None:
    left, right = ax.get_xlim()
    shift = 0.0 if ax.get_xscale() == "log" else solution.alignment.end_time  # of the close-up
    found = [p._replace(t=p.t - shift) for p in plateaus(solution)]
    found = [p for p in found if left < p.t < right]
    if not found:
        return
    ax.plot(
        [p.t for p in found], [p.loss for p in found], "D",
        color=style.ORANGE, markeredgecolor=style.BLACK, markersize=7, zorder=4,
    )  # fmt: skip
    taken: list[np.ndarray] = []
    for plateau in _slowest(found, solution, shift):
        place = ax.transAxes.inverted().transform(ax.transData.transform((plateau.t, plateau.loss)))
        # Of a falling curve there is room below to the left, and above to the right.
        for side in (-1.0, 1.0):
            corner = place + np.array([side, side]) * _LABEL_SIZE / 2.0
            if any(np.all(np.abs(corner - other) < _LABEL_SIZE) for other in taken):
                continue
            taken.append(corner)
            ax.annotate(
                f"plateau {loss_symbol(solution)} = {plateau.loss:.6g}\n"
                f"at t = {plateau.t + shift:.6g}",
                (plateau.t, plateau.loss), xytext=(4 * side, 7 * side), fontsize=9, zorder=6,
                textcoords="offset points", ha="right" if side < 0 else "left",
                va="top" if side < 0 else "bottom",
            )  # fmt: skip
            break


def _slowest(found: list[Milestone], solution: Solution, shift: float) -> list[Milestone]:
    """Order plateaus by the speed of the flow there, the slowest first."""
    times = [p.t + shift for p in found]
    speed = np.interp(times, solution.history.t, solution.history.speed)
    return [found[i] for i in np.argsort(speed, kind="stable")]


def _label_phases(ax: Axes, solution: Solution) -> None:
    end, (left, right) = solution.alignment.end_time, ax.get_xlim()
    if not (np.isfinite(end) and end > left):
        return
    place = {"transform": ax.get_xaxis_transform(), "va": "top", "fontsize": 9.5}
    middle = np.sqrt(left * end)
    ax.text(middle, 0.985, "early alignment", ha="center", color=style.BLUE, **place)
    after = np.log(right / end) / np.log(right / left)
    ax.annotate(
        f"ends at t = {end:.6g}", (end, 0.985), xycoords=ax.get_xaxis_transform(),
        xytext=(5 if after > 0.2 else -5, 0), textcoords="offset points",
        ha="left" if after > 0.2 else "right", va="top", fontsize=9.5, color=style.GREY,
    )  # fmt: skip


def _rug_rows(solution: Solution) -> list[tuple[np.ndarray, str, str]]:
    """Return times, colour and label of each row of ticks that has any event."""
    rows = []
    for kinds, color, label in _RUG:
        times = np.concatenate([solution.events.where(kind).t for kind in kinds])
        if len(times):
            rows.append((times, color, f"{len(times)} {label}"))
    return rows


def _draw_rug(ax: Axes, times: np.ndarray, row: int, color: str, label: str) -> None:
    """Draw a row of ticks; the cost does not grow with the number of events."""
    left, right = np.log(ax.get_xlim())
    place = (np.log(np.maximum(times, ax.get_xlim()[0])) - left) / (right - left)
    columns, counts = np.unique(
        np.floor(place * _COLUMNS).clip(0, _COLUMNS - 1), return_counts=True
    )
    alpha = 0.35 + 0.65 * np.log1p(counts) / np.log1p(counts.max())
    bottom = 0.012 + row * _ROW
    ax.vlines(
        (columns + 0.5) / _COLUMNS, bottom, bottom + 0.7 * _ROW, colors=color, alpha=alpha,
        linewidth=1.1, transform=ax.transAxes,
    )  # fmt: skip
    ax.text(
        1.005, bottom + 0.35 * _ROW, label, transform=ax.transAxes, fontsize=8, color=color,
        va="center", ha="left",
    )  # fmt: skip


def _height(ax: Axes, y: float) -> float:
    """Return where `y` is between the bottom and the top of the axes, from 0 to 1."""
    return float(ax.transAxes.inverted().transform(ax.transData.transform((1.0, y)))[1])
