"""A study as text: one line for each number of samples, and the thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.experiments.analysis import interpolates
from flowsim.experiments.grid import AXES

if TYPE_CHECKING:
    from flowsim.experiments.threshold import Threshold

_HEADER = (
    "      n  runs  interpolate         train loss  fits' loss   excess  fits' excess  "
    "NTK excess  spread"
)


def table(found: Threshold) -> str:
    """Return the medians over the seeds for every n, and where interpolation ends."""
    analysis = found.analysis
    lines = ["Medians over the seeds; excess is the test loss above that of the teacher.", ""]
    for where, group in groups(analysis):
        lines += [title(where, found.sweep.dataset), "", _HEADER]
        lines += [_line(group.sel(n=n), int(n)) for n in group.n.values]
        runs = found.sweep.dataset.sel(where) if where else found.sweep.dataset
        rtol = float(analysis.attrs["interpolation_rtol"])
        lines += ["", _threshold(group), *_undecided(runs, rtol), *_gain(group), *_proofs(runs), ""]
    return "\n".join([*lines, *_laws(analysis)]).rstrip()


def groups(analysis: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Give the values of all dimensions but n, and the analysis there."""
    dims = [name for name in analysis.probability.dims if name != "n"]
    for index in np.ndindex(*(analysis.sizes[name] for name in dims)):
        at = dict(zip(dims, index, strict=True))
        group = analysis.isel(at)
        yield {name: group[name].item() for name in dims}, group


def title(where: dict[str, Any], runs: Any) -> str:
    """Return the values of the axes that tell a group from others."""
    shown = {name: runs[name].item() for name in ("d", "noise", "m") if name not in runs.dims}
    values = {**shown, **where}
    return ", ".join(f"{name} = {values[name]}" for name in AXES if name in values)


def _line(row: Any, n: int) -> str:
    interval = f"{row.probability_low:.2f}..{row.probability_high:.2f}"
    return (
        f"{n:7d}  {int(row.decided):4d}  {row.probability:4.2f} ({interval})   "
        f"{row.train_loss:12.4g}  {row.ols_loss:10.4g}  {row.excess_loss:7.4g}  "
        f"{row.ols_excess:12.4g}  {row.ntk_excess:10.4g}  {row.extremal_spread:6.3f}"
    )


def _threshold(group: Any) -> str:
    n_star, low, high = (float(group[f"n_star{x}"]) for x in ("", "_low", "_high"))
    smallest, largest = int(group.n.min()), int(group.n.max())
    if np.isnan(n_star):
        return "How many samples half of the runs interpolate is open: no run has been decided."
    where = f"at n* = {n_star:.4g}"
    if n_star == 0.0:
        where = f"below n = {smallest}, the smallest"
    elif n_star == np.inf:
        where = f"beyond n = {largest}, the largest"
    least = f"below {smallest}" if low == 0.0 else f"{low:.4g}"
    most = f"beyond {largest}" if high == np.inf else f"{high:.4g}"
    return f"Half of the runs interpolate {where} (95 %: {least} to {most})."


def _proofs(runs: Any) -> list[str]:
    """Return how many verdicts are proved, if any can be."""
    proved = runs.proved.values[runs.proved.values >= 0]
    if len(proved) == 0:
        return []
    return [f"{int(np.sum(proved))} of {len(proved)} verdicts are proved."]


def _undecided(runs: Any, rtol: float) -> list[str]:
    """Return a sentence on the runs that decide nothing, if there are any."""
    statuses = runs.status.values[interpolates(runs, rtol).isnull().values]
    if len(statuses) == 0:
        return []
    names, counts = np.unique(statuses, return_counts=True)
    why = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    return [
        f"{len(statuses)} of {runs.status.size} runs have decided nothing, and do not count as "
        f"runs ({why}): a budget has ended them, or their losses still fell."
    ]


def _gain(group: Any) -> list[str]:
    """Return how the test losses compare at the largest n that has both."""
    known = group.where(group.excess_loss.notnull() & group.ntk_excess.notnull(), drop=True)
    if known.sizes.get("n", 0) == 0:
        return []
    last = known.isel(n=-1)
    gain = float(last.ntk_excess / last.excess_loss)
    how = f"{gain:.3g} times below" if gain >= 1.0 else f"{1.0 / gain:.3g} times above"
    return [
        f"At n = {int(last.n)} its excess test loss is {how} that of the interpolator of minimal "
        f"norm (NTK)."
    ]


def _laws(analysis: Any) -> list[str]:
    if "d_exponent" not in analysis:
        return []
    lines = []
    for index in np.ndindex(*analysis.d_exponent.shape):
        at = dict(zip(analysis.d_exponent.dims, index, strict=True))
        law = analysis.isel(at)
        where = ", ".join(f"{name} = {law[name].item()}" for name in at)
        where = f"Fit{' at ' if where else ''}{where}"
        if np.isnan(law.d_exponent):
            lines.append(f"{where}: none, since some n* lies outside the numbers of samples.")
            continue
        lines.append(
            f"{where}: n* = {law.d_factor:.3g} "
            f"d^{law.d_exponent:.3g} (95 %: {law.d_exponent_low:.3g} to {law.d_exponent_high:.3g})."
        )
    return lines
