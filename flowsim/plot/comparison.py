"""A comparison of the flow with descents: losses, distances, events, final functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.network import TwoLayerReLU
from flowsim.plot import style
from flowsim.plot.function import univariate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flowsim.comparing.result import Comparison, Descended

_COLORS = (style.BLUE, style.VERMILION, style.GREEN, style.ORANGE, style.PURPLE, style.SKY)
_LINES = ("-", (0, (5, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1, 1.5)))
#: Losses below this part of the first one are not drawn.
_BOTTOM = 1e-16
_POINTS = 600
#: Events of a raster's row, at most.
_MARKS = 4000


def comparison(found: Comparison) -> Figure:
    """Draw a comparison.

    Top left: training losses over logarithmic time, the flow's in black. Top right: distances
    from the flow, and thin those of gradient descent from the modified flow. Bottom left: changes
    of activation patterns. Bottom right: for univariate data the final functions, else the
    sharpness over the limit of stability. Descents that have no time of the flow (Adam, optax)
    are among the final functions only.

    Parameters
    ----------
    found : Comparison

    Returns
    -------
    matplotlib Figure
        Unknown to pyplot.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 8.2), dpi=120, layout="constrained")
    axes = figure.subplots(2, 2)
    looks = _looks(found)
    _losses(axes[0, 0], found, looks)
    _distances(axes[0, 1], found, looks)
    _raster(axes[1, 0], found, looks)
    data = found.flow.data
    if data is not None and isinstance(found.flow.initial, TwoLayerReLU) and univariate(data):
        _functions(axes[1, 1], found, looks)
    else:
        _sharpness(axes[1, 1], found, looks)
    figure.suptitle("Gradient flow beside discrete descent", x=0.01, ha="left", fontweight="bold")
    named = [ax.get_legend_handles_labels() for ax in (axes[1, 1], axes[0, 0])]
    handles = {
        label: handle for pair in named for handle, label in zip(*pair, strict=True)
    }  # fmt: skip
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=min(len(handles), 5))
    return figure


def _looks(found: Comparison) -> list[dict[str, Any]]:
    """Return colour and line of each descent: colours by optimizer, lines by learning rate."""
    names = list(dict.fromkeys(x.name for x in found.descents))
    several = len(names) > 1
    rates = sorted({x.learning_rate for x in found.descents if _has_rate(x)}, reverse=True)
    place = [rates.index(x.learning_rate) if _has_rate(x) else 0 for x in found.descents]
    return [
        {
            "color": _COLORS[(names.index(x.name) if several else i) % 6],
            "linestyle": _LINES[i % 4 if several else 0],
            "label": f"{x.name}, η = {x.learning_rate:g}" if _has_rate(x) else x.name,
        }
        for x, i in zip(found.descents, place, strict=True)
    ]


def _has_rate(x: Descended) -> bool:
    return not np.isnan(x.learning_rate)


def _on_the_clock(
    found: Comparison, looks: list[dict[str, Any]]
) -> list[tuple[Descended, dict[str, Any]]]:
    """Return the descents whose time is the flow's, with their looks."""
    return [(x, look) for x, look in zip(found.descents, looks, strict=True) if x.follows]


def _time(ax: Axes, found: Comparison) -> None:
    first = min((x.t[x.t > 0][0] for x in found.descents if np.any(x.t > 0)), default=1e-3)
    end = max([found.flow.t_end, *(x.run.t_end for x in found.descents if x.follows)])
    ax.set_xscale("log")
    ax.set_xlim(first, end)
    ax.set_xlabel("time t of the gradient flow, for descents Σ η (logarithmic)")


def _losses(ax: Axes, found: Comparison, looks: list[dict[str, Any]]) -> None:
    flow = found.flow
    bottom = _BOTTOM * max(float(flow.history.loss[0]), np.finfo(float).tiny)
    for x, look in _on_the_clock(found, looks):
        history = x.run.history
        ax.plot(history.t, np.maximum(history.loss, bottom), linewidth=1.6, **look)
    ax.plot(
        flow.history.t, np.maximum(flow.history.loss, bottom), color=style.BLACK, linewidth=1.0,
        label="gradient flow",
    )  # fmt: skip
    _time(ax, found)
    ax.set_yscale("log")
    ax.set_ylabel("training loss")
    others = ", ".join(dict.fromkeys(x.name for x in found.descents if not x.follows))
    if others:
        text = f"no time of the flow, not drawn: {others}"
        ax.set_title(text, loc="right", fontsize=8, color=style.GREY)


def _distances(ax: Axes, found: Comparison, looks: list[dict[str, Any]]) -> None:
    for x, look in _on_the_clock(found, looks):
        ax.plot(x.t, x.distance, linewidth=1.6, **look)
        if len(x.modified_t):
            thin = {**look, "label": None}
            ax.plot(x.modified_t, x.modified_distance, linewidth=0.7, **thin)
    ax.axhline(found.threshold, color=style.GREY, linewidth=0.8, linestyle=":")
    _time(ax, found)
    ax.set_yscale("log")
    seen = np.concatenate([x.distance for x in found.descents])
    seen = seen[np.isfinite(seen) & (seen > 0.0)]
    if len(seen):
        ax.set_ylim(max(1e-2 * float(np.min(seen)), 1e-16), 2.0 * float(np.max(seen)))
    ax.set_ylabel("distance |θ − θ_flow| / |θ_flow|")
    ax.set_title("thin: from the modified flow", loc="right", fontsize=8, color=style.GREY)


def _raster(ax: Axes, found: Comparison, looks: list[dict[str, Any]]) -> None:
    rows = [(found.flow, {"color": style.BLACK, "label": "gradient flow"})]
    rows += [(x.run, look) for x, look in _on_the_clock(found, looks)]
    for i, (run, look) in enumerate(rows):
        t = run.events.where("pattern").t
        t = t[:: max(len(t) // _MARKS, 1)]
        ax.plot(t, np.full(len(t), -float(i)), "|", markersize=9, color=look["color"])
    _time(ax, found)
    ax.set_yticks(-np.arange(len(rows), dtype=float), [look["label"] for _, look in rows])
    ax.set_ylim(-len(rows) + 0.5, 0.5)
    ax.set_title("changes of activation patterns", loc="left", fontsize=10)


def _functions(ax: Axes, found: Comparison, looks: list[dict[str, Any]]) -> None:
    data = found.flow.data
    x = data.X[:, 0]
    margin = 0.15 * (np.ptp(x) or 1.0)
    grid = np.linspace(x.min() - margin, x.max() + margin, _POINTS)
    inputs = grid[:, None] if data.d == 1 else np.column_stack([grid, np.ones(_POINTS)])
    for descent, look in zip(found.descents, looks, strict=True):
        ax.plot(grid, descent.run.final.network(inputs), linewidth=1.6, **look)
    ax.plot(grid, found.flow.final.network(inputs), color=style.BLACK, linewidth=1.0)
    ax.plot(x, data.y, "o", color=style.BLACK, markersize=4)
    ax.set_xlabel("x")
    ax.set_title("final functions", loc="left", fontsize=10)


def _sharpness(ax: Axes, found: Comparison, looks: list[dict[str, Any]]) -> None:
    for x, look in _on_the_clock(found, looks):
        if np.isnan(x.stability):  # of a schedule, whose limit moves
            continue
        ax.plot(x.sharpness_t, np.maximum(x.sharpness, 0.0) / x.stability, linewidth=1.6, **look)
    ax.axhline(1.0, color=style.GREY, linewidth=0.8, linestyle=":")
    _time(ax, found)
    ax.set_yscale("log")
    ax.set_ylabel("sharpness over its limit, 2/η for gradient descent")
