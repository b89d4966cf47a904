"""The function that the network computes, against univariate data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.plot import style
from flowsim.report import loss_symbol, plateaus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flowsim.data import Dataset
    from flowsim.network import TwoLayerReLU
    from flowsim.solution import Solution

_POINTS = 400
#: Outputs are of size exp(2 log_norm); a frozen residual lets them grow without bound.
_LARGEST_LOG_OUTPUT = 600.0
#: Plateaus drawn on the way, the slowest ones.
_MAX_PLATEAUS = 4
_PLATEAU_STYLES = (
    (style.ORANGE, (0, (6, 2))),
    (style.PURPLE, (0, (4, 2, 1, 2))),
    (style.SKY, (0, (2, 2))),
    (style.VERMILION, (0, (1, 1.5))),
)
#: A change of slope above this part of the largest one is drawn as a kink.
_KINK = 1e-2


def univariate(data: Dataset) -> bool:
    """Return whether the data are scalars x, alone or lifted to (x, 1)."""
    return data.d == 1 or (data.d == 2 and bool(np.all(data.X[:, 1] == 1.0)))


def drawable(solution: Solution) -> bool:
    """Return whether the data are univariate and the outputs within float64's range."""
    largest = 2.0 * float(solution.final.network.log_norm.max())
    return univariate(solution.data) and largest < _LARGEST_LOG_OUTPUT


def function(solution: Solution, ax: Axes | None = None) -> Axes:
    """Draw the data and the network's function at the start, on plateaus, and at the end.

    Triangles on the axis mark where the final function bends; thin lines from the data
    to it are the residuals.

    Parameters
    ----------
    solution : Solution
        With univariate data: d = 1, or d = 2 with a second input that is always 1.
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
        If the data are not univariate, or the outputs leave float64's range.
    """
    style.check_network(solution)
    data, final = solution.data, solution.final
    if not univariate(data):
        raise ValueError(
            "Argument `solution` must have univariate data to draw its function, but they have "
            f"dimension {data.d}" + (" without a constant input." if data.d == 2 else ".")
        )
    if not drawable(solution):
        raise ValueError(
            "Argument `solution` must end with outputs in float64's range to draw its function, "
            f"but its neurons' norms go up to e^{final.network.log_norm.max():.4g}."
        )
    ax = style.new_axes(ax)
    x = data.X[:, 0]
    margin = 0.15 * (float(np.ptp(x)) or 2.0 * abs(float(x[0])) or 1.0)
    kinks, changes = _kinks(final.network)
    inside = (x.min() - margin < kinks) & (kinks < x.max() + margin)
    grid = np.linspace(x.min() - margin, x.max() + margin, _POINTS)
    grid = np.sort(np.concatenate([grid, kinks[inside]]))
    symbol = loss_symbol(solution)
    start = solution.history.loss[0]
    initial = _values(solution.initial, data, grid)
    ax.plot(
        grid, initial, color=style.GREY, linestyle=":", zorder=2,
        label=f"start: {symbol} = {start:.5g}",
    )  # fmt: skip
    _draw_plateaus(ax, solution, grid)
    values = _values(final.network, data, grid)
    label = f"end, t = {solution.t_end:.5g}: {symbol} = {final.loss:.5g}"
    ax.plot(grid, values, color=style.BLUE, linewidth=2.4, zorder=4, label=label)
    outputs = _values(final.network, data, x)
    ax.vlines(x, data.y, outputs, color=style.GREY, linewidth=0.8)
    shown = kinks[inside & (changes > _KINK * changes.max(initial=0.0))]
    if len(shown):  # on the axis, where they hide no data
        ax.plot(
            shown, np.full(len(shown), 0.015), "^", color=style.BLUE, markersize=8, zorder=5,
            linestyle="none", transform=ax.get_xaxis_transform(), label="kinks at the end",
        )  # fmt: skip
    ax.plot(x, data.y, "o", color=style.BLACK, markersize=6, zorder=6, label="data")
    _finish(ax, solution, np.concatenate([initial, values]))
    return ax


def _values(net: TwoLayerReLU, data: Dataset, x: np.ndarray) -> np.ndarray:
    return net(np.column_stack([x, np.ones_like(x)][: data.d])) if len(x) else np.empty(0)


def _kinks(net: TwoLayerReLU) -> tuple[np.ndarray, np.ndarray]:
    """Return where the function bends, and by how much its slope changes there.

    The slope of ``a sigma(w x + b)`` changes by ``(1 - s) a |w|`` at ``x = -b/w``;
    neurons that bend at the same place, up to 1e-6, add up.
    """
    bends = net.W[:, 0] != 0.0
    slope, a = net.W[bends, 0], net.a[bends]
    with np.errstate(over="ignore"):
        place = -net.W[bends, 1] / slope if net.d == 2 else np.zeros(len(slope))
    order = np.argsort(place, kind="stable")
    order = order[np.isfinite(place[order])]
    if len(order) == 0:
        return np.empty(0), np.empty(0)
    place, change = place[order], ((1.0 - net.negative_slope) * a * np.abs(slope))[order]
    new = np.append(True, np.diff(place) > 1e-6 * np.maximum(np.abs(place[1:]), 1.0))
    group = np.cumsum(new) - 1
    weight = np.bincount(group, np.abs(change))
    # A weighted mean, but never a division by the zero weight of neurons that underflow.
    centre = np.bincount(group, np.abs(change) * place) / np.where(weight > 0.0, weight, 1.0)
    return np.where(weight > 0.0, centre, place[new]), np.abs(np.bincount(group, change))


def _draw_plateaus(ax: Axes, solution: Solution, grid: np.ndarray) -> None:
    """Draw the functions on the slowest plateaus, in the order of time."""
    found = plateaus(solution)
    speed = np.interp([p.t for p in found], solution.history.t, solution.history.speed)
    slowest = sorted(np.argsort(speed, kind="stable")[:_MAX_PLATEAUS])
    for index, (color, dashes) in zip(slowest, _PLATEAU_STYLES, strict=False):
        plateau = found[index]
        values = _values(solution.network(plateau.t), solution.data, grid)
        label = f"plateau, t = {plateau.t:.5g}: {loss_symbol(solution)} = {plateau.loss:.5g}"
        ax.plot(grid, values, color=color, linestyle=dashes, linewidth=1.8, zorder=3, label=label)


def _finish(ax: Axes, solution: Solution, values: np.ndarray) -> None:
    data = solution.data
    low, high = float(min(data.y.min(), values.min())), float(max(data.y.max(), values.max()))
    room = 0.08 * (high - low or 1.0)
    ax.set_ylim(low - room, high + room)
    ax.margins(x=0.0)
    ax.set_xlabel("input x")
    ax.set_ylabel("label y and network h(x)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, borderaxespad=0.0
    )
    style.set_title(ax, solution)
