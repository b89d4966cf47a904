"""sweep(): the runs of a grid, on any number of workers, resumed where they were cut off."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowsim._arguments import whole
from flowsim.experiments.grid import Grid
from flowsim.experiments.points import Point, Recipe
from flowsim.experiments.pool import check_client, shards_of, work
from flowsim.experiments.result import Sweep
from flowsim.experiments.store import Store
from flowsim.files import check_path
from flowsim.options import checked

if TYPE_CHECKING:
    from distributed import Client

    from flowsim.data import Dataset

#: Shards of a study, at most, by default.
SHARDS = 1000


@dataclass(frozen=True)
class StudyProgress:
    """How far a study is.

    Attributes
    ----------
    done, total, failed : int
        Runs; those that an earlier call has made count as done.
    part : float
        Share of the expected cost of this call's runs.
    seconds : float
        Since the start of this call.
    """

    done: int
    total: int
    failed: int
    part: float
    seconds: float

    @property
    def left(self) -> float:
        """Seconds that the rest takes if it goes on like this; nan before the first run."""
        return self.seconds * (1.0 - self.part) / self.part if self.part > 0.0 else float("nan")


def sweep(
    *,
    n: int | Sequence[int],
    d: int | Sequence[int] = 5,
    noise: float | Sequence[float] = 0.5,
    seed: int | Sequence[int] = range(10),
    m: int | Sequence[int] = 200,
    scale: float | Sequence[float] | None = None,
    log10_scale: float | Sequence[float] | None = None,
    inputs: str | Sequence[str] = "gaussian",
    init: str | Sequence[str] = "balanced",
    activation: str | Sequence[str] = "relu",
    negative_slope: float | Sequence[float] = 0.0,
    engine: str | Sequence[str] | Mapping[str, Any] = "piecewise",
    data: Callable[..., Dataset] | None = None,
    test: Callable[[Dataset], Dataset] | None = None,
    trajectories: bool = False,
    path: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    client: Client | str | None = None,
    shard: int | None = None,
    progress: Callable[[StudyProgress], None] | None = None,
    **options: Any,
) -> Sweep:
    """Run the flow on every point of a grid and return one record a run.

    Runs are independent, and made by worker processes: a script calls this below
    ``if __name__ == "__main__":``, or with ``workers=0``. The data of seed i are
    ``linear_teacher(n, d, noise, i, inputs)``, the network is drawn with the seed ``2^31 + i``.

    Parameters
    ----------
    n, d, noise, seed, m, scale, log10_scale, inputs, init, activation, negative_slope, engine
        The axes: each one value, or a sequence of values and then a dimension of the results.
        `scale` is 1e-6 unless it or `log10_scale` is given. `engine` is a word such as "piecewise",
        "scipy:Radau", "gd:0.01" or "adam:0.001" (`flowsim.experiments.words.engine_of`), or a
        mapping from names to engines of `flowsim.engines`.
    data : callable, optional
        A function ``data(n=, d=, noise=, seed=, inputs=)`` that returns the Dataset of a run, in a
        module that workers can import; instead of `flowsim.datasets.linear_teacher`. Excess losses
        are those of its `teacher` over its `inputs`, and nan without these or `test`.
    test : callable, optional
        A function ``test(data)`` that returns a test set without noise, where the excess loss is
        not to be an expectation over the inputs' distribution.
    trajectories : bool
        Keep times, losses and numbers of living neurons, 256 rows a run at most.
    path : path-like, optional
        The netCDF file of the results. Records are kept beside it as soon as they are made, in the
        folder of its name with ``.shards``: after a crash the same call goes on where it was, and a
        call with a larger grid makes the new runs only. None keeps all in memory.
    workers : int, optional
        Processes on this machine, of one thread each; by default as many as cores; 0 makes all runs
        in this process.
    client : distributed.Client or str, optional
        Another Dask cluster (dask-jobqueue's for SLURM, say), or its scheduler's address. flowsim
        must be installed on its workers.
    shard : int, optional
        Number of runs that are made, and written, together. By default 1 in studies of up to 1000
        runs, in larger ones so many that there are 1000 shards.
    progress : callable, optional
        Called with a `StudyProgress` at the start and after every shard.
    **options
        Of `flowsim.simulate`, for all runs. With `max_seconds` results depend on the machine.

    Returns
    -------
    Sweep
        A run that fails is a record with its status; it stops no other.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense, before anything is run.
    OSError
        If results cannot be written.
    """
    axes = {
        "n": n, "d": d, "noise": noise, "inputs": inputs, "m": m, "scale": scale,
        "log10_scale": log10_scale, "init": init, "activation": activation,
        "negative_slope": negative_slope, "engine": engine, "seed": seed,
    }  # fmt: skip
    grid = Grid.of(axes)
    recipe = Recipe(_options(options), data, test, grid.engines, bool(trajectories))
    for name, function in (("data", data), ("test", test)):
        _check_function(name, function)
    if workers is not None:
        whole("workers", workers, 0)
    check_client(client)
    points = grid.points()
    file = None if path is None else check_path(path)
    size = -(-len(points) // SHARDS) if shard is None else whole("shard", shard, 1)
    store = Store(None if file is None else _folder(file))
    started = time.perf_counter()
    _make(points, recipe, store, size, workers, client, progress)
    found = Sweep.of(
        grid, recipe, [store.records[recipe.key(p)] for p in points], time.perf_counter() - started
    )
    if file is not None:
        found.save(file)
    return found


def _make(
    points: Sequence[Point],
    recipe: Recipe,
    store: Store,
    size: int,
    workers: int | None,
    client: Client | str | None,
    progress: Callable[[StudyProgress], None] | None,
) -> None:
    """Make the runs that the store has not, and tell of every shard."""
    started = time.perf_counter()
    keys = {recipe.key(point): point for point in points}
    left = [keys[key] for key in store.missing(keys)]
    total, made = sum(point.cost for point in left), 0.0

    def tell() -> None:
        if progress is not None:
            known = [store.records[key] for key in keys if key in store.records]
            failed = sum(record["status"] == "error" for record in known)
            part = made / total if total else 1.0
            seconds = time.perf_counter() - started
            progress(StudyProgress(len(known), len(points), failed, part, seconds))

    tell()
    if not left:
        return
    for shard, records in work(shards_of(left, size), recipe, workers, client):
        store.add({recipe.key(p): record for p, record in zip(shard, records, strict=True)})
        made += sum(point.cost for point in shard)
        tell()


def checked_options() -> Mapping[str, Any]:
    """Return the options of `simulate` that a study takes."""
    return inspect.signature(checked).parameters


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Check the options of `simulate`, and return those that are given."""
    for name in options:
        if name not in checked_options():
            raise TypeError(f"sweep() got an argument that it does not have, {name!r}.")
    plain = checked(**options)
    return {name: plain[name] for name in options}


def _folder(path: Path) -> Path:
    """Return where the shards of a study are, beside its results."""
    if path.suffix == ".shards":
        raise ValueError(
            f"Argument `path` must not end in .shards, as the folder beside it, but is {path}."
        )
    return path.with_name(f"{path.stem}.shards")


def _check_function(name: str, function: Any) -> None:
    """Check that a function has a name, by which its records are found again."""
    if function is None:
        return
    if not callable(function):
        raise TypeError(
            f"Argument `{name}` must be a function, but is of type {type(function).__name__}."
        )
    if not inspect.isfunction(function) or "<" in function.__qualname__:
        raise ValueError(
            f"Argument `{name}` must be a function of a module, whose name tells its records "
            f"apart, but is {getattr(function, '__qualname__', function)}."
        )
