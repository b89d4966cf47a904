"""The loss over time, with what happened when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.plot import style
from flowsim.report import Milestone, loss_formula, loss_symbol, plateaus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flowsim.solution import Solution

#: The loss gets a logarithmic axis when it falls by more than this factor, whose
#: bottom is at this part of the largest loss if the loss goes to zero.
_LOG_BELOW = 1e-3
_LOG_BOTTOM = 1e-16
#: Steps are refined where the loss moves by more than this part of the axis.
_COARSE = 0.02
_MAX_REFINED = 200
_LABELLED_PLATEAUS = 6
#: Events are drawn in this many columns: dark ones hold many.
_COLUMNS = 500
#: Rows of the rug: kinds of events, colour, label.
_RUG = (
    (("pattern",), style.BLACK, "activation changes"),
    (("death",), style.VERMILION, "deaths"),
    (("sign_change", "origin"), style.PURPLE, "sign changes, zeros of w"),
    (("ambiguous",), style.ORANGE, "ambiguous points"),
)
_ROW = 0.045


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
    logarithmic = _loss_axis(ax, loss, len(rows), loss_formula(solution))
    style.shade_alignment(ax, solution)
    ax.plot(t, loss, color=style.BLUE, linewidth=2.2, zorder=3)
    _mark_limit(ax, solution, logarithmic)
    _mark_plateaus(ax, solution)
    _label_phases(ax, solution)
    for row, (times, color, label) in enumerate(rows):
        _draw_rug(ax, times, row, color, label)
    style.set_title(ax, solution)
    return ax


def _curve(solution: Solution, left: float) -> tuple[np.ndarray, np.ndarray]:
    """Return times and losses: the run's steps, and between them where they are long."""
    t, loss = solution.history.t, solution.history.loss
    span = max(float(loss.max() - loss.min()), np.finfo(float).tiny)
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


def _loss_axis(ax: Axes, loss: np.ndarray, rug_rows: int, label: str) -> bool:
    """Scale the y axis, leaving room for the rug below and for labels above."""
    top = float(loss.max()) or 1.0
    bottom = max(float(loss.min()), _LOG_BOTTOM * top)
    below = _ROW * rug_rows + 0.06
    logarithmic = bottom < _LOG_BELOW * top
    if logarithmic:
        ax.set_yscale("log")
        decades = np.log10(top / bottom) / (1.0 - below - 0.10)
        ax.set_ylim(bottom * 10 ** (-below * decades), top * 10 ** (0.10 * decades))
    else:
        # From zero, unless that flattens the curve.
        low = 0.0 if bottom < 0.5 * top else bottom
        span = (top - low or top) / (1.0 - below - 0.10)
        ax.set_ylim(low - below * span, top + 0.10 * span)
        ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= top + 0.1 * span])
    ax.set_ylabel(f"training loss {label}")
    ax.spines[["top", "right"]].set_visible(False)
    return logarithmic


def _mark_limit(ax: Axes, solution: Solution, logarithmic: bool) -> None:
    """Mark the end of the run and the loss that it tends to."""
    final = solution.final
    bottom, top = ax.get_ylim()
    if np.isfinite(final.limit_loss) and (final.limit_loss > bottom or not logarithmic):
        ax.axhline(final.limit_loss, color=style.GREEN, linestyle=":", linewidth=1.4, zorder=2)
    loss = max(final.loss, _LOG_BOTTOM * float(solution.history.loss.max()))
    marker = "s" if solution.status == "stationary" else ">"
    ax.plot(
        [solution.t_end], [loss], marker, color=style.GREEN, markersize=9, clip_on=False, zorder=5
    )
    what = final.kind.replace("_", " ")
    text = f"{what}\n{loss_symbol(solution)} = {final.loss:.7g}\nat t = {solution.t_end:.4g}"
    share = _height(ax, loss)
    ax.annotate(
        text, (solution.t_end, loss), xytext=(-8, 9 if share < 0.7 else -9),
        textcoords="offset points", ha="right", va="bottom" if share < 0.7 else "top",
        color=style.GREEN, fontsize=9.5, fontweight="bold",
    )  # fmt: skip


def _mark_plateaus(ax: Axes, solution: Solution) -> None:
    found = [p for p in plateaus(solution) if p.t > ax.get_xlim()[0]]
    if not found:
        return
    ax.plot(
        [p.t for p in found], [p.loss for p in found], "D",
        color=style.ORANGE, markeredgecolor=style.BLACK, markersize=7, zorder=4,
    )  # fmt: skip
    for plateau in _longest(found, solution)[:_LABELLED_PLATEAUS]:
        ax.annotate(
            f"plateau {loss_symbol(solution)} = {plateau.loss:.6g}\nat t = {plateau.t:.4g}",
            (plateau.t, plateau.loss), xytext=(0, 8), textcoords="offset points",
            ha="center", va="bottom", fontsize=9,
        )  # fmt: skip


def _longest(found: list[Milestone], solution: Solution) -> list[Milestone]:
    """Order plateaus by how slow the flow is there, the slowest first."""
    speed = np.interp([p.t for p in found], solution.history.t, solution.history.speed)
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
        f"ends at t = {end:.4g}", (end, 0.985), xycoords=ax.get_xaxis_transform(),
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
    columns, counts = np.unique(np.floor(place * _COLUMNS).clip(0, _COLUMNS - 1), return_counts=True)
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
