"""threshold(): from how many samples on does the network stop interpolating?"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowsim._arguments import real
from flowsim.experiments.analysis import INTERPOLATION_RTOL, analyse
from flowsim.experiments.records import FIELDS
from flowsim.experiments.result import Sweep, recipe_of
from flowsim.experiments.sweep import StudyProgress, checked_options, sweep
from flowsim.files import check_path

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from flowsim.solution import Solution

#: Numbers of samples of a whole study and of a quick one.
SAMPLES = (5, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 1000, 2000)
QUICK_SAMPLES = (5, 10, 20, 40, 70, 100, 200)
#: Attributes of a file's lazy runs that are axes of the others.
_FIXED = "fixed_"


@dataclass(frozen=True, eq=False)
class Threshold:
    """A study of when small-initialisation networks stop interpolating.

    Attributes
    ----------
    sweep : Sweep
        All runs.
    analysis : xarray.Dataset
        Probabilities of interpolation, thresholds and curves: see
        `flowsim.experiments.analysis.analyse`.
    lazy : Sweep, optional
        Runs from a large scale on the same data.
    """

    sweep: Sweep
    analysis: xarray.Dataset
    lazy: Sweep | None = None

    @property
    def dataset(self) -> xarray.Dataset:
        """The records, as of `Sweep`."""
        return self.sweep.dataset

    def simulate(self, **at: Any) -> Solution:
        """Make one run of the study again, as `Sweep.simulate` does."""
        return self.sweep.simulate(**at)

    def table(self) -> str:
        """Return the curves and thresholds as text."""
        from flowsim.experiments.report import table

        return table(self)

    def plot(self) -> Figure:
        """Draw probability, training and test losses, and the spread of extremal vectors."""
        from flowsim.plot.threshold import threshold as draw

        return draw(self)

    def to_xarray(self) -> xarray.DataTree:
        """Return all as a tree: the sweep's, with the groups analysis and lazy."""
        import xarray as xr

        groups = {"/": self.sweep.dataset, "/analysis": self.analysis}
        if self.sweep.trajectories is not None:
            groups["/trajectories"] = self.sweep.trajectories
        if self.lazy is not None:  # one index n in a tree
            groups["/lazy"] = _with_index(self.lazy.dataset, self.sweep.dataset)
        return xr.DataTree.from_dict(groups)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a netCDF file, which replaces another at once.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        from flowsim.files import write_xarray

        write_xarray(self.to_xarray(), path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Threshold:
        """Read what `save` has written.

        Raises
        ------
        OSError, ValueError
            If it cannot be read, or is the file of no such study.
        """
        from flowsim.files import read_xarray

        sweep, groups = Sweep.load(path), read_xarray(path).children
        if "analysis" not in groups:
            raise ValueError(
                f"Argument `path` must name the file of a threshold's study, but {path} is none."
            )
        lazy = None
        if "lazy" in groups:
            runs = _without_index(_own(groups["lazy"]))
            lazy = Sweep(runs, None, recipe_of(runs, False))
        return Threshold(sweep, _own(groups["analysis"]), lazy)

    def __repr__(self) -> str:
        return f"Threshold({self.sweep!r})"


def threshold(
    *,
    quick: bool = False,
    n: Sequence[int] | None = None,
    seed: Sequence[int] | None = None,
    noise: float | Sequence[float] | None = None,
    lazy: float | None = None,
    lazy_n: Sequence[int] | None = None,
    interpolation_rtol: float = INTERPOLATION_RTOL,
    path: str | os.PathLike[str] | None = None,
    progress: Callable[[StudyProgress], None] | None = None,
    **study: Any,
) -> Threshold:
    """Find from how many samples on small-initialisation networks stop to interpolate.

    With a linear teacher and noise in the labels they do for few samples. Beyond a threshold in n
    the flow ends near the least-squares fits on the two half-spaces ``±β*.x > 0``: at a training
    loss near ``σ²/2``, and with an excess test loss near ``σ² d/n``, far below interpolators'.

    Parameters
    ----------
    quick : bool
        n up to 200, 5 seeds and one noise, instead of n up to 2000, 10 seeds and two.
    n : sequence of int, optional
        Numbers of samples.
    seed : sequence of int, optional
        Seeds of data; the network's are 2^31 larger.
    noise : float or sequence, optional
        Standard deviations of the noise; (0.5, 1), or 0.5 for a quick study.
    lazy : float, optional
        A large scale, as 10: the same data from mirrored networks of that scale as well, which
        interpolate by moving little.
    lazy_n : sequence of int, optional
        Numbers of samples of these; by default those of at most m/2.
    interpolation_rtol : float
        A run interpolates if its training loss is at most this part of ``(1/2n) sum y²``.
    path : path-like, optional
        The netCDF file of the results, and the place of what has been made: see `sweep`.
    progress : callable, optional
        As of `sweep`.
    **study
        Other axes, options and workers of `sweep`.

    Returns
    -------
    Threshold

    Raises
    ------
    ValueError, TypeError, OSError
        As `sweep` does.

    References
    ----------
    Boursier & Flammarion, arXiv 2410.02348.
    """
    if path is not None:
        check_path(path)
    samples = _samples(quick, study.get("inputs")) if n is None else n
    for name in study:
        if name not in {**inspect.signature(sweep).parameters, **checked_options()}:
            raise TypeError(f"threshold() got an argument that it does not have, {name!r}.")
    seeds = range(5 if quick else 10) if seed is None else seed
    levels = (0.5 if quick else (0.5, 1.0)) if noise is None else noise
    for name, value in (("n", samples), ("seed", seeds)):
        if not isinstance(value, Iterable):
            raise TypeError(f"Argument `{name}` must be a sequence of integers, but is {value!r}.")
    rtol = real("interpolation_rtol", interpolation_rtol)
    if not 0.0 < rtol < 1.0:
        raise ValueError(f"Argument `interpolation_rtol` must be in (0, 1), but is {rtol}.")
    samples, seeds = list(samples), list(seeds)
    common = {"noise": levels, "seed": seeds, "progress": progress, **study}
    slow = _lazy(common, samples, lazy, lazy_n, path)
    runs = sweep(n=samples, path=path, **common)
    found = Threshold(runs, analyse(runs.dataset, rtol), slow)
    if path is not None:
        found.save(path)
    return found


def _with_index(lazy: xarray.Dataset, runs: xarray.Dataset) -> xarray.Dataset:
    """Return the lazy runs as a group below the others, whose dimensions it inherits."""
    missing = {name: field.missing for name, field in FIELDS.items()}
    fixed = [str(name) for name in lazy.coords if name not in lazy.dims and name in runs.dims]
    attrs = {f"{_FIXED}{name}": lazy[name].item() for name in fixed}
    group = lazy.drop_vars(fixed).reindex(n=runs.n, fill_value=missing)
    return group.assign_attrs(attrs)


def _without_index(group: xarray.Dataset) -> xarray.Dataset:
    """Return the lazy runs of `_with_index`."""
    coords = {
        key.removeprefix(_FIXED): group.attrs.pop(key)
        for key in map(str, list(group.attrs))
        if key.startswith(_FIXED)
    }
    made = (group.status != "").any([name for name in group.status.dims if name != "n"])
    return group.isel(n=made.values).assign_coords(coords)


def _samples(quick: bool, inputs: Any) -> tuple[int, ...]:
    """Return numbers of samples, even ones if inputs are symmetric."""
    usual = QUICK_SAMPLES if quick else SAMPLES
    symmetric = inputs is not None and "symmetric" in inputs
    return tuple(n + n % 2 for n in usual) if symmetric else usual


def _own(group: Any) -> xarray.Dataset:
    """Return a group with the inherited coordinates of its dimensions, but of no others."""
    dataset = group.to_dataset()
    used = {dim for variable in dataset.data_vars.values() for dim in variable.dims}
    return dataset.drop_vars([name for name in dataset.dims if name not in used])


def _lazy(
    common: dict[str, Any],
    samples: Sequence[int],
    scale: float | None,
    lazy_n: Sequence[int] | None,
    path: str | os.PathLike[str] | None,
) -> Sweep | None:
    """Run the same data from networks of a large scale, of as many neurons."""
    if scale is None:
        return None
    m = common.get("m", inspect.signature(sweep).parameters["m"].default)
    least = min(m) if isinstance(m, Iterable) else m
    few = [size for size in samples if 2 * size <= least] if lazy_n is None else list(lazy_n)
    if not few:
        raise ValueError(
            f"Argument `lazy` must be given with a number of samples of at most m/2 = "
            f"{least / 2:g}, or with lazy_n, but there is none."
        )
    if not set(few) <= set(samples):
        raise ValueError(f"Argument `lazy_n` must be some of the numbers of samples, but is {few}.")
    file = None if path is None else Path(path).with_name(f"{Path(path).stem}-lazy.nc")
    return sweep(
        n=few, path=file, **{**common, "init": "mirrored", "scale": scale, "log10_scale": None}
    )
