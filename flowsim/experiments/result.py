"""The results of a study: an xarray.Dataset over its grid, and its file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.experiments.points import Point, Recipe
from flowsim.experiments.records import ADDED, COST, FIELDS

if TYPE_CHECKING:
    import xarray

    from flowsim.experiments.grid import Grid
    from flowsim.solution import Solution

_AXIS_TEXTS = {
    "n": "number of samples",
    "d": "input dimension",
    "noise": "standard deviation of the labels' noise",
    "inputs": "distribution of the inputs",
    "m": "number of neurons",
    "scale": "scale of the initialisation",
    "log10_scale": "decimal logarithm of the scale of the initialisation",
    "init": "kind of initialisation",
    "activation": "activation function",
    "negative_slope": "slope of the activation on negative numbers",
    "engine": "what integrates",
    "seed": "seed of the data; that of the network is 2^31 larger",
}
#: Attributes of a file that are options of `simulate`.
_OPTION = "option_"
_ROWS = {"t": "time", "loss": "training loss", "alive": "living neurons"}


@dataclass(frozen=True, eq=False)
class Sweep:
    """One record a run of a study.

    Attributes
    ----------
    dataset : xarray.Dataset
        The fields of `flowsim.experiments.records.FIELDS` over the axes that are sequences, as
        ``found.dataset.excess_loss.sel(n=100).mean("seed")``; the other axes are scalar
        coordinates. Words are strings, counts are -1 and numbers nan where there are none.
    trajectories : xarray.Dataset, optional
        Times and losses of all runs one after another (a contiguous ragged array of the CF
        conventions): run i, in the order of the flattened grid, has ``row_size[i]`` rows.
    recipe : Recipe, optional
        What runs have in common, so that they can be made again; None after loading a study that
        had functions or engines of its own.
    """

    dataset: xarray.Dataset
    trajectories: xarray.Dataset | None = None
    recipe: Recipe | None = field(default=None, repr=False)

    @staticmethod
    def of(grid: Grid, recipe: Recipe, records: Sequence[dict[str, Any]], seconds: float) -> Sweep:
        """Arrange records, in the order of the grid's points."""
        import xarray as xr

        from flowsim.provenance import provenance

        coords = {
            name: xr.Variable(
                (name,) if name in grid.dims else (),
                np.array(values if name in grid.dims else values[0]),
                {"long_name": _AXIS_TEXTS[name]},
            )
            for name, values in grid.axes.items()
            if name in grid.dims or values[0] is not None
        }
        variables = {
            name: xr.Variable(
                grid.dims,
                np.array([r.get(name, f.missing) for r in records], f.kind).reshape(grid.shape),
                {"long_name": f.text},
            )
            for name, f in FIELDS.items()
        }
        options = {f"{_OPTION}{k}": v for k, v in recipe.options.items() if v is not None}
        origin = {f"provenance_{key}": value for key, value in provenance().items()}
        attrs = {
            "title": "sweep of gradient flows",
            "source": "flowsim",
            "wall_seconds": seconds,
            "own_code": recipe.own_code,
        }
        dataset = xr.Dataset(variables, coords, attrs | options | origin)
        return Sweep(dataset, _trajectories(records) if recipe.trajectories else None, recipe)

    def point(self, **at: Any) -> Point:
        """Return the run at given values of the axes, as ``found.point(n=100, seed=3)``.

        Raises
        ------
        KeyError
            If the axes have no such values, or an axis with several is not given.
        """
        coords = self.dataset.coords
        for name, value in at.items():
            if name not in coords or value not in coords[name].values:
                known = coords[name].values.tolist() if name in coords else f"only {list(coords)}"
                raise KeyError(
                    f"Argument `{name}` must be of the study, {known}, but is {value!r}."
                )
        left = [name for name in self.dataset.dims if name not in at]
        if left:
            raise KeyError(f"Argument `{left[0]}` must be given, but is not.")
        none = {"scale": None, "log10_scale": None}
        fixed = {str(k): v.item() for k, v in coords.items() if v.ndim == 0}
        return Point(**{**none, **fixed, **at})

    def simulate(self, *, point: Point | None = None, **at: Any) -> Solution:
        """Make one run of the study again and return all of it, as `flowsim.simulate` does.

        Raises
        ------
        ValueError
            If the study was loaded from a file and had functions or engines of its own.
        KeyError
            As `point` does.
        """
        if self.recipe is None:
            raise ValueError(
                "The study must have its own functions and engines to make a run again, but was "
                "loaded from a file, which has no code."
            )
        return self.recipe.simulate(self.point(**at) if point is None else point)

    def trajectory(self, **at: Any) -> xarray.Dataset:
        """Return times, losses and living neurons of one run, given as to `point`.

        Raises
        ------
        ValueError
            If the study has kept none.
        KeyError
            As `point` does.
        """
        if self.trajectories is None:
            raise ValueError("The study must have trajectories=True for this, but has not.")
        self.point(**at)
        place: Any = [
            self.dataset.get_index(name).get_loc(at[str(name)]) for name in self.dataset.dims
        ]
        run = int(np.ravel_multi_index(place, tuple(self.dataset.sizes.values()))) if place else 0
        ends = np.cumsum(self.trajectories.row_size.values)
        rows = slice(int(ends[run] - self.trajectories.row_size.values[run]), int(ends[run]))
        return self.trajectories.drop_vars("row_size").isel(obs=rows)

    def to_xarray(self) -> xarray.DataTree:
        """Return all as a tree: the root has `dataset`, the group trajectories the others."""
        import xarray as xr

        groups = {"/": self.dataset}
        if self.trajectories is not None:
            groups["/trajectories"] = self.trajectories
        return xr.DataTree.from_dict(groups)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a netCDF file that ``xarray.open_dataset`` opens; it replaces another at once.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        from flowsim.files import write_xarray

        write_xarray(self.to_xarray(), path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Sweep:
        """Read what `save` has written.

        Raises
        ------
        OSError, ValueError
            If it cannot be read, or is the file of no sweep.
        """
        from flowsim.files import read_xarray

        loaded = read_xarray(path)
        dataset = loaded.to_dataset()
        for name in ADDED - set(dataset.data_vars):
            values = np.full(dataset.status.shape, FIELDS[name].missing)
            dataset[name] = dataset.status.dims, values
        if not set(FIELDS) - set(COST) <= set(dataset.data_vars):
            raise ValueError(f"Argument `path` must name the file of a sweep, but {path} is none.")
        rows = None
        if "trajectories" in loaded.children:
            group: Any = loaded["trajectories"]
            rows = group.to_dataset(inherit=False)
        return Sweep(dataset, rows, recipe_of(dataset, rows is not None))

    @property
    def failed(self) -> int:
        """Number of runs with the status "error"."""
        return int((self.dataset.status == "error").sum())

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {size}" for name, size in self.dataset.sizes.items())
        return f"Sweep({sizes or 'one run'}; {self.dataset.status.size} runs, {self.failed} failed)"


def recipe_of(dataset: xarray.Dataset, trajectories: bool) -> Recipe | None:
    """Return the recipe that a file tells, or None if it had code of its own."""
    if dataset.attrs.get("own_code"):
        return None
    options = {
        str(key).removeprefix(_OPTION): getattr(value, "item", lambda value=value: value)()
        for key, value in dataset.attrs.items()
        if str(key).startswith(_OPTION)
    }
    return Recipe(options, trajectories=trajectories)


def _trajectories(records: Sequence[dict[str, Any]]) -> xarray.Dataset:
    """Join the records' trajectories to a contiguous ragged array."""
    import xarray as xr

    rows = [record.get("trajectory", {}) for record in records]
    sizes = np.array([len(row.get("t", ())) for row in rows])
    variables = {
        name: ("obs", np.concatenate([np.array(row.get(name, ()), float) for row in rows]))
        for name in _ROWS
    }
    dataset = xr.Dataset(
        {"row_size": ("trajectory", sizes, {"sample_dimension": "obs"}), **variables}
    )
    for name, text in _ROWS.items():
        dataset[name].attrs["long_name"] = text
    return dataset
