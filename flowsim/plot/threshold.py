"""The optimization threshold: when networks interpolate, and what it does to their losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.experiments.report import groups, title
from flowsim.plot import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flowsim.experiments.threshold import Threshold

#: Groups that are drawn, the first ones of a larger study.
MOST_ROWS = 8
#: Training losses below this are drawn at it.
_BOTTOM = 1e-7
_KINDS = {
    "interpolation": ("interpolates", style.VERMILION),
    "spurious_local_minimum": ("spurious local minimum", style.BLUE),
    "saddle": ("saddle", style.GREEN),
}
_OTHER = ("another end", style.GREY)


def threshold(found: Threshold) -> Figure:
    """Draw a study of the threshold, a row for every group of runs that differ in n and seed.

    From left to right against n: the part of runs that interpolate, with 95 % intervals and the
    threshold n*; training losses of all runs, with the level of the noise and the loss of the
    half-spaces' least-squares fits; excess test losses, with those of the fits and of
    interpolators; how far the extremal vectors are from the population's.

    Parameters
    ----------
    found : Threshold

    Returns
    -------
    matplotlib Figure
        Unknown to pyplot.
    """
    from matplotlib.figure import Figure

    shown = list(groups(found.analysis))[:MOST_ROWS]
    figure = Figure(figsize=(17.0, 4.6 * len(shown)), dpi=110, layout="constrained")
    axes = figure.subplots(len(shown), 4, squeeze=False)
    for row, (where, group) in zip(axes, shown, strict=True):
        runs = found.sweep.dataset.sel(where) if where else found.sweep.dataset
        _probability(row[0], group)
        _training(row[1], runs, group)
        _excess(row[2], runs, group, _of_lazy(found, where))
        _spread(row[3], runs, group)
        row[0].set_title(title(where, found.sweep.dataset), loc="left", fontweight="bold")
        for ax in row[1:]:
            if any(np.any(np.asarray(line.get_ydata(), float) > 0.0) for line in ax.lines):
                ax.set_yscale("log")
        row[1].set_ylim(_BOTTOM / 2.0, None)
        for ax in row:
            ax.set_xscale("log")
            _ticks(ax, group.n.values)
            ax.set_xlabel("number of samples n")
    return figure


def _ticks(ax: Axes, n: np.ndarray) -> None:
    """Label numbers of samples, those that are a factor of 1.9 apart."""
    shown: list[int] = []
    for value in n.tolist():
        if not shown or value >= 1.9 * shown[-1]:
            shown.append(value)
    ax.set_xticks(shown, labels=[str(value) for value in shown])
    ax.set_xticks([], minor=True)


def _of_lazy(found: Threshold, where: dict[str, Any]) -> Any:
    if found.lazy is None:
        return None
    own = {k: v for k, v in where.items() if k in found.lazy.dataset.dims}
    return found.lazy.dataset.sel(own)


def _probability(ax: Axes, group: Any) -> None:
    n, p = group.n.values, group.probability.values
    around = np.abs(np.stack([p - group.probability_low, group.probability_high - p]))
    ax.errorbar(n, p, yerr=around, fmt="o-", color=style.VERMILION, capsize=3, label="runs")
    low, high = np.clip([group.n_star_low, group.n_star_high], n.min(), n.max())
    if np.isfinite(low + high):
        ax.axvspan(low, high, color=style.LIGHT, label="95 % interval of n*")
    if n.min() <= group.n_star <= n.max():
        ax.axvline(float(group.n_star), color="k", linestyle="--", label=f"n* = {group.n_star:.3g}")
    ax.set_ylabel("part of runs that interpolate")
    ax.set_ylim(-0.03, 1.03)
    ax.legend()


def _training(ax: Axes, runs: Any, group: Any) -> None:
    losses = np.maximum(runs.train_loss.transpose("n", "seed").values, _BOTTOM)
    kinds = runs.kind.transpose("n", "seed").values
    n = np.broadcast_to(runs.n.values[:, None], losses.shape)
    for kind in [*_KINDS, ""]:
        label, color = _KINDS.get(kind, _OTHER)
        mask = kinds == kind if kind else ~np.isin(kinds, list(_KINDS))
        if np.any(mask):
            ax.plot(n[mask], losses[mask], "o", ms=4, alpha=0.6, color=color, label=label)
    ax.plot(group.n, group.ols_loss, "-", color=style.BLACK, lw=1.2, label="half-spaces' fits")
    level = 0.5 * _noise(runs) ** 2
    if level > 0.0:
        ax.axhline(level, color=style.GREY, linestyle=":", label="σ²/2")
    ax.set_ylabel("training loss L½ (at most 1e-7 below)")
    ax.legend()


def _excess(ax: Axes, runs: Any, group: Any, lazy: Any) -> None:
    n = group.n.values
    _band(ax, group, "excess_loss", style.BLUE, "network")
    for name, color, label in (
        ("ols_excess", style.BLACK, "half-spaces' fits"),
        ("linear_excess", style.GREEN, "linear fit to all"),
        ("ntk_excess", style.VERMILION, "interpolator (NTK)"),
        ("random_features_excess", style.ORANGE, "interpolator (random features)"),
    ):
        ax.plot(n, group[name], "-", color=color, lw=1.2, label=label)
    if lazy is not None:
        median = lazy.excess_loss.median("seed")
        ax.plot(lazy.n, median, "s--", color=style.PURPLE, ms=4, label="large initialisation")
    guide = _noise(runs) ** 2 * int(runs.d) / n if "d" in runs.coords else n * np.nan
    if np.any(guide > 0.0):
        ax.plot(n, guide, ":", color=style.GREY, label="σ² d/n")
    ax.set_ylabel("excess test loss ½E(h − β*·x)²")
    ax.legend(fontsize=8)


def _spread(ax: Axes, runs: Any, group: Any) -> None:
    _band(ax, group, "extremal_spread", style.PURPLE, "largest of a run")
    n, spread = group.n.values, group.extremal_spread.values
    known = np.isfinite(spread)
    if np.any(known):
        first = np.flatnonzero(known)[-1]
        ax.plot(n, spread[first] * np.sqrt(n[first] / n), ":", color=style.GREY, label="∝ 1/√n")
    ax.set_ylabel("extremal vectors' distance from β*/2")
    ax.legend()


def _band(ax: Axes, group: Any, name: str, color: str, label: str) -> None:
    """Draw the median over the seeds, and quartiles around it."""
    quartiles = group[f"{name}_quartiles"]
    low, high = (quartiles.sel(quantile=q).values for q in (0.25, 0.75))
    ax.fill_between(group.n.values, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(group.n, group[name], "o-", ms=4, color=color, label=label)


def _noise(runs: Any) -> float:
    return float(runs.noise) if "noise" in runs.coords and runs.noise.ndim == 0 else 0.0
