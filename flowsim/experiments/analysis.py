"""From the records of a study to its curves: what depends on n, and where it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.experiments.estimates import PowerLaw, ThresholdEstimate, binomial_interval

if TYPE_CHECKING:
    import xarray

#: A run interpolates if its training loss is below this part of (1/2n) sum y^2.
INTERPOLATION_RTOL = 1e-6
#: Runs that have ended at a time or a number of steps are decided if their losses have settled:
#: ``-d ln L / d ln t = t |theta'|^2 / L`` is at most this.
SETTLED = 0.1
_TIMED = ("t1", "steps", "event")
#: Fields of which the analysis has medians over the seeds, with quartiles.
CURVES = (
    "train_loss", "ols_loss", "excess_loss", "ols_excess", "linear_excess", "ntk_excess",
    "random_features_excess", "extremal_spread", "ols_distance", "directions", "seconds",
)  # fmt: skip


def interpolates(runs: xarray.Dataset, rtol: float = INTERPOLATION_RTOL) -> xarray.DataArray:
    """Return 1 where a run interpolates, 0 where it does not, nan where that is open.

    It does not if it has come to rest with a larger loss, or has ended at t1 or its number of steps
    with a loss that has settled, ``t |theta'|^2 <= 0.1 L``. Otherwise it is open: budgets have
    ended the run, or the loss still falls.

    Parameters
    ----------
    runs : xarray.Dataset
        Records of a sweep.
    rtol : float
        It does if its training loss is at most this part of ``(1/2n) sum y^2``.
    """
    fits = (runs.train_loss <= rtol * runs.label_loss) | (runs.kind == "interpolation")
    settled = runs.t_end * runs.gradient_norm**2 <= SETTLED * runs.train_loss
    ended = runs.status.isin(("stationary", "certified")) | (runs.status.isin(_TIMED) & settled)
    return fits.astype(float).where(fits | ended)


def analyse(runs: xarray.Dataset, rtol: float = INTERPOLATION_RTOL) -> xarray.Dataset:
    """Return probabilities, thresholds, curves and rates of a sweep over n and seed.

    Parameters
    ----------
    runs : xarray.Dataset
        Records over the dimensions n, seed and any others.
    rtol : float
        As of `interpolates`.

    Returns
    -------
    xarray.Dataset
        Over the others and n: ``probability`` with ``probability_low``, ``probability_high``
        (Wilson, 95 %), ``decided``; medians over the seeds of `CURVES`, with
        ``NAME_quartiles``. Over the others: ``n_star`` with ``n_star_low``, ``n_star_high``
        (see `ThresholdEstimate`), ``spread_exponent`` of n. Over the others but d, if it is one:
        ``d_exponent`` with ``d_exponent_low``, ``d_exponent_high``, ``d_factor``.
    """
    import xarray as xr

    fits = interpolates(runs, rtol)
    count, total = fits.sum("seed").astype(int), fits.notnull().sum("seed")
    low, high = binomial_interval(count.values, total.values)
    found = xr.Dataset(
        {
            "probability": count / total.where(total > 0),
            "probability_low": (count.dims, low),
            "probability_high": (count.dims, high),
            "decided": total,
        }
    )
    for name in CURVES:
        found[name], found[f"{name}_quartiles"] = _quantiles(runs[name].astype(float))
    estimates = _over(ThresholdEstimate.of, runs.n, count, total)
    for name, attribute in (("", "n_star"), ("_low", "low"), ("_high", "high")):
        found[f"n_star{name}"] = _attribute(estimates, attribute)
    found["spread_exponent"] = _exponent(found.n, found.extremal_spread)
    if "d" in estimates.dims:
        laws = _over(lambda d, e: PowerLaw.of(d, list(e)), runs.d, estimates, core="d")
        for name in ("exponent", "low", "high", "factor"):
            renamed = {"low": "d_exponent_low", "high": "d_exponent_high"}
            found[renamed.get(name, f"d_{name}")] = _attribute(laws, name)
    found.attrs["interpolation_rtol"] = rtol
    return found


def _quantiles(values: xarray.DataArray) -> tuple[Any, Any]:
    """Return the median over the seeds, and the quartiles; nan without any value."""
    known = values.where(values.notnull().any("seed"), 0.0)  # NumPy warns of all-nan slices
    found = known.quantile([0.25, 0.5, 0.75], "seed").where(values.notnull().any("seed"))
    return found.sel(quantile=0.5, drop=True), found.sel(quantile=[0.25, 0.75])


def _over(function: Any, along: Any, *arrays: Any, core: str = "n") -> Any:
    """Apply a function to 1-d slices along `core`, and return an array of its objects."""
    import xarray as xr

    dims = [name for name in arrays[0].dims if name != core]
    moved = [array.transpose(*dims, core).values for array in arrays]
    out = np.empty(moved[0].shape[:-1], dtype=object)
    for index in np.ndindex(out.shape):
        out[index] = function(along.values, *(array[index] for array in moved))
    coords = {name: arrays[0].coords[name] for name in dims if name in arrays[0].coords}
    return xr.DataArray(out, coords=coords, dims=dims)


def _attribute(objects: Any, name: str) -> Any:
    values = np.array([getattr(item, name) for item in objects.values.ravel()], dtype=float)
    return objects.copy(data=values.reshape(objects.shape))


def _exponent(n: Any, spread: Any) -> Any:
    """Return the exponent of n in the extremal vectors' spread, by least squares of logarithms."""
    from flowsim.alignment.concentration import fitted_exponent

    def fit(values: np.ndarray, sizes: np.ndarray) -> float:
        known = np.isfinite(values) & (values > 0.0)
        return fitted_exponent(sizes[known].tolist(), values[known])[0]

    fits = _over(lambda sizes, values: fit(values, sizes), n, spread)
    return fits.astype(float)
